//! Plaintext with repetitions at chosen distances, compressed and decompressed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_core::codec::{
    Codec, DECODE_SCRATCH_BYTES_MIN, DecodeScratch, ENCODE_SCRATCH_BYTES, ENCODE_SCRATCH_BYTES_MIN,
    EncodeScratch,
};
use tiroir_core::compression::Compression;
use tiroir_fuzz::units::{decode, encode};
use tiroir_fuzz::{Input, parts};

/// Enough for a few blocks, and for distances beyond what a match may have.
const PLAIN_BYTES_MAX: usize = 400_000;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let (choice, seed) = (input.byte(), u64::from(input.u16()));
    let mut plain = Vec::new();
    while !input.is_empty() && plain.len() < PLAIN_BYTES_MAX {
        match input.byte() % 4 {
            0 => plain.extend_from_slice(input.short()),
            // From any distance, a little less than which is the most.
            1 => repeat(&mut plain, 65_540 - usize::from(input.byte()), input.byte().into()),
            2 => repeat(&mut plain, 1 + usize::from(input.u16()), input.byte().into()),
            _ => repeat(&mut plain, 1 + usize::from(input.byte()), input.u16().into()),
        }
    }
    let codec = Codec { compression: Compression::Lz4, cipher: None };
    let memory_bytes =
        if choice & 1 == 0 { ENCODE_SCRATCH_BYTES_MIN } else { ENCODE_SCRATCH_BYTES };
    let mut memory = vec![choice; memory_bytes];
    let mut scratch = EncodeScratch::new(&mut memory).unwrap();
    let unit = encode(&codec, &mut scratch, &[&plain], seed);
    assert!(unit.len() as u64 <= codec.encoded_len_max(plain.len() as u64));
    // Neither how it came is to be seen, nor what was before.
    assert!(unit == encode(&codec, &mut scratch, &parts(&plain, seed), seed));

    let mut memory = vec![0x55; DECODE_SCRATCH_BYTES_MIN];
    let mut scratch = DecodeScratch::new(&mut memory).unwrap();
    let mut found = Vec::new();
    decode(&codec, &mut scratch, &parts(&unit, seed.rotate_left(3)), &mut found).unwrap();
    assert!(found == plain);
});

fn repeat(plain: &mut Vec<u8>, distance: usize, length: usize) {
    for _ in 0..length {
        let byte = plain.len().checked_sub(distance).map_or(0, |at| plain[at]);
        plain.push(byte);
    }
}
