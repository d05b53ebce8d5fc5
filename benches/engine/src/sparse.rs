//! [`SparseStore`]: a store that keeps states and forgets packfiles, so that a
//! disk need not take what is backed up, and an index can be made from it all
//! the same.

use std::ops::ControlFlow;
use std::path::Path;

use tiroir_core::mac::Mac;
use tiroir_core::store::{Layout, Store, StoreResource, UploadId};
use tiroir_hosts::error::{HostsError, Result};
use tiroir_hosts::fs::store::FsStore;

/// Set in the number of an upload that is a packfile.
const PACKFILE_BIT: u32 = 1 << 31;

/// A store in a directory, without packfiles.
#[derive(Debug)]
pub struct SparseStore {
    kept: FsStore,
    packfiles: u32,
    /// Bytes of packfiles that were forgotten.
    pub forgotten_bytes: u64,
}

impl SparseStore {
    /// The store in the directory `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { kept: FsStore::new(root), packfiles: 0, forgotten_bytes: 0 }
    }
}

impl Store for SparseStore {
    type Error = HostsError;

    fn layout(&self) -> Layout {
        Layout::Directory
    }

    fn read_config(&mut self, into: &mut [u8]) -> Result<usize> {
        self.kept.read_config(into)
    }

    fn create(&mut self, bytes: &[u8]) -> Result<()> {
        self.kept.create(bytes)
    }

    fn begin(&mut self, resource: StoreResource) -> Result<UploadId> {
        if resource != StoreResource::Packfile {
            return self.kept.begin(resource);
        }
        self.packfiles += 1;
        Ok(UploadId(PACKFILE_BIT | self.packfiles))
    }

    fn write(&mut self, upload: UploadId, bytes: &[u8]) -> Result<()> {
        if upload.0 & PACKFILE_BIT == 0 {
            return self.kept.write(upload, bytes);
        }
        self.forgotten_bytes += bytes.len() as u64;
        Ok(())
    }

    fn commit(&mut self, upload: UploadId, name: &Mac) -> Result<()> {
        if upload.0 & PACKFILE_BIT == 0 { self.kept.commit(upload, name) } else { Ok(()) }
    }

    fn abort(&mut self, upload: UploadId) {
        if upload.0 & PACKFILE_BIT == 0 {
            self.kept.abort(upload);
        }
    }

    fn size(&mut self, resource: StoreResource, name: &Mac) -> Result<Option<u64>> {
        self.kept.size(resource, name)
    }

    fn get(
        &mut self,
        resource: StoreResource,
        name: &Mac,
        offset_bytes: u64,
        into: &mut [u8],
    ) -> Result<usize> {
        self.kept.get(resource, name, offset_bytes, into)
    }

    fn list(
        &mut self,
        resource: StoreResource,
        each: &mut dyn FnMut(Mac) -> ControlFlow<()>,
    ) -> Result<()> {
        self.kept.list(resource, each)
    }

    fn delete(&mut self, resource: StoreResource, name: &Mac) -> Result<()> {
        self.kept.delete(resource, name)
    }
}
