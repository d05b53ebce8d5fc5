//! What does not fit in memory: spools, and the index of what was stored, in the
//! second partition of the card, through a cache of a few sectors.
//!
//! ```text
//! | region of spool 0 | region of spool 1 | … | buckets of the index |
//! ```
//!
//! Regions are of one length. That wastes the card and saves a table; a card has
//! gigabytes.

use core::cell::RefCell;

use tiroir_core::spool::Spool;

use crate::card::{Card, SECTOR_BYTES};
use crate::fault::Fault;

/// Spools that there can be at a time. A backup has 23.
const SPOOLS: u32 = 24;

/// Sectors in memory.
const CACHED: usize = 16;

/// Memory for sectors.
pub type CacheMemory = [[u8; SECTOR_BYTES]; CACHED];

/// What becomes of a sector.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Access {
    /// It is read.
    Read,
    /// Some of it is changed.
    Change,
    /// What it held does not matter.
    Replace,
}

/// The second partition.
pub struct Scratch(RefCell<Cache>);

struct Cache {
    card: Card,
    /// First sector of the partition.
    first: u32,
    /// Sectors of a region.
    region: u32,
    /// Sectors of the index.
    buckets: u32,
    /// Which regions are in use.
    taken: u32,
    memory: &'static mut CacheMemory,
    held: [Held; CACHED],
    /// How often sectors were used so far.
    uses: u64,
}

/// A sector in memory.
#[derive(Clone, Copy, Default)]
struct Held {
    sector: Option<u32>,
    is_changed: bool,
    used: u64,
}

impl Scratch {
    /// The second partition of a card.
    pub fn new(card: Card, memory: &'static mut CacheMemory) -> Result<Self, Fault> {
        let (first, sectors) = card.scratch()?;
        // A quarter for the index.
        let (region, buckets) = (sectors / 4 * 3 / SPOOLS, sectors / 4);
        if region == 0 {
            return Err(Fault::NoScratch);
        }
        let held = [Held::default(); CACHED];
        let cache = Cache { card, first, region, buckets, taken: 0, memory, held, uses: 0 };
        Ok(Self(RefCell::new(cache)))
    }

    /// A new spool.
    pub fn spool(&self) -> Result<CardSpool<'_>, Fault> {
        let mut cache = self.0.borrow_mut();
        let number = cache.taken.trailing_ones();
        if number >= SPOOLS {
            return Err(Fault::ScratchFull);
        }
        cache.taken |= 1 << number;
        Ok(CardSpool { scratch: self, number, len: 0 })
    }

    /// Number of the buckets of the index.
    pub fn buckets(&self) -> u32 {
        self.0.borrow().buckets
    }

    /// Calls `work` with a bucket of the index.
    pub fn bucket<T>(
        &self,
        bucket: u32,
        access: Access,
        work: impl FnOnce(&mut [u8; SECTOR_BYTES]) -> T,
    ) -> Result<T, Fault> {
        let mut cache = self.0.borrow_mut();
        let sector = cache.region * SPOOLS + bucket;
        cache.sector(sector, access).map(work)
    }
}

impl Cache {
    /// A sector, by its number in the partition.
    fn sector(&mut self, sector: u32, access: Access) -> Result<&mut [u8; SECTOR_BYTES], Fault> {
        self.uses += 1;
        let found = self.held.iter().position(|held| held.sector == Some(sector));
        let place = match found {
            Some(place) => place,
            None => self.load(sector, access)?,
        };
        let held = &mut self.held[place];
        held.used = self.uses;
        held.is_changed |= access != Access::Read;
        Ok(&mut self.memory[place])
    }

    /// Brings a sector into memory, for the one that was not used for longest.
    fn load(&mut self, sector: u32, access: Access) -> Result<usize, Fault> {
        let oldest = self.held.iter().enumerate().min_by_key(|(_, held)| held.used);
        let place = oldest.map_or(0, |(place, _)| place);
        let held = &mut self.held[place];
        if let Some(old) = held.sector.filter(|_| held.is_changed) {
            self.card.write_sector(self.first + old, &self.memory[place])?;
        }
        *held = Held::default();
        if access != Access::Replace {
            self.card.read_sector(self.first + sector, &mut self.memory[place])?;
        }
        held.sector = Some(sector);
        Ok(place)
    }
}

/// A spool on the card.
pub struct CardSpool<'d> {
    scratch: &'d Scratch,
    number: u32,
    len: u64,
}

impl CardSpool<'_> {
    /// Calls `work` with the part of a sector that starts at `position` and is at
    /// most `len` long. Returns how long it is.
    fn part(
        &self,
        position: u64,
        len: usize,
        access: Access,
        work: impl FnOnce(&mut [u8]),
    ) -> Result<usize, Fault> {
        let mut cache = self.scratch.0.borrow_mut();
        let sector = u32::try_from(position / SECTOR_BYTES as u64).unwrap_or(u32::MAX);
        if sector >= cache.region {
            return Err(Fault::ScratchFull);
        }
        #[expect(clippy::cast_possible_truncation, reason = "less than a sector")]
        let start = (position % SECTOR_BYTES as u64) as usize;
        let end = SECTOR_BYTES.min(start + len);
        let number = self.number * cache.region + sector;
        work(&mut cache.sector(number, access)?[start..end]);
        Ok(end - start)
    }
}

impl Spool for CardSpool<'_> {
    type Error = Fault;

    fn len(&self) -> u64 {
        self.len
    }

    fn append(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while !bytes.is_empty() {
            let is_start = self.len.is_multiple_of(SECTOR_BYTES as u64);
            let access = if is_start { Access::Replace } else { Access::Change };
            let done = self.part(self.len, bytes.len(), access, |part| {
                part.copy_from_slice(&bytes[..part.len()]);
            })?;
            self.len += done as u64;
            bytes = &bytes[done..];
        }
        Ok(())
    }

    fn read_at(&mut self, mut offset_bytes: u64, mut into: &mut [u8]) -> Result<(), Fault> {
        while !into.is_empty() {
            let done = self.part(offset_bytes, into.len(), Access::Read, |part| {
                into[..part.len()].copy_from_slice(part);
            })?;
            offset_bytes += done as u64;
            into = &mut into[done..];
        }
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> Result<(), Fault> {
        self.len = len;
        Ok(())
    }
}

impl Drop for CardSpool<'_> {
    fn drop(&mut self) {
        self.scratch.0.borrow_mut().taken &= !(1 << self.number);
    }
}
