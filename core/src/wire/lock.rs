//! [`Lock`]: who is using a store. Section 12 of the format.

use super::msgpack::{Reader, Writer};
use crate::error::FormatError;
use crate::resource::Version;
use crate::time::Timestamp;

/// Who is using a store.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Lock<'b> {
    /// When it was last refreshed.
    pub timestamp: Timestamp,
    /// On which machine.
    pub hostname: &'b [u8],
    /// Whether nobody else may use the store.
    pub exclusive: bool,
}

impl<'b> Lock<'b> {
    /// Writes the record.
    pub fn emit(&self, w: &mut Writer<'_>) {
        w.map(4);
        w.key("version");
        w.u32(Version::V1_0_0.0);
        w.key("timestamp");
        w.time(self.timestamp);
        w.key("hostname");
        w.str(self.hostname);
        w.key("exclusive");
        w.bool(self.exclusive);
    }

    /// Reads the record.
    ///
    /// # Errors
    ///
    /// [`FormatError`] for what is no such record.
    pub fn parse(bytes: &'b [u8]) -> Result<Self, FormatError> {
        let mut lock = Self::default();
        Reader::new(bytes).fields(|key, value| {
            match key {
                b"timestamp" => lock.timestamp = value.time()?,
                b"hostname" => lock.hostname = value.bytes()?,
                b"exclusive" => lock.exclusive = value.bool()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(lock)
    }
}
