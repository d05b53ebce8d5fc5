//! XML that a server of S3 answers with, read as it comes and within bounds.
//!
//! Of a document only the texts of a few elements are wanted. It is read token
//! by token, and a token, a text and the depth have a greatest length; entities
//! beside the five of XML and characters by number do not exist, so nothing
//! expands. Element names are taken without their namespace.

use std::io::{self, BufRead, Read};
use std::ops::ControlFlow;

use quick_xml::Reader;
use quick_xml::events::Event;

use crate::error::{HostsError, Result};

/// Longest token, in bytes: a tag with its attributes, or a piece of text.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Longest text of an element, in bytes: a key has 1024, and three times as
/// many when it is escaped.
const TEXT_BYTES_MAX: usize = 4 * 1024;

/// Deepest nesting: of S3's documents it is four.
const DEPTH_MAX: usize = 16;

/// Most tokens of one document. A thousand keys have some thirty each.
const TOKENS_MAX: usize = 200_000;

/// What is wrong with a document.
#[derive(Debug)]
pub(super) enum XmlError {
    /// Its content, or a bound.
    Malformed(&'static str),
    /// The stream that it comes from.
    Read(io::Error),
    /// What its receiver said.
    Receiver(HostsError),
}

/// Counts the bytes of a token.
struct Bounded<R> {
    inner: R,
    left: usize,
}

const TOO_LONG: &str = "a token of XML is too long";

impl<R: BufRead> Read for Bounded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let count = bytes.len().min(into.len());
        into[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Bounded<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 {
            return Err(io::Error::other(TOO_LONG));
        }
        let left = self.left;
        let bytes = self.inner.fill_buf()?;
        Ok(&bytes[..bytes.len().min(left)])
    }

    fn consume(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count);
        self.inner.consume(count);
    }
}

/// Receives what happens in a document.
pub(super) trait Receiver {
    /// An element ended: its name, that of the element around it, and its text
    /// (of elements without children; of others it is what was behind the last
    /// child).
    /// Says whether to read on.
    fn element(&mut self, parent: &str, name: &str, text: &str) -> Result<ControlFlow<()>>;
}

/// Reads a document to its end.
pub(super) fn read(source: impl BufRead, receiver: &mut dyn Receiver) -> Result<(), XmlError> {
    let mut reader = Reader::from_reader(Bounded { inner: source, left: TOKEN_BYTES_MAX });
    reader.config_mut().expand_empty_elements = true;
    let mut token = Vec::new();
    // Names of the open elements, one behind the other, and where each begins.
    let (mut names, mut starts) = (String::new(), Vec::new());
    let (mut text, mut is_begun) = (String::new(), false);
    for _ in 0..TOKENS_MAX {
        token.clear();
        reader.get_mut().left = TOKEN_BYTES_MAX;
        match reader.read_event_into(&mut token).map_err(of_library)? {
            Event::Start(start) => {
                if starts.len() == DEPTH_MAX {
                    return Err(XmlError::Malformed("its elements are nested too deeply"));
                }
                if is_begun && starts.is_empty() {
                    return Err(XmlError::Malformed("it has a second root"));
                }
                is_begun = true;
                starts.push(names.len());
                names.push_str(start.local_name().as_ref());
                text.clear();
            }
            Event::End(_) => {
                let Some(start) = starts.pop() else {
                    return Err(XmlError::Malformed("an element ends that did not begin"));
                };
                let parent = starts.last().map_or("", |parent| &names[*parent..start]);
                let flow = receiver.element(parent, &names[start..], &text);
                if flow.map_err(XmlError::Receiver)?.is_break() {
                    return Ok(());
                }
                names.truncate(start);
                text.clear();
            }
            Event::Text(piece) => push(&mut text, &piece)?,
            Event::CData(piece) => push(&mut text, &piece)?,
            Event::GeneralRef(reference) => {
                let letter = match &*reference {
                    "amp" => '&',
                    "lt" => '<',
                    "gt" => '>',
                    "quot" => '"',
                    "apos" => '\'',
                    _ => {
                        let unknown = XmlError::Malformed("it has an entity of its own");
                        reference.resolve_char_ref().ok().flatten().ok_or(unknown)?
                    }
                };
                push(&mut text, letter.encode_utf8(&mut [0; 4]))?;
            }
            Event::Eof if is_begun && starts.is_empty() => return Ok(()),
            Event::Eof => return Err(XmlError::Malformed("it ends too early")),
            Event::DocType(_) => return Err(XmlError::Malformed("it has a document type")),
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
    Err(XmlError::Malformed("it is too long"))
}

fn push(text: &mut String, piece: &str) -> Result<(), XmlError> {
    if text.len() + piece.len() > TEXT_BYTES_MAX {
        return Err(XmlError::Malformed("a text is too long"));
    }
    text.push_str(piece);
    Ok(())
}

fn of_library(error: quick_xml::Error) -> XmlError {
    match error {
        quick_xml::Error::Io(error) if error.to_string() == TOO_LONG => {
            XmlError::Malformed(TOO_LONG)
        }
        quick_xml::Error::Io(error) => {
            XmlError::Read(io::Error::new(error.kind(), error.to_string()))
        }
        _ => XmlError::Malformed("it is no XML"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Seen(Vec<(String, String, String)>);

    impl Receiver for Seen {
        fn element(&mut self, parent: &str, name: &str, text: &str) -> Result<ControlFlow<()>> {
            self.0.push((parent.into(), name.into(), text.into()));
            Ok(ControlFlow::Continue(()))
        }
    }

    fn seen(text: &str) -> Result<Vec<(String, String, String)>, XmlError> {
        let mut seen = Seen::default();
        // In small pieces, so that tokens are cut anywhere.
        let source = io::BufReader::with_capacity(7, text.as_bytes());
        read(source, &mut seen).map(|()| seen.0)
    }

    #[test]
    fn texts_have_their_places() {
        let text = "<?xml version=\"1.0\"?>\n<a xmlns=\"urn:x\">\n <b>1 &amp;&#x41;&#66;<![CDATA[<]]></b>\
                    <x:c/> <d><e>2</e> </d></a>\n";
        let found = seen(text).unwrap();
        let found: Vec<_> = found.iter().map(|(p, n, t)| (&p[..], &n[..], t.trim())).collect();
        assert_eq!(found[..3], [("a", "b", "1 &AB<"), ("a", "c", ""), ("d", "e", "2")]);
    }

    #[test]
    fn hostile_documents_end_early() {
        let deep = "<a>".repeat(100_000);
        let long = format!("<a>{}</a>", "x".repeat(10_000_000));
        let tag = format!("<a {}>", "b='c' ".repeat(1_000_000));
        let bomb = "<!DOCTYPE a [<!ENTITY b \"bbbbbbbb\"><!ENTITY c \"&b;&b;&b;\">]><a>&c;</a>";
        let pieces = format!("<a>{}</a>", "x<!-- -->".repeat(10_000));
        let many = format!("<a>{}</a>", "<b/>".repeat(500_000));
        for text in [
            "",
            "x",
            "<a>",
            "<a></b>",
            "<a></a><a></a>",
            "</a>",
            "<a>&c;</a>",
            "<a>&#0;</a>",
            "<a>&#xffffffff;</a>",
            &deep,
            &long,
            &tag,
            bomb,
            &pieces,
            &many,
        ] {
            assert!(seen(text).is_err(), "{}", &text[..text.len().min(60)]);
        }
    }
}
