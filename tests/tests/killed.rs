//! `kill -9` in the middle of a backup, into each kind of store: what was there stays
//! whole, what was reported is there, the next backup succeeds, and nothing that a
//! state tells of is stored again.
//!
//! What a kill cannot show is what the system had not written yet. For stores on a
//! disk and in a database the order of writing and syncing is looked at instead.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tiroir_core::mac::Mac;
use tiroir_core::wire::state::{PARENT_BYTES, Parsed, StateEntry};
use tiroir_tests::compare::{Rules, assert_same};
use tiroir_tests::rng::Rng;
use tiroir_tests::sandbox::{Invocation, Outcome, Sandbox};
use tiroir_tests::scene::identifiers;
use tiroir_tests::servers::ftp::{FtpServer, Kind as FtpKind, Tls};
use tiroir_tests::servers::s3::{Maker, S3Server};
use tiroir_tests::servers::ssh::{Kind as SshKind, Ssh};
use tiroir_tests::servers::tiroir::TiroirServer;
use tiroir_tests::store::{ENVELOPE_HEAD_BYTES, ENVELOPE_MAC_BYTES};
use tiroir_tests::tree::{Shape, build};

/// Backups that are killed, for each kind of store.
const ROUNDS: u64 = 6;

/// What is new in each, in bytes; it cannot be compressed.
const NEW_BYTES: usize = 10_000_000;

/// Version of states that begin with the name of another one.
const WITH_PARENT: u32 = 0x0001_0100;

/// Where a store lies, as a test looks into it.
enum Files {
    Folder(PathBuf),
    Database(PathBuf),
}

/// What a state says of a blob: its kind and name, and the packfile that it is in.
type Blob = (u8, [u8; 32]);

impl Files {
    /// The states, by name.
    fn states(&self) -> Vec<(String, Vec<u8>)> {
        match self {
            Self::Folder(folder) => below(&folder.join("states"))
                .into_iter()
                .map(|path| (name_of(&path), fs::read(&path).expect("a state")))
                .collect(),
            Self::Database(path) => {
                let rows = rusqlite::Connection::open(path).expect("a database");
                let mut rows = rows.prepare("SELECT hex(mac), data FROM states").expect("states");
                let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
                rows.expect("states").map(|row| row.expect("a state")).collect()
            }
        }
    }

    /// How many packfiles there are.
    fn packfiles(&self) -> i64 {
        match self {
            Self::Folder(folder) => below(&folder.join("packfiles")).len().try_into().expect("few"),
            Self::Database(path) => {
                let rows = rusqlite::Connection::open(path).expect("a database");
                rows.query_row("SELECT count(*) FROM packfiles", [], |row| row.get(0))
                    .expect("packfiles")
            }
        }
    }
}

/// The files of resources below a folder.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![folder.to_owned()];
    while let Some(folder) = left.pop() {
        // There is none in a bucket before something is in it.
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                left.push(path);
            } else if name_of(&path).len() == 64 {
                found.push(path);
            }
        }
    }
    found
}

fn name_of(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

/// The blobs that a state of a store without passphrase and compression tells of.
fn blobs(state: &[u8]) -> Vec<Blob> {
    let version = u32::from_le_bytes(state[12..16].try_into().expect("four bytes"));
    let mut rest = &state[ENVELOPE_HEAD_BYTES..state.len() - ENVELOPE_MAC_BYTES];
    if version >= WITH_PARENT {
        rest = &rest[PARENT_BYTES..];
    }
    let mut found = Vec::new();
    loop {
        match StateEntry::parse(rest, version >= WITH_PARENT).expect("a state") {
            Parsed::Entry(StateEntry::Metadata, length) => {
                assert_eq!(rest.len(), length, "something follows the end of a state");
                return found;
            }
            Parsed::Entry(entry, length) => {
                if let StateEntry::Location(kind, Mac(mac), _) = entry {
                    found.push((kind.0, mac));
                }
                rest = &rest[length..];
            }
            other => panic!("{other:?} in a state"),
        }
    }
}

/// A store, and how it is reached.
struct Place<'s> {
    sandbox: &'s Sandbox,
    location: String,
    options: Vec<String>,
    files: Files,
}

