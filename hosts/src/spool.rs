//! [`FileSpool`]: temporary storage in a file without a name.
//!
//! What is appended waits in memory and goes to disk in pieces of
//! [`WRITE_BYTES`]; a spool that never fills the first piece never touches the
//! disk. What is read comes back in blocks of [`BLOCK_BYTES`], of which a few
//! are kept: a block is replaced by its neighbour first, so that a walk forward
//! or backward takes one block of memory, and a merge one for each of its runs.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tiroir_core::spool::Spool;

use crate::env::random_suffix;
use crate::error::{Context as _, HostsError, Result};

/// Bytes that wait in memory to be written, at most.
pub const WRITE_BYTES: usize = 32 * 1024;

/// Bytes read from the file at once.
pub const BLOCK_BYTES: usize = 8 * 1024;

/// Blocks kept, at most.
pub const BLOCKS_MAX: usize = 8;

/// Bytes that a truncated file may keep on disk before they are given back:
/// whoever takes records off the end would else pay a system call for each.
const SLACK_BYTES: u64 = 1024 * 1024;

/// Some bytes of the file, as last read.
struct Block {
    /// Position in the file, in blocks.
    number: u64,
    /// Greater for a block that was used later.
    used: u32,
    /// [`BLOCK_BYTES`] of them, or fewer at the end of the file.
    bytes: Vec<u8>,
}

/// [`Spool`] in a file that has no name and vanishes with the process.
///
/// Takes at most 32 KiB for what is to be written and 64 KiB for what was read;
/// a spool that is only read in one direction takes 8 KiB of the latter.
pub struct FileSpool {
    directory: PathBuf,
    /// Made when the first bytes must leave the memory.
    file: Option<File>,
    /// Bytes in the file that count. The file may be longer.
    file_bytes: u64,
    /// Length of the file.
    allocated_bytes: u64,
    /// What follows the bytes of the file.
    tail: Vec<u8>,
    blocks: Vec<Block>,
    clock: u32,
}

impl FileSpool {
    /// An empty spool, whose file will be in `directory` if it needs one.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            file: None,
            file_bytes: 0,
            allocated_bytes: 0,
            tail: Vec::new(),
            blocks: Vec::new(),
            clock: 0,
        }
    }

    /// Writes at the end of the file, which is made if there is none.
    fn write_out(&mut self, bytes: &[u8]) -> Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            empty => empty.insert(create_hidden(&self.directory)?),
        };
        file.write_all_at(bytes, self.file_bytes).at("write a spool in", &self.directory)?;
        self.file_bytes += bytes.len() as u64;
        self.allocated_bytes = self.allocated_bytes.max(self.file_bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let mut tail = std::mem::take(&mut self.tail);
        let result = self.write_out(&tail);
        tail.clear();
        self.tail = tail;
        result
    }

    /// Fills `into` from one block of the file.
    fn read_block(&mut self, number: u64, skip: usize, into: &mut [u8]) -> Result<()> {
        self.clock = self.clock.wrapping_add(1);
        let wanted = skip + into.len();
        let held = self.blocks.iter().position(|b| b.number == number && b.bytes.len() >= wanted);
        let index = match held {
            Some(index) => index,
            None => self.load(number)?,
        };
        let block = &mut self.blocks[index];
        block.used = self.clock;
        let bytes = block.bytes.get(skip..wanted).ok_or_else(|| past_the_end(&self.directory))?;
        into.copy_from_slice(bytes);
        Ok(())
    }

    /// Reads a block from the file and returns where it is kept.
    fn load(&mut self, number: u64) -> Result<usize> {
        let index = self.place_for(number);
        let start = number * BLOCK_BYTES as u64;
        let left = self.file_bytes.saturating_sub(start);
        let length = usize::try_from(left).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
        let block = &mut self.blocks[index];
        // An impossible number, until the bytes are those of the right one.
        block.number = u64::MAX;
        block.bytes.resize(length, 0);
        match &self.file {
            Some(file) => file
                .read_exact_at(&mut block.bytes, start)
                .at("read a spool in", &self.directory)?,
            None => return Err(past_the_end(&self.directory)),
        }
        block.number = number;
        Ok(index)
    }

    /// Which block to give up for another: itself, a neighbour, or the one that
    /// was not used for longest; or none while there is room.
    fn place_for(&mut self, number: u64) -> usize {
        let near = |b: &Block| b.number.abs_diff(number) <= 1;
        let own = self.blocks.iter().position(|b| b.number == number);
        if let Some(index) = own.or_else(|| self.blocks.iter().position(near)) {
            return index;
        }
        if self.blocks.len() < BLOCKS_MAX {
            let bytes = Vec::with_capacity(BLOCK_BYTES);
            self.blocks.push(Block { number: u64::MAX, used: 0, bytes });
            return self.blocks.len() - 1;
        }
        let clock = self.clock;
        let age = |(_, b): &(usize, &Block)| clock.wrapping_sub(b.used);
        self.blocks.iter().enumerate().max_by_key(age).map_or(0, |(index, _)| index)
    }

    /// Fills `into` from the file, block by block.
    fn read_file(&mut self, offset_bytes: u64, into: &mut [u8]) -> Result<()> {
        let block_bytes = BLOCK_BYTES as u64;
        if into.len() >= 2 * BLOCK_BYTES {
            let file = self.file.as_ref().ok_or_else(|| past_the_end(&self.directory))?;
            return file.read_exact_at(into, offset_bytes).at("read a spool in", &self.directory);
        }
        let first = offset_bytes / block_bytes;
        let last = (offset_bytes + (into.len() as u64).saturating_sub(1)) / block_bytes;
        // From the end if the end is at hand: a block is replaced by its
        // neighbour, and a walk backward would load each twice.
        let backward = self.blocks.iter().any(|b| b.number == last);
        let count = last - first + 1;
        for step in 0..count {
            let number = if backward { last - step } else { first + step };
            let start = (number * block_bytes).max(offset_bytes);
            let end = ((number + 1) * block_bytes).min(offset_bytes + into.len() as u64);
            let part = span(start - offset_bytes, end - offset_bytes);
            self.read_block(number, small(start % block_bytes), &mut into[part])?;
        }
        Ok(())
    }
}

