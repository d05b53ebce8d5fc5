//! Units there and back, of every kind, cut anywhere, and damaged.

use std::io::{Read as _, Write as _};
use std::vec::Vec;
use std::{format, vec};

use lz4_flex::frame::{BlockMode, BlockSize as FrameBlockSize, FrameInfo};
use proptest::prelude::*;

use super::*;
use crate::crypto::hex;

/// Numbers that look random, the same at every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            part.copy_from_slice(&word[..part.len()]);
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Content {
    Zeros,
    Words,
    Random,
}

const CONTENTS: [Content; 3] = [Content::Zeros, Content::Words, Content::Random];

fn plaintext(content: Content, length: usize) -> Vec<u8> {
    let mut noise = Noise(length as u64 + 1);
    let mut plain = vec![0; length];
    match content {
        Content::Zeros => {}
        Content::Random => noise.fill(&mut plain),
        Content::Words => {
            plain.clear();
            while plain.len() < length {
                plain.extend(format!("{} of the things ", noise.next() % 5000).bytes());
            }
            plain.truncate(length);
        }
    }
    plain
}

/// What can be written here.
fn codecs() -> Vec<Codec> {
    let mut compressions = vec![Compression::None, Compression::Lz4];
    if cfg!(feature = "alloc") {
        compressions.push(Compression::Gzip);
    }
    let key = StoreKey::new([5; 32]);
    let ciphers =
        [None, Some((key.clone(), Suite::Aes256GcmSiv)), Some((key, Suite::ChaCha20Poly1305))];
    compressions
        .into_iter()
        .flat_map(|compression| ciphers.clone().map(|cipher| Codec { compression, cipher }))
        .collect()
}

/// Cuts `bytes` at places that depend on `seed`.
fn cut(bytes: &[u8], seed: u64) -> Vec<&[u8]> {
    let mut noise = Noise(seed | 1);
    let mut rest = bytes;
    let mut parts = vec![];
    while !rest.is_empty() {
        // Mostly small parts, sometimes all there is, sometimes none.
        let most = 1_u64 << (noise.next() % 24);
        let length = usize::try_from(noise.next() % most).unwrap().min(rest.len());
        let (part, after) = rest.split_at(length);
        parts.push(part);
        rest = after;
    }
    parts
}

fn encode(codec: &Codec, scratch: &mut EncodeScratch<'_>, parts: &[&[u8]]) -> Vec<u8> {
    let mut encoded = vec![];
    let mut noise = Noise(77);
    let random = |bytes: &mut [u8]| {
        noise.fill(bytes);
        Ok::<(), Infallible>(())
    };
    let out = |bytes: &[u8]| {
        encoded.extend_from_slice(bytes);
        Ok(())
    };
    let mut encoder = Encoder::new(codec, scratch, random, out).unwrap();
    for part in parts {
        encoder.write(part).unwrap();
    }
    let length = encoder.finish().unwrap();
    assert_eq!(length, encoded.len() as u64);
    encoded
}

/// What is all there is compressed from where it is.
fn encode_whole(codec: &Codec, scratch: &mut EncodeScratch<'_>, plain: &[u8]) -> Vec<u8> {
    let mut encoded = vec![];
    let mut noise = Noise(77);
    let random = |bytes: &mut [u8]| {
        noise.fill(bytes);
        Ok::<(), Infallible>(())
    };
    let out = |bytes: &[u8]| {
        encoded.extend_from_slice(bytes);
        Ok(())
    };
    Encoder::new(codec, scratch, random, out).unwrap().finish_with(plain).unwrap();
    encoded
}

fn decode(
    codec: &Codec,
    scratch: &mut DecodeScratch<'_>,
    parts: &[&[u8]],
) -> Result<Vec<u8>, FormatError> {
    let mut plain = vec![];
    let mut out = |bytes: &[u8]| {
        plain.extend_from_slice(bytes);
        Ok(())
    };
    let mut decoder = Decoder::new(codec, scratch)?;
    for part in parts {
        decoder.push(part, &mut out).map_err(format_error)?;
    }
    decoder.finish(&mut out).map_err(format_error)?;
    Ok(plain)
}

fn collect(
    codec: &Codec,
    scratch: &mut DecodeScratch<'_>,
    parts: &[&[u8]],
    dest: &mut [u8],
) -> Result<usize, FormatError> {
    let mut decoder = CollectDecoder::new(codec, scratch, dest)?;
    for part in parts {
        decoder.push(part)?;
    }
    decoder.finish()
}

