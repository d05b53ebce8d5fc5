//! Stores, sources and destinations by name: what is written is what stock reads
//! and shows, and the other way round; and no secret is where it must not be.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tiroir_tests::sandbox::{Invocation, Outcome, PASSPHRASE, Sandbox, Stock};

const USAGE: i32 = 64;
const PASSPHRASE_WRONG: i32 = 77;

/// What no output, no file but one, and no list of processes may have in it.
const SECRET: &str = "hunter2-correct-horse";

/// `tiroir --config FOLDER`.
fn tiroir(sandbox: &Sandbox, folder: &Path) -> Invocation {
    let mut invocation = sandbox.tiroir();
    invocation.arg("--config").arg(folder);
    invocation
}

/// `plakar -configdir FOLDER`.
fn plakar(stock: &Stock<'_>, folder: &Path) -> Invocation {
    let mut invocation = stock.plakar();
    invocation.arg("-configdir").arg(folder);
    invocation
}

/// Values that are hard on a form of text.
const HARD: [(&str, &str); 30] = [
    ("plain", "two words"),
    ("empty", ""),
    ("blank", " x "),
    ("number", "2222"),
    ("hex", "0x1F"),
    ("float", "1e3"),
    ("leading", "007"),
    ("version", "1.2.3"),
    ("truth", "true"),
    ("old_truth", "Yes"),
    ("nothing", "~"),
    ("date", "2026-11-29"),
    ("time", "12:30"),
    ("colon", "a: b"),
    ("url", "https://x.example/?a=b&c=d"),
    ("comment", "a #b"),
    ("hash", "a#b;c"),
    ("quotes", "it's \"so\""),
    ("single", "'x'"),
    ("percent", "%x"),
    ("at", "@nas"),
    ("dash", "- x"),
    ("option", "-x"),
    ("braces", "{\"a\": \"b\"}"),
    ("backslash", "a\\b\\n"),
    ("tab", "a\tb"),
    ("accents", "É ü 漢"),
    ("lines", "one\ntwo\n\n three\n"),
    ("no_end", "one\ntwo"),
    ("a10", "x"),
];

fn pairs(values: &[(&str, &str)]) -> Vec<String> {
    values.iter().map(|(key, value)| format!("{key}={value}")).collect()
}

/// What each shows of the same entry.
fn shown(
    sandbox: &Sandbox,
    stock: &Stock<'_>,
    folder: &Path,
    words: &[&str],
) -> (Outcome, Outcome) {
    let ours = tiroir(sandbox, folder).args(words).run().ok();
    let theirs = plakar(stock, folder).args(words).run().ok();
    (ours, theirs)
}

#[test]
fn each_reads_what_the_other_wrote() {
    let sandbox = Sandbox::new();
    let stock = sandbox.stock();
    for (index, kind) in ["store", "source", "destination"].into_iter().enumerate() {
        let folder = sandbox.path(format!("config{index}"));
        let add = ["add", "nas", "sftp://nas/srv"];
        let mut line = tiroir(&sandbox, &folder);
        drop(line.arg(kind).args(add).args(pairs(&HARD)).run().ok());
        drop(tiroir(&sandbox, &folder).args([kind, "add", "a2", "/x"]).run().ok());
        for form in ["-yaml", "-secrets"] {
            let (ours, theirs) =
                shown(&sandbox, &stock, &folder, &[kind, "show", form, "nas", "a2"]);
            assert_eq!(ours.text(), theirs.text(), "{kind}");
        }
        // Stock changes an entry, and both still read the same. It writes the
        // files in its own words, which are ours too.
        let file = folder.join(format!("{kind}s.yml"));
        let before = fs::read_to_string(&file).unwrap();
        drop(plakar(&stock, &folder).args([kind, "set", "a2", "a=b"]).run().ok());
        drop(plakar(&stock, &folder).args([kind, "unset", "a2", "a"]).run().ok());
        assert_eq!(fs::read_to_string(&file).unwrap(), before, "{kind}");

        let folder = sandbox.path(format!("other{index}"));
        fs::create_dir(&folder).unwrap();
        let mut line = plakar(&stock, &folder);
        drop(line.arg(kind).args(add).args(pairs(&HARD)).arg("password=x y").run().ok());
        let (ours, theirs) = shown(&sandbox, &stock, &folder, &[kind, "show", "-secrets", "nas"]);
        assert_eq!(ours.text(), theirs.text(), "{kind}");
    }
}

