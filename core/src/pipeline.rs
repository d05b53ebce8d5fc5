//! Blobs that are encoded beside the work that makes them.
//!
//! Whoever writes blobs fills a [`Batch`] with their plaintext and goes on;
//! batches are encoded elsewhere, several at a time if there are processors for
//! it, and come back in the order in which they were filled. Then what is
//! encoded goes into the packfile. So a packfile does not depend on how many
//! work at it, nor on which of them was faster.
//!
//! A large chunk makes the way twice: first only its [`Digest`] is made, which says
//! whether the store has it, and then it is encoded or dropped.
//!
//! A [`Pipeline`] has a fixed number of batches, all in memory that is lent once.
//! Without one a [`Session`](crate::session::Session) encodes as it writes, in
//! less memory.

use core::fmt;

use heapless::Vec;

use crate::codec::{Codec, EncodeScratch, Encoder, encoded_len_max};
use crate::entropy::Histogram;
use crate::error::FormatError;
use crate::mac::{Mac, MacHasher, MacKey};
use crate::resource::ResourceKind;

/// Blobs that a batch holds, at most.
pub const BATCH_BLOBS_MAX: usize = 256;

/// Plaintext bytes from which on a batch should be encoded: below, handing it
/// over costs as much as the work.
pub const BATCH_BYTES: usize = 256 * 1024;

/// What encoding may add to a small blob, in bytes.
#[expect(clippy::cast_possible_truncation, reason = "some hundred bytes")]
const BLOB_OVERHEAD_BYTES: usize = encoded_len_max(1) as usize;

/// One blob of a batch.
#[derive(Clone, Copy, Debug)]
struct Item {
    kind: ResourceKind,
    mac: Mac,
    plain_bytes: usize,
    /// Length when it is encoded.
    packed_bytes: usize,
}

/// A blob that was encoded.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'b> {
    /// Its kind.
    pub kind: ResourceKind,
    /// Its MAC.
    pub mac: Mac,
    /// What goes into the packfile.
    pub bytes: &'b [u8],
}

/// What a batch holds.
#[derive(Debug, Default)]
struct Items {
    items: Vec<Item, BATCH_BLOBS_MAX>,
    plain_bytes: usize,
    /// What encoding the items takes at most.
    packed_bytes_max: u64,
}

/// What is found out of a chunk.
#[derive(Clone, Debug)]
pub struct Digest {
    /// Has seen the chunk, and nothing else.
    pub hasher: MacHasher,
    /// Its entropy, in bits per byte.
    pub entropy: f64,
}

/// Blobs on their way into a packfile. About 12 KiB, and what it is lent.
pub struct Batch<'m> {
    plain: &'m mut [u8],
    packed: &'m mut [u8],
    held: Items,
}

impl<'m> Batch<'m> {
    /// Memory for a batch that takes a chunk of `chunk_bytes`, in bytes.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "compared before")]
    pub const fn bytes(chunk_bytes: usize) -> usize {
        let packed = encoded_len_max(chunk_bytes as u64);
        let packed = if packed > usize::MAX as u64 { usize::MAX } else { packed as usize };
        chunk_bytes.saturating_add(packed).saturating_add(BATCH_BLOBS_MAX * BLOB_OVERHEAD_BYTES)
    }

    /// An empty batch in `memory`, which takes a chunk of `chunk_bytes`.
    ///
    /// # Errors
    ///
    /// [`FormatError::Scratch`] for less than [`bytes`](Self::bytes).
    pub fn new(memory: &'m mut [u8], chunk_bytes: usize) -> Result<Self, FormatError> {
        let (needed_bytes, lent_bytes) = (Self::bytes(chunk_bytes), memory.len());
        if lent_bytes < needed_bytes {
            return Err(FormatError::Scratch { needed_bytes, lent_bytes });
        }
        let (plain, packed) = memory.split_at_mut(chunk_bytes);
        Ok(Self { plain, packed, held: Items::default() })
    }

