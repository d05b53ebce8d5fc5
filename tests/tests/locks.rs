//! Locks between tiroir and stock: shared while a backup runs, exclusive while
//! stock maintains, and stale after ten minutes.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tiroir_tests::sandbox::{Running, Sandbox, Stock};
use tiroir_tests::store;
use tiroir_tests::tree::{self, Shape};

/// Statuses that mean something else; *locked* must be none of them.
const OTHER_STATUSES: [i32; 8] = [0, 1, 2, 64, 65, 66, 77, 78];

const MINUTE: Duration = Duration::from_secs(60);

/// A store without compression and encryption, so that the test can make locks.
fn make_store(sandbox: &Sandbox) -> (PathBuf, PathBuf) {
    let (source, store) = (sandbox.path("src"), sandbox.path("store"));
    tree::build(&source, Shape::PLAIN, 4);
    sandbox.at(&store).args(["create", "-plaintext", "-no-compression"]).run().status(0);
    (source, store)
}

#[test]
fn live_exclusive_lock_refuses_a_backup() {
    let sandbox = Sandbox::new();
    let (source, store) = make_store(&sandbox);
    let lock = store::put_lock(&store, [0xAB; 32], MINUTE, true);

    let refused = sandbox.at(&store).arg("backup").arg(&source).run().refused();
    let code = refused.code().expect("no signal");
    assert!(!OTHER_STATUSES.contains(&code), "{code} means something else\n{}", refused.report());
    assert!(refused.said("elsewhere"), "does not say who holds it\n{}", refused.report());
    assert_eq!(store::locks(&store), std::slice::from_ref(&lock), "its own lock was left behind");
    let listing = sandbox.at(&store).arg("ls").run().status(0);
    assert!(listing.stdout.is_empty(), "{}", listing.report());

    // Reading takes no lock and asks for none.
    sandbox.at(&store).arg("check").run().status(0);
    fs::remove_file(lock).expect("lock");
    sandbox.at(&store).arg("backup").arg(&source).run().status(0);
}

#[test]
fn stale_lock_is_broken() {
    let sandbox = Sandbox::new();
    let (source, store) = make_store(&sandbox);
    store::put_lock(&store, [0xAB; 32], 11 * MINUTE, true);
    store::put_lock(&store, [0xCD; 32], 600 * MINUTE, false);
    sandbox.at(&store).arg("backup").arg(&source).run().status(0);
    assert_eq!(store::locks(&store), [] as [PathBuf; 0]);
}

#[test]
fn shared_locks_do_not_conflict() {
    let sandbox = Sandbox::new();
    let (source, store) = make_store(&sandbox);
    let lock = store::put_lock(&store, [0xAB; 32], MINUTE, false);
    sandbox.at(&store).arg("backup").arg(&source).run().status(0);
    assert_eq!(store::locks(&store), [lock]);
}

/// While tiroir reads its source, stock's maintenance stays away; afterwards
/// it runs, and what was written meanwhile is whole.
#[test]
fn stock_maintenance_waits_for_our_backup() {
    let sandbox = Sandbox::new();
    let stock = sandbox.stock();
    let (source, store) = make_store(&sandbox);
    sandbox.at(&store).arg("backup").arg(&source).run().status(0);

    let mut backup = sandbox.at(&store).args(["backup", "stdin:slow"]).start();
    backup.feed(&vec![0x55; 3 << 20]);
    wait_for_lock(&store, &mut backup);
    let refused = maintain(&stock, &store);
    assert!(refused.code() != Some(0) && refused.said("locked"), "{}", refused.report());

    backup.feed(b"the end\n");
    backup.finish().status(0);
    assert_eq!(store::locks(&store), [] as [PathBuf; 0]);
    maintain(&stock, &store).status(0);
    store::remove_locks(&store);
    maintain(&stock, &store).status(0);
    store::remove_locks(&store);

    stock.quiet_at(&store).arg("check").run().status(0);
    sandbox.at(&store).arg("check").run().status(0);
    let listing = sandbox.at(&store).args(["ls", "-uuid"]).run().status(0);
    assert_eq!(listing.text().lines().count(), 2, "{}", listing.report());
}

/// A backup of ours beside one of stock's that is still running.
#[test]
fn beside_a_backup_of_stock() {
    let sandbox = Sandbox::new();
    let stock = sandbox.stock();
    let (source, store) = make_store(&sandbox);
    let mut backup = stock.quiet_at(&store).args(["backup", "stdin:slow"]).start();
    backup.feed(&vec![0x55; 3 << 20]);
    wait_for_lock(&store, &mut backup);
    sandbox.at(&store).arg("backup").arg(&source).run().status(0);
    assert_eq!(store::locks(&store).len(), 1, "stock's lock is stock's");
    backup.finish().status(0);
    store::remove_locks(&store);
    sandbox.at(&store).arg("check").run().status(0);
    stock.quiet_at(&store).arg("check").run().status(0);
}

fn maintain(stock: &Stock<'_>, store: &Path) -> tiroir_tests::sandbox::Outcome {
    stock.quiet_at(store).env("PLAKAR_GRACEPERIOD", "1ns").arg("maintenance").run()
}

fn wait_for_lock(store: &Path, backup: &mut Running) {
    let deadline = Instant::now() + MINUTE;
    while store::locks(store).is_empty() {
        assert!(backup.ended().is_none(), "the backup ended without waiting for its source");
        assert!(Instant::now() < deadline, "no lock within a minute");
        thread::sleep(Duration::from_millis(10));
    }
}
