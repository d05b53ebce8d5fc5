//! Brings an index up to date with the states of a store. Section 10.3 of the
//! format.

use core::ops::ControlFlow;

use crate::codec::{CodecError, Decoder};
use crate::error::{Error, FormatError, Subject};
use crate::host::{HostError as _, HostErrorKind};
use crate::index::{Index, StateSink};
use crate::mac::Mac;
use crate::repository::{Lend, Repository, absent};
use crate::resource::{ResourceKind, Version};
use crate::store::{Store, StoreResource};
use crate::wire::envelope::{self, ENVELOPE_BYTES, HEADER_BYTES, TRAILER_BYTES};
use crate::wire::state::{ENTRY_BYTES_MAX, PARENT_BYTES, Parsed, StateEntry};

/// How often a refresh is tried whose index loses what it was told: in its
/// place, in a new one, and in one that is not kept.
const TRIES: u32 = 3;

/// What to do about a state that cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnDamage {
    /// Fail, as stock does: nothing is known of a store with a hole in it.
    Fail,
    /// Go on without it, for a check that reports all that is wrong.
    Skip,
}

impl<L: Lend> Repository<'_, L> {
    /// Reads the states that the index does not know yet. Calls `damaged` for
    /// each that cannot be read, which says whether to go on.
    ///
    /// `work` is lent to decode with, where it is larger than what the
    /// repository has for that: stock's states may need
    /// [`DECODE_SCRATCH_BYTES_STOCK`](crate::codec::DECODE_SCRATCH_BYTES_STOCK).
    ///
    /// # Errors
    ///
    /// The host's; [`Error::Damaged`] or [`Error::Missing`] for a state that
    /// cannot be read, unless it is to be skipped.
    pub fn refresh(
        &mut self,
        work: &mut [u8],
        damaged: &mut dyn FnMut(&Error<L::Error>) -> OnDamage,
    ) -> Result<(), Error<L::Error>> {
        for _ in 1..TRIES {
            match self.refresh_once(work, damaged) {
                Err(Error::Host(error)) if error.kind() == HostErrorKind::Lost => {}
                done => return done,
            }
        }
        self.refresh_once(work, damaged)
    }

    fn refresh_once(
        &mut self,
        work: &mut [u8],
        damaged: &mut dyn FnMut(&Error<L::Error>) -> OnDamage,
    ) -> Result<(), Error<L::Error>> {
        self.index.begin_refresh()?;
        let (store, index) = (&mut self.store, &mut self.index);
        // Known states are the most; the others wait in the index.
        let mut failed = None;
        store.list(StoreResource::State, &mut |name| match index.state_listed(&name) {
            Ok(_) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })?;
        if let Some(error) = failed {
            return Err(Error::Host(error));
        }
        self.index.all_states_listed()?;
        while let Some(name) = self.index.next_unverified_state()? {
            if let Err(error) = self.verify_state(&name, work) {
                match error {
                    Error::Host(_) => return Err(error),
                    _ if damaged(&error) == OnDamage::Fail => return Err(error),
                    _ => self.index.state_unreadable(&name)?,
                }
            }
        }
        while let Some((name, version)) = self.index.next_unread_state()? {
            self.read_state(&name, version, work)?;
            self.index.state_read(&name)?;
        }
        self.index.end_refresh()?;
        Ok(())
    }

    /// Compares a state with its MAC, and notes version and parent.
    fn verify_state(&mut self, name: &Mac, work: &mut [u8]) -> Result<(), Error<L::Error>> {
        let subject = Subject::State(*name);
        let size = self.store.size(StoreResource::State, name)?.ok_or(Error::Missing(subject))?;
        let version = self.verify_envelope(StoreResource::State, name, Version::V1_1_0)?;
        let mut parent = Mac::ZERO;
        if version == Version::V1_1_0 {
            let mut filled = 0;
            self.decode_state(name, size, work, &mut |_, bytes| {
                let take = bytes.len().min(PARENT_BYTES - filled);
                parent.0[filled..filled + take].copy_from_slice(&bytes[..take]);
                filled += take;
                Ok(if filled == PARENT_BYTES {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                })
            })?;
            if filled < PARENT_BYTES {
                return Err(Error::damaged(subject)(FormatError::Truncated));
            }
        }
        self.index.state_header(name, version, &parent)?;
        Ok(())
    }

    /// Compares a file of the store with the MAC that ends it, and returns the
    /// version of what it holds.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] or [`Error::Missing`], and the connector's.
    pub fn verify_envelope(
        &mut self,
        resource: StoreResource,
        name: &Mac,
        newest: Version,
    ) -> Result<Version, Error<L::Error>> {
        let (subject, kind) = match resource {
            StoreResource::Packfile => (Subject::Packfile(*name), ResourceKind::PACKFILE),
            StoreResource::State => (Subject::State(*name), ResourceKind::STATE),
            StoreResource::Lock => (Subject::Lock(*name), ResourceKind::LOCK),
        };
        let damaged = Error::damaged(subject);
        let size = self.store.size(resource, name)?.ok_or(Error::Missing(subject))?;
        let end = size.checked_sub(TRAILER_BYTES as u64).ok_or(FormatError::Truncated);
        let end = end.map_err(&damaged)?;
        let mut header = [0; HEADER_BYTES];
        let mut trailer = [0; TRAILER_BYTES];
        let store = &mut self.store;
        read_exact(store, resource, name, 0, &mut header, subject)?;
        let version = envelope::parse_header(&header, kind, newest).map_err(&damaged)?;
        read_exact(store, resource, name, end, &mut trailer, subject)?;
        let mut hasher = self.mac_key.hasher();
        self.held.forget();
        let mut at = 0;
        while at < end {
            let io = &mut self.memory.io;
            let step = usize::try_from(end - at).unwrap_or(usize::MAX).min(io.len());
            let read = self
                .store
                .get(resource, name, at, &mut io[..step])
                .map_err(|error| absent(error, subject))?;
            if read == 0 {
                return Err(damaged(FormatError::Truncated));
            }
            hasher.update(&io[..read]);
            at += read as u64;
        }
        if hasher.finish().0 == trailer { Ok(version) } else { Err(damaged(FormatError::Mac)) }
    }

    /// Gives the entries of a state to the index.
    fn read_state(
        &mut self,
        name: &Mac,
        version: Version,
        work: &mut [u8],
    ) -> Result<(), Error<L::Error>> {
        let subject = Subject::State(*name);
        let size = self.store.size(StoreResource::State, name)?.ok_or(Error::Missing(subject))?;
        let mut stream = EntryStream::new(version);
        self.decode_state(name, size, work, &mut |index, bytes| {
            stream.push(bytes, index)?;
            Ok(ControlFlow::Continue(()))
        })?;
        if stream.is_complete() {
            Ok(())
        } else {
            Err(Error::damaged(subject)(FormatError::Truncated))
        }
    }

    /// Decodes a state of `size` bytes, piece by piece, until told to stop.
    #[expect(clippy::type_complexity, reason = "a callback with the index and the bytes")]
    fn decode_state(
        &mut self,
        name: &Mac,
        size: u64,
        work: &mut [u8],
        each: &mut dyn FnMut(
            &mut L::Index,
            &[u8],
        ) -> Result<ControlFlow<()>, StreamError<L::Error>>,
    ) -> Result<(), Error<L::Error>> {
        let subject = Subject::State(*name);
        let damaged = Error::damaged(subject);
        size.checked_sub(ENVELOPE_BYTES).ok_or(FormatError::Truncated).map_err(&damaged)?;
        let end = size - TRAILER_BYTES as u64;
        let mut at = HEADER_BYTES as u64;
        self.held.forget();
        let crate::repository::Memory { io, decode, .. } = &mut self.memory;
        let mut lent = decode.larger(work);
        let decoder = match &mut lent {
            Some(lent) => Decoder::new(&self.codec, lent),
            None => Decoder::new(&self.codec, decode),
        };
        let mut decoder = decoder.map_err(&damaged)?;
        let index = &mut self.index;
        let mut stopped = false;
        let mut out = |bytes: &[u8]| {
            if !stopped {
                stopped = each(index, bytes)?.is_break();
            }
            if stopped { Err(StreamError::Stop) } else { Ok(()) }
        };
        let convert = |error| match error {
            CodecError::Format(cause) | CodecError::Sink(StreamError::Format(cause)) => {
                Some(damaged(cause))
            }
            CodecError::Sink(StreamError::Host(error)) => Some(Error::Host(error)),
            CodecError::Sink(StreamError::Stop) => None,
        };
        while at < end {
            let step = usize::try_from(end - at).unwrap_or(usize::MAX).min(io.len());
            let read = self
                .store
                .get(StoreResource::State, name, at, &mut io[..step])
                .map_err(|error| absent(error, subject))?;
            if read == 0 {
                return Err(damaged(FormatError::Truncated));
            }
            at += read as u64;
            if let Err(error) = decoder.push(&io[..read], &mut out) {
                return convert(error).map_or(Ok(()), Err);
            }
        }
        match decoder.finish(&mut out) {
            Err(error) => convert(error).map_or(Ok(()), Err),
            Ok(_) => Ok(()),
        }
    }
}

