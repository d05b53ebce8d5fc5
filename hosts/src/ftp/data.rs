//! Connections for data: one for each transfer.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::control::{Connection, Failure, Server};
use super::reply::{parse_extended_passive, parse_passive};
use super::settings::Settings;
use super::wire::Wire;

/// How often it is looked whether the server has connected.
const ACCEPT_PAUSE: Duration = Duration::from_millis(5);

/// A connection that is agreed on.
enum Pending {
    Passive(TcpStream),
    Active(TcpListener),
}

impl Connection {
    /// Starts a transfer: the command that moves data is under way when this
    /// returns. Refused with [`Failure::Said`], nothing is.
    pub(super) fn transfer(
        &mut self,
        settings: &Settings,
        server: &mut Server,
        (verb, argument): (&str, &[u8]),
        offset_bytes: u64,
    ) -> Result<Wire, Failure> {
        let pending = if settings.active {
            Pending::Active(self.listen(server)?)
        } else {
            let place = self.passive(settings, server)?;
            Pending::Passive(TcpStream::connect_timeout(&place, settings.connect_timeout)?)
        };
        if offset_bytes > 0 {
            let reply = self.command("REST", offset_bytes.to_string().as_bytes())?;
            if !reply.is_going_on() {
                server.rest = false;
                return Err(Failure::Said(reply));
            }
        }
        let reply = self.command(verb, argument)?;
        if !reply.is_preliminary() {
            return Err(if reply.code >= 400 {
                Failure::Said(reply)
            } else {
                Failure::Last(reply)
            });
        }
        let stream = match pending {
            Pending::Passive(stream) => stream,
            Pending::Active(listener) => self.accept(&listener, settings.connect_timeout)?,
        };
        // Handshakes are small, and what follows is not.
        stream.set_nodelay(true)?;
        let wire = Wire::new(stream, settings.timeout).limited(&settings.limits);
        self.secure_transfer(wire, settings)
    }

    /// Where the server waits. What it says of its host is mostly wrong behind a
    /// router, and may be meant to make us connect elsewhere.
    fn passive(&mut self, settings: &Settings, server: &mut Server) -> Result<SocketAddr, Failure> {
        if server.epsv {
            let reply = self.command("EPSV", b"")?;
            if reply.code == 229 {
                let port = parse_extended_passive(&reply.text);
                let port = port.ok_or(Failure::Broken("the server's reply to EPSV has no port"))?;
                return Ok(self.peer_at(port));
            }
            server.epsv = false;
        }
        let reply = self.command("PASV", b"")?;
        if reply.code != 227 {
            return Err(Failure::Said(reply));
        }
        let (host, port) = parse_passive(&reply.text)
            .ok_or(Failure::Broken("the server's reply to PASV has no port"))?;
        if settings.passive_host {
            return Ok(SocketAddr::new(IpAddr::V4(host), port));
        }
        Ok(self.peer_at(port))
    }

    /// The server itself, with the zone of its link.
    fn peer_at(&self, port: u16) -> SocketAddr {
        let mut place = self.peer;
        place.set_port(port);
        place
    }

    /// Waits for the server, and tells it where.
    fn listen(&mut self, server: &mut Server) -> Result<TcpListener, Failure> {
        let listener = TcpListener::bind((self.local, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let is_v4 = self.local.is_ipv4();
        if server.eprt || !is_v4 {
            let family = if is_v4 { 1 } else { 2 };
            let place = format!("|{family}|{}|{port}|", self.local);
            let reply = self.command("EPRT", place.as_bytes())?;
            if reply.is_done() {
                return Ok(listener);
            }
            if !is_v4 {
                return Err(Failure::Said(reply));
            }
            server.eprt = false;
        }
        let [high, low] = port.to_be_bytes();
        let place = format!("{},{high},{low}", self.local.to_string().replace('.', ","));
        self.done("PORT", place.as_bytes())?;
        Ok(listener)
    }

    fn accept(&mut self, listener: &TcpListener, time: Duration) -> Result<TcpStream, Failure> {
        let until = Instant::now() + time;
        loop {
            match listener.accept() {
                // Anybody can connect to an open port.
                Ok((stream, from)) if from.ip() == self.peer.ip() => {
                    stream.set_nonblocking(false)?;
                    return Ok(stream);
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(ACCEPT_PAUSE);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::Lost(error)),
            }
            if Instant::now() >= until {
                let words = "the server did not connect to us (active mode)";
                return Err(self.reason(io::Error::new(io::ErrorKind::TimedOut, words)));
            }
        }
    }
}
