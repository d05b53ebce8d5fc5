//! Importer to store.
//!
//! Directories are taken level by level, which is the order of the VFS tree:
//! their paths wait in a queue on a spool, and the keys of the tree come out
//! sorted, however deep or wide it is. Everything that has another order goes
//! through an external sort. Statistics are added up at the end, from the
//! last directory to the first.
//!
//! Memory: [`backup_bytes`], lent by the caller, and the write-behind buffers
//! of about twenty spools.

use crate::btree::{TreeBuilder, TreeKinds, builder_bytes_min};
use crate::content::{
    ContentKind, ContentType, ContentWriter, HostSpool, READ_BYTES, ReadError, Stored,
};
use crate::error::{Error, FormatError, Subject};
use crate::host::{Host, HostError};
use crate::importer::{Attributes, Importer};
use crate::limits::{
    ENTRY_BYTES_MAX, HEADER_BYTES_MAX, MESSAGE_BYTES_MAX, NODE_BYTES_MAX, PATH_BYTES_MAX,
    XATTR_LIST_BYTES_MAX, XATTR_VALUE_BYTES_MAX,
};
use crate::lock::SharedLock;
use crate::mac::Mac;
use crate::order::{Order, byte_order, byte_order_reversed};
use crate::refresh::OnDamage;
use crate::repository::{Lend, Repository};
use crate::resource::ResourceKind;
use crate::session::{Session, Written};
use crate::sort::Sorter;
use crate::spool::Spool;
use crate::time::Timestamp;
use crate::wire::dirpack::frame_head;
use crate::wire::entry::{Entry, NOT_REGULAR};
use crate::wire::error_entry::ErrorEntry;
use crate::wire::file_info::FileInfo;
use crate::wire::header::{Header, Pairs, Source, Trees};
use crate::wire::list::List;
use crate::wire::msgpack::Writer;
use crate::wire::summary::{Counted, Summary};
use crate::wire::xattr::XattrEntry;
use crate::wire::{mode, path};

use super::FLAG_HARD_LINK;
use super::previous::{PreviousDirectory, newest_like};

/// What a backup is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'o> {
    /// Name of the snapshot.
    pub name: &'o [u8],
    /// Category.
    pub category: &'o [u8],
    /// Environment.
    pub environment: &'o [u8],
    /// Perimeter.
    pub perimeter: &'o [u8],
    /// Job.
    pub job: &'o [u8],
    /// Tags.
    pub tags: &'o [&'o [u8]],
    /// The machine and program that make it, as pairs of key and value.
    pub context: &'o [(&'o [u8], &'o [u8])],
    /// When it was taken, if not now.
    pub timestamp: Option<Timestamp>,
    /// Whether extended attributes are left out.
    pub skip_xattrs: bool,
    /// Whether every file is read, as if there were no earlier snapshot.
    pub read_all: bool,
    /// Name of the machine, for the lock.
    pub hostname: &'o [u8],
    /// The header of the snapshot that this is a copy of, from another store:
    /// identifier, times, names and context are taken from it, and the fields
    /// above are not looked at.
    pub copy_of: Option<&'o Header<'o>>,
}

/// What happens during a backup.
#[derive(Clone, Copy, Debug)]
pub enum Event<'e> {
    /// An entry is stored. `changed` says that its content was read.
    Entry {
        /// Its path.
        path: &'e [u8],
        /// Length of its content, in bytes.
        size_bytes: u64,
        /// Whether its content was read.
        changed: bool,
    },
    /// Some content was read.
    Read {
        /// How much, in bytes.
        bytes: u64,
    },
    /// An entry could not be read.
    Failed {
        /// Its path.
        path: &'e [u8],
        /// Why.
        message: &'e [u8],
    },
    /// A file changed while it was read.
    Changed {
        /// Its path.
        path: &'e [u8],
    },
}

/// What a backup has made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// The snapshot.
    pub snapshot: Mac,
    /// Statistics of everything in it.
    pub summary: Summary,
    /// Entries whose content was not read, because it has not changed.
    pub unchanged: u64,
    /// Files that changed while they were read.
    pub changed_while_read: u64,
    /// When the newest snapshot of the same place was taken, if there is one:
    /// after this one, if a clock was wrong.
    pub previous_at: Option<Timestamp>,
    /// Bytes that the store did not have, before encoding.
    pub new_bytes: u64,
    /// What was written to the store.
    pub written: Written,
    /// How long it took, in nanoseconds.
    pub duration_nanos: i64,
    /// The lock could not be given back: it keeps maintenance away for ten
    /// minutes.
    pub lock_left_behind: bool,
}

/// Longest key of a tree: a path, with a content type or an attribute's name.
const TREE_KEY_BYTES_MAX: usize = PATH_BYTES_MAX + 512;

/// Levels of the trees that are written; see [`builder_bytes_min`].
const TREE_LEVELS: usize = 8;

/// Memory for one tree, or for a node of the previous snapshot's.
const TREE_BYTES: usize = {
    let builder = builder_bytes_min(TREE_LEVELS, TREE_KEY_BYTES_MAX);
    if builder > NODE_BYTES_MAX { builder } else { NODE_BYTES_MAX }
};

/// Least memory of all sorters together, in bytes.
const SORT_BYTES_MIN: usize = 512 * 1024;

