//! Listings of a bucket, page by page, none of them held.

use std::io::{BufReader, Read};
use std::ops::ControlFlow;

use tiroir_core::host::HostErrorKind;
use tiroir_core::time::Timestamp;

use super::client::{Call, S3};
use super::place::KEY_BYTES_MAX;
use super::xml::{self, Receiver, XmlError};
use crate::error::{HostsError, Result};
use crate::http::date::parse_rfc3339;
use crate::http::error::HttpError;
use crate::http::response::Response;

/// Keys of a page.
const PAGE_KEYS: &str = "1000";

/// Pages without anything on them, one after the other, that are put up with.
const EMPTY_PAGES_MAX: u32 = 100;

/// Longest mark of where a page ends, in bytes.
const TOKEN_BYTES_MAX: usize = 4096;

/// Bytes read ahead.
const BUFFER_BYTES: usize = 8 * 1024;

const LIST: &str = "list";

/// An object, or what several keys start with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item<'i> {
    Object(Object<'i>),
    /// Up to and with a slash.
    Prefix(&'i [u8]),
}

/// What a listing says of an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object<'i> {
    pub(super) key: &'i [u8],
    pub(super) size_bytes: u64,
    pub(super) modified: Timestamp,
    pub(super) etag: &'i str,
}

/// What is to be listed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query<'q> {
    /// What all keys start with.
    pub(super) prefix: &'q [u8],
    /// Keys with a slash behind that are one [`Item::Prefix`] for all that have
    /// the same.
    pub(super) by_directory: bool,
    /// The server escapes keys when it is asked to, see [`S3::escapes_keys`].
    pub(super) is_escaped: bool,
}

/// Receives an item, and says whether to go on.
pub(super) type Each<'e> = dyn FnMut(Item<'_>) -> Result<ControlFlow<()>> + 'e;

/// A page, as it is read.
struct Page<'p, 'e> {
    query: Query<'p>,
    each: &'p mut Each<'e>,
    /// Names that were given to `each` when the link broke.
    skip: [Vec<u8>; 2],
    /// The last of each kind.
    last: [Vec<u8>; 2],
    /// Whether there was no new one on this page.
    is_empty: bool,
    is_stopped: bool,
    is_listing: bool,
    is_truncated: bool,
    is_escaped: bool,
    token: String,
    marker: String,
    key: String,
    size_bytes: u64,
    modified: Timestamp,
    etag: String,
    prefix: String,
}

impl<'p, 'e> Page<'p, 'e> {
    fn new(query: Query<'p>, each: &'p mut Each<'e>) -> Self {
        Self {
            query,
            each,
            skip: [const { Vec::new() }; 2],
            last: [const { Vec::new() }; 2],
            is_empty: true,
            is_stopped: false,
            is_listing: false,
            is_truncated: false,
            is_escaped: false,
            token: String::new(),
            marker: String::new(),
            key: String::new(),
            size_bytes: 0,
            modified: Timestamp::default(),
            etag: String::new(),
            prefix: String::new(),
        }
    }

    /// Makes ready for the next page, or for the same one again.
    fn begin(&mut self, is_again: bool) {
        if is_again {
            self.skip.clone_from(&self.last);
        } else {
            self.skip = [const { Vec::new() }; 2];
        }
        (self.is_empty, self.is_listing, self.is_truncated) = (true, false, false);
        for text in
            [&mut self.token, &mut self.marker, &mut self.key, &mut self.etag, &mut self.prefix]
        {
            text.clear();
        }
    }

    /// Gives one name to the receiver.
    fn give(&mut self, kind: usize, name: &str) -> Result<ControlFlow<()>> {
        let name = if self.query.is_escaped { unescaped(name)? } else { name.as_bytes().to_vec() };
        if name.len() > KEY_BYTES_MAX || !name.starts_with(self.query.prefix) {
            return Err(malformed(&name, "it lists a key that was not asked for"));
        }
        // Who lists the same again and again does not get on.
        self.is_empty &= name <= self.last[kind];
        // Some servers begin a page with what the one before ended with.
        let is_known = !self.skip[kind].is_empty() && name <= self.skip[kind];
        if is_known || name == self.last[kind] {
            return Ok(ControlFlow::Continue(()));
        }
        let item = match kind {
            0 => Item::Object(Object {
                key: &name,
                size_bytes: self.size_bytes,
                modified: self.modified,
                etag: &self.etag,
            }),
            _ => Item::Prefix(&name),
        };
        let flow = (self.each)(item)?;
        self.is_stopped = flow.is_break();
        self.last[kind] = name;
        Ok(flow)
    }
}

