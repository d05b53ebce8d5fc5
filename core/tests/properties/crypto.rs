//! Keys wrapped, and pieces sealed: whole they open, and damaged they do not.

use proptest::prelude::*;
use tiroir_core::crypto::seal::{
    NONCE_BYTES, PIECE_OVERHEAD_BYTES, PieceSealer, canary_opens, make_canary,
};
use tiroir_core::crypto::wrap::{unwrap, wrap};
use tiroir_core::crypto::{StoreKey, Suite};
use tiroir_core::error::FormatError;

fn suite() -> impl Strategy<Value = Suite> {
    prop::sample::select(vec![Suite::Aes256GcmSiv, Suite::ChaCha20Poly1305])
}

/// Where a bit is flipped.
type Flip = (prop::sample::Index, u32);

fn flip(bytes: &mut [u8], (at, bit): &Flip) {
    bytes[at.index(bytes.len())] ^= 1 << bit;
}

fn any_flip() -> impl Strategy<Value = Flip> {
    (any::<prop::sample::Index>(), 0..8_u32)
}

proptest! {
    #[test]
    fn wrapped_keys(key: [u8; 32], other: [u8; 32], subkey: [u8; 32], at in any_flip()) {
        let store_key = StoreKey::new(key);
        let mut wrapped = wrap(&store_key, &subkey);
        prop_assert_eq!(unwrap(&store_key, &wrapped).map(|subkey| *subkey), Ok(subkey));
        if other != key {
            let found = unwrap(&StoreKey::new(other), &wrapped);
            prop_assert_eq!(found.err(), Some(FormatError::Seal));
        }
        flip(&mut wrapped, &at);
        prop_assert_eq!(unwrap(&store_key, &wrapped).err(), Some(FormatError::Seal));
    }

    #[test]
    fn sealed_pieces(
        suite in suite(),
        key: [u8; 32],
        nonce: [u8; NONCE_BYTES],
        plain in prop::collection::vec(any::<u8>(), 0..3000),
        at in any_flip(),
        cut in any::<prop::sample::Index>(),
    ) {
        let sealer = PieceSealer::new(suite, &key);
        let mut piece = vec![0; plain.len() + PIECE_OVERHEAD_BYTES];
        piece[NONCE_BYTES..][..plain.len()].copy_from_slice(&plain);
        let length = sealer.seal_in_place(&nonce, &mut piece, plain.len());
        prop_assert_eq!(length, piece.len());

        let mut opened = piece.clone();
        let text = sealer.open_in_place(&mut opened);
        prop_assert_eq!(text.map(|text| opened[text].to_vec()), Ok(plain));

        let mut short = piece[..cut.index(piece.len())].to_vec();
        prop_assert!(sealer.open_in_place(&mut short).is_err());
        flip(&mut piece, &at);
        prop_assert_eq!(sealer.open_in_place(&mut piece), Err(FormatError::Seal));
    }

    #[test]
    fn canaries(
        suite in suite(),
        key: [u8; 32],
        subkey: [u8; 32],
        nonce: [u8; NONCE_BYTES],
        random: [u8; 32],
        at in any_flip(),
    ) {
        let key = StoreKey::new(key);
        let mut canary = make_canary(&key, suite, &subkey, &nonce, &random);
        prop_assert!(canary_opens(&key, suite, &canary));
        flip(&mut canary, &at);
        prop_assert!(!canary_opens(&key, suite, &canary));
    }
}
