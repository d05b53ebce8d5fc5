//! [`Head`]: what is said before the content, within bounds.

use std::fmt;

use super::error::HttpError;

/// Longest head of an answer or a request, in bytes.
pub(super) const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Most lines in it.
const LINES_MAX: usize = 128;

/// What is said of a head with too many headers, or too long ones.
pub(super) const TOO_MANY: &str = "it has too many headers";

/// Status and headers of an answer, or headers of a request.
#[derive(Clone, Default)]
pub(crate) struct Head {
    /// 0 in a request.
    status: u16,
    /// The peer may speak HTTP/1.0: the connection ends with the answer.
    is_old: bool,
    /// Lines `name: value`, each ended by a line feed.
    text: String,
    lines: usize,
}

/// How long the content is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Length {
    /// So many bytes.
    Known(u64),
    /// In pieces, each with its length.
    Chunked,
    /// Until the connection ends.
    UntilClose,
}

impl Head {
    /// Reads the first line of an answer.
    pub(crate) fn parse_status(line: &[u8]) -> Result<Self, HttpError> {
        let malformed = HttpError::Malformed("it does not start as one of HTTP/1");
        let Some(rest) = line.strip_prefix(b"HTTP/1.") else { return Err(malformed) };
        let (is_old, rest) = match rest {
            [b'0', b' ', rest @ ..] => (true, rest),
            [b'1', b' ', rest @ ..] => (false, rest),
            _ => return Err(malformed),
        };
        let ends = rest.get(3).is_none_or(|byte| *byte == b' ');
        let digits = rest.get(..3).filter(|digits| ends && digits.iter().all(u8::is_ascii_digit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let status = digits.and_then(|digits| digits.parse().ok()).filter(|code| *code >= 100);
        let status = status.ok_or(malformed)?;
        Ok(Self { status, is_old, ..Self::default() })
    }

    /// The head of a request, without headers yet.
    pub(super) fn of_request(is_old: bool) -> Self {
        Self { is_old, ..Self::default() }
    }

    /// Takes in a header.
    pub(crate) fn push(&mut self, line: &[u8]) -> Result<(), HttpError> {
        self.lines += 1;
        if self.lines > LINES_MAX || self.text.len() + line.len() >= HEAD_BYTES_MAX {
            return Err(HttpError::Malformed(TOO_MANY));
        }
        let wrong = HttpError::Malformed("a header is none");
        let colon = line.iter().position(|byte| *byte == b':').filter(|colon| *colon > 0);
        let Some(colon) = colon else { return Err(wrong) };
        // Spaces there have made two servers see two different requests.
        let is_name = line[..colon].iter().all(|byte| byte.is_ascii_graphic());
        if !is_name || line.iter().any(|byte| matches!(byte, 0 | b'\r')) {
            return Err(wrong);
        }
        // Values of old servers may be in any encoding: what is not UTF-8 is
        // replaced, and means nothing to us.
        self.text.push_str(&String::from_utf8_lossy(line));
        self.text.push('\n');
        Ok(())
    }

    /// The status, from 100 on.
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// The first header of a name, in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// All values of headers of a name, in lower case.
    pub(super) fn values<'h>(&'h self, name: &str) -> impl Iterator<Item = &'h str> {
        self.headers()
            .filter(move |header| header.0.eq_ignore_ascii_case(name))
            .map(|header| header.1)
    }

