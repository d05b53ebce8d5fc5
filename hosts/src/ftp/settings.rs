//! [`Settings`]: what a location and its options say.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::client::Resumption;
use tiroir_core::host::HostErrorKind;
use zeroize::Zeroizing;

use crate::address::Address;
use crate::error::{HostsError, Result};
use crate::options::{Options, refused};
use crate::rate::{self, Limits};
use crate::tls::{self, Trust};

/// Options that are read here, beside those of [`tls::OPTIONS`]; but `root`, which
/// stands in place of the path, by who opens the connector.
pub const OPTIONS: [&str; 11] = [
    "username",
    "password",
    "port",
    "root",
    "tls",
    "active",
    "passive_host",
    "encoding",
    "connections",
    "timeout",
    "connect_timeout",
];

/// Port of FTP, and of FTP with TLS that is explicit.
const PORT: u16 = 21;

/// Port of implicit TLS.
const PORT_IMPLICIT: u16 = 990;

/// Connections to one server at once, unless told otherwise.
const CONNECTIONS: usize = 4;

/// Most that can be asked for. Each takes up to 160 KiB with TLS.
const CONNECTIONS_MAX: usize = 8;

/// Servers of which a connection keeps a session. One, but less is rounded to
/// none.
const SESSIONS: usize = 2;

/// How long a server may be silent, unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How long connecting may take, unless told otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// When TLS starts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum TlsMode {
    /// Never: everybody on the way reads everything.
    None,
    /// After a command for it.
    Explicit,
    /// With the connection.
    Implicit,
}

/// What a connection needs to know.
pub(super) struct Settings {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: Zeroizing<String>,
    pub(super) tls: TlsMode,
    pub(super) active: bool,
    pub(super) passive_host: bool,
    pub(super) latin1: bool,
    pub(super) connections: usize,
    pub(super) timeout: Duration,
    pub(super) connect_timeout: Duration,
    /// How fast the bytes of transfers move.
    pub(super) limits: Limits,
    trust: Trust,
    /// Of the version that the server takes, once one is known.
    client: Option<Arc<ClientConfig>>,
    /// Version 1.2 was refused.
    newest: bool,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("host", &self.host).field("port", &self.port).finish()
    }
}

