//! Store to exporter.
//!
//! Entries are taken depth first, so that the attributes of a directory are
//! set when all that it holds is there. What cannot be restored is reported,
//! and the rest goes on; only a full target ends the work.

use super::walk::{Event as WalkEvent, Walk, entry_at};
use super::{FLAG_HARD_LINK, ReadMemory};
use crate::btree::{TreeKinds, lookup};
use crate::content::ContentReader;
use crate::error::{Error, FormatError, Subject};
use crate::exporter::Exporter;
use crate::host::{Host, HostError, HostErrorKind};
use crate::limits::{ENTRY_BYTES_MAX, PATH_BYTES_MAX, XATTR_VALUE_BYTES_MAX};
use crate::mac::Mac;
use crate::order::{byte_order, path_order};
use crate::repository::{Lend, Repository};
use crate::resource::ResourceKind;
use crate::wire::entry::Entry;
use crate::wire::header::Trees;
use crate::wire::mode;
use crate::wire::path::{is_component, is_within, split};
use crate::wire::xattr::XattrEntry;

/// Where a restore remembers the first name of files that have several.
pub trait Links {
    /// The host's error.
    type Error;

    /// The path that was given for this file before, written to `out`, and its
    /// length; if there was none, `path` is remembered. A file is known by its
    /// device, inode and object: an inode that was used again is another file.
    ///
    /// # Errors
    ///
    /// The host's.
    fn first_name(
        &mut self,
        file: (u64, u64, &Mac),
        path: &[u8],
        out: &mut [u8; PATH_BYTES_MAX],
    ) -> Result<Option<usize>, Self::Error>;
}

/// What a restore is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Leave owners, modes and times as they come.
    pub skip_permissions: bool,
}

/// What happens during a restore.
#[derive(Debug)]
pub enum Event<'e, E> {
    /// An entry is restored.
    Restored {
        /// Its path in the target.
        path: &'e [u8],
        /// Length of its content, in bytes.
        size_bytes: u64,
    },
    /// Some content was written.
    Written {
        /// How much, in bytes.
        bytes: u64,
    },
    /// An entry is not restored: it needs rights that we lack.
    Skipped {
        /// Its path in the target.
        path: &'e [u8],
    },
    /// The snapshot names an attribute of an entry, and does not have it: stock
    /// loses some when it takes a snapshot. The entry is restored without.
    NoAttribute {
        /// Path of the entry in the target.
        path: &'e [u8],
        /// Name of the attribute.
        name: &'e [u8],
    },
    /// An entry could not be restored.
    Failed {
        /// Its path in the target.
        path: &'e [u8],
        /// Why.
        error: &'e Error<E>,
    },
}

/// What a restore has made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// Entries restored.
    pub restored: u64,
    /// Bytes of content written.
    pub bytes: u64,
    /// Entries passed over, because they need rights that we lack.
    pub skipped: u64,
    /// Entries that could not be restored.
    pub failed: u64,
    /// How many of those because the store is damaged.
    pub damaged: u64,
}

/// Memory for a restore from a store whose chunks have at most `chunk_bytes`
/// bytes.
#[must_use]
pub const fn restore_bytes(chunk_bytes: usize) -> usize {
    ReadMemory::bytes(chunk_bytes) + ENTRY_BYTES_MAX + XATTR_VALUE_BYTES_MAX
}

/// Restores what lies at `source`: the content of a directory into the target,
/// or a file under its name.
///
/// # Errors
///
/// [`Error::NoSuchPath`], [`Error::Memory`], [`Error::Cancelled`], a full
/// target, and whatever keeps the snapshot from being walked.
#[expect(clippy::too_many_arguments, reason = "all of them are lent, and each is another thing")]
pub fn restore<L: Lend, X: Exporter<Error = L::Error>, K: Links<Error = L::Error>>(
    repository: &mut Repository<'_, L>,
    trees: &Trees,
    source: &[u8],
    exporter: &mut X,
    links: &mut K,
    options: &Options,
    memory: &mut [u8],
    progress: &mut dyn FnMut(&Event<'_, L::Error>),
) -> Result<Report, Error<L::Error>> {
    let chunk_bytes = repository.facts.chunking.max();
    let (needed, lent) = (restore_bytes(chunk_bytes), memory.len());
    if lent < needed {
        let (needed_bytes, lent_bytes) = (needed as u64, lent as u64);
        return Err(Error::Memory { what: "a restore", needed_bytes, lent_bytes });
    }
    let (entry_memory, rest) = memory.split_at_mut(ENTRY_BYTES_MAX);
    let (value, read) = rest.split_at_mut(XATTR_VALUE_BYTES_MAX);
    let mut memory = ReadMemory::new(read, chunk_bytes)?;
    let (records, spool) = (repository.host.spool()?, repository.host.spool()?);
    let contents = repository.host.spool()?;
    let mut restore = Restore {
        repository,
        trees,
        exporter,
        links,
        options,
        reader: ContentReader::new(contents),
        value,
        progress,
        report: Report::default(),
    };
    let mut walk = Walk::new(spool, records, *trees);
    restore.run(source, &mut walk, entry_memory, &mut memory)?;
    Ok(restore.report)
}

/// A restore under way.
struct Restore<'b, 'm, L: Lend, X, K> {
    repository: &'b mut Repository<'m, L>,
    trees: &'b Trees,
    exporter: &'b mut X,
    links: &'b mut K,
    options: &'b Options,
    reader: ContentReader<crate::content::HostSpool<L>>,
    value: &'b mut [u8],
    progress: &'b mut dyn FnMut(&Event<'_, L::Error>),
    report: Report,
}

