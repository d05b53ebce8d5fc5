//! Blocks of LZ4, compressed in lent memory.
//!
//! ```text
//! | token | more of the literals' length | literals | distance, 2 | more of the match's length |
//! ```
//!
//! A block is a row of such sequences. The token has both lengths, four bits
//! each, and the last sequence ends with its literals. A match has 4 bytes at
//! least and comes from 65535 bytes before, at most. Readers rely on two rules
//! more: the last five bytes are literals, and no match starts in the last
//! twelve.
//!
//! Two tables say where bytes were seen last, one by the next four of them, one
//! by the next seven: the second finds long matches behind short ones. An entry
//! is the low half of a position, which is enough, since nothing further back
//! may be referred to, and whatever it leads to is compared. So blocks may be
//! linked, and it does not matter where in memory the history of a block lies,
//! as long as that moves by 64 KiB at a time; with the feature `small` it moves by
//! less, and what is further back than the block before is not found again.

use core::mem;

use crate::limits::bound;

/// Position of bytes in a window, modulo 64 KiB.
type Entry = [u8; 2];

/// Least memory for the tables, in bytes.
pub(crate) const TABLES_BYTES_MIN: usize =
    bound(2 * size_of::<Table<SMALL>>(), 2 * size_of::<Table<TINY>>());

/// Memory for the tables beyond which more is of no use, in bytes.
pub(crate) const TABLES_BYTES_MAX: usize = 2 * size_of::<Table<LARGE>>();

/// A table of so many entries.
type Table<const N: usize> = [Entry; N];

/// Entries of tables for units of up to twice as many bytes: clearing larger ones
/// would take longer than all the rest.
const TINY: usize = bound(1 << 12, 1 << 11);

/// The same for units that are larger, and for all that are in little memory.
const SMALL: usize = 1 << 13;

/// Entries of the largest tables: half of what can be referred to.
const LARGE: usize = 1 << 15;

// Else there would have to be memory for larger tables.
const _: () = assert!(!cfg!(feature = "small") || super::BLOCK_BYTES <= 2 * TINY);

/// Shortest match of the format, in bytes.
const MATCH_BYTES_MIN: usize = 4;

/// Bytes by which the second table is hashed.
const LONG_KEY_BYTES: u32 = 7;

/// Last bytes of a block, which are literals.
const LITERALS_BYTES_LAST: usize = 5;

/// Last bytes of a block, in which no match starts.
const MATCHLESS_BYTES_LAST: usize = 12;

/// Shortest block that is looked at, in bytes.
const BLOCK_BYTES_MIN: usize = MATCHLESS_BYTES_LAST + 1;

/// Length of a match that is taken without looking for a better one, in bytes.
/// So runs cost nearly nothing.
const MATCH_BYTES_ENOUGH: usize = 64;

/// How many positions behind the start of a match are tried for a better one.
const LAZY_STEPS: usize = 1;

/// After two to the power of this many positions without a match, they are
/// looked at one position further apart. Most files of a home are compressed
/// already.
const SKIP_SHIFT: u32 = 6;

/// Positions without a match, one after the other, behind which the second
/// table is left alone until there is one.
const LONG_MISSES_MAX: usize = 16;

