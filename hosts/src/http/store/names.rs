//! [`NameList`]: a list of names, as servers send it.

use tiroir_core::mac::{MAC_BYTES, Mac};

use crate::http::error::HttpError;

/// Reads a list of names in JSON, byte by byte.
#[derive(Debug, Default)]
pub(crate) struct NameList {
    state: ListState,
    digits: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum ListState {
    /// Before the bracket.
    #[default]
    Start,
    /// Behind the bracket: a name, or the end.
    First,
    /// Behind a comma.
    Next,
    /// In a name.
    Name,
    /// Behind a name.
    Behind,
    /// Behind the end.
    End,
}

impl NameList {
    /// Takes in a byte, and returns the name that it ends.
    pub(super) fn push(&mut self, byte: u8) -> Result<Option<Mac>, HttpError> {
        use ListState::{Behind, End, First, Name, Next, Start};
        let wrong = || HttpError::Malformed("it is no list of names");
        self.state = match (self.state, byte) {
            (Name, b'"') => {
                let name = Mac::from_hex(&self.digits).ok_or_else(wrong)?;
                self.state = Behind;
                return Ok(Some(name));
            }
            (Name, _) if self.digits.len() < 2 * MAC_BYTES => {
                self.digits.push(byte);
                Name
            }
            (state, b' ' | b'\t' | b'\r' | b'\n') if state != Name => state,
            (Start, b'[') => First,
            (First | Next, b'"') => {
                self.digits.clear();
                Name
            }
            (Behind, b',') => Next,
            (First | Behind, b']') => End,
            _ => return Err(wrong()),
        };
        Ok(None)
    }

    /// Whether the list has ended.
    pub(super) fn is_whole(&self) -> bool {
        self.state == ListState::End
    }

    /// Reads a whole list: for tests.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn parse(bytes: &[u8]) -> Option<usize> {
        let (mut list, mut count) = (Self::default(), 0);
        for &byte in bytes {
            count += usize::from(list.push(byte).ok()?.is_some());
        }
        list.is_whole().then_some(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_names() {
        let name = format!("\"{}\"", "ab".repeat(32));
        assert_eq!(NameList::parse(b"[]\n"), Some(0));
        assert_eq!(NameList::parse(format!("[{name}, {name}]").as_bytes()), Some(2));
        let long = format!("[\"{}\"]", "ab".repeat(33));
        for text in [
            "",
            "[",
            "null",
            "[,]",
            "[\"ab\"]",
            "[]x",
            &long,
            &format!("[{name}{name}]"),
            &format!("[{name},]"),
        ] {
            assert_eq!(NameList::parse(text.as_bytes()), None, "{text}");
        }
    }
}
