//! CONFIG of a new store: what may be chosen, and what the machine can afford.

use clap::Args;
use tiroir_core::compression::Compression;
use tiroir_core::crypto::kdf::Kdf;
use tiroir_core::crypto::seal::make_canary;
use tiroir_core::crypto::{KEY_BYTES, StoreKey, Suite};
use tiroir_core::host::Host;
use tiroir_core::mac::HashAlgorithm;
use tiroir_core::repository::config_mac;
use tiroir_core::resource::{ResourceKind, Version};
use tiroir_core::wire::config::{Chunking, Config, Encryption};
use tiroir_core::wire::envelope;
use tiroir_core::wire::msgpack::Writer;
use tiroir_hosts::env::SystemHost;
use zeroize::Zeroizing;

use crate::error::{EngineError, Failure, Result};
use crate::machine;
use crate::open::Context;
use crate::passphrase::{self, Passphrase};
use crate::report;
use crate::text::size::{self, Size};

/// Bytes in a mebibyte.
const MIB: u64 = 1024 * 1024;

/// Memory of a key derivation that is chosen without being told: what leaves
/// room on a machine of 256 MiB, and is not far above what a backup takes.
const KDF_BYTES_DEFAULT: u64 = 48 * MIB;

/// Least of it: what is called sound for Argon2id.
const KDF_BYTES_MIN: u64 = 19 * MIB;

/// Least work, in bytes times passes: that of the second recommended option of
/// RFC 9106, 64 MiB and 3 passes. What less memory costs an attacker less is
/// made up for by passes.
const KDF_WORK_BYTES: u64 = 192 * MIB;

/// Passes over [`KDF_BYTES_DEFAULT`] and more. Those of stock, over 256 MiB.
const KDF_TIME_MIN: u32 = 4;

/// Length of a salt, in bytes, as stock's.
const SALT_BYTES: usize = 16;

/// Least usual length of a chunk that may be chosen, in bytes. With less, what
/// is kept of each chunk costs more than is saved, and the largest chunk would
/// not take what else is read into its memory: a header of a snapshot.
const CHUNK_BYTES_NORMAL_MIN: u32 = 32 * 1024;

/// Most of it: stock's own. With more, a backup would need more than the least
/// memory.
const CHUNK_BYTES_NORMAL_MAX: u32 = 1024 * 1024;

/// Bytes that a chunk takes in the index of the store, on the machine.
const INDEX_BYTES_PER_CHUNK: u64 = 57;

/// Bytes that a chunk takes in the store beside its content, encrypted: around
/// itself, in the index of its packfile, and in the state. Measured.
const STORE_BYTES_PER_CHUNK: u64 = 170;

/// Bytes that a chunk takes in the object of each version of a file. Measured.
const OBJECT_BYTES_PER_CHUNK: u64 = 50;

/// Longest CONFIG that is made, in bytes.
const NEW_CONFIG_BYTES_MAX: usize = 2048;

/// What may be chosen for a new store.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Choices {
    /// Do not encrypt
    #[arg(long)]
    plaintext: bool,

    /// Do not compress
    #[arg(long)]
    no_compression: bool,

    /// Compress with NAME: LZ4 (the default) or GZIP
    #[arg(long, value_name = "NAME", value_parser = parse_compression, conflicts_with = "no_compression")]
    compression: Option<Compression>,

    /// Make MACs with NAME: BLAKE3 (the default) or SHA256
    #[arg(long, value_name = "NAME", value_parser = parse_hashing)]
    hashing: Option<HashAlgorithm>,

    /// Encrypt with NAME: aes256-gcm-siv (the default), or chacha20-poly1305,
    /// which is faster without AES instructions, and which stock cannot read
    #[arg(long, value_name = "NAME", value_parser = parse_cipher, conflicts_with = "plaintext")]
    cipher: Option<Suite>,

    /// Derive the key in so much memory, each time the store is opened: by
    /// default 48M, or a quarter of the machine's if that is less, but 19M at
    /// least. 256M is what stock takes; more makes guessing dearer
    #[arg(long, value_name = "BYTES", value_parser = size::parse, conflicts_with = "plaintext")]
    kdf_memory: Option<u64>,

    /// Derive the key in N passes: by default 4 over 48M and more, and over
    /// less as many as make up for it
    #[arg(long, value_name = "N", conflicts_with = "plaintext")]
    kdf_time: Option<u32>,

    /// Cut files into chunks of SIZE each, more or less: a power of two from 32K
    /// to 1M (the default, and stock's). Where a few bytes have changed, a chunk
    /// is stored again: 64K suits images of disks and databases. But each chunk
    /// has its price, in the store, in the cache and in time
    #[arg(long, value_name = "SIZE", value_parser = parse_chunk_size)]
    chunk_size: Option<u32>,

    /// Take a weak passphrase without asking again
    #[arg(long)]
    weak_passphrase: bool,
}

