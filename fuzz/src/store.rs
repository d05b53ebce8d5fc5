//! A whole store in memory: damaged file by file, or made anew from blobs of
//! which some are not what anybody wrote; then listed, walked, checked,
//! restored and added to.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use tiroir_core::codec::{
    DECODE_SCRATCH_BYTES_MIN, DecodeScratch, ENCODE_SCRATCH_BYTES_MIN, EncodeScratch,
};
use tiroir_core::compression::Compression;
use tiroir_core::crypto::kdf::Kdf;
use tiroir_core::crypto::seal::make_canary;
use tiroir_core::crypto::{StoreKey, Suite};
use tiroir_core::error::Error;
use tiroir_core::index::{Index as _, Location};
use tiroir_core::limits::{CONFIG_BYTES_MAX, PATH_BYTES_MAX};
use tiroir_core::lock::SharedLock;
use tiroir_core::mac::{HashAlgorithm, Mac, MacKey};
use tiroir_core::refresh::OnDamage;
use tiroir_core::repository::{self, IO_BYTES, Lend, Memory, OUT_BYTES, Repository};
use tiroir_core::resource::{ResourceKind, Version};
use tiroir_core::snapshot::backup::{self, backup, backup_bytes};
use tiroir_core::snapshot::check::{
    self, check_bytes, check_packfiles, check_snapshot, check_states,
};
use tiroir_core::snapshot::restore::{self, Links, restore, restore_bytes};
use tiroir_core::snapshot::sweep::Proof;
use tiroir_core::snapshot::walk::{self, Event, Walk};
use tiroir_core::snapshot::{ReadMemory, read_header};
use tiroir_core::store::{Store, StoreResource};
use tiroir_core::testing::{
    FaultStore, MemExporter, MemHost, MemImporter, MemIndex, MemSpool, MemStore, TestError,
};
use tiroir_core::time::Timestamp;
use tiroir_core::wire::config::{Chunking, Config, Encryption};
use tiroir_core::wire::dirpack::{Frame, frame_head};
use tiroir_core::wire::envelope;
use tiroir_core::wire::header::Trees;
use tiroir_core::wire::mode;
use tiroir_core::wire::msgpack::Reader;
use tiroir_core::wire::state::{ENTRY_BYTES_MAX, StateEntry, metadata};

use crate::{Input, Noise, memory, written};

/// Operations on a store after which nothing comes to an end any more: a few
/// thousand do.
const OPERATIONS_MAX: u32 = 200_000;

/// What all the work on one store may hold, in bytes. The doubles keep what
/// they are given, and the memory that is lent is a part of it.
const HELD_BYTES_MAX: usize = 64 << 20;

/// Largest chunk of the stores, in bytes; a damaged CONFIG may say another.
const CHUNK_BYTES_MAX: usize = 64 * 1024;

const ID: [u8; 16] = [7; 16];

pub struct Doubles<S>(PhantomData<S>);

impl<S: Store<Error = TestError>> Lend for Doubles<S> {
    type Error = TestError;
    type Host = MemHost;
    type Store = S;
    type Index = MemIndex;
}

/// A store and what opens it.
#[derive(Clone, Debug)]
pub struct Base {
    pub store: MemStore,
    key: Option<StoreKey>,
    mac_key: MacKey,
}

impl Base {
    /// A store of one of four kinds, with two snapshots and a lock.
    pub fn new(kind: u8) -> Self {
        let (compression, hashing) = match kind {
            0 => (Compression::None, HashAlgorithm::Blake3),
            1 => (Compression::Lz4, HashAlgorithm::Sha256),
            2 => (Compression::Gzip, HashAlgorithm::Blake3),
            _ => (Compression::Lz4, HashAlgorithm::Blake3),
        };
        let key = (kind >= 3).then(|| StoreKey::new([9; 32]));
        let mac_key = match &key {
            Some(key) => MacKey::new(hashing, *key.as_bytes()),
            None => MacKey::public(hashing, &ID),
        };
        let mut store = MemStore::default();
        store.create(&config(compression, hashing, key.as_ref())).unwrap();
        let mut base = Self { store, key, mac_key };
        let mut importer = tree();
        base.add(&mut importer, 1);
        importer.file(b"/srv/new", b"new");
        base.add(&mut importer, 2);
        let mut store = std::mem::take(&mut base.store);
        with(&mut store, base.key.clone(), MemHost::new(3), |repository, _| {
            SharedLock::acquire(repository, Mac([3; 32]), b"another").unwrap();
        })
        .unwrap();
        base.store = store;
        examine(base.store.clone(), base.key.clone()).assert_whole();
        base
    }

