//! Blocks there and back, by the rules, and what is found in them.

use lz4_flex::block::{decompress_into, decompress_into_with_dict};
use proptest::prelude::*;
use std::vec::Vec;
use std::{format, vec};

use super::*;

/// Numbers that look random, the same at every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(seed: u64, length: usize) -> Vec<u8> {
        let mut noise = Self(seed | 1);
        (0..length).map(|_| noise.next().to_le_bytes()[3]).collect()
    }
}

fn words(seed: u64, length: usize) -> Vec<u8> {
    let mut noise = Noise(seed | 1);
    let mut text = vec![];
    while text.len() < length {
        text.extend(format!("{} of the things ", noise.next() % 500).bytes());
    }
    text.truncate(length);
    text
}

/// Compresses all of it, in linked blocks of that length, after something else.
fn compressed(memory_bytes: usize, plain: &[u8], block_bytes: usize) -> Vec<Vec<u8>> {
    let mut memory = vec![0x55; memory_bytes];
    let mut compressor = Compressor::new(&mut memory, plain.len().min(block_bytes));
    let starts = (0..plain.len().max(1)).step_by(block_bytes);
    let block = |start| {
        let window = &plain[..plain.len().min(start + block_bytes)];
        let mut out = vec![0xaa; window.len() - start + 1 + (window.len() - start) / 255 + 16];
        let whole = compressor.compress(window, start, &mut out).unwrap();
        // Small or not, none is longer than literals alone.
        let literals = window.len() - start;
        assert!(whole <= literals + 1 + if literals < 15 { 0 } else { (literals - 15) / 255 + 1 });
        out.truncate(whole);
        out
    };
    starts.map(block).collect()
}

/// A block on its own.
fn one(plain: &[u8]) -> Vec<u8> {
    compressed(TABLES_BYTES_MAX, plain, plain.len().max(1)).remove(0)
}

/// A length, of which that part is in the token.
fn length(part: u8, rest: &mut impl Iterator<Item = u8>) -> usize {
    let mut length = usize::from(part);
    let mut last = if part == 15 { 255 } else { 0 };
    while last == 255 {
        last = rest.next().unwrap();
        length += usize::from(last);
    }
    length
}

/// The sequences of a block: literals, and distance and length of the match.
fn sequences(block: &[u8], plain_bytes: usize) -> Vec<(usize, usize, usize)> {
    let mut rest = block.iter().copied();
    let mut found = vec![];
    let mut at = 0;
    loop {
        let token = rest.next().unwrap();
        let literals = length(token >> 4, &mut rest);
        at += literals;
        for _ in 0..literals {
            rest.next().unwrap();
        }
        let Some(low) = rest.next() else {
            assert_eq!(at, plain_bytes);
            assert!(found.is_empty() || literals >= LITERALS_BYTES_LAST);
            found.push((literals, 0, 0));
            return found;
        };
        let distance = u16::from_le_bytes([low, rest.next().unwrap()]);
        let length = length(token & 15, &mut rest) + MATCH_BYTES_MIN;
        assert!(distance > 0);
        assert!(at + MATCHLESS_BYTES_LAST <= plain_bytes);
        found.push((literals, usize::from(distance), length));
        at += length;
    }
}

/// Compresses, checks the rules, and decompresses by another's code.
fn there_and_back(memory_bytes: usize, plain: &[u8], block_bytes: usize) -> usize {
    let mut back = vec![0; plain.len()];
    let mut at = 0;
    let mut total = 0;
    for block in compressed(memory_bytes, plain, block_bytes) {
        let (before, room) = back.split_at_mut(at);
        let length = room.len().min(block_bytes);
        sequences(&block, length);
        let history = &before[before.len().saturating_sub(65_536)..];
        let room = &mut room[..length];
        let found = if at == 0 {
            decompress_into(&block, room)
        } else {
            decompress_into_with_dict(&block, room, history)
        };
        assert_eq!(found.unwrap(), length);
        at += length;
        total += block.len();
    }
    assert!(back == plain);
    total
}

#[test]
fn known_answers() {
    assert_eq!(one(b""), b"\x00");
    assert_eq!(one(b"abc"), b"\x30abc");
    // A match could start at the first byte that has twelve behind it, at most.
    assert_eq!(one(b"aaaaaaaaaaaa"), b"\xc0aaaaaaaaaaaa");
    assert_eq!(one(b"aaaaaaaaaaaaa"), b"\x13a\x01\x00\x50aaaaa");
    assert_eq!(one(&[b'a'; 20]), b"\x1aa\x01\x00\x50aaaaa");
    assert_eq!(one(&[b'a'; 300]), b"\x1fa\x01\x00\xff\x14\x50aaaaa");
    // Twenty literals, of which five are in the second byte of the length.
    let twice = b"0123456789abcdefghij0123456789abcdefghij";
    assert_eq!(one(twice), b"\xfb\x050123456789abcdefghij\x14\x00\x50fghij");
    // The match goes back to where it begins, not to where it was seen first.
    let periodic = b"xyzxyzxyzxyzxyzxyzxyzxyz";
    assert_eq!(one(periodic), b"\x3cxyz\x03\x00\x50yzxyz");
}

#[test]
fn every_length() {
    let contents = [Noise::bytes(5, 3000), words(5, 3000), vec![0; 3000]];
    for memory_bytes in [TABLES_BYTES_MIN, TABLES_BYTES_MAX] {
        for content in &contents {
            for length in 0..=3000 {
                there_and_back(memory_bytes, &content[..length], 3000);
            }
        }
    }
}

