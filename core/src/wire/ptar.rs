//! The frame of a ptar: a whole store in one file. Section 14.5 of the format.
//!
//! ```text
//! 0           8         12        12 + c                                  end - 48   end
//! | _PLATAR_  | version | CONFIG  | one packfile  | one state             | table    |
//! ```
//!
//! The table holds offset and length of the three envelopes, as i64.

use core::ops::Range;

use super::envelope::ENVELOPE_BYTES;
use super::field;
use crate::error::FormatError;
use crate::limits::CONFIG_BYTES_MAX;
use crate::resource::Version;

/// Length of what stands before CONFIG, in bytes.
pub const HEAD_BYTES: usize = 12;

/// Length of the table at the end, in bytes.
pub const TABLE_BYTES: usize = 48;

/// What starts a ptar.
#[must_use]
pub fn head() -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(b"_PLATAR_");
    head[8..].copy_from_slice(&Version::V1_0_0.0.to_le_bytes());
    head
}

/// Whether `bytes` start a ptar.
///
/// # Errors
///
/// [`FormatError::Magic`] when they do not, and [`FormatError::Version`] for
/// another version than 1.0.0. Stock does not look at it; but nothing else
/// covers these four bytes.
pub fn parse_head(bytes: &[u8; HEAD_BYTES]) -> Result<(), FormatError> {
    if !bytes.starts_with(b"_PLATAR_") {
        return Err(FormatError::Magic);
    }
    match Version(u32::from_le_bytes(field(bytes, 8..12))) {
        Version::V1_0_0 => Ok(()),
        other => Err(FormatError::Version(other)),
    }
}

/// Where the three envelopes lie, in bytes from the start of the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Table {
    /// CONFIG.
    pub config: Range<u64>,
    /// The packfile.
    pub packfile: Range<u64>,
    /// The state.
    pub state: Range<u64>,
}

impl Table {
    /// Reads the table of a file of `file_bytes` bytes.
    ///
    /// # Errors
    ///
    /// [`FormatError::Field`] when an envelope would lie outside of the file,
    /// or is too short or too long to be one.
    pub fn parse(bytes: &[u8; TABLE_BYTES], file_bytes: u64) -> Result<Self, FormatError> {
        let end = file_bytes.checked_sub(TABLE_BYTES as u64).ok_or(FormatError::Truncated)?;
        let wrong = FormatError::Field("table of offsets");
        let range = |at: usize| {
            let number =
                |at| u64::try_from(i64::from_le_bytes(field(bytes, at..at + 8))).map_err(|_| wrong);
            let start = number(at)?;
            let stop = start.checked_add(number(at + 8)?).ok_or(wrong)?;
            let fits = start >= HEAD_BYTES as u64 && stop <= end && stop - start >= ENVELOPE_BYTES;
            if fits { Ok(start..stop) } else { Err(wrong) }
        };
        let table = Self { config: range(0)?, packfile: range(16)?, state: range(32)? };
        let config_bytes = table.config.end - table.config.start;
        if config_bytes > CONFIG_BYTES_MAX as u64 { Err(wrong) } else { Ok(table) }
    }

    /// Writes the table.
    #[must_use]
    pub fn emit(&self) -> [u8; TABLE_BYTES] {
        let mut out = [0; TABLE_BYTES];
        let ranges = [&self.config, &self.packfile, &self.state];
        for (range, place) in ranges.iter().zip(out.chunks_exact_mut(16)) {
            place[..8].copy_from_slice(&range.start.to_le_bytes());
            place[8..].copy_from_slice(&(range.end - range.start).to_le_bytes());
        }
        out
    }
}
