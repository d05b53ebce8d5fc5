//! [`Held`]: which parts of packfiles are in the memory for input.
//!
//! Who walks a snapshot goes back and forth: from the root of a tree to a leaf, to an
//! entry, to contents, and to the root again. Each of these lies with its like. So the
//! memory is one large window for what is read on and on, and some small ones, of which
//! the one that was not used for longest goes first.

use crate::error::{Error, FormatError, Subject};
use crate::host::{HostError, HostErrorKind};
use crate::index::Location;
use crate::mac::Mac;
use crate::repository::absent;
use crate::store::{Store, StoreResource};
use crate::wire::envelope::HEADER_BYTES;

/// Small windows. They share one half of the memory; the large one has the other.
const SMALL: usize = 4;

/// Below this many bytes of memory the large window is all there is.
const SPLIT_BYTES: usize = 32 * 1024;

/// A part of a packfile that is held.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    packfile: Mac,
    /// Where it starts in the file.
    start: u64,
    filled: usize,
    /// The turn in which it was used last.
    used: u64,
}

impl Window {
    /// Where in this window the byte at `from` is, if it is.
    fn skip(&self, packfile: &Mac, from: u64) -> Option<usize> {
        let skip = usize::try_from(from.checked_sub(self.start)?).ok()?;
        (skip < self.filled && self.packfile == *packfile).then_some(skip)
    }

    /// Whether the byte at `from` comes soon after what is here.
    fn is_before(&self, packfile: &Mac, from: u64, within_bytes: u64) -> bool {
        let after = from.checked_sub(self.start).is_some_and(|far| far <= within_bytes);
        after && self.filled > 0 && self.packfile == *packfile
    }
}

/// Where to read, and how much.
#[derive(Clone, Copy, Debug)]
struct Plan {
    window: usize,
    start: u64,
    room: usize,
}

/// Which parts of packfiles are in the memory for input: the large window, and the
/// small ones behind it.
#[derive(Debug, Default)]
pub(crate) struct Held {
    windows: [Window; 1 + SMALL],
    turn: u64,
}

/// Bytes of the large window, and of a small one.
const fn sizes(io_bytes: usize) -> (usize, usize) {
    if io_bytes < SPLIT_BYTES {
        return (io_bytes, 0);
    }
    let small = io_bytes / (2 * SMALL);
    (io_bytes - SMALL * small, small)
}

/// Where a window lies in the memory.
const fn place(window: usize, io_bytes: usize) -> usize {
    let (large, small) = sizes(io_bytes);
    if window == 0 { 0 } else { large + (window - 1) * small }
}

impl Held {
    /// To be called when the memory is used for something else.
    pub(crate) fn forget(&mut self) {
        self.windows = Default::default();
    }

