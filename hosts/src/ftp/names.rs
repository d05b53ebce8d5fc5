//! Names: bytes here, UTF-8 or Latin-1 at the server.

use tiroir_core::host::HostErrorKind;

use crate::error::HostsError;

/// A path as the server is told it.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn to_server(path: &[u8], latin1: bool) -> Result<Vec<u8>, &'static str> {
    if !latin1 {
        return Ok(path.to_vec());
    }
    let text = std::str::from_utf8(path).map_err(|_| "the name is not UTF-8")?;
    let letters = text.chars().map(|letter| u8::try_from(u32::from(letter)));
    letters.collect::<Result<_, _>>().map_err(|_| "the name has letters that Latin-1 has not")
}

/// Puts a name of the server's into `into`.
pub(super) fn from_server(name: &[u8], latin1: bool, into: &mut Vec<u8>) {
    into.clear();
    if latin1 {
        let mut bytes = [0; 4];
        for byte in name {
            into.extend_from_slice(char::from(*byte).encode_utf8(&mut bytes).as_bytes());
        }
    } else {
        into.extend_from_slice(name);
    }
}

/// Whether a name can be one: what a server says is not trusted.
pub(super) fn check(name: &[u8]) -> Result<(), HostsError> {
    let is_bad = |byte: &u8| matches!(byte, 0 | b'/' | b'\r' | b'\n');
    if name.is_empty() || matches!(name, b"." | b"..") || name.iter().any(is_bad) {
        let name = name.escape_ascii().to_string();
        let rule = "the server gave a name that none can have";
        return Err(HostsError::rule(HostErrorKind::Other, "take over", name.as_bytes(), rule));
    }
    Ok(())
}

/// The directory that something lies in, and its name there.
pub(super) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    let parent = if slash == 0 { &path[..1] } else { &path[..slash] };
    Some((parent, &path[slash + 1..])).filter(|(_, name)| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings() {
        let mut into = Vec::new();
        from_server(b"\xe9t\xe9", true, &mut into);
        assert_eq!(into, "été".as_bytes());
        assert_eq!(to_server("été".as_bytes(), true).unwrap(), b"\xe9t\xe9");
        assert!(to_server("€".as_bytes(), true).is_err());
        assert!(to_server(b"\xe9", true).is_err());
        assert_eq!(to_server(b"\xe9", false).unwrap(), b"\xe9");
        from_server(b"\xe9", false, &mut into);
        assert_eq!(into, b"\xe9");
    }

    #[test]
    fn names_and_paths() {
        for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\n", b"\r", b"a\0b"] {
            assert!(check(name).is_err());
        }
        assert!(check(b"a\nb").unwrap_err().to_string().contains("a\\nb"));
        assert!(check(b" ...").is_ok());
        assert_eq!(split(b"/a/b"), Some((&b"/a"[..], &b"b"[..])));
        assert_eq!(split(b"/a"), Some((&b"/"[..], &b"a"[..])));
        assert_eq!(split(b"/"), None);
    }
}
