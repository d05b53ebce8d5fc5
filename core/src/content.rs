//! The content of files, directories and attributes: objects and their chunks.
//!
//! [`ContentWriter`] cuts what it is given into chunks, in one slot of memory
//! that takes the largest chunk; [`ContentReader`] gives it back, chunk by
//! chunk. The list of chunks lies in a spool, so that a file of 10 TB costs no
//! more memory than one of 10 bytes.

use crate::chunker::Chunker;
use crate::codec::{CodecError, Decoder};
use crate::entropy::{Histogram, WeightedMean};
use crate::error::{Error, FormatError, Subject};
use crate::host::Host;
use crate::index::Index;
use crate::limits::{CONTENT_TYPE_BYTES_MAX, bound};
use crate::mac::{Mac, MacHasher, MacKey};
use crate::pipeline::BATCH_BYTES;
use crate::repository::{Lend, Memory, Repository};
use crate::resource::ResourceKind;
use crate::session::{Content, Ended, Session};
use crate::spool::Spool;
use crate::wire::msgpack::Writer;
use crate::wire::object::{
    CHUNK_RECORD_BYTES, ChunkRecord, OBJECT_PART_BYTES_MAX, ObjectHead, ObjectParser, ObjectStep,
};

/// Bytes that are read at once beyond what is needed: the slot has room for
/// them after the largest chunk.
pub const READ_BYTES: usize = bound(256 * 1024, 4096);

/// Content type of bytes that nobody knows.
const UNKNOWN_TYPE: &str = "application/octet-stream";

/// Fills a slice with what comes next of some content, and returns how much.
pub type Read<'r, E> = dyn FnMut(&mut [u8]) -> Result<usize, ReadError<E>> + 'r;

/// Takes some content, piece by piece.
pub type Out<'o, E> = dyn FnMut(&[u8]) -> Result<(), E> + 'o;

/// A content type.
pub type ContentType = heapless::Vec<u8, CONTENT_TYPE_BYTES_MAX>;

fn content_type(name: &[u8]) -> ContentType {
    let mut content_type = ContentType::new();
    let _ = content_type.extend_from_slice(&name[..name.len().min(CONTENT_TYPE_BYTES_MAX)]);
    content_type
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stored {
    /// Key of the object.
    pub object: Mac,
    /// Length of the content, in bytes.
    pub length_bytes: u64,
    /// Number of its chunks.
    pub chunks: u64,
    /// Its entropy, in bits per byte.
    pub entropy: f64,
    /// Bytes of chunks that the store did not have.
    pub new_bytes: u64,
}

/// Where the kind of content comes from.
#[derive(Clone, Copy, Debug)]
pub enum ContentKind<'n> {
    /// A file of that name: its type is guessed.
    File(&'n [u8]),
    /// A file of that type.
    Typed(&'n [u8]),
    /// The entries of a directory: no type, and no entropy either, as stock
    /// writes it.
    Dirpack,
}

/// Writes the content of one file after another.
pub struct ContentWriter<'m, P: Spool> {
    slot: &'m mut [u8],
    chunker: Chunker,
    /// Chunk records of the current object, in msgpack.
    records: P,
    histogram: Histogram,
    /// Content type of what was stored last.
    content_type: ContentType,
}

impl<P: Spool> core::fmt::Debug for ContentWriter<'_, P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ContentWriter")
            .field("slot_bytes", &self.slot.len())
            .finish_non_exhaustive()
    }
}

/// The object being made.
struct Draft {
    /// MAC of the content so far; none before the first chunk is complete.
    hasher: Option<MacHasher>,
    mean: WeightedMean,
    content_type: ContentType,
    stored: Stored,
    /// Length of a chunk that is being digested; 0 if none is.
    begun_bytes: u64,
}

impl Draft {
    /// Adds a chunk to the MAC of the content, and gives its own. On its own for
    /// what that takes of the stack.
    #[inline(never)]
    fn digest(&mut self, key: &MacKey, bytes: &[u8]) -> Mac {
        match &mut self.hasher {
            // The first chunk begins the content: one hash is the other's start.
            None => {
                let hasher = self.hasher.insert(key.hasher());
                hasher.update(bytes);
                hasher.so_far()
            }
            Some(content) => {
                content.update(bytes);
                key.mac(bytes)
            }
        }
    }

