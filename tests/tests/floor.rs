//! The oldest kernel: every call that came after Linux 3.2 is denied, one by one
//! and all together, and everything works as before. Which calls those are is
//! held against `docs/kernel.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use tiroir_tests::compare::{Rules, assert_same};
use tiroir_tests::kernel::{FIRST_NEWER, Kernel};
use tiroir_tests::sandbox::{Invocation, Outcome, PASSPHRASE, Sandbox};
use tiroir_tests::servers::ssh::{Kind, Ssh};
use tiroir_tests::servers::tiroir::TiroirServer;
use tiroir_tests::tree::{Shape, build, mutate};

/// Calls after Linux 3.2 that a program of ours makes, itself or in its C library,
/// and the kernel that brought them.
const NEWER: [(&str, &str); 9] = [
    ("renameat2", "3.15"),
    ("getrandom", "3.17"),
    ("memfd_create", "3.17"),
    ("copy_file_range", "4.5"),
    ("statx", "4.11"),
    ("rseq", "4.18"),
    ("clone3", "5.3"),
    ("faccessat2", "5.8"),
    ("listxattrat", "6.13"),
];

/// Runs a command with these further arguments and this path.
type Run<'r> = dyn Fn(Invocation, &[&str], Option<&Path>) -> Outcome + 'r;

/// Something to back up, and where it goes.
struct Scene<'s> {
    sandbox: &'s Sandbox,
    source: PathBuf,
    store: PathBuf,
}

impl<'s> Scene<'s> {
    fn new(sandbox: &'s Sandbox, shape: Shape) -> Self {
        let (source, store) = (sandbox.path("src"), sandbox.path("store"));
        build(&source, shape, 5);
        // Somebody else's, whose owner has to be set, where root runs this.
        let theirs = source.join("theirs");
        std::os::unix::fs::symlink("nowhere", &theirs).expect("a link");
        let _ = std::os::unix::fs::lchown(&theirs, Some(1234), Some(1234));
        Self { sandbox, source, store }
    }

    /// Every command that people use, each in the way that `with` says.
    fn everything(&self, with: &dyn Fn(Invocation) -> Invocation) {
        let at = |store: &Path| {
            let mut run = self.sandbox.at(store);
            run.passphrase(PASSPHRASE);
            run
        };
        let run = |mut invocation: Invocation, args: &[&str], path: Option<&Path>| {
            invocation.args(args).args(path);
            let outcome = with(invocation).run().status(0);
            assert!(!outcome.said("warning"), "{}", outcome.report());
            outcome
        };
        run(at(&self.store), &["create", "-kdf-memory", "8M"], None);
        run(at(&self.store), &["backup"], Some(&self.source));
        mutate(&self.source, 6);
        run(at(&self.store), &["backup"], Some(&self.source));
        run(at(&self.store), &["check"], None);
        let listing = run(at(&self.store), &["ls"], None);
        assert_eq!(listing.text().lines().count(), 2);
        self.restore(&self.store, &run, &at);

        let archive = self.sandbox.path("a.ptar");
        let mut ptar = self.sandbox.tiroir();
        ptar.passphrase(PASSPHRASE).args(["ptar", "-kdf-memory", "8M", "-o"]).arg(&archive);
        run(ptar, &[], Some(&self.source));
        run(at(&archive), &["check"], None);
        self.restore(&archive, &run, &at);
    }

    fn restore(&self, store: &Path, run: &Run<'_>, at: &dyn Fn(&Path) -> Invocation) {
        let out = self.sandbox.path("out");
        run(at(store), &["restore", "-to"], Some(&out));
        assert_same(&self.source, &out, Rules::EXACT);
        // Once more, over what is there.
        run(at(store), &["restore", "-to"], Some(&out));
        assert_same(&self.source, &out, Rules::EXACT);
        fs::remove_dir_all(out).expect("what was restored");
    }
}

/// A full round under a kernel, on a store of its own.
fn works_on(kernel: &Kernel) {
    works_with(kernel, Shape::LIGHT);
}

fn works_with(kernel: &Kernel, shape: Shape) {
    kernel.run(|| Scene::new(&Sandbox::new(), shape).everything(&|invocation| invocation));
}

#[test]
fn without_statx() {
    works_on(&Kernel::new().without([libc::SYS_statx]));
}

#[test]
fn without_renames_that_replace_nothing() {
    works_on(&Kernel::new().without([libc::SYS_renameat2]));
}

#[test]
fn without_getrandom() {
    works_on(&Kernel::new().without([libc::SYS_getrandom]));
}

#[test]
fn without_copies_and_openat2() {
    works_on(&Kernel::new().without([libc::SYS_copy_file_range, libc::SYS_openat2]));
}

/// As kernels before 3.11 say it, and as file systems do.
#[test]
fn without_files_that_have_no_name() {
    for errno in [libc::EISDIR, libc::EOPNOTSUPP] {
        works_on(&Kernel::new().without_tmpfile(errno));
    }
}

#[test]
fn without_anything_new() {
    works_with(&Kernel::oldest(), Shape::FULL);
}

/// The filter denies what it says.
#[test]
fn the_filter_is_there() {
    let directory = tempfile::tempdir().expect("a folder");
    let open = || {
        let flags = rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR;
        rustix::fs::open(directory.path(), flags, rustix::fs::Mode::RWXU)
    };
    let random = || {
        let mut bytes = [0; 8];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
    };
    assert_eq!(random(), Ok(8));
    let (opened, filled) = Kernel::oldest().run(|| (open().map(drop), random()));
    assert_eq!(opened, Err(rustix::io::Errno::ISDIR));
    assert_eq!(filled, Err(rustix::io::Errno::NOSYS));
}

