//! What a server of S3 answers with: listings and refusals.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_fuzz::Input;
use tiroir_hosts::fuzzing::{s3_page, s3_refusal};

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let is_escaped = input.byte() & 1 == 0;
    let status = input.u16();
    let prefix = input.short().to_vec();
    let count = s3_page(input.0, &prefix, is_escaped);
    // Every item takes some bytes.
    assert!(count.is_none_or(|count| count <= input.0.len() / 8));
    s3_refusal(status % 1000, input.0);
});