fn parse_compression(text: &str) -> Result<Compression, String> {
    match Compression::from_name(text.to_ascii_uppercase().as_bytes()) {
        Some(found @ (Compression::Lz4 | Compression::Gzip)) => Ok(found),
        _ => Err(String::from("neither LZ4 nor GZIP")),
    }
}

fn parse_hashing(text: &str) -> Result<HashAlgorithm, String> {
    HashAlgorithm::from_name(text.to_ascii_uppercase().as_bytes())
        .ok_or_else(|| String::from("neither BLAKE3 nor SHA256"))
}

fn parse_cipher(text: &str) -> Result<Suite, String> {
    Suite::from_name(text.to_ascii_uppercase().as_bytes())
        .ok_or_else(|| String::from("neither aes256-gcm-siv nor chacha20-poly1305"))
}

fn parse_chunk_size(text: &str) -> Result<u32, String> {
    let allowed = CHUNK_BYTES_NORMAL_MIN..=CHUNK_BYTES_NORMAL_MAX;
    match u32::try_from(size::parse(text)?) {
        Ok(bytes) if bytes.is_power_of_two() && allowed.contains(&bytes) => Ok(bytes),
        _ => Err(String::from("not 32K, 64K, 128K, 256K, 512K or 1M")),
    }
}

/// How files are cut into chunks of that usual length: in stock's proportions,
/// and so by rules that its chunker would have for itself.
fn chunking<'c>(normal_bytes: u32) -> Chunking<'c> {
    let usual = Chunking::default();
    let in_proportion = |bytes: u32| bytes / (usual.normal_bytes / normal_bytes);
    Chunking {
        min_bytes: in_proportion(usual.min_bytes),
        normal_bytes,
        max_bytes: in_proportion(usual.max_bytes),
        ..usual
    }
}

/// What chunks of that length cost, in words.
fn explain_chunking(chunking: &Chunking<'_>) -> String {
    let chunks = (1 << 40) / u64::from(chunking.normal_bytes);
    let part = |bytes: u64| Size(bytes * chunks);
    format!(
        "files are cut into chunks of {}, from {} to {}. For each TiB of data that is up to {} in \
         the cache directory and {} more in the store, and {} with each backup in which a file of \
         that size has changed",
        Size(chunking.normal_bytes.into()),
        Size(chunking.min_bytes.into()),
        Size(chunking.max_bytes.into()),
        part(INDEX_BYTES_PER_CHUNK),
        part(STORE_BYTES_PER_CHUNK),
        part(OBJECT_BYTES_PER_CHUNK),
    )
}

/// Memory of a key derivation that a machine with that much can afford.
fn affordable_bytes(total_bytes: u64) -> u64 {
    // Whole mebibytes: easier to say.
    let quarter = total_bytes / 4 / MIB * MIB;
    quarter.clamp(KDF_BYTES_MIN, KDF_BYTES_DEFAULT)
}

/// Parameters of Argon2id with that much memory, in as many passes as were
/// chosen, or as make up for it.
fn argon2id(memory_bytes: u64, time: Option<u32>) -> Kdf {
    let passes = KDF_WORK_BYTES.div_ceil(memory_bytes.max(1));
    let passes = u32::try_from(passes).unwrap_or(u32::MAX).max(KDF_TIME_MIN);
    let memory_kib = u32::try_from(memory_bytes / 1024).unwrap_or(u32::MAX);
    Kdf::Argon2id { time: time.unwrap_or(passes), memory_kib, threads: 1 }
}

