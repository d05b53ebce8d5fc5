//! [`AheadImporter`]: reads files before they are wanted.
//!
//! Files that the engine [expects](Importer::expect) wait in a line. Each thread takes
//! the foremost that nobody has taken, and reads it into blocks, which are given out
//! when the file is opened. The file in front may always go on, whatever the others
//! hold: so the line always moves. Directories that the engine
//! [expects](Importer::expect_directory) are listed where no file waits.
//!
//! Threads start as there is work for them. One that does not get its connection, for
//! instance because a server lets nobody have so many, goes away; what nobody has taken
//! when it is opened is read over the first connection, as if all this were not there.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;

use tiroir_core::host::HostErrorKind;
use tiroir_core::importer::{Attributes, DIRECTORIES_AHEAD_MAX, Each, FILES_AHEAD_MAX, Importer};

use super::listings::{LISTING_BYTES_MAX, Listings, Records, Wanted};
use super::{BLOCK_BYTES, STACK_BYTES, Width};
use crate::error::{HostsError, Result};

/// Directories that are named ahead, for each thread.
const DIRECTORIES_PER_THREAD: usize = 4;

/// Makes a connection of a thread's own.
pub type Connect = dyn Fn() -> Result<Box<dyn Importer<Error = HostsError>>> + Send + Sync;

/// Some bytes of a file.
struct Block {
    bytes: Vec<u8>,
    /// How many of them were read, and given out.
    filled: usize,
    given: usize,
}

/// A file in the line.
struct Expected {
    path: Vec<u8>,
    hint: Vec<u8>,
    is_taken: bool,
    blocks: VecDeque<Block>,
    /// Set when it was read to its end: whether it changed meanwhile.
    outcome: Option<Result<bool>>,
}

/// What the threads and the engine share.
#[derive(Default)]
struct Line {
    files: VecDeque<Expected>,
    /// Number of the file in front, counting all that ever were.
    front: u64,
    /// Blocks in all files, and blocks that are free again.
    held: usize,
    spare: Vec<Vec<u8>>,
    listings: Listings,
    threads: usize,
    idle: usize,
    /// A thread got no connection: no more are started.
    is_refused: bool,
    is_over: bool,
}

impl Line {
    /// Takes the file in front out of the line.
    fn drop_front(&mut self) {
        if let Some(file) = self.files.pop_front() {
            self.front += 1;
            for block in file.blocks {
                self.free(block);
            }
        }
    }

    fn free(&mut self, block: Block) {
        self.held -= 1;
        self.spare.push(block.bytes);
    }

    /// The file of that number, unless it is not wanted any more.
    fn file(&mut self, number: u64) -> Option<&mut Expected> {
        let place = usize::try_from(number.checked_sub(self.front)?).ok()?;
        self.files.get_mut(place)
    }

    /// Whether the file of that number may take another block. One half is kept for the
    /// file in front: what the others hold is given back only after it.
    fn has_room(&mut self, number: u64, blocks: usize) -> bool {
        let half = (blocks / 2).max(1);
        let (is_front, held) = (number == self.front, self.held);
        let of_front = self.files.front().map_or(0, |file| file.blocks.len());
        let own = self.file(number).map_or(0, |file| file.blocks.len());
        let has_room = if is_front { held < blocks } else { held - of_front < blocks - half };
        own < half && has_room
    }
}

struct Shared {
    line: Mutex<Line>,
    /// There is something for threads.
    work: Condvar,
    /// There is something for the engine.
    news: Condvar,
    width: Width,
}

impl Shared {
    /// The line. A thread that panicked left it whole.
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'g>(&self, line: MutexGuard<'g, Line>, what: &Condvar) -> MutexGuard<'g, Line> {
        what.wait(line).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the bytes of the open file come from.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Open {
    #[default]
    Nothing,
    /// Over the first connection.
    First,
    /// The file in front of the line.
    Front,
}

/// [`Importer`] that reads files ahead, over connections of their own.
///
/// Takes [`Width::bytes`] and [`Width::listings_bytes`] at most, the listing that is given
/// out, paths of what it expects, and what the connections take.
pub struct AheadImporter {
    first: Box<dyn Importer<Error = HostsError>>,
    connect: Arc<Connect>,
    shared: Arc<Shared>,
    open: Open,
    /// The file in front, until a byte of it was given out: should the thread fail, which
    /// may be for lack of a connection, it is read over the first one.
    untouched: Option<(Vec<u8>, Box<Attributes>)>,
}

