//! Units there and back: any compression, any cipher, any cuts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_core::codec::{
    Codec, DECODE_SCRATCH_BYTES_MIN, DecodeScratch, ENCODE_SCRATCH_BYTES_MIN, EncodeScratch,
};
use tiroir_core::compression::Compression;
use tiroir_core::crypto::{StoreKey, Suite};
use tiroir_core::error::FormatError;
use tiroir_fuzz::units::{collect, decode, encode};
use tiroir_fuzz::{Input, parts};

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let choice = input.byte();
    let compression = match choice % 3 {
        0 => Compression::None,
        1 => Compression::Lz4,
        _ => Compression::Gzip,
    };
    let key = StoreKey::new([choice; 32]);
    let cipher = match choice >> 4 & 3 {
        0 => Some((key, Suite::Aes256GcmSiv)),
        1 => Some((key, Suite::ChaCha20Poly1305)),
        _ => None,
    };
    let codec = Codec { compression, cipher };
    let (seed, repeat) = (u64::from(input.u16()), usize::from(input.byte()));
    // Repeated, a short input passes the edges of blocks and pieces.
    let plain = input.0.repeat(if choice & 0x80 == 0 { 1 } else { repeat });

    let mut memory = vec![0x55; ENCODE_SCRATCH_BYTES_MIN];
    let mut scratch = EncodeScratch::new(&mut memory).unwrap();
    let unit = encode(&codec, &mut scratch, &parts(&plain, seed), seed);
    assert!(unit.len() as u64 <= codec.encoded_len_max(plain.len() as u64));
    // How it came is not to be seen, but for the state of the deflater.
    if compression != Compression::Gzip {
        assert!(unit == encode(&codec, &mut scratch, &[&plain], seed));
    }

    let mut memory = vec![0x55; DECODE_SCRATCH_BYTES_MIN];
    let mut scratch = DecodeScratch::new(&mut memory).unwrap();
    let cuts = parts(&unit, seed.rotate_left(3));
    let mut found = Vec::new();
    if plain.len() <= 1 << 20 {
        decode(&codec, &mut scratch, &cuts, &mut found).unwrap();
        assert!(found == plain);
    }
    let mut dest = vec![0x55; plain.len()];
    assert_eq!(collect(&codec, &mut scratch, &cuts, &mut dest), Ok(plain.len()));
    assert!(dest == plain);
    if let Some((_, short)) = dest.split_last_mut() {
        let too_long = Err(FormatError::Bound("length of a unit"));
        assert_eq!(collect(&codec, &mut scratch, &cuts, short), too_long);
    }
    // Nothing says where a unit ends that is stored as it is.
    let ends = codec.compression != Compression::None || codec.cipher.is_some();
    if ends && let Some((_, short)) = unit.split_last() {
        assert!(collect(&codec, &mut scratch, &parts(short, seed), &mut dest).is_err());
    }
});
