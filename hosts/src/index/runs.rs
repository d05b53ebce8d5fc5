//! [`Runs`]: records of one length, sorted in files and merged as they grow.
//!
//! A log-structured merge: what is pushed gathers in a buffer, which is sorted
//! and written as a run when it is full. Eight runs of about one length become
//! one; so `n` records are written `log8 n` times and lie in few runs. A run is
//! its records, and after them the first eight bytes of every
//! [`FENCE_RECORDS`]th: of these as many are kept in memory as there is room
//! for, and a look-up reads the piece of the file between two of them.
//!
//! Where keys are repeated, [`Record::fold`] says what is left of two.

use std::cmp::Ordering;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use tiroir_core::spool::Spool as _;

use super::schema::Sum;
use crate::env::random_suffix;
use crate::error::{Context as _, HostsError, Result};
use crate::spool::{FileSpool, create_hidden, create_named};

/// Records from one fence to the next, in a file.
const FENCE_RECORDS: u64 = 32;

/// Runs of about one length that are merged.
const FAN_IN: usize = 8;

/// A run that is this many times as long as all younger ones is left alone at
/// the end of a change.
const LENGTH_RATIO: u64 = 3;

/// Records in the buffer, at most: some kinds number them in three bytes.
const BUFFER_RECORDS_MAX: usize = 1 << 23;

/// Bytes read or written at once while runs are merged.
const IO_BYTES: usize = 16 * 1024;

/// Bytes read at once for a look-up, at most.
const PIECE_BYTES: usize = 8 * 1024;

/// What runs hold: `N` bytes, of which the first are the key.
pub(super) trait Record<const N: usize> {
    /// Length of the key, in bytes.
    const KEY_BYTES: usize;

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
    /// All of it, if it is short.
    whole: Vec<u8>,
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
    /// In that directory, with names; they are synced.
    Named(PathBuf),
}

impl Place {
    fn directory(&self) -> &Path {
        match self {
            Self::Hidden(directory) | Self::Named(directory) => directory,
        }
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
    /// Opens a run that was noted before.
    pub(super) fn open(directory: &Path, note: &Note, fence_count_max: usize) -> Result<Self> {
        let path = directory.join(&note.name);
        let file = File::open(&path).at("open", &path)?;
        let mut run = Self {
            file,
            path: Some(path),
            records: note.records,
            sum: note.sum,
            fences: Vec::new(),
            stride: FENCE_RECORDS,
            whole: Vec::new(),
        };
        run.load_fences(directory, fence_count_max)?;
        Ok(run)
    }

    pub(super) fn records(&self) -> u64 {
        self.records
    }

    pub(super) fn note(&self) -> Option<Note> {
        let name = self.path.as_ref()?.file_name()?.to_str()?.to_owned();
        Some(Note { name, records: self.records, sum: self.sum })
    }

    /// Reads the fences, and keeps as many as may be kept.
    fn load_fences(&mut self, directory: &Path, fence_count_max: usize) -> Result<()> {
        let count = self.records.div_ceil(FENCE_RECORDS);
        let mut skip = 1;
        while count.div_ceil(skip) > (fence_count_max as u64).max(1) {
            skip *= 2;
        }
        self.stride = FENCE_RECORDS * skip;
        self.fences = Vec::with_capacity(small(count.div_ceil(skip)));
        let start = self.records * N as u64;
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
        if start <= PIECE_BYTES as u64 {
            self.whole.resize(small(start), 0);
            self.file
                .read_exact_at(&mut self.whole, 0)
                .map_err(|error| unreadable(directory, error))?;
        }
        Ok(())
    }

    /// Number of the first record from `start` on, with what was read of the
    /// file in `piece`.
    fn first(&self, start: Start<'_>, piece: &mut Piece, directory: &Path) -> Result<u64> {
        if !self.whole.is_empty() {
            let records = self.whole.as_chunks::<N>().0;
            return Ok(records.partition_point(|record| start.is_behind(record)) as u64);
        }
        let wanted = fence_of(start.key());
        // The fence before the first that is not below may still be followed
        // by such records.
        let before = self.fences.partition_point(|fence| *fence < wanted) as u64;
        let after = self.fences.partition_point(|fence| *fence <= wanted) as u64;
        let mut low = before.saturating_sub(1) * self.stride;
        let mut high = (after * self.stride).min(self.records);
        let room = (PIECE_BYTES / N) as u64;
        while high - low > room {
            let middle = low + (high - low) / 2;
            self.read(middle, 1, piece, directory)?;
            if start.is_behind(&piece.bytes) { low = middle + 1 } else { high = middle }
        }
        // One more, so that what is looked for is at hand if it is the next.
        self.read(low, (high - low + 1).min(self.records - low), piece, directory)?;
        let records = piece.bytes.as_chunks::<N>().0;
        let found = records.partition_point(|record| start.is_behind(record));
        Ok(low + found as u64)
    }

    /// Reads records into `piece`.
    fn read(&self, first: u64, count: u64, piece: &mut Piece, directory: &Path) -> Result<()> {
        let length = small(count) * N;
        piece.bytes.resize(length, 0);
        piece.first = first;
        self.file
            .read_exact_at(&mut piece.bytes, first * N as u64)
            .map_err(|error| unreadable(directory, error))
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
            let room = (PIECE_BYTES / N) as u64;
            self.read(number, (self.records - number).min(room), piece, directory)?;
        }
        let at = small(number - piece.first);
        Ok(piece.bytes.as_chunks::<N>().0.get(at).copied())
    }
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
    fences: FileSpool,
    sum: Sum,
}

