//! [`Ignore`]: patterns of what is left out, in the syntax of `.gitignore`.
//!
//! As in stock, patterns are matched with the absolute path, from `/` on and
//! not from the root of the backup: `*.log` and `cache/` match at any depth,
//! and a pattern with a slash before its end is one from `/`. The last pattern
//! that matches decides; `!` takes back; what is in a directory that is left
//! out cannot be taken back, because nobody looks there.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use tiroir_core::host::HostErrorKind;

use crate::error::{Context as _, HostsError, Result};

/// Patterns being gathered.
#[derive(Clone, Debug)]
pub struct IgnorePatterns {
    builder: GitignoreBuilder,
}

impl Default for IgnorePatterns {
    fn default() -> Self {
        Self::new()
    }
}

impl IgnorePatterns {
    /// No patterns: nothing is left out.
    #[must_use]
    pub fn new() -> Self {
        Self { builder: GitignoreBuilder::new("/") }
    }

    /// Adds one line: a pattern, or a comment or a blank that count for nothing.
    ///
    /// # Errors
    ///
    /// That it is no pattern. It is as if it were not there: stock takes those
    /// for patterns that match nothing, so a warning will do.
    pub fn add(&mut self, line: &str) -> Result<()> {
        let line = line.trim_end_matches(['\r', '\n']);
        let rule = "it is not a pattern of gitignore";
        let added = self.builder.add_line(None, line);
        added
            .map(drop)
            .map_err(|_| HostsError::rule(HostErrorKind::Other, "ignore", line.as_bytes(), rule))
    }

    /// Adds the lines of a file.
    ///
    /// # Errors
    ///
    /// Of the system, when the file cannot be read; or the first line that is no
    /// pattern, after all others were added.
    pub fn add_file(&mut self, path: &Path) -> Result<()> {
        let file = File::open(path).at("open", path)?;
        let mut wrong = Ok(());
        for line in BufReader::with_capacity(4096, file).split(b'\n') {
            let line = line.at("read", path)?;
            let added = self.add(&String::from_utf8_lossy(&line));
            wrong = wrong.and(added);
        }
        wrong
    }

    /// Makes the patterns ready to be matched.
    ///
    /// # Errors
    ///
    /// That they are too many, or too large.
    pub fn build(&self) -> Result<Ignore> {
        let built = self.builder.build().map_err(|_| {
            let rule = "the patterns are too many or too large together";
            HostsError::rule(HostErrorKind::Other, "ignore", b"", rule)
        })?;
        Ok(Ignore { patterns: Arc::new(built) })
    }
}

/// Patterns of what is left out. Clones share them.
#[derive(Clone, Debug)]
pub struct Ignore {
    patterns: Arc<Gitignore>,
}

impl Default for Ignore {
    fn default() -> Self {
        Self { patterns: Arc::new(Gitignore::empty()) }
    }
}

impl Ignore {
    /// Whether there is no pattern at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether an entry is left out, by itself: nobody asks for what lies in a
    /// directory that is left out.
    #[must_use]
    pub fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        let path = Path::new(OsStr::from_bytes(path));
        !self.is_empty() && self.patterns.matched(path, is_directory).is_ignore()
    }

    /// Whether an entry or a directory above it is left out.
    #[must_use]
    pub fn matches_or_above(&self, path: &[u8], is_directory: bool) -> bool {
        let slashes = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/');
        let above = slashes.map(|(index, _)| &path[..index]);
        path != b"/"
            && (self.matches(path, is_directory) || { above }.any(|path| self.matches(path, true)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignore(lines: &[&str]) -> Ignore {
        let mut patterns = IgnorePatterns::new();
        lines.iter().for_each(|line| patterns.add(line).unwrap());
        patterns.build().unwrap()
    }

    #[test]
    fn matches_as_stock_does() {
        let cases: &[(&[&str], &str, bool, bool)] = &[
            (&["*.log"], "/srv/data/a/x.log", false, true),
            (&["node_modules/"], "/srv/data/node_modules", true, true),
            (&["node_modules/"], "/srv/data/node_modules", false, false),
            (&["/foo"], "/srv/data/foo", false, false),
            (&["data/foo"], "/srv/data/foo", false, false),
            (&["/srv/data/foo"], "/srv/data/foo", false, true),
            (&["**/data/foo"], "/srv/data/foo", false, true),
            (&["*.log", "!3.log"], "/srv/3.log", false, false),
            (&["*.log", "!3.log"], "/srv/2.log", false, true),
            (&["!3.log", "*.log"], "/srv/3.log", false, true),
            (&["#x"], "/srv/#x", false, false),
            (&["\\#x"], "/srv/#x", false, true),
            (&["foo  "], "/srv/foo", false, true),
            (&["foo\r"], "/srv/foo", false, true),
            (&["**/web/*", "!**/web/index.html"], "/srv/web/a.js", false, true),
            (&["**/web/*", "!**/web/index.html"], "/srv/web/index.html", false, false),
        ];
        for (lines, path, is_directory, wanted) in cases {
            let found = ignore(lines).matches(path.as_bytes(), *is_directory);
            assert_eq!(found, *wanted, "{lines:?} {path}");
        }
        assert!(ignore(&["*"]).matches_or_above(b"/srv", true));
        assert!(ignore(&["srv"]).matches_or_above(b"/srv/a/b", false));
        assert!(!ignore(&["b"]).matches_or_above(b"/srv/bb", false));
        assert!(!ignore(&["*"]).matches_or_above(b"/", true));
        assert!(!ignore(&[]).matches(b"/srv", true));
    }

    #[test]
    fn a_wrong_line_does_not_stop_the_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ignore");
        std::fs::write(&path, b"# comment\n\n[z-a]\n*.tmp\r\n*.o").unwrap();
        let mut patterns = IgnorePatterns::new();
        assert!(patterns.add_file(&path).is_err());
        let ignore = patterns.build().unwrap();
        assert!(ignore.matches(b"/x.tmp", false) && ignore.matches(b"/x.o", false));
        assert!(!ignore.matches(b"/x.c", false));
        assert!(patterns.add_file(&directory.path().join("absent")).is_err());
    }

    #[test]
    fn names_need_not_be_text() {
        assert!(ignore(&["*.bak"]).matches(b"/srv/\xff\xfe.bak", false));
    }
}
