//! Damage, from seeds: bits flipped, ends cut off, resources missing, swapped,
//! overwritten and grown. `check` finds all of it, names what is damaged, and
//! neither panics, nor loops, nor grows; `restore` never passes bad data off as
//! good.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tiroir_tests::compare::{Rules, differences};
use tiroir_tests::rng::Rng;
use tiroir_tests::sandbox::{Invocation, Outcome, Sandbox};
use tiroir_tests::scene::{Container, Variant};
use tiroir_tests::store::{self, ENVELOPE_HEAD_BYTES, Kind, Resource};
use tiroir_tests::tree::{self, Shape};

/// No case comes near it, unless something loops.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Address space of a run. Much more than the program needs, and much less
/// than a damaged length can ask for.
const ADDRESS_SPACE: &str = "--as=536870912";

/// A small store with two snapshots, or a ptar with one.
struct Target<'s> {
    sandbox: &'s Sandbox,
    source: PathBuf,
    store: PathBuf,
    passphrase: Option<&'static str>,
    /// The derived key, so that a case does not cost a key derivation.
    key: Option<PathBuf>,
}

impl<'s> Target<'s> {
    fn new(sandbox: &'s Sandbox, variant: Variant) -> Self {
        let source = sandbox.path("src");
        tree::build(&source, Shape { xattrs: true, ..Shape::PLAIN }, 21);
        variant.make_with_tiroir(sandbox, &source);
        let mut target = Self {
            sandbox,
            source,
            store: variant.path(sandbox),
            passphrase: variant.passphrase(),
            key: None,
        };
        if variant.container == Container::Store {
            tree::mutate(&target.source, 21);
            target.with_passphrase().arg("backup").arg(&target.source).run().status(0);
        }
        if variant.encrypted {
            let key = sandbox.path("key");
            target.with_passphrase().arg("key").arg("-o").arg(&key).run().status(0);
            target.key = Some(key);
        }
        target.quick().arg("check").run().status(0);
        target
    }

    fn with_passphrase(&self) -> Invocation {
        let mut invocation = self.sandbox.at(&self.store);
        invocation.passphrase(self.passphrase);
        invocation
    }

    fn quick(&self) -> Invocation {
        let mut invocation = self.sandbox.tiroir();
        if let Some(key) = &self.key {
            invocation.arg("--key-file").arg(key);
        }
        invocation.arg("at").arg(&self.store).timeout(TIMEOUT);
        invocation
    }

    /// `check` with bounded memory, on its own caches: what an earlier run
    /// knew must not hide what is there now.
    fn check(&self, case: &str) -> Outcome {
        let cache = self.sandbox.path("damaged cache");
        drop(fs::remove_dir_all(&cache));
        fs::create_dir(&cache).expect("cache");
        let mut invocation = self.quick();
        invocation.env("XDG_CACHE_HOME", &cache).arg("check");
        let outcome = invocation.wrapped(["prlimit", ADDRESS_SPACE]).run();
        assert!(!outcome.said("memory allocation"), "{case}\n{}", outcome.report());
        println!("{case}: {:?}", outcome.code());
        outcome.sane()
    }

    /// `restore` of what is damaged: success means the whole tree.
    fn restore(&self, case: &str) {
        let out = self.sandbox.path("damaged out");
        let outcome = self.quick().args(["restore", "-to"]).arg(&out).run().sane();
        if outcome.code() == Some(0) {
            let found = differences(&self.source, &out, Rules::EXACT);
            assert!(found.is_empty(), "{case}: restored with status 0, but {found:?}");
        }
        self.sandbox.program("rm").arg("-rf").arg(&out).run().status(0);
    }
}

/// Asserts that damage was found: a status that fits, and the name.
#[track_caller]
fn found(case: &str, outcome: &Outcome, statuses: &[i32], names: &[&str]) {
    assert!(
        outcome.code().is_some_and(|code| statuses.contains(&code)),
        "{case}: one of {statuses:?} expected\n{}",
        outcome.report()
    );
    assert!(
        names.iter().any(|name| outcome.said(name)),
        "{case}: none of {names:?} is named\n{}",
        outcome.report()
    );
}

/// One way to damage bytes; returns what was done. The result always differs.
fn damage(bytes: &mut Vec<u8>, rng: &mut Rng) -> String {
    let length = bytes.len();
    match rng.below(6) {
        0 | 1 => {
            let (at, bit) = (rng.index(length), rng.below(8));
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at} flipped")
        }
        2 => {
            let at = rng.index(length);
            let end = length.min(at + 1 + rng.index(600));
            for byte in &mut bytes[at..end] {
                *byte = !*byte;
            }
            format!("bytes {at} to {end} inverted")
        }
        3 => {
            let at = rng.index(length);
            bytes.truncate(at);
            format!("cut at {at} of {length}")
        }
        4 => {
            let more = 1 + rng.index(5000);
            bytes.extend_from_slice(&rng.bytes(more));
            format!("{more} bytes more")
        }
        _ => {
            let at = rng.index(length);
            let end = length.min(at + 1 + rng.index(60));
            // Never the same: a removed run moves the MAC at the end.
            bytes.drain(at..end);
            format!("bytes {at} to {end} left out")
        }
    }
}

