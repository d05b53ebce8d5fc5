//! [`SharedLock`]: says that a store is being written to, so that nobody
//! removes what is not named by a state yet. Section 12 of the format.

use core::ops::ControlFlow;

use crate::codec::{CollectDecoder, Encoder};
use crate::error::{Error, FormatError, Subject};
use crate::host::{Host, HostError, HostErrorKind};
use crate::limits::LOCK_BYTES_MAX;
use crate::mac::Mac;
use crate::refresh::read_exact;
use crate::repository::{Lend, Repository};
use crate::resource::{ResourceKind, Version};
use crate::store::{Layout, Store, StoreResource};
use crate::time::Timestamp;
use crate::wire::envelope::{self, HEADER_BYTES, TRAILER_BYTES};
use crate::wire::lock::Lock;
use crate::wire::msgpack::Writer;

/// Seconds after which a lock is written anew.
const REFRESH_SECS: i64 = 5 * 60;

/// Seconds after which a lock that was not written anew is of nobody.
const STALE_SECS: i64 = 10 * 60;

/// Longest name of a machine in a lock, in bytes.
const HOSTNAME_BYTES_MAX: usize = 255;

/// A lock that is held: shared with other writers, but not with maintenance.
#[derive(Debug)]
pub struct SharedLock {
    name: Mac,
    hostname: heapless::Vec<u8, HOSTNAME_BYTES_MAX>,
    written_at: Timestamp,
}

impl SharedLock {
    /// Takes the lock of that name; nothing for a store that has no locks.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] when the store is locked exclusively;
    /// [`Error::Damaged`] for a lock that cannot be read, since it might be an
    /// exclusive one.
    pub fn acquire<L: Lend>(
        repository: &mut Repository<'_, L>,
        name: Mac,
        hostname: &[u8],
    ) -> Result<Option<Self>, Error<L::Error>> {
        if repository.store.layout() == Layout::SingleFile {
            return Ok(None);
        }
        let mut lock =
            Self { name, hostname: heapless::Vec::new(), written_at: Timestamp::default() };
        let len = hostname.len().min(HOSTNAME_BYTES_MAX);
        let _ = lock.hostname.extend_from_slice(&hostname[..len]);
        lock.write(repository)?;
        if let Err(error) = lock.yield_to_exclusive(repository) {
            let _ = repository.store.delete(StoreResource::Lock, &name);
            return Err(error);
        }
        Ok(Some(lock))
    }

    fn yield_to_exclusive<L: Lend>(
        &self,
        repository: &mut Repository<'_, L>,
    ) -> Result<(), Error<L::Error>> {
        // One lock is read at a time, by its place in the order of the names,
        // so that no listing is held.
        let mut after = None;
        while let Some(name) = next_lock(&mut repository.store, after)? {
            after = Some(name);
            if name == self.name {
                continue;
            }
            let Some(holder) = holder(repository, &name)? else { continue };
            let now = repository.host.now();
            // Any time may stand in the lock of another.
            if now.secs.saturating_sub(holder.since.secs) >= STALE_SECS {
                match repository.store.delete(StoreResource::Lock, &name) {
                    // A key that may not delete is enough to back up: the lock is
                    // void whether it is there or not.
                    Err(error) if error.kind() == HostErrorKind::PermissionDenied => {}
                    other => other?,
                }
            } else if holder.is_exclusive {
                return Err(Error::Locked(name));
            }
        }
        Ok(())
    }

    /// Writes the lock anew if it is time.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] when it was left alone for so long that another
    /// client took it for stale and removed it: the store may have been swept.
    pub fn refresh<L: Lend>(
        &mut self,
        repository: &mut Repository<'_, L>,
    ) -> Result<(), Error<L::Error>> {
        let age = repository.host.now().secs - self.written_at.secs;
        if (0..REFRESH_SECS).contains(&age) {
            return Ok(());
        }
        let was_stale = age >= STALE_SECS;
        if was_stale && repository.store.size(StoreResource::Lock, &self.name)?.is_none() {
            return Err(Error::Locked(self.name));
        }
        self.write(repository)
    }

    /// Gives the lock back.
    ///
    /// # Errors
    ///
    /// The connector's; the lock is then stale ten minutes later.
    pub fn release<L: Lend>(self, repository: &mut Repository<'_, L>) -> Result<(), L::Error> {
        repository.store.delete(StoreResource::Lock, &self.name)
    }

