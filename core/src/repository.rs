//! [`Repository`]: a store opened with its key. Blobs are read from it by kind
//! and MAC; [`Session`](crate::session::Session) writes them.

use crate::btree::NodeSource;
use crate::chunker::Parameters;
use crate::codec::{Codec, CollectDecoder, DecodeScratch, EncodeScratch};
use crate::crypto::{StoreKey, Suite};
use crate::error::{Error, FormatError, Subject};
use crate::held::Held;
use crate::host::{Host, HostError, HostErrorKind};
use crate::index::{Index, Location};
use crate::limits::CONFIG_BYTES_MAX;
use crate::mac::{HashAlgorithm, MAC_BYTES, Mac, MacHasher, MacKey};
use crate::pipeline::Pipeline;
use crate::resource::{ResourceKind, Version};
use crate::store::Store;
use crate::wire::config::Config;
use crate::wire::envelope::{self, HEADER_BYTES, TRAILER_BYTES};

/// The types of what one repository is lent. They share one error.
pub trait Lend {
    /// The error of all of them.
    type Error: HostError;
    /// Clock, entropy, spools.
    type Host: Host<Error = Self::Error>;
    /// The store connector.
    type Store: Store<Error = Self::Error>;
    /// The index.
    type Index: Index<Error = Self::Error>;
}

/// Bytes of a store that are in memory at once: one half is what is read on and on, the
/// other are four small parts.
pub const IO_BYTES: usize = 128 * 1024;

/// Bytes of a packfile that are hashed and written at once.
pub const OUT_BYTES: usize = 32 * 1024;

/// Memory of a repository: lent once, when it is opened.
#[derive(Debug)]
pub struct Memory<'m> {
    /// What is read from the store; [`IO_BYTES`] are enough.
    pub io: &'m mut [u8],
    /// What waits to be hashed and written, [`OUT_BYTES`] or less: with none at
    /// all small blobs take longer.
    pub out: &'m mut [u8],
    /// To write blobs.
    pub encode: EncodeScratch<'m>,
    /// To read them.
    pub decode: DecodeScratch<'m>,
}

/// What of CONFIG is needed once the store is open.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Identifier of the store.
    pub repository_id: [u8; 16],
    /// Length at which packfiles are closed, in bytes.
    pub packfile_bytes_max: u64,
    /// How files are cut.
    pub chunking: Parameters,
    /// How MACs are made.
    pub hashing: HashAlgorithm,
}

/// A store opened with its key.
pub struct Repository<'m, L: Lend> {
    /// Clock, entropy, spools.
    pub host: L::Host,
    /// The store connector.
    pub store: L::Store,
    /// Which blob lies where.
    pub index: L::Index,
    pub(crate) facts: Facts,
    pub(crate) mac_key: MacKey,
    pub(crate) codec: Codec,
    pub(crate) memory: Memory<'m>,
    /// What encodes blobs beside the work.
    pub(crate) pipeline: Option<LentPipeline<'m, L::Error>>,
    pub(crate) held: Held,
}

/// A pipeline that a repository is lent.
pub(crate) type LentPipeline<'m, E> = &'m mut (dyn Pipeline<Error = E> + 'm);

/// Reads the CONFIG of a store into `into`, and checks its frame, but not its
/// MAC, for which the key is needed.
///
/// # Errors
///
/// [`Error::Damaged`] for what is no CONFIG, and the connector's.
pub fn read_config<'b, S: Store>(
    store: &mut S,
    into: &'b mut [u8; CONFIG_BYTES_MAX],
) -> Result<Config<'b>, Error<S::Error>> {
    let len = store.read_config(into)?;
    let damaged = Error::damaged(Subject::Config);
    let bytes = into.get(..len).ok_or(FormatError::Bound("length")).map_err(&damaged)?;
    parse_config(bytes).map_err(damaged)
}

/// Reads a CONFIG, envelope included, without checking its MAC.
///
/// # Errors
///
/// [`FormatError`] for what is no CONFIG.
pub fn parse_config(bytes: &[u8]) -> Result<Config<'_>, FormatError> {
    let header = bytes.first_chunk::<HEADER_BYTES>().ok_or(FormatError::Truncated)?;
    let version = envelope::parse_header(header, ResourceKind::CONFIG, Version::V1_0_0)?;
    if version != Version::V1_0_0 {
        return Err(FormatError::Version(version));
    }
    let end = bytes.len().checked_sub(TRAILER_BYTES).filter(|end| *end >= HEADER_BYTES);
    Config::parse(&bytes[HEADER_BYTES..end.ok_or(FormatError::Truncated)?])
}

/// The MAC of a CONFIG: BLAKE3 whatever the store hashes with, and keyed only
/// if it is encrypted. Section 2.1 of the format.
#[must_use]
pub fn config_mac(bytes: &[u8], key: Option<&StoreKey>) -> Mac {
    match key {
        Some(key) => MacKey::new(HashAlgorithm::Blake3, *key.as_bytes()).mac(bytes),
        None => {
            let mut hasher = MacHasher::Blake3(blake3::Hasher::new());
            hasher.update(bytes);
            hasher.finish()
        }
    }
}

/// Whether `key` opens the store of that CONFIG.
#[must_use]
pub fn key_opens(config: &Config<'_>, key: &StoreKey) -> bool {
    config.encryption.is_some_and(|encryption| {
        crate::crypto::seal::canary_opens(key, encryption.suite, encryption.canary)
    })
}