/// A distance inside of a slice or a block: it fits.
fn small(distance: u64) -> usize {
    usize::try_from(distance).unwrap_or(usize::MAX)
}

fn span(start: u64, end: u64) -> std::ops::Range<usize> {
    small(start)..small(end)
}

impl Spool for FileSpool {
    type Error = HostsError;

    fn len(&self) -> u64 {
        self.file_bytes + self.tail.len() as u64
    }

    fn append(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            if self.tail.is_empty() && bytes.len() >= WRITE_BYTES {
                let whole = bytes.len() - bytes.len() % WRITE_BYTES;
                self.write_out(&bytes[..whole])?;
                bytes = &bytes[whole..];
                continue;
            }
            let (now, later) = bytes.split_at(bytes.len().min(WRITE_BYTES - self.tail.len()));
            self.tail.extend_from_slice(now);
            bytes = later;
            if self.tail.len() == WRITE_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn read_at(&mut self, offset_bytes: u64, into: &mut [u8]) -> Result<()> {
        let in_file = small(self.file_bytes.saturating_sub(offset_bytes)).min(into.len());
        let (disk, memory) = into.split_at_mut(in_file);
        if !memory.is_empty() {
            let start = small((offset_bytes + in_file as u64) - self.file_bytes);
            let held = start.checked_add(memory.len()).and_then(|end| self.tail.get(start..end));
            memory.copy_from_slice(held.ok_or_else(|| past_the_end(&self.directory))?);
        }
        if disk.is_empty() {
            return Ok(());
        }
        self.read_file(offset_bytes, disk)
    }

    fn truncate(&mut self, len: u64) -> Result<()> {
        if len >= self.file_bytes {
            self.tail.truncate(small(len - self.file_bytes));
            return Ok(());
        }
        self.tail.clear();
        self.file_bytes = len;
        // Bytes beyond `len` will be written anew.
        self.blocks
            .retain(|b| b.number.saturating_add(1).saturating_mul(BLOCK_BYTES as u64) <= len);
        if let Some(file) = &self.file
            && (len == 0 || self.allocated_bytes - len > SLACK_BYTES)
        {
            file.set_len(len).at("shorten a spool in", &self.directory)?;
            self.allocated_bytes = len;
        }
        Ok(())
    }
}

impl fmt::Debug for FileSpool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSpool").field("len", &self.len()).finish_non_exhaustive()
    }
}

