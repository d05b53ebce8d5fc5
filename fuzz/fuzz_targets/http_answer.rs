//! What a server of HTTP answers with: the head, and a list of names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_hosts::fuzzing::{http_head, http_names};

fuzz_target!(|data: &[u8]| {
    for method in ["GET", "HEAD"] {
        let _ = http_head(data, method);
    }
    let count = http_names(data);
    assert!(count.is_none_or(|count| count <= data.len() / 66));
});
