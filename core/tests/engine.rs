//! The engine over doubles: a store in memory, a tree in memory.
#![cfg(feature = "_test")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use tiroir_core::chunker::Parameters;
use tiroir_core::codec::{
    Codec, DECODE_SCRATCH_BYTES_MIN, DecodeScratch, ENCODE_SCRATCH_BYTES_MIN, EncodeScratch,
    Encoder,
};
use tiroir_core::compression::Compression;
use tiroir_core::error::Error;
use tiroir_core::host::Host as _;
use tiroir_core::index::{Index, StateSink};
use tiroir_core::limits::PATH_BYTES_MAX;
use tiroir_core::mac::{HashAlgorithm, Mac, MacKey};
use tiroir_core::pipeline::Batch;
use tiroir_core::refresh::OnDamage;
use tiroir_core::repository::{self, IO_BYTES, Lend, Memory, OUT_BYTES, Repository};
use tiroir_core::resource::{ResourceKind, Version};
use tiroir_core::session::Written;
use tiroir_core::snapshot::backup::{self, backup, backup_bytes};
use tiroir_core::snapshot::check::{
    self, check_bytes, check_packfiles, check_snapshot, check_states,
};
use tiroir_core::snapshot::restore::{self, Links, restore, restore_bytes};
use tiroir_core::snapshot::{read_header, walk};
use tiroir_core::store::{Store, StoreResource};
use tiroir_core::testing::{
    FaultStore, LatePipeline, MemEntry, MemExporter, MemHost, MemImporter, MemIndex, MemStore,
    RestoredKind, TestError,
};
use tiroir_core::time::Timestamp;
use tiroir_core::wire::config::{Chunking, Config};
use tiroir_core::wire::envelope;
use tiroir_core::wire::header::Trees;
use tiroir_core::wire::lock::Lock;
use tiroir_core::wire::mode;
use tiroir_core::wire::msgpack::Writer;

struct Doubles<S>(std::marker::PhantomData<S>);

impl<S: Store<Error = TestError>> Lend for Doubles<S> {
    type Error = TestError;
    type Host = MemHost;
    type Store = S;
    type Index = MemIndex;
}

const CHUNK: usize = 65_536;

fn config() -> Vec<u8> {
    let config = Config {
        timestamp: Timestamp { secs: 1_700_000_000, nanos: 0 },
        repository_id: [7; 16],
        packfile_bytes_max: 200_000,
        chunking: Chunking {
            algorithm: b"fastcdc-v1.0.0",
            min_bytes: 4096,
            normal_bytes: 16_384,
            max_bytes: 65_536,
        },
        hashing: HashAlgorithm::Blake3,
        compression: Compression::Lz4,
        encryption: None,
    };
    let mut bytes = envelope::header(ResourceKind::CONFIG, Version::V1_0_0).to_vec();
    let mut space = [0; 1024];
    let mut writer = Writer::new(&mut space);
    config.emit(&mut writer);
    bytes.extend_from_slice(writer.finish().unwrap());
    let mac = repository::config_mac(&bytes, None);
    bytes.extend_from_slice(&mac.0);
    bytes
}

fn new_store() -> MemStore {
    let mut store = MemStore::default();
    store.create(&config()).unwrap();
    store
}

/// Opens the store, calls `work`, and gives the store back. With an odd seed,
/// what is written goes through a pipeline.
fn with<S: Store<Error = TestError>, T>(
    store: S,
    seed: u64,
    work: impl FnOnce(&mut Repository<'_, Doubles<S>>, &mut [u8]) -> T,
) -> (T, S) {
    let (mut io, mut out) = (vec![0; IO_BYTES], vec![0; OUT_BYTES]);
    let mut encode = vec![0; ENCODE_SCRATCH_BYTES_MIN];
    let mut decode = vec![0; DECODE_SCRATCH_BYTES_MIN];
    let memory = Memory {
        io: &mut io,
        out: &mut out,
        encode: EncodeScratch::new(&mut encode).unwrap(),
        decode: DecodeScratch::new(&mut decode).unwrap(),
    };
    let host = MemHost::new(seed);
    let mut beside = vec![0; ENCODE_SCRATCH_BYTES_MIN];
    let mut batches = vec![vec![0; Batch::bytes(CHUNK)]; 4];
    let mut pipeline = LatePipeline::new(
        EncodeScratch::new(&mut beside).unwrap(),
        batches.iter_mut().map(|memory| Batch::new(memory, CHUNK).unwrap()).collect(),
    );
    let mut repository: Repository<'_, Doubles<S>> =
        Repository::open(host, store, MemIndex::default(), &config(), None, memory).unwrap();
    if !seed.is_multiple_of(2) {
        repository.lend_pipeline(&mut pipeline);
    }
    let bytes = backup_bytes(CHUNK).max(check_bytes(CHUNK)).max(restore_bytes(CHUNK));
    let mut work_memory = vec![0; bytes];
    let result = work(&mut repository, &mut work_memory);
    (result, repository.store)
}

fn options() -> backup::Options<'static> {
    backup::Options { name: b"default", hostname: b"test", ..Default::default() }
}

