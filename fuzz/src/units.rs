//! Units decoded whole and in parts, by both decoders.

use std::convert::Infallible;

use tiroir_core::codec::{
    Codec, CodecError, CollectDecoder, DECODE_SCRATCH_BYTES_MIN, DecodeScratch, Decoder,
    EncodeScratch, Encoder,
};
use tiroir_core::error::FormatError;

use crate::{Input, Noise, memory, parts};

/// Plaintext after which a target has seen enough, in bytes.
const PLAIN_BYTES_MAX: usize = 1 << 20;

/// What allocating decompressors may hold, in bytes: ZSTD's window, twice as
/// it grows, and blocks.
pub const ALLOCATED_BYTES_MAX: usize = 20 << 20;

/// Why decoding ended before the unit did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failed {
    Format(FormatError),
    Enough,
}

/// Decodes a unit in parts.
pub fn decode(
    codec: &Codec,
    scratch: &mut DecodeScratch<'_>,
    parts: &[&[u8]],
    plain: &mut Vec<u8>,
) -> Result<(), Failed> {
    let mut out = |bytes: &[u8]| {
        assert!(!bytes.is_empty(), "nothing is no plaintext");
        plain.extend_from_slice(bytes);
        if plain.len() > PLAIN_BYTES_MAX { Err(Failed::Enough) } else { Ok(()) }
    };
    let failed = |error| match error {
        CodecError::Format(error) => Failed::Format(error),
        CodecError::Sink(enough) => enough,
    };
    let mut decoder = Decoder::new(codec, scratch).map_err(Failed::Format)?;
    for part in parts {
        decoder.push(part, &mut out).map_err(failed)?;
    }
    decoder.finish(&mut out).map_err(failed)
}

/// Decodes a unit in parts into `dest`.
pub fn collect(
    codec: &Codec,
    scratch: &mut DecodeScratch<'_>,
    parts: &[&[u8]],
    dest: &mut [u8],
) -> Result<usize, FormatError> {
    let mut decoder = CollectDecoder::new(codec, scratch, dest)?;
    for part in parts {
        decoder.push(part)?;
    }
    decoder.finish()
}

/// Takes a unit that nobody wrote: whole and in parts, into a window and into
/// memory, it comes to the same.
pub fn hostile(codec: &Codec, data: &[u8]) {
    let mut input = Input(data);
    let (seed, dest_bytes) = (input.u16().into(), input.u32());
    let encoded = input.0;
    let mut dest = vec![0x55; usize::try_from(dest_bytes % (128 * 1024)).unwrap()];
    let mut memory = vec![0; DECODE_SCRATCH_BYTES_MIN];
    let mut scratch = DecodeScratch::new(&mut memory).unwrap();
    let (mut whole, mut cut) = (Vec::new(), Vec::new());
    // What is decoded is kept here, and grows by doubling.
    let bound = ALLOCATED_BYTES_MAX + 8 * PLAIN_BYTES_MAX;
    memory::within(bound, || {
        let cuts = parts(encoded, seed);
        let first = decode(codec, &mut scratch, &[encoded], &mut whole);
        let second = decode(codec, &mut scratch, &cuts, &mut cut);
        if first.is_ok() {
            // A block that comes in parts needs memory of its own.
            let is_short = matches!(second, Err(Failed::Format(FormatError::Scratch { .. })));
            assert!(is_short || second.is_ok() && cut == whole, "{second:?} in parts");
        }
        if second.is_ok() {
            assert!(first.is_ok() && cut == whole, "{first:?} as a whole");
        }
        let len = dest.len();
        let collected = collect(codec, &mut scratch, &cuts, &mut dest);
        match collected {
            Ok(count) => {
                assert!(count <= len);
                if first.is_ok() {
                    assert!(dest[..count] == whole, "collected is something else");
                }
            }
            Err(FormatError::Bound("length of a unit")) => {
                assert!(first.is_err() || whole.len() > len, "{} fit into {len}", whole.len());
            }
            Err(_) => {}
        }
    });
}

/// Encodes parts as one unit, with random numbers from `seed`.
pub fn encode(
    codec: &Codec,
    scratch: &mut EncodeScratch<'_>,
    parts: &[&[u8]],
    seed: u64,
) -> Vec<u8> {
    let (mut encoded, mut noise) = (Vec::new(), Noise::new(seed));
    let random = |bytes: &mut [u8]| {
        bytes.iter_mut().for_each(|byte| *byte = noise.next().to_le_bytes()[3]);
        Ok::<(), Infallible>(())
    };
    let out = |bytes: &[u8]| {
        encoded.extend_from_slice(bytes);
        Ok(())
    };
    let mut encoder = Encoder::new(codec, scratch, random, out).unwrap();
    let mut parts = parts.to_vec();
    let last = parts.pop().unwrap_or_default();
    parts.iter().for_each(|part| encoder.write(part).unwrap());
    let length = encoder.finish_with(last).unwrap();
    assert_eq!(length, encoded.len() as u64);
    encoded
}
