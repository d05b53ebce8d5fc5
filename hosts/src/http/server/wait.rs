//! Who waits: clients for workers, workers for clients, and all of them for the
//! end.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::super::connection::Connection;
use super::work::Client;
use super::{CONNECTIONS_MANY, CONNECTIONS_MAX, Ended, HEAD_TIME, IDLE_TIME};

/// Longest wait: so late is a signal noticed that another thread was given.
const TICK: Duration = Duration::from_secs(1);

/// Pause where no further connection can be taken, as without descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection that was idle for so long gives way where there are too many.
const YIELD_TIME: Duration = Duration::from_secs(5);

/// What the waiting thread and the workers share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Something is to be done, or to be ended.
    for_workers: Condvar,
    /// Wakes the waiting thread.
    waker: UnixStream,
    /// Connections that are anywhere.
    connections: AtomicUsize,
    stopping: AtomicBool,
}

#[derive(Debug)]
struct State {
    /// Clients that have something to say.
    ready: VecDeque<Client>,
    /// Those that have been answered, on their way to the waiting thread.
    answered: Vec<Client>,
    /// Whom each worker serves.
    served: Vec<Option<TcpStream>>,
}

impl Shared {
    /// For so many workers; and the end that [`Waiting`] wakes by.
    pub(super) fn new(workers: usize) -> io::Result<(Self, UnixStream)> {
        let (waker, wake) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        wake.set_nonblocking(true)?;
        let mut served = Vec::new();
        served.resize_with(workers, || None);
        let state = State { ready: VecDeque::new(), answered: Vec::new(), served };
        let shared = Self {
            state: Mutex::new(state),
            for_workers: Condvar::new(),
            waker,
            connections: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
        };
        Ok((shared, wake))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Whether a connection may be kept after its answer.
    pub(super) fn keeps_connections(&self) -> bool {
        !self.is_stopping() && self.connections.load(Ordering::SeqCst) < CONNECTIONS_MANY
    }

    /// Whether clients wait for a worker.
    pub(super) fn is_pressed(&self) -> bool {
        !self.state().ready.is_empty()
    }

    /// The next client for a worker; nothing when the server stops.
    pub(super) fn next(&self, worker: usize) -> Option<Client> {
        let mut state = self.state();
        loop {
            if let Some(client) = state.ready.pop_front() {
                // Without a second descriptor it cannot be cut off.
                state.served[worker] = client.tcp().try_clone().ok();
                return Some(client);
            }
            if self.is_stopping() {
                return None;
            }
            state = self.for_workers.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A worker has served its client, whose connection is kept or not.
    pub(super) fn done(&self, worker: usize, kept: Option<Box<Connection>>) {
        let mut state = self.state();
        state.served[worker] = None;
        match kept {
            Some(connection) => state.answered.push(Client::Known(connection)),
            None => {
                self.connections.fetch_sub(1, Ordering::SeqCst);
            }
        }
        drop(state);
        // A full pipe wakes as well.
        let _ = (&self.waker).write(&[0]);
    }

    /// Tells the workers to stop when nothing is left to be answered.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Whoever holds the lock has not begun to wait.
        drop(self.state());
        self.for_workers.notify_all();
    }

    /// Waits for the workers, and cuts them off at `deadline`.
    pub(super) fn end(&self, deadline: Instant, cut: &AtomicBool) -> Ended {
        self.stop();
        let is_over =
            |state: &State| state.ready.is_empty() && state.served.iter().all(Option::is_none);
        while !is_over(&self.state()) {
            if Instant::now() < deadline {
                thread::sleep(Duration::from_millis(20));
                continue;
            }
            cut.store(true, Ordering::SeqCst);
            let mut state = self.state();
            state.ready.clear();
            for tcp in state.served.iter().flatten() {
                let _ = tcp.shutdown(Shutdown::Both);
            }
            return Ended::Cut;
        }
        Ended::Clean
    }
}

/// A client that has nothing to say.
#[derive(Debug)]
struct Silent {
    client: Client,
    since: Instant,
}

impl Silent {
    fn ends(&self) -> Instant {
        let time = match self.client {
            Client::New(_) => HEAD_TIME,
            Client::Known(_) => IDLE_TIME,
        };
        self.since + time
    }
}

/// The thread that waits for clients.
#[derive(Debug)]
pub(super) struct Waiting<'s> {
    listener: &'s TcpListener,
    wake: UnixStream,
    shared: &'s Shared,
    /// Those that have been silent for longest come first.
    silent: VecDeque<Silent>,
}

impl<'s> Waiting<'s> {
    pub(super) fn new(listener: &'s TcpListener, wake: UnixStream, shared: &'s Shared) -> Self {
        Self { listener, wake, shared, silent: VecDeque::new() }
    }

