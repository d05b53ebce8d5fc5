//! [`Sorter`]: sorts any number of records in the memory that it is lent.
//!
//! Records are collected in the arena. When it is full they are sorted, and
//! written to a spool as a *run*; in the end the runs are merged, from one
//! spool to the other and back until few enough are left to merge them while
//! the result is read. What fits in the arena never touches a spool.
//!
//! ```text
//! arena    | record | record | …            free            … | slot | slot |
//! record   | u32 length of key | u32 length of value | key | value |
//! slot     | u32 offset of a record in the arena |
//! spool    | run | run | …
//! run      | u64 length of its records | record | record | …
//! ```
//!
//! All integers are little-endian; lengths and offsets count bytes. As a run
//! says where the next one starts, their number costs no memory.

use core::cmp::Ordering;
use core::fmt;
use core::ops::Range;

use crate::error::Error;
use crate::limits::bound;
use crate::order::Order;
use crate::spool::Spool;

/// Bytes of a record besides its key and its value.
const HEADER_BYTES: usize = 8;

/// Bytes that a record takes at the end of the arena.
const SLOT_BYTES: usize = 4;

/// Bytes of a run before its records.
const RUN_HEADER_BYTES: usize = 8;

/// Runs that are merged at once, at most. More would save passes over the
/// spools, but make many small reads of few large ones.
pub const FAN_IN_MAX: usize = bound(32, 8);

/// Key and value of a record.
pub type Record<'r> = (&'r [u8], &'r [u8]);

/// Sorts records, which consist of a key and a value, by their keys.
///
/// Records with equal keys are all kept, in the order in which they came.
/// `C` says what the order is; see [`crate::order`].
///
/// Costs nothing but the arena, two spools and about 2 KiB for itself. A
/// sorter is meant to be used again: starting over costs nothing either.
pub struct Sorter<'m, S, C = Order> {
    arena: &'m mut [u8],
    order: C,
    /// The spool that holds the runs, and the one that the next pass fills.
    spools: [S; 2],
    /// Runs in the first spool.
    runs: u64,
    /// Length of the records in the arena, in bytes.
    used_bytes: usize,
    /// Number of the records in the arena, and of their slots.
    held: usize,
    /// Number of all records.
    count: u64,
    /// Length of the longest record, in bytes.
    record_bytes_max: usize,
    merge: Merge,
    /// The result was asked for.
    finished: bool,
}

impl<'m, S: Spool, C: Fn(&[u8], &[u8]) -> Ordering> Sorter<'m, S, C> {
    /// A sorter over `arena`, whose content does not matter. The longest
    /// record has to fit in it twice; a larger arena saves passes over the
    /// spools. At most 4 GiB of it are used.
    ///
    /// What the spools hold is forgotten, when they are first needed.
    #[must_use]
    pub fn new(arena: &'m mut [u8], spools: [S; 2], order: C) -> Self {
        let arena_bytes = arena.len().min(u32::MAX as usize);
        Self {
            arena: &mut arena[..arena_bytes],
            order,
            spools,
            runs: 0,
            used_bytes: 0,
            held: 0,
            count: 0,
            record_bytes_max: 0,
            merge: Merge::default(),
            finished: false,
        }
    }

    /// Number of records pushed since the last start.
    #[must_use]
    pub fn len(&self) -> u64 {
        if self.finished { 0 } else { self.count }
    }