fn back_up<S: Store<Error = TestError>>(
    store: S,
    seed: u64,
    importer: &mut MemImporter,
) -> (Result<backup::Report, Error<TestError>>, S) {
    with(store, seed, |repository, memory| {
        backup(repository, importer, &options(), memory, &mut |_| {})
    })
}

/// Checks everything, and returns the number of snapshots and what is wrong.
fn check_all<S: Store<Error = TestError>>(store: S) -> ((usize, Vec<String>), S) {
    with(store, 99, |repository, memory| {
        let mut bad = Vec::new();
        let mut found = |event: &check::Event<'_, TestError>| {
            if let check::Event::Bad { path, error } = event {
                let path = path.map(String::from_utf8_lossy);
                bad.push(format!("{error} {path:?}"));
            }
        };
        check_states(repository, memory, &mut found).unwrap();
        let options = check::Options::default();
        let (_, proof) = check_packfiles(repository, &options, memory, &mut found).unwrap();
        let (mut after, mut snapshots) = (None, 0);
        while let Some(snapshot) = repository.index.next_snapshot(after.as_ref()).unwrap() {
            let options = check::Options { proof, ..options };
            check_snapshot(repository, &snapshot, None, &options, memory, &mut found).unwrap();
            (after, snapshots) = (Some(snapshot), snapshots + 1);
        }
        (snapshots, bad)
    })
}

#[derive(Default)]
struct MemLinks(BTreeMap<(u64, u64, Mac), Vec<u8>>);

impl Links for MemLinks {
    type Error = TestError;

    fn first_name(
        &mut self,
        (dev, ino, object): (u64, u64, &Mac),
        path: &[u8],
        out: &mut [u8; PATH_BYTES_MAX],
    ) -> Result<Option<usize>, TestError> {
        if let Some(first) = self.0.get(&(dev, ino, *object)) {
            out[..first.len()].copy_from_slice(first);
            return Ok(Some(first.len()));
        }
        self.0.insert((dev, ino, *object), path.to_vec());
        Ok(None)
    }
}

fn restore_newest(store: MemStore, source: &[u8]) -> (MemExporter, restore::Report) {
    let mut exporter = MemExporter::new();
    let (report, _) = with(store, 5, |repository, memory| {
        repository.refresh(memory, &mut |_| OnDamage::Fail).unwrap();
        let mut header_memory = vec![0; 65_536];
        let (mut after, mut newest) = (None, None);
        while let Some(snapshot) = repository.index.next_snapshot(after.as_ref()).unwrap() {
            let header = read_header(repository, &snapshot, &mut header_memory).unwrap();
            newest = newest.max(Some((header.timestamp, snapshot)));
            after = Some(snapshot);
        }
        let snapshot = newest.unwrap().1;
        let trees = read_header(repository, &snapshot, &mut header_memory).unwrap().source.trees;
        restore(
            repository,
            &trees,
            source,
            &mut exporter,
            &mut MemLinks::default(),
            &restore::Options::default(),
            memory,
            &mut |event| {
                if let restore::Event::Failed { path, error } = event {
                    panic!("{} {error}", String::from_utf8_lossy(path));
                }
            },
        )
        .unwrap()
    });
    (exporter, report)
}

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    (0..len)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

