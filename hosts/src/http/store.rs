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
use tiroir_core::mac::Mac;
use tiroir_core::store::{Layout, Store, StoreResource, UploadId};
use zeroize::Zeroizing;

use self::names::NameList;
use self::requests::Purpose;
use super::Endpoint;
use super::client::{Client, Payload};
use super::error::HttpError;
use super::response::Response;
use crate::address::Address;
use crate::error::{HostsError, Result};
use crate::options::Options;
use crate::rate::Limits;
use crate::resources::{Uploads, plural};
use crate::staging::{Staged, Upload};

pub(crate) mod names;
mod reading;
mod requests;

/// Options that are read here and in [`crate::tls`]. The first two are stock's.
pub const OPTIONS: [&str; 6] = [
    "auth_token",
    "tls_no_verify",
    "timeout",
    "tls_ca",
    "tls_fingerprint",
    "tls_insecure_no_verify",
];

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
    uploads: Uploads<Upload>,
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
            uploads: Uploads::default(),
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
        let kind = plural(resource);
        match name {
            Some(name) => format!("{}/resources/{kind}/{name}", self.path),
            None => format!("{}/resources/{kind}", self.path),
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
}

impl fmt::Debug for HttpStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers hold the token.
        f.debug_struct("HttpStore").field("path", &self.path).finish_non_exhaustive()
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
        self.uploads.begin(|| Ok(Upload::new(resource, &self.spool_directory)))
    }

    fn write(&mut self, upload: UploadId, bytes: &[u8]) -> Result<()> {
        self.uploads.of(upload)?.staged.write(bytes)
    }

    fn commit(&mut self, upload: UploadId, name: &Mac) -> Result<()> {
        let upload = self.uploads.take(upload)?;
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
        let _ = self.uploads.take(upload);
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
        if !list.is_whole() {
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
}
