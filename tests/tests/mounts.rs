//! Disks that are not there: an empty mount point in place of a store or of what
//! is backed up. Mounts file systems, in a namespace of their own.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tiroir_tests::rng::Rng;
use tiroir_tests::sandbox::{Invocation, Outcome, Sandbox};
use tiroir_tests::store::{self, Kind};

/// The same in a namespace of mounts of its own, after a script in which `$D` is
/// the mount point, and `after` runs beside it in the end.
fn mounted(disk: &Path, script: &str, mut invocation: Invocation) -> Invocation {
    let script = format!("D='{}'; {script}", disk.display());
    let options = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    invocation.wrapped(["unshare", options, "sh", "-c", &script, "sh"]);
    invocation
}

/// Runs the command itself.
const RUN: &str = "exec \"$@\"";

/// Runs the command, and replaces the disk by an empty one once it has begun to
/// write to the store.
const PULL: &str = "\"$@\" & while test -z \"$(ls $S/packfiles | grep tmp)\"; do sleep 0.05; done; \
                    mount -t tmpfs y $D; wait $!";

/// Plugs the disk in.
const PLUG: &str = "mount -t tmpfs x $D";

fn failed(outcome: Outcome, words: &str) {
    let outcome = outcome.refused();
    assert!(outcome.said(words), "{}", outcome.report());
}

/// Nothing is made in an empty mount point, nor taken from it, where that is said.
#[test]
fn nothing_is_mounted() {
    let sandbox = Sandbox::new();
    let (disk, source) = (sandbox.path("disk"), sandbox.path("src"));
    for folder in [&disk, &source] {
        fs::create_dir(folder).expect("folder");
    }
    fs::write(source.join("a"), b"a").expect("a file");
    let store = disk.join("store");
    let here = format!("mount={}", disk.display());
    let create = |rule: &str| {
        let mut run = sandbox.tiroir();
        run.args(["-store-option", rule, "at"]).arg(&store).args(["create", "-plaintext"]);
        run
    };
    for rule in [&here, "mount=required"] {
        failed(create(rule).run(), "nothing is mounted there");
        assert!(!store.exists());
    }
    failed(create("mount=nas").run(), "mount");
    let script = format!("{PLUG}; {RUN}");
    for rule in [&here, "mount=required"] {
        mounted(&disk, &script, create(rule)).run().status(0);
    }
    // It was made on the disk, not in the place of it.
    assert!(!store.exists());

    // A store that was made in the empty place by mistake is not used either.
    create("mount=no").run().status(0);
    let mut backup = sandbox.tiroir();
    backup.args(["-store-option", &here, "at"]).arg(&store).arg("backup").arg(&source);
    failed(backup.run(), "nothing is mounted there");

    let store = sandbox.path("store");
    sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);
    let backup = |option: &str| {
        let mut run = sandbox.at(&store);
        run.args(["backup", "-o", option]).arg(&disk);
        run
    };
    failed(backup(&here).run(), "nothing is mounted there");
    assert!(store::of_kind(&store, Kind::State).is_empty());
    mounted(&disk, &script, backup(&here)).run().status(0);
    mounted(&disk, &script, backup("mount=required")).run().status(0);
}

/// Noise for some seconds, at the pace of a debug program.
fn noise(folder: &Path) {
    fs::create_dir_all(folder).expect("folder");
    fs::write(folder.join("noise"), Rng::new(3).bytes(64 << 20)).expect("a file");
}

/// The disk of the store goes while it is written to: no snapshot is told of.
#[test]
fn the_store_goes_away() {
    let sandbox = Sandbox::new();
    let (disk, source) = (sandbox.path("disk"), sandbox.path("src"));
    fs::create_dir(&disk).expect("folder");
    noise(&source);
    let store = disk.join("store");
    let made = sandbox.path("made");
    sandbox.at(&made).args(["create", "-plaintext"]).run().status(0);
    // Another disk with a store in the same place.
    let script = format!(
        "S=$D/store; {PLUG}; cp -a {made} $S; {}",
        PULL.replace("mount -t tmpfs y $D", "mount -t tmpfs y $D; cp -a \"$M\" $S"),
        made = made.display()
    );
    let script = format!("M='{}'; {script}", made.display());
    let mut backup = sandbox.at(&store);
    backup.arg("backup").arg(&source);
    let outcome = mounted(&disk, &script, backup).run();
    failed(outcome, "it is another one than was opened");
}

/// The disk that is backed up goes: there is no snapshot.
#[test]
fn the_source_goes_away() {
    let sandbox = Sandbox::new();
    let (disk, store) = (sandbox.path("disk"), sandbox.path("store"));
    fs::create_dir(&disk).expect("folder");
    let noise_at = sandbox.path("noise");
    noise(&noise_at);
    sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);
    let script =
        format!("S='{}'; {PLUG}; cp -a '{}' $D/n; {PULL}", store.display(), noise_at.display());
    let mut backup = sandbox.at(&store);
    backup.arg("backup").arg(&disk);
    let start = Instant::now();
    failed(mounted(&disk, &script, backup).run(), "it is another one than was opened");
    assert!(start.elapsed() < Duration::from_secs(120));
    assert!(store::of_kind(&store, Kind::State).is_empty());
    let listing = sandbox.at(&store).arg("ls").run().status(0);
    assert_eq!(listing.text(), "");
}
