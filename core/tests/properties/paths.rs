//! Paths, and their order.

use std::cmp::Ordering;

use proptest::prelude::*;
use tiroir_core::order::{byte_order, byte_order_reversed, path_order, path_order_reversed};
use tiroir_core::wire::path::{is_clean, is_component, is_within, join, split};

use crate::strategies::path;

proptest! {
    #[test]
    fn joined_and_split(directory in path(), name in "[a-c./]{0,4}|[ -~]{1,20}") {
        let name = name.as_bytes();
        let mut out = vec![0xaa; directory.len() + name.len() + 1];
        let len = join(&directory, name, &mut out).unwrap();
        let joined = &out[..len];
        if is_component(name) {
            prop_assert!(is_clean(joined));
            prop_assert_eq!(split(joined), (&directory[..], name));
            prop_assert!(is_within(joined, &directory));
            prop_assert!(!is_within(&directory, joined));
        } else if name.is_empty() {
            prop_assert_eq!(joined, directory);
        } else {
            prop_assert!(!is_clean(joined) || name.contains(&b'/'));
        }
    }

    #[test]
    fn within_is_what_splits_to_it(paths in [path(), path()]) {
        let [below, above] = &paths;
        let mut parent = &below[..];
        let mut found = parent == above;
        while parent != b"/" {
            parent = split(parent).0;
            found |= parent == above;
        }
        prop_assert_eq!(is_within(below, above), found);
    }

    #[test]
    fn orders_are_orders(keys in [path(), path(), path()]) {
        let [a, b, c] = &keys;
        for order in [byte_order, byte_order_reversed, path_order, path_order_reversed] {
            prop_assert_eq!(order(a, b), order(b, a).reverse());
            prop_assert_eq!(order(a, b) == Ordering::Equal, a == b);
            if order(a, b).is_le() && order(b, c).is_le() {
                prop_assert!(order(a, c).is_le());
            }
        }
        prop_assert_eq!(path_order(a, b), path_order_reversed(b, a));
    }

    /// What the listing of a directory counts on: its children lie side by
    /// side, behind it, in the order of their bytes.
    #[test]
    fn children_lie_side_by_side(mut paths in prop::collection::vec(path(), 1..60)) {
        paths.sort_by(|a, b| path_order(a, b));
        paths.dedup();
        let parents: Vec<_> = paths.iter().map(|path| split(path).0.to_vec()).collect();
        let (mut groups, mut runs) = (parents.clone(), parents.clone());
        groups.sort();
        groups.dedup();
        runs.dedup();
        // The root is its own parent, and stands before its children.
        let roots = usize::from(paths[0] == b"/" && runs.len() > groups.len());
        prop_assert_eq!(runs.len() - roots, groups.len());
        for (path, parent) in paths.iter().zip(&parents) {
            prop_assert!(path_order(parent, path).is_le());
        }
    }
}
