//! Paths of a snapshot: absolute, clean, separated by `/`, of whatever bytes.

use crate::error::FormatError;

/// Whether `name` may be one component of a path.
#[must_use]
pub fn is_component(name: &[u8]) -> bool {
    !name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/') && !name.contains(&0)
}

/// Whether `path` is absolute and clean: `/`, or components without end slash.
#[must_use]
pub fn is_clean(path: &[u8]) -> bool {
    path == b"/"
        || path.strip_prefix(b"/").is_some_and(|rest| rest.split(|c| *c == b'/').all(is_component))
}

/// Writes `directory`/`name` into `out` and returns its length. An empty name
/// gives the directory itself, and an empty directory is the root.
///
/// # Errors
///
/// [`FormatError::Scratch`] when `out` is too small.
pub fn join(directory: &[u8], name: &[u8], out: &mut [u8]) -> Result<usize, FormatError> {
    let directory = directory.strip_suffix(b"/").unwrap_or(directory);
    let needed_bytes = directory.len() + 1 + name.len();
    if out.len() < needed_bytes {
        return Err(FormatError::Scratch { needed_bytes, lent_bytes: out.len() });
    }
    out[..directory.len()].copy_from_slice(directory);
    out[directory.len()] = b'/';
    out[directory.len() + 1..needed_bytes].copy_from_slice(name);
    let is_directory_alone = name.is_empty() && !directory.is_empty();
    Ok(if is_directory_alone { needed_bytes - 1 } else { needed_bytes })
}

/// Directory and name of a path; the root is its own directory.
#[must_use]
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        _ if path == b"/" => (b"/", b"/"),
        Some(0) => (b"/", &path[1..]),
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"/", path),
    }
}

/// Whether `path` is `directory` or lies below it.
#[must_use]
pub fn is_within(path: &[u8], directory: &[u8]) -> bool {
    directory == b"/"
        || path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(directory: &[u8], name: &[u8]) -> std::vec::Vec<u8> {
        let mut out = [0; 64];
        let len = join(directory, name, &mut out).unwrap();
        out[..len].to_vec()
    }

    #[test]
    fn join_and_split() {
        assert_eq!(joined(b"/", b"a"), b"/a");
        assert_eq!(joined(b"/a", b"b"), b"/a/b");
        assert_eq!(joined(b"/", b""), b"/");
        assert_eq!(joined(b"/a", b""), b"/a");
        assert_eq!(split(b"/"), (&b"/"[..], &b"/"[..]));
        assert_eq!(split(b"/a"), (&b"/"[..], &b"a"[..]));
        assert_eq!(split(b"/a/b"), (&b"/a"[..], &b"b"[..]));
        assert!(join(b"/a", b"bc", &mut [0; 4]).is_err());
    }

    #[test]
    fn clean() {
        assert!(is_clean(b"/") && is_clean(b"/a/b"));
        for path in [&b""[..], b"a", b"/a/", b"//", b"/a//b", b"/./a", b"/a/..", b"/a\0"] {
            assert!(!is_clean(path));
        }
    }

    #[test]
    fn within() {
        assert!(is_within(b"/a/b", b"/a") && is_within(b"/a", b"/a") && is_within(b"/a", b"/"));
        assert!(!is_within(b"/ab", b"/a"));
    }
}
