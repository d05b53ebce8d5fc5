//! [`HttpFile`]: a file on any web server that hands out parts of it.

use std::fmt;

use tiroir_core::host::HostErrorKind;
use zeroize::Zeroizing;

use super::Endpoint;
use super::client::{Client, Payload, Request};
use super::error::HttpError;
use super::head::{start_of_range, total_of_range};
use super::response::Response;
use super::retry::asked_pause;
use crate::address::Address;
use crate::error::{HostsError, Result};
use crate::options::Options;
use crate::rate::Limits;

/// Options that are read here and in [`crate::tls`].
pub const OPTIONS: [&str; 5] =
    ["auth_token", "timeout", "tls_ca", "tls_fingerprint", "tls_insecure_no_verify"];

/// Bytes asked for at once where one reads on and on, at most.
const WINDOW_BYTES_MAX: u64 = 1 << 20;

/// Bytes that are rather read and thrown away than asked around: as long as they
/// are on their way for a moment only.
const SKIP_BYTES_MAX: u64 = 64 * 1024;

/// An answer with a part of the file.
#[derive(Debug)]
struct Open {
    /// Where its next byte belongs.
    at: u64,
    /// Where it ends.
    end: u64,
    response: Response,
}

/// A file on a web server, read in parts as HTTP has them.
///
/// Where one reads on, more and more is asked for at once, and arrives while what
/// came before is worked on. Each answer must be of the file that the first one was
/// of, by its length and by what the server says of its version.
///
/// Takes a connection of 16 KiB, with TLS some 100 KiB.
pub struct HttpFile {
    client: Client,
    target: String,
    headers: Vec<(String, Zeroizing<String>)>,
    length_bytes: u64,
    /// `ETag`, else `Last-Modified`.
    version: Option<String>,
    open: Option<Open>,
    /// Where the last read ended.
    read_on: Option<u64>,
    window_bytes: u64,
}

impl fmt::Debug for HttpFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers may hold a token.
        f.debug_struct("HttpFile").field("target", &self.target).finish_non_exhaustive()
    }
}

impl HttpFile {
    /// The file that an address and [`OPTIONS`] name. Its first byte is asked for.
    ///
    /// # Errors
    ///
    /// Options that are not understood; of kind *not found* where there is no such
    /// file; that the server hands out whole files only.
    pub fn open(
        address: &Address,
        is_tls: bool,
        options: &Options,
        limits: Limits,
    ) -> Result<Self> {
        let endpoint = Endpoint { is_tls, host: address.host.clone(), port: address.port };
        let mut headers = Vec::new();
        if let Some(token) = options.text("auth_token") {
            let value = Zeroizing::new(format!("Bearer {token}"));
            headers.push(("Authorization".to_owned(), value));
        }
        let mut client = Client::new(endpoint, options)?;
        client.set_limits(limits);
        let mut file = Self {
            client,
            target: as_target(&address.path),
            headers,
            length_bytes: 0,
            version: None,
            open: None,
            read_on: None,
            window_bytes: 0,
        };
        let response = file.ask(0, 1)?;
        let told = response.head().header("content-range").and_then(total_of_range);
        file.length_bytes = told.ok_or_else(|| {
            file.broken(HttpError::Malformed("it does not tell how long the file is"))
        })?;
        file.version = version_of(&response);
        file.client.finish(response);
        Ok(file)
    }

    /// Where the file is, to be shown.
    #[must_use]
    pub fn location(&self) -> String {
        let endpoint = self.client.endpoint();
        let scheme = if endpoint.is_tls { "https" } else { "http" };
        format!("{scheme}://{}{}", endpoint.authority(), self.target)
    }

    /// Length of the file in bytes.
    #[must_use]
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// Reads from `offset_bytes` on and returns how many bytes of `into` were
    /// filled: fewer than asked at the end of the file only.
    ///
    /// # Errors
    ///
    /// Of the server, and that the file is another by now.
    pub fn read_at(&mut self, offset_bytes: u64, into: &mut [u8]) -> Result<usize> {
        let left = self.length_bytes.saturating_sub(offset_bytes);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
        let wanted = &mut into[..wanted];
        let reads_on = self.read_on == Some(offset_bytes);
        self.window_bytes = match reads_on {
            true => (self.window_bytes * 4).max(4 * wanted.len() as u64).min(WINDOW_BYTES_MAX),
            false => 0,
        };
        let (mut filled, mut attempts) = (0, self.client.attempts());
        while filled < wanted.len() {
            match self.read_some(offset_bytes + filled as u64, &mut wanted[filled..])? {
                Ok(0) => return Err(self.broken(HttpError::Malformed("it is too short"))),
                Ok(read) => filled += read,
                Err(error) => {
                    self.open = None;
                    if !error.is_transient() || !attempts.again(None) {
                        return Err(self.broken(error));
                    }
                }
            }
        }
        self.read_on = Some(offset_bytes + filled as u64);
        Ok(filled)
    }

