//! [`MemIndex`]: the index as the format defines it, without cleverness.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::ControlFlow;

use super::TestError;
use crate::index::{Index, Location, PackfilePlace, StateSink};
use crate::mac::Mac;
use crate::resource::{ResourceKind, Version};
use crate::time::Timestamp;

/// An index in memory. Section 10.3 of the format, rule by rule.
#[derive(Clone, Debug, Default)]
pub struct MemIndex {
    content: Content,
    /// What was there before the refresh that is going on.
    before: Option<Box<Content>>,
    /// Blobs that are being written.
    added: BTreeSet<(ResourceKind, Mac)>,
    /// States that the last refresh listed.
    listed: BTreeSet<Mac>,
    /// Of those, what could not be read.
    unreadable: BTreeSet<Mac>,
    marks: BTreeSet<(ResourceKind, Mac)>,
    needed: BTreeSet<(ResourceKind, Mac)>,
}

/// What the states say.
#[derive(Clone, Debug, Default)]
struct Content {
    /// By kind, blob and packfile.
    locations: BTreeMap<(ResourceKind, Mac, Mac), Location>,
    packfiles: BTreeMap<Mac, (Mac, Timestamp)>,
    coloured: BTreeMap<(ResourceKind, Mac), Timestamp>,
    /// Packfiles that are gone for good.
    deleted: BTreeSet<Mac>,
    states: BTreeMap<Mac, StateNote>,
    /// Number of states read.
    states_read: u64,
}

#[derive(Clone, Copy, Debug)]
struct StateNote {
    version: Version,
    parent: Mac,
    /// The how many-th state that was read, from 1 on, if it was.
    read: Option<u64>,
}

impl Content {
    /// Whether nothing speaks against the packfile.
    fn is_kept(&self, packfile: &Mac) -> bool {
        !self.deleted.contains(packfile)
            && !self.coloured.contains_key(&(ResourceKind::PACKFILE, *packfile))
    }

    fn is_usable(&self, packfile: &Mac) -> bool {
        self.packfiles.contains_key(packfile) && self.is_kept(packfile)
    }
}

impl MemIndex {
    /// Usable packfiles, each with the state that introduced it.
    pub fn packfiles(&self) -> impl Iterator<Item = (Mac, Mac)> {
        let usable = |(packfile, _): &(&Mac, _)| self.content.is_usable(packfile);
        self.content
            .packfiles
            .iter()
            .filter(usable)
            .map(|(packfile, (state, _))| (*packfile, *state))
    }

    /// Usable locations of all blobs, several of one blob included.
    pub fn locations(&self) -> impl Iterator<Item = (ResourceKind, Mac, Location)> {
        let usable = |(_, location): &(_, &Location)| self.content.is_usable(&location.packfile);
        let locations = self.content.locations.iter().filter(usable);
        locations.map(|((kind, mac, _), location)| (*kind, *mac, *location))
    }

    /// Whether a resource is to be deleted.
    #[must_use]
    pub fn is_coloured(&self, kind: ResourceKind, mac: &Mac) -> bool {
        self.content.coloured.contains_key(&(kind, *mac))
    }
}

impl StateSink for MemIndex {
    type Error = TestError;

    fn location(&mut self, kind: ResourceKind, mac: &Mac, at: &Location) -> Result<(), TestError> {
        self.content.locations.entry((kind, *mac, at.packfile)).or_insert(*at);
        Ok(())
    }

    fn packfile(&mut self, packfile: &Mac, state: &Mac, when: Timestamp) -> Result<(), TestError> {
        self.content.packfiles.entry(*packfile).or_insert((*state, when));
        Ok(())
    }

    fn coloured(
        &mut self,
        kind: ResourceKind,
        mac: &Mac,
        when: Timestamp,
    ) -> Result<(), TestError> {
        self.content.coloured.entry((kind, *mac)).or_insert(when);
        Ok(())
    }

    fn delete_location(
        &mut self,
        kind: ResourceKind,
        mac: &Mac,
        packfile: &Mac,
    ) -> Result<(), TestError> {
        self.content.locations.remove(&(kind, *mac, *packfile));
        Ok(())
    }

    fn delete_colour(&mut self, kind: ResourceKind, mac: &Mac) -> Result<(), TestError> {
        self.content.coloured.remove(&(kind, *mac));
        Ok(())
    }

    fn delete_packfile(&mut self, packfile: &Mac) -> Result<(), TestError> {
        self.content.deleted.insert(*packfile);
        Ok(())
    }
}

impl Index for MemIndex {
    fn find(&mut self, kind: ResourceKind, mac: &Mac) -> Result<Option<Location>, TestError> {
        let content = &self.content;
        let range = (kind, *mac, Mac::ZERO)..=(kind, *mac, Mac([0xff; 32]));
        let mut known = content.locations.range(range).map(|(_, location)| location);
        Ok(known.find(|at| content.is_usable(&at.packfile)).copied())
    }

