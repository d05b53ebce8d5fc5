//! [`Connection`]: a stream to one server, or from one client, with or without
//! TLS, that never waits for longer than it should.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};
use tiroir_core::host::HostErrorKind;

use super::Endpoint;
use super::error::HttpError;
use crate::error::HostsError;
use crate::rate::Limits;
use crate::reach::{self, Unreached};

/// Bytes read ahead, at most.
const BUFFER_BYTES: usize = 16 * 1024;

/// What is said of a line that is beyond its bound.
pub(super) const LINE_TOO_LONG: &str = "a line is too long";

/// Bytes that count as progress: whoever sends or takes fewer within the
/// time-out has stalled.
const PROGRESS_BYTES: usize = 4 * 1024;

/// Longest waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// For a connection.
    pub(crate) connect: Duration,
    /// For progress.
    pub(crate) progress: Duration,
}

/// What is left of the time for the next [`PROGRESS_BYTES`].
#[derive(Debug)]
struct Budget {
    whole: Duration,
    left: Duration,
    gained_bytes: usize,
}

impl Budget {
    fn new(whole: Duration) -> Self {
        Self { whole, left: whole, gained_bytes: 0 }
    }

    fn renew(&mut self) {
        *self = Self::new(self.whole);
    }

    /// Time for the next call; an error when there is none left.
    fn time(&self) -> io::Result<Duration> {
        // The system takes nothing for no limit.
        if self.left < Duration::from_millis(1) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(self.left)
    }

    fn spend(&mut self, since: Instant, gained_bytes: usize) {
        self.gained_bytes = self.gained_bytes.saturating_add(gained_bytes);
        if self.gained_bytes >= PROGRESS_BYTES {
            self.renew();
        } else {
            self.left = self.left.saturating_sub(since.elapsed());
        }
    }
}

