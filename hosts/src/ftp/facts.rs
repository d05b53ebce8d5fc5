//! What a server says of itself (`FEAT`) and of its entries (`MLSD`, `MLST`):
//! RFC 3659, without any IO.

use super::listing::Listed;
use super::reply::Reply;
use super::when::{digits, parse_stamp};
use crate::remote::{EntryKind, Precision, RemoteEntry};

/// The facts that are asked for, in the letters of the commands.
const WANTED: [&str; 6] = ["type", "size", "modify", "unix.mode", "unix.uid", "unix.gid"];

/// What a server said that it can do.
#[expect(clippy::struct_excessive_bools, reason = "each is a word of the server")]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Features {
    pub(super) mlst: bool,
    pub(super) utf8: bool,
    /// Times can be set: `MFMT`.
    pub(super) mfmt: bool,
    /// Room that is left can be asked for.
    pub(super) avbl: bool,
    /// Argument for `OPTS MLST`, if something that is wanted is not told.
    pub(super) choice: Option<String>,
    /// All of it in its own words, one a line.
    pub(super) words: Vec<String>,
}

impl Features {
    /// Reads the reply to `FEAT`.
    pub(super) fn parse(reply: &Reply) -> Self {
        let mut features = Self::default();
        // The first and the last line are words around it.
        for line in reply.lines().filter(|line| line.starts_with(b" ")) {
            let line = String::from_utf8_lossy(line.trim_ascii()).into_owned();
            let (name, rest) = line.split_once(' ').unwrap_or((&line, ""));
            match name.to_ascii_uppercase().as_str() {
                "MLST" | "MLSD" => {
                    features.mlst = true;
                    features.choice = features.choice.or_else(|| choice_of(rest));
                }
                "UTF8" => features.utf8 = true,
                "MFMT" => features.mfmt = true,
                "AVBL" => features.avbl = true,
                _ => {}
            }
            features.words.push(line.chars().filter(|letter| !letter.is_control()).collect());
        }
        features
    }
}

/// What to choose of the facts a server has; those with a star it tells already.
fn choice_of(facts: &str) -> Option<String> {
    let facts = facts.to_ascii_lowercase();
    let has = |name: &str| facts.split(';').any(|fact| fact.trim_end_matches('*') == name);
    let told = |name: &str| facts.split(';').any(|fact| fact.strip_suffix('*') == Some(name));
    let missing = WANTED.iter().any(|name| has(name) && !told(name));
    missing.then(|| WANTED.iter().filter(|name| has(name)).map(|name| format!("{name};")).collect())
}

/// Reads a line of `MLSD`, or the inner one of a reply to `MLST`.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn parse_line(line: &[u8]) -> Result<Listed<'_>, &'static str> {
    // A name starts after the first blank, and may have any.
    let end = line.iter().position(|byte| *byte == b' ').ok_or("the line has no name")?;
    let (facts, name) = (&line[..end], &line[end + 1..]);
    if name.is_empty() {
        return Err("the line has no name");
    }
    let mut entry = RemoteEntry { kind: EntryKind::Other, ..RemoteEntry::default() };
    let mut is_self = matches!(name, b"." | b"..");
    for fact in facts.split(|byte| *byte == b';').filter(|fact| !fact.is_empty()) {
        let equals = fact.iter().position(|byte| *byte == b'=').ok_or("a fact has no value")?;
        let (key, value) = (fact[..equals].to_ascii_lowercase(), &fact[equals + 1..]);
        match key.as_slice() {
            b"type" => match value.to_ascii_lowercase().as_slice() {
                b"file" => entry.kind = EntryKind::File,
                b"dir" => entry.kind = EntryKind::Directory,
                b"cdir" | b"pdir" => (entry.kind, is_self) = (EntryKind::Directory, true),
                value if value.starts_with(b"os.unix=slink") || value == b"os.unix=symlink" => {
                    entry.kind = EntryKind::SymbolicLink;
                }
                _ => {}
            },
            b"size" => entry.size_bytes = parse_size(value),
            b"modify" => entry.mod_time = parse_stamp(value),
            b"unix.mode" => entry.permissions = parse_mode(value),
            b"unix.uid" => entry.uid = digits(value).map_or(0, u64::from),
            b"unix.gid" => entry.gid = digits(value).map_or(0, u64::from),
            _ => {}
        }
    }
    entry.precision = Precision::Second;
    if entry.kind != EntryKind::File {
        entry.size_bytes = None;
    }
    Ok(Listed { name, entry, is_self })
}

/// A number of bytes.
pub(super) fn parse_size(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn parse_mode(text: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(text).ok().filter(|text| !text.starts_with('+'))?;
    u32::from_str_radix(text, 8).ok().map(|mode| mode & 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features() {
        let text = b"Features:\n MDTM\n MLST type*;size*;modify*;UNIX.mode;UNIX.uid*;\n mfmt\n \
                     UTF8\n REST STREAM\n AVBL\nEnd\n";
        let features = Features::parse(&Reply { code: 211, text: text.to_vec() });
        assert!(features.mlst && features.utf8 && features.mfmt && features.avbl);
        assert_eq!(features.choice.as_deref(), Some("type;size;modify;unix.mode;unix.uid;"));
        assert_eq!(features.words.len(), 6);
        assert_eq!(choice_of("Type*;Size*;Modify*;Perm;"), None);
        assert_eq!(Features::parse(&Reply::default()), Features::default());
    }

    #[test]
    fn lines() {
        let line = b"type=file;size=12;modify=20200102030405.5;UNIX.mode=0640;UNIX.uid=7; a; b=c";
        let listed = parse_line(line).unwrap();
        assert_eq!(listed.name, b"a; b=c");
        assert!(!listed.is_self);
        assert_eq!(
            listed.entry,
            RemoteEntry {
                kind: EntryKind::File,
                size_bytes: Some(12),
                permissions: Some(0o640),
                mod_time: parse_stamp(b"20200102030405.5"),
                precision: Precision::Second,
                uid: 7,
                gid: 0,
            }
        );
        assert!(parse_line(b"Type=cdir;Modify=1; /home").unwrap().is_self);
        assert!(parse_line(b"type=dir; ..").unwrap().is_self);
        assert_eq!(parse_line(b"type=dir;size=9;  x").unwrap().name, b" x");
        let link = parse_line(b"type=OS.unix=slink:/etc/x; l").unwrap();
        assert_eq!(link.entry.kind, EntryKind::SymbolicLink);
        assert_eq!(parse_line(b"type=OS.unix=chr-1; l").unwrap().entry.kind, EntryKind::Other);
        assert_eq!(parse_line(b"Size=+1;Type=file; l").unwrap().entry.size_bytes, None);
        assert_eq!(parse_line(b" bare").unwrap().entry.kind, EntryKind::Other);
        for line in [&b""[..], b"type=file;", b"type=file; ", b"-rw-r--r-- 1 a b"] {
            assert!(parse_line(line).is_err(), "{}", line.escape_ascii());
        }
    }
}
