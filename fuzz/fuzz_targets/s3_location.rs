//! Where a bucket is, from a location and its options.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_fuzz::Input;
use tiroir_hosts::fuzzing::s3_location;
use tiroir_hosts::options::Options;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let choice = input.byte();
    let mut options = Options::default();
    for (bit, name) in [(1, "endpoint"), (2, "root"), (4, "port")] {
        if choice & bit != 0 {
            options.set(name, String::from_utf8_lossy(input.short()));
        }
    }
    if choice & 8 != 0 {
        options.set("virtual_host", "true");
    }
    s3_location(input.0, &options);
});
