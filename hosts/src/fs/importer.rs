//! [`FsImporter`]: backs up a directory or a file of a local file system.
//!
//! What is below the root is reached from the root's descriptor, one component
//! after the other, and no symbolic link is ever followed. Above the root only
//! the way to it is shown, with the attributes that those directories have.
//!
//! Which root a path gives, as in stock unless said otherwise:
//!
//! - relative paths start in the current directory; `.`, `..` and slashes too
//!   many are cleaned without looking at the disk;
//! - a file is backed up alone, and the root is its directory;
//! - a symbolic link is shown as what it is, and what it leads to is backed up
//!   under its own path. Stock calls the directory of the link the root, so
//!   that `restore` brings back the link alone; here the root is the target;
//! - a symbolic link on the way to the root is shown as a directory.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use rustix::fs::{Advice, AtFlags, FileType, Mode, OFlags, RawDir, Stat};
use rustix::io::Errno;
use tiroir_core::host::HostErrorKind;
use tiroir_core::importer::{Attributes, Each, Importer};
use tiroir_core::limits::LINK_BYTES_MAX;
use tiroir_core::time::Timestamp;
use tiroir_core::wire::mode;

use super::accounts::Accounts;
use super::beneath::{Beneath, stat_passed};
use super::ignore::Ignore;
use super::xattr;
use crate::error::{Context as _, HostsError, Result};

/// Bytes of a directory read at once.
const LIST_BYTES: usize = 32 * 1024;

/// Rights of a directory above the root that cannot be inspected, as in stock.
const UNKNOWN_DIRECTORY: u32 = mode::DIRECTORY | 0o755;

/// Where a path lies, seen from the root.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Position<'p> {
    /// The root (an empty path) or below: a path from the base.
    Below(&'p [u8]),
    /// A directory that leads to the root, or to the link that was given.
    Above,
    /// The link that was given in place of the root.
    Link,
    /// Elsewhere.
    Outside,
}

/// A file being read.
#[derive(Debug)]
struct OpenFile {
    file: File,
    path: Vec<u8>,
    /// What the file was when it was opened.
    opened: Stat,
    /// It was another one, or had another content, when it was inspected.
    replaced: bool,
}

/// [`Importer`] of a local file system.
///
/// Takes 32 KiB for listings, a few names of users and groups, and three
/// descriptors.
pub struct FsImporter {
    /// The root, or the directory of the file that is backed up.
    base_path: Vec<u8>,
    beneath: Beneath,
    /// The file that is backed up, if it is one.
    only: Option<Vec<u8>>,
    /// Path of what is backed up: the base, or the file in it.
    top: Vec<u8>,
    /// A symbolic link that was given, and led to the root.
    link: Option<Vec<u8>>,
    origin: String,
    /// Device to stay on.
    device: Option<u64>,
    ignore: Ignore,
    /// The root itself is left out, and all with it.
    root_ignored: bool,
    has_proc: bool,
    /// The kernel has not refused to list extended attributes by descriptor.
    lists_xattrs_at: bool,
    accounts: Accounts,
    open: Option<OpenFile>,
    list_buffer: Vec<MaybeUninit<u8>>,
}

impl FsImporter {
    /// Backs up what `path` names; the module says how it is understood.
    ///
    /// # Errors
    ///
    /// Of the system; of kind *not found* if there is nothing.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let given = absolute(path.as_ref())?;
        let data = fs::symlink_metadata(&given).at("inspect", &given)?;
        let (top, link) = if data.is_symlink() {
            let target = fs::canonicalize(&given).at("follow", &given)?;
            (target, Some(given.into_os_string().into_vec()))
        } else {
            (given, None)
        };
        let is_directory = fs::metadata(&top).at("inspect", &top)?.is_dir();
        let (base, only) = match (is_directory, top.parent(), top.file_name()) {
            (false, Some(parent), Some(name)) => (parent, Some(name.as_bytes().to_vec())),
            _ => (&*top, None),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(base, flags, Mode::empty()).at("open", base)?;
        Ok(Self {
            base_path: base.as_os_str().as_bytes().to_vec(),
            beneath: Beneath::new(opened),
            only,
            top: top.into_os_string().into_vec(),
            link,
            origin: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            device: None,
            ignore: Ignore::default(),
            root_ignored: false,
            has_proc: fs::metadata("/proc/self/fd").is_ok(),
            lists_xattrs_at: true,
            accounts: Accounts::new(),
            open: None,
            list_buffer: Vec::new(),
        })
    }

