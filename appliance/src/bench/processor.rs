//! What one core does, with the engine's own code: each part of a backup alone,
//! and a backup without its files, in every way there is.

use std::hint::black_box;
use std::time::{Duration, Instant};

use tiroir_core::chunker::{Chunker, Parameters};
use tiroir_core::codec::{
    Codec, CodecError, DecodeScratch, Decoder, EncodeScratch, Encoder, encoded_len_max,
};
use tiroir_core::compression::Compression;
use tiroir_core::crypto::{KEY_BYTES, StoreKey, Suite};
use tiroir_core::entropy::Histogram;
use tiroir_core::error::FormatError;
use tiroir_core::host::Host as _;
use tiroir_core::mac::{HashAlgorithm, MacHasher, MacKey};
use tiroir_core::wire::config::Chunking;
use tiroir_hosts::cpu::thread_time;
use tiroir_hosts::disk::Transfer;
use tiroir_hosts::env::SystemHost;
use tiroir_hosts::error::HostsError;

use super::sample::{self, MIXED, NOISE, SAMPLE_BYTES, TEXT};
use super::{Pace, Way};
use crate::error::{Failure, Result};
use crate::exit::Status;

/// Time of one core for each thing that is tried.
const TRIAL_TIME: Duration = Duration::from_millis(150);

/// Longest that one is waited for where others have the processor.
const TRIAL_TIME_MAX: Duration = Duration::from_secs(2);

/// Bytes that are worked on at once.
pub(crate) const UNIT_BYTES: usize = 256 * 1024;

/// Memory of a unit encoded, in bytes.
#[expect(clippy::cast_possible_truncation, reason = "a little more than a unit")]
const PACKED_BYTES: usize = encoded_len_max(UNIT_BYTES as u64) as usize;

/// Memory for work, in bytes, beside what encoding and decoding take.
pub(crate) const WORK_BYTES: usize = SAMPLE_BYTES + PACKED_BYTES;

/// A part of the work.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    Chunking,
    Entropy,
    Blake3,
    Sha256,
    Lz4Text,
    Lz4Noise,
    UnLz4,
    AesGcmSiv,
    ChaCha,
}

impl Part {
    /// Each, in the order of a backup.
    pub(crate) const ALL: [Self; 9] = [
        Self::Chunking,
        Self::Entropy,
        Self::Blake3,
        Self::Sha256,
        Self::Lz4Text,
        Self::Lz4Noise,
        Self::UnLz4,
        Self::AesGcmSiv,
        Self::ChaCha,
    ];

    /// What it is, for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Chunking => "cut into chunks (FastCDC)",
            Self::Entropy => "entropy of chunks",
            Self::Blake3 => "keyed BLAKE3",
            Self::Sha256 => "HMAC-SHA256",
            Self::Lz4Text => "LZ4, text",
            Self::Lz4Noise => "LZ4, what does not compress",
            Self::UnLz4 => "LZ4, decompress text",
            Self::AesGcmSiv => "AES-256-GCM-SIV",
            Self::ChaCha => "ChaCha20-Poly1305",
        }
    }

    /// What it is, for programs.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Chunking => "chunking",
            Self::Entropy => "entropy",
            Self::Blake3 => "blake3",
            Self::Sha256 => "sha256",
            Self::Lz4Text => "lz4-text",
            Self::Lz4Noise => "lz4-noise",
            Self::UnLz4 => "lz4-decompress",
            Self::AesGcmSiv => "aes256-gcm-siv",
            Self::ChaCha => "chacha20-poly1305",
        }
    }
}

