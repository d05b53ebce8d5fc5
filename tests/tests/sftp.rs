//! SFTP, with real servers: as a source, as a destination and as a store.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tiroir_hosts::address::Address;
use tiroir_hosts::contract::{remote_files_contract, shared_store_contract, store_contract};
use tiroir_hosts::options::Options;
use tiroir_hosts::remote::patience::Patience;
use tiroir_hosts::remote::store::FilesStore;
use tiroir_hosts::sftp::SftpFiles;
use tiroir_hosts::sftp::ssh::Ssh as SshDial;
use tiroir_tests::compare::{Rules, assert_same};
use tiroir_tests::sandbox::{Invocation, PASSPHRASE, Sandbox};
use tiroir_tests::scene::identifiers;
use tiroir_tests::servers::proxy::Link;
use tiroir_tests::servers::ssh::{Kind, Ssh, keygen};
use tiroir_tests::store;
use tiroir_tests::tree::{Shape, build, regular_files, touch};

/// What SFTP carries: no attributes, no fifos, times in seconds, and every name
/// of a file as a file.
const RULES: Rules = Rules {
    mtime_ns_max: 1_000_000_000,
    xattrs: false,
    hard_links: false,
    special_files: false,
    owners: true,
};

fn shape() -> Shape {
    // Neither can be read over SFTP.
    Shape { fifo: false, xattrs: false, ..Shape::FULL }
}

/// Adds options for a store, a source or a destination.
fn with<'i>(run: &'i mut Invocation, name: &str, options: &[String]) -> &'i mut Invocation {
    for option in options {
        run.arg(name).arg(option);
    }
    run
}

/// `tiroir -memory 24M at STORE`, with the options of the server. Keys are derived
/// in a moment.
fn at(sandbox: &Sandbox, ssh: &Ssh, port: u16, store: &Path) -> Invocation {
    let mut run = sandbox.tiroir();
    run.args(["-memory", "24M"]);
    with(&mut run, "-store-option", &ssh.options(port));
    run.arg("at").arg(ssh.location(port, store)).passphrase(PASSPHRASE);
    run
}

fn kinds() -> [Kind; 2] {
    [Kind::OpenSsh, Kind::Dropbear]
}

/// The suites of every store connector, and of every protocol of servers with files.
#[test]
fn contract() {
    let sandbox = Sandbox::new();
    for kind in kinds() {
        let name = format!("{kind:?}");
        let ssh = Ssh::start(kind, &sandbox.path(&name));
        let port = ssh.server.port;
        let options = ssh.options(port);
        let pairs = options.iter().map(|option| option.split_once('=').expect("a pair"));
        let options: Options = pairs.collect();
        let files = || {
            let address = format!("root@127.0.0.1:{port}");
            let address = Address::parse(address.as_bytes()).expect("an address");
            let patience = Patience::default();
            let home = sandbox.path("home");
            let dial = SshDial::new(&address, &options, &home, patience.clone()).expect("a way");
            SftpFiles::new(Box::new(dial), patience)
        };
        let store = |number: String| {
            let root = sandbox.path(format!("{name}-stores/{number}"));
            FilesStore::new(Box::new(files()), root.as_os_str().as_encoded_bytes())
        };
        let mut number = 0;
        store_contract(|| {
            number += 1;
            store(number.to_string())
        });
        shared_store_contract(|number| store(format!("shared{number}")));
        let folder = sandbox.path(format!("{name}-files"));
        fs::create_dir(&folder).expect("folder");
        remote_files_contract(folder.as_os_str().as_encoded_bytes(), files);
    }
}