fn there_and_back(codec: &Codec, encode_bytes: usize, plain: &[u8], seed: u64) {
    let mut memory = vec![0x55; encode_bytes];
    let mut scratch = EncodeScratch::new(&mut memory).unwrap();
    let encoded = encode(codec, &mut scratch, &cut(plain, seed));
    // How it came is not to be seen, but for the state of the deflater.
    if codec.compression != Compression::Gzip {
        assert!(encoded == encode_whole(codec, &mut scratch, plain));
    }
    assert!(encoded.len() as u64 <= codec.encoded_len_max(plain.len() as u64));

    let mut memory = vec![0x55; DECODE_SCRATCH_BYTES_MIN];
    let mut scratch = DecodeScratch::new(&mut memory).unwrap();
    let parts = cut(&encoded, seed ^ 0x5555);
    assert!(decode(codec, &mut scratch, &parts).unwrap() == plain);
    assert!(decode(codec, &mut scratch, &[&encoded]).unwrap() == plain);

    let mut dest = vec![0x55; plain.len()];
    for parts in [&parts[..], &[&encoded]] {
        dest.fill(0x55);
        assert_eq!(collect(codec, &mut scratch, parts, &mut dest), Ok(plain.len()));
        assert!(dest == plain);
    }
    if let Some((_, short)) = dest.split_last_mut() {
        let error = decode_into(codec, &mut scratch, &encoded, short);
        assert_eq!(error, Err(FormatError::Bound("length of a unit")));
    }
}

#[test]
fn lengths_around_every_edge() {
    for codec in codecs() {
        for length in [0, 1, 12, 13, 31, 32, 33, 65_535, 65_536, 65_537, 131_072] {
            for content in CONTENTS {
                there_and_back(&codec, ENCODE_SCRATCH_BYTES_MIN, &plaintext(content, length), 3);
            }
        }
    }
}

/// Where the memory is full, the end of the unit may still be to come.
#[test]
fn memory_that_is_just_enough_takes_any_parts() {
    for codec in codecs() {
        let mut memory = vec![0; DECODE_SCRATCH_BYTES_MIN.max(ENCODE_SCRATCH_BYTES_MIN)];
        for length in [0, 1, 40, 5000] {
            for content in CONTENTS {
                let plain = plaintext(content, length);
                let mut scratch = EncodeScratch::new(&mut memory).unwrap();
                let encoded = encode(&codec, &mut scratch, &[&plain]);
                let parts: Vec<_> = encoded.chunks(1).collect();
                let mut scratch = DecodeScratch::new(&mut memory).unwrap();
                let mut dest = vec![0; length];
                assert_eq!(collect(&codec, &mut scratch, &parts, &mut dest), Ok(length));
                assert!(dest == plain);
                let too_long = Err(FormatError::Bound("length of a unit"));
                let Some((_, short)) = dest.split_last_mut() else { continue };
                assert_eq!(collect(&codec, &mut scratch, &parts, short), too_long);
            }
        }
    }
}

