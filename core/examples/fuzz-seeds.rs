//! Writes the seeds of the fuzz targets: records as the engine emits them, and
//! units as it encodes them, behind the bytes that each target takes first.
//!
//! ```sh
//! cargo run -p tiroir-core --features _test --example fuzz-seeds fuzz/seeds
//! ```
#![expect(clippy::unwrap_used, reason = "a tool for the tests")]

use std::convert::Infallible;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use tiroir_core::codec::{Codec, ENCODE_SCRATCH_BYTES_MIN, EncodeScratch, Encoder};
use tiroir_core::compression::Compression;
use tiroir_core::crypto::Suite;
use tiroir_core::crypto::kdf::Kdf;
use tiroir_core::index::Location;
use tiroir_core::mac::{HashAlgorithm, Mac};
use tiroir_core::resource::{ResourceKind, Version};
use tiroir_core::time::Timestamp;
use tiroir_core::wire::btree::{Root, emit_node};
use tiroir_core::wire::config::{Chunking, Config, Encryption};
use tiroir_core::wire::dirpack::frame_head;
use tiroir_core::wire::entry::{Entry, NOT_REGULAR};
use tiroir_core::wire::error_entry::ErrorEntry;
use tiroir_core::wire::file_info::FileInfo;
use tiroir_core::wire::header::{Header, Pairs, Source, Trees};
use tiroir_core::wire::list::List;
use tiroir_core::wire::lock::Lock;
use tiroir_core::wire::msgpack::Writer;
use tiroir_core::wire::object::{ChunkRecord, ObjectHead};
use tiroir_core::wire::packfile::{BlobRecord, Footer};
use tiroir_core::wire::ptar::Table;
use tiroir_core::wire::state::{ENTRY_BYTES_MAX, StateEntry, metadata};
use tiroir_core::wire::summary::{Counted, Summary};
use tiroir_core::wire::xattr::XattrEntry;
use tiroir_core::wire::{envelope, mode};

const NOW: Timestamp = Timestamp { secs: 1_700_000_000, nanos: 123_456_789 };

fn main() {
    let folder = std::env::args_os().nth(1).expect("the folder of the seeds");
    let seeds = Seeds(PathBuf::from(folder));
    seeds.configs();
    seeds.snapshot_records();
    seeds.containers();
    seeds.units();
    seeds.decisions();
    seeds.texts();
}

struct Seeds(PathBuf);

fn emitted(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut space = vec![0; 64 * 1024];
    let mut writer = Writer::new(&mut space);
    write(&mut writer);
    writer.finish().unwrap().to_vec()
}

fn mac(n: u8) -> Mac {
    Mac([n; 32])
}

fn summary() -> Summary {
    let mut summary = Summary::default();
    summary.add_file(&Counted {
        mode: 0o644,
        size: 12,
        mod_time_secs: NOW.secs,
        chunks: Some(1),
        entropy: 3.5,
        content_type: b"text/plain",
    });
    summary.finish();
    let mut parent = Summary::default();
    parent.add_directory(&summary);
    parent
}

fn file() -> Entry<'static> {
    Entry {
        parent_path: b"/srv",
        info: FileInfo {
            name: b"a.txt",
            size: 12,
            mode: 0o644,
            mod_time: NOW,
            dev: 1,
            ino: 2,
            uid: 1000,
            gid: 100,
            nlink: 1,
            username: b"user",
            groupname: b"users",
            flags: 0,
        },
        object: mac(3),
        content_type: b"text/plain; charset=utf-8",
        entropy: 3.5,
        chunks: 1,
        xattr_names: List::strings(&[b"user.a", b"user.b"]),
        ..Entry::default()
    }
}

fn directory() -> Entry<'static> {
    let info = FileInfo { name: b"d", mode: mode::DIRECTORY | 0o755, ..file().info };
    Entry { parent_path: b"/srv", info, summary: Some(summary()), ..Entry::default() }
}