fn tree() -> MemImporter {
    let mut importer = MemImporter::new(b"/srv/data");
    importer.file(b"/srv/data/empty", b"");
    importer.file(b"/srv/data/small", b"hello world\n");
    importer.file(b"/srv/data/large", &bytes(3, 700_000));
    importer.directory(b"/srv/data/a");
    importer.directory(b"/srv/data/a.b");
    importer.file(b"/srv/data/a/x", b"x");
    importer.file(b"/srv/data/a.b/y", b"y");
    importer.symlink(b"/srv/data/link", b"small");
    let mut deep = b"/srv/data/deep".to_vec();
    for _ in 0..40 {
        importer.directory(&deep);
        deep.extend_from_slice(b"/d");
    }
    importer.directory(b"/srv/data/many");
    for n in 0..700_u16 {
        let content = bytes(n.into(), 10 + usize::from(n));
        importer.file(format!("/srv/data/many/{n:05}").as_bytes(), &content);
    }
    let entry = importer.file(b"/srv/data/one", b"linked");
    (entry.attributes.nlink, entry.attributes.ino) = (2, 4242);
    let entry = importer.file(b"/srv/data/two", b"linked");
    (entry.attributes.nlink, entry.attributes.ino) = (2, 4242);
    let entry = importer.file(b"/srv/data/xattrs", b"with attributes");
    entry.xattrs.insert(b"user.b".to_vec(), b"2".to_vec());
    entry.xattrs.insert(b"user.a".to_vec(), bytes(9, 3000));
    importer
}

#[test]
fn restored_is_what_was_backed_up() {
    let mut importer = tree();
    let (report, store) = back_up(new_store(), 1, &mut importer);
    let report = report.unwrap();
    assert_eq!(report.summary.total_errors(), 0);
    assert_eq!(check_all(store.clone()).0, (1, vec![]));
    assert_eq!(store.resources(StoreResource::Lock).len(), 0);
    assert!(store.resources(StoreResource::Packfile).len() > 2);

    let (exporter, restored) = restore_newest(store, b"/srv/data");
    assert_eq!(restored.failed, 0);
    let mut files = 0;
    for (path, entry) in importer.entries() {
        let Some(relative) = path.strip_prefix(b"/srv/data/") else { continue };
        let found = &exporter.entries()[relative];
        match &found.kind {
            RestoredKind::File(content) => assert_eq!(content, &entry.content),
            RestoredKind::HardLink(first) => assert_eq!(first, b"one"),
            _ => continue,
        }
        files += 1;
    }
    assert!(files > 700);
    assert_eq!(exporter.entries()[&b"xattrs"[..]].xattrs.len(), 2);
    assert!(
        matches!(&exporter.entries()[&b"link"[..]].kind, RestoredKind::Symlink(t) if t == b"small")
    );
}

#[test]
fn unchanged_costs_next_to_nothing() {
    let mut importer = tree();
    let (first, store) = back_up(new_store(), 1, &mut importer);
    let (second, store) = back_up(store, 2, &mut importer);
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(second.new_bytes, 0);
    assert!(second.unchanged > 700);
    assert_eq!(second.summary, first.summary);
    assert!(first.previous_at.is_none() && second.previous_at.is_some());
    // A header, and one index blob or two: the trees are the same.
    assert!(second.written.blobs < 4, "{:?}", second.written);
    assert_eq!(check_all(store).0, (2, vec![]));
}

#[test]
fn change_is_found() {
    let mut importer = tree();
    let (_, store) = back_up(new_store(), 1, &mut importer);
    importer.file(b"/srv/data/many/00100", b"changed");
    importer.entry_mut(b"/srv/data/many/00100").unwrap().attributes.mod_time.secs += 1;
    importer.remove(b"/srv/data/many/00200");
    importer.file(b"/srv/data/many/99999", b"new");
    let (report, store) = back_up(store, 2, &mut importer);
    assert_eq!(report.unwrap().new_bytes, 10);
    let (exporter, _) = restore_newest(store.clone(), b"/srv/data/many");
    assert_eq!(exporter.content(b"00100"), Some(&b"changed"[..]));
    assert_eq!(exporter.content(b"00200"), None);
    assert_eq!(check_all(store).0, (2, vec![]));
}

