//! `tiroir server`: stock's clients and ours use it, and hostile ones do not hurt.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tiroir_core::host::{HostError as _, HostErrorKind};
use tiroir_core::mac::Mac;
use tiroir_core::store::{Store, StoreResource};
use tiroir_hosts::address::Address;
use tiroir_hosts::contract::store_contract;
use tiroir_hosts::error::Result;
use tiroir_hosts::fs::store::FsStore;
use tiroir_hosts::hand_on;
use tiroir_hosts::http::HttpStore;
use tiroir_hosts::options::Options;
use tiroir_tests::compare::{Rules, assert_same};
use tiroir_tests::sandbox::{Invocation, PASSPHRASE, Sandbox};
use tiroir_tests::scene::identifiers;
use tiroir_tests::servers::s3::certificate;
use tiroir_tests::servers::tiroir::TiroirServer;
use tiroir_tests::store::resources;
use tiroir_tests::tree::{Shape, build};

/// The least memory that tiroir takes.
const BUDGET_BYTES: u64 = 24 << 20;

const TOKEN: &str = "0123456789abcdef-secret";

/// A store with a passphrase, made by tiroir, and something to back up.
fn scene(sandbox: &Sandbox) -> (PathBuf, PathBuf) {
    let (store, source) = (sandbox.path("store"), sandbox.path("src"));
    let mut create = sandbox.at(&store);
    create.passphrase(PASSPHRASE).args(["create", "-kdf-memory", "8M"]).run().status(0);
    build(&source, Shape { large: true, wide_and_deep: true, ..Shape::PLAIN }, 11);
    (store, source)
}

fn url(server: &TiroirServer) -> String {
    format!("http://127.0.0.1:{}", server.port)
}

fn ours(sandbox: &Sandbox, url: &str) -> Invocation {
    let mut run = sandbox.tiroir();
    run.args(["-memory", "24M", "at", url]).passphrase(PASSPHRASE);
    run
}

/// Files of a store beside CONFIG: their number, and whether any is temporary.
fn files(store: &Path) -> (usize, bool) {
    let mut found = (0, false);
    let mut left = vec![store.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let entry = entry.expect("an entry");
            if entry.file_type().expect("its type").is_dir() {
                left.push(entry.path());
            } else if entry.file_name() != "CONFIG" {
                found.0 += 1;
                found.1 |= entry.file_name().to_string_lossy().starts_with("tmp.");
            }
        }
    }
    found
}

#[test]
fn stock_and_tiroir_share_it() {
    let sandbox = Sandbox::new();
    let (store, source) = scene(&sandbox);
    let server = TiroirServer::start(&sandbox, &store, [""; 0]);
    let url = url(&server);
    let stock = sandbox.stock();
    let theirs = |args: &[&str]| {
        let mut run = stock.quiet_at(&url);
        run.passphrase(PASSPHRASE).args(args);
        run
    };
    theirs(&["backup"]).arg(&source).run().status(0);
    theirs(&["check"]).run().status(0);
    let ids = identifiers(theirs(&["ls", "-uuid"]).run().status(0).text());
    assert_eq!(ids.len(), 1);
    let back = sandbox.path("stock-back");
    let snapshot = format!("{}:{}", ids[0], source.display());
    theirs(&["restore", "-to"]).arg(&back).arg(&snapshot).run().status(0);
    assert_same(&source, &back, Rules::STOCK);

    ours(&sandbox, &url).arg("backup").arg(&source).run().status(0);
    ours(&sandbox, &url).arg("check").run().status(0);
    let ids = identifiers(ours(&sandbox, &url).args(["ls", "-uuid"]).run().status(0).text());
    assert_eq!(ids.len(), 2);
    let snapshot = format!("{}:{}", ids[0], source.display());
    let back = sandbox.path("back");
    ours(&sandbox, &url).args(["restore", "-to"]).arg(&back).arg(&snapshot).run().status(0);
    assert_same(&source, &back, Rules::EXACT);
    theirs(&["check"]).run().status(0);
    // The store below is whole, as whoever has it at hand sees it.
    let mut check = sandbox.at(&store);
    check.passphrase(PASSPHRASE).arg("check").run().status(0);
    assert!(!files(&store).1);
    assert!(server.peak_bytes() <= BUDGET_BYTES, "{}", server.peak_bytes());
    server.stop(Signal::TERM).status(0);
}

