//! The envelope around CONFIG, locks, states and packfiles.
//!
//! ```text
//! 0           8      12        16              16 + n     48 + n
//! | _KLOSET_  | kind | version | payload       | MAC      |
//! ```
//!
//! The MAC covers header and payload. Section 2 of the format.

use super::field;
use crate::error::FormatError;
use crate::resource::{ResourceKind, Version};

/// Length of what stands before the payload, in bytes.
pub const HEADER_BYTES: usize = 16;

/// Length of what stands after the payload, in bytes.
pub const TRAILER_BYTES: usize = 32;

/// Length of an envelope with nothing in it, in bytes.
pub const ENVELOPE_BYTES: u64 = 48;

const MAGIC: [u8; 8] = *b"_KLOSET_";
/// Written by no release, but read by all.
const MAGIC_FORMER: [u8; 8] = *b"_PLAKAR_";

/// The header of an envelope.
#[must_use]
pub fn header(kind: ResourceKind, version: Version) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&u32::from(kind.0).to_le_bytes());
    header[12..].copy_from_slice(&version.0.to_le_bytes());
    header
}

/// Reads the header of an envelope that should hold a `kind` of version
/// `newest` at most, and returns its version.
///
/// # Errors
///
/// [`FormatError`] when it does not.
pub fn parse_header(
    bytes: &[u8; HEADER_BYTES],
    kind: ResourceKind,
    newest: Version,
) -> Result<Version, FormatError> {
    let magic: [u8; 8] = field(bytes, 0..8);
    if magic != MAGIC && magic != MAGIC_FORMER {
        return Err(FormatError::Magic);
    }
    let found = u32::from_le_bytes(field(bytes, 8..12));
    if found != u32::from(kind.0) {
        return Err(FormatError::Kind { found });
    }
    let version = Version(u32::from_le_bytes(field(bytes, 12..16)));
    if version > newest { Err(FormatError::Version(version)) } else { Ok(version) }
}
