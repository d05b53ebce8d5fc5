//! [`FsExporter`]: restores into a directory of a local file system.
//!
//! Every path is walked from the descriptor of the target, one component after
//! the other, and no symbolic link is followed: whatever a snapshot holds, or
//! somebody plants below the target meanwhile, nothing outside is touched.
//!
//! What is there already: directories are kept, everything else gives way to
//! what is restored, in one step, by a rename. Stock does so for files, and
//! fails for symbolic links; here a restore can be run again. A directory never
//! gives way to something else.
//!
//! Owners are set by root only, of files too (stock sets those of directories
//! and links alone). A set-user-ID bit is only restored to a file whose owner is
//! the one recorded: it would grant the rights of somebody else. What a file
//! system cannot keep is told once and passed over: owners, modes, times,
//! attributes, and that several names are one file. An entry that it cannot have
//! at all is an error: a link, a name, a file that is too long, and two names
//! that it takes for one.
//!
//! Files are not synced one by one, which would take hours on a disk of a
//! router: [`FsExporter::finish`] syncs the whole file system once, at the end.
//! Until then a power cut may leave empty or short files under their names.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use tiroir_core::exporter::Exporter;
use tiroir_core::host::{HostError as _, HostErrorKind};
use tiroir_core::wire::file_info::FileInfo;
use tiroir_core::wire::mode;

use super::beneath::{Beneath, stat_passed};
use super::kept::Kept;
pub use super::kept::Told;
use super::names::{self, Found};
use super::new_file::NewFile;
use crate::env::random_suffix;
use crate::error::{Context as _, HostsError, Result};
use crate::warn::Warnings;

/// The attribute that a change of owner removes.
const CAPABILITY: &[u8] = b"security.capability";

/// Opens a directory that may stand nowhere else.
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// [`Exporter`] into a directory.
pub struct FsExporter {
    target: PathBuf,
    beneath: Beneath,
    file: Option<NewFile>,
    is_root: bool,
    skip_permissions: bool,
    /// Start of the names of files that are not finished, and their number.
    temporary: String,
    temporaries: u64,
    warnings: Warnings,
    told: Told,
}

