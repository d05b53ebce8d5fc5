//! Units encoded and decoded: compressed, then sealed, and back.
//!
//! A unit is what section 2.2 of the format calls one: a blob, the index of a
//! packfile, a state. [`Encoder`] and [`Decoder`] take and give bytes in parts
//! of any length; [`CollectDecoder`] puts a unit that fits in memory where the
//! caller wants it. All of them work in memory that is lent once and serves
//! any number of units, and touch of it only what a unit needs.
//!
//! A unit decodes before its MAC can be compared: until then, what was decoded
//! is to be taken for anything at all, and may be cut short where a piece ends.

use core::convert::Infallible;
use core::error::Error as StdError;
use core::fmt;
use core::marker::PhantomData;

#[cfg(not(feature = "small"))]
use miniz_oxide::inflate::core::DecompressorOxide;
use zeroize::Zeroizing;

use crate::compression::lz4::{self, BlockSize, FrameReader, FrameWriter};
use crate::compression::{Compression, Target, gather, gzip};
use crate::crypto::seal::{NONCE_BYTES, PieceSealer, SEALED_PIECE_BYTES, sealed_len};
use crate::crypto::wrap::{WRAPPED_KEY_BYTES, unwrap, wrap};
use crate::crypto::{KEY_BYTES, StoreKey, Suite};
use crate::error::FormatError;
use crate::limits::PIECE_BYTES;

#[cfg(feature = "alloc")]
use crate::compression::zstd;
#[cfg(feature = "alloc")]
use alloc::boxed::Box;

/// How the units of a store are encoded.
#[derive(Clone, Debug, Default)]
pub struct Codec {
    /// How they are compressed.
    pub compression: Compression,
    /// The key and the cipher they are sealed with, none in a plaintext store.
    pub cipher: Option<(StoreKey, Suite)>,
}

/// Most bytes that a unit of `plain_bytes` takes encoded, however; saturates.
#[must_use]
pub const fn encoded_len_max(plain_bytes: u64) -> u64 {
    let (lz4, gzip) = (lz4::frame_len_max(plain_bytes), gzip::member_len_max(plain_bytes));
    sealed_len(if lz4 > gzip { lz4 } else { gzip })
}

impl Codec {
    /// Most bytes that a unit of `plain_bytes` takes encoded; saturates. What
    /// compression makes larger is counted, not what it makes smaller.
    #[must_use]
    pub const fn encoded_len_max(&self, plain_bytes: u64) -> u64 {
        let packed = match self.compression {
            Compression::None => plain_bytes,
            Compression::Lz4 => lz4::frame_len_max(plain_bytes),
            Compression::Gzip | Compression::Zstd => gzip::member_len_max(plain_bytes),
        };
        match self.cipher {
            None => packed,
            Some(_) => sealed_len(packed),
        }
    }
}

/// What went wrong with a unit: its bytes, or where they were to go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CodecError<E> {
    /// The bytes, or the memory that was lent, cannot be used.
    Format(FormatError),
    /// The sink failed.
    Sink(E),
}

impl<E> From<FormatError> for CodecError<E> {
    fn from(error: FormatError) -> Self {
        Self::Format(error)
    }
}

impl<E> fmt::Display for CodecError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(_) => f.write_str("unit cannot be decoded"),
            Self::Sink(_) => f.write_str("input or output failed"),
        }
    }
}

impl<E: StdError + 'static> StdError for CodecError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Format(error) => Some(error),
            Self::Sink(error) => Some(error),
        }
    }
}

/// Least memory for encoding, in bytes.
pub const ENCODE_SCRATCH_BYTES_MIN: usize = ENCODE_BUFFER_BYTES + lz4::TABLES_BYTES_MIN;

/// Memory for encoding, in bytes, in which the tables of the compressor are as
/// large as is of use; more is not touched.
pub const ENCODE_SCRATCH_BYTES: usize = ENCODE_BUFFER_BYTES + lz4::TABLES_BYTES_MAX;

/// What is needed for encoding beside the tables.
const ENCODE_BUFFER_BYTES: usize = GATHER_BYTES + lz4::PACKED_BYTES + OUTLET_BYTES;

/// A block waits behind the one before, to which it may refer.
const GATHER_BYTES: usize = 2 * lz4::BLOCK_BYTES;

/// The first piece waits behind its wrapped key.
const OUTLET_BYTES: usize = WRAPPED_KEY_BYTES + SEALED_PIECE_BYTES;

