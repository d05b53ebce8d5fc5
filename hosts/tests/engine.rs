//! The engine over what this crate lends it, on a real disk.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::marker::PhantomData;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use tiroir_core::codec::{
    DECODE_SCRATCH_BYTES_MIN, DecodeScratch, ENCODE_SCRATCH_BYTES_MIN, EncodeScratch,
};
use tiroir_core::compression::Compression;
use tiroir_core::importer::Importer;
use tiroir_core::index::Index as _;
use tiroir_core::limits::CONFIG_BYTES_MAX;
use tiroir_core::mac::HashAlgorithm;
use tiroir_core::refresh::OnDamage;
use tiroir_core::repository::{self, IO_BYTES, Lend, Memory, OUT_BYTES, Repository};
use tiroir_core::resource::{ResourceKind, Version};
use tiroir_core::snapshot::backup::{self, backup, backup_bytes};
use tiroir_core::snapshot::check::{
    self, check_bytes, check_packfiles, check_snapshot, check_states,
};
use tiroir_core::snapshot::read_header;
use tiroir_core::snapshot::restore::{self, restore, restore_bytes};
use tiroir_core::store::Store;
use tiroir_core::time::Timestamp;
use tiroir_core::wire::config::{Chunking, Config};
use tiroir_core::wire::envelope;
use tiroir_core::wire::msgpack::Writer;
use tiroir_hosts::env::SystemHost;
use tiroir_hosts::error::HostsError;
use tiroir_hosts::fs::exporter::FsExporter;
use tiroir_hosts::fs::importer::FsImporter;
use tiroir_hosts::fs::store::FsStore;
use tiroir_hosts::index::{IndexOptions, SqliteIndex};
use tiroir_hosts::link_table::LinkTable;
use tiroir_hosts::ptar::{PtarReader, PtarWriter};
use tiroir_hosts::stdio::StdinImporter;

const CHUNK: usize = 65_536;

struct Hosts<S>(PhantomData<S>);

impl<S: Store<Error = HostsError>> Lend for Hosts<S> {
    type Error = HostsError;
    type Host = SystemHost;
    type Store = S;
    type Index = SqliteIndex;
}

fn config(repository_id: [u8; 16], packfile_bytes_max: u64) -> Vec<u8> {
    let config = Config {
        timestamp: Timestamp { secs: 1_700_000_000, nanos: 0 },
        repository_id,
        packfile_bytes_max,
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

/// Opens a store with its index in `directory`, and calls `work`.
fn with<S: Store<Error = HostsError>, T>(
    directory: &Path,
    mut store: S,
    work: impl FnOnce(&mut Repository<'_, Hosts<S>>, &mut [u8]) -> T,
) -> T {
    let mut config = vec![0; CONFIG_BYTES_MAX];
    let length = store.read_config(&mut config).unwrap();
    let id = repository::parse_config(&config[..length]).unwrap().repository_id;
    let options = IndexOptions::new(directory).with_page_cache(256 * 1024).with_filter(16 * 1024);
    let index = SqliteIndex::open(&directory.join("cache"), &id, options).unwrap();
    let (mut io, mut out) = (vec![0; IO_BYTES], vec![0; OUT_BYTES]);
    let mut encode = vec![0; ENCODE_SCRATCH_BYTES_MIN];
    let mut decode = vec![0; DECODE_SCRATCH_BYTES_MIN];
    let memory = Memory {
        io: &mut io,
        out: &mut out,
        encode: EncodeScratch::new(&mut encode).unwrap(),
        decode: DecodeScratch::new(&mut decode).unwrap(),
    };
    let host = SystemHost::new(directory);
    let mut repository: Repository<'_, Hosts<S>> =
        Repository::open(host, store, index, &config[..length], None, memory).unwrap();
    let bytes = backup_bytes(CHUNK).max(check_bytes(CHUNK)).max(restore_bytes(CHUNK));
    work(&mut repository, &mut vec![0; bytes])
}

fn back_up<S: Store<Error = HostsError>>(
    directory: &Path,
    store: S,
    importer: &mut impl Importer<Error = HostsError>,
) -> backup::Report {
    let options = backup::Options { name: b"default", hostname: b"test", ..Default::default() };
    with(directory, store, |repository, memory| {
        backup(repository, importer, &options, memory, &mut |event| {
            if let backup::Event::Failed { path, message } = event {
                panic!("{} {}", path.escape_ascii(), message.escape_ascii());
            }
        })
        .unwrap()
    })
}

/// Checks everything, and returns the number of snapshots.
fn check_all<S: Store<Error = HostsError>>(directory: &Path, store: S) -> u32 {
    with(directory, store, |repository, memory| {
        let mut found = |event: &check::Event<'_, HostsError>| {
            if let check::Event::Bad { path, error } = event {
                panic!("{error} {:?}", path.map(String::from_utf8_lossy));
            }
        };
        check_states(repository, memory, &mut found).unwrap();
        let options = check::Options::default();
        let (_, proof) = check_packfiles(repository, &options, memory, &mut found).unwrap();
        let options = check::Options { proof, ..options };
        let (mut after, mut count) = (None, 0);
        while let Some(snapshot) = repository.index.next_snapshot(after.as_ref()).unwrap() {
            check_snapshot(repository, &snapshot, None, &options, memory, &mut found).unwrap();
            (after, count) = (Some(snapshot), count + 1);
        }
        count
    })
}

fn restore_any<S: Store<Error = HostsError>>(
    directory: &Path,
    store: S,
    source: &[u8],
    target: &Path,
) {
    let mut exporter = FsExporter::open(target).unwrap();
    let mut links = LinkTable::new(directory, 65_536).unwrap();
    with(directory, store, |repository, memory| {
        repository.refresh(memory, &mut |_| OnDamage::Fail).unwrap();
        let snapshot = repository.index.next_snapshot(None).unwrap().unwrap();
        let mut header = vec![0; 65_536];
        let trees = read_header(repository, &snapshot, &mut header).unwrap().source.trees;
        let options = restore::Options::default();
        let mut progress = |event: &restore::Event<'_, HostsError>| {
            if let restore::Event::Failed { path, error } = event {
                panic!("{} {error}", path.escape_ascii());
            }
        };
        restore(
            repository,
            &trees,
            source,
            &mut exporter,
            &mut links,
            &options,
            memory,
            &mut progress,
        )
        .unwrap();
    });
    exporter.finish().unwrap();
}

/// Paths, types, sizes, times and contents of a tree.
fn describe(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut waiting = vec![root.to_path_buf()];
    while let Some(path) = waiting.pop() {
        let data = fs::symlink_metadata(&path).unwrap();
        let content = if data.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            0
        } else if data.is_file() {
            fs::read(&path)
                .unwrap()
                .iter()
                .fold(1, |sum: u64, byte| sum.wrapping_mul(0x100_0000_01b3) ^ u64::from(*byte))
        } else {
            fs::read_link(&path).unwrap().as_os_str().len() as u64
        };
        let links = if data.is_file() { data.nlink() } else { 0 };
        lines.push(format!(
            "{} {:o} {}.{} {links} {content:x}",
            path.strip_prefix(root).unwrap().display(),
            data.mode(),
            data.mtime(),
            data.mtime_nsec(),
        ));
    }
    lines.sort();
    lines
}

