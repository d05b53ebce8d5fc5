//! Writes YAML as stock does, character by character: four blanks for a level,
//! names in an order in which `a2` comes before `a10`, quotes where they are
//! needed.

use std::cmp::Ordering;
use std::fmt::Write as _;

use zeroize::Zeroizing;

use super::settings::{Section, Table};

/// Blanks for a level.
const INDENT: usize = 4;

/// Writes one entry, `depth` levels deep.
pub(crate) fn entry(out: &mut String, depth: usize, name: &str, section: &Section) {
    name_of(out, depth, name);
    if section.0.is_empty() {
        out.push_str(" {}\n");
        return;
    }
    out.push('\n');
    let mut pairs: Vec<_> = section.0.iter().collect();
    pairs.sort_by(|one, other| natural_order(one.0, other.0));
    for (key, value) in pairs {
        pair(out, depth + 1, key, value);
    }
}

/// Writes all entries of a kind below `title`, as a whole file has them.
pub(crate) fn table(out: &mut String, title: &str, table: &Table) {
    name_of(out, 0, title);
    if table.is_empty() {
        out.push_str(" {}\n");
        return;
    }
    out.push('\n');
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by(|one, other| natural_order(one.0, other.0));
    for (name, section) in entries {
        entry(out, 1, name, section);
    }
}

/// Writes a name and its text on a line, or as a block.
pub(crate) fn pair(out: &mut String, depth: usize, key: &str, value: &str) {
    name_of(out, depth, key);
    out.push(' ');
    match style(value) {
        Style::Plain => out.push_str(value),
        Style::Single => single(out, value),
        Style::Double => double(out, value),
        Style::Block => return block(out, (depth + 1) * INDENT, value),
    }
    out.push('\n');
}

fn name_of(out: &mut String, depth: usize, name: &str) {
    out.extend(std::iter::repeat_n(' ', depth * INDENT));
    match style(name) {
        Style::Plain => out.push_str(name),
        Style::Single => single(out, name),
        // A name is on one line.
        Style::Double | Style::Block => double(out, name),
    }
    out.push(':');
}

/// How a text is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Style {
    /// As it is.
    Plain,
    /// In `'`.
    Single,
    /// In `"`, with backslashes.
    Double,
    /// Line by line, below `|`.
    Block,
}

fn style(text: &str) -> Style {
    if text.is_empty() {
        return Style::Double;
    }
    let is_special = text.contains(|c| c != '\n' && c != '\t' && !is_printable(c));
    let has_blank_end = text.contains(" \n");
    if text.contains('\n') {
        // A block cannot begin with a tab: stock writes it, and does not read it.
        let has_tab = text.trim_start_matches('\n').starts_with('\t');
        let is_block = !is_special && !has_blank_end && !has_tab && !text.ends_with(' ');
        return if is_block { Style::Block } else { Style::Double };
    }
    if is_special || text.contains('\t') || looks_typed(text) {
        Style::Double
    } else if text.starts_with(' ') || text.ends_with(' ') || has_indicator(text) {
        Style::Single
    } else {
        Style::Plain
    }
}

/// Whether a character is written as it is.
fn is_printable(c: char) -> bool {
    match c {
        ' '..='~' => true,
        // Line ends of Unicode, and the mark of byte order.
        '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => false,
        '\u{a0}'..='\u{ffff}' => true,
        _ => false,
    }
}

/// Whether plain text would be taken for something else than a text.
fn has_indicator(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_blank = |at: usize| matches!(bytes.get(at), None | Some(b' ' | b'\t'));
    if text.starts_with("---")
        || text.starts_with("...")
        || b"#,[]{}&*!|>'\"%@`".contains(&bytes[0])
    {
        return true;
    }
    bytes.iter().enumerate().any(|(at, byte)| match byte {
        b'?' | b'-' => at == 0 && is_blank(1),
        b':' => is_blank(at + 1),
        b'#' => is_blank(at - 1),
        _ => false,
    })
}

/// Whether plain text would be taken for a number, a date, a truth value or
/// nothing, by YAML 1.1 or 1.2.
fn looks_typed(text: &str) -> bool {
    const WORDS: [&str; 38] = [
        "true", "True", "TRUE", "false", "False", "FALSE", "null", "Null", "NULL", "~", "y", "Y",
        "yes", "Yes", "YES", "on", "On", "ON", "n", "N", "no", "No", "NO", "off", "Off", "OFF",
        ".nan", ".NaN", ".NAN", ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf",
        "-.Inf", "-.INF",
    ];
    WORDS.contains(&text) || is_number(text) || is_date(text) || is_base_60(text)
}

fn is_digits(text: &str, radix: u32) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_digit(radix))
}