/// Memory lent for encoding, one unit after the other.
pub struct EncodeScratch<'m> {
    /// A block of plaintext, as it is gathered, and the one before.
    gather: &'m mut [u8],
    /// A block compressed.
    packed: &'m mut [u8],
    /// Tables of the compressor.
    tables: &'m mut [u8],
    /// A wrapped key and a piece.
    outlet: &'m mut [u8],
    #[cfg(feature = "alloc")]
    deflater: Option<gzip::Deflater>,
}

impl<'m> EncodeScratch<'m> {
    /// Divides `memory`: the more there is, up to [`ENCODE_SCRATCH_BYTES`], the
    /// better is what it compresses to.
    ///
    /// # Errors
    ///
    /// [`FormatError::Scratch`] below [`ENCODE_SCRATCH_BYTES_MIN`].
    pub fn new(memory: &'m mut [u8]) -> Result<Self, FormatError> {
        let lent_bytes = memory.len();
        if lent_bytes < ENCODE_SCRATCH_BYTES_MIN {
            let needed_bytes = ENCODE_SCRATCH_BYTES_MIN;
            return Err(FormatError::Scratch { needed_bytes, lent_bytes });
        }
        let (gather, rest) = memory.split_at_mut(GATHER_BYTES);
        let (packed, rest) = rest.split_at_mut(lz4::PACKED_BYTES);
        let (outlet, tables) = rest.split_at_mut(OUTLET_BYTES);
        Ok(Self {
            gather,
            packed,
            tables,
            outlet,
            #[cfg(feature = "alloc")]
            deflater: None,
        })
    }
}

impl fmt::Debug for EncodeScratch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncodeScratch")
            .field("tables_bytes", &self.tables.len())
            .finish_non_exhaustive()
    }
}

/// Encodes one unit.
///
/// `R` fills a slice with random bytes, which have to be fit for keys; `O`
/// takes the encoded bytes in order. Both fail with an error of the caller's,
/// after which the encoder is to be dropped.
pub struct Encoder<'a, R, O> {
    packer: Packer<'a>,
    outlet: Outlet<'a, R, O>,
}

/// The compressing half of an [`Encoder`].
enum Packer<'a> {
    None,
    Lz4 {
        frame: FrameWriter<'a>,
        gatherer: Gatherer<'a>,
    },
    #[cfg(feature = "alloc")]
    Gzip {
        writer: gzip::Writer,
        deflater: &'a mut gzip::Deflater,
        packed: &'a mut [u8],
    },
}

