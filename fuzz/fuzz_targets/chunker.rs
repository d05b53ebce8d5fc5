//! Cuts, beside the rule of the format taken word for word.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_core::chunker::{Chunker, Parameters};
use tiroir_core::testing::naive_cuts;
use tiroir_fuzz::{Input, Noise};

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let choice = input.byte();
    let name: &[u8] = if choice & 1 == 0 { b"fastcdc-v1.0.0" } else { b"FASTCDC" };
    let sizes: [u32; 3] = std::array::from_fn(|_| match choice & 2 {
        0 => u32::from(input.u16()) % 2048,
        _ => input.u32(),
    });
    let mut noise = Noise::new(input.u16().into());
    let stream = input.0.repeat(usize::from(choice >> 2 & 0x0f) + 1);
    let Ok(parameters) = Parameters::new(name, sizes[0], sizes[1], sizes[2]) else { return };
    let mut chunker = Chunker::new(&parameters);
    let cuts = cut(&mut chunker, &stream, || noise.step());
    assert_eq!(cuts.iter().sum::<usize>(), stream.len());
    assert_eq!(cuts, naive_cuts(name, sizes, &stream));
    chunker.reset();
    assert_eq!(cut(&mut chunker, &stream, || stream.len()), cuts);
    let (_, whole) = cuts.split_last().expect("at least one");
    assert!(whole.iter().all(|len| (parameters.min()..=parameters.max()).contains(len)));
});

fn cut(chunker: &mut Chunker, stream: &[u8], mut step: impl FnMut() -> usize) -> Vec<usize> {
    let (mut start, mut end, mut cuts) = (0, 0, Vec::new());
    loop {
        let at_end = end == stream.len();
        match chunker.find_cut(&stream[start..end], at_end) {
            Some(length) => {
                cuts.push(length);
                start += length;
            }
            None if at_end => return cuts,
            None => end = stream.len().min(end + step().max(1)),
        }
    }
}
