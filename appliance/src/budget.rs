//! How the memory of `--memory` is divided.
//!
//! | part | bytes |
//! | --- | --- |
//! | the program itself, SQLite, buffers of connectors | [`PROCESS_BYTES`] |
//! | write-behind buffers of spools | [`SPOOLS_BYTES`] |
//! | index and its filter | 1/16 and 1/24 of all, from [`INDEX_CACHE_BYTES_MIN`] and [`INDEX_FILTER_BYTES_MIN`] on |
//! | [`Repository`](tiroir_core::repository::Repository): input | [`IO_BYTES`] |
//! | what waits to be written | [`OUT_BYTES`] |
//! | encoding, with larger tables where there is room | [`ENCODE_SCRATCH_BYTES_MIN`] to [`ENCODE_SCRATCH_BYTES`] |
//! | decoding, in blocks of 4 MiB of stock; more is lent by the command | [`COLLECT_SCRATCH_BYTES_STOCK`] |
//! | threads that encode what a backup stores, where there is room: batches, and scratch for each | see [`Plan::with_threads`] |
//! | work: the largest chunk, and what the command does | the rest |
//!
//! The parts are taken once, in one piece. What is never touched costs nothing.
//! `tiroir limits` prints them.

use tiroir_core::codec::{
    COLLECT_SCRATCH_BYTES_STOCK, DECODE_SCRATCH_BYTES_STOCK, DecodeScratch, ENCODE_SCRATCH_BYTES,
    ENCODE_SCRATCH_BYTES_MIN, EncodeScratch,
};
use tiroir_core::error::FormatError;
use tiroir_core::pipeline::Batch;
use tiroir_core::repository::{IO_BYTES, Memory, OUT_BYTES};
use tiroir_hosts::mapped::Mapped;
use tiroir_hosts::parallel::Width;

use crate::error::{Failure, Result};
use crate::exit::Status;
use crate::machine;
use crate::text::size::Size;

/// Bytes in a mebibyte.
pub(crate) const MIB: u64 = 1024 * 1024;

/// Least budget: enough for a store with stock's sizes.
pub(crate) const BUDGET_BYTES_MIN: u64 = 24 * MIB;

/// Most that is taken without being told.
pub(crate) const BUDGET_BYTES_DEFAULT_MAX: u64 = 256 * MIB;

/// The program itself, its stack, SQLite and the buffers of connectors.
const PROCESS_BYTES: u64 = 4 * MIB;

/// What connectors may take beside that where the budget is larger, at most.
const CONNECTORS_BYTES_MAX: u64 = 12 * MIB;

/// What a further connection takes, with what was read or is to be written over it.
const CONNECTION_BYTES: u64 = 4 * MIB;

/// Blocks that wait of files that are read or written at once, in the smallest
/// budget, and as many more for each further connection.
const BLOCKS_MIN: usize = 4;
const BLOCKS_MORE: usize = 16;

/// What the spools of one command hold in memory.
const SPOOLS_BYTES: u64 = 3 * MIB / 2;

/// Least page cache of the index.
pub(crate) const INDEX_CACHE_BYTES_MIN: u64 = MIB / 2;

/// Most page cache of the index: what reads a million locations quickly.
pub(crate) const INDEX_CACHE_BYTES_MAX: u64 = 32 * MIB;

/// Least filter of the index.
pub(crate) const INDEX_FILTER_BYTES_MIN: u64 = MIB;

/// Most filter of the index.
pub(crate) const INDEX_FILTER_BYTES_MAX: u64 = 8 * MIB;

/// Threads that encode, at most: they keep up with one that reads and writes.
const THREADS_MAX: usize = 3;

/// Batches beside one for each thread: one is filled, one digested, one written.
const BATCHES_MORE: usize = 3;

/// What is left for work, above what it needs, before threads are given any.
pub(crate) const WORK_ROOM_BYTES: usize = 16 * 1024 * 1024;

/// The budget without `--memory`: a quarter of what is available.
pub(crate) fn default_bytes() -> u64 {
    let available = machine::Memory::read().map_or(0, |memory| memory.available_bytes);
    (available / 4).clamp(BUDGET_BYTES_MIN, BUDGET_BYTES_DEFAULT_MAX)
}

