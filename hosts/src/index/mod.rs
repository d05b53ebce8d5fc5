//! [`SqliteIndex`]: which blob lies where, in a database on disk.
//!
//! A cache: everything in it is said by the states of the store, and it may be
//! deleted at any time. But it is never wrong after a power cut, because a
//! wrong index makes backups that cannot be restored:
//!
//! - A refresh is one transaction, in WAL mode with `synchronous=NORMAL`: after
//!   a power cut the database is as it was after some earlier refresh. Readers
//!   are never blocked, so that `ls` may refresh while a backup runs.
//! - The first fill alone, when there is nothing yet to be read, is made with a
//!   rollback journal: it writes every page once instead of twice, which is
//!   felt with a million blobs on flash memory.
//! - Every row carries a check sum. SQLite notices most damage to its pages;
//!   this notices damage inside of rows. In both cases the file is removed, the
//!   error says [so](crate::error::HostsError::is_damaged_database), and the
//!   next open starts anew. What damage can do is to lose rows: a backup then
//!   stores a blob again, and a reader that misses a blob should
//!   [`discard`](SqliteIndex::discard) the index before it believes that.
//! - A process that cannot have the file, because another one keeps it locked
//!   or nobody may write there, uses a temporary database and reads all states.
//!
//! What belongs to one process is kept apart, in a temporary database that is
//! gone with it: blobs of a running backup, which states are listed, and marks.

mod database;
mod filter;
mod query;
mod schema;
mod scratch;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{OptionalExtension as _, params};
use tiroir_core::host::HostErrorKind;
use tiroir_core::index::{Index, Location, StateSink};
use tiroir_core::mac::Mac;
use tiroir_core::resource::{ResourceKind, Version};
use tiroir_core::time::Timestamp;

pub(crate) use self::database::Database;
use self::filter::Filter;
pub use self::query::{PackedBlob, Packfile, Totals};
use self::schema::{Found, PackfileRow, flags};
use self::scratch::{Known, Scratch};
use crate::error::{Context as _, HostsError, Result};

/// Name of the database in its directory.
const FILE_NAME: &str = "index.sqlite";

/// Packfiles whose numbers are kept in memory.
const PACKFILE_SLOTS: usize = 256;

/// How an index uses memory, disk and time.
#[derive(Clone, Debug)]
pub struct IndexOptions {
    spool_directory: PathBuf,
    cache_bytes: usize,
    filter_bytes: usize,
    lock_wait: Duration,
}

impl IndexOptions {
    /// Temporary databases lie in `spool_directory`. Page caches of 1 MiB, a
    /// filter of 256 KiB, and a minute of patience with other processes.
    #[must_use]
    pub fn new(spool_directory: impl Into<PathBuf>) -> Self {
        Self {
            spool_directory: spool_directory.into(),
            cache_bytes: 1024 * 1024,
            filter_bytes: 256 * 1024,
            lock_wait: Duration::from_secs(60),
        }
    }

