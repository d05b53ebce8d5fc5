//! Filters: answer most questions for what a run does not hold.
//!
//! A Bloom filter of [`GROUP_BYTES`] for each group of records between two
//! fences: the fences tell which group a key would lie in, and four bits of the
//! group whether it may. So a filter grows with its run, is written as the run
//! is written, in order and without memory for the whole, and takes one byte for
//! a record. Keys are MACs or random: their own bits serve as hashes.

/// Bytes for a group of records.
pub(super) const GROUP_BYTES: usize = 32;

/// Bits set for a key.
const PROBES: u32 = 4;

/// What is known of one group.
pub(super) type Group = [u8; GROUP_BYTES];

/// Bits of a key, as bytes of a group and masks.
fn bits(mut word: u64) -> impl Iterator<Item = (usize, u8)> {
    (0..PROBES).map(move |_| {
        let low = word.to_le_bytes()[0];
        word >>= 8;
        (usize::from(low >> 3), 1 << (low & 7))
    })
}

/// Adds a key.
pub(super) fn insert(group: &mut Group, word: u64) {
    for (byte, bit) in bits(word) {
        group[byte] |= bit;
    }
}

/// Whether one of the groups in `bytes` may hold the key; if not, none does.
pub(super) fn may_hold(bytes: &[u8], word: u64) -> bool {
    let holds = |group: &Group| bits(word).all(|(byte, bit)| group[byte] & bit != 0);
    bytes.as_chunks::<GROUP_BYTES>().0.iter().any(holds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn never_denies_what_it_holds_and_seldom_claims_what_it_does_not() {
        let mut random = Random::new(1);
        let mut wrong = 0;
        for _ in 0..200 {
            let mut group = [0; GROUP_BYTES];
            let held: Vec<u64> = (0..32).map(|_| random.next()).collect();
            held.iter().for_each(|word| insert(&mut group, *word));
            assert!(held.iter().all(|word| may_hold(&group, *word)));
            wrong += (0..100).filter(|_| may_hold(&group, random.next())).count();
        }
        // Of 20 000: 2.4 % are to be expected.
        assert!((200..800).contains(&wrong), "{wrong}");
    }

    #[test]
    fn any_of_several_groups_will_do() {
        let mut groups = [[0; GROUP_BYTES]; 3];
        insert(&mut groups[2], 77);
        assert!(may_hold(groups.as_flattened(), 77));
        assert!(!may_hold(groups[..2].as_flattened(), 77) && !may_hold(&[], 77));
    }
}
