//! [`Beneath`]: entries below a directory, reached without following links.
//!
//! Every component is opened by itself, relative to the one before, and none
//! may be a symbolic link: whoever can write below the directory cannot lead us
//! out of it, at no moment. Paths may be longer than the kernel takes at once.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

/// What opens a component that is only passed through.
const PASS: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory, and the last one below it that something was asked of.
#[derive(Debug)]
pub(crate) struct Beneath {
    base: Arc<OwnedFd>,
    /// Path of a directory below the base, and the directory.
    last: Option<(Vec<u8>, Arc<OwnedFd>)>,
}

/// The directory that an entry lies in, and its name there.
pub(crate) struct Place<'d, 'p> {
    pub(crate) parent: BorrowedFd<'d>,
    pub(crate) name: &'p [u8],
}

impl Beneath {
    pub(crate) fn new(base: OwnedFd) -> Self {
        Self { base: Arc::new(base), last: None }
    }

    /// The directory itself.
    pub(crate) fn base(&self) -> BorrowedFd<'_> {
        self.base.as_fd()
    }

    /// Closes the last directory that something was asked of.
    pub(crate) fn forget(&mut self) {
        self.last = None;
    }

    /// Where `path` lies, which is relative, clean and not empty.
    ///
    /// `EINVAL` for any other path, `ENOTDIR` or `ELOOP` if something on the
    /// way is no directory.
    pub(crate) fn place<'p>(&mut self, path: &'p [u8]) -> rustix::io::Result<Place<'_, 'p>> {
        check(path)?;
        let split = path.iter().rposition(|&byte| byte == b'/');
        let (directory, name) = match split {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], path),
        };
        if directory.is_empty() {
            return Ok(Place { parent: self.base.as_fd(), name });
        }
        if self.last.as_ref().is_none_or(|(held, _)| held != directory) {
            let opened = self.descend(directory)?;
            let mut held = self.last.take().map(|(held, _)| held).unwrap_or_default();
            held.clear();
            held.extend_from_slice(directory);
            self.last = Some((held, Arc::new(opened)));
        }
        let parent = self.last.as_ref().map_or(self.base.as_fd(), |(_, fd)| fd.as_fd());
        Ok(Place { parent, name })
    }

    /// The directory that `path` lies in, to be kept.
    ///
    /// As [`place`](Self::place).
    pub(crate) fn parent(&mut self, path: &[u8]) -> rustix::io::Result<Arc<OwnedFd>> {
        self.place(path)?;
        let in_base = !path.contains(&b'/');
        let held = self.last.as_ref().filter(|_| !in_base);
        Ok(Arc::clone(held.map_or(&self.base, |(_, fd)| fd)))
    }

    /// Opens a directory below, from the last one if that is on the way.
    fn descend(&self, directory: &[u8]) -> rustix::io::Result<OwnedFd> {
        let on_the_way = self.last.as_ref().and_then(|(held, fd)| {
            let rest = directory.strip_prefix(&held[..])?;
            Some((fd.as_fd(), rest.strip_prefix(b"/")?))
        });
        let (start, rest) = on_the_way.unwrap_or((self.base.as_fd(), directory));
        let mut at: Option<OwnedFd> = None;
        for component in rest.split(|&byte| byte == b'/') {
            let from = at.as_ref().map_or(start, |fd| fd.as_fd());
            at = Some(rustix::fs::openat(from, component, PASS, Mode::empty())?);
        }
        at.ok_or(Errno::INVAL)
    }

    /// A path that leads to the directory itself, see [`Place::path`].
    pub(crate) fn base_call_path(&self) -> Vec<u8> {
        Place { parent: self.base.as_fd(), name: b"." }.path()
    }
}

/// What is known of something that was opened to be passed through only: by
/// `O_PATH`, which `fstat` takes from Linux 3.6 on.
pub(crate) fn stat_passed(fd: BorrowedFd<'_>) -> rustix::io::Result<Stat> {
    rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH)
}

/// Refuses what is not a clean relative path.
fn check(path: &[u8]) -> rustix::io::Result<()> {
    let component = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
    if path.split(|&byte| byte == b'/').all(component) { Ok(()) } else { Err(Errno::INVAL) }
}

impl Place<'_, '_> {
    /// A path that leads to the entry and to nothing else, for the system calls
    /// that know no descriptors: those of extended attributes. The link in
    /// `/proc` is no symbolic one; it *is* the directory.
    pub(crate) fn path(&self) -> Vec<u8> {
        let mut path = format!("/proc/self/fd/{}/", self.parent.as_raw_fd()).into_bytes();
        path.extend_from_slice(self.name);
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn open(path: &std::path::Path) -> Beneath {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Beneath::new(rustix::fs::open(path, flags, Mode::empty()).unwrap())
    }

    fn size(beneath: &mut Beneath, path: &str) -> rustix::io::Result<u64> {
        let place = beneath.place(path.as_bytes())?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let stat = rustix::fs::statat(place.parent, place.name, flags)?;
        Ok(stat.st_size.try_into().unwrap())
    }

    #[test]
    fn links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("in/a/b")).unwrap();
        fs::create_dir(root.join("out")).unwrap();
        fs::write(root.join("in/a/b/file"), b"inside").unwrap();
        fs::write(root.join("out/file"), b"outside!").unwrap();
        std::os::unix::fs::symlink("../out", root.join("in/link")).unwrap();
        let mut beneath = open(&root.join("in"));
        assert_eq!(size(&mut beneath, "a/b/file"), Ok(6));
        assert_eq!(size(&mut beneath, "link"), Ok(6));
        assert!(size(&mut beneath, "link/file").is_err());
        assert!(size(&mut beneath, "a/b/file/x").is_err());
        assert_eq!(size(&mut beneath, "a/b/file"), Ok(6));
        for path in ["", "/", "/a", "a/", "a//b", ".", "..", "../out/file", "a/../a", "a\0"] {
            assert_eq!(size(&mut beneath, path), Err(Errno::INVAL), "{path:?}");
        }
    }

    #[test]
    fn paths_may_be_longer_than_the_kernel_takes() {
        let directory = tempfile::tempdir().unwrap();
        let mut beneath = open(directory.path());
        let component = "d".repeat(250);
        let mut path = component.clone();
        for _ in 0..30 {
            let place = beneath.place(path.as_bytes()).unwrap();
            rustix::fs::mkdirat(place.parent, place.name, Mode::RWXU).unwrap();
            path.push('/');
            path.push_str(&component);
        }
        assert!(path.len() > 7000);
        let mut beneath = open(directory.path());
        assert_eq!(size(&mut beneath, &path), Err(Errno::NOENT));
        path.truncate(path.len() - 251);
        assert!(size(&mut beneath, &path).is_ok());
    }
}
