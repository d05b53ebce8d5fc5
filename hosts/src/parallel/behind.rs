//! [`BehindExporter`]: writes files after they were taken.
//!
//! What the engine says of a file becomes steps, which wait in a line. Each thread takes
//! the foremost file that nobody has taken, and does its steps over a connection of its
//! own as they come. What becomes of it is told by [`Exporter::failures`].
//!
//! Directories are made at once, and so before what is in them; their attributes are set
//! when all that was begun before is done, in the order in which they came: else their
//! times would change again, and they might not let anything in any more.
//!
//! A thread that does not get its connection goes away. If none gets one, because the
//! server lets nobody have a second, everything goes over the first, as if all this were
//! not there.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use tiroir_core::exporter::Exporter;
use tiroir_core::host::HostErrorKind;
use tiroir_core::time::Timestamp;
use tiroir_core::wire::file_info::FileInfo;
use tiroir_core::wire::mode;

use super::{BLOCK_BYTES, STACK_BYTES, Width};
use crate::error::{HostsError, Result};

/// Files under way at once, at most.
const FILES_MAX: usize = 64;

/// Directories that wait for their attributes, at most.
const DIRECTORIES_MAX: usize = 64;

/// Makes a connection of a thread's own.
pub type Connect = dyn Fn() -> Result<Box<dyn Exporter<Error = HostsError>>> + Send + Sync;

/// [`FileInfo`] that owns its names.
#[derive(Debug)]
struct OwnedInfo {
    name: Vec<u8>,
    username: Vec<u8>,
    groupname: Vec<u8>,
    size: i64,
    mode: u32,
    mod_time: Timestamp,
    device_and_inode: (u64, u64),
    owner: (u64, u64),
    nlink: u16,
    flags: u32,
}

impl OwnedInfo {
    fn new(info: &FileInfo<'_>) -> Self {
        Self {
            name: info.name.to_vec(),
            username: info.username.to_vec(),
            groupname: info.groupname.to_vec(),
            size: info.size,
            mode: info.mode,
            mod_time: info.mod_time,
            device_and_inode: (info.dev, info.ino),
            owner: (info.uid, info.gid),
            nlink: info.nlink,
            flags: info.flags,
        }
    }

    fn lend(&self) -> FileInfo<'_> {
        FileInfo {
            name: &self.name,
            size: self.size,
            mode: self.mode,
            mod_time: self.mod_time,
            dev: self.device_and_inode.0,
            ino: self.device_and_inode.1,
            uid: self.owner.0,
            gid: self.owner.1,
            nlink: self.nlink,
            username: &self.username,
            groupname: &self.groupname,
            flags: self.flags,
        }
    }
}

/// One thing to do for a file that is begun.
#[derive(Debug)]
enum Step {
    Write(Vec<u8>),
    Attribute(Vec<u8>, Vec<u8>),
    Finish(Option<Box<OwnedInfo>>),
    Abandon,
}

impl Step {
    /// Does it. Whether there is more to come.
    fn run(&self, exporter: &mut dyn Exporter<Error = HostsError>, path: &[u8]) -> Result<bool> {
        match self {
            Self::Write(bytes) => exporter.write(bytes).map(|()| true),
            Self::Attribute(name, value) => exporter.set_xattr(path, name, value).map(|()| true),
            Self::Finish(info) => {
                let info = info.as_ref().map(|info| info.lend());
                exporter.finish_file(info.as_ref()).map(|()| false)
            }
            Self::Abandon => {
                exporter.abandon_file();
                Ok(false)
            }
        }
    }

    fn is_last(&self) -> bool {
        matches!(self, Self::Finish(_) | Self::Abandon)
    }
}

/// A file in the line.
#[derive(Debug)]
struct File {
    number: u64,
    path: Vec<u8>,
    size_bytes: u64,
    is_taken: bool,
    steps: VecDeque<Step>,
}

