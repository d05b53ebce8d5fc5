//! [`FilesImporter`]: backs up a directory or a file of a server.
//!
//! Which root a path gives is as for local files: a file is backed up alone, and
//! a symbolic link stands for what it leads to. Names that no file can have, as
//! only a server that is broken or means harm lists them, become errors in the
//! snapshot, under their escaped form.

use std::fmt;

use tiroir_core::host::{HostError as _, HostErrorKind};
use tiroir_core::importer::{Attributes, Each, Importer};
use tiroir_core::time::Timestamp;
use tiroir_core::wire::mode;

use super::{EntryKind, Precision, ReadId, RemoteEntry, RemoteFiles};
use crate::error::{HostsError, Result};
use crate::fs::ignore::Ignore;

/// Links that are followed to find the root.
const LINKS_MAX: usize = 16;

/// Rights where the server tells none.
const UNKNOWN_FILE: u32 = 0o644;
const UNKNOWN_DIRECTORY: u32 = 0o755;
const UNKNOWN_LINK: u32 = 0o777;

/// A file being read.
#[derive(Clone, Copy, Debug)]
struct OpenFile {
    id: ReadId,
    position: u64,
    /// As it was inspected.
    size: i64,
    mod_time: Timestamp,
}

/// [`Importer`] of files of a server. Takes what its [`RemoteFiles`] takes.
pub struct FilesImporter {
    files: Box<dyn RemoteFiles>,
    kind: &'static str,
    origin: String,
    /// Path of what is backed up: the root, or a file in it.
    top: Vec<u8>,
    /// The directory that is backed up, or holds the one file that is.
    root: Vec<u8>,
    is_file: bool,
    ignore: Ignore,
    open: Option<OpenFile>,
}

impl fmt::Debug for FilesImporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let top = self.top.escape_ascii().to_string();
        f.debug_struct("FilesImporter").field("top", &top).finish_non_exhaustive()
    }
}

impl FilesImporter {
    /// Backs up what is at `path`, an absolute and clean one. `kind` is the name
    /// of the connector, and `origin` that of the server.
    ///
    /// # Errors
    ///
    /// Of the server; of kind *not found* if there is nothing.
    pub fn open(
        mut files: Box<dyn RemoteFiles>,
        kind: &'static str,
        origin: String,
        path: &[u8],
    ) -> Result<Self> {
        let (top, found) = follow(&mut *files, clean(path))?;
        let is_file = found.kind != EntryKind::Directory;
        let root = if is_file { parent(&top).to_vec() } else { top.clone() };
        let ignore = Ignore::default();
        Ok(Self { files, kind, origin, top, root, is_file, ignore, open: None })
    }

    /// With patterns of what is left out: it is as if it were not there.
    #[must_use]
    pub fn with_ignore(mut self, ignore: Ignore) -> Self {
        self.ignore = ignore;
        self
    }

    /// Whether the patterns leave out the root itself.
    #[must_use]
    pub fn is_root_ignored(&self) -> bool {
        self.ignore.matches_or_above(&self.top, !self.is_file)
    }

    /// Path of what is backed up.
    #[must_use]
    pub fn top(&self) -> &[u8] {
        &self.top
    }

    /// What leads on from a directory above the root.
    fn step_below(&self, directory: &[u8]) -> Option<&[u8]> {
        let rest = match directory {
            b"/" => self.top.strip_prefix(b"/")?,
            _ => self.top.strip_prefix(directory)?.strip_prefix(b"/")?,
        };
        rest.split(|byte| *byte == b'/').next().filter(|name| !name.is_empty())
    }

    fn is_at_or_below_root(&self, path: &[u8]) -> bool {
        if self.is_file {
            return path == self.top;
        }
        self.root == b"/"
            || path
                .strip_prefix(self.root.as_slice())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }
}

