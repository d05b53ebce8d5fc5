//! [`sweep`]: every packfile read once, from its start to its end: compared
//! with its MAC, and every blob in it with its own.
//!
//! What it shows of a store that is whole is one fact and not one for each
//! blob: the checks of snapshots that follow need to see of most blobs that they
//! are there, and not to read them. Objects are compared with their chunks where
//! these have just gone by, as they have where the chunks of a file were stored
//! in its turn; the others are marked. Whatever does not fit is left to the
//! checks that read blob by blob: they know what to say of it.

use core::ops::ControlFlow;

use super::ReadMemory;
use crate::codec::{Codec, CollectDecoder, DecodeScratch};
use crate::content::{ChunkPlace, HostSpool};
use crate::error::{Error, FormatError, Subject};
use crate::host::{Host, HostError};
use crate::index::{Index, Location};
use crate::mac::{MAC_BYTES, Mac, MacHasher, MacKey};
use crate::refresh::read_exact;
use crate::repository::{Lend, Memory, Repository, absent};
use crate::resource::{ResourceKind, Version};
use crate::spool::Spool;
use crate::store::{Store, StoreResource};
use crate::wire::envelope::{self, HEADER_BYTES, TRAILER_BYTES};
use crate::wire::object::{ObjectParser, ObjectStep};
use crate::wire::summary::Summary;

/// What reading all packfiles has shown, for checks of snapshots with the same
/// index, until that is refreshed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Proof {
    /// Every blob that has a usable location is there, and what its MAC says.
    holds: bool,
    /// Some objects were not compared with their chunks. They are marked.
    open: bool,
    /// How often the index had been made anew when all this was seen.
    remakes: u32,
}

impl Proof {
    /// Whether blobs that are there need not be read.
    pub(super) const fn holds(self) -> bool {
        self.holds
    }

    /// Whether it is of what the index says now.
    pub(super) fn is_of<I: Index>(self, index: &I) -> bool {
        self.remakes == index.remakes()
    }

    /// Whether an object that is there need not be read, nor its chunks.
    pub(super) fn covers<I: Index>(self, index: &mut I, object: &Mac) -> Result<bool, I::Error> {
        Ok(self.holds && !(self.open && index.is_marked(OPEN_OBJECT, object)?))
    }
}

/// What objects are marked as that were not compared with their chunks: no kind
/// of resource.
const OPEN_OBJECT: ResourceKind = ResourceKind(0);

/// Whether the key of a blob is the MAC of what it holds.
const fn is_named_by_content(kind: ResourceKind) -> bool {
    matches!(kind.0, 7 | 9..=21)
}

/// Reads packfiles.
pub(super) struct Sweep<'m, P> {
    /// Takes a chunk.
    plain: &'m mut [u8],
    seen: Seen<'m>,
    sequence: Sequence,
    mac_key: MacKey,
    hasher: MacHasher,
    /// MAC of nothing.
    empty: Mac,
    /// Names of open objects that are not marked yet.
    open: P,
    proof: Proof,
}

