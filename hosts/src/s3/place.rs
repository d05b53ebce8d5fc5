//! [`Place`]: which bucket of which server, and which part of it.

use tiroir_core::host::HostErrorKind;
use tiroir_core::wire::path::is_component;

use super::sign::escaped;
use crate::address::Address;
use crate::error::{HostsError, Result};
use crate::http::Endpoint;
use crate::options::{Options, refused};

/// Longest name of a bucket, in bytes. New ones have 63 at most.
const BUCKET_BYTES_MAX: usize = 255;

/// Longest key, in bytes, as everywhere.
pub(super) const KEY_BYTES_MAX: usize = 1024;

/// What a location and its options say, as stock understands them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Place {
    /// Whom to ask.
    pub(super) endpoint: Endpoint,
    /// The host without the bucket's name.
    pub(super) host: String,
    pub(super) bucket: String,
    /// What all keys start with: empty, or without slashes at its ends.
    pub(super) prefix: Vec<u8>,
    /// The name of the bucket is in that of the host.
    pub(super) is_virtual: bool,
}

impl Place {
    /// Reads a location: `s3://HOST[:PORT]/BUCKET[/PREFIX]`. With the option
    /// `endpoint` the host of the location is the bucket, unless it is the
    /// endpoint itself. With `virtual_host` the bucket is a part of the host's
    /// name: that of the location if there is an `endpoint`, else it is put in
    /// front of it. `port` and `root` stand for those that the location lacks.
    pub(super) fn new(address: &Address, options: &Options) -> Result<Self> {
        let is_tls = options.text("use_tls").is_none() || options.flag("use_tls")?;
        let is_virtual = options.flag("virtual_host")?;
        let port = address.port.map_or_else(|| options.number("port"), |port| Ok(Some(port)))?;
        let mut endpoint = Endpoint { is_tls, host: address.host.clone(), port };
        let mut path = match options.text("root") {
            Some(root) => root.as_bytes().to_vec(),
            None => address.path.clone(),
        };
        let mut host = address.host.clone();
        let mut bucket = None;
        if let Some(other) = options.text("endpoint") {
            let other = parse_endpoint(other)?;
            if is_virtual {
                let suffix = format!(".{}", other.host);
                let rest = address.host.strip_suffix(&suffix).filter(|rest| !rest.is_empty());
                let rule = "the host of the location is BUCKET.ENDPOINT, or has no endpoint";
                bucket = Some(rest.ok_or_else(|| refused("endpoint", rule))?.to_owned());
                host = other.host;
            } else if other.host != address.host {
                path = [address.host.as_bytes(), b"/", &path].concat();
                endpoint.host = other.host.clone();
                host = other.host;
                endpoint.port = other.port.or(options.number("port")?);
            }
            endpoint.port = endpoint.port.or(other.port);
        }
        let mut parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        let bucket = match bucket {
            Some(bucket) => bucket,
            None => String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned(),
        };
        if !is_bucket(&bucket) {
            return Err(wrong(address, "a bucket follows the host: s3://HOST/BUCKET/PREFIX"));
        }
        let prefix: Vec<&[u8]> = parts.collect();
        if !prefix.iter().all(|part| is_component(part)) {
            return Err(wrong(address, "its prefix has a component `.` or `..`"));
        }
        let prefix = prefix.join(&b'/');
        if prefix.len() > KEY_BYTES_MAX - 128 {
            return Err(wrong(address, "its prefix is too long"));
        }
        if is_virtual && options.text("endpoint").is_none() {
            endpoint.host = format!("{bucket}.{}", endpoint.host);
        }
        Ok(Self { endpoint, host, bucket, prefix, is_virtual })
    }

    /// A name below the prefix.
    pub(super) fn key(&self, name: &str) -> Vec<u8> {
        let mut key = self.prefix.clone();
        if !key.is_empty() {
            key.push(b'/');
        }
        key.extend_from_slice(name.as_bytes());
        key
    }

