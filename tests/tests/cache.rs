//! The cache directory lost, damaged, occupied, unwritable, full, shared and
//! bounded: commands end as if nothing had happened, and what they back up is
//! right.

use std::fs;
use std::os::unix::fs::{FileExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use tiroir_tests::compare::{Rules, assert_same};
use tiroir_tests::rng::Rng;
use tiroir_tests::sandbox::{Invocation, Outcome, Running, Sandbox};
use tiroir_tests::scene::identifiers;
use tiroir_tests::{store, tree};

const FAILED: i32 = 1;
const USAGE: i32 = 64;
const NOBODY: u32 = 65_534;

/// What every warning about the cache says.
const NOT_KEPT: &str = "no index of the store can be kept";

/// A store with two snapshots, and its index in the cache.
struct Scene<'s> {
    sandbox: &'s Sandbox,
    source: PathBuf,
    /// As it is before each case.
    origin: PathBuf,
    store: PathBuf,
    cache: PathBuf,
    /// Files of the cache, by their names in the directory of the index.
    files: Vec<(String, Vec<u8>)>,
    /// Directory of the index.
    index: PathBuf,
    snapshots: usize,
}

impl<'s> Scene<'s> {
    fn new(sandbox: &'s Sandbox) -> Self {
        let (source, store) = (sandbox.path("src"), sandbox.path("store"));
        let cache = sandbox.path("cache/tiroir");
        make_source(&source, 110);
        sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);
        sandbox.at(&store).arg("backup").arg(&source).run().status(0);
        fs::write(source.join("d0/f1"), "changed").expect("source");
        sandbox.at(&store).arg("backup").arg(&source).run().status(0);
        let listing = sandbox.at(&store).args(["ls", "-uuid"]).run().status(0);
        let snapshots = identifiers(listing.text()).len();
        let mut indexes: Vec<PathBuf> = list(&cache);
        let index = indexes.pop().expect("an index");
        assert!(indexes.is_empty());
        let read = |path: PathBuf| {
            let name = path.file_name().expect("a name").to_str().expect("a name").to_owned();
            (name, fs::read(&path).expect("a file of the cache"))
        };
        let files: Vec<_> = list(&index).into_iter().map(read).collect();
        assert!(files.iter().any(|(name, bytes)| name.starts_with("run-") && bytes.len() > 10_000));
        let origin = sandbox.path("origin");
        store::copy(&store, &origin);
        Self { sandbox, source, origin, store, cache, files, index, snapshots }
    }

    /// Puts store and cache back as they were.
    fn reset(&self) {
        for (path, from) in [(&self.store, Some(&self.origin)), (&self.cache, None)] {
            fs::remove_dir_all(path).expect("old files");
            if let Some(from) = from {
                store::copy(from, path);
            }
        }
        fs::create_dir_all(&self.index).expect("cache");
        for (name, bytes) in &self.files {
            fs::write(self.index.join(name), bytes).expect("cache");
        }
    }

    fn at(&self) -> Invocation {
        self.sandbox.at(&self.store)
    }

    /// Runs every command, beginning with another one each time: the first meets
    /// what was done to the cache. `with` says how they are run.
    fn probe(&self, case: usize, what: &str, with: &dyn Fn(Invocation) -> Invocation) -> Warned {
        self.probe_after(0, case, what, &|| with(self.at()))
    }

    /// The same, after so many further snapshots were taken.
    fn probe_after(
        &self,
        taken: usize,
        case: usize,
        what: &str,
        at_store: &dyn Fn() -> Invocation,
    ) -> Warned {
        let mut snapshots = self.snapshots + taken;
        let mut warned = Warned::default();
        for step in 0..4 {
            let number = (case + step) % 4;
            let out = self.sandbox.path("out");
            let mut invocation = at_store();
            match number {
                0 => invocation.args(["-json", "backup"]).arg(&self.source),
                1 => invocation.args(["restore", "-to"]).arg(&out),
                2 => invocation.arg("check"),
                _ => invocation.args(["ls", "-uuid"]),
            };
            let outcome = invocation.run();
            assert_eq!(outcome.code(), Some(0), "{what}, step {step}\n{}", outcome.report());
            warned.note(&outcome);
            match number {
                0 => {
                    // Nothing is stored twice for want of an index.
                    assert_eq!(field(&outcome, "new_bytes"), 0, "{what}\n{}", outcome.report());
                    assert_eq!(field(&outcome, "files"), 110, "{what}\n{}", outcome.report());
                    snapshots += 1;
                }
                1 => {
                    assert_same(&self.source, &out, Rules::EXACT);
                    fs::remove_dir_all(&out).expect("restored");
                }
                2 => {}
                _ => {
                    let found = identifiers(outcome.text()).len();
                    assert_eq!(found, snapshots, "{what}\n{}", outcome.report());
                }
            }
        }
        assert_eq!(store::locks(&self.store), Vec::<PathBuf>::new());
        warned
    }

    /// Stock finds nothing wrong with what was made.
    fn stock_agrees(&self) {
        let stock = self.sandbox.stock();
        stock.quiet_at(&self.store).arg("check").run().status(0);
    }
}

