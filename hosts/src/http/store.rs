//! [`HttpStore`]: a store behind stock's `plakar server`.
//!
//! Its protocol, as of 1.1: `GET /` is CONFIG, and makes the server open its
//! store; `/resources/KIND` is a list of names in JSON, and
//! `/resources/KIND/NAME` a resource, which `GET`, `PUT` and `DELETE` are for.
//! Parts of packfiles are asked for with `Range: bytes=FROM-TO`, where `TO` is
//! behind the last byte (HTTP means the last byte itself), and come with status
//! 200. States and locks come whole. Whatever goes wrong is a status 500 with
//! the words of the server's system, from which one has to read what it was.
//!
//! Our own [server](super::store_server) does ranges as HTTP has them too, and says
//! so with CONFIG: they are asked for then, and lengths by `HEAD`.

use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;

use tiroir_core::host::{HostError as _, HostErrorKind};
use tiroir_core::mac::{MAC_BYTES, Mac};
use tiroir_core::store::{Layout, Store, StoreResource, UploadId};
use zeroize::Zeroizing;

use super::Endpoint;
use super::client::{Client, Payload, Request};
use super::error::HttpError;
use super::head::start_of_range;
use super::response::Response;
use super::retry::{Attempts, asked_pause};
use crate::address::Address;
use crate::error::{HostsError, Result};
use crate::options::Options;
use crate::rate::Limits;
use crate::staging::Staged;

/// Options that are read here and in [`crate::tls`]. The first two are stock's.
pub const OPTIONS: [&str; 6] = [
    "auth_token",
    "tls_no_verify",
    "timeout",
    "tls_ca",
    "tls_fingerprint",
    "tls_insecure_no_verify",
];

/// Bytes of a packfile asked for at once when one reads on and on, at most. The
/// server holds as many in its memory.
const WINDOW_BYTES_MAX: u64 = 1 << 20;

/// Words of a refusal that are read, in bytes.
const WORDS_BYTES_MAX: usize = 512;

/// Longest state or lock that is fetched, in bytes.
const WHOLE_BYTES_MAX: u64 = 4 << 30;

/// Longest packfile, in bytes.
const PACKFILE_BYTES_MAX: u64 = 1 << 40;

/// A resource being written.
#[derive(Debug)]
struct Upload {
    id: UploadId,
    resource: StoreResource,
    staged: Staged,
}

/// A part of a packfile being read.
#[derive(Debug)]
struct Open {
    name: Mac,
    /// Where the next byte of the answer belongs.
    at: u64,
    /// Where what was asked for ends.
    end: u64,
    response: Response,
}

/// Store behind `plakar server`.
///
/// Takes what [`Staged`] takes for each upload under way and for the state that
/// is read, 64 KiB while one is sent, and up to three connections of 16 KiB
/// each, with TLS some 100 KiB.
pub struct HttpStore {
    client: Client,
    /// Path on the server, without a slash at its end.
    path: String,
    headers: Vec<(String, Zeroizing<String>)>,
    spool_directory: PathBuf,
    uploads: Vec<Upload>,
    next_upload: u32,
    open: Option<Open>,
    /// A state or lock that was fetched.
    whole: Option<(StoreResource, Mac, Staged)>,
    /// Where the last read ended, and how much is asked for at once.
    read_on: Option<(Mac, u64)>,
    window_bytes: u64,
    /// The server was made to open its store.
    is_opened: bool,
    /// The server has said that it does ranges as HTTP has them.
    has_ranges: bool,
}

/// What a request is for, in errors.
#[derive(Clone, Copy)]
struct Purpose<'p> {
    operation: &'static str,
    target: &'p str,
}