/// Fills `into` from a file of the store.
pub(crate) fn read_exact<S: Store>(
    store: &mut S,
    resource: StoreResource,
    name: &Mac,
    offset_bytes: u64,
    into: &mut [u8],
    subject: Subject,
) -> Result<(), Error<S::Error>>
where
    S::Error: crate::host::HostError,
{
    let mut done = 0;
    while done < into.len() {
        let read = store
            .get(resource, name, offset_bytes + done as u64, &mut into[done..])
            .map_err(|error| absent(error, subject))?;
        if read == 0 {
            return Err(Error::damaged(subject)(FormatError::Truncated));
        }
        done += read;
    }
    Ok(())
}

/// Why the stream of a state ends early.
enum StreamError<E> {
    Format(FormatError),
    Host(E),
    /// Enough was read.
    Stop,
}

/// Cuts the stream of a state into its entries.
struct EntryStream {
    version: Version,
    /// The start of an entry whose end has not come yet.
    carry: heapless::Vec<u8, ENTRY_BYTES_MAX>,
    /// Bytes to pass over: the parent, and entries of unknown kinds.
    skip: u64,
    complete: bool,
}

impl EntryStream {
    fn new(version: Version) -> Self {
        let skip = if version == Version::V1_1_0 { PARENT_BYTES as u64 } else { 0 };
        Self { version, carry: heapless::Vec::new(), skip, complete: false }
    }

