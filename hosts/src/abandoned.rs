//! Files `tmp.*` of a store that nobody will finish.
//!
//! One that a run writes to right now looks the same; it is only its age that
//! tells, by the clock of whoever keeps the store, which need not be ours: the
//! directory of the locks was just changed, and says what time it is there.

use std::time::Duration;

use tiroir_core::time::Timestamp;

/// How temporary names start, here as in stock.
pub(crate) const TEMPORARY: &str = "tmp.";

/// Digits of our own names behind that.
const DIGITS: usize = 16;

/// Without a change for so long, nobody writes to it any more: no packfile takes
/// that long, whatever the link.
pub(crate) const IDLE: Duration = Duration::from_secs(7 * 86_400);

/// Most files that are removed from one directory in one run.
pub(crate) const REMOVED_MAX: usize = 64;

/// Whether a name is one that we give to what is not finished.
pub(crate) fn is_temporary(name: &[u8]) -> bool {
    name.strip_prefix(TEMPORARY.as_bytes()).is_some_and(|digits| {
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        digits.len() == DIGITS && digits.iter().all(is_digit)
    })
}

/// Whether what changed last at `changed` has been left alone, when the locks
/// changed at `now`.
pub(crate) fn is_idle(changed: Timestamp, now: Timestamp) -> bool {
    let idle = i64::try_from(IDLE.as_secs()).unwrap_or(i64::MAX);
    now.secs.saturating_sub(changed.secs) > idle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names() {
        for (name, is_ours) in [
            ("tmp.0123456789abcdef", true),
            ("tmp.0123456789abcde", false),
            ("tmp.0123456789abcdef0", false),
            ("tmp.0123456789ABCDEF", false),
            ("tmp.important-letter", false),
            ("tmp.", false),
            ("CONFIG", false),
            ("xtmp.0123456789abcdef", false),
        ] {
            assert_eq!(is_temporary(name.as_bytes()), is_ours, "{name}");
        }
    }

    #[test]
    fn only_old_ones() {
        let at = |secs| Timestamp { secs, nanos: 0 };
        let week = 7 * 86_400;
        assert!(!is_idle(at(0), at(week)) && is_idle(at(0), at(week + 1)));
        // A clock that was set back, or is new.
        assert!(!is_idle(at(week), at(0)) && !is_idle(at(i64::MAX), at(i64::MIN)));
        assert!(is_idle(at(i64::MIN), at(i64::MAX)));
    }
}