/// How often a run warned of the cache, at most and in sum.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Warned {
    most: usize,
    all: usize,
}

impl Warned {
    fn note(&mut self, outcome: &Outcome) {
        let count = warnings(outcome);
        self.most = self.most.max(count);
        self.all += count;
    }
}

fn warnings(outcome: &Outcome) -> usize {
    String::from_utf8_lossy(&outcome.stderr).matches(NOT_KEPT).count()
}

fn plainly(invocation: Invocation) -> Invocation {
    invocation
}

/// Some small files in several directories, and one of a few chunks.
fn make_source(source: &Path, files: usize) {
    let mut rng = Rng::new(21);
    for number in 0..files - 1 {
        let directory = source.join(format!("d{}", number / 40));
        fs::create_dir_all(&directory).expect("source");
        let length = rng.index(300);
        fs::write(directory.join(format!("f{number}")), rng.bytes(length)).expect("source");
    }
    fs::write(source.join("large"), rng.bytes(300_000)).expect("source");
}

fn list(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("directory");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("entry").path()).collect();
    paths.sort();
    paths
}

/// A number of the summary of a backup.
fn field(outcome: &Outcome, name: &str) -> u64 {
    let mut lines = outcome.stdout.split(|byte| *byte == b'\n');
    let line = lines.find(|line| line.starts_with(b"{\"type\":\"backup\"")).expect("a summary");
    let line: serde_json::Value = serde_json::from_slice(line).expect("JSON");
    line[name].as_u64().unwrap_or_else(|| panic!("no {name} in {line}"))
}

#[test]
fn lost_between_runs() {
    let sandbox = Sandbox::new();
    let scene = Scene::new(&sandbox);
    for case in 0..4 {
        scene.reset();
        fs::remove_dir_all(&scene.cache).expect("cache");
        assert_eq!(scene.probe(case, "lost", &plainly), Warned::default());
        for (name, _) in &scene.files {
            scene.reset();
            fs::remove_file(scene.index.join(name)).expect("a file");
            let what = format!("lost {name}");
            assert_eq!(scene.probe(case, &what, &plainly), Warned::default());
        }
    }
    assert!(scene.index.join("index.sqlite").is_file());
    scene.stock_agrees();
}

#[test]
fn truncated() {
    let sandbox = Sandbox::new();
    let scene = Scene::new(&sandbox);
    let mut case = 0;
    for (name, bytes) in &scene.files {
        let length = bytes.len();
        for kept in [0, 1, 99, 4096, length / 2, length - 33, length - 1] {
            scene.reset();
            let kept = kept.min(length - 1);
            fs::write(scene.index.join(name), &bytes[..kept]).expect("cache");
            let what = format!("{name} cut to {kept}");
            assert_eq!(scene.probe(case, &what, &plainly), Warned::default(), "{what}");
            case += 1;
        }
    }
    scene.stock_agrees();
}

/// Flipped bits in each of the files, in turns: headers of pages and records
/// alike.
#[test]
fn corrupted() {
    const CASES: usize = 210;
    let sandbox = Sandbox::new();
    let scene = Scene::new(&sandbox);
    let mut rng = Rng::new(5);
    for case in 0..CASES {
        scene.reset();
        let (name, bytes) = &scene.files[case / 4 % scene.files.len()];
        let mut bytes = bytes.clone();
        let mut at = Vec::new();
        for _ in 0..=rng.index(4) {
            let page = rng.index(bytes.len().div_ceil(4096)) * 4096;
            let part = if rng.below(3) == 0 { 108 } else { 4096 };
            let position = page + rng.index(part.min(bytes.len() - page));
            bytes[position] ^= 1 << rng.below(8);
            at.push(position);
        }
        fs::write(scene.index.join(name), &bytes).expect("cache");
        let what = format!("case {case}: {name} changed at {at:?}");
        assert_eq!(scene.probe(case, &what, &plainly), Warned::default(), "{what}");
        if case % 70 == 69 {
            scene.stock_agrees();
        }
    }
}

