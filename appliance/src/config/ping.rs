//! Whether an entry is understood, and whether what it names can be reached.

use std::path::{Path, PathBuf};

use rustix::fs::Access;
use tiroir_core::repository::parse_config;

use super::{Entry, Kind};
use crate::connect;
use crate::error::{Failure, Result};
use crate::exit::Status;
use crate::location::{Location, Place, Remote, Scheme, absolute, refuse_options};
use crate::open::Context;

/// Sees that an entry is understood. Nothing is reached.
///
/// # Errors
///
/// For locations and options that no connector understands.
pub(crate) fn check(kind: Kind, entry: &Entry) -> Result<()> {
    match kind {
        Kind::Store => Location::parse(&entry.location, &entry.options).map(drop),
        Kind::Source | Kind::Destination => Spot::parse(kind, entry).map(drop),
    }
}

/// Reaches what an entry names, and tells what is there.
///
/// # Errors
///
/// That it cannot be reached, or is not what it should be.
pub(crate) fn ping(kind: Kind, entry: &Entry, context: &Context<'_>) -> Result<String> {
    match kind {
        Kind::Store => store(&Location::parse(&entry.location, &entry.options)?, context),
        Kind::Source => match Spot::parse(kind, entry)? {
            Spot::Path(path) => source(&path),
            Spot::Remote(remote) => {
                connect::importer(&remote, &context.surroundings())?;
                Ok(format!("a place to back up at {remote}"))
            }
            Spot::Stream(what) => Ok(what.to_owned()),
        },
        Kind::Destination => match Spot::parse(kind, entry)? {
            Spot::Path(path) => destination(&path),
            Spot::Remote(remote) => remote_destination(&remote, context),
            Spot::Stream(what) => Ok(what.to_owned()),
        },
    }
}

/// Where a source or a destination is.
enum Spot {
    Path(PathBuf),
    Remote(Remote),
    /// What it is.
    Stream(&'static str),
}

impl Spot {
    fn parse(kind: Kind, entry: &Entry) -> Result<Self> {
        match (Place::parse(&entry.location, &entry.options), kind) {
            (Place::Path(path), _) => {
                let known: &[&str] = if kind == Kind::Source { &["dont_traverse_fs"] } else { &[] };
                refuse_options(&entry.options, known, "a place on a disk")?;
                Ok(Self::Path(absolute(path)?))
            }
            (Place::Remote(remote), _) => {
                remote.check()?;
                Ok(Self::Remote(remote))
            }
            (Place::Other("stdin", _), Kind::Source) => Ok(Self::Stream("standard input")),
            (Place::Other("stdout", _), Kind::Destination) => Ok(Self::Stream("standard output")),
            (Place::Other(scheme, _), _) => {
                let what = format!("there is no {kind} connector for {scheme}:");
                Err(Failure::new(Status::Failed, what))
            }
        }
    }
}

/// Reaches a server, and makes nothing there.
fn remote_destination(remote: &Remote, context: &Context<'_>) -> Result<String> {
    let around = context.surroundings();
    if remote.scheme == Scheme::S3 {
        connect::importer(remote, &around)?;
    } else {
        connect::files(remote, &around)?.files.abilities()?;
    }
    Ok(format!("a server to restore to at {remote}"))
}

fn store(location: &Location, context: &Context<'_>) -> Result<String> {
    let config = context.config_of(location)?;
    let parsed = parse_config(&config);
    let parsed = parsed.map_err(|error| {
        Failure::new(Status::Integrity, format!("store {location}: CONFIG: {error}"))
    })?;
    let sealed = if parsed.encryption.is_some() { "encrypted" } else { "not encrypted" };
    Ok(format!("a store at {location}, {sealed}"))
}

fn source(path: &Path) -> Result<String> {
    let failure = |error| Failure::io(format_args!("read {}", path.display()), error);
    let data = path.metadata().map_err(failure)?;
    if data.is_dir() {
        path.read_dir().map_err(failure)?;
        return Ok(format!("directory {}", path.display()));
    }
    rustix::fs::access(path, Access::READ_OK).map_err(|error| failure(error.into()))?;
    Ok(format!("file {}", path.display()))
}

fn destination(path: &Path) -> Result<String> {
    // It may be made by the restore, but not the one that it is in.
    let (there, text) = if path.exists() {
        (path, "directory")
    } else {
        (path.parent().unwrap_or(path), "a directory that is not there yet,")
    };
    let failure = |error| Failure::io(format_args!("write to {}", there.display()), error);
    let data = there.metadata().map_err(|error| failure(error).with_status(Status::NoTarget))?;
    if !data.is_dir() {
        let what = format!("{} is no directory", there.display());
        return Err(Failure::new(Status::NoTarget, what));
    }
    let access = rustix::fs::access(there, Access::WRITE_OK | Access::EXEC_OK);
    access.map_err(|error| failure(error.into()))?;
    Ok(format!("{text} {}", path.display()))
}
