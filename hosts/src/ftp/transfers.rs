//! Files being written and read.

use std::io;
use std::time::{Duration, Instant};

use tiroir_core::host::HostErrorKind;

use super::control::{Connection, Failure};
use super::entries::Session;
use super::wire::Wire;
use super::{FtpFiles, Retries, cannot, explained, unknown_server};
use crate::error::{HostsError, Result};
use crate::remote::{NewAttributes, ReadId, WriteId};

/// What is read and thrown away, rather than to start anew, in bytes.
const SKIP_BYTES_MAX: u64 = 64 * 1024;

/// How long a server has to say that a transfer was broken off.
const BREAK_TIME: Duration = Duration::from_millis(500);

/// What may be on its way after a server was told to break off, in bytes.
const ON_ITS_WAY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How a transfer from the server is broken off such that its connection can be used on.
/// What does not do is not tried again: the next one is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Break {
    /// By `ABOR`, which is what the protocol has for it: RFC 959, 4.1.3. ProFTPD with TLS
    /// takes the end of the data connection for the end of everything.
    Told,
    /// By the end of the data connection, for servers that hear nothing meanwhile, as
    /// vsftpd.
    Cut,
    /// Not at all.
    Never,
}

/// A file being written.
#[derive(Debug)]
pub(super) struct Upload {
    id: WriteId,
    path: Vec<u8>,
    connection: Connection,
    /// Nothing after it broke.
    wire: Option<Wire>,
    written_bytes: u64,
}

impl Upload {
    /// Sends bytes. What the server says about a link that broke is the error.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(wire) = &mut self.wire else {
            return Err(cannot("write", &self.path, "the transfer has failed before"));
        };
        self.written_bytes += bytes.len() as u64;
        wire.write_all(bytes).map_err(|error| {
            self.wire = None;
            self.connection.reason(error).into_error("write", &self.path)
        })
    }
}

/// A file being read. While nothing is read, it may have no connection.
#[derive(Debug)]
pub(super) struct Download {
    pub(super) id: ReadId,
    pub(super) path: Vec<u8>,
    size: Option<u64>,
    pub(super) stream: Option<Stream>,
    /// When it was last read.
    pub(super) used: Instant,
}

/// Content that comes.
#[derive(Debug)]
pub(super) struct Stream {
    connection: Connection,
    wire: Wire,
    /// Where it is in the file.
    at: u64,
}

impl Download {
    pub(super) fn new(id: ReadId, path: &[u8], size: Option<u64>) -> Self {
        Self { id, path: path.to_vec(), size, stream: None, used: Instant::now() }
    }

    /// Ends the transfer, and returns its connection if that can be used on.
    pub(super) fn give_up(&mut self, breaks: &mut Break) -> Option<Connection> {
        let stream = self.stream.take()?;
        let left = self.size.map(|size| size.saturating_sub(stream.at));
        stream.give_up(left, breaks)
    }
}

impl Stream {
    /// What is left is read if it is little. Else the transfer is broken off.
    fn give_up(mut self, left: Option<u64>, breaks: &mut Break) -> Option<Connection> {
        if left.is_some_and(|left| left <= SKIP_BYTES_MAX) {
            let mut scratch = [0; 4096];
            let mut most = SKIP_BYTES_MAX * 2;
            loop {
                self.wire.renew_time();
                match self.wire.read(&mut scratch) {
                    Ok(0) => return self.end().ok(),
                    Ok(count) if most > count as u64 => most -= count as u64,
                    _ => break,
                }
            }
        }
        match *breaks {
            Break::Told => self.tell(breaks),
            Break::Cut => self.cut(breaks),
            Break::Never => None,
        }
    }

    /// Tells the server to break off, and waits until it did.
    fn tell(mut self, breaks: &mut Break) -> Option<Connection> {
        let heard = self.connection.send("ABOR", b"").is_ok()
            && self.wire.drain(ON_ITS_WAY_BYTES_MAX, BREAK_TIME);
        // Else it was cut now, and will hear of the other way later.
        if !heard {
            *breaks = Break::Cut;
        }
        let in_time = |connection: &mut Connection| connection.reply_within(BREAK_TIME);
        // Beside that about the transfer there may be one about the command.
        let answers = in_time(&mut self.connection).is_ok() && self.connection.answers(3, in_time);
        if !answers {
            *breaks = Break::Cut;
        }
        answers.then_some(self.connection)
    }

