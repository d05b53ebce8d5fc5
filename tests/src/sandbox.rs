//! A folder per test, and programs run in it with a clean environment, a time
//! limit, and their output kept.

use std::cell::{Cell, RefCell};
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::oracle;

/// The passphrase of every encrypted store made by a test. Long enough for
/// stock, which measures it.
pub const PASSPHRASE: &str = "a drawer slides into the closet, 2026";

/// How long a command may take, unless the test says otherwise. Only reached
/// when something hangs: a loaded machine must not fail a test.
pub const TIMEOUT: Duration = Duration::from_secs(300);

/// How long a process of stock may wait for work before it ends by itself,
/// should a test be killed and never end it.
const ORPHAN_LIFE: &str = "10m";

/// A temporary folder, removed with everything in it at the end of the test,
/// and kept, with its path printed, when `TIROIR_KEEP` is set.
#[derive(Debug)]
pub struct Sandbox {
    folder: tempfile::TempDir,
    stock_homes: Cell<u32>,
}

impl Sandbox {
    /// An empty sandbox.
    ///
    /// # Panics
    ///
    /// When the folder cannot be made.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "making one touches the disk")]
    pub fn new() -> Self {
        // Short, because stock puts a socket below it, whose path has a limit.
        let mut folder =
            tempfile::Builder::new().prefix("tr-").tempdir().expect("temporary folder");
        if std::env::var_os("TIROIR_KEEP").is_some() {
            folder.disable_cleanup(true);
            eprintln!("kept: {}", folder.path().display());
        }
        for name in ["home", "tmp", "cache"] {
            fs::create_dir(folder.path().join(name)).expect("folder of a sandbox");
        }
        Self { folder, stock_homes: Cell::new(0) }
    }

    /// A path in the sandbox.
    #[must_use]
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// An invocation of tiroir, without arguments yet.
    ///
    /// # Panics
    ///
    /// When there is no tiroir to test.
    #[must_use]
    pub fn tiroir(&self) -> Invocation {
        let mut invocation = self.program(oracle::tiroir());
        invocation.env("HOME", self.path("home")).env("XDG_CACHE_HOME", self.path("cache"));
        invocation
    }

    /// `tiroir at STORE`, without a command yet.
    #[must_use]
    pub fn at(&self, store: impl AsRef<Path>) -> Invocation {
        let mut invocation = self.tiroir();
        invocation.arg("at").arg(store.as_ref());
        invocation
    }

    /// Another program, with the same clean environment.
    #[must_use]
    pub fn program(&self, path: impl AsRef<Path>) -> Invocation {
        let mut invocation = Invocation::new(path.as_ref());
        invocation
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .cwd(self.folder.path());
        invocation
    }

    /// The engine of plakar 1.0 on `store`.
    #[must_use]
    pub fn kloset10(&self, store: impl AsRef<Path>) -> Invocation {
        let mut invocation = self.program(oracle::kloset10());
        invocation.arg(store.as_ref());
        invocation
    }

    /// Stock plakar with a home and caches of its own. It trusts the certificate
    /// `cert.pem` in the sandbox, if there is one by then.
    ///
    /// One serves any number of stores. Take a fresh one to look at a *copy* of
    /// a store: stock's caches go by the identifier of the repository, and its
    /// background process keeps the first path that it was given for it.
    ///
    /// # Panics
    ///
    /// When stock was not built, or its background process does not start.
    #[must_use]
    pub fn stock(&self) -> Stock<'_> {
        let number = self.stock_homes.replace(self.stock_homes.get() + 1);
        Stock::start(self, &format!("s{number}"))
    }
}

/// Stock plakar 1.1.4, isolated.
///
/// Each command of stock asks a background process, `cached`, to bring its
/// caches up to date, and starts one if there is none; that one leaves its
/// session and stays for some seconds. Here it is started beforehand, in the
/// foreground, as a child that is ended with this value: commands find its
/// socket and start none.
#[derive(Debug)]
pub struct Stock<'s> {
    sandbox: &'s Sandbox,
    program: PathBuf,
    home: PathBuf,
    /// Ended with this value.
    cached: RefCell<Running>,
}