impl FsExporter {
    /// Restores into the directory `target`. It is made if it is not there, but
    /// not the one that it lies in.
    ///
    /// # Errors
    ///
    /// Of the system.
    pub fn open(target: impl Into<PathBuf>) -> Result<Self> {
        let target = target.into();
        match rustix::fs::mkdir(&target, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).at("make directory", &target),
        }
        // The one link that is followed is what the user named.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let base = rustix::fs::open(&target, flags, Mode::empty()).at("open directory", &target)?;
        Ok(Self {
            target,
            beneath: Beneath::new(base),
            file: None,
            is_root: rustix::process::geteuid().is_root(),
            skip_permissions: false,
            temporary: format!(".tiroir-{}", random_suffix()?),
            temporaries: 0,
            warnings: Warnings::default(),
            told: Told::default(),
        })
    }

    /// Whether owners and modes are left as the system makes them.
    #[must_use]
    pub fn with_skip_permissions(mut self, skip: bool) -> Self {
        self.skip_permissions = skip;
        self
    }

    /// With a receiver of warnings.
    #[must_use]
    pub fn with_warnings(mut self, receiver: impl FnMut(&str) + Send + 'static) -> Self {
        self.warnings = Warnings::new(receiver);
        self
    }

    /// With what other exporters into the same place have said already.
    #[must_use]
    pub fn with_told(mut self, told: Told) -> Self {
        self.told = told;
        self
    }

    /// Syncs everything that was restored. Call it once, at the end: before it
    /// returns, nothing is sure to outlast a power cut.
    ///
    /// # Errors
    ///
    /// Of the system. On kernels before 5.8 a failed write may go unnoticed.
    pub fn finish(&mut self) -> Result<()> {
        match rustix::fs::syncfs(self.beneath.base()) {
            Err(Errno::NOSYS) => {
                rustix::fs::sync();
                Ok(())
            }
            other => other.at("sync", &self.target),
        }
    }

    /// The path of the system that `path` stands for, for messages.
    fn shown(&self, path: &[u8]) -> PathBuf {
        self.target.join(std::ffi::OsStr::from_bytes(path))
    }

    fn rule(&self, operation: &'static str, path: &[u8], rule: &'static str) -> HostsError {
        let shown = self.shown(path);
        let shown = shown.as_os_str().as_bytes();
        HostsError::rule(HostErrorKind::Other, operation, shown, rule)
    }

    /// Rights of something new, while it is not finished.
    fn new_mode(&self, is_directory: bool) -> Mode {
        match (self.skip_permissions, is_directory) {
            // The umask takes from these.
            (true, true) => Mode::from_raw_mode(0o777),
            (true, false) => Mode::from_raw_mode(0o666),
            (false, true) => Mode::RWXU,
            (false, false) => Mode::RUSR | Mode::WUSR,
        }
    }

    /// Passes over what the file system cannot keep, and says so once.
    fn tolerate(&mut self, kept: Kept, result: rustix::io::Result<()>) -> rustix::io::Result<()> {
        // What FAT, exFAT and network mounts answer.
        let Err(Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) = result else {
            return result;
        };
        self.tell(kept);
        Ok(())
    }

    /// Says once what the file system cannot keep.
    fn tell(&mut self, kept: Kept) {
        if self.told.tell(kept) {
            self.warnings.warn(&format!("{} in {}", kept.lack(), self.target.display()));
        }
    }

    /// Turns an error into one that says what the file system cannot do.
    fn explain(&self, operation: &'static str, path: &[u8], error: io::Error) -> HostsError {
        let errno = Errno::from_io_error(&error);
        let rule = match errno {
            Some(Errno::INVAL | Errno::ILSEQ | Errno::NOENT) => {
                names::why_invalid(last_component(path))
            }
            Some(Errno::FBIG) => Some(TOO_LONG),
            // FAT finds no `é` for `É`, and yet cannot have both.
            Some(Errno::EXIST) => Some(RESPELT),
            _ => None,
        };
        match rule {
            Some(rule) => self.rule(operation, path, rule),
            None => HostsError::io(operation, self.shown(path), error),
        }
    }

    /// Renames what is finished to its name, over what is there.
    fn put(&mut self, parent: BorrowedFd<'_>, temporary: &str, path: &[u8]) -> Result<()> {
        let (name, temporary) = (last_component(path), temporary.as_bytes());
        let new = RenameFlags::NOREPLACE;
        let renamed = match rustix::fs::renameat_with(parent, temporary, parent, name, new) {
            // Kernels before 3.15, and file systems that do not know the flag, if
            // not the name.
            Err(Errno::EXIST | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP) => {
                self.refuse_respelt("replace", parent, path)?;
                rustix::fs::renameat(parent, temporary, parent, name)
            }
            other => other,
        };
        renamed.map_err(|error| self.explain("make", path, error.into()))?;
        self.note_cut(parent, path);
        Ok(())
    }

    /// An error if what has the name of `path` has another one really.
    fn refuse_respelt(
        &self,
        operation: &'static str,
        parent: BorrowedFd<'_>,
        path: &[u8],
    ) -> Result<()> {
        match names::find(parent, last_component(path)).at("inspect", self.shown(path))? {
            Found::Nothing | Found::Same => Ok(()),
            Found::Respelt => Err(self.rule(operation, path, RESPELT)),
        }
    }

    /// Says so where the file system dropped the end of a name.
    fn note_cut(&mut self, parent: BorrowedFd<'_>, path: &[u8]) {
        if names::was_cut(parent, last_component(path)).unwrap_or(false) {
            let shown = self.shown(path);
            self.warnings.warn(&format!(
                "{} is kept without the dots at its end: the file system drops them",
                shown.display()
            ));
        }
    }

    /// A name for something that is not finished, which nothing else has.
    fn temporary_name(&mut self) -> String {
        self.temporaries += 1;
        format!("{}-{:x}", self.temporary, self.temporaries)
    }

    /// Sets the owner of what has `stat`, and returns what it has then.
    fn set_owner(
        &mut self,
        fd: BorrowedFd<'_>,
        stat: Stat,
        info: &FileInfo<'_>,
    ) -> rustix::io::Result<Stat> {
        let (Some((uid, gid)), true) = (owner(info), self.is_root) else { return Ok(stat) };
        // Most belong to whoever restores them: that needs no call.
        if (stat.st_uid, stat.st_gid) == (uid.as_raw(), gid.as_raw()) {
            return Ok(stat);
        }
        // Works for what is only named by its descriptor, too.
        let changed = rustix::fs::chownat(fd, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH);
        self.tolerate(Kept::Owner, changed)?;
        stat_passed(fd)
    }

    /// Gives an open file or directory all that `info` says.
    fn set_all(&mut self, fd: BorrowedFd<'_>, info: &FileInfo<'_>) -> rustix::io::Result<()> {
        if !self.skip_permissions {
            let stat = self.set_owner(fd, rustix::fs::fstat(fd)?, info)?;
            let mode = allowed_mode(&stat, info);
            if mode != to_mode(raw_mode(&stat)) {
                let changed = rustix::fs::fchmod(fd, mode);
                self.tolerate(Kept::Mode, changed)?;
            }
        }
        let changed = crate::times::set(fd, &times(info));
        self.tolerate(Kept::Times, changed)
    }

    /// Gives a link, fifo or the like all that `info` says.
    fn set_all_by_name(&mut self, path: &[u8], info: &FileInfo<'_>) -> rustix::io::Result<()> {
        let place = self.beneath.place(path)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(place.parent, place.name, flags, Mode::empty())?;
        let stat = stat_passed(fd.as_fd())?;
        if mode::from_unix(raw_mode(&stat)) & mode::TYPE != info.mode & mode::TYPE {
            // Somebody put something else there.
            return Err(Errno::STALE);
        }
        if !self.skip_permissions {
            self.set_owner(fd.as_fd(), stat, info)?;
            if info.mode & mode::SYMLINK == 0 {
                let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
                let changed = rustix::fs::chmod(path, allowed_mode(&stat, info));
                self.tolerate(Kept::Mode, changed)?;
            }
        }
        let place = self.beneath.place(path)?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let changed = crate::times::set_at(place.parent, place.name, &times(info), flags);
        self.tolerate(Kept::Times, changed)
    }

    /// Opens a directory, or the target for the empty path.
    fn open_directory(&mut self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        if path.is_empty() {
            return rustix::fs::openat(self.beneath.base(), ".", DIRECTORY, Mode::empty());
        }
        let place = self.beneath.place(path)?;
        rustix::fs::openat(place.parent, place.name, DIRECTORY, Mode::empty())
    }

    /// Makes sure that we can write into a directory that was there.
    fn keep_directory(&mut self, path: &[u8]) -> Result<()> {
        let place = self.beneath.place(path).at("open", self.target.as_path())?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(place.parent, place.name, flags, Mode::empty());
        let opened = match opened {
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let rule = "something else has its name";
                return Err(self.rule("make directory", path, rule));
            }
            other => other.at("open directory", self.shown(path))?,
        };
        let stat = stat_passed(opened.as_fd()).at("inspect", self.shown(path))?;
        let wanted = raw_mode(&stat) & 0o7777 | 0o700;
        if wanted != raw_mode(&stat) & 0o7777 {
            // If this fails, so will what is restored into it.
            let fd = format!("/proc/self/fd/{}", opened.as_raw_fd());
            let _ = rustix::fs::chmod(fd, to_mode(wanted));
        }
        Ok(())
    }

    /// Makes something under its name, or beside it to be renamed over what is
    /// there.
    fn make(
        &mut self,
        path: &[u8],
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> rustix::io::Result<()>,
    ) -> Result<()> {
        let (shown, temporary) = (self.shown(path), self.temporary_name());
        let parent = self.beneath.parent(path).at("make", &shown)?;
        match make(parent.as_fd(), last_component(path)) {
            Err(Errno::EXIST) => {}
            Ok(()) => {
                self.note_cut(parent.as_fd(), path);
                return Ok(());
            }
            Err(error) => return Err(self.explain("make", path, error.into())),
        }
        make(parent.as_fd(), temporary.as_bytes()).at("make", &shown)?;
        let put = self.put(parent.as_fd(), &temporary, path);
        // After a success there is something left if both were names of one file.
        let _ = rustix::fs::unlinkat(&parent, temporary.as_bytes(), AtFlags::empty());
        put
    }

    /// Writes out and sets attributes.
    fn complete(&mut self, new: &mut NewFile, info: Option<&FileInfo<'_>>) -> io::Result<()> {
        if new.zeros > 0 {
            new.file.set_len(new.offset_bytes + new.zeros)?;
        }
        if let Some(info) = info {
            self.set_all(new.file.as_fd(), info)?;
        }
        if let Some(value) = &new.capability {
            let set = rustix::fs::fsetxattr(&new.file, CAPABILITY, value, XattrFlags::empty());
            self.tolerate_attribute(set)?;
        }
        Ok(())
    }

    /// Passes over attributes where there are none, and says so once.
    fn tolerate_attribute(&mut self, result: rustix::io::Result<()>) -> rustix::io::Result<()> {
        let Err(Errno::OPNOTSUPP | Errno::NOSYS) = result else { return result };
        self.tell(Kept::Attributes);
        Ok(())
    }
}

