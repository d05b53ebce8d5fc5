//! What programs ask an index beside the engine: packfiles and what is in them,
//! colours, and sizes.

use rusqlite::{OptionalExtension as _, params};
use tiroir_core::index::Location;
use tiroir_core::mac::Mac;
use tiroir_core::resource::ResourceKind;
use tiroir_core::time::Timestamp;

use super::SqliteIndex;
use super::location::{ByPackfile, Located, PACKED_BYTES, PACKED_KEY_BYTES, Packed};
use super::runs::{Place, Runs, Start};
use super::schema::{self, PackfileRow, flags};
use crate::error::Result;

/// A packfile that states know of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packfile {
    /// Its name.
    pub name: Mac,
    /// The state that introduced it.
    pub state: Mac,
    /// When.
    pub declared: Timestamp,
    /// Since when it is to be deleted, if it is.
    pub coloured: Option<Timestamp>,
}

/// A blob, seen from its packfile.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PackedBlob {
    /// Its kind.
    pub kind: ResourceKind,
    /// Its name.
    pub mac: Mac,
    /// Where it lies.
    pub location: Location,
}

/// Sizes of a store, as its states tell.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// States read.
    pub states: u64,
    /// Packfiles that are there, to be deleted or not.
    pub packfiles: u64,
    /// Those of them that are to be deleted.
    pub coloured_packfiles: u64,
    /// Locations of blobs in all of them; a blob may have several.
    pub blobs: u64,
    /// Bytes of these blobs, encoded.
    pub blob_bytes: u64,
}

impl SqliteIndex {
    /// The packfile of that name, unless it is gone.
    ///
    /// # Errors
    ///
    /// Of the database.
    pub fn find_packfile(&self, name: &Mac) -> Result<Option<Packfile>> {
        let row = self.check("look up a packfile in", self.row_of(name))?;
        Ok(row.and_then(|row| public_packfile(&row)))
    }

    /// The packfile whose name is the lowest above `after`, to be deleted or not.
    ///
    /// # Errors
    ///
    /// Of the database.
    pub fn next_known_packfile(&self, after: Option<&Mac>) -> Result<Option<Packfile>> {
        let columns = PackfileRow::COLUMNS;
        let first = if after.is_some() { "mac > ?" } else { "mac >= ?" };
        let sql = format!(
            "SELECT {columns} FROM packfiles WHERE {first} AND flags & 3 = 1 ORDER BY mac LIMIT 1"
        );
        let find = || {
            let mut statement = self.main.connection.prepare_cached(&sql)?;
            let after = after.unwrap_or(&Mac::ZERO).0;
            statement.query_row([after], |row| PackfileRow::parse(row, 0)).optional()
        };
        let row = self.check("look up packfiles in", find())?;
        Ok(row.and_then(|row| public_packfile(&row)))
    }

    /// The blob that follows `after` in a packfile, or the first.
    ///
    /// The first call after a refresh sorts all locations by packfile, into
    /// temporary files as large as the index.
    ///
    /// # Errors
    ///
    /// Of the database.
    pub fn next_in_packfile(
        &mut self,
        packfile: &Mac,
        after: Option<&PackedBlob>,
    ) -> Result<Option<PackedBlob>> {
        self.order()?;
        let Some(row) = self.check("look up a packfile in", self.row_of(packfile))? else {
            return Ok(None);
        };
        let number = u32::try_from(row.id).unwrap_or(u32::MAX);
        let place = after.map_or_else(
            || number.to_be_bytes().to_vec(),
            |PackedBlob { kind, mac, location }| {
                let packed = Packed {
                    packfile: number,
                    offset_bytes: location.offset_bytes,
                    kind: *kind,
                    mac: *mac,
                    length_bytes: 0,
                };
                packed.emit()[..PACKED_KEY_BYTES].to_vec()
            },
        );
        let start = if after.is_none() { Start::At(&place) } else { Start::Behind(&place) };
        let Some(ordered) = &mut self.ordered else { return Ok(None) };
        let found = ordered.first(start)?.map(|record| Packed::parse(&record));
        Ok(found.filter(|found| found.packfile == number).map(|found| PackedBlob {
            kind: found.kind,
            mac: found.mac,
            location: Location {
                packfile: *packfile,
                offset_bytes: found.offset_bytes,
                length_bytes: found.length_bytes,
            },
        }))
    }