/// What the threads and the engine share.
#[derive(Default)]
struct Line {
    files: VecDeque<File>,
    /// Blocks in all files, of content or an attribute each, and free ones.
    held: usize,
    spare: Vec<Vec<u8>>,
    failed: Vec<(Vec<u8>, HostsError)>,
    threads: usize,
    idle: usize,
    /// A thread got no connection: no more are started.
    is_refused: bool,
    is_over: bool,
}

impl Line {
    /// Gives up the memory of a step that is done.
    fn free(&mut self, step: Step) {
        match step {
            Step::Write(mut bytes) => {
                self.held -= 1;
                bytes.clear();
                self.spare.push(bytes);
            }
            Step::Attribute(..) => self.held -= 1,
            Step::Finish(_) | Step::Abandon => {}
        }
    }

    /// Whether nobody is there to do anything, nor ever will be.
    fn is_alone(&self) -> bool {
        self.is_refused && self.threads == 0
    }

    fn place(&self, number: u64) -> Option<usize> {
        self.files.iter().position(|file| file.number == number)
    }

    /// Takes out a file that is done, well or not.
    fn end(&mut self, number: u64, outcome: Result<()>) {
        let Some(file) = self.place(number).and_then(|place| self.files.remove(place)) else {
            return;
        };
        for step in file.steps {
            self.free(step);
        }
        if let Err(error) = outcome {
            self.failed.push((file.path, error));
        }
    }
}

#[derive(Default)]
struct Shared {
    line: Mutex<Line>,
    /// There is something for threads.
    work: Condvar,
    /// There is something for the engine.
    news: Condvar,
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

/// The file that the engine is at.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Current {
    #[default]
    Nothing,
    /// It goes over the first connection.
    First,
    /// It is in the line, under that number.
    InLine(u64),
}

/// [`Exporter`] that writes several files at a time, over connections of their own.
///
/// Takes [`Width::bytes`] at most, and what the connections take.
pub struct BehindExporter {
    first: Box<dyn Exporter<Error = HostsError>>,
    width: Width,
    connect: Arc<Connect>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    current: Current,
    /// Number of the next file.
    next: u64,
    /// Directories that wait: the number of the next file at that time, path and
    /// attributes.
    directories: VecDeque<(u64, Vec<u8>, OwnedInfo)>,
}

impl fmt::Debug for BehindExporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BehindExporter").field("current", &self.current).finish_non_exhaustive()
    }
}

impl BehindExporter {
    /// Writes files over what `connect` makes, and all else through `first`. No
    /// thread is started before there is something to write.
    #[must_use]
    pub fn new(
        first: Box<dyn Exporter<Error = HostsError>>,
        width: Width,
        connect: Arc<Connect>,
    ) -> Self {
        let shared = Shared::default();
        shared.line().is_refused = width.threads == 0;
        Self {
            first,
            width,
            connect,
            shared: Arc::new(shared),
            threads: Vec::new(),
            current: Current::Nothing,
            next: 0,
            directories: VecDeque::new(),
        }
    }

    /// Starts another thread, if more files wait than threads do.
    fn start_thread(&mut self) {
        let mut line = self.shared.line();
        let waiting = line.files.iter().filter(|file| !file.is_taken).count();
        if line.is_refused || line.threads == self.width.threads || waiting <= line.idle {
            return;
        }
        let (shared, connect) = (Arc::clone(&self.shared), Arc::clone(&self.connect));
        let builder = Builder::new().name("write behind".into()).stack_size(STACK_BYTES);
        match builder.spawn(move || Writer { shared }.run(&*connect)) {
            Ok(thread) => {
                self.threads.push(thread);
                line.threads += 1;
            }
            Err(_) => line.is_refused = true,
        }
    }

    /// Waits until something is so; if nobody is there to bring it about, everything
    /// is done here first.
    fn wait_for(&mut self, is_so: impl Fn(&Line) -> bool) {
        let shared = Arc::clone(&self.shared);
        let mut line = shared.line();
        while !is_so(&line) {
            if line.is_alone() {
                drop(line);
                return self.work_off();
            }
            line = shared.wait(line, &shared.news);
        }
    }