fn past_the_end(directory: &Path) -> HostsError {
    HostsError::io("read a spool in", directory, io::ErrorKind::UnexpectedEof.into())
}

/// A file for us alone that no name leads to.
pub(crate) fn create_hidden(directory: &Path) -> Result<File> {
    let rights = Mode::RUSR | Mode::WUSR;
    let unnamed = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(directory, unnamed, rights) {
        Ok(file) => Ok(file.into()),
        // The file system, or a kernel before 3.11, does not know it.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {
            create_and_unlink(directory)
        }
        Err(error) => Err(error).at("make a spool in", directory),
    }
}

fn create_and_unlink(directory: &Path) -> Result<File> {
    let path = directory.join(format!("tiroir-spool-{}", random_suffix()?));
    let file = create_named(&path)?;
    rustix::fs::unlink(&path).at("hide spool", &path)?;
    Ok(file)
}

/// A new file for us alone.
pub(crate) fn create_named(path: &Path) -> Result<File> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).at("create", path)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    /// Compares with a plain vector, over random operations.
    fn against_model(seed: u64, piece_bytes_max: u64, directory: &Path) {
        let mut random = Random::new(seed);
        let mut spool = FileSpool::new(directory);
        let mut model = Vec::new();
        for _ in 0..4000 {
            match random.below(10) {
                0..=5 => {
                    let bytes = random.bytes(small(random.clone().below(piece_bytes_max)));
                    random.below(piece_bytes_max);
                    spool.append(&bytes).unwrap();
                    model.extend_from_slice(&bytes);
                }
                6..=8 => {
                    let start = random.below(model.len() as u64 + 1);
                    let most = (model.len() as u64 - start).min(piece_bytes_max);
                    let mut into = vec![0; small(random.below(most + 1))];
                    spool.read_at(start, &mut into).unwrap();
                    assert_eq!(into, model[small(start)..small(start) + into.len()]);
                }
                _ if random.below(4) == 0 => {
                    let len = random.below(model.len() as u64 + 1);
                    spool.truncate(len).unwrap();
                    model.truncate(small(len));
                }
                _ => {}
            }
            assert_eq!(spool.len(), model.len() as u64);
        }
    }

    #[test]
    fn random_operations_match_a_vector() {
        let directory = tempfile::tempdir().unwrap();
        for seed in 0..4 {
            against_model(seed, 200, directory.path());
            against_model(seed, 40_000, directory.path());
            against_model(seed, 100_000, directory.path());
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn small_spools_need_no_directory() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = FileSpool::new(directory.path().join("absent"));
        spool.append(&[7; WRITE_BYTES - 1]).unwrap();
        let mut last = [0; 3];
        spool.read_at(spool.len() - 3, &mut last).unwrap();
        assert_eq!(last, [7; 3]);
        assert!(spool.append(b"xx").is_err());
    }

    #[test]
    fn reading_past_the_end_fails() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = FileSpool::new(directory.path());
        spool.append(&[1; 100]).unwrap();
        assert!(spool.read_at(99, &mut [0; 2]).is_err());
        spool.append(&[1; 3 * WRITE_BYTES]).unwrap();
        assert!(spool.read_at(spool.len() - 1, &mut [0; 2]).is_err());
        assert!(spool.read_at(u64::MAX - 1, &mut [0; 2]).is_err());
    }

    #[test]
    fn walks_in_one_direction_keep_one_block() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = FileSpool::new(directory.path());
        let records = 20_000u64;
        for number in 0..records {
            spool.append(&[number.to_le_bytes(); 9].concat()[..67]).unwrap();
        }
        for number in (0..records).rev().chain(0..records) {
            let mut record = [0; 67];
            spool.read_at(number * 67, &mut record).unwrap();
            assert_eq!(record[..8], number.to_le_bytes());
            assert!(spool.blocks.len() <= 1);
        }
    }

    #[test]
    fn the_fallback_leaves_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let file = create_and_unlink(directory.path()).unwrap();
        file.write_all_at(b"x", 0).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