/// Memory that a backup has beside slot and sorters, in bytes.
const FIXED_BYTES: usize =
    TREE_BYTES + 2 * ENTRY_BYTES_MAX + 2 * XATTR_LIST_BYTES_MAX + XATTR_VALUE_BYTES_MAX;

/// Least memory for a backup into a store whose chunks have at most
/// `chunk_bytes` bytes. More of it makes sorting cheaper.
#[must_use]
pub const fn backup_bytes(chunk_bytes: usize) -> usize {
    chunk_bytes + READ_BYTES + FIXED_BYTES + SORT_BYTES_MIN
}

/// The memory of a backup, divided.
struct Parts<'m> {
    slot: &'m mut [u8],
    tree: &'m mut [u8],
    entry: &'m mut [u8],
    previous: &'m mut [u8],
    names: &'m mut [u8],
    names_sorted: &'m mut [u8],
    value: &'m mut [u8],
    sort: &'m mut [u8],
}

impl<'m> Parts<'m> {
    fn new<E>(memory: &'m mut [u8], chunk_bytes: usize) -> Result<Self, Error<E>> {
        let (needed, lent) = (backup_bytes(chunk_bytes), memory.len());
        if lent < needed {
            return Err(Error::Memory {
                what: "a backup",
                needed_bytes: needed as u64,
                lent_bytes: lent as u64,
            });
        }
        let (slot, rest) = memory.split_at_mut(chunk_bytes + READ_BYTES);
        let (tree, rest) = rest.split_at_mut(TREE_BYTES);
        let (entry, rest) = rest.split_at_mut(ENTRY_BYTES_MAX);
        let (previous, rest) = rest.split_at_mut(ENTRY_BYTES_MAX);
        let (names, rest) = rest.split_at_mut(XATTR_LIST_BYTES_MAX);
        let (names_sorted, rest) = rest.split_at_mut(XATTR_LIST_BYTES_MAX);
        let (value, sort) = rest.split_at_mut(XATTR_VALUE_BYTES_MAX);
        Ok(Self { slot, tree, entry, previous, names, names_sorted, value, sort })
    }
}

/// A sorter of the engine.
type EngineSorter<'m, L> = Sorter<'m, HostSpool<L>, Order>;

/// Everything that is sorted across the whole snapshot, in descending order,
/// as trees are built.
struct Indexes<'m, L: Lend> {
    content_types: EngineSorter<'m, L>,
    dirpacks: EngineSorter<'m, L>,
    summaries: EngineSorter<'m, L>,
    xattrs: EngineSorter<'m, L>,
    errors: EngineSorter<'m, L>,
}

/// What is sorted for one directory after another.
struct Listing<'m, L: Lend> {
    /// Names, with the importer's hints.
    names: EngineSorter<'m, L>,
    /// Names of directories with a slash behind, the order in which they are
    /// entered.
    directories: EngineSorter<'m, L>,
}

