//! The command line, where people and scripts meet it: exit statuses, the same
//! columns and the same layout as stock's, and unreadable files.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use tiroir_tests::compare::{Rules, assert_same, differences};
use tiroir_tests::sandbox::{Invocation, PASSPHRASE, Sandbox};
use tiroir_tests::scene::{Variant, identifiers};
use tiroir_tests::store;
use tiroir_tests::tree::{self, Shape};

const USAGE: i32 = 64;
const INTEGRITY: i32 = 65;
const STORE_ABSENT: i32 = 66;
const PASSPHRASE_WRONG: i32 = 77;
const INCOMPATIBLE: i32 = 78;

/// Statuses with a meaning; *some files could not be read* has one of its own.
const OTHER_STATUSES: [i32; 9] =
    [0, 1, 2, USAGE, INTEGRITY, STORE_ABSENT, PASSPHRASE_WRONG, INCOMPATIBLE, 101];

/// Who the unprivileged runs are run as.
const NOBODY: u32 = 65534;

#[test]
fn usage() {
    let sandbox = Sandbox::new();
    let store = sandbox.path("store");
    sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);
    for args in [
        &["nosuchcommand"][..],
        &["ls", "-nosuchoption"],
        &["ls", "one", "two"],
        &["cat"],
        &["backup", "-tag"],
        &["create", "-hashing", "MD5"],
        &["ptar"],
        &["diff"],
    ] {
        let outcome = sandbox.at(&store).args(args).run().status(USAGE);
        assert!(outcome.stdout.is_empty() && !outcome.stderr.is_empty(), "{}", outcome.report());
    }
    sandbox.tiroir().run().status(USAGE);
    sandbox.tiroir().arg("at").run().status(USAGE);
    sandbox.tiroir().args(["--memory", "lots", "at"]).arg(&store).arg("ls").run().status(USAGE);
}

#[test]
fn help_and_version_need_no_store() {
    let sandbox = Sandbox::new();
    for args in [&["help"][..], &["help", "backup"], &["version"]] {
        let outcome = sandbox.tiroir().args(args).run().status(0);
        assert!(!outcome.stdout.is_empty(), "{}", outcome.report());
    }
    assert!(sandbox.tiroir().arg("version").run().said(env!("CARGO_PKG_VERSION")));
}

/// Options in stock's form and in the usual ones.
#[test]
fn both_forms_of_options() {
    let sandbox = Sandbox::new();
    let (source, store) = (sandbox.path("src"), sandbox.path("store"));
    tree::build(&source, Shape::PLAIN, 2);
    sandbox.at(&store).args(["create", "--plaintext"]).run().status(0);
    sandbox.at(&store).args(["backup", "--tag=a,b"]).arg(&source).run().status(0);
    let forms: [fn(&mut Invocation, &Path); 3] = [
        |invocation, out| {
            invocation.arg("-to").arg(out);
        },
        |invocation, out| {
            invocation.arg("--to").arg(out);
        },
        |invocation, out| {
            invocation.arg(format!("--to={}", out.display()));
        },
    ];
    for (number, form) in forms.into_iter().enumerate() {
        let out = sandbox.path(format!("out {number}"));
        let mut restore = sandbox.at(&store);
        restore.arg("restore");
        form(&mut restore, &out);
        restore.run().status(0);
        assert_same(&source, &out, Rules::EXACT);
    }
    let listing = sandbox.at(&store).args(["ls", "-tags"]).run().status(0);
    assert!(listing.text().trim_end().ends_with(" tags=a,b"), "{}", listing.report());
}

