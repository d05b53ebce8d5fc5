//! What was written into the device in the factory: the CONFIG of a store that
//! `tiroir create` made, and its key as `tiroir key` saved it. The passphrase stays
//! where these were made, and opens every archive of this device.
//!
//! Deriving the key takes 19 MiB at least, which is why it is not done here. Each
//! archive gets a CONFIG of its own, with that key.

use tiroir_core::compression::Compression;
use tiroir_core::crypto::{KEY_BYTES, StoreKey};
use tiroir_core::error::FormatError;
use tiroir_core::mac::HashAlgorithm;
use tiroir_core::repository::{config_mac, parse_config};
use tiroir_core::resource::{ResourceKind, Version};
use tiroir_core::time::Timestamp;
use tiroir_core::wire::config::{Chunking, Config};
use tiroir_core::wire::envelope::{self, HEADER_BYTES, TRAILER_BYTES};
use tiroir_core::wire::msgpack::Writer;
use zeroize::Zeroizing;

use crate::device::{DeviceError, HostFile};

/// Longest CONFIG of an archive, in bytes.
const CONFIG_BYTES_MAX: usize = 1024;

/// Largest chunk, in bytes: what all memory for content follows from.
pub const CHUNK_BYTES_MAX: usize = 16 * 1024;

/// How files are cut on this device: into pieces of some 8 KiB, so that the largest
/// fits. What a store on a disk does with pieces of 1 MiB costs 170 bytes for each.
const CHUNKING: Chunking<'static> = Chunking {
    algorithm: b"fastcdc-v1.0.0",
    min_bytes: 4 * 1024,
    normal_bytes: 8 * 1024,
    max_bytes: 16 * 1024,
};

/// A CONFIG, envelope included.
pub struct NewConfig {
    bytes: [u8; CONFIG_BYTES_MAX],
    len: usize,
}

impl NewConfig {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The CONFIG of a new archive: `provisioned`, with a name of its own, and what
    /// suits this device.
    pub fn new(
        provisioned: &Provisioned,
        mut repository_id: [u8; 16],
        timestamp: Timestamp,
    ) -> Result<Self, FormatError> {
        // Others' are UUIDs of version 4.
        repository_id[6] = repository_id[6] & 0x0f | 0x40;
        repository_id[8] = repository_id[8] & 0x3f | 0x80;
        let config = Config {
            timestamp,
            repository_id,
            packfile_bytes_max: u64::MAX,
            chunking: CHUNKING,
            hashing: HashAlgorithm::Blake3,
            compression: Compression::Lz4,
            encryption: parse_config(provisioned.config())?.encryption,
        };
        let mut new = Self { bytes: [0; CONFIG_BYTES_MAX], len: 0 };
        let header = envelope::header(ResourceKind::CONFIG, Version::V1_0_0);
        new.bytes[..HEADER_BYTES].copy_from_slice(&header);
        let end = CONFIG_BYTES_MAX - TRAILER_BYTES;
        let mut writer = Writer::new(&mut new.bytes[HEADER_BYTES..end]);
        config.emit(&mut writer);
        let len = HEADER_BYTES + writer.finish()?.len();
        let mac = config_mac(&new.bytes[..len], Some(&provisioned.key));
        new.bytes[len..len + TRAILER_BYTES].copy_from_slice(&mac.0);
        new.len = len + TRAILER_BYTES;
        Ok(new)
    }
}

/// What was written in the factory.
pub struct Provisioned {
    config: [u8; CONFIG_BYTES_MAX],
    config_len: usize,
    /// The key.
    pub key: StoreKey,
}

impl Provisioned {
    /// Reads it.
    pub fn read() -> Result<Self, DeviceError> {
        let file = HostFile::open(c"CONFIG", false)?;
        let mut config = [0; CONFIG_BYTES_MAX];
        let config_len = usize::try_from(file.len()?).unwrap_or(usize::MAX);
        let into = config.get_mut(..config_len).ok_or(DeviceError("hold so long a CONFIG"))?;
        file.read(into)?;
        let mut text = Zeroizing::new([0; 2 * KEY_BYTES]);
        HostFile::open(c"KEY", false)?.read(&mut *text)?;
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        for (byte, pair) in key.iter_mut().zip(text.chunks_exact(2)) {
            *byte = match pair {
                [high, low] => nibble(*high)? << 4 | nibble(*low)?,
                _ => 0,
            };
        }
        Ok(Self { config, config_len, key: StoreKey::new(*key) })
    }

    /// The CONFIG.
    pub fn config(&self) -> &[u8] {
        &self.config[..self.config_len]
    }
}

fn nibble(digit: u8) -> Result<u8, DeviceError> {
    let value = char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    value.ok_or(DeviceError("read its key: 64 hexadecimal digits are expected"))
}
