//! [`Object`]: the content of a file, as a list of chunks.
//!
//! Section 11.8 of the format. An object of a huge file has a record of 99
//! bytes per chunk, so it is written and read in three parts: what stands
//! before and after the records ([`ObjectHead`]), and the records
//! ([`ChunkRecord`]).

use super::msgpack::{Reader, Writer};
use crate::error::FormatError;
use crate::mac::Mac;
use crate::resource::Version;

/// Length of an encoded [`ChunkRecord`], in bytes, as every writer makes it.
pub const CHUNK_RECORD_BYTES: usize = 99;

/// Longest of the two parts of an encoded [`ObjectHead`], in bytes.
pub const OBJECT_PART_BYTES_MAX: usize = 512;

/// One chunk of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ChunkRecord {
    /// Key of the chunk.
    pub mac: Mac,
    /// Length of its plaintext, in bytes.
    pub length_bytes: u32,
    /// Its entropy, in bits per byte.
    pub entropy: f64,
}

impl ChunkRecord {
    /// Writes the record.
    pub fn emit(&self, w: &mut Writer<'_>) {
        w.map(5);
        w.key("version");
        w.u32(Version::V1_0_0.0);
        w.key("contentMAC");
        w.mac(&self.mac);
        w.key("length");
        w.u32(self.length_bytes);
        w.key("entropy");
        w.f64(self.entropy);
        w.key("flags");
        w.u32(0);
    }

    /// Reads a record.
    ///
    /// # Errors
    ///
    /// [`FormatError`] for what is no such record.
    pub fn parse(reader: &mut Reader<'_>) -> Result<Self, FormatError> {
        let mut chunk = Self::default();
        reader.fields(|key, value| {
            match key {
                b"contentMAC" => chunk.mac = value.mac()?,
                b"length" => chunk.length_bytes = value.u32()?,
                b"entropy" => chunk.entropy = value.f64()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(chunk)
    }
}

/// What stands in an object before and after its chunk records.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ObjectHead<'b> {
    /// MAC of the whole content.
    pub content_mac: Mac,
    /// Number of chunks.
    pub chunks: u32,
    /// Content type, or empty.
    pub content_type: &'b [u8],
    /// Entropy of the content, in bits per byte.
    pub entropy: f64,
}

impl ObjectHead<'_> {
    /// Writes what stands before the chunk records.
    pub fn emit_start(&self, w: &mut Writer<'_>) {
        w.map(4 + usize::from(!self.content_type.is_empty()) + usize::from(self.entropy != 0.0));
        w.key("version");
        w.u32(Version::V1_0_0.0);
        w.key("contentMAC");
        w.mac(&self.content_mac);
        w.key("chunks");
        w.array(usize::try_from(self.chunks).unwrap_or(usize::MAX));
    }

    /// Writes what stands after them.
    pub fn emit_end(&self, w: &mut Writer<'_>) {
        if !self.content_type.is_empty() {
            w.key("content_type");
            w.str(self.content_type);
        }
        if self.entropy != 0.0 {
            w.key("entropy");
            w.f64(self.entropy);
        }
        w.key("flags");
        w.u32(0);
    }
}

/// What [`ObjectParser::step`] has found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ObjectStep {
    /// More bytes are needed; those not consumed must be given again.
    More,
    /// The next chunk.
    Chunk(ChunkRecord),
    /// The object ends here.
    End {
        /// MAC of the whole content.
        content_mac: Mac,
    },
}

/// Reads an object as it arrives, in whatever order its keys stand.
///
/// Memory: the window that the caller gives to [`step`](Self::step), which
/// holds one field, 512 bytes at least.
#[derive(Debug, Default)]
pub struct ObjectParser {
    /// Fields of the map that are left; none before it has begun.
    fields: Option<u32>,
    /// Records of the list that are left, while within it.
    chunks: Option<u32>,
    content_mac: Mac,
}

impl ObjectParser {
    /// Goes one step forward. `window` holds the bytes from where the last
    /// step ended; returns how many of them are consumed.
    ///
    /// # Errors
    ///
    /// [`FormatError`] for what is no object. A record that is cut gives
    /// [`ObjectStep::More`]; that nothing more comes is for the caller to say.
    pub fn step(&mut self, window: &[u8]) -> Result<(ObjectStep, usize), FormatError> {
        let mut reader = Reader::new(window);
        let step = self.advance(&mut reader)?;
        Ok((step, window.len() - reader.rest().len()))
    }