    /// Does everything that is in the line, over the first connection.
    fn work_off(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut line = shared.line();
        while let Some(file) = line.files.pop_front() {
            let mut outcome = self.first.begin_file(&file.path, file.size_bytes);
            let mut is_open = true;
            for step in file.steps {
                if outcome.is_ok() {
                    outcome = step.run(&mut *self.first, &file.path).map(drop);
                }
                is_open &= !step.is_last();
                line.free(step);
            }
            if is_open {
                // The one that the engine is at.
                self.current = Current::First;
            }
            if let Err(error) = outcome {
                self.first.abandon_file();
                line.failed.push((file.path, error));
            }
        }
    }

    /// Waits until another block may be held, if the file that the engine is at is
    /// in the line.
    fn wait_for_room(&mut self) {
        let blocks = self.width.blocks;
        if let Current::InLine(_) = self.current {
            self.wait_for(|line| line.held < blocks);
        }
    }

    /// Adds a step to the file that the engine is at.
    fn add(&mut self, step: Step) {
        let mut line = self.shared.line();
        line.held += usize::from(!step.is_last());
        if let Current::InLine(number) = self.current
            && let Some(place) = line.place(number)
            && let Some(file) = line.files.get_mut(place)
        {
            file.steps.push_back(step);
            self.shared.work.notify_all();
        } else {
            // It failed, and that is told already, or will be.
            line.free(step);
        }
    }

    /// Sets attributes of the directories whose time has come: with `all`, of all.
    fn set_directories(&mut self, all: bool) {
        while let Some((number, ..)) = self.directories.front() {
            let number = *number;
            let is_done = move |line: &Line| line.files.iter().all(|file| file.number >= number);
            if all || self.directories.len() > DIRECTORIES_MAX {
                self.wait_for(is_done);
            } else if !is_done(&self.shared.line()) {
                return;
            }
            if let Some((_, path, info)) = self.directories.pop_front()
                && let Err(error) = self.first.set_attributes(&path, &info.lend())
            {
                self.shared.line().failed.push((path, error));
            }
        }
    }
}

/// A thread.
struct Writer {
    shared: Arc<Shared>,
}

impl Writer {
    fn run(&self, connect: &Connect) {
        let connected = connect();
        let Ok(mut exporter) = connected else {
            let mut line = self.shared.line();
            (line.threads, line.is_refused) = (line.threads - 1, true);
            self.shared.news.notify_all();
            return;
        };
        while let Some((number, path, size_bytes)) = self.take() {
            let mut outcome = exporter.begin_file(&path, size_bytes).map(|()| true);
            while let Ok(true) = outcome {
                let Some(step) = self.step(number) else {
                    exporter.abandon_file();
                    return;
                };
                outcome = step.run(&mut *exporter, &path);
                self.shared.line().free(step);
                self.shared.news.notify_all();
            }
            if outcome.is_err() {
                exporter.abandon_file();
            }
            self.shared.line().end(number, outcome.map(drop));
            self.shared.news.notify_all();
        }
    }

    /// Waits for a file that nobody has taken, and takes it. Nothing when there
    /// will be none.
    fn take(&self) -> Option<(u64, Vec<u8>, u64)> {
        let mut line = self.shared.line();
        loop {
            if line.is_over {
                return None;
            }
            if let Some(file) = line.files.iter_mut().find(|file| !file.is_taken) {
                file.is_taken = true;
                return Some((file.number, file.path.clone(), file.size_bytes));
            }
            line.idle += 1;
            line = self.shared.wait(line, &self.shared.work);
            line.idle -= 1;
        }
    }

    /// Waits for the next step of a file. Nothing when all is over.
    fn step(&self, number: u64) -> Option<Step> {
        let mut line = self.shared.line();
        while !line.is_over {
            let place = line.place(number)?;
            if let Some(step) = line.files.get_mut(place).and_then(|file| file.steps.pop_front()) {
                return Some(step);
            }
            line = self.shared.wait(line, &self.shared.work);
        }
        None
    }
}

