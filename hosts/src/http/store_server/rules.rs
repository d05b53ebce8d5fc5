//! [`Rules`]: what clients may do.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tiroir_core::mac::Mac;
use tiroir_core::store::StoreResource;

use super::super::server::{Exchange, Request};

/// Least time between two notes about clients that were refused.
const NOTE_TIME: Duration = Duration::from_secs(60);

/// What a client has to show, as a hash: nothing else of it is kept.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// That of these letters.
    #[must_use]
    pub fn new(text: &[u8]) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// Whether the header `Authorization` shows it. How long that takes does not
    /// depend on how much of it is right.
    fn is_shown_by(&self, header: Option<&str>) -> bool {
        let Some((scheme, text)) = header.and_then(|header| header.split_once(' ')) else {
            return false;
        };
        let shown = Self::new(text.trim().as_bytes());
        scheme.eq_ignore_ascii_case("bearer") && bool::from(shown.0.ct_eq(&self.0))
    }
}

/// What clients may do, and what all workers share.
pub struct Rules {
    token: Option<Token>,
    allow_delete: bool,
    /// What is getting its name now.
    committing: Mutex<Vec<(StoreResource, Mac)>>,
    /// When a refusal was noted, and how many there were since.
    refusals: Mutex<(Option<Instant>, u64)>,
    note: Box<dyn Fn(&str) + Send + Sync>,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("allow_delete", &self.allow_delete).finish_non_exhaustive()
    }
}

impl Rules {
    /// Everybody may read and add.
    #[must_use]
    pub fn new() -> Self {
        Self {
            token: None,
            allow_delete: false,
            committing: Mutex::default(),
            refusals: Mutex::default(),
            note: Box::new(|_| {}),
        }
    }

    /// Only those who show the token.
    #[must_use]
    pub fn with_token(self, token: Token) -> Self {
        Self { token: Some(token), ..self }
    }

    /// They may remove and replace, too.
    #[must_use]
    pub fn with_delete(self, allow_delete: bool) -> Self {
        Self { allow_delete, ..self }
    }

    /// With a receiver of what happens that somebody should know of.
    #[must_use]
    pub fn with_notes(self, note: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { note: Box::new(note), ..self }
    }

    /// Whether a client has shown what it has to.
    pub(super) fn admit(&self, request: &Request) -> bool {
        let shown = request.header("authorization");
        self.token.as_ref().is_none_or(|token| token.is_shown_by(shown))
    }

    pub(super) fn allows_delete(&self) -> bool {
        self.allow_delete
    }

    /// Tells somebody.
    pub(super) fn note(&self, text: &str) {
        (self.note)(text);
    }

    /// Notes a client without the token, if none was noted just before.
    pub(super) fn note_refusal(&self, exchange: &Exchange<'_>) {
        let mut refusals = lock(&self.refusals);
        refusals.1 += 1;
        if refusals.0.is_some_and(|noted| noted.elapsed() < NOTE_TIME) {
            return;
        }
        let from = exchange.peer().map_or_else(|| "?".to_owned(), |peer| peer.ip().to_string());
        let count = std::mem::take(&mut refusals.1);
        refusals.0 = Some(Instant::now());
        drop(refusals);
        let times =
            if count > 1 { format!("; {count} in all since the last") } else { String::new() };
        (self.note)(&format!("refused a client without the token, from {from}{times}"));
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::new()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The right to give something its name: nobody else gives it at the same time.
pub(super) struct Turn<'r> {
    rules: &'r Rules,
    what: (StoreResource, Mac),
}

impl<'r> Turn<'r> {
    pub(super) fn take(rules: &'r Rules, what: (StoreResource, Mac)) -> Option<Self> {
        let mut committing = lock(&rules.committing);
        if committing.contains(&what) {
            return None;
        }
        committing.push(what);
        Some(Self { rules, what })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(&self.rules.committing).retain(|other| *other != self.what);
    }
}
