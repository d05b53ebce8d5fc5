//! [`FileInfo`]: attributes of an entry, as records keep them.

use crate::time::Timestamp;

/// Attributes of an entry. Section 11.6 of the format.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FileInfo<'b> {
    /// Name in its directory; `/` for the root.
    pub name: &'b [u8],
    /// Length of the content in bytes.
    pub size: i64,
    /// Go's `FileMode`, see [`super::mode`].
    pub mode: u32,
    /// Last change of the content.
    pub mod_time: Timestamp,
    /// Device of the file system.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Names that the file has.
    pub nlink: u16,
    /// Name of the owner, or empty.
    pub username: &'b [u8],
    /// Name of the group, or empty.
    pub groupname: &'b [u8],
    /// Flags.
    pub flags: u32,
}