impl<'a, E, R, O> Encoder<'a, R, O>
where
    R: FnMut(&mut [u8]) -> Result<(), E>,
    O: FnMut(&[u8]) -> Result<(), E>,
{
    /// An encoder of one unit. Nothing is drawn from `random` nor given to
    /// `out` yet.
    ///
    /// # Errors
    ///
    /// [`FormatError::Unsupported`] when units cannot be written with that
    /// compression: ZSTD, and GZIP without the feature `alloc`.
    pub fn new(
        codec: &'a Codec,
        scratch: &'a mut EncodeScratch<'_>,
        random: R,
        out: O,
    ) -> Result<Self, FormatError> {
        let packer = match codec.compression {
            Compression::None => Packer::None,
            Compression::Lz4 => Packer::Lz4 {
                frame: FrameWriter::new(scratch.tables, scratch.packed),
                gatherer: Gatherer { buffer: scratch.gather, start: 0, gathered: 0 },
            },
            #[cfg(feature = "alloc")]
            Compression::Gzip => {
                let deflater = scratch.deflater.get_or_insert_with(gzip::deflater);
                let writer = gzip::Writer::new(deflater);
                Packer::Gzip { writer, deflater, packed: scratch.packed }
            }
            #[cfg(not(feature = "alloc"))]
            Compression::Gzip => return Err(FormatError::Unsupported("compression to write")),
            Compression::Zstd => return Err(FormatError::Unsupported("compression to write")),
        };
        let cipher = codec.cipher.as_ref();
        let outlet = Outlet::new(cipher, scratch.outlet, random, out);
        Ok(Self { packer, outlet })
    }

    /// Encodes some more plaintext.
    ///
    /// # Errors
    ///
    /// Those of the two closures.
    pub fn write(&mut self, plain: &[u8]) -> Result<(), E> {
        let outlet = &mut self.outlet;
        match &mut self.packer {
            Packer::None => outlet.put(plain),
            Packer::Lz4 { frame, gatherer } => {
                let mut plain = plain;
                while !plain.is_empty() {
                    // The last block is known for the last by what comes next.
                    if gatherer.gathered == lz4::BLOCK_BYTES {
                        let (window, start) = gatherer.window();
                        frame.write(window, start, false, &mut |bytes| outlet.put(bytes))?;
                        gatherer.next();
                    }
                    gatherer.take(&mut plain);
                }
                Ok(())
            }
            #[cfg(feature = "alloc")]
            Packer::Gzip { writer, deflater, packed } => {
                writer.write(plain, false, deflater, packed, &mut |bytes| outlet.put(bytes))
            }
        }
    }

    /// Ends the unit, and gives its encoded length in bytes.
    ///
    /// # Errors
    ///
    /// Those of the two closures.
    pub fn finish(self) -> Result<u64, E> {
        self.finish_with(&[])
    }

    /// Encodes the last of the plaintext, or all of it, and ends the unit:
    /// what [`write`](Self::write) and [`finish`](Self::finish) do, without a
    /// copy when it is all.
    ///
    /// # Errors
    ///
    /// Those of the two closures.
    pub fn finish_with(mut self, plain: &[u8]) -> Result<u64, E> {
        let gathered = match &self.packer {
            Packer::Lz4 { gatherer, .. } => gatherer.gathered,
            _ => 0,
        };
        let last = if gathered > 0 {
            self.write(plain)?;
            &[]
        } else {
            plain
        };
        let outlet = &mut self.outlet;
        match &mut self.packer {
            Packer::None => outlet.put(last)?,
            Packer::Lz4 { frame, gatherer } => {
                let mut put = |bytes: &[u8]| outlet.put(bytes);
                if gathered > 0 {
                    let (window, start) = gatherer.window();
                    frame.write(window, start, true, &mut put)?;
                } else {
                    whole(frame, last, &mut put)?;
                }
            }
            #[cfg(feature = "alloc")]
            Packer::Gzip { writer, deflater, packed } => {
                writer.write(last, true, deflater, packed, &mut |bytes| outlet.put(bytes))?;
            }
        }
        self.outlet.finish()
    }
}

/// A block of LZ4 as it is gathered.
struct Gatherer<'a> {
    /// The block before, once there is one, and the block.
    buffer: &'a mut [u8],
    /// Where the block starts.
    start: usize,
    /// How much of it is there, in bytes.
    gathered: usize,
}

impl Gatherer<'_> {
    /// The block so far with the one before, and where it starts.
    fn window(&self) -> (&[u8], usize) {
        (&self.buffer[..self.start + self.gathered], self.start)
    }

    /// Takes what still belongs to the block.
    fn take(&mut self, plain: &mut &[u8]) {
        let block = &mut self.buffer[self.start..self.start + lz4::BLOCK_BYTES];
        gather(block, &mut self.gathered, plain);
    }

    /// Begins the next block.
    fn next(&mut self) {
        if self.start > 0 {
            self.buffer.copy_within(lz4::BLOCK_BYTES.., 0);
        }
        self.start = lz4::BLOCK_BYTES;
        self.gathered = 0;
    }
}

/// Writes a frame of what is all there, from where it is.
fn whole<E>(
    frame: &mut FrameWriter<'_>,
    plain: &[u8],
    out: &mut impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut start = 0;
    while plain.len() - start > lz4::BLOCK_BYTES {
        let end = start + lz4::BLOCK_BYTES;
        frame.write(&plain[..end], start, false, out)?;
        start = end;
    }
    frame.write(plain, start, true, out)
}

impl<R, O> fmt::Debug for Encoder<'_, R, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("length_bytes", &self.outlet.length).finish_non_exhaustive()
    }
}

/// The sealing half of an [`Encoder`], or only the way out.
struct Outlet<'a, R, O> {
    cipher: Option<&'a (StoreKey, Suite)>,
    /// There is one as soon as the key of the unit is drawn.
    sealer: Option<PieceSealer>,
    /// The wrapped key, the nonce of the next piece, and its plaintext.
    buffer: &'a mut [u8],
    /// Plaintext bytes of the piece.
    held: usize,
    /// Whether the wrapped key has been given out.
    opened: bool,
    /// Bytes given out.
    length: u64,
    random: R,
    out: O,
}

