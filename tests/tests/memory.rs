//! The promise of `--memory`: the whole process, by the kernel's account, under
//! limits that end it otherwise; and that what is said of memory is true.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use tiroir_core::repository::config_mac;
use tiroir_tests::oracle;
use tiroir_tests::rng::Rng;
use tiroir_tests::sandbox::{Invocation, PASSPHRASE, Sandbox};
use tiroir_tests::tree::{self, Shape};

const FAILED: i32 = 1;

const MIB: u64 = 1024 * 1024;

/// The smallest budget without asking for less.
const BUDGET: &str = "24M";

/// The same, in bytes.
const BUDGET_BYTES: u64 = 24 * MIB;

/// What a program takes that does nothing, at most: else it is this process
/// that was measured.
const IDLE_BYTES_MAX: u64 = 12 * MIB;

const FILE_COUNT: usize = 100_000;
const FILES_IN_FOLDER: usize = 250;

const LARGE_BYTES: u64 = 1024 * MIB;

/// Puts a program under limits: all private memory that it may write to is at
/// most its budget, touched or not, and its address space is that and the
/// program's file.
fn limited(mut invocation: Invocation) -> Invocation {
    let program_bytes = fs::metadata(oracle::tiroir()).expect("the program").len();
    let data = format!("--data={BUDGET_BYTES}");
    let space = format!("--as={}", BUDGET_BYTES + program_bytes);
    invocation.wrapped(["prlimit", "--core=0", &data, &space]);
    invocation
}

/// Many small files, and a large one: noise at first, then islands of it
/// between zeros, so that chunks have all lengths.
fn make_source(source: &Path) {
    for number in 0..FILE_COUNT {
        let folder = source.join(format!("{:03}", number / FILES_IN_FOLDER));
        if number % FILES_IN_FOLDER == 0 {
            fs::create_dir_all(&folder).expect("source");
        }
        fs::write(folder.join(format!("{number}.txt")), format!("file {number}\n"))
            .expect("source");
    }
    let file = File::create(source.join("large")).expect("source");
    let mut rng = Rng::new(90);
    for (index, start) in (0..LARGE_BYTES).step_by(usize::try_from(MIB).expect("fits")).enumerate()
    {
        let length = if index < 32 { 1 << 20 } else { 4096 << (index % 3) };
        file.write_all_at(&rng.bytes(length), start).expect("source");
    }
    file.set_len(LARGE_BYTES).expect("source");
}

/// Runs a command under the limits, and compares what it took with its budget.
#[track_caller]
fn within(sandbox: &Sandbox, front: &[&str], args: &[&str]) {
    let mut invocation = sandbox.tiroir();
    invocation.args(["--memory", BUDGET]).args(front).args(args);
    let peak = limited(invocation).measure(&sandbox.path("stderr"));
    println!(
        "{:>6} KiB, {:>5.1} s: {}",
        peak.resident_bytes / 1024,
        peak.elapsed.as_secs_f32(),
        args.join(" ")
    );
    assert_eq!(peak.status.code(), Some(0), "{peak:?}");
    assert!(peak.resident_bytes < BUDGET_BYTES, "{peak:?}");
    // A chunk, and more, is always touched by these: the kernel counts.
    assert!(peak.resident_bytes > 2 * MIB, "{peak:?}");
}