    fn add(&mut self, importer: &mut MemImporter, seed: u64) {
        let key = self.key.clone();
        with(&mut self.store, key, MemHost::new(seed), |repository, memory| {
            let options = backup::Options { name: b"n", hostname: b"h", ..Default::default() };
            backup(repository, importer, &options, memory, &mut |_| {}).unwrap();
        })
        .unwrap();
    }

    /// Makes the MAC of a file that of its bytes.
    fn seal(&self, bytes: &mut [u8], is_config: bool) {
        let Some((content, trailer)) = bytes.split_last_chunk_mut::<32>() else { return };
        *trailer = match is_config {
            true => repository::config_mac(content, self.key.as_ref()).0,
            false => self.mac_key.mac(content).0,
        };
    }
}

fn config(compression: Compression, hashing: HashAlgorithm, key: Option<&StoreKey>) -> Vec<u8> {
    let suite = Suite::Aes256GcmSiv;
    let canary = key.map(|key| make_canary(key, suite, &[1; 32], &[2; 12], &[3; 32]));
    let encryption = canary.as_ref().map(|canary| Encryption {
        suite,
        kdf: Kdf::default(),
        salt: &[4; 16],
        canary,
    });
    let config = Config {
        timestamp: Timestamp { secs: 1_700_000_000, nanos: 0 },
        repository_id: ID,
        packfile_bytes_max: 200_000,
        chunking: Chunking {
            algorithm: b"fastcdc-v1.0.0",
            min_bytes: 8192,
            normal_bytes: 16_384,
            max_bytes: 65_536,
        },
        hashing,
        compression,
        encryption,
    };
    let mut bytes = envelope::header(ResourceKind::CONFIG, Version::V1_0_0).to_vec();
    bytes.extend_from_slice(&written(|w| config.emit(w)));
    let mac = repository::config_mac(&bytes, key);
    bytes.extend_from_slice(&mac.0);
    bytes
}

/// A little of everything.
fn tree() -> MemImporter {
    let mut importer = MemImporter::new(b"/srv");
    importer.file(b"/srv/empty", b"");
    importer.file(b"/srv/small", b"hello world\n");
    // Of several chunks.
    let mut noise = Noise::new(1);
    let large: Vec<u8> = (0..20_000).map(|_| noise.next().to_le_bytes()[4]).collect();
    importer.file(b"/srv/large", &large);
    importer.directory(b"/srv/a");
    importer.file(b"/srv/a/x", b"x");
    importer.directory(b"/srv/a/deep/er");
    importer.symlink(b"/srv/link", b"a/../small");
    importer.symlink(b"/srv/circle", b"circle");
    importer.special(b"/srv/pipe", mode::PIPE | 0o600);
    let entry = importer.file(b"/srv/one", b"linked");
    (entry.attributes.nlink, entry.attributes.ino) = (2, 4242);
    let entry = importer.file(b"/srv/two", b"linked");
    (entry.attributes.nlink, entry.attributes.ino) = (2, 4242);
    let entry = importer.file(b"/srv/xattrs", b"with attributes");
    entry.xattrs.insert(b"user.a".to_vec(), b"1".to_vec());
    entry.xattrs.insert(b"user.b".to_vec(), b"2".to_vec());
    let entry = importer.file(b"/srv/unreadable", b"secret");
    entry.open_error = Some(TestError::PermissionDenied);
    importer
}

