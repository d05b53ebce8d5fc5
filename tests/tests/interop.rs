//! Both directions: what tiroir writes, stock plakar 1.1.4 reads with every
//! command, and the other way round.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tiroir_tests::compare::{Rules, assert_same};
use tiroir_tests::http;
use tiroir_tests::sandbox::{Invocation, Sandbox, Stock};
use tiroir_tests::scene::{Container, Variant, identifiers};
use tiroir_tests::store;
use tiroir_tests::tree::{self, Shape};

/// Files of a tree whose content is asked for by path. All of them are in
/// [`Shape::LIGHT`], and none is a link.
const READ_BY_PATH: [&str; 9] = [
    "plain/hello.txt",
    "plain/none",
    "plain/sparse.bin",
    "plain/text.txt",
    "order/a.b",
    "order/a/z",
    "odd/-leading-dash",
    "odd/colon:at@comma,semi;",
    "odd/cafe\u{301} decomposed",
];

/// One store, seen by both programs.
struct Scene<'s> {
    sandbox: &'s Sandbox,
    stock: &'s Stock<'s>,
    variant: Variant,
    source: PathBuf,
    store: PathBuf,
    id: String,
}

impl<'s> Scene<'s> {
    fn new(sandbox: &'s Sandbox, stock: &'s Stock<'s>, variant: Variant, source: PathBuf) -> Self {
        let store = variant.path(sandbox);
        let mut scene = Self { sandbox, stock, variant, source, store, id: String::new() };
        let listing = scene.theirs().args(["ls", "-uuid"]).run().status(0);
        let mut ids = identifiers(listing.text());
        assert_eq!(ids.len(), 1, "{}", listing.report());
        scene.id = ids.remove(0);
        scene
    }

    fn ours(&self) -> Invocation {
        let mut invocation = self.sandbox.at(&self.store);
        invocation.passphrase(self.variant.passphrase());
        invocation
    }

    fn theirs(&self) -> Invocation {
        let mut invocation = self.stock.quiet_at(&self.store);
        invocation.passphrase(self.variant.passphrase());
        invocation
    }

    /// `SNAP:path`, with a prefix of the identifier and an absolute path.
    fn at(&self, relative: &str) -> String {
        format!("{}:{}", &self.id[..8], self.source.join(relative).display())
    }

    /// The same command says the same with both programs.
    fn both_say(&self, args: &[&str]) -> Vec<u8> {
        let ours = self.ours().args(args).run().status(0);
        let theirs = self.theirs().args(args).run().status(0);
        assert!(
            ours.stdout == theirs.stdout,
            "{args:?} differs\n{}\n{}",
            ours.report(),
            theirs.report()
        );
        ours.stdout
    }

    /// Whether every form of a command is tried. Each command on an encrypted
    /// store costs a key derivation, and how a path is looked up does not
    /// depend on the algorithms.
    fn thorough(&self) -> bool {
        !self.variant.encrypted
    }

    /// Listings of both programs, compared line by line.
    fn listings(&self) {
        self.both_say(&["ls", "-uuid"]);
        let whole = self.both_say(&["ls", "-recursive", &self.id]);
        assert!(whole.len() > 1000, "a listing of {} bytes", whole.len());
        if !self.thorough() {
            return;
        }
        self.both_say(&["ls"]);
        self.both_say(&["ls", "-tags"]);
        self.both_say(&["ls", &self.id]);
        self.both_say(&["ls", "-recursive", &format!("{}:/", self.id)]);
        self.both_say(&["ls", &self.at("odd")]);
        self.both_say(&["ls", &self.at("plain/text.txt")]);
        self.both_say(&["ls", &self.at("links/to dir")]);
    }

    /// `cat` of either program gives what is in the source.
    fn contents(&self, program: impl Fn() -> Invocation) {
        let every = if self.thorough() { 1 } else { 4 };
        for relative in READ_BY_PATH.into_iter().step_by(every) {
            let said = program().arg("cat").arg(self.at(relative)).run().status(0);
            let meant = fs::read(self.source.join(relative)).expect("file of the source");
            assert!(said.stdout == meant, "cat {relative}\n{}", said.report());
        }
    }
}