#[test]
fn lengths_around_blocks() {
    for edge in [65_536, 131_072, 196_608] {
        for length in edge - 20..edge + 20 {
            for plain in [&Noise::bytes(7, length), &words(7, length), &vec![7; length]] {
                there_and_back(TABLES_BYTES_MAX, plain, 65_536);
            }
        }
    }
}

#[test]
fn every_period() {
    for period in (1..300).chain([4095, 4096, 65_534, 65_535, 65_536, 65_537]) {
        let plain: Vec<_> = Noise::bytes(9, period).into_iter().cycle().take(150_000).collect();
        let length = there_and_back(TABLES_BYTES_MAX, &plain, 65_536);
        if period < 1000 {
            assert!(length < period + 150_000 / 255 + 60, "{period}: {length}");
        }
    }
}

#[test]
fn matches_from_as_far_as_may_be() {
    let near = Noise::bytes(11, 40);
    for (distance, wanted) in [(65_534, true), (65_535, true), (65_536, false)] {
        // What lies between is periodic, so that all of it is in the tables.
        let mut plain = near.clone();
        plain.resize(distance, 0);
        plain.extend(&near);
        plain.extend([1; 20]);
        let block = one(&plain);
        let found = sequences(&block, plain.len())
            .iter()
            .any(|&(_, found, length)| found == distance && length >= near.len());
        assert_eq!(found, wanted, "{distance}");
        // From a block to the one before.
        let length = there_and_back(TABLES_BYTES_MAX, &plain, 65_530);
        assert_eq!(length < 340, wanted, "{distance}: {length}");
    }
}

#[test]
fn history_may_be_moved() {
    let plain = [words(13, 300_000), Noise::bytes(13, 70_000), words(13, 100_000)].concat();
    let mut memory = vec![0; TABLES_BYTES_MAX];
    let wanted = compressed(TABLES_BYTES_MAX, &plain, 65_536);
    let mut compressor = Compressor::new(&mut memory, 65_536);
    for (number, wanted) in wanted.iter().enumerate() {
        let end = plain.len().min((number + 1) * 65_536);
        let first = number.saturating_sub(1) * 65_536;
        let start = if number == 0 { 0 } else { 65_536 };
        let mut out = vec![0; 70_000];
        let length = compressor.compress(&plain[first..end], start, &mut out).unwrap();
        assert!(out[..length] == *wanted);
    }
}

#[test]
fn what_was_before_is_not_to_be_seen() {
    let plain = words(17, 5000);
    let mut memory = vec![0xff; TABLES_BYTES_MAX];
    let mut outs = vec![];
    for (before, length) in [(0, 0), (1, 65_536), (2, 5000), (3, 100)] {
        let other = words(before, length);
        let mut out = vec![0; 80_000];
        Compressor::new(&mut memory, other.len()).compress(&other, 0, &mut out).unwrap();
        let mut compressor = Compressor::new(&mut memory, plain.len());
        let length = compressor.compress(&plain, 0, &mut out).unwrap();
        outs.push(out[..length].to_vec());
    }
    assert!(outs.iter().all(|out| *out == outs[0]));
}

#[test]
fn any_room_that_is_too_small() {
    for plain in [words(19, 2000), Noise::bytes(19, 700), vec![0; 9000]] {
        let wanted = one(&plain);
        let mut memory = vec![0; TABLES_BYTES_MAX];
        for room in 0..wanted.len() + 20 {
            let mut out = vec![0; room];
            let mut compressor = Compressor::new(&mut memory, plain.len());
            let length = compressor.compress(&plain, 0, &mut out);
            assert_eq!(length, (room >= wanted.len()).then_some(wanted.len()), "{room}");
        }
    }
}

#[test]
fn what_it_is_for() {
    // Words that occur far apart: a small table forgets them.
    let text = words(23, 1 << 20);
    let large = there_and_back(TABLES_BYTES_MAX, &text, 65_536);
    let small = there_and_back(TABLES_BYTES_MIN, &text, 65_536);
    let reference = text.chunks(65_536).map(lz4_flex::block::compress).map(|block| block.len());
    let reference: usize = reference.sum();
    assert!(large <= small && small < reference, "{large} {small} {reference}");
    // A long match behind a shorter one, which is at the same four bytes.
    let plain = [&b"0123456789abcdef"[..], b"0123####", b"0123456789abcdef", b"............"];
    let plain = plain.concat();
    let found = sequences(&one(&plain), plain.len());
    assert!(found.contains(&(4, 24, 16)), "{found:?}");
    // A match that is beaten by the one at the next position.
    let plain = [&b"bcdefghijk-"[..], b"abcd+", b"abcdefghijk", b"............"].concat();
    let found = sequences(&one(&plain), plain.len());
    assert!(found.contains(&(17, 17, 10)), "{found:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn anything(
        pieces in prop::collection::vec((any::<u64>(), 0..5_usize, 0..3000_usize), 0..60),
        memory_bytes in TABLES_BYTES_MIN..TABLES_BYTES_MAX + 100,
        block_bytes in prop_oneof![Just(65_536_usize), 1..5000_usize],
    ) {
        let mut plain = vec![];
        for (seed, kind, length) in pieces {
            let piece: Vec<_> = match kind {
                0 => Noise::bytes(seed, length),
                1 => words(seed, length),
                2 => vec![seed.to_le_bytes()[0]; length],
                // Few values: short matches everywhere.
                3 => Noise::bytes(seed, length).iter().map(|byte| byte & 3).collect(),
                // What was there before.
                _ => {
                    let from = usize::try_from(seed).unwrap_or(0) % (plain.len() + 1);
                    plain.iter().skip(from).take(length).copied().collect()
                }
            };
            plain.extend(piece);
        }
        there_and_back(memory_bytes, &plain, block_bytes);
    }
}
