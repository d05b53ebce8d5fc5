//! [`FilesStore`]: a store in a directory of a server, laid out as stock lays out
//! its stores on SFTP servers, which is as on disks.
//!
//! `CONFIG`, `packfiles/XX/<64 digits>`, `states/XX/<64 digits>` and
//! `locks/<64 digits>`. A resource is written to `tmp.<random>` beside them, and
//! gets its name when it is whole and, where the server can, on its disk.
//!
//! Stores that stock reaches through rclone have no directories `XX`, and nothing
//! but resources in the others: see [`FilesStore::with_flat_layout`].

use std::fmt;
use std::ops::ControlFlow;

use tiroir_core::host::{HostError as _, HostErrorKind};
use tiroir_core::mac::Mac;
use tiroir_core::store::{Layout, Store, StoreResource, UploadId};
use tiroir_core::time::Timestamp;

use super::{EntryKind, NewAttributes, ReadId, RemoteFiles, WriteId};
use crate::abandoned::{REMOVED_MAX, TEMPORARY, is_idle, is_temporary};
use crate::env::random_suffix;
use crate::error::{HostsError, Result};
use crate::resources::{OpenFiles, Uploads, plural};
use crate::warn::Warnings;

/// Packfiles and states that are kept open to be read.
const OPEN_FILES_MAX: usize = 6;

/// A resource being written.
#[derive(Debug)]
struct Upload {
    resource: StoreResource,
    file: WriteId,
    path: Vec<u8>,
}

/// Store in a directory of a server. Takes what its [`RemoteFiles`] takes.
pub struct FilesStore {
    files: Box<dyn RemoteFiles>,
    root: Vec<u8>,
    uploads: Uploads<Upload>,
    open: OpenFiles<ReadId>,
    warnings: Warnings,
    warned_of_sync: bool,
    is_flat: bool,
}

impl fmt::Debug for FilesStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilesStore")
            .field("root", &self.root.escape_ascii())
            .finish_non_exhaustive()
    }
}

impl FilesStore {
    /// The store in the directory `root` of a server, an absolute and clean path.
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(files: Box<dyn RemoteFiles>, root: &[u8]) -> Self {
        Self {
            files,
            root: root.strip_suffix(b"/").unwrap_or(root).to_vec(),
            uploads: Uploads::default(),
            open: OpenFiles::new(OPEN_FILES_MAX),
            warnings: Warnings::default(),
            warned_of_sync: false,
            is_flat: false,
        }
    }

    /// With all packfiles in one directory, and all states: stock's layout with
    /// rclone.
    #[must_use]
    pub fn with_flat_layout(mut self) -> Self {
        self.is_flat = true;
        self
    }

    /// With a receiver of warnings.
    #[must_use]
    pub fn with_warnings(mut self, receiver: impl FnMut(&str) + Send + 'static) -> Self {
        self.warnings = Warnings::new(receiver);
        self
    }

    /// The server.
    pub fn files(&mut self) -> &mut dyn RemoteFiles {
        &mut *self.files
    }

    /// Bytes of all files of the store.
    ///
    /// # Errors
    ///
    /// Of the server.
    pub fn stored_bytes(&mut self) -> Result<u64> {
        let mut sum: u64 = 0;
        let mut add = |files: &mut dyn RemoteFiles, path: &[u8]| {
            let listed = files.list(path, &mut |_, entry| {
                if entry.kind == EntryKind::File {
                    sum = sum.saturating_add(entry.size_bytes.unwrap_or(0));
                }
                Ok(())
            });
            if_there(listed).map(|_| ())
        };
        let root = self.root.clone();
        add(&mut *self.files, or_root(&root))?;
        add(&mut *self.files, &join(&root, "locks"))?;
        for kind in ["packfiles", "states"] {
            add(&mut *self.files, &join(&root, kind))?;
            if !self.is_flat {
                for first in 0..=u8::MAX {
                    add(&mut *self.files, &join(&root, &format!("{kind}/{first:02x}")))?;
                }
            }
        }
        Ok(sum)
    }

    /// Directory that holds a resource under its name.
    fn directory_of(&self, resource: StoreResource, name: &Mac) -> Vec<u8> {
        let directory = join(&self.root, plural(resource));
        match resource {
            StoreResource::Packfile | StoreResource::State if !self.is_flat => {
                join(&directory, &format!("{name:.1}"))
            }
            _ => directory,
        }
    }

    fn path_of(&self, resource: StoreResource, name: &Mac) -> Vec<u8> {
        join(&self.directory_of(resource, name), &name.to_string())
    }

    /// A name for something that is not finished.
    fn temporary(&self, resource: StoreResource) -> Result<Vec<u8>> {
        let name = format!("{TEMPORARY}{}", random_suffix()?);
        Ok(match resource {
            StoreResource::Packfile | StoreResource::State if !self.is_flat => {
                join(&join(&self.root, plural(resource)), &name)
            }
            _ => join(&self.root, &name),
        })
    }