impl fmt::Debug for AheadImporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AheadImporter").field("open", &self.open).finish_non_exhaustive()
    }
}

impl AheadImporter {
    /// Reads through `first`, and ahead over what `connect` makes. No thread is
    /// started before there is something to read.
    #[must_use]
    pub fn new(
        first: Box<dyn Importer<Error = HostsError>>,
        width: Width,
        connect: Arc<Connect>,
    ) -> Self {
        let (line, work, news) = Default::default();
        let shared = Arc::new(Shared { line, work, news, width });
        Self { first, connect, shared, open: Open::Nothing, untouched: None }
    }

    /// Starts another thread, if more files wait than threads do.
    fn start_thread(&self, line: &mut Line) {
        let files = line.files.iter().filter(|file| !file.is_taken).count();
        let waiting = files + line.listings.waiting();
        if line.is_refused || line.threads == self.shared.width.threads || waiting <= line.idle {
            return;
        }
        let (shared, connect) = (Arc::clone(&self.shared), Arc::clone(&self.connect));
        let builder = Builder::new().name("read ahead".into()).stack_size(STACK_BYTES);
        match builder.spawn(move || Reader { shared }.run(&*connect)) {
            Ok(_) => line.threads += 1,
            Err(_) => line.is_refused = true,
        }
    }

    /// The listing of a directory, if a thread has it or is at it.
    fn listing(&self, directory: &[u8]) -> Option<Records> {
        let mut line = self.shared.line();
        loop {
            let wanted = line.listings.want(directory);
            // There may be room for another one.
            self.shared.work.notify_all();
            match wanted {
                Wanted::No => return None,
                Wanted::Soon => line = self.shared.wait(line, &self.shared.news),
                Wanted::Now(records) => return Some(records),
            }
        }
    }

    /// Takes the line forward to `path`, and says whether somebody reads that.
    fn bring_to_front(&self, path: &[u8]) -> bool {
        let mut line = self.shared.line();
        if !line.files.iter().any(|file| file.path == path) {
            return false;
        }
        while line.files.front().is_some_and(|file| file.path != path) {
            line.drop_front();
        }
        let is_taken = line.files.front().is_some_and(|file| file.is_taken);
        if !is_taken {
            line.drop_front();
        }
        self.shared.work.notify_all();
        is_taken
    }
}

impl Drop for AheadImporter {
    fn drop(&mut self) {
        let mut line = self.shared.line();
        line.is_over = true;
        while !line.files.is_empty() {
            line.drop_front();
        }
        self.shared.work.notify_all();
    }
}

/// What a thread takes out of the line.
enum Work {
    File { number: u64, path: Vec<u8>, hint: Vec<u8> },
    Directory { number: u64, path: Vec<u8> },
}

/// A thread.
struct Reader {
    shared: Arc<Shared>,
}

impl Reader {
    fn run(&self, connect: &Connect) {
        let Ok(mut importer) = connect() else {
            let mut line = self.shared.line();
            (line.threads, line.is_refused) = (line.threads - 1, true);
            return;
        };
        let mut attributes = Box::default();
        while let Some(work) = self.take() {
            match work {
                Work::File { number, path, hint } => {
                    let outcome = self.read(&mut *importer, number, &path, &hint, &mut attributes);
                    importer.close();
                    if let Some(file) = self.shared.line().file(number) {
                        file.outcome = Some(outcome);
                    }
                }
                Work::Directory { number, path } => self.list(&mut *importer, number, &path),
            }
            self.shared.news.notify_all();
        }
    }

    /// Lists a directory.
    fn list(&self, importer: &mut dyn Importer<Error = HostsError>, number: u64, path: &[u8]) {
        // Of one that is too long the engine hears at once, and lists it itself.
        let mut is_given_up = false;
        let records = Records::list(importer, path, &mut || {
            is_given_up = true;
            self.put(number, None);
        });
        if !is_given_up {
            self.put(number, records);
        }
    }

    fn put(&self, number: u64, records: Option<Records>) {
        self.shared.line().listings.put(number, records);
        self.shared.news.notify_all();
        // There may be room for another listing.
        self.shared.work.notify_all();
    }

