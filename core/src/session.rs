//! [`Session`]: writes blobs to a store, and then the state that makes them
//! part of it. Sections 9, 10 and 13 of the format.
//!
//! Blobs stream into an upload as they are encoded; nothing of a packfile is
//! kept but the locations of its blobs, which lie in a spool: they become the
//! packfile's index when it is closed, and the state in the end.
//!
//! The name of a packfile is random. No reader compares it with anything, and
//! a name that is known from the start lets every connector stream.

use crate::btree::NodeSink;
use crate::codec::Encoder;
use crate::error::{Error, Subject};
use crate::host::Host;
use crate::index::{Index, Location};
use crate::limits::{PADDING_BYTES, bound};
use crate::lock::SharedLock;
use crate::mac::{Mac, MacHasher};
use crate::pipeline::{Digest, Packed, Pipeline};
use crate::repository::{Lend, Repository};
use crate::resource::{ResourceKind, Version};
use crate::spool::Spool;
use crate::store::{Layout, Store, StoreResource, UploadId};
use crate::time::Timestamp;
use crate::wire::envelope::{self, HEADER_BYTES};
use crate::wire::packfile::{BlobRecord, Footer};
use crate::wire::state::{self, ENTRY_BYTES_MAX, ENTRY_HEAD_BYTES, LOCATION_BYTES, StateEntry};

/// Length of a location in the spool, in bytes: an entry of a state.
const LOCATION_ENTRY_BYTES: usize = ENTRY_HEAD_BYTES + LOCATION_BYTES;

/// Bytes after which a packfile is closed even if the store sets no bound,
/// unless it must be the only one: lengths in it have to stay below 2^63.
const PACKFILE_BYTES_MAX: u64 = 1 << 62;

/// Bytes of a state that are read from the spool at once.
const STATE_PIECE_BYTES: usize = bound(4096, 512);

/// Seconds after which a long session writes a state, as stock does.
const CHECKPOINT_SECS: i64 = 60 * 60;

/// A packfile being written.
#[derive(Clone, Copy, Debug)]
struct OpenPackfile {
    upload: UploadId,
    name: Mac,
    /// Bytes of payload so far.
    payload_bytes: u64,
    /// Where its first location lies in the spool.
    first_entry_at: u64,
}

/// A chunk that was digested.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its MAC.
    pub mac: Mac,
    /// What else was found out.
    pub digest: Digest,
    /// Whether the store did not have it.
    pub is_new: bool,
}

/// Fills bytes at random.
type Random<'e, E> = &'e mut dyn FnMut(&mut [u8]) -> Result<(), E>;

/// Gives a blob's plaintext, piece by piece, to what it is called with.
pub type Content<'c, E> =
    &'c mut dyn FnMut(&mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E>;

/// Takes bytes.
type Take<'e, E> = &'e mut dyn FnMut(&[u8]) -> Result<(), E>;

/// An encoder of one unit of a packfile.
type UnitEncoder<'e, E> = Encoder<'e, Random<'e, E>, Take<'e, E>>;

/// Where the bytes of a packfile go: into its MAC and to the store. They are
/// gathered first, because hashing many bytes at once is several times faster
/// than hashing as many in small pieces.
struct WayOut<'o, S> {
    upload: UploadId,
    hasher: &'o mut MacHasher,
    store: &'o mut S,
    gather: &'o mut [u8],
    held: &'o mut usize,
}

impl<S: Store> WayOut<'_, S> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), S::Error> {
        if bytes.len() > self.gather.len() - *self.held {
            self.flush()?;
        }
        match self.gather.get_mut(*self.held..*self.held + bytes.len()) {
            Some(into) => {
                into.copy_from_slice(bytes);
                *self.held += bytes.len();
                Ok(())
            }
            None => {
                self.hasher.update(bytes);
                self.store.write(self.upload, bytes)
            }
        }
    }

    /// Lets everything go that waits.
    fn flush(&mut self) -> Result<(), S::Error> {
        let bytes = &self.gather[..core::mem::take(self.held)];
        self.hasher.update(bytes);
        if bytes.is_empty() { Ok(()) } else { self.store.write(self.upload, bytes) }
    }
}

