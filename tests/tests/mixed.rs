//! On top of each other: tiroir and stock take turns in one store, which stock
//! then maintains, and both read all of it.

use std::path::{Path, PathBuf};

use tiroir_tests::compare::{Rules, assert_same};
use tiroir_tests::sandbox::{Invocation, Sandbox, Stock};
use tiroir_tests::scene::{Variant, identifiers};
use tiroir_tests::store::{self, Kind};
use tiroir_tests::tree::{self, Shape};

/// Who makes a backup.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Who {
    Ours,
    Stock,
}

/// A store, and a tree whose generations are backed up into it.
struct Turns<'s> {
    sandbox: &'s Sandbox,
    stock: Stock<'s>,
    variant: Variant,
    source: PathBuf,
    store: PathBuf,
    /// Identifier of each snapshot, the tree as it was, and who took it.
    taken: Vec<(String, PathBuf, Who)>,
}

impl<'s> Turns<'s> {
    fn new(sandbox: &'s Sandbox, variant: Variant, creator: Who, shape: Shape) -> Self {
        Self::with(sandbox, variant, creator, shape, &[])
    }

    /// The same, in a store that is created with `options`.
    fn with(
        sandbox: &'s Sandbox,
        variant: Variant,
        creator: Who,
        shape: Shape,
        options: &[&str],
    ) -> Self {
        let turns = Self {
            sandbox,
            stock: sandbox.stock(),
            variant,
            source: sandbox.path("src"),
            store: variant.path(sandbox),
            taken: Vec::new(),
        };
        tree::build(&turns.source, shape, 9);
        let mut create = turns.program(creator);
        create.arg("create");
        if !variant.encrypted {
            create.arg("-plaintext");
        }
        create.args(options).run().status(0);
        turns
    }

    fn program(&self, who: Who) -> Invocation {
        let mut invocation = match who {
            Who::Ours => self.sandbox.at(&self.store),
            Who::Stock => self.stock.quiet_at(&self.store),
        };
        invocation.passphrase(self.variant.passphrase());
        invocation
    }

    /// Backs the tree up as it is, and keeps a copy to compare with.
    fn backup(&mut self, who: Who) {
        self.program(who).arg("backup").arg(&self.source).run().status(0);
        if who == Who::Stock {
            store::remove_locks(&self.store);
        } else {
            assert_eq!(store::locks(&self.store), [] as [PathBuf; 0], "a lock was left behind");
        }
        let listing = self.program(Who::Stock).args(["ls", "-uuid"]).run().status(0);
        let new: Vec<String> = identifiers(listing.text())
            .into_iter()
            .filter(|id| self.taken.iter().all(|(taken, ..)| taken != id))
            .collect();
        let [id] = &new[..] else { panic!("one new snapshot expected\n{}", listing.report()) };
        let copy = self.sandbox.path(format!("as it was for {id}"));
        copy_tree(self.sandbox, &self.source, &copy);
        self.taken.push((id.clone(), copy, who));
    }

    /// Both programs find nothing wrong.
    fn checks(&self) {
        for who in [Who::Stock, Who::Ours] {
            self.program(who).arg("check").run().status(0);
        }
    }

    /// Both programs check everything, and restore and list each snapshot.
    fn everything_reads(&self) {
        self.checks();
        for (number, (id, copy, who)) in self.taken.iter().enumerate() {
            let out = self.sandbox.path(format!("ours {number}"));
            let mut restore = self.program(Who::Ours);
            let restored = restore.args(["restore", "-to"]).arg(&out).arg(id).run().status(0);
            let rules = match who {
                Who::Ours => Rules::EXACT,
                Who::Stock => Rules::exact_of_stock(&restored),
            };
            assert_same(copy, &out, rules);
            remove_tree(self.sandbox, &out);

            // By path, and not by walking: a lookup in the tree of the
            // snapshot, whose entries a parent may have lent it.
            let at = format!("{id}:{}", self.source.join("plain/page.html").display());
            self.program(Who::Stock).args(["cat", &at]).run().status(0);
            if self.variant.encrypted {
                // The rest does not depend on it, and costs a key derivation
                // per command.
                continue;
            }
            self.program(Who::Ours).args(["cat", &at]).run().status(0);
            let listings = [Who::Ours, Who::Stock]
                .map(|who| self.program(who).args(["ls", "-recursive", id]).run().status(0).stdout);
            assert!(listings[0] == listings[1], "listings of {id} differ");
        }
    }

    /// Stock's maintenance, without grace: what nothing names goes at once,
    /// in two runs, the first of which only marks it.
    fn maintain(&self) {
        for _ in 0..2 {
            store::remove_locks(&self.store);
            let mut maintenance = self.program(Who::Stock);
            maintenance.env("PLAKAR_GRACEPERIOD", "1ns").arg("maintenance").run().status(0);
        }
        store::remove_locks(&self.store);
    }

    fn remove(&mut self, number: usize) {
        let (id, ..) = self.taken.remove(number);
        self.program(Who::Stock).args(["rm", "-apply", &id]).run().status(0);
    }
}

/// With `cp`, which keeps links, holes, times and attributes.
fn copy_tree(sandbox: &Sandbox, from: &Path, to: &Path) {
    sandbox.program("cp").arg("-a").arg(from).arg(to).run().status(0);
}

fn remove_tree(sandbox: &Sandbox, path: &Path) {
    sandbox.program("rm").arg("-rf").arg(path).run().status(0);
}

