//! The main job over each connector to objects, databases and servers of stores:
//! back up from it, into it, restore to it, in 24 MiB; and stock opens what lies
//! there.

use std::fs;
use std::path::Path;
use std::process::Command;

use tiroir_tests::compare::{Rules, assert_same, differences};
use tiroir_tests::http::free_port;
use tiroir_tests::oracle;
use tiroir_tests::sandbox::{Invocation, PASSPHRASE, Sandbox};
use tiroir_tests::scene::identifiers;
use tiroir_tests::servers::Server;
use tiroir_tests::servers::ftp::{FtpServer, Kind, Tls};
use tiroir_tests::servers::s3::{Maker, S3Server};
use tiroir_tests::store;
use tiroir_tests::tree::{Shape, build, regular_files};

/// A tree that everybody can keep.
fn source(sandbox: &Sandbox, seed: u64) -> std::path::PathBuf {
    let source = sandbox.path("src");
    let shape = Shape { large: true, wide_and_deep: true, ..Shape::PLAIN };
    build(&source, shape, seed);
    source
}

/// Objects keep names and contents.
const OBJECTS: Rules = Rules {
    mtime_ns_max: u64::MAX,
    xattrs: false,
    hard_links: false,
    special_files: false,
    owners: false,
};

/// Where a store is, and how it is reached.
struct Place {
    location: String,
    options: Vec<String>,
}

impl Place {
    fn at(&self, sandbox: &Sandbox) -> Invocation {
        let mut run = sandbox.tiroir();
        run.args(["-memory", "24M"]);
        for option in &self.options {
            run.arg("-store-option").arg(option);
        }
        run.arg("at").arg(&self.location).passphrase(PASSPHRASE);
        run
    }
}

/// Backs a tree up into the store, checks and restores, and returns the snapshot.
fn main_job(sandbox: &Sandbox, place: &Place, source: &Path) -> String {
    place.at(sandbox).args(["create", "-kdf-memory", "8M"]).run().status(0);
    let again = place.at(sandbox).arg("create").run().refused();
    assert!(again.said("there is a store at"), "{}", again.report());
    let peak = place.at(sandbox).arg("backup").arg(source).measure(&sandbox.path("stderr"));
    assert!(peak.status.success() && peak.resident_bytes <= 24 << 20, "{peak:?}");
    let second = place.at(sandbox).args(["-json", "backup"]).arg(source).run().status(0);
    let unchanged = format!("\"unchanged\":{},", regular_files(source));
    assert!(second.said(&unchanged), "{unchanged} {}", second.report());
    place.at(sandbox).arg("check").run().status(0);
    place.at(sandbox).arg("info").run().status(0);
    let listing = place.at(sandbox).args(["ls", "-uuid"]).run().status(0);
    let ids = identifiers(listing.text());
    assert_eq!(ids.len(), 2);
    let snapshot = format!("{}:{}", ids[0], source.display());
    let target = sandbox.path("target");
    place.at(sandbox).args(["restore", "-to"]).arg(&target).arg(&snapshot).run().status(0);
    assert_same(source, &target, Rules::EXACT);
    snapshot
}

/// Stock reads a store that lies in a directory.
fn stock_reads(sandbox: &Sandbox, store: &Path, snapshot: &str, source: &Path) {
    let stock = sandbox.stock();
    stock.quiet_at(store).passphrase(PASSPHRASE).arg("check").run().status(0);
    let theirs = sandbox.path("theirs");
    let mut restore = stock.quiet_at(store);
    restore.passphrase(PASSPHRASE).args(["restore", "-to"]).arg(&theirs).arg(snapshot);
    restore.run().status(0);
    assert_same(source, &theirs, Rules::STOCK);
}

#[test]
fn s3() {
    for maker in [Maker::Versity, Maker::VersityTls, Maker::Rclone] {
        let sandbox = Sandbox::new();
        let server = S3Server::start(maker);
        let source = source(&sandbox, 31);
        let options: Vec<String> =
            server.options().map(|(name, value)| format!("{name}={value}")).collect();
        let place = |path: &str| format!("s3://{}", server.address(path));
        let at = Place { location: place("stores/mine"), options: options.clone() };
        let snapshot = main_job(&sandbox, &at, &source);

        // To a bucket, and from it.
        let with = |mut run: Invocation, command: &str| {
            run.arg(command);
            for option in &options {
                run.arg("-o").arg(option);
            }
            run
        };
        let mut restore = with(at.at(&sandbox), "restore");
        restore.arg("-to").arg(place("files/a")).arg(&snapshot).run().status(0);
        with(at.at(&sandbox), "backup").arg(place("files/a")).run().status(0);
        let listing = at.at(&sandbox).args(["ls", "-uuid"]).run().status(0);
        let snapshot = format!("{}:/a", identifiers(listing.text())[0]);
        let back = sandbox.path("back");
        at.at(&sandbox).args(["restore", "-to"]).arg(&back).arg(&snapshot).run().status(0);
        let mut found = differences(&source, &back, OBJECTS);
        // No object has a mode that anybody asks for, and no directory is one.
        found.retain(|line| {
            !line.contains(": mode ") && !line.ends_with("empty: missing on the right")
        });
        assert!(found.is_empty(), "{found:?}");

        if maker == Maker::Rclone {
            // Objects are files there.
            let copy = sandbox.path("copy");
            store::copy(&server.file("stores/mine"), &copy);
            let ids = identifiers(at.at(&sandbox).args(["ls", "-uuid"]).run().status(0).text());
            let snapshot = format!("{}:{}", ids[2], source.display());
            stock_reads(&sandbox, &copy, &snapshot, &source);
        }
        // Keys are in no snapshot.
        let info = at.at(&sandbox).arg("info").arg(&ids_of(&at, &sandbox)[0]).run().status(0);
        assert!(!info.said("tiroir-secret"), "{}", info.report());
        assert!(info.said("secret_access_key=********"), "{}", info.report());
    }
}

