//! [`SftpFiles`]: files on a server that is reached over SSH.
//!
//! - `wire`: packets; `connection`: requests and answers, several at a time;
//!   `transfer`: open files, asked ahead of and written behind;
//! - [`ssh`]: the encrypted channel, by `russh`, on a thread of its own; `login`;
//!   `host_key` and [`known_hosts`]: which key a server must have; [`config`]: OpenSSH's own
//!   configuration; [`command`]: a program in place of SSH.

use std::fmt;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use tiroir_core::host::HostErrorKind;

use self::connection::{Connection, Fault, Token};
use self::transfer::{Role, Transfers};
use self::wire::{Fields, Malformed, Packet, kind, open_flags, status};
use crate::error::{HostsError, Result};
use crate::remote::patience::Patience;
use crate::remote::{
    Abilities, EachChild, EntryKind, NewAttributes, ReadId, RemoteEntry, RemoteFiles, WriteId,
};
use crate::warn::Warnings;

pub mod command;
#[cfg(feature = "sftp")]
pub mod config;
mod connection;
#[cfg(feature = "sftp")]
mod host_key;
#[cfg(feature = "sftp")]
pub mod known_hosts;
#[cfg(feature = "sftp")]
mod login;
#[cfg(feature = "sftp")]
pub mod ssh;
#[cfg(test)]
mod tests;
mod transfer;
mod wire;

/// Makes a stream that leads to a server's SFTP.
pub trait Dial: fmt::Debug {
    /// Connects, and logs in.
    ///
    /// # Errors
    ///
    /// Why that is not possible.
    fn dial(&mut self) -> Result<UnixStream>;

    /// Name of the server in messages: `sftp://user@host:port`.
    fn shown(&self) -> &str;
}

/// What a server was found to refuse, and is not asked again.
#[derive(Clone, Copy, Debug, Default)]
struct Refusals {
    owners: bool,
    attributes: bool,
}

/// [`RemoteFiles`] over SFTP.
///
/// Takes half a mebibyte for transfers, up to a quarter for answers, and what
/// SSH takes: see docs/memory.md.
pub struct SftpFiles {
    dial: Box<dyn Dial>,
    patience: Patience,
    connection: Option<Connection>,
    transfers: Transfers,
    /// There was a connection once, so that it is worth trying again.
    was_connected: bool,
    refusals: Refusals,
    warnings: Warnings,
}

impl fmt::Debug for SftpFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SftpFiles").field("dial", &self.dial).finish_non_exhaustive()
    }
}

impl SftpFiles {
    /// Files of the server that `dial` leads to. It is not called yet.
    #[must_use]
    pub fn new(dial: Box<dyn Dial>, patience: Patience) -> Self {
        Self {
            dial,
            patience,
            connection: None,
            transfers: Transfers::default(),
            was_connected: false,
            refusals: Refusals::default(),
            warnings: Warnings::default(),
        }
    }

    /// With a receiver of warnings.
    #[must_use]
    pub fn with_warnings(mut self, receiver: impl FnMut(&str) + Send + 'static) -> Self {
        self.warnings = Warnings::new(receiver);
        self
    }

    /// Connects, and has the files that were open opened again.
    ///
    /// A server that is about to restart refuses too; the first time it is rather
    /// the address that is wrong, and nothing to be tried again.
    fn connect(&mut self) -> Result<&mut Connection, Outcome> {
        if self.connection.is_none() {
            let connected = self.try_to_connect();
            self.connection = Some(connected.map_err(|outcome| match outcome {
                Outcome::Failed(error) if self.was_connected => Outcome::Again(error),
                Outcome::Again(error) if !self.was_connected => Outcome::Failed(error),
                other => other,
            })?);
            self.was_connected = true;
        }
        self.connection.as_mut().ok_or(Outcome::Failed(HostsError::rule(
            HostErrorKind::Other,
            "speak to",
            b"",
            "there is no connection",
        )))
    }

    fn try_to_connect(&mut self) -> Result<Connection, Outcome> {
        self.transfers.lose_link();
        let stream = self.dial.dial().map_err(Outcome::Failed)?;
        let fault = |fault| self.outcome("speak to", b"", fault);
        let mut connection = Connection::start(stream, self.patience.clone()).map_err(fault)?;
        let reopened = self.transfers.reopen(&mut connection);
        reopened.map_err(|fault| self.outcome("speak to", b"", fault))?;
        Ok(connection)
    }

