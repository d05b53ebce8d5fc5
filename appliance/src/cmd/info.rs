//! `info`: tells what a store or a snapshot is.

use std::ffi::OsString;
use std::io::Write;

use tiroir_core::btree::{Cursor, TreeKinds};
use tiroir_core::compression::Compression;
use tiroir_core::crypto::kdf::Kdf;
use tiroir_core::error::{Error, Subject};
use tiroir_core::index::Index as _;
use tiroir_core::limits::NODE_BYTES_MAX;
use tiroir_core::mac::Mac;
use tiroir_core::repository::parse_config;
use tiroir_core::resource::{ResourceKind, Version};
use tiroir_core::snapshot::read_header;
use tiroir_core::wire::config::{Config, Encryption};
use tiroir_core::wire::error_entry::ErrorEntry;
use tiroir_core::wire::header::Header;
use tiroir_core::wire::path::is_within;
use tiroir_core::wire::summary::{Counts, Summary};

use super::{Desk, desk_bytes};
use crate::error::{EngineError, Result};
use crate::exit::Status;
use crate::open::Context;
use crate::snapshots::{self, Target};
use crate::store::Repo;
use crate::text::duration::Duration;
use crate::text::json::Line;
use crate::text::printable::Printable;
use crate::text::size::Size;
use crate::text::time::{Rfc3339, Zone};

/// Tell what a store or a snapshot is
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// List what could not be read when the snapshot was taken
    #[arg(long)]
    errors: bool,

    /// The snapshot; without it, the store is meant
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    target: Option<OsString>,
}

/// What of the work memory `-errors` takes for the node of the tree, beside
/// that for entries.
const ERRORS_BYTES: usize = NODE_BYTES_MAX;

/// Memory for the work of telling what there is, in bytes.
pub(super) fn work_bytes(chunk_bytes: usize) -> usize {
    desk_bytes(chunk_bytes, ERRORS_BYTES)
}

/// Tells.
///
/// # Errors
///
/// The engine's, and those of `out`.
pub(crate) fn run(args: &Args, context: &Context<'_>, out: &mut dyn Write) -> Result<Status> {
    let opened = context.open()?;
    let (location, config) = (opened.location.clone(), opened.config.clone());
    context.with_repository(opened, work_bytes, |repo, memory| {
        context.refresh(repo, memory)?;
        let mut desk = Desk::new(repo, memory)?;
        match &args.target {
            None => {
                let parsed =
                    parse_config(&config).map_err(EngineError::damaged(Subject::Config))?;
                let (snapshots, logical_bytes) = totals(context, repo, desk.read.chunk)?;
                let stored_bytes = repo.store.stored_bytes(&location)?;
                let info = StoreInfo { config: parsed, snapshots, stored_bytes, logical_bytes };
                if context.globals.json { info.json(out) } else { info.text(&Zone::local(), out) }?;
            }
            Some(text) => {
                let target = Target::parse(text);
                if args.errors {
                    errors(context, repo, &target, &mut desk, out)?;
                } else {
                    let id = snapshots::find(repo, &target.prefix)?;
                    let header = read_header(repo, &id, desk.read.chunk)?;
                    if context.globals.json {
                        snapshot_json(&header, out)?;
                    } else {
                        snapshot_text(&header, &Zone::local(), out)?;
                    }
                }
            }
        }
        Ok(context.status(Status::Done))
    })
}

/// Number of snapshots, and the sum of the sizes of their files.
fn totals(context: &Context<'_>, repo: &mut Repo<'_>, buffer: &mut [u8]) -> Result<(u64, u64)> {
    let (mut count, mut bytes, mut after) = (0, 0_u64, None);
    while let Some(id) = repo.index.next_snapshot(after.as_ref())? {
        context.check_cancelled()?;
        after = Some(id);
        count += 1;
        match read_header(repo, &id, buffer) {
            Ok(header) => bytes = bytes.saturating_add(header.source.summary.total_size_bytes()),
            Err(error @ (Error::Damaged { .. } | Error::Missing(_))) => context.pass_over(&error),
            Err(error) => return Err(error.into()),
        }
    }
    Ok((count, bytes))
}

/// What a store is.
struct StoreInfo<'c> {
    config: Config<'c>,
    snapshots: u64,
    /// Nothing if it is not known.
    stored_bytes: Option<u64>,
    logical_bytes: u64,
}