#[test]
fn replaced_by_something_else() {
    let sandbox = Sandbox::new();
    let scene = Scene::new(&sandbox);
    let precious = sandbox.path("precious");
    let mut names: Vec<PathBuf> =
        scene.files.iter().map(|(name, _)| scene.index.join(name)).collect();
    names.extend(["index.sqlite-wal", "index.sqlite-shm"].map(|name| scene.index.join(name)));
    names.push(scene.index.clone());
    let mut case = 0;
    for path in names {
        for kind in ["directory", "full directory", "link", "dangling link", "garbage", "empty"] {
            scene.reset();
            fs::write(&precious, "").expect("a file of somebody");
            if path.is_dir() {
                fs::remove_dir_all(&path).expect("cache");
            } else {
                let _ = fs::remove_file(&path);
            }
            match kind {
                "directory" => fs::create_dir(&path).expect("directory"),
                "full directory" => fs::create_dir_all(path.join("a/b")).expect("directory"),
                "link" => symlink(&precious, &path).expect("link"),
                "dangling link" => symlink("nowhere", &path).expect("link"),
                "garbage" => fs::write(&path, Rng::new(3).bytes(50_000)).expect("garbage"),
                _ => fs::write(&path, "").expect("empty file"),
            }
            let what = format!("{} is a {kind}", path.display());
            assert_eq!(scene.probe(case, &what, &plainly), Warned::default(), "{what}");
            assert_eq!(fs::read(&precious).expect("a file of somebody"), b"");
            case += 1;
        }
    }
    scene.stock_agrees();
    // The cache itself, of which nothing is removed that is not an index.
    scene.reset();
    fs::remove_dir_all(&scene.cache).expect("cache");
    fs::write(&scene.cache, "a file").expect("file");
    let warned = scene.probe(0, "the cache is a file", &plainly);
    assert_eq!(warned, Warned { most: 1, all: 4 });
    assert_eq!(fs::read(&scene.cache).expect("file"), b"a file");
}

/// A backup that waits for its input, with the index up to date.
fn waiting(scene: &Scene<'_>, options: &[&str]) -> Running {
    let mut running = scene.at().args(options).args(["backup", "stdin:dump"]).start();
    let deadline = Instant::now() + Duration::from_secs(60);
    while store::locks(&scene.store).is_empty() {
        assert!(running.ended().is_none() && Instant::now() < deadline, "no lock");
        thread::sleep(Duration::from_millis(5));
    }
    // The lock comes first, then the index.
    thread::sleep(Duration::from_millis(400));
    running
}

#[test]
fn lost_and_damaged_while_it_is_used() {
    let sandbox = Sandbox::new();
    let scene = Scene::new(&sandbox);
    let large = fs::read(scene.source.join("large")).expect("source");
    for case in 0..8 {
        scene.reset();
        let mut running = waiting(&scene, &[]);
        match case % 4 {
            0 => fs::remove_dir_all(&scene.cache).expect("cache"),
            1 => fs::remove_dir_all(&scene.index).expect("cache"),
            kind => {
                for path in list(&scene.index) {
                    let file = fs::OpenOptions::new().write(true).open(&path).expect("cache");
                    let length = file.metadata().expect("cache").len();
                    let noise = Rng::new(9).bytes(usize::try_from(length).expect("small"));
                    // What SQLite shares with itself is no file to it but memory.
                    if path.to_string_lossy().ends_with("-shm") {
                        continue;
                    }
                    if kind == 2 {
                        file.write_all_at(&noise, 0).expect("cache");
                    } else {
                        file.set_len(length / 2).expect("cache");
                    }
                }
            }
        }
        running.feed(&large);
        let outcome = running.finish().status(0);
        assert!(!outcome.said("panicked"), "{}", outcome.report());
        let out = sandbox.path("dump");
        sandbox.at(&scene.store).args(["restore", "-to"]).arg(&out).run().status(0);
        assert_eq!(fs::read(out.join("dump")).expect("restored"), large);
        fs::remove_dir_all(&out).expect("restored");
        sandbox.at(&scene.store).arg("check").run().status(0);
        let listing = scene.at().args(["ls", "-uuid"]).run().status(0);
        assert_eq!(identifiers(listing.text()).len(), scene.snapshots + 1);
    }
    scene.stock_agrees();
}

