//! `diff`: tells how two snapshots differ, or a snapshot and the file system.

use std::ffi::OsString;
use std::io::Write;

use crate::error::Result;
use crate::exit::Status;
use crate::open::Context;

/// Tell how two snapshots differ, or a snapshot and the file system
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Compare directories in directories too
    #[arg(long)]
    recursive: bool,

    /// What to compare; a single one is compared with the file system
    #[arg(value_name = "SNAPSHOT[:PATH]", required = true, num_args = 1..=2)]
    targets: Vec<OsString>,
}

/// Tells.
///
/// # Errors
///
/// The engine's, and those of `out`.
pub(crate) fn run(_args: &Args, _context: &Context<'_>, _out: &mut dyn Write) -> Result<Status> {
    todo!()
}
