//! [`SqliteStore`]: a store in one database file, with stock's tables.
//!
//! `configuration`, `packfiles`, `states` and `locks`; names are blobs of 32
//! bytes, but for locks, whose names are hexadecimal digits. Content is written
//! and read in pieces, and never is as a whole in memory. What is committed is
//! synced.

use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior, ffi};
use tiroir_core::host::HostErrorKind;
use tiroir_core::mac::Mac;
use tiroir_core::store::{Layout, Store, StoreResource, UploadId};

use crate::durable::{cannot_sync, parent_of, sync_directory};
use crate::error::{Context as _, HostsError, Result};
use crate::options::Options;
use crate::resources::{Uploads, plural};
use crate::staging::{Staged, Upload};
use crate::warn::Warnings;

/// Options that are read here.
pub const OPTIONS: [&str; 1] = ["timeout"];

/// How long to wait for another one who writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(60);

/// Pages in memory, in KiB; what a transaction changes beyond that is written
/// before it ends.
const CACHE_KIB: i32 = 512;

/// Bytes of content moved at once.
const PIECE_BYTES: usize = 64 * 1024;

/// Bytes read ahead when one reads on and on: to get to a place in a long value,
/// SQLite goes through all of it that is before.
const AHEAD_BYTES: usize = 256 * 1024;

/// The tables, in stock's words.
const TABLES: &str = "CREATE TABLE IF NOT EXISTS configuration (
		value	BLOB
	);
CREATE TABLE IF NOT EXISTS states (
		mac	VARCHAR(64) NOT NULL PRIMARY KEY,
		data		BLOB
	);
CREATE TABLE IF NOT EXISTS packfiles (
		mac	VARCHAR(64) NOT NULL PRIMARY KEY,
		data		BLOB
	);
CREATE TABLE IF NOT EXISTS locks (
		mac	VARCHAR(64) NOT NULL PRIMARY KEY,
		data		BLOB
	);";

/// A piece of a resource that was read.
#[derive(Debug, Default)]
struct Ahead {
    of: Option<(StoreResource, Mac)>,
    start: u64,
    bytes: Vec<u8>,
}

/// Store in a database.
///
/// Takes 512 KiB for pages of the database, up to 256 KiB for what is read
/// ahead, and what [`Staged`] takes for each upload under way.
pub struct SqliteStore {
    path: PathBuf,
    spool_directory: PathBuf,
    busy_timeout: Duration,
    connection: Option<Connection>,
    uploads: Uploads<Upload>,
    ahead: Ahead,
    /// Where the last read ended.
    read_on: Option<(StoreResource, Mac, u64)>,
    warnings: Warnings,
}

impl SqliteStore {
    /// The store in the database at `path`, which is not touched yet. Uploads
    /// wait in `spool_directory`.
    ///
    /// # Errors
    ///
    /// Options that are not understood.
    pub fn open(
        path: impl Into<PathBuf>,
        options: &Options,
        spool_directory: impl Into<PathBuf>,
    ) -> Result<Self> {
        Ok(Self {
            path: path.into(),
            spool_directory: spool_directory.into(),
            busy_timeout: options.seconds("timeout")?.unwrap_or(BUSY_TIMEOUT),
            connection: None,
            uploads: Uploads::default(),
            ahead: Ahead::default(),
            read_on: None,
            warnings: Warnings::default(),
        })
    }

    /// With a receiver of warnings.
    #[must_use]
    pub fn with_warnings(mut self, receiver: impl FnMut(&str) + Send + 'static) -> Self {
        self.warnings = Warnings::new(receiver);
        self
    }

    /// Where the database lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The database, which is opened if it is there, or made if `create`.
    fn connection(&mut self, create: bool) -> Result<&mut Connection> {
        if self.connection.is_none() {
            let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            if create {
                flags |= OpenFlags::SQLITE_OPEN_CREATE;
            }
            let connection = open_database(&self.path, flags, self.busy_timeout);
            let connection = connection.map_err(failed("open", &self.path))?;
            self.connection = Some(connection);
        }
        let closed = || HostsError::rule(HostErrorKind::Other, "open", b"", "it is closed");
        self.connection.as_mut().ok_or_else(closed)
    }

    fn rule(&self, kind: HostErrorKind, operation: &'static str, rule: &'static str) -> HostsError {
        use std::os::unix::ffi::OsStrExt as _;
        HostsError::rule(kind, operation, self.path.as_os_str().as_bytes(), rule)
    }

