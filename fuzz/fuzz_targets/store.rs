//! A store whose files are damaged, with the right MACs or without: listed,
//! walked, checked, restored and added to.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_fuzz::Input;
use tiroir_fuzz::store::{Base, damaged};

thread_local! {
    static BASES: [Base; 4] = [0, 1, 2, 3].map(Base::new);
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let kind = usize::from(input.byte() & 3);
    BASES.with(|bases| damaged(&bases[kind], &mut input));
});