    /// Bytes of a blob, `done` bytes after its start: as many as are at hand,
    /// or were read now.
    pub(crate) fn part<'i, S: Store>(
        &mut self,
        store: &mut S,
        io: &'i mut [u8],
        at: &Location,
        done: u64,
    ) -> Result<&'i [u8], Error<S::Error>>
    where
        S::Error: HostError,
    {
        let left = u64::from(at.length_bytes).saturating_sub(done);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(&[]);
        }
        let from = (HEADER_BYTES as u64).saturating_add(at.offset_bytes).saturating_add(done);
        self.turn += 1;
        let found = (0..self.windows.len())
            .find_map(|n| Some((n, self.windows[n].skip(&at.packfile, from)?)));
        let (window, skip) = match found {
            Some(found) => found,
            None => self.fetch(store, io, &at.packfile, from, left)?,
        };
        self.windows[window].used = self.turn;
        let filled = self.windows[window].filled;
        let start = place(window, io.len());
        Ok(&io[start..][skip..filled.min(skip.saturating_add(left))])
    }

    /// Reads the byte at `from`, and what is around it.
    fn fetch<S: Store>(
        &mut self,
        store: &mut S,
        io: &mut [u8],
        packfile: &Mac,
        from: u64,
        left: usize,
    ) -> Result<(usize, usize), Error<S::Error>>
    where
        S::Error: HostError,
    {
        let Plan { window, start, room } = self.plan(io.len(), packfile, from, left);
        self.windows[window].filled = 0;
        let place = place(window, io.len());
        let into = &mut io[place..][..room];
        let mut get = |start, room: usize| {
            store.get(StoreResource::Packfile, packfile, start, &mut into[..room])
        };
        let exact = left.min(room);
        let (start, filled) = match get(start, room) {
            Ok(filled) => (start, filled),
            // A bad sector beside the blob is no reason not to read the blob.
            Err(error)
                if error.kind() == HostErrorKind::Medium && (start, room) != (from, exact) =>
            {
                (from, get(from, exact).map_err(|_| Error::Host(error))?)
            }
            Err(error) => return Err(absent(error, Subject::Packfile(*packfile))),
        };
        let held = Window { packfile: *packfile, start, filled, used: 0 };
        let skip = held.skip(packfile, from);
        let truncated = Error::damaged(Subject::Packfile(*packfile));
        let skip = skip.ok_or(FormatError::Truncated).map_err(truncated)?;
        self.windows[window] = held;
        Ok((window, skip))
    }

    /// Chooses a window for the byte at `from`, of which `left` bytes are wanted.
    fn plan(&self, io_bytes: usize, packfile: &Mac, from: u64, left: usize) -> Plan {
        let (large, small) = sizes(io_bytes);
        let within_bytes = 2 * large as u64;
        let before = (0..self.windows.len())
            .filter(|n| self.windows[*n].is_before(packfile, from, within_bytes))
            .max_by_key(|n| self.windows[*n].used);
        if let Some(before) = before {
            // Who reads on is going to read more: in the large window, unless somebody
            // else reads on there. What is small refers to what lies before it.
            let Window { start, filled, used, .. } = self.windows[before];
            let near = (start + filled as u64).max(from.saturating_sub(small as u64));
            let start = if left > small { from } else { near };
            return if self.windows[0].used <= used || left > small {
                Plan { window: 0, start, room: large }
            } else {
                Plan { window: before, start: from, room: small }
            };
        }
        if left > small {
            return Plan { window: 0, start: from, room: left.min(large) };
        }
        let oldest = (1..self.windows.len()).min_by_key(|n| self.windows[*n].used);
        // The parts of a tree lie before what refers to them. No blob lies in two windows.
        let aligned = from - from % small as u64;
        let start = aligned.max(from.saturating_add(left as u64).saturating_sub(small as u64));
        Plan { window: oldest.unwrap_or(0), start, room: small }
    }
}

#[cfg(test)]
mod tests {
    use core::ops::ControlFlow;
    use std::collections::BTreeSet;
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::store::{Layout, UploadId};

    /// Packfiles of bytes that tell where they are, of which some cannot be read.
    #[derive(Default)]
    struct Packfiles {
        length: u64,
        bad: BTreeSet<u64>,
        requests: Vec<(u64, usize)>,
    }

    #[derive(Debug)]
    struct Failed;