    /// Does something over the connection, and does it again over another one
    /// when it breaks. `work` is told whether it may have been done before.
    fn run<T>(
        &mut self,
        operation: &'static str,
        path: &[u8],
        mut work: impl FnMut(&mut Transfers, &mut Connection, bool) -> Result<T, Fault>,
    ) -> Result<T> {
        let mut since = None;
        let mut attempt = 0;
        loop {
            let outcome = match self.connect() {
                Err(outcome) => outcome,
                Ok(_) => {
                    let Self { connection, transfers, .. } = self;
                    let Some(connection) = connection else { continue };
                    match work(transfers, connection, attempt > 0) {
                        Ok(done) => return Ok(done),
                        Err(fault) => self.outcome(operation, path, fault),
                    }
                }
            };
            match outcome {
                Outcome::Failed(error) => return Err(error),
                Outcome::Again(error) => {
                    self.connection = None;
                    attempt += 1;
                    let since = *since.get_or_insert_with(Instant::now);
                    if attempt == 1 {
                        self.warnings.warn(&format!("{error}; trying again"));
                    }
                    if !self.patience.pause(attempt, since) {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// What a fault means for what was done.
    fn outcome(&self, operation: &'static str, path: &[u8], fault: Fault) -> Outcome {
        let shown = [self.dial.shown().as_bytes(), path].concat();
        match fault {
            Fault::Caller(error) => Outcome::Failed(*error),
            Fault::Stopped => Outcome::Failed(HostsError::rule(
                HostErrorKind::Other,
                operation,
                &shown,
                "it was told to stop",
            )),
            Fault::Lost(words) => {
                Outcome::Again(HostsError::remote(HostErrorKind::Other, operation, &shown, words))
            }
            Fault::Refused { code, words } => {
                let (kind, usual) = meaning(code);
                let words = if words.is_empty() { usual } else { &*words };
                let words = if code == status::FAILURE && words.eq_ignore_ascii_case("failure") {
                    "the server says no more than \"failure\""
                } else {
                    words
                };
                Outcome::Failed(HostsError::remote(kind, operation, &shown, words))
            }
        }
    }

    /// A request whose answer is a status, and that can be done once: that a first
    /// attempt had done it is no failure of the next one. `redone` is what the
    /// server says then.
    fn once(
        &mut self,
        operation: &'static str,
        path: &[u8],
        kind: u8,
        redone: u32,
        fill: impl for<'b> Fn(Packet<'b>) -> Packet<'b>,
    ) -> Result<()> {
        self.run(operation, path, |transfers, connection, again| {
            match done(&call(transfers, connection, kind, &fill)?) {
                Err(fault) if again && fault.is(redone) => Ok(()),
                other => other,
            }
        })
    }

    /// Tells *already exists* from other failures, since most servers do not.
    fn if_exists(&mut self, error: HostsError, operation: &'static str, path: &[u8]) -> HostsError {
        use tiroir_core::host::HostError as _;
        if error.kind() != HostErrorKind::Other || self.inspect(path).is_err() {
            return error;
        }
        let shown = [self.dial.shown().as_bytes(), path].concat();
        HostsError::rule(HostErrorKind::AlreadyExists, operation, &shown, "it is there already")
    }

    /// Tells *no space* from other failures, since most servers do not.
    fn if_full(&mut self, error: HostsError, operation: &'static str, path: &[u8]) -> HostsError {
        use tiroir_core::host::HostError as _;
        if error.kind() != HostErrorKind::Other || self.connection.is_none() {
            return error;
        }
        let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        let directory = if end == 0 { b"/" } else { &path[..end] };
        match self.free_bytes(directory) {
            Ok(Some(free)) if free < 1 << 20 => {
                let shown = [self.dial.shown().as_bytes(), path].concat();
                let rule = "no space is left on the server";
                HostsError::rule(HostErrorKind::NoSpace, operation, &shown, rule)
            }
            _ => error,
        }
    }

    /// Path that a directory really has: `.` is where logins begin.
    ///
    /// # Errors
    ///
    /// Of the server.
    pub fn real_path(&mut self, path: &[u8]) -> Result<Vec<u8>> {
        self.run("find", path, |transfers, connection, _| {
            one_name(&call(transfers, connection, kind::REALPATH, |p| p.string(path))?)
        })
    }

    /// Sets attributes by a path or a handle, owners first because that clears
    /// other things. What the server refuses stays as it is.
    fn set(&mut self, path: &[u8], extended: bool, new: &NewAttributes) -> Result<()> {
        let parts = [(new.owner, None, None), (None, new.permissions, new.mod_time)];
        for (owner, permissions, mod_time) in parts {
            let is_owner = owner.is_some();
            if (is_owner && self.refusals.owners)
                || (!is_owner && permissions.is_none() && mod_time.is_none())
            {
                continue;
            }
            let set = self.run("set attributes of", path, |transfers, connection, _| {
                let kind = if extended { kind::EXTENDED } else { kind::SETSTAT };
                let answer = call(transfers, connection, kind, |packet| {
                    let packet = match extended {
                        true => packet.string(b"lsetstat@openssh.com"),
                        false => packet,
                    };
                    packet.string(path).attributes(owner, permissions, mod_time)
                })?;
                match done(&answer) {
                    Err(Fault::Refused { code, .. }) if is_unable(code) => Ok(false),
                    other => other.map(|()| true),
                }
            })?;
            if !set {
                self.note_refusal(is_owner);
            }
        }
        Ok(())
    }

    /// Says once that something cannot be set.
    fn note_refusal(&mut self, is_owner: bool) {
        let (noted, what) = match is_owner {
            true => (&mut self.refusals.owners, "owners"),
            false => (&mut self.refusals.attributes, "modes or times"),
        };
        if !std::mem::replace(noted, true) {
            let server = self.dial.shown();
            self.warnings.warn(&format!("not all {what} can be set on {server}"));
        }
    }
}

/// What became of an attempt.
enum Outcome {
    /// It failed for good.
    Failed(HostsError),
    /// The link broke.
    Again(HostsError),
}

/// An answer: its kind and fields.
struct Answer<'c> {
    kind: u8,
    fields: Fields<'c>,
}

/// Sends a request and waits for its answer.
fn call<'c>(
    transfers: &mut Transfers,
    connection: &'c mut Connection,
    kind: u8,
    fill: impl for<'b> FnOnce(Packet<'b>) -> Packet<'b>,
) -> Result<Answer<'c>, Fault> {
    while !connection.has_room() {
        let (_, token, kind) = connection.receive()?;
        transfers.settle(connection, (token, kind))?;
    }
    let id = connection.send(Token::Call, kind, fill)?;
    let kind = connection.answer(id, |connection, answer| transfers.settle(connection, answer))?;
    Ok(Answer { kind, fields: connection.fields() })
}

