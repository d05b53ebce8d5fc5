//! LZ4 frames.
//!
//! ```text
//! | magic, 4 | flags | block size | content size, 0 or 8 | check |
//! | length, 4 | block | checksum, 0 or 4 |   repeated
//! | 0, 4 | content checksum, 0 or 4 |
//! ```
//!
//! Written: blocks of [`BLOCK_BYTES`], linked where there are several, no checksum, no
//! content size. Stock's reader takes that, and MACs cover the content. Linked
//! blocks compress as well as large ones and need no memory for it. Read:
//! whatever stock writes or accepts, which includes large blocks and checksums;
//! these are skipped, the MACs being the stronger check.
//!
//! Blocks are compressed by [`block`], and decompressed by `lz4_flex`.

use core::mem;

use lz4_flex::block::{DecompressError, decompress_into, decompress_into_with_dict};

use super::{Target, gather};
use crate::codec::CodecError;
use crate::error::FormatError;
use crate::limits::bound;

mod block;

use block::Compressor;
pub(crate) use block::{TABLES_BYTES_MAX, TABLES_BYTES_MIN};

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

/// Header of a frame of one block of 64 KiB at most: version 1, independent
/// blocks, nothing else. The last byte is the second one of the XXH32 of the two
/// before.
const HEADER_OF_ONE: [u8; HEADER_BYTES] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];

/// Header of a frame of several such blocks, which are linked.
const HEADER_OF_SEVERAL: [u8; HEADER_BYTES] = [0x04, 0x22, 0x4d, 0x18, 0x40, 0x40, 0xc0];

const FLAG_VERSION_MASK: u8 = 0xc0;
const FLAG_VERSION: u8 = 0x40;
const FLAG_INDEPENDENT: u8 = 0x20;
const FLAG_BLOCK_CHECKSUM: u8 = 0x10;
const FLAG_CONTENT_SIZE: u8 = 0x08;
const FLAG_CONTENT_CHECKSUM: u8 = 0x04;
const FLAG_RESERVED: u8 = 0x02;
const FLAG_DICTIONARY: u8 = 0x01;

/// Bit of a block's length that says the block is stored, not compressed.
const STORED: u32 = 1 << 31;

/// Length of the header of frames that are written, in bytes.
pub const HEADER_BYTES: usize = 7;

/// Length of the end mark, and of the length of a block, in bytes.
pub const MARK_BYTES: usize = 4;

/// How far back a block may refer, in bytes.
pub const HISTORY_BYTES: usize = 65_536;

/// Most bytes of a block that is written.
pub const BLOCK_BYTES: usize = bound(BlockSize::Kib64.bytes(), 4096);

/// Length of the buffer in which [`FrameWriter`] packs blocks, in bytes: a block
/// that does not become smaller goes out as it is.
pub(crate) const PACKED_BYTES: usize = HEADER_BYTES + MARK_BYTES + BLOCK_BYTES + MARK_BYTES;

/// The most that a block of a frame holds. There are four such sizes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum BlockSize {
    /// 64 KiB.
    Kib64,
    /// 256 KiB.
    Kib256,
    /// 1 MiB.
    Mib1,
    /// 4 MiB, which stock writes.
    Mib4,
}

impl BlockSize {
    /// All sizes, smallest first.
    pub const ALL: [Self; 4] = [Self::Kib64, Self::Kib256, Self::Mib1, Self::Mib4];

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Kib64 => 64 << 10,
            Self::Kib256 => 256 << 10,
            Self::Mib1 => 1 << 20,
            Self::Mib4 => 4 << 20,
        }
    }

    /// Third byte from the end of a header.
    const fn descriptor(self) -> u8 {
        match self {
            Self::Kib64 => 0x40,
            Self::Kib256 => 0x50,
            Self::Mib1 => 0x60,
            Self::Mib4 => 0x70,
        }
    }

    fn from_descriptor(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|size| size.descriptor() == byte)
    }
}

