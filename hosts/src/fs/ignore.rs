//! [`Ignore`]: patterns of what is left out, in the syntax of `.gitignore`.
//!
//! As in stock, patterns are matched with the absolute path, from `/` on and
//! not from the root of the backup: `*.log` and `cache/` match at any depth,
//! and a pattern with a slash before its end is one from `/`. The last pattern
//! that matches decides; `!` takes back; what is in a directory that is left
//! out cannot be taken back, because nobody looks there.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use tiroir_core::host::HostErrorKind;

use super::glob::Globs;
use crate::error::{Context as _, HostsError, Result};

/// Memory that all patterns together may take, in bytes: some ten thousand.
pub const PATTERNS_BYTES: usize = 1024 * 1024;

/// Longest line that may be a pattern, in bytes.
const LINE_BYTES_MAX: usize = 32 * 1024;

/// A line that counts.
#[derive(Clone, Debug)]
struct Line {
    globs: Globs,
    /// Whether it takes back what lines before it left out.
    takes_back: bool,
    for_directories: bool,
}

/// Patterns being gathered.
#[derive(Clone, Debug, Default)]
pub struct IgnorePatterns {
    lines: Vec<Line>,
    /// Memory that they take. Above the bound, lines are no longer kept.
    bytes: usize,
}

impl IgnorePatterns {
    /// No patterns: nothing is left out.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one line: a pattern, or a comment or a blank that count for nothing.
    ///
    /// # Errors
    ///
    /// That it is no pattern. It is as if it were not there: stock takes those
    /// for patterns that match nothing, so a warning will do.
    pub fn add(&mut self, line: &str) -> Result<()> {
        let line = line.trim_end_matches(['\r', '\n']);
        let line = if line.ends_with("\\ ") { line } else { line.trim_end() };
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (pattern, takes_back, from_root) = match line.strip_prefix('\\') {
            Some(escaped) if escaped.starts_with(['!', '#']) => (escaped, false, false),
            _ => {
                let (line, takes_back) = without(line, '!');
                let (line, from_root) = without(line, '/');
                (line, takes_back, from_root)
            }
        };
        let (pattern, for_directories) = match pattern.strip_suffix('/') {
            Some(pattern) => (pattern.strip_suffix('\\').unwrap_or(pattern), true),
            None => (pattern, false),
        };
        // At any depth, unless it says where. All in a folder is not the folder.
        let anywhere = !from_root && !pattern.contains('/') && pattern != "**";
        let inside = pattern.ends_with("/**");
        let prefix = if anywhere { "**/" } else { "" };
        let suffix = if inside { "/*" } else { "" };
        let Some(globs) = Globs::parse(&format!("{prefix}{pattern}{suffix}")) else {
            let rule = "it is not a pattern of gitignore";
            return Err(HostsError::rule(HostErrorKind::Other, "ignore", line.as_bytes(), rule));
        };
        self.bytes = self.bytes.saturating_add(globs.size_bytes() + size_of::<Line>());
        if self.bytes <= PATTERNS_BYTES {
            self.lines.push(Line { globs, takes_back, for_directories });
        }
        Ok(())
    }

    /// Adds the lines of a file.
    ///
    /// # Errors
    ///
    /// Of the system, when the file cannot be read; or the first line that is no
    /// pattern, after all others were added.
    pub fn add_file(&mut self, path: &Path) -> Result<()> {
        let mut file = BufReader::with_capacity(4096, File::open(path).at("open", path)?);
        let (mut wrong, mut line) = (Ok(()), Vec::new());
        loop {
            line.clear();
            let most = LINE_BYTES_MAX as u64 + 1;
            let read = file.by_ref().take(most).read_until(b'\n', &mut line);
            if read.at("read", path)? == 0 {
                return wrong;
            }
            if line.len() > LINE_BYTES_MAX && line.last() != Some(&b'\n') {
                file.skip_until(b'\n').at("read", path)?;
                let rule = "it has a line that is too long for a pattern";
                let shown = path.as_os_str().as_bytes();
                wrong =
                    wrong.and(Err(HostsError::rule(HostErrorKind::Other, "ignore", shown, rule)));
                continue;
            }
            let added = self.add(&String::from_utf8_lossy(&line));
            wrong = wrong.and(added);
        }
    }

    /// Makes the patterns ready to be matched.
    ///
    /// # Errors
    ///
    /// That they are too many, or too large.
    pub fn build(&self) -> Result<Ignore> {
        if self.bytes > PATTERNS_BYTES {
            let rule = "the patterns are too many or too large together";
            return Err(HostsError::rule(HostErrorKind::Other, "ignore", b"", rule));
        }
        Ok(Ignore { lines: self.lines.clone().into() })
    }
}