impl Exporter for FsExporter {
    type Error = HostsError;

    fn create_directory(&mut self, path: &[u8]) -> Result<()> {
        if path.is_empty() {
            return Ok(());
        }
        let mode = self.new_mode(true);
        let parent = self.beneath.parent(path).at("make directory", self.shown(path))?;
        match rustix::fs::mkdirat(&parent, last_component(path), mode) {
            Err(Errno::EXIST) => {
                self.refuse_respelt("make directory", parent.as_fd(), path)?;
                self.keep_directory(path).map_err(|error| match error.kind() {
                    // As of `explain`: what has the name is not found by it.
                    HostErrorKind::NotFound => self.rule("make directory", path, RESPELT),
                    _ => error,
                })
            }
            Ok(()) => {
                self.note_cut(parent.as_fd(), path);
                Ok(())
            }
            Err(error) => Err(self.explain("make directory", path, error.into())),
        }
    }

    fn begin_file(&mut self, path: &[u8], _size_bytes: u64) -> Result<()> {
        self.abandon_file();
        let (mode, shown) = (self.new_mode(false), self.shown(path));
        let temporary = self.temporary_name();
        let parent = self.beneath.parent(path).at("create", &shown)?;
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, temporary.as_bytes(), flags, mode)
            .at("create", &shown)?
            .into();
        self.file = Some(NewFile {
            file,
            parent,
            temporary,
            path: path.to_vec(),
            offset_bytes: 0,
            zeros: 0,
            capability: None,
        });
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(new) = &mut self.file else { return Err(self.rule("write", b"", NOT_BEGUN)) };
        match new.write(bytes) {
            Ok(()) => Ok(()),
            Err(error) => {
                let path = new.path.clone();
                Err(self.explain("write", &path, error))
            }
        }
    }

    fn set_xattr(&mut self, path: &[u8], name: &[u8], value: &[u8]) -> Result<()> {
        let set = match &mut self.file {
            Some(new) if name == CAPABILITY => {
                new.capability = Some(value.to_vec());
                Ok(())
            }
            Some(new) => rustix::fs::fsetxattr(&new.file, name, value, XattrFlags::empty()),
            None if path.is_empty() => {
                rustix::fs::fsetxattr(self.beneath.base(), name, value, XattrFlags::empty())
            }
            None => self.beneath.place(path).and_then(|place| {
                rustix::fs::lsetxattr(place.path(), name, value, XattrFlags::empty())
            }),
        };
        self.tolerate_attribute(set).at("set an extended attribute of", self.shown(path))
    }

    fn finish_file(&mut self, info: Option<&FileInfo<'_>>) -> Result<()> {
        let Some(mut new) = self.file.take() else {
            return Err(self.rule("finish", b"", NOT_BEGUN));
        };
        let completed = match self.complete(&mut new, info) {
            Ok(()) => self.put(new.parent.as_fd(), &new.temporary, &new.path),
            Err(error) => Err(self.explain("write", &new.path, error)),
        };
        if completed.is_err() {
            new.remove();
        }
        completed
    }

    fn abandon_file(&mut self) {
        if let Some(new) = self.file.take() {
            new.remove();
        }
    }

    fn symbolic_link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        let made = self.make(path, |parent, name| rustix::fs::symlinkat(target, parent, name));
        made.map_err(|error| match is_unsupported(&error) {
            true => self.rule("make", path, NO_LINKS),
            false => error,
        })
    }

    fn has_hard_links(&self) -> bool {
        !self.told.was_told(Kept::Links)
    }

    fn hard_link(&mut self, path: &[u8], original: &[u8]) -> Result<()> {
        let shown = self.shown(original);
        let place = self.beneath.place(original).at("link to", &shown)?;
        let original_name = place.name;
        let original_parent = place.parent.try_clone_to_owned().at("link to", &shown)?;
        let linked = self.make(path, |parent, name| {
            rustix::fs::linkat(&original_parent, original_name, parent, name, AtFlags::empty())
        });
        if linked.as_ref().is_err_and(is_unsupported) {
            self.tell(Kept::Links);
        }
        linked
    }

    fn special(&mut self, path: &[u8], info: &FileInfo<'_>) -> Result<bool> {
        // Sockets are made by who listens on them; the numbers of devices are
        // nowhere recorded, so that not even root can make one.
        if info.mode & mode::TYPE != mode::PIPE {
            return Ok(false);
        }
        let mode = self.new_mode(false);
        let made = self
            .make(path, |parent, name| rustix::fs::mknodat(parent, name, FileType::Fifo, mode, 0));
        match made {
            Ok(()) => Ok(true),
            Err(error) if is_unsupported(&error) => Err(self.rule("make", path, NO_PIPES)),
            Err(error) => Err(error),
        }
    }

    fn set_attributes(&mut self, path: &[u8], info: &FileInfo<'_>) -> Result<()> {
        let set = if path.is_empty() || mode::is_directory(info.mode) {
            self.open_directory(path).and_then(|fd| self.set_all(fd.as_fd(), info))
        } else {
            self.set_all_by_name(path, info)
        };
        set.at("set the attributes of", self.shown(path))
    }
}

