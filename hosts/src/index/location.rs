//! Records of [`Runs`](super::runs::Runs): where blobs lie, by their names and
//! by their packfiles, and sets of names.

use tiroir_core::mac::Mac;
use tiroir_core::resource::ResourceKind;

use super::runs::Record;
use super::schema::Sum;

/// Length of the record of a location, in bytes.
pub(super) const LOCATION_BYTES: usize = 57;

/// Length of the record of a location by packfile, in bytes.
pub(super) const PACKED_BYTES: usize = 49;

/// Length of the record of a name, in bytes.
pub(super) const NAME_BYTES: usize = 33;

/// What a location record says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(super) enum Flag {
    /// The blob lies there, unless an older record says where: the first that
    /// is said of a place counts.
    Plain = 0,
    /// The blob lies there, whatever is older.
    Again = 1,
    /// The blob does not lie there.
    Deleted = 2,
}

mod field {
    use core::ops::Range;

    pub(super) const KIND: usize = 0;
    pub(super) const MAC: Range<usize> = 1..33;
    /// Big endian, as part of the key.
    pub(super) const PACKFILE: Range<usize> = MAC.end..MAC.end + 4;
    /// Big endian: the order in which records of one buffer came.
    pub(super) const ORDER: Range<usize> = PACKFILE.end..PACKFILE.end + 3;
    pub(super) const FLAG: usize = ORDER.end;
    pub(super) const OFFSET: Range<usize> = FLAG + 1..FLAG + 9;
    pub(super) const LENGTH: Range<usize> = OFFSET.end..OFFSET.end + 4;
    pub(super) const SUM: Range<usize> = LENGTH.end..LENGTH.end + 4;
}

const _: () = assert!(field::SUM.end == LOCATION_BYTES);

/// Bytes of the MAC that no fence has seen.
const FILTERED_AT: usize = field::MAC.start + 8;

/// Where a blob lies, by its kind and name.
///
/// SQLite has no check sums on its pages and files have none at all, and a disk
/// that changes a bit would have us take a blob for stored that is not: a record
/// that was changed is told by its sum. One that was lost only costs that its
/// blob is stored again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Located {
    pub(super) kind: ResourceKind,
    pub(super) mac: Mac,
    pub(super) packfile: u32,
    pub(super) flag: Flag,
    pub(super) offset_bytes: u64,
    pub(super) length_bytes: u32,
}

fn bytes<const N: usize>(record: &[u8], at: core::ops::Range<usize>) -> [u8; N] {
    record.get(at).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
}

/// Check sum of a record, without what only orders it.
fn sum(record: &[u8; LOCATION_BYTES]) -> [u8; 4] {
    let sum = Sum::new().bytes(&record[..field::ORDER.start]);
    sum.bytes(&record[field::FLAG..field::LENGTH.end]).bits().to_le_bytes()
}

/// Start of the keys of a blob's locations.
pub(super) fn prefix(kind: ResourceKind, mac: &Mac) -> [u8; NAME_BYTES] {
    let mut prefix = [0; NAME_BYTES];
    prefix[field::KIND] = kind.0;
    prefix[field::MAC].copy_from_slice(&mac.0);
    prefix
}

/// What [`prefix`] was made of.
pub(super) fn named(prefix: &[u8; NAME_BYTES]) -> (ResourceKind, Mac) {
    (ResourceKind(prefix[field::KIND]), Mac(bytes(prefix, field::MAC)))
}

impl Located {
    /// The record; `order` is less for what was said before.
    pub(super) fn emit(&self, order: u32) -> [u8; LOCATION_BYTES] {
        let mut record = [0; LOCATION_BYTES];
        record[..NAME_BYTES].copy_from_slice(&prefix(self.kind, &self.mac));
        record[field::PACKFILE].copy_from_slice(&self.packfile.to_be_bytes());
        record[field::ORDER].copy_from_slice(&order.to_be_bytes()[1..]);
        record[field::FLAG] = self.flag as u8;
        record[field::OFFSET].copy_from_slice(&self.offset_bytes.to_le_bytes());
        record[field::LENGTH].copy_from_slice(&self.length_bytes.to_le_bytes());
        let sum = sum(&record);
        record[field::SUM].copy_from_slice(&sum);
        record
    }

