//! The part of msgpack that the format uses. Section 4 of the format.
//!
//! [`Writer`] gives the exact bytes of stock's encoder, which matters wherever
//! the bytes are hashed: numbers of a fixed width in Go are always written at
//! full width. [`Reader`] takes whatever a Go decoder takes: every width,
//! unknown keys, any order of keys, `nil` for a zero value.

use super::list::List;
use crate::error::FormatError;
use crate::limits::MSGPACK_DEPTH_MAX;
use crate::mac::{MAC_BYTES, Mac};
use crate::time::Timestamp;

/// Writes msgpack into a lent slice.
///
/// Never fails half way: when the slice is full it only counts, and
/// [`finish`](Self::finish) says how much would have been needed.
#[derive(Debug)]
pub struct Writer<'b> {
    into: &'b mut [u8],
    len: usize,
}

impl<'b> Writer<'b> {
    /// Writes from the start of `into`.
    pub fn new(into: &'b mut [u8]) -> Self {
        Self { into, len: 0 }
    }

    /// Appends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        if let Some(place) = self.into.get_mut(self.len..end) {
            place.copy_from_slice(bytes);
        }
        self.len = end;
    }

    /// What was written.
    ///
    /// # Errors
    ///
    /// [`FormatError::Scratch`] when the slice is too small.
    pub fn finish(self) -> Result<&'b [u8], FormatError> {
        let lent_bytes = self.into.len();
        self.into.get(..self.len).ok_or(FormatError::Scratch { needed_bytes: self.len, lent_bytes })
    }

    fn tagged<const N: usize>(&mut self, tag: u8, bytes: [u8; N]) {
        self.raw(&[tag]);
        self.raw(&bytes);
    }

    /// A length: in the tag up to `fix`, else in one, two or four bytes.
    #[expect(clippy::cast_possible_truncation, reason = "each arm checks the range")]
    fn length(&mut self, len: usize, fix: Option<(u8, usize)>, wide: [Option<u8>; 3]) {
        match (fix, wide) {
            (Some((tag, below)), _) if len < below => self.raw(&[tag | len as u8]),
            (_, [Some(tag), _, _]) if len < 1 << 8 => self.tagged(tag, [len as u8]),
            (_, [_, Some(tag), _]) if len < 1 << 16 => self.tagged(tag, (len as u16).to_be_bytes()),
            (_, [_, _, tag]) => self.tagged(tag.unwrap_or(0xdd), (len as u32).to_be_bytes()),
        }
    }

    /// Starts a map of `len` pairs.
    pub fn map(&mut self, len: usize) {
        self.length(len, Some((0x80, 16)), [None, Some(0xde), Some(0xdf)]);
    }

    /// Starts an array.
    pub fn array(&mut self, len: usize) {
        self.length(len, Some((0x90, 16)), [None, Some(0xdc), Some(0xdd)]);
    }

    /// A string, of whatever bytes.
    pub fn str(&mut self, text: &[u8]) {
        self.length(text.len(), Some((0xa0, 32)), [Some(0xd9), Some(0xda), Some(0xdb)]);
        self.raw(text);
    }

    /// A key of a map.
    pub fn key(&mut self, name: &str) {
        self.str(name.as_bytes());
    }

    /// Bytes.
    pub fn bin(&mut self, bytes: &[u8]) {
        self.length(bytes.len(), None, [Some(0xc4), Some(0xc5), Some(0xc6)]);
        self.raw(bytes);
    }

    /// A MAC.
    pub fn mac(&mut self, mac: &Mac) {
        self.bin(&mac.0);
    }

    /// `nil`.
    pub fn nil(&mut self) {
        self.raw(&[0xc0]);
    }

    /// Go's `bool`.
    pub fn bool(&mut self, value: bool) {
        self.raw(&[if value { 0xc3 } else { 0xc2 }]);
    }

    /// Go's `uint8`.
    pub fn u8(&mut self, value: u8) {
        self.tagged(0xcc, [value]);
    }

    /// Go's `uint16`.
    pub fn u16(&mut self, value: u16) {
        self.tagged(0xcd, value.to_be_bytes());
    }

    /// Go's `uint32`.
    pub fn u32(&mut self, value: u32) {
        self.tagged(0xce, value.to_be_bytes());
    }

    /// Go's `uint64`.
    pub fn u64(&mut self, value: u64) {
        self.tagged(0xcf, value.to_be_bytes());
    }

    /// Go's `int64`.
    pub fn i64(&mut self, value: i64) {
        self.tagged(0xd3, value.to_be_bytes());
    }

    /// Go's `int`, in the shortest form.
    pub fn int(&mut self, value: i64) {
        if let Ok(value) = u64::try_from(value) {
            match value {
                0..0x80 => self.raw(&[value.to_be_bytes()[7]]),
                0x80..0x100 => self.u8(value.to_be_bytes()[7]),
                _ => match (u16::try_from(value), u32::try_from(value)) {
                    (Ok(value), _) => self.u16(value),
                    (_, Ok(value)) => self.u32(value),
                    _ => self.u64(value),
                },
            }
        } else if value >= -32 {
            self.raw(&[value.to_be_bytes()[7]]);
        } else {
            match (i8::try_from(value), i16::try_from(value), i32::try_from(value)) {
                (Ok(value), _, _) => self.tagged(0xd0, value.to_be_bytes()),
                (_, Ok(value), _) => self.tagged(0xd1, value.to_be_bytes()),
                (_, _, Ok(value)) => self.tagged(0xd2, value.to_be_bytes()),
                _ => self.i64(value),
            }
        }
    }

    /// Go's `float64`.
    pub fn f64(&mut self, value: f64) {
        self.tagged(0xcb, value.to_bits().to_be_bytes());
    }

    /// Go's `time.Time`.
    pub fn time(&mut self, time: Timestamp) {
        match u64::try_from(time.secs) {
            Ok(secs) if secs < 1 << 34 => {
                let value = u64::from(time.nanos) << 34 | secs;
                match u32::try_from(value) {
                    Ok(value) => {
                        self.raw(&[0xd6, 0xff]);
                        self.raw(&value.to_be_bytes());
                    }
                    Err(_) => {
                        self.raw(&[0xd7, 0xff]);
                        self.raw(&value.to_be_bytes());
                    }
                }
            }
            _ => {
                self.raw(&[0xc7, 12, 0xff]);
                self.raw(&time.nanos.to_be_bytes());
                self.raw(&time.secs.to_be_bytes());
            }
        }
    }
}