/// The error that a status is, unless it is *OK*.
fn done(answer: &Answer<'_>) -> Result<(), Fault> {
    match answer.kind {
        kind::STATUS => Fault::of_status(&mut answer.fields.clone()),
        _ => Err(Malformed.into()),
    }
}

/// Fields of an answer of that kind; else the status that came in its place.
fn wanted<'c>(answer: &Answer<'c>, kind: u8) -> Result<Fields<'c>, Fault> {
    if answer.kind == kind {
        return Ok(answer.fields.clone());
    }
    done(answer)?;
    Err(Malformed.into())
}

/// The name in an answer with one.
fn one_name(answer: &Answer<'_>) -> Result<Vec<u8>, Fault> {
    let mut fields = wanted(answer, kind::NAME)?;
    match fields.u32()? {
        0 => Err(Malformed.into()),
        _ => Ok(fields.string()?.to_vec()),
    }
}

/// Kind of a status, and words where the server has none.
fn meaning(code: u32) -> (HostErrorKind, &'static str) {
    match code {
        status::NO_SUCH_FILE => (HostErrorKind::NotFound, "No such file"),
        status::PERMISSION_DENIED | status::WRITE_PROTECT => {
            (HostErrorKind::PermissionDenied, "Permission denied")
        }
        status::FILE_ALREADY_EXISTS => (HostErrorKind::AlreadyExists, "File exists"),
        status::NO_SPACE | status::QUOTA_EXCEEDED => (HostErrorKind::NoSpace, "No space left"),
        status::OP_UNSUPPORTED => (HostErrorKind::Other, "the server cannot do that"),
        status::EOF => (HostErrorKind::Other, "End of file"),
        _ => (HostErrorKind::Other, "failure"),
    }
}

/// Whether a status says that something cannot be done here, or by us.
fn is_unable(code: u32) -> bool {
    matches!(
        code,
        status::OP_UNSUPPORTED
            | status::PERMISSION_DENIED
            | status::FAILURE
            | status::WRITE_PROTECT
    )
}

impl RemoteFiles for SftpFiles {
    fn shown(&self) -> &str {
        self.dial.shown()
    }

