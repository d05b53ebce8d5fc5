//! What one core could do at best: read, cut, hash, compress and seal the same
//! bytes, one after the other, and nothing else; and what a first backup of
//! them takes beside it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tiroir_core::chunker::{Chunker, Parameters};
use tiroir_core::crypto::seal::{NONCE_BYTES, PIECE_OVERHEAD_BYTES, PieceSealer};
use tiroir_core::crypto::{KEY_BYTES, Suite};
use tiroir_core::entropy::Histogram;
use tiroir_core::limits::PIECE_BYTES;
use tiroir_core::store::Store as _;
use tiroir_core::wire::config::Chunking;
use tiroir_hosts::fs::importer::FsImporter;
use tiroir_hosts::fs::store::FsStore;

use crate::{MIB, Result, repository, usage};

/// Bytes that are read at once: the engine's.
const READ_BYTES: usize = tiroir_core::content::READ_BYTES;

/// What is done with the bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Work {
    /// Read from the page cache.
    Read,
    /// Read and cut into chunks.
    Cut,
    /// Read, and hash with a key, once.
    Hash,
    /// Read and compress, in blocks of 64 KiB.
    Compress,
    /// Read and seal, in pieces of 64 KiB.
    Seal,
    /// Read, cut, hash, compress and seal.
    All,
    /// Read, and count bytes, for the entropy that each chunk is recorded with.
    Count,
    /// Read, and write to another file.
    Write,
    /// What the format asks for: all of that, and three hashes: of the chunk, of
    /// the file, and of the packfile.
    Format,
}

impl Work {
    /// Each, in the order of the work.
    pub const EACH: [Self; 9] = [
        Self::Read,
        Self::Cut,
        Self::Hash,
        Self::Compress,
        Self::Seal,
        Self::All,
        Self::Count,
        Self::Write,
        Self::Format,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Cut => "read, FastCDC",
            Self::Hash => "read, BLAKE3 with a key",
            Self::Compress => "read, LZ4",
            Self::Seal => "read, AES-256-GCM-SIV",
            Self::All => "all of it, in sequence",
            Self::Count => "read, entropy",
            Self::Write => "read, write to a file",
            Self::Format => "all of it, with three hashes, as the format asks for",
        }
    }

    fn does(self, part: Self) -> bool {
        match self {
            Self::All => !matches!(part, Self::Count | Self::Write),
            Self::Format => true,
            _ => self == part,
        }
    }

    /// How often the bytes are hashed.
    fn hashes(self) -> u32 {
        match self {
            Self::Hash | Self::All => 1,
            Self::Format => 3,
            _ => 0,
        }
    }
}

/// What something took.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// Time on the processor.
    pub cpu: Duration,
    /// Time.
    pub wall: Duration,
}

impl Took {
    /// Measures `work`.
    ///
    /// # Errors
    ///
    /// Those of the work.
    pub fn of<R>(work: impl FnOnce() -> Result<R>) -> Result<Self> {
        let (cpu, start) = (usage::cpu(), Instant::now());
        work()?;
        Ok(Self { cpu: usage::cpu().saturating_sub(cpu), wall: start.elapsed() })
    }

    /// The one that took less time on the processor.
    #[must_use]
    pub fn best(self, other: Self) -> Self {
        if other.cpu < self.cpu { other } else { self }
    }
}

/// Writes a file of noise of that length, in a folder of its own in `folder`,
/// and returns its path. Written and not yet on the disk, it is in the page
/// cache.
///
/// # Errors
///
/// Those of the file system.
pub fn make_noise(folder: &Path, mib: u64) -> Result<PathBuf> {
    let source = folder.join("source");
    std::fs::create_dir_all(&source)?;
    let path = source.join("noise");
    let mut file = File::create(&path)?;
    let mut noise = blake3::Hasher::new().update(b"noise").finalize_xof();
    let mut piece = vec![0; usize::try_from(MIB)?];
    for _ in 0..mib {
        noise.fill(&mut piece);
        file.write_all(&piece)?;
    }
    file.sync_all()?;
    Ok(path)
}

