//! What is asked of a server about its entries, and done to them, with one
//! connection.

use std::time::SystemTime;

use tiroir_core::host::HostErrorKind;
use tiroir_core::time::Timestamp;

use super::control::{Connection, Failure, Server};
use super::facts::{parse_line as parse_facts, parse_size};
use super::listing::parse_line;
use super::names::{check, from_server, split, to_server};
use super::settings::Settings;
use super::when::{format_stamp, parse_stamp};
use super::wire::{Lines, NoLine};
use crate::error::{HostsError, Result};
use crate::remote::{EachChild, EntryKind, NewAttributes, RemoteEntry};

/// Most lines of a listing: a server that lists for ever ends here.
const LINES_MAX: u64 = if cfg!(test) { 20_000 } else { 10_000_000 };

/// Longest part of a line that is shown, in bytes.
const LINE_SHOWN_MAX: usize = 200;

/// A connection, and what is known of its server.
pub(super) struct Session<'s> {
    pub(super) connection: &'s mut Connection,
    pub(super) settings: &'s mut Settings,
    pub(super) server: &'s mut Server,
}

/// What a listing is made with.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Form {
    Mlsd,
    ListAll,
    List,
}

/// What came of a listing.
#[derive(Default)]
struct Outcome {
    lines: u64,
    saw_itself: bool,
    /// The first entry that could not be taken over.
    wrong: Option<HostsError>,
}

