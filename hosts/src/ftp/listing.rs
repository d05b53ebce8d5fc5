//! Lines of `LIST`, which no standard describes: those of Unix, of DOS, and of
//! some older servers. Without any IO.
//!
//! A line that is not understood is an error: what is skipped is missing in a
//! backup.

use super::facts::parse_size;
use super::when::{date_of, days_of, digits, time_of};
use crate::remote::{EntryKind, Precision, RemoteEntry};
use tiroir_core::time::Timestamp;

/// How much later than ours a server's clock may be, in seconds: zones.
const AHEAD_SECONDS: i64 = 26 * 3600;

/// Months, in the one language that servers agree on.
const MONTHS: [&[u8]; 12] = [
    b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec",
];

/// An entry, as a line says it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Listed<'l> {
    /// Its name, or its path where the line is of the directory itself.
    pub name: &'l [u8],
    /// What is said of it.
    pub entry: RemoteEntry,
    /// It is the directory that is listed, or the one above.
    pub is_self: bool,
}

/// Reads a line of `LIST`, without its end. Nothing for a line that is of no
/// entry. Servers do not say their zone: times are taken as UTC. `now` tells the
/// year where the line does not.
///
/// # Errors
///
/// What is wrong with it.
pub fn parse_line(line: &[u8], now: Timestamp) -> Result<Option<Listed<'_>>, &'static str> {
    let trimmed = line.trim_ascii();
    let word = trimmed.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    if trimmed.is_empty() || (word.eq_ignore_ascii_case(b"total") && is_total(trimmed)) {
        return Ok(None);
    }
    let listed = parse_eplf(line)
        .or_else(|| parse_unix(line, now))
        .or_else(|| parse_dos(line))
        .ok_or_else(|| what_else(trimmed))?;
    if listed.name.is_empty() {
        return Err("the line has no name");
    }
    Ok(Some(Listed { is_self: matches!(listed.name, b"." | b".."), ..listed }))
}

/// `total 12`, and what comes with it: never a name.
fn is_total(line: &[u8]) -> bool {
    let rest = line[b"total".len()..].trim_ascii();
    rest.iter().all(|byte| byte.is_ascii_digit() || b".,KMGkB".contains(byte))
}

fn what_else(line: &[u8]) -> &'static str {
    // NAME.TYPE;VERSION
    let first = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    let version = first.iter().rposition(|byte| *byte == b';').map(|at| &first[at + 1..]);
    if version.is_some_and(|version| digits(version).is_some())
        || line.to_ascii_lowercase().starts_with(b"directory ")
    {
        "the server lists as VMS does, which is not understood here"
    } else {
        "the line is in no form that is understood here"
    }
}

/// A word of a line, and where it ends.
#[derive(Clone, Copy)]
struct Word<'l> {
    text: &'l [u8],
    end: usize,
}

/// The words of a line, as far as they can be of use.
fn words(line: &[u8]) -> impl Iterator<Item = Word<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + line[at..].iter().position(|byte| *byte != b' ')?;
        let length = line[start..].iter().position(|byte| *byte == b' ');
        at = length.map_or(line.len(), |length| start + length);
        Some(Word { text: &line[start..at], end: at })
    })
}

/// What follows a word and one blank.
fn after<'l>(line: &'l [u8], word: Word<'_>) -> &'l [u8] {
    line.get(word.end + 1..).unwrap_or_default()
}

/// Most words in front of a date: mode, rights, links, owner, group, a device's
/// two numbers, and owners of several words.
const WORDS_MAX: usize = 16;

