//! FastCDC as stock has it: the masks, and the scan for a cut.
//!
//! Sections 8.2 and 8.3 of the format.

use super::gear::GEAR;

/// The masks that decide where a chunk ends: the more bits, the rarer a cut.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Masks {
    /// Before the normal size is reached: cuts are rare.
    pub(super) small: u64,
    /// From the normal size on: cuts are frequent.
    pub(super) large: u64,
}

impl Masks {
    /// Those of the paper, made for a normal size of 8 KiB; the legacy variant
    /// uses them whatever its sizes are.
    pub(super) const LEGACY: Self =
        Self { small: 0x0003_5907_0353_0000, large: 0x0000_d900_0353_0000 };

    /// Those of `fastcdc-v1.0.0`: two bits more and two bits less than the
    /// logarithm of the normal size, spread over the word.
    pub(super) fn spread(normal_bytes: u32) -> Self {
        let bits = normal_bytes.max(1).ilog2();
        Self { small: spaced(bits + 2), large: spaced(bits.saturating_sub(2)) }
    }
}

/// A word with `count` bits set, at equal distances from the highest down.
fn spaced(count: u32) -> u64 {
    let Some(step) = u64::BITS.checked_div(count) else { return 0 };
    (0..count.min(u64::BITS)).fold(0, |mask, i| mask | 1 << (u64::BITS - 1 - i * step))
}

/// The rolling sum: each byte shifts the ones before it by one bit, so that it
/// depends on the last 64 bytes only.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gear(u64);

impl Gear {
    /// Rolls over `bytes` and returns the position of the first one whose sum
    /// has no bit of `mask`, if there is one.
    #[inline]
    pub(super) fn scan(&mut self, bytes: &[u8], mask: u64) -> Option<usize> {
        let mut sum = self.0;
        // Two bytes at once: both sums come from the one before them, so that
        // every second addition need not wait for the one before it.
        let (pairs, rest) = bytes.as_chunks::<2>();
        for (number, pair) in pairs.iter().enumerate() {
            let [first, second] = pair.map(|byte| GEAR[usize::from(byte)]);
            let half = (sum << 1).wrapping_add(first);
            sum = (sum << 2).wrapping_add((first << 1).wrapping_add(second));
            if half & mask == 0 {
                return Some(2 * number);
            }
            if sum & mask == 0 {
                return Some(2 * number + 1);
            }
        }
        for &byte in rest {
            sum = (sum << 1).wrapping_add(GEAR[usize::from(byte)]);
            if sum & mask == 0 {
                return Some(2 * pairs.len());
            }
        }
        self.0 = sum;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_of_the_format() {
        let stock = Masks { small: 0xaaaa_aaaa_aaa0_0000, large: 0x9249_2492_4924_9000 };
        assert_eq!(Masks::spread(1 << 20), stock);
    }
}
