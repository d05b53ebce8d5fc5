//! Keys, their derivation, and the sealing of what a store holds.
//!
//! Section 6 of the format. One key opens a store: it comes out of the
//! passphrase ([`kdf`]) and wraps ([`wrap`]) a fresh key for each encoded
//! unit, under which the unit's plaintext is sealed in pieces ([`seal`]).

use core::fmt;

use zeroize::Zeroize as _;

pub mod kdf;
pub mod seal;
pub mod wrap;

/// Length of a [`StoreKey`] and of the key of a unit, in bytes.
pub const KEY_BYTES: usize = 32;

/// The key of a store, as derived from its passphrase: it wraps the key of
/// each unit, and is the secret behind the MACs. Erased when dropped.
#[derive(Clone)]
pub struct StoreKey([u8; KEY_BYTES]);

impl StoreKey {
    /// A key from its bytes; the caller erases its own copy.
    #[must_use]
    pub const fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes of the key, for [`MacKey::new`](crate::mac::MacKey::new) and
    /// for what seals with it.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl Drop for StoreKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKey(..)")
    }
}

/// The cipher of pieces: `Encryption.DataAlgorithm` of CONFIG.
///
/// Both have keys of 32 bytes, nonces of 12 and tags of 16, so that a sealed
/// unit has the same layout under either; the keys of units are wrapped with
/// AES in both.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Suite {
    /// `AES256-GCM-SIV`, the only one that stock reads.
    #[default]
    Aes256GcmSiv,
    /// `CHACHA20-POLY1305`, an extension of this program, for processors
    /// without AES instructions. Stock does not open such a store.
    ChaCha20Poly1305,
}

impl Suite {
    /// Name in CONFIG.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes256GcmSiv => "AES256-GCM-SIV",
            Self::ChaCha20Poly1305 => "CHACHA20-POLY1305",
        }
    }

    /// The suite of that name.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        [Self::Aes256GcmSiv, Self::ChaCha20Poly1305]
            .into_iter()
            .find(|suite| suite.name().as_bytes() == name)
    }
}

/// Bytes from hexadecimal, for the known answers of tests.
#[cfg(test)]
pub(crate) fn hex<const N: usize>(text: &str) -> [u8; N] {
    assert_eq!(text.len(), 2 * N);
    core::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    #[test]
    fn a_key_is_not_shown() {
        assert_eq!(format!("{:?}", StoreKey::new([0x41; 32])), "StoreKey(..)");
    }

    #[test]
    fn suites_by_name() {
        for suite in [Suite::Aes256GcmSiv, Suite::ChaCha20Poly1305] {
            assert_eq!(Suite::from_name(suite.name().as_bytes()), Some(suite));
        }
        assert_eq!(Suite::from_name(b"AES256-GCM"), None);
    }
}
