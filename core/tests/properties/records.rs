//! Records: what is written is read, what is cut is refused, and what is not
//! known is passed over.

use proptest::prelude::*;
use tiroir_core::chunker::Parameters;
use tiroir_core::compression::Compression;
use tiroir_core::crypto::Suite;
use tiroir_core::crypto::kdf::Kdf;
use tiroir_core::error::FormatError;
use tiroir_core::index::Location;
use tiroir_core::mac::{HashAlgorithm, Mac};
use tiroir_core::resource::{ResourceKind, Version};
use tiroir_core::testing::state_entries;
use tiroir_core::time::Timestamp;
use tiroir_core::wire::btree::{Node, Root, emit_node};
use tiroir_core::wire::config::{Chunking, Config, Encryption, SALT_BYTES_MAX};
use tiroir_core::wire::dirpack::{FRAME_HEAD_BYTES, Frame, frame_head};
use tiroir_core::wire::entry::Entry;
use tiroir_core::wire::envelope::{header, parse_header};
use tiroir_core::wire::error_entry::ErrorEntry;
use tiroir_core::wire::file_info::FileInfo;
use tiroir_core::wire::header::{Header, Pairs, Source, Trees};
use tiroir_core::wire::list::List;
use tiroir_core::wire::lock::Lock;
use tiroir_core::wire::mode;
use tiroir_core::wire::msgpack::{Reader, Writer};
use tiroir_core::wire::object::{ChunkRecord, ObjectHead, ObjectParser, ObjectStep};
use tiroir_core::wire::packfile::{BlobRecord, Footer};
use tiroir_core::wire::ptar::{HEAD_BYTES, TABLE_BYTES, Table, head, parse_head};
use tiroir_core::wire::state::{ENTRY_BYTES_MAX, StateEntry, metadata};
use tiroir_core::wire::summary::{Counts, Summary};
use tiroir_core::wire::xattr::{SEPARATOR, XattrEntry};

use crate::strategies::{bytes, emitted, mac, path, time};

/// The record with one more field, which nobody knows.
fn with_unknown_field(record: &[u8]) -> Vec<u8> {
    let mut reader = Reader::new(record);
    let count = usize::try_from(reader.map().unwrap()).unwrap();
    emitted(|w| {
        w.map(count + 1);
        w.key("from the future");
        w.array(2);
        w.map(1);
        w.key("x");
        w.nil();
        w.bin(b"anything");
        w.raw(reader.rest());
    })
}

/// Asserts that a record is read as it was written; not if it is cut; and just
/// so with a field in it that is not known.
macro_rules! holds {
    ($record:expr, $cut:expr, $emit:expr, $parse:expr) => {{
        let (record, cut) = ($record, &$cut);
        let written = emitted(|w| $emit(&record, w));
        prop_assert_eq!($parse(&written[..]), Ok(record));
        let short = cut.index(written.len());
        prop_assert_eq!($parse(&written[..short]).err(), Some(FormatError::Truncated));
        let newer = with_unknown_field(&written);
        prop_assert_eq!($parse(&newer[..]), Ok(record));
    }};
}

fn cut() -> impl Strategy<Value = prop::sample::Index> {
    any::<prop::sample::Index>()
}

/// What a [`FileInfo`] borrows, and the rest of it.
#[derive(Clone, Debug)]
struct OwnedInfo {
    names: [Vec<u8>; 3],
    info: FileInfo<'static>,
}

impl OwnedInfo {
    fn lend(&self) -> FileInfo<'_> {
        let [name, username, groupname] = &self.names;
        FileInfo { name, username, groupname, ..self.info }
    }
}

prop_compose! {
    fn info()(
        names in [bytes(), bytes(), bytes()],
        size: i64,
        (mode, nlink, flags) in any::<(u32, u16, u32)>(),
        mod_time in time(),
        [dev, ino, uid, gid] in any::<[u64; 4]>(),
    ) -> OwnedInfo {
        let empty = FileInfo::default();
        let info = FileInfo { size, mode, mod_time, dev, ino, uid, gid, nlink, flags, ..empty };
        OwnedInfo { names, info }
    }
}

