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
//! system cannot keep is told once and passed over.
//!
//! Files are not synced one by one, which would take hours on a disk of a
//! router: [`FsExporter::finish`] syncs the whole file system once, at the end.
//! Until then a power cut may leave empty or short files under their names.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use tiroir_core::exporter::Exporter;
use tiroir_core::host::HostErrorKind;
use tiroir_core::wire::file_info::FileInfo;
use tiroir_core::wire::mode;

use super::beneath::Beneath;
use crate::env::random_suffix;
use crate::error::{Context as _, HostsError, Result};
use crate::warn::Warnings;

/// Zeros in a row that become a hole. Smaller holes save little and scatter the
/// file over the disk.
const HOLE_BYTES: u64 = 64 * 1024;

/// Bytes that are looked at together for zeros.
const BLOCK_BYTES: usize = 4096;

/// Zeros, to be written where there are too few for a hole.
static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// The attribute that a change of owner removes.
const CAPABILITY: &[u8] = b"security.capability";

/// Opens a directory that may stand nowhere else.
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A file being written.
#[derive(Debug)]
struct NewFile {
    file: File,
    parent: Arc<OwnedFd>,
    temporary: String,
    path: Vec<u8>,
    /// Where the next bytes go.
    offset_bytes: u64,
    /// Zeros that follow, and are not written yet.
    zeros: u64,
    /// Set again after the owner.
    capability: Option<Vec<u8>>,
}

/// What a file system may be unable to keep.
#[derive(Clone, Copy, Debug)]
enum Kept {
    Owner,
    Mode,
    Times,
}

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
    /// By [`Kept`].
    warned: [bool; 3],
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
            warned: [false; 3],
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
        let what = match kept {
            Kept::Owner => "owners",
            Kept::Mode => "modes",
            Kept::Times => "times",
        };
        if !std::mem::replace(&mut self.warned[kept as usize], true) {
            let target = self.target.display();
            self.warnings.warn(&format!("not all {what} can be restored in {target}"));
        }
        Ok(())
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
        rustix::fs::fstat(fd)
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
        let changed = rustix::fs::futimens(fd, &times(info));
        self.tolerate(Kept::Times, changed)
    }

    /// Gives a link, fifo or the like all that `info` says.
    fn set_all_by_name(&mut self, path: &[u8], info: &FileInfo<'_>) -> rustix::io::Result<()> {
        let place = self.beneath.place(path)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(place.parent, place.name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
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
        let changed = rustix::fs::utimensat(place.parent, place.name, &times(info), flags);
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
        let stat = rustix::fs::fstat(&opened).at("inspect", self.shown(path))?;
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
        let place = self.beneath.place(path).at("make", &shown)?;
        match make(place.parent, place.name) {
            Err(Errno::EXIST) => {}
            other => return other.at("make", &shown),
        }
        make(place.parent, temporary.as_bytes()).at("make", &shown)?;
        let renamed =
            rustix::fs::renameat(place.parent, temporary.as_bytes(), place.parent, place.name);
        // After a success there is something left if both were names of one file.
        let _ = rustix::fs::unlinkat(place.parent, temporary.as_bytes(), AtFlags::empty());
        renamed.at("replace", &shown)
    }

    /// Writes out, sets attributes and renames.
    fn complete(&mut self, new: &mut NewFile, info: Option<&FileInfo<'_>>) -> io::Result<()> {
        if new.zeros > 0 {
            new.file.set_len(new.offset_bytes + new.zeros)?;
        }
        if let Some(info) = info {
            self.set_all(new.file.as_fd(), info)?;
        }
        if let Some(value) = &new.capability {
            rustix::fs::fsetxattr(&new.file, CAPABILITY, value, XattrFlags::empty())?;
        }
        let name = new.path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        rustix::fs::renameat(&new.parent, new.temporary.as_bytes(), &new.parent, name)?;
        Ok(())
    }
}

