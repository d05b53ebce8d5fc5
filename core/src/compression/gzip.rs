//! GZIP, RFC 1952: one member.
//!
//! Reading takes no memory but the state of the inflater, about 11 KiB, and
//! the window. Writing needs the feature `alloc`, for about 320 KiB.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_IGNORE_ADLER32, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use super::lz4::BlockSize;
use super::{Target, gather};
use crate::codec::CodecError;
use crate::error::FormatError;

/// How far back the plaintext is referred to, in bytes.
pub const HISTORY_BYTES: usize = 32_768;

/// Room that is asked for at a time, in bytes.
const ROOM_BYTES: usize = 32_768;

const MAGIC: [u8; 2] = [0x1f, 0x8b];
const METHOD_DEFLATE: u8 = 8;

const FLAG_HEADER_CHECK: u8 = 0x02;
const FLAG_EXTRA: u8 = 0x04;
const FLAG_NAME: u8 = 0x08;
const FLAG_COMMENT: u8 = 0x10;
const FLAG_RESERVED: u8 = 0xe0;

/// Length of header and trailer of what is written, in bytes.
const FRAME_BYTES: u64 = 18;

/// Most bytes that a member takes for `plain_bytes`; saturates.
#[must_use]
pub const fn member_len_max(plain_bytes: u64) -> u64 {
    // Blocks of the deflater hold 31 KiB at least when stored; its static
    // codes cost a tenth at most.
    let stored = (plain_bytes / (31 * 1024) + 1).saturating_mul(5);
    let coded = plain_bytes / 10;
    let more = if stored > coded { stored } else { coded };
    plain_bytes.saturating_add(more).saturating_add(128 + FRAME_BYTES)
}

/// CRC-32 of RFC 1952, of many parts.
#[derive(Clone, Copy, Debug)]
struct Crc32(u32);

impl Crc32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte: u32 = 0;
        while byte < 256 {
            let mut sum = byte;
            let mut bit = 0;
            while bit < 8 {
                sum = if sum & 1 == 0 { sum >> 1 } else { sum >> 1 ^ 0xedb8_8320 };
                bit += 1;
            }
            table[byte as usize] = sum;
            byte += 1;
        }
        table
    };

    const fn new() -> Self {
        Self(!0)
    }

    fn update(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let [low, ..] = self.0.to_le_bytes();
            self.0 = self.0 >> 8 ^ Self::TABLE[usize::from(low ^ byte)];
        }
    }

    const fn sum(self) -> u32 {
        !self.0
    }
}

/// What the trailer says: checksum and length modulo 2^32.
#[derive(Debug)]
struct Tally {
    crc: Crc32,
    length: u32,
}

impl Tally {
    const fn new() -> Self {
        Self { crc: Crc32::new(), length: 0 }
    }

    fn update(&mut self, plain: &[u8]) {
        self.crc.update(plain);
        #[expect(clippy::cast_possible_truncation, reason = "modulo 2^32, as RFC 1952 has it")]
        let length = plain.len() as u32;
        self.length = self.length.wrapping_add(length);
    }

    fn trailer(&self) -> [u8; 8] {
        let [a, b, c, d] = self.crc.sum().to_le_bytes();
        let [e, f, g, h] = self.length.to_le_bytes();
        [a, b, c, d, e, f, g, h]
    }
}

/// Which part of a member comes next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Head,
    ExtraLength,
    Extra(usize),
    Name,
    Comment,
    HeadCheck,
    Body,
    Trailer,
    Done,
}

/// Reads one member, pushed in parts of any length.
#[derive(Debug)]
pub(crate) struct Reader {
    step: Step,
    flags: u8,
    held: usize,
    field: [u8; 10],
    tally: Tally,
}

impl Reader {
    /// A reader; `inflater` is to be the same one until it is finished.
    pub(crate) fn new(inflater: &mut DecompressorOxide) -> Self {
        inflater.init();
        Self { step: Step::Head, flags: 0, held: 0, field: [0; 10], tally: Tally::new() }
    }

