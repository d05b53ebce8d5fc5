//! Cuts that stock's library makes, and those made here.
//!
//! The table was printed by a program around go-cdc-chunkers v1.0.3, the
//! library of stock. To print it again: generate the inputs as [`Content`]
//! says, and cut each with the library's `NewChunker` and `Next`.

use std::vec::Vec;

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::{Chunker, Parameters};
use crate::error::FormatError;

use Content::{Periodic, Random, Text, Zeros};
use Lengths::{Edges, Whole};

const KIB: u32 = 1024;

/// Characters of [`Text`].
const ALPHABET: &[u8; 32] = b"  eeettaaooiinnsshrdlcumwfgypb,.";

/// Period of [`Periodic`], in bytes.
const PERIOD_BYTES: usize = 4093;

/// What an input consists of. The words are those of splitmix64 seeded with 1,
/// one for each byte.
#[derive(Clone, Copy, Debug)]
enum Content {
    /// The highest eight bits of each word.
    Random,
    /// The highest five bits of each word, as a position in [`ALPHABET`].
    Text,
    /// Zero bytes.
    Zeros,
    /// As [`Random`], but repeated after [`PERIOD_BYTES`].
    Periodic,
}

/// How long the inputs of a line are; the cuts of all count together.
#[derive(Clone, Copy, Debug)]
enum Lengths {
    /// 0, 1, and the three sizes, each with one byte less and one more.
    Edges,
    /// 40 MiB if the normal size is 1 MiB, 3 MiB otherwise.
    Whole,
}

/// Content, lengths, number of chunks, and the first eight bytes of the
/// SHA-256 of all lengths of chunks, each as 64 bits, little-endian.
type Line = (Content, Lengths, usize, u64);

