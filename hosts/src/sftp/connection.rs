//! [`Connection`]: requests and answers over one stream, several at a time.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use super::wire::{Fields, Malformed, PACKET_BYTES_MAX, Packet, kind, status};
use crate::error::HostsError;
use crate::remote::patience::{Patience, TICK, is_tick};

/// Version of the protocol that is spoken.
const VERSION: u32 = 3;

/// Most answers that are waited for at once.
pub(super) const OUTSTANDING_MAX: usize = 64;

/// Bytes of a read or a write, unless the server says otherwise: what every
/// server takes, and one packet of SSH.
pub(super) const TRANSFER_BYTES: usize = 32 * 1024 - 64;

/// Why a request was not answered as hoped.
#[derive(Debug)]
pub(super) enum Fault {
    /// The link is broken, or what came over it is not the protocol.
    Lost(Box<str>),
    /// The work is to stop.
    Stopped,
    /// The server answered with a status.
    Refused { code: u32, words: Box<str> },
    /// A caller's callback failed.
    Caller(Box<HostsError>),
}

impl From<Malformed> for Fault {
    fn from(_: Malformed) -> Self {
        Self::Lost("the server sent what is not SFTP".into())
    }
}

impl Fault {
    fn of_stream(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::Interrupted => Self::Stopped,
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => {
                Self::Lost("the connection was closed".into())
            }
            _ => Self::Lost(error.to_string().into()),
        }
    }

    /// What a status says, if it is not *OK*.
    pub(super) fn of_status(fields: &mut Fields<'_>) -> Result<(), Self> {
        let (code, words) = fields.status()?;
        match code {
            status::OK => Ok(()),
            status::NO_CONNECTION | status::CONNECTION_LOST => {
                Err(Self::Lost("the server lost its connection".into()))
            }
            _ => Err(Self::Refused { code, words: String::from_utf8_lossy(words).into() }),
        }
    }

    /// Whether the server refused with that code.
    pub(super) fn is(&self, wanted: u32) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == wanted)
    }
}

/// What an answer is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Token {
    /// Somebody waits for it.
    Call,
    /// Nobody cares.
    Forget,
    /// A slot was read or written, of the file with that number.
    Slot { file: u32, slot: usize },
    /// Attributes of an open file.
    Stat { file: u32 },
    /// Something that a file needs to be done to be finished. If it is
    /// optional, the server may be unable to.
    Settle { file: u32, is_optional: bool },
}

/// What the server can do beyond the protocol.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Extensions {
    pub(super) posix_rename: bool,
    pub(super) hardlink: bool,
    pub(super) fsync: bool,
    pub(super) statvfs: bool,
    pub(super) lsetstat: bool,
    pub(super) limits: bool,
}

/// A session of the protocol. Takes what its longest answer took, at most
/// [`PACKET_BYTES_MAX`], and one transfer.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    patience: Patience,
    next_id: u32,
    outstanding: Vec<(u32, Token)>,
    out: Vec<u8>,
    input: Vec<u8>,
    pub(super) extensions: Extensions,
    /// Bytes that are read with one request.
    pub(super) read_bytes: usize,
    /// Bytes that are written with one request.
    pub(super) write_bytes: usize,
}

impl Connection {
    /// Says hello over a stream that leads to a server.
    pub(super) fn start(stream: UnixStream, patience: Patience) -> Result<Self, Fault> {
        let lost = |error: io::Error| Fault::of_stream(&error);
        stream.set_read_timeout(Some(TICK)).map_err(lost)?;
        stream.set_write_timeout(Some(TICK)).map_err(lost)?;
        let mut this = Self {
            stream,
            patience,
            next_id: 0,
            outstanding: Vec::with_capacity(OUTSTANDING_MAX),
            out: Vec::new(),
            input: Vec::new(),
            extensions: Extensions::default(),
            read_bytes: TRANSFER_BYTES,
            write_bytes: TRANSFER_BYTES,
        };
        // The version stands where other packets have their number.
        Packet::new(&mut this.out, kind::INIT, VERSION).finish();
        this.flush()?;
        if this.read_packet()? != kind::VERSION {
            return Err(Malformed.into());
        }
        let mut fields = Fields(&this.input);
        if fields.u32()? != VERSION {
            return Err(Fault::Lost("the server does not speak version 3 of SFTP".into()));
        }
        while let Ok(name) = fields.string() {
            let version = fields.string()?;
            let known = &mut this.extensions;
            match (name, version) {
                (b"posix-rename@openssh.com", b"1") => known.posix_rename = true,
                (b"hardlink@openssh.com", b"1") => known.hardlink = true,
                (b"fsync@openssh.com", b"1") => known.fsync = true,
                (b"statvfs@openssh.com", b"2") => known.statvfs = true,
                (b"lsetstat@openssh.com", b"1") => known.lsetstat = true,
                (b"limits@openssh.com", b"1") => known.limits = true,
                _ => {}
            }
        }
        this.learn_limits()?;
        Ok(this)
    }