type Entries = BTreeMap<String, BTreeMap<String, String>>;

/// Entries from `show -json`, which has one on each line.
fn entries(json: &str) -> Entries {
    let mut all = Entries::new();
    for line in json.lines() {
        all.extend(serde_json::from_str::<Entries>(line).expect("JSON"));
    }
    all
}

#[test]
fn all_forms_are_stocks() {
    let sandbox = Sandbox::new();
    let stock = sandbox.stock();
    let folder = sandbox.path("config");
    let mut add = tiroir(&sandbox, &folder);
    drop(add.args(["store", "add", "nas", "/srv"]).args(pairs(&HARD)).run().ok());
    let (ours, theirs) = shown(&sandbox, &stock, &folder, &["store", "show", "-json"]);
    assert_eq!(entries(ours.text()), entries(theirs.text()));
    assert_eq!(entries(ours.text())["nas"].len(), HARD.len() + 1);
    // Stock writes INI in no order, and what it writes of these it does not read.
    let odd = ["single", "backslash"];
    for name in odd {
        drop(tiroir(&sandbox, &folder).args(["store", "unset", "nas", name]).run().ok());
    }
    let (ours, theirs) = shown(&sandbox, &stock, &folder, &["store", "show", "-ini"]);
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(ours.text()), sorted(theirs.text()));
    // Each form comes back, by way of either.
    let all = tiroir(&sandbox, &folder).args(["store", "show", "-json"]).run().ok();
    let mut wanted = entries(all.text());
    // As in stock, options without a value are left out.
    wanted.get_mut("nas").unwrap().remove("empty");
    for form in ["-yaml", "-json", "-ini"] {
        let text = tiroir(&sandbox, &folder).args(["store", "show", form]).run().ok().stdout;
        let (ours, theirs) = (sandbox.path(format!("o{form}")), sandbox.path(format!("t{form}")));
        fs::create_dir(&theirs).unwrap();
        let import = ["store", "import"];
        drop(tiroir(&sandbox, &ours).args(import).stdin(text.clone()).run().ok());
        drop(plakar(&stock, &theirs).args(import).stdin(text).run().ok());
        for folder in [&ours, &theirs] {
            let all = tiroir(&sandbox, folder).args(["store", "show", "-json"]).run().ok();
            assert_eq!(entries(all.text()), wanted, "{form}");
        }
    }
}

/// Everything that stock hides is hidden here, and looks the same.
#[test]
fn what_stock_hides_is_hidden() {
    let sandbox = Sandbox::new();
    let stock = sandbox.stock();
    let names = [
        "access_key",
        "secret_access_key",
        "passphrase",
        "password",
        "pass",
        "private_key",
        "ssh_private_key",
        "token",
        "session_token",
        "client_id",
        "client_secret",
        "auth_token",
        "Password",
        "rclone_pass",
    ];
    let theirs = sandbox.path("theirs");
    fs::create_dir(&theirs).unwrap();
    let values: Vec<String> = names.iter().map(|name| format!("{name}={SECRET}")).collect();
    let add = ["source", "add", "nas", "s3://nas/bucket", "username=me", "passphrase_cmd=true"];
    drop(plakar(&stock, &theirs).args(add).args(&values).run().ok());
    let ours = sandbox.path("ours");
    drop(tiroir(&sandbox, &ours).args(add).args(&values).run().ok());
    for form in ["-yaml", "-json", "-ini"] {
        let show = ["source", "show", form, "nas"];
        let shown = tiroir(&sandbox, &ours).args(show).run().ok();
        assert!(!shown.said(SECRET), "{}", shown.report());
        let of_theirs = tiroir(&sandbox, &theirs).args(show).run().ok();
        assert_eq!(shown.text(), of_theirs.text());
        if form == "-yaml" {
            let stocks = plakar(&stock, &theirs).args(show).run().ok();
            assert_eq!(shown.text(), stocks.text());
        }
        let secrets = tiroir(&sandbox, &ours).args(show).arg("-secrets").run().ok();
        assert_eq!(secrets.text().matches(SECRET).count(), names.len());
    }
    // In the file that others may see there is none, and stock finds none there.
    for file in ["stores.yml", "sources.yml", "destinations.yml"] {
        assert!(!fs::read_to_string(ours.join(file)).unwrap().contains(SECRET), "{file}");
    }
    let stocks = plakar(&stock, &ours).args(["source", "show", "-secrets"]).run().ok();
    assert!(!stocks.said(SECRET) && stocks.said("username: me"), "{}", stocks.report());
}

