//! [`Connection`]: commands and replies.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig};
use tiroir_core::host::HostErrorKind;

use super::facts::Features;
use super::reply::{Reply, ReplyParser};
use super::settings::{Settings, TlsMode};
use super::wire::{Lines, NoLine, Wire};
use crate::error::HostsError;
use crate::reach::{self, Unreached};

/// How long a reply is waited for that only says why something else failed.
const REASON_TIME: Duration = Duration::from_secs(5);

/// Why something did not work.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server refused. The connection can be used on.
    Said(Reply),
    /// The server refused, and what it says next is unknown.
    Last(Reply),
    /// The link broke.
    Lost(io::Error),
    /// The server speaks something else.
    Broken(&'static str),
    /// We refused, or understood what the server meant. The connection can be
    /// used on.
    Rule(HostErrorKind, &'static str),
    /// Somebody else refused; the connection can be used on if the flag says so.
    Other(HostsError, bool),
}

impl Failure {
    /// Whether the next reply is that of the next command.
    pub(super) fn is_in_sync(&self) -> bool {
        matches!(self, Self::Said(_) | Self::Rule(..) | Self::Other(_, true))
    }

    /// Whether the same may work a moment later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Said(reply) | Self::Last(reply) => matches!(reply.code, 421 | 425 | 426),
            // What TLS says is no matter of time.
            Self::Lost(error) => {
                error.kind() != io::ErrorKind::InvalidData && tls_error(error).is_none()
            }
            _ => false,
        }
    }

    pub(super) fn into_error(self, operation: &'static str, path: &[u8]) -> HostsError {
        match self {
            Self::Said(reply) | Self::Last(reply) => {
                HostsError::remote(reply.kind(), operation, path, reply.words())
            }
            Self::Lost(error) => HostsError::io_bytes(operation, path, error),
            Self::Broken(rule) => HostsError::rule(HostErrorKind::Other, operation, path, rule),
            Self::Rule(kind, rule) => HostsError::rule(kind, operation, path, rule),
            Self::Other(error, _) => error,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// Whether a server does not speak the version of TLS that was offered.
fn is_of_version(error: &io::Error) -> bool {
    use rustls::Error::{AlertReceived, PeerIncompatible};
    matches!(
        tls_error(error),
        Some(
            AlertReceived(AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure)
                | PeerIncompatible(_)
        )
    )
}

/// What was learned of a server, by one connection for all.
#[expect(clippy::struct_excessive_bools, reason = "each is a command that was refused")]
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) banner: String,
    pub(super) system: String,
    pub(super) security: Option<String>,
    pub(super) features: Features,
    pub(super) epsv: bool,
    pub(super) eprt: bool,
    pub(super) rest: bool,
    pub(super) size: bool,
    pub(super) mdtm: bool,
    /// `LIST -a` shows what `LIST` hides.
    pub(super) list_all: bool,
    /// Listings have the directory itself in them: one without was not made.
    pub(super) lists_itself: bool,
    /// A file with the new name is replaced.
    pub(super) replaces: bool,
    /// Permissions can be set; not known before it was tried.
    pub(super) chmod: Option<bool>,
    /// `MDTM` sets times too; not known before it was tried.
    pub(super) mdtm_sets: Option<bool>,
    /// What `SITE HELP` says, once it was asked.
    pub(super) site: Option<bool>,
}

/// A connection that is logged in. Takes 8 KiB, and 64 more with TLS.
#[derive(Debug)]
pub(super) struct Connection {
    wire: Wire,
    lines: Lines,
    /// Where the server is.
    pub(super) peer: SocketAddr,
    /// Where we are, as the server sees it.
    pub(super) local: IpAddr,
    /// With the session that its transfers resume.
    tls: Option<Arc<ClientConfig>>,
    /// Transfers have TLS.
    secure: bool,
    /// Transfers that were started.
    transfers: u32,
    /// When the server was last heard.
    pub(super) heard: Instant,
}

impl Connection {
    /// Connects and logs in; learns of the server if nothing is known yet.
    pub(super) fn open(
        settings: &mut Settings,
        server: &mut Option<Server>,
    ) -> Result<Self, Failure> {
        loop {
            match Self::open_once(settings, server) {
                Err(Failure::Lost(error)) if is_of_version(&error) && settings.next_version() => {}
                done => return done,
            }
        }
    }

