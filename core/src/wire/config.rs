//! [`Config`]: the parameters of a store. Section 5 of the format.

use super::msgpack::{Reader, Writer};
use crate::compression::Compression;
use crate::crypto::Suite;
use crate::crypto::kdf::Kdf;
use crate::error::FormatError;
use crate::mac::HashAlgorithm;
use crate::time::Timestamp;

/// Longest salt that is read, in bytes. Stock's has 16.
pub const SALT_BYTES_MAX: usize = 64;

/// Length of a canary, in bytes.
pub const CANARY_BYTES: usize = 100;

/// Largest packfile of stock 1.1, in bytes.
pub const PACKFILE_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;

/// How files are cut.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Chunking<'b> {
    /// Name of the algorithm.
    pub algorithm: &'b [u8],
    /// Least length of a chunk, in bytes.
    pub min_bytes: u32,
    /// Usual length, in bytes.
    pub normal_bytes: u32,
    /// Largest length, in bytes.
    pub max_bytes: u32,
}

impl Default for Chunking<'_> {
    /// Stock 1.1's.
    fn default() -> Self {
        Self {
            algorithm: b"fastcdc-v1.0.0",
            min_bytes: 512 * 1024,
            normal_bytes: 1024 * 1024,
            max_bytes: 8 * 1024 * 1024,
        }
    }
}

/// How blobs are encrypted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Encryption<'b> {
    /// The cipher.
    pub suite: Suite,
    /// How the passphrase becomes the key.
    pub kdf: Kdf,
    /// Salt of the key derivation.
    pub salt: &'b [u8],
    /// Random bytes, sealed: they open with the right key only.
    pub canary: &'b [u8],
}

/// The parameters of a store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Config<'b> {
    /// When it was made.
    pub timestamp: Timestamp,
    /// Its identifier.
    pub repository_id: [u8; 16],
    /// Length at which packfiles are closed, in bytes.
    pub packfile_bytes_max: u64,
    /// How files are cut.
    pub chunking: Chunking<'b>,
    /// How MACs are made.
    pub hashing: HashAlgorithm,
    /// How blobs are compressed.
    pub compression: Compression,
    /// How blobs are encrypted, if they are.
    pub encryption: Option<Encryption<'b>>,
}

impl Config<'_> {
    /// Writes the record, with the parameters of stock for what is not a field
    /// here.
    pub fn emit(&self, w: &mut Writer<'_>) {
        w.map(7);
        w.key("Timestamp");
        w.time(self.timestamp);
        w.key("RepositoryID");
        w.bin(&self.repository_id);
        w.key("Packfile");
        w.map(3);
        for (name, bytes) in [("MinSize", 0), ("AvgSize", 0), ("MaxSize", self.packfile_bytes_max)]
        {
            w.key(name);
            w.u64(bytes);
        }
        w.key("Chunking");
        w.map(4);
        w.key("Algorithm");
        w.str(self.chunking.algorithm);
        for (name, bytes) in [
            ("MinSize", self.chunking.min_bytes),
            ("NormalSize", self.chunking.normal_bytes),
            ("MaxSize", self.chunking.max_bytes),
        ] {
            w.key(name);
            w.u32(bytes);
        }
        w.key("Hashing");
        w.map(2);
        w.key("Algorithm");
        w.key(self.hashing.name());
        w.key("Bits");
        w.u32(256);
        w.key("Compression");
        self.emit_compression(w);
        w.key("Encryption");
        match &self.encryption {
            Some(encryption) => encryption.emit(w),
            None => w.nil(),
        }
    }

    fn emit_compression(&self, w: &mut Writer<'_>) {
        let Some(name) = self.compression.name() else { return w.nil() };
        // The level is ignored by all code; these are what stock writes.
        let level = if self.compression == Compression::Lz4 { 131_072 } else { -1 };
        w.map(6);
        w.key("Algorithm");
        w.key(name);
        for (name, value) in
            [("Level", level), ("WindowSize", -1), ("ChunkSize", -1), ("BlockSize", -1)]
        {
            w.key(name);
            w.int(value);
        }
        w.key("EnableCRC");
        w.bool(false);
    }
}

