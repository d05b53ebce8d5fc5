//! [`Store`]: what the engine asks of a store connector.

use core::ops::ControlFlow;

use crate::mac::Mac;

/// The kinds of named files that a store keeps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StoreResource {
    /// Containers of blobs.
    Packfile,
    /// Which blob lies where.
    State,
    /// Who is using the store.
    Lock,
}

/// How resources lie in a store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Layout {
    /// Any number of packfiles, states and locks.
    Directory,
    /// One packfile, then one state, in one file: a ptar. Locks are void.
    SingleFile,
}

/// A resource being written; a number given by [`Store::begin`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UploadId(pub u32);

/// A place that keeps immutable resources, each named by a MAC.
///
/// An implementation adds no meaning of its own: no caching, no retry, no
/// naming scheme seen from outside. Uploads are numbers and not borrowed
/// values, so that a store is read while something is written to it.
pub trait Store {
    /// The connector's own error, kept whole.
    type Error;

    /// How resources lie here.
    fn layout(&self) -> Layout;

    /// Reads CONFIG into the start of `into` and returns its length, which is
    /// above `into.len()` when it does not fit.
    ///
    /// # Errors
    ///
    /// The connector's, of kind *not found* where there is no store.
    fn read_config(&mut self, into: &mut [u8]) -> Result<usize, Self::Error>;

    /// Makes a store whose CONFIG is `bytes`, durably.
    ///
    /// # Errors
    ///
    /// The connector's, of kind *already exists* where there is something.
    fn create(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Starts writing a resource. It does not exist until
    /// [`commit`](Self::commit) returns.
    ///
    /// # Errors
    ///
    /// The connector's.
    fn begin(&mut self, resource: StoreResource) -> Result<UploadId, Self::Error>;

    /// Appends all of `bytes`.
    ///
    /// # Errors
    ///
    /// The connector's; the upload is then good for [`abort`](Self::abort) only.
    fn write(&mut self, upload: UploadId, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Makes the resource visible under `name`, whole and durable. The same
    /// name written again replaces what was there (locks are refreshed so).
    ///
    /// # Errors
    ///
    /// The connector's; the resource then exists whole or not at all.
    fn commit(&mut self, upload: UploadId, name: &Mac) -> Result<(), Self::Error>;

    /// Forgets an upload and what was written of it.
    fn abort(&mut self, upload: UploadId);

    /// Length of a resource in bytes, or nothing if it is not there.
    ///
    /// # Errors
    ///
    /// The connector's.
    fn size(&mut self, resource: StoreResource, name: &Mac) -> Result<Option<u64>, Self::Error>;

    /// Reads the resource from `offset_bytes` on and returns how many bytes of
    /// `into` were filled: fewer than asked at the end of it only.
    ///
    /// # Errors
    ///
    /// The connector's, of kind *not found* when there is no such resource.
    fn get(
        &mut self,
        resource: StoreResource,
        name: &Mac,
        offset_bytes: u64,
        into: &mut [u8],
    ) -> Result<usize, Self::Error>;

    /// Calls `each` with every committed resource, in no order, until told to
    /// stop. Takes a callback so that no listing is ever held in memory.
    ///
    /// # Errors
    ///
    /// The connector's; `each` may have been called by then.
    fn list(
        &mut self,
        resource: StoreResource,
        each: &mut dyn FnMut(Mac) -> ControlFlow<()>,
    ) -> Result<(), Self::Error>;

    /// Removes what runs that were cut off left half written, days ago; nothing by
    /// default. Called by a backup that holds its lock, which had been put right
    /// before. What cannot be removed stays.
    fn tidy(&mut self) {}

    /// Removes a resource; removing one that is not there succeeds.
    ///
    /// # Errors
    ///
    /// The connector's.
    fn delete(&mut self, resource: StoreResource, name: &Mac) -> Result<(), Self::Error>;
}
