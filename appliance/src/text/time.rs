//! Points in time: RFC 3339, Go's `Time.String`, and what people type.

use std::fmt;

use tiroir_core::time::Timestamp;
use tz::TimeZone;

use super::duration;

/// Seconds in a day.
const DAY: i64 = 86_400;

/// Date and time of day, in the proleptic Gregorian calendar.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Civil {
    year: i64,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
}

impl Civil {
    /// From seconds since 1970.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "remainders of small divisors"
    )]
    fn from_secs(secs: i64) -> Self {
        // Years start in March and eras of 400 years on 0000-03-01: leap days
        // come last.
        let days = secs.div_euclid(DAY) + 719_468;
        let rest = secs.rem_euclid(DAY);
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        Self {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month: month as u8,
            day: day as u8,
            hour: (rest / 3600) as u8,
            minute: (rest / 60 % 60) as u8,
            second: (rest % 60) as u8,
        }
    }

    /// Seconds since 1970, if there is such a day and time.
    fn to_secs(self) -> Option<i64> {
        if self.hour > 23 || self.minute > 59 || self.second > 59 {
            return None;
        }
        let year = self.year - i64::from(self.month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let month = i64::from(self.month);
        let month = if month > 2 { month - 3 } else { month + 9 };
        let day_of_year = (153 * month + 2) / 5 + i64::from(self.day) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        let (hour, minute) = (i64::from(self.hour), i64::from(self.minute));
        let secs = days * DAY + hour * 3600 + minute * 60 + i64::from(self.second);
        // A day that the month does not have comes back as another.
        (Self::from_secs(secs) == self).then_some(secs)
    }
}

/// A time, shown as stock lists it: `2026-11-22T00:39:39Z`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rfc3339(pub(crate) Timestamp);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Civil { year, month, day, hour, minute, second } = Civil::from_secs(self.0.secs);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// The machine's zone; UTC where it has none.
#[derive(Debug)]
pub(crate) struct Zone(Option<TimeZone>);

impl Zone {
    /// The zone of `TZ` or `/etc/localtime`.
    pub(crate) fn local() -> Self {
        Self(TimeZone::local().ok())
    }

    /// UTC.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn utc() -> Self {
        Self(None)
    }

    /// Seconds east of UTC at that time, and the name that they have then.
    fn at(&self, secs: i64) -> (i64, String) {
        let found = self.0.as_ref().and_then(|zone| zone.find_local_time_type(secs).ok());
        match found {
            Some(kind) => {
                let name = kind.time_zone_designation();
                (kind.ut_offset().into(), String::from(if name.is_empty() { "UTC" } else { name }))
            }
            None => (0, String::from("UTC")),
        }
    }

    /// The time as Go prints it: `2026-11-22 03:33:53.739237926 +0100 CET`.
    pub(crate) fn show(&self, time: Timestamp) -> String {
        let (offset, name) = self.at(time.secs);
        let Civil { year, month, day, hour, minute, second } =
            Civil::from_secs(time.secs.saturating_add(offset));
        let mut text = format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}");
        if time.nanos > 0 {
            let digits = format!(".{:09}", time.nanos);
            text.push_str(digits.trim_end_matches('0'));
        }
        let sign = if offset < 0 { '-' } else { '+' };
        let minutes = offset.abs() / 60;
        text.push_str(&format!(" {sign}{:02}{:02} {name}", minutes / 60, minutes % 60));
        text
    }

    /// The time as stock puts it in the name of a directory: `20261122033353`.
    pub(crate) fn digits(&self, time: Timestamp) -> String {
        let (offset, _) = self.at(time.secs);
        let Civil { year, month, day, hour, minute, second } =
            Civil::from_secs(time.secs.saturating_add(offset));
        format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}")
    }
}

/// Reads a time in one of stock's forms; without a zone it is in UTC. Anything
/// else is a duration before `now`.
///
/// # Errors
///
/// A text for people.
pub(crate) fn parse(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let invalid = || {
        String::from(
            "not a time: a date (2026-11-22, \"2026-11-22 10:30\"), or how long ago (2d, 1h30m)",
        )
    };
    if text.is_empty() || text.trim() != text {
        return Err(invalid());
    }
    if let Some(time) = parse_date(text) {
        return Ok(time);
    }
    let ago = duration::parse(text).ok_or_else(invalid)?;
    Ok(Timestamp::from_unix_nanos(now.unix_nanos().saturating_sub(ago)))
}

/// Takes `count` digits off the start of `text`.
fn digits(text: &mut &[u8], count: usize) -> Option<i64> {
    let (head, rest) = text.split_at_checked(count)?;
    *text = rest;
    head.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0'))
    })
}

/// Takes `mark` off the start of `text`.
fn mark(text: &mut &[u8], mark: u8) -> Option<()> {
    let (head, rest) = text.split_first()?;
    *text = rest;
    (*head == mark).then_some(())
}

/// Takes two digits off the start of `text`.
fn pair(text: &mut &[u8]) -> Option<u8> {
    u8::try_from(digits(text, 2)?).ok()
}