/// Takes a snapshot of what `importer` reads.
///
/// Holds a shared lock, brings the index up to date, and reads only what has
/// changed since the newest snapshot of the same place. The snapshot exists
/// when this returns, and not before.
///
/// # Errors
///
/// [`Error::Locked`], [`Error::Memory`], [`Error::Cancelled`], and the host's.
/// What cannot be read of the source is recorded in the snapshot, and is no
/// error here.
pub fn backup<L: Lend, I: Importer<Error = L::Error>>(
    repository: &mut Repository<'_, L>,
    importer: &mut I,
    options: &Options<'_>,
    memory: &mut [u8],
    progress: &mut dyn FnMut(&Event<'_>),
) -> Result<Report, Error<L::Error>> {
    let mut name = Mac::ZERO;
    repository.host.fill_random(&mut name.0)?;
    let lock = SharedLock::acquire(repository, name, options.hostname)?;
    let mut session = Session::new(repository, name)?;
    session.hold(lock);
    session.repository.refresh(memory, &mut |_| OnDamage::Fail)?;
    let mut report = match backup_into(&mut session, importer, options, memory, progress) {
        Ok(report) => report,
        Err(Error::Cancelled) => {
            // What is stored by now stays, and the next run need not store it
            // again. If that fails too, there is nothing more to do.
            let _ = session.commit();
            return Err(Error::Cancelled);
        }
        Err(error) => return Err(error),
    };
    session.commit()?;
    report.written = session.written();
    // The snapshot exists by now, whatever becomes of the lock.
    report.lock_left_behind = session.release().is_err();
    Ok(report)
}

/// Takes a snapshot as [`backup`] does, in a session of the caller's, who
/// holds the lock and has brought the index up to date. The snapshot exists
/// when the session is committed, and bears the name of the session's state.
///
/// # Errors
///
/// As [`backup`].
pub fn backup_into<L: Lend, I: Importer<Error = L::Error>>(
    session: &mut Session<'_, '_, L>,
    importer: &mut I,
    options: &Options<'_>,
    memory: &mut [u8],
    progress: &mut dyn FnMut(&Event<'_>),
) -> Result<Report, Error<L::Error>> {
    let started = session.repository.host.now();
    let snapshot = match options.copy_of {
        Some(header) => header.identifier,
        None => session.snapshot_name()?,
    };
    let chunk_bytes = session.repository.facts.chunking.max();
    let parts = Parts::new(memory, chunk_bytes)?;
    let header = &mut parts.slot[..HEADER_BYTES_MAX.min(chunk_bytes)];
    let newest = newest_like(session.repository, importer, header)?;
    let previous = if options.read_all { None } else { newest };
    let sixteenth = parts.sort.len() / 16;
    let (names, rest) = parts.sort.split_at_mut(4 * sixteenth);
    let (directories, rest) = rest.split_at_mut(2 * sixteenth);
    let (content_types, rest) = rest.split_at_mut(4 * sixteenth);
    let (dirpacks, rest) = rest.split_at_mut(2 * sixteenth);
    let (summaries, rest) = rest.split_at_mut(2 * sixteenth);
    let (xattrs, errors) = rest.split_at_mut(sixteenth);
    let host = &mut session.repository.host;
    let mut listing = Listing::<L> {
        names: sorter::<L>(host, names, byte_order)?,
        directories: sorter::<L>(host, directories, byte_order)?,
    };
    let indexes = Indexes::<L> {
        content_types: sorter::<L>(host, content_types, byte_order_reversed)?,
        dirpacks: sorter::<L>(host, dirpacks, byte_order_reversed)?,
        summaries: sorter::<L>(host, summaries, byte_order_reversed)?,
        xattrs: sorter::<L>(host, xattrs, byte_order_reversed)?,
        errors: sorter::<L>(host, errors, byte_order_reversed)?,
    };
    let spools = [(); 6].map(|()| host.spool());
    let [keys, queue, directories, totals, frames, records] = spools;
    let previous = PreviousDirectory::new(
        previous.map(|(_, trees)| trees),
        host.spool()?,
        host.spool()?,
        parts.previous,
    );
    let content = ContentWriter::new(session.repository, parts.slot, records?)?;
    let mut backup = Backup {
        session,
        importer,
        options,
        progress,
        content,
        previous,
        tree: parts.tree,
        entry: parts.entry,
        xattr_names: parts.names,
        xattr_sorted: parts.names_sorted,
        xattr_value: parts.value,
        indexes,
        keys: keys?,
        queue: queue?,
        queue_at: 0,
        directories: directories?,
        totals: totals?,
        totals_at: 0,
        frames: frames?,
        unchanged: 0,
        changed_while_read: 0,
        previous_at: newest.map(|(when, _)| when),
        new_bytes: 0,
    };
    backup.root()?;
    while backup.next_directory(&mut listing)? {}
    let summary = backup.summarize()?;
    let trees = backup.plant()?;
    backup.finish(snapshot, started, summary, trees)
}

/// A sorter over `arena`.
fn sorter<'m, L: Lend>(
    host: &mut L::Host,
    arena: &'m mut [u8],
    order: Order,
) -> Result<EngineSorter<'m, L>, Error<L::Error>> {
    Ok(Sorter::new(arena, [host.spool()?, host.spool()?], order))
}

/// A backup under way.
struct Backup<'b, 'r, 's, 'm, L: Lend, I> {
    session: &'b mut Session<'r, 's, L>,
    importer: &'b mut I,
    options: &'b Options<'b>,
    progress: &'b mut dyn FnMut(&Event<'_>),
    content: ContentWriter<'m, HostSpool<L>>,
    previous: PreviousDirectory<'m, HostSpool<L>>,
    tree: &'m mut [u8],
    /// The entry that is made.
    entry: &'m mut [u8],
    xattr_names: &'m mut [u8],
    xattr_sorted: &'m mut [u8],
    xattr_value: &'m mut [u8],
    indexes: Indexes<'m, L>,
    /// Keys and values of the VFS tree, in its order.
    keys: HostSpool<L>,
    /// Paths of the directories to enter.
    queue: HostSpool<L>,
    queue_at: u64,
    /// Paths and statistics of the directories that were entered.
    directories: HostSpool<L>,
    /// Statistics of directories that the ones above them wait for.
    totals: HostSpool<L>,
    totals_at: u64,
    /// Entries of the current directory.
    frames: HostSpool<L>,
    unchanged: u64,
    changed_while_read: u64,
    previous_at: Option<Timestamp>,
    new_bytes: u64,
}

/// What became of an entry.
enum Outcome {
    Stored,
    /// It could not be read, and that is recorded.
    Failed,
}

/// Why an entry cannot be stored.
enum EntryError<E> {
    /// The importer failed, which is recorded.
    Source(E),
    /// The entry does not fit the bounds, which is recorded.
    Bound(&'static str),
    /// Anything else ends the backup.
    Engine(Error<E>),
}

impl<E> From<Error<E>> for EntryError<E> {
    fn from(error: Error<E>) -> Self {
        Self::Engine(error)
    }
}

impl<E> From<ReadError<E>> for EntryError<E> {
    fn from(error: ReadError<E>) -> Self {
        match error {
            ReadError::Source(error) => Self::Source(error),
            ReadError::Engine(error) => Self::Engine(error),
        }
    }
}

/// Where an entry lies.
#[derive(Clone, Copy)]
struct Place<'p> {
    directory: &'p [u8],
    name: &'p [u8],
    path: &'p [u8],
}

/// Length of a record of a directory after its path, in bytes, without the
/// summary: number of directories in it, whether it failed, length of the
/// path, length of the summary.
const DIRECTORY_TAIL_BYTES: usize = 8 + 1 + 2 + 2;

/// Longest summary that is written, in bytes.
const SUMMARY_BYTES_MAX: usize = 2048;