    /// Asks how much may be read and written at once: less than usual counts.
    fn learn_limits(&mut self) -> Result<(), Fault> {
        if !self.extensions.limits {
            return Ok(());
        }
        let id = self.send(Token::Call, kind::EXTENDED, |p| p.string(b"limits@openssh.com"))?;
        if self.answer(id, |_, _| Ok(()))? != kind::EXTENDED_REPLY {
            return Ok(());
        }
        let mut fields = self.fields();
        let (_packet, read, write) = (fields.u64()?, fields.u64()?, fields.u64()?);
        // Nothing means that there is no limit.
        let within = |limit: u64| match usize::try_from(limit) {
            Ok(0) | Err(_) => TRANSFER_BYTES,
            Ok(limit) => limit.clamp(512, TRANSFER_BYTES),
        };
        (self.read_bytes, self.write_bytes) = (within(read), within(write));
        Ok(())
    }

    /// Whether there is room for one more request.
    pub(super) fn has_room(&self) -> bool {
        self.outstanding.len() < OUTSTANDING_MAX
    }

    /// Whether any answer is waited for.
    pub(super) fn is_waiting(&self) -> bool {
        !self.outstanding.is_empty()
    }

    /// Sends a request and returns its number. There must be room for it.
    pub(super) fn send(
        &mut self,
        token: Token,
        kind: u8,
        fill: impl for<'b> FnOnce(Packet<'b>) -> Packet<'b>,
    ) -> Result<u32, Fault> {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        fill(Packet::new(&mut self.out, kind, id)).finish();
        self.outstanding.push((id, token));
        self.flush()?;
        Ok(id)
    }

    /// Nobody waits for the answer to a request any more.
    pub(super) fn forget(&mut self, id: u32) {
        for (other, token) in &mut self.outstanding {
            if *other == id {
                *token = Token::Forget;
            }
        }
    }

    /// Takes the next answer, whatever it is for.
    pub(super) fn receive(&mut self) -> Result<(u32, Token, u8), Fault> {
        let kind = self.read_packet()?;
        let id = Fields(&self.input).u32()?;
        match self.outstanding.iter().position(|(other, _)| *other == id) {
            Some(at) => {
                let (id, token) = self.outstanding.swap_remove(at);
                Ok((id, token, kind))
            }
            None => Err(Malformed.into()),
        }
    }

    /// Takes answers until that of `id`, and returns its kind. All others are
    /// given to `settle`.
    pub(super) fn answer(
        &mut self,
        id: u32,
        mut settle: impl FnMut(&mut Self, (Token, u8)) -> Result<(), Fault>,
    ) -> Result<u8, Fault> {
        loop {
            let (other, token, kind) = self.receive()?;
            if other == id {
                return Ok(kind);
            }
            settle(self, (token, kind))?;
        }
    }

    /// Fields of the answer that came last.
    pub(super) fn fields(&self) -> Fields<'_> {
        // Its number was read.
        Fields(self.input.get(4..).unwrap_or_default())
    }

    fn flush(&mut self) -> Result<(), Fault> {
        let mut rest = self.out.as_slice();
        let lane = &self.patience.limits.up;
        let mut since = Instant::now();
        while !rest.is_empty() {
            match self.stream.write(&rest[..lane.piece_bytes(rest.len())]) {
                Ok(0) => return Err(Fault::Lost("the connection was closed".into())),
                Ok(written) => {
                    rest = &rest[written..];
                    lane.pay(written);
                    since = Instant::now();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_tick(&error) => {
                    self.patience.check(since).map_err(|error| Fault::of_stream(&error))?;
                }
                Err(error) => return Err(Fault::of_stream(&error)),
            }
        }
        Ok(())
    }

    /// Reads a packet into `input`, without length and kind, and returns the
    /// kind.
    fn read_packet(&mut self) -> Result<u8, Fault> {
        let mut head = [0; 5];
        self.read_exact_into(&mut head)?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if !(5..=PACKET_BYTES_MAX).contains(&length) {
            // What a shell prints on login comes here, too.
            return Err(Fault::Lost(
                "the server sent what is not SFTP: does its login print anything?".into(),
            ));
        }
        let mut input = std::mem::take(&mut self.input);
        input.resize(length - 1, 0);
        let read = self.read_exact_into(&mut input);
        self.input = input;
        read.map(|()| head[4])
    }

    fn read_exact_into(&mut self, into: &mut [u8]) -> Result<(), Fault> {
        let mut filled = 0;
        let lane = &self.patience.limits.down;
        let mut since = Instant::now();
        while filled < into.len() {
            let piece = lane.piece_bytes(into.len() - filled);
            match self.stream.read(&mut into[filled..filled + piece]) {
                Ok(0) => return Err(Fault::Lost("the connection was closed".into())),
                Ok(read) => {
                    filled += read;
                    lane.pay(read);
                    since = Instant::now();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_tick(&error) => {
                    self.patience.check(since).map_err(|error| Fault::of_stream(&error))?;
                }
                Err(error) => return Err(Fault::of_stream(&error)),
            }
        }
        Ok(())
    }
}