impl<'b> Config<'b> {
    /// Reads the record.
    ///
    /// # Errors
    ///
    /// [`FormatError`] for what is no such record, or for algorithms that are
    /// not known here.
    pub fn parse(bytes: &'b [u8]) -> Result<Self, FormatError> {
        let mut config = Self {
            timestamp: Timestamp::GO_ZERO,
            repository_id: [0; 16],
            packfile_bytes_max: 0,
            chunking: Chunking { algorithm: b"", min_bytes: 0, normal_bytes: 0, max_bytes: 0 },
            hashing: HashAlgorithm::Blake3,
            compression: Compression::None,
            encryption: None,
        };
        let mut has_id = false;
        Reader::new(bytes).fields(|key, value| {
            match key {
                b"Timestamp" => config.timestamp = value.time()?,
                b"RepositoryID" => {
                    let id = value.bytes()?.try_into();
                    config.repository_id = id.map_err(|_| FormatError::Field("identifier"))?;
                    has_id = true;
                }
                b"Packfile" => value.fields(|key, value| {
                    let is_max = key == b"MaxSize";
                    if is_max {
                        config.packfile_bytes_max = value.u64()?;
                    }
                    Ok(is_max)
                })?,
                b"Chunking" => config.chunking = Chunking::parse(value)?,
                b"Hashing" => {
                    let name = algorithm(value)?;
                    config.hashing =
                        HashAlgorithm::from_name(name).ok_or(FormatError::Unsupported("hash"))?;
                }
                b"Compression" if value.nil() => {}
                b"Compression" => {
                    config.compression = Compression::from_name(algorithm(value)?)
                        .ok_or(FormatError::Unsupported("compression"))?;
                }
                b"Encryption" if value.nil() => {}
                b"Encryption" => config.encryption = Some(Encryption::parse(value)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if has_id { Ok(config) } else { Err(FormatError::Field("identifier")) }
    }
}

/// The field `Algorithm` of a map.
fn algorithm<'b>(reader: &mut Reader<'b>) -> Result<&'b [u8], FormatError> {
    let mut name = &[][..];
    reader.fields(|key, value| {
        let is_name = key == b"Algorithm";
        if is_name {
            name = value.bytes()?;
        }
        Ok(is_name)
    })?;
    Ok(name)
}

impl<'b> Chunking<'b> {
    fn parse(reader: &mut Reader<'b>) -> Result<Self, FormatError> {
        let mut chunking = Chunking { algorithm: b"", min_bytes: 0, normal_bytes: 0, max_bytes: 0 };
        reader.fields(|key, value| {
            match key {
                b"Algorithm" => chunking.algorithm = value.bytes()?,
                b"MinSize" => chunking.min_bytes = value.u32()?,
                b"NormalSize" => chunking.normal_bytes = value.u32()?,
                b"MaxSize" => chunking.max_bytes = value.u32()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(chunking)
    }
}

impl<'b> Encryption<'b> {
    fn emit(&self, w: &mut Writer<'_>) {
        w.map(5);
        w.key("SubKeyAlgorithm");
        w.key("AES256-KW");
        w.key("DataAlgorithm");
        w.key(self.suite.name());
        w.key("ChunkSize");
        w.int(65_536);
        w.key("KDFParams");
        self.emit_kdf(w);
        w.key("Canary");
        w.bin(self.canary);
    }

    fn emit_kdf(&self, w: &mut Writer<'_>) {
        let salt_bytes = u32::try_from(self.salt.len()).unwrap_or_default();
        w.map(3);
        w.key("KDF");
        w.key(self.kdf.name());
        w.key("Salt");
        w.bin(self.salt);
        match self.kdf {
            Kdf::Argon2id { time, memory_kib, threads } => {
                w.key("argon2id");
                w.map(5);
                for (name, value) in
                    [("SaltSize", salt_bytes), ("Time", time), ("Memory", memory_kib)]
                {
                    w.key(name);
                    w.u32(value);
                }
                w.key("Threads");
                w.u8(threads);
                w.key("KeyLen");
                w.u32(32);
            }
            Kdf::Scrypt { n, r, p } => {
                w.key("scrypt");
                w.map(5);
                w.key("SaltSize");
                w.u32(salt_bytes);
                let n = i64::try_from(n).unwrap_or(i64::MAX);
                for (name, value) in [("N", n), ("R", r.into()), ("P", p.into()), ("KeyLen", 32)] {
                    w.key(name);
                    w.int(value);
                }
            }
            Kdf::Pbkdf2 { iterations } => {
                w.key("pbkdf2");
                w.map(4);
                w.key("SaltSize");
                w.u32(salt_bytes);
                w.key("Iterations");
                w.int(iterations.into());
                w.key("KeyLen");
                w.int(32);
                w.key("Hashing");
                w.key("SHA256");
            }
        }
    }

    fn parse(reader: &mut Reader<'b>) -> Result<Self, FormatError> {
        let unsupported = FormatError::Unsupported("cipher");
        let mut encryption =
            Self { suite: Suite::default(), kdf: Kdf::default(), salt: &[], canary: &[] };
        reader.fields(|key, value| {
            match key {
                b"SubKeyAlgorithm" if value.bytes()? != b"AES256-KW" => return Err(unsupported),
                b"SubKeyAlgorithm" => {}
                b"DataAlgorithm" => {
                    encryption.suite = Suite::from_name(value.bytes()?).ok_or(unsupported)?;
                }
                b"ChunkSize" if value.i64()? != 65_536 => {
                    return Err(FormatError::Unsupported("size of sealed pieces"));
                }
                b"ChunkSize" => {}
                b"KDFParams" => (encryption.kdf, encryption.salt) = parse_kdf(value)?,
                b"Canary" => encryption.canary = value.bytes()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if encryption.salt.len() > SALT_BYTES_MAX {
            return Err(FormatError::Bound("salt"));
        }
        Ok(encryption)
    }
}

/// The numbers of a key derivation, whatever it is.
#[derive(Default)]
struct KdfFields {
    time: u32,
    memory: u32,
    threads: u8,
    n: u64,
    r: u32,
    p: u32,
    iterations: u32,
    key_bytes: u32,
    is_sha256: bool,
}

fn parse_kdf<'b>(reader: &mut Reader<'b>) -> Result<(Kdf, &'b [u8]), FormatError> {
    let (mut name, mut salt, mut found) = (&[][..], &[][..], KdfFields::default());
    reader.fields(|key, value| {
        match key {
            b"KDF" => name = value.bytes()?,
            b"Salt" => salt = value.bytes()?,
            b"argon2id" | b"scrypt" | b"pbkdf2" if !value.nil() => found.parse(value)?,
            b"argon2id" | b"scrypt" | b"pbkdf2" => {}
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let kdf = match name {
        b"ARGON2ID" => {
            Kdf::Argon2id { time: found.time, memory_kib: found.memory, threads: found.threads }
        }
        b"SCRYPT" => Kdf::Scrypt { n: found.n, r: found.r, p: found.p },
        b"PBKDF2" if found.is_sha256 => Kdf::Pbkdf2 { iterations: found.iterations },
        _ => return Err(FormatError::Unsupported("key derivation")),
    };
    if found.key_bytes == 32 {
        Ok((kdf, salt))
    } else {
        Err(FormatError::Unsupported("key length"))
    }
}

impl KdfFields {
    fn parse(&mut self, reader: &mut Reader<'_>) -> Result<(), FormatError> {
        reader.fields(|key, value| {
            match key {
                b"Time" => self.time = value.u32()?,
                b"Memory" => self.memory = value.u32()?,
                b"Threads" => self.threads = value.u8()?,
                // `int` in Go: what is more than that, stock does not read.
                b"N" => {
                    let n = u64::try_from(value.i64()?);
                    self.n = n.map_err(|_| FormatError::Field("number"))?;
                }
                b"R" => self.r = value.u32()?,
                b"P" => self.p = value.u32()?,
                b"Iterations" => self.iterations = value.u32()?,
                b"KeyLen" => self.key_bytes = value.u32()?,
                b"Hashing" => self.is_sha256 = value.bytes()? == b"SHA256",
                _ => return Ok(false),
            }
            Ok(true)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stock keeps `N` in an `int`.
    #[test]
    fn numbers_of_scrypt_are_those_that_stock_has() {
        let read = |n: u64| {
            let mut space = [0; 256];
            let mut w = Writer::new(&mut space);
            w.map(2);
            w.key("KDF");
            w.key("SCRYPT");
            w.key("scrypt");
            w.map(2);
            w.key("N");
            w.u64(n);
            w.key("KeyLen");
            w.int(32);
            parse_kdf(&mut Reader::new(w.finish().unwrap())).map(|(kdf, _)| kdf)
        };
        let n = i64::MAX.cast_unsigned();
        assert_eq!(read(n), Ok(Kdf::Scrypt { n, r: 0, p: 0 }));
        assert_eq!(read(n + 1), Err(FormatError::Field("number")));
    }

    #[test]
    fn both_ways() {
        let kdfs = [
            Kdf::Argon2id { time: 4, memory_kib: 262_144, threads: 1 },
            Kdf::Scrypt { n: 32_768, r: 8, p: 1 },
            Kdf::Pbkdf2 { iterations: 100_000 },
        ];
        for kdf in kdfs {
            for compression in [Compression::None, Compression::Lz4, Compression::Gzip] {
                let config = Config {
                    timestamp: Timestamp { secs: 1_700_000_000, nanos: 7 },
                    repository_id: [3; 16],
                    packfile_bytes_max: PACKFILE_BYTES_DEFAULT,
                    chunking: Chunking::default(),
                    hashing: HashAlgorithm::Sha256,
                    compression,
                    encryption: Some(Encryption {
                        suite: Suite::Aes256GcmSiv,
                        kdf,
                        salt: &[8; 16],
                        canary: &[9; CANARY_BYTES],
                    }),
                };
                let mut space = [0; 1024];
                let mut writer = Writer::new(&mut space);
                config.emit(&mut writer);
                assert_eq!(Config::parse(writer.finish().unwrap()), Ok(config));
            }
        }
    }
}
