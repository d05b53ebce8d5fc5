//! [`Entry`]: a file, directory or other entry of a snapshot.
//!
//! The bytes are canonical: stock re-serializes an unchanged entry and names
//! it by the MAC of *its* bytes (trap 1 of the format), so [`Entry::emit`]
//! gives those, down to which fields are left out.

use super::file_info::FileInfo;
use super::list::List;
use super::mode;
use super::msgpack::{Reader, Writer};
use super::summary::Summary;
use crate::error::FormatError;
use crate::mac::Mac;
use crate::resource::Version;

/// Content type of what has no content: links, devices, pipes, sockets.
pub const NOT_REGULAR: &[u8] = b"application/x-not-regular-file";

/// An entry of a snapshot. Section 11.5 of the format.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Entry<'b> {
    /// Path of the directory that it lies in; `/` for the root.
    pub parent_path: &'b [u8],
    /// Its attributes.
    pub info: FileInfo<'b>,
    /// Statistics of a directory, which clients of 1.0 keep here.
    pub summary: Option<Summary>,
    /// Target of a symbolic link.
    pub link_target: &'b [u8],
    /// Key of the object with the content, or [`Mac::ZERO`].
    pub object: Mac,
    /// Content type; empty for directories, and in entries of 1.0.
    pub content_type: &'b [u8],
    /// Entropy of the content in bits per byte.
    pub entropy: f64,
    /// Number of chunks of the content.
    pub chunks: u64,
    /// Names of the extended attributes, sorted.
    pub xattr_names: List<'b>,
}

impl<'b> Entry<'b> {
    /// Writes the entry.
    pub fn emit(&self, w: &mut Writer<'_>) {
        let optional = [
            !self.link_target.is_empty(),
            !self.content_type.is_empty(),
            self.entropy != 0.0,
            self.chunks != 0,
            !self.xattr_names.is_empty(),
        ];
        w.map(5 + optional.iter().filter(|present| **present).count());
        w.key("version");
        w.u32(Version::V1_0_0.0);
        w.key("parent_path");
        w.str(self.parent_path);
        w.key("file_info");
        self.info.emit(w);
        w.key("summary");
        match &self.summary {
            Some(summary) => summary.emit(w),
            None => w.nil(),
        }
        if optional[0] {
            w.key("symlink_target");
            w.str(self.link_target);
        }
        w.key("object");
        w.mac(&self.object);
        if optional[1] {
            w.key("content_type");
            w.str(self.content_type);
        }
        if optional[2] {
            w.key("entropy");
            w.f64(self.entropy);
        }
        if optional[3] {
            w.key("chunks");
            w.u64(self.chunks);
        }
        if optional[4] {
            w.key("extended_attributes");
            self.xattr_names.emit(w);
        }
    }

    /// Reads an entry.
    ///
    /// # Errors
    ///
    /// [`FormatError`] for what is no entry.
    pub fn parse(bytes: &'b [u8]) -> Result<Self, FormatError> {
        let mut entry = Self::default();
        Reader::new(bytes).fields(|key, value| {
            match key {
                b"parent_path" => entry.parent_path = value.bytes()?,
                b"file_info" => entry.info = FileInfo::parse(value)?,
                b"summary" if value.nil() => {}
                b"summary" => entry.summary = Some(Summary::parse_value(value)?),
                b"symlink_target" => entry.link_target = value.bytes()?,
                b"object" => entry.object = value.mac()?,
                b"content_type" => entry.content_type = value.bytes()?,
                b"entropy" => entry.entropy = value.f64()?,
                b"chunks" => entry.chunks = value.u64()?,
                b"extended_attributes" => entry.xattr_names = value.list()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if entry.info.name.is_empty() || !entry.parent_path.starts_with(b"/") {
            return Err(FormatError::Field("name"));
        }
        Ok(entry)
    }

    /// The name in an entry, without reading what follows it. That the rest is
    /// an entry is not checked.
    ///
    /// # Errors
    ///
    /// [`FormatError`] when there is no name.
    pub fn name(bytes: &'b [u8]) -> Result<&'b [u8], FormatError> {
        let mut reader = Reader::new(bytes);
        for wanted in [&b"file_info"[..], b"name"] {
            let mut left = reader.map()?;
            loop {
                if left == 0 {
                    return Err(FormatError::Field("name"));
                }
                if reader.bytes()? == wanted {
                    break;
                }
                reader.skip()?;
                left -= 1;
            }
        }
        reader.bytes()
    }

    /// Whether this is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        mode::is_directory(self.info.mode)
    }

    /// Whether this is a regular file.
    #[must_use]
    pub fn is_regular(&self) -> bool {
        mode::is_regular(self.info.mode)
    }

    /// Whether this is the root, whose name is its path.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.info.name == b"/"
    }

    /// Writes the path of the entry into `out` and returns its length.
    ///
    /// # Errors
    ///
    /// [`FormatError::Field`] when the name is not one component, and
    /// [`FormatError::Scratch`] when `out` is too small.
    pub fn path(&self, out: &mut [u8]) -> Result<usize, FormatError> {
        if self.is_root() {
            return super::path::join(b"", b"", out);
        }
        if !super::path::is_component(self.info.name) {
            return Err(FormatError::Field("name"));
        }
        super::path::join(self.parent_path, self.info.name, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;
    use std::format;
    use std::string::String;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The worked example of section 17 of the format.
    #[test]
    fn known_answer() {
        let object =
            Mac::from_hex(b"b28720c57d4e07174fe5278b798fea4217d66712c148d3e13cc69b7bebb22f9f");
        let entry = Entry {
            parent_path: b"/",
            info: FileInfo {
                name: b"a.txt",
                size: 12,
                mode: 0o644,
                mod_time: Timestamp { secs: 1_700_000_000, nanos: 123_456_789 },
                ino: 1,
                nlink: 1,
                username: b"root",
                groupname: b"root",
                ..FileInfo::default()
            },
            object: object.unwrap(),
            content_type: b"text/plain; charset=utf-8",
            entropy: f64::from_bits(0x4008_2d2b_4806_91b3),
            chunks: 1,
            ..Entry::default()
        };
        let mut space = [0; 1024];
        let mut writer = Writer::new(&mut space);
        entry.emit(&mut writer);
        let bytes = writer.finish().unwrap();
        assert_eq!(
            hex(bytes),
            "88a776657273696f6ece00010000ab706172656e745f70617468a12fa966696c655f696e666f8ca46e616d65a5612e747874a473697a65d3000000000000000ca46d6f6465ce000001a4a86d6f645f74696d65d7ff1d6f34546553f100a3646576cf0000000000000000a3696e6fcf0000000000000001a3756964cf0000000000000000a3676964cf0000000000000000a56e6c696e6bcd0001a8757365726e616d65a4726f6f74a967726f75706e616d65a4726f6f74a5666c616773ce00000000a773756d6d617279c0a66f626a656374c420b28720c57d4e07174fe5278b798fea4217d66712c148d3e13cc69b7bebb22f9fac636f6e74656e745f74797065b9746578742f706c61696e3b20636861727365743d7574662d38a7656e74726f7079cb40082d2b480691b3a66368756e6b73cf0000000000000001"
        );
        assert_eq!(Entry::parse(bytes), Ok(entry));
        assert_eq!(Entry::name(bytes), Ok(&b"a.txt"[..]));
        assert!(Entry::name(&bytes[..40]).is_err());
        assert!(Entry::name(&[0x80]).is_err());
    }
}
