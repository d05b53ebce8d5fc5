//! [`Limits`]: how many bytes go over the network in a second, at most.
//!
//! A bucket for each direction, shared by all connections that are given the same
//! [`Limits`]. Who has moved some bytes waits until they are paid for; who was idle
//! has a quarter of a second in hand. What the system and a server's window hold on
//! their way comes on top: it evens out within seconds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::remote::patience::TICK;

/// Options of every place on a server, to send and to receive; whoever opens a
/// connector reads them.
pub const OPTIONS: [&str; 2] = ["limit_up", "limit_down"];

/// Least limit, in bytes per second: with less, no server waits for a request.
pub const BYTES_PER_SECOND_MIN: u64 = 1024;

/// What may be used at once of the time in which nothing moved.
const SAVED: Duration = Duration::from_millis(250);

/// Most bytes that are moved before they are paid for, if the limit is high.
const PIECE_BYTES_MAX: u64 = 64 * 1024;

/// Fewest, if it is low.
const PIECE_BYTES_MIN: u64 = 256;

/// Pieces in a second, between those bounds: no server is left without a byte for
/// long, and no wait is felt.
const PIECES_PER_SECOND: u64 = 16;

/// A limit, and how far it is used up.
#[derive(Debug)]
struct Bucket {
    bytes_per_second: u64,
    /// When all that was moved is paid for.
    paid_at: Mutex<Instant>,
}

impl Bucket {
    fn new(bytes_per_second: u64) -> Self {
        let bytes_per_second = bytes_per_second.max(BYTES_PER_SECOND_MIN);
        Self { bytes_per_second, paid_at: Mutex::new(Instant::now()) }
    }

    fn piece_bytes(&self) -> usize {
        let piece = self.bytes_per_second / PIECES_PER_SECOND;
        usize::try_from(piece.clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX)).unwrap_or(usize::MAX)
    }

    /// Takes `bytes` out, and returns when they are paid for.
    fn take(&self, bytes: usize, now: Instant) -> Instant {
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.bytes_per_second);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        // A thread that panicked has left a time all the same.
        let mut paid_at = self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
        let saved = now.checked_sub(SAVED).unwrap_or(now);
        *paid_at = (*paid_at).max(saved) + cost;
        *paid_at
    }
}

/// One direction: all the limits that hold there, which are none by default.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lane {
    buckets: Vec<Arc<Bucket>>,
    cancelled: Arc<AtomicBool>,
}

impl Lane {
    /// How many of so many bytes may be moved before they are paid for.
    pub(crate) fn piece_bytes(&self, wanted: usize) -> usize {
        self.buckets.iter().map(|bucket| bucket.piece_bytes()).fold(wanted, usize::min)
    }

    /// Pays for bytes that were moved: waits until their time is over, or the work
    /// is to stop. Returns how long that was.
    ///
    /// What is to be ended in good order after that is not held up any more.
    pub(crate) fn pay(&self, bytes: usize) -> Duration {
        if self.buckets.is_empty() {
            return Duration::ZERO;
        }
        let start = Instant::now();
        let until = self.buckets.iter().map(|bucket| bucket.take(bytes, start)).max();
        let until = until.unwrap_or(start);
        while !self.cancelled.load(Ordering::Relaxed) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(TICK));
        }
        start.elapsed()
    }
}

/// Limits of what is sent and received; none by default. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    pub(crate) up: Lane,
    pub(crate) down: Lane,
    /// Limits of places, by their names: all connections to one share them.
    places: Arc<Mutex<Vec<(String, Self)>>>,
}

impl Limits {
    /// Without a limit yet; `cancelled` ends all waiting when it is set.
    #[must_use]
    pub fn new(cancelled: Arc<AtomicBool>) -> Self {
        let lane = Lane { buckets: Vec::new(), cancelled };
        Self { up: lane.clone(), down: lane, places: Arc::default() }
    }

