//! Source trees, the same from the same seed, and their next generation.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

use crate::rng::Rng;

/// When the trees were written, by their own account: 2020-09-13T12:26:40Z.
const BIRTH_S: i64 = 1_600_000_000;

/// What a tree has, beside a few plain files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shape {
    /// A file of 20 MiB of text and one of 9 MiB of noise: several chunks of
    /// the default sizes, and one that is cut at the maximum.
    pub large: bool,
    /// 700 files in one directory, and 40 levels of directories.
    pub wide_and_deep: bool,
    /// Names that break listings, paths and sort orders.
    pub odd_names: bool,
    /// Modes from none to sticky and setuid, on files and directories.
    pub modes: bool,
    /// Symbolic links, and files with several names.
    pub links: bool,
    /// A fifo. Stock records it and does not restore it.
    pub fifo: bool,
    /// Attributes `user.*`. Stock records them and does not restore them.
    pub xattrs: bool,
}

impl Shape {
    /// Everything.
    pub const FULL: Self = Self {
        large: true,
        wide_and_deep: true,
        odd_names: true,
        modes: true,
        links: true,
        fifo: true,
        xattrs: true,
    };

    /// Everything but what takes time to read.
    pub const LIGHT: Self = Self { large: false, wide_and_deep: false, ..Self::FULL };

    /// A few files and directories, well below 1 MiB.
    pub const PLAIN: Self = Self {
        large: false,
        wide_and_deep: false,
        odd_names: false,
        modes: false,
        links: false,
        fifo: false,
        xattrs: false,
    };
}

/// Names that are legal, and that some program has stumbled over.
///
/// Stock takes all of them, those that are not UTF-8 included: names are bytes
/// for it, and only its listings replace what cannot be printed.
const ODD_NAMES: [&[u8]; 24] = [
    b" leading blank",
    b"trailing blank ",
    b"-leading-dash",
    b"--",
    b"..two dots",
    b"...",
    b".hidden",
    b"new\nline",
    b"tab\tand\x1bescape",
    b"back\\slash",
    b"quote'\"both",
    b"colon:at@comma,semi;",
    b"percent%20plus+hash#ask?star*",
    b"UPPER.TXT",
    b"upper.txt",
    "caf\u{e9} composed".as_bytes(),
    "cafe\u{301} decomposed".as_bytes(),
    "\u{65e5}\u{672c}\u{8a9e}".as_bytes(),
    "\u{1f600}".as_bytes(),
    "\u{a0}no-break blank".as_bytes(),
    b"not utf-8 \xff\xfe",
    b"half a character \xc3",
    b"surrogate \xed\xa0\x80",
    b"~",
];

/// Builds trees below a root.
#[derive(Debug)]
struct Builder<'r> {
    root: &'r Path,
    rng: Rng,
}

/// Makes a tree at `root`, which must not exist.
///
/// # Panics
///
/// When the file system does not take something of it.
pub fn build(root: &Path, shape: Shape, seed: u64) {
    let mut builder = Builder { root, rng: Rng::new(seed) };
    builder.plain();
    if shape.large {
        builder.large();
    }
    if shape.wide_and_deep {
        builder.wide_and_deep();
    }
    if shape.odd_names {
        builder.odd_names();
    }
    if shape.links {
        builder.links();
    }
    if shape.fifo {
        let path = root.join("a fifo");
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o640), 0)
            .expect("fifo");
        // The mask of the process has its way with mknod, not with chmod.
        chmod(&path, 0o640);
    }
    if shape.xattrs {
        builder.xattrs();
    }
    if shape.modes {
        builder.modes();
    }
    builder.date();
}