    /// Waits for a file or directory that nobody has taken, and takes it. Nothing when
    /// there will be none.
    fn take(&self) -> Option<Work> {
        let mut line = self.shared.line();
        loop {
            if line.is_over {
                return None;
            }
            let front = line.front;
            if let Some((number, file)) = (front..).zip(&mut line.files).find(|it| !it.1.is_taken) {
                file.is_taken = true;
                let (path, hint) = (file.path.clone(), std::mem::take(&mut file.hint));
                return Some(Work::File { number, path, hint });
            }
            if let Some((number, path)) = line.listings.take(self.shared.width.listings_bytes()) {
                return Some(Work::Directory { number, path });
            }
            line.idle += 1;
            line = self.shared.wait(line, &self.shared.work);
            line.idle -= 1;
        }
    }

    /// Reads a file to its end, and says whether it changed meanwhile.
    fn read(
        &self,
        importer: &mut dyn Importer<Error = HostsError>,
        number: u64,
        path: &[u8],
        hint: &[u8],
        attributes: &mut Attributes,
    ) -> Result<bool> {
        importer.stat(path, hint, attributes)?;
        importer.open(path, attributes)?;
        while let Some(mut bytes) = self.block(number) {
            let read = importer.read(&mut bytes);
            let filled = *read.as_ref().unwrap_or(&0);
            let mut line = self.shared.line();
            let block = Block { bytes, filled, given: 0 };
            match line.file(number) {
                Some(file) if filled > 0 => file.blocks.push_back(block),
                _ => {
                    line.free(block);
                    self.shared.work.notify_all();
                }
            }
            drop(line);
            self.shared.news.notify_all();
            if read? == 0 {
                return importer.changed();
            }
        }
        Ok(false)
    }

    /// Waits for a block to read into. Nothing when the file is not wanted.
    fn block(&self, number: u64) -> Option<Vec<u8>> {
        let mut line = self.shared.line();
        while line.file(number).is_some() {
            if line.has_room(number, self.shared.width.blocks) {
                line.held += 1;
                let spare = line.spare.pop();
                return Some(spare.unwrap_or_else(|| vec![0; BLOCK_BYTES]));
            }
            line = self.shared.wait(line, &self.shared.work);
        }
        None
    }
}

impl Importer for AheadImporter {
    type Error = HostsError;

    fn kind(&self) -> &str {
        self.first.kind()
    }

    fn origin(&self) -> &str {
        self.first.origin()
    }

    fn root(&self) -> &[u8] {
        self.first.root()
    }

    fn list(&mut self, directory: &[u8], each: &mut Each<'_, HostsError>) -> Result<()> {
        match self.listing(directory) {
            Some(records) => records.tell(each),
            None => self.first.list(directory, each),
        }
    }

    fn stat(&mut self, path: &[u8], hint: &[u8], into: &mut Attributes) -> Result<()> {
        self.first.stat(path, hint, into)
    }

    fn files_ahead(&self) -> usize {
        match self.shared.width {
            Width { threads: 0, .. } => 0,
            Width { blocks, .. } => blocks.min(FILES_AHEAD_MAX),
        }
    }

    fn directories_ahead(&self) -> usize {
        let Width { threads, .. } = self.shared.width;
        let has_room = self.shared.width.listings_bytes() >= LISTING_BYTES_MAX;
        if has_room { (DIRECTORIES_PER_THREAD * threads).min(DIRECTORIES_AHEAD_MAX) } else { 0 }
    }

    fn expect_directory(&mut self, path: &[u8]) {
        let mut line = self.shared.line();
        line.listings.expect(path);
        // One of them is that which is listed now.
        if line.listings.len() > DIRECTORIES_AHEAD_MAX + 1 {
            line.listings.drop_front();
        }
        self.start_thread(&mut line);
        self.shared.work.notify_all();
    }

    fn foresee(&mut self, path: &[u8], hint: &[u8], into: &mut Attributes) -> bool {
        self.first.foresee(path, hint, into)
    }

    fn expect(&mut self, path: &[u8], hint: &[u8]) {
        let mut line = self.shared.line();
        line.files.push_back(Expected {
            path: path.to_vec(),
            hint: hint.to_vec(),
            is_taken: false,
            blocks: VecDeque::new(),
            outcome: None,
        });
        // Of a file that is never opened, the next that is clears the line.
        if line.files.len() > FILES_AHEAD_MAX {
            line.drop_front();
        }
        self.start_thread(&mut line);
        self.shared.work.notify_all();
    }