fn is_number(text: &str) -> bool {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return false;
    }
    let dense;
    let text = if text.starts_with('.') {
        text
    } else {
        dense = text.replace('_', "");
        &dense
    };
    let bare = text.strip_prefix(['+', '-']).unwrap_or(text);
    let based = |prefixes: [&str; 2], radix| {
        let digits = prefixes.iter().find_map(|prefix| bare.strip_prefix(prefix));
        digits.is_some_and(|digits| {
            is_digits(digits, radix) && u64::from_str_radix(digits, radix).is_ok()
        })
    };
    if based(["0x", "0X"], 16) || based(["0o", "0O"], 8) || based(["0b", "0B"], 2) {
        return true;
    }
    let (mantissa, exponent) = match bare.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (bare, None),
    };
    let is_mantissa = match mantissa.split_once('.') {
        None => is_digits(mantissa, 10),
        Some(("", fraction)) => is_digits(fraction, 10),
        Some((whole, fraction)) => {
            is_digits(whole, 10) && (fraction.is_empty() || is_digits(fraction, 10))
        }
    };
    let is_exponent = |text: &str| is_digits(text.strip_prefix(['+', '-']).unwrap_or(text), 10);
    is_mantissa && exponent.is_none_or(is_exponent)
}

/// `2026-11-29`, and what starts so and goes on like a time.
fn is_date(text: &str) -> bool {
    let Some((date, rest)) =
        text.split_at_checked(text.find(['T', 't', ' ']).unwrap_or(text.len()))
    else {
        return false;
    };
    let mut parts = date.split('-');
    let mut part = |longest: usize| {
        parts.next().is_some_and(|part| is_digits(part, 10) && part.len() <= longest)
    };
    date.len() >= 8
        && date.as_bytes()[4] == b'-'
        && part(4)
        && part(2)
        && part(2)
        && parts.next().is_none()
        && (rest.is_empty() || rest[1..].starts_with(|c: char| c.is_ascii_digit()))
        && rest.chars().skip(1).all(|c| c.is_ascii_digit() || ":.+-Z".contains(c))
}

/// `1:30`, which YAML 1.1 reads as ninety.
fn is_base_60(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (text, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_loose = |text: &str| text.chars().all(|c| c.is_ascii_digit() || c == '_');
    let mut parts = text.split(':');
    let first = parts.next().unwrap_or_default();
    let mut count = 0;
    let is_sixtieth = |part: &str| {
        count += 1;
        is_digits(part, 10) && (part.len() == 1 || part.len() == 2 && part.as_bytes()[0] < b'6')
    };
    first.starts_with(|c: char| c.is_ascii_digit())
        && is_loose(first)
        && is_loose(fraction)
        && parts.all(is_sixtieth)
        && count > 0
}

fn single(out: &mut String, text: &str) {
    out.push('\'');
    for c in text.chars() {
        out.push(c);
        if c == '\'' {
            out.push(c);
        }
    }
    out.push('\'');
}

fn double(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        let letter = match c {
            '"' | '\\' => c,
            '\0' => '0',
            '\u{7}' => 'a',
            '\u{8}' => 'b',
            '\t' => 't',
            '\n' => 'n',
            '\u{b}' => 'v',
            '\u{c}' => 'f',
            '\r' => 'r',
            '\u{1b}' => 'e',
            '\u{85}' => 'N',
            '\u{2028}' => 'L',
            '\u{2029}' => 'P',
            c if is_printable(c) => {
                out.push(c);
                continue;
            }
            c => {
                // Writing to a string does not fail.
                let _ = match u32::from(c) {
                    code @ ..=0xff => write!(out, "\\x{code:02X}"),
                    code @ ..=0xffff => write!(out, "\\u{code:04X}"),
                    code => write!(out, "\\U{code:08X}"),
                };
                continue;
            }
        };
        out.push('\\');
        out.push(letter);
    }
    out.push('"');
}

fn block(out: &mut String, indent: usize, text: &str) {
    out.push('|');
    if text.starts_with([' ', '\n']) {
        let _ = write!(out, "{INDENT}");
    }
    let body = text.strip_suffix('\n');
    match body {
        None => out.push('-'),
        Some(body) if body.is_empty() || body.ends_with('\n') => out.push('+'),
        Some(_) => {}
    }
    out.push('\n');
    for line in body.unwrap_or(text).split('\n') {
        if !line.is_empty() {
            out.extend(std::iter::repeat_n(' ', indent));
            out.push_str(line);
        }
        out.push('\n');
    }
}

/// The order of names: letters after everything else, numbers by their value.
fn natural_order(one: &str, other: &str) -> Ordering {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let common = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
    let (Some(&a), Some(&b)) = (one.get(common), other.get(common)) else {
        return one.len().cmp(&other.len());
    };
    let follows_digit = common > 0 && one[common - 1].is_numeric();
    match (a.is_alphabetic(), b.is_alphabetic()) {
        (true, true) => a.cmp(&b),
        (true, false) if follows_digit => Ordering::Less,
        (false, true) if follows_digit => Ordering::Greater,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => {
            let (value, length) = number_at(&one, common, a == '0' || b == '0');
            let (other_value, other_length) = number_at(&other, common, a == '0' || b == '0');
            value.cmp(&other_value).then(length.cmp(&other_length)).then(a.cmp(&b))
        }
    }
}