impl Place<'_> {
    fn at(&self) -> Invocation {
        let mut run = self.sandbox.tiroir();
        for option in &self.options {
            run.arg("-store-option").arg(option);
        }
        run.arg("at").arg(&self.location);
        run
    }

    /// Makes the store, such that its states can be looked into.
    fn created(self) -> Self {
        self.at().args(["create", "-plaintext", "-no-compression"]).run().status(0);
        self
    }

    fn ids(&self) -> Vec<String> {
        identifiers(self.at().args(["ls", "-uuid"]).run().status(0).text())
    }

    fn backup(&self, source: &Path) -> Invocation {
        let mut run = self.at();
        // The report is a line with the identifier.
        run.args(["-json", "backup"]).arg(source);
        run
    }

    fn is_whole(&self, id: &str, source: &Path, copy: &Path) {
        let target = self.sandbox.path("target");
        let snapshot = format!("{id}:{}", source.display());
        self.at().args(["restore", "-to"]).arg(&target).arg(snapshot).run().status(0);
        assert_same(copy, &target, Rules::EXACT);
        fs::remove_dir_all(target).expect("what was restored");
    }

    /// All of it: backups that are killed at moments that the seed gives.
    fn survives(&self, seed: u64) {
        let mut rng = Rng::new(seed);
        let (old, source) = (self.sandbox.path("old"), self.sandbox.path("src"));
        build(&old, Shape::PLAIN, seed);
        build(&source, Shape::PLAIN, seed + 1);
        self.at().arg("backup").arg(&old).run().status(0);
        let first = self.ids().remove(0);
        fs::write(source.join("new"), rng.bytes(NEW_BYTES)).expect("a file");
        let whole = self.backup(&source).run().status(0).elapsed;

        let mut interrupted = 0;
        for round in 0..ROUNDS {
            fs::write(source.join("new"), rng.bytes(NEW_BYTES)).expect("a file");
            let fraction = u32::try_from(rng.below(1100)).expect("a small number");
            // Or when a packfile has just got its name, and perhaps no state yet.
            let after = (round % 3 != 2).then(|| whole * fraction / 1000);
            let what = format!("seed {seed}, round {round}, killed after {after:?}");
            let before = self.ids();
            let outcome = self.killed(&source, after);
            interrupted += usize::from(outcome.code().is_none());
            self.is_as_told(&before, &outcome, &what);
            self.next_is_as_small_as_can_be(&source, &what);
            self.is_whole(&self.ids()[0], &source, &source);
        }
        assert!(interrupted > 1, "only {interrupted} of {ROUNDS} were killed");
        self.is_whole(&first, &old, &old);
    }

    /// A backup that is killed after a time, or when there is another packfile.
    fn killed(&self, source: &Path, after: Option<Duration>) -> Outcome {
        let packfiles = self.files.packfiles();
        let start = Instant::now();
        let mut running = self.backup(source).start();
        while running.ended().is_none() {
            let is_time = match after {
                Some(after) => start.elapsed() >= after,
                None => self.files.packfiles() > packfiles,
            };
            if is_time {
                running.signal(Signal::KILL);
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        running.finish()
    }

    /// Nothing is lost of what was there and of what was reported; there is nothing
    /// by half.
    fn is_as_told(&self, before: &[String], outcome: &Outcome, what: &str) {
        let after = self.ids();
        assert!(after.ends_with(before), "{what}: {before:?}, then {after:?}");
        assert!(after.len() <= before.len() + 1, "{what}: {after:?}");
        let reported = reported(outcome);
        assert!(reported.is_some() || outcome.code() != Some(0), "{}", outcome.report());
        if let Some(id) = reported {
            assert_eq!(after[0], id, "{what}: it was reported");
        }
        self.at().arg("check").run().status(0);
    }

    /// Another backup; it stores nothing that a state told of already.
    fn next_is_as_small_as_can_be(&self, source: &Path, what: &str) {
        let before = self.files.states();
        let mut known: BTreeSet<Blob> = before.iter().flat_map(|state| blobs(&state.1)).collect();
        assert!(!known.is_empty());
        self.backup(source).run().status(0);
        let names: BTreeSet<_> = before.into_iter().map(|state| state.0).collect();
        let mut states = self.files.states();
        states.retain(|state| !names.contains(&state.0));
        assert!(!states.is_empty(), "{what}: no state of the next backup");
        for blob in states.iter().flat_map(|state| blobs(&state.1)) {
            assert!(known.insert(blob), "{what}: stored twice: {} {:?}", blob.0, Mac(blob.1));
        }
    }
}

/// The snapshot that a backup said it has made.
fn reported(outcome: &Outcome) -> Option<String> {
    let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
    let values =
        text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    values.filter_map(|value| value["snapshot"].as_str().map(str::to_owned)).next_back()
}

#[test]
fn disk() {
    let sandbox = Sandbox::new();
    let path = sandbox.path("store");
    let location = path.display().to_string();
    let files = Files::Folder(path);
    Place { sandbox: &sandbox, location, options: Vec::new(), files }.created().survives(71);
}

#[test]
fn sqlite() {
    let sandbox = Sandbox::new();
    let path = sandbox.path("store.db");
    let location = format!("sqlite://{}", path.display());
    let files = Files::Database(path);
    Place { sandbox: &sandbox, location, options: Vec::new(), files }.created().survives(72);
}

#[test]
fn sftp() {
    let sandbox = Sandbox::new();
    let ssh = Ssh::start(SshKind::OpenSsh, &sandbox.path("ssh"));
    let (port, path) = (ssh.server.port, sandbox.path("store"));
    let location = ssh.location(port, &path);
    let files = Files::Folder(path);
    Place { sandbox: &sandbox, location, options: ssh.options(port), files }.created().survives(73);
}

#[test]
fn ftp() {
    let sandbox = Sandbox::new();
    let server = FtpServer::start(FtpKind::Proftpd, Tls::None, 40);
    let location = format!("ftp://{}store", server.location());
    let files = Files::Folder(server.files().join("store"));
    Place { sandbox: &sandbox, location, options: Vec::new(), files }.created().survives(74);
}

#[test]
fn s3() {
    let sandbox = Sandbox::new();
    let server = S3Server::start(Maker::Versity);
    let options = server.options().map(|(name, value)| format!("{name}={value}")).collect();
    let location = format!("s3://{}", server.address("bucket/store"));
    let files = Files::Folder(server.file("bucket/store"));
    Place { sandbox: &sandbox, location, options, files }.created().survives(75);
}

/// The client is killed; the server goes on.
#[test]
fn http() {
    let sandbox = Sandbox::new();
    let path = sandbox.path("store");
    // A server makes no stores: it is given one of the kind that is looked into.
    sandbox.at(&path).args(["create", "-plaintext", "-no-compression"]).run().status(0);
    let server = TiroirServer::start(&sandbox, &path, [""; 0]);
    let location = format!("http://127.0.0.1:{}", server.port);
    let files = Files::Folder(path);
    Place { sandbox: &sandbox, location, options: Vec::new(), files }.survives(76);
}

/// A call of the system, and the lines of the trace at which it began and ended.
struct Call {
    name: String,
    /// Files, as strace names them: what descriptors stand for, and paths.
    paths: Vec<String>,
    start: usize,
    end: usize,
}

/// What a backup does to files, in order.
fn traced(sandbox: &Sandbox, store: &str, source: &Path) -> Vec<Call> {
    let trace = sandbox.path("trace");
    let calls = "trace=write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat";
    let mut run = sandbox.at(store);
    run.arg("backup").arg(source);
    let shown = trace.to_str().expect("a path");
    run.wrapped(["strace", "-f", "-y", "-s", "0", "-e", calls, "-o", shown]).run().status(0);
    calls_of(&fs::read_to_string(trace).expect("a trace"))
}

fn calls_of(trace: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    // Calls that had not ended when another thread came in between.
    let mut open: Vec<(&str, usize)> = Vec::new();
    for (number, line) in trace.lines().enumerate() {
        let (thread, what) = line.split_once(' ').expect("a thread");
        let what = what.trim_start();
        let is_ended_now = what.starts_with("<... ");
        let index = if is_ended_now {
            let at = open.iter().position(|held| held.0 == thread).expect("a call that had begun");
            open.swap_remove(at).1
        } else {
            // Not a call: a signal, or the end of a thread.
            let Some((name, rest)) = what.split_once('(') else { continue };
            let paths = paths_of(rest);
            calls.push(Call { name: name.to_owned(), paths, start: number, end: usize::MAX });
            calls.len() - 1
        };
        if what.ends_with("<unfinished ...>") {
            open.push((thread, index));
            continue;
        }
        calls[index].end = number;
        assert!(!what.contains(") = -1 EIO"), "{line}");
    }
    calls
}

/// What is between `<` and `>` after a number, and in quotes.
fn paths_of(arguments: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = arguments;
    while let Some(at) = rest.find(['<', '"']) {
        let close = if rest[at..].starts_with('<') { '>' } else { '"' };
        let Some(length) = rest[at + 1..].find(close) else { break };
        found.push(rest[at + 1..at + 1 + length].to_owned());
        rest = &rest[at + length + 2..];
    }
    found
}

fn noise(sandbox: &Sandbox, store: &str) -> PathBuf {
    let source = sandbox.path("src");
    build(&source, Shape::PLAIN, 81);
    // More than one packfile of the usual length.
    fs::write(source.join("long"), Rng::new(82).bytes(80_000_000)).expect("a file");
    sandbox.at(store).args(["create", "-plaintext"]).run().status(0);
    source
}

/// Each file is synced before it gets its name and its directory after that; all of
/// that has happened to every packfile before a state gets its name.
#[test]
fn order_on_a_disk() {
    let sandbox = Sandbox::new();
    let store = sandbox.path("store");
    let source = noise(&sandbox, store.to_str().expect("a path"));
    let calls = traced(&sandbox, store.to_str().expect("a path"), &source);
    let is_sync = |call: &Call| ["fsync", "fdatasync"].contains(&call.name.as_str());
    let named: Vec<(&Call, PathBuf)> = calls
        .iter()
        .filter(|call| call.name.starts_with("rename"))
        .map(|call| (call, PathBuf::from(call.paths.last().expect("a path"))))
        .filter(|(_, path)| path.starts_with(&store))
        .collect();
    let of_kind = |kind: &str| -> Vec<_> {
        named.iter().filter(|(_, path)| path.starts_with(store.join(kind))).collect()
    };
    let (packfiles, states) = (of_kind("packfiles"), of_kind("states"));
    assert!(packfiles.len() >= 2 && !states.is_empty(), "{} names", named.len());
    // When the name of each lasts, by the line of the trace.
    let lasts = |(rename, path): &(&Call, PathBuf)| -> usize {
        let from = &rename.paths[rename.paths.len() - 2];
        let synced = calls.iter().filter(|call| is_sync(call) && call.paths.contains(from));
        let synced = synced.filter(|call| call.end < rename.start).map(|call| call.start).max();
        let synced = synced.unwrap_or_else(|| panic!("{from} was not synced before its name"));
        let mut writes = calls.iter().filter(|call| call.name.contains("write"));
        let late = writes.any(|call| call.paths.contains(from) && call.start > synced);
        assert!(!late, "{from} was written to after it was synced");
        let folder = path.parent().expect("a folder").display().to_string();
        let mut syncs = calls.iter().filter(|call| is_sync(call) && call.paths.contains(&folder));
        let sync = syncs.find(|call| call.start > rename.end);
        sync.unwrap_or_else(|| panic!("{folder} was not synced after {}", path.display())).end
    };
    let safe_from = packfiles.into_iter().map(lasts).max().expect("packfiles");
    for state in states {
        assert!(safe_from < state.0.start, "a state came before a packfile was safe");
        lasts(state);
    }
}

/// The log is synced after each commit, and before anything of it goes into the
/// database; that is synced before the log goes.
#[test]
fn order_in_a_database() {
    let sandbox = Sandbox::new();
    let path = sandbox.path("store.db").display().to_string();
    let store = format!("sqlite://{path}");
    let source = noise(&sandbox, &store);
    let calls = traced(&sandbox, &store, &source);
    let log = format!("{path}-wal");
    let (mut log_waits, mut base_waits, mut log_syncs) = (false, false, 0);
    for call in &calls {
        let (of_log, of_base) = (call.paths.contains(&log), call.paths.contains(&path));
        match call.name.as_str() {
            "pwrite64" | "write" if of_log => log_waits = true,
            "pwrite64" | "write" if of_base => {
                assert!(!log_waits, "the database was written to before the log was synced");
                base_waits = true;
            }
            "fsync" | "fdatasync" if of_log => {
                log_waits = false;
                log_syncs += 1;
            }
            "fsync" | "fdatasync" if of_base => base_waits = false,
            "unlink" | "unlinkat" if of_log => {
                assert!(!base_waits && !log_waits, "the log went before what was in it was safe");
            }
            _ => {}
        }
    }
    assert!(!log_waits && !base_waits, "something was not synced in the end");
    // Two packfiles, and the state, are commits of their own.
    assert!(log_syncs >= 3, "{log_syncs} times");
}
