//! Importer to store.

use crate::error::Error;
use crate::importer::Importer;
use crate::mac::Mac;
use crate::repository::{Lend, Repository};
use crate::session::Written;
use crate::time::Timestamp;
use crate::wire::summary::Summary;

/// What a backup is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'o> {
    /// Name of the snapshot.
    pub name: &'o [u8],
    /// Category.
    pub category: &'o [u8],
    /// Environment.
    pub environment: &'o [u8],
    /// Perimeter.
    pub perimeter: &'o [u8],
    /// Job.
    pub job: &'o [u8],
    /// Tags.
    pub tags: &'o [&'o [u8]],
    /// The machine and program that make it, as pairs of key and value.
    pub context: &'o [(&'o [u8], &'o [u8])],
    /// When it was taken, if not now.
    pub timestamp: Option<Timestamp>,
    /// Whether extended attributes are left out.
    pub skip_xattrs: bool,
    /// Name of the machine, for the lock.
    pub hostname: &'o [u8],
}

/// What happens during a backup.
#[derive(Clone, Copy, Debug)]
pub enum Event<'e> {
    /// An entry is stored. `changed` says that its content was read.
    Entry {
        /// Its path.
        path: &'e [u8],
        /// Length of its content, in bytes.
        size_bytes: u64,
        /// Whether its content was read.
        changed: bool,
    },
    /// Some content was read.
    Read {
        /// How much, in bytes.
        bytes: u64,
    },
    /// An entry could not be read.
    Failed {
        /// Its path.
        path: &'e [u8],
        /// Why.
        message: &'e [u8],
    },
    /// A file changed while it was read.
    Changed {
        /// Its path.
        path: &'e [u8],
    },
}

/// What a backup has made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// The snapshot.
    pub snapshot: Mac,
    /// Statistics of everything in it.
    pub summary: Summary,
    /// Entries whose content was not read, because it has not changed.
    pub unchanged: u64,
    /// Files that changed while they were read.
    pub changed_while_read: u64,
    /// Bytes that the store did not have, before encoding.
    pub new_bytes: u64,
    /// What was written to the store.
    pub written: Written,
    /// How long it took, in nanoseconds.
    pub duration_nanos: i64,
}
