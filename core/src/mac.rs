//! [`Mac`]: the 32-byte keyed code that names every resource, and its hashers.
//!
//! Section 3 of the format: BLAKE3 in keyed mode, or HMAC-SHA256.

use core::fmt;

use hmac::{Hmac, KeyInit, Mac as _};
use sha2::{Digest, Sha256};
use zeroize::Zeroize as _;

/// Length of a [`Mac`], in bytes.
pub const MAC_BYTES: usize = 32;

/// The name of a resource: a keyed code of its content, or random bytes.
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Mac(pub [u8; MAC_BYTES]);

impl Mac {
    /// Thirty-two zero bytes: "none" wherever the format has no other way.
    pub const ZERO: Self = Self([0; MAC_BYTES]);

    /// Whether this is [`Mac::ZERO`].
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0 == [0; MAC_BYTES]
    }

    /// A MAC from a slice, if it has the right length.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// A MAC from 64 hexadecimal digits of lower case, as stores name files.
    #[must_use]
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        if text.len() != 2 * MAC_BYTES {
            return None;
        }
        let digit = |c: u8| match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        };
        let mut mac = [0; MAC_BYTES];
        for (byte, pair) in mac.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(mac))
    }
}

impl fmt::Display for Mac {
    /// Hexadecimal; `{:.4}` shows the first four bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = f.precision().unwrap_or(MAC_BYTES).min(MAC_BYTES);
        self.0[..bytes].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mac({self})")
    }
}

/// The hash behind the MACs of a store: `Hashing.Algorithm` of CONFIG.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum HashAlgorithm {
    /// `BLAKE3`, stock's default.
    #[default]
    Blake3,
    /// `SHA256`.
    Sha256,
}

impl HashAlgorithm {
    /// Name in CONFIG.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Blake3 => "BLAKE3",
            Self::Sha256 => "SHA256",
        }
    }

    /// The algorithm of that name.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        match name {
            b"BLAKE3" => Some(Self::Blake3),
            b"SHA256" => Some(Self::Sha256),
            _ => None,
        }
    }
}

/// What MACs of a store are made with: the algorithm and its secret.
#[derive(Clone)]
pub struct MacKey {
    algorithm: HashAlgorithm,
    secret: [u8; 32],
}

impl MacKey {
    /// The key of an encrypted store, where `secret` is the derived key.
    #[must_use]
    pub fn new(algorithm: HashAlgorithm, secret: [u8; 32]) -> Self {
        Self { algorithm, secret }
    }

    /// The key of a plaintext store: the hash of its identifier, known to
    /// everybody. It protects against accidents only.
    #[must_use]
    pub fn public(algorithm: HashAlgorithm, repository_id: &[u8; 16]) -> Self {
        let secret = match algorithm {
            HashAlgorithm::Blake3 => *blake3::hash(repository_id).as_bytes(),
            HashAlgorithm::Sha256 => Sha256::digest(repository_id).into(),
        };
        Self { algorithm, secret }
    }

    /// A hasher that has seen nothing yet.
    #[must_use]
    pub fn hasher(&self) -> MacHasher {
        match self.algorithm {
            HashAlgorithm::Blake3 => MacHasher::Blake3(blake3::Hasher::new_keyed(&self.secret)),
            HashAlgorithm::Sha256 =>
            {
                #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
                MacHasher::Sha256(
                    Hmac::new_from_slice(&self.secret).expect("HMAC takes keys of every length"),
                )
            }
        }
    }

    /// Makes a hasher of this key forget what was added: cheaper than a new one.
    pub fn restart(&self, hasher: &mut MacHasher) {
        match hasher {
            MacHasher::Blake3(hasher) => {
                hasher.reset();
            }
            MacHasher::Sha256(_) => *hasher = self.hasher(),
        }
    }

    /// The MAC of `bytes`.
    #[must_use]
    pub fn mac(&self, bytes: &[u8]) -> Mac {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finish()
    }
}

impl Drop for MacKey {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MacKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// A MAC being made. About 2 KiB.
#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "lives on the stack for the time of a blob")]
pub enum MacHasher {
    /// BLAKE3, keyed, or unkeyed for the CONFIG of a plaintext store.
    Blake3(blake3::Hasher),
    /// HMAC-SHA256.
    Sha256(Hmac<Sha256>),
}

impl MacHasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Blake3(hasher) => {
                hasher.update(bytes);
            }
            Self::Sha256(hasher) => hasher.update(bytes),
        }
    }

    /// The MAC of what was added so far; more may be.
    #[must_use]
    pub fn so_far(&self) -> Mac {
        match self {
            Self::Blake3(hasher) => Mac(*hasher.finalize().as_bytes()),
            Self::Sha256(hasher) => Mac(hasher.clone().finalize().into_bytes().into()),
        }
    }

    /// The MAC of everything added.
    #[must_use]
    pub fn finish(self) -> Mac {
        match self {
            Self::Blake3(hasher) => Mac(*hasher.finalize().as_bytes()),
            Self::Sha256(hasher) => Mac(hasher.finalize().into_bytes().into()),
        }
    }
}

impl fmt::Debug for MacHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacHasher")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    const ID: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

    #[test]
    fn known_answers() {
        for (algorithm, content, wanted) in [
            (
                HashAlgorithm::Blake3,
                &b""[..],
                "33560a4b127c9c22c8a6ff6ff7e832ba07d894d7f990651c0fa6899cf15f7480",
            ),
            (
                HashAlgorithm::Blake3,
                b"hello world\n",
                "8bb0d16730742e3cf69cd4ee4975b0815fe74c8f74cb230f4d4cb387f6816218",
            ),
            (
                HashAlgorithm::Sha256,
                b"hello world\n",
                "d37315a1727754ad69a466bd575535cddfaec8c93d5fcb4407070dc0bddaae48",
            ),
        ] {
            assert_eq!(MacKey::public(algorithm, &ID).mac(content).to_string(), wanted);
        }
    }

    #[test]
    fn hexadecimal_both_ways() {
        let mac = Mac(core::array::from_fn(|i| u8::try_from(i * 7).unwrap()));
        let text = mac.to_string();
        assert_eq!(Mac::from_hex(text.as_bytes()), Some(mac));
        assert_eq!(Mac::from_hex(text.to_uppercase().as_bytes()), None);
        assert_eq!(Mac::from_hex(&text.as_bytes()[1..]), None);
    }
}
