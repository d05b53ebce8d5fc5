//! The program `tiroir`: backup for small machines, in the format of Plakar.
//!
//! From what is typed to what is done:
//!
//! - `args`: stock's command line, translated to clap's; `cli`: what there is;
//!   `usage`: what is wrong with what was typed;
//! - `cmd`: the subcommands, one to a file;
//! - `open`: from a location to an open repository; `location`, `passphrase`,
//!   `store`, `connect`, `budget` (how memory is divided), `machine`;
//! - `config`: stores, sources and destinations by name;
//! - `snapshots`, `filter`: which snapshot is meant; `new_store`: CONFIG;
//! - `diff`: two sides of a comparison; `bench`: how fast the machine is;
//! - `report`: progress and what went wrong; `text`: values as text;
//! - `error`, `exit`: failures and exit statuses; `interrupt`: signals;
//!   [`heap`]: what happens when memory is refused.
//!
//! The engine is `tiroir-core`, and the connectors are in `tiroir-hosts`.

#![warn(missing_docs)]
#![cfg_attr(
    not(feature = "default"),
    allow(
        dead_code,
        unreachable_code,
        unused_variables,
        reason = "what connectors share is there, whichever of them are"
    )
)]

mod args;
mod bench;
mod budget;
mod cli;
mod cmd;
mod config;
mod connect;
mod diff;
mod error;
mod exit;
mod filter;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod heap;
mod interrupt;
mod location;
mod machine;
mod new_store;
mod open;
mod passphrase;
mod report;
mod snapshots;
mod store;
mod text;
mod usage;

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::time::Instant;

use clap::error::ErrorKind;

use crate::cli::{Cli, Command};
use crate::config::Kind;
use crate::error::{Failure, Result};
use crate::exit::Status;
use crate::open::Context;
use crate::text::duration::Duration;

/// Bytes that are written to standard output at once.
pub(crate) const OUTPUT_BYTES: usize = 32 * 1024;

/// Runs the program with these arguments, of which the first is its name, and
/// returns its exit status.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let started = Instant::now();
    let root = cli::command();
    let arguments = match args::normalise(&root, arguments) {
        Ok(arguments) => arguments,
        Err(failure) => return tell(&failure).into(),
    };
    let command = args::command_of(&root, &arguments);
    let parsed = match cli::parse(arguments) {
        Ok(parsed) => parsed,
        Err(error) => return explain(&error, &root, command).into(),
    };
    let mut out = BufWriter::with_capacity(OUTPUT_BYTES, io::stdout().lock());
    let mut status = match dispatch(&parsed, &mut out) {
        Ok(status) => status,
        // As `ls | head` leaves us: nothing of ours went wrong. A backup never
        // comes here, since all it writes there is its last line.
        Err(failure) if failure.is_broken_pipe() => Status::Done,
        Err(failure) => {
            // What was done by then comes first.
            let _ = out.flush();
            if parsed.globals.json {
                let _ = report::failure_line(&failure);
            }
            tell(&failure)
        }
    };
    if parsed.globals.time {
        let nanos = i64::try_from(started.elapsed().as_nanos()).unwrap_or(i64::MAX);
        let _ = writeln!(out, "time: {}", Duration(nanos));
    }
    match out.flush() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            status = status.and(tell(&error.into()));
        }
        _ => {}
    }
    status.into()
}

/// Tells a failure, and returns its status.
fn tell(failure: &Failure) -> Status {
    report::say(&format!("tiroir: {failure}"));
    failure.status()
}

/// Tells what clap has to say: help that was asked for, or what is wrong.
fn explain(error: &clap::Error, root: &clap::Command, command: Option<&str>) -> Status {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return Status::Usage;
    }
    if error.use_stderr() {
        return tell(&usage::failure(error, root, command));
    }
    match write!(io::stdout(), "{error}").and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => tell(&error.into()),
        _ => Status::Done,
    }
}

/// Does what was asked.
fn dispatch(cli: &Cli, out: &mut dyn Write) -> Result<Status> {
    let context = Context::new(&cli.globals, interrupt::watch()?);
    match &cli.command {
        Command::Archive(args) => cmd::archive::run(args, &context, out),
        Command::Backup(args) => cmd::backup::run(args, &context, out),
        Command::Bench(args) => cmd::bench::run(args, &context, out),
        Command::Cat(args) => cmd::cat::run(args, &context, out),
        Command::Check(args) => cmd::check::run(args, &context, out),
        Command::Config(args) => cmd::config::run_old(args, &context, out),
        Command::Create(args) => cmd::create::run(args, &context),
        Command::Destination(args) => cmd::config::run(Kind::Destination, args, &context, out),
        Command::Diff(args) => cmd::diff::run(args, &context, out),
        Command::Digest(args) => cmd::digest::run(args, &context, out),
        Command::Help(args) => cmd::help::run(args, out),
        Command::Info(args) => cmd::info::run(args, &context, out),
        Command::Key(args) => cmd::key::run(args, &context, out),
        Command::Limits(args) => cmd::limits::run(args, &context, out),
        Command::Locate(args) => cmd::locate::run(args, &context, out),
        Command::Ls(args) => cmd::ls::run(args, &context, out),
        Command::Ptar(args) => cmd::ptar::run(args, &context, out),
        Command::Restore(args) => cmd::restore::run(args, &context, out),
        #[cfg(feature = "http")]
        Command::Server(args) => cmd::server::run(args, &context, out),
        Command::Source(args) => cmd::config::run(Kind::Source, args, &context, out),
        #[cfg(feature = "sftp")]
        Command::SshTrust(args) => cmd::ssh_trust::run(args, &context, out),
        Command::Store(args) => cmd::config::run(Kind::Store, args, &context, out),
        Command::Version(args) => cmd::version::run(args, &context, out),
    }
}