    /// The MAC of the content, once all of it is there.
    #[inline(never)]
    fn mac(&self, key: &MacKey) -> Mac {
        match &self.hasher {
            Some(hasher) => hasher.so_far(),
            None => key.mac(&[]),
        }
    }

    /// Finds the content type, from the first chunk.
    fn set_type<L: Lend>(
        &mut self,
        session: &mut Session<'_, '_, L>,
        kind: ContentKind<'_>,
        bytes: &[u8],
    ) {
        if self.stored.chunks > 0 {
            return;
        }
        self.content_type = content_type(match kind {
            ContentKind::File(name) => session.repository.host.content_type(name, bytes).as_bytes(),
            ContentKind::Typed(known) => known,
            ContentKind::Dirpack => return,
        });
    }
}

impl<'m, P: Spool> ContentWriter<'m, P> {
    /// A writer for a store whose chunks have at most `slot.len()` -
    /// [`READ_BYTES`] bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`] for a slot that is too small.
    pub fn new<L: Lend>(
        repository: &Repository<'_, L>,
        slot: &'m mut [u8],
        records: P,
    ) -> Result<Self, Error<L::Error>> {
        let needed = repository.facts.chunking.max() + READ_BYTES;
        if slot.len() < needed {
            return Err(Error::Memory {
                what: "the largest chunk of this store",
                needed_bytes: needed as u64,
                lent_bytes: slot.len() as u64,
            });
        }
        let chunker = Chunker::new(&repository.facts.chunking);
        let histogram = Histogram::new();
        let content_type = ContentType::new();
        Ok(Self { slot, chunker, records, histogram, content_type })
    }

    /// The slot, for other work between two contents.
    pub fn slot(&mut self) -> &mut [u8] {
        self.slot
    }

    /// Content type of what was stored last.
    #[must_use]
    pub fn content_type(&self) -> &ContentType {
        &self.content_type
    }

    /// Stores what `read` gives: it fills a slice from its start and returns
    /// how much, 0 at the end only.
    ///
    /// # Errors
    ///
    /// What `read` returns, and the host's.
    pub fn store<L: Lend>(
        &mut self,
        session: &mut Session<'_, '_, L>,
        kind: ContentKind<'_>,
        read: &mut Read<'_, L::Error>,
    ) -> Result<Stored, ReadError<L::Error>>
    where
        P: Spool<Error = L::Error>,
    {
        self.chunker.reset();
        self.records.truncate(0).map_err(Error::Host)?;
        let mut draft = Draft {
            hasher: None,
            mean: WeightedMean::default(),
            content_type: content_type(UNKNOWN_TYPE.as_bytes()),
            stored: Stored::default(),
            begun_bytes: 0,
        };
        let (mut filled, mut at_end) = (0, false);
        loop {
            while let Some(cut) = self.chunker.find_cut(&self.slot[..filled], at_end) {
                session.keep_alive()?;
                self.end_chunk(session, &mut draft)?;
                // Nobody would wait for the last one any less.
                let is_last = at_end && cut == filled;
                if is_last || !self.begin_chunk(session, kind, cut, &mut draft)? {
                    self.store_chunk(session, kind, cut, &mut draft)?;
                }
                self.slot.copy_within(cut..filled, 0);
                filled -= cut;
            }
            if at_end {
                break;
            }
            let room = (self.slot.len() - filled).min(READ_BYTES);
            let got = read(&mut self.slot[filled..filled + room])?;
            at_end = got == 0;
            filled += got;
        }
        self.end_chunk(session, &mut draft)?;
        self.store_object(session, kind, &draft)
    }

