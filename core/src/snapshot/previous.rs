//! [`PreviousDirectory`]: what a directory held in the previous snapshot,
//! merged with what it holds now.

use crate::btree::{TreeKinds, lookup};
use crate::content::ContentReader;
use crate::error::Error;
use crate::importer::Importer;
use crate::index::Index;
use crate::mac::Mac;
use crate::order::byte_order;
use crate::repository::{Lend, Repository};
use crate::spool::Spool;
use crate::time::Timestamp;
use crate::wire::dirpack::{FRAME_HEAD_BYTES, Frame};
use crate::wire::entry::Entry;
use crate::wire::header::Trees;

use super::read_header;

/// The newest snapshot of the same place, if there is one: its time and trees.
///
/// # Errors
///
/// The host's. A snapshot that cannot be read is none.
pub(super) fn newest_like<L: Lend, I: Importer>(
    repository: &mut Repository<'_, L>,
    importer: &I,
    memory: &mut [u8],
) -> Result<Option<(Timestamp, Trees)>, Error<L::Error>> {
    let mut newest: Option<(Timestamp, Trees)> = None;
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
        if is_like && newest.is_none_or(|(when, _)| header.timestamp >= when) {
            newest = Some((header.timestamp, source.trees));
        }
    }
    Ok(newest)
}

/// The entries of one directory of the previous snapshot, in the order of
/// their names.
pub(super) struct PreviousDirectory<'m, P: Spool> {
    trees: Option<Trees>,
    reader: ContentReader<P>,
    /// The frames of the directory.
    frames: P,
    at: u64,
    /// The frame that was read last.
    memory: &'m mut [u8],
    /// Length of its entry; 0 when there is none.
    entry_bytes: usize,
}

impl<'m, P: Spool> PreviousDirectory<'m, P> {
    pub(super) fn new(trees: Option<Trees>, records: P, frames: P, memory: &'m mut [u8]) -> Self {
        let reader = ContentReader::new(records);
        Self { trees, reader, frames, at: 0, memory, entry_bytes: 0 }
    }

    /// Goes to another directory. What cannot be read was not there: its files
    /// are then read again.
    pub(super) fn load<L: Lend>(
        &mut self,
        repository: &mut Repository<'_, L>,
        directory: &[u8],
        chunk: &mut [u8],
        node: &mut [u8],
    ) -> Result<(), Error<L::Error>>
    where
        P: Spool<Error = L::Error>,
    {
        self.frames.truncate(0)?;
        (self.at, self.entry_bytes) = (0, 0);
        match self.copy(repository, directory, chunk, node) {
            Err(Error::Missing(_) | Error::Damaged { .. }) => Ok(self.frames.truncate(0)?),
            other => other,
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
        let Some(root) = self.trees.and_then(|trees| trees.dirpack) else { return Ok(()) };
        let kinds = TreeKinds::INDEX;
        let Some(object) = lookup(repository, kinds, &root, directory, byte_order, node)? else {
            return Ok(());
        };
        self.reader.open(repository, &object, chunk)?;
        while let Some(len) = self.reader.next(repository, chunk)? {
            self.frames.append(&chunk[..len])?;
        }
        Ok(())
    }

    /// Goes forward to `name`, and says whether the directory had it. Names
    /// must be asked for in their order.
    pub(super) fn find(&mut self, name: &[u8]) -> Result<bool, P::Error> {
        loop {
            if let Some(entry) = self.entry() {
                match entry.info.name.cmp(name) {
                    core::cmp::Ordering::Less => {}
                    order => return Ok(order.is_eq()),
                }
            }
            if !self.advance()? {
                return Ok(false);
            }
        }
    }

    /// Reads the next frame; a frame that is none ends the directory.
    fn advance(&mut self) -> Result<bool, P::Error> {
        self.entry_bytes = 0;
        let left = self.frames.len() - self.at;
        let mut head = [0; FRAME_HEAD_BYTES];
        if left < FRAME_HEAD_BYTES as u64 {
            return Ok(false);
        }
        self.frames.read_at(self.at, &mut head)?;
        let Ok(Some(length)) = Frame::length_bytes(&head) else { return Ok(false) };
        let entry_bytes = length - FRAME_HEAD_BYTES - 32;
        if left < length as u64 || entry_bytes > self.memory.len() {
            return Ok(false);
        }
        self.frames.read_at(self.at + FRAME_HEAD_BYTES as u64, &mut self.memory[..entry_bytes])?;
        self.at += length as u64;
        self.entry_bytes = entry_bytes;
        Ok(true)
    }

    /// The entry that was found last.
    pub(super) fn entry(&self) -> Option<Entry<'_>> {
        if self.entry_bytes == 0 {
            return None;
        }
        Entry::parse(&self.memory[..self.entry_bytes]).ok()
    }
}
