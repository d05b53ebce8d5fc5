//! Sealed pieces, and the canary that tells a right key from a wrong one.
//!
//! ```text
//! unit:   | wrapped key, 40 | piece | piece | ... | last piece |
//! piece:  | nonce, 12 | ciphertext, 65,536 at most | tag, 16 |
//! ```
//!
//! Nothing says how many pieces follow, or in which order: a unit cut or
//! shuffled between pieces opens. The MACs of section 3 see that, not this.

use core::fmt;
use core::ops::Range;

use aes_gcm_siv::Aes256GcmSiv;
use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut, KeyInit as _};

use super::wrap::{WRAPPED_KEY_BYTES, unwrap, wrap};
use super::{KEY_BYTES, StoreKey, Suite};
use crate::error::FormatError;
use crate::limits::PIECE_BYTES;

/// Length of a nonce, in bytes.
pub const NONCE_BYTES: usize = 12;

/// Length of a tag, in bytes.
pub const TAG_BYTES: usize = 16;

/// What sealing adds to a piece, in bytes.
pub const PIECE_OVERHEAD_BYTES: usize = NONCE_BYTES + TAG_BYTES;

/// Length of a full sealed piece, in bytes.
pub const SEALED_PIECE_BYTES: usize = PIECE_BYTES + PIECE_OVERHEAD_BYTES;

/// Length of a canary, in bytes: 32 sealed bytes and their key.
pub const CANARY_BYTES: usize = WRAPPED_KEY_BYTES + PIECE_OVERHEAD_BYTES + 32;

/// Length of the sealed unit of `plain_bytes`, in bytes; saturates.
#[must_use]
pub const fn sealed_len(plain_bytes: u64) -> u64 {
    let pieces = plain_bytes.div_ceil(PIECE_BYTES as u64);
    plain_bytes
        .saturating_add(pieces.saturating_mul(PIECE_OVERHEAD_BYTES as u64))
        .saturating_add(WRAPPED_KEY_BYTES as u64)
}

// The larger cipher is half a kilobyte and lives as long as a unit: not worth
// a box, which there may not be.
#[expect(clippy::large_enum_variant, reason = "without alloc there is no box")]
enum Cipher {
    Aes256GcmSiv(Aes256GcmSiv),
    ChaCha20Poly1305(ChaCha20Poly1305),
}

/// Seals and opens the pieces of one unit.
///
/// It is made from the key of the unit, not of the store, and keeps no secret
/// in memory once dropped.
pub struct PieceSealer(Cipher);

impl PieceSealer {
    /// A sealer with the key of a unit.
    #[must_use]
    pub fn new(suite: Suite, subkey: &[u8; KEY_BYTES]) -> Self {
        Self(match suite {
            Suite::Aes256GcmSiv => Cipher::Aes256GcmSiv(Aes256GcmSiv::new(subkey.into())),
            Suite::ChaCha20Poly1305 => {
                Cipher::ChaCha20Poly1305(ChaCha20Poly1305::new(subkey.into()))
            }
        })
    }

    /// Seals the `plain_len` bytes that `buffer` holds from [`NONCE_BYTES`]
    /// on, and gives the length of the piece, which starts at 0.
    ///
    /// A nonce must not be used twice with the same key.
    ///
    /// # Panics
    ///
    /// When `plain_len` is over [`PIECE_BYTES`], or `buffer` is shorter than
    /// `plain_len` and [`PIECE_OVERHEAD_BYTES`] together.
    pub fn seal_in_place(
        &self,
        nonce: &[u8; NONCE_BYTES],
        buffer: &mut [u8],
        plain_len: usize,
    ) -> usize {
        assert!(plain_len <= PIECE_BYTES, "a piece holds {PIECE_BYTES} bytes at most");
        let piece = &mut buffer[..plain_len + PIECE_OVERHEAD_BYTES];
        let (head, rest) = piece.split_at_mut(NONCE_BYTES);
        let (text, tag) = rest.split_at_mut(plain_len);
        head.copy_from_slice(nonce);
        let sealed = match &self.0 {
            Cipher::Aes256GcmSiv(cipher) => {
                cipher.encrypt_inout_detached(nonce.into(), b"", text.into())
            }
            Cipher::ChaCha20Poly1305(cipher) => {
                cipher.encrypt_inout_detached(nonce.into(), b"", text.into())
            }
        };
        #[expect(clippy::expect_used, reason = "these ciphers take far more than a piece")]
        tag.copy_from_slice(&sealed.expect("these ciphers take far more than a piece"));
        piece.len()
    }

    /// Opens a piece, and says where in it the plaintext lies now.
    ///
    /// # Errors
    ///
    /// [`FormatError::Truncated`] when it is too short to be a piece,
    /// [`FormatError::Bound`] when it is longer than a full one, and
    /// [`FormatError::Seal`] when it does not open; its text is undefined then.
    pub fn open_in_place(&self, piece: &mut [u8]) -> Result<Range<usize>, FormatError> {
        let plain_len =
            piece.len().checked_sub(PIECE_OVERHEAD_BYTES).ok_or(FormatError::Truncated)?;
        if plain_len > PIECE_BYTES {
            return Err(FormatError::Bound("length of a sealed piece"));
        }
        let plain = NONCE_BYTES..NONCE_BYTES + plain_len;
        let (head, rest) = piece.split_at_mut(NONCE_BYTES);
        let (text, tag) = rest.split_at_mut(plain_len);
        let nonce: &[u8; NONCE_BYTES] = (&*head).try_into().map_err(|_| FormatError::Truncated)?;
        let tag: &[u8; TAG_BYTES] = (&*tag).try_into().map_err(|_| FormatError::Truncated)?;
        let opened = match &self.0 {
            Cipher::Aes256GcmSiv(cipher) => {
                cipher.decrypt_inout_detached(nonce.into(), b"", text.into(), tag.into())
            }
            Cipher::ChaCha20Poly1305(cipher) => {
                cipher.decrypt_inout_detached(nonce.into(), b"", text.into(), tag.into())
            }
        };
        opened.map(|()| plain).map_err(|_| FormatError::Seal)
    }
}