    /// Has a chunk digested while the content is read on, if it is large enough
    /// and there is what does that. Returns whether it is.
    fn begin_chunk<L: Lend>(
        &mut self,
        session: &mut Session<'_, '_, L>,
        kind: ContentKind<'_>,
        cut: usize,
        draft: &mut Draft,
    ) -> Result<bool, ReadError<L::Error>> {
        let bytes = &self.slot[..cut];
        let is_file = !matches!(kind, ContentKind::Dirpack);
        let worth_bytes = BATCH_BYTES.min(session.repository.facts.chunking.max() / 4);
        if cut < worth_bytes || !is_file || !session.begin_chunk(bytes)? {
            return Ok(false);
        }
        draft.set_type(session, kind, bytes);
        match &mut draft.hasher {
            // Comes with the digest.
            None => {}
            Some(content) => content.update(bytes),
        }
        draft.begun_bytes = cut as u64;
        Ok(true)
    }

    /// Takes the chunk that was begun into the object.
    fn end_chunk<L: Lend>(
        &mut self,
        session: &mut Session<'_, '_, L>,
        draft: &mut Draft,
    ) -> Result<(), ReadError<L::Error>>
    where
        P: Spool<Error = L::Error>,
    {
        match core::mem::take(&mut draft.begun_bytes) {
            0 => Ok(()),
            length_bytes => self.end_begun(session, draft, length_bytes),
        }
    }

    /// On its own for what its digest takes of the stack.
    #[inline(never)]
    fn end_begun<L: Lend>(
        &mut self,
        session: &mut Session<'_, '_, L>,
        draft: &mut Draft,
        length_bytes: u64,
    ) -> Result<(), ReadError<L::Error>>
    where
        P: Spool<Error = L::Error>,
    {
        let lost = Error::damaged(Subject::Blob(ResourceKind::CHUNK, Mac::ZERO));
        let ended = session.end_chunk()?.ok_or_else(|| lost(FormatError::Field("digest")))?;
        let Ended { mac, digest, is_new } = ended;
        if draft.hasher.is_none() {
            draft.hasher = Some(digest.hasher);
        }
        self.note_chunk(draft, &mac, length_bytes, digest.entropy, is_new)
    }

    fn store_chunk<L: Lend>(
        &mut self,
        session: &mut Session<'_, '_, L>,
        kind: ContentKind<'_>,
        cut: usize,
        draft: &mut Draft,
    ) -> Result<(), ReadError<L::Error>>
    where
        P: Spool<Error = L::Error>,
    {
        let bytes = &self.slot[..cut];
        let mac = draft.digest(&session.repository.mac_key, bytes);
        draft.set_type(session, kind, bytes);
        let entropy = match kind {
            ContentKind::Dirpack => 0.0,
            ContentKind::File(_) | ContentKind::Typed(_) => {
                self.histogram.reset();
                self.histogram.add(bytes);
                self.histogram.entropy()
            }
        };
        let is_new = session.put_named(ResourceKind::CHUNK, &mac, bytes)?;
        self.note_chunk(draft, &mac, cut as u64, entropy, is_new)
    }

    /// Adds a chunk to the object.
    fn note_chunk(
        &mut self,
        draft: &mut Draft,
        mac: &Mac,
        length_bytes: u64,
        entropy: f64,
        is_new: bool,
    ) -> Result<(), ReadError<P::Error>> {
        draft.mean.add(entropy, length_bytes);
        let mut record = [0; CHUNK_RECORD_BYTES];
        let mut writer = Writer::new(&mut record);
        let length = u32::try_from(length_bytes).unwrap_or(u32::MAX);
        ChunkRecord { mac: *mac, length_bytes: length, entropy }.emit(&mut writer);
        let record = writer
            .finish()
            .map_err(Error::damaged(Subject::Blob(ResourceKind::OBJECT, Mac::ZERO)))?;
        self.records.append(record).map_err(Error::Host)?;
        draft.stored.chunks += 1;
        draft.stored.length_bytes += length_bytes;
        if is_new {
            draft.stored.new_bytes += length_bytes;
        }
        Ok(())
    }