impl<L: Lend, I: Importer<Error = L::Error>> Backup<'_, '_, '_, '_, L, I> {
    /// Stores the root, and puts it in the queue.
    fn root(&mut self) -> Result<(), Error<L::Error>> {
        let mut summary = Summary::default();
        let place = Place { directory: b"/", name: b"/", path: b"/" };
        let mut is_directory = false;
        // A root that cannot be looked at leaves nothing to back up.
        match self.store_entry(place, &[], &mut summary, &mut is_directory) {
            Ok(_) => {}
            Err(EntryError::Source(error)) => return Err(Error::Host(error)),
            Err(EntryError::Bound(what)) => return Err(internal(what)),
            Err(EntryError::Engine(error)) => return Err(error),
        }
        self.frames.truncate(0)?;
        self.enqueue(b"/", false)
    }

    fn enqueue(&mut self, path: &[u8], failed: bool) -> Result<(), Error<L::Error>> {
        let len = u16::try_from(path.len()).map_err(|_| internal("path"))?;
        self.queue.append(&[u8::from(failed)])?;
        self.queue.append(&len.to_le_bytes())?;
        Ok(self.queue.append(path)?)
    }

    /// Stores the entries of the next directory in the queue. Returns whether
    /// there was one.
    fn next_directory(&mut self, listing: &mut Listing<'_, L>) -> Result<bool, Error<L::Error>> {
        if self.queue_at == self.queue.len() {
            return Ok(false);
        }
        let mut head = [0; 3];
        self.queue.read_at(self.queue_at, &mut head)?;
        let len = usize::from(u16::from_le_bytes([head[1], head[2]]));
        let mut path = [0; PATH_BYTES_MAX];
        let path = &mut path[..len];
        self.queue.read_at(self.queue_at + 3, path)?;
        self.queue_at += 3 + len as u64;
        self.directory(path, head[0] != 0, listing)?;
        Ok(true)
    }

    fn directory(
        &mut self,
        directory: &[u8],
        failed_before: bool,
        listing: &mut Listing<'_, L>,
    ) -> Result<(), Error<L::Error>> {
        let listed = self.list(directory, &mut listing.names)?;
        let failed_now = match listed {
            Ok(()) => false,
            // A path has one error at most: this is a second one.
            Err(_) if failed_before => false,
            Err(error) => {
                self.record_error(directory, &Display(&error))?;
                true
            }
        };
        self.previous.load(self.session.repository, directory, self.content.slot(), self.tree)?;
        let (mut summary, mut directories) = (Summary::default(), 0);
        let mut sorted = listing.names.finish()?;
        while let Some((name, hint)) = sorted.next()? {
            directories +=
                self.child(directory, name, hint, &mut summary, &mut listing.directories)?;
        }
        self.store_dirpack(directory)?;
        self.note_directory(directory, &summary, directories, failed_now)?;
        let mut sorted = listing.directories.finish()?;
        while let Some((name, failed)) = sorted.next()? {
            let mut path = [0; PATH_BYTES_MAX];
            let name = name.strip_suffix(b"/").unwrap_or(name);
            let len = path::join(directory, name, &mut path).map_err(|_| internal("path"))?;
            self.enqueue(&path[..len], failed == [1])?;
        }
        listing.directories.reset()?;
        Ok(())
    }

    /// Lists a directory into `names`. The inner error is the importer's.
    fn list(
        &mut self,
        directory: &[u8],
        names: &mut EngineSorter<'_, L>,
    ) -> Result<Result<(), L::Error>, Error<L::Error>> {
        names.reset()?;
        let mut failed = None;
        let listed = self.importer.list(directory, &mut |name, hint| {
            if failed.is_none() {
                failed = names.push(name, hint).err();
            }
            Ok(())
        });
        failed.map_or(Ok(listed), Err)
    }

    /// Stores one entry of a directory, or records why not. Returns 1 for a
    /// directory.
    fn child(
        &mut self,
        directory: &[u8],
        name: &[u8],
        hint: &[u8],
        summary: &mut Summary,
        directories: &mut EngineSorter<'_, L>,
    ) -> Result<u64, Error<L::Error>> {
        self.session.keep_alive()?;
        let mut joined = [0; PATH_BYTES_MAX];
        let Ok(len) = path::join(directory, name, &mut joined) else {
            // Too long to be a key: the part that fits names it.
            summary.add_errors(1);
            let _ = path::join(directory, b"", &mut joined);
            let shown = &name[..name.len().min(64)];
            let Ok(len) = path::join(directory, shown, &mut joined) else { return Ok(0) };
            self.record_error(&joined[..len], &"path is too long")?;
            return Ok(0);
        };
        let place = Place { directory, name, path: &joined[..len] };
        let mut is_directory = false;
        let failed = match self.store_entry(place, hint, summary, &mut is_directory) {
            Ok(Outcome::Stored) => false,
            Ok(Outcome::Failed) => true,
            Err(EntryError::Engine(error)) => return Err(error),
            Err(EntryError::Source(error)) => {
                summary.add_errors(1);
                self.record_error(place.path, &Display(&error))?;
                return Ok(0);
            }
            Err(EntryError::Bound(what)) => {
                summary.add_errors(1);
                self.record_error(place.path, &what)?;
                return Ok(0);
            }
        };
        if failed {
            summary.add_errors(1);
        }
        if is_directory {
            let mut key = heapless::Vec::<u8, PATH_BYTES_MAX>::new();
            let _ = key.extend_from_slice(name);
            let _ = key.push(b'/');
            directories.push(&key, &[u8::from(failed)])?;
        }
        Ok(u64::from(is_directory))
    }