/// Where the plaintext of a piece lies in the buffer of an [`Outlet`].
const TEXT: usize = WRAPPED_KEY_BYTES + NONCE_BYTES;

impl<'a, R, O> Outlet<'a, R, O> {
    fn new(cipher: Option<&'a (StoreKey, Suite)>, buffer: &'a mut [u8], random: R, out: O) -> Self {
        Self { cipher, sealer: None, buffer, held: 0, opened: false, length: 0, random, out }
    }
}

impl<E, R, O> Outlet<'_, R, O>
where
    R: FnMut(&mut [u8]) -> Result<(), E>,
    O: FnMut(&[u8]) -> Result<(), E>,
{
    fn put(&mut self, mut bytes: &[u8]) -> Result<(), E> {
        let Some((key, suite)) = self.cipher else {
            self.length += bytes.len() as u64;
            return if bytes.is_empty() { Ok(()) } else { (self.out)(bytes) };
        };
        if self.sealer.is_none() {
            self.sealer = Some(self.draw_key(key, *suite)?);
        }
        while !bytes.is_empty() {
            if gather(&mut self.buffer[TEXT..TEXT + PIECE_BYTES], &mut self.held, &mut bytes) {
                self.seal()?;
            }
        }
        Ok(())
    }

    /// Draws the key of the unit, and the first nonce with it.
    fn draw_key(&mut self, key: &StoreKey, suite: Suite) -> Result<PieceSealer, E> {
        let mut drawn = Zeroizing::new([0; KEY_BYTES + NONCE_BYTES]);
        (self.random)(&mut *drawn)?;
        let mut subkey = Zeroizing::new([0; KEY_BYTES]);
        subkey.copy_from_slice(&drawn[..KEY_BYTES]);
        self.buffer[..WRAPPED_KEY_BYTES].copy_from_slice(&wrap(key, &subkey));
        self.buffer[WRAPPED_KEY_BYTES..TEXT].copy_from_slice(&drawn[KEY_BYTES..]);
        Ok(PieceSealer::new(suite, &subkey))
    }

    /// Seals what is held, and gives it out, behind the wrapped key if that is
    /// still here.
    fn seal(&mut self) -> Result<(), E> {
        let Some(sealer) = &self.sealer else { return Ok(()) };
        let mut nonce = [0; NONCE_BYTES];
        let mut start = 0;
        if self.opened {
            start = WRAPPED_KEY_BYTES;
            (self.random)(&mut nonce)?;
        } else {
            nonce.copy_from_slice(&self.buffer[WRAPPED_KEY_BYTES..TEXT]);
        }
        let piece = &mut self.buffer[WRAPPED_KEY_BYTES..];
        let end = WRAPPED_KEY_BYTES + sealer.seal_in_place(&nonce, piece, self.held);
        self.held = 0;
        self.give(start, end)
    }

    fn give(&mut self, start: usize, end: usize) -> Result<(), E> {
        self.opened = true;
        self.length += (end - start) as u64;
        (self.out)(&self.buffer[start..end])
    }

    fn finish(mut self) -> Result<u64, E> {
        if self.cipher.is_some() {
            // Nothing was put of an empty unit that is not compressed.
            self.put(&[])?;
            if self.held > 0 {
                self.seal()?;
            } else if !self.opened {
                self.give(0, WRAPPED_KEY_BYTES)?;
            }
        }
        Ok(self.length)
    }
}

/// Memory for decoding with [`Decoder`] whatever is made of LZ4 blocks of that
/// size, in bytes: a sealed piece, a compressed block, its plaintext, and the
/// history that it may refer to.
#[must_use]
pub const fn decode_scratch_bytes(block: BlockSize) -> usize {
    SEALED_PIECE_BYTES + 2 * block.bytes() + lz4::HISTORY_BYTES
}

/// Memory for decoding with [`CollectDecoder`] whatever is made of LZ4 blocks
/// of that size, in bytes: a sealed piece, and a compressed block.
#[must_use]
pub const fn collect_scratch_bytes(block: BlockSize) -> usize {
    SEALED_PIECE_BYTES + block.bytes()
}

/// Least memory for [`Decoder`], in bytes: for blocks of 64 KiB.
pub const DECODE_SCRATCH_BYTES_MIN: usize = decode_scratch_bytes(BlockSize::Kib64);

/// Memory for [`Decoder`] to read what stock writes, in bytes.
pub const DECODE_SCRATCH_BYTES_STOCK: usize = decode_scratch_bytes(BlockSize::Mib4);