/// The line without the character that it may begin with, and whether it does.
fn without(line: &str, first: char) -> (&str, bool) {
    line.strip_prefix(first).map_or((line, false), |rest| (rest, true))
}

/// Patterns of what is left out. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    lines: Arc<[Line]>,
}

impl Ignore {
    /// Whether there is no pattern at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether an entry is left out, by itself: nobody asks for what lies in a
    /// directory that is left out.
    #[must_use]
    pub fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        let decides =
            |line: &&Line| (is_directory || !line.for_directories) && line.globs.matches(path);
        self.lines.iter().rev().find(decides).is_some_and(|line| !line.takes_back)
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

    /// A generator of the same numbers each time.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(self.0 >> 33).unwrap() % bound
        }

        fn text(&mut self, parts: &[&str], longest: usize) -> String {
            (0..=self.below(longest)).map(|_| parts[self.below(parts.len())]).collect()
        }
    }

    /// The library that this was before, and which is too large, is what it is held
    /// against.
    #[test]
    fn matches_as_the_library_does() {
        use ::ignore::gitignore::GitignoreBuilder;
        let parts = &[
            "a", "b", "ab", "/", "/", "*", "**", "?", "[ab]", "[!a]", "[a-c]", "[^", "]", "{a,b}",
            "{a/,*}", "{", "}", ",", "\\", "!", "#", "-", ".", " ", "/**", "**/", "/**/", "\u{e9}",
        ];
        let names = &["a", "b", "ab", "/", "/", "c", ".", "-", ",", "{", "[", "!", "\u{e9}", "*"];
        let mut dice = Dice(7);
        let (mut matched, mut refused) = (0, 0);
        for _ in 0..20_000 {
            let lines = [dice.text(parts, 7), dice.text(parts, 7)];
            let (mut ours, mut theirs) = (IgnorePatterns::new(), GitignoreBuilder::new("/"));
            for line in &lines {
                let wrong = ours.add(line).is_err();
                assert_eq!(wrong, theirs.add_line(None, line).is_err(), "{line:?}");
                refused += u32::from(wrong);
            }
            let (ours, theirs) = (ours.build().unwrap(), theirs.build().unwrap());
            for _ in 0..12 {
                let names = dice.text(names, 6);
                let names = names.split('/').filter(|name| !matches!(*name, "" | "." | ".."));
                let path: String = names.flat_map(|name| ["/", name]).collect();
                for is_directory in [false, true] {
                    let wanted = theirs.matched(&path, is_directory).is_ignore();
                    let found = ours.matches(path.as_bytes(), is_directory);
                    assert_eq!(found, wanted, "{lines:?} {path:?} {is_directory}");
                    matched += u32::from(found);
                }
            }
        }
        assert!(matched > 20_000 && refused > 1_000, "{matched} {refused}");
    }

    #[test]
    fn a_line_without_end_is_no_pattern() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("patterns");
        std::fs::write(&path, format!("*.a\n{}\n*.b", "[c]".repeat(100_000))).unwrap();
        let mut patterns = IgnorePatterns::new();
        assert!(patterns.add_file(&path).is_err());
        let ignore = patterns.build().unwrap();
        assert!(ignore.matches(b"/x.a", false) && ignore.matches(b"/x.b", false));
        assert_eq!(patterns.lines.len(), 2);
    }

    #[test]
    fn patterns_are_bounded() {
        let mut patterns = IgnorePatterns::new();
        assert!(patterns.add(&"{a,b}".repeat(9)).is_err());
        assert!(patterns.add(&"{".repeat(9)).is_err());
        patterns.add(&"{a,b}".repeat(8)).unwrap();
        patterns.add(&"*a".repeat(40)).unwrap();
        // Few alternatives, and long ones.
        patterns.add(&format!("{}{}", "{a,b}".repeat(8), "c".repeat(100))).unwrap();
        assert!(patterns.add(&format!("{}{}", "{a,b}".repeat(8), "c".repeat(1000))).is_err());
        assert!(patterns.add(&format!("{}{}", "c".repeat(1000), "{a,b}".repeat(8))).is_err());
        assert!(patterns.add(&"c".repeat(100_000)).is_err());
        let long = [b"/", "a".repeat(4000).as_bytes(), b"b"].concat();
        assert!(!patterns.build().unwrap().matches(&long, false));
        for _ in 0..PATTERNS_BYTES / 64 {
            patterns.add("*.tmp").unwrap();
        }
        assert!(patterns.build().is_err());
    }
}