/// `rclone.conf` becomes what stock makes of it.
#[test]
fn remotes_of_rclone() {
    let sandbox = Sandbox::new();
    let stock = sandbox.stock();
    let conf = "# comment\n[drive]\ntype = drive\nscope = drive\n\
                token = {\"access_token\":\"abc\",\"expiry\":\"2026-11-29T10:00:00Z\"}\n\n\
                [web]\ntype = sftp\nhost = web.example\nuser = me\npass = AbC-d_e\nempty =\n";
    let file = sandbox.path("rclone.conf");
    fs::write(&file, conf).unwrap();
    let (ours, theirs) = (sandbox.path("ours"), sandbox.path("theirs"));
    fs::create_dir(&theirs).unwrap();
    let file = file.to_str().unwrap();
    for sections in [&[][..], &["web:site"]] {
        let import = ["source", "import", "-config", file, "-rclone"];
        drop(tiroir(&sandbox, &ours).args(import).args(sections).run().ok());
        drop(plakar(&stock, &theirs).args(import).args(sections).run().ok());
    }
    let show = ["source", "show", "-secrets", "-json"];
    let ours = entries(tiroir(&sandbox, &ours).args(show).run().ok().text());
    assert_eq!(ours.keys().collect::<Vec<_>>(), ["drive", "site", "web"]);
    assert_eq!(ours, entries(plakar(&stock, &theirs).args(show).run().ok().text()));
    assert_eq!(ours["web"]["rclone_pass"], "AbC-d_e");
}

#[test]
fn import_keeps_what_is_there() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("config");
    drop(tiroir(&sandbox, &folder).args(["store", "add", "a", "/old", "token=t"]).run().ok());
    let text = "a:\n    location: /new\nb:\n    location: /b\n";
    let import = |words: &[&str]| {
        let mut import = tiroir(&sandbox, &folder);
        import.args(["store", "import"]).args(words).stdin(text).run()
    };
    let location = |name: &str| {
        let show = ["store", "show", "-secrets", "-json", name];
        let shown = tiroir(&sandbox, &folder).args(show).run().ok();
        entries(shown.text())[name].clone()
    };
    assert!(import(&[]).ok().said("already exists, skipping"));
    assert_eq!(location("a")["location"], "/old");
    assert_eq!(location("b")["location"], "/b");
    drop(import(&["-overwrite", "a"]).ok());
    // As a whole: nothing of the old entry stays.
    assert_eq!(location("a"), BTreeMap::from([("location".into(), "/new".into())]));
    import(&["nosuch"]).status(1);
    import(&["a:b:c"]).status(1);
    // Stock's own file, and the one of 1.0.
    let own = sandbox.path("own.yml");
    fs::write(&own, "version: v1.0.0\nstores:\n    s:\n        location: /s\n").unwrap();
    let old = sandbox.path("plakar.yml");
    fs::write(&old, "default-repo: r\nrepositories:\n  r:\n    location: /r\nremotes: {}\n")
        .unwrap();
    for (file, name) in [(&own, "s"), (&old, "r")] {
        let mut import = tiroir(&sandbox, &folder);
        drop(import.args(["store", "import", "-config"]).arg(file).run().ok());
        assert_eq!(location(name)["location"], format!("/{name}"));
    }
    let mut absent = tiroir(&sandbox, &folder);
    absent.args(["store", "import", "-config", "/no/file"]).run().status(1);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o7777
}