#[test]
fn many_blocks() {
    for codec in codecs() {
        for length in [(4 << 20) - 1, (4 << 20) + 1, (1 << 20) + 1, 1 << 20] {
            let content = CONTENTS[length % 3];
            there_and_back(&codec, ENCODE_SCRATCH_BYTES, &plaintext(content, length), 5);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_length_cut_anywhere(
        codec in 0..9_usize,
        content in 0..3_usize,
        length in prop_oneof![0..100_usize, 0..70_000_usize, 120_000..300_000_usize],
        seed in any::<u64>(),
    ) {
        let codecs = codecs();
        let codec = &codecs[codec % codecs.len()];
        there_and_back(codec, ENCODE_SCRATCH_BYTES_MIN, &plaintext(CONTENTS[content], length), seed);
    }

    #[test]
    fn damage_never_panics(
        codec in 0..9_usize,
        length in 0..70_000_usize,
        at in any::<prop::sample::Index>(),
        bit in 0..8_u32,
        linked in any::<bool>(),
        truncate in any::<bool>(),
    ) {
        let codecs = codecs();
        let codec = &codecs[codec % codecs.len()];
        let plain = plaintext(Content::Words, length);
        let mut memory = vec![0; ENCODE_SCRATCH_BYTES_MIN];
        let mut scratch = EncodeScratch::new(&mut memory).unwrap();
        let mut encoded = if linked && codec.cipher.is_none() {
            frame(&FrameInfo::new().block_mode(BlockMode::Linked), &plain)
        } else {
            encode(codec, &mut scratch, &[&plain])
        };
        let at = at.index(encoded.len().max(1));
        if truncate {
            encoded.truncate(at);
        } else if let Some(byte) = encoded.get_mut(at) {
            *byte ^= 1 << bit;
        }
        let mut memory = vec![0; DECODE_SCRATCH_BYTES_MIN];
        let mut scratch = DecodeScratch::new(&mut memory).unwrap();
        let mut dest = vec![0; length];
        let decoded = decode(codec, &mut scratch, &[&encoded]);
        let collected = collect(codec, &mut scratch, &[&encoded], &mut dest);
        // Sealed bytes are either right or refused, but for the end.
        if codec.cipher.is_some() && !truncate {
            prop_assert_eq!(decoded, Err(FormatError::Seal));
            prop_assert_eq!(collected, Err(FormatError::Seal));
        } else if codec.compression != Compression::None && truncate {
            prop_assert!(decoded.is_err());
            prop_assert!(collected.is_err());
        }
    }
}

fn lz4() -> Codec {
    Codec { compression: Compression::Lz4, cipher: None }
}

/// A frame by another writer.
fn frame(info: &FrameInfo, plain: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info.clone(), vec![]);
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn frames_of_another_writer() {
    let sizes = [FrameBlockSize::Max64KB, FrameBlockSize::Max256KB, FrameBlockSize::Max4MB];
    let mut memory = vec![0; DECODE_SCRATCH_BYTES_STOCK];
    let mut scratch = DecodeScratch::new(&mut memory).unwrap();
    for content in CONTENTS {
        let plain = plaintext(content, 700_001);
        for flags in 0..16_u32 {
            let mode = if flags & 1 == 0 { BlockMode::Independent } else { BlockMode::Linked };
            let info = FrameInfo::new()
                .block_mode(mode)
                .block_size(sizes[flags as usize % 3])
                .block_checksums(flags & 2 != 0)
                .content_checksum(flags & 4 != 0)
                .content_size((flags & 8 != 0).then_some(plain.len() as u64));
            let encoded = frame(&info, &plain);
            for parts in [&cut(&encoded, u64::from(flags)), &vec![&encoded[..]]] {
                assert!(decode(&lz4(), &mut scratch, parts).unwrap() == plain, "{flags}");
                let mut dest = vec![0; plain.len()];
                assert_eq!(collect(&lz4(), &mut scratch, parts, &mut dest), Ok(plain.len()));
                assert!(dest == plain, "{flags}");
            }
            let mut late = encoded.clone();
            late.push(0);
            assert_eq!(decode(&lz4(), &mut scratch, &[&late]), Err(FormatError::Compression));
            let early = &encoded[..encoded.len() - 1];
            assert_eq!(decode(&lz4(), &mut scratch, &[early]), Err(FormatError::Truncated));
        }
    }
}

#[test]
fn linked_blocks_in_the_least_scratch() {
    let mut memory = vec![0; DECODE_SCRATCH_BYTES_MIN];
    let mut scratch = DecodeScratch::new(&mut memory).unwrap();
    let info = FrameInfo::new().block_mode(BlockMode::Linked).block_size(FrameBlockSize::Max64KB);
    for content in CONTENTS {
        let plain = plaintext(content, 1 << 20);
        let encoded = frame(&info, &plain);
        assert!(decode(&lz4(), &mut scratch, &cut(&encoded, 9)).unwrap() == plain);
    }
}

#[test]
fn frames_that_another_reader_takes() {
    for (memory_bytes, plain_bytes) in
        [(ENCODE_SCRATCH_BYTES_MIN, 65_536), (ENCODE_SCRATCH_BYTES, 65_537), (1 << 20, 700_001)]
    {
        let mut memory = vec![0; memory_bytes];
        let mut scratch = EncodeScratch::new(&mut memory).unwrap();
        for content in CONTENTS {
            let plain = plaintext(content, plain_bytes);
            let encoded = encode(&lz4(), &mut scratch, &[&plain]);
            let mut decoded = vec![];
            let mut decoder = lz4_flex::frame::FrameDecoder::new(&*encoded);
            decoder.read_to_end(&mut decoded).unwrap();
            assert!(decoded == plain);
        }
    }
}

#[test]
fn what_stock_makes_of_nothing() {
    let mut memory = vec![0; DECODE_SCRATCH_BYTES_MIN];
    let mut scratch = DecodeScratch::new(&mut memory).unwrap();
    let empty: [u8; 15] = hex("04224d186470b900000000055dcc02");
    assert_eq!(decode(&lz4(), &mut scratch, &[&empty]), Ok(vec![]));
    assert_eq!(decode(&lz4(), &mut scratch, &[]), Err(FormatError::Truncated));
}

#[test]
fn what_we_make_of_nothing() {
    let mut memory = vec![0; ENCODE_SCRATCH_BYTES_MIN];
    let mut scratch = EncodeScratch::new(&mut memory).unwrap();
    let lengths: Vec<_> = codecs()
        .iter()
        .filter(|codec| codec.compression != Compression::Gzip)
        .map(|codec| encode(codec, &mut scratch, &[]).len())
        .collect();
    assert_eq!(lengths, [0, 40, 40, 11, 79, 79]);
}

/// Trap 28 of the format.
#[test]
fn the_first_block_is_never_short() {
    let mut memory = vec![0; ENCODE_SCRATCH_BYTES_MIN];
    let mut scratch = EncodeScratch::new(&mut memory).unwrap();
    let plain = plaintext(Content::Random, 70_000);
    for first in [1, 31, 32, 65_535] {
        let (head, tail) = plain.split_at(first);
        let encoded = encode(&lz4(), &mut scratch, &[head, &[], tail]);
        let mark = u32::from_le_bytes(encoded[7..11].try_into().unwrap());
        assert_eq!(mark, 65_536 | 1 << 31);
    }
}

#[test]
fn a_small_unit_goes_out_at_once_in_one_block() {
    let mut memory = vec![0; ENCODE_SCRATCH_BYTES];
    let mut scratch = EncodeScratch::new(&mut memory).unwrap();
    for codec in codecs().into_iter().filter(|codec| codec.compression == Compression::Lz4) {
        let mut calls = 0;
        let mut draws = 0;
        let random = |_: &mut [u8]| {
            draws += 1;
            Ok::<(), Infallible>(())
        };
        let out = |bytes: &[u8]| {
            calls += 1;
            assert!(codec.cipher.is_some() || bytes[4..6] == [0x60, 0x40]);
            Ok(())
        };
        let encoder = Encoder::new(&codec, &mut scratch, random, out).unwrap();
        let plain = plaintext(Content::Words, 300);
        let length = encoder.finish_with(&plain).unwrap();
        assert!(length < 300 + 68);
        assert_eq!(calls, 1);
        assert_eq!(draws, u32::from(codec.cipher.is_some()));
    }
}

#[test]
fn nonces_and_keys_are_fresh() {
    let mut memory = vec![0; ENCODE_SCRATCH_BYTES_MIN];
    let mut scratch = EncodeScratch::new(&mut memory).unwrap();
    let codec = Codec {
        compression: Compression::None,
        cipher: Some((StoreKey::new([5; 32]), Suite::Aes256GcmSiv)),
    };
    let encoded = encode(&codec, &mut scratch, &[&plaintext(Content::Zeros, 3 * 65_536)]);
    let (_, pieces) = encoded.split_at(WRAPPED_KEY_BYTES);
    let nonces: Vec<_> = pieces.chunks(SEALED_PIECE_BYTES).map(|piece| &piece[..12]).collect();
    assert_eq!(nonces.len(), 3);
    assert!(nonces[0] != nonces[1] && nonces[1] != nonces[2] && nonces[0] != nonces[2]);
}

#[test]
fn errors_of_the_caller_come_through() {
    let mut memory = vec![0; ENCODE_SCRATCH_BYTES_MIN];
    let mut scratch = EncodeScratch::new(&mut memory).unwrap();
    for codec in codecs() {
        let fail = |_: &[u8]| Err("full");
        let random = |_: &mut [u8]| Ok(());
        let encoder = Encoder::new(&codec, &mut scratch, random, fail).unwrap();
        assert_eq!(encoder.finish_with(b"x"), Err("full"));
        let no_random = |_: &mut [u8]| Err("dry");
        let encoder = Encoder::new(&codec, &mut scratch, no_random, |_: &[u8]| Ok(())).unwrap();
        let wanted = if codec.cipher.is_some() { Some("dry") } else { None };
        assert_eq!(encoder.finish_with(b"x").err(), wanted);
    }
    let encoded = encode(&lz4(), &mut scratch, &[b"x"]);
    let mut memory = vec![0; DECODE_SCRATCH_BYTES_MIN];
    let mut scratch = DecodeScratch::new(&mut memory).unwrap();
    let codec = lz4();
    let mut decoder = Decoder::new(&codec, &mut scratch).unwrap();
    assert_eq!(decoder.push(&encoded, &mut |_| Err("full")), Err(CodecError::Sink("full")));
}

#[test]
fn scratch_that_is_too_small_is_told_what_is_needed() {
    assert_eq!(
        EncodeScratch::new(&mut vec![0; ENCODE_SCRATCH_BYTES_MIN - 1]).err(),
        Some(FormatError::Scratch {
            needed_bytes: ENCODE_SCRATCH_BYTES_MIN,
            lent_bytes: ENCODE_SCRATCH_BYTES_MIN - 1
        })
    );
    assert!(DecodeScratch::new(&mut vec![0; COLLECT_SCRATCH_BYTES_MIN - 1]).is_err());

    let codec = lz4();
    let info = FrameInfo::new().block_size(FrameBlockSize::Max4MB);
    let mut memory = vec![0; DECODE_SCRATCH_BYTES_MIN];
    let mut scratch = DecodeScratch::new(&mut memory).unwrap();
    // Blocks that could be large, and are not.
    let plain = plaintext(Content::Words, 60_000);
    let encoded = frame(&info, &plain);
    assert!(decode(&codec, &mut scratch, &cut(&encoded, 1)).unwrap() == plain);
    // Blocks that are.
    for content in [Content::Zeros, Content::Words] {
        let plain = plaintext(content, 1 << 20);
        let encoded = frame(&info, &plain);
        assert_eq!(
            decode(&codec, &mut scratch, &cut(&encoded, 1)),
            Err(FormatError::Scratch {
                needed_bytes: DECODE_SCRATCH_BYTES_STOCK,
                lent_bytes: DECODE_SCRATCH_BYTES_MIN
            })
        );
    }
    let mut memory = vec![0; COLLECT_SCRATCH_BYTES_MIN];
    let mut scratch = DecodeScratch::new(&mut memory).unwrap();
    assert!(Decoder::new(&codec, &mut scratch).is_err());
    let plain = plaintext(Content::Words, 1 << 20);
    let encoded = frame(&info, &plain);
    let mut dest = vec![0; 1 << 20];
    assert_eq!(
        collect(&codec, &mut scratch, &cut(&encoded, 1), &mut dest),
        Err(FormatError::Scratch {
            needed_bytes: COLLECT_SCRATCH_BYTES_STOCK,
            lent_bytes: COLLECT_SCRATCH_BYTES_MIN
        })
    );
    // In one part it needs no scratch at all.
    assert_eq!(decode_into(&codec, &mut scratch, &encoded, &mut dest), Ok(1 << 20));
}

/// A wrong key, or the other suite.
#[test]
fn sealed_units_need_their_key() {
    let mut memory = vec![0; ENCODE_SCRATCH_BYTES_MIN];
    let mut scratch = EncodeScratch::new(&mut memory).unwrap();
    let with = |key, suite| Codec { compression: Compression::Lz4, cipher: Some((key, suite)) };
    let codec = with(StoreKey::new([1; 32]), Suite::Aes256GcmSiv);
    let encoded = encode(&codec, &mut scratch, &[b"hello"]);
    let mut memory = vec![0; DECODE_SCRATCH_BYTES_MIN];
    let mut scratch = DecodeScratch::new(&mut memory).unwrap();
    for other in [
        with(StoreKey::new([2; 32]), Suite::Aes256GcmSiv),
        with(StoreKey::new([1; 32]), Suite::ChaCha20Poly1305),
    ] {
        assert_eq!(decode(&other, &mut scratch, &[&encoded]), Err(FormatError::Seal));
    }
    for length in [0, 39, 41, 67] {
        let error = decode(&codec, &mut scratch, &[&encoded[..length]]);
        assert_eq!(error, Err(FormatError::Truncated));
    }
    assert_eq!(decode(&codec, &mut scratch, &[&encoded]).unwrap(), b"hello");
}

#[cfg(feature = "alloc")]
mod with_alloc {
    use super::*;

    fn gzip() -> Codec {
        Codec { compression: Compression::Gzip, cipher: None }
    }

    #[test]
    fn gzip_headers_with_everything() {
        let mut memory = vec![0; ENCODE_SCRATCH_BYTES_MIN];
        let mut scratch = EncodeScratch::new(&mut memory).unwrap();
        let plain = plaintext(Content::Words, 1000);
        let bare = encode(&gzip(), &mut scratch, &[&plain]);
        let mut memory = vec![0; DECODE_SCRATCH_BYTES_MIN];
        let mut scratch = DecodeScratch::new(&mut memory).unwrap();
        for flags in 0..32_u8 {
            let mut encoded = bare[..10].to_vec();
            encoded[3] = flags;
            for (flag, field) in [(4, &b"\x03\0abc"[..]), (8, b"name\0"), (16, b"\0"), (2, b"xx")] {
                if flags & flag != 0 {
                    encoded.extend_from_slice(field);
                }
            }
            encoded.extend_from_slice(&bare[10..]);
            let parts: Vec<_> = encoded.chunks(1).collect();
            assert!(decode(&gzip(), &mut scratch, &parts).unwrap() == plain);
            assert!(decode(&gzip(), &mut scratch, &[&encoded]).unwrap() == plain);
            let mut late = encoded.clone();
            late.push(0);
            assert!(decode(&gzip(), &mut scratch, &[&late]).is_err());
        }
        for at in bare.len() - 8..bare.len() {
            let mut damaged = bare.clone();
            damaged[at] ^= 1;
            assert_eq!(decode(&gzip(), &mut scratch, &[&damaged]), Err(FormatError::Compression));
        }
    }

    #[test]
    fn zstd_frames() {
        use ruzstd::encoding::{CompressionLevel, compress_to_vec};

        let codec = Codec { compression: Compression::Zstd, cipher: None };
        let mut memory = vec![0; DECODE_SCRATCH_BYTES_MIN];
        let mut scratch = DecodeScratch::new(&mut memory).unwrap();
        let mut memory = vec![0; ENCODE_SCRATCH_BYTES_MIN];
        let mut unused = EncodeScratch::new(&mut memory).unwrap();
        let random = |_: &mut [u8]| Ok::<(), Infallible>(());
        assert!(Encoder::new(&codec, &mut unused, random, |_: &[u8]| Ok(())).is_err());
        for (i, length) in [0, 1, 1000, 131_072, 700_000].into_iter().enumerate() {
            let plain = plaintext(CONTENTS[i % 3], length);
            let mut encoded = compress_to_vec(&*plain, CompressionLevel::Fastest);
            for parts in [&cut(&encoded, 3), &vec![&encoded[..]]] {
                assert!(decode(&codec, &mut scratch, parts).unwrap() == plain);
                let mut dest = vec![0; length];
                assert_eq!(collect(&codec, &mut scratch, parts, &mut dest), Ok(length));
                assert!(dest == plain);
            }
            assert!(decode(&codec, &mut scratch, &[&encoded[..encoded.len() - 1]]).is_err());
            encoded.extend(compress_to_vec(&b"more"[..], CompressionLevel::Fastest));
            let both = decode(&codec, &mut scratch, &[&encoded]).unwrap();
            assert!(both == [&plain[..], b"more"].concat());
        }
        // A window of 16 MiB.
        let large = [0x28, 0xb5, 0x2f, 0xfd, 0, 14 << 3, 1, 0, 0];
        assert!(matches!(decode(&codec, &mut scratch, &[&large]), Err(FormatError::Bound(_))));
    }

    proptest! {
        #[test]
        fn damaged_zstd_never_panics(
            length in 0..5000_usize,
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            use ruzstd::encoding::{CompressionLevel, compress_to_vec};

            let codec = Codec { compression: Compression::Zstd, cipher: None };
            let plain = plaintext(Content::Words, length);
            let mut encoded = compress_to_vec(&*plain, CompressionLevel::Fastest);
            let at = at.index(encoded.len());
            encoded[at] = byte;
            let mut memory = vec![0; DECODE_SCRATCH_BYTES_MIN];
            let mut scratch = DecodeScratch::new(&mut memory).unwrap();
            let _ = decode(&codec, &mut scratch, &[&encoded]);
        }
    }
}
