//! B+trees in blobs: built from sorted input, read by cursor. Section 11.3 of
//! the format.
//!
//! A tree is built from its last key to its first, because a leaf names the
//! leaf to its right by a MAC of its content. Reading takes one node at a
//! time: the number of keys changes nothing in memory.

mod builder;
mod cursor;

pub use builder::{TreeBuilder, TreeKinds, builder_bytes_min};
pub use cursor::{Cursor, KeyOrder, Pair, lookup};

use crate::error::Error;
use crate::mac::Mac;
use crate::resource::ResourceKind;

/// Where the nodes of a new tree go.
pub trait NodeSink {
    /// The host's error.
    type Error;

    /// Stores a blob, unless it is there, and returns its key.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being stored.
    fn put(&mut self, kind: ResourceKind, bytes: &[u8]) -> Result<Mac, Error<Self::Error>>;
}

/// Where the nodes of a tree come from.
pub trait NodeSource {
    /// The host's error.
    type Error;

    /// Reads a blob into the start of `into` and returns its length.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being read; also when it does not fit.
    fn read(
        &mut self,
        kind: ResourceKind,
        mac: &Mac,
        into: &mut [u8],
    ) -> Result<usize, Error<Self::Error>>;
}
