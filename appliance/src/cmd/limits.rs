//! `limits`: tells how memory is divided, what each command needs, and every
//! bound that there is.

use std::io::{self, Write};

use tiroir_core::codec::{
    COLLECT_SCRATCH_BYTES_STOCK, DECODE_SCRATCH_BYTES_STOCK, ENCODE_SCRATCH_BYTES,
    ENCODE_SCRATCH_BYTES_MIN,
};
use tiroir_core::compression::zstd::WINDOW_BYTES_MAX;
use tiroir_core::content::READ_BYTES;
use tiroir_core::crypto::kdf::{
    ARGON2_MEMORY_KIB_MAX, ARGON2_THREADS_MAX, ARGON2_TIME_MAX, ARGON2_WORK_KIB_MAX, Kdf,
    PBKDF2_ITERATIONS_MAX, SALT_BYTES_MIN, SCRYPT_MEMORY_BYTES_MAX, SCRYPT_WORK_MAX,
};
use tiroir_core::error::Subject;
use tiroir_core::limits::{
    ACCOUNT_BYTES_MAX, CHUNK_BYTES_MAX, CONFIG_BYTES_MAX, CONTENT_TYPE_BYTES_MAX, ENTRY_BYTES_MAX,
    HEADER_BYTES_MAX, LINK_BYTES_MAX, LOCK_BYTES_MAX, MESSAGE_BYTES_MAX, MSGPACK_DEPTH_MAX,
    NAME_BYTES_MAX, NODE_BYTES_MAX, PADDING_BYTES, PATH_BYTES_MAX, PIECE_BYTES, TREE_LEVELS_MAX,
    XATTR_LIST_BYTES_MAX, XATTR_VALUE_BYTES_MAX,
};
use tiroir_core::pipeline::{BATCH_BLOBS_MAX, BATCH_BYTES};
use tiroir_core::repository::{IO_BYTES, OUT_BYTES, parse_config};
use tiroir_core::snapshot::scan::SCAN_BYTES_MIN;
use tiroir_core::sort::FAN_IN_MAX;
use tiroir_hosts::fs::ignore::PATTERNS_BYTES;
use tiroir_hosts::spool::{BLOCK_BYTES, BLOCKS_MAX, WRITE_BYTES};

use super::restore::LINK_CACHE_BYTES;
use super::{backup, cat, check, diff, digest, info, locate, ls, ptar, restore, stock_chunk_bytes};
use crate::OUTPUT_BYTES;
use crate::bench::processor as bench;
use crate::budget::{
    BUDGET_BYTES_DEFAULT_MAX, BUDGET_BYTES_MIN, INDEX_CACHE_BYTES_MAX, INDEX_CACHE_BYTES_MIN,
    INDEX_FILTER_BYTES_MAX, INDEX_FILTER_BYTES_MIN, MIB, Part, Parts, REFRESH_BYTES, Share,
    WORK_ROOM_BYTES, least_bytes,
};
use crate::config::settings::{
    SETTING_ENTRIES_MAX, SETTING_NAME_BYTES_MAX, SETTING_VALUE_BYTES_MAX, SETTINGS_BYTES_MAX,
    SETTINGS_NODES_MAX,
};
use crate::diff::content::TEXT_BYTES_MAX;
use crate::error::{EngineError, Result};
use crate::exit::Status;
use crate::open::{Context, chunk_bytes};
use crate::passphrase::PASSPHRASE_BYTES_MAX;
use crate::snapshots::SORT_BYTES;
use crate::text::json::Line;

/// Tell how much memory is taken, and which bounds there are
///
/// How --memory is divided for a backup, how much each command needs at least,
/// and every bound on what is read, written and held. With `at STORE`, for that
/// store, without opening it: no passphrase is needed. All numbers are bytes,
/// unless their names say otherwise.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// What a command needs.
struct Need {
    command: &'static str,
    share: Share,
    /// Memory for work, for each repository, by the largest chunk of the store.
    work_bytes: fn(usize) -> usize,
}

