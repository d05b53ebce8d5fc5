//! [`FsStore`]: a store in a directory, laid out as stock does.
//!
//! Section 14.1 of the format: `CONFIG`, `packfiles/XX/<64 digits>`,
//! `states/XX/<64 digits>` and `locks/<64 digits>`. A resource is written to
//! `tmp.<random>` beside them and gets its name when it is whole and synced;
//! then its directory is synced. Stock does not look at `tmp.` names. Those of a
//! process that was killed are removed a week later by a backup.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rustix::fs::{Mode, OFlags};
use tiroir_core::host::HostErrorKind;
use tiroir_core::mac::Mac;
use tiroir_core::store::{Layout, Store, StoreResource, UploadId};
use tiroir_core::time::Timestamp;

use crate::abandoned::{REMOVED_MAX, TEMPORARY, is_idle, is_temporary};
use crate::durable::{cannot_sync, parent_of, sync_directory};
use crate::env::random_suffix;
use crate::error::{Context as _, HostsError, Result};
use crate::resources::{OpenFiles, Uploads, plural};
use crate::spool::create_named;
use crate::warn::Warnings;

use super::mounted::{Home, MountRule};

/// Bytes that an upload gathers before it writes, unless told otherwise.
const WRITE_BYTES: usize = 256 * 1024;

/// Packfiles and states that are kept open to be read.
const OPEN_FILES_MAX: usize = 8;

/// A resource being written.
#[derive(Debug)]
struct Upload {
    resource: StoreResource,
    file: File,
    path: PathBuf,
    /// What waits to be written.
    buffer: Vec<u8>,
}

/// Store in a directory of a local file system.
///
/// Durable means: the file is synced, renamed, and its directory is synced. Before
/// that it is compared whether the directory is the one that was opened: a disk may
/// have been unplugged.
/// Takes 256 KiB for each upload under way and nine file descriptors.
#[derive(Debug)]
pub struct FsStore {
    root: PathBuf,
    /// Where something has to be mounted.
    mount: Option<MountRule>,
    /// The directory, once it was found to be a store.
    home: Option<Home>,
    uploads: Uploads<Upload>,
    open: OpenFiles<File>,
    write_bytes: usize,
    warnings: Warnings,
    /// Directories of this file system cannot be synced, and that was said.
    warned_of_sync: bool,
}