    /// Goes on to the next thing worth telling. A loop: how many fields there
    /// are in a window is for a stranger to say.
    fn advance(&mut self, reader: &mut Reader<'_>) -> Result<ObjectStep, FormatError> {
        loop {
            // What was read whole stays consumed, whatever follows.
            let before = *reader;
            match self.part(reader) {
                Ok(None) => {}
                Ok(Some(step)) => return Ok(step),
                Err(FormatError::Truncated) => {
                    *reader = before;
                    return Ok(ObjectStep::More);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads a record or a field; nothing is kept before it is read whole.
    fn part(&mut self, reader: &mut Reader<'_>) -> Result<Option<ObjectStep>, FormatError> {
        if let Some(left) = self.chunks {
            let Some(fewer) = left.checked_sub(1) else {
                self.chunks = None;
                return Ok(None);
            };
            let chunk = ChunkRecord::parse(reader)?;
            self.chunks = Some(fewer);
            return Ok(Some(ObjectStep::Chunk(chunk)));
        }
        let fields = match self.fields {
            Some(fields) => fields,
            None => reader.map()?,
        };
        let Some(fewer) = fields.checked_sub(1) else {
            self.fields = Some(0);
            return Ok(Some(ObjectStep::End { content_mac: self.content_mac }));
        };
        match reader.bytes()? {
            b"contentMAC" => self.content_mac = reader.mac()?,
            b"chunks" => self.chunks = Some(reader.array()?),
            _ => reader.skip()?,
        }
        self.fields = Some(fewer);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mac::{HashAlgorithm, MacKey};
    use std::vec::Vec;

    const ID: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

    fn object(chunks: &[ChunkRecord]) -> Vec<u8> {
        let key = MacKey::public(HashAlgorithm::Blake3, &ID);
        let head = ObjectHead {
            content_mac: key.mac(b"hello world\n"),
            chunks: u32::try_from(chunks.len()).unwrap(),
            content_type: b"text/plain; charset=utf-8",
            entropy: f64::from_bits(0x4008_2d2b_4806_91b3),
        };
        let mut space = std::vec![0; 1000 + 99 * chunks.len()];
        let mut writer = Writer::new(&mut space);
        head.emit_start(&mut writer);
        chunks.iter().for_each(|chunk| chunk.emit(&mut writer));
        head.emit_end(&mut writer);
        writer.finish().unwrap().to_vec()
    }

    fn chunk(n: u8) -> ChunkRecord {
        ChunkRecord { mac: Mac([n; 32]), length_bytes: u32::from(n), entropy: 3.5 }
    }

    #[test]
    fn known_answer() {
        let key = MacKey::public(HashAlgorithm::Blake3, &ID);
        let record = ChunkRecord {
            mac: key.mac(b"hello world\n"),
            length_bytes: 12,
            entropy: f64::from_bits(0x4008_2d2b_4806_91b2),
        };
        let wanted = "b28720c57d4e07174fe5278b798fea4217d66712c148d3e13cc69b7bebb22f9f";
        assert_eq!(key.mac(&object(&[record])), Mac::from_hex(wanted.as_bytes()).unwrap());
    }

    #[test]
    fn parsed_through_a_window() {
        let chunks: Vec<_> = (1..40).map(chunk).collect();
        let bytes = object(&chunks);
        for window in [600, 700, 5000] {
            let mut parser = ObjectParser::default();
            let (mut at, mut found) = (0, Vec::new());
            loop {
                let end = bytes.len().min(at + window);
                let (step, used) = parser.step(&bytes[at..end]).unwrap();
                at += used;
                match step {
                    ObjectStep::More => assert!(used > 0 || end < bytes.len()),
                    ObjectStep::Chunk(record) => found.push(record),
                    ObjectStep::End { content_mac } => {
                        assert!(!content_mac.is_zero());
                        break;
                    }
                }
            }
            assert_eq!((at, &found), (bytes.len(), &chunks));
        }
    }

    #[test]
    fn any_number_of_fields_takes_no_stack() {
        let mut bytes = std::vec![0xdf, 0, 4, 0, 0];
        bytes.extend_from_slice(&b"\xa1x\xc0".repeat(1 << 18));
        let mut parser = ObjectParser::default();
        let end = ObjectStep::End { content_mac: Mac::ZERO };
        assert_eq!(parser.step(&bytes), Ok((end, bytes.len())));
    }

    #[test]
    fn record_length() {
        let mut space = [0; 200];
        let mut writer = Writer::new(&mut space);
        chunk(3).emit(&mut writer);
        assert_eq!(writer.finish().unwrap().len(), CHUNK_RECORD_BYTES);
    }
}