/// Turns a tree into its next generation: something changed, added, removed,
/// renamed, and most of it left as it is.
///
/// # Panics
///
/// When `root` was not made by [`build`].
pub fn mutate(root: &Path, seed: u64) {
    let mut builder = Builder { root, rng: Rng::new(seed ^ 0x5EED) };
    let added = builder.rng.bytes(40_000);
    builder.put("plain/added.bin", &added);
    fs::remove_file(root.join("plain/one byte")).expect("file of the first generation");
    fs::rename(root.join("plain/text.txt"), root.join("plain/moved.txt")).expect("rename");

    // Bytes put in the middle: the chunker finds its cuts again behind them.
    let noise = if root.join("large").exists() { "large/noise.bin" } else { "plain/noise.bin" };
    let mut bytes = fs::read(root.join(noise)).expect("file of the first generation");
    let middle = bytes.len() / 2;
    bytes.splice(middle..middle, b"put in by the second generation".iter().copied());
    builder.put(noise, &bytes);

    // Of the same length, so that only the time tells.
    let mut bytes = fs::read(root.join("plain/same content.bin")).expect("file");
    bytes[1234] ^= 0x40;
    builder.put("plain/same content.bin", &bytes);

    // From file to directory, and back.
    fs::remove_file(root.join("plain/turns")).expect("file of the first generation");
    fs::create_dir(root.join("plain/turns")).expect("directory");
    builder.put("plain/turns/inside", b"was a file\n");
    fs::remove_dir(root.join("plain/empty")).expect("directory of the first generation");
    builder.put("plain/empty", b"was a directory\n");
    // Only the mode, then only the time.
    chmod(&root.join("plain/zeros.bin"), 0o640);
    touch(&root.join("plain/hello.txt"), BIRTH_S + 50_000_000, 987_654_321);
    for changed in
        ["plain/added.bin", noise, "plain/same content.bin", "plain/turns/inside", "plain/empty"]
    {
        touch(&root.join(changed), BIRTH_S + 50_000_000, 1);
    }
    for directory in ["plain/turns", "plain"] {
        touch(&root.join(directory), BIRTH_S + 50_000_000, 2);
    }
}

