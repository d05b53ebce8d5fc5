//! Shannon entropy of chunks and objects, bit for bit as stock computes it.
//!
//! Section 11.8 of the format. Object records hold the entropies and are named
//! by their MAC, so one bit of difference makes another object. What counts is
//! the order of the operations, and that none of them is fused. Stock is Go on
//! amd64, whose binary logarithm is not that of C.

use crate::limits::bound;

/// Tables that are counted in by turns: a byte that repeats need not wait for
/// its own count.
const TABLES: usize = bound(4, 1);

/// How often each byte occurs in a chunk. 4 KiB, or one with the feature `small`.
#[derive(Clone, Debug)]
pub struct Histogram {
    /// The counts of a byte are those of all tables together.
    tables: [[u32; 256]; TABLES],
}

impl Histogram {
    /// A histogram of nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { tables: [[0; 256]; TABLES] }
    }

    /// Forgets everything, for the next chunk.
    pub fn reset(&mut self) {
        *self = Self::new();
    }

    /// Counts `bytes`. Up to 4 GiB between two resets are counted right:
    /// [`CHUNK_BYTES_MAX`](crate::limits::CHUNK_BYTES_MAX) is far below.
    pub fn add(&mut self, bytes: &[u8]) {
        let tables = &mut self.tables;
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            // One load for eight bytes.
            let word = u64::from_le_bytes(*word);
            #[expect(clippy::cast_possible_truncation, reason = "the lowest byte is meant")]
            let byte = |at: usize| (word >> (8 * at)) as u8;
            for at in 0..8 {
                count(&mut tables[at % TABLES], byte(at));
            }
        }
        for byte in rest {
            count(&mut self.tables[0], *byte);
        }
    }

    /// Entropy of what was counted, in bits per byte: from 0 to 8, and 0 of
    /// nothing.
    #[must_use]
    pub fn entropy(&self) -> f64 {
        let counts = || (0..=u8::MAX).map(|byte| self.count(byte));
        let total = counts().sum::<u64>() as f64;
        // In the order of the bytes, subtracting: sums of floating point
        // numbers depend on it.
        counts().filter(|&count| count > 0).fold(0.0, |entropy, count| {
            let share = count as f64 / total;
            entropy - share * log2(share)
        })
    }

    /// How often a byte occurred.
    fn count(&self, byte: u8) -> u64 {
        self.tables.iter().map(|table| u64::from(table[usize::from(byte)])).sum()
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

fn count(table: &mut [u32; 256], byte: u8) {
    let count = &mut table[usize::from(byte)];
    *count = count.wrapping_add(1);
}

/// Entropy of an object: the mean of its chunks', weighted by their lengths.
#[derive(Clone, Copy, Debug, Default)]
pub struct WeightedMean {
    sum: f64,
    length_bytes: u64,
}

impl WeightedMean {
    /// Adds the entropy of the next chunk: the order counts.
    pub fn add(&mut self, entropy: f64, length_bytes: u64) {
        self.sum += entropy * length_bytes as f64;
        self.length_bytes = self.length_bytes.saturating_add(length_bytes);
    }

    /// The mean; 0 if all chunks were empty.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.length_bytes == 0 { 0.0 } else { self.sum / self.length_bytes as f64 }
    }
}

/// Bits of the fraction of an `f64`.
const FRACTION_BITS: u32 = f64::MANTISSA_DIGITS - 1;

/// Bits of the exponent of 0.5, in place.
const HALF_BITS: u64 = 0x3fe << FRACTION_BITS;

/// Go's `math.Log2`, of a normal number above 0: exact for powers of two.
fn log2(x: f64) -> f64 {
    let bits = x.to_bits();
    // x = half * 2^exponent, where 0.5 <= half < 1.
    let half = f64::from_bits(bits & ((1 << FRACTION_BITS) - 1) | HALF_BITS);
    let exponent = f64::from((bits >> FRACTION_BITS) as i32 - 0x3fe);
    if half == 0.5 {
        return exponent - 1.0;
    }
    ln_of_half(half) * (1.0 / core::f64::consts::LN_2) + exponent
}

