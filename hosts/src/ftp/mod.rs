//! [`FtpFiles`]: servers that speak FTP, with TLS or without.
//!
//! One file moves over one pair of connections: commands over one, content over
//! the other. So several files at once take several connections, of which there
//! is a small number; a file that is read gives its own up when another needs it,
//! and goes on from where it was.
//!
//! - `settings`: what location and options say;
//! - `wire`: bytes, TLS, and time-outs;
//! - `control`, `reply`: commands and replies;
//! - `data`: the second connection;
//! - `entries`: listings, and what is asked about and done to entries;
//! - `facts`, [`listing`], `when`, `names`: what servers write;
//! - `transfers`: files being written and read.

mod control;
mod data;
mod entries;
mod facts;
pub mod listing;
mod names;
pub mod reply;
mod settings;
#[cfg(test)]
mod tests;
mod transfers;
mod when;
mod wire;

use std::io;
use std::time::Duration;

use tiroir_core::host::{HostError as _, HostErrorKind};

use self::control::{Connection, Failure, Server};
use self::entries::Session;
pub use self::settings::OPTIONS;
use self::settings::Settings;
use self::transfers::{Break, Download, Upload};
use crate::address::Address;
use crate::error::{HostsError, Result};
use crate::options::Options;
use crate::rate::Limits;
use crate::remote::{
    Abilities, EachChild, EntryKind, NewAttributes, ReadId, RemoteEntry, RemoteFiles, WriteId,
};

/// What is fuzzed, and is of no use elsewhere.
#[doc(hidden)]
pub mod fuzzing {
    /// Reads a line of `MLSD`.
    pub fn facts(line: &[u8]) {
        if let Ok(listed) = super::facts::parse_line(line) {
            assert!(!listed.name.is_empty());
        }
    }
}

/// How often something is tried again after the link broke.
const RETRIES_MAX: u32 = 4;

/// How long is waited before the first of these; twice as long before each next.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// A connection that was idle for longer is asked whether it is there.
const IDLE_TIME: Duration = Duration::from_secs(15);

/// Permissions of a new directory, where they can be said.
const OWNER_ONLY: u32 = 0o700;

/// Waits longer and longer, and ends.
#[derive(Debug)]
struct Retries {
    limits: Limits,
    count: u32,
}

impl Retries {
    fn new(limits: &Limits) -> Self {
        Self { limits: limits.clone(), count: 0 }
    }

    /// Whether to try again: waits before it says so. Not if the work is to stop
    /// meanwhile.
    fn again(&mut self) -> bool {
        if self.count == RETRIES_MAX {
            return false;
        }
        let pause = FIRST_PAUSE * (1 << self.count);
        self.count += 1;
        // Others that lost the same server wait differently long.
        let mut random = [0; 4];
        let _ = getrandom::fill(&mut random);
        let jitter = u64::from(u32::from_le_bytes(random)) % 1000;
        let pause = pause / 2 + pause.mul_f64(f64::from(u32::try_from(jitter).unwrap_or(0)) / 1e3);
        cfg!(test) || self.limits.pause(pause)
    }
}

/// What a server says of itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Description {
    /// Its greeting.
    pub banner: String,
    /// Its system, as it says.
    pub system: String,
    /// Version and cipher of TLS; nothing without.
    pub security: Option<String>,
    /// What it can do beside what every server can.
    pub features: Vec<String>,
}

/// Files on a server that speaks FTP.
///
/// Takes 8 KiB for each connection, of which there are four at most unless told
/// otherwise; with TLS up to 160 KiB for each, while a file moves over it.
#[derive(Debug)]
pub struct FtpFiles {
    settings: Settings,
    /// Name in messages.
    shown: String,
    server: Option<Server>,
    /// The one used last comes last.
    idle: Vec<Connection>,
    /// Connections there may be; fewer than asked for if the server said so.
    connections_max: usize,
    uploads: Vec<Upload>,
    downloads: Vec<Download>,
    /// How a transfer is broken off.
    breaks: Break,
    /// Numbers for those, never used twice.
    next_id: u32,
}