    impl core::fmt::Display for Failed {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            f.write_str("failed")
        }
    }

    impl core::error::Error for Failed {}

    impl HostError for Failed {
        fn kind(&self) -> HostErrorKind {
            HostErrorKind::Medium
        }
    }

    fn byte(packfile: &Mac, at: u64) -> u8 {
        (at ^ (at >> 8) ^ (at >> 16)).to_le_bytes()[0] ^ packfile.0[0]
    }

    impl Store for Packfiles {
        type Error = Failed;

        fn layout(&self) -> Layout {
            Layout::Directory
        }
        fn read_config(&mut self, _: &mut [u8]) -> Result<usize, Failed> {
            Err(Failed)
        }
        fn create(&mut self, _: &[u8]) -> Result<(), Failed> {
            Err(Failed)
        }
        fn begin(&mut self, _: StoreResource) -> Result<UploadId, Failed> {
            Err(Failed)
        }
        fn write(&mut self, _: UploadId, _: &[u8]) -> Result<(), Failed> {
            Err(Failed)
        }
        fn commit(&mut self, _: UploadId, _: &Mac) -> Result<(), Failed> {
            Err(Failed)
        }
        fn abort(&mut self, _: UploadId) {}
        fn size(&mut self, _: StoreResource, _: &Mac) -> Result<Option<u64>, Failed> {
            Ok(Some(self.length))
        }
        fn get(
            &mut self,
            _: StoreResource,
            name: &Mac,
            offset_bytes: u64,
            into: &mut [u8],
        ) -> Result<usize, Failed> {
            self.requests.push((offset_bytes, into.len()));
            let end = self.length.min(offset_bytes.saturating_add(into.len() as u64));
            if self.bad.range(offset_bytes..end.max(offset_bytes)).next().is_some() {
                return Err(Failed);
            }
            for (at, into) in (offset_bytes..end).zip(&mut *into) {
                *into = byte(name, at);
            }
            Ok(usize::try_from(end.saturating_sub(offset_bytes)).unwrap())
        }
        fn list(
            &mut self,
            _: StoreResource,
            _: &mut dyn FnMut(Mac) -> ControlFlow<()>,
        ) -> Result<(), Failed> {
            Err(Failed)
        }
        fn delete(&mut self, _: StoreResource, _: &Mac) -> Result<(), Failed> {
            Err(Failed)
        }
    }

    fn location(packfile: u8, offset_bytes: u64, length_bytes: u32) -> Location {
        Location { packfile: Mac([packfile; 32]), offset_bytes, length_bytes }
    }

    /// Reads a blob, and compares it.
    fn read(
        held: &mut Held,
        store: &mut Packfiles,
        io: &mut [u8],
        at: &Location,
    ) -> Result<(), Error<Failed>> {
        let mut done = 0;
        while done < u64::from(at.length_bytes) {
            let part = held.part(store, io, at, done)?;
            assert!(!part.is_empty());
            let first = HEADER_BYTES as u64 + at.offset_bytes + done;
            for (at_byte, found) in (first..).zip(part) {
                assert_eq!(*found, byte(&at.packfile, at_byte));
            }
            done += part.len() as u64;
            assert!(done <= u64::from(at.length_bytes));
        }
        Ok(())
    }

    #[test]
    fn whatever_is_read_is_what_is_there() {
        let mut random = 7_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        for io_bytes in [1, 4096, SPLIT_BYTES - 1, SPLIT_BYTES, 100_001, 128 * 1024] {
            let mut held = Held::default();
            let mut store = Packfiles { length: 3_000_000, ..Packfiles::default() };
            let mut io = vec![0; io_bytes];
            for _ in 0..if io_bytes == 1 { 20 } else { 2000 } {
                let offset = next(2_900_000);
                let length = [40, 2000, 90_000][usize::try_from(next(3)).unwrap()];
                let length = u32::try_from(next(length) + 1).unwrap();
                let at = location(u8::try_from(next(2)).unwrap(), offset, length);
                read(&mut held, &mut store, &mut io, &at).unwrap();
                if next(50) == 0 {
                    io.fill(0);
                    held.forget();
                }
            }
        }
    }

    /// As an unchanged backup reads the snapshot before: down the tree, then an entry.
    #[test]
    fn back_and_forth_is_few_requests() {
        let mut held = Held::default();
        let mut store = Packfiles { length: 30_000_000, ..Packfiles::default() };
        let mut io = vec![0; crate::repository::IO_BYTES];
        for entry in 0..4000_u64 {
            let leaf = 28_000_000 + entry / 40 * 2300;
            for (offset, length) in
                [(29_002_000, 1100), (29_000_000, 900), (leaf, 2300), (entry * 600, 600)]
            {
                read(&mut held, &mut store, &mut io, &location(1, offset, length)).unwrap();
            }
        }
        let bytes: usize = store.requests.iter().map(|(_, bytes)| bytes).sum();
        assert!(store.requests.len() < 150, "{} requests", store.requests.len());
        assert!(bytes < 3 * (4000 * 600 + 100 * 2300), "{bytes} bytes");
    }

    #[test]
    fn a_bad_place_beside_a_blob_does_not_matter() {
        let mut held = Held::default();
        let bad = BTreeSet::from([20_000, 70_000]);
        let mut store = Packfiles { length: 100_000, bad, ..Packfiles::default() };
        let mut io = vec![0; crate::repository::IO_BYTES];
        for (offset, length) in [(16_500, 3000), (20_100, 500), (20_800, 100), (66_000, 3000)] {
            read(&mut held, &mut store, &mut io, &location(1, offset, length)).unwrap();
        }
        assert!(read(&mut held, &mut store, &mut io, &location(1, 19_000, 3000)).is_err());
        // And the end of the file is no reason either, nor an index that is wrong.
        read(&mut held, &mut store, &mut io, &location(1, 99_000, 900)).unwrap();
        let beyond = read(&mut held, &mut store, &mut io, &location(1, 99_000, 1000));
        assert!(matches!(beyond, Err(Error::Damaged { .. })), "{beyond:?}");
        for io_bytes in [4096, io.len()] {
            let nowhere = location(1, u64::MAX, 900);
            let beyond = read(&mut Held::default(), &mut store, &mut io[..io_bytes], &nowhere);
            assert!(matches!(beyond, Err(Error::Damaged { .. })), "{beyond:?}");
        }
    }
}
