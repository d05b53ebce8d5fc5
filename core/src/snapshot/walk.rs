//! [`Walk`]: the entries of a snapshot, depth first, and [`resolve`]: the
//! entry at a path.
//!
//! The entries of a directory are copied to a spool when it is entered, and
//! stay there while its directories are walked: the depth of the tree and the
//! length of its directories cost no memory.
//!
//! ```text
//! spool:  | region of / | region of /a | region of /a/b |
//! region: | start and cursor of the region below | frame of the directory | path | frames … |
//! ```

use super::ReadMemory;
use crate::btree::{Cursor, TreeKinds, lookup};
use crate::content::ContentReader;
use crate::error::{Error, FormatError, Subject};
use crate::limits::PATH_BYTES_MAX;
use crate::mac::Mac;
use crate::order::{byte_order, path_order};
use crate::repository::{Lend, Repository};
use crate::resource::ResourceKind;
use crate::spool::Spool;
use crate::wire::dirpack::{FRAME_HEAD_BYTES, Frame, frame_head};
use crate::wire::entry::Entry;
use crate::wire::header::Trees;
use crate::wire::{mode, path};

/// Length of what stands before the path in a region, in bytes.
const REGION_HEAD_BYTES: usize = 28;

/// No frame: the first region has no directory below it.
const NO_FRAME: u64 = u64::MAX;

/// Symbolic links that are followed for one path.
const LINKS_MAX: usize = 40;

/// What a step of a walk comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// An entry of the current directory.
    Entry,
    /// The end of the directory: the walk goes back to the one above it. The
    /// entry is that of the directory; there is none for the first one.
    Leave,
}

/// A step of a walk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step<'b> {
    /// What it is.
    pub event: Event,
    /// The entry.
    pub entry: Entry<'b>,
    /// The entry as it is stored.
    pub bytes: &'b [u8],
    /// Its MAC.
    pub mac: Mac,
}

/// Walks the entries of a snapshot.
pub struct Walk<P: Spool> {
    spool: P,
    reader: ContentReader<P>,
    trees: Trees,
    /// Start of the current region.
    region_at: u64,
    /// Next frame in it.
    cursor: u64,
    /// The frame that was given last.
    frame_at: u64,
    depth: u64,
}

impl<P: Spool> core::fmt::Debug for Walk<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Walk").field("depth", &self.depth).finish_non_exhaustive()
    }
}

impl<P: Spool> Walk<P> {
    /// A walk over the entries of `trees`, which is in no directory yet.
    pub fn new(spool: P, records: P, trees: Trees) -> Self {
        let reader = ContentReader::new(records);
        Self { spool, reader, trees, region_at: 0, cursor: 0, frame_at: NO_FRAME, depth: 0 }
    }

    /// Goes into the directory at `path`: the one that was given last, or any
    /// one to begin with.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::Damaged`], and the host's. The walk is then
    /// in a directory without entries.
    pub fn enter<L: Lend>(
        &mut self,
        repository: &mut Repository<'_, L>,
        directory: &[u8],
        memory: &mut ReadMemory<'_>,
    ) -> Result<(), Error<L::Error>>
    where
        P: Spool<Error = L::Error>,
    {
        let start = self.spool.len();
        let mut head = [0; REGION_HEAD_BYTES];
        head[0..8].copy_from_slice(&self.region_at.to_le_bytes());
        head[8..16].copy_from_slice(&self.cursor.to_le_bytes());
        head[16..24].copy_from_slice(&self.frame_at.to_le_bytes());
        let path_bytes = u32::try_from(directory.len()).unwrap_or(u32::MAX);
        head[24..28].copy_from_slice(&path_bytes.to_le_bytes());
        self.spool.append(&head)?;
        self.spool.append(directory)?;
        (self.region_at, self.cursor) = (start, self.spool.len());
        self.depth += 1;
        let filled = self.fill(repository, directory, memory);
        if filled.is_err() {
            // What cannot be read whole is empty, and the walk can go on.
            self.spool.truncate(self.cursor)?;
        }
        filled
    }

    /// Copies the entries of a directory to the spool.
    fn fill<L: Lend>(
        &mut self,
        repository: &mut Repository<'_, L>,
        directory: &[u8],
        memory: &mut ReadMemory<'_>,
    ) -> Result<(), Error<L::Error>>
    where
        P: Spool<Error = L::Error>,
    {
        if let Some(root) = self.trees.dirpack {
            let kinds = TreeKinds::INDEX;
            let found = lookup(repository, kinds, &root, directory, byte_order, memory.node)?;
            if let Some(object) = found {
                self.reader.open(repository, &object, memory.chunk)?;
                while let Some(len) = self.reader.next(repository, memory.chunk)? {
                    self.spool.append(&memory.chunk[..len])?;
                }
                return Ok(());
            }
        }
        self.list_tree(repository, directory, memory)
    }

