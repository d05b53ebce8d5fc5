//! `--limit-up` and `--limit-down`, and the options of a place: how long four
//! megabytes take over SFTP, S3 and FTP, and that nothing else is slowed down.

use std::path::PathBuf;
use std::time::Duration;

use tiroir_tests::rng::Rng;
use tiroir_tests::sandbox::{Invocation, Sandbox};
use tiroir_tests::servers::ftp::{FtpServer, Kind as FtpKind, Tls};
use tiroir_tests::servers::s3::{Maker, S3Server};
use tiroir_tests::servers::ssh::{Kind as SshKind, Ssh};

/// Bytes that are backed up: they cannot be compressed.
const BYTES: usize = 4_000_000;

/// What is typed, with as many bytes in a second.
const LIMIT: &str = "1000000";

/// A second of the four may be saved up, or wait in a window of SSH; a busy machine
/// takes longer.
const LIMITED: std::ops::Range<Duration> = Duration::from_millis(3200)..Duration::from_secs(20);

/// What the same takes without a limit: much less than four seconds.
const FREE_MAX: Duration = Duration::from_secs(3);

/// A store on a server.
struct Place<'s> {
    sandbox: &'s Sandbox,
    location: String,
    options: Vec<String>,
}

impl Place<'_> {
    /// A command of ours, with `before` in front of it.
    fn run(&self, before: &[&str]) -> Invocation {
        let mut run = self.sandbox.tiroir();
        run.args(before);
        for option in &self.options {
            run.arg("-store-option").arg(option);
        }
        run.arg("at").arg(&self.location);
        run
    }

    /// Whether a backup and a restore take as long as they should.
    fn takes_its_time(&self) {
        let what = &self.location;
        self.run(&[]).args(["create", "-plaintext"]).run().status(0);
        let source = |seed: u64| -> PathBuf {
            let folder = self.sandbox.path(format!("src{seed}"));
            std::fs::create_dir(&folder).expect("folder");
            std::fs::write(folder.join("noise"), Rng::new(seed).bytes(BYTES)).expect("a file");
            folder
        };
        let backup = |before: &[&str], seed: u64| {
            self.run(before).arg("backup").arg(source(seed)).run().status(0).elapsed
        };
        // On a busy machine it may take more than one attempt.
        let quickest = |attempt: &mut dyn FnMut(u32) -> Duration| {
            (0..3).map(attempt).any(|taken| taken < FREE_MAX)
        };
        let mut free = |number| backup(&["-limit-down", LIMIT], 10 + u64::from(number));
        assert!(quickest(&mut free), "{what}: up, limited down only");
        let limited = backup(&["-limit-up", LIMIT], 2);
        assert!(LIMITED.contains(&limited), "{what}: up: {limited:?}");
        let limited = backup(&["-store-option", "limit_up=1000000"], 3);
        assert!(LIMITED.contains(&limited), "{what}: up, by an option: {limited:?}");

        let restore = |before: &[&str], number: u32| {
            let target = self.sandbox.path(format!("target{number}"));
            let restored = self.run(before).args(["restore", "-to"]).arg(&target).run();
            let restored = restored.status(0).elapsed;
            let same = std::fs::read(target.join("noise")).expect("what was restored");
            assert_eq!(same.len(), BYTES, "{what}");
            restored
        };
        let mut free = |number| restore(&["-limit-up", LIMIT], 10 + number);
        assert!(quickest(&mut free), "{what}: down, limited up only");
        let limited = restore(&["-limit-down", LIMIT], 2);
        assert!(LIMITED.contains(&limited), "{what}: down: {limited:?}");
        // Both hold: the lower one is felt.
        let limited = restore(&["-limit-down", "100M", "-store-option", "limit_down=1000000"], 3);
        assert!(LIMITED.contains(&limited), "{what}: down, by an option: {limited:?}");
    }
}

#[test]
fn sftp() {
    let sandbox = Sandbox::new();
    let ssh = Ssh::start(SshKind::OpenSsh, &sandbox.path("sshd"));
    let port = ssh.server.port;
    let location = ssh.location(port, &sandbox.path("store"));
    Place { sandbox: &sandbox, location, options: ssh.options(port) }.takes_its_time();
}

#[test]
fn s3() {
    let sandbox = Sandbox::new();
    let server = S3Server::start(Maker::VersityTls);
    let options = server.options().map(|(name, value)| format!("{name}={value}")).collect();
    let location = format!("s3://{}", server.address("stores/mine"));
    Place { sandbox: &sandbox, location, options }.takes_its_time();
}

#[test]
fn ftp() {
    let sandbox = Sandbox::new();
    let server = FtpServer::start(FtpKind::Vsftpd, Tls::None, 20);
    let location = format!("ftp://{}/store", server.location());
    Place { sandbox: &sandbox, location, options: Vec::new() }.takes_its_time();
}

#[test]
fn what_is_no_rate() {
    let sandbox = Sandbox::new();
    for (typed, words) in [("100", "less than 1K"), ("fast", "not a size")] {
        let refused = sandbox.tiroir().args(["-limit-up", typed, "version"]).run().refused();
        assert!(refused.said(words), "{}", refused.report());
    }
    let mut run = sandbox.tiroir();
    run.args(["-store-option", "limit_down=fast", "at", "sftp://127.0.0.1:1/x", "ls"]);
    let refused = run.run().refused();
    assert!(refused.said("limit_down"), "{}", refused.report());
}
