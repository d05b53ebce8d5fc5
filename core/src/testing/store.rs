//! [`MemStore`], and [`FaultStore`] that makes any store fail.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use super::{TestError, read_from};
use crate::mac::Mac;
use crate::store::{Layout, Store, StoreResource, UploadId};

/// A store in memory.
#[derive(Clone, Debug, Default)]
pub struct MemStore {
    config: Option<Vec<u8>>,
    /// By kind, in the order of [`StoreResource`].
    resources: [BTreeMap<Mac, Vec<u8>>; 3],
    uploads: BTreeMap<u32, (StoreResource, Vec<u8>)>,
    next_upload: u32,
}

impl MemStore {
    /// CONFIG, if there is a store.
    #[must_use]
    pub fn config(&self) -> Option<&[u8]> {
        self.config.as_deref()
    }

    /// CONFIG, to be damaged.
    pub fn config_mut(&mut self) -> &mut Option<Vec<u8>> {
        &mut self.config
    }

    /// The committed resources of a kind.
    #[must_use]
    pub fn resources(&self, resource: StoreResource) -> &BTreeMap<Mac, Vec<u8>> {
        &self.resources[resource as usize]
    }

    /// The committed resources of a kind, to be damaged.
    pub fn resources_mut(&mut self, resource: StoreResource) -> &mut BTreeMap<Mac, Vec<u8>> {
        &mut self.resources[resource as usize]
    }

    /// Number of uploads that are neither committed nor aborted.
    #[must_use]
    pub fn open_uploads(&self) -> usize {
        self.uploads.len()
    }

    /// Forgets the open uploads, as a device does that loses power.
    pub fn restart(&mut self) {
        self.uploads.clear();
    }
}

impl Store for MemStore {
    type Error = TestError;

    fn layout(&self) -> Layout {
        Layout::Directory
    }

    fn read_config(&mut self, into: &mut [u8]) -> Result<usize, TestError> {
        let config = self.config.as_ref().ok_or(TestError::NotFound)?;
        read_from(config, 0, into);
        Ok(config.len())
    }

    fn create(&mut self, bytes: &[u8]) -> Result<(), TestError> {
        if self.config.is_some() {
            return Err(TestError::AlreadyExists);
        }
        self.config = Some(bytes.to_vec());
        Ok(())
    }

    fn begin(&mut self, resource: StoreResource) -> Result<UploadId, TestError> {
        let id = self.next_upload;
        self.next_upload += 1;
        self.uploads.insert(id, (resource, Vec::new()));
        Ok(UploadId(id))
    }

    fn write(&mut self, upload: UploadId, bytes: &[u8]) -> Result<(), TestError> {
        let upload = self.uploads.get_mut(&upload.0);
        let (_, written) = upload.ok_or(TestError::Misuse("a write to an upload that ended"))?;
        written.extend_from_slice(bytes);
        Ok(())
    }

    fn commit(&mut self, upload: UploadId, name: &Mac) -> Result<(), TestError> {
        let upload = self.uploads.remove(&upload.0);
        let (resource, bytes) = upload.ok_or(TestError::Misuse("a commit of what ended"))?;
        self.resources[resource as usize].insert(*name, bytes);
        Ok(())
    }

    fn abort(&mut self, upload: UploadId) {
        self.uploads.remove(&upload.0);
    }

    fn size(&mut self, resource: StoreResource, name: &Mac) -> Result<Option<u64>, TestError> {
        Ok(self.resources(resource).get(name).map(|bytes| bytes.len() as u64))
    }

    fn get(
        &mut self,
        resource: StoreResource,
        name: &Mac,
        offset_bytes: u64,
        into: &mut [u8],
    ) -> Result<usize, TestError> {
        let bytes = self.resources(resource).get(name).ok_or(TestError::NotFound)?;
        Ok(read_from(bytes, offset_bytes, into))
    }

    fn list(
        &mut self,
        resource: StoreResource,
        each: &mut dyn FnMut(Mac) -> ControlFlow<()>,
    ) -> Result<(), TestError> {
        let _ = self.resources(resource).keys().rev().try_for_each(|name| each(*name));
        Ok(())
    }

    fn delete(&mut self, resource: StoreResource, name: &Mac) -> Result<(), TestError> {
        self.resources_mut(resource).remove(name);
        Ok(())
    }
}

/// A store that works a number of times more, then fails for good, like a
/// device that lost power or a link that went down.
///
/// Every method that can fail is one operation, and takes one unit of fuel.
#[derive(Clone, Debug)]
pub struct FaultStore<S> {
    inner: S,
    fuel: u32,
    operations: u32,
    /// The next operation without fuel is done all the same.
    answer_to_lose: bool,
}

impl<S: Store<Error = TestError>> FaultStore<S> {
    /// A store that does what `inner` does for `fuel` operations.
    #[must_use]
    pub fn new(inner: S, fuel: u32) -> Self {
        Self { inner, fuel, operations: 0, answer_to_lose: false }
    }