/// Stock says that it made a store, and has made none: its client of this protocol
/// does nothing there. Nothing is changed.
#[test]
fn stock_creates_nothing() {
    let sandbox = Sandbox::new();
    let (store, _) = scene(&sandbox);
    let server = TiroirServer::start(&sandbox, &store, ["-allow-delete"]);
    let before = fs::read(store.join("CONFIG")).expect("CONFIG");
    sandbox.stock().quiet_at(url(&server)).args(["create", "-plaintext"]).run().sane();
    assert_eq!(fs::read(store.join("CONFIG")).expect("CONFIG"), before);
    let create = ours(&sandbox, &url(&server)).arg("create").run().refused();
    assert!(create.said("there is a store at"), "{}", create.report());
    server.stop(Signal::INT).status(0);
}

/// Stock's `rm` marks snapshots by writing a state, which is no removal; files are
/// removed when that is allowed, and only then.
#[test]
fn what_may_be_removed() {
    let sandbox = Sandbox::new();
    let (store, source) = scene(&sandbox);
    let mut backup = sandbox.at(&store);
    backup.passphrase(PASSPHRASE).arg("backup").arg(&source).run().status(0);
    let held = || {
        let resources = resources(&store);
        resources.iter().map(|resource| resource.name()).collect::<BTreeSet<_>>()
    };
    let before = held();
    let server = TiroirServer::start(&sandbox, &store, [""; 0]);
    let stock = sandbox.stock();
    let theirs = |args: &[&str]| {
        let mut run = stock.quiet_at(url(&server));
        run.passphrase(PASSPHRASE).args(args).run()
    };
    let ids = identifiers(theirs(&["ls", "-uuid"]).status(0).text());
    theirs(&["rm", "-apply", &ids[0]]).status(0);
    assert!(identifiers(theirs(&["ls", "-uuid"]).status(0).text()).is_empty());
    assert!(before.is_subset(&held()));

    let mut ours = client(server.port, None);
    let mut names = Vec::new();
    let mut each = |name| {
        names.push(name);
        ControlFlow::Continue(())
    };
    ours.list(StoreResource::Packfile, &mut each).expect("names");
    for name in &names {
        let error = ours.delete(StoreResource::Packfile, name).expect_err("not allowed");
        assert_eq!(error.kind(), HostErrorKind::PermissionDenied, "{error}");
    }
    assert!(before.is_subset(&held()) && !names.is_empty());
    server.stop(Signal::TERM).status(0);

    let server = TiroirServer::start(&sandbox, &store, ["-allow-delete"]);
    let mut ours = client(server.port, None);
    for name in &names {
        ours.delete(StoreResource::Packfile, name).expect("allowed");
    }
    let left = held();
    assert!(names.iter().all(|name| !left.contains(&name.to_string())));
    server.stop(Signal::TERM).status(0);
}

/// A client of ours; with a certificate, over TLS and with the token.
fn client(port: u16, certificate: Option<&Path>) -> HttpStore {
    let address = Address::parse(format!("127.0.0.1:{port}").as_bytes()).expect("an address");
    let mut options: Options = [("timeout", "20")].into_iter().collect();
    if let Some(certificate) = certificate {
        options.set("tls_ca", certificate.to_str().expect("a path"));
        options.set("auth_token", TOKEN);
    }
    let is_tls = certificate.is_some();
    HttpStore::open(&address, is_tls, &options, std::env::temp_dir()).expect("options")
}

/// A store behind TLS and a token. It is made behind the server's back.
struct Served {
    sandbox: Sandbox,
    server: Option<TiroirServer>,
    client: HttpStore,
}

fn tls_arguments(sandbox: &Sandbox) -> [String; 6] {
    let token = sandbox.path("token");
    fs::write(&token, format!("{TOKEN}\n")).expect("a file");
    let (certificate, key) = certificate(&sandbox.path(""));
    let shown = |path: &Path| path.display().to_string();
    [
        "-cert".into(),
        shown(&certificate),
        "-key".into(),
        shown(&key),
        "-token-file".into(),
        shown(&token),
    ]
}

impl Served {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let client = client(1, None);
        Self { sandbox, server: None, client }
    }
}

impl Store for Served {
    type Error = tiroir_hosts::error::HostsError;

    hand_on!(client);

    fn read_config(&mut self, into: &mut [u8]) -> Result<usize> {
        if self.server.is_none() {
            return FsStore::new(self.sandbox.path("store")).read_config(into);
        }
        self.client.read_config(into)
    }

