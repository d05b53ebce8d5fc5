//! Cuts by the rules of section 8 of the format, word for word: what the
//! chunker is held against in tests.

#![allow(clippy::std_instead_of_alloc, reason = "tests have std whatever the features")]

use std::vec::Vec;

use super::gear::GEAR;

/// The lengths of the chunks of `stream`. Sizes are those of CONFIG: least,
/// normal and largest, 0 for the algorithm's own.
///
/// # Panics
///
/// For sizes that the format does not have.
#[must_use]
pub fn naive_cuts(algorithm_name: &[u8], sizes: [u32; 3], stream: &[u8]) -> Vec<usize> {
    let [min, normal, max] = [(sizes[0], 2048), (sizes[1], 8192), (sizes[2], 65_536)]
        .map(|(size, default)| if size == 0 { default } else { size });
    let is_legacy = !algorithm_name.eq_ignore_ascii_case(b"fastcdc-v1.0.0")
        || [min, normal, max] == [2048, 8192, 65_536];
    let (mask_small, mask_large) = if is_legacy {
        (0x0003_5907_0353_0000, 0x0000_d900_0353_0000)
    } else {
        let bits = normal.ilog2();
        (spaced(bits + 2), spaced(bits - 2))
    };
    let [min, normal, max] = [min, normal, max].map(|size| size as usize);
    let (mut rest, mut lengths) = (stream, Vec::new());
    loop {
        let data = &rest[..rest.len().min(max)];
        let mut cut = data.len();
        let change = if data.len() >= max { normal } else { normal.min(data.len()) };
        let (mut print, mut mask) = (0_u64, mask_small);
        for (i, byte) in data.iter().enumerate().skip(min) {
            if i == change {
                mask = mask_large;
            }
            print = (print << 1).wrapping_add(GEAR[usize::from(*byte)]);
            if print & mask == 0 {
                cut = i;
                break;
            }
        }
        lengths.push(cut);
        rest = &rest[cut..];
        if rest.is_empty() {
            return lengths;
        }
    }
}

fn spaced(count: u32) -> u64 {
    let step = 64 / count;
    (0..count).map(|i| 1 << (63 - i * step)).sum()
}
