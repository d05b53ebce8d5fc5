//! Sealed pieces: damaged, cut, and shuffled.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_core::codec::{Codec, DECODE_SCRATCH_BYTES_MIN, DecodeScratch};
use tiroir_core::compression::Compression;
use tiroir_core::crypto::seal::{NONCE_BYTES, PIECE_OVERHEAD_BYTES, PieceSealer};
use tiroir_core::crypto::wrap::{unwrap, wrap};
use tiroir_core::crypto::{StoreKey, Suite};
use tiroir_core::error::FormatError;
use tiroir_fuzz::units::{Failed, collect, decode};
use tiroir_fuzz::{Input, parts};

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let choice = input.byte();
    let suite = if choice & 1 == 0 { Suite::Aes256GcmSiv } else { Suite::ChaCha20Poly1305 };
    let key = StoreKey::new([choice; 32]);
    let codec = Codec { compression: Compression::None, cipher: Some((key.clone(), suite)) };
    let (seed, damage) = (input.u16().into(), input.u32());
    let mut memory = vec![0; DECODE_SCRATCH_BYTES_MIN];
    let mut scratch = DecodeScratch::new(&mut memory).unwrap();
    let mut open = |unit: &[u8]| {
        let cuts = parts(unit, seed);
        let (mut plain, mut dest) = (Vec::new(), vec![0; unit.len()]);
        let result = decode(&codec, &mut scratch, &cuts, &mut plain);
        let collected = collect(&codec, &mut scratch, &cuts, &mut dest);
        assert_eq!(result, collected.map(drop).map_err(Failed::Format));
        assert!(plain.len() <= unit.len());
        result.map(|()| {
            assert!(dest[..plain.len()] == plain);
            plain
        })
    };
    if choice & 2 != 0 {
        // Nobody's unit does not open.
        assert!(open(input.0).is_err());
        return;
    }
    // One piece: only the last one may be short.
    let subkey = [damage.to_le_bytes()[0]; 32];
    let wrapped = wrap(&key, &subkey);
    assert_eq!(unwrap(&key, &wrapped).as_deref(), Ok(&subkey));
    let plain = input.0;
    let mut unit = wrapped.to_vec();
    if !plain.is_empty() {
        let mut piece = vec![0; plain.len() + PIECE_OVERHEAD_BYTES];
        piece[NONCE_BYTES..][..plain.len()].copy_from_slice(plain);
        PieceSealer::new(suite, &subkey).seal_in_place(&[choice; 12], &mut piece, plain.len());
        unit.extend_from_slice(&piece);
    }
    assert_eq!(open(&unit).as_deref(), Ok(plain));
    let at = damage as usize % unit.len();
    unit[at] ^= 1 << (choice >> 5);
    assert_eq!(open(&unit), Err(Failed::Format(FormatError::Seal)));
    unit[at] ^= 1 << (choice >> 5);
    unit.truncate(at);
    if at != wrapped.len() {
        assert!(open(&unit).is_err());
    }
});
