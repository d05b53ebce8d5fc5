//! `diff`: tells how two snapshots differ, or a snapshot and the file system.

use std::ffi::OsString;
use std::io::Write;

use tiroir_core::limits::ENTRY_BYTES_MAX;
use tiroir_core::snapshot::ReadMemory;

use super::{Desk, desk_bytes};
use crate::diff::content::{Contents, Sizes};
use crate::diff::side::{Item, Kind, LocalWalk, Side, SnapshotWalk};
use crate::error::{Failure, Result};
use crate::exit::Status;
use crate::open::Context;
use crate::snapshots::{self, SORT_BYTES, Snapshot, Target};
use crate::store::Repo;
use crate::text::coloured::Coloured;
use crate::text::json::Line;
use crate::text::printable::Printable;

/// Tell how two snapshots differ, or a snapshot and the file system
///
/// Text is compared line by line, up to a size that depends on --memory and is
/// 8 MiB at most; of what is larger, and of what is no text, only that it
/// differs is told. Times, modes and owners are not compared.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Compare directories in directories too
    #[arg(long)]
    recursive: bool,

    /// Show differences in colours
    #[arg(long)]
    highlight: bool,

    /// What to compare; a single one is compared with the same path of the
    /// file system
    #[arg(value_name = "SNAPSHOT[:PATH]", required = true, num_args = 1..=2)]
    targets: Vec<OsString>,
}

/// Least memory for the content of files, in bytes.
const CONTENT_BYTES_MIN: usize = 2 * 1024 * 1024;

/// Memory for the work of a comparison, in bytes.
pub(super) fn work_bytes(chunk_bytes: usize) -> usize {
    desk_bytes(chunk_bytes, 2 * ENTRY_BYTES_MAX + SORT_BYTES + CONTENT_BYTES_MIN)
}

/// Tells the differences. As in stock, the status is the same with and
/// without.
///
/// # Errors
///
/// The engine's, and those of `out`.
pub(crate) fn run(args: &Args, context: &Context<'_>, out: &mut dyn Write) -> Result<Status> {
    if args.targets.len() > 2 {
        return Err(Failure::usage("two snapshots at most are compared"));
    }
    let mut coloured;
    let out: &mut dyn Write = if args.highlight && !context.globals.json {
        coloured = Coloured::new(out);
        &mut coloured
    } else {
        out
    };
    context.read(work_bytes, |repo, memory| {
        let Desk { mut read, rest, .. } = Desk::new(repo, memory)?;
        let (left_entry, rest) = rest.split_at_mut(ENTRY_BYTES_MAX);
        let (right_entry, rest) = rest.split_at_mut(ENTRY_BYTES_MAX);
        let (arena, contents) = rest.split_at_mut(SORT_BYTES);
        let target = |text: &OsString| Target::parse(text);
        let left = target(&args.targets[0]);
        let (snapshot, root) = open(repo, &left, &mut read)?;
        let left = Box::new(SnapshotWalk::new(repo, &snapshot, left_entry)?);
        let mut left = (Side::Snapshot(left), root.clone());
        let mut right = match args.targets.get(1) {
            Some(text) => {
                let (snapshot, root) = open(repo, &target(text), &mut read)?;
                (Side::Snapshot(Box::new(SnapshotWalk::new(repo, &snapshot, right_entry)?)), root)
            }
            None => (Side::Local(Box::new(LocalWalk::new(&mut repo.host, arena)?)), root),
        };
        let sizes = Sizes::within(contents.len());
        let mut differ = Differ { args, context, contents: Contents::new(contents, sizes), out };
        differ.roots(repo, &mut left, &mut right, &mut read)?;
        Ok(context.status(Status::Done))
    })
}

/// The snapshot that is meant, and the path in it.
fn open(
    repo: &mut Repo<'_>,
    target: &Target,
    read: &mut ReadMemory<'_>,
) -> Result<(Snapshot, Vec<u8>)> {
    let snapshot = snapshots::load(repo, target, read)?;
    let root = snapshot.resolve(repo, &target.path, read)?;
    Ok((snapshot, root))
}

/// Tells differences as it finds them.
struct Differ<'a, 'm> {
    args: &'a Args,
    context: &'a Context<'a>,
    contents: Contents<'m>,
    out: &'a mut dyn Write,
}

