//! Servers that tests talk to: each started by a test, on a loopback port of
//! its own, and ended with it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

pub mod ftp;
pub mod namespace;
pub mod plakar;
pub mod proxy;
pub mod s3;
pub mod ssh;
pub mod tiroir;

/// How long a server may take until it answers.
const START_TIME: Duration = Duration::from_secs(60);

/// A server that runs until this is dropped, with all its processes.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Port of the loopback that it answers at.
    pub port: u16,
}

impl Server {
    /// Starts a server in the foreground, and waits until its port answers.
    ///
    /// # Panics
    ///
    /// When it does not.
    #[must_use]
    pub fn start(command: &mut Command, port: u16) -> Self {
        Self::start_at(command, Ipv4Addr::LOCALHOST.into(), port)
    }

    /// The same at an address of the machine.
    ///
    /// # Panics
    ///
    /// When it does not.
    #[must_use]
    pub fn start_at(command: &mut Command, host: IpAddr, port: u16) -> Self {
        let shown = format!("{command:?}");
        let child = command.process_group(0).spawn();
        let child = child.unwrap_or_else(|error| panic!("{shown}: {error}"));
        let mut server = Self { child, port };
        let until = Instant::now() + START_TIME;
        let place = SocketAddr::from((host, port));
        while TcpStream::connect_timeout(&place, Duration::from_secs(1)).is_err() {
            if let Some(status) = server.child.try_wait().expect("state of a server") {
                panic!("{shown}: {status}");
            }
            assert!(Instant::now() < until, "{shown}: nobody answers at port {port}");
            thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id())
            && let Some(group) = rustix::process::Pid::from_raw(pid)
        {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file of a package that `scripts/servers` took apart: packages of servers of
/// one kind cannot be installed beside each other.
///
/// # Panics
///
/// When it is missing.
#[must_use]
pub fn unpacked(path: impl AsRef<Path>) -> PathBuf {
    let folder = match std::env::var_os("TIROIR_SERVERS") {
        Some(folder) => PathBuf::from(folder),
        None => std::env::current_exe()
            .expect("the path of the running test")
            .ancestors()
            .map(|folder| folder.join("servers"))
            .find(|folder| folder.is_dir())
            .expect("no folder servers/ in the target folder: run scripts/servers"),
    };
    let file = folder.join(path);
    assert!(file.exists(), "{} is missing: run scripts/servers", file.display());
    file
}

/// The path of a program that must be installed.
///
/// # Panics
///
/// When it is not.
#[must_use]
pub fn program(names: &[&str]) -> PathBuf {
    let folders = ["/usr/sbin", "/usr/bin", "/usr/local/bin", "/usr/lib/openssh", "/usr/lib"];
    let mut paths =
        names.iter().flat_map(|name| folders.map(|folder| Path::new(folder).join(name)));
    paths.find(|path| path.is_file()).unwrap_or_else(|| panic!("{names:?} is not installed"))
}
