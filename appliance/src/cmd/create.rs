//! `create`: makes a new store.

use std::io;
use std::path::Path;

use tiroir_core::host::{HostError as _, HostErrorKind};
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
    // Before anybody is asked for a passphrase in vain; asked again in the end.
    let what = match &location {
        Location::Directory(path) | Location::Mounted(path, _) => what_is_there(path),
        Location::Archive(_) => {
            return Err(Failure::usage("an archive is not created empty")
                .with_advice("Write one with what it is to hold: tiroir ptar -o FILE PATH"));
        }
        Location::Remote(_) => what_is_there_remotely(&location, context)?,
    };
    if let Some(what) = what {
        return Err(Failure::new(Status::Failed, what)
            .with_advice("A new store needs a directory that is empty, or not there yet."));
    }
    let known = context.known_passphrase(&location);
    let new = NewStore::make(context, &args.choices, PACKFILE_BYTES_DEFAULT, known)?;
    AnyStore::at(&location, &context.surroundings())?.create(&new.config)?;
    Ok(Status::Done)
}

/// What keeps a store from being made on a server, if something does.
///
/// # Errors
///
/// Of the connection, so that nobody is asked for a passphrase in vain either.
fn what_is_there_remotely(location: &Location, context: &Context<'_>) -> Result<Option<String>> {
    let mut store = AnyStore::at(location, &context.surroundings())?;
    match store.read_config(&mut [0; 1]) {
        Ok(_) => Ok(Some(format!("there is a store at {location} already"))),
        Err(error) if error.kind() == HostErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
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