    /// Whether to stay on the file system of the root. A directory that lies on
    /// another one is then shown as empty, so that a restore makes the mount
    /// point; stock's `dont_traverse_fs` leaves it out altogether.
    ///
    /// # Errors
    ///
    /// Of the system.
    pub fn with_one_file_system(mut self, only_one: bool) -> Result<Self> {
        let stat = stat_passed(self.beneath.base()).at_bytes("inspect", &self.base_path)?;
        self.device = only_one.then(|| device_of(&stat));
        Ok(self)
    }

    /// With patterns of what is left out: it is as if it were not there.
    #[must_use]
    pub fn with_ignore(mut self, ignore: Ignore) -> Self {
        self.root_ignored = ignore.matches_or_above(&self.top, self.only.is_none());
        self.ignore = ignore;
        self
    }

    /// Whether the patterns leave out the root itself, so that nothing will be
    /// backed up. Stock does so without a word; the user should be told.
    #[must_use]
    pub fn is_root_ignored(&self) -> bool {
        self.root_ignored
    }

    /// Path of what is backed up.
    #[must_use]
    pub fn top(&self) -> &[u8] {
        &self.top
    }

    pub(super) fn position<'p>(&self, path: &'p [u8]) -> Position<'p> {
        let below = match below(&self.base_path, path) {
            Some(rest) if self.only.is_none() || self.only.as_deref() == Some(rest) => Some(rest),
            _ => None,
        };
        if let Some(rest) = below {
            return Position::Below(rest);
        }
        if self.link.as_deref() == Some(path) {
            return Position::Link;
        }
        let mut tops = [Some(&self.top), self.link.as_ref()].into_iter().flatten();
        if tops.any(|top| below_strictly(path, top).is_some()) {
            Position::Above
        } else {
            Position::Outside
        }
    }

    /// Gives back the memory and the descriptor that are kept from one
    /// directory to the next.
    pub(super) fn forget_listing(&mut self) {
        self.list_buffer = Vec::new();
        self.beneath.forget();
    }

    /// Lists a directory above the root: what leads on.
    fn list_above(&self, directory: &[u8], each: &mut Each<'_, HostsError>) -> Result<()> {
        let mut last = None;
        for top in [Some(&self.top), self.link.as_ref()].into_iter().flatten() {
            let Some(rest) = below_strictly(directory, top) else { continue };
            let name = rest.split(|&byte| byte == b'/').next().unwrap_or_default();
            let hidden = self.root_ignored && name == rest && *top == self.top;
            if !hidden && last != Some(name) {
                each(name, &[])?;
                last = Some(name);
            }
        }
        Ok(())
    }

    /// Opens a directory at or below the root.
    fn open_directory(&mut self, path: &[u8], rest: &[u8]) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = if rest.is_empty() {
            rustix::fs::openat(self.beneath.base(), ".", flags, Mode::empty())
        } else {
            self.beneath.place(rest).and_then(|place| {
                rustix::fs::openat(place.parent, place.name, flags, Mode::empty())
            })
        };
        opened.at_bytes("open directory", path)
    }

    /// Lists a directory at or below the root.
    fn list_below(
        &mut self,
        directory: &[u8],
        rest: &[u8],
        each: &mut Each<'_, HostsError>,
    ) -> Result<()> {
        if rest.is_empty() && self.root_ignored {
            return Ok(());
        }
        let opened = self.open_directory(directory, rest)?;
        if let Some(device) = self.device {
            let stat = rustix::fs::fstat(&opened).at_bytes("inspect", directory)?;
            if device_of(&stat) != device {
                return Ok(());
            }
        }
        let mut buffer = std::mem::take(&mut self.list_buffer);
        buffer.resize(LIST_BYTES, MaybeUninit::uninit());
        let listed = self.list_opened(directory, &opened, &mut buffer, each);
        self.list_buffer = buffer;
        listed
    }

    fn list_opened(
        &self,
        directory: &[u8],
        opened: &OwnedFd,
        buffer: &mut [MaybeUninit<u8>],
        each: &mut Each<'_, HostsError>,
    ) -> Result<()> {
        let mut path = directory.to_vec();
        if path != b"/" {
            path.push(b'/');
        }
        let directory_bytes = path.len();
        let mut entries = RawDir::new(opened, buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.at_bytes("read directory", directory)?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            path.truncate(directory_bytes);
            path.extend_from_slice(name);
            if !self.is_ignored(&path, name, entry.file_type(), opened) {
                each(name, &[])?;
            }
        }
        Ok(())
    }

    fn is_ignored(&self, path: &[u8], name: &[u8], kind: FileType, parent: &OwnedFd) -> bool {
        if self.ignore.is_empty() {
            return false;
        }
        let is_directory = match kind {
            // Some file systems do not tell.
            FileType::Unknown => rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
            kind => kind == FileType::Directory,
        };
        self.ignore.matches(path, is_directory)
    }

    /// Attributes of an entry at or below the root.
    fn stat_below(&mut self, path: &[u8], rest: &[u8], into: &mut Attributes) -> Result<()> {
        if rest.is_empty() {
            let stat = stat_passed(self.beneath.base()).at_bytes("inspect", path)?;
            fill(&stat, into);
        } else {
            let place = self.beneath.place(rest).at_bytes("inspect", path)?;
            let stat = rustix::fs::statat(place.parent, place.name, AtFlags::SYMLINK_NOFOLLOW)
                .at_bytes("inspect", path)?;
            fill(&stat, into);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                let mut buffer = [MaybeUninit::uninit(); LINK_BYTES_MAX + 1];
                let (target, _) =
                    rustix::fs::readlinkat_raw(place.parent, place.name, &mut buffer[..])
                        .at_bytes("read link", path)?;
                set_target(path, target, into)?;
            }
        }
        self.fill_names(into);
        Ok(())
    }

    fn fill_names(&mut self, into: &mut Attributes) {
        // They fit: names that are longer are not looked up.
        let uid = u32::try_from(into.uid).unwrap_or(u32::MAX);
        let _ = into.username.extend_from_slice(self.accounts.user(uid));
        let gid = u32::try_from(into.gid).unwrap_or(u32::MAX);
        let _ = into.groupname.extend_from_slice(self.accounts.group(gid));
    }

    /// Attributes of a directory above the root. As in stock, without names.
    fn stat_above(path: &[u8], into: &mut Attributes) {
        match rustix::fs::stat(path) {
            Ok(stat) => fill(&stat, into),
            Err(_) => {
                *into = Attributes { mode: UNKNOWN_DIRECTORY, nlink: 1, ..Attributes::default() };
            }
        }
    }

    /// Attributes of the link that was given in place of the root.
    fn stat_link(&mut self, path: &[u8], into: &mut Attributes) -> Result<()> {
        let stat = rustix::fs::lstat(path).at_bytes("inspect", path)?;
        fill(&stat, into);
        let target = rustix::fs::readlink(path, Vec::new()).at_bytes("read link", path)?;
        set_target(path, target.as_bytes(), into)?;
        self.fill_names(into);
        Ok(())
    }

    /// Opens a file to be read, without changing when it was read last if we
    /// may: that is for its owner and for root.
    fn open_file(&mut self, path: &[u8], rest: &[u8]) -> Result<File> {
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let place = self.beneath.place(rest).at_bytes("open", path)?;
        let open = |flags| rustix::fs::openat(place.parent, place.name, flags, Mode::empty());
        let opened = match open(flags | OFlags::NOATIME) {
            Err(Errno::PERM) => open(flags),
            other => other,
        };
        Ok(opened.at_bytes("open", path)?.into())
    }

    /// Lists extended attributes without a detour, where the kernel can and what
    /// is asked of lies below the root.
    fn list_xattrs_at(
        &mut self,
        path: &[u8],
        into: &mut [u8],
    ) -> Option<rustix::io::Result<usize>> {
        if !self.lists_xattrs_at {
            return None;
        }
        let rest = match self.position(path) {
            Position::Below(rest) if !rest.is_empty() => rest,
            _ => return None,
        };
        let place = self.beneath.place(rest).ok()?;
        match xattr::list_at(place.parent, place.name, into) {
            // The kernel does not know the call, or is told to seem so. Whoever
            // is really not permitted learns it from the other call.
            Err(Errno::NOSYS | Errno::PERM) => {
                self.lists_xattrs_at = false;
                None
            }
            listed => Some(listed),
        }
    }

    /// A path for the system calls that take no descriptor, or nothing above
    /// the root.
    fn call_path(&mut self, path: &[u8]) -> Result<Option<Vec<u8>>> {
        let rest = match self.position(path) {
            Position::Below(rest) => rest,
            Position::Above => return Ok(None),
            Position::Link => return Ok(Some(path.to_vec())),
            Position::Outside => return Err(outside(path)),
        };
        if !self.has_proc {
            // A link that is put in the way just now would be followed: there is
            // no other way without /proc.
            return Ok(Some(path.to_vec()));
        }
        if rest.is_empty() {
            return Ok(Some(self.beneath.base_call_path()));
        }
        Ok(Some(self.beneath.place(rest).at_bytes("inspect", path)?.path()))
    }
}

