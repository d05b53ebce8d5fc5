//! Doubles for tests: everything that the engine is lent, in memory.
//!
//! Not a part of the interface: the feature `_test` may change at any time.
//! The doubles are strict where a real host would be lenient, and awkward
//! where it may be: listings come in descending order, reads come in pieces.

mod exporter;
mod host;
mod importer;
mod index;
mod pipeline;
mod store;

use core::error::Error;
use core::fmt;

use crate::host::{HostError, HostErrorKind};

pub use self::exporter::{MemExporter, Restored, RestoredInfo, RestoredKind};
pub use self::host::{MemHost, MemSpool};
pub use self::importer::{MemEntry, MemImporter};
pub use self::index::MemIndex;
pub use self::pipeline::LatePipeline;
pub use self::store::{FaultStore, MemStore};
pub use crate::chunker::naive_cuts;
pub use crate::refresh::state_entries;

/// The one error of all doubles, so that they can be lent together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TestError {
    /// The thing asked for is not there.
    NotFound,
    /// The thing to create is there already.
    AlreadyExists,
    /// Not allowed.
    PermissionDenied,
    /// The fuel of a [`FaultStore`] is out.
    Fault,
    /// An index forgot what it was told.
    Lost,
    /// The engine broke a rule of the interface; the text says which.
    Misuse(&'static str),
}

impl fmt::Display for TestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("not found"),
            Self::AlreadyExists => f.write_str("already exists"),
            Self::PermissionDenied => f.write_str("permission denied"),
            Self::Fault => f.write_str("out of fuel"),
            Self::Lost => f.write_str("forgotten"),
            Self::Misuse(rule) => write!(f, "misuse: {rule}"),
        }
    }
}

impl Error for TestError {}

impl HostError for TestError {
    fn kind(&self) -> HostErrorKind {
        match self {
            Self::NotFound => HostErrorKind::NotFound,
            Self::AlreadyExists => HostErrorKind::AlreadyExists,
            Self::PermissionDenied => HostErrorKind::PermissionDenied,
            Self::Lost => HostErrorKind::Lost,
            Self::Fault | Self::Misuse(_) => HostErrorKind::Other,
        }
    }
}

/// Copies what `bytes` have from `offset_bytes` on, and returns its length.
fn read_from(bytes: &[u8], offset_bytes: u64, into: &mut [u8]) -> usize {
    let start = usize::try_from(offset_bytes).unwrap_or(usize::MAX);
    let bytes = bytes.get(start..).unwrap_or_default();
    let length = bytes.len().min(into.len());
    into[..length].copy_from_slice(&bytes[..length]);
    length
}
