//! [`Accounts`]: names of users and groups, from `/etc/passwd` and `/etc/group`.
//!
//! The files are read by ourselves: a static program has no name service, so
//! that users of a directory server have no name here. Stock built without cgo
//! does the same. An unknown number has an empty name, as there.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::PathBuf;

use tiroir_core::limits::ACCOUNT_BYTES_MAX;

/// Numbers whose names are remembered, for users and for groups each.
const REMEMBERED: usize = 64;

/// Longest line that is read. Groups with thousands of members have longer
/// ones; their name and number come first.
const LINE_BYTES_MAX: u64 = 4096;

/// Names of users, or of groups.
#[derive(Debug)]
struct Names {
    file: PathBuf,
    /// The one asked for last comes last. Unknown numbers are remembered too.
    remembered: Vec<(u32, Vec<u8>)>,
}

impl Names {
    fn new(file: &str) -> Self {
        Self { file: file.into(), remembered: Vec::new() }
    }

    fn name(&mut self, number: u32) -> &[u8] {
        let held = self.remembered.iter().position(|(held, _)| *held == number);
        let entry = match held {
            Some(index) => self.remembered.remove(index),
            None => {
                if self.remembered.len() == REMEMBERED {
                    self.remembered.remove(0);
                }
                // A file that cannot be read knows nobody.
                (number, self.look_up(number).ok().flatten().unwrap_or_default())
            }
        };
        self.remembered.push(entry);
        self.remembered.last().map_or(&[], |(_, name)| name)
    }

    /// Looks for a number in the third field of every line.
    fn look_up(&self, number: u32) -> io::Result<Option<Vec<u8>>> {
        let mut reader = BufReader::with_capacity(4096, File::open(&self.file)?);
        let mut line = Vec::new();
        loop {
            line.clear();
            if reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
                return Ok(None);
            }
            if line.last() != Some(&b'\n') {
                reader.skip_until(b'\n')?;
            }
            let mut fields = line.split(|&byte| byte == b':');
            let (name, third) = (fields.next().unwrap_or_default(), fields.nth(1));
            let found = third.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
            if found == Some(number) && name.len() <= ACCOUNT_BYTES_MAX {
                return Ok(Some(name.to_vec()));
            }
        }
    }
}

/// Names of users and groups. Remembers 64 of each.
#[derive(Debug)]
pub struct Accounts {
    users: Names,
    groups: Names,
}

impl Default for Accounts {
    fn default() -> Self {
        Self::new()
    }
}

impl Accounts {
    /// Reads nothing before somebody is asked for.
    #[must_use]
    pub fn new() -> Self {
        Self { users: Names::new("/etc/passwd"), groups: Names::new("/etc/group") }
    }

    /// Name of a user, or nothing.
    pub fn user(&mut self, number: u32) -> &[u8] {
        self.users.name(number)
    }

    /// Name of a group, or nothing.
    pub fn group(&mut self, number: u32) -> &[u8] {
        self.groups.name(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_forgotten_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("passwd");
        let many: String = (10..300).map(|n| format!("user{n}:x:{n}:{n}::/:/bin/sh\n")).collect();
        let long = format!("crowd:x:5:{}\n", "member,".repeat(2000));
        let text = format!("# comment\n\nroot:x:0:0:root:/root:/bin/sh\n{long}broken:x\n{many}");
        std::fs::write(&path, text).unwrap();
        let mut names = Names::new(path.to_str().unwrap());
        assert_eq!(names.name(0), b"root");
        assert_eq!(names.name(5), b"crowd");
        assert_eq!(names.name(7), b"");
        for number in (10..300).chain(10..20) {
            assert_eq!(names.name(number), format!("user{number}").as_bytes());
            assert!(names.remembered.len() <= REMEMBERED);
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(names.name(10), b"user10");
        assert_eq!(names.name(100), b"");
    }
}
