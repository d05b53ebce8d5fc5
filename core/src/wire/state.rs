//! [`StateEntry`]: what a state says, entry by entry. Section 10 of the format.

use super::field;
use crate::error::FormatError;
use crate::index::Location;
use crate::mac::Mac;
use crate::resource::{ResourceKind, Version};
use crate::time::Timestamp;

/// Length of the name of the parent that starts a state of 1.1.0, in bytes.
pub const PARENT_BYTES: usize = 32;

/// Length of what stands before the body of an entry, in bytes.
pub const ENTRY_HEAD_BYTES: usize = 5;

/// Length of the body of a location, in bytes.
pub const LOCATION_BYTES: usize = 85;

/// Longest entry that is kept while it is read, in bytes.
pub const ENTRY_BYTES_MAX: usize = ENTRY_HEAD_BYTES + LOCATION_BYTES;

/// Length of what ends a state, in bytes.
pub const METADATA_BYTES: usize = 29;

const METADATA: u8 = 1;
const LOCATION: u8 = 2;
const COLOURED: u8 = 3;
const PACKFILE: u8 = 4;
const DELETE: u8 = 6;

/// One entry of a state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StateEntry {
    /// A blob lies there.
    Location(ResourceKind, Mac, Location),
    /// A snapshot or packfile is to be deleted.
    Coloured(ResourceKind, Mac, Timestamp),
    /// A packfile exists; the state that introduced it.
    Packfile(Mac, Mac, Timestamp),
    /// A location is no longer valid.
    DeleteLocation(ResourceKind, Mac, Mac),
    /// A resource is not to be deleted after all.
    DeleteColour(ResourceKind, Mac),
    /// A packfile is gone.
    DeletePackfile(Mac),
    /// The end: the last thing in a state.
    Metadata,
}

/// What [`StateEntry::parse`] has found at the start of its bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Parsed {
    /// More bytes are needed.
    More,
    /// An entry, and its length in bytes.
    Entry(StateEntry, usize),
    /// An entry of a kind that is not known here, to be passed over: its
    /// length in bytes, which may be more than there are.
    Unknown(u64),
}

impl StateEntry {
    /// Reads the entry that starts `bytes`. `deletions` says whether the state
    /// is of 1.1.0: deletions have no effect in older ones (trap 6).
    ///
    /// # Errors
    ///
    /// [`FormatError::Field`] when an entry has the wrong length.
    pub fn parse(bytes: &[u8], deletions: bool) -> Result<Parsed, FormatError> {
        let Some(&kind) = bytes.first() else { return Ok(Parsed::More) };
        if kind == METADATA {
            return Ok(if bytes.len() < METADATA_BYTES {
                Parsed::More
            } else {
                Parsed::Entry(Self::Metadata, METADATA_BYTES)
            });
        }
        let Some(head) = bytes.first_chunk::<ENTRY_HEAD_BYTES>() else { return Ok(Parsed::More) };
        let length = u32::from_le_bytes(field(head, 1..5));
        let known = match kind {
            LOCATION => 85,
            COLOURED => 41,
            PACKFILE => 72,
            DELETE if deletions => 66,
            _ => return Ok(Parsed::Unknown(ENTRY_HEAD_BYTES as u64 + u64::from(length))),
        };
        if length != known {
            return Err(FormatError::Field("entry length"));
        }
        let end = ENTRY_HEAD_BYTES + usize::try_from(known).unwrap_or(usize::MAX);
        let Some(body) = bytes.get(ENTRY_HEAD_BYTES..end) else { return Ok(Parsed::More) };
        Ok(match Self::parse_body(kind, body) {
            Some(entry) => Parsed::Entry(entry, end),
            None => Parsed::Unknown(end as u64),
        })
    }

    fn parse_body(kind: u8, body: &[u8]) -> Option<Self> {
        let time = |range| Timestamp::from_unix_nanos(i64::from_le_bytes(field(body, range)));
        Some(match kind {
            LOCATION => Self::Location(
                ResourceKind(body[0]),
                Mac(field(body, 5..37)),
                Location {
                    packfile: Mac(field(body, 37..69)),
                    offset_bytes: u64::from_le_bytes(field(body, 69..77)),
                    length_bytes: u32::from_le_bytes(field(body, 77..81)),
                },
            ),
            COLOURED => {
                Self::Coloured(ResourceKind(body[0]), Mac(field(body, 1..33)), time(33..41))
            }
            PACKFILE => {
                Self::Packfile(Mac(field(body, 0..32)), Mac(field(body, 32..64)), time(64..72))
            }
            _ => {
                let (kind, mac) = (ResourceKind(body[1]), Mac(field(body, 2..34)));
                let packfile = Mac(field(body, 34..66));
                match body[0] {
                    LOCATION => Self::DeleteLocation(kind, mac, packfile),
                    COLOURED => Self::DeleteColour(kind, mac),
                    PACKFILE => Self::DeletePackfile(packfile),
                    _ => return None,
                }
            }
        })
    }

