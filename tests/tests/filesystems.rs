//! FAT, exFAT, memory and layers: as a store, as what is backed up, as the place
//! of a restore, and of cache and spools. And file systems that cannot sync
//! directories, or fail to.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tiroir_tests::compare::{Rules, assert_same};
use tiroir_tests::disks::{Disk, Kind, Step};
use tiroir_tests::sandbox::{Invocation, Outcome, Sandbox};
use tiroir_tests::store::{self, Kind as Resource};
use tiroir_tests::tree::{Shape, build, chmod, touch};

/// *Done, but not everything.*
const INCOMPLETE: i32 = 3;

const KINDS: [Kind; 4] = [Kind::Vfat, Kind::Exfat, Kind::Tmpfs, Kind::Overlay];

/// FAT and its like keep contents and names, and no more.
fn is_poor(kind: Kind) -> bool {
    matches!(kind, Kind::Vfat | Kind::Exfat)
}

/// What the poor cannot have, beside what they can.
fn make_source(root: &Path) {
    build(root, Shape::PLAIN, 21);
    let file = |name: &str| root.join("rich").join(name);
    fs::create_dir(root.join("rich")).expect("folder");
    fs::write(file("one"), b"one of two names").expect("a file");
    fs::hard_link(file("one"), file("two")).expect("a link");
    fs::hard_link(file("one"), file("three")).expect("a link");
    std::os::unix::fs::symlink("one", file("link")).expect("a link");
    for (name, mode) in [("secret", 0o600), ("tool", 0o755), ("fixed", 0o444)] {
        fs::write(file(name), name).expect("a file");
        chmod(&file(name), mode);
        std::os::unix::fs::chown(file(name), Some(1234), Some(1234)).expect("an owner");
    }
    touch(&file("one"), 1_000_000_001, 123_456_789);
}

/// Everything that a disk is used for.
const ROUND: &str = "
    t create at $D/store create -plaintext
    t backup at $D/store backup $B/src
    t check at $D/store check
    t ls at $D/store ls
    t back at $D/store restore -to $N/back
    say back-differs diff -r --no-dereference $B/src $N/back
    t ptar ptar -plaintext -o $D/a.ptar $B/src
    t ptar-again ptar -plaintext -o $D/a.ptar $B/src
    t ptar-check at $D/a.ptar check
    t sqlite at sqlite:$D/s.db create -plaintext
    t sqlite-backup at sqlite:$D/s.db backup $B/src
    t sqlite-check at sqlite:$D/s.db check

    t out at $D/store restore -to $D/out
    say out-differs diff -r --no-dereference $B/src $D/out
    say out-names sh -c 'cd $0; find . | sort' $D/out
    t out-again at $D/store restore -to $D/out
    say again-differs diff -r --no-dereference $B/src $D/out
    say again-names sh -c 'cd $0; find . | sort' $D/out

    t near at $N/store create -plaintext
    t source at $N/store backup $D/out
    t source-again at $N/store backup $D/out
    t source-back at $N/store restore -to $N/source
    say source-differs diff -r --no-dereference $D/out $N/source

    mkdir $D/home $D/cache $D/tmp
    export HOME=$D/home XDG_CACHE_HOME=$D/cache TMPDIR=$D/tmp
    t cached at $N/store backup $D/out
    t cached-again at $N/store backup $D/out
    t cached-check at $N/store check
    t config store add here location=$N/store
    t configured at @here ls
    say left find $D/tmp -type f
";

fn check_round(kind: Kind, steps: &BTreeMap<String, Step>) {
    let step = |name: &str| steps.get(name).unwrap_or_else(|| panic!("{kind:?}: no {name}"));
    let quiet = [
        "create",
        "backup",
        "check",
        "ls",
        "back",
        "back-differs",
        "ptar",
        "ptar-check",
        "sqlite",
        "sqlite-backup",
        "sqlite-check",
        "near",
        "source",
        "source-again",
        "source-back",
        "source-differs",
        "cached",
        "cached-again",
        "cached-check",
        "config",
        "configured",
    ];
    for name in quiet {
        assert_eq!(step(name).status, 0, "{kind:?}, {name}: {}", step(name).text);
        assert_eq!(step(name).lines_with(&["warning"]), 0, "{kind:?}, {name}: {}", step(name).text);
    }
    // The archive that is there is not replaced.
    assert_ne!(step("ptar-again").status, 0, "{kind:?}");
    assert!(step("ptar-again").text.contains("exist"), "{kind:?}: {}", step("ptar-again").text);
    assert_eq!(step("left").text, "", "{kind:?}");
    for (name, names, differs) in
        [("out", "out-names", "out-differs"), ("out-again", "again-names", "again-differs")]
    {
        let (out, differs) = (step(name), step(differs));
        assert!(!step(names).text.contains(".tiroir-"), "{kind:?}: {}", step(names).text);
        if !is_poor(kind) {
            out.ended(0);
            differs.ended(0);
            continue;
        }
        // One link cannot be there; all else is, with what is in it.
        out.ended(INCOMPLETE);
        assert_eq!(
            out.lines_with(&["rich/link", "no symbolic links"]),
            1,
            "{kind:?}: {}",
            out.text
        );
        assert_eq!(differs.text.lines().count(), 1, "{kind:?}: {}", differs.text);
        assert!(differs.text.contains("Only in") && differs.text.contains("link"));
        // Each lack is told once.
        for lack in ["owners", "no hard links"] {
            assert_eq!(out.lines_with(&["warning", lack]), 1, "{kind:?}, {lack}: {}", out.text);
        }
        assert!(out.lines_with(&["warning"]) <= 4, "{kind:?}: {}", out.text);
    }
}