    /// Closes the connection of the content.
    fn cut(mut self, breaks: &mut Break) -> Option<Connection> {
        drop(self.wire);
        if self.connection.reply_within(BREAK_TIME).is_err() {
            *breaks = Break::Never;
            return None;
        }
        self.connection.is_alive().then_some(self.connection)
    }

    /// After the last byte: what the server says of the transfer.
    fn end(mut self) -> Result<Connection, Failure> {
        self.wire.finish_reading();
        let reply = self.connection.reply()?;
        if reply.is_done() { Ok(self.connection) } else { Err(Failure::Said(reply)) }
    }
}

impl FtpFiles {
    pub(super) fn start_upload(&mut self, path: &[u8]) -> Result<WriteId> {
        let mut connection = self.take("create", path)?;
        let (settings, Some(server)) = (&mut self.settings, &mut self.server) else {
            return Err(unknown_server("create", path));
        };
        let mut session = Session { connection: &mut connection, settings, server };
        let started = session.path(path).and_then(|told| {
            if session.find(path)?.is_some() {
                let rule = "something is there already";
                return Err(Failure::Rule(HostErrorKind::AlreadyExists, rule));
            }
            let Session { connection, settings, server } = &mut session;
            connection.transfer(settings, server, ("STOR", &told), 0)
        });
        match started {
            Ok(wire) => {
                let id = WriteId(self.next_id());
                let path = path.to_vec();
                let wire = Some(wire);
                self.uploads.push(Upload { id, path, connection, wire, written_bytes: 0 });
                Ok(id)
            }
            Err(failure) => {
                let in_sync = failure.is_in_sync();
                let error = failure.into_error("create", path);
                if in_sync {
                    self.idle.push(connection);
                }
                Err(error)
            }
        }
    }

    pub(super) fn upload(&mut self, id: WriteId) -> Result<&mut Upload> {
        let found = self.uploads.iter_mut().find(|upload| upload.id == id);
        found.ok_or_else(|| cannot("write", b"", "the file is closed"))
    }

    pub(super) fn finish_upload(&mut self, id: WriteId, new: &NewAttributes) -> Result<()> {
        let Some(at) = self.uploads.iter().position(|upload| upload.id == id) else {
            return Err(cannot("write", b"", "the file is closed"));
        };
        let Upload { path, mut connection, wire, written_bytes, .. } = self.uploads.swap_remove(at);
        let (settings, Some(server)) = (&mut self.settings, &mut self.server) else {
            return Err(unknown_server("write", &path));
        };
        let Some(wire) = wire else {
            return Err(cannot("write", &path, "the transfer has failed before"));
        };
        if let Err(error) = wire.finish_writing() {
            return Err(connection.reason(error).into_error("write", &path));
        }
        let mut session = Session { connection: &mut connection, settings, server };
        let checked = session.finish_upload(&path, written_bytes, new);
        let in_sync = checked.as_ref().err().is_none_or(Failure::is_in_sync);
        let result = checked.map_err(|failure| failure.into_error("write", &path));
        if in_sync {
            self.idle.push(connection);
        }
        result
    }

    pub(super) fn discard_upload(&mut self, id: WriteId) {
        let Some(at) = self.uploads.iter().position(|upload| upload.id == id) else { return };
        let Upload { path, mut connection, wire, .. } = self.uploads.swap_remove(at);
        let was_open = wire.is_some();
        drop(wire);
        // Removed before it was closed, it might come back.
        if was_open && connection.reply_within(BREAK_TIME).is_ok() && connection.is_alive() {
            self.idle.push(connection);
        }
        let _ = self.remove("remove", "DELE", &path);
    }

    pub(super) fn download(&mut self, id: ReadId) -> Result<&mut Download> {
        let found = self.downloads.iter_mut().find(|download| download.id == id);
        found.ok_or_else(|| cannot("read", b"", "the file is closed"))
    }

    pub(super) fn read_at(&mut self, id: ReadId, offset: u64, into: &mut [u8]) -> Result<usize> {
        let download = self.download(id)?;
        let size = download.size;
        let left = size.map_or(u64::MAX, |size| size.saturating_sub(offset));
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
        let (mut filled, mut retries) = (0, Retries::new(&self.settings.limits));
        while filled < wanted {
            match self.read_some(id, offset + filled as u64, &mut into[filled..wanted]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(failure) if failure.is_passing() && retries.again() => {}
                Err(failure) => return Err(self.explain_read(id, failure)),
            }
        }
        // With `size` known, all of it was said to be there.
        if size.is_some() && filled < wanted {
            let path = self.download(id)?.path.clone();
            let now = self.attempt("inspect", &path, true, |session| session.find(&path))?;
            let is_shorter = now
                .and_then(|entry| entry.size_bytes)
                .is_some_and(|now| now <= offset + filled as u64);
            if !is_shorter {
                return Err(cannot("read", &path, "the server ended it too early"));
            }
        }
        Ok(filled)
    }

