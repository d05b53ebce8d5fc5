//! [`LinkTable`]: which file of a restore has which further names.

use std::fmt;
use std::path::Path;

use rusqlite::{OptionalExtension as _, params};
use tiroir_core::host::HostErrorKind;
use tiroir_core::limits::PATH_BYTES_MAX;
use tiroir_core::mac::Mac;
use tiroir_core::snapshot::restore::Links;

use crate::error::{HostsError, Result};
use crate::index::Database;

/// Devices and inodes of 64 bits fit SQLite's integers, sign and all.
const TABLES: &str = "
CREATE TABLE links (
    dev INTEGER NOT NULL, ino INTEGER NOT NULL, object BLOB NOT NULL, path BLOB NOT NULL,
    PRIMARY KEY (dev, ino, object)) WITHOUT ROWID;
BEGIN;
";

/// [`Links`] on disk, in a file without a name: a restore may meet millions of
/// links and has no memory for them. Takes its page cache and about 100 KiB.
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
}

impl Links for LinkTable {
    type Error = HostsError;

    fn first_name(
        &mut self,
        (dev, ino, object): (u64, u64, &Mac),
        path: &[u8],
        out: &mut [u8; PATH_BYTES_MAX],
    ) -> Result<Option<usize>> {
        let key = (dev.cast_signed(), ino.cast_signed(), object.0);
        let mut find_or_insert = || {
            let connection = &self.database.connection;
            let sql = "SELECT path FROM links WHERE dev = ? AND ino = ? AND object = ?";
            let mut statement = connection.prepare_cached(sql)?;
            let copy = |row: &rusqlite::Row<'_>| {
                let first = row.get_ref(0)?.as_blob()?;
                // None was kept that does not fit.
                let len = first.len().min(PATH_BYTES_MAX);
                out[..len].copy_from_slice(&first[..len]);
                Ok(len)
            };
            let found = statement.query_row(key, copy).optional()?;
            if found.is_none() {
                let sql = "INSERT INTO links VALUES (?, ?, ?, ?)";
                connection.prepare_cached(sql)?.execute(params![key.0, key.1, key.2, path])?;
            }
            Ok(found)
        };
        if path.len() > PATH_BYTES_MAX {
            let rule = "its path is longer than is kept";
            return Err(HostsError::rule(HostErrorKind::Other, "remember", path, rule));
        }
        self.database.check("look up a link in", find_or_insert())
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
        let mut out = [0; PATH_BYTES_MAX];
        let object = Mac([7; 32]);
        for ino in 0..20_000 {
            let path = format!("a/file {ino} with a name of some length, so that pages fill");
            let file = (u64::MAX, u64::MAX - ino, &object);
            assert_eq!(table.first_name(file, path.as_bytes(), &mut out).unwrap(), None);
            let len = table.first_name(file, b"another", &mut out).unwrap().unwrap();
            assert_eq!(&out[..len], path.as_bytes());
        }
        let file = (u64::MAX, u64::MAX - 12_345, &object);
        let len = table.first_name(file, b"another", &mut out).unwrap().unwrap();
        assert!(out[..len].starts_with(b"a/file 12345 "));
        // The inode was used again, by another file.
        let other = (u64::MAX, u64::MAX - 12_345, &Mac::ZERO);
        assert_eq!(table.first_name(other, b"new", &mut out).unwrap(), None);
        assert!(table.first_name(other, &[b'x'; PATH_BYTES_MAX + 1], &mut out).is_err());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