    /// Copies the entries of a directory that has no dirpack, from the VFS
    /// tree: one blob read for each.
    fn list_tree<L: Lend>(
        &mut self,
        repository: &mut Repository<'_, L>,
        directory: &[u8],
        memory: &mut ReadMemory<'_>,
    ) -> Result<(), Error<L::Error>>
    where
        P: Spool<Error = L::Error>,
    {
        let mut first = [0; PATH_BYTES_MAX + 1];
        let too_long = Error::damaged(Subject::Blob(ResourceKind::VFS_NODE, Mac::ZERO));
        let mut len = path::join(directory, b"", &mut first).map_err(too_long)?;
        if len > 1 {
            first[len] = b'/';
            len += 1;
        }
        let prefix = &first[..len];
        let kinds = TreeKinds::VFS;
        let seek = Some((prefix, path_order as fn(&[u8], &[u8]) -> _));
        let mut cursor = Cursor::seek(repository, kinds, &self.trees.vfs, seek, memory.node)?;
        while let Some((key, mac)) = cursor.next(repository, memory.node)? {
            let is_child = key.strip_prefix(prefix).is_some_and(|name| !name.contains(&b'/'));
            if key == b"/" {
                continue;
            }
            if !is_child {
                break;
            }
            let len = repository.read_blob(ResourceKind::VFS_ENTRY, &mac, memory.entry)?;
            let damaged = Error::damaged(Subject::Blob(ResourceKind::VFS_ENTRY, mac));
            let entry = Entry::parse(&memory.entry[..len]).map_err(damaged)?;
            let is_directory = mode::is_directory(entry.info.mode);
            let entry_bytes = u32::try_from(len).unwrap_or(u32::MAX);
            self.spool.append(&frame_head(is_directory, entry_bytes))?;
            self.spool.append(&memory.entry[..len])?;
            self.spool.append(&mac.0)?;
        }
        Ok(())
    }

    /// The next entry of the current directory, or the end of it; nothing
    /// after the end of the first one. `into` takes the entry.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] for an entry that is none, or does not belong in
    /// this directory, and the host's.
    pub fn next<'b>(&mut self, into: &'b mut [u8]) -> Result<Option<Step<'b>>, Error<P::Error>> {
        if self.depth == 0 {
            return Ok(None);
        }
        if self.cursor < self.spool.len() {
            self.frame_at = self.cursor;
            let (length, step) = self.frame(self.cursor, Event::Entry, into)?;
            self.cursor += length;
            return Ok(Some(step));
        }
        let mut head = [0; REGION_HEAD_BYTES];
        self.spool.read_at(self.region_at, &mut head)?;
        let number = |at: usize| u64::from_le_bytes(crate::wire::field(&head, at..at + 8));
        self.spool.truncate(self.region_at)?;
        (self.region_at, self.cursor) = (number(0), number(8));
        self.depth -= 1;
        self.frame_at = number(16);
        if self.depth == 0 {
            return Ok(None);
        }
        let (_, step) = self.frame(self.frame_at, Event::Leave, into)?;
        Ok(Some(step))
    }

    /// Reads the frame at `at`, of the current region.
    fn frame<'b>(
        &mut self,
        at: u64,
        event: Event,
        into: &'b mut [u8],
    ) -> Result<(u64, Step<'b>), Error<P::Error>> {
        let subject = Subject::Blob(ResourceKind::VFS_ENTRY, Mac::ZERO);
        let damaged = Error::damaged(subject);
        let left = self.spool.len().saturating_sub(at);
        if left < FRAME_HEAD_BYTES as u64 {
            return Err(damaged(FormatError::Truncated));
        }
        let mut head = [0; FRAME_HEAD_BYTES];
        self.spool.read_at(at, &mut head)?;
        let length = Frame::length_bytes(&head).map_err(&damaged)?.unwrap_or(0);
        if left < length as u64 {
            return Err(damaged(FormatError::Truncated));
        }
        let lent_bytes = into.len();
        let bytes = into
            .get_mut(..length - FRAME_HEAD_BYTES)
            .ok_or(FormatError::Scratch { needed_bytes: length, lent_bytes })
            .map_err(&damaged)?;
        self.spool.read_at(at + FRAME_HEAD_BYTES as u64, bytes)?;
        let (bytes, mac) = bytes.split_at(length - FRAME_HEAD_BYTES - 32);
        let mac = Mac::from_slice(mac).unwrap_or_default();
        let damaged = Error::damaged(Subject::Blob(ResourceKind::VFS_ENTRY, mac));
        let entry = Entry::parse(bytes).map_err(&damaged)?;
        let belongs = path::is_component(entry.info.name)
            && path::is_clean(entry.parent_path)
            && self.is_current(entry.parent_path)?;
        if belongs {
            Ok((length as u64, Step { event, entry, bytes, mac }))
        } else {
            Err(damaged(FormatError::Field("place in its directory")))
        }
    }

    /// Whether `directory` is the current one.
    fn is_current(&mut self, directory: &[u8]) -> Result<bool, P::Error> {
        let mut head = [0; REGION_HEAD_BYTES];
        self.spool.read_at(self.region_at, &mut head)?;
        let length = u32::from_le_bytes(crate::wire::field(&head, 24..28));
        if usize::try_from(length) != Ok(directory.len()) {
            return Ok(false);
        }
        let mut at = self.region_at + REGION_HEAD_BYTES as u64;
        let mut piece = [0; 256];
        for wanted in directory.chunks(piece.len()) {
            let found = &mut piece[..wanted.len()];
            self.spool.read_at(at, found)?;
            if found != wanted {
                return Ok(false);
            }
            at += wanted.len() as u64;
        }
        Ok(true)
    }

    /// Directories that the walk is in.
    pub fn depth(&self) -> u64 {
        self.depth
    }
}