/// The part of the process: more connections where there is more.
fn process_bytes(budget_bytes: u64) -> u64 {
    (budget_bytes / 6).clamp(PROCESS_BYTES, PROCESS_BYTES + CONNECTORS_BYTES_MAX)
}

/// How many files are read from a server, or written to one, at once.
pub(crate) fn width(budget_bytes: u64) -> Width {
    let more = (process_bytes(budget_bytes) - PROCESS_BYTES) / CONNECTION_BYTES;
    let more = usize::try_from(more).unwrap_or(0);
    Width { threads: 1 + more, blocks: BLOCKS_MIN + BLOCKS_MORE * more }
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
    pub(crate) fn count(self) -> u64 {
        match self {
            Self::All => 1,
            Self::Half => 2,
        }
    }
}

/// A part of the budget.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Part {
    /// A short name.
    pub(crate) name: &'static str,
    /// How much it is.
    pub(crate) bytes: u64,
    /// What takes it.
    pub(crate) what: &'static str,
}

/// Everything that a budget is divided into.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Parts {
    process_bytes: u64,
    index_cache_bytes: u64,
    index_filter_bytes: u64,
    encode_bytes: u64,
    work_bytes: u64,
}

impl Parts {
    /// Divides the budget of one repository, for a command that needs
    /// `work_bytes` at least. It may get less.
    pub(crate) fn of(budget_bytes: u64, work_bytes: u64) -> Self {
        let mut parts = Self {
            process_bytes: process_bytes(budget_bytes),
            index_cache_bytes: (budget_bytes / 16)
                .clamp(INDEX_CACHE_BYTES_MIN, INDEX_CACHE_BYTES_MAX),
            index_filter_bytes: (budget_bytes / 24)
                .clamp(INDEX_FILTER_BYTES_MIN, INDEX_FILTER_BYTES_MAX),
            encode_bytes: ENCODE_SCRATCH_BYTES_MIN as u64,
            work_bytes: 0,
        };
        let left = budget_bytes.saturating_sub(parts.sum());
        let spare = left.saturating_sub(work_bytes);
        let more = spare.min((ENCODE_SCRATCH_BYTES - ENCODE_SCRATCH_BYTES_MIN) as u64);
        parts.encode_bytes += more;
        parts.work_bytes = left - more;
        parts
    }

    /// Each of them.
    pub(crate) fn list(&self) -> [Part; 9] {
        let part = |name, bytes, what| Part { name, bytes, what };
        [
            part(
                "process",
                self.process_bytes,
                "the program itself, its stack, SQLite, connectors",
            ),
            part("spools", SPOOLS_BYTES, "what waits to be written to spools, or was read of them"),
            part("index", self.index_cache_bytes, "pages, fences, what is sorted, marks"),
            part("filter", self.index_filter_bytes, "the index's answer to most misses"),
            part("input", IO_BYTES as u64, "parts of packfiles, the last ones read"),
            part("output", OUT_BYTES as u64, "what is hashed and written at once"),
            part("encoding", self.encode_bytes, "a block, the same compressed, a sealed piece"),
            part("decoding", COLLECT_SCRATCH_BYTES_STOCK as u64, "a sealed piece, a block"),
            part("work", self.work_bytes, "a chunk, and what the command does: the rest"),
        ]
    }

    /// All of them together.
    fn sum(&self) -> u64 {
        self.list().iter().map(|part| part.bytes).sum()
    }
}

/// The least budget, in whole mebibytes, for a command that needs `work_bytes`
/// for each of its repositories.
pub(crate) fn least_bytes(share: Share, work_bytes: usize) -> u64 {
    let work_bytes = work_bytes as u64;
    let fits = |budget_bytes: &u64| Parts::of(*budget_bytes, work_bytes).work_bytes >= work_bytes;
    // A part of the budget goes to the index: a few steps.
    let start = (Parts::of(0, 0).sum() + work_bytes).div_ceil(MIB);
    (start..).map(|mib| mib * MIB).find(fits).unwrap_or(u64::MAX) * share.count()
}

