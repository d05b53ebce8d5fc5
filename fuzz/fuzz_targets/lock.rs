//! Who is using a store.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_core::wire::lock::Lock;

fuzz_target!(|data: &[u8]| {
    let _ = tiroir_fuzz::both_ways!(data, Lock::parse, Lock::emit);
});