    fn may_contain(&mut self, kind: ResourceKind, mac: &Mac) -> Result<bool, TestError> {
        self.contains(kind, mac)
    }

    fn contains(&mut self, kind: ResourceKind, mac: &Mac) -> Result<bool, TestError> {
        Ok(self.added.contains(&(kind, *mac)) || self.find(kind, mac)?.is_some())
    }

    fn add(&mut self, kind: ResourceKind, mac: &Mac) -> Result<(), TestError> {
        self.added.insert((kind, *mac));
        Ok(())
    }

    fn next_snapshot(&mut self, after: Option<&Mac>) -> Result<Option<Mac>, TestError> {
        let snapshots = self.locations().filter(|(kind, mac, _)| {
            *kind == ResourceKind::SNAPSHOT && !self.is_coloured(ResourceKind::SNAPSHOT, mac)
        });
        let mut macs = snapshots.map(|(_, mac, _)| mac);
        Ok(macs.find(|mac| after.is_none_or(|after| mac > after)))
    }

    fn next_state(&mut self, after: Option<&Mac>) -> Result<Option<Mac>, TestError> {
        let is_read =
            |state: &&Mac| self.content.states.get(*state).is_some_and(|note| note.read.is_some());
        let mut read = self.listed.iter().filter(is_read);
        Ok(read.find(|state| after.is_none_or(|after| *state > after)).copied())
    }

    fn next_packfile(
        &mut self,
        after: Option<&PackfilePlace>,
    ) -> Result<Option<PackfilePlace>, TestError> {
        let places = self.content.packfiles.iter();
        let usable = places.filter(|(name, _)| self.content.is_usable(name));
        let places = usable.map(|(name, (_, when))| PackfilePlace { declared: *when, name: *name });
        Ok(places.filter(|place| after.is_none_or(|after| place > after)).min())
    }

