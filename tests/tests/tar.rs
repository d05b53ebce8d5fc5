//! `restore -to tar:` and `archive`: what GNU tar and bsdtar extract is what was
//! backed up.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tiroir_tests::compare::{Rules, assert_same, differences};
use tiroir_tests::rng::Rng;
use tiroir_tests::sandbox::Sandbox;
use tiroir_tests::scene::identifiers;
use tiroir_tests::store::{Kind, of_kind};
use tiroir_tests::tree::{Shape, build};

/// A tree with all that a header of ustar has no room for.
fn source(sandbox: &Sandbox) -> PathBuf {
    let source = sandbox.path("src");
    build(&source, Shape { large: true, wide_and_deep: true, ..Shape::FULL }, 51);
    let long = source.join("d".repeat(120)).join("e".repeat(130));
    fs::create_dir_all(&long).expect("a deep directory");
    fs::write(long.join("f".repeat(200)), b"long").expect("a file");
    std::os::unix::fs::symlink("t".repeat(300), long.join("link")).expect("a link");
    let odd = OsStr::from_bytes(b"\xff\xfe odd\nname=");
    fs::write(source.join(odd), b"odd").expect("a file");
    fs::hard_link(source.join(odd), long.join(OsStr::from_bytes(b"\xe9t\xe9"))).expect("a link");
    source
}

/// A store with that tree in it, and the snapshot.
fn scene(sandbox: &Sandbox) -> (PathBuf, String) {
    let (store, source) = (sandbox.path("store"), source(sandbox));
    sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);
    sandbox.at(&store).arg("backup").arg(&source).run().status(0);
    let listing = sandbox.at(&store).args(["ls", "-uuid"]).run().status(0);
    let id = identifiers(listing.text())[0].clone();
    (store, format!("{id}:{}", source.display()))
}

/// Extracts an archive, and returns what was said.
fn extract(program: &str, options: &[&str], archive: &Path, into: &Path) -> String {
    fs::create_dir(into).expect("folder");
    let out = Command::new(program)
        .args(options)
        .arg("-xpf")
        .arg(archive)
        .arg("-C")
        .arg(into)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap_or_else(|error| panic!("{program} is not installed: {error}"));
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{program}: {said}");
    said
}

const GNU: &[&str] = &["--xattrs", "--xattrs-include=*", "--numeric-owner"];
const BSD: &[&str] = &["--xattrs", "--numeric-owner"];

/// Archives keep all but sockets and devices, of which the tree has none.
#[test]
fn both_extract_the_same_tree() {
    let sandbox = Sandbox::new();
    let (store, snapshot) = scene(&sandbox);
    let source = sandbox.path("src");
    let stream = sandbox.at(&store).args(["restore", "-to", "tar:"]).arg(&snapshot).run().status(0);
    let archive = sandbox.path("stream.tar");
    fs::write(&archive, &stream.stdout).expect("archive");
    assert_eq!(stream.stdout.len() % 10_240, 0);

    // It needs no word for names that are not UTF-8, and marvels at some times.
    let gnu = sandbox.path("gnu");
    let said = extract("tar", GNU, &archive, &gnu);
    assert!(
        said.lines().all(|line| line.contains("'hdrcharset'") || line.contains("time stamp")),
        "{said}"
    );
    assert_same(&source, &gnu, Rules::EXACT);

    // Into a file, with and without the path before all names.
    let whole = sandbox.path("whole.tar");
    let mut run = sandbox.at(&store);
    run.args(["archive", "-format", "tar", "-output"]).arg(&whole).arg(&snapshot);
    let told = run.run().status(0);
    assert!(told.said("archive completed without errors"), "{}", told.report());
    let gnu = sandbox.path("gnu-whole");
    extract("tar", GNU, &whole, &gnu);
    let below = source.strip_prefix("/").expect("absolute");
    assert_same(&source, &gnu.join(below), Rules::EXACT);
    // That one leaves the time of `.` alone, but not that of others.
    let bsd = sandbox.path("bsd");
    assert_eq!(extract("bsdtar", BSD, &whole, &bsd), "");
    let mut found = differences(&source, &bsd.join(below), Rules::EXACT);
    // It reads -1.5 as -1 and a half: the fraction of times before 1970 the wrong way.
    found.retain(|line| !line.contains(": time -"));
    assert!(found.is_empty(), "{found:?}");
    let bsd = sandbox.path("bsd-stream");
    assert_eq!(extract("bsdtar", BSD, &archive, &bsd), "");
    let mut run = sandbox.at(&store);
    run.args(["archive", "-rebase", "-output", "-"]).arg(&snapshot);
    assert!(run.run().status(0).stdout == stream.stdout, "both spellings are one");
}

