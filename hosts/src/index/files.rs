//! Files of an index in the cache directory: where they lie, who uses them,
//! and how they go.
//!
//! The directory of an index belongs to it alone: what is in the place of one of
//! its files and is none goes with the rest.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;

use super::runs::NAME_PREFIX;
use crate::durable::parent_of;
use crate::error::{Context as _, Result};

/// Name of the database in its directory.
pub(super) const DATABASE_NAME: &str = "index.sqlite";

/// What SQLite puts beside it, and last the database itself.
const SUFFIXES: [&str; 4] = ["-journal", "-wal", "-shm", ""];

/// How long an index may be thought unused since: its directory is told of a use
/// so often at most, since that is a write.
const USE_GRAIN: Duration = Duration::from_secs(24 * 60 * 60);

/// How often a directory is looked for that somebody removes meanwhile, and how
/// long to wait in between.
const HOLD_TRIES: u32 = 100;
const HOLD_PAUSE: Duration = Duration::from_millis(5);

/// Where the database of a store lies.
pub(super) fn path_of(cache: &Path, repository: &[u8; 16]) -> PathBuf {
    let digits: String = repository.iter().map(|byte| format!("{byte:02x}")).collect();
    cache.join(digits).join(DATABASE_NAME)
}

/// Whether a directory may be that of an index.
pub(super) fn is_directory_name(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// That an index is used, for as long as this is there. Whoever removes indexes
/// leaves it alone; where the file system knows no such locks, they may remove
/// it, which does no harm to those that have its files open.
#[derive(Debug)]
pub(super) struct Hold {
    _directory: Option<File>,
}

impl Hold {
    /// Makes the directory of an index, and holds it.
    pub(super) fn take(directory: &Path) -> Result<Self> {
        for _ in 0..HOLD_TRIES {
            make_directory(directory)?;
            let file = match open_directory(directory) {
                Err(Errno::NOENT) => continue,
                opened => opened.at("open directory", directory)?,
            };
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
                // Somebody removes it: wait for a new one to make.
                Err(Errno::WOULDBLOCK) => std::thread::sleep(HOLD_PAUSE),
                Err(_) => break,
                Ok(()) if is_at(&file, directory) => {
                    note_use(directory);
                    return Ok(Self { _directory: Some(file) });
                }
                Ok(()) => {}
            }
        }
        Ok(Self { _directory: None })
    }

    /// Calls `remove` if nobody uses the index in `directory`.
    pub(super) fn without_users<T>(directory: &Path, remove: impl FnOnce() -> T) -> Option<T> {
        let file = open_directory(directory).ok()?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => None,
            _ => Some(remove()),
        }
    }
}

fn open_directory(directory: &Path) -> rustix::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(directory, flags, Mode::empty()).map(File::from)
}

/// Whether that is still what `path` leads to.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

fn make_directory(directory: &Path) -> Result<()> {
    let make = || DirBuilder::new().recursive(true).mode(0o700).create(directory);
    match make() {
        Err(_) if fs::symlink_metadata(directory).is_ok_and(|found| !found.is_dir()) => {
            fs::remove_file(directory).at("remove", directory)?;
            make().at("create directory", directory)
        }
        made => made.at("create directory", directory),
    }
}

/// Sees that the time of a directory tells of its last use.
fn note_use(directory: &Path) {
    let noted = fs::metadata(directory).and_then(|data| data.modified());
    let is_new = noted.is_ok_and(|noted| {
        SystemTime::now().duration_since(noted).is_ok_and(|since| since < USE_GRAIN)
    });
    if !is_new {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let now = Timestamps { last_access: now, last_modification: now };
        let _ = crate::times::set_at(CWD, directory, &now, rustix::fs::AtFlags::empty());
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Whether there is something in the place of a file of the database that is
/// none: SQLite would follow a link, and wait at a pipe.
pub(super) fn is_occupied(path: &Path) -> bool {
    SUFFIXES
        .iter()
        .any(|suffix| fs::symlink_metadata(beside(path, suffix)).is_ok_and(|it| !it.is_file()))
}

/// Whether a database was left without being closed.
pub(super) fn is_left(path: &Path) -> bool {
    beside(path, "-wal").exists()
}

/// Removes whatever it is; that there is nothing is no error.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Names of the runs in a directory.
pub(super) fn run_names(directory: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(NAME_PREFIX))
}

/// Removes a run that no list mentions.
pub(super) fn remove_run(directory: &Path, name: &str) {
    let _ = remove(&directory.join(name));
}

/// Removes a database, the journals beside it, and the runs.
pub(super) fn remove_files(path: &Path) -> Result<()> {
    let directory = parent_of(path);
    for name in run_names(directory) {
        remove_run(directory, &name);
    }
    for suffix in SUFFIXES {
        let name = beside(path, suffix);
        match remove(&name) {
            // Nor is there anything where the directory itself is something else.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
            other => other.at("remove", &name)?,
        }
    }
    Ok(())
}

/// Bytes of the files in a directory, without the memory that SQLite shares
/// with itself through one.
pub(super) fn bytes_in(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let entries = entries.filter(|entry| !entry.file_name().as_bytes().ends_with(b"-shm"));
    let files = entries.filter_map(|entry| entry.metadata().ok()).filter(fs::Metadata::is_file);
    files.map(|data| data.len()).fold(0, u64::saturating_add)
}
