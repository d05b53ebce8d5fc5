//! A link that can be cut: what comes in on one port goes out to another.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

/// A link to a server on this machine.
#[derive(Debug)]
pub struct Link {
    /// Port to connect to.
    pub port: u16,
    /// Bytes after which a connection is cut; 0 for never.
    cut_after_bytes: Arc<AtomicU64>,
    cuts: Arc<AtomicUsize>,
}

impl Link {
    /// A link to a port of the loopback interface.
    ///
    /// # Panics
    ///
    /// When there is no port to listen on.
    #[must_use]
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let own = listener.local_addr().expect("its address").port();
        let cut_after_bytes = Arc::new(AtomicU64::new(0));
        let cuts = Arc::new(AtomicUsize::new(0));
        let (bound, count) = (Arc::clone(&cut_after_bytes), Arc::clone(&cuts));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let moved = Arc::new(AtomicU64::new(0));
                let pairs = [(client.try_clone(), server.try_clone()), (Ok(server), Ok(client))];
                for (from, to) in pairs {
                    let (Ok(from), Ok(to)) = (from, to) else { continue };
                    let (bound, count, moved) = (bound.clone(), count.clone(), moved.clone());
                    thread::spawn(move || pass(from, to, &bound, &count, &moved));
                }
            }
        });
        Self { port: own, cut_after_bytes, cuts }
    }

    /// Has every connection cut after so many bytes in both directions; 0 for
    /// never.
    pub fn cut_after(&self, bytes: u64) {
        self.cut_after_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Connections that were cut.
    #[must_use]
    pub fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }
}

fn pass(
    mut from: TcpStream,
    mut to: TcpStream,
    bound: &AtomicU64,
    count: &AtomicUsize,
    moved: &AtomicU64,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).unwrap_or(0);
        if read == 0 || to.write_all(&buffer[..read]).is_err() {
            break;
        }
        let sum = moved.fetch_add(read as u64, Ordering::Relaxed) + read as u64;
        let bound = bound.load(Ordering::Relaxed);
        if bound > 0 && sum > bound {
            count.fetch_add(1, Ordering::Relaxed);
            let _ = from.shutdown(Shutdown::Both);
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