/// The key derivation of a new store for which nothing is chosen, on a machine with
/// that much memory.
pub(crate) fn usual_kdf(total_bytes: u64) -> Kdf {
    argon2id(affordable_bytes(total_bytes), None)
}

/// CONFIG of a new store, and its key if it has one.
#[derive(Debug)]
pub(crate) struct NewStore {
    /// CONFIG, envelope included.
    pub(crate) config: Vec<u8>,
    /// The key.
    pub(crate) key: Option<StoreKey>,
}

impl NewStore {
    /// Makes CONFIG as was chosen; asks for a passphrase if one is needed and
    /// none was given. Packfiles are closed at `packfile_bytes_max`; `known` is the
    /// passphrase of the entry that names the store, if it has one.
    ///
    /// # Errors
    ///
    /// For parameters that are out of bounds, and those of asking and deriving.
    pub(crate) fn make(
        context: &Context<'_>,
        choices: &Choices,
        packfile_bytes_max: u64,
        known: Option<Passphrase>,
    ) -> Result<Self> {
        let mut host = SystemHost::new(context.spool_directory());
        let mut repository_id = [0; 16];
        host.fill_random(&mut repository_id)?;
        // Stock's are UUIDs of version 4.
        repository_id[6] = repository_id[6] & 0x0f | 0x40;
        repository_id[8] = repository_id[8] & 0x3f | 0x80;
        let compression = match choices.compression {
            _ if choices.no_compression => Compression::None,
            chosen => chosen.unwrap_or(Compression::Lz4),
        };
        let mut config = Config {
            timestamp: host.now(),
            repository_id,
            packfile_bytes_max,
            chunking: choices.chunk_size.map_or_else(Chunking::default, chunking),
            hashing: choices.hashing.unwrap_or_default(),
            compression,
            encryption: None,
        };
        let is_quiet = context.globals.quiet || context.globals.silent;
        if choices.chunk_size.is_some() && !is_quiet {
            report::say(&format!("tiroir: {}", explain_chunking(&config.chunking)));
        }
        if choices.plaintext {
            return Ok(Self { config: emit(&config, None)?, key: None });
        }
        let total_bytes = machine::Memory::read().map_or(0, |memory| memory.total_bytes);
        let kdf = choices.kdf(total_bytes)?;
        let passphrase = passphrase::choose(context.globals, known, choices.weak_passphrase)?;
        let mut salt = [0; SALT_BYTES];
        host.fill_random(&mut salt)?;
        let suite = choices.suite(context);
        if !is_quiet {
            report::say(&format!("tiroir: {}", choices.explain(&kdf, total_bytes)));
        }
        let key = context.derive(&kdf, &passphrase, &salt).map_err(|failure| {
            if choices.kdf_memory.is_none() {
                return failure;
            }
            failure.with_advice(
                "Choose less with -kdf-memory, which this machine needs each time; or derive the \
                 key on a disk, slowly, with --kdf-arena FILE.",
            )
        })?;
        let canary = canary(&mut host, &key, suite)?;
        config.encryption = Some(Encryption { suite, kdf, salt: &salt, canary: &canary });
        Ok(Self { config: emit(&config, Some(&key))?, key: Some(key) })
    }
}

impl Choices {
    /// The key derivation that was chosen, on a machine with that much memory.
    fn kdf(&self, total_bytes: u64) -> Result<Kdf> {
        let memory = self.kdf_memory.unwrap_or_else(|| affordable_bytes(total_bytes));
        let kdf = argon2id(memory, self.kdf_time);
        kdf.check().map_err(|error| {
            Failure::usage(error.to_string())
                .with_advice("Choose other values for --kdf-memory and --kdf-time.")
        })?;
        Ok(kdf)
    }

