//! Whether an entry is understood, and whether what it names can be reached.

use std::path::Path;

use rustix::fs::Access;
use tiroir_core::host::{HostError as _, HostErrorKind};
use tiroir_core::repository::parse_config;
use tiroir_hosts::fs::mounted::MountRule;

use super::{Entry, Kind};
use crate::cmd::backup::PATH_OPTIONS;
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
    if let Kind::Store = kind {
        return match Location::parse(&entry.location, &entry.options)? {
            Location::Remote(remote) => Ok(connect::check(&remote)?),
            _ => Ok(()),
        };
    }
    match Place::parse(&entry.location, &entry.options) {
        Place::Path(path) => {
            absolute(path)?;
            let known: &[&str] = if kind == Kind::Source { &PATH_OPTIONS } else { &[] };
            MountRule::from_options(&entry.options)?;
            refuse_options(&entry.options, known, "a place on a disk")
        }
        Place::Remote(remote) => {
            remote.check()?;
            Ok(connect::check(&remote)?)
        }
        Place::Other(scheme, _) => stream(kind, scheme).map(|_| ()),
    }
}

/// Reaches what an entry names, and tells what is there.
///
/// # Errors
///
/// That it cannot be reached, or is not what it should be.
pub(crate) fn ping(kind: Kind, entry: &Entry, context: &Context<'_>) -> Result<String> {
    check(kind, entry)?;
    if let Kind::Store = kind {
        return store(&Location::parse(&entry.location, &entry.options)?, context);
    }
    match (Place::parse(&entry.location, &entry.options), kind) {
        (Place::Path(path), Kind::Destination) => destination(&absolute(path)?),
        (Place::Path(path), _) => source(&absolute(path)?),
        (Place::Remote(remote), _) => remote_place(&remote, context),
        (Place::Other(scheme, _), _) => Ok(stream(kind, scheme)?.to_owned()),
    }
}

/// What a scheme without a place is.
fn stream(kind: Kind, scheme: &str) -> Result<&'static str> {
    match (scheme, kind) {
        ("stdin", Kind::Source) => Ok("standard input"),
        ("stdout", Kind::Destination) => Ok("standard output"),
        _ => {
            let what = format!("there is no {kind} connector for {scheme}:");
            Err(Failure::new(Status::Failed, what))
        }
    }
}

/// A source or destination on a server.
fn remote_place(remote: &Remote, context: &Context<'_>) -> Result<String> {
    let around = context.surroundings();
    if remote.scheme == Scheme::S3 {
        connect::importer(remote, &around, None)?;
        return Ok(format!("objects at {remote}"));
    }
    let mut server = connect::files(remote, &around)?;
    let what = server.files.describe()?;
    let is_there = match server.files.inspect(&server.path) {
        _ if server.path == b"/" => "",
        Ok(_) => "",
        Err(error) if error.kind() == HostErrorKind::NotFound => ", which is not there yet",
        Err(error) => return Err(error.into()),
    };
    Ok(format!("{remote}{is_there}: {what}"))
}

fn store(location: &Location, context: &Context<'_>) -> Result<String> {
    let config = context.config_of(location)?;
    let parsed = parse_config(&config);
    let parsed = parsed.map_err(|error| {
        Failure::new(Status::Integrity, format!("store {location}: CONFIG: {error}"))
    })?;
    let sealed = if parsed.encryption.is_some() { "encrypted" } else { "not encrypted" };
    let what = match location {
        Location::Remote(remote) => connect::describe(remote, &context.surroundings())?,
        _ => None,
    };
    let what = what.map(|what| format!(": {what}")).unwrap_or_default();
    Ok(format!("a store at {location}, {sealed}{what}"))
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