/// Least memory for [`CollectDecoder`], in bytes: for blocks of 64 KiB.
pub const COLLECT_SCRATCH_BYTES_MIN: usize = collect_scratch_bytes(BlockSize::Kib64);

/// Memory for [`CollectDecoder`] to read what stock writes, in bytes.
pub const COLLECT_SCRATCH_BYTES_STOCK: usize = collect_scratch_bytes(BlockSize::Mib4);

/// Memory lent for decoding, one unit after the other.
///
/// It has about 11 KiB itself, for GZIP: better not moved about. With the feature
/// `small` it has not, and GZIP is not read.
pub struct DecodeScratch<'m> {
    /// A sealed piece.
    piece: &'m mut [u8],
    /// A compressed block, and plaintext.
    memory: &'m mut [u8],
    #[cfg(not(feature = "small"))]
    inflater: DecompressorOxide,
    #[cfg(feature = "alloc")]
    zstd: Option<Box<zstd::State>>,
}

impl<'m> DecodeScratch<'m> {
    /// Divides `memory`. What it is enough for is said by
    /// [`decode_scratch_bytes`] and [`collect_scratch_bytes`]; with less, units
    /// decode as long as their blocks happen to be small.
    ///
    /// # Errors
    ///
    /// [`FormatError::Scratch`] below [`COLLECT_SCRATCH_BYTES_MIN`].
    pub fn new(memory: &'m mut [u8]) -> Result<Self, FormatError> {
        enough(memory.len(), COLLECT_SCRATCH_BYTES_MIN)?;
        let (piece, memory) = memory.split_at_mut(SEALED_PIECE_BYTES);
        Ok(Self {
            piece,
            memory,
            #[cfg(not(feature = "small"))]
            inflater: DecompressorOxide::new(),
            #[cfg(feature = "alloc")]
            zstd: None,
        })
    }

    /// No memory, for what only writes: decoding anything is
    /// [`FormatError::Scratch`].
    #[must_use]
    pub fn none() -> Self {
        Self {
            piece: &mut [],
            memory: &mut [],
            #[cfg(not(feature = "small"))]
            inflater: DecompressorOxide::new(),
            #[cfg(feature = "alloc")]
            zstd: None,
        }
    }

    fn machines(&mut self) -> (&mut [u8], &mut [u8], Machines<'_>) {
        let machines = Machines {
            #[cfg(not(feature = "small"))]
            inflater: &mut self.inflater,
            #[cfg(feature = "alloc")]
            zstd: &mut self.zstd,
            lent: PhantomData,
        };
        (self.piece, self.memory, machines)
    }

    const fn lent_bytes(&self) -> usize {
        self.piece.len() + self.memory.len()
    }

    /// A scratch over `memory`, if that is larger than this one.
    pub(crate) fn larger<'w>(&self, memory: &'w mut [u8]) -> Option<DecodeScratch<'w>> {
        if memory.len() > self.lent_bytes() { DecodeScratch::new(memory).ok() } else { None }
    }
}

impl fmt::Debug for DecodeScratch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodeScratch")
            .field("lent_bytes", &self.lent_bytes())
            .finish_non_exhaustive()
    }
}

const fn enough(lent_bytes: usize, needed_bytes: usize) -> Result<(), FormatError> {
    if lent_bytes < needed_bytes {
        return Err(FormatError::Scratch { needed_bytes, lent_bytes });
    }
    Ok(())
}

/// The opening and decompressing that both decoders do.
struct Layers<'a> {
    opener: Opener<'a>,
    unpacker: Unpacker<'a>,
}

/// The opening half of a decoder.
struct Opener<'a> {
    cipher: Option<&'a (StoreKey, Suite)>,
    /// There is one as soon as the key of the unit was read.
    sealer: Option<PieceSealer>,
    /// The wrapped key first, then piece after piece, and how much is there.
    piece: &'a mut [u8],
    held: usize,
}

/// The decompressing half of a decoder.
enum Unpacker<'a> {
    None,
    Lz4 {
        frame: FrameReader,
        /// A compressed block, as it is gathered.
        input: &'a mut [u8],
    },
    #[cfg(not(feature = "small"))]
    Gzip {
        reader: gzip::Reader,
        inflater: &'a mut DecompressorOxide,
    },
    #[cfg(feature = "alloc")]
    Zstd {
        reader: zstd::Reader,
        state: &'a mut zstd::State,
    },
}