/// Most bytes that a frame takes for `plain_bytes`; saturates.
#[must_use]
pub const fn frame_len_max(plain_bytes: u64) -> u64 {
    let blocks = plain_bytes.div_ceil(BLOCK_BYTES as u64);
    plain_bytes
        .saturating_add(blocks.saturating_mul(MARK_BYTES as u64))
        .saturating_add((HEADER_BYTES + MARK_BYTES) as u64)
}

/// Writes one frame, block by block.
///
/// Each block but the last has [`BLOCK_BYTES`]; a short first block is never
/// written when there are several: stock needs 32 bytes of the first one of a
/// state (trap 28 of the format).
#[derive(Debug)]
pub(crate) struct FrameWriter<'a> {
    /// Scratch of the compressor, until there is one.
    tables: &'a mut [u8],
    /// There is one as soon as the first block is there.
    compressor: Option<Compressor<'a>>,
    /// A block compressed, and what is before and behind it.
    packed: &'a mut [u8],
}

impl<'a> FrameWriter<'a> {
    /// A frame. `tables` is scratch of [`TABLES_BYTES_MIN`] at least, `packed`
    /// of [`PACKED_BYTES`].
    pub(crate) fn new(tables: &'a mut [u8], packed: &'a mut [u8]) -> Self {
        Self { tables, compressor: None, packed }
    }

    /// Writes the block that starts at `start` of `window` and ends with it,
    /// and the end of the frame with the `last` one, which may be empty. Before
    /// the block is the content of the frame so far: all of it, or the last
    /// [`HISTORY_BYTES`].
    ///
    /// A frame of one compressed block goes out at once; otherwise what stays
    /// as it is goes out from where it is.
    ///
    /// # Errors
    ///
    /// Those of `out`; the frame is to be dropped then.
    pub(crate) fn write<E>(
        &mut self,
        window: &[u8],
        start: usize,
        last: bool,
        out: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let plain = &window[start..];
        let from = if self.compressor.is_some() { HEADER_BYTES } else { 0 };
        let compressor = self.compressor.get_or_insert_with(|| {
            let header = if last { HEADER_OF_ONE } else { HEADER_OF_SEVERAL };
            self.packed[..HEADER_BYTES].copy_from_slice(&header);
            Compressor::new(mem::take(&mut self.tables), plain.len())
        });
        let data = HEADER_BYTES + MARK_BYTES;
        let mut end = HEADER_BYTES;
        if !plain.is_empty() {
            // What does not become smaller is to be stored.
            let room = &mut self.packed[data..data + plain.len() - 1];
            let length = compressor.compress(window, start, room);
            let mark = length.map_or(length_word(plain.len()) | STORED, length_word);
            self.packed[HEADER_BYTES..data].copy_from_slice(&mark.to_le_bytes());
            end = data + length.unwrap_or(0);
            if length.is_none() {
                out(&self.packed[from..end])?;
                out(plain)?;
                return if last { out(&[0; MARK_BYTES]) } else { Ok(()) };
            }
        }
        if last {
            self.packed[end..end + MARK_BYTES].fill(0);
            end += MARK_BYTES;
        }
        out(&self.packed[from..end])
    }
}

/// A length as it is written.
fn length_word(length: usize) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "blocks have 64 KiB at most")]
    let word = length as u32;
    word
}

/// Which part of a frame comes next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    /// Magic number, flags and block size.
    Head,
    /// Content size, when there is one, and the check of the header.
    HeadRest,
    /// Length of a block, or the end mark.
    Length,
    /// A compressed block of that length.
    Block(usize),
    /// A stored block, of which so much is left.
    Stored(usize),
    /// Checksum of a block.
    BlockChecksum,
    /// Checksum of the content.
    ContentChecksum,
    /// Nothing.
    Done,
}