    /// Brings clients to workers until `stop` is set.
    pub(super) fn until(mut self, stop: &AtomicBool) -> io::Result<()> {
        while !stop.load(Ordering::SeqCst) {
            self.take_back();
            self.forget_expired();
            let has_room = self.has_room();
            let (is_called, speak) = self.wait(has_room)?;
            self.hand_over(&speak);
            if is_called {
                self.accept();
            }
        }
        Ok(())
    }

    /// Takes back connections from the workers.
    fn take_back(&mut self) {
        // Signs to wake are not counted.
        let mut signs = [0; 64];
        while matches!((&self.wake).read(&mut signs), Ok(count) if count == signs.len()) {}
        let since = Instant::now();
        let mut state = self.shared.state();
        let answered = std::mem::take(&mut state.answered).into_iter();
        self.silent.extend(answered.map(|client| Silent { client, since }));
    }

    /// Ends connections on which nothing was said for too long.
    fn forget_expired(&mut self) {
        let (now, before) = (Instant::now(), self.silent.len());
        self.silent.retain(|silent| now < silent.ends());
        self.shared.connections.fetch_sub(before - self.silent.len(), Ordering::SeqCst);
    }

    /// Whether another client may come: one that has been silent may have to go.
    fn has_room(&self) -> bool {
        self.shared.connections.load(Ordering::SeqCst) < CONNECTIONS_MAX
            || self.silent.front().is_some_and(|silent| silent.since.elapsed() >= YIELD_TIME)
    }

    /// Waits for something to happen: whether somebody calls, and for each of the
    /// silent whether it says something.
    fn wait(&self, has_room: bool) -> io::Result<(bool, Vec<bool>)> {
        let now = Instant::now();
        let ends = self.silent.iter().map(|silent| silent.ends().saturating_duration_since(now));
        let time = ends.min().unwrap_or(TICK).min(TICK);
        let mut ends = Vec::with_capacity(2 + self.silent.len());
        ends.push(PollFd::new(&self.wake, PollFlags::IN));
        let calls = if has_room { PollFlags::IN } else { PollFlags::empty() };
        ends.push(PollFd::new(self.listener, calls));
        for silent in &self.silent {
            ends.push(PollFd::new(silent.client.tcp(), PollFlags::IN));
        }
        match crate::times::poll(&mut ends, time) {
            Err(rustix::io::Errno::INTR) => return Ok((false, vec![false; self.silent.len()])),
            other => other?,
        };
        let mut happened = ends.iter().skip(1).map(|end| !end.revents().is_empty());
        let is_called = happened.next().unwrap_or(false);
        Ok((is_called && has_room, happened.collect()))
    }

    /// Hands those that say something to the workers.
    fn hand_over(&mut self, speak: &[bool]) {
        if !speak.contains(&true) {
            return;
        }
        let mut state = self.shared.state();
        let mut speak = speak.iter();
        let before = std::mem::take(&mut self.silent);
        for silent in before {
            if speak.next() == Some(&true) {
                state.ready.push_back(silent.client);
                self.shared.for_workers.notify_one();
            } else {
                self.silent.push_back(silent);
            }
        }
    }

    /// Takes in those that call.
    fn accept(&mut self) {
        while self.has_room() {
            match self.listener.accept() {
                Ok((tcp, _)) => {
                    let (client, since) = (Client::New(tcp), Instant::now());
                    if self.shared.connections.load(Ordering::SeqCst) < CONNECTIONS_MAX {
                        self.shared.connections.fetch_add(1, Ordering::SeqCst);
                    } else {
                        // In the place of the one that was silent for longest.
                        self.silent.pop_front();
                    }
                    self.silent.push_back(Silent { client, since });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // It went away before it was taken in.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return thread::sleep(ACCEPT_PAUSE),
            }
        }
    }
}
