//! Real servers on the loopback interface, started and ended by tests.

pub mod proxy;
pub mod ssh;

use std::net::{TcpListener, TcpStream};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take until it answers.
const START: Duration = Duration::from_secs(60);

/// A server that runs, and is killed when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Port of the loopback interface.
    pub port: u16,
}

impl Server {
    /// Waits until a server that was just started answers on its port.
    ///
    /// # Panics
    ///
    /// When it ends instead, or does not answer.
    #[must_use]
    pub fn wait(mut child: Child, port: u16) -> Self {
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = child.try_wait().expect("status of a child") {
                panic!("the server ended at once: {status}");
            }
            assert!(started.elapsed() < START, "the server does not answer");
            thread::sleep(Duration::from_millis(20));
        }
        Self { child, port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on just now.
///
/// # Panics
///
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// The path of a program that must be installed.
///
/// # Panics
///
/// When it is not.
#[must_use]
pub fn program(names: &[&str]) -> std::path::PathBuf {
    let folders = ["/usr/sbin", "/usr/bin", "/usr/local/bin", "/usr/lib/openssh", "/usr/lib"];
    let mut paths =
        names.iter().flat_map(|name| folders.map(|folder| std::path::Path::new(folder).join(name)));
    paths.find(|path| path.is_file()).unwrap_or_else(|| panic!("{names:?} is not installed"))
}