#[test]
fn absent_store() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("src");
    tree::build(&source, Shape::PLAIN, 2);
    for store in ["none", "none.ptar"] {
        for command in ["ls", "check", "info"] {
            let outcome = sandbox.at(sandbox.path(store)).arg(command).run();
            let outcome = outcome.status(STORE_ABSENT);
            assert!(outcome.said(store), "does not say what\n{}", outcome.report());
        }
    }
    let nothing = sandbox.path("none");
    sandbox.at(&nothing).arg("backup").arg(&source).run().status(STORE_ABSENT);
    // A directory that is no store is one that is absent.
    sandbox.at(&source).arg("ls").run().status(STORE_ABSENT);
    assert!(!nothing.exists(), "made by looking");
}

#[test]
fn passphrases() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("src");
    tree::build(&source, Shape::PLAIN, 2);
    for variant in [Variant::ENCRYPTED, Variant::PTAR_ENCRYPTED] {
        variant.make_with_tiroir(&sandbox, &source);
        let store = variant.path(&sandbox);
        for wrong in [Some("not this one"), None] {
            let outcome = sandbox.at(&store).passphrase(wrong).arg("ls").run();
            let outcome = outcome.status(PASSPHRASE_WRONG);
            assert!(!outcome.said("not this one"), "prints passphrases\n{}", outcome.report());
        }
        let key_file = sandbox.path("passphrase");
        // One newline at the end is not part of it.
        fs::write(&key_file, format!("{PASSPHRASE}\n")).expect("key file");
        let mut invocation = sandbox.tiroir();
        invocation.arg("-keyfile").arg(&key_file).arg("at").arg(&store).arg("ls");
        invocation.run().status(0);
        // The key file comes before the environment, as with stock.
        let mut invocation = sandbox.tiroir();
        invocation.passphrase("not this one").arg("-keyfile").arg(&key_file);
        invocation.arg("at").arg(&store).arg("check").run().status(0);
        let mut invocation = sandbox.at(&store);
        invocation.env("TIROIR_PASSPHRASE", PASSPHRASE).arg("ls").run().status(0);
    }
}

#[test]
fn derived_key_opens_the_store() {
    let sandbox = Sandbox::new();
    let (source, key) = (sandbox.path("src"), sandbox.path("key"));
    tree::build(&source, Shape::PLAIN, 2);
    Variant::ENCRYPTED.make_with_tiroir(&sandbox, &source);
    let store = Variant::ENCRYPTED.path(&sandbox);
    sandbox.at(&store).passphrase(PASSPHRASE).args(["key", "-o"]).arg(&key).run().status(0);
    let mode = fs::metadata(&key).expect("key").permissions().mode();
    assert_eq!(mode & 0o077, 0, "a key for all to read");

    let with_key = || {
        let mut invocation = sandbox.tiroir();
        invocation.arg("--key-file").arg(&key).arg("at").arg(&store);
        invocation
    };
    with_key().arg("backup").arg(&source).run().status(0);
    with_key().arg("check").run().status(0);
    // The key of another store is the wrong one.
    let other = sandbox.path("other");
    sandbox.at(&other).passphrase(PASSPHRASE).arg("create").run().status(0);
    let mut invocation = sandbox.tiroir();
    invocation.arg("--key-file").arg(&key).arg("at").arg(&other).arg("ls");
    invocation.run().status(PASSPHRASE_WRONG);
}

#[test]
fn create_does_not_overwrite() {
    let sandbox = Sandbox::new();
    let (source, store) = (sandbox.path("src"), sandbox.path("store"));
    tree::build(&source, Shape::PLAIN, 2);
    sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);
    let config = fs::read(store.join("CONFIG")).expect("CONFIG");
    sandbox.at(&store).args(["create", "-plaintext"]).run().refused();
    assert_eq!(fs::read(store.join("CONFIG")).expect("CONFIG"), config);
    sandbox.at(&source).args(["create", "-plaintext"]).run().refused();

    let ptar = sandbox.path("one.ptar");
    let make = || {
        let mut invocation = sandbox.tiroir();
        invocation.args(["ptar", "-plaintext", "-o"]).arg(&ptar).arg(&source);
        invocation
    };
    make().run().status(0);
    make().run().refused();
    sandbox.at(&ptar).arg("check").run().status(0);
}

