//! [`SnapshotImporter`]: a snapshot of another store as what is backed up.
//!
//! The engine has one way to make a snapshot, and a copy goes through it: names
//! and MACs are keyed by store, so everything has to be hashed again anyway.

use std::fmt;

use tiroir_core::btree::{Cursor, TreeKinds, lookup};
use tiroir_core::content::{ContentReader, HostSpool};
use tiroir_core::error::{Error, Subject};
use tiroir_core::host::{Host, HostErrorKind};
use tiroir_core::importer::{Attributes, Each, Importer};
use tiroir_core::limits::{ENTRY_BYTES_MAX, HEADER_BYTES_MAX, PATH_BYTES_MAX};
use tiroir_core::mac::Mac;
use tiroir_core::order::byte_order;
use tiroir_core::repository::{Lend, Repository};
use tiroir_core::resource::ResourceKind;
use tiroir_core::session::Session;
use tiroir_core::snapshot::restore::{ABSENT_ATTRIBUTE, find_xattr};
use tiroir_core::snapshot::walk::{Event, Walk, entry_at};
use tiroir_core::snapshot::{ReadMemory, backup, read_header};
use tiroir_core::spool::Spool;
use tiroir_core::wire::entry::Entry;
use tiroir_core::wire::error_entry::ErrorEntry;
use tiroir_core::wire::header::Source;
use tiroir_core::wire::{mode, path};

use crate::error::{HostsError, Result};

/// Reads a snapshot as a file system is read.
///
/// What could not be read when the snapshot was taken cannot be read here
/// either, with the same message. Anything else that fails is a failure of the
/// store: it is kept for [`take_failure`](Self::take_failure), and the copy
/// must not be committed.
pub struct SnapshotImporter<'r, 'm, 'n, L: Lend<Error = HostsError>> {
    repository: &'r mut Repository<'m, L>,
    source: SourceText,
    memory: ReadMemory<'n>,
    reader: ContentReader<HostSpool<L>>,
    /// The entry that was asked for last.
    entry: Vec<u8>,
    /// What of the chunk in memory is not read yet.
    ahead: std::ops::Range<usize>,
    failure: Option<Error<HostsError>>,
}