impl fmt::Debug for PieceSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Cipher::Aes256GcmSiv(_) => "PieceSealer(AES256-GCM-SIV)",
            Cipher::ChaCha20Poly1305(_) => "PieceSealer(CHACHA20-POLY1305)",
        })
    }
}

/// The canary of a new store: `random` sealed with `subkey`, all three of
/// `subkey`, `nonce` and `random` being fresh random bytes.
#[must_use]
pub fn make_canary(
    key: &StoreKey,
    suite: Suite,
    subkey: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_BYTES],
    random: &[u8; 32],
) -> [u8; CANARY_BYTES] {
    let mut canary = [0; CANARY_BYTES];
    let (wrapped, piece) = canary.split_at_mut(WRAPPED_KEY_BYTES);
    wrapped.copy_from_slice(&wrap(key, subkey));
    piece[NONCE_BYTES..NONCE_BYTES + random.len()].copy_from_slice(random);
    PieceSealer::new(suite, subkey).seal_in_place(nonce, piece, random.len());
    canary
}

/// Whether `key` is the key of the store with that canary.
#[must_use]
pub fn canary_opens(key: &StoreKey, suite: Suite, canary: &[u8]) -> bool {
    let Ok(mut canary) = <[u8; CANARY_BYTES]>::try_from(canary) else {
        return false;
    };
    let Some((wrapped, piece)) = canary.split_first_chunk_mut::<WRAPPED_KEY_BYTES>() else {
        return false;
    };
    unwrap(key, wrapped)
        .and_then(|subkey| PieceSealer::new(suite, &subkey).open_in_place(piece))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hex;
    use std::vec;

    const SUITES: [Suite; 2] = [Suite::Aes256GcmSiv, Suite::ChaCha20Poly1305];

    fn subkey() -> [u8; 32] {
        core::array::from_fn(|i| 0x20 + u8::try_from(i).unwrap())
    }

    #[test]
    fn known_answer() {
        let mut piece = [0; 31];
        piece[12..15].copy_from_slice(b"abc");
        let sealer = PieceSealer::new(Suite::Aes256GcmSiv, &subkey());
        assert_eq!(sealer.seal_in_place(&[0; 12], &mut piece, 3), 31);
        assert_eq!(piece, hex("00000000000000000000000052c041877f5e8bd63a7423e2cc358f978c3315"));
        assert_eq!(sealer.open_in_place(&mut piece), Ok(12..15));
        assert_eq!(&piece[12..15], b"abc");
    }

    #[test]
    fn pieces_of_every_kind_of_length_open_again() {
        for suite in SUITES {
            let sealer = PieceSealer::new(suite, &subkey());
            for length in [0, 1, 15, 16, 17, PIECE_BYTES - 1, PIECE_BYTES] {
                let mut buffer = vec![7; SEALED_PIECE_BYTES];
                let total = sealer.seal_in_place(&[9; 12], &mut buffer, length);
                assert_eq!(total, length + PIECE_OVERHEAD_BYTES);
                let plain = sealer.open_in_place(&mut buffer[..total]).unwrap();
                assert_eq!(plain, 12..12 + length);
                assert!(buffer[plain].iter().all(|&byte| byte == 7));
            }
        }
    }

    #[test]
    fn damage_is_seen() {
        for suite in SUITES {
            let sealer = PieceSealer::new(suite, &subkey());
            let mut sealed = [1; 40];
            sealer.seal_in_place(&[9; 12], &mut sealed, 12);
            for i in 0..sealed.len() {
                let mut damaged = sealed;
                damaged[i] ^= 0x80;
                assert_eq!(sealer.open_in_place(&mut damaged), Err(FormatError::Seal));
            }
            assert_eq!(sealer.open_in_place(&mut [0; 27]), Err(FormatError::Truncated));
            let mut long = vec![0; SEALED_PIECE_BYTES + 1];
            assert!(matches!(sealer.open_in_place(&mut long), Err(FormatError::Bound(_))));
        }
    }

    #[test]
    fn a_canary_opens_with_its_key_only() {
        for suite in SUITES {
            let (key, other) = (StoreKey::new([1; 32]), StoreKey::new([2; 32]));
            let canary = make_canary(&key, suite, &subkey(), &[3; 12], &[4; 32]);
            assert!(canary_opens(&key, suite, &canary));
            assert!(!canary_opens(&other, suite, &canary));
            assert!(!canary_opens(&key, suite, &canary[1..]));
            for other in SUITES.into_iter().filter(|other| *other != suite) {
                assert!(!canary_opens(&key, other, &canary));
            }
        }
    }

    #[test]
    fn lengths() {
        assert_eq!(sealed_len(0), 40);
        assert_eq!(sealed_len(65_536), 40 + 65_536 + 28);
        assert_eq!(sealed_len(65_537), 40 + 65_537 + 56);
        assert_eq!(sealed_len(u64::MAX), u64::MAX);
        assert_eq!(CANARY_BYTES, 100);
    }
}
