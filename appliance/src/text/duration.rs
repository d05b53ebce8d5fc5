//! Durations, as Go's `Duration` prints them, and as stock reads them.

use std::fmt;

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// A number of nanoseconds, shown as Go shows a `Duration`: `144.067675ms`,
/// `1m5s`, `0s`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Duration(pub(crate) i64);

impl Duration {
    /// Rounded to whole seconds, half away from zero.
    pub(crate) fn rounded(self) -> Self {
        let half = (SECOND / 2).cast_signed();
        let second = SECOND.cast_signed();
        let whole = |nanos: i64| nanos.saturating_add(half) / second * second;
        Self(if self.0 < 0 { -whole(self.0.saturating_neg()) } else { whole(self.0) })
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        let mut text = String::from(if self.0 < 0 { "-" } else { "" });
        match nanos {
            0 => text.push_str("0s"),
            1..1_000 => push_fraction(&mut text, nanos, 1, "ns"),
            1_000..1_000_000 => push_fraction(&mut text, nanos, 1_000, "µs"),
            1_000_000..SECOND => push_fraction(&mut text, nanos, 1_000_000, "ms"),
            _ => {
                let minutes = nanos / (60 * SECOND);
                if minutes >= 60 {
                    text.push_str(&format!("{}h", minutes / 60));
                }
                if minutes > 0 {
                    text.push_str(&format!("{}m", minutes % 60));
                }
                push_fraction(&mut text, nanos % (60 * SECOND), SECOND, "s");
            }
        }
        f.pad(&text)
    }
}

/// Adds `nanos` as a multiple of `unit`, without zeros at the end.
fn push_fraction(text: &mut String, nanos: u64, unit: u64, name: &str) {
    text.push_str(&(nanos / unit).to_string());
    let rest = nanos % unit;
    if rest > 0 {
        let width = unit.ilog10() as usize;
        let digits = format!("{rest:0width$}");
        text.push('.');
        text.push_str(digits.trim_end_matches('0'));
    }
    text.push_str(name);
}

/// Units of [`parse`], in seconds. `m` alone is a month, as in stock, unless
/// it follows hours.
const UNITS: [(&str, f64); 25] = [
    ("s", 1.0),
    ("sec", 1.0),
    ("second", 1.0),
    ("seconds", 1.0),
    ("mi", 60.0),
    ("min", 60.0),
    ("minute", 60.0),
    ("minutes", 60.0),
    ("h", 3600.0),
    ("hr", 3600.0),
    ("hour", 3600.0),
    ("hours", 3600.0),
    ("d", 86_400.0),
    ("day", 86_400.0),
    ("days", 86_400.0),
    ("w", 604_800.0),
    ("week", 604_800.0),
    ("weeks", 604_800.0),
    ("mo", 2_592_000.0),
    ("m", 2_592_000.0),
    ("month", 2_592_000.0),
    ("months", 2_592_000.0),
    ("y", 31_536_000.0),
    ("year", 31_536_000.0),
    ("years", 31_536_000.0),
];

/// Reads a duration: numbers, each with a unit, as in `2d 3h` or `1h30m`.
/// Returns nanoseconds.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    let mut rest = lower.trim();
    let (mut seconds, mut previous) = (0.0, "");
    if rest.is_empty() {
        return None;
    }
    // In `1h2m3s` and `2m3s`, minutes stand before seconds.
    let is_clock = rest.ends_with('s') && !rest.contains(['d', 'w', 'y']);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let after = after.trim_start();
        let end = after.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit =
            if unit == "m" && (previous.starts_with('h') || is_clock) { "min" } else { unit };
        let number: f64 = number.parse().ok()?;
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        seconds += number * factor;
        previous = unit;
        rest = after.trim_start();
    }
    let nanos = seconds * 1e9;
    #[expect(clippy::cast_possible_truncation, reason = "compared with the bound")]
    (nanos < 9e18).then_some(nanos as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_prints_them() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (144_067_675, "144.067675ms"),
            (7_810_273, "7.810273ms"),
            (22_959_449, "22.959449ms"),
            (1_000_000_000, "1s"),
            (1_200_000_000, "1.2s"),
            (65_000_000_000, "1m5s"),
            (60_000_000_000, "1m0s"),
            (3_603_000_000_000, "1h0m3s"),
            (-1_500_000_000, "-1.5s"),
            (i64::MAX, "2562047h47m16.854775807s"),
        ] {
            assert_eq!(Duration(nanos).to_string(), text);
        }
        assert_eq!(format!("{:>10}", Duration(0)), "        0s");
    }

    #[test]
    fn rounded_to_seconds() {
        for (nanos, text) in [
            (0, "0s"),
            (499_999_999, "0s"),
            (500_000_000, "1s"),
            (1_499_999_999, "1s"),
            (65_400_000_000, "1m5s"),
            (-500_000_000, "-1s"),
        ] {
            assert_eq!(Duration(nanos).rounded().to_string(), text);
        }
    }

    #[test]
    fn as_people_type_them() {
        const DAY: i64 = 86_400_000_000_000;
        const HOUR: i64 = DAY / 24;
        for (text, nanos) in [
            ("1h", HOUR),
            ("2d", 2 * DAY),
            ("1m", 30 * DAY),
            ("5min", HOUR / 12),
            ("1h30m", HOUR + HOUR / 2),
            ("2m30s", HOUR / 24),
            ("2d 3h", 2 * DAY + 3 * HOUR),
            ("1.5 hours", HOUR + HOUR / 2),
            ("1W", 7 * DAY),
            ("1y", 365 * DAY),
        ] {
            assert_eq!(parse(text), Some(nanos), "{text}");
        }
        for text in ["", "nonsense", "1", "h", "1x", "-1h", "1e9y", "999999y"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