fn ids_of(place: &Place, sandbox: &Sandbox) -> Vec<String> {
    identifiers(place.at(sandbox).args(["ls", "-uuid"]).run().status(0).text())
}

#[test]
fn sqlite() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox, 32);
    let database = sandbox.path("store.db");
    let place = Place { location: format!("sqlite://{}", database.display()), options: Vec::new() };
    let snapshot = main_job(&sandbox, &place, &source);
    // Stock's own connector is a plugin: what lies in its tables is unpacked.
    let copy = sandbox.path("copy");
    unpack(&database, &copy);
    stock_reads(&sandbox, &copy, &snapshot, &source);
    let truncated = fs::read(&database).expect("database");
    fs::write(&database, &truncated[..truncated.len() / 2]).expect("database");
    place.at(&sandbox).arg("check").run().refused();
}

/// Writes the rows of a database as the files of a store.
fn unpack(database: &Path, store: &Path) {
    let rows = rusqlite::Connection::open(database).expect("a database");
    fs::create_dir_all(store.join("locks")).expect("a store");
    let config: Vec<u8> =
        rows.query_row("SELECT value FROM configuration", [], |row| row.get(0)).expect("CONFIG");
    fs::write(store.join("CONFIG"), config).expect("CONFIG");
    for kind in ["packfiles", "states"] {
        for first in 0..=255 {
            fs::create_dir_all(store.join(kind).join(format!("{first:02x}"))).expect("a store");
        }
        let mut all = rows.prepare(&format!("SELECT mac, data FROM {kind}")).expect("a table");
        let mut all = all.query([]).expect("rows");
        while let Some(row) = all.next().expect("a row") {
            let (mac, data): (Vec<u8>, Vec<u8>) =
                (row.get(0).expect("a name"), row.get(1).expect("content"));
            let name: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
            fs::write(store.join(kind).join(&name[..2]).join(&name), data).expect("a resource");
        }
    }
}

/// A store on a disk, served by stock.
#[test]
fn http() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox, 33);
    let store = sandbox.path("store");
    sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);
    let port = free_port();
    let stock = sandbox.stock();
    let home = sandbox.path("s0");
    drop(stock);
    let mut command = Command::new(oracle::plakar());
    command.env_clear().env("HOME", &home).env("PATH", "/usr/bin:/bin");
    command.arg("at").arg(&store).args(["server", "-listen", &format!("127.0.0.1:{port}")]);
    command.arg("-allow-delete");
    let server = Server::start(&mut command, port);
    let location = format!("http://127.0.0.1:{port}");
    let at = || {
        let mut run = sandbox.tiroir();
        run.args(["-memory", "24M", "at", &location]);
        run
    };
    at().arg("backup").arg(&source).run().status(0);
    at().arg("check").run().status(0);
    let ids = identifiers(at().args(["ls", "-uuid"]).run().status(0).text());
    let target = sandbox.path("target");
    let snapshot = format!("{}:{}", ids[0], source.display());
    at().args(["restore", "-to"]).arg(&target).arg(&snapshot).run().status(0);
    assert_same(&source, &target, Rules::EXACT);
    drop(server);
    sandbox.at(&store).arg("check").run().status(0);
    let gone = at().arg("ls").run().refused();
    assert!(gone.said("Connection refused"), "{}", gone.report());
}

#[test]
fn ftp() {
    for (kind, tls) in [
        (Kind::Vsftpd, Tls::None),
        (Kind::Vsftpd, Tls::Explicit),
        (Kind::Proftpd, Tls::Explicit),
        (Kind::Proftpd, Tls::Implicit),
        (Kind::Pureftpd, Tls::Explicit),
    ] {
        let sandbox = Sandbox::new();
        let server = FtpServer::start(kind, tls, 20);
        // Reading here and there in a file is a connection each time, and new ones
        // take their time where TLS resumes nothing.
        let source = match kind {
            Kind::Vsftpd => source(&sandbox, 34),
            _ => {
                build(&sandbox.path("src"), Shape::PLAIN, 34);
                sandbox.path("src")
            }
        };
        let mut options = vec![format!("tls_ca={}", server.certificate().display())];
        if tls == Tls::Explicit {
            options.push("tls=explicit".into());
        }
        if tls == Tls::None {
            options.clear();
        }
        let scheme = if tls == Tls::Implicit { "ftps" } else { "ftp" };
        let place = |path: &str| format!("{scheme}://{}/{path}", server.location());
        let at = Place { location: place("a/store"), options: options.clone() };
        let snapshot = main_job(&sandbox, &at, &source);
        let with = |mut run: Invocation, command: &str| {
            run.arg(command);
            for option in &options {
                run.arg("-o").arg(option);
            }
            run
        };
        let mut restore = with(at.at(&sandbox), "restore");
        restore.arg("-to").arg(place("files")).arg(&snapshot).run().status(0);
        with(at.at(&sandbox), "backup").arg(place("files")).run().status(0);
        let snapshot = format!("{}:{}/files", ids_of(&at, &sandbox)[0], server.root());
        let back = sandbox.path("back");
        at.at(&sandbox).args(["restore", "-to"]).arg(&back).arg(&snapshot).run().status(0);
        let mut found = differences(&source, &back, OBJECTS);
        found.retain(|line| !line.contains(": mode "));
        assert!(found.is_empty(), "{kind:?} {tls:?}: {found:?}");
    }
}
