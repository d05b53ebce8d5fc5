//! [`MemImporter`]: a tree of files in memory.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use super::TestError;
use crate::importer::{Attributes, DIRECTORIES_AHEAD_MAX, Each, Importer};
use crate::time::Timestamp;
use crate::wire::mode;

/// An entry of a [`MemImporter`]; everything may be changed.
#[derive(Clone, Debug, Default)]
pub struct MemEntry {
    /// What `stat` says. Its size need not be that of the content, as if the
    /// file had changed since.
    pub attributes: Attributes,
    /// What is read of a regular file.
    pub content: Vec<u8>,
    /// Extended attributes, by name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// With what `stat` fails.
    pub stat_error: Option<TestError>,
    /// With what opening, or listing, fails.
    pub open_error: Option<TestError>,
    /// With what reading fails, and after how many bytes.
    pub read_error: Option<(usize, TestError)>,
}

/// A tree of files in memory, the same in every run: owners are fixed, inodes
/// and times count up in the order in which entries are added.
///
/// Listings are in descending order, and reads come in pieces of odd lengths.
#[derive(Clone, Debug)]
pub struct MemImporter {
    root: Vec<u8>,
    /// By path.
    entries: BTreeMap<Vec<u8>, MemEntry>,
    next_inode: u32,
    /// The open file, and how much of it is read.
    open: Option<(Vec<u8>, usize)>,
    /// Files that it wants to be told ahead.
    pub ahead: usize,
    /// Files that were told and are not opened yet.
    told: Vec<Vec<u8>>,
    /// Directories that were told and are not listed yet.
    directories_told: VecDeque<Vec<u8>>,
    /// Directories that were listed, and whether they were told before.
    pub listed: Vec<(Vec<u8>, bool)>,
    /// Files that were opened, and whether they were told before.
    pub opened: Vec<(Vec<u8>, bool)>,
}

impl MemImporter {
    /// A tree that is backed up from `root` on, which is empty and has all
    /// directories above it.
    #[must_use]
    pub fn new(root: &[u8]) -> Self {
        let entries = BTreeMap::new();
        let mut importer = Self {
            root: root.to_vec(),
            entries,
            next_inode: 1,
            open: None,
            ahead: 0,
            told: Vec::new(),
            directories_told: VecDeque::new(),
            listed: Vec::new(),
            opened: Vec::new(),
        };
        importer.directory(root);
        importer
    }

    /// Adds a directory, with those above it.
    pub fn directory(&mut self, path: &[u8]) -> &mut MemEntry {
        self.insert(path, mode::DIRECTORY | 0o755, 4096, &[], &[])
    }

    /// Adds a regular file, with the directories above it.
    pub fn file(&mut self, path: &[u8], content: &[u8]) -> &mut MemEntry {
        self.insert(path, 0o644, content.len(), content, &[])
    }

    /// Adds a symbolic link, with the directories above it.
    pub fn symlink(&mut self, path: &[u8], target: &[u8]) -> &mut MemEntry {
        self.insert(path, mode::SYMLINK | 0o777, target.len(), &[], target)
    }

    /// Adds a fifo, a socket or a device, as `mode` says, with the directories
    /// above it.
    pub fn special(&mut self, path: &[u8], mode: u32) -> &mut MemEntry {
        self.insert(path, mode, 0, &[], &[])
    }

