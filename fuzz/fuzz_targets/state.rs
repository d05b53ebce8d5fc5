//! The stream of a state, whole and in parts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_core::resource::Version;
use tiroir_core::testing::state_entries;
use tiroir_core::time::Timestamp;
use tiroir_core::wire::state::{ENTRY_BYTES_MAX, Parsed, StateEntry, metadata};
use tiroir_fuzz::{Input, parts};

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let version = if input.byte() & 1 == 0 { Version::V1_0_0 } else { Version::V1_1_0 };
    let seed = input.u16().into();
    let stream = input.0;
    let whole = state_entries(version, &[stream]);
    assert_eq!(state_entries(version, &parts(stream, seed)), whole);
    let Ok(entries) = whole else { return };
    assert!(entries.len() <= stream.len());
    let mut again = stream[..stream.len().min(32)].to_vec();
    if version == Version::V1_0_0 {
        again.clear();
    }
    for entry in &entries {
        let mut out = [0xaa; ENTRY_BYTES_MAX];
        let bytes = entry.emit(&mut out);
        assert_eq!(StateEntry::parse(bytes, true), Ok(Parsed::Entry(*entry, bytes.len())));
        again.extend_from_slice(bytes);
    }
    again.extend_from_slice(&metadata(version, Timestamp::default(), &[7; 16]));
    assert_eq!(state_entries(version, &[&again]), Ok(entries));
});