    /// With page caches of `bytes` in all: three quarters for the index, one
    /// for what a running backup adds.
    #[must_use]
    pub fn with_page_cache(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// With a filter of `bytes`, which holds two keys to a byte at most. None
    /// if 0.
    #[must_use]
    pub fn with_filter(mut self, bytes: usize) -> Self {
        self.filter_bytes = bytes;
        self
    }

    /// With another time to wait for a process that writes to the index.
    #[must_use]
    pub fn with_lock_wait(mut self, wait: Duration) -> Self {
        self.lock_wait = wait;
        self
    }

    fn main_cache_bytes(&self) -> usize {
        self.cache_bytes / 4 * 3
    }
}

/// A packfile's number, as last looked up.
#[derive(Clone, Copy, Debug)]
struct Slot {
    name: Mac,
    id: i64,
    deleted: bool,
}

/// [`Index`] in a database: one file for each store, or a temporary one.
///
/// Takes the page caches and the filter of its [`IndexOptions`], about 300 KiB
/// for SQLite itself, and 12 KiB.
pub struct SqliteIndex {
    main: Database,
    scratch: Option<Scratch>,
    options: IndexOptions,
    filter: Option<Filter>,
    temporary: bool,
    in_refresh: bool,
    /// Something was changed since the refresh began.
    changed: bool,
    /// Packfiles were deleted since the refresh began.
    deleted: bool,
    /// States were noted since it was last found out which are ready.
    noted: bool,
    /// Refreshes of the database that we know of.
    generation: i64,
    /// `ordered` is attached.
    ordered: bool,
    slots: Vec<Option<Slot>>,
}

impl SqliteIndex {
    /// Opens the index of a store, `<cache>/<repository>/index.sqlite`, or makes
    /// it. Damaged, foreign and outdated files are replaced.
    ///
    /// If the file cannot be had, the index is [temporary](Self::is_temporary).
    ///
    /// # Errors
    ///
    /// Of the system, when not even a temporary database can be made.
    pub fn open(cache: &Path, repository: &[u8; 16], options: IndexOptions) -> Result<Self> {
        let path = path_of(cache, repository);
        let directory = crate::durable::parent_of(&path);
        if DirBuilder::new().recursive(true).mode(0o700).create(directory).is_err() {
            return Self::temporary(options);
        }
        let opened = match open_file(&path, &options) {
            Err(error) if error.is_damaged_database() => {
                remove_files(&path)?;
                open_file(&path, &options)
            }
            other => other,
        };
        match opened {
            Ok(main) => {
                let mut index = Self::over(main, options, false);
                match index.load() {
                    Err(error) if error.is_damaged_database() => {
                        let options = index.options.clone();
                        drop(index);
                        remove_files(&path)?;
                        let mut index = Self::over(open_file(&path, &options)?, options, false);
                        index.load()?;
                        Ok(index)
                    }
                    Err(error) => Err(error),
                    Ok(()) => Ok(index),
                }
            }
            Err(_) => Self::temporary(options),
        }
    }

    /// An empty index that is gone with the process.
    ///
    /// # Errors
    ///
    /// Of the system, when the database cannot be made.
    pub fn temporary(options: IndexOptions) -> Result<Self> {
        let main = temporary_main(&options)?;
        let mut index = Self::over(main, options, true);
        index.load()?;
        Ok(index)
    }

    /// Removes the index of a store, if there is one. A process that has it
    /// open goes on with what it has.
    ///
    /// # Errors
    ///
    /// Of the system.
    pub fn discard(cache: &Path, repository: &[u8; 16]) -> Result<()> {
        remove_files(&path_of(cache, repository))
    }

    fn over(main: Database, options: IndexOptions, temporary: bool) -> Self {
        Self {
            main,
            scratch: None,
            options,
            filter: None,
            temporary,
            in_refresh: false,
            changed: false,
            deleted: false,
            noted: false,
            generation: 0,
            ordered: false,
            slots: vec![None; PACKFILE_SLOTS],
        }
    }

    /// Whether what is read now will have to be read again next time.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.temporary
    }

    /// Adds to an error what was being done, and removes a damaged file.
    fn check<T>(&self, operation: &'static str, result: rusqlite::Result<T>) -> Result<T> {
        let result = self.main.check(operation, result);
        if let Err(error) = &result
            && error.is_damaged_database()
            && !self.temporary
        {
            let _ = remove_files(self.main.path());
        }
        result
    }

    /// Reads what is kept in memory.
    fn load(&mut self) -> Result<()> {
        let loaded = self.load_filter();
        self.check("read", loaded)
    }

    // The filter.

    fn load_filter(&mut self) -> rusqlite::Result<()> {
        self.generation = self.read_generation()?;
        let states = "SELECT EXISTS (SELECT 1 FROM states)";
        let states: bool = self.main.connection.query_row(states, [], |row| row.get(0))?;
        if !states {
            self.filter = Filter::new(self.options.filter_bytes, 0);
            return Ok(());
        }
        let pages = "PRAGMA page_count";
        let pages: u32 = self.main.connection.query_row(pages, [], |row| row.get(0))?;
        // A page holds some fifty locations, as trees fill their pages.
        self.filter = Filter::new(self.options.filter_bytes, u64::from(pages) * 50);
        if self.filter.is_some() && !self.merge_filter()? {
            self.build_filter()?;
        }
        Ok(())
    }

