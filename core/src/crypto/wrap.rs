//! The key of a unit, wrapped with the key of the store: `AES256-KW`.
//!
//! RFC 3394 with its default initial value, which doubles as the check that
//! the right key unwraps. Deterministic: it takes no nonce.

use aes_kw::cipher::consts::U32;
use aes_kw::{KeyInit as _, KwAes256};
use zeroize::Zeroizing;

use super::{KEY_BYTES, StoreKey};
use crate::error::FormatError;

/// Name in CONFIG, as `Encryption.SubKeyAlgorithm`.
pub const WRAP_NAME: &str = "AES256-KW";

/// Length of a wrapped key, in bytes.
pub const WRAPPED_KEY_BYTES: usize = KEY_BYTES + 8;

/// Wraps the key of a unit.
#[must_use]
pub fn wrap(key: &StoreKey, subkey: &[u8; KEY_BYTES]) -> [u8; WRAPPED_KEY_BYTES] {
    KwAes256::new(key.as_bytes().into()).wrap_fixed_key::<U32>(subkey.into()).into()
}

/// Unwraps the key of a unit. It is erased when dropped.
///
/// # Errors
///
/// [`FormatError::Seal`] when it was not wrapped with `key`, or is damaged.
pub fn unwrap(
    key: &StoreKey,
    wrapped: &[u8; WRAPPED_KEY_BYTES],
) -> Result<Zeroizing<[u8; KEY_BYTES]>, FormatError> {
    let mut subkey = Zeroizing::new([0; KEY_BYTES]);
    KwAes256::new(key.as_bytes().into())
        .unwrap_key(wrapped, &mut *subkey)
        .map_err(|_| FormatError::Seal)?;
    Ok(subkey)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hex;

    fn counting(first: u8) -> [u8; 32] {
        core::array::from_fn(|i| first + u8::try_from(i).unwrap())
    }

    #[test]
    fn known_answer() {
        let key = StoreKey::new(counting(0));
        let wrapped = wrap(&key, &counting(0x20));
        assert_eq!(
            wrapped,
            hex("04f8a3c3c302d3b0b7e94b14dcf85ad1da69cd74056ed7907d3cb49fb27799a4104db058f2901adb")
        );
        assert_eq!(*unwrap(&key, &wrapped).unwrap(), counting(0x20));
    }

    #[test]
    fn damage_and_wrong_keys_are_seen() {
        let key = StoreKey::new(counting(0));
        let wrapped = wrap(&key, &counting(0x20));
        for i in 0..WRAPPED_KEY_BYTES {
            let mut damaged = wrapped;
            damaged[i] ^= 1;
            assert_eq!(unwrap(&key, &damaged).err(), Some(FormatError::Seal));
        }
        let other = StoreKey::new(counting(1));
        assert_eq!(unwrap(&other, &wrapped).err(), Some(FormatError::Seal));
    }
}
