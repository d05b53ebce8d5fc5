//! The memory of a process with 24 MiB, divided as the program divides it:
//! `appliance/src/budget.rs` has the reasons.

use tiroir_core::codec::{
    COLLECT_SCRATCH_BYTES_STOCK, DecodeScratch, ENCODE_SCRATCH_BYTES_MIN, EncodeScratch,
};
use tiroir_core::error::FormatError;
use tiroir_core::repository::{IO_BYTES, Memory, OUT_BYTES};

/// The whole of it.
pub const BUDGET_BYTES: usize = 24 << 20;

/// What the program keeps for itself, SQLite, connectors and spools.
const RESERVED_BYTES: usize = (4 << 20) + (3 << 19);

/// Page cache of the index.
pub const INDEX_CACHE_BYTES: usize = BUDGET_BYTES / 16;

/// Filter of the index.
pub const INDEX_FILTER_BYTES: usize = BUDGET_BYTES / 24;

/// What is lent to a repository and to a backup, in one piece.
const LENT_BYTES: usize = BUDGET_BYTES - RESERVED_BYTES - INDEX_CACHE_BYTES - INDEX_FILTER_BYTES;

/// Takes the memory, all zeros and not touched yet.
#[must_use]
pub fn allocate() -> Vec<u8> {
    vec![0; LENT_BYTES]
}

/// Divides it into that of the repository and that for work.
///
/// # Errors
///
/// None with memory from [`allocate`].
pub fn divide(memory: &mut [u8]) -> Result<(Memory<'_>, &mut [u8]), FormatError> {
    let (io, rest) = memory.split_at_mut(IO_BYTES);
    let (out, rest) = rest.split_at_mut(OUT_BYTES);
    let (encode, rest) = rest.split_at_mut(ENCODE_SCRATCH_BYTES_MIN);
    let (decode, work) = rest.split_at_mut(COLLECT_SCRATCH_BYTES_STOCK);
    let (encode, decode) = (EncodeScratch::new(encode)?, DecodeScratch::new(decode)?);
    Ok((Memory { io, out, encode, decode }, work))
}
