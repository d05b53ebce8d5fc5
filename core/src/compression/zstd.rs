//! Zstandard frames, RFC 8878, read with `ruzstd`.
//!
//! A unit is one frame or more. Their parts are gathered until a block, of
//! 128 KiB at most, is whole; the window of the decoder is bounded by
//! [`WINDOW_BYTES_MAX`]. Checksums are skipped: MACs cover the content.

use alloc::boxed::Box;
use alloc::vec::Vec;

use ruzstd::decoding::errors::FrameDecoderError;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use ruzstd::io::Read as _;

use super::Target;
use super::lz4::BlockSize;
use crate::codec::CodecError;
use crate::error::FormatError;

/// Largest window that is read, in bytes: that of stock's default level.
pub const WINDOW_BYTES_MAX: u64 = 8 << 20;

/// Largest block, in bytes, as RFC 8878 has it.
const BLOCK_BYTES_MAX: usize = 128 << 10;

const BLOCK_HEADER_BYTES: usize = 3;
const CHECKSUM_BYTES: usize = 4;
const BLOCK_RLE: u32 = 1;
const BLOCK_RESERVED: u32 = 3;

/// The memory of a [`Reader`], kept from unit to unit: the window, a block.
pub(crate) struct State {
    decoder: FrameDecoder,
    gathered: Vec<u8>,
}

impl State {
    /// A state, allocated; the window comes with the first frame.
    pub(crate) fn new() -> Box<Self> {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW_BYTES_MAX);
        Box::new(Self { decoder, gathered: Vec::new() })
    }
}

/// Which part of a frame comes next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    /// Magic number and descriptor.
    Head,
    /// A header of that length in all.
    Header(usize),
    /// The header of a block.
    BlockHeader,
    /// A block of that length, header and checksum of the frame included.
    Block(usize),
}

/// Reads the frames of a unit, pushed in parts of any length.
#[derive(Debug)]
pub(crate) struct Reader {
    step: Step,
    checksum: bool,
    /// Whether a frame has ended and no other one has begun.
    ended: bool,
}

impl Reader {
    /// A reader; `state` is to be the same one until it is finished.
    pub(crate) fn new(state: &mut State) -> Self {
        state.gathered.clear();
        Self { step: Step::Head, checksum: false, ended: false }
    }

    /// Decompresses `bytes`.
    ///
    /// # Errors
    ///
    /// [`FormatError::Compression`] for what are no such frames,
    /// [`FormatError::Bound`] for a large window, and the errors of `target`;
    /// the reader is to be dropped then.
    pub(crate) fn read<T: Target>(
        &mut self,
        mut bytes: &[u8],
        state: &mut State,
        target: &mut T,
    ) -> Result<(), CodecError<T::Error>> {
        // Not only as long as there are bytes: a last block may be empty.
        loop {
            let wanted = match self.step {
                Step::Head => 5,
                Step::Header(length) | Step::Block(length) => length,
                Step::BlockHeader => BLOCK_HEADER_BYTES,
            };
            let missing = wanted - state.gathered.len().min(wanted);
            let (part, rest) = bytes.split_at(missing.min(bytes.len()));
            state.gathered.extend_from_slice(part);
            bytes = rest;
            self.ended &= part.is_empty();
            if state.gathered.len() < wanted {
                return Ok(());
            }
            self.step(state, target)?;
        }
    }

    /// Checks that a frame ended, and no other one began.
    pub(crate) fn finish(&self) -> Result<(), FormatError> {
        if self.ended { Ok(()) } else { Err(FormatError::Truncated) }
    }

    /// Takes the part that is whole now.
    fn step<T: Target>(
        &mut self,
        state: &mut State,
        target: &mut T,
    ) -> Result<(), CodecError<T::Error>> {
        match self.step {
            Step::Head => {
                self.step = Step::Header(header_len(&state.gathered)?);
                self.checksum = state.gathered[4] & 0x04 != 0;
            }
            Step::Header(_) => {
                state.decoder.reset(&*state.gathered).map_err(frame_error)?;
                state.gathered.clear();
                self.step = Step::BlockHeader;
            }
            Step::BlockHeader => {
                let length = block_len(&state.gathered, self.checksum)?;
                self.step = Step::Block(length);
            }
            Step::Block(_) => {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                let last =
                    state.decoder.decode_blocks(&*state.gathered, one).map_err(frame_error)?;
                state.gathered.clear();
                drain(&mut state.decoder, target)?;
                self.step = if last { Step::Head } else { Step::BlockHeader };
                self.ended = last;
            }
        }
        Ok(())
    }
}

/// Length of a header, from its first five bytes.
fn header_len(head: &[u8]) -> Result<usize, FormatError> {
    let [0x28, 0xb5, 0x2f, 0xfd, descriptor, ..] = *head else {
        return Err(FormatError::Compression);
    };
    let single_segment = descriptor & 0x20 != 0;
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let content = match descriptor >> 6 {
        0 => usize::from(single_segment),
        1 => 2,
        2 => 4,
        _ => 8,
    };
    Ok(5 + usize::from(!single_segment) + dictionary + content)
}

/// Length of a block with its header, and with the checksum that follows the
/// last one if there is one.
fn block_len(header: &[u8], checksum: bool) -> Result<usize, FormatError> {
    let [a, b, c, ..] = *header else {
        return Err(FormatError::Truncated);
    };
    let word = u32::from_le_bytes([a, b, c, 0]);
    let (last, sort) = (word & 1 != 0, word >> 1 & 3);
    let size = usize::try_from(word >> 3).unwrap_or(usize::MAX);
    if sort == BLOCK_RESERVED || size > BLOCK_BYTES_MAX {
        return Err(FormatError::Compression);
    }
    let content = if sort == BLOCK_RLE { 1 } else { size };
    Ok(BLOCK_HEADER_BYTES + content + if last && checksum { CHECKSUM_BYTES } else { 0 })
}

/// Hands on what the decoder does not need any more.
fn drain<T: Target>(
    decoder: &mut FrameDecoder,
    target: &mut T,
) -> Result<(), CodecError<T::Error>> {
    while decoder.can_collect() > 0 {
        let (buffer, position) = target.room(BLOCK_BYTES_MAX, 0);
        let room = &mut buffer[position..];
        if room.is_empty() {
            return Err(target.short_of_room(BlockSize::Kib64).into());
        }
        let length = decoder.read(room).map_err(|_| FormatError::Compression)?;
        target.commit(length)?;
    }
    Ok(())
}

fn frame_error(error: FrameDecoderError) -> FormatError {
    match error {
        FrameDecoderError::WindowSizeTooBig { .. } => FormatError::Bound("window of ZSTD"),
        FrameDecoderError::DictNotProvided { .. } => FormatError::Unsupported("ZSTD dictionary"),
        _ => FormatError::Compression,
    }
}
