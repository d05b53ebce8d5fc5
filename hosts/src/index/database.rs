//! A connection to SQLite whose memory is bounded.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::durable::parent_of;
use crate::env::random_suffix;
use crate::error::{HostsError, Result};
use crate::spool::create_named;

/// Statements kept ready.
const STATEMENT_COUNT: usize = 48;

/// A database, and where it lies.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) connection: Connection,
    path: PathBuf,
}

impl Database {
    /// Opens the database at `path`, which is made if there is none.
    pub(crate) fn open(path: &Path, cache_bytes: usize, wait: Duration) -> Result<Self> {
        let opened = connect(path, cache_bytes, wait);
        let connection = opened.map_err(|error| HostsError::database("open", path, error))?;
        Ok(Self { connection, path: path.to_path_buf() })
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
        Ok(Self { connection, path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
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
