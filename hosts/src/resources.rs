//! What connectors keep account of that keep resources each under a name:
//! [`Uploads`] under way, and [`OpenFiles`] that are read.

use tiroir_core::host::HostErrorKind;
use tiroir_core::mac::Mac;
use tiroir_core::store::{StoreResource, UploadId};

use crate::error::{HostsError, Result};

/// Uploads under way in one store, at most. The engine has three: a packfile, the
/// state and the lock.
const UPLOADS_MAX: usize = 16;

/// The plural of a kind, which is what stock calls its directory, table or list.
pub(crate) fn plural(resource: StoreResource) -> &'static str {
    match resource {
        StoreResource::Packfile => "packfiles",
        StoreResource::State => "states",
        StoreResource::Lock => "locks",
    }
}

/// Uploads under way, by number, with what the connector keeps of each.
#[derive(Debug)]
pub(crate) struct Uploads<T> {
    held: Vec<(UploadId, T)>,
    next: u32,
}

impl<T> Default for Uploads<T> {
    fn default() -> Self {
        Self { held: Vec::new(), next: 0 }
    }
}

impl<T> Uploads<T> {
    /// Takes note of an upload that `begin` starts, unless there are too many.
    pub(crate) fn begin(&mut self, begin: impl FnOnce() -> Result<T>) -> Result<UploadId> {
        if self.held.len() == UPLOADS_MAX {
            return Err(refused("too many are under way"));
        }
        let upload = begin()?;
        let id = UploadId(self.next);
        self.next = self.next.wrapping_add(1);
        self.held.push((id, upload));
        Ok(id)
    }

    /// The upload of that number.
    pub(crate) fn of(&mut self, id: UploadId) -> Result<&mut T> {
        let held = self.held.iter_mut().find(|(other, _)| *other == id);
        held.map(|(_, upload)| upload).ok_or_else(unknown)
    }

    /// The same, which is not under way any more.
    pub(crate) fn take(&mut self, id: UploadId) -> Result<T> {
        let at = self.held.iter().position(|(other, _)| *other == id).ok_or_else(unknown)?;
        Ok(self.held.swap_remove(at).1)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.held.iter().map(|(_, upload)| upload)
    }
}

fn unknown() -> HostsError {
    refused("there is no such upload")
}

fn refused(rule: &'static str) -> HostsError {
    HostsError::rule(HostErrorKind::Other, "write to the store", b"", rule)
}

/// Resources that are kept open to be read on, the one used last in the last place.
#[derive(Debug)]
pub(crate) struct OpenFiles<F> {
    open: Vec<(StoreResource, Mac, F)>,
    count_max: usize,
}

impl<F> OpenFiles<F> {
    /// With room for so many.
    pub(crate) fn new(count_max: usize) -> Self {
        Self { open: Vec::with_capacity(count_max), count_max }
    }

    /// Takes out what is open of a resource.
    pub(crate) fn take(&mut self, resource: StoreResource, name: &Mac) -> Option<F> {
        let is_it = |open: &(StoreResource, Mac, F)| open.0 == resource && open.1 == *name;
        let at = self.open.iter().position(is_it)?;
        Some(self.open.remove(at).2)
    }

    /// Takes out the one that was not used for longest, if there is no room for
    /// another.
    pub(crate) fn make_room(&mut self) -> Option<F> {
        (self.open.len() == self.count_max).then(|| self.open.remove(0).2)
    }

    /// Puts in what was taken out, or was opened once there was room.
    pub(crate) fn put(&mut self, resource: StoreResource, name: &Mac, file: F) -> &F {
        self.open.push((resource, *name, file));
        &self.open[self.open.len() - 1].2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_are_bounded() {
        let mut uploads = Uploads::default();
        let ids: Vec<_> =
            (0..UPLOADS_MAX).map(|number| uploads.begin(|| Ok(number)).unwrap()).collect();
        assert!(uploads.begin(|| Ok(99)).is_err());
        assert_eq!(uploads.take(ids[3]).unwrap(), 3);
        assert!(uploads.take(ids[3]).is_err() && uploads.of(ids[3]).is_err());
        let last = uploads.begin(|| Ok(99)).unwrap();
        assert!(!ids.contains(&last));
        assert_eq!(*uploads.of(last).unwrap(), 99);
        assert_eq!(uploads.iter().sum::<usize>(), (0..UPLOADS_MAX).sum::<usize>() - 3 + 99);
    }

    #[test]
    fn what_was_not_used_for_longest_makes_room() {
        let mut files = OpenFiles::new(2);
        let (name, other) = (Mac([1; 32]), Mac([2; 32]));
        files.put(StoreResource::State, &name, 1);
        files.put(StoreResource::Packfile, &name, 2);
        let first = files.take(StoreResource::State, &name).unwrap();
        assert_eq!(files.make_room(), None);
        assert_eq!(*files.put(StoreResource::State, &name, first), 1);
        assert_eq!(files.take(StoreResource::State, &other), None);
        assert_eq!(files.make_room(), Some(2));
    }
}