impl HttpStore {
    /// The store that an address and [`OPTIONS`] name, with TLS for `https`.
    /// Uploads wait in `spool_directory`. Nothing is asked of the server yet.
    ///
    /// # Errors
    ///
    /// Options that are not understood.
    pub fn open(
        address: &Address,
        is_tls: bool,
        options: &Options,
        spool_directory: impl Into<PathBuf>,
    ) -> Result<Self> {
        let mut options = options.clone();
        if options.flag("tls_no_verify")? {
            options.set("tls_insecure_no_verify", "true");
        }
        let endpoint = Endpoint { is_tls, host: address.host.clone(), port: address.port };
        let mut headers = Vec::new();
        if let Some(token) = options.text("auth_token") {
            let value = Zeroizing::new(format!("Bearer {token}"));
            headers.push(("Authorization".to_owned(), value));
        }
        let path = address.path.strip_suffix(b"/").unwrap_or(&address.path);
        Ok(Self {
            client: Client::new(endpoint, &options)?,
            path: escaped(path),
            headers,
            spool_directory: spool_directory.into(),
            uploads: Vec::new(),
            next_upload: 0,
            open: None,
            whole: None,
            read_on: None,
            window_bytes: 0,
            is_opened: false,
            has_ranges: false,
        })
    }