    fn create(&mut self, bytes: &[u8]) -> Result<()> {
        let store = self.sandbox.path("store");
        FsStore::new(&store).create(bytes)?;
        let mut args = tls_arguments(&self.sandbox).to_vec();
        args.push("-allow-delete".into());
        let server = TiroirServer::start(&self.sandbox, &store, args);
        self.client = client(server.port, Some(&self.sandbox.path("cert.pem")));
        self.server = Some(server);
        Ok(())
    }
}

#[test]
fn with_tls_and_a_token_it_keeps_the_contract() {
    store_contract(Served::new);
}

#[test]
fn stock_comes_with_tls_and_a_token() {
    let sandbox = Sandbox::new();
    let (store, source) = scene(&sandbox);
    let server = TiroirServer::start(&sandbox, &store, tls_arguments(&sandbox));
    let url = format!("https://127.0.0.1:{}", server.port);
    let stock = sandbox.stock();
    stock
        .plakar()
        .args(["store", "add", "mine", &url])
        .arg(format!("auth_token={TOKEN}"))
        .run()
        .status(0);
    let run = |place: &str| {
        let mut run = stock.plakar();
        run.args(["-quiet", "at", place]).passphrase(PASSPHRASE);
        run
    };
    run("@mine").arg("backup").arg(&source).run().status(0);
    run("@mine").arg("check").run().status(0);
    let refused = run(&url).arg("ls").run().refused();
    assert!(refused.said("token"), "{}", refused.report());
    // And ours.
    let mut ls = sandbox.tiroir();
    ls.arg("-store-option").arg(format!("auth_token={TOKEN}"));
    ls.arg("-store-option").arg(format!("tls_ca={}", sandbox.path("cert.pem").display()));
    ls.args(["at", &url]).passphrase(PASSPHRASE);
    assert_eq!(identifiers(ls.args(["ls", "-uuid"]).run().status(0).text()).len(), 1);
    let ended = server.stop(Signal::TERM).status(0);
    assert!(ended.said("refused a client without the token") && !ended.said(TOKEN));
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time limit");
    stream
}

