//! `tiroir server`, over a store in a folder.

use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::http::free_port;
use crate::sandbox::{Outcome, Running, Sandbox};

/// How long it may take until it answers.
const START_TIME: Duration = Duration::from_secs(60);

/// A server of one store, in the least memory.
#[derive(Debug)]
pub struct TiroirServer {
    running: Running,
    /// Where it listens.
    pub port: u16,
}

impl TiroirServer {
    /// Serves the store in a folder, with these further arguments.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn start<A: AsRef<std::ffi::OsStr>>(
        sandbox: &Sandbox,
        store: &Path,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        let port = free_port();
        let mut server = sandbox.tiroir();
        server.args(["-memory", "24M", "at"]).arg(store).arg("server");
        server.arg("-listen").arg(format!("127.0.0.1:{port}")).args(args);
        // It runs for as long as the test does.
        let mut running = server.timeout(Duration::from_secs(3600)).start();
        let until = Instant::now() + START_TIME;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if running.ended().is_some() {
                panic!("the server ended: {}", running.finish().report());
            }
            assert!(Instant::now() < until, "nobody answers at port {port}");
            thread::sleep(Duration::from_millis(10));
        }
        Self { running, port }
    }

    /// The most memory that was resident of it so far, in bytes.
    #[must_use]
    pub fn peak_bytes(&self) -> u64 {
        self.running.peak_bytes()
    }

    /// Tells it to end, and waits for that.
    ///
    /// # Panics
    ///
    /// When it does not end in a minute.
    #[must_use]
    pub fn stop(self, signal: rustix::process::Signal) -> Outcome {
        self.running.signal(signal);
        self.running.finish()
    }
}