    /// What opening the store will take, why so much, and what else there is.
    fn explain(&self, kdf: &Kdf, total_bytes: u64) -> String {
        let Kdf::Argon2id { time, memory_kib, .. } = *kdf else { return kdf.name().to_owned() };
        let bytes = u64::from(memory_kib) * 1024;
        let passes = if time == 1 { "1 pass" } else { &format!("{time} passes") };
        let chosen = format!("to open the store will take {} of memory ({passes})", Size(bytes));
        let why = if bytes < KDF_BYTES_MIN || bytes.saturating_mul(time.into()) < KDF_WORK_BYTES {
            "as was asked for. That is less than is called sound: let the passphrase be long and \
             random"
        } else if self.kdf_memory.is_some() || self.kdf_time.is_some() {
            "as was asked for"
        } else if bytes < KDF_BYTES_DEFAULT {
            let total = Size(total_bytes);
            return format!(
                "{chosen}: what a machine with {total} has to spare, with more passes for it. \
                 -kdf-memory 48M is the usual choice, and dearer to guess"
            );
        } else {
            "which small machines have too. If only larger ones will open it, -kdf-memory 256M, \
             which stock takes, makes guessing dearer"
        };
        format!("{chosen}, {why}")
    }

    /// The cipher that was chosen. Says what another would gain and cost.
    fn suite(&self, context: &Context<'_>) -> Suite {
        let quiet = context.globals.quiet || context.globals.silent;
        match self.cipher {
            None if !quiet && !machine::has_aes() => {
                report::say(
                    "tiroir: this processor has no instructions for AES. With \
                     `-cipher chacha20-poly1305` encryption would be about 14 times as fast \
                     (924 MB/s in place of 64 MB/s on one core of a PC), but stock plakar could \
                     not read the store until it is synced or exported to another.",
                );
            }
            Some(Suite::ChaCha20Poly1305) if !quiet => {
                report::say(
                    "tiroir: stock plakar cannot read this store until it is synced or exported \
                     to another with its own cipher.",
                );
            }
            _ => {}
        }
        self.cipher.unwrap_or_default()
    }
}

fn canary(host: &mut SystemHost, key: &StoreKey, suite: Suite) -> Result<Vec<u8>> {
    let mut subkey = Zeroizing::new([0; KEY_BYTES]);
    let (mut nonce, mut random) = ([0; 12], [0; 32]);
    host.fill_random(&mut *subkey)?;
    host.fill_random(&mut nonce)?;
    host.fill_random(&mut random)?;
    Ok(make_canary(key, suite, &subkey, &nonce, &random).to_vec())
}

