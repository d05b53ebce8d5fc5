//! [`HostsError`]: what every connector, spool and index of this crate returns.
//!
//! One type for all of them, because an engine is lent all of them at once and
//! names one error. Messages say what was done to which path; why it failed is
//! reached through `source()` and not repeated in the text.

use std::error::Error;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use tiroir_core::host::{HostError, HostErrorKind};

/// `Result` with the error of this crate.
pub type Result<T, E = HostsError> = std::result::Result<T, E>;

/// Why it failed.
#[derive(Debug)]
enum Cause {
    /// The operating system said so.
    Io(System),
    /// SQLite said so. Boxed: it is much larger than the others.
    Database(Box<rusqlite::Error>),
    /// A rule of this crate, spelled out.
    Rule(HostErrorKind, &'static str),
    /// A server, or a library that speaks to it, said so.
    Remote(HostErrorKind, Box<str>),
    /// Somebody else said so: `path` holds the whole message.
    Recorded,
}

/// Longest text of a server that is shown, in bytes.
const REMOTE_TEXT_BYTES_MAX: usize = 300;

/// An error of the operating system, without the number that Rust puts behind
/// its text: it is recorded in snapshots and shown to people.
#[derive(Debug)]
struct System(io::Error);

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_number(&self.0))
    }
}

impl Error for System {}

/// The words of the operating system, without the number behind them.
pub(crate) fn without_number(error: &io::Error) -> String {
    let mut text = error.to_string();
    if let Some(end) = text.find(" (os error ") {
        text.truncate(end);
    }
    text
}

/// An operation on something outside of the process that failed.
#[derive(Debug)]
pub struct HostsError {
    /// A verb with its object, to be read after "cannot": `read directory`.
    operation: &'static str,
    /// What it was done to. Empty if nothing has a name.
    path: Vec<u8>,
    cause: Cause,
}

impl HostsError {
    /// The operating system refused `operation` on `path`.
    #[must_use]
    pub fn io(operation: &'static str, path: impl AsRef<Path>, cause: io::Error) -> Self {
        Self::io_bytes(operation, path.as_ref().as_os_str().as_bytes(), cause)
    }

    /// The same, for a path as connectors are given it.
    #[must_use]
    pub fn io_bytes(operation: &'static str, path: &[u8], cause: io::Error) -> Self {
        Self { operation, path: path.to_vec(), cause: Cause::Io(System(cause)) }
    }

    /// SQLite refused `operation` on the database at `path`.
    #[must_use]
    pub fn database(
        operation: &'static str,
        path: impl AsRef<Path>,
        cause: rusqlite::Error,
    ) -> Self {
        let path = path.as_ref().as_os_str().as_bytes().to_vec();
        Self { operation, path, cause: Cause::Database(Box::new(cause)) }
    }

    /// `operation` on `path` is against a rule of this crate, which `rule` tells.
    #[must_use]
    pub fn rule(
        kind: HostErrorKind,
        operation: &'static str,
        path: &[u8],
        rule: &'static str,
    ) -> Self {
        Self { operation, path: path.to_vec(), cause: Cause::Rule(kind, rule) }
    }

    /// A server refused `operation` on `path`, in its own words: of these a few
    /// hundred bytes are kept, without control characters. The words must hold
    /// no secret.
    #[must_use]
    pub fn remote(
        kind: HostErrorKind,
        operation: &'static str,
        path: &[u8],
        words: impl fmt::Display,
    ) -> Self {
        let mut text = String::new();
        for letter in words.to_string().trim().chars() {
            if text.len() >= REMOTE_TEXT_BYTES_MAX {
                text.push('…');
                break;
            }
            text.push(if letter.is_control() { ' ' } else { letter });
        }
        Self { operation, path: path.to_vec(), cause: Cause::Remote(kind, text.into()) }
    }

    /// An error that happened elsewhere, and of which the message is known.
    #[must_use]
    pub fn recorded(message: Vec<u8>) -> Self {
        Self { operation: "", path: message, cause: Cause::Recorded }
    }

    /// The error of the operating system behind this one, if there is one.
    #[must_use]
    pub fn io_error(&self) -> Option<&io::Error> {
        match &self.cause {
            Cause::Io(System(error)) => Some(error),
            _ => None,
        }
    }

    /// Whether a server, or a library that speaks to it, said so.
    #[must_use]
    pub fn is_of_server(&self) -> bool {
        matches!(self.cause, Cause::Remote(..))
    }

    /// Whether a database is at fault itself, not the system under it. Where
    /// that is the [index](crate::index), its file is gone by now, and opening
    /// the index again starts a new one.
    #[must_use]
    pub fn is_damaged_database(&self) -> bool {
        match &self.cause {
            Cause::Database(error) => is_damage(error),
            _ => false,
        }
    }
}

