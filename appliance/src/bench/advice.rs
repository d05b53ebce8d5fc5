//! What to choose for a store, by what was measured.

use tiroir_core::compression::Compression;
use tiroir_core::crypto::Suite;
use tiroir_core::mac::HashAlgorithm;

use super::{Pace, Way, as_f64};

/// How many times as fast a backup has to be with ChaCha20-Poly1305 before it is
/// worth a store that stock cannot read.
pub(crate) const SUITE_GAIN_MIN: f64 = 1.5;

/// How many times as fast it has to be with SHA-256, which stock reads too.
pub(crate) const HASHING_GAIN_MIN: f64 = 1.25;

/// How many times as fast a backup to this disk has to be without compression before
/// that is worth the room.
pub(crate) const COMPRESSION_GAIN_MIN: f64 = 2.0;

/// Bytes of the backup that is estimated.
pub(crate) const ESTIMATE_BYTES: u64 = 100_000_000_000;

/// What to choose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Advice {
    /// The choice.
    pub(crate) way: Way,
    /// How many times as fast the processor is with ChaCha20-Poly1305 as with
    /// AES-GCM-SIV, with LZ4.
    pub(crate) suite_gain: f64,
    /// A first backup that way.
    pub(crate) estimate: Estimate,
    /// One in the usual way, which stock reads.
    pub(crate) usual: Estimate,
}

/// How long [`ESTIMATE_BYTES`] take, in hours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    /// On one core.
    pub(crate) processor_hours: f64,
    /// On the disk, if it was measured.
    pub(crate) disk_hours: f64,
}

impl Estimate {
    /// One after the other, as they are with one thread: what is written is waited
    /// for at the end of each packfile.
    pub(crate) fn hours(&self) -> f64 {
        self.processor_hours + self.disk_hours
    }
}

/// The usual way.
const USUAL: Way = Way::new(Some(Suite::Aes256GcmSiv), Compression::Lz4);

/// What to choose, by how fast each way is and how many bytes the disk writes in a
/// second, if that is known. Nothing where a way is missing.
pub(crate) fn advise(paces: &[Pace], write_rate: Option<u64>) -> Option<Advice> {
    let pace = |way: Way| paces.iter().find(|pace| pace.way == way);
    let usual = pace(USUAL)?;
    let other_suite = pace(Way { suite: Some(Suite::ChaCha20Poly1305), ..USUAL })?;
    let suite_gain = usual.seconds() / other_suite.seconds();
    let suite = match suite_gain {
        gain if gain >= SUITE_GAIN_MIN => Suite::ChaCha20Poly1305,
        _ => Suite::Aes256GcmSiv,
    };
    let lz4 = pace(Way { suite: Some(suite), ..USUAL })?;
    let none = pace(Way { suite: Some(suite), compression: Compression::None, ..USUAL })?;
    let gain = estimate(lz4, write_rate).hours() / estimate(none, write_rate).hours();
    // Where it is not known what writing costs, it may cost most.
    let is_plain = write_rate.is_some() && gain >= COMPRESSION_GAIN_MIN;
    let chosen = if is_plain { none } else { lz4 };
    let other_hash = pace(Way { hashing: HashAlgorithm::Sha256, ..USUAL })?;
    let hashing = match usual.seconds() / other_hash.seconds() {
        gain if gain >= HASHING_GAIN_MIN => HashAlgorithm::Sha256,
        _ => HashAlgorithm::Blake3,
    };
    let mut expected = estimate(chosen, write_rate);
    if hashing != HashAlgorithm::Blake3 {
        // What the other hash saves with the usual cipher, it saves with either.
        let saved = usual.seconds() - other_hash.seconds();
        expected.processor_hours -= hours(saved);
    }
    let way = Way { hashing, ..chosen.way };
    Some(Advice { way, suite_gain, estimate: expected, usual: estimate(usual, write_rate) })
}