/// Ways that a backup is tried in: each cipher without compression and with it,
/// and the usual one with the other hash.
pub(crate) const WAYS: [Way; 7] = [
    Way::new(None, Compression::None),
    Way::new(None, Compression::Lz4),
    Way::new(Some(Suite::Aes256GcmSiv), Compression::None),
    Way::new(Some(Suite::Aes256GcmSiv), Compression::Lz4),
    Way::new(Some(Suite::ChaCha20Poly1305), Compression::None),
    Way::new(Some(Suite::ChaCha20Poly1305), Compression::Lz4),
    Way {
        suite: Some(Suite::Aes256GcmSiv),
        compression: Compression::Lz4,
        hashing: HashAlgorithm::Sha256,
    },
];

/// What is worked with.
#[derive(Debug)]
pub(crate) struct Bench<'m> {
    encode: EncodeScratch<'m>,
    decode: DecodeScratch<'m>,
    sample: &'m mut [u8],
    packed: &'m mut [u8],
    host: SystemHost,
}

impl<'m> Bench<'m> {
    /// Fills the sample, in `work`, which has [`WORK_BYTES`] at least.
    pub(crate) fn new(
        encode: EncodeScratch<'m>,
        decode: DecodeScratch<'m>,
        work: &'m mut [u8],
        host: SystemHost,
    ) -> Self {
        let (sample, rest) = work.split_at_mut(SAMPLE_BYTES);
        let packed = &mut rest[..PACKED_BYTES];
        sample::fill(sample);
        Self { encode, decode, sample, packed, host }
    }

    /// Bytes that do not compress, and memory to read into.
    pub(crate) fn disk_memory(&mut self) -> (&[u8], &mut [u8]) {
        (&self.sample[NOISE][..UNIT_BYTES], &mut self.packed[..UNIT_BYTES])
    }

    /// How fast a part is.
    ///
    /// # Errors
    ///
    /// Of the system's random numbers.
    pub(crate) fn part(&mut self, part: Part) -> Result<Transfer> {
        let sealed = |suite| Codec { compression: Compression::None, cipher: Some((key(), suite)) };
        let packed = || Codec { compression: Compression::Lz4, cipher: None };
        match part {
            Part::Chunking => self.cut(),
            Part::Entropy => {
                let (mut histogram, sample) = (Histogram::new(), &*self.sample);
                timed(|turn| {
                    histogram.reset();
                    histogram.add(&sample[unit(turn, 0..SAMPLE_BYTES)]);
                    black_box(histogram.entropy());
                    Ok(UNIT_BYTES)
                })
            }
            Part::Blake3 => self.hash(HashAlgorithm::Blake3),
            Part::Sha256 => self.hash(HashAlgorithm::Sha256),
            Part::Lz4Text => self.encode(&packed(), TEXT),
            Part::Lz4Noise => self.encode(&packed(), NOISE),
            Part::UnLz4 => self.decode(&packed(), TEXT),
            Part::AesGcmSiv => self.encode(&sealed(Suite::Aes256GcmSiv), NOISE),
            Part::ChaCha => self.encode(&sealed(Suite::ChaCha20Poly1305), NOISE),
        }
    }

    fn cut(&mut self) -> Result<Transfer> {
        let mut chunker = Chunker::new(&parameters()?);
        let sample = &*self.sample;
        timed(|_| {
            chunker.reset();
            let mut start = 0;
            while let Some(length) = chunker.find_cut(&sample[start..], true) {
                start += length;
            }
            Ok(start)
        })
    }

    fn hash(&mut self, algorithm: HashAlgorithm) -> Result<Transfer> {
        let key = MacKey::new(algorithm, *key().as_bytes());
        let (mut hasher, sample) = (key.hasher(), &*self.sample);
        timed(|turn| {
            key.restart(&mut hasher);
            hasher.update(&sample[unit(turn, 0..SAMPLE_BYTES)]);
            black_box(hasher.so_far());
            Ok(UNIT_BYTES)
        })
    }

    fn encode(&mut self, codec: &Codec, part: std::ops::Range<usize>) -> Result<Transfer> {
        let Self { encode, sample, host, .. } = self;
        timed(|turn| {
            encode_unit(codec, encode, host, &sample[unit(turn, part.clone())], |bytes| {
                black_box(bytes);
            })?;
            Ok(UNIT_BYTES)
        })
    }

