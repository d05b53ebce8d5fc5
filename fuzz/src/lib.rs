//! What the fuzz targets share: where an input is cut, what comes of a record
//! that is written again, how much memory some work takes, and stores to
//! damage.

pub mod memory;
pub mod store;
pub mod units;

use tiroir_core::wire::msgpack::Writer;

/// What a target takes its decisions from, byte by byte; zeros when all are
/// taken.
#[derive(Clone, Copy, Debug)]
pub struct Input<'d>(pub &'d [u8]);

impl<'d> Input<'d> {
    pub fn take(&mut self, len: usize) -> &'d [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn number(&mut self, len: usize) -> u64 {
        self.take(len).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    pub fn byte(&mut self) -> u8 {
        u8::try_from(self.number(1)).unwrap()
    }

    pub fn u16(&mut self) -> u16 {
        u16::try_from(self.number(2)).unwrap()
    }

    pub fn u32(&mut self) -> u32 {
        u32::try_from(self.number(4)).unwrap()
    }

    pub fn u64(&mut self) -> u64 {
        self.number(8)
    }

    /// A number below `bound`; 0 for none.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.u16()).checked_rem(bound).unwrap_or(0)
    }

    /// Bytes behind their length, which has one byte.
    pub fn short(&mut self) -> &'d [u8] {
        let len = self.byte().into();
        self.take(len)
    }
}

/// Numbers that depend on a seed: for cuts, which inputs are too short to
/// spell out.
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// The length of the next part: mostly short, sometimes long, sometimes 0.
    pub fn step(&mut self) -> usize {
        let most = 1 << (self.next() % 17);
        usize::try_from(self.next() % most).unwrap()
    }
}

/// Cuts `bytes` at places that depend on `seed`; 0 cuts nowhere.
pub fn parts(bytes: &[u8], seed: u64) -> Vec<&[u8]> {
    if seed == 0 {
        return vec![bytes];
    }
    let (mut noise, mut rest, mut parts) = (Noise::new(seed), bytes, Vec::new());
    while !rest.is_empty() {
        let (part, after) = rest.split_at(noise.step().min(rest.len()));
        parts.push(part);
        rest = after;
    }
    parts
}

/// What `write` writes.
pub fn written(write: impl Fn(&mut Writer<'_>)) -> Vec<u8> {
    let mut counter = Writer::new(&mut []);
    write(&mut counter);
    let len = match counter.finish() {
        Ok(_) => 0,
        Err(tiroir_core::error::FormatError::Scratch { needed_bytes, .. }) => needed_bytes,
        Err(error) => panic!("{error}"),
    };
    let mut space = vec![0; len];
    let mut writer = Writer::new(&mut space);
    write(&mut writer);
    assert_eq!(writer.finish().map(<[u8]>::len), Ok(len));
    space
}

/// Parses `$bytes`, writes the record, and asserts that this parses to the same
/// record, and is what that one is written as.
#[macro_export]
macro_rules! both_ways {
    ($bytes:expr, $parse:expr, $emit:expr) => {{
        let parsed = $parse($bytes);
        if let Ok(record) = &parsed {
            let once = $crate::written(|w| $emit(record, w));
            let again = $parse(&once).expect("what was written parses");
            let twice = $crate::written(|w| $emit(&again, w));
            assert_eq!(once, twice);
            // Unless there is a number in it that is none.
            #[allow(clippy::eq_op)]
            let is_number = record == record;
            assert!(again == *record || !is_number, "{again:?} {record:?}");
        }
        parsed
    }};
}
