//! What goes wrong in daily use: what is told, the exit status, and that
//! nothing is lost and nothing is left behind.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tiroir_tests::rng::Rng;
use tiroir_tests::sandbox::{Invocation, PASSPHRASE, Running, Sandbox};
use tiroir_tests::store;

const FAILED: i32 = 1;
const USAGE: i32 = 64;
const STORE_ABSENT: i32 = 66;
const TARGET_ABSENT: i32 = 69;
const PASSPHRASE_WRONG: i32 = 77;
const INTERRUPTED: i32 = 130;

/// A source of three files, of which one is large, and a plain store.
fn scene(sandbox: &Sandbox) -> (PathBuf, PathBuf) {
    let (source, store) = (sandbox.path("src"), sandbox.path("store"));
    fs::create_dir(&source).expect("source");
    fs::write(source.join("a"), "small").expect("source");
    fs::write(source.join("large"), Rng::new(1).bytes(400_000)).expect("source");
    fs::write(source.join("z"), "small too").expect("source");
    sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);
    (source, store)
}

/// Names of everything below a folder that may only be there for a while.
fn left_behind(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("folder") {
        let path = entry.expect("folder").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(left_behind(&path));
        } else if name.contains("tmp") || name.contains("tiroir-") {
            found.push(path);
        }
    }
    found
}

#[test]
fn what_was_typed_wrong_is_said_and_what_was_meant() {
    let sandbox = Sandbox::new();
    for (args, what) in [
        (&["bakup"][..], "tiroir: unknown command: bakup\nDid you mean `backup`?"),
        (&["help", "bakup"], "tiroir: unknown command: bakup\nDid you mean `backup`?"),
        (&["prune"], "Stock plakar has it"),
        (&["ls", "-recurisve"], "tiroir: unknown option: -recurisve\nDid you mean -recursive?"),
        (&["at", "", "ls"], "tiroir: no store after `at`"),
        (&["backup", ""], "tiroir: the path of the source is empty"),
        (&["restore", "-to", ""], "tiroir: the path of the target is empty"),
        (&["ls", "-before", "yesterday"], "not a time: a date"),
    ] {
        let outcome = sandbox.tiroir().args(args).run().status(USAGE);
        let told = String::from_utf8_lossy(&outcome.stderr);
        assert!(told.contains(what) && outcome.stdout.is_empty(), "{}", outcome.report());
    }
    let help = sandbox.tiroir().args(["ls", "-h"]).run().status(0);
    assert!(help.text().lines().all(|line| line.chars().count() <= 80), "{}", help.report());
    let (own, of_all) = help.text().split_once("Options of all commands:").expect("a heading");
    assert!(own.contains("-recursive") && of_all.contains("-memory"), "{}", help.report());
}

#[test]
fn what_is_no_store_is_said() {
    let sandbox = Sandbox::new();
    let (source, store) = scene(&sandbox);
    for (at, what) in [("src/a", "that file is neither"), ("src", "Is its disk mounted")] {
        let outcome = sandbox.at(sandbox.path(at)).arg("ls").run().status(STORE_ABSENT);
        assert!(outcome.said(what), "{}", outcome.report());
    }
    for (at, what) in [
        (store, "there is a store in"),
        (source.join("a"), "is a file"),
        (source.clone(), "is not empty"),
    ] {
        let outcome = sandbox.at(at).args(["create", "-plaintext"]).run().status(FAILED);
        assert!(outcome.said(what) && outcome.said("A new store needs"), "{}", outcome.report());
    }
}

/// Whoever gives an empty passphrase by mistake is told that it is empty.
#[test]
fn empty_passphrases() {
    let sandbox = Sandbox::new();
    let (store, file) = (sandbox.path("store"), sandbox.path("passphrase"));
    sandbox.at(&store).passphrase(PASSPHRASE).arg("create").run().status(0);
    for content in ["", "\n"] {
        fs::write(&file, content).expect("passphrase");
        let mut invocation = sandbox.at(&store);
        let outcome = invocation.arg("-keyfile").arg(&file).arg("ls").run();
        assert!(outcome.status(PASSPHRASE_WRONG).said("is empty"));
        let outcome = sandbox.at(&store).stdin(content).args(["-passphrase-fd", "0", "ls"]).run();
        assert!(outcome.status(PASSPHRASE_WRONG).said("is empty"));
    }
    fs::write(&file, format!("{PASSPHRASE}\r\n")).expect("passphrase");
    let outcome = sandbox.at(&store).arg("-keyfile").arg(&file).arg("ls").run();
    assert!(outcome.status(PASSPHRASE_WRONG).said("more than one line end"));
}