    /// Records that something could not be read.
    fn record_error(
        &mut self,
        path: &[u8],
        message: &dyn core::fmt::Display,
    ) -> Result<(), Error<L::Error>> {
        let mut text = Message::default();
        let _ = core::fmt::write(&mut text, format_args!("{message}"));
        let mut writer = Writer::new(self.entry);
        ErrorEntry { path, message: &text.0 }.emit(&mut writer);
        let bytes = writer.finish().map_err(|_| internal("error entry"))?;
        let mac = self.session.put(ResourceKind::ERROR_ENTRY, bytes)?;
        self.indexes.errors.push(path, &mac.0)?;
        (self.progress)(&Event::Failed { path, message: &text.0 });
        Ok(())
    }

    /// Stores an entry, with its content and attributes.
    fn store_entry(
        &mut self,
        place: Place<'_>,
        hint: &[u8],
        summary: &mut Summary,
        is_directory: &mut bool,
    ) -> Result<Outcome, EntryError<L::Error>> {
        let mut attributes = Attributes::default();
        self.importer.stat(place.path, hint, &mut attributes).map_err(EntryError::Source)?;
        let mut info = file_info(place.name, &attributes);
        *is_directory = mode::is_directory(info.mode);
        let found = self.previous.find(place.name).map_err(Error::from)?;
        let content = if mode::is_regular(info.mode) {
            match self.reusable(found, &info)? {
                Some(content) => Some(content),
                None => Some(self.read_file(place, &attributes, &mut info)?),
            }
        } else {
            None
        };
        let (xattr_bytes, outcome) = match self.store_xattrs(place)? {
            Ok(bytes) => (bytes, Outcome::Stored),
            Err(error) => {
                self.record_error(place.path, &Display(&error))?;
                (0, Outcome::Failed)
            }
        };
        let content_type: &[u8] = match &content {
            Some(content) => &content.content_type,
            None if *is_directory => b"",
            None => NOT_REGULAR,
        };
        let entry = Entry {
            parent_path: place.directory,
            info,
            summary: None,
            link_target: &attributes.link_target,
            object: content.as_ref().map_or(Mac::ZERO, |content| content.stored.object),
            content_type,
            entropy: content.as_ref().map_or(0.0, |content| content.stored.entropy),
            chunks: content.as_ref().map_or(0, |content| content.stored.chunks),
            xattr_names: List::terminated(&self.xattr_sorted[..xattr_bytes]),
        };
        let mut writer = Writer::new(self.entry);
        entry.emit(&mut writer);
        let bytes = writer.finish().map_err(|_| EntryError::Bound("attributes are too long"))?;
        let mac = self.session.put(ResourceKind::VFS_ENTRY, bytes)?;
        let entry_bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        for part in [&frame_head(*is_directory, entry_bytes)[..], bytes, &mac.0] {
            self.frames.append(part).map_err(Error::Host)?;
        }
        let path_bytes = u16::try_from(place.path.len()).unwrap_or(u16::MAX);
        for part in [place.path, &mac.0, &path_bytes.to_le_bytes()] {
            self.keys.append(part).map_err(Error::Host)?;
        }
        if !*is_directory {
            summary.add_file(&Counted {
                mode: info.mode,
                size: if mode::is_regular(info.mode) { info.size } else { 0 },
                mod_time_secs: info.mod_time.secs,
                chunks: content.as_ref().map(|content| content.stored.chunks),
                entropy: entry.entropy,
                content_type,
            });
            self.index_content_type(content_type, place.path, &mac)?;
        }
        let changed = content.as_ref().is_some_and(|content| content.is_read);
        let size_bytes = content.map_or(0, |content| content.stored.length_bytes);
        (self.progress)(&Event::Entry { path: place.path, size_bytes, changed });
        Ok(outcome)
    }

    /// The content of the same file in the previous snapshot, if neither the
    /// file has changed nor the store lost it.
    fn reusable(
        &mut self,
        found: bool,
        info: &FileInfo<'_>,
    ) -> Result<Option<Content>, Error<L::Error>> {
        if !found {
            return Ok(None);
        }
        let Some(before) = self.previous.entry() else { return Ok(None) };
        // Entries of 1.0 lack content type and chunks.
        let is_same = before.info == *info && before.chunks > 0 && !before.content_type.is_empty();
        if !is_same || !self.session.repository.has(ResourceKind::OBJECT, &before.object)? {
            return Ok(None);
        }
        let mut content_type = heapless::Vec::new();
        if content_type.extend_from_slice(before.content_type).is_err() {
            return Ok(None);
        }
        self.unchanged += 1;
        let stored = Stored {
            object: before.object,
            length_bytes: info.size.cast_unsigned(),
            chunks: before.chunks,
            entropy: before.entropy,
            new_bytes: 0,
        };
        Ok(Some(Content { stored, content_type, is_read: false }))
    }