impl Session<'_> {
    /// A path as the server is told it.
    pub(super) fn path(&self, path: &[u8]) -> Result<Vec<u8>, Failure> {
        let told = to_server(path, self.settings.latin1);
        told.map_err(|rule| Failure::Rule(HostErrorKind::Other, rule))
    }

    /// A command with a path, which is to be done with that.
    pub(super) fn done(&mut self, verb: &str, path: &[u8]) -> Result<(), Failure> {
        let path = self.path(path)?;
        self.connection.done(verb, &path).map(|_| ())
    }

    /// What is said of an entry; nothing where there is none.
    pub(super) fn find(&mut self, path: &[u8]) -> Result<Option<RemoteEntry>, Failure> {
        if self.server.features.mlst {
            return self.find_with_facts(path);
        }
        if let Some(entry) = self.find_plain(path)? {
            return Ok(Some(entry));
        }
        // A link to nowhere, a device, or a server that tells no sizes.
        let Some((parent, name)) = split(path) else { return Ok(None) };
        let mut found = None;
        let listed = self.list(parent, &mut |child, entry| {
            if child == name {
                found = Some(*entry);
            }
            Ok(())
        });
        match listed {
            Err(Failure::Said(_)) if found.is_none() => Ok(None),
            Err(failure) if !failure.is_in_sync() => Err(failure),
            _ => Ok(found),
        }
    }

    fn find_with_facts(&mut self, path: &[u8]) -> Result<Option<RemoteEntry>, Failure> {
        let told = self.path(path)?;
        let reply = self.connection.command("MLST", &told)?;
        if reply.is_done() {
            let mut lines = reply.lines().map(|line| line.strip_prefix(b" ").unwrap_or(line));
            let facts = lines.find_map(|line| {
                let is_facts = line
                    .split(|byte| *byte == b' ')
                    .next()
                    .is_some_and(|facts| facts.contains(&b'=') && facts.ends_with(b";"));
                if is_facts { parse_facts(line).ok() } else { None }
            });
            let listed = facts.ok_or(Failure::Broken("the server's reply to MLST has no facts"))?;
            return Ok(Some(listed.entry));
        }
        match reply.kind() {
            HostErrorKind::NotFound => Ok(None),
            _ if reply.is_of_existence() => Ok(None),
            // No such thing, as far as its other commands know.
            HostErrorKind::Other => self.find_plain(path),
            _ => Err(Failure::Said(reply)),
        }
    }

    /// With the commands that every server has.
    fn find_plain(&mut self, path: &[u8]) -> Result<Option<RemoteEntry>, Failure> {
        if let Some(size) = self.size(path)? {
            let mod_time = self.mod_time(path)?;
            return Ok(Some(RemoteEntry {
                kind: EntryKind::File,
                size_bytes: Some(size),
                mod_time,
                ..RemoteEntry::default()
            }));
        }
        let told = self.path(path)?;
        if self.connection.command("CWD", &told)?.is_done() {
            let kind = EntryKind::Directory;
            return Ok(Some(RemoteEntry { kind, ..RemoteEntry::default() }));
        }
        Ok(None)
    }

    /// Length of a file; nothing where there is none, or it cannot be told.
    pub(super) fn size(&mut self, path: &[u8]) -> Result<Option<u64>, Failure> {
        if !self.server.size {
            return Ok(None);
        }
        let path = self.path(path)?;
        let reply = self.connection.command("SIZE", &path)?;
        if reply.is_unknown() {
            self.server.size = false;
        }
        Ok(if reply.code == 213 { parse_size(reply.text.trim_ascii()) } else { None })
    }

    fn mod_time(&mut self, path: &[u8]) -> Result<Option<Timestamp>, Failure> {
        if !self.server.mdtm {
            return Ok(None);
        }
        let path = self.path(path)?;
        let reply = self.connection.command("MDTM", &path)?;
        if reply.is_unknown() {
            self.server.mdtm = false;
        }
        Ok(if reply.code == 213 { parse_stamp(reply.text.trim_ascii()) } else { None })
    }

    /// Calls `each` with every child. From inside the directory, as names in the
    /// argument of `LIST` would be patterns, and options where they start with a
    /// dash. All that can be told is told before an entry that cannot is an
    /// error.
    pub(super) fn list(
        &mut self,
        directory: &[u8],
        each: &mut EachChild<'_>,
    ) -> Result<(), Failure> {
        self.done("CWD", directory)?;
        loop {
            let form = match (self.server.features.mlst, self.server.list_all) {
                (true, _) => Form::Mlsd,
                (false, true) => Form::ListAll,
                (false, false) => Form::List,
            };
            let outcome = match self.list_as(form, directory, each) {
                Err(Failure::Said(reply)) if form == Form::Mlsd && reply.is_unknown() => {
                    self.server.features.mlst = false;
                    continue;
                }
                // Unless it is known to work, the argument may be what is refused.
                Err(Failure::Said(reply))
                    if form == Form::ListAll && reply.code >= 500 && !self.server.lists_itself =>
                {
                    self.server.list_all = false;
                    continue;
                }
                outcome => outcome?,
            };
            // Taken for a name that nothing has.
            if form == Form::ListAll && outcome.lines == 0 && !self.server.lists_itself {
                self.server.list_all = false;
                continue;
            }
            if let Some(wrong) = outcome.wrong {
                return Err(Failure::Other(wrong, true));
            }
            if outcome.saw_itself {
                self.server.lists_itself = true;
            } else if self.server.lists_itself && form != Form::List {
                let rule = "the server shows nothing of it: it may not be read";
                return Err(Failure::Rule(HostErrorKind::PermissionDenied, rule));
            }
            return Ok(());
        }
    }

    fn list_as(
        &mut self,
        form: Form,
        directory: &[u8],
        each: &mut EachChild<'_>,
    ) -> Result<Outcome, Failure> {
        let command: (&str, &[u8]) = match form {
            Form::Mlsd => ("MLSD", b""),
            Form::ListAll => ("LIST", b"-a"),
            Form::List => ("LIST", b""),
        };
        let mut wire = self.connection.transfer(self.settings, self.server, command, 0)?;
        let (mut lines, mut outcome) = (Lines::new(), Outcome::default());
        let (now, mut name) = (now(), Vec::new());
        loop {
            let line = match lines.next(&mut wire, super::wire::Wire::renew_time) {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(NoLine::Io(error)) => return Err(self.connection.reason(error)),
                Err(NoLine::TooLong) => {
                    return Err(Failure::Broken("a line of the listing is too long"));
                }
            };
            outcome.lines += 1;
            if outcome.lines > LINES_MAX {
                return Err(Failure::Broken("the listing does not end"));
            }
            let listed = match form {
                Form::Mlsd if line.is_empty() => Ok(None),
                Form::Mlsd => parse_facts(line).map(Some),
                _ => parse_line(line, now),
            };
            let checked = match listed {
                Ok(None) => continue,
                Ok(Some(listed)) if listed.is_self => {
                    outcome.saw_itself = true;
                    continue;
                }
                Ok(Some(listed)) => {
                    from_server(listed.name, self.settings.latin1, &mut name);
                    check(&name).map(|()| listed.entry)
                }
                Err(rule) => Err(not_understood(directory, line, rule)),
            };
            match checked {
                Ok(entry) => each(&name, &entry).map_err(|error| Failure::Other(error, false))?,
                Err(error) => outcome.wrong = outcome.wrong.or(Some(error)),
            }
        }
        wire.finish_reading();
        let reply = self.connection.reply()?;
        // vsftpd: 226, and words of failure.
        let words = reply.text.to_ascii_lowercase();
        let failed = words.windows(14).any(|window| window == b"failed to open");
        if failed || !reply.is_done() {
            let code = if failed { 550 } else { reply.code };
            return Err(Failure::Said(super::reply::Reply { code, ..reply }));
        }
        Ok(outcome)
    }

    /// Gives a file another name.
    pub(super) fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<(), Failure> {
        let told = self.path(to)?;
        self.start_rename(from)?;
        let reply = self.connection.command("RNTO", &told)?;
        if reply.is_done() {
            return Ok(());
        }
        let is_file = |entry: RemoteEntry| entry.kind == EntryKind::File;
        // What is forbidden stays so without the file that has the name.
        let is_forbidden =
            matches!(reply.kind(), HostErrorKind::PermissionDenied | HostErrorKind::NoSpace);
        if reply.code < 500 || is_forbidden || !self.find(to)?.is_some_and(is_file) {
            return Err(Failure::Said(reply));
        }
        self.server.replaces = false;
        self.done("DELE", to)?;
        self.start_rename(from)?;
        self.connection.done("RNTO", &told)?;
        Ok(())
    }

    fn start_rename(&mut self, from: &[u8]) -> Result<(), Failure> {
        let from = self.path(from)?;
        let reply = self.connection.command("RNFR", &from)?;
        if reply.is_going_on() { Ok(()) } else { Err(Failure::Said(reply)) }
    }

    /// Sets what the server can set.
    pub(super) fn set(&mut self, path: &[u8], new: &NewAttributes) -> Result<(), Failure> {
        if let Some(stamp) = new.mod_time.and_then(format_stamp) {
            self.set_time(path, &stamp)?;
        }
        // Last: it may forbid the rest.
        match new.permissions {
            Some(permissions) => self.set_permissions(path, permissions),
            None => Ok(()),
        }
    }

    fn set_time(&mut self, path: &[u8], stamp: &str) -> Result<(), Failure> {
        let argument = [stamp.as_bytes(), b" ", &self.path(path)?].concat();
        if self.server.features.mfmt {
            let reply = self.connection.command("MFMT", &argument)?;
            if reply.is_unknown() {
                self.server.features.mfmt = false;
            } else {
                return if reply.is_done() { Ok(()) } else { Err(Failure::Said(reply)) };
            }
        }
        if self.server.mdtm_sets == Some(false) {
            return Ok(());
        }
        let reply = self.connection.command("MDTM", &argument)?;
        if !reply.is_done() {
            // Directories are refused where files are not.
            if reply.is_unknown() {
                self.server.mdtm_sets = Some(false);
            }
        } else if self.server.mdtm_sets.is_none() {
            let set = self.mod_time(path)?.and_then(format_stamp);
            self.server.mdtm_sets = Some(set.as_deref() == Some(stamp));
        }
        Ok(())
    }

    /// For the first time, a refusal says that nobody's can be set.
    pub(super) fn set_permissions(&mut self, path: &[u8], mode: u32) -> Result<(), Failure> {
        if self.server.chmod == Some(false) {
            return Ok(());
        }
        let argument =
            [format!("CHMOD {:03o} ", mode & 0o7777).as_bytes(), &self.path(path)?].concat();
        let reply = self.connection.command("SITE", &argument)?;
        if reply.is_done() {
            self.server.chmod = Some(true);
        } else if self.server.chmod.is_none() || reply.is_unknown() {
            self.server.chmod = Some(false);
        } else {
            return Err(Failure::Said(reply));
        }
        Ok(())
    }

    /// Whether permissions can be set, as far as the server tells.
    pub(super) fn sets_permissions(&mut self) -> Result<bool, Failure> {
        if self.server.site.is_none() {
            let reply = self.connection.command("SITE", b"HELP")?;
            let words = reply.text.to_ascii_uppercase();
            let has = words.windows(5).any(|window| window == b"CHMOD");
            self.server.site = Some(has && reply.is_done());
        }
        Ok(self.server.chmod.or(self.server.site).unwrap_or(false))
    }

    /// Room that is left, if the server tells.
    pub(super) fn free_bytes(&mut self, path: &[u8]) -> Result<Option<u64>, Failure> {
        if !self.server.features.avbl {
            return Ok(None);
        }
        let path = self.path(path)?;
        let reply = self.connection.command("AVBL", &path)?;
        Ok(if reply.code == 213 { parse_size(reply.text.trim_ascii()) } else { None })
    }
}

/// The time, for years that are not told.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp { secs: i64::try_from(since.as_secs()).unwrap_or(0), nanos: 0 }
}

fn not_understood(directory: &[u8], line: &[u8], rule: &str) -> HostsError {
    let line = &line[..line.len().min(LINE_SHOWN_MAX)];
    let words = format!("{rule}: {}", line.escape_ascii());
    HostsError::remote(HostErrorKind::Other, "list", directory, words)
}
