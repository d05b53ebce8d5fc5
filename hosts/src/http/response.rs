//! [`Response`]: an answer whose content is read when it is wanted.

use super::connection::Connection;
use super::content::Content;
use super::error::HttpError;
use super::head::{HEAD_BYTES_MAX, Head, Length};

/// Most answers that only say that there will be one.
const INTERIM_MAX: usize = 8;

/// Content that is read and thrown away to keep a connection, in bytes.
const DRAINED_BYTES_MAX: u64 = 64 * 1024;

/// An answer. Its connection is its own until it is given back.
#[derive(Debug)]
pub(crate) struct Response {
    head: Head,
    content: Content,
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
                let length = head.length(method)?;
                let keep = head.keeps_connection() && length != Length::UntilClose;
                let content = Content::new(length, "reading an answer");
                return Ok(Self { head, content, connection, keep });
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
        self.content.left_bytes()
    }

    /// The connection has no further use.
    pub(super) fn forbid_reuse(&mut self) {
        self.keep = false;
    }

    /// Reads the content; 0 at its end only, and if `into` is empty.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> Result<usize, HttpError> {
        let read = self.content.read(&mut self.connection, into);
        self.keep &= read.is_ok();
        read
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
        while self.keep && !self.content.is_over() {
            let small = self.left_bytes().is_none_or(|bytes| bytes <= DRAINED_BYTES_MAX);
            if !small || drained > DRAINED_BYTES_MAX {
                return None;
            }
            drained += self.read(&mut thrown).ok()? as u64;
        }
        self.keep.then_some(self.connection)
    }
}
