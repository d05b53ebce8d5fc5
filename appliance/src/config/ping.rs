//! Whether an entry is understood, and whether what it names can be reached.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use tiroir_core::repository::parse_config;

use super::{Entry, Kind};
use crate::error::{Failure, Result};
use crate::exit::Status;
use crate::location::{Location, absolute, split_scheme};
use crate::open::Context;

/// Sees that an entry is understood. Nothing is reached.
///
/// # Errors
///
/// For locations and options that no connector understands.
pub(crate) fn check(kind: Kind, entry: &Entry) -> Result<()> {
    let known: &[&str] = match kind {
        Kind::Store => {
            Location::parse(&entry.location)?;
            &[]
        }
        Kind::Source => {
            Local::parse(kind, &entry.location)?;
            &["dont_traverse_fs"]
        }
        Kind::Destination => {
            Local::parse(kind, &entry.location)?;
            &[]
        }
    };
    match entry.options.unknown(known) {
        None => Ok(()),
        Some(name) => Err(Failure::new(Status::Failed, format!("there is no option {name}"))
            .with_advice("A place on this machine has none of that name: remove it with `unset`.")),
    }
}

/// Reaches what an entry names, and tells what is there.
///
/// # Errors
///
/// That it cannot be reached, or is not what it should be.
pub(crate) fn ping(kind: Kind, entry: &Entry, context: &Context<'_>) -> Result<String> {
    match kind {
        Kind::Store => store(&Location::parse(&entry.location)?, context),
        Kind::Source => match Local::parse(kind, &entry.location)? {
            Local::Path(path) => source(&path),
            Local::Stream(what) => Ok(what.to_owned()),
        },
        Kind::Destination => match Local::parse(kind, &entry.location)? {
            Local::Path(path) => destination(&path),
            Local::Stream(what) => Ok(what.to_owned()),
        },
    }
}

/// A place on this machine.
enum Local {
    Path(PathBuf),
    /// What it is.
    Stream(&'static str),
}

impl Local {
    fn parse(kind: Kind, location: &OsStr) -> Result<Self> {
        match (split_scheme(location), kind) {
            ((None | Some("fs" | "file"), path), _) => Ok(Self::Path(absolute(path)?)),
            ((Some("stdin"), _), Kind::Source) => Ok(Self::Stream("standard input")),
            ((Some("stdout"), _), Kind::Destination) => Ok(Self::Stream("standard output")),
            ((Some(scheme), _), _) => {
                let what = format!("there is no {kind} connector for {scheme}:");
                Err(Failure::new(Status::Failed, what))
            }
        }
    }
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
