//! Which key a server must have: OpenSSH's files of known hosts.
//!
//! A line is `[@marker] PATTERNS TYPE KEY [COMMENT]`: patterns with `*`, `?` and
//! `!`, `[host]:port` where the port is not 22, or a name that is hashed:
//! `|1|SALT|HASH`, HMAC-SHA1. The markers are `@cert-authority`, whose key signs
//! certificates of hosts, and `@revoked`.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use russh::keys::ssh_key::PublicKey;
use sha1::Sha1;

use super::config::matches_pattern;
use crate::error::{Context as _, Result};

/// Longest line that is looked at, in bytes: RSA keys of 16384 bits fit.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Most keys of one host that are kept.
const KEYS_MAX: usize = 32;

/// What a line says of its key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Marker {
    /// The host has it.
    Host,
    /// It signs certificates of hosts.
    Authority,
    /// Nobody may have it any more.
    Revoked,
}

/// A key that is known of a host.
#[derive(Clone, Debug)]
pub struct Known {
    /// What the line says of it.
    pub marker: Marker,
    /// The key.
    pub key: PublicKey,
    /// Where that is written: a file and the number of a line, from 1.
    pub place: (PathBuf, u64),
}

/// The name under which a host is known.
#[must_use]
pub fn host_name(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

/// All that the files say of the host known as `name`. Files that are not there
/// say nothing, and lines that are not understood either.
///
/// # Errors
///
/// A file that is there and cannot be read.
pub fn known(files: &[PathBuf], name: &str) -> Result<Vec<Known>> {
    let mut found = Vec::new();
    for path in files {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => BufReader::new(other.at("open", path)?),
        };
        read_lines(file, &mut |number, line| {
            if found.len() < KEYS_MAX
                && let Some((marker, key)) = parse_line(line, name)
            {
                found.push(Known { marker, key, place: (path.clone(), number) });
            }
        })
        .at("read", path)?;
    }
    Ok(found)
}

/// Calls `each` with every line that is not too long, and its number.
fn read_lines(mut file: impl io::BufRead, each: &mut dyn FnMut(u64, &str)) -> io::Result<()> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let bound = LINE_BYTES_MAX as u64;
        if file.by_ref().take(bound).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.len() == LINE_BYTES_MAX && !line.ends_with(b"\n") {
            file.skip_until(b'\n')?;
            continue;
        }
        if let Ok(text) = std::str::from_utf8(&line) {
            each(number, text.trim());
        }
    }
    Ok(())
}

/// What a line says of the host known as `name`, if anything.
#[must_use]
pub fn parse_line(line: &str, name: &str) -> Option<(Marker, PublicKey)> {
    if line.starts_with('#') {
        return None;
    }
    let mut words = line.split_ascii_whitespace();
    let mut first = words.next()?;
    let marker = match first.strip_prefix('@') {
        None => Marker::Host,
        Some(marker) => {
            first = words.next()?;
            match marker {
                "cert-authority" => Marker::Authority,
                "revoked" => Marker::Revoked,
                _ => return None,
            }
        }
    };
    if !matches_hosts(first, name) {
        return None;
    }
    let (kind, key) = (words.next()?, words.next()?);
    let key = PublicKey::from_openssh(&format!("{kind} {key}")).ok()?;
    Some((marker, key))
}

/// Whether patterns, or a hash, are of that name.
fn matches_hosts(patterns: &str, name: &str) -> bool {
    if let Some(hashed) = patterns.strip_prefix("|1|") {
        return matches_hash(hashed, name).unwrap_or(false);
    }
    let mut matched = false;
    for pattern in patterns.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches_pattern(pattern, name) => return false,
            Some(_) => {}
            None => matched |= matches_pattern(pattern, name),
        }
    }
    matched
}

fn matches_hash(hashed: &str, name: &str) -> Option<bool> {
    let (salt, hash) = hashed.split_once('|')?;
    let salt = Base64::decode_vec(salt).ok()?;
    let hash = Base64::decode_vec(hash).ok()?;
    let mut mac = Hmac::<Sha1>::new_from_slice(&salt).ok()?;
    mac.update(name.as_bytes());
    Some(mac.verify_slice(&hash).is_ok())
}