fn estimate(pace: &Pace, write_rate: Option<u64>) -> Estimate {
    let write_seconds = write_rate.map_or(0.0, |rate| pace.ratio() / as_f64(rate.max(1)));
    Estimate { processor_hours: hours(pace.seconds()), disk_hours: hours(write_seconds) }
}

/// Hours that the bytes take of which each takes so many seconds.
fn hours(seconds: f64) -> f64 {
    seconds * as_f64(ESTIMATE_BYTES) / 3600.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::processor::WAYS;
    use std::time::Duration;
    use tiroir_hosts::disk::Transfer;

    /// Paces of a machine that takes so many milliseconds for a megabyte: for what
    /// every way does, for each cipher, for compression, and for SHA-256 in place of
    /// BLAKE3.
    fn paces(base: u64, aes: u64, chacha: u64, lz4: u64, sha256: i64) -> Vec<Pace> {
        let pace = |way: Way| {
            let stored_bytes =
                if way.compression == Compression::None { 1_000_000 } else { 750_000 };
            let mut millis = base;
            millis += match way.suite {
                None => 0,
                Some(Suite::Aes256GcmSiv) => aes * stored_bytes / 1_000_000,
                Some(Suite::ChaCha20Poly1305) => chacha * stored_bytes / 1_000_000,
            };
            millis += if way.compression == Compression::None { 0 } else { lz4 };
            if way.hashing == HashAlgorithm::Sha256 {
                millis = millis.saturating_add_signed(sha256);
            }
            let done = Transfer { bytes: 1_000_000, time: Duration::from_millis(millis) };
            Pace { way, done, stored_bytes }
        };
        WAYS.map(pace).to_vec()
    }

    #[test]
    fn stock_reads_it_unless_that_is_dear() {
        let fast = advise(&paces(20, 4, 8, 10, 30), Some(50_000_000)).unwrap();
        assert_eq!(fast.way, USUAL);
        assert!(fast.suite_gain < 1.0);
        assert_eq!(fast.estimate, fast.usual);
        let slow = advise(&paces(40, 120, 24, 20, 30), Some(50_000_000)).unwrap();
        assert_eq!(slow.way.suite, Some(Suite::ChaCha20Poly1305));
        assert!((slow.suite_gain - 150.0 / 78.0).abs() < 1e-9, "{}", slow.suite_gain);
        assert!(slow.usual.hours() > slow.estimate.hours());
        let near = advise(&paces(100, 60, 20, 20, 30), None).unwrap();
        assert_eq!(near.way.suite, Some(Suite::Aes256GcmSiv));
    }

    #[test]
    fn compression_pays_on_a_slow_disk() {
        let dear = paces(10, 4, 4, 40, 0);
        assert_eq!(advise(&dear, None).unwrap().way.compression, Compression::Lz4);
        let fast = advise(&dear, Some(200_000_000)).unwrap();
        assert_eq!(fast.way.compression, Compression::None);
        let slow = advise(&dear, Some(2_000_000)).unwrap();
        assert_eq!(slow.way.compression, Compression::Lz4);
    }

    #[test]
    fn the_other_hash_where_it_is_faster() {
        let advice = advise(&paces(60, 4, 8, 10, -30), None).unwrap();
        assert_eq!(advice.way.hashing, HashAlgorithm::Sha256);
        // 60 + 3 + 10 - 30 milliseconds for a megabyte.
        assert!((advice.estimate.hours() - 43.0 * 100.0 / 3600.0).abs() < 1e-9);
        assert_eq!(advise(&paces(60, 4, 8, 10, -5), None).unwrap().way, USUAL);
    }

    #[test]
    fn estimates() {
        // 20 + 3 + 10 milliseconds for a megabyte, three quarters of it at 10 MB/s.
        let estimate = advise(&paces(20, 4, 8, 10, 30), Some(10_000_000)).unwrap().estimate;
        assert!((estimate.processor_hours - 33.0 * 100.0 / 3600.0).abs() < 1e-9);
        assert!((estimate.disk_hours - 7500.0 / 3600.0).abs() < 1e-9);
        assert!(advise(&[], None).is_none());
    }
}