    fn each_located(
        &mut self,
        packfile: &Mac,
        each: &mut dyn FnMut(ResourceKind, &Mac, &Location) -> ControlFlow<()>,
    ) -> Result<(), TestError> {
        let here = self.locations().filter(|(_, _, at)| at.packfile == *packfile);
        let mut sorted: Vec<_> =
            here.map(|(kind, mac, at)| (at.offset_bytes, kind, mac, at)).collect();
        sorted.sort_by_key(|(offset_bytes, kind, mac, _)| (*offset_bytes, *kind, *mac));
        for (_, kind, mac, at) in sorted {
            if each(kind, &mac, &at).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn need(&mut self, kind: ResourceKind, mac: &Mac) -> Result<(), TestError> {
        self.needed.insert((kind, *mac));
        Ok(())
    }

    fn has_needed(&mut self) -> Result<bool, TestError> {
        let mut whole = true;
        for (kind, mac) in core::mem::take(&mut self.needed) {
            whole &= self.find(kind, &mac)?.is_some();
        }
        Ok(whole)
    }

    fn mark(&mut self, kind: ResourceKind, mac: &Mac) -> Result<bool, TestError> {
        Ok(!self.marks.insert((kind, *mac)))
    }

    fn is_marked(&mut self, kind: ResourceKind, mac: &Mac) -> Result<bool, TestError> {
        Ok(self.marks.contains(&(kind, *mac)))
    }

    fn begin_refresh(&mut self) -> Result<(), TestError> {
        // A refresh that did not end never was.
        if let Some(before) = self.before.take() {
            self.content = *before;
        }
        self.before = Some(Box::new(self.content.clone()));
        self.listed.clear();
        self.unreadable.clear();
        Ok(())
    }

    fn state_listed(&mut self, state: &Mac) -> Result<bool, TestError> {
        self.in_refresh()?;
        self.listed.insert(*state);
        Ok(self.content.states.get(state).is_some_and(|note| note.read.is_some()))
    }

    fn all_states_listed(&mut self) -> Result<(), TestError> {
        self.in_refresh()?;
        let is_gone =
            |(state, note): (&Mac, &StateNote)| note.read.is_some() && !self.listed.contains(state);
        if !self.content.states.iter().any(is_gone) {
            return Ok(());
        }
        *self = Self::default();
        Err(TestError::Lost)
    }

    fn next_unverified_state(&mut self) -> Result<Option<Mac>, TestError> {
        self.in_refresh()?;
        let is_open = |state: &&Mac| {
            !self.content.states.contains_key(*state) && !self.unreadable.contains(*state)
        };
        Ok(self.listed.iter().find(is_open).copied())
    }

    fn state_unreadable(&mut self, state: &Mac) -> Result<(), TestError> {
        self.in_refresh()?;
        self.unreadable.insert(*state);
        Ok(())
    }

    fn state_header(
        &mut self,
        state: &Mac,
        version: Version,
        parent: &Mac,
    ) -> Result<(), TestError> {
        self.in_refresh()?;
        let note = StateNote { version, parent: *parent, read: None };
        self.content.states.entry(*state).or_insert(note);
        Ok(())
    }

    fn next_unread_state(&mut self) -> Result<Option<(Mac, Version)>, TestError> {
        self.in_refresh()?;
        let states = &self.content.states;
        let unread = || states.iter().filter(|(_, note)| note.read.is_none());
        let is_ready = |(_, note): &(&Mac, &StateNote)| {
            states.get(&note.parent).is_none_or(|parent| parent.read.is_some())
        };
        let next = unread().find(is_ready).or_else(|| unread().next());
        Ok(next.map(|(state, note)| (*state, note.version)))
    }

    fn state_read(&mut self, state: &Mac) -> Result<(), TestError> {
        self.in_refresh()?;
        let note = self.content.states.get_mut(state);
        let note = note.ok_or(TestError::Misuse("a state read before its header"))?;
        self.content.states_read += 1;
        note.read = Some(self.content.states_read);
        Ok(())
    }

    fn end_refresh(&mut self) -> Result<(), TestError> {
        self.in_refresh()?;
        self.before = None;
        Ok(())
    }

    fn newest_state(&mut self) -> Result<Option<(Version, Mac)>, TestError> {
        let read = || self.content.states.iter().filter(|(_, note)| note.read.is_some());
        let version = read().map(|(_, note)| note.version).max();
        let last = read().max_by_key(|(_, note)| note.read);
        Ok(version.zip(last).map(|(version, (state, _))| (version, *state)))
    }
}

impl MemIndex {
    fn in_refresh(&self) -> Result<(), TestError> {
        self.before.as_ref().map(|_| ()).ok_or(TestError::Misuse("no refresh was begun"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp { secs: 1, nanos: 0 };

    fn mac(n: u8) -> Mac {
        Mac([n; 32])
    }

    fn at(packfile: u8) -> Location {
        Location { packfile: mac(packfile), offset_bytes: 1, length_bytes: 2 }
    }

    #[test]
    fn what_is_usable() {
        let mut index = MemIndex::default();
        let kind = ResourceKind::CHUNK;
        let find = |index: &mut MemIndex| index.find(kind, &mac(1)).unwrap();
        index.location(kind, &mac(1), &at(9)).unwrap();
        assert_eq!(find(&mut index), None);
        index.packfile(&mac(9), &mac(0), NOW).unwrap();
        assert_eq!(find(&mut index), Some(at(9)));
        index.coloured(ResourceKind::PACKFILE, &mac(9), NOW).unwrap();
        assert_eq!(find(&mut index), None);
        index.delete_colour(ResourceKind::PACKFILE, &mac(9)).unwrap();
        assert_eq!(find(&mut index), Some(at(9)));
        index.delete_packfile(&mac(9)).unwrap();
        index.packfile(&mac(9), &mac(0), NOW).unwrap();
        assert_eq!(find(&mut index), None);
        index.add(kind, &mac(1)).unwrap();
        assert_eq!(find(&mut index), None);
        assert!(index.contains(kind, &mac(1)).unwrap());
    }

    #[test]
    fn snapshots_in_order() {
        let mut index = MemIndex::default();
        for snapshot in [3, 1, 2] {
            for packfile in [9, 8] {
                index.location(ResourceKind::SNAPSHOT, &mac(snapshot), &at(packfile)).unwrap();
                index.packfile(&mac(packfile), &mac(0), NOW).unwrap();
            }
        }
        index.coloured(ResourceKind::SNAPSHOT, &mac(2), NOW).unwrap();
        assert_eq!(index.next_snapshot(None), Ok(Some(mac(1))));
        assert_eq!(index.next_snapshot(Some(&mac(1))), Ok(Some(mac(3))));
        assert_eq!(index.next_snapshot(Some(&mac(3))), Ok(None));
    }

    #[test]
    fn parents_first_and_whole_refreshes_only() {
        let mut index = MemIndex::default();
        assert!(index.state_listed(&mac(1)).is_err());
        index.begin_refresh().unwrap();
        // 1 is a child of 2, which is a child of one that is not there.
        index.state_header(&mac(1), Version::V1_0_0, &mac(2)).unwrap();
        index.state_header(&mac(2), Version::V1_1_0, &mac(7)).unwrap();
        let mut order = Vec::new();
        while let Some((state, _)) = index.next_unread_state().unwrap() {
            index.state_read(&state).unwrap();
            order.push(state);
        }
        assert_eq!(order, [mac(2), mac(1)]);
        assert_eq!(index.newest_state(), Ok(Some((Version::V1_1_0, mac(1)))));

        index.begin_refresh().unwrap();
        assert_eq!(index.newest_state(), Ok(None));
        index.state_header(&mac(1), Version::V1_0_0, &mac(1)).unwrap();
        assert_eq!(index.next_unread_state(), Ok(Some((mac(1), Version::V1_0_0))));
    }
}