/// Where an entry goes.
#[derive(Clone, Copy)]
struct Place<'p> {
    /// Its path in the snapshot.
    source: &'p [u8],
    /// Its path in the target; empty for the target itself.
    target: &'p [u8],
}

impl<L: Lend, X: Exporter<Error = L::Error>, K: Links<Error = L::Error>> Restore<'_, '_, L, X, K> {
    fn run(
        &mut self,
        source: &[u8],
        walk: &mut Walk<crate::content::HostSpool<L>>,
        entry_memory: &mut [u8],
        memory: &mut ReadMemory<'_>,
    ) -> Result<(), Error<L::Error>> {
        let (entry, _) = entry_at(self.repository, self.trees, source, memory)?;
        let len = copy_entry(&entry, entry_memory)?;
        let entry = Entry::parse(&entry_memory[..len]).map_err(broken)?;
        if !entry.is_directory() {
            let place = Place { source, target: split(source).1 };
            // A root that is no directory has no name to be restored under.
            if !is_component(place.target) {
                return Err(broken(FormatError::Field("kind: the root is no directory")));
            }
            self.entry(place, &entry, memory)?;
            return self.late_failures(true);
        }
        let place = Place { source, target: b"" };
        if !self.directory(place, &entry, memory)? {
            return Ok(());
        }
        walk.enter(self.repository, source, memory)?;
        let mut path = [0; PATH_BYTES_MAX];
        while let Some(step) = walk.next(entry_memory)? {
            if self.repository.host.cancelled() {
                return Err(Error::Cancelled);
            }
            let len = step.entry.path(&mut path).map_err(broken)?;
            let path = &path[..len];
            let prefix = if source == b"/" { 1 } else { source.len() + 1 };
            debug_assert!(is_within(path, source));
            let place = Place { source: path, target: path.get(prefix..).unwrap_or_default() };
            match step.event {
                WalkEvent::Leave => self.leave(place, &step.entry, memory)?,
                WalkEvent::Entry if step.entry.is_directory() => {
                    if self.directory(place, &step.entry, memory)?
                        && let Err(error) = walk.enter(self.repository, path, memory)
                    {
                        self.failed(place, error)?;
                    }
                }
                WalkEvent::Entry => self.entry(place, &step.entry, memory)?,
            }
            self.late_failures(false)?;
        }
        let (entry, _) = entry_at(self.repository, self.trees, source, memory)?;
        let len = copy_entry(&entry, entry_memory)?;
        let entry = Entry::parse(&entry_memory[..len]).map_err(broken)?;
        self.leave(Place { source, target: b"" }, &entry, memory)?;
        self.late_failures(true)
    }

    /// Takes note of files that could not be finished after all.
    fn late_failures(&mut self, wait: bool) -> Result<(), Error<L::Error>> {
        let Self { exporter, report, progress, .. } = self;
        let mut fatal = None;
        exporter.failures(wait, &mut |path, error| {
            report.restored = report.restored.saturating_sub(1);
            report.failed += 1;
            let error = Error::Host(error);
            progress(&Event::Failed { path, error: &error });
            if is_fatal(&error) {
                fatal = Some(error);
            }
        })?;
        fatal.map_or(Ok(()), Err)
    }

    /// Makes a directory, and says whether it can be entered.
    fn directory(
        &mut self,
        place: Place<'_>,
        entry: &Entry<'_>,
        memory: &mut ReadMemory<'_>,
    ) -> Result<bool, Error<L::Error>> {
        if let Err(error) = self.announce(place, entry, memory) {
            self.failed(place, error)?;
        }
        match self.exporter.create_directory(place.target) {
            Ok(()) => Ok(true),
            Err(error) => {
                self.failed(place, Error::Host(error))?;
                Ok(false)
            }
        }
    }