#[test]
fn every_use_of_every_kind() {
    for kind in KINDS {
        let sandbox = Sandbox::new();
        make_source(&sandbox.path("src"));
        if let Some(disk) = Disk::new(&sandbox, kind) {
            check_round(kind, &disk.run(ROUND));
        }
    }
}

/// Names that such file systems take for one, or do not take; each file holds its
/// path.
const NAMES: [&str; 15] = [
    "README",
    "Readme",
    "readme",
    "Dir/x",
    "dir/x",
    "dir/y",
    "\u{e9}t\u{e9}",
    "\u{c9}T\u{c9}",
    "a:b",
    "what?/in",
    "dots",
    "dots.",
    "cut./in",
    "2024",
    "plain",
];

const CLASH: &str = "
    t create at $N/store create -plaintext
    t backup at $N/store backup $B/src
    t out at $N/store restore -to $D/out
    say first sh -c 'cd $0; find . -type f -exec sh -c \"echo \\$1=\\$(cat \\\"\\$1\\\")\" - {} \\;' $D/out
    t again at $N/store restore -to $D/out
    say second sh -c 'cd $0; find . -type f -exec sh -c \"echo \\$1=\\$(cat \\\"\\$1\\\")\" - {} \\;' $D/out
";

#[test]
fn names_that_are_one() {
    for kind in KINDS {
        let sandbox = Sandbox::new();
        for name in NAMES {
            let path = sandbox.path("src").join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, name).expect("a file");
        }
        let Some(disk) = Disk::new(&sandbox, kind) else { continue };
        let steps = disk.run(CLASH);
        for (out, listing) in [("out", "first"), ("again", "second")] {
            let (out, listing) = (&steps[out], &steps[listing]);
            let is_there = |name: &str| {
                let line = format!("./{name}={name}");
                listing.text.lines().any(|found| found == line)
            };
            if !is_poor(kind) {
                out.ended(0);
                assert!(NAMES.iter().all(|name| is_there(name)), "{kind:?}: {}", listing.text);
                continue;
            }
            out.ended(INCOMPLETE);
            for name in NAMES {
                // Whatever is not there under its name is told of, by its name or
                // by that of a folder above.
                let top = name.split('/').next().expect("a component");
                let told = out.lines_with(&[top]) > 0;
                assert!(is_there(name) || told, "{kind:?}, {name}: {}\n{}", out.text, listing.text);
            }
            for name in ["README", "Dir/x", "2024", "plain"] {
                assert!(is_there(name), "{kind:?}, {name}: {}", listing.text);
            }
            assert!(out.lines_with(&["another spelling"]) >= 3, "{kind:?}: {}", out.text);
            assert!(out.lines_with(&["a:b", "cannot have names"]) == 1, "{kind:?}: {}", out.text);
            // Nothing has the content of something else, but for dots at the end.
            for line in listing.text.lines().filter(|line| !line.is_empty()) {
                let (path, content) = line.split_once('=').expect("a path and what is in it");
                let undotted =
                    |path: &str| path.replace("./", "/").trim_end_matches('.').to_owned();
                assert_eq!(undotted(&path[2..]), undotted(content), "{kind:?}: {}", listing.text);
            }
        }
    }
}

/// FAT has no file of 4 GiB: that is told, and the rest is there.
#[test]
fn files_too_long_for_fat() {
    let sandbox = Sandbox::new();
    let Some(disk) = Disk::new(&sandbox, Kind::Vfat) else { return };
    let steps = disk.run(
        "
        mkdir $N/src; echo small >$N/src/small; truncate -s 4G $N/src/huge
        t create at $N/store create -plaintext
        t backup at $N/store backup $N/src
        t out at $N/store restore -to $D/out
        say names ls $D/out
        say small cat $D/out/small
        ",
    );
    for name in ["create", "backup"] {
        steps[name].ended(0);
    }
    let out = steps["out"].ended(INCOMPLETE);
    assert_eq!(out.lines_with(&["huge", "longer than files can be"]), 1, "{}", out.text);
    assert_eq!(steps["names"].text.trim(), "small");
    assert_eq!(steps["small"].text.trim(), "small");
}

