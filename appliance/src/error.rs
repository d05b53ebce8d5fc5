//! [`Failure`]: why a command did not do what was asked, in two parts: what
//! failed where, and what to do about it.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use tiroir_core::error::{Error, FormatError, Subject};
use tiroir_core::host::{HostError as _, HostErrorKind};
use tiroir_hosts::error::HostsError;

use crate::exit::Status;
use crate::text::printable::Printable;
use crate::text::size::Size;

/// `Result` with [`Failure`].
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// The engine's error, with the error of what this program lends it.
pub(crate) type EngineError = Error<HostsError>;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    status: Status,
    /// What failed, where; lower case, without a full stop.
    what: String,
    /// What to do about it: whole sentences, or empty.
    advice: String,
    cause: Option<Box<dyn StdError>>,
    /// A blob was not where it should be, or nowhere.
    doubts_index: bool,
}

impl Failure {
    /// A failure with that status.
    pub(crate) fn new(status: Status, what: impl Into<String>) -> Self {
        Self { status, what: what.into(), advice: String::new(), cause: None, doubts_index: false }
    }

    /// A command line that is not understood.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new(Status::Usage, what)
    }

    /// An operation of the system that failed: `what` is a verb with its
    /// object, to be read after "cannot".
    pub(crate) fn io(what: impl fmt::Display, cause: io::Error) -> Self {
        Self::new(Status::Failed, format!("cannot {what}")).with_cause(cause)
    }

    /// With what to do about it.
    #[must_use]
    pub(crate) fn with_advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    /// With another status.
    #[must_use]
    pub(crate) fn with_status(mut self, status: Status) -> Self {
        self.status = status;
        self
    }

    /// With what was being done: `context` stands before what failed.
    #[must_use]
    pub(crate) fn while_doing(mut self, context: impl fmt::Display) -> Self {
        self.what = format!("{context}: {}", self.what);
        self
    }

    fn with_cause(mut self, cause: impl StdError + 'static) -> Self {
        self.cause = Some(Box::new(cause));
        self
    }

    /// The status that it ends the program with.
    pub(crate) fn status(&self) -> Status {
        self.status
    }

    /// Whether the index may be at fault, and should be made anew.
    pub(crate) fn doubts_index(&self) -> bool {
        self.doubts_index
    }

    /// Whether it is that nobody reads our output any more, as after
    /// `tiroir ls | head`: no failure of ours, and nobody is there to be told.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        let io = self.cause.as_ref().and_then(|cause| cause.downcast_ref::<io::Error>());
        self.what == OUTPUT && io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// What fails when standard output does.
const OUTPUT: &str = "cannot write to standard output";

impl Failure {
    /// What failed, and why: one line, however long.
    pub(crate) fn what(&self) -> String {
        let mut text = self.what.clone();
        let mut cause = self.cause.as_deref().map(|cause| cause as &dyn StdError);
        while let Some(error) = cause {
            add_cause(&mut text, error);
            cause = error.source();
        }
        text
    }

    /// What to do about it; may be empty.
    pub(crate) fn advice(&self) -> &str {
        &self.advice
    }

    /// With what an interruption leaves, if it is one.
    #[must_use]
    pub(crate) fn if_interrupted(self, advice: &str) -> Self {
        if self.status == Status::Interrupted { self.with_advice(advice) } else { self }
    }
}

/// Two lines: what failed, and what to do about it. Both may quote what was
/// typed or found, which must not move the cursor or add lines of its own.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Printable(self.what().as_bytes()))?;
        if self.advice.is_empty() {
            return Ok(());
        }
        write!(f, "\n{}", Printable(self.advice.as_bytes()))
    }
}

/// Adds a cause to a text, unless that ends with it: SQLite's say it twice.
fn add_cause(text: &mut String, cause: &dyn StdError) {
    let cause = plain(cause);
    let last = text.rsplit(": ").next().unwrap_or_default();
    if !cause.ends_with(last) {
        text.push_str(": ");
        text.push_str(&cause);
    }
}

