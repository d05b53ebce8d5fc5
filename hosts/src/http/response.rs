//! [`Response`]: an answer whose content is read when it is wanted.

use super::connection::Connection;
use super::error::HttpError;
use super::head::{HEAD_BYTES_MAX, Head, Length};

/// Longest line that tells the length of a piece, in bytes.
const CHUNK_LINE_BYTES_MAX: usize = 256;

/// Most lines behind the last piece.
const TRAILERS_MAX: usize = 32;

/// Most answers that only say that there will be one.
const INTERIM_MAX: usize = 8;

/// Content that is read and thrown away to keep a connection, in bytes.
const DRAINED_BYTES_MAX: u64 = 64 * 1024;

/// What is left of the content.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Left {
    /// So many bytes.
    Bytes(u64),
    /// So many bytes of a piece, and further pieces.
    Chunk { bytes: u64, is_first: bool },
    /// What comes until the connection ends.
    UntilClose,
}

/// An answer. Its connection is its own until it is given back.
#[derive(Debug)]
pub(crate) struct Response {
    head: Head,
    left: Left,
    connection: Connection,
    keep: bool,
}

impl Response {
    /// Reads the head of the answer to `method`.
    pub(super) fn receive(mut connection: Connection, method: &str) -> Result<Self, HttpError> {
        const DOING: &str = "waiting for an answer";
        connection.renew();
        let mut line = Vec::new();
        for _ in 0..INTERIM_MAX {
            connection.read_line(&mut line, HEAD_BYTES_MAX, DOING)?;
            let mut head = Head::parse_status(&line)?;
            loop {
                connection.read_line(&mut line, HEAD_BYTES_MAX, DOING)?;
                if line.is_empty() {
                    break;
                }
                head.push(&line)?;
            }
            if head.status() == 101 {
                return Err(HttpError::Malformed("it changes to another protocol"));
            }
            if head.status() >= 200 {
                let left = match head.length(method)? {
                    Length::Known(bytes) => Left::Bytes(bytes),
                    Length::Chunked => Left::Chunk { bytes: 0, is_first: true },
                    Length::UntilClose => Left::UntilClose,
                };
                let keep = head.keeps_connection() && left != Left::UntilClose;
                return Ok(Self { head, left, connection, keep });
            }
        }
        Err(HttpError::Malformed("it never begins"))
    }

    /// What it says before its content.
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// Its status.
    pub(crate) fn status(&self) -> u16 {
        self.head.status()
    }

    /// Bytes of content that are left, where the server told their number.
    pub(crate) fn left_bytes(&self) -> Option<u64> {
        match self.left {
            Left::Bytes(bytes) => Some(bytes),
            Left::Chunk { .. } | Left::UntilClose => None,
        }
    }

    /// The connection has no further use.
    pub(super) fn forbid_reuse(&mut self) {
        self.keep = false;
    }

    /// Reads the content; 0 at its end only, and if `into` is empty.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> Result<usize, HttpError> {
        const DOING: &str = "reading an answer";
        if into.is_empty() {
            return Ok(0);
        }
        if matches!(self.left, Left::Chunk { bytes: 0, .. }) {
            self.next_chunk()?;
        }
        let most = match self.left {
            Left::Bytes(0) => return Ok(0),
            Left::Bytes(bytes) | Left::Chunk { bytes, .. } => bytes,
            Left::UntilClose => u64::MAX,
        };
        let wanted = into.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        let read = self.connection.read(&mut into[..wanted]);
        let read = read.map_err(|error| HttpError::of(&error, DOING))?;
        match &mut self.left {
            Left::UntilClose if read == 0 => self.left = Left::Bytes(0),
            Left::UntilClose => {}
            Left::Bytes(_) | Left::Chunk { .. } if read == 0 => {
                self.keep = false;
                return Err(HttpError::Lost(
                    "the server ended the connection in mid-answer".into(),
                ));
            }
            Left::Bytes(bytes) | Left::Chunk { bytes, .. } => *bytes -= read as u64,
        }
        Ok(read)
    }

    /// Reads the length of the next piece, and what follows the last one.
    fn next_chunk(&mut self) -> Result<(), HttpError> {
        const DOING: &str = "reading an answer";
        let mut line = Vec::new();
        if self.left != (Left::Chunk { bytes: 0, is_first: true }) {
            self.connection.read_line(&mut line, CHUNK_LINE_BYTES_MAX, DOING)?;
            if !line.is_empty() {
                return Err(HttpError::Malformed("a piece is longer than it said"));
            }
        }
        self.connection.read_line(&mut line, CHUNK_LINE_BYTES_MAX, DOING)?;
        let bytes = parse_chunk_length(&line)?;
        if bytes > 0 {
            self.left = Left::Chunk { bytes, is_first: false };
            return Ok(());
        }
        for _ in 0..TRAILERS_MAX {
            self.connection.read_line(&mut line, HEAD_BYTES_MAX, DOING)?;
            if line.is_empty() {
                self.left = Left::Bytes(0);
                return Ok(());
            }
        }
        Err(HttpError::Malformed("it has too many trailers"))
    }

    /// Reads content until `into` is full or there is no more.
    pub(crate) fn read_full(&mut self, into: &mut [u8]) -> Result<usize, HttpError> {
        let mut filled = 0;
        while filled < into.len() {
            match self.read(&mut into[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        Ok(filled)
    }

    /// The first `bytes_max` bytes of the content.
    pub(crate) fn read_start(&mut self, bytes_max: usize) -> Result<Vec<u8>, HttpError> {
        let mut text = vec![0; bytes_max];
        let filled = self.read_full(&mut text)?;
        text.truncate(filled);
        Ok(text)
    }

    /// The connection, if it is good for another request.
    pub(super) fn into_connection(mut self) -> Option<Connection> {
        let mut drained = 0;
        let mut thrown = [0; 4096];
        while self.keep && self.left != Left::Bytes(0) {
            let small = self.left_bytes().is_none_or(|bytes| bytes <= DRAINED_BYTES_MAX);
            if !small || drained > DRAINED_BYTES_MAX {
                return None;
            }
            drained += self.read(&mut thrown).ok()? as u64;
        }
        self.keep.then_some(self.connection)
    }
}

fn parse_chunk_length(line: &[u8]) -> Result<u64, HttpError> {
    let wrong = HttpError::Malformed("the length of a piece is no number");
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let fits = (1..=16).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| fits);
    digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).ok_or(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_pieces() {
        assert_eq!(parse_chunk_length(b"1aF").unwrap(), 0x1af);
        assert_eq!(parse_chunk_length(b"0;name=value").unwrap(), 0);
        assert_eq!(parse_chunk_length(b"ffffffffffffffff").unwrap(), u64::MAX);
        for line in [&b""[..], b"+1", b"0x1", b"1ffffffffffffffff", b"-1", b";"] {
            assert!(parse_chunk_length(line).is_err(), "{}", line.escape_ascii());
        }
    }
}