    fn read_generation(&self) -> rusqlite::Result<i64> {
        let sql = "SELECT generation FROM meta";
        self.main.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))
    }

    /// Adds the keys of the filter that is kept in the database. Whether there
    /// is one, of the same size.
    fn merge_filter(&mut self) -> rusqlite::Result<bool> {
        let Some(filter) = &mut self.filter else { return Ok(false) };
        let sql = "SELECT id, piece, checked FROM filter";
        let mut statement = self.main.connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            let number: i64 = row.get(0)?;
            let piece = row.get_ref(1)?.as_blob()?;
            if filter_sum(number, piece) != row.get::<_, i64>(2)? {
                return Err(schema::damage());
            }
            if !usize::try_from(number).is_ok_and(|number| filter.merge(number, piece)) {
                return Ok(false);
            }
            count += 1;
        }
        filter.count_keys();
        Ok(count == filter.pieces() && !filter.is_full())
    }

    /// Makes the filter from all locations.
    fn build_filter(&mut self) -> rusqlite::Result<()> {
        let Some(mut filter) = Filter::new(self.options.filter_bytes, 0) else { return Ok(()) };
        self.filter = None;
        let mut statement = self.main.connection.prepare("SELECT kind, mac FROM locations")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            filter.insert(ResourceKind(row.get(0)?), &schema::mac(row, 1)?);
            if filter.is_full() {
                return Ok(());
            }
        }
        drop(rows);
        drop(statement);
        filter.touch();
        self.filter = Some(filter);
        Ok(())
    }

    /// Keeps the filter in the database, as part of the refresh.
    fn save_filter(&mut self) -> rusqlite::Result<()> {
        if self.filter.as_ref().is_some_and(Filter::is_full) {
            self.filter = None;
        }
        let connection = &self.main.connection;
        let Some(filter) = &mut self.filter else {
            // It would lack what was added now.
            connection.execute("DELETE FROM filter", [])?;
            return Ok(());
        };
        let held = "SELECT count(*) FROM filter";
        let held: i64 = connection.query_row(held, [], |row| row.get(0))?;
        if usize::try_from(held) != Ok(filter.pieces()) {
            connection.execute("DELETE FROM filter", [])?;
            filter.touch();
        }
        let mut statement = connection.prepare_cached("REPLACE INTO filter VALUES (?, ?, ?)")?;
        filter.write(|number, piece| {
            let number = i64::try_from(number).unwrap_or(i64::MAX);
            statement.execute(params![number, piece, filter_sum(number, piece)]).map(drop)
        })
    }

    /// Whether a blob is surely neither stored nor pending.
    fn is_absent(&self, kind: ResourceKind, mac: &Mac) -> bool {
        self.filter.as_ref().is_some_and(|filter| !filter.may_hold(kind, mac))
    }

    fn note_key(&mut self, kind: ResourceKind, mac: &Mac) {
        if let Some(filter) = &mut self.filter {
            filter.insert(kind, mac);
        }
    }

    // Packfiles.

    fn row_of(&self, packfile: &Mac) -> rusqlite::Result<Option<PackfileRow>> {
        let sql = "SELECT id, mac, flags, state, declared_ns, coloured_ns, checked
                   FROM packfiles WHERE mac = ?";
        let mut statement = self.main.connection.prepare_cached(sql)?;
        statement.query_row([packfile.0], |row| PackfileRow::parse(row, 0)).optional()
    }

    fn write_row(&mut self, row: &PackfileRow) -> rusqlite::Result<()> {
        let sql = "UPDATE packfiles SET flags = ?, state = ?, declared_ns = ?, coloured_ns = ?,
                   checked = ? WHERE id = ?";
        let values =
            params![row.flags, row.state.0, row.declared_ns, row.coloured_ns, row.sum(), row.id];
        self.main.connection.prepare_cached(sql)?.execute(values)?;
        self.changed = true;
        self.slots[usize::from(row.mac.0[0])] = None;
        Ok(())
    }

    /// The row of a packfile, which is made if there is none.
    fn intern(&mut self, packfile: &Mac) -> rusqlite::Result<PackfileRow> {
        if let Some(row) = self.row_of(packfile)? {
            return Ok(row);
        }
        let sql = "INSERT INTO packfiles VALUES (NULL, ?, 0, ?, 0, 0, 0)";
        self.main.connection.prepare_cached(sql)?.execute(params![packfile.0, Mac::ZERO.0])?;
        let id = self.main.connection.last_insert_rowid();
        let row = PackfileRow { id, mac: *packfile, ..PackfileRow::default() };
        self.write_row(&row)?;
        Ok(row)
    }

    /// The number of a packfile, from memory if it was asked for lately.
    fn slot(&mut self, packfile: &Mac) -> rusqlite::Result<Slot> {
        let place = usize::from(packfile.0[0]);
        if let Some(slot) = self.slots[place].filter(|slot| slot.name == *packfile) {
            return Ok(slot);
        }
        let row = self.intern(packfile)?;
        let deleted = row.flags & flags::DELETED != 0;
        let slot = Slot { name: *packfile, id: row.id, deleted };
        self.slots[place] = Some(slot);
        Ok(slot)
    }

    /// Removes the locations in packfiles that are gone, once these are a
    /// twentieth of all: it takes a walk over the whole table.
    fn purge(&mut self) -> rusqlite::Result<()> {
        let gone = "flags & 10 = 2";
        let sql = format!("SELECT count(*), count(CASE WHEN {gone} THEN 1 END) FROM packfiles");
        let counts = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
        let (all, unpurged) = self.main.connection.query_row(&sql, [], counts)?;
        if unpurged * 20 < all {
            return Ok(());
        }
        self.main.connection.execute(
            &format!(
                "DELETE FROM locations WHERE packfile IN (SELECT id FROM packfiles WHERE {gone})"
            ),
            [],
        )?;
        let columns = PackfileRow::COLUMNS;
        let next = format!("SELECT {columns} FROM packfiles WHERE {gone} AND id > ? LIMIT 1");
        let mut after = 0;
        loop {
            let row = self.main.connection.prepare_cached(&next)?;
            let mut row =
                { row }.query_row([after], |row| PackfileRow::parse(row, 0)).optional()?;
            let Some(row) = &mut row else { return Ok(()) };
            after = row.id;
            row.flags |= flags::PURGED;
            self.write_row(row)?;
        }
    }

    // Refreshing.

    /// Opens the transaction of a refresh.
    fn begin(&mut self) -> rusqlite::Result<()> {
        let connection = &self.main.connection;
        let empty = "SELECT NOT EXISTS (SELECT 1 FROM states)";
        let empty: bool = connection.query_row(empty, [], |row| row.get(0))?;
        if empty && !self.temporary {
            // Fails if somebody else has the file open, and that is fine.
            let _ =
                connection.execute_batch("PRAGMA journal_mode=TRUNCATE; PRAGMA synchronous=FULL");
        }
        connection.execute_batch("BEGIN IMMEDIATE")?;
        self.in_refresh = true;
        let generation = self.read_generation()?;
        if generation != self.generation {
            // Another process added what our filter lacks.
            self.generation = generation;
            self.slots.fill(None);
            if !self.merge_filter()? {
                self.filter = None;
            }
        }
        Ok(())
    }

    /// Forgets a refresh that did not come to its end.
    fn roll_back(&mut self) -> Result<()> {
        self.in_refresh = false;
        self.changed = false;
        self.slots.fill(None);
        if self.temporary {
            // It has no journal.
            self.main = temporary_main(&self.options)?;
            return Ok(());
        }
        let rolled_back = self.main.connection.execute_batch("ROLLBACK");
        // SQLite rolls back by itself when a disk is full, and then says that
        // there is nothing to roll back.
        let _ = rolled_back;
        Ok(())
    }

    /// Goes on with an empty temporary database. The filter stays right: it may
    /// hold more than there is.
    fn become_temporary(&mut self) -> Result<()> {
        self.main = temporary_main(&self.options)?;
        self.temporary = true;
        self.ordered = false;
        self.generation = 0;
        self.slots.fill(None);
        Ok(())
    }

    fn finish_refresh(&mut self) -> rusqlite::Result<()> {
        if self.deleted {
            self.purge()?;
        }
        if self.changed {
            self.generation += 1;
            let sql = "UPDATE meta SET generation = ?";
            self.main.connection.execute(sql, [self.generation])?;
            if !self.temporary {
                self.save_filter()?;
            }
        }
        self.main.connection.execute_batch("COMMIT")
    }

    // States.

    /// Finds out which of the noted states have no noted parent.
    fn sort_out_states(&mut self) -> rusqlite::Result<()> {
        let sql = "UPDATE states SET phase = 1 WHERE phase = 0 AND NOT EXISTS
                   (SELECT 1 FROM states AS parents
                    WHERE parents.mac = states.parent AND parents.phase < 2)";
        self.main.connection.prepare_cached(sql)?.execute([])?;
        self.noted = false;
        Ok(())
    }

    fn unread_state(&mut self) -> rusqlite::Result<Option<(Mac, Version)>> {
        if self.noted {
            self.sort_out_states()?;
        }
        // Without any that is ready, parents go in a circle.
        for phase in ["phase = 1", "phase = 0"] {
            let sql = format!("SELECT mac, version FROM states WHERE {phase} LIMIT 1");
            let mut statement = self.main.connection.prepare_cached(&sql)?;
            let parse = |row: &rusqlite::Row<'_>| Ok((schema::mac(row, 0)?, Version(row.get(1)?)));
            let found = statement.query_row([], parse).optional()?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn mark_read(&mut self, state: &Mac) -> rusqlite::Result<()> {
        let connection = &self.main.connection;
        let sql = "INSERT INTO states VALUES (?1, 0, ?2, 2,
                       (SELECT 1 + coalesce(max(sequence), 0) FROM states))
                   ON CONFLICT (mac) DO UPDATE SET phase = 2, sequence = excluded.sequence";
        connection.prepare_cached(sql)?.execute(params![state.0, Mac::ZERO.0])?;
        let sql = "UPDATE states SET phase = 1 WHERE phase = 0 AND parent = ?";
        connection.prepare_cached(sql)?.execute([state.0])?;
        self.changed = true;
        Ok(())
    }

    // Blobs.

    fn find_stored(&self, kind: ResourceKind, mac: &Mac) -> rusqlite::Result<Option<Location>> {
        let sql = "SELECT offset, length, locations.checked, packfiles.id, packfiles.mac, flags,
                       state, declared_ns, coloured_ns, packfiles.checked
                   FROM locations JOIN packfiles ON packfiles.id = locations.packfile
                   WHERE kind = ? AND locations.mac = ?";
        let mut statement = self.main.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![kind.0, mac.0])?;
        while let Some(row) = rows.next()? {
            let packfile = PackfileRow::parse(row, 3)?;
            let location = parse_location(row, kind, mac, &packfile)?;
            if flags::usable(packfile.flags) {
                return Ok(Some(location));
            }
        }
        Ok(None)
    }

    /// What belongs to this process, made when it is first needed.
    fn scratch(&mut self) -> Result<&mut Scratch> {
        match &mut self.scratch {
            Some(scratch) => Ok(scratch),
            empty => {
                let cache_bytes = self.options.cache_bytes / 4;
                Ok(empty.insert(Scratch::new(&self.options.spool_directory, cache_bytes)?))
            }
        }
    }

    /// Refuses what only a refresh may do.
    fn in_refresh(&self) -> Result<()> {
        if self.in_refresh {
            return Ok(());
        }
        let path = std::os::unix::ffi::OsStrExt::as_bytes(self.main.path().as_os_str());
        Err(HostsError::rule(HostErrorKind::Other, "change", path, "no refresh was begun"))
    }

    fn insert_location(
        &mut self,
        kind: ResourceKind,
        mac: &Mac,
        at: &Location,
    ) -> rusqlite::Result<()> {
        let packfile = self.slot(&at.packfile)?;
        if packfile.deleted {
            return Ok(());
        }
        let (offset, length) = (at.offset_bytes.cast_signed(), i64::from(at.length_bytes));
        let sum = schema::location_sum(kind, mac, packfile.id, offset, length);
        let sql = "INSERT OR IGNORE INTO locations VALUES (?, ?, ?, ?, ?, ?)";
        let values = params![kind.0, mac.0, packfile.id, offset, length, sum];
        self.main.connection.prepare_cached(sql)?.execute(values)?;
        self.changed = true;
        self.note_key(kind, mac);
        Ok(())
    }

    fn find_snapshot(&self, after: Option<&Mac>) -> rusqlite::Result<Option<Mac>> {
        let first = if after.is_some() { "locations.mac > ?2" } else { "locations.mac >= ?2" };
        let sql = format!(
            "SELECT locations.mac FROM locations JOIN packfiles ON packfiles.id = packfile
             WHERE kind = ?1 AND {first} AND flags & 7 = 1 AND NOT EXISTS
                 (SELECT 1 FROM colours WHERE colours.kind = ?1 AND colours.mac = locations.mac)
             ORDER BY locations.mac LIMIT 1"
        );
        let after = after.unwrap_or(&Mac::ZERO).0;
        let mut statement = self.main.connection.prepare_cached(&sql)?;
        let values = params![ResourceKind::SNAPSHOT.0, after];
        statement.query_row(values, |row| schema::mac(row, 0)).optional()
    }
}

