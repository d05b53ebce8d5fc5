//! [`Ssh`]: connects to a server by SSH, logs in, and gives a stream that leads
//! to its SFTP.
//!
//! What speaks SSH is a thread with a runtime of its own. The stream is one end
//! of a pair of sockets: both ends wait for each other, so that no side gathers
//! what the other does not take.

use std::fmt;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use russh::client::Handle;
use tiroir_core::host::HostErrorKind;
use tokio::net::UnixStream as AsyncUnixStream;
use zeroize::Zeroizing;

use super::Dial;
use super::command::CommandDial;
use super::config::{self, HostConfig};
use super::host_key::{HostKeys, Verifier, preferences};
use super::known_hosts;
use super::login::{Credentials, log_in};
use crate::address::Address;
use crate::error::{Context as _, HostsError, Result};
use crate::options::Options;
use crate::reach::{self, Unreached};
use crate::remote::patience::{self, Patience, TICK};

/// Options that are read here, beside those of [`patience`]. Names are stock's
/// where stock has them; its `ssh_private_key_ttl` is accepted and not needed.
pub const OPTIONS: [&str; 17] = [
    "host_key_alias",
    "identity",
    "identity_passphrase",
    "insecure_ignore_host_key",
    "known_hosts",
    "legacy_algorithms",
    "password",
    "port",
    "proxy_command",
    "proxy_jump",
    "root",
    "ssh_auth_sock",
    "ssh_command",
    "ssh_config",
    "ssh_private_key",
    "ssh_private_key_ttl",
    "username",
];

/// Stack of the thread: key exchanges are its deepest.
const STACK_BYTES: usize = 1 << 20;

/// Bytes that the server may send before they are taken: twice what is ever
/// asked for at once.
const WINDOW_BYTES: u32 = 1 << 20;

/// Packets of a channel that wait: as many as fill the window.
const CHANNEL_PACKETS: usize = 40;

/// Bytes that are moved at once.
const COPY_BYTES: usize = 32 * 1024;

/// Without anything from the server for so long, it is asked for a sign of life.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// What is said when there is no connection after [`Patience::connect`].
const LATE: &str = "no answer within the time for connecting (connect_timeout)";

/// Most hosts on the way.
const JUMPS_MAX: usize = 8;

/// One host, as it is reached and logged in to.
#[derive(Clone, Debug)]
struct Hop {
    /// Name or number.
    host: String,
    port: u16,
    user: String,
    keys: HostKeys,
    credentials: Credentials,
}

/// The way to a server.
pub struct Ssh {
    hops: Vec<Hop>,
    patience: Patience,
    legacy: bool,
    /// A command in place of all that.
    command: Option<CommandDial>,
    /// A command that leads to the first host.
    proxy: Option<String>,
    shown: String,
}

impl fmt::Debug for Ssh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ssh").field(&self.shown).finish()
    }
}

impl Ssh {
    /// The way to the server at `address`, from the options, and from OpenSSH's
    /// configuration below `home` where they say nothing.
    ///
    /// # Errors
    ///
    /// Values that are not understood, and files that cannot be read.
    pub fn new(
        address: &Address,
        options: &Options,
        home: &Path,
        patience: Patience,
    ) -> Result<Self> {
        let config = read_config(options, home, &address.host)?;
        let user = options.text("username").map(str::to_owned);
        let user = address.user.clone().or(user);
        let port = address.port.map_or_else(|| options.number("port"), |port| Ok(Some(port)))?;
        let text = |name: &str, configured: &Option<String>| {
            let given = options.text(name).map(str::to_owned).or_else(|| configured.clone());
            given.filter(|value| !value.eq_ignore_ascii_case("none"))
        };
        let jumps = text("proxy_jump", &config.proxy_jump);
        let proxy = text("proxy_command", &config.proxy_command).filter(|_| jumps.is_none());
        let mut last = hop(&address.host, user, port, &config, options, home)?;
        let password = address.password.as_ref().map(|text| text.to_string());
        let password = password.or_else(|| options.text("password").map(str::to_owned));
        last.credentials.password = password.map(Zeroizing::new);
        let mut hops = Vec::new();
        for name in jumps.iter().flat_map(|names| names.split(',')).take(JUMPS_MAX) {
            hops.push(jump(name.trim(), options, home)?);
        }
        let (host, port) = (&last.host, last.port);
        let target = |text: String| {
            text.replace("%h", host).replace("%p", &port.to_string()).replace("%r", &last.user)
        };
        let (command, proxy) =
            (options.text("ssh_command").map(|text| target(text.into())), proxy.map(target));
        let named = Address { user: None, password: None, path: Vec::new(), ..address.clone() };
        let shown = match command {
            Some(_) => format!("sftp://{}", named.origin()),
            None => format!("sftp://{}@{}", last.user, named.origin()),
        };
        hops.push(last);
        let legacy = options.flag("legacy_algorithms")?;
        let command = command.map(|line| CommandDial::shell(&shown, &line));
        Ok(Self { hops, patience, legacy, command, proxy, shown })
    }

