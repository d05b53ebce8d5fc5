//! Dates: as `MDTM` and the facts of `MLSD` say them, and as a calendar counts.

use tiroir_core::time::Timestamp;

/// Seconds in a day.
const DAY: i64 = 86_400;

/// Days from 1970-01-01 to a date of the calendar of today, carried on to both
/// sides; nothing where there is no such date.
pub(super) fn days_of(year: i64, month: u32, day: u32) -> Option<i64> {
    if !(1..=9999).contains(&year) || day == 0 || day > days_in(year, month)? {
        return None;
    }
    // Years that start in March have their odd day at the end.
    let shifted = if month <= 2 { year - 1 } else { year };
    let months = (i64::from(month) + 9) % 12;
    let day_of_year = (153 * months + 2) / 5 + i64::from(day) - 1;
    let leaps = shifted.div_euclid(4) - shifted.div_euclid(100) + shifted.div_euclid(400);
    Some(shifted * 365 + leaps + day_of_year - 719_468)
}

fn days_in(year: i64, month: u32) -> Option<u32> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if leap { 29 } else { 28 }),
        _ => None,
    }
}

/// Year, month and day of a number of days from 1970-01-01 on.
pub(super) fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let months = (5 * day_of_year + 2) / 153;
    let month = if months < 10 { months + 3 } else { months - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * months + 2) / 5 + 1)
}

/// The time of a date and a clock; nothing where there is no such time.
pub(super) fn time_of(days: i64, hour: u32, minute: u32, second: u32) -> Option<Timestamp> {
    // A leap second is the next one.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let secs = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
    Some(Timestamp { secs: days * DAY + secs, nanos: 0 })
}

/// Reads `YYYYMMDDhhmmss`, with or without a fraction: UTC, as RFC 3659 has it.
pub(super) fn parse_stamp(text: &[u8]) -> Option<Timestamp> {
    let (whole, fraction) = text.split_at_checked(14)?;
    let part = |range: std::ops::Range<usize>| digits(&whole[range]);
    let days = days_of(i64::from(part(0..4)?), part(4..6)?, part(6..8)?)?;
    let mut time = time_of(days, part(8..10)?, part(10..12)?, part(12..14)?)?;
    if let Some(fraction) = fraction.strip_prefix(b".") {
        let mut unit = 100_000_000;
        for digit in fraction {
            time.nanos += u32::from(digit.is_ascii_digit().then(|| digit - b'0')?) * unit;
            unit /= 10;
        }
    } else if !fraction.is_empty() {
        return None;
    }
    Some(time)
}

/// The same the other way round, without a fraction; nothing for years of more
/// or fewer than four digits.
pub(super) fn format_stamp(time: Timestamp) -> Option<String> {
    let (days, second) = (time.secs.div_euclid(DAY), time.secs.rem_euclid(DAY));
    if !(-719_162..=2_932_896).contains(&days) {
        return None;
    }
    let (year, month, day) = date_of(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    Some(format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}"))
}

/// A number of at most nine digits, and nothing else.
pub(super) fn digits(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 9 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendar_both_ways() {
        assert_eq!(days_of(1970, 1, 1), Some(0));
        assert_eq!(days_of(2000, 2, 29), Some(11_016));
        for days in (-719_162..=2_932_896).step_by(97) {
            let (year, month, day) = date_of(days);
            let [month, day] = [month, day].map(|part| u32::try_from(part).unwrap());
            assert_eq!(days_of(year, month, day), Some(days));
        }
        for (year, month, day) in
            [(1900, 2, 29), (2023, 2, 29), (2020, 13, 1), (2020, 0, 1), (2020, 4, 31), (0, 1, 1)]
        {
            assert_eq!(days_of(year, month, day), None);
        }
        assert_eq!(days_of(2020, 1, 0), None);
    }

    #[test]
    fn stamps_both_ways() {
        for secs in [0, 1_000_000_001, 1_709_164_800, -1, 253_402_300_799, -62_135_596_800] {
            let time = Timestamp { secs, nanos: 0 };
            assert_eq!(parse_stamp(format_stamp(time).unwrap().as_bytes()), Some(time));
        }
        let exact = parse_stamp(b"20200102030405.25").unwrap();
        assert_eq!((exact.secs, exact.nanos), (1_577_934_245, 250_000_000));
        assert_eq!(parse_stamp(b"20200102030405.1234567891").unwrap().nanos, 123_456_789);
        for text in [
            &b"2020010203040"[..],
            b"202001020304055",
            b"20200102030405.x",
            b"20201302030405",
            b"20200102250405",
            b"-0200102030405",
            b"",
        ] {
            assert_eq!(parse_stamp(text), None, "{}", text.escape_ascii());
        }
        assert_eq!(format_stamp(Timestamp { secs: 1 << 60, nanos: 0 }), None);
    }
}