/// The text of an error, without the number that Rust adds to the system's.
fn plain(error: &dyn StdError) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) if text.ends_with(')') => text[..end].to_owned(),
        _ => text,
    }
}

impl StdError for Failure {}

/// An error and its causes, on one line.
pub(crate) fn whole_text(error: &EngineError) -> String {
    // The engine's own text says nothing where something lent to it failed.
    match error {
        Error::Host(error) => with_causes(error),
        error => with_causes(error),
    }
}

/// The same, for any error.
pub(crate) fn with_causes(mut error: &dyn StdError) -> String {
    let mut text = plain(error);
    while let Some(cause) = error.source() {
        add_cause(&mut text, cause);
        error = cause;
    }
    text
}

/// Errors of what is written to standard output. Everything else that does
/// input and output says itself what it did.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(Status::Failed, OUTPUT).with_cause(error)
    }
}

impl From<HostsError> for Failure {
    fn from(error: HostsError) -> Self {
        let advice = host_advice(&error);
        let what = with_causes(&error);
        let elsewhere = if advice.is_empty() { "" } else { elsewhere(&what) };
        Self::new(Status::Failed, what).with_advice(format!("{advice}{elsewhere}"))
    }
}

/// What to do about an error of what is lent to the engine; may be empty.
fn host_advice(error: &HostsError) -> &'static str {
    if error.is_damaged_database() {
        return "The index of the store was damaged and is gone now; the next run makes it anew.";
    }
    match (error.kind(), error.io_error().map(io::Error::kind)) {
        (HostErrorKind::NoSpace, _) => "Make room there.",
        (_, Some(io::ErrorKind::ReadOnlyFilesystem)) => {
            "It is mounted read-only: mount it so that it can be written."
        }
        (HostErrorKind::PermissionDenied, _) if error.is_of_server() => "",
        (HostErrorKind::PermissionDenied, _) => "Run as a user who may, or change the rights.",
        (_, Some(io::ErrorKind::FileTooLarge)) => {
            "A file cannot get so large there: FAT ends at 4 GiB, and a limit may have been set. \
             Use another file system, or a store, which has many files, in place of an archive."
        }
        _ => "",
    }
}

/// What else to do where it happened in a place that can be chosen: `what` is
/// the text of the error.
fn elsewhere(what: &str) -> &'static str {
    // As they are called by the spool and the index.
    if what.contains("spool") || what.contains("tiroir-index-") {
        " Another place for temporary files is given with --spool DIR."
    } else if what.contains("/index.sqlite") || what.contains("/run-") {
        " Another place for indexes is given with --cache-dir DIR."
    } else {
        ""
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let what = error.to_string();
        match error {
            Error::Host(error) => error.into(),
            Error::Damaged { subject, cause } => damaged(what, subject, cause),
            Error::Missing(_) => Self {
                doubts_index: true,
                ..Self::new(Status::Integrity, what)
                    .with_advice("Run `tiroir check` to learn what else is affected.")
            },
            Error::WrongKey => Self::new(Status::Authentication, what)
                .with_advice("Check the passphrase, and that this is the store you mean."),
            Error::Locked(_) => Self::new(Status::Locked, what).with_advice(
                "Wait until it is done. A lock that its owner left behind is void after 10 minutes.",
            ),
            Error::Memory { what, needed_bytes, lent_bytes } => {
                let (needed, lent) = (Size(needed_bytes), Size(lent_bytes));
                let text = format!("{what} needs {needed} of memory, and there are {lent}");
                Self::new(Status::Failed, text).with_advice("Give it more with --memory BYTES.")
            }
            Error::Cancelled => Self::new(Status::Interrupted, what),
            Error::NoSuchPath => Self::new(Status::Failed, what),
            _ => Self::new(Status::Failed, what),
        }
    }
}