/// CONFIG with its envelope.
fn emit(config: &Config<'_>, key: Option<&StoreKey>) -> Result<Vec<u8>> {
    let mut space = [0; NEW_CONFIG_BYTES_MAX];
    let mut writer = Writer::new(&mut space);
    config.emit(&mut writer);
    let damaged = EngineError::damaged(tiroir_core::error::Subject::Config);
    let record = writer.finish().map_err(|error| Failure::from(damaged(error)))?;
    let mut bytes = envelope::header(ResourceKind::CONFIG, Version::V1_0_0).to_vec();
    bytes.extend_from_slice(record);
    let mac = config_mac(&bytes, key);
    bytes.extend_from_slice(&mac.0);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Status;
    use tiroir_core::limits::HEADER_BYTES_MAX;
    use tiroir_core::repository::{key_opens, parse_config};

    #[test]
    fn derivation_is_affordable() {
        let kdf = |total, kdf_memory, kdf_time| {
            let choices = Choices { kdf_memory, kdf_time, ..Choices::default() };
            match choices.kdf(total).unwrap() {
                Kdf::Argon2id { time, memory_kib, threads: 1 } => (memory_kib / 1024, time),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(kdf(8 << 30, None, None), (48, 4));
        assert_eq!(kdf(192 << 20, None, None), (48, 4));
        assert_eq!(kdf(128 << 20, None, None), (32, 6));
        assert_eq!(kdf(64 << 20, None, None), (19, 11));
        assert_eq!(kdf(0, None, None), (19, 11));
        assert_eq!(kdf(8 << 30, Some(256 << 20), None), (256, 4));
        assert_eq!(kdf(8 << 30, Some(8 << 20), None), (8, 24));
        assert_eq!(kdf(8 << 30, Some(1 << 30), Some(1)), (1024, 1));
        for total in (0..1000).map(|mib| mib << 20) {
            let (memory, time) = kdf(total, None, None);
            assert!((19..=48).contains(&memory) && memory * time >= 192);
        }
        let too_little = Choices { kdf_memory: Some(1), ..Choices::default() };
        assert_eq!(too_little.kdf(0).unwrap_err().status(), Status::Usage);
    }

    #[test]
    fn derivation_is_explained() {
        let told = |total, kdf_memory, kdf_time| {
            let choices = Choices { kdf_memory, kdf_time, ..Choices::default() };
            choices.explain(&choices.kdf(total).unwrap(), total)
        };
        let usual = told(8 << 30, None, None);
        assert!(usual.contains("48 MiB of memory (4 passes)") && usual.contains("256M"), "{usual}");
        let small = told(64 << 20, None, None);
        assert!(small.contains("19 MiB of memory (11 passes)"), "{small}");
        assert!(small.contains("a machine with 64 MiB"), "{small}");
        assert!(told(0, Some(256 << 20), None).ends_with("as was asked for"));
        for weak in [told(0, Some(8 << 20), None), told(0, Some(48 << 20), Some(1))] {
            assert!(weak.contains("less than is called sound"), "{weak}");
        }
    }

    #[test]
    fn chunks_are_in_stock_s_proportions() {
        assert_eq!(chunking(1 << 20), Chunking::default());
        let sizes = |text| {
            let Chunking { algorithm, min_bytes, normal_bytes, max_bytes } =
                chunking(parse_chunk_size(text).unwrap());
            assert_eq!(algorithm, Chunking::default().algorithm);
            [min_bytes, normal_bytes, max_bytes].map(|bytes| bytes as usize >> 10)
        };
        assert_eq!(sizes("64K"), [32, 64, 512]);
        // The largest chunk takes a header.
        assert_eq!(sizes("32K"), [16, 32, HEADER_BYTES_MAX >> 10]);
        assert_eq!(sizes("524288"), [256, 512, 4096]);
        for text in ["16K", "48K", "2M", "0", "65537", "5G", "much"] {
            assert!(parse_chunk_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn chunks_are_explained() {
        let told = explain_chunking(&chunking(64 << 10));
        for part in ["64 KiB, from 32 KiB to 512 KiB", "912 MiB in the cache", "800 MiB with each"]
        {
            assert!(told.contains(part), "{part}: {told}");
        }
    }

    #[test]
    fn config_opens_with_its_key() {
        let mut host = SystemHost::new("/nonexistent");
        let key = StoreKey::new([5; KEY_BYTES]);
        let canary = canary(&mut host, &key, Suite::ChaCha20Poly1305).unwrap();
        let kdf = Kdf::default();
        let encryption =
            Encryption { suite: Suite::ChaCha20Poly1305, kdf, salt: &[1; 16], canary: &canary };
        let config = Config {
            timestamp: host.now(),
            repository_id: [7; 16],
            packfile_bytes_max: 1,
            chunking: Chunking::default(),
            hashing: HashAlgorithm::Sha256,
            compression: Compression::Gzip,
            encryption: Some(encryption),
        };
        let bytes = emit(&config, Some(&key)).unwrap();
        let parsed = parse_config(&bytes).unwrap();
        assert_eq!(parsed, config);
        assert!(key_opens(&parsed, &key));
        assert!(!key_opens(&parsed, &StoreKey::new([6; KEY_BYTES])));
        let (content, mac) = bytes.split_at(bytes.len() - 32);
        assert_eq!(config_mac(content, Some(&key)).0, mac);
    }

    #[test]
    fn names() {
        assert_eq!(parse_hashing("blake3"), Ok(HashAlgorithm::Blake3));
        assert_eq!(parse_cipher("chacha20-poly1305"), Ok(Suite::ChaCha20Poly1305));
        assert_eq!(parse_compression("gzip"), Ok(Compression::Gzip));
        assert!(parse_compression("zstd").is_err());
        assert!(parse_hashing("md5").is_err());
        assert!(parse_cipher("aes").is_err());
    }
}
