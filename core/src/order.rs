//! The orders that trees and records are kept in.
//!
//! Section 11.4 of the format.

use core::cmp::Ordering;

/// An order of keys: total, as [`Ord`] demands it.
pub type Order = fn(&[u8], &[u8]) -> Ordering;

/// Byte by byte; a prefix comes first.
#[must_use]
pub fn byte_order(a: &[u8], b: &[u8]) -> Ordering {
    a.cmp(b)
}

/// The reverse of [`byte_order`].
#[must_use]
pub fn byte_order_reversed(a: &[u8], b: &[u8]) -> Ordering {
    byte_order(b, a)
}

/// The order of the VFS tree: fewer `/` first, then byte by byte.
///
/// All of a directory's children lie side by side in it. The slashes of the
/// whole text count: `/` and `/a` are of the same depth.
#[must_use]
pub fn path_order(a: &[u8], b: &[u8]) -> Ordering {
    let depth = |path: &[u8]| path.iter().filter(|&&byte| byte == b'/').count();
    depth(a).cmp(&depth(b)).then_with(|| a.cmp(b))
}

/// The reverse of [`path_order`].
#[must_use]
pub fn path_order_reversed(a: &[u8], b: &[u8]) -> Ordering {
    path_order(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_go_level_by_level() {
        let sorted: [&[u8]; 7] = [b"", b"/", b"/a", b"/a.b", b"/z", b"/a.b/x", b"/a/x"];
        assert!(sorted.is_sorted_by(|a, b| path_order(a, b).is_lt()));
        assert!(sorted.iter().rev().is_sorted_by(|a, b| path_order_reversed(a, b).is_lt()));
        // Byte order mixes the levels.
        assert!(byte_order(b"/a.b/x", b"/a/x").is_lt());
        assert!(byte_order_reversed(b"/a", b"/b").is_gt());
    }
}