/// Nothing of the snapshot is left but names and contents.
#[test]
fn permissions_are_left_out() {
    let sandbox = Sandbox::new();
    let (store, snapshot) = scene(&sandbox);
    let mut run = sandbox.at(&store);
    run.args(["restore", "-skip-permissions", "-to", "tar:"]).arg(&snapshot);
    let archive = sandbox.path("a.tar");
    fs::write(&archive, run.run().status(0).stdout).expect("archive");
    let listing = Command::new("tar").arg("-tvf").arg(&archive).output().expect("tar");
    assert!(listing.status.success());
    for line in String::from_utf8_lossy(&listing.stdout).lines() {
        assert!(
            ["drwxr-x---", "-rw-r-----", "hrw-r-----", "lrw-r-----", "prw-r-----"]
                .iter()
                .any(|mode| line.starts_with(mode)),
            "{line}"
        );
    }
}

/// A file of several chunks, of which the last is damaged, ends the archive.
#[test]
fn damage_ends_the_archive() {
    let sandbox = Sandbox::new();
    let (store, source) = (sandbox.path("store"), sandbox.path("src"));
    fs::create_dir(&source).expect("folder");
    fs::write(source.join("a"), b"whole").expect("a file");
    fs::write(source.join("b"), Rng::new(7).bytes(30 << 20)).expect("a file");
    fs::write(source.join("c"), b"behind").expect("a file");
    sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);
    sandbox.at(&store).arg("backup").arg(&source).run().status(0);
    let mut packfiles: Vec<_> =
        of_kind(&store, Kind::Packfile).into_iter().map(|resource| resource.path).collect();
    packfiles.sort_by_key(|path| fs::metadata(path).expect("a packfile").len());
    let largest = packfiles.last().expect("a packfile");
    let mut bytes = fs::read(largest).expect("a packfile");
    // Beyond all the first chunks, which have eight megabytes at most.
    let at = bytes.len() * 3 / 4;
    bytes[at] ^= 1;
    fs::write(largest, &bytes).expect("a packfile");

    let archive = sandbox.path("a.tar");
    let run = sandbox.at(&store).args(["restore", "-to", "tar:"]).run().status(65);
    assert!(run.said("The archive ends in the middle"), "{}", run.report());
    assert!(run.said("/b") || run.said("b:"), "{}", run.report());
    fs::write(&archive, &run.stdout).expect("archive");
    let read = Command::new("tar").arg("-tf").arg(&archive).output().expect("tar");
    assert!(!read.status.success(), "it looks whole");
    assert!(String::from_utf8_lossy(&read.stderr).contains("Unexpected EOF"));
    // Nothing that is wrong was written.
    let content = fs::read(source.join("b")).expect("a file");
    let start = run.stdout.windows(64).position(|window| *window == content[..64]);
    let written = &run.stdout[start.expect("the start of the file")..];
    assert!(written == &content[..written.len()]);

    // No file is left, nor the one that was there harmed.
    let whole = sandbox.path("b.tar");
    fs::write(&whole, b"an older one").expect("archive");
    sandbox.at(&store).args(["archive", "-output"]).arg(&whole).arg(":").run().status(65);
    assert_eq!(fs::read(&whole).expect("archive"), b"an older one");
    let left: Vec<_> = fs::read_dir(sandbox.path(".")).expect("folder").flatten().collect();
    assert!(!left.iter().any(|entry| entry.file_name().to_string_lossy().ends_with(".part")));
}

/// A reader that goes away is no failure.
#[test]
fn the_reader_goes_away() {
    let sandbox = Sandbox::new();
    let (store, snapshot) = scene(&sandbox);
    let line = "exec 3>&1; { \"$@\" 2>&4; echo $? >&3; } 4>\"$0\" | head -c 1000 >/dev/null";
    let stderr = sandbox.path("stderr");
    let mut run = sandbox.at(&store);
    run.args(["restore", "-to", "tar:"]).arg(&snapshot);
    run.wrapped([OsStr::new("sh"), OsStr::new("-c"), OsStr::new(line), stderr.as_os_str()]);
    let outcome = run.run();
    assert_eq!(outcome.text().trim(), "0", "{}", outcome.report());
    assert_eq!(fs::read(&stderr).expect("what was said"), b"");
}

/// What does not work is said.
#[test]
fn other_formats() {
    let sandbox = Sandbox::new();
    let (store, snapshot) = scene(&sandbox);
    for (format, words) in [("tarball", "| gzip"), ("zip", "there is no format zip")] {
        let mut run = sandbox.at(&store);
        let run = run.args(["archive", "-format", format]).arg(&snapshot).run().refused();
        assert!(run.said(words), "{}", run.report());
    }
    let mut run = sandbox.at(&store);
    let run = run.args(["restore", "-to", "tar:x.tar"]).arg(&snapshot).run().refused();
    assert!(run.said("archive -output"), "{}", run.report());
}
