//! How the memory of `--memory` is divided.
//!
//! | part | bytes |
//! | --- | --- |
//! | the program itself, SQLite, buffers of connectors | [`PROCESS_BYTES`] |
//! | write-behind buffers of spools | [`SPOOLS_BYTES`] |
//! | page cache and filter of the index | 1/16 and 1/64 of all, from [`INDEX_CACHE_BYTES_MIN`] and [`INDEX_FILTER_BYTES_MIN`] on |
//! | [`Repository`](tiroir_core::repository::Repository): input | [`IO_BYTES`] |
//! | what waits to be written | [`OUT_BYTES`] |
//! | encoding, with larger tables where there is room | [`ENCODE_SCRATCH_BYTES_MIN`] to [`ENCODE_SCRATCH_BYTES`] |
//! | decoding, in blocks of 4 MiB of stock; more is lent by the command | [`COLLECT_SCRATCH_BYTES_STOCK`] |
//! | work: the largest chunk, and what the command does | the rest |
//!
//! The parts are taken once, in one piece. What is never touched costs nothing.

use tiroir_core::codec::{
    COLLECT_SCRATCH_BYTES_STOCK, DecodeScratch, ENCODE_SCRATCH_BYTES, ENCODE_SCRATCH_BYTES_MIN,
    EncodeScratch,
};
use tiroir_core::error::FormatError;
use tiroir_core::repository::{IO_BYTES, Memory, OUT_BYTES};

use crate::error::{Failure, Result};
use crate::exit::Status;
use crate::machine;
use crate::text::size::Size;

/// Bytes in a mebibyte.
const MIB: u64 = 1024 * 1024;

/// Least budget: enough for a store with stock's sizes.
pub(crate) const BUDGET_BYTES_MIN: u64 = 24 * MIB;

/// Most that is taken without being told.
const BUDGET_BYTES_DEFAULT_MAX: u64 = 256 * MIB;

/// The program itself, its stack, SQLite and the buffers of connectors.
const PROCESS_BYTES: u64 = 4 * MIB;

/// What the spools of one command hold in memory.
const SPOOLS_BYTES: u64 = 3 * MIB / 2;

/// Least page cache of the index.
const INDEX_CACHE_BYTES_MIN: u64 = MIB / 2;

/// Most page cache of the index: what reads a million locations quickly.
const INDEX_CACHE_BYTES_MAX: u64 = 32 * MIB;

/// Least filter of the index.
const INDEX_FILTER_BYTES_MIN: u64 = MIB / 4;

/// Most filter of the index.
const INDEX_FILTER_BYTES_MAX: u64 = 8 * MIB;

/// The budget without `--memory`: a quarter of what is available.
pub(crate) fn default_bytes() -> u64 {
    let available = machine::Memory::read().map_or(0, |memory| memory.available_bytes);
    (available / 4).clamp(BUDGET_BYTES_MIN, BUDGET_BYTES_DEFAULT_MAX)
}

/// How much of the budget one repository gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Share {
    /// All: there is one.
    All,
    /// Half: there are two, one to read and one to write.
    Half,
}

impl Share {
    /// The number of repositories.
    fn count(self) -> u64 {
        match self {
            Self::All => 1,
            Self::Half => 2,
        }
    }
}

/// A budget, divided.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Plan {
    encode_bytes: usize,
    work_bytes: usize,
    /// Page cache of the index.
    pub(crate) index_cache_bytes: usize,
    /// Filter of the index.
    pub(crate) index_filter_bytes: usize,
}

impl Plan {
    /// Divides a share of `budget_bytes`, for a command that needs `work_bytes`
    /// at least.
    ///
    /// # Errors
    ///
    /// A failure that says how much is needed, when it is not enough.
    pub(crate) fn new(budget_bytes: u64, share: Share, work_bytes: usize) -> Result<Self> {
        let budget_bytes = budget_bytes / share.count();
        let index_cache = (budget_bytes / 16).clamp(INDEX_CACHE_BYTES_MIN, INDEX_CACHE_BYTES_MAX);
        let index_filter =
            (budget_bytes / 64).clamp(INDEX_FILTER_BYTES_MIN, INDEX_FILTER_BYTES_MAX);
        let fixed = PROCESS_BYTES
            + SPOOLS_BYTES
            + index_cache
            + index_filter
            + (IO_BYTES + OUT_BYTES) as u64;
        let least = fixed
            + (ENCODE_SCRATCH_BYTES_MIN + COLLECT_SCRATCH_BYTES_STOCK) as u64
            + work_bytes as u64;
        let mut left =
            budget_bytes.checked_sub(least).ok_or_else(|| too_small(least * share.count()))?;
        let mut encode_bytes = ENCODE_SCRATCH_BYTES_MIN;
        take(&mut left, ENCODE_SCRATCH_BYTES - ENCODE_SCRATCH_BYTES_MIN, &mut encode_bytes);
        let mut work = work_bytes;
        take(&mut left, usize::MAX - work_bytes, &mut work);
        Ok(Self {
            encode_bytes,
            work_bytes: work,
            index_cache_bytes: usize::try_from(index_cache).unwrap_or(usize::MAX),
            index_filter_bytes: usize::try_from(index_filter).unwrap_or(usize::MAX),
        })
    }

