//! The key of a store from its passphrase: `KDFParams` of CONFIG.
//!
//! Argon2id works in memory lent by the caller, which may be a mapped file:
//! what stock asks for is 256 MiB. PBKDF2 needs none; scrypt allocates.
//!
//! A damaged or hostile CONFIG can ask for any amount of work, before its MAC
//! can be checked: the bounds here end at some minutes of one core, and
//! [`Kdf::memory_bytes`] says what deriving takes, to be compared with what
//! there is.

use core::error::Error as StdError;
use core::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use hmac::Hmac;
use sha2::Sha256;
use zeroize::Zeroize as _;

pub use argon2::Block as Argon2Block;

use super::{KEY_BYTES, StoreKey};

/// Most memory of Argon2id, in KiB: 4 GiB. Stock asks for 256 MiB.
pub const ARGON2_MEMORY_KIB_MAX: u32 = 4 * 1024 * 1024;

/// Most passes of Argon2id. Stock makes 4.
pub const ARGON2_TIME_MAX: u32 = 1 << 16;

/// Most memory times passes of Argon2id, in KiB: 64 times what stock asks for.
pub const ARGON2_WORK_KIB_MAX: u64 = 1 << 26;

/// Most lanes of Argon2id. CONFIG has 8 bits for them.
pub const ARGON2_THREADS_MAX: u8 = u8::MAX;

/// Most memory of scrypt, in bytes: 1 GiB. Stock asks for 32 MiB.
pub const SCRYPT_MEMORY_BYTES_MAX: u64 = 1 << 30;

/// Most `N * R * P` of scrypt: 256 times what stock asks for.
pub const SCRYPT_WORK_MAX: u64 = 1 << 26;

/// Most iterations of PBKDF2: 671 times what stock asks for.
pub const PBKDF2_ITERATIONS_MAX: u32 = 1 << 26;

/// Least length of a salt, in bytes, as Argon2 has it. Stock's have 16.
pub const SALT_BYTES_MIN: usize = 8;

/// How the key of a store comes out of its passphrase. The key has 32 bytes,
/// always: `KeyLen` of CONFIG may have no other value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kdf {
    /// `ARGON2ID`, version 0x13.
    Argon2id {
        /// Passes over the memory.
        time: u32,
        /// Memory, in KiB.
        memory_kib: u32,
        /// Lanes. They are filled one after the other.
        threads: u8,
    },
    /// `SCRYPT`; only with the feature `alloc`.
    Scrypt {
        /// `N`, a power of two.
        n: u64,
        /// `R`.
        r: u32,
        /// `P`.
        p: u32,
    },
    /// `PBKDF2` with HMAC-SHA256.
    Pbkdf2 {
        /// Iterations.
        iterations: u32,
    },
}

/// A key that was not derived.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KdfError {
    /// The arena that was lent is too small.
    Arena {
        /// Least length that would do, in blocks of 1 KiB.
        needed_blocks: usize,
        /// Length lent, in blocks of 1 KiB.
        lent_blocks: usize,
    },
    /// A parameter has a value that it may not have; the text names it.
    Field(&'static str),
    /// A parameter is over its bound; the text names it.
    Bound(&'static str),
    /// This program was built without that function; the text names it.
    Unsupported(&'static str),
    /// There is not so much memory.
    Memory {
        /// Memory needed, in bytes.
        needed_bytes: u64,
    },
}

impl fmt::Display for KdfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arena { needed_blocks, lent_blocks } => {
                write!(f, "key derivation needs {needed_blocks} KiB, {lent_blocks} KiB are lent")
            }
            Self::Field(name) => write!(f, "key derivation has a wrong {name}"),
            Self::Bound(name) => write!(f, "key derivation has {name} over the bound"),
            Self::Unsupported(name) => write!(f, "key derivation with {name} is not known here"),
            Self::Memory { needed_bytes } => {
                write!(f, "key derivation needs {needed_bytes} bytes of memory")
            }
        }
    }
}

