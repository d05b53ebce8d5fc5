//! [`PtarReader`] and [`PtarWriter`]: a store in one file.
//!
//! Section 14.5 of the format: a magic number, CONFIG, exactly one packfile,
//! exactly one state, and a table that tells where these three lie. It is read from
//! a disk or a web server.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use tiroir_core::host::HostErrorKind;
use tiroir_core::store::StoreResource;

use crate::error::HostsError;

pub use reader::PtarReader;
pub use writer::PtarWriter;

mod reader;
#[cfg(test)]
mod tests;
mod writer;

/// Magic number and version at the start.
const START: [u8; 12] = *b"_PLATAR_\x00\x00\x01\x00";

/// Part of the file that holds a resource.
#[derive(Clone, Copy, Debug, Default)]
struct Region {
    offset_bytes: u64,
    length_bytes: u64,
}

impl Region {
    /// How many bytes of `into` a read from `offset_bytes` of the region fills.
    fn part<'a>(&self, offset_bytes: u64, into: &'a mut [u8]) -> &'a mut [u8] {
        let left = self.length_bytes.saturating_sub(offset_bytes);
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
        &mut into[..count]
    }

    fn read(&self, file: &File, offset_bytes: u64, into: &mut [u8]) -> io::Result<usize> {
        let part = self.part(offset_bytes, into);
        if part.is_empty() {
            return Ok(0);
        }
        // No overflow: the part is not empty, so the offset lies in the region.
        file.read_exact_at(part, self.offset_bytes + offset_bytes)?;
        Ok(part.len())
    }
}

fn not_found(path: &Path, resource: StoreResource) -> HostsError {
    let rule = match resource {
        StoreResource::Packfile => "it holds no such packfile",
        StoreResource::State => "it holds no such state",
        StoreResource::Lock => "archives have no locks",
    };
    HostsError::rule(HostErrorKind::NotFound, "read", path.as_os_str().as_bytes(), rule)
}
