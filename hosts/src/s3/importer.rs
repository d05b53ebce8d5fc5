//! [`S3Importer`]: backs up the objects of a bucket.
//!
//! A key is a path, and what stands before a slash a directory. As in stock, the
//! path in the snapshot is `/` and the whole key, the root is what the location
//! names, and objects have the mode 0700. A location that names one object backs
//! up that one; in stock it names everything that starts with it.
//!
//! Keys that are no paths (with an empty component, `.`, `..`, or a line end)
//! are errors under a name that shows what they are. An empty object whose key
//! ends in a slash is how some programs make a directory, and is one. Where an
//! object and a directory have the same name, one of them is an error.

use std::ops::ControlFlow;

use tiroir_core::host::HostErrorKind;
use tiroir_core::importer::{Attributes, Each, Importer};
use tiroir_core::time::Timestamp;
use tiroir_core::wire::mode;
use tiroir_core::wire::path::{is_clean, is_component, is_within};

use super::client::{Call, S3};
use super::listing::{Item, Object, Query};
use super::place::KEY_BYTES_MAX;
use crate::address::Address;
use crate::error::{HostsError, Result};
use crate::fs::ignore::Ignore;
use crate::http::Endpoint;
use crate::http::date::{nanos, parse_http};
use crate::http::error::HttpError;
use crate::http::head::{Head, start_of_range};
use crate::http::response::Response;
use crate::http::retry::Attempts;
use crate::options::Options;
use crate::rate::Limits;

/// Mode of an object, as in stock.
const FILE_MODE: u32 = 0o700;

/// First byte of a hint.
mod hint {
    /// An object: length, seconds, nanoseconds, tag.
    pub(super) const OBJECT: u8 = b'o';
    /// A directory.
    pub(super) const DIRECTORY: u8 = b'd';
    /// A key that is no path.
    pub(super) const NO_PATH: u8 = b'x';
    /// A key that ends in a slash and has content.
    pub(super) const FULL_DIRECTORY: u8 = b'f';
}

/// Longest tag that is kept, in bytes.
const ETAG_BYTES_MAX: usize = 128;

/// An object being read.
#[derive(Debug)]
struct Open {
    path: Vec<u8>,
    response: Response,
    at: u64,
    size_bytes: u64,
    etag: String,
    /// It is another one than was listed.
    is_replaced: bool,
}

/// [`Importer`] of a bucket.
///
/// Takes two connections of 16 KiB each, with TLS some 100 KiB, and 24 KiB while
/// it lists.
#[derive(Debug)]
pub struct S3Importer {
    s3: S3,
    origin: String,
    /// Path of what is backed up: a directory, or the one that the object is in.
    root: Vec<u8>,
    /// The object, if it is one.
    only: Option<Vec<u8>>,
    is_escaped: bool,
    /// Attributes that were kept beside an object are asked for.
    has_metadata: bool,
    /// What was looked at last: its path, whether it is a directory, and the tag.
    last: (Vec<u8>, bool, String),
    open: Option<Open>,
    ignore: Ignore,
}

impl S3Importer {
    /// Backs up what an address and [`super::OPTIONS`] name. With `metadata`
    /// every object is asked for the attributes that
    /// [`S3Exporter`](super::S3Exporter) and others keep with it: one more
    /// request each.
    ///
    /// # Errors
    ///
    /// Options that are not understood; those of the server, of kind *not found*
    /// where nothing is.
    pub fn open(address: &Address, options: &Options) -> Result<Self> {
        let mut s3 = S3::new(address, options)?;
        let authority = Endpoint { host: s3.place.host.clone(), ..s3.place.endpoint.clone() };
        let origin = format!("{}/{}", authority.authority(), s3.place.bucket);
        let mut root = [b"/", &s3.place.prefix[..]].concat();
        let mut below = s3.place.prefix.clone();
        if !below.is_empty() {
            below.push(b'/');
        }
        let probe = s3.probe(&below)?;
        let mut only = None;
        if probe.is_empty && !s3.place.prefix.is_empty() {
            let key = s3.place.prefix.clone();
            s3.call_without_content(&Call::new("look for", "HEAD", Some(&key)))?;
            let (directory, _) = tiroir_core::wire::path::split(&root);
            let directory = directory.to_vec();
            only = Some(std::mem::replace(&mut root, directory));
        }
        Ok(Self {
            s3,
            origin,
            root,
            only,
            is_escaped: probe.is_escaped,
            has_metadata: options.flag("metadata")?,
            last: Default::default(),
            open: None,
            ignore: Ignore::default(),
        })
    }