    /// Reads a file and stores its content.
    fn read_file(
        &mut self,
        place: Place<'_>,
        attributes: &Attributes,
        info: &mut FileInfo<'_>,
    ) -> Result<Content, EntryError<L::Error>> {
        self.importer.open(place.path, attributes).map_err(EntryError::Source)?;
        let (importer, progress) = (&mut *self.importer, &mut *self.progress);
        let stored = self.content.store(self.session, ContentKind::File(place.name), &mut |into| {
            match importer.read(into) {
                Ok(read) => {
                    progress(&Event::Read { bytes: read as u64 });
                    Ok(read)
                }
                Err(error) => Err(ReadError::Source(error)),
            }
        });
        let changed = self.importer.changed();
        self.importer.close();
        let stored = stored?;
        if changed.map_err(EntryError::Source)? {
            self.changed_while_read += 1;
            (self.progress)(&Event::Changed { path: place.path });
        }
        // What was read is what there is, whatever the length was before.
        info.size = i64::try_from(stored.length_bytes).unwrap_or(i64::MAX);
        self.new_bytes += stored.new_bytes;
        let content_type = self.content.content_type().clone();
        Ok(Content { stored, content_type, is_read: true })
    }

    /// Stores the extended attributes of an entry. Returns the length of their
    /// sorted names in `xattr_sorted`. The inner error is the importer's.
    fn store_xattrs(
        &mut self,
        place: Place<'_>,
    ) -> Result<Result<usize, L::Error>, EntryError<L::Error>> {
        if self.options.skip_xattrs {
            return Ok(Ok(0));
        }
        let len = match self.importer.xattr_names(place.path, self.xattr_names) {
            Ok(len) => len.min(self.xattr_names.len()),
            Err(error) => return Ok(Err(error)),
        };
        let mut sorted = 0;
        let mut last: Option<(usize, usize)> = None;
        loop {
            let after = last.map(|(start, end)| &self.xattr_sorted[start..end]);
            let Some(name) = next_name(&self.xattr_names[..len], after) else { break };
            let read = self.importer.xattr(place.path, name, self.xattr_value);
            let read = match read {
                Ok(read) => read.min(self.xattr_value.len()),
                // An attribute that is gone by now is none.
                Err(error) if error.kind() == crate::host::HostErrorKind::NotFound => {
                    let end = sorted + name.len();
                    self.xattr_sorted[sorted..end].copy_from_slice(name);
                    last = Some((sorted, end));
                    continue;
                }
                Err(error) => return Ok(Err(error)),
            };
            let end = sorted + name.len();
            self.xattr_sorted[sorted..end].copy_from_slice(name);
            self.xattr_sorted[end] = 0;
            last = Some((sorted, end));
            self.store_xattr(place, (sorted, end), read)?;
            sorted = end + 1;
        }
        Ok(Ok(sorted))
    }

    /// Stores one extended attribute, whose name and value are in memory.
    fn store_xattr(
        &mut self,
        place: Place<'_>,
        (start, end): (usize, usize),
        value_bytes: usize,
    ) -> Result<(), EntryError<L::Error>> {
        let mut value = &self.xattr_value[..value_bytes];
        let stored =
            self.content.store(self.session, ContentKind::File(place.name), &mut |into| {
                let (now, later) = value.split_at(value.len().min(into.len()));
                into[..now.len()].copy_from_slice(now);
                value = later;
                Ok(now.len())
            })?;
        self.new_bytes += stored.new_bytes;
        let name = &self.xattr_sorted[start..end];
        let entry = XattrEntry {
            path: place.path,
            name,
            size: i64::try_from(value_bytes).unwrap_or(i64::MAX),
            kind: 0,
            object: stored.object,
        };
        let mut writer = Writer::new(self.entry);
        entry.emit(&mut writer);
        let bytes = writer.finish().map_err(|_| EntryError::Bound("attributes are too long"))?;
        let mac = self.session.put(ResourceKind::XATTR_ENTRY, bytes)?;
        let mut key = [0; TREE_KEY_BYTES_MAX];
        let len = XattrEntry::key(place.path, name, &mut key)
            .map_err(|_| EntryError::Bound("name of an attribute is too long"))?;
        Ok(self.indexes.xattrs.push(&key[..len], &mac.0)?)
    }

    fn index_content_type(
        &mut self,
        content_type: &[u8],
        path: &[u8],
        mac: &Mac,
    ) -> Result<(), Error<L::Error>> {
        let kind = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
        let mut key = heapless::Vec::<u8, TREE_KEY_BYTES_MAX>::new();
        let fits = key.push(b'/').is_ok()
            && key.extend_from_slice(kind).is_ok()
            && key.extend_from_slice(path).is_ok();
        if fits { self.indexes.content_types.push(&key, &mac.0) } else { Err(internal("path")) }
    }

    /// Stores the entries of the current directory as one object.
    fn store_dirpack(&mut self, directory: &[u8]) -> Result<(), Error<L::Error>> {
        let (frames, mut at) = (&mut self.frames, 0);
        let stored = self.content.store(self.session, ContentKind::Dirpack, &mut |into| {
            let left = usize::try_from(frames.len() - at).unwrap_or(usize::MAX);
            let step = left.min(into.len());
            frames.read_at(at, &mut into[..step]).map_err(Error::Host)?;
            at += step as u64;
            Ok(step)
        });
        let stored = match stored {
            Ok(stored) => stored,
            Err(ReadError::Engine(error)) => return Err(error),
            Err(ReadError::Source(error)) => return Err(Error::Host(error)),
        };
        self.frames.truncate(0)?;
        self.indexes.dirpacks.push(directory, &stored.object.0)
    }

