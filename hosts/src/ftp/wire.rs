//! [`Wire`]: bytes to and from a server, with TLS or without. Every wait ends.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::rate::Limits;

/// Bytes that have the time of one time-out to be written.
const PIECE_BYTES: usize = 16 * 1024;

/// Bytes that TLS may hold back before it writes.
const TLS_BUFFER_BYTES: usize = 32 * 1024;

/// Most that is taken from a server after an upload, where nothing should come.
const DRAIN_BYTES_MAX: usize = 64 * 1024;

/// Longest line that is taken in, in bytes: a path and what is said of it.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// A connection that gives up at a time that is set for it.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    deadline: Instant,
    limits: Limits,
}

impl Socket {
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(silent()) } else { Ok(left) }
    }

    fn until<T>(&self, mut call: impl FnMut(Duration) -> io::Result<T>) -> io::Result<T> {
        loop {
            match call(self.left()?) {
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => {}
                    _ => return Err(error),
                },
                done => return done,
            }
        }
    }
}

fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the server did not answer in time")
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let piece = self.limits.down.piece_bytes(into.len());
        let into = &mut into[..piece];
        let count = self.until(|left| {
            self.stream.set_read_timeout(Some(left))?;
            // Servers that send the end of TLS as a packet of its own, and wait for
            // what came before it to be acknowledged, would cost 40 ms for each
            // transfer. Whoever has no such setting waits.
            let _ = rustix::net::sockopt::set_tcp_quickack(&self.stream, true);
            (&self.stream).read(into)
        })?;
        // The server is not to blame for that time.
        self.deadline += self.limits.down.pay(count);
        Ok(count)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..self.limits.up.piece_bytes(bytes.len())];
        let count = self.until(|left| {
            self.stream.set_write_timeout(Some(left))?;
            (&self.stream).write(bytes)
        })?;
        self.deadline += self.limits.up.pay(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection to a server.
///
/// With TLS, it takes up to 64 KiB.
#[derive(Debug)]
pub(super) struct Wire {
    kind: Kind,
    timeout: Duration,
}

#[derive(Debug)]
enum Kind {
    Plain(Socket),
    Tls(Box<StreamOwned<ClientConnection, Socket>>),
}

impl Wire {
    pub(super) fn new(stream: TcpStream, timeout: Duration) -> Self {
        let deadline = Instant::now() + timeout;
        Self { kind: Kind::Plain(Socket { stream, deadline, limits: Limits::default() }), timeout }
    }

    /// The same within limits.
    pub(super) fn limited(mut self, limits: &Limits) -> Self {
        self.socket().limits = limits.clone();
        self
    }

    /// The same with TLS, after its handshake.
    pub(super) fn secured(
        self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        let Kind::Plain(mut socket) = self.kind else {
            return Err(io::Error::other("there is TLS already"));
        };
        socket.deadline = Instant::now() + self.timeout;
        let mut client = ClientConnection::new(config, name).map_err(io::Error::other)?;
        client.set_buffer_limit(Some(TLS_BUFFER_BYTES));
        while client.is_handshaking() {
            client.complete_io(&mut socket)?;
        }
        let stream = Box::new(StreamOwned::new(client, socket));
        Ok(Self { kind: Kind::Tls(stream), timeout: self.timeout })
    }

    fn socket(&mut self) -> &mut Socket {
        match &mut self.kind {
            Kind::Plain(socket) => socket,
            Kind::Tls(stream) => &mut stream.sock,
        }
    }

    /// From now on, all of what follows has this long.
    pub(super) fn give_time(&mut self, time: Duration) {
        self.socket().deadline = Instant::now() + time;
    }

    /// The same with the time-out that was set.
    pub(super) fn renew_time(&mut self) {
        self.give_time(self.timeout);
    }

    /// Reads what there is, at least a byte; 0 at the end.
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.kind {
            Kind::Plain(socket) => socket.read(into),
            Kind::Tls(stream) => stream.read(into),
        }
    }

    /// Writes all of it, in a time that grows with it.
    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(PIECE_BYTES) {
            self.renew_time();
            match &mut self.kind {
                Kind::Plain(socket) => socket.write_all(piece)?,
                Kind::Tls(stream) => stream.write_all(piece)?,
            }
        }
        Ok(())
    }

    /// Hands over what TLS holds back.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match &mut self.kind {
            Kind::Plain(_) => Ok(()),
            Kind::Tls(stream) => stream.flush(),
        }
    }

    /// Says that nothing more comes, and waits until the server says so too:
    /// with less, some servers take a file for cut off.
    pub(super) fn finish_writing(mut self) -> io::Result<()> {
        self.flush()?;
        self.renew_time();
        self.say_end()?;
        self.socket().stream.shutdown(Shutdown::Write)?;
        // How it closed the other way is no matter: it says what it has got. With
        // TLS 1.3, what the next session is resumed with comes here.
        let mut scratch = [0; 1024];
        let mut most = DRAIN_BYTES_MAX;
        loop {
            match self.read(&mut scratch) {
                Ok(count) if count > 0 && most > count => most -= count,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(error),
                _ => return Ok(()),
            }
        }
    }

    /// Throws away what still comes, without a look at it. Whether the other side ended
    /// before there were too many bytes, and within `time`, with what a limit takes of it.
    pub(super) fn drain(mut self, bytes_max: usize, time: Duration) -> bool {
        let until = Instant::now() + time;
        let (mut scratch, mut left) = ([0; 4096], bytes_max);
        self.give_time(time);
        while Instant::now() < until {
            match self.socket().read(&mut scratch) {
                Ok(count) if count > 0 && left > count => left -= count,
                Ok(count) => return count == 0,
                Err(error) => return error.kind() != io::ErrorKind::TimedOut,
            }
        }
        false
    }

    /// Says that the end was understood: some servers wait for it.
    pub(super) fn finish_reading(mut self) {
        let _ = self.say_end();
    }

    fn say_end(&mut self) -> io::Result<()> {
        if let Kind::Tls(stream) = &mut self.kind {
            stream.conn.send_close_notify();
            while stream.conn.wants_write() {
                stream.conn.write_tls(&mut stream.sock)?;
            }
        }
        Ok(())
    }

    /// Sessions that the server let us resume, once each; nothing where one can be
    /// resumed any number of times.
    pub(super) fn tickets(&self) -> Option<u32> {
        let Kind::Tls(stream) = &self.kind else { return None };
        let newest = stream.conn.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3);
        newest.then(|| stream.conn.tls13_tickets_received())
    }

    /// Version and cipher of TLS, to be shown.
    pub(super) fn security(&self) -> Option<String> {
        let Kind::Tls(stream) = &self.kind else { return None };
        let version = stream.conn.protocol_version()?.as_str()?;
        let suite = stream.conn.negotiated_cipher_suite()?.suite();
        Some(format!("{} {}", version.replace("TLSv1_", "TLS 1."), suite.as_str()?))
    }
}

