//! What is left out of a backup: lines of a file of patterns, and paths.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_fuzz::Input;
use tiroir_hosts::fs::ignore::IgnorePatterns;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let path = [b"/", input.short()].concat();
    let lines = String::from_utf8_lossy(input.0);
    let mut patterns = IgnorePatterns::new();
    for line in lines.lines() {
        let _ = patterns.add(line);
    }
    let Ok(ignore) = patterns.build() else { return };
    if ignore.is_empty() {
        assert!(!ignore.matches_or_above(&path, true));
    }
    for is_directory in [false, true] {
        let matches = ignore.matches(&path, is_directory);
        if matches && path != b"/" {
            assert!(ignore.matches_or_above(&path, is_directory));
        }
    }
    assert!(!ignore.matches_or_above(b"/", true), "nothing would be left");
});
