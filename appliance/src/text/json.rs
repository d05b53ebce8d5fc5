//! JSON lines: one object to a line, written as it goes.

use std::io::{self, Write};

/// One JSON object on one line.
///
/// Text is taken as UTF-8; where it is none, `<key>_hex` has the bytes beside
/// it, because names of files are bytes and must be had back whole.
pub(crate) struct Line<'w> {
    out: &'w mut dyn Write,
    fields: u32,
}

impl std::fmt::Debug for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").field("fields", &self.fields).finish_non_exhaustive()
    }
}

impl<'w> Line<'w> {
    /// Starts a line; `kind` is its first field, `type`.
    ///
    /// # Errors
    ///
    /// Of `out`.
    pub(crate) fn new(out: &'w mut dyn Write, kind: &str) -> io::Result<Self> {
        out.write_all(b"{")?;
        let mut line = Self { out, fields: 0 };
        line.text("type", kind.as_bytes())?;
        Ok(line)
    }

    fn key(&mut self, key: &str) -> io::Result<()> {
        if self.fields > 0 {
            self.out.write_all(b",")?;
        }
        self.fields += 1;
        write_string(self.out, key)?;
        self.out.write_all(b":")
    }

    /// Adds text.
    ///
    /// # Errors
    ///
    /// Of the output.
    pub(crate) fn text(&mut self, key: &str, value: &[u8]) -> io::Result<()> {
        self.key(key)?;
        write_string(self.out, &String::from_utf8_lossy(value))?;
        if std::str::from_utf8(value).is_ok() {
            return Ok(());
        }
        self.key(&format!("{key}_hex"))?;
        self.out.write_all(b"\"")?;
        for byte in value {
            write!(self.out, "{byte:02x}")?;
        }
        self.out.write_all(b"\"")
    }

    /// Adds what has a form as text.
    ///
    /// # Errors
    ///
    /// Of the output.
    pub(crate) fn show(&mut self, key: &str, value: impl ToString) -> io::Result<()> {
        self.text(key, value.to_string().as_bytes())
    }

    /// Adds a number.
    ///
    /// # Errors
    ///
    /// Of the output.
    pub(crate) fn number(&mut self, key: &str, value: impl Into<i128>) -> io::Result<()> {
        self.key(key)?;
        write!(self.out, "{}", value.into())
    }

    /// Adds a number with a fraction; what is none is `null`.
    ///
    /// # Errors
    ///
    /// Of the output.
    pub(crate) fn fraction(&mut self, key: &str, value: f64) -> io::Result<()> {
        self.key(key)?;
        if value.is_finite() { write!(self.out, "{value}") } else { self.out.write_all(b"null") }
    }

    /// Adds a list of texts.
    ///
    /// # Errors
    ///
    /// Of the output.
    pub(crate) fn list<'t>(
        &mut self,
        key: &str,
        values: impl Iterator<Item = &'t [u8]>,
    ) -> io::Result<()> {
        self.key(key)?;
        self.out.write_all(b"[")?;
        for (index, value) in values.enumerate() {
            if index > 0 {
                self.out.write_all(b",")?;
            }
            write_string(self.out, &String::from_utf8_lossy(value))?;
        }
        self.out.write_all(b"]")
    }

    /// Ends the line.
    ///
    /// # Errors
    ///
    /// Of the output.
    pub(crate) fn end(self) -> io::Result<()> {
        self.out.write_all(b"}\n")
    }
}

/// Writes a string in quotes.
pub(crate) fn write_string(out: &mut dyn Write, text: &str) -> io::Result<()> {
    out.write_all(b"\"")?;
    let mut start = 0;
    for (at, c) in text.char_indices() {
        let short = match c {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            // Line separators, which break readers that go line by line.
            '\0'..' ' | '\u{7f}' | '\u{2028}' | '\u{2029}' => "",
            _ => continue,
        };
        out.write_all(&text.as_bytes()[start..at])?;
        if short.is_empty() {
            write!(out, "\\u{:04x}", u32::from(c))?;
        } else {
            out.write_all(short.as_bytes())?;
        }
        start = at + c.len_utf8();
    }
    out.write_all(&text.as_bytes()[start..])?;
    out.write_all(b"\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_field() {
        let mut out = Vec::new();
        let mut line = Line::new(&mut out, "entry").unwrap();
        line.text("path", "/a \"b\"\\\n\u{1}\u{7f}É\u{2028}".as_bytes()).unwrap();
        line.text("name", b"bad\xff").unwrap();
        line.number("size", u64::MAX).unwrap();
        line.number("mtime", -1_i64).unwrap();
        line.fraction("entropy", 1.5).unwrap();
        line.fraction("none", f64::NAN).unwrap();
        line.list("tags", [&b"a"[..], b"b"].into_iter()).unwrap();
        line.show("mode", "-rw").unwrap();
        line.end().unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"{"type":"entry","path":"/a \"b\"\\\n\u0001\u007fÉ\u2028","#,
                "\"name\":\"bad\u{fffd}\",\"name_hex\":\"626164ff\",",
                r#""size":18446744073709551615,"mtime":-1,"entropy":1.5,"none":null,"#,
                r#""tags":["a","b"],"mode":"-rw"}"#,
                "\n"
            )
        );
    }
}
