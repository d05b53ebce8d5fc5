//! [`Runs`]: records of one length, sorted in files and merged as they grow.
//!
//! A log-structured merge: what is pushed gathers in a buffer, which is sorted
//! and written as a run when it is full. Eight runs of about one length become
//! one; so `n` records are written `log8 n` times and lie in few runs. Where runs
//! are to last, all of this happens in temporary files, and only what is left at
//! the end is written to where it stays: once for each change, and once more for
//! each time that the store has grown by a third.
//!
//! A run is a file of groups of [`GROUP_RECORDS`] records, each with a check
//! sum, so that what is read is what was written. After them come the fences,
//! the first eight bytes of every group: of these as many are kept in memory as
//! there is room for, and a look-up reads the groups between two of them. In the
//! end comes a [filter](super::filter), which is read once so many were looked
//! for in vain that this is cheaper, and if there is room for it.
//!
//! Where keys are repeated, [`Record::fold`] says what is left of two.

use std::cmp::Ordering;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tiroir_core::spool::Spool as _;

use super::filter::{self, GROUP_BYTES, Group};
use super::schema::Sum;
use crate::env::random_suffix;
use crate::error::{Context as _, HostsError, Result};
use crate::spool::{FileSpool, create_hidden, create_named};

/// Records from one fence to the next, in a file.
const GROUP_RECORDS: u64 = 32;

/// Bytes of the check sum behind a group of records.
const SUM_BYTES: usize = 4;

/// Runs of about one length that are merged.
const FAN_IN: usize = 8;

/// A run that is this many times as long as all younger ones is left alone at
/// the end of a change.
const LENGTH_RATIO: u64 = 3;

/// Records in the buffer, at most: some kinds number them in three bytes.
const BUFFER_RECORDS_MAX: usize = 1 << 23;

/// Bytes read or written at once while runs are merged.
const IO_BYTES: usize = 16 * 1024;

/// Bytes of records that are kept in memory as a whole.
const SHORT_BYTES: usize = 8 * 1024;

/// Bytes read for a look-up, about.
const LOOK_UP_BYTES: usize = 4 * 1024;

/// Bytes of a filter that are added to its check sum at once.
const FILTER_PIECE_BYTES: usize = 4 * 1024;

/// What runs hold: `N` bytes, of which the first are the key.
pub(super) trait Record<const N: usize> {
    /// Length of the key, in bytes.
    const KEY_BYTES: usize;

    /// Start of eight random bytes of the key, by which a filter tells what is
    /// not there; nothing if runs of this kind have no filters.
    const FILTERED_AT: Option<usize> = None;

    /// What is left of two records with the same key, in `older`.
    fn fold(_older: &mut [u8; N], _newer: &[u8; N]) {}

    /// Changes a record that nothing older can lie below. Returns whether it
    /// is of use at all.
    fn settle(_record: &mut [u8; N]) -> bool {
        true
    }
}

/// A file of sorted records.
#[derive(Debug)]
pub(super) struct Run<const N: usize> {
    file: File,
    /// Where it lies, if it has a name.
    path: Option<PathBuf>,
    /// Number of its records.
    records: u64,
    /// Check sum of its fences.
    sum: u32,
    /// First bytes of every `stride`th record.
    fences: Vec<u64>,
    /// Records from one fence in memory to the next.
    stride: u64,
    /// All of it, if it is short, without check sums.
    whole: Vec<u8>,
    /// Whether a filter lies behind the fences.
    has_filter: bool,
    /// The filter, if it was read.
    filter: Vec<u8>,
    /// Look-ups since it was last thought of reading the filter.
    unfiltered: usize,
}

/// Where to begin: at the records whose first bytes are these, or behind them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start<'k> {
    At(&'k [u8]),
    Behind(&'k [u8]),
}

impl<'k> Start<'k> {
    fn key(self) -> &'k [u8] {
        match self {
            Self::At(key) | Self::Behind(key) => key,
        }
    }

    /// Whether a record comes before it.
    fn is_behind(self, record: &[u8]) -> bool {
        let first = record.get(..self.key().len()).unwrap_or(record);
        match self {
            Self::At(key) => first < key,
            Self::Behind(key) => first <= key,
        }
    }
}

/// What somebody who keeps a list of runs notes of one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Note {
    pub(super) name: String,
    pub(super) records: u64,
    pub(super) sum: u32,
}

/// Where the files of runs are made.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// In that directory, without names: they are gone with the process.
    Hidden(PathBuf),
    /// With names, and synced.
    Named {
        /// Where those lie that are to last.
        directory: PathBuf,
        /// Where temporary files lie.
        spools: PathBuf,
    },
}

impl Place {
    fn directory(&self) -> &Path {
        match self {
            Self::Hidden(directory) | Self::Named { directory, .. } => directory,
        }
    }

    fn spools(&self) -> &Path {
        match self {
            Self::Hidden(spools) | Self::Named { spools, .. } => spools,
        }
    }

    /// The place for what does not last.
    fn passing(&self) -> Self {
        Self::Hidden(self.spools().to_path_buf())
    }

    fn lasts(&self) -> bool {
        matches!(self, Self::Named { .. })
    }
}

/// Start of the names of runs.
pub(super) const NAME_PREFIX: &str = "run-";

/// The first eight bytes of a key, as a number in the same order.
fn fence_of(key: &[u8]) -> u64 {
    let mut first = [0; 8];
    let len = key.len().min(8);
    first[..len].copy_from_slice(&key[..len]);
    u64::from_be_bytes(first)
}

/// Damage: of the kind that has the index made anew.
fn damaged(directory: &Path) -> HostsError {
    HostsError::database("read a run of", directory, super::schema::damage())
}

impl<const N: usize> Run<N> {
    /// Bytes of a whole group in the file.
    const GROUP_FILE_BYTES: u64 = GROUP_RECORDS * N as u64 + SUM_BYTES as u64;