/// What each command needs that takes its memory from the budget. The others
/// take next to nothing, beside the key.
const NEEDS: [Need; 14] = [
    Need { command: "archive", share: Share::All, work_bytes: restore::work_bytes },
    Need { command: "backup", share: Share::All, work_bytes: backup::work_bytes },
    Need { command: "backup -dry-run", share: Share::All, work_bytes: backup::dry_work_bytes },
    Need { command: "bench", share: Share::All, work_bytes: |_| bench::WORK_BYTES },
    Need { command: "cat", share: Share::All, work_bytes: cat::work_bytes },
    Need { command: "check", share: Share::All, work_bytes: check::work_bytes },
    Need { command: "diff", share: Share::All, work_bytes: diff::work_bytes },
    Need { command: "digest", share: Share::All, work_bytes: digest::work_bytes },
    Need { command: "info", share: Share::All, work_bytes: info::work_bytes },
    Need { command: "locate", share: Share::All, work_bytes: locate::work_bytes },
    Need { command: "ls", share: Share::All, work_bytes: ls::work_bytes },
    Need { command: "ptar", share: Share::All, work_bytes: |_| ptar::work_bytes() },
    Need { command: "ptar -k", share: Share::Half, work_bytes: ptar::copy_work_bytes },
    Need { command: "restore", share: Share::All, work_bytes: restore::work_bytes },
];

impl Need {
    /// The least budget.
    fn least_bytes(&self, chunk_bytes: usize) -> u64 {
        least_bytes(self.share, (self.work_bytes)(chunk_bytes))
    }
}

/// A bound: the name of its constant, the number, and what it bounds.
struct Bound {
    name: &'static str,
    value: u64,
    what: &'static str,
}

/// Bounds by the names of their constants.
macro_rules! bounds {
    ($($name:ident: $what:literal,)*) => {
        &[$(Bound { name: stringify!($name), value: $name as u64, what: $what },)*]
    };
}

/// Bounds on what is read and written.
const FORMAT_BOUNDS: &[Bound] = bounds![
    PATH_BYTES_MAX: "path of an entry",
    NAME_BYTES_MAX: "name of an entry",
    LINK_BYTES_MAX: "target of a symbolic link",
    ACCOUNT_BYTES_MAX: "name of a user or group",
    XATTR_LIST_BYTES_MAX: "names of the extended attributes of an entry",
    XATTR_VALUE_BYTES_MAX: "value of an extended attribute",
    CONTENT_TYPE_BYTES_MAX: "content type",
    MESSAGE_BYTES_MAX: "message of what could not be read",
    ENTRY_BYTES_MAX: "entry of a directory",
    NODE_BYTES_MAX: "node of a tree",
    TREE_LEVELS_MAX: "levels of a tree",
    HEADER_BYTES_MAX: "header of a snapshot",
    CONFIG_BYTES_MAX: "CONFIG",
    LOCK_BYTES_MAX: "lock",
    CHUNK_BYTES_MAX: "chunk that a store may ask for",
    MSGPACK_DEPTH_MAX: "values in values",
    PIECE_BYTES: "plaintext of a sealed piece",
    PADDING_BYTES: "end of a packfile, after its last blob",
    WINDOW_BYTES_MAX: "window of ZSTD, which is read only",
    PASSPHRASE_BYTES_MAX: "passphrase that is read from a file",
    SETTINGS_BYTES_MAX: "file of the configuration",
    SETTINGS_NODES_MAX: "names and values in it",
    SETTING_ENTRIES_MAX: "entries of a kind in it, and options of one",
    SETTING_NAME_BYTES_MAX: "name of an entry or an option",
    SETTING_VALUE_BYTES_MAX: "value of an option",
    SALT_BYTES_MIN: "salt of a passphrase, at least",
    ARGON2_MEMORY_KIB_MAX: "memory of Argon2id",
    ARGON2_TIME_MAX: "passes of Argon2id",
    ARGON2_THREADS_MAX: "lanes of Argon2id",
    ARGON2_WORK_KIB_MAX: "memory times passes of Argon2id",
    SCRYPT_MEMORY_BYTES_MAX: "memory of scrypt",
    SCRYPT_WORK_MAX: "N times R times P of scrypt",
    PBKDF2_ITERATIONS_MAX: "iterations of PBKDF2",
];