impl Builder<'_> {
    fn put(&self, relative: impl AsRef<Path>, bytes: &[u8]) -> PathBuf {
        let path = self.root.join(relative);
        fs::create_dir_all(path.parent().expect("below the root")).expect("parent directories");
        fs::write(&path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    fn plain(&mut self) {
        self.put("plain/hello.txt", b"Hello, world!\n");
        self.put("plain/none", b"");
        self.put("plain/one byte", b"x");
        self.put("plain/turns", b"will be a directory\n");
        self.put("plain/page.html", b"<!DOCTYPE html><title>tiroir</title>\n");
        self.put("plain/zeros.bin", &[0; 70_000]);
        let noise = self.rng.bytes(150_000);
        self.put("plain/noise.bin", &noise);
        self.put("plain/same content.bin", &noise);
        let text = self.rng.text(120_000);
        self.put("plain/text.txt", &text);
        fs::create_dir(self.root.join("plain/empty")).expect("directory");
        self.sparse("plain/sparse.bin", 2 << 20);

        // A directory sorts by its name, its content by the whole path: '-' and
        // '.' come before '/', '0' after it.
        for path in ["order/a/z", "order/a.b", "order/a-b/c", "order/a", "order/a0", "order/B"] {
            if path != "order/a" {
                self.put(path, path.as_bytes());
            }
        }
    }

    /// A file with a hole, and a few bytes behind it.
    fn sparse(&mut self, relative: &str, hole_bytes: u64) {
        let path = self.put(relative, b"before the hole");
        let mut file = File::options().write(true).open(path).expect("sparse file");
        file.seek(SeekFrom::Start(hole_bytes)).expect("seek");
        file.write_all(b"behind the hole").expect("sparse file");
    }

    fn large(&mut self) {
        let text = self.rng.text(20 << 20);
        self.put("large/text.txt", &text);
        let noise = self.rng.bytes(9 << 20);
        self.put("large/noise.bin", &noise);
        // Without a cut of its own: chunks of the maximal size.
        self.put("large/zeros.bin", &vec![0; (17 << 20) + 1]);
        // The chunker's sizes, and one byte on either side.
        for size in [(512 << 10) - 1, 512 << 10, (512 << 10) + 1, (1 << 20) + 1, 8 << 20] {
            let bytes = self.rng.text(size);
            self.put(format!("large/edge {size}"), &bytes);
        }
        self.sparse("large/sparse.bin", 24 << 20);
    }

    fn wide_and_deep(&mut self) {
        for number in 0..700u32 {
            let length = 1 + self.rng.index(300);
            let bytes = self.rng.text(length);
            self.put(format!("wide/file {number}"), &bytes);
        }
        let mut path = PathBuf::from("deep");
        for level in 0..40u32 {
            path.push(format!("level {level}"));
        }
        path.push("bottom");
        self.put(path, b"forty levels down\n");
    }

    fn odd_names(&mut self) {
        for name in ODD_NAMES {
            let mut content = b"content of ".to_vec();
            content.extend_from_slice(name);
            self.put(Path::new("odd").join(OsStr::from_bytes(name)), &content);
            let mut directory = name.to_vec();
            directory.extend_from_slice(b".d");
            self.put(Path::new("odd").join(OsStr::from_bytes(&directory)).join("x"), b"below\n");
        }
        self.put(format!("odd/{}", "n".repeat(255)), b"the longest name\n");
    }

    fn links(&mut self) {
        fs::create_dir_all(self.root.join("links/dir")).expect("directory");
        for (name, target) in [
            ("to file", "../plain/hello.txt"),
            ("to dir", "../plain"),
            ("to itself", "to itself"),
            ("dangling", "no/such/file"),
            ("absolute", "/etc/hostname"),
            ("dir/up and out", "../../../../.."),
        ] {
            symlink(target, self.root.join("links").join(name)).expect("symbolic link");
        }
        symlink(OsStr::from_bytes(b"not utf-8 \xff"), self.root.join("links/odd target"))
            .expect("symbolic link");

        let one = self.put("hard/one", b"three names\n");
        fs::hard_link(&one, self.root.join("hard/three")).expect("hard link");
        fs::create_dir_all(self.root.join("hard/sub")).expect("directory");
        fs::hard_link(&one, self.root.join("hard/sub/two")).expect("hard link");
        let bytes = self.rng.bytes(90_000);
        let other = self.put("hard/other", &bytes);
        fs::hard_link(&other, self.root.join("a second name far away")).expect("hard link");
    }

    fn xattrs(&mut self) {
        let path = self.put("xattrs/file", b"has attributes\n");
        let directory = self.root.join("xattrs");
        let bytes = self.rng.bytes(2000);
        for (path, name, value) in [
            (&path, "user.comment", "a comment, h\u{e9}".as_bytes()),
            (&path, "user.binary", &bytes),
            (&path, "user.empty", b"".as_slice()),
            (&directory, "user.on a directory", b"yes"),
        ] {
            rustix::fs::setxattr(path, name, value, XattrFlags::empty())
                .expect("a file system with user.* attributes");
        }
    }

    fn modes(&mut self) {
        for mode in [0o400, 0o444, 0o600, 0o644, 0o755, 0o777, 0o1644, 0o2755, 0o4755, 0o6711] {
            let path = self.put(format!("modes/file {mode:04o}"), b"mode\n");
            chmod(&path, mode);
        }
        // Who is not root cannot read this one, and has a test for it.
        if rustix::process::geteuid().is_root() {
            chmod(&self.put("modes/file 0000", b"mode\n"), 0);
        }
        for mode in [0o500, 0o700, 0o755, 0o1777, 0o2775] {
            let path = self.put(format!("modes/dir {mode:04o}/inside"), b"inside\n");
            chmod(path.parent().expect("below the root"), mode);
        }
    }

    /// Gives everything a time of its own with odd nanoseconds, deepest first.
    /// Among them are a time before 1970, one beyond 2038, and a whole second.
    fn date(&mut self) {
        let mut paths = Vec::new();
        walk(self.root, &mut paths);
        for (step, path) in paths.iter().rev().enumerate() {
            let (seconds, nanoseconds) = match step {
                3 => (BIRTH_S, 0),
                4 => (-86_400, 500_000_000),
                5 => (4_102_444_800, 999_999_999),
                _ => (
                    BIRTH_S + i64::try_from(step).expect("a small number") * 61,
                    i64::try_from(self.rng.below(1_000_000_000)).expect("below 2^31"),
                ),
            };
            touch(path, seconds, nanoseconds);
        }
    }
}

/// Everything below and including `path`, parents first, in a fixed order.
fn walk(path: &Path, into: &mut Vec<PathBuf>) {
    into.push(path.to_owned());
    if !fs::symlink_metadata(path).expect("file of a tree").is_dir() {
        return;
    }
    let mut children: Vec<PathBuf> = fs::read_dir(path)
        .expect("directory of a tree")
        .map(|entry| entry.expect("directory of a tree").path())
        .collect();
    children.sort();
    for child in &children {
        walk(child, into);
    }
}

/// Sets a mode, special bits included.
///
/// # Panics
///
/// When that is not allowed.
pub fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
}

/// Sets the time of last modification, of a link itself if it is one.
///
/// # Panics
///
/// When that is not allowed.
pub fn touch(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds as _ };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("time");
}

/// How many bytes the files below `path` take, as their lengths say.
///
/// # Panics
///
/// When `path` is not there.
#[must_use]
pub fn size_bytes(path: &Path) -> u64 {
    let mut paths = Vec::new();
    walk(path, &mut paths);
    paths
        .iter()
        .map(|path| fs::symlink_metadata(path).expect("file of a tree"))
        .filter(fs::Metadata::is_file)
        .map(|metadata| metadata.len())
        .sum()
}

/// Names of regular files in a tree.
///
/// # Panics
///
/// When it cannot be read.
#[must_use]
pub fn regular_files(root: &Path) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(root).expect("a directory") {
        let entry = entry.expect("an entry");
        let kind = entry.file_type().expect("its kind");
        if kind.is_dir() {
            count += regular_files(&entry.path());
        }
        count += usize::from(kind.is_file());
    }
    count
}
