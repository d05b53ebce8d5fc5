//! Links that are lost for some seconds in the middle of the work, over a cable of
//! the test's own: pulled out, or such that everything vanishes on it.
//!
//! SFTP goes on where it was. S3 and FTP go on, or fail within their times, say why,
//! leave nothing by half, and succeed when run again.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tiroir_tests::compare::{Rules, differences};
use tiroir_tests::rng::Rng;
use tiroir_tests::sandbox::{Invocation, Outcome, Sandbox};
use tiroir_tests::scene::identifiers;
use tiroir_tests::servers::ftp::{FtpServer, Kind as FtpKind};
use tiroir_tests::servers::namespace::{Loss, Namespace};
use tiroir_tests::servers::s3::S3Server;
use tiroir_tests::servers::ssh::Ssh;
use tiroir_tests::tree::{Shape, build};

/// For how long the link is gone: longer than a connection may be silent, and than
/// one may take to be made.
const OUTAGE: Duration = Duration::from_secs(4);

/// Seconds that a server may be silent.
const TIMEOUT_SECS: u64 = 2;

/// What moves in a second, so that there is a middle.
const RATE: &str = "4000000";

/// Bytes of the one long file, which cannot be compressed.
const LONG_BYTES: usize = 12_000_000;

/// Bytes on the cable after which it is lost: in the long file.
const MIDDLE_BYTES: u64 = 5_000_000;

/// The longest that a command may take with an outage: what it takes without, the
/// outage, and what the attempts take that follow it.
const TIME_MAX: Duration = Duration::from_secs(40);

/// What every server keeps: names and contents.
const RULES: Rules = Rules {
    mtime_ns_max: u64::MAX,
    xattrs: false,
    hard_links: false,
    special_files: false,
    owners: false,
};

/// A server at the other end.
enum Server {
    Sftp(Ssh),
    S3(S3Server),
    Ftp(FtpServer),
}

/// What a test has: the cable is the last to go.
struct Scene {
    sandbox: Sandbox,
    server: Server,
    network: Namespace,
}

impl Scene {
    /// A server in a network of its own, a store here, and a tree.
    fn new(start: fn(&Sandbox, &Namespace) -> Server) -> Option<Self> {
        let network = Namespace::new()?;
        let sandbox = Sandbox::new();
        let server = start(&sandbox, &network);
        let source = sandbox.path("src");
        build(&source, Shape::PLAIN, 51);
        fs::write(source.join("long"), Rng::new(52).bytes(LONG_BYTES)).expect("a file");
        let scene = Self { sandbox, server, network };
        scene.here().args(["create", "-plaintext"]).run().status(0);
        Some(scene)
    }

    fn is_sftp(&self) -> bool {
        matches!(self.server, Server::Sftp(_))
    }

    fn source(&self) -> PathBuf {
        self.sandbox.path("src")
    }

    /// Where `name` is on the server.
    fn location(&self, name: &str) -> String {
        match &self.server {
            Server::Sftp(ssh) => ssh.location(ssh.server.port, &self.file(name)),
            Server::S3(server) => format!("s3://{}", server.address(&format!("bucket/{name}"))),
            Server::Ftp(server) => format!("ftp://{}{name}", server.location()),
        }
    }

    /// The same on this machine's disk.
    fn file(&self, name: &str) -> PathBuf {
        match &self.server {
            Server::Sftp(_) => self.sandbox.path(format!("there/{name}")),
            Server::S3(server) => server.file(&format!("bucket/{name}")),
            Server::Ftp(server) => server.files().join(name),
        }
    }

    /// Path of `name` in snapshots.
    fn path(&self, name: &str) -> String {
        match &self.server {
            Server::Sftp(_) => self.file(name).display().to_string(),
            Server::S3(_) => format!("/{name}"),
            Server::Ftp(server) => format!("{}/{name}", server.root()),
        }
    }

    fn options(&self) -> Vec<String> {
        let mut options = match &self.server {
            Server::Sftp(ssh) => ssh.options(ssh.server.port),
            Server::S3(server) => server
                .options()
                .filter(|(name, _)| *name != "timeout")
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            Server::Ftp(_) => Vec::new(),
        };
        options.push(format!("timeout={TIMEOUT_SECS}"));
        if !matches!(self.server, Server::S3(_)) {
            options.push(format!("connect_timeout={TIMEOUT_SECS}"));
        }
        if self.is_sftp() {
            options.push("retry=20".into());
        }
        options
    }

