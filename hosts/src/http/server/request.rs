//! [`Request`]: what a client asks for, within bounds.

use std::fmt;

use super::super::connection::{Connection, LINE_TOO_LONG};
use super::super::error::HttpError;
use super::super::head::{HEAD_BYTES_MAX, Head, Length, TOO_MANY};

/// Longest first line of a request, in bytes.
pub const LINE_BYTES_MAX: usize = 8 * 1024;

/// Longest name of a method, in bytes.
const METHOD_BYTES_MAX: usize = 16;

/// The head of a request.
#[derive(Clone)]
pub struct Request {
    method: String,
    target: String,
    head: Head,
    length: Length,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers may hold keys.
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// Why a request is none.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is answered with this status, and these words.
    Bad(u16, &'static str),
    /// Nobody is there to be answered.
    Gone,
}

impl From<HttpError> for Refusal {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Malformed(rule @ (LINE_TOO_LONG | TOO_MANY)) => Self::Bad(431, rule),
            HttpError::Malformed(rule) => Self::Bad(400, rule),
            HttpError::TimedOut(_) => Self::Bad(408, "the request did not come in time"),
            _ => Self::Gone,
        }
    }
}

impl Request {
    /// Reads a head; nothing when the client has ended the connection before.
    pub(super) fn receive(connection: &mut Connection) -> Result<Option<Self>, Refusal> {
        const DOING: &str = "waiting for a request";
        let mut line = Vec::new();
        let mut is_first = true;
        // An empty line in front is some client's mistake of old.
        while is_first || line.is_empty() {
            match connection.read_line(&mut line, LINE_BYTES_MAX, DOING) {
                Err(HttpError::Lost(_)) if line.is_empty() => return Ok(None),
                other => other?,
            }
            if line.is_empty() && !is_first {
                return Err(Refusal::Bad(400, "it does not start with a request"));
            }
            is_first = false;
        }
        let mut request = Self::parse_line(&line)?;
        loop {
            connection.read_line(&mut line, HEAD_BYTES_MAX, DOING)?;
            if line.is_empty() {
                break;
            }
            request.head.push(&line)?;
        }
        request.checked().map(Some)
    }

    /// Reads the first line.
    fn parse_line(line: &[u8]) -> Result<Self, Refusal> {
        let wrong = || Refusal::Bad(400, "it does not start with a request");
        let line = std::str::from_utf8(line).map_err(|_| wrong())?;
        let mut words = line.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(wrong());
        };
        let is_method = (1..=METHOD_BYTES_MAX).contains(&method.len())
            && method.bytes().all(|byte| byte.is_ascii_uppercase());
        let is_target =
            target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic());
        let is_old = match version {
            "HTTP/1.1" => false,
            "HTTP/1.0" => true,
            other if other.starts_with("HTTP/") => {
                return Err(Refusal::Bad(505, "the version of HTTP is none of 1.0 and 1.1"));
            }
            _ => return Err(wrong()),
        };
        if !is_method || !is_target {
            return Err(wrong());
        }
        Ok(Self {
            method: method.to_owned(),
            target: target.to_owned(),
            head: Head::of_request(is_old),
            length: Length::Known(0),
        })
    }

    /// Looks at what the headers say together.
    fn checked(mut self) -> Result<Self, Refusal> {
        let hosts = self.head.values("host").take(2).count();
        if hosts > 1 || hosts == 0 && !self.head.is_old() {
            return Err(Refusal::Bad(400, "it names no host, or several"));
        }
        self.length = self.head.request_length()?;
        Ok(self)
    }

    /// Reads a head from bytes, as far as it is there: for tests.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, u16> {
        let status = |refusal| match refusal {
            Refusal::Bad(status, _) => status,
            Refusal::Gone => 0,
        };
        let mut lines =
            bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let mut request = Self::parse_line(lines.next().unwrap_or_default()).map_err(status)?;
        for line in lines.take_while(|line| !line.is_empty()) {
            request.head.push(line).map_err(|error| status(error.into()))?;
        }
        request.checked().map_err(status)
    }

    /// The method, in capital letters.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Path and query as they were sent: they start with a slash, and are visible
    /// letters of ASCII.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The first header of a name, which is given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// Whether the answer must be without content.
    pub(super) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    pub(super) fn is_old(&self) -> bool {
        self.head.is_old()
    }

    pub(super) fn keeps_connection(&self) -> bool {
        self.head.keeps_connection()
    }

    pub(super) fn length(&self) -> Length {
        self.length
    }

    /// Whether the client waits to be told that its content is wanted.
    pub(super) fn expects_continue(&self) -> bool {
        let expects = self.header("expect");
        !self.is_old() && expects.is_some_and(|text| text.eq_ignore_ascii_case("100-continue"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let request = Request::parse(b"GET /a?b HTTP/1.1\r\nHost: x\r\nRange: y\r\n\r\nz").unwrap();
        assert_eq!((request.method(), request.target()), ("GET", "/a?b"));
        assert_eq!(request.header("range"), Some("y"));
        assert!(request.keeps_connection() && !request.is_old());
        assert_eq!(request.length(), Length::Known(0));
        let request = Request::parse(b"PUT / HTTP/1.0\r\nContent-Length: 7\r\n\r\n").unwrap();
        assert!(!request.keeps_connection() && request.is_old());
        assert_eq!(request.length(), Length::Known(7));
        let shown = format!("{:?}", Request::parse(b"GET / HTTP/1.0\nAuthorization: k3y\n"));
        assert!(!shown.contains("k3y"), "{shown}");
    }

    #[test]
    fn what_is_no_request() {
        let host = "Host: x\r\n";
        for (line, headers, status) in [
            ("", host, 400),
            ("GET", host, 400),
            ("GET /", host, 400),
            ("GET  / HTTP/1.1", host, 400),
            ("GET / HTTP/1.1 ", host, 400),
            ("get / HTTP/1.1", host, 400),
            ("GET x HTTP/1.1", host, 400),
            ("GET http://x/ HTTP/1.1", host, 400),
            ("GET * HTTP/1.1", host, 400),
            ("GET /\t HTTP/1.1", host, 400),
            ("GET /é HTTP/1.1", host, 400),
            ("GET / HTTP/2.0", host, 505),
            ("GET / FTP/1.1", host, 400),
            ("GETGETGETGETGETGET / HTTP/1.1", host, 400),
            ("GET / HTTP/1.1", "", 400),
            ("GET / HTTP/1.1", "Host: x\r\nHost: x\r\n", 400),
            ("GET / HTTP/1.1", "Host: x\r\n folded\r\n", 400),
            ("GET / HTTP/1.1", "Host : x\r\n", 400),
            ("PUT / HTTP/1.1", "Host: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n", 400),
            (
                "PUT / HTTP/1.1",
                "Host: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
                400,
            ),
            ("PUT / HTTP/1.1", "Host: x\r\nTransfer-Encoding: gzip, chunked\r\n", 400),
            ("PUT / HTTP/1.1", "Host: x\r\nTransfer-Encoding: xchunked\r\n", 400),
            ("PUT / HTTP/1.1", "Host: x\r\nContent-Length: -1\r\n", 400),
            ("PUT / HTTP/1.0", "Transfer-Encoding: chunked\r\n", 400),
        ] {
            let text = format!("{line}\r\n{headers}\r\n");
            assert_eq!(Request::parse(text.as_bytes()).unwrap_err(), status, "{text}");
        }
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1000));
        assert_eq!(Request::parse(many.as_bytes()).unwrap_err(), 431);
    }
}