/// The parts of a [`DecodeScratch`] that decompressors keep their state in.
struct Machines<'a> {
    #[cfg(not(feature = "small"))]
    inflater: &'a mut DecompressorOxide,
    #[cfg(feature = "alloc")]
    zstd: &'a mut Option<Box<zstd::State>>,
    /// There may be none of them.
    lent: PhantomData<&'a mut ()>,
}

impl<'a> Unpacker<'a> {
    #[cfg_attr(
        all(feature = "small", not(feature = "alloc")),
        expect(unused_variables, reason = "what is read then keeps its state elsewhere")
    )]
    fn new(
        compression: Compression,
        input: &'a mut [u8],
        machines: Machines<'a>,
    ) -> Result<Self, FormatError> {
        Ok(match compression {
            Compression::None => Self::None,
            Compression::Lz4 => Self::Lz4 { frame: FrameReader::new(), input },
            #[cfg(not(feature = "small"))]
            Compression::Gzip => {
                let inflater = machines.inflater;
                Self::Gzip { reader: gzip::Reader::new(inflater), inflater }
            }
            #[cfg(feature = "alloc")]
            Compression::Zstd => {
                let state = machines.zstd.get_or_insert_with(zstd::State::new);
                Self::Zstd { reader: zstd::Reader::new(state), state }
            }
            #[cfg(feature = "small")]
            Compression::Gzip => return Err(FormatError::Unsupported("compression")),
            #[cfg(not(feature = "alloc"))]
            Compression::Zstd => return Err(FormatError::Unsupported("compression")),
        })
    }

    fn read<T: Target>(
        &mut self,
        bytes: &[u8],
        target: &mut T,
    ) -> Result<(), CodecError<T::Error>> {
        match self {
            Self::None if bytes.is_empty() => Ok(()),
            Self::None => target.put(bytes, 0),
            Self::Lz4 { frame, input } => frame.read(bytes, input, target),
            #[cfg(not(feature = "small"))]
            Self::Gzip { reader, inflater } => reader.read(bytes, inflater, target),
            #[cfg(feature = "alloc")]
            Self::Zstd { reader, state } => reader.read(bytes, state, target),
        }
    }

    fn finish(&self) -> Result<(), FormatError> {
        match self {
            Self::None => Ok(()),
            Self::Lz4 { frame, .. } => frame.finish(),
            #[cfg(not(feature = "small"))]
            Self::Gzip { reader, .. } => reader.finish(),
            #[cfg(feature = "alloc")]
            Self::Zstd { reader, .. } => reader.finish(),
        }
    }
}

impl Layers<'_> {
    fn push<T: Target>(
        &mut self,
        mut encoded: &[u8],
        target: &mut T,
    ) -> Result<(), CodecError<T::Error>> {
        let opener = &mut self.opener;
        let Some((key, suite)) = opener.cipher else {
            return self.unpacker.read(encoded, target);
        };
        while !encoded.is_empty() {
            let Some(sealer) = &opener.sealer else {
                let wrapped = &mut opener.piece[..WRAPPED_KEY_BYTES];
                if gather(wrapped, &mut opener.held, &mut encoded) {
                    opener.sealer = Some(read_key(key, *suite, wrapped)?);
                    opener.held = 0;
                }
                continue;
            };
            if gather(opener.piece, &mut opener.held, &mut encoded) {
                opener.held = 0;
                let plain = sealer.open_in_place(opener.piece)?;
                self.unpacker.read(&opener.piece[plain], target)?;
            }
        }
        Ok(())
    }

    fn finish<T: Target>(&mut self, target: &mut T) -> Result<(), CodecError<T::Error>> {
        let opener = &mut self.opener;
        if opener.cipher.is_some() {
            let Some(sealer) = &opener.sealer else {
                return Err(FormatError::Truncated.into());
            };
            if opener.held > 0 {
                let plain = sealer.open_in_place(&mut opener.piece[..opener.held])?;
                self.unpacker.read(&opener.piece[plain], target)?;
            }
        }
        Ok(self.unpacker.finish()?)
    }
}

fn read_key(key: &StoreKey, suite: Suite, wrapped: &[u8]) -> Result<PieceSealer, FormatError> {
    let wrapped = wrapped.try_into().map_err(|_| FormatError::Truncated)?;
    Ok(PieceSealer::new(suite, &*unwrap(key, wrapped)?))
}