    fn store_object<L: Lend>(
        &mut self,
        session: &mut Session<'_, '_, L>,
        kind: ContentKind<'_>,
        draft: &Draft,
    ) -> Result<Stored, ReadError<L::Error>>
    where
        P: Spool<Error = L::Error>,
    {
        let mut stored = draft.stored;
        self.content_type.clone_from(&draft.content_type);
        let head = ObjectHead {
            content_mac: draft.mac(&session.repository.mac_key),
            chunks: u32::try_from(stored.chunks).unwrap_or(u32::MAX),
            content_type: &draft.content_type,
            entropy: match kind {
                ContentKind::File(_) | ContentKind::Typed(_) => draft.mean.mean(),
                ContentKind::Dirpack => 0.0,
            },
        };
        stored.entropy = head.entropy;
        let damaged = Error::damaged(Subject::Blob(ResourceKind::OBJECT, head.content_mac));
        let (mut start, mut end) = ([0; OBJECT_PART_BYTES_MAX], [0; OBJECT_PART_BYTES_MAX]);
        let mut writer = Writer::new(&mut start);
        head.emit_start(&mut writer);
        let start = writer.finish().map_err(&damaged)?;
        let mut writer = Writer::new(&mut end);
        head.emit_end(&mut writer);
        let end = writer.finish().map_err(&damaged)?;
        let records = &mut self.records;
        let object_bytes = (start.len() + end.len()) as u64 + records.len();
        let mut parts = |out: &mut Out<'_, L::Error>| {
            out(start)?;
            let mut piece = [0; CHUNK_RECORD_BYTES * 16];
            let (mut at, len) = (0, records.len());
            while at < len {
                let step = usize::try_from(len - at).unwrap_or(usize::MAX).min(piece.len());
                records.read_at(at, &mut piece[..step])?;
                out(&piece[..step])?;
                at += step as u64;
            }
            out(end)
        };
        stored.object = mac_of(&session.repository.mac_key, &mut parts).map_err(Error::Host)?;
        if !session.repository.has(ResourceKind::OBJECT, &stored.object)? {
            session.append(ResourceKind::OBJECT, &stored.object, object_bytes, &mut parts)?;
        }
        Ok(stored)
    }
}

/// The MAC of what `content` gives. On its own for what that takes of the stack.
#[inline(never)]
fn mac_of<E>(key: &MacKey, content: Content<'_, E>) -> Result<Mac, E> {
    let mut hasher = key.hasher();
    content(&mut |bytes| {
        hasher.update(bytes);
        Ok(())
    })?;
    Ok(hasher.so_far())
}

/// Why content could not be stored: what it is read from failed, which is an
/// error of one file, or anything else, which ends the work.
#[derive(Debug)]
pub enum ReadError<E> {
    /// The importer's.
    Source(E),
    /// Anything else.
    Engine(Error<E>),
}

impl<E> From<Error<E>> for ReadError<E> {
    fn from(error: Error<E>) -> Self {
        Self::Engine(error)
    }
}

/// Encoded length from which a blob may need more memory than a repository has
/// for decoding in pieces.
const LARGE_BLOB_BYTES: u32 = 256 * 1024;

/// Length of a chunk record in the spool of a reader, in bytes.
const READ_RECORD_BYTES: usize = 36;

/// Gives the content of one object after another, chunk by chunk.
pub struct ContentReader<P: Spool> {
    /// MAC and length of each chunk.
    records: P,
    at: u64,
    content_mac: Mac,
    length_bytes: u64,
    hasher: Option<MacHasher>,
}

impl<P: Spool> core::fmt::Debug for ContentReader<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ContentReader").field("at", &self.at).finish_non_exhaustive()
    }
}

/// One chunk of an object that is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ChunkPlace {
    /// Its key.
    pub mac: Mac,
    /// Length of its plaintext, in bytes.
    pub length_bytes: u32,
}

impl<P: Spool> ContentReader<P> {
    /// A reader that keeps lists of chunks in `records`.
    pub fn new(records: P) -> Self {
        Self { records, at: 0, content_mac: Mac::ZERO, length_bytes: 0, hasher: None }
    }