/// An identifier as UUIDs are written.
fn uuid(id: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in id.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// Bytes in hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A size as stock shows it here: `64 MiB (67108864 bytes)`.
fn both(bytes: u64) -> String {
    format!("{} ({bytes} bytes)", Size(bytes))
}

impl StoreInfo<'_> {
    fn text(&self, zone: &Zone, out: &mut dyn Write) -> std::io::Result<()> {
        let Config { timestamp, repository_id, packfile_bytes_max, chunking, hashing, .. } =
            &self.config;
        writeln!(out, "Version: {}", Version::V1_0_0)?;
        writeln!(out, "Timestamp: {}", zone.show(*timestamp))?;
        writeln!(out, "RepositoryID: {}", uuid(repository_id))?;
        writeln!(out, "Packfile:")?;
        writeln!(out, " - MaxSize: {}", both(*packfile_bytes_max))?;
        writeln!(out, "Chunking:")?;
        writeln!(out, " - Algorithm: {}", Printable(chunking.algorithm))?;
        writeln!(out, " - MinSize: {}", both(chunking.min_bytes.into()))?;
        writeln!(out, " - NormalSize: {}", both(chunking.normal_bytes.into()))?;
        writeln!(out, " - MaxSize: {}", both(chunking.max_bytes.into()))?;
        writeln!(out, "Hashing:")?;
        writeln!(out, " - Algorithm: {}", hashing.name())?;
        writeln!(out, " - Bits: 256")?;
        if let Some(name) = self.config.compression.name() {
            let level = if self.config.compression == Compression::Lz4 { 131_072 } else { -1 };
            writeln!(out, "Compression:")?;
            writeln!(out, " - Algorithm: {name}")?;
            writeln!(out, " - Level: {level}")?;
        }
        if let Some(encryption) = &self.config.encryption {
            encryption_text(encryption, out)?;
        }
        writeln!(out, "Snapshots: {}", self.snapshots)?;
        match self.stored_bytes {
            Some(bytes) => writeln!(out, "Storage size: {}", both(bytes))?,
            None => writeln!(out, "Storage size: not known")?,
        }
        writeln!(out, "Logical size: {}", both(self.logical_bytes))
    }

    fn json(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let config = &self.config;
        let mut line = Line::new(out, "store")?;
        line.show("id", uuid(&config.repository_id))?;
        line.show("timestamp", Rfc3339(config.timestamp))?;
        line.number("packfile_bytes_max", config.packfile_bytes_max)?;
        line.text("chunking", config.chunking.algorithm)?;
        line.number("chunk_bytes_min", config.chunking.min_bytes)?;
        line.number("chunk_bytes_normal", config.chunking.normal_bytes)?;
        line.number("chunk_bytes_max", config.chunking.max_bytes)?;
        line.show("hashing", config.hashing.name())?;
        line.show("compression", config.compression.name().unwrap_or("none"))?;
        match &config.encryption {
            None => line.show("encryption", "none")?,
            Some(encryption) => {
                line.show("encryption", encryption.suite.name())?;
                line.show("kdf", encryption.kdf.name())?;
                line.number("kdf_memory", encryption.kdf.memory_bytes())?;
            }
        }
        line.number("snapshots", self.snapshots)?;
        if let Some(bytes) = self.stored_bytes {
            line.number("stored_bytes", bytes)?;
        }
        line.number("logical_bytes", self.logical_bytes)?;
        line.end()
    }
}

fn encryption_text(encryption: &Encryption<'_>, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "Encryption:")?;
    writeln!(out, " - SubkeyAlgorithm: AES256-KW")?;
    writeln!(out, " - DataAlgorithm: {}", encryption.suite.name())?;
    writeln!(out, " - ChunkSize: 65536")?;
    writeln!(out, " - Canary: {}", hex(encryption.canary))?;
    writeln!(out, " - KDF: {}", encryption.kdf.name())?;
    writeln!(out, "   - Salt: {}", hex(encryption.salt))?;
    writeln!(out, "   - SaltSize: {}", encryption.salt.len())?;
    writeln!(out, "   - KeyLen: 32")?;
    match encryption.kdf {
        Kdf::Argon2id { time, memory_kib, threads } => {
            writeln!(out, "   - Time: {time}")?;
            writeln!(out, "   - Memory: {memory_kib}")?;
            writeln!(out, "   - Thread: {threads}")
        }
        Kdf::Scrypt { n, r, p } => {
            writeln!(out, "   - N: {n}")?;
            writeln!(out, "   - R: {r}")?;
            writeln!(out, "   - P: {p}")
        }
        Kdf::Pbkdf2 { iterations } => {
            writeln!(out, "   - Iterations: {iterations}")?;
            writeln!(out, "   - Hashing: SHA256")
        }
    }
}