    /// Forgets what was read of a resource that is no longer what it was.
    fn forget(&mut self, resource: StoreResource, name: &Mac) {
        if self.ahead.of == Some((resource, *name)) {
            self.ahead.of = None;
        }
    }

    /// Reads straight from the database. Nothing if there is no such resource.
    fn read(
        &mut self,
        resource: StoreResource,
        name: &Mac,
        offset_bytes: u64,
        into: &mut [u8],
    ) -> Result<Option<usize>> {
        let path = self.path.clone();
        let connection = self.connection(false)?;
        let mut read = || {
            let table = plural(resource);
            let select = format!("SELECT rowid FROM {table} WHERE mac = ?1");
            let mut statement = connection.prepare_cached(&select)?;
            let row = statement.query_row([key_of(resource, name)], |row| row.get(0)).optional()?;
            let Some(row) = row else { return Ok(None) };
            let blob = connection.blob_open(c"main", table_name(resource), c"data", row, true)?;
            let Some(left) = usize::try_from(offset_bytes)
                .ok()
                .and_then(|offset| blob.len().checked_sub(offset))
                .filter(|left| *left > 0)
            else {
                return Ok(Some(0));
            };
            let count = left.min(into.len());
            let offset = usize::try_from(offset_bytes).unwrap_or(usize::MAX);
            blob.read_at_exact(&mut into[..count], offset)?;
            Ok(Some(count))
        };
        read().map_err(failed("read from", &path))
    }

    /// Reads ahead, and returns how much of `into` was filled.
    fn read_ahead(
        &mut self,
        resource: StoreResource,
        name: &Mac,
        offset_bytes: u64,
        into: &mut [u8],
    ) -> Result<Option<usize>> {
        let mut bytes = std::mem::take(&mut self.ahead.bytes);
        bytes.resize(AHEAD_BYTES, 0);
        let read = self.read(resource, name, offset_bytes, &mut bytes);
        bytes.truncate(read.as_ref().ok().copied().flatten().unwrap_or(0));
        self.ahead = Ahead { of: Some((resource, *name)), start: offset_bytes, bytes };
        Ok(read?.map(|_| self.held(resource, name, offset_bytes, into).unwrap_or(0)))
    }

    /// Fills `into` from what was read ahead, if something of it is there.
    fn held(
        &self,
        resource: StoreResource,
        name: &Mac,
        offset_bytes: u64,
        into: &mut [u8],
    ) -> Option<usize> {
        let is_of = self.ahead.of == Some((resource, *name));
        let skip = usize::try_from(offset_bytes.checked_sub(self.ahead.start)?).ok()?;
        let rest = self.ahead.bytes.get(skip..).filter(|rest| is_of && !rest.is_empty())?;
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Some(count)
    }
}

fn open_database(
    path: &Path,
    flags: OpenFlags,
    busy_timeout: Duration,
) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(busy_timeout)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // As stock does. Where it cannot be had, it is done without.
    let _ = connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()));
    Ok(connection)
}

fn failed(operation: &'static str, path: &Path) -> impl Fn(rusqlite::Error) -> HostsError {
    let path = path.to_path_buf();
    move |error| {
        use std::os::unix::ffi::OsStrExt as _;
        let rule =
            |kind, rule| HostsError::rule(kind, operation, path.as_os_str().as_bytes(), rule);
        match &error {
            rusqlite::Error::SqliteFailure(_, Some(words)) if words.contains("no such table") => {
                rule(HostErrorKind::NotFound, "it has no tables of a store")
            }
            rusqlite::Error::SqliteFailure(failure, _)
                if failure.extended_code == ffi::SQLITE_NOTADB =>
            {
                rule(HostErrorKind::Other, "it is no database of SQLite")
            }
            _ => HostsError::database(operation, &path, error),
        }
    }
}

fn table_name(resource: StoreResource) -> &'static std::ffi::CStr {
    match resource {
        StoreResource::Packfile => c"packfiles",
        StoreResource::State => c"states",
        StoreResource::Lock => c"locks",
    }
}

/// The name of a resource in its table.
fn key_of(resource: StoreResource, name: &Mac) -> Value {
    match resource {
        StoreResource::Packfile | StoreResource::State => Value::Blob(name.0.to_vec()),
        StoreResource::Lock => Value::Text(name.to_string()),
    }
}