/// A front that runs a program in file systems of its own, after `script`, which
/// is given the cache in `$C` and its files in `$S`. Needs the rights of root,
/// or a kernel that gives namespaces to all.
fn mounted(scene: &Scene<'_>, script: &str, mut invocation: Invocation) -> Invocation {
    let saved = scene.sandbox.path("saved");
    if !saved.exists() {
        fs::create_dir(&saved).expect("files of the cache");
        let index = saved.join(scene.index.file_name().expect("a name"));
        fs::create_dir(&index).expect("files of the cache");
        for (name, bytes) in &scene.files {
            fs::write(index.join(name), bytes).expect("files of the cache");
        }
    }
    invocation.env("C", &scene.cache).env("S", &saved);
    let is_root = rustix::process::geteuid().is_root();
    let script = format!("set -e; {script}; exec \"$0\" \"$@\"");
    let options = if is_root { "-m" } else { "-rm" };
    invocation.wrapped(["unshare", options, "sh", "-c", &script]);
    invocation
}

#[test]
fn a_read_only_file_system() {
    let sandbox = Sandbox::new();
    let scene = Scene::new(&sandbox);
    for (case, copy) in [(0, "cp -r $S/. $C"), (1, "cp -r $S/. $C"), (2, "true"), (3, "true")] {
        scene.reset();
        let script = format!("mount -t tmpfs x $C; {copy}; mount -o remount,ro $C");
        let warned =
            scene.probe(case, "read-only", &|invocation| mounted(&scene, &script, invocation));
        assert_eq!(warned, Warned { most: 1, all: 4 });
    }
    scene.stock_agrees();
}

/// File systems that are full at every possible point, with and without an index
/// in them already.
#[test]
fn a_full_disk() {
    let sandbox = Sandbox::new();
    let scene = Scene::new(&sandbox);
    let (mut kept, mut not_kept) = (0, 0);
    for case in 0..60 {
        scene.reset();
        let (pages, begin) = if case % 2 == 0 {
            (1 + case * 2, "true")
        } else {
            // Most of the old index is filled up.
            (60 + case, "cp -r $S/. $C; head -c 90000 /dev/zero >$C/other")
        };
        let script = format!("mount -t tmpfs -o size={}k x $C; {begin}", pages * 4);
        let what = format!("{pages} pages, {begin}");
        let warned = scene.probe(case, &what, &|invocation| mounted(&scene, &script, invocation));
        assert!(warned.most <= 1, "{what}: {warned:?}");
        if warned.all == 0 { kept += 1 } else { not_kept += 1 }
    }
    assert!(kept > 5 && not_kept > 5, "{kept} {not_kept}");
    scene.stock_agrees();
}

/// With no room for temporary files either, a backup fails, says so, and
/// damages nothing.
#[test]
fn a_full_disk_for_temporary_files_too() {
    let sandbox = Sandbox::new();
    let scene = Scene::new(&sandbox);
    let spool = sandbox.path("tmp");
    let mut failed = 0;
    for pages in [1, 2, 4, 8, 16, 32] {
        scene.reset();
        let size = pages * 4;
        let script = format!(
            "mount -t tmpfs -o size=8k x $C; mount -t tmpfs -o size={size}k x {}",
            spool.display()
        );
        let mut backup = scene.at();
        backup.arg("backup").arg(&scene.source);
        let outcome = mounted(&scene, &script, backup).run().sane();
        assert!(warnings(&outcome) <= 1, "{}", outcome.report());
        if outcome.code() != Some(0) {
            failed += 1;
            let outcome = outcome.status(FAILED);
            assert!(
                outcome.said("Make room there. Another place for temporary files is given"),
                "{}",
                outcome.report()
            );
        }
        assert_eq!(store::locks(&scene.store), Vec::<PathBuf>::new());
        scene.at().arg("check").run().status(0);
    }
    assert!(failed > 1, "{failed}");
    scene.stock_agrees();
}

