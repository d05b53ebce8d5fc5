//! Tells what files compress to, and how fast that and the way back are.
//!
//! ```sh
//! cargo run --release -p tiroir-core --example lz4-ratio FILE...
//! ```
//!
//! A file is cut into units of 1 MiB, the usual length of a chunk, which are
//! encoded one by one, without a cipher. The best of three turns counts. `lz4_flex`,
//! which decompresses here and in the program, compresses for comparison.
#![expect(clippy::unwrap_used, reason = "a tool for developers")]

use std::convert::Infallible;
use std::time::{Duration, Instant};

use tiroir_core::codec::{
    COLLECT_SCRATCH_BYTES_STOCK, Codec, DecodeScratch, ENCODE_SCRATCH_BYTES,
    ENCODE_SCRATCH_BYTES_MIN, EncodeScratch, Encoder, decode_into,
};

const UNIT_BYTES: usize = 1 << 20;
const TURNS: usize = 3;

fn main() {
    let mut units = Vec::new();
    for path in std::env::args_os().skip(1) {
        match std::fs::read(&path) {
            Ok(content) => units.extend(content.chunks(UNIT_BYTES).map(<[u8]>::to_vec)),
            Err(error) => eprintln!("{}: {error}", path.display()),
        }
    }
    let plain_bytes = units.iter().map(Vec::len).sum();
    let report = |name: &str, turn: &mut dyn FnMut() -> usize| {
        let (mut best, mut bytes) = (Duration::MAX, 0);
        for _ in 0..TURNS {
            let start = Instant::now();
            bytes = turn();
            best = best.min(start.elapsed());
        }
        let rate = plain_bytes as f64 / best.as_secs_f64() / 1e6;
        let ratio = bytes as f64 / f64::max(1.0, plain_bytes as f64);
        println!("{name:<24} {bytes:>12} bytes {ratio:>8.4} {rate:>8.1} MB/s");
    };
    report("as they are", &mut || plain_bytes);
    let mut block = vec![0; lz4_flex::block::get_maximum_output_size(UNIT_BYTES)];
    report("lz4_flex, blocks of 1 MiB", &mut || {
        let lengths = units.iter().map(|unit| {
            lz4_flex::block::compress_into(unit, &mut block).unwrap().min(unit.len()) + 15
        });
        lengths.sum()
    });
    for (name, memory_bytes) in
        [("least memory", ENCODE_SCRATCH_BYTES_MIN), ("usual memory", ENCODE_SCRATCH_BYTES)]
    {
        let mut memory = vec![0; memory_bytes];
        let mut scratch = EncodeScratch::new(&mut memory).unwrap();
        let encoded: Vec<_> = units.iter().map(|unit| encode(&mut scratch, unit)).collect();
        report(name, &mut || units.iter().map(|unit| encode(&mut scratch, unit).len()).sum());
        let mut memory = vec![0; COLLECT_SCRATCH_BYTES_STOCK];
        let mut scratch = DecodeScratch::new(&mut memory).unwrap();
        let mut dest = vec![0; UNIT_BYTES];
        report("and back", &mut || {
            for (unit, encoded) in units.iter().zip(&encoded) {
                let codec = Codec::default();
                let length = decode_into(&codec, &mut scratch, encoded, &mut dest).unwrap();
                assert!(dest[..length] == **unit);
            }
            encoded.iter().map(Vec::len).sum()
        });
    }
}

fn encode(scratch: &mut EncodeScratch<'_>, unit: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(unit.len() + 256);
    let codec = Codec::default();
    let random = |_: &mut [u8]| Ok::<(), Infallible>(());
    let out = |bytes: &[u8]| {
        encoded.extend_from_slice(bytes);
        Ok(())
    };
    Encoder::new(&codec, scratch, random, out).unwrap().finish_with(unit).unwrap();
    encoded
}