/// Bounds on what is held in memory.
const MEMORY_BOUNDS: &[Bound] = bounds![
    BUDGET_BYTES_MIN: "budget without --memory, at least",
    BUDGET_BYTES_DEFAULT_MAX: "budget without --memory, at most",
    IO_BYTES: "parts of packfiles in memory",
    OUT_BYTES: "hashed and written at once",
    READ_BYTES: "read from a source at once",
    OUTPUT_BYTES: "written to standard output at once",
    PATTERNS_BYTES: "patterns of what is left out",
    ENCODE_SCRATCH_BYTES_MIN: "encoding, at least",
    ENCODE_SCRATCH_BYTES: "encoding, with the largest tables",
    REFRESH_BYTES: "beside the budget, where an index is made anew in the middle of a run",
    WORK_ROOM_BYTES: "left for work before threads are given any, beyond what it needs",
    BATCH_BYTES: "blobs that a thread encodes, as soon as they are so many",
    BATCH_BLOBS_MAX: "blobs that a thread encodes together",
    COLLECT_SCRATCH_BYTES_STOCK: "decoding into memory, in blocks of 4 MiB",
    DECODE_SCRATCH_BYTES_STOCK: "decoding piece by piece, in blocks of 4 MiB",
    INDEX_CACHE_BYTES_MIN: "memory of the index, at least",
    INDEX_CACHE_BYTES_MAX: "memory of the index, at most",
    INDEX_FILTER_BYTES_MIN: "filter of the index, at least",
    INDEX_FILTER_BYTES_MAX: "filter of the index, at most",
    WRITE_BYTES: "waits in a spool to be written",
    BLOCK_BYTES: "read from a spool at once",
    BLOCKS_MAX: "blocks that a spool keeps",
    SORT_BYTES: "sorting snapshots, and names of the file system",
    FAN_IN_MAX: "runs of a sorter that are merged at once",
    SCAN_BYTES_MIN: "sorting names in a dry run, at least",
    LINK_CACHE_BYTES: "pages of the table of hard links in a restore",
    TEXT_BYTES_MAX: "file that is compared line by line",
];

/// Where the largest chunk comes from.
const STOCK: &str = "stock's";

/// What there is to tell.
struct Limits {
    budget_bytes: u64,
    /// The option that says so, or what is done without it.
    budget_from: &'static str,
    chunk_bytes: usize,
    chunk_from: &'static str,
    /// Memory that deriving the key takes, if the store has one.
    key_bytes: Option<u64>,
}

/// Tells.
///
/// # Errors
///
/// That there is no store where one was said to be, and those of `out`.
pub(crate) fn run(_args: &Args, context: &Context<'_>, out: &mut dyn Write) -> Result<Status> {
    let (mut chunk, mut chunk_from, mut kdf) = (stock_chunk_bytes(), STOCK, None::<Kdf>);
    if let Some(bytes) = context.given_config()? {
        let config = parse_config(&bytes).map_err(EngineError::damaged(Subject::Config))?;
        (chunk, chunk_from) = (chunk_bytes(&config), "of the store");
        kdf = config.encryption.map(|encryption| encryption.kdf);
    }
    let limits = Limits {
        budget_bytes: context.budget_bytes(),
        budget_from: match context.globals.memory {
            Some(_) => "--memory",
            None => "a quarter of what is available",
        },
        chunk_bytes: chunk,
        chunk_from,
        key_bytes: kdf.map(|kdf| kdf.memory_bytes()),
    };
    if context.globals.json { limits.json(out) } else { limits.text(out) }?;
    Ok(Status::Done)
}

impl Limits {
    /// How the budget is divided for a backup.
    fn parts(&self) -> [Part; 9] {
        Parts::of(self.budget_bytes, backup::work_bytes(self.chunk_bytes) as u64).list()
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { budget_bytes, budget_from, chunk_bytes, chunk_from, key_bytes } = self;
        writeln!(out, "memory: {budget_bytes} ({budget_from})")?;
        writeln!(out, "largest chunk: {chunk_bytes} ({chunk_from})")?;
        if let Some(bytes) = key_bytes {
            writeln!(out, "key: {bytes} on top while it is derived, none with --key-file")?;
        }
        writeln!(out, "\nparts of the memory, for a backup:")?;
        for Part { name, bytes, what } in self.parts() {
            writeln!(out, "{bytes:>12}  {name:<8}  {what}")?;
        }
        writeln!(out, "\nneeds: work, least --memory, command:")?;
        for need in &NEEDS {
            let (work, least) = ((need.work_bytes)(*chunk_bytes), need.least_bytes(*chunk_bytes));
            let twice = if need.share == Share::Half { " (the work twice)" } else { "" };
            writeln!(out, "{work:>12}  {:>4}M  {}{twice}", least / MIB, need.command)?;
        }
        for (title, bounds) in [("format", FORMAT_BOUNDS), ("memory", MEMORY_BOUNDS)] {
            writeln!(out, "\nbounds of the {title}:")?;
            for Bound { name, value, what } in bounds {
                writeln!(out, "{value:>12}  {name:<27}  {what}")?;
            }
        }
        Ok(())
    }

