//! Reads and writes INI: `[section]`, and `name = value` below it.
//!
//! There is no one INI. What rclone writes is taken as rclone does: a value goes
//! to the end of its line. The other is that of the library that stock reads and
//! writes with: a `#` or `;` ends a value, and quotes keep one together.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::settings::{
    SETTING_ENTRIES_MAX, SETTING_NAME_BYTES_MAX, SETTING_VALUE_BYTES_MAX, SETTINGS_NODES_MAX,
    Section, Value,
};
use super::yaml::{Node, SyntaxError};

/// Whose INI it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Dialect {
    /// Stock's.
    Stock,
    /// rclone's.
    Rclone,
}

type Result<T> = std::result::Result<T, SyntaxError>;

/// Reads a file: a mapping of sections to mappings of options. What stands
/// before the first section is left out, as in stock.
///
/// # Errors
///
/// For what is no INI, with the line; for values over several lines of which
/// the end is missing; and for what is too long or too much.
pub(crate) fn parse(text: &str, dialect: Dialect) -> Result<Node> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut sections: BTreeMap<String, BTreeMap<String, Node>> = BTreeMap::new();
    let mut current: Option<String> = None;
    let mut nodes = 0;
    let mut lines = Lines { rest: text, number: 0 };
    while let Some(line) = lines.next() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        nodes += 1;
        if nodes > SETTINGS_NODES_MAX {
            return Err(lines.error("there are too many values"));
        }
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest.strip_suffix(']').or_else(|| Some(rest.split_once(']')?.0));
            let name = name.ok_or_else(|| lines.error("the bracket is not closed"))?.trim();
            check_name(name, &lines)?;
            sections.entry(name.to_owned()).or_default();
            if sections.len() > SETTING_ENTRIES_MAX {
                return Err(lines.error("there are too many sections"));
            }
            current = Some(name.to_owned());
            continue;
        }
        let (key, rest) = split_key(line, &lines)?;
        let value = lines.value(rest, dialect)?;
        if value.len() > SETTING_VALUE_BYTES_MAX {
            return Err(lines.error("a value is too long"));
        }
        if let Some(section) = current.as_ref().and_then(|name| sections.get_mut(name)) {
            section.insert(key.to_owned(), Node::Text(value));
            if section.len() > SETTING_ENTRIES_MAX {
                return Err(lines.error("there are too many names"));
            }
        }
    }
    Ok(Node::Map(sections.into_iter().map(|(name, pairs)| (name, Node::Map(pairs))).collect()))
}

struct Lines<'t> {
    rest: &'t str,
    number: usize,
}

impl<'t> Lines<'t> {
    fn next(&mut self) -> Option<&'t str> {
        if self.rest.is_empty() {
            return None;
        }
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.number += 1;
        Some(line.strip_suffix('\r').unwrap_or(line))
    }

    fn error(&self, what: &'static str) -> SyntaxError {
        SyntaxError { line: self.number, what }
    }

    /// The value that starts on this line.
    fn value(&mut self, text: &'t str, dialect: Dialect) -> Result<Value> {
        let text = text.trim();
        let owned = |text: &str| Zeroizing::new(text.to_owned());
        if dialect == Dialect::Rclone {
            return Ok(owned(text));
        }
        let quotes = ["\"\"\"", "`"].into_iter().find(|quotes| text.starts_with(quotes));
        if let Some(quotes) = quotes {
            let body = &text[quotes.len()..];
            return match body.rfind(quotes) {
                Some(end) => Ok(owned(&body[..end])),
                None => self.lines_until(body, quotes),
            };
        }
        if text.ends_with('\\') {
            return Err(self.error("values that go on after a backslash are not understood"));
        }
        let text = text[..text.find(['#', ';']).unwrap_or(text.len())].trim();
        let inner = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
        let inner = inner('"').or_else(|| inner('\''));
        Ok(owned(inner.filter(|inner| !inner.contains(['"', '\''])).unwrap_or(text)))
    }

    /// A value in quotes that are closed on another line.
    fn lines_until(&mut self, first: &str, quotes: &str) -> Result<Value> {
        let mut value = Zeroizing::new(String::with_capacity(first.len() + self.rest.len()));
        value.push_str(first);
        loop {
            let line = self.next().ok_or_else(|| self.error("the quotes are not closed"))?;
            value.push('\n');
            if let Some(end) = line.rfind(quotes) {
                value.push_str(&line[..end]);
                return Ok(value);
            }
            value.push_str(line);
        }
    }
}

fn check_name(name: &str, lines: &Lines<'_>) -> Result<()> {
    if name.is_empty() || name.len() > SETTING_NAME_BYTES_MAX {
        return Err(lines.error("a name is empty or too long"));
    }
    Ok(())
}