    /// With further limits, in bytes per second, beside those that hold already.
    /// Zero is none; others are [`BYTES_PER_SECOND_MIN`] at least.
    #[must_use]
    pub fn with(mut self, up: u64, down: u64) -> Self {
        for (lane, limit) in [(&mut self.up, up), (&mut self.down, down)] {
            if limit > 0 {
                lane.buckets.push(Arc::new(Bucket::new(limit)));
            }
        }
        self
    }

    /// These, and those of a place beside them: the same for all who ask for it.
    #[must_use]
    pub fn for_place(&self, name: &str, up: u64, down: u64) -> Self {
        if (up, down) == (0, 0) {
            return self.clone();
        }
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, limits)) = places.iter().find(|(known, _)| known == name) {
            return limits.clone();
        }
        let own = Self { places: Arc::default(), ..self.clone() }.with(up, down);
        places.push((name.to_owned(), own.clone()));
        own
    }

    /// Whether anything is limited.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.up.buckets.is_empty() && self.down.buckets.is_empty()
    }

    /// Waits before something is tried again. Whether to try: not if the work is to
    /// stop since it waits; what ends in good order after that may go on trying.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        let (until, was_over) = (Instant::now() + time, self.is_over());
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(TICK));
            if !was_over && self.is_over() {
                return false;
            }
        }
    }

    /// Whether the work should stop.
    pub(crate) fn is_over(&self) -> bool {
        self.down.cancelled.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_counts_all_that_is_taken() {
        let bucket = Bucket::new(1_000_000);
        let start = Instant::now() + Duration::from_secs(5);
        // Idle for five seconds, of which a quarter of one counts.
        let first = bucket.take(250_000, start);
        assert_eq!(first, start);
        let second = bucket.take(500_000, start);
        assert_eq!(second - start, Duration::from_millis(500));
        // Half of that is over.
        let third = bucket.take(1_000_000, start + Duration::from_millis(250));
        assert_eq!(third - start, Duration::from_millis(1500));
    }

    #[test]
    fn pieces_fit_the_limit() {
        let piece = |limit| Limits::default().with(limit, 0).up.piece_bytes(1 << 20);
        assert_eq!(piece(0), 1 << 20);
        assert_eq!(piece(1), 256);
        assert_eq!(piece(160 * 1024), 10 * 1024);
        assert_eq!(piece(u64::MAX), 64 * 1024);
    }

    #[test]
    fn connections_share_and_directions_do_not() {
        let limits = Limits::default().with(1 << 20, 0);
        let start = Instant::now();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let limits = limits.clone();
                std::thread::spawn(move || {
                    for _ in 0..4 {
                        limits.up.pay(64 << 10);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        // 1 MiB, less what was saved up.
        let taken = start.elapsed();
        assert!(taken >= Duration::from_millis(745), "{taken:?}");
        let start = Instant::now();
        for _ in 0..1000 {
            limits.down.pay(64 << 20);
        }
        assert!(start.elapsed() < Duration::from_millis(200));
    }

    #[test]
    fn waiting_ends_when_the_work_is_to_stop() {
        let cancelled = Arc::new(AtomicBool::new(false));
        let limits = Limits::new(Arc::clone(&cancelled)).with(0, 1024);
        let flag = Arc::clone(&cancelled);
        let setter = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            flag.store(true, Ordering::Relaxed);
        });
        let start = Instant::now();
        // An hour.
        limits.down.pay(3600 * 1024);
        assert!(start.elapsed() < Duration::from_secs(10));
        setter.join().unwrap();
    }

    #[test]
    fn pauses_end_with_the_work() {
        let cancelled = Arc::new(AtomicBool::new(false));
        let limits = Limits::new(Arc::clone(&cancelled));
        assert!(limits.pause(Duration::from_millis(1)));
        let ending = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            cancelled.store(true, Ordering::Relaxed);
        });
        let start = Instant::now();
        assert!(!limits.pause(Duration::from_secs(600)));
        assert!(start.elapsed() < Duration::from_secs(300));
        ending.join().unwrap();
        // Who removes a lock after that may try twice.
        assert!(limits.pause(Duration::from_millis(1)));
    }
}