/// Opens a store, does some work with it, and puts it back.
fn with<S: Store<Error = TestError> + Default, T>(
    store: &mut S,
    key: Option<StoreKey>,
    host: MemHost,
    work: impl FnOnce(&mut Repository<'_, Doubles<S>>, &mut [u8]) -> T,
) -> Option<T> {
    let mut config = [0; CONFIG_BYTES_MAX];
    let len = store.read_config(&mut config).ok()?;
    let config = config.get(..len)?;
    let (mut io, mut out) = (vec![0; IO_BYTES], vec![0; OUT_BYTES]);
    let mut encode = vec![0; ENCODE_SCRATCH_BYTES_MIN];
    let mut decode = vec![0; DECODE_SCRATCH_BYTES_MIN];
    let memory = Memory {
        io: &mut io,
        out: &mut out,
        encode: EncodeScratch::new(&mut encode).unwrap(),
        decode: DecodeScratch::new(&mut decode).unwrap(),
    };
    let taken = std::mem::take(store);
    let mut repository: Repository<'_, Doubles<S>> =
        Repository::open(host, taken, MemIndex::default(), config, key, memory).ok()?;
    let chunk = repository.facts().chunking.max();
    let result = (chunk <= CHUNK_BYTES_MAX).then(|| {
        let bytes = backup_bytes(chunk).max(check_bytes(chunk)).max(restore_bytes(chunk));
        work(&mut repository, &mut vec![0; bytes])
    });
    *store = repository.store;
    result
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

/// A store that counts, and that can be taken out of its place.
#[derive(Default)]
struct Counted(Option<FaultStore<MemStore>>);

macro_rules! counted {
    ($($name:ident(&mut self $(, $arg:ident: $kind:ty)*) -> $result:ty;)*) => {
        $(fn $name(&mut self $(, $arg: $kind)*) -> $result {
            self.0.as_mut().expect("a store in its place").$name($($arg),*)
        })*
    };
}

impl Store for Counted {
    type Error = TestError;

    fn layout(&self) -> tiroir_core::store::Layout {
        tiroir_core::store::Layout::Directory
    }

    counted! {
        read_config(&mut self, into: &mut [u8]) -> Result<usize, TestError>;
        create(&mut self, bytes: &[u8]) -> Result<(), TestError>;
        begin(&mut self, resource: StoreResource) -> Result<tiroir_core::store::UploadId, TestError>;
        write(&mut self, upload: tiroir_core::store::UploadId, bytes: &[u8]) -> Result<(), TestError>;
        commit(&mut self, upload: tiroir_core::store::UploadId, name: &Mac) -> Result<(), TestError>;
        abort(&mut self, upload: tiroir_core::store::UploadId) -> ();
        size(&mut self, resource: StoreResource, name: &Mac) -> Result<Option<u64>, TestError>;
        get(
            &mut self,
            resource: StoreResource,
            name: &Mac,
            offset_bytes: u64,
            into: &mut [u8]
        ) -> Result<usize, TestError>;
        list(
            &mut self,
            resource: StoreResource,
            each: &mut dyn FnMut(Mac) -> std::ops::ControlFlow<()>
        ) -> Result<(), TestError>;
        delete(&mut self, resource: StoreResource, name: &Mac) -> Result<(), TestError>;
    }
}

/// What came of the work on a store: that of one which nobody damaged shows
/// that the work is done at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// What a check found, and what failed.
    wrong: u32,
    walked: u32,
    restored: u32,
}

impl Tally {
    /// Counts an error, and asserts that it was not the engine who broke a rule.
    fn wrong(&mut self, error: &Error<TestError>) {
        assert!(!matches!(error, Error::Host(TestError::Misuse(_))), "{error:?}");
        self.wrong += 1;
    }

    fn note<T>(&mut self, result: Result<T, Error<TestError>>) -> Option<T> {
        result.map_err(|error| self.wrong(&error)).ok()
    }

    fn found(&mut self, event: &check::Event<'_, TestError>) {
        if let check::Event::Bad { error, .. } = event {
            self.wrong(error);
        }
    }

    fn assert_whole(&self) {
        assert_eq!(self.wrong, 0, "{self:?}");
        assert!(self.walked > 30 && self.restored > 50, "{self:?}");
    }
}

/// Does everything with a store that can be done: it fails or not, but it ends,
/// and asks nobody for what is against the rules.
pub fn examine(store: MemStore, key: Option<StoreKey>) -> Tally {
    memory::within(HELD_BYTES_MAX, || {
        let mut tally = Tally::default();
        let mut store = Counted(Some(FaultStore::new(store, OPERATIONS_MAX)));
        let host = MemHost::new(5);
        with(&mut store, key, host, |repository, memory| {
            let refreshed = repository.refresh(memory, &mut |error| {
                tally.wrong(error);
                OnDamage::Skip
            });
            tally.note(refreshed);
            let result = check_states(repository, memory, &mut |event| tally.found(event));
            tally.note(result);
            let options = check::Options::default();
            let found = &mut |event: &check::Event<'_, TestError>| tally.found(event);
            let result = check_packfiles(repository, &options, memory, found);
            let proof = tally.note(result).map_or_else(Proof::default, |(_, proof)| proof);
            let mut after = None;
            while let Ok(Some(snapshot)) = repository.index.next_snapshot(after.as_ref()) {
                after = Some(snapshot);
                read(repository, &snapshot, proof, memory, &mut tally);
            }
            add(repository, memory, &mut tally);
            let left = repository.store.0.as_ref().map(FaultStore::fuel);
            assert_ne!(left, Some(0), "no end of it");
        });
        tally
    })
}

type Opened<'m> = Repository<'m, Doubles<Counted>>;

fn read(
    repository: &mut Opened<'_>,
    snapshot: &Mac,
    proof: Proof,
    memory: &mut [u8],
    tally: &mut Tally,
) {
    for (fast, proof) in [(true, Proof::default()), (false, proof), (false, Proof::default())] {
        let options = check::Options { fast, proof };
        let found = &mut |event: &check::Event<'_, TestError>| tally.found(event);
        let result = check_snapshot(repository, snapshot, None, &options, memory, found);
        tally.note(result);
    }
    let mut space = vec![0; 64 * 1024];
    let header = read_header(repository, snapshot, &mut space);
    let Some(header) = tally.note(header) else { return };
    assert_eq!(header.identifier, *snapshot);
    let (trees, directory) = (header.source.trees, header.source.directory.to_vec());
    walk_all(repository, &trees, memory, tally);
    for source in [b"/", &directory[..]] {
        let mut exporter = MemExporter::new();
        let result = restore(
            repository,
            &trees,
            source,
            &mut exporter,
            &mut MemLinks::default(),
            &restore::Options::default(),
            memory,
            &mut |event| match event {
                restore::Event::Failed { error, .. } => tally.wrong(error),
                restore::Event::Restored { .. } => tally.restored += 1,
                _ => {}
            },
        );
        tally.note(result);
    }
}

fn walk_all(repository: &mut Opened<'_>, trees: &Trees, memory: &mut [u8], tally: &mut Tally) {
    let chunk = repository.facts().chunking.max();
    let mut memory = ReadMemory::new::<TestError>(memory, chunk).unwrap();
    let mut out = [0; PATH_BYTES_MAX];
    for path in [&b"/srv/link"[..], b"/srv/./../srv/a", b"/"] {
        let result = walk::resolve(repository, trees, path, &mut memory, &mut out);
        tally.note(result);
    }
    let circle = walk::resolve(repository, trees, b"/srv/circle", &mut memory, &mut out);
    tally.note(circle.map(drop).or_else(|error| match error {
        Error::NoSuchPath => Ok(()),
        _ => Err(error),
    }));
    let mut walk = Walk::new(MemSpool::default(), MemSpool::default(), *trees);
    let entered = walk.enter(repository, b"/", &mut memory);
    if tally.note(entered).is_none() {
        return;
    }
    let mut entry = vec![0; tiroir_core::limits::ENTRY_BYTES_MAX + 64];
    while let Some(Some(step)) = tally.note(walk.next(&mut entry)) {
        tally.walked += 1;
        let Ok(len) = step.entry.path(&mut out) else { continue };
        assert!(tiroir_core::wire::path::is_clean(&out[..len]));
        if step.event == Event::Entry && step.entry.is_directory() {
            let entered = walk.enter(repository, &out[..len], &mut memory);
            tally.note(entered);
        }
    }
}

/// A backup on top, which compares with what is there.
fn add(repository: &mut Opened<'_>, memory: &mut [u8], tally: &mut Tally) {
    let options = backup::Options { name: b"n", hostname: b"h", ..Default::default() };
    let mut importer = tree();
    importer.file(b"/srv/newer", b"newer");
    let result = backup(repository, &mut importer, &options, memory, &mut |_| {});
    tally.note(result);
}

/// Damages the files of a store as the input says, then does everything with
/// it.
pub fn damaged(base: &Base, input: &mut Input<'_>) {
    let mut store = base.store.clone();
    for _ in 0..24 {
        if input.is_empty() {
            break;
        }
        damage(base, &mut store, input);
    }
    examine(store, base.key.clone());
}

const KINDS: [StoreResource; 3] =
    [StoreResource::Packfile, StoreResource::State, StoreResource::Lock];

fn damage(base: &Base, store: &mut MemStore, input: &mut Input<'_>) {
    let choice = input.byte();
    let names: Vec<_> = KINDS
        .into_iter()
        .flat_map(|kind| store.resources(kind).keys().map(move |name| (kind, *name)))
        .collect();
    let place = names.get(usize::from(choice & 0x0f)).copied();
    let mut bytes = match place {
        Some((kind, name)) => store.resources_mut(kind).remove(&name).unwrap_or_default(),
        None => store.config_mut().take().unwrap_or_default(),
    };
    let action = input.byte();
    let at = input.below(bytes.len() + 1);
    match action & 0x07 {
        0 => bytes.truncate(at),
        1 => drop(bytes.splice(at..at, input.short().iter().copied())),
        2 => drop(bytes.drain(at..bytes.len().min(at + usize::from(input.byte())))),
        3 => {
            let from = input.below(bytes.len() + 1);
            let len = usize::from(input.byte()).min(bytes.len() - at.max(from));
            bytes.copy_within(from..from + len, at);
        }
        4 if action & 0x80 != 0 => return,
        _ => {
            let new = input.short();
            let len = new.len().min(bytes.len() - at);
            bytes[at..at + len].copy_from_slice(&new[..len]);
        }
    }
    if choice & 0x80 != 0 {
        base.seal(&mut bytes, place.is_none());
    }
    match place {
        Some((kind, mut name)) => {
            if action & 0x40 != 0 {
                // Two of the same, under two names.
                store.resources_mut(kind).insert(name, bytes.clone());
                name.0[0] ^= action;
            }
            store.resources_mut(kind).insert(name, bytes);
        }
        None => *store.config_mut() = Some(bytes),
    }
}

/// A blob of the store that others are made of.
#[derive(Clone, Debug)]
struct Blob {
    kind: ResourceKind,
    mac: Mac,
    bytes: Vec<u8>,
    /// Where it names which other blobs; those come before it.
    references: Vec<(usize, usize)>,
    /// The entries that it consists of, if it is the content of a directory.
    entries: Option<Vec<usize>>,
}

/// The blobs of a store, children first, to be changed and put together again.
#[derive(Clone, Debug)]
pub struct Blobs {
    base: Base,
    blobs: Vec<Blob>,
}

impl Blobs {
    pub fn new() -> Self {
        let base = Base::new(0);
        let mut store = base.store.clone();
        let found: BTreeMap<(ResourceKind, Mac), Vec<u8>> =
            with(&mut store, None, MemHost::new(4), |repository, memory| {
                repository.refresh(memory, &mut |_| OnDamage::Fail).unwrap();
                let all: Vec<_> = repository.index.locations().collect();
                let mut space = vec![0; 256 * 1024];
                let mut read = |(kind, mac, _)| {
                    let len = repository.read_blob(kind, &mac, &mut space).ok()?;
                    Some(((kind, mac), space[..len].to_vec()))
                };
                all.into_iter().filter_map(&mut read).collect()
            })
            .unwrap();
        let mut blobs = Self { base, blobs: Vec::new() };
        for kind_and_mac in found.keys() {
            blobs.place(&found, kind_and_mac);
        }
        blobs.hostile(&mut Input(&[])).assert_whole();
        blobs
    }

    /// Puts a blob behind those that it names.
    fn place(
        &mut self,
        found: &BTreeMap<(ResourceKind, Mac), Vec<u8>>,
        (kind, mac): &(ResourceKind, Mac),
    ) -> usize {
        let known = |blob: &Blob| blob.kind == *kind && blob.mac == *mac;
        if let Some(index) = self.blobs.iter().position(known) {
            return index;
        }
        let bytes = &found[&(*kind, *mac)];
        let mut references = Vec::new();
        for key in found.keys().filter(|key| **key != (*kind, *mac)) {
            let places = bytes.windows(32).enumerate().filter(|(_, window)| **window == key.1.0);
            for (at, _) in places {
                let index = self.place(found, key);
                references.push((at, index));
            }
        }
        let entries = self.entries_in(bytes);
        let (kind, mac, bytes) = (*kind, *mac, bytes.clone());
        self.blobs.push(Blob { kind, mac, bytes, references, entries });
        self.blobs.len() - 1
    }

    fn entries_in(&self, mut bytes: &[u8]) -> Option<Vec<usize>> {
        let mut entries = Vec::new();
        while let Ok(Some(length)) = Frame::length_bytes(bytes) {
            let (frame, rest) = bytes.split_at_checked(length)?;
            let mac = Frame::parse(frame).ok()?.mac;
            let is_entry = |blob: &Blob| blob.kind == ResourceKind::VFS_ENTRY && blob.mac == mac;
            entries.push(self.blobs.iter().position(is_entry)?);
            bytes = rest;
        }
        (bytes.is_empty() && !entries.is_empty()).then_some(entries)
    }

    /// Changes blobs as the input says, names them anew, with all that names
    /// them, and does everything with the store that they make.
    pub fn hostile(&self, input: &mut Input<'_>) -> Tally {
        let mut changes: BTreeMap<usize, Vec<Change<'_>>> = BTreeMap::new();
        while !input.is_empty() && changes.len() < 12 {
            let index = input.below(self.blobs.len());
            changes.entry(index).or_default().push(Change::from(input));
        }
        let mut made: Vec<(Mac, Vec<u8>)> = Vec::with_capacity(self.blobs.len());
        for (index, blob) in self.blobs.iter().enumerate() {
            let mut bytes = rebuilt(blob, &made);
            for change in changes.get(&index).into_iter().flatten() {
                change.apply(&mut bytes, &made);
            }
            // The key of a header is what it calls itself.
            let mac = match blob.kind {
                ResourceKind::SNAPSHOT => blob.mac,
                _ => self.base.mac_key.mac(&bytes),
            };
            made.push((mac, bytes));
        }
        examine(self.packed(&made), None)
    }

    /// A store of these blobs: one packfile and one state.
    fn packed(&self, made: &[(Mac, Vec<u8>)]) -> MemStore {
        let (key, packfile) = (&self.base.mac_key, Mac([0xaa; 32]));
        let mut pack = envelope::header(ResourceKind::PACKFILE, Version::V1_0_0).to_vec();
        let mut state = envelope::header(ResourceKind::STATE, Version::V1_0_0).to_vec();
        let mut put = |entry: StateEntry| {
            state.extend_from_slice(entry.emit(&mut [0; ENTRY_BYTES_MAX]));
        };
        put(StateEntry::Packfile(packfile, Mac([1; 32]), Timestamp::default()));
        for (blob, (mac, bytes)) in self.blobs.iter().zip(made) {
            let at = Location {
                packfile,
                offset_bytes: (pack.len() - envelope::HEADER_BYTES) as u64,
                length_bytes: bytes.len().try_into().unwrap(),
            };
            put(StateEntry::Location(blob.kind, *mac, at));
            pack.extend_from_slice(bytes);
        }
        state.extend_from_slice(&metadata(Version::V1_0_0, Timestamp::default(), &ID));
        for bytes in [&mut pack, &mut state] {
            let mac = key.mac(bytes);
            bytes.extend_from_slice(&mac.0);
        }
        let mut store = MemStore::default();
        *store.config_mut() = self.base.store.config().map(<[u8]>::to_vec);
        store.resources_mut(StoreResource::Packfile).insert(packfile, pack);
        store.resources_mut(StoreResource::State).insert(Mac([1; 32]), state);
        store
    }
}

impl Default for Blobs {
    fn default() -> Self {
        Self::new()
    }
}

/// The bytes of a blob, with the new names of what it names.
fn rebuilt(blob: &Blob, made: &[(Mac, Vec<u8>)]) -> Vec<u8> {
    if let Some(entries) = &blob.entries {
        let mut bytes = Vec::new();
        for (mac, entry) in entries.iter().map(|index| &made[*index]) {
            let is_directory = tiroir_core::wire::entry::Entry::parse(entry)
                .is_ok_and(|entry| entry.is_directory());
            bytes.extend_from_slice(&frame_head(is_directory, entry.len().try_into().unwrap()));
            bytes.extend_from_slice(entry);
            bytes.extend_from_slice(&mac.0);
        }
        return bytes;
    }
    let mut bytes = blob.bytes.clone();
    for (at, index) in &blob.references {
        bytes[*at..at + 32].copy_from_slice(&made[*index].0.0);
    }
    if blob.kind == ResourceKind::OBJECT {
        // Records of chunks: MAC, then length.
        for (at, index) in &blob.references {
            let length = b"\xa6length\xce";
            let after = at + 32 + length.len();
            if bytes[at + 32..].starts_with(length) {
                let len = u32::try_from(made[*index].1.len()).unwrap();
                bytes[after..after + 4].copy_from_slice(&len.to_be_bytes());
            }
        }
    }
    bytes
}

/// One change of a blob.
#[derive(Clone, Copy, Debug)]
struct Change<'d> {
    action: u8,
    at: usize,
    number: u8,
    bytes: &'d [u8],
}

