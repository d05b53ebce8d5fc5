//! [`Exchange`]: one request, its content, and its answer.

use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::super::connection::Connection;
use super::super::content::Content;
use super::super::date;
use super::super::error::HttpError;
use super::request::Request;

/// Longest time without progress while content is read or an answer is taken; and
/// while others wait for the worker.
pub(super) const CONTENT_TIME: Duration = Duration::from_secs(30);
pub(super) const PRESSED_TIME: Duration = Duration::from_secs(10);

/// What a client still sends that was refused is read for so long, and so far,
/// that the answer reaches it.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 1 << 20;

/// The client is gone, too slow, or sends what is no HTTP: there is nothing that
/// a handler can do but forget what it has begun.
#[derive(Debug)]
pub struct Broken(HttpError);

/// How far the answer is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Answer {
    /// Nothing of it was sent.
    None,
    /// So many bytes are still to be sent.
    Known(u64),
    /// More is sent in pieces, each with its length.
    Chunked,
    /// More is sent until the connection ends.
    UntilClose,
}

/// One request, its content, and its answer.
#[derive(Debug)]
pub struct Exchange<'c> {
    request: Request,
    connection: &'c mut Connection,
    content: Content,
    /// The client sends its content when it is told to.
    awaits_continue: bool,
    answer: Answer,
    keep: bool,
}

impl<'c> Exchange<'c> {
    /// Of a request that was read; `keep` says whether another may follow.
    pub(super) fn new(request: Request, connection: &'c mut Connection, keep: bool) -> Self {
        let content = Content::new(request.length(), "reading a request");
        let awaits_continue = request.expects_continue() && !content.is_over();
        let keep = keep && request.keeps_connection();
        Self { request, connection, content, awaits_continue, answer: Answer::None, keep }
    }

    /// What is asked for.
    #[must_use]
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Who asks.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.connection.tcp().peer_addr().ok()
    }

    /// Length of the content in bytes, where the client told it.
    #[must_use]
    pub fn content_bytes(&self) -> Option<u64> {
        self.content.left_bytes()
    }

    /// Reads the content of the request; 0 at its end only, and if `into` is empty.
    ///
    /// # Errors
    ///
    /// Where it does not come whole: nothing of it is to be kept then.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize, Broken> {
        if self.awaits_continue {
            self.awaits_continue = false;
            let sent = self.connection.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
            sent.and_then(|()| self.connection.flush()).map_err(lost)?;
        }
        let read = self.content.read(self.connection, into);
        self.keep &= read.is_ok();
        read.map_err(Broken)
    }

    /// Answers at once. `headers` are names and values, of which none may hold a
    /// line end; length and connection are told by themselves.
    ///
    /// # Errors
    ///
    /// Where the client does not take it.
    pub fn answer(
        &mut self,
        status: u16,
        headers: &[(&str, &str)],
        content: &[u8],
    ) -> Result<(), Broken> {
        self.begin(status, headers, Some(content.len() as u64))?;
        self.write(content)?;
        self.end()
    }

    /// Begins an answer of `length_bytes`, or of whatever length.
    ///
    /// # Errors
    ///
    /// Where the client does not take it.
    pub fn begin(
        &mut self,
        status: u16,
        headers: &[(&str, &str)],
        length_bytes: Option<u64>,
    ) -> Result<(), Broken> {
        // What was not read of the request would be taken for the next one.
        self.keep &= self.content.is_over();
        let (answer, framing) = match length_bytes {
            Some(bytes) => (Answer::Known(bytes), format!("Content-Length: {bytes}\r\n")),
            None if self.request.is_old() => (Answer::UntilClose, String::new()),
            None => (Answer::Chunked, "Transfer-Encoding: chunked\r\n".to_owned()),
        };
        let head = head_of(status, headers, &framing, self.keep);
        self.answer = answer;
        self.connection.renew();
        self.connection.write_all(head.as_bytes()).map_err(lost)
    }

    /// Sends more of an answer that was begun.
    ///
    /// # Errors
    ///
    /// Where the client does not take it, and for more than was announced.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        if let Answer::Known(left) = &mut self.answer {
            *left = left.checked_sub(bytes.len() as u64).ok_or_else(too_much)?;
        }
        if bytes.is_empty() || self.request.is_head() {
            return Ok(());
        }
        let is_chunked = self.answer == Answer::Chunked;
        if is_chunked {
            let line = format!("{:x}\r\n", bytes.len());
            self.connection.write_all(line.as_bytes()).map_err(lost)?;
        }
        self.connection.write_all(bytes).map_err(lost)?;
        if is_chunked {
            self.connection.write_all(b"\r\n").map_err(lost)?;
        }
        Ok(())
    }

    /// Ends an answer that was begun. One that is not ended reaches the client as
    /// one that broke off.
    ///
    /// # Errors
    ///
    /// Where the client does not take it.
    pub fn end(&mut self) -> Result<(), Broken> {
        if self.answer == Answer::Chunked && !self.request.is_head() {
            self.connection.write_all(b"0\r\n\r\n").map_err(lost)?;
        }
        if self.answer == Answer::Chunked || self.request.is_head() {
            self.answer = Answer::Known(0);
        }
        self.connection.flush().map_err(lost)
    }

    /// Ends the exchange after the handler: answers what it did not, and returns
    /// whether another request may follow.
    pub(super) fn finish(mut self, handled: Result<(), Broken>) -> bool {
        if self.answer == Answer::None {
            let (status, words) = match handled {
                Ok(()) => (500, "the server has no answer\n"),
                Err(Broken(HttpError::Malformed(rule))) => (400, rule),
                Err(Broken(HttpError::TimedOut(_))) => (408, "the request did not come in time\n"),
                Err(_) => return false,
            };
            self.keep = false;
            let _ = self.answer(status, &TEXT, words.as_bytes());
        } else if handled.is_err() || self.answer != Answer::Known(0) {
            return false;
        }
        if !self.keep && !self.content.is_over() && !self.awaits_continue {
            linger(self.connection);
        }
        self.keep
    }
}

