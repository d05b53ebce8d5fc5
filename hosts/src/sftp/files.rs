//! [`RemoteFiles`] by the requests of SFTP.

use tiroir_core::host::{HostError as _, HostErrorKind};

use super::SftpFiles;
use super::connection::{Fault, Token};
use super::listing::{Given, list};
use super::outcome::is_unable;
use super::requests::{call, done, one_name, wanted};
use super::transfer::Role;
use super::wire::{Packet, kind, open_flags, status};
use crate::error::{HostsError, Result};
use crate::remote::{
    Abilities, EachChild, EntryKind, NewAttributes, ReadId, RemoteEntry, RemoteFiles, WriteId,
};

impl SftpFiles {
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
        if error.kind() != HostErrorKind::Other || self.inspect(path).is_err() {
            return error;
        }
        let shown = [self.dial.shown().as_bytes(), path].concat();
        HostsError::rule(HostErrorKind::AlreadyExists, operation, &shown, "it is there already")
    }

    /// Tells *no space* from other failures, since most servers do not.
    fn if_full(&mut self, error: HostsError, operation: &'static str, path: &[u8]) -> HostsError {
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
        let mut given = Given::default();
        let mut broken = None;
        self.run("list", directory, |transfers, connection, again| {
            if again && !given.may_begin_anew() {
                let words = broken.take().unwrap_or_else(|| "the link broke".into());
                return Err(Fault::Refused { code: status::FAILURE, words });
            }
            let listed = list(transfers, connection, directory, &mut |name, entry| {
                if given.is_new(name) { each(name, entry) } else { Ok(()) }
            });
            if let Err(Fault::Lost(words)) = &listed {
                broken = Some(words.clone());
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
            transfers.send_filling(connection, id.0)?;
            transfers.finish(connection, id.0, attributes, (owners, durably))
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
        let closed = self
            .transfers
            .make_room(connection)
            .and_then(|()| connection.send(Token::Forget, kind::CLOSE, |p| p.string(&handle)));
        if closed.is_err() {
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