impl FtpFiles {
    /// What lies at `address`, where `implicit` says that the scheme was `ftps`.
    /// Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// Options that are not understood.
    pub fn new(address: &Address, implicit: bool, options: &Options) -> Result<Self> {
        let settings = Settings::new(address, implicit, options)?;
        Ok(Self {
            connections_max: settings.connections,
            settings,
            shown: format!("{}://{}", if implicit { "ftps" } else { "ftp" }, address.origin()),
            server: None,
            idle: Vec::new(),
            uploads: Vec::new(),
            downloads: Vec::new(),
            breaks: Break::Told,
            next_id: 0,
        })
    }

    /// With limits of how fast the bytes of files and listings move.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.settings.limits = limits;
        self
    }

    /// What the server says of itself, for people. Connects if it has to.
    ///
    /// # Errors
    ///
    /// Of the connection.
    pub fn description(&mut self) -> Result<Description> {
        self.attempt("connect to", b"", true, |_| Ok(()))?;
        let server = self.server.as_ref();
        Ok(server.map_or_else(Description::default, |server| Description {
            banner: server.banner.clone(),
            system: server.system.clone(),
            security: server.security.clone(),
            features: server.features.words.clone(),
        }))
    }

    /// Does something over one connection; again, if it may be done twice and
    /// the link broke. A refusal without a reason is looked into.
    fn attempt<T>(
        &mut self,
        operation: &'static str,
        path: &[u8],
        may_repeat: bool,
        mut work: impl FnMut(&mut Session<'_>) -> Result<T, Failure>,
    ) -> Result<T> {
        let mut retries = Retries::new(&self.settings.limits);
        loop {
            let mut connection = self.take(operation, path)?;
            let (settings, Some(server)) = (&mut self.settings, &mut self.server) else {
                return Err(unknown_server(operation, path));
            };
            let mut session = Session { connection: &mut connection, settings, server };
            let failure = match work(&mut session) {
                Ok(done) => {
                    self.idle.push(connection);
                    return Ok(done);
                }
                Err(failure) => failure,
            };
            if failure.is_passing() && may_repeat && retries.again() {
                if failure.is_in_sync() {
                    self.idle.push(connection);
                }
                continue;
            }
            let (error, in_sync) = explained(&mut session, failure, operation, path);
            if in_sync {
                self.idle.push(connection);
            }
            return Err(error);
        }
    }

    /// A connection that nobody uses.
    fn take(&mut self, operation: &'static str, path: &[u8]) -> Result<Connection> {
        let mut retries = Retries::new(&self.settings.limits);
        loop {
            while let Some(mut connection) = self.idle.pop() {
                if connection.is_spent() {
                    connection.quit();
                    continue;
                }
                if connection.heard.elapsed() < IDLE_TIME || connection.is_alive() {
                    return Ok(connection);
                }
            }
            let busy = self.busy();
            if busy >= self.connections_max {
                if !self.give_up_oldest() {
                    let rule = "every connection writes a file: allow more (option connections)";
                    return Err(HostsError::rule(HostErrorKind::Other, operation, path, rule));
                }
                continue;
            }
            match Connection::open(&mut self.settings, &mut self.server) {
                Ok(connection) => return Ok(connection),
                // There is one already, so it is not the login.
                Err(Failure::Said(reply) | Failure::Last(reply))
                    if busy > 0 && matches!(reply.code, 421 | 425 | 530) =>
                {
                    self.connections_max = busy;
                }
                // Nor is it, where it hangs up without a word.
                Err(Failure::Lost(error)) if busy > 0 && is_hanging_up(&error) => {
                    self.connections_max = busy;
                }
                Err(failure) if failure.is_passing() && retries.again() => {}
                Err(failure) => {
                    let origin = self.settings.origin();
                    return Err(failure.into_error("connect to", origin.as_bytes()));
                }
            }
        }
    }

    /// Connections over which a file moves.
    fn busy(&self) -> usize {
        let reading = self.downloads.iter().filter(|download| download.stream.is_some());
        self.uploads.len() + reading.count()
    }

    /// Ends what was read longest ago, to have its connection.
    fn give_up_oldest(&mut self) -> bool {
        let open = self.downloads.iter_mut().filter(|download| download.stream.is_some());
        let Some(oldest) = open.min_by_key(|download| download.used) else { return false };
        let connection = oldest.give_up(&mut self.breaks);
        self.idle.extend(connection);
        true
    }

    fn next_id(&mut self) -> u32 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }
}