    fn is_complete(&self) -> bool {
        self.complete
    }

    fn push<I: StateSink>(
        &mut self,
        mut bytes: &[u8],
        sink: &mut I,
    ) -> Result<(), StreamError<I::Error>> {
        loop {
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
            self.skip -= skipped as u64;
            bytes = &bytes[skipped..];
            if bytes.is_empty() && self.carry.is_empty() || self.skip > 0 {
                return Ok(());
            }
            if self.complete {
                return Err(StreamError::Format(FormatError::Field("end")));
            }
            let carried = self.carry.len();
            if carried > 0 {
                let take = bytes.len().min(ENTRY_BYTES_MAX - carried);
                let _ = self.carry.extend_from_slice(&bytes[..take]);
            }
            let source = if carried > 0 { &self.carry[..] } else { bytes };
            let deletions = self.version == Version::V1_1_0;
            match StateEntry::parse(source, deletions).map_err(StreamError::Format)? {
                Parsed::More => {
                    if carried == 0 {
                        let _ = self.carry.extend_from_slice(bytes);
                    }
                    return Ok(());
                }
                Parsed::Entry(entry, length) => {
                    self.give(entry, sink).map_err(StreamError::Host)?;
                    bytes = &bytes[length.saturating_sub(carried).min(bytes.len())..];
                }
                Parsed::Unknown(length) => {
                    // Counted from the start of the entry, carried or not.
                    self.skip = length.saturating_sub(carried as u64);
                }
            }
            self.carry.clear();
        }
    }

