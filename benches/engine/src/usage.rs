//! What a process has taken, as the kernel counts it.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What a process has taken since it began.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// Time on a processor, its own and that of the kernel for it.
    pub cpu: Duration,
    /// Most memory that was resident at a time, in bytes.
    pub peak_bytes: u64,
    /// Bytes that it gave to the kernel to write.
    pub written_bytes: u64,
    /// System calls that read or write.
    pub calls: u64,
}

impl Usage {
    /// That of this process, up to now. What the kernel does not tell is 0.
    #[must_use]
    pub fn now() -> Self {
        let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            cpu: cpu(),
            peak_bytes: field(&status, "VmHWM:") * 1024,
            written_bytes: field(&io, "wchar:"),
            calls: field(&io, "syscr:") + field(&io, "syscw:"),
        }
    }
}

/// Time that this process spent on a processor.
#[must_use]
pub fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// The number behind a name, in a file of `/proc`.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
