//! A unit compressed with GZIP by nobody knows whom.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_core::codec::Codec;
use tiroir_core::compression::Compression;

fuzz_target!(|data: &[u8]| {
    tiroir_fuzz::units::hostile(&Codec { compression: Compression::Gzip, cipher: None }, data);
});