/// `-rw-r--r-- 1 owner group 7 Jan 31 12:00 name`, with or without the number
/// of links, owner and group; `d [RWCEAFMS] owner 512 Jan 31 2020 name`.
fn parse_unix(line: &[u8], now: Timestamp) -> Option<Listed<'_>> {
    let kind = match line.first()? {
        b'-' => EntryKind::File,
        b'd' => EntryKind::Directory,
        b'l' => EntryKind::SymbolicLink,
        b'b' | b'c' | b'p' | b's' | b'D' => EntryKind::Other,
        _ => return None,
    };
    let mut list = [Word { text: b"", end: 0 }; WORDS_MAX];
    let mut count = 0;
    for word in words(line).take(WORDS_MAX) {
        list[count] = word;
        count += 1;
    }
    let list = &list[..count];
    let mode = list.first()?.text;
    if mode.len() < 10 && mode.len() != 1 && mode.get(1) != Some(&b'[') {
        return None;
    }
    // The first place where a size and a date follow each other.
    let mut found = None;
    for at in 1..count {
        let size = list[at].text;
        let is_size = size.iter().all(u8::is_ascii_digit);
        if is_size && let Some(date) = parse_date(&list[at + 1..], now) {
            found = Some((at, size, date));
            break;
        }
    }
    let (at, size, (mod_time, precision, last)) = found?;
    // After a number and a comma, it is the second one of a device.
    let is_device = list[at - 1].text.ends_with(b",");
    let size = parse_size(size).filter(|_| !is_device);
    let mut name = after(line, last);
    if kind == EntryKind::SymbolicLink {
        name = without_target(name, size);
    }
    let owner = |at: usize| {
        let is_owner = mode.len() >= 10 && at >= 2 && digits(list[1].text).is_some();
        is_owner.then(|| digits(list[at].text)).flatten().map_or(0, u64::from)
    };
    let entry = RemoteEntry {
        kind,
        size_bytes: size.filter(|_| kind == EntryKind::File),
        permissions: parse_letters(mode),
        mod_time: Some(mod_time),
        precision,
        uid: if at == 4 { owner(2) } else { 0 },
        gid: if at == 4 { owner(3) } else { 0 },
    };
    Some(Listed { name, entry, is_self: false })
}

/// The name in `name -> target`. Both may have an arrow in them: the length of
/// the link is that of its target.
fn without_target(text: &[u8], size: Option<u64>) -> &[u8] {
    const ARROW: &[u8] = b" -> ";
    let arrows = || {
        let windows = text.windows(ARROW.len()).enumerate();
        windows.filter(|(_, window)| *window == ARROW).map(|(at, _)| at)
    };
    let fits = |at: &usize| Some((text.len() - at - ARROW.len()) as u64) == size;
    match arrows().find(fits).or_else(|| arrows().next()) {
        Some(at) => &text[..at],
        None => text,
    }
}

/// The nine letters of a mode, as a number.
fn parse_letters(mode: &[u8]) -> Option<u32> {
    let letters = mode.get(1..10)?;
    let mut bits = 0;
    for (at, letter) in letters.iter().enumerate() {
        let bit = 0o400 >> at;
        let special = 0o4000 >> (at / 3);
        bits |= match (at % 3, letter) {
            (_, b'-') => 0,
            (0, b'r') | (1, b'w') | (2, b'x') => bit,
            (2, b's') if at < 8 => bit | special,
            (2, b'S') if at < 8 => special,
            (2, b't') if at == 8 => bit | special,
            (2, b'T') if at == 8 => special,
            _ => return None,
        };
    }
    Some(bits)
}

/// A time, how exact it is, and the last word of it.
type Date<'l> = (Timestamp, Precision, Word<'l>);

/// The date that starts here: `Jan 31 12:00`, `Jan 31 2020`, `31 Jan 2020`,
/// `2020-01-31 12:00`.
fn parse_date<'l>(words: &[Word<'l>], now: Timestamp) -> Option<Date<'l>> {
    let [first, second, ..] = words else { return None };
    if let Some(days) = parse_iso(first.text) {
        let (time, precision) = parse_clock(days, second.text)?;
        return Some((time, precision, *second));
    }
    let third = words.get(2)?;
    let (month, day) = match (month_of(first.text), month_of(second.text)) {
        (Some(month), _) => (month, digits(second.text)?),
        (_, Some(month)) => (month, digits(first.text)?),
        _ => return None,
    };
    if third.text.contains(&b':') {
        let (time, precision) = recent(month, day, third.text, now)?;
        return Some((time, precision, *third));
    }
    let year = Some(third.text).filter(|text| text.len() == 4).and_then(digits)?;
    let time = time_of(days_of(year.into(), month, day)?, 0, 0, 0)?;
    Some((time, Precision::Day, *third))
}