/// A time that is known to the minute may hide a change that came after the file was
/// read: it is read again, until its minute is over.
#[test]
fn a_change_that_the_time_does_not_show_is_found() {
    const PATH: &[u8] = b"/srv/data/many/00100";
    let started = MemHost::new(0).now().secs;
    for (age_secs, blind_secs, is_found) in
        [(30, 0, false), (30, 60, true), (60, 60, true), (61, 60, false), (1 << 30, 60, false)]
    {
        let mut importer = tree();
        let mut put = |content: &[u8]| {
            let entry = importer.file(PATH, content);
            entry.attributes.ino = 1000;
            entry.attributes.mod_time =
                Timestamp { secs: started.saturating_sub(age_secs), nanos: 0 };
            entry.attributes.mod_time_blind_secs = blind_secs;
            importer.clone()
        };
        let (first, store) = back_up(new_store(), 1, &mut put(b"before"));
        first.unwrap();
        let (report, store) = back_up(store, 2, &mut put(b"behind"));
        assert_eq!(report.unwrap().new_bytes > 0, is_found, "{age_secs} {blind_secs}");
        let (exporter, _) = restore_newest(store.clone(), b"/srv/data/many");
        let wanted = if is_found { b"behind" } else { b"before" };
        assert_eq!(exporter.content(b"00100"), Some(&wanted[..]));
        // One that is read again, and is the same, stores nothing.
        let (report, store) = back_up(store, 3, &mut put(wanted));
        assert_eq!(report.unwrap().new_bytes, 0);
        assert_eq!(check_all(store).0, (3, vec![]));
    }
}

/// The trees of the snapshot that a backup makes now.
fn trees_of(
    store: MemStore,
    seed: u64,
    read_all: bool,
    tree: &mut MemImporter,
) -> (Trees, MemStore) {
    with(store, seed, |repository, memory| {
        let options = backup::Options { read_all, ..options() };
        let report = backup(repository, tree, &options, memory, &mut |_| {}).unwrap();
        repository.refresh(memory, &mut |_| OnDamage::Fail).unwrap();
        let mut header_memory = vec![0; 65_536];
        let header = read_header(repository, &report.snapshot, &mut header_memory).unwrap();
        assert_eq!(header.source.summary, report.summary);
        header.source.trees
    })
}

/// A small tree with something of every kind, in directories of several sizes.
fn mixed_tree() -> MemImporter {
    let mut importer = MemImporter::new(b"/srv");
    for directory in ["/srv/a", "/srv/b", "/srv/b/c", "/srv/empty"] {
        importer.directory(directory.as_bytes());
    }
    for n in 0..60_u8 {
        let directory = ["/srv/a", "/srv/b", "/srv/b/c", "/srv"][usize::from(n % 4)];
        let content = bytes(n.into(), 20 + usize::from(n));
        importer.file(format!("{directory}/{n:02}").as_bytes(), &content);
    }
    importer.symlink(b"/srv/a/link", b"01");
    importer.special(b"/srv/b/pipe", mode::PIPE | 0o600);
    let entry = importer.file(b"/srv/b/c/attributes", b"has some");
    entry.xattrs.insert(b"user.a".to_vec(), b"1".to_vec());
    importer
}

/// Changes something that a backup must notice, and can.
fn change(importer: &mut MemImporter, dice: &[u8]) {
    let pick = |paths: Vec<Vec<u8>>| paths[usize::from(dice[1]) % paths.len()].clone();
    let paths = |files: bool, importer: &MemImporter| -> Vec<Vec<u8>> {
        let below = |path: &[u8]| path.starts_with(b"/srv/");
        let kind = |entry: &MemEntry| mode::is_regular(entry.attributes.mode) == files;
        let entries = importer.entries().filter(|(path, entry)| below(path) && kind(entry));
        entries.map(|(path, _)| path.to_vec()).collect()
    };
    let file = pick(paths(true, importer));
    let entry = importer.entry_mut(&file).unwrap();
    match dice[0] % 15 {
        0 => importer.remove(&file),
        1 => drop(importer.file(&[&file[..], b".new"].concat(), b"new")),
        2 => drop(importer.file(b"/srv/b/ first", b"first of its directory")),
        3 => drop(importer.file(b"/srv/b/~last", b"last of its directory")),
        4 => {
            entry.content = bytes(dice[2].into(), 50);
            entry.attributes.mod_time.secs += 1 + i64::from(dice[2]);
        }
        5 => entry.attributes.mode ^= 0o100,
        6 => entry.attributes.uid += 1,
        7 => drop(entry.xattrs.insert(b"user.b".to_vec(), vec![dice[2]; 9])),
        8 => entry.xattrs.clear(),
        9 => drop(importer.symlink(&file, b"elsewhere")),
        10 => entry.stat_error = if dice[2] < 128 { Some(TestError::Fault) } else { None },
        11 => {
            importer.directory(b"/srv/b/new");
            importer.file(b"/srv/b/new/file", b"in a new directory");
        }
        12 => importer.remove(b"/srv/b/new"),
        13 => importer.directory(b"/srv/empty").attributes.mod_time.secs += 1,
        _ => importer.entry_mut(b"/srv/b/c").unwrap().attributes.mode ^= 0o010,
    }
}

