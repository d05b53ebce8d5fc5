//! [`S3Store`]: a store in a bucket, laid out as stock's.
//!
//! Below the prefix: `CONFIG`, `packfiles/XX/<64 digits>`,
//! `states/XX/<64 digits>` and `locks/<64 digits>`. An object appears whole or
//! not at all, and lasts when the server has said so.
//!
//! With the storage classes that cannot be read from, GLACIER and DEEP_ARCHIVE,
//! only packfiles are put there: states and locks are read by every backup. As
//! stock does, CONFIG is then kept a second time as `CONFIG.frozen`.

use std::ops::ControlFlow;
use std::path::PathBuf;

use tiroir_core::host::HostErrorKind;
use tiroir_core::mac::Mac;
use tiroir_core::store::{Layout, Store, StoreResource, UploadId};
use zeroize::Zeroizing;

use super::client::{Call, Failure, S3};
use super::listing::{Item, Query};
use super::upload::Headers;
use crate::address::Address;
use crate::env::now;
use crate::error::{HostsError, Result};
use crate::http::date::rfc3339;
use crate::http::error::HttpError;
use crate::http::head::{start_of_range, total_of_range};
use crate::http::response::Response;
use crate::options::{Options, refused};
use crate::rate::Limits;
use crate::resources::{Uploads, plural};
use crate::staging::{Staged, Upload};

/// Storage classes that stock knows.
const CLASSES: [&str; 8] = [
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "GLACIER_IR",
    "DEEP_ARCHIVE",
];

/// The class that is meant when none is named.
const STANDARD: &str = "STANDARD";

/// Bytes asked for at once when one reads on and on, at most.
const WINDOW_BYTES_MAX: u64 = 4 << 20;

/// Longest time that objects are locked for, in days.
const RETAIN_DAYS_MAX: u32 = 36_500;

/// How objects are kept from being removed or replaced.
#[derive(Clone, Copy, Debug)]
struct Retention {
    mode: &'static str,
    days: u32,
}

/// A resource being read.
#[derive(Debug)]
struct Open {
    resource: StoreResource,
    name: Mac,
    /// Where the next byte of the answer belongs.
    at: u64,
    /// Where the answer ends.
    end: u64,
    /// Length of the resource.
    total: u64,
    response: Response,
}

/// Store in a bucket of S3.
///
/// Takes what [`Staged`] takes for each upload under way, 64 KiB while one is
/// sent, and up to three connections of 16 KiB each, with TLS some 100 KiB.
#[derive(Debug)]
pub struct S3Store {
    s3: S3,
    spool_directory: PathBuf,
    class: &'static str,
    retention: Option<Retention>,
    uploads: Uploads<Upload>,
    open: Option<Open>,
    /// Where the last read ended, and how much was asked for at once.
    read_on: Option<(StoreResource, Mac, u64)>,
    window_bytes: u64,
}

impl S3Store {
    /// The store in the bucket that an address and [`super::OPTIONS`] name.
    /// Uploads wait in `spool_directory`. Nothing is asked of the server yet.
    ///
    /// # Errors
    ///
    /// Options that are not understood, and a key that is not found.
    pub fn open(
        address: &Address,
        options: &Options,
        spool_directory: impl Into<PathBuf>,
    ) -> Result<Self> {
        let class = options.text("storage_class").unwrap_or(STANDARD).to_ascii_uppercase();
        let class = CLASSES.into_iter().find(|known| *known == class);
        let class = class.ok_or_else(|| refused("storage_class", "it is none that is known"))?;
        Ok(Self {
            s3: S3::new(address, options)?,
            spool_directory: spool_directory.into(),
            class,
            retention: retention(options)?,
            uploads: Uploads::default(),
            open: None,
            read_on: None,
            window_bytes: 0,
        })
    }