    /// Tells a stream what comes.
    fn announce(
        &mut self,
        place: Place<'_>,
        entry: &Entry<'_>,
        memory: &mut ReadMemory<'_>,
    ) -> Result<(), Error<L::Error>> {
        if !self.exporter.is_stream() {
            return Ok(());
        }
        self.exporter.announce(place.target, &entry.info)?;
        self.set_xattrs(place, entry, memory)
    }

    /// Ends a directory: everything in it is there.
    fn leave(
        &mut self,
        place: Place<'_>,
        entry: &Entry<'_>,
        memory: &mut ReadMemory<'_>,
    ) -> Result<(), Error<L::Error>> {
        let result = self.xattrs(place, entry, memory).and_then(|()| self.attributes(place, entry));
        self.settle(place, result.map(|()| Some(0)))
    }

    fn attributes(&mut self, place: Place<'_>, entry: &Entry<'_>) -> Result<(), Error<L::Error>> {
        if self.options.skip_permissions {
            return Ok(());
        }
        Ok(self.exporter.set_attributes(place.target, &entry.info)?)
    }

    /// Restores what is no directory.
    fn entry(
        &mut self,
        place: Place<'_>,
        entry: &Entry<'_>,
        memory: &mut ReadMemory<'_>,
    ) -> Result<(), Error<L::Error>> {
        let announced = self.announce(place, entry, memory);
        let result = if entry.is_regular() {
            self.file(place, entry, memory)
        } else if entry.info.mode & mode::SYMLINK != 0 {
            self.exporter
                .symbolic_link(place.target, entry.link_target)
                .map_err(Error::Host)
                .and_then(|()| self.xattrs(place, entry, memory))
                .and_then(|()| self.attributes(place, entry))
                .map(|()| Some(0))
        } else {
            self.special(place, entry, memory)
        };
        if result.is_err() {
            self.exporter.abandon_file();
        }
        self.settle(place, result.and_then(|done| announced.map(|()| done)))
    }

    fn special(
        &mut self,
        place: Place<'_>,
        entry: &Entry<'_>,
        memory: &mut ReadMemory<'_>,
    ) -> Result<Option<u64>, Error<L::Error>> {
        if !self.exporter.special(place.target, &entry.info)? {
            return Ok(None);
        }
        self.xattrs(place, entry, memory)?;
        self.attributes(place, entry)?;
        Ok(Some(0))
    }

    /// Restores a regular file. Returns the bytes written.
    fn file(
        &mut self,
        place: Place<'_>,
        entry: &Entry<'_>,
        memory: &mut ReadMemory<'_>,
    ) -> Result<Option<u64>, Error<L::Error>> {
        let info = &entry.info;
        let has_names = info.nlink > 1 || info.flags & FLAG_HARD_LINK != 0;
        if has_names && self.exporter.has_hard_links() {
            let mut first = [0; PATH_BYTES_MAX];
            let file = (info.dev, info.ino, &entry.object);
            if let Some(len) = self.links.first_name(file, place.target, &mut first)? {
                match self.exporter.hard_link(place.target, &first[..len]) {
                    // It has found out just now: this name gets a file of its own.
                    Err(_) if !self.exporter.has_hard_links() => {}
                    linked => return linked.map(|()| Some(0)).map_err(Error::Host),
                }
            }
        }
        // The length is that of the content: a file that changed while it was read
        // may be said to have another one.
        let mut size_bytes = 0;
        if !entry.object.is_zero() {
            self.reader.open(self.repository, &entry.object, memory.chunk)?;
            size_bytes = self.reader.length_bytes();
        }
        self.exporter.begin_file(place.target, size_bytes)?;
        let mut written = 0;
        if !entry.object.is_zero() {
            while let Some(len) = self.reader.next(self.repository, memory.chunk)? {
                if self.repository.host.cancelled() {
                    return Err(Error::Cancelled);
                }
                self.exporter.write(&memory.chunk[..len])?;
                written += len as u64;
                (self.progress)(&Event::Written { bytes: len as u64 });
            }
        }
        // Content counts more than attributes: it is kept whatever becomes of
        // them, and the failure is told.
        let attributes = self.xattrs(place, entry, memory);
        let info = if self.options.skip_permissions { None } else { Some(info) };
        self.exporter.finish_file(info)?;
        attributes.map(|()| Some(written))
    }

    /// Restores the extended attributes of an entry, unless that was done before it
    /// was made.
    fn xattrs(
        &mut self,
        place: Place<'_>,
        entry: &Entry<'_>,
        memory: &mut ReadMemory<'_>,
    ) -> Result<(), Error<L::Error>> {
        if self.exporter.is_stream() {
            return Ok(());
        }
        self.set_xattrs(place, entry, memory)
    }