/// Copies a snapshot from one store into a session of another, under the same
/// identifier, with the same times, names and context. It exists there when the
/// session is committed.
///
/// `reading` takes [`ReadMemory::bytes`] for the chunks of the source, and
/// `writing` what a backup into the target takes.
///
/// # Errors
///
/// [`Error::Missing`] and [`Error::Damaged`] when the snapshot cannot be read
/// whole: the session must not be committed then. As
/// [`backup_into`](tiroir_core::snapshot::backup::backup_into) otherwise.
pub fn copy_snapshot<A: Lend<Error = HostsError>, B: Lend<Error = HostsError>>(
    from: &mut Repository<'_, A>,
    into: &mut Session<'_, '_, B>,
    snapshot: &Mac,
    reading: &mut [u8],
    writing: &mut [u8],
    progress: &mut dyn FnMut(&backup::Event<'_>),
) -> std::result::Result<backup::Report, Error<HostsError>> {
    let mut header = vec![0; HEADER_BYTES_MAX];
    let header = read_header(from, snapshot, &mut header)?;
    let chunk_bytes = from.facts().chunking.max();
    let memory = ReadMemory::new(reading, chunk_bytes)?;
    let mut importer = SnapshotImporter::new(from, &header.source, memory)?;
    let options = backup::Options { copy_of: Some(&header), ..backup::Options::default() };
    let mut lent: &mut dyn Importer<Error = HostsError> = &mut importer;
    let report = backup::backup_into(into, &mut lent, &options, writing, progress);
    match importer.take_failure() {
        Some(failure) => Err(failure),
        None => report,
    }
}

/// Texts of the source, which outlive its header.
struct SourceText {
    kind: String,
    origin: String,
    root: Vec<u8>,
    trees: tiroir_core::wire::header::Trees,
}

impl<'r, 'm, 'n, L: Lend<Error = HostsError>> SnapshotImporter<'r, 'm, 'n, L> {
    /// The importer of the snapshot with that source.
    ///
    /// # Errors
    ///
    /// The host's.
    pub fn new(
        repository: &'r mut Repository<'m, L>,
        source: &Source<'_>,
        memory: ReadMemory<'n>,
    ) -> Result<Self> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let reader = ContentReader::new(repository.host.spool()?);
        Ok(Self {
            repository,
            source: SourceText {
                kind: text(source.kind),
                origin: text(source.origin),
                root: source.directory.to_vec(),
                trees: source.trees,
            },
            memory,
            reader,
            entry: vec![0; ENTRY_BYTES_MAX],
            ahead: 0..0,
            failure: None,
        })
    }

    /// Why the source could not be read, if it could not.
    pub fn take_failure(&mut self) -> Option<Error<HostsError>> {
        self.failure.take()
    }

    /// Keeps a failure of the store, and gives the error to report for it.
    fn fail<T>(&mut self, result: std::result::Result<T, Error<HostsError>>) -> Result<T> {
        result.map_err(|error| {
            let message = error.to_string();
            self.failure.get_or_insert(error);
            HostsError::recorded(message.into_bytes())
        })
    }

    /// The message recorded for a path, if it could not be read.
    fn recorded(
        &mut self,
        path: &[u8],
    ) -> std::result::Result<Option<HostsError>, Error<HostsError>> {
        let (kinds, root) = (TreeKinds::ERRORS, self.source.trees.errors);
        let node = &mut *self.memory.node;
        let Some(mac) = lookup(self.repository, kinds, &root, path, byte_order, node)? else {
            return Ok(None);
        };
        let kind = ResourceKind::ERROR_ENTRY;
        let len = self.repository.read_blob(kind, &mac, self.memory.entry)?;
        let damaged = Error::damaged(Subject::Blob(kind, mac));
        let entry = ErrorEntry::parse(&self.memory.entry[..len]).map_err(damaged)?;
        Ok(Some(HostsError::recorded(entry.message.to_vec())))
    }

    /// Gives the names of what could not be read in a directory.
    fn list_errors(
        &mut self,
        directory: &[u8],
        each: &mut Each<'_, HostsError>,
    ) -> std::result::Result<(), Error<HostsError>> {
        let mut prefix = directory.to_vec();
        if !prefix.ends_with(b"/") {
            prefix.push(b'/');
        }
        let (kinds, root) = (TreeKinds::ERRORS, self.source.trees.errors);
        let seek = Some((&prefix[..], byte_order as fn(&[u8], &[u8]) -> _));
        let mut cursor = Cursor::seek(self.repository, kinds, &root, seek, self.memory.node)?;
        while let Some((key, _)) = cursor.next(self.repository, self.memory.node)? {
            let Some(name) = key.strip_prefix(&prefix[..]) else { break };
            if !name.is_empty() && !name.contains(&b'/') {
                each(name, b"error")?;
            }
        }
        Ok(())
    }

    /// Gives the name of what could not be read, unless it is an entry too: the
    /// engine needs it once.
    fn list_error(
        &mut self,
        directory: &[u8],
        name: &[u8],
        each: &mut Each<'_, HostsError>,
    ) -> Result<()> {
        let mut path = [0; PATH_BYTES_MAX];
        let Ok(len) = path::join(directory, name, &mut path) else { return Ok(()) };
        let trees = self.source.trees;
        let found = entry_at(self.repository, &trees, &path[..len], &mut self.memory).map(drop);
        match found {
            Ok(()) => Ok(()),
            Err(Error::NoSuchPath) => each(name, b"error"),
            Err(error) => self.fail(Err(error)),
        }
    }

    fn list_entries(
        &mut self,
        directory: &[u8],
        each: &mut Each<'_, HostsError>,
    ) -> std::result::Result<(), Error<HostsError>> {
        let spools = (self.repository.host.spool()?, self.repository.host.spool()?);
        let mut walk = Walk::new(spools.0, spools.1, self.source.trees);
        walk.enter(self.repository, directory, &mut self.memory)?;
        while let Some(step) = walk.next(&mut self.entry)? {
            if step.event == Event::Entry {
                each(step.entry.info.name, &step.mac.0)?;
            }
        }
        Ok(())
    }

    fn read_entry(
        &mut self,
        path: &[u8],
        hint: &[u8],
    ) -> std::result::Result<usize, Error<HostsError>> {
        match Mac::from_slice(hint) {
            Some(mac) => self.repository.read_blob(ResourceKind::VFS_ENTRY, &mac, &mut self.entry),
            None => {
                let trees = self.source.trees;
                let (_, mac) = entry_at(self.repository, &trees, path, &mut self.memory)?;
                self.repository.read_blob(ResourceKind::VFS_ENTRY, &mac, &mut self.entry)
            }
        }
    }

    fn read_xattr(
        &mut self,
        path: &[u8],
        name: &[u8],
        into: &mut [u8],
    ) -> std::result::Result<usize, Error<HostsError>> {
        let trees = self.source.trees;
        let object = find_xattr(self.repository, &trees, path, name, &mut self.memory)?;
        let mut filled = 0;
        self.reader.open(self.repository, &object, self.memory.chunk)?;
        while let Some(len) = self.reader.next(self.repository, self.memory.chunk)? {
            let Some(place) = into.get_mut(filled..filled + len) else {
                let rule = "its value is too long";
                return Err(HostsError::rule(HostErrorKind::Other, "read", path, rule).into());
            };
            place.copy_from_slice(&self.memory.chunk[..len]);
            filled += len;
        }
        Ok(filled)
    }
}