/// An error with its kind, which some servers leave open, and whether the
/// connection can be used on.
fn explained(
    session: &mut Session<'_>,
    failure: Failure,
    operation: &'static str,
    path: &[u8],
) -> (HostsError, bool) {
    let mut in_sync = failure.is_in_sync();
    if let Failure::Said(reply) = &failure
        && reply.kind() == HostErrorKind::Other
        && matches!(reply.code, 450 | 451 | 550 | 553)
    {
        let found = session.find(path);
        in_sync = found.as_ref().err().is_none_or(Failure::is_in_sync);
        if matches!(found, Ok(None)) {
            let kind = HostErrorKind::NotFound;
            return (HostsError::remote(kind, operation, path, reply.words()), in_sync);
        }
    }
    (failure.into_error(operation, path), in_sync)
}

fn is_hanging_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

fn unknown_server(operation: &'static str, path: &[u8]) -> HostsError {
    HostsError::rule(HostErrorKind::Other, operation, path, "nothing is known of the server")
}

fn cannot(operation: &'static str, path: &[u8], rule: &'static str) -> HostsError {
    HostsError::rule(HostErrorKind::Other, operation, path, rule)
}

fn not_found(operation: &'static str, path: &[u8]) -> HostsError {
    HostsError::rule(HostErrorKind::NotFound, operation, path, "the server has no such entry")
}

impl Drop for FtpFiles {
    fn drop(&mut self) {
        for connection in self.idle.drain(..) {
            connection.quit();
        }
    }
}

impl RemoteFiles for FtpFiles {
    fn shown(&self) -> &str {
        &self.shown
    }

    fn describe(&mut self) -> Result<String> {
        let Description { banner, system, security, features } = self.description()?;
        let security = security.as_deref().unwrap_or("without TLS");
        let features = if features.is_empty() { "none".to_owned() } else { features.join(", ") };
        Ok(format!("{banner} ({system}); {security}; features: {features}"))
    }

    fn abilities(&mut self) -> Result<Abilities> {
        let permissions =
            self.attempt("connect to", b"", true, |session| session.sets_permissions())?;
        let server = self.server.as_ref();
        Ok(Abilities {
            atomic_replace: server.is_some_and(|server| server.replaces),
            permissions,
            times: server
                .is_some_and(|server| server.features.mfmt || server.mdtm_sets == Some(true)),
            ..Abilities::default()
        })
    }

    fn inspect(&mut self, path: &[u8]) -> Result<RemoteEntry> {
        let found = self.attempt("inspect", path, true, |session| session.find(path))?;
        found.ok_or_else(|| not_found("inspect", path))
    }

    fn list(&mut self, directory: &[u8], each: &mut EachChild<'_>) -> Result<()> {
        let mut retries = Retries::new(&self.settings.limits);
        loop {
            // Children must not be told twice.
            let mut told = false;
            let listed = self.attempt("list", directory, false, |session| {
                let listed = session.list(directory, &mut |name, entry| {
                    told = true;
                    each(name, entry)
                });
                Ok(match listed {
                    Err(failure) if failure.is_passing() && !told => Err(failure),
                    listed => return listed.map(Ok),
                })
            })?;
            match listed {
                Err(_) if retries.again() => {}
                Err(failure) => return Err(failure.into_error("list", directory)),
                Ok(()) => return Ok(()),
            }
        }
    }

