//! [`Timestamp`]: a point in time, as the format keeps it.

/// Nanoseconds in a second.
const NANOS: i64 = 1_000_000_000;

/// A point in time, without a zone.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Timestamp {
    /// Seconds since 1970-01-01 00:00:00 UTC; negative before.
    pub secs: i64,
    /// Nanoseconds after `secs`, below 1 000 000 000.
    pub nanos: u32,
}

impl Timestamp {
    /// Go's zero time, 0001-01-01 00:00:00 UTC: "no time" in records.
    pub const GO_ZERO: Self = Self { secs: -62_135_596_800, nanos: 0 };

    /// From nanoseconds since 1970.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "below 10^9")]
    pub fn from_unix_nanos(nanos: i64) -> Self {
        Self { secs: nanos.div_euclid(NANOS), nanos: nanos.rem_euclid(NANOS) as u32 }
    }

    /// Nanoseconds since 1970, or the nearest that 64 bits hold.
    #[must_use]
    pub fn unix_nanos(self) -> i64 {
        // In 128 bits: before 1970, the seconds alone may be less than what 64
        // bits hold where the sum is not.
        let nanos = i128::from(self.secs) * i128::from(NANOS) + i128::from(self.nanos);
        let nearest = if nanos < 0 { i64::MIN } else { i64::MAX };
        i64::try_from(nanos).unwrap_or(nearest)
    }

    /// Nanoseconds from `earlier` to `self`; 0 if the clock went back.
    #[must_use]
    pub fn nanos_since(self, earlier: Self) -> i64 {
        self.unix_nanos().saturating_sub(earlier.unix_nanos()).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_both_ways() {
        for nanos in [i64::MIN, i64::MIN + 1, -NANOS, -1, 0, 1, NANOS, i64::MAX - 1, i64::MAX] {
            assert_eq!(Timestamp::from_unix_nanos(nanos).unix_nanos(), nanos);
        }
        assert_eq!(Timestamp { secs: i64::MIN, nanos: 5 }.unix_nanos(), i64::MIN);
        assert_eq!(Timestamp { secs: i64::MAX, nanos: 5 }.unix_nanos(), i64::MAX);
    }
}
