//! Does one part of a backup's arithmetic with so many MiB, and nothing else: for
//! counting its instructions. `parts PART MIB`; with 0 MiB, what is not the part.

use std::hint::black_box;
use std::process::ExitCode;

use tiroir_core::chunker::{Chunker, Parameters};
use tiroir_core::codec::{Codec, ENCODE_SCRATCH_BYTES_MIN, EncodeScratch, Encoder};
use tiroir_core::compression::Compression;
use tiroir_core::crypto::{KEY_BYTES, StoreKey, Suite};
use tiroir_core::entropy::Histogram;
use tiroir_core::mac::{HashAlgorithm, MacKey};
use tiroir_core::wire::config::Chunking;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const HELP: &str = "parts chunking|entropy|blake3|sha256|lz4|aes256-gcm-siv|chacha20-poly1305 MIB";

/// Bytes that are worked on at once.
const MIB: usize = 1024 * 1024;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        [part, mib] => mib.parse().map_err(Into::into).and_then(|mib| work(part, mib)),
        _ => Err(HELP.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn work(part: &str, mib: u32) -> Result<()> {
    let content = content();
    let key = || StoreKey::new([1; KEY_BYTES]);
    let sealed = |suite| Codec { compression: Compression::None, cipher: Some((key(), suite)) };
    let packed = Codec { compression: Compression::Lz4, cipher: None };
    for _ in 0..mib {
        match part {
            "chunking" => cut(&content)?,
            "entropy" => {
                let mut histogram = Histogram::new();
                histogram.add(&content);
                black_box(histogram.entropy());
            }
            "blake3" => hash(HashAlgorithm::Blake3, &content),
            "sha256" => hash(HashAlgorithm::Sha256, &content),
            "lz4" => encode(&packed, &content)?,
            "aes256-gcm-siv" => encode(&sealed(Suite::Aes256GcmSiv), &content)?,
            "chacha20-poly1305" => encode(&sealed(Suite::ChaCha20Poly1305), &content)?,
            _ => return Err(HELP.into()),
        }
    }
    Ok(())
}

/// A mebibyte, half of it noise and half of it words, in turns.
fn content() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let words: Vec<[u8; 8]> = (0..256).map(|_| random().to_le_bytes()).collect();
    let mut content = Vec::with_capacity(MIB);
    for at in 0..MIB / 8 {
        let word = random();
        let is_text = at / 8192 % 2 == 0;
        let known = words.get(usize::try_from(word >> 56).unwrap_or(0)).filter(|_| is_text);
        content.extend_from_slice(&known.copied().unwrap_or(word.to_le_bytes()));
    }
    content
}

/// Cuts as stock does. The first half of a mebibyte is the least length of a chunk:
/// a shorter one has every byte looked at.
fn cut(content: &[u8]) -> Result<()> {
    let Chunking { algorithm, max_bytes, .. } = Chunking::default();
    let parameters = Parameters::new(algorithm, 64, max_bytes, max_bytes)?;
    black_box(Chunker::new(&parameters).find_cut(content, true));
    Ok(())
}

fn hash(algorithm: HashAlgorithm, content: &[u8]) {
    black_box(MacKey::new(algorithm, [2; 32]).mac(content));
}

fn encode(codec: &Codec, content: &[u8]) -> Result<()> {
    let mut memory = vec![0; ENCODE_SCRATCH_BYTES_MIN];
    let mut scratch = EncodeScratch::new(&mut memory)?;
    // Keys that seal nothing that anybody keeps.
    let random = |out: &mut [u8]| {
        out.fill(3);
        Ok::<(), std::convert::Infallible>(())
    };
    let out = |bytes: &[u8]| {
        black_box(bytes);
        Ok(())
    };
    black_box(Encoder::new(codec, &mut scratch, random, out)?.finish_with(content)?);
    Ok(())
}