/// An encrypted store and an entry for it, whose passphrase comes from `from`.
fn store_with(sandbox: &Sandbox, folder: &Path, name: &str, from: &str) -> PathBuf {
    let store = sandbox.path(format!("store-{name}"));
    let mut add = tiroir(sandbox, folder);
    drop(add.args(["store", "add", name]).arg(&store).arg(from).stdin(PASSPHRASE).run().ok());
    store
}

#[test]
fn stores_are_opened_by_name() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("config");
    let source = sandbox.path("src");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "content").unwrap();
    let file = sandbox.path("passphrase");
    fs::write(&file, format!("{PASSPHRASE}\nnot this\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    // Stock takes no more than one line of it.
    let command = format!("passphrase_cmd=head -n 1 {}", file.display());
    let from_file = format!("passphrase_file={}", file.display());
    for (name, from) in [("asked", "passphrase=-"), ("command", &command), ("file", &from_file)] {
        let store = store_with(&sandbox, &folder, name, from);
        let at = |words: &[&str]| {
            let mut at = tiroir(&sandbox, &folder);
            at.arg("at").arg(format!("@{name}")).args(words);
            at
        };
        drop(at(&["create", "-kdf-memory", "19M", "-kdf-time", "1"]).run().ok());
        drop(at(&["backup"]).arg(&source).run().ok());
        assert_eq!(at(&["ls"]).run().ok().text().lines().count(), 1);
        // It is that passphrase, and the entry goes before the environment.
        drop(sandbox.at(&store).arg("check").passphrase(PASSPHRASE).run().ok());
        drop(at(&["check"]).passphrase("another").run().ok());
        // What is given on the command line goes before the entry.
        let wrong = sandbox.path("wrong");
        fs::write(&wrong, "another").unwrap();
        at(&["-keyfile"]).arg(&wrong).arg("ls").run().status(PASSPHRASE_WRONG);
        // Stock opens it with the same entry, where that has a command.
        if name == "command" {
            let stock = sandbox.stock();
            let mut ls = plakar(&stock, &folder);
            assert_eq!(ls.args(["at", "@command", "ls"]).run().ok().text().lines().count(), 1);
        }
        // An archive of all of it, with a passphrase of its own.
        let archive = sandbox.path(format!("{name}.ptar"));
        let mut ptar = tiroir(&sandbox, &folder);
        ptar.args([
            "ptar",
            "-kdf-memory",
            "19M",
            "-kdf-time",
            "1",
            "-k",
            &format!("@{name}"),
            "-o",
        ]);
        drop(ptar.arg(&archive).passphrase("quite another passphrase").run().ok());
        let mut ls = sandbox.at(&archive);
        drop(ls.arg("ls").passphrase("quite another passphrase").run().ok());
    }
    // The one that is meant where none is named, and a place below another.
    drop(tiroir(&sandbox, &folder).args(["config", "repository", "default", "file"]).run().ok());
    assert_eq!(tiroir(&sandbox, &folder).arg("ls").run().ok().text().lines().count(), 1);
    let above = sandbox.path("");
    let mut add = tiroir(&sandbox, &folder);
    drop(add.args(["store", "add", "above"]).arg(&above).arg(&from_file).run().ok());
    let mut ls = tiroir(&sandbox, &folder);
    drop(ls.args(["at", "@above:store-file", "ls"]).run().ok());
    let mut absolute = tiroir(&sandbox, &folder);
    absolute.arg("at").arg(format!("@above:{}", sandbox.path("store-file").display()));
    drop(absolute.arg("ls").run().ok());
    let unknown = tiroir(&sandbox, &folder).args(["at", "@nosuch", "ls"]).run().status(1);
    assert!(unknown.said("could not resolve repository: @nosuch"), "{}", unknown.report());
    assert!(unknown.said("@above, @asked, @command, @file"), "{}", unknown.report());
    // The command does not ask anybody where the key is given.
    let mut key = tiroir(&sandbox, &folder);
    let key_file = sandbox.path("key");
    drop(key.args(["at", "@file", "key", "-o"]).arg(&key_file).run().ok());
    let failing = ["store", "set", "command", "passphrase_cmd=exit 3"];
    drop(tiroir(&sandbox, &folder).args(failing).run().ok());
    let failed = tiroir(&sandbox, &folder).args(["at", "@command", "ls"]).run().status(1);
    assert!(failed.said("passphrase_cmd of store command failed"), "{}", failed.report());
    drop(
        tiroir(&sandbox, &folder)
            .args(["store", "set", "file", "passphrase_cmd=exit 3"])
            .run()
            .ok(),
    );
    let mut ls = tiroir(&sandbox, &folder);
    drop(ls.arg("--key-file").arg(&key_file).args(["at", "@file", "ls"]).run().ok());
}

/// Command lines of all processes that can be seen.
fn command_lines() -> Vec<u8> {
    let mut all = Vec::new();
    for process in fs::read_dir("/proc").expect("processes").flatten() {
        for file in ["cmdline", "environ"] {
            all.extend(fs::read(process.path().join(file)).unwrap_or_default());
        }
    }
    all
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// All files below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

#[test]
fn secrets_are_nowhere_else() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("config");
    let store = sandbox.path("store");
    let source = sandbox.path("src");
    fs::create_dir(&source).unwrap();
    let file = sandbox.path("passphrase");
    fs::write(&file, SECRET).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let mut outcomes = Vec::new();
    let mut run = |words: &[&str], stdin: &str| {
        let outcome = tiroir(&sandbox, &folder).args(words).stdin(stdin).run().sane();
        let code = outcome.code();
        outcomes.push(outcome);
        code
    };
    let input = format!("{SECRET}\n{SECRET}\n");
    let add = ["store", "add", "nas", store.to_str().unwrap(), "passphrase=-", "password=-"];
    assert_eq!(run(&add, &input), Some(0));
    assert_eq!(run(&["store", "unset", "nas", "password"], ""), Some(0));
    // Nobody listens there.
    let web = format!("sftp://me:{SECRET}@127.0.0.1:1/srv");
    for (words, code) in [
        (vec!["source", "add", "web", &web], 0),
        (vec!["source", "add", "web", &web], 1),
        (vec!["source", "show"], 0),
        (vec!["source", "show", "-json"], 0),
        (vec!["source", "show", "-ini"], 0),
        (vec!["source", "check", "web"], 0),
        (vec!["source", "ping", "web"], 1),
        (vec!["config"], 0),
        (vec!["store", "show", "nas"], 0),
        (vec!["store", "set", "nosuch", "passphrase=-"], 1),
        (vec!["store", "set", "nas", "port"], USAGE),
        (vec!["help", "store"], 0),
        (vec!["at", "@nas", "create", "-plaintext", "-no-compression"], 0),
        (vec!["at", "@nas", "backup", source.to_str().unwrap()], 0),
        (vec!["at", "@nas", "info"], 0),
        (vec!["-json", "at", "@nas", "ls"], 0),
        (vec!["-json", "at", "@nas:nosuch", "ls"], 66),
    ] {
        assert_eq!(run(&words, &input), Some(code), "{words:?}");
    }
    // A value that the file does not take, and a file that is not understood.
    let control = format!("passphrase={SECRET}\u{1b}");
    assert_eq!(run(&["store", "set", "nas", &control], ""), Some(USAGE));
    let broken = format!("nas:\n    location: /x\n    password: '{SECRET}\n");
    assert_eq!(run(&["store", "import"], &broken), Some(1));
    assert_eq!(run(&["store", "import"], &format!("{{\"a\": {{\"b\": \"{SECRET}\n")), Some(1));
    for outcome in &outcomes {
        assert!(!outcome.said(SECRET), "{}", outcome.report());
    }
    // Not in the store, which is not even compressed, and in one file only.
    for path in files_below(&store).iter().chain(&files_below(&folder)) {
        let is_there = holds(&fs::read(path).unwrap(), SECRET);
        assert_eq!(is_there, path.ends_with("secrets.yml"), "{}", path.display());
    }
    for path in files_below(&folder) {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    assert_eq!(mode(&folder), 0o700);
    // Nor on the list of processes, while it is used.
    let mark = sandbox.path("started");
    let command =
        format!("passphrase_cmd=touch {}; cat {}; sleep 2", mark.display(), file.display());
    let mut set = tiroir(&sandbox, &folder);
    drop(set.args(["store", "add", "slow", "/no/store"]).arg(command).run().ok());
    let running = tiroir(&sandbox, &folder).args(["at", "@slow", "ls"]).start();
    let start = Instant::now();
    while !mark.exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "the command did not start");
        thread::sleep(Duration::from_millis(5));
    }
    assert!(!holds(&command_lines(), SECRET));
    assert!(!running.finish().status(66).said(SECRET));
}

