//! Uploads: an object at once, or in parts.

use std::ops::{ControlFlow, Range};
use std::path::Path;

use sha2::{Digest as _, Sha256};
use tiroir_core::host::HostErrorKind;
use zeroize::Zeroizing;

use super::client::{Call, Failure, S3};
use super::encryption::base64;
use super::refusal::REFUSAL_BYTES_MAX;
use super::sign::escaped;
use super::xml::{self, Receiver};
use crate::error::{HostsError, Result};
use crate::http::client::Payload;
use crate::staging::Staged;

/// Longer objects go in parts, in bytes.
pub(super) const PARTS_FROM_BYTES: u64 = 64 << 20;

/// Shortest part, in bytes, but for the last one. S3 asks for 5 MiB.
pub(super) const PART_BYTES_MIN: u64 = 16 << 20;

/// Most parts that S3 takes.
const PARTS_MAX: u64 = 10_000;

const UPLOAD: &str = "upload";

/// How a server is told what it should have received, beside the signature.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Checksum {
    /// `x-amz-checksum-sha256`, which the server keeps.
    Sha256,
    /// `Content-MD5`, for servers that do not know the other.
    Md5,
    /// Nothing.
    None,
}

/// Length of the parts of an object of `size_bytes`.
pub(super) fn part_bytes(size_bytes: u64) -> u64 {
    // One less, for a file that grew.
    size_bytes.div_ceil(PARTS_MAX - 1).max(PART_BYTES_MIN)
}

/// Headers of an object.
pub(super) type Headers = Vec<(String, Zeroizing<String>)>;

/// An upload in parts, under way.
#[derive(Debug)]
pub(super) struct Parts {
    key: Vec<u8>,
    id: String,
    /// What is sent in the end: the tag of every part.
    list: Staged,
    count: u64,
}

impl S3 {
    /// Uploads what was staged.
    pub(super) fn upload(
        &mut self,
        key: &[u8],
        headers: &Headers,
        staged: &Staged,
        spool_directory: &Path,
    ) -> std::result::Result<(), Failure> {
        if staged.len() <= PARTS_FROM_BYTES {
            return self.put(key, headers, staged);
        }
        let mut parts = self.begin_parts(key, headers, spool_directory)?;
        let step = part_bytes(staged.len());
        let mut at = 0;
        while at < staged.len() {
            let end = staged.len().min(at + step);
            if let Err(failure) = self.add_part(&mut parts, staged, at..end) {
                self.abort_parts(&parts);
                return Err(failure);
            }
            at = end;
        }
        self.complete_parts(parts)
    }

    /// Uploads an object at once.
    pub(super) fn put(
        &mut self,
        key: &[u8],
        headers: &Headers,
        staged: &Staged,
    ) -> std::result::Result<(), Failure> {
        loop {
            let mut headers = headers.clone();
            let pair = |name: &str, value| (name.to_owned(), Zeroizing::new(value));
            match self.checksum {
                Checksum::Sha256 => {
                    headers.push(pair("x-amz-checksum-sha256", base64(&staged.sha256())));
                }
                Checksum::Md5 => {
                    let md5 = md5_of(staged, 0..staged.len()).map_err(Failure::Broken)?;
                    headers.push(pair("Content-MD5", md5));
                }
                Checksum::None => {}
            }
            let call = Call {
                headers,
                payload: Payload::Staged(staged, 0..staged.len()),
                sha256: Some(staged.sha256()),
                ..Call::new(UPLOAD, "PUT", Some(key))
            };
            match self.call_without_content(&call) {
                Err(failure)
                    if self.checksum == Checksum::Sha256
                        && failure
                            .refusal()
                            .is_some_and(|refusal| refusal.is_about_checksums()) =>
                {
                    self.checksum = Checksum::Md5;
                }
                other => return other,
            }
        }
    }

