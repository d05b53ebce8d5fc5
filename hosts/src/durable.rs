//! Making what was written survive a power cut.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::io::Errno;

/// Syncs a directory, so that a name in it lasts. Returns whether the file
/// system can do that at all.
///
/// Network file systems and FUSE answer `EINVAL` or `EOPNOTSUPP`: they keep
/// names as they see fit, and there is nothing to do about it but to say so.
/// Anything else, `EIO` above all, is an error.
pub(crate) fn sync_directory(path: &Path) -> io::Result<bool> {
    match File::open(path)?.sync_all() {
        Ok(()) => Ok(true),
        Err(error) => match Errno::from_io_error(&error) {
            // ENOTSUP is the same number on Linux.
            Some(Errno::INVAL | Errno::OPNOTSUPP) => Ok(false),
            _ => Err(error),
        },
    }
}

/// The directory that a path lies in.
pub(crate) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    }
}
