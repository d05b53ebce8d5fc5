//! `tiroir bench`: what it tells can be read, by people and by programs; it changes
//! nothing, leaves nothing, and ends when it is told to.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tiroir_tests::sandbox::{Outcome, Sandbox};

const NO_TARGET: i32 = 69;
const INTERRUPTED: i32 = 130;

/// The folders that it might leave something in.
const FOLDERS: [&str; 4] = ["home", "tmp", "cache", "disk"];

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("disk")).expect("folder");
    sandbox
}

fn assert_nothing_left(sandbox: &Sandbox, outcome: &Outcome) {
    for folder in FOLDERS {
        let left = fs::read_dir(sandbox.path(folder)).expect("folder").count();
        assert_eq!(left, 0, "{left} files in {folder}\n{}", outcome.report());
    }
}

#[test]
fn a_table_in_the_smallest_memory() {
    let sandbox = sandbox();
    let disk = sandbox.path("disk");
    let outcome = sandbox.tiroir().args(["--memory", "24M", "bench"]).arg(&disk).run().status(0);
    assert_nothing_left(&sandbox, &outcome);
    for line in outcome.text().lines().filter(|line| !line.starts_with("The disk of")) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    for part in [
        "a backup would take 24 MiB here, on one core",
        "keyed BLAKE3",
        "HMAC-SHA256",
        "AES-256-GCM-SIV",
        "chacha20-poly1305",
        "write and sync",
        "Argon2id with",
        "  tiroir at STORE create",
        "Estimate, no more,",
    ] {
        assert!(outcome.text().contains(part), "no {part}\n{}", outcome.report());
    }
}

#[test]
fn lines_for_programs() {
    let sandbox = sandbox();
    // The folder for temporary files, when no other is named.
    let outcome = sandbox.tiroir().args(["-json", "--memory", "24M", "bench"]).run().status(0);
    assert_nothing_left(&sandbox, &outcome);
    let lines: Vec<Value> = outcome
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).collect::<Vec<_>>();
    let counts = ["machine", "part", "backup", "disk", "key", "advice"].map(|kind| of(kind).len());
    assert_eq!(counts, [1, 9, 7, 1, 1, 1]);
    for line in of("part").into_iter().chain(of("backup")) {
        assert!(line["bytes_per_second"].as_u64().is_some_and(|rate| rate > 0), "{line}");
    }
    let disk = of("disk")[0];
    assert_eq!(disk["path"].as_str().map(Path::new), Some(sandbox.path("tmp").as_path()));
    let tried = disk["tried_bytes"].as_u64().expect("bytes");
    assert!(tried > 0 && tried <= 64 << 20, "{disk}");
    assert!(disk["write_bytes_per_second"].as_u64().is_some_and(|rate| rate > 0), "{disk}");
    let advice = of("advice")[0];
    assert!(advice["estimated_hours_per_100_gb"].as_f64().is_some_and(|hours| hours > 0.0));
    // What is recommended is understood, and makes a store.
    let create = advice["create"].as_str().expect("a command");
    let words: Vec<&str> = create.split(' ').collect();
    let options = words.strip_prefix(&["tiroir", "at", "STORE", "create"][..]).expect("create");
    let store = sandbox.path("store");
    sandbox
        .at(&store)
        .passphrase(tiroir_tests::sandbox::PASSPHRASE)
        .arg("create")
        .args(options)
        .run()
        .status(0);
    let stock_reads = advice["stock_reads"].as_u64() == Some(1);
    assert_eq!(stock_reads, advice["cipher"] == "aes256-gcm-siv", "{advice}");
}

/// At once, wherever it is; and nothing is left.
#[test]
fn signals() {
    for (signal, millis) in
        [(Signal::INT, 50), (Signal::TERM, 700), (Signal::INT, 1500), (Signal::HUP, 3000)]
    {
        let sandbox = sandbox();
        let mut bench = sandbox.tiroir();
        bench.arg("bench").arg(sandbox.path("disk")).with_default_signals();
        let mut running = bench.start();
        std::thread::sleep(Duration::from_millis(millis));
        if running.ended().is_some() {
            // A fast machine: it was done by then.
            continue;
        }
        running.signal(signal);
        let outcome = running.finish();
        let code = outcome.code();
        // It may have ended in the moment between, or before it watched for signals.
        let is_early = millis <= 50 && code.is_none();
        assert!(is_early || matches!(code, Some(0 | INTERRUPTED)), "{}", outcome.report());
        assert_nothing_left(&sandbox, &outcome);
    }
}

#[test]
fn what_cannot_be_tried() {
    let sandbox = sandbox();
    let file = sandbox.path("file");
    fs::write(&file, "mine").expect("file");
    for place in [&sandbox.path("none"), &file] {
        let outcome = sandbox.tiroir().arg("bench").arg(place).run().status(NO_TARGET);
        assert!(outcome.stdout.is_empty() && outcome.said("no directory"), "{}", outcome.report());
    }
    assert_eq!(fs::read(&file).expect("file"), b"mine");
    let outcome = sandbox.tiroir().args(["--memory", "8M", "bench"]).run().refused();
    assert!(outcome.said("--memory"), "{}", outcome.report());
}
