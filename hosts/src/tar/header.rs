//! The headers of one entry: a block of ustar, and before it one of pax for what
//! does not fit there.

use std::io::Write as _;

use tiroir_core::time::Timestamp;

/// Bytes of a block.
pub(super) const BLOCK_BYTES: usize = 512;

/// Most that eleven octal digits hold: sizes and times.
const OCTAL_11_MAX: u64 = (1 << 33) - 1;

/// Most that seven do: owners and groups.
const OCTAL_7_MAX: u64 = (1 << 21) - 1;

/// Longest name and target in the block of ustar.
const NAME_BYTES: usize = 100;

/// Longest part of a name before its last slashes there.
const PREFIX_BYTES: usize = 155;

/// Room for the names of owner and group there, with a zero byte.
const ACCOUNT_BYTES: usize = 32;

/// What an entry is: the letter of its type.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    File,
    HardLink,
    SymbolicLink,
    Directory,
    Fifo,
}

impl Kind {
    fn letter(self) -> u8 {
        match self {
            Self::File => b'0',
            Self::HardLink => b'1',
            Self::SymbolicLink => b'2',
            Self::Directory => b'5',
            Self::Fifo => b'6',
        }
    }
}

/// All that a header says, but for extended attributes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header<'h> {
    pub(super) kind: Kind,
    pub(super) path: &'h [u8],
    /// Target of a link.
    pub(super) target: &'h [u8],
    pub(super) size_bytes: u64,
    /// The twelve lower bits of a Unix mode.
    pub(super) permissions: u32,
    pub(super) mod_time: Timestamp,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) username: &'h [u8],
    pub(super) groupname: &'h [u8],
}

impl Header<'_> {
    /// Appends the blocks of the header to `into`; `xattrs` are records of pax,
    /// made by [`xattr_record`].
    pub(super) fn emit(&self, xattrs: &[u8], into: &mut Vec<u8>) {
        let mut records = Vec::with_capacity(256 + xattrs.len());
        let is_binary = [self.path, self.target, self.username, self.groupname]
            .iter()
            .any(|text| std::str::from_utf8(text).is_err());
        let (prefix, name) = match split(self.path) {
            Some(parts) => parts,
            None => {
                record(&mut records, b"path", self.path);
                (&[][..], &self.path[..NAME_BYTES])
            }
        };
        if self.target.len() > NAME_BYTES {
            record(&mut records, b"linkpath", self.target);
        }
        for (key, value, max) in [
            ("size", self.size_bytes, OCTAL_11_MAX),
            ("uid", self.uid, OCTAL_7_MAX),
            ("gid", self.gid, OCTAL_7_MAX),
        ] {
            if value > max {
                record(&mut records, key.as_bytes(), value.to_string().as_bytes());
            }
        }
        for (key, value) in [("uname", self.username), ("gname", self.groupname)] {
            if value.len() >= ACCOUNT_BYTES {
                record(&mut records, key.as_bytes(), value);
            }
        }
        let secs = u64::try_from(self.mod_time.secs).ok().filter(|secs| *secs <= OCTAL_11_MAX);
        if secs.is_none() || self.mod_time.nanos != 0 {
            record(&mut records, b"mtime", decimal(self.mod_time).as_bytes());
        }
        records.extend_from_slice(xattrs);
        if !records.is_empty() {
            // Without it, readers of pax take names for UTF-8.
            let mut all = Vec::with_capacity(records.len() + 32);
            if is_binary {
                record(&mut all, b"hdrcharset", b"BINARY");
            }
            all.extend_from_slice(&records);
            let block = Block::new(b'x').name(&[], b"PaxHeaders").numbers(self, all.len() as u64);
            block.emit(into);
            pad(&mut all);
            into.extend_from_slice(&all);
        }
        let size = if self.size_bytes > OCTAL_11_MAX { 0 } else { self.size_bytes };
        let mut block = Block::new(self.kind.letter()).name(prefix, name).numbers(self, size);
        block.text(157, &self.target[..self.target.len().min(NAME_BYTES)]);
        block.emit(into);
    }
}

/// Appends a record of pax: its own length, key and value.
fn record(into: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // A blank, an equals sign and a line end.
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    let _ = write!(into, "{length} ");
    into.extend_from_slice(key);
    into.push(b'=');
    into.extend_from_slice(value);
    into.push(b'\n');
}

/// Appends the record of an extended attribute, in the words of star, which GNU tar
/// and libarchive read.
pub(super) fn xattr_record(into: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let mut key = b"SCHILY.xattr.".to_vec();
    for byte in name {
        // As GNU tar does: the key ends at the first equals sign.
        match byte {
            b'%' => key.extend_from_slice(b"%25"),
            b'=' => key.extend_from_slice(b"%3D"),
            other => key.push(*other),
        }
    }
    record(into, &key, value);
}

