//! [`Client`]: makes requests of one server.

use std::fmt::{self, Write as _};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use zeroize::Zeroizing;

use super::Endpoint;
use super::connection::{Connection, Timeouts};
use super::error::HttpError;
use super::response::Response;
use crate::error::{HostsError, Result};
use crate::http::retry::Attempts;
use crate::options::Options;
use crate::rate::Limits;
use crate::staging::{Staged, too_short};
use crate::tls::Trust;
use tiroir_core::host::HostErrorKind;

/// Connections that are kept while nothing is asked.
const IDLE_MAX: usize = 2;

/// How long they are kept: most servers end them after a minute.
const IDLE_TIME: Duration = Duration::from_secs(50);

/// Bytes of a body that are sent at once.
const PIECE_BYTES: usize = 64 * 1024;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(60);

/// What is sent with a request.
#[derive(Clone, Debug)]
pub(crate) enum Payload<'p> {
    /// Nothing, and no length of it.
    None,
    /// These bytes.
    Bytes(&'p [u8]),
    /// A part of what was staged.
    Staged(&'p Staged, Range<u64>),
}

impl Payload<'_> {
    /// Its length in bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Staged(_, range) => range.end - range.start,
        }
    }
}

/// A request. It may be sent twice: all of ours have the same effect then.
pub(crate) struct Request<'r> {
    pub(crate) method: &'static str,
    /// Path and query, escaped.
    pub(crate) target: &'r str,
    /// Without `Host` and `Content-Length`.
    pub(crate) headers: &'r [(String, Zeroizing<String>)],
    pub(crate) payload: Payload<'r>,
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers may hold keys.
        f.debug_struct("Request").field("method", &self.method).finish_non_exhaustive()
    }
}

/// Makes requests of one server, one after the other.
///
/// Takes 16 KiB and what TLS takes for each of two connections kept, and 64 KiB
/// while a body is sent.
#[derive(Debug)]
pub(crate) struct Client {
    endpoint: Endpoint,
    tls: Option<Arc<ClientConfig>>,
    timeouts: Timeouts,
    limits: Limits,
    idle: Vec<Connection>,
}

impl Client {
    /// A client of `endpoint`; nothing is connected yet. Reads `timeout` and
    /// [`crate::tls::OPTIONS`].
    pub(crate) fn new(endpoint: Endpoint, options: &Options) -> Result<Self> {
        let tls =
            if endpoint.is_tls { Some(Trust::from_options(options)?.client()?) } else { None };
        let progress = options.seconds("timeout")?.unwrap_or(PROGRESS_TIMEOUT);
        let timeouts = Timeouts { connect: CONNECT_TIMEOUT.min(progress), progress };
        let limits = Limits::default();
        Ok(Self { endpoint, tls, timeouts, limits, idle: Vec::new() })
    }

    /// To count attempts with.
    pub(crate) fn attempts(&self) -> Attempts {
        Attempts::new(&self.limits)
    }

