//! OpenSSH's own configuration, as far as it says where a host is and how to
//! log in.
//!
//! The first value counts, as in OpenSSH. `Match` is understood with `all`,
//! `host` and `originalhost`; blocks with anything else are passed over.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use tiroir_core::host::HostErrorKind;

use crate::error::{Context as _, HostsError, Result};

/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Files that include each other.
const INCLUDES_MAX: usize = 16;

/// Most identity files and files of known hosts.
const FILES_MAX: usize = 32;

/// What is configured for a host.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HostConfig {
    /// Real name.
    pub host_name: Option<String>,
    /// Who logs in.
    pub user: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// Files of private keys.
    pub identity_files: Vec<PathBuf>,
    /// Only these, and none of an agent beside them.
    pub identities_only: Option<bool>,
    /// Socket of an agent; `none` for none.
    pub identity_agent: Option<String>,
    /// Files of known hosts, of the user.
    pub known_hosts: Vec<PathBuf>,
    /// Name under which the key of the host is known.
    pub host_key_alias: Option<String>,
    /// Hosts to go through, separated by commas; `none` for none.
    pub proxy_jump: Option<String>,
    /// A command that leads to the host; `none` for none.
    pub proxy_command: Option<String>,
}

/// Reads a configuration, and what it includes, for a host as it was named.
///
/// # Errors
///
/// A file that is there and cannot be read; one that is not there says nothing.
/// Lines that are not understood are passed over, as they are OpenSSH's.
pub fn read(path: &Path, home: &Path, host: &str, into: &mut HostConfig) -> Result<()> {
    let mut reader = Reader { home, host, into, depth: 0 };
    reader.file(path)
}

/// Whether a name is of a pattern with `*` and `?`, in either case.
#[must_use]
pub fn matches_pattern(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Where the last star was, and what it has swallowed.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte.eq_ignore_ascii_case(&name[n]) => {
                p += 1;
                n += 1;
            }
            _ => match &mut star {
                Some((at, eaten)) => {
                    *eaten += 1;
                    (p, n) = (*at + 1, *eaten);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// A path with `~` and the tokens of OpenSSH: `%d` home, `%h` host, `%u` and
/// `%r` users, `%%`.
fn expand(text: &str, home: &Path, config: &HostConfig, host: &str) -> PathBuf {
    let mut out = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        match letters.next() {
            Some('d') => out.push_str(&home.to_string_lossy()),
            Some('h') => out.push_str(config.host_name.as_deref().unwrap_or(host)),
            Some('r' | 'u') => out.push_str(config.user.as_deref().unwrap_or_default()),
            Some(other) => out.push(other),
            None => out.push('%'),
        }
    }
    match out.strip_prefix("~/") {
        Some(rest) => home.join(rest),
        None => PathBuf::from(out),
    }
}

/// The words of a line: separated by blanks, or by one `=` after the first;
/// double quotes keep blanks.
#[must_use]
pub fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut quoted, mut started, mut equals) = (false, false, false);
    for letter in line.trim().chars() {
        match letter {
            '"' => {
                quoted = !quoted;
                started = true;
            }
            '#' if !quoted && !started && words.is_empty() => break,
            letter if !quoted && (letter.is_ascii_whitespace() || letter == '=' && !equals) => {
                if started {
                    words.push(std::mem::take(&mut word));
                    started = false;
                }
                // One after the keyword, and no more.
                equals |= letter == '=' || words.len() > 1;
            }
            letter => {
                word.push(letter);
                started = true;
            }
        }
    }
    if started {
        words.push(word);
    }
    words
}

