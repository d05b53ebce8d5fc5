//! Records: `parse` and `emit`, without IO and without policy.
//!
//! Every record borrows from the bytes it was parsed from, and nothing is
//! copied or allocated. Integers outside msgpack are little-endian.

pub mod btree;
pub mod config;
pub mod dirpack;
pub mod entry;
pub mod envelope;
pub mod error_entry;
pub mod file_info;
pub mod header;
pub mod list;
pub mod lock;
pub mod mode;
pub mod msgpack;
pub mod object;
pub mod packfile;
pub mod path;
pub mod ptar;
pub mod state;
pub mod summary;
pub mod xattr;

use core::ops::Range;

/// A field of fixed length in a record of fixed length.
pub(crate) fn field<const N: usize>(bytes: &[u8], range: Range<usize>) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[range]);
    field
}