    /// Keeps the statistics of a directory until those below it are known.
    fn note_directory(
        &mut self,
        directory: &[u8],
        summary: &Summary,
        directories: u64,
        failed: bool,
    ) -> Result<(), Error<L::Error>> {
        let mut space = [0; SUMMARY_BYTES_MAX];
        let bytes = summary_bytes(summary, &mut space)?;
        let mut tail = [0; DIRECTORY_TAIL_BYTES];
        tail[..8].copy_from_slice(&directories.to_le_bytes());
        tail[8] = u8::from(failed);
        let len = |len: usize| u16::try_from(len).unwrap_or(u16::MAX).to_le_bytes();
        tail[9..11].copy_from_slice(&len(directory.len()));
        tail[11..].copy_from_slice(&len(bytes.len()));
        for part in [directory, bytes, &tail] {
            self.directories.append(part)?;
        }
        Ok(())
    }

    /// Adds up the statistics from the last directory to the first, and
    /// returns those of the root.
    ///
    /// In the order in which directories were entered, those of one directory
    /// follow each other; so from the end, what a directory waits for is always
    /// the oldest of what is there.
    fn summarize(&mut self) -> Result<Summary, Error<L::Error>> {
        let mut end = self.directories.len();
        let mut summary = Summary::default();
        while end > 0 {
            self.session.keep_alive()?;
            let mut tail = [0; DIRECTORY_TAIL_BYTES];
            let tail_at = end - DIRECTORY_TAIL_BYTES as u64;
            self.directories.read_at(tail_at, &mut tail)?;
            let directories = u64::from_le_bytes(crate::wire::field(&tail, 0..8));
            let len = |at| usize::from(u16::from_le_bytes(crate::wire::field(&tail, at..at + 2)));
            let (path_bytes, bytes) = (len(9), len(11));
            let mut space = [0; SUMMARY_BYTES_MAX];
            self.directories.read_at(tail_at - bytes as u64, &mut space[..bytes])?;
            summary = Summary::parse(&space[..bytes]).map_err(|_| internal("summary"))?;
            for _ in 0..directories {
                let (child, failed) = self.next_total()?;
                summary.add_directory(&child);
                summary.add_errors(u64::from(failed));
            }
            summary.finish();
            let start = tail_at - bytes as u64 - path_bytes as u64;
            let mut path = [0; PATH_BYTES_MAX];
            self.directories.read_at(start, &mut path[..path_bytes])?;
            self.keep_summary(&path[..path_bytes], &summary, tail[8])?;
            end = start;
        }
        Ok(summary)
    }

    /// The statistics of the directory that waits longest.
    fn next_total(&mut self) -> Result<(Summary, bool), Error<L::Error>> {
        let mut head = [0; 3];
        self.totals.read_at(self.totals_at, &mut head)?;
        let bytes = usize::from(u16::from_le_bytes([head[1], head[2]]));
        let mut space = [0; SUMMARY_BYTES_MAX];
        self.totals.read_at(self.totals_at + 3, &mut space[..bytes])?;
        self.totals_at += 3 + bytes as u64;
        let summary = Summary::parse(&space[..bytes]).map_err(|_| internal("summary"))?;
        Ok((summary, head[0] != 0))
    }

    /// Stores the statistics of a directory, and keeps them for the one above.
    fn keep_summary(
        &mut self,
        path: &[u8],
        summary: &Summary,
        failed: u8,
    ) -> Result<(), Error<L::Error>> {
        let mut space = [0; SUMMARY_BYTES_MAX];
        let bytes = summary_bytes(summary, &mut space)?;
        let mac = self.session.put(ResourceKind::VFS_SUMMARY, bytes)?;
        self.indexes.summaries.push(path, &mac.0)?;
        let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_le_bytes();
        self.totals.append(&[failed, len[0], len[1]])?;
        Ok(self.totals.append(bytes)?)
    }