/// Headers of an answer in words.
pub(crate) const TEXT: [(&str, &str); 1] = [("Content-Type", "text/plain; charset=utf-8")];

/// Answers what is no request.
pub(super) fn refuse(connection: &mut Connection, status: u16, words: &str) {
    let content = format!("{words}\n");
    let framing = format!("Content-Length: {}\r\n", content.len());
    let head = head_of(status, &TEXT, &framing, false);
    connection.renew();
    let sent = connection.write_all([head.as_bytes(), content.as_bytes()].concat().as_slice());
    if sent.and_then(|()| connection.flush()).is_ok() {
        linger(connection);
    }
}

/// A connection that is closed with something unread takes the answer away from a
/// client that is still sending.
fn linger(connection: &mut Connection) {
    connection.end_sending();
    let start = Instant::now();
    let (mut bytes, mut thrown) = (0, [0; 4096]);
    let mut tcp = connection.tcp();
    while bytes < LINGER_BYTES_MAX {
        let left = LINGER_TIME.saturating_sub(start.elapsed());
        if left < Duration::from_millis(1) || tcp.set_read_timeout(Some(left)).is_err() {
            return;
        }
        match tcp.read(&mut thrown) {
            Ok(0) | Err(_) => return,
            Ok(read) => bytes += read,
        }
    }
}

fn lost(error: io::Error) -> Broken {
    Broken(HttpError::of(&error, "sending an answer"))
}

fn too_much() -> Broken {
    Broken(HttpError::Malformed("the answer is longer than it was to be"))
}

fn head_of(status: u16, headers: &[(&str, &str)], framing: &str, keep: bool) -> String {
    let mut head = String::with_capacity(512);
    let _ = write!(head, "HTTP/1.1 {status} {}\r\nServer: tiroir\r\n", reason(status));
    if let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) {
        let secs = i64::try_from(now.as_secs()).unwrap_or_default();
        let _ = write!(head, "Date: {}\r\n", date::http(secs));
    }
    for (name, value) in headers {
        debug_assert!(!name.contains(['\r', '\n']) && !value.contains(['\r', '\n']));
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head.push_str(framing);
    if !keep {
        head.push_str("Connection: close\r\n");
    }
    head.push_str("\r\n");
    head
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "Status",
    }
}