    /// Takes the memory, all zeros and not touched yet.
    ///
    /// # Errors
    ///
    /// When there is not so much.
    pub(crate) fn allocate(&self) -> Result<Vec<u8>> {
        let bytes = IO_BYTES
            + OUT_BYTES
            + self.encode_bytes
            + COLLECT_SCRATCH_BYTES_STOCK
            + self.work_bytes;
        let mut probe = Vec::<u8>::new();
        probe.try_reserve_exact(bytes).map_err(|_| {
            Failure::new(Status::Failed, format!("there are not {} of memory", Size(bytes as u64)))
                .with_advice("Say how much may be taken with --memory BYTES.")
        })?;
        drop(probe);
        // Zeros from the kernel are only made when they are touched.
        Ok(vec![0; bytes])
    }

    /// Divides the memory into that of the repository and that of the command.
    ///
    /// # Errors
    ///
    /// None with memory from [`allocate`](Self::allocate).
    pub(crate) fn divide<'m>(
        &self,
        memory: &'m mut [u8],
    ) -> Result<(Memory<'m>, &'m mut [u8]), FormatError> {
        let (io, rest) = memory.split_at_mut(IO_BYTES);
        let (out, rest) = rest.split_at_mut(OUT_BYTES);
        let (encode, rest) = rest.split_at_mut(self.encode_bytes);
        let (decode, work) = rest.split_at_mut(COLLECT_SCRATCH_BYTES_STOCK);
        let memory = Memory {
            io,
            out,
            encode: EncodeScratch::new(encode)?,
            decode: DecodeScratch::new(decode)?,
        };
        Ok((memory, work))
    }
}

/// Moves up to `wanted` bytes from `left` to `part`.
fn take(left: &mut u64, wanted: usize, part: &mut usize) {
    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(wanted);
    *left -= taken as u64;
    *part += taken;
}

fn too_small(least_bytes: u64) -> Failure {
    // A part of the budget goes to the index: ask for some more.
    let ask = (least_bytes + least_bytes / 8).div_ceil(MIB);
    Failure::new(Status::Failed, "the memory is not enough for this store")
        .with_advice(format!("It needs {ask} MiB: --memory {ask}M."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiroir_core::snapshot::backup::backup_bytes;

    /// Largest chunk of stock's stores.
    const CHUNK_BYTES: usize = 8 * 1024 * 1024;

    #[test]
    fn the_smallest_budget_serves_stock_s_sizes() {
        let plan = Plan::new(BUDGET_BYTES_MIN, Share::All, backup_bytes(CHUNK_BYTES)).unwrap();
        let mut memory = plan.allocate().unwrap();
        assert!(memory.len() as u64 <= BUDGET_BYTES_MIN - PROCESS_BYTES - SPOOLS_BYTES);
        let (_, work) = plan.divide(&mut memory).unwrap();
        assert!(work.len() >= backup_bytes(CHUNK_BYTES));
        assert_eq!(plan.encode_bytes, ENCODE_SCRATCH_BYTES);
    }

    #[test]
    fn more_is_used() {
        let plan = Plan::new(256 * MIB, Share::All, backup_bytes(CHUNK_BYTES)).unwrap();
        assert_eq!(plan.encode_bytes, ENCODE_SCRATCH_BYTES);
        assert_eq!(plan.index_cache_bytes, 16 << 20);
    }

    #[test]
    fn too_little_says_how_much() {
        let failure = Plan::new(BUDGET_BYTES_MIN, Share::All, 64 << 20).unwrap_err();
        let text = failure.to_string();
        let ask = text.split("--memory ").nth(1).and_then(|rest| rest.strip_suffix("M."));
        let ask: u64 = ask.and_then(|number| number.parse().ok()).unwrap();
        assert!((64 + 8..96).contains(&ask), "{text}");
        // The share of the index grows with the budget.
        assert!(Plan::new((ask + 8) * MIB, Share::All, 64 << 20).is_ok());
        let half = Plan::new(40 * MIB, Share::Half, 16 << 20).unwrap_err().to_string();
        assert!(half.contains("--memory 62M"), "{half}");
    }
}