impl<const N: usize> Writer<N> {
    fn new(place: &Place) -> Result<Self> {
        let directory = place.directory().to_path_buf();
        let (file, path) = match place {
            Place::Hidden(directory) => (create_hidden(directory)?, None),
            Place::Named(directory) => {
                let path = directory.join(format!("{NAME_PREFIX}{}", random_suffix()?));
                (create_named(&path)?, Some(path))
            }
        };
        let fences = FileSpool::new(&directory);
        let buffer = Vec::with_capacity(IO_BYTES + N);
        Ok(Self {
            file,
            path,
            directory,
            buffer,
            written_bytes: 0,
            records: 0,
            fences,
            sum: Sum::new(),
        })
    }

    fn push(&mut self, record: &[u8; N]) -> Result<()> {
        if self.records.is_multiple_of(FENCE_RECORDS) {
            let fence = fence_of(record).to_le_bytes();
            self.sum = self.sum.bytes(&fence);
            self.fences.append(&fence)?;
        }
        self.records += 1;
        self.put(record)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= IO_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.file
            .write_all_at(&self.buffer, self.written_bytes)
            .at("write a run in", &self.directory)?;
        self.written_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn finish(&mut self, fence_count_max: usize) -> Result<Run<N>> {
        let mut at = 0;
        let mut piece = [0; 4096];
        while at < self.fences.len() {
            let step = small(self.fences.len() - at).min(piece.len());
            self.fences.read_at(at, &mut piece[..step])?;
            self.put(&piece[..step])?;
            at += step as u64;
        }
        self.flush()?;
        if self.path.is_some() {
            self.file.sync_data().at("sync a run in", &self.directory)?;
        }
        let file = self.file.try_clone().at("keep a run in", &self.directory)?;
        let mut run = Run {
            file,
            path: self.path.clone(),
            records: self.records,
            sum: self.sum.number(self.records.cast_signed()).bits(),
            fences: Vec::new(),
            stride: FENCE_RECORDS,
            whole: Vec::new(),
        };
        run.load_fences(&self.directory, fence_count_max)?;
        self.path = None;
        Ok(run)
    }
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
    next: u64,
    buffer: Vec<u8>,
    at: usize,
}

impl<'r, const N: usize> Reader<'r, N> {
    fn new(run: &'r Run<N>) -> Self {
        Self::at(run, 0)
    }

    /// From a record on.
    fn at(run: &'r Run<N>, next: u64) -> Self {
        Self { run, next, buffer: Vec::new(), at: 0 }
    }

    fn next(&mut self, directory: &Path) -> Result<Option<[u8; N]>> {
        if self.at == self.buffer.len() {
            let count = (self.run.records - self.next).min((IO_BYTES / N) as u64);
            if count == 0 {
                return Ok(None);
            }
            self.buffer.resize(small(count) * N, 0);
            self.run
                .file
                .read_exact_at(&mut self.buffer, self.next * N as u64)
                .map_err(|error| unreadable(directory, error))?;
            self.next += count;
            self.at = 0;
        }
        let record = self.buffer[self.at..].first_chunk::<N>().copied();
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
    /// Oldest first.
    runs: Vec<Run<N>>,
    /// Files that are of no use any more, and still there.
    retired: Vec<PathBuf>,
    /// Files that were made since the list of runs was last kept.
    created: Vec<PathBuf>,
    piece: Piece,
    kind: std::marker::PhantomData<K>,
}

impl<K: Record<N>, const N: usize> Runs<K, N> {
    /// No records yet. The buffer, which is there only while something is
    /// added, takes `buffer_bytes`, and the fences of all runs together
    /// `fence_bytes`.
    pub(super) fn new(place: Place, buffer_bytes: usize, fence_bytes: usize) -> Self {
        Self {
            place,
            buffer: Vec::new(),
            buffer_records: (buffer_bytes / N).clamp(16, BUFFER_RECORDS_MAX),
            // Lengths of runs are far apart, so few have as many as they may.
            fence_count_max: (fence_bytes / 32).max(16),
            runs: Vec::new(),
            retired: Vec::new(),
            created: Vec::new(),
            piece: Piece::default(),
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
            let run = Run::open(self.place.directory(), note, self.fence_count_max)?;
            self.runs.push(run);
        }
        Ok(())
    }