    fn describe(&mut self) -> Result<String> {
        let extensions = self.run("speak to", b"", |_, connection, _| Ok(connection.extensions))?;
        let mut names = Vec::new();
        for (is_there, name) in [
            (extensions.posix_rename, "posix-rename"),
            (extensions.fsync, "fsync"),
            (extensions.hardlink, "hardlink"),
            (extensions.statvfs, "statvfs"),
            (extensions.lsetstat, "lsetstat"),
            (extensions.limits, "limits"),
        ] {
            names.push(if is_there { name.to_owned() } else { format!("no {name}") });
        }
        Ok(format!("SFTP version 3; {}", names.join(", ")))
    }

    fn abilities(&mut self) -> Result<Abilities> {
        let extensions = self.run("speak to", b"", |_, connection, _| Ok(connection.extensions))?;
        Ok(Abilities {
            sync: extensions.fsync,
            atomic_replace: extensions.posix_rename,
            symbolic_links: true,
            hard_links: extensions.hardlink,
            permissions: true,
            times: true,
            owners: true,
        })
    }

    fn inspect(&mut self, path: &[u8]) -> Result<RemoteEntry> {
        self.run("inspect", path, |transfers, connection, _| {
            let answer = call(transfers, connection, kind::LSTAT, |p| p.string(path))?;
            Ok(wanted(&answer, kind::ATTRS)?.attributes()?)
        })
    }

    fn list(&mut self, directory: &[u8], each: &mut EachChild<'_>) -> Result<()> {
        let mut count = 0_u64;
        let mut interrupted = None;
        self.run("list", directory, |transfers, connection, _| {
            if count > 0 {
                // Children would come twice.
                let words = interrupted.take().unwrap_or_else(|| "the link broke".into());
                return Err(Fault::Refused { code: status::FAILURE, words });
            }
            let listed = list(transfers, connection, directory, each, &mut count);
            if let Err(Fault::Lost(words)) = &listed {
                interrupted = Some(words.clone());
            }
            listed
        })
    }

    fn read_link(&mut self, path: &[u8], into: &mut Vec<u8>) -> Result<()> {
        let target = self.run("read link", path, |transfers, connection, _| {
            one_name(&call(transfers, connection, kind::READLINK, |p| p.string(path))?)
        })?;
        into.extend_from_slice(&target);
        Ok(())
    }

    fn make_directory(&mut self, path: &[u8]) -> Result<()> {
        const OPERATION: &str = "make directory";
        self.once(OPERATION, path, kind::MKDIR, status::FAILURE, |packet| {
            packet.string(path).attributes(None, Some(0o700), None)
        })
        .map_err(|error| self.if_exists(error, OPERATION, path))
    }

    fn remove_file(&mut self, path: &[u8]) -> Result<()> {
        self.once("remove", path, kind::REMOVE, status::NO_SUCH_FILE, |p| p.string(path))
    }

    fn remove_directory(&mut self, path: &[u8]) -> Result<()> {
        self.once("remove directory", path, kind::RMDIR, status::NO_SUCH_FILE, |p| p.string(path))
    }

    fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        const OPERATION: &str = "give its name to";
        if self.abilities()?.atomic_replace {
            return self.once(OPERATION, to, kind::EXTENDED, status::NO_SUCH_FILE, |packet| {
                packet.string(b"posix-rename@openssh.com").string(from).string(to)
            });
        }
        let plain = |this: &mut Self| {
            this.once(OPERATION, to, kind::RENAME, status::NO_SUCH_FILE, |packet| {
                packet.string(from).string(to)
            })
        };
        match plain(self) {
            // The protocol says that nothing may have that name.
            Err(error) => match self.remove_file(to) {
                Ok(()) => plain(self),
                Err(_) => Err(error),
            },
            Ok(()) => Ok(()),
        }
    }

    fn create(&mut self, path: &[u8]) -> Result<WriteId> {
        let opened = self.run("create", path, |transfers, connection, again| {
            let exclusive = if again { 0 } else { open_flags::EXCLUSIVE };
            let flags = open_flags::WRITE | open_flags::CREATE | exclusive;
            let handle = transfers.open(connection, path, flags)?;
            let role = Role::Write { length: 0, filling: None, settling: 0 };
            transfers.add(path, handle, role)
        });
        match opened {
            Ok(id) => Ok(WriteId(id)),
            Err(error) => {
                let error = self.if_exists(error, "create", path);
                Err(self.if_full(error, "create", path))
            }
        }
    }

    fn write(&mut self, id: WriteId, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        let path = self.transfers.file(id.0).map(|file| file.path.clone()).unwrap_or_default();
        self.run("write", &path, |transfers, connection, _| {
            transfers.write(connection, id.0, &mut rest)
        })
        .map_err(|error| self.if_full(error, "write", &path))
    }

    fn finish(&mut self, id: WriteId, attributes: &NewAttributes, durably: bool) -> Result<()> {
        let path = self.transfers.file(id.0).map(|file| file.path.clone()).unwrap_or_default();
        let owners = !self.refusals.owners;
        let mut written = 0;
        let finished = self.run("write", &path, |transfers, connection, _| {
            written = transfers.written(id.0)?;
            transfers.flush(connection, id.0)?;
            finish(transfers, connection, id.0, attributes, (owners, durably))
        });
        if let Some((handle, _)) = self.transfers.remove(id.0)
            && let Some(connection) = &mut self.connection
            && connection.has_room()
        {
            let _ = connection.send(Token::Forget, kind::CLOSE, |p| p.string(&handle));
        }
        let found = match finished {
            Ok(found) => found,
            Err(error) => return Err(self.if_full(error, "write", &path)),
        };
        if found.size_bytes.is_some_and(|size| size != written) {
            let shown = [self.dial.shown().as_bytes(), &path].concat();
            let rule = "the server has another length than was written";
            return Err(HostsError::rule(HostErrorKind::Other, "write", &shown, rule));
        }
        Ok(())
    }

    fn discard(&mut self, id: WriteId) {
        let Some((handle, path)) = self.transfers.remove(id.0) else { return };
        if let Some(connection) = &mut self.connection
            && connection.has_room()
            && connection.send(Token::Forget, kind::CLOSE, |p| p.string(&handle)).is_ok()
        {
            let _ = self.remove_file(&path);
        }
    }

    fn open(&mut self, path: &[u8]) -> Result<ReadId> {
        let id = self.run("open", path, |transfers, connection, _| {
            let handle = transfers.open(connection, path, open_flags::READ)?;
            let role = Role::Read { position: 0, requested: 0, ahead: 0, asked_after: false };
            transfers.add(path, handle, role)
        })?;
        Ok(ReadId(id))
    }

    fn read(&mut self, id: ReadId, offset_bytes: u64, into: &mut [u8]) -> Result<usize> {
        let path = self.transfers.file(id.0).map(|file| file.path.clone()).unwrap_or_default();
        let mut filled = 0;
        self.run("read", &path, |transfers, connection, _| {
            transfers.read(connection, id.0, offset_bytes, into, &mut filled)
        })?;
        Ok(filled)
    }

    fn inspect_open(&mut self, id: ReadId) -> Result<RemoteEntry> {
        let path = self.transfers.file(id.0).map(|file| file.path.clone()).unwrap_or_default();
        self.run("inspect", &path, |transfers, connection, _| transfers.stat(connection, id.0))
    }

    fn close(&mut self, id: ReadId) {
        let Some((handle, _)) = self.transfers.remove(id.0) else { return };
        let Some(connection) = &mut self.connection else { return };
        while !connection.has_room() {
            let settled = connection
                .receive()
                .and_then(|(_, token, kind)| self.transfers.settle(connection, (token, kind)));
            if settled.is_err() {
                self.connection = None;
                return;
            }
        }
        if connection.send(Token::Forget, kind::CLOSE, |p| p.string(&handle)).is_err() {
            self.connection = None;
        }
    }

    fn set_attributes(&mut self, path: &[u8], attributes: &NewAttributes) -> Result<()> {
        let extensions = self.run("speak to", b"", |_, connection, _| Ok(connection.extensions))?;
        if !extensions.lsetstat && self.inspect(path)?.kind == EntryKind::SymbolicLink {
            // It would be set of what the link leads to.
            return Ok(());
        }
        self.set(path, extensions.lsetstat, attributes)
    }

    fn make_link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        const OPERATION: &str = "make link";
        // In the order of OpenSSH, which is not that of the draft, and which
        // servers follow.
        self.once(OPERATION, path, kind::SYMLINK, status::FAILURE, |packet| {
            packet.string(target).string(path)
        })
        .map_err(|error| self.if_exists(error, OPERATION, path))
    }

    fn make_hard_link(&mut self, path: &[u8], original: &[u8]) -> Result<()> {
        const OPERATION: &str = "make link";
        self.once(OPERATION, path, kind::EXTENDED, status::FAILURE, |packet| {
            packet.string(b"hardlink@openssh.com").string(original).string(path)
        })
        .map_err(|error| self.if_exists(error, OPERATION, path))
    }

    fn free_bytes(&mut self, path: &[u8]) -> Result<Option<u64>> {
        self.run("inspect", path, |transfers, connection, _| {
            if !connection.extensions.statvfs {
                return Ok(None);
            }
            let answer = call(transfers, connection, kind::EXTENDED, |packet| {
                packet.string(b"statvfs@openssh.com").string(path)
            })?;
            let mut fields = wanted(&answer, kind::EXTENDED_REPLY)?;
            let (_block, fragment) = (fields.u64()?, fields.u64()?);
            let (_blocks, _free, available) = (fields.u64()?, fields.u64()?, fields.u64()?);
            Ok(Some(fragment.saturating_mul(available)))
        })
    }
}