impl<L: Lend> core::fmt::Debug for Repository<'_, L> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Repository").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl<'m, L: Lend> Repository<'m, L> {
    /// Opens a store with its key. `config` is the whole CONFIG, envelope
    /// included. The index is not brought up to date:
    /// [`refresh`](Self::refresh) does.
    ///
    /// # Errors
    ///
    /// [`Error::WrongKey`]; [`Error::Damaged`] when CONFIG does not match its
    /// MAC, or asks for what is not known here.
    pub fn open(
        host: L::Host,
        store: L::Store,
        index: L::Index,
        config: &[u8],
        key: Option<StoreKey>,
        memory: Memory<'m>,
    ) -> Result<Self, Error<L::Error>> {
        let damaged = Error::damaged(Subject::Config);
        let parsed = parse_config(config).map_err(&damaged)?;
        let cipher: Option<(StoreKey, Suite)> = match (parsed.encryption, key) {
            (Some(encryption), Some(key)) if key_opens(&parsed, &key) => {
                Some((key, encryption.suite))
            }
            (Some(_), _) => return Err(Error::WrongKey),
            (None, _) => None,
        };
        let key = cipher.as_ref().map(|(key, _)| key);
        let (bytes, trailer) = config.split_at(config.len() - TRAILER_BYTES);
        if config_mac(bytes, key).0 != trailer {
            return Err(damaged(FormatError::Mac));
        }
        let chunking = &parsed.chunking;
        let facts = Facts {
            repository_id: parsed.repository_id,
            packfile_bytes_max: parsed.packfile_bytes_max,
            chunking: Parameters::new(
                chunking.algorithm,
                chunking.min_bytes,
                chunking.normal_bytes,
                chunking.max_bytes,
            )
            .map_err(damaged)?,
            hashing: parsed.hashing,
        };
        let mac_key = match key {
            Some(key) => MacKey::new(parsed.hashing, *key.as_bytes()),
            None => MacKey::public(parsed.hashing, &parsed.repository_id),
        };
        let codec = Codec { compression: parsed.compression, cipher };
        let held = Held::default();
        Ok(Self { host, store, index, facts, mac_key, codec, memory, pipeline: None, held })
    }

    /// Lends it what encodes blobs while others are made.
    pub fn lend_pipeline(&mut self, pipeline: &'m mut (dyn Pipeline<Error = L::Error> + 'm)) {
        self.pipeline = Some(pipeline);
    }

    /// What CONFIG says.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The MAC of bytes, in this store.
    #[must_use]
    pub fn mac(&self, bytes: &[u8]) -> Mac {
        self.mac_key.mac(bytes)
    }

    /// Whether the store has that blob, or will once what is being written is
    /// part of it.
    ///
    /// # Errors
    ///
    /// The index's.
    pub fn has(&mut self, kind: ResourceKind, mac: &Mac) -> Result<bool, Error<L::Error>> {
        Ok(self.index.contains(kind, mac)?)
    }

    /// Reads a blob into the start of `into` and returns its length. What was
    /// read is what its MAC says, except for the headers of snapshots, whose
    /// key is random.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] when no state says where it is, or its packfile is
    /// not there; [`Error::Damaged`] when it is not what it should be, or does
    /// not fit.
    pub fn read_blob(
        &mut self,
        kind: ResourceKind,
        mac: &Mac,
        into: &mut [u8],
    ) -> Result<usize, Error<L::Error>> {
        let subject = Subject::Blob(kind, *mac);
        let at = self.index.find(kind, mac)?.ok_or(Error::Missing(subject))?;
        let len = self.read_located(subject, &at, into)?;
        if kind != ResourceKind::SNAPSHOT && self.mac_key.mac(&into[..len]) != *mac {
            return Err(Error::damaged(subject)(FormatError::Mac));
        }
        Ok(len)
    }

    /// Reads the blob that lies at `at`, without comparing its MAC.
    ///
    /// # Errors
    ///
    /// As [`read_blob`](Self::read_blob).
    pub fn read_located(
        &mut self,
        subject: Subject,
        at: &Location,
        into: &mut [u8],
    ) -> Result<usize, Error<L::Error>> {
        let Memory { io, decode, .. } = &mut self.memory;
        let mut decoder = CollectDecoder::new(&self.codec, decode, into)
            .map_err(Error::damaged(Subject::Config))?;
        let mut done = 0;
        while done < u64::from(at.length_bytes) {
            let part = self.held.part(&mut self.store, io, at, done)?;
            decoder.push(part).map_err(Error::damaged(subject))?;
            done += part.len() as u64;
        }
        decoder.finish().map_err(Error::damaged(subject))
    }
}

/// An error of the connector, or what is missing if it says *not found*.
pub(crate) fn absent<E: HostError>(error: E, subject: Subject) -> Error<E> {
    match error.kind() {
        HostErrorKind::NotFound => Error::Missing(subject),
        _ => Error::Host(error),
    }
}

impl<L: Lend> NodeSource for Repository<'_, L> {
    type Error = L::Error;

    fn read(
        &mut self,
        kind: ResourceKind,
        mac: &Mac,
        into: &mut [u8],
    ) -> Result<usize, Error<L::Error>> {
        self.read_blob(kind, mac, into)
    }
}

/// Length of the MAC that ends every file of a store, in bytes.
const _: () = assert!(TRAILER_BYTES == MAC_BYTES);
