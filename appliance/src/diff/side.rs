//! [`Side`]: one of the two things that are compared, entry by entry.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use tiroir_core::host::Host as _;
use tiroir_core::limits::PATH_BYTES_MAX;
use tiroir_core::mac::Mac;
use tiroir_core::order::{Order, byte_order};
use tiroir_core::snapshot::ReadMemory;
use tiroir_core::snapshot::walk::{Event, Walk, entry_at};
use tiroir_core::sort::Sorter;
use tiroir_core::spool::Spool as _;
use tiroir_core::wire::entry::Entry;
use tiroir_core::wire::mode;
use tiroir_core::wire::path::split;
use tiroir_hosts::env::SystemHost;
use tiroir_hosts::spool::FileSpool;

use crate::error::{EngineError, Failure, Result};
use crate::snapshots::Snapshot;
use crate::store::Repo;
use crate::text::printable::Printable;

/// What an entry is, as far as it is compared.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Directory,
    /// A regular file; its object if it is one of a snapshot, and its length.
    Regular {
        object: Option<Mac>,
        size_bytes: u64,
    },
    /// A symbolic link, and its target.
    Link(Vec<u8>),
    /// A device, fifo or socket: its letters.
    Special(u32),
}

impl Kind {
    /// A number for each sort of entries.
    pub(crate) fn sort(&self) -> u32 {
        match self {
            Self::Directory => mode::DIRECTORY,
            Self::Regular { .. } => 0,
            Self::Link(_) => mode::SYMLINK,
            Self::Special(bits) => *bits,
        }
    }
}

/// An entry of a side.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Its absolute path.
    pub(crate) path: Vec<u8>,
    /// What it is.
    pub(crate) kind: Kind,
}

impl Item {
    /// Its name.
    pub(crate) fn name(&self) -> &[u8] {
        split(&self.path).1
    }

    /// The directory that it lies in.
    pub(crate) fn directory(&self) -> &[u8] {
        split(&self.path).0
    }

    fn of_entry(entry: &Entry<'_>, mac: Mac) -> Result<Self> {
        let mut path = [0; PATH_BYTES_MAX];
        let subject =
            tiroir_core::error::Subject::Blob(tiroir_core::resource::ResourceKind::VFS_ENTRY, mac);
        let length = entry.path(&mut path).map_err(EngineError::damaged(subject))?;
        let kind = match entry.info.mode {
            bits if mode::is_directory(bits) => Kind::Directory,
            bits if bits & mode::SYMLINK != 0 => Kind::Link(entry.link_target.to_vec()),
            bits if mode::is_regular(bits) => Kind::Regular {
                object: Some(entry.object),
                size_bytes: u64::try_from(entry.info.size).unwrap_or(0),
            },
            bits => Kind::Special(bits & mode::TYPE),
        };
        Ok(Self { path: path[..length].to_vec(), kind })
    }
}

/// One of the two things that are compared.
pub(crate) enum Side<'m> {
    /// A snapshot.
    Snapshot(SnapshotWalk<'m>),
    /// The file system.
    Local(LocalWalk<'m>),
}

impl Side<'_> {
    /// How an entry is called in what is told.
    pub(crate) fn label(&self, item: &Item) -> String {
        match self {
            Self::Snapshot(walk) => format!("{:.4}:{}", walk.id, Printable(&item.path)),
            Self::Local(_) => Printable(&item.path).to_string(),
        }
    }

    /// How a directory is called in what is told: stock does not say on which
    /// side, which tells nothing when both have the same path.
    pub(crate) fn place(&self, directory: &[u8]) -> String {
        match self {
            Self::Snapshot(walk) => format!("{:.4}:{}", walk.id, Printable(directory)),
            Self::Local(_) => Printable(directory).to_string(),
        }
    }

    /// The entry at a path.
    ///
    /// # Errors
    ///
    /// That there is none; the engine's, and the system's.
    pub(crate) fn item(
        &self,
        repo: &mut Repo<'_>,
        path: &[u8],
        read: &mut ReadMemory<'_>,
    ) -> Result<Item> {
        match self {
            Self::Snapshot(walk) => {
                let (entry, mac) = entry_at(repo, &walk.trees, path, read)?;
                Item::of_entry(&entry, mac)
            }
            Self::Local(_) => local_item(path.to_vec()).map_err(|error| local_failure(path, error)),
        }
    }

    /// Goes into a directory.
    ///
    /// # Errors
    ///
    /// The engine's, and the system's.
    pub(crate) fn enter(
        &mut self,
        repo: &mut Repo<'_>,
        path: &[u8],
        read: &mut ReadMemory<'_>,
    ) -> Result<()> {
        match self {
            Self::Snapshot(side) => Ok(side.walk.enter(repo, path, read)?),
            Self::Local(walk) => walk.enter(path),
        }
    }

    /// The next entry of the directory; nothing at its end, and then the next
    /// one of the directory above.
    ///
    /// # Errors
    ///
    /// The engine's, and the system's.
    pub(crate) fn next(&mut self) -> Result<Option<Item>> {
        match self {
            Self::Snapshot(side) => side.next(),
            Self::Local(walk) => walk.next(),
        }
    }
}

/// Walks a snapshot.
pub(crate) struct SnapshotWalk<'m> {
    id: Mac,
    trees: tiroir_core::wire::header::Trees,
    walk: Walk<FileSpool>,
    entry: &'m mut [u8],
}

