//! [`PreviousDirectory`]: what a directory held in the previous snapshot,
//! merged with what it holds now.

use core::cmp::Ordering;

use crate::btree::{TreeKinds, lookup};
use crate::content::ContentReader;
use crate::error::Error;
use crate::importer::Importer;
use crate::index::Index;
use crate::mac::{MAC_BYTES, Mac};
use crate::order::byte_order;
use crate::repository::{Lend, Repository};
use crate::spool::Spool;
use crate::time::Timestamp;
use crate::wire::dirpack::{FRAME_HEAD_BYTES, Frame};
use crate::wire::entry::Entry;
use crate::wire::header::Trees;
use crate::wire::summary::Summary;

use super::read_header;

/// The newest snapshot of a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newest {
    /// When it was taken.
    pub(super) timestamp: Timestamp,
    pub(super) trees: Trees,
    /// Statistics of all of it.
    pub(super) summary: Summary,
}

/// The newest snapshot of the same place, if there is one.
///
/// # Errors
///
/// The host's. A snapshot that cannot be read is none.
pub(super) fn newest_like<L: Lend, I: Importer>(
    repository: &mut Repository<'_, L>,
    importer: &I,
    memory: &mut [u8],
) -> Result<Option<Newest>, Error<L::Error>> {
    let mut newest: Option<Newest> = None;
    let mut after: Option<Mac> = None;
    while let Some(snapshot) = repository.index.next_snapshot(after.as_ref())? {
        after = Some(snapshot);
        let header = match read_header(repository, &snapshot, memory) {
            Ok(header) => header,
            Err(error @ Error::Host(_)) => return Err(error),
            Err(_) => continue,
        };
        let source = &header.source;
        let is_like = source.kind == importer.kind().as_bytes()
            && source.origin == importer.origin().as_bytes()
            && source.directory == importer.root();
        let timestamp = header.timestamp;
        if is_like && newest.is_none_or(|newest| timestamp >= newest.timestamp) {
            let (trees, summary) = (source.trees, source.summary);
            newest = Some(Newest { timestamp, trees, summary });
        }
    }
    Ok(newest)
}

/// The entries of one directory of the previous snapshot, in the order of
/// their names.
pub(super) struct PreviousDirectory<'m, P: Spool> {
    newest: Option<Newest>,
    reader: ContentReader<P>,
    /// The object that holds the frames.
    object: Option<Mac>,
    /// The frames of the directory.
    frames: P,
    at: u64,
    /// The entry that was read last, and its MAC.
    memory: &'m mut [u8],
    /// Where its frame starts.
    frame_at: u64,
    /// Length of the entry; 0 when there is none.
    entry_bytes: usize,
    /// The frames before this one were all taken over.
    taken: u64,
    /// Entries that were passed over, because they are gone.
    gone: u64,
    /// Whether the entry that was read last is the one that was asked for.
    is_found: bool,
}

impl<'m, P: Spool> PreviousDirectory<'m, P> {
    pub(super) fn new(newest: Option<Newest>, records: P, frames: P, memory: &'m mut [u8]) -> Self {
        let reader = ContentReader::new(records);
        Self {
            newest,
            reader,
            object: None,
            frames,
            at: 0,
            memory,
            frame_at: 0,
            entry_bytes: 0,
            taken: 0,
            gone: 0,
            is_found: false,
        }
    }

    /// The previous snapshot.
    pub(super) fn newest(&self) -> Option<&Newest> {
        self.newest.as_ref()
    }

    /// Goes to another directory, and says whether the previous snapshot has it.
    /// What cannot be read was not there: its files are then read again.
    pub(super) fn load<L: Lend>(
        &mut self,
        repository: &mut Repository<'_, L>,
        directory: &[u8],
        chunk: &mut [u8],
        node: &mut [u8],
    ) -> Result<bool, Error<L::Error>>
    where
        P: Spool<Error = L::Error>,
    {
        self.frames.truncate(0)?;
        (self.at, self.frame_at, self.entry_bytes, self.taken) = (0, 0, 0, 0);
        (self.object, self.gone, self.is_found) = (None, 0, false);
        match self.copy(repository, directory, chunk, node) {
            Err(Error::Missing(_) | Error::Damaged { .. }) => {
                self.object = None;
                self.frames.truncate(0)?;
                Ok(false)
            }
            Err(error) => Err(error),
            Ok(()) => Ok(self.object.is_some()),
        }
    }

    fn copy<L: Lend>(
        &mut self,
        repository: &mut Repository<'_, L>,
        directory: &[u8],
        chunk: &mut [u8],
        node: &mut [u8],
    ) -> Result<(), Error<L::Error>>
    where
        P: Spool<Error = L::Error>,
    {
        let Some(root) = self.newest.and_then(|newest| newest.trees.dirpack) else { return Ok(()) };
        let kinds = TreeKinds::INDEX;
        let Some(object) = lookup(repository, kinds, &root, directory, byte_order, node)? else {
            return Ok(());
        };
        self.reader.open(repository, &object, chunk)?;
        while let Some(len) = self.reader.next(repository, chunk)? {
            self.frames.append(&chunk[..len])?;
        }
        self.object = Some(object);
        Ok(())
    }