    /// With limits of how fast bytes move.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.s3.set_limits(limits);
        self
    }

    /// Where the store lies, to be shown.
    #[must_use]
    pub fn location(&self) -> String {
        String::from_utf8_lossy(&self.s3.place.shown(Some(&self.s3.place.prefix))).into_owned()
    }

    fn key(&self, resource: StoreResource, name: &Mac) -> Vec<u8> {
        let kind = plural(resource);
        self.s3.place.key(&match resource {
            StoreResource::Lock => format!("{kind}/{name}"),
            _ => format!("{kind}/{name:.1}/{name}"),
        })
    }

    /// Whether objects of the class cannot be read as they are.
    fn is_frozen(&self) -> bool {
        matches!(self.class, "GLACIER" | "DEEP_ARCHIVE")
    }

    fn headers(&self, resource: Option<StoreResource>) -> Headers {
        let mut headers = Headers::new();
        let mut push = |name: &str, value: String| {
            headers.push((name.to_owned(), Zeroizing::new(value)));
        };
        push("Content-Type", "application/octet-stream".to_owned());
        let is_kept = matches!(resource, Some(StoreResource::Packfile | StoreResource::State));
        let is_classed = match resource {
            Some(StoreResource::Packfile) => true,
            Some(StoreResource::State) => !self.is_frozen(),
            Some(StoreResource::Lock) | None => false,
        };
        if is_classed && self.class != STANDARD {
            push("x-amz-storage-class", self.class.to_owned());
        }
        if let Some(retention) = self.retention.filter(|_| is_kept) {
            let until = now().secs + 86_400 * i64::from(retention.days);
            push("x-amz-object-lock-mode", retention.mode.to_owned());
            push("x-amz-object-lock-retain-until-date", rfc3339(until));
        }
        headers
    }

    /// Ends what is being read.
    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.s3.finish(open.response);
        }
    }

    /// Forgets a resource that is no longer what it was.
    fn forget(&mut self, resource: StoreResource, name: &Mac) {
        if self.open.as_ref().is_some_and(|open| open.resource == resource && open.name == *name) {
            self.close();
        }
    }

    /// Asks for a range of a resource. Nothing if it ends before.
    fn ask(
        &mut self,
        resource: StoreResource,
        name: &Mac,
        at: u64,
        count: u64,
    ) -> Result<Option<Open>> {
        let key = self.key(resource, name);
        let last = at.saturating_add(count.saturating_sub(1));
        let call =
            Call::new("read", "GET", Some(&key)).header("Range", format!("bytes={at}-{last}"));
        let response = match self.s3.call(&call) {
            Ok(response) => response,
            Err(failure) if failure.refusal().is_some_and(|refusal| refusal.status == 416) => {
                return Ok(None);
            }
            Err(failure) => return Err(failure.into()),
        };
        let broken = |rule| HttpError::Malformed(rule).at("read", &self.s3.place.shown(Some(&key)));
        let (total, end) = if response.status() == 206 {
            let range = response.head().header("content-range").unwrap_or_default();
            if start_of_range(range) != Some(at) {
                return Err(broken("it is another part than was asked for"));
            }
            let total = total_of_range(range).ok_or_else(|| broken("its length is missing"))?;
            (total, total.min(last.saturating_add(1)))
        } else {
            let total = response.left_bytes().ok_or_else(|| broken("its length is missing"))?;
            // Some ignore a range that begins behind the end.
            if at > 0 && at < total {
                return Err(broken("the server does not send parts of an object"));
            }
            if at > 0 {
                return Ok(None);
            }
            (total, total)
        };
        Ok(Some(Open { resource, name: *name, at, end, total, response }))
    }

    /// Sees to it that the next byte to be read is that at `at`. Returns whether
    /// there is one.
    fn seek(&mut self, resource: StoreResource, name: &Mac, at: u64, wanted: u64) -> Result<bool> {
        if let Some(open) = &self.open
            && (open.resource, &open.name, open.at) == (resource, name, at)
            && (open.at < open.end || open.at >= open.total)
        {
            return Ok(open.at < open.end);
        }
        self.close();
        let count = wanted.max(self.window_bytes);
        self.open = self.ask(resource, name, at, count)?;
        Ok(self.open.as_ref().is_some_and(|open| open.at < open.end))
    }

    /// Reads from what is open.
    fn read_open(&mut self, into: &mut [u8]) -> std::result::Result<usize, HttpError> {
        let Some(open) = &mut self.open else { return Ok(0) };
        let left = usize::try_from(open.end - open.at).unwrap_or(usize::MAX);
        let count = left.min(into.len());
        let read = open.response.read(&mut into[..count])?;
        if read == 0 {
            return Err(HttpError::Lost("an object is shorter than the server said".into()));
        }
        open.at += read as u64;
        Ok(read)
    }

    /// Looks for CONFIG, and makes the bucket if there is none.
    fn make_room(&mut self) -> Result<()> {
        let key = self.s3.place.key("CONFIG");
        match self.s3.probe(&key) {
            Ok(probe) if probe.is_empty => return Ok(()),
            // It is there, or what starts like it.
            Ok(_) => {}
            Err(error) => match tiroir_core::host::HostError::kind(&error) {
                HostErrorKind::NotFound => {
                    return self.s3.make_bucket(&self.spool_directory, self.retention.is_some());
                }
                // A key that may not list: it may look.
                HostErrorKind::PermissionDenied => {}
                _ => return Err(error),
            },
        }
        let head = self.s3.call_without_content(&Call::new("look for", "HEAD", Some(&key)));
        match head {
            Ok(()) => Err(HostsError::rule(
                HostErrorKind::AlreadyExists,
                "create a store in",
                self.location().as_bytes(),
                "there is one",
            )),
            Err(failure) if failure.refusal().is_some_and(|r| r.is_no_object()) => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Writes CONFIG, unless somebody else did in between.
    fn write_config(&mut self, name: &str, bytes: &[u8], headers: Headers) -> Result<()> {
        let key = self.s3.place.key(name);
        let mut staged = Staged::new(&self.spool_directory);
        staged.write(bytes)?;
        let mut alone = headers.clone();
        alone.push(("If-None-Match".to_owned(), Zeroizing::new("*".to_owned())));
        match self.s3.put(&key, &alone, &staged) {
            // The server does not know the condition.
            Err(Failure::Refused(refusal, _))
                if refusal.is_unknown_request() || refusal.status == 400 =>
            {
                Ok(self.s3.put(&key, &headers, &staged)?)
            }
            other => Ok(other?),
        }
    }
}

/// What the options say of retention.
fn retention(options: &Options) -> Result<Option<Retention>> {
    let mode = match options.text("object_lock_mode").map(str::to_ascii_uppercase).as_deref() {
        None => None,
        Some("GOVERNANCE") => Some("GOVERNANCE"),
        Some("COMPLIANCE") => Some("COMPLIANCE"),
        Some(_) => return Err(refused("object_lock_mode", "it is GOVERNANCE or COMPLIANCE")),
    };
    match (mode, options.number::<u32>("retain_days")?) {
        (None, None) => Ok(None),
        (mode, Some(days)) if (1..=RETAIN_DAYS_MAX).contains(&days) => {
            Ok(Some(Retention { mode: mode.unwrap_or("GOVERNANCE"), days }))
        }
        (_, Some(_)) => Err(refused("retain_days", "it is a number of days, from 1 to 36500")),
        (Some(_), None) => Err(refused("object_lock_mode", "retain_days is missing")),
    }
}

impl Store for S3Store {
    type Error = HostsError;

    fn layout(&self) -> Layout {
        Layout::Directory
    }

    fn read_config(&mut self, into: &mut [u8]) -> Result<usize> {
        let key = self.s3.place.key("CONFIG");
        let call = Call::new("read", "GET", Some(&key));
        let mut attempts = self.s3.attempts();
        loop {
            let mut response = self.s3.call(&call)?;
            let length = response.left_bytes();
            match response.read_full(into) {
                Ok(filled) => {
                    // Without a length, one more byte tells whether that was all.
                    let more = length.is_none() && !matches!(response.read(&mut [0]), Ok(0));
                    let length = length.and_then(|length| usize::try_from(length).ok());
                    self.s3.finish(response);
                    return Ok(length.unwrap_or(filled).max(filled + usize::from(more)));
                }
                Err(error) if error.is_transient() && attempts.again(None) => {}
                Err(error) => return Err(self.s3.broken(error, &call)),
            }
        }
    }

    fn create(&mut self, bytes: &[u8]) -> Result<()> {
        self.make_room()?;
        if self.is_frozen() {
            let headers = self.headers(Some(StoreResource::Packfile));
            self.write_config("CONFIG.frozen", bytes, headers)?;
        }
        self.write_config("CONFIG", bytes, self.headers(None))
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
        let key = self.key(upload.resource, name);
        let headers = self.headers(Some(upload.resource));
        Ok(self.s3.upload(&key, &headers, &upload.staged, &self.spool_directory)?)
    }

    fn abort(&mut self, upload: UploadId) {
        // Nothing of it is on the server.
        let _ = self.uploads.take(upload);
    }

    fn size(&mut self, resource: StoreResource, name: &Mac) -> Result<Option<u64>> {
        let key = self.key(resource, name);
        let call = Call::new("inspect", "HEAD", Some(&key));
        match self.s3.call(&call) {
            Ok(response) => {
                let length = response.head().declared_length();
                self.s3.finish(response);
                match length {
                    Ok(Some(length)) => Ok(Some(length)),
                    Ok(None) => {
                        Err(self.s3.broken(HttpError::Malformed("its length is missing"), &call))
                    }
                    Err(error) => Err(self.s3.broken(error, &call)),
                }
            }
            Err(failure) if failure.refusal().is_some_and(|r| r.is_no_object()) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    fn get(
        &mut self,
        resource: StoreResource,
        name: &Mac,
        offset_bytes: u64,
        into: &mut [u8],
    ) -> Result<usize> {
        // Who reads on is going to read more: then more is asked for at once.
        let reads_on = self.read_on == Some((resource, *name, offset_bytes));
        self.window_bytes = match resource {
            StoreResource::Lock => 0,
            _ if !reads_on => 0,
            _ => (self.window_bytes * 4).max(4 * into.len() as u64).min(WINDOW_BYTES_MAX),
        };
        if resource == StoreResource::Lock {
            // They change under their names.
            self.forget(resource, name);
        }
        let (mut filled, mut attempts) = (0, self.s3.attempts());
        while filled < into.len() {
            let at = offset_bytes.saturating_add(filled as u64);
            if !self.seek(resource, name, at, (into.len() - filled) as u64)? {
                break;
            }
            match self.read_open(&mut into[filled..]) {
                Ok(read) => filled += read,
                Err(error) => {
                    self.open = None;
                    if !error.is_transient() || !attempts.again(None) {
                        let key = self.key(resource, name);
                        return Err(error.at("read", &self.s3.place.shown(Some(&key))));
                    }
                }
            }
        }
        self.read_on = Some((resource, *name, offset_bytes.saturating_add(filled as u64)));
        Ok(filled)
    }

    fn list(
        &mut self,
        resource: StoreResource,
        each: &mut dyn FnMut(Mac) -> ControlFlow<()>,
    ) -> Result<()> {
        let prefix = self.s3.place.key(&format!("{}/", plural(resource)));
        let query = Query { prefix: &prefix, by_directory: false, is_escaped: false };
        let is_flat = resource == StoreResource::Lock;
        self.s3.list(query, &mut |item| {
            let Item::Object(object) = item else { return Ok(ControlFlow::Continue(())) };
            let rest = object.key.get(prefix.len()..).unwrap_or_default();
            // What else lies there is none of ours, as in stock.
            match name_of(rest, is_flat) {
                Some(name) => Ok(each(name)),
                None => Ok(ControlFlow::Continue(())),
            }
        })
    }

    fn delete(&mut self, resource: StoreResource, name: &Mac) -> Result<()> {
        self.forget(resource, name);
        let key = self.key(resource, name);
        match self.s3.call_without_content(&Call::new("remove", "DELETE", Some(&key))) {
            Err(failure) if failure.refusal().is_some_and(|r| r.is_no_object()) => Ok(()),
            other => Ok(other?),
        }
    }
}

/// The name in `XX/<64 digits>`, or in the digits alone.
fn name_of(rest: &[u8], is_flat: bool) -> Option<Mac> {
    if is_flat {
        return Mac::from_hex(rest);
    }
    let name = Mac::from_hex(rest.get(3..)?)?;
    (rest.get(..3)? == format!("{name:.1}/").as_bytes()).then_some(name)
}