impl StateSink for SqliteIndex {
    type Error = HostsError;

    fn location(&mut self, kind: ResourceKind, mac: &Mac, at: &Location) -> Result<()> {
        self.in_refresh()?;
        let inserted = self.insert_location(kind, mac, at);
        self.check("add a location to", inserted)
    }

    fn packfile(&mut self, packfile: &Mac, state: &Mac, when: Timestamp) -> Result<()> {
        self.in_refresh()?;
        let mut declare = || {
            let mut row = self.intern(packfile)?;
            if row.flags & flags::DECLARED != 0 {
                return Ok(());
            }
            row.flags |= flags::DECLARED;
            row.state = *state;
            row.declared_ns = when.unix_nanos();
            self.write_row(&row)
        };
        let declared = declare();
        self.check("add a packfile to", declared)
    }

    fn coloured(&mut self, kind: ResourceKind, mac: &Mac, when: Timestamp) -> Result<()> {
        self.in_refresh()?;
        let mut colour = || {
            if kind != ResourceKind::PACKFILE {
                let sql = "INSERT OR IGNORE INTO colours VALUES (?, ?, ?)";
                let values = params![kind.0, mac.0, when.unix_nanos()];
                self.main.connection.prepare_cached(sql)?.execute(values)?;
                self.changed = true;
                return Ok(());
            }
            let mut row = self.intern(mac)?;
            if row.flags & flags::COLOURED != 0 {
                return Ok(());
            }
            row.flags |= flags::COLOURED;
            row.coloured_ns = when.unix_nanos();
            self.write_row(&row)
        };
        let coloured = colour();
        self.check("add a colour to", coloured)
    }