    /// Writes the entry at the start of `out` and returns its length.
    /// [`StateEntry::Metadata`] is written by [`metadata`].
    pub fn emit<'o>(&self, out: &'o mut [u8; ENTRY_BYTES_MAX]) -> &'o [u8] {
        let (kind, length) = match self {
            Self::Location(..) => (LOCATION, 85),
            Self::Coloured(..) => (COLOURED, 41),
            Self::Packfile(..) => (PACKFILE, 72),
            Self::DeleteLocation(..) | Self::DeleteColour(..) | Self::DeletePackfile(_) => {
                (DELETE, 66)
            }
            Self::Metadata => return &[],
        };
        out[0] = kind;
        out[1..5].copy_from_slice(&u32::to_le_bytes(length));
        let end = ENTRY_HEAD_BYTES + length as usize;
        let body = &mut out[ENTRY_HEAD_BYTES..end];
        body.fill(0);
        match self {
            Self::Location(kind, mac, at) => {
                body[0] = kind.0;
                body[1..5].copy_from_slice(&Version::V1_0_0.0.to_le_bytes());
                body[5..37].copy_from_slice(&mac.0);
                body[37..69].copy_from_slice(&at.packfile.0);
                body[69..77].copy_from_slice(&at.offset_bytes.to_le_bytes());
                body[77..81].copy_from_slice(&at.length_bytes.to_le_bytes());
            }
            Self::Coloured(kind, mac, when) => {
                body[0] = kind.0;
                body[1..33].copy_from_slice(&mac.0);
                body[33..41].copy_from_slice(&when.unix_nanos().to_le_bytes());
            }
            Self::Packfile(packfile, state, when) => {
                body[0..32].copy_from_slice(&packfile.0);
                body[32..64].copy_from_slice(&state.0);
                body[64..72].copy_from_slice(&when.unix_nanos().to_le_bytes());
            }
            Self::DeleteLocation(kind, mac, packfile) => {
                body[..2].copy_from_slice(&[LOCATION, kind.0]);
                body[2..34].copy_from_slice(&mac.0);
                body[34..66].copy_from_slice(&packfile.0);
            }
            Self::DeleteColour(kind, mac) => {
                body[..2].copy_from_slice(&[COLOURED, kind.0]);
                body[2..34].copy_from_slice(&mac.0);
            }
            Self::DeletePackfile(packfile) => {
                body[0] = PACKFILE;
                body[34..66].copy_from_slice(&packfile.0);
            }
            Self::Metadata => {}
        }
        &out[..end]
    }
}

/// What ends a state: its version, when it was written, and the serial of the
/// store.
#[must_use]
pub fn metadata(version: Version, when: Timestamp, serial: &[u8; 16]) -> [u8; METADATA_BYTES] {
    let mut out = [0; METADATA_BYTES];
    out[0] = METADATA;
    out[1..5].copy_from_slice(&version.0.to_le_bytes());
    out[5..13].copy_from_slice(&when.unix_nanos().to_le_bytes());
    out[13..29].copy_from_slice(serial);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mac() -> impl Strategy<Value = Mac> {
        any::<[u8; 32]>().prop_map(Mac)
    }

    fn entry() -> impl Strategy<Value = StateEntry> {
        let kind = any::<u8>().prop_map(ResourceKind);
        let time = any::<i64>().prop_map(Timestamp::from_unix_nanos);
        prop_oneof![
            (kind.clone(), mac(), mac(), any::<u64>(), any::<u32>()).prop_map(
                |(kind, mac, packfile, offset_bytes, length_bytes)| StateEntry::Location(
                    kind,
                    mac,
                    Location { packfile, offset_bytes, length_bytes }
                )
            ),
            (kind.clone(), mac(), time.clone()).prop_map(|(k, m, t)| StateEntry::Coloured(k, m, t)),
            (mac(), mac(), time).prop_map(|(p, s, t)| StateEntry::Packfile(p, s, t)),
            (kind.clone(), mac(), mac()).prop_map(|(k, m, p)| StateEntry::DeleteLocation(k, m, p)),
            (kind, mac()).prop_map(|(k, m)| StateEntry::DeleteColour(k, m)),
            mac().prop_map(StateEntry::DeletePackfile),
        ]
    }

    proptest! {
        #[test]
        fn both_ways(entry in entry()) {
            let mut out = [0xAA; ENTRY_BYTES_MAX];
            let bytes = entry.emit(&mut out);
            prop_assert_eq!(StateEntry::parse(bytes, true), Ok(Parsed::Entry(entry, bytes.len())));
            for cut in 0..bytes.len() {
                prop_assert_eq!(StateEntry::parse(&bytes[..cut], true), Ok(Parsed::More));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = StateEntry::parse(&bytes, true);
        }
    }

    #[test]
    fn deletions_of_old_states_are_passed_over() {
        let mut out = [0; ENTRY_BYTES_MAX];
        let bytes = StateEntry::DeletePackfile(Mac([7; 32])).emit(&mut out);
        assert_eq!(StateEntry::parse(bytes, false), Ok(Parsed::Unknown(71)));
    }
}
