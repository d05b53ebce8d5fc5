//! [`Content`]: what follows a head, of an answer or a request, read as it comes.

use super::connection::Connection;
use super::error::HttpError;
use super::head::{HEAD_BYTES_MAX, Length};

/// Longest line that tells the length of a piece, in bytes.
const CHUNK_LINE_BYTES_MAX: usize = 256;

/// Most lines behind the last piece.
const TRAILERS_MAX: usize = 32;

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

/// What is left of the content behind a head.
#[derive(Debug)]
pub(super) struct Content {
    left: Left,
    /// What is done, in errors.
    doing: &'static str,
}

impl Content {
    /// Content of that length; `doing` is said when the peer is too slow.
    pub(super) fn new(length: Length, doing: &'static str) -> Self {
        let left = match length {
            Length::Known(bytes) => Left::Bytes(bytes),
            Length::Chunked => Left::Chunk { bytes: 0, is_first: true },
            Length::UntilClose => Left::UntilClose,
        };
        Self { left, doing }
    }

    /// Bytes that are left, where their number was told.
    pub(super) fn left_bytes(&self) -> Option<u64> {
        match self.left {
            Left::Bytes(bytes) => Some(bytes),
            Left::Chunk { .. } | Left::UntilClose => None,
        }
    }

    /// Whether all was read.
    pub(super) fn is_over(&self) -> bool {
        self.left == Left::Bytes(0)
    }

    /// Reads content; 0 at its end only, and if `into` is empty.
    pub(super) fn read(
        &mut self,
        connection: &mut Connection,
        into: &mut [u8],
    ) -> Result<usize, HttpError> {
        if into.is_empty() {
            return Ok(0);
        }
        if matches!(self.left, Left::Chunk { bytes: 0, .. }) {
            self.next_chunk(connection)?;
        }
        let most = match self.left {
            Left::Bytes(0) => return Ok(0),
            Left::Bytes(bytes) | Left::Chunk { bytes, .. } => bytes,
            Left::UntilClose => u64::MAX,
        };
        let wanted = into.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        let read = connection.read(&mut into[..wanted]);
        let read = read.map_err(|error| HttpError::of(&error, self.doing))?;
        match &mut self.left {
            Left::UntilClose if read == 0 => self.left = Left::Bytes(0),
            Left::UntilClose => {}
            Left::Bytes(_) | Left::Chunk { .. } if read == 0 => {
                return Err(HttpError::Lost(format!("the connection ended while {}", self.doing)));
            }
            Left::Bytes(bytes) | Left::Chunk { bytes, .. } => *bytes -= read as u64,
        }
        Ok(read)
    }

    /// Reads the length of the next piece, and what follows the last one.
    fn next_chunk(&mut self, connection: &mut Connection) -> Result<(), HttpError> {
        let mut line = Vec::new();
        if self.left != (Left::Chunk { bytes: 0, is_first: true }) {
            connection.read_line(&mut line, CHUNK_LINE_BYTES_MAX, self.doing)?;
            if !line.is_empty() {
                return Err(HttpError::Malformed("a piece is longer than it said"));
            }
        }
        connection.read_line(&mut line, CHUNK_LINE_BYTES_MAX, self.doing)?;
        let bytes = parse_chunk_length(&line)?;
        if bytes > 0 {
            self.left = Left::Chunk { bytes, is_first: false };
            return Ok(());
        }
        for _ in 0..TRAILERS_MAX {
            connection.read_line(&mut line, HEAD_BYTES_MAX, self.doing)?;
            if line.is_empty() {
                self.left = Left::Bytes(0);
                return Ok(());
            }
        }
        Err(HttpError::Malformed("it has too many trailers"))
    }
}

/// Reads the line before a piece.
pub(crate) fn parse_chunk_length(line: &[u8]) -> Result<u64, HttpError> {
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