impl NewFile {
    /// Writes bytes, leaving holes for long runs of zeros.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        // What is to be written at `offset_bytes`, as far as it is known.
        let mut data = 0..0;
        for (number, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
            if is_zero(block) {
                self.zeros += block.len() as u64;
                continue;
            }
            let start = number * BLOCK_BYTES;
            let here = (start - data.end) as u64;
            if self.zeros >= HOLE_BYTES {
                self.write_data(bytes, data)?;
                self.offset_bytes += self.zeros;
                data = start..start;
            } else if self.zeros > here {
                // Those of earlier calls: then there is no data yet.
                self.write_zeros(self.zeros - here)?;
            }
            self.zeros = 0;
            data.end = start + block.len();
        }
        self.write_data(bytes, data)
    }

    fn write_data(&mut self, bytes: &[u8], range: Range<usize>) -> io::Result<()> {
        let bytes = &bytes[range];
        self.file.write_all_at(bytes, self.offset_bytes)?;
        self.offset_bytes += bytes.len() as u64;
        Ok(())
    }

    fn write_zeros(&mut self, mut count: u64) -> io::Result<()> {
        while count > 0 {
            let now = usize::try_from(count).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
            self.write_data(&ZEROS, 0..now)?;
            count -= now as u64;
        }
        Ok(())
    }

    fn remove(&self) {
        let _ = rustix::fs::unlinkat(&self.parent, self.temporary.as_bytes(), AtFlags::empty());
    }
}

impl Exporter for FsExporter {
    type Error = HostsError;

    fn create_directory(&mut self, path: &[u8]) -> Result<()> {
        if path.is_empty() {
            return Ok(());
        }
        let (mode, shown) = (self.new_mode(true), self.shown(path));
        let place = self.beneath.place(path).at("make directory", &shown)?;
        match rustix::fs::mkdirat(place.parent, place.name, mode) {
            Err(Errno::EXIST) => self.keep_directory(path),
            other => other.at("make directory", &shown),
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
                let path = self.target.join(std::ffi::OsStr::from_bytes(&new.path));
                Err(error).at("write", path)
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
        set.at("set an extended attribute of", self.shown(path))
    }

    fn finish_file(&mut self, info: Option<&FileInfo<'_>>) -> Result<()> {
        let Some(mut new) = self.file.take() else {
            return Err(self.rule("finish", b"", NOT_BEGUN));
        };
        let completed = self.complete(&mut new, info);
        if completed.is_err() {
            new.remove();
        }
        completed.at("write", self.shown(&new.path))
    }

    fn abandon_file(&mut self) {
        if let Some(new) = self.file.take() {
            new.remove();
        }
    }

    fn symbolic_link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        self.make(path, |parent, name| rustix::fs::symlinkat(target, parent, name))
    }

    fn hard_link(&mut self, path: &[u8], original: &[u8]) -> Result<()> {
        let shown = self.shown(original);
        let place = self.beneath.place(original).at("link to", &shown)?;
        let original_name = place.name;
        let original_parent = place.parent.try_clone_to_owned().at("link to", &shown)?;
        self.make(path, |parent, name| {
            rustix::fs::linkat(&original_parent, original_name, parent, name, AtFlags::empty())
        })
    }

    fn special(&mut self, path: &[u8], info: &FileInfo<'_>) -> Result<bool> {
        // Sockets are made by who listens on them; the numbers of devices are
        // nowhere recorded, so that not even root can make one.
        if info.mode & mode::TYPE != mode::PIPE {
            return Ok(false);
        }
        let mode = self.new_mode(false);
        self.make(path, |parent, name| rustix::fs::mknodat(parent, name, FileType::Fifo, mode, 0))?;
        Ok(true)
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

/// Rule that an engine breaks when it does not begin a file.
const NOT_BEGUN: &str = "no file was begun";

fn is_zero(block: &[u8]) -> bool {
    // Most blocks show at their start that they are none. The rest without an
    // early end, so that it is done many bytes at a time.
    let (first, rest) = block.split_at(block.len().min(16));
    first.iter().all(|byte| *byte == 0) && rest.iter().fold(0, |sum, byte| sum | byte) == 0
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
