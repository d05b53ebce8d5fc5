//! The header of an envelope, and CONFIG in one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_core::repository::parse_config;
use tiroir_core::resource::{ResourceKind, Version};
use tiroir_core::wire::envelope::{HEADER_BYTES, header, parse_header};
use tiroir_fuzz::Input;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let (kind, newest) = (ResourceKind(input.byte()), Version(input.u32()));
    let _ = parse_config(input.0);
    let Some(bytes) = input.0.first_chunk::<HEADER_BYTES>() else { return };
    if let Ok(version) = parse_header(bytes, kind, newest) {
        assert!(version <= newest);
        let again = header(kind, version);
        assert_eq!(parse_header(&again, kind, newest), Ok(version));
        assert_eq!(again[8..], bytes[8..]);
        assert!(parse_header(&again, ResourceKind(kind.0 ^ 1), newest).is_err());
    }
});