#[test]
fn integrity_and_incompatible() {
    let sandbox = Sandbox::new();
    let (source, store) = (sandbox.path("src"), sandbox.path("store"));
    tree::build(&source, Shape::PLAIN, 2);
    sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);
    sandbox.at(&store).arg("backup").arg(&source).run().status(0);
    let packfile = &store::of_kind(&store, store::Kind::Packfile)[0];
    let bytes = fs::read(&packfile.path).expect("packfile");
    fs::write(&packfile.path, &bytes[..bytes.len() / 2]).expect("packfile");
    let outcome = sandbox.at(&store).arg("check").run().status(INTEGRITY);
    assert!(outcome.said(&packfile.name()[..8]), "{}", outcome.report());

    let newer = sandbox.path("newer");
    sandbox.at(&newer).args(["create", "-plaintext"]).run().status(0);
    let mut config = fs::read(newer.join("CONFIG")).expect("CONFIG");
    // Version 2.0.0, with the MAC that belongs to it: BLAKE3 without a key.
    config[12..16].copy_from_slice(&0x0002_0000u32.to_le_bytes());
    let end = config.len() - store::ENVELOPE_MAC_BYTES;
    let mac = *blake3::hash(&config[..end]).as_bytes();
    config[end..].copy_from_slice(&mac);
    fs::write(newer.join("CONFIG"), config).expect("CONFIG");
    sandbox.at(&newer).arg("ls").run().status(INCOMPATIBLE);
}

#[test]
fn unknown_and_ambiguous_snapshots() {
    let sandbox = Sandbox::new();
    let (source, store) = (sandbox.path("src"), sandbox.path("store"));
    tree::build(&source, Shape::PLAIN, 2);
    sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);
    for _ in 0..2 {
        sandbox.at(&store).arg("backup").arg(&source).run().status(0);
    }
    for args in [
        &["ls", "zz"][..],
        &["ls", ":plain"],
        &["cat", "zz:plain/hello.txt"],
        &["restore", "-to", "out", "zz"],
        &["info", "zz"],
    ] {
        sandbox.at(&store).args(args).run().refused();
    }
    assert!(!sandbox.path("out").exists(), "made for nothing");
    let ids = identifiers(sandbox.at(&store).args(["ls", "-uuid"]).run().status(0).text());
    for length in [8, 13, 64] {
        let hello = format!("{}:plain/hello.txt", &ids[0][..length]);
        let outcome = sandbox.at(&store).arg("cat").arg(hello).run().status(0);
        assert_eq!(outcome.stdout, b"Hello, world!\n");
    }
    let missing = format!("{}:no/such/file", &ids[0][..8]);
    sandbox.at(&store).arg("cat").arg(missing).run().refused();
}