/// Writes what a snapshot is.
fn snapshot_text(header: &Header<'_>, zone: &Zone, out: &mut dyn Write) -> std::io::Result<()> {
    let source = &header.source;
    writeln!(out, "Version: {}", Version::V1_0_0)?;
    writeln!(out, "SnapshotID: {}", header.identifier)?;
    writeln!(out, "Timestamp: {}", zone.show(header.timestamp))?;
    writeln!(out, "Duration: {}", Duration(header.duration_nanos))?;
    writeln!(out, "Name: {}", Printable(header.name))?;
    writeln!(out, "Environment: {}", Printable(header.environment))?;
    writeln!(out, "Perimeter: {}", Printable(header.perimeter))?;
    writeln!(out, "Category: {}", Printable(header.category))?;
    if !header.tags.is_empty() {
        for (index, tag) in header.tags.iter().enumerate() {
            write!(out, "{}{}", if index == 0 { "Tags: " } else { ", " }, Printable(tag))?;
        }
        writeln!(out)?;
    }
    if header.identity != [0; 16] {
        writeln!(out, "Identity:")?;
        writeln!(out, " - Identifier: {}", uuid(&header.identity))?;
        writeln!(out, " - PublicKey: {}", hex(header.public_key))?;
    }
    writeln!(out, "VFS:")?;
    writeln!(out, " - Root: {}", source.trees.vfs)?;
    writeln!(out, " - Xattrs: {}", source.trees.xattrs)?;
    writeln!(out, " - Errors: {}", source.trees.errors)?;
    writeln!(out, "Importer:")?;
    writeln!(out, " - Type: {}", Printable(source.kind))?;
    writeln!(out, " - Origin: {}", Printable(source.origin))?;
    writeln!(out, " - Directory: {}", Printable(source.directory))?;
    writeln!(out, "Context:")?;
    for (name, key) in CONTEXT {
        let value = header.context.iter().find(|(found, _)| *found == key.as_bytes());
        let value = value.map_or(&[][..], |(_, value)| value);
        writeln!(out, " - {name}: {}", Printable(value))?;
    }
    writeln!(out, "Summary:")?;
    summary_text(&source.summary, zone, out)
}

/// What is shown of the machine and program, and under which key it is
/// recorded. Stock looks for `GOMAXPROCS`, which nobody records, and shows
/// nothing; the number is in `MaxProcs`.
const CONTEXT: [(&str, &str); 10] = [
    ("MachineID", "MachineID"),
    ("Hostname", "Hostname"),
    ("Username", "Username"),
    ("OperatingSystem", "OperatingSystem"),
    ("Architecture", "Architecture"),
    ("NumCPU", "NumCPU"),
    ("GOMAXPROCS", "MaxProcs"),
    ("ProcessID", "ProcessID"),
    ("Client", "Client"),
    ("CommandLine", "CommandLine"),
];