impl StdError for KdfError {}

impl Default for Kdf {
    /// What stock writes in a new store.
    fn default() -> Self {
        Self::Argon2id { time: 4, memory_kib: 262_144, threads: 1 }
    }
}

impl Kdf {
    /// Name in CONFIG.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Argon2id { .. } => "ARGON2ID",
            Self::Scrypt { .. } => "SCRYPT",
            Self::Pbkdf2 { .. } => "PBKDF2",
        }
    }

    /// Memory that deriving takes, in bytes: of the arena, or allocated;
    /// saturates.
    #[must_use]
    pub const fn memory_bytes(&self) -> u64 {
        match *self {
            Self::Argon2id { memory_kib, .. } => memory_kib as u64 * 1024,
            Self::Scrypt { n, r, p } => {
                n.saturating_add(p as u64).saturating_add(1).saturating_mul(r as u64 * 128)
            }
            Self::Pbkdf2 { .. } => 0,
        }
    }

    /// Length of the arena for [`derive_with_arena`](Self::derive_with_arena),
    /// in blocks of 1 KiB.
    #[must_use]
    pub const fn arena_blocks(&self) -> usize {
        match *self {
            // What remains of a division in lanes of four slices is not used.
            Self::Argon2id { memory_kib, threads, .. } => {
                let slices = 4 * threads as usize;
                match slices {
                    0 => 0,
                    _ => memory_kib as usize / slices * slices,
                }
            }
            Self::Scrypt { .. } | Self::Pbkdf2 { .. } => 0,
        }
    }

    /// Whether the parameters are ones that this program works with, within
    /// the bounds of this module.
    ///
    /// # Errors
    ///
    /// [`KdfError::Field`], [`KdfError::Bound`] or [`KdfError::Unsupported`].
    pub fn check(&self) -> Result<(), KdfError> {
        match *self {
            Self::Argon2id { time, memory_kib, threads } => check_argon2(time, memory_kib, threads),
            Self::Scrypt { n, r, p } => self.check_scrypt(n, r, p),
            Self::Pbkdf2 { iterations: 0 } => Err(KdfError::Field("number of iterations")),
            Self::Pbkdf2 { iterations } if iterations > PBKDF2_ITERATIONS_MAX => {
                Err(KdfError::Bound("a number of iterations"))
            }
            Self::Pbkdf2 { .. } => Ok(()),
        }
    }

    fn check_scrypt(&self, n: u64, r: u32, p: u32) -> Result<(), KdfError> {
        if !cfg!(feature = "alloc") {
            return Err(KdfError::Unsupported("scrypt"));
        }
        if n < 2 || !n.is_power_of_two() {
            return Err(KdfError::Field("scrypt N"));
        }
        if r == 0 || p == 0 {
            return Err(KdfError::Field("scrypt R or P"));
        }
        let blocks = u64::from(r) * u64::from(p);
        if n.saturating_mul(blocks) > SCRYPT_WORK_MAX {
            return Err(KdfError::Bound("a time"));
        }
        if self.memory_bytes() > SCRYPT_MEMORY_BYTES_MAX {
            return Err(KdfError::Bound("a memory"));
        }
        Ok(())
    }

    /// Derives the key of a store. `passphrase` is taken as it is.
    ///
    /// Argon2id works in the first [`arena_blocks`](Self::arena_blocks) of
    /// `arena` and erases them, since the key could be had from them; the
    /// other functions leave `arena` alone, which may be empty then.
    ///
    /// # Errors
    ///
    /// Those of [`check`](Self::check); [`KdfError::Field`] for a salt that is
    /// too short; [`KdfError::Arena`] for a small arena; [`KdfError::Memory`]
    /// when scrypt finds no memory.
    pub fn derive_with_arena(
        &self,
        passphrase: &[u8],
        salt: &[u8],
        arena: &mut [Argon2Block],
    ) -> Result<StoreKey, KdfError> {
        self.check()?;
        if salt.len() < SALT_BYTES_MIN {
            return Err(KdfError::Field("salt"));
        }
        let mut key = StoreKey::new([0; KEY_BYTES]);
        match *self {
            Self::Argon2id { time, memory_kib, threads } => {
                let needed_blocks = self.arena_blocks();
                let lent_blocks = arena.len();
                let arena = arena
                    .get_mut(..needed_blocks)
                    .ok_or(KdfError::Arena { needed_blocks, lent_blocks })?;
                let params = Params::new(memory_kib, time, u32::from(threads), Some(KEY_BYTES));
                argon2id(params, passphrase, salt, arena, &mut key)?;
            }
            Self::Scrypt { n, r, p } => {
                scrypt(n, r, p, self.memory_bytes(), passphrase, salt, &mut key)?;
            }
            Self::Pbkdf2 { iterations } => {
                pbkdf2::pbkdf2::<Hmac<Sha256>>(passphrase, salt, iterations, &mut key.0)
                    .map_err(|_| KdfError::Field("passphrase"))?;
            }
        }
        Ok(key)
    }
}

