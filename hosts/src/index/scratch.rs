//! [`Scratch`]: what an index knows for one process, for as long as it runs.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;

use rusqlite::{OptionalExtension as _, params};
use tiroir_core::mac::Mac;
use tiroir_core::resource::ResourceKind;

use super::database::Database;
use super::location::{NAME_BYTES, Names, prefix};
use super::runs::{Place, Runs};
use super::schema;
use crate::error::Result;

/// Page cache for the states that are listed: there are few.
const STATES_CACHE_BYTES: usize = 64 * 1024;

const TABLES: &str = "
CREATE TABLE states (mac BLOB PRIMARY KEY, known INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX states_unverified ON states (known) WHERE known = 0;
BEGIN;
";

/// Names that were added, in bounded memory: some in a table, and when it is
/// full all of them sorted on disk, with filters.
#[derive(Debug)]
struct NameSet {
    recent: HashSet<[u8; NAME_BYTES], Seed>,
    recent_max: usize,
    runs: Runs<Names, NAME_BYTES>,
}

/// Hashes names by eight of their bytes, which are random. With a seed of its
/// own for each table, so that nobody can make files for one that is slow.
#[derive(Clone, Debug)]
struct Seed(u64);

impl Seed {
    fn new() -> Self {
        Self(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for Seed {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded(self.0)
    }
}

/// The state of a hash of a name.
struct Folded(u64);

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        let last = bytes.last_chunk::<8>().map_or(0, |last| u64::from_le_bytes(*last));
        let kind = u64::from(bytes.first().copied().unwrap_or_default());
        let product = u128::from(self.0 ^ last) * u128::from(MULTIPLIER ^ kind);
        let [high, low] = [product >> 64, product & u128::from(u64::MAX)];
        self.0 = u64::try_from(high ^ low).unwrap_or_default();
    }

    /// The length, which is always the same.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Odd, with bits all over: those of the golden ratio.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

impl NameSet {
    fn new(directory: &Path, memory_bytes: usize, filter_bytes: usize) -> Self {
        // A table is between half and nearly full, and while it is sorted its
        // content is there twice.
        let recent_max = (memory_bytes / (4 * NAME_BYTES)).max(64);
        let place = Place::Hidden(directory.to_path_buf());
        Self {
            recent: HashSet::with_hasher(Seed::new()),
            recent_max,
            runs: Runs::new(place, recent_max * NAME_BYTES, memory_bytes / 4, filter_bytes),
        }
    }

    /// Adds a name that is not in the set.
    fn add(&mut self, kind: ResourceKind, mac: &Mac) -> Result<()> {
        if self.recent.len() == self.recent_max {
            for name in self.recent.drain() {
                self.runs.push(name)?;
            }
            self.runs.flush()?;
        }
        self.recent.insert(prefix(kind, mac));
        Ok(())
    }

    fn contains(&mut self, kind: ResourceKind, mac: &Mac) -> Result<bool> {
        let name = prefix(kind, mac);
        if self.recent.contains(&name) {
            return Ok(true);
        }
        let mut found = false;
        self.runs.find(&name, &mut |_| found = true)?;
        Ok(found)
    }
}

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
    added: NameSet,
    marks: NameSet,
}

impl Scratch {
    /// In `directory`. The names that were added, and the marks, take
    /// `cache_bytes` each, and `filter_bytes` for their filters.
    pub(super) fn new(directory: &Path, cache_bytes: usize, filter_bytes: usize) -> Result<Self> {
        Ok(Self {
            database: Database::temporary(directory, STATES_CACHE_BYTES, TABLES)?,
            added: NameSet::new(directory, cache_bytes, filter_bytes),
            marks: NameSet::new(directory, cache_bytes, filter_bytes),
        })
    }

    /// Lets filters of names that were added take another number of bytes.
    pub(super) fn limit_added(&mut self, filter_bytes: usize) {
        self.added.runs.limit_filters(filter_bytes);
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

    /// Whether a blob was added by the running backup.
    pub(super) fn has_added(&mut self, kind: ResourceKind, mac: &Mac) -> Result<bool> {
        self.added.contains(kind, mac)
    }

    /// Remembers a blob of the running backup.
    pub(super) fn add(&mut self, kind: ResourceKind, mac: &Mac) -> Result<()> {
        self.added.add(kind, mac)
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

    /// Listed states that were read before.
    pub(super) fn count_read(&self) -> Result<i64> {
        let sql = "SELECT count(*) FROM states WHERE known = 3";
        let count = self.database.connection.query_row(sql, [], |row| row.get(0));
        self.database.check("count states in", count)
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
    pub(super) fn mark(&mut self, kind: ResourceKind, mac: &Mac) -> Result<bool> {
        let was_marked = self.marks.contains(kind, mac)?;
        if !was_marked {
            self.marks.add(kind, mac)?;
        }
        Ok(was_marked)
    }

    /// Whether a resource is marked.
    pub(super) fn is_marked(&mut self, kind: ResourceKind, mac: &Mac) -> Result<bool> {
        self.marks.contains(kind, mac)
    }
}