/// A stream whose peer has to make progress. Time counts only while one waits
/// for it.
#[derive(Debug)]
struct Socket {
    tcp: TcpStream,
    reading: Budget,
    writing: Budget,
    limits: Limits,
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let piece = self.limits.down.piece_bytes(into.len());
        loop {
            self.tcp.set_read_timeout(Some(self.reading.time()?))?;
            let start = Instant::now();
            let read = self.tcp.read(&mut into[..piece]);
            self.reading.spend(start, *read.as_ref().unwrap_or(&0));
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(count) => {
                    self.limits.down.pay(count);
                    return Ok(count);
                }
                error => return error,
            }
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..self.limits.up.piece_bytes(bytes.len())];
        loop {
            self.tcp.set_write_timeout(Some(self.writing.time()?))?;
            let start = Instant::now();
            let written = self.tcp.write(bytes);
            self.writing.spend(start, *written.as_ref().unwrap_or(&0));
            match written {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(count) => {
                    self.limits.up.pay(count);
                    return Ok(count);
                }
                error => return error,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
enum Stream {
    Plain(Socket),
    Tls(Box<StreamOwned<ClientConnection, Socket>>),
    ServedTls(Box<StreamOwned<ServerConnection, Socket>>),
}

/// A stream with 16 KiB read ahead. TLS takes some 80 KiB more.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    /// Empty while it rests.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// When the last answer ended.
    pub(super) idle_since: Option<Instant>,
}

impl Connection {
    /// Connects, and agrees on TLS if there is a configuration for it.
    pub(crate) fn open(
        endpoint: &Endpoint,
        tls: Option<&Arc<ClientConfig>>,
        timeouts: Timeouts,
        limits: &Limits,
    ) -> Result<Self, HttpError> {
        let tcp = connect(endpoint, timeouts.connect, limits)?;
        // Requests are written whole: nothing is gained by waiting for more.
        let _ = tcp.set_nodelay(true);
        let socket = Socket {
            tcp,
            reading: Budget::new(timeouts.progress),
            writing: Budget::new(timeouts.progress),
            limits: limits.clone(),
        };
        let stream = match tls {
            None => Stream::Plain(socket),
            Some(config) => Stream::Tls(Box::new(agree(endpoint, config, socket)?)),
        };
        Ok(Self::over(stream))
    }

    /// The other end: takes a client in, and agrees on TLS if there is a
    /// configuration for it.
    pub(super) fn accept(
        tcp: TcpStream,
        tls: Option<&Arc<ServerConfig>>,
        progress: Duration,
    ) -> Result<Self, HttpError> {
        let _ = tcp.set_nodelay(true);
        let mut socket = Socket {
            tcp,
            reading: Budget::new(progress),
            writing: Budget::new(progress),
            limits: Limits::default(),
        };
        let Some(config) = tls else { return Ok(Self::over(Stream::Plain(socket))) };
        let mut session = ServerConnection::new(Arc::clone(config))
            .map_err(|error| HttpError::Distrusted(error.to_string()))?;
        while session.is_handshaking() {
            if let Err(error) = session.complete_io(&mut socket) {
                // What is wrong is told, if the client still listens.
                let _ = session.write_tls(&mut socket);
                return Err(HttpError::of(&error, "agreeing on TLS"));
            }
        }
        Ok(Self::over(Stream::ServedTls(Box::new(StreamOwned::new(session, socket)))))
    }

    fn over(stream: Stream) -> Self {
        Self { stream, buffer: Vec::new(), start: 0, end: 0, idle_since: None }
    }

    /// The socket below.
    pub(super) fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(socket) => &socket.tcp,
            Stream::Tls(stream) => &stream.sock.tcp,
            Stream::ServedTls(stream) => &stream.sock.tcp,
        }
    }

    /// Gives the peer another time for progress from now on.
    pub(super) fn set_progress_time(&mut self, time: Duration) {
        let socket = self.socket();
        socket.reading = Budget::new(time);
        socket.writing = Budget::new(time);
    }

    /// Whether more of a client was read than was asked for.
    pub(super) fn has_more(&mut self) -> bool {
        let Stream::ServedTls(stream) = &mut self.stream else { return self.start < self.end };
        let state = stream.conn.process_new_packets();
        self.start < self.end || state.is_ok_and(|state| state.plaintext_bytes_to_read() > 0)
    }

    /// Gives back what is read ahead, if it is empty, until more is read.
    pub(super) fn rest(&mut self) {
        if self.start == self.end {
            self.buffer = Vec::new();
        }
    }

    /// Tells the peer that nothing more is sent.
    pub(super) fn end_sending(&mut self) {
        if let Stream::ServedTls(stream) = &mut self.stream {
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
        let _ = self.tcp().shutdown(std::net::Shutdown::Write);
    }

    fn socket(&mut self) -> &mut Socket {
        match &mut self.stream {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => &mut stream.sock,
            Stream::ServedTls(stream) => &mut stream.sock,
        }
    }

    /// Gives the server its full time again: before each request and answer.
    pub(crate) fn renew(&mut self) {
        let socket = self.socket();
        socket.reading.renew();
        socket.writing.renew();
    }

    /// Writes all of `bytes`.
    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(socket) => socket.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes),
            Stream::ServedTls(stream) => stream.write_all(bytes),
        }
    }

    /// Sees to it that what was written leaves.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(_) => Ok(()),
            Stream::Tls(stream) => stream.flush(),
            Stream::ServedTls(stream) => stream.flush(),
        }
    }

    /// Whether the server has said something, or gone away. Does not wait.
    pub(crate) fn is_readable(&mut self) -> bool {
        if self.start < self.end {
            return true;
        }
        let socket = self.socket();
        if socket.tcp.set_nonblocking(true).is_err() {
            return true;
        }
        let peeked = socket.tcp.peek(&mut [0]);
        let waits = !matches!(&peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        let back = socket.tcp.set_nonblocking(false);
        waits || back.is_err()
    }

    /// Whether the server has begun an answer, or gone away. What TLS says for
    /// itself is none. Does not wait for long.
    pub(crate) fn is_answered(&mut self) -> bool {
        if self.start < self.end {
            return true;
        }
        if !self.is_readable() {
            return false;
        }
        let Stream::Tls(stream) = &mut self.stream else { return true };
        // There is something: one read does not wait.
        if !matches!(stream.conn.read_tls(&mut stream.sock), Ok(count) if count > 0) {
            return true;
        }
        match stream.conn.process_new_packets() {
            Ok(state) => state.plaintext_bytes_to_read() > 0 || state.peer_has_closed(),
            Err(_) => true,
        }
    }

    /// Reads into `into`; 0 at the end of the stream.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.start == self.end {
            if into.len() >= BUFFER_BYTES {
                return self.read_stream(into);
            }
            self.fill()?;
        }
        let count = into.len().min(self.end - self.start);
        into[..count].copy_from_slice(&self.buffer[self.start..self.start + count]);
        self.start += count;
        Ok(count)
    }

    /// Reads ahead, when nothing is left of that.
    fn fill(&mut self) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(BUFFER_BYTES, 0);
        let read = self.read_stream(&mut buffer);
        self.buffer = buffer;
        (self.start, self.end) = (0, 0);
        self.end = read?;
        Ok(())
    }

    fn read_stream(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.stream {
            Stream::Plain(socket) => return socket.read(into),
            Stream::Tls(stream) => stream.read(into),
            Stream::ServedTls(stream) => stream.read(into),
        };
        match read {
            // Many peers end a connection without a word of TLS. Whether
            // something is missing is seen by the length.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            other => other,
        }
    }

    /// Reads a line without its end into `line`, of `bytes_max` at most.
    pub(crate) fn read_line(
        &mut self,
        line: &mut Vec<u8>,
        bytes_max: usize,
        doing: &'static str,
    ) -> Result<(), HttpError> {
        line.clear();
        loop {
            if self.start == self.end {
                self.fill().map_err(|error| HttpError::of(&error, doing))?;
                if self.end == 0 {
                    let words = format!("the server ended the connection while {doing}");
                    return Err(HttpError::Lost(words));
                }
            }
            let held = &self.buffer[self.start..self.end];
            let newline = held.iter().position(|byte| *byte == b'\n');
            let taken = newline.unwrap_or(held.len());
            if line.len() + taken > bytes_max {
                return Err(HttpError::Malformed(LINE_TOO_LONG));
            }
            line.extend_from_slice(&held[..taken]);
            self.start += taken + usize::from(newline.is_some());
            if newline.is_some() {
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(());
            }
        }
    }
}

