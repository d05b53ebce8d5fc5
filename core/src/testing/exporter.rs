//! [`MemExporter`]: remembers what is restored.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::TestError;
use crate::exporter::Exporter;
use crate::time::Timestamp;
use crate::wire::file_info::FileInfo;

/// What an entry was restored as.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RestoredKind {
    /// A directory.
    Directory,
    /// A regular file, and its content.
    File(Vec<u8>),
    /// A symbolic link, and its target.
    Symlink(Vec<u8>),
    /// A further name of a file, and its first one.
    HardLink(Vec<u8>),
    /// Anything else; its attributes say what.
    Special,
}

/// Attributes of an entry, kept. See [`FileInfo`] for the fields.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of FileInfo")]
pub struct RestoredInfo {
    pub name: Vec<u8>,
    pub size: i64,
    pub mode: u32,
    pub mod_time: Timestamp,
    pub uid: u64,
    pub gid: u64,
    pub username: Vec<u8>,
    pub groupname: Vec<u8>,
}

impl From<&FileInfo<'_>> for RestoredInfo {
    fn from(info: &FileInfo<'_>) -> Self {
        Self {
            name: info.name.to_vec(),
            size: info.size,
            mode: info.mode,
            mod_time: info.mod_time,
            uid: info.uid,
            gid: info.gid,
            username: info.username.to_vec(),
            groupname: info.groupname.to_vec(),
        }
    }
}

/// An entry that was restored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Restored {
    /// What it is.
    pub kind: RestoredKind,
    /// The attributes that it was given, if any.
    pub info: Option<RestoredInfo>,
    /// Extended attributes, by name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Restored {
    fn new(kind: RestoredKind) -> Self {
        Self { kind, info: None, xattrs: BTreeMap::new() }
    }
}

/// Remembers what is restored, and insists on the rules of [`Exporter`]: clean
/// paths, directories before what is in them, nothing made twice.
#[derive(Clone, Debug)]
pub struct MemExporter {
    /// By path; the target itself is the empty one.
    entries: BTreeMap<Vec<u8>, Restored>,
    /// The file that was begun.
    begun: Option<(Vec<u8>, Restored)>,
    specials: bool,
}

impl MemExporter {
    /// A target that is there, and empty.
    #[must_use]
    pub fn new() -> Self {
        let target = (Vec::new(), Restored::new(RestoredKind::Directory));
        Self { entries: [target].into(), begun: None, specials: true }
    }

    /// Has no right to make devices and the like.
    #[must_use]
    pub fn without_specials(self) -> Self {
        Self { specials: false, ..self }
    }

    /// What was restored, by path relative to the target, which is the empty
    /// path.
    #[must_use]
    pub fn entries(&self) -> &BTreeMap<Vec<u8>, Restored> {
        &self.entries
    }

    /// Content of a regular file, if it was restored.
    #[must_use]
    pub fn content(&self, path: &[u8]) -> Option<&[u8]> {
        match &self.entries.get(path)?.kind {
            RestoredKind::File(content) => Some(content),
            RestoredKind::HardLink(original) => self.content(original),
            _ => None,
        }
    }

    /// Whether `path` may be made: clean, in a directory, and not there.
    fn check_new(&self, path: &[u8]) -> Result<(), TestError> {
        let components = || path.split(|&byte| byte == b'/');
        if components().any(|name| matches!(name, b"" | b"." | b"..")) || path.contains(&0) {
            return Err(TestError::Misuse("a path that is not clean"));
        }
        if self.entries.contains_key(path) {
            return Err(TestError::AlreadyExists);
        }
        let slash = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        match self.entries.get(&path[..slash]) {
            Some(Restored { kind: RestoredKind::Directory, .. }) => Ok(()),
            Some(_) => Err(TestError::Misuse("an entry in what is no directory")),
            None => Err(TestError::Misuse("an entry before its directory")),
        }
    }

    fn make(&mut self, path: &[u8], kind: RestoredKind) -> Result<&mut Restored, TestError> {
        self.check_new(path)?;
        Ok(self.entries.entry(path.to_vec()).or_insert(Restored::new(kind)))
    }

    fn begun(&mut self) -> Result<&mut Restored, TestError> {
        let begun = self.begun.as_mut().ok_or(TestError::Misuse("no file was begun"))?;
        Ok(&mut begun.1)
    }
}

