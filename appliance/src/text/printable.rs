//! Names from a store, made fit for a terminal.

use std::fmt;

/// Bytes of a name, shown as stock's `SanitizeText` shows them: as they are if
/// every character can be printed, and with `?` for those that cannot, so that
/// no name moves the cursor or adds a line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printable<'b>(pub(crate) &'b [u8]);

/// Whether a character is shown as it is. Go's `unicode.IsPrint` as far as
/// harm can come of it: controls, separators, what has no width or changes the
/// direction, and private use are not.
fn is_printable(c: char) -> bool {
    match c {
        ' '..='~' => true,
        '\0'..='\u{a0}' | '\u{ad}' => false,
        '\u{61c}' | '\u{1680}' | '\u{180e}' | '\u{3000}' | '\u{feff}' => false,
        '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}' => false,
        '\u{e000}'..='\u{f8ff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}'..='\u{ffff}' => false,
        '\u{e0000}'..='\u{e0fff}' | '\u{f0000}'.. => false,
        _ => true,
    }
}

impl Printable<'_> {
    /// Whether the bytes are shown as they are, even if they are not UTF-8.
    fn is_clean(&self) -> bool {
        self.0.utf8_chunks().all(|chunk| chunk.valid().chars().all(is_printable))
    }

    /// Writes the text. Bytes that are not UTF-8 pass as they are if nothing
    /// else has to be replaced, as in stock.
    ///
    /// # Errors
    ///
    /// Of `out`.
    pub(crate) fn write_to(&self, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        if self.is_clean() { out.write_all(self.0) } else { write!(out, "{self}") }
    }
}

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = String::from_utf8_lossy(self.0)
            .chars()
            .map(|c| if is_printable(c) { c } else { '?' })
            .collect();
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Printable(bytes).write_to(&mut out).unwrap();
        out
    }

    #[test]
    fn as_stock_prints_them() {
        for (name, text) in [
            (&b"file"[..], &b"file"[..]),
            (b"new\nline", b"new?line"),
            (b"tab\there", b"tab?here"),
            (b"bad\xffutf", b"bad\xffutf"),
            (b"bad\xffutf\n", b"bad\xef\xbf\xbdutf?"),
            (b"no\xc2\xa0break", b"no?break"),
            (b"\x1b[31m", b"?[31m"),
            ("É ü 漢".as_bytes(), "É ü 漢".as_bytes()),
            ("left\u{202e}right".as_bytes(), b"left?right"),
        ] {
            assert_eq!(written(name), text);
        }
    }
}