    /// Does the operation that fails first, and loses the answer, as networks
    /// do.
    #[must_use]
    pub fn with_lost_answer(self) -> Self {
        Self { answer_to_lose: true, ..self }
    }

    /// Number of operations asked for, those that failed included.
    #[must_use]
    pub fn operations(&self) -> u32 {
        self.operations
    }

    /// Number of operations that it still does.
    #[must_use]
    pub fn fuel(&self) -> u32 {
        self.fuel
    }

    /// The store behind it.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }

    fn burn<T>(
        &mut self,
        operation: impl FnOnce(&mut S) -> Result<T, TestError>,
    ) -> Result<T, TestError> {
        self.operations = self.operations.saturating_add(1);
        if let Some(fuel) = self.fuel.checked_sub(1) {
            self.fuel = fuel;
            return operation(&mut self.inner);
        }
        if core::mem::take(&mut self.answer_to_lose) {
            let _ = operation(&mut self.inner);
        }
        Err(TestError::Fault)
    }
}

impl<S: Store<Error = TestError>> Store for FaultStore<S> {
    type Error = TestError;

    fn layout(&self) -> Layout {
        self.inner.layout()
    }

    fn read_config(&mut self, into: &mut [u8]) -> Result<usize, TestError> {
        self.burn(|inner| inner.read_config(into))
    }

    fn create(&mut self, bytes: &[u8]) -> Result<(), TestError> {
        self.burn(|inner| inner.create(bytes))
    }

    fn begin(&mut self, resource: StoreResource) -> Result<UploadId, TestError> {
        self.burn(|inner| inner.begin(resource))
    }

    fn write(&mut self, upload: UploadId, bytes: &[u8]) -> Result<(), TestError> {
        self.burn(|inner| inner.write(upload, bytes))
    }

    fn commit(&mut self, upload: UploadId, name: &Mac) -> Result<(), TestError> {
        self.burn(|inner| inner.commit(upload, name))
    }

    /// Takes no fuel, as it cannot fail; without any it does nothing.
    fn abort(&mut self, upload: UploadId) {
        if self.fuel > 0 {
            self.inner.abort(upload);
        }
    }

    fn size(&mut self, resource: StoreResource, name: &Mac) -> Result<Option<u64>, TestError> {
        self.burn(|inner| inner.size(resource, name))
    }

    fn get(
        &mut self,
        resource: StoreResource,
        name: &Mac,
        offset_bytes: u64,
        into: &mut [u8],
    ) -> Result<usize, TestError> {
        self.burn(|inner| inner.get(resource, name, offset_bytes, into))
    }

    fn list(
        &mut self,
        resource: StoreResource,
        each: &mut dyn FnMut(Mac) -> ControlFlow<()>,
    ) -> Result<(), TestError> {
        self.burn(|inner| inner.list(resource, each))
    }

    fn delete(&mut self, resource: StoreResource, name: &Mac) -> Result<(), TestError> {
        self.burn(|inner| inner.delete(resource, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: Mac = Mac([1; 32]);

    #[test]
    fn exists_when_committed() {
        let mut store = MemStore::default();
        assert_eq!(store.read_config(&mut []), Err(TestError::NotFound));
        store.create(b"config").unwrap();
        assert_eq!(store.create(b"config"), Err(TestError::AlreadyExists));
        assert_eq!(store.read_config(&mut [0; 2]), Ok(6));

        let upload = store.begin(StoreResource::State).unwrap();
        store.write(upload, b"0123").unwrap();
        assert_eq!(store.size(StoreResource::State, &NAME), Ok(None));
        store.commit(upload, &NAME).unwrap();
        assert_eq!(store.size(StoreResource::State, &NAME), Ok(Some(4)));
        assert_eq!(store.size(StoreResource::Lock, &NAME), Ok(None));
        let mut into = [0; 3];
        assert_eq!(store.get(StoreResource::State, &NAME, 2, &mut into), Ok(2));
        assert_eq!(&into[..2], b"23");
        assert_eq!(store.get(StoreResource::State, &NAME, 9, &mut into), Ok(0));
        assert!(store.write(upload, b"").is_err());
    }

    #[test]
    fn fails_for_good() {
        let mut store = FaultStore::new(MemStore::default(), 1);
        let upload = store.begin(StoreResource::Packfile).unwrap();
        assert_eq!(store.commit(upload, &NAME), Err(TestError::Fault));
        assert_eq!(store.commit(upload, &NAME), Err(TestError::Fault));
        store.abort(upload);
        assert_eq!((store.operations(), store.fuel()), (3, 0));
        let inner = store.into_inner();
        assert_eq!(inner.open_uploads(), 1);
        assert!(inner.resources(StoreResource::Packfile).is_empty());

        let mut store = FaultStore::new(inner, 0).with_lost_answer();
        assert_eq!(store.commit(upload, &NAME), Err(TestError::Fault));
        assert!(store.into_inner().resources(StoreResource::Packfile).contains_key(&NAME));
    }
}
