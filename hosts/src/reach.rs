//! [`connect`]: a connection to a host by its name, in a time that is bounded.
//!
//! The system looks names up for as long as it likes, and cannot be told to stop.
//! So a thread does that and connects, and is abandoned when it takes too long: it
//! ends when the system answers, and what it has by then is closed.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::without_number;

/// Addresses of a name that are tried, at most.
const ADDRESSES_MAX: usize = 16;

/// Stack of the thread, of which looking up touches a few tens of KiB.
const STACK_BYTES: usize = 256 * 1024;

/// What is left of the time when the work was to stop already: who connects then ends
/// in good order, and takes its lock away.
const ENDING: Duration = Duration::from_secs(5);

/// How often waiting looks up, whether it should end.
const TICK: Duration = Duration::from_millis(50);

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum Unreached {
    /// The name cannot be looked up.
    Name(String, io::Error),
    /// It has no address.
    NoAddress(String),
    /// This address, the last one, does not answer as hoped.
    Address(SocketAddr, io::Error),
    /// The time is over.
    Late,
    /// The work is to stop.
    Stopped,
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(host, error) => {
                write!(f, "the name {host} cannot be looked up ({})", without_number(error))
            }
            Self::NoAddress(host) => write!(f, "the name {host} has no address"),
            Self::Address(address, error) => {
                write!(f, "no connection to {address} ({})", without_number(error))
            }
            Self::Late => f.write_str("no connection within the time for connecting"),
            Self::Stopped => f.write_str("it was told to stop"),
        }
    }
}

/// Connects to the first address of `host` that answers. All of it takes no longer
/// than `time`, and ends when `is_over` becomes true, which is asked again and again.
pub(crate) fn connect(
    host: &str,
    port: u16,
    time: Duration,
    is_over: impl Fn() -> bool,
) -> Result<TcpStream, Unreached> {
    let name = host.to_owned();
    connect_by(host, time, is_over, move || Ok((name, port).to_socket_addrs()?.collect()))
}

fn connect_by(
    host: &str,
    time: Duration,
    is_over: impl Fn() -> bool,
    look_up: impl FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static,
) -> Result<TcpStream, Unreached> {
    let was_over = is_over();
    let until = Instant::now() + if was_over { time.min(ENDING) } else { time };
    let name = host.to_owned();
    let (report, outcome) = sync_channel(1);
    let work = move || {
        let addresses = look_up().map_err(|error| Unreached::Name(name.clone(), error));
        // Whoever asked may be gone.
        let _ = report.send(addresses.and_then(|addresses| first(name, &addresses, until)));
    };
    let thread = thread::Builder::new().name("connect".into()).stack_size(STACK_BYTES);
    thread.spawn(work).map_err(|error| Unreached::Name(host.to_owned(), error))?;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match outcome.recv_timeout(left.min(TICK)) {
            Ok(reached) => return reached,
            Err(_) if !was_over && is_over() => return Err(Unreached::Stopped),
            Err(RecvTimeoutError::Timeout) if !left.is_zero() => {}
            Err(_) => return Err(Unreached::Late),
        }
    }
}

/// Connects to the first of the addresses that answers.
fn first(name: String, addresses: &[SocketAddr], until: Instant) -> Result<TcpStream, Unreached> {
    let mut last = Unreached::NoAddress(name);
    for address in addresses.iter().take(ADDRESSES_MAX) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Unreached::Late);
        }
        match TcpStream::connect_timeout(address, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Unreached::Address(*address, error),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn slow() -> io::Result<Vec<SocketAddr>> {
        thread::sleep(Duration::from_secs(20));
        Ok(Vec::new())
    }

    #[test]
    fn the_first_that_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (here, nowhere) = (listener.local_addr().unwrap(), "127.0.0.1:1".parse().unwrap());
        let long = Duration::from_secs(10);
        let reach = |addresses: Vec<SocketAddr>| {
            connect_by("name", long, || false, move || Ok(addresses)).map_err(|e| e.to_string())
        };
        assert_eq!(reach(vec![nowhere, here]).unwrap().peer_addr().unwrap(), here);
        let error = reach(vec![nowhere]).unwrap_err();
        assert_eq!(error, "no connection to 127.0.0.1:1 (Connection refused)");
        assert_eq!(reach(vec![]).unwrap_err(), "the name name has no address");
        assert!(connect("127.0.0.1", here.port(), long, || false).is_ok());
        let absent = connect("no.such.name.invalid", 1, long, || false).unwrap_err();
        assert!(absent.to_string().contains("no.such.name.invalid cannot be"), "{absent}");
    }

    #[test]
    fn a_name_that_is_looked_up_for_ever() {
        let start = Instant::now();
        let late = connect_by("name", Duration::from_millis(300), || false, slow);
        assert!(matches!(late, Err(Unreached::Late)), "{late:?}");
        assert!((300..3000).contains(&start.elapsed().as_millis()));
    }

    #[test]
    fn a_signal_ends_waiting() {
        let (start, flag) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let raised = Arc::clone(&flag);
        let later = thread::spawn(move || {
            thread::sleep(Duration::from_millis(200));
            raised.store(true, Ordering::Relaxed);
        });
        let is_over = || flag.load(Ordering::Relaxed);
        let stopped = connect_by("name", Duration::from_secs(15), is_over, slow);
        assert!(matches!(stopped, Err(Unreached::Stopped)), "{stopped:?}");
        assert!(start.elapsed() < Duration::from_secs(3));
        later.join().unwrap();
        // What follows may still connect.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(connect("127.0.0.1", port, Duration::from_secs(15), is_over).is_ok());
    }
}
