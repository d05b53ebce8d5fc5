//! File modes: Go's `FileMode`, which the format keeps, and `st_mode` of Unix.
//!
//! Section 11.6 of the format.

/// Directory.
pub const DIRECTORY: u32 = 1 << 31;
/// Symbolic link.
pub const SYMLINK: u32 = 1 << 27;
/// Device: a block device unless [`CHARACTER`] is set too.
pub const DEVICE: u32 = 1 << 26;
/// Named pipe.
pub const PIPE: u32 = 1 << 25;
/// Socket.
pub const SOCKET: u32 = 1 << 24;
/// Set user on execution.
pub const SETUID: u32 = 1 << 23;
/// Set group on execution.
pub const SETGID: u32 = 1 << 22;
/// Character device, together with [`DEVICE`].
pub const CHARACTER: u32 = 1 << 21;
/// Sticky bit.
pub const STICKY: u32 = 1 << 20;
/// Neither of these, nor a regular file.
pub const IRREGULAR: u32 = 1 << 19;
/// Rights of owner, group and others.
pub const PERMISSIONS: u32 = 0o777;

/// All bits that make an entry something else than a regular file.
pub const TYPE: u32 = DIRECTORY | SYMLINK | DEVICE | PIPE | SOCKET | CHARACTER | IRREGULAR;

/// Whether the mode is that of a regular file.
#[must_use]
pub fn is_regular(mode: u32) -> bool {
    mode & TYPE == 0
}

/// Whether the mode is that of a directory.
#[must_use]
pub fn is_directory(mode: u32) -> bool {
    mode & DIRECTORY != 0
}

/// From `st_mode`.
#[must_use]
pub fn from_unix(st_mode: u32) -> u32 {
    let kind = match st_mode & 0o170_000 {
        0o100_000 => 0,
        0o040_000 => DIRECTORY,
        0o120_000 => SYMLINK,
        0o060_000 => DEVICE,
        0o020_000 => DEVICE | CHARACTER,
        0o010_000 => PIPE,
        0o140_000 => SOCKET,
        _ => IRREGULAR,
    };
    let flag = |bit: u32, go: u32| if st_mode & bit == 0 { 0 } else { go };
    kind | flag(0o4000, SETUID) | flag(0o2000, SETGID) | flag(0o1000, STICKY) | st_mode & 0o777
}

/// The twelve low bits of `st_mode`: rights, setuid, setgid, sticky.
#[must_use]
pub fn unix_permissions(mode: u32) -> u32 {
    let flag = |go: u32, bit: u32| if mode & go == 0 { 0 } else { bit };
    mode & PERMISSIONS | flag(SETUID, 0o4000) | flag(SETGID, 0o2000) | flag(STICKY, 0o1000)
}
