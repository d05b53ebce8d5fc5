//! [`SystemHost`]: clock, entropy and spools of an operating system.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tiroir_core::host::{Host, HostErrorKind};
use tiroir_core::time::Timestamp;
use zeroize::Zeroize as _;

use crate::content_type::content_type;
use crate::error::{HostsError, Result};
use crate::spool::FileSpool;

/// Bytes of entropy asked of the kernel at once: a backup takes a nonce of
/// twelve bytes for every 64 KiB that it seals, and a system call for each
/// would be felt on a router.
const ENTROPY_BYTES: usize = 4096;

/// Random bytes of the kernel, some in advance, erased as they are used.
pub(crate) struct Entropy {
    bytes: Box<[u8; ENTROPY_BYTES]>,
    /// How many bytes at the end of `bytes` are not used yet.
    left: usize,
}

impl Entropy {
    pub(crate) fn new() -> Self {
        Self { bytes: Box::new([0; ENTROPY_BYTES]), left: 0 }
    }

    pub(crate) fn fill(&mut self, out: &mut [u8]) -> std::result::Result<(), getrandom::Error> {
        if out.len() >= ENTROPY_BYTES {
            return getrandom::fill(out);
        }
        if out.len() > self.left {
            getrandom::fill(&mut self.bytes[..])?;
            self.left = ENTROPY_BYTES;
        }
        let start = ENTROPY_BYTES - self.left;
        let taken = &mut self.bytes[start..start + out.len()];
        out.copy_from_slice(taken);
        taken.zeroize();
        self.left -= out.len();
        Ok(())
    }
}

impl Drop for Entropy {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// [`Host`] of a program on an operating system.
///
/// Takes 4 KiB, and what its spools take: see [`FileSpool`].
pub struct SystemHost {
    spool_directory: PathBuf,
    entropy: Entropy,
    cancelled: Arc<AtomicBool>,
}

impl SystemHost {
    /// A host whose spools lie in `spool_directory`, which should be on a disk
    /// and not in memory. It is not touched before a spool outgrows its buffer.
    #[must_use]
    pub fn new(spool_directory: impl Into<PathBuf>) -> Self {
        Self {
            spool_directory: spool_directory.into(),
            entropy: Entropy::new(),
            cancelled: Arc::new(AtomicBool::new(false)),
        }
    }

    /// With a flag that stops the work when it is set, by a signal handler or
    /// from another thread.
    #[must_use]
    pub fn with_cancellation(mut self, cancelled: Arc<AtomicBool>) -> Self {
        self.cancelled = cancelled;
        self
    }
}

impl fmt::Debug for SystemHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SystemHost")
            .field("spool_directory", &self.spool_directory)
            .finish_non_exhaustive()
    }
}

impl Host for SystemHost {
    type Error = HostsError;
    type Spool = FileSpool;

    fn now(&mut self) -> Timestamp {
        now()
    }

    fn fill_random(&mut self, out: &mut [u8]) -> Result<()> {
        self.entropy.fill(out).map_err(no_entropy)
    }

    fn spool(&mut self) -> Result<FileSpool> {
        Ok(FileSpool::new(self.spool_directory.clone()))
    }

    fn content_type(&mut self, name: &[u8], first: &[u8]) -> &'static str {
        content_type(name, first)
    }

    fn cancelled(&mut self) -> bool {
        // Nothing else is published through the flag.
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// The time of the system's clock.
pub(crate) fn now() -> Timestamp {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => Timestamp {
            secs: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            nanos: after.subsec_nanos(),
        },
        Err(error) => {
            // A clock before 1970: devices without a battery start wherever.
            let nanos = i64::try_from(error.duration().as_nanos()).unwrap_or(i64::MAX);
            Timestamp::from_unix_nanos(-nanos)
        }
    }
}

/// Sixteen hexadecimal digits that no other process has, for temporary names.
pub(crate) fn random_suffix() -> Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(no_entropy)?;
    Ok(format!("{:016x}", u64::from_le_bytes(bytes)))
}

pub(crate) fn no_entropy(error: getrandom::Error) -> HostsError {
    match error.raw_os_error() {
        Some(code) => {
            let cause = std::io::Error::from_raw_os_error(code);
            HostsError::io_bytes("read random bytes of the system", b"", cause)
        }
        None => HostsError::rule(
            HostErrorKind::Other,
            "read random bytes of the system",
            b"",
            "it has none to give",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_is_erased_and_never_repeated() {
        let mut entropy = Entropy::new();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            let mut nonce = [0; 12];
            entropy.fill(&mut nonce).unwrap();
            assert!(seen.insert(nonce));
            let used = ENTROPY_BYTES - entropy.left;
            assert!(entropy.bytes[..used].iter().all(|&byte| byte == 0));
        }
        let mut long = vec![0; 3 * ENTROPY_BYTES];
        entropy.fill(&mut long).unwrap();
        assert!(long.chunks(64).all(|piece| piece.iter().any(|&byte| byte != 0)));
    }

    #[test]
    fn cancellation_is_seen() {
        let flag = Arc::new(AtomicBool::new(false));
        let mut host = SystemHost::new("/nonexistent").with_cancellation(flag.clone());
        assert!(!host.cancelled());
        flag.store(true, Ordering::Relaxed);
        assert!(host.cancelled());
        assert!(host.now() > Timestamp::from_unix_nanos(1_500_000_000_000_000_000));
    }
}
