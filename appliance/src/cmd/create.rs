//! `create`: makes a new store.

use std::io;
use std::path::Path;

use tiroir_core::store::Store as _;
use tiroir_core::wire::config::PACKFILE_BYTES_DEFAULT;

use crate::error::{Failure, Result};
use crate::exit::Status;
use crate::location::Location;
use crate::new_store::{Choices, NewStore};
use crate::open::Context;
use crate::store::AnyStore;

/// Make a new store
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    choices: Choices,
}

/// Makes a new store. As in stock, nothing is printed on standard output.
///
/// # Errors
///
/// For a place where something is, and those of the passphrase and the system.
pub(crate) fn run(args: &Args, context: &Context<'_>) -> Result<Status> {
    let location = context.location()?;
    let Location::Directory(path) = &location else {
        return Err(Failure::usage("an archive is not created empty")
            .with_advice("Write one with what it is to hold: tiroir ptar -o FILE PATH"));
    };
    // Before anybody is asked for a passphrase in vain; asked again in the end.
    if let Some(what) = what_is_there(path) {
        return Err(Failure::new(Status::Failed, what)
            .with_advice("A new store needs a directory that is empty, or not there yet."));
    }
    let known = context.known_passphrase(&location);
    let new = NewStore::make(context, &args.choices, PACKFILE_BYTES_DEFAULT, known)?;
    AnyStore::at(&location)?.create(&new.config)?;
    Ok(Status::Done)
}

/// What keeps a store from being made at `path`, if something does.
fn what_is_there(path: &Path) -> Option<String> {
    let shown = path.display();
    if path.join("CONFIG").exists() {
        return Some(format!("there is a store in {shown} already"));
    }
    match std::fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Some(format!("{shown}, or a part of its path, is a file"))
        }
        // Making it will tell.
        Err(_) => None,
        Ok(mut entries) => {
            entries.next().is_some().then(|| format!("directory {shown} is not empty"))
        }
    }
}