/// What a session has written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Written {
    /// Blobs, without padding.
    pub blobs: u64,
    /// Bytes of packfiles and states, envelopes included.
    pub bytes: u64,
    /// Packfiles.
    pub packfiles: u64,
    /// States.
    pub states: u64,
}

/// Blobs on their way into a store. Dropped without
/// [`commit`](Self::commit), nothing of it is visible; packfiles that were
/// closed stay as orphans, which maintenance removes.
pub struct Session<'r, 'm, L: Lend> {
    /// The repository that is written to.
    pub repository: &'r mut Repository<'m, L>,
    state_name: Mac,
    /// Entries of the state to write: locations, in the order of the blobs,
    /// and closed packfiles.
    entries: <L::Host as Host>::Spool,
    open: Option<OpenPackfile>,
    /// Hashes the open packfile. Apart from it, as it is large.
    hasher: MacHasher,
    /// Bytes of the open packfile that wait to be hashed and written.
    held: usize,
    written: Written,
    lock: Option<SharedLock>,
    /// A snapshot bears the name of the state.
    has_snapshot: bool,
    /// When the last state was written, or the session begun.
    committed_at: Timestamp,
}

impl<L: Lend> core::fmt::Debug for Session<'_, '_, L> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Session").field("open", &self.open).finish_non_exhaustive()
    }
}

impl<'r, 'm, L: Lend> Session<'r, 'm, L> {
    /// A session whose (first) state will be called `state_name`: by custom,
    /// the identifier of the snapshot.
    ///
    /// # Errors
    ///
    /// The host's.
    pub fn new(
        repository: &'r mut Repository<'m, L>,
        state_name: Mac,
    ) -> Result<Self, Error<L::Error>> {
        let entries = repository.host.spool()?;
        let committed_at = repository.host.now();
        let hasher = repository.mac_key.hasher();
        if let Some(pipeline) = &mut repository.pipeline {
            pipeline.reset();
        }
        Ok(Self {
            repository,
            state_name,
            entries,
            open: None,
            hasher,
            held: 0,
            written: Written::default(),
            lock: None,
            has_snapshot: false,
            committed_at,
        })
    }

    /// Keeps a lock alive for as long as the session lasts.
    pub fn hold(&mut self, lock: Option<SharedLock>) {
        self.lock = lock;
    }

    /// Gives the lock back.
    ///
    /// # Errors
    ///
    /// The connector's.
    pub fn release(&mut self) -> Result<(), Error<L::Error>> {
        match self.lock.take() {
            Some(lock) => Ok(lock.release(self.repository)?),
            None => Ok(()),
        }
    }

    /// To be called often: refreshes the lock, and after an hour makes durable
    /// what there is, so that the next run need not begin anew.
    ///
    /// # Errors
    ///
    /// [`Error::Cancelled`] when the work is to stop; [`Error::Locked`], and
    /// the host's.
    pub fn keep_alive(&mut self) -> Result<(), Error<L::Error>> {
        if self.repository.host.cancelled() {
            return Err(Error::Cancelled);
        }
        if let Some(lock) = &mut self.lock {
            lock.refresh(self.repository)?;
        }
        let is_single = self.repository.store.layout() == Layout::SingleFile;
        let age = self.repository.host.now().secs - self.committed_at.secs;
        if !is_single && age >= CHECKPOINT_SECS { self.commit() } else { Ok(()) }
    }

    /// A name for a new snapshot: that of the state for the first one, as stock
    /// has it, and a random one for any other.
    ///
    /// # Errors
    ///
    /// The host's.
    pub fn snapshot_name(&mut self) -> Result<Mac, Error<L::Error>> {
        let mut name = self.state_name;
        if core::mem::replace(&mut self.has_snapshot, true) {
            self.repository.host.fill_random(&mut name.0)?;
        }
        Ok(name)
    }

    /// What was written so far.
    #[must_use]
    pub fn written(&self) -> Written {
        self.written
    }

    /// Stores a blob unless the store has it, and returns its MAC.
    ///
    /// # Errors
    ///
    /// The host's.
    pub fn put(&mut self, kind: ResourceKind, bytes: &[u8]) -> Result<Mac, Error<L::Error>> {
        let mac = self.repository.mac_key.mac(bytes);
        self.put_named(kind, &mac, bytes)?;
        Ok(mac)
    }