/// Lists a directory; the next part of it is asked for before one is looked at.
fn list(
    transfers: &mut Transfers,
    connection: &mut Connection,
    directory: &[u8],
    each: &mut EachChild<'_>,
    count: &mut u64,
) -> Result<(), Fault> {
    let answer = call(transfers, connection, kind::OPENDIR, |p| p.string(directory))?;
    let handle = transfer::handle_of(answer.kind, &mut answer.fields.clone())?;
    let listed = list_open(transfers, connection, &handle, each, count);
    if !matches!(listed, Err(Fault::Lost(_) | Fault::Stopped)) {
        while !connection.has_room() {
            let (_, token, kind) = connection.receive()?;
            transfers.settle(connection, (token, kind))?;
        }
        connection.send(Token::Forget, kind::CLOSE, |p| p.string(&handle))?;
    }
    listed
}

fn list_open(
    transfers: &mut Transfers,
    connection: &mut Connection,
    handle: &[u8],
    each: &mut EachChild<'_>,
    count: &mut u64,
) -> Result<(), Fault> {
    let mut next = None;
    loop {
        let id = match next.take() {
            Some(id) => id,
            None => {
                while !connection.has_room() {
                    let (_, token, kind) = connection.receive()?;
                    transfers.settle(connection, (token, kind))?;
                }
                connection.send(Token::Call, kind::READDIR, |p| p.string(handle))?
            }
        };
        let kind = connection.answer(id, |c, answer| transfers.settle(c, answer))?;
        let mut fields = connection.fields();
        if kind == kind::STATUS {
            return match Fault::of_status(&mut fields) {
                Err(fault) if fault.is(status::EOF) => Ok(()),
                other => other,
            };
        }
        if kind != kind::NAME {
            return Err(Malformed.into());
        }
        let names = fields.u32()?;
        if names == 0 {
            // Without this, a server could keep us asking.
            return Err(Malformed.into());
        }
        // The answer stays where it is until the next one is taken.
        let is_ahead = connection.has_room();
        if is_ahead {
            next = Some(connection.send(Token::Call, kind::READDIR, |p| p.string(handle))?);
        }
        let mut fields = connection.fields();
        fields.u32()?;
        for _ in 0..names {
            let (name, _long, entry) = (fields.string()?, fields.string()?, fields.attributes()?);
            if matches!(name, b"." | b"..") {
                continue;
            }
            *count += 1;
            if let Err(error) = each(name, &entry) {
                if let Some(id) = next {
                    connection.forget(id);
                }
                return Err(Fault::Caller(Box::new(error)));
            }
        }
    }
}

/// Sets attributes of a file that was written, has it synced if it is to be durable,
/// and asks how long it is: all in one breath.
fn finish(
    transfers: &mut Transfers,
    connection: &mut Connection,
    id: u32,
    new: &NewAttributes,
    (owners, durably): (bool, bool),
) -> Result<RemoteEntry, Fault> {
    for (owner, permissions, mod_time) in
        [(new.owner.filter(|_| owners), None, None), (None, new.permissions, new.mod_time)]
    {
        if owner.is_some() || permissions.is_some() || mod_time.is_some() {
            transfers.send_settling(
                connection,
                id,
                true,
                |packet, handle| packet.string(handle).attributes(owner, permissions, mod_time),
                kind::FSETSTAT,
            )?;
        }
    }
    if durably && connection.extensions.fsync {
        transfers.send_settling(
            connection,
            id,
            false,
            |packet, handle| packet.string(b"fsync@openssh.com").string(handle),
            kind::EXTENDED,
        )?;
    }
    transfers.ask_stat(connection, id)?;
    transfers.wait_written(connection, id)?;
    Ok(transfers.file(id)?.stat.unwrap_or_default())
}