    fn decode(&mut self, codec: &Codec, part: std::ops::Range<usize>) -> Result<Transfer> {
        let Self { encode, decode, sample, packed, host } = self;
        let mut packed_bytes = 0;
        encode_unit(codec, encode, host, &sample[unit(0, part)], |bytes| {
            packed[packed_bytes..packed_bytes + bytes.len()].copy_from_slice(bytes);
            packed_bytes += bytes.len();
        })?;
        timed(|_| {
            let mut plain_bytes = 0;
            let mut out = |bytes: &[u8]| {
                plain_bytes += black_box(bytes).len();
                Ok::<(), HostsError>(())
            };
            let mut decoder = Decoder::new(codec, decode).map_err(never)?;
            decoder.push(&packed[..packed_bytes], &mut out).map_err(undecoded)?;
            decoder.finish(&mut out).map_err(undecoded)?;
            Ok(plain_bytes)
        })
    }

    /// How fast a backup is that way, without its files: what is done with each
    /// byte of content.
    ///
    /// # Errors
    ///
    /// Of the system's random numbers.
    pub(crate) fn backup(&mut self, way: Way) -> Result<Pace> {
        let codec =
            Codec { compression: way.compression, cipher: way.suite.map(|suite| (key(), suite)) };
        let key = MacKey::new(way.hashing, *key().as_bytes());
        let mut backup = Backup::new(&key)?;
        let Self { encode, sample, host, .. } = self;
        let (mut done, mut stored_bytes) = (0, 0);
        let done_in = timed(|turn| {
            let (start, end) = (unit(turn, MIXED).start, unit(turn, MIXED).end);
            stored_bytes +=
                backup.unit(&sample[MIXED.start..end], start - MIXED.start, |plain, out| {
                    encode_unit(&codec, encode, host, plain, out)
                })?;
            done += UNIT_BYTES as u64;
            Ok(UNIT_BYTES)
        })?;
        // The first turn is in neither time nor bytes.
        let stored_bytes = scale(stored_bytes, done_in.bytes, done);
        Ok(Pace { way, done: done_in, stored_bytes })
    }
}

/// What a backup does with content, in the order of the engine: cut, name the
/// chunk, name the file, count, encode, name the packfile.
struct Backup<'k> {
    key: &'k MacKey,
    chunker: Chunker,
    /// Where the chunk at hand begins.
    chunk_start: usize,
    chunk: MacHasher,
    file: MacHasher,
    packfile: MacHasher,
    histogram: Histogram,
}

impl<'k> Backup<'k> {
    fn new(key: &'k MacKey) -> Result<Self> {
        Ok(Self {
            key,
            chunker: Chunker::new(&parameters()?),
            chunk_start: 0,
            chunk: key.hasher(),
            file: key.hasher(),
            packfile: key.hasher(),
            histogram: Histogram::new(),
        })
    }

    /// Does it with what follows `start` in `content`, and gives the bytes that
    /// come of it. Turns are short, so that a slow processor does some.
    fn unit(
        &mut self,
        content: &[u8],
        start: usize,
        mut encode: impl FnMut(&[u8], &mut dyn FnMut(&[u8])) -> Result<u64>,
    ) -> Result<u64> {
        if start == 0 {
            self.chunker.reset();
            self.chunk_start = 0;
        }
        while let Some(length) = self.chunker.find_cut(&content[self.chunk_start..], false) {
            self.chunk_start += length;
        }
        let plain = &content[start..];
        self.key.restart(&mut self.chunk);
        self.chunk.update(plain);
        black_box(self.chunk.so_far());
        self.file.update(plain);
        self.histogram.reset();
        self.histogram.add(plain);
        black_box(self.histogram.entropy());
        let packfile = &mut self.packfile;
        encode(plain, &mut |bytes| packfile.update(bytes))
    }
}

