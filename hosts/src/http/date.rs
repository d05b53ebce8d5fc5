//! Dates as HTTP and S3 write them.

use tiroir_core::time::Timestamp;

/// Seconds of a day.
const DAY_SECS: i64 = 86_400;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A time of UTC in its parts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Civil {
    pub(crate) year: i64,
    pub(crate) month: i64,
    pub(crate) day: i64,
    /// Second of the day.
    pub(crate) second: i64,
}

impl Civil {
    /// The parts of a time, by the calendar that began in 1582.
    pub(crate) fn of(secs: i64) -> Self {
        // Years begin in March here, so that the leap day is their last.
        let days = secs.div_euclid(DAY_SECS) + 719_468;
        let era = days.div_euclid(146_097);
        let of_era = days.rem_euclid(146_097);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let (month_of_year, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        Self {
            year: year + era * 400 + later,
            month: month_of_year,
            day: of_year - (153 * month + 2) / 5 + 1,
            second: secs.rem_euclid(DAY_SECS),
        }
    }

    /// Seconds since 1970.
    pub(crate) fn secs(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let era = year.div_euclid(400);
        let of_era = year.rem_euclid(400);
        let month = (self.month + 9) % 12;
        let of_year = (153 * month + 2) / 5 + self.day - 1;
        let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
        days * DAY_SECS + self.second
    }

    fn clock(self) -> (i64, i64, i64) {
        (self.second / 3600, self.second / 60 % 60, self.second % 60)
    }
}

/// `20130524T000000Z`: what a signature is dated with.
pub(crate) fn compact(secs: i64) -> String {
    let civil = Civil::of(secs);
    let (hour, minute, second) = civil.clock();
    let Civil { year, month, day, .. } = civil;
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// `2013-05-24T00:00:00Z`.
pub(crate) fn rfc3339(secs: i64) -> String {
    let civil = Civil::of(secs);
    let (hour, minute, second) = civil.clock();
    let Civil { year, month, day, .. } = civil;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// `Fri, 24 May 2013 00:00:00 GMT`: what a server dates its answers with.
pub(crate) fn http(secs: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let civil = Civil::of(secs);
    let (hour, minute, second) = civil.clock();
    let Civil { year, month, day, .. } = civil;
    let name = |names: &[&'static str], index: i64| {
        usize::try_from(index).ok().and_then(|index| names.get(index).copied()).unwrap_or_default()
    };
    let of_week = name(&DAYS, secs.div_euclid(DAY_SECS).rem_euclid(7));
    let month = name(&MONTHS, month - 1);
    format!("{of_week}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Reads `Fri, 24 May 2013 00:00:00 GMT`, the one form that HTTP still sends.
pub(crate) fn parse_http(text: &str) -> Option<Timestamp> {
    let rest = text.split_once(", ")?.1;
    let mut words = rest.split(' ');
    let day = digits(words.next()?)?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month)?;
    let year = digits(words.next()?)?;
    let second = clock(words.next()?)?;
    let (zone, end) = (words.next()?, words.next());
    if !matches!(zone, "GMT" | "UTC") || end.is_some() {
        return None;
    }
    checked(year, i64::try_from(month).ok()? + 1, day, second, 0)
}

/// Reads `2013-05-24T00:00:00.123Z`; the fraction may be missing.
pub(crate) fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let (date, time) = text.split_once('T')?;
    let mut parts = date.split('-');
    let year = digits(parts.next()?)?;
    let month = digits(parts.next()?)?;
    let day = digits(parts.next()?)?;
    if parts.next().is_some() {
        return None;
    }
    let time = time.strip_suffix('Z').or_else(|| time.strip_suffix("+00:00"))?;
    let (whole, fraction) = time.split_once('.').unwrap_or((time, ""));
    checked(year, month, day, clock(whole)?, nanos(fraction)?)
}

/// Nanoseconds of the digits behind a decimal point.
pub(crate) fn nanos(fraction: &str) -> Option<u32> {
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    Some(digits.fold(0, |sum, byte| sum * 10 + u32::from(byte - b'0')))
}

fn clock(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let hour = digits(parts.next()?).filter(|hour| *hour < 24)?;
    let minute = digits(parts.next()?).filter(|minute| *minute < 60)?;
    // A leap second is the first of the next minute.
    let second = digits(parts.next()?).filter(|second| *second <= 60)?;
    parts.next().is_none().then_some(hour * 3600 + minute * 60 + second)
}

fn digits(text: &str) -> Option<i64> {
    let fits = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if fits { text.parse().ok() } else { None }
}

fn checked(year: i64, month: i64, day: i64, second: i64, nanos: u32) -> Option<Timestamp> {
    let fits = (1..=12).contains(&month) && (1..=31).contains(&day);
    let civil = Civil { year, month, day, second };
    fits.then(|| Timestamp { secs: civil.secs(), nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        for secs in (-3_000_000_000..6_000_000_000).step_by(7_777_777) {
            assert_eq!(Civil::of(secs).secs(), secs);
            let time = Timestamp { secs, nanos: 0 };
            assert_eq!(parse_rfc3339(&rfc3339(secs)), Some(time));
        }
        assert_eq!(http(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(compact(1_369_353_600), "20130524T000000Z");
    }

    #[test]
    fn what_servers_write() {
        let time = Timestamp { secs: 784_111_777, nanos: 0 };
        assert_eq!(parse_http("Sun, 06 Nov 1994 08:49:37 GMT"), Some(time));
        let time = Timestamp { secs: 1_255_369_830, nanos: 120_000_000 };
        assert_eq!(parse_rfc3339("2009-10-12T17:50:30.12Z"), Some(time));
        for text in
            ["", "Sun, 06 Nov 1994", "Sun, 06 Nox 1994 08:49:37 GMT", "x, 1 Jan 99999 0:0:0 GMT"]
        {
            assert_eq!(parse_http(text), None, "{text}");
        }
        for text in [
            "",
            "T",
            "2009-10-12T17:50:30",
            "2009-13-12T00:00:00Z",
            "2009-1-1T0:0:0.xZ",
            "9-9-9T99:0:0Z",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }
}
