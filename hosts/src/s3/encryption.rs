//! The key that a server encrypts with and forgets: SSE-C.

use zeroize::Zeroizing;

use crate::error::Result;
use crate::options::{Options, refused};

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64, with its padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let number = group.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        let number = number << (8 * (3 - group.len()));
        for place in 0..4 {
            let letter = LETTERS[(number >> (18 - 6 * place) & 63) as usize];
            text.push(if place > group.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

/// Reads the 32 bytes of a key.
fn key(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    let digits = text.trim_end_matches('=').as_bytes();
    if digits.len() != 43 || text.len() > 44 {
        return None;
    }
    let (mut bits, mut held, mut at) = (0u32, 0, 0);
    for digit in digits {
        let value = LETTERS.iter().position(|letter| letter == digit)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        held += 6;
        if held >= 8 {
            held -= 8;
            *key.get_mut(at)? = u8::try_from(bits >> held & 0xff).ok()?;
            at += 1;
        }
        bits &= (1 << held) - 1;
    }
    Some(key)
}

/// The headers for the option `sse_customer_key`: 32 bytes in base64.
pub(super) fn headers(options: &Options) -> Result<Vec<(String, Zeroizing<String>)>> {
    const NAME: &str = "x-amz-server-side-encryption-customer";
    let Some(text) = options.text("sse_customer_key") else { return Ok(Vec::new()) };
    let key = key(text).ok_or_else(|| refused("sse_customer_key", "it is 32 bytes in base64"))?;
    let pair = |name: &str, value| (format!("{NAME}-{name}"), Zeroizing::new(value));
    Ok(vec![
        pair("algorithm", "AES256".to_owned()),
        pair("key", base64(&*key)),
        pair("key-MD5", base64(&md5::compute(*key).0)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_both_ways() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        let bytes: [u8; 32] = std::array::from_fn(|index| u8::try_from(index * 8 + 3).unwrap());
        assert_eq!(*key(&base64(&bytes)).unwrap(), bytes);
        for text in ["", "Zg==", &"A".repeat(44), &"-".repeat(43)] {
            assert!(key(text).is_none(), "{text}");
        }
    }

    #[test]
    fn headers_of_a_key() {
        let text = base64(&[7; 32]);
        let options = [("sse_customer_key", text.as_str())].into_iter().collect();
        let headers = headers(&options).unwrap();
        assert_eq!(headers.len(), 3);
        assert_eq!(headers[2].1.as_str(), base64(&md5::compute([7; 32]).0));
    }
}