/// Reads one frame, pushed in parts of any length.
///
/// Neither the check of the header nor the checksums of blocks and content
/// are compared: MACs cover what is read here.
#[derive(Debug)]
pub(crate) struct FrameReader {
    step: Step,
    flags: u8,
    block: BlockSize,
    /// Length of the part of `field`, or of the gathered block, that is there.
    held: usize,
    field: [u8; 9],
}

impl FrameReader {
    pub(crate) const fn new() -> Self {
        Self { step: Step::Head, flags: 0, block: BlockSize::Mib4, held: 0, field: [0; 9] }
    }

    /// Decompresses `bytes`. A block that comes in parts is gathered in
    /// `input`; one that comes whole is read from where it is.
    ///
    /// # Errors
    ///
    /// [`FormatError::Compression`] for what is no such frame,
    /// [`FormatError::Unsupported`] for one that needs a dictionary, and the
    /// errors of `target`; the reader is to be dropped then.
    pub(crate) fn read<T: Target>(
        &mut self,
        mut bytes: &[u8],
        input: &mut [u8],
        target: &mut T,
    ) -> Result<(), CodecError<T::Error>> {
        while !bytes.is_empty() {
            match self.step {
                Step::Head => self.head(&mut bytes)?,
                Step::HeadRest => {
                    let length = if self.flags & FLAG_CONTENT_SIZE == 0 { 1 } else { 9 };
                    self.skip(&mut bytes, length, Step::Length);
                }
                Step::Length => self.length(&mut bytes)?,
                Step::Block(length) => self.block(&mut bytes, length, input, target)?,
                Step::Stored(left) => self.stored(&mut bytes, left, target)?,
                Step::BlockChecksum => self.skip(&mut bytes, 4, Step::Length),
                Step::ContentChecksum => self.skip(&mut bytes, 4, Step::Done),
                Step::Done => return Err(FormatError::Compression.into()),
            }
        }
        Ok(())
    }

    /// Checks that the frame ended.
    pub(crate) fn finish(&self) -> Result<(), FormatError> {
        match self.step {
            Step::Done => Ok(()),
            _ => Err(FormatError::Truncated),
        }
    }

    /// Drops a field of `length` bytes, then goes on with `next`.
    fn skip(&mut self, bytes: &mut &[u8], length: usize, next: Step) {
        if gather(&mut self.field[..length], &mut self.held, bytes) {
            self.held = 0;
            self.step = next;
        }
    }

    fn head(&mut self, bytes: &mut &[u8]) -> Result<(), FormatError> {
        if !gather(&mut self.field[..6], &mut self.held, bytes) {
            return Ok(());
        }
        self.held = 0;
        let [a, b, c, d, flags, descriptor, ..] = self.field;
        if [a, b, c, d] != MAGIC
            || flags & FLAG_VERSION_MASK != FLAG_VERSION
            || flags & FLAG_RESERVED != 0
        {
            return Err(FormatError::Compression);
        }
        if flags & FLAG_DICTIONARY != 0 {
            return Err(FormatError::Unsupported("LZ4 dictionary"));
        }
        self.flags = flags;
        self.block = BlockSize::from_descriptor(descriptor).ok_or(FormatError::Compression)?;
        self.step = Step::HeadRest;
        Ok(())
    }

    fn length(&mut self, bytes: &mut &[u8]) -> Result<(), FormatError> {
        if !gather(&mut self.field[..MARK_BYTES], &mut self.held, bytes) {
            return Ok(());
        }
        self.held = 0;
        let [a, b, c, d, ..] = self.field;
        let mark = u32::from_le_bytes([a, b, c, d]);
        let length = usize::try_from(mark & !STORED).unwrap_or(usize::MAX);
        if length > self.block.bytes() {
            return Err(FormatError::Compression);
        }
        if mark == 0 {
            let more = self.flags & FLAG_CONTENT_CHECKSUM != 0;
            self.step = if more { Step::ContentChecksum } else { Step::Done };
        } else if length == 0 {
            self.after_block();
        } else if mark & STORED != 0 {
            self.step = Step::Stored(length);
        } else {
            self.step = Step::Block(length);
        }
        Ok(())
    }

