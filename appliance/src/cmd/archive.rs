//! `archive`: writes what is in a snapshot as a tar archive.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tiroir_core::snapshot::ReadMemory;
use tiroir_core::snapshot::walk::entry_at;
use tiroir_core::wire::path::split;
use tiroir_hosts::durable::{cannot_sync, parent_of, sync_directory};
use tiroir_hosts::error::HostsError;
use tiroir_hosts::tar::TarExporter;

use super::restore::{Work, with_exporter, work_bytes};
use crate::OUTPUT_BYTES;
use crate::error::{Failure, Result};
use crate::exit::Status;
use crate::filter::now;
use crate::location::{absolute, refuse_empty};
use crate::open::Context;
use crate::report;
use crate::snapshots::{self, Target};
use crate::text::printable::Printable;
use crate::text::time::Zone;

/// Write what is in a snapshot as a tar archive
///
/// Directories, links, modes, owners, times and extended attributes are kept, in
/// the format pax, which tar reads everywhere. A file that turns out to be damaged
/// in the middle ends the archive where it is, so that whoever reads it sees it
/// cut off.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which format: tar is the only one
    #[arg(long, value_name = "FORMAT", default_value = "tar")]
    format: String,

    /// The archive, which is replaced when the new one is whole; `-` is standard
    /// output. By default plakar-YYYYMMDDhhmmss.tar, here
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Name what is in it from PATH on, and not from the root
    #[arg(long)]
    rebase: bool,

    /// What to archive
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    target: OsString,
}

/// Writes an archive.
///
/// # Errors
///
/// What keeps it from being written; then there is none. What is left out of it is
/// told, and makes the status.
pub(crate) fn run(args: &Args, context: &Context<'_>, out: &mut dyn Write) -> Result<Status> {
    args.check_format()?;
    let output = match &args.output {
        None => absolute(format!("plakar-{}.tar", Zone::local().digits(now())))?,
        Some(path) if path.as_os_str() == "-" => {
            return args.write(context, None, out);
        }
        Some(path) => {
            refuse_empty(path.as_os_str(), "archive")?;
            absolute(path)?
        }
    };
    args.write(context, Some(&output), out)
}

impl Args {
    /// Stock writes others too.
    fn check_format(&self) -> Result<()> {
        let instead = match self.format.as_str() {
            "tar" => return Ok(()),
            "tarball" => "Compress it on the way: archive -output - SNAPSHOT | gzip > FILE.tar.gz",
            _ => "Stock's others are not written here.",
        };
        Err(Failure::usage(format!("there is no format {}, but tar", self.format))
            .with_advice(instead))
    }

    fn write(
        &self,
        context: &Context<'_>,
        output: Option<&Path>,
        out: &mut dyn Write,
    ) -> Result<Status> {
        if output.is_none() {
            report::output_is_data();
        }
        let target = Target::parse(&self.target);
        context.read(work_bytes, |repo, memory| {
            let chunk_bytes = repo.facts().chunking.max();
            let mut read = ReadMemory::new::<HostsError>(memory, chunk_bytes)?;
            let snapshot = snapshots::load(repo, &target, &mut read)?;
            let source = snapshot.resolve(repo, &target.path, &mut read)?;
            let (entry, _) = entry_at(repo, &snapshot.trees, &source, &mut read)?;
            let is_directory = entry.is_directory();
            let prefix = match (self.rebase, is_directory) {
                (true, _) => &[][..],
                (false, true) => &source[..],
                (false, false) => split(&source).0,
            };
            let work = Work { context, repo, snapshot: &snapshot, source: &source };
            let status = match output {
                None => to_stream(work, prefix, false, memory, out)?,
                Some(path) => to_file(work, prefix, path, memory, out)?,
            };
            Ok(context.status(status))
        })
    }
}

/// Writes an archive to standard output.
///
/// # Errors
///
/// As [`run`]; the archive is cut off then.
pub(super) fn to_stream(
    work: Work<'_, '_>,
    prefix: &[u8],
    skip_permissions: bool,
    memory: &mut [u8],
    out: &mut dyn Write,
) -> Result<Status> {
    let exporter =
        TarExporter::new(out).with_prefix(prefix).with_skip_permissions(skip_permissions);
    let (status, out) =
        write_tar(work, exporter, skip_permissions, memory, None, &|error| error.into())?;
    out.flush()?;
    Ok(status)
}

/// Writes an archive to a file beside `path`, which then takes its place.
fn to_file(
    work: Work<'_, '_>,
    prefix: &[u8],
    path: &Path,
    memory: &mut [u8],
    out: &mut dyn Write,
) -> Result<Status> {
    let failed = |error| Failure::io(format_args!("write {}", path.display()), error);
    if path.symlink_metadata().is_ok_and(|there| !there.is_file()) {
        let what = format!("{} is there, and is no file", path.display());
        return Err(Failure::new(Status::Failed, what));
    }
    let mut temporary = path.file_name().unwrap_or_default().to_owned();
    temporary.push(format!(".{}.part", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let file = File::create_new(&temporary).map_err(failed)?;
    let stream = BufWriter::with_capacity(OUTPUT_BYTES, file);
    let exporter = TarExporter::new(stream).with_prefix(prefix);
    let written = write_tar(work, exporter, false, memory, Some(out), &failed);
    let written = written.and_then(|(status, stream)| {
        let file = stream.into_inner().map_err(|error| failed(error.into_error()))?;
        let was_there = path.symlink_metadata().is_ok();
        file.sync_all().and_then(|()| fs::rename(&temporary, path)).map_err(failed)?;
        match sync_directory(parent_of(path)) {
            Ok(true) => {}
            Ok(false) => report::warn(&cannot_sync(path)),
            Err(error) => {
                // What was told to have failed must not be found later. In place of
                // another archive it is the only one left.
                if !was_there {
                    let _ = fs::remove_file(path);
                }
                return Err(failed(error));
            }
        }
        Ok(status)
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Writes all of an archive, and returns its stream.
fn write_tar<W: Write>(
    work: Work<'_, '_>,
    mut exporter: TarExporter<W>,
    skip_permissions: bool,
    memory: &mut [u8],
    out: Option<&mut dyn Write>,
    failed: &dyn Fn(io::Error) -> Failure,
) -> Result<(Status, W)> {
    let how = ("archive", skip_permissions);
    let finish = |exporter: &mut TarExporter<W>| Ok(exporter.finish()?);
    let done = with_exporter(work, how, &mut exporter, memory, out, finish);
    match done {
        Ok(status) => Ok((status, exporter.into_stream())),
        Err(failure) => Err(match (exporter.take_stream_error(), exporter.broken_file()) {
            (Some(error), _) => failed(error),
            (None, None) => failure,
            (None, Some(path)) => failure.while_doing(Printable(path)).with_advice(
                "The archive ends in the middle of that file. `tiroir restore` into a directory \
                 goes on with what is not damaged.",
            ),
        }),
    }
}
