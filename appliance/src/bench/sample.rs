//! What the processor is tried on: the same bytes on every machine.
//!
//! ```text
//! | text, 1 MiB | noise, 1 MiB | both in turns of 64 KiB, 2 MiB |
//! ```
//!
//! Text compresses about as texts and programs do; noise does not, like
//! photographs and films.

use std::ops::Range;

/// Length of the sample, in bytes: some of stock's chunks.
pub(crate) const SAMPLE_BYTES: usize = 4 * MIB;

/// Where the text is.
pub(crate) const TEXT: Range<usize> = 0..MIB;

/// Where the noise is.
pub(crate) const NOISE: Range<usize> = MIB..2 * MIB;

/// Where both are.
pub(crate) const MIXED: Range<usize> = 2 * MIB..SAMPLE_BYTES;

const MIB: usize = 1024 * 1024;

/// Bytes of one kind in a row.
const TURN_BYTES: usize = 64 * 1024;

/// Different words of the text.
const WORDS: usize = 1024;

/// Longest word.
const WORD_BYTES_MAX: usize = 10;

/// Fills the sample, which has [`SAMPLE_BYTES`].
pub(crate) fn fill(sample: &mut [u8]) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let words = Words::new(&mut random);
    words.write(&mut random, &mut sample[TEXT]);
    random.write(&mut sample[NOISE]);
    for (number, turn) in sample[MIXED].chunks_mut(TURN_BYTES).enumerate() {
        if number % 2 == 0 {
            words.write(&mut random, turn);
        } else {
            random.write(turn);
        }
    }
}

/// Xorshift: for bytes without a pattern that LZ4 would find, and for no more.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `end`, from the better half of the bits.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from((self.next() >> 33) % (end as u64)).unwrap_or(0)
    }

    fn write(&mut self, out: &mut [u8]) {
        for word in out.chunks_mut(8) {
            word.copy_from_slice(&self.next().to_le_bytes()[..word.len()]);
        }
    }
}

/// A language: its words, each with a blank behind it.
struct Words(Vec<([u8; WORD_BYTES_MAX + 1], usize)>);

impl Words {
    fn new(random: &mut Random) -> Self {
        let word = |_| {
            let (mut word, length) = ([b' '; WORD_BYTES_MAX + 1], 4 + random.below(7));
            for letter in &mut word[..length] {
                *letter = b"etaoinshrdlcumwfgypbvk"[random.below(22).min(random.below(22))];
            }
            (word, length + 1)
        };
        Self((0..WORDS).map(word).collect())
    }

    /// Fills `out` with words, some far oftener than others.
    fn write(&self, random: &mut Random, out: &mut [u8]) {
        let mut at = 0;
        while at < out.len() {
            let [a, b] = [0; 2].map(|_| random.below(WORDS));
            let Some((word, length)) = self.0.get(a.min(b).min(random.below(WORDS))) else {
                return;
            };
            let length = (*length).min(out.len() - at);
            out[at..at + length].copy_from_slice(&word[..length]);
            at += length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiroir_core::codec::{Codec, ENCODE_SCRATCH_BYTES, EncodeScratch, Encoder};
    use tiroir_core::compression::Compression;

    #[test]
    fn text_compresses_and_noise_does_not() {
        let mut sample = vec![0; SAMPLE_BYTES];
        fill(&mut sample);
        let mut memory = vec![0; ENCODE_SCRATCH_BYTES];
        let mut scratch = EncodeScratch::new(&mut memory).unwrap();
        let codec = Codec { compression: Compression::Lz4, cipher: None };
        let mut percent = |part: Range<usize>| {
            let bytes = part.len() as u64;
            let random = |_: &mut [u8]| Ok::<(), std::convert::Infallible>(());
            let encoder = Encoder::new(&codec, &mut scratch, random, |_| Ok(())).unwrap();
            encoder.finish_with(&sample[part]).unwrap() * 100 / bytes
        };
        let [text, noise, mixed] = [TEXT, NOISE, MIXED].map(&mut percent);
        assert!((35..=60).contains(&text), "{text}");
        assert_eq!(noise, 100);
        // A turn of text cannot refer to the one before: that is too far back.
        assert!((text + 97) / 2 <= mixed && mixed <= (text + 108) / 2, "{mixed}");
    }
}
