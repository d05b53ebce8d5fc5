//! The tests' own tools, shown on stock alone: what they say of tiroir is
//! worth as much as what they say here.

use std::fs;
use std::time::Duration;

use tiroir_tests::compare::{Rules, assert_same, differences};
use tiroir_tests::sandbox::{PASSPHRASE, Sandbox};
use tiroir_tests::store::{self, Kind};
use tiroir_tests::tree::{self, Shape};

/// Stock takes the whole tree, and gives back what `Rules::STOCK` says it does,
/// except the later names of a file with several: its restore loses those.
#[test]
fn stock_against_itself() {
    let sandbox = Sandbox::new();
    let stock = sandbox.stock();
    let (source, store, out) = (sandbox.path("src"), sandbox.path("store"), sandbox.path("out"));
    tree::build(&source, Shape::FULL, 1);

    stock.at(&store).args(["create", "-plaintext"]).run().status(0);
    stock.quiet_at(&store).arg("backup").arg(&source).run().status(0);
    stock.quiet_at(&store).arg("check").run().status(0);
    stock.quiet_at(&store).arg("restore").arg("-to").arg(&out).run().status(0);

    let mut lost = differences(&source, &out, Rules::STOCK);
    lost.retain(|line| !line.starts_with("./hard/") && !line.starts_with("./a second name"));
    assert_eq!(lost, Vec::<String>::new());
}

/// The comparison sees every kind of change that a next generation makes.
#[test]
fn next_generation_differs() {
    let sandbox = Sandbox::new();
    let (one, two) = (sandbox.path("one"), sandbox.path("two"));
    tree::build(&one, Shape::LIGHT, 7);
    tree::build(&two, Shape::LIGHT, 7);
    // Directories of one age: what is made in them later changes their times.
    assert_same(&one, &two, Rules::EXACT);

    tree::mutate(&two, 7);
    let found = differences(&one, &two, Rules::EXACT);
    for what in ["missing on the right", "only on the right", "mode", "time", "content", "length"] {
        assert!(found.iter().any(|line| line.contains(what)), "no {what} in {found:#?}");
    }
}

/// Another seed is another tree.
#[test]
fn seeds_differ() {
    let sandbox = Sandbox::new();
    let (one, two) = (sandbox.path("one"), sandbox.path("two"));
    tree::build(&one, Shape::PLAIN, 1);
    tree::build(&two, Shape::PLAIN, 2);
    assert!(!differences(&one, &two, Rules::STOCK).is_empty());
}

/// A lock of ours is a lock for stock: it refuses a live one and breaks a stale
/// one. What the tests of locks rest on.
#[test]
fn stock_respects_made_locks() {
    let sandbox = Sandbox::new();
    let stock = sandbox.stock();
    let (source, store) = (sandbox.path("src"), sandbox.path("store"));
    fs::create_dir(&source).expect("source");
    fs::write(source.join("file"), "content").expect("source");
    stock.at(&store).args(["create", "-plaintext", "-no-compression"]).run().status(0);

    let live = store::put_lock(&store, [7; 32], Duration::from_secs(1), true);
    let refused = stock.at(&store).arg("backup").arg(&source).run();
    assert!(refused.code() != Some(0) && refused.said("lock"), "{}", refused.report());
    assert!(live.exists());

    fs::remove_file(&live).expect("lock");
    let stale = store::put_lock(&store, [8; 32], Duration::from_secs(3600), true);
    stock.at(&store).arg("backup").arg(&source).run().status(0);
    assert!(!stale.exists(), "stock left a stale lock");
}

/// A copy of a store is looked at by a stock that does not know the original.
#[test]
fn stock_finds_damage_in_a_copy() {
    let sandbox = Sandbox::new();
    let stock = sandbox.stock();
    let (source, store, copy) = (sandbox.path("src"), sandbox.path("store"), sandbox.path("copy"));
    tree::build(&source, Shape::PLAIN, 3);
    stock.at(&store).args(["create", "-plaintext"]).run().status(0);
    stock.at(&store).arg("backup").arg(&source).run().status(0);

    // What does not compress lies in a packfile as it is. Elsewhere damage may
    // pass: a snapshot whose header cannot be read is no snapshot for stock.
    store::copy(&store, &copy);
    let noise = fs::read(source.join("plain/noise.bin")).expect("source");
    let holds = |bytes: &[u8]| bytes.windows(64).position(|window| window == &noise[1000..1064]);
    let mut hits = 0;
    for packfile in store::of_kind(&copy, Kind::Packfile) {
        let mut bytes = fs::read(&packfile.path).expect("packfile");
        if let Some(at) = holds(&bytes) {
            bytes[at] ^= 1;
            fs::write(&packfile.path, bytes).expect("packfile");
            hits += 1;
        }
    }
    assert_eq!(hits, 1, "the chunk lies in one packfile");
    stock.at(&store).arg("check").run().status(0);
    sandbox.stock().at(&copy).arg("check").run().status(65);
}

/// An encrypted store of the engine of plakar 1.0 is read by stock 1.1.4, and
/// then no longer by that engine, once stock has written into it.
#[test]
fn old_engine_and_stock() {
    let sandbox = Sandbox::new();
    let (source, store, out) = (sandbox.path("src"), sandbox.path("store"), sandbox.path("out"));
    tree::build(&source, Shape { links: false, ..Shape::LIGHT }, 5);
    let old = |args: &[&str]| sandbox.kloset10(&store).passphrase(PASSPHRASE).args(args).run();
    old(&["create"]).status(0);
    sandbox.kloset10(&store).passphrase(PASSPHRASE).arg("backup").arg(&source).run().status(0);
    old(&["check"]).status(0);
    let restored =
        sandbox.kloset10(&store).passphrase(PASSPHRASE).args(["restore", ""]).arg(&out).run();
    restored.status(0);
    assert_same(&source, &out, Rules { mtime_ns_max: 0, ..Rules::STOCK });
    assert_eq!(store::state_versions(&store), [0x0001_0000]);

    let stock = sandbox.stock();
    stock.at(&store).passphrase(PASSPHRASE).arg("check").run().status(0);
    stock.at(&store).passphrase(PASSPHRASE).arg("backup").arg(&source).run().status(0);
    old(&["ls"]).status(78);
}