/// Columns, order and spelling, where a script would notice: on snapshots of
/// both programs in one store.
#[test]
fn listings_equal_those_of_stock() {
    let sandbox = Sandbox::new();
    let stock = sandbox.stock();
    let (source, store) = (sandbox.path("src"), sandbox.path("store"));
    tree::build(&source, Shape::FULL, 3);
    stock.at(&store).args(["create", "-plaintext"]).run().status(0);
    stock
        .at(&store)
        .args(["backup", "-tag", "one,two", "-name", "first"])
        .arg(&source)
        .run()
        .status(0);
    store::remove_locks(&store);
    sandbox.at(&store).args(["backup", "-tag", "three"]).arg(&source).run().status(0);

    let ids = identifiers(stock.at(&store).args(["ls", "-uuid"]).run().status(0).text());
    let mut lines: Vec<Vec<String>> = [
        &["ls"][..],
        &["ls", "-uuid", "-tags"],
        &["ls", "-tag", "one"],
        &["ls", "-name", "first"],
        &["ls", "-latest"],
        &["locate", "text.txt"],
        &["info"],
    ]
    .iter()
    .map(|args| args.iter().map(|&arg| arg.to_owned()).collect())
    .collect();
    for id in &ids {
        lines.push(vec!["info".into(), id.clone()]);
        for path in ["", ":/", ":plain", ":wide", ":odd", ":plain/hello.txt", ":links/to dir"] {
            lines.push(vec!["ls".into(), format!("{id}{path}")]);
            lines.push(vec!["ls".into(), "-recursive".into(), format!("{id}{path}")]);
        }
    }
    for args in lines {
        let ours = sandbox.at(&store).args(&args).run().status(0);
        let theirs = stock.at(&store).args(&args).run().status(0);
        // Stock looks for a key that nobody records, and always shows nothing.
        let lines = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            text.lines().filter(|l| !l.starts_with(" - GOMAXPROCS")).map(str::to_owned).collect()
        };
        let [ours_lines, theirs_lines]: [Vec<String>; 2] =
            [lines(&ours.stdout), lines(&theirs.stdout)];
        assert!(ours_lines == theirs_lines, "{}\n{}", ours.report(), theirs.report());
    }
    for args in [["diff", "-recursive"], ["digest", "-hashing=SHA256"]] {
        let at = ids.iter().map(|id| format!("{id}:plain"));
        let ours = sandbox.at(&store).args(args).args(at.clone()).run().status(0);
        let theirs = stock.at(&store).args(args).args(at).run().status(0);
        assert!(ours.stdout == theirs.stdout, "{}\n{}", ours.report(), theirs.report());
    }
}

/// What is written where, for every form of `SNAP:path`.
#[test]
fn restore_layout_equals_that_of_stock() {
    let sandbox = Sandbox::new();
    let stock = sandbox.stock();
    let (source, store) = (sandbox.path("src"), sandbox.path("store"));
    // Without hard links, of which stock restores one name.
    tree::build(&source, Shape { links: false, ..Shape::LIGHT }, 3);
    std::os::unix::fs::symlink("plain", source.join("to dir")).expect("link");
    std::os::unix::fs::symlink("plain/hello.txt", source.join("to file")).expect("link");
    stock.at(&store).args(["create", "-plaintext"]).run().status(0);
    stock.quiet_at(&store).arg("backup").arg(&source).run().status(0);
    let id = identifiers(stock.at(&store).args(["ls", "-uuid"]).run().status(0).text()).remove(0);

    let absolute = source.display();
    for (number, at) in [
        id.clone(),
        format!("{}:", &id[..6]),
        format!("{id}:plain"),
        format!("{id}:plain/"),
        format!("{id}:{absolute}/order/a"),
        format!("{id}:plain/hello.txt"),
        format!("{id}:plain/empty"),
        format!("{id}:to dir"),
        format!("{id}:to file"),
        format!("{id}:{}", sandbox.path("").display()),
        String::new(),
    ]
    .into_iter()
    .enumerate()
    {
        let outs =
            [sandbox.path(format!("ours {number}")), sandbox.path(format!("theirs {number}"))];
        for (out, program) in outs.iter().zip([sandbox.at(&store), stock.quiet_at(&store)]) {
            let mut program = program;
            program.args(["restore", "-to"]).arg(out);
            if !at.is_empty() {
                program.arg(&at);
            }
            program.run().status(0);
        }
        let mut found = differences(&outs[0], &outs[1], Rules::STOCK);
        // A single file leaves its directory with the time it was made.
        found.retain(|line| !line.starts_with(".: time"));
        assert_eq!(found, Vec::<String>::new(), "restore {at:?}");
    }
}

