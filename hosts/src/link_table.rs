//! [`LinkTable`]: which file of a restore has which further names.

use std::fmt;
use std::path::Path;

use rusqlite::{OptionalExtension as _, params};

use crate::error::Result;
use crate::index::Database;

/// Inodes of 64 bits fit SQLite's integers, sign and all.
const TABLES: &str = "
CREATE TABLE links (
    dev INTEGER NOT NULL, ino INTEGER NOT NULL, path BLOB NOT NULL,
    PRIMARY KEY (dev, ino)) WITHOUT ROWID;
BEGIN;
";

/// From device and inode, as recorded, to the first path that was restored.
///
/// On disk, in a file without a name: a restore may meet millions of links and
/// has no memory for them. Takes its page cache and about 100 KiB.
pub struct LinkTable {
    database: Database,
}

impl LinkTable {
    /// An empty table in `directory`, with a page cache of `cache_bytes`.
    ///
    /// # Errors
    ///
    /// Of the system, when the file cannot be made.
    pub fn new(directory: &Path, cache_bytes: usize) -> Result<Self> {
        Ok(Self { database: Database::temporary(directory, cache_bytes, TABLES)? })
    }

    /// The path under which that file was restored, if it was.
    ///
    /// # Errors
    ///
    /// Of the database.
    pub fn first(&self, dev: u64, ino: u64) -> Result<Option<Vec<u8>>> {
        let find = || {
            let sql = "SELECT path FROM links WHERE dev = ? AND ino = ?";
            let mut statement = self.database.connection.prepare_cached(sql)?;
            let key = params![dev.cast_signed(), ino.cast_signed()];
            statement.query_row(key, |row| row.get(0)).optional()
        };
        self.database.check("look up a link in", find())
    }

    /// Remembers where a file was restored, unless it was before.
    ///
    /// # Errors
    ///
    /// Of the database.
    pub fn insert(&mut self, dev: u64, ino: u64, path: &[u8]) -> Result<()> {
        let insert = || {
            let sql = "INSERT OR IGNORE INTO links VALUES (?, ?, ?)";
            let row = params![dev.cast_signed(), ino.cast_signed(), path];
            self.database.connection.prepare_cached(sql)?.execute(row)
        };
        self.database.check("add a link to", insert())?;
        Ok(())
    }
}

impl fmt::Debug for LinkTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkTable").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_path_stays() {
        let directory = tempfile::tempdir().unwrap();
        let mut table = LinkTable::new(directory.path(), 64 * 1024).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        for ino in 0..20_000 {
            let path = format!("a/file {ino} with a name of some length, so that pages fill");
            table.insert(u64::MAX, u64::MAX - ino, path.as_bytes()).unwrap();
            table.insert(u64::MAX, u64::MAX - ino, b"another").unwrap();
        }
        assert_eq!(table.first(1, u64::MAX).unwrap(), None);
        let first = table.first(u64::MAX, u64::MAX - 12_345).unwrap().unwrap();
        assert!(first.starts_with(b"a/file 12345 "));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