/// Whether SQLite, or a row that it returned, shows that the file is damaged.
fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi;
    match error {
        // Beside the two codes for it, damage shows in a schema that does not
        // parse (ERROR), a file that ends too early, and values that no
        // statement of ours would have written.
        rusqlite::Error::SqliteFailure(failure, _) => {
            matches!(
                failure.extended_code,
                ffi::SQLITE_ERROR | ffi::SQLITE_IOERR_SHORT_READ | ffi::SQLITE_TOOBIG
            ) || matches!(
                failure.extended_code & 0xff,
                ffi::SQLITE_CORRUPT
                    | ffi::SQLITE_NOTADB
                    | ffi::SQLITE_MISMATCH
                    | ffi::SQLITE_CONSTRAINT
            )
        }
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::QueryReturnedNoRows => true,
        _ => false,
    }
}

/// Kind of an error of the operating system.
fn io_kind(error: &io::Error) -> HostErrorKind {
    match error.kind() {
        io::ErrorKind::NotFound => HostErrorKind::NotFound,
        io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => {
            HostErrorKind::AlreadyExists
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            HostErrorKind::PermissionDenied
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => HostErrorKind::NoSpace,
        _ if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
            HostErrorKind::Medium
        }
        _ => HostErrorKind::Other,
    }
}

/// Kind of an error of SQLite.
fn database_kind(error: &rusqlite::Error) -> HostErrorKind {
    use rusqlite::{ErrorCode, ffi};
    // Memory that is shared through a file is made by making the file longer.
    if let rusqlite::Error::SqliteFailure(failure, _) = error
        && failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE
    {
        return HostErrorKind::NoSpace;
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => HostErrorKind::NoSpace,
        Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => HostErrorKind::PermissionDenied,
        Some(ErrorCode::CannotOpen) => HostErrorKind::NotFound,
        _ => HostErrorKind::Other,
    }
}

impl HostError for HostsError {
    fn kind(&self) -> HostErrorKind {
        match &self.cause {
            Cause::Io(System(error)) => io_kind(error),
            Cause::Database(error) => database_kind(error),
            Cause::Rule(kind, _) | Cause::Remote(kind, _) => *kind,
            Cause::Recorded => HostErrorKind::Other,
        }
    }
}

impl fmt::Display for HostsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if matches!(self.cause, Cause::Recorded) {
            return write!(f, "{}", OsStr::from_bytes(&self.path).display());
        }
        write!(f, "cannot {}", self.operation)?;
        if !self.path.is_empty() {
            write!(f, " {}", OsStr::from_bytes(&self.path).display())?;
        }
        match &self.cause {
            Cause::Rule(_, rule) => write!(f, ": {rule}"),
            Cause::Remote(_, words) => write!(f, ": {words}"),
            _ => Ok(()),
        }
    }
}

impl Error for HostsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            Cause::Io(error) => Some(error),
            Cause::Database(error) => Some(&**error),
            Cause::Rule(..) | Cause::Remote(..) | Cause::Recorded => None,
        }
    }
}

/// Adds to an error of the operating system what was done to which path.
pub(crate) trait Context<T> {
    /// With a path of the operating system.
    fn at(self, operation: &'static str, path: impl AsRef<Path>) -> Result<T>;
    /// With a path as connectors are given it.
    fn at_bytes(self, operation: &'static str, path: &[u8]) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn at(self, operation: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|error| HostsError::io(operation, path, error.into()))
    }

    fn at_bytes(self, operation: &'static str, path: &[u8]) -> Result<T> {
        self.map_err(|error| HostsError::io_bytes(operation, path, error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_kinds() {
        let full = HostsError::io("write", "/mnt/disk/tmp.1", io::Error::from_raw_os_error(28));
        assert_eq!(full.to_string(), "cannot write /mnt/disk/tmp.1");
        assert_eq!(full.kind(), HostErrorKind::NoSpace);
        assert_eq!(full.source().unwrap().to_string(), "No space left on device");

        let absent = HostsError::io("open", "/nowhere", io::ErrorKind::NotFound.into());
        assert_eq!(absent.kind(), HostErrorKind::NotFound);

        let refused =
            HostsError::rule(HostErrorKind::PermissionDenied, "write", b"a.ptar", "it is closed");
        assert_eq!(refused.to_string(), "cannot write a.ptar: it is closed");
        assert!(refused.source().is_none());
        let said = HostsError::remote(HostErrorKind::Other, "list", b"/a", "No\r\nway \u{1b}[2J");
        assert_eq!(said.to_string(), "cannot list /a: No  way  [2J");
        let long = HostsError::remote(HostErrorKind::Other, "list", b"", "x".repeat(10_000));
        assert!(long.to_string().len() < 400);
        assert!(!refused.is_damaged_database());
    }

    #[test]
    fn small_enough_to_return() {
        assert!(size_of::<HostsError>() <= 96);
    }
}