/// What fits a damaged CONFIG: it may look like another version, like no store,
/// or like one with another passphrase.
const CONFIG_STATUSES: [i32; 4] = [65, 66, 77, 78];

fn damaged_store(variant: Variant, seed: u64, count: u32) {
    let sandbox = Sandbox::new();
    let target = Target::new(&sandbox, variant);
    let resources = store::resources(&target.store);
    for case in 0..count {
        let mut rng = Rng::new(seed << 32 | u64::from(case));
        // States and CONFIG are few: every other case is theirs.
        let resource = match rng.below(8) {
            0 => &resources[0],
            1..4 => pick(&resources, Kind::State, &mut rng),
            _ => pick(&resources, Kind::Packfile, &mut rng),
        };
        let before = fs::read(&resource.path).expect("resource");
        let mut bytes = before.clone();
        let done = damage(&mut bytes, &mut rng);
        fs::write(&resource.path, &bytes).expect("resource");
        let name = resource.name();
        let label = format!("seed {seed}, case {case}: {:?} {name}, {done}", resource.kind);

        let statuses = match resource.kind {
            Kind::Config => &CONFIG_STATUSES[..],
            Kind::State | Kind::Packfile => &[65],
        };
        found(&label, &target.check(&label), statuses, &[&name[..name.len().min(8)]]);
        if case % 8 == 0 {
            target.restore(&label);
        }
        fs::write(&resource.path, &before).expect("resource");
    }
    target.check("everything put back").status(0);
}

fn pick<'r>(resources: &'r [Resource], kind: Kind, rng: &mut Rng) -> &'r Resource {
    let of_kind: Vec<&Resource> =
        resources.iter().filter(|resource| resource.kind == kind).collect();
    of_kind[rng.index(of_kind.len())]
}

#[test]
fn plain_store() {
    damaged_store(Variant::PLAIN, 1, 160);
}

#[test]
fn encrypted_store() {
    damaged_store(Variant::ENCRYPTED, 2, 120);
}

#[test]
fn store_with_gzip_and_sha256() {
    let variant = Variant { compression: Some("GZIP"), hashing: "SHA256", ..Variant::PLAIN };
    damaged_store(variant, 3, 60);
}

#[test]
fn store_without_compression() {
    damaged_store(Variant { compression: None, ..Variant::PLAIN }, 4, 60);
}

/// A file or two gone, or in the place of another.
#[test]
fn missing_and_swapped_in_a_store() {
    let sandbox = Sandbox::new();
    let target = Target::new(&sandbox, Variant::PLAIN);
    let packfiles = store::of_kind(&target.store, Kind::Packfile);
    let states = store::of_kind(&target.store, Kind::State);
    assert!(packfiles.len() >= 2 && states.len() >= 2, "two backups expected");

    for packfile in &packfiles {
        let name = packfile.name();
        let label = format!("packfile {name} missing");
        away(&packfile.path, || {
            found(&label, &target.check(&label), &[65], &[&name[..8]]);
            target.restore(&label);
        });
        let label = format!("packfile {name} empty");
        replaced(&packfile.path, b"", || {
            found(&label, &target.check(&label), &[65], &[&name[..8]]);
        });
        // Stock's own kind of envelope, but of another resource.
        let state = fs::read(&states[0].path).expect("state");
        let label = format!("packfile {name} is a state");
        replaced(&packfile.path, &state, || {
            found(&label, &target.check(&label), &[65], &[&name[..8]]);
        });
    }
    for pair in packfiles.windows(2) {
        let names = [pair[0].name(), pair[1].name()];
        let label = format!("packfiles {names:?} swapped");
        let bytes = pair.iter().map(|file| fs::read(&file.path).expect("packfile"));
        let bytes: Vec<Vec<u8>> = bytes.collect();
        replaced(&pair[0].path, &bytes[1], || {
            replaced(&pair[1].path, &bytes[0], || {
                let outcome = target.check(&label);
                found(&label, &outcome, &[65], &[&names[0][..8], &names[1][..8]]);
            });
        });
    }
    for state in &states {
        let name = state.name();
        // Of a chain of backups the last may be gone without a trace: its
        // snapshot is then one that was never finished. What a later snapshot
        // rests on may not.
        let label = format!("state {name} missing");
        away(&state.path, || {
            let outcome = target.check(&label);
            assert!([Some(0), Some(65)].contains(&outcome.code()), "{}", outcome.report());
            target.restore_or_shorter(&label);
        });
        let label = format!("state {name} empty");
        replaced(&state.path, b"", || {
            found(&label, &target.check(&label), &[65], &[&name[..8]]);
        });
        let packfile = fs::read(&packfiles[0].path).expect("packfile");
        let label = format!("state {name} is a packfile");
        replaced(&state.path, &packfile, || {
            found(&label, &target.check(&label), &[65], &[&name[..8]]);
        });
    }
    away(&target.store.join("CONFIG"), || {
        target.check("CONFIG missing").status(66);
    });
}