#[test]
fn every_command_within_the_smallest_budget() {
    let sandbox = Sandbox::new();
    let idle = sandbox.tiroir().arg("version").measure(&sandbox.path("stderr"));
    assert!(idle.resident_bytes < IDLE_BYTES_MAX, "{idle:?}");
    let paths = ["src", "store", "key", "x.ptar", "out"].map(|name| sandbox.path(name));
    let [source, store, key, archive, out] =
        paths.each_ref().map(|path| path.to_str().expect("UTF-8"));
    make_source(Path::new(source));

    // The key is derived once, with more memory, as the manual has it.
    let derive = || {
        let mut invocation = sandbox.at(store);
        invocation.passphrase(PASSPHRASE);
        invocation
    };
    derive().args(["create", "-kdf-memory", "19M", "-kdf-time", "1"]).run().status(0);
    derive().args(["key", "-o", key]).run().status(0);

    let with_key = ["--key-file", key, "at", store];
    let (large, folder) = (format!(":{source}/large"), format!(":{source}/007"));
    within(&sandbox, &with_key, &["backup", source]);
    within(&sandbox, &with_key, &["ls", "-recursive", ":"]);
    within(&sandbox, &with_key, &["cat", &large]);
    within(&sandbox, &with_key, &["diff", "-recursive", ":"]);
    within(&sandbox, &with_key, &["locate", "*77.txt"]);
    within(&sandbox, &with_key, &["digest", &folder]);
    within(&sandbox, &with_key, &["info"]);
    fs::write(sandbox.path("src/003/755.txt"), "changed").expect("source");
    within(&sandbox, &with_key, &["backup", source]);
    within(&sandbox, &with_key, &["check"]);
    within(&sandbox, &with_key, &["restore", "-to", out]);
    assert_eq!(fs::read(sandbox.path("out/003/755.txt")).expect("restored"), b"changed");
    assert_eq!(fs::metadata(sandbox.path("out/large")).expect("restored").len(), LARGE_BYTES);

    within(&sandbox, &[], &["ptar", "-plaintext", "-o", archive, source]);
    within(&sandbox, &["at", archive], &["check"]);
    within(&sandbox, &["at", archive], &["cat", &large]);
}

/// The commands of `limits`, and how to ask for each.
fn commands(
    source: &str,
    archive: &str,
    store: &str,
    out: &str,
) -> Vec<(&'static str, Vec<String>)> {
    let file = format!(":{source}/plain/text.txt");
    let words = |words: &[&str]| words.iter().map(|word| String::from(*word)).collect();
    vec![
        ("archive", words(&["archive", "-output", "-", ":"])),
        ("bench", words(&["bench"])),
        ("ls", words(&["ls"])),
        ("cat", words(&["cat", &file])),
        ("diff", words(&["diff", ":"])),
        ("digest", words(&["digest", &file])),
        ("info", words(&["info"])),
        ("locate", words(&["locate", "x"])),
        ("check", words(&["check"])),
        ("restore", words(&["restore", "-to", out])),
        ("ptar", words(&["ptar", "-plaintext", "-overwrite", "-o", archive, source])),
        ("ptar -k", words(&["ptar", "-plaintext", "-overwrite", "-o", archive, "-k", store])),
        ("backup -dry-run", words(&["backup", "-dry-run", source])),
        ("backup", words(&["backup", source])),
    ]
}

/// What `limits` says of a store: the least memory of each command.
fn least(sandbox: &Sandbox, store: &str) -> Vec<(String, u64)> {
    let outcome = sandbox.at(store).args(["--json", "limits"]).run().status(0);
    let lines = outcome.text().lines().map(|line| {
        serde_json::from_str::<serde_json::Value>(line).expect("one object on one line")
    });
    lines
        .filter(|line| line["type"] == "need")
        .map(|line| {
            let command = line["command"].as_str().expect("a name").to_owned();
            (command, line["least_bytes"].as_u64().expect("a number"))
        })
        .collect()
}

/// With less memory than `limits` says a command asks for that much before it
/// does anything, and with that much it does everything.
fn asks_for_what_it_needs(sandbox: &Sandbox, store: &str) {
    let paths = ["src", "x.ptar", "out"].map(|name| sandbox.path(name));
    let [source, archive, out] = paths.each_ref().map(|path| path.to_str().expect("UTF-8"));
    let _ = fs::remove_file(archive);
    let told = least(sandbox, store);
    let commands = commands(source, archive, store, out);
    assert_eq!(told.len(), commands.len(), "{told:?}");
    for (name, args) in commands {
        let (_, bytes) = told.iter().find(|(told, _)| told == name).expect("a line");
        let (mib, step) = (bytes / MIB, if name == "ptar -k" { 2 } else { 1 });
        assert_eq!(bytes % MIB, 0);
        for memory in [1, mib - step] {
            let memory = format!("{memory}M");
            let mut invocation = sandbox.at(store);
            let refused = invocation.args(["--memory", &memory]).args(&args).run().status(FAILED);
            let text = format!("It needs {mib} MiB: --memory {mib}M.");
            assert!(refused.said(&text), "{name} {text}\n{}", refused.report());
            assert!(refused.stdout.is_empty(), "{}", refused.report());
        }
        let archive_is_there = Path::new(archive).exists();
        assert!(!Path::new(out).exists() && (name != "ptar" || !archive_is_there), "{name}");
        let memory = format!("{mib}M");
        let done = sandbox.at(store).args(["--memory", &memory]).args(&args).run().status(0);
        // What `bench` tells of is memory, too.
        assert!(name == "bench" || !done.said("memory"), "{}", done.report());
        let _ = fs::remove_dir_all(out);
    }
}

