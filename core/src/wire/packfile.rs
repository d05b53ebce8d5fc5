//! [`BlobRecord`] and [`Footer`]: the index of a packfile. Section 9 of the format.
//!
//! ```text
//! 0      4         8                               40        48       52      56
//! | kind | version | MAC                           | offset  | length | flags |
//!
//! 0           8       12              20                               52      56
//! | timestamp | count | index offset  | MAC of the index               | flags |
//! ```

use super::field;
use crate::error::FormatError;
use crate::mac::Mac;
use crate::resource::{ResourceKind, Version};

/// Length of a [`BlobRecord`], in bytes.
pub const RECORD_BYTES: usize = 56;

/// Length of a [`Footer`], in bytes.
pub const FOOTER_BYTES: usize = 56;

/// Where one blob lies in its packfile.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BlobRecord {
    /// Kind of the blob.
    pub kind: ResourceKind,
    /// Its key.
    pub mac: Mac,
    /// Start in the payload, in bytes.
    pub offset_bytes: u64,
    /// Length as stored, in bytes.
    pub length_bytes: u32,
}

impl BlobRecord {
    /// Reads a record.
    ///
    /// # Errors
    ///
    /// [`FormatError::Kind`] when the kind does not fit in a state.
    pub fn parse(bytes: &[u8; RECORD_BYTES]) -> Result<Self, FormatError> {
        let found = u32::from_le_bytes(field(bytes, 0..4));
        Ok(Self {
            kind: ResourceKind(u8::try_from(found).map_err(|_| FormatError::Kind { found })?),
            mac: Mac(field(bytes, 8..40)),
            offset_bytes: u64::from_le_bytes(field(bytes, 40..48)),
            length_bytes: u32::from_le_bytes(field(bytes, 48..52)),
        })
    }

    /// Writes the record.
    #[must_use]
    pub fn emit(&self) -> [u8; RECORD_BYTES] {
        let mut out = [0; RECORD_BYTES];
        out[0..4].copy_from_slice(&u32::from(self.kind.0).to_le_bytes());
        out[4..8].copy_from_slice(&Version::V1_0_0.0.to_le_bytes());
        out[8..40].copy_from_slice(&self.mac.0);
        out[40..48].copy_from_slice(&self.offset_bytes.to_le_bytes());
        out[48..52].copy_from_slice(&self.length_bytes.to_le_bytes());
        out
    }
}

/// What ends a packfile.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Footer {
    /// When it was closed, in nanoseconds since 1970; 0 in a ptar.
    pub timestamp_nanos: i64,
    /// Number of blobs.
    pub count: u32,
    /// Start of the encoded index in the payload, in bytes.
    pub index_offset_bytes: u64,
    /// MAC of the index before it is encoded.
    pub index_mac: Mac,
}

/// Below this many nanoseconds a footer's time is in seconds: trap 22.
const SECONDS_BELOW: i64 = 1_000_000_000_000_000;

/// Nanoseconds in a second.
const NANOS: i64 = 1_000_000_000;

impl Footer {
    /// Reads a footer.
    #[must_use]
    pub fn parse(bytes: &[u8; FOOTER_BYTES]) -> Self {
        let time = i64::from_le_bytes(field(bytes, 0..8));
        Self {
            timestamp_nanos: match time {
                secs @ 1..SECONDS_BELOW => secs.saturating_mul(NANOS),
                nanos => nanos,
            },
            count: u32::from_le_bytes(field(bytes, 8..12)),
            index_offset_bytes: u64::from_le_bytes(field(bytes, 12..20)),
            index_mac: Mac(field(bytes, 20..52)),
        }
    }

    /// Writes the footer. In the first days of 1970, where a machine without a
    /// clock begins, whole seconds are written, because that is how they are
    /// read.
    #[must_use]
    pub fn emit(&self) -> [u8; FOOTER_BYTES] {
        let mut out = [0; FOOTER_BYTES];
        let time = match self.timestamp_nanos {
            nanos @ 1..SECONDS_BELOW => nanos / NANOS,
            nanos => nanos,
        };
        out[0..8].copy_from_slice(&time.to_le_bytes());
        out[8..12].copy_from_slice(&self.count.to_le_bytes());
        out[12..20].copy_from_slice(&self.index_offset_bytes.to_le_bytes());
        out[20..52].copy_from_slice(&self.index_mac.0);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_every_age() {
        let read = |time: i64| {
            let mut bytes = [0; FOOTER_BYTES];
            bytes[..8].copy_from_slice(&time.to_le_bytes());
            Footer::parse(&bytes)
        };
        for (time, nanos) in [
            (0, 0),
            (1_700_000_000, 1_700_000_000 * NANOS),
            (1_700_000_000_123_456_789, 1_700_000_000_123_456_789),
            (10, 10 * NANOS),
            (-5, -5),
            (SECONDS_BELOW - 1, i64::MAX),
        ] {
            let footer = read(time);
            assert_eq!(footer.timestamp_nanos, nanos);
            assert_eq!(Footer::parse(&footer.emit()), footer);
        }
        let footer = Footer { timestamp_nanos: 5 * NANOS + 7, ..read(0) };
        assert_eq!(Footer::parse(&footer.emit()).timestamp_nanos, 5 * NANOS);
    }
}