/// The number that goes on at `start`, and how many digits it has from there.
/// With `looks_back`, a digit other than 0 before it counts.
fn number_at(text: &[char], start: usize, looks_back: bool) -> (u64, usize) {
    let before = text[..start].iter().rev().take_while(|c| c.is_ascii_digit());
    let has_lead = looks_back && before.into_iter().any(|c| *c != '0');
    let digits = text[start..].iter().map_while(|c| c.to_digit(10));
    let fold = |(value, count): (u64, usize), digit: u32| {
        (value.wrapping_mul(10).wrapping_add(u64::from(digit)), count + 1)
    };
    digits.fold((u64::from(has_lead), 0), fold)
}

/// A text for a whole file, erased when dropped. Room for `bytes` from the
/// start: a text that grows leaves copies of secrets behind.
pub(crate) fn new_text(bytes: usize) -> Zeroizing<String> {
    Zeroizing::new(String::with_capacity(bytes))
}

#[cfg(test)]
mod tests {
    use super::super::settings::Value;
    use super::super::yaml::{Node, parse};
    use super::*;

    fn written(text: &str) -> String {
        let mut out = String::new();
        pair(&mut out, 0, "a", text);
        out
    }

    #[test]
    fn as_stock_writes_it() {
        for (text, wanted) in [
            ("sftp://nas/srv", "sftp://nas/srv"),
            ("two words", "two words"),
            ("a:b#c", "a:b#c"),
            ("-x", "-x"),
            ("", "\"\""),
            ("true", "\"true\""),
            ("yes", "\"yes\""),
            ("Off", "\"Off\""),
            ("~", "\"~\""),
            ("2222", "\"2222\""),
            ("0x1F", "\"0x1F\""),
            ("1_000", "\"1_000\""),
            ("1e3", "\"1e3\""),
            (".5", "\".5\""),
            ("1.2.3", "1.2.3"),
            ("1:30", "\"1:30\""),
            ("2026-11-29", "\"2026-11-29\""),
            ("2026-11-29 10:00:00", "\"2026-11-29 10:00:00\""),
            ("2026-11-29 or so", "2026-11-29 or so"),
            ("2026-11-29T", "2026-11-29T"),
            ("a: b", "'a: b'"),
            ("a #b", "'a #b'"),
            ("it's", "it's"),
            ("'it's'", "'''it''s'''"),
            ("@nas", "'@nas'"),
            (" x", "' x'"),
            ("- x", "'- x'"),
            ("a\tb", "\"a\\tb\""),
            ("a\u{1b}b", "\"a\\eb\""),
            ("É", "É"),
            ("😀", "\"\\U0001F600\""),
            ("b\nc", "|-\n    b\n    c"),
            ("b\n\nc\n", "|\n    b\n\n    c"),
            ("b\n\n", "|+\n    b\n"),
            (" b\nc", "|4-\n     b\n    c"),
            ("b \nc", "\"b \\nc\""),
            ("\n\tb", "\"\\n\\tb\""),
        ] {
            assert_eq!(written(text), format!("a: {wanted}\n"), "{text:?}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let pieces = [
            "a", "0", " ", "\n", ":", "#", "'", "\"", "\\", "-", "|", "é", "😀", "\t", "\r", "{}",
            "~", "\u{85}", "\u{feff}", "?", "\u{2028}",
        ];
        // All texts of up to three pieces.
        let count = pieces.len() + 1;
        for number in 0..count.pow(3) {
            let at = |place: u32| number / count.pow(place) % count;
            let text: String =
                (0..3).filter_map(|place| pieces.get(at(place).wrapping_sub(1))).copied().collect();
            let mut out = String::from("top:\n");
            pair(&mut out, 1, "key", &text);
            if !text.is_empty() {
                pair(&mut out, 1, &text, "name");
            }
            pair(&mut out, 1, "z last", "z");
            let Ok(Node::Map(map)) = parse(&out) else { panic!("{text:?}: {out}") };
            let Some(Node::Map(map)) = map.get("top") else { panic!("{text:?}: {out}") };
            let wanted = Node::Text(Value::new(text.clone()));
            assert_eq!(map.get("key"), Some(&wanted), "{out}");
            assert!(text.is_empty() || map.contains_key(&text), "{out}");
        }
    }

    #[test]
    fn order_of_names() {
        let mut names = ["a10", "b", "a2", "A", "a_b", "ab", "a", "a02", "1", "é"];
        names.sort_by(|one, other| natural_order(one, other));
        assert_eq!(names, ["1", "A", "a", "a_b", "a2", "a02", "a10", "ab", "b", "é"]);
    }
}