/// The server, its client, and SFTP.
#[test]
fn servers_without_anything_new() {
    // Only what is tested meets the old kernel.
    let folder = tempfile::tempdir().expect("a folder");
    let ssh = Ssh::start(Kind::Dropbear, &folder.path().join("ssh"));
    Kernel::oldest().run(|| {
        let sandbox = Sandbox::new();
        let (source, store, out) =
            (sandbox.path("src"), sandbox.path("store"), sandbox.path("out"));
        build(&source, Shape { fifo: false, xattrs: false, ..Shape::FULL }, 7);
        sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);
        let server = TiroirServer::start(&sandbox, &store, [""; 0]);
        let url = format!("http://127.0.0.1:{}", server.port);
        let at = |place: &str, options: &[String]| {
            let mut run = sandbox.tiroir();
            for option in options {
                run.arg("-store-option").arg(option);
            }
            run.args(["at", place]);
            run
        };
        let round = |place: &str, options: &[String]| {
            at(place, options).arg("backup").arg(&source).run().status(0);
            at(place, options).arg("check").run().status(0);
            at(place, options).args(["restore", "-to"]).arg(&out).run().status(0);
            assert_same(&source, &out, Rules::EXACT);
            fs::remove_dir_all(&out).expect("what was restored");
        };
        round(&url, &[]);
        drop(server);

        let place = ssh.location(ssh.server.port, &sandbox.path("remote"));
        let options = ssh.options(ssh.server.port);
        at(&place, &options).args(["create", "-plaintext"]).run().status(0);
        round(&place, &options);
    });
}

/// What a trace of all system calls shows.
#[derive(Default)]
struct Trace {
    /// Names of those after Linux 3.2.
    newer: BTreeSet<String>,
    calls: usize,
    /// `fstat` on what was opened to be passed through, which Linux 3.6 brought.
    on_paths: Vec<String>,
}

impl Trace {
    /// Reads a file that `strace -f -n` wrote: each line a process, a number in
    /// brackets and a call. What is cut by another thread's call is put together.
    fn read(&mut self, text: &str) {
        let mut cut: BTreeMap<&str, String> = BTreeMap::new();
        let mut passing: BTreeSet<i64> = BTreeSet::new();
        for line in text.lines() {
            let Some((process, rest)) = line.split_once(' ') else { continue };
            let rest = rest.trim_start();
            let Some((number, call)) =
                rest.strip_prefix('[').and_then(|rest| rest.split_once("] "))
            else {
                continue;
            };
            let whole = if let Some(start) = call.strip_suffix("<unfinished ...>") {
                cut.insert(process, start.to_owned());
                continue;
            } else if call.starts_with("<...") {
                let end = call.split_once('>').map_or("", |(_, end)| end);
                cut.remove(process).unwrap_or_default() + end
            } else {
                call.to_owned()
            };
            self.calls += 1;
            let name = whole.split('(').next().unwrap_or_default();
            let number: i64 = number.trim().parse().expect("a number");
            if number >= FIRST_NEWER {
                // An strace that is older than the call has no name for it.
                let name = if number == 465 { "listxattrat" } else { name };
                self.newer.insert(name.to_owned());
            }
            let told = whole.rsplit(" = ").next().unwrap_or_default();
            let told: Option<i64> =
                told.split_whitespace().next().and_then(|word| word.parse().ok());
            let first = whole.split('(').nth(1).and_then(|rest| rest.split([',', ')']).next());
            let first: Option<i64> = first.and_then(|word| word.trim().parse().ok());
            match (name, told, first) {
                ("open" | "openat", Some(made), _) if made >= 0 => {
                    passing.remove(&made);
                    if whole.contains("O_PATH") {
                        passing.insert(made);
                    }
                }
                ("fcntl" | "dup", Some(made), Some(from)) if whole.contains("DUP") => {
                    if passing.contains(&from) {
                        passing.insert(made);
                    } else {
                        passing.remove(&made);
                    }
                }
                ("close", _, Some(closed)) => _ = passing.remove(&closed),
                ("fstat", _, Some(asked)) if passing.contains(&asked) => {
                    self.on_paths.push(line.to_owned());
                }
                _ => {}
            }
        }
    }
}

/// The program makes no newer call than `docs/kernel.md` knows.
#[test]
fn the_page_knows_every_newer_call() {
    let sandbox = Sandbox::new();
    let trace = sandbox.path("trace");
    let count = std::cell::Cell::new(0);
    Scene::new(&sandbox, Shape::LIGHT).everything(&|mut invocation| {
        let file = format!("{}-{}", trace.display(), count.get());
        count.set(count.get() + 1);
        invocation.wrapped(["strace", "-f", "-n", "-qq", "-s", "0", "-o", &file]);
        invocation
    });
    let mut found = Trace::default();
    for number in 0..count.get() {
        let text = fs::read_to_string(format!("{}-{number}", trace.display())).expect("a trace");
        let before = found.calls;
        found.read(&text);
        assert!(found.calls > before + 50, "trace {number} is short");
    }
    let known: BTreeSet<&str> = NEWER.iter().map(|(name, _)| *name).collect();
    let unknown: Vec<_> =
        found.newer.iter().filter(|name| !known.contains(name.as_str())).collect();
    assert!(unknown.is_empty(), "new to docs/kernel.md: {unknown:?}");
    // That it is seen at all: no kernel keeps this one from being tried.
    assert!(found.newer.contains("renameat2"), "{:?}", found.newer);
    assert_eq!(found.on_paths, Vec::<String>::new());

    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kernel.md");
    let page = fs::read_to_string(page).expect("docs/kernel.md");
    for (name, since) in NEWER {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{name}`")));
        let row = row.unwrap_or_else(|| panic!("docs/kernel.md has no row for {name}"));
        assert!(row.contains(&format!("| {since} |")), "{row}");
    }
}
