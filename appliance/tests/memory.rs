//! Memory, counted: how much of it each command holds at once, and what
//! happens when some is refused.
//!
//! The program runs through its library in a process of its own: this one,
//! started again with orders in its environment. There everything that Rust
//! allocates goes through a counter, which refuses what is above a cap, or the
//! allocation of one number. What is mapped from the kernel, as the block that a
//! command works in is, counts against the cap; it is refused by a limit of the
//! address space. SQLite has its memory from C: its own counter is
//! read, its own cap set, and its allocations are refused by number as well.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{OsStr, OsString, c_int, c_void};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rusqlite::ffi;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tiroir_appliance::heap::Heap;
use tiroir_hosts::mapped;

const MIB: usize = 1024 * 1024;

/// The budget of all commands.
const BUDGET: &str = "24M";

/// The same, in bytes.
const BUDGET_BYTES: usize = 24 * MIB;

/// What SQLite may take of the heap: pages, which are a part of the index, and
/// statements and the schema.
const SQLITE_BYTES: usize = MIB;

/// Files of the large tree, beside the large one.
const FILE_COUNT: usize = 20_000;

/// Length of the large file.
const LARGE_BYTES: usize = 256 * MIB;

/// Counts, and refuses.
struct Counting {
    live_bytes: AtomicUsize,
    peak_bytes: AtomicUsize,
    cap_bytes: AtomicUsize,
    calls: AtomicUsize,
    /// The number of the call that is refused; 0 for none.
    refused: AtomicUsize,
}

impl Counting {
    /// Takes note of so many bytes, or refuses them.
    fn grants(&self, bytes: usize) -> bool {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let live_bytes = self.live_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let held_bytes = live_bytes + mapped::held_bytes();
        let is_refused = call == self.refused.load(Ordering::Relaxed)
            || held_bytes > self.cap_bytes.load(Ordering::Relaxed);
        if is_refused {
            self.gave_back(bytes);
        } else {
            self.peak_bytes.fetch_max(held_bytes, Ordering::Relaxed);
        }
        !is_refused
    }

