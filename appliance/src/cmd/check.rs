//! `check`: reads a store or snapshots, and compares everything with its MACs.

use std::ffi::OsString;
use std::io::Write;

use tiroir_core::error::Error;
use tiroir_core::mac::Mac;
use tiroir_core::snapshot::ReadMemory;
use tiroir_core::snapshot::check::{
    self, Event, Options, check_bytes, check_packfiles, check_snapshot, check_states,
};
use tiroir_hosts::error::HostsError;

use super::{read_chunk_bytes, refuse_filters};
use crate::error::{Failure, Result};
use crate::exit::Status;
use crate::filter::Filters;
use crate::open::Context;
use crate::report::{self, Form, Reporter, with_errors};
use crate::snapshots::{self, SORT_BYTES, Snapshot, Target};
use crate::store::Repo;
use crate::text::duration::Duration;
use crate::text::json::Line;
use crate::text::size::Size;

/// Read a store or snapshots, and compare everything with its MACs
///
/// Without a SNAPSHOT or filters, the whole store: its states, its packfiles
/// and all snapshots. What is damaged is named, and makes the exit status 65.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only see that everything is there, without reading content
    #[arg(long)]
    fast: bool,

    /// Accepted for scripts of stock: signatures are not verified here
    #[arg(long)]
    no_verify: bool,

    #[command(flatten)]
    filters: Filters,

    /// What to check
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    targets: Vec<OsString>,
}

/// Memory for the work of a check, in bytes.
pub(super) fn work_bytes(chunk_bytes: usize) -> usize {
    check_bytes(read_chunk_bytes(chunk_bytes)) + SORT_BYTES
}

/// Checks.
///
/// # Errors
///
/// What keeps the check from going on. Damage is reported.
pub(crate) fn run(args: &Args, context: &Context<'_>, out: &mut dyn Write) -> Result<Status> {
    if !args.targets.is_empty() {
        refuse_filters(&args.filters)?;
    }
    let opened = context.open()?;
    context.with_repository(opened, work_bytes, |repo, memory| {
        let mut checker = Checker {
            context,
            options: Options { fast: args.fast, ..Options::default() },
            failed: 0,
            is_store_damaged: false,
            out,
        };
        checker.store(repo, memory, args.targets.is_empty() && args.filters.is_empty())?;
        let (arena, mut memory) = memory.split_at_mut(SORT_BYTES);
        for text in &args.targets {
            checker.target(repo, memory, &Target::parse(text))?;
        }
        if args.targets.is_empty() {
            let buffers = (&mut memory, arena);
            snapshots::newest_first(
                context,
                repo,
                &args.filters,
                buffers,
                &mut |repo, memory, id| checker.snapshot(repo, memory, id, None),
            )?;
        }
        Ok(context.status(checker.verdict()))
    })
}

/// Checks, and counts what is wrong.
struct Checker<'a> {
    context: &'a Context<'a>,
    options: Options,
    /// Snapshots that are damaged.
    failed: u64,
    /// States or packfiles are damaged.
    is_store_damaged: bool,
    out: &'a mut dyn Write,
}

impl Checker<'_> {
    /// Brings the index up to date. Checks the files of the store if it is all
    /// to be checked.
    fn store(&mut self, repo: &mut Repo<'_>, memory: &mut [u8], whole: bool) -> Result<()> {
        if !whole {
            return self.context.refresh(repo, memory);
        }
        let mut reporter = Reporter::new(self.context.globals, "check");
        let mut report = check_states(repo, memory, &mut |event| tell(event, &mut reporter))?;
        let (packfiles, proof) =
            check_packfiles(repo, &self.options, memory, &mut |event| tell(event, &mut reporter))?;
        self.options.proof = proof;
        report.good += packfiles.good;
        report.bad += packfiles.bad;
        report.bytes += packfiles.bytes;
        self.is_store_damaged = report.bad > 0;
        summary("store", &report, &mut reporter, repo, self.out)
    }

    fn target(&mut self, repo: &mut Repo<'_>, memory: &mut [u8], target: &Target) -> Result<()> {
        let id = snapshots::find(repo, &target.prefix)?;
        if target.path.is_empty() {
            return self.snapshot(repo, memory, &id, None);
        }
        let chunk_bytes = repo.facts().chunking.max();
        let path = {
            let mut read = ReadMemory::new::<HostsError>(memory, chunk_bytes)?;
            let snapshot = Snapshot::load(repo, &id, read.chunk)?;
            snapshot.resolve(repo, &target.path, &mut read)?
        };
        self.snapshot(repo, memory, &id, Some(&path))
    }

    fn snapshot(
        &mut self,
        repo: &mut Repo<'_>,
        memory: &mut [u8],
        id: &Mac,
        path: Option<&[u8]>,
    ) -> Result<()> {
        let mut reporter = Reporter::new(self.context.globals, "check");
        let report = check_snapshot(repo, id, path, &self.options, memory, &mut |event| {
            tell(event, &mut reporter);
        })?;
        self.failed += u64::from(report.bad > 0);
        summary(&format!("{id:.4}"), &report, &mut reporter, repo, self.out)
    }

    /// Says what it all came to.
    fn verdict(&mut self) -> Status {
        if self.failed > 0 {
            let plural = if self.failed == 1 { "" } else { "s" };
            report::say(&format!("tiroir: check failed for {} snapshot{plural}", self.failed));
        }
        if self.is_store_damaged {
            report::say("tiroir: check failed for states or packfiles of the store");
        }
        if self.failed > 0 || self.is_store_damaged { Status::Integrity } else { Status::Done }
    }
}

/// Passes an event on.
pub(super) fn tell(event: &Event<'_, HostsError>, reporter: &mut Reporter) {
    match event {
        Event::Good { .. } => reporter.entry(),
        Event::Read { bytes } => reporter.moved(*bytes),
        Event::Bad { path, error } => {
            let message = match error {
                Error::NoSuchPath => String::from("no such file or directory"),
                error => error.to_string(),
            };
            reporter.failed(path.unwrap_or_default(), &message);
        }
    }
}

/// Writes the summary of one check, as stock words it.
///
/// # Errors
///
/// Of `out`.
pub(super) fn summary(
    name: &str,
    report: &check::Report,
    reporter: &mut Reporter,
    repo: &mut Repo<'_>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let read = std::mem::take(&mut repo.store.read_bytes);
    let written = std::mem::take(&mut repo.store.written_bytes);
    let nanos = reporter.elapsed_nanos();
    match reporter.finish() {
        None => {}
        Some(Form::Text) => writeln!(
            out,
            "{name}: check completed {} in {} (in: {}, out: {})",
            with_errors(report.bad),
            Duration(nanos),
            Size(read),
            Size(written)
        )?,
        Some(Form::Json) => {
            let mut line = Line::new(out, "check")?;
            line.show("checked", name)?;
            line.number("errors", report.bad)?;
            line.number("good", report.good)?;
            line.number("bytes", report.bytes)?;
            line.number("duration_ns", nanos)?;
            line.number("read_from_store", read)?;
            line.end()?;
        }
    }
    Ok(())
}