    /// With limits of how fast bytes move.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.client.set_limits(limits);
        self
    }

    /// Where the store lies, to be shown.
    #[must_use]
    pub fn location(&self) -> String {
        self.shown(&self.path)
    }

    fn shown(&self, target: &str) -> String {
        let scheme = if self.client.endpoint().is_tls { "https" } else { "http" };
        format!("{scheme}://{}{target}", self.client.endpoint().authority())
    }

    fn target(&self, resource: StoreResource, name: Option<&Mac>) -> String {
        let kind = match resource {
            StoreResource::Packfile => "packfiles",
            StoreResource::State => "states",
            StoreResource::Lock => "locks",
        };
        match name {
            Some(name) => format!("{}/resources/{kind}/{name}", self.path),
            None => format!("{}/resources/{kind}", self.path),
        }
    }

    /// Makes a request until it succeeds, is refused, or was made often enough.
    fn call(
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
        let mut attempts = Attempts::new();
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

    fn broken(&self, error: HttpError, purpose: Purpose<'_>) -> HostsError {
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

    /// Makes the server open its store: before that it finds no packfile.
    fn wake(&mut self) -> Result<()> {
        if !self.is_opened {
            let target = format!("{}/", self.path);
            let purpose = Purpose { operation: "open the store at", target: &target };
            let response = self.call(purpose, "GET", None, &Payload::None)?;
            self.learn(&response);
            self.client.finish(response);
        }
        Ok(())
    }

    /// What an answer with CONFIG tells of the server.
    fn learn(&mut self, response: &Response) {
        self.is_opened = true;
        self.has_ranges = response.head().header("accept-ranges") == Some("bytes");
    }

    fn take_upload(&mut self, id: UploadId) -> Result<Upload> {
        match self.uploads.iter().position(|upload| upload.id == id) {
            Some(index) => Ok(self.uploads.swap_remove(index)),
            None => Err(self.unknown_upload()),
        }
    }

    fn unknown_upload(&self) -> HostsError {
        let rule = "there is no such upload";
        HostsError::rule(HostErrorKind::Other, "write to", self.location().as_bytes(), rule)
    }

    /// Ends what is being read.
    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.client.finish(open.response);
        }
    }

    /// Forgets a resource that is no longer what it was.
    fn forget(&mut self, resource: StoreResource, name: &Mac) {
        if resource == StoreResource::Packfile
            && self.open.as_ref().is_some_and(|open| open.name == *name)
        {
            self.close();
        }
        if self.whole.as_ref().is_some_and(|held| (held.0, held.1) == (resource, *name)) {
            self.whole = None;
        }
    }

    /// Fetches a state or a lock.
    fn fetch(&mut self, resource: StoreResource, name: &Mac) -> Result<()> {
        self.whole = None;
        let target = self.target(resource, Some(name));
        let purpose = Purpose { operation: "read", target: &target };
        let (mut staged, mut attempts) = (Staged::new(&self.spool_directory), Attempts::new());
        let mut piece = vec![0; 16 * 1024];
        'again: loop {
            let mut response = self.call(purpose, "GET", None, &Payload::None)?;
            staged.clear();
            loop {
                match response.read(&mut piece) {
                    Ok(0) => break,
                    Ok(read) => staged.write(&piece[..read])?,
                    Err(error) if error.is_transient() && attempts.again(None) => continue 'again,
                    Err(error) => return Err(self.broken(error, purpose)),
                }
                if staged.len() > WHOLE_BYTES_MAX {
                    return Err(self.broken(HttpError::Malformed("it is too long"), purpose));
                }
            }
            self.client.finish(response);
            self.whole = Some((resource, *name, staged));
            return Ok(());
        }
    }

    /// Asks for a part of a packfile.
    fn ask(&mut self, name: &Mac, at: u64, count: u64) -> Result<Open> {
        self.wake()?;
        let target = self.target(StoreResource::Packfile, Some(name));
        let purpose = Purpose { operation: "read", target: &target };
        let end = at.saturating_add(count.clamp(1, WINDOW_BYTES_MAX));
        let last = if self.has_ranges { end - 1 } else { end };
        let range = format!("bytes={at}-{last}");
        let response = self.call(purpose, "GET", Some(range), &Payload::None)?;
        let is_it = match response.status() {
            206 => {
                let part = response.head().header("content-range").and_then(start_of_range);
                self.has_ranges && part == Some(at)
            }
            // Behind the end.
            416 => self.has_ranges,
            _ => !self.has_ranges,
        };
        if !is_it {
            let error = HttpError::Malformed("it is not the part that was asked for");
            return Err(self.broken(error, purpose));
        }
        Ok(Open { name: *name, at, end, response })
    }

    /// Reads a part of a packfile.
    fn get_packfile(&mut self, name: &Mac, offset_bytes: u64, into: &mut [u8]) -> Result<usize> {
        let reads_on = self.read_on == Some((*name, offset_bytes));
        self.window_bytes = match reads_on {
            true => (self.window_bytes * 4).max(4 * into.len() as u64).min(WINDOW_BYTES_MAX),
            false => 0,
        };
        let (mut filled, mut attempts) = (0, Attempts::new());
        while filled < into.len() {
            let at = offset_bytes.saturating_add(filled as u64);
            if at >= PACKFILE_BYTES_MAX {
                break;
            }
            match self.read_packfile(name, at, &mut into[filled..])? {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) => {
                    self.open = None;
                    if !error.is_transient() || !attempts.again(None) {
                        let target = self.target(StoreResource::Packfile, Some(name));
                        return Err(
                            self.broken(error, Purpose { operation: "read", target: &target })
                        );
                    }
                }
            }
        }
        self.read_on = Some((*name, offset_bytes.saturating_add(filled as u64)));
        Ok(filled)
    }

    /// Reads what comes next at `at`; 0 at the end of the packfile. The inner
    /// error is of the connection.
    fn read_packfile(
        &mut self,
        name: &Mac,
        at: u64,
        into: &mut [u8],
    ) -> Result<std::result::Result<usize, HttpError>> {
        let is_there = |open: &Open| open.name == *name && open.at == at && open.at < open.end;
        if !self.open.as_ref().is_some_and(is_there) {
            self.close();
            let count = self.window_bytes.max(into.len() as u64);
            self.open = Some(self.ask(name, at, count)?);
        }
        let Some(open) = &mut self.open else { return Ok(Ok(0)) };
        if open.response.status() == 416 {
            return Ok(Ok(0));
        }
        let left = usize::try_from(open.end - open.at).unwrap_or(usize::MAX);
        let count = left.min(into.len());
        let read = open.response.read(&mut into[..count]);
        if let Ok(read) = read {
            open.at += read as u64;
        }
        Ok(read)
    }

    /// Length of a resource, by `HEAD`, which stock's server does not understand.
    fn told_size(&mut self, resource: StoreResource, name: &Mac) -> Result<u64> {
        let target = self.target(resource, Some(name));
        let purpose = Purpose { operation: "inspect", target: &target };
        let response = self.call(purpose, "HEAD", None, &Payload::None)?;
        let length = response.head().declared_length();
        let length =
            length.and_then(|length| length.ok_or(HttpError::Malformed("it tells no length")));
        self.client.finish(response);
        length.map_err(|error| self.broken(error, purpose))
    }

    /// Length of a packfile of stock's server. It does not tell it: it is found by
    /// asking for bytes here and there, some forty times for one of 20 MiB.
    fn packfile_size(&mut self, name: &Mac) -> Result<u64> {
        let mut one = [0];
        // A byte is at `low` - 1, and none at `high`.
        let (mut low, mut high) = (0, 1);
        while self.get_packfile(name, high, &mut one)? == 1 {
            low = high + 1;
            high = (high * 2).max(64 * 1024);
            if high >= PACKFILE_BYTES_MAX {
                let target = self.target(StoreResource::Packfile, Some(name));
                let purpose = Purpose { operation: "inspect", target: &target };
                return Err(self.broken(HttpError::Malformed("it never ends"), purpose));
            }
        }
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get_packfile(name, middle, &mut one)? {
                0 => high = middle,
                _ => low = middle + 1,
            }
        }
        Ok(low)
    }
}

