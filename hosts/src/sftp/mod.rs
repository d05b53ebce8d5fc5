//! [`SftpFiles`]: files on a server that is reached over SSH.
//!
//! - `wire`: packets; `connection`: requests and answers, several at a time;
//!   `transfer`: open files, asked ahead of and written behind; `requests`: one that is
//!   waited for; `listing`; `outcome`: what a fault means; `files`: all of it together;
//! - [`ssh`]: the encrypted channel, by `russh`, on a thread of its own; `login`;
//!   `host_key` and [`known_hosts`]: which key a server must have; [`config`]: OpenSSH's own
//!   configuration; [`command`]: a program in place of SSH.

use std::fmt;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use tiroir_core::host::HostErrorKind;

use self::connection::{Connection, Fault};
use self::outcome::Outcome;
use self::requests::{call, one_name};
use self::transfer::Transfers;
use self::wire::kind;
use crate::error::{HostsError, Result};
use crate::remote::patience::Patience;
use crate::warn::Warnings;

pub mod command;
#[cfg(feature = "sftp")]
pub mod config;
mod connection;
mod files;
#[cfg(feature = "sftp")]
mod host_key;
#[cfg(feature = "sftp")]
pub mod known_hosts;
mod listing;
#[cfg(feature = "sftp")]
mod login;
mod outcome;
mod requests;
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

/// [`RemoteFiles`](crate::remote::RemoteFiles) over SFTP.
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
        let fault = |fault| Outcome::of(self.dial.shown(), "speak to", b"", fault);
        let mut connection = Connection::start(stream, self.patience.clone()).map_err(fault)?;
        let reopened = self.transfers.reopen(&mut connection);
        reopened.map_err(|fault| Outcome::of(self.dial.shown(), "speak to", b"", fault))?;
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
                        Err(fault) => Outcome::of(self.dial.shown(), operation, path, fault),
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
}