/// Over what is there already, stock's way: files are replaced, others stay.
#[test]
fn restore_over_another_tree() {
    let sandbox = Sandbox::new();
    let (source, store, out) = (sandbox.path("src"), sandbox.path("store"), sandbox.path("out"));
    tree::build(&source, Shape::PLAIN, 3);
    sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);
    sandbox.at(&store).arg("backup").arg(&source).run().status(0);
    fs::create_dir_all(out.join("plain")).expect("target");
    fs::write(out.join("plain/stays"), "mine").expect("target");
    fs::write(out.join("plain/hello.txt"), "replaced").expect("target");
    // A link at the place of a file is replaced, and not written through.
    fs::write(sandbox.path("outside"), "untouched").expect("outside");
    std::os::unix::fs::symlink(sandbox.path("outside"), out.join("plain/page.html")).expect("link");

    sandbox.at(&store).args(["restore", "-to"]).arg(&out).run().status(0);
    assert_eq!(fs::read(out.join("plain/stays")).expect("file"), b"mine");
    assert_eq!(fs::read(sandbox.path("outside")).expect("file"), b"untouched");
    fs::remove_file(out.join("plain/stays")).expect("file");
    let mut found = differences(&source, &out, Rules::EXACT);
    found.retain(|line| !line.starts_with("./plain: time"));
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn ignored_files() {
    let sandbox = Sandbox::new();
    let stock = sandbox.stock();
    let (source, store) = (sandbox.path("src"), sandbox.path("store"));
    tree::build(&source, Shape::LIGHT, 3);
    let patterns = sandbox.path("patterns");
    fs::write(&patterns, "# a comment\n\n*.html\n!page.html\n").expect("patterns");
    stock.at(&store).args(["create", "-plaintext"]).run().status(0);
    for program in [sandbox.at(&store), stock.quiet_at(&store)] {
        let mut program = program;
        program.arg("backup").arg("-ignore-file").arg(&patterns);
        program.args(["-ignore", "*.bin", "-ignore", "order/", "-ignore", "**/odd/-*"]);
        program.arg(&source).run().status(0);
        store::remove_locks(&store);
    }
    let ids = identifiers(stock.at(&store).args(["ls", "-uuid"]).run().status(0).text());
    let [one, two] = [0, 1]
        .map(|number| stock.at(&store).args(["ls", "-recursive", &ids[number]]).run().status(0));
    assert!(one.stdout == two.stdout, "{}\n{}", one.report(), two.report());
    assert!(one.said("page.html") && !one.said("noise.bin"), "{}", one.report());
}

#[test]
fn stdin_and_stdout() {
    let sandbox = Sandbox::new();
    let stock = sandbox.stock();
    let store = sandbox.path("store");
    let bytes = tiroir_tests::rng::Rng::new(5).text(3_000_000);
    sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);
    sandbox.at(&store).stdin(bytes.clone()).args(["backup", "stdin:dump.sql"]).run().status(0);
    let listing = stock.at(&store).args(["ls", "-uuid"]).run().status(0);
    let at = format!("{}:/dump.sql", identifiers(listing.text())[0]);
    for program in [sandbox.at(&store), stock.at(&store)] {
        let mut program = program;
        let outcome = program.args(["cat", &at]).run().status(0);
        assert!(outcome.stdout == bytes, "{}", outcome.report());
    }
    let outcome = sandbox.at(&store).args(["restore", "-to", "stdout:", &at]).run().status(0);
    assert!(outcome.stdout == bytes, "{}", outcome.report());
    stock.quiet_at(&store).arg("check").run().status(0);
}

