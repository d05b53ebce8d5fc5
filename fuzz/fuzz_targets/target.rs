//! `SNAPSHOT[:PATH]`, and the rest of a command line.
#![no_main]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use libfuzzer_sys::fuzz_target;
use tiroir_appliance::fuzzing::{arguments, target};

fuzz_target!(|data: &[u8]| {
    let (prefix, path) = target(OsStr::from_bytes(data));
    if data.starts_with(b"/") {
        assert!(prefix.is_empty() && path == data);
    } else {
        assert!(!prefix.contains(&b':'));
        let mut again = prefix.clone();
        if data.len() > prefix.len() {
            again.push(b':');
        }
        again.extend_from_slice(&path);
        assert_eq!(again, data);
    }
    let words = data.split(|byte| *byte == b'\n').map(|word| OsString::from_vec(word.to_vec()));
    let words: Vec<_> = [OsString::from("tiroir")].into_iter().chain(words).collect();
    let count = words.len();
    if let Some(normalised) = arguments(words) {
        // Form changes, and what stands alone is kept; nothing is made up.
        assert!(normalised.len() <= 2 * count);
        assert_eq!(arguments(normalised.clone()), Some(normalised));
    }
});