/// Back up from a server, into a store on it, and restore to it, in 24 MiB; stock
/// opens what lies in the store.
#[test]
fn main_job() {
    for kind in kinds() {
        let sandbox = Sandbox::new();
        let ssh = Ssh::start(kind, &sandbox.path("ssh"));
        let port = ssh.server.port;
        let (source, place) = (sandbox.path("src"), sandbox.path("a/b/store"));
        build(&source, shape(), 11);
        // SFTP has no times before 1970.
        touch(&source.join("wide/file 95"), 1_600_000_000, 0);
        at(&sandbox, &ssh, port, &place).args(["create", "-kdf-memory", "8M"]).run().status(0);
        let again = at(&sandbox, &ssh, port, &place).arg("create").run().refused();
        assert!(again.said("there is a store at sftp://"), "{}", again.report());

        let location = ssh.location(port, &source);
        let mut backup = at(&sandbox, &ssh, port, &place);
        with(backup.arg("backup"), "-o", &ssh.options(port));
        let peak = backup.arg(&location).measure(&sandbox.path("stderr"));
        assert!(peak.status.success(), "{peak:?}");
        assert!(peak.resident_bytes <= 24 << 20, "{peak:?}");
        let mut backup = at(&sandbox, &ssh, port, &place);
        with(backup.args(["-json", "backup"]), "-o", &ssh.options(port));
        let second = backup.arg(&location).run().status(0);
        let unchanged = format!("\"unchanged\":{},", regular_files(&source));
        assert!(second.said(&unchanged), "{unchanged} {}", second.report());
        at(&sandbox, &ssh, port, &place).arg("check").run().status(0);

        let listing = at(&sandbox, &ssh, port, &place).args(["ls", "-uuid"]).run().status(0);
        let ids = identifiers(listing.text());
        assert_eq!(ids.len(), 2);
        let snapshot = format!("{}:{}", ids[0], source.display());
        let target = sandbox.path("restored");
        let mut restore = at(&sandbox, &ssh, port, &place);
        with(restore.arg("restore"), "-o", &ssh.options(port));
        restore.arg("-to").arg(ssh.location(port, &target)).arg(&snapshot).run().status(0);
        assert_same(&source, &target, RULES);
        // Over what is there.
        let mut restore = at(&sandbox, &ssh, port, &place);
        with(restore.arg("restore"), "-o", &ssh.options(port));
        restore.arg("-to").arg(ssh.location(port, &target)).arg(&snapshot).run().status(0);
        assert_same(&source, &target, RULES);

        let copy = sandbox.path("copy");
        store::copy(&place, &copy);
        let stock = sandbox.stock();
        stock.quiet_at(&copy).passphrase(PASSPHRASE).arg("check").run().status(0);
        let theirs = sandbox.path("theirs");
        stock
            .quiet_at(&copy)
            .passphrase(PASSPHRASE)
            .args(["restore", "-to"])
            .arg(&theirs)
            .arg(&snapshot)
            .run()
            .status(0);
        assert_same(&source, &theirs, Rules { mtime_ns_max: 2_000_000_000, ..Rules::STOCK });
    }
}

/// Whichever connection lists a directory.
#[test]
fn what_is_ignored_is_left_out() {
    let sandbox = Sandbox::new();
    let ssh = Ssh::start(Kind::OpenSsh, &sandbox.path("ssh"));
    let (source, store) = (sandbox.path("src"), sandbox.path("store"));
    for number in 0..200 {
        let directory = source.join(format!("{number:03}"));
        fs::create_dir_all(directory.join("cache")).expect("directories");
        for name in ["kept", "dropped.bin", "cache/dropped"] {
            fs::write(directory.join(name), name).expect("a file");
        }
    }
    let at = || {
        let mut run = sandbox.at(&store);
        run.passphrase(PASSPHRASE);
        run
    };
    at().args(["create", "-kdf-memory", "8M"]).run().status(0);
    let mut backup = at();
    backup.args(["backup", "-ignore", "*.bin", "-ignore", "cache/", "-o", "connections=4"]);
    with(&mut backup, "-o", &ssh.options(ssh.server.port));
    backup.arg(ssh.location(ssh.server.port, &source)).run().status(0);
    let listing = at().args(["ls", "-uuid"]).run().status(0);
    let snapshot = identifiers(listing.text())[0].clone();
    let listing = at().args(["ls", "-recursive"]).arg(snapshot).run().status(0);
    let lines = |word: &str| listing.text().lines().filter(|line| line.contains(word)).count();
    assert_eq!((lines("/kept"), lines("dropped"), lines("cache")), (200, 0, 0));
}

/// The link breaks again and again, and everything comes through.
#[test]
fn links_that_break() {
    let sandbox = Sandbox::new();
    let ssh = Ssh::start(Kind::OpenSsh, &sandbox.path("ssh"));
    let (source, place) = (sandbox.path("src"), sandbox.path("store"));
    build(&source, shape(), 12);
    let link = Link::to(ssh.server.port);
    at(&sandbox, &ssh, link.port, &place).args(["create", "-kdf-memory", "8M"]).run().status(0);
    link.cut_after(5 << 20);
    at(&sandbox, &ssh, link.port, &place).arg("backup").arg(&source).run().status(0);
    assert!(link.cuts() >= 4, "{} cuts", link.cuts());
    let before = link.cuts();
    let target = sandbox.path("target");
    let run = at(&sandbox, &ssh, link.port, &place).args(["restore", "-to"]).arg(&target).run();
    let run = run.status(0);
    assert!(link.cuts() > before, "{}", run.report());
    link.cut_after(0);
    at(&sandbox, &ssh, link.port, &place).arg("check").run().status(0);
    assert_same(&source, &target, Rules { xattrs: false, special_files: false, ..Rules::EXACT });
}

