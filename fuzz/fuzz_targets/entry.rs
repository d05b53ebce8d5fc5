//! An entry of a snapshot, and its path.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_core::limits::PATH_BYTES_MAX;
use tiroir_core::wire::entry::Entry;
use tiroir_core::wire::path::{is_clean, split};

fuzz_target!(|data: &[u8]| {
    let Ok(entry) = tiroir_fuzz::both_ways!(data, Entry::parse, Entry::emit) else { return };
    let mut out = [0; PATH_BYTES_MAX];
    let Ok(len) = entry.path(&mut out) else { return };
    let path = &out[..len];
    if entry.is_root() {
        assert_eq!(path, b"/");
    } else if is_clean(entry.parent_path) {
        assert!(is_clean(path));
        assert_eq!(split(path), (entry.parent_path, entry.info.name));
    }
    assert!(!(entry.is_directory() && entry.is_regular()));
});
