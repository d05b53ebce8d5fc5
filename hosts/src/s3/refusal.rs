//! [`Refusal`]: why a server did not do what it was asked, and what to do.

use std::io::BufReader;
use std::ops::ControlFlow;

use tiroir_core::host::HostErrorKind;

use super::place::Place;
use super::xml::{self, Receiver};
use crate::env::now;
use crate::error::{HostsError, Result};
use crate::http::date::{parse_http, rfc3339};
use crate::http::head::Head;

/// Longest refusal that is read, in bytes.
pub(super) const REFUSAL_BYTES_MAX: usize = 16 * 1024;

/// What a server says of a request that failed.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// Its name for it: `NoSuchKey`. Empty if it gave none.
    pub(super) code: String,
    message: String,
    /// Where the bucket is.
    pub(super) region: Option<String>,
    /// Which host to ask.
    endpoint: Option<String>,
    /// Its clock.
    date: Option<i64>,
}

impl Receiver for Refusal {
    fn element(&mut self, parent: &str, name: &str, text: &str) -> Result<ControlFlow<()>> {
        if parent == "Error" {
            let text = || text.trim().to_owned();
            match name {
                "Code" => self.code = text(),
                "Message" => self.message = text(),
                "Region" => self.region = Some(text()),
                "Endpoint" => self.endpoint = Some(text()),
                _ => {}
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Refusal {
    /// From the head of an answer, and as much of its content as was read.
    pub(super) fn parse(head: &Head, content: &[u8]) -> Self {
        let mut refusal = Self { status: head.status(), ..Self::default() };
        if xml::read(BufReader::new(content), &mut refusal).is_err() && refusal.code.is_empty() {
            // A proxy in between, or a server that is none of S3.
            let shown = content.get(..content.len().min(200)).unwrap_or_default();
            refusal.message = String::from_utf8_lossy(shown).into_owned();
        }
        let region = head.header("x-amz-bucket-region").map(str::to_owned);
        refusal.region = region.or(refusal.region.take()).filter(|region| is_region(region));
        let location = head.header("location").map(str::to_owned);
        refusal.endpoint = refusal.endpoint.take().or(location);
        refusal.date = head.header("date").and_then(parse_http).map(|time| time.secs);
        refusal
    }

    /// Whether the server may do it later.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self.status, 408 | 429 | 500 | 502 | 503 | 504)
            || matches!(&*self.code, "SlowDown" | "RequestTimeout" | "InternalError" | "Throttling")
    }

    /// Whether the key has ended.
    pub(super) fn is_expired(&self) -> bool {
        matches!(&*self.code, "ExpiredToken" | "TokenRefreshRequired")
    }

    /// Whether the server knows nothing of what was asked of it.
    pub(super) fn is_unknown_request(&self) -> bool {
        self.status == 501 || matches!(&*self.code, "NotImplemented" | "MethodNotAllowed")
    }

    /// Whether there is no such object.
    pub(super) fn is_no_object(&self) -> bool {
        // A HEAD is refused without a word.
        self.code == "NoSuchKey" || self.status == 404 && self.code.is_empty()
    }

    /// Whether the server has nothing to do with checksums in headers.
    pub(super) fn is_about_checksums(&self) -> bool {
        let text = self.message.to_ascii_lowercase();
        matches!(self.status, 400 | 501)
            && (text.contains("x-amz-checksum") || text.contains("x-amz-sdk"))
            || self.is_unknown_request()
    }

    fn kind(&self) -> HostErrorKind {
        match (&*self.code, self.status) {
            ("NoSuchKey" | "NoSuchBucket" | "NoSuchUpload" | "NoSuchVersion", _) => {
                HostErrorKind::NotFound
            }
            ("QuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage", _) | (_, 507) => {
                HostErrorKind::NoSpace
            }
            ("RequestTimeTooSkewed" | "InvalidObjectState", _) => HostErrorKind::Other,
            ("BucketAlreadyExists" | "BucketAlreadyOwnedByYou", _) | (_, 412) => {
                HostErrorKind::AlreadyExists
            }
            ("", 404) => HostErrorKind::NotFound,
            (_, 401 | 403)
            | ("InvalidAccessKeyId" | "ExpiredToken" | "InvalidToken" | "XAdminUserNotFound", _) => {
                HostErrorKind::PermissionDenied
            }
            _ => HostErrorKind::Other,
        }
    }

    /// As an error of this crate.
    pub(super) fn at(
        &self,
        operation: &'static str,
        place: &Place,
        key: Option<&[u8]>,
    ) -> HostsError {
        HostsError::remote(self.kind(), operation, &place.shown(key), self.words(place))
    }

    fn words(&self, place: &Place) -> String {
        let bucket = &place.bucket;
        match &*self.code {
            "NoSuchBucket" => format!("there is no bucket {bucket}"),
            "RequestTimeTooSkewed" => {
                let theirs = self.date.map_or_else(|| "another time".to_owned(), rfc3339);
                let ours = rfc3339(now().secs);
                format!("the clocks differ: it is {ours} here and {theirs} on the server. Set this machine's")
            }
            "InvalidObjectState" => "it is in an archive (storage class GLACIER or DEEP_ARCHIVE), and has to \
                                     be restored from there with the provider's tools before it is read"
                .to_owned(),
            "SignatureDoesNotMatch" => {
                "the signature is not the server's: secret_access_key, region or the host is another".to_owned()
            }
            "InvalidAccessKeyId" => "the server does not know access_key".to_owned(),
            "ExpiredToken" => "the key of this session has ended".to_owned(),
            _ if matches!(self.status, 300..=399) => {
                let other = self.endpoint.as_deref().unwrap_or("another host");
                format!("the bucket is elsewhere ({other}). Nothing is sent there: give that host in the location")
            }
            _ => self.plain_words(),
        }
    }

    fn plain_words(&self) -> String {
        let what = match (&*self.code, self.status) {
            ("", 404) => "it is not there",
            ("", 401 | 403) => "access denied",
            ("", 412) => "it is there already, or has changed",
            (code, _) => code,
        };
        let colon = if what.is_empty() || self.message.is_empty() { "" } else { ": " };
        let message = &self.message;
        format!("{what}{colon}{message} (status {})", self.status)
    }
}

/// Whether it can be the name of a region: it becomes a part of a signature and
/// of a header.
pub(super) fn is_region(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(is_letter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiroir_core::host::HostError as _;

    fn refusal(status: u16, headers: &[&str], content: &str) -> Refusal {
        let mut head = Head::parse_status(format!("HTTP/1.1 {status} X").as_bytes()).unwrap();
        for header in headers {
            head.push(header.as_bytes()).unwrap();
        }
        Refusal::parse(&head, content.as_bytes())
    }

    fn told(refusal: &Refusal) -> (HostErrorKind, String) {
        let address = crate::address::Address::parse(b"nas/b").unwrap();
        let place = Place::new(&address, &crate::options::Options::default()).unwrap();
        let error = refusal.at("read", &place, Some(b"k"));
        (error.kind(), error.to_string())
    }

    fn code(status: u16, code: &str) -> Refusal {
        refusal(status, &[], &format!("<Error><Code>{code}</Code><Message>m</Message></Error>"))
    }

    #[test]
    fn kinds_and_words() {
        let (kind, text) = told(&code(404, "NoSuchBucket"));
        assert_eq!(
            (kind, &*text),
            (HostErrorKind::NotFound, "cannot read s3://nas/b/k: there is no bucket b")
        );
        assert_eq!(told(&code(403, "AccessDenied")).0, HostErrorKind::PermissionDenied);
        assert_eq!(told(&code(507, "X")).0, HostErrorKind::NoSpace);
        assert_eq!(told(&refusal(404, &[], "")).0, HostErrorKind::NotFound);
        assert_eq!(told(&refusal(412, &[], "")).0, HostErrorKind::AlreadyExists);
        let (kind, text) = told(&code(403, "InvalidObjectState"));
        assert!(kind == HostErrorKind::Other && text.contains("archive"), "{text}");
        let skewed = "<Error><Code>RequestTimeTooSkewed</Code></Error>";
        let (_, text) = told(&refusal(403, &["Date: Sun, 06 Nov 1994 08:49:37 GMT"], skewed));
        assert!(text.contains("1994-11-06T08:49:37Z") && text.contains("clocks"), "{text}");
        let (_, text) = told(&refusal(307, &["Location: https://evil.example/"], ""));
        assert!(text.contains("evil.example") && text.contains("Nothing is sent"), "{text}");
        let (_, text) = told(&refusal(418, &[], "<html>I am a proxy</html>"));
        assert!(text.contains("418"), "{text}");
        assert!(code(503, "SlowDown").is_transient() && code(400, "RequestTimeout").is_transient());
    }

    #[test]
    fn regions_are_checked() {
        let text = "<Error><Code>X</Code><Region>eu-west-1</Region></Error>";
        assert_eq!(refusal(400, &[], text).region.as_deref(), Some("eu-west-1"));
        let header = ["x-amz-bucket-region: us-west-2"];
        assert_eq!(refusal(301, &header, text).region.as_deref(), Some("us-west-2"));
        assert_eq!(refusal(301, &["x-amz-bucket-region: a/b"], "").region, None);
    }
}