    fn open(&mut self, path: &[u8], expected: &Attributes) -> Result<()> {
        self.close();
        if self.bring_to_front(path) {
            self.open = Open::Front;
            self.untouched = Some((path.to_vec(), Box::new(expected.clone())));
            return Ok(());
        }
        self.first.open(path, expected)?;
        self.open = Open::First;
        Ok(())
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        if self.open != Open::Front {
            return self.first.read(into);
        }
        let mut line = self.shared.line();
        loop {
            let Some(file) = line.files.front_mut() else { return Err(lost()) };
            if let Some(block) = file.blocks.front_mut() {
                let step = into.len().min(block.filled - block.given);
                into[..step].copy_from_slice(&block.bytes[block.given..][..step]);
                block.given += step;
                self.untouched = None;
                if block.given == block.filled
                    && let Some(block) = file.blocks.pop_front()
                {
                    line.free(block);
                    self.shared.work.notify_all();
                }
                return Ok(step);
            }
            match &mut file.outcome {
                Some(Ok(_)) => return Ok(0),
                Some(outcome) => {
                    let failed = std::mem::replace(outcome, Ok(false)).map(|_| 0);
                    drop(line);
                    let Some((path, expected)) = self.untouched.take() else { return failed };
                    self.close();
                    self.first.open(&path, &expected)?;
                    self.open = Open::First;
                    return self.first.read(into);
                }
                None => line = self.shared.wait(line, &self.shared.news),
            }
        }
    }

    fn changed(&mut self) -> Result<bool> {
        if self.open != Open::Front {
            return self.first.changed();
        }
        match self.shared.line().files.front_mut().and_then(|file| file.outcome.take()) {
            Some(outcome) => outcome,
            None => Ok(false),
        }
    }

    fn close(&mut self) {
        self.untouched = None;
        match std::mem::take(&mut self.open) {
            Open::Nothing => {}
            Open::First => self.first.close(),
            Open::Front => {
                self.shared.line().drop_front();
                self.shared.work.notify_all();
            }
        }
    }

    fn xattr_names(&mut self, path: &[u8], into: &mut [u8]) -> Result<usize> {
        self.first.xattr_names(path, into)
    }

    fn xattr(&mut self, path: &[u8], name: &[u8], into: &mut [u8]) -> Result<usize> {
        self.first.xattr(path, name, into)
    }
}