    /// Decompresses `bytes`.
    ///
    /// # Errors
    ///
    /// [`FormatError::Compression`] for what is no such member or has another
    /// checksum, and the errors of `target`; the reader is to be dropped then.
    pub(crate) fn read<T: Target>(
        &mut self,
        mut bytes: &[u8],
        inflater: &mut DecompressorOxide,
        target: &mut T,
    ) -> Result<(), CodecError<T::Error>> {
        while !bytes.is_empty() {
            match self.step {
                Step::Body => self.body(&mut bytes, inflater, target)?,
                Step::Trailer => self.trailer(&mut bytes)?,
                Step::Done => return Err(FormatError::Compression.into()),
                _ => self.header(&mut bytes)?,
            }
        }
        Ok(())
    }

    /// Checks that the member ended.
    pub(crate) fn finish(&self) -> Result<(), FormatError> {
        match self.step {
            Step::Done => Ok(()),
            _ => Err(FormatError::Truncated),
        }
    }

    fn header(&mut self, bytes: &mut &[u8]) -> Result<(), FormatError> {
        match self.step {
            Step::Head => {
                if gather(&mut self.field, &mut self.held, bytes) {
                    self.head()?;
                }
            }
            Step::ExtraLength => {
                if gather(&mut self.field[..2], &mut self.held, bytes) {
                    let length = u16::from_le_bytes([self.field[0], self.field[1]]);
                    self.go(Step::Extra(usize::from(length)));
                }
            }
            Step::Extra(left) => {
                let skipped = left.min(bytes.len());
                *bytes = &bytes[skipped..];
                self.step = Step::Extra(left - skipped);
                if skipped == left {
                    self.go_after(Step::Extra(0));
                }
            }
            Step::Name | Step::Comment => match bytes.iter().position(|&byte| byte == 0) {
                None => *bytes = &[],
                Some(end) => {
                    *bytes = &bytes[end + 1..];
                    self.go_after(self.step);
                }
            },
            Step::HeadCheck => {
                if gather(&mut self.field[..2], &mut self.held, bytes) {
                    self.go(Step::Body);
                }
            }
            Step::Body | Step::Trailer | Step::Done => {}
        }
        Ok(())
    }

    fn head(&mut self) -> Result<(), FormatError> {
        let [a, b, method, flags, ..] = self.field;
        if [a, b] != MAGIC || method != METHOD_DEFLATE || flags & FLAG_RESERVED != 0 {
            return Err(FormatError::Compression);
        }
        self.flags = flags;
        self.go_after(Step::Head);
        Ok(())
    }

    const fn go(&mut self, step: Step) {
        self.step = step;
        self.held = 0;
    }

    /// Goes on with what follows in this header.
    fn go_after(&mut self, step: Step) {
        let optional = [
            (FLAG_EXTRA, Step::ExtraLength),
            (FLAG_NAME, Step::Name),
            (FLAG_COMMENT, Step::Comment),
            (FLAG_HEADER_CHECK, Step::HeadCheck),
        ];
        let done = match step {
            Step::Extra(_) => 1,
            Step::Name => 2,
            Step::Comment => 3,
            _ => 0,
        };
        let next = optional[done..].iter().find(|(flag, _)| self.flags & flag != 0);
        self.go(next.map_or(Step::Body, |&(_, step)| step));
    }

