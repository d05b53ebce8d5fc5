//! `version`: prints the version.

use std::io::Write;

use crate::error::Result;
use crate::exit::Status;

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
pub(crate) fn run(_args: &Args, out: &mut dyn Write) -> Result<Status> {
    writeln!(out, "{CLIENT}")?;
    Ok(Status::Done)
}