impl FsStore {
    /// The store in the directory `root`, which is not touched yet. A relative
    /// path is one from the current directory at each call.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            mount: None,
            home: None,
            uploads: Uploads::default(),
            open: OpenFiles::new(OPEN_FILES_MAX),
            write_bytes: WRITE_BYTES,
            warnings: Warnings::default(),
            warned_of_sync: false,
        }
    }

    /// With a rule of where something has to be mounted.
    #[must_use]
    pub fn with_mount(mut self, rule: MountRule) -> Self {
        self.mount = Some(rule);
        self
    }

    /// With another size of what each upload gathers before it writes.
    #[must_use]
    pub fn with_write_buffer(mut self, bytes: usize) -> Self {
        self.write_bytes = bytes.max(1);
        self
    }

    /// With a receiver of warnings.
    #[must_use]
    pub fn with_warnings(mut self, receiver: impl FnMut(&str) + Send + 'static) -> Self {
        self.warnings = Warnings::new(receiver);
        self
    }

    /// Where the store lies.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Removes what nobody has written to for a week.
    fn remove_abandoned(&self) -> io::Result<()> {
        let now = changed_at(&fs::metadata(self.root.join("locks"))?)?;
        for directory in [self.root.clone(), self.root.join("packfiles"), self.root.join("states")]
        {
            let mut removed = 0;
            for entry in fs::read_dir(&directory)? {
                let entry = entry?;
                if removed == REMOVED_MAX || !is_temporary(entry.file_name().as_bytes()) {
                    continue;
                }
                let path = entry.path();
                let is_ours = self.uploads.iter().any(|upload| upload.path == path);
                // It may be finished meanwhile.
                let Ok(data) = entry.metadata() else { continue };
                if data.is_file() && !is_ours && is_idle(changed_at(&data)?, now) {
                    fs::remove_file(&path)?;
                    removed += 1;
                }
            }
        }
        Ok(())
    }

    /// Directory that holds a resource under its name.
    fn directory_of(&self, resource: StoreResource, name: &Mac) -> PathBuf {
        let directory = self.root.join(plural(resource));
        match resource {
            StoreResource::Lock => directory,
            _ => directory.join(format!("{name:.1}")),
        }
    }

    fn path_of(&self, resource: StoreResource, name: &Mac) -> PathBuf {
        self.directory_of(resource, name).join(name.to_string())
    }

    /// Directory in which a resource is written, on the same file system.
    fn temporary_directory(&self, resource: StoreResource) -> PathBuf {
        match resource {
            StoreResource::Lock => self.root.clone(),
            _ => self.root.join(plural(resource)),
        }
    }

    fn sync(&mut self, directory: &Path) -> Result<()> {
        let synced = sync_directory(directory).at("sync", directory)?;
        if !synced && !self.warned_of_sync {
            self.warned_of_sync = true;
            self.warnings.warn(&cannot_sync(&self.root));
        }
        Ok(())
    }

    /// Gives a written file its name.
    fn publish(&mut self, from: &Path, resource: StoreResource, name: &Mac) -> Result<()> {
        let directory = self.directory_of(resource, name);
        let path = directory.join(name.to_string());
        // A state makes a snapshot: one that is not sure to last must not stay,
        // or the snapshot would be there after it was told that there is none.
        let withdraw = resource == StoreResource::State && fs::symlink_metadata(&path).is_err();
        match fs::rename(from, &path) {
            // Someone tidied up empty directories.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !directory.exists() => {
                make_directory(&directory)?;
                self.sync(parent_of(&directory))?;
                fs::rename(from, &path).at("give its name to", &path)?;
            }
            other => other.at("give its name to", &path)?,
        }
        self.forget(resource, name);
        let synced = self.sync(&directory);
        if synced.is_err() && withdraw {
            let _ = fs::remove_file(&path);
        }
        synced
    }

    /// Closes a resource that is no longer what it was.
    fn forget(&mut self, resource: StoreResource, name: &Mac) {
        drop(self.open.take(resource, name));
    }

    /// Opens a resource, or finds it open. Locks change under their names and
    /// are opened each time.
    fn open(&mut self, resource: StoreResource, name: &Mac) -> Result<&File> {
        let held = self.open.take(resource, name);
        let file = match held.filter(|_| resource != StoreResource::Lock) {
            Some(file) => file,
            None => {
                let file = open_regular(&self.path_of(resource, name))?;
                drop(self.open.make_room());
                file
            }
        };
        Ok(self.open.put(resource, name, file))
    }

    /// Refuses to create a store where something is.
    fn make_root(&self) -> Result<()> {
        match fs::read_dir(&self.root) {
            Ok(mut entries) => match entries.next() {
                None => Ok(()),
                Some(_) => Err(HostsError::rule(
                    HostErrorKind::AlreadyExists,
                    "create a store in",
                    self.root.as_os_str().as_bytes(),
                    "the directory is not empty",
                )),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.root)
                .at("make directory", &self.root),
            Err(error) => Err(error).at("create a store in", &self.root),
        }
    }

    /// Writes CONFIG, the last thing to appear in a new store.
    fn write_config(&mut self, bytes: &[u8]) -> Result<()> {
        let temporary = self.root.join(format!("{TEMPORARY}{}", random_suffix()?));
        let path = self.root.join("CONFIG");
        let mut file = create_named(&temporary)?;
        let written = file
            .write_all(bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&temporary, &path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written.at("write", &path)
    }

    /// Calls `each` with the names in one directory, and tells whether to go on.
    fn list_directory(
        directory: &Path,
        starting_with: Option<u8>,
        each: &mut dyn FnMut(Mac) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(ControlFlow::Continue(()));
            }
            other => other.at("list", directory)?,
        };
        for entry in entries {
            let entry = entry.at("list", directory)?;
            let Some(name) = Mac::from_hex(entry.file_name().as_bytes()) else { continue };
            if starting_with.is_some_and(|first| first != name.0[0]) {
                continue;
            }
            match entry.file_type() {
                Ok(kind) if !kind.is_file() => continue,
                // It went away, or cannot be told: reading it will tell.
                Ok(_) | Err(_) => {}
            }
            if each(name).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Store for FsStore {
    type Error = HostsError;

    fn layout(&self) -> Layout {
        Layout::Directory
    }

    fn read_config(&mut self, into: &mut [u8]) -> Result<usize> {
        if let Some(rule) = &self.mount {
            rule.check(&self.root)?;
        }
        let path = self.root.join("CONFIG");
        let file = open_regular(&path)?;
        if self.home.is_none() {
            self.home = Some(Home::hold(&self.root, self.mount.clone())?);
        }
        let filled = read_full(&file, 0, into).at("read", &path)?;
        let length = file.metadata().at("inspect", &path)?.len();
        Ok(filled.max(usize::try_from(length).unwrap_or(usize::MAX)))
    }

    fn create(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(rule) = &self.mount {
            rule.check(&self.root)?;
        }
        self.make_root()?;
        self.home = Some(Home::hold(&self.root, self.mount.clone())?);
        let root = self.root.clone();
        for name in ["packfiles", "states"] {
            let directory = root.join(name);
            // Whoever makes the first one has the store: two may try at once.
            make_directory(&directory)?;
            for first in 0..=u8::MAX {
                make_directory(&directory.join(format!("{first:02x}")))?;
            }
            self.sync(&directory)?;
        }
        make_directory(&root.join("locks"))?;
        self.write_config(bytes)?;
        self.sync(&root)?;
        self.sync(parent_of(&root))
    }

    fn begin(&mut self, resource: StoreResource) -> Result<UploadId> {
        let directory = self.temporary_directory(resource);
        self.uploads.begin(|| {
            let path = directory.join(format!("{TEMPORARY}{}", random_suffix()?));
            let file = create_named(&path)?;
            Ok(Upload { resource, file, path, buffer: Vec::new() })
        })
    }

    fn write(&mut self, upload: UploadId, mut bytes: &[u8]) -> Result<()> {
        let write_bytes = self.write_bytes;
        let upload = self.uploads.of(upload)?;
        while !bytes.is_empty() {
            let room = write_bytes - upload.buffer.len();
            let (now, later) = bytes.split_at(bytes.len().min(room));
            bytes = later;
            if now.len() == write_bytes {
                upload.file.write_all(now).at("write", &upload.path)?;
                continue;
            }
            upload.buffer.extend_from_slice(now);
            if upload.buffer.len() == write_bytes {
                upload.file.write_all(&upload.buffer).at("write", &upload.path)?;
                upload.buffer.clear();
            }
        }
        Ok(())
    }

    fn commit(&mut self, upload: UploadId, name: &Mac) -> Result<()> {
        let mut upload = self.uploads.take(upload)?;
        let written = upload
            .file
            .write_all(&upload.buffer)
            .and_then(|()| upload.file.sync_all())
            .at("write", &upload.path);
        let is_home = || self.home.as_ref().map_or(Ok(()), Home::check);
        let written = written.and_then(|()| is_home());
        let published = written.and_then(|()| self.publish(&upload.path, upload.resource, name));
        if published.is_err() {
            // Gone already if only the directory could not be synced.
            let _ = fs::remove_file(&upload.path);
        }
        published
    }

    fn abort(&mut self, upload: UploadId) {
        if let Ok(upload) = self.uploads.take(upload) {
            let _ = fs::remove_file(&upload.path);
        }
    }

    fn size(&mut self, resource: StoreResource, name: &Mac) -> Result<Option<u64>> {
        let path = self.path_of(resource, name);
        match fs::metadata(&path) {
            Ok(data) if data.is_file() => Ok(Some(data.len())),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).at("inspect", &path),
        }
    }

    fn get(
        &mut self,
        resource: StoreResource,
        name: &Mac,
        offset_bytes: u64,
        into: &mut [u8],
    ) -> Result<usize> {
        let read = read_full(self.open(resource, name)?, offset_bytes, into);
        if read.is_err() {
            // What a network mount says of a file that was replaced over there.
            self.forget(resource, name);
        }
        match read {
            Ok(read) => Ok(read),
            // The path is made for the message only: this is called often.
            error => error.at("read", self.path_of(resource, name)),
        }
    }

    fn list(
        &mut self,
        resource: StoreResource,
        each: &mut dyn FnMut(Mac) -> ControlFlow<()>,
    ) -> Result<()> {
        let directory = self.root.join(plural(resource));
        if resource == StoreResource::Lock {
            return Self::list_directory(&directory, None, each).map(drop);
        }
        // A store without this directory is no store: a disk that is not
        // mounted must not look like an empty one.
        fs::metadata(&directory).at("list", &directory)?;
        for first in 0..=u8::MAX {
            let inner = directory.join(format!("{first:02x}"));
            if Self::list_directory(&inner, Some(first), each)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn tidy(&mut self) {
        // Whoever may not remove anything can back up all the same.
        let _ = self.remove_abandoned();
    }

    fn delete(&mut self, resource: StoreResource, name: &Mac) -> Result<()> {
        self.forget(resource, name);
        let path = self.path_of(resource, name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.at("remove", &path),
        }
    }
}

impl Drop for FsStore {
    fn drop(&mut self) {
        for upload in self.uploads.iter() {
            let _ = fs::remove_file(&upload.path);
        }
    }
}

/// When something was changed last.
fn changed_at(data: &fs::Metadata) -> io::Result<Timestamp> {
    Ok(match data.modified()?.duration_since(UNIX_EPOCH) {
        Ok(since) => {
            Timestamp { secs: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos: 0 }
        }
        Err(before) => {
            let secs = i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX);
            Timestamp { secs: -secs, nanos: 0 }
        }
    })
}

fn make_directory(path: &Path) -> Result<()> {
    DirBuilder::new().mode(0o700).create(path).at("make directory", path)
}

/// Opens a file to be read, if it is one: a fifo would make us wait for ever.
pub(crate) fn open_regular(path: &Path) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file: File = rustix::fs::open(path, flags, Mode::empty()).at("open", path)?.into();
    if file.metadata().at("inspect", path)?.is_file() {
        return Ok(file);
    }
    let path = path.as_os_str().as_bytes();
    Err(HostsError::rule(HostErrorKind::Other, "open", path, "it is not a regular file"))
}