/// Decodes one unit, and hands its plaintext on in parts.
pub struct Decoder<'a> {
    layers: Layers<'a>,
    window: Window<'a>,
}

/// Plaintext on its way out, with what later plaintext may refer to.
struct Window<'a> {
    buffer: &'a mut [u8],
    position: usize,
    lent_bytes: usize,
}

impl<'a> Decoder<'a> {
    /// A decoder of one unit.
    ///
    /// # Errors
    ///
    /// [`FormatError::Unsupported`] when this program does not have that
    /// compression, ZSTD without the feature `alloc`, GZIP with `small`;
    /// [`FormatError::Scratch`] below [`DECODE_SCRATCH_BYTES_MIN`].
    pub fn new(codec: &'a Codec, scratch: &'a mut DecodeScratch<'_>) -> Result<Self, FormatError> {
        let lent_bytes = scratch.lent_bytes();
        enough(lent_bytes, DECODE_SCRATCH_BYTES_MIN)?;
        // Half each for a block and its plaintext, beside the history.
        let (piece, memory, machines) = scratch.machines();
        let half = (memory.len() - lz4::HISTORY_BYTES) / 2;
        let (input, buffer) = memory.split_at_mut(half.min(BlockSize::Mib4.bytes()));
        Ok(Self {
            layers: Layers {
                opener: Opener { cipher: codec.cipher.as_ref(), sealer: None, piece, held: 0 },
                unpacker: Unpacker::new(codec.compression, input, machines)?,
            },
            window: Window { buffer, position: 0, lent_bytes },
        })
    }

    /// Decodes some more of the unit.
    ///
    /// # Errors
    ///
    /// [`CodecError::Format`] for bytes that are not such a unit, with
    /// [`FormatError::Scratch`] for a block that is larger than the scratch;
    /// [`CodecError::Sink`] for the error of `out`. The decoder is to be
    /// dropped then.
    pub fn push<E>(
        &mut self,
        encoded: &[u8],
        out: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), CodecError<E>> {
        self.layers.push(encoded, &mut Streaming { window: &mut self.window, out })
    }

    /// Decodes the rest, and checks that the unit ends here.
    ///
    /// # Errors
    ///
    /// Those of [`push`](Self::push), and [`FormatError::Truncated`].
    pub fn finish<E>(
        mut self,
        out: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), CodecError<E>> {
        self.layers.finish(&mut Streaming { window: &mut self.window, out })
    }
}

impl fmt::Debug for Decoder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoder")
    }
}

struct Streaming<'w, 'a, 'o, E> {
    window: &'w mut Window<'a>,
    out: &'o mut dyn FnMut(&[u8]) -> Result<(), E>,
}

/// Blocks that follow each other in the window before what must be kept of them
/// is moved to its start.
const WINDOW_BLOCKS: usize = 4;

impl<E> Target for Streaming<'_, '_, '_, E> {
    type Error = E;

    fn room(&mut self, wanted: usize, keep: usize) -> (&mut [u8], usize) {
        let Window { buffer, position, .. } = &mut *self.window;
        // A few blocks, so that what is kept is not moved for each; no more, so
        // that memory which is lent is not touched for nothing.
        let end = buffer.len().min(keep.saturating_add(WINDOW_BLOCKS.saturating_mul(wanted)));
        if end.saturating_sub(*position) < wanted || keep == 0 {
            let kept = keep.min(*position);
            buffer.copy_within(*position - kept..*position, 0);
            *position = kept;
        }
        (&mut *buffer, *position)
    }

    fn commit(&mut self, length: usize) -> Result<(), CodecError<E>> {
        let start = self.window.position;
        self.window.position += length;
        if length == 0 {
            return Ok(());
        }
        (self.out)(&self.window.buffer[start..start + length]).map_err(CodecError::Sink)
    }

    fn put(&mut self, plain: &[u8], keep: usize) -> Result<(), CodecError<E>> {
        (self.out)(plain).map_err(CodecError::Sink)?;
        let kept = &plain[plain.len() - plain.len().min(keep)..];
        if !kept.is_empty() {
            let (buffer, position) = self.room(kept.len(), keep);
            buffer[position..position + kept.len()].copy_from_slice(kept);
            self.window.position += kept.len();
        }
        Ok(())
    }

    fn short_of_room(&self, block: BlockSize) -> FormatError {
        let lent_bytes = self.window.lent_bytes;
        FormatError::Scratch { needed_bytes: decode_scratch_bytes(block), lent_bytes }
    }

    fn short_of_scratch(&self, block: BlockSize) -> FormatError {
        self.short_of_room(block)
    }
}

