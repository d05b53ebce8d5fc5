//! CONFIG, and how it would have files cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_core::chunker::Parameters;
use tiroir_core::limits::CHUNK_BYTES_MAX;
use tiroir_core::wire::config::{Config, SALT_BYTES_MAX};

fuzz_target!(|data: &[u8]| {
    let Ok(config) = tiroir_fuzz::both_ways!(data, Config::parse, Config::emit) else { return };
    let chunking = config.chunking;
    let (min, normal, max) = (chunking.min_bytes, chunking.normal_bytes, chunking.max_bytes);
    if let Ok(parameters) = Parameters::new(chunking.algorithm, min, normal, max) {
        assert!(parameters.min() <= parameters.max());
        assert!(parameters.max() <= CHUNK_BYTES_MAX as usize);
    }
    if let Some(encryption) = config.encryption {
        assert!(encryption.salt.len() <= SALT_BYTES_MAX);
        if encryption.kdf.check().is_ok() {
            assert!(encryption.kdf.memory_bytes() <= 4 << 30);
        }
    }
});
