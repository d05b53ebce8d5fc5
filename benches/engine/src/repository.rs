//! A repository with a real index, real spools, and memory of 24 MiB.

use std::marker::PhantomData;
use std::path::Path;

use tiroir_core::compression::Compression;
use tiroir_core::crypto::kdf::Kdf;
use tiroir_core::crypto::seal::make_canary;
use tiroir_core::crypto::{KEY_BYTES, StoreKey, Suite};
use tiroir_core::importer::Importer;
use tiroir_core::mac::HashAlgorithm;
use tiroir_core::refresh::OnDamage;
use tiroir_core::repository::{Lend, Repository, config_mac};
use tiroir_core::resource::{ResourceKind, Version};
use tiroir_core::snapshot::backup::{Event, Options, Report, backup};
use tiroir_core::store::Store;
use tiroir_core::time::Timestamp;
use tiroir_core::wire::config::{Chunking, Config, Encryption, PACKFILE_BYTES_DEFAULT};
use tiroir_core::wire::envelope;
use tiroir_core::wire::msgpack::Writer;
use tiroir_hosts::env::SystemHost;
use tiroir_hosts::error::HostsError;
use tiroir_hosts::index::{IndexOptions, SqliteIndex};

use crate::{Result, plan};

/// Identifier of every store that is measured.
const REPOSITORY_ID: [u8; 16] = [7; 16];

/// What the program lends, with another store.
#[derive(Debug)]
pub struct Bench<S>(PhantomData<S>);

impl<S: Store<Error = HostsError>> Lend for Bench<S> {
    type Error = HostsError;
    type Host = SystemHost;
    type Store = S;
    type Index = SqliteIndex;
}

/// The key. Deriving one is not measured.
#[must_use]
pub fn key() -> StoreKey {
    StoreKey::new([9; KEY_BYTES])
}

/// CONFIG of an encrypted store with stock's sizes, and LZ4.
///
/// # Errors
///
/// None: it fits.
pub fn config() -> Result<Vec<u8>> {
    let suite = Suite::Aes256GcmSiv;
    let canary = make_canary(&key(), suite, &[1; KEY_BYTES], &[2; 12], &[3; 32]);
    let config = Config {
        timestamp: Timestamp { secs: 1_700_000_000, nanos: 0 },
        repository_id: REPOSITORY_ID,
        packfile_bytes_max: PACKFILE_BYTES_DEFAULT,
        chunking: Chunking::default(),
        hashing: HashAlgorithm::Blake3,
        compression: Compression::Lz4,
        encryption: Some(Encryption {
            suite,
            kdf: Kdf::default(),
            salt: &[4; 16],
            canary: &canary,
        }),
    };
    let mut space = [0; 2048];
    let mut writer = Writer::new(&mut space);
    config.emit(&mut writer);
    let mut bytes = envelope::header(ResourceKind::CONFIG, Version::V1_0_0).to_vec();
    bytes.extend_from_slice(writer.finish()?);
    let mac = config_mac(&bytes, Some(&key()));
    bytes.extend_from_slice(&mac.0);
    Ok(bytes)
}

/// Gives `work` a repository whose index and spools lie in `folder`, and the
/// memory for work.
///
/// # Errors
///
/// Those of opening it, and what `work` returns.
pub fn with_repository<S: Store<Error = HostsError>, R>(
    folder: &Path,
    store: S,
    work: impl FnOnce(&mut Repository<'_, Bench<S>>, &mut [u8]) -> Result<R>,
) -> Result<R> {
    let mut memory = plan::allocate();
    let (memory, rest) = plan::divide(&mut memory)?;
    let options = IndexOptions::new(folder)
        .with_page_cache(plan::INDEX_CACHE_BYTES)
        .with_filter(plan::INDEX_FILTER_BYTES);
    let index = SqliteIndex::open(&folder.join("index"), &REPOSITORY_ID, options)?;
    let host = SystemHost::new(folder);
    let mut repository = Repository::open(host, store, index, &config()?, Some(key()), memory)?;
    work(&mut repository, rest)
}

/// Backs up what `importer` reads into `store`, which exists.
///
/// # Errors
///
/// The engine's, and that something could not be read.
pub fn back_up<S: Store<Error = HostsError>, I: Importer<Error = HostsError>>(
    folder: &Path,
    store: S,
    importer: &mut I,
) -> Result<Report> {
    with_repository(folder, store, |repository, memory| {
        let mut failed = None;
        let report = backup(repository, importer, &Options::default(), memory, &mut |event| {
            if let Event::Failed { path, message } = event {
                let [path, message] = [path, message].map(|text| String::from_utf8_lossy(text));
                failed = Some(format!("{path}: {message}"));
            }
        })?;
        match failed {
            None => Ok(report),
            Some(failed) => Err(failed.into()),
        }
    })
}

/// Makes the index of `store` anew from its states.
///
/// # Errors
///
/// The engine's.
pub fn refresh<S: Store<Error = HostsError>>(folder: &Path, store: S) -> Result<()> {
    SqliteIndex::discard(&folder.join("index"), &REPOSITORY_ID)?;
    with_repository(folder, store, |repository, memory| {
        Ok(repository.refresh(memory, &mut |_| OnDamage::Fail)?)
    })
}
