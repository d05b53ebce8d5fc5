//! The subcommands: arguments, then a function that does it.
//!
//! Each `run` is given what it writes to. Opening the store, printing failures
//! and choosing the exit status is done once for all, in [`crate::open`] and
//! [`crate::run`].

use tiroir_core::codec::DECODE_SCRATCH_BYTES_STOCK;
use tiroir_core::error::{FormatError, Subject};
use tiroir_core::host::Host as _;
use tiroir_core::limits::{ENTRY_BYTES_MAX, PATH_BYTES_MAX};
use tiroir_core::mac::Mac;
use tiroir_core::resource::ResourceKind;
use tiroir_core::snapshot::ReadMemory;
use tiroir_core::snapshot::walk::Walk;
use tiroir_core::wire::config::Chunking;
use tiroir_core::wire::entry::Entry;
use tiroir_core::wire::header::Trees;
use tiroir_hosts::error::HostsError;
use tiroir_hosts::spool::FileSpool;

use crate::error::{EngineError, Failure, Result};
use crate::filter::Filters;
use crate::store::Repo;

pub(crate) mod archive;
pub(crate) mod backup;
pub(crate) mod bench;
pub(crate) mod cat;
pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod create;
pub(crate) mod diff;
pub(crate) mod digest;
pub(crate) mod help;
pub(crate) mod info;
pub(crate) mod key;
pub(crate) mod limits;
pub(crate) mod locate;
pub(crate) mod ls;
pub(crate) mod ptar;
pub(crate) mod restore;
#[cfg(feature = "http")]
pub(crate) mod server;
#[cfg(feature = "sftp")]
pub(crate) mod ssh_trust;
pub(crate) mod version;

/// Memory of a command that reads snapshots.
#[derive(Debug)]
struct Desk<'m> {
    /// To read with.
    read: ReadMemory<'m>,
    /// The entry that a walk gives.
    entry: &'m mut [u8],
    /// What else the command asked for, and more.
    rest: &'m mut [u8],
}

/// Memory of a [`Desk`] with at least `rest_bytes` left, for a store whose
/// chunks have at most `chunk_bytes` bytes.
fn desk_bytes(chunk_bytes: usize, rest_bytes: usize) -> usize {
    ReadMemory::bytes(read_chunk_bytes(chunk_bytes)) + ENTRY_BYTES_MAX + rest_bytes
}

/// Memory for the chunks of a command that reads snapshots: enough for the lists
/// of chunks that stock writes, however long, and for the states.
fn read_chunk_bytes(chunk_bytes: usize) -> usize {
    chunk_bytes.max(DECODE_SCRATCH_BYTES_STOCK)
}

impl<'m> Desk<'m> {
    /// Divides `memory`, of which [`desk_bytes`] says how much is needed.
    fn new(repo: &Repo<'_>, memory: &'m mut [u8]) -> Result<Self> {
        let chunk_bytes = repo.facts().chunking.max();
        let read_bytes = ReadMemory::bytes(read_chunk_bytes(chunk_bytes));
        let (read, rest) = memory.split_at_mut(read_bytes.min(memory.len()));
        let read = ReadMemory::new::<HostsError>(read, chunk_bytes)?;
        let (entry, rest) = rest.split_at_mut(ENTRY_BYTES_MAX.min(rest.len()));
        Ok(Self { read, entry, rest })
    }
}

/// Largest chunk of the stores that stock makes, and we, in bytes.
fn stock_chunk_bytes() -> usize {
    usize::try_from(Chunking::default().max_bytes).unwrap_or(usize::MAX)
}

/// A walk over a snapshot.
fn new_walk(repo: &mut Repo<'_>, trees: Trees) -> Result<Walk<FileSpool>> {
    Ok(Walk::new(repo.host.spool()?, repo.host.spool()?, trees))
}

/// The path of an entry.
fn path_of<'p>(entry: &Entry<'_>, mac: Mac, out: &'p mut [u8; PATH_BYTES_MAX]) -> Result<&'p [u8]> {
    match entry.path(out) {
        Ok(length) => Ok(&out[..length]),
        Err(error) => Err(broken_entry(mac, error)),
    }
}

/// The failure of an entry that cannot be understood.
fn broken_entry(mac: Mac, error: FormatError) -> Failure {
    EngineError::damaged(Subject::Blob(ResourceKind::VFS_ENTRY, mac))(error).into()
}

/// Refuses filters beside a snapshot: they choose one, and it is chosen.
/// Stock ignores them, with a warning or without.
fn refuse_filters(filters: &Filters) -> Result<()> {
    if filters.is_empty() {
        return Ok(());
    }
    Err(Failure::usage("a snapshot was named, and filters were given too")
        .with_advice("Give one or the other."))
}
