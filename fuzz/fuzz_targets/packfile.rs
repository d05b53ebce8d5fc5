//! The footer and the index of a packfile.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_core::wire::packfile::{BlobRecord, FOOTER_BYTES, Footer, RECORD_BYTES};

fuzz_target!(|data: &[u8]| {
    if let Some(bytes) = data.first_chunk::<FOOTER_BYTES>() {
        let footer = Footer::parse(bytes);
        assert_eq!(Footer::parse(&footer.emit()), footer);
    }
    let (records, _) = data.as_chunks::<RECORD_BYTES>();
    for bytes in records {
        let Ok(record) = BlobRecord::parse(bytes) else { continue };
        let again = record.emit();
        assert_eq!(BlobRecord::parse(&again), Ok(record));
        assert_eq!(again[8..52], bytes[8..52]);
    }
});