/// No server is spoken to whose key is not known.
#[test]
fn keys_of_servers() {
    let sandbox = Sandbox::new();
    let ssh = Ssh::start(Kind::OpenSsh, &sandbox.path("ssh"));
    let port = ssh.server.port;
    let known = sandbox.path("home/.ssh/known_hosts");
    let key = format!("identity={}", ssh.key().display());
    let location = ssh.location(port, &sandbox.path("store"));
    let run = |args: &[&str]| {
        let mut run = sandbox.tiroir();
        run.args(["-store-option", &key, "at", &location]).args(args);
        run.run()
    };
    let unknown = run(&["create", "-plaintext"]).refused();
    assert!(unknown.said("its key is not known: SHA256:"), "{}", unknown.report());
    assert!(unknown.said("tiroir ssh-trust"), "{}", unknown.report());

    let host = format!("sftp://127.0.0.1:{port}");
    let trust = |args: &[&str]| sandbox.tiroir().arg("ssh-trust").args(args).arg(&host).run();
    let asked = trust(&[]).refused();
    assert!(asked.said("SHA256:"), "{}", asked.report());
    trust(&["-fingerprint", "SHA256:other"]).refused();
    assert!(!known.exists());
    let trusted = trust(&["-yes"]).status(0);
    assert!(trusted.said("trusted from now on"), "{}", trusted.report());
    assert!(trust(&["-yes"]).status(0).said("known already"));
    assert_eq!(fs::read_to_string(&known).expect("known hosts").lines().count(), 1);
    run(&["create", "-plaintext"]).status(0);

    // Hashed, as Debian has it.
    keygen(&["-q", "-H"], &known);
    run(&["ls"]).status(0);

    // Another key under the same name.
    let other = sandbox.path("other");
    keygen(&["-q", "-t", "ed25519", "-N", ""], &other);
    let other = fs::read_to_string(other.with_extension("pub")).expect("a key");
    fs::write(&known, format!("[127.0.0.1]:{port} {other}")).expect("known hosts");
    let changed = run(&["ls"]).refused();
    assert!(changed.said("ITS KEY HAS CHANGED"), "{}", changed.report());
    assert!(trust(&["-yes"]).refused().said("another key"));

    // One of an authority, and one that is revoked.
    let revoked = fs::read_to_string(sandbox.path("ssh/host_ed25519.pub")).expect("a key");
    fs::write(&known, format!("@revoked * {revoked}")).expect("known hosts");
    assert!(run(&["ls"]).refused().said("revoked"));
}

/// A server whose key an authority has signed.
#[test]
fn certificates_of_servers() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("ssh");
    fs::create_dir(&folder).expect("folder of a server");
    let authority = sandbox.path("authority");
    keygen(&["-q", "-t", "ed25519", "-N", ""], &authority);
    let ssh = Ssh::start_with(Kind::OpenSsh, &folder, |folder| {
        let sign = authority.to_str().expect("a path");
        let key = folder.join("host_ed25519.pub");
        let mut command = std::process::Command::new("ssh-keygen");
        command.args(["-q", "-s", sign, "-I", "host", "-h", "-n", "127.0.0.1"]).arg(key);
        assert!(command.status().expect("ssh-keygen").success());
        format!("HostCertificate {}/host_ed25519-cert.pub\n", folder.display())
    });
    let authority = fs::read_to_string(authority.with_extension("pub")).expect("a key");
    let known = sandbox.path("known");
    let location = ssh.location(ssh.server.port, &sandbox.path("store"));
    let run = |line: String| {
        fs::write(&known, line).expect("known hosts");
        let key = format!("identity={}", ssh.key().display());
        let known = format!("known_hosts={}", known.display());
        let options = ["-store-option", &key, "-store-option", &known];
        sandbox.tiroir().args(options).args(["at", &location, "info"]).run().refused()
    };
    // It gets as far as finding no store.
    let trusted = run(format!("@cert-authority [127.0.0.1]:* {authority}"));
    assert!(trusted.said("CONFIG"), "{}", trusted.report());
    let other = run(format!("@cert-authority [127.0.0.2]:* {authority}"));
    assert!(other.said("not known"), "{}", other.report());
}