    /// All headers.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name, value.trim()))
    }

    /// How long the content of an answer to `method` is.
    pub(super) fn length(&self, method: &str) -> Result<Length, HttpError> {
        if method == "HEAD" || matches!(self.status, 100..=199 | 204 | 304) {
            return Ok(Length::Known(0));
        }
        Ok(self.told_length()?.unwrap_or(Length::UntilClose))
    }

    /// How long the content of a request is.
    pub(super) fn request_length(&self) -> Result<Length, HttpError> {
        Ok(self.told_length()?.unwrap_or(Length::Known(0)))
    }

    fn told_length(&self) -> Result<Option<Length>, HttpError> {
        if let Some(coding) = self.header("transfer-encoding") {
            // Both lengths at once are two messages in one: not with us.
            let is_alone = self.header("content-length").is_none()
                && self.values("transfer-encoding").nth(1).is_none();
            return match coding {
                "chunked" | "Chunked" if is_alone && !self.is_old => Ok(Some(Length::Chunked)),
                _ => Err(HttpError::Malformed(
                    "its length is told in two ways, or in an unknown one",
                )),
            };
        }
        Ok(self.declared_length()?.map(Length::Known))
    }

    /// What `Content-Length` says, also in an answer to `HEAD`.
    pub(crate) fn declared_length(&self) -> Result<Option<u64>, HttpError> {
        let wrong = HttpError::Malformed("its length is no number");
        let mut length = None;
        for value in self.values("content-length") {
            let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            let Some(bytes) = value.parse().ok().filter(|_| is_number) else { return Err(wrong) };
            if length.is_some_and(|length| length != bytes) {
                return Err(wrong);
            }
            length = Some(bytes);
        }
        Ok(length)
    }

    /// Whether it is of HTTP/1.0.
    pub(super) fn is_old(&self) -> bool {
        self.is_old
    }

    /// Whether the connection may be used for a further request.
    pub(super) fn keeps_connection(&self) -> bool {
        let mut words = self.values("connection").flat_map(|value| value.split(','));
        !self.is_old && !words.any(|word| word.trim().eq_ignore_ascii_case("close"))
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers of requests may hold keys.
        f.debug_struct("Head").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Total length that `Content-Range: bytes 0-9/100` tells.
pub(crate) fn total_of_range(value: &str) -> Option<u64> {
    let total = value.strip_prefix("bytes ")?.rsplit_once('/')?.1;
    total.parse().ok()
}

/// First byte that `Content-Range: bytes 0-9/100` tells.
pub(crate) fn start_of_range(value: &str) -> Option<u64> {
    value.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

/// Reads the head of an answer from bytes, as far as it is there: for tests.
#[cfg(any(test, fuzzing))]
pub(crate) fn parse(bytes: &[u8], method: &str) -> bool {
    let mut lines =
        bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let Ok(mut head) = Head::parse_status(lines.next().unwrap_or_default()) else { return false };
    for line in lines.take_while(|line| !line.is_empty()) {
        if head.push(line).is_err() {
            return false;
        }
    }
    assert!(head.text.len() <= 3 * HEAD_BYTES_MAX && head.status() >= 100);
    for (name, value) in head.headers() {
        assert!(!name.is_empty() && !value.contains(['\n', '\r', '\0']));
        let _ = (total_of_range(value), start_of_range(value));
        let _ = (super::date::parse_http(value), super::date::parse_rfc3339(value));
    }
    let _ = (head.keeps_connection(), head.declared_length());
    head.length(method).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(lines: &[&str]) -> Result<Head, HttpError> {
        let mut head = Head::parse_status(lines[0].as_bytes())?;
        for line in &lines[1..] {
            head.push(line.as_bytes())?;
        }
        Ok(head)
    }

    #[test]
    fn lengths() {
        let length = |lines: &[&str]| head(lines).and_then(|head| head.length("GET"));
        let ok = "HTTP/1.1 200 OK";
        assert_eq!(length(&[ok, "Content-Length: 12"]).unwrap(), Length::Known(12));
        assert_eq!(
            length(&[ok, "content-length:12", "Content-Length: 12"]).unwrap(),
            Length::Known(12)
        );
        assert_eq!(length(&[ok, "Transfer-Encoding: chunked"]).unwrap(), Length::Chunked);
        assert_eq!(length(&[ok]).unwrap(), Length::UntilClose);
        assert_eq!(length(&["HTTP/1.1 204", "Content-Length: 7"]).unwrap(), Length::Known(0));
        for lines in [
            &[ok, "Content-Length: 1", "Content-Length: 2"][..],
            &[ok, "Content-Length: -1"],
            &[ok, "Content-Length: +1"],
            &[ok, "Content-Length: 99999999999999999999"],
            &[ok, "Content-Length: 1", "Transfer-Encoding: chunked"],
            &[ok, "Transfer-Encoding: gzip, chunked"],
            &[ok, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
            &["HTTP/1.0 200 OK", "Transfer-Encoding: chunked"],
        ] {
            assert!(length(lines).is_err(), "{lines:?}");
        }
    }

    #[test]
    fn what_is_no_head() {
        for lines in [
            &["HTTP/2 200"][..],
            &["HTTP/1.1 99 x"],
            &["HTTP/1.1 2000 x"],
            &["HTTP/1.1  200"],
            &["ICY 200 OK"],
            &["HTTP/1.1 200 OK", "no colon"],
            &["HTTP/1.1 200 OK", ": nameless"],
            &["HTTP/1.1 200 OK", "A: b", " folded"],
            &["HTTP/1.1 200 OK", "Content-Length : 1"],
            &["HTTP/1.1 200 OK", "a: b\rc: d"],
        ] {
            assert!(head(lines).is_err(), "{lines:?}");
        }
        let mut many = Head::parse_status(b"HTTP/1.1 200 OK").unwrap();
        assert!((0..1000).any(|_| many.push(b"a: b").is_err()));
        let mut long = Head::parse_status(b"HTTP/1.1 200 OK").unwrap();
        assert!((0..100).any(|_| long.push(&[b"a:".as_slice(), &[b'x'; 1000]].concat()).is_err()));
    }

    #[test]
    fn heads_from_bytes() {
        assert!(parse(b"HTTP/1.1 200 OK\r\na: b\r\n\r\nx", "GET"));
        assert!(!parse(b"HTTP/1.1 200 OK\r\na\r\n", "GET") && !parse(b"", "GET"));
    }

    #[test]
    fn headers_are_found() {
        let head = head(&["HTTP/1.1 206 Partial", "ETag: \"x\"", "connection: x, Close"]).unwrap();
        assert_eq!((head.status(), head.header("etag")), (206, Some("\"x\"")));
        assert!(!head.keeps_connection());
        assert_eq!(total_of_range("bytes 0-9/100"), Some(100));
        assert_eq!(start_of_range("bytes 5-9/100"), Some(5));
        assert_eq!(total_of_range("bytes */7"), Some(7));
        assert_eq!(total_of_range("bytes 0-9/*"), None);
    }
}
