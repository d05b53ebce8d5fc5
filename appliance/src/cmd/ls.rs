//! `ls`: lists the snapshots of a store, or what is in one.

use std::ffi::OsString;
use std::io::Write;

use tiroir_core::limits::PATH_BYTES_MAX;
use tiroir_core::mac::Mac;
use tiroir_core::snapshot::walk::{Event, entry_at};
use tiroir_core::snapshot::{ReadMemory, read_header};
use tiroir_core::wire::entry::Entry;
use tiroir_core::wire::header::Header;
use tiroir_core::wire::mode;
use tiroir_hosts::fs::accounts::Accounts;

use super::{Desk, desk_bytes, new_walk, path_of, refuse_filters};
use crate::error::{EngineError, Result};
use crate::exit::Status;
use crate::filter::Filters;
use crate::open::Context;
use crate::snapshots::{self, SORT_BYTES, Target};
use crate::store::Repo;
use crate::text::duration::Duration;
use crate::text::json::Line;
use crate::text::mode::FileMode;
use crate::text::printable::Printable;
use crate::text::size::Size;
use crate::text::time::Rfc3339;

/// List snapshots, newest first, or what is in one
///
/// A snapshot's line says when it was taken, its identifier, the size of its
/// files, how long it took, and of what it was taken. A file's line says when
/// it was changed, its mode, owner, group, size and name.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show whole identifiers
    #[arg(long)]
    uuid: bool,

    /// List directories in directories too, with whole paths
    #[arg(long)]
    recursive: bool,

    /// Show the tags of snapshots
    #[arg(long)]
    tags: bool,

    #[command(flatten)]
    filters: Filters,

    /// What to list; without it, snapshots are
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    target: Option<OsString>,
}

/// Memory for the work of listing, in bytes.
pub(super) fn work_bytes(chunk_bytes: usize) -> usize {
    desk_bytes(chunk_bytes, SORT_BYTES)
}

/// Lists.
///
/// # Errors
///
/// The engine's, and those of `out`.
pub(crate) fn run(args: &Args, context: &Context<'_>, out: &mut dyn Write) -> Result<Status> {
    if args.target.is_some() {
        refuse_filters(&args.filters)?;
    }
    context.read(work_bytes, |repo, memory| {
        let desk = Desk::new(repo, memory)?;
        match &args.target {
            None => list_snapshots(args, context, repo, desk, out)?,
            Some(text) => {
                let lister = Lister { args, context, accounts: Accounts::new(), out };
                lister.list(repo, &Target::parse(text), desk)?;
            }
        }
        Ok(context.status(Status::Done))
    })
}

fn list_snapshots(
    args: &Args,
    context: &Context<'_>,
    repo: &mut Repo<'_>,
    desk: Desk<'_>,
    out: &mut dyn Write,
) -> Result<()> {
    let memory = (desk.read.chunk, desk.rest);
    snapshots::newest_first(context, repo, &args.filters, memory, &mut |repo, buffer, id| {
        let header = read_header(repo, id, buffer)?;
        let written = if context.globals.json {
            snapshot_json(&header, out)
        } else {
            snapshot_line(args, &header, out)
        };
        Ok(written?)
    })
}

/// Writes the line of a snapshot.
fn snapshot_line(args: &Args, header: &Header<'_>, out: &mut dyn Write) -> std::io::Result<()> {
    let time = Rfc3339(header.timestamp);
    let size = Size(header.source.summary.total_size_bytes());
    let duration = Duration(header.duration_nanos).rounded();
    if args.uuid {
        write!(out, "{time} {} {size:>9} {duration:>9} ", header.identifier)?;
    } else {
        write!(out, "{time}   {:.4}{size:>10}{duration:>10} ", header.identifier)?;
    }
    Printable(header.source.directory).write_to(out)?;
    if args.tags && !header.tags.is_empty() {
        for (index, tag) in header.tags.iter().enumerate() {
            out.write_all(if index == 0 { b" tags=" } else { b"," })?;
            Printable(tag).write_to(out)?;
        }
    }
    out.write_all(b"\n")
}