    /// Reads what comes next at `at`. The inner error is of the connection.
    fn read_some(
        &mut self,
        at: u64,
        into: &mut [u8],
    ) -> Result<std::result::Result<usize, HttpError>> {
        if let Err(error) = self.skip_to(at) {
            return Ok(Err(error));
        }
        if self.open.is_none() {
            let count = self.window_bytes.max(into.len() as u64);
            let end = at.saturating_add(count).min(self.length_bytes);
            let response = self.ask(at, end - at)?;
            self.check(&response)?;
            self.open = Some(Open { at, end, response });
        }
        let Some(open) = &mut self.open else { return Ok(Ok(0)) };
        let left = usize::try_from(open.end - open.at).unwrap_or(usize::MAX);
        let count = left.min(into.len());
        let read = open.response.read(&mut into[..count]);
        if let Ok(read) = read {
            open.at += read as u64;
        }
        Ok(read)
    }

    /// Goes on in the answer at hand if `at` is in it and near, and ends it else.
    fn skip_to(&mut self, at: u64) -> std::result::Result<(), HttpError> {
        let mut thrown = [0; 4096];
        while let Some(open) = &mut self.open {
            if open.at == at && at < open.end {
                break;
            }
            let is_near = open.at < at && at < open.end && at - open.at <= SKIP_BYTES_MAX;
            if !is_near {
                if let Some(open) = self.open.take() {
                    self.client.finish(open.response);
                }
                break;
            }
            let count = usize::try_from(at - open.at).unwrap_or(thrown.len()).min(thrown.len());
            match open.response.read(&mut thrown[..count])? {
                0 => return Err(HttpError::Malformed("it is too short")),
                read => open.at += read as u64,
            }
        }
        Ok(())
    }

    /// Asks for a part, until it comes, is refused, or was asked for often enough.
    fn ask(&mut self, at: u64, count: u64) -> Result<Response> {
        let last = at.saturating_add(count.max(1)) - 1;
        let mut headers = self.headers.clone();
        headers.push(("Range".to_owned(), Zeroizing::new(format!("bytes={at}-{last}"))));
        let mut attempts = self.client.attempts();
        loop {
            let payload = Payload::None;
            let request =
                Request { method: "GET", target: &self.target, headers: &headers, payload };
            let response = match self.client.send(&request) {
                Ok(response) => response,
                Err(error) if error.is_transient() && attempts.again(None) => continue,
                Err(error) => return Err(self.broken(error)),
            };
            match response.status() {
                206 => {
                    let told = response.head().header("content-range").and_then(start_of_range);
                    if told == Some(at) {
                        return Ok(response);
                    }
                    let rule = "it is not the part that was asked for";
                    return Err(self.broken(HttpError::Malformed(rule)));
                }
                429 | 500 | 502 | 503 | 504 => {
                    let pause = asked_pause(response.head().header("retry-after"));
                    if attempts.again(pause) {
                        continue;
                    }
                }
                _ => {}
            }
            return Err(self.refused(response));
        }
    }

    /// Whether an answer is of the file that was opened.
    fn check(&self, response: &Response) -> Result<()> {
        let total = response.head().header("content-range").and_then(total_of_range);
        if total == Some(self.length_bytes) && version_of(response) == self.version {
            return Ok(());
        }
        let rule = "the file was replaced on the server meanwhile: begin anew";
        let kind = HostErrorKind::Other;
        Err(HostsError::rule(kind, "read", self.location().as_bytes(), rule))
    }

    fn broken(&self, error: HttpError) -> HostsError {
        error.at("read", self.location().as_bytes())
    }

    fn refused(&mut self, response: Response) -> HostsError {
        let status = response.status();
        let elsewhere = response.head().header("location").unwrap_or_default().to_owned();
        // All of a long file would come: the connection is ended with it.
        drop(response);
        let (kind, words) = match status {
            200 => (
                HostErrorKind::Other,
                "the server hands out whole files only, and parts of them are needed (HTTP \
                 ranges): take another server, or fetch the archive first"
                    .to_owned(),
            ),
            300..=399 => (
                HostErrorKind::Other,
                format!("it is elsewhere ({elsewhere}). Nothing is sent there: give that location"),
            ),
            401 | 403 => (HostErrorKind::PermissionDenied, format!("status {status}")),
            404 | 410 => {
                (HostErrorKind::NotFound, format!("there is no such file (status {status})"))
            }
            416 => (HostErrorKind::Other, "the file is empty (status 416)".to_owned()),
            _ => (HostErrorKind::Other, format!("status {status}")),
        };
        HostsError::remote(kind, "read", self.location().as_bytes(), words)
    }
}

/// The path of a location as that of a request. What is escaped in it stays so, as
/// does a query.
fn as_target(path: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut target = String::new();
    if !path.starts_with(b"/") {
        target.push('/');
    }
    for &byte in path {
        if byte.is_ascii_graphic() {
            target.push(char::from(byte));
        } else {
            let _ = write!(target, "%{byte:02X}");
        }
    }
    target
}