/// Bytes of the store that do not follow the format as we know it.
fn damaged(what: String, subject: Subject, cause: FormatError) -> Failure {
    match cause {
        FormatError::Version(_) | FormatError::Unsupported(_) => {
            Failure::new(Status::Incompatible, what).with_advice(
                "The store was written by a newer program, or with a feature that is not here: \
                 use a newer tiroir.",
            )
        }
        FormatError::Scratch { needed_bytes, lent_bytes } => {
            let (needed, lent) = (Size(needed_bytes as u64), Size(lent_bytes as u64));
            let text = format!("{subject} needs {needed} of memory, and there are {lent}");
            Failure::new(Status::Failed, text).with_advice("Give it more with --memory BYTES.")
        }
        _ => {
            let advice = match subject {
                Subject::Config => {
                    "Nothing can be read without it: put back a copy of CONFIG if you have one."
                }
                Subject::Ptar => "The archive is damaged or was cut short: use another copy of it.",
                _ => "Run `tiroir check` to learn what else is affected.",
            };
            Failure::new(Status::Integrity, what).with_advice(advice)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiroir_core::mac::Mac;
    use tiroir_core::resource::Version;

    #[test]
    fn engine_errors_get_their_status() {
        let damaged = |cause| EngineError::Damaged { subject: Subject::Config, cause };
        for (error, status) in [
            (damaged(FormatError::Mac), Status::Integrity),
            (damaged(FormatError::Version(Version(0x0002_0000))), Status::Incompatible),
            (damaged(FormatError::Unsupported("cipher")), Status::Incompatible),
            (Error::Missing(Subject::State(Mac::ZERO)), Status::Integrity),
            (Error::WrongKey, Status::Authentication),
            (Error::Locked(Mac::ZERO), Status::Locked),
            (Error::NoSuchPath, Status::Failed),
            (Error::Cancelled, Status::Interrupted),
        ] {
            let failure = Failure::from(error);
            assert_eq!(failure.status(), status, "{failure}");
            assert!(!failure.to_string().is_empty());
        }
    }

    #[test]
    fn messages_have_two_parts() {
        let full = io::Error::from_raw_os_error(28);
        let failure = Failure::from(HostsError::io("write", "/mnt/disk/tmp.1", full));
        assert_eq!(
            failure.to_string(),
            "cannot write /mnt/disk/tmp.1: No space left on device\n\
             Make room there."
        );
        for (operation, path, option) in [
            ("write a spool in", "/tmp", "--spool DIR."),
            ("make database", "/tmp/tiroir-index-01", "--spool DIR."),
            ("write", "/c/00/index.sqlite", "--cache-dir DIR."),
        ] {
            let full = io::Error::from_raw_os_error(28);
            let told = Failure::from(HostsError::io(operation, path, full)).to_string();
            assert!(told.ends_with(option), "{told}");
        }
        let read_only = io::Error::from_raw_os_error(30);
        let told = Failure::from(HostsError::io("create", "/mnt/x", read_only)).to_string();
        assert!(told.contains("mounted read-only"), "{told}");
        let failure = Failure::usage("what").while_doing("where");
        assert_eq!(
            (failure.to_string().as_str(), failure.status()),
            ("where: what", Status::Usage)
        );
    }

    #[test]
    fn nothing_that_is_quoted_reaches_the_terminal() {
        let failure = Failure::usage("no \u{1b}[2J\nsuch").with_advice("ad\rvice");
        assert_eq!(failure.to_string(), "no ?[2J?such\nad?vice");
    }

    #[test]
    fn a_broken_pipe_is_told_apart() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(Failure::from(broken()).is_broken_pipe());
        assert!(!Failure::io("read /dev/tty", broken()).is_broken_pipe());
        assert!(!Failure::from(io::Error::from(io::ErrorKind::StorageFull)).is_broken_pipe());
    }
}