fn parse_date(text: &str) -> Option<Timestamp> {
    let mut rest = text.as_bytes();
    let year = digits(&mut rest, 4)?;
    let separator = *rest.first()?;
    mark(&mut rest, separator)?;
    let month = pair(&mut rest)?;
    mark(&mut rest, separator)?;
    let day = pair(&mut rest)?;
    let mut civil = Civil { year, month, day, hour: 0, minute: 0, second: 0 };
    let (mut nanos, mut offset) = (0, 0);
    match (separator, rest.first()) {
        (b'-' | b'/', None) => {}
        (b'-', Some(between @ (b' ' | b'T'))) => {
            mark(&mut rest, *between)?;
            civil.hour = pair(&mut rest)?;
            mark(&mut rest, b':')?;
            civil.minute = pair(&mut rest)?;
            if *between == b'T' || !rest.is_empty() {
                mark(&mut rest, b':')?;
                civil.second = pair(&mut rest)?;
            }
            nanos = fraction(&mut rest)?;
            if *between == b'T' {
                offset = zone(&mut rest)?;
            }
        }
        _ => return None,
    }
    if !rest.is_empty() {
        return None;
    }
    Some(Timestamp { secs: civil.to_secs()? - offset, nanos })
}

/// Takes a fraction of a second, if there is one.
fn fraction(text: &mut &[u8]) -> Option<u32> {
    if text.first() != Some(&b'.') {
        return Some(0);
    }
    mark(text, b'.')?;
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let kept = count.min(9);
    let mut head = text.get(..kept).filter(|head| !head.is_empty())?;
    let number = u32::try_from(digits(&mut head, kept)?).ok()?;
    *text = text.get(count..)?;
    Some(number * 10_u32.pow(9 - u32::try_from(kept).ok()?))
}

/// Takes a zone of RFC 3339: seconds east of UTC.
fn zone(text: &mut &[u8]) -> Option<i64> {
    let sign = match *text.first()? {
        b'Z' => {
            mark(text, b'Z')?;
            return Some(0);
        }
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    *text = text.get(1..)?;
    let hours = pair(text)?;
    mark(text, b':')?;
    let minutes = pair(text)?;
    (hours < 24 && minutes < 60).then(|| sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64, nanos: u32) -> Timestamp {
        Timestamp { secs, nanos }
    }

    #[test]
    fn as_stock_lists_them() {
        for (secs, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (-315_619_200, "1960-01-01T00:00:00Z"),
            (1_795_307_979, "2026-11-22T00:39:39Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (Timestamp::GO_ZERO.secs, "0001-01-01T00:00:00Z"),
        ] {
            assert_eq!(Rfc3339(at(secs, 999_999_999)).to_string(), text);
        }
        for secs in [i64::MIN, i64::MAX] {
            assert!(!Rfc3339(at(secs, 0)).to_string().is_empty());
        }
    }

    #[test]
    fn as_go_prints_them() {
        let utc = Zone::utc();
        let time = at(1_795_307_979, 739_237_926);
        assert_eq!(utc.show(time), "2026-11-22 00:39:39.739237926 +0000 UTC");
        assert_eq!(utc.show(at(1_795_307_979, 0)), "2026-11-22 00:39:39 +0000 UTC");
        assert_eq!(utc.show(at(0, 500_000_000)), "1970-01-01 00:00:00.5 +0000 UTC");
        assert_eq!(utc.digits(time), "20261122003939");
        let paris = Zone(TimeZone::from_posix_tz("CET-1CEST,M3.5.0,M10.5.0/3").ok());
        assert_eq!(paris.show(time), "2026-11-22 01:39:39.739237926 +0100 CET");
        let st_johns = Zone(TimeZone::from_posix_tz("NST3:30").ok());
        assert_eq!(st_johns.show(at(0, 0)), "1969-12-31 20:30:00 -0330 NST");
    }

    #[test]
    fn as_people_type_them() {
        let now = at(1_795_307_979, 0);
        for (text, secs, nanos) in [
            ("2026-11-22T00:39:39Z", 1_795_307_979, 0),
            ("2026-11-22T01:39:39+01:00", 1_795_307_979, 0),
            ("2026-11-22T00:39:39.25Z", 1_795_307_979, 250_000_000),
            ("2026-11-22 00:39", 1_795_307_940, 0),
            ("2026-11-22 00:39:39", 1_795_307_979, 0),
            ("2026-11-22", 1_795_305_600, 0),
            ("2026/11/22", 1_795_305_600, 0),
            ("2024-02-29", 1_709_164_800, 0),
            ("1h", 1_795_304_379, 0),
            ("2d", 1_795_307_979 - 2 * DAY, 0),
            ("1m", 1_795_307_979 - 30 * DAY, 0),
        ] {
            assert_eq!(parse(text, now), Ok(at(secs, nanos)), "{text}");
        }
        for text in [
            "",
            " 2026-11-22",
            "nonsense",
            "2026-02-29",
            "2026-13-01",
            "2026-11-22T00:39:39",
            "2026-11-22T24:00:00Z",
            "2026-11-22T00:39Z",
            "2026/11/22 00:39",
            "2026-11-22 ",
        ] {
            assert!(parse(text, now).is_err(), "{text}");
        }
        let error = parse("nonsense", now).unwrap_err();
        assert!(error.starts_with("not a time: a date (2026-11-22"), "{error}");
    }
}
