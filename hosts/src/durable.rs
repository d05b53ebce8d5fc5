//! Making what was written survive a power cut.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::io::Errno;

/// Syncs a directory, so that a name in it lasts. Returns whether the file
/// system can do that at all.
///
/// Network file systems and FUSE answer `EINVAL`, `EOPNOTSUPP` or `ENOSYS`: they
/// keep names as they see fit, and there is nothing to do about it but to say so,
/// once, with [`cannot_sync`]. So it is with a directory that may be written to and
/// not read. Anything else, `EIO` above all, is an error.
///
/// # Errors
///
/// Of the system, but for those.
pub fn sync_directory(path: &Path) -> io::Result<bool> {
    let directory = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(false),
        other => other?,
    };
    match directory.sync_all() {
        Ok(()) => Ok(true),
        Err(error) => match Errno::from_io_error(&error) {
            // ENOTSUP is the same number on Linux.
            Some(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
            _ => Err(error),
        },
    }
}

/// What to say of a file system that cannot sync directories.
#[must_use]
pub fn cannot_sync(path: &Path) -> String {
    format!(
        "the directory of {} cannot be synced: \
         what was just written may be lost if power fails",
        path.display()
    )
}

/// The directory that a path lies in.
#[must_use]
pub fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    }
}