/// Names of the counts that are sums over both parts of a summary.
fn sums(directory: &Counts, below: &Counts) -> [(&'static str, u64); 11] {
    let sum = |count: fn(&Counts) -> u64| count(directory).wrapping_add(count(below));
    [
        ("Directories", sum(|counts| counts.directories)),
        ("Files", sum(|counts| counts.files)),
        ("Symlinks", sum(|counts| counts.symlinks)),
        ("Devices", sum(|counts| counts.devices)),
        ("Pipes", sum(|counts| counts.pipes)),
        ("Sockets", sum(|counts| counts.sockets)),
        ("Setuid", sum(|counts| counts.setuid)),
        ("Setgid", sum(|counts| counts.setgid)),
        ("Sticky", sum(|counts| counts.sticky)),
        ("Objects", sum(|counts| counts.objects)),
        ("Chunks", sum(|counts| counts.chunks)),
    ]
}

/// Groups of content types, as shown.
const MIME: [&str; 6] = ["Audio", "Video", "Image", "Text", "Application", "Other"];

/// Writes the statistics of a snapshot.
fn summary_text(summary: &Summary, zone: &Zone, out: &mut dyn Write) -> std::io::Result<()> {
    let Summary { directory, below } = summary;
    for (name, count) in sums(directory, below) {
        writeln!(out, " - {name}: {count}")?;
    }
    writeln!(out, " - MinSize: {}", both(directory.min_size.min(below.min_size)))?;
    writeln!(out, " - MaxSize: {}", both(directory.max_size.max(below.max_size)))?;
    writeln!(out, " - Size: {}", both(summary.total_size_bytes()))?;
    let time = |secs| zone.show(tiroir_core::time::Timestamp { secs, nanos: 0 });
    writeln!(out, " - MinModTime: {}", time(directory.min_mod_time.min(below.min_mod_time)))?;
    writeln!(out, " - MaxModTime: {}", time(directory.max_mod_time.max(below.max_mod_time)))?;
    writeln!(out, " - MinEntropy: {:.6}", directory.min_entropy.min(below.min_entropy))?;
    writeln!(out, " - MaxEntropy: {:.6}", directory.max_entropy.max(below.max_entropy))?;
    writeln!(out, " - HiEntropy: {}", directory.hi_entropy.wrapping_add(below.hi_entropy))?;
    writeln!(out, " - LoEntropy: {}", directory.lo_entropy.wrapping_add(below.lo_entropy))?;
    for (index, name) in MIME.iter().enumerate() {
        let count = directory.mime[index].wrapping_add(below.mime[index]);
        writeln!(out, " - MIME{name}: {count}")?;
    }
    writeln!(out, " - Errors: {}", summary.total_errors())
}

/// Writes what a snapshot is as a line of JSON.
fn snapshot_json(header: &Header<'_>, out: &mut dyn Write) -> std::io::Result<()> {
    let source = &header.source;
    let mut line = Line::new(out, "snapshot")?;
    line.show("id", header.identifier)?;
    line.show("timestamp", Rfc3339(header.timestamp))?;
    line.number("duration_ns", header.duration_nanos)?;
    for (name, value) in [
        ("name", header.name),
        ("category", header.category),
        ("environment", header.environment),
        ("perimeter", header.perimeter),
        ("job", header.job),
        ("source_type", source.kind),
        ("origin", source.origin),
        ("directory", source.directory),
    ] {
        line.text(name, value)?;
    }
    line.list("tags", header.tags.iter())?;
    line.show("vfs", source.trees.vfs)?;
    line.show("xattrs", source.trees.xattrs)?;
    line.show("errors_tree", source.trees.errors)?;
    for (_, key) in CONTEXT {
        if let Some((_, value)) = header.context.iter().find(|(found, _)| *found == key.as_bytes())
        {
            line.text(&key.to_ascii_lowercase(), value)?;
        }
    }
    for (name, count) in sums(&source.summary.directory, &source.summary.below) {
        line.number(&name.to_ascii_lowercase(), count)?;
    }
    line.number("size", source.summary.total_size_bytes())?;
    line.number("errors", source.summary.total_errors())?;
    line.end()
}

/// Writes what could not be read, strictly below a path.
fn errors(
    context: &Context<'_>,
    repo: &mut Repo<'_>,
    target: &Target,
    desk: &mut Desk<'_>,
    out: &mut dyn Write,
) -> Result<()> {
    let snapshot = snapshots::load(repo, target, &mut desk.read)?;
    // Not looked for: what could not be read need not be in the snapshot.
    let root = snapshot.absolute(&target.path);
    let kinds = TreeKinds::ERRORS;
    let node = &mut *desk.rest;
    let mut cursor = Cursor::seek(repo, kinds, &snapshot.trees.errors, None, node)?;
    while let Some((_, mac)) = cursor.next(repo, node)? {
        context.check_cancelled()?;
        let kind = ResourceKind::ERROR_ENTRY;
        let length = repo.read_blob(kind, &mac, desk.entry)?;
        let entry = ErrorEntry::parse(&desk.entry[..length])
            .map_err(EngineError::damaged(Subject::Blob(kind, mac)))?;
        if entry.path != root && is_within(entry.path, &root) {
            error_line(context, &snapshot.id, &entry, out)?;
        }
    }
    Ok(())
}

fn error_line(
    context: &Context<'_>,
    id: &Mac,
    entry: &ErrorEntry<'_>,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    if context.globals.json {
        let mut line = Line::new(out, "error")?;
        line.show("snapshot", id)?;
        line.text("path", entry.path)?;
        line.text("error", entry.message)?;
        return line.end();
    }
    Printable(entry.path).write_to(out)?;
    out.write_all(b": ")?;
    Printable(entry.message).write_to(out)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiroir_core::crypto::Suite;
    use tiroir_core::mac::HashAlgorithm;
    use tiroir_core::time::Timestamp;
    use tiroir_core::wire::config::Chunking;
    use tiroir_core::wire::header::{Pairs, Source};

    #[test]
    fn a_store_as_stock_tells_it() {
        let config = Config {
            timestamp: Timestamp { secs: 1_795_307_956, nanos: 453_937_753 },
            repository_id: [
                0x46, 0x34, 0xb7, 0xa3, 0x69, 0x9a, 0x4a, 0x53, 0xbd, 0x69, 0xa2, 0x4e, 0x42, 0x4f,
                0xe9, 0x8a,
            ],
            packfile_bytes_max: 64 << 20,
            chunking: Chunking::default(),
            hashing: HashAlgorithm::Blake3,
            compression: Compression::Lz4,
            encryption: Some(Encryption {
                suite: Suite::Aes256GcmSiv,
                kdf: Kdf::default(),
                salt: &[0xa4; 16],
                canary: &[0x4c, 0xbf],
            }),
        };
        let info = StoreInfo {
            config,
            snapshots: 2,
            stored_bytes: Some(7_469_267),
            logical_bytes: 56_803_175,
        };
        let mut out = Vec::new();
        info.text(&Zone::utc(), &mut out).unwrap();
        let wanted = "\
Version: v1.0.0
Timestamp: 2026-11-22 00:39:16.453937753 +0000 UTC
RepositoryID: 4634b7a3-699a-4a53-bd69-a24e424fe98a
Packfile:
 - MaxSize: 64 MiB (67108864 bytes)
Chunking:
 - Algorithm: fastcdc-v1.0.0
 - MinSize: 512 KiB (524288 bytes)
 - NormalSize: 1.0 MiB (1048576 bytes)
 - MaxSize: 8.0 MiB (8388608 bytes)
Hashing:
 - Algorithm: BLAKE3
 - Bits: 256
Compression:
 - Algorithm: LZ4
 - Level: 131072
Encryption:
 - SubkeyAlgorithm: AES256-KW
 - DataAlgorithm: AES256-GCM-SIV
 - ChunkSize: 65536
 - Canary: 4cbf
 - KDF: ARGON2ID
   - Salt: a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4
   - SaltSize: 16
   - KeyLen: 32
   - Time: 4
   - Memory: 262144
   - Thread: 1
Snapshots: 2
Storage size: 7.1 MiB (7469267 bytes)
Logical size: 54 MiB (56803175 bytes)
";
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }

    #[test]
    fn a_snapshot_as_stock_tells_it() {
        let below = Counts {
            directories: 3,
            files: 1,
            objects: 1,
            chunks: 1,
            max_size: 2,
            size: 2,
            max_mod_time: 1_795_314_928,
            max_entropy: 1.0,
            lo_entropy: 1,
            mime: [0, 0, 0, 1, 0, 0],
            ..Counts::default()
        };
        let summary = Summary { below, ..Summary::default() };
        let context: [(&[u8], &[u8]); 2] = [(b"Hostname", b"vm"), (b"MaxProcs", b"2")];
        let header = Header {
            identifier: Mac([0x62; 32]),
            timestamp: Timestamp { secs: 1_795_314_978, nanos: 303_665_866 },
            duration_nanos: 133_807_177,
            name: b"default",
            context: Pairs::Lent(&context),
            source: Source {
                kind: b"fs",
                origin: b"vm",
                directory: b"/tmp/h6/bt",
                summary,
                ..Source::default()
            },
            ..Header::default()
        };
        let mut out = Vec::new();
        snapshot_text(&header, &Zone::utc(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for line in [
            "Timestamp: 2026-11-22 02:36:18.303665866 +0000 UTC\nDuration: 133.807177ms\n",
            "Name: default\nEnvironment: \nPerimeter: \nCategory: \nVFS:\n",
            "Importer:\n - Type: fs\n - Origin: vm\n - Directory: /tmp/h6/bt\nContext:\n",
            " - MachineID: \n - Hostname: vm\n - Username: \n",
            " - NumCPU: \n - GOMAXPROCS: 2\n - ProcessID: \n",
            "Summary:\n - Directories: 3\n - Files: 1\n - Symlinks: 0\n",
            " - MinSize: 0 B (0 bytes)\n - MaxSize: 2 B (2 bytes)\n - Size: 2 B (2 bytes)\n",
            " - MinModTime: 1970-01-01 00:00:00 +0000 UTC\n",
            " - MaxModTime: 2026-11-22 02:35:28 +0000 UTC\n",
            " - MinEntropy: 0.000000\n - MaxEntropy: 1.000000\n - HiEntropy: 0\n - LoEntropy: 1\n",
            " - MIMEText: 1\n - MIMEApplication: 0\n - MIMEOther: 0\n - Errors: 0\n",
        ] {
            assert!(text.contains(line), "{line}\nin\n{text}");
        }
    }
}