fn link() -> Entry<'static> {
    let info = FileInfo { name: b"l", mode: mode::SYMLINK | 0o777, ..file().info };
    let (link_target, content_type) = (&b"../x"[..], NOT_REGULAR);
    Entry { parent_path: b"/", info, link_target, content_type, ..Entry::default() }
}

impl Seeds {
    fn write(&self, target: &str, name: &str, parts: &[&[u8]]) {
        let folder = Path::new(&self.0).join(target);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), parts.concat()).unwrap();
    }

    fn configs(&self) {
        let kdfs = [
            ("plain", None),
            ("argon2id", Some(Kdf::Argon2id { time: 4, memory_kib: 262_144, threads: 1 })),
            ("scrypt", Some(Kdf::Scrypt { n: 32_768, r: 8, p: 1 })),
            ("pbkdf2", Some(Kdf::Pbkdf2 { iterations: 100_000 })),
        ];
        for (name, kdf) in kdfs {
            let config = Config {
                timestamp: NOW,
                repository_id: [7; 16],
                packfile_bytes_max: 64 << 20,
                chunking: Chunking::default(),
                hashing: HashAlgorithm::Blake3,
                compression: if kdf.is_none() { Compression::Gzip } else { Compression::Lz4 },
                encryption: kdf.map(|kdf| Encryption {
                    suite: Suite::Aes256GcmSiv,
                    kdf,
                    salt: &[8; 16],
                    canary: &[9; 100],
                }),
            };
            let record = emitted(|w| config.emit(w));
            self.write("config", name, &[&record]);
            let header = envelope::header(ResourceKind::CONFIG, Version::V1_0_0);
            let head = [&[1][..], &Version::V1_0_0.0.to_be_bytes(), &header].concat();
            self.write("envelope", name, &[&head, &record, &[5; 32]]);
        }
        for (name, bytes) in [
            ("argon2id", &[0, 0, 0, 0, 2, 0, 0, 0, 16, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, b'p'][..]),
            ("scrypt", &[1, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6]),
            ("pbkdf2", &[2, 0, 0, 0, 9, 8, 1, 2, 3, 4, 5, 6, 7, 8, b'p']),
            ("large", &[4, 0, 0, 0, 4, 0, 4, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, b'p']),
        ] {
            self.write("kdf", name, &[bytes]);
        }
    }

    fn snapshot_records(&self) {
        for (name, entry) in [("file", file()), ("directory", directory()), ("link", link())] {
            let record = emitted(|w| entry.emit(w));
            self.write("entry", name, &[&record]);
            self.write("msgpack", name, &[&record]);
        }
        self.write("file_info", "file", &[&emitted(|w| file().info.emit(w))]);
        self.write("summary", "parent", &[&emitted(|w| summary().emit(w))]);
        self.write("summary", "empty", &[&emitted(|w| Summary::default().emit(w))]);
        let frames: Vec<u8> = [file(), directory()]
            .iter()
            .flat_map(|entry| {
                let record = emitted(|w| entry.emit(w));
                let head = frame_head(entry.is_directory(), record.len().try_into().unwrap());
                [&head[..], &record, &mac(4).0].concat()
            })
            .collect();
        self.write("dirpack", "two", &[&frames]);
        let tags: [&[u8]; 2] = [b"daily", b"nas"];
        let context: [(&[u8], &[u8]); 1] = [(b"Hostname", b"box")];
        let header = Header {
            identifier: mac(9),
            timestamp: NOW,
            duration_nanos: 17,
            name: b"default",
            replicas: 1,
            tags: List::strings(&tags),
            context: Pairs::Lent(&context),
            source: Source {
                kind: b"fs",
                origin: b"box",
                directory: b"/srv",
                trees: Trees {
                    vfs: mac(1),
                    xattrs: mac(2),
                    errors: mac(3),
                    content_type: Some(mac(4)),
                    dirpack: Some(mac(5)),
                    summary: Some(mac(6)),
                },
                context: Pairs::Lent(&context),
                summary: summary(),
            },
            ..Header::default()
        };
        self.write("header", "whole", &[&emitted(|w| header.emit(w))]);
        let error = ErrorEntry { path: b"/srv/x", message: b"permission denied" };
        self.write("error_entry", "denied", &[&emitted(|w| error.emit(w))]);
        let xattr =
            XattrEntry { path: b"/srv/x", name: b"user.a", size: 5, kind: 0, object: mac(7) };
        self.write("xattr_entry", "user", &[&emitted(|w| xattr.emit(w))]);
        let lock = Lock { timestamp: NOW, hostname: b"box", exclusive: true };
        self.write("lock", "exclusive", &[&emitted(|w| lock.emit(w))]);
        self.object();
        self.trees();
    }

    fn object(&self) {
        let head = ObjectHead {
            content_mac: mac(1),
            chunks: 3,
            content_type: b"text/plain",
            entropy: 3.5,
        };
        let chunk = |n: u8| ChunkRecord { mac: mac(n), length_bytes: n.into(), entropy: 1.5 };
        let object = emitted(|w| {
            head.emit_start(w);
            (1..4).for_each(|n| chunk(n).emit(w));
            head.emit_end(w);
        });
        self.write("object", "whole", &[&[0, 0], &object]);
        self.write("object", "cut", &[&[0, 5], &object]);
        self.write("object", "chunk", &[&[0, 9], &emitted(|w| chunk(5).emit(w))]);
    }

    fn trees(&self) {
        let keys = emitted(|w| [b"/a", b"/b"].iter().for_each(|key| w.str(*key)));
        let macs = |count: u8| emitted(|w| (1..=count).for_each(|n| w.mac(&mac(n))));
        let leaf = emitted(|w| emit_node((2, &keys), (0, &[]), (2, &macs(2)), Some(&mac(8)), w));
        let inner = emitted(|w| emit_node((2, &keys), (3, &macs(3)), (0, &[]), None, w));
        self.write("btree_node", "leaf", &[&leaf]);
        self.write("btree_node", "inner", &[&inner]);
        self.write("btree_node", "root", &[&emitted(|w| Root { node: mac(4) }.emit(w))]);
        // A node with one key and two leaves, as the target reads them.
        let inner = [0x11, 2, b'/', b'b', 1, 2, 0];
        let first = [0x01, 2, b'/', b'a', 9, 9, 2];
        let second = [0x22, 2, b'/', b'b', 2, b'/', b'c', 9, 9, 9, 0];
        self.write("btree_cursor", "two", &[&[2, b'/', b'b'], &inner, &first, &second]);
    }

    fn containers(&self) {
        let at = Location { packfile: mac(2), offset_bytes: 100, length_bytes: 50 };
        let entries = [
            StateEntry::Packfile(mac(2), mac(1), NOW),
            StateEntry::Location(ResourceKind::CHUNK, mac(3), at),
            StateEntry::Coloured(ResourceKind::SNAPSHOT, mac(4), NOW),
            StateEntry::DeleteLocation(ResourceKind::CHUNK, mac(3), mac(2)),
            StateEntry::DeleteColour(ResourceKind::SNAPSHOT, mac(4)),
            StateEntry::DeletePackfile(mac(2)),
        ];
        for (name, choice, version) in [("old", 0, Version::V1_0_0), ("new", 1, Version::V1_1_0)] {
            let mut stream = if choice == 1 { vec![0; 32] } else { vec![] };
            for entry in &entries {
                stream.extend_from_slice(entry.emit(&mut [0; ENTRY_BYTES_MAX]));
            }
            stream.extend_from_slice(&[99, 3, 0, 0, 0, 1, 2, 3]);
            stream.extend_from_slice(&metadata(version, NOW, &[7; 16]));
            self.write("state", name, &[&[choice, 0, 7], &stream]);
        }
        let footer = Footer {
            timestamp_nanos: NOW.unix_nanos(),
            count: 1,
            index_offset_bytes: 150,
            index_mac: mac(5),
        };
        self.write("packfile", "footer", &[&footer.emit()]);
        let record = BlobRecord {
            kind: ResourceKind::CHUNK,
            mac: mac(3),
            offset_bytes: 100,
            length_bytes: 50,
        };
        self.write("packfile", "index", &[&record.emit(), &record.emit()]);
        let table = Table { config: 12..112, packfile: 112..212, state: 212..312 };
        self.write("ptar", "whole", &[&[1], &[5; 300], &table.emit()]);
        self.write("ptar", "no-start", &[&[0], &[5; 312], &table.emit()]);
    }

    /// Units of all kinds, whole and in parts, of text and of noise.
    fn units(&self) {
        let text = b"some of the words, and some of the words again; ".repeat(40);
        let noise: Vec<u8> =
            (0..600_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        for (name, seed, plain) in [("text", 0, &text), ("noise", 3, &noise)] {
            let head = [&[0, seed][..], &4096_u32.to_be_bytes()].concat();
            self.write("decode_lz4", name, &[&head, &encoded(Compression::Lz4, plain)]);
            self.write("decode_gzip", name, &[&head, &encoded(Compression::Gzip, plain)]);
            let level = ruzstd::encoding::CompressionLevel::Fastest;
            let frame = ruzstd::encoding::compress_to_vec(&plain[..], level);
            self.write("decode_zstd", name, &[&head, &frame]);
            self.write("decode_zstd", &format!("{name}-twice"), &[&head, &frame, &frame]);
        }
        let head = [&[0, 5][..], &2000_u32.to_be_bytes()].concat();
        let info = lz4_flex::frame::FrameInfo::new()
            .block_mode(lz4_flex::frame::BlockMode::Linked)
            .block_checksums(true)
            .content_checksum(true)
            .content_size(Some(text.len() as u64));
        let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
        for part in text.chunks(500) {
            encoder.write_all(part).unwrap();
            encoder.flush().unwrap();
        }
        self.write("decode_lz4", "linked", &[&head, &encoder.finish().unwrap()]);
        // A member with everything that its header may hold.
        let member = encoded(Compression::Gzip, b"hello");
        let mut long = member[..10].to_vec();
        long[3] = 0x1e;
        long.extend_from_slice(b"\x03\0ext name\0comment\0\0\0");
        long.extend_from_slice(&member[10..]);
        self.write("decode_gzip", "header", &[&head, &long]);
        for (name, choice) in [("gcm-siv", 0), ("chacha20", 1), ("nobody", 2)] {
            self.write("decode_sealed", name, &[&[choice, 0, 5, 0, 0, 0, 50], b"a secret text"]);
        }
    }

    /// What is no record, but decides what a target does.
    fn decisions(&self) {
        for choice in [0, 1, 2, 0x10, 0x11, 0x12, 0x20, 0x21, 0x22] {
            let name = format!("{choice:02x}");
            self.write("round_trip", &name, &[&[choice, 0, 3, 9], b"words and words"]);
            let long = [choice | 0x80, 0, 5, 250];
            self.write("round_trip", &format!("{name}-long"), &[&long, &b"words ".repeat(60)]);
        }
        let stream: Vec<u8> =
            (0..2000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        let far = [&[1, 0, 7, 0, 200][..], &[7; 200], &[3, 0, 255, 255], &[1, 5, 200]].concat();
        self.write("encode_lz4", "far", &[&far]);
        let near = [&[0, 0, 7, 0, 9][..], b"one, two,", &[3, 8, 1, 0, 2, 0, 4, 77]].concat();
        self.write("encode_lz4", "near", &[&near, &near[3..], &near[3..]]);
        self.write("chunker", "small", &[&[4, 0, 64, 0, 128, 1, 0, 0, 3], &stream]);
        self.write("chunker", "legacy", &[&[5, 0, 64, 1, 0, 4, 0, 0, 3], &stream]);
        self.write("chunker", "default", &[&[0x3c, 0, 0, 0, 0, 0, 0, 0, 3], &stream]);
        self.write("sorter", "paths", &[&[0, 2, 1, 9], b"\x02/b\x04/a/b\x01/\x02/a\x00\x03/ab"]);
        self.write("path", "nested", &[b"\x01c/a/b"]);
        self.write("path", "dots", &[b"\x02../a/./../b//"]);
        // Which file or blob, what is done to it, where, and with what.
        self.write("store", "flip", &[&[0, 0x00, 5, 0, 20, 1, 0xff]]);
        self.write("store", "state", &[&[0, 0x81, 5, 0, 30, 4, 1, 2, 3, 4]]);
        self.write("store", "cut", &[&[1, 0x82, 0, 0, 60]]);
        self.write("store", "key", &[&[3, 0x81, 5, 0, 80, 2, 1, 2]]);
        self.write("store", "config", &[&[0, 0x8f, 5, 0, 40, 1, 9]]);
        // Long ones: libFuzzer begins with inputs no longer than its seeds.
        for kind in 0..4 {
            let many: Vec<u8> = (0..20_u8)
                .flat_map(|n| [0x80 | (n % 5), 5 + n % 3, n, n.wrapping_mul(41), 3, n, 0, 0xff])
                .collect();
            self.write("store", &format!("many-{kind}"), &[&[kind], &many]);
        }
        let many: Vec<u8> = (0..20_u8)
            .flat_map(|n| [0, 4 * n, 7 - n % 2, 0, n.wrapping_mul(31), 5 * n, 2, n, 1])
            .collect();
        self.write("snapshot", "many", &[&many]);
        for number in 0..24 {
            let name = format!("field-{number}");
            self.write("snapshot", &name, &[&[0, number * 3, 7, 0, number, number, 0]]);
        }
        for action in 0..7 {
            let name = format!("action-{action}");
            self.write("snapshot", &name, &[&[0, 20 + action, action, 0, 40, 3, 2, 1, 2]]);
        }
    }

    fn texts(&self) {
        for (target, texts) in [
            ("target", &["a1b2:/srv/x", "/srv", "abc", "ls\n-l\n--name=x\na1:b", "-tag=a\nbackup"]),
            (
                "text",
                &[
                    "00000000....1h30m",
                    "00000000....2026-11-22T00:39:39.25+01:00",
                    "00000000....24 MiB",
                    "00000000....2d 3h",
                    "\x7f\x7f\x7f\x7f\x7f\x7f\x7f\x7f....\u{202e}",
                ],
            ),
            (
                "pattern",
                &["\x04a*b?axyzbc", "\x06[a-c]*b/", "\x02\\*x", "\x05[^a]*x", "\x03*.cabc.c"],
            ),
            (
                "ignore",
                &[
                    "\x05a/b.o*.o\n!b.o\n",
                    "\x01x/x/**\n",
                    "\x03a/ba/\n",
                    "\x01y[a-",
                    "\x02xy#c\n\\#x",
                ],
            ),
            ("location", &["fs:///srv/store", "ptar:x/../y", "s3://bucket", "/a/./b//c", "@name"]),
        ] {
            for (index, text) in texts.iter().enumerate() {
                self.write(target, &index.to_string(), &[text.as_bytes()]);
            }
        }
    }
}

fn encoded(compression: Compression, plain: &[u8]) -> Vec<u8> {
    let codec = Codec { compression, cipher: None };
    let mut memory = vec![0; ENCODE_SCRATCH_BYTES_MIN];
    let mut scratch = EncodeScratch::new(&mut memory).unwrap();
    let mut unit = Vec::new();
    let out = |bytes: &[u8]| {
        unit.extend_from_slice(bytes);
        Ok::<(), Infallible>(())
    };
    Encoder::new(&codec, &mut scratch, |_| Ok(()), out).unwrap().finish_with(plain).unwrap();
    unit
}