    /// Stores a blob under that MAC unless the store has it. Returns whether
    /// it was stored.
    ///
    /// # Errors
    ///
    /// The host's.
    pub fn put_named(
        &mut self,
        kind: ResourceKind,
        mac: &Mac,
        bytes: &[u8],
    ) -> Result<bool, Error<L::Error>> {
        if self.repository.index.contains(kind, mac)? {
            return Ok(false);
        }
        if self.queue(kind, mac, bytes.len(), &mut |write| write(bytes))? {
            return Ok(true);
        }
        self.append_with(kind, mac, |encoder| encoder.finish_with(bytes))?;
        Ok(true)
    }

    /// Stores a blob of `plain_bytes` without asking whether the store has it.
    /// `content` is called once, with what it gives the plaintext to, piece by
    /// piece.
    ///
    /// # Errors
    ///
    /// The host's, and what `content` returns.
    pub fn append(
        &mut self,
        kind: ResourceKind,
        mac: &Mac,
        plain_bytes: u64,
        content: Content<'_, L::Error>,
    ) -> Result<(), Error<L::Error>> {
        let queued = match usize::try_from(plain_bytes) {
            Ok(plain_bytes) => self.queue(kind, mac, plain_bytes, content)?,
            Err(_) => false,
        };
        if queued {
            return Ok(());
        }
        // What is too large for a batch comes after all that was before it.
        self.drain()?;
        self.append_with(kind, mac, |mut encoder| {
            content(&mut |bytes| encoder.write(bytes))?;
            encoder.finish()
        })
    }

    /// Gives a blob to the pipeline, if there is one and it takes blobs of that
    /// length. Returns whether it did.
    fn queue(
        &mut self,
        kind: ResourceKind,
        mac: &Mac,
        plain_bytes: usize,
        content: Content<'_, L::Error>,
    ) -> Result<bool, Error<L::Error>> {
        let Some(pipeline) = self.repository.pipeline.take() else { return Ok(false) };
        let queued = self.queue_in(pipeline, (kind, mac), plain_bytes, content);
        self.repository.pipeline = Some(pipeline);
        let queued = queued?;
        if queued {
            // From now on it is known, wherever it is.
            self.repository.index.add(kind, mac)?;
        }
        Ok(queued)
    }

    fn queue_in(
        &mut self,
        pipeline: &mut dyn Pipeline<Error = L::Error>,
        (kind, mac): (ResourceKind, &Mac),
        plain_bytes: usize,
        content: Content<'_, L::Error>,
    ) -> Result<bool, Error<L::Error>> {
        let filling = pipeline.filling();
        if !filling.is_empty() && !filling.has_room(plain_bytes) {
            self.submit(pipeline)?;
        }
        let mut filling = pipeline.filling();
        if !filling.has_room(plain_bytes) {
            return Ok(false);
        }
        filling.push(kind, mac, plain_bytes, |into| {
            let mut at = 0;
            content(&mut |bytes| {
                into[at..at + bytes.len()].copy_from_slice(bytes);
                at += bytes.len();
                Ok(())
            })
        })?;
        if filling.is_worth_it() {
            self.submit(pipeline)?;
        }
        Ok(true)
    }

    /// Hands over a chunk to be digested while the work goes on, if there is a
    /// pipeline that takes it. Returns whether it did:
    /// [`end_chunk`](Self::end_chunk) must follow before another.
    ///
    /// # Errors
    ///
    /// The host's.
    pub fn begin_chunk(&mut self, bytes: &[u8]) -> Result<bool, Error<L::Error>> {
        let Some(pipeline) = self.repository.pipeline.take() else { return Ok(false) };
        let begun = self.begin_chunk_in(pipeline, bytes);
        self.repository.pipeline = Some(pipeline);
        begun
    }

    fn begin_chunk_in(
        &mut self,
        pipeline: &mut dyn Pipeline<Error = L::Error>,
        bytes: &[u8],
    ) -> Result<bool, Error<L::Error>> {
        pipeline.discard();
        if !pipeline.filling().is_empty() {
            self.submit(pipeline)?;
        }
        let mut filling = pipeline.filling();
        if !filling.has_room(bytes.len()) {
            return Ok(false);
        }
        filling.push(ResourceKind::CHUNK, &Mac::ZERO, bytes.len(), |into| {
            into.copy_from_slice(bytes);
            Ok::<(), L::Error>(())
        })?;
        self.free_one(pipeline)?;
        pipeline.digest(&self.repository.mac_key)?;
        Ok(true)
    }