impl Importer for FsImporter {
    type Error = HostsError;

    fn kind(&self) -> &str {
        "fs"
    }

    fn origin(&self) -> &str {
        &self.origin
    }

    fn root(&self) -> &[u8] {
        &self.base_path
    }

    fn list(&mut self, directory: &[u8], each: &mut Each<'_, HostsError>) -> Result<()> {
        match self.position(directory) {
            Position::Below(rest) => self.list_below(directory, rest, each),
            Position::Above => self.list_above(directory, each),
            Position::Link | Position::Outside => Err(outside(directory)),
        }
    }

    fn stat(&mut self, path: &[u8], _hint: &[u8], into: &mut Attributes) -> Result<()> {
        match self.position(path) {
            Position::Below(rest) => self.stat_below(path, rest, into),
            Position::Above => {
                Self::stat_above(path, into);
                Ok(())
            }
            Position::Link => self.stat_link(path, into),
            Position::Outside => Err(outside(path)),
        }
    }

    fn open(&mut self, path: &[u8], expected: &Attributes) -> Result<()> {
        self.close();
        let rest = match self.position(path) {
            Position::Below(rest) if !rest.is_empty() => rest,
            _ => return Err(outside(path)),
        };
        let file = self.open_file(path, rest)?;
        let opened = rustix::fs::fstat(&file).at_bytes("inspect", path)?;
        if FileType::from_raw_mode(opened.st_mode) != FileType::RegularFile {
            let rule = "it is no longer a regular file";
            return Err(HostsError::rule(HostErrorKind::Other, "open", path, rule));
        }
        // A hint, and one that some file systems do not take.
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::Sequential);
        let mut now = Attributes::default();
        fill(&opened, &mut now);
        let replaced = (now.dev, now.ino, now.size, now.mod_time)
            != (expected.dev, expected.ino, expected.size, expected.mod_time);
        self.open = Some(OpenFile { file, path: path.to_vec(), opened, replaced });
        Ok(())
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let Some(open) = &mut self.open else { return Err(none_open()) };
        loop {
            match open.file.read(into) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.at_bytes("read", &open.path),
            }
        }
    }

    fn changed(&mut self) -> Result<bool> {
        let Some(open) = &self.open else { return Err(none_open()) };
        let now = rustix::fs::fstat(&open.file).at_bytes("inspect", &open.path)?;
        Ok(open.replaced || times_and_size(&now) != times_and_size(&open.opened))
    }

    fn close(&mut self) {
        self.open = None;
    }

    fn xattr_names(&mut self, path: &[u8], into: &mut [u8]) -> Result<usize> {
        let listed = match self.list_xattrs_at(path, into) {
            Some(listed) => listed,
            None => {
                let Some(call_path) = self.call_path(path)? else { return Ok(0) };
                rustix::fs::llistxattr(&call_path[..], into)
            }
        };
        match listed {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(0),
            Err(Errno::RANGE | Errno::TOOBIG) => Err(too_long(path)),
            other => other.at_bytes("list extended attributes of", path),
        }
    }

    fn xattr(&mut self, path: &[u8], name: &[u8], into: &mut [u8]) -> Result<usize> {
        let Some(call_path) = self.call_path(path)? else { return Ok(0) };
        match rustix::fs::lgetxattr(&call_path[..], name, into) {
            Err(Errno::RANGE | Errno::TOOBIG) => Err(too_long(path)),
            other => other.at_bytes("read an extended attribute of", path),
        }
    }
}