/// The least budget, in whole mebibytes, in which a command that needs `work_bytes`
/// has a thread to encode, for chunks of `chunk_bytes` on two processors.
pub(crate) fn threaded_bytes_min(work_bytes: usize, chunk_bytes: usize) -> u64 {
    let has_thread = |budget_bytes: &u64| {
        let plan = Plan::new(*budget_bytes, Share::All, work_bytes);
        plan.is_ok_and(|plan| plan.with_threads(2, chunk_bytes).threads() > 0)
    };
    let budgets = (BUDGET_BYTES_MIN / MIB..).map(|mib| mib * MIB);
    let mut budgets = budgets.take_while(|budget_bytes| *budget_bytes < 1 << 40);
    budgets.find(has_thread).unwrap_or(u64::MAX)
}

/// A budget, divided, and enough.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Plan {
    encode_bytes: usize,
    work_bytes: usize,
    /// Least of the work.
    work_bytes_min: usize,
    /// Threads that encode.
    threads: usize,
    /// Largest chunk of their batches.
    chunk_bytes: usize,
    /// Memory of the index.
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
        let parts = Parts::of(budget_bytes / share.count(), work_bytes as u64);
        if parts.work_bytes < work_bytes as u64 {
            return Err(too_small(least_bytes(share, work_bytes)));
        }
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        Ok(Self {
            encode_bytes: size(parts.encode_bytes),
            // All parts are taken in one piece, which has to fit.
            work_bytes: size(parts.work_bytes).min(isize::MAX.unsigned_abs() / 2),
            work_bytes_min: work_bytes,
            threads: 0,
            chunk_bytes: 0,
            index_cache_bytes: size(parts.index_cache_bytes),
            index_filter_bytes: size(parts.index_filter_bytes),
        })
    }

    /// With up to `processors` - 1 threads that encode, for chunks of
    /// `chunk_bytes`, as far as there is memory for them: none in a small budget.
    pub(crate) fn with_threads(mut self, processors: usize, chunk_bytes: usize) -> Self {
        self.chunk_bytes = chunk_bytes;
        for threads in (1..=processors.saturating_sub(1).min(THREADS_MAX)).rev() {
            self.threads = threads;
            let spare = self.work_bytes.saturating_sub(self.work_bytes_min + WORK_ROOM_BYTES);
            if self.threads_bytes() <= spare {
                self.work_bytes -= self.threads_bytes();
                return self;
            }
        }
        self.threads = 0;
        self
    }

    /// Threads that encode.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Memory of the threads.
    fn threads_bytes(&self) -> usize {
        match self.threads {
            0 => 0,
            threads => {
                let batches =
                    (threads + BATCHES_MORE).saturating_mul(Batch::bytes(self.chunk_bytes));
                batches.saturating_add(threads * self.encode_bytes)
            }
        }
    }

    /// Takes the memory, all zeros and not touched yet.
    ///
    /// # Errors
    ///
    /// When there is not so much.
    pub(crate) fn allocate(&self) -> Result<Mapped> {
        let bytes = IO_BYTES
            + OUT_BYTES
            + self.encode_bytes
            + COLLECT_SCRATCH_BYTES_STOCK
            + self.threads_bytes()
            + self.work_bytes;
        Mapped::new(bytes).ok_or_else(|| {
            Failure::new(Status::Failed, format!("there are not {} of memory", Size(bytes as u64)))
                .with_advice(
                    "Say how much may be taken with --memory BYTES; `tiroir limits` tells how \
                     little will do.",
                )
        })
    }

    /// Divides the memory into that of the repository, of threads, and of the
    /// command.
    ///
    /// # Errors
    ///
    /// None with memory from [`allocate`](Self::allocate).
    pub(crate) fn divide<'m>(&self, memory: &'m mut [u8]) -> Result<Divided<'m>, FormatError> {
        let (io, rest) = memory.split_at_mut(IO_BYTES);
        let (out, rest) = rest.split_at_mut(OUT_BYTES);
        let (encode, rest) = rest.split_at_mut(self.encode_bytes);
        let (decode, rest) = rest.split_at_mut(COLLECT_SCRATCH_BYTES_STOCK);
        let (mut threads, work) = rest.split_at_mut(self.threads_bytes());
        let (mut batches, mut scratches) = (Vec::new(), Vec::new());
        for _ in 0..self.threads {
            let (scratch, rest) = threads.split_at_mut(self.encode_bytes);
            scratches.push(EncodeScratch::new(scratch)?);
            threads = rest;
        }
        while !threads.is_empty() {
            let (batch, rest) = threads.split_at_mut(Batch::bytes(self.chunk_bytes));
            batches.push(Batch::new(batch, self.chunk_bytes)?);
            threads = rest;
        }
        let memory = Memory {
            io,
            out,
            encode: EncodeScratch::new(encode)?,
            decode: DecodeScratch::new(decode)?,
        };
        Ok(Divided { memory, batches, scratches, work })
    }
}