/// A date without its year: the last one there was.
fn recent(month: u32, day: u32, clock: &[u8], now: Timestamp) -> Option<(Timestamp, Precision)> {
    let (this_year, ..) = date_of(now.secs.div_euclid(86_400).clamp(0, 2_900_000));
    // Nine: 29 February may be as far away as that.
    for year in (this_year - 9..=this_year + 1).rev() {
        let Some(days) = days_of(year, month, day) else { continue };
        let (time, precision) = parse_clock(days, clock)?;
        if time.secs <= now.secs.saturating_add(AHEAD_SECONDS) {
            return Some((time, precision));
        }
    }
    None
}

fn month_of(text: &[u8]) -> Option<u32> {
    let text = text.to_ascii_lowercase();
    (1..).zip(MONTHS).find(|(_, month)| text == *month).map(|(number, _)| number)
}

/// Days from 1970 to `2020-01-31`.
fn parse_iso(text: &[u8]) -> Option<i64> {
    let [year @ .., b'-', m1, m2, b'-', d1, d2] = text else { return None };
    if year.len() != 4 {
        return None;
    }
    days_of(digits(year)?.into(), digits(&[*m1, *m2])?, digits(&[*d1, *d2])?)
}

/// `12:00`, `12:00:01`, `12:00:01.5`, `12:00PM`.
fn parse_clock(days: i64, text: &[u8]) -> Option<(Timestamp, Precision)> {
    let upper = text.to_ascii_uppercase();
    let (clock, half) = match upper.as_slice() {
        [clock @ .., b'A', b'M'] | [clock @ .., b'A'] => (clock, Some(0)),
        [clock @ .., b'P', b'M'] | [clock @ .., b'P'] => (clock, Some(12)),
        clock => (clock, None),
    };
    let mut parts = clock.split(|byte| *byte == b':');
    let short = |part: &[u8]| if part.len() <= 2 { digits(part) } else { None };
    let (mut hour, minute) = (short(parts.next()?)?, short(parts.next()?)?);
    if let Some(half) = half {
        if hour == 0 || hour > 12 {
            return None;
        }
        hour = hour % 12 + half;
    }
    let Some(second) = parts.next() else {
        return Some((time_of(days, hour, minute, 0)?, Precision::Minute));
    };
    let second = second.split(|byte| *byte == b'.').next().unwrap_or_default();
    if parts.next().is_some() {
        return None;
    }
    Some((time_of(days, hour, minute, short(second)?)?, Precision::Second))
}

/// `01-31-20  12:00PM  <DIR>  name`, `2020-01-31  12:00  7 name`.
fn parse_dos(line: &[u8]) -> Option<Listed<'_>> {
    let mut list = words(line);
    let (date, clock, size) = (list.next()?, list.next()?, list.next()?);
    let days = parse_iso(date.text).or_else(|| parse_american(date.text))?;
    let (mod_time, precision) = parse_clock(days, clock.text)?;
    let (kind, size_bytes, name) = if size.text.starts_with(b"<") {
        let kind = match size.text.to_ascii_uppercase().as_slice() {
            b"<DIR>" => EntryKind::Directory,
            b"<SYMLINK>" | b"<SYMLINKD>" | b"<JUNCTION>" => EntryKind::SymbolicLink,
            _ => return None,
        };
        // Filled up with blanks, so that names stand below each other.
        (kind, None, after(line, size).trim_ascii_start())
    } else {
        (EntryKind::File, Some(parse_size(size.text)?), after(line, size))
    };
    let entry = RemoteEntry {
        kind,
        size_bytes,
        mod_time: Some(mod_time),
        precision,
        ..RemoteEntry::default()
    };
    Some(Listed { name, entry, is_self: false })
}

/// Days from 1970 to `01-31-20`, `01-31-2020` or `01/31/20`.
fn parse_american(text: &[u8]) -> Option<i64> {
    let mut parts = text.split(|byte| matches!(byte, b'-' | b'/'));
    let (month, day, year) = (digits(parts.next()?)?, digits(parts.next()?)?, parts.next()?);
    let number = i64::from(digits(year)?);
    let year = match year.len() {
        4 => number,
        2 if number < 70 => 2000 + number,
        2 => 1900 + number,
        _ => return None,
    };
    if parts.next().is_some() { None } else { days_of(year, month, day) }
}

