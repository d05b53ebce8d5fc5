//! What is backed up, where that is not one plain tree: several places at once,
//! as stock takes them.

use std::fs;
use std::path::PathBuf;

use tiroir_tests::compare::{Rules, differences};
use tiroir_tests::sandbox::Sandbox;
use tiroir_tests::scene::identifiers;
use tiroir_tests::store;

/// Some small trees, and their paths.
fn trees(sandbox: &Sandbox) -> PathBuf {
    let source = sandbox.path("src");
    for name in ["a/sub/two", "a/one", "b/three", "b/four", "b/five", "c/six"] {
        fs::create_dir_all(source.join(name).parent().expect("a parent")).expect("source");
        fs::write(source.join(name), name).expect("source");
    }
    source
}

/// Directories of the snapshots of a listing, oldest first.
fn directories(listing: &str) -> Vec<String> {
    let mut all: Vec<String> =
        listing.lines().map(|line| line.rsplit(' ').next().unwrap_or_default().into()).collect();
    all.reverse();
    all
}

/// One snapshot of all of them, with the root and the entries that stock has;
/// the next one of the same places reads nothing again.
#[test]
fn several_places_in_one_snapshot() {
    let sandbox = Sandbox::new();
    let stock = sandbox.stock();
    let (source, store) = (trees(&sandbox), sandbox.path("store"));
    sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);
    for places in [&["a", "b"][..], &["a/sub", "a"], &["b/four", "b/three"], &["b/", "a/one", "c"]]
    {
        let paths: Vec<_> = places.iter().map(|place| source.join(place)).collect();
        sandbox.at(&store).arg("backup").args(&paths).run().status(0);
        stock.quiet_at(&store).arg("backup").args(&paths).run().status(0);
        store::remove_locks(&store);
        let listing = stock.at(&store).args(["ls", "-uuid"]).run().status(0);
        let of = directories(listing.text());
        assert_eq!(of[of.len() - 1], of[of.len() - 2], "{places:?}");
        let ids = identifiers(listing.text());
        // What lies above changes while tests run.
        let [theirs, ours] = [&ids[0], &ids[1]].map(|id| -> Vec<String> {
            let whole = format!("{id}:/");
            let listing = stock.at(&store).args(["ls", "-recursive", &whole]).run().status(0);
            let below = listing.text().lines().filter(|line| line.contains("/src"));
            below.map(str::to_owned).collect()
        });
        assert_eq!(ours, theirs);

        let again = sandbox.at(&store).args(["-json", "backup"]).args(&paths).run().status(0);
        let files = ours.iter().filter(|line| line.contains(" -rw")).count();
        assert!(again.said(&format!("\"unchanged\":{files},")), "{}", again.report());
    }
    sandbox.at(&store).arg("check").run().status(0);
    stock.quiet_at(&store).arg("check").run().status(0);

    sandbox.at(&store).arg("backup").args([source.join("a"), source.join("b")]).run().status(0);
    let out = sandbox.path("out");
    sandbox.at(&store).args(["restore", "-to"]).arg(&out).run().status(0);
    fs::remove_dir_all(source.join("c")).expect("source");
    let mut found = differences(&source, &out, Rules::EXACT);
    found.retain(|line| !line.starts_with(".: time"));
    assert_eq!(found, Vec::<String>::new());
}

/// Nothing is stored where one of the places is not there, or cannot be put
/// beside the others.
#[test]
fn several_places_or_none() {
    let sandbox = Sandbox::new();
    let (source, store) = (trees(&sandbox), sandbox.path("store"));
    sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);
    let (there, absent) = (source.join("a"), source.join("absent"));
    let outcome = sandbox.at(&store).arg("backup").args([&there, &absent]).run().status(1);
    assert!(outcome.said("absent") && outcome.said("Nothing was stored"), "{}", outcome.report());
    sandbox.at(&store).arg("backup").arg(&there).arg("stdin:x").run().status(64);
    let ptar = sandbox.path("x.ptar");
    for (second, status) in [(absent.to_str().expect("a name"), 1), ("stdin:x", 64)] {
        let mut invocation = sandbox.tiroir();
        invocation.args(["ptar", "-plaintext", "-o"]).arg(&ptar).arg("stdin:y").arg(second);
        invocation.run().status(status);
        assert!(!ptar.exists());
    }
    assert!(sandbox.at(&store).arg("ls").run().status(0).stdout.is_empty());
}