/// Where no more can be written, as on a full disk: every file larger than
/// 64 KiB fails.
fn cramped(mut invocation: Invocation) -> Invocation {
    invocation.wrapped(["sh", "-c", "trap '' XFSZ; ulimit -f 128; exec \"$0\" \"$@\""]);
    invocation
}

#[test]
fn where_no_more_can_be_written() {
    let sandbox = Sandbox::new();
    let (source, store) = scene(&sandbox);
    let mut backup = sandbox.at(&store);
    backup.arg("backup").arg(&source);
    let outcome = cramped(backup).run().status(FAILED);
    assert!(outcome.said("packfiles/tmp.") && outcome.said("FAT"), "{}", outcome.report());
    assert_eq!(left_behind(&store), Vec::<PathBuf>::new());
    assert_eq!(store::locks(&store), Vec::<PathBuf>::new());
    assert!(sandbox.at(&store).arg("ls").run().status(0).stdout.is_empty());
    // As before, when there is room again.
    sandbox.at(&store).arg("backup").arg(&source).run().status(0);
    sandbox.at(&store).arg("check").run().status(0);

    let out = sandbox.path("out");
    let mut restore = sandbox.at(&store);
    restore.args(["restore", "-to"]).arg(&out);
    cramped(restore).run().refused();
    assert!(!out.join("large").exists(), "half a file");
    assert_eq!(left_behind(&out), Vec::<PathBuf>::new());
    sandbox.at(&store).args(["restore", "-to"]).arg(&out).run().status(0);
    assert_eq!(fs::read(out.join("large")).expect("file").len(), 400_000);

    let archive = sandbox.path("x.ptar");
    let ptar = |options: &[&str]| {
        let mut ptar = sandbox.tiroir();
        ptar.args(["ptar", "-plaintext"]).args(options).arg("-o").arg(&archive).arg(&source);
        ptar
    };
    let outcome = cramped(ptar(&[])).run().status(FAILED);
    assert!(outcome.said("x.ptar"), "{}", outcome.report());
    assert!(!archive.exists());
    ptar(&[]).run().status(0);
    // The old one stays until the new one is whole.
    let before = fs::read(&archive).expect("archive");
    cramped(ptar(&["-overwrite"])).run().status(FAILED);
    assert_eq!(fs::read(&archive).expect("archive"), before);
    assert_eq!(left_behind(&sandbox.path("")), Vec::<PathBuf>::new());

    let mut absent = sandbox.at(&store);
    let outcome = absent.env("TMPDIR", sandbox.path("none")).arg("ls").run().status(TARGET_ABSENT);
    assert!(outcome.said("for temporary files"), "{}", outcome.report());
}