impl<'s> Stock<'s> {
    fn start(sandbox: &'s Sandbox, name: &str) -> Self {
        let program = oracle::plakar();
        let home = sandbox.path(name);
        // Without the first mark stock greets on stdout; without the second it
        // asks a server for updates.
        let marks = home.join(".cache/plakar/cookies/1.0.0");
        fs::create_dir_all(&marks).expect("home of stock");
        for mark in [".first-run", ".disabled-security-check"] {
            fs::write(marks.join(mark), "").expect("mark for stock");
        }
        let cached = Self::invocation(sandbox, &program, &home)
            .args(["cached", "-foreground", "-teardown", ORPHAN_LIFE])
            .start();
        let stock = Self { sandbox, program, home, cached: RefCell::new(cached) };
        stock.wait_for_socket();
        stock
    }

    fn wait_for_socket(&self) {
        let socket = self.home.join(".cache/plakar/cached.sock");
        let deadline = Instant::now() + Duration::from_secs(60);
        while !socket.exists() {
            if let Some(status) = self.cached.borrow_mut().ended() {
                panic!("stock's cached ended at once: {status}");
            }
            assert!(Instant::now() < deadline, "stock's cached made no socket");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn invocation(sandbox: &Sandbox, program: &Path, home: &Path) -> Invocation {
        let mut invocation = sandbox.program(program);
        invocation.env("HOME", home);
        // Its background process speaks to servers too.
        let certificate = sandbox.path("cert.pem");
        if certificate.exists() {
            invocation.env("SSL_CERT_FILE", certificate);
        }
        invocation
    }

    /// `plakar`, without arguments yet.
    #[must_use]
    pub fn plakar(&self) -> Invocation {
        Self::invocation(self.sandbox, &self.program, &self.home)
    }

    /// `plakar at STORE`, without a command yet.
    #[must_use]
    pub fn at(&self, store: impl AsRef<Path>) -> Invocation {
        let mut invocation = self.plakar();
        invocation.arg("at").arg(store.as_ref());
        invocation
    }

    /// `plakar -quiet at STORE`: only errors and summaries are printed.
    #[must_use]
    pub fn quiet_at(&self, store: impl AsRef<Path>) -> Invocation {
        let mut invocation = self.plakar();
        invocation.arg("-quiet").arg("at").arg(store.as_ref());
        invocation
    }

    /// Stock's configuration, for what has no place on its command line: the
    /// passphrase of the other store of a `sync`. That store is then `@NAME`.
    ///
    /// # Panics
    ///
    /// When the files cannot be written.
    pub fn configure_store(&self, name: &str, store: &Path, passphrase: Option<&str>) {
        let folder = self.home.join(".config/plakar");
        fs::create_dir_all(&folder).expect("configuration of stock");
        let mut stores =
            format!("version: v1.0.0\nstores:\n  {name}:\n    location: \"{}\"\n", store.display());
        if let Some(passphrase) = passphrase {
            writeln!(stores, "    passphrase: \"{passphrase}\"").expect("a string grows");
        }
        // Stock reads all three or none.
        for (file, text) in [
            ("stores.yml", stores.as_str()),
            ("sources.yml", "version: v1.0.0\nsources: {}\n"),
            ("destinations.yml", "version: v1.0.0\ndestinations: {}\n"),
        ] {
            fs::write(folder.join(file), text).expect("configuration of stock");
        }
    }
}

/// A command about to be run.
#[derive(Debug)]
pub struct Invocation {
    program: OsString,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    cwd: Option<PathBuf>,
    stdin: Vec<u8>,
    timeout: Duration,
}

impl Invocation {
    fn new(program: &Path) -> Self {
        let mut invocation = Self {
            program: program.into(),
            args: Vec::new(),
            envs: Vec::new(),
            cwd: None,
            stdin: Vec::new(),
            timeout: TIMEOUT,
        };
        // Nothing else is inherited: neither language, nor time zone, nor the
        // passphrases and stores of whoever runs the tests.
        invocation.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("TZ", "UTC");
        invocation
    }

    /// Adds an argument.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(&mut self, args: impl IntoIterator<Item = A>) -> &mut Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the environment.
    pub fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.envs.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets `PLAKAR_PASSPHRASE`, if there is a passphrase.
    pub fn passphrase<'p>(&mut self, passphrase: impl Into<Option<&'p str>>) -> &mut Self {
        if let Some(passphrase) = passphrase.into() {
            self.env("PLAKAR_PASSPHRASE", passphrase);
        }
        self
    }

    /// Runs it in `folder` instead of in the sandbox.
    pub fn cwd(&mut self, folder: impl AsRef<Path>) -> &mut Self {
        self.cwd = Some(folder.as_ref().to_owned());
        self
    }

    /// What it reads from its standard input; nothing otherwise.
    pub fn stdin(&mut self, bytes: impl Into<Vec<u8>>) -> &mut Self {
        self.stdin = bytes.into();
        self
    }

    /// Sets the time after which it is killed, which fails the test.
    pub fn timeout(&mut self, timeout: Duration) -> &mut Self {
        self.timeout = timeout;
        self
    }

    /// Puts another command in front: `setpriv … PROGRAM ARGS`.
    pub fn wrapped<A: AsRef<OsStr>>(&mut self, front: impl IntoIterator<Item = A>) -> &mut Self {
        let mut line: Vec<OsString> =
            front.into_iter().map(|word| word.as_ref().to_owned()).collect();
        line.push(self.program.clone());
        line.append(&mut self.args);
        self.program = line.remove(0);
        self.args = line;
        self
    }

    /// As a terminal starts it: no signal is ignored, as some may be where the tests run,
    /// under `nohup` or in the background of a script.
    pub fn with_default_signals(&mut self) -> &mut Self {
        self.wrapped(["env", "--default-signal"])
    }

    /// The command as one would type it, for messages.
    pub(crate) fn line(&self) -> String {
        let mut line = self.program.to_string_lossy().into_owned();
        for arg in &self.args {
            line.push(' ');
            line.push_str(&arg.to_string_lossy());
        }
        line
    }

    /// The command, for who starts it in another way.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_clear().envs(self.envs.iter().map(|(k, v)| (k, v)));
        if let Some(folder) = &self.cwd {
            command.current_dir(folder);
        }
        command
    }