/// More places than descriptors are allowed at first.
#[test]
fn many_places() {
    let sandbox = Sandbox::new();
    let (source, store) = (sandbox.path("src"), sandbox.path("store"));
    sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);
    let places: Vec<_> = (0..200).map(|number| source.join(format!("{number}/file"))).collect();
    for place in &places {
        fs::create_dir_all(place.parent().expect("a parent")).expect("source");
        fs::write(place, "content").expect("source");
    }
    let mut invocation = sandbox.at(&store);
    invocation.args(["-json", "backup"]).args(&places);
    let front = ["sh", "-c", "ulimit -S -n 64 && exec \"$0\" \"$@\""];
    let outcome = invocation.wrapped(front).run().status(0);
    assert!(outcome.said("\"files\":200,"), "{}", outcome.report());
}

/// All snapshots of the stores, then one of each place: the snapshots that
/// stock puts into its own archive of the same.
#[test]
fn archive_of_several() {
    let sandbox = Sandbox::new();
    let stock = sandbox.stock();
    let (source, one, two) = (trees(&sandbox), sandbox.path("one"), sandbox.path("two"));
    for (store, place) in [(&one, "a"), (&two, "c")] {
        sandbox.at(store).args(["create", "-plaintext"]).run().status(0);
        sandbox.at(store).arg("backup").arg(source.join(place)).run().status(0);
    }
    let (ours, theirs) = (sandbox.path("ours.ptar"), sandbox.path("theirs.ptar"));
    // Stock takes options before paths only; a store that is named twice goes in once.
    for (archive, mut program) in [(&ours, sandbox.tiroir()), (&theirs, stock.plakar())] {
        program.args(["-quiet", "ptar", "-plaintext"]).arg("-k").arg(&one).arg("-kloset");
        program.arg(&two).arg("-k").arg(&one).arg("-o").arg(archive);
        program.args(["a", "b/three", "a"].map(|place| source.join(place))).run().status(0);
    }
    let listed = |archive| {
        let listing = sandbox.at(archive).args(["ls", "-uuid"]).run().status(0);
        directories(listing.text())
    };
    assert_eq!(listed(&ours), listed(&theirs));
    assert_eq!(listed(&ours).len(), 5);
    sandbox.at(&ours).arg("check").run().status(0);
    stock.quiet_at(&ours).arg("check").run().status(0);

    // Options may also stand behind; places and stores are then the same.
    let behind = sandbox.path("behind.ptar");
    let mut invocation = sandbox.tiroir();
    invocation.args(["ptar", "-plaintext", "-o"]).arg(&behind);
    invocation.args(["a", "b/three", "a"].map(|place| source.join(place)));
    invocation.arg("-k").arg(&one).arg("-k").arg(&two).run().status(0);
    assert_eq!(listed(&behind), listed(&ours));
}

/// What is no file does not hold a backup up, and what says that it is empty
/// and is not is read.
#[test]
fn pipes_sockets_and_files_of_the_kernel() {
    let sandbox = Sandbox::new();
    let (source, store) = (sandbox.path("src"), sandbox.path("store"));
    fs::create_dir(&source).expect("source");
    let (pipe, socket) = (source.join("pipe"), source.join("socket"));
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).expect("pipe");
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("socket"));
    sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);
    sandbox.at(&store).arg("backup").arg(&source).run().status(0);
    sandbox.at(&store).arg("backup").arg(&pipe).run().status(0);

    // A socket cannot be brought back, and that is told.
    let ids = identifiers(sandbox.at(&store).args(["ls", "-uuid"]).run().status(0).text());
    let out = sandbox.path("out");
    let mut restore = sandbox.at(&store);
    let outcome = restore.args(["restore", "-to"]).arg(&out).arg(&ids[1]).run().status(3);
    assert!(outcome.said("/socket"), "{}", outcome.report());
    assert!(out.join("pipe").exists() && !out.join("socket").exists());

    sandbox.at(&store).args(["backup", "/proc/version"]).run().status(0);
    let ids = identifiers(sandbox.at(&store).args(["ls", "-uuid"]).run().status(0).text());
    let outcome = sandbox.at(&store).args(["cat", &format!("{}:version", ids[0])]).run().status(0);
    assert_eq!(outcome.stdout, fs::read("/proc/version").expect("file"));
}
