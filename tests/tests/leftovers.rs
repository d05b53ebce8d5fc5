//! What runs that were cut off leave in a store: removed by a backup a week later,
//! on disks and servers, and nothing else is.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use tiroir_tests::sandbox::{Invocation, Sandbox};
use tiroir_tests::servers::ftp::{FtpServer, Kind as FtpKind, Tls};
use tiroir_tests::servers::ssh::{Kind as SshKind, Ssh};
use tiroir_tests::tree::touch;

const DAY: i64 = 86_400;

/// A file of that name and age in a store.
fn leave(store: &Path, name: &str, age_secs: i64) -> PathBuf {
    let path = store.join(name);
    fs::write(&path, b"half a packfile").expect("a file");
    // As the files of a server that becomes somebody else.
    if rustix::process::geteuid().is_root() {
        chown(&path, Some(65_534), Some(65_534)).expect("owner");
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    touch(&path, now.cast_signed() - age_secs, 0);
    path
}

/// Backs up by `run` into what lies at `store`, with things left over there.
fn tidies(what: &str, store: &Path, mut backup: impl FnMut() -> Invocation) {
    let gone =
        ["tmp.00000000000000aa", "packfiles/tmp.0123456789abcdef", "states/tmp.ffffffffffffffff"]
            .map(|name| leave(store, name, 9 * DAY));
    let mut stay =
        ["packfiles/tmp.letter", "tmp.0123456789ABCDEF", "packfiles/ab/tmp.00000000000000aa"]
            .map(|name| leave(store, name, 30 * DAY))
            .to_vec();
    stay.push(leave(store, "packfiles/tmp.0000000000000001", 5 * DAY));
    stay.push(leave(store, "states/tmp.0000000000000002", 0));
    // Only what is written to is tidied up.
    for path in &gone {
        assert!(path.exists());
    }
    backup().run().status(0);
    for path in gone {
        assert!(!path.exists(), "{what}: {}", path.display());
    }
    for path in stay {
        assert!(path.exists(), "{what}: {}", path.display());
    }
}

fn source(sandbox: &Sandbox) -> PathBuf {
    let source = sandbox.path("src");
    fs::create_dir(&source).expect("folder");
    fs::write(source.join("a"), b"a").expect("a file");
    source
}

#[test]
fn on_a_disk() {
    let sandbox = Sandbox::new();
    let (store, source) = (sandbox.path("store"), source(&sandbox));
    sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);
    let left = leave(&store, "packfiles/tmp.0000000000000003", 9 * DAY);
    for command in ["ls", "check", "info"] {
        sandbox.at(&store).arg(command).run().status(0);
        assert!(left.exists(), "{command}");
    }
    tidies("a disk", &store, || {
        let mut run = sandbox.at(&store);
        run.arg("backup").arg(&source);
        run
    });
    assert!(!left.exists());
}

#[test]
fn on_servers() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox);
    let ssh = Ssh::start(SshKind::OpenSsh, &sandbox.path("sshd"));
    let ftp = FtpServer::start(FtpKind::Proftpd, Tls::None, 20);
    let lists = FtpServer::start(FtpKind::Vsftpd, Tls::None, 20);
    let store = sandbox.path("store");
    for (location, store, options) in [
        (ssh.location(ssh.server.port, &store), store, ssh.options(ssh.server.port)),
        (format!("ftp://{}/store", ftp.location()), ftp.files().join("store"), Vec::new()),
        (format!("ftp://{}/store", lists.location()), lists.files().join("store"), Vec::new()),
    ] {
        let at = || {
            let mut run = sandbox.tiroir();
            for option in &options {
                run.arg("-store-option").arg(option);
            }
            run.arg("at").arg(&location);
            run
        };
        at().args(["create", "-plaintext"]).run().status(0);
        tidies(&location, &store, || {
            let mut run = at();
            run.arg("backup").arg(&source);
            run
        });
    }
}