    /// Whether no record was pushed since the last start.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a record. The first one after [`finish`](Self::finish) starts
    /// over.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`] for a record that does not fit in the arena twice,
    /// which changes nothing; and those of the spools, after which the sorter
    /// is good for [`reset`](Self::reset) only.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error<S::Error>> {
        if self.finished {
            self.reset()?;
        }
        // Two at least must fit to be merged, a buffer for each.
        let record_bytes = HEADER_BYTES.saturating_add(key.len()).saturating_add(value.len());
        if record_bytes > self.arena.len() / 2 {
            return Err(too_small(record_bytes.saturating_mul(2), self.arena.len()));
        }
        let slots_bytes = (self.held + 1) * SLOT_BYTES;
        if self.used_bytes + record_bytes + slots_bytes > self.arena.len() {
            self.spill()?;
        }
        self.hold(key, value);
        self.used_bytes += record_bytes;
        self.held += 1;
        self.count += 1;
        self.record_bytes_max = self.record_bytes_max.max(record_bytes);
        Ok(())
    }

    /// Sorts, and returns what reads the result. Of the records that do not
    /// fit in the arena most of the work is done here. The result can be read
    /// once; finishing again without a record in between gives nothing.
    ///
    /// # Errors
    ///
    /// Those of the spools; the sorter is then good for
    /// [`reset`](Self::reset) only.
    pub fn finish(&mut self) -> Result<Sorted<'_, 'm, S, C>, Error<S::Error>> {
        if self.finished {
            self.reset()?;
        }
        // Also where a pass fails: half of it must not be taken for input.
        self.finished = true;
        if self.runs == 0 {
            self.sort();
        } else {
            self.spill()?;
            let fan_in = self.fan_in();
            while self.runs > fan_in as u64 {
                self.pass(fan_in)?;
            }
            let Self { arena, spools: [source, _], order, merge, .. } = self;
            #[expect(clippy::cast_possible_truncation, reason = "at most the fan-in")]
            merge.open(arena, source, order, 0, self.runs as usize)?;
        }
        Ok(Sorted { sorter: self, next: 0 })
    }

    /// Starts over: forgets all records, and what the spools hold.
    ///
    /// # Errors
    ///
    /// Those of the spools, if they were used.
    pub fn reset(&mut self) -> Result<(), Error<S::Error>> {
        self.runs = 0;
        self.used_bytes = 0;
        self.held = 0;
        self.count = 0;
        self.record_bytes_max = 0;
        self.finished = false;
        self.spools.iter_mut().try_for_each(clear)
    }

    /// Writes a record to the arena, and its slot.
    fn hold(&mut self, key: &[u8], value: &[u8]) {
        let slot = self.arena.len() - (self.held + 1) * SLOT_BYTES;
        self.arena[slot..][..SLOT_BYTES].copy_from_slice(&narrow(self.used_bytes));
        let (header, rest) = self.arena[self.used_bytes..].split_at_mut(HEADER_BYTES);
        header[..4].copy_from_slice(&narrow(key.len()));
        header[4..].copy_from_slice(&narrow(value.len()));
        rest[..key.len()].copy_from_slice(key);
        rest[key.len()..][..value.len()].copy_from_slice(value);
    }

    /// Sorts the slots of the arena.
    fn sort(&mut self) {
        let slots_start = self.arena.len() - self.held * SLOT_BYTES;
        let (records, slots) = self.arena.split_at_mut(slots_start);
        let order = &self.order;
        slots.as_chunks_mut::<SLOT_BYTES>().0.sort_unstable_by(|a, b| {
            let (a, b) = (wide(*a), wide(*b));
            order(key_at(records, a), key_at(records, b)).then(a.cmp(&b))
        });
    }

    /// Position of the record in the arena that is the `n`th, once sorted.
    fn nth(&self, n: usize) -> Option<usize> {
        let slots_start = self.arena.len() - self.held * SLOT_BYTES;
        self.arena[slots_start..].as_chunks().0.get(n).copied().map(wide)
    }

    /// Writes the records of the arena to the spool, as one run.
    fn spill(&mut self) -> Result<(), Error<S::Error>> {
        self.sort();
        if self.runs == 0 {
            clear(&mut self.spools[0])?;
        }
        self.spools[0].append(&(self.used_bytes as u64).to_le_bytes())?;
        for n in 0..self.held {
            let Some(start) = self.nth(n) else { break };
            let record_bytes = record_len(&self.arena[start..]).unwrap_or(0);
            self.spools[0].append(&self.arena[start..][..record_bytes])?;
        }
        self.runs += 1;
        self.used_bytes = 0;
        self.held = 0;
        Ok(())
    }

    /// Runs that can be merged at once: each needs a buffer for a whole
    /// record. Two at least, as [`push`](Self::push) takes care.
    fn fan_in(&self) -> usize {
        (self.arena.len() / self.record_bytes_max.max(1)).clamp(2, FAN_IN_MAX)
    }

    /// Merges every `fan_in` runs to one, into the other spool.
    fn pass(&mut self, fan_in: usize) -> Result<(), Error<S::Error>> {
        let Self { arena, spools: [source, target], order, merge, .. } = self;
        clear(target)?;
        let mut at = 0;
        let mut merged = 0;
        while self.runs > 0 {
            let width = usize::try_from(self.runs).map_or(fan_in, |runs| runs.min(fan_in));
            let (end, length_bytes) = merge.open(arena, source, order, at, width)?;
            target.append(&length_bytes.to_le_bytes())?;
            while let Some(record) = merge.next(arena, source, order)? {
                target.append(&arena[record])?;
            }
            at = end;
            self.runs -= width as u64;
            merged += 1;
        }
        clear(source)?;
        self.spools.swap(0, 1);
        self.runs = merged;
        Ok(())
    }
}

