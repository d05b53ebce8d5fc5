//! [`Scratch`]: what an index knows for one process, for as long as it runs.

use std::path::Path;

use rusqlite::{OptionalExtension as _, params};
use tiroir_core::index::Location;
use tiroir_core::mac::Mac;
use tiroir_core::resource::ResourceKind;

use super::database::Database;
use super::schema;
use crate::error::Result;

/// Blobs have the key of the index, so that there is one place for each; their
/// packfiles are numbered as there.
const TABLES: &str = "
CREATE TABLE packfiles (id INTEGER PRIMARY KEY, mac BLOB NOT NULL);
CREATE TABLE blobs (
    kind INTEGER NOT NULL, mac BLOB NOT NULL, packfile INTEGER NOT NULL,
    offset INTEGER NOT NULL, length INTEGER NOT NULL,
    PRIMARY KEY (kind, mac)) WITHOUT ROWID;
CREATE TABLE states (mac BLOB PRIMARY KEY, known INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX states_unverified ON states (known) WHERE known = 0;
CREATE TABLE marks (
    kind INTEGER NOT NULL, mac BLOB NOT NULL, PRIMARY KEY (kind, mac)) WITHOUT ROWID;
BEGIN;
";

/// What is known of a state that the store lists.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Known {
    /// Its name; it waits to be verified.
    Name = 0,
    /// Its version and parent.
    Header = 1,
    /// That it cannot be read.
    Damaged = 2,
    /// All that it says.
    All = 3,
}

/// Blobs of a running backup, states that the last refresh listed, and marks.
#[derive(Debug)]
pub(super) struct Scratch {
    database: Database,
    /// The packfile of the last blob added, and its number.
    packfile: Option<(Mac, i64)>,
}

impl Scratch {
    pub(super) fn new(directory: &Path, cache_bytes: usize) -> Result<Self> {
        Ok(Self { database: Database::temporary(directory, cache_bytes, TABLES)?, packfile: None })
    }

    /// Runs one statement and returns how many rows it changed.
    fn execute(
        &self,
        operation: &'static str,
        sql: &str,
        values: impl rusqlite::Params,
    ) -> Result<usize> {
        let execute = || self.database.connection.prepare_cached(sql)?.execute(values);
        self.database.check(operation, execute())
    }

    /// Runs one query for a MAC.
    fn query_mac(&self, sql: &str, values: impl rusqlite::Params) -> Result<Option<Mac>> {
        let query = || {
            let mut statement = self.database.connection.prepare_cached(sql)?;
            statement.query_row(values, |row| schema::mac(row, 0)).optional()
        };
        self.database.check("look up states in", query())
    }

    /// Where a blob of the running backup lies.
    pub(super) fn find(&self, kind: ResourceKind, mac: &Mac) -> Result<Option<Location>> {
        let sql = "SELECT packfiles.mac, offset, length
                   FROM blobs JOIN packfiles ON packfiles.id = blobs.packfile
                   WHERE kind = ? AND blobs.mac = ?";
        let parse = |row: &rusqlite::Row<'_>| {
            Ok(Location {
                packfile: schema::mac(row, 0)?,
                offset_bytes: row.get::<_, i64>(1)?.cast_unsigned(),
                length_bytes: row.get(2)?,
            })
        };
        let query = || {
            let mut statement = self.database.connection.prepare_cached(sql)?;
            statement.query_row(params![kind.0, mac.0], parse).optional()
        };
        self.database.check("look up a blob in", query())
    }

    /// Remembers where a blob of the running backup lies.
    pub(super) fn add(&mut self, kind: ResourceKind, mac: &Mac, at: &Location) -> Result<()> {
        const OPERATION: &str = "add a blob to";
        let id = match self.packfile {
            Some((name, id)) if name == at.packfile => id,
            // Blobs come packfile by packfile: another row for one that was
            // there before does no harm.
            _ => {
                let sql = "INSERT INTO packfiles VALUES (NULL, ?)";
                self.execute(OPERATION, sql, [at.packfile.0])?;
                self.database.connection.last_insert_rowid()
            }
        };
        self.packfile = Some((at.packfile, id));
        let values = params![kind.0, mac.0, id, at.offset_bytes.cast_signed(), at.length_bytes];
        self.execute(OPERATION, "REPLACE INTO blobs VALUES (?, ?, ?, ?, ?)", values)?;
        Ok(())
    }

    /// Forgets which states are listed.
    pub(super) fn forget_states(&self) -> Result<()> {
        self.execute("forget states of", "DELETE FROM states", []).map(drop)
    }

    /// Notes that a state is listed.
    pub(super) fn list(&self, state: &Mac, known: Known) -> Result<()> {
        let sql = "INSERT OR IGNORE INTO states VALUES (?, ?)";
        self.execute("note a state in", sql, params![state.0, known as i64]).map(drop)
    }

    /// Changes what is known of a listed state.
    pub(super) fn set_known(&self, state: &Mac, known: Known) -> Result<()> {
        let sql = "UPDATE states SET known = ? WHERE mac = ?";
        self.execute("note a state in", sql, params![known as i64, state.0]).map(drop)
    }

    /// A listed state of which nothing but its name is known.
    pub(super) fn next_unverified(&self) -> Result<Option<Mac>> {
        self.query_mac("SELECT mac FROM states WHERE known = 0 LIMIT 1", [])
    }

    /// The listed state that was read and has the lowest name above `after`.
    pub(super) fn next_read(&self, after: Option<&Mac>) -> Result<Option<Mac>> {
        let first = if after.is_some() { ">" } else { ">=" };
        let sql = format!(
            "SELECT mac FROM states WHERE mac {first} ? AND known = 3 ORDER BY mac LIMIT 1"
        );
        self.query_mac(&sql, [after.unwrap_or(&Mac::ZERO).0])
    }

    /// Marks a resource, and returns whether it was marked before.
    pub(super) fn mark(&self, kind: ResourceKind, mac: &Mac) -> Result<bool> {
        let sql = "INSERT OR IGNORE INTO marks VALUES (?, ?)";
        Ok(self.execute("mark a resource in", sql, params![kind.0, mac.0])? == 0)
    }

    /// Whether a resource is marked.
    pub(super) fn is_marked(&self, kind: ResourceKind, mac: &Mac) -> Result<bool> {
        let sql = "SELECT 1 FROM marks WHERE kind = ? AND mac = ?";
        let find = || self.database.connection.prepare_cached(sql)?.exists(params![kind.0, mac.0]);
        self.database.check("look up a mark in", find())
    }
}