impl Drop for FsExporter {
    fn drop(&mut self) {
        self.abandon_file();
    }
}

impl fmt::Debug for FsExporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FsExporter").field("target", &self.target).finish_non_exhaustive()
    }
}

/// Why an entry cannot be there.
const RESPELT: &str = "something with another spelling of its name is there, and the file system \
                       takes both for one; restore it to another place";
const TOO_LONG: &str = "it is longer than files can be in the file system there";
const NO_LINKS: &str = "the file system there has no symbolic links";
const NO_PIPES: &str = "the file system there has no pipes";

/// Rule that an engine breaks when it does not begin a file.
const NOT_BEGUN: &str = "no file was begun";

/// Name of an entry in its directory.
fn last_component(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

/// Whether the file system does not have what was to be made.
fn is_unsupported(error: &HostsError) -> bool {
    let errno = error.io_error().and_then(Errno::from_io_error);
    matches!(errno, Some(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS))
}

/// Owner and group, if they are ones that a system can have.
fn owner(info: &FileInfo<'_>) -> Option<(Uid, Gid)> {
    let number = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
    Some((Uid::from_raw(number(info.uid)?), Gid::from_raw(number(info.gid)?)))
}

/// The mode of an entry, less the bits that would grant the rights of another
/// owner than the one recorded. On directories they grant nothing.
fn allowed_mode(stat: &Stat, info: &FileInfo<'_>) -> Mode {
    let mut permissions = mode::unix_permissions(info.mode);
    if !mode::is_directory(info.mode) {
        if u64::from(stat.st_uid) != info.uid {
            permissions &= !0o4000;
        }
        if u64::from(stat.st_gid) != info.gid {
            permissions &= !0o2000;
        }
    }
    to_mode(permissions)
}

fn to_mode(permissions: u32) -> Mode {
    Mode::from_bits_retain(permissions & 0o7777)
}

#[allow(clippy::unnecessary_cast, reason = "its type depends on the architecture")]
fn raw_mode(stat: &Stat) -> u32 {
    stat.st_mode as u32
}

/// Time of the last change, for the last access as well: as in stock.
fn times(info: &FileInfo<'_>) -> Timestamps {
    let nanos = i32::try_from(info.mod_time.nanos).unwrap_or(0);
    let time = Timespec { tv_sec: info.mod_time.secs, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    /// Writes a file in pieces of random length.
    fn write(exporter: &mut FsExporter, path: &str, content: &[u8], random: &mut Random) {
        exporter.begin_file(path.as_bytes(), content.len() as u64).unwrap();
        let mut rest = content;
        while !rest.is_empty() {
            let most = (rest.len() as u64).min(100_000);
            let (now, later) = rest.split_at(usize::try_from(1 + random.below(most)).unwrap());
            exporter.write(now).unwrap();
            rest = later;
        }
        exporter.finish_file(None).unwrap();
    }

    #[test]
    fn holes_come_back_as_zeros() {
        let directory = tempfile::tempdir().unwrap();
        let mut exporter = FsExporter::open(directory.path().join("target")).unwrap();
        let mut random = Random::new(1);
        for round in 0..60 {
            let mut content = Vec::new();
            for _ in 0..random.below(8) {
                let length = usize::try_from(random.below(150_000)).unwrap();
                let part =
                    if random.below(2) == 0 { vec![0; length] } else { random.bytes(length) };
                content.extend_from_slice(&part);
            }
            write(&mut exporter, "file", &content, &mut random);
            let found = fs::read(directory.path().join("target/file")).unwrap();
            assert!(found == content, "round {round}");
        }
        write(&mut exporter, "sparse", &vec![0; 4 << 20], &mut random);
        let data = fs::metadata(directory.path().join("target/sparse")).unwrap();
        assert_eq!(data.len(), 4 << 20);
        assert!(data.blocks() * 512 < 1 << 20);
    }

    #[test]
    fn what_is_abandoned_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut exporter = FsExporter::open(directory.path()).unwrap();
        exporter.begin_file(b"a", 10).unwrap();
        exporter.begin_file(b"b", 10).unwrap();
        exporter.abandon_file();
        assert!(exporter.write(b"x").is_err() && exporter.finish_file(None).is_err());
        exporter.begin_file(b"c", 10).unwrap();
        drop(exporter);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn privileged_bits_need_their_owner() {
        let directory = tempfile::tempdir().unwrap();
        let stat = rustix::fs::stat(directory.path()).unwrap();
        let (uid, gid) = (u64::from(stat.st_uid), u64::from(stat.st_gid));
        let bits = mode::SETUID | mode::SETGID | 0o755;
        let allowed = |uid, gid, mode| {
            allowed_mode(&stat, &FileInfo { uid, gid, mode, ..FileInfo::default() }).bits()
        };
        assert_eq!(allowed(uid, gid, bits), 0o6755);
        assert_eq!(allowed(uid + 1, gid, bits), 0o2755);
        assert_eq!(allowed(uid, gid + 1, bits), 0o4755);
        assert_eq!(allowed(uid, gid + 1, bits | mode::DIRECTORY), 0o6755);
    }
}