#[rustfmt::skip]
const GOLDEN: &[(&str, [u32; 3], &[Line])] = &[
    (
        "fastcdc-v1.0.0",
        [512 * KIB, 1024 * KIB, 8192 * KIB],
        &[
            (Random, Edges, 32, 0x9b7d_0b62_b833_ce47),
            (Random, Whole, 35, 0x989e_81f8_6353_c44f),
            (Text, Edges, 29, 0x3d15_c3be_981f_2829),
            (Text, Whole, 35, 0x3eee_1ac9_9dcd_e719),
            (Zeros, Edges, 12, 0x7270_09cc_a6f4_9764),
            (Zeros, Whole, 5, 0xf864_2f16_a2ed_e15c),
            (Periodic, Edges, 12, 0x7270_09cc_a6f4_9764),
            (Periodic, Whole, 5, 0xf864_2f16_a2ed_e15c),
        ],
    ),
    (
        "FASTCDC",
        [64 * KIB, 1024 * KIB, 4096 * KIB],
        &[
            (Random, Edges, 152, 0xf87c_bf8a_effe_b39a),
            (Random, Whole, 424, 0xdefa_abc2_fcd5_6b8e),
            (Text, Edges, 167, 0x92b2_711f_969a_11bc),
            (Text, Whole, 422, 0xe02a_36df_71b8_1929),
            (Zeros, Edges, 12, 0xb481_3922_3803_aba7),
            (Zeros, Whole, 10, 0x4378_4537_f851_595b),
            (Periodic, Edges, 236, 0x5ec9_9797_8e4b_76cb),
            (Periodic, Whole, 603, 0xa6eb_15e5_0bcf_639b),
        ],
    ),
    (
        "fastcdc-v1.0.0",
        [4 * KIB, 16 * KIB, 64 * KIB],
        &[
            (Random, Edges, 26, 0x8083_4dc4_0a45_d8ee),
            (Random, Whole, 168, 0xc400_d021_8d48_cd80),
            (Text, Edges, 20, 0x0c5a_77c9_04c0_dd79),
            (Text, Whole, 168, 0xf816_8ac4_2680_ae9b),
            (Zeros, Edges, 12, 0x5c0b_a3d6_eff6_c369),
            (Zeros, Whole, 48, 0xe3fe_b00b_0493_d7aa),
            (Periodic, Edges, 41, 0x4342_c42a_b4e2_87f5),
            (Periodic, Whole, 385, 0x2f2d_e45e_17d0_437e),
        ],
    ),
    (
        "FASTCDC",
        [4 * KIB, 16 * KIB, 64 * KIB],
        &[
            (Random, Edges, 23, 0x122e_de4e_198d_f756),
            (Random, Whole, 198, 0xe3cb_204e_21e0_44d2),
            (Text, Edges, 20, 0x59c6_c40f_6b90_f08e),
            (Text, Whole, 202, 0xff8f_6070_75d7_9be4),
            (Zeros, Edges, 12, 0x5c0b_a3d6_eff6_c369),
            (Zeros, Whole, 48, 0xe3fe_b00b_0493_d7aa),
            (Periodic, Edges, 41, 0x2621_ae07_2560_1984),
            (Periodic, Whole, 385, 0xee93_9296_8fc8_873e),
        ],
    ),
    (
        "fastcdc-v1.0.0",
        [2 * KIB, 8 * KIB, 64 * KIB],
        &[
            (Random, Edges, 35, 0x014e_56dc_e8de_5c15),
            (Random, Whole, 337, 0x98a1_9efe_1489_59b7),
            (Text, Edges, 32, 0xf519_8cab_fccd_0c7f),
            (Text, Whole, 351, 0x1022_76ea_4e01_9df3),
            (Zeros, Edges, 12, 0xf49d_d43d_25b1_f0b3),
            (Zeros, Whole, 48, 0xe3fe_b00b_0493_d7aa),
            (Periodic, Edges, 65, 0xa237_48a9_0763_f32e),
            (Periodic, Whole, 769, 0xa319_16f5_e351_b3d1),
        ],
    ),
    (
        "fastcdc-v1.0.0",
        [0, 0, 0],
        &[
            (Random, Edges, 35, 0x014e_56dc_e8de_5c15),
            (Random, Whole, 337, 0x98a1_9efe_1489_59b7),
            (Text, Edges, 32, 0xf519_8cab_fccd_0c7f),
            (Text, Whole, 351, 0x1022_76ea_4e01_9df3),
        ],
    ),
    (
        "fastcdc-v1.0.0",
        [0, 1024 * KIB, 0],
        &[
            (Random, Edges, 58, 0x2871_0ccf_a140_e85d),
            (Random, Whole, 48, 0xe3fe_b00b_0493_d7aa),
            (Text, Edges, 58, 0x2871_0ccf_a140_e85d),
            (Text, Whole, 48, 0xe3fe_b00b_0493_d7aa),
        ],
    ),
    (
        "fastcdc-v1.0.0",
        [4 * KIB, KIB, 64 * KIB],
        &[
            (Random, Edges, 29, 0x718e_380e_ccd6_2478),
            (Random, Whole, 376, 0xf50a_87f9_5e9e_d668),
            (Text, Edges, 41, 0x8bcf_c824_2a14_e5fa),
            (Text, Whole, 380, 0xffa7_f81a_d8e6_dfe1),
        ],
    ),
    (
        "fastcdc-v1.0.0",
        [64, 100, 1000],
        &[
            (Random, Edges, 38, 0x1345_204b_962a_34d3),
            (Random, Whole, 28385, 0x235c_c37d_3108_9530),
            (Text, Edges, 41, 0x130c_0d6a_e3c4_20a5),
            (Text, Whole, 28346, 0x9c63_202d_f885_fb94),
        ],
    ),
    (
        "FASTCDC",
        [512, 512, 512],
        &[
            (Random, Edges, 14, 0xb57c_fe89_64ea_04c3),
            (Random, Whole, 6144, 0x2438_b6c5_407e_cc07),
            (Text, Edges, 14, 0xb57c_fe89_64ea_04c3),
            (Text, Whole, 6144, 0x2438_b6c5_407e_cc07),
        ],
    ),
    (
        "KFASTCDC",
        [64, 128, 1024 * KIB],
        &[
            (Random, Edges, 1532, 0x9d43_83ef_3144_6fef),
            (Random, Whole, 1432, 0xae98_1ae4_a215_66ef),
            (Text, Edges, 1640, 0xd9fd_29b8_f6a2_e501),
            (Text, Whole, 1530, 0xd65c_a379_b4dd_9cbf),
        ],
    ),
];

fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

fn generate(content: Content, length: usize) -> Vec<u8> {
    let mut state = 1;
    let mut random = || splitmix64(&mut state).to_be_bytes()[0];
    match content {
        Random => (0..length).map(|_| random()).collect(),
        Text => (0..length).map(|_| ALPHABET[usize::from(random() >> 3)]).collect(),
        Zeros => std::vec![0; length],
        Periodic => {
            let period: Vec<u8> = (0..PERIOD_BYTES).map(|_| random()).collect();
            period.iter().copied().cycle().take(length).collect()
        }
    }
}

/// The lengths of the chunks of `stream`, shown to the chunker in steps of the
/// lengths that `steps` gives, as from a device that fills a buffer.
fn cut(chunker: &mut Chunker, stream: &[u8], mut steps: impl FnMut() -> usize) -> Vec<usize> {
    let mut lengths = Vec::new();
    let (mut start, mut end) = (0, 0);
    chunker.reset();
    loop {
        let at_end = end == stream.len();
        match chunker.find_cut(&stream[start..end], at_end) {
            Some(length) => {
                lengths.push(length);
                start += length;
            }
            None if at_end => return lengths,
            None => end = stream.len().min(end + steps()),
        }
    }
}