    /// Starts it, and leaves it running.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn start(&mut self) -> Running {
        let mut child = self
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", self.line()));
        Running {
            line: self.line(),
            start: Instant::now(),
            timeout: self.timeout,
            stdin: child.stdin.take(),
            stdout: Some(drain(child.stdout.take().expect("piped"))),
            stderr: Some(drain(child.stderr.take().expect("piped"))),
            child,
        }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    ///
    /// When it cannot be started, or does not end in its time.
    pub fn run(&mut self) -> Outcome {
        let mut running = self.start();
        let mut stdin = running.stdin.take().expect("not taken yet");
        let input = std::mem::take(&mut self.stdin);
        // On a thread of its own, which may stay behind: a program need not
        // read its input, and that the pipe is gone then is no error.
        thread::spawn(move || drop(stdin.write_all(&input)));
        running.finish()
    }
}

/// A command that runs. Killed when dropped before its end.
#[derive(Debug)]
pub struct Running {
    line: String,
    start: Instant,
    timeout: Duration,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<thread::JoinHandle<Vec<u8>>>,
    stderr: Option<thread::JoinHandle<Vec<u8>>>,
}

impl Running {
    /// Gives it more to read.
    ///
    /// # Panics
    ///
    /// When it does not read.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().expect("open until finish").write_all(bytes).expect("a reader");
    }

    /// Number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    ///
    /// When it has ended.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.id()).expect("a process");
        let id = rustix::process::Pid::from_raw(id).expect("a process");
        rustix::process::kill_process(id, signal).expect("a process that runs");
    }

    /// Whether it has ended, in whatever way.
    ///
    /// # Panics
    ///
    /// When its status cannot be asked for.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("status of a child")
    }

    /// Closes its input and waits for its end.
    ///
    /// # Panics
    ///
    /// When it does not end in its time.
    pub fn finish(mut self) -> Outcome {
        self.stdin = None;
        let mut pause = Duration::from_millis(1);
        let mut in_time = true;
        let status = loop {
            if let Some(status) = self.ended() {
                break status;
            }
            if self.start.elapsed() > self.timeout {
                in_time = false;
                let _ = self.child.kill();
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        };
        let outcome = Outcome {
            line: std::mem::take(&mut self.line),
            status,
            stdout: collect(self.stdout.take()),
            stderr: collect(self.stderr.take()),
            elapsed: self.start.elapsed(),
        };
        if std::env::var_os("TIROIR_TIMES").is_some() {
            eprintln!("{:?} {}", outcome.elapsed, outcome.line);
        }
        assert!(in_time, "killed after {:?}\n{}", self.timeout, outcome.report());
        outcome
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After `finish` both fail, and then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(reader: Option<thread::JoinHandle<Vec<u8>>>) -> Vec<u8> {
    reader.expect("taken once").join().expect("reader of a pipe")
}

fn drain(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("output of a child");
        bytes
    })
}

