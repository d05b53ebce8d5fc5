//! Importer to store.
//!
//! Directories are taken level by level, which is the order of the VFS tree:
//! their paths wait in a queue on a spool, and the keys of the tree come out
//! sorted, however deep or wide it is. Everything that has another order goes
//! through an external sort. Statistics are added up at the end, from the
//! last directory to the first.
//!
//! What is the same as in the previous snapshot is taken over from it: entries
//! byte for byte, a directory in which nothing changed with its dirpack, and if
//! nothing changed anywhere the trees and the statistics too. Nothing of that is
//! read, hashed or looked up on disk.
//!
//! Memory: [`backup_bytes`], lent by the caller, and the write-behind buffers
//! of about twenty spools.

mod ahead;
mod entry;
mod queue;
mod trees;

use crate::btree::builder_bytes_min;
use crate::content::{ContentKind, ContentWriter, HostSpool, READ_BYTES, ReadError};
use crate::error::{Error, FormatError, Subject};
use crate::host::{Host, HostError};
use crate::importer::{Attributes, Importer};
use crate::index::Index as _;
use crate::limits::{
    ENTRY_BYTES_MAX, HEADER_BYTES_MAX, MESSAGE_BYTES_MAX, NODE_BYTES_MAX, PATH_BYTES_MAX,
    XATTR_LIST_BYTES_MAX, XATTR_VALUE_BYTES_MAX, bound,
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
use crate::store::Store as _;
use crate::time::Timestamp;
use crate::wire::error_entry::ErrorEntry;
use crate::wire::header::{Header, Pairs, Source, Trees};
use crate::wire::list::List;
use crate::wire::msgpack::Writer;
use crate::wire::path;
use crate::wire::summary::Summary;

use self::ahead::{Ahead, Record};
use self::entry::{EntryError, Outcome, Place};
use self::queue::Queue;
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
    /// How long it took until the header of the snapshot was written, which records it,
    /// in nanoseconds. What waits is uploaded after that.
    pub duration_nanos: i64,
    /// The lock could not be given back: it keeps maintenance away for ten
    /// minutes.
    pub lock_left_behind: bool,
}

/// Longest key of a tree: a path, with a content type or an attribute's name.
const TREE_KEY_BYTES_MAX: usize = PATH_BYTES_MAX + bound(512, 256);

/// Levels of the trees that are written; see [`builder_bytes_min`].
const TREE_LEVELS: usize = bound(8, 6);

/// Memory for one tree, or for a node of the previous snapshot's.
const TREE_BYTES: usize = {
    let builder = builder_bytes_min(TREE_LEVELS, TREE_KEY_BYTES_MAX);
    if builder > NODE_BYTES_MAX { builder } else { NODE_BYTES_MAX }
};

/// Least memory of all sorters together, in bytes.
const SORT_BYTES_MIN: usize = bound(512 * 1024, 32 * 1024);

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
    /// For an importer that reads ahead.
    ahead: Ahead<HostSpool<L>>,
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
    session.repository.store.tidy();
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
    let newest = newest_like(session.repository, importer, &mut parts.tree[..HEADER_BYTES_MAX])?;
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
        ahead: Ahead::new(host.spool()?),
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
    let previous = PreviousDirectory::new(previous, host.spool()?, host.spool()?, parts.previous);
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
        queue: Queue::new(queue?),
        directories: directories?,
        totals: totals?,
        totals_at: 0,
        frames: frames?,
        is_same: false,
        all_same: true,
        files_same: true,
        unchanged: 0,
        changed_while_read: 0,
        previous_at: newest.map(|newest| newest.timestamp),
        new_bytes: 0,
    };
    backup.root()?;
    while backup.next_directory(&mut listing)? {}
    let (known, summary) = match backup.reusable_trees()? {
        Some((trees, summary)) => (Some(trees), summary),
        None => (None, backup.summarize()?),
    };
    let trees = backup.plant(known)?;
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
    queue: Queue<HostSpool<L>>,
    /// Paths and statistics of the directories that were entered.
    directories: HostSpool<L>,
    /// Statistics of directories that the ones above them wait for.
    totals: HostSpool<L>,
    totals_at: u64,
    /// Entries of the current directory.
    frames: HostSpool<L>,
    /// The current directory is so far what it was in the previous snapshot:
    /// `frames` is empty then.
    is_same: bool,
    /// So was every directory before it.
    all_same: bool,
    /// So was everything in them but directories.
    files_same: bool,
    unchanged: u64,
    changed_while_read: u64,
    previous_at: Option<Timestamp>,
    new_bytes: u64,
}

/// A child of a directory, as the importer listed it.
#[derive(Clone, Copy)]
struct Child<'c> {
    directory: &'c [u8],
    name: &'c [u8],
    hint: &'c [u8],
}

/// Memory for the children of one directory, one after the other.
struct Space {
    path: [u8; PATH_BYTES_MAX],
    attributes: Attributes,
}

impl Default for Space {
    fn default() -> Self {
        Self { path: [0; PATH_BYTES_MAX], attributes: Attributes::default() }
    }
}