impl<S, C> fmt::Debug for Sorter<'_, S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sorter")
            .field("arena_bytes", &self.arena.len())
            .field("count", &self.count)
            .field("runs", &self.runs)
            .finish_non_exhaustive()
    }
}

/// The records of a [`Sorter`], in order. Read once, from the first on.
#[derive(Debug)]
pub struct Sorted<'s, 'm, S, C = Order> {
    sorter: &'s mut Sorter<'m, S, C>,
    /// The next record, of those that lie in the arena.
    next: usize,
}

impl<S: Spool, C: Fn(&[u8], &[u8]) -> Ordering> Sorted<'_, '_, S, C> {
    /// Number of all records, read or not.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.sorter.count
    }

    /// Whether there was no record at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next record, key and value, or nothing after the last.
    ///
    /// # Errors
    ///
    /// Those of the spools, after which nothing more can be read. A spool that
    /// did not keep what it was given shows as [`Error::Memory`].
    #[expect(clippy::should_implement_trait, reason = "the records are lent, not given")]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, Error<S::Error>> {
        let record = if self.sorter.runs > 0 {
            let Sorter { arena, spools: [source, _], order, merge, .. } = &mut *self.sorter;
            merge.next(arena, source, order)?
        } else {
            let start = self.sorter.nth(self.next);
            self.next += usize::from(start.is_some());
            start.map(|start| start..self.sorter.arena.len())
        };
        Ok(record.and_then(|record| split(&self.sorter.arena[record])))
    }
}

/// Where the merge is in one run.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    /// Part of the spool that is still to be read.
    ahead: (u64, u64),
    /// Part of the arena that belongs to the run.
    buffer: (usize, usize),
    /// Part of the buffer that is read and not yet given. Starts with a whole
    /// record, of a run that is active.
    held: (usize, usize),
}

impl Cursor {
    /// The record at the cursor, and what follows it in the buffer.
    fn bytes<'a>(&self, arena: &'a [u8]) -> &'a [u8] {
        &arena[self.held.0..self.held.1]
    }

    /// Makes sure that a whole record is in the buffer. Returns whether there
    /// is one, or the run has ended.
    fn fill<S: Spool>(&mut self, arena: &mut [u8], spool: &mut S) -> Result<bool, Error<S::Error>> {
        if split(self.bytes(arena)).is_some() {
            return Ok(true);
        }
        arena.copy_within(self.held.0..self.held.1, self.buffer.0);
        self.held = (self.buffer.0, self.buffer.0 + self.held.1 - self.held.0);
        let room = self.buffer.1 - self.held.1;
        let read_bytes = usize::try_from(self.ahead.1 - self.ahead.0).map_or(room, |n| n.min(room));
        spool.read_at(self.ahead.0, &mut arena[self.held.1..][..read_bytes])?;
        self.ahead.0 += read_bytes as u64;
        self.held.1 += read_bytes;

        if self.held.0 == self.held.1 {
            return Ok(false);
        }
        // Every record fits; unless the spool did not keep what it was given.
        match split(self.bytes(arena)) {
            Some(_) => Ok(true),
            None => Err(too_small(room.saturating_add(1), room)),
        }
    }
}

