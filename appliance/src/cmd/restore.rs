//! `restore`: brings back a snapshot, or a part of it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tiroir_core::exporter::Exporter;
use tiroir_core::host::{HostError as _, HostErrorKind};
use tiroir_core::mac::Mac;
use tiroir_core::snapshot::ReadMemory;
use tiroir_core::snapshot::restore::{Event, Options, Report, restore, restore_bytes};
use tiroir_core::snapshot::walk::entry_at;
use tiroir_hosts::error::HostsError;
use tiroir_hosts::fs::exporter::{FsExporter, Told};
use tiroir_hosts::link_table::LinkTable;
use tiroir_hosts::options::Options as ConnectorOptions;
use tiroir_hosts::parallel::Width;
use tiroir_hosts::parallel::behind::BehindExporter;

use super::archive::to_stream;
use super::cat::each_chunk;
use super::{read_chunk_bytes, refuse_filters};
use crate::config::Kind;
use crate::connect;
use crate::error::{Failure, Result};
use crate::exit::Status;
use crate::filter::{Filters, now};
use crate::location::{
    Place, Remote, absolute, parse_options, refuse_empty, refuse_options, resolve,
};
use crate::open::Context;
use crate::report::{self, Form, Reporter, with_errors};
use crate::snapshots::{self, Snapshot, Target};
use crate::store::Repo;
use crate::text::duration::Duration;
use crate::text::json::Line;
use crate::text::printable::Printable;
use crate::text::size::Size;
use crate::text::time::Zone;

/// Restore a snapshot, or a part of it
///
/// What is in the directory that is restored comes directly into DIR; a file
/// comes into DIR under its name. What is there already gives way, except for
/// directories; what is not in the snapshot is left alone. Without a SNAPSHOT,
/// the newest that passes the filters is taken. Owners, devices and all else
/// that asks for it are restored by root only.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Restore into DIR, whose own directory must be there, also one of a server:
    /// sftp://HOST/PATH; `stdout:` writes a file to standard output, and `tar:` an
    /// archive. By default plakar-YYYYMMDDhhmmss, here
    #[arg(long, value_name = "DIR")]
    to: Option<OsString>,

    /// Only snapshots of that name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Only snapshots of that category
    #[arg(long, value_name = "NAME")]
    category: Option<String>,

    /// Only snapshots of that environment
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,

    /// Only snapshots of that perimeter
    #[arg(long, value_name = "NAME")]
    perimeter: Option<String>,

    /// Only snapshots of that job
    #[arg(long, value_name = "NAME")]
    job: Option<String>,

    /// Only snapshots with that tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,

    /// Option of the connector to the destination. May be repeated
    #[arg(long = "option", alias = "o", visible_alias = "o", value_name = "NAME=VALUE",
          action = clap::ArgAction::Append)]
    options: Vec<String>,

    /// Leave owners, modes and times as the system makes them
    #[arg(long)]
    skip_permissions: bool,

    /// What to restore
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    target: Option<OsString>,
}

/// Where a restore goes.
#[derive(Debug, Eq, PartialEq)]
enum Destination {
    Directory(PathBuf),
    Remote(Remote),
    Stdout,
    /// A tar archive on standard output.
    Tar,
}

impl Destination {
    fn parse(text: &OsStr, options: &ConnectorOptions, context: &Context<'_>) -> Result<Self> {
        refuse_empty(text, "target")?;
        let (text, options) = resolve(context.globals, Kind::Destination, text, options)?;
        match Place::parse(&text, &options) {
            Place::Path(path) => {
                refuse_options(&options, &[], "a directory on a disk")?;
                Ok(Self::Directory(absolute(path)?))
            }
            Place::Remote(remote) => {
                remote.check()?;
                Ok(Self::Remote(remote))
            }
            Place::Other("stdout", _) => Ok(Self::Stdout),
            Place::Other("tar", rest) if rest.is_empty() => Ok(Self::Tar),
            Place::Other("tar", _) => Err(Failure::usage("`tar:` is standard output")
                .with_advice("Into a file: tiroir archive -output FILE -rebase SNAPSHOT")),
            Place::Other(scheme, _) => {
                let what = format!("there is no exporter for {scheme}:");
                Err(Failure::new(Status::Failed, what)
                    .with_advice("A path with a colon in it is given as ./PATH."))
            }
        }
    }
}

