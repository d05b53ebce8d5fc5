//! The program of another machine, emulated: `scripts/qemu` runs this suite, with
//! `TIROIR_BIN` for a command that runs the program, and what else it needs.
//!
//! Nothing in a program fixes its clock or entropy: nobody could turn that on by
//! accident. The emulator is what is told so, by `tests/still/still.c`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tiroir_tests::compare::{Rules, assert_same};
use tiroir_tests::oracle;
use tiroir_tests::sandbox::{Invocation, PASSPHRASE, Sandbox};
use tiroir_tests::scene::identifiers;
use tiroir_tests::servers::s3::{Maker, S3Server};
use tiroir_tests::servers::ssh::{Kind, Ssh};
use tiroir_tests::tree::{Shape, build, regular_files};

/// An emulator is slow, and so is a busy machine.
const TIMEOUT: Duration = Duration::from_secs(900);

/// A file that `scripts/qemu` names in the environment.
fn named(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable);
    PathBuf::from(path.unwrap_or_else(|| panic!("{variable} is not set: see scripts/qemu")))
}

/// `tiroir at STORE` with options, in the smallest memory.
fn at(sandbox: &Sandbox, location: &str, options: &[String]) -> Invocation {
    let mut run = sandbox.tiroir();
    run.args(["-memory", "24M"]).timeout(TIMEOUT);
    for option in options {
        run.arg("-store-option").arg(option);
    }
    run.arg("at").arg(location).passphrase(PASSPHRASE);
    run
}

/// Backs a tree up twice, checks and restores; returns the newer snapshot.
fn main_job(sandbox: &Sandbox, location: &str, options: &[String], shape: Shape) -> String {
    let source = sandbox.path("src");
    build(&source, shape, 71);
    let at = || at(sandbox, location, options);
    at().args(["create", "-kdf-memory", "8M"]).run().status(0);
    at().arg("backup").arg(&source).run().status(0);
    let second = at().args(["-json", "backup"]).arg(&source).run().status(0);
    let unchanged = format!("\"unchanged\":{},", regular_files(&source));
    assert!(second.said(&unchanged), "{unchanged} {}", second.report());
    at().arg("check").run().status(0);
    let listing = at().args(["ls", "-uuid"]).run().status(0);
    let snapshot = format!("{}:{}", identifiers(listing.text())[0], source.display());
    let target = sandbox.path("target");
    at().args(["restore", "-to"]).arg(&target).arg(&snapshot).run().status(0);
    assert_same(&source, &target, Rules::EXACT);
    snapshot
}

/// An encrypted store on a disk, which stock reads.
#[test]
#[ignore = "scripts/qemu runs it"]
fn encrypted_store() {
    let sandbox = Sandbox::new();
    let store = sandbox.path("store");
    let location = store.to_str().expect("a short path").to_owned();
    let snapshot = main_job(&sandbox, &location, &[], Shape { large: true, ..Shape::FULL });
    let stock = sandbox.stock();
    stock.quiet_at(&store).passphrase(PASSPHRASE).arg("check").run().status(0);
    let theirs = sandbox.path("theirs");
    let mut restore = stock.quiet_at(&store);
    restore.passphrase(PASSPHRASE).args(["restore", "-to"]).arg(&theirs).arg(snapshot);
    restore.run().status(0);
    assert_same(&sandbox.path("src"), &theirs, Rules::STOCK);
}

/// Copies the tree `$1` to where nothing above it changes meanwhile, since snapshots
/// record that too, and makes archives of it: with the program `$3`, and so on.
/// They lie in the folder `$2` under their numbers, once as they are and once
/// encrypted.
const MAKE_ARCHIVES: &str = r#"
    mount -t tmpfs -o mode=755 none /mnt
    cp -a "$1" /mnt/tree
    touch -d @1600000000 /mnt
    cd "$2"
    shift 2
    number=0
    for program; do
        number=$((number + 1))
        for kind in plain encrypted; do
            options=-plaintext
            test $kind = plain || options="-kdf-memory 8M"
            LD_PRELOAD="$TIROIR_STILL" "$program" -memory 24M -concurrency 1 \
                ptar $options -o archive /mnt/tree
            mv archive $kind-$number
            rm -rf "$XDG_CACHE_HOME"
        done
    done
"#;

/// The same tree, keys and clock make the same archive on every machine, and stock
/// opens it. By one thread: which matches a compressor finds depends on what its
/// memory held before, and of several threads either may be first.
#[test]
#[ignore = "scripts/qemu runs it"]
fn archives_are_the_same_on_every_machine() {
    let (reference, still) = (named("TIROIR_REFERENCE"), named("TIROIR_STILL"));
    let sandbox = Sandbox::new();
    let source = sandbox.path("src");
    build(&source, Shape { large: true, ..Shape::FULL }, 72);
    let archives = sandbox.path("archives");
    fs::create_dir(&archives).expect("a folder");
    let mut run = sandbox.program("unshare");
    run.args(["-m", "sh", "-e", "-c", MAKE_ARCHIVES, "sh"]).arg(&source).arg(&archives);
    run.args([&reference, &reference, &oracle::tiroir()]);
    run.env("TIROIR_STILL", still).env("TIROIR_ARCHITECTURE", "any");
    run.env("XDG_CACHE_HOME", sandbox.path("cache"));
    run.passphrase(PASSPHRASE).timeout(TIMEOUT).run().status(0);
    for kind in ["plain", "encrypted"] {
        let read =
            |number: u32| fs::read(archives.join(format!("{kind}-{number}"))).expect("an archive");
        let [theirs, again, ours] = [1, 2, 3].map(read);
        assert!(theirs == again, "{kind}: the reference differs from itself");
        let first = ours.iter().zip(&theirs).position(|(one, other)| one != other);
        assert!(
            ours == theirs,
            "{kind}: {} and {} bytes, the first that differs: {first:?}",
            ours.len(),
            theirs.len()
        );
        let archive = sandbox.path(format!("{kind}.ptar"));
        fs::write(&archive, ours).expect("an archive");
        let stock = sandbox.stock();
        let mut check = stock.quiet_at(&archive);
        if kind == "encrypted" {
            check.passphrase(PASSPHRASE);
        }
        check.arg("check").run().status(0);
    }
}

/// A handshake of SSH, and files over it.
#[test]
#[ignore = "scripts/qemu runs it"]
fn sftp() {
    let sandbox = Sandbox::new();
    for kind in [Kind::OpenSsh, Kind::Dropbear] {
        let folder = sandbox.path(format!("{kind:?}"));
        let ssh = Ssh::start(kind, &folder);
        let port = ssh.server.port;
        let sandbox = Sandbox::new();
        let location = ssh.location(port, &sandbox.path("store"));
        main_job(&sandbox, &location, &ssh.options(port), Shape::FULL);
    }
}

/// A handshake of TLS, and objects over it.
#[test]
#[ignore = "scripts/qemu runs it"]
fn s3_over_tls() {
    let sandbox = Sandbox::new();
    let server = S3Server::start(Maker::VersityTls);
    let options: Vec<String> =
        server.options().map(|(name, value)| format!("{name}={value}")).collect();
    let location = format!("s3://{}", server.address("stores/mine"));
    main_job(&sandbox, &location, &options, Shape::FULL);
}
