//! [`XattrEntry`]: an extended attribute of an entry. Section 11.11 of the format.

use super::msgpack::{Reader, Writer};
use crate::error::FormatError;
use crate::mac::Mac;
use crate::resource::Version;

/// What stands between name and end in the key of an extended attribute.
pub const SEPARATOR: u8 = b':';

/// An extended attribute of an entry.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct XattrEntry<'b> {
    /// Path of the entry that has it.
    pub path: &'b [u8],
    /// Its name.
    pub name: &'b [u8],
    /// Length of its value in bytes.
    pub size: i64,
    /// 0 for an extended attribute, 1 for an alternate data stream.
    pub kind: u8,
    /// Key of the object with the value.
    pub object: Mac,
}

impl<'b> XattrEntry<'b> {
    /// Writes the record.
    pub fn emit(&self, w: &mut Writer<'_>) {
        w.map(6);
        w.key("version");
        w.u32(Version::V1_0_0.0);
        w.key("path");
        w.str(self.path);
        w.key("name");
        w.str(self.name);
        w.key("size");
        w.i64(self.size);
        w.key("type");
        w.u8(self.kind);
        w.key("object");
        w.mac(&self.object);
    }

    /// Reads the record.
    ///
    /// # Errors
    ///
    /// [`FormatError`] for what is no such record.
    pub fn parse(bytes: &'b [u8]) -> Result<Self, FormatError> {
        let mut entry = Self::default();
        Reader::new(bytes).fields(|key, value| {
            match key {
                b"path" => entry.path = value.bytes()?,
                b"name" => entry.name = value.bytes()?,
                b"size" => entry.size = value.i64()?,
                b"type" => entry.kind = value.u8()?,
                b"object" => entry.object = value.mac()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(entry)
    }

    /// Writes the key of the attribute in its tree into `out`: path, name and
    /// separator, with nothing in between. Returns its length.
    ///
    /// # Errors
    ///
    /// [`FormatError::Scratch`] when `out` is too small.
    pub fn key(path: &[u8], name: &[u8], out: &mut [u8]) -> Result<usize, FormatError> {
        let needed_bytes = path.len() + name.len() + 1;
        if out.len() < needed_bytes {
            return Err(FormatError::Scratch { needed_bytes, lent_bytes: out.len() });
        }
        out[..path.len()].copy_from_slice(path);
        out[path.len()..needed_bytes - 1].copy_from_slice(name);
        out[needed_bytes - 1] = SEPARATOR;
        Ok(needed_bytes)
    }
}
