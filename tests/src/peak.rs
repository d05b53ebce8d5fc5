//! How much memory a program took at most, by the kernel's account.

#![allow(unsafe_code)]

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::sandbox::Invocation;

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
    /// A process starts with what the one that starts it has: that must be
    /// small, and is nothing that is asserted here.
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
        let (mut status, mut usage) = (0, MaybeUninit::<libc::rusage>::zeroed());
        // SAFETY: both pointers are to memory of ours that is as long as they
        // say. The child is not waited for elsewhere, so that the number is
        // still its own.
        let ended = unsafe { libc::wait4(id, &raw mut status, 0, usage.as_mut_ptr()) };
        assert_eq!(ended, id, "{line}: {}", std::io::Error::last_os_error());
        // SAFETY: zeros are a value of it, and the kernel has filled it.
        let usage = unsafe { usage.assume_init() };
        Peak {
            line,
            status: ExitStatus::from_raw(status),
            stderr: std::fs::read_to_string(stderr).expect("its messages"),
            // Linux counts in KiB.
            resident_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(u64::MAX).saturating_mul(1024),
            elapsed: start.elapsed(),
        }
    }
}