    /// Opens an object. `work` is lent to decode a large one with, and is not
    /// needed afterwards: the memory for chunks will do.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::Damaged`], and the host's.
    pub fn open<L: Lend>(
        &mut self,
        repository: &mut Repository<'_, L>,
        object: &Mac,
        work: &mut [u8],
    ) -> Result<(), Error<L::Error>>
    where
        P: Spool<Error = L::Error>,
    {
        let subject = Subject::Blob(ResourceKind::OBJECT, *object);
        let damaged = Error::damaged(subject);
        self.records.truncate(0)?;
        self.at = 0;
        self.hasher = Some(repository.mac_key.hasher());
        let mut parser = Parsing::new(&mut self.records);
        let mac = repository
            .stream_blob(ResourceKind::OBJECT, object, work, &mut |bytes| parser.push(bytes))?;
        if mac != *object {
            return Err(damaged(FormatError::Mac));
        }
        self.length_bytes = parser.length_bytes;
        self.content_mac = parser.finish().map_err(damaged)?;
        Ok(())
    }

    /// Length of the content of the open object, in bytes: that of all its chunks.
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// Number of chunks of the open object.
    pub fn chunks(&self) -> u64 {
        self.records.len() / READ_RECORD_BYTES as u64
    }

    /// The next chunk, without reading it.
    ///
    /// # Errors
    ///
    /// The host's.
    pub fn next_place(&mut self) -> Result<Option<ChunkPlace>, P::Error> {
        if self.at == self.records.len() {
            return Ok(None);
        }
        let mut record = [0; READ_RECORD_BYTES];
        self.records.read_at(self.at, &mut record)?;
        self.at += READ_RECORD_BYTES as u64;
        let (mac, length) = record.split_at(32);
        Ok(Some(ChunkPlace {
            mac: Mac::from_slice(mac).unwrap_or_default(),
            length_bytes: u32::from_le_bytes(length.try_into().unwrap_or_default()),
        }))
    }

    /// Reads the next chunk into the start of `slot` and returns its length;
    /// nothing after the last, when the whole was compared with the MAC of the
    /// content.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::Damaged`], and the host's.
    pub fn next<L: Lend>(
        &mut self,
        repository: &mut Repository<'_, L>,
        slot: &mut [u8],
    ) -> Result<Option<usize>, Error<L::Error>>
    where
        P: Spool<Error = L::Error>,
    {
        let Some(place) = self.next_place()? else {
            let found = self.hasher.take().map(MacHasher::finish);
            return match found {
                Some(mac) if mac != self.content_mac => {
                    let subject = Subject::Blob(ResourceKind::OBJECT, self.content_mac);
                    Err(Error::damaged(subject)(FormatError::Field("MAC of its content")))
                }
                _ => Ok(None),
            };
        };
        let subject = Subject::Blob(ResourceKind::CHUNK, place.mac);
        let len = repository.read_blob(ResourceKind::CHUNK, &place.mac, slot)?;
        if len != usize::try_from(place.length_bytes).unwrap_or(usize::MAX) {
            return Err(Error::damaged(subject)(FormatError::Field("length")));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&slot[..len]);
        }
        Ok(Some(len))
    }

    /// Gives the whole content of an object to `out`, chunk by chunk.
    ///
    /// # Errors
    ///
    /// What `out` returns, [`Error::Missing`], [`Error::Damaged`], and the
    /// host's.
    pub fn read<L: Lend>(
        &mut self,
        repository: &mut Repository<'_, L>,
        object: &Mac,
        slot: &mut [u8],
        out: &mut Out<'_, L::Error>,
    ) -> Result<(), Error<L::Error>>
    where
        P: Spool<Error = L::Error>,
    {
        self.open(repository, object, slot)?;
        while let Some(len) = self.next(repository, slot)? {
            out(&slot[..len])?;
        }
        Ok(())
    }
}

/// Bytes of an object that are looked at together: more than its longest field
/// or record.
const PARSE_WINDOW_BYTES: usize = 2048;

/// Takes the chunk records out of an object that streams by.
struct Parsing<'r, P> {
    parser: ObjectParser,
    window: heapless::Vec<u8, PARSE_WINDOW_BYTES>,
    records: &'r mut P,
    length_bytes: u64,
    result: Option<Result<Mac, FormatError>>,
}

