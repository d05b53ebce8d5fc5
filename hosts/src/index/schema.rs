//! Tables of the index, and what is put into their rows.

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use tiroir_core::mac::Mac;

/// Marks the file as ours: `trir`.
const APPLICATION: i32 = 0x7472_6972;

/// Version of the tables. Another one is thrown away, not converted: it is a
/// cache, and the states say it all again.
const VERSION: i32 = 4;

/// Packfiles are numbered, so that a location takes four bytes for its packfile
/// instead of 32. Locations lie in files beside the database, which `runs`
/// lists; see [`Runs`](super::runs::Runs). Columns called `checked` hold a check
/// sum of their row; that of `meta` one of all other tables with it, but for
/// packfiles, which are many. `meta.wanted` is how large the index would have
/// become when it was last given up because of a limit.
pub(super) const TABLES: &str = "
CREATE TABLE packfiles (
    id INTEGER PRIMARY KEY, mac BLOB NOT NULL UNIQUE, flags INTEGER NOT NULL,
    state BLOB, declared_ns INTEGER NOT NULL, coloured_ns INTEGER NOT NULL,
    checked INTEGER NOT NULL);
CREATE INDEX packfiles_written ON packfiles (declared_ns, mac);
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, records INTEGER NOT NULL,
    sum INTEGER NOT NULL);
CREATE TABLE colours (
    kind INTEGER NOT NULL, mac BLOB NOT NULL, ns INTEGER NOT NULL,
    PRIMARY KEY (kind, mac)) WITHOUT ROWID;
CREATE TABLE states (
    mac BLOB PRIMARY KEY, version INTEGER NOT NULL, parent BLOB NOT NULL,
    phase INTEGER NOT NULL, sequence INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX states_waiting ON states (parent) WHERE phase = 0;
CREATE INDEX states_ready ON states (phase) WHERE phase = 1;
CREATE TABLE meta (
    id INTEGER PRIMARY KEY, generation INTEGER NOT NULL, checked INTEGER NOT NULL,
    wanted INTEGER NOT NULL);
INSERT INTO meta VALUES (0, 0, 0, 0);
";

/// What a database says of itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Found {
    /// Nothing yet.
    Empty,
    /// The tables of this version.
    Ours,
    /// Something else.
    Foreign,
}

/// Looks at what is in a database.
pub(super) fn inspect(connection: &Connection) -> rusqlite::Result<Found> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i32>(0));
    let application = number("PRAGMA application_id")?;
    let version = number("PRAGMA user_version")?;
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    Ok(match (application, version, tables) {
        (0, 0, 0) => Found::Empty,
        // As many as TABLES makes, with the index of a UNIQUE column.
        (APPLICATION, VERSION, 9) => Found::Ours,
        _ => Found::Foreign,
    })
}

/// Makes the tables, all or none.
pub(super) fn make_tables(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; {TABLES}
         PRAGMA application_id={APPLICATION}; PRAGMA user_version={VERSION}; COMMIT;"
    ))
}

/// Check sum of the tables that a row could be lost from without being missed.
pub(super) fn sum_of_tables(connection: &Connection, generation: i64) -> rusqlite::Result<i64> {
    let mut sum = Sum::new().number(generation);
    for sql in [
        "SELECT id, name, records, sum FROM runs ORDER BY id",
        "SELECT kind, mac, ns FROM colours ORDER BY kind, mac",
        "SELECT mac, version, parent, phase, sequence FROM states ORDER BY mac",
    ] {
        let mut statement = connection.prepare_cached(sql)?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                sum = match row.get_ref(column)? {
                    ValueRef::Integer(number) => sum.number(number),
                    ValueRef::Text(bytes) | ValueRef::Blob(bytes) => sum.bytes(bytes),
                    _ => return Err(damage()),
                };
            }
        }
        sum = sum.bytes(sql.as_bytes());
    }
    Ok(sum.value())
}

/// Bits of `packfiles.flags`.
pub(super) mod flags {
    /// A state introduced it.
    pub(in super::super) const DECLARED: i64 = 1;
    /// A state says that it is gone.
    pub(in super::super) const DELETED: i64 = 2;
    /// A state says that it is to go.
    pub(in super::super) const COLOURED: i64 = 4;
    /// It is gone, and so are its locations.
    pub(in super::super) const PURGED: i64 = 8;

    /// Whether what lies in such a packfile may be used.
    pub(in super::super) fn usable(flags: i64) -> bool {
        flags & (DECLARED | DELETED | COLOURED) == DECLARED
    }
}

/// A check sum in the manner of FNV-1a, eight bytes at a time: a flipped bit
/// changes it.
#[derive(Clone, Copy)]
pub(super) struct Sum(u64);

impl Sum {
    const PRIME: u64 = 0x0000_0100_0000_01b3;

    pub(super) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        // A product carries bits upward only: the turn brings them back.
        let step = |sum: u64, word: &[u8; 8]| {
            (sum ^ u64::from_le_bytes(*word)).wrapping_mul(Self::PRIME).rotate_left(29)
        };
        let sum = words.iter().fold(self.0, step);
        Self(step(sum, &last).wrapping_add(bytes.len() as u64))
    }

    pub(super) fn number(self, number: i64) -> Self {
        self.bytes(&number.to_le_bytes())
    }

    /// 32 bits of it.
    pub(super) fn bits(self) -> u32 {
        ((self.0 ^ self.0 << 31) >> 32) as u32
    }

    /// As kept in a row, where negative numbers take no more room.
    pub(super) fn value(self) -> i64 {
        i64::from(self.bits().cast_signed())
    }
}

/// A row of `packfiles`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PackfileRow {
    pub(super) id: i64,
    pub(super) mac: Mac,
    pub(super) flags: i64,
    pub(super) state: Mac,
    pub(super) declared_ns: i64,
    pub(super) coloured_ns: i64,
}

impl PackfileRow {
    /// Columns, in the order of [`parse`](Self::parse).
    pub(super) const COLUMNS: &'static str =
        "id, mac, flags, state, declared_ns, coloured_ns, checked";

    /// Check sum of the row.
    pub(super) fn sum(&self) -> i64 {
        let sum = Sum::new().number(self.id).bytes(&self.mac.0).number(self.flags);
        let sum = sum.bytes(&self.state.0).number(self.declared_ns).number(self.coloured_ns);
        sum.value()
    }

    /// Reads the row from a result whose column `first` is the first of ours.
    pub(super) fn parse(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Self> {
        let state = row.get_ref(first + 3)?.as_blob_or_null()?;
        let parsed = Self {
            id: row.get(first)?,
            mac: mac(row, first + 1)?,
            flags: row.get(first + 2)?,
            state: state.and_then(Mac::from_slice).unwrap_or_default(),
            declared_ns: row.get(first + 4)?,
            coloured_ns: row.get(first + 5)?,
        };
        if parsed.sum() == row.get::<_, i64>(first + 6)? { Ok(parsed) } else { Err(damage()) }
    }
}

/// A MAC in a column.
pub(super) fn mac(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Mac> {
    Mac::from_slice(row.get_ref(column)?.as_blob()?).ok_or_else(damage)
}

/// The error that SQLite would give, had it noticed.
pub(super) fn damage() -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(code, Some("a row does not match its check sum".to_owned()))
}