/// What an error says when nobody is let in.
#[test]
fn logins_that_fail() {
    let sandbox = Sandbox::new();
    let ssh = Ssh::start(Kind::OpenSsh, &sandbox.path("ssh"));
    let port = ssh.server.port;
    let other = sandbox.path("other");
    keygen(&["-q", "-t", "ecdsa", "-N", ""], &other);
    let locked = sandbox.path("locked");
    keygen(&["-q", "-t", "ed25519", "-N", "a passphrase"], &locked);
    let run = |options: &[String]| {
        let mut run = sandbox.tiroir();
        let known = format!("known_hosts={}", ssh.known_hosts(port).display());
        with(&mut run, "-store-option", &[known]);
        with(&mut run, "-store-option", options);
        run.arg("at").arg(ssh.location(port, &sandbox.path("s"))).arg("ls").run().refused()
    };
    let identity = |path: &Path| format!("identity={}", path.display());
    let refused = run(&[identity(&other)]);
    assert!(refused.said("other: refused"), "{}", refused.report());
    let encrypted = run(&[identity(&locked)]);
    assert!(encrypted.said("it is encrypted"), "{}", encrypted.report());
    let absent = run(&[identity(&sandbox.path("absent"))]);
    assert!(absent.said("No such file"), "{}", absent.report());
    let nothing = run(&["password=hunter2".into()]);
    assert!(!nothing.said("hunter2"), "{}", nothing.report());
    assert!(nothing.said("may log in by publickey"), "{}", nothing.report());
    let unknown = run(&["passwort=hunter2".into()]);
    assert!(unknown.said("passwort") && !unknown.said("hunter2"), "{}", unknown.report());
    // A key with a passphrase, and one of another type, that are let in.
    for (key, passphrase) in [(&locked, Some("a passphrase")), (&other, None)] {
        let line = fs::read_to_string(key.with_extension("pub")).expect("a key");
        fs::write(sandbox.path("ssh/authorized_keys"), line).expect("authorized keys");
        let mut options = vec![identity(key)];
        options.extend(passphrase.map(|text| format!("identity_passphrase={text}")));
        let inside = run(&options);
        assert!(inside.said("CONFIG"), "{}", inside.report());
    }
    let nobody = sandbox.tiroir().args(["at", "sftp://root@127.0.0.1:1/x", "ls"]).run().refused();
    assert!(nobody.said("Connection refused"), "{}", nobody.report());
    let nowhere = sandbox.tiroir().args(["at", "sftp://nowhere.invalid/x", "ls"]).run().refused();
    assert!(nowhere.said("cannot be looked up"), "{}", nowhere.report());
}

/// OpenSSH's configuration says where a host is; over another host; and a command
/// leads there too.
#[test]
fn ways_to_a_server() {
    let sandbox = Sandbox::new();
    let ssh = Ssh::start(Kind::OpenSsh, &sandbox.path("ssh"));
    let (port, place) = (ssh.server.port, sandbox.path("store"));
    let folder = sandbox.path("home/.ssh");
    fs::create_dir_all(&folder).expect("folder of OpenSSH");
    let (key, known) = (ssh.key(), ssh.known_hosts(port));
    let common = format!(
        "  HostName 127.0.0.1\n  Port {port}\n  User root\n  IdentityFile {}\n  \
         UserKnownHostsFile {}\n",
        key.display(),
        known.display()
    );
    let text = format!("Host nas\n{common}Host behind\n{common}  ProxyJump nas\n");
    fs::write(folder.join("config"), text).expect("configuration of OpenSSH");
    let run = |host: &str, args: &[&str]| {
        let location = format!("sftp://{host}{}", place.display());
        sandbox.tiroir().arg("at").arg(location).args(args).run()
    };
    run("nas", &["create", "-plaintext"]).status(0);
    run("behind", &["ls"]).status(0);
    let server = "ssh_command=/usr/lib/openssh/sftp-server";
    let mut command = sandbox.tiroir();
    command.args(["-store-option", server, "at"]).arg(format!("sftp://any{}", place.display()));
    command.arg("info").run().status(0);
}

/// A server that is stopped does not stop us for ever, and a signal ends us soon.
#[test]
fn servers_that_hang() {
    let sandbox = Sandbox::new();
    let ssh = Ssh::start(Kind::OpenSsh, &sandbox.path("ssh"));
    let port = ssh.server.port;
    let place: PathBuf = sandbox.path("store");
    at(&sandbox, &ssh, port, &place).args(["create", "-plaintext"]).run().status(0);
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let silent = listener.local_addr().expect("its address").port();
    let run = |port: u16, options: &[&str]| {
        let mut run = sandbox.tiroir();
        for option in options {
            run.args(["-store-option", option]);
        }
        run.arg("at").arg(ssh.location(port, &place)).arg("ls");
        run
    };
    let hung = run(silent, &["connect_timeout=2"]).run().refused();
    assert!(hung.elapsed < Duration::from_secs(20), "{}", hung.report());
    assert!(hung.said("connect_timeout"), "{}", hung.report());
    let running = run(silent, &[]).with_default_signals().start();
    std::thread::sleep(Duration::from_millis(500));
    running.signal(rustix::process::Signal::INT);
    let stopped = running.finish();
    assert!(stopped.elapsed < Duration::from_secs(10), "{}", stopped.report());
}
