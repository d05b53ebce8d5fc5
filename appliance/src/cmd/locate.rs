//! `locate`: finds files by name in all snapshots.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;

use tiroir_core::limits::{ENTRY_BYTES_MAX, PATH_BYTES_MAX};
use tiroir_core::mac::Mac;
use tiroir_core::snapshot::walk::{Event, entry_at};

use super::{Desk, desk_bytes, new_walk, path_of, refuse_filters};
use crate::error::{EngineError, Failure, Result};
use crate::exit::Status;
use crate::filter::Filters;
use crate::open::Context;
use crate::snapshots::{self, SORT_BYTES, Snapshot};
use crate::store::Repo;
use crate::text::json::Line;
use crate::text::pattern;
use crate::text::printable::Printable;

/// Find files by name in all snapshots, or in one
///
/// Prints SNAPSHOT:PATH for every entry whose name is PATTERN or matches it:
/// `*` and `?` stand for any characters and any one, `[a-z]` for one of them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Look in one snapshot only
    #[arg(long, value_name = "SNAPSHOT")]
    snapshot: Option<OsString>,

    #[command(flatten)]
    filters: Filters,

    /// Names to look for
    #[arg(value_name = "PATTERN", required = true)]
    patterns: Vec<OsString>,
}

/// Memory for the work of a search, in bytes.
pub(super) fn work_bytes(chunk_bytes: usize) -> usize {
    desk_bytes(chunk_bytes, SORT_BYTES)
}

/// Looks for names.
///
/// # Errors
///
/// A usage error for a pattern that is none; the engine's, and those of `out`.
pub(crate) fn run(args: &Args, context: &Context<'_>, out: &mut dyn Write) -> Result<Status> {
    if args.snapshot.is_some() {
        refuse_filters(&args.filters)?;
    }
    for text in &args.patterns {
        pattern::matches(text.as_bytes(), b"").map_err(|_| {
            Failure::usage(format!("syntax error in pattern {}", text.display()))
                .with_advice("A bracket or backslash that stands for itself has a `\\` before it.")
        })?;
    }
    context.read(work_bytes, |repo, memory| {
        let (arena, mut memory) = memory.split_at_mut(SORT_BYTES);
        if let Some(prefix) = &args.snapshot {
            let id = snapshots::find(repo, prefix.as_bytes())?;
            search(args, context, repo, memory, &id, out)?;
        } else {
            let buffers = (&mut memory, arena);
            let filters = &args.filters;
            snapshots::newest_first(context, repo, filters, buffers, &mut |repo, memory, id| {
                search(args, context, repo, memory, id, out)
            })?;
        }
        Ok(context.status(Status::Done))
    })
}

/// Looks for names in one snapshot.
fn search(
    args: &Args,
    context: &Context<'_>,
    repo: &mut Repo<'_>,
    memory: &mut [u8],
    id: &Mac,
    out: &mut dyn Write,
) -> Result<()> {
    let Desk { mut read, entry: into, .. } = Desk::new(repo, memory)?;
    debug_assert!(into.len() == ENTRY_BYTES_MAX);
    let snapshot = Snapshot::load(repo, id, read.chunk)?;
    let mut path = [0; PATH_BYTES_MAX];
    // The root is in no directory.
    entry_at(repo, &snapshot.trees, b"/", &mut read)?;
    tell(args, context, id, b"/", b"/", out)?;
    let mut walk = new_walk(repo, snapshot.trees)?;
    walk.enter(repo, b"/", &mut read)?;
    while let Some(step) = walk.next(into)? {
        context.check_cancelled()?;
        if step.event == Event::Leave {
            continue;
        }
        let path = path_of(&step.entry, step.mac, &mut path)?;
        tell(args, context, id, step.entry.info.name, path, out)?;
        if step.entry.is_directory() {
            match walk.enter(repo, path, &mut read) {
                Err(error @ (EngineError::Damaged { .. } | EngineError::Missing(_))) => {
                    context.pass_over(&error);
                }
                other => other?,
            }
        }
    }
    Ok(())
}

/// Writes a line for an entry if its name is looked for; one, however many
/// patterns match.
fn tell(
    args: &Args,
    context: &Context<'_>,
    id: &Mac,
    name: &[u8],
    path: &[u8],
    out: &mut dyn Write,
) -> Result<()> {
    let mut patterns = args.patterns.iter().map(|pattern| pattern.as_bytes());
    if !patterns.any(|text| text == name || pattern::matches(text, name) == Ok(true)) {
        return Ok(());
    }
    if context.globals.json {
        let mut line = Line::new(out, "located")?;
        line.show("snapshot", id)?;
        line.text("path", path)?;
        return Ok(line.end()?);
    }
    write!(out, "{id:.4}:")?;
    Printable(path).write_to(out)?;
    Ok(out.write_all(b"\n")?)
}