    /// Opens a run that was noted before.
    pub(super) fn open<K: Record<N>>(
        directory: &Path,
        note: &Note,
        fence_count_max: usize,
    ) -> Result<Self> {
        let path = directory.join(&note.name);
        // Never a pipe, which would be waited for.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match rustix::fs::open(&path, flags, Mode::empty()) {
            // A link.
            Err(Errno::LOOP) => return Err(damaged(directory)),
            opened => opened.at("open", &path)?,
        };
        let mut run = Self::over::<K>(file.into(), Some(path), note.records, note.sum);
        run.load_fences(directory, fence_count_max)?;
        Ok(run)
    }

    fn over<K: Record<N>>(file: File, path: Option<PathBuf>, records: u64, sum: u32) -> Self {
        Self {
            file,
            path,
            records,
            sum,
            fences: Vec::new(),
            stride: GROUP_RECORDS,
            whole: Vec::new(),
            has_filter: K::FILTERED_AT.is_some() && !Self::is_short(records),
            filter: Vec::new(),
            unfiltered: 0,
        }
    }

    /// Whether a run is kept in memory as a whole.
    fn is_short(records: u64) -> bool {
        records * N as u64 <= SHORT_BYTES as u64
    }

    pub(super) fn note(&self) -> Option<Note> {
        let name = self.path.as_ref()?.file_name()?.to_str()?.to_owned();
        Some(Note { name, records: self.records, sum: self.sum })
    }

    fn group_count(&self) -> u64 {
        self.records.div_ceil(GROUP_RECORDS)
    }

    /// Where the fences begin in the file.
    fn fences_at(&self) -> u64 {
        self.records * N as u64 + self.group_count() * SUM_BYTES as u64
    }

    /// Length of the filter; 0 if there is none.
    fn filter_bytes(&self) -> usize {
        if self.has_filter { small(self.group_count()).saturating_mul(GROUP_BYTES) } else { 0 }
    }

    /// Reads the fences, and keeps as many as may be kept.
    fn load_fences(&mut self, directory: &Path, fence_count_max: usize) -> Result<()> {
        let count = self.group_count();
        // A damaged number must not have us take memory for it.
        let filter =
            if self.has_filter { self.filter_bytes() as u64 + SUM_BYTES as u64 } else { 0 };
        let data = self.file.metadata().map_err(|error| unreadable(directory, error))?;
        if !data.is_file() || data.len() != self.fences_at() + count * 8 + filter {
            return Err(damaged(directory));
        }
        let mut skip = 1;
        while count.div_ceil(skip) > (fence_count_max as u64).max(1) {
            skip *= 2;
        }
        self.stride = GROUP_RECORDS * skip;
        self.fences = Vec::with_capacity(small(count.div_ceil(skip)));
        let start = self.fences_at();
        let (mut sum, mut buffer) = (Sum::new(), [0; 4096]);
        let mut number = 0;
        while number < count {
            let step = small(count - number).min(buffer.len() / 8);
            let piece = &mut buffer[..step * 8];
            self.file
                .read_exact_at(piece, start + number * 8)
                .map_err(|error| unreadable(directory, error))?;
            for fence in piece.as_chunks::<8>().0 {
                sum = sum.bytes(fence);
                if number % skip == 0 {
                    self.fences.push(u64::from_le_bytes(*fence));
                }
                number += 1;
            }
        }
        if sum.number(self.records.cast_signed()).bits() != self.sum {
            return Err(damaged(directory));
        }
        if Self::is_short(self.records) {
            let mut whole = Vec::new();
            self.read_groups(0, count, &mut whole, directory)?;
            self.whole = whole;
        }
        Ok(())
    }

    /// Reads the filter, and keeps it.
    fn load_filter(&mut self, directory: &Path) -> Result<()> {
        let mut bytes = vec![0; self.filter_bytes() + SUM_BYTES];
        self.file
            .read_exact_at(&mut bytes, self.fences_at() + self.group_count() * 8)
            .map_err(|error| unreadable(directory, error))?;
        let sum = bytes.split_off(self.filter_bytes());
        let counted = bytes.chunks(FILTER_PIECE_BYTES).fold(Sum::new(), Sum::bytes);
        if sum != filter_sum(counted, self.sum) {
            return Err(damaged(directory));
        }
        self.filter = bytes;
        Ok(())
    }

    /// The groups in which records lie whose first bytes are `wanted`, if there
    /// are any.
    fn groups_of(&self, wanted: u64) -> Range<u64> {
        // The fence before the first that is not below may still be followed
        // by such records.
        let before = self.fences.partition_point(|fence| *fence < wanted);
        let rest = self.fences.get(before..).unwrap_or_default();
        let after = before + rest.partition_point(|fence| *fence <= wanted);
        let skip = self.stride / GROUP_RECORDS;
        let first = (before as u64).saturating_sub(1) * skip;
        first..(after as u64 * skip).min(self.group_count())
    }

    /// Whether records that begin with `key` may be in these groups.
    fn may_hold(&self, groups: &Range<u64>, word: u64) -> bool {
        let (start, end) = (small(groups.start), small(groups.end));
        let part = self.filter.get(start * GROUP_BYTES..end * GROUP_BYTES);
        self.filter.is_empty() || part.is_none_or(|part| filter::may_hold(part, word))
    }

    /// Number of the first record from `start` on, with what was read of the
    /// file in `piece`.
    fn first(&self, start: Start<'_>, piece: &mut Piece, directory: &Path) -> Result<u64> {
        if !self.whole.is_empty() {
            let records = self.whole.as_chunks::<N>().0;
            return Ok(records.partition_point(|record| start.is_behind(record)) as u64);
        }
        let groups = self.groups_of(fence_of(start.key()));
        self.first_in(groups, start, piece, directory)
    }

    /// The same, where it is known in which groups it is, or right behind them.
    fn first_in(
        &self,
        groups: Range<u64>,
        start: Start<'_>,
        piece: &mut Piece,
        directory: &Path,
    ) -> Result<u64> {
        let Range { start: mut low, end: mut high } = groups;
        while high - low > 2 {
            let middle = low + (high - low) / 2;
            self.read(middle, 1, piece, directory)?;
            if start.is_behind(&piece.bytes) { low = middle } else { high = middle }
        }
        self.read(low, high - low, piece, directory)?;
        let records = piece.bytes.as_chunks::<N>().0;
        let found = records.partition_point(|record| start.is_behind(record));
        Ok(low * GROUP_RECORDS + found as u64)
    }

    /// Reads groups into `piece`.
    fn read(&self, first: u64, count: u64, piece: &mut Piece, directory: &Path) -> Result<()> {
        // Nothing, should this fail.
        piece.first = u64::MAX;
        self.read_groups(first, count, &mut piece.bytes, directory)?;
        piece.first = first * GROUP_RECORDS;
        Ok(())
    }

    /// Reads the records of groups, compared with their check sums.
    fn read_groups(
        &self,
        first: u64,
        count: u64,
        into: &mut Vec<u8>,
        directory: &Path,
    ) -> Result<()> {
        let records =
            (self.records - (first * GROUP_RECORDS).min(self.records)).min(count * GROUP_RECORDS);
        let groups = records.div_ceil(GROUP_RECORDS);
        into.resize(small(records) * N + small(groups) * SUM_BYTES, 0);
        self.file
            .read_exact_at(into, first * Self::GROUP_FILE_BYTES)
            .map_err(|error| unreadable(directory, error))?;
        let (mut from, mut to) = (0, 0);
        for number in first..first + groups {
            let left = into.len() - from;
            let length = left.min(small(Self::GROUP_FILE_BYTES)) - SUM_BYTES;
            let (records, sum) = into[from..from + length + SUM_BYTES].split_at(length);
            if sum != group_sum(records.as_chunks::<N>().0.iter().fold(Sum::new(), add), number) {
                return Err(damaged(directory));
            }
            into.copy_within(from..from + length, to);
            from += length + SUM_BYTES;
            to += length;
        }
        into.truncate(to);
        Ok(())
    }

    /// One record, from `piece` if it is there.
    fn record(&self, number: u64, piece: &mut Piece, directory: &Path) -> Result<Option<[u8; N]>> {
        if number >= self.records {
            return Ok(None);
        }
        if !self.whole.is_empty() {
            return Ok(self.whole.as_chunks::<N>().0.get(small(number)).copied());
        }
        let held = (piece.bytes.len() / N) as u64;
        if number < piece.first || number - piece.first >= held {
            self.read(number / GROUP_RECORDS, 1, piece, directory)?;
        }
        let at = small(number - piece.first);
        Ok(piece.bytes.as_chunks::<N>().0.get(at).copied())
    }
}

