//! The example of a device without an operating system, in QEMU: it backs up a
//! directory of its card into an archive on the card, with 256 KiB of memory, and
//! stock reads the archive with the passphrase that the device never had.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tiroir_tests::compare::{Rules, assert_same};
use tiroir_tests::oracle;
use tiroir_tests::rng::Rng;
use tiroir_tests::sandbox::{Outcome, Sandbox};
use tiroir_tests::scene::identifiers;
use tiroir_tests::tree;

const PASSPHRASE: &str = "what the device never had 4711";

/// All memory of the device, in bytes.
const MEMORY_BYTES: u64 = 256 * 1024;

/// Where the file system starts in the card, in sectors: as cards have it.
const START: u32 = 2048;

/// The time of all files, which FAT keeps in steps of two seconds.
const TIME_SECS: i64 = 1_600_000_000;

/// Times are compared apart: those of directories are none of the source.
const RULES: Rules = Rules { mtime_ns_max: u64::MAX, ..Rules::STOCK };

/// A device with its card, in a folder of its own.
struct Device<'s> {
    sandbox: &'s Sandbox,
    folder: PathBuf,
}

impl<'s> Device<'s> {
    /// A device that was given a key, and a card with a file system and a
    /// partition for the work of so many sectors.
    fn new(sandbox: &'s Sandbox, fat_sectors: u32, scratch_sectors: u32) -> Self {
        let folder = sandbox.path("device");
        fs::create_dir_all(&folder).expect("folder of the device");
        let factory = sandbox.path("factory");
        let choices = ["-weak-passphrase", "-kdf-memory", "19M", "-kdf-time", "1"];
        let mut create = sandbox.at(&factory);
        create.passphrase(PASSPHRASE).arg("create").args(choices).run().status(0);
        let key = folder.join("KEY");
        sandbox.at(&factory).passphrase(PASSPHRASE).args(["key", "-o"]).arg(&key).run().status(0);
        fs::copy(factory.join("CONFIG"), folder.join("CONFIG")).expect("CONFIG");

        let mut card = File::create(folder.join("card.img")).expect("a card");
        card.set_len(u64::from(START + fat_sectors + scratch_sectors) * 512).expect("its length");
        card.seek(SeekFrom::Start(446)).expect("its table");
        for (kind, start, sectors) in
            [(0x06, START, fat_sectors), (0xda, START + fat_sectors, scratch_sectors)]
        {
            let mut entry = [0; 16];
            entry[4] = if sectors > 0 { kind } else { 0 };
            entry[8..12].copy_from_slice(&start.to_le_bytes());
            entry[12..].copy_from_slice(&sectors.to_le_bytes());
            card.write_all(&entry).expect("its table");
        }
        card.seek(SeekFrom::Start(510)).expect("its table");
        card.write_all(&[0x55, 0xaa]).expect("its table");
        let device = Self { sandbox, folder };
        let (sectors, start) = (fat_sectors.to_string(), START.to_string());
        device.mtools("mformat", &["-T", &sectors, "-h", "64", "-s", "32", "-H", &start, "::"]);
        device
    }

    /// A program of mtools, on the file system of the card.
    fn mtools(&self, program: &str, args: &[&str]) -> Outcome {
        let image = format!("{}@@{}", self.folder.join("card.img").display(), START * 512);
        let mut invocation = self.sandbox.program(program);
        // The times of FAT are in no zone.
        invocation.env("TZ", "UTC").env("LC_ALL", "C.UTF-8");
        invocation.args(["-i", &image]).args(args).run().status(0)
    }

    /// Copies a tree to the card.
    fn fill(&self, source: &Path) {
        self.mtools("mcopy", &["-s", "-m", "-o", source.to_str().expect("a path"), "::"]);
    }

    /// Lets the device work.
    fn run(&self) -> Outcome {
        let mut qemu = self.sandbox.program("qemu-system-arm");
        qemu.args(["-machine", "mps2-an386", "-display", "none", "-monitor", "none"]);
        qemu.args(["-serial", "null", "-semihosting-config", "enable=on,target=native"]);
        qemu.arg("-kernel").arg(oracle::firmware()).cwd(&self.folder);
        qemu.timeout(Duration::from_secs(300)).run()
    }