/// Reads the entry at a path into `memory.entry`: absolute and clean, and no
/// symbolic link is followed.
///
/// # Errors
///
/// [`Error::NoSuchPath`], [`Error::Missing`], [`Error::Damaged`], and the
/// host's.
pub fn entry_at<'b, L: Lend>(
    repository: &mut Repository<'_, L>,
    trees: &Trees,
    path: &[u8],
    memory: &'b mut ReadMemory<'_>,
) -> Result<(Entry<'b>, Mac), Error<L::Error>> {
    let kinds = TreeKinds::VFS;
    let found = lookup(repository, kinds, &trees.vfs, path, path_order, memory.node)?;
    let mac = found.ok_or(Error::NoSuchPath)?;
    let len = repository.read_blob(ResourceKind::VFS_ENTRY, &mac, memory.entry)?;
    let damaged = Error::damaged(Subject::Blob(ResourceKind::VFS_ENTRY, mac));
    let entry = Entry::parse(&memory.entry[..len]).map_err(&damaged)?;
    let mut own = [0; PATH_BYTES_MAX];
    let len = entry.path(&mut own).map_err(&damaged)?;
    if own[..len] == *path { Ok((entry, mac)) } else { Err(damaged(FormatError::Field("path"))) }
}

/// Finds what `path` leads to, following symbolic links in it and at its end,
/// and writes that path to `out`. Returns its length.
///
/// # Errors
///
/// [`Error::NoSuchPath`], also for links that go in a circle or out of the
/// snapshot; [`Error::Missing`], [`Error::Damaged`], and the host's.
pub fn resolve<L: Lend>(
    repository: &mut Repository<'_, L>,
    trees: &Trees,
    path: &[u8],
    memory: &mut ReadMemory<'_>,
    out: &mut [u8; PATH_BYTES_MAX],
) -> Result<usize, Error<L::Error>> {
    let mut rest = heapless::Vec::<u8, PATH_BYTES_MAX>::new();
    rest.extend_from_slice(path).map_err(|_| Error::NoSuchPath)?;
    let (mut len, mut links) = (1, 0);
    out[0] = b'/';
    loop {
        let text = rest.as_slice();
        let from = text.iter().position(|byte| *byte != b'/').unwrap_or(text.len());
        let text = &text[from..];
        if text.is_empty() {
            // The root needs to be there, too.
            entry_at(repository, trees, &out[..len], memory)?;
            return Ok(len);
        }
        let end = text.iter().position(|byte| *byte == b'/').unwrap_or(text.len());
        let (name, after) = text.split_at(end);
        match name {
            b"." => {}
            b".." => len = path::split(&out[..len]).0.len(),
            _ => {
                let mut joined = [0; PATH_BYTES_MAX];
                let joined_len =
                    path::join(&out[..len], name, &mut joined).map_err(|_| Error::NoSuchPath)?;
                let (entry, _) = entry_at(repository, trees, &joined[..joined_len], memory)?;
                if entry.info.mode & mode::SYMLINK == 0 {
                    len = joined_len;
                    out[..len].copy_from_slice(&joined[..len]);
                } else {
                    links += 1;
                    let mut next = heapless::Vec::<u8, PATH_BYTES_MAX>::new();
                    let fits = next.extend_from_slice(entry.link_target).is_ok()
                        && next.push(b'/').is_ok()
                        && next.extend_from_slice(after).is_ok();
                    if !fits || links > LINKS_MAX {
                        return Err(Error::NoSuchPath);
                    }
                    if entry.link_target.starts_with(b"/") {
                        len = 1;
                    }
                    rest = next;
                    continue;
                }
            }
        }
        let kept = after.len();
        let total = rest.len();
        rest.copy_within(total - kept.., 0);
        rest.truncate(kept);
    }
}
