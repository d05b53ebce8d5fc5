//! [`Ahead`]: tells an importer which files of a directory will be read soon.
//!
//! The children of the directory lie sorted in a spool, and are gone through twice:
//! once to be stored, and some files ahead of that to see which of them have changed
//! since the previous snapshot. How far ahead is the importer's to say. What is told is
//! a guess that costs a reading too many if it is wrong, and nothing else.

use heapless::Deque;

use super::entry::{file_info, may_hide_a_change};
use super::{EngineSorter, Space};
use crate::error::Error;
use crate::importer::{FILES_AHEAD_MAX, HINT_BYTES_MAX, Importer};
use crate::limits::PATH_BYTES_MAX;
use crate::repository::Lend;
use crate::snapshot::previous::PreviousDirectory;
use crate::spool::Spool;
use crate::wire::{mode, path};

/// Children that are looked at between two that are stored, at most: a look at all
/// of a large directory would keep the lock waiting.
const LOOKS_MAX: usize = 256;

/// Bytes of a child before its name and hint: a length of each.
const HEAD_BYTES: usize = 4;

/// A child, and memory for it.
pub(super) struct Record {
    bytes: [u8; PATH_BYTES_MAX + HINT_BYTES_MAX],
    name_bytes: usize,
    hint_bytes: usize,
}

impl Default for Record {
    fn default() -> Self {
        Self { bytes: [0; PATH_BYTES_MAX + HINT_BYTES_MAX], name_bytes: 0, hint_bytes: 0 }
    }
}

impl Record {
    pub(super) fn name(&self) -> &[u8] {
        &self.bytes[..self.name_bytes]
    }

    pub(super) fn hint(&self) -> &[u8] {
        &self.bytes[self.name_bytes..][..self.hint_bytes]
    }
}

/// Where storing or looking is.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    /// Where the next child lies in the spool.
    at: u64,
    /// Its number.
    number: u64,
}

impl Cursor {
    /// Reads the next child, and says whether there was one.
    fn read<P: Spool>(&mut self, children: &mut P, into: &mut Record) -> Result<bool, P::Error> {
        if self.at >= children.len() {
            return Ok(false);
        }
        let mut head = [0; HEAD_BYTES];
        children.read_at(self.at, &mut head)?;
        into.name_bytes = usize::from(u16::from_le_bytes([head[0], head[1]])).min(PATH_BYTES_MAX);
        into.hint_bytes = usize::from(u16::from_le_bytes([head[2], head[3]])).min(HINT_BYTES_MAX);
        let length = into.name_bytes + into.hint_bytes;
        children.read_at(self.at + HEAD_BYTES as u64, &mut into.bytes[..length])?;
        self.at += (HEAD_BYTES + length) as u64;
        self.number += 1;
        Ok(true)
    }
}

/// The children of one directory.
pub(super) struct Ahead<P> {
    children: P,
    /// Of the next child to be stored, and to be looked at.
    stored: Cursor,
    looked: Cursor,
    /// Where the look is in the previous snapshot's directory.
    previous_at: u64,
    /// Numbers of the files that were told, and are not stored yet.
    told: Deque<u64, FILES_AHEAD_MAX>,
}

impl<P: Spool> Ahead<P> {
    pub(super) fn new(children: P) -> Self {
        let (stored, looked) = Default::default();
        Self { children, stored, looked, previous_at: 0, told: Deque::new() }
    }

    /// Takes the children of another directory.
    pub(super) fn fill<L: Lend<Error = P::Error>>(
        &mut self,
        names: &mut EngineSorter<'_, L>,
    ) -> Result<(), Error<P::Error>> {
        self.children.truncate(0)?;
        (self.stored, self.looked, self.previous_at) = Default::default();
        self.told.clear();
        let mut sorted = names.finish()?;
        while let Some((name, hint)) = sorted.next()? {
            // What is longer is no name; what is left of it is none either.
            let name = &name[..name.len().min(PATH_BYTES_MAX)];
            let hint = &hint[..hint.len().min(HINT_BYTES_MAX)];
            for part in [name, hint] {
                let length = u16::try_from(part.len()).unwrap_or(0);
                self.children.append(&length.to_le_bytes())?;
            }
            self.children.append(name)?;
            self.children.append(hint)?;
        }
        Ok(())
    }

    /// Reads the next child to be stored, and says whether there was one.
    pub(super) fn next(&mut self, into: &mut Record) -> Result<bool, P::Error> {
        self.stored.read(&mut self.children, into)
    }

    /// Tells the importer of files that are to come, as many as it wants.
    /// `space` takes a child and `entry` what the previous snapshot has of it.
    pub(super) fn look<I: Importer>(
        &mut self,
        directory: &[u8],
        importer: &mut I,
        previous: &mut PreviousDirectory<'_, P>,
        (record, space): (&mut Record, &mut Space),
        entry: &mut [u8],
    ) -> Result<(), P::Error> {
        while self.told.front().is_some_and(|number| *number <= self.stored.number) {
            self.told.pop_front();
        }
        let wanted = importer.files_ahead().min(FILES_AHEAD_MAX);
        for _ in 0..LOOKS_MAX {
            if self.told.len() >= wanted || !self.looked.read(&mut self.children, record)? {
                break;
            }
            let Ok(len) = path::join(directory, record.name(), &mut space.path) else { continue };
            let (path, attributes) = (&space.path[..len], &mut space.attributes);
            if !importer.foresee(path, record.hint(), attributes) {
                continue;
            }
            let info = file_info(record.name(), attributes);
            if !mode::is_regular(info.mode) || self.looked.number <= self.stored.number {
                continue;
            }
            let before = previous.peek(&mut self.previous_at, record.name(), entry)?;
            let is_other = before.is_none_or(|before| before.info != info);
            if is_other || may_hide_a_change(attributes, previous.newest()) {
                importer.expect(path, record.hint());
                let _ = self.told.push_back(self.looked.number);
            }
        }
        Ok(())
    }
}