    /// With limits of how fast bytes move.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.s3.set_limits(limits);
        self
    }

    /// With patterns of what is left out: it is as if it were not there.
    #[must_use]
    pub fn with_ignore(mut self, ignore: Ignore) -> Self {
        self.ignore = ignore;
        self
    }

    /// Whether the patterns leave out the root itself.
    #[must_use]
    pub fn is_root_ignored(&self) -> bool {
        self.ignore.matches_or_above(self.top(), self.only.is_none())
    }

    /// Path of what is backed up.
    #[must_use]
    pub fn top(&self) -> &[u8] {
        self.only.as_deref().unwrap_or(&self.root)
    }

    /// Whether a path leads to what is backed up.
    fn is_above(&self, path: &[u8]) -> bool {
        path != self.top() && is_within(self.top(), path)
    }

    fn shown(&self, path: &[u8]) -> Vec<u8> {
        self.s3.place.shown(path.get(1..))
    }

    fn rule(&self, operation: &'static str, path: &[u8], rule: &'static str) -> HostsError {
        HostsError::rule(HostErrorKind::Other, operation, &self.shown(path), rule)
    }

    /// Lists what is below the root.
    fn list_below(&mut self, directory: &[u8], each: &mut Each<'_, HostsError>) -> Result<()> {
        let mut prefix = directory.get(1..).unwrap_or_default().to_vec();
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        let query = Query { prefix: &prefix, by_directory: true, is_escaped: self.is_escaped };
        self.s3.list(query, &mut |item| {
            match item {
                Item::Prefix(key) => {
                    let name = key.get(prefix.len()..).unwrap_or_default();
                    let name = name.strip_suffix(b"/").unwrap_or(name);
                    give(name, &[hint::DIRECTORY], each)?;
                }
                Item::Object(object) => {
                    let name = object.key.get(prefix.len()..).unwrap_or_default();
                    match name.strip_suffix(b"/") {
                        // Also an object that is named as the listing asked for.
                        Some(name) if object.size_bytes > 0 => {
                            give(name, &[hint::FULL_DIRECTORY], each)?;
                        }
                        None if name.is_empty() && object.size_bytes > 0 => {
                            give(b"", &[hint::FULL_DIRECTORY], each)?;
                        }
                        None if name.is_empty() => {}
                        Some(name) => give(name, &[hint::DIRECTORY], each)?,
                        None => give(name, &hint_of(&object), each)?,
                    }
                }
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Asks the server for what it says of an object.
    fn head(&mut self, path: &[u8]) -> Result<Head> {
        let call = Call::new("inspect", "HEAD", path.get(1..));
        let response = self.s3.call(&call)?;
        let head = response.head().clone();
        self.s3.finish(response);
        Ok(head)
    }

    /// Fills what is said of an object.
    fn stat_object(&mut self, path: &[u8], hint: &[u8], into: &mut Attributes) -> Result<String> {
        into.mode = FILE_MODE;
        into.dev = 1;
        into.nlink = 1;
        let listed = parse_hint(hint);
        if let Some((size_bytes, modified, etag)) = listed.filter(|_| !self.has_metadata) {
            into.size = i64::try_from(size_bytes).unwrap_or(i64::MAX);
            into.mod_time = modified;
            return Ok(etag.to_owned());
        }
        let head = self.head(path)?;
        let size_bytes = head.declared_length().ok().flatten();
        let size_bytes = size_bytes.and_then(|size| i64::try_from(size).ok());
        into.size =
            size_bytes.ok_or_else(|| self.rule("inspect", path, "its length is missing"))?;
        into.mod_time = match listed {
            Some((_, modified, _)) => modified,
            None => head.header("last-modified").and_then(parse_http).unwrap_or_default(),
        };
        if self.has_metadata {
            fill_metadata(&head, into);
        }
        Ok(head.header("etag").unwrap_or_default().to_owned())
    }

    /// Asks for the content of an object from `at` on.
    fn ask(&mut self, path: &[u8], at: u64, etag: &str) -> Result<Response> {
        let mut call = Call::new("read", "GET", path.get(1..));
        if at > 0 {
            call = call.header("Range", format!("bytes={at}-")).header("If-Match", etag);
        }
        let response = self.s3.call(&call)?;
        let range = response.head().header("content-range").unwrap_or_default();
        if at > 0 && (response.status() != 206 || start_of_range(range) != Some(at)) {
            let rule = "the link broke, and the server does not send the rest";
            return Err(self.rule("read", path, rule));
        }
        Ok(response)
    }

    /// Goes on reading after the link broke.
    fn resume(&mut self, error: HttpError, attempts: &mut Attempts) -> Result<()> {
        let Some(open) = self.open.take() else { return Err(none_open()) };
        let can = error.is_transient() && !open.etag.is_empty() && attempts.again(None);
        if !can {
            return Err(error.at("read", &self.shown(&open.path)));
        }
        let response = self.ask(&open.path, open.at, &open.etag)?;
        self.open = Some(Open { response, ..open });
        Ok(())
    }
}

/// Tells the receiver of a child.
fn give(name: &[u8], hint: &[u8], each: &mut Each<'_, HostsError>) -> Result<()> {
    let is_plain = is_component(name) && !name.iter().any(|byte| matches!(byte, b'\r' | b'\n'));
    if is_plain {
        return each(name, hint);
    }
    // A name that can be recorded, and that says what the key is like.
    let shown = match name {
        b"" => "(empty name)".to_owned(),
        b"." | b".." => format!("({})", String::from_utf8_lossy(name)),
        _ => name.escape_ascii().to_string().replace('/', "\\x2f"),
    };
    let hint = if hint[0] == hint::FULL_DIRECTORY { hint } else { &[hint::NO_PATH] };
    each(shown.as_bytes(), hint)
}

fn hint_of(object: &Object<'_>) -> Vec<u8> {
    let mut out = vec![hint::OBJECT];
    out.extend_from_slice(&object.size_bytes.to_le_bytes());
    out.extend_from_slice(&object.modified.secs.to_le_bytes());
    out.extend_from_slice(&object.modified.nanos.to_le_bytes());
    let etag = Some(object.etag).filter(|etag| etag.len() <= ETAG_BYTES_MAX).unwrap_or_default();
    out.extend_from_slice(etag.as_bytes());
    out
}

/// Length, time and tag of an object, from a hint.
fn parse_hint(hint: &[u8]) -> Option<(u64, Timestamp, &str)> {
    let rest = hint.strip_prefix(&[hint::OBJECT])?;
    let (size, rest) = rest.split_first_chunk()?;
    let (secs, rest) = rest.split_first_chunk()?;
    let (nanos, etag) = rest.split_first_chunk()?;
    let time = Timestamp { secs: i64::from_le_bytes(*secs), nanos: u32::from_le_bytes(*nanos) };
    Some((u64::from_le_bytes(*size), time, std::str::from_utf8(etag).ok()?))
}

/// Takes over what was kept with an object, as [`super::S3Exporter`] writes it;
/// rclone reads and writes the same. What is not understood is left out.
fn fill_metadata(head: &Head, into: &mut Attributes) {
    if let Some(mode) =
        head.header("x-amz-meta-mode").and_then(|text| u32::from_str_radix(text, 8).ok())
    {
        // Regular, whatever it says.
        into.mode = mode::from_unix(mode & 0o7777 | 0o100_000);
    }
    if let Some(time) = head.header("x-amz-meta-mtime").and_then(parse_time) {
        into.mod_time = time;
    }
    let number = |name| head.header(name).and_then(|text| text.parse::<u32>().ok());
    if let Some(uid) = number("x-amz-meta-uid") {
        into.uid = uid.into();
    }
    if let Some(gid) = number("x-amz-meta-gid") {
        into.gid = gid.into();
    }
}

/// Seconds since 1970, with or without a fraction.
fn parse_time(text: &str) -> Option<Timestamp> {
    let (secs, fraction) = text.split_once('.').unwrap_or((text, ""));
    let (secs, nanos) = (secs.parse::<i64>().ok()?, nanos(fraction)?);
    // The fraction of a time before 1970 leads further back.
    let back = text.starts_with('-') && nanos > 0;
    if back {
        return Some(Timestamp { secs: secs.checked_sub(1)?, nanos: 1_000_000_000 - nanos });
    }
    Some(Timestamp { secs, nanos })
}

fn none_open() -> HostsError {
    HostsError::rule(HostErrorKind::Other, "read", b"", "no file is open")
}

impl Importer for S3Importer {
    type Error = HostsError;

    fn kind(&self) -> &str {
        "s3"
    }

    fn origin(&self) -> &str {
        &self.origin
    }

    fn root(&self) -> &[u8] {
        &self.root
    }

    fn list(&mut self, directory: &[u8], each: &mut Each<'_, HostsError>) -> Result<()> {
        if self.is_above(directory) {
            let above = directory.strip_suffix(b"/").unwrap_or(directory).len() + 1;
            let rest = self.top().get(above..).unwrap_or_default();
            let next = rest.split(|byte| *byte == b'/').next().unwrap_or_default();
            let is_last = next.len() == rest.len();
            let is_object = is_last && self.only.is_some();
            return each(next, if is_object { &[] } else { &[hint::DIRECTORY] });
        }
        if self.ignore.is_empty() {
            return self.list_below(directory, each);
        }
        let ignore = self.ignore.clone();
        let mut path = directory.to_vec();
        if path != b"/" {
            path.push(b'/');
        }
        let directory_bytes = path.len();
        self.list_below(directory, &mut |name, hint| {
            path.truncate(directory_bytes);
            path.extend_from_slice(name);
            let is_directory = hint.first() == Some(&hint::DIRECTORY);
            if ignore.matches(&path, is_directory) { Ok(()) } else { each(name, hint) }
        })
    }

    fn stat(&mut self, path: &[u8], hint: &[u8], into: &mut Attributes) -> Result<()> {
        *into = Attributes::default();
        let is_known = path == self.top() || self.is_above(path) || is_within(path, self.top());
        if !is_clean(path) || !is_known || path.len() > KEY_BYTES_MAX + 1 {
            return Err(self.rule("inspect", path, "it is not part of what is backed up"));
        }
        match hint.first() {
            Some(&hint::NO_PATH) => {
                let rule = "its key has a component that no path can have";
                return Err(self.rule("back up", path, rule));
            }
            Some(&hint::FULL_DIRECTORY) => {
                let rule = "its key ends in a slash, and it has content: no path can have both";
                return Err(self.rule("back up", path, rule));
            }
            _ => {}
        }
        let is_object = self.only.as_deref() == Some(path) || hint.first() == Some(&hint::OBJECT);
        if !hint.is_empty() && self.last.0 == path && self.last.1 == is_object {
            let rule = "an object and a directory have this name: the other one is backed up";
            return Err(self.rule("back up", path, rule));
        }
        let mut etag = String::new();
        if is_object {
            etag = self.stat_object(path, hint, into)?;
        } else {
            into.mode = mode::DIRECTORY | FILE_MODE;
            into.nlink = 1;
        }
        self.last = (path.to_vec(), !is_object, etag);
        Ok(())
    }

    fn foresee(&mut self, path: &[u8], hint: &[u8], into: &mut Attributes) -> bool {
        *into = Attributes::default();
        let is_told = !self.has_metadata && hint.first() == Some(&hint::OBJECT);
        is_told && self.stat_object(path, hint, into).is_ok()
    }

    fn open(&mut self, path: &[u8], expected: &Attributes) -> Result<()> {
        self.close();
        let response = self.ask(path, 0, "")?;
        let head = response.head();
        let etag = head.header("etag").unwrap_or_default().to_owned();
        let modified = head.header("last-modified").and_then(parse_http);
        let size_bytes = response.left_bytes();
        let size_bytes =
            size_bytes.ok_or_else(|| self.rule("read", path, "its length is missing"))?;
        let same_size = i64::try_from(size_bytes).is_ok_and(|size| size == expected.size);
        // What a listing says is more exact. With metadata it is another time.
        let same_time = self.has_metadata
            || modified.is_none_or(|modified| modified.secs == expected.mod_time.secs);
        let same_tag = self.last.0 != path || self.last.2.is_empty() || self.last.2 == etag;
        let is_replaced = !(same_size && same_time && same_tag);
        self.open =
            Some(Open { path: path.to_vec(), response, at: 0, size_bytes, etag, is_replaced });
        Ok(())
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let mut attempts = self.s3.attempts();
        loop {
            let Some(open) = &mut self.open else { return Err(none_open()) };
            match open.response.read(into) {
                Ok(0) if !into.is_empty() && open.at < open.size_bytes => {
                    let error = HttpError::Lost("an object is shorter than the server said".into());
                    self.resume(error, &mut attempts)?;
                }
                Ok(read) => {
                    open.at += read as u64;
                    return Ok(read);
                }
                Err(error) => self.resume(error, &mut attempts)?,
            }
        }
    }

    fn changed(&mut self) -> Result<bool> {
        // An answer is one version of an object, whatever happens meanwhile.
        self.open.as_ref().map(|open| open.is_replaced).ok_or_else(none_open)
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.s3.finish(open.response);
        }
    }

    fn xattr_names(&mut self, _path: &[u8], _into: &mut [u8]) -> Result<usize> {
        Ok(0)
    }

    fn xattr(&mut self, path: &[u8], _name: &[u8], _into: &mut [u8]) -> Result<usize> {
        let rule = "objects have none";
        let kind = HostErrorKind::NotFound;
        Err(HostsError::rule(kind, "read an extended attribute of", &self.shown(path), rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_come_back() {
        let modified = Timestamp { secs: -5, nanos: 7 };
        let mut object = Object { key: b"k", size_bytes: 1 << 40, modified, etag: "\"x\"" };
        assert_eq!(parse_hint(&hint_of(&object)), Some((1 << 40, modified, "\"x\"")));
        let long = "x".repeat(4000);
        object.etag = &long;
        assert_eq!(parse_hint(&hint_of(&object)), Some((1 << 40, modified, "")));
        assert_eq!(parse_hint(b"o12"), None);
        assert_eq!(parse_hint(b""), None);
    }

    #[test]
    fn names_that_are_none_are_told() {
        for (name, shown) in [
            (&b""[..], "(empty name)"),
            (b"..", "(..)"),
            (b"a\nb", "a\\nb"),
            (b"a\0", "a\\x00"),
            (b"a/b", "a/b"),
        ] {
            let mut seen = Vec::new();
            let mut each = |name: &[u8], hint: &[u8]| {
                seen.push((name.to_vec(), hint.to_vec()));
                Ok(())
            };
            give(name, &[hint::OBJECT], &mut each).unwrap();
            // The last one is what a server that ignores the delimiter says.
            let shown = shown.replace('/', "\\x2f");
            assert_eq!(seen, [(shown.into_bytes(), vec![hint::NO_PATH])]);
        }
    }

    #[test]
    fn times_of_metadata() {
        let time = |secs, nanos| Some(Timestamp { secs, nanos });
        assert_eq!(parse_time("1700000000.5"), time(1_700_000_000, 500_000_000));
        assert_eq!(parse_time("12"), time(12, 0));
        assert_eq!(parse_time("-1.250000000"), time(-2, 750_000_000));
        assert_eq!(parse_time("x"), None);
        assert_eq!(parse_time("1.x"), None);
    }
}
