//! Our client and hand-written requests against a store in a directory.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::address::Address;
use crate::fs::store::FsStore;
use crate::http::HttpStore;
use crate::http::server::Server;
use crate::options::Options;

/// A store in a directory, and its server.
struct Served {
    directory: tempfile::TempDir,
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
    notes: Arc<Mutex<Vec<String>>>,
}

impl Served {
    fn new(rules: Rules) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("store");
        let server = Server::bind("127.0.0.1:0").unwrap().with_workers(4);
        let (address, stop) = (server.address(), Arc::new(AtomicBool::new(false)));
        let notes = Arc::new(Mutex::new(Vec::new()));
        let (watched, noted) = (Arc::clone(&stop), Arc::clone(&notes));
        let thread = thread::spawn(move || {
            let rules = rules.with_notes(move |note| noted.lock().unwrap().push(note.to_owned()));
            let service = || StoreService::new(&rules, || Ok(FsStore::new(&root)));
            server.run(service, &watched, &AtomicBool::new(false)).unwrap();
        });
        Self { directory, address, stop, thread: Some(thread), notes }
    }

    /// With a store in it.
    fn created(rules: Rules) -> Self {
        let served = Self::new(rules);
        FsStore::new(served.root()).create(b"config").unwrap();
        served
    }

    fn root(&self) -> std::path::PathBuf {
        self.directory.path().join("store")
    }

    fn client(&self, token: Option<&str>) -> HttpStore {
        let address = Address::parse(self.address.to_string().as_bytes()).unwrap();
        let mut options: Options = [("timeout", "20")].into_iter().collect();
        if let Some(token) = token {
            options.set("auth_token", token);
        }
        HttpStore::open(&address, false, &options, std::env::temp_dir()).unwrap()
    }

    /// The answer to a request, head and content.
    fn ask(&self, method: &str, path: &str, headers: &str, content: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let _ = stream.write_all(content);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn put(&self, path: &str, content: &[u8]) -> String {
        self.ask("PUT", path, &format!("Content-Length: {}\r\n", content.len()), content)
    }

    /// Files that are there beside CONFIG.
    fn files(&self) -> Vec<String> {
        fn walk(path: &Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(path).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    walk(&entry.path(), found);
                } else {
                    found.push(entry.file_name().into_string().unwrap());
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.root(), &mut found);
        found.retain(|name| name != "CONFIG");
        found.sort();
        found
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// The contract of stores, through client and server. Stores are made behind the
/// server's back, since nothing of the protocol makes one.
struct Through {
    served: Served,
    client: HttpStore,
}

impl Store for Through {
    type Error = HostsError;

    crate::hand_on!(client);

    fn read_config(&mut self, into: &mut [u8]) -> Result<usize> {
        self.client.read_config(into)
    }

    fn create(&mut self, bytes: &[u8]) -> Result<()> {
        FsStore::new(self.served.root()).create(bytes)
    }
}

#[test]
fn keeps_the_contract() {
    crate::contract::store_contract(|| {
        let served = Served::new(Rules::new().with_delete(true));
        let client = served.client(None);
        Through { served, client }
    });
}

#[test]
fn what_is_written_stays() {
    let served = Served::created(Rules::new());
    for kind in ["packfiles", "states"] {
        let path = format!("/resources/{kind}/{}", "ab".repeat(32));
        assert!(served.put(&path, b"content").starts_with("HTTP/1.1 200 "));
        // The same again is what a client sends that heard no answer.
        assert!(served.put(&path, b"content").starts_with("HTTP/1.1 200 "));
        for other in [&b"contend"[..], b"content and more", b"conten", b""] {
            assert!(served.put(&path, other).starts_with("HTTP/1.1 409 "));
        }
        let large = vec![7; 500_000];
        assert!(served.put(&path, &large).starts_with("HTTP/1.1 409 "));
        assert!(served.ask("GET", &path, "", b"").ends_with("\r\n\r\ncontent"));
        let refused = served.ask("DELETE", &path, "", b"");
        assert!(refused.starts_with("HTTP/1.1 403 ") && refused.contains("not allowed to delete"));
    }
    let path = format!("/resources/locks/{}", "ab".repeat(32));
    for content in [&b"lock"[..], b"lock of later"] {
        assert!(served.put(&path, content).starts_with("HTTP/1.1 200 "));
        assert!(served.ask("GET", &path, "", b"").ends_with(std::str::from_utf8(content).unwrap()));
    }
    assert!(served.put(&path, &[1; 60_000]).starts_with("HTTP/1.1 413 "));
    assert!(served.ask("DELETE", &path, "", b"").starts_with("HTTP/1.1 200 "));
    assert_eq!(served.files(), ["ab".repeat(32), "ab".repeat(32)]);
}

#[test]
fn two_of_one_name() {
    let served = Served::created(Rules::new());
    let path = format!("/resources/packfiles/{}", "cd".repeat(32));
    let contents: Vec<Vec<u8>> = (0..8).map(|number| vec![number; 300_000]).collect();
    let answers: Vec<String> = thread::scope(|scope| {
        let puts = contents.iter().map(|content| scope.spawn(|| served.put(&path, content)));
        puts.collect::<Vec<_>>().into_iter().map(|put| put.join().unwrap()).collect()
    });
    let taken = answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 200 ")).count();
    assert_eq!(taken, 1, "{answers:?}");
    let is_refused = |answer: &&String| {
        answer.starts_with("HTTP/1.1 503 ") || answer.starts_with("HTTP/1.1 409 ")
    };
    assert_eq!(answers.iter().filter(is_refused).count(), 7, "{answers:?}");
    assert_eq!(served.files().len(), 1);
}

#[test]
fn uploads_that_break_leave_nothing() {
    let served = Served::created(Rules::new());
    let path = format!("/resources/packfiles/{}", "ee".repeat(32));
    let half = served.ask("PUT", &path, "Content-Length: 500000\r\n", &[1; 300_000]);
    assert!(!half.contains("200 OK"), "{half}");
    let chunked = "Transfer-Encoding: chunked\r\n";
    for content in [
        "5\r\nabcde\r\n",
        "5\r\nabc",
        "fffffffffffffff0\r\nabc",
        "5\r\nabcdef\r\n0\r\n\r\n",
        "x\r\n",
        "",
    ] {
        let answer = served.ask("PUT", &path, chunked, content.as_bytes());
        assert!(!answer.contains("200 OK"), "{content}: {answer}");
    }
    let long = served.ask("PUT", &path, "Content-Length: 1099511627777\r\n", b"x");
    assert!(long.starts_with("HTTP/1.1 413 "), "{long}");
    // Those that broke off are forgotten a moment later.
    let until = Instant::now() + Duration::from_secs(10);
    while !served.files().is_empty() && Instant::now() < until {
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(served.files(), [""; 0]);
    assert!(served.ask("GET", &path, "", b"").starts_with("HTTP/1.1 404 "));
    assert!(served.put(&path, b"at last").starts_with("HTTP/1.1 200 "));
}

#[test]
fn places_and_methods() {
    let served = Served::created(Rules::new());
    let name = "ab".repeat(32);
    for path in [
        "/CONFIG",
        "/resources/packfiles/..",
        "/resources/packfiles/../../CONFIG",
        "/resources/packfiles/%2e%2e/%2e%2e/CONFIG",
        "/resources/eccstates",
        "/?",
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            let answer = served.ask(method, path, "", b"");
            assert!(answer.starts_with("HTTP/1.1 404 "), "{method} {path}: {answer}");
        }
    }
    for (method, path) in [
        ("POST", "/".to_owned()),
        ("PUT", "/".to_owned()),
        ("DELETE", "/resources/states".to_owned()),
        ("PATCH", format!("/resources/states/{name}")),
        ("OPTIONS", format!("/resources/states/{name}")),
    ] {
        let answer = served.ask(method, &path, "", b"");
        assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("Allow: GET"), "{answer}");
    }
    for header in ["Origin: http://x\r\n", "Sec-Fetch-Site: same-origin\r\n"] {
        assert!(served.ask("GET", "/", header, b"").starts_with("HTTP/1.1 403 "));
    }
    assert!(served.ask("GET", "/", "", b"").ends_with("\r\n\r\nconfig"));
    let head = served.ask("HEAD", "/", "", b"");
    assert!(head.contains("Content-Length: 6\r\n") && head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn parts() {
    let served = Served::created(Rules::new());
    let path = format!("/resources/packfiles/{}", "ab".repeat(32));
    let state = format!("/resources/states/{}", "ab".repeat(32));
    let missing = format!("/resources/packfiles/{}", "00".repeat(32));
    served.put(&path, b"0123456789");
    served.put(&state, b"0123456789");
    let get = |path: &str, range: &str, stock: bool| {
        let stock = if stock { "Content-Type: application/json\r\n" } else { "" };
        served.ask("GET", path, &format!("Range: bytes={range}\r\n{stock}"), b"")
    };
    let stocks = get(&path, "2-4", true);
    assert!(stocks.starts_with("HTTP/1.1 200 ") && stocks.ends_with("\r\n\r\n23"), "{stocks}");
    assert!(get(&path, "8-100000", true).ends_with("\r\n\r\n89"));
    assert!(get(&path, "80-100", true).ends_with("Content-Length: 0\r\nConnection: close\r\n\r\n"));
    assert!(get(&path, "4-4", true).starts_with("HTTP/1.1 400 "));
    assert!(get(&state, "2-4", true).ends_with("\r\n\r\n0123456789"));
    assert!(get(&missing, "2-4", true).starts_with("HTTP/1.1 404 "));
    let proper = get(&path, "2-4", false);
    assert!(proper.starts_with("HTTP/1.1 206 ") && proper.ends_with("\r\n\r\n234"), "{proper}");
    assert!(proper.contains("Content-Range: bytes 2-4/10\r\n"), "{proper}");
    assert!(get(&state, "8-", false).contains("Content-Range: bytes 8-9/10\r\n"));
    assert!(get(&path, "-3", false).ends_with("\r\n\r\n789"));
    let beyond = get(&path, "10-", false);
    assert!(beyond.starts_with("HTTP/1.1 416 ") && beyond.contains("bytes */10\r\n"), "{beyond}");
    assert!(get(&path, "0-1,3-4", false).ends_with("\r\n\r\n0123456789"));
    assert!(get(&missing, "2-4", false).starts_with("HTTP/1.1 404 "));
    let head = served.ask("HEAD", &path, "", b"");
    assert!(head.contains("Content-Length: 10\r\n") && head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn what_requests_mean() {
    let name = "ab".repeat(32);
    for target in
        ["/".to_owned(), "/resources/states".to_owned(), format!("/resources/locks/{name}")]
    {
        for range in ["0-0", "3-17", "-5", "7-", "18446744073709551615-", "-18446744073709551615"] {
            for more in ["", "Content-Type: application/json\r\n"] {
                let head = format!("GET {target} HTTP/1.0\r\nRange: bytes={range}\r\n{more}\r\n");
                examine(&crate::http::server::Request::parse(head.as_bytes()).unwrap());
            }
        }
    }
}

#[test]
fn tokens() {
    let served = Served::created(Rules::new().with_token(Token::new(b"open sesame")));
    let path = format!("/resources/packfiles/{}", "ab".repeat(32));
    for headers in [
        "",
        "Authorization: Bearer open\r\n",
        "Authorization: open sesame\r\n",
        "Authorization: Basic open sesame\r\n",
        "Authorization: Bearer\r\nAuthorization: Bearer open sesame\r\n",
    ] {
        let answer = served.ask("GET", "/", headers, b"");
        assert!(answer.starts_with("HTTP/1.1 401 "), "{headers}: {answer}");
        let headers = format!("{headers}Content-Length: 3\r\n");
        assert!(served.ask("PUT", &path, &headers, b"abc").starts_with("HTTP/1.1 401 "));
    }
    assert_eq!(served.files(), [""; 0]);
    let told = served.notes.lock().unwrap().join("\n");
    assert!(told.matches("without the token, from 127.0.0.1").count() == 1, "{told}");
    let mut into = [0; 10];
    assert_eq!(served.client(Some("open sesame")).read_config(&mut into).unwrap(), 6);
    let error = served.client(Some("other")).read_config(&mut into).unwrap_err();
    assert_eq!(error.kind(), HostErrorKind::PermissionDenied);
    assert!(error.to_string().contains("a token is required"), "{error}");
}

#[test]
fn long_lists_are_streamed() {
    let served = Served::created(Rules::new());
    let mut store = FsStore::new(served.root());
    for number in 0..700u16 {
        let mut name = Mac::ZERO;
        name.0[..2].copy_from_slice(&number.to_be_bytes());
        let upload = store.begin(StoreResource::State).unwrap();
        store.commit(upload, &name).unwrap();
    }
    let answer = served.ask("GET", "/resources/states", "", b"");
    assert!(answer.contains("Transfer-Encoding: chunked\r\n"));
    let mut count = 0;
    let mut each = |_| {
        count += 1;
        ControlFlow::Continue(())
    };
    served.client(None).list(StoreResource::State, &mut each).unwrap();
    assert_eq!(count, 700);
    assert!(served.ask("GET", "/resources/locks", "", b"").ends_with("\r\n\r\n[]\n"));
}

#[test]
fn a_store_that_fails() {
    let served = Served::created(Rules::new());
    std::fs::remove_dir_all(served.root().join("packfiles")).unwrap();
    std::fs::write(served.root().join("packfiles"), b"").unwrap();
    let path = format!("/resources/packfiles/{}", "ab".repeat(32));
    let answer = served.put(&path, b"content");
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    // Clients are not told where the store lies.
    assert!(!answer.contains(served.root().to_str().unwrap()), "{answer}");
    let told = served.notes.lock().unwrap().join("\n");
    assert!(told.contains(served.root().to_str().unwrap()), "{told}");
}
