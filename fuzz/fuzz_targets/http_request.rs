//! What a client of HTTP asks for: the head, and what it means to a store.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_hosts::fuzzing::{http_chunk, http_request};

fuzz_target!(|data: &[u8]| {
    // Whatever stands behind the head is no part of it.
    let followed = [data, b"\n\nContent-Length: x\r\n\r\n"].concat();
    assert_eq!(http_request(data), http_request(&followed));
    if let Some(length) = http_chunk(data) {
        assert_eq!(http_chunk(format!("{length:X} ;x").as_bytes()), Some(length));
    }
});
