//! Compression of units: what is between the plaintext and its sealing.
//!
//! Section 7 of the format. [`lz4`] is what stock writes and needs no
//! allocation; [`gzip`] and [`zstd`] are there for stores that others made.
//! A unit is one stream of its own; nothing carries over to the next.

use crate::codec::CodecError;
use crate::error::FormatError;

#[cfg_attr(feature = "small", expect(dead_code, reason = "GZIP is not read then"))]
pub mod gzip;
pub mod lz4;
#[cfg(feature = "alloc")]
pub mod zstd;

/// How units are compressed: `Compression.Algorithm` of CONFIG.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Compression {
    /// nil in CONFIG: units are stored as they are.
    None,
    /// `LZ4`, stock's default: one frame.
    #[default]
    Lz4,
    /// `GZIP`: one member. Written with the feature `alloc` only.
    Gzip,
    /// `ZSTD`: read with the feature `alloc` only, never written, because no
    /// release of stock reads it.
    Zstd,
}

impl Compression {
    /// Name in CONFIG, none when CONFIG has nil.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Lz4 => Some("LZ4"),
            Self::Gzip => Some("GZIP"),
            Self::Zstd => Some("ZSTD"),
        }
    }

    /// The algorithm of that name.
    #[must_use]
    pub const fn from_name(name: &[u8]) -> Option<Self> {
        match name {
            b"LZ4" => Some(Self::Lz4),
            b"GZIP" => Some(Self::Gzip),
            b"ZSTD" => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Where plaintext goes as it is decompressed: a window that is handed on
/// piece by piece, or the memory where the whole unit is wanted.
pub(crate) trait Target {
    /// Error of what the plaintext is handed to.
    type Error;

    /// A buffer and the position in it to write at. Behind the position there
    /// are `wanted` bytes, or as many as can be had; before it, the last
    /// `keep` bytes of plaintext, or as many as there were.
    fn room(&mut self, wanted: usize, keep: usize) -> (&mut [u8], usize);

    /// Takes the `length` bytes that were written at the position.
    fn commit(&mut self, length: usize) -> Result<(), CodecError<Self::Error>>;

    /// Takes plaintext from elsewhere, of which the last `keep` bytes will be
    /// asked for by [`room`](Self::room).
    fn put(&mut self, plain: &[u8], keep: usize) -> Result<(), CodecError<Self::Error>>;

    /// The error for plaintext that needs more than the room there is, in a
    /// unit made of blocks of that size.
    fn short_of_room(&self, block: lz4::BlockSize) -> FormatError;

    /// The error for a compressed block that needs more than the scratch there
    /// is to gather it, in a unit made of blocks of that size.
    fn short_of_scratch(&self, block: lz4::BlockSize) -> FormatError;
}

/// Gathers a field that may come in parts: takes from `bytes` what is missing
/// of `field` and says whether it is whole now.
pub(crate) fn gather(field: &mut [u8], held: &mut usize, bytes: &mut &[u8]) -> bool {
    let taken = bytes.len().min(field.len() - *held);
    let (head, rest) = bytes.split_at(taken);
    field[*held..*held + taken].copy_from_slice(head);
    *held += taken;
    *bytes = rest;
    *held == field.len()
}