    /// Removes an entry, and everything below it.
    pub fn remove(&mut self, path: &[u8]) {
        let is_below = |other: &[u8]| {
            other.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        self.entries.retain(|other, _| !is_below(other));
    }

    /// An entry, if it is there.
    #[must_use]
    pub fn entry(&self, path: &[u8]) -> Option<&MemEntry> {
        self.entries.get(path)
    }

    /// An entry, if it is there, to be changed.
    pub fn entry_mut(&mut self, path: &[u8]) -> Option<&mut MemEntry> {
        self.entries.get_mut(path)
    }

    /// All entries and their paths, in the order of bytes.
    pub fn entries(&self) -> impl Iterator<Item = (&[u8], &MemEntry)> {
        self.entries.iter().map(|(path, entry)| (path.as_slice(), entry))
    }

    fn insert(
        &mut self,
        path: &[u8],
        mode: u32,
        size_bytes: usize,
        content: &[u8],
        link_target: &[u8],
    ) -> &mut MemEntry {
        if let Some(parent) = parent(path)
            && !self.entries.contains_key(parent)
        {
            self.directory(parent);
        }
        let inode = self.next_inode;
        self.next_inode += 1;
        let attributes = Attributes {
            size: i64::try_from(size_bytes).unwrap_or(i64::MAX),
            mode,
            mod_time: Timestamp { secs: 1_600_000_000 + i64::from(inode), nanos: 1 },
            dev: 1,
            ino: inode.into(),
            uid: 1000,
            gid: 100,
            nlink: 1,
            username: heapless::Vec::from_slice(b"user").unwrap_or_default(),
            groupname: heapless::Vec::from_slice(b"users").unwrap_or_default(),
            link_target: heapless::Vec::from_slice(link_target).unwrap_or_default(),
            ..Attributes::default()
        };
        let entry = MemEntry { attributes, content: content.to_vec(), ..MemEntry::default() };
        self.entries.insert(path.to_vec(), entry);
        self.entries.entry(path.to_vec()).or_default()
    }

    fn at(&self, path: &[u8]) -> Result<&MemEntry, TestError> {
        self.entries.get(path).ok_or(TestError::NotFound)
    }
}

/// The directory that a path lies in; nothing for `/`.
fn parent(path: &[u8]) -> Option<&[u8]> {
    let slash = path.iter().rposition(|&byte| byte == b'/')?;
    match path.len() {
        1 => None,
        _ => Some(&path[..slash.max(1)]),
    }
}

/// What a listing says of an entry.
fn hint(entry: &MemEntry) -> [u8; 8] {
    entry.attributes.ino.to_le_bytes()
}

impl Importer for MemImporter {
    type Error = TestError;

    fn kind(&self) -> &str {
        "mem"
    }

    fn origin(&self) -> &str {
        "test"
    }

    fn root(&self) -> &[u8] {
        &self.root
    }

    fn list(&mut self, directory: &[u8], each: &mut Each<'_, TestError>) -> Result<(), TestError> {
        let is_told = self.directories_told.front().is_some_and(|told| told == directory);
        if is_told {
            self.directories_told.pop_front();
        }
        assert!(!self.directories_told.iter().any(|told| told == directory), "out of turn");
        self.listed.push((directory.to_vec(), is_told));
        let listed = self.at(directory)?;
        if !mode::is_directory(listed.attributes.mode) {
            return Err(TestError::Misuse("a listing of what is no directory"));
        }
        listed.open_error.map_or(Ok(()), Err)?;
        for (path, entry) in self.entries.iter().rev() {
            if parent(path) == Some(directory) {
                let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
                each(name, &hint(entry))?;
            }
        }
        Ok(())
    }

    fn stat(&mut self, path: &[u8], given: &[u8], into: &mut Attributes) -> Result<(), TestError> {
        let entry = self.at(path)?;
        // Directories above the root are not listed, and have none.
        if !given.is_empty() && given != hint(entry) {
            return Err(TestError::Misuse("the hint of another entry"));
        }
        entry.stat_error.map_or(Ok(()), Err)?;
        *into = entry.attributes.clone();
        Ok(())
    }

    fn files_ahead(&self) -> usize {
        self.ahead
    }

    fn directories_ahead(&self) -> usize {
        self.ahead.min(DIRECTORIES_AHEAD_MAX)
    }

    fn expect_directory(&mut self, path: &[u8]) {
        self.directories_told.push_back(path.to_vec());
        assert!(self.directories_told.len() <= self.ahead + 1, "more than were asked for");
    }

    fn foresee(&mut self, path: &[u8], hint: &[u8], into: &mut Attributes) -> bool {
        self.stat(path, hint, into).is_ok() && mode::is_regular(into.mode)
    }

    fn expect(&mut self, path: &[u8], hint: &[u8]) {
        assert_eq!(self.entry(path).map(self::hint).as_ref().map(|own| &own[..]), Some(hint));
        self.told.push(path.to_vec());
        assert!(self.told.len() <= self.ahead, "more files are told than were asked for");
    }

