//! Errors of the engine.
//!
//! Two types, by who can act: [`FormatError`] is about bytes and needs no IO;
//! [`Error`] is what operations on a store return: it names the resource, and
//! keeps the error of what was lent to the engine whole.
//!
//! Messages are lower case, without a full stop, and carry the values at
//! hand; a cause is reached through `source()` and not repeated in the text.

use core::error::Error as StdError;
use core::fmt;

use crate::mac::Mac;
use crate::resource::{ResourceKind, Version};

/// Bytes, or memory lent to decode them, that cannot be used.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FormatError {
    /// The bytes end before the record does.
    Truncated,
    /// The magic number at the start is not the one of the format.
    Magic,
    /// The envelope holds another kind of resource than its place says.
    Kind {
        /// Kind found.
        found: u32,
    },
    /// The version is newer than what this program reads.
    Version(Version),
    /// The trailing MAC, or the MAC that is the name, is not that of the bytes.
    Mac,
    /// A sealed piece does not open: damaged bytes, or the wrong key.
    Seal,
    /// A compressed unit does not decompress.
    Compression,
    /// A field has a value that it may not have; the text names it.
    Field(&'static str),
    /// A length or a count is over the bound that is read; the text names it.
    Bound(&'static str),
    /// The scratch lent by the caller is too small for the record.
    Scratch {
        /// Least length that would do, in bytes.
        needed_bytes: usize,
        /// Length lent, in bytes.
        lent_bytes: usize,
    },
    /// The store uses an algorithm that this program does not have; the text
    /// says of which sort.
    Unsupported(&'static str),
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("ends too early"),
            Self::Magic => f.write_str("does not start as a resource of a store does"),
            Self::Kind { found } => write!(f, "holds a resource of another kind ({found})"),
            Self::Version(version) => write!(f, "has version {version}, newer than is read here"),
            Self::Mac => f.write_str("is damaged: its content does not match its MAC"),
            Self::Seal => f.write_str("does not decrypt: damaged, or sealed with another key"),
            Self::Compression => f.write_str("does not decompress"),
            Self::Field(name) => write!(f, "has a wrong {name}"),
            Self::Bound(name) => write!(f, "has a {name} over the bound"),
            Self::Scratch { needed_bytes, lent_bytes } => {
                write!(f, "needs {needed_bytes} bytes of memory, {lent_bytes} are lent")
            }
            Self::Unsupported(what) => write!(f, "uses a {what} that is not known here"),
        }
    }
}

impl StdError for FormatError {}

/// What an error is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Subject {
    /// The parameters of the store.
    Config,
    /// The state of that name.
    State(Mac),
    /// The packfile of that name.
    Packfile(Mac),
    /// The lock of that name.
    Lock(Mac),
    /// The blob of that kind and key.
    Blob(ResourceKind, Mac),
    /// The frame of a ptar: its magic and its table of offsets.
    Ptar,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config => f.write_str("CONFIG"),
            Self::State(name) => write!(f, "state {name}"),
            Self::Packfile(name) => write!(f, "packfile {name}"),
            Self::Lock(name) => write!(f, "lock {name}"),
            Self::Blob(kind, mac) => write!(f, "{kind} {mac}"),
            Self::Ptar => f.write_str("archive"),
        }
    }
}

/// An operation that failed. `E` is the error of what is lent to the engine:
/// connectors, spools, index.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Error<E> {
    /// A connector, a spool or the index failed.
    Host(E),
    /// The store holds bytes that do not follow the format.
    Damaged {
        /// Which.
        subject: Subject,
        /// How.
        cause: FormatError,
    },
    /// The store refers to something that it does not hold.
    Missing(Subject),
    /// The key does not open the store.
    WrongKey,
    /// An exclusive lock is held by another client.
    Locked(Mac),
    /// There is no such path in the snapshot.
    NoSuchPath,
    /// The memory that was lent is too small for the work.
    Memory {
        /// For what.
        what: &'static str,
        /// Least number of bytes that would do.
        needed_bytes: u64,
        /// Bytes lent.
        lent_bytes: u64,
    },
    /// The work was told to stop.
    Cancelled,
}

impl<E> Error<E> {
    /// Damage in `subject`.
    pub fn damaged(subject: Subject) -> impl Fn(FormatError) -> Self {
        move |cause| Self::Damaged { subject, cause }
    }
}

impl<E> From<E> for Error<E> {
    fn from(error: E) -> Self {
        Self::Host(error)
    }
}

impl<E> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(_) => f.write_str("input or output failed"),
            Self::Damaged { subject, cause } => write!(f, "{subject} {cause}"),
            Self::Missing(subject) => write!(f, "{subject} is missing from the store"),
            Self::WrongKey => f.write_str("the passphrase does not open the store"),
            Self::Locked(name) => write!(f, "the store is locked by another client ({name})"),
            Self::NoSuchPath => f.write_str("no such path in the snapshot"),
            Self::Memory { what, needed_bytes, lent_bytes } => {
                write!(f, "{what} needs {needed_bytes} bytes of memory, {lent_bytes} are lent")
            }
            Self::Cancelled => f.write_str("interrupted"),
        }
    }
}

impl<E: StdError + 'static> StdError for Error<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Host(error) => Some(error),
            _ => None,
        }
    }
}