/// What a repository takes that does nothing but read states, stock's too.
pub(crate) const REFRESH_BYTES: usize =
    IO_BYTES + OUT_BYTES + ENCODE_SCRATCH_BYTES_MIN + DECODE_SCRATCH_BYTES_STOCK;

/// Divides [`REFRESH_BYTES`] of memory.
///
/// # Errors
///
/// None with so much memory.
pub(crate) fn for_refresh(memory: &mut [u8]) -> Result<Memory<'_>, FormatError> {
    let (io, rest) = memory.split_at_mut(IO_BYTES);
    let (out, rest) = rest.split_at_mut(OUT_BYTES);
    let (encode, decode) = rest.split_at_mut(ENCODE_SCRATCH_BYTES_MIN);
    let (encode, decode) = (EncodeScratch::new(encode)?, DecodeScratch::new(decode)?);
    Ok(Memory { io, out, encode, decode })
}

/// The parts of the memory.
pub(crate) struct Divided<'m> {
    /// For the repository.
    pub(crate) memory: Memory<'m>,
    /// For threads, if there are to be any.
    pub(crate) batches: Vec<Batch<'m>>,
    /// One for each thread.
    pub(crate) scratches: Vec<EncodeScratch<'m>>,
    /// For the command.
    pub(crate) work: &'m mut [u8],
}

fn too_small(least_bytes: u64) -> Failure {
    let least = least_bytes / MIB;
    Failure::new(Status::Failed, "the memory is not enough for this store")
        .with_advice(format!("It needs {least} MiB: --memory {least}M."))
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
        let work = plan.divide(&mut memory).unwrap().work;
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
    fn threads_take_what_is_left() {
        let plan = |mib, processors| {
            Plan::new(mib * MIB, Share::All, backup_bytes(CHUNK_BYTES))
                .unwrap()
                .with_threads(processors, CHUNK_BYTES)
        };
        for (mib, processors, threads) in
            [(24, 4, 0), (64, 4, 0), (256, 1, 0), (256, 2, 1), (256, 64, 3), (132, 64, 1)]
        {
            let plan = plan(mib, processors);
            assert_eq!(plan.threads, threads, "{mib} MiB, {processors} processors");
            let mut memory = plan.allocate().unwrap();
            assert!(memory.len() as u64 <= mib * MIB - PROCESS_BYTES - SPOOLS_BYTES);
            let divided = plan.divide(&mut memory).unwrap();
            assert_eq!(divided.scratches.len(), threads);
            let batches = if threads == 0 { 0 } else { threads + BATCHES_MORE };
            assert_eq!(divided.batches.len(), batches);
            assert!(divided.work.len() >= backup_bytes(CHUNK_BYTES));
        }
    }

    #[test]
    fn too_little_says_how_much() {
        for (share, work) in
            [(Share::All, 64 << 20), (Share::Half, 16 << 20), (Share::All, 1), (Share::Half, 9)]
        {
            let least = least_bytes(share, work);
            assert!(Plan::new(least, share, work).is_ok());
            let text = Plan::new(least - share.count() * MIB, share, work).unwrap_err().to_string();
            assert!(text.contains(&format!("--memory {}M.", least / MIB)), "{text}");
        }
    }

    #[test]
    fn parts_are_all_there_is() {
        for budget in [20, 24, 64, 100, 256, 4096].map(|mib| mib * MIB) {
            let parts = Parts::of(budget, 1 << 20);
            assert_eq!(parts.sum(), budget);
        }
        // Nothing is taken twice where it is too little.
        assert_eq!(Parts::of(MIB, 1 << 20).work_bytes, 0);
    }
}