    /// Takes an archive from the card.
    fn archive(&self, number: u32) -> PathBuf {
        let archive = self.sandbox.path(format!("card{number}.ptar"));
        let on_card = format!("::BACKUP{number:02}.PTA");
        self.mtools("mcopy", &[&on_card, archive.to_str().expect("a path")]);
        archive
    }

    /// That there is no archive on the card.
    #[track_caller]
    fn has_none(&self) {
        let listing = self.mtools("mdir", &["-b", "::"]);
        assert!(!listing.text().contains("BACKUP"), "{}", listing.report());
    }
}

/// Writes a file, with the directories above it.
fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
    fs::write(path, content).expect("a file");
    tree::chmod(path, 0o644);
    tree::touch(path, TIME_SECS, 0);
}

/// A source that takes more of everything than fits in the memory of the device.
/// Names of eight letters and three are in capitals, or they would become so.
fn build(root: &Path) {
    let mut rng = Rng::new(90);
    write(&root.join("LOGS/NOISE.BIN"), &rng.bytes(3 << 20));
    let lines: String =
        (0..100_000).map(|line| format!("{line}: 21.{} degrees\n", line % 7)).collect();
    write(&root.join("LOGS/temperatures of the year.csv"), lines.as_bytes());
    write(&root.join("LOGS/COPY.CSV"), lines.as_bytes());
    write(&root.join("EMPTY.TXT"), b"");
    write(&root.join("ONE.TXT"), b"1");
    write(&root.join("zażółć gęślą jaźń 日本.txt"), "names of any letters".as_bytes());
    for number in 0..500_usize {
        let path = format!("so many files that they do not fit/reading number {number:05}.txt");
        let len = rng.index(600);
        write(&root.join(path), &rng.text(len));
    }
    let mut deep = root.join("DEEP");
    for level in 0..12 {
        deep = deep.join(format!("level {level} of a deep tree"));
        write(&deep.join("a file on its way down.txt"), format!("level {level}").as_bytes());
    }
    fs::create_dir_all(root.join("DEEP/nothing at all in here")).expect("a directory");
    set_directories(root);
}

/// Gives directories the mode that FAT stands for.
fn set_directories(root: &Path) {
    tree::chmod(root, 0o755);
    for entry in fs::read_dir(root).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            set_directories(&path);
        }
    }
}

/// Times of files that were restored.
fn assert_times(root: &Path) {
    for path in ["ONE.TXT", "LOGS/NOISE.BIN", "zażółć gęślą jaźń 日本.txt"] {
        let time = fs::metadata(root.join(path)).expect("restored").mtime();
        assert!((0..2).contains(&(TIME_SECS - time)), "{path}: {time}");
    }
}

/// The numbers after some words of the line that starts with `line`.
fn numbers<const N: usize>(outcome: &Outcome, line: &str, words: [&str; N]) -> [u64; N] {
    let found = outcome.text().lines().find(|text| text.starts_with(line));
    let found = found.unwrap_or_else(|| panic!("no {line} in {}", outcome.report()));
    words.map(|word| {
        let mut parts = found.split(' ').skip_while(|part| *part != word);
        parts.nth(1).and_then(|number| number.parse().ok()).expect(word)
    })
}