#[test]
fn a_snapshot_does_not_depend_on_the_one_before() {
    let mut importer = mixed_tree();
    let (_, mut store) = trees_of(new_store(), 1, false, &mut importer);
    let mut kept = 0;
    for round in 0..120_u64 {
        // Nothing, something, or several things at once.
        let dice = bytes(round, 16);
        for roll in dice[1..].chunks(3).take(usize::from(dice[0] % 4)) {
            change(&mut importer, roll);
        }
        let (upon, after) = trees_of(store, 2 * round + 2, false, &mut importer);
        let (alone, after) = trees_of(after, 2 * round + 3, true, &mut importer);
        assert_eq!(upon, alone, "round {round}");
        kept += u64::from(dice[0].is_multiple_of(4));
        store = after;
    }
    assert!(kept > 20);
    assert_eq!(check_all(store).0.1, Vec::<String>::new());
}

#[test]
fn what_the_store_lost_is_stored_again() {
    let mut importer = mixed_tree();
    let (_, store) = trees_of(new_store(), 1, false, &mut importer);
    let lost = |kind| {
        let (unchanged, _) = with(store.clone(), 2, |repository, memory| {
            repository.refresh(memory, &mut |_| OnDamage::Fail).unwrap();
            let locations: Vec<_> = repository.index.locations().collect();
            for (found, mac, at) in locations {
                if found == kind {
                    repository.index.delete_location(kind, &mac, &at.packfile).unwrap();
                }
            }
            let mut importer = mixed_tree();
            let report = backup(repository, &mut importer, &options(), memory, &mut |_| {});
            report.unwrap().unchanged
        });
        unchanged
    };
    assert_eq!(lost(ResourceKind::SIGNATURE), 61);
    // Objects are those of directories too.
    for kind in [ResourceKind::OBJECT, ResourceKind::CHUNK, ResourceKind::SNAPSHOT] {
        assert_eq!(lost(kind), 0, "{kind}");
    }
}

#[test]
fn what_cannot_be_read_is_recorded() {
    let mut importer = tree();
    importer.entry_mut(b"/srv/data/small").unwrap().open_error = Some(TestError::PermissionDenied);
    importer.entry_mut(b"/srv/data/many/00005").unwrap().read_error = Some((5, TestError::Fault));
    importer.entry_mut(b"/srv/data/many/00006").unwrap().stat_error = Some(TestError::Fault);
    let mut failed = Vec::new();
    let (report, store) = with(new_store(), 1, |repository, memory| {
        backup(repository, &mut importer, &options(), memory, &mut |event| {
            if let backup::Event::Failed { path, .. } = event {
                failed.push(path.to_vec());
            }
        })
    });
    assert_eq!(report.unwrap().summary.total_errors(), 3);
    assert_eq!(failed.len(), 3);
    assert_eq!(check_all(store.clone()).0, (1, vec![]));
    let (exporter, _) = restore_newest(store, b"/srv/data");
    assert_eq!(exporter.content(b"small"), None);
    assert_eq!(exporter.content(b"many/00004").map(<[u8]>::len), Some(14));
}