impl Exporter for BehindExporter {
    type Error = HostsError;

    fn has_hard_links(&self) -> bool {
        self.first.has_hard_links()
    }

    fn create_directory(&mut self, path: &[u8]) -> Result<()> {
        self.first.create_directory(path)
    }

    fn begin_file(&mut self, path: &[u8], size_bytes: u64) -> Result<()> {
        self.abandon_file();
        self.wait_for(|line| line.files.len() < FILES_MAX);
        if self.shared.line().is_alone() {
            self.work_off();
            self.first.begin_file(path, size_bytes)?;
            self.current = Current::First;
            return Ok(());
        }
        let number = self.next;
        self.next += 1;
        self.current = Current::InLine(number);
        let (path, steps) = (path.to_vec(), VecDeque::new());
        let file = File { number, path, size_bytes, is_taken: false, steps };
        self.shared.line().files.push_back(file);
        self.start_thread();
        self.shared.work.notify_one();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        for part in bytes.chunks(BLOCK_BYTES) {
            self.wait_for_room();
            match self.current {
                Current::Nothing => return Err(not_begun()),
                // Others may have given way to it just now.
                Current::First => self.first.write(part)?,
                Current::InLine(_) => {
                    let mut block = self.shared.line().spare.pop().unwrap_or_default();
                    block.extend_from_slice(part);
                    self.add(Step::Write(block));
                }
            }
        }
        Ok(())
    }

    fn set_xattr(&mut self, path: &[u8], name: &[u8], value: &[u8]) -> Result<()> {
        self.wait_for_room();
        if let Current::InLine(_) = self.current {
            self.add(Step::Attribute(name.to_vec(), value.to_vec()));
            return Ok(());
        }
        self.first.set_xattr(path, name, value)
    }

    fn finish_file(&mut self, info: Option<&FileInfo<'_>>) -> Result<()> {
        match self.current {
            Current::Nothing => return Err(not_begun()),
            Current::First => {
                self.current = Current::Nothing;
                return self.first.finish_file(info);
            }
            Current::InLine(_) => self.add(Step::Finish(info.map(|i| Box::new(OwnedInfo::new(i))))),
        }
        self.current = Current::Nothing;
        Ok(())
    }

    fn abandon_file(&mut self) {
        match self.current {
            Current::Nothing => {}
            Current::First => self.first.abandon_file(),
            Current::InLine(_) => self.add(Step::Abandon),
        }
        self.current = Current::Nothing;
    }

    fn failures(&mut self, wait: bool, each: &mut dyn FnMut(&[u8], HostsError)) -> Result<()> {
        if wait {
            self.wait_for(|line| line.files.is_empty());
        }
        self.set_directories(wait);
        let failed = std::mem::take(&mut self.shared.line().failed);
        for (path, error) in failed {
            each(&path, error);
        }
        self.first.failures(wait, each)
    }

    fn symbolic_link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        self.first.symbolic_link(path, target)
    }

    fn hard_link(&mut self, path: &[u8], original: &[u8]) -> Result<()> {
        let is_there = |line: &Line| line.files.iter().all(|file| file.path != original);
        self.wait_for(is_there);
        self.first.hard_link(path, original)
    }

    fn special(&mut self, path: &[u8], info: &FileInfo<'_>) -> Result<bool> {
        self.first.special(path, info)
    }

    fn set_attributes(&mut self, path: &[u8], info: &FileInfo<'_>) -> Result<()> {
        if info.mode & mode::DIRECTORY == 0 {
            return self.first.set_attributes(path, info);
        }
        self.directories.push_back((self.next, path.to_vec(), OwnedInfo::new(info)));
        self.set_directories(false);
        Ok(())
    }
}