impl<'r, P: Spool> Parsing<'r, P> {
    fn new(records: &'r mut P) -> Self {
        Self {
            parser: ObjectParser::default(),
            window: heapless::Vec::new(),
            records,
            length_bytes: 0,
            result: None,
        }
    }

    fn push(&mut self, mut bytes: &[u8]) -> Result<(), P::Error> {
        while !bytes.is_empty() {
            let take = bytes.len().min(PARSE_WINDOW_BYTES - self.window.len());
            let _ = self.window.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            let used = self.steps()?;
            if used == 0 && self.window.is_full() && self.result.is_none() {
                self.result = Some(Err(FormatError::Bound("field")));
            }
            if self.result.is_some() {
                return Ok(());
            }
            let left = self.window.len() - used;
            self.window.copy_within(used.., 0);
            self.window.truncate(left);
        }
        Ok(())
    }

    /// Takes all that the window holds, and returns its length.
    fn steps(&mut self) -> Result<usize, P::Error> {
        let mut used = 0;
        while self.result.is_none() {
            match self.parser.step(&self.window[used..]) {
                Err(error) => self.result = Some(Err(error)),
                Ok((ObjectStep::More, more)) => return Ok(used + more),
                Ok((ObjectStep::End { content_mac }, _)) => self.result = Some(Ok(content_mac)),
                Ok((ObjectStep::Chunk(chunk), more)) => {
                    used += more;
                    let mut record = [0; READ_RECORD_BYTES];
                    record[..32].copy_from_slice(&chunk.mac.0);
                    record[32..].copy_from_slice(&chunk.length_bytes.to_le_bytes());
                    self.records.append(&record)?;
                    let length_bytes = u64::from(chunk.length_bytes);
                    self.length_bytes = self.length_bytes.saturating_add(length_bytes);
                }
            }
        }
        Ok(used)
    }

    fn finish(self) -> Result<Mac, FormatError> {
        self.result.unwrap_or(Err(FormatError::Truncated))
    }
}

impl<L: Lend> Repository<'_, L> {
    /// Decodes a blob of any length piece by piece, and returns the MAC of
    /// what it held, for the caller to compare. `work` is lent for a large one.
    ///
    /// # Errors
    ///
    /// What `out` returns, [`Error::Missing`], [`Error::Damaged`], and the
    /// host's.
    pub fn stream_blob(
        &mut self,
        kind: ResourceKind,
        mac: &Mac,
        work: &mut [u8],
        out: &mut Out<'_, L::Error>,
    ) -> Result<Mac, Error<L::Error>> {
        let subject = Subject::Blob(kind, *mac);
        let at = self.index.find(kind, mac)?.ok_or(Error::Missing(subject))?;
        let damaged = Error::damaged(subject);
        let Memory { io, decode, .. } = &mut self.memory;
        // Small blobs decode in little memory, and are the most.
        let mut lent = match at.length_bytes {
            LARGE_BLOB_BYTES.. => decode.larger(work),
            _ => None,
        };
        let decoder = match &mut lent {
            Some(lent) => Decoder::new(&self.codec, lent),
            None => Decoder::new(&self.codec, decode),
        };
        let mut decoder = decoder.map_err(&damaged)?;
        let mut hasher = self.mac_key.hasher();
        let mut out = |bytes: &[u8]| {
            hasher.update(bytes);
            out(bytes)
        };
        let convert = |error| match error {
            CodecError::Format(cause) => damaged(cause),
            CodecError::Sink(error) => Error::Host(error),
        };
        let mut done = 0;
        while done < u64::from(at.length_bytes) {
            let part = self.held.part(&mut self.store, io, &at, done)?;
            decoder.push(part, &mut out).map_err(convert)?;
            done += part.len() as u64;
        }
        decoder.finish(&mut out).map_err(convert)?;
        Ok(hasher.finish())
    }
}

/// The type of the spools that a host lends.
pub type HostSpool<L> = <<L as Lend>::Host as Host>::Spool;