struct Reader<'r> {
    home: &'r Path,
    host: &'r str,
    into: &'r mut HostConfig,
    depth: usize,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path) -> Result<()> {
        let mut text = String::new();
        match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => {
                let file = other.at("open", path)?;
                let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
                if read.at("read", path)? as u64 > FILE_BYTES_MAX {
                    use std::os::unix::ffi::OsStrExt as _;
                    let path = path.as_os_str().as_bytes();
                    let rule = "the file is too large";
                    return Err(HostsError::rule(HostErrorKind::Other, "read", path, rule));
                }
            }
        }
        self.text(&text, path.parent().unwrap_or(Path::new("/")))
    }

    fn text(&mut self, text: &str, directory: &Path) -> Result<()> {
        let mut applies = true;
        for line in text.lines() {
            let words = words(line);
            let [keyword, values @ ..] = words.as_slice() else { continue };
            let Some(first) = values.first() else { continue };
            match keyword.to_ascii_lowercase().as_str() {
                "host" => applies = self.is_host(values),
                "match" => applies = self.is_match(values),
                _ if !applies => {}
                "include" => {
                    for name in values {
                        self.include(name, directory)?;
                    }
                }
                keyword => self.keyword(keyword, first, values, line),
            }
        }
        Ok(())
    }

    fn is_host(&self, patterns: &[String]) -> bool {
        let mut matched = false;
        for pattern in patterns {
            match pattern.strip_prefix('!') {
                Some(pattern) if matches_pattern(pattern, self.host) => return false,
                Some(_) => {}
                None => matched |= matches_pattern(pattern, self.host),
            }
        }
        matched
    }

    fn is_match(&self, values: &[String]) -> bool {
        let real = self.into.host_name.as_deref().unwrap_or(self.host);
        let is_of = |list: &str, name: &str| list.split(',').any(|p| matches_pattern(p, name));
        let mut values = values.iter();
        while let Some(criterion) = values.next() {
            let is_met = match criterion.to_ascii_lowercase().as_str() {
                "all" => true,
                "host" => values.next().is_some_and(|list| is_of(list, real)),
                "originalhost" => values.next().is_some_and(|list| is_of(list, self.host)),
                _ => false,
            };
            if !is_met {
                return false;
            }
        }
        true
    }

    /// A file, or those of a pattern in the last component.
    fn include(&mut self, name: &str, directory: &Path) -> Result<()> {
        if self.depth == INCLUDES_MAX {
            return Ok(());
        }
        let path = directory.join(expand(name, self.home, self.into, self.host));
        self.depth += 1;
        let pattern = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let included = match pattern.filter(|name| name.contains(['*', '?'])) {
            None => self.file(&path),
            Some(pattern) => self.include_all(path.parent().unwrap_or(directory), &pattern),
        };
        self.depth -= 1;
        included
    }

    fn include_all(&mut self, directory: &Path, pattern: &str) -> Result<()> {
        let Ok(entries) = std::fs::read_dir(directory) else { return Ok(()) };
        let mut names: Vec<PathBuf> = entries
            .filter_map(|entry| entry.ok().map(|entry| entry.file_name()))
            .filter(|name| matches_pattern(pattern, &name.to_string_lossy()))
            .take(FILES_MAX)
            .map(|name| directory.join(name))
            .collect();
        names.sort();
        names.iter().try_for_each(|path| self.file(path))
    }

    fn keyword(&mut self, keyword: &str, first: &str, values: &[String], line: &str) {
        fn set<T>(slot: &mut Option<T>, value: Option<T>) {
            if slot.is_none() {
                *slot = value;
            }
        }
        let text = || Some(first.to_owned());
        let path = expand(first, self.home, self.into, self.host);
        let host = self.host;
        let into = &mut *self.into;
        match keyword {
            "hostname" => set(&mut into.host_name, Some(first.replace("%h", host))),
            "user" => set(&mut into.user, text()),
            "port" => set(&mut into.port, first.parse().ok()),
            "identityfile" if into.identity_files.len() < FILES_MAX => {
                into.identity_files.push(path);
            }
            "identitiesonly" => set(&mut into.identities_only, Some(first == "yes")),
            "identityagent" => set(&mut into.identity_agent, path.to_str().map(Into::into)),
            "hostkeyalias" => set(&mut into.host_key_alias, text()),
            "proxyjump" => set(&mut into.proxy_jump, text()),
            "userknownhostsfile" if into.known_hosts.is_empty() => {
                let expanded = values.iter().take(FILES_MAX);
                let expanded =
                    expanded.map(|value| expand(value, self.home, &HostConfig::default(), host));
                into.known_hosts = expanded.collect();
            }
            "proxycommand" => {
                // All of the line, quotes included: a shell reads it.
                let rest = line.trim().split_at("proxycommand".len()).1;
                let rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '=');
                set(&mut into.proxy_command, Some(rest.to_owned()));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, host: &str) -> HostConfig {
        let mut config = HostConfig::default();
        let home = Path::new("/home/me");
        let mut reader = Reader { home, host, into: &mut config, depth: 0 };
        reader.text(text, Path::new("/nonexistent")).unwrap();
        config
    }

    #[test]
    fn patterns() {
        for (pattern, name, wanted) in [
            ("nas", "NAS", true),
            ("*", "", true),
            ("*.local", "a.b.local", true),
            ("*.local", "local", false),
            ("10.0.?.*", "10.0.3.44", true),
            ("a*b*c", "aXbYbc", true),
            ("a*b*c", "aXbY", false),
            ("", "x", false),
        ] {
            assert_eq!(matches_pattern(pattern, name), wanted, "{pattern} {name}");
        }
    }

    #[test]
    fn the_first_value_counts() {
        let text = "# mine\n\
            User everybody\n\
            Host nas !nas.other *.lan\n  HostName=%h.example\n\tPort = 2222\n  User me\n\
            IdentityFile ~/.ssh/nas key\n IdentityFile \"/keys/a b\"\nIdentitiesOnly yes\n\
            Match host nas.example\nProxyJump gate\n\
            Match exec true\nPort 1\nProxyCommand never\n\
            Host *\nPort 22\nUserKnownHostsFile ~/.ssh/a /b\nProxyCommand nc \"%h\" %p | cat\n";
        let config = of(text, "nas");
        assert_eq!(config.host_name.as_deref(), Some("nas.example"));
        assert_eq!((config.port, config.user.as_deref()), (Some(2222), Some("everybody")));
        let keys = ["/home/me/.ssh/nas", "/keys/a b"].map(PathBuf::from);
        assert_eq!(config.identity_files, keys);
        assert_eq!(config.identities_only, Some(true));
        assert_eq!(config.proxy_jump.as_deref(), Some("gate"));
        assert_eq!(config.known_hosts, ["/home/me/.ssh/a", "/b"].map(PathBuf::from));
        assert_eq!(config.proxy_command.as_deref(), Some("nc \"%h\" %p | cat"));
        assert_eq!(of(text, "nas.other").port, Some(22));
    }

    #[test]
    fn files_include_files() {
        let home = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(home.path().join(name), text).unwrap();
        write("config", "Include ~/*.conf\nInclude config\nPort 3\n");
        write("b.conf", "Port 2\nUser b\n");
        write("a.conf", "Host other\nUser a\n");
        let mut config = HostConfig::default();
        read(&home.path().join("config"), home.path(), "nas", &mut config).unwrap();
        assert_eq!((config.port, config.user.as_deref()), (Some(2), Some("b")));
        let mut config = HostConfig::default();
        read(&home.path().join("absent"), home.path(), "nas", &mut config).unwrap();
        assert_eq!(config, HostConfig::default());
    }

    #[test]
    fn words_of_lines() {
        for (line, wanted) in [
            ("Port 22", &["Port", "22"][..]),
            ("  Port=22", &["Port", "22"]),
            ("A = \"b c\" d=e", &["A", "b c", "d=e"]),
            ("# A b", &[]),
            ("A \"\"", &["A", ""]),
            ("A \"b", &["A", "b"]),
        ] {
            assert_eq!(words(line), wanted, "{line}");
        }
    }
}