prop_compose! {
    fn counts()(
        // Zeros are left out of the record.
        n in prop::collection::vec(prop_oneof![Just(0), any::<u64>()], 25),
        [min_mod_time, max_mod_time] in any::<[i64; 2]>(),
        f in prop::collection::vec(prop_oneof![Just(0.0), any::<f64>()], 4),
    ) -> Counts {
        Counts {
            directories: n[0],
            files: n[1],
            symlinks: n[2],
            devices: n[3],
            pipes: n[4],
            sockets: n[5],
            children: n[6],
            setuid: n[7],
            setgid: n[8],
            sticky: n[9],
            objects: n[10],
            chunks: n[11],
            min_size: n[12],
            max_size: n[13],
            avg_size: n[14],
            size: n[15],
            min_mod_time,
            max_mod_time,
            min_entropy: f[0],
            max_entropy: f[1],
            sum_entropy: f[2],
            avg_entropy: f[3],
            hi_entropy: n[16],
            lo_entropy: n[17],
            mime: [n[18], n[19], n[20], n[21], n[22], n[23]],
            errors: n[24],
        }
    }
}

fn summary() -> impl Strategy<Value = Summary> {
    let empty_or = || prop_oneof![1 => Just(Counts::default()), 3 => counts()];
    (empty_or(), empty_or()).prop_map(|(directory, below)| Summary { directory, below })
}

fn kdf() -> impl Strategy<Value = Kdf> {
    let n = i64::MAX.cast_unsigned();
    prop_oneof![
        any::<(u32, u32, u8)>().prop_map(|(time, memory_kib, threads)| Kdf::Argon2id {
            time,
            memory_kib,
            threads
        }),
        (0..=n, any::<u32>(), any::<u32>()).prop_map(|(n, r, p)| Kdf::Scrypt { n, r, p }),
        any::<u32>().prop_map(|iterations| Kdf::Pbkdf2 { iterations }),
    ]
}

fn compression() -> impl Strategy<Value = Compression> {
    use Compression::{Gzip, Lz4, None, Zstd};
    prop::sample::select(vec![None, Lz4, Gzip, Zstd])
}

fn suite() -> impl Strategy<Value = Suite> {
    prop::sample::select(vec![Suite::Aes256GcmSiv, Suite::ChaCha20Poly1305])
}

fn pairs() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
    prop::collection::vec((bytes(), bytes()), 0..3)
}

fn strings() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop_oneof![
        4 => prop::collection::vec(bytes(), 0..4),
        1 => Just(vec![b"tag".to_vec(); 20]),
    ]
}

fn lend(strings: &[Vec<u8>]) -> Vec<&[u8]> {
    strings.iter().map(Vec::as_slice).collect()
}

fn lend_pairs(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<(&[u8], &[u8])> {
    pairs.iter().map(|(key, value)| (&key[..], &value[..])).collect()
}

fn parse_info(bytes: &[u8]) -> Result<FileInfo<'_>, FormatError> {
    FileInfo::parse(&mut Reader::new(bytes))
}

