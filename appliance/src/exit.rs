//! Exit statuses. Those that stock plakar has are stock's; see `tiroir help`.

use std::process::ExitCode;

/// How a run ended, as scripts see it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Status {
    /// All that was asked was done.
    Done = 0,
    /// It failed, in a way that has no status of its own.
    Failed = 1,
    /// It was done, but some files could not be read or restored: they are
    /// named on standard error, and in the snapshot.
    Incomplete = 3,
    /// The command line is not understood.
    Usage = 64,
    /// The store, or a snapshot in it, is damaged.
    Integrity = 65,
    /// There is no store where one was said to be.
    NoStore = 66,
    /// The place that something was to be written to is not there: a disk that
    /// is not mounted, for instance.
    NoTarget = 69,
    /// Another run has locked the store.
    Locked = 75,
    /// The passphrase or key does not open the store.
    Authentication = 77,
    /// The store is of a version, or uses an algorithm, that is not known here.
    Incompatible = 78,
    /// It was interrupted by a signal.
    Interrupted = 130,
}

impl Status {
    /// Every status, with what the manual says of it.
    pub(crate) const ALL: [(Self, &'static str); 11] = [
        (Self::Done, "done"),
        (Self::Failed, "failed"),
        (Self::Incomplete, "done, but some files could not be read or restored"),
        (Self::Usage, "the command line is not understood"),
        (Self::Integrity, "the store is damaged"),
        (Self::NoStore, "there is no store"),
        (Self::NoTarget, "the place to write to is not there"),
        (Self::Locked, "the store is locked by another run"),
        (Self::Authentication, "the passphrase or key does not open the store"),
        (Self::Incompatible, "the store is of a version or sort that is not known here"),
        (Self::Interrupted, "interrupted"),
    ];

    /// The number of the status.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    /// The worse of two, where several things were asked for: anything but
    /// [`Done`](Self::Done), and of two failures the first.
    #[must_use]
    pub(crate) fn and(self, other: Self) -> Self {
        if self == Self::Done { other } else { self }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_differ() {
        for (index, (status, text)) in Status::ALL.iter().enumerate() {
            assert!(!text.is_empty());
            assert!(Status::ALL[..index].iter().all(|(other, _)| other.code() < status.code()));
        }
        assert_eq!(Status::Done.and(Status::Integrity), Status::Integrity);
        assert_eq!(Status::Incomplete.and(Status::Done), Status::Incomplete);
    }
}
