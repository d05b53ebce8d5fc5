//! [`Coloured`]: a unified diff in colours.

use std::io::{self, Write};

/// Writes lines in the colour that their first byte asks for.
pub(crate) struct Coloured<'o> {
    out: &'o mut dyn Write,
    /// What ends the colour of the line, if the line has begun.
    line: Option<&'static [u8]>,
}

impl<'o> Coloured<'o> {
    pub(crate) fn new(out: &'o mut dyn Write) -> Self {
        Self { out, line: None }
    }
}

/// Colour of a line that starts with that byte.
fn colour(first: u8) -> &'static [u8] {
    match first {
        b'+' => b"\x1b[32m",
        b'-' => b"\x1b[31m",
        b'@' => b"\x1b[36m",
        _ => b"",
    }
}

impl Write for Coloured<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let end = match self.line {
                Some(end) => end,
                None => {
                    let start = part.first().map_or(&b""[..], |first| colour(*first));
                    self.out.write_all(start)?;
                    *self.line.insert(if start.is_empty() { b"" } else { b"\x1b[0m" })
                }
            };
            let (text, newline) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            self.out.write_all(text)?;
            if newline {
                self.out.write_all(end)?;
                self.out.write_all(b"\n")?;
                self.line = None;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_its_colour_however_it_comes() {
        let mut whole = Vec::new();
        let text = b"--- a\n+++ b\n@@ -1 +1 @@\n same\n-old\n+new\n\nOnly in x: y\n";
        Coloured::new(&mut whole).write_all(text).unwrap();
        let mut parts = Vec::new();
        let mut coloured = Coloured::new(&mut parts);
        for byte in text {
            coloured.write_all(&[*byte]).unwrap();
        }
        assert_eq!(whole, parts);
        let whole = String::from_utf8(whole).unwrap();
        assert!(whole.starts_with("\x1b[31m--- a\x1b[0m\n\x1b[32m+++ b\x1b[0m\n\x1b[36m@@"));
        assert!(whole.ends_with("\n\nOnly in x: y\n"));
    }
}