impl<'m, P: Spool> Sweep<'m, P> {
    pub(super) fn new<L: Lend>(
        repository: &mut Repository<'_, L>,
        memory: ReadMemory<'m>,
    ) -> Result<Sweep<'m, HostSpool<L>>, Error<L::Error>> {
        let hasher = repository.mac_key.hasher();
        Ok(Sweep {
            plain: memory.chunk,
            seen: Seen::new(memory.node),
            sequence: Sequence::new(&repository.mac_key),
            mac_key: repository.mac_key.clone(),
            empty: hasher.so_far(),
            hasher,
            open: repository.host.spool()?,
            proof: Proof { holds: true, open: false, remakes: repository.index.remakes() },
        })
    }

    /// What was shown, if all went well, to those who ask the same index.
    pub(super) fn proof<I: Index>(&self, index: &I) -> Proof {
        if self.proof.is_of(index) { self.proof } else { Proof::default() }
    }

    /// Something is wrong with the store: the checks of snapshots are to read
    /// all that they need.
    pub(super) fn doubt(&mut self) {
        self.proof.holds = false;
    }

    /// Compares a packfile with its MAC, and what is in it.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] or [`Error::Missing`] for the packfile, and the host's.
    pub(super) fn packfile<L: Lend>(
        &mut self,
        repository: &mut Repository<'_, L>,
        name: &Mac,
    ) -> Result<(), Error<L::Error>>
    where
        P: Spool<Error = L::Error>,
    {
        let Repository { store, index, host, memory, codec, mac_key, held, .. } = repository;
        held.forget();
        let Memory { io, decode, .. } = memory;
        let mut file = Stream::open(store, io, mac_key, name)?;
        let mut failed = None;
        if self.proof.holds {
            index.each_located(name, &mut |kind, mac, at| {
                let result = if host.cancelled() {
                    Err(Error::Cancelled)
                } else {
                    self.blob(&mut file, (codec, decode), (kind, mac), at)
                };
                match result {
                    Ok(true) => return ControlFlow::Continue(()),
                    Ok(false) => self.doubt(),
                    Err(error) => failed = Some(error),
                }
                ControlFlow::Break(())
            })?;
        }
        if let Some(error) = failed {
            return Err(error);
        }
        file.finish(host)?;
        self.mark_open(index)
    }

    /// Compares a blob, and returns whether it is good.
    fn blob<S: Store>(
        &mut self,
        file: &mut Stream<'_, S>,
        (codec, decode): (&Codec, &mut DecodeScratch<'_>),
        (kind, mac): (ResourceKind, &Mac),
        at: &Location,
    ) -> Result<bool, Error<S::Error>>
    where
        S::Error: HostError,
        P: Spool<Error = S::Error>,
    {
        if !is_named_by_content(kind) {
            return Ok(true);
        }
        let is_object = kind == ResourceKind::OBJECT;
        let len = match file.decode(codec, decode, at, self.plain)? {
            Some(Ok(len)) => len,
            // A larger object is read piece by piece, and that later.
            Some(Err(FormatError::Bound(_))) if is_object => return self.leave_open(mac),
            _ => return Ok(false),
        };
        let plain = &self.plain[..len];
        if kind == ResourceKind::CHUNK {
            if self.sequence.push(mac, plain, &self.mac_key, &mut self.hasher) != *mac {
                return Ok(false);
            }
            self.seen.insert(mac, len);
            return Ok(true);
        }
        self.mac_key.restart(&mut self.hasher);
        self.hasher.update(plain);
        if self.hasher.so_far() != *mac {
            return Ok(false);
        }
        match kind {
            ResourceKind::VFS_SUMMARY => Ok(Summary::parse(plain).is_ok()),
            ResourceKind::OBJECT => {
                let is_whole = self.sequence.makes(plain, &self.seen, &self.empty);
                self.sequence.restart();
                if is_whole { Ok(true) } else { self.leave_open(mac) }
            }
            _ => Ok(true),
        }
    }

    /// Leaves it to others to compare an object with its chunks.
    fn leave_open<E>(&mut self, object: &Mac) -> Result<bool, Error<E>>
    where
        E: HostError,
        P: Spool<Error = E>,
    {
        self.open.append(&object.0)?;
        Ok(true)
    }

    fn mark_open<I: Index>(&mut self, index: &mut I) -> Result<(), Error<I::Error>>
    where
        I::Error: HostError,
        P: Spool<Error = I::Error>,
    {
        let mut at = 0;
        while at < self.open.len() {
            let mut object = Mac::ZERO;
            self.open.read_at(at, &mut object.0)?;
            index.mark(OPEN_OBJECT, &object)?;
            at += MAC_BYTES as u64;
            self.proof.open = true;
        }
        self.open.truncate(0)?;
        Ok(())
    }
}

/// A packfile, read in one direction.
struct Stream<'s, S: Store> {
    store: &'s mut S,
    /// The part of it that is at hand.
    io: &'s mut [u8],
    filled: usize,
    /// Where that part starts.
    start: u64,
    /// Where the MAC starts that ends the file.
    end: u64,
    hasher: MacHasher,
    trailer: [u8; TRAILER_BYTES],
    name: Mac,
}

