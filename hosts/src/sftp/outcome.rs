//! [`Outcome`]: what became of an attempt, and what a status means.

use tiroir_core::host::HostErrorKind;

use super::connection::Fault;
use super::wire::status;
use crate::error::HostsError;

/// What became of an attempt.
pub(super) enum Outcome {
    /// It failed for good.
    Failed(HostsError),
    /// The link broke.
    Again(HostsError),
}

impl Outcome {
    /// What a fault means for what was done.
    pub(super) fn of(shown: &str, operation: &'static str, path: &[u8], fault: Fault) -> Self {
        let shown = [shown.as_bytes(), path].concat();
        match fault {
            Fault::Caller(error) => Self::Failed(*error),
            Fault::Stopped => Self::Failed(HostsError::rule(
                HostErrorKind::Other,
                operation,
                &shown,
                "it was told to stop",
            )),
            Fault::Lost(words) => {
                Self::Again(HostsError::remote(HostErrorKind::Other, operation, &shown, words))
            }
            Fault::Refused { code, words } => {
                let (kind, usual) = meaning(code);
                let words = if words.is_empty() { usual } else { &*words };
                let words = if code == status::FAILURE && words.eq_ignore_ascii_case("failure") {
                    "the server says no more than \"failure\""
                } else {
                    words
                };
                Self::Failed(HostsError::remote(kind, operation, &shown, words))
            }
        }
    }
}

/// Kind of a status, and words where the server has none.
fn meaning(code: u32) -> (HostErrorKind, &'static str) {
    match code {
        status::NO_SUCH_FILE => (HostErrorKind::NotFound, "No such file"),
        status::PERMISSION_DENIED | status::WRITE_PROTECT => {
            (HostErrorKind::PermissionDenied, "Permission denied")
        }
        status::FILE_ALREADY_EXISTS => (HostErrorKind::AlreadyExists, "File exists"),
        status::NO_SPACE | status::QUOTA_EXCEEDED => (HostErrorKind::NoSpace, "No space left"),
        status::OP_UNSUPPORTED => (HostErrorKind::Other, "the server cannot do that"),
        status::EOF => (HostErrorKind::Other, "End of file"),
        _ => (HostErrorKind::Other, "failure"),
    }
}

/// Whether a status says that something cannot be done here, or by us.
pub(super) fn is_unable(code: u32) -> bool {
    matches!(
        code,
        status::OP_UNSUPPORTED
            | status::PERMISSION_DENIED
            | status::FAILURE
            | status::WRITE_PROTECT
    )
}
