//! [`FileInfo`]: attributes of an entry, as records keep them.

use super::msgpack::{Reader, Writer};
use crate::error::FormatError;
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

impl<'b> FileInfo<'b> {
    /// Writes the map of twelve keys.
    pub fn emit(&self, w: &mut Writer<'_>) {
        w.map(12);
        w.key("name");
        w.str(self.name);
        w.key("size");
        w.i64(self.size);
        w.key("mode");
        w.u32(self.mode);
        w.key("mod_time");
        w.time(self.mod_time);
        w.key("dev");
        w.u64(self.dev);
        w.key("ino");
        w.u64(self.ino);
        w.key("uid");
        w.u64(self.uid);
        w.key("gid");
        w.u64(self.gid);
        w.key("nlink");
        w.u16(self.nlink);
        w.key("username");
        w.str(self.username);
        w.key("groupname");
        w.str(self.groupname);
        w.key("flags");
        w.u32(self.flags);
    }

    /// Reads the map.
    ///
    /// # Errors
    ///
    /// [`FormatError`] for what is no such map.
    pub fn parse(reader: &mut Reader<'b>) -> Result<Self, FormatError> {
        let mut info = Self { mod_time: Timestamp::GO_ZERO, ..Self::default() };
        reader.fields(|key, value| {
            match key {
                b"name" => info.name = value.bytes()?,
                b"size" => info.size = value.i64()?,
                b"mode" => info.mode = value.u32()?,
                b"mod_time" => info.mod_time = value.time()?,
                b"dev" => info.dev = value.u64()?,
                b"ino" => info.ino = value.u64()?,
                b"uid" => info.uid = value.u64()?,
                b"gid" => info.gid = value.u64()?,
                b"nlink" => info.nlink = value.u16()?,
                b"username" => info.username = value.bytes()?,
                b"groupname" => info.groupname = value.bytes()?,
                b"flags" => info.flags = value.u32()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(info)
    }
}