impl<L: Lend, I: Importer<Error = L::Error>> Backup<'_, '_, '_, '_, L, I> {
    /// Stores the root, and puts it in the queue.
    fn root(&mut self) -> Result<(), Error<L::Error>> {
        let mut summary = Summary::default();
        let place = Place { directory: b"/", name: b"/", path: b"/" };
        let (mut attributes, mut is_directory) = (Attributes::default(), false);
        // A root that cannot be looked at leaves nothing to back up.
        match self.store_entry(place, &[], &mut attributes, &mut summary, &mut is_directory) {
            Ok(_) => {}
            Err(EntryError::Source(error)) => return Err(Error::Host(error)),
            Err(EntryError::Bound(what)) => return Err(internal(what)),
            Err(EntryError::Engine(error)) => return Err(error),
        }
        self.frames.truncate(0)?;
        self.queue.push(b"/", false)
    }

    /// Stores the entries of the next directory in the queue. Returns whether
    /// there was one.
    fn next_directory(&mut self, listing: &mut Listing<'_, L>) -> Result<bool, Error<L::Error>> {
        let mut path = [0; PATH_BYTES_MAX];
        let Some((path, failed)) = self.queue.pop(&mut path)? else { return Ok(false) };
        self.queue.tell(self.importer, self.entry)?;
        self.directory(path, failed, listing)?;
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
        let (repository, slot) = (&mut *self.session.repository, self.content.slot());
        self.is_same = self.previous.load(repository, directory, slot, self.tree)?;
        self.files_same &= self.is_same;
        let mut summary = Summary::default();
        let directories = if self.importer.files_ahead() > 0 {
            self.children_ahead(directory, listing, &mut summary)?
        } else {
            self.children(directory, listing, &mut summary)?
        };
        self.files_same &= self.previous.has_all()?;
        self.keep_dirpack(directory)?;
        self.note_directory(directory, &summary, directories, failed_now)?;
        let mut sorted = listing.directories.finish()?;
        while let Some((name, failed)) = sorted.next()? {
            let mut path = [0; PATH_BYTES_MAX];
            let name = name.strip_suffix(b"/").unwrap_or(name);
            let len = path::join(directory, name, &mut path).map_err(|_| internal("path"))?;
            self.queue.push(&path[..len], failed == [1])?;
        }
        listing.directories.reset()?;
        Ok(())
    }

    /// Stores the entries of a directory, and returns how many are directories.
    fn children(
        &mut self,
        directory: &[u8],
        listing: &mut Listing<'_, L>,
        summary: &mut Summary,
    ) -> Result<u64, Error<L::Error>> {
        let (mut space, mut directories) = (Space::default(), 0);
        let mut sorted = listing.names.finish()?;
        while let Some((name, hint)) = sorted.next()? {
            let child = Child { directory, name, hint };
            directories += self.child(child, &mut space, summary, &mut listing.directories)?;
        }
        Ok(directories)
    }

    /// The same, for an importer that reads ahead.
    fn children_ahead(
        &mut self,
        directory: &[u8],
        listing: &mut Listing<'_, L>,
        summary: &mut Summary,
    ) -> Result<u64, Error<L::Error>> {
        let (mut space, mut record, mut directories) = (Space::default(), Record::default(), 0);
        listing.ahead.fill::<L>(&mut listing.names)?;
        loop {
            let (importer, previous) = (&mut *self.importer, &mut self.previous);
            let memory = (&mut record, &mut space);
            listing.ahead.look(directory, importer, previous, memory, self.entry)?;
            if !listing.ahead.next(&mut record)? {
                return Ok(directories);
            }
            let child = Child { directory, name: record.name(), hint: record.hint() };
            directories += self.child(child, &mut space, summary, &mut listing.directories)?;
        }
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
        child: Child<'_>,
        space: &mut Space,
        summary: &mut Summary,
        directories: &mut EngineSorter<'_, L>,
    ) -> Result<u64, Error<L::Error>> {
        self.session.keep_alive()?;
        let Child { directory, name, hint } = child;
        let Space { path: joined, attributes } = space;
        let Ok(len) = path::join(directory, name, joined) else {
            // Too long to be a key: the part that fits names it.
            summary.add_errors(1);
            let _ = path::join(directory, b"", joined);
            let shown = &name[..name.len().min(64)];
            let Ok(len) = path::join(directory, shown, joined) else { return Ok(0) };
            self.record_error(&joined[..len], &"path is too long")?;
            return Ok(0);
        };
        let place = Place { directory, name, path: &joined[..len] };
        let mut is_directory = false;
        let failed = match self.store_entry(place, hint, attributes, summary, &mut is_directory) {
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

    /// Takes over the object of the current directory's entries, or stores one.
    fn keep_dirpack(&mut self, directory: &[u8]) -> Result<(), Error<L::Error>> {
        let index = &mut self.session.repository.index;
        if self.is_same
            && let Some(object) = self.previous.object_of_same()
            && index.may_contain(ResourceKind::OBJECT, &object)?
        {
            return self.indexes.dirpacks.push(directory, &object.0);
        }
        self.diverge()?;
        self.all_same = false;
        self.store_dirpack(directory)
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

    /// Writes the header, and makes everything part of the store.
    fn finish(
        &mut self,
        snapshot: Mac,
        started: Timestamp,
        summary: Summary,
        trees: Trees,
    ) -> Result<Report, Error<L::Error>> {
        let Self { session, importer, options, content, .. } = self;
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
        session.append(ResourceKind::SNAPSHOT, &snapshot, bytes.len() as u64, &mut |write| {
            write(bytes)
        })?;
        // What is told is what was written.
        session.drain()?;
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
