//! [`StoreService`]: a store behind HTTP, in the protocol of stock's
//! `plakar server`; see [`super::store`] for what that is.
//!
//! The server has no key and needs none: it hands out bytes and takes them in.
//! Unless it was told otherwise nothing that was written through it can be changed
//! or removed through it, but for locks, which hold nothing. Content goes through a
//! buffer of [`PIECE_BYTES`] into an upload of the store below, and nobody sees any
//! of it before all is there.

mod range;
mod route;
mod rules;

use std::fmt;
use std::ops::ControlFlow;

use tiroir_core::host::{HostError as _, HostErrorKind};
use tiroir_core::limits::CONFIG_BYTES_MAX;
use tiroir_core::mac::Mac;
use tiroir_core::store::{Store, StoreResource};

use super::server::{Broken, Exchange, Handler, TEXT};
use crate::error::{HostsError, Result};
use range::{Part, Range};
use route::Route;
use rules::Turn;
pub use rules::{Rules, Token};

/// Bytes that a worker holds of what it reads or writes.
pub const PIECE_BYTES: usize = 64 * 1024;

/// Longest packfile or state that is taken, in bytes.
pub const UPLOAD_BYTES_MAX: u64 = 1 << 40;

/// Longest lock that is taken, in bytes.
pub const LOCK_UPLOAD_BYTES_MAX: usize = 16 * 1024;

const BYTES: (&str, &str) = ("Content-Type", "application/octet-stream");
const RANGES: (&str, &str) = ("Accept-Ranges", "bytes");
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// Answers requests about a store.
///
/// Takes [`PIECE_BYTES`] and what the store takes.
pub struct StoreService<'r, S, F> {
    rules: &'r Rules,
    /// Makes a connection to the store.
    open: F,
    /// It is made anew after an error that has no name.
    store: Option<S>,
    piece: Vec<u8>,
}

impl<S, F> fmt::Debug for StoreService<'_, S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreService").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// Why a request about a store was not done.
enum Failure {
    /// Nobody is there any more.
    Broken(Broken),
    /// The store failed.
    Store(HostsError),
    /// A status, and words for the client.
    Refused(u16, &'static str),
}

impl From<Broken> for Failure {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<HostsError> for Failure {
    fn from(error: HostsError) -> Self {
        Self::Store(error)
    }
}

type Done = std::result::Result<(), Failure>;

/// The store, opened if it is not.
fn opened<'s, S>(store: &'s mut Option<S>, open: &impl Fn() -> Result<S>) -> Result<&'s mut S> {
    match store {
        Some(store) => Ok(store),
        none => Ok(none.insert(open()?)),
    }
}