/// The name on a line, and what follows its `=` or `:`.
fn split_key<'t>(line: &'t str, lines: &Lines<'_>) -> Result<(&'t str, &'t str)> {
    let quotes = ["\"\"\"", "`", "\""].into_iter().find(|quotes| line.starts_with(quotes));
    let missing = || lines.error("there is no `=`");
    let (key, rest) = if let Some(quotes) = quotes {
        let (key, rest) = line[quotes.len()..].split_once(quotes).ok_or_else(missing)?;
        (key, rest.trim_start().strip_prefix(['=', ':']).ok_or_else(missing)?)
    } else {
        line.split_once(['=', ':']).ok_or_else(missing)?
    };
    let key = key.trim();
    check_name(key, lines)?;
    Ok((key, rest))
}

/// Writes an entry as stock does, with the `=` below each other.
pub(crate) fn entry(out: &mut String, name: &str, section: &Section) {
    let keys: Vec<_> = section.0.iter().map(|(key, value)| (quoted_key(key), value)).collect();
    let widest = keys.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    out.push('[');
    out.push_str(name);
    out.push_str("]\n");
    for (key, value) in keys {
        out.push_str(&key);
        out.extend(std::iter::repeat_n(' ', widest - key.len()));
        let quote = if value.contains(['\n', '`']) {
            "\"\"\""
        } else if value.contains(['#', ';']) || would_change(value) {
            "`"
        } else if value.trim().len() != value.len() {
            "\""
        } else {
            ""
        };
        for piece in [" = ", quote, value, quote, "\n"] {
            out.push_str(piece);
        }
    }
}

/// Whether a value without quotes around it would be read as another.
fn would_change(value: &str) -> bool {
    let is_quoted = |quote| value.len() > 1 && value.starts_with(quote) && value.ends_with(quote);
    value.ends_with('\\') || is_quoted('"') || is_quoted('\'')
}

fn quoted_key(key: &str) -> String {
    if key.contains(['"', '=', ':']) {
        format!("`{key}`")
    } else if key.contains('`') {
        format!("\"\"\"{key}\"\"\"")
    } else {
        key.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, dialect: Dialect) -> String {
        let Ok(Node::Map(mut sections)) = parse(text, dialect) else { panic!("{text}") };
        let Some(Node::Map(mut section)) = sections.remove("s") else { panic!("{text}") };
        match section.remove("a") {
            Some(Node::Text(text)) => text.to_string(),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn values() {
        for (line, stock, rclone) in [
            ("a = b c", "b c", "b c"),
            ("a=b", "b", "b"),
            ("a: b", "b", "b"),
            ("a = b ; c", "b", "b ; c"),
            ("a = b#c", "b", "b#c"),
            ("a = `b#c`", "b#c", "`b#c`"),
            ("a = 'b'", "b", "'b'"),
            ("a = \" b \"", " b ", "\" b \""),
            ("a =", "", ""),
            ("a = {\"t\":\"u\"}", "{\"t\":\"u\"}", "{\"t\":\"u\"}"),
        ] {
            let text = format!("; x\nbefore = 1\n[ s ]\r\n# y\n{line}\r\n");
            assert_eq!(value(&text, Dialect::Stock), stock, "{line}");
            assert_eq!(value(&text, Dialect::Rclone), rclone, "{line}");
        }
        assert_eq!(value("[s]\na = \"\"\"b\nc\"\"\"\nd = e\n", Dialect::Stock), "b\nc");
    }

    #[test]
    fn what_is_refused() {
        for (text, line) in [
            ("[s", 1),
            ("[]", 1),
            ("[s]\nnonsense", 2),
            ("[s]\n= b", 2),
            ("[s]\na = b \\\nc", 2),
            ("[s]\na = \"\"\"b\nc\n", 3),
        ] {
            assert_eq!(parse(text, Dialect::Stock).unwrap_err().line, line, "{text}");
        }
        let many: String =
            (0..=SETTING_ENTRIES_MAX).map(|number| format!("[{number}]\n")).collect();
        assert!(parse(&many, Dialect::Stock).is_err());
    }

    #[test]
    fn what_is_written_is_read() {
        for text in ["b", "", "b#c", " b ", "b\nc", "b`c", "b\"c", "\"b\"", "b\\", "{\"a\": \"b\"}"]
        {
            let mut section = Section::default();
            section.set("a", Zeroizing::new(text.to_owned()));
            section.set("longer", Zeroizing::new("x".to_owned()));
            let mut out = String::new();
            entry(&mut out, "s", &section);
            assert_eq!(value(&out, Dialect::Stock), text, "{out}");
        }
    }
}
