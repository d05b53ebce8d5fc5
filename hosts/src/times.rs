//! Calls of the system that take or give times, for where `rustix` gets them wrong.
//!
//! Where addresses have 32 bits and the high byte comes first, as on MIPS, musl has
//! padding before the nanoseconds of a `timespec`, and `rustix` 1.1 after them: files
//! would be restored without their nanoseconds, and a time to wait be any. There
//! `libc` is asked, which knows better; elsewhere `rustix` is.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::fs::{AtFlags, Timestamps};
use rustix::io::Result;
use rustix::path::Arg;

/// Sets the times of an open file.
pub(crate) fn set(fd: BorrowedFd<'_>, times: &Timestamps) -> Result<()> {
    #[cfg(not(all(target_env = "musl", target_pointer_width = "32", target_endian = "big")))]
    return rustix::fs::futimens(fd, times);
    #[cfg(all(target_env = "musl", target_pointer_width = "32", target_endian = "big"))]
    return by_libc::set(fd, times);
}

/// Sets the times of what has that name in a directory.
pub(crate) fn set_at(
    directory: BorrowedFd<'_>,
    name: impl Arg,
    times: &Timestamps,
    flags: AtFlags,
) -> Result<()> {
    #[cfg(not(all(target_env = "musl", target_pointer_width = "32", target_endian = "big")))]
    return rustix::fs::utimensat(directory, name, times, flags);
    #[cfg(all(target_env = "musl", target_pointer_width = "32", target_endian = "big"))]
    return name.into_with_c_str(|name| by_libc::set_at(directory, name, times, flags));
}

/// Waits until something happens, or for that long.
pub(crate) fn poll(ends: &mut [PollFd<'_>], time: Duration) -> Result<usize> {
    #[cfg(not(all(target_env = "musl", target_pointer_width = "32", target_endian = "big")))]
    {
        let time = rustix::event::Timespec::try_from(time);
        rustix::event::poll(ends, Some(&time.map_err(|_| rustix::io::Errno::INVAL)?))
    }
    #[cfg(all(target_env = "musl", target_pointer_width = "32", target_endian = "big"))]
    return by_libc::poll(ends, time);
}

#[cfg(all(target_env = "musl", target_pointer_width = "32", target_endian = "big"))]
#[expect(unsafe_code, reason = "functions of C")]
mod by_libc {
    use std::ffi::{CStr, c_int};
    use std::os::fd::{AsRawFd as _, BorrowedFd};
    use std::time::Duration;

    use rustix::event::PollFd;
    use rustix::fs::{AtFlags, Timespec, Timestamps};
    use rustix::io::{Errno, Result};

    fn timespec(time: &Timespec) -> libc::timespec {
        // SAFETY: all of it are integers. Its padding has no name to be set by.
        let mut made: libc::timespec = unsafe { std::mem::zeroed() };
        (made.tv_sec, made.tv_nsec) = (time.tv_sec, time.tv_nsec);
        made
    }

    fn both(times: &Timestamps) -> [libc::timespec; 2] {
        [timespec(&times.last_access), timespec(&times.last_modification)]
    }

    fn done(status: c_int) -> Result<c_int> {
        if status >= 0 {
            return Ok(status);
        }
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
    }

    pub(super) fn set(fd: BorrowedFd<'_>, times: &Timestamps) -> Result<()> {
        // SAFETY: two times are read during the call.
        done(unsafe { libc::futimens(fd.as_raw_fd(), both(times).as_ptr()) }).map(drop)
    }

    pub(super) fn set_at(
        directory: BorrowedFd<'_>,
        name: &CStr,
        times: &Timestamps,
        flags: AtFlags,
    ) -> Result<()> {
        let (fd, name) = (directory.as_raw_fd(), name.as_ptr());
        let flags = c_int::try_from(flags.bits()).map_err(|_| Errno::INVAL)?;
        // SAFETY: a string with its end and two times are read during the call.
        done(unsafe { libc::utimensat(fd, name, both(times).as_ptr(), flags) }).map(drop)
    }

    pub(super) fn poll(ends: &mut [PollFd<'_>], time: Duration) -> Result<usize> {
        let count = libc::nfds_t::try_from(ends.len()).map_err(|_| Errno::INVAL)?;
        let millis = c_int::try_from(time.as_micros().div_ceil(1000)).unwrap_or(c_int::MAX);
        // SAFETY: where `rustix` goes through `libc`, as it does here, `PollFd` is
        // `pollfd` under another name; as many as there are, and for the call only.
        let found = done(unsafe { libc::poll(ends.as_mut_ptr().cast(), count, millis) })?;
        usize::try_from(found).map_err(|_| Errno::INVAL)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::MetadataExt as _;
    use std::time::Instant;

    use rustix::event::PollFlags;
    use rustix::fs::{CWD, Timespec};

    use super::*;

    #[test]
    fn nanoseconds_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = File::create(&path).unwrap();
        let times = |tv_sec| {
            let time = Timespec { tv_sec, tv_nsec: 123_456_789 };
            Timestamps { last_access: time, last_modification: time }
        };
        let read = || {
            let data = path.metadata().unwrap();
            (data.mtime(), data.mtime_nsec(), data.atime_nsec())
        };
        set(file.as_fd(), &times(4_000_000_000)).unwrap();
        assert_eq!(read(), (4_000_000_000, 123_456_789, 123_456_789));
        set_at(CWD, &path, &times(-5), AtFlags::SYMLINK_NOFOLLOW).unwrap();
        assert_eq!(read(), (-5, 123_456_789, 123_456_789));
    }

    #[test]
    fn waits_as_long_as_told() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let mut ends = [PollFd::new(&reader, PollFlags::IN)];
        let start = Instant::now();
        assert_eq!(poll(&mut ends, Duration::from_millis(30)), Ok(0));
        assert!(start.elapsed() >= Duration::from_millis(29));
    }
}