#[test]
fn paths_are_found_through_links() {
    let (_, store) = back_up(new_store(), 1, &mut tree());
    with(store, 3, |repository, memory| {
        repository.refresh(memory, &mut |_| OnDamage::Fail).unwrap();
        let snapshot = repository.index.next_snapshot(None).unwrap().unwrap();
        let mut header_memory = vec![0; 65_536];
        let trees = read_header(repository, &snapshot, &mut header_memory).unwrap().source.trees;
        let mut memory =
            tiroir_core::snapshot::ReadMemory::new::<TestError>(memory, CHUNK).unwrap();
        let mut out = [0; PATH_BYTES_MAX];
        let mut find = |path: &[u8]| {
            walk::resolve(repository, &trees, path, &mut memory, &mut out)
                .map(|len| out[..len].to_vec())
        };
        assert_eq!(find(b"/srv/data/link"), Ok(b"/srv/data/small".to_vec()));
        assert_eq!(find(b"/srv/./data/../data/a/x"), Ok(b"/srv/data/a/x".to_vec()));
        assert_eq!(find(b"/"), Ok(b"/".to_vec()));
        assert_eq!(find(b"/srv/none"), Err(Error::NoSuchPath));
    });
}

/// A backup cut short at any operation loses nothing that was there before,
/// and goes through when it is tried again.
#[test]
fn cut_at_every_operation() {
    // Without and with a pipeline.
    for seed in [2, 5] {
        cut_everywhere(seed);
    }
}

fn cut_everywhere(seed: u64) {
    let mut importer = MemImporter::new(b"/d");
    for n in 0..30u64 {
        importer.file(format!("/d/{n}").as_bytes(), &bytes(n, 30_000));
    }
    let (_, before) = back_up(new_store(), 1, &mut importer);
    importer.file(b"/d/new", &bytes(77, 300_000));
    let (_, whole) = back_up(FaultStore::new(before.clone(), u32::MAX), seed, &mut importer);
    let operations = whole.operations();
    assert!(operations > 20, "the sweep would be empty");
    for lost_answer in [false, true] {
        for fuel in 0..operations {
            let mut cut = FaultStore::new(before.clone(), fuel);
            if lost_answer {
                cut = cut.with_lost_answer();
            }
            let (result, cut) = back_up(cut, seed, &mut importer);
            let mut after = cut.into_inner();
            after.restart();
            let ((snapshots, bad), after) = check_all(after);
            assert!(bad.is_empty(), "cut after {fuel} operations: {bad:?}");
            assert!(snapshots == 1 || lost_answer || result.is_ok(), "cut after {fuel}");
            let (again, after) = back_up(after, seed + 1, &mut importer);
            again.unwrap_or_else(|error| panic!("retried after {fuel} operations: {error}"));
            let ((more, bad), _) = check_all(after);
            assert!(bad.is_empty() && more == snapshots + 1, "retried after {fuel}: {bad:?}");
        }
    }
}

/// Where every blob lies, but for the names of packfiles and what is random.
fn layout(store: MemStore) -> BTreeSet<(ResourceKind, Mac, u64, u32)> {
    let (found, _) = with(store, 98, |repository, memory| {
        repository.refresh(memory, &mut |_| OnDamage::Fail).unwrap();
        let locations = repository.index.locations();
        let located =
            locations.map(|(kind, mac, at)| (kind, mac, at.offset_bytes, at.length_bytes));
        located.filter(|(kind, ..)| *kind != ResourceKind::SNAPSHOT).collect()
    });
    found
}

#[test]
fn a_pipeline_changes_nothing() {
    let (alone, inline) = back_up(new_store(), 2, &mut tree());
    let (beside, queued) = back_up(new_store(), 3, &mut tree());
    let (alone, beside) = (alone.unwrap(), beside.unwrap());
    // Names at random compress one way or another.
    let counts = |written: Written| (written.blobs, written.packfiles, written.states);
    assert_eq!(counts(alone.written), counts(beside.written));
    let (inline, queued) = (layout(inline), layout(queued));
    assert!(inline.len() > 2000);
    assert_eq!(inline, queued);
}

