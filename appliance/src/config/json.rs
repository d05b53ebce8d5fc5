//! Reads and writes the JSON of a configuration: objects in objects, with texts
//! in them.

use std::collections::BTreeMap;
use std::io;

use zeroize::Zeroizing;

use super::settings::{
    SETTING_ENTRIES_MAX, SETTING_NAME_BYTES_MAX, SETTING_VALUE_BYTES_MAX, SETTINGS_NODES_MAX,
    Section, Value,
};
use super::yaml::{Node, SyntaxError};
use crate::text::json::write_string;

/// Most objects in each other.
const DEPTH_MAX: usize = 4;

type Result<T> = std::result::Result<T, SyntaxError>;

/// Reads objects, one after the other, into one: `show -json` writes one for
/// each entry. Numbers and truth values are taken as they stand, and `null` as
/// an empty text.
///
/// # Errors
///
/// For what is no JSON, and for lists; for what is too deep, too long or too
/// much.
pub(crate) fn parse(text: &str) -> Result<Node> {
    let mut reader = Reader { rest: text, number: 1, nodes: 0 };
    let mut all = BTreeMap::new();
    loop {
        reader.skip();
        if reader.rest.is_empty() {
            return Ok(Node::Map(all));
        }
        reader.object(&mut all, 1)?;
    }
}

struct Reader<'t> {
    rest: &'t str,
    number: usize,
    nodes: usize,
}

impl Reader<'_> {
    fn error(&self, what: &'static str) -> SyntaxError {
        SyntaxError { line: self.number, what }
    }

    fn skip(&mut self) {
        let trimmed = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let skipped = &self.rest[..self.rest.len() - trimmed.len()];
        self.number += skipped.bytes().filter(|byte| *byte == b'\n').count();
        self.rest = trimmed;
    }

    /// Takes a mark, if it is next.
    fn takes(&mut self, mark: char) -> bool {
        self.skip();
        match self.rest.strip_prefix(mark) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn object(&mut self, map: &mut BTreeMap<String, Node>, depth: usize) -> Result<()> {
        if !self.takes('{') {
            return Err(self.error("`{` is expected"));
        }
        if depth > DEPTH_MAX {
            return Err(self.error("there are too many objects in each other"));
        }
        if self.takes('}') {
            return Ok(());
        }
        loop {
            self.skip();
            let key = self.string()?;
            if key.len() > SETTING_NAME_BYTES_MAX {
                return Err(self.error("a name is too long"));
            }
            if !self.takes(':') {
                return Err(self.error("`:` is expected"));
            }
            let node = self.value(depth)?;
            if map.insert(key.to_string(), node).is_some() {
                return Err(self.error("its name is there twice"));
            }
            if map.len() > SETTING_ENTRIES_MAX {
                return Err(self.error("there are too many names"));
            }
            if self.takes(',') {
                continue;
            }
            return if self.takes('}') { Ok(()) } else { Err(self.error("`}` is expected")) };
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node> {
        self.nodes += 1;
        if self.nodes > SETTINGS_NODES_MAX {
            return Err(self.error("there are too many values"));
        }
        self.skip();
        if self.rest.starts_with('{') {
            let mut map = BTreeMap::new();
            self.object(&mut map, depth + 1)?;
            return Ok(Node::Map(map));
        }
        if self.rest.starts_with('"') {
            return Ok(Node::Text(self.string()?));
        }
        let is_word = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        let end = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        let is_number = word.starts_with(|c: char| c.is_ascii_digit() || c == '-');
        if !is_number && !matches!(word, "true" | "false" | "null") {
            return Err(self.error("a text or an object is expected"));
        }
        if word.len() > SETTING_NAME_BYTES_MAX {
            return Err(self.error("a number is too long"));
        }
        self.rest = rest;
        let word = if word == "null" { "" } else { word };
        Ok(Node::Text(Zeroizing::new(word.to_owned())))
    }

    fn string(&mut self) -> Result<Value> {
        let Some(mut rest) = self.rest.strip_prefix('"') else {
            return Err(self.error("a text in quotes is expected"));
        };
        let mut out = Zeroizing::new(String::with_capacity(rest.find('"').unwrap_or(0)));
        loop {
            let end = rest.find(['"', '\\']).ok_or_else(|| self.error("a quote is not closed"))?;
            if rest[..end].contains(|c| c < ' ') {
                return Err(self.error("a text has control characters"));
            }
            out.push_str(&rest[..end]);
            if out.len() > SETTING_VALUE_BYTES_MAX {
                return Err(self.error("a value is too long"));
            }
            let is_escape = rest.as_bytes()[end] == b'\\';
            rest = &rest[end + 1..];
            if !is_escape {
                self.rest = rest;
                return Ok(out);
            }
            let (letter, after) = self.escape(rest)?;
            out.push(letter);
            rest = after;
        }
    }

    /// What follows a backslash.
    fn escape<'t>(&self, rest: &'t str) -> Result<(char, &'t str)> {
        let unknown = || self.error("a backslash is followed by what is not understood");
        let mut chars = rest.chars();
        let letter = match chars.next().ok_or_else(unknown)? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            letter @ ('"' | '\\' | '/') => letter,
            'u' => {
                let (high, rest) = unit(chars.as_str()).ok_or_else(unknown)?;
                if let Some(letter) = char::from_u32(high.into()) {
                    return Ok((letter, rest));
                }
                // Two halves of a character beyond the first 65536.
                let low = rest.strip_prefix("\\u").and_then(unit);
                let (low, rest) = low.ok_or_else(unknown)?;
                let pair = char::decode_utf16([high, low]).next();
                let letter = pair.and_then(std::result::Result::ok).ok_or_else(unknown)?;
                return Ok((letter, rest));
            }
            _ => return Err(unknown()),
        };
        Ok((letter, chars.as_str()))
    }
}