    /// Sorts all locations in the order of packfiles.
    pub(super) fn order(&mut self) -> Result<()> {
        if self.ordered.is_some() {
            return Ok(());
        }
        let place = Place::Hidden(self.options.spool_directory.clone());
        let quarter = self.options.quarter();
        let mut ordered = Runs::<ByPackfile, PACKED_BYTES>::new(place, quarter, quarter, 0);
        let sorted = self.locations.for_each(&mut |record| {
            let located = Located::parse(record).ok_or_else(schema::damage);
            let located = self.main.check("sort", located)?;
            let packed = Packed {
                packfile: located.packfile,
                offset_bytes: located.offset_bytes,
                kind: located.kind,
                mac: located.mac,
                length_bytes: located.length_bytes,
            };
            ordered.push(packed.emit())
        });
        self.noticed(sorted)?;
        ordered.purge(&mut |_| true)?;
        self.ordered = Some(ordered);
        Ok(())
    }

    /// Since when a resource is to be deleted, if it is.
    ///
    /// # Errors
    ///
    /// Of the database.
    pub fn colour(&self, kind: ResourceKind, mac: &Mac) -> Result<Option<Timestamp>> {
        if kind == ResourceKind::PACKFILE {
            let row = self.check("look up a packfile in", self.row_of(mac))?;
            let row = row.filter(|row| row.flags & flags::COLOURED != 0);
            return Ok(row.map(|row| Timestamp::from_unix_nanos(row.coloured_ns)));
        }
        let find = || {
            let sql = "SELECT ns FROM colours WHERE kind = ? AND mac = ?";
            let mut statement = self.main.connection.prepare_cached(sql)?;
            statement.query_row(params![kind.0, mac.0], |row| row.get(0)).optional()
        };
        Ok(self.check("look up a colour in", find())?.map(Timestamp::from_unix_nanos))
    }

    /// Counts everything: a walk over the whole index.
    ///
    /// # Errors
    ///
    /// Of the database.
    pub fn totals(&mut self) -> Result<Totals> {
        let count = || {
            let connection = &self.main.connection;
            let sql = "SELECT count(*), coalesce(sum(flags & 4), 0) / 4 FROM packfiles
                       WHERE flags & 3 = 1";
            let (packfiles, coloured): (i64, i64) =
                connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let sql = "SELECT count(*) FROM states WHERE phase = 2";
            let states: i64 = connection.query_row(sql, [], |row| row.get(0))?;
            Ok((packfiles, coloured, states))
        };
        let (packfiles, coloured, states) = self.check("count in", count())?;
        let (blobs, blob_bytes) = self.count_blobs()?;
        Ok(Totals {
            states: states.cast_unsigned(),
            packfiles: packfiles.cast_unsigned(),
            coloured_packfiles: coloured.cast_unsigned(),
            blobs,
            blob_bytes,
        })
    }

    /// Number and length of the blobs in packfiles that are there.
    fn count_blobs(&mut self) -> Result<(u64, u64)> {
        self.order()?;
        let Some(ordered) = self.ordered.take() else { return Ok((0, 0)) };
        let (mut blobs, mut bytes) = (0, 0u64);
        let mut current: Option<(u32, bool)> = None;
        let counted = ordered.for_each(&mut |record| {
            let packed = Packed::parse(record);
            let is_there = match current {
                Some((packfile, is_there)) if packfile == packed.packfile => is_there,
                _ => {
                    let row = self.row_numbered(packed.packfile);
                    let row = self.check("look up a packfile in", row)?;
                    row.is_some_and(|row| is_there(&row))
                }
            };
            current = Some((packed.packfile, is_there));
            if is_there {
                blobs += 1;
                bytes = bytes.saturating_add(u64::from(packed.length_bytes));
            }
            Ok(())
        });
        self.ordered = Some(ordered);
        counted.map(|()| (blobs, bytes))
    }
}

/// Whether a packfile was introduced and is not gone.
fn is_there(row: &PackfileRow) -> bool {
    row.flags & (flags::DECLARED | flags::DELETED) == flags::DECLARED
}

fn public_packfile(row: &PackfileRow) -> Option<Packfile> {
    let coloured = row.flags & flags::COLOURED != 0;
    is_there(row).then(|| Packfile {
        name: row.mac,
        state: row.state,
        declared: Timestamp::from_unix_nanos(row.declared_ns),
        coloured: coloured.then(|| Timestamp::from_unix_nanos(row.coloured_ns)),
    })
}
