//! The one request a test makes: `GET`, over loopback, of stock's web page.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// A port that no one listens on, for a moment at least.
///
/// # Panics
///
/// When there is no loopback.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
    listener.local_addr().expect("its address").port()
}

/// The status and body of `GET path`, from a server that may still be starting.
///
/// # Panics
///
/// When nothing answers for a minute, or the answer is not HTTP.
#[must_use]
pub fn get(port: u16, path: &str) -> (u16, Vec<u8>) {
    let mut stream = connect(port);
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time limit");
    // HTTP/1.0 ends with the connection and comes in one piece.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("answer");
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a head and a body");
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, answer.split_off(end + 4))
}

fn connect(port: u16) -> TcpStream {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            Ok(stream) => return stream,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                assert!(Instant::now() < deadline, "no one listens on port {port}");
                thread::sleep(Duration::from_millis(20));
            }
            Err(error) => panic!("port {port}: {error}"),
        }
    }
}

/// `path` with everything escaped that is neither plain nor a slash.
#[must_use]
pub fn escaped(path: &str) -> String {
    path.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