impl Default for MemExporter {
    fn default() -> Self {
        Self::new()
    }
}

impl Exporter for MemExporter {
    type Error = TestError;

    fn create_directory(&mut self, path: &[u8]) -> Result<(), TestError> {
        match self.entries.get(path) {
            Some(Restored { kind: RestoredKind::Directory, .. }) => Ok(()),
            _ => self.make(path, RestoredKind::Directory).map(|_| ()),
        }
    }

    fn begin_file(&mut self, path: &[u8], size_bytes: u64) -> Result<(), TestError> {
        if self.begun.is_some() {
            return Err(TestError::Misuse("two files begun at a time"));
        }
        self.check_new(path)?;
        // A damaged record may say any size.
        let content = Vec::with_capacity(usize::try_from(size_bytes).map_or(0, |n| n.min(1 << 20)));
        self.begun = Some((path.to_vec(), Restored::new(RestoredKind::File(content))));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), TestError> {
        if let RestoredKind::File(content) = &mut self.begun()?.kind {
            content.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn set_xattr(&mut self, path: &[u8], name: &[u8], value: &[u8]) -> Result<(), TestError> {
        let entry = match &mut self.begun {
            Some((_, entry)) => entry,
            None => self.entries.get_mut(path).ok_or(TestError::NotFound)?,
        };
        entry.xattrs.insert(name.to_vec(), value.to_vec());
        Ok(())
    }

    fn finish_file(&mut self, info: Option<&FileInfo<'_>>) -> Result<(), TestError> {
        self.begun()?.info = info.map(RestoredInfo::from);
        self.entries.extend(self.begun.take());
        Ok(())
    }

    fn abandon_file(&mut self) {
        self.begun = None;
    }

    fn symbolic_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), TestError> {
        self.make(path, RestoredKind::Symlink(target.to_vec())).map(|_| ())
    }

    fn hard_link(&mut self, path: &[u8], original: &[u8]) -> Result<(), TestError> {
        if self.content(original).is_none() {
            return Err(TestError::NotFound);
        }
        self.make(path, RestoredKind::HardLink(original.to_vec())).map(|_| ())
    }

    fn special(&mut self, path: &[u8], info: &FileInfo<'_>) -> Result<bool, TestError> {
        if self.specials {
            self.make(path, RestoredKind::Special)?.info = Some(info.into());
        }
        Ok(self.specials)
    }

    fn set_attributes(&mut self, path: &[u8], info: &FileInfo<'_>) -> Result<(), TestError> {
        let entry = self.entries.get_mut(path).ok_or(TestError::NotFound)?;
        entry.info = Some(info.into());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_and_insists() {
        let mut exporter = MemExporter::new();
        let info = FileInfo { name: b"f", mode: 0o600, ..FileInfo::default() };
        for path in [&b"/d"[..], b"../d", b"d/", b"a//b", b"."] {
            assert!(matches!(exporter.create_directory(path), Err(TestError::Misuse(_))));
        }
        exporter.create_directory(b"").unwrap();
        assert!(exporter.begin_file(b"d/f", 3).is_err());
        exporter.create_directory(b"d").unwrap();
        exporter.create_directory(b"d").unwrap();
        exporter.begin_file(b"d/f", 3).unwrap();
        exporter.write(b"abc").unwrap();
        exporter.set_xattr(b"d/f", b"user.a", b"1").unwrap();
        assert_eq!(exporter.content(b"d/f"), None);
        exporter.finish_file(Some(&info)).unwrap();
        exporter.hard_link(b"g", b"d/f").unwrap();
        assert_eq!(exporter.content(b"g"), Some(&b"abc"[..]));
        let file = &exporter.entries()[&b"d/f"[..]];
        assert_eq!(file.info.as_ref().map(|info| info.mode), Some(0o600));
        assert_eq!(file.xattrs.len(), 1);

        exporter.begin_file(b"h", 0).unwrap();
        exporter.abandon_file();
        assert!(exporter.write(b"").is_err());
        assert_eq!(exporter.symbolic_link(b"g", b"x"), Err(TestError::AlreadyExists));
        exporter.symbolic_link(b"s", b"d").unwrap();
        assert!(exporter.begin_file(b"s/f", 0).is_err());
        assert_eq!(exporter.clone().without_specials().special(b"p", &info), Ok(false));
        assert_eq!(exporter.special(b"p", &info), Ok(true));
    }
}