#[test]
fn stock_reads_what_a_device_writes() {
    let sandbox = Sandbox::new();
    let stock = sandbox.stock();
    let device = Device::new(&sandbox, 131_072, 65_536);
    let source = sandbox.path("DATA");
    build(&source);
    device.fill(&source);

    let ran = device.run().status(0);
    println!("{}", ran.report());
    let [statics, stack, of, total] = numbers(&ran, "memory:", ["statics", "stack", "of", "total"]);
    assert!(stack < of, "no stack is left: {}", ran.report());
    assert_eq!(statics + stack, total);
    assert!(statics + of <= MEMORY_BYTES, "{}", ran.report());
    let [files, bytes] = numbers(&ran, "files:", ["files:", "with"]);
    assert_eq!(files, tree::regular_files(&source) as u64);
    assert_eq!(bytes, tree::size_bytes(&source));

    let first = device.archive(0);
    let listing =
        stock.quiet_at(&first).passphrase(PASSPHRASE).args(["ls", "-uuid"]).run().status(0);
    assert_eq!(identifiers(listing.text()).len(), 1, "{}", listing.report());
    stock.quiet_at(&first).passphrase(PASSPHRASE).arg("check").run().status(0);
    // What is there twice, and what compresses, is not there twice nor as it is.
    let archive_bytes = fs::metadata(&first).expect("an archive").len();
    assert!(archive_bytes < (3 << 20) + (2 << 20), "{archive_bytes} bytes");
    let wrong = stock.quiet_at(&first).passphrase("another").arg("ls").run();
    assert_ne!(wrong.code(), Some(0), "{}", wrong.report());

    // Another run makes another archive, and leaves the first one alone.
    write(&source.join("ONE.TXT"), b"another");
    device
        .mtools("mcopy", &["-m", "-o", source.join("ONE.TXT").to_str().expect("a path"), "::DATA"]);
    device.run().status(0);
    let second = device.archive(1);
    assert_eq!(fs::read(device.archive(0)).expect("read"), fs::read(&first).expect("read"));

    for (number, archive) in [&second, &first].into_iter().enumerate() {
        if number == 1 {
            write(&source.join("ONE.TXT"), b"1");
        }
        let out = sandbox.path(format!("stock{number}"));
        let mut restore = stock.quiet_at(archive);
        restore.passphrase(PASSPHRASE).args(["restore", "-to"]).arg(&out).run().status(0);
        assert_same(&source, &out, RULES);
        assert_times(&out);
        let out = sandbox.path(format!("ours{number}"));
        let ours = || {
            let mut ours = sandbox.at(archive);
            ours.passphrase(PASSPHRASE);
            ours
        };
        ours().arg("check").run().status(0);
        ours().args(["restore", "-to"]).arg(&out).run().status(0);
        assert_same(&source, &out, RULES);
        assert_times(&out);
    }
}

/// Whatever goes wrong, the device says so, and leaves no half of an archive.
#[test]
fn a_device_says_what_is_wrong() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("DATA");
    write(&source.join("NOISE.BIN"), &Rng::new(91).bytes(3 << 20));
    // Its archive would be longer than what is left.
    let card_full = Device::new(&sandbox, 10_240, 65_536);
    card_full.fill(&source);
    let ran = card_full.run().status(1);
    assert!(ran.said("the card failed"), "{}", ran.report());
    card_full.has_none();

    let clear = || {
        fs::remove_dir_all(sandbox.path("device")).expect("the last device");
        fs::remove_dir_all(sandbox.path("factory")).expect("the last factory");
    };
    clear();
    let scratch_full = Device::new(&sandbox, 65_536, 128);
    scratch_full.fill(&source);
    let ran = scratch_full.run().status(1);
    assert!(ran.said("too small for this work"), "{}", ran.report());
    scratch_full.has_none();

    clear();
    let no_scratch = Device::new(&sandbox, 65_536, 0);
    no_scratch.fill(&source);
    let ran = no_scratch.run().status(1);
    assert!(ran.said("no second partition"), "{}", ran.report());
    no_scratch.has_none();

    clear();
    let other_key = Device::new(&sandbox, 65_536, 65_536);
    other_key.fill(&source);
    fs::write(other_key.folder.join("KEY"), "0123456789abcdef".repeat(4)).expect("a key");
    let ran = other_key.run().status(1);
    assert!(ran.said("does not open the store"), "{}", ran.report());
    other_key.has_none();

    clear();
    let nothing = Device::new(&sandbox, 65_536, 65_536);
    let ran = nothing.run().status(1);
    assert!(ran.said("does not exist"), "{}", ran.report());
}
