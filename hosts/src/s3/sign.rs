//! Signatures of requests: AWS Signature Version 4.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::credentials::Credentials;
use crate::http::date::compact;

/// A request to be signed.
#[derive(Debug)]
pub(super) struct Signing<'s> {
    pub(super) method: &'s str,
    /// Path, escaped.
    pub(super) path: &'s str,
    /// Names and values, not escaped, in any order.
    pub(super) query: &'s [(&'s str, &'s [u8])],
    /// All headers but `Host` and what this adds.
    pub(super) headers: &'s [(String, Zeroizing<String>)],
    /// What the header `Host` says, with the port.
    pub(super) host: &'s str,
    /// SHA-256 of the body.
    pub(super) payload: &'s [u8; 32],
    pub(super) region: &'s str,
    /// Seconds since 1970.
    pub(super) now_secs: i64,
}

/// Hexadecimal digits in lower case.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Escapes everything but letters, digits and `-_.~`, and slashes if `keep_slash`.
pub(super) fn escaped(bytes: &[u8], keep_slash: bool) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                text.push(char::from(byte));
            }
            b'/' if keep_slash => text.push('/'),
            _ => {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}

/// The query, escaped and sorted, as it is sent and signed.
pub(super) fn query_text(query: &[(&str, &[u8])]) -> String {
    let mut pairs: Vec<(String, String)> = query
        .iter()
        .map(|(name, value)| (escaped(name.as_bytes(), false), escaped(value, false)))
        .collect();
    pairs.sort();
    let pairs: Vec<String> =
        pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

impl Signing<'_> {
    /// The headers that a signed request has beside the given ones.
    pub(super) fn headers(&self, credentials: &Credentials) -> Vec<(String, Zeroizing<String>)> {
        let time = compact(self.now_secs);
        let pair = |name: &str, value: String| (name.to_owned(), Zeroizing::new(value));
        let mut added =
            vec![pair("x-amz-content-sha256", hex(self.payload)), pair("x-amz-date", time.clone())];
        if let Some(token) = &credentials.token {
            added.push(("x-amz-security-token".to_owned(), token.clone()));
        }
        let value = self.authorization(credentials, &added, &time);
        added.push(pair("Authorization", value));
        added
    }

    fn authorization(
        &self,
        credentials: &Credentials,
        added: &[(String, Zeroizing<String>)],
        time: &str,
    ) -> String {
        let mut headers: Vec<(String, &str)> = self
            .headers
            .iter()
            .chain(added)
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
            .collect();
        headers.push(("host".to_owned(), self.host));
        headers.sort();
        let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(";");
        // It holds the session token and keys of encryption.
        let mut canonical = Zeroizing::new(String::with_capacity(4096));
        for part in [self.method, "\n", self.path, "\n", &query_text(self.query), "\n"] {
            canonical.push_str(part);
        }
        for (name, value) in &headers {
            for part in [name, ":", value, "\n"] {
                canonical.push_str(part);
            }
        }
        for part in ["\n", &names, "\n", &hex(self.payload)] {
            canonical.push_str(part);
        }
        let day = time.get(..8).unwrap_or_default();
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let digest = hex(&Sha256::digest(canonical.as_bytes()));
        let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}");
        let mut key = Zeroizing::new([b"AWS4", credentials.secret_key.as_bytes()].concat());
        for part in [day, self.region, "s3", "aws4_request"] {
            key = Zeroizing::new(hmac(&key, part.as_bytes()).to_vec());
        }
        let signature = hex(&hmac(&key, to_sign.as_bytes()));
        let access_key = &credentials.access_key;
        format!(
            "AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={names}, \
             Signature={signature}"
        )
    }
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    // Keys of any length are good.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the documentation of S3, "Signature Calculations for the
    /// Authorization Header".
    fn signature(
        (method, path): (&str, &str),
        query: &[(&str, &[u8])],
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> String {
        let credentials = Credentials {
            access_key: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_key: Zeroizing::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into()),
            token: None,
            expires_secs: None,
        };
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Zeroizing::new((*value).to_owned())))
            .collect();
        let signing = Signing {
            method,
            path,
            query,
            headers: &headers,
            host: "examplebucket.s3.amazonaws.com",
            payload: &Sha256::digest(body).into(),
            region: "us-east-1",
            now_secs: 1_369_353_600,
        };
        let added = signing.headers(&credentials);
        let value = &added.iter().find(|(name, _)| name == "Authorization").unwrap().1;
        value.rsplit_once("Signature=").unwrap().1.to_owned()
    }

    #[test]
    fn published_examples() {
        assert_eq!(
            signature(("GET", "/test.txt"), &[], &[("Range", "bytes=0-9")], b""),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        let headers = [
            ("Date", "Fri, 24 May 2013 00:00:00 GMT"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ];
        assert_eq!(
            signature(("PUT", "/test%24file.text"), &[], &headers, b"Welcome to Amazon S3."),
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
        );
        assert_eq!(
            signature(("GET", "/"), &[("lifecycle", b"")], &[], b""),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
        );
        assert_eq!(
            signature(("GET", "/"), &[("prefix", b"J"), ("max-keys", b"2")], &[], b""),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        );
    }

    #[test]
    fn escapes() {
        assert_eq!(escaped(b"a/b c+\xff~", true), "a/b%20c%2B%FF~");
        assert_eq!(escaped(b"a/b", false), "a%2Fb");
        assert_eq!(query_text(&[("b", b"1"), ("a-b", b"&"), ("a", b"")]), "a=&a-b=%26&b=1");
        assert_eq!(hex(&[0, 0xab]), "00ab");
    }
}
