//! A snapshot of blobs that nobody wrote, all of them under the right MACs:
//! what a store can hold that somebody hostile made, or who has its key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_fuzz::Input;
use tiroir_fuzz::store::Blobs;

thread_local! {
    static BLOBS: Blobs = Blobs::new();
}

fuzz_target!(|data: &[u8]| {
    BLOBS.with(|blobs| blobs.hostile(&mut Input(data)));
});
