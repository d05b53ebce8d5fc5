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
use crate::passphrase;
use crate::report;
use crate::text::size::{self, Size};

/// Bytes in a mebibyte.
const MIB: u64 = 1024 * 1024;

/// Most memory of a key derivation that is chosen without being told: stock's.
const KDF_BYTES_MAX: u64 = 256 * MIB;

/// Least of it: what is called sound for Argon2id.
const KDF_BYTES_MIN: u64 = 19 * MIB;

/// Passes of stock, over [`KDF_BYTES_MAX`].
const KDF_TIME_MIN: u32 = 4;

/// Most passes that are chosen without being told: a weak processor has to
/// make them each time the store is opened.
const KDF_TIME_MAX: u32 = 16;

/// Length of a salt, in bytes, as stock's.
const SALT_BYTES: usize = 16;

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

    /// Derive the key in so much memory: by default a quarter of the
    /// machine's, from 19M to 256M
    #[arg(long, value_name = "BYTES", value_parser = size::parse, conflicts_with = "plaintext")]
    kdf_memory: Option<u64>,

    /// Derive the key in N passes: by default 4 over 256M, more over less
    #[arg(long, value_name = "N", conflicts_with = "plaintext")]
    kdf_time: Option<u32>,

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

/// Parameters of Argon2id for a machine with that much memory.
fn affordable(total_bytes: u64, memory: Option<u64>, time: Option<u32>) -> Kdf {
    let quarter = (total_bytes / 4).clamp(KDF_BYTES_MIN, KDF_BYTES_MAX);
    // Whole mebibytes: easier to say.
    let bytes = memory.unwrap_or(quarter / MIB * MIB).max(1);
    let passes = (u64::from(KDF_TIME_MIN) * KDF_BYTES_MAX).div_ceil(bytes);
    let chosen = u32::try_from(passes).unwrap_or(u32::MAX).clamp(KDF_TIME_MIN, KDF_TIME_MAX);
    let memory_kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
    Kdf::Argon2id { time: time.unwrap_or(chosen), memory_kib, threads: 1 }
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
    /// none was given. Packfiles are closed at `packfile_bytes_max`.
    ///
    /// # Errors
    ///
    /// For parameters that are out of bounds, and those of asking and deriving.
    pub(crate) fn make(
        context: &Context<'_>,
        choices: &Choices,
        packfile_bytes_max: u64,
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
            chunking: Chunking::default(),
            hashing: choices.hashing.unwrap_or_default(),
            compression,
            encryption: None,
        };
        if choices.plaintext {
            return Ok(Self { config: emit(&config, None)?, key: None });
        }
        let kdf = choices.kdf()?;
        let passphrase = passphrase::choose(context.globals, choices.weak_passphrase)?;
        let mut salt = [0; SALT_BYTES];
        host.fill_random(&mut salt)?;
        let suite = choices.suite(context);
        tell_derivation(context, &kdf);
        let key = context.derive(&kdf, &passphrase, &salt)?;
        let canary = canary(&mut host, &key, suite)?;
        config.encryption = Some(Encryption { suite, kdf, salt: &salt, canary: &canary });
        Ok(Self { config: emit(&config, Some(&key))?, key: Some(key) })
    }
}

impl Choices {
    /// The key derivation that was chosen.
    fn kdf(&self) -> Result<Kdf> {
        let total = machine::Memory::read().map_or(0, |memory| memory.total_bytes);
        let kdf = affordable(total, self.kdf_memory, self.kdf_time);
        kdf.check().map_err(|error| {
            Failure::usage(error.to_string())
                .with_advice("Choose other values for --kdf-memory and --kdf-time.")
        })?;
        Ok(kdf)
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

/// Says what deriving the key will take, each time that the store is opened.
fn tell_derivation(context: &Context<'_>, kdf: &Kdf) {
    if let Kdf::Argon2id { time, memory_kib, .. } = *kdf
        && !context.globals.quiet
        && !context.globals.silent
    {
        let memory = Size(u64::from(memory_kib) * 1024);
        report::say(&format!("tiroir: key derivation: ARGON2ID, {memory}, {time} passes"));
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
    use tiroir_core::repository::{key_opens, parse_config};

    #[test]
    fn derivation_is_affordable() {
        let kdf = |total, memory, time| match affordable(total, memory, time) {
            Kdf::Argon2id { time, memory_kib, threads: 1 } => (memory_kib / 1024, time),
            other => panic!("{other:?}"),
        };
        assert_eq!(kdf(8 << 30, None, None), (256, 4));
        assert_eq!(kdf(1 << 30, None, None), (256, 4));
        assert_eq!(kdf(512 << 20, None, None), (128, 8));
        assert_eq!(kdf(128 << 20, None, None), (32, 16));
        assert_eq!(kdf(64 << 20, None, None), (19, 16));
        assert_eq!(kdf(0, None, None), (19, 16));
        assert_eq!(kdf(8 << 30, Some(8 << 20), None), (8, 16));
        assert_eq!(kdf(8 << 30, Some(1 << 30), Some(1)), (1024, 1));
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
