//! Random numbers that are the same on every run and every machine.

/// SplitMix64: a seed in, a sequence out. Not for secrets.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Starts the sequence of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be zero. The bias of the modulus
    /// does not matter here.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound
    }

    /// [`below`](Self::below), for positions in memory.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("below a usize")
    }

    /// `length` bytes that no algorithm compresses.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.bits().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    /// `length` bytes of words, with a rising number in each line: compressible
    /// and without repeated chunks.
    pub fn text(&mut self, length: usize) -> Vec<u8> {
        const WORDS: [&str; 16] = [
            "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa",
            "lambda", "mu", "nu", "xi", "omicron", "pi",
        ];
        let mut bytes = Vec::with_capacity(length + 128);
        let mut line = 0u32;
        while bytes.len() < length {
            bytes.extend_from_slice(format!("{line:08}").as_bytes());
            let mut bits = self.bits();
            for _ in 0..12 {
                bytes.push(b' ');
                bytes.extend_from_slice(WORDS[(bits & 15) as usize].as_bytes());
                bits >>= 4;
            }
            bytes.push(b'\n');
            line += 1;
        }
        bytes.truncate(length);
        bytes
    }
}
