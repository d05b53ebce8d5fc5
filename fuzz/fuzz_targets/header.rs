//! The header of a snapshot.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_core::wire::header::Header;

fuzz_target!(|data: &[u8]| {
    let Ok(header) = tiroir_fuzz::both_ways!(data, Header::parse, Header::emit) else { return };
    for list in [header.tags, header.classifications, header.data_classes] {
        assert!(list.iter().map(<[u8]>::len).sum::<usize>() <= data.len());
    }
    for pairs in [header.context, header.source.context] {
        assert!(pairs.iter().count() <= data.len());
    }
});
