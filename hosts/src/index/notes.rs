//! What an index knows for the time of one run only: which states the store
//! lists, and what was marked.

use rusqlite::{OptionalExtension as _, params};
use tiroir_core::mac::Mac;
use tiroir_core::resource::ResourceKind;

use super::database::Database;
use super::schema;

/// States that are listed: new ones wait to be verified, some cannot be read.
const TABLES: &str = "
CREATE TABLE states (mac BLOB PRIMARY KEY, phase INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX states_new ON states (phase) WHERE phase = 0;
CREATE TABLE marks (
    kind INTEGER NOT NULL, mac BLOB NOT NULL, PRIMARY KEY (kind, mac)) WITHOUT ROWID;
BEGIN;
";

/// What a listed state waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// To be verified.
    New = 0,
    /// For nothing: it is known.
    Known = 1,
    /// It cannot be read.
    Unreadable = 2,
}

/// Notes in a temporary database.
#[derive(Debug)]
pub(super) struct Notes {
    pub(super) database: Database,
}

impl Notes {
    pub(super) fn new(
        directory: &std::path::Path,
        cache_bytes: usize,
    ) -> crate::error::Result<Self> {
        Ok(Self { database: Database::temporary(directory, cache_bytes, TABLES)? })
    }

    pub(super) fn forget_states(&self) -> rusqlite::Result<()> {
        self.database.connection.execute_batch("DELETE FROM states")
    }

    pub(super) fn state(&self, state: &Mac, phase: Phase) -> rusqlite::Result<()> {
        let sql = "INSERT INTO states VALUES (?1, ?2) ON CONFLICT (mac) DO UPDATE SET phase = ?2";
        let values = params![state.0, phase as i64];
        self.database.connection.prepare_cached(sql)?.execute(values).map(drop)
    }

    pub(super) fn new_state(&self) -> rusqlite::Result<Option<Mac>> {
        let sql = "SELECT mac FROM states WHERE phase = 0 LIMIT 1";
        let mut statement = self.database.connection.prepare_cached(sql)?;
        statement.query_row([], |row| schema::mac(row, 0)).optional()
    }

    pub(super) fn known_state(&self, after: Option<&Mac>) -> rusqlite::Result<Option<Mac>> {
        let first = if after.is_some() { "mac > ?" } else { "mac >= ?" };
        let sql =
            format!("SELECT mac FROM states WHERE {first} AND phase = 1 ORDER BY mac LIMIT 1");
        let mut statement = self.database.connection.prepare_cached(&sql)?;
        let after = after.unwrap_or(&Mac::ZERO).0;
        statement.query_row([after], |row| schema::mac(row, 0)).optional()
    }

    /// Marks a resource, and returns whether it was.
    pub(super) fn mark(&self, kind: ResourceKind, mac: &Mac) -> rusqlite::Result<bool> {
        let sql = "INSERT OR IGNORE INTO marks VALUES (?, ?)";
        let mut statement = self.database.connection.prepare_cached(sql)?;
        Ok(statement.execute(params![kind.0, mac.0])? == 0)
    }

    pub(super) fn is_marked(&self, kind: ResourceKind, mac: &Mac) -> rusqlite::Result<bool> {
        let sql = "SELECT 1 FROM marks WHERE kind = ? AND mac = ?";
        self.database.connection.prepare_cached(sql)?.exists(params![kind.0, mac.0])
    }
}