    pub(super) fn notes(&self) -> impl Iterator<Item = Note> {
        self.runs.iter().filter_map(Run::note)
    }

    /// Number of records that are written, repeated ones included.
    pub(super) fn len(&self) -> u64 {
        self.runs.iter().map(Run::records).sum()
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
        self.buffer.sort_unstable();
        let mut writer = Writer::new(&self.place)?;
        let mut last: Option<[u8; N]> = None;
        for record in &self.buffer {
            match &mut last {
                Some(last) if last[..K::KEY_BYTES] == record[..K::KEY_BYTES] => {
                    K::fold(last, record);
                }
                Some(other) => {
                    writer.push(other)?;
                    *other = *record;
                }
                None => last = Some(*record),
            }
        }
        if let Some(last) = last {
            writer.push(&last)?;
        }
        self.buffer.clear();
        let run = writer.finish(self.fence_count_max)?;
        self.created.extend(run.path.clone());
        self.runs.push(run);
        self.merge_levels()
    }

    /// Merges the youngest runs for as long as [`FAN_IN`] have about one length.
    fn merge_levels(&mut self) -> Result<()> {
        let unit = self.buffer_records as u64;
        let level = |run: &Run<N>| (run.records / unit).max(1).ilog(FAN_IN as u64);
        loop {
            let Some(last) = self.runs.last() else { return Ok(()) };
            let last = level(last);
            let alike = self.runs.iter().rev().take_while(|run| level(run) <= last).count();
            if alike < FAN_IN {
                return Ok(());
            }
            self.merge(self.runs.len() - alike, &mut |_| true)?;
        }
    }

    /// Writes everything, gives the buffer back, and merges so that few runs
    /// are left.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.flush()?;
        self.buffer = Vec::new();
        let mut total = self.runs.last().map_or(0, Run::records);
        let mut first = self.runs.len().saturating_sub(1);
        while first > 0 && self.runs[first - 1].records < LENGTH_RATIO * total {
            total += self.runs[first - 1].records;
            first -= 1;
        }
        if self.runs.len() - first > 1 { self.merge(first, &mut |_| true) } else { Ok(()) }
    }

    /// Merges everything, without what `keep` turns down.
    pub(super) fn purge(&mut self, keep: &mut dyn FnMut(&[u8; N]) -> bool) -> Result<()> {
        self.flush()?;
        self.buffer = Vec::new();
        if self.runs.is_empty() { Ok(()) } else { self.merge(0, keep) }
    }

    /// Makes one run of all from `first` on.
    fn merge(&mut self, first: usize, keep: &mut dyn FnMut(&[u8; N]) -> bool) -> Result<()> {
        let mut writer = Writer::new(&self.place)?;
        let directory = self.place.directory();
        merged::<K, N>(&self.runs[first..], directory, &mut |record| {
            if first == 0 && !K::settle(record) || !keep(record) {
                return Ok(());
            }
            writer.push(record)
        })?;
        let run = writer.finish(self.fence_count_max)?;
        for old in self.runs.drain(first..) {
            self.retired.extend(old.path);
        }
        self.created.extend(run.path.clone());
        self.runs.push(run);
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
        let directory = self.place.directory();
        for run in &self.runs {
            let mut number = run.first(Start::At(prefix), &mut self.piece, directory)?;
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
        let mut runs = Runs::<Numbered, 14>::new(place, 20 * 14, fence_bytes);
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
            against_model(seed, 1 << 20, Place::Named(directory.path().into()));
        }
    }

    #[test]
    fn no_file_outlasts_its_use() {
        let directory = tempfile::tempdir().unwrap();
        let count = || fs::read_dir(directory.path()).unwrap().count();
        let mut runs =
            Runs::<Numbered, 14>::new(Place::Named(directory.path().into()), 20 * 14, 1024);
        let mut random = Random::new(5);
        for number in 0..2000 {
            runs.push(record(&mut random, number)).unwrap();
        }
        runs.finish().unwrap();
        assert!(count() > runs.runs.len());
        runs.settle_files();
        assert_eq!(count(), runs.runs.len());
        let notes: Vec<Note> = runs.notes().collect();
        runs.purge(&mut |_| true).unwrap();
        runs.remove_created();
        assert_eq!(count(), notes.len());
        let mut again =
            Runs::<Numbered, 14>::new(Place::Named(directory.path().into()), 20 * 14, 1024);
        again.open(&notes).unwrap();
        assert_eq!(again.notes().collect::<Vec<_>>(), notes);
    }
}