/// Adds a key of a host to a file, which is made if need be, for us alone.
///
/// # Errors
///
/// Of the system.
pub fn learn(path: &Path, name: &str, key: &PublicKey) -> Result<()> {
    if let Some(directory) = path.parent() {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.at("make directory", directory)?;
    }
    let open = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path);
    let mut file = open.at("open", path)?;
    let line = key.to_openssh().map_err(io::Error::other).at("write", path)?;
    // A file that was edited by hand may lack its last line end.
    let mut last = Vec::new();
    use std::os::unix::fs::FileExt as _;
    let length = file.metadata().at("inspect", path)?.len();
    if length > 0 {
        last.resize(1, 0);
        file.read_exact_at(&mut last, length - 1).at("read", path)?;
    }
    let start = if matches!(last.as_slice(), [] | [b'\n']) { "" } else { "\n" };
    // The comment of a key is its owner's, who may write anything.
    let mut words = line.split_ascii_whitespace();
    let (kind, text) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let line = format!("{start}{name} {kind} {text}\n");
    file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).at("write", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    #[test]
    fn lines_of_all_kinds() {
        let is_of = |hosts: &str, name: &str| {
            parse_line(&format!("{hosts} {ED25519} comment"), name).map(|(marker, _)| marker)
        };
        assert_eq!(is_of("nas.local", "nas.local"), Some(Marker::Host));
        assert_eq!(is_of("nas,other,10.0.0.?", "10.0.0.7"), Some(Marker::Host));
        assert_eq!(is_of("*.local,!nas.local", "nas.local"), None);
        assert_eq!(is_of("*.local,!nas.local", "a.local"), Some(Marker::Host));
        assert_eq!(is_of("[nas.local]:2222", "[nas.local]:2222"), Some(Marker::Host));
        assert_eq!(is_of("[nas.local]:2222", "nas.local"), None);
        assert_eq!(is_of("@cert-authority *", "any"), Some(Marker::Authority));
        assert_eq!(is_of("@revoked *", "any"), Some(Marker::Revoked));
        assert_eq!(is_of("@what *", "any"), None);
        assert_eq!(is_of("# nas", "nas"), None);
        for line in ["", "nas", "nas ssh-ed25519", "nas ssh-ed25519 ###", "@revoked"] {
            assert!(parse_line(line, "nas").is_none(), "{line}");
        }
    }

    /// Made by `ssh-keygen -H` for the name `nas.local`.
    #[test]
    fn hashed_names() {
        let salt = [7_u8; 20];
        let mut mac = Hmac::<Sha1>::new_from_slice(&salt).unwrap();
        mac.update(b"nas.local");
        let hash = Base64::encode_string(&mac.finalize().into_bytes());
        let line = format!("|1|{}|{hash} {ED25519}", Base64::encode_string(&salt));
        assert!(parse_line(&line, "nas.local").is_some());
        assert!(parse_line(&line, "nas").is_none());
        assert!(parse_line(&format!("|1|x|y {ED25519}"), "nas").is_none());
    }

    #[test]
    fn what_is_learnt_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/known_hosts");
        let key = PublicKey::from_openssh(ED25519).unwrap();
        let name = host_name("NAS.local", 2222);
        assert!(known(std::slice::from_ref(&path), &name).unwrap().is_empty());
        learn(&path, &name, &key).unwrap();
        std::fs::write(&path, std::fs::read_to_string(&path).unwrap().trim_end()).unwrap();
        learn(&path, "other", &key).unwrap();
        let long = format!("{}\n", "x".repeat(3 * LINE_BYTES_MAX));
        let text = long + &std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text).unwrap();
        let found = known(std::slice::from_ref(&path), "[nas.local]:2222").unwrap();
        assert_eq!((found.len(), found[0].place.1), (1, 2));
        assert_eq!(found[0].key.key_data(), key.key_data());
        assert_eq!(known(&[path], "other").unwrap()[0].place.1, 3);
    }
}