impl Drop for BehindExporter {
    fn drop(&mut self) {
        self.shared.line().is_over = true;
        self.shared.work.notify_all();
        // What they had begun is removed before the process ends.
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn not_begun() -> HostsError {
    HostsError::rule(HostErrorKind::Other, "write", b"", "no file was begun")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// What a target holds: content of files, and what was done in which order.
    #[derive(Debug, Default)]
    struct Target {
        files: BTreeMap<Vec<u8>, Vec<u8>>,
        done: Vec<String>,
        begun: usize,
    }

    /// Writes there. Files that end in `!` cannot be finished, those that end in `?`
    /// not be begun.
    struct Memory {
        target: Arc<Mutex<Target>>,
        file: Option<(Vec<u8>, Vec<u8>)>,
    }

    impl Memory {
        fn note(&self, what: &str, path: &[u8]) {
            let line = format!("{what} {}", path.escape_ascii());
            self.target.lock().unwrap().done.push(line);
        }
    }

    impl Exporter for Memory {
        type Error = HostsError;

        fn create_directory(&mut self, path: &[u8]) -> Result<()> {
            self.note("directory", path);
            Ok(())
        }

        fn begin_file(&mut self, path: &[u8], _size_bytes: u64) -> Result<()> {
            assert!(self.file.is_none());
            if path.ends_with(b"?") {
                return Err(HostsError::rule(HostErrorKind::Other, "create", path, "refused"));
            }
            self.target.lock().unwrap().begun += 1;
            self.file = Some((path.to_vec(), Vec::new()));
            Ok(())
        }

        fn write(&mut self, bytes: &[u8]) -> Result<()> {
            std::thread::yield_now();
            self.file.as_mut().unwrap().1.extend_from_slice(bytes);
            Ok(())
        }

        fn set_xattr(&mut self, path: &[u8], _name: &[u8], _value: &[u8]) -> Result<()> {
            self.note("attribute", path);
            Ok(())
        }

        fn finish_file(&mut self, info: Option<&FileInfo<'_>>) -> Result<()> {
            let (path, content) = self.file.take().unwrap();
            self.target.lock().unwrap().begun -= 1;
            assert_eq!(info.unwrap().name, b"name");
            if path.ends_with(b"!") {
                return Err(HostsError::rule(HostErrorKind::Other, "write", &path, "refused"));
            }
            self.note("file", &path);
            self.target.lock().unwrap().files.insert(path, content);
            Ok(())
        }

        fn abandon_file(&mut self) {
            if self.file.take().is_some() {
                self.target.lock().unwrap().begun -= 1;
            }
        }

        fn symbolic_link(&mut self, path: &[u8], _target: &[u8]) -> Result<()> {
            self.note("link", path);
            Ok(())
        }

        fn hard_link(&mut self, path: &[u8], original: &[u8]) -> Result<()> {
            let mut target = self.target.lock().unwrap();
            let content = target.files[original].clone();
            target.files.insert(path.to_vec(), content);
            Ok(())
        }

        fn special(&mut self, _path: &[u8], _info: &FileInfo<'_>) -> Result<bool> {
            Ok(true)
        }

        fn set_attributes(&mut self, path: &[u8], _info: &FileInfo<'_>) -> Result<()> {
            self.note("attributes", path);
            Ok(())
        }
    }

    impl Drop for Memory {
        fn drop(&mut self) {
            self.abandon_file();
        }
    }

    fn exporter(width: Width, connections: usize) -> (BehindExporter, Arc<Mutex<Target>>) {
        let target = Arc::new(Mutex::new(Target::default()));
        let (there, made) = (Arc::clone(&target), AtomicUsize::new(0));
        let connect = move || {
            if made.fetch_add(1, Ordering::Relaxed) >= connections {
                let rule = "no more are let in";
                return Err(HostsError::rule(HostErrorKind::Other, "connect", b"", rule));
            }
            let memory = Memory { target: Arc::clone(&there), file: None };
            Ok(Box::new(memory) as Box<dyn Exporter<Error = HostsError>>)
        };
        let first = Box::new(Memory { target: Arc::clone(&target), file: None });
        (BehindExporter::new(first, width, Arc::new(connect)), target)
    }

    fn content(n: usize) -> Vec<u8> {
        let size = if n % 40 == 9 { 600_000 } else { n * 31 };
        (0..size).map(|at| u8::try_from((n + at / 5) % 251).unwrap()).collect()
    }

    const FILE: FileInfo<'_> = FileInfo {
        name: b"name",
        size: 0,
        mode: 0o644,
        mod_time: Timestamp { secs: 0, nanos: 0 },
        dev: 0,
        ino: 0,
        uid: 0,
        gid: 0,
        nlink: 1,
        username: b"",
        groupname: b"",
        flags: 0,
    };
    const DIRECTORY: FileInfo<'_> = FileInfo { mode: mode::DIRECTORY | 0o755, ..FILE };

    #[test]
    fn everything_is_written_and_what_fails_is_told() {
        for (threads, blocks, connections) in
            [(1, 1, 9), (3, 4, 9), (4, 64, 2), (4, 8, 0), (0, 4, 9)]
        {
            let (mut exporter, target) = exporter(Width { threads, blocks }, connections);
            let mut failed = Vec::new();
            for d in 0..100 {
                let directory = format!("d{d}");
                exporter.create_directory(directory.as_bytes()).unwrap();
                for f in 0..d % 7 {
                    let n = d * 7 + f;
                    let end = ["", "", "", "!", "?"][n % 5];
                    let path = format!("{directory}/{n}{end}").into_bytes();
                    // Where it goes over the first connection it fails at once.
                    let outcome = exporter.begin_file(&path, 0).and_then(|()| {
                        exporter.write(&content(n))?;
                        exporter.set_xattr(&path, b"user.a", b"1")?;
                        exporter.finish_file(Some(&FILE))
                    });
                    if outcome.is_err() {
                        exporter.abandon_file();
                        failed.push(path);
                    }
                    if n % 5 == 0 {
                        let original = format!("{directory}/{n}").into_bytes();
                        let link = format!("{directory}/link{n}").into_bytes();
                        exporter.hard_link(&link, &original).unwrap();
                    }
                    assert!(exporter.shared.line().held <= blocks);
                }
                exporter.set_attributes(directory.as_bytes(), &DIRECTORY).unwrap();
                exporter.failures(false, &mut |path, _| failed.push(path.to_vec())).unwrap();
            }
            exporter.failures(true, &mut |path, _| failed.push(path.to_vec())).unwrap();
            drop(exporter);
            let target = target.lock().unwrap();
            let mut files = 0;
            for n in (0..100).flat_map(|d| (0..d % 7).map(move |f| d * 7 + f)) {
                let (d, end) = (n / 7, ["", "", "", "!", "?"][n % 5]);
                let path = format!("d{d}/{n}{end}").into_bytes();
                assert_eq!(failed.iter().filter(|failed| **failed == path).count(), (n % 5) / 3);
                if end.is_empty() {
                    files += 1;
                    assert!(target.files[&path] == content(n));
                    let place = |what: &str| target.done.iter().position(|done| done == what);
                    let file = place(&format!("file d{d}/{n}")).unwrap();
                    assert!(file < place(&format!("attributes d{d}")).unwrap());
                }
            }
            assert!(files > 150);
            let order: Vec<_> =
                target.done.iter().filter(|d| d.starts_with("attributes")).collect();
            assert!(order.iter().enumerate().all(|(d, done)| **done == format!("attributes d{d}")));
            assert_eq!(target.begun, 0);
        }
    }

    #[test]
    fn what_is_dropped_in_the_middle_is_abandoned() {
        let (mut exporter, target) = exporter(Width { threads: 2, blocks: 8 }, 9);
        for n in 0..5 {
            exporter.begin_file(format!("{n}").as_bytes(), 0).unwrap();
            exporter.write(&content(9)).unwrap();
            if n < 4 {
                exporter.finish_file(Some(&FILE)).unwrap();
            }
        }
        drop(exporter);
        let target = target.lock().unwrap();
        assert_eq!(target.begun, 0);
        assert!(!target.files.contains_key(&b"4"[..]));
    }
}