/// A file that others may open is told of, and closed by the next change.
#[test]
fn readers_are_kept_out() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("config");
    let mut add = tiroir(&sandbox, &folder);
    drop(add.args(["store", "add", "nas", "/srv", "token=-"]).stdin("t").run().ok());
    let secrets = folder.join("secrets.yml");
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o644)).unwrap();
    let shown = tiroir(&sandbox, &folder).args(["store", "show"]).run().ok();
    assert!(shown.said("chmod 600"), "{}", shown.report());
    drop(tiroir(&sandbox, &folder).args(["store", "set", "nas", "token=u"]).run().ok());
    assert_eq!(mode(&secrets), 0o600);
}

/// Where there is nothing of tiroir's own, stock's is read, and never written.
#[test]
fn stocks_configuration_is_read() {
    let sandbox = Sandbox::new();
    let stock = sandbox.stock();
    let home = sandbox.path("home");
    let theirs = home.join(".config/plakar");
    fs::create_dir_all(&theirs).unwrap();
    let add = ["store", "add", "nas", "/srv/store", "passphrase=p"];
    drop(plakar(&stock, &theirs).args(add).run().ok());
    drop(plakar(&stock, &theirs).args(["source", "add", "docs", "/docs"]).run().ok());
    let files = || -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = files_below(&theirs);
        files.sort();
        files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    };
    let before = files();
    let shown = sandbox.tiroir().args(["store", "show"]).run().ok();
    assert!(shown.text().contains("location: /srv/store"), "{}", shown.report());
    assert!(shown.said("this is stock's"), "{}", shown.report());
    // Nothing is changed there, and nothing made of our own, by looking.
    assert!(!home.join(".config/tiroir").exists());
    let taken = sandbox.tiroir().args(["store", "add", "usb", "/mnt/usb"]).run().ok();
    assert!(taken.said("taken over"), "{}", taken.report());
    let shown = sandbox.tiroir().args(["store", "show", "-secrets", "-json"]).run().ok();
    assert!(!shown.said("this is stock's"), "{}", shown.report());
    let all = entries(shown.text());
    assert_eq!(all.keys().collect::<Vec<_>>(), ["nas", "usb"]);
    assert_eq!(all["nas"]["passphrase"], "p");
    assert!(sandbox.tiroir().args(["source", "show"]).run().ok().said("/docs"));
    let secrets = fs::read_to_string(home.join(".config/tiroir/secrets.yml")).unwrap();
    assert!(secrets.contains("passphrase: p"), "{secrets}");
    // Not even when it is asked for.
    let mut refused = tiroir(&sandbox, &theirs);
    refused.args(["store", "add", "x", "/x"]).run().status(1);
    assert_eq!(files(), before);
    // The one file that plakar 1.0 had.
    for (path, _) in before {
        fs::remove_file(path).unwrap();
    }
    fs::remove_dir_all(home.join(".config/tiroir")).unwrap();
    let old = "default-repo: nas\nrepositories:\n  nas:\n    location: /old\nremotes:\n  web:\n    \
               location: s3://web\n";
    fs::write(theirs.join("plakar.yml"), old).unwrap();
    assert!(sandbox.tiroir().args(["store", "show"]).run().ok().said("location: /old"));
    assert!(sandbox.tiroir().args(["destination", "show"]).run().ok().said("s3://web"));
    // And XDG_CONFIG_HOME.
    let elsewhere = sandbox.path("xdg");
    let mut add = sandbox.tiroir();
    drop(add.args(["store", "add", "x", "/x"]).env("XDG_CONFIG_HOME", &elsewhere).run().ok());
    assert!(elsewhere.join("tiroir/stores.yml").is_file());
}