fn check_argon2(time: u32, memory_kib: u32, threads: u8) -> Result<(), KdfError> {
    if time == 0 {
        return Err(KdfError::Field("number of passes"));
    }
    if threads == 0 {
        return Err(KdfError::Field("number of threads"));
    }
    if memory_kib < 8 * u32::from(threads) {
        return Err(KdfError::Field("memory"));
    }
    if memory_kib > ARGON2_MEMORY_KIB_MAX {
        return Err(KdfError::Bound("a memory"));
    }
    let work_kib = u64::from(time) * u64::from(memory_kib);
    if time > ARGON2_TIME_MAX || work_kib > ARGON2_WORK_KIB_MAX {
        return Err(KdfError::Bound("a time"));
    }
    Ok(())
}

fn argon2id(
    params: argon2::Result<Params>,
    passphrase: &[u8],
    salt: &[u8],
    arena: &mut [Argon2Block],
    key: &mut StoreKey,
) -> Result<(), KdfError> {
    let params = params.map_err(|_| KdfError::Field("parameter of Argon2id"))?;
    let derived = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(passphrase, salt, &mut key.0, &mut *arena);
    for block in arena {
        block.as_mut().zeroize();
    }
    derived.map_err(|_| KdfError::Field("passphrase or salt"))
}

#[cfg(feature = "alloc")]
fn scrypt(
    n: u64,
    r: u32,
    p: u32,
    memory_bytes: u64,
    passphrase: &[u8],
    salt: &[u8],
    key: &mut StoreKey,
) -> Result<(), KdfError> {
    // The crate aborts when there is no memory; ask for it here first.
    let length = usize::try_from(memory_bytes)
        .map_err(|_| KdfError::Memory { needed_bytes: memory_bytes })?;
    alloc::vec::Vec::<u8>::new()
        .try_reserve_exact(length)
        .map_err(|_| KdfError::Memory { needed_bytes: memory_bytes })?;
    let log_n = u8::try_from(n.trailing_zeros()).map_err(|_| KdfError::Field("scrypt N"))?;
    let params = scrypt::Params::new(log_n, r, p).map_err(|_| KdfError::Field("scrypt N, R, P"))?;
    scrypt::scrypt(passphrase, salt, &params, &mut key.0)
        .map_err(|_| KdfError::Field("length of a key"))
}