/// Writes what a snapshot is as a line of JSON.
fn snapshot_json(header: &Header<'_>, out: &mut dyn Write) -> std::io::Result<()> {
    let source = &header.source;
    let mut line = Line::new(out, "snapshot")?;
    line.show("id", header.identifier)?;
    line.show("timestamp", Rfc3339(header.timestamp))?;
    line.number("duration_ns", header.duration_nanos)?;
    line.text("name", header.name)?;
    line.text("category", header.category)?;
    line.text("environment", header.environment)?;
    line.text("perimeter", header.perimeter)?;
    line.text("job", header.job)?;
    line.list("tags", header.tags.iter())?;
    line.text("source_type", source.kind)?;
    line.text("origin", source.origin)?;
    line.text("directory", source.directory)?;
    line.number("size", source.summary.total_size_bytes())?;
    line.number("files", source.summary.directory.files + source.summary.below.files)?;
    line.number("errors", source.summary.total_errors())?;
    line.end()
}

/// Lists what is in a snapshot.
struct Lister<'a> {
    args: &'a Args,
    context: &'a Context<'a>,
    accounts: Accounts,
    out: &'a mut dyn Write,
}

impl Lister<'_> {
    fn list(mut self, repo: &mut Repo<'_>, target: &Target, desk: Desk<'_>) -> Result<()> {
        let Desk { mut read, entry: into, .. } = desk;
        let snapshot = snapshots::load(repo, target, &mut read)?;
        let root = snapshot.resolve(repo, &target.path, &mut read)?;
        let mut path = [0; PATH_BYTES_MAX];
        let (entry, mac) = entry_at(repo, &snapshot.trees, &root, &mut read)?;
        if !entry.is_directory() {
            let path = path_of(&entry, mac, &mut path)?;
            return self.entry(&entry, path);
        }
        let mut walk = new_walk(repo, snapshot.trees)?;
        walk.enter(repo, &root, &mut read)?;
        while let Some(step) = walk.next(into)? {
            self.context.check_cancelled()?;
            if step.event == Event::Leave {
                continue;
            }
            let path = path_of(&step.entry, step.mac, &mut path)?;
            self.entry(&step.entry, path)?;
            if self.args.recursive && step.entry.is_directory() {
                self.enter(repo, &mut walk, path, &mut read)?;
            }
        }
        Ok(())
    }

    /// Enters a directory. One that cannot be read is passed over.
    fn enter(
        &self,
        repo: &mut Repo<'_>,
        walk: &mut tiroir_core::snapshot::walk::Walk<tiroir_hosts::spool::FileSpool>,
        path: &[u8],
        read: &mut ReadMemory<'_>,
    ) -> Result<()> {
        match walk.enter(repo, path, read) {
            Err(error @ (EngineError::Damaged { .. } | EngineError::Missing(_))) => {
                self.context.pass_over(&error);
                Ok(())
            }
            other => Ok(other?),
        }
    }

    fn entry(&mut self, entry: &Entry<'_>, path: &[u8]) -> Result<()> {
        let written = if self.context.globals.json {
            entry_json(entry, path, self.out)
        } else {
            let name = if self.args.recursive { path } else { entry.info.name };
            entry_line(entry, name, &mut self.accounts, self.out)
        };
        Ok(written?)
    }
}

/// Writes the line of an entry.
fn entry_line(
    entry: &Entry<'_>,
    name: &[u8],
    accounts: &mut Accounts,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let info = &entry.info;
    let user = account(info.uid, |number| accounts.user(number).to_vec());
    let group = account(info.gid, |number| accounts.group(number).to_vec());
    let (time, mode) = (Rfc3339(info.mod_time), FileMode(info.mode));
    let size = Size(u64::try_from(info.size).unwrap_or(0));
    write!(out, "{time} {mode} {user:>8} {group:>8} {size:>8} ")?;
    Printable(name).write_to(out)?;
    if info.mode & mode::SYMLINK != 0 {
        out.write_all(b" -> ")?;
        Printable(entry.link_target).write_to(out)?;
    }
    out.write_all(b"\n")
}

/// The name that an account has on this machine, or its number.
fn account(number: u64, name: impl FnOnce(u32) -> Vec<u8>) -> String {
    let name = u32::try_from(number).map(name).unwrap_or_default();
    if name.is_empty() { number.to_string() } else { Printable(&name).to_string() }
}