/// Two hundred clients that say nothing, too little or too much, uploads in between
/// that are cut, and somebody who wants to work.
#[test]
fn hostile_clients_change_nothing() {
    let sandbox = Sandbox::new();
    let (store, source) = scene(&sandbox);
    let server = TiroirServer::start(&sandbox, &store, [""; 0]);
    let path = |number: u8| format!("/resources/packfiles/{}", format!("{number:02x}").repeat(32));
    let mut clients = Vec::new();
    for number in 0..200u8 {
        let mut client = connect(server.port);
        let put = format!("PUT {} HTTP/1.1\r\nHost: x\r\n", path(number));
        let text = match number % 8 {
            0 => String::new(),
            1 => "GET /../../CONFIG HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            2 => format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(60_000)),
            3 => format!("{put}Content-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            4 => format!("{put}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc"),
            5 => format!("{put}Content-Length: 18446744073709551615\r\n\r\nabc"),
            6 => format!("{put}Content-Length: 1000000\r\n\r\n{}", "x".repeat(30_000)),
            _ => "\0\r\n\r\n\r\n".to_owned(),
        };
        // Some are refused before they have sent everything.
        let _ = client.write_all(text.as_bytes());
        if number % 16 >= 8 {
            let _ = client.shutdown(Shutdown::Write);
        }
        clients.push(client);
    }
    let start = Instant::now();
    ours(&sandbox, &url(&server)).arg("backup").arg(&source).run().status(0);
    ours(&sandbox, &url(&server)).arg("check").run().status(0);
    println!("backup and check among 200 hostile clients: {:?}", start.elapsed());
    drop(clients);
    // Uploads that were cut are forgotten.
    let until = Instant::now() + Duration::from_secs(60);
    while files(&store).1 && Instant::now() < until {
        thread::sleep(Duration::from_millis(50));
    }
    assert!(!files(&store).1);
    for number in 0..200 {
        let mut client = connect(server.port);
        write!(client, "GET {} HTTP/1.0\r\n\r\n", path(number)).expect("request");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("answer");
        assert!(answer.starts_with("HTTP/1.1 404 "), "{number}: {answer}");
    }
    let mut check = sandbox.at(&store);
    check.passphrase(PASSPHRASE).arg("check").run().status(0);
    println!("peak: {} KiB", server.peak_bytes() / 1024);
    assert!(server.peak_bytes() <= BUDGET_BYTES, "{}", server.peak_bytes());
    server.stop(Signal::TERM).status(0);
}

/// Many uploads at once over TLS, long ones.
#[test]
fn memory_does_not_grow_with_what_is_sent() {
    const LENGTH: usize = 20_000_000;
    let sandbox = Sandbox::new();
    let (store, _) = scene(&sandbox);
    let server = TiroirServer::start(&sandbox, &store, tls_arguments(&sandbox));
    let certificate = sandbox.path("cert.pem");
    thread::scope(|scope| {
        for number in 0..24u8 {
            let (server, certificate) = (&server, &certificate);
            scope.spawn(move || {
                let (mut client, name) =
                    (client(server.port, Some(certificate)), Mac([number; 32]));
                let upload = client.begin(StoreResource::Packfile).expect("begin");
                let piece = vec![number; 100_000];
                for _ in 0..LENGTH / piece.len() {
                    client.write(upload, &piece).expect("write");
                }
                client.commit(upload, &name).expect("commit");
                let size = client.size(StoreResource::Packfile, &name).expect("size");
                assert_eq!(size, Some(LENGTH as u64));
                let (mut at, mut into) = (0, vec![0; 300_000]);
                loop {
                    let read = client.get(StoreResource::Packfile, &name, at, &mut into);
                    match read.expect("read") {
                        0 => break,
                        read => {
                            assert!(into[..read].iter().all(|byte| *byte == number));
                            at += read as u64;
                        }
                    }
                }
                assert_eq!(at, LENGTH as u64);
                // What is there is kept.
                let upload = client.begin(StoreResource::Packfile).expect("begin");
                client.write(upload, b"other").expect("write");
                let error = client.commit(upload, &name).expect_err("it is there");
                assert_eq!(error.kind(), HostErrorKind::AlreadyExists, "{error}");
                let error = client.delete(StoreResource::Packfile, &name).expect_err("kept");
                assert_eq!(error.kind(), HostErrorKind::PermissionDenied, "{error}");
            });
        }
    });
    println!("peak: {} KiB", server.peak_bytes() / 1024);
    assert!(server.peak_bytes() <= BUDGET_BYTES, "{}", server.peak_bytes());
    assert_eq!(files(&store), (24, false));
    server.stop(Signal::TERM).status(0);
}

#[test]
fn signals_end_it() {
    let sandbox = Sandbox::new();
    let (store, _) = scene(&sandbox);
    let server = TiroirServer::start(&sandbox, &store, [""; 0]);
    // A connection that is kept does not keep it.
    let mut kept = connect(server.port);
    kept.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("request");
    kept.read_exact(&mut [0; 20]).expect("answer");
    assert!(server.stop(Signal::TERM).status(0).elapsed < Duration::from_secs(60));

    // An upload that does not go on is cut off after a while.
    let server = TiroirServer::start(&sandbox, &store, [""; 0]);
    let mut slow = connect(server.port);
    let path = format!("/resources/states/{}", "ab".repeat(32));
    write!(slow, "PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n").expect("head");
    slow.write_all(&[1; 90_000]).expect("content");
    let until = Instant::now() + Duration::from_secs(60);
    while !files(&store).1 && Instant::now() < until {
        thread::sleep(Duration::from_millis(10));
    }
    let ended = server.stop(Signal::TERM).status(130);
    assert!(ended.said("were cut off"), "{}", ended.report());
    assert_eq!(files(&store), (0, false));
}

#[test]
fn what_is_refused_at_the_start() {
    let sandbox = Sandbox::new();
    let (store, _) = scene(&sandbox);
    let run = |args: &[&str]| sandbox.at(&store).arg("server").args(args).run();
    let nowhere = sandbox.at(sandbox.path("nowhere")).arg("server").run().status(66);
    assert!(nowhere.said("failed to open the repository"), "{}", nowhere.report());
    run(&["-cert", "x"]).status(64);
    run(&["-key", "x"]).status(64);
    assert!(run(&["-listen", "127.0.0.1"]).status(64).said("HOST:PORT"));
    let server = TiroirServer::start(&sandbox, &store, [""; 0]);
    assert!(run(&["-listen", &format!("127.0.0.1:{}", server.port)]).status(1).said("in use"));
    fs::write(sandbox.path("short"), "short").expect("a file");
    let short = sandbox.path("short").display().to_string();
    assert!(run(&["-token-file", &short]).status(77).said("It has 16 to"));
    assert!(run(&["-cert", &short, "-key", &short]).status(1).said("there is none in PEM"));
    let mut without = sandbox.at(&store);
    without.env("TIROIR_SERVER_TOKEN", "short").arg("server").run().status(77);
}
