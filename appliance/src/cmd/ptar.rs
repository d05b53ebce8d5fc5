//! `ptar`: writes an archive: a store in one file.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::PathBuf;

use tiroir_core::importer::Importer;
use tiroir_core::snapshot::backup::{Options, backup, backup_bytes};
use tiroir_core::store::Store as _;
use tiroir_hosts::error::HostsError;
use tiroir_hosts::ptar::PtarWriter;
use tiroir_hosts::stdio::StdinImporter;

use super::backup::{Place, Provenance, open_importer, summary, tell};
use crate::error::{Failure, Result};
use crate::exit::Status;
use crate::location::{Location, absolute};
use crate::new_store::{Choices, NewStore};
use crate::open::{Context, Opened};
use crate::report::Reporter;
use crate::store::AnyStore;

/// Length of packfiles in an archive: there is one, however long.
const PACKFILE_BYTES_MAX: u64 = u64::MAX;

/// Write an archive: a store in one file
///
/// The archive holds one snapshot, and exists when it is whole. Stock opens it
/// if it is called *.ptar.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    choices: Choices,

    /// Replace FILE if it is there
    #[arg(long)]
    overwrite: bool,

    /// The archive; `-` is standard output
    #[arg(long = "output", alias = "o", visible_alias = "o", value_name = "FILE", required = true)]
    output: PathBuf,

    /// What to put into it: a path, `fs:PATH`, or `stdin:NAME`. The current
    /// directory by default
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
}

/// Writes the archive.
///
/// # Errors
///
/// What keeps it from being written; then there is none.
pub(crate) fn run(args: &Args, context: &Context<'_>, out: &mut dyn Write) -> Result<Status> {
    let place = match args.paths.as_slice() {
        [] => Place::parse(OsStr::new("."))?,
        [path] => Place::parse(path)?,
        [..] => {
            return Err(Failure::usage("several places cannot be put in one archive yet")
                .with_advice("Write an archive of each."));
        }
    };
    let is_stream = args.output.as_os_str() == "-";
    let output = if is_stream { args.output.clone() } else { absolute(&args.output)? };
    if !is_stream {
        args.check_output(&output)?;
    }
    // Opened first: nobody is asked for a passphrase if there is nothing.
    match place {
        Place::Stdin(name) => args.write(context, output, &mut StdinImporter::new(&name), out),
        Place::Path(path) => args.write(context, output, &mut open_importer(&path)?, out),
    }
}

impl Args {
    /// Sees that the archive can be there.
    fn check_output(&self, output: &std::path::Path) -> Result<()> {
        if output.symlink_metadata().is_ok() && !self.overwrite {
            let what = format!("ptar archive {} already exists", output.display());
            return Err(Failure::new(Status::Failed, what)
                .with_advice("Use -overwrite to replace it when the new one is whole."));
        }
        match output.parent() {
            Some(parent) if !parent.is_dir() => {
                let what = format!("there is no directory {}", parent.display());
                Err(Failure::new(Status::NoTarget, what).with_advice("Is its disk mounted?"))
            }
            _ => Ok(()),
        }
    }

    fn write<I: Importer<Error = HostsError>>(
        &self,
        context: &Context<'_>,
        output: PathBuf,
        importer: &mut I,
        out: &mut dyn Write,
    ) -> Result<Status> {
        let is_stream = output.as_os_str() == "-";
        let new = NewStore::make(context, &self.choices, PACKFILE_BYTES_MAX)?;
        let writer = PtarWriter::new(&output).with_overwrite(self.overwrite);
        let mut store = AnyStore::new_archive(writer);
        store.create(&new.config)?;
        let NewStore { config, key } = new;
        let opened = Opened { location: Location::Archive(output), store, config, key };
        let provenance = Provenance::new();
        let pairs = provenance.pairs();
        let options =
            Options { context: &pairs, hostname: provenance.hostname(), ..Options::default() };
        context.with_new_repository(opened, backup_bytes, |repo, memory| {
            let mut reporter = Reporter::new(context.globals, "ptar");
            let report = backup(repo, importer, &options, memory, &mut |event| {
                tell(event, &mut reporter);
            })?;
            let form = reporter.finish().filter(|_| !is_stream);
            summary("ptar", &report, repo, form, out)?;
            let errors = report.summary.total_errors();
            Ok(if errors == 0 { Status::Done } else { Status::Incomplete })
        })
    }
}