    fn json(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut line = Line::new(out, "memory")?;
        line.number("bytes", self.budget_bytes)?;
        line.show("from", self.budget_from)?;
        line.number("chunk_bytes", self.chunk_bytes as u64)?;
        line.show("chunk_from", self.chunk_from)?;
        if let Some(bytes) = self.key_bytes {
            line.number("key_bytes", bytes)?;
        }
        line.end()?;
        for Part { name, bytes, what } in self.parts() {
            let mut line = Line::new(out, "part")?;
            line.show("name", name)?;
            line.number("bytes", bytes)?;
            line.show("what", what)?;
            line.end()?;
        }
        for need in &NEEDS {
            let mut line = Line::new(out, "need")?;
            line.show("command", need.command)?;
            line.number("repositories", need.share.count())?;
            line.number("work_bytes", (need.work_bytes)(self.chunk_bytes) as u64)?;
            line.number("least_bytes", need.least_bytes(self.chunk_bytes))?;
            line.end()?;
        }
        for Bound { name, value, what } in FORMAT_BOUNDS.iter().chain(MEMORY_BOUNDS) {
            let mut line = Line::new(out, "bound")?;
            line.show("name", name)?;
            line.number("value", *value)?;
            line.show("what", what)?;
            line.end()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiroir_core::btree::builder_bytes_min;

    fn need(command: &str, chunk_bytes: usize) -> usize {
        let need = NEEDS.iter().find(|need| need.command == command);
        (need.unwrap_or_else(|| panic!("no {command}")).work_bytes)(chunk_bytes)
    }

    /// The formulas of `docs/memory.md`, in its words.
    #[test]
    fn formulas() {
        for chunk in [stock_chunk_bytes(), CHUNK_BYTES_MAX as usize] {
            let read_chunk = chunk.max(DECODE_SCRATCH_BYTES_STOCK);
            let read = read_chunk + NODE_BYTES_MAX + ENTRY_BYTES_MAX;
            let desk = read + ENTRY_BYTES_MAX;
            let tree = builder_bytes_min(8, PATH_BYTES_MAX + 512).max(NODE_BYTES_MAX);
            let backup = chunk
                + READ_BYTES
                + tree
                + 2 * ENTRY_BYTES_MAX
                + 2 * XATTR_LIST_BYTES_MAX
                + XATTR_VALUE_BYTES_MAX
                + 2 * SORT_BYTES;
            assert_eq!(need("backup", chunk), backup.max(desk));
            assert_eq!(need("check", chunk), desk + SORT_BYTES);
            assert_eq!(need("restore", chunk), desk + XATTR_VALUE_BYTES_MAX);
            assert_eq!(need("ls", chunk), desk + SORT_BYTES);
            assert_eq!(need("locate", chunk), desk + SORT_BYTES);
            assert_eq!(need("digest", chunk), desk);
            assert_eq!(need("info", chunk), desk + NODE_BYTES_MAX);
            assert_eq!(need("diff", chunk), desk + 2 * ENTRY_BYTES_MAX + SORT_BYTES + (2 << 20));
            assert_eq!(need("ptar -k", chunk), need("ptar", chunk).max(read + SORT_BYTES));
        }
        assert_eq!(need("backup -dry-run", 1 << 20), SCAN_BYTES_MIN);
        assert_eq!(need("ptar", 1 << 20), need("backup", stock_chunk_bytes()));
        // With small chunks, it is the lists of chunks of stock that need the most.
        for command in ["backup", "cat", "check", "diff", "digest", "info", "locate", "ls"] {
            assert!(need(command, 1024) > DECODE_SCRATCH_BYTES_STOCK, "{command}");
            assert_eq!(need(command, 1024), need(command, 1 << 20), "{command}");
        }
    }

    /// Each command takes what it is said to need from the least budget that is
    /// named for it.
    #[test]
    fn the_least_memory_is_enough() {
        for chunk in [64, stock_chunk_bytes(), CHUNK_BYTES_MAX as usize] {
            for need in &NEEDS {
                let (least, work) = (need.least_bytes(chunk), (need.work_bytes)(chunk));
                let parts = Parts::of(least / need.share.count(), work as u64);
                assert!(parts.list()[8].bytes >= work as u64, "{}", need.command);
                assert!(
                    chunk > stock_chunk_bytes()
                        || need.share == Share::Half
                        || least <= BUDGET_BYTES_MIN
                );
            }
        }
    }

    #[test]
    fn names_are_listed_once() {
        let mut names: Vec<_> =
            FORMAT_BOUNDS.iter().chain(MEMORY_BOUNDS).map(|bound| bound.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "{names:?}");
    }
}