#[test]
fn cuts_where_stock_cuts() {
    for &(name, sizes, lines) in GOLDEN {
        let parameters = Parameters::new(name.as_bytes(), sizes[0], sizes[1], sizes[2]).unwrap();
        let mut chunker = Chunker::new(&parameters);
        for &(content, lengths, count_wanted, digest_wanted) in lines {
            let (mut count, mut digest) = (0, Sha256::new());
            for length in lengths.of(sizes) {
                let stream = generate(content, length);
                for chunk_bytes in cut(&mut chunker, &stream, || 1 << 20) {
                    count += 1;
                    digest.update((chunk_bytes as u64).to_le_bytes());
                }
            }
            let digest = u64::from_be_bytes(*digest.finalize().first_chunk().unwrap());
            assert_eq!(
                (count, digest),
                (count_wanted, digest_wanted),
                "{name} {sizes:?} {content:?} {lengths:?}"
            );
        }
    }
}

impl Lengths {
    fn of(self, sizes: [u32; 3]) -> Vec<usize> {
        match self {
            Whole if sizes[1] == 1024 * KIB && sizes[0] != 0 => std::vec![40 << 20],
            Whole => std::vec![3 << 20],
            Edges => {
                let mut lengths = std::vec![0, 1];
                for (size, default) in sizes.into_iter().zip(super::SIZES_DEFAULT) {
                    let size = if size == 0 { default } else { size } as usize;
                    lengths.extend([size - 1, size, size + 1]);
                }
                lengths
            }
        }
    }
}

#[test]
fn wrong_parameters() {
    let new = Parameters::new;
    let unsupported = Err(FormatError::Unsupported("chunking algorithm"));
    assert_eq!(new(b"ultracdc", 0, 0, 0), unsupported);
    assert_eq!(new(b"", 0, 0, 0), unsupported);
    let field = Err(FormatError::Field("chunk size"));
    assert_eq!(new(b"fastcdc", 63, 1024, 2048), field);
    assert_eq!(new(b"fastcdc", 2048, 1024, 2047), field);
    assert_eq!(new(b"fastcdc", 0, 0, 1024), field);
    let bound = Err(FormatError::Bound("chunk size"));
    assert_eq!(new(b"fastcdc", 0, 0, 64 * 1024 * KIB + 1), bound);
    assert_eq!(new(b"fastcdc", 0, 0, 64 * 1024 * KIB).map(|p| p.max()), Ok(64 << 20));
}

#[test]
fn only_an_empty_stream_has_an_empty_chunk() {
    let parameters = Parameters::new(b"fastcdc", 64, 128, 256).unwrap();
    let mut chunker = Chunker::new(&parameters);
    assert_eq!(chunker.find_cut(&[], false), None);
    assert_eq!(chunker.find_cut(&[], true), Some(0));
    assert_eq!(chunker.find_cut(&[], true), None);
    chunker.reset();
    // The end of the input may be known only after the last cut.
    assert_eq!(chunker.find_cut(&[0; 256], false), Some(256));
    assert_eq!(chunker.find_cut(&[], true), None);
}

#[test]
fn nothing_beyond_the_largest_chunk_counts() {
    let parameters = Parameters::new(b"fastcdc", 64, 128, 256).unwrap();
    assert_eq!(Chunker::new(&parameters).find_cut(&[0; 1000], true), Some(256));
    assert_eq!(Chunker::new(&parameters).find_cut(&[0; 1000], false), Some(256));
}

proptest! {
    #[test]
    fn increments_do_not_matter(
        legacy in any::<bool>(),
        sizes in (64_u32..300, 64_u32..600, 0_u32..800),
        stream in proptest::collection::vec(any::<u8>(), 0..5000),
        steps in proptest::collection::vec(1_usize..700, 1..50),
    ) {
        let name: &[u8] = if legacy { b"FastCDC" } else { b"FastCDC-v1.0.0" };
        let (min, max) = (sizes.0, sizes.0 + sizes.2);
        let parameters = Parameters::new(name, min, sizes.1, max).unwrap();
        let mut chunker = Chunker::new(&parameters);
        let at_once = cut(&mut chunker, &stream, || stream.len());
        let mut steps = steps.iter().cycle();
        prop_assert_eq!(&cut(&mut chunker, &stream, || *steps.next().unwrap()), &at_once);

        prop_assert_eq!(at_once.iter().sum::<usize>(), stream.len());
        let (last, others) = at_once.split_last().unwrap();
        prop_assert!(*last <= max as usize);
        prop_assert!(others.iter().all(|&len| len >= min as usize && len <= max as usize));
    }
}