/// Finds what a path leads to.
fn follow(files: &mut dyn RemoteFiles, mut path: Vec<u8>) -> Result<(Vec<u8>, RemoteEntry)> {
    for _ in 0..LINKS_MAX {
        let found = match path.as_slice() {
            // Servers with their own roots may not tell anything of them.
            b"/" => RemoteEntry { kind: EntryKind::Directory, ..RemoteEntry::default() },
            path => files.inspect(path)?,
        };
        if found.kind != EntryKind::SymbolicLink {
            return Ok((path, found));
        }
        let mut target = Vec::new();
        files.read_link(&path, &mut target)?;
        path = match target.as_slice() {
            [b'/', ..] => clean(&target),
            _ => clean(&[parent(&path), b"/", &target].concat()),
        };
    }
    let rule = "links lead to links, and nowhere else";
    Err(HostsError::rule(HostErrorKind::Other, "follow", &path, rule))
}

/// An absolute path without `.`, `..` and slashes too many, by the text alone.
#[must_use]
pub fn clean(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len() + 1);
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                let end = out.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                out.truncate(end);
            }
            name => {
                out.push(b'/');
                out.extend_from_slice(name);
            }
        }
    }
    if out.is_empty() {
        out.push(b'/');
    }
    out
}

fn parent(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|byte| *byte == b'/') {
        None | Some(0) => b"/",
        Some(at) => &path[..at],
    }
}

/// Whether a file can be called that.
fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
}

/// A child in the form of a hint.
///
/// One byte for the kind, one for what is known, then what is: numbers, little
/// end first.
fn to_hint(entry: &RemoteEntry, out: &mut heapless::Vec<u8, HINT_BYTES>) {
    let kind = match entry.kind {
        EntryKind::File => b'f',
        EntryKind::Directory => b'd',
        EntryKind::SymbolicLink => b'l',
        EntryKind::Other => b'o',
    };
    let precision = match entry.precision {
        Precision::Second => 0,
        Precision::Minute => 1,
        Precision::Day => 2,
    };
    let known = u8::from(entry.size_bytes.is_some())
        | u8::from(entry.permissions.is_some()) << 1
        | u8::from(entry.mod_time.is_some()) << 2;
    let time = entry.mod_time.unwrap_or_default();
    out.clear();
    // It is as long as this.
    let _ = out.extend_from_slice(&[kind, known, precision]);
    for number in [entry.size_bytes.unwrap_or(0), entry.uid, entry.gid] {
        let _ = out.extend_from_slice(&number.to_le_bytes());
    }
    let _ = out.extend_from_slice(&time.secs.to_le_bytes());
    for number in [entry.permissions.unwrap_or(0), time.nanos] {
        let _ = out.extend_from_slice(&number.to_le_bytes());
    }
}

const HINT_BYTES: usize = 3 + 4 * 8 + 2 * 4;

/// In place of a hint: the name is not that of the server.
const NO_NAME: &[u8] = b"?";

fn from_hint(hint: &[u8]) -> Option<RemoteEntry> {
    let (&[kind, known, precision], rest) = hint.split_first_chunk()?;
    let (numbers, rest) = rest.split_first_chunk::<32>()?;
    let (more, _) = rest.split_first_chunk::<8>()?;
    let number = |at: usize| -> u64 {
        numbers[8 * at..8 * at + 8].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    };
    let small = |at: usize| -> u32 {
        more[4 * at..4 * at + 4].iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
    };
    let is_known = |bit: u8| known & bit != 0;
    Some(RemoteEntry {
        kind: match kind {
            b'f' => EntryKind::File,
            b'd' => EntryKind::Directory,
            b'l' => EntryKind::SymbolicLink,
            _ => EntryKind::Other,
        },
        size_bytes: is_known(1).then(|| number(0)),
        permissions: is_known(2).then(|| small(0)),
        mod_time: is_known(4).then(|| Timestamp { secs: number(3).cast_signed(), nanos: small(1) }),
        precision: match precision {
            0 => Precision::Second,
            1 => Precision::Minute,
            _ => Precision::Day,
        },
        uid: number(1),
        gid: number(2),
    })
}

