//! `ptar`: writes an archive: a store in one file.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::PathBuf;

use tiroir_core::error::Subject;
use tiroir_core::host::Host as _;
use tiroir_core::importer::Importer;
use tiroir_core::mac::Mac;
use tiroir_core::repository::parse_config;
use tiroir_core::session::Session;
use tiroir_core::snapshot::ReadMemory;
use tiroir_core::snapshot::backup::{Options, Report, backup_bytes, backup_into};
use tiroir_core::store::Store as _;
use tiroir_hosts::error::HostsError;
use tiroir_hosts::options::Options as ConnectorOptions;
use tiroir_hosts::ptar::PtarWriter;
use tiroir_hosts::snapshot::copy_snapshot;
use tiroir_hosts::stdio::StdinImporter;

use super::backup::{Place, Provenance, open_importer, open_remote, summary, tell};
use super::{read_chunk_bytes, stock_chunk_bytes};
use crate::budget::{Plan, Share};
use crate::connect;
use crate::error::{EngineError, Failure, Result};
use crate::exit::Status;
use crate::filter::Filters;
use crate::location::{Location, absolute, parse_options, refuse_empty};
use crate::new_store::{Choices, NewStore};
use crate::open::{Context, Opened, chunk_bytes};
use crate::report::{self, Reporter};
use crate::snapshots::{self, SORT_BYTES};
use crate::store::{AnyStore, Appliance};

/// Length of packfiles in an archive: there is one, however long.
const PACKFILE_BYTES_MAX: u64 = u64::MAX;

/// Write an archive: a store in one file
///
/// The archive holds all snapshots of the stores of -k, then one of each PATH,
/// and exists when it is whole. Stock opens it if it is called *.ptar.
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

    /// Put all snapshots of STORE into it. Where the passphrase that was given
    /// does not open it, the terminal is asked. May be repeated
    #[arg(long = "kloset", alias = "k", visible_alias = "k", value_name = "STORE",
          action = clap::ArgAction::Append)]
    stores: Vec<OsString>,

    /// Option of the connector to the source. May be repeated
    #[arg(long = "option", value_name = "NAME=VALUE", action = clap::ArgAction::Append)]
    options: Vec<String>,

    /// What to put into it, each as a snapshot: a path, `fs:PATH`,
    /// `sftp://HOST/PATH`, or `stdin:NAME`. The current directory by default, if there is no -k
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
}

/// Memory for the work of writing an archive, in bytes: its chunks are stock's.
pub(super) fn work_bytes() -> usize {
    backup_bytes(stock_chunk_bytes())
}

/// Memory for the work of reading a store that goes into an archive, in bytes.
fn source_work_bytes(chunk_bytes: usize) -> usize {
    ReadMemory::bytes(read_chunk_bytes(chunk_bytes)) + SORT_BYTES
}

/// Memory that either repository needs for its work where a store goes into an
/// archive, in bytes.
pub(super) fn copy_work_bytes(chunk_bytes: usize) -> usize {
    work_bytes().max(source_work_bytes(chunk_bytes))
}

/// Writes the archive.
///
/// # Errors
///
/// What keeps it from being written; then there is none.
pub(crate) fn run(args: &Args, context: &Context<'_>, out: &mut dyn Write) -> Result<Status> {
    let options = parse_options(&args.options)?;
    let mut places = args
        .paths
        .iter()
        .map(|path| Place::parse(path, &options, context))
        .collect::<Result<Vec<_>>>()?;
    if places.is_empty() && args.stores.is_empty() {
        places.push(Place::parse(OsStr::new("."), &options, context)?);
    }
    if places.iter().filter(|place| matches!(place, Place::Stdin(_))).count() > 1 {
        return Err(Failure::usage("standard input can be read once only"));
    }
    refuse_empty(args.output.as_os_str(), "archive")?;
    let is_stream = args.output.as_os_str() == "-";
    if is_stream {
        report::output_is_data();
    }
    let output = if is_stream { args.output.clone() } else { absolute(&args.output)? };
    if !is_stream {
        args.check_output(&output)?;
    }
    // Opened first: nobody is asked for a passphrase if there is nothing.
    for place in &places {
        if let Place::Path { path, mount, .. } = place {
            open_importer(path)?;
            if let Some(rule) = mount {
                rule.check(path)?;
            }
        }
    }
    let mut stores = Vec::with_capacity(args.stores.len());
    for text in &args.stores {
        let location = context.locate(text, &ConnectorOptions::default())?;
        // As in stock, a store that is named twice goes in once.
        if !stores.contains(&location) {
            stores.push(location);
        }
    }
    args.write(context, output, &places, &stores, out)
}