#[cfg(not(feature = "alloc"))]
fn scrypt(
    _n: u64,
    _r: u32,
    _p: u32,
    _memory_bytes: u64,
    _passphrase: &[u8],
    _salt: &[u8],
    _key: &mut StoreKey,
) -> Result<(), KdfError> {
    Err(KdfError::Unsupported("scrypt"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hex;
    use std::vec;

    #[test]
    fn argon2id_known_answer() {
        let kdf = Kdf::default();
        let mut arena = vec![Argon2Block::new(); kdf.arena_blocks()];
        let key = kdf.derive_with_arena(b"foobarbaz", &[0; 16], &mut arena).unwrap();
        assert_eq!(
            *key.as_bytes(),
            hex("7ab8dc9eebd2b5aba293e917b9e9d993e5c31565ad1290d13dbc1202af6fb0c6")
        );
        assert!(arena.iter().all(|block| block.as_ref().iter().all(|&word| word == 0)));
    }

    #[test]
    fn pbkdf2_known_answer() {
        let kdf = Kdf::Pbkdf2 { iterations: 100_000 };
        let key = kdf.derive_with_arena(b"foobarbaz", &[0; 16], &mut []).unwrap();
        assert_eq!(
            *key.as_bytes(),
            hex("127eda3dd5fdba7cffff55b62cf31e32b288931564ffdd74f95f4475dd399b03")
        );
    }

    /// The third vector of RFC 7914, section 12, cut to 32 bytes.
    #[cfg(feature = "alloc")]
    #[test]
    fn scrypt_known_answer() {
        let kdf = Kdf::Scrypt { n: 16_384, r: 8, p: 1 };
        let key = kdf.derive_with_arena(b"pleaseletmein", b"SodiumChloride", &mut []).unwrap();
        assert_eq!(
            *key.as_bytes(),
            hex("7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2")
        );
    }

    #[test]
    fn a_small_arena_is_told_what_is_needed() {
        let kdf = Kdf::Argon2id { time: 1, memory_kib: 70, threads: 2 };
        assert_eq!(
            kdf.derive_with_arena(b"x", &[0; 16], &mut [Argon2Block::new(); 63]).err(),
            Some(KdfError::Arena { needed_blocks: 64, lent_blocks: 63 })
        );
        assert!(kdf.derive_with_arena(b"x", &[0; 16], &mut [Argon2Block::new(); 64]).is_ok());
        assert_eq!(
            kdf.derive_with_arena(b"x", &[0; 7], &mut [Argon2Block::new(); 64]).err(),
            Some(KdfError::Field("salt"))
        );
    }

    #[test]
    fn hostile_parameters_are_refused() {
        let argon2 = |time, memory_kib, threads| Kdf::Argon2id { time, memory_kib, threads };
        let scrypt = |n, r, p| Kdf::Scrypt { n, r, p };
        for kdf in [
            argon2(0, 8192, 1),
            argon2(1, 8192, 0),
            argon2(1, 7, 1),
            argon2(1, u32::MAX, 1),
            argon2(u32::MAX, 8, 1),
            argon2(17, ARGON2_MEMORY_KIB_MAX, 1),
            scrypt(0, 8, 1),
            scrypt(3, 8, 1),
            scrypt(1 << 63, 8, 1),
            scrypt(2, u32::MAX, u32::MAX),
            scrypt(1 << 26, 8, 1),
            Kdf::Pbkdf2 { iterations: 0 },
            Kdf::Pbkdf2 { iterations: u32::MAX },
        ] {
            assert!(kdf.check().is_err(), "{kdf:?}");
            assert!(kdf.derive_with_arena(b"x", &[0; 16], &mut []).is_err(), "{kdf:?}");
        }
        assert_eq!(argon2(16, ARGON2_MEMORY_KIB_MAX, 1).check(), Ok(()));
    }

    #[test]
    fn memory() {
        assert_eq!(Kdf::default().memory_bytes(), 256 << 20);
        assert_eq!(Kdf::Scrypt { n: 32_768, r: 8, p: 1 }.memory_bytes(), (32 << 20) + 2048);
        assert_eq!(Kdf::Pbkdf2 { iterations: 1 }.memory_bytes(), 0);
    }
}
