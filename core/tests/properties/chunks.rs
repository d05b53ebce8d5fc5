//! The chunker, beside the rules of the format taken word for word.

use proptest::prelude::*;
use tiroir_core::chunker::{Chunker, Parameters};
use tiroir_core::testing::naive_cuts;

/// The lengths of the chunks of a stream that comes in these steps.
fn cuts(parameters: &Parameters, stream: &[u8], steps: &[usize]) -> Vec<usize> {
    let mut chunker = Chunker::new(parameters);
    let mut steps = steps.iter().cycle();
    let (mut start, mut end, mut lengths) = (0, 0, Vec::new());
    loop {
        let at_end = end == stream.len();
        match chunker.find_cut(&stream[start..end], at_end) {
            Some(length) => {
                lengths.push(length);
                start += length;
            }
            None if at_end => return lengths,
            None => end = stream.len().min(end + steps.next().unwrap()),
        }
    }
}

/// Streams where cuts are found, by chance or again and again, and where none
/// is.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let bytes = |bound| prop::collection::vec(any::<u8>(), 0..bound);
    prop_oneof![
        bytes(20_000),
        (bytes(300), 0..60_usize).prop_map(|(part, times)| part.repeat(times)),
        (any::<u8>(), 0..20_000_usize).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

/// Sizes of every order, and the defaults.
fn sizes() -> impl Strategy<Value = [u32; 3]> {
    let size = || prop_oneof![4 => 64_u32..3000, 1 => Just(0)];
    prop_oneof![
        8 => [size(), size(), size()],
        1 => Just([2048, 8192, 65_536]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn cut_as_the_format_says(
        name in prop::sample::select(vec!["fastcdc-v1.0.0", "FASTCDC", "kfastcdc"]),
        sizes in sizes(),
        stream in stream(),
        steps in prop::collection::vec(1_usize..3000, 1..20),
    ) {
        let [min, normal, max] = sizes;
        let parameters = Parameters::new(name.as_bytes(), min, normal, max);
        prop_assume!(parameters.is_ok());
        let lengths = cuts(&parameters.unwrap(), &stream, &steps);
        prop_assert_eq!(lengths.iter().sum::<usize>(), stream.len());
        prop_assert_eq!(lengths, naive_cuts(name.as_bytes(), sizes, &stream));
    }
}