    fn open_once(settings: &mut Settings, server: &mut Option<Server>) -> Result<Self, Failure> {
        let stream = connect(settings)?;
        stream.set_nodelay(true)?;
        let (peer, local) = (stream.peer_addr()?, stream.local_addr()?.ip());
        let mut wire = Wire::new(stream, settings.timeout);
        let mut tls = None;
        if settings.tls == TlsMode::Implicit {
            let client = client_of(settings)?;
            wire = secured(wire, settings, &client)?;
            tls = Some(client);
        }
        let lines = Lines::new();
        let mut connection = Self {
            wire,
            lines,
            peer,
            local,
            tls,
            secure: false,
            transfers: 0,
            heard: Instant::now(),
        };
        let mut banner = connection.reply()?;
        while banner.is_preliminary() {
            banner = connection.reply()?;
        }
        if !banner.is_done() {
            return Err(Failure::Last(banner));
        }
        if settings.tls == TlsMode::Explicit {
            connection = connection.with_tls(settings)?;
        }
        connection.log_in(settings)?;
        connection.set_up(settings, server, &banner)?;
        Ok(connection)
    }

    fn with_tls(mut self, settings: &mut Settings) -> Result<Self, Failure> {
        self.done("AUTH", b"TLS")?;
        // What was said before nobody could listen is not trusted after.
        if self.lines.has_more() {
            return Err(Failure::Broken("the server said more than TLS allows"));
        }
        let client = client_of(settings)?;
        let wire = secured(self.wire, settings, &client)?;
        Ok(Self { wire, tls: Some(client), ..self })
    }

    fn log_in(&mut self, settings: &Settings) -> Result<(), Failure> {
        let mut reply = self.command("USER", settings.user.as_bytes())?;
        if reply.code == 331 {
            reply = self.command("PASS", settings.password.as_bytes())?;
        }
        if reply.is_done() {
            return Ok(());
        }
        // Some say what they were given.
        let words = String::from_utf8_lossy(&reply.text).replace(settings.password.as_str(), "…");
        let code = if reply.is_going_on() { 530 } else { reply.code };
        Err(Failure::Last(Reply { code, text: words.into_bytes() }))
    }

    /// What every connection is told, and what is asked on the first one.
    fn set_up(
        &mut self,
        settings: &Settings,
        server: &mut Option<Server>,
        banner: &Reply,
    ) -> Result<(), Failure> {
        if settings.tls != TlsMode::None {
            self.done("PBSZ", b"0")?;
            self.done("PROT", b"P")?;
            self.secure = true;
        }
        let known = match server {
            Some(known) => known,
            None => server.insert(self.learn(banner)?),
        };
        if known.features.utf8 || settings.latin1 {
            // Whatever it says: some have it on, some know no other way.
            self.command("OPTS", if settings.latin1 { b"UTF8 OFF" } else { b"UTF8 ON" })?;
        }
        if let Some(choice) = &known.features.choice {
            self.command("OPTS", format!("MLST {choice}").as_bytes())?;
        }
        self.done("TYPE", b"I")?;
        Ok(())
    }

    fn learn(&mut self, banner: &Reply) -> Result<Server, Failure> {
        let features = self.command("FEAT", b"")?;
        let features =
            if features.is_done() { Features::parse(&features) } else { Features::default() };
        let system = self.command("SYST", b"")?;
        let system = if system.is_done() { system.text } else { Vec::new() };
        let is_unix = system.to_ascii_uppercase().starts_with(b"UNIX");
        Ok(Server {
            banner: shown(&banner.text),
            system: shown(&system),
            security: self.wire.security(),
            features,
            epsv: true,
            eprt: true,
            rest: true,
            size: true,
            mdtm: true,
            list_all: is_unix,
            lists_itself: false,
            replaces: is_unix,
            chmod: None,
            mdtm_sets: None,
            site: None,
        })
    }

    /// Sends a command, and waits for the reply.
    pub(super) fn command(&mut self, verb: &str, argument: &[u8]) -> Result<Reply, Failure> {
        self.send(verb, argument)?;
        self.reply()
    }

    /// The same, for one that is to be done with that.
    pub(super) fn done(&mut self, verb: &str, argument: &[u8]) -> Result<Reply, Failure> {
        let reply = self.command(verb, argument)?;
        if reply.is_done() {
            return Ok(reply);
        }
        // After a 1xx another reply would come.
        Err(if reply.is_preliminary() { Failure::Last(reply) } else { Failure::Said(reply) })
    }