/// Memory of the work, and what it has come to.
struct Bench {
    chunker: Chunker,
    hasher: blake3::Hasher,
    packed: Vec<u8>,
    piece: Vec<u8>,
    sealer: PieceSealer,
    nonces: u64,
    histogram: Histogram,
    out: File,
}

/// Does the work with all bytes of a file, once.
///
/// # Errors
///
/// Those of the file system.
pub fn work_through(path: &Path, work: Work) -> Result<()> {
    let usual = Chunking::default();
    let parameters =
        Parameters::new(usual.algorithm, usual.min_bytes, usual.normal_bytes, usual.max_bytes)?;
    let mut bench = Bench {
        chunker: Chunker::new(&parameters),
        hasher: blake3::Hasher::new_keyed(&[1; 32]),
        packed: vec![0; lz4_flex::block::get_maximum_output_size(PIECE_BYTES)],
        piece: vec![0; PIECE_BYTES + PIECE_OVERHEAD_BYTES],
        sealer: PieceSealer::new(Suite::Aes256GcmSiv, &[2; KEY_BYTES]),
        nonces: 0,
        histogram: Histogram::new(),
        out: tempfile::tempfile_in(path.parent().ok_or("no folder")?)?,
    };
    let mut slot = vec![0; parameters.max() + READ_BYTES];
    let mut file = File::open(path)?;
    let mut filled = 0;
    loop {
        let room = (slot.len() - filled).min(READ_BYTES);
        let got = file.read(&mut slot[filled..filled + room])?;
        filled += got;
        let at_end = got == 0;
        let mut start = 0;
        while let Some(cut) = bench.cut(&slot[start..filled], at_end, work) {
            bench.chunk(&slot[start..start + cut], work)?;
            start += cut;
        }
        slot.copy_within(start..filled, 0);
        filled -= start;
        if at_end {
            return Ok(());
        }
    }
}

impl Bench {
    /// Where the chunk ends; where nothing is cut, with what was read.
    fn cut(&mut self, bytes: &[u8], at_end: bool, work: Work) -> Option<usize> {
        if work.does(Work::Cut) {
            self.chunker.find_cut(bytes, at_end)
        } else {
            Some(bytes.len()).filter(|&length| length > 0)
        }
    }

    fn chunk(&mut self, bytes: &[u8], work: Work) -> Result<()> {
        for _ in 0..work.hashes() {
            self.hasher.reset();
            self.hasher.update(bytes);
            std::hint::black_box(self.hasher.finalize());
        }
        if work.does(Work::Count) {
            self.histogram.reset();
            self.histogram.add(bytes);
            std::hint::black_box(self.histogram.entropy());
        }
        for block in bytes.chunks(PIECE_BYTES) {
            if work.does(Work::Compress) {
                let packed = lz4_flex::block::compress_into(block, &mut self.packed);
                std::hint::black_box(packed.is_ok());
            }
            if work.does(Work::Seal) {
                self.nonces += 1;
                let mut nonce = [0; NONCE_BYTES];
                nonce[..8].copy_from_slice(&self.nonces.to_le_bytes());
                self.piece[NONCE_BYTES..NONCE_BYTES + block.len()].copy_from_slice(block);
                std::hint::black_box(self.sealer.seal_in_place(
                    &nonce,
                    &mut self.piece,
                    block.len(),
                ));
            }
            if work.does(Work::Write) {
                self.out.write_all(block)?;
            }
        }
        std::hint::black_box(bytes);
        Ok(())
    }
}

/// Backs the folder of that file up into a new store in `folder`.
///
/// # Errors
///
/// The engine's.
pub fn back_up(path: &Path, folder: &Path) -> Result<()> {
    let root = folder.join("store");
    let mut store = FsStore::new(&root);
    store.create(&repository::config()?)?;
    let source = path.parent().ok_or("no folder")?;
    repository::back_up(folder, store, &mut FsImporter::open(source)?)?;
    Ok(())
}
