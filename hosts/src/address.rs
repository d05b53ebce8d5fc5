//! [`Address`]: where a server is, as a location says it.

use std::fmt;

use tiroir_core::host::HostErrorKind;
use zeroize::Zeroizing;

use crate::error::{HostsError, Result};

/// Longest location, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 16 * 1024;

/// What follows the scheme of a location: `[user[:password]@]host[:port][/path]`.
///
/// As URLs have it: `%` and two digits stand for a byte in user, password and
/// path. Shown without the password.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Address {
    /// Who logs in.
    pub user: Option<String>,
    /// With what.
    pub password: Option<Zeroizing<String>>,
    /// Name or number of the host, an IPv6 address without its brackets. Never
    /// empty.
    pub host: String,
    /// Port, if it is not that of the protocol.
    pub port: Option<u16>,
    /// Path on the server, with its first slash; empty if there is none.
    pub path: Vec<u8>,
}

impl Address {
    /// Reads what follows `SCHEME://`.
    ///
    /// # Errors
    ///
    /// A host that is missing, a port that is no number, a line end or a zero
    /// byte anywhere, `%` without two digits.
    pub fn parse(text: &[u8]) -> Result<Self> {
        if text.len() > ADDRESS_BYTES_MAX {
            return Err(refused(b"", "it is too long"));
        }
        let slash = text.iter().position(|byte| *byte == b'/').unwrap_or(text.len());
        let (authority, path) = text.split_at(slash);
        let at = authority.iter().rposition(|byte| *byte == b'@');
        let (login, place) = match at {
            Some(at) => (Some(&authority[..at]), &authority[at + 1..]),
            None => (None, authority),
        };
        let mut address = Self { path: decoded(path)?, ..Self::default() };
        if let Some(login) = login {
            let mut parts = login.splitn(2, |byte| *byte == b':');
            address.user = parts.next().filter(|user| !user.is_empty()).map(text_of).transpose()?;
            let password = parts.next().filter(|password| !password.is_empty());
            address.password = password.map(text_of).transpose()?.map(Zeroizing::new);
        }
        (address.host, address.port) = host_and_port(place)?;
        Ok(address)
    }

    /// The host, and the port if one was given: what stock calls the origin.
    #[must_use]
    pub fn origin(&self) -> String {
        let bracketed = self.host.contains(':');
        let (open, close) = if bracketed { ("[", "]") } else { ("", "") };
        match self.port {
            Some(port) => format!("{open}{}{close}:{port}", self.host),
            None => format!("{open}{}{close}", self.host),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        write!(f, "{}{}", self.origin(), self.path.escape_ascii())
    }
}

fn host_and_port(place: &[u8]) -> Result<(String, Option<u16>)> {
    let (host, port) = if let Some(rest) = place.strip_prefix(b"[") {
        let end = rest.iter().position(|byte| *byte == b']');
        let (host, rest) = rest.split_at(end.ok_or_else(|| refused(place, "`]` is missing"))?);
        let port = match &rest[1..] {
            [] => None,
            [b':', port @ ..] => Some(port),
            _ => return Err(refused(place, "a port follows `:`")),
        };
        (host, port)
    } else {
        let mut parts = place.splitn(2, |byte| *byte == b':');
        (parts.next().unwrap_or_default(), parts.next())
    };
    let host = std::str::from_utf8(host).ok().filter(|host| is_host(host));
    let host = host.ok_or_else(|| refused(place, "it names no host"))?;
    // As in URLs, nothing may follow the colon.
    let port = match port {
        None | Some([]) => None,
        Some(digits) => {
            let number = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok());
            Some(number.ok_or_else(|| refused(place, "the port is a number up to 65535"))?)
        }
    };
    Ok((host.to_owned(), port))
}

/// Whether it can be the name or the number of a host.
fn is_host(host: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:%".contains(&byte);
    // A dash in front would be an option to whatever program is given it.
    !host.is_empty() && !host.starts_with('-') && host.bytes().all(is_letter)
}

fn text_of(bytes: &[u8]) -> Result<String> {
    String::from_utf8(decoded(bytes)?).map_err(|_| refused(b"", "the login is not UTF-8"))
}

/// Puts bytes in the place of `%` and two digits.
fn decoded(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let (byte, used) = if byte == b'%' {
            let digits =
                bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
            let value = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            (value.ok_or_else(|| refused(b"", "two digits follow `%`"))?, 3)
        } else {
            (byte, 1)
        };
        if matches!(byte, 0 | b'\r' | b'\n') {
            return Err(refused(b"", "it has a line end or a zero byte"));
        }
        out.push(byte);
        at += used;
    }
    Ok(out)
}

/// `place` is shown: never anything with a password in it.
fn refused(place: &[u8], rule: &'static str) -> HostsError {
    HostsError::rule(HostErrorKind::Other, "understand the location", place, rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let full = Address::parse(b"me%40home:a%3ab@nas.local:2222/srv/a%20b").unwrap();
        assert_eq!(full.user.as_deref(), Some("me@home"));
        assert_eq!(full.password.as_ref().map(|text| text.as_str()), Some("a:b"));
        assert_eq!((full.host.as_str(), full.port), ("nas.local", Some(2222)));
        assert_eq!(full.path, b"/srv/a b");
        assert_eq!(full.to_string(), "me@home@nas.local:2222/srv/a b");
        assert!(!format!("{full:?}").contains("a:b"));
        let bare = Address::parse(b"nas").unwrap();
        assert_eq!((bare.user, bare.port, bare.path), (None, None, Vec::new()));
        let six = Address::parse(b"[fe80::1%eth0]:21/").unwrap();
        assert_eq!((six.host.as_str(), six.port), ("fe80::1%eth0", Some(21)));
        assert_eq!(six.origin(), "[fe80::1%eth0]:21");
        assert_eq!(Address::parse(b"nas:/x").unwrap().port, None);
    }

    #[test]
    fn what_is_refused() {
        for text in [
            &b""[..],
            b"/srv",
            b"a@",
            b"nas:99999",
            b"nas:-1",
            b"nas:x",
            b"[::1",
            b"[::1]x",
            b"-oX/",
            b"n as",
            b"nas/%",
            b"nas/%0a",
            b"nas/%zz",
            b"nas/\n",
            b"u%00@nas",
        ] {
            assert!(Address::parse(text).is_err(), "{}", text.escape_ascii());
        }
        let error = Address::parse(b"me:hunter2@nas:x").unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }
}
