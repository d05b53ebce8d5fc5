//! [`SqliteIndex`]: which blob lies where, in a database on disk.
//!
//! A cache: everything in it is said by the states of the store, and it may be
//! deleted at any time. But it is never wrong after a power cut, because a
//! wrong index makes backups that cannot be restored:
//!
//! - Locations of blobs, which are nearly all of it, lie sorted in files beside
//!   the database ([`Runs`](runs::Runs)), written once and never changed; the
//!   database has packfiles, states, and the list of these files.
//! - A refresh is one transaction, in WAL mode: after a power cut the database
//!   is as it was after some earlier refresh. Files that it lists are synced
//!   before it is committed, and those that it lists no more are removed
//!   afterwards. Readers are never blocked, so that `ls` may refresh while a
//!   backup runs.
//! - Everything carries a check sum: rows, tables, and what lies in the runs.
//!   SQLite notices most damage to its pages; this notices the rest. Damaged
//!   files are removed and made [anew](fallback), at once.
//! - A process that cannot have the files, because another one keeps them
//!   locked, nobody may write there, or the disk is full, uses a temporary
//!   database and reads all states.
//! - Who [opens](SqliteIndex::open) an index [removes](cleaning) what others have
//!   left behind, and indexes that no longer fit.
//!
//! What belongs to one process is kept apart, in a temporary database that is
//! gone with it: blobs of a running backup, which states are listed, and marks.

mod cleaning;
mod database;
mod fallback;
mod files;
mod filter;
mod location;
mod query;
mod runs;
mod schema;
mod scratch;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};
use rustix::fs::Access;
use tiroir_core::host::{HostError as _, HostErrorKind};
use tiroir_core::index::{Index, Location, PackfilePlace, StateSink};
use tiroir_core::mac::Mac;
use tiroir_core::resource::{ResourceKind, Version};
use tiroir_core::time::Timestamp;

pub(crate) use self::database::Database;
pub use self::fallback::{Fallback, Remake};
use self::files::{Hold, path_of, remove_files};
use self::location::{
    ByName, ByPackfile, Flag, LOCATION_BYTES, Located, NAME_BYTES, Names, PACKED_BYTES, Packed,
    named, prefix,
};
pub use self::query::{PackedBlob, Packfile, Totals};
use self::runs::{NAME_PREFIX, Note, Place, Record as _, Runs, Start};
use self::schema::{Found, PackfileRow, flags};
use self::scratch::{Known, Scratch};
use crate::error::{Context as _, HostsError, Result};

/// Packfiles whose numbers are kept in memory.
const PACKFILE_SLOTS: usize = 256;

/// Packfiles whose rows are kept in memory.
const ROW_SLOTS: usize = 512;

/// Where fewer than one of so many are needed, each is looked up.
const NEEDED_OF_ALL: u64 = 8;

/// Locations of one blob that are looked at: copies of it in as many packfiles.
const COPIES_MAX: usize = 64;

/// How often files are looked for that another process replaces meanwhile.
const OPEN_TRIES: u32 = 5;