fn parse_chunk(bytes: &[u8]) -> Result<ChunkRecord, FormatError> {
    ChunkRecord::parse(&mut Reader::new(bytes))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn configs(
        (timestamp, repository_id, packfile_bytes_max) in (time(), any::<[u8; 16]>(), any::<u64>()),
        algorithm in bytes(),
        [min_bytes, normal_bytes, max_bytes] in any::<[u32; 3]>(),
        is_sha256: bool,
        compression in compression(),
        (suite, kdf) in (suite(), kdf()),
        salt in prop::collection::vec(any::<u8>(), 0..=SALT_BYTES_MAX),
        canary in bytes(),
        is_encrypted: bool,
        cut in cut(),
    ) {
        let config = Config {
            timestamp,
            repository_id,
            packfile_bytes_max,
            chunking: Chunking { algorithm: &algorithm, min_bytes, normal_bytes, max_bytes },
            hashing: if is_sha256 { HashAlgorithm::Sha256 } else { HashAlgorithm::Blake3 },
            compression,
            encryption: is_encrypted.then_some(Encryption {
                suite,
                kdf,
                salt: &salt,
                canary: &canary,
            }),
        };
        holds!(config, cut, Config::emit, Config::parse);
        let parameters = Parameters::new(&algorithm, min_bytes, normal_bytes, max_bytes);
        prop_assert!(parameters.is_err() || parameters.is_ok_and(|p| p.min() <= p.max()));
    }

    #[test]
    fn attributes(info in info(), cut in cut()) {
        holds!(info.lend(), cut, FileInfo::emit, parse_info);
    }

    #[test]
    fn entries(
        parent in path(),
        info in info(),
        summary in prop::option::of(summary()),
        (link_target, content_type, names) in (bytes(), bytes(), strings()),
        object in prop_oneof![Just(Mac::ZERO), mac()],
        (entropy, chunks) in prop_oneof![Just((0.0, 0)), any::<(f64, u64)>()],
        cut in cut(),
    ) {
        let names = lend(&names);
        let entry = Entry {
            parent_path: &parent,
            info: info.lend(),
            summary,
            link_target: &link_target,
            object,
            content_type: &content_type,
            entropy,
            chunks,
            xattr_names: List::strings(&names),
        };
        prop_assume!(!entry.info.name.is_empty());
        holds!(entry, cut, Entry::emit, Entry::parse);
    }

    #[test]
    fn summaries(summary in summary(), cut in cut()) {
        holds!(summary, cut, Summary::emit, Summary::parse);
    }

    #[test]
    fn headers(
        (identifier, timestamp, duration_nanos) in (mac(), time(), any::<i64>()),
        (identity, replicas) in any::<([u8; 16], u32)>(),
        texts in prop::collection::vec(bytes(), 10),
        lists in [strings(), strings(), strings()],
        contexts in [pairs(), pairs()],
        roots in [mac(), mac(), mac()],
        indexes in [prop::option::of(mac()), prop::option::of(mac()), prop::option::of(mac())],
        summary in summary(),
        cut in cut(),
    ) {
        let [data_classes, classifications, tags] = lists.each_ref().map(|list| lend(list));
        let [context, source_context] = contexts.each_ref().map(|pairs| lend_pairs(pairs));
        let [vfs, xattrs, errors] = roots;
        let [content_type, dirpack, summaries] = indexes;
        let trees = Trees { vfs, xattrs, errors, content_type, dirpack, summary: summaries };
        let header = Header {
            identifier,
            timestamp,
            duration_nanos,
            identity,
            public_key: &texts[0],
            name: &texts[1],
            category: &texts[2],
            environment: &texts[3],
            perimeter: &texts[4],
            job: &texts[5],
            replicas,
            dataset: &texts[6],
            data_classes: List::strings(&data_classes),
            classifications: List::strings(&classifications),
            tags: List::strings(&tags),
            context: Pairs::Lent(&context),
            source: Source {
                kind: &texts[7],
                origin: &texts[8],
                directory: &texts[9],
                context: Pairs::Lent(&source_context),
                trees,
                summary,
            },
        };
        holds!(header, cut, Header::emit, Header::parse);
        // As read, it is written with the same bytes: its MAC stays.
        let written = emitted(|w| header.emit(w));
        let parsed = Header::parse(&written).unwrap();
        prop_assert_eq!(emitted(|w| parsed.emit(w)), written);
    }

    #[test]
    fn small_records(
        [path, text] in [bytes(), bytes()],
        (timestamp, exclusive, object) in (time(), any::<bool>(), mac()),
        (size, kind) in any::<(i64, u8)>(),
        (length_bytes, entropy) in any::<(u32, f64)>(),
        cut in cut(),
    ) {
        let lock = Lock { timestamp, hostname: &text, exclusive };
        holds!(lock, cut, Lock::emit, Lock::parse);
        let error = ErrorEntry { path: &path, message: &text };
        holds!(error, cut, ErrorEntry::emit, ErrorEntry::parse);
        let xattr = XattrEntry { path: &path, name: &text, size, kind, object };
        holds!(xattr, cut, XattrEntry::emit, XattrEntry::parse);
        let chunk = ChunkRecord { mac: object, length_bytes, entropy };
        holds!(chunk, cut, ChunkRecord::emit, parse_chunk);
        prop_assume!(!object.is_zero());
        holds!(Root { node: object }, cut, Root::emit, Root::parse);

        let mut key = vec![0; path.len() + text.len() + 1];
        prop_assert!(XattrEntry::key(&path, &text, &mut key[1..]).is_err());
        prop_assert_eq!(XattrEntry::key(&path, &text, &mut key), Ok(key.len()));
        prop_assert_eq!(key, [&path[..], &text, &[SEPARATOR]].concat());
    }

    #[test]
    fn nodes(
        keys in strings(),
        macs in prop::collection::vec(mac(), 21),
        next in prop::option::of(mac()),
        cut in cut(),
    ) {
        let encode = |macs: &[Mac]| emitted(|w| macs.iter().for_each(|mac| w.mac(mac)));
        let (count, text) = (keys.len(), emitted(|w| keys.iter().for_each(|key| w.str(key))));
        let (values, pointers) = (encode(&macs[..count]), encode(&macs[..=count]));
        let leaf = |w: &mut Writer<'_>| {
            emit_node((count, &text), (0, &[]), (count, &values), next.as_ref(), w);
        };
        let inner =
            |w: &mut Writer<'_>| emit_node((count, &text), (count + 1, &pointers), (0, &[]), None, w);
        let next = next.filter(|next| !next.is_zero());
        for (bytes, is_leaf) in [(emitted(leaf), true), (emitted(inner), false)] {
            let node = Node::parse(&bytes).unwrap();
            prop_assert_eq!(node.is_leaf(), is_leaf);
            prop_assert!(node.keys.iter().eq(lend(&keys)));
            prop_assert_eq!(node.next, next.filter(|_| is_leaf));
            let (list, wanted) =
                if is_leaf { (node.values, &macs[..count]) } else { (node.pointers, &macs[..=count]) };
            let found: Result<Vec<_>, _> = list.macs().collect();
            prop_assert_eq!(found.as_deref(), Ok(wanted));
            prop_assert!(Node::parse(&bytes[..cut.index(bytes.len())]).is_err());
            let newer = with_unknown_field(&bytes);
            prop_assert_eq!(Node::parse(&newer), Ok(node));
        }
    }

    #[test]
    fn objects(
        chunks in prop::collection::vec((mac(), any::<u32>(), any::<f64>()), 0..40),
        content_mac in mac(),
        content_type in prop_oneof![Just(vec![]), prop::collection::vec(any::<u8>(), 0..200)],
        entropy in prop_oneof![Just(0.0), any::<f64>()],
        steps in prop::collection::vec(1_usize..700, 1..20),
    ) {
        let chunks: Vec<_> = chunks
            .into_iter()
            .map(|(mac, length_bytes, entropy)| ChunkRecord { mac, length_bytes, entropy })
            .collect();
        let count = u32::try_from(chunks.len()).unwrap();
        let head = ObjectHead { content_mac, chunks: count, content_type: &content_type, entropy };
        let object = emitted(|w| {
            head.emit_start(w);
            chunks.iter().for_each(|chunk| chunk.emit(w));
            head.emit_end(w);
        });
        for object in [object.clone(), with_unknown_field(&object)] {
            let (mut parser, mut found) = (ObjectParser::default(), Vec::new());
            let mut steps = steps.iter().cycle();
            let (mut at, mut end) = (0, 0);
            loop {
                let (step, used) = parser.step(&object[at..end]).unwrap();
                at += used;
                match step {
                    ObjectStep::Chunk(chunk) => found.push(chunk),
                    ObjectStep::End { content_mac: found } => {
                        prop_assert_eq!(found, content_mac);
                        break;
                    }
                    ObjectStep::More => {
                        prop_assert!(end < object.len(), "more than there is");
                        end = object.len().min(end + steps.next().unwrap());
                    }
                }
            }
            prop_assert_eq!((at, &found), (object.len(), &chunks));
        }
    }

    #[test]
    fn frames(entry in prop::collection::vec(any::<u8>(), 1..600), mac in mac(), is_directory: bool) {
        let start = frame_head(is_directory, entry.len().try_into().unwrap());
        let frame = [&start[..], &entry, &mac.0].concat();
        prop_assert_eq!(Frame::parse(&frame), Ok(Frame { entry: &entry, mac }));
        for cut in 0..frame.len() {
            let length = Frame::length_bytes(&frame[..cut]);
            prop_assert_eq!(length, Ok((cut >= FRAME_HEAD_BYTES).then_some(frame.len())));
            prop_assert!(Frame::parse(&frame[..cut]).is_err());
        }
    }

    #[test]
    fn fixed_records(
        (kind, mac) in (any::<u8>().prop_map(ResourceKind), mac()),
        (offset_bytes, length_bytes, count) in any::<(u64, u32, u32)>(),
        timestamp_nanos in prop_oneof![Just(0), i64::MIN..0, 1_000_000_000_000_000..i64::MAX],
        version in any::<u32>().prop_map(Version),
        newest in any::<u32>().prop_map(Version),
    ) {
        let record = BlobRecord { kind, mac, offset_bytes, length_bytes };
        prop_assert_eq!(BlobRecord::parse(&record.emit()), Ok(record));
        let footer =
            Footer { timestamp_nanos, count, index_offset_bytes: offset_bytes, index_mac: mac };
        prop_assert_eq!(Footer::parse(&footer.emit()), footer);
        let found = parse_header(&header(kind, version), kind, newest);
        let is_known = version <= newest;
        prop_assert_eq!(found, if is_known { Ok(version) } else { Err(FormatError::Version(version)) });
        let other = ResourceKind(kind.0.wrapping_add(1));
        let found = parse_header(&header(other, version), kind, newest);
        prop_assert_eq!(found, Err(FormatError::Kind { found: other.0.into() }));
    }

    #[test]
    fn archives(lengths in [48..32_768_u64, 48..1_u64 << 40, 48..1_u64 << 40], gap in 0..100_u64) {
        let mut at = HEAD_BYTES as u64;
        let [config, packfile, state] = lengths.map(|length| {
            let start = at + gap;
            at = start + length;
            start..at
        });
        let table = Table { config, packfile, state };
        let file_bytes = at + TABLE_BYTES as u64;
        prop_assert_eq!(Table::parse(&table.emit(), file_bytes), Ok(table.clone()));
        prop_assert!(Table::parse(&table.emit(), file_bytes - 1).is_err());
        prop_assert_eq!(parse_head(&head()), Ok(()));
    }

    /// A state in any pieces, with entries in it of kinds that nobody knows.
    #[test]
    fn states(
        is_new: bool,
        macs in prop::collection::vec((mac(), any::<u8>(), any::<u64>()), 0..30),
        unknown in prop::collection::vec(any::<u8>(), 0..300),
        steps in prop::collection::vec(1_usize..200, 1..30),
    ) {
        let version = if is_new { Version::V1_1_0 } else { Version::V1_0_0 };
        let entry = |(mac, kind, number): &(Mac, u8, u64)| {
            let (resource, when) = (ResourceKind(kind & 0x7f), Timestamp::default());
            let length_bytes = u32::from(*kind);
            let at = Location { packfile: *mac, offset_bytes: *number, length_bytes };
            match number % 3 {
                0 => StateEntry::Location(resource, *mac, at),
                1 => StateEntry::Packfile(*mac, *mac, when),
                _ => StateEntry::Coloured(resource, *mac, when),
            }
        };
        let entries: Vec<_> = macs.iter().map(entry).collect();
        let mut stream = if is_new { vec![0; 32] } else { vec![] };
        for entry in &entries {
            stream.extend_from_slice(entry.emit(&mut [0; ENTRY_BYTES_MAX]));
            stream.push(77);
            stream.extend_from_slice(&u32::try_from(unknown.len()).unwrap().to_le_bytes());
            stream.extend_from_slice(&unknown);
        }
        stream.extend_from_slice(&metadata(version, Timestamp::default(), &[7; 16]));
        let mut steps = steps.iter().cycle();
        let (mut rest, mut parts) = (&stream[..], Vec::new());
        while !rest.is_empty() {
            let (part, after) = rest.split_at(rest.len().min(*steps.next().unwrap()));
            parts.push(part);
            rest = after;
        }
        prop_assert_eq!(state_entries(version, &parts), Ok(entries));
        parts.pop();
        prop_assert_eq!(state_entries(version, &parts), Err(FormatError::Truncated));
    }

    #[test]
    fn modes(permissions in 0..0o10_000_u32, kind in 0..16_u32) {
        let found = mode::from_unix(kind << 12 | permissions);
        prop_assert_eq!(mode::unix_permissions(found), permissions);
        prop_assert_eq!(mode::is_regular(found), kind == 0o10);
        prop_assert_eq!(mode::is_directory(found), kind == 0o04);
    }
}
