//! What a disk does: how fast it writes, reads and syncs, found by trying.
//!
//! Everything goes to files that no name leads to, so that nothing is left
//! behind, however the run ends.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::Advice;

use crate::error::{Context as _, Result};
use crate::spool::create_hidden;

/// Most that is written, in bytes, and never more than half of what is free.
pub const TRIAL_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Time for writing, and as much for reading.
pub const TRIAL_TIME: Duration = Duration::from_secs(3);

/// Time for small files.
const SMALL_TIME: Duration = Duration::from_secs(1);

/// Small files that are tried, at most.
const SMALL_FILES_MAX: u32 = 100;

/// Length of a small file, in bytes.
pub const SMALL_FILE_BYTES: usize = 4096;

/// Bytes that are synced together at first. More when that is done at once, so
/// that no single call takes long: a signal is only seen between two.
const STEP_BYTES_MIN: u64 = 1024 * 1024;

/// Most bytes that are synced together.
const STEP_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The longest that a step should take: twice as many bytes are synced after one
/// that took less than half of it.
const STEP_TIME: Duration = Duration::from_millis(400);

/// Types of file systems that are memory: tmpfs and ramfs.
const MEMORY_TYPES: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// Bytes, and how long they took.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Transfer {
    /// How many.
    pub bytes: u64,
    /// How long.
    pub time: Duration,
}

impl Transfer {
    /// Bytes in a second; nothing if nothing was moved.
    #[must_use]
    pub fn rate(&self) -> Option<u64> {
        let nanos = self.time.as_nanos().max(1);
        let rate = u128::from(self.bytes) * 1_000_000_000 / nanos;
        u64::try_from(rate).ok().filter(|_| self.bytes > 0)
    }
}

/// What was found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Trial {
    /// Room that is free for us, in bytes.
    pub free_bytes: u64,
    /// The file system is in memory.
    pub is_memory: bool,
    /// Bytes written and synced.
    pub written: Transfer,
    /// The same bytes, read. Where the kernel does not forget what it was told to
    /// forget, out of its memory.
    pub read: Transfer,
    /// New files of [`SMALL_FILE_BYTES`] that were written and synced.
    pub small_files: u32,
    /// How long all of those took.
    pub small_time: Duration,
}

/// Tries the disk that `directory` is on, with up to [`TRIAL_BYTES_MAX`] and half
/// of what is free, about [`TRIAL_TIME`] in each direction. `noise` is what is
/// written, again and again: bytes that do not compress. `buffer` is read into.
/// Both have [`SMALL_FILE_BYTES`] at least. Ends early, with what was found till
/// then, when `cancelled` says so.
///
/// # Errors
///
/// Of the system, and of a directory that cannot be written to.
pub fn measure(
    directory: &Path,
    noise: &[u8],
    buffer: &mut [u8],
    cancelled: &dyn Fn() -> bool,
) -> Result<Trial> {
    let file = create_hidden(directory)?;
    let free = rustix::fs::fstatvfs(&file).at("ask for the room in", directory)?;
    let kind = rustix::fs::fstatfs(&file).at("ask for the file system of", directory)?;
    #[allow(clippy::unnecessary_cast, reason = "the type differs between architectures")]
    let kind = kind.f_type as u64 & 0xffff_ffff;
    let mut trial = Trial {
        free_bytes: free.f_bavail.saturating_mul(free.f_frsize),
        is_memory: MEMORY_TYPES.contains(&kind),
        ..Trial::default()
    };
    let most = TRIAL_BYTES_MAX.min(trial.free_bytes / 2);
    trial.written = write(&file, directory, noise, most, cancelled)?;
    // What is not on the disk any more has to come from there. File systems
    // without a disk refuse, or do nothing.
    let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
    trial.read = read(&file, directory, buffer, trial.written.bytes, cancelled)?;
    drop(file);
    if most >= (SMALL_FILE_BYTES as u64) * u64::from(SMALL_FILES_MAX) {
        small_files(directory, noise, &mut trial, cancelled)?;
    }
    Ok(trial)
}