    fn set_xattrs(
        &mut self,
        place: Place<'_>,
        entry: &Entry<'_>,
        memory: &mut ReadMemory<'_>,
    ) -> Result<(), Error<L::Error>> {
        for name in entry.xattr_names.iter() {
            let found = find_xattr(self.repository, self.trees, place.source, name, memory);
            let object = match found {
                Err(Error::Missing(ABSENT_ATTRIBUTE)) => {
                    (self.progress)(&Event::NoAttribute { path: place.target, name });
                    continue;
                }
                other => other?,
            };
            let mut filled = 0;
            self.reader.open(self.repository, &object, memory.chunk)?;
            while let Some(len) = self.reader.next(self.repository, memory.chunk)? {
                let Some(into) = self.value.get_mut(filled..filled + len) else {
                    let subject = Subject::Blob(ResourceKind::OBJECT, object);
                    return Err(Error::damaged(subject)(FormatError::Bound("attribute's length")));
                };
                into.copy_from_slice(&memory.chunk[..len]);
                filled += len;
            }
            self.exporter.set_xattr(place.target, name, &self.value[..filled])?;
        }
        Ok(())
    }

    /// Counts what became of an entry, and reports it.
    fn settle(
        &mut self,
        place: Place<'_>,
        result: Result<Option<u64>, Error<L::Error>>,
    ) -> Result<(), Error<L::Error>> {
        let path = place.target;
        match result {
            Ok(Some(size_bytes)) => {
                self.report.restored += 1;
                self.report.bytes += size_bytes;
                (self.progress)(&Event::Restored { path, size_bytes });
            }
            Ok(None) => {
                self.report.skipped += 1;
                (self.progress)(&Event::Skipped { path });
            }
            Err(error) => self.failed(place, error)?,
        }
        Ok(())
    }

    /// Reports a failure, or ends the work if everything else would fail too.
    fn failed(&mut self, place: Place<'_>, error: Error<L::Error>) -> Result<(), Error<L::Error>> {
        match &error {
            _ if is_fatal(&error) || self.exporter.is_over() => return Err(error),
            Error::Damaged { .. } | Error::Missing(_) => self.report.damaged += 1,
            _ => {}
        }
        self.report.failed += 1;
        (self.progress)(&Event::Failed { path: place.target, error: &error });
        Ok(())
    }
}

/// Whether everything else would fail too.
fn is_fatal<E: HostError>(error: &Error<E>) -> bool {
    match error {
        Error::Cancelled | Error::Memory { .. } => true,
        Error::Host(host) => host.kind() == HostErrorKind::NoSpace,
        _ => false,
    }
}

/// What [`find_xattr`] says is missing where the snapshot has no such attribute.
pub const ABSENT_ATTRIBUTE: Subject = Subject::Blob(ResourceKind::XATTR_ENTRY, Mac::ZERO);

/// The object with the value of an extended attribute.
///
/// Stock writes this tree in path order and searches it in byte order; we
/// write it in byte order, and search both ways.
///
/// # Errors
///
/// [`Error::Missing`] of [`ABSENT_ATTRIBUTE`] when the snapshot has none, and as
/// [`Repository::read_blob`].
pub fn find_xattr<L: Lend>(
    repository: &mut Repository<'_, L>,
    trees: &Trees,
    path: &[u8],
    name: &[u8],
    memory: &mut ReadMemory<'_>,
) -> Result<Mac, Error<L::Error>> {
    let mut key = [0; PATH_BYTES_MAX + 512];
    let len = XattrEntry::key(path, name, &mut key).map_err(broken)?;
    let (kinds, root) = (TreeKinds::XATTRS, &trees.xattrs);
    let mut found = lookup(repository, kinds, root, &key[..len], byte_order, memory.node)?;
    if found.is_none() {
        found = lookup(repository, kinds, root, &key[..len], path_order, memory.node)?;
    }
    let mac = found.ok_or(Error::Missing(ABSENT_ATTRIBUTE))?;
    let subject = Subject::Blob(ResourceKind::XATTR_ENTRY, mac);
    // The node was read and is no longer needed: its memory takes the entry.
    let len = repository.read_blob(ResourceKind::XATTR_ENTRY, &mac, memory.node)?;
    let entry = XattrEntry::parse(&memory.node[..len]).map_err(Error::damaged(subject))?;
    if entry.path == path && entry.name == name {
        Ok(entry.object)
    } else {
        Err(Error::damaged(subject)(FormatError::Field("path")))
    }
}

/// Copies an entry out of the memory that is needed for other entries.
fn copy_entry<E>(entry: &Entry<'_>, into: &mut [u8]) -> Result<usize, Error<E>> {
    let mut writer = crate::wire::msgpack::Writer::new(into);
    entry.emit(&mut writer);
    writer.finish().map(<[u8]>::len).map_err(broken)
}

fn broken<E>(cause: FormatError) -> Error<E> {
    Error::damaged(Subject::Blob(ResourceKind::VFS_ENTRY, Mac::ZERO))(cause)
}