    fn give<I: StateSink>(&mut self, entry: StateEntry, sink: &mut I) -> Result<(), I::Error> {
        match entry {
            StateEntry::Location(kind, _, _) if kind == ResourceKind::RANDOM => Ok(()),
            StateEntry::Location(kind, mac, at) => sink.location(kind, &mac, &at),
            StateEntry::Coloured(kind, mac, when) => sink.coloured(kind, &mac, when),
            StateEntry::Packfile(packfile, state, when) => sink.packfile(&packfile, &state, when),
            StateEntry::DeleteLocation(kind, mac, packfile) => {
                sink.delete_location(kind, &mac, &packfile)
            }
            StateEntry::DeleteColour(kind, mac) => sink.delete_colour(kind, &mac),
            StateEntry::DeletePackfile(packfile) => sink.delete_packfile(&packfile),
            StateEntry::Metadata => {
                self.complete = true;
                Ok(())
            }
        }
    }
}

impl<E> From<E> for StreamError<E> {
    fn from(error: E) -> Self {
        Self::Host(error)
    }
}

/// The entries of a state whose stream comes in these parts, its end left out.
///
/// # Errors
///
/// [`FormatError`] for what is no such stream, or one that is cut.
#[cfg(feature = "_test")]
pub fn state_entries(
    version: Version,
    parts: &[&[u8]],
) -> Result<alloc::vec::Vec<StateEntry>, FormatError> {
    let mut entries = Entries(alloc::vec::Vec::new());
    let mut stream = EntryStream::new(version);
    for part in parts {
        match stream.push(part, &mut entries) {
            Err(StreamError::Format(error)) => return Err(error),
            Err(StreamError::Host(never)) => match never {},
            Err(StreamError::Stop) | Ok(()) => {}
        }
    }
    if stream.is_complete() { Ok(entries.0) } else { Err(FormatError::Truncated) }
}

/// Keeps what a state says as it is said.
#[cfg(feature = "_test")]
struct Entries(alloc::vec::Vec<StateEntry>);

#[cfg(feature = "_test")]
impl StateSink for Entries {
    type Error = core::convert::Infallible;

    fn location(
        &mut self,
        kind: ResourceKind,
        mac: &Mac,
        at: &crate::index::Location,
    ) -> Result<(), Self::Error> {
        self.0.push(StateEntry::Location(kind, *mac, *at));
        Ok(())
    }

    fn packfile(
        &mut self,
        packfile: &Mac,
        state: &Mac,
        when: crate::time::Timestamp,
    ) -> Result<(), Self::Error> {
        self.0.push(StateEntry::Packfile(*packfile, *state, when));
        Ok(())
    }

    fn coloured(
        &mut self,
        kind: ResourceKind,
        mac: &Mac,
        when: crate::time::Timestamp,
    ) -> Result<(), Self::Error> {
        self.0.push(StateEntry::Coloured(kind, *mac, when));
        Ok(())
    }

    fn delete_location(
        &mut self,
        kind: ResourceKind,
        mac: &Mac,
        packfile: &Mac,
    ) -> Result<(), Self::Error> {
        self.0.push(StateEntry::DeleteLocation(kind, *mac, *packfile));
        Ok(())
    }

    fn delete_colour(&mut self, kind: ResourceKind, mac: &Mac) -> Result<(), Self::Error> {
        self.0.push(StateEntry::DeleteColour(kind, *mac));
        Ok(())
    }

    fn delete_packfile(&mut self, packfile: &Mac) -> Result<(), Self::Error> {
        self.0.push(StateEntry::DeletePackfile(*packfile));
        Ok(())
    }
}