/// An archive takes the place of a file, and of nothing else.
#[test]
fn archives_replace_files_only() {
    let sandbox = Sandbox::new();
    let (source, _) = scene(&sandbox);
    let pipe = sandbox.path("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .expect("pipe");
    let (link, file) = (sandbox.path("link"), sandbox.path("file"));
    fs::write(&file, "content").expect("file");
    symlink(&file, &link).expect("link");
    for place in [&pipe, &link, &source] {
        let mut ptar = sandbox.tiroir();
        ptar.args(["ptar", "-plaintext", "-overwrite", "-o"]).arg(place).arg(&source);
        let outcome = ptar.run().status(FAILED);
        assert!(outcome.said("and is no file"), "{}", outcome.report());
    }
    assert!(pipe.metadata().expect("pipe").file_type().is_fifo());
    assert!(link.is_symlink() && fs::read(&file).expect("file") == b"content");
}

/// Waits until a backup that reads its standard input has taken its lock.
fn wait_for_lock(running: &mut Running, store: &Path) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while store::locks(store).is_empty() {
        assert!(running.ended().is_none() && Instant::now() < deadline, "no lock");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Each of the signals that end a program, a closed terminal's too: it says
/// so, gives back its lock, and leaves no temporary file.
#[test]
fn signals() {
    let sandbox = Sandbox::new();
    let (_, store) = scene(&sandbox);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        let mut backup = sandbox.at(&store);
        let mut running = backup.args(["backup", "stdin:dump"]).with_default_signals().start();
        wait_for_lock(&mut running, &store);
        running.signal(signal);
        running.feed(b"more");
        let outcome = running.finish().status(INTERRUPTED);
        assert!(outcome.said("No snapshot was made"), "{}", outcome.report());
        assert_eq!(store::locks(&store), Vec::<PathBuf>::new());
        assert_eq!(left_behind(&store), Vec::<PathBuf>::new());
    }
    assert!(sandbox.at(&store).arg("ls").run().status(0).stdout.is_empty());

    // Under `nohup`, a closed terminal is none of its business.
    let mut invocation = sandbox.at(&store);
    invocation.args(["backup", "stdin:dump"]);
    let mut running = invocation.wrapped(["sh", "-c", "trap '' HUP; exec \"$0\" \"$@\""]).start();
    wait_for_lock(&mut running, &store);
    running.signal(Signal::HUP);
    running.feed(b"more");
    running.finish().status(0);
}

/// Escape sequences in what is typed do not reach the terminal.
#[test]
fn messages_do_not_move_the_cursor() {
    let sandbox = Sandbox::new();
    let (source, store) = scene(&sandbox);
    let odd = "no\u{1b}[2J\nsuch";
    for args in [
        &["at", odd, "ls"][..],
        &[odd],
        &["ls", "-before", odd],
        &["at", "store", "ls", odd],
        &["at", "store", "backup", odd],
        &["at", "store", "backup", "-o", odd],
        &["at", "store", "restore", "-to", &format!("{odd}/x")],
        &["-keyfile", odd, "at", "fresh", "create"],
        &["help", odd],
        &["-spool", odd, "at", "store", "ls"],
    ] {
        let outcome = sandbox.tiroir().args(args).run().refused();
        assert!(!outcome.stderr.contains(&0x1b), "{}", outcome.report());
        assert!(
            outcome.said("no?[2J?such") || outcome.said("no snapshots"),
            "{}",
            outcome.report()
        );
    }
    sandbox.at(&store).args(["backup", "-ignore", odd]).arg(&source).run().status(0);
}

/// With `-json`, what keeps a command from being done is a line like the rest.
#[test]
fn failures_as_json() {
    let sandbox = Sandbox::new();
    let (source, store) = scene(&sandbox);
    let parse = |bytes: &[u8]| -> serde_json::Value {
        serde_json::from_slice(bytes).expect("one object on one line")
    };
    let outcome = sandbox.at(&store).args(["-json", "ls", "zz"]).run().status(FAILED);
    let line = parse(&outcome.stdout);
    assert_eq!((line["type"].as_str(), line["status"].as_i64()), (Some("error"), Some(1)));
    assert_eq!(line["error"], "no snapshot has prefix: zz");
    let outcome = sandbox.tiroir().args(["-json", "version"]).run().status(0);
    assert_eq!(parse(&outcome.stdout)["type"], "version");

    // Where standard output is the archive, they go to standard error. What
    // cannot be read here, not even root can.
    let unreadable = Path::new("/proc/self/clear_refs");
    let mut ptar = sandbox.tiroir();
    ptar.args(["-json", "ptar", "-plaintext", "-o", "-"]).arg(&source).arg(unreadable);
    let outcome = ptar.run().status(3);
    assert!(outcome.stderr.starts_with(b"{\"type\":\"failure\""), "{}", outcome.report());
    let archive = sandbox.path("x.ptar");
    fs::write(&archive, &outcome.stdout).expect("archive");
    sandbox.at(&archive).arg("check").run().status(0);
}

/// Help that cannot be written is no success.
#[test]
fn help_into_a_full_disk() {
    let sandbox = Sandbox::new();
    for option in ["--help", "help", "version"] {
        let mut invocation = sandbox.tiroir();
        invocation.arg(option);
        invocation.wrapped(["sh", "-c", "exec \"$0\" \"$@\" >/dev/full"]).run().status(FAILED);
    }
}