pub(super) fn lost() -> HostsError {
    HostsError::rule(HostErrorKind::Other, "read", b"", "a thread was lost")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Files named after their length; those that end in `!` cannot be read to their
    /// end, and those that end in `~` change meanwhile.
    #[derive(Debug, Default)]
    struct Numbers {
        open: Option<(Vec<u8>, usize)>,
        opened: Arc<AtomicUsize>,
        refuses: bool,
    }

    fn length(path: &[u8]) -> usize {
        let digits: String = path
            .iter()
            .filter(|byte| byte.is_ascii_digit())
            .map(|byte| char::from(*byte))
            .collect();
        digits.parse().unwrap()
    }

    fn byte(path: &[u8], at: usize) -> u8 {
        u8::try_from((length(path) * 7 + at / 3) % 251).unwrap()
    }

    impl Importer for Numbers {
        type Error = HostsError;

        fn kind(&self) -> &str {
            "numbers"
        }

        fn origin(&self) -> &str {
            "test"
        }

        fn root(&self) -> &[u8] {
            b"/"
        }

        fn list(&mut self, directory: &[u8], each: &mut Each<'_, HostsError>) -> Result<()> {
            self.opened.fetch_add(1, Ordering::Relaxed);
            for number in 0..length(directory) {
                each(format!("{number}").as_bytes(), b"hint")?;
            }
            if directory.ends_with(b"!") {
                return Err(HostsError::rule(HostErrorKind::Other, "list", directory, "broken"));
            }
            Ok(())
        }

        fn stat(&mut self, path: &[u8], hint: &[u8], into: &mut Attributes) -> Result<()> {
            assert_eq!(hint, b"hint");
            into.size = i64::try_from(length(path)).unwrap();
            Ok(())
        }

        fn open(&mut self, path: &[u8], expected: &Attributes) -> Result<()> {
            assert_eq!(expected.size, i64::try_from(length(path)).unwrap());
            if self.refuses {
                return Err(HostsError::rule(HostErrorKind::Other, "open", path, "too many"));
            }
            self.opened.fetch_add(1, Ordering::Relaxed);
            self.open = Some((path.to_vec(), 0));
            Ok(())
        }

        fn read(&mut self, into: &mut [u8]) -> Result<usize> {
            let (path, at) = self.open.as_mut().unwrap();
            let step = into.len().min(length(path) - *at).min(10_000);
            if step == 0 && path.ends_with(b"!") {
                return Err(HostsError::rule(HostErrorKind::Other, "read", path, "it is broken"));
            }
            for (more, out) in into[..step].iter_mut().enumerate() {
                *out = byte(path, *at + more);
            }
            *at += step;
            Ok(step)
        }

        fn changed(&mut self) -> Result<bool> {
            Ok(self.open.as_ref().unwrap().0.ends_with(b"~"))
        }

        fn close(&mut self) {
            self.open = None;
        }

        fn xattr_names(&mut self, _: &[u8], _: &mut [u8]) -> Result<usize> {
            Ok(0)
        }

        fn xattr(&mut self, _: &[u8], _: &[u8], _: &mut [u8]) -> Result<usize> {
            Ok(0)
        }
    }

    fn importer(
        width: Width,
        connections: usize,
    ) -> (AheadImporter, Arc<AtomicUsize>, Arc<AtomicUsize>) {
        let (made, opened) = (Arc::new(AtomicUsize::new(0)), Arc::default());
        let (count, there) = (Arc::clone(&made), Arc::clone(&opened));
        let connect = move || {
            if count.fetch_add(1, Ordering::Relaxed) >= connections {
                let rule = "no more are let in";
                return Err(HostsError::rule(HostErrorKind::Other, "connect", b"", rule));
            }
            let numbers = Numbers { opened: Arc::clone(&there), ..Numbers::default() };
            Ok(Box::new(numbers) as Box<dyn Importer<Error = HostsError>>)
        };
        (AheadImporter::new(Box::new(Numbers::default()), width, Arc::new(connect)), made, opened)
    }

    /// Reads as the engine does, and compares. Whether it changed, or the error.
    fn read(importer: &mut AheadImporter, path: &[u8]) -> Result<bool> {
        let size = i64::try_from(length(path)).unwrap();
        importer.open(path, &Attributes { size, ..Attributes::default() })?;
        let (mut at, mut into) = (0, vec![0; 33_000]);
        loop {
            let read = importer.read(&mut into);
            let read = match read {
                Ok(read) => read,
                Err(error) => {
                    importer.close();
                    return Err(error);
                }
            };
            assert!(into[..read].iter().enumerate().all(|(more, b)| *b == byte(path, at + more)));
            at += read;
            if read == 0 {
                break;
            }
        }
        assert_eq!(at, length(path));
        let changed = importer.changed();
        importer.close();
        changed
    }

    #[test]
    fn what_is_read_ahead_is_what_is_there() {
        for (threads, blocks, connections) in
            [(1, 1, 9), (3, 4, 9), (4, 64, 2), (4, 8, 0), (0, 4, 9)]
        {
            let (mut importer, made, opened) = importer(Width { threads, blocks }, connections);
            let paths: Vec<Vec<u8>> = (0..300_u32)
                .map(|n| {
                    let end = ["", "", "~", "!"][usize::try_from(n % 4).unwrap()];
                    let size = if n % 50 == 7 { 700_000 + n } else { n * 37 };
                    format!("/{size}{end}").into_bytes()
                })
                .collect();
            let ahead = importer.files_ahead();
            assert_eq!(ahead, if threads == 0 { 0 } else { blocks });
            let mut told = 0;
            for (n, path) in paths.iter().enumerate() {
                while ahead > 0 && told < paths.len().min(n + ahead) {
                    importer.expect(&paths[told], b"hint");
                    told += 1;
                }
                // Some are not wanted after all.
                if n % 11 == 3 {
                    continue;
                }
                let outcome = read(&mut importer, path);
                match path.last() {
                    Some(b'!') => assert!(outcome.is_err()),
                    Some(b'~') => assert!(outcome.unwrap()),
                    _ => assert!(!outcome.unwrap()),
                }
                let line = importer.shared.line();
                assert!(line.spare.len() + line.held <= blocks, "{} blocks", line.held);
            }
            // Whether threads are quick enough to get anything is up to the machine.
            assert!(opened.load(Ordering::Relaxed) == 0 || (threads > 0 && connections > 0));
            assert!(made.load(Ordering::Relaxed) <= threads);
        }
    }

    /// A thread whose server will not have it costs no file.
    #[test]
    fn what_a_thread_cannot_read_the_first_connection_may() {
        let connect = || {
            let refuses = Numbers { refuses: true, ..Numbers::default() };
            Ok(Box::new(refuses) as Box<dyn Importer<Error = HostsError>>)
        };
        let width = Width { threads: 2, blocks: 8 };
        let first = Box::new(Numbers::default());
        let mut importer = AheadImporter::new(first, width, Arc::new(connect));
        importer.expect(b"/100000", b"hint");
        while importer.shared.line().files.front().is_none_or(|file| file.outcome.is_none()) {
            std::thread::yield_now();
        }
        assert!(!read(&mut importer, b"/100000").unwrap());
    }

    #[test]
    fn what_is_listed_ahead_is_what_is_there() {
        for (threads, blocks, connections) in [(1, 1, 9), (1, 4, 9), (4, 64, 2), (4, 8, 0)] {
            let (mut importer, made, listed) = importer(Width { threads, blocks }, connections);
            let directories: Vec<Vec<u8>> = (0..200_u32)
                .map(|n| {
                    let end = if n % 9 == 4 { "!" } else { "" };
                    // Every so often more than is kept.
                    format!("/{}{end}", if n % 20 == 7 { 5000 + n } else { n }).into_bytes()
                })
                .collect();
            let (ahead, mut told) = (importer.directories_ahead(), 0);
            assert_eq!(ahead, if blocks < 2 { 0 } else { 4 * threads });
            for (n, directory) in directories.iter().enumerate() {
                while told < directories.len().min(n + ahead) {
                    importer.expect_directory(&directories[told]);
                    told += 1;
                }
                // Some are not entered after all.
                if n % 11 == 3 {
                    continue;
                }
                let mut names = 0;
                let outcome = importer.list(directory, &mut |name, hint| {
                    assert_eq!((name, hint), (format!("{names}").as_bytes(), &b"hint"[..]));
                    names += 1;
                    Ok(())
                });
                assert_eq!(
                    (names, outcome.is_err()),
                    (length(directory), directory.ends_with(b"!"))
                );
            }
            assert!(listed.load(Ordering::Relaxed) == 0 || (ahead > 0 && connections > 0));
            assert!(made.load(Ordering::Relaxed) <= threads);
        }
    }

    #[test]
    fn a_directory_that_is_expected_is_listed_by_a_thread() {
        let (mut importer, made, listed) = importer(Width { threads: 2, blocks: 8 }, 9);
        importer.expect_directory(b"/100");
        // It is taken sooner or later, however busy the machine is.
        while importer.shared.line().listings.waiting() > 0 {
            std::thread::yield_now();
        }
        let mut names = 0;
        importer
            .list(b"/100", &mut |_, _| {
                names += 1;
                Ok(())
            })
            .unwrap();
        assert_eq!(names, 100);
        assert_eq!((made.load(Ordering::Relaxed), listed.load(Ordering::Relaxed)), (1, 1));
    }

    #[test]
    fn what_is_expected_is_read_by_a_thread() {
        let (mut importer, made, opened) = importer(Width { threads: 2, blocks: 8 }, 9);
        importer.expect(b"/100000", b"hint");
        // It is taken sooner or later, however busy the machine is.
        while !importer.shared.line().files.front().is_some_and(|file| file.is_taken) {
            std::thread::yield_now();
        }
        assert!(!read(&mut importer, b"/100000").unwrap());
        assert_eq!((made.load(Ordering::Relaxed), opened.load(Ordering::Relaxed)), (1, 1));
    }

    #[test]
    fn what_is_not_expected_is_read_all_the_same() {
        let (mut importer, made, _) = importer(Width { threads: 2, blocks: 8 }, 9);
        assert!(!read(&mut importer, b"/100").unwrap());
        assert_eq!(made.load(Ordering::Relaxed), 0, "a thread for nothing");
        importer.expect(b"/200", b"hint");
        assert!(!read(&mut importer, b"/300").unwrap());
        assert!(read(&mut importer, b"/200~").unwrap());
        drop(importer);
    }
}