/// How a command ended.
#[derive(Debug)]
pub struct Outcome {
    line: String,
    status: ExitStatus,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    pub stderr: Vec<u8>,
    /// Time from start to end.
    pub elapsed: Duration,
}

impl Outcome {
    /// The exit status, if it was not a signal.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Asserts success.
    ///
    /// # Panics
    ///
    /// When the status is not 0.
    #[track_caller]
    #[must_use = "a check may be all there is; then write `drop`"]
    pub fn ok(self) -> Self {
        self.status(0)
    }

    /// Asserts an exit status.
    ///
    /// # Panics
    ///
    /// When it is another one, or a signal.
    #[track_caller]
    pub fn status(self, code: i32) -> Self {
        assert!(self.code() == Some(code), "status {code} expected\n{}", self.report());
        self
    }

    /// Asserts that it failed of its own will: neither status 0, nor a signal,
    /// nor a panic.
    ///
    /// # Panics
    ///
    /// When it did not.
    #[track_caller]
    pub fn refused(self) -> Self {
        assert!(self.code().is_some_and(|code| code != 0), "failure expected\n{}", self.report());
        self.sane()
    }

    /// Asserts that it ended of its own will, in whatever way.
    ///
    /// # Panics
    ///
    /// When it was ended by a signal, or panicked.
    #[track_caller]
    pub fn sane(self) -> Self {
        assert!(self.status.signal().is_none(), "ended by a signal\n{}", self.report());
        // 101 is what a panic that unwinds ends with.
        assert!(
            self.code() != Some(101) && !self.said("panicked at"),
            "panicked\n{}",
            self.report()
        );
        self
    }

    /// Whether either output holds `text`.
    #[must_use]
    pub fn said(&self, text: &str) -> bool {
        let holds =
            |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        holds(&self.stdout) || holds(&self.stderr)
    }

    /// Standard output as text.
    ///
    /// # Panics
    ///
    /// When it is not UTF-8.
    #[must_use]
    pub fn text(&self) -> &str {
        str::from_utf8(&self.stdout).expect("output in UTF-8")
    }

    /// Everything one needs to see when it went wrong.
    #[must_use]
    pub fn report(&self) -> String {
        format!(
            "{}\n{}, {:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.line,
            self.status,
            self.elapsed,
            tail(&self.stdout),
            tail(&self.stderr)
        )
    }
}

/// The end of an output, which is where the reason is.
fn tail(bytes: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 4000;
    let cut = bytes.len().saturating_sub(SHOWN_BYTES_MAX);
    let mark = if cut > 0 { "[…]" } else { "" };
    format!("{mark}{}", String::from_utf8_lossy(&bytes[cut..]))
}