    /// Waits for the digest of the chunk that was handed over, and stores the
    /// chunk unless the store has it. Nothing if none was handed over.
    ///
    /// # Errors
    ///
    /// The host's.
    pub fn end_chunk(&mut self) -> Result<Option<Ended>, Error<L::Error>> {
        let repository = &mut *self.repository;
        let Some(pipeline) = &mut repository.pipeline else { return Ok(None) };
        let Some(digest) = pipeline.digested()? else { return Ok(None) };
        let mac = digest.hasher.clone().finish();
        let is_new = !repository.index.contains(ResourceKind::CHUNK, &mac)?;
        if is_new {
            pipeline.keep(&mac, &repository.codec)?;
            repository.index.add(ResourceKind::CHUNK, &mac)?;
        } else {
            pipeline.discard();
        }
        Ok(Some(Ended { mac, digest, is_new }))
    }

    /// Has the batch that was filled encoded; writes older ones if they are as
    /// many as may be.
    fn submit(
        &mut self,
        pipeline: &mut dyn Pipeline<Error = L::Error>,
    ) -> Result<(), Error<L::Error>> {
        self.free_one(pipeline)?;
        Ok(pipeline.submit(&self.repository.codec)?)
    }

    /// Writes the oldest batches, until one is free.
    fn free_one(
        &mut self,
        pipeline: &mut dyn Pipeline<Error = L::Error>,
    ) -> Result<(), Error<L::Error>> {
        while pipeline.is_full() {
            if !self.write_oldest(pipeline)? {
                // That of a file which could not be read to its end.
                pipeline.discard();
            }
        }
        Ok(())
    }

    /// Writes the oldest batch of the pipeline. Returns whether there was one.
    fn write_oldest(
        &mut self,
        pipeline: &mut dyn Pipeline<Error = L::Error>,
    ) -> Result<bool, Error<L::Error>> {
        let Some(batch) = pipeline.oldest()? else { return Ok(false) };
        for blob in batch.packed() {
            let mut open = self.packfile()?;
            match self.write_packed(&mut open, &blob) {
                Ok(()) => self.keep_or_close(open)?,
                Err(error) => {
                    self.repository.store.abort(open.upload);
                    return Err(error);
                }
            }
        }
        pipeline.release();
        Ok(true)
    }

    fn write_packed(
        &mut self,
        open: &mut OpenPackfile,
        blob: &Packed<'_>,
    ) -> Result<(), Error<L::Error>> {
        let offset_bytes = open.payload_bytes;
        self.write_raw(open, blob.bytes)?;
        self.written.blobs += 1;
        self.note(open, blob.kind, &blob.mac, offset_bytes, blob.bytes.len() as u64)
    }

    /// Writes everything that is in the pipeline.
    pub(crate) fn drain(&mut self) -> Result<(), Error<L::Error>> {
        let Some(pipeline) = self.repository.pipeline.take() else { return Ok(()) };
        let drained = self.drain_from(pipeline);
        self.repository.pipeline = Some(pipeline);
        drained
    }

    fn drain_from(
        &mut self,
        pipeline: &mut dyn Pipeline<Error = L::Error>,
    ) -> Result<(), Error<L::Error>> {
        if !pipeline.filling().is_empty() {
            self.submit(pipeline)?;
        }
        while self.write_oldest(pipeline)? {}
        Ok(())
    }