/// Everything stock does with what tiroir wrote, and tiroir with its own.
fn ours_to_stock(variant: Variant, shape: Shape, seed: u64) {
    println!("ours to stock: {}", variant.name());
    let sandbox = Sandbox::new();
    let stock = sandbox.stock();
    let source = sandbox.path("src");
    tree::build(&source, shape, seed);
    variant.make_with_tiroir(&sandbox, &source);
    let scene = Scene::new(&sandbox, &stock, variant, source);

    scene.listings();
    scene.theirs().arg("check").run().status(0);
    scene.theirs().args(["check", "-fast"]).run().status(0);
    scene.ours().arg("check").run().status(0);

    // Stock's restore ends with status 0 whatever it could not write: the
    // comparison is what counts.
    let out = sandbox.path("out stock");
    scene.theirs().args(["restore", "-to"]).arg(&out).arg(&scene.id).run().status(0);
    assert_same(&scene.source, &out, Rules::STOCK);
    let out = sandbox.path("out ours");
    scene.ours().args(["restore", "-to"]).arg(&out).arg(&scene.id).run().status(0);
    assert_same(&scene.source, &out, Rules::EXACT);

    scene.contents(|| scene.theirs());
    nothing_differs(&scene, || scene.theirs());
    scene.both_say(&["locate", "text.txt"]);
    sync_to_stock(&scene);
    listed_by_web_page(&scene);
}

/// Everything tiroir does with what stock wrote.
fn stock_to_ours(variant: Variant, shape: Shape, seed: u64) {
    println!("stock to ours: {}", variant.name());
    let sandbox = Sandbox::new();
    let stock = sandbox.stock();
    let source = sandbox.path("src");
    tree::build(&source, shape, seed);
    variant.make_with_stock(&sandbox, &stock, &source);
    let scene = Scene::new(&sandbox, &stock, variant, source);

    scene.listings();
    scene.ours().arg("check").run().status(0);
    scene.ours().args(["check", "-fast"]).run().status(0);
    let out = sandbox.path("out");
    let restored = scene.ours().args(["restore", "-to"]).arg(&out).run().status(0);
    assert_same(&scene.source, &out, Rules::exact_of_stock(&restored));
    scene.contents(|| scene.ours());
    nothing_differs(&scene, || scene.ours());
    scene.both_say(&["locate", "text.txt", "*.b"]);
    scene.both_say(&["digest", &scene.at("plain")]);
    if scene.thorough() {
        scene.both_say(&["digest", "-hashing", "BLAKE3", &scene.at("order")]);
    }
}

/// A file against itself on disk, and a changed one.
fn nothing_differs(scene: &Scene<'_>, program: impl Fn() -> Invocation) {
    let said = program().arg("diff").arg(scene.at("plain/page.html")).run().status(0);
    assert!(said.stdout.is_empty(), "{}", said.report());

    let path = scene.source.join("plain/hello.txt");
    let (before, time) = (fs::read(&path).expect("a file"), modified(&path));
    fs::write(&path, b"Hello, other world!\n").expect("a file");
    let said = program().arg("diff").arg(scene.at("plain/hello.txt")).run().status(0);
    fs::write(&path, before).expect("a file");
    File::options().write(true).open(&path).expect("a file").set_modified(time).expect("its time");
    for line in ["-Hello, world!\n", "+Hello, other world!\n"] {
        assert!(said.text().contains(line), "no {line:?}\n{}", said.report());
    }
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).expect("a file").modified().expect("its time")
}

/// A fresh store of stock takes the snapshot over, finds nothing wrong in it,
/// and restores it.
fn sync_to_stock(scene: &Scene<'_>) {
    let peer = scene.sandbox.path("peer");
    let mut create = scene.stock.at(&peer);
    create.passphrase(scene.variant.passphrase()).arg("create");
    if !scene.variant.encrypted {
        create.arg("-plaintext");
    }
    create.run().status(0);
    scene.stock.configure_store("peer", &peer, scene.variant.passphrase());

    let synced = scene.theirs().args(["sync", &scene.id, "to", "@peer"]).run().status(0);
    assert!(!synced.said("KO"), "{}", synced.report());
    let at_peer = || {
        let mut invocation = scene.stock.quiet_at(&peer);
        invocation.passphrase(scene.variant.passphrase());
        invocation
    };
    at_peer().arg("check").run().status(0);
    let here = scene.theirs().args(["ls", "-recursive", &scene.id]).run().status(0);
    let there = at_peer().args(["ls", "-recursive", &scene.id]).run().status(0);
    assert!(here.stdout == there.stdout, "{}\n{}", here.report(), there.report());
    let out = scene.sandbox.path("out peer");
    at_peer().args(["restore", "-to"]).arg(&out).arg(&scene.id).run().status(0);
    assert_same(&scene.source, &out, Rules::STOCK);
}

