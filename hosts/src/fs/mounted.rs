//! Which file system something lies on, and whether that is still so: a disk that
//! was unplugged leaves an empty directory, into which a backup would go on.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;
use tiroir_core::host::HostErrorKind;

use super::beneath::stat_passed;
use crate::durable::parent_of;
use crate::error::{Context as _, HostsError, Result};
use crate::options::{Options, refused};

/// The option that says where something has to be mounted.
pub const OPTION: &str = "mount";

/// What has to be a mount point.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MountRule {
    /// The directory itself, or one above it that is not the root.
    Required,
    /// This directory.
    At(PathBuf),
}

impl MountRule {
    /// What the option `mount` says: `required`, or the absolute path of a mount
    /// point.
    ///
    /// # Errors
    ///
    /// Another value.
    pub fn from_options(options: &Options) -> Result<Option<Self>> {
        match options.text(OPTION) {
            None | Some("no" | "false") => Ok(None),
            Some("required" | "true") => Ok(Some(Self::Required)),
            Some(path) if path.starts_with('/') => Ok(Some(Self::At(path.into()))),
            Some(_) => Err(refused(OPTION, "it is `required`, or the path of a mount point")),
        }
    }

    /// Sees that what is to be mounted is, for something at `path`, which need not
    /// be there.
    ///
    /// # Errors
    ///
    /// When it is not, of kind *not found*.
    pub fn check(&self, path: &Path) -> Result<()> {
        let (is_mounted, place) = match self {
            Self::At(place) => (is_mount_point(place).at("inspect", place)?, place.as_path()),
            Self::Required => {
                let mut above = path.ancestors().filter(|above| *above != Path::new("/"));
                let found = above.any(|above| is_mount_point(above).unwrap_or(false));
                (found, path)
            }
        };
        if is_mounted {
            return Ok(());
        }
        let rule = match self {
            Self::At(_) => "nothing is mounted there; is the disk plugged in?",
            Self::Required => "nothing is mounted there or above it; is the disk plugged in?",
        };
        let place = place.as_os_str().as_bytes();
        Err(HostsError::rule(HostErrorKind::NotFound, "use", place, rule))
    }
}

/// Whether a file system begins at a directory.
fn is_mount_point(path: &Path) -> io::Result<bool> {
    // From Linux 5.8 on, also where a directory is mounted elsewhere on its own
    // file system.
    if let Ok(told) = statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS)
        && told.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
    {
        return Ok(told.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
    }
    let (here, above) = (fs::metadata(path)?, fs::metadata(path.join(".."))?);
    Ok(here.dev() != above.dev() || here.ino() == above.ino())
}

/// A directory that was opened, and is compared with what is found under its path
/// later. Takes a file descriptor.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    directory: OwnedFd,
    device: u64,
    rule: Option<MountRule>,
    /// Another directory of the same file system will do.
    any_directory: bool,
}

impl Home {
    /// The directory at `path`; for a file, the one that it is in.
    ///
    /// # Errors
    ///
    /// Of the system; when the rule is broken.
    pub fn hold(path: &Path, rule: Option<MountRule>) -> Result<Self> {
        if let Some(rule) = &rule {
            rule.check(path)?;
        }
        let is_directory = fs::metadata(path).at("inspect", path)?.is_dir();
        let path = if is_directory { path } else { parent_of(path) };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty()).at("open", path)?;
        let device = place_of(&stat_passed(directory.as_fd()).at("inspect", path)?).0;
        Ok(Self { path: path.to_owned(), directory, device, rule, any_directory: false })
    }

    /// Whether it lies on the same file system as another.
    #[must_use]
    pub fn is_beside(&self, other: &Self) -> bool {
        self.device == other.device
    }

    /// With only its file system compared: a source may be replaced while it is read.
    #[must_use]
    pub fn with_any_directory(mut self) -> Self {
        self.any_directory = true;
        self
    }

    /// Sees that the path still leads to the directory that was opened.
    ///
    /// # Errors
    ///
    /// When it does not; of the system.
    pub fn check(&self) -> Result<()> {
        if let Some(rule) = &self.rule {
            rule.check(&self.path)?;
        }
        let held = place_of(&stat_passed(self.directory.as_fd()).at("inspect", &self.path)?);
        let is_same = match rustix::fs::stat(&self.path) {
            Ok(found) => {
                let found = place_of(&found);
                found.0 == self.device && (self.any_directory || found.1 == held.1)
            }
            // It was removed; that is no other file system.
            Err(Errno::NOENT) => self.any_directory,
            Err(error) => return Err(error).at("inspect", &self.path),
        };
        if is_same {
            return Ok(());
        }
        let rule = "it is another one than was opened: its disk was unmounted or replaced; mount it, and \
                    start again";
        let path = self.path.as_os_str().as_bytes();
        Err(HostsError::rule(HostErrorKind::NotFound, "go on with the directory", path, rule))
    }
}

/// Numbers of the file system and of the file, as far as they are to be compared.
#[allow(clippy::unnecessary_cast, reason = "their types depend on the architecture")]
fn place_of(stat: &Stat) -> (u64, u64) {
    (stat.st_dev as u64, stat.st_ino as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(value: &str) -> Result<Option<MountRule>> {
        MountRule::from_options(&[(OPTION, value)].into_iter().collect())
    }

    #[test]
    fn rules() {
        assert_eq!(rule("").unwrap(), None);
        assert_eq!(rule("required").unwrap(), Some(MountRule::Required));
        assert_eq!(rule("/mnt/x").unwrap(), Some(MountRule::At("/mnt/x".into())));
        assert!(rule("x").is_err());
        // The kernel mounts that in every container and machine.
        MountRule::Required.check(Path::new("/proc/1/nothing/there")).unwrap();
        MountRule::At("/proc".into()).check(Path::new("/x")).unwrap();
        assert!(MountRule::At("/proc/sys/kernel".into()).check(Path::new("/proc")).is_err());
        assert!(MountRule::At("/nowhere/at/all".into()).check(Path::new("/proc")).is_err());
        assert!(is_mount_point(Path::new("/")).unwrap());
    }

    #[test]
    fn a_directory_that_was_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (path, aside) = (directory.path().join("store"), directory.path().join("aside"));
        fs::create_dir(&path).unwrap();
        fs::write(path.join("file"), b"").unwrap();
        let home = Home::hold(&path, None).unwrap();
        let of_file = Home::hold(&path.join("file"), None).unwrap();
        let source = Home::hold(&path, None).unwrap().with_any_directory();
        for home in [&home, &of_file, &source] {
            home.check().unwrap();
        }
        fs::rename(&path, &aside).unwrap();
        assert!(home.check().is_err());
        source.check().unwrap();
        fs::create_dir(&path).unwrap();
        assert!(home.check().is_err() && of_file.check().is_err());
        source.check().unwrap();
        fs::remove_dir(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
        home.check().unwrap();
    }
}
