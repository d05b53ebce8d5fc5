//! What could not be read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_core::wire::error_entry::ErrorEntry;

fuzz_target!(|data: &[u8]| {
    let _ = tiroir_fuzz::both_ways!(data, ErrorEntry::parse, ErrorEntry::emit);
});