    fn gave_back(&self, bytes: usize) {
        self.live_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

// SAFETY: what is granted is the system's, with the same layout; a refusal is
// what the contract has for it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !self.grants(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !self.grants(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // Old and new are there at once, unless the system is lucky.
        if !self.grants(new_size) {
            return std::ptr::null_mut();
        }
        self.gave_back(layout.size());
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.realloc(memory, layout, new_size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        self.gave_back(layout.size());
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static HEAP: Heap<Counting> = Heap(Counting {
    live_bytes: AtomicUsize::new(0),
    peak_bytes: AtomicUsize::new(0),
    cap_bytes: AtomicUsize::new(usize::MAX),
    calls: AtomicUsize::new(0),
    refused: AtomicUsize::new(0),
});

type Malloc = unsafe extern "C" fn(c_int) -> *mut c_void;
type Realloc = unsafe extern "C" fn(*mut c_void, c_int) -> *mut c_void;

/// SQLite's own allocator, behind the one that refuses.
static SQLITE: OnceLock<(Malloc, Realloc)> = OnceLock::new();
static SQLITE_CALLS: AtomicUsize = AtomicUsize::new(0);
static SQLITE_REFUSED: AtomicUsize = AtomicUsize::new(0);

fn sqlite_grants() -> bool {
    let call = SQLITE_CALLS.fetch_add(1, Ordering::Relaxed) + 1;
    call != SQLITE_REFUSED.load(Ordering::Relaxed)
}

/// SQLite's `xMalloc`.
///
/// # Safety
///
/// As SQLite calls it, after [`watch_sqlite`].
unsafe extern "C" fn sqlite_malloc(bytes: c_int) -> *mut c_void {
    match SQLITE.get() {
        // SAFETY: as the caller has it.
        Some((malloc, _)) if sqlite_grants() => unsafe { malloc(bytes) },
        _ => std::ptr::null_mut(),
    }
}

/// SQLite's `xRealloc`.
///
/// # Safety
///
/// As SQLite calls it, after [`watch_sqlite`].
unsafe extern "C" fn sqlite_realloc(memory: *mut c_void, bytes: c_int) -> *mut c_void {
    match SQLITE.get() {
        // SAFETY: as the caller has it.
        Some((_, realloc)) if sqlite_grants() => unsafe { realloc(memory, bytes) },
        _ => std::ptr::null_mut(),
    }
}

/// Has SQLite ask us for memory, before it is used.
fn watch_sqlite() {
    let mut methods = std::mem::MaybeUninit::<ffi::sqlite3_mem_methods>::zeroed();
    // SAFETY: SQLite is not used yet, by any thread. The first call fills the
    // methods, of which zeros are a valid value; the second copies them.
    unsafe {
        let got = ffi::sqlite3_config(ffi::SQLITE_CONFIG_GETMALLOC, methods.as_mut_ptr());
        assert_eq!(got, ffi::SQLITE_OK);
        let own = methods.assume_init();
        let ours = ffi::sqlite3_mem_methods {
            xMalloc: Some(sqlite_malloc),
            xRealloc: Some(sqlite_realloc),
            ..own
        };
        let methods = own.xMalloc.zip(own.xRealloc).expect("an allocator");
        assert!(SQLITE.set(methods).is_ok());
        let set = ffi::sqlite3_config(ffi::SQLITE_CONFIG_MALLOC, &raw const ours);
        assert_eq!(set, ffi::SQLITE_OK);
    }
}

/// A number in the environment that is an order.
fn order(name: &str) -> Option<usize> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Limits the address space to what is taken of it, and so many bytes more.
fn limit_space(more_bytes: usize) {
    let text = fs::read_to_string("/proc/self/statm").expect("sizes");
    let pages: u64 = text.split(' ').next().and_then(|text| text.parse().ok()).expect("pages");
    let bytes = pages * rustix::param::page_size() as u64 + more_bytes as u64;
    let limit = Rlimit { current: Some(bytes), ..getrlimit(Resource::As) };
    setrlimit(Resource::As, limit).expect("a limit");
}

/// What a process that was given orders does.
fn obey(report: &OsStr) -> ExitCode {
    watch_sqlite();
    let sqlite_cap = order("MEMORY_SQLITE_CAP").map_or(0, |bytes| bytes as i64);
    // SAFETY: without a precondition. 0 is none.
    unsafe { ffi::sqlite3_hard_heap_limit64(sqlite_cap) };
    SQLITE_REFUSED.store(order("MEMORY_SQLITE_REFUSED").unwrap_or(0), Ordering::Relaxed);
    let counting = &HEAP.0;
    counting.cap_bytes.store(order("MEMORY_CAP").unwrap_or(usize::MAX), Ordering::Relaxed);
    let refused = order("MEMORY_REFUSED").map(|call| call + counting.calls.load(Ordering::Relaxed));
    if let Some(more_bytes) = order("MEMORY_SPACE") {
        limit_space(more_bytes);
    }
    let before = counting.calls.load(Ordering::Relaxed);
    counting.refused.store(refused.unwrap_or(0), Ordering::Relaxed);
    let status = tiroir_appliance::run(std::env::args_os());
    let calls = counting.calls.load(Ordering::Relaxed) - before;
    counting.refused.store(0, Ordering::Relaxed);
    // SAFETY: without a precondition.
    let sqlite_peak = unsafe { ffi::sqlite3_memory_highwater(0) };
    let peak = counting.peak_bytes.load(Ordering::Relaxed);
    let sqlite_calls = SQLITE_CALLS.load(Ordering::Relaxed);
    fs::write(report, format!("{calls} {peak} {sqlite_calls} {sqlite_peak}")).expect("report");
    status
}

/// What a process reports.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    calls: usize,
    peak_bytes: usize,
    sqlite_calls: usize,
    sqlite_peak_bytes: usize,
}

/// How a process ended.
#[derive(Debug)]
#[expect(dead_code, reason = "shown when it was not what it should be")]
struct Outcome {
    line: String,
    code: Option<i32>,
    signal: Option<i32>,
    stderr: String,
    /// What it counted, if it came so far.
    counted: Option<Counted>,
}

impl Outcome {
    #[track_caller]
    fn ok(self) -> Counted {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.counted.expect("a report")
    }

    /// Asserts that it ended of its own will, with a message unless all was
    /// well. Whether it was.
    #[track_caller]
    fn sane(&self) -> bool {
        assert!(self.signal.is_none() && !self.stderr.contains("panicked"), "{self:?}");
        let code = self.code.expect("no signal");
        // Damage is not what there is too little memory for.
        assert!([0, 1, 3].contains(&code), "{self:?}");
        assert!(code == 0 || !self.stderr.is_empty(), "{self:?}");
        code == 0
    }
}

/// A folder with homes, a source and a store.
struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        for name in ["home", "cache", "tmp", "src"] {
            fs::create_dir(folder.path().join(name)).expect("folder");
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the program, with orders.
    fn run_with(&self, orders: &[(&str, usize)], args: &[&OsStr]) -> Outcome {
        let report = self.path("report");
        let _ = fs::remove_file(&report);
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command
            .args(args)
            .env_clear()
            .env("HOME", self.path("home"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("TMPDIR", self.path("tmp"))
            .env("MEMORY_REPORT", &report)
            .envs(orders.iter().map(|(name, value)| (name, value.to_string())))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let output = command.output().expect("this program again");
        let counted = fs::read_to_string(&report).ok().map(|text| {
            let mut numbers = text.split(' ').map(|number| number.parse().expect("a number"));
            let mut next = || numbers.next().expect("four numbers");
            Counted {
                calls: next(),
                peak_bytes: next(),
                sqlite_calls: next(),
                sqlite_peak_bytes: next(),
            }
        });
        Outcome {
            line: format!("{orders:?} {args:?}"),
            code: output.status.code(),
            signal: output.status.signal(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            counted,
        }
    }

    /// Runs `tiroir --memory 24M at STORE …`.
    fn at(&self, orders: &[(&str, usize)], store: &str, args: &[&str]) -> Outcome {
        let store = self.path(store);
        let mut line: Vec<&OsStr> = ["--memory", BUDGET, "at"].map(OsStr::new).to_vec();
        line.push(store.as_os_str());
        line.extend(args.iter().map(OsStr::new));
        self.run_with(orders, &line)
    }

    /// Runs it on the store, without orders.
    #[track_caller]
    fn ok(&self, args: &[&str]) -> Counted {
        self.at(&[], "store", args).ok()
    }

    /// Makes the store, and a snapshot in it.
    fn make_store(&self) {
        self.ok(&["create", "-plaintext"]);
        self.ok(&["backup", "src"]);
    }
}

/// Bytes that nothing compresses, the same every time.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Writes the large file: noise at first, and then islands of it among zeros,
/// so that chunks come in all lengths and little has to be stored.
fn write_large(path: &Path) {
    let file = File::create(path).expect("large file");
    for (index, start) in (0..LARGE_BYTES).step_by(MIB).enumerate() {
        let length = if index < 32 { MIB } else { 4096 << (index % 3) };
        file.write_all_at(&noise(length, index as u64 + 7), start as u64).expect("large file");
    }
    file.set_len(LARGE_BYTES as u64).expect("large file");
}

/// The part of the budget that is the process itself, as the program tells it.
fn process_bytes(scene: &Scene) -> usize {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--memory", BUDGET, "--json", "limits"]).env_clear();
    let output = command.env("MEMORY_REPORT", scene.path("report")).output().expect("limits");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let (_, rest) = text.split_once("\"name\":\"process\",\"bytes\":").expect("the part");
    rest.split_once(',').and_then(|(bytes, _)| bytes.parse().ok()).expect("a number")
}

/// Every command stays within its budget, on a tree of many files and a large
/// one. What is above the cap is refused.
fn within_the_budget() {
    let scene = Scene::new();
    for number in 0..FILE_COUNT {
        let folder = scene.path(&format!("src/{:03}", number / 250));
        if number % 250 == 0 {
            fs::create_dir(&folder).expect("folder");
        }
        let text = format!("file {number}\n").repeat(1 + number % 40);
        fs::write(folder.join(format!("{number}.txt")), text).expect("file");
    }
    write_large(&scene.path("src/large"));
    // All of it but the part of the process itself is heap. How large that is
    // in truth, is seen by the suite `memory` of the integration tests.
    let heap_bytes_max = BUDGET_BYTES - process_bytes(&scene);
    let caps = [("MEMORY_CAP", heap_bytes_max - SQLITE_BYTES), ("MEMORY_SQLITE_CAP", SQLITE_BYTES)];
    let (source, large) = (scene.path("src"), scene.path("src/large"));
    let [source, large] = [&source, &large].map(|path| path.to_str().expect("UTF-8"));
    let (large, folder) = (format!(":{large}"), format!(":{source}/000"));
    let archive = scene.path("x.ptar");
    let archive_text = archive.to_str().expect("UTF-8");
    let tight = |store: &str, args: &[&str]| {
        let start = Instant::now();
        let counted = scene.at(&caps, store, args).ok();
        let heap_bytes = counted.peak_bytes + counted.sqlite_peak_bytes;
        println!(
            "  {:>8} and {:>6} of SQLite, {:.1} s: {store} {}",
            counted.peak_bytes,
            counted.sqlite_peak_bytes,
            start.elapsed().as_secs_f32(),
            args.join(" ")
        );
        assert!(heap_bytes <= heap_bytes_max, "{args:?}: {counted:?}");
        counted
    };
    scene.ok(&["create", "-plaintext"]);
    tight("store", &["limits"]);
    tight("store", &["backup", source]);
    // A chunk, and more, is always held: the counter counts.
    let counted = tight("store", &["ls", "-recursive", ":"]);
    assert!(counted.peak_bytes > 16 * MIB && counted.sqlite_peak_bytes > 16 * 1024);
    tight("store", &["cat", &large]);
    tight("store", &["diff", "-recursive", ":"]);
    tight("store", &["locate", "*7.txt"]);
    tight("store", &["digest", &folder]);
    tight("store", &["info"]);
    tight("store", &["restore", "-to", "out"]);
    fs::remove_dir_all(scene.path("out")).expect("restored");
    tight("store", &["archive", "-output", "x.tar", &folder]);
    fs::write(scene.path("src/000/1.txt"), "changed").expect("file");
    tight("store", &["backup", source]);
    tight("store", &["check"]);
    tight("store", &["ptar", "-plaintext", "-o", archive_text, source]);
    tight("x.ptar", &["check"]);
    tight("x.ptar", &["ls", "-recursive", ":"]);
    tight("x.ptar", &["cat", &large]);
    tight("x.ptar", &["restore", "-to", "out", &folder]);
}

/// The block that a command works in is refused like anything else that fails.
fn no_room_for_the_block() {
    let scene = Scene::new();
    fs::write(scene.path("src/a"), "text").expect("source");
    scene.make_store();
    let outcome = scene.at(&[("MEMORY_SPACE", 8 * MIB)], "store", &["ls"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(
        outcome.stderr.contains("there are not 1") && outcome.stderr.contains("MiB of memory"),
        "{outcome:?}"
    );
    assert!(outcome.stderr.contains("--memory BYTES"), "{outcome:?}");
    // And so is the first of all allocations.
    let outcome = scene.at(&[("MEMORY_REFUSED", 1)], "store", &["ls"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stderr.starts_with("tiroir: out of memory: "), "{outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
}

/// The numbers of calls that are refused, one in each run: the first ones, and
/// then so many of all up to the last.
fn sweep(calls: usize, first: usize, count: usize) -> Vec<usize> {
    let stride = (calls.saturating_sub(first) / count).max(1);
    (1..=first.min(calls)).chain((first + 1..=calls).step_by(stride)).collect()
}

/// A store with one snapshot, and a source that has changed since.
fn small_scene() -> Scene {
    let scene = Scene::new();
    fs::create_dir(scene.path("src/folder")).expect("source");
    for number in 0..12 {
        let text = format!("file {number}\n").repeat(100);
        fs::write(scene.path(&format!("src/folder/{number}")), text).expect("source");
    }
    fs::write(scene.path("src/noise"), noise(1_500_000, 3)).expect("source");
    std::os::unix::fs::symlink("noise", scene.path("src/link")).expect("source");
    scene.make_store();
    fs::rename(scene.path("src"), scene.path("first")).expect("source");
    fs::create_dir(scene.path("src")).expect("source");
    fs::write(scene.path("src/other"), noise(700_000, 4)).expect("source");
    for number in 0..12 {
        fs::write(scene.path(&format!("src/{number}")), format!("new {number}")).expect("source");
    }
    scene
}

/// The store is whole, and what it had before is there.
#[track_caller]
fn assert_sound(scene: &Scene, snapshot: &str) {
    scene.ok(&["check"]);
    let out = scene.path("sound");
    scene.ok(&["restore", "-to", "sound", snapshot]);
    for path in ["noise", "folder/0", "folder/11"] {
        let (left, right) = (scene.path("first").join(path), out.join(path));
        assert!(fs::read(&left).expect("source") == fs::read(&right).expect("restored"), "{path}");
    }
    fs::remove_dir_all(out).expect("restored");
}

/// The identifier of the only snapshot.
fn only_snapshot(scene: &Scene) -> String {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["at"]).arg(scene.path("store")).args(["ls", "-uuid"]);
    command.env_clear().env("HOME", scene.path("home")).env("TMPDIR", scene.path("tmp"));
    let output = command.env("MEMORY_REPORT", scene.path("report")).output().expect("a listing");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.split_whitespace().nth(1).expect("an identifier").to_owned()
}

/// What is refused an allocation once, in each of these commands.
fn commands(snapshot: &str) -> Vec<(&'static str, Vec<String>)> {
    let words = |words: &[&str]| words.iter().map(|word| String::from(*word)).collect();
    vec![
        ("store", words(&["backup", "src"])),
        ("store", words(&["check"])),
        ("store", words(&["restore", "-to", "out", snapshot])),
        ("store", words(&["ls", "-recursive", snapshot])),
        ("store", words(&["cat", &format!("{snapshot}:noise")])),
        ("store", words(&["diff", "-recursive", snapshot])),
        ("store", words(&["locate", "*1"])),
        ("store", words(&["ptar", "-plaintext", "-overwrite", "-o", "x.ptar", "src"])),
        ("x.ptar", words(&["check"])),
        ("store", words(&["limits"])),
    ]
}

/// Refuses calls of `kind`, one in each run of each command.
fn refuse(kind: &str, calls: fn(&Counted) -> usize, first: usize, count: usize) {
    let scene = small_scene();
    let snapshot = only_snapshot(&scene);
    for (store, args) in commands(&snapshot) {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let all = calls(&scene.at(&[], store, &args).ok());
        if all < first {
            // It has nothing to do with them.
            continue;
        }
        let (mut runs, mut failed) = (0, 0);
        for number in sweep(all, first, count) {
            // Everything is new again: nothing of the last run is of help.
            let _ = fs::remove_dir_all(scene.path("out"));
            let outcome = scene.at(&[(kind, number)], store, &args);
            runs += 1;
            failed += usize::from(!outcome.sane());
            if args[0] == "backup" {
                assert_sound(&scene, &snapshot);
            }
        }
        println!("  {runs} of {all} calls refused, {failed} runs failed: {}", args.join(" "));
        assert!(failed > 0, "nothing was refused: {args:?}");
        assert_sound(&scene, &snapshot);
        scene.at(&[], store, &args).ok();
    }
}

/// Each allocation that is refused ends the program with a message.
fn refused_allocations() {
    refuse("MEMORY_REFUSED", |counted| counted.calls, 40, 25);
}

/// The same for those of SQLite. The program may do without its index then.
fn refused_allocations_of_sqlite() {
    refuse("MEMORY_SQLITE_REFUSED", |counted| counted.sqlite_calls, 20, 25);
}

/// Every test, by name.
const TESTS: [(&str, fn()); 4] = [
    ("within_the_budget", within_the_budget),
    ("no_room_for_the_block", no_room_for_the_block),
    ("refused_allocations", refused_allocations),
    ("refused_allocations_of_sqlite", refused_allocations_of_sqlite),
];

fn main() -> ExitCode {
    if let Some(report) = std::env::var_os("MEMORY_REPORT") {
        return obey(&report);
    }
    // As the usual harness has it: words choose tests, options are its own.
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words: Vec<_> = words.iter().filter_map(|word| word.to_str()).collect();
    if words.contains(&"--list") {
        TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let mut names = words.iter().filter(|word| !word.starts_with('-')).peekable();
    let all = names.peek().is_none();
    let names: Vec<_> = names.collect();
    for (name, test) in TESTS {
        if all || names.iter().any(|word| name.contains(**word)) {
            let start = Instant::now();
            println!("test {name}");
            test();
            println!("test {name} ... ok, {:.1} s", start.elapsed().as_secs_f32());
        }
    }
    ExitCode::SUCCESS
}
