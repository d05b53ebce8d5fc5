//! What fuzz targets reach that is nobody else's business. These functions are
//! there under `--cfg fuzzing` only.

use crate::options::Options;

/// Reads a page of a listing of S3, and returns how many items it has.
#[must_use]
pub fn s3_page(bytes: &[u8], prefix: &[u8], is_escaped: bool) -> Option<usize> {
    crate::s3::parse_page(bytes, prefix, is_escaped)
}

/// Reads a refusal of S3, and puts it in words.
pub fn s3_refusal(status: u16, content: &[u8]) {
    crate::s3::parse_refusal(status, content);
}

/// Reads a location of S3, and makes keys and requests of it.
pub fn s3_location(text: &[u8], options: &Options) {
    crate::s3::parse_location(text, options);
}

/// Reads the head of an answer of HTTP, and says whether it is one.
#[must_use]
pub fn http_head(bytes: &[u8], method: &str) -> bool {
    crate::http::head::parse(bytes, method)
}

/// Reads the head of a request of HTTP, and what it asks of a store. Returns
/// whether it is one.
#[must_use]
pub fn http_request(bytes: &[u8]) -> bool {
    let Ok(request) = crate::http::server::Request::parse(bytes) else { return false };
    assert!(request.target().starts_with('/') && !request.target().contains(' '));
    assert!((1..=16).contains(&request.method().len()));
    assert!(request.target().len() <= bytes.len());
    crate::http::store_server::examine(&request);
    true
}

/// Reads the line before a piece of content, and returns the length of the piece.
#[must_use]
pub fn http_chunk(line: &[u8]) -> Option<u64> {
    crate::http::content::parse_chunk_length(line).ok()
}

/// Reads a list of names of a server of stores, and returns their number.
#[must_use]
pub fn http_names(bytes: &[u8]) -> Option<usize> {
    crate::http::store::names::NameList::parse(bytes)
}
