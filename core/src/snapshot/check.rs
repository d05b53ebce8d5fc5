//! Everything that a store or a snapshot needs, read and compared.
//!
//! Stock's check walks the directories and reads the files. This one also
//! compares every file of the store with its MAC, every entry of the VFS tree
//! with the directories, and every index with what it points to: nothing that
//! stock would need for any command goes unread.

use super::sweep::{Proof, Sweep};
use super::walk::{Event as WalkEvent, Walk, entry_at};
use super::{ReadMemory, read_header};
use crate::btree::{Cursor, TreeKinds};
use crate::content::{ContentReader, HostSpool};
use crate::error::{Error, FormatError, Subject};
use crate::host::Host;
use crate::index::Index;
use crate::limits::{ENTRY_BYTES_MAX, PATH_BYTES_MAX};
use crate::mac::Mac;
use crate::refresh::OnDamage;
use crate::repository::{Lend, Repository};
use crate::resource::{ResourceKind, Version};
use crate::store::StoreResource;
use crate::wire::entry::Entry;
use crate::wire::error_entry::ErrorEntry;
use crate::wire::header::Trees;
use crate::wire::summary::Summary;
use crate::wire::xattr::XattrEntry;

/// What a check is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Only see that everything is there, without reading content.
    pub fast: bool,
    /// What [`check_packfiles`] has shown, which need not be read again. For
    /// whole snapshots only.
    pub proof: Proof,
}

/// What a check finds, as it goes.
#[derive(Debug)]
pub enum Event<'e, E> {
    /// An entry of a snapshot was read, with all that it needs.
    Good {
        /// Its path.
        path: &'e [u8],
    },
    /// Some bytes were read and compared.
    Read {
        /// How many.
        bytes: u64,
    },
    /// Something is wrong.
    Bad {
        /// The entry of the snapshot that needs it, if it is one.
        path: Option<&'e [u8]>,
        /// What.
        error: &'e Error<E>,
    },
}

/// What a check has found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// Entries that are good.
    pub good: u64,
    /// Things that are wrong.
    pub bad: u64,
    /// Bytes read.
    pub bytes: u64,
}

/// Memory for a check of a store whose chunks have at most `chunk_bytes` bytes.
#[must_use]
pub const fn check_bytes(chunk_bytes: usize) -> usize {
    ReadMemory::bytes(chunk_bytes) + ENTRY_BYTES_MAX
}