    fn open(&mut self, path: &[u8], _expected: &Attributes) -> Result<(), TestError> {
        let told = self.told.iter().position(|told| told == path);
        self.told.drain(..told.map_or(0, |place| place + 1));
        self.opened.push((path.to_vec(), told.is_some()));
        if self.open.is_some() {
            return Err(TestError::Misuse("two files open at a time"));
        }
        let entry = self.at(path)?;
        if !mode::is_regular(entry.attributes.mode) {
            return Err(TestError::Misuse("opened what is no regular file"));
        }
        entry.open_error.map_or(Ok(()), Err)?;
        self.open = Some((path.to_vec(), 0));
        Ok(())
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize, TestError> {
        let (path, position) = self.open.as_mut().ok_or(TestError::Misuse("no file is open"))?;
        let entry = self.entries.get(path).ok_or(TestError::NotFound)?;
        let mut rest = entry.content.get(*position..).unwrap_or_default();
        if let Some((read_bytes, error)) = entry.read_error {
            rest = rest.get(..read_bytes.saturating_sub(*position)).unwrap_or(rest);
            if rest.is_empty() && *position >= read_bytes {
                return Err(error);
            }
        }
        let piece_bytes = 1 + position.wrapping_mul(7919) % 60_000;
        let length = rest.len().min(into.len()).min(piece_bytes);
        into[..length].copy_from_slice(&rest[..length]);
        *position += length;
        Ok(length)
    }

    fn close(&mut self) {
        self.open = None;
    }

    fn xattr_names(&mut self, path: &[u8], into: &mut [u8]) -> Result<usize, TestError> {
        let mut length = 0;
        for name in self.at(path)?.xattrs.keys().rev() {
            let into = into.get_mut(length..).and_then(|into| into.get_mut(..name.len() + 1));
            let into = into.ok_or(TestError::Misuse("too little room for names"))?;
            into[..name.len()].copy_from_slice(name);
            into[name.len()] = 0;
            length += name.len() + 1;
        }
        Ok(length)
    }

    fn xattr(&mut self, path: &[u8], name: &[u8], into: &mut [u8]) -> Result<usize, TestError> {
        let value = self.at(path)?.xattrs.get(name).ok_or(TestError::NotFound)?;
        let into = into.get_mut(..value.len());
        into.ok_or(TestError::Misuse("too little room for a value"))?.copy_from_slice(value);
        Ok(value.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_reads() {
        let mut importer = MemImporter::new(b"/home/u");
        let content: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        importer.file(b"/home/u/d/f", &content);
        importer.symlink(b"/home/u/link", b"d");
        importer.file(b"/home/u.txt", b"").xattrs.insert(b"user.a".to_vec(), b"1".to_vec());

        let mut names = Vec::new();
        let mut each = |name: &[u8], hint: &[u8]| {
            names.push((name.to_vec(), hint.to_vec()));
            Ok(())
        };
        importer.list(b"/home/u", &mut each).unwrap();
        importer.list(b"/", &mut each).unwrap();
        let found: Vec<&[u8]> = names.iter().map(|(name, _)| name.as_slice()).collect();
        assert_eq!(found, [&b"link"[..], b"d", b"home"]);

        let mut attributes = Attributes::default();
        importer.stat(b"/home/u/link", &names[0].1, &mut attributes).unwrap();
        assert_eq!(&attributes.link_target[..], b"d");
        assert!(importer.stat(b"/home/u/d", &names[0].1, &mut attributes).is_err());

        importer.stat(b"/home/u/d/f", &[], &mut attributes).unwrap();
        importer.open(b"/home/u/d/f", &attributes).unwrap();
        assert!(importer.open(b"/home/u/d/f", &attributes).is_err());
        let mut read = Vec::new();
        let mut into = [0; 50_000];
        loop {
            match importer.read(&mut into).unwrap() {
                0 => break,
                length => read.extend_from_slice(&into[..length]),
            }
        }
        importer.close();
        assert!(read == content);

        let length = importer.xattr_names(b"/home/u.txt", &mut into).unwrap();
        assert_eq!(&into[..length], b"user.a\0");
        assert_eq!(importer.xattr(b"/home/u.txt", b"user.a", &mut into), Ok(1));
        importer.remove(b"/home/u");
        assert_eq!(importer.entries().count(), 3);
    }

    #[test]
    fn fails_where_told() {
        let mut importer = MemImporter::new(b"/");
        importer.file(b"/f", b"abcdef").read_error = Some((3, TestError::PermissionDenied));
        importer.open(b"/f", &Attributes::default()).unwrap();
        let mut into = [0; 10];
        let mut total = 0;
        let error = loop {
            match importer.read(&mut into) {
                Ok(length) => total += length,
                Err(error) => break error,
            }
        };
        assert_eq!((total, error), (3, TestError::PermissionDenied));
    }
}
