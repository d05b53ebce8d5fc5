//! [`Patience`]: how long a connector waits, and what cuts that short.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::options::Options;
use crate::rate::Limits;

/// Options that are read here: for connectors to list with their own.
pub const OPTIONS: [&str; 3] = ["timeout", "connect_timeout", "retry"];

/// How often waiting looks up, whether it should end.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// Longest pause before a connection is tried again.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// How long a connector waits for a server.
#[derive(Clone, Debug)]
pub struct Patience {
    /// Without a byte from the server, before the link counts as broken.
    pub timeout: Duration,
    /// For a connection to be made, with all that is said in the beginning.
    pub connect: Duration,
    /// For a link that broke to be made again; zero if it is not to be tried.
    pub retry: Duration,
    /// How fast bytes may move.
    pub limits: Limits,
    cancelled: Arc<AtomicBool>,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60),
            connect: Duration::from_secs(30),
            retry: Duration::from_secs(300),
            limits: Limits::default(),
            cancelled: Arc::default(),
        }
    }
}

impl Patience {
    /// What the options say, in seconds: `timeout` (60), `connect_timeout` (30)
    /// and `retry` (300; 0 for never).
    ///
    /// # Errors
    ///
    /// Values that are not understood.
    pub fn from_options(options: &Options) -> Result<Self> {
        let usual = Self::default();
        let retry = match options.text("retry") {
            Some("0" | "0s") => Some(Duration::ZERO),
            _ => options.seconds("retry")?,
        };
        Ok(Self {
            timeout: options.seconds("timeout")?.unwrap_or(usual.timeout),
            connect: options.seconds("connect_timeout")?.unwrap_or(usual.connect),
            retry: retry.unwrap_or(usual.retry),
            limits: usual.limits,
            cancelled: usual.cancelled,
        })
    }

    /// With a flag that ends all waiting when it is set.
    #[must_use]
    pub fn with_cancellation(mut self, cancelled: Arc<AtomicBool>) -> Self {
        self.cancelled = cancelled;
        self
    }

    /// With limits of how fast bytes move.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Whether the work should stop.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Fails with *interrupted* if the work should stop, and with *timed out* if
    /// nothing has come since `since` for too long.
    pub(crate) fn check(&self, since: Instant) -> io::Result<()> {
        if self.is_over() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "stopped"));
        }
        if since.elapsed() >= self.timeout {
            let text = format!("nothing came for {} seconds", self.timeout.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        Ok(())
    }

    /// Waits before the attempt of that number, from 1; longer each time, and
    /// never quite the same. Whether to try at all: not when the work should
    /// stop, nor when `since` is too long ago.
    pub(crate) fn pause(&self, attempt: u32, since: Instant) -> bool {
        // Many a link is back at once; then one, two, four seconds…
        let longest = match attempt {
            0 | 1 => Duration::from_millis(100),
            more => Duration::from_secs(1 << (more - 2).min(5)).min(PAUSE_MAX),
        };
        let mut random = [0; 1];
        // Without entropy all pauses are alike, which is no failure.
        let _ = getrandom::fill(&mut random);
        let pause = longest.mul_f32(0.5 + f32::from(random[0]) / 512.0);
        if since.elapsed() + pause > self.retry {
            return false;
        }
        let until = Instant::now() + pause;
        while !self.is_over() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(TICK));
        }
        false
    }
}

/// Whether an error only says that a read or write with a time-out has reached it.
pub(crate) fn is_tick(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_seconds() {
        let pairs = [("timeout", "5"), ("connect_timeout", "7s"), ("retry", "0")];
        let patience = Patience::from_options(&pairs.into_iter().collect()).unwrap();
        let seconds =
            [patience.timeout, patience.connect, patience.retry].map(|time| time.as_secs());
        assert_eq!(seconds, [5, 7, 0]);
        let wrong = [("timeout", "0")].into_iter().collect();
        assert!(Patience::from_options(&wrong).is_err());
    }

    #[test]
    fn waiting_ends() {
        let flag = Arc::new(AtomicBool::new(false));
        let mut patience = Patience::default().with_cancellation(flag.clone());
        let now = Instant::now();
        assert!(patience.check(now).is_ok());
        patience.timeout = Duration::ZERO;
        assert_eq!(patience.check(now).unwrap_err().kind(), io::ErrorKind::TimedOut);
        flag.store(true, Ordering::Relaxed);
        assert_eq!(patience.check(now).unwrap_err().kind(), io::ErrorKind::Interrupted);
        assert!(!patience.pause(1, now));
        patience.retry = Duration::ZERO;
        assert!(!patience.pause(1, now));
        assert!(now.elapsed() < Duration::from_secs(5));
    }
}