/// Why there is no line.
#[derive(Debug)]
pub(super) enum NoLine {
    /// The link said so.
    Io(io::Error),
    /// It is longer than any may be.
    TooLong,
}

/// Takes bytes apart into lines. Takes 8 KiB.
#[derive(Debug)]
pub(super) struct Lines {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; LINE_BYTES_MAX].into(), start: 0, end: 0 }
    }

    /// Whether something came after the last line.
    pub(super) fn has_more(&self) -> bool {
        self.start < self.end
    }

    /// The next line without its end, or nothing at the end. `each_wait` is
    /// called before every wait.
    pub(super) fn next(
        &mut self,
        wire: &mut Wire,
        mut each_wait: impl FnMut(&mut Wire),
    ) -> Result<Option<&[u8]>, NoLine> {
        let mut searched = 0;
        loop {
            let rest = &self.buffer[self.start + searched..self.end];
            if let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
                let (start, end) = (self.start, self.start + searched + at);
                self.start = end + 1;
                return Ok(Some(without_return(&self.buffer[start..end])));
            }
            searched = self.end - self.start;
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, searched);
            if self.end == self.buffer.len() {
                return Err(NoLine::TooLong);
            }
            each_wait(wire);
            let count = wire.read(&mut self.buffer[self.end..]).map_err(NoLine::Io)?;
            if count == 0 && self.end == 0 {
                return Ok(None);
            }
            if count == 0 {
                self.start = self.end;
                return Ok(Some(without_return(&self.buffer[..self.end])));
            }
            self.end += count;
        }
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}