fn fill(entry: &RemoteEntry, into: &mut Attributes) {
    let (kind, usual) = match entry.kind {
        EntryKind::File => (0, UNKNOWN_FILE),
        EntryKind::Directory => (mode::DIRECTORY, UNKNOWN_DIRECTORY),
        EntryKind::SymbolicLink => (mode::SYMLINK, UNKNOWN_LINK),
        EntryKind::Other => (mode::IRREGULAR, UNKNOWN_FILE),
    };
    into.mode = kind | mode::from_unix(0o100_000 | entry.permissions.unwrap_or(usual));
    into.size = i64::try_from(entry.size_bytes.unwrap_or(0)).unwrap_or(i64::MAX);
    into.mod_time = entry.mod_time.unwrap_or_default();
    into.mod_time_blind_secs = entry.precision.blind_secs();
    (into.uid, into.gid) = (entry.uid, entry.gid);
    into.nlink = 1;
}

impl Importer for FilesImporter {
    type Error = HostsError;

    fn kind(&self) -> &str {
        self.kind
    }

    fn origin(&self) -> &str {
        &self.origin
    }

    fn root(&self) -> &[u8] {
        &self.root
    }

    fn list(&mut self, directory: &[u8], each: &mut Each<'_, HostsError>) -> Result<()> {
        if !self.is_at_or_below_root(directory) || self.is_file {
            return match self.step_below(directory) {
                Some(name) if self.is_root_ignored() && directory == parent(&self.top) => {
                    let _ = name;
                    Ok(())
                }
                Some(name) => each(name, &[]),
                None => Err(outside(directory)),
            };
        }
        let Self { files, ignore, .. } = self;
        let mut path = directory.to_vec();
        if path != b"/" {
            path.push(b'/');
        }
        let directory_bytes = path.len();
        let mut hint = heapless::Vec::new();
        files.list(directory, &mut |name, entry| {
            if !is_name(name) {
                let shown = name.escape_ascii().to_string().replace('/', "\\x2f");
                let shown = if shown.is_empty() { "(empty)" } else { &shown };
                return each(format!("name refused: {shown}").as_bytes(), NO_NAME);
            }
            path.truncate(directory_bytes);
            path.extend_from_slice(name);
            if !ignore.is_empty() && ignore.matches(&path, entry.kind == EntryKind::Directory) {
                return Ok(());
            }
            to_hint(entry, &mut hint);
            each(name, &hint)
        })
    }

    fn stat(&mut self, path: &[u8], hint: &[u8], into: &mut Attributes) -> Result<()> {
        *into = Attributes::default();
        if hint == NO_NAME {
            let rule = "the server lists a name that no file can have";
            return Err(HostsError::rule(HostErrorKind::Other, "inspect", path, rule));
        }
        if !self.is_at_or_below_root(path) {
            if path != b"/" && self.step_below(path).is_none() {
                return Err(outside(path));
            }
            // Above the root much may be forbidden.
            let usual = RemoteEntry { kind: EntryKind::Directory, ..RemoteEntry::default() };
            let found = self.files.inspect(path).ok();
            let found = found.filter(|found| found.kind == EntryKind::Directory);
            fill(&found.unwrap_or(usual), into);
            return Ok(());
        }
        let entry = match from_hint(hint) {
            Some(entry) => entry,
            None => match self.files.inspect(path) {
                // Servers with their own roots may not tell anything of them.
                Err(error) if path == b"/" && error.kind() != HostErrorKind::PermissionDenied => {
                    RemoteEntry { kind: EntryKind::Directory, ..RemoteEntry::default() }
                }
                other => other?,
            },
        };
        fill(&entry, into);
        if entry.kind == EntryKind::SymbolicLink {
            let mut target = Vec::new();
            self.files.read_link(path, &mut target)?;
            into.link_target.extend_from_slice(&target).map_err(|_| {
                let rule = "its target is longer than is kept";
                HostsError::rule(HostErrorKind::Other, "read link", path, rule)
            })?;
        }
        Ok(())
    }