    /// Sets how fast bytes move, from now on.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        if !limits.is_none() {
            self.idle.clear();
        }
        self.limits = limits;
    }

    /// Whom it asks.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends a request and returns the answer, whatever its status. A kept
    /// connection that turns out to have ended is replaced by a new one.
    pub(crate) fn send(
        &mut self,
        request: &Request<'_>,
    ) -> std::result::Result<Response, HttpError> {
        while let Some(mut connection) = self.idle.pop() {
            let is_fresh = connection.idle_since.is_some_and(|since| since.elapsed() < IDLE_TIME);
            if !is_fresh || connection.is_readable() {
                continue;
            }
            match self.exchange(connection, request) {
                Err(error) if error.is_lost() => break,
                other => return other,
            }
        }
        let tls = self.tls.as_ref();
        let connection = Connection::open(&self.endpoint, tls, self.timeouts, &self.limits)?;
        self.exchange(connection, request)
    }

    fn exchange(
        &self,
        mut connection: Connection,
        request: &Request<'_>,
    ) -> std::result::Result<Response, HttpError> {
        connection.renew();
        let head = self.head_of(request)?;
        let sent = send(&mut connection, head.as_bytes(), &request.payload);
        let is_whole = match sent {
            Ok(is_whole) => is_whole,
            Err(Sending::Local(error)) => return Err(HttpError::Local(error)),
            // It may have said why before it left.
            Err(Sending::Lost(error)) => {
                let answer = Response::receive(connection, request.method);
                let mut answer = answer.map_err(|_| error)?;
                answer.forbid_reuse();
                return Ok(answer);
            }
        };
        let mut answer = Response::receive(connection, request.method)?;
        if !is_whole {
            answer.forbid_reuse();
        }
        Ok(answer)
    }

    /// What is sent before the body.
    fn head_of(&self, request: &Request<'_>) -> std::result::Result<Zeroizing<String>, HttpError> {
        let mut head = Zeroizing::new(String::with_capacity(2048));
        let host = self.endpoint.authority();
        let _ = write!(head, "{} {} HTTP/1.1\r\nHost: {host}\r\n", request.method, request.target);
        head.push_str(concat!("User-Agent: tiroir/", env!("CARGO_PKG_VERSION"), "\r\n"));
        let mut is_clean = is_line(request.target) && !request.target.contains(' ');
        for (name, value) in request.headers {
            is_clean &= is_line(name) && is_line(value);
            let _ = write!(head, "{name}: {}\r\n", value.as_str());
        }
        if !is_clean {
            let rule = "a header would have a line end in it";
            let error = HostsError::rule(HostErrorKind::Other, "send a request", b"", rule);
            return Err(HttpError::Local(error));
        }
        if !matches!(request.payload, Payload::None) {
            let _ = write!(head, "Content-Length: {}\r\n", request.payload.len());
        }
        head.push_str("\r\n");
        Ok(head)
    }

    /// Takes back the connection of an answer that was read, if it is of use.
    pub(crate) fn finish(&mut self, response: Response) {
        if let Some(mut connection) = response.into_connection()
            && self.idle.len() < IDLE_MAX
        {
            connection.idle_since = Some(Instant::now());
            self.idle.push(connection);
        }
    }
}

/// Why a request did not leave.
enum Sending {
    Local(HostsError),
    Lost(HttpError),
}

/// Sends everything, or as much as the server wanted before it answered.
/// Returns whether it was everything.
fn send(
    connection: &mut Connection,
    head: &[u8],
    payload: &Payload<'_>,
) -> std::result::Result<bool, Sending> {
    let lost = |error: std::io::Error| Sending::Lost(HttpError::of(&error, "sending a request"));
    match payload {
        Payload::None => connection.write_all(head).map_err(lost)?,
        Payload::Bytes(bytes) if bytes.len() <= 4096 => {
            // In one packet.
            let whole = Zeroizing::new([head, bytes].concat());
            connection.write_all(&whole).map_err(lost)?;
        }
        Payload::Bytes(bytes) => {
            connection.write_all(head).map_err(lost)?;
            connection.write_all(bytes).map_err(lost)?;
        }
        Payload::Staged(staged, range) => {
            connection.write_all(head).map_err(lost)?;
            let mut piece = vec![0; PIECE_BYTES];
            let mut at = range.start;
            while at < range.end {
                if at > range.start && connection.is_answered() {
                    return Ok(false);
                }
                let left = usize::try_from(range.end - at).unwrap_or(PIECE_BYTES);
                let wanted = left.min(PIECE_BYTES);
                let filled = staged.read_at(at, &mut piece[..wanted]).map_err(Sending::Local)?;
                if filled == 0 {
                    return Err(Sending::Local(too_short()));
                }
                connection.write_all(&piece[..filled]).map_err(lost)?;
                at += filled as u64;
            }
        }
    }
    connection.flush().map_err(lost)?;
    Ok(true)
}

fn is_line(text: &str) -> bool {
    !text.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0))
}