/// Changes that are made at once are all made.
#[test]
fn changes_wait_for_each_other() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("config");
    let running: Vec<_> = (0..12)
        .map(|number| {
            let mut add = tiroir(&sandbox, &folder);
            add.args(["store", "add", &format!("s{number}"), "/x", "token=t"]).start()
        })
        .collect();
    for running in running {
        drop(running.finish().ok());
    }
    let shown = tiroir(&sandbox, &folder).args(["store", "show", "-secrets", "-json"]).run().ok();
    let all = entries(shown.text());
    assert_eq!(all.len(), 12);
    assert!(all.values().all(|entry| entry["token"] == "t"));
}

#[test]
fn check_and_ping() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("config");
    let store = sandbox.path("store");
    drop(sandbox.at(&store).args(["create", "-plaintext"]).run().ok());
    let file = sandbox.path("file");
    fs::write(&file, "x").unwrap();
    let (here, file) = (sandbox.path(""), file.to_str().unwrap().to_owned());
    let here = here.to_str().unwrap();
    let add = |kind: &str, name: &str, location: &str| {
        drop(tiroir(&sandbox, &folder).args([kind, "add", name, location]).run().ok());
    };
    for (kind, name, location, check, ping) in [
        ("store", "there", store.to_str().unwrap(), 0, 0),
        ("store", "absent", &format!("{here}/no/store"), 0, 66),
        ("store", "unknown", "foo://bar", 66, 66),
        ("source", "there", here, 0, 0),
        ("source", "file", &file, 0, 0),
        ("source", "input", "stdin:dump", 0, 0),
        ("source", "absent", &format!("{here}/no"), 0, 1),
        ("source", "unknown", "foo://bar", 1, 1),
        ("destination", "there", here, 0, 0),
        ("destination", "new", &format!("{here}/new"), 0, 0),
        ("destination", "absent", &format!("{here}/no/x"), 0, 69),
        ("destination", "file", &file, 0, 69),
    ] {
        add(kind, name, location);
        tiroir(&sandbox, &folder).args([kind, "check", name]).run().status(check);
        let pinged = tiroir(&sandbox, &folder).args([kind, "ping", name]).run().status(ping);
        assert_eq!(pinged.text().starts_with("configuration OK"), ping == 0, "{}", pinged.report());
    }
    for action in ["check", "ping"] {
        tiroir(&sandbox, &folder).args(["store", action, "nosuch"]).run().status(1);
    }
    drop(tiroir(&sandbox, &folder).args(["source", "set", "there", "nonsense=1"]).run().ok());
    tiroir(&sandbox, &folder).args(["source", "check", "there"]).run().status(USAGE);
}

