//! Names of extended attributes, by a descriptor and a name where the kernel
//! can: Linux 6.13 and later.
//!
//! Older calls take a path only, and the one that leads through a descriptor
//! passes the process's own entries in `/proc`: that takes three times as long as
//! the call itself, for each entry of a backup.

use std::ffi::CString;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::io::Errno;

/// Number of the call `listxattrat`, the same on every architecture.
const SYS_LISTXATTRAT: libc::c_long = 465;

/// `AT_SYMLINK_NOFOLLOW` of the kernel.
const NO_FOLLOW: libc::c_uint = 0x100;

/// Writes the names of the extended attributes of `name` in the directory
/// `parent` to `into`, each followed by a zero byte, and returns their length.
/// No symbolic link is followed. `ENOSYS` where the kernel cannot do it; a filter
/// of system calls may say `EPERM` instead.
pub(super) fn list_at(
    parent: BorrowedFd<'_>,
    name: &[u8],
    into: &mut [u8],
) -> rustix::io::Result<usize> {
    let mut short = [0; SHORT_BYTES];
    let long;
    let name = match short.get_mut(..name.len()) {
        // The rest stays zero, and one zero at least.
        Some(start) if name.len() < SHORT_BYTES && !name.contains(&0) => {
            start.copy_from_slice(name);
            short.as_ptr().cast()
        }
        _ => {
            long = CString::new(name).map_err(|_| Errno::INVAL)?;
            long.as_ptr()
        }
    };
    // SAFETY: the descriptor is open for as long as it is borrowed; `name` ends
    // with a zero byte and lives until the end of this function; the kernel
    // writes at most `into.len()` bytes to `into`, which nobody else has now.
    let written = unsafe {
        libc::syscall(
            SYS_LISTXATTRAT,
            parent.as_raw_fd(),
            name,
            NO_FOLLOW,
            into.as_mut_ptr(),
            into.len(),
        )
    };
    match usize::try_from(written) {
        Ok(written) => Ok(written),
        Err(_) => {
            let code = std::io::Error::last_os_error().raw_os_error();
            Err(Errno::from_raw_os_error(code.unwrap_or(libc::EIO)))
        }
    }
}

/// Names shorter than this need no memory of their own: all of usual file
/// systems.
const SHORT_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    #[test]
    fn as_by_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, b"").unwrap();
        std::os::unix::fs::symlink("file", directory.path().join("link")).unwrap();
        let opened = std::fs::File::open(directory.path()).unwrap();
        let list = |name: &[u8], into: &mut [u8]| list_at(opened.as_fd(), name, into);
        let mut into = [0; 256];
        match list(b"file", &mut into) {
            // This kernel, or what it runs in, does not let us.
            Err(Errno::NOSYS | Errno::PERM) => return eprintln!("skipped: no listxattrat here"),
            listed => assert_eq!(listed, Ok(0)),
        }
        let flags = rustix::fs::XattrFlags::empty();
        if rustix::fs::setxattr(&path, "user.some", b"value", flags).is_err() {
            return eprintln!("skipped: the file system keeps no attributes");
        }
        assert_eq!(list(b"file", &mut into), Ok(10));
        assert_eq!(&into[..10], b"user.some\0");
        assert_eq!(list(b"link", &mut into), Ok(0));
        assert_eq!(list(b"file", &mut into[..9]), Err(Errno::RANGE));
        assert_eq!(list(b"none", &mut into), Err(Errno::NOENT));
        assert_eq!(list(b"fi\0le", &mut into), Err(Errno::INVAL));
        assert_eq!(list(&[b'n'; 300], &mut into), Err(Errno::NAMETOOLONG));
    }
}