/// A cache of somebody else.
#[test]
fn a_cache_without_rights() {
    let sandbox = Sandbox::new();
    let scene = Scene::new(&sandbox);
    if !rustix::process::geteuid().is_root() {
        for closed in [&scene.cache, &scene.index] {
            scene.reset();
            tree::chmod(closed, 0o500);
            let warned = scene.probe(0, "closed", &plainly);
            tree::chmod(closed, 0o700);
            assert_eq!(warned, Warned { most: 1, all: 4 });
        }
        return;
    }
    // The program where they reach it: a target folder may lie in a home that is
    // closed to others.
    let program = sandbox.path("tiroir");
    fs::copy(tiroir_tests::oracle::tiroir(), &program).expect("program");
    tree::chmod(&program, 0o755);
    tree::chmod(&sandbox.path(""), 0o777);
    chown(sandbox.path("tmp"), Some(NOBODY), Some(NOBODY)).expect("owner");
    let as_nobody = || {
        let id = NOBODY.to_string();
        let mut invocation = sandbox.program(&program);
        invocation.env("XDG_CACHE_HOME", sandbox.path("cache")).arg("at").arg(&scene.store);
        invocation.wrapped(["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"]);
        invocation
    };
    for case in 0..8 {
        scene.reset();
        let mode = if case < 4 { 0o755 } else { 0o700 };
        for path in [&scene.cache, &scene.index] {
            tree::chmod(path, mode);
        }
        let give = format!("chown -R {NOBODY}:{NOBODY} \"$0\"");
        let mut change = sandbox.program("sh");
        change.args(["-c", &give]).arg(&scene.store).run().status(0);
        change = sandbox.program("sh");
        change.args(["-c", &give]).arg(&scene.source).run().status(0);
        let before: Vec<Vec<u8>> =
            list(&scene.index).iter().map(|path| fs::read(path).expect("cache")).collect();
        let warned = scene.probe_after(0, case, "not ours", &as_nobody);
        assert_eq!(warned, Warned { most: 1, all: 4 });
        let after: Vec<Vec<u8>> =
            list(&scene.index).iter().map(|path| fs::read(path).expect("cache")).collect();
        assert!(before == after);
    }
}

/// A backup that waits, and all other commands at once, which bring the same
/// index up to date.
#[test]
fn shared_by_processes() {
    let sandbox = Sandbox::new();
    let scene = Scene::new(&sandbox);
    for round in 0..3 {
        scene.reset();
        if round == 1 {
            fs::remove_dir_all(&scene.cache).expect("cache");
        }
        let mut running = waiting(&scene, &[]);
        let start = |number| {
            let mut invocation = scene.at();
            match number % 3 {
                0 => invocation.args(["-json", "backup"]).arg(&scene.source),
                1 => invocation.arg("check"),
                _ => invocation.arg("ls"),
            };
            invocation.start()
        };
        for _ in 0..4 {
            let others: Vec<Running> = (0..6).map(start).collect();
            for other in others {
                let outcome = other.finish().status(0);
                assert_eq!(warnings(&outcome), 0, "{}", outcome.report());
            }
        }
        running.feed(b"the end");
        running.finish().status(0);
        let listing = scene.at().args(["ls", "-uuid"]).run().status(0);
        assert_eq!(identifiers(listing.text()).len(), scene.snapshots + 9);
        assert_eq!(scene.probe_after(9, round, "shared", &|| scene.at()), Warned::default());
    }
    scene.stock_agrees();
}

/// Processes killed while they bring the index up to date: the next goes on, one
/// that runs meanwhile too, and nothing is left behind.
#[test]
fn killed_while_it_changes() {
    let sandbox = Sandbox::new();
    let scene = Scene::new(&sandbox);
    let mut rng = Rng::new(11);
    for round in 0..40_usize {
        scene.reset();
        if !round.is_multiple_of(3) {
            fs::remove_dir_all(&scene.index).expect("cache");
        }
        let other = (round % 8 == 0).then(|| waiting(&scene, &[]));
        if other.is_some() {
            // So that there is something to be done for those to come.
            scene.at().arg("backup").arg(scene.source.join("d1")).run().status(0);
        }
        let taken = scene.snapshots + usize::from(other.is_some());
        let mut killed = scene.at().arg("ls").start();
        thread::sleep(Duration::from_micros(rng.below(30_000)));
        if killed.ended().is_none() {
            killed.signal(Signal::KILL);
        }
        drop(killed);
        let listing = scene.at().args(["ls", "-uuid"]).run().status(0);
        assert_eq!(warnings(&listing), 0, "{}", listing.report());
        assert_eq!(identifiers(listing.text()).len(), taken, "{}", listing.report());
        if let Some(mut other) = other {
            other.feed(b"the end");
            assert_eq!(warnings(&other.finish().status(0)), 0);
            scene.at().arg("ls").run().status(0);
        }
        let names: Vec<String> = list(&scene.index)
            .iter()
            .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
            .collect();
        assert!(names.len() <= 1 + 3 && names[0] == "index.sqlite", "{names:?}");
        assert!(names[1..].iter().all(|name| name.starts_with("run-")), "{names:?}");
        scene.at().arg("check").run().status(0);
    }
    scene.stock_agrees();
}