/// Reads msgpack from a slice, forward only. Copies nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reader<'b> {
    bytes: &'b [u8],
}

/// What stands next, without the content of maps and arrays.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value<'b> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bytes(&'b [u8]),
    Array(u32),
    Map(u32),
    Extension(u8, &'b [u8]),
}

impl<'b> Reader<'b> {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'b [u8]) -> Self {
        Self { bytes }
    }

    /// What is not read yet.
    #[must_use]
    pub fn rest(&self) -> &'b [u8] {
        self.bytes
    }

    /// Takes `len` bytes as they are.
    ///
    /// # Errors
    ///
    /// [`FormatError::Truncated`].
    pub fn take(&mut self, len: usize) -> Result<&'b [u8], FormatError> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(FormatError::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(FormatError::Truncated)?;
        self.bytes = rest;
        Ok(*taken)
    }

    fn len8(&mut self) -> Result<usize, FormatError> {
        Ok(usize::from(u8::from_be_bytes(self.fixed()?)))
    }

    fn len16(&mut self) -> Result<usize, FormatError> {
        Ok(usize::from(u16::from_be_bytes(self.fixed()?)))
    }

    fn len32(&mut self) -> Result<usize, FormatError> {
        usize::try_from(u32::from_be_bytes(self.fixed()?)).map_err(|_| FormatError::Truncated)
    }

    fn extension(&mut self, len: usize) -> Result<Value<'b>, FormatError> {
        let [kind] = self.fixed()?;
        Ok(Value::Extension(kind, self.take(len)?))
    }

    fn value(&mut self) -> Result<Value<'b>, FormatError> {
        let [tag] = self.fixed()?;
        Ok(match tag {
            0x00..=0x7f => Value::Unsigned(u64::from(tag)),
            0x80..=0x8f => Value::Map(u32::from(tag & 0x0f)),
            0x90..=0x9f => Value::Array(u32::from(tag & 0x0f)),
            0xa0..=0xbf => Value::Bytes(self.take(usize::from(tag & 0x1f))?),
            0xc0 => Value::Nil,
            0xc1 => return Err(FormatError::Field("msgpack tag")),
            0xc2 => Value::Bool(false),
            0xc3 => Value::Bool(true),
            0xc4 | 0xd9 => self.len8().and_then(|len| self.take(len)).map(Value::Bytes)?,
            0xc5 | 0xda => self.len16().and_then(|len| self.take(len)).map(Value::Bytes)?,
            0xc6 | 0xdb => self.len32().and_then(|len| self.take(len)).map(Value::Bytes)?,
            0xc7 => self.len8().and_then(|len| self.extension(len))?,
            0xc8 => self.len16().and_then(|len| self.extension(len))?,
            0xc9 => self.len32().and_then(|len| self.extension(len))?,
            0xca => Value::Float(f64::from(f32::from_bits(u32::from_be_bytes(self.fixed()?)))),
            0xcb => Value::Float(f64::from_bits(u64::from_be_bytes(self.fixed()?))),
            0xcc => Value::Unsigned(u64::from(u8::from_be_bytes(self.fixed()?))),
            0xcd => Value::Unsigned(u64::from(u16::from_be_bytes(self.fixed()?))),
            0xce => Value::Unsigned(u64::from(u32::from_be_bytes(self.fixed()?))),
            0xcf => Value::Unsigned(u64::from_be_bytes(self.fixed()?)),
            0xd0 => Value::Signed(i64::from(i8::from_be_bytes(self.fixed()?))),
            0xd1 => Value::Signed(i64::from(i16::from_be_bytes(self.fixed()?))),
            0xd2 => Value::Signed(i64::from(i32::from_be_bytes(self.fixed()?))),
            0xd3 => Value::Signed(i64::from_be_bytes(self.fixed()?)),
            0xd4 => self.extension(1)?,
            0xd5 => self.extension(2)?,
            0xd6 => self.extension(4)?,
            0xd7 => self.extension(8)?,
            0xd8 => self.extension(16)?,
            0xdc => Value::Array(u32::from(u16::from_be_bytes(self.fixed()?))),
            0xdd => Value::Array(u32::from_be_bytes(self.fixed()?)),
            0xde => Value::Map(u32::from(u16::from_be_bytes(self.fixed()?))),
            0xdf => Value::Map(u32::from_be_bytes(self.fixed()?)),
            0xe0..=0xff => Value::Signed(i64::from(tag.cast_signed())),
        })
    }

    /// Starts a map and returns the number of its pairs; 0 for `nil`.
    ///
    /// # Errors
    ///
    /// [`FormatError`] if something else stands there.
    pub fn map(&mut self) -> Result<u32, FormatError> {
        match self.value()? {
            Value::Map(len) => Ok(len),
            Value::Nil => Ok(0),
            _ => Err(FormatError::Field("map")),
        }
    }

    /// Starts an array and returns its length; 0 for `nil`.
    ///
    /// # Errors
    ///
    /// [`FormatError`] if something else stands there.
    pub fn array(&mut self) -> Result<u32, FormatError> {
        match self.value()? {
            Value::Array(len) => Ok(len),
            Value::Nil => Ok(0),
            _ => Err(FormatError::Field("array")),
        }
    }

    /// Whether `nil` stands next; it is then read.
    pub fn nil(&mut self) -> bool {
        let is_nil = self.bytes.first() == Some(&0xc0);
        if is_nil {
            self.bytes = &self.bytes[1..];
        }
        is_nil
    }

    /// A string or bytes; empty for `nil`.
    ///
    /// # Errors
    ///
    /// [`FormatError`] if something else stands there.
    pub fn bytes(&mut self) -> Result<&'b [u8], FormatError> {
        match self.value()? {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Nil => Ok(&[]),
            _ => Err(FormatError::Field("string")),
        }
    }

    /// A MAC; zeros for `nil`.
    ///
    /// # Errors
    ///
    /// [`FormatError`] if something else stands there.
    pub fn mac(&mut self) -> Result<Mac, FormatError> {
        match self.bytes()? {
            [] => Ok(Mac::ZERO),
            bytes if bytes.len() == MAC_BYTES => {
                Mac::from_slice(bytes).ok_or(FormatError::Field("MAC"))
            }
            _ => Err(FormatError::Field("MAC")),
        }
    }

    /// A number that may be negative.
    ///
    /// # Errors
    ///
    /// [`FormatError`] if something else stands there.
    pub fn i64(&mut self) -> Result<i64, FormatError> {
        match self.value()? {
            Value::Unsigned(value) => {
                i64::try_from(value).map_err(|_| FormatError::Field("number"))
            }
            Value::Signed(value) => Ok(value),
            Value::Nil => Ok(0),
            _ => Err(FormatError::Field("number")),
        }
    }

    /// A number that may not be negative.
    ///
    /// # Errors
    ///
    /// [`FormatError`] if something else stands there.
    pub fn u64(&mut self) -> Result<u64, FormatError> {
        match self.value()? {
            Value::Unsigned(value) => Ok(value),
            Value::Signed(value) => u64::try_from(value).map_err(|_| FormatError::Field("number")),
            Value::Nil => Ok(0),
            _ => Err(FormatError::Field("number")),
        }
    }

    /// A number of at most 32 bits.
    ///
    /// # Errors
    ///
    /// [`FormatError`] if something else stands there.
    pub fn u32(&mut self) -> Result<u32, FormatError> {
        u32::try_from(self.u64()?).map_err(|_| FormatError::Field("number"))
    }

    /// A number of at most 16 bits.
    ///
    /// # Errors
    ///
    /// [`FormatError`] if something else stands there.
    pub fn u16(&mut self) -> Result<u16, FormatError> {
        u16::try_from(self.u64()?).map_err(|_| FormatError::Field("number"))
    }

    /// A number of at most 8 bits.
    ///
    /// # Errors
    ///
    /// [`FormatError`] if something else stands there.
    pub fn u8(&mut self) -> Result<u8, FormatError> {
        u8::try_from(self.u64()?).map_err(|_| FormatError::Field("number"))
    }

    /// A floating-point number.
    ///
    /// # Errors
    ///
    /// [`FormatError`] if something else stands there.
    pub fn f64(&mut self) -> Result<f64, FormatError> {
        match self.value()? {
            Value::Float(value) => Ok(value),
            Value::Nil => Ok(0.0),
            _ => Err(FormatError::Field("number")),
        }
    }

    /// A truth value.
    ///
    /// # Errors
    ///
    /// [`FormatError`] if something else stands there.
    pub fn bool(&mut self) -> Result<bool, FormatError> {
        match self.value()? {
            Value::Bool(value) => Ok(value),
            Value::Nil => Ok(false),
            _ => Err(FormatError::Field("truth value")),
        }
    }

    /// A point in time; Go's zero time for `nil`.
    ///
    /// # Errors
    ///
    /// [`FormatError`] if something else stands there.
    pub fn time(&mut self) -> Result<Timestamp, FormatError> {
        let wrong = FormatError::Field("time");
        let time = match self.value()? {
            Value::Nil => Timestamp::GO_ZERO,
            Value::Extension(0xff, bytes) => match bytes.len() {
                4 => {
                    let mut reader = Self::new(bytes);
                    Timestamp { secs: i64::from(u32::from_be_bytes(reader.fixed()?)), nanos: 0 }
                }
                8 => {
                    let value = u64::from_be_bytes(Self::new(bytes).fixed()?);
                    let nanos = u32::try_from(value >> 34).map_err(|_| wrong)?;
                    Timestamp { secs: (value & ((1 << 34) - 1)).cast_signed(), nanos }
                }
                12 => {
                    let mut reader = Self::new(bytes);
                    let nanos = u32::from_be_bytes(reader.fixed()?);
                    Timestamp { secs: i64::from_be_bytes(reader.fixed()?), nanos }
                }
                _ => return Err(wrong),
            },
            _ => return Err(wrong),
        };
        if time.nanos >= 1_000_000_000 { Err(wrong) } else { Ok(time) }
    }

    /// Passes over one value, with all that it holds.
    ///
    /// # Errors
    ///
    /// [`FormatError`] when the value is cut, or nested deeper than
    /// [`MSGPACK_DEPTH_MAX`].
    pub fn skip(&mut self) -> Result<(), FormatError> {
        // Values left at each level; a map of n pairs is 2 n values.
        let mut left = heapless::Vec::<u64, MSGPACK_DEPTH_MAX>::new();
        let too_deep = |_| FormatError::Bound("nesting");
        left.push(1).map_err(too_deep)?;
        while let Some(level) = left.last_mut() {
            let Some(fewer) = level.checked_sub(1) else {
                left.pop();
                continue;
            };
            *level = fewer;
            match self.value()? {
                Value::Array(len) => left.push(u64::from(len)).map_err(too_deep)?,
                Value::Map(len) => left.push(2 * u64::from(len)).map_err(too_deep)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Passes over an array, and keeps it for later.
    ///
    /// # Errors
    ///
    /// [`FormatError`] if something else stands there, or it is cut.
    pub fn list(&mut self) -> Result<List<'b>, FormatError> {
        let start = self.bytes;
        self.skip()?;
        let mut reader = Self::new(&start[..start.len() - self.bytes.len()]);
        let len = reader.array()?;
        Ok(List::encoded(len, reader.bytes))
    }

    /// Calls `field` with every key of a map; it must read the value, and
    /// returns whether it knew the key. Values of unknown keys are passed over.
    ///
    /// # Errors
    ///
    /// [`FormatError`] of the map, or of `field`.
    pub fn fields(
        &mut self,
        mut field: impl FnMut(&[u8], &mut Self) -> Result<bool, FormatError>,
    ) -> Result<(), FormatError> {
        for _ in 0..self.map()? {
            let key = self.bytes()?;
            if !field(key, self)? {
                self.skip()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn written(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut space = [0; 70_000];
        let mut writer = Writer::new(&mut space);
        write(&mut writer);
        writer.finish().unwrap().to_vec()
    }

    #[test]
    fn stock_bytes() {
        assert_eq!(written(|w| w.int(5)), [5]);
        assert_eq!(written(|w| w.int(-1)), [0xff]);
        assert_eq!(written(|w| w.int(-33)), [0xd0, 0xdf]);
        assert_eq!(written(|w| w.int(131_072)), [0xce, 0, 2, 0, 0]);
        assert_eq!(written(|w| w.str(b"")), [0xa0]);
        assert_eq!(written(|w| w.str(&[b'a'; 32]))[..2], [0xd9, 32]);
        assert_eq!(written(|w| w.map(17)), [0xde, 0, 17]);
        assert_eq!(written(|w| w.bin(&[1])), [0xc4, 1, 1]);
        let time = Timestamp { secs: 1_700_000_000, nanos: 123_456_789 };
        assert_eq!(
            written(|w| w.time(time)),
            [0xd7, 0xff, 0x1d, 0x6f, 0x34, 0x54, 0x65, 0x53, 0xf1, 0]
        );
        assert_eq!(written(|w| w.time(Timestamp::default())), [0xd6, 0xff, 0, 0, 0, 0]);
        assert_eq!(written(|w| w.time(Timestamp::GO_ZERO))[..3], [0xc7, 12, 0xff]);
    }

    #[test]
    fn full_slice_says_how_much() {
        let mut space = [0; 4];
        let mut writer = Writer::new(&mut space);
        writer.str(b"hello");
        assert_eq!(writer.finish(), Err(FormatError::Scratch { needed_bytes: 6, lent_bytes: 4 }));
    }

    #[test]
    fn deep_nesting_is_refused() {
        let bytes = [0x91; 1000];
        assert_eq!(Reader::new(&bytes).skip(), Err(FormatError::Bound("nesting")));
    }

    proptest! {
        #[test]
        fn numbers(int: i64, unsigned: u64, float: f64, secs: i64, nanos in 0u32..1_000_000_000) {
            let time = Timestamp { secs, nanos };
            let bytes = written(|w| {
                w.int(int);
                w.i64(int);
                w.u64(unsigned);
                w.f64(float);
                w.time(time);
            });
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.i64(), Ok(int));
            prop_assert_eq!(reader.i64(), Ok(int));
            prop_assert_eq!(reader.u64(), Ok(unsigned));
            prop_assert_eq!(reader.f64().map(f64::to_bits), Ok(float.to_bits()));
            prop_assert_eq!(reader.time(), Ok(time));
            prop_assert!(reader.rest().is_empty());
        }

        #[test]
        fn strings(text in prop::collection::vec(any::<u8>(), 0..70_000)) {
            let mut space = std::vec![0; 70_010];
            let mut writer = Writer::new(&mut space);
            writer.str(&text);
            let bytes = writer.finish().unwrap();
            prop_assert_eq!(Reader::new(bytes).bytes(), Ok(&text[..]));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Reader::new(&bytes).skip();
            let _ = Reader::new(&bytes).list();
            let _ = Reader::new(&bytes).time();
            let _ = Reader::new(&bytes).fields(|_, _| Ok(false));
        }
    }
}