/// Decodes one unit into memory that takes all of its plaintext.
pub struct CollectDecoder<'a> {
    layers: Layers<'a>,
    collecting: Collecting<'a>,
}

impl<'a> CollectDecoder<'a> {
    /// A decoder of one unit into `dest`.
    ///
    /// # Errors
    ///
    /// [`FormatError::Unsupported`] when this program does not have that
    /// compression: ZSTD without the feature `alloc`, GZIP with `small`.
    /// [`FormatError::Scratch`] below [`COLLECT_SCRATCH_BYTES_MIN`].
    pub fn new(
        codec: &'a Codec,
        scratch: &'a mut DecodeScratch<'_>,
        dest: &'a mut [u8],
    ) -> Result<Self, FormatError> {
        let lent_bytes = scratch.lent_bytes();
        enough(lent_bytes, COLLECT_SCRATCH_BYTES_MIN)?;
        let (piece, memory, machines) = scratch.machines();
        Ok(Self {
            layers: Layers {
                opener: Opener { cipher: codec.cipher.as_ref(), sealer: None, piece, held: 0 },
                unpacker: Unpacker::new(codec.compression, memory, machines)?,
            },
            collecting: Collecting { dest, position: 0, lent_bytes },
        })
    }

    /// Decodes some more of the unit.
    ///
    /// # Errors
    ///
    /// [`FormatError::Bound`] for more plaintext than `dest` takes,
    /// [`FormatError::Scratch`] for a block that comes in parts and is larger
    /// than the scratch, and others for bytes that are not such a unit. The
    /// decoder is to be dropped then.
    pub fn push(&mut self, encoded: &[u8]) -> Result<(), FormatError> {
        self.layers.push(encoded, &mut self.collecting).map_err(format_error)
    }

    /// Decodes the rest, checks that the unit ends here, and gives the length
    /// of the plaintext in bytes.
    ///
    /// # Errors
    ///
    /// Those of [`push`](Self::push), and [`FormatError::Truncated`].
    pub fn finish(mut self) -> Result<usize, FormatError> {
        self.layers.finish(&mut self.collecting).map_err(format_error)?;
        Ok(self.collecting.position)
    }
}

impl fmt::Debug for CollectDecoder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectDecoder")
            .field("length_bytes", &self.collecting.position)
            .finish_non_exhaustive()
    }
}

/// Decodes a unit that is all there, and gives the length of the plaintext in
/// `dest` in bytes.
///
/// # Errors
///
/// Those of [`CollectDecoder`].
pub fn decode_into(
    codec: &Codec,
    scratch: &mut DecodeScratch<'_>,
    encoded: &[u8],
    dest: &mut [u8],
) -> Result<usize, FormatError> {
    let mut decoder = CollectDecoder::new(codec, scratch, dest)?;
    decoder.push(encoded)?;
    decoder.finish()
}

fn format_error(error: CodecError<Infallible>) -> FormatError {
    match error {
        CodecError::Format(error) => error,
        CodecError::Sink(never) => match never {},
    }
}

struct Collecting<'a> {
    dest: &'a mut [u8],
    position: usize,
    lent_bytes: usize,
}

impl Target for Collecting<'_> {
    type Error = Infallible;

    fn room(&mut self, _wanted: usize, _keep: usize) -> (&mut [u8], usize) {
        (self.dest, self.position)
    }

    fn commit(&mut self, length: usize) -> Result<(), CodecError<Infallible>> {
        self.position += length;
        Ok(())
    }

    fn put(&mut self, plain: &[u8], _keep: usize) -> Result<(), CodecError<Infallible>> {
        let room = self.dest[self.position..]
            .get_mut(..plain.len())
            .ok_or(FormatError::Bound("length of a unit"))?;
        room.copy_from_slice(plain);
        self.position += plain.len();
        Ok(())
    }

    fn short_of_room(&self, _block: BlockSize) -> FormatError {
        FormatError::Bound("length of a unit")
    }

    fn short_of_scratch(&self, block: BlockSize) -> FormatError {
        let lent_bytes = self.lent_bytes;
        FormatError::Scratch { needed_bytes: collect_scratch_bytes(block), lent_bytes }
    }
}

#[cfg(test)]
mod tests;