    /// Removes what nobody has written to for a week. Names of a directory are taken
    /// down first: a listing is no time to ask for something else.
    fn remove_abandoned(&mut self) -> Result<()> {
        let root = or_root(&self.root).to_vec();
        let mut now = None;
        // Servers of FTP may tell the time of a directory in listings only.
        self.files.list(&root, &mut |name, entry| {
            if name == b"locks" {
                now = entry.mod_time;
            }
            Ok(())
        })?;
        let Some(now) = now else { return Ok(()) };
        let mut directories = vec![root];
        if !self.is_flat {
            directories.extend(["packfiles", "states"].map(|kind| join(&self.root, kind)));
        }
        for directory in directories {
            let mut names: Vec<Vec<u8>> = Vec::new();
            self.files.list(&directory, &mut |name, entry| {
                let is_old = entry.mod_time.is_some_and(|changed| {
                    // A time that is known to the day may be that of its morning.
                    let slack = i64::from(entry.precision.blind_secs());
                    let secs = changed.secs.saturating_add(slack);
                    is_idle(Timestamp { secs, ..changed }, now)
                });
                let is_left = entry.kind == EntryKind::File && is_temporary(name) && is_old;
                if is_left && names.len() < REMOVED_MAX {
                    names.push(name.to_vec());
                }
                Ok(())
            })?;
            for name in names {
                let path = [directory.strip_suffix(b"/").unwrap_or(&directory), b"/", &name[..]];
                let path = path.concat();
                if !self.uploads.iter().any(|upload| upload.path == path) {
                    if_there(self.files.remove_file(&path))?;
                }
            }
        }
        Ok(())
    }

    /// Gives a written file its name.
    fn publish(&mut self, from: &[u8], resource: StoreResource, name: &Mac) -> Result<()> {
        let path = self.path_of(resource, name);
        self.forget(resource, name);
        match self.files.rename(from, &path) {
            // Someone tidied up empty directories.
            Err(error) if error.kind() == HostErrorKind::NotFound => {
                let directory = self.directory_of(resource, name);
                make_directory(&mut *self.files, &directory)?;
                self.files.rename(from, &path)
            }
            other => other,
        }
    }

    /// Closes a resource that is no longer what it was.
    fn forget(&mut self, resource: StoreResource, name: &Mac) {
        if let Some(file) = self.open.take(resource, name) {
            self.files.close(file);
        }
    }

    /// Opens a resource, or finds it open. Locks change under their names and
    /// are opened each time.
    fn open(&mut self, resource: StoreResource, name: &Mac) -> Result<ReadId> {
        if resource == StoreResource::Lock {
            self.forget(resource, name);
        }
        let file = match self.open.take(resource, name) {
            Some(file) => file,
            None => {
                if let Some(oldest) = self.open.make_room() {
                    self.files.close(oldest);
                }
                self.files.open(&self.path_of(resource, name))?
            }
        };
        Ok(*self.open.put(resource, name, file))
    }

    /// Makes the root, and what leads to it; refuses one with something in it.
    fn make_root(&mut self) -> Result<()> {
        let root = self.root.clone();
        let mut is_empty = true;
        let listed = self.files.list(or_root(&root), &mut |_, _| {
            is_empty = false;
            Ok(())
        });
        if if_there(listed)?.is_none() {
            for (at, _) in root.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/') {
                // One that is there, or may not be looked at: the next will tell.
                let _ = make_directory(&mut *self.files, &root[..at]);
            }
            return make_directory(&mut *self.files, &root);
        }
        if is_empty {
            return Ok(());
        }
        let rule = "the directory is not empty";
        Err(HostsError::rule(HostErrorKind::AlreadyExists, "create a store in", &root, rule))
    }

    /// Writes CONFIG, the last thing to appear in a new store.
    fn write_config(&mut self, bytes: &[u8]) -> Result<()> {
        let temporary = self.temporary(StoreResource::Lock)?;
        let file = self.files.create(&temporary)?;
        if let Err(error) = self.files.write(file, bytes) {
            self.files.discard(file);
            return Err(error);
        }
        let finished = self.files.finish(file, &NewAttributes::default(), true);
        let config = join(&self.root, "CONFIG");
        let renamed = finished.and_then(|()| self.files.rename(&temporary, &config));
        if renamed.is_err() {
            let _ = self.files.remove_file(&temporary);
        }
        renamed
    }

    /// Says once that what is written may be lost when the server loses power.
    fn warn_of_sync(&mut self) -> Result<()> {
        if !self.warned_of_sync && !self.files.abilities()?.sync {
            self.warned_of_sync = true;
            self.warnings.warn(&format!(
                "{} does not say when something is on its disk: what was just written may be \
                 lost if its power fails",
                self.files.shown()
            ));
        }
        Ok(())
    }

    /// Calls `each` with the names in one directory, and tells whether to go on.
    fn list_directory(
        &mut self,
        directory: &[u8],
        starting_with: Option<u8>,
        each: &mut dyn FnMut(Mac) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let mut flow = ControlFlow::Continue(());
        let listed = self.files.list(directory, &mut |name, entry| {
            if flow.is_continue()
                && entry.kind == EntryKind::File
                && let Some(mac) = Mac::from_hex(name)
                && starting_with.is_none_or(|first| first == mac.0[0])
            {
                flow = each(mac);
            }
            Ok(())
        });
        if_there(listed)?;
        Ok(flow)
    }
}