    /// The store here.
    fn here(&self) -> Invocation {
        self.limited().at(&self.sandbox.path("store"))
    }

    /// The store there.
    fn there(&self) -> Invocation {
        let mut run = self.limited();
        for option in self.options() {
            run.0.arg("-store-option").arg(option);
        }
        run.at(Path::new(&self.location("store")))
    }

    fn limited(&self) -> Limited {
        let mut run = self.sandbox.tiroir();
        run.args(["-limit-up", RATE, "-limit-down", RATE]);
        Limited(run)
    }

    /// A command and the options of a place on the server.
    fn with(&self, mut run: Invocation, command: &str) -> Invocation {
        run.arg(command);
        for option in self.options() {
            run.arg("-o").arg(option);
        }
        run
    }

    /// Runs it, and loses the link in the middle.
    fn during(&self, loss: Loss, run: &mut Invocation) -> Outcome {
        let before = self.network.moved_bytes();
        let mut running = run.start();
        let until = Instant::now() + TIME_MAX;
        while self.network.moved_bytes() - before < MIDDLE_BYTES {
            if running.ended().is_some() {
                panic!("it was over too soon: {}", running.finish().report());
            }
            assert!(Instant::now() < until, "it never came to the middle");
            thread::sleep(Duration::from_millis(5));
        }
        self.network.lose(loss);
        let lost = self.network.moved_bytes();
        assert!(running.ended().is_none(), "it was over before the link was lost");
        thread::sleep(OUTAGE);
        let is_over = running.ended().is_some();
        let meanwhile = self.network.moved_bytes() - lost;
        // What is sent to nobody is counted too: a window at most.
        assert!(meanwhile < LONG_BYTES as u64 / 2, "{meanwhile} bytes went over no link");
        self.network.restore(loss);
        let outcome = running.finish().sane();
        eprintln!("{loss:?}: {}", outcome.report());
        assert!(outcome.elapsed < TIME_MAX, "{}", outcome.report());
        if self.is_sftp() {
            assert!(!is_over, "it did not wait: {}", outcome.report());
            return outcome.status(0);
        }
        if outcome.code() != Some(0) {
            let said = |words: &str| outcome.said(words);
            let is_told = ["timed out", "did not answer in time", "nothing came", "No route"];
            assert!(is_told.into_iter().any(said), "not told why: {}", outcome.report());
        }
        outcome
    }

    fn ids(run: &mut Invocation) -> Vec<String> {
        identifiers(run.args(["ls", "-uuid"]).run().status(0).text())
    }

    /// Asserts that `path` of the newest snapshot is the source.
    fn newest_is_whole(&self, at: impl Fn() -> Invocation, path: &str) {
        let target = self.sandbox.path("target");
        let snapshot = format!("{}:{path}", Self::ids(&mut at())[0]);
        at().args(["restore", "-to"]).arg(&target).arg(snapshot).run().status(0);
        self.is_source(&target);
        fs::remove_dir_all(target).expect("what was restored");
    }

    fn is_source(&self, folder: &Path) {
        let found = self.differences(folder);
        assert!(found.is_empty(), "{found:?}");
    }

    /// What differs from the source; not modes, which S3 and some servers of FTP
    /// keep in their own way.
    fn differences(&self, folder: &Path) -> Vec<String> {
        let mut found = differences(&self.source(), folder, RULES);
        let is_s3 = matches!(self.server, Server::S3(_));
        found.retain(|line| {
            let is_kept = !line.contains(": mode ");
            // S3 has no directories.
            is_kept && !(is_s3 && line.ends_with("empty: missing on the right"))
        });
        found
    }
}

/// A command with limits of rate, whose store is still to come.
struct Limited(Invocation);

impl Limited {
    fn at(mut self, store: &Path) -> Invocation {
        self.0.arg("at").arg(store);
        self.0
    }
}