/// The interface behind stock's web page lists a directory whole.
fn listed_by_web_page(scene: &Scene<'_>) {
    let port = http::free_port();
    let mut ui = scene.theirs();
    let address = format!("127.0.0.1:{port}");
    ui.args(["ui", "-no-auth", "-no-spawn", "-no-refresh", "-addr", &address]);
    let _running = ui.start();

    for folder in ["plain", "order", "links"] {
        let directory = scene.source.join(folder);
        let path = format!("{}:{}", scene.id, directory.display());
        let path = format!("/api/snapshot/vfs/children/{}", http::escaped(&path));
        let (status, body) = http::get(port, &path);
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        let answer: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        let mut listed: Vec<&str> = answer["items"]
            .as_array()
            .expect("items")
            .iter()
            .map(|item| item["file_info"]["name"].as_str().expect("a name"))
            .filter(|name| *name != "..")
            .collect();
        listed.sort_unstable();
        assert_eq!(listed, names(&directory), "{folder}");
        assert_eq!(answer["total"], listed.len(), "the count of the summary of {folder}");
    }
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .expect("directory of the source")
        .map(|entry| entry.expect("directory of the source").file_name())
        .map(|name| name.into_string().expect("a plain name"))
        .collect();
    names.sort();
    names
}

/// All pairs of container, encryption, compression and hashing, in part of
/// their combinations: each command on an encrypted store costs a key
/// derivation. Encrypted with the defaults are the large trees below.
fn variants(encrypted: bool, container: Container) -> Vec<Variant> {
    let base = Variant { encrypted, container, ..Variant::PLAIN };
    let mut variants = vec![
        Variant { compression: None, hashing: "SHA256", ..base },
        Variant { compression: Some("GZIP"), ..base },
    ];
    if !encrypted {
        variants.push(base);
    }
    variants
}

#[test]
fn plain_stores_of_ours() {
    for (variant, seed) in variants(false, Container::Store).into_iter().zip(10..) {
        ours_to_stock(variant, Shape::LIGHT, seed);
    }
}

#[test]
fn encrypted_stores_of_ours() {
    for (variant, seed) in variants(true, Container::Store).into_iter().zip(20..) {
        ours_to_stock(variant, Shape::LIGHT, seed);
    }
}

#[test]
fn plain_ptars_of_ours() {
    for (variant, seed) in variants(false, Container::Ptar).into_iter().zip(30..) {
        ours_to_stock(variant, Shape::LIGHT, seed);
    }
}

#[test]
fn encrypted_ptars_of_ours() {
    for (variant, seed) in variants(true, Container::Ptar).into_iter().zip(40..) {
        ours_to_stock(variant, Shape::LIGHT, seed);
    }
}

#[test]
fn stores_of_stock() {
    made_by_stock(Container::Store, 50);
}

#[test]
fn ptars_of_stock() {
    made_by_stock(Container::Ptar, 60);
}

fn made_by_stock(container: Container, seed: u64) {
    let mut variants = [variants(false, container), variants(true, container)].concat();
    variants.retain(|variant| variant.compression != Some("GZIP"));
    for (variant, seed) in variants.into_iter().zip(seed..) {
        stock_to_ours(variant, Shape::LIGHT, seed);
    }
}

#[test]
fn large_wide_and_deep_in_a_store_of_ours() {
    ours_to_stock(Variant::PLAIN, Shape::FULL, 70);
}

#[test]
fn large_wide_and_deep_in_an_encrypted_ptar_of_ours() {
    ours_to_stock(Variant::PTAR_ENCRYPTED, Shape::FULL, 71);
}

#[test]
fn large_wide_and_deep_in_an_encrypted_store_of_stock() {
    stock_to_ours(Variant::ENCRYPTED, Shape::FULL, 72);
}

#[test]
fn large_wide_and_deep_in_a_ptar_of_stock() {
    stock_to_ours(Variant::PTAR, Shape::FULL, 73);
}

/// The smallest budget does what no budget does.
#[test]
fn small_memory() {
    let sandbox = Sandbox::new();
    let stock = sandbox.stock();
    let (source, store, out) = (sandbox.path("src"), sandbox.path("store"), sandbox.path("out"));
    tree::build(&source, Shape::FULL, 74);
    let tight = || {
        let mut invocation = sandbox.tiroir();
        invocation.args(["--memory", "24M", "at"]).arg(&store);
        invocation
    };
    tight().args(["create", "-plaintext"]).run().status(0);
    tight().arg("backup").arg(&source).run().status(0);
    tight().arg("check").run().status(0);
    tight().args(["restore", "-to"]).arg(&out).run().status(0);
    assert_same(&source, &out, Rules::EXACT);
    stock.quiet_at(&store).arg("check").run().status(0);
}