impl<'s, S: Store> Stream<'s, S>
where
    S::Error: HostError,
{
    fn open(
        store: &'s mut S,
        io: &'s mut [u8],
        mac_key: &MacKey,
        name: &Mac,
    ) -> Result<Self, Error<S::Error>> {
        let (resource, subject) = (StoreResource::Packfile, Subject::Packfile(*name));
        let damaged = Error::damaged(subject);
        let size = store.size(resource, name)?.ok_or(Error::Missing(subject))?;
        let end = size.checked_sub(TRAILER_BYTES as u64).ok_or(FormatError::Truncated);
        let end = end.map_err(&damaged)?;
        let mut header = [0; HEADER_BYTES];
        read_exact(store, resource, name, 0, &mut header, subject)?;
        envelope::parse_header(&header, ResourceKind::PACKFILE, Version::V1_0_0)
            .map_err(&damaged)?;
        let mut trailer = [0; TRAILER_BYTES];
        read_exact(store, resource, name, end, &mut trailer, subject)?;
        let hasher = mac_key.hasher();
        Ok(Self { store, io, filled: 0, start: 0, end, hasher, trailer, name: *name })
    }

    /// Reads on, and keeps what is at hand from `from` on.
    fn advance(&mut self, from: u64) -> Result<(), Error<S::Error>> {
        let subject = Subject::Packfile(self.name);
        let passed = usize::try_from(from - self.start).unwrap_or(usize::MAX).min(self.filled);
        self.io.copy_within(passed..self.filled, 0);
        self.filled -= passed;
        self.start += passed as u64;
        let next = self.start + self.filled as u64;
        let left = usize::try_from(self.end - next).unwrap_or(usize::MAX);
        let room = left.min(self.io.len() - self.filled);
        let into = &mut self.io[self.filled..self.filled + room];
        let read = self
            .store
            .get(StoreResource::Packfile, &self.name, next, into)
            .map_err(|error| absent(error, subject))?;
        if read == 0 {
            return Err(Error::damaged(subject)(FormatError::Truncated));
        }
        self.hasher.update(&into[..read]);
        self.filled += read;
        Ok(())
    }

    /// As many of the `len` bytes from `from` on as can be at hand together:
    /// nothing if they were passed by, or lie behind the end.
    fn part(&mut self, from: u64, len: u64) -> Result<Option<&[u8]>, Error<S::Error>> {
        let is_inside = from.checked_add(len).is_some_and(|end| end <= self.end);
        if from < self.start || !is_inside {
            return Ok(None);
        }
        loop {
            let here = self.start + self.filled as u64;
            let held = here.saturating_sub(from);
            // What is longer than all memory for it comes in pieces.
            let is_enough = held >= len || held > 0 && len > self.io.len() as u64;
            if is_enough {
                let skip = usize::try_from(from - self.start).unwrap_or(usize::MAX);
                let end = usize::try_from(len).unwrap_or(usize::MAX).min(self.filled - skip);
                return Ok(Some(&self.io[skip..skip + end]));
            }
            self.advance(from.min(here))?;
        }
    }

    /// Decodes a blob. Nothing if there is none at that place.
    fn decode(
        &mut self,
        codec: &Codec,
        scratch: &mut DecodeScratch<'_>,
        at: &Location,
        plain: &mut [u8],
    ) -> Result<Option<Result<usize, FormatError>>, Error<S::Error>> {
        let mut decoder = match CollectDecoder::new(codec, scratch, plain) {
            Ok(decoder) => decoder,
            Err(error) => return Ok(Some(Err(error))),
        };
        let mut left = u64::from(at.length_bytes);
        let mut from = at.offset_bytes.saturating_add(HEADER_BYTES as u64);
        while left > 0 {
            let Some(part) = self.part(from, left)? else { return Ok(None) };
            if let Err(error) = decoder.push(part) {
                return Ok(Some(Err(error)));
            }
            left -= part.len() as u64;
            from += part.len() as u64;
        }
        Ok(Some(decoder.finish()))
    }

    /// Reads the rest, and compares all of it with its MAC.
    fn finish<H: Host>(mut self, host: &mut H) -> Result<(), Error<S::Error>> {
        loop {
            let here = self.start + self.filled as u64;
            if here == self.end {
                break;
            }
            if host.cancelled() {
                return Err(Error::Cancelled);
            }
            self.advance(here)?;
        }
        let damaged = Error::damaged(Subject::Packfile(self.name));
        if self.hasher.finish().0 == self.trailer { Ok(()) } else { Err(damaged(FormatError::Mac)) }
    }
}

/// Chunks that went by one after the other since the last object.
struct Sequence {
    /// All that they hold.
    content: MacHasher,
    count: u64,
    first: Mac,
    first_bytes: usize,
    /// Names and lengths, where they are more than one.
    list: blake3::Hasher,
}

