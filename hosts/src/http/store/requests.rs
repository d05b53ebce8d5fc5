//! One request, until it succeeds, is refused, or was made often enough.

use std::fmt;

use tiroir_core::host::HostErrorKind;
use zeroize::Zeroizing;

use super::HttpStore;
use crate::error::{HostsError, Result};
use crate::http::client::{Payload, Request};
use crate::http::error::HttpError;
use crate::http::response::Response;
use crate::http::retry::asked_pause;

/// Words of a refusal that are read, in bytes.
const WORDS_BYTES_MAX: usize = 512;

/// What a request is for, in errors.
#[derive(Clone, Copy)]
pub(super) struct Purpose<'p> {
    pub(super) operation: &'static str,
    pub(super) target: &'p str,
}

impl HttpStore {
    /// Makes a request until it succeeds, is refused, or was made often enough.
    pub(super) fn call(
        &mut self,
        purpose: Purpose<'_>,
        method: &'static str,
        range: Option<String>,
        payload: &Payload<'_>,
    ) -> Result<Response> {
        let mut headers = self.headers.clone();
        if let Some(range) = range {
            headers.push(("Range".to_owned(), Zeroizing::new(range)));
            if !self.has_ranges {
                // Stock's clients say so in each request, and are known by it.
                let json = "application/json".to_owned();
                headers.push(("Content-Type".to_owned(), Zeroizing::new(json)));
            }
        }
        let mut attempts = self.client.attempts();
        loop {
            let payload = payload.clone();
            let request = Request { method, target: purpose.target, headers: &headers, payload };
            let response = match self.client.send(&request) {
                Ok(response) => response,
                Err(error) if error.is_transient() && attempts.again(None) => continue,
                Err(error) => return Err(self.broken(error, purpose)),
            };
            match response.status() {
                200 | 206 | 416 => return Ok(response),
                // Not 500: that is all that this server has.
                429 | 502 | 503 | 504 => {
                    let pause = asked_pause(response.head().header("retry-after"));
                    if attempts.again(pause) {
                        continue;
                    }
                }
                _ => {}
            }
            return Err(self.refused(response, purpose));
        }
    }

    pub(super) fn broken(&self, error: HttpError, purpose: Purpose<'_>) -> HostsError {
        error.at(purpose.operation, self.shown(purpose.target).as_bytes())
    }

    fn refused(&mut self, mut response: Response, purpose: Purpose<'_>) -> HostsError {
        let status = response.status();
        let words = response.read_start(WORDS_BYTES_MAX).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).into_owned();
        let elsewhere = response.head().header("location").unwrap_or_default().to_owned();
        self.client.finish(response);
        let shown = self.shown(purpose.target);
        let remote = |kind, words: &dyn fmt::Display| {
            HostsError::remote(kind, purpose.operation, shown.as_bytes(), words)
        };
        match status {
            300..=399 => remote(
                HostErrorKind::Other,
                &format_args!(
                    "the server is elsewhere ({elsewhere}). Nothing is sent there: give that location"
                ),
            ),
            _ => {
                remote(kind_of(status, &words), &format_args!("{} (status {status})", words.trim()))
            }
        }
    }
}

/// What the words of a server mean that has one status for everything.
fn kind_of(status: u16, words: &str) -> HostErrorKind {
    const ABSENT: [&str; 4] = ["no such file", "not found", "does not exist", "no rows in result"];
    match status {
        401 | 403 => HostErrorKind::PermissionDenied,
        404 => HostErrorKind::NotFound,
        409 => HostErrorKind::AlreadyExists,
        507 => HostErrorKind::NoSpace,
        500 if ABSENT.iter().any(|text| words.contains(text)) => HostErrorKind::NotFound,
        500 if words.contains("no space left") || words.contains("quota") => HostErrorKind::NoSpace,
        500 if words.contains("permission denied") => HostErrorKind::PermissionDenied,
        _ => HostErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_server() {
        let absent = "open /srv/states/00/00: no such file or directory\n";
        assert_eq!(kind_of(500, absent), HostErrorKind::NotFound);
        assert_eq!(kind_of(500, "packfile not found"), HostErrorKind::NotFound);
        assert_eq!(kind_of(500, "write: no space left on device"), HostErrorKind::NoSpace);
        assert_eq!(kind_of(403, "not allowed to delete"), HostErrorKind::PermissionDenied);
        assert_eq!(kind_of(500, "?"), HostErrorKind::Other);
    }
}