    /// Connects as far as the server's key, which nobody compares with anything,
    /// and returns the name that it is known under, and the key in the form of
    /// OpenSSH.
    ///
    /// # Errors
    ///
    /// Of the connection.
    pub fn offered_key(&mut self) -> Result<(String, russh::keys::PublicKey)> {
        let last = self.hops.len() - 1;
        self.hops[last].keys.only_ask = true;
        let name = self.hops[last].keys.name.clone();
        let offered = self.hops[last].keys.offered.clone();
        let dialled = self.dial_by_ssh();
        let key = offered.lock().ok().and_then(|mut offered| offered.take());
        match (key, dialled) {
            (Some(key), _) => Ok((name, key)),
            (None, Err(error)) => Err(error),
            (None, Ok(_)) => Err(self.rule("the server has no key that can be kept")),
        }
    }

    /// Files in which the key of the server may be known, the first of which is
    /// where new ones go.
    #[must_use]
    pub fn known_hosts(&self) -> &[PathBuf] {
        self.hops.last().map_or(&[], |hop| &hop.keys.files)
    }

    fn rule(&self, rule: &'static str) -> HostsError {
        let shown = self.shown.as_bytes();
        HostsError::rule(HostErrorKind::Other, "connect to", shown, rule)
    }

    fn dial_by_ssh(&mut self) -> Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair().at("connect to", &self.shown)?;
        theirs.set_nonblocking(true).at("connect to", &self.shown)?;
        let (report, outcome) = sync_channel(1);
        let way = Way {
            hops: self.hops.clone(),
            patience: self.patience.clone(),
            legacy: self.legacy,
            proxy: self.proxy.clone(),
            shown: self.shown.clone(),
        };
        let work = move || way.serve(theirs, &report);
        let thread = std::thread::Builder::new().name("ssh".into()).stack_size(STACK_BYTES);
        thread.spawn(work).at("start a thread for", &self.shown)?;
        loop {
            match outcome.recv_timeout(TICK) {
                Ok(done) => return done.map(|()| ours),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.rule("what speaks SSH has ended"));
                }
                Err(RecvTimeoutError::Timeout) if self.patience.is_over() => {
                    return Err(self.rule("it was told to stop"));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl Dial for Ssh {
    fn dial(&mut self) -> Result<UnixStream> {
        match &mut self.command {
            Some(command) => command.dial(),
            None => self.dial_by_ssh(),
        }
    }

    fn shown(&self) -> &str {
        &self.shown
    }
}

/// Starts a command with a socket for its input and output.
fn spawn(command: &str, socket: UnixStream) -> std::io::Result<Child> {
    let output = socket.try_clone()?;
    Command::new("/bin/sh")
        .args(["-c", &format!("exec {command}")])
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stdout(Stdio::from(OwnedFd::from(output)))
        .spawn()
}

/// OpenSSH's configuration for a host: the file of the option, or the user's and
/// then the system's; `none` reads none.
fn read_config(options: &Options, home: &Path, host: &str) -> Result<HostConfig> {
    let mut found = HostConfig::default();
    match options.text("ssh_config") {
        Some("none") => {}
        Some(path) => config::read(Path::new(path), home, host, &mut found)?,
        None => {
            config::read(&home.join(".ssh/config"), home, host, &mut found)?;
            config::read(Path::new("/etc/ssh/ssh_config"), home, host, &mut found)?;
        }
    }
    Ok(found)
}

/// A host, from what is configured for it.
fn hop(
    named: &str,
    user: Option<String>,
    port: Option<u16>,
    config: &HostConfig,
    options: &Options,
    home: &Path,
) -> Result<Hop> {
    let host = config.host_name.clone().unwrap_or_else(|| named.to_owned());
    let port = port.or(config.port).unwrap_or(22);
    let user = user.or_else(|| config.user.clone());
    let user = user.or_else(|| std::env::var("USER").ok().filter(|user| !user.is_empty()));
    let files = match options.text("known_hosts") {
        Some(path) => vec![PathBuf::from(path)],
        None if !config.known_hosts.is_empty() => config.known_hosts.clone(),
        None => vec![
            home.join(".ssh/known_hosts"),
            home.join(".ssh/known_hosts2"),
            PathBuf::from("/etc/ssh/ssh_known_hosts"),
        ],
    };
    let alias = options.text("host_key_alias").or(config.host_key_alias.as_deref());
    let name = match alias {
        Some(alias) => alias.to_ascii_lowercase(),
        None => known_hosts::host_name(&host, port),
    };
    let insecure = options.flag("insecure_ignore_host_key")?;
    let keys = HostKeys::new(name, &host, files, insecure)?;
    let credentials = Credentials::new(config, options, home)?;
    Ok(Hop { host, port, user: user.unwrap_or_else(|| "root".into()), keys, credentials })
}

/// A host on the way: `[user@]host[:port]`, configured by itself.
fn jump(name: &str, options: &Options, home: &Path) -> Result<Hop> {
    let name = name.strip_prefix("ssh://").unwrap_or(name);
    let address = Address::parse(name.as_bytes())?;
    let config = read_config(options, home, &address.host)?;
    // Its own keys, by its own configuration, and the agent's.
    let own: [&str; 5] =
        ["known_hosts", "insecure_ignore_host_key", "ssh_config", "ssh_auth_sock", "identity"];
    let own = own.into_iter().filter_map(|name| Some((name, options.text(name)?)));
    hop(&address.host, address.user, address.port, &config, &own.collect(), home)
}

/// What the thread is given.
struct Way {
    hops: Vec<Hop>,
    patience: Patience,
    legacy: bool,
    proxy: Option<String>,
    shown: String,
}

/// A host that is logged in to.
type Session = Handle<Verifier>;

impl Way {
    /// Connects, reports, and moves bytes until either side closes.
    fn serve(self, socket: UnixStream, report: &std::sync::mpsc::SyncSender<Result<()>>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime.at("connect to", &self.shown) {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = report.send(Err(error));
                return;
            }
        };
        runtime.block_on(async {
            let connected = tokio::time::timeout(self.patience.connect, self.connect()).await;
            let connected = connected.unwrap_or_else(|_| Err(self.failed(LATE)));
            let (sessions, channel) = match connected {
                Ok(connected) => connected,
                Err(error) => {
                    let _ = report.send(Err(error));
                    return;
                }
            };
            let Ok(mut socket) = AsyncUnixStream::from_std(socket) else { return };
            let _ = report.send(Ok(()));
            let mut stream = channel.into_stream();
            // Why it ends is seen at the other end of the socket.
            let _ = tokio::io::copy_bidirectional_with_sizes(
                &mut stream,
                &mut socket,
                COPY_BYTES,
                COPY_BYTES,
            )
            .await;
            drop(stream);
            for session in sessions.into_iter().rev() {
                let code = russh::Disconnect::ByApplication;
                let goodbye = session.disconnect(code, "", "");
                let _ = tokio::time::timeout(Duration::from_secs(1), goodbye).await;
            }
        });
        // Its tasks end with it.
        drop(runtime);
    }

    fn failed(&self, words: impl fmt::Display) -> HostsError {
        HostsError::remote(HostErrorKind::Other, "connect to", self.shown.as_bytes(), words)
    }

    /// Connects over all hosts on the way, and opens the channel at the last.
    async fn connect(&self) -> Result<(Vec<Session>, russh::Channel<russh::client::Msg>)> {
        let mut sessions: Vec<Session> = Vec::with_capacity(self.hops.len());
        for hop in &self.hops {
            let session = match sessions.last() {
                None => self.first(hop).await?,
                Some(before) => {
                    let port = u32::from(hop.port);
                    let channel =
                        before.channel_open_direct_tcpip(hop.host.as_str(), port, "127.0.0.1", 0);
                    let channel = channel.await.map_err(|error| self.failed(error))?;
                    self.shake_hands(hop, channel.into_stream()).await?
                }
            };
            sessions.push(session);
        }
        let Some(session) = sessions.last() else { return Err(self.failed("no host")) };
        let channel = session.channel_open_session().await.map_err(|error| self.failed(error))?;
        let channel = self.request_sftp(channel).await?;
        Ok((sessions, channel))
    }

    /// Reaches the first host, by a command or by TCP.
    async fn first(&self, hop: &Hop) -> Result<Session> {
        if let Some(command) = &self.proxy {
            let (ours, theirs) = UnixStream::pair().at("connect to", &self.shown)?;
            ours.set_nonblocking(true).at("connect to", &self.shown)?;
            // It ends when its input does.
            spawn(command, theirs).at("run", command)?;
            let stream = AsyncUnixStream::from_std(ours).at("connect to", &self.shown)?;
            return self.shake_hands(hop, stream).await;
        }
        let stream = self.reach(hop)?;
        let stream = tokio::net::TcpStream::from_std(stream).at("connect to", &self.shown)?;
        self.shake_hands(hop, stream).await
    }

    /// Connects to a host by TCP. This thread has nothing else to do meanwhile.
    fn reach(&self, hop: &Hop) -> Result<TcpStream> {
        let (time, is_over) = (self.patience.connect, || self.patience.is_over());
        let stream =
            reach::connect(&hop.host, hop.port, time, is_over).map_err(
                |unreached| match unreached {
                    Unreached::Address(_, error) => {
                        HostsError::io("connect to", &self.shown, error)
                    }
                    Unreached::Late => self.failed(LATE),
                    unreached => self.failed(unreached),
                },
            )?;
        let set = stream.set_nodelay(true).and(stream.set_nonblocking(true));
        set.at("connect to", &self.shown)?;
        Ok(stream)
    }

    /// Agrees on keys, and logs in.
    async fn shake_hands<S>(&self, hop: &Hop, stream: S) -> Result<Session>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let verifier = Verifier::new(&hop.keys);
        let verdict = verifier.verdict();
        let config = russh::client::Config {
            client_id: russh::SshId::Standard("SSH-2.0-tiroir".into()),
            window_size: WINDOW_BYTES,
            maximum_packet_size: 32 * 1024,
            channel_buffer_size: CHANNEL_PACKETS,
            preferred: preferences(&hop.keys, self.legacy),
            keepalive_interval: Some(KEEPALIVE),
            ..Default::default()
        };
        let connected = russh::client::connect_stream(config.into(), stream, verifier).await;
        let mut session = connected.map_err(|error| {
            let said = verdict.lock().ok().and_then(|mut verdict| verdict.take());
            match said {
                Some(words) => HostsError::remote(
                    HostErrorKind::PermissionDenied,
                    "connect to",
                    self.shown.as_bytes(),
                    words,
                ),
                None => self.failed(explain(&error)),
            }
        })?;
        log_in(&mut session, &hop.user, &hop.credentials).await.map_err(|words| {
            let kind = HostErrorKind::PermissionDenied;
            HostsError::remote(kind, "log in to", self.shown.as_bytes(), words)
        })?;
        Ok(session)
    }