#[test]
fn words_of_the_command_line() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("config");
    let run = |words: &[&str]| tiroir(&sandbox, &folder).args(words).run();
    for words in [
        &["store"][..],
        &["store", "frobnicate"],
        &["store", "add"],
        &["store", "add", "x"],
        &["store", "add", "x", ""],
        &["store", "add", "a:b", "/x"],
        &["store", "add", "x", "/x", "novalue"],
        &["store", "add", "x", "/x", "=v"],
        &["store", "set", "x"],
        &["store", "unset", "x"],
        &["store", "rm"],
        &["store", "check"],
        &["store", "ping", "a", "b"],
        &["store", "show", "-rclone"],
        &["store", "add", "-secrets", "x", "/x"],
        &["config", "nonsense"],
        &["config", "repository"],
        &["config", "remote", "default", "x"],
    ] {
        let outcome = run(words).status(USAGE);
        assert!(outcome.stdout.is_empty() && !outcome.stderr.is_empty(), "{}", outcome.report());
    }
    assert!(!folder.exists(), "nothing is made by what was not understood");
    drop(run(&["store", "add", "@nas", "location=relative/path", "a=b=c"]).ok());
    let wanted = sandbox.path("relative/path");
    let shown = run(&["store", "show", "@nas"]).ok();
    let text = format!("nas:\n    a: b=c\n    location: {}\n", wanted.display());
    assert_eq!(shown.text(), text);
    run(&["store", "add", "nas", "/x"]).status(1);
    run(&["store", "unset", "nas", "location"]).status(1);
    drop(run(&["store", "set", "nas", "location=sftp://h/p", "port=22"]).ok());
    drop(run(&["store", "unset", "nas", "a", "nosuch"]).ok());
    assert_eq!(
        run(&["store", "show"]).ok().text(),
        "nas:\n    location: sftp://h/p\n    port: \"22\"\n"
    );
    run(&["store", "show", "nosuch", "nas"]).status(1);
    // All or none.
    drop(run(&["store", "add", "usb", "/usb"]).ok());
    run(&["store", "rm", "usb", "nosuch"]).status(1);
    drop(run(&["store", "rm", "usb", "@nas"]).ok());
    assert!(run(&["store", "show"]).ok().stdout.is_empty());
}