    /// Writes all trees.
    fn plant(&mut self) -> Result<Trees, Error<L::Error>> {
        let vfs = self.plant_vfs()?;
        let Self { session, tree, indexes, .. } = self;
        let mut plant = |sorter: &mut EngineSorter<'_, L>, kinds| {
            plant_sorted::<L>(session, tree, sorter, kinds)
        };
        Ok(Trees {
            vfs,
            xattrs: plant(&mut indexes.xattrs, TreeKinds::XATTRS)?,
            errors: plant(&mut indexes.errors, TreeKinds::ERRORS)?,
            content_type: Some(plant(&mut indexes.content_types, TreeKinds::INDEX)?),
            dirpack: Some(plant(&mut indexes.dirpacks, TreeKinds::INDEX)?),
            summary: Some(plant(&mut indexes.summaries, TreeKinds::INDEX)?),
        })
    }

    fn plant_vfs(&mut self) -> Result<Mac, Error<L::Error>> {
        let mut builder = builder(TreeKinds::VFS, self.tree)?;
        let mut end = self.keys.len();
        while end > 0 {
            let mut tail = [0; 34];
            self.keys.read_at(end - 34, &mut tail)?;
            let path_bytes = usize::from(u16::from_le_bytes([tail[32], tail[33]]));
            let mut path = [0; PATH_BYTES_MAX];
            end -= 34 + path_bytes as u64;
            self.keys.read_at(end, &mut path[..path_bytes])?;
            let mac = Mac(crate::wire::field(&tail, 0..32));
            builder.push(self.session, &path[..path_bytes], &mac)?;
        }
        builder.finish(self.session)
    }

    /// Writes the header, and makes everything part of the store.
    fn finish(
        self,
        snapshot: Mac,
        started: Timestamp,
        summary: Summary,
        trees: Trees,
    ) -> Result<Report, Error<L::Error>> {
        let Self { session, importer, options, mut content, .. } = self;
        let duration_nanos = session.repository.host.now().nanos_since(started);
        let source = Source {
            kind: importer.kind().as_bytes(),
            origin: importer.origin().as_bytes(),
            directory: importer.root(),
            context: options.copy_of.map_or(Pairs::default(), |header| header.source.context),
            trees,
            summary,
        };
        let header = match options.copy_of {
            // A signature would be one of other bytes.
            Some(header) => Header { source, identity: [0; 16], public_key: &[], ..*header },
            None => Header {
                identifier: snapshot,
                timestamp: options.timestamp.unwrap_or(started),
                duration_nanos,
                name: options.name,
                category: options.category,
                environment: options.environment,
                perimeter: options.perimeter,
                job: options.job,
                replicas: 1,
                tags: List::strings(options.tags),
                context: Pairs::Lent(options.context),
                source,
                ..Header::default()
            },
        };
        let mut writer = Writer::new(content.slot());
        header.emit(&mut writer);
        let subject = Subject::Blob(ResourceKind::SNAPSHOT, snapshot);
        let bytes = writer.finish().map_err(Error::damaged(subject))?;
        session.append(ResourceKind::SNAPSHOT, &snapshot, &mut |write| write(bytes))?;
        Ok(Report {
            snapshot,
            summary,
            unchanged: self.unchanged,
            changed_while_read: self.changed_while_read,
            previous_at: self.previous_at,
            new_bytes: self.new_bytes,
            written: session.written(),
            duration_nanos,
            lock_left_behind: false,
        })
    }
}

/// The content of a file, read or known.
struct Content {
    stored: Stored,
    content_type: ContentType,
    is_read: bool,
}

/// What is recorded of an entry. A file with several names is recorded with
/// one and a flag: see [`FLAG_HARD_LINK`].
fn file_info<'a>(name: &'a [u8], attributes: &'a Attributes) -> FileInfo<'a> {
    let is_linked = attributes.nlink > 1 && !mode::is_directory(attributes.mode);
    FileInfo {
        name,
        size: attributes.size,
        mode: attributes.mode,
        mod_time: attributes.mod_time,
        dev: attributes.dev,
        ino: attributes.ino,
        uid: attributes.uid,
        gid: attributes.gid,
        nlink: if is_linked { 1 } else { u16::try_from(attributes.nlink).unwrap_or(u16::MAX) },
        username: &attributes.username,
        groupname: &attributes.groupname,
        flags: attributes.flags | if is_linked { FLAG_HARD_LINK } else { 0 },
    }
}

/// The name that follows `after` in byte order, among names that end with a
/// zero byte. Lists are short, and this needs no memory.
fn next_name<'n>(names: &'n [u8], after: Option<&[u8]>) -> Option<&'n [u8]> {
    names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty() && after.is_none_or(|after| *name > after))
        .min()
}

fn summary_bytes<'s, E>(
    summary: &Summary,
    space: &'s mut [u8; SUMMARY_BYTES_MAX],
) -> Result<&'s [u8], Error<E>> {
    let mut writer = Writer::new(space);
    summary.emit(&mut writer);
    writer.finish().map_err(|_| internal("summary"))
}

fn builder<E>(kinds: TreeKinds, memory: &mut [u8]) -> Result<TreeBuilder<'_>, Error<E>> {
    TreeBuilder::new(kinds, memory, TREE_LEVELS, TREE_KEY_BYTES_MAX)
        .map_err(|_| internal("memory of a tree"))
}

/// Writes the tree of what was sorted in descending order.
fn plant_sorted<L: Lend>(
    session: &mut Session<'_, '_, L>,
    memory: &mut [u8],
    sorter: &mut EngineSorter<'_, L>,
    kinds: TreeKinds,
) -> Result<Mac, Error<L::Error>> {
    let mut builder = builder(kinds, memory)?;
    let mut sorted = sorter.finish()?;
    while let Some((key, value)) = sorted.next()? {
        session.keep_alive()?;
        let mac = Mac::from_slice(value).unwrap_or_default();
        builder.push(session, key, &mac)?;
    }
    builder.finish(session)
}

/// A bound that every caller keeps was passed: a mistake of this program.
fn internal<E>(what: &'static str) -> Error<E> {
    Error::damaged(Subject::Blob(ResourceKind::VFS_ENTRY, Mac::ZERO))(FormatError::Bound(what))
}

/// Shows an error with its causes, as it is recorded.
struct Display<'e, E>(&'e E);

impl<E: HostError> core::fmt::Display for Display<'_, E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// A message, cut at its bound.
#[derive(Default)]
struct Message(heapless::Vec<u8, MESSAGE_BYTES_MAX>);

impl core::fmt::Write for Message {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = MESSAGE_BYTES_MAX - self.0.len();
        let mut len = text.len().min(room);
        while !text.is_char_boundary(len) {
            len -= 1;
        }
        self.0.extend_from_slice(&text.as_bytes()[..len]).map_err(|_| core::fmt::Error)
    }
}