    /// The batch, to be filled.
    pub fn fill(&mut self) -> Filling<'_> {
        Filling { plain: self.plain, packed_bytes: self.packed.len(), held: &mut self.held }
    }

    /// The digest of what it holds, which is one chunk.
    #[must_use]
    pub fn digest(&self, key: &MacKey) -> Digest {
        let chunk = &self.plain[..self.held.plain_bytes];
        let mut hasher = key.hasher();
        hasher.update(chunk);
        let mut histogram = Histogram::new();
        histogram.add(chunk);
        Digest { hasher, entropy: histogram.entropy() }
    }

    /// Names the chunk that it holds.
    pub fn name(&mut self, mac: &Mac) {
        if let Some(item) = self.held.items.first_mut() {
            item.mac = *mac;
        }
    }

    /// Encodes all blobs. `random` fills a slice with bytes fit for keys.
    ///
    /// # Errors
    ///
    /// What `random` returns, and [`FormatError`] for what cannot be written.
    pub fn encode<E>(
        &mut self,
        codec: &Codec,
        scratch: &mut EncodeScratch<'_>,
        random: &mut dyn FnMut(&mut [u8]) -> Result<(), E>,
    ) -> Result<Result<(), E>, FormatError> {
        let (mut plain, mut packed) = (&self.plain[..], &mut self.packed[..]);
        for item in &mut self.held.items {
            let (blob, rest) = plain.split_at(item.plain_bytes);
            let mut at = 0;
            let out = |bytes: &[u8]| {
                packed[at..at + bytes.len()].copy_from_slice(bytes);
                at += bytes.len();
                Ok(())
            };
            let encoded = Encoder::new(codec, scratch, &mut *random, out)?.finish_with(blob);
            if let Err(error) = encoded {
                return Ok(Err(error));
            }
            item.packed_bytes = at;
            plain = rest;
            packed = &mut packed[at..];
        }
        Ok(Ok(()))
    }

    /// The blobs, encoded, in the order in which they were added.
    pub fn packed(&self) -> impl Iterator<Item = Packed<'_>> {
        let mut rest = &self.packed[..];
        self.held.items.iter().map(move |item| {
            let (bytes, after) = rest.split_at(item.packed_bytes);
            rest = after;
            Packed { kind: item.kind, mac: item.mac, bytes }
        })
    }

    /// Forgets everything in it.
    pub fn clear(&mut self) {
        self.held.items.clear();
        (self.held.plain_bytes, self.held.packed_bytes_max) = (0, 0);
    }
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("blobs", &self.held.items.len()).finish_non_exhaustive()
    }
}

/// A batch that is being filled.
#[derive(Debug)]
pub struct Filling<'b> {
    plain: &'b mut [u8],
    packed_bytes: usize,
    held: &'b mut Items,
}

impl Filling<'_> {
    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.items.is_empty()
    }

    /// Whether it holds enough to be encoded.
    #[must_use]
    pub fn is_worth_it(&self) -> bool {
        self.held.plain_bytes >= BATCH_BYTES || self.held.items.is_full()
    }

    /// Whether it takes a blob of `plain_bytes` more.
    #[must_use]
    pub fn has_room(&self, plain_bytes: usize) -> bool {
        let packed_max = self.held.packed_bytes_max + encoded_len_max(plain_bytes as u64);
        !self.held.items.is_full()
            && plain_bytes <= self.plain.len() - self.held.plain_bytes
            && packed_max <= self.packed_bytes as u64
    }

    /// Adds a blob whose plaintext `fill` writes to the whole of what it is given.
    ///
    /// # Errors
    ///
    /// What `fill` returns; nothing is added then.
    ///
    /// # Panics
    ///
    /// Without [room](Self::has_room) for it.
    pub fn push<E>(
        &mut self,
        kind: ResourceKind,
        mac: &Mac,
        plain_bytes: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        assert!(self.has_room(plain_bytes), "a batch is asked for room first");
        fill(&mut self.plain[self.held.plain_bytes..][..plain_bytes])?;
        let _ = self.held.items.push(Item { kind, mac: *mac, plain_bytes, packed_bytes: 0 });
        self.held.plain_bytes += plain_bytes;
        self.held.packed_bytes_max += encoded_len_max(plain_bytes as u64);
        Ok(())
    }
}

/// Encodes batches, in order.
pub trait Pipeline {
    /// The host's error.
    type Error;

    /// The batch that is being filled.
    fn filling(&mut self) -> Filling<'_>;

    /// Whether every other batch is under way: [`oldest`](Self::oldest) must be
    /// written, and [released](Self::release), before another is submitted.
    fn is_full(&self) -> bool;

    /// Hands over the batch that was filled, and takes an empty one to fill.
    ///
    /// # Errors
    ///
    /// The host's.
    fn submit(&mut self, codec: &Codec) -> Result<(), Self::Error>;

    /// The batch that was submitted first, of those that are under way, once it
    /// is encoded; nothing if none is.
    ///
    /// # Errors
    ///
    /// The host's, and what went wrong with the batch.
    fn oldest(&mut self) -> Result<Option<&Batch<'_>>, Self::Error>;

    /// Makes the batch that [`oldest`](Self::oldest) gave empty.
    fn release(&mut self);

    /// Hands over the batch that was filled, with one chunk in it, to be
    /// digested, and takes an empty one to fill. Only one is digested at a time.
    ///
    /// # Errors
    ///
    /// The host's.
    fn digest(&mut self, key: &MacKey) -> Result<(), Self::Error>;

    /// The digest of the chunk that was handed over for it, once it is made;
    /// nothing if none was.
    ///
    /// # Errors
    ///
    /// The host's.
    fn digested(&mut self) -> Result<Option<Digest>, Self::Error>;

    /// Submits the chunk that was digested, under that name.
    ///
    /// # Errors
    ///
    /// The host's.
    fn keep(&mut self, mac: &Mac, codec: &Codec) -> Result<(), Self::Error>;

    /// Drops the chunk that was digested, or is about to be, if there is one.
    fn discard(&mut self);

    /// Forgets everything that is under way or being filled.
    fn reset(&mut self);
}