    fn delete_location(&mut self, kind: ResourceKind, mac: &Mac, packfile: &Mac) -> Result<()> {
        self.in_refresh()?;
        let mut delete = || {
            let Some(row) = self.row_of(packfile)? else { return Ok(()) };
            let sql = "DELETE FROM locations WHERE kind = ? AND mac = ? AND packfile = ?";
            let mut statement = self.main.connection.prepare_cached(sql)?;
            statement.execute(params![kind.0, mac.0, row.id])?;
            self.changed = true;
            Ok(())
        };
        let deleted = delete();
        self.check("remove a location from", deleted)
    }

    fn delete_colour(&mut self, kind: ResourceKind, mac: &Mac) -> Result<()> {
        self.in_refresh()?;
        let mut delete = || {
            if kind != ResourceKind::PACKFILE {
                let sql = "DELETE FROM colours WHERE kind = ? AND mac = ?";
                self.main.connection.prepare_cached(sql)?.execute(params![kind.0, mac.0])?;
                self.changed = true;
                return Ok(());
            }
            match self.row_of(mac)? {
                Some(mut row) if row.flags & flags::COLOURED != 0 => {
                    row.flags &= !flags::COLOURED;
                    row.coloured_ns = 0;
                    self.write_row(&row)
                }
                _ => Ok(()),
            }
        };
        let deleted = delete();
        self.check("remove a colour from", deleted)
    }