impl Receiver for Page<'_, '_> {
    fn element(&mut self, parent: &str, name: &str, text: &str) -> Result<ControlFlow<()>> {
        match (parent, name) {
            ("Contents", "Key") => text.clone_into(&mut self.key),
            ("Contents", "Size") => {
                let size = text.trim().parse().ok().filter(|size| i64::try_from(*size).is_ok());
                let wrong = || malformed(self.key.as_bytes(), "a size is no number");
                self.size_bytes = size.ok_or_else(wrong)?;
            }
            ("Contents", "LastModified") => {
                self.modified = parse_rfc3339(text.trim()).unwrap_or_default();
            }
            ("Contents", "ETag") => text.trim().clone_into(&mut self.etag),
            ("CommonPrefixes", "Prefix") => text.clone_into(&mut self.prefix),
            ("ListBucketResult", "Contents") => {
                let key = std::mem::take(&mut self.key);
                let flow = self.give(0, &key);
                (self.size_bytes, self.modified) = (0, Timestamp::default());
                self.etag.clear();
                return flow;
            }
            ("ListBucketResult", "CommonPrefixes") => {
                let prefix = std::mem::take(&mut self.prefix);
                return self.give(1, &prefix);
            }
            ("ListBucketResult", "IsTruncated") => self.is_truncated = text.trim() == "true",
            ("ListBucketResult", "NextContinuationToken") => text.clone_into(&mut self.token),
            ("ListBucketResult", "NextMarker") => text.clone_into(&mut self.marker),
            ("ListBucketResult", "EncodingType") => self.is_escaped = text.trim() == "url",
            ("", "ListBucketResult") => self.is_listing = true,
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// The content of an answer, with the error that ended it.
struct Content {
    response: Response,
    failed: Option<HttpError>,
}

impl Read for Content {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.response.read(into).map_err(|error| {
            self.failed = Some(error);
            std::io::ErrorKind::Other.into()
        })
    }
}

/// How reading a page ended.
enum Ending {
    Whole,
    /// Nothing of it counts but what was given to the receiver.
    Broken(HttpError),
}

impl S3 {
    /// Calls `each` with everything that a query finds, in pages.
    pub(super) fn list(&mut self, query: Query<'_>, each: &mut Each<'_>) -> Result<()> {
        let mut page = Page::new(query, each);
        let (mut token, mut empty_pages) = (String::new(), 0);
        loop {
            self.page(&mut page, &token)?;
            if page.is_stopped || !page.is_truncated {
                return Ok(());
            }
            empty_pages = if page.is_empty { empty_pages + 1 } else { 0 };
            let next = self.next_token(&page)?;
            if next == token || empty_pages > EMPTY_PAGES_MAX {
                return Err(malformed(&self.shown(query.prefix), "its pages never end"));
            }
            token = next;
        }
    }

    /// Where the next page starts.
    fn next_token(&mut self, page: &Page<'_, '_>) -> Result<String> {
        let token = if !page.token.is_empty() && !self.lists_v1 {
            page.token.clone()
        } else {
            // Only the first version may leave it out: it is the last name then.
            // A server that does not know the second one answers so, too.
            self.lists_v1 = true;
            if page.marker.is_empty() {
                String::from_utf8_lossy(page.last.iter().max().map_or(&[][..], Vec::as_slice))
                    .into_owned()
            } else if page.query.is_escaped {
                String::from_utf8_lossy(&unescaped(&page.marker)?).into_owned()
            } else {
                page.marker.clone()
            }
        };
        if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
            let rule = "it has a further page and does not say where";
            return Err(malformed(&self.shown(page.query.prefix), rule));
        }
        Ok(token)
    }

    /// Reads one page, again if the link breaks in the middle.
    fn page(&mut self, page: &mut Page<'_, '_>, token: &str) -> Result<()> {
        let mut attempts = self.attempts();
        page.begin(false);
        loop {
            match self.try_page(page, token)? {
                Ending::Whole if page.is_stopped || page.is_listing => return Ok(()),
                Ending::Whole => {
                    let rule = "it is no listing: is this a server of S3?";
                    return Err(malformed(&self.shown(page.query.prefix), rule));
                }
                Ending::Broken(error) if error.is_transient() && attempts.again(None) => {
                    page.begin(true);
                }
                Ending::Broken(error) => {
                    return Err(error.at(LIST, &self.shown(page.query.prefix)));
                }
            }
        }
    }

    fn try_page(&mut self, page: &mut Page<'_, '_>, token: &str) -> Result<Ending> {
        let mut query: Vec<(&str, &[u8])> =
            vec![("prefix", page.query.prefix), ("max-keys", PAGE_KEYS.as_bytes())];
        if !self.lists_v1 {
            query.push(("list-type", b"2"));
        }
        if page.query.by_directory {
            query.push(("delimiter", b"/"));
        }
        if page.query.is_escaped {
            query.push(("encoding-type", b"url"));
        }
        if !token.is_empty() {
            let name = if self.lists_v1 { "marker" } else { "continuation-token" };
            query.push((name, token.as_bytes()));
        }
        let call = Call { query: &query, ..Call::new(LIST, "GET", None) };
        let response = match self.call(&call) {
            Ok(response) => response,
            Err(failure) => {
                let is_unknown = failure.refusal().is_some_and(|r| r.is_unknown_request());
                if is_unknown && !self.lists_v1 && token.is_empty() {
                    self.lists_v1 = true;
                    return self.try_page(page, token);
                }
                return Err(failure.into());
            }
        };
        let mut content =
            BufReader::with_capacity(BUFFER_BYTES, Content { response, failed: None });
        let read = xml::read(&mut content, page);
        let content = content.into_inner();
        match (read, content.failed) {
            (Ok(()), _) => {
                self.finish(content.response);
                Ok(Ending::Whole)
            }
            (Err(XmlError::Receiver(error)), _) => Err(error),
            (Err(_), Some(error)) => Ok(Ending::Broken(error)),
            (Err(XmlError::Malformed(rule)), None) => {
                Err(malformed(&self.shown(page.query.prefix), rule))
            }
            (Err(XmlError::Read(error)), None) => {
                Err(HostsError::io_bytes(LIST, &self.shown(page.query.prefix), error))
            }
        }
    }

    fn shown(&self, prefix: &[u8]) -> Vec<u8> {
        self.place.shown(Some(prefix))
    }

    /// Asks for a listing of one key, to see whether there is something below
    /// `prefix`, and whether the server escapes keys when it is asked to: without
    /// that, some keys cannot be told in XML.
    pub(super) fn probe(&mut self, prefix: &[u8]) -> Result<Probe> {
        let query: [(&str, &[u8]); 4] = [
            ("prefix", prefix),
            ("max-keys", b"1"),
            ("list-type", b"2"),
            ("encoding-type", b"url"),
        ];
        let call = Call { query: &query[..], ..Call::new(LIST, "GET", None) };
        let mut response = self.call(&call)?;
        let mut ignore = |_: Item<'_>| Ok(ControlFlow::Continue(()));
        let everything = Query { prefix: b"", by_directory: false, is_escaped: false };
        let mut page = Page::new(everything, &mut ignore);
        // An item is a few hundred bytes.
        let text = response.read_start(super::refusal::REFUSAL_BYTES_MAX);
        let text = text.map_err(|error| self.broken(error, &call))?;
        self.finish(response);
        match xml::read(&text[..], &mut page) {
            Ok(()) if page.is_listing => {
                Ok(Probe { is_empty: page.is_empty, is_escaped: page.is_escaped })
            }
            _ => Err(malformed(&self.shown(prefix), "it is no listing: is this a server of S3?")),
        }
    }
}

/// What [`S3::probe`] finds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    /// There is no key with the prefix.
    pub(super) is_empty: bool,
    /// Keys are escaped when that is asked for.
    pub(super) is_escaped: bool,
}