/// Adds a record to the check sum of its group.
fn add<const N: usize>(sum: Sum, record: &[u8; N]) -> Sum {
    sum.bytes(record)
}

/// What stands behind a group: records of another place do not match it.
fn group_sum(records: Sum, number: u64) -> [u8; SUM_BYTES] {
    records.number(number.cast_signed()).bits().to_le_bytes()
}

/// What stands behind a filter.
fn filter_sum(pieces: Sum, of: u32) -> [u8; SUM_BYTES] {
    pieces.number(i64::from(of)).bits().to_le_bytes()
}

/// Too short a file is damage; anything else is what it is.
fn unreadable(directory: &Path, error: io::Error) -> HostsError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        damaged(directory)
    } else {
        HostsError::io("read a run in", directory, error)
    }
}

fn small(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A part of a run, as last read.
#[derive(Debug, Default)]
struct Piece {
    first: u64,
    bytes: Vec<u8>,
}

/// Writes a run, record by record.
struct Writer<const N: usize> {
    file: File,
    path: Option<PathBuf>,
    directory: PathBuf,
    buffer: Vec<u8>,
    written_bytes: u64,
    records: u64,
    /// Check sum of the group that is being written.
    group: Sum,
    /// Filter of that group.
    bits: Group,
    fences: FileSpool,
    sum: Sum,
    /// Filters of all groups before.
    filter: FileSpool,
}

impl<const N: usize> Writer<N> {
    fn new(place: &Place) -> Result<Self> {
        let directory = place.directory().to_path_buf();
        let (file, path) = match place {
            Place::Hidden(directory) => (create_hidden(directory)?, None),
            Place::Named { directory, .. } => {
                let path = directory.join(format!("{NAME_PREFIX}{}", random_suffix()?));
                (create_named(&path)?, Some(path))
            }
        };
        Ok(Self {
            file,
            path,
            directory,
            buffer: Vec::with_capacity(IO_BYTES + N),
            written_bytes: 0,
            records: 0,
            group: Sum::new(),
            bits: [0; GROUP_BYTES],
            fences: FileSpool::new(place.spools()),
            sum: Sum::new(),
            filter: FileSpool::new(place.spools()),
        })
    }

    fn push<K: Record<N>>(&mut self, record: &[u8; N]) -> Result<()> {
        if self.records.is_multiple_of(GROUP_RECORDS) {
            let fence = fence_of(record).to_le_bytes();
            self.sum = self.sum.bytes(&fence);
            self.fences.append(&fence)?;
        }
        self.group = self.group.bytes(record);
        if let Some(word) = word_of::<K, N>(record) {
            filter::insert(&mut self.bits, word);
        }
        self.records += 1;
        self.put(record)?;
        if self.records.is_multiple_of(GROUP_RECORDS) { self.end_group::<K>() } else { Ok(()) }
    }

    fn end_group<K: Record<N>>(&mut self) -> Result<()> {
        let number = (self.records - 1) / GROUP_RECORDS;
        let sum = group_sum(self.group, number);
        self.group = Sum::new();
        if K::FILTERED_AT.is_some() {
            self.filter.append(&self.bits)?;
            self.bits = [0; GROUP_BYTES];
        }
        self.put(&sum)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= IO_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let operation = if self.path.is_some() { "write a run in" } else { "write a spool in" };
        self.file.write_all_at(&self.buffer, self.written_bytes).at(operation, &self.directory)?;
        self.written_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Ends the run, which is found by its name once the directory is synced.
    fn finish<K: Record<N>>(&mut self, fence_count_max: usize) -> Result<Run<N>> {
        if !self.records.is_multiple_of(GROUP_RECORDS) {
            self.end_group::<K>()?;
        }
        let sum = self.sum.number(self.records.cast_signed()).bits();
        let file = self.file.try_clone().at("keep a run in", &self.directory)?;
        let mut run = Run::over::<K>(file, self.path.clone(), self.records, sum);
        let mut piece = [0; FILTER_PIECE_BYTES];
        let mut at = 0;
        while at < self.fences.len() {
            let step = small(self.fences.len() - at).min(piece.len());
            self.fences.read_at(at, &mut piece[..step])?;
            self.put(&piece[..step])?;
            at += step as u64;
        }
        if run.has_filter {
            let (mut at, mut counted) = (0, Sum::new());
            while at < self.filter.len() {
                let step = small(self.filter.len() - at).min(piece.len());
                self.filter.read_at(at, &mut piece[..step])?;
                counted = counted.bytes(&piece[..step]);
                self.put(&piece[..step])?;
                at += step as u64;
            }
            self.put(&filter_sum(counted, sum))?;
        }
        self.flush()?;
        if self.path.is_some() {
            self.file.sync_data().at("sync a run in", &self.directory)?;
        }
        run.load_fences(&self.directory, fence_count_max)?;
        self.path = None;
        Ok(run)
    }
}

/// The word by which a filter knows a key.
fn word_of<K: Record<N>, const N: usize>(key: &[u8]) -> Option<u64> {
    let start = K::FILTERED_AT?;
    let bytes = key.get(start..start + 8)?;
    bytes.try_into().ok().map(u64::from_le_bytes)
}

impl<const N: usize> Drop for Writer<N> {
    /// What was not finished is of no use to anybody.
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

/// Reads a run from its start.
struct Reader<'r, const N: usize> {
    run: &'r Run<N>,
    /// The group that is read next.
    next: u64,
    buffer: Vec<u8>,
    at: usize,
    /// Records of the first group that are passed over.
    skip: usize,
}

impl<'r, const N: usize> Reader<'r, N> {
    fn new(run: &'r Run<N>) -> Self {
        Self::at(run, 0)
    }

    /// From a record on.
    fn at(run: &'r Run<N>, record: u64) -> Self {
        let skip = small(record % GROUP_RECORDS);
        Self { run, next: record / GROUP_RECORDS, buffer: Vec::new(), at: 0, skip }
    }

    fn next(&mut self, directory: &Path) -> Result<Option<[u8; N]>> {
        if self.at == self.buffer.len() {
            if self.next >= self.run.group_count() {
                return Ok(None);
            }
            let count = (IO_BYTES as u64 / Run::<N>::GROUP_FILE_BYTES).max(1);
            self.run.read_groups(self.next, count, &mut self.buffer, directory)?;
            self.next = (self.next + count).min(self.run.group_count());
            self.at = std::mem::take(&mut self.skip) * N;
        }
        let record = self.buffer.get(self.at..).unwrap_or_default().first_chunk::<N>().copied();
        self.at += N;
        Ok(record)
    }
}

/// Sorted records of one kind.
pub(super) struct Runs<K, const N: usize> {
    place: Place,
    /// What is not written yet, in no order.
    buffer: Vec<[u8; N]>,
    buffer_records: usize,
    fence_count_max: usize,
    /// Bytes of filters that may be kept in memory.
    filter_bytes_max: usize,
    /// Oldest first; those that do not last come after all that do.
    runs: Vec<Run<N>>,
    /// Files that are of no use any more, and still there.
    retired: Vec<PathBuf>,
    /// Files that were made since the list of runs was last kept.
    created: Vec<PathBuf>,
    piece: Piece,
    /// Bytes written to files that last.
    written_bytes: u64,
    kind: std::marker::PhantomData<K>,
}

impl<K: Record<N>, const N: usize> Runs<K, N> {
    /// No records yet. The buffer, which is there only while something is
    /// added, takes `buffer_bytes`, and of all runs together the fences
    /// `fence_bytes` and the filters `filter_bytes`.
    pub(super) fn new(
        place: Place,
        buffer_bytes: usize,
        fence_bytes: usize,
        filter_bytes: usize,
    ) -> Self {
        Self {
            place,
            buffer: Vec::new(),
            buffer_records: (buffer_bytes / N).clamp(16, BUFFER_RECORDS_MAX),
            // Lengths of runs are far apart, so few have as many as they may.
            fence_count_max: (fence_bytes / 32).max(16),
            filter_bytes_max: filter_bytes,
            runs: Vec::new(),
            retired: Vec::new(),
            created: Vec::new(),
            piece: Piece::default(),
            written_bytes: 0,
            kind: std::marker::PhantomData,
        }
    }

    /// The same, with runs that are there.
    pub(super) fn open(&mut self, notes: &[Note]) -> Result<()> {
        self.buffer = Vec::new();
        self.runs.clear();
        self.retired.clear();
        self.created.clear();
        for note in notes {
            let run = Run::open::<K>(self.place.directory(), note, self.fence_count_max)?;
            self.runs.push(run);
        }
        Ok(())
    }

    pub(super) fn notes(&self) -> impl Iterator<Item = Note> {
        self.runs.iter().filter_map(Run::note)
    }

    /// Lets filters take another number of bytes: those that are in memory stay.
    pub(super) fn limit_filters(&mut self, filter_bytes: usize) {
        self.filter_bytes_max = filter_bytes;
    }

    /// Number of records that are written, repeated ones included.
    pub(super) fn len(&self) -> u64 {
        self.runs.iter().map(|run| run.records).sum()
    }

    /// Bytes that all records would take in files, at most.
    pub(super) fn length_bytes(&self) -> u64 {
        let records =
            self.runs.iter().map(|run| run.records).sum::<u64>() + self.buffer.len() as u64;
        // Sum, fence and filter of a group; and those of the last, if it is short.
        let group = (SUM_BYTES + 8 + GROUP_BYTES) as u64;
        records * N as u64 + (records / GROUP_RECORDS + 1 + self.runs.len() as u64) * group
    }

    /// Bytes written to files that last.
    pub(super) fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Adds a record. It is found after [`finish`](Self::finish), and perhaps
    /// earlier.
    pub(super) fn push(&mut self, record: [u8; N]) -> Result<()> {
        if self.buffer.capacity() == 0 {
            self.buffer.reserve_exact(self.buffer_records);
        }
        self.buffer.push(record);
        if self.buffer.len() < self.buffer_records { Ok(()) } else { self.flush() }
    }

    /// Whether everything pushed is written.
    pub(super) fn is_flushed(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Writes the buffer as a run, and merges if there are many runs.
    pub(super) fn flush(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.write_buffer(&self.place.passing())?;
        self.merge_levels()
    }

    /// Writes the buffer as a run in `place`.
    fn write_buffer(&mut self, place: &Place) -> Result<()> {
        self.buffer.sort_unstable();
        let mut writer = Writer::new(place)?;
        let mut last: Option<[u8; N]> = None;
        for record in &self.buffer {
            match &mut last {
                Some(last) if last[..K::KEY_BYTES] == record[..K::KEY_BYTES] => {
                    K::fold(last, record);
                }
                Some(other) => {
                    writer.push::<K>(other)?;
                    *other = *record;
                }
                None => last = Some(*record),
            }
        }
        if let Some(last) = last {
            writer.push::<K>(&last)?;
        }
        self.buffer.clear();
        self.take_over(writer)
    }

    /// Ends a run, and adds it to the others.
    fn take_over(&mut self, mut writer: Writer<N>) -> Result<()> {
        let run = writer.finish::<K>(self.fence_count_max);
        if run.as_ref().is_ok_and(|run| run.path.is_some()) {
            self.written_bytes += writer.written_bytes;
        }
        let run = run?;
        self.created.extend(run.path.clone());
        self.runs.push(run);
        Ok(())
    }

    /// Number of runs that last; the others follow.
    fn lasting(&self) -> usize {
        if self.place.lasts() { self.runs.partition_point(|run| run.path.is_some()) } else { 0 }
    }

    /// Merges the youngest runs for as long as [`FAN_IN`] have about one length.
    /// Those that last wait for the end of the change.
    fn merge_levels(&mut self) -> Result<()> {
        let unit = self.buffer_records as u64;
        let level = |run: &Run<N>| (run.records / unit).max(1).ilog(FAN_IN as u64);
        loop {
            let passing = self.runs.get(self.lasting()..).unwrap_or_default();
            let Some(last) = passing.last() else { return Ok(()) };
            let last = level(last);
            let alike = passing.iter().rev().take_while(|run| level(run) <= last).count();
            if alike < FAN_IN {
                return Ok(());
            }
            self.merge(self.runs.len() - alike, &self.place.passing(), &mut |_| true)?;
        }
    }

    /// Writes everything to where it lasts, gives the buffer back, and merges so
    /// that few runs are left.
    pub(super) fn finish(&mut self) -> Result<()> {
        let mut first = self.lasting();
        if !self.place.lasts() {
            self.flush()?;
            first = self.runs.len().saturating_sub(1);
        }
        let passing = self.runs.iter().skip(first).map(|run| run.records).sum::<u64>();
        let mut total = passing + self.buffer.len() as u64;
        let changed = first;
        while total > 0 && first > 0 && self.runs[first - 1].records < LENGTH_RATIO * total {
            total += self.runs[first - 1].records;
            first -= 1;
        }
        if first == self.runs.len() {
            // Nothing else has to be written with it.
            if !self.buffer.is_empty() {
                self.write_buffer(&self.place.clone())?;
            }
        } else if first < changed || self.place.lasts() && changed < self.runs.len() {
            self.flush()?;
            self.merge(first, &self.place.clone(), &mut |_| true)?;
        }
        self.buffer = Vec::new();
        Ok(())
    }

    /// Merges everything, without what `keep` turns down.
    pub(super) fn purge(&mut self, keep: &mut dyn FnMut(&[u8; N]) -> bool) -> Result<()> {
        self.flush()?;
        self.buffer = Vec::new();
        if self.runs.is_empty() {
            return Ok(());
        }
        self.merge(0, &self.place.clone(), keep)
    }

    /// Makes one run in `place` of all from `first` on.
    fn merge(
        &mut self,
        first: usize,
        place: &Place,
        keep: &mut dyn FnMut(&[u8; N]) -> bool,
    ) -> Result<()> {
        let mut writer = Writer::new(place)?;
        merged::<K, N>(&self.runs[first..], self.place.directory(), &mut |record| {
            if first == 0 && !K::settle(record) || !keep(record) {
                return Ok(());
            }
            writer.push::<K>(record)
        })?;
        let old = self.runs.split_off(first);
        let taken = self.take_over(writer);
        if taken.is_err() {
            self.runs.extend(old);
            return taken;
        }
        self.retired.extend(old.into_iter().filter_map(|run| run.path));
        Ok(())
    }

    /// Calls `each` with every record that is written, in order.
    pub(super) fn for_each(&self, each: &mut dyn FnMut(&mut [u8; N]) -> Result<()>) -> Result<()> {
        merged::<K, N>(&self.runs, self.place.directory(), &mut |record| {
            if K::settle(record) { each(record) } else { Ok(()) }
        })
    }

    /// All records that are written, in order.
    pub(super) fn sorted(&self) -> Result<Sorted<'_, K, N>> {
        Sorted::new(self.runs.iter().map(Reader::new).collect(), self.place.directory())
    }

    /// Those of them from `start` on.
    pub(super) fn sorted_from(&mut self, start: Start<'_>) -> Result<Sorted<'_, K, N>> {
        let directory = self.place.directory();
        let mut readers = Vec::with_capacity(self.runs.len());
        for run in &self.runs {
            readers.push(Reader::at(run, run.first(start, &mut self.piece, directory)?));
        }
        Sorted::new(readers, directory)
    }

    /// Calls `each` with the records whose keys begin with `prefix`, run by run
    /// from the oldest on, as they lie there: not folded.
    pub(super) fn find(&mut self, prefix: &[u8], each: &mut dyn FnMut(&[u8; N])) -> Result<()> {
        let word = word_of::<K, N>(prefix);
        for number in 0..self.runs.len() {
            self.consider_filter(number)?;
            let (run, directory) = (&self.runs[number], self.place.directory());
            let start = Start::At(prefix);
            let mut number = match word {
                Some(word) if run.whole.is_empty() => {
                    let groups = run.groups_of(fence_of(prefix));
                    if !run.may_hold(&groups, word) {
                        continue;
                    }
                    run.first_in(groups, start, &mut self.piece, directory)?
                }
                _ => run.first(start, &mut self.piece, directory)?,
            };
            while let Some(record) = run.record(number, &mut self.piece, directory)? {
                if !record.starts_with(prefix) {
                    break;
                }
                each(&record);
                number += 1;
            }
        }
        Ok(())
    }

    /// Whether a record whose key begins with `prefix` may be here, as far as
    /// that is known without reading records: `false` is sure.
    pub(super) fn may_hold(&mut self, prefix: &[u8]) -> Result<bool> {
        let Some(word) = word_of::<K, N>(prefix) else { return Ok(true) };
        for number in 0..self.runs.len() {
            self.consider_filter(number)?;
            let (run, directory) = (&self.runs[number], self.place.directory());
            let may_hold = if run.whole.is_empty() {
                run.may_hold(&run.groups_of(fence_of(prefix)), word)
            } else {
                // What is short is in memory, and has no filter.
                let first = run.first(Start::At(prefix), &mut self.piece, directory)?;
                let record = run.record(first, &mut self.piece, directory)?;
                record.is_some_and(|record| record.starts_with(prefix))
            };
            if may_hold {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads the filter of a run, once that costs less than what was read for
    /// want of it. A filter saves one read for a look-up, whatever its length,
    /// so short ones have the first claim to the room.
    fn consider_filter(&mut self, number: usize) -> Result<()> {
        let run = &mut self.runs[number];
        let wanted = run.filter_bytes();
        if wanted == 0 || !run.filter.is_empty() {
            return Ok(());
        }
        run.unfiltered += 1;
        if run.unfiltered.saturating_mul(LOOK_UP_BYTES) < wanted {
            return Ok(());
        }
        run.unfiltered = 0;
        let held = |run: &Run<N>| run.filter.len();
        let longer: usize = self.runs.iter().map(held).filter(|held| *held > wanted).sum();
        let used: usize = self.runs.iter().map(held).sum();
        if used - longer + wanted > self.filter_bytes_max {
            return Ok(());
        }
        let mut used = used;
        while used + wanted > self.filter_bytes_max {
            let Some(longest) = self.runs.iter_mut().max_by_key(|run| run.filter.len()) else {
                return Ok(());
            };
            used -= longest.filter.len();
            longest.filter = Vec::new();
        }
        self.runs[number].load_filter(self.place.directory())
    }

    /// The first record from `start` on, folded.
    pub(super) fn first(&mut self, start: Start<'_>) -> Result<Option<[u8; N]>> {
        let mut found = self.first_folded(start)?;
        while let Some(record) = &mut found {
            if K::settle(record) {
                break;
            }
            let after = *record;
            found = self.first_folded(Start::Behind(&after[..K::KEY_BYTES]))?;
        }
        Ok(found)
    }

    fn first_folded(&mut self, start: Start<'_>) -> Result<Option<[u8; N]>> {
        let directory = self.place.directory();
        let mut found: Option<[u8; N]> = None;
        for run in &self.runs {
            let number = run.first(start, &mut self.piece, directory)?;
            let Some(record) = run.record(number, &mut self.piece, directory)? else {
                continue;
            };
            match &mut found {
                None => found = Some(record),
                Some(lowest) => match record[..K::KEY_BYTES].cmp(&lowest[..K::KEY_BYTES]) {
                    Ordering::Less => *lowest = record,
                    Ordering::Equal => K::fold(lowest, &record),
                    Ordering::Greater => {}
                },
            }
        }
        Ok(found)
    }

    /// Removes the files of runs that were merged: to be called when the list
    /// of runs is kept, and nobody will look for them.
    pub(super) fn settle_files(&mut self) {
        self.created.clear();
        for path in self.retired.drain(..) {
            // It will be found and removed later, if not now.
            let _ = fs::remove_file(path);
        }
    }

    /// Removes the files that were made since the list was kept, which will
    /// never mention them. What is here is of no use then, until the next
    /// [`open`](Self::open).
    pub(super) fn remove_created(&mut self) {
        self.runs.clear();
        for path in self.created.drain(..) {
            let _ = fs::remove_file(path);
        }
    }
}

impl<K, const N: usize> std::fmt::Debug for Runs<K, N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runs").field("runs", &self.runs.len()).finish_non_exhaustive()
    }
}

/// Calls `each` with the records of runs, oldest run first, in order and folded.
fn merged<K: Record<N>, const N: usize>(
    runs: &[Run<N>],
    directory: &Path,
    each: &mut dyn FnMut(&mut [u8; N]) -> Result<()>,
) -> Result<()> {
    let mut sorted = Sorted::<K, N>::new(runs.iter().map(Reader::new).collect(), directory)?;
    while let Some(mut record) = sorted.next_folded()? {
        each(&mut record)?;
    }
    Ok(())
}

/// The records of several runs, in order.
pub(super) struct Sorted<'r, K, const N: usize> {
    /// Oldest run first.
    readers: Vec<Reader<'r, N>>,
    /// The next record of each.
    heads: Vec<Option<[u8; N]>>,
    directory: &'r Path,
    kind: std::marker::PhantomData<K>,
}

impl<'r, K: Record<N>, const N: usize> Sorted<'r, K, N> {
    fn new(mut readers: Vec<Reader<'r, N>>, directory: &'r Path) -> Result<Self> {
        let mut heads = Vec::with_capacity(readers.len());
        for reader in &mut readers {
            heads.push(reader.next(directory)?);
        }
        Ok(Self { readers, heads, directory, kind: std::marker::PhantomData })
    }

    /// The next record, folded with those of the same key.
    fn next_folded(&mut self) -> Result<Option<[u8; N]>> {
        // Few runs: a heap would not be faster.
        let heads = self.heads.iter().flatten();
        let lowest = heads.min_by(|one, two| one[..K::KEY_BYTES].cmp(&two[..K::KEY_BYTES]));
        let Some(lowest) = lowest.copied() else { return Ok(None) };
        let mut folded: Option<[u8; N]> = None;
        for (reader, head) in self.readers.iter_mut().zip(&mut self.heads) {
            while let Some(record) = head
                && record[..K::KEY_BYTES] == lowest[..K::KEY_BYTES]
            {
                match &mut folded {
                    None => folded = Some(*record),
                    Some(older) => K::fold(older, record),
                }
                *head = reader.next(self.directory)?;
            }
        }
        Ok(folded)
    }

    /// The next record that is of use, settled.
    pub(super) fn next(&mut self) -> Result<Option<[u8; N]>> {
        while let Some(mut record) = self.next_folded()? {
            if K::settle(&mut record) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::testing::Random;

    /// Ten bytes of key, the last two of which are nearly always the same for
    /// eight, and a number that says which record came first.
    #[derive(Debug)]
    enum Numbered {}

    impl Record<14> for Numbered {
        const KEY_BYTES: usize = 10;
        const FILTERED_AT: Option<usize> = Some(2);

        fn settle(record: &mut [u8; 14]) -> bool {
            record[9] != 7
        }
    }

    fn record(random: &mut Random, number: u32) -> [u8; 14] {
        let mut record = [0; 14];
        record[2..4].copy_from_slice(&random.bytes(2));
        record[9] = random.bytes(1)[0] & 7;
        record[10..].copy_from_slice(&number.to_be_bytes());
        record
    }

    /// Compares with a map; `fence_bytes` of 0 has long stretches searched.
    fn against_model(seed: u64, fence_bytes: usize, place: Place) {
        let mut random = Random::new(seed);
        let mut runs = Runs::<Numbered, 14>::new(place, 20 * 14, fence_bytes, fence_bytes);
        let mut model = BTreeMap::new();
        for number in 0..6000 {
            let record = record(&mut random, number);
            runs.push(record).unwrap();
            model.entry(record[..10].to_vec()).or_insert(record);
            if number % 1000 == 999 {
                runs.finish().unwrap();
                compare(&mut runs, &model, &mut random);
            }
        }
        // Each is three times as long as all younger ones.
        assert!(runs.runs.len() <= 9, "{}", runs.runs.len());
        runs.purge(&mut |record| record[2] >= 50).unwrap();
        model.retain(|key, _| key[2] >= 50 && key[9] != 7);
        assert_eq!((runs.runs.len(), runs.len()), (1, model.len() as u64));
        compare(&mut runs, &model, &mut random);
    }

    fn compare(
        runs: &mut Runs<Numbered, 14>,
        model: &BTreeMap<Vec<u8>, [u8; 14]>,
        random: &mut Random,
    ) {
        let mut all = Vec::new();
        runs.for_each(&mut |record| {
            all.push(*record);
            Ok(())
        })
        .unwrap();
        let wanted: Vec<_> = model.values().copied().filter(|record| record[9] != 7).collect();
        assert!(all == wanted, "{} and {}", all.len(), wanted.len());
        for _ in 0..300 {
            let key = record(random, 0);
            let mut found = None;
            runs.find(&key[..10], &mut |record| found = found.or(Some(*record))).unwrap();
            // What settles away may be gone, or still lie there.
            assert!(key[9] == 7 || found == model.get(&key[..10]).copied());
            let from = |key: &[u8]| wanted.partition_point(|record| record[..10] < *key);
            assert_eq!(
                runs.first(Start::At(&key[..10])).unwrap(),
                wanted.get(from(&key[..10])).copied()
            );
            let behind = wanted.partition_point(|record| record[..10] <= key[..10]);
            assert_eq!(runs.first(Start::Behind(&key[..10])).unwrap(), wanted.get(behind).copied());
        }
    }

    #[test]
    fn match_a_map() {
        let directory = tempfile::tempdir().unwrap();
        for seed in 0..3 {
            against_model(seed, 0, Place::Hidden(directory.path().into()));
            against_model(
                seed,
                1 << 20,
                Place::Named {
                    directory: directory.path().into(),
                    spools: directory.path().into(),
                },
            );
        }
    }

    fn named(directory: &Path) -> Place {
        Place::Named { directory: directory.into(), spools: directory.into() }
    }

    #[test]
    fn no_file_outlasts_its_use() {
        let directory = tempfile::tempdir().unwrap();
        let count = || fs::read_dir(directory.path()).unwrap().count();
        let mut runs = Runs::<Numbered, 14>::new(named(directory.path()), 20 * 14, 1024, 1 << 20);
        let mut random = Random::new(5);
        for number in 0..2000 {
            runs.push(record(&mut random, number)).unwrap();
            // What is on the way lasts no longer than the process.
            assert!(number >= 1000 || count() == 0);
            if number == 1000 {
                runs.finish().unwrap();
                assert_eq!(count(), 1);
            }
        }
        runs.finish().unwrap();
        assert!(count() > runs.runs.len());
        runs.settle_files();
        assert_eq!(count(), runs.runs.len());
        let notes: Vec<Note> = runs.notes().collect();
        let written = runs.written_bytes();
        runs.purge(&mut |_| true).unwrap();
        let length = fs::metadata(runs.runs[0].path.as_ref().unwrap()).unwrap().len();
        assert_eq!(runs.written_bytes() - written, length);
        runs.remove_created();
        assert_eq!(count(), notes.len());
        let mut again = Runs::<Numbered, 14>::new(named(directory.path()), 20 * 14, 1024, 0);
        again.open(&notes).unwrap();
        assert_eq!(again.notes().collect::<Vec<_>>(), notes);
    }

    /// However much is added at once, it is written once to where it lasts.
    #[test]
    fn writes_in_proportion_to_what_is_added() {
        let directory = tempfile::tempdir().unwrap();
        let mut runs = Runs::<Numbered, 14>::new(named(directory.path()), 20 * 14, 1024, 0);
        let mut number: u32 = 0;
        let mut add = |runs: &mut Runs<Numbered, 14>, count: u32| {
            for _ in 0..count {
                number += 1;
                let mut record = [0; 14];
                record[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b1).to_be_bytes());
                runs.push(record).unwrap();
            }
            runs.finish().unwrap();
            runs.settle_files();
            runs.written_bytes()
        };
        // A byte for the filter, and 12 for each 32 records.
        let whole = add(&mut runs, 20_000);
        assert!((20_000 * 15..20_000 * 16).contains(&whole), "{whole}");
        let first = add(&mut runs, 10) - whole;
        assert!(first < 200, "{first}");
        let more = (0..50).map(|_| add(&mut runs, 10)).last().unwrap() - whole - first;
        assert!(more < 50 * 10 * 15 * 8, "{more}");
    }

    #[test]
    fn filters_stay_within_their_bounds_and_prefer_short_runs() {
        let directory = tempfile::tempdir().unwrap();
        let mut random = Random::new(7);
        let mut long = [0; 14];
        let mut runs = Runs::<Numbered, 14>::new(named(directory.path()), 1 << 20, 1 << 20, 6000);
        let mut keys = Vec::new();
        for count in [10_000, 3000, 900] {
            for _ in 0..count {
                long[..9].copy_from_slice(&random.bytes(9));
                keys.push(long);
                runs.push(long).unwrap();
            }
            runs.finish().unwrap();
        }
        assert_eq!(runs.runs.len(), 3);
        for key in &keys {
            let mut found = 0;
            runs.find(&key[..10], &mut |_| found += 1).unwrap();
            assert_eq!(found, 1);
        }
        let held = |runs: &Runs<Numbered, 14>| -> Vec<usize> {
            runs.runs.iter().map(|run| run.filter.len()).collect()
        };
        assert_eq!(held(&runs), [0, 3008, 928]);
        // Room for the longest alone, which is the first to be asked for.
        runs.filter_bytes_max = 10_016;
        runs.runs.iter_mut().for_each(|run| run.filter = Vec::new());
        runs.consider_filter(0).unwrap();
        runs.runs[0].unfiltered = 1000;
        runs.consider_filter(0).unwrap();
        assert_eq!(held(&runs), [10_016, 0, 0]);
        runs.runs[2].unfiltered = 1000;
        runs.consider_filter(2).unwrap();
        assert_eq!(held(&runs), [0, 0, 928]);
    }

    /// Whatever byte of a run is changed, what is read is right, or damage.
    #[test]
    fn every_changed_byte_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let mut runs = Runs::<Numbered, 14>::new(named(directory.path()), 1 << 20, 1 << 20, 0);
        let mut random = Random::new(8);
        for number in 0..700 {
            let mut record = record(&mut random, number);
            record[..8].copy_from_slice(&random.bytes(8));
            runs.push(record).unwrap();
        }
        runs.finish().unwrap();
        let notes: Vec<Note> = runs.notes().collect();
        let path = directory.path().join(&notes[0].name);
        let whole = fs::read(&path).unwrap();
        let read = || -> Result<()> {
            let mut again =
                Runs::<Numbered, 14>::new(named(directory.path()), 1 << 20, 1 << 20, 1 << 20);
            again.open(&notes)?;
            again.for_each(&mut |_| Ok(()))?;
            again.runs[0].load_filter(directory.path())
        };
        read().unwrap();
        for at in (0..whole.len()).step_by(7) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, &bytes).unwrap();
            assert!(read().unwrap_err().is_damaged_database(), "{at}");
        }
        for length in [0, 1, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(read().unwrap_err().is_damaged_database(), "{length}");
        }
    }
}