impl fmt::Debug for FsImporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FsImporter")
            .field("top", &OsStr::from_bytes(&self.top))
            .field("link", &self.link.as_deref().map(OsStr::from_bytes))
            .finish_non_exhaustive()
    }
}

/// The rest of `path` below `directory`, empty if they are the same.
fn below<'p>(directory: &[u8], path: &'p [u8]) -> Option<&'p [u8]> {
    if path == directory { Some(&path[..0]) } else { below_strictly(directory, path) }
}

/// The rest of `path` below `directory`, if it lies there.
fn below_strictly<'p>(directory: &[u8], path: &'p [u8]) -> Option<&'p [u8]> {
    let directory = directory.strip_suffix(b"/").unwrap_or(directory);
    path.strip_prefix(directory)?.strip_prefix(b"/").filter(|rest| !rest.is_empty())
}

/// An absolute path without `.`, `..` and slashes too many, as Go cleans it:
/// by the text alone.
fn absolute(path: &Path) -> Result<std::path::PathBuf> {
    let mut whole = if path.is_absolute() {
        std::path::PathBuf::new()
    } else {
        std::env::current_dir().at("find the current directory for", path)?
    };
    whole.push(path);
    let mut clean = Vec::with_capacity(whole.as_os_str().len());
    for component in whole.as_os_str().as_bytes().split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                let parent = clean.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                clean.truncate(parent);
            }
            name => {
                clean.push(b'/');
                clean.extend_from_slice(name);
            }
        }
    }
    if clean.is_empty() {
        clean.push(b'/');
    }
    Ok(std::ffi::OsString::from_vec(clean).into())
}