    /// Starts an upload in parts.
    pub(super) fn begin_parts(
        &mut self,
        key: &[u8],
        headers: &Headers,
        spool_directory: &Path,
    ) -> std::result::Result<Parts, Failure> {
        let query: [(&str, &[u8]); 1] = [("uploads", b"")];
        let call = Call {
            headers: headers.clone(),
            query: &query,
            payload: Payload::Bytes(b""),
            ..Call::new(UPLOAD, "POST", Some(key))
        };
        let answer = self.answer(&call)?;
        let is_id =
            |id: &str| (1..=2048).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
        let Some(id) = answer.upload_id.filter(|id| is_id(id)) else {
            return Err(Failure::Broken(self.malformed(key, "it has no number of the upload")));
        };
        let mut list = Staged::new(spool_directory);
        list.write(b"<CompleteMultipartUpload>").map_err(Failure::Broken)?;
        Ok(Parts { key: key.to_vec(), id, list, count: 0 })
    }

    /// Adds a part: a range of what was staged.
    pub(super) fn add_part(
        &mut self,
        parts: &mut Parts,
        staged: &Staged,
        range: Range<u64>,
    ) -> std::result::Result<(), Failure> {
        if parts.count == PARTS_MAX {
            let rule = "it became longer than it said, and has too many parts";
            let shown = self.place.shown(Some(&parts.key));
            let error = HostsError::rule(HostErrorKind::Other, UPLOAD, &shown, rule);
            return Err(Failure::Broken(error));
        }
        parts.count += 1;
        let number = parts.count.to_string();
        let mut sha256 = Sha256::new();
        staged
            .pieces(range.start, range.end - range.start, |piece| sha256.update(piece))
            .map_err(Failure::Broken)?;
        let query: [(&str, &[u8]); 2] =
            [("partNumber", number.as_bytes()), ("uploadId", parts.id.as_bytes())];
        // Object Lock asks for it; and every server knows this one.
        let md5 = md5_of(staged, range.clone()).map_err(Failure::Broken)?;
        let call = Call {
            query: &query,
            payload: Payload::Staged(staged, range),
            sha256: Some(sha256.finalize().into()),
            ..Call::new(UPLOAD, "PUT", Some(&parts.key)).header("Content-MD5", md5)
        };
        let response = self.call(&call)?;
        let tag = response.head().header("etag").filter(|tag| is_tag(tag)).map(str::to_owned);
        self.finish(response);
        let Some(tag) = tag else {
            return Err(Failure::Broken(self.malformed(&parts.key, "a part has no tag")));
        };
        let tag = tag.replace('"', "&quot;");
        let line = format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>");
        parts.list.write(line.as_bytes()).map_err(Failure::Broken)
    }

    /// Makes an object of the parts.
    pub(super) fn complete_parts(&mut self, mut parts: Parts) -> std::result::Result<(), Failure> {
        let completed = parts
            .list
            .write(b"</CompleteMultipartUpload>")
            .map_err(Failure::Broken)
            .and_then(|()| self.try_complete(&parts));
        if completed.is_err() {
            self.abort_parts(&parts);
        }
        completed
    }

    fn try_complete(&mut self, parts: &Parts) -> std::result::Result<(), Failure> {
        let query: [(&str, &[u8]); 1] = [("uploadId", parts.id.as_bytes())];
        let call = Call {
            query: &query,
            payload: Payload::Staged(&parts.list, 0..parts.list.len()),
            sha256: Some(parts.list.sha256()),
            ..Call::new(UPLOAD, "POST", Some(&parts.key)).header("Content-Type", "application/xml")
        };
        // The server says that all is well, and may think better of it.
        let answer = self.answer(&call)?;
        match answer.error {
            None => Ok(()),
            Some(words) => {
                let shown = self.place.shown(Some(&parts.key));
                Err(Failure::Broken(HostsError::remote(
                    HostErrorKind::Other,
                    UPLOAD,
                    &shown,
                    words,
                )))
            }
        }
    }

    /// Forgets an upload in parts: they would be kept, and paid for.
    pub(super) fn abort_parts(&mut self, parts: &Parts) {
        let query: [(&str, &[u8]); 1] = [("uploadId", parts.id.as_bytes())];
        let call = Call { query: &query, ..Call::new(UPLOAD, "DELETE", Some(&parts.key)) };
        // Nothing can be done about it: the error that led here is told.
        let _ = self.call_without_content(&call);
    }