    fn delete_packfile(&mut self, packfile: &Mac) -> Result<()> {
        self.in_refresh()?;
        let mut delete = || {
            let mut row = self.intern(packfile)?;
            if row.flags & flags::DELETED != 0 {
                return Ok(());
            }
            row.flags |= flags::DELETED;
            self.deleted = true;
            self.write_row(&row)
        };
        let deleted = delete();
        self.check("remove a packfile from", deleted)
    }
}

impl Index for SqliteIndex {
    fn find(&mut self, kind: ResourceKind, mac: &Mac) -> Result<Option<Location>> {
        if self.is_absent(kind, mac) {
            return Ok(None);
        }
        let added = match &self.scratch {
            Some(scratch) => scratch.find(kind, mac)?,
            None => None,
        };
        if let Some(location) = added {
            // Its packfile is declared when its state is written.
            let row = self.check("look up a packfile in", self.row_of(&location.packfile))?;
            if row.is_none_or(|row| row.flags & (flags::DELETED | flags::COLOURED) == 0) {
                return Ok(Some(location));
            }
        }
        self.check("look up a blob in", self.find_stored(kind, mac))
    }

    fn add(&mut self, kind: ResourceKind, mac: &Mac, location: &Location) -> Result<()> {
        self.scratch()?.add(kind, mac, location)?;
        self.note_key(kind, mac);
        Ok(())
    }