/// Writes, and syncs in steps.
fn write(
    file: &File,
    directory: &Path,
    noise: &[u8],
    most: u64,
    cancelled: &dyn Fn() -> bool,
) -> Result<Transfer> {
    let (started, mut written, mut step) = (Instant::now(), 0, STEP_BYTES_MIN);
    let mut time = Duration::ZERO;
    // A step that would not be done in time is not begun.
    while written < most && time + STEP_TIME / 2 < TRIAL_TIME && !cancelled() {
        let begun = Instant::now();
        let end = most.min(written + step);
        while written < end && !cancelled() {
            let length = usize::try_from(end - written).unwrap_or(usize::MAX).min(noise.len());
            file.write_all_at(&noise[..length], written).at("write in", directory)?;
            written += length as u64;
        }
        file.sync_data().at("sync in", directory)?;
        if begun.elapsed() < STEP_TIME / 2 {
            step = (2 * step).min(STEP_BYTES_MAX);
        } else if begun.elapsed() > STEP_TIME {
            step = (step / 2).max(STEP_BYTES_MIN);
        }
        time = started.elapsed();
    }
    Ok(Transfer { bytes: written, time })
}

/// Reads what was written.
fn read(
    file: &File,
    directory: &Path,
    buffer: &mut [u8],
    most: u64,
    cancelled: &dyn Fn() -> bool,
) -> Result<Transfer> {
    let (started, mut read) = (Instant::now(), 0);
    while read < most && started.elapsed() < TRIAL_TIME && !cancelled() {
        let length = usize::try_from(most - read).unwrap_or(usize::MAX).min(buffer.len());
        file.read_exact_at(&mut buffer[..length], read).at("read in", directory)?;
        read += length as u64;
    }
    Ok(Transfer { bytes: read, time: started.elapsed() })
}

/// Makes small files, each synced and gone again.
fn small_files(
    directory: &Path,
    noise: &[u8],
    trial: &mut Trial,
    cancelled: &dyn Fn() -> bool,
) -> Result<()> {
    let started = Instant::now();
    while trial.small_files < SMALL_FILES_MAX && trial.small_time < SMALL_TIME && !cancelled() {
        let file = create_hidden(directory)?;
        file.write_all_at(&noise[..SMALL_FILE_BYTES], 0).at("write in", directory)?;
        file.sync_all().at("sync in", directory)?;
        trial.small_files += 1;
        trial.small_time = started.elapsed();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn nothing_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let (noise, mut buffer) = (vec![7; 256 * 1024], vec![0; 256 * 1024]);
        let trial = measure(directory.path(), &noise, &mut buffer, &|| false).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(trial.written.bytes >= STEP_BYTES_MIN && trial.written.bytes <= TRIAL_BYTES_MAX);
        assert!(trial.written.rate().unwrap() > 0);
        assert!((1..=SMALL_FILES_MAX).contains(&trial.small_files));
        assert_eq!(buffer, noise);
    }

    #[test]
    fn ends_when_told_to() {
        let directory = tempfile::tempdir().unwrap();
        let asked = Cell::new(0);
        let cancelled = || {
            asked.set(asked.get() + 1);
            asked.get() > 3
        };
        let (noise, mut buffer) = (vec![7; 65536], vec![0; 65536]);
        let trial = measure(directory.path(), &noise, &mut buffer, &cancelled).unwrap();
        assert_eq!(trial.written.bytes, 2 * 65536);
        assert_eq!((trial.read.bytes, trial.small_files), (0, 0));
        assert_eq!(trial.read.rate(), None);
    }

    #[test]
    fn no_such_place() {
        let directory = tempfile::tempdir().unwrap();
        let (noise, mut buffer) = (vec![7; 4096], vec![0; 4096]);
        let gone = directory.path().join("gone");
        assert!(measure(&gone, &noise, &mut buffer, &|| false).is_err());
        let file = directory.path().join("file");
        std::fs::write(&file, "mine").unwrap();
        assert!(measure(&file, &noise, &mut buffer, &|| false).is_err());
        assert_eq!(std::fs::read(&file).unwrap(), b"mine");
    }

    #[test]
    fn rates() {
        let transfer = |bytes, millis| Transfer { bytes, time: Duration::from_millis(millis) };
        assert_eq!(transfer(5_000_000, 500).rate(), Some(10_000_000));
        assert_eq!(transfer(0, 500).rate(), None);
        assert_eq!(transfer(1, 0).rate(), Some(1_000_000_000));
    }
}