fn takes_turns(variant: Variant, turns: [Who; 3]) {
    let sandbox = Sandbox::new();
    let mut scene = Turns::new(&sandbox, variant, turns[0], Shape::LIGHT);
    for (generation, who) in (0u64..).zip(turns) {
        if generation == 1 {
            tree::mutate(&scene.source, 9);
        }
        // The third backup finds nothing changed.
        scene.backup(who);
    }
    scene.checks();
    scene.maintain();
    scene.everything_reads();

    // Without the first, what the others took from it must stay.
    scene.remove(0);
    scene.maintain();
    scene.checks();
    // And the store goes on.
    scene.backup(Who::Ours);
    scene.backup(Who::Stock);
    scene.everything_reads();
}

#[test]
fn ours_then_stock_plain() {
    takes_turns(Variant::PLAIN, [Who::Ours, Who::Stock, Who::Ours]);
}

#[test]
fn ours_then_stock_encrypted() {
    takes_turns(Variant::ENCRYPTED, [Who::Ours, Who::Stock, Who::Ours]);
}

#[test]
fn stock_then_ours_plain() {
    takes_turns(Variant::PLAIN, [Who::Stock, Who::Ours, Who::Stock]);
}

#[test]
fn stock_then_ours_encrypted() {
    takes_turns(Variant::ENCRYPTED, [Who::Stock, Who::Ours, Who::Stock]);
}

/// Unchanged data is not stored again by the other program: same cuts, same
/// MACs, same parent.
#[test]
fn unchanged_data_is_not_stored_again() {
    for (first, second) in [(Who::Stock, Who::Ours), (Who::Ours, Who::Stock)] {
        let sandbox = Sandbox::new();
        let mut scene = Turns::new(&sandbox, Variant::PLAIN, first, Shape::FULL);
        scene.backup(first);
        let before = store::size_bytes(&scene.store);
        scene.backup(second);
        let added = store::size_bytes(&scene.store) - before;
        // Stock pads each packfile with noise, more than 1 MiB a run.
        let padding = if second == Who::Stock { 2 << 20 } else { 0 };
        assert!(
            added <= before * 3 / 100 + padding,
            "{second:?} on top of {first:?} added {added} bytes to {before}"
        );
    }
}

/// Neither is what changed little, nor is a store that only one of them uses
/// better off.
#[test]
fn second_generation_costs_what_changed() {
    for who in [Who::Ours, Who::Stock] {
        let sandbox = Sandbox::new();
        let mut scene = Turns::new(&sandbox, Variant::PLAIN, Who::Stock, Shape::FULL);
        scene.backup(Who::Stock);
        let before = store::size_bytes(&scene.store);
        tree::mutate(&scene.source, 9);
        scene.backup(who);
        let added = store::size_bytes(&scene.store) - before;
        // One chunk of noise around the bytes that were put in: 8 MiB at most,
        // and some small files.
        assert!(added < 10 << 20, "{who:?} added {added} bytes to {before}");
        scene.everything_reads();
    }
}

/// Where chunks are small, both programs cut alike as well, and store little
/// where little has changed.
#[test]
fn small_chunks_are_cut_alike() {
    let orders =
        [(Who::Ours, Who::Stock, Variant::PLAIN), (Who::Stock, Who::Ours, Variant::ENCRYPTED)];
    for (first, second, variant) in orders {
        let sandbox = Sandbox::new();
        let options = ["-chunk-size", "64K"];
        let mut scene = Turns::with(&sandbox, variant, Who::Ours, Shape::FULL, &options);
        for who in [Who::Ours, Who::Stock] {
            let info = scene.program(who).arg("info").run().status(0);
            for line in [
                " - MinSize: 32 KiB (32768 bytes)",
                " - NormalSize: 64 KiB (65536 bytes)",
                " - MaxSize: 512 KiB (524288 bytes)",
            ] {
                assert!(info.text().lines().any(|found| found == line), "{}", info.report());
            }
        }
        scene.backup(first);
        let whole = store::size_bytes(&scene.store);
        scene.backup(second);
        let with_unchanged = store::size_bytes(&scene.store);
        tree::mutate(&scene.source, 9);
        scene.backup(second);
        let with_changed = store::size_bytes(&scene.store);
        let sizes = [whole, with_unchanged - whole, with_changed - with_unchanged];
        // The noise alone has 9 MiB. Then come directories and trees, as stock
        // pads with no more than the least chunk, and then those, 40 kB more,
        // and the chunks around the bytes that were put in.
        assert!(sizes[0] > 9 << 20, "{sizes:?}");
        assert!(sizes[1] < 512 << 10, "{second:?} on top of {first:?}: {sizes:?}");
        assert!(sizes[2] < 1 << 20, "{second:?} on top of {first:?}: {sizes:?}");
        scene.maintain();
        scene.backup(first);
        scene.everything_reads();
    }
}

/// A state of version 1.0.0 stays the only kind in a store that has no other;
/// where stock has written, both kinds of reader get along.
#[test]
fn versions_of_states() {
    let sandbox = Sandbox::new();
    let mut scene = Turns::new(&sandbox, Variant::PLAIN, Who::Ours, Shape::PLAIN);
    scene.backup(Who::Stock);
    scene.backup(Who::Ours);
    let versions = store::state_versions(&scene.store);
    assert_eq!(versions, vec![0x0001_0100; versions.len()]);
    assert!(store::of_kind(&scene.store, Kind::State).len() >= 2);
}