    fn next_snapshot(&mut self, after: Option<&Mac>) -> Result<Option<Mac>> {
        self.check("look up snapshots in", self.find_snapshot(after))
    }

    fn next_state(&mut self, after: Option<&Mac>) -> Result<Option<Mac>> {
        self.scratch()?.next_read(after)
    }

    fn next_packfile(&mut self, after: Option<&Mac>) -> Result<Option<Mac>> {
        let mut next = self.next_known_packfile(after)?;
        while let Some(packfile) = next {
            if packfile.coloured.is_none() {
                return Ok(Some(packfile.name));
            }
            next = self.next_known_packfile(Some(&packfile.name))?;
        }
        Ok(None)
    }

    fn mark(&mut self, kind: ResourceKind, mac: &Mac) -> Result<bool> {
        self.scratch()?.mark(kind, mac)
    }

    fn is_marked(&mut self, kind: ResourceKind, mac: &Mac) -> Result<bool> {
        self.scratch()?.is_marked(kind, mac)
    }

    fn begin_refresh(&mut self) -> Result<()> {
        if self.in_refresh {
            self.roll_back()?;
        }
        self.scratch()?.forget_states()?;
        if self.ordered {
            self.ordered = false;
            // Statements that are kept ready hold on to it.
            self.main.connection.flush_prepared_statement_cache();
            let detached = self.main.connection.execute_batch("DETACH ordered");
            self.check("detach from", detached)?;
        }
        (self.changed, self.deleted, self.noted) = (false, false, true);
        match self.begin() {
            Err(error) if cannot_be_had(&error) && !self.temporary => {
                self.become_temporary()?;
                let begun = self.begin();
                self.check("begin to refresh", begun)
            }
            begun => self.check("begin to refresh", begun),
        }
    }

    fn state_listed(&mut self, state: &Mac) -> Result<bool> {
        self.in_refresh()?;
        let find = || {
            let sql = "SELECT phase = 2 FROM states WHERE mac = ?";
            let mut statement = self.main.connection.prepare_cached(sql)?;
            statement.query_row([state.0], |row| row.get(0)).optional()
        };
        let found: Option<bool> = self.check("look up a state in", find())?;
        let known = match found {
            None => Known::Name,
            Some(false) => Known::Header,
            Some(true) => Known::All,
        };
        self.scratch()?.list(state, known)?;
        Ok(found == Some(true))
    }

    fn next_unverified_state(&mut self) -> Result<Option<Mac>> {
        self.in_refresh()?;
        self.scratch()?.next_unverified()
    }

    fn state_unreadable(&mut self, state: &Mac) -> Result<()> {
        self.in_refresh()?;
        self.scratch()?.set_known(state, Known::Damaged)
    }

    fn state_header(&mut self, state: &Mac, version: Version, parent: &Mac) -> Result<()> {
        self.in_refresh()?;
        let note = || {
            let sql = "INSERT OR IGNORE INTO states VALUES (?, ?, ?, 0, 0)";
            let values = params![state.0, version.0, parent.0];
            self.main.connection.prepare_cached(sql)?.execute(values)
        };
        if self.check("note a state in", note())? > 0 {
            self.scratch()?.set_known(state, Known::Header)?;
        }
        self.noted = true;
        Ok(())
    }

    fn next_unread_state(&mut self) -> Result<Option<(Mac, Version)>> {
        self.in_refresh()?;
        let found = self.unread_state();
        self.check("look up states in", found)
    }

    fn state_read(&mut self, state: &Mac) -> Result<()> {
        self.in_refresh()?;
        let marked = self.mark_read(state);
        self.check("note a state in", marked)?;
        self.scratch()?.set_known(state, Known::All)
    }

    fn end_refresh(&mut self) -> Result<()> {
        self.in_refresh()?;
        let finished = self.finish_refresh();
        if finished.is_err() {
            // The first error tells more than one of the attempt to tidy up.
            let _ = self.roll_back();
        }
        self.in_refresh = false;
        self.check("finish refreshing", finished)?;
        if !self.temporary {
            // Fails if somebody reads just now; the other journal does as well.
            let _ = set_journal(&self.main);
        }
        Ok(())
    }

