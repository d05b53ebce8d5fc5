//! [`ErrorEntry`]: what could not be read, and why. Section 11.10 of the format.

use super::msgpack::{Reader, Writer};
use crate::error::FormatError;
use crate::resource::Version;

/// What could not be read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ErrorEntry<'b> {
    /// Path of the entry.
    pub path: &'b [u8],
    /// Message for people.
    pub message: &'b [u8],
}

impl<'b> ErrorEntry<'b> {
    /// Writes the record.
    pub fn emit(&self, w: &mut Writer<'_>) {
        w.map(3);
        w.key("version");
        w.u32(Version::V1_0_0.0);
        w.key("name");
        w.str(self.path);
        w.key("error");
        w.str(self.message);
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
                b"name" => entry.path = value.bytes()?,
                b"error" => entry.message = value.bytes()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(entry)
    }
}