/// Whoever reads ahead is told exactly what is read then, in that order.
#[test]
fn what_will_be_read_is_told() {
    for ahead in [1, 5, 64] {
        let mut importer = tree();
        importer.ahead = ahead;
        let (_, store) = back_up(new_store(), 2, &mut importer);
        let (_, alone) = back_up(new_store(), 2, &mut tree());
        assert_eq!(layout(store.clone()), layout(alone));
        let opened = core::mem::take(&mut importer.opened);
        assert!(opened.len() > 700);
        assert!(opened.iter().all(|(_, told)| *told));
        // One that is alone in its directory, or the first one, is entered at once.
        for (path, is_told) in [("a.b", false), ("a", true), ("deep", true), ("many", true)] {
            let listed = (format!("/srv/data/{path}").into_bytes(), is_told);
            assert!(importer.listed.contains(&listed), "{path} is told: {is_told}");
        }
        let names = ["00100", "00101", "00650"].map(|n| format!("/srv/data/many/{n}").into_bytes());
        for name in &names {
            importer.entry_mut(name).unwrap().attributes.mod_time.secs += 1;
        }
        let (report, _) = back_up(store, 4, &mut importer);
        assert!(report.unwrap().unchanged > 700);
        assert!(importer.opened.into_iter().eq(names.map(|name| (name, true))), "{ahead}");
    }
}

/// Every byte of every file of the store matters to the check.
#[test]
fn every_flipped_byte_is_found() {
    let mut importer = MemImporter::new(b"/d");
    importer.file(b"/d/file", b"some content");
    importer.file(b"/d/dir/other", &bytes(1, 3000));
    let (_, store) = back_up(new_store(), 1, &mut importer);
    for resource in [StoreResource::Packfile, StoreResource::State] {
        let files = store.resources(resource).clone();
        for (name, content) in files {
            for at in (0..content.len()).step_by(if content.len() > 2000 { 97 } else { 7 }) {
                let mut damaged = store.clone();
                damaged.resources_mut(resource).get_mut(&name).unwrap()[at] ^= 0x40;
                let ((_, bad), _) = check_all(damaged);
                assert!(!bad.is_empty(), "{resource:?} byte {at}");
            }
            for len in [0, 1, 47, 48, content.len() / 2, content.len() - 1] {
                let mut damaged = store.clone();
                damaged.resources_mut(resource).get_mut(&name).unwrap().truncate(len);
                let ((_, bad), _) = check_all(damaged);
                assert!(!bad.is_empty(), "{resource:?} cut to {len}");
            }
            let mut damaged = store.clone();
            damaged.resources_mut(resource).remove(&name);
            let ((snapshots, bad), _) = check_all(damaged);
            assert!(snapshots == 0 || !bad.is_empty(), "{resource:?} missing");
        }
    }
}

/// A blob that is not what its name says, in a packfile whose MAC is right.
#[test]
fn what_was_stored_damaged_is_found() {
    let mut importer = MemImporter::new(b"/d");
    importer.file(b"/d/file", b"some content");
    importer.file(b"/d/dir/other", &bytes(1, 300_000));
    importer.file(b"/d/dir/copy", &bytes(1, 300_000));
    let (_, store) = back_up(new_store(), 1, &mut importer);
    let (locations, store) = with(store, 2, |repository, memory| {
        repository.refresh(memory, &mut |_| OnDamage::Fail).unwrap();
        repository.index.locations().collect::<Vec<_>>()
    });
    let key = MacKey::public(HashAlgorithm::Blake3, &[7; 16]);
    for (kind, mac, at) in locations {
        for part in [0, 1, 2] {
            let mut damaged = store.clone();
            let packfiles = damaged.resources_mut(StoreResource::Packfile);
            let packfile = packfiles.get_mut(&at.packfile).unwrap();
            let start = envelope::HEADER_BYTES + usize::try_from(at.offset_bytes).unwrap();
            let length = usize::try_from(at.length_bytes).unwrap();
            packfile[start + (length - 1) * part / 2] ^= 0x40;
            let end = packfile.len() - envelope::TRAILER_BYTES;
            let right = key.mac(&packfile[..end]);
            packfile[end..].copy_from_slice(&right.0);
            let ((_, bad), _) = check_all(damaged);
            assert!(!bad.is_empty(), "{kind} {mac}");
        }
    }
}