    fn body<T: Target>(
        &mut self,
        bytes: &mut &[u8],
        inflater: &mut DecompressorOxide,
        target: &mut T,
    ) -> Result<(), CodecError<T::Error>> {
        // Not wrapping, so that a distance to before the start is an error
        // rather than what an earlier unit left in the window.
        let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF
            | TINFL_FLAG_HAS_MORE_INPUT
            | TINFL_FLAG_IGNORE_ADLER32;
        loop {
            let (buffer, position) = target.room(ROOM_BYTES, HISTORY_BYTES);
            let full = buffer.len() == position;
            let (status, taken, length) = decompress(inflater, bytes, buffer, position, flags);
            self.tally.update(&buffer[position..position + length]);
            *bytes = &bytes[taken..];
            target.commit(length)?;
            match status {
                TINFLStatus::Done => {
                    self.go(Step::Trailer);
                    return Ok(());
                }
                TINFLStatus::NeedsMoreInput => return Ok(()),
                TINFLStatus::HasMoreOutput if !full => {}
                // A full buffer hides that only input is missing: there may be
                // nothing more to put in it. If there is, the next part shows.
                TINFLStatus::HasMoreOutput if bytes.is_empty() => return Ok(()),
                TINFLStatus::HasMoreOutput => {
                    return Err(target.short_of_room(BlockSize::Kib64).into());
                }
                _ => return Err(FormatError::Compression.into()),
            }
        }
    }

    fn trailer(&mut self, bytes: &mut &[u8]) -> Result<(), FormatError> {
        if gather(&mut self.field[..8], &mut self.held, bytes) {
            if self.field[..8] != self.tally.trailer() {
                return Err(FormatError::Compression);
            }
            self.go(Step::Done);
        }
        Ok(())
    }
}

#[cfg(feature = "alloc")]
pub(crate) use write::Writer;

#[cfg(feature = "alloc")]
mod write {
    use alloc::boxed::Box;

    use miniz_oxide::DataFormat;
    use miniz_oxide::deflate::CompressionLevel;
    use miniz_oxide::deflate::core::{CompressorOxide, TDEFLFlush, TDEFLStatus, compress};

    use super::{MAGIC, METHOD_DEFLATE, Tally};

    /// No name, no time, of no system: what Go's writer makes of defaults.
    const HEADER: [u8; 10] = [MAGIC[0], MAGIC[1], METHOD_DEFLATE, 0, 0, 0, 0, 0, 0, 255];

    /// The memory of a [`Writer`], kept from unit to unit.
    pub(crate) type Deflater = Box<CompressorOxide>;

    /// A deflater, allocated.
    pub(crate) fn deflater() -> Deflater {
        let level = CompressionLevel::DefaultLevel;
        Box::new(CompressorOxide::with_format_and_level(DataFormat::Raw, level))
    }

    /// Writes one member.
    #[derive(Debug)]
    pub(crate) struct Writer {
        started: bool,
        tally: Tally,
    }

    impl Writer {
        /// A writer; `deflater` is to be the same one until it is finished.
        pub(crate) fn new(deflater: &mut CompressorOxide) -> Self {
            deflater.reset();
            Self { started: false, tally: Tally::new() }
        }

        /// Compresses `plain`, by way of `buffer`, and ends the member with
        /// the `last` part.
        pub(crate) fn write<E>(
            &mut self,
            mut plain: &[u8],
            last: bool,
            deflater: &mut CompressorOxide,
            buffer: &mut [u8],
            out: &mut impl FnMut(&[u8]) -> Result<(), E>,
        ) -> Result<(), E> {
            if !self.started {
                self.started = true;
                out(&HEADER)?;
            }
            self.tally.update(plain);
            let flush = if last { TDEFLFlush::Finish } else { TDEFLFlush::None };
            loop {
                let (status, taken, length) = compress(deflater, plain, buffer, flush);
                plain = &plain[taken..];
                if length > 0 {
                    out(&buffer[..length])?;
                }
                if status == TDEFLStatus::Done {
                    return out(&self.tally.trailer());
                }
                // Neither of the two failures can be had here: they are about
                // flushing again after the end, and about a callback.
                debug_assert_eq!(status, TDEFLStatus::Okay);
                if !last && plain.is_empty() || length == 0 && taken == 0 {
                    return Ok(());
                }
            }
        }
    }
}

#[cfg(feature = "alloc")]
pub(crate) use write::{Deflater, deflater};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_known_answer() {
        let mut crc = Crc32::new();
        crc.update(b"1234");
        crc.update(b"56789");
        assert_eq!(crc.sum(), 0xcbf4_3926);
        assert_eq!(Crc32::new().sum(), 0);
    }
}