impl Differ<'_, '_> {
    /// Compares what was named.
    fn roots(
        &mut self,
        repo: &mut Repo<'_>,
        (left, left_path): &mut (Side<'_>, Vec<u8>),
        (right, right_path): &mut (Side<'_>, Vec<u8>),
        read: &mut ReadMemory<'_>,
    ) -> Result<()> {
        let a = left.item(repo, left_path, read)?;
        let b = right.item(repo, right_path, read)?;
        if (a.kind == Kind::Directory) != (b.kind == Kind::Directory) {
            return Err(Failure::new(
                Status::Failed,
                format!(
                    "{} and {}: can't diff different file types",
                    left.label(&a),
                    right.label(&b)
                ),
            ));
        }
        if a.kind == Kind::Directory {
            left.enter(repo, left_path, read)?;
            right.enter(repo, right_path, read)?;
            return self.directories(repo, left, right, read);
        }
        self.pair(repo, (left, &a), (right, &b), read)
    }

    /// Compares the directories that both sides have just entered, and all
    /// below: both go through theirs in the same order.
    fn directories(
        &mut self,
        repo: &mut Repo<'_>,
        left: &mut Side<'_>,
        right: &mut Side<'_>,
        read: &mut ReadMemory<'_>,
    ) -> Result<()> {
        let mut depth = 1_u64;
        let (mut a, mut b) = (left.next()?, right.next()?);
        while depth > 0 {
            self.context.check_cancelled()?;
            let order = match (&a, &b) {
                (None, None) => {
                    depth -= 1;
                    if depth > 0 {
                        (a, b) = (left.next()?, right.next()?);
                    }
                    continue;
                }
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(a), Some(b)) => a.name().cmp(b.name()),
            };
            if order.is_lt() {
                self.only(1, left, a.as_ref())?;
                a = left.next()?;
            } else if order.is_gt() {
                self.only(2, right, b.as_ref())?;
                b = right.next()?;
            } else if let (Some(one), Some(other)) = (&a, &b) {
                self.pair(repo, (left, one), (right, other), read)?;
                let is_directory = one.kind == Kind::Directory && other.kind == Kind::Directory;
                if is_directory && self.args.recursive {
                    left.enter(repo, &one.path, read)?;
                    right.enter(repo, &other.path, read)?;
                    depth += 1;
                }
                (a, b) = (left.next()?, right.next()?);
            }
        }
        Ok(())
    }

    /// Tells of an entry that one side alone has.
    fn only(&mut self, number: u8, side: &Side<'_>, item: Option<&Item>) -> Result<()> {
        let Some(item) = item else { return Ok(()) };
        if self.context.globals.json {
            let mut line = Line::new(self.out, "only")?;
            line.number("side", number)?;
            line.text("path", &item.path)?;
            return Ok(line.end()?);
        }
        let directory = side.place(item.directory());
        writeln!(self.out, "Only in {directory}: {}", Printable(item.name()))?;
        Ok(())
    }

    /// Compares two entries of the same name.
    fn pair(
        &mut self,
        repo: &mut Repo<'_>,
        (left, a): (&Side<'_>, &Item),
        (right, b): (&Side<'_>, &Item),
        read: &mut ReadMemory<'_>,
    ) -> Result<()> {
        match (&a.kind, &b.kind) {
            (Kind::Directory, Kind::Directory) => self.common(a, b),
            (Kind::Regular { .. }, Kind::Regular { .. }) => {
                let labels = [left.label(a), right.label(b)];
                if self.context.globals.json {
                    if self.contents.differ(self.context, repo, [a, b], read.chunk)? {
                        self.changed(a, b)?;
                    }
                    return Ok(());
                }
                self.contents.tell(self.context, repo, [a, b], &labels, read.chunk, self.out)
            }
            (Kind::Link(one), Kind::Link(other)) if one != other => {
                if self.context.globals.json {
                    return self.changed(a, b);
                }
                let (one, other) = (left.label(a), right.label(b));
                Ok(writeln!(self.out, "Symbolic links {one} and {other} differ")?)
            }
            (one, other) if one.sort() == other.sort() => Ok(()),
            _ => self.mismatch(a, b),
        }
    }

    fn changed(&mut self, a: &Item, b: &Item) -> Result<()> {
        let mut line = Line::new(self.out, "changed")?;
        line.text("path", &a.path)?;
        line.text("other_path", &b.path)?;
        Ok(line.end()?)
    }

    /// Tells of a directory that both have.
    fn common(&mut self, a: &Item, b: &Item) -> Result<()> {
        if self.context.globals.json {
            return Ok(());
        }
        let (a, b) = if self.args.recursive {
            (Printable(&a.path), Printable(&b.path))
        } else {
            (Printable(a.name()), Printable(b.name()))
        };
        Ok(writeln!(self.out, "Common subdirectories: {a} and {b}")?)
    }

    /// Tells of entries of different sorts.
    fn mismatch(&mut self, a: &Item, b: &Item) -> Result<()> {
        if self.context.globals.json {
            let mut line = Line::new(self.out, "mismatch")?;
            line.text("path", &a.path)?;
            line.text("other_path", &b.path)?;
            return Ok(line.end()?);
        }
        if self.args.recursive {
            let (a, b) = (Printable(&a.path), Printable(&b.path));
            writeln!(self.out, "File type mismatch: {a} vs {b}")?;
        } else {
            let is_directory = |item: &Item| item.kind == Kind::Directory;
            writeln!(
                self.out,
                "File type mismatch: {} (dir={}) vs {} (dir={})",
                Printable(a.name()),
                is_directory(a),
                Printable(b.name()),
                is_directory(b)
            )?;
        }
        Ok(())
    }
}