/// What the answers to `fsync` are, and of which paths; all if there are none.
fn syncing<'i>(run: &'i mut Invocation, answer: &str, paths: &[PathBuf]) -> &'i mut Invocation {
    let inject = format!("inject=fsync,fdatasync:error={answer}");
    let mut front = vec!["strace".to_owned(), "-f".into(), "-qq".into(), "-o".into()];
    front.extend(["/dev/null", "-e", "trace=fsync,fdatasync", "-e"].map(str::to_owned));
    front.push(inject);
    for path in paths {
        front.extend(["-P".to_owned(), path.display().to_string()]);
    }
    run.wrapped(front)
}

/// The directories of a store, which need not be there yet.
fn directories(store: &Path) -> Vec<PathBuf> {
    let mut found = vec![store.to_owned(), store.parent().expect("a folder").to_owned()];
    for part in ["packfiles", "states"] {
        found.push(store.join(part));
        found.extend((0..=255).map(|first| store.join(part).join(format!("{first:02x}"))));
    }
    found.push(store.join("locks"));
    found
}

fn warnings(outcome: &Outcome) -> usize {
    let text = String::from_utf8_lossy(&outcome.stderr);
    text.lines().filter(|line| line.contains("cannot be synced")).count()
}

/// CIFS, FUSE and others: one warning, and it goes on.
#[test]
fn directories_that_cannot_be_synced() {
    for answer in ["EINVAL", "EOPNOTSUPP", "ENOSYS"] {
        let sandbox = Sandbox::new();
        let (source, store) = (sandbox.path("src"), sandbox.path("store"));
        build(&source, Shape::LIGHT, 31);
        let paths = directories(&store);
        let run = |mut invocation: Invocation| {
            let outcome = syncing(&mut invocation, answer, &paths).run().status(0);
            assert_eq!(warnings(&outcome), 1, "{answer}: {}", outcome.report());
        };
        let at = |place: String, args: &[&str]| {
            let mut run = sandbox.at(place);
            run.args(args);
            run
        };
        let place = store.display().to_string();
        run(at(place.clone(), &["create", "-plaintext"]));
        let mut backup = at(place, &["backup"]);
        backup.arg(&source);
        run(backup);
        let mut ptar = sandbox.tiroir();
        ptar.args(["ptar", "-plaintext", "-o"]).arg(sandbox.path("a.ptar")).arg(&source);
        run(ptar);
        run(at(format!("sqlite:{}", sandbox.path("s.db").display()), &["create", "-plaintext"]));
        for place in [&store, &sandbox.path("a.ptar")] {
            let out = sandbox.path("out");
            sandbox.at(place).args(["restore", "-to"]).arg(&out).run().status(0);
            assert_same(&source, &out, Rules::EXACT);
            fs::remove_dir_all(out).expect("what was restored");
        }
    }
}

/// A disk that fails is another thing: no snapshot, and nothing is said to be safe.
#[test]
fn disks_that_fail() {
    let sandbox = Sandbox::new();
    let (source, store) = (sandbox.path("src"), sandbox.path("store"));
    build(&source, Shape::LIGHT, 32);
    let fails = |mut invocation: Invocation, paths: &[PathBuf]| {
        let outcome = syncing(&mut invocation, "EIO", paths).run().refused();
        // In the words of one C library or the other.
        let is_told = ["Input/output error", "I/O error"].iter().any(|text| outcome.said(text));
        assert!(is_told, "{}", outcome.report());
        assert_eq!(warnings(&outcome), 0, "{}", outcome.report());
    };
    let mut create = sandbox.at(&store);
    create.args(["create", "-plaintext"]);
    fails(create, std::slice::from_ref(&store));
    fs::remove_dir_all(&store).expect("half a store");
    sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);

    let backup = || {
        let mut run = sandbox.at(&store);
        run.arg("backup").arg(&source);
        run
    };
    let below = |part: &str| -> Vec<PathBuf> {
        directories(&store).into_iter().filter(|path| path.starts_with(store.join(part))).collect()
    };
    // Directories of packfiles, of states, and each file.
    for paths in [below("packfiles"), below("states"), Vec::new()] {
        fails(backup(), &paths);
        assert!(store::of_kind(&store, Resource::State).is_empty());
        let listing = sandbox.at(&store).arg("ls").run().status(0);
        assert_eq!(listing.text(), "");
    }
    let archive = sandbox.path("new/a.ptar");
    fs::create_dir(sandbox.path("new")).expect("a folder");
    let mut ptar = sandbox.tiroir();
    ptar.args(["ptar", "-plaintext", "-o"]).arg(&archive).arg(&source);
    fails(ptar, &[sandbox.path("new")]);
    assert_eq!(fs::read_dir(sandbox.path("new")).expect("a folder").count(), 0);

    // The disk is well again.
    backup().run().status(0);
    sandbox.at(&store).arg("check").run().status(0);
    let out = sandbox.path("out");
    sandbox.at(&store).args(["restore", "-to"]).arg(&out).run().status(0);
    assert_same(&source, &out, Rules::EXACT);
}