/// What the server says of the version of the file.
fn version_of(response: &Response) -> Option<String> {
    let head = response.head();
    head.header("etag").or_else(|| head.header("last-modified")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::http::scripted::{Answer, Scripted, Step};
    use tiroir_core::host::HostError as _;

    fn open(server: &Scripted) -> Result<HttpFile> {
        let address = format!("127.0.0.1:{}/a%20b.ptar", server.port);
        let options = [("timeout", "2"), ("auth_token", "hunter2")].into_iter().collect();
        HttpFile::open(
            &Address::parse(address.as_bytes()).unwrap(),
            false,
            &options,
            Limits::default(),
        )
    }

    /// The part of a content that a request asks for.
    fn part(head: &str, content: &[u8], headers: &str) -> Answer {
        let range = head.lines().find_map(|line| line.strip_prefix("Range: bytes=")).unwrap();
        let (first, last) = range.split_once('-').unwrap();
        let first: usize = first.parse().unwrap();
        let last = last.parse::<usize>().unwrap().min(content.len() - 1);
        let range = format!("Content-Range: bytes {first}-{last}/{}\r\n{headers}", content.len());
        Answer::whole(206, &range, &content[first..=last])
    }

    #[test]
    fn paths() {
        assert_eq!(as_target(b""), "/");
        assert_eq!(as_target("/a b/%20é.ptar?x=1".as_bytes()), "/a%20b/%20%C3%A9.ptar?x=1");
    }

    #[test]
    fn parts_of_a_file() {
        let content: Vec<u8> = (0..=250).cycle().take(3_000_000).collect();
        let served = content.clone();
        let server = Scripted::new(move |head, _| part(head, &served, "ETag: \"x\"\r\n"));
        let mut file = open(&server).unwrap();
        assert_eq!(file.length_bytes(), 3_000_000);
        assert!(!format!("{file:?}").contains("hunter2"));
        let mut into = vec![0; 70_000];
        let mut check = |file: &mut HttpFile, at: usize| {
            let read = file.read_at(at as u64, &mut into).unwrap();
            let rest = content.get(at..).unwrap_or_default();
            assert_eq!(read, rest.len().min(into.len()));
            assert!(into[..read] == rest[..read], "at {at}");
        };
        for at in (0..3_100_000).step_by(70_000) {
            check(&mut file, at);
        }
        // 43 reads on and on are few requests.
        assert!(server.heads().len() < 10, "{}", server.heads().len());
        for at in [2_990_000, 5, 100_000, 130_000, 1_000_000, 999_000, 2_999_999, 3_000_000] {
            check(&mut file, at);
        }
        assert!(server.heads()[0].contains("Authorization: Bearer hunter2\r\n"));
    }

    #[test]
    fn what_a_server_may_not_do() {
        let refused = |answer: fn(&str) -> Answer| {
            let server = Scripted::new(move |head, _| answer(head));
            open(&server).unwrap_err()
        };
        let whole = refused(|_| Answer::whole(200, "", "_PLATAR_")).to_string();
        assert!(whole.contains("whole files only"), "{whole}");
        let absent = refused(|_| Answer::whole(404, "", ""));
        assert_eq!(absent.kind(), HostErrorKind::NotFound);
        let denied = refused(|_| Answer::whole(403, "", ""));
        assert_eq!(denied.kind(), HostErrorKind::PermissionDenied);
        let moved = refused(|_| Answer::whole(302, "Location: http://x/\r\n", "")).to_string();
        assert!(moved.contains("elsewhere (http://x/)") && !moved.contains("hunter2"), "{moved}");
        for range in ["", "Content-Range: bytes 5-5/10\r\n", "Content-Range: bytes 0-0/*\r\n"] {
            let server = Scripted::new(move |_, _| Answer::whole(206, range, "x"));
            assert!(open(&server).is_err(), "{range}");
        }
    }

    #[test]
    fn a_file_that_changes_or_breaks_off() {
        let is_new = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_new);
        let server = Scripted::new(move |head, _| {
            let tag = if seen.load(Ordering::SeqCst) { "ETag: 2\r\n" } else { "ETag: 1\r\n" };
            part(head, &[7; 100_000], tag)
        });
        let mut file = open(&server).unwrap();
        assert_eq!(file.read_at(0, &mut [0; 10]).unwrap(), 10);
        is_new.store(true, Ordering::SeqCst);
        let error = file.read_at(90_000, &mut [0; 10]).unwrap_err().to_string();
        assert!(error.contains("was replaced"), "{error}");

        // Every other answer ends too early; what is missing is asked for again.
        let server = Scripted::new(|head, number| {
            let whole = part(head, &[7; 100_000], "");
            if number % 2 == 0 {
                return whole;
            }
            let [Step::Send(bytes)] = &whole.steps[..] else { unreachable!() };
            Answer::of(vec![Step::Send(bytes[..bytes.len() - 5].to_vec()), Step::Close])
        });
        let mut file = open(&server).unwrap();
        assert_eq!(file.read_at(0, &mut [0; 50_000]).unwrap(), 50_000);
        assert_eq!(file.read_at(50_000, &mut [0; 50_000]).unwrap(), 50_000);
    }
}
