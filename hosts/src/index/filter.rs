//! [`Filter`]: answers most questions for what is not there.
//!
//! A Bloom filter in blocks of 64 bytes: one block for a key, four bits in it.
//! Keys are MACs or random, so their own bits serve as hashes. It is kept in
//! the database too, in pieces with check sums, so that opening the index costs
//! one read of it and no walk over all locations.

use tiroir_core::mac::Mac;
use tiroir_core::resource::ResourceKind;

/// Bytes of a block.
const BLOCK_BYTES: usize = 64;

/// Bytes of a piece, as written to the database.
pub(super) const PIECE_BYTES: usize = 4096;

/// Bits set for a key.
const PROBES: u32 = 4;

/// Fewest bits for each key with which the filter is worth asking: a seventh
/// of the misses still goes to the database then.
const BITS_PER_KEY_MIN: u64 = 4;

/// Which keys are surely absent, in a fixed number of bytes.
#[derive(Debug)]
pub(super) struct Filter {
    bytes: Vec<u8>,
    /// Pieces that changed since they were written.
    dirty: Vec<bool>,
    keys: u64,
}

impl Filter {
    /// An empty filter in at most `budget_bytes`, or none if that is too little
    /// for `keys`.
    pub(super) fn new(budget_bytes: usize, keys: u64) -> Option<Self> {
        let pieces = budget_bytes / PIECE_BYTES;
        let filter =
            Self { bytes: vec![0; pieces * PIECE_BYTES], dirty: vec![false; pieces], keys: 0 };
        (pieces > 0 && keys <= filter.keys_max()).then_some(filter)
    }

    fn keys_max(&self) -> u64 {
        self.bytes.len() as u64 * 8 / BITS_PER_KEY_MIN
    }

    /// Whether it holds so many keys that asking it is a waste.
    pub(super) fn is_full(&self) -> bool {
        self.keys > self.keys_max()
    }

    /// Start of a key's block, and a number whose bits tell those in it.
    fn place(&self, kind: ResourceKind, mac: &Mac) -> (usize, u64) {
        let word = |start: usize| {
            let bytes = mac.0[start..start + 8].try_into().unwrap_or_default();
            u64::from_le_bytes(bytes)
        };
        let blocks = (self.bytes.len() / BLOCK_BYTES) as u64;
        // A product of 128 bits spreads keys over any number of blocks.
        let block = (u128::from(word(0)) * u128::from(blocks)) >> 64;
        let block = usize::try_from(block).unwrap_or(0);
        (block * BLOCK_BYTES, word(8) ^ u64::from(kind.0).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Bits of a key, as positions in its block.
    fn bits(mut number: u64) -> impl Iterator<Item = (usize, u8)> {
        (0..PROBES).map(move |_| {
            let [low, high, ..] = number.to_le_bytes();
            number >>= 9;
            (usize::from(low) >> 3 | usize::from(high & 1) << 5, 1 << (low & 7))
        })
    }

    /// Adds a key.
    pub(super) fn insert(&mut self, kind: ResourceKind, mac: &Mac) {
        let (start, number) = self.place(kind, mac);
        let mut changed = false;
        for (byte, bit) in Self::bits(number) {
            let byte = &mut self.bytes[start + byte];
            changed |= *byte & bit == 0;
            *byte |= bit;
        }
        if changed {
            self.dirty[start / PIECE_BYTES] = true;
            self.keys += 1;
        }
    }

    /// Whether a key may have been added; if not, it was not.
    pub(super) fn may_hold(&self, kind: ResourceKind, mac: &Mac) -> bool {
        let (start, number) = self.place(kind, mac);
        Self::bits(number).all(|(byte, bit)| self.bytes[start + byte] & bit != 0)
    }

    /// Number of pieces.
    pub(super) fn pieces(&self) -> usize {
        self.dirty.len()
    }

    /// Adds the keys of a piece that another process wrote; whether it fits.
    pub(super) fn merge(&mut self, piece: usize, bytes: &[u8]) -> bool {
        let own = self.bytes.chunks_exact_mut(PIECE_BYTES).nth(piece);
        match own {
            Some(own) if bytes.len() == PIECE_BYTES => {
                let (own, _) = own.as_chunks_mut::<8>();
                for (own, other) in own.iter_mut().zip(bytes.as_chunks::<8>().0) {
                    *own = (u64::from_le_bytes(*own) | u64::from_le_bytes(*other)).to_le_bytes();
                }
                true
            }
            _ => false,
        }
    }

    /// Reckons from the bits how many keys there are, after [`merge`](Self::merge).
    pub(super) fn count_keys(&mut self) {
        let words = self.bytes.as_chunks::<8>().0.iter();
        let set: u64 = words.map(|word| u64::from(u64::from_le_bytes(*word).count_ones())).sum();
        let all = self.bytes.len() as u64 * 8;
        // Few bits fall together while the filter is of use, so this is a little
        // low; ln(1 / (1 - x)) = x + x^2/2 + ... to two terms.
        self.keys = (set + set * set / (2 * all)) / u64::from(PROBES);
    }

    /// Marks everything as changed.
    pub(super) fn touch(&mut self) {
        self.dirty.fill(true);
    }

    /// Calls `write` with every piece that changed.
    pub(super) fn write<E>(
        &mut self,
        mut write: impl FnMut(usize, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let pieces = self.bytes.chunks_exact(PIECE_BYTES);
        for (number, (piece, dirty)) in pieces.zip(&mut self.dirty).enumerate() {
            if *dirty {
                write(number, piece)?;
                *dirty = false;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    fn key(random: &mut Random) -> Mac {
        Mac::from_slice(&random.bytes(32)).unwrap()
    }

    #[test]
    fn never_denies_what_it_holds_and_seldom_claims_what_it_does_not() {
        let mut random = Random::new(1);
        let mut filter = Filter::new(16 * 1024, 0).unwrap();
        let held: Vec<Mac> = (0..16_000).map(|_| key(&mut random)).collect();
        held.iter().for_each(|mac| filter.insert(ResourceKind::CHUNK, mac));
        assert!(!filter.is_full());
        assert!(held.iter().all(|mac| filter.may_hold(ResourceKind::CHUNK, mac)));
        let wrong =
            (0..10_000).filter(|_| filter.may_hold(ResourceKind::CHUNK, &key(&mut random))).count();
        assert!(wrong < 600, "{wrong}");
        let other = held.iter().filter(|mac| filter.may_hold(ResourceKind::OBJECT, mac)).count();
        assert!(other < 1200, "{other}");
    }

    #[test]
    fn pieces_carry_everything() {
        let mut random = Random::new(2);
        let mut filter = Filter::new(20_000, 0).unwrap();
        let held: Vec<Mac> = (0..5000).map(|_| key(&mut random)).collect();
        held.iter().for_each(|mac| filter.insert(ResourceKind::CHUNK, mac));
        let mut copy = Filter::new(20_000, 0).unwrap();
        filter
            .write(|number, piece| if copy.merge(number, piece) { Ok(()) } else { Err(()) })
            .unwrap();
        copy.count_keys();
        assert!(held.iter().all(|mac| copy.may_hold(ResourceKind::CHUNK, mac)));
        assert!(copy.keys.abs_diff(5000) < 500, "{}", copy.keys);
        filter.write(|_, _| Err(())).unwrap();
        assert!(!copy.merge(4, &[0; PIECE_BYTES]) && !copy.merge(0, &[0; 10]));
        assert!(Filter::new(4000, 0).is_none() && Filter::new(4096, 10_000).is_none());
    }
}
