//! The files of a store and of a ptar, as far as a test needs to know them:
//! to count, to copy, to damage, and to leave a lock in.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes of an envelope before its payload.
pub const ENVELOPE_HEAD_BYTES: usize = 16;

/// Bytes of the MAC that ends an envelope.
pub const ENVELOPE_MAC_BYTES: usize = 32;

/// What a file of a store, or a part of a ptar, holds.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// The configuration.
    Config,
    /// Where the blobs lie.
    State,
    /// The blobs.
    Packfile,
}

/// One resource of a store in a directory.
#[derive(Clone, Debug)]
pub struct Resource {
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub path: PathBuf,
}

impl Resource {
    /// Its name, which the program must give when it is damaged.
    ///
    /// # Panics
    ///
    /// Never: paths of resources end with a name.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.file_name().expect("a file").to_string_lossy().into_owned()
    }
}

/// The resources of a store in a directory, in a fixed order.
///
/// # Panics
///
/// When it cannot be read, or has no CONFIG.
#[must_use]
pub fn resources(store: &Path) -> Vec<Resource> {
    let config = store.join("CONFIG");
    assert!(config.is_file(), "{} is no store", store.display());
    let mut found = vec![Resource { kind: Kind::Config, path: config }];
    for (folder, kind) in [("states", Kind::State), ("packfiles", Kind::Packfile)] {
        let mut paths = files_below(&store.join(folder));
        paths.sort();
        found.extend(paths.into_iter().map(|path| Resource { kind, path }));
    }
    found
}

/// The resources of one kind.
///
/// # Panics
///
/// As [`resources`].
#[must_use]
pub fn of_kind(store: &Path, kind: Kind) -> Vec<Resource> {
    let mut found = resources(store);
    found.retain(|resource| resource.kind == kind);
    found
}

/// How many bytes the resources of a store take.
///
/// # Panics
///
/// As [`resources`].
#[must_use]
pub fn size_bytes(store: &Path) -> u64 {
    resources(store)
        .iter()
        .map(|resource| fs::metadata(&resource.path).expect("resource of a store").len())
        .sum()
}

/// The version in the envelope of each state, smallest first.
///
/// # Panics
///
/// When one is shorter than its envelope.
#[must_use]
pub fn state_versions(store: &Path) -> Vec<u32> {
    let mut versions: Vec<u32> = of_kind(store, Kind::State)
        .iter()
        .map(|state| {
            let bytes = fs::read(&state.path).expect("state");
            u32::from_le_bytes(bytes[12..16].try_into().expect("four bytes"))
        })
        .collect();
    versions.sort_unstable();
    versions
}

/// Copies a store, or a ptar.
///
/// # Panics
///
/// When it cannot.
pub fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir(to).expect("copy of a directory");
        for entry in fs::read_dir(from).expect("directory to copy") {
            let entry = entry.expect("directory to copy");
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::copy(from, to).expect("copy of a file");
    }
}

/// The three parts of a ptar: kind, offset and length, as its table says.
///
/// # Panics
///
/// When it is too short for a table.
#[must_use]
pub fn ptar_parts(bytes: &[u8]) -> [(Kind, usize, usize); 3] {
    let table = &bytes[bytes.len() - 48..];
    let field = |at: usize| {
        let bytes = table[at * 8..][..8].try_into().expect("eight bytes");
        usize::try_from(u64::from_le_bytes(bytes)).expect("a small ptar")
    };
    [Kind::Config, Kind::Packfile, Kind::State]
        .map(|kind| (kind, kind_slot(kind)))
        .map(|(kind, slot)| (kind, field(2 * slot), field(2 * slot + 1)))
}

/// The place of a part in the table of a ptar.
fn kind_slot(kind: Kind) -> usize {
    match kind {
        Kind::Config => 0,
        Kind::Packfile => 1,
        Kind::State => 2,
    }
}

/// The locks in a store.
///
/// # Panics
///
/// When they cannot be listed.
#[must_use]
pub fn locks(store: &Path) -> Vec<PathBuf> {
    files_below(&store.join("locks"))
}

/// Removes the locks of a store that no one uses.
///
/// Stock releases its lock while it exits, and most runs end before they come
/// to it: the next maintenance then finds a lock that looks alive.
///
/// # Panics
///
/// When one cannot be removed.
pub fn remove_locks(store: &Path) {
    for lock in locks(store) {
        match fs::remove_file(&lock) {
            Ok(()) => {}
            // Stock came to it after all.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => panic!("{}: {error}", lock.display()),
        }
    }
}

/// Leaves a lock in a store, as someone would who took it `age` ago. Returns
/// its path.
///
/// # Panics
///
/// When the store is encrypted or compressed: then a lock takes more than this
/// knows.
pub fn put_lock(store: &Path, name: [u8; 32], age: Duration, exclusive: bool) -> PathBuf {
    let config = fs::read(store.join("CONFIG")).expect("CONFIG");
    let id = repository_id(&config);
    assert!(
        !contains(&config, b"Algorithm\xa3LZ4") && !contains(&config, b"Canary"),
        "locks are only made for stores that are neither compressed nor encrypted"
    );

    let mut bytes = b"_KLOSET_".to_vec();
    bytes.extend_from_slice(&2u32.to_le_bytes());
    bytes.extend_from_slice(&0x0001_0000u32.to_le_bytes());
    bytes.extend_from_slice(&lock_record(SystemTime::now() - age, exclusive));
    let secret = *blake3::hash(&id).as_bytes();
    let mac = blake3::keyed_hash(&secret, &bytes);
    bytes.extend_from_slice(mac.as_bytes());

    let path = store.join("locks").join(name.map(|byte| format!("{byte:02x}")).concat());
    fs::write(&path, bytes).expect("lock");
    path
}

/// The msgpack map of a lock, as the format has it in its section 12.
fn lock_record(taken: SystemTime, exclusive: bool) -> Vec<u8> {
    let taken = taken.duration_since(UNIX_EPOCH).expect("a time after 1970");
    let time = u64::from(taken.subsec_nanos()) << 34 | taken.as_secs();
    let mut record = vec![0x84];
    let key = |record: &mut Vec<u8>, name: &str| {
        record.push(0xa0 | u8::try_from(name.len()).expect("a short name"));
        record.extend_from_slice(name.as_bytes());
    };
    key(&mut record, "version");
    record.push(0xce);
    record.extend_from_slice(&0x0001_0000u32.to_be_bytes());
    key(&mut record, "timestamp");
    record.extend_from_slice(&[0xd7, 0xff]);
    record.extend_from_slice(&time.to_be_bytes());
    key(&mut record, "hostname");
    key(&mut record, "elsewhere");
    key(&mut record, "exclusive");
    record.push(if exclusive { 0xc3 } else { 0xc2 });
    record
}

fn repository_id(config: &[u8]) -> [u8; 16] {
    const KEY: &[u8] = b"RepositoryID\xc4\x10";
    let at = config.windows(KEY.len()).position(|window| window == KEY).expect("an identifier");
    config[at + KEY.len()..][..16].try_into().expect("sixteen bytes")
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("folder of a store") {
        let path = entry.expect("folder of a store").path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}