    /// On its own for what it takes of the stack: it is seldom time.
    #[inline(never)]
    fn write<L: Lend>(
        &mut self,
        repository: &mut Repository<'_, L>,
    ) -> Result<(), Error<L::Error>> {
        let now = repository.host.now();
        let mut record = [0; HOSTNAME_BYTES_MAX + 128];
        let mut writer = Writer::new(&mut record);
        Lock { timestamp: now, hostname: &self.hostname, exclusive: false }.emit(&mut writer);
        let record = writer.finish().map_err(Error::damaged(Subject::Lock(self.name)))?;
        let (store, host) = (&mut repository.store, &mut repository.host);
        let upload = store.begin(StoreResource::Lock)?;
        let mut hasher = repository.mac_key.hasher();
        let header = envelope::header(ResourceKind::LOCK, Version::V1_0_0);
        hasher.update(&header);
        store.write(upload, &header)?;
        let out = |bytes: &[u8]| {
            hasher.update(bytes);
            store.write(upload, bytes)
        };
        let random = |bytes: &mut [u8]| host.fill_random(bytes);
        Encoder::new(&repository.codec, &mut repository.memory.encode, random, out)
            .map_err(Error::damaged(Subject::Config))?
            .finish_with(record)?;
        let trailer = hasher.finish();
        store.write(upload, &trailer.0)?;
        store.commit(upload, &self.name)?;
        self.written_at = now;
        Ok(())
    }
}

/// The lock whose name is the lowest above `after`.
fn next_lock<S: Store>(store: &mut S, after: Option<Mac>) -> Result<Option<Mac>, S::Error> {
    let mut found: Option<Mac> = None;
    store.list(StoreResource::Lock, &mut |name| {
        let is_after = after.is_none_or(|after| name > after);
        if is_after && found.is_none_or(|found| name < found) {
            found = Some(name);
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Who holds a lock.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Holder {
    /// When it was last refreshed.
    pub since: Timestamp,
    /// Whether nobody else may use the store.
    pub is_exclusive: bool,
    /// On which machine, as far as it is short enough.
    pub hostname: heapless::Vec<u8, HOLDER_BYTES_MAX>,
}

/// Longest name of a machine that is kept, in bytes.
const HOLDER_BYTES_MAX: usize = 64;

/// Reads a lock. Nothing if it is gone by now.
///
/// # Errors
///
/// [`Error::Damaged`], and the connector's.
pub fn holder<L: Lend>(
    repository: &mut Repository<'_, L>,
    name: &Mac,
) -> Result<Option<Holder>, Error<L::Error>> {
    let subject = Subject::Lock(*name);
    let damaged = Error::damaged(subject);
    let size = match repository.store.size(StoreResource::Lock, name)? {
        None => return Ok(None),
        Some(size) => usize::try_from(size).unwrap_or(usize::MAX),
    };
    let mut bytes = [0; LOCK_BYTES_MAX];
    let bytes = bytes.get_mut(..size).ok_or(FormatError::Bound("length")).map_err(&damaged)?;
    match read_exact(&mut repository.store, StoreResource::Lock, name, 0, bytes, subject) {
        Err(Error::Missing(_)) => return Ok(None),
        Err(Error::Host(error)) if error.kind() == HostErrorKind::NotFound => return Ok(None),
        other => other?,
    }
    let (content, trailer) = bytes
        .split_last_chunk::<TRAILER_BYTES>()
        .filter(|(content, _)| content.len() >= HEADER_BYTES)
        .ok_or(FormatError::Truncated)
        .map_err(&damaged)?;
    if repository.mac_key.mac(content).0 != *trailer {
        return Err(damaged(FormatError::Mac));
    }
    let (header, payload) = content.split_first_chunk().unwrap_or((&[0; HEADER_BYTES], &[]));
    envelope::parse_header(header, ResourceKind::LOCK, Version::V1_0_0).map_err(&damaged)?;
    let mut record = [0; LOCK_BYTES_MAX];
    let len = CollectDecoder::new(&repository.codec, &mut repository.memory.decode, &mut record)
        .and_then(|mut decoder| {
            decoder.push(payload)?;
            decoder.finish()
        })
        .map_err(&damaged)?;
    let lock = Lock::parse(&record[..len]).map_err(damaged)?;
    let kept = lock.hostname.len().min(HOLDER_BYTES_MAX);
    let hostname = heapless::Vec::from_slice(&lock.hostname[..kept]).unwrap_or_default();
    Ok(Some(Holder { since: lock.timestamp, is_exclusive: lock.exclusive, hostname }))
}