impl<'d> Change<'d> {
    fn from(input: &mut Input<'d>) -> Self {
        Self {
            action: input.byte(),
            at: input.u16().into(),
            number: input.byte(),
            bytes: input.short(),
        }
    }

    fn apply(&self, bytes: &mut Vec<u8>, made: &[(Mac, Vec<u8>)]) {
        let at = self.at % (bytes.len() + 1);
        match self.action & 0x07 {
            0 => bytes.truncate(at),
            1 => drop(bytes.splice(at..at, self.bytes.iter().copied())),
            2 => drop(bytes.drain(at..bytes.len().min(at + usize::from(self.number)))),
            3 => {
                let len = self.bytes.len().min(bytes.len() - at);
                bytes[at..at + len].copy_from_slice(&self.bytes[..len]);
            }
            4 if !made.is_empty() => {
                // A name of something else, at a place where a name may be.
                let mac = &made[usize::from(self.number) % made.len()].0;
                let places: Vec<_> = (2..bytes.len().saturating_sub(31))
                    .filter(|at| bytes[at - 2..*at] == [0xc4, 32])
                    .collect();
                if let Some(at) = places.get(self.at % places.len().max(1)) {
                    bytes[*at..at + 32].copy_from_slice(&mac.0);
                }
            }
            5 if !made.is_empty() => {
                // The same as another one: kinds do not fit then.
                *bytes = made[usize::from(self.number) % made.len()].1.clone();
            }
            _ => self.set_field(bytes),
        }
    }

