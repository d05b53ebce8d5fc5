//! A server and hostile clients.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::*;

/// Sends back what it is sent, or does what the target says.
struct Echo;

impl Handler for Echo {
    fn handle(&mut self, exchange: &mut Exchange<'_>) -> std::result::Result<(), Broken> {
        let target = exchange.request().target().to_owned();
        let mut piece = [0; 100];
        match target.as_str() {
            "/silent" => return Ok(()),
            "/unread" => return exchange.answer(403, &TEXT, b"not wanted"),
            "/short" => {
                exchange.begin(200, &[], Some(10))?;
                return exchange.write(b"short");
            }
            "/long" => exchange.begin(200, &[], Some(1))?,
            "/early" => exchange.begin(200, &[], None)?,
            _ => {
                let mut content = Vec::new();
                while content.len() < 100_000 {
                    match exchange.read(&mut piece)? {
                        0 => break,
                        read => content.extend_from_slice(&piece[..read]),
                    }
                }
                exchange.begin(200, &[("X", "y")], None)?;
                exchange.write(&content)?;
                return exchange.end();
            }
        }
        loop {
            match exchange.read(&mut piece)? {
                0 => return exchange.end(),
                read => exchange.write(&piece[..read])?,
            }
        }
    }
}

/// A server that is told to stop when this is dropped.
struct Running {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<Ended>>,
}

impl Running {
    fn new(workers: usize) -> Self {
        let server = Server::bind("127.0.0.1:0").unwrap().with_workers(workers);
        let (address, stop) = (server.address(), Arc::new(AtomicBool::new(false)));
        let watched = Arc::clone(&stop);
        let run = move || server.run(|| Echo, &watched, &AtomicBool::new(false)).unwrap();
        Self { address, stop, thread: Some(thread::spawn(run)) }
    }