    fn newest_state(&mut self) -> Result<Option<(Version, Mac)>> {
        let find = || {
            let sql = "SELECT (SELECT max(version) FROM states WHERE phase = 2), mac FROM states
                       WHERE phase = 2 ORDER BY sequence DESC LIMIT 1";
            let mut statement = self.main.connection.prepare_cached(sql)?;
            let parse = |row: &rusqlite::Row<'_>| Ok((Version(row.get(0)?), schema::mac(row, 1)?));
            statement.query_row([], parse).optional()
        };
        self.check("look up states in", find())
    }
}

impl fmt::Debug for SqliteIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteIndex")
            .field("path", &self.main.path())
            .field("temporary", &self.temporary)
            .finish_non_exhaustive()
    }
}

/// Where the index of a store lies.
fn path_of(cache: &Path, repository: &[u8; 16]) -> PathBuf {
    let digits: String = repository.iter().map(|byte| format!("{byte:02x}")).collect();
    cache.join(digits).join(FILE_NAME)
}

/// Opens the database of an index, which is made if there is none.
fn open_file(path: &Path, options: &IndexOptions) -> Result<Database> {
    let database = open_tables(path, options)?;
    if let Some(database) = database {
        return Ok(database);
    }
    remove_files(path)?;
    open_tables(path, options)?.ok_or_else(|| {
        let path = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
        HostsError::rule(HostErrorKind::Other, "make index", path, "it changes all the time")
    })
}

/// Opens a database, unless what is in it is of no use.
fn open_tables(path: &Path, options: &IndexOptions) -> Result<Option<Database>> {
    let database = Database::open(path, options.main_cache_bytes(), options.lock_wait)?;
    let prepare = || {
        let found = match schema::inspect(&database.connection)? {
            // Somebody else may be making it: then theirs will do.
            Found::Empty => match schema::make_tables(&database.connection) {
                Ok(()) => Found::Ours,
                Err(error) => {
                    let _ = database.connection.execute_batch("ROLLBACK");
                    match schema::inspect(&database.connection)? {
                        Found::Ours => Found::Ours,
                        _ => return Err(error),
                    }
                }
            },
            found => found,
        };
        if found == Found::Ours {
            set_journal(&database)?;
        }
        Ok(found)
    };
    let found = database.check("open index", prepare())?;
    let writable = database.connection.is_readonly("main") == Ok(false);
    if !writable {
        let path = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
        let rule = "it cannot be written";
        return Err(HostsError::rule(HostErrorKind::PermissionDenied, "open index", path, rule));
    }
    Ok((found == Found::Ours).then_some(database))
}

/// The journal of every day. Where the file system cannot do WAL, which shares
/// memory, SQLite keeps the other mode and every commit is synced.
fn set_journal(database: &Database) -> rusqlite::Result<()> {
    let sql = "PRAGMA journal_mode=WAL";
    let mode: String = database.connection.query_row(sql, [], |row| row.get(0))?;
    let synchronous = if mode == "wal" { "NORMAL" } else { "FULL" };
    database.connection.execute_batch(&format!("PRAGMA synchronous={synchronous}"))
}

fn temporary_main(options: &IndexOptions) -> Result<Database> {
    Database::temporary(&options.spool_directory, options.main_cache_bytes(), schema::TABLES)
}

/// Removes a database and the journals beside it.
fn remove_files(path: &Path) -> Result<()> {
    for suffix in ["-journal", "-wal", "-shm", ""] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match fs::remove_file(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.at("remove", &name)?,
        }
    }
    Ok(())
}

/// Whether an error is about who may write, and not about what was written.
fn cannot_be_had(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode;
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::CannotOpen
                | ErrorCode::FileLockingProtocolFailed
        )
    )
}

fn filter_sum(number: i64, piece: &[u8]) -> i64 {
    schema::Sum::new().number(number).bytes(piece).value()
}

/// A location from a row that starts with its offset, length and check sum.
fn parse_location(
    row: &rusqlite::Row<'_>,
    kind: ResourceKind,
    mac: &Mac,
    packfile: &PackfileRow,
) -> rusqlite::Result<Location> {
    let (offset, length): (i64, i64) = (row.get(0)?, row.get(1)?);
    if schema::location_sum(kind, mac, packfile.id, offset, length) != row.get::<_, i64>(2)? {
        return Err(schema::damage());
    }
    Ok(Location {
        packfile: packfile.mac,
        offset_bytes: offset.cast_unsigned(),
        length_bytes: u32::try_from(length).map_err(|_| schema::damage())?,
    })
}