/// What is not there when all that is there is good.
#[test]
fn what_no_state_tells_of_is_found() {
    let mut importer = MemImporter::new(b"/d");
    importer.file(b"/d/file", b"some content");
    importer.file(b"/d/dir/other", &bytes(1, 300_000));
    let (_, store) = back_up(new_store(), 1, &mut importer);
    let (locations, store) = with(store, 2, |repository, memory| {
        repository.refresh(memory, &mut |_| OnDamage::Fail).unwrap();
        repository.index.locations().collect::<Vec<_>>()
    });
    for (kind, mac, at) in locations {
        if kind == ResourceKind::SNAPSHOT {
            continue;
        }
        let (report, _) = with(store.clone(), 3, |repository, memory| {
            repository.refresh(memory, &mut |_| OnDamage::Fail).unwrap();
            repository.index.delete_location(kind, &mac, &at.packfile).unwrap();
            let mut found = |_: &check::Event<'_, TestError>| {};
            let options = check::Options::default();
            let (packfiles, proof) =
                check_packfiles(repository, &options, memory, &mut found).unwrap();
            assert_eq!(packfiles.bad, 0);
            let options = check::Options { proof, ..options };
            let snapshot = repository.index.next_snapshot(None).unwrap().unwrap();
            check_snapshot(repository, &snapshot, None, &options, memory, &mut found).unwrap()
        });
        assert!(report.bad > 0, "{kind} {mac}");
    }
}

/// Whoever writes a lock says what time it is: also one that is not to be
/// subtracted from ours.
#[test]
fn locks_of_any_age() {
    for (secs, is_stale) in [(i64::MIN, true), (0, true), (i64::MAX, false)] {
        let mut bytes = envelope::header(ResourceKind::LOCK, Version::V1_0_0).to_vec();
        let mut space = [0; 256];
        let mut writer = Writer::new(&mut space);
        let timestamp = Timestamp { secs, nanos: 0 };
        Lock { timestamp, hostname: b"other", exclusive: true }.emit(&mut writer);
        let codec = Codec { compression: Compression::Lz4, cipher: None };
        let mut memory = vec![0; ENCODE_SCRATCH_BYTES_MIN];
        let mut scratch = EncodeScratch::new(&mut memory).unwrap();
        let out = |part: &[u8]| {
            bytes.extend_from_slice(part);
            Ok::<(), TestError>(())
        };
        let encoder = Encoder::new(&codec, &mut scratch, |_| Ok(()), out).unwrap();
        encoder.finish_with(writer.finish().unwrap()).unwrap();
        let mac = MacKey::public(HashAlgorithm::Blake3, &[7; 16]).mac(&bytes);
        bytes.extend_from_slice(&mac.0);
        let mut store = new_store();
        store.resources_mut(StoreResource::Lock).insert(Mac([1; 32]), bytes);
        let (report, store) = back_up(store, 1, &mut tree());
        assert_eq!(report.is_ok(), is_stale, "{secs}: {report:?}");
        assert_eq!(store.resources(StoreResource::Lock).is_empty(), is_stale);
    }
}

/// What is restored has a name; a root that is a file would have none.
#[test]
fn a_root_that_is_a_file_is_damage() {
    let mut importer = MemImporter::new(b"/srv");
    importer.file(b"/srv/file", b"content");
    importer.entry_mut(b"/").unwrap().attributes.mode = 0o644;
    let (report, store) = back_up(new_store(), 1, &mut importer);
    report.unwrap();
    with(store, 5, |repository, memory| {
        repository.refresh(memory, &mut |_| OnDamage::Fail).unwrap();
        let snapshot = repository.index.next_snapshot(None).unwrap().unwrap();
        let mut header_memory = vec![0; 65_536];
        let trees = read_header(repository, &snapshot, &mut header_memory).unwrap().source.trees;
        let (mut exporter, mut links) = (MemExporter::new(), MemLinks::default());
        let options = restore::Options::default();
        let restored = restore(
            repository,
            &trees,
            b"/",
            &mut exporter,
            &mut links,
            &options,
            memory,
            &mut |_| {},
        );
        assert!(matches!(restored, Err(Error::Damaged { .. })), "{restored:?}");
        assert_eq!(exporter.entries().len(), 1);
    });
}

#[test]
fn chunking_parameters_are_checked_at_open() {
    assert!(Parameters::new(b"rabin", 1, 2, 3).is_err());
}