/// Fills `into` from `offset_bytes` on, as far as the file goes.
pub(crate) fn read_full(file: &File, offset_bytes: u64, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        let Some(offset_bytes) = offset_bytes.checked_add(filled as u64) else { break };
        if i64::try_from(offset_bytes).is_err() {
            break;
        }
        match file.read_at(&mut into[filled..], offset_bytes) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{shared_store_contract, store_contract};
    use std::os::unix::fs::PermissionsExt as _;

    fn new_store(directory: &tempfile::TempDir) -> FsStore {
        FsStore::new(directory.path().join("store"))
    }

    #[test]
    fn keeps_the_contract() {
        let directory = tempfile::tempdir().unwrap();
        let mut count = 0;
        store_contract(|| {
            count += 1;
            FsStore::new(directory.path().join(count.to_string())).with_write_buffer(1000)
        });
        shared_store_contract(|number| FsStore::new(directory.path().join(format!("s{number}"))));
    }

    #[test]
    fn lies_as_stock_lays_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = new_store(&directory);
        store.create(b"config").unwrap();
        let root = directory.path().join("store");
        let mode = |path: &str| fs::metadata(root.join(path)).unwrap().permissions().mode();
        assert_eq!(fs::read(root.join("CONFIG")).unwrap(), b"config");
        assert_eq!(mode("CONFIG"), 0o100_600);
        assert_eq!(mode("packfiles/00"), 0o040_700);
        assert_eq!(mode("states/ff"), 0o040_700);
        assert_eq!(mode("locks"), 0o040_700);

        let name = Mac([0xab; 32]);
        for (resource, path) in [
            (StoreResource::Packfile, format!("packfiles/ab/{name}")),
            (StoreResource::State, format!("states/ab/{name}")),
            (StoreResource::Lock, format!("locks/{name}")),
        ] {
            let upload = store.begin(resource).unwrap();
            store.write(upload, b"content").unwrap();
            store.commit(upload, &name).unwrap();
            assert_eq!(fs::read(root.join(&path)).unwrap(), b"content");
            assert_eq!(mode(&path), 0o100_600);
        }
        assert_eq!(fs::read_dir(&root).unwrap().count(), 4);
    }

    #[test]
    fn refuses_a_directory_with_something_in_it() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("lost+found"), b"").unwrap();
        let error = FsStore::new(directory.path()).create(b"config").unwrap_err();
        assert_eq!(tiroir_core::host::HostError::kind(&error), HostErrorKind::AlreadyExists);
    }

    #[test]
    fn strange_entries_are_not_listed() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = new_store(&directory);
        store.create(b"config").unwrap();
        let packfiles = directory.path().join("store/packfiles");
        let name = Mac([0xcd; 32]);
        fs::remove_dir(packfiles.join("00")).unwrap();
        fs::create_dir(packfiles.join("cd").join(name.to_string())).unwrap();
        fs::write(packfiles.join("cc").join(name.to_string()), b"wrong place").unwrap();
        fs::write(packfiles.join("cd/short"), b"").unwrap();
        fs::write(packfiles.join("tmp.123"), b"").unwrap();
        let mut names = Vec::new();
        store
            .list(StoreResource::Packfile, &mut |name| {
                names.push(name);
                ControlFlow::Continue(())
            })
            .unwrap();
        assert!(names.is_empty());
        assert_eq!(store.size(StoreResource::Packfile, &name).unwrap(), None);
        fs::remove_dir_all(&packfiles).unwrap();
        assert!(store.list(StoreResource::Packfile, &mut |_| ControlFlow::Continue(())).is_err());
    }

    #[test]
    fn nothing_temporary_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let packfiles = directory.path().join("store/packfiles");
        let mut store = new_store(&directory);
        store.create(b"config").unwrap();
        let aborted = store.begin(StoreResource::Packfile).unwrap();
        let dropped = store.begin(StoreResource::Packfile).unwrap();
        store.write(dropped, &[1; 1000]).unwrap();
        assert_eq!(fs::read_dir(&packfiles).unwrap().count(), 258);
        store.abort(aborted);
        store.abort(aborted);
        drop(store);
        assert_eq!(fs::read_dir(&packfiles).unwrap().count(), 256);
    }

    /// What a dead process left is removed after a week; nothing else ever is.
    #[test]
    fn left_overs_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = new_store(&directory);
        store.create(b"config").unwrap();
        let root = directory.path().join("store");
        let week = std::time::Duration::from_secs(7 * 86_400);
        let now = fs::metadata(root.join("locks")).unwrap().modified().unwrap();
        let put = |name: &str, time| {
            let file = File::create(root.join(name)).unwrap();
            file.set_modified(time).unwrap();
        };
        let old = now - week - std::time::Duration::from_secs(5);
        let gone = [
            "tmp.0000000000000001",
            "packfiles/tmp.00000000000000ff",
            "states/tmp.0123456789abcdef",
        ];
        let stay = ["packfiles/tmp.thesis", "packfiles/ab/tmp.0000000000000001", "locks/tmp.x"];
        gone.iter().chain(&stay).for_each(|name| put(name, old));
        put("packfiles/tmp.0000000000000002", now - week + std::time::Duration::from_secs(60));
        let alive = store.begin(StoreResource::Packfile).unwrap();
        let path = store.uploads.of(alive).unwrap().path.clone();
        File::open(&path).unwrap().set_modified(old).unwrap();
        for number in 0..100 {
            put(&format!("states/tmp.1{number:015x}"), old);
        }
        store.tidy();
        assert!(gone[..2].iter().all(|name| !root.join(name).exists()));
        assert!(stay.iter().all(|name| root.join(name).exists()));
        assert!(root.join("packfiles/tmp.0000000000000002").exists());
        store.commit(alive, &Mac([1; 32])).unwrap();
        // No more than so many at once.
        let left = || {
            let names = fs::read_dir(root.join("states")).unwrap();
            names.filter(|entry| entry.as_ref().unwrap().path().is_file()).count()
        };
        assert_eq!(left(), 101 - 64);
        store.tidy();
        assert_eq!(left(), 0);
    }
}