/// Writes what an entry is as a line of JSON.
fn entry_json(entry: &Entry<'_>, path: &[u8], out: &mut dyn Write) -> std::io::Result<()> {
    let info = &entry.info;
    let mut line = Line::new(out, "entry")?;
    line.text("path", path)?;
    line.show("mode", FileMode(info.mode))?;
    line.number("size", info.size)?;
    line.show("mtime", Rfc3339(info.mod_time))?;
    line.number("mtime_ns", info.mod_time.nanos)?;
    line.number("uid", info.uid)?;
    line.number("gid", info.gid)?;
    line.text("user", info.username)?;
    line.text("group", info.groupname)?;
    line.number("nlink", info.nlink)?;
    if info.mode & mode::SYMLINK != 0 {
        line.text("target", entry.link_target)?;
    }
    if !entry.content_type.is_empty() {
        line.text("content_type", entry.content_type)?;
    }
    if entry.object != Mac::ZERO {
        line.show("object", entry.object)?;
        line.fraction("entropy", entry.entropy)?;
    }
    line.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiroir_core::time::Timestamp;
    use tiroir_core::wire::file_info::FileInfo;
    use tiroir_core::wire::header::Source;
    use tiroir_core::wire::list::List;
    use tiroir_core::wire::summary::Summary;

    fn args(uuid: bool, tags: bool) -> Args {
        Args { uuid, recursive: false, tags, filters: Filters::default(), target: None }
    }

    fn line(args: &Args) -> String {
        let tags: [&[u8]; 2] = [b"stage2", b"fixture"];
        let mut identifier = Mac([0x11; 32]);
        identifier.0[..4].copy_from_slice(&[0xb2, 0xd8, 0xbf, 0x6e]);
        let mut summary = Summary::default();
        summary.below.size = 27 << 20;
        let header = Header {
            identifier,
            timestamp: Timestamp { secs: 1_795_307_979, nanos: 999_999_999 },
            duration_nanos: 499_999_999,
            tags: List::strings(&tags),
            source: Source { directory: b"/mnt/tree", summary, ..Source::default() },
            ..Header::default()
        };
        let mut out = Vec::new();
        snapshot_line(args, &header, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn snapshots_as_stock_lists_them() {
        assert_eq!(
            line(&args(false, false)),
            "2026-11-22T00:39:39Z   b2d8bf6e    27 MiB        0s /mnt/tree\n"
        );
        assert_eq!(
            line(&args(false, true)),
            "2026-11-22T00:39:39Z   b2d8bf6e    27 MiB        0s /mnt/tree tags=stage2,fixture\n"
        );
        assert_eq!(
            line(&args(true, false)),
            format!(
                "2026-11-22T00:39:39Z b2d8bf6e{}    27 MiB        0s /mnt/tree\n",
                "11".repeat(28)
            )
        );
    }

    #[test]
    fn entries_as_stock_lists_them() {
        let mut accounts = Accounts::new();
        for (name, st_mode, uid, size, target, wanted) in [
            (
                &b"B"[..],
                0o100_644,
                0,
                10,
                &b""[..],
                "2026-11-22T02:30:46Z -rw-r--r--     root     root     10 B B\n",
            ),
            (
                b"dang",
                0o120_777,
                0,
                9,
                b"/nonexist",
                "2026-11-22T02:30:46Z Lrwxrwxrwx     root     root      9 B dang -> /nonexist\n",
            ),
            (
                b"new\nline",
                0o106_711,
                4_000_000_000,
                2,
                b"",
                "2026-11-22T02:30:46Z ugrwx--x--x 4000000000 4000000000      2 B new?line\n",
            ),
        ] {
            let info = FileInfo {
                name,
                size,
                mode: mode::from_unix(st_mode),
                mod_time: Timestamp { secs: 1_795_314_646, nanos: 5 },
                uid,
                gid: uid,
                ..FileInfo::default()
            };
            let entry = Entry { info, link_target: target, ..Entry::default() };
            let mut out = Vec::new();
            entry_line(&entry, name, &mut accounts, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), wanted);
        }
    }
}
