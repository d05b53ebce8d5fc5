//! Ways in for the fuzz targets, which know nothing else of this package. They
//! are there under `--cfg fuzzing` only.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use tiroir_core::time::Timestamp;
use tiroir_hosts::options::Options;

use crate::config::import;
use crate::config::place as places;
use crate::location::Location;
use crate::text::duration::Duration;
use crate::text::json::Line;
use crate::text::mode::FileMode;
use crate::text::printable::Printable;
use crate::text::size::Size;
use crate::text::time::{Rfc3339, Zone};
use crate::text::{duration, pattern as patterns, size, time};
use crate::{args, cli, location as locations, snapshots};

/// Prefix and path of `SNAPSHOT[:PATH]`.
#[must_use]
pub fn target(text: &OsStr) -> (Vec<u8>, Vec<u8>) {
    let target = snapshots::Target::parse(text);
    (target.prefix, target.path)
}

/// An absolute path, cleaned.
#[must_use]
pub fn clean(path: &[u8]) -> Vec<u8> {
    snapshots::clean(path)
}

/// A command line in clap's form, if it is one.
#[must_use]
pub fn arguments(words: Vec<OsString>) -> Option<Vec<OsString>> {
    args::normalise(&cli::command(), words).ok()
}

/// Scheme of a location, and what follows it.
#[must_use]
pub fn split_scheme(text: &OsStr) -> (Option<&str>, &OsStr) {
    locations::split_scheme(text)
}

/// An absolute path of the system, cleaned.
#[must_use]
pub fn absolute(path: &OsStr) -> Option<PathBuf> {
    locations::absolute(path).ok()
}

/// Path of a location, if it is on this machine, and how it is shown.
#[must_use]
pub fn location(text: &OsStr) -> Option<(Option<PathBuf>, String)> {
    let location = Location::parse(text, &Options::default()).ok()?;
    Some((location.path().map(Path::to_path_buf), location.to_string()))
}

/// Nanoseconds of a duration.
#[must_use]
pub fn parse_duration(text: &str) -> Option<i64> {
    duration::parse(text)
}

/// A duration in nanoseconds, as text; rounded to seconds it is text as well.
#[must_use]
pub fn show_duration(nanos: i64) -> String {
    let _ = Duration(nanos).rounded().to_string();
    Duration(nanos).to_string()
}

/// Bytes of a size.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    size::parse(text).ok()
}

/// A size in bytes, as text.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    Size(bytes).to_string()
}

/// A point in time, from what people type.
#[must_use]
pub fn parse_time(text: &str, now: Timestamp) -> Option<Timestamp> {
    time::parse(text, now).ok()
}

/// A point in time in every form, RFC 3339 first.
#[must_use]
pub fn show_time(time: Timestamp) -> [String; 3] {
    let zone = Zone::utc();
    [Rfc3339(time).to_string(), zone.show(time), zone.digits(time)]
}

/// A mode, as text.
#[must_use]
pub fn show_mode(mode: u32) -> String {
    FileMode(mode).to_string()
}

/// Whether a name matches a pattern, if that is one.
#[must_use]
pub fn pattern(pattern: &[u8], name: &[u8]) -> Option<bool> {
    patterns::matches(pattern, name).ok()
}

/// A name for a terminal, as text and as it is written.
#[must_use]
pub fn printable(name: &[u8]) -> (String, Vec<u8>) {
    let mut out = Vec::new();
    let _ = Printable(name).write_to(&mut out);
    (Printable(name).to_string(), out)
}

/// A line of JSON with that `name`.
#[must_use]
pub fn json_text(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let line = Line::new(&mut out, "fuzz").and_then(|mut line| {
        line.text("name", name)?;
        line.end()
    });
    // Writing to a vector does not fail.
    let _ = line;
    out
}

/// Whether the entries of a configuration, in whatever form, are the same after
/// they were written and read again. Nothing for what is no configuration.
#[must_use]
pub fn configuration(text: &str, from_rclone: bool) -> Option<bool> {
    import::comes_back(text, from_rclone)
}

/// `@NAME:SUB` in the place of a name: the name, and the location of an entry
/// with that below it.
#[must_use]
pub fn place(location: &OsStr, text: &OsStr) -> (OsString, OsString) {
    let (name, sub) = places::split(text);
    (name.to_owned(), places::below(location, sub))
}