/// The words of plakar 1.0.
#[test]
fn words_of_1_0() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("config");
    let run = |words: &[&str]| tiroir(&sandbox, &folder).args(words).run();
    drop(run(&["config", "repository", "create", "nas"]).ok());
    run(&["config", "repo", "create", "nas"]).status(1);
    run(&["config", "repository", "default", "nas"]).status(1);
    run(&["at", "@nas", "ls"]).status(1);
    drop(run(&["config", "repo", "set", "nas", "location", "/srv/nas"]).ok());
    drop(run(&["config", "repo", "set", "nas", "passphrase", SECRET]).ok());
    drop(run(&["config", "repository", "set", "nas", "a=b", "c=d"]).ok());
    drop(run(&["config", "repository", "unset", "nas", "a"]).ok());
    drop(run(&["config", "repository", "default", "nas"]).ok());
    run(&["config", "repository", "set", "nosuch", "a", "b"]).status(1);
    drop(run(&["config", "remote", "create", "web"]).ok());
    drop(run(&["config", "remote", "set", "web", "location", "/web"]).ok());
    drop(run(&["config", "remote", "validate", "web"]).ok());
    let shown = run(&["config"]).ok();
    let wanted = "stores:\n    nas:\n        c: d\n        location: /srv/nas\n        passphrase: \
                  '********'\nsources:\n    web:\n        location: /web\ndestinations:\n    web:\n        \
                  location: /web\n";
    assert_eq!(shown.text(), wanted);
    let stores = fs::read_to_string(folder.join("stores.yml")).unwrap();
    assert!(stores.starts_with("version: v1.0.0\ndefault: nas\nstores:\n"), "{stores}");
    // A store on a disk has no options, and says so.
    run(&["ls"]).status(USAGE);
    drop(run(&["config", "repository", "unset", "nas", "c"]).ok());
    run(&["ls"]).status(66);
}

/// A private key goes in and out as it is.
#[test]
fn keys_have_lines() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("config");
    let key =
        "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\ndef==\n-----END OPENSSH PRIVATE KEY-----\n";
    let mut add = tiroir(&sandbox, &folder);
    add.args(["source", "add", "web", "sftp://web/", "passphrase=-", "ssh_private_key=-"]);
    drop(add.stdin(format!("{SECRET}\n{key}")).run().ok());
    let shown = tiroir(&sandbox, &folder).args(["source", "show", "-secrets", "-json"]).run().ok();
    let web = &entries(shown.text())["web"];
    assert_eq!((web["passphrase"].as_str(), web["ssh_private_key"].as_str()), (SECRET, key));
    let mut none = tiroir(&sandbox, &folder);
    none.args(["source", "set", "web", "password=-"]).stdin("").run().status(1);
}