/// Puts a resource in its table, in place of what has its name.
fn put(
    connection: &mut Connection,
    resource: StoreResource,
    name: &Mac,
    staged: &Staged,
) -> rusqlite::Result<Result<()>> {
    let (table, key) = (plural(resource), key_of(resource, name));
    let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    change.execute(&format!("DELETE FROM {table} WHERE mac = ?1"), [&key])?;
    let length = i64::try_from(staged.len()).unwrap_or(i64::MAX);
    let insert = format!("INSERT INTO {table} (mac, data) VALUES (?1, zeroblob(?2))");
    change.execute(&insert, rusqlite::params![key, length])?;
    let row = change.last_insert_rowid();
    let mut blob = change.blob_open(c"main", table_name(resource), c"data", row, false)?;
    let (mut piece, mut at) = (vec![0; PIECE_BYTES], 0);
    while at < staged.len() {
        let filled = match staged.read_at(at, &mut piece) {
            Ok(0) => return Ok(Err(crate::staging::too_short())),
            Ok(filled) => filled,
            Err(error) => return Ok(Err(error)),
        };
        let offset = usize::try_from(at).map_err(|_| rusqlite::Error::BlobSizeError)?;
        blob.write_at(&piece[..filled], offset)?;
        at += filled as u64;
    }
    blob.close()?;
    change.commit()?;
    Ok(Ok(()))
}

impl Store for SqliteStore {
    type Error = HostsError;

    fn layout(&self) -> Layout {
        Layout::Directory
    }

    fn read_config(&mut self, into: &mut [u8]) -> Result<usize> {
        let path = self.path.clone();
        let connection = self.connection(false)?;
        let select = "SELECT rowid FROM configuration";
        let row = connection.query_row(select, [], |row| row.get(0)).optional();
        let row: Option<i64> = row.map_err(failed("read the configuration in", &path))?;
        let Some(row) = row else {
            let rule = "there is none";
            return Err(self.rule(HostErrorKind::NotFound, "read the configuration in", rule));
        };
        let read = || {
            let blob = connection.blob_open(c"main", c"configuration", c"value", row, true)?;
            let count = blob.len().min(into.len());
            blob.read_at_exact(&mut into[..count], 0)?;
            Ok(blob.len())
        };
        let mut read = read;
        read().map_err(failed("read the configuration in", &path))
    }

    fn create(&mut self, bytes: &[u8]) -> Result<()> {
        let path = self.path.clone();
        let connection = self.connection(true)?;
        let mut make = || {
            let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            change.execute_batch(TABLES)?;
            let count: i64 =
                change.query_row("SELECT count(*) FROM configuration", [], |row| row.get(0))?;
            if count == 0 {
                change.execute("INSERT INTO configuration (value) VALUES (?1)", [bytes])?;
                change.commit()?;
            }
            Ok(count == 0)
        };
        if !make().map_err(failed("create a store in", &path))? {
            return Err(self.rule(
                HostErrorKind::AlreadyExists,
                "create a store in",
                "there is one",
            ));
        }
        // Of a new file, the name has to last as well.
        let directory = parent_of(&path);
        if !sync_directory(directory).at("sync", directory)? {
            self.warnings.warn(&cannot_sync(&path));
        }
        Ok(())
    }

    fn begin(&mut self, resource: StoreResource) -> Result<UploadId> {
        self.uploads.begin(|| Ok(Upload::new(resource, &self.spool_directory)))
    }

    fn write(&mut self, upload: UploadId, bytes: &[u8]) -> Result<()> {
        self.uploads.of(upload)?.staged.write(bytes)
    }

    fn commit(&mut self, upload: UploadId, name: &Mac) -> Result<()> {
        let upload = self.uploads.take(upload)?;
        self.forget(upload.resource, name);
        let path = self.path.clone();
        let connection = self.connection(false)?;
        let put = put(connection, upload.resource, name, &upload.staged);
        put.map_err(failed("write to", &path))?
    }

    fn abort(&mut self, upload: UploadId) {
        // Nothing of it is in the database.
        let _ = self.uploads.take(upload);
    }

