//! File modes, as Go's `FileMode` prints them.

use std::fmt;

/// A mode as the format keeps it, shown as `drwxr-xr-x`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct FileMode(pub(crate) u32);

/// Letters of the bits above the rights, from the highest down.
const LETTERS: &[u8; 13] = b"dalTLDpSugct?";

impl fmt::Display for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(12);
        for (index, letter) in LETTERS.iter().enumerate() {
            if self.0 & 1 << (31 - index) != 0 {
                text.push(char::from(*letter));
            }
        }
        if text.is_empty() {
            text.push('-');
        }
        for (index, letter) in "rwxrwxrwx".chars().enumerate() {
            text.push(if self.0 & 1 << (8 - index) != 0 { letter } else { '-' });
        }
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiroir_core::wire::mode::from_unix;

    #[test]
    fn as_go_prints_them() {
        for (st_mode, text) in [
            (0o100_644, "-rw-r--r--"),
            (0o100_000, "----------"),
            (0o104_755, "urwxr-xr-x"),
            (0o102_755, "grwxr-xr-x"),
            (0o106_711, "ugrwx--x--x"),
            (0o101_644, "trw-r--r--"),
            (0o040_755, "drwxr-xr-x"),
            (0o120_777, "Lrwxrwxrwx"),
            (0o010_644, "prw-r--r--"),
            (0o140_755, "Srwxr-xr-x"),
            (0o060_644, "Drw-r--r--"),
            (0o020_644, "Dcrw-r--r--"),
            (0o041_777, "dtrwxrwxrwx"),
            (0o042_775, "dgrwxrwxr-x"),
        ] {
            assert_eq!(FileMode(from_unix(st_mode)).to_string(), text);
        }
    }
}