/// Go's `math.Log` as it is on amd64, of a number from 0.5 to 1.
///
/// The method is that of FreeBSD's `e_log.c`, and so of `libm` today. It is
/// written out because its last bit is a part of the format, and no promise of
/// a library of mathematics.
fn ln_of_half(x: f64) -> f64 {
    const LN2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
    const LN2_LOW: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);
    const L1: f64 = f64::from_bits(0x3fe5_5555_5555_5593);
    const L2: f64 = f64::from_bits(0x3fd9_9999_9997_fa04);
    const L3: f64 = f64::from_bits(0x3fd2_4924_9422_9359);
    const L4: f64 = f64::from_bits(0x3fcc_71c5_1d8e_78af);
    const L5: f64 = f64::from_bits(0x3fc7_4664_96cb_03de);
    const L6: f64 = f64::from_bits(0x3fc3_9a09_d078_c69f);
    const L7: f64 = f64::from_bits(0x3fc2_f112_df3e_5244);

    let (k, x) = if x <= core::f64::consts::FRAC_1_SQRT_2 { (-1.0, x * 2.0) } else { (0.0, x) };
    let f = x - 1.0;
    let s = f / (2.0 + f);
    let s2 = s * s;
    let s4 = s2 * s2;
    let t1 = s2 * (L1 + s4 * (L3 + s4 * (L5 + s4 * L7)));
    let t2 = s4 * (L2 + s4 * (L4 + s4 * L6));
    let r = t1 + t2;
    let half_square = 0.5 * f * f;
    k * LN2_HIGH - ((half_square - (s * (half_square + r) + k * LN2_LOW)) - f)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entropy(bytes: &[u8]) -> f64 {
        let mut histogram = Histogram::new();
        histogram.add(bytes);
        histogram.entropy()
    }

    #[test]
    fn known_answers() {
        let chunk = entropy(b"hello world\n");
        assert_eq!(chunk.to_bits(), 0x4008_2d2b_4806_91b2);
        let mut object = WeightedMean::default();
        object.add(chunk, 12);
        assert_eq!(object.mean().to_bits(), 0x4008_2d2b_4806_91b3);

        assert_eq!(entropy(b"").to_bits(), 0);
        assert_eq!(entropy(&[7; 1000]).to_bits(), 0);
        let all: [u8; 256] = core::array::from_fn(|byte| u8::try_from(byte).unwrap());
        assert_eq!(entropy(&all), 8.0);
        assert_eq!(WeightedMean::default().mean().to_bits(), 0);
    }

    fn splitmix64(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// FNV-1a, but of 64 bits at a time.
    fn digest(values: impl Iterator<Item = f64>) -> u64 {
        values.fold(0xcbf2_9ce4_8422_2325, |sum, value| {
            (sum ^ value.to_bits()).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }

    /// The digests were printed by a program in Go 1.26 for amd64, that did
    /// the same with `math.Log2`.
    #[test]
    fn logarithms_of_stock() {
        let small = (1..=2000).flat_map(|n| (1..=n).map(move |k| f64::from(k) / f64::from(n)));
        assert_eq!(digest(small.map(log2)), 0x5396_0da7_4219_ae08);

        let mut state = 2;
        let large = (0..10_000_000).map(|_| {
            let n = (splitmix64(&mut state) >> 40) + 1;
            let k = splitmix64(&mut state) % n + 1;
            k as f64 / n as f64
        });
        assert_eq!(digest(large.map(log2)), 0xa851_99b3_75ae_fc13);
    }

    /// As above, but with the whole loop of stock.
    #[test]
    fn entropies_of_stock() {
        let mut state = 3;
        let mut random = || splitmix64(&mut state);
        let histograms = (0..100_000).map(|_| {
            let mut histogram = Histogram::new();
            let values = (random() >> 56) + 1;
            let scale = random() % 20;
            for _ in 0..values {
                let count = u32::try_from(random() >> (40 + scale)).unwrap();
                histogram.tables[TABLES - 1][(random() & 0xff) as usize] += count;
            }
            histogram
        });
        let counted =
            histograms.filter(|histogram| (0..=255).any(|byte| histogram.count(byte) > 0));
        assert_eq!(digest(counted.map(|histogram| histogram.entropy())), 0x37b5_5c1c_3148_29c1);
    }

    proptest! {
        #[test]
        fn increments_do_not_matter(
            bytes in proptest::collection::vec(0_u8..20, 0..300),
            at in any::<prop::sample::Index>(),
        ) {
            let (start, end) = bytes.split_at(at.index(bytes.len() + 1));
            let mut histogram = Histogram::default();
            histogram.add(b"something before");
            histogram.reset();
            histogram.add(start);
            histogram.add(end);
            prop_assert_eq!(histogram.entropy().to_bits(), entropy(&bytes).to_bits());
            for byte in 0..20 {
                let wanted = bytes.iter().filter(|&&b| b == byte).count();
                prop_assert_eq!(histogram.count(byte), wanted as u64);
            }
        }
    }
}