    fn stop(&mut self) -> Option<Ended> {
        self.stop.store(true, Ordering::SeqCst);
        Some(self.thread.take()?.join().unwrap())
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends everything, and returns what comes until the end.
    fn ask(&self, text: &str) -> String {
        let mut stream = self.connect();
        // It may be refused before it is all there.
        let _ = stream.write_all(text.as_bytes());
        let _ = stream.shutdown(Shutdown::Write);
        rest(&mut stream)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

#[test]
fn requests_follow_each_other() {
    let server = Running::new(2);
    let one = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
    let two =
        "POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n";
    let three = "HEAD /c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answers = server.ask(&[one, two, three, one].concat());
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{answers}");
    assert_eq!(answers.matches("Connection: close\r\n").count(), 1, "{answers}");
    assert!(answers.contains("\r\n3\r\nabc\r\n0\r\n\r\nHTTP/1.1"), "{answers}");
    assert!(answers.contains("\r\n2\r\nde\r\n0\r\n\r\nHTTP/1.1"), "{answers}");
    assert!(answers.ends_with("close\r\n\r\n"), "{answers}");
    let old = server.ask("POST /a HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc");
    assert!(old.ends_with("Connection: close\r\n\r\nabc") && !old.contains("chunked"), "{old}");
}

#[test]
fn content_is_asked_for() {
    let server = Running::new(1);
    let mut stream = server.connect();
    stream
        .write_all(
            b"PUT /early HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
        )
        .unwrap();
    let mut told = Vec::new();
    while !told.ends_with(b"HTTP/1.1 100 Continue\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        told.push(byte[0]);
    }
    stream.write_all(b"xy").unwrap();
    assert!(rest(&mut stream).contains("xy"));
}

#[test]
fn what_a_handler_leaves_out() {
    let server = Running::new(1);
    let post = |path: &str| {
        server.ask(&format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"))
    };
    assert!(post("/silent").starts_with("HTTP/1.1 500 "));
    let unread = post("/unread");
    assert!(unread.starts_with("HTTP/1.1 403 ") && unread.contains("Connection: close"));
    assert!(unread.ends_with("not wanted"), "{unread}");
    assert!(post("/short").ends_with("short"));
    assert!(post("/long").ends_with("Content-Length: 1\r\nConnection: close\r\n\r\n"));
}

#[test]
fn a_large_content_that_is_not_wanted() {
    let server = Running::new(1);
    let mut stream = server.connect();
    let head = "PUT /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&[7; 900_000]).unwrap();
    let answer = rest(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.ends_with("not wanted"), "{answer}");
}

#[test]
fn hostile_requests() {
    let server = Running::new(2);
    let host = "Host: x\r\n";
    for (text, status) in [
        (format!("GET / HTTP/1.1\r\n{host}A: {}\r\n\r\n", "x".repeat(100_000)), 431),
        (format!("GET /{} HTTP/1.1\r\n{host}\r\n", "x".repeat(100_000)), 431),
        (format!("GET / HTTP/1.1\r\n{host}{}\r\n", "A: b\r\n".repeat(100_000)), 431),
        ("\r\n\r\n\r\n".to_owned(), 400),
        ("\0\u{1}\u{2}\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/3\r\n{host}\r\n"), 505),
        (
            format!(
                "PUT / HTTP/1.1\r\n{host}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            400,
        ),
    ] {
        let answer = server.ask(&text);
        let start: String = text.chars().take(80).collect();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{start}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{start}: {answer}");
    }
    // Lengths that are none break the exchange; nothing behind them is a request.
    for content in ["ffffffffffffffffff\r\n", "-1\r\n", "1\r\nxyz\r\n0\r\n\r\n", "0x1\r\n"] {
        let smuggled = format!("GET /b HTTP/1.1\r\n{host}\r\n");
        let text = format!(
            "PUT /unread HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n{content}{smuggled}"
        );
        assert_eq!(server.ask(&text).matches("HTTP/1.1 ").count(), 1, "{content}");
        let answer = server.ask(&text.replace("/unread", "/a"));
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{content}: {answer}");
        assert!(!answer.ends_with("0\r\n\r\n"), "{content}: {answer}");
    }
    // Without an answer: nobody is there, or nothing was said.
    assert_eq!(server.ask(""), "");
    assert_eq!(server.ask("GET / HTTP/1.1\r\nHost:"), "");
    assert!(server.ask(&format!("GET /a HTTP/1.1\r\n{host}\r\n")).starts_with("HTTP/1.1 200 "));
}

#[test]
fn clients_beyond_the_bound_wait() {
    let server = Running::new(2);
    let silent: Vec<TcpStream> = (0..CONNECTIONS_MAX + 20).map(|_| server.connect()).collect();
    let start = Instant::now();
    // One of the silent has to go for it.
    let mut stream = server.connect();
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let answer = rest(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("Connection: close"));
    assert!(start.elapsed() >= Duration::from_secs(1) && start.elapsed() < HEAD_TIME * 2);
    drop(silent);
}

#[test]
fn a_slow_head_ends() {
    let server = Running::new(1);
    let mut stream = server.connect();
    let start = Instant::now();
    let mut writing = stream.try_clone().unwrap();
    let dripping = thread::spawn(move || {
        let _ = writing.write_all(b"GET / HTTP/1.1\r\nA: ");
        while writing.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(100));
        }
    });
    let answer = rest(&mut stream);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(start.elapsed() < HEAD_TIME * 2, "{:?}", start.elapsed());
    drop(stream);
    dripping.join().unwrap();
}

#[test]
fn it_stops() {
    let mut server = Running::new(2);
    let mut kept = server.connect();
    kept.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    kept.read_exact(&mut [0; 17]).unwrap();
    assert_eq!(server.stop(), Some(Ended::Clean));
    let mut server = Running::new(2);
    let mut slow = server.connect();
    slow.write_all(b"PUT /early HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n1").unwrap();
    slow.read_exact(&mut [0; 17]).unwrap();
    assert_eq!(server.stop(), Some(Ended::Cut));
}

#[test]
fn places() {
    for place in ["", "localhost", "127.0.0.1:x", "127.0.0.1:65536", "no such host:0", "[::1]"] {
        assert!(Server::bind(place).is_err(), "{place}");
    }
    let first = Server::bind("localhost:0").unwrap();
    assert_eq!(first.address().ip(), Ipv4Addr::LOCALHOST);
    let error = Server::bind(&first.address().to_string()).unwrap_err().to_string();
    assert!(error.contains("in use"), "{error}");
    assert!(Server::bind(":0").unwrap().address().ip().is_unspecified());
}