    /// Stores a blob that `encode` encodes.
    fn append_with(
        &mut self,
        kind: ResourceKind,
        mac: &Mac,
        encode: impl FnOnce(UnitEncoder<'_, L::Error>) -> Result<u64, L::Error>,
    ) -> Result<(), Error<L::Error>> {
        let mut open = self.packfile()?;
        match self.append_to(&mut open, kind, mac, encode) {
            Ok(()) => self.keep_or_close(open),
            Err(error) => {
                self.repository.store.abort(open.upload);
                Err(error)
            }
        }
    }

    fn append_to(
        &mut self,
        open: &mut OpenPackfile,
        kind: ResourceKind,
        mac: &Mac,
        encode: impl FnOnce(UnitEncoder<'_, L::Error>) -> Result<u64, L::Error>,
    ) -> Result<(), Error<L::Error>> {
        let offset_bytes = open.payload_bytes;
        let length = self.encode_unit(open, encode)?;
        self.written.blobs += 1;
        self.note(open, kind, mac, offset_bytes, length)?;
        self.repository.index.add(kind, mac)?;
        Ok(())
    }

    /// Writes a unit that `encode` encodes, and returns its length.
    fn encode_unit(
        &mut self,
        open: &mut OpenPackfile,
        encode: impl FnOnce(UnitEncoder<'_, L::Error>) -> Result<u64, L::Error>,
    ) -> Result<u64, Error<L::Error>> {
        let Self { repository, hasher, held, .. } = self;
        let (store, host) = (&mut repository.store, &mut repository.host);
        let mut way =
            WayOut { upload: open.upload, hasher, store, held, gather: repository.memory.out };
        let mut out = |bytes: &[u8]| way.put(bytes);
        let mut random = |bytes: &mut [u8]| host.fill_random(bytes);
        let scratch = &mut repository.memory.encode;
        let encoder = Encoder::new(
            &repository.codec,
            scratch,
            &mut random as Random<'_, L::Error>,
            &mut out as Take<'_, L::Error>,
        )
        .map_err(Error::damaged(Subject::Config))?;
        let length = encode(encoder)?;
        open.payload_bytes += length;
        Ok(length)
    }

    /// Notes where a blob lies, for packfile index and state.
    fn note(
        &mut self,
        open: &OpenPackfile,
        kind: ResourceKind,
        mac: &Mac,
        offset_bytes: u64,
        length: u64,
    ) -> Result<(), Error<L::Error>> {
        // Chunks are at most 64 MiB, objects of 4 GiB describe files of 40 TB.
        let length_bytes = u32::try_from(length).map_err(|_| Error::Memory {
            what: "the length of a blob in its packfile",
            needed_bytes: length,
            lent_bytes: u64::from(u32::MAX),
        })?;
        let location = Location { packfile: open.name, offset_bytes, length_bytes };
        let mut entry = [0; ENTRY_BYTES_MAX];
        Ok(self.entries.append(StateEntry::Location(kind, *mac, location).emit(&mut entry))?)
    }

    /// The open packfile, taken out; a new one if there is none.
    fn packfile(&mut self) -> Result<OpenPackfile, Error<L::Error>> {
        if let Some(open) = self.open.take() {
            return Ok(open);
        }
        let repository = &mut *self.repository;
        let mut name = Mac::ZERO;
        repository.host.fill_random(&mut name.0)?;
        let upload = repository.store.begin(StoreResource::Packfile)?;
        self.hasher = repository.mac_key.hasher();
        self.held = 0;
        let first_entry_at = self.entries.len();
        let open = OpenPackfile { upload, name, payload_bytes: 0, first_entry_at };
        let header = envelope::header(ResourceKind::PACKFILE, Version::V1_0_0);
        self.way_out(&open).put(&header)?;
        Ok(open)
    }

    /// Where bytes of the open packfile go.
    fn way_out(&mut self, open: &OpenPackfile) -> WayOut<'_, L::Store> {
        let Self { repository, hasher, held, .. } = self;
        let store = &mut repository.store;
        WayOut { upload: open.upload, hasher, store, held, gather: repository.memory.out }
    }

    fn keep_or_close(&mut self, open: OpenPackfile) -> Result<(), Error<L::Error>> {
        let is_full = match self.repository.store.layout() {
            Layout::SingleFile => false,
            Layout::Directory => {
                let max = self.repository.facts.packfile_bytes_max;
                open.payload_bytes > max.min(PACKFILE_BYTES_MAX)
            }
        };
        if is_full {
            return self.close(open);
        }
        self.open = Some(open);
        Ok(())
    }

    /// Ends a packfile. Then it is durable.
    fn close(&mut self, mut open: OpenPackfile) -> Result<(), Error<L::Error>> {
        let upload = open.upload;
        let closed = self.write_end(&mut open).and_then(|()| self.commit_packfile(open));
        if closed.is_err() {
            self.repository.store.abort(upload);
        }
        closed
    }

    /// Writes what ends a packfile: padding, index, footer.
    fn write_end(&mut self, open: &mut OpenPackfile) -> Result<(), Error<L::Error>> {
        let is_single = self.repository.store.layout() == Layout::SingleFile;
        self.write_padding(open, is_single)?;
        let now = self.repository.host.now();
        let index_offset_bytes = open.payload_bytes;
        let (index_mac, count) = self.write_index(open)?;
        let footer = Footer {
            timestamp_nanos: if is_single { 0 } else { now.unix_nanos() },
            count,
            index_offset_bytes,
            index_mac,
        };
        let before = open.payload_bytes;
        self.write_unit(open, &footer.emit())?;
        let footer_bytes = u32::try_from(open.payload_bytes - before).unwrap_or(u32::MAX);
        self.write_raw(open, &footer_bytes.to_le_bytes())
    }

    /// Writes the MAC of a packfile, and makes it part of the store.
    fn commit_packfile(&mut self, open: OpenPackfile) -> Result<(), Error<L::Error>> {
        let now = self.repository.host.now();
        self.way_out(&open).flush()?;
        let trailer = self.hasher.so_far();
        let store = &mut self.repository.store;
        store.write(open.upload, &trailer.0)?;
        store.commit(open.upload, &open.name)?;
        let mut entry = [0; ENTRY_BYTES_MAX];
        let declared = StateEntry::Packfile(open.name, self.state_name, now);
        self.entries.append(declared.emit(&mut entry))?;
        self.written.packfiles += 1;
        self.written.bytes += open.payload_bytes + envelope::ENVELOPE_BYTES;
        Ok(())
    }

    /// Random bytes after the last blob: stock reads past the end of what it
    /// wants, and takes a short read for an error (trap 3). A ptar lists no
    /// padding; its index and state come after the blobs, but may be short.
    fn write_padding(
        &mut self,
        open: &mut OpenPackfile,
        is_single: bool,
    ) -> Result<(), Error<L::Error>> {
        let start = open.payload_bytes;
        let mut piece = [0; 512];
        for _ in 0..PADDING_BYTES / piece.len() {
            self.repository.host.fill_random(&mut piece)?;
            self.write_raw(open, &piece)?;
        }
        if is_single {
            return Ok(());
        }
        let mut mac = Mac::ZERO;
        self.repository.host.fill_random(&mut mac.0)?;
        self.note(open, ResourceKind::RANDOM, &mac, start, open.payload_bytes - start)
    }

    fn write_raw(&mut self, open: &mut OpenPackfile, bytes: &[u8]) -> Result<(), Error<L::Error>> {
        self.way_out(open).put(bytes)?;
        open.payload_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Writes an encoded unit that is no blob.
    fn write_unit(&mut self, open: &mut OpenPackfile, bytes: &[u8]) -> Result<(), Error<L::Error>> {
        self.encode_unit(open, |encoder| encoder.finish_with(bytes)).map(drop)
    }

    /// Writes the index of the packfile, from its locations in the spool.
    fn write_index(&mut self, open: &mut OpenPackfile) -> Result<(Mac, u32), Error<L::Error>> {
        let Self { repository, hasher, held, .. } = self;
        let (store, host) = (&mut repository.store, &mut repository.host);
        let mut index_hasher = repository.mac_key.hasher();
        let mut way =
            WayOut { upload: open.upload, hasher, store, held, gather: repository.memory.out };
        let mut out = |bytes: &[u8]| way.put(bytes);
        let mut random = |bytes: &mut [u8]| host.fill_random(bytes);
        let encode = &mut repository.memory.encode;
        let mut encoder = Encoder::new(&repository.codec, encode, &mut random, &mut out)
            .map_err(Error::damaged(Subject::Config))?;
        let (mut at, mut count) = (open.first_entry_at, 0);
        let mut entry = [0; LOCATION_ENTRY_BYTES];
        while at < self.entries.len() {
            self.entries.read_at(at, &mut entry)?;
            at += LOCATION_ENTRY_BYTES as u64;
            let Ok(state::Parsed::Entry(StateEntry::Location(kind, mac, location), _)) =
                StateEntry::parse(&entry, false)
            else {
                continue;
            };
            let record = BlobRecord {
                kind,
                mac,
                offset_bytes: location.offset_bytes,
                length_bytes: location.length_bytes,
            };
            let record = record.emit();
            index_hasher.update(&record);
            encoder.write(&record)?;
            count += 1;
        }
        open.payload_bytes += encoder.finish()?;
        Ok((index_hasher.so_far(), count))
    }

    /// Makes everything so far part of the store: closes the packfile, and
    /// writes a state when all packfiles are durable. The session goes on with
    /// a state of another name.
    ///
    /// # Errors
    ///
    /// The host's. The store is as it was before, but for orphans.
    pub fn commit(&mut self) -> Result<(), Error<L::Error>> {
        self.drain()?;
        if let Some(open) = self.open.take() {
            self.close(open)?;
        } else if self.repository.store.layout() == Layout::SingleFile {
            let open = self.packfile()?;
            self.close(open)?;
        }
        if self.entries.is_empty() {
            return Ok(());
        }
        let version_and_parent = self.repository.index.newest_state()?;
        let (version, parent) = match version_and_parent {
            // A store of clients of 1.0 stays readable to them.
            Some((version, _)) if version < Version::V1_1_0 => (Version::V1_0_0, None),
            Some((_, newest)) => (Version::V1_1_0, Some(newest)),
            None => (Version::V1_1_0, Some(Mac::ZERO)),
        };
        self.write_state(version, parent)?;
        self.entries.truncate(0)?;
        self.repository.host.fill_random(&mut self.state_name.0)?;
        self.committed_at = self.repository.host.now();
        Ok(())
    }

    fn write_state(
        &mut self,
        version: Version,
        parent: Option<Mac>,
    ) -> Result<(), Error<L::Error>> {
        let upload = self.repository.store.begin(StoreResource::State)?;
        let written = self.write_state_to(upload, version, parent);
        if written.is_err() {
            self.repository.store.abort(upload);
        }
        written
    }

    fn write_state_to(
        &mut self,
        upload: UploadId,
        version: Version,
        parent: Option<Mac>,
    ) -> Result<(), Error<L::Error>> {
        let now = self.repository.host.now();
        let repository = &mut *self.repository;
        let (store, host) = (&mut repository.store, &mut repository.host);
        let mut hasher = repository.mac_key.hasher();
        let header = envelope::header(ResourceKind::STATE, version);
        hasher.update(&header);
        store.write(upload, &header)?;
        let mut out = |bytes: &[u8]| {
            hasher.update(bytes);
            store.write(upload, bytes)
        };
        let mut random = |bytes: &mut [u8]| host.fill_random(bytes);
        let encode = &mut repository.memory.encode;
        let mut encoder = Encoder::new(&repository.codec, encode, &mut random, &mut out)
            .map_err(Error::damaged(Subject::Config))?;
        if let Some(parent) = parent {
            encoder.write(&parent.0)?;
        }
        let mut piece = [0; STATE_PIECE_BYTES];
        let (mut at, end) = (0, self.entries.len());
        while at < end {
            let step = usize::try_from(end - at).unwrap_or(usize::MAX).min(piece.len());
            self.entries.read_at(at, &mut piece[..step])?;
            encoder.write(&piece[..step])?;
            at += step as u64;
        }
        encoder.write(&state::metadata(version, now, &repository.facts.repository_id))?;
        let length = encoder.finish()?;
        let trailer = hasher.so_far();
        store.write(upload, &trailer.0)?;
        store.commit(upload, &self.state_name)?;
        self.written.states += 1;
        self.written.bytes += length + HEADER_BYTES as u64 + 32;
        Ok(())
    }
}

impl<L: Lend> Drop for Session<'_, '_, L> {
    fn drop(&mut self) {
        if let Some(pipeline) = &mut self.repository.pipeline {
            pipeline.reset();
        }
        if let Some(open) = self.open.take() {
            self.repository.store.abort(open.upload);
        }
        // Best effort: a lock that stays is stale ten minutes later.
        let _ = self.release();
    }
}

impl<L: Lend> NodeSink for Session<'_, '_, L> {
    type Error = L::Error;

    fn put(&mut self, kind: ResourceKind, bytes: &[u8]) -> Result<Mac, Error<L::Error>> {
        Session::put(self, kind, bytes)
    }
}