/// The same with a run that a power failure cut: it goes with the next command,
/// of whatever store.
#[test]
fn what_is_left_behind_goes() {
    let sandbox = Sandbox::new();
    let scene = Scene::new(&sandbox);
    let stray = scene.index.join("run-0123456789abcdef");
    fs::write(&stray, "cut").expect("cache");
    scene.at().arg("ls").run().status(0);
    assert!(!stray.exists());

    let other = sandbox.path("other");
    sandbox.at(&other).args(["create", "-plaintext"]).run().status(0);
    for name in ["run-0123456789abcdef", "index.sqlite-wal"] {
        fs::write(scene.index.join(name), "").expect("cache");
    }
    let old = sandbox.path("tmp/tiroir-index-0123456789abcdef");
    let new = sandbox.path("tmp/tiroir-index-fedcba9876543210");
    for path in [&old, &new] {
        fs::write(path, "").expect("temporary file");
    }
    let time = SystemTime::now() - Duration::from_secs(3600);
    let file = fs::File::open(&old).expect("temporary file");
    file.set_modified(time).expect("time");
    sandbox.at(&other).arg("ls").run().status(0);
    assert!(!stray.exists() && !old.exists() && new.exists());
    assert_eq!(list(&scene.index).len(), scene.files.len());
    assert_eq!(scene.probe(0, "tidied", &plainly), Warned::default());
}

#[test]
fn the_limit() {
    let sandbox = Sandbox::new();
    let scene = Scene::new(&sandbox);
    let size = |path: &Path| -> u64 {
        if !path.exists() {
            return 0;
        }
        list(path).iter().map(|path| fs::metadata(path).expect("cache").len()).sum()
    };
    let own = size(&scene.index);
    let other = sandbox.path("other");
    let cold = sandbox.path("cold");
    for store in [&other, &cold] {
        sandbox.at(store).args(["create", "-plaintext"]).run().status(0);
        sandbox.at(store).arg("backup").arg(&scene.source).run().status(0);
        sandbox.at(store).arg("ls").run().status(0);
    }
    assert_eq!(list(&scene.cache).len(), 3);
    let others = |scene: &Scene<'_>| -> Vec<PathBuf> {
        list(&scene.cache).into_iter().filter(|path| *path != scene.index).collect()
    };
    // The one that was not used for longest goes, and no more than must.
    let age = |path: &Path, secs| {
        let time = SystemTime::now() - Duration::from_secs(secs);
        fs::File::open(path).expect("cache").set_modified(time).expect("time");
    };
    let before = others(&scene);
    age(&before[0], 1000);
    age(&before[1], 2000);
    let room = format!("{}", own * 5 / 2);
    scene.at().args(["--cache-limit", &room, "ls"]).run().status(0);
    assert_eq!(others(&scene), before[..1]);

    // Not while it is used: ours, for the others.
    let mut running = waiting(&scene, &[]);
    let outcome = sandbox.at(&other).args(["--cache-limit", &own.to_string(), "ls"]).run();
    assert_eq!(warnings(&outcome.status(0)), 0);
    assert!(scene.index.join("index.sqlite").exists());
    running.feed(b"the end");
    running.finish().status(0);
    sandbox.at(&other).args(["--cache-limit", &own.to_string(), "ls"]).run().status(0);
    assert!(!scene.index.exists());

    // One that is too large alone is not kept, with one warning that says why.
    for _ in 0..2 {
        let little = (own / 2).to_string();
        let outcome = scene.at().args(["-cache-limit", &little, "check"]).run().status(0);
        assert_eq!(warnings(&outcome), 1, "{}", outcome.report());
        assert!(outcome.said("--cache-limit BYTES"), "{}", outcome.report());
        let left: u64 = list(&scene.cache).iter().map(|path| size(path)).sum();
        assert!(left <= own / 2, "{left}");
    }
    let outcome =
        scene.at().args(["-json", "-cache-limit", "0", "backup"]).arg(&scene.source).run();
    assert_eq!((warnings(&outcome), field(&outcome, "written_to_cache")), (0, 0));
    let outcome = scene.at().args(["-cache-limit", "1G", "ls"]).run().status(0);
    assert_eq!(warnings(&outcome), 0);
    assert!(scene.index.join("index.sqlite").exists());
    let outcome = scene.at().args(["-cache-limit", "some", "ls"]).run().status(USAGE);
    assert!(outcome.said("-cache-limit"), "{}", outcome.report());
    scene.stock_agrees();
}

