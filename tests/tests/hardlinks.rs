//! Files with several names: stock's restore loses all names but one of what
//! stock records as linked. What tiroir records must let stock restore every
//! name, and tiroir the links.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tiroir_tests::compare::{Rules, assert_same};
use tiroir_tests::sandbox::Sandbox;
use tiroir_tests::scene::identifiers;
use tiroir_tests::store;
use tiroir_tests::tree::{self, Shape};

const NAMES: [&str; 3] = ["hard/one", "hard/three", "hard/sub/two"];

fn inodes(root: &Path) -> BTreeSet<u64> {
    NAMES.iter().map(|name| fs::metadata(root.join(name)).expect("a name").ino()).collect()
}

#[test]
fn every_name_with_stock_and_links_with_ours() {
    let sandbox = Sandbox::new();
    let stock = sandbox.stock();
    let (source, store) = (sandbox.path("src"), sandbox.path("store"));
    tree::build(&source, Shape::LIGHT, 11);
    sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);
    sandbox.at(&store).arg("backup").arg(&source).run().status(0);

    let out = sandbox.path("stock");
    stock.quiet_at(&store).args(["restore", "-to"]).arg(&out).run().status(0);
    assert_same(&source, &out, Rules::STOCK);
    let out = sandbox.path("ours");
    sandbox.at(&store).args(["restore", "-to"]).arg(&out).run().status(0);
    assert_same(&source, &out, Rules::EXACT);
    assert_eq!(inodes(&out).len(), 1);

    // A part of the tree links what is in it, and nothing else.
    let out = sandbox.path("part");
    let at = format!(":{}", source.join("hard/sub").display());
    sandbox.at(&store).args(["restore", "-to"]).arg(&out).arg(&at).run().status(0);
    assert_eq!(fs::read(out.join("two")).expect("restored"), b"three names\n");
    assert_eq!(fs::metadata(out.join("two")).expect("restored").nlink(), 1);
}

/// The links survive a sync through stock, which copies records.
#[test]
fn links_survive_a_sync() {
    let sandbox = Sandbox::new();
    let stock = sandbox.stock();
    let (source, store, peer) = (sandbox.path("src"), sandbox.path("store"), sandbox.path("peer"));
    tree::build(&source, Shape::LIGHT, 12);
    sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);
    sandbox.at(&store).arg("backup").arg(&source).run().status(0);
    stock.at(&peer).args(["create", "-plaintext"]).run().status(0);
    stock.quiet_at(&store).args(["sync", "to"]).arg(&peer).run().status(0);

    let out = sandbox.path("out");
    sandbox.at(&peer).args(["restore", "-to"]).arg(&out).run().status(0);
    assert_same(&source, &out, Rules::EXACT);
    assert_eq!(inodes(&out).len(), 1);
}

/// Links that stock recorded in its own way are links again.
#[test]
fn links_of_stock() {
    let sandbox = Sandbox::new();
    let stock = sandbox.stock();
    let (source, store, out) = (sandbox.path("src"), sandbox.path("store"), sandbox.path("out"));
    // Without attributes, of which a backup of stock may lose one.
    tree::build(&source, Shape { xattrs: false, ..Shape::LIGHT }, 13);
    stock.at(&store).args(["create", "-plaintext"]).run().status(0);
    stock.quiet_at(&store).arg("backup").arg(&source).run().status(0);
    sandbox.at(&store).args(["restore", "-to"]).arg(&out).run().status(0);
    assert_same(&source, &out, Rules::EXACT);
    assert_eq!(inodes(&out).len(), 1);
}

/// A file whose other names are gone is a file like any other, also when stock
/// took its record over from our snapshot.
#[test]
fn lonely_after_a_backup_of_stock() {
    let sandbox = Sandbox::new();
    let stock = sandbox.stock();
    let (source, store) = (sandbox.path("src"), sandbox.path("store"));
    // Without attributes, of which a backup of stock may lose one.
    tree::build(&source, Shape { xattrs: false, ..Shape::LIGHT }, 14);
    sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);
    sandbox.at(&store).arg("backup").arg(&source).run().status(0);
    fs::remove_file(source.join(NAMES[1])).expect("a name");
    fs::remove_file(source.join(NAMES[2])).expect("a name");
    stock.quiet_at(&store).arg("backup").arg(&source).run().status(0);
    store::remove_locks(&store);
    sandbox.at(&store).arg("backup").arg(&source).run().status(0);

    for (number, id) in identifiers(sandbox.at(&store).args(["ls", "-uuid"]).run().status(0).text())
        .iter()
        .take(2)
        .enumerate()
    {
        let out = sandbox.path(format!("out {number}"));
        sandbox.at(&store).args(["restore", "-to"]).arg(&out).arg(id).run().status(0);
        assert_same(&source, &out, Rules::EXACT);
    }
    stock.quiet_at(&store).arg("check").run().status(0);
}