/// A plain store with one snapshot, of chunks of at most so many bytes.
fn store_with_chunks(sandbox: &Sandbox, name: &str, chunk_bytes: Option<[u32; 3]>) -> PathBuf {
    let store = sandbox.path(name);
    sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);
    if let Some(sizes) = chunk_bytes {
        let path = store.join("CONFIG");
        let mut config = fs::read(&path).expect("CONFIG");
        config.truncate(config.len() - 32);
        for (key, size) in ["MinSize", "NormalSize", "MaxSize"].iter().zip(sizes) {
            // Packfiles have such a key too.
            let find = |key: &str, start: usize| {
                let mut words = config[start..].windows(key.len());
                start + words.position(|word| word == key.as_bytes()).expect("the key") + key.len()
            };
            let at = find(key, find("Chunking", 0));
            assert_eq!(config[at], 0xce, "a number of 32 bits");
            config[at + 1..at + 5].copy_from_slice(&size.to_be_bytes());
        }
        config.extend_from_slice(&config_mac(&config.clone(), None).0);
        fs::write(&path, config).expect("CONFIG");
    }
    sandbox.at(&store).arg("backup").arg(sandbox.path("src")).run().status(0);
    store
}

#[test]
fn too_little_memory_is_said_before_anything_is_done() {
    let sandbox = Sandbox::new();
    tree::build(&sandbox.path("src"), Shape::PLAIN, 91);
    const KIB: u32 = 1024;
    for (name, sizes) in [
        ("stock", None),
        ("small", Some([16 * KIB, 32 * KIB, 64 * KIB])),
        ("large", Some([512 * KIB, 1024 * KIB, 64 * 1024 * KIB])),
    ] {
        let store = store_with_chunks(&sandbox, name, sizes);
        asks_for_what_it_needs(&sandbox, store.to_str().expect("UTF-8"));
    }
}

/// `limits` of an encrypted store asks for no passphrase, and tells what the
/// key takes.
#[test]
fn limits_of_an_encrypted_store() {
    let sandbox = Sandbox::new();
    let store = sandbox.path("store");
    let mut create = sandbox.at(&store);
    create.passphrase(PASSPHRASE).args(["create", "-kdf-memory", "19M", "-kdf-time", "1"]);
    create.run().status(0);
    let outcome = sandbox.at(&store).arg("limits").run().status(0);
    let key = format!("key: {} on top", 19 * MIB);
    assert!(outcome.said(&key) && outcome.said("8388608 (of the store)"), "{}", outcome.report());
    assert!(outcome.stderr.is_empty(), "{}", outcome.report());
    let outcome = sandbox.at(sandbox.path("none")).arg("limits").run().status(66);
    assert!(outcome.said("Is its disk mounted?"), "{}", outcome.report());
}

/// The document has the output, and the constants that it names are told.
#[test]
fn the_document_tells_what_the_program_tells() {
    let sandbox = Sandbox::new();
    let outcome = sandbox.tiroir().args(["--memory", BUDGET, "limits"]).run().status(0);
    let document = fs::read_to_string(oracle::workspace().join("docs/memory.md")).expect("text");
    let block = format!("```text\n$ tiroir --memory {BUDGET} limits\n{}```\n", outcome.text());
    assert!(document.contains(&block), "docs/memory.md has another output than\n{block}");

    let constant = |word: &&str| {
        let mut letters = word.bytes();
        word.contains("_BYTES")
            && letters.all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_')
    };
    let words = document.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let named: Vec<&str> = words.filter(constant).collect();
    assert!(named.len() > 20);
    for name in named {
        assert!(outcome.text().contains(&format!("  {name} ")), "{name} is not told");
    }

    // And every bound of the engine is told.
    let path = oracle::workspace().join("core/src/limits.rs");
    let code = fs::read_to_string(path).expect("code");
    let names: Vec<_> = code.lines().filter_map(|line| line.strip_prefix("pub const ")).collect();
    assert!(names.len() >= 18);
    for line in names {
        let name = line.split(':').next().expect("a name");
        assert!(outcome.text().contains(&format!("  {name} ")), "{name} is not told");
    }
}
