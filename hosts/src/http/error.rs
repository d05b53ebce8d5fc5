//! [`HttpError`]: why a request has no answer.

use std::io;

use tiroir_core::host::HostErrorKind;

use crate::error::{HostsError, without_number};

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) enum HttpError {
    /// No connection was made.
    Unreachable(String),
    /// TLS was not agreed on: asking again gives the same.
    Distrusted(String),
    /// The connection ended, or broke.
    Lost(String),
    /// The server did not go on within its time.
    TimedOut(&'static str),
    /// The answer is none of HTTP, or beyond a bound.
    Malformed(&'static str),
    /// What is to be sent cannot be read here.
    Local(HostsError),
}

impl HttpError {
    /// Of a stream that was connected; `doing` says what for.
    pub(crate) fn of(error: &io::Error, doing: &'static str) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::TimedOut(doing),
            io::ErrorKind::UnexpectedEof => Self::Lost("the server ended the connection".into()),
            _ => Self::Lost(format!("the connection broke ({})", without_number(error))),
        }
    }

    /// Whether it may be better the next time.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Lost(_) | Self::TimedOut(_))
    }

    /// Whether the server was gone before it said anything.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(_))
    }

    /// As an error of this crate.
    pub(crate) fn at(self, operation: &'static str, path: &[u8]) -> HostsError {
        let remote = |words: &dyn std::fmt::Display| {
            HostsError::remote(HostErrorKind::Other, operation, path, words)
        };
        match self {
            Self::Unreachable(words) | Self::Distrusted(words) | Self::Lost(words) => {
                remote(&words)
            }
            Self::TimedOut(doing) => remote(&format_args!(
                "time-out while {doing}; the option `timeout` is how long to wait"
            )),
            Self::Malformed(rule) => remote(&format_args!("the answer is not understood: {rule}")),
            Self::Local(error) => error,
        }
    }
}