/// Nothing in place of *not found*.
fn if_there<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == HostErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn join(directory: &[u8], name: &str) -> Vec<u8> {
    [directory, b"/", name.as_bytes()].concat()
}

/// The root of the server is the empty path without its slash.
fn or_root(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"/" } else { path }
}

/// Makes a directory, unless it is there.
pub(crate) fn make_directory(files: &mut dyn RemoteFiles, path: &[u8]) -> Result<()> {
    match files.make_directory(path) {
        Err(error) if error.kind() == HostErrorKind::AlreadyExists => {
            match files.inspect(path)?.kind {
                EntryKind::Directory => Ok(()),
                _ => Err(error),
            }
        }
        other => other,
    }
}

impl Store for FilesStore {
    type Error = HostsError;

    fn layout(&self) -> Layout {
        Layout::Directory
    }

    fn read_config(&mut self, into: &mut [u8]) -> Result<usize> {
        let file = self.files.open(&join(&self.root, "CONFIG"))?;
        let read = self.files.read(file, 0, into);
        let length = read.and_then(|filled| match filled == into.len() {
            // Whether that was all.
            true => {
                let more = self.files.read(file, filled as u64, &mut [0; 1])?;
                Ok(filled + more)
            }
            false => Ok(filled),
        });
        self.files.close(file);
        length
    }

    fn create(&mut self, bytes: &[u8]) -> Result<()> {
        self.make_root()?;
        for kind in ["packfiles", "states"] {
            let directory = join(&self.root, kind);
            make_directory(&mut *self.files, &directory)?;
            for first in 0..=u8::MAX {
                if self.is_flat {
                    break;
                }
                make_directory(&mut *self.files, &join(&directory, &format!("{first:02x}")))?;
            }
        }
        make_directory(&mut *self.files, &join(&self.root, "locks"))?;
        self.write_config(bytes)
    }

    fn begin(&mut self, resource: StoreResource) -> Result<UploadId> {
        self.warn_of_sync()?;
        let path = self.temporary(resource)?;
        self.uploads.begin(|| {
            let file = self.files.create(&path)?;
            Ok(Upload { resource, file, path })
        })
    }

    fn write(&mut self, upload: UploadId, bytes: &[u8]) -> Result<()> {
        self.files.write(self.uploads.of(upload)?.file, bytes)
    }

    fn commit(&mut self, upload: UploadId, name: &Mac) -> Result<()> {
        let Upload { resource, file, path } = self.uploads.take(upload)?;
        let finished = self.files.finish(file, &NewAttributes::default(), true);
        let published = finished.and_then(|()| self.publish(&path, resource, name));
        if published.is_err() {
            let _ = self.files.remove_file(&path);
        }
        published
    }

    fn abort(&mut self, upload: UploadId) {
        if let Ok(upload) = self.uploads.take(upload) {
            self.files.discard(upload.file);
        }
    }

    fn size(&mut self, resource: StoreResource, name: &Mac) -> Result<Option<u64>> {
        let path = self.path_of(resource, name);
        let found = if_there(self.files.inspect(&path))?;
        let Some(entry) = found.filter(|entry| entry.kind == EntryKind::File) else {
            return Ok(None);
        };
        match entry.size_bytes {
            Some(size) => Ok(Some(size)),
            None => {
                let rule = "the server does not say how long it is";
                Err(HostsError::rule(HostErrorKind::Other, "inspect", &path, rule))
            }
        }
    }

    fn get(
        &mut self,
        resource: StoreResource,
        name: &Mac,
        offset_bytes: u64,
        into: &mut [u8],
    ) -> Result<usize> {
        let file = self.open(resource, name)?;
        let read = self.files.read(file, offset_bytes, into);
        if read.is_err() {
            self.forget(resource, name);
        }
        read
    }

    fn list(
        &mut self,
        resource: StoreResource,
        each: &mut dyn FnMut(Mac) -> ControlFlow<()>,
    ) -> Result<()> {
        let directory = join(&self.root, plural(resource));
        if self.is_flat || resource == StoreResource::Lock {
            return self.list_directory(&directory, None, each).map(|_| ());
        }
        for first in 0..=u8::MAX {
            let inner = join(&directory, &format!("{first:02x}"));
            if self.list_directory(&inner, Some(first), each)?.is_break() {
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
        if_there(self.files.remove_file(&self.path_of(resource, name))).map(|_| ())
    }
}