    fn foresee(&mut self, path: &[u8], hint: &[u8], into: &mut Attributes) -> bool {
        *into = Attributes::default();
        let file = from_hint(hint).filter(|entry| entry.kind == EntryKind::File);
        let file = file.filter(|_| self.is_at_or_below_root(path));
        file.is_some_and(|entry| {
            fill(&entry, into);
            true
        })
    }

    fn open(&mut self, path: &[u8], expected: &Attributes) -> Result<()> {
        self.close();
        let id = self.files.open(path)?;
        let (size, mod_time) = (expected.size, expected.mod_time);
        self.open = Some(OpenFile { id, position: 0, size, mod_time });
        Ok(())
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let Some(open) = &mut self.open else {
            return Err(HostsError::rule(HostErrorKind::Other, "read", b"", "no file is open"));
        };
        let read = self.files.read(open.id, open.position, into)?;
        open.position += read as u64;
        Ok(read)
    }

    fn changed(&mut self) -> Result<bool> {
        let Some(open) = &self.open else { return Ok(false) };
        let now = self.files.inspect_open(open.id)?;
        let size = now.size_bytes.and_then(|size| i64::try_from(size).ok());
        let is_other_size = size.is_some_and(|size| size != open.size);
        let is_other_time = now.mod_time.is_some_and(|time| time.secs != open.mod_time.secs);
        Ok(is_other_size || (is_other_time && now.precision == Precision::Second))
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.files.close(open.id);
        }
    }

    fn xattr_names(&mut self, _path: &[u8], _into: &mut [u8]) -> Result<usize> {
        Ok(0)
    }

    fn xattr(&mut self, path: &[u8], _name: &[u8], _into: &mut [u8]) -> Result<usize> {
        Err(outside(path))
    }
}

fn outside(path: &[u8]) -> HostsError {
    let rule = "it is not part of what is backed up";
    HostsError::rule(HostErrorKind::NotFound, "inspect", path, rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_both_ways() {
        let full = RemoteEntry {
            kind: EntryKind::SymbolicLink,
            size_bytes: Some(u64::MAX - 5),
            permissions: Some(0o7751),
            mod_time: Some(Timestamp { secs: -7, nanos: 999 }),
            precision: Precision::Day,
            uid: 1 << 33,
            gid: 42,
        };
        let mut hint = heapless::Vec::new();
        for entry in [full, RemoteEntry::default()] {
            to_hint(&entry, &mut hint);
            assert_eq!(hint.len(), HINT_BYTES);
            assert_eq!(from_hint(&hint), Some(entry));
        }
        assert_eq!(from_hint(b""), None);
        assert_eq!(from_hint(NO_NAME), None);
    }

    #[test]
    fn paths_are_cleaned() {
        for (path, wanted) in
            [("", "/"), ("a//b/./c/../d/", "/a/b/d"), ("/../..", "/"), ("/a/..", "/")]
        {
            assert_eq!(clean(path.as_bytes()), wanted.as_bytes(), "{path}");
        }
        assert_eq!(parent(b"/a"), b"/");
        assert_eq!(parent(b"/a/b"), b"/a");
    }

    #[test]
    fn names_that_can_be() {
        assert!(is_name(b"a\nb") && is_name(b"\xff") && is_name(b"-"));
        for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0"] {
            assert!(!is_name(name));
        }
    }

    #[test]
    fn times_that_hide_changes() {
        for (precision, blind_secs) in [
            (Precision::Second, 0),
            (Precision::Minute, 14 * 3600 + 60),
            (Precision::Day, 38 * 3600),
        ] {
            let mut attributes = Attributes::default();
            fill(&RemoteEntry { precision, ..RemoteEntry::default() }, &mut attributes);
            assert_eq!(attributes.mod_time_blind_secs, blind_secs, "{precision:?}");
        }
    }
}