/// `+i1.2,m824255902,s7,r,<tab>name`: easily parsed list format, of publicfile.
fn parse_eplf(line: &[u8]) -> Option<Listed<'_>> {
    let rest = line.strip_prefix(b"+")?;
    let tab = rest.iter().position(|byte| *byte == b'\t')?;
    let mut entry = RemoteEntry { kind: EntryKind::Other, ..RemoteEntry::default() };
    for fact in rest[..tab].split(|byte| *byte == b',') {
        match fact {
            b"/" => entry.kind = EntryKind::Directory,
            b"r" => entry.kind = EntryKind::File,
            [b's', size @ ..] => entry.size_bytes = parse_size(size),
            [b'm', secs @ ..] => {
                let secs = parse_size(secs).and_then(|secs| i64::try_from(secs).ok());
                entry.mod_time = secs.map(|secs| Timestamp { secs, nanos: 0 });
            }
            _ => {}
        }
    }
    Some(Listed { name: &rest[tab + 1..], entry, is_self: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-03-05 12:00:00 UTC
    const NOW: Timestamp = Timestamp { secs: 1_772_712_000, nanos: 0 };

    fn stamp(text: &str) -> Option<Timestamp> {
        super::super::when::parse_stamp(text.as_bytes())
    }

    fn parse(line: &str) -> Listed<'_> {
        parse_line(line.as_bytes(), NOW).unwrap().unwrap()
    }

    #[test]
    fn unix() {
        // vsftpd
        let listed = parse("-rw-r--r--    1 1000     100          1234 Mar 04 23:59 a file ");
        assert_eq!(listed.name, b"a file ");
        assert_eq!(
            listed.entry,
            RemoteEntry {
                kind: EntryKind::File,
                size_bytes: Some(1234),
                permissions: Some(0o644),
                mod_time: stamp("20260304235900"),
                precision: Precision::Minute,
                uid: 1000,
                gid: 100,
            }
        );
        // ProFTPD
        let listed = parse("drwxr-sr-t   2 ftp      staff        4096 Jan 31  2020  x");
        assert_eq!((listed.name, listed.entry.kind), (&b" x"[..], EntryKind::Directory));
        assert_eq!(listed.entry.permissions, Some(0o3755));
        assert_eq!(listed.entry.mod_time, stamp("20200131000000"));
        assert_eq!((listed.entry.precision, listed.entry.size_bytes), (Precision::Day, None));
        // Pure-FTPd, busybox
        assert!(parse("drwxr-xr-x    3 0        0                4096 Mar  5 12:00 .").is_self);
        assert!(parse("drwxr-xr-x    3 0        0                4096 Mar  5 12:00 ..").is_self);
        // No group; no number of links; rights that are more than a mode has.
        assert_eq!(parse("-rw-rw-rw- 1 owner 7 Jan 1 2020 x").entry.size_bytes, Some(7));
        assert_eq!(parse("-rwxrwxrwx 1 Jan 3 Jan 1 2020 Feb 2 2020").name, b"Feb 2 2020");
        assert_eq!(parse("-rw-r--r--+ 1 Domain Users x 7 Jan 1 2020 x").name, b"x");
        assert_eq!(
            parse("-rw-r--r-- 1 u g 7 2020-01-31 12:34 x").entry.mod_time,
            stamp("20200131123400")
        );
        assert_eq!(
            parse("-rw-r--r-- 1 u g 7 31 Jan 2020 x").entry.mod_time,
            stamp("20200131000000")
        );
        let device = parse("brw-rw---- 1 root disk 8, 0 Jan 1 12:00 sda");
        assert_eq!((device.name, device.entry.kind), (&b"sda"[..], EntryKind::Other));
    }

    #[test]
    fn older_ones() {
        let netware = parse("d [R----F--] supervisor            512       Jan 16 18:53    login");
        assert_eq!((netware.name, netware.entry.kind), (&b"   login"[..], EntryKind::Directory));
        assert_eq!(netware.entry.permissions, None);
        let netware = parse("-[RWCEAFMS] rhesus             214059 Oct 20 15:27 cx.exe");
        assert_eq!((netware.name, netware.entry.size_bytes), (&b"cx.exe"[..], Some(214_059)));
        assert_eq!(netware.entry.mod_time, stamp("20251020152700"));
        let eplf = parse("+i8388621.48594,m825718503,r,s280,\tdjb.html");
        assert_eq!((eplf.name, eplf.entry.size_bytes), (&b"djb.html"[..], Some(280)));
        assert_eq!(eplf.entry.mod_time.map(|time| time.secs), Some(825_718_503));
        assert_eq!(parse("+/,m1,\tx").entry.kind, EntryKind::Directory);
    }

    #[test]
    fn links() {
        let link = parse("lrwxrwxrwx 1 0 0 7 Jan 1 2020 x -> /target");
        assert_eq!((link.name, link.entry.kind), (&b"x"[..], EntryKind::SymbolicLink));
        assert_eq!(parse("lrwxrwxrwx 1 0 0 1 Jan 1 2020 x -> y -> z").name, b"x -> y");
        assert_eq!(parse("lrwxrwxrwx 1 0 0 6 Jan 1 2020 x -> y -> z").name, b"x");
        assert_eq!(parse("lrwxrwxrwx 1 0 0 7 Jan 1 2020 bare").name, b"bare");
    }

    #[test]
    fn dos() {
        let listed = parse("02-01-20  03:04PM       <DIR>          a folder");
        assert_eq!((listed.name, listed.entry.kind), (&b"a folder"[..], EntryKind::Directory));
        assert_eq!(listed.entry.mod_time, stamp("20200201150400"));
        let listed = parse("12-31-1999  12:00AM                 1234  file");
        assert_eq!((listed.name, listed.entry.size_bytes), (&b" file"[..], Some(1234)));
        assert_eq!(listed.entry.mod_time, stamp("19991231000000"));
        assert_eq!(parse("2020-02-01  15:04  7 x").entry.mod_time, stamp("20200201150400"));
        assert_eq!(parse("02-01-70 12:30PM 7 x").entry.mod_time, stamp("19700201123000"));
    }

    #[test]
    fn years_that_are_not_told() {
        let year = |date: &str| {
            let line = format!("-rw-r--r-- 1 u g 7 {date} x");
            let listed = parse_line(line.as_bytes(), NOW).ok()??;
            listed.entry.mod_time.map(|time| date_of(time.secs.div_euclid(86_400)).0)
        };
        assert_eq!(year("Mar  5 12:00"), Some(2026));
        // Its clock may be in another zone.
        assert_eq!(year("Mar  6 13:59"), Some(2026));
        assert_eq!(year("Mar  7 12:01"), Some(2025));
        assert_eq!(year("Dec 31 23:59"), Some(2025));
        assert_eq!(year("Feb 29 12:00"), Some(2024));
        assert_eq!(year("Feb 30 12:00"), None);
        let new_year = Timestamp { secs: 1_767_225_500, nanos: 0 };
        let listed = parse_line(b"-rw-r--r-- 1 u g 7 Jan 1 00:30 x", new_year).unwrap().unwrap();
        assert_eq!(listed.entry.mod_time, stamp("20260101003000"));
    }

    #[test]
    fn what_is_not_understood() {
        for line in ["", "total 12", "total 0", "Total 1.5K", "  "] {
            assert_eq!(parse_line(line.as_bytes(), NOW), Ok(None));
        }
        for line in [
            "total nonsense",
            "-rw-r--r-- 1 u g 7 Jan 1 2020 ",
            "-rw-r--r-- 1 u g 7 Jan 1 2020",
            "-rw-r--r-- 1 u g 7 Jan 41 2020 x",
            "-rw 1 u g 7 Jan 1 2020 x",
            "name",
            "02-01-20  03:04PM       <WHAT>  x",
            "02-01-20  13:04PM  7  x",
            "+m1 no tab",
        ] {
            assert!(parse_line(line.as_bytes(), NOW).is_err(), "{line}");
        }
        let vms = "CII-MANUAL.TEX;1  213/216  29-JAN-1996 03:33:12  [ANONYMOU,ANONYMOUS]";
        assert!(parse_line(vms.as_bytes(), NOW).unwrap_err().contains("VMS"));
        assert!(parse_line(b"Directory DISK$1:[X]", NOW).unwrap_err().contains("VMS"));
    }
}
