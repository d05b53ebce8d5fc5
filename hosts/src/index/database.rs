//! A connection to SQLite whose memory is bounded.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};

use crate::durable::parent_of;
use crate::env::random_suffix;
use crate::error::{HostsError, Result};
use crate::spool::create_named;

/// Statements kept ready.
const STATEMENT_COUNT: usize = 48;

/// Bytes of a page.
const PAGE_BYTES: u64 = 4096;

/// Bytes of the header before each page in the write-ahead log.
const FRAME_HEADER_BYTES: u64 = 24;

/// A database, and where it lies.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) connection: Connection,
    path: PathBuf,
    /// Pages copied from the write-ahead log into the database.
    copied_pages: u64,
    /// Pages in the log, and how many of them were copied, when last asked.
    log: (u64, u64),
}

impl Database {
    /// Opens the database at `path`, which is made if there is none.
    pub(crate) fn open(path: &Path, cache_bytes: usize, wait: Duration) -> Result<Self> {
        let opened = connect(path, cache_bytes, wait);
        let connection = opened.map_err(|error| HostsError::database("open", path, error))?;
        Ok(Self { connection, path: path.to_path_buf(), copied_pages: 0, log: (0, 0) })
    }

    /// Makes a database in a file without a name, gone with the process. It has
    /// no journal: what fails half way is of no use afterwards.
    pub(crate) fn temporary(directory: &Path, cache_bytes: usize, schema: &str) -> Result<Self> {
        let path = directory.join(format!("tiroir-index-{}", random_suffix()?));
        // Made by us, so that its rights are ours alone.
        drop(create_named(&path)?);
        let opened = connect(&path, cache_bytes, Duration::ZERO).and_then(|connection| {
            // The transaction is never ended: nothing needs to be written before
            // the page cache is full.
            connection.execute_batch(&format!(
                "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE;
                 {schema}"
            ))?;
            Ok(connection)
        });
        let removed = fs::remove_file(&path);
        let connection =
            opened.map_err(|error| HostsError::database("make database", &path, error))?;
        removed.map_err(|error| HostsError::io("hide database", &path, error))?;
        Ok(Self { connection, path, copied_pages: 0, log: (0, 0) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Copies what the write-ahead log has gathered into the database, as far as
    /// nobody still reads what was there before, and counts it.
    pub(crate) fn checkpoint(&mut self) -> rusqlite::Result<()> {
        let sql = "PRAGMA wal_checkpoint(PASSIVE)";
        // Both are -1 where there is no such log.
        let parse = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
        let (all, copied) = self.connection.query_row(sql, [], parse)?;
        let now = (u64::try_from(all).unwrap_or(0), u64::try_from(copied).unwrap_or(0));
        // A log that was copied to its end begins anew with the next change.
        let before = if self.log.0 == self.log.1 { 0 } else { self.log.1 };
        self.copied_pages += now.1.saturating_sub(before);
        self.log = now;
        Ok(())
    }

    /// Bytes written to disk so far: every page that left the page cache, as one
    /// in the write-ahead log, and those copied from there, where a page that
    /// changed twice is counted twice. Roll-back journals are not counted.
    pub(crate) fn written_bytes(&self) -> u64 {
        let pages = written_pages(&self.connection);
        pages * (PAGE_BYTES + FRAME_HEADER_BYTES) + self.copied_pages * PAGE_BYTES
    }

    /// Length of the database.
    pub(crate) fn length_bytes(&self) -> rusqlite::Result<u64> {
        let pages: i64 = self.connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        Ok(u64::try_from(pages).unwrap_or(0) * PAGE_BYTES)
    }

    /// Adds to an error what was being done.
    pub(crate) fn check<T>(
        &self,
        operation: &'static str,
        result: rusqlite::Result<T>,
    ) -> Result<T> {
        result.map_err(|error| HostsError::database(operation, &self.path, error))
    }
}

/// Pages that a connection has written.
#[expect(unsafe_code, reason = "rusqlite does not pass this question on")]
fn written_pages(connection: &Connection) -> u64 {
    let (mut current, mut highest) = (0, 0);
    // SAFETY: the handle is that of an open connection, which is borrowed for as
    // long as this takes and used by this thread alone. SQLite writes two
    // integers to where the pointers lead, and keeps neither.
    let answer = unsafe {
        ffi::sqlite3_db_status(
            connection.handle(),
            ffi::SQLITE_DBSTATUS_CACHE_WRITE,
            &raw mut current,
            &raw mut highest,
            0,
        )
    };
    if answer == ffi::SQLITE_OK { u64::try_from(current).unwrap_or(0) } else { 0 }
}

fn connect(path: &Path, cache_bytes: usize, wait: Duration) -> rusqlite::Result<Connection> {
    // No URI: a path may start with "file:". No mutex: nobody shares it.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(wait)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_COUNT);
    // Without this, every new value bound to a statement may have SQLite plan
    // it anew, which takes longer than the look-up.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // Sorting takes temporary files, and SQLite's own idea of where those go is
    // a RAM disk on many a router. The setting is one for the whole process.
    if let Some(directory) = parent_of(path).to_str() {
        let directory = directory.replace('\'', "''");
        let _ = connection.execute_batch(&format!("PRAGMA temp_store_directory='{directory}'"));
    }
    let kibibytes = (cache_bytes / 1024).max(64);
    connection.execute_batch(&format!(
        "PRAGMA page_size=4096; PRAGMA cache_size=-{kibibytes}; PRAGMA mmap_size=0;
         PRAGMA temp_store=FILE; PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON;"
    ))?;
    Ok(connection)
}