/// Compresses the blocks of one frame after another.
#[derive(Debug)]
pub(super) enum Compressor<'m> {
    Tiny(Search<'m, TINY>),
    Small(Search<'m, SMALL>),
    Large(Search<'m, LARGE>),
}

/// What looks for matches.
#[derive(Debug)]
pub(super) struct Search<'m, const N: usize> {
    /// Where a hash of four bytes was seen last.
    short: &'m mut Table<N>,
    /// Where a hash of seven bytes was seen last.
    long: &'m mut Table<N>,
    /// Positions without a match since the last one, halved at each block.
    misses: usize,
}

/// Equal bytes, found.
#[derive(Clone, Copy)]
struct Match {
    at: usize,
    from: usize,
    length: usize,
}

impl<'m> Compressor<'m> {
    /// Makes tables of `memory`, which has [`TABLES_BYTES_MIN`], for a frame
    /// whose first block has that length.
    pub(super) fn new(memory: &'m mut [u8], block_bytes: usize) -> Self {
        let (entries, _) = memory.as_chunks_mut::<{ size_of::<Entry>() }>();
        if block_bytes <= 2 * TINY {
            Self::Tiny(Search::new(entries))
        } else if block_bytes <= 2 * SMALL || entries.len() < 2 * LARGE {
            Self::Small(Search::new(entries))
        } else {
            Self::Large(Search::new(entries))
        }
    }

    /// Compresses the block that starts at `start` of `window` and ends with
    /// it. What is before is the end of the frame so far: all of it, or the
    /// last 64 KiB.
    ///
    /// Gives the length written to `out`, none when that is too small.
    pub(super) fn compress(
        &mut self,
        window: &[u8],
        start: usize,
        out: &mut [u8],
    ) -> Option<usize> {
        match self {
            Self::Tiny(search) => search.compress(window, start, out),
            Self::Small(search) => search.compress(window, start, out),
            Self::Large(search) => search.compress(window, start, out),
        }
    }
}

impl<'m, const N: usize> Search<'m, N> {
    fn new(entries: &'m mut [Entry]) -> Self {
        let (short, rest) = entries.split_at_mut(N);
        let (tables, _) = short.as_chunks_mut();
        let (more, _) = rest.as_chunks_mut();
        let search = Self { short: &mut tables[0], long: &mut more[0], misses: 0 };
        // Whatever was compressed before is not to be seen.
        search.short.fill([0; 2]);
        search.long.fill([0; 2]);
        search
    }

    fn compress(&mut self, window: &[u8], start: usize, out: &mut [u8]) -> Option<usize> {
        let mut sequences = Sequences { out, length: 0 };
        let mut literals = start;
        self.misses /= 2;
        if window.len() - start >= BLOCK_BYTES_MIN {
            let last = window.len() - MATCHLESS_BYTES_LAST;
            let mut at = start;
            while at <= last {
                let found = if self.misses < LONG_MISSES_MAX {
                    let Some(found) = self.find(window, at, MATCH_BYTES_MIN - 1) else {
                        self.misses += 1;
                        at += 1;
                        continue;
                    };
                    found
                } else {
                    let Some(found) = scan(self.short, window, at, last, &mut self.misses) else {
                        break;
                    };
                    found
                };
                self.misses = 0;
                let (found, seen) = self.better(window, last, found);
                let found = longer(window, literals, found);
                sequences.put(window, literals, &found)?;
                at = found.at + found.length;
                if at <= last {
                    self.note(window, seen, at);
                }
                literals = at;
            }
        }
        sequences.end(&window[literals..])?;
        Some(sequences.length)
    }

    /// The longest match at a position that the tables know, if it is longer
    /// than `beaten`; the tables know the position afterwards.
    #[inline(always)]
    fn find(&mut self, window: &[u8], at: usize, beaten: usize) -> Option<Match> {
        let next = word(window, at)?;
        let mut best = Match { at, from: 0, length: beaten };
        let (long, short) = self.replace(next, at);
        compare(window, next, long, &mut best);
        if best.length <= LONG_KEY_BYTES as usize {
            compare(window, next, short, &mut best);
        }
        (best.length > beaten).then_some(best)
    }

    /// A match that starts a little later and is longer by more than that, and
    /// the last position that the tables know.
    #[inline(always)]
    fn better(&mut self, window: &[u8], last: usize, found: Match) -> (Match, usize) {
        let (mut best, mut at) = (found, found.at);
        while best.length < MATCH_BYTES_ENOUGH && at < last && at - best.at < LAZY_STEPS {
            at += 1;
            if let Some(found) = self.find(window, at, best.length + (at - best.at - 1)) {
                best = found;
            }
        }
        (best, at)
    }

    /// Puts some positions of a match into the tables: those next to its ends,
    /// where what follows may begin again.
    #[inline(always)]
    fn note(&mut self, window: &[u8], seen: usize, end: usize) {
        for at in [seen + 1, end - 4, end - 2, end - 1] {
            if at > seen && at < end {
                let Some(next) = word(window, at) else { return };
                self.replace(next, at);
            }
        }
    }

    /// Puts a position into both tables, and gives what they had in its place.
    #[inline(always)]
    fn replace(&mut self, next: u64, at: usize) -> (Entry, Entry) {
        let key = next << (u64::BITS - 8 * LONG_KEY_BYTES);
        let hash = key.wrapping_mul(0x9e37_79b1_85eb_ca87) >> (u64::BITS - N.ilog2());
        #[expect(clippy::cast_possible_truncation, reason = "it has 15 bits at most")]
        let long = mem::replace(&mut self.long[hash as usize % N], entry(at));
        (long, replace_short(self.short, next, at))
    }
}

#[inline(always)]
fn replace_short<const N: usize>(short: &mut Table<N>, next: u64, at: usize) -> Entry {
    #[expect(clippy::cast_possible_truncation, reason = "its first four bytes")]
    let hash = (next as u32).wrapping_mul(0x9e37_79b1) >> (u32::BITS - N.ilog2());
    mem::replace(&mut short[hash as usize % N], entry(at))
}

/// The next match, where there was none for a while, by the first table alone.
/// A function of its own is twice as fast, and noise is what a backup sees most.
#[inline(never)]
fn scan<const N: usize>(
    short: &mut Table<N>,
    window: &[u8],
    mut at: usize,
    last: usize,
    misses: &mut usize,
) -> Option<Match> {
    let mut missed = *misses;
    let mut found = None;
    while found.is_none() && at <= last {
        let next = word(window, at)?;
        let entry = replace_short(short, next, at);
        let mut best = Match { at, from: 0, length: MATCH_BYTES_MIN - 1 };
        compare(window, next, entry, &mut best);
        if best.length >= MATCH_BYTES_MIN {
            found = Some(best);
        }
        at += 1 + (missed >> SKIP_SHIFT);
        missed += 1;
    }
    *misses = missed;
    found
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is what is kept")]
fn entry(at: usize) -> Entry {
    (at as u16).to_le_bytes()
}

/// Eight bytes at a position.
#[inline(always)]
fn word(window: &[u8], at: usize) -> Option<u64> {
    // One comparison for both ends.
    if window.len() < 8 || at > window.len() - 8 {
        return None;
    }
    window[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// Takes for the best match what an entry leads to, if it is.
#[inline(always)]
fn compare(window: &[u8], next: u64, found: Entry, best: &mut Match) {
    let distance = u16::from_le_bytes(entry(best.at)).wrapping_sub(u16::from_le_bytes(found));
    // What is before the window becomes what is far behind it.
    let from = best.at.wrapping_sub(usize::from(distance));
    let Some(word) = word(window, from) else { return };
    let different = word ^ next;
    #[expect(clippy::cast_possible_truncation, reason = "the first four bytes")]
    if different as u32 != 0 || distance == 0 {
        return;
    }
    let length = if different == 0 {
        8 + equal_bytes(window, from + 8, best.at + 8)
    } else {
        (different.trailing_zeros() / 8) as usize
    };
    let length = length.min(window.len() - LITERALS_BYTES_LAST - best.at);
    if length > best.length {
        best.length = length;
        best.from = from;
    }
}

/// How many bytes are equal at two positions, of which `at` is the later one.
fn equal_bytes(window: &[u8], from: usize, at: usize) -> usize {
    let (Some(older), Some(newer)) = (window.get(from..), window.get(at..)) else { return 0 };
    let (older_words, _) = older.as_chunks::<8>();
    let (newer_words, newer_rest) = newer.as_chunks::<8>();
    let mut length = 0;
    for (older, newer) in older_words.iter().zip(newer_words) {
        let different = u64::from_le_bytes(*older) ^ u64::from_le_bytes(*newer);
        if different != 0 {
            return length + (different.trailing_zeros() / 8) as usize;
        }
        length += 8;
    }
    let rest = older[length..].iter().zip(newer_rest);
    length + rest.take_while(|(older, newer)| older == newer).count()
}

/// The match with what is equal before it, down to where literals start.
#[inline(always)]
fn longer(window: &[u8], literals: usize, found: Match) -> Match {
    let before = window[literals..found.at].iter().rev().zip(window[..found.from].iter().rev());
    let more = before.take_while(|(newer, older)| newer == older).count();
    Match { at: found.at - more, from: found.from - more, length: found.length + more }
}

/// A block as it is written.
struct Sequences<'o> {
    out: &'o mut [u8],
    length: usize,
}

/// Literals that are copied as so many bytes, of which some are too many.
const LITERALS_BYTES_COPIED: usize = 16;

impl Sequences<'_> {
    /// Writes the literals from that position on, and the match after them.
    #[inline(always)]
    fn put(&mut self, window: &[u8], literals: usize, found: &Match) -> Option<()> {
        let more = found.length - MATCH_BYTES_MIN;
        self.literals(&window[literals..], found.at - literals, nibble(more))?;
        #[expect(clippy::cast_possible_truncation, reason = "none is further back")]
        let distance = (found.at - found.from) as u16;
        let [low, high] = distance.to_le_bytes();
        self.byte(low)?;
        self.byte(high)?;
        self.rest(more)
    }

    /// Writes the last literals.
    fn end(&mut self, literals: &[u8]) -> Option<()> {
        self.literals(literals, literals.len(), 0)
    }

    /// Writes a token and the first `count` of `bytes`.
    #[inline(always)]
    fn literals(&mut self, bytes: &[u8], count: usize, low: u8) -> Option<()> {
        self.byte(nibble(count) << 4 | low)?;
        self.rest(count)?;
        let room = self.out.get_mut(self.length..)?;
        // A copy of known length is much cheaper than one of the right length.
        if count <= LITERALS_BYTES_COPIED
            && let Some(bytes) = bytes.first_chunk::<LITERALS_BYTES_COPIED>()
            && let Some(room) = room.first_chunk_mut::<LITERALS_BYTES_COPIED>()
        {
            *room = *bytes;
        } else {
            room.get_mut(..count)?.copy_from_slice(&bytes[..count]);
        }
        self.length += count;
        Some(())
    }

    /// Writes what of a length is not in the token.
    #[inline(always)]
    fn rest(&mut self, length: usize) -> Option<()> {
        let Some(mut left) = length.checked_sub(15) else { return Some(()) };
        while left >= 255 {
            self.byte(255)?;
            left -= 255;
        }
        #[expect(clippy::cast_possible_truncation, reason = "less than 255 is left")]
        self.byte(left as u8)
    }

    #[inline(always)]
    fn byte(&mut self, byte: u8) -> Option<()> {
        *self.out.get_mut(self.length)? = byte;
        self.length += 1;
        Some(())
    }
}

/// What of a length is in the token.
#[expect(clippy::cast_possible_truncation, reason = "it is 15 at most")]
fn nibble(length: usize) -> u8 {
    length.min(15) as u8
}

#[cfg(test)]
mod tests;
