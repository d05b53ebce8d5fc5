//! [`CardIndex`]: which blobs this run has stored.
//!
//! A new archive holds nothing that anybody else wrote, so there are no states to
//! read; what was added is kept in a table on the card, in which the first bytes of
//! a MAC say where it is. A full bucket forgets: what is forgotten is stored a
//! second time, which costs room and nothing else.
//!
//! ```text
//! bucket   | 16 random bytes of the run | kind, MAC | … 15 of these | 0 |
//! ```

use core::ops::ControlFlow;

use tiroir_core::index::{Index, Location, PackfilePlace, StateSink};
use tiroir_core::mac::{MAC_BYTES, Mac};
use tiroir_core::resource::{ResourceKind, Version};
use tiroir_core::time::Timestamp;

use crate::card::SECTOR_BYTES;
use crate::fault::Fault;
use crate::scratch::{Access, Scratch};

/// Length of what says that a bucket is of this run, in bytes.
pub const RUN_BYTES: usize = 16;

/// Length of an entry, in bytes.
const ENTRY_BYTES: usize = 1 + MAC_BYTES;

/// Entries of a bucket.
const ENTRIES: usize = (SECTOR_BYTES - RUN_BYTES) / ENTRY_BYTES;

/// What was stored in this run.
pub struct CardIndex<'d> {
    scratch: &'d Scratch,
    run: [u8; RUN_BYTES],
}

impl<'d> CardIndex<'d> {
    /// An index of nothing: buckets that do not start with `run`, which is random,
    /// are empty.
    pub fn new(scratch: &'d Scratch, run: [u8; RUN_BYTES]) -> Self {
        Self { scratch, run }
    }

    /// The bucket of a blob, and what stands for the blob there.
    fn place(&self, kind: ResourceKind, mac: &Mac) -> (u32, [u8; ENTRY_BYTES]) {
        let [a, b, c, d, ..] = mac.0;
        let mut entry = [kind.0; ENTRY_BYTES];
        entry[1..].copy_from_slice(&mac.0);
        (u32::from_le_bytes([a, b, c, d]) % self.scratch.buckets(), entry)
    }
}

impl Index for CardIndex<'_> {
    fn find(&mut self, _: ResourceKind, _: &Mac) -> Result<Option<Location>, Fault> {
        Ok(None)
    }

    fn contains(&mut self, kind: ResourceKind, mac: &Mac) -> Result<bool, Fault> {
        let (bucket, entry) = self.place(kind, mac);
        self.scratch.bucket(bucket, Access::Read, |bytes| {
            let (run, entries) = bytes.split_at(RUN_BYTES);
            run == self.run && entries.chunks_exact(ENTRY_BYTES).any(|found| found == entry)
        })
    }

    fn may_contain(&mut self, kind: ResourceKind, mac: &Mac) -> Result<bool, Fault> {
        self.contains(kind, mac)
    }

    fn add(&mut self, kind: ResourceKind, mac: &Mac) -> Result<(), Fault> {
        let (bucket, entry) = self.place(kind, mac);
        self.scratch.bucket(bucket, Access::Change, |bytes| {
            let (run, entries) = bytes.split_at_mut(RUN_BYTES);
            if run != self.run {
                run.copy_from_slice(&self.run);
                entries.fill(0);
            }
            let free = entries.chunks_exact(ENTRY_BYTES).position(|found| found[0] == 0);
            let at = free.unwrap_or(usize::from(mac.0[4]) % ENTRIES) * ENTRY_BYTES;
            entries[at..at + ENTRY_BYTES].copy_from_slice(&entry);
        })
    }

    fn next_snapshot(&mut self, _: Option<&Mac>) -> Result<Option<Mac>, Fault> {
        Ok(None)
    }

    fn next_state(&mut self, _: Option<&Mac>) -> Result<Option<Mac>, Fault> {
        Ok(None)
    }

    fn next_packfile(&mut self, _: Option<&PackfilePlace>) -> Result<Option<PackfilePlace>, Fault> {
        Ok(None)
    }

    fn each_located(
        &mut self,
        _: &Mac,
        _: &mut dyn FnMut(ResourceKind, &Mac, &Location) -> ControlFlow<()>,
    ) -> Result<(), Fault> {
        Ok(())
    }

    fn need(&mut self, _: ResourceKind, _: &Mac) -> Result<(), Fault> {
        Err(Fault::WritesOnly)
    }

    fn has_needed(&mut self) -> Result<bool, Fault> {
        Err(Fault::WritesOnly)
    }

    fn mark(&mut self, _: ResourceKind, _: &Mac) -> Result<bool, Fault> {
        Err(Fault::WritesOnly)
    }

    fn is_marked(&mut self, _: ResourceKind, _: &Mac) -> Result<bool, Fault> {
        Err(Fault::WritesOnly)
    }

    fn begin_refresh(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    fn state_listed(&mut self, _: &Mac) -> Result<bool, Fault> {
        Err(Fault::WritesOnly)
    }

    fn all_states_listed(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }

    fn next_unverified_state(&mut self) -> Result<Option<Mac>, Fault> {
        Ok(None)
    }

    fn state_unreadable(&mut self, _: &Mac) -> Result<(), Fault> {
        Err(Fault::WritesOnly)
    }

    fn state_header(&mut self, _: &Mac, _: Version, _: &Mac) -> Result<(), Fault> {
        Err(Fault::WritesOnly)
    }

    fn next_unread_state(&mut self) -> Result<Option<(Mac, Version)>, Fault> {
        Ok(None)
    }

    fn state_read(&mut self, _: &Mac) -> Result<(), Fault> {
        Err(Fault::WritesOnly)
    }

    fn end_refresh(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    fn newest_state(&mut self) -> Result<Option<(Version, Mac)>, Fault> {
        Ok(None)
    }
}

/// There are no states to be read.
impl StateSink for CardIndex<'_> {
    type Error = Fault;

    fn location(&mut self, _: ResourceKind, _: &Mac, _: &Location) -> Result<(), Fault> {
        Err(Fault::WritesOnly)
    }

    fn packfile(&mut self, _: &Mac, _: &Mac, _: Timestamp) -> Result<(), Fault> {
        Err(Fault::WritesOnly)
    }

    fn coloured(&mut self, _: ResourceKind, _: &Mac, _: Timestamp) -> Result<(), Fault> {
        Err(Fault::WritesOnly)
    }

    fn delete_location(&mut self, _: ResourceKind, _: &Mac, _: &Mac) -> Result<(), Fault> {
        Err(Fault::WritesOnly)
    }

    fn delete_colour(&mut self, _: ResourceKind, _: &Mac) -> Result<(), Fault> {
        Err(Fault::WritesOnly)
    }

    fn delete_packfile(&mut self, _: &Mac) -> Result<(), Fault> {
        Err(Fault::WritesOnly)
    }
}
