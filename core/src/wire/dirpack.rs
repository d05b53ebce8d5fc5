//! Frames of a dirpack: the entries of one directory, in one object.
//!
//! ```text
//! 0      1        5                    n - 27          n + 5
//! | kind | length | entry in msgpack   | MAC of entry  |
//! ```
//!
//! `length` counts entry and MAC, as a little-endian u32. Section 11.9 of the
//! format.

use crate::error::FormatError;
use crate::limits::ENTRY_BYTES_MAX;
use crate::mac::{MAC_BYTES, Mac};

/// Length of what stands before the entry, in bytes.
pub const FRAME_HEAD_BYTES: usize = 5;

/// Longest frame, in bytes.
pub const FRAME_BYTES_MAX: usize = FRAME_HEAD_BYTES + ENTRY_BYTES_MAX + MAC_BYTES;

/// Start of the frame for an entry of `entry_bytes` bytes.
#[must_use]
pub fn frame_head(is_directory: bool, entry_bytes: u32) -> [u8; FRAME_HEAD_BYTES] {
    let mut head = [if is_directory { 1 } else { 2 }; FRAME_HEAD_BYTES];
    head[1..].copy_from_slice(&(entry_bytes + 32).to_le_bytes());
    head
}

/// One entry of a directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Frame<'b> {
    /// The entry in msgpack, byte for byte the blob.
    pub entry: &'b [u8],
    /// Its MAC.
    pub mac: Mac,
}

impl<'b> Frame<'b> {
    /// Length of the frame that starts `bytes`, once its head is there.
    ///
    /// # Errors
    ///
    /// [`FormatError`] when the length cannot be right.
    pub fn length_bytes(bytes: &[u8]) -> Result<Option<usize>, FormatError> {
        let Some(head) = bytes.first_chunk::<FRAME_HEAD_BYTES>() else { return Ok(None) };
        let [_, length @ ..] = *head;
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        match length {
            0..=MAC_BYTES => Err(FormatError::Field("frame length")),
            _ if length > ENTRY_BYTES_MAX + MAC_BYTES => Err(FormatError::Bound("frame length")),
            _ => Ok(Some(FRAME_HEAD_BYTES + length)),
        }
    }

    /// Reads the frame that is all of `bytes`.
    ///
    /// # Errors
    ///
    /// [`FormatError`] for what is no frame.
    pub fn parse(bytes: &'b [u8]) -> Result<Self, FormatError> {
        if Self::length_bytes(bytes)? != Some(bytes.len()) {
            return Err(FormatError::Truncated);
        }
        let (entry, mac) = bytes[FRAME_HEAD_BYTES..]
            .split_last_chunk::<MAC_BYTES>()
            .ok_or(FormatError::Truncated)?;
        Ok(Self { entry, mac: Mac(*mac) })
    }
}