impl<'m> SnapshotWalk<'m> {
    /// A walk over a snapshot; `entry` takes an entry.
    ///
    /// # Errors
    ///
    /// Of the spools.
    pub(crate) fn new(
        repo: &mut Repo<'_>,
        snapshot: &Snapshot,
        entry: &'m mut [u8],
    ) -> Result<Self> {
        let walk = Walk::new(repo.host.spool()?, repo.host.spool()?, snapshot.trees);
        Ok(Self { id: snapshot.id, trees: snapshot.trees, walk, entry })
    }

    fn next(&mut self) -> Result<Option<Item>> {
        match self.walk.next(self.entry)? {
            Some(step) if step.event == Event::Entry => {
                Item::of_entry(&step.entry, step.mac).map(Some)
            }
            _ => Ok(None),
        }
    }
}

/// Bytes before the names in a region of the spool: where the region above
/// starts, and where it was.
const REGION_HEAD_BYTES: usize = 16;

/// Walks the file system in the order of a snapshot. The names of a directory
/// are sorted into a spool when it is entered, so that neither the depth of the
/// tree nor the length of its directories costs memory.
pub(crate) struct LocalWalk<'m> {
    names: FileSpool,
    sorter: Sorter<'m, FileSpool, Order>,
    /// The current directory.
    directory: Vec<u8>,
    region_at: u64,
    cursor: u64,
}

impl<'m> LocalWalk<'m> {
    /// A walk that is nowhere yet; `arena` is to sort in.
    ///
    /// # Errors
    ///
    /// Of the spools.
    pub(crate) fn new(host: &mut SystemHost, arena: &'m mut [u8]) -> Result<Self> {
        let spools = [host.spool()?, host.spool()?];
        Ok(Self {
            names: host.spool()?,
            sorter: Sorter::new(arena, spools, byte_order as Order),
            directory: Vec::new(),
            region_at: 0,
            cursor: 0,
        })
    }

    fn enter(&mut self, path: &[u8]) -> Result<()> {
        let failure = |error| local_failure(path, error);
        self.sorter.reset()?;
        for entry in fs::read_dir(OsStr::from_bytes(path)).map_err(failure)? {
            let name = entry.map_err(failure)?.file_name();
            self.sorter.push(name.as_bytes(), &[])?;
        }
        let start = self.names.len();
        self.names.append(&self.region_at.to_le_bytes())?;
        self.names.append(&self.cursor.to_le_bytes())?;
        (self.region_at, self.cursor) = (start, self.names.len());
        let mut sorted = self.sorter.finish()?;
        while let Some((name, _)) = sorted.next()? {
            let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
            self.names.append(&length.to_le_bytes())?;
            self.names.append(name)?;
        }
        self.directory = path.to_vec();
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Item>> {
        while self.cursor < self.names.len() {
            let mut length = [0; 2];
            self.names.read_at(self.cursor, &mut length)?;
            let mut name = vec![0; usize::from(u16::from_le_bytes(length))];
            self.names.read_at(self.cursor + 2, &mut name)?;
            self.cursor += 2 + name.len() as u64;
            let mut path = self.directory.clone();
            if path != b"/" {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            match local_item(path.clone()) {
                Ok(item) => return Ok(Some(item)),
                // It went away meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(local_failure(&path, error)),
            }
        }
        self.leave()?;
        Ok(None)
    }

    /// Goes back to the directory above.
    fn leave(&mut self) -> Result<()> {
        let mut head = [0; REGION_HEAD_BYTES];
        self.names.read_at(self.region_at, &mut head)?;
        self.names.truncate(self.region_at)?;
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&head[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        (self.region_at, self.cursor) = (number(0), number(8));
        self.directory = split(&self.directory).0.to_vec();
        Ok(())
    }
}

fn local_item(path: Vec<u8>) -> io::Result<Item> {
    let place = Path::new(OsStr::from_bytes(&path));
    let data = place.symlink_metadata()?;
    let kind = data.file_type();
    let kind = if kind.is_dir() {
        Kind::Directory
    } else if kind.is_symlink() {
        Kind::Link(std::os::unix::ffi::OsStringExt::into_vec(place.read_link()?.into_os_string()))
    } else if kind.is_fifo() {
        Kind::Special(mode::PIPE)
    } else if kind.is_socket() {
        Kind::Special(mode::SOCKET)
    } else if kind.is_block_device() {
        Kind::Special(mode::DEVICE)
    } else if kind.is_char_device() {
        Kind::Special(mode::DEVICE | mode::CHARACTER)
    } else {
        Kind::Regular { object: None, size_bytes: data.len() }
    };
    Ok(Item { path, kind })
}

fn local_failure(path: &[u8], error: io::Error) -> Failure {
    Failure::io(format_args!("read {}", Printable(path)), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_system_in_the_order_of_snapshots() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir_all(at("a/inner")).unwrap();
        fs::write(at("a/x"), "text").unwrap();
        fs::write(at("a.b"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", at("z")).unwrap();
        let mut arena = vec![0; 64 * 1024];
        let mut host = SystemHost::new(directory.path());
        let mut walk = LocalWalk::new(&mut host, &mut arena).unwrap();
        let root = directory.path().as_os_str().as_bytes();
        walk.enter(root).unwrap();
        let mut seen = Vec::new();
        let mut depth = 1;
        while depth > 0 {
            let Some(item) = walk.next().unwrap() else {
                depth -= 1;
                seen.push(String::from("."));
                continue;
            };
            seen.push(String::from_utf8_lossy(item.name()).into_owned());
            if item.kind == Kind::Directory {
                walk.enter(&item.path).unwrap();
                depth += 1;
            }
        }
        assert_eq!(seen, ["a", "inner", ".", "x", ".", "a.b", "z", "."]);
        assert!(walk.names.is_empty());
    }
}