impl Settings {
    /// `implicit`: the scheme is `ftps`.
    pub(super) fn new(address: &Address, implicit: bool, options: &Options) -> Result<Self> {
        let known: Vec<&str> =
            OPTIONS.into_iter().chain(tls::OPTIONS).chain(rate::OPTIONS).collect();
        if let Some(name) = options.unknown(&known) {
            let rule = "there is no such option for FTP";
            let name = name.as_bytes();
            return Err(HostsError::rule(HostErrorKind::Other, "set the option", name, rule));
        }
        let tls = match options.text("tls") {
            None if implicit => TlsMode::Implicit,
            None => TlsMode::None,
            Some("explicit") => TlsMode::Explicit,
            Some("implicit") => TlsMode::Implicit,
            Some("none") if !implicit => TlsMode::None,
            Some(_) => return Err(refused("tls", "it is `explicit` or `implicit`")),
        };
        let latin1 = match options.text("encoding") {
            None | Some("utf-8" | "utf8" | "UTF-8") => false,
            Some("latin1" | "latin-1" | "iso-8859-1") => true,
            Some(_) => return Err(refused("encoding", "it is `utf-8` or `latin1`")),
        };
        let connections = options.number("connections")?.unwrap_or(CONNECTIONS);
        if !(1..=CONNECTIONS_MAX).contains(&connections) {
            return Err(refused("connections", "it is a number from 1 to 8"));
        }
        let login = |of_address: Option<&str>, name| {
            of_address.or_else(|| options.text(name)).unwrap_or("anonymous").to_owned()
        };
        let port = address.port.map_or_else(|| options.number("port"), |port| Ok(Some(port)))?;
        let password = address.password.as_ref().map(|password| password.as_str());
        let settings = Self {
            host: address.host.clone(),
            port: port.unwrap_or(match tls {
                TlsMode::Implicit => PORT_IMPLICIT,
                _ => PORT,
            }),
            user: login(address.user.as_deref(), "username"),
            password: Zeroizing::new(login(password, "password")),
            tls,
            active: options.flag("active")?,
            passive_host: options.flag("passive_host")?,
            latin1,
            connections,
            timeout: options.seconds("timeout")?.unwrap_or(TIMEOUT),
            connect_timeout: options.seconds("connect_timeout")?.unwrap_or(CONNECT_TIMEOUT),
            limits: Limits::default(),
            trust: Trust::from_options(options)?,
            client: None,
            newest: false,
        };
        for text in [settings.user.as_str(), settings.password.as_str()] {
            if text.bytes().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
                return Err(refused("password", "a login has no line end and no zero byte"));
            }
        }
        Ok(settings)
    }

    /// The server, to be shown.
    pub(super) fn origin(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// How TLS is spoken over one connection and those of its transfers. Not with
    /// the sessions of others: ProFTPD takes none but that of the very connection.
    pub(super) fn connection_client(&mut self) -> Result<Arc<ClientConfig>> {
        let mut client = ClientConfig::clone(&*self.client()?);
        client.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(Arc::new(client))
    }

    /// How TLS is spoken here.
    fn client(&mut self) -> Result<Arc<ClientConfig>> {
        if let Some(client) = &self.client {
            return Ok(Arc::clone(client));
        }
        // Servers ask that the connection of data resumes the session of the
        // other. In version 1.3 that takes a ticket, which some of them do not
        // send, or do not know again.
        let version = if self.newest { &rustls::version::TLS13 } else { &rustls::version::TLS12 };
        let client = self.trust.clone().client_of(&[version])?;
        self.client = Some(Arc::clone(&client));
        Ok(client)
    }

    /// After the server refused the version: whether there is another one.
    pub(super) fn next_version(&mut self) -> bool {
        self.client = None;
        !std::mem::replace(&mut self.newest, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(location: &str, implicit: bool, options: &[(&str, &str)]) -> Result<Settings> {
        let address = Address::parse(location.as_bytes()).unwrap();
        Settings::new(&address, implicit, &options.iter().copied().collect())
    }

    #[test]
    fn what_options_mean() {
        let plain = settings("nas/x", false, &[]).unwrap();
        assert_eq!((plain.port, plain.tls, plain.connections), (21, TlsMode::None, 4));
        assert_eq!((plain.user.as_str(), plain.password.as_str()), ("anonymous", "anonymous"));
        let implicit = settings("nas/x", true, &[]).unwrap();
        assert_eq!((implicit.port, implicit.tls), (990, TlsMode::Implicit));
        let explicit = settings("me:a@nas", true, &[("tls", "explicit"), ("password", "b")]);
        let explicit = explicit.unwrap();
        assert_eq!((explicit.port, explicit.tls), (21, TlsMode::Explicit));
        assert_eq!(explicit.password.as_str(), "a");
        assert!(!format!("{explicit:?}").contains("password"));
        for (name, value) in [
            ("tls", "maybe"),
            ("encoding", "ebcdic"),
            ("connections", "0"),
            ("connections", "99"),
            ("timeout", "0"),
            ("nonsense", "1"),
            ("password", "a\nb"),
        ] {
            assert!(settings("nas", false, &[(name, value)]).is_err(), "{name}");
        }
        assert!(settings("nas", true, &[("tls", "none")]).is_err(), "ftps without TLS");
    }

    #[test]
    fn versions_are_tried_once() {
        let mut settings = settings("nas", true, &[]).unwrap();
        let first = settings.client().unwrap();
        assert!(Arc::ptr_eq(&first, &settings.client().unwrap()));
        assert!(settings.next_version());
        assert!(!Arc::ptr_eq(&first, &settings.client().unwrap()));
        assert!(!settings.next_version());
    }
}
