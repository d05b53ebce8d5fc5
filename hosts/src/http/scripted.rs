//! A server that does what a test says, for tests.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What a server does when it was asked something.
pub(crate) enum Step {
    /// Sends bytes.
    Send(Vec<u8>),
    /// Sends bytes again and again, until nobody takes them.
    Endless(Vec<u8>),
    /// Sends bytes one by one, with pauses.
    Drip(Vec<u8>, Duration),
    /// Says nothing more, and stays.
    Hang,
    /// Ends the connection.
    Close,
}

/// An answer, and whether the body of the request is read before it is sent.
pub(crate) struct Answer {
    pub(crate) steps: Vec<Step>,
    pub(crate) reads_body: bool,
}

impl Answer {
    pub(crate) fn of(steps: Vec<Step>) -> Self {
        Self { steps, reads_body: true }
    }

    /// A whole answer with a length.
    pub(crate) fn whole(status: u16, headers: &str, content: impl AsRef<[u8]>) -> Self {
        let content = content.as_ref();
        let head =
            format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{headers}\r\n", content.len());
        Self::of(vec![Step::Send([head.as_bytes(), content].concat())])
    }

    /// A refusal as S3 has them.
    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        let text = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
        Self::whole(status, "", text)
    }
}

/// A server on a port of its own. It stays until the test ends.
pub(crate) struct Scripted {
    pub(crate) port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    /// A server that is given the head of each request and its number.
    pub(crate) fn new(answer: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&heads), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                thread::spawn(move || serve(stream, &seen, &*answer));
            }
        });
        Self { port, heads }
    }

    /// Heads of the requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn serve(
    mut stream: TcpStream,
    heads: &Mutex<Vec<String>>,
    answer: &dyn Fn(&str, usize) -> Answer,
) -> Option<()> {
    loop {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read(&mut byte).ok()? == 0 {
                return None;
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let mut left: u64 = length.map_or(0, |text| text.parse().unwrap());
        let number = {
            let mut heads = heads.lock().unwrap();
            heads.push(head.clone());
            heads.len() - 1
        };
        let Answer { steps, reads_body } = answer(&head, number);
        if !reads_body {
            left = 0;
        }
        let mut body = vec![0; 64 * 1024];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(body.len()).min(body.len());
            let read = stream.read(&mut body[..most]).ok()?;
            if read == 0 {
                return None;
            }
            left -= read as u64;
        }
        for step in steps {
            match step {
                Step::Send(bytes) => stream.write_all(&bytes).ok()?,
                Step::Endless(bytes) => loop {
                    stream.write_all(&bytes).ok()?;
                },
                Step::Drip(bytes, pause) => {
                    for byte in bytes {
                        stream.write_all(&[byte]).ok()?;
                        thread::sleep(pause);
                    }
                }
                Step::Hang => thread::sleep(Duration::from_secs(60)),
                Step::Close => return None,
            }
        }
    }
}
