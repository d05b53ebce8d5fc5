//! `@NAME:SUB`: an entry, and a place below or in the place of its own.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use crate::location::split_scheme;

/// What begins `@NAME`.
const MARK: u8 = b'@';

/// Whether a location is the name of an entry.
pub(crate) fn is_name(text: &OsStr) -> bool {
    text.as_bytes().first() == Some(&MARK)
}

/// The name, and what follows its colon.
pub(crate) fn split(text: &OsStr) -> (&OsStr, &OsStr) {
    let bytes = text.as_bytes();
    let bytes = bytes.strip_prefix(&[MARK]).unwrap_or(bytes);
    match bytes.iter().position(|byte| *byte == b':') {
        Some(colon) => (OsStr::from_bytes(&bytes[..colon]), OsStr::from_bytes(&bytes[colon + 1..])),
        None => (OsStr::from_bytes(bytes), OsStr::new("")),
    }
}

/// The location with `sub` below it, or in the place of its path if `sub` is
/// absolute, as in stock.
pub(crate) fn below(location: &OsStr, sub: &OsStr) -> OsString {
    if sub.is_empty() {
        return location.to_owned();
    }
    let bytes = location.as_bytes();
    let (scheme, _) = split_scheme(location);
    let local =
        scheme.is_none_or(|scheme| matches!(scheme, "fs" | "file" | "ptar" | "sqlite" | "rclone"));
    let start = scheme.map_or(0, |scheme| scheme.len() + 1);
    let has_slashes = scheme.is_some() && bytes[start..].starts_with(b"//");
    let start = if has_slashes { start + 2 } else { start };
    // A server has its host before the path, and rclone a remote.
    let path = if scheme == Some("rclone") {
        let colon = bytes[start..].iter().position(|byte| *byte == b':');
        colon.map_or(start, |colon| start + colon + 1)
    } else if has_slashes && !local {
        let slash = bytes[start..].iter().position(|byte| *byte == b'/');
        slash.map_or(bytes.len(), |slash| start + slash)
    } else {
        start
    };
    let has_host = path > start && !local;
    let encoded;
    let sub = if local {
        sub.as_bytes()
    } else {
        encoded = percent_encoded(sub.as_bytes());
        &encoded
    };
    let mut out = bytes[..path].to_vec();
    out.extend(joined(&bytes[path..], sub, has_host));
    OsString::from_vec(out)
}

/// `sub` below `base`, cleaned of `.`, `..` and empty names.
fn joined(base: &[u8], sub: &[u8], has_host: bool) -> Vec<u8> {
    let is_absolute = sub.starts_with(b"/");
    let base = if is_absolute { b"".as_slice() } else { base };
    let is_rooted = is_absolute || base.starts_with(b"/") || has_host;
    let mut names: Vec<&[u8]> = Vec::new();
    for name in base.split(|byte| *byte == b'/').chain(sub.split(|byte| *byte == b'/')) {
        match name {
            b"" | b"." => {}
            b".." if names.last().is_some_and(|last| *last != b"..") => drop(names.pop()),
            b".." if is_rooted => {}
            name => names.push(name),
        }
    }
    let path = names.join(&b'/');
    if is_rooted { [b"/", path.as_slice()].concat() } else { path }
}

/// As the path of a URL has it.
fn percent_encoded(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for byte in bytes {
        if matches!(byte, b'%' | b'?' | b'#' | b' ' | 0..=0x1f | 0x7f) {
            out.extend(format!("%{byte:02X}").into_bytes());
        } else {
            out.push(*byte);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (text, name, sub) in [
            ("@nas", "nas", ""),
            ("@nas:", "nas", ""),
            ("@nas:a:b", "nas", "a:b"),
            ("nas:/a", "nas", "/a"),
            ("@:/a", "", "/a"),
        ] {
            assert_eq!(split(OsStr::new(text)), (OsStr::new(name), OsStr::new(sub)), "{text}");
        }
        assert!(is_name(OsStr::new("@x")) && !is_name(OsStr::new("x@y")));
    }

    #[test]
    fn places() {
        for (location, sub, wanted) in [
            ("/srv", "", "/srv"),
            ("/srv", "a/b", "/srv/a/b"),
            ("/srv/", "../a//./b/", "/a/b"),
            ("/srv", "../../../a", "/a"),
            ("/srv", "/a", "/a"),
            ("/srv", "a b%", "/srv/a b%"),
            ("fs:/srv", "a", "fs:/srv/a"),
            ("fs:///srv", "a", "fs:///srv/a"),
            ("fs:///srv", "/a", "fs:///a"),
            ("fs:srv", "a", "fs:srv/a"),
            ("sftp://me@nas:22/srv", "a b%", "sftp://me@nas:22/srv/a%20b%25"),
            ("sftp://nas", "a", "sftp://nas/a"),
            ("sftp://nas/srv", "/a", "sftp://nas/a"),
            ("s3://host/bucket/x", "../../../a", "s3://host/a"),
            ("rclone://", "a/b", "rclone://a/b"),
            ("rclone://remote:", "a%", "rclone://remote:a%"),
            ("rclone://remote:dir/x", "a", "rclone://remote:dir/x/a"),
            ("rclone://remote:dir/x", "/a", "rclone://remote:/a"),
            ("sqlite:///srv", "a.db", "sqlite:///srv/a.db"),
        ] {
            assert_eq!(below(OsStr::new(location), OsStr::new(sub)), wanted, "{location} {sub}");
        }
        let odd = below(OsStr::new("/srv"), OsStr::from_bytes(b"\xff"));
        assert_eq!(odd.as_bytes(), b"/srv/\xff");
    }
}