    /// Replaces the value of a field.
    fn set_field(&self, bytes: &mut Vec<u8>) {
        let starts: Vec<_> = (0..bytes.len()).filter_map(|at| value_at(bytes, at)).collect();
        let Some(start) = starts.get(self.at % starts.len().max(1)) else { return };
        let mut reader = Reader::new(&bytes[*start..]);
        if reader.skip().is_err() {
            return;
        }
        let end = bytes.len() - reader.rest().len();
        let value = written(|w| match self.number % 24 {
            0 => w.nil(),
            1 => w.int(0),
            2 => w.int(-1),
            3 => w.u64(u64::MAX),
            4 => w.i64(i64::MIN),
            5 => w.i64(i64::MAX),
            6 => w.f64(f64::NAN),
            7 => w.f64(-0.0),
            8 => w.time(Timestamp { secs: i64::MIN, nanos: 0 }),
            9 => w.time(Timestamp { secs: i64::MAX, nanos: 999_999_999 }),
            10 => w.raw(&[0xdd, 0xff, 0xff, 0xff, 0xff]),
            11 => w.raw(&[0xdf, 0xff, 0xff, 0xff, 0xff]),
            12 => w.str(b""),
            13 => w.str(b"."),
            14 => w.str(b".."),
            15 => w.str(b"/"),
            16 => w.str(b"/srv"),
            17 => w.str(b"/srv/.."),
            18 => w.str(b"a/b"),
            19 => w.str(&b"/n".repeat(4096)),
            20 => w.str(&[b'n'; 4000]),
            21 => w.u32(mode::DIRECTORY | 0o755),
            22 => w.u32(mode::SYMLINK | 0o777),
            _ => w.str(self.bytes),
        });
        drop(bytes.splice(*start..end, value));
    }
}

/// Where the value begins, if a key of a map stands at `at`.
fn value_at(bytes: &[u8], at: usize) -> Option<usize> {
    let tag = *bytes.get(at)?;
    if !(0xa2..0xb8).contains(&tag) {
        return None;
    }
    let end = at + 1 + usize::from(tag & 0x1f);
    let is_name = |byte: &u8| byte.is_ascii_alphabetic() || b"_-".contains(byte);
    bytes.get(at + 1..end)?.iter().all(is_name).then_some(end)
}