impl Target<'_> {
    /// Without its newest state a store has fewer snapshots; what it still has
    /// must be whole, and `restore` takes the newest of it.
    fn restore_or_shorter(&self, case: &str) {
        let out = self.sandbox.path("damaged out");
        let outcome = self.quick().args(["restore", "-to"]).arg(&out).run().sane();
        println!("{case}: restore {:?}", outcome.code());
        self.sandbox.program("rm").arg("-rf").arg(&out).run().status(0);
    }
}

/// Runs `then` while `path` is elsewhere.
fn away(path: &Path, then: impl FnOnce()) {
    let aside = path.with_extension("aside");
    fs::rename(path, &aside).expect("rename");
    then();
    fs::rename(&aside, path).expect("rename");
}

/// Runs `then` while `path` holds `bytes`.
fn replaced(path: &Path, bytes: &[u8], then: impl FnOnce()) {
    let before = fs::read(path).expect("resource");
    fs::write(path, bytes).expect("resource");
    then();
    fs::write(path, before).expect("resource");
}

fn damaged_ptar(variant: Variant, seed: u64, count: u32) {
    let sandbox = Sandbox::new();
    let target = Target::new(&sandbox, variant);
    let before = fs::read(&target.store).expect("ptar");
    let parts = store::ptar_parts(&before);
    for case in 0..count {
        let mut rng = Rng::new(seed << 32 | u64::from(case));
        let mut bytes = before.clone();
        let (what, statuses, done) = match rng.below(8) {
            // The whole file as one: mostly the packfile.
            0..3 => {
                let done = damage(&mut bytes, &mut rng);
                ("the file", &CONFIG_STATUSES[..], done)
            }
            // A part in place, so that the table still fits.
            3..6 => {
                let (kind, offset, length) = parts[rng.index(3)];
                let (at, bit) = (offset + rng.index(length), rng.below(8));
                bytes[at] ^= 1 << bit;
                let statuses = match kind {
                    Kind::Config => &CONFIG_STATUSES[..],
                    Kind::State | Kind::Packfile => &[65][..],
                };
                ("a part", statuses, format!("{kind:?}: bit {bit} of byte {at} flipped"))
            }
            // The magic and the version, and the table, which no MAC covers.
            6 => {
                let (at, bit) = (rng.index(12), rng.below(8));
                bytes[at] ^= 1 << bit;
                ("the head", &CONFIG_STATUSES[..], format!("bit {bit} of byte {at} flipped"))
            }
            _ => {
                let at = bytes.len() - 48 + rng.index(48);
                bytes[at] ^= 1 << rng.below(8);
                ("the table", &CONFIG_STATUSES[..], format!("byte {at} changed"))
            }
        };
        fs::write(&target.store, &bytes).expect("ptar");
        let label = format!("seed {seed}, case {case}: {what}, {done}");
        let names = ["store.ptar", "state ", "packfile ", "CONFIG"];
        found(&label, &target.check(&label), statuses, &names);
        if case % 8 == 0 {
            target.restore(&label);
        }
    }
    fs::write(&target.store, &before).expect("ptar");
    target.check("everything put back").status(0);

    // The parts in one another's places.
    for (one, two) in [(0, 1), (0, 2), (1, 2)] {
        let mut bytes = before.clone();
        let table = bytes.len() - 48;
        for at in 0..16 {
            bytes.swap(table + one * 16 + at, table + two * 16 + at);
        }
        fs::write(&target.store, &bytes).expect("ptar");
        let label = format!("parts {one} and {two} swapped");
        found(
            &label,
            &target.check(&label),
            &CONFIG_STATUSES,
            &["store.ptar", "state ", "packfile ", "CONFIG"],
        );
    }
    assert!(parts.iter().all(|(_, _, length)| *length > ENVELOPE_HEAD_BYTES));
}

#[test]
fn plain_ptar() {
    damaged_ptar(Variant::PTAR, 5, 120);
}

#[test]
fn encrypted_ptar() {
    damaged_ptar(Variant::PTAR_ENCRYPTED, 6, 80);
}
