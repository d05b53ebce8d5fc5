//! How much memory a program took at most, by the kernel's account.

#![allow(unsafe_code)]

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::sandbox::{Invocation, Running};

/// How a program ended, and what it took.
#[derive(Debug)]
pub struct Peak {
    /// What it was asked to do.
    pub line: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to its standard error.
    pub stderr: String,
    /// The most that was resident at once, in bytes.
    pub resident_bytes: u64,
    /// Time from start to end.
    pub elapsed: Duration,
}

impl Invocation {
    /// Runs it to its end and counts. Standard output goes nowhere, whatever
    /// its length; standard error is kept in the file `stderr`.
    ///
    /// The process is asked while it runs. What the system tells of it once it
    /// has ended begins with what the process had that started it.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[expect(clippy::zombie_processes, reason = "waited for in the way that counts")]
    pub fn measure(&mut self, stderr: &std::path::Path) -> Peak {
        let start = Instant::now();
        let line = self.line();
        let child = self
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(stderr).expect("a file"))
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {line}: {error}"));
        let id = libc::pid_t::try_from(child.id()).expect("a process");
        let (mut status, mut resident_bytes) = (0, 0);
        loop {
            resident_bytes = resident_bytes.max(high_water_mark(child.id()));
            // SAFETY: the pointer is to memory of ours. The child is not waited
            // for elsewhere, so that the number is still its own.
            match unsafe { libc::waitpid(id, &raw mut status, libc::WNOHANG) } {
                0 => std::thread::sleep(POLL),
                ended => {
                    let error = std::io::Error::last_os_error();
                    assert_eq!(ended, id, "{line}: {error}");
                    break;
                }
            }
        }
        Peak {
            line,
            status: ExitStatus::from_raw(status),
            stderr: std::fs::read_to_string(stderr).expect("its messages"),
            resident_bytes,
            elapsed: start.elapsed(),
        }
    }
}

impl Running {
    /// The most memory that was resident of it so far, in bytes.
    #[must_use]
    pub fn peak_bytes(&self) -> u64 {
        high_water_mark(self.id())
    }
}

/// How often a process is asked. What it takes in its last moment goes unseen.
const POLL: Duration = Duration::from_millis(5);

/// The most memory that was resident of a process at any time, in bytes; 0 once
/// it has ended.
fn high_water_mark(id: u32) -> u64 {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{id}/status")) else { return 0 };
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kibibytes.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
}