impl fmt::Debug for HttpStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers hold the token.
        f.debug_struct("HttpStore").field("path", &self.path).finish_non_exhaustive()
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

/// Escapes what cannot stand in the path of a request.
fn escaped(path: &[u8]) -> String {
    use std::fmt::Write as _;
    path.iter().fold(String::new(), |mut text, &byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

/// Reads a list of names in JSON, byte by byte.
#[derive(Debug, Default)]
pub(crate) struct NameList {
    state: ListState,
    digits: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum ListState {
    /// Before the bracket.
    #[default]
    Start,
    /// Behind the bracket: a name, or the end.
    First,
    /// Behind a comma.
    Next,
    /// In a name.
    Name,
    /// Behind a name.
    Behind,
    /// Behind the end.
    End,
}

impl NameList {
    /// Takes in a byte, and returns the name that it ends.
    fn push(&mut self, byte: u8) -> std::result::Result<Option<Mac>, HttpError> {
        use ListState::{Behind, End, First, Name, Next, Start};
        let wrong = || HttpError::Malformed("it is no list of names");
        self.state = match (self.state, byte) {
            (Name, b'"') => {
                let name = Mac::from_hex(&self.digits).ok_or_else(wrong)?;
                self.state = Behind;
                return Ok(Some(name));
            }
            (Name, _) if self.digits.len() < 2 * MAC_BYTES => {
                self.digits.push(byte);
                Name
            }
            (state, b' ' | b'\t' | b'\r' | b'\n') if state != Name => state,
            (Start, b'[') => First,
            (First | Next, b'"') => {
                self.digits.clear();
                Name
            }
            (Behind, b',') => Next,
            (First | Behind, b']') => End,
            _ => return Err(wrong()),
        };
        Ok(None)
    }

    /// Reads a whole list: for tests.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn parse(bytes: &[u8]) -> Option<usize> {
        let (mut list, mut count) = (Self::default(), 0);
        for &byte in bytes {
            count += usize::from(list.push(byte).ok()?.is_some());
        }
        (list.state == ListState::End).then_some(count)
    }
}

impl Store for HttpStore {
    type Error = HostsError;

    fn layout(&self) -> Layout {
        Layout::Directory
    }

    fn read_config(&mut self, into: &mut [u8]) -> Result<usize> {
        let target = format!("{}/", self.path);
        let purpose = Purpose { operation: "open the store at", target: &target };
        let mut response = self.call(purpose, "GET", None, &Payload::None)?;
        let length = response.left_bytes().and_then(|length| usize::try_from(length).ok());
        let filled = response.read_full(into).map_err(|error| self.broken(error, purpose))?;
        // Without a length, one more byte tells whether that was all.
        let more = length.is_none() && !matches!(response.read(&mut [0]), Ok(0));
        self.learn(&response);
        self.client.finish(response);
        Ok(length.unwrap_or(filled).max(filled + usize::from(more)))
    }

    fn create(&mut self, _bytes: &[u8]) -> Result<()> {
        let rule = "a server serves a store that is there: create it on the server's machine";
        Err(HostsError::rule(
            HostErrorKind::Other,
            "create a store at",
            self.location().as_bytes(),
            rule,
        ))
    }

    fn begin(&mut self, resource: StoreResource) -> Result<UploadId> {
        let id = UploadId(self.next_upload);
        self.next_upload = self.next_upload.wrapping_add(1);
        let staged = Staged::new(&self.spool_directory);
        self.uploads.push(Upload { id, resource, staged });
        Ok(id)
    }

    fn write(&mut self, upload: UploadId, bytes: &[u8]) -> Result<()> {
        match self.uploads.iter_mut().find(|held| held.id == upload) {
            Some(held) => held.staged.write(bytes),
            None => Err(self.unknown_upload()),
        }
    }

    fn commit(&mut self, upload: UploadId, name: &Mac) -> Result<()> {
        let upload = self.take_upload(upload)?;
        self.forget(upload.resource, name);
        self.wake()?;
        let target = self.target(upload.resource, Some(name));
        let purpose = Purpose { operation: "write", target: &target };
        let payload = Payload::Staged(&upload.staged, 0..upload.staged.len());
        let response = self.call(purpose, "PUT", None, &payload)?;
        self.client.finish(response);
        Ok(())
    }

    fn abort(&mut self, upload: UploadId) {
        // Nothing of it is on the server.
        let _ = self.take_upload(upload);
    }

    fn size(&mut self, resource: StoreResource, name: &Mac) -> Result<Option<u64>> {
        self.wake()?;
        let size = match resource {
            StoreResource::Packfile | StoreResource::State if self.has_ranges => {
                self.told_size(resource, name)
            }
            StoreResource::Packfile => self.packfile_size(name),
            StoreResource::State | StoreResource::Lock => self
                .fetch(resource, name)
                .map(|()| self.whole.as_ref().map_or(0, |(_, _, staged)| staged.len())),
        };
        match size {
            Ok(size) => Ok(Some(size)),
            Err(error) if error.kind() == HostErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn get(
        &mut self,
        resource: StoreResource,
        name: &Mac,
        offset_bytes: u64,
        into: &mut [u8],
    ) -> Result<usize> {
        if resource == StoreResource::Packfile {
            return self.get_packfile(name, offset_bytes, into);
        }
        self.wake()?;
        let is_held = self.whole.as_ref().is_some_and(|held| (held.0, held.1) == (resource, *name));
        // Locks change under their names.
        if !is_held || resource == StoreResource::Lock && offset_bytes == 0 {
            self.fetch(resource, name)?;
        }
        match &self.whole {
            Some((_, _, staged)) => staged.read_at(offset_bytes, into),
            None => Ok(0),
        }
    }

    fn list(
        &mut self,
        resource: StoreResource,
        each: &mut dyn FnMut(Mac) -> ControlFlow<()>,
    ) -> Result<()> {
        self.wake()?;
        let target = self.target(resource, None);
        let purpose = Purpose { operation: "list", target: &target };
        let mut response = self.call(purpose, "GET", None, &Payload::None)?;
        let (mut list, mut piece) = (NameList::default(), vec![0; 8 * 1024]);
        loop {
            let read = response.read(&mut piece).map_err(|error| self.broken(error, purpose))?;
            if read == 0 {
                break;
            }
            for &byte in &piece[..read] {
                match list.push(byte).map_err(|error| self.broken(error, purpose))? {
                    Some(name) if each(name).is_break() => return Ok(()),
                    _ => {}
                }
            }
        }
        self.client.finish(response);
        if list.state != ListState::End {
            return Err(self.broken(HttpError::Malformed("a list of names has no end"), purpose));
        }
        Ok(())
    }

    fn delete(&mut self, resource: StoreResource, name: &Mac) -> Result<()> {
        self.forget(resource, name);
        self.wake()?;
        let target = self.target(resource, Some(name));
        let purpose = Purpose { operation: "remove", target: &target };
        match self.call(purpose, "DELETE", None, &Payload::None) {
            Ok(response) => {
                self.client.finish(response);
                Ok(())
            }
            Err(error) if error.kind() == HostErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_not_shown() {
        let address = Address::parse(b"nas:9876/a b/").unwrap();
        let options = [("auth_token", "hunter2")].into_iter().collect();
        let store = HttpStore::open(&address, false, &options, "/tmp").unwrap();
        assert!(!format!("{store:?}").contains("hunter2"));
        assert_eq!(store.location(), "http://nas:9876/a%20b");
    }

    #[test]
    fn hostile_servers_of_stores() {
        use crate::http::scripted::{Answer, Scripted, Step};
        let open = |server: &Scripted| {
            let address = Address::parse(format!("127.0.0.1:{}", server.port).as_bytes()).unwrap();
            let options = [("timeout", "1"), ("auth_token", "hunter2")].into_iter().collect();
            HttpStore::open(&address, false, &options, std::env::temp_dir()).unwrap()
        };
        let list = |server: &Scripted| {
            open(server).list(StoreResource::State, &mut |_| ControlFlow::Continue(()))
        };
        for content in ["null", "[\"..\"]", "[", "<html>", ""] {
            let server = Scripted::new(move |_, _| Answer::whole(200, "", content));
            assert!(list(&server).is_err(), "{content}");
        }
        let server = Scripted::new(|_, _| {
            let head = b"HTTP/1.1 200 OK\r\n\r\n[".to_vec();
            Answer::of(vec![Step::Send(head), Step::Endless(b" x".to_vec())])
        });
        assert!(list(&server).is_err());
        // A packfile that has a byte everywhere.
        let server = Scripted::new(|_, _| Answer::whole(200, "", "x"));
        assert!(open(&server).size(StoreResource::Packfile, &Mac::ZERO).is_err());
        let other = Scripted::new(|_, _| Answer::whole(200, "", "x"));
        let location = format!("Location: http://127.0.0.1:{}/\r\n", other.port);
        let server = Scripted::new(move |_, _| Answer::whole(307, &location, ""));
        let error = open(&server).read_config(&mut [0; 10]).unwrap_err().to_string();
        assert!(error.contains("Nothing is sent") && !error.contains("hunter2"), "{error}");
        assert!(other.heads().is_empty());
        let head = &server.heads()[0];
        assert!(head.contains("Authorization: Bearer hunter2\r\n"), "{head}");
    }

    #[test]
    fn lists_of_names() {
        let name = format!("\"{}\"", "ab".repeat(32));
        assert_eq!(NameList::parse(b"[]\n"), Some(0));
        assert_eq!(NameList::parse(format!("[{name}, {name}]").as_bytes()), Some(2));
        let long = format!("[\"{}\"]", "ab".repeat(33));
        for text in [
            "",
            "[",
            "null",
            "[,]",
            "[\"ab\"]",
            "[]x",
            &long,
            &format!("[{name}{name}]"),
            &format!("[{name},]"),
        ] {
            assert_eq!(NameList::parse(text.as_bytes()), None, "{text}");
        }
    }

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