fn connect(
    endpoint: &Endpoint,
    timeout: Duration,
    limits: &Limits,
) -> Result<TcpStream, HttpError> {
    let reached = reach::connect(&endpoint.host, endpoint.port(), timeout, || limits.is_over());
    reached.map_err(|unreached| match unreached {
        Unreached::Stopped => {
            let (host, rule) = (endpoint.host.as_bytes(), "it was told to stop");
            HttpError::Local(HostsError::rule(HostErrorKind::Other, "connect to", host, rule))
        }
        unreached => HttpError::Unreachable(unreached.to_string()),
    })
}

fn agree(
    endpoint: &Endpoint,
    config: &Arc<ClientConfig>,
    mut socket: Socket,
) -> Result<StreamOwned<ClientConnection, Socket>, HttpError> {
    let name = ServerName::try_from(endpoint.host.clone())
        .map_err(|_| HttpError::Distrusted("the host's name cannot be in a certificate".into()))?;
    let mut session = ClientConnection::new(Arc::clone(config), name)
        .map_err(|error| HttpError::Distrusted(error.to_string()))?;
    while session.is_handshaking() {
        match session.complete_io(&mut socket) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(HttpError::Distrusted(format!("TLS was not agreed on: {error}")));
            }
            Err(error) => return Err(HttpError::of(&error, "agreeing on TLS")),
        }
    }
    Ok(StreamOwned::new(session, socket))
}