/// A merge of runs.
#[derive(Clone, Debug)]
struct Merge {
    cursors: [Cursor; FAN_IN_MAX],
    /// Positions of the cursors that have a record, sorted by those records.
    active: heapless::Vec<u8, FAN_IN_MAX>,
    /// The first record was given, and may be overwritten.
    given: bool,
}

impl Default for Merge {
    fn default() -> Self {
        let cursors = [Cursor::default(); FAN_IN_MAX];
        Self { cursors, active: heapless::Vec::new(), given: false }
    }
}

impl Merge {
    /// Starts to merge `width` runs, of which the first lies at `at` in
    /// the spool. Returns the end of the last, and the length of all records
    /// in bytes.
    fn open<S: Spool>(
        &mut self,
        arena: &mut [u8],
        spool: &mut S,
        order: &impl Fn(&[u8], &[u8]) -> Ordering,
        mut at: u64,
        width: usize,
    ) -> Result<(u64, u64), Error<S::Error>> {
        self.active.clear();
        self.given = false;
        let share = arena.len() / width.max(1);
        let mut records_bytes = 0;
        for (run, index) in (0..width.min(FAN_IN_MAX)).zip(0_u8..) {
            let records = run_at(spool, at)?;
            at = records.1;
            records_bytes += records.1 - records.0;
            let buffer = (run * share, (run + 1) * share);
            let held = (buffer.0, buffer.0);
            self.cursors[run] = Cursor { ahead: records, buffer, held };
            if self.cursors[run].fill(arena, spool)? {
                self.insert(arena, order, index);
            }
        }
        Ok((at, records_bytes))
    }

    /// Where the next record lies in the arena, until the next call.
    fn next<S: Spool>(
        &mut self,
        arena: &mut [u8],
        spool: &mut S,
        order: &impl Fn(&[u8], &[u8]) -> Ordering,
    ) -> Result<Option<Range<usize>>, Error<S::Error>> {
        if self.given {
            self.given = false;
            let index = self.active.remove(0);
            let cursor = &mut self.cursors[usize::from(index)];
            cursor.held.0 += record_len(cursor.bytes(arena)).unwrap_or(0);
            if cursor.fill(arena, spool)? {
                self.insert(arena, order, index);
            }
        }
        let Some(&index) = self.active.first() else { return Ok(None) };
        self.given = true;
        let cursor = &self.cursors[usize::from(index)];
        Ok(record_len(cursor.bytes(arena)).map(|len| cursor.held.0..cursor.held.0 + len))
    }

    /// Puts a cursor among the active ones. Between equal keys the earlier run
    /// goes first.
    fn insert(&mut self, arena: &[u8], order: &impl Fn(&[u8], &[u8]) -> Ordering, index: u8) {
        let key = |index: u8| key_at(arena, self.cursors[usize::from(index)].held.0);
        let before = |&other: &u8| order(key(other), key(index)).then(other.cmp(&index)).is_lt();
        let at = self.active.partition_point(before);
        // There is room: no cursor is in it twice.
        let _ = self.active.insert(at, index);
    }
}

/// Start and end of the records of the run that starts at `at`.
fn run_at<S: Spool>(spool: &mut S, at: u64) -> Result<(u64, u64), Error<S::Error>> {
    let start = at.saturating_add(RUN_HEADER_BYTES as u64);
    let mut length_bytes = [0; RUN_HEADER_BYTES];
    if start <= spool.len() {
        spool.read_at(at, &mut length_bytes)?;
    }
    let end = start.saturating_add(u64::from_le_bytes(length_bytes));
    // Only if the spool did not keep what it was given.
    if end > spool.len() {
        return Err(too_small(usize::MAX, 0));
    }
    Ok((start, end))
}

/// Key and value of the record at the start of `bytes`, if all of it is there.
fn split(bytes: &[u8]) -> Option<Record<'_>> {
    let (key_bytes, bytes) = bytes.split_first_chunk()?;
    let (value_bytes, bytes) = bytes.split_first_chunk()?;
    let (key, bytes) = bytes.split_at_checked(wide(*key_bytes))?;
    Some((key, bytes.get(..wide(*value_bytes))?))
}