    pub(super) fn send(&mut self, verb: &str, argument: &[u8]) -> Result<(), Failure> {
        if argument.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
            let rule = "FTP has no names with a line end or a zero byte";
            return Err(Failure::Rule(HostErrorKind::Other, rule));
        }
        let mut line = zeroize::Zeroizing::new(Vec::with_capacity(argument.len() + 16));
        line.extend_from_slice(verb.as_bytes());
        if !argument.is_empty() {
            line.push(b' ');
        }
        for byte in argument {
            line.push(*byte);
            if *byte == 0xff {
                // It would start a command of Telnet.
                line.push(*byte);
            }
        }
        line.extend_from_slice(b"\r\n");
        self.wire.write_all(&line)?;
        self.wire.flush()?;
        Ok(())
    }

    /// Waits for a reply.
    pub(super) fn reply(&mut self) -> Result<Reply, Failure> {
        self.wire.renew_time();
        self.reply_in_time()
    }

    /// The same, for no longer than `time`.
    pub(super) fn reply_within(&mut self, time: Duration) -> Result<Reply, Failure> {
        self.wire.give_time(time);
        self.reply_in_time()
    }

    fn reply_in_time(&mut self) -> Result<Reply, Failure> {
        let mut parser = ReplyParser::default();
        loop {
            let line = match self.lines.next(&mut self.wire, |_| {}) {
                Ok(Some(line)) => line,
                Ok(None) => return Err(Failure::Lost(io::ErrorKind::UnexpectedEof.into())),
                Err(NoLine::Io(error)) => return Err(Failure::Lost(error)),
                Err(NoLine::TooLong) => {
                    return Err(Failure::Broken("the server's reply is too long"));
                }
            };
            if let Some(reply) = parser.line(line).map_err(Failure::Broken)? {
                self.heard = Instant::now();
                // It closes the connection now.
                return if reply.code == 421 { Err(Failure::Last(reply)) } else { Ok(reply) };
            }
        }
    }

    /// After a transfer broke: what the server says about it, if it does.
    pub(super) fn reason(&mut self, error: io::Error) -> Failure {
        match self.reply_within(REASON_TIME) {
            Ok(reply) | Err(Failure::Last(reply)) if reply.code >= 400 => Failure::Last(reply),
            _ => Failure::Lost(error),
        }
    }

    /// Whether the server is there, and has nothing to say about the past.
    pub(super) fn is_alive(&mut self) -> bool {
        // Some say twice that a transfer has ended.
        !self.lines.has_more() && self.answers(2, Self::reply)
    }

    /// Whether one of so many replies is that of the server to a question.
    pub(super) fn answers(
        &mut self,
        replies_max: usize,
        mut reply: impl FnMut(&mut Self) -> Result<Reply, Failure>,
    ) -> bool {
        if self.send("NOOP", b"").is_err() {
            return false;
        }
        (0..replies_max).any(|_| matches!(reply(self), Ok(reply) if reply.code == 200))
    }

    /// A transfer with TLS, if this has it.
    pub(super) fn secure_transfer(
        &mut self,
        wire: Wire,
        settings: &Settings,
    ) -> Result<Wire, Failure> {
        self.transfers += 1;
        let Some(client) = self.tls.as_ref().filter(|_| self.secure) else { return Ok(wire) };
        secured(wire, settings, client).map_err(|failure| match failure {
            Failure::Lost(error) => self.reason(error),
            other => other,
        })
    }

    /// Whether no session is left that a transfer could resume: ProFTPD gives two
    /// with TLS 1.3, and none with a transfer.
    pub(super) fn is_spent(&self) -> bool {
        self.wire.tickets().is_some_and(|tickets| self.transfers >= tickets)
    }

    /// Says that it is over.
    pub(super) fn quit(mut self) {
        let _ = self.send("QUIT", b"");
    }
}

/// With TLS.
fn secured(wire: Wire, settings: &Settings, client: &Arc<ClientConfig>) -> Result<Wire, Failure> {
    // The zone of a link is of this machine alone.
    let host = settings.host.split('%').next().unwrap_or_default().to_owned();
    let name = ServerName::try_from(host)
        .map_err(|_| Failure::Broken("TLS has no such names of hosts"))?;
    Ok(wire.secured(Arc::clone(client), name)?)
}

fn client_of(settings: &mut Settings) -> Result<Arc<ClientConfig>, Failure> {
    settings.connection_client().map_err(|error| Failure::Other(error, false))
}

fn connect(settings: &Settings) -> Result<TcpStream, Failure> {
    let (host, time) = (&settings.host, settings.connect_timeout);
    let reached = reach::connect(host, settings.port, time, || settings.limits.is_over());
    reached.map_err(|unreached| match unreached {
        Unreached::Name(_, error) | Unreached::Address(_, error) => Failure::Lost(error),
        Unreached::NoAddress(_) => {
            Failure::Lost(io::Error::new(io::ErrorKind::NotFound, unreached.to_string()))
        }
        Unreached::Late => {
            Failure::Lost(io::Error::new(io::ErrorKind::TimedOut, unreached.to_string()))
        }
        Unreached::Stopped => Failure::Rule(HostErrorKind::Other, "it was told to stop"),
    })
}

/// Words of a server in one line, without what a terminal would do with them.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text.trim_ascii());
    text.chars().take(300).map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}