    /// Goes forward to `name`, and says whether the directory had it. Names
    /// must be asked for in their order.
    pub(super) fn find(&mut self, name: &[u8]) -> Result<bool, P::Error> {
        self.pass_over()?;
        while let Ok(held) = Entry::name(&self.memory[..self.entry_bytes]) {
            match held.cmp(name) {
                Ordering::Less => {
                    self.gone += 1;
                    self.advance()?;
                }
                order => {
                    self.is_found = order.is_eq();
                    return Ok(self.is_found);
                }
            }
        }
        Ok(false)
    }

    /// Goes on behind the entry that was found last.
    fn pass_over(&mut self) -> Result<(), P::Error> {
        if self.at == 0 || core::mem::take(&mut self.is_found) {
            self.advance()?;
        }
        Ok(())
    }

    /// Whether every entry that the directory had was found. To be asked once,
    /// at its end.
    pub(super) fn has_all(&mut self) -> Result<bool, P::Error> {
        self.pass_over()?;
        Ok(self.gone == 0 && self.entry_bytes == 0 && self.at == self.frames.len())
    }

    /// Whether the entry that was found last is that of a directory.
    pub(super) fn is_directory(&self) -> bool {
        self.entry().is_some_and(|(entry, _)| entry.is_directory())
    }

    /// The entry of that name, for a look ahead of [`find`](Self::find), which it
    /// leaves where it is. `at` is where the look begins, 0 for the first, and goes
    /// forward to that name; `memory` takes the entry.
    pub(super) fn peek<'e>(
        &mut self,
        at: &mut u64,
        name: &[u8],
        memory: &'e mut [u8],
    ) -> Result<Option<Entry<'e>>, P::Error> {
        while let Some(body_bytes) = self.read_frame(*at, memory)? {
            let Ok(held) = Entry::name(&memory[..body_bytes - MAC_BYTES]) else { break };
            match held.cmp(name) {
                Ordering::Less => *at += (FRAME_HEAD_BYTES + body_bytes) as u64,
                Ordering::Greater => break,
                Ordering::Equal => {
                    return Ok(Entry::parse(&memory[..body_bytes - MAC_BYTES]).ok());
                }
            }
        }
        Ok(None)
    }

    /// Reads the entry and the MAC of the frame at `at` into `memory`, and returns
    /// their length; nothing where there is no frame that fits.
    fn read_frame(&mut self, at: u64, memory: &mut [u8]) -> Result<Option<usize>, P::Error> {
        let left = self.frames.len().saturating_sub(at);
        let mut head = [0; FRAME_HEAD_BYTES];
        if left < FRAME_HEAD_BYTES as u64 {
            return Ok(None);
        }
        self.frames.read_at(at, &mut head)?;
        let Ok(Some(length)) = Frame::length_bytes(&head) else { return Ok(None) };
        let body_bytes = length - FRAME_HEAD_BYTES;
        if left < length as u64 || body_bytes > memory.len() {
            return Ok(None);
        }
        self.frames.read_at(at + FRAME_HEAD_BYTES as u64, &mut memory[..body_bytes])?;
        Ok(Some(body_bytes))
    }

    /// Reads the next frame; a frame that is none ends the directory.
    fn advance(&mut self) -> Result<bool, P::Error> {
        self.entry_bytes = 0;
        // An entry of the largest size does not fit with its MAC: it is stored
        // anew, as if it were not there.
        let memory = core::mem::take(&mut self.memory);
        let body_bytes = self.read_frame(self.at, memory);
        self.memory = memory;
        let Some(body_bytes) = body_bytes? else { return Ok(false) };
        self.frame_at = self.at;
        self.at += (FRAME_HEAD_BYTES + body_bytes) as u64;
        self.entry_bytes = body_bytes - MAC_BYTES;
        Ok(true)
    }

    /// The entry that was found last, and its MAC.
    pub(super) fn entry(&self) -> Option<(Entry<'_>, Mac)> {
        if self.entry_bytes == 0 {
            return None;
        }
        let (entry, mac) = self.memory.split_at(self.entry_bytes);
        let mac = Mac::from_slice(&mac[..MAC_BYTES])?;
        Some((Entry::parse(entry).ok()?, mac))
    }

    /// Takes over the frame that was found last, if all before it were. Returns
    /// whether it is so.
    pub(super) fn take_in_order(&mut self) -> bool {
        let in_order = self.frame_at == self.taken;
        if in_order {
            self.taken = self.at;
        }
        in_order
    }

    /// The object of the frames, if all were taken over.
    pub(super) fn object_of_same(&self) -> Option<Mac> {
        self.object.filter(|_| self.taken == self.frames.len())
    }

    /// Appends the frames that were taken over to `frames`, by way of `space`.
    pub(super) fn copy_taken(&mut self, space: &mut [u8], frames: &mut P) -> Result<(), P::Error> {
        let mut at = 0;
        while at < self.taken {
            let step = usize::try_from(self.taken - at).unwrap_or(usize::MAX).min(space.len());
            self.frames.read_at(at, &mut space[..step])?;
            frames.append(&space[..step])?;
            at += step as u64;
        }
        Ok(())
    }

    /// Appends the frame that was found last to `frames`.
    pub(super) fn copy_frame(&mut self, frames: &mut P) -> Result<(), P::Error> {
        let mut head = [0; FRAME_HEAD_BYTES];
        self.frames.read_at(self.frame_at, &mut head)?;
        frames.append(&head)?;
        frames.append(&self.memory[..self.entry_bytes + MAC_BYTES])
    }
}