/// A dry run lists what the backup then holds, and stores nothing; `-cache no`
/// reads everything again and finds it the same.
#[test]
fn dry_runs_and_reading_everything() {
    let sandbox = Sandbox::new();
    let (source, store) = (sandbox.path("src"), sandbox.path("store"));
    tree::build(&source, Shape::LIGHT, 3);
    let note = source.join("note.txt");
    fs::write(&note, "one\ntwo\n").expect("source");
    sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);
    let backup = |options: &[&str]| {
        let mut program = sandbox.at(&store);
        program.arg("backup").args(options).arg(&source).run().status(0)
    };
    let found = backup(&["-dry-run", "-ignore", "*.html"]);
    assert!(found.said("nothing was stored"), "{}", found.report());
    assert_eq!(sandbox.at(&store).arg("ls").run().status(0).text(), "");
    let files = fs::read_dir(store.join("packfiles")).expect("packfiles");
    let stored: usize =
        files.map(|part| fs::read_dir(part.expect("part").path()).expect("part").count()).sum();
    assert_eq!(stored, 0);

    backup(&["-ignore", "*.html"]);
    let digest = |id: &str| sandbox.at(&store).args(["ls", "-recursive", id]).run().status(0);
    let ids =
        |store: &Path| identifiers(sandbox.at(store).args(["ls", "-uuid"]).run().status(0).text());
    let first = ids(&store)[0].clone();
    let listing = digest(&first);
    // A dry run begins at the root of the file system, as the snapshot does.
    let inside = format!("{}/", source.display());
    let lines = |outcome: &tiroir_tests::sandbox::Outcome| -> Vec<String> {
        let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
        text.lines().filter(|line| line.contains(&inside)).map(str::to_owned).collect()
    };
    let (names, listed) = (lines(&found), lines(&listing));
    assert!(names.len() > 20, "{}", found.report());
    for name in names.iter().filter(|name| name.is_ascii()) {
        assert!(listed.iter().any(|line| line.contains(name.as_str())), "{name}");
    }
    assert_eq!(names.len(), listed.len(), "{}", found.report());

    backup(&["-cache", "no", "-ignore", "*.html"]);
    let second = ids(&store)[0].clone();
    assert_ne!(first, second);
    assert!(digest(&second).stdout == listing.stdout);

    fs::write(&note, "one\nother\n").expect("source");
    let diff = |options: &[&str]| {
        let target = format!("{second}:{}", note.display());
        sandbox.at(&store).arg("diff").args(options).arg(target).run().status(0)
    };
    assert!(!diff(&[]).said("\u{1b}["));
    let coloured = diff(&["-highlight"]);
    assert!(coloured.said("\u{1b}[31m-two\u{1b}[0m\n\u{1b}[32m+other"), "{}", coloured.report());
}