    fn read_link(&mut self, path: &[u8], _into: &mut Vec<u8>) -> Result<()> {
        Err(cannot("read link", path, "FTP has no command for it"))
    }

    fn make_directory(&mut self, path: &[u8]) -> Result<()> {
        self.attempt("make directory", path, false, |session| {
            match session.done("MKD", path) {
                // The one reply for everything.
                Err(Failure::Said(reply)) if session.find(path)?.is_some() => {
                    let _ = reply;
                    Err(Failure::Rule(HostErrorKind::AlreadyExists, "something is there already"))
                }
                // Nothing to look for: the one above is missing.
                Err(failure) => Err(failure),
                Ok(()) => session.set_permissions(path, OWNER_ONLY),
            }
        })
    }

    fn remove_file(&mut self, path: &[u8]) -> Result<()> {
        self.remove("remove", "DELE", path)
    }

    fn remove_directory(&mut self, path: &[u8]) -> Result<()> {
        self.remove("remove directory", "RMD", path)
    }

    fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        self.attempt("rename", from, false, |session| session.rename(from, to))
    }

    fn create(&mut self, path: &[u8]) -> Result<WriteId> {
        self.start_upload(path)
    }

    fn write(&mut self, id: WriteId, bytes: &[u8]) -> Result<()> {
        self.upload(id)?.write(bytes)
    }

    fn finish(&mut self, id: WriteId, attributes: &NewAttributes, _durably: bool) -> Result<()> {
        self.finish_upload(id, attributes)
    }

    fn discard(&mut self, id: WriteId) {
        self.discard_upload(id);
    }

    fn open(&mut self, path: &[u8]) -> Result<ReadId> {
        let found = self.attempt("open", path, true, |session| session.find(path))?;
        let entry = found.ok_or_else(|| not_found("open", path))?;
        if entry.kind == EntryKind::Directory {
            return Err(cannot("open", path, "it is a directory"));
        }
        let id = ReadId(self.next_id());
        self.downloads.push(Download::new(id, path, entry.size_bytes));
        Ok(id)
    }

    fn read(&mut self, id: ReadId, offset_bytes: u64, into: &mut [u8]) -> Result<usize> {
        self.read_at(id, offset_bytes, into)
    }

    fn inspect_open(&mut self, id: ReadId) -> Result<RemoteEntry> {
        let path = self.download(id)?.path.clone();
        self.inspect(&path)
    }

    fn close(&mut self, id: ReadId) {
        let Some(at) = self.downloads.iter().position(|download| download.id == id) else { return };
        let mut download = self.downloads.swap_remove(at);
        let connection = download.give_up(&mut self.breaks);
        self.idle.extend(connection);
    }

    fn set_attributes(&mut self, path: &[u8], attributes: &NewAttributes) -> Result<()> {
        self.attempt("set the attributes of", path, true, |session| session.set(path, attributes))
    }

    fn make_link(&mut self, path: &[u8], _target: &[u8]) -> Result<()> {
        Err(cannot("make link", path, "FTP has no command for it"))
    }

    fn make_hard_link(&mut self, path: &[u8], _original: &[u8]) -> Result<()> {
        Err(cannot("make link", path, "FTP has no command for it"))
    }

    fn free_bytes(&mut self, path: &[u8]) -> Result<Option<u64>> {
        self.attempt("inspect", path, true, |session| session.free_bytes(path))
    }
}

impl FtpFiles {
    /// Removes something; what is gone when it is tried again is removed.
    fn remove(&mut self, operation: &'static str, verb: &str, path: &[u8]) -> Result<()> {
        let mut tries = 0;
        let removed = self.attempt(operation, path, true, |session| {
            tries += 1;
            session.done(verb, path)
        });
        match removed {
            Err(error) if tries > 1 && error.kind() == HostErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}
