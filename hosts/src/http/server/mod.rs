//! [`Server`]: the other end of HTTP/1.1, for few clients and little memory.
//!
//! One thread waits: for new clients, and for requests of those that are
//! connected and have nothing to say. A few workers, whose number is fixed, take
//! a request each, from its first byte to the last of its answer. Clients beyond
//! [`CONNECTIONS_MAX`] wait in the queue of the system. What a client sends is
//! bounded, and so is the time that it may take; a request that is in doubt (two
//! lengths, unknown codings, headers that are none) is refused and its connection
//! ended. What is answered is up to a [`Handler`], of which each worker has one.

mod exchange;
mod request;
mod tls;
mod wait;
mod work;

use std::fmt;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use tiroir_core::host::HostErrorKind;

pub(crate) use exchange::TEXT;
pub use exchange::{Broken, Exchange};
pub use request::{LINE_BYTES_MAX, Request};
pub use tls::Identity;

use crate::error::{Context as _, HostsError, Result, without_number};
use wait::{Shared, Waiting};

/// Most connections at once, with those that wait for a worker or say nothing.
pub const CONNECTIONS_MAX: usize = 64;

/// From so many on, each connection is ended with its answer.
const CONNECTIONS_MANY: usize = 48;

/// How long a new client may be silent, and how long a head and an agreement on
/// TLS may take for each 4 KiB of them.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// How long a connection is kept while nothing is asked. Go's clients, stock's
/// among them, end it after 90 seconds: if we did first, a request might be on
/// its way.
const IDLE_TIME: Duration = Duration::from_secs(120);

/// How long requests under way may take when the server is told to stop.
const GRACE_TIME: Duration = Duration::from_secs(10);

/// Stack of a worker, in bytes. Little of it is touched.
const STACK_BYTES: usize = 512 * 1024;

/// Answers requests, one after the other.
pub trait Handler {
    /// Answers one. What is not answered is an error of the server.
    ///
    /// # Errors
    ///
    /// Those of the exchange.
    fn handle(&mut self, exchange: &mut Exchange<'_>) -> Result<(), Broken>;
}

/// How a server ended that was told to stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// All requests that had come were answered.
    Clean,
    /// Some were cut off.
    Cut,
}

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    identity: Option<Identity>,
    workers: usize,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    /// Listens at `HOST:PORT`; without a host, at all addresses of this machine.
    /// Of the addresses of a name, IPv4 goes before IPv6. Nobody is answered yet.
    ///
    /// # Errors
    ///
    /// For what is no such place, and of the system, as when somebody else
    /// listens there.
    pub fn bind(place: &str) -> Result<Self> {
        const LISTEN: &str = "listen at";
        let failed = |words: &dyn fmt::Display| {
            HostsError::remote(HostErrorKind::Other, LISTEN, place.as_bytes(), words)
        };
        let (host, port) =
            place.rsplit_once(':').ok_or_else(|| failed(&"it is not HOST:PORT or :PORT"))?;
        let port: u16 = port.parse().map_err(|_| failed(&"the port is no number up to 65535"))?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let mut addresses: Vec<SocketAddr> = match host {
            // Where there is IPv6 this is for both.
            "" => vec![(std::net::Ipv6Addr::UNSPECIFIED, port).into()],
            name => (name, port)
                .to_socket_addrs()
                .map_err(|error| {
                    failed(&format_args!("no such host ({})", without_number(&error)))
                })?
                .collect(),
        };
        addresses.sort_by_key(SocketAddr::is_ipv6);
        let first = *addresses.first().ok_or_else(|| failed(&"the host has no address"))?;
        let listener = match TcpListener::bind(first) {
            Err(_) if host.is_empty() => TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, port)),
            other => other,
        };
        let listener = listener.map_err(|error| failed(&without_number(&error)))?;
        listener.set_nonblocking(true).at(LISTEN, place)?;
        let address = listener.local_addr().at(LISTEN, place)?;
        Ok(Self { listener, address, identity: None, workers: 1 })
    }

    /// With TLS.
    #[must_use]
    pub fn with_identity(self, identity: Identity) -> Self {
        Self { identity: Some(identity), ..self }
    }

    /// With so many workers, which is how many requests are answered at once; one
    /// if nothing is said.
    #[must_use]
    pub fn with_workers(self, workers: usize) -> Self {
        Self { workers: workers.max(1), ..self }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `stop` is set, then those that have come, for some
    /// seconds. `cut` is set when these are over, for handlers that wait for
    /// others. Signals are noticed within a second.
    ///
    /// Takes 20 KiB and what a handler takes for each worker, with TLS some
    /// 50 KiB more; and some 6 KiB for each connection that is kept, with TLS
    /// some 16 KiB.
    ///
    /// # Errors
    ///
    /// Of the system, as where no threads are to be had.
    pub fn run<H: Handler>(
        &self,
        handlers: impl Fn() -> H + Sync,
        stop: &AtomicBool,
        cut: &AtomicBool,
    ) -> Result<Ended> {
        const START: &str = "start the server at";
        let at = self.address.to_string();
        let (shared, wake) = Shared::new(self.workers).at(START, &at)?;
        let tls = self.identity.as_ref().map(|identity| &identity.0);
        thread::scope(|scope| {
            for number in 0..self.workers {
                let (shared, handlers) = (&shared, &handlers);
                let worker = move || work::work(shared, number, &mut handlers(), tls);
                let name = format!("http-{number}");
                let thread = thread::Builder::new().name(name).stack_size(STACK_BYTES);
                if let Err(error) = thread.spawn_scoped(scope, worker) {
                    shared.stop();
                    return Err(error).at(START, &at);
                }
            }
            let waited = Waiting::new(&self.listener, wake, &shared).until(stop);
            let ended = shared.end(Instant::now() + GRACE_TIME, cut);
            waited.at("wait for clients at", &at).map(|()| ended)
        })
    }
}

#[cfg(test)]
mod tests;
