//! An extended attribute, and its key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_core::error::FormatError;
use tiroir_core::wire::xattr::{SEPARATOR, XattrEntry};

fuzz_target!(|data: &[u8]| {
    let parsed = tiroir_fuzz::both_ways!(data, XattrEntry::parse, XattrEntry::emit);
    let Ok(entry) = parsed else { return };
    let mut key = [0xaa; 512];
    match XattrEntry::key(entry.path, entry.name, &mut key) {
        Ok(len) => {
            let rest = key[..len].strip_prefix(entry.path).expect("the path comes first");
            assert_eq!(rest.strip_suffix(&[SEPARATOR]), Some(entry.name));
        }
        Err(error) => {
            let needed_bytes = entry.path.len() + entry.name.len() + 1;
            assert_eq!(error, FormatError::Scratch { needed_bytes, lent_bytes: 512 });
        }
    }
});
