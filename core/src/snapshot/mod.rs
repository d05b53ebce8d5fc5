//! Snapshots: made from an importer, read, checked, and given to an exporter.
//!
//! - [`backup`]: importer to store;
//! - [`walk`]: the entries of a snapshot, depth first;
//! - [`check`]: everything that a snapshot needs, read and compared;
//! - [`sweep`]: packfiles and what is in them, read once, for all snapshots;
//! - [`restore`]: store to exporter.

pub mod backup;
pub mod check;
mod previous;
pub mod restore;
pub mod scan;
pub mod sweep;
pub mod walk;

use crate::error::{Error, Subject};
use crate::limits::{ENTRY_BYTES_MAX, HEADER_BYTES_MAX, NODE_BYTES_MAX};
use crate::mac::Mac;
use crate::repository::{Lend, Repository};
use crate::resource::ResourceKind;
use crate::wire::header::Header;

/// Set in `flags` of a file that has more than one name, whose `nlink` is
/// recorded as 1: stock loses all names but the first of a file recorded with
/// more (trap 8 of the format). `docs/format/hard-links.md` says more.
pub const FLAG_HARD_LINK: u32 = 1 << 31;

/// Memory to read snapshots with, lent by the caller.
#[derive(Debug)]
pub struct ReadMemory<'m> {
    /// Takes the largest chunk of the store, or the header of a snapshot. Lists
    /// of chunks are decoded in it: those of stock with more than 4 MiB, of files
    /// of some 40 GiB, take
    /// [`DECODE_SCRATCH_BYTES_STOCK`](crate::codec::DECODE_SCRATCH_BYTES_STOCK).
    pub chunk: &'m mut [u8],
    /// Takes a node of a tree.
    pub node: &'m mut [u8],
    /// Takes an entry.
    pub entry: &'m mut [u8],
}

impl<'m> ReadMemory<'m> {
    /// Bytes needed for a store whose chunks have at most `chunk_bytes` bytes.
    #[must_use]
    pub const fn bytes(chunk_bytes: usize) -> usize {
        let chunk_bytes =
            if chunk_bytes > HEADER_BYTES_MAX { chunk_bytes } else { HEADER_BYTES_MAX };
        chunk_bytes + NODE_BYTES_MAX + ENTRY_BYTES_MAX
    }

    /// Divides `memory`, which has at least [`bytes`](Self::bytes) bytes: what is
    /// beyond that goes to the chunk.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`] when it has less.
    pub fn new<E>(memory: &'m mut [u8], chunk_bytes: usize) -> Result<Self, Error<E>> {
        let (needed, lent) = (Self::bytes(chunk_bytes), memory.len());
        let too_small = Error::Memory {
            what: "reading a snapshot",
            needed_bytes: needed as u64,
            lent_bytes: lent as u64,
        };
        if lent < needed {
            return Err(too_small);
        }
        let (node, rest) = memory.split_at_mut(NODE_BYTES_MAX);
        let (entry, chunk) = rest.split_at_mut(ENTRY_BYTES_MAX);
        Ok(Self { chunk, node, entry })
    }
}

/// Reads the header of a snapshot.
///
/// # Errors
///
/// [`Error::Missing`], [`Error::Damaged`], and the host's.
pub fn read_header<'b, L: Lend>(
    repository: &mut Repository<'_, L>,
    snapshot: &Mac,
    into: &'b mut [u8],
) -> Result<Header<'b>, Error<L::Error>> {
    let len = repository.read_blob(ResourceKind::SNAPSHOT, snapshot, into)?;
    let subject = Subject::Blob(ResourceKind::SNAPSHOT, *snapshot);
    let header = Header::parse(&into[..len]).map_err(Error::damaged(subject))?;
    // Nothing binds a header to its key but what it says of itself.
    if header.identifier == *snapshot {
        Ok(header)
    } else {
        Err(Error::damaged(subject)(crate::error::FormatError::Field("identifier")))
    }
}