/// A path as prefix and name, if it fits so.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= NAME_BYTES {
        return Some((&[], path));
    }
    // The slash between is written by neither; one at the end belongs to the name.
    let first = path.len().checked_sub(NAME_BYTES + 1)?;
    let last = PREFIX_BYTES.min(path.len().saturating_sub(2));
    let slash = (first.max(1)..=last).find(|at| path[*at] == b'/')?;
    Some((&path[..slash], &path[slash + 1..]))
}

/// Seconds with nine decimals.
fn decimal(time: Timestamp) -> String {
    let nanos = i128::from(time.secs) * 1_000_000_000 + i128::from(time.nanos);
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    format!("{sign}{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

/// Zero bytes up to a whole block.
pub(super) fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
}

/// A block of ustar.
struct Block([u8; BLOCK_BYTES]);

impl Block {
    fn new(letter: u8) -> Self {
        let mut this = Self([0; BLOCK_BYTES]);
        this.0[156] = letter;
        this.text(257, b"ustar\x0000");
        this
    }

    fn text(&mut self, at: usize, text: &[u8]) {
        self.0[at..at + text.len()].copy_from_slice(text);
    }

    fn name(mut self, prefix: &[u8], name: &[u8]) -> Self {
        self.text(0, name);
        self.text(345, prefix);
        self
    }

    /// Zero where a number has too many digits: pax has it then.
    fn octal(&mut self, at: usize, digits: usize, value: u64) {
        let text = format!("{value:0digits$o}");
        if text.len() == digits {
            self.text(at, text.as_bytes());
        } else {
            self.text(at, "0".repeat(digits).as_bytes());
        }
    }

    fn numbers(mut self, header: &Header<'_>, size_bytes: u64) -> Self {
        self.octal(100, 7, u64::from(header.permissions));
        self.octal(108, 7, header.uid);
        self.octal(116, 7, header.gid);
        self.octal(124, 11, size_bytes);
        self.octal(136, 11, u64::try_from(header.mod_time.secs).unwrap_or(0));
        for (at, name) in [(265, header.username), (297, header.groupname)] {
            self.text(at, &name[..name.len().min(ACCOUNT_BYTES - 1)]);
        }
        self.octal(329, 7, 0);
        self.octal(337, 7, 0);
        self
    }

    fn emit(mut self, into: &mut Vec<u8>) {
        self.text(148, b"        ");
        let sum: u32 = self.0.iter().map(|byte| u32::from(*byte)).sum();
        self.text(148, format!("{sum:06o}\0 ").as_bytes());
        into.extend_from_slice(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record_of(key: &str, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        record(&mut out, key.as_bytes(), value);
        out
    }

    #[test]
    fn records_count_themselves() {
        // The example of POSIX, and lengths around a further digit.
        assert_eq!(record_of("atime", b"1.5"), b"13 atime=1.5\n");
        for length in 0..1200 {
            let record = record_of("path", &vec![b'x'; length]);
            let digits: String =
                record.iter().take_while(|b| **b != b' ').map(|b| *b as char).collect();
            assert_eq!(digits.parse::<usize>().unwrap(), record.len());
        }
        let mut out = Vec::new();
        xattr_record(&mut out, b"user.a=b%", b"\0\xff");
        assert_eq!(out, b"33 SCHILY.xattr.user.a%3Db%25=\0\xff\n");
    }

    #[test]
    fn times() {
        let time = |secs, nanos| decimal(Timestamp { secs, nanos });
        assert_eq!(time(1, 5), "1.000000005");
        assert_eq!(time(-1, 500_000_000), "-0.500000000");
        assert_eq!(time(-2, 0), "-2.000000000");
        assert_eq!(time(1 << 40, 0), "1099511627776.000000000");
    }

    #[test]
    fn names_are_split_at_a_slash() {
        let name = |parts: &[usize]| {
            let parts: Vec<String> = parts.iter().map(|length| "x".repeat(*length)).collect();
            parts.join("/").into_bytes()
        };
        for (parts, fits) in [
            (&[100][..], true),
            (&[101], false),
            (&[1, 100], true),
            (&[155, 100], true),
            (&[156, 99], false),
            (&[155, 101], false),
            (&[50, 50, 50, 50], true),
            (&[100, 100, 100], false),
        ] {
            let path = name(parts);
            let split = split(&path);
            assert_eq!(split.is_some(), fits, "{parts:?}");
            if let Some((prefix, name)) = split {
                let whole =
                    if prefix.is_empty() { name.to_vec() } else { [prefix, name].join(&b'/') };
                assert_eq!(whole, path);
                assert!(name.len() <= 100 && prefix.len() <= 155 && !name.is_empty());
            }
        }
        // The slash at the end of a directory stays with its name.
        let directory = [name(&[150, 99]), b"/".to_vec()].concat();
        let (prefix, last) = split(&directory).unwrap();
        assert_eq!((prefix.len(), last.len()), (150, 100));
        assert_eq!(split(&[name(&[150]), b"/".to_vec()].concat()), None);
    }
}
