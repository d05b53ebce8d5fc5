//! `version`: prints the version.

use std::io::Write;

use crate::error::Result;
use crate::exit::Status;
use crate::open::Context;
use crate::text::json::Line;

/// Name and version, as recorded in snapshots.
pub(crate) const CLIENT: &str = concat!("tiroir/v", env!("CARGO_PKG_VERSION"));

/// Print the version
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Prints the version.
///
/// # Errors
///
/// Of `out`.
pub(crate) fn run(_args: &Args, context: &Context<'_>, out: &mut dyn Write) -> Result<Status> {
    if context.globals.json {
        let mut line = Line::new(out, "version")?;
        line.show("version", CLIENT)?;
        line.end()?;
    } else {
        writeln!(out, "{CLIENT}")?;
    }
    Ok(Status::Done)
}