fn make_tree(root: &Path) {
    fs::create_dir_all(root.join("a/b/c")).unwrap();
    fs::create_dir(root.join("many")).unwrap();
    for number in 0..300u32 {
        let content = number.to_string().repeat(number as usize);
        fs::write(root.join(format!("many/{number:04}")), content).unwrap();
    }
    let large: Vec<u8> =
        (0..600_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    fs::write(root.join("large"), large).unwrap();
    fs::write(root.join("a/zeros"), vec![0; 500_000]).unwrap();
    fs::write(root.join("empty"), b"").unwrap();
    symlink("a/b", root.join("link")).unwrap();
    fs::write(root.join("one"), b"linked").unwrap();
    fs::hard_link(root.join("one"), root.join("two")).unwrap();
}

#[test]
fn a_directory_goes_into_a_store_and_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let directory = fs::canonicalize(directory.path()).unwrap();
    let (source, target) = (directory.join("source"), directory.join("target"));
    fs::create_dir(&source).unwrap();
    make_tree(&source);
    let store = || FsStore::new(directory.join("store"));
    store().create(&config([1; 16], 200_000)).unwrap();
    let first = back_up(&directory, store(), &mut FsImporter::open(&source).unwrap());
    assert_eq!(first.summary.total_errors(), 0);
    let second = back_up(&directory, store(), &mut FsImporter::open(&source).unwrap());
    assert_eq!(second.new_bytes, 0);
    assert_eq!(check_all(&directory, store()), 2);
    let root = std::os::unix::ffi::OsStrExt::as_bytes(source.as_os_str());
    restore_any(&directory, store(), root, &target);
    assert_eq!(describe(&target), describe(&source));
    // The index may go at any time.
    fs::remove_dir_all(directory.join("cache")).unwrap();
    let third = back_up(&directory, store(), &mut FsImporter::open(&source).unwrap());
    assert_eq!(third.new_bytes, 0);
    assert_eq!(check_all(&directory, store()), 3);
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_directory_goes_into_an_archive_and_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let directory = fs::canonicalize(directory.path()).unwrap();
    let (source, target) = (directory.join("source"), directory.join("target"));
    let archive = directory.join("archive.ptar");
    fs::create_dir(&source).unwrap();
    make_tree(&source);
    let mut writer = PtarWriter::new(&archive);
    writer.create(&config([2; 16], u64::MAX)).unwrap();
    back_up(&directory, writer, &mut FsImporter::open(&source).unwrap());
    let reader = || PtarReader::open(&archive).unwrap();
    assert_eq!(check_all(&directory, reader()), 1);
    let root = std::os::unix::ffi::OsStrExt::as_bytes(source.as_os_str());
    restore_any(&directory, reader(), root, &target);
    assert_eq!(describe(&target), describe(&source));
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_stream_becomes_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let store = || FsStore::new(directory.path().join("store"));
    store().create(&config([3; 16], 200_000)).unwrap();
    let content = b"a line of a dump\n".repeat(20_000);
    let mut importer = StdinImporter::over(&content[..], b"dumps/db.sql");
    let report = back_up(directory.path(), store(), &mut importer);
    assert_eq!(report.summary.total_errors(), 0);
    assert_eq!(check_all(directory.path(), store()), 1);
    let target = directory.path().join("target");
    restore_any(directory.path(), store(), b"/", &target);
    assert!(fs::read(target.join("dumps/db.sql")).unwrap() == content);
}