/// An archive may have chunks of another length too. Both programs take it over
/// into a store with the usual ones.
#[test]
fn a_ptar_with_small_chunks() {
    let sandbox = Sandbox::new();
    let stock = sandbox.stock();
    let (source, archive) = (sandbox.path("src"), sandbox.path("store.ptar"));
    tree::build(&source, Shape { large: true, ..Shape::LIGHT }, 75);
    let mut ptar = sandbox.tiroir();
    ptar.args(["ptar", "-plaintext", "-chunk-size", "128K", "-o"]).arg(&archive).arg(&source);
    ptar.run().status(0);
    let scene = Scene::new(&sandbox, &stock, Variant::PTAR, source);
    for program in [scene.ours(), scene.theirs()].iter_mut() {
        let info = program.arg("info").run().status(0);
        assert!(info.text().contains(" - MaxSize: 1.0 MiB (1048576 bytes)"), "{}", info.report());
    }
    scene.theirs().arg("check").run().status(0);
    scene.ours().arg("check").run().status(0);
    let out = sandbox.path("out stock");
    scene.theirs().args(["restore", "-to"]).arg(&out).arg(&scene.id).run().status(0);
    assert_same(&scene.source, &out, Rules::STOCK);
    scene.contents(|| scene.theirs());
    sync_to_stock(&scene);
}

/// The opt-in suite is refused by stock with a clear error, and never misread.
#[test]
fn stock_refuses_the_other_cipher() {
    let sandbox = Sandbox::new();
    let stock = sandbox.stock();
    let (source, store, out) = (sandbox.path("src"), sandbox.path("store"), sandbox.path("out"));
    let passphrase = Variant::ENCRYPTED.passphrase();
    tree::build(&source, Shape::LIGHT, 75);
    let ours = || {
        let mut invocation = sandbox.at(&store);
        invocation.passphrase(passphrase);
        invocation
    };
    ours().args(["create", "-cipher", "chacha20-poly1305"]).run().status(0);
    ours().arg("backup").arg(&source).run().status(0);
    ours().arg("check").run().status(0);
    ours().args(["restore", "-to"]).arg(&out).run().status(0);
    assert_same(&source, &out, Rules::EXACT);

    let refused = stock.at(&store).passphrase(passphrase).arg("ls").run();
    assert!(refused.text().lines().all(|line| !line.contains("/src")), "{}", refused.report());
    assert!(refused.code() != Some(0) || !refused.stdout.is_empty(), "{}", refused.report());
    assert!(!refused.said("panic"), "{}", refused.report());
}

/// A store of the 1.0 engine: tiroir reads it, and what it writes into it is
/// read by that engine, because the version of the states is not raised.
#[test]
fn into_a_store_of_the_old_engine() {
    for encrypted in [false, true] {
        let sandbox = Sandbox::new();
        let variant = Variant { encrypted, ..Variant::PLAIN };
        let (source, store) = (sandbox.path("src"), variant.path(&sandbox));
        let passphrase = variant.passphrase();
        tree::build(&source, Shape::LIGHT, 80);
        let old = || {
            let mut invocation = sandbox.kloset10(&store);
            invocation.passphrase(passphrase);
            invocation
        };
        let ours = || {
            let mut invocation = sandbox.at(&store);
            invocation.passphrase(passphrase);
            invocation
        };
        old().arg("create").run().status(0);
        old().arg("backup").arg(&source).run().status(0);
        let first = identifiers(ours().args(["ls", "-uuid"]).run().status(0).text()).remove(0);
        ours().arg("check").run().status(0);

        tree::mutate(&source, 80);
        ours().arg("backup").arg(&source).run().status(0);
        let ids = identifiers(ours().args(["ls", "-uuid"]).run().status(0).text());
        assert_eq!(ids.len(), 2);
        let second = ids.iter().find(|id| **id != first).expect("a new snapshot");

        assert_eq!(store::state_versions(&store), [0x0001_0000; 2], "raised in silence");
        old().arg("check").run().status(0);
        let said = old().args(["ls", "-r", second]).run().status(0);
        assert!(said.stdout.len() > 1000, "{}", said.report());
        let path = source.join("plain/text.txt");
        assert!(!path.exists(), "renamed by the second generation");
        let moved = source.join("plain/moved.txt");
        let said = old().args(["cat", second]).arg(&moved).run().status(0);
        assert!(said.stdout == fs::read(&moved).expect("file of the source"), "{}", said.report());
        let out = sandbox.path("out old");
        old().args(["restore", second]).arg(&out).run().status(0);
        assert_same(&source, &out, Rules { mtime_ns_max: 0, ..Rules::STOCK });
        let out = sandbox.path("out ours");
        ours().args(["restore", "-to"]).arg(&out).arg(second).run().status(0);
        assert_same(&source, &out, Rules::EXACT);

        // And stock 1.1.4 finds nothing wrong either.
        let stock = sandbox.stock();
        stock.quiet_at(&store).passphrase(passphrase).arg("check").run().status(0);
    }
}