/// As someone who may not read everything: the backup ends with a status of
/// its own, and says, counts and records what it could not read as stock does.
#[test]
fn unreadable_files() {
    let sandbox = Sandbox::new();
    let stock = sandbox.stock();
    let (source, home) = (sandbox.path("src"), sandbox.path("nobody"));
    tree::build(&source, Shape::PLAIN, 3);
    for secret in ["plain/secret", "order/a/secret"] {
        fs::write(source.join(secret), "secret").expect("source");
        tree::chmod(&source.join(secret), 0);
    }
    for (name, mode) in [("closed", 0), ("not searchable", 0o444)] {
        fs::create_dir(source.join(name)).expect("source");
        fs::write(source.join(name).join("inside"), "inside").expect("source");
        tree::chmod(&source.join(name), mode);
    }

    // A folder of their own, and the program where they reach it: a target
    // folder may lie in a home that is closed to others.
    fs::create_dir(&home).expect("home");
    let program = home.join("tiroir");
    fs::copy(tiroir_tests::oracle::tiroir(), &program).expect("program");
    tree::chmod(&program, 0o755);
    let front: Vec<String> = if rustix::process::geteuid().is_root() {
        tree::chmod(&sandbox.path(""), 0o755);
        for path in [home.clone(), sandbox.path("tmp"), sandbox.path("home")] {
            chown(&path, Some(NOBODY), Some(NOBODY)).expect("owner");
        }
        let id = NOBODY.to_string();
        vec!["setpriv".into(), "--reuid".into(), id.clone(), "--regid".into(), id]
            .into_iter()
            .chain(["--clear-groups".into()])
            .collect()
    } else {
        Vec::new()
    };
    let store = home.join("store");
    let as_nobody = |args: &[&str], last: &Path| {
        let mut invocation = sandbox.program(&program);
        invocation.arg("at").arg(&store).args(args);
        if !last.as_os_str().is_empty() {
            invocation.arg(last);
        }
        invocation.env("HOME", &home).env("XDG_CACHE_HOME", home.join("cache"));
        if !front.is_empty() {
            invocation.wrapped(&front);
        }
        invocation.run()
    };
    as_nobody(&["create", "-plaintext"], Path::new("")).status(0);
    let outcome = as_nobody(&["backup"], &source).refused();
    let code = outcome.code().expect("no signal");
    assert!(!OTHER_STATUSES.contains(&code), "{code} means something else\n{}", outcome.report());
    let unreadable = ["plain/secret", "order/a/secret", "closed", "not searchable/inside"];
    for name in unreadable {
        assert!(outcome.said(name), "{name} is not reported\n{}", outcome.report());
    }

    let id = identifiers(stock.at(&store).args(["ls", "-uuid"]).run().status(0).text()).remove(0);
    let errors = stock.at(&store).args(["info", "-errors", &id]).run().status(0);
    assert_eq!(errors.text().lines().count(), unreadable.len(), "{}", errors.report());
    for name in unreadable {
        assert!(errors.said(name), "{name} is not recorded\n{}", errors.report());
    }
    let ours = sandbox.at(&store).args(["info", "-errors", &id]).run().status(0);
    assert_eq!(ours.stdout, errors.stdout, "{}", ours.report());
    let info = stock.at(&store).args(["info", &id]).run().status(0);
    let count = format!(" - Errors: {}\n", unreadable.len());
    assert!(info.text().contains(&count), "{}", info.report());

    // Stock's sync refuses a snapshot whose count is wrong.
    let peer = sandbox.path("peer");
    stock.at(&peer).args(["create", "-plaintext"]).run().status(0);
    stock.quiet_at(&store).args(["sync", "to"]).arg(&peer).run().status(0);
    let listing = stock.at(&peer).args(["ls", "-uuid"]).run().status(0);
    assert_eq!(identifiers(listing.text()), [id]);
    // And what could be read is there.
    let out = sandbox.path("out");
    stock.quiet_at(&store).args(["restore", "-to"]).arg(&out).run().status(0);
    assert_eq!(fs::read(out.join("plain/hello.txt")).expect("restored"), b"Hello, world!\n");
    assert!(!out.join("plain/secret").exists());
    // So that the sandbox can be removed by whoever runs this.
    for name in ["closed", "not searchable"] {
        tree::chmod(&source.join(name), 0o755);
    }
}

/// A broken pipe, an unwritable target and a full one are errors, not panics.
#[test]
fn no_panic_where_writing_fails() {
    let sandbox = Sandbox::new();
    let (source, store) = (sandbox.path("src"), sandbox.path("store"));
    tree::build(&source, Shape::PLAIN, 3);
    sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);
    sandbox.at(&store).arg("backup").arg(&source).run().status(0);

    let into_nothing = |args: &str| -> PathBuf {
        let script = sandbox.path("script");
        let program = tiroir_tests::oracle::tiroir();
        fs::write(&script, format!("{} at {} {args}\n", program.display(), store.display()))
            .expect("script");
        script
    };
    for (args, what) in [("ls -recursive :/ | true", "a closed pipe"), ("ls >/dev/full", "full")] {
        let outcome = sandbox.program("sh").arg(into_nothing(args)).run();
        assert!(!outcome.said("panicked"), "{what}\n{}", outcome.report());
    }
    let outcome = sandbox.program("sh").arg(into_nothing("ls >/dev/full")).run();
    assert_ne!(outcome.code(), Some(0), "{}", outcome.report());
    sandbox.at(&store).args(["restore", "-to", "/proc/nothing/here"]).run().refused();
}