    /// The path of a request for a key, or for the bucket, escaped.
    pub(super) fn target(&self, key: Option<&[u8]>) -> String {
        let key = escaped(key.unwrap_or_default(), true);
        if self.is_virtual { format!("/{key}") } else { format!("/{}/{key}", self.bucket) }
    }

    /// How a key is shown to people.
    pub(super) fn shown(&self, key: Option<&[u8]>) -> Vec<u8> {
        let place = Endpoint { host: self.host.clone(), ..self.endpoint.clone() }.authority();
        let mut shown = format!("s3://{place}/{}", self.bucket).into_bytes();
        if let Some(key) = key {
            shown.push(b'/');
            shown.extend_from_slice(key.escape_ascii().to_string().as_bytes());
        }
        shown
    }
}

/// A host with a port, or the URL of one.
fn parse_endpoint(text: &str) -> Result<Address> {
    let text = text.trim();
    let text =
        text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    Address::parse(text.trim_end_matches('/').trim_start_matches('.').as_bytes())
}

fn is_bucket(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (1..=BUCKET_BYTES_MAX).contains(&name.len())
        && name.bytes().all(is_letter)
        && !name.starts_with('.')
}

fn wrong(address: &Address, rule: &'static str) -> HostsError {
    let shown = address.to_string();
    HostsError::rule(HostErrorKind::Other, "understand the location", shown.as_bytes(), rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(location: &str, options: &[(&str, &str)]) -> Result<Place> {
        let options = options.iter().copied().collect();
        Place::new(&Address::parse(location.as_bytes())?, &options)
    }

    #[test]
    fn as_stock_reads_them() {
        let plain = place("nas:9000/bucket/a/b/", &[]).unwrap();
        assert_eq!((plain.bucket.as_str(), plain.prefix.as_slice()), ("bucket", &b"a/b"[..]));
        assert_eq!(plain.endpoint.authority(), "nas:9000");
        assert_eq!(plain.target(Some(b"a/b/x y")), "/bucket/a/b/x%20y");
        assert_eq!(plain.key("CONFIG"), b"a/b/CONFIG");
        assert_eq!(plain.shown(Some(b"k\n")), b"s3://nas:9000/bucket/k\\n");
        let bare = place("nas/bucket", &[("port", "81"), ("use_tls", "false")]).unwrap();
        assert_eq!((bare.endpoint.authority().as_str(), bare.key("x")), ("nas:81", b"x".to_vec()));

        let named = place("bucket/a", &[("endpoint", "https://s3.example/")]).unwrap();
        assert_eq!((named.bucket.as_str(), named.endpoint.host.as_str()), ("bucket", "s3.example"));
        assert_eq!(named.target(None), "/bucket/");
        let same = place("s3.example/bucket/a", &[("endpoint", "s3.example")]).unwrap();
        assert_eq!(same.bucket, "bucket");
        let root = place("nas", &[("root", "/bucket/c")]).unwrap();
        assert_eq!((root.bucket.as_str(), root.prefix.as_slice()), ("bucket", &b"c"[..]));

        let options = [("virtual_host", "true"), ("endpoint", "s3.example")];
        let virtual_host = place("my.bucket.s3.example/a", &options).unwrap();
        assert_eq!(virtual_host.bucket, "my.bucket");
        assert_eq!(virtual_host.endpoint.authority(), "my.bucket.s3.example");
        assert_eq!(virtual_host.target(Some(b"a/x")), "/a/x");
        let put_in_front = place("s3.example/b/a", &options[..1]).unwrap();
        assert_eq!(put_in_front.endpoint.authority(), "b.s3.example");
        assert_eq!(put_in_front.shown(None), b"s3://s3.example/b");
    }

    #[test]
    fn what_is_refused() {
        for location in
            ["nas", "nas/", "nas/.b", "nas/b%3fc", "nas/b/../c", "nas/b/./c", "nas/bu cket"]
        {
            assert!(place(location, &[]).is_err(), "{location}");
        }
        assert!(place("other/a", &[("virtual_host", "1"), ("endpoint", "s3.example")]).is_err());
        let long = format!("nas/b/{}", "x".repeat(2000));
        assert!(place(&long, &[]).is_err());
    }
}