    const fn after_block(&mut self) {
        let more = self.flags & FLAG_BLOCK_CHECKSUM != 0;
        self.step = if more { Step::BlockChecksum } else { Step::Length };
        self.held = 0;
    }

    /// Decompresses a block, once it is there.
    fn block<T: Target>(
        &mut self,
        bytes: &mut &[u8],
        length: usize,
        input: &mut [u8],
        target: &mut T,
    ) -> Result<(), CodecError<T::Error>> {
        if self.held == 0
            && let Some((block, rest)) = bytes.split_at_checked(length)
        {
            *bytes = rest;
            self.decompress(block, target)?;
            self.after_block();
            return Ok(());
        }
        let input = input.get_mut(..length).ok_or_else(|| target.short_of_scratch(self.block))?;
        if gather(input, &mut self.held, bytes) {
            self.decompress(input, target)?;
            self.after_block();
        }
        Ok(())
    }

    fn stored<T: Target>(
        &mut self,
        bytes: &mut &[u8],
        left: usize,
        target: &mut T,
    ) -> Result<(), CodecError<T::Error>> {
        let (part, rest) = bytes.split_at(left.min(bytes.len()));
        target.put(part, self.history())?;
        *bytes = rest;
        if part.len() == left {
            self.after_block();
        } else {
            self.step = Step::Stored(left - part.len());
        }
        Ok(())
    }

    /// How much of the plaintext a block may refer to, in bytes.
    const fn history(&self) -> usize {
        if self.flags & FLAG_INDEPENDENT == 0 { HISTORY_BYTES } else { 0 }
    }

    fn decompress<T: Target>(
        &self,
        block: &[u8],
        target: &mut T,
    ) -> Result<(), CodecError<T::Error>> {
        let (buffer, position) = target.room(self.block.bytes(), self.history());
        let (before, room) = buffer.split_at_mut(position);
        let room_bytes = room.len().min(self.block.bytes());
        let room = &mut room[..room_bytes];
        let decompressed = if self.flags & FLAG_INDEPENDENT == 0 {
            let start = before.len().saturating_sub(HISTORY_BYTES);
            decompress_into_with_dict(block, room, &before[start..])
        } else {
            decompress_into(block, room)
        };
        match decompressed {
            Ok(length) => target.commit(length),
            // More than the frame allows, or only more than there is room for?
            Err(DecompressError::OutputTooSmall { .. }) if room_bytes < self.block.bytes() => {
                Err(target.short_of_room(self.block).into())
            }
            Err(_) => Err(FormatError::Compression.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// XXH32 of less than four bytes, with seed 0.
    fn xxh32(bytes: &[u8]) -> u32 {
        assert!(bytes.len() < 4);
        let mut hash = 374_761_393_u32.wrapping_add(u32::try_from(bytes.len()).unwrap());
        for &byte in bytes {
            hash = hash.wrapping_add(u32::from(byte).wrapping_mul(374_761_393));
            hash = hash.rotate_left(11).wrapping_mul(2_654_435_761);
        }
        hash = (hash ^ hash >> 15).wrapping_mul(2_246_822_519);
        hash = (hash ^ hash >> 13).wrapping_mul(3_266_489_917);
        hash ^ hash >> 16
    }

    #[test]
    fn checks_of_headers() {
        // That of stock's header, and the hash of nothing.
        assert_eq!(xxh32(&[0x64, 0x70]).to_le_bytes()[1], 0xb9);
        assert_eq!(xxh32(&[]), 0x02cc_5d05);
        for header in [HEADER_OF_ONE, HEADER_OF_SEVERAL] {
            assert_eq!(header[..4], MAGIC);
            assert_eq!(header[6], xxh32(&header[4..6]).to_le_bytes()[1]);
        }
    }

    #[test]
    fn sizes() {
        for block in BlockSize::ALL {
            assert_eq!(BlockSize::from_descriptor(block.descriptor()), Some(block));
        }
    }
}