/// Memory for the work of a restore, in bytes.
pub(super) fn work_bytes(chunk_bytes: usize) -> usize {
    restore_bytes(read_chunk_bytes(chunk_bytes))
}

/// Restores, and says how it went.
///
/// # Errors
///
/// What keeps the restore from going on. What cannot be restored is told, and
/// makes the status.
pub(crate) fn run(args: &Args, context: &Context<'_>, out: &mut dyn Write) -> Result<Status> {
    let target =
        args.target.as_deref().map_or_else(|| Target::parse(OsStr::new("")), Target::parse);
    let filters = args.filters();
    if !target.prefix.is_empty() {
        refuse_filters(&filters)?;
    }
    let destination = match &args.to {
        Some(text) => Destination::parse(text, &parse_options(&args.options)?, context)?,
        None => Destination::Directory(absolute(Path::new(&default_name()))?),
    };
    if matches!(destination, Destination::Stdout | Destination::Tar) {
        report::output_is_data();
    }
    context.read(work_bytes, |repo, memory| {
        let chunk_bytes = repo.facts().chunking.max();
        let mut read = ReadMemory::new::<HostsError>(memory, chunk_bytes)?;
        let id = choose(context, repo, &target, &filters, read.chunk)?;
        let snapshot = Snapshot::load(repo, &id, read.chunk)?;
        let source = snapshot.resolve(repo, &target.path, &mut read)?;
        let status = match &destination {
            Destination::Stdout => to_stdout(context, repo, &snapshot, &source, memory, out)?,
            Destination::Tar => {
                let work = Work { context, repo, snapshot: &snapshot, source: &source };
                to_stream(work, b"", args.skip_permissions, memory, out)?
            }
            Destination::Directory(path) => {
                to_directory(args, context, repo, &snapshot, (&source, path), memory, out)?
            }
            Destination::Remote(remote) => {
                to_server(args, context, repo, &snapshot, (&source, remote), memory, out)?
            }
        };
        Ok(context.status(status))
    })
}

/// The snapshot that is meant.
fn choose(
    context: &Context<'_>,
    repo: &mut Repo<'_>,
    target: &Target,
    filters: &Filters,
    buffer: &mut [u8],
) -> Result<Mac> {
    if !target.prefix.is_empty() {
        return snapshots::find(repo, &target.prefix);
    }
    snapshots::newest(context, repo, filters, buffer)?.ok_or_else(|| {
        Failure::new(Status::Failed, "no snapshots found").with_advice("`tiroir ls` lists them.")
    })
}

/// Name of the directory that is restored into without `-to`: stock's.
fn default_name() -> String {
    format!("plakar-{}", Zone::local().digits(now()))
}

impl Args {
    fn filters(&self) -> Filters {
        let names = [&self.name, &self.category, &self.environment, &self.perimeter, &self.job];
        Filters::by_names(names, self.tag.as_ref())
    }
}

/// Writes a file to standard output.
fn to_stdout(
    context: &Context<'_>,
    repo: &mut Repo<'_>,
    snapshot: &Snapshot,
    source: &[u8],
    memory: &mut [u8],
    out: &mut dyn Write,
) -> Result<Status> {
    let chunk_bytes = repo.facts().chunking.max();
    let mut read = ReadMemory::new::<HostsError>(memory, chunk_bytes)?;
    let (entry, _) = entry_at(repo, &snapshot.trees, source, &mut read)?;
    if !entry.is_regular() {
        let what =
            format!("{}: only a regular file can be written to standard output", Printable(source));
        return Err(Failure::new(Status::Failed, what));
    }
    let object = entry.object;
    each_chunk(context, repo, &object, read.chunk, &mut |bytes| Ok(out.write_all(bytes)?))?;
    Ok(Status::Done)
}