    /// Asks for SFTP in a channel.
    async fn request_sftp(
        &self,
        mut channel: russh::Channel<russh::client::Msg>,
    ) -> Result<russh::Channel<russh::client::Msg>> {
        let asked = channel.request_subsystem(true, "sftp").await;
        asked.map_err(|error| self.failed(error))?;
        while let Some(message) = channel.wait().await {
            match message {
                russh::ChannelMsg::Success => return Ok(channel),
                russh::ChannelMsg::Failure => break,
                _ => {}
            }
        }
        Err(self.failed("the server has no SFTP"))
    }
}

/// An error of the library in the words of somebody who can do something.
fn explain(error: &russh::Error) -> String {
    match error {
        russh::Error::NoCommonAlgo { kind, theirs, .. } => format!(
            "no {kind:?} algorithm in common; the server has {}. Old ones are tried with \
             legacy_algorithms=true",
            theirs.join(", ")
        ),
        russh::Error::HUP | russh::Error::Disconnect => {
            "the server closed the connection".to_owned()
        }
        other => other.to_string(),
    }
}

/// Fingerprint of a key, as OpenSSH shows it: `SHA256:…`.
#[must_use]
pub fn fingerprint(key: &russh::keys::PublicKey) -> String {
    key.fingerprint(russh::keys::HashAlg::Sha256).to_string()
}

/// All options of this connector.
#[must_use]
pub fn options() -> Vec<&'static str> {
    [&OPTIONS[..], &patience::OPTIONS[..]].concat()
}