/// Receives what a check finds.
pub type Sink<'s, E> = &'s mut dyn FnMut(&Event<'_, E>);

/// Brings the index up to date, and compares every state with its MAC, also
/// those that were read before.
///
/// # Errors
///
/// The host's. Damage is reported.
pub fn check_states<L: Lend>(
    repository: &mut Repository<'_, L>,
    memory: &mut [u8],
    found: Sink<'_, L::Error>,
) -> Result<Report, Error<L::Error>> {
    let mut report = Report::default();
    repository.refresh(memory, &mut |error| {
        report.bad += 1;
        found(&Event::Bad { path: None, error });
        OnDamage::Skip
    })?;
    let mut after = None;
    while let Some(state) = repository.index.next_state(after.as_ref())? {
        after = Some(state);
        let newest = Version::V1_1_0;
        let result = repository.verify_envelope(StoreResource::State, &state, newest);
        note(&mut report, None, result.map(drop), found)?;
    }
    Ok(report)
}

/// Compares every packfile with its MAC, and all that is in it. Only what is
/// wrong with packfiles is reported; of blobs the checks of snapshots tell, to
/// which what was shown is given.
///
/// # Errors
///
/// [`Error::Memory`], [`Error::Cancelled`], and the host's. Damage is reported.
pub fn check_packfiles<L: Lend>(
    repository: &mut Repository<'_, L>,
    options: &Options,
    memory: &mut [u8],
    found: Sink<'_, L::Error>,
) -> Result<(Report, Proof), Error<L::Error>> {
    let mut report = Report::default();
    let memory = ReadMemory::new(memory, repository.facts.chunking.max())?;
    let mut sweep = Sweep::<HostSpool<L>>::new(repository, memory)?;
    let mut after = None;
    while let Some(place) = repository.index.next_packfile(after.as_ref())? {
        after = Some(place);
        let packfile = place.name;
        if repository.host.cancelled() {
            return Err(Error::Cancelled);
        }
        let size =
            crate::store::Store::size(&mut repository.store, StoreResource::Packfile, &packfile)?;
        let result = match size {
            None => Err(Error::Missing(Subject::Packfile(packfile))),
            Some(_) if options.fast => Ok(()),
            Some(bytes) => {
                report.bytes += bytes;
                found(&Event::Read { bytes });
                sweep.packfile(repository, &packfile)
            }
        };
        if !note(&mut report, None, result, found)? {
            sweep.doubt();
        }
    }
    let proof = if options.fast { Proof::default() } else { sweep.proof(&repository.index) };
    Ok((report, proof))
}

/// Reports what went wrong, and ends the check for what is no damage.
fn note<E>(
    report: &mut Report,
    path: Option<&[u8]>,
    result: Result<(), Error<E>>,
    found: Sink<'_, E>,
) -> Result<bool, Error<E>> {
    match result {
        Ok(()) => Ok(true),
        Err(error @ (Error::Damaged { .. } | Error::Missing(_) | Error::NoSuchPath)) => {
            report.bad += 1;
            found(&Event::Bad { path, error: &error });
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Checks a snapshot: what lies at `path`, or the whole of it, with its
/// indexes, for none. Content that another check with the same index has read
/// is not read again.
///
/// # Errors
///
/// [`Error::Memory`], [`Error::Cancelled`], and the host's. Damage is reported.
pub fn check_snapshot<L: Lend>(
    repository: &mut Repository<'_, L>,
    snapshot: &Mac,
    path: Option<&[u8]>,
    options: &Options,
    memory: &mut [u8],
    found: Sink<'_, L::Error>,
) -> Result<Report, Error<L::Error>> {
    let chunk_bytes = repository.facts.chunking.max();
    let (needed, lent) = (check_bytes(chunk_bytes), memory.len());
    if lent < needed {
        let (needed_bytes, lent_bytes) = (needed as u64, lent as u64);
        return Err(Error::Memory { what: "a check", needed_bytes, lent_bytes });
    }
    let whole = path.is_none();
    if whole && options.proof.holds() {
        let mut silent = |event: &Event<'_, L::Error>| {
            if !matches!(event, Event::Bad { .. }) {
                found(event);
            }
        };
        let report = check_part(repository, snapshot, path, options, memory, &mut silent)?;
        let has_all = repository.index.has_needed()?;
        if report.bad == 0 && has_all && options.proof.is_of(&repository.index) {
            return Ok(report);
        }
        // Something is wrong, and what is known of the packfiles does not say
        // where; or that is not what the index speaks of any more.
    }
    let options = Options { proof: Proof::default(), ..*options };
    check_part(repository, snapshot, path, &options, memory, found)
}

fn check_part<L: Lend>(
    repository: &mut Repository<'_, L>,
    snapshot: &Mac,
    path: Option<&[u8]>,
    options: &Options,
    memory: &mut [u8],
    found: Sink<'_, L::Error>,
) -> Result<Report, Error<L::Error>> {
    let chunk_bytes = repository.facts.chunking.max();
    let (entry, read) = memory.split_at_mut(ENTRY_BYTES_MAX);
    let mut memory = ReadMemory::new(read, chunk_bytes)?;
    let mut report = Report::default();
    let header = read_header(repository, snapshot, memory.chunk)
        .map(|header| (header.source.trees, header.source.summary));
    let (trees, summary) = match header {
        Ok(header) => header,
        Err(error) => {
            note(&mut report, None, Err(error), found)?;
            return Ok(report);
        }
    };
    let reader = ContentReader::new(repository.host.spool()?);
    let spools = (repository.host.spool()?, repository.host.spool()?);
    let mut check =
        Check { repository, trees, options, reader, report, found, walked: 0, planted: 0 };
    let mut walk = Walk::new(spools.0, spools.1, trees);
    let result = check.walk(path.unwrap_or(b"/"), &mut walk, entry, &mut memory);
    check.note(None, result)?;
    if path.is_none() {
        check.indexes(&summary, &mut memory)?;
    }
    Ok(check.report)
}

/// A check under way.
struct Check<'b, 'm, L: Lend> {
    repository: &'b mut Repository<'m, L>,
    trees: Trees,
    options: &'b Options,
    reader: ContentReader<HostSpool<L>>,
    report: Report,
    found: Sink<'b, L::Error>,
    /// Sum over the entries that the directories hold, whatever their order.
    walked: u128,
    /// The same over those of the VFS tree.
    planted: u128,
}

impl<L: Lend> Check<'_, '_, L> {
    /// Reports what went wrong. Returns whether nothing did.
    fn note(
        &mut self,
        path: Option<&[u8]>,
        result: Result<(), Error<L::Error>>,
    ) -> Result<bool, Error<L::Error>> {
        note(&mut self.report, path, result, self.found)
    }

    /// Walks the directories from `start` on.
    fn walk(
        &mut self,
        start: &[u8],
        walk: &mut Walk<HostSpool<L>>,
        entry_memory: &mut [u8],
        memory: &mut ReadMemory<'_>,
    ) -> Result<(), Error<L::Error>> {
        let (entry, mac) = entry_at(self.repository, &self.trees, start, memory)?;
        self.walked = fingerprint(start, &mac);
        let (is_directory, object) = (entry.is_directory(), entry.object);
        if !is_directory {
            let result = self.object(&object, memory);
            return self.entry_done(start, result);
        }
        walk.enter(self.repository, start, memory)?;
        let mut path = [0; PATH_BYTES_MAX];
        while let Some(step) = walk.next(entry_memory)? {
            if step.event == WalkEvent::Leave {
                continue;
            }
            if self.repository.host.cancelled() {
                return Err(Error::Cancelled);
            }
            let subject = Subject::Blob(ResourceKind::VFS_ENTRY, step.mac);
            let len = step.entry.path(&mut path).map_err(Error::damaged(subject))?;
            let path = &path[..len];
            self.walked = self.walked.wrapping_add(fingerprint(path, &step.mac));
            let matches = self.repository.mac(step.bytes) == step.mac;
            let result = if matches {
                self.content(&step.entry, memory)
            } else {
                Err(Error::damaged(subject)(FormatError::Mac))
            };
            self.entry_done(path, result)?;
            if step.entry.is_directory() {
                let entered = walk.enter(self.repository, path, memory);
                self.note(Some(path), entered)?;
            }
        }
        Ok(())
    }

    fn entry_done(
        &mut self,
        path: &[u8],
        result: Result<(), Error<L::Error>>,
    ) -> Result<(), Error<L::Error>> {
        if self.note(Some(path), result)? {
            self.report.good += 1;
            (self.found)(&Event::Good { path });
        }
        Ok(())
    }

    /// Checks the content of an entry.
    fn content(
        &mut self,
        entry: &Entry<'_>,
        memory: &mut ReadMemory<'_>,
    ) -> Result<(), Error<L::Error>> {
        if entry.is_regular() && !entry.object.is_zero() {
            self.object(&entry.object, memory)?;
        }
        Ok(())
    }

    /// Reads an object and its chunks, or sees that they are there.
    fn object(&mut self, object: &Mac, memory: &mut ReadMemory<'_>) -> Result<(), Error<L::Error>> {
        let kind = ResourceKind::OBJECT;
        if object.is_zero() {
            return Ok(());
        }
        if self.options.proof.covers(&mut self.repository.index, object)? {
            return Ok(self.repository.index.need(kind, object)?);
        }
        if self.repository.index.is_marked(kind, object)? {
            return Ok(());
        }
        self.reader.open(self.repository, object, memory.chunk)?;
        if self.options.fast {
            while let Some(place) = self.reader.next_place()? {
                self.exists(ResourceKind::CHUNK, &place.mac)?;
            }
        } else {
            while let Some(len) = self.reader.next(self.repository, memory.chunk)? {
                if self.repository.host.cancelled() {
                    return Err(Error::Cancelled);
                }
                self.report.bytes += len as u64;
                (self.found)(&Event::Read { bytes: len as u64 });
            }
        }
        self.repository.index.mark(kind, object)?;
        Ok(())
    }

    /// Sees that a blob is there, now or together with others.
    fn exists(&mut self, kind: ResourceKind, mac: &Mac) -> Result<(), Error<L::Error>> {
        if self.options.proof.holds() {
            return Ok(self.repository.index.need(kind, mac)?);
        }
        if self.repository.has(kind, mac)? {
            Ok(())
        } else {
            Err(Error::Missing(Subject::Blob(kind, *mac)))
        }
    }

    /// Checks the trees of the snapshot.
    fn indexes(
        &mut self,
        summary: &Summary,
        memory: &mut ReadMemory<'_>,
    ) -> Result<(), Error<L::Error>> {
        let trees = self.trees;
        let clean = self.report.bad == 0;
        let result = self.tree(TreeKinds::VFS, &trees.vfs, memory, Self::vfs_entry);
        let whole = self.note(None, result)?;
        if clean && whole && self.walked != self.planted {
            let subject = Subject::Blob(ResourceKind::VFS_BTREE, trees.vfs);
            let differs = FormatError::Field("list of entries: it is not that of its directories");
            self.note(None, Err(Error::damaged(subject)(differs)))?;
        }
        let result = self.tree(TreeKinds::XATTRS, &trees.xattrs, memory, Self::xattr_entry);
        self.note(None, result)?;
        self.errors(summary, memory)?;
        for root in [trees.content_type, trees.dirpack].into_iter().flatten() {
            let is_dirpack = Some(root) == trees.dirpack;
            let each = if is_dirpack { Self::dirpack } else { Self::typed };
            let result = self.tree(TreeKinds::INDEX, &root, memory, each);
            self.note(None, result)?;
        }
        if let Some(root) = trees.summary {
            let result = self.tree(TreeKinds::INDEX, &root, memory, Self::summary);
            self.note(None, result)?;
        }
        Ok(())
    }

    /// Checks the error tree, whose length must be what the summary says:
    /// stock refuses to sync the snapshot otherwise (trap 21).
    fn errors(
        &mut self,
        summary: &Summary,
        memory: &mut ReadMemory<'_>,
    ) -> Result<(), Error<L::Error>> {
        let trees = self.trees;
        let mut count = 0;
        let result =
            self.tree(TreeKinds::ERRORS, &trees.errors, memory, |check, key, mac, memory| {
                count += 1;
                let len =
                    check.repository.read_blob(ResourceKind::ERROR_ENTRY, mac, memory.entry)?;
                let damaged = Error::damaged(Subject::Blob(ResourceKind::ERROR_ENTRY, *mac));
                let entry = ErrorEntry::parse(&memory.entry[..len]).map_err(&damaged)?;
                if entry.path == key { Ok(()) } else { Err(damaged(FormatError::Field("path"))) }
            });
        let whole = self.note(None, result)?;
        if whole && count != summary.total_errors() {
            let subject = Subject::Blob(ResourceKind::ERROR_BTREE, trees.errors);
            let wrong = FormatError::Field("number of errors: the summary says another");
            self.note(None, Err(Error::damaged(subject)(wrong)))?;
        }
        Ok(())
    }

    /// Gives every key and value of a tree to `each`. What is wrong with one of
    /// them is reported; what is wrong with the tree ends it.
    fn tree(
        &mut self,
        kinds: TreeKinds,
        root: &Mac,
        memory: &mut ReadMemory<'_>,
        mut each: impl FnMut(&mut Self, &[u8], &Mac, &mut ReadMemory<'_>) -> Result<(), Error<L::Error>>,
    ) -> Result<(), Error<L::Error>> {
        let mut cursor = Cursor::seek(self.repository, kinds, root, None, memory.node)?;
        let mut key_memory = [0; PATH_BYTES_MAX + 512];
        loop {
            if self.repository.host.cancelled() {
                return Err(Error::Cancelled);
            }
            let next = cursor.next(self.repository, memory.node)?;
            let Some((found, mac)) = next else { return Ok(()) };
            let damaged = Error::damaged(Subject::Blob(kinds.root, *root));
            let key = key_memory
                .get_mut(..found.len())
                .ok_or(FormatError::Bound("key of a tree"))
                .map_err(damaged)?;
            key.copy_from_slice(found);
            // The cursor's node stays where it is: nobody else may have it.
            let mut rest = ReadMemory { chunk: memory.chunk, node: &mut [], entry: memory.entry };
            let result = each(self, key, &mac, &mut rest);
            let shown = if kinds == TreeKinds::INDEX { None } else { Some(&key[..]) };
            self.note(shown, result)?;
        }
    }

    fn vfs_entry(
        &mut self,
        key: &[u8],
        mac: &Mac,
        memory: &mut ReadMemory<'_>,
    ) -> Result<(), Error<L::Error>> {
        self.planted = self.planted.wrapping_add(fingerprint(key, mac));
        // With a proof the entry is what its MAC says: the same as in its
        // directory, where it was read, if the tree is that of the directories.
        if self.options.fast || self.options.proof.holds() {
            return self.exists(ResourceKind::VFS_ENTRY, mac);
        }
        // An entry that another snapshot has as well is not read again. That
        // its path is this key is seen when the trees are compared.
        if self.repository.index.is_marked(ResourceKind::VFS_ENTRY, mac)? {
            return Ok(());
        }
        let len = self.repository.read_blob(ResourceKind::VFS_ENTRY, mac, memory.entry)?;
        let damaged = Error::damaged(Subject::Blob(ResourceKind::VFS_ENTRY, *mac));
        let entry = Entry::parse(&memory.entry[..len]).map_err(&damaged)?;
        let mut path = [0; PATH_BYTES_MAX];
        let len = entry.path(&mut path).map_err(&damaged)?;
        if path[..len] != *key {
            return Err(damaged(FormatError::Field("path")));
        }
        self.repository.index.mark(ResourceKind::VFS_ENTRY, mac)?;
        Ok(())
    }

    fn xattr_entry(
        &mut self,
        _key: &[u8],
        mac: &Mac,
        memory: &mut ReadMemory<'_>,
    ) -> Result<(), Error<L::Error>> {
        let len = self.repository.read_blob(ResourceKind::XATTR_ENTRY, mac, memory.entry)?;
        let damaged = Error::damaged(Subject::Blob(ResourceKind::XATTR_ENTRY, *mac));
        let object = XattrEntry::parse(&memory.entry[..len]).map_err(damaged)?.object;
        self.object(&object, memory)
    }

    fn typed(
        &mut self,
        _key: &[u8],
        mac: &Mac,
        _memory: &mut ReadMemory<'_>,
    ) -> Result<(), Error<L::Error>> {
        self.exists(ResourceKind::VFS_ENTRY, mac)
    }

    fn dirpack(
        &mut self,
        _key: &[u8],
        mac: &Mac,
        _memory: &mut ReadMemory<'_>,
    ) -> Result<(), Error<L::Error>> {
        self.exists(ResourceKind::OBJECT, mac)
    }

    fn summary(
        &mut self,
        _key: &[u8],
        mac: &Mac,
        memory: &mut ReadMemory<'_>,
    ) -> Result<(), Error<L::Error>> {
        if self.options.fast || self.options.proof.holds() {
            return self.exists(ResourceKind::VFS_SUMMARY, mac);
        }
        let len = self.repository.read_blob(ResourceKind::VFS_SUMMARY, mac, memory.entry)?;
        let subject = Subject::Blob(ResourceKind::VFS_SUMMARY, *mac);
        Summary::parse(&memory.entry[..len]).map(drop).map_err(Error::damaged(subject))
    }
}

/// A number for an entry at a place. The sum over many is equal for equal
/// sets, and different for others but by a chance of one in 2^128.
fn fingerprint(path: &[u8], mac: &Mac) -> u128 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&mac.0);
    hasher.update(path);
    let hash = hasher.finalize();
    let mut low = [0; 16];
    low.copy_from_slice(&hash.as_bytes()[..16]);
    u128::from_le_bytes(low)
}