/// Restores into a directory.
fn to_directory(
    args: &Args,
    context: &Context<'_>,
    repo: &mut Repo<'_>,
    snapshot: &Snapshot,
    (source, path): (&[u8], &Path),
    memory: &mut [u8],
    out: &mut dyn Write,
) -> Result<Status> {
    let (target, skip_permissions) = (path.to_owned(), args.skip_permissions);
    let told = Told::default();
    let open = move || {
        let exporter = FsExporter::open(&target)?.with_told(told.clone());
        Ok(exporter.with_skip_permissions(skip_permissions).with_warnings(report::warn))
    };
    let first = open().map_err(|error| no_target(path.display(), error))?;
    // One thread writes while another reads: a disk is shared by all.
    let threads = usize::from(context.processors() > 1);
    let width = Width { threads, ..context.surroundings().width };
    let connect = Arc::new(move || Ok(Box::new(open()?) as Box<dyn Exporter<Error = HostsError>>));
    let mut exporter = BehindExporter::new(Box::new(first), width, connect);
    let work = Work { context, repo, snapshot, source };
    let how = ("restore", args.skip_permissions);
    let finish = |_: &mut BehindExporter| Ok(FsExporter::open(path)?.finish()?);
    with_exporter(work, how, &mut exporter, memory, Some(out), finish)
}

/// Restores into a directory of a server.
fn to_server(
    args: &Args,
    context: &Context<'_>,
    repo: &mut Repo<'_>,
    snapshot: &Snapshot,
    (source, remote): (&[u8], &Remote),
    memory: &mut [u8],
    out: &mut dyn Write,
) -> Result<Status> {
    let mut exporter = connect::behind(remote, &context.surroundings(), args.skip_permissions)
        .map_err(|error| no_target(remote, error))?;
    let work = Work { context, repo, snapshot, source };
    let how = ("restore", args.skip_permissions);
    with_exporter(work, how, &mut exporter, memory, Some(out), |_| Ok(()))
}

/// What is restored.
pub(super) struct Work<'w, 'm> {
    /// What all commands are given.
    pub(super) context: &'w Context<'w>,
    /// The store.
    pub(super) repo: &'w mut Repo<'m>,
    /// The snapshot.
    pub(super) snapshot: &'w Snapshot,
    /// The path in it.
    pub(super) source: &'w [u8],
}

/// Does what `verb` says by an exporter, which `finish` makes last, and tells of
/// it on `out`, if there is one.
pub(super) fn with_exporter<X: Exporter<Error = HostsError>>(
    work: Work<'_, '_>,
    (verb, skip_permissions): (&'static str, bool),
    exporter: &mut X,
    memory: &mut [u8],
    out: Option<&mut dyn Write>,
    finish: impl FnOnce(&mut X) -> Result<()>,
) -> Result<Status> {
    let Work { context, repo, snapshot, source } = work;
    let mut links = LinkTable::new(&context.spool_directory(), LINK_CACHE_BYTES)?;
    let options = Options { skip_permissions };
    let mut reporter = Reporter::new(context.globals, verb);
    let report =
        export(repo, snapshot, source, (exporter, &mut links), &options, memory, &mut reporter)
            .map_err(|failure| failure.if_interrupted("What was restored by now stays."))?;
    finish(exporter)?;
    if let Some(out) = out {
        summary((verb, &snapshot.id), &report, &mut reporter, repo, out)?;
    }
    Ok(match report {
        Report { damaged: 1.., .. } => Status::Integrity,
        Report { failed: 1.., .. } | Report { skipped: 1.., .. } => Status::Incomplete,
        _ => Status::Done,
    })
}

/// Page cache of the table of hard links, in bytes.
pub(super) const LINK_CACHE_BYTES: usize = 256 * 1024;

fn export(
    repo: &mut Repo<'_>,
    snapshot: &Snapshot,
    source: &[u8],
    (mut exporter, links): (&mut dyn Exporter<Error = HostsError>, &mut LinkTable),
    options: &Options,
    memory: &mut [u8],
    reporter: &mut Reporter,
) -> Result<Report> {
    let trees = &snapshot.trees;
    let mut progress = |event: &Event<'_, HostsError>| match event {
        Event::Restored { .. } => reporter.entry(),
        Event::Written { bytes } => reporter.moved(*bytes),
        Event::Skipped { path } => {
            reporter.failed(
                &shown(path),
                "not made: a socket, or a device that the store does not name or that needs rights",
            );
        }
        Event::NoAttribute { path, name } => {
            let mut text = b"the snapshot lists its attribute ".to_vec();
            text.extend_from_slice(name);
            text.extend_from_slice(b" and does not have it");
            reporter.failed(&shown(path), &String::from_utf8_lossy(&text));
        }
        Event::Failed { path, error } => {
            reporter.failed(&shown(path), &crate::error::whole_text(error));
        }
    };
    Ok(restore(repo, trees, source, &mut exporter, links, options, memory, &mut progress)?)
}