impl Args {
    /// Sees that the archive can be there.
    fn check_output(&self, output: &std::path::Path) -> Result<()> {
        let there = output.symlink_metadata().ok();
        if there.as_ref().is_some_and(|there| !there.is_file()) {
            let what = format!("{} is there, and is no file", output.display());
            return Err(Failure::new(Status::Failed, what).with_advice(
                "An archive takes the place of a file only: neither of a directory or device, nor \
                 of a symbolic link.",
            ));
        }
        if there.is_some() && !self.overwrite {
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

    fn write(
        &self,
        context: &Context<'_>,
        output: PathBuf,
        places: &[Place],
        stores: &[Location],
        out: &mut dyn Write,
    ) -> Result<Status> {
        let is_stream = output.as_os_str() == "-";
        // Opened before the archive is begun: they may not be there.
        let mut opened_stores = Vec::with_capacity(stores.len());
        for location in stores {
            opened_stores.push(context.open_source(location.clone())?);
        }
        let share = if stores.is_empty() { Share::All } else { Share::Half };
        // For the archive and each of the stores: said before anything is written.
        let mut needed_bytes = work_bytes();
        for opened in &opened_stores {
            let config = parse_config(&opened.config);
            let config = config.map_err(EngineError::damaged(Subject::Config))?;
            needed_bytes = needed_bytes.max(copy_work_bytes(chunk_bytes(&config)));
        }
        Plan::new(context.budget_bytes(), share, needed_bytes)?;
        let new = NewStore::make(context, &self.choices, PACKFILE_BYTES_MAX, None)?;
        let writer =
            PtarWriter::new(&output).with_overwrite(self.overwrite).with_warnings(report::warn);
        let mut store = AnyStore::new_archive(writer);
        store.create(&new.config)?;
        let NewStore { config, key } = new;
        let opened = Opened { location: Location::Archive(output), store, config, key };
        let written = context.with_new_repository(opened, share, backup_bytes, |repo, memory| {
            let mut name = Mac::ZERO;
            repo.host.fill_random(&mut name.0)?;
            let mut session = Session::new(repo, name)?;
            let (status, summary) = (Status::Done, Vec::new());
            let mut writing = Writing { context, memory, is_stream, status, out, summary };
            for opened in opened_stores {
                writing.copy(&mut session, opened)?;
            }
            for place in places {
                match place {
                    Place::Path { path, .. } => {
                        writing.back_up(&mut session, &mut open_importer(path)?)?;
                    }
                    Place::Stdin(name) => {
                        writing.back_up(&mut session, &mut StdinImporter::new(name))?;
                    }
                    Place::Remote(remote) => {
                        let found = open_remote(remote, context, None)?;
                        let around = context.surroundings();
                        let mut importer = connect::ahead(found.importer, remote, &around, None)?;
                        writing.back_up(&mut session, &mut importer)?;
                    }
                }
            }
            session.commit()?;
            writing.tell_summary()?;
            Ok(writing.status)
        });
        written.map_err(|failure| failure.if_interrupted("No archive was written."))
    }
}

/// An archive being written.
struct Writing<'a, 'm> {
    context: &'a Context<'a>,
    memory: &'m mut [u8],
    /// Standard output is the archive: nothing else may be written there.
    is_stream: bool,
    status: Status,
    out: &'a mut dyn Write,
    /// Of the newest snapshot: that all is well is said when the archive is there.
    summary: Vec<u8>,
}

impl Writing<'_, '_> {
    /// Takes a snapshot.
    fn back_up(
        &mut self,
        session: &mut Session<'_, '_, Appliance>,
        mut importer: &mut dyn Importer<Error = HostsError>,
    ) -> Result<()> {
        let provenance = Provenance::new();
        let pairs = provenance.pairs();
        let options = Options { context: &pairs, ..Options::default() };
        let mut reporter = Reporter::new(self.context.globals, "ptar");
        let report = backup_into(session, &mut importer, &options, self.memory, &mut |event| {
            tell(event, &mut reporter);
        })?;
        self.told(&report, reporter, session)
    }

    /// Copies all snapshots of a store, newest first.
    fn copy(&mut self, session: &mut Session<'_, '_, Appliance>, opened: Opened) -> Result<()> {
        let context = self.context;
        context.with_source(opened, source_work_bytes, |from, memory| {
            context.refresh_whole(from, memory)?;
            let (arena, reading) = memory.split_at_mut(SORT_BYTES);
            let all = Filters::default();
            let buffers = (reading, arena);
            snapshots::newest_first(context, from, &all, buffers, &mut |from, reading, id| {
                let mut reporter = Reporter::new(context.globals, "ptar");
                let report =
                    copy_snapshot(from, session, id, reading, self.memory, &mut |event| {
                        tell(event, &mut reporter);
                    })?;
                self.told(&report, reporter, session)
            })
        })
    }

    fn tell_summary(&mut self) -> Result<()> {
        self.out.write_all(&self.summary)?;
        self.summary.clear();
        Ok(())
    }

    /// Takes down how it went.
    fn told(
        &mut self,
        report: &Report,
        mut reporter: Reporter,
        session: &Session<'_, '_, Appliance>,
    ) -> Result<()> {
        let form = reporter.finish().filter(|_| !self.is_stream);
        self.tell_summary()?;
        summary("ptar", report, session.repository, form, &mut self.summary)?;
        if report.summary.total_errors() > 0 {
            self.status = self.status.and(Status::Incomplete);
        }
        Ok(())
    }
}
