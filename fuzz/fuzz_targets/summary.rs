//! The statistics of a directory, and sums of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_core::wire::summary::{Counted, Summary};

fuzz_target!(|data: &[u8]| {
    let Ok(read) = tiroir_fuzz::both_ways!(data, Summary::parse, Summary::emit) else { return };
    // What an old snapshot says is added to what a new one counts.
    let mut parent = Summary::default();
    parent.add_directory(&read);
    parent.add_directory(&read);
    parent.add_errors(read.total_errors());
    parent.add_file(&Counted {
        mode: 0o644,
        size: read.directory.min_mod_time,
        mod_time_secs: read.directory.max_mod_time,
        chunks: Some(read.below.chunks),
        entropy: read.below.sum_entropy,
        content_type: b"text/plain",
    });
    parent.finish();
    let _ = (parent.total_size_bytes(), parent.total_errors());
    let mut changed = read;
    changed.add_directory(&parent);
    changed.add_file(&Counted {
        mode: u32::MAX,
        size: -1,
        mod_time_secs: i64::MIN,
        chunks: Some(u64::MAX),
        entropy: f64::NAN,
        content_type: b"",
    });
    changed.finish();
});