    /// Makes the bucket. One that is ours already is left as it is.
    pub(super) fn make_bucket(&mut self, spool_directory: &Path, with_lock: bool) -> Result<()> {
        let mut staged = Staged::new(spool_directory);
        // This one has no name there.
        if self.region != "us-east-1" {
            let body = format!(
                "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                 <LocationConstraint>{}</LocationConstraint></CreateBucketConfiguration>",
                self.region
            );
            staged.write(body.as_bytes())?;
        }
        let mut call = Call {
            payload: Payload::Staged(&staged, 0..staged.len()),
            sha256: Some(staged.sha256()),
            ..Call::new("make the bucket", "PUT", None)
        };
        if with_lock {
            call = call.header("x-amz-bucket-object-lock-enabled", "true");
        }
        match self.call_without_content(&call) {
            Err(failure)
                if failure.refusal().is_some_and(|r| r.code == "BucketAlreadyOwnedByYou") =>
            {
                Ok(())
            }
            other => Ok(other?),
        }
    }

    /// Makes an object of another one, on the server. With headers they replace
    /// those of the other.
    pub(super) fn copy(&mut self, from: &[u8], to: &[u8], headers: Option<&Headers>) -> Result<()> {
        let source = format!("/{}/{}", self.place.bucket, escaped(from, true));
        let directive = if headers.is_some() { "REPLACE" } else { "COPY" };
        let mut call = Call {
            headers: headers.cloned().unwrap_or_default(),
            payload: Payload::Bytes(b""),
            ..Call::new("copy to", "PUT", Some(to))
        }
        .header("x-amz-copy-source", source)
        .header("x-amz-metadata-directive", directive);
        for (name, value) in self.encryption() {
            let name = name.replace("x-amz-", "x-amz-copy-source-");
            call.headers.push((name, value.clone()));
        }
        match self.answer(&call)?.error {
            None => Ok(()),
            Some(words) => {
                let shown = self.place.shown(Some(to));
                Err(HostsError::remote(HostErrorKind::Other, "copy to", &shown, words))
            }
        }
    }

    fn answer(&mut self, call: &Call<'_>) -> std::result::Result<Answer, Failure> {
        let mut response = self.call(call)?;
        let text = response.read_start(REFUSAL_BYTES_MAX);
        let text = text.map_err(|error| Failure::Broken(self.broken(error, call)))?;
        self.finish(response);
        let mut answer = Answer::default();
        let key = call.key.unwrap_or_default();
        match xml::read(&text[..], &mut answer) {
            Ok(()) => Ok(answer),
            Err(_) => Err(Failure::Broken(self.malformed(key, "it is no XML that is known"))),
        }
    }

    fn malformed(&self, key: &[u8], rule: &str) -> HostsError {
        let words = format_args!("the answer is not understood: {rule}");
        HostsError::remote(HostErrorKind::Other, UPLOAD, &self.place.shown(Some(key)), words)
    }
}

/// What the server says of an upload in parts.
#[derive(Debug, Default)]
struct Answer {
    upload_id: Option<String>,
    error: Option<String>,
}

impl Receiver for Answer {
    fn element(&mut self, parent: &str, name: &str, text: &str) -> Result<ControlFlow<()>> {
        match (parent, name) {
            // Servers differ in the name of the root.
            (_, "UploadId") => {
                self.upload_id = Some(text.trim().to_owned());
            }
            ("Error", "Code" | "Message") => {
                let words = self.error.get_or_insert_with(String::new);
                words.push_str(text.trim());
                words.push(' ');
            }
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Whether it can be the tag of a part, and goes into XML as it is.
fn is_tag(tag: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_graphic() && !b"<>&".contains(&byte);
    (1..=256).contains(&tag.len()) && tag.bytes().all(is_letter)
}

/// MD5 of a part, in base64.
fn md5_of(staged: &Staged, range: Range<u64>) -> Result<String> {
    let mut hasher = md5::Context::new();
    staged.pieces(range.start, range.end - range.start, |piece| hasher.consume(piece))?;
    Ok(base64(&hasher.finalize().0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_few_enough() {
        assert_eq!(part_bytes(0), PART_BYTES_MIN);
        for size in [1u64 << 30, 1 << 40, 5 << 40] {
            assert!(size.div_ceil(part_bytes(size)) < PARTS_MAX);
        }
        assert!(part_bytes(5 << 40) < 600 << 20);
    }
}