/// How an index uses memory, disk and time.
#[derive(Clone, Debug)]
pub struct IndexOptions {
    spool_directory: PathBuf,
    cache_bytes: usize,
    filter_bytes: usize,
    lock_wait: Duration,
    limit_bytes: u64,
    told: Option<fn(&Fallback)>,
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
            limit_bytes: u64::MAX,
            told: None,
        }
    }

    /// With `bytes` for what is read again and again and for what is sorted: a
    /// quarter each for pages of the database, for fences, and for what is
    /// added while a backup runs or a refresh sorts.
    #[must_use]
    pub fn with_page_cache(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// With filters of `bytes` in memory: one for each location or added name
    /// that is to be answered without a look at the disk. Half are for
    /// locations.
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

    /// With so much room for the indexes of all stores together. While one is
    /// changed, it may be there twice. If 0, none is kept.
    #[must_use]
    pub fn with_limit(mut self, bytes: u64) -> Self {
        self.limit_bytes = bytes;
        self
    }

    /// With somebody who is told, once, that a temporary index is used.
    #[must_use]
    pub fn with_fallback(mut self, told: fn(&Fallback)) -> Self {
        self.told = Some(told);
        self
    }

    fn quarter(&self) -> usize {
        self.cache_bytes / 4
    }

    /// Beside the database at `path`.
    fn named(&self, path: &Path) -> Place {
        Place::Named {
            directory: crate::durable::parent_of(path).to_path_buf(),
            spools: self.spool_directory.clone(),
        }
    }

    /// No locations yet, to be kept in `place`.
    fn locations(&self, place: Place) -> Runs<ByName, LOCATION_BYTES> {
        Runs::new(place, self.quarter(), self.quarter(), self.filter_bytes / 2)
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
/// Takes the page caches and the filters of its [`IndexOptions`], about 300 KiB
/// for SQLite itself, and 12 KiB.
pub struct SqliteIndex {
    main: Database,
    locations: Runs<ByName, LOCATION_BYTES>,
    /// Locations pushed in this refresh.
    pushed: u32,
    scratch: Option<Scratch>,
    options: IndexOptions,
    temporary: bool,
    /// Keeps others from removing the files.
    hold: Option<Hold>,
    remake: Option<Remake>,
    remakes: u32,
    /// How often new files took the place of damaged ones.
    new_files: u32,
    /// Bytes written to files that were given up since.
    earlier_written_bytes: u64,
    in_refresh: bool,
    /// Something was changed since the refresh began.
    changed: bool,
    /// Packfiles were deleted since the refresh began.
    deleted: bool,
    /// States were noted since it was last found out which are ready.
    noted: bool,
    /// Refreshes of the database that we know of.
    generation: i64,
    /// All locations by packfile, if somebody asked for that.
    ordered: Option<Runs<ByPackfile, PACKED_BYTES>>,
    /// Names of blobs that are needed.
    needed: Option<Runs<Names, NAME_BYTES>>,
    /// What is for filters was divided as this process needs it.
    is_divided: bool,
    slots: Vec<Option<Slot>>,
    /// Rows of packfiles by their numbers.
    rows: Vec<Option<PackfileRow>>,
    /// Locations of the blob that is looked for.
    found: Vec<[u8; LOCATION_BYTES]>,
}

impl SqliteIndex {
    /// Opens the index of a store, `<cache>/<repository>/index.sqlite`, or makes
    /// it. Damaged, foreign and outdated files are replaced. Makes room for it
    /// in the cache, if there is a limit.
    ///
    /// If the files cannot be had, the index is [temporary](Self::is_temporary).
    ///
    /// # Errors
    ///
    /// Of the system, when not even a temporary database can be made.
    pub fn open(cache: &Path, repository: &[u8; 16], options: IndexOptions) -> Result<Self> {
        cleaning::remove_temporary(&options.spool_directory);
        if options.limit_bytes == 0 {
            return Self::temporary(options);
        }
        let path = path_of(cache, repository);
        let opened = Self::open_kept(&path, &options);
        let own = crate::durable::parent_of(&path);
        cleaning::make_room(cache, own, options.limit_bytes, &mut |path| {
            remove_left(path, &options);
        });
        opened.or_else(|why| {
            options.tell(&why);
            Self::temporary(options)
        })
    }

    /// Opens an index in the cache.
    fn open_kept(path: &Path, options: &IndexOptions) -> Result<Self, Fallback> {
        let hold = Hold::take(crate::durable::parent_of(path))?;
        if files::is_occupied(path) {
            remove_files(path)?;
        }
        let open = || -> Result<Self> {
            let mut index = Self::over(open_file(path, options)?, options.clone(), false);
            index.load()?;
            Ok(index)
        };
        let mut index = match open() {
            Err(error) if error.is_damaged_database() => {
                remove_files(path)?;
                open()?
            }
            opened => opened?,
        };
        index.remove_strays()?;
        if let Some(wanted_bytes) = index.too_large()? {
            drop((index, hold));
            // It is of no use as it is, and takes the room of others.
            let directory = crate::durable::parent_of(path);
            if files::bytes_in(directory) > options.limit_bytes {
                Hold::without_users(directory, || remove_files(path));
            }
            return Err(Fallback::Limit { wanted_bytes });
        }
        index.hold = Some(hold);
        Ok(index)
    }

    /// Length of the index, now or when it was given up for it, if that is too
    /// much.
    fn too_large(&self) -> Result<Option<u64>> {
        let sql = "SELECT wanted FROM meta";
        let wanted = self.main.connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let wanted = u64::try_from(self.main.check("read", wanted)?).unwrap_or(0);
        let wanted = wanted.max(self.length_bytes()?);
        Ok(Some(wanted).filter(|wanted| *wanted > self.options.limit_bytes))
    }

    /// Length of the index, without what SQLite has beside it for as long as it is
    /// open.
    fn length_bytes(&self) -> Result<u64> {
        let database = self.main.length_bytes();
        let database = self.main.check("measure", database)?;
        Ok(database.saturating_add(self.locations.length_bytes()))
    }

    /// Notes how large the index would become, so that the next run need not find
    /// out. Nothing depends on it.
    fn note_wanted(&self, wanted_bytes: u64) {
        let wanted = i64::try_from(wanted_bytes).unwrap_or(i64::MAX);
        let _ = self.main.connection.execute("UPDATE meta SET wanted = ?", [wanted]);
    }

    /// Fails if the index would be longer than it may become.
    fn refuse_too_large(&self) -> Result<(), Fallback> {
        if self.temporary {
            return Ok(());
        }
        let wanted_bytes = self.length_bytes()?;
        if wanted_bytes > self.options.limit_bytes {
            return Err(Fallback::Limit { wanted_bytes });
        }
        Ok(())
    }

    /// Bytes that this process has written to the cache: exactly those of sorted
    /// files, and for the database what passed through its page cache.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        if self.temporary {
            return self.earlier_written_bytes;
        }
        self.earlier_written_bytes + self.main.written_bytes() + self.locations.written_bytes()
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
        let place = if temporary {
            Place::Hidden(options.spool_directory.clone())
        } else {
            options.named(main.path())
        };
        Self {
            main,
            locations: options.locations(place),
            pushed: 0,
            scratch: None,
            options,
            temporary,
            hold: None,
            remake: None,
            remakes: 0,
            new_files: 0,
            earlier_written_bytes: 0,
            in_refresh: false,
            changed: false,
            deleted: false,
            noted: false,
            generation: 0,
            ordered: None,
            needed: None,
            is_divided: false,
            slots: vec![None; PACKFILE_SLOTS],
            rows: vec![None; ROW_SLOTS],
            found: Vec::new(),
        }
    }

    /// Whether what is read now will have to be read again next time.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.temporary
    }

    /// Adds to an error what was being done, and removes damaged files.
    fn check<T>(&self, operation: &'static str, result: rusqlite::Result<T>) -> Result<T> {
        self.noticed(self.main.check(operation, result))
    }

    /// Removes the files if they are damaged.
    fn noticed<T>(&self, result: Result<T>) -> Result<T> {
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
        let opened = self.open_runs();
        self.noticed(opened)
    }

    /// Opens the runs that the database lists.
    fn open_runs(&mut self) -> Result<()> {
        if self.temporary {
            return Ok(());
        }
        for _ in 0..OPEN_TRIES {
            let notes = self.main.check("read", self.read_notes())?;
            self.generation = notes.0;
            match self.locations.open(&notes.1) {
                // Another process has merged it with others: the list is a new
                // one by now.
                Err(error) if error.kind() == HostErrorKind::NotFound => {}
                opened => return opened,
            }
        }
        // It is lost.
        self.main.check("read", Err(schema::damage()))
    }

    /// The generation and its list of runs, after comparing everything with its
    /// check sum.
    fn read_notes(&self) -> rusqlite::Result<(i64, Vec<Note>)> {
        let connection = &self.main.connection;
        if self.in_refresh {
            return read_notes(connection);
        }
        // So that all is of one moment.
        connection.execute_batch("BEGIN")?;
        let read = read_notes(connection);
        let ended = connection.execute_batch("COMMIT");
        let read = read?;
        ended.map(|()| read)
    }

    /// Replaces the list of runs.
    fn write_notes(&self) -> rusqlite::Result<()> {
        self.main.connection.execute("DELETE FROM runs", [])?;
        let sql = "INSERT INTO runs VALUES (?, ?, ?, ?)";
        let mut statement = self.main.connection.prepare_cached(sql)?;
        for (number, note) in (1..).zip(self.locations.notes()) {
            let records = note.records.cast_signed();
            statement.execute(params![number, note.name, records, note.sum])?;
        }
        Ok(())
    }

    /// Notes the check sum of all tables.
    fn write_sum(&self) -> rusqlite::Result<()> {
        let sum = schema::sum_of_tables(&self.main.connection, self.generation)?;
        let sql = "UPDATE meta SET checked = ?, wanted = 0";
        self.main.connection.prepare_cached(sql)?.execute([sum])?;
        Ok(())
    }

    fn read_generation(&self) -> rusqlite::Result<i64> {
        let sql = "SELECT generation FROM meta";
        self.main.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))
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
        if let Some(slot) = self.rows.get_mut(row_slot(row.id)) {
            *slot = None;
        }
        Ok(())
    }

    /// The row of that number, from memory if it was asked for lately.
    fn row_numbered(&mut self, number: u32) -> rusqlite::Result<Option<PackfileRow>> {
        numbered(&self.main, &mut self.rows, number)
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
    /// twentieth of all: everything is written anew.
    fn purge(&mut self) -> Result<()> {
        let gone = "flags & 10 = 2";
        let sql = format!(
            "SELECT count(*), count(CASE WHEN {gone} THEN 1 END), coalesce(max(id), 0)
             FROM packfiles"
        );
        let counts =
            |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?));
        let counted = self.main.connection.query_row(&sql, [], counts);
        let (all, unpurged, highest): (i64, i64, i64) = self.check("count in", counted)?;
        if unpurged * 20 < all {
            return Ok(());
        }
        // A bit for each packfile: 20 KiB for ten terabytes.
        let mut is_gone = vec![0u8; usize::try_from(highest / 8 + 1).unwrap_or(0)];
        let mut list = || {
            let sql = format!("SELECT id FROM packfiles WHERE {gone}");
            let mut statement = self.main.connection.prepare(&sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let id: i64 = row.get(0)?;
                let byte = usize::try_from(id / 8).ok().and_then(|byte| is_gone.get_mut(byte));
                *byte.ok_or_else(schema::damage)? |= 1 << (id & 7);
            }
            Ok(())
        };
        let listed = list();
        self.check("look up packfiles in", listed)?;
        self.locations.purge(&mut |record| {
            let packfile = Located::parse(record).map_or(0, |located| located.packfile);
            let byte = usize::try_from(packfile / 8).ok().and_then(|byte| is_gone.get(byte));
            byte.is_none_or(|byte| byte & 1 << (packfile & 7) == 0)
        })?;
        let columns = PackfileRow::COLUMNS;
        let next = format!("SELECT {columns} FROM packfiles WHERE {gone} AND id > ? LIMIT 1");
        let mut after = 0;
        let mut mark = || {
            loop {
                let row = self.main.connection.prepare_cached(&next)?;
                let mut row =
                    { row }.query_row([after], |row| PackfileRow::parse(row, 0)).optional()?;
                let Some(row) = &mut row else { return Ok(()) };
                after = row.id;
                row.flags |= flags::PURGED;
                self.write_row(row)?;
            }
        };
        let marked = mark();
        self.check("mark packfiles in", marked)
    }

    // Refreshing.

    /// Opens the transaction of a refresh, after what is left of an earlier one
    /// is forgotten.
    fn begin(&mut self) -> Result<()> {
        if self.in_refresh {
            self.roll_back()?;
        }
        (self.changed, self.deleted, self.noted) = (false, false, true);
        let begun = self.main.connection.execute_batch("BEGIN IMMEDIATE");
        self.check("begin to refresh", begun)?;
        self.in_refresh = true;
        self.catch_up()
    }

    /// Takes over what other processes have added meanwhile. Nobody else can
    /// change anything now.
    fn catch_up(&mut self) -> Result<()> {
        if self.temporary {
            return Ok(());
        }
        let generation = self.read_generation();
        if self.check("read", generation)? != self.generation {
            self.forget_rows();
            let opened = self.open_runs();
            self.noticed(opened)?;
        }
        Ok(())
    }

    /// Removes runs that no list mentions: those of a refresh that was cut.
    fn remove_strays(&mut self) -> Result<()> {
        if !self.has_strays() {
            return Ok(());
        }
        // It may be that somebody is making them just now.
        if self.main.connection.execute_batch("PRAGMA busy_timeout=0; BEGIN IMMEDIATE").is_ok() {
            self.in_refresh = true;
            let opened = self.catch_up();
            if opened.is_ok() {
                let directory = crate::durable::parent_of(self.main.path());
                for name in files::run_names(directory).filter(|name| !self.lists(name)) {
                    files::remove_run(directory, &name);
                }
            }
            self.in_refresh = false;
            let _ = self.main.connection.execute_batch("ROLLBACK");
            opened?;
        }
        let wait = self.main.connection.busy_timeout(self.options.lock_wait);
        self.main.check("set up", wait)
    }

    fn has_strays(&self) -> bool {
        let directory = crate::durable::parent_of(self.main.path());
        files::run_names(directory).any(|name| !self.lists(&name))
    }

    fn lists(&self, name: &str) -> bool {
        self.locations.notes().any(|note| note.name == name)
    }

    fn forget_rows(&mut self) {
        self.slots.fill(None);
        self.rows.fill(None);
    }

    /// Forgets a refresh that did not come to its end.
    fn roll_back(&mut self) -> Result<()> {
        self.in_refresh = false;
        self.changed = false;
        self.forget_rows();
        if self.temporary {
            // It has no journal.
            self.main = temporary_main(&self.options)?;
            self.locations =
                self.options.locations(Place::Hidden(self.options.spool_directory.clone()));
            return Ok(());
        }
        let rolled_back = self.main.connection.execute_batch("ROLLBACK");
        // SQLite rolls back by itself when a disk is full, and then says that
        // there is nothing to roll back.
        let _ = rolled_back;
        self.locations.remove_created();
        self.open_runs()
    }

    fn finish_refresh(&mut self) -> Result<(), Fallback> {
        if self.deleted {
            self.purge()?;
        }
        if self.changed {
            self.refuse_too_large()?;
        }
        self.locations.finish()?;
        if self.changed && !self.temporary {
            let directory = crate::durable::parent_of(self.main.path());
            crate::durable::sync_directory(directory).at("sync", directory)?;
        }
        let finished = self.commit_refresh();
        self.check("finish refreshing", finished)?;
        self.in_refresh = false;
        self.locations.settle_files();
        if self.changed && !self.temporary {
            // Else the last process to close the database does it. That it cannot
            // be done now is no harm.
            let _ = self.main.checkpoint();
        }
        Ok(())
    }

    fn commit_refresh(&mut self) -> rusqlite::Result<()> {
        if self.changed {
            self.generation += 1;
            let sql = "UPDATE meta SET generation = ?";
            self.main.connection.execute(sql, [self.generation])?;
            if !self.temporary {
                self.write_notes()?;
                self.write_sum()?;
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

    /// Whether all of some names, which come in order, have locations that may
    /// be used.
    fn has_sorted(
        &mut self,
        names: &mut dyn FnMut() -> Result<Option<[u8; NAME_BYTES]>>,
    ) -> Result<bool> {
        let mut located = self.locations.sorted()?;
        let mut next = located.next()?;
        while let Some(name) = names()? {
            let mut found = false;
            while let Some(record) = &next {
                let order = record[..NAME_BYTES].cmp(&name);
                if order.is_gt() {
                    break;
                }
                if order.is_eq() && !found {
                    let parsed = Located::parse(record).ok_or_else(schema::damage);
                    let number = self.main.check("look up a blob in", parsed)?.packfile;
                    let row = numbered(&self.main, &mut self.rows, number);
                    let row = self.main.check("look up a packfile in", row)?;
                    found = row.is_some_and(|row| flags::usable(row.flags));
                }
                next = located.next()?;
            }
            if !found {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn find_stored(&mut self, kind: ResourceKind, mac: &Mac) -> Result<Option<Location>> {
        let found = &mut self.found;
        found.clear();
        let looked = self.locations.find(&prefix(kind, mac), &mut |record| {
            let same = |known: &&mut [u8; LOCATION_BYTES]| {
                known[..ByName::KEY_BYTES] == record[..ByName::KEY_BYTES]
            };
            if let Some(older) = found.iter_mut().find(same) {
                ByName::fold(older, record);
            } else if found.len() < COPIES_MAX {
                found.push(*record);
            }
        });
        self.noticed(looked)?;
        for number in 0..self.found.len() {
            let located = Located::parse(&self.found[number]).ok_or_else(schema::damage);
            let located = self.check("look up a blob in", located)?;
            if located.flag == Flag::Deleted {
                continue;
            }
            let location = self.location_of(&located);
            if let Some(location) = self.check("look up a packfile in", location)? {
                return Ok(Some(location));
            }
        }
        Ok(None)
    }

    /// Where a blob lies, if that packfile may be used.
    fn location_of(&mut self, located: &Located) -> rusqlite::Result<Option<Location>> {
        // A location is never noted before its packfile.
        let row = self.row_numbered(located.packfile)?.ok_or_else(schema::damage)?;
        Ok(flags::usable(row.flags).then_some(Location {
            packfile: row.mac,
            offset_bytes: located.offset_bytes,
            length_bytes: located.length_bytes,
        }))
    }

    /// Lends what locations do not need of their half for filters to names that
    /// are added: a store that is new has none of the ones and many of the others.
    fn divide_filters(&mut self) -> Result<()> {
        let filter_bytes = self.options.filter_bytes;
        let located = usize::try_from(self.locations.len()).unwrap_or(usize::MAX);
        let spare = (filter_bytes / 2).saturating_sub(located);
        self.locations.limit_filters(filter_bytes / 2 - spare);
        self.scratch()?.limit_added(filter_bytes / 4 + spare);
        Ok(())
    }

    /// What belongs to this process, made when it is first needed.
    fn scratch(&mut self) -> Result<&mut Scratch> {
        match &mut self.scratch {
            Some(scratch) => Ok(scratch),
            empty => {
                let (cache, filter) = (self.options.quarter(), self.options.filter_bytes / 4);
                Ok(empty.insert(Scratch::new(&self.options.spool_directory, cache, filter)?))
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

    /// Notes a location, or that there is none any more.
    fn push_location(
        &mut self,
        kind: ResourceKind,
        mac: &Mac,
        packfile: i64,
        flag: Flag,
        at: Option<&Location>,
    ) -> Result<()> {
        let number = u32::try_from(packfile).map_err(|_| schema::damage());
        let located = Located {
            kind,
            mac: *mac,
            packfile: self.check("number a packfile in", number)?,
            flag,
            offset_bytes: at.map_or(0, |at| at.offset_bytes),
            length_bytes: at.map_or(0, |at| at.length_bytes),
        };
        if self.locations.is_flushed() {
            self.pushed = 0;
        }
        self.locations.push(located.emit(self.pushed))?;
        self.pushed += 1;
        self.changed = true;
        Ok(())
    }

    fn find_snapshot(&mut self, after: Option<&Mac>) -> Result<Option<Mac>> {
        let kind = ResourceKind::SNAPSHOT;
        let mut last;
        let after = after.map(|after| prefix(kind, after));
        let mut start = match &after {
            None => Start::At(&[kind.0]),
            Some(after) => Start::Behind(after),
        };
        loop {
            let Some(record) = self.locations.first(start)? else { return Ok(None) };
            let located = Located::parse(&record).ok_or_else(schema::damage);
            let located = self.check("look up snapshots in", located)?;
            if located.kind != kind {
                return Ok(None);
            }
            let usable = self.location_of(&located);
            if self.check("look up a packfile in", usable)?.is_some()
                && self.colour(kind, &located.mac)?.is_none()
            {
                return Ok(Some(located.mac));
            }
            last = record;
            start = Start::Behind(&last[..ByName::KEY_BYTES]);
        }
    }
}

/// What a refresh says, to the database and the runs.
impl SqliteIndex {
    fn put_location(&mut self, kind: ResourceKind, mac: &Mac, at: &Location) -> Result<()> {
        let packfile = self.slot(&at.packfile);
        let packfile = self.check("look up a packfile in", packfile)?;
        if packfile.deleted {
            return Ok(());
        }
        self.push_location(kind, mac, packfile.id, Flag::Plain, Some(at))
    }

    fn put_packfile(
        &mut self,
        packfile: &Mac,
        state: &Mac,
        when: Timestamp,
    ) -> rusqlite::Result<()> {
        let mut row = self.intern(packfile)?;
        if row.flags & flags::DECLARED != 0 {
            return Ok(());
        }
        row.flags |= flags::DECLARED;
        row.state = *state;
        row.declared_ns = when.unix_nanos();
        self.write_row(&row)
    }

    fn put_colour(
        &mut self,
        kind: ResourceKind,
        mac: &Mac,
        when: Timestamp,
    ) -> rusqlite::Result<()> {
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
    }

    fn remove_location(&mut self, kind: ResourceKind, mac: &Mac, packfile: &Mac) -> Result<()> {
        let row = self.check("look up a packfile in", self.row_of(packfile))?;
        let Some(row) = row else { return Ok(()) };
        self.push_location(kind, mac, row.id, Flag::Deleted, None)
    }

    fn remove_colour(&mut self, kind: ResourceKind, mac: &Mac) -> rusqlite::Result<()> {
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
    }

    fn remove_packfile(&mut self, packfile: &Mac) -> rusqlite::Result<()> {
        let mut row = self.intern(packfile)?;
        if row.flags & flags::DELETED != 0 {
            return Ok(());
        }
        row.flags |= flags::DELETED;
        self.deleted = true;
        self.write_row(&row)
    }

    fn is_state_read(&self, state: &Mac) -> rusqlite::Result<Option<bool>> {
        let sql = "SELECT phase = 2 FROM states WHERE mac = ?";
        let mut statement = self.main.connection.prepare_cached(sql)?;
        statement.query_row([state.0], |row| row.get(0)).optional()
    }

    /// Notes a state; whether it was not noted before.
    fn put_state(&mut self, state: &Mac, version: Version, parent: &Mac) -> rusqlite::Result<bool> {
        let sql = "INSERT OR IGNORE INTO states VALUES (?, ?, ?, 0, 0)";
        let values = params![state.0, version.0, parent.0];
        let is_new = self.main.connection.prepare_cached(sql)?.execute(values)? > 0;
        self.noted = true;
        self.changed |= is_new;
        Ok(is_new)
    }

    fn last_state(&self) -> rusqlite::Result<Option<(Version, Mac)>> {
        let sql = "SELECT (SELECT max(version) FROM states WHERE phase = 2), mac FROM states
                   WHERE phase = 2 ORDER BY sequence DESC LIMIT 1";
        let mut statement = self.main.connection.prepare_cached(sql)?;
        let parse = |row: &rusqlite::Row<'_>| Ok((Version(row.get(0)?), schema::mac(row, 1)?));
        statement.query_row([], parse).optional()
    }

    fn find_usable_packfile(
        &self,
        after: Option<&PackfilePlace>,
    ) -> rusqlite::Result<Option<PackfilePlace>> {
        let columns = PackfileRow::COLUMNS;
        let sql = format!(
            "SELECT {columns} FROM packfiles WHERE (declared_ns, mac) > (?, ?) AND flags & 7 = 1
             ORDER BY declared_ns, mac LIMIT 1"
        );
        let (declared_ns, name) = match after {
            Some(after) => (after.declared.unix_nanos(), &after.name.0[..]),
            None => (i64::MIN, &[][..]),
        };
        let mut statement = self.main.connection.prepare_cached(&sql)?;
        let row = statement
            .query_row(params![declared_ns, name], |row| PackfileRow::parse(row, 0))
            .optional()?;
        Ok(row.map(|row| PackfilePlace {
            declared: Timestamp::from_unix_nanos(row.declared_ns),
            name: row.mac,
        }))
    }

    /// Changes something in the database.
    fn change_rows<T>(
        &mut self,
        operation: &'static str,
        change: impl FnOnce(&mut Self) -> rusqlite::Result<T>,
    ) -> Result<T> {
        self.change(|index| {
            let changed = change(index);
            Ok(index.check(operation, changed)?)
        })
    }
}

impl StateSink for SqliteIndex {
    type Error = HostsError;

    fn location(&mut self, kind: ResourceKind, mac: &Mac, at: &Location) -> Result<()> {
        self.change(|index| Ok(index.put_location(kind, mac, at)?))
    }

    fn packfile(&mut self, packfile: &Mac, state: &Mac, when: Timestamp) -> Result<()> {
        self.change_rows("add a packfile to", |index| index.put_packfile(packfile, state, when))
    }

    fn coloured(&mut self, kind: ResourceKind, mac: &Mac, when: Timestamp) -> Result<()> {
        self.change_rows("add a colour to", |index| index.put_colour(kind, mac, when))
    }

    fn delete_location(&mut self, kind: ResourceKind, mac: &Mac, packfile: &Mac) -> Result<()> {
        self.change(|index| Ok(index.remove_location(kind, mac, packfile)?))
    }

    fn delete_colour(&mut self, kind: ResourceKind, mac: &Mac) -> Result<()> {
        self.change_rows("remove a colour from", |index| index.remove_colour(kind, mac))
    }

    fn delete_packfile(&mut self, packfile: &Mac) -> Result<()> {
        self.change_rows("remove a packfile from", |index| index.remove_packfile(packfile))
    }
}

impl Index for SqliteIndex {
    fn find(&mut self, kind: ResourceKind, mac: &Mac) -> Result<Option<Location>> {
        self.ask_where(|index| index.find_stored(kind, mac))
    }

    fn contains(&mut self, kind: ResourceKind, mac: &Mac) -> Result<bool> {
        let added = match &mut self.scratch {
            Some(scratch) => scratch.has_added(kind, mac)?,
            None => false,
        };
        // What was lost is stored again, which does no harm.
        Ok(added || self.ask(|index| index.find_stored(kind, mac))?.is_some())
    }

    fn may_contain(&mut self, kind: ResourceKind, mac: &Mac) -> Result<bool> {
        // Damage is found by who looks something up.
        Ok(self.locations.may_hold(&prefix(kind, mac)).unwrap_or(true))
    }

    fn add(&mut self, kind: ResourceKind, mac: &Mac) -> Result<()> {
        if !std::mem::replace(&mut self.is_divided, true) {
            self.divide_filters()?;
        }
        self.scratch()?.add(kind, mac)
    }

    fn next_snapshot(&mut self, after: Option<&Mac>) -> Result<Option<Mac>> {
        self.ask(|index| {
            let found = index.find_snapshot(after);
            index.noticed(found)
        })
    }

    fn next_state(&mut self, after: Option<&Mac>) -> Result<Option<Mac>> {
        self.scratch()?.next_read(after)
    }

    fn next_packfile(&mut self, after: Option<&PackfilePlace>) -> Result<Option<PackfilePlace>> {
        self.ask(|index| {
            let found = index.find_usable_packfile(after);
            index.check("look up packfiles in", found)
        })
    }

    fn remakes(&self) -> u32 {
        self.remakes
    }

    fn each_located(
        &mut self,
        packfile: &Mac,
        each: &mut dyn FnMut(ResourceKind, &Mac, &Location) -> ControlFlow<()>,
    ) -> Result<()> {
        // Together, as numbers of packfiles change when the index is made anew.
        let row = self.ask(|index| {
            index.order()?;
            index.check("look up a packfile in", index.row_of(packfile))
        })?;
        let row = row.filter(|row| flags::usable(row.flags));
        let (Some(row), Some(ordered)) = (row, &mut self.ordered) else { return Ok(()) };
        let number = u32::try_from(row.id).unwrap_or(u32::MAX);
        let mut sorted = ordered.sorted_from(Start::At(&number.to_be_bytes()))?;
        while let Some(record) = sorted.next()? {
            let Packed { packfile: found, offset_bytes, kind, mac, length_bytes } =
                Packed::parse(&record);
            let at = Location { packfile: *packfile, offset_bytes, length_bytes };
            if found != number || each(kind, &mac, &at).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn need(&mut self, kind: ResourceKind, mac: &Mac) -> Result<()> {
        let options = &self.options;
        let needed = self.needed.get_or_insert_with(|| {
            let place = Place::Hidden(options.spool_directory.clone());
            Runs::new(place, options.quarter(), 0, 0)
        });
        needed.push(prefix(kind, mac))
    }

    fn has_needed(&mut self) -> Result<bool> {
        let Some(mut needed) = self.needed.take() else { return Ok(true) };
        needed.finish()?;
        self.ask(|index| {
            let mut names = needed.sorted()?;
            if needed.len().saturating_mul(NEEDED_OF_ALL) < index.locations.len() {
                while let Some(name) = names.next()? {
                    let (kind, mac) = named(&name);
                    if index.find_stored(kind, &mac)?.is_none() {
                        return Ok(false);
                    }
                }
                return Ok(true);
            }
            let has_all = index.has_sorted(&mut || names.next());
            index.noticed(has_all)
        })
    }

    fn mark(&mut self, kind: ResourceKind, mac: &Mac) -> Result<bool> {
        self.scratch()?.mark(kind, mac)
    }

    fn is_marked(&mut self, kind: ResourceKind, mac: &Mac) -> Result<bool> {
        self.scratch()?.is_marked(kind, mac)
    }

    fn begin_refresh(&mut self) -> Result<()> {
        self.scratch()?.forget_states()?;
        self.ordered = None;
        loop {
            let begun = self.begin();
            match begun {
                Err(error) if !self.temporary => self.start_over(&Fallback::Failed(error))?,
                begun => return begun,
            }
        }
    }

    fn state_listed(&mut self, state: &Mac) -> Result<bool> {
        let find = |index: &mut Self| index.is_state_read(state);
        let found = self.change_rows("look up a state in", find)?;
        let known = match found {
            None => Known::Name,
            Some(false) => Known::Header,
            Some(true) => Known::All,
        };
        self.scratch()?.list(state, known)?;
        Ok(found == Some(true))
    }

    fn all_states_listed(&mut self) -> Result<()> {
        let listed = self.scratch()?.count_read()?;
        self.change(|index| {
            let sql = "SELECT count(*) FROM states WHERE phase = 2";
            let count = index.main.connection.query_row(sql, [], |row| row.get(0));
            let read: i64 = index.main.check("count states in", count)?;
            if read <= listed {
                return Ok(());
            }
            let gone = |kind| {
                let path = std::os::unix::ffi::OsStrExt::as_bytes(index.main.path().as_os_str());
                let rule = "it knows states that the store does not have";
                HostsError::rule(kind, "use the index", path, rule)
            };
            // As if its own files were gone: new ones will do.
            let error = gone(HostErrorKind::NotFound);
            let lost = gone(HostErrorKind::Lost);
            if index.temporary {
                index.roll_back()?;
                return Err(lost.into());
            }
            Err(error.into())
        })
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
        let note = |index: &mut Self| index.put_state(state, version, parent);
        if self.change_rows("note a state in", note)? {
            self.scratch()?.set_known(state, Known::Header)?;
        }
        Ok(())
    }

    fn next_unread_state(&mut self) -> Result<Option<(Mac, Version)>> {
        self.change_rows("look up states in", Self::unread_state)
    }

    fn state_read(&mut self, state: &Mac) -> Result<()> {
        self.change_rows("note a state in", |index| index.mark_read(state))?;
        self.scratch()?.set_known(state, Known::All)
    }

    fn end_refresh(&mut self) -> Result<()> {
        self.change(Self::finish_refresh)
    }

    fn newest_state(&mut self) -> Result<Option<(Version, Mac)>> {
        self.ask(|index| index.check("look up states in", index.last_state()))
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
    let database = Database::open(path, options.quarter(), options.lock_wait)?;
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
    if !writable && rustix::fs::access(path, Access::WRITE_OK).is_ok() {
        // It is not the system that forbids it, but what the file says of itself.
        return Ok(None);
    }
    if !writable {
        let path = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
        let rule = "it cannot be written";
        return Err(HostsError::rule(HostErrorKind::PermissionDenied, "open index", path, rule));
    }
    Ok((found == Found::Ours).then_some(database))
}

/// The journal. Where the file system cannot do WAL, which shares memory,
/// SQLite keeps the other mode. Commits are synced in both: files that are
/// listed no more are removed after one.
fn set_journal(database: &Database) -> rusqlite::Result<()> {
    let sql = "PRAGMA journal_mode=WAL";
    let _: String = database.connection.query_row(sql, [], |row| row.get(0))?;
    database.connection.execute_batch("PRAGMA synchronous=FULL")
}

fn temporary_main(options: &IndexOptions) -> Result<Database> {
    Database::temporary(&options.spool_directory, options.quarter(), schema::TABLES)
}

/// Where the row of a packfile is kept in memory.
fn row_slot(id: i64) -> usize {
    usize::try_from(id).map_or(0, |id| id % ROW_SLOTS)
}

/// The generation and its list of runs, if they are as they were written.
fn read_notes(connection: &Connection) -> rusqlite::Result<(i64, Vec<Note>)> {
    let parse = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
    let sql = "SELECT generation, checked FROM meta";
    let (generation, checked) = connection.prepare_cached(sql)?.query_row([], parse)?;
    let is_new = (generation, checked) == (0, 0);
    if !is_new && schema::sum_of_tables(connection, generation)? != checked {
        return Err(schema::damage());
    }
    let mut statement =
        connection.prepare_cached("SELECT name, records, sum FROM runs ORDER BY id")?;
    let mut rows = statement.query([])?;
    let mut notes = Vec::new();
    while let Some(row) = rows.next()? {
        let (name, records, sum): (String, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let is_ours = name.starts_with(NAME_PREFIX) && !name.contains('/');
        match (u64::try_from(records), u32::try_from(sum)) {
            (Ok(records), Ok(sum)) if is_ours && records < 1 << 40 => {
                notes.push(Note { name, records, sum });
            }
            _ => return Err(schema::damage()),
        }
    }
    Ok((generation, notes))
}

/// Sees to an index that its last user did not close: what was on its way is
/// completed or removed.
fn remove_left(path: &Path, options: &IndexOptions) {
    let tidied = open_file(path, options).and_then(|main| {
        let mut index = SqliteIndex::over(main, options.clone(), false);
        index.load()?;
        index.remove_strays()
    });
    if tidied.is_err_and(|error| error.is_damaged_database()) {
        let _ = remove_files(path);
    }
}

/// The row of a packfile, from `rows` if it was asked for lately.
fn numbered(
    main: &Database,
    rows: &mut [Option<PackfileRow>],
    number: u32,
) -> rusqlite::Result<Option<PackfileRow>> {
    let id = i64::from(number);
    let place = row_slot(id);
    if let Some(row) = rows[place].filter(|row| row.id == id) {
        return Ok(Some(row));
    }
    let sql = "SELECT id, mac, flags, state, declared_ns, coloured_ns, checked
               FROM packfiles WHERE id = ?";
    let mut statement = main.connection.prepare_cached(sql)?;
    let row = statement.query_row([id], |row| PackfileRow::parse(row, 0)).optional()?;
    rows[place] = row;
    Ok(row)
}
