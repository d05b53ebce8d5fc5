//! Configurations in YAML, JSON and INI: what is understood is the same when it
//! was written and read again.
#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use libfuzzer_sys::fuzz_target;
use tiroir_appliance::fuzzing::{configuration, place};

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    if let Ok(text) = std::str::from_utf8(rest) {
        let is_same = configuration(text, first & 1 == 1);
        assert!(is_same.unwrap_or(true), "{text:?}");
    }
    let at = usize::from(*first).min(rest.len());
    let (location, text) = rest.split_at(at);
    let (name, found) = place(OsStr::from_bytes(location), OsStr::from_bytes(text));
    assert!(!name.as_bytes().contains(&b':'));
    // What is below is no longer than both, each byte of the second as `%XX`.
    assert!(found.len() <= location.len() + 3 * text.len() + 1);
});