/// Does `step` again and again, which gives the bytes it has worked on; the first
/// time uncounted.
fn timed(mut step: impl FnMut(usize) -> Result<usize>) -> Result<Transfer> {
    step(0)?;
    let (cpu, wall) = (thread_time(), Instant::now());
    let (mut bytes, mut turn) = (0, 0);
    loop {
        turn += 1;
        bytes += step(turn)? as u64;
        let time = thread_time().saturating_sub(cpu);
        if time >= TRIAL_TIME || wall.elapsed() >= TRIAL_TIME_MAX {
            return Ok(Transfer { bytes, time });
        }
    }
}

/// The unit of a turn, in that part of the sample.
fn unit(turn: usize, part: std::ops::Range<usize>) -> std::ops::Range<usize> {
    let start = part.start + turn % (part.len() / UNIT_BYTES) * UNIT_BYTES;
    start..start + UNIT_BYTES
}

/// `value` of `all`, for `part` of it.
fn scale(value: u64, part: u64, all: u64) -> u64 {
    let scaled = u128::from(value) * u128::from(part) / u128::from(all.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// Encodes a unit, and gives its length in bytes.
fn encode_unit(
    codec: &Codec,
    scratch: &mut EncodeScratch<'_>,
    host: &mut SystemHost,
    plain: &[u8],
    mut out: impl FnMut(&[u8]),
) -> Result<u64> {
    let random = |bytes: &mut [u8]| host.fill_random(bytes);
    let out = |bytes: &[u8]| {
        out(bytes);
        Ok::<(), HostsError>(())
    };
    let encoder = Encoder::new(codec, scratch, random, out).map_err(never)?;
    Ok(encoder.finish_with(plain)?)
}

/// A key that nothing is kept under.
fn key() -> StoreKey {
    StoreKey::new([0x5a; KEY_BYTES])
}

/// How stock cuts.
fn parameters() -> Result<Parameters> {
    let Chunking { algorithm, min_bytes, normal_bytes, max_bytes } = Chunking::default();
    Parameters::new(algorithm, min_bytes, normal_bytes, max_bytes).map_err(never)
}

/// What is encoded here decodes, in the memory that there is.
fn never(error: FormatError) -> Failure {
    Failure::new(Status::Failed, format!("the sample {error}"))
}

fn undecoded(error: CodecError<HostsError>) -> Failure {
    match error {
        CodecError::Format(error) => never(error),
        CodecError::Sink(error) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiroir_core::codec::{COLLECT_SCRATCH_BYTES_STOCK, ENCODE_SCRATCH_BYTES};

    #[test]
    fn everything_is_measured() {
        let (mut encode, mut decode) =
            (vec![0; ENCODE_SCRATCH_BYTES], vec![0; COLLECT_SCRATCH_BYTES_STOCK]);
        let mut work = vec![0; WORK_BYTES];
        let mut bench = Bench::new(
            EncodeScratch::new(&mut encode).unwrap(),
            DecodeScratch::new(&mut decode).unwrap(),
            &mut work,
            SystemHost::new("/nonexistent"),
        );
        for part in Part::ALL {
            let done = bench.part(part).unwrap();
            assert!(done.bytes >= UNIT_BYTES as u64 && done.rate().is_some(), "{part:?}: {done:?}");
        }
        for way in WAYS {
            let pace = bench.backup(way).unwrap();
            let ratio = pace.ratio();
            let wanted = if way.compression == Compression::None { 0.99..1.01 } else { 0.6..0.9 };
            assert!(wanted.contains(&ratio), "{way:?}: {ratio}");
            assert!(pace.seconds() > 0.0);
        }
    }

    #[test]
    fn units_go_round() {
        assert_eq!(unit(0, NOISE).start, NOISE.start);
        assert_eq!(unit(3, NOISE).end, NOISE.end);
        assert_eq!(unit(4, NOISE), unit(0, NOISE));
    }
}