/// Fills everything but names and target.
///
/// The fields of `Stat` have other types on every architecture.
#[allow(
    clippy::unnecessary_cast,
    clippy::cast_possible_truncation,
    reason = "none loses anything: sizes are below 2^63, nanoseconds below 10^9"
)]
fn fill(stat: &Stat, into: &mut Attributes) {
    into.size = stat.st_size as i64;
    into.mode = mode::from_unix(stat.st_mode as u32);
    into.mod_time = Timestamp { secs: stat.st_mtime as i64, nanos: stat.st_mtime_nsec as u32 };
    into.dev = stat.st_dev as u64;
    into.ino = stat.st_ino as u64;
    into.uid = u64::from(stat.st_uid);
    into.gid = u64::from(stat.st_gid);
    into.nlink = stat.st_nlink as u64;
    into.username.clear();
    into.groupname.clear();
    into.link_target.clear();
}

#[allow(clippy::unnecessary_cast, reason = "see `fill`")]
fn device_of(stat: &Stat) -> u64 {
    stat.st_dev as u64
}

/// What changes when somebody writes to a file.
#[allow(clippy::unnecessary_cast, reason = "see `fill`")]
fn times_and_size(stat: &Stat) -> [i64; 5] {
    [
        stat.st_size as i64,
        stat.st_mtime as i64,
        stat.st_mtime_nsec as i64,
        stat.st_ctime as i64,
        stat.st_ctime_nsec as i64,
    ]
}

fn set_target(path: &[u8], target: &[u8], into: &mut Attributes) -> Result<()> {
    into.link_target.extend_from_slice(target).map_err(|_| {
        let rule = "its target is longer than is kept";
        HostsError::rule(HostErrorKind::Other, "read link", path, rule)
    })
}

pub(super) fn outside(path: &[u8]) -> HostsError {
    let rule = "it is not part of what is backed up";
    HostsError::rule(HostErrorKind::NotFound, "inspect", path, rule)
}

fn none_open() -> HostsError {
    HostsError::rule(HostErrorKind::Other, "read", b"", "no file is open")
}

fn too_long(path: &[u8]) -> HostsError {
    let rule = "they are longer than is kept";
    HostsError::rule(HostErrorKind::Other, "read extended attributes of", path, rule)
}
