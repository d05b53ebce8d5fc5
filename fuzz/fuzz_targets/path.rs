//! Paths of a snapshot: joined, split, cleaned.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_appliance::fuzzing::clean;
use tiroir_core::order::{path_order, path_order_reversed};
use tiroir_core::wire::path::{is_clean, is_component, is_within, join, split};
use tiroir_fuzz::Input;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let (name, directory) = (input.short(), input.0);
    let mut out = vec![0xaa; directory.len() + name.len() + 1];
    let joined = join(directory, name, &mut out).map(|len| out[..len].to_vec()).unwrap();
    if is_clean(directory) && is_component(name) {
        assert!(is_clean(&joined));
        assert_eq!(split(&joined), (directory, name));
        assert!(is_within(&joined, directory) && !is_within(directory, &joined));
        // What is in a directory comes after it.
        assert!(directory == b"/" || path_order(directory, &joined).is_lt());
    }
    let (parent, last) = split(directory);
    if is_clean(directory) && directory != b"/" {
        assert!(is_clean(parent) && is_component(last));
        let mut again = vec![0; directory.len() + 2];
        let len = join(parent, last, &mut again).unwrap();
        assert_eq!(&again[..len], directory);
    }
    if joined.len() > 1 {
        assert!(join(directory, name, &mut out[..joined.len() - 1]).is_err());
    }
    assert_eq!(path_order(directory, name), path_order(name, directory).reverse());
    assert_eq!(path_order(directory, name), path_order_reversed(name, directory));

    let cleaned = clean(directory);
    assert!(is_clean(&cleaned) || directory.contains(&0));
    assert_eq!(clean(&cleaned), cleaned);
    assert!(cleaned.len() <= directory.len() + 1);
    if is_clean(directory) {
        assert_eq!(cleaned, directory);
    }
});