    /// An error with its reason, if the server still says one.
    fn explain_read(&mut self, id: ReadId, failure: Failure) -> HostsError {
        let path = self.download(id).map_or_else(|_| Vec::new(), |download| download.path.clone());
        // The one that it failed with was given back last.
        let connection = if failure.is_in_sync() { self.idle.pop() } else { None };
        let (Some(mut connection), Some(server)) = (connection, &mut self.server) else {
            return failure.into_error("read", &path);
        };
        let settings = &mut self.settings;
        let mut session = Session { connection: &mut connection, settings, server };
        let (error, in_sync) = explained(&mut session, failure, "read", &path);
        if in_sync {
            self.idle.push(connection);
        }
        error
    }

    /// Reads at least a byte, or nothing at the end.
    fn read_some(&mut self, id: ReadId, at: u64, into: &mut [u8]) -> Result<usize, Failure> {
        let mut stream = self.stream_at(id, at)?;
        let mut scratch = [0; 4096];
        loop {
            stream.wire.renew_time();
            let ahead = usize::try_from(at - stream.at).unwrap_or(usize::MAX);
            let room = match ahead {
                0 => &mut *into,
                _ => &mut scratch[..ahead.min(4096)],
            };
            match stream.wire.read(room) {
                Ok(0) => {
                    let connection = stream.end()?;
                    self.idle.push(connection);
                    return Ok(0);
                }
                Ok(count) => {
                    stream.at += count as u64;
                    if ahead > 0 {
                        continue;
                    }
                    let download =
                        self.download(id).map_err(|error| Failure::Other(error, false))?;
                    download.used = Instant::now();
                    download.stream = Some(stream);
                    return Ok(count);
                }
                // Not all servers end TLS as they should: how much came tells.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    let connection = stream.end()?;
                    self.idle.push(connection);
                    return Ok(0);
                }
                Err(error) => return Err(stream.connection.reason(error)),
            }
        }
    }

    /// The transfer of a file, at `at` or little before.
    fn stream_at(&mut self, id: ReadId, at: u64) -> Result<Stream, Failure> {
        let other = |error| Failure::Other(error, false);
        let mut breaks = self.breaks;
        let download = self.download(id).map_err(other)?;
        download.used = Instant::now();
        if let Some(stream) = &download.stream {
            let is_near = at >= stream.at && at - stream.at <= SKIP_BYTES_MAX;
            if is_near && let Some(stream) = download.stream.take() {
                return Ok(stream);
            }
            let connection = download.give_up(&mut breaks);
            self.breaks = breaks;
            self.idle.extend(connection);
        }
        let path = self.download(id).map_err(other)?.path.clone();
        loop {
            let mut connection = self.take("read", &path).map_err(other)?;
            let (settings, Some(server)) = (&mut self.settings, &mut self.server) else {
                return Err(other(unknown_server("read", &path)));
            };
            let told = Session { connection: &mut connection, settings, server }.path(&path)?;
            let from = if server.rest { at } else { 0 };
            match connection.transfer(settings, server, ("RETR", &told), from) {
                Ok(wire) => return Ok(Stream { connection, wire, at: from }),
                // It cannot start in the middle: from the start, then.
                Err(Failure::Said(_)) if from > 0 && !server.rest => self.idle.push(connection),
                Err(failure) => {
                    if failure.is_in_sync() {
                        self.idle.push(connection);
                    }
                    return Err(failure);
                }
            }
        }
    }
}

impl Session<'_> {
    /// After all was sent: what the server has got.
    fn finish_upload(
        &mut self,
        path: &[u8],
        written_bytes: u64,
        new: &NewAttributes,
    ) -> Result<(), Failure> {
        let reply = self.connection.reply()?;
        if !reply.is_done() {
            return Err(Failure::Said(reply));
        }
        let size = match self.size(path)? {
            None => self.find(path)?.and_then(|entry| entry.size_bytes),
            size => size,
        };
        // Where it cannot be told, the reply has to do.
        if size.is_some_and(|size| size != written_bytes) {
            let rule = "the server has another number of bytes than were written";
            return Err(Failure::Rule(HostErrorKind::Other, rule));
        }
        self.set(path, new)
    }
}