/// Length of the record at the start of `bytes`, in bytes.
fn record_len(bytes: &[u8]) -> Option<usize> {
    split(bytes).map(|(key, value)| HEADER_BYTES + key.len() + value.len())
}

/// Key of the record at `offset`.
fn key_at(bytes: &[u8], offset: usize) -> &[u8] {
    bytes.get(offset..).and_then(split).map_or(&[], |(key, _)| key)
}

/// A length or an offset as it is kept: the arena is cut to what fits.
#[expect(clippy::cast_possible_truncation, reason = "below the length of the arena")]
fn narrow(bytes: usize) -> [u8; 4] {
    (bytes as u32).to_le_bytes()
}

/// The reverse of [`narrow`].
fn wide(bytes: [u8; 4]) -> usize {
    u32::from_le_bytes(bytes) as usize
}

/// Empties a spool, unless it is: a spool that nobody used is not touched.
fn clear<S: Spool>(spool: &mut S) -> Result<(), Error<S::Error>> {
    if !spool.is_empty() {
        spool.truncate(0)?;
    }
    Ok(())
}

fn too_small<E>(needed_bytes: usize, lent_bytes: usize) -> Error<E> {
    Error::Memory {
        what: "sorting",
        needed_bytes: needed_bytes as u64,
        lent_bytes: lent_bytes as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{byte_order, byte_order_reversed, path_order, path_order_reversed};
    use core::convert::Infallible;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    type Records = Vec<(Vec<u8>, Vec<u8>)>;

    /// A spool that counts what it is asked for.
    #[derive(Default)]
    struct CountingSpool {
        bytes: Vec<u8>,
        operations: usize,
    }

    impl Spool for CountingSpool {
        type Error = Infallible;

        fn len(&self) -> u64 {
            self.bytes.len() as u64
        }

        fn append(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
            self.operations += 1;
            self.bytes.extend_from_slice(bytes);
            Ok(())
        }

        fn read_at(&mut self, offset_bytes: u64, into: &mut [u8]) -> Result<(), Infallible> {
            self.operations += 1;
            let start = usize::try_from(offset_bytes).unwrap();
            into.copy_from_slice(&self.bytes[start..][..into.len()]);
            Ok(())
        }

        fn truncate(&mut self, len: u64) -> Result<(), Infallible> {
            self.operations += 1;
            self.bytes.truncate(usize::try_from(len).unwrap());
            Ok(())
        }
    }

    fn spools() -> [CountingSpool; 2] {
        [CountingSpool::default(), CountingSpool::default()]
    }

    fn sort<S: Spool<Error = Infallible>, C: Fn(&[u8], &[u8]) -> Ordering>(
        sorter: &mut Sorter<'_, S, C>,
        records: &Records,
    ) -> Records {
        for (key, value) in records {
            sorter.push(key, value).unwrap();
        }
        assert_eq!(sorter.len(), records.len() as u64);
        let mut sorted = sorter.finish().unwrap();
        assert_eq!(sorted.len(), records.len() as u64);
        let mut out = Vec::new();
        while let Some((key, value)) = sorted.next().unwrap() {
            out.push((key.to_vec(), value.to_vec()));
        }
        assert_eq!(sorted.next().unwrap(), None);
        out
    }

    #[test]
    fn what_fits_stays_in_the_arena() {
        let mut arena = [0xaa; 200];
        let mut sorter = Sorter::new(&mut arena, spools(), byte_order as Order);
        for _ in 0..3 {
            let records = ["b", "c", "", "a"].map(|key| (key.into(), vec![7; 5])).to_vec();
            let mut wanted = records.clone();
            wanted.sort();
            assert_eq!(sort(&mut sorter, &records), wanted);
            assert_eq!(sort(&mut sorter, &Records::new()), Records::new());
        }
        assert!(sorter.spools.iter().all(|spool| spool.operations == 0));
    }

    #[test]
    fn a_record_must_fit_twice() {
        let mut arena = [0; 101];
        let mut sorter = Sorter::new(&mut arena, spools(), byte_order);
        let too_small = Err(Error::Memory { what: "sorting", needed_bytes: 102, lent_bytes: 101 });
        assert_eq!(sorter.push(&[1; 40], &[2; 3]), too_small);
        let records = vec![(vec![1; 40], vec![2; 2]); 5];
        assert_eq!(sort(&mut sorter, &records), records);
        let mut sorter = Sorter::new(&mut [], spools(), byte_order);
        assert!(sorter.push(b"", b"").is_err());
        assert!(sorter.is_empty());
        assert!(sorter.finish().unwrap().is_empty());
    }

    #[test]
    fn a_spool_that_forgets_is_an_error() {
        let mut arena = [0; 64];
        let mut sorter = Sorter::new(&mut arena, spools(), byte_order);
        for key in 0..100_u8 {
            sorter.push(&[key; 8], &[]).unwrap();
        }
        sorter.spools[0].bytes.fill(0x55);
        assert!(matches!(sorter.finish(), Err(Error::Memory { .. })));
        // And the next sort is as good as the first.
        let records = vec![(vec![1], vec![2]); 50];
        assert_eq!(sort(&mut sorter, &records), records);
    }

    #[test]
    fn many_passes() {
        let mut arena = [0; 600];
        let mut sorter = Sorter::new(&mut arena, spools(), path_order);
        let records: Records = (0..20_000_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761).to_be_bytes().to_vec(), vec![b'v'; 3]))
            .collect();
        let mut wanted = records.clone();
        wanted.sort_by(|a, b| path_order(&a.0, &b.0));
        assert_eq!(sort(&mut sorter, &records), wanted);
        // 31 records of 19 bytes to a run: 31 runs to a pass; 646, 21.
        assert_eq!(sorter.runs, 21);
        sorter.reset().unwrap();
        assert!(sorter.spools.iter().all(Spool::is_empty));
    }

    /// Sorts what a spool holds after `damage`, to the end or to an error.
    fn sort_damaged(damage: impl Fn(&mut Vec<u8>)) {
        let mut arena = [0; 100];
        let mut sorter = Sorter::new(&mut arena, spools(), byte_order);
        for key in 0..200_u8 {
            sorter.push(&[key; 8], &[]).unwrap();
        }
        damage(&mut sorter.spools[0].bytes);
        if let Ok(mut sorted) = sorter.finish() {
            while let Ok(Some(_)) = sorted.next() {}
        }
    }

    fn records() -> impl Strategy<Value = Records> {
        // Few letters, so that keys are equal or begin alike.
        let key = proptest::collection::vec(prop::sample::select(&b"/ab"[..]), 0..12);
        let value = proptest::collection::vec(any::<u8>(), 0..12);
        proptest::collection::vec((key, value), 0..400)
    }

    proptest! {
        #[test]
        fn no_damage_makes_it_panic(
            at in any::<prop::sample::Index>(),
            bytes in any::<[u8; 9]>(),
            length in prop::option::of(any::<prop::sample::Index>()),
        ) {
            sort_damaged(|spool| {
                let at = at.index(spool.len() - bytes.len());
                spool[at..][..bytes.len()].copy_from_slice(&bytes);
                if let Some(length) = length {
                    spool.truncate(length.index(spool.len()));
                }
            });
        }

        #[test]
        fn as_a_vector_sorts(
            arena_bytes in 64_usize..700,
            order in prop::sample::select(vec![
                byte_order as Order, byte_order_reversed, path_order, path_order_reversed,
            ]),
            inputs in proptest::collection::vec(records(), 1..4),
        ) {
            let mut arena = vec![0xaa; arena_bytes];
            let mut sorter = Sorter::new(&mut arena, spools(), order);
            for records in inputs {
                let mut wanted = records.clone();
                wanted.sort_by(|a, b| order(&a.0, &b.0));
                prop_assert_eq!(sort(&mut sorter, &records), wanted);
            }
        }
    }
}