    fn size(&mut self, resource: StoreResource, name: &Mac) -> Result<Option<u64>> {
        let path = self.path.clone();
        let connection = self.connection(false)?;
        let select = format!("SELECT length(data) FROM {} WHERE mac = ?1", plural(resource));
        let size = connection
            .query_row(&select, [key_of(resource, name)], |row| row.get::<_, Option<i64>>(0))
            .optional();
        let size = size.map_err(failed("read from", &path))?;
        Ok(size.map(|size| size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0)))
    }

    fn get(
        &mut self,
        resource: StoreResource,
        name: &Mac,
        offset_bytes: u64,
        into: &mut [u8],
    ) -> Result<usize> {
        // Locks change under their names.
        let may_keep = resource != StoreResource::Lock;
        let mut filled = 0;
        while filled < into.len() {
            let at = offset_bytes.saturating_add(filled as u64);
            if let Some(held) =
                self.held(resource, name, at, &mut into[filled..]).filter(|_| may_keep)
            {
                filled += held;
                continue;
            }
            let reads_on = may_keep && self.read_on == Some((resource, *name, at));
            let rest = &mut into[filled..];
            let read = if reads_on && rest.len() < AHEAD_BYTES {
                self.read_ahead(resource, name, at, rest)?
            } else {
                self.read(resource, name, at, rest)?
            };
            match read {
                Some(0) => break,
                Some(read) => filled += read,
                None => {
                    let rule = "there is no such resource";
                    return Err(self.rule(HostErrorKind::NotFound, "read from", rule));
                }
            }
            self.read_on = Some((resource, *name, offset_bytes.saturating_add(filled as u64)));
        }
        self.read_on = Some((resource, *name, offset_bytes.saturating_add(filled as u64)));
        Ok(filled)
    }

    fn list(
        &mut self,
        resource: StoreResource,
        each: &mut dyn FnMut(Mac) -> ControlFlow<()>,
    ) -> Result<()> {
        let path = self.path.clone();
        let connection = self.connection(false)?;
        let mut list = || {
            let mut statement =
                connection.prepare(&format!("SELECT mac FROM {}", plural(resource)))?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let name = match row.get_ref(0)? {
                    ValueRef::Blob(bytes) if resource != StoreResource::Lock => {
                        Mac::from_slice(bytes)
                    }
                    ValueRef::Text(digits) if resource == StoreResource::Lock => {
                        Mac::from_hex(digits)
                    }
                    // None of ours.
                    _ => None,
                };
                if let Some(name) = name
                    && each(name).is_break()
                {
                    break;
                }
            }
            Ok(())
        };
        list().map_err(failed("list", &path))
    }

    fn delete(&mut self, resource: StoreResource, name: &Mac) -> Result<()> {
        self.forget(resource, name);
        let path = self.path.clone();
        let connection = self.connection(false)?;
        let delete = format!("DELETE FROM {} WHERE mac = ?1", plural(resource));
        let deleted = connection.execute(&delete, [key_of(resource, name)]);
        deleted.map(|_| ()).map_err(failed("remove from", &path))
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{shared_store_contract, store_contract};
    use tiroir_core::host::HostError as _;

    fn store(path: &Path) -> SqliteStore {
        SqliteStore::open(path, &Options::default(), std::env::temp_dir()).unwrap()
    }

    #[test]
    fn keeps_the_contract() {
        let directory = tempfile::tempdir().unwrap();
        let mut number = 0;
        store_contract(|| {
            number += 1;
            store(&directory.path().join(format!("{number}.db")))
        });
        shared_store_contract(|number| {
            store(&directory.path().join(format!("shared-{number}.db")))
        });
    }

    #[test]
    fn tables_are_stocks() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db");
        let mut store = store(&path);
        store.create(b"config").unwrap();
        let name = Mac([0xab; 32]);
        for resource in [StoreResource::Packfile, StoreResource::State, StoreResource::Lock] {
            let upload = store.begin(resource).unwrap();
            store.write(upload, b"content").unwrap();
            store.commit(upload, &name).unwrap();
        }
        let database = Connection::open(&path).unwrap();
        for (table, kind, length) in
            [("packfiles", "blob", 32), ("states", "blob", 32), ("locks", "text", 64)]
        {
            let row = database.query_row(
                &format!("SELECT typeof(mac), length(mac), typeof(data), data FROM {table}"),
                [],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
            );
            let wanted: (String, i64, String, Vec<u8>) =
                (kind.into(), length, "blob".into(), b"content".to_vec());
            assert_eq!(row.unwrap(), wanted);
        }
    }

    #[test]
    fn other_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        let kind = |path: &Path| store(path).read_config(&mut [0; 10]).unwrap_err().kind();
        assert_eq!(kind(&path), HostErrorKind::NotFound);
        std::fs::write(&path, b"").unwrap();
        assert_eq!(kind(&path), HostErrorKind::NotFound);
        std::fs::write(&path, [b'x'; 5000]).unwrap();
        let error = store(&path).read_config(&mut [0; 10]).unwrap_err();
        assert!(error.to_string().contains("no database"), "{error}");
    }
}