/// Four hexadecimal digits.
fn unit(text: &str) -> Option<(u16, &str)> {
    let digits = text.get(..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    Some((u16::from_str_radix(digits, 16).ok()?, &text[4..]))
}

/// Writes an entry as a line, as stock does.
///
/// # Errors
///
/// Of the output.
pub(crate) fn entry(out: &mut dyn io::Write, name: &str, section: &Section) -> io::Result<()> {
    out.write_all(b"{")?;
    write_string(out, name)?;
    out.write_all(b":{")?;
    for (index, (key, value)) in section.0.iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        write_string(out, key)?;
        out.write_all(b":")?;
        write_string(out, value)?;
    }
    out.write_all(b"}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        let mut section = Section::default();
        for (name, value) in [("location", "/x"), ("a", "\"\\\n\u{1}é😀<&>"), ("n", "")] {
            section.set(name, Zeroizing::new(value.to_owned()));
        }
        let mut out = Vec::new();
        entry(&mut out, "nas", &section).unwrap();
        entry(&mut out, "usb", &Section::default()).unwrap();
        let Ok(Node::Map(map)) = parse(std::str::from_utf8(&out).unwrap()) else { panic!() };
        let Some(Node::Map(nas)) = map.get("nas") else { panic!() };
        for (name, value) in &section.0 {
            assert_eq!(nas.get(name), Some(&Node::Text(value.clone())));
        }
        assert_eq!((map.len(), nas.len()), (2, 3));
    }

    #[test]
    fn texts() {
        for (json, wanted) in [
            (r#""a\u0041\ud83d\ude00\/""#, "aA😀/"),
            ("22", "22"),
            ("-1.5e+3", "-1.5e+3"),
            ("true", "true"),
            ("null", ""),
        ] {
            let Ok(Node::Map(map)) = parse(&format!(" {{ \"a\" : {json} }} ")) else {
                panic!("{json}")
            };
            assert_eq!(map.get("a"), Some(&Node::Text(Zeroizing::new(wanted.to_owned()))));
        }
    }

    #[test]
    fn what_is_refused() {
        for json in [
            "x",
            "{",
            "{a: 1}",
            "{\"a\" 1}",
            "{\"a\": [1]}",
            "{\"a\": 1,}",
            "{\"a\": 1} x",
            "{\"a\": 1, \"a\": 2}",
            "{\"a\": \"b}",
            "{\"a\": \"\n\"}",
            "{\"a\": \"\\ud83d\"}",
            "{\"a\": \"\\u12\"}",
            "{\"a\": {\"a\": {\"a\": {\"a\": {}}}}}",
            "{\"a\": nothing}",
        ] {
            assert!(parse(json).is_err(), "{json}");
        }
        let error = parse("{\n\"password\": \"hunter2\n").unwrap_err();
        assert_eq!(error.line, 2);
        assert!(!error.to_string().contains("hunter2"));
    }
}