/// A backup of what lies on the server.
fn backup_from(start: fn(&Sandbox, &Namespace) -> Server, loss: Loss) {
    let Some(scene) = Scene::new(start) else { return };
    scene.here().arg("backup").arg(scene.source()).run().status(0);
    let mut restore = scene.with(scene.here(), "restore");
    let snapshot = format!(":{}", scene.source().display());
    restore.arg("-to").arg(scene.location("files")).arg(snapshot).run().status(0);

    let backup = || {
        let mut run = scene.with(scene.here(), "backup");
        run.arg(scene.location("files"));
        run
    };
    let before = Scene::ids(&mut scene.here());
    let outcome = scene.during(loss, &mut backup());
    scene.here().arg("check").run().status(0);
    if outcome.code() != Some(0) {
        // What could not be read is not there, and the rest says so or is not
        // there either.
        let after = Scene::ids(&mut scene.here());
        assert!(after.ends_with(&before), "{before:?} {after:?}");
        backup().run().status(0);
        scene.here().arg("check").run().status(0);
    }
    scene.newest_is_whole(|| scene.here(), &scene.path("files"));
}

/// A backup into a store on the server.
fn backup_into(start: fn(&Sandbox, &Namespace) -> Server, loss: Loss) {
    let Some(scene) = Scene::new(start) else { return };
    scene.there().args(["create", "-plaintext"]).run().status(0);
    let small = scene.sandbox.path("small");
    build(&small, Shape::PLAIN, 53);
    scene.there().arg("backup").arg(&small).run().status(0);
    let before = Scene::ids(&mut scene.there());
    let outcome = scene.during(loss, scene.there().arg("backup").arg(scene.source()));
    scene.there().arg("check").run().status(0);
    if outcome.code() != Some(0) {
        assert_eq!(Scene::ids(&mut scene.there()), before, "{}", outcome.report());
        scene.there().arg("backup").arg(scene.source()).run().status(0);
        scene.there().arg("check").run().status(0);
    }
    assert_eq!(Scene::ids(&mut scene.there()).len(), 2);
    scene.newest_is_whole(|| scene.there(), &scene.source().display().to_string());
}

/// A restore to the server.
fn restore_to(start: fn(&Sandbox, &Namespace) -> Server, loss: Loss) {
    let Some(scene) = Scene::new(start) else { return };
    scene.here().arg("backup").arg(scene.source()).run().status(0);
    let restore = || {
        let mut run = scene.with(scene.here(), "restore");
        run.arg("-to").arg(scene.location("files"));
        run.arg(format!(":{}", scene.source().display()));
        run
    };
    let outcome = scene.during(loss, &mut restore());
    if outcome.code() != Some(0) {
        // What has its name is whole; only what has none yet is more than that.
        let mut found = scene.differences(&scene.file("files"));
        found.retain(|line| !line.ends_with(": missing on the right") && !is_temporary(line));
        assert!(found.is_empty(), "{found:?} {}", outcome.report());
        restore().run().status(0);
    }
    let mut found = scene.differences(&scene.file("files"));
    if outcome.code() != Some(0) {
        found.retain(|line| !is_temporary(line));
    }
    assert!(found.is_empty(), "{found:?}");
}

/// Whether a difference is a file that had no name of its own yet.
fn is_temporary(line: &str) -> bool {
    line.contains(".tiroir-") && line.ends_with("only on the right")
}

fn sftp(sandbox: &Sandbox, network: &Namespace) -> Server {
    fs::create_dir(sandbox.path("there")).expect("folder of a server");
    Server::Sftp(Ssh::start_in(network, &sandbox.path("ssh")))
}

fn s3(_: &Sandbox, network: &Namespace) -> Server {
    Server::S3(S3Server::start_in(network))
}

fn ftp(_: &Sandbox, network: &Namespace) -> Server {
    Server::Ftp(FtpServer::start_in(network, FtpKind::Pureftpd))
}

/// A test for each way to lose the link.
macro_rules! outages {
    ($($name:ident: $job:ident($server:ident);)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn unplugged() {
                $job($server, Loss::Unplugged);
            }

            #[test]
            fn silent() {
                $job($server, Loss::Silent);
            }
        }
    )*};
}

outages! {
    backup_from_sftp: backup_from(sftp);
    backup_into_sftp: backup_into(sftp);
    restore_to_sftp: restore_to(sftp);
    backup_from_s3: backup_from(s3);
    backup_into_s3: backup_into(s3);
    restore_to_s3: restore_to(s3);
    backup_from_ftp: backup_from(ftp);
    backup_into_ftp: backup_into(ftp);
    restore_to_ftp: restore_to(ftp);
}
