//! [`List`]: an array inside a record, kept as it is encoded or as it is lent.

use super::msgpack::{Reader, Writer};
use crate::error::FormatError;

/// A list of strings, or of records, that is not copied out of its record.
#[derive(Clone, Copy, Debug)]
pub struct List<'b> {
    source: Source<'b>,
}

#[derive(Clone, Copy, Debug)]
enum Source<'b> {
    /// Elements in msgpack, one after another.
    Encoded { len: u32, elements: &'b [u8] },
    /// Strings lent by whoever makes the record.
    Strings(&'b [&'b [u8]]),
    /// Strings, each followed by a zero byte.
    Terminated(&'b [u8]),
}

impl Default for List<'_> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<'b> List<'b> {
    /// No elements.
    pub const EMPTY: Self = Self { source: Source::Strings(&[]) };

    /// `len` elements in msgpack, complete: [`Reader::list`] has gone over them.
    pub(super) fn encoded(len: u32, elements: &'b [u8]) -> Self {
        Self { source: Source::Encoded { len, elements } }
    }

    /// Strings.
    #[must_use]
    pub fn strings(strings: &'b [&'b [u8]]) -> Self {
        Self { source: Source::Strings(strings) }
    }

    /// Strings that each end with a zero byte.
    #[must_use]
    pub fn terminated(bytes: &'b [u8]) -> Self {
        Self { source: Source::Terminated(bytes) }
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.source {
            Source::Encoded { len, .. } => usize::try_from(len).unwrap_or(usize::MAX),
            Source::Strings(strings) => strings.len(),
            Source::Terminated(bytes) => bytes.iter().filter(|byte| **byte == 0).count(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements, as strings. Those that are something else are empty.
    pub fn iter(&self) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        let source = self.source;
        let mut reader = self.reader();
        let mut rest = match source {
            Source::Terminated(bytes) => bytes,
            _ => &[],
        };
        (0..self.len()).map(move |index| match source {
            Source::Encoded { .. } => {
                let mut here = reader;
                let _ = reader.skip();
                here.bytes().unwrap_or_default()
            }
            Source::Strings(strings) => strings[index],
            Source::Terminated(_) => {
                let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
                let text = &rest[..end];
                rest = rest.get(end + 1..).unwrap_or_default();
                text
            }
        })
    }

    /// A reader over the elements, if they are encoded.
    #[must_use]
    pub fn reader(&self) -> Reader<'b> {
        match self.source {
            Source::Encoded { elements, .. } => Reader::new(elements),
            _ => Reader::new(&[]),
        }
    }

    /// Writes the array; elements that are encoded are written as they are.
    pub fn emit(&self, writer: &mut Writer<'_>) {
        writer.array(self.len());
        match self.source {
            Source::Encoded { elements, .. } => writer.raw(elements),
            _ => self.iter().for_each(|text| writer.str(text)),
        }
    }

    /// The MACs of a list of MACs.
    ///
    /// # Errors
    ///
    /// From the iterator, [`FormatError`] for an element that is no MAC.
    pub fn macs(&self) -> impl Iterator<Item = Result<crate::mac::Mac, FormatError>> + use<'b> {
        let mut reader = self.reader();
        (0..self.len()).map(move |_| reader.mac())
    }
}

impl PartialEq for List<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}