    /// What a record says, if it is as it was written.
    pub(super) fn parse(record: &[u8; LOCATION_BYTES]) -> Option<Self> {
        if record[field::SUM] != sum(record) {
            return None;
        }
        Some(Self {
            kind: ResourceKind(record[field::KIND]),
            mac: Mac(bytes(record, field::MAC)),
            packfile: u32::from_be_bytes(bytes(record, field::PACKFILE)),
            flag: match record[field::FLAG] {
                0 => Flag::Plain,
                1 => Flag::Again,
                2 => Flag::Deleted,
                _ => return None,
            },
            offset_bytes: u64::from_le_bytes(bytes(record, field::OFFSET)),
            length_bytes: u32::from_le_bytes(bytes(record, field::LENGTH)),
        })
    }
}

/// [`Located`] as a record.
#[derive(Debug)]
pub(super) enum ByName {}

/// Changes the flag of a good record; a damaged one stays so.
fn set_flag(record: &mut [u8; LOCATION_BYTES], flag: Flag) {
    if let Some(located) = Located::parse(record) {
        *record = Located { flag, ..located }.emit(0);
    }
}

impl Record<LOCATION_BYTES> for ByName {
    const KEY_BYTES: usize = field::PACKFILE.end;
    const FILTERED_AT: Option<usize> = Some(FILTERED_AT);

    fn fold(older: &mut [u8; LOCATION_BYTES], newer: &[u8; LOCATION_BYTES]) {
        if newer[field::FLAG] != Flag::Plain as u8 {
            *older = *newer;
        } else if older[field::FLAG] == Flag::Deleted as u8 {
            *older = *newer;
            set_flag(older, Flag::Again);
        }
    }

    fn settle(record: &mut [u8; LOCATION_BYTES]) -> bool {
        if record[field::FLAG] == Flag::Again as u8 {
            set_flag(record, Flag::Plain);
        }
        record[field::FLAG] != Flag::Deleted as u8
    }
}

/// Where a blob lies, by its packfile and place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Packed {
    pub(super) packfile: u32,
    pub(super) offset_bytes: u64,
    pub(super) kind: ResourceKind,
    pub(super) mac: Mac,
    pub(super) length_bytes: u32,
}

/// Length of the key of a [`Packed`], in bytes.
pub(super) const PACKED_KEY_BYTES: usize = PACKED_BYTES - 4;

impl Packed {
    pub(super) fn emit(&self) -> [u8; PACKED_BYTES] {
        let mut record = [0; PACKED_BYTES];
        record[..4].copy_from_slice(&self.packfile.to_be_bytes());
        record[4..12].copy_from_slice(&self.offset_bytes.to_be_bytes());
        record[12..45].copy_from_slice(&prefix(self.kind, &self.mac));
        record[45..].copy_from_slice(&self.length_bytes.to_le_bytes());
        record
    }

    pub(super) fn parse(record: &[u8; PACKED_BYTES]) -> Self {
        Self {
            packfile: u32::from_be_bytes(bytes(record, 0..4)),
            offset_bytes: u64::from_be_bytes(bytes(record, 4..12)),
            kind: ResourceKind(record[12]),
            mac: Mac(bytes(record, 13..45)),
            length_bytes: u32::from_le_bytes(bytes(record, 45..49)),
        }
    }
}

/// [`Packed`] as a record.
#[derive(Debug)]
pub(super) enum ByPackfile {}

impl Record<PACKED_BYTES> for ByPackfile {
    const KEY_BYTES: usize = PACKED_KEY_BYTES;
}

/// A kind and a name: [`prefix`].
#[derive(Debug)]
pub(super) enum Names {}

impl Record<NAME_BYTES> for Names {
    const KEY_BYTES: usize = NAME_BYTES;
    const FILTERED_AT: Option<usize> = Some(FILTERED_AT);
}