/// Copies what an entry says of itself.
fn fill(into: &mut Attributes, entry: &Entry<'_>) {
    let info = &entry.info;
    *into = Attributes {
        size: info.size,
        mode: info.mode,
        mod_time: info.mod_time,
        dev: info.dev,
        ino: info.ino,
        uid: info.uid,
        gid: info.gid,
        nlink: info.nlink.into(),
        flags: info.flags,
        ..Attributes::default()
    };
    // Longer names than the system has are cut, not refused.
    let cut = |bytes: &[u8], max: usize| bytes[..bytes.len().min(max)].to_vec();
    let capacity = into.username.capacity();
    let _ = into.username.extend_from_slice(&cut(info.username, capacity));
    let _ = into.groupname.extend_from_slice(&cut(info.groupname, capacity));
    let _ =
        into.link_target.extend_from_slice(&cut(entry.link_target, into.link_target.capacity()));
    if mode::is_regular(info.mode) {
        let capacity = into.content_type.capacity();
        let _ = into.content_type.extend_from_slice(&cut(entry.content_type, capacity));
    }
}

impl<L: Lend<Error = HostsError>> Importer for SnapshotImporter<'_, '_, '_, L> {
    type Error = HostsError;

    fn kind(&self) -> &str {
        &self.source.kind
    }

    fn origin(&self) -> &str {
        &self.source.origin
    }

    fn root(&self) -> &[u8] {
        &self.source.root
    }

    fn list(&mut self, directory: &[u8], each: &mut Each<'_, HostsError>) -> Result<()> {
        let listed = self.list_entries(directory, each);
        self.fail(listed)?;
        // One tree is read at a time, so the names wait in a spool.
        let mut names = self.repository.host.spool()?;
        let listed = self.list_errors(directory, &mut |name, _| {
            let len = u16::try_from(name.len()).unwrap_or(u16::MAX);
            names.append(&len.to_le_bytes())?;
            names.append(&name[..usize::from(len)])
        });
        self.fail(listed)?;
        let mut at = 0;
        while at < names.len() {
            let mut len = [0; 2];
            names.read_at(at, &mut len)?;
            let mut name = vec![0; usize::from(u16::from_le_bytes(len))];
            names.read_at(at + 2, &mut name)?;
            at += 2 + name.len() as u64;
            self.list_error(directory, &name, each)?;
        }
        Ok(())
    }

    fn stat(&mut self, path: &[u8], hint: &[u8], into: &mut Attributes) -> Result<()> {
        if hint == b"error" {
            let recorded = self.recorded(path);
            return match self.fail(recorded)? {
                Some(error) => Err(error),
                None => self.fail(Err(Error::NoSuchPath)),
            };
        }
        let read = self.read_entry(path, hint);
        let len = self.fail(read)?;
        let parsed = Entry::parse(&self.entry[..len]).map(|entry| fill(into, &entry));
        let subject = Subject::Blob(ResourceKind::VFS_ENTRY, Mac::ZERO);
        self.fail(parsed.map_err(Error::damaged(subject)))?;
        self.entry.resize(ENTRY_BYTES_MAX, 0);
        Ok(())
    }

    fn open(&mut self, path: &[u8], _expected: &Attributes) -> Result<()> {
        let trees = self.source.trees;
        let object = entry_at(self.repository, &trees, path, &mut self.memory)
            .map(|(entry, _)| entry.object);
        let object = self.fail(object)?;
        self.ahead = 0..0;
        let opened = self.reader.open(self.repository, &object, self.memory.chunk);
        self.fail(opened)
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        while self.ahead.is_empty() {
            let next = self.reader.next(self.repository, self.memory.chunk);
            match self.fail(next)? {
                Some(len) => self.ahead = 0..len,
                None => return Ok(0),
            }
        }
        let len = self.ahead.len().min(into.len());
        let start = self.ahead.start;
        into[..len].copy_from_slice(&self.memory.chunk[start..start + len]);
        self.ahead.start += len;
        Ok(len)
    }

    fn close(&mut self) {
        self.ahead = 0..0;
    }

    fn xattr_names(&mut self, path: &[u8], into: &mut [u8]) -> Result<usize> {
        let recorded = self.recorded(path);
        if let Some(error) = self.fail(recorded)? {
            return Err(error);
        }
        let trees = self.source.trees;
        let entry = entry_at(self.repository, &trees, path, &mut self.memory);
        let mut filled = 0;
        let entry = match entry {
            Ok((entry, _)) => entry,
            Err(error) => return self.fail(Err(error)),
        };
        for name in entry.xattr_names.iter() {
            let Some(place) = into.get_mut(filled..filled + name.len() + 1) else {
                let rule = "there are too many of them";
                let kind = HostErrorKind::Other;
                return Err(HostsError::rule(kind, "read attributes of", path, rule));
            };
            place[..name.len()].copy_from_slice(name);
            place[name.len()] = 0;
            filled += name.len() + 1;
        }
        Ok(filled)
    }

    fn xattr(&mut self, path: &[u8], name: &[u8], into: &mut [u8]) -> Result<usize> {
        match self.read_xattr(path, name, into) {
            // Listed, but not kept: stock loses some.
            Err(Error::Missing(ABSENT_ATTRIBUTE)) => {
                let rule = "the snapshot does not have it";
                Err(HostsError::rule(HostErrorKind::NotFound, "read attribute of", path, rule))
            }
            read => self.fail(read),
        }
    }
}

impl<L: Lend<Error = HostsError>> fmt::Debug for SnapshotImporter<'_, '_, '_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotImporter").field("kind", &self.source.kind).finish_non_exhaustive()
    }
}