/// A path in the target, as stock shows it: with a slash before it.
fn shown(path: &[u8]) -> Vec<u8> {
    [b"/", path].concat()
}

/// Why nothing can be restored there.
fn no_target(place: impl fmt::Display, error: HostsError) -> Failure {
    let kind = error.kind();
    let failure = Failure::from(error);
    match kind {
        HostErrorKind::NotFound => failure.with_status(Status::NoTarget).with_advice(format!(
            "{place} is made if need be, but not the directory that it lies in. Is its disk mounted?"
        )),
        _ => failure,
    }
}

/// Writes the summary, in the words of the other commands.
fn summary(
    (verb, id): (&'static str, &Mac),
    report: &Report,
    reporter: &mut Reporter,
    repo: &Repo<'_>,
    out: &mut dyn Write,
) -> Result<()> {
    let nanos = reporter.elapsed_nanos();
    let errors = report.failed + report.skipped;
    match reporter.finish() {
        None => {}
        Some(Form::Text) => writeln!(
            out,
            "{id:.4}: {verb} completed {} in {} (in: {}, out: {})",
            with_errors(errors),
            Duration(nanos),
            Size(repo.store.read_bytes),
            Size(report.bytes)
        )?,
        Some(Form::Json) => {
            let mut line = Line::new(out, verb)?;
            line.show("snapshot", id)?;
            line.number("restored", report.restored)?;
            line.number("failed", report.failed)?;
            line.number("damaged", report.damaged)?;
            line.number("skipped", report.skipped)?;
            line.number("bytes", report.bytes)?;
            line.number("duration_ns", nanos)?;
            line.end()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Globals;

    #[test]
    fn destinations() {
        let globals = Globals::default();
        let context = Context::new(&globals, Arc::default());
        let parse = |text: &str| {
            Destination::parse(OsStr::new(text), &ConnectorOptions::default(), &context)
        };
        assert!(matches!(parse("sftp://nas/x"), Ok(Destination::Remote(_))));
        assert_eq!(parse("/x").unwrap(), Destination::Directory("/x".into()));
        assert_eq!(parse("fs:///x").unwrap(), Destination::Directory("/x".into()));
        assert_eq!(parse("stdout:").unwrap(), Destination::Stdout);
        assert_eq!(parse("tar:").unwrap(), Destination::Tar);
        assert!(parse("tar:x").is_err());
        assert!(parse("smb://x").is_err());
    }

    #[test]
    fn name_by_default() {
        let name = default_name();
        let digits = name.strip_prefix("plakar-").unwrap();
        assert!(digits.len() == 14 && digits.bytes().all(|byte| byte.is_ascii_digit()), "{name}");
    }
}
