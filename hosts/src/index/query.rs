//! What programs ask an index beside the engine: packfiles and what is in them,
//! colours, and sizes.

use std::fs;

use rusqlite::{OptionalExtension as _, params};
use tiroir_core::index::Location;
use tiroir_core::mac::Mac;
use tiroir_core::resource::ResourceKind;
use tiroir_core::time::Timestamp;

use super::SqliteIndex;
use super::schema::{self, PackfileRow, flags};
use crate::env::random_suffix;
use crate::error::{Context as _, Result};
use crate::spool::create_named;

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
    /// The first call after a refresh sorts all locations by packfile, into a
    /// temporary database as large as the index.
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
        let sql = match after {
            None => {
                "SELECT offset, kind, mac, length FROM ordered.blobs WHERE packfile = ?1
                 ORDER BY offset, kind, mac LIMIT 1"
            }
            Some(_) => {
                "SELECT offset, kind, mac, length FROM ordered.blobs
                 WHERE packfile = ?1 AND (offset, kind, mac) > (?2, ?3, ?4)
                 ORDER BY offset, kind, mac LIMIT 1"
            }
        };
        let parse = |row: &rusqlite::Row<'_>| {
            Ok(PackedBlob {
                kind: ResourceKind(row.get(1)?),
                mac: schema::mac(row, 2)?,
                location: Location {
                    packfile: *packfile,
                    offset_bytes: row.get::<_, i64>(0)?.cast_unsigned(),
                    length_bytes: row.get(3)?,
                },
            })
        };
        let find = || {
            let mut statement = self.main.connection.prepare_cached(sql)?;
            match after {
                None => statement.query_row([row.id], parse),
                Some(PackedBlob { kind, mac, location }) => {
                    let offset = location.offset_bytes.cast_signed();
                    statement.query_row(params![row.id, offset, kind.0, mac.0], parse)
                }
            }
            .optional()
        };
        self.check("look up blobs in", find())
    }

    /// Makes and attaches the table of locations in the order of packfiles.
    fn order(&mut self) -> Result<()> {
        if self.ordered {
            return Ok(());
        }
        let directory = &self.options.spool_directory;
        let path = directory.join(format!("tiroir-order-{}", random_suffix()?));
        drop(create_named(&path)?);
        let attach = || {
            let sql = "ATTACH ? AS ordered";
            self.main.connection.execute(sql, [path.as_os_str().to_string_lossy()])?;
            let made = self.main.connection.execute_batch(schema::ORDERED_TABLES);
            if made.is_err() {
                self.main.connection.execute_batch("DETACH ordered")?;
            }
            made
        };
        let attached = attach();
        let removed = fs::remove_file(&path);
        self.check("sort", attached)?;
        removed.at("hide database", &path)?;
        self.ordered = true;
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
    pub fn totals(&self) -> Result<Totals> {
        let count = || {
            let connection = &self.main.connection;
            let sql = "SELECT count(*), coalesce(sum(flags & 4), 0) / 4 FROM packfiles
                       WHERE flags & 3 = 1";
            let (packfiles, coloured): (i64, i64) =
                connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let sql = "SELECT count(*), total(length) FROM locations
                       JOIN packfiles ON packfiles.id = packfile WHERE flags & 3 = 1";
            let (blobs, bytes): (i64, f64) =
                connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let sql = "SELECT count(*) FROM states WHERE phase = 2";
            let states: i64 = connection.query_row(sql, [], |row| row.get(0))?;
            Ok((packfiles, coloured, blobs, bytes, states))
        };
        let (packfiles, coloured, blobs, bytes, states) = self.check("count in", count())?;
        Ok(Totals {
            states: states.cast_unsigned(),
            packfiles: packfiles.cast_unsigned(),
            coloured_packfiles: coloured.cast_unsigned(),
            blobs: blobs.cast_unsigned(),
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a sum of lengths, exact below 2^53"
            )]
            blob_bytes: bytes as u64,
        })
    }
}

fn public_packfile(row: &PackfileRow) -> Option<Packfile> {
    let there = row.flags & (flags::DECLARED | flags::DELETED) == flags::DECLARED;
    let coloured = row.flags & flags::COLOURED != 0;
    there.then(|| Packfile {
        name: row.mac,
        state: row.state,
        declared: Timestamp::from_unix_nanos(row.declared_ns),
        coloured: coloured.then(|| Timestamp::from_unix_nanos(row.coloured_ns)),
    })
}