impl<'r, S, F> StoreService<'r, S, F>
where
    S: Store<Error = HostsError>,
    F: Fn() -> Result<S>,
{
    /// For the store that `open` connects to, by these rules.
    pub fn new(rules: &'r Rules, open: F) -> Self {
        Self { rules, open, store: None, piece: vec![0; PIECE_BYTES] }
    }

    fn dispatch(&mut self, exchange: &mut Exchange<'_>) -> Done {
        let request = exchange.request();
        if !self.rules.admit(request) {
            self.rules.note_refusal(exchange);
            let headers = [TEXT[0], ("WWW-Authenticate", "Bearer")];
            let words = b"a token is required: option auth_token of the store\n";
            return Ok(exchange.answer(401, &headers, words)?);
        }
        // No page that somebody looks at has business here.
        if request.header("origin").is_some() || request.header("sec-fetch-site").is_some() {
            return Err(Failure::Refused(403, "this is a store, and not for web pages"));
        }
        let Some(route) = Route::parse(request.target()) else {
            return Err(Failure::Refused(404, "there is no such place"));
        };
        match (request.method(), route) {
            ("GET" | "HEAD", Route::Config) => self.config(exchange),
            ("GET" | "HEAD", Route::List(resource)) => self.list(exchange, resource),
            ("GET" | "HEAD", Route::Named(StoreResource::Lock, name)) => self.lock(exchange, &name),
            ("GET" | "HEAD", Route::Named(resource, name)) => self.get(exchange, resource, &name),
            ("PUT", Route::Named(StoreResource::Lock, name)) => self.put_lock(exchange, &name),
            ("PUT", Route::Named(resource, name)) => self.put(exchange, resource, &name),
            ("DELETE", Route::Named(resource, name)) => self.delete(exchange, resource, &name),
            (_, Route::Named(..)) => not_allowed(exchange, "GET, HEAD, PUT, DELETE"),
            (_, Route::Config | Route::List(_)) => not_allowed(exchange, "GET, HEAD"),
        }
    }

    fn config(&mut self, exchange: &mut Exchange<'_>) -> Done {
        let store = opened(&mut self.store, &self.open)?;
        let into = &mut self.piece[..CONFIG_BYTES_MAX];
        let length = store.read_config(into)?;
        let config = into.get(..length).ok_or(Failure::Refused(500, "CONFIG is too long"))?;
        // Says that ranges are HTTP's, too: see `range`.
        Ok(exchange.answer(200, &[BYTES, RANGES], config)?)
    }

    /// Streams the names: no list is ever held.
    fn list(&mut self, exchange: &mut Exchange<'_>, resource: StoreResource) -> Done {
        let store = opened(&mut self.store, &self.open)?;
        let mut text = vec![b'['];
        let (mut is_begun, mut sent) = (false, Ok(()));
        let listed = store.list(resource, &mut |name| {
            if text.last() == Some(&b'"') || is_begun {
                text.push(b',');
            }
            text.extend_from_slice(format!("\"{name}\"").as_bytes());
            if text.len() < LIST_BYTES {
                return ControlFlow::Continue(());
            }
            sent = begin_list(exchange, &mut is_begun).and_then(|()| exchange.write(&text));
            text.clear();
            if sent.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        sent?;
        match listed {
            // A list without its end is none: the client sees that.
            Err(error) if is_begun => {
                self.note(&error);
                return Ok(());
            }
            other => other?,
        }
        text.extend_from_slice(b"]\n");
        if !is_begun {
            return Ok(exchange.answer(200, &[JSON], &text)?);
        }
        exchange.write(&text)?;
        Ok(exchange.end()?)
    }

    /// Locks change under their names: they are read before they are announced.
    fn lock(&mut self, exchange: &mut Exchange<'_>, name: &Mac) -> Done {
        let store = opened(&mut self.store, &self.open)?;
        let length = store.get(StoreResource::Lock, name, 0, &mut self.piece)?;
        if length == self.piece.len() {
            return Err(Failure::Refused(500, "the lock is too long"));
        }
        Ok(exchange.answer(200, &[BYTES], &self.piece[..length])?)
    }

    fn get(&mut self, exchange: &mut Exchange<'_>, resource: StoreResource, name: &Mac) -> Done {
        let store = opened(&mut self.store, &self.open)?;
        let range = Range::of(exchange.request(), resource == StoreResource::Packfile)
            .map_err(|rule| Failure::Refused(400, rule))?;
        // Most of what stock asks for: one request of the store below will do.
        if let Range::Stock { offset, length } = range
            && let Ok(length) = usize::try_from(length)
            && length <= self.piece.len()
            && !exchange.request().method().eq("HEAD")
        {
            let read = store.get(resource, name, offset, &mut self.piece[..length])?;
            return Ok(exchange.answer(200, &[BYTES], &self.piece[..read])?);
        }
        let Some(size) = store.size(resource, name)? else {
            return Err(Failure::Refused(404, NOT_FOUND));
        };
        let Some(Part { offset, length, is_partial }) = range.within(size) else {
            let whole = format!("bytes */{size}");
            let headers = [TEXT[0], ("Content-Range", whole.as_str())];
            return Ok(exchange.answer(416, &headers, b"it is shorter\n")?);
        };
        if is_partial {
            let last = offset + length - 1;
            let part = format!("bytes {offset}-{last}/{size}");
            exchange.begin(206, &[BYTES, ("Content-Range", &part)], Some(length))?;
        } else {
            exchange.begin(200, &[BYTES, RANGES], Some(length))?;
        }
        if exchange.request().method() == "HEAD" {
            return Ok(exchange.end()?);
        }
        let mut done = 0;
        while done < length {
            let wanted = usize::try_from(length - done).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            let read = store.get(resource, name, offset + done, &mut self.piece[..wanted]);
            match read {
                // It was announced longer: the client sees that it broke off.
                Ok(0) => return Ok(()),
                Ok(read) => {
                    exchange.write(&self.piece[..read])?;
                    done += read as u64;
                }
                Err(error) => {
                    self.note(&error);
                    return Ok(());
                }
            }
        }
        Ok(exchange.end()?)
    }

    fn put_lock(&mut self, exchange: &mut Exchange<'_>, name: &Mac) -> Done {
        let mut filled = 0;
        loop {
            match exchange.read(&mut self.piece[filled..])? {
                0 => break,
                read => filled += read,
            }
            if filled > LOCK_UPLOAD_BYTES_MAX {
                return Err(Failure::Refused(413, "it is too long for a lock"));
            }
        }
        let store = opened(&mut self.store, &self.open)?;
        let upload = store.begin(StoreResource::Lock)?;
        let written = store.write(upload, &self.piece[..filled]);
        if written.is_err() {
            store.abort(upload);
        }
        written?;
        store.commit(upload, name)?;
        Ok(exchange.answer(200, &[], &[])?)
    }

    fn put(&mut self, exchange: &mut Exchange<'_>, resource: StoreResource, name: &Mac) -> Done {
        if exchange.content_bytes().is_some_and(|bytes| bytes > UPLOAD_BYTES_MAX) {
            return Err(Failure::Refused(413, TOO_LONG));
        }
        let store = opened(&mut self.store, &self.open)?;
        if !self.rules.allows_delete() && store.size(resource, name)?.is_some() {
            return compare(store, exchange, &mut self.piece, (resource, name));
        }
        let upload = store.begin(resource)?;
        let mut length = 0;
        let taken: Done = loop {
            match exchange.read(&mut self.piece) {
                Ok(0) => break Ok(()),
                Ok(read) => {
                    length += read as u64;
                    if length > UPLOAD_BYTES_MAX {
                        break Err(Failure::Refused(413, TOO_LONG));
                    }
                    if let Err(error) = store.write(upload, &self.piece[..read]) {
                        break Err(error.into());
                    }
                }
                Err(broken) => break Err(broken.into()),
            }
        };
        if taken.is_err() {
            store.abort(upload);
            return taken;
        }
        let Some(_turn) = Turn::take(self.rules, (resource, *name)) else {
            store.abort(upload);
            return again(exchange);
        };
        if !self.rules.allows_delete() {
            let is_there = store.size(resource, name);
            if !matches!(is_there, Ok(None)) {
                store.abort(upload);
                is_there?;
                // Somebody was faster. The next attempt compares.
                return again(exchange);
            }
        }
        store.commit(upload, name)?;
        Ok(exchange.answer(200, &[], &[])?)
    }

    fn delete(&mut self, exchange: &mut Exchange<'_>, resource: StoreResource, name: &Mac) -> Done {
        if !self.rules.allows_delete() && resource != StoreResource::Lock {
            return Err(Failure::Refused(403, "not allowed to delete"));
        }
        opened(&mut self.store, &self.open)?.delete(resource, name)?;
        Ok(exchange.answer(200, &[], &[])?)
    }

    /// Tells whoever runs the server what its clients are told in general terms.
    fn note(&mut self, error: &HostsError) {
        let cause = std::error::Error::source(error);
        let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
        self.rules.note(&format!("{error}{cause}"));
        if matches!(error.kind(), HostErrorKind::Medium | HostErrorKind::Other) {
            self.store = None;
        }
    }
}

/// Bytes of a list that are sent at once.
const LIST_BYTES: usize = 8 * 1024;

const NOT_FOUND: &str = "not found: there is nothing of that name";
const TOO_LONG: &str = "it is too long for a store";

fn begin_list(exchange: &mut Exchange<'_>, is_begun: &mut bool) -> std::result::Result<(), Broken> {
    if std::mem::replace(is_begun, true) { Ok(()) } else { exchange.begin(200, &[JSON], None) }
}

fn not_allowed(exchange: &mut Exchange<'_>, methods: &str) -> Done {
    let headers = [TEXT[0], ("Allow", methods)];
    Ok(exchange.answer(405, &headers, b"there is no such method here\n")?)
}

/// Asks a client to come back when somebody else is done with the same name.
fn again(exchange: &mut Exchange<'_>) -> Done {
    let headers = [TEXT[0], ("Retry-After", "1")];
    Ok(exchange.answer(503, &headers, b"somebody else is writing the same: try again\n")?)
}

/// A client that did not hear of its success sends the same again: that is well.
/// Anything else is not taken in the place of what is there.
fn compare<S: Store<Error = HostsError>>(
    store: &mut S,
    exchange: &mut Exchange<'_>,
    piece: &mut [u8],
    (resource, name): (StoreResource, &Mac),
) -> Done {
    const OTHER: Failure = Failure::Refused(409, "there is another of that name: it is kept");
    let (sent, held) = piece.split_at_mut(piece.len() / 2);
    let mut at = 0;
    loop {
        let count = exchange.read(sent)?;
        // At the end, one byte more must not be there.
        let wanted = count.max(1);
        let read = store.get(resource, name, at, &mut held[..wanted])?;
        if read != count || held[..read] != sent[..count] {
            return Err(OTHER);
        }
        if count == 0 {
            return Ok(exchange.answer(200, &[], &[])?);
        }
        at += count as u64;
    }
}

impl<S, F> Handler for StoreService<'_, S, F>
where
    S: Store<Error = HostsError>,
    F: Fn() -> Result<S>,
{
    fn handle(&mut self, exchange: &mut Exchange<'_>) -> std::result::Result<(), Broken> {
        let (status, words) = match self.dispatch(exchange) {
            Ok(()) => return Ok(()),
            Err(Failure::Broken(broken)) => return Err(broken),
            Err(Failure::Refused(status, words)) => (status, words),
            Err(Failure::Store(error)) => match error.kind() {
                HostErrorKind::NotFound => (404, NOT_FOUND),
                kind => {
                    self.note(&error);
                    match kind {
                        HostErrorKind::NoSpace => (507, "no space left on the server"),
                        HostErrorKind::PermissionDenied => {
                            (403, "the server may not do that to its store")
                        }
                        _ => (500, "the store failed: the server's messages say why"),
                    }
                }
            },
        };
        exchange.answer(status, &TEXT, format!("{words}\n").as_bytes())
    }
}

/// Looks at what a request asks for: for tests.
#[cfg(any(test, fuzzing))]
pub(crate) fn examine(request: &super::server::Request) {
    match Route::parse(request.target()) {
        None => {}
        Some(Route::Config) => assert_eq!(request.target(), "/"),
        Some(Route::List(_)) => assert!(request.target().len() <= "/resources/packfiles".len()),
        Some(Route::Named(_, name)) => {
            let (_, text) = request.target().rsplit_once('/').unwrap_or_default();
            assert_eq!(text, name.to_string());
        }
    }
    for size in [0, 1, 10, u64::MAX] {
        for is_packfile in [false, true] {
            let Ok(range) = Range::of(request, is_packfile) else { continue };
            let Some(part) = range.within(size) else { continue };
            assert!(part.length <= size && part.length <= size.saturating_sub(part.offset));
            assert!(part.length > 0 || !part.is_partial);
        }
    }
}

#[cfg(test)]
mod tests;