/// Two stores that drive each other out of a cache that is too small for both,
/// again and again.
#[test]
fn two_stores_in_little_room() {
    let sandbox = Sandbox::new();
    let scene = Scene::new(&sandbox);
    let own: u64 =
        list(&scene.index).iter().map(|path| fs::metadata(path).expect("cache").len()).sum();
    let limit = (own * 3 / 2).to_string();
    let other = sandbox.path("other");
    sandbox.at(&other).args(["create", "-plaintext"]).run().status(0);
    let start = |store: &PathBuf, command: &str| {
        let mut invocation = sandbox.at(store);
        invocation.args(["-cache-limit", &limit, command]);
        if command == "backup" {
            invocation.arg(&scene.source);
        }
        invocation.start()
    };
    for _ in 0..15 {
        for commands in [["backup", "backup"], ["check", "backup"], ["ls", "check"]] {
            let both = [&scene.store, &other].into_iter().zip(commands);
            let both: Vec<Running> = both.map(|(store, command)| start(store, command)).collect();
            for running in both {
                assert_eq!(warnings(&running.finish().status(0)), 0);
            }
        }
    }
    let stock = sandbox.stock();
    for store in [&scene.store, &other] {
        stock.quiet_at(store).arg("check").run().status(0);
    }
}

/// What is written to the cache is in proportion to what is new.
#[test]
fn little_is_written() {
    let sandbox = Sandbox::new();
    let (source, store) = (sandbox.path("src"), sandbox.path("store"));
    make_source(&source, 1000);
    sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);
    let written = || {
        let mut backup = sandbox.at(&store);
        field(&backup.args(["-json", "backup"]).arg(&source).run().status(0), "written_to_cache")
    };
    let (first, second) = (written(), written());
    let size: u64 = list(&list(&sandbox.path("cache/tiroir"))[0])
        .iter()
        .map(|path| fs::metadata(path).expect("cache").len())
        .sum();
    // The database twice, for its log; what was made empty, once more.
    assert!((size..3 * size).contains(&(first + second)), "{first} and {second} for {size}");
    for _ in 0..8 {
        let unchanged = written();
        assert!((1..120_000).contains(&unchanged), "{unchanged}");
    }
    let mut ls = sandbox.at(&store);
    ls.arg("ls").run().status(0);
}

/// Copies of a store share one index: what one of them has, the others need not.
#[test]
fn copies_of_a_store_share_a_cache() {
    let sandbox = Sandbox::new();
    let (source, store, copy) = (sandbox.path("src"), sandbox.path("store"), sandbox.path("copy"));
    make_source(&source, 40);
    sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);
    sandbox.at(&store).arg("backup").arg(&source).run().status(0);
    store::copy(&store, &copy);
    for round in 0..3 {
        fs::write(source.join(format!("new{round}")), format!("{round}").repeat(9000))
            .expect("new");
        sandbox.at(&copy).arg("backup").arg(&source).run().status(0);
    }
    // The first lacks what was just stored in the other.
    sandbox.at(&store).arg("backup").arg(&source).run().status(0);
    for place in [&store, &copy] {
        sandbox.at(place).arg("check").run().status(0);
        // Stock mistakes one copy for the other too: each has a home of its own here.
        let judge = Sandbox::new();
        judge.stock().at(place).arg("check").run().status(0);
        let out = sandbox.path("out");
        sandbox.at(place).args(["restore", "-to"]).arg(&out).run().status(0);
        assert_same(&source, &out, Rules::EXACT);
        fs::remove_dir_all(&out).expect("what was restored");
    }
}