/// Undoes what `encoding-type=url` does.
fn unescaped(text: &str) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let value = digit().zip(digit()).map(|(high, low)| high * 16 + low);
                let value = value.and_then(|value| u8::try_from(value).ok());
                out.push(
                    value.ok_or_else(|| malformed(text.as_bytes(), "a key is not escaped well"))?,
                );
            }
            _ => out.push(byte),
        }
    }
    Ok(out)
}

fn malformed(path: &[u8], rule: &'static str) -> HostsError {
    let path = path.escape_ascii().to_string();
    let words = format_args!("the answer is not understood: {rule}");
    HostsError::remote(HostErrorKind::Other, LIST, path.as_bytes(), words)
}

/// Reads a page of a listing from bytes: for tests.
#[cfg(any(test, fuzzing))]
pub(crate) fn parse_page(bytes: &[u8], prefix: &[u8], is_escaped: bool) -> Option<usize> {
    let (mut count, mut longest) = (0, 0);
    let mut each = |item: Item<'_>| {
        let (Item::Object(Object { key: name, .. }) | Item::Prefix(name)) = item;
        assert!(name.starts_with(prefix) && name.len() <= KEY_BYTES_MAX);
        count += 1;
        longest = longest.max(name.len());
        Ok(ControlFlow::Continue(()))
    };
    let query = Query { prefix, by_directory: true, is_escaped };
    let mut page = Page::new(query, &mut each);
    let read = xml::read(bytes, &mut page);
    read.is_ok().then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_unescaped() {
        assert_eq!(unescaped("a+b%2Bc%01/%C3%A9").unwrap(), "a b+c\u{1}/é".as_bytes());
        assert!(
            unescaped("a%").is_err() && unescaped("a%1").is_err() && unescaped("a%xy").is_err()
        );
    }

    #[test]
    fn pages_are_read() {
        let text = "<ListBucketResult><Prefix>a</Prefix><IsTruncated>false</IsTruncated>\
                    <Contents><Key>a/1</Key><Size>5</Size><LastModified>2009-10-12T17:50:30.000Z\
                    </LastModified><ETag>&quot;x&quot;</ETag><Owner><ID>k</ID></Owner></Contents>\
                    <CommonPrefixes><Prefix>a/b/</Prefix></CommonPrefixes></ListBucketResult>";
        assert_eq!(parse_page(text.as_bytes(), b"a", false), Some(2));
        assert_eq!(parse_page(text.as_bytes(), b"a/1", false), None);
        let size = text.replace("<Size>5", "<Size>-5");
        assert_eq!(parse_page(size.as_bytes(), b"a", false), None);
        let long = text.replace("a/1", &format!("a{}", "x".repeat(2000)));
        assert_eq!(parse_page(long.as_bytes(), b"a", false), None);
    }
}