impl Sequence {
    fn new(mac_key: &MacKey) -> Self {
        let (content, list) = (mac_key.hasher(), blake3::Hasher::new());
        Self { content, count: 0, first: Mac::ZERO, first_bytes: 0, list }
    }

    fn restart(&mut self) {
        self.count = 0;
    }

    /// Adds a chunk, and returns its MAC.
    fn push(&mut self, name: &Mac, plain: &[u8], key: &MacKey, hasher: &mut MacHasher) -> Mac {
        self.count += 1;
        if self.count == 1 {
            key.restart(&mut self.content);
            self.content.update(plain);
            (self.first, self.first_bytes) = (*name, plain.len());
            // The content so far is this chunk.
            return self.content.so_far();
        }
        if self.count == 2 {
            self.list.reset();
            add(&mut self.list, &self.first, self.first_bytes as u64);
        }
        add(&mut self.list, name, plain.len() as u64);
        self.content.update(plain);
        key.restart(hasher);
        hasher.update(plain);
        hasher.so_far()
    }

    /// Whether these are the chunks of an object, and make the content that it
    /// names; or whether it has one chunk that was seen, or none.
    fn makes(&self, object: &[u8], seen: &Seen<'_>, empty: &Mac) -> bool {
        let (mut parser, mut at, mut count) = (ObjectParser::default(), 0, 0u64);
        let mut last: Option<ChunkPlace> = None;
        let mut list = None;
        let content_mac = loop {
            let Ok((step, used)) = parser.step(&object[at..]) else { return false };
            at += used;
            match step {
                ObjectStep::More => return false,
                ObjectStep::End { content_mac } => break content_mac,
                ObjectStep::Chunk(chunk) => {
                    let before = last
                        .replace(ChunkPlace { mac: chunk.mac, length_bytes: chunk.length_bytes });
                    count += 1;
                    if let Some(first) = before {
                        let list = list.get_or_insert_with(|| {
                            let mut list = blake3::Hasher::new();
                            add(&mut list, &first.mac, first.length_bytes.into());
                            list
                        });
                        add(list, &chunk.mac, chunk.length_bytes.into());
                    }
                }
            }
        };
        match (last, list) {
            (None, _) => content_mac == *empty,
            // Their MACs are of the same bytes.
            (Some(only), None) => {
                content_mac == only.mac && seen.length_bytes(&only.mac) == Some(only.length_bytes)
            }
            (Some(_), Some(list)) => {
                count == self.count
                    && list.finalize() == self.list.finalize()
                    && self.content.so_far() == content_mac
            }
        }
    }
}

fn add(list: &mut blake3::Hasher, name: &Mac, length_bytes: u64) {
    list.update(&name.0);
    list.update(&length_bytes.to_le_bytes());
}

/// Length of a record of [`Seen`], in bytes.
const SEEN_BYTES: usize = MAC_BYTES + 4;

/// Chunks that went by not long ago, and their lengths. A chunk is kept until
/// another one takes its place.
struct Seen<'m> {
    records: &'m mut [u8],
}

impl<'m> Seen<'m> {
    fn new(records: &'m mut [u8]) -> Self {
        records.fill(0);
        Self { records }
    }

    fn place(&self, chunk: &Mac) -> core::ops::Range<usize> {
        let number = u32::from_le_bytes(crate::wire::field(&chunk.0, 0..4));
        let count = (self.records.len() / SEEN_BYTES).max(1);
        let at = usize::try_from(number).unwrap_or(0) % count * SEEN_BYTES;
        at..at + SEEN_BYTES
    }

    fn insert(&mut self, chunk: &Mac, length_bytes: usize) {
        let place = self.place(chunk);
        let Some(record) = self.records.get_mut(place) else { return };
        let (mac, length) = record.split_at_mut(MAC_BYTES);
        mac.copy_from_slice(&chunk.0);
        length.copy_from_slice(&u32::try_from(length_bytes).unwrap_or(u32::MAX).to_le_bytes());
    }

    fn length_bytes(&self, chunk: &Mac) -> Option<u32> {
        let (mac, length) = self.records.get(self.place(chunk))?.split_at(MAC_BYTES);
        (mac == chunk.0 && !chunk.is_zero())
            .then(|| u32::from_le_bytes(crate::wire::field(length, 0..4)))
    }
}
