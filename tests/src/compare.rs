//! What differs between two trees.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, Metadata};
use std::io::{BufReader, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::sandbox::Outcome;

/// What has to be equal beside names, contents, modes and targets of links.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How far apart two times of modification may be.
    pub mtime_ns_max: u64,
    /// Whether extended attributes `user.*` are compared.
    pub xattrs: bool,
    /// Whether files with several names must have the same names for one file.
    pub hard_links: bool,
    /// Whether fifos, sockets and devices must be there.
    pub special_files: bool,
    /// Whether owner and group are compared.
    pub owners: bool,
}

impl Rules {
    /// What tiroir promises of a snapshot that stock took, and that was restored
    /// so: stock loses an attribute now and then when it takes one, which is
    /// told then.
    #[must_use]
    pub fn exact_of_stock(restored: &Outcome) -> Self {
        Self { xattrs: !restored.said("and does not have it"), ..Self::EXACT }
    }

    /// What tiroir promises.
    pub const EXACT: Self =
        Self { mtime_ns_max: 0, xattrs: true, hard_links: true, special_files: true, owners: true };

    /// What stock plakar 1.1.4 restores: times rounded up to the microsecond
    /// (before 1970 to the one after that),
    /// no extended attributes, no special files, no owner of a regular file,
    /// and separate files for what was one.
    pub const STOCK: Self = Self {
        mtime_ns_max: 1000,
        xattrs: false,
        hard_links: false,
        special_files: false,
        owners: false,
    };
}

/// Everything that differs, a line each; empty when nothing does.
///
/// # Panics
///
/// When a tree cannot be read.
#[must_use]
pub fn differences(left: &Path, right: &Path, rules: Rules) -> Vec<String> {
    let left = Tree::read(left, rules);
    let right = Tree::read(right, rules);
    let mut found = Vec::new();
    for path in left.entries.keys() {
        if !right.entries.contains_key(path) {
            found.push(format!("{}: missing on the right", path.display()));
        }
    }
    for (path, theirs) in &right.entries {
        match left.entries.get(path) {
            None => found.push(format!("{}: only on the right", path.display())),
            Some(ours) => compare(path, (&left, ours), (&right, theirs), rules, &mut found),
        }
    }
    found
}

/// Asserts that two trees are equal.
///
/// # Panics
///
/// When they are not, with the first differences.
#[track_caller]
pub fn assert_same(left: &Path, right: &Path, rules: Rules) {
    let found = differences(left, right, rules);
    let mut message = String::new();
    for line in found.iter().take(20) {
        writeln!(message, "  {line}").expect("a string grows");
    }
    assert!(
        found.is_empty(),
        "{} and {} differ in {} places:\n{message}",
        left.display(),
        right.display(),
        found.len()
    );
}

/// The entries of a tree by their path below it; the root is `.`.
struct Tree {
    root: PathBuf,
    entries: BTreeMap<PathBuf, Metadata>,
    /// For each file with several names in this tree, the first of them.
    first_names: BTreeMap<(u64, u64), PathBuf>,
}

impl Tree {
    fn read(root: &Path, rules: Rules) -> Self {
        let mut tree =
            Self { root: root.to_owned(), entries: BTreeMap::new(), first_names: BTreeMap::new() };
        tree.add(PathBuf::from("."), rules);
        tree
    }

    fn add(&mut self, relative: PathBuf, rules: Rules) {
        let path = self.root.join(&relative);
        let metadata = fs::symlink_metadata(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if special(&metadata) && !rules.special_files {
            return;
        }
        if metadata.is_dir() {
            for entry in fs::read_dir(&path).expect("directory to compare") {
                let name = entry.expect("directory to compare").file_name();
                self.add(relative.join(name), rules);
            }
        } else {
            let first = self.first_names.entry((metadata.dev(), metadata.ino()));
            let first = first.or_insert_with(|| relative.clone());
            if relative < *first {
                first.clone_from(&relative);
            }
        }
        self.entries.insert(relative, metadata);
    }

    fn first_name(&self, metadata: &Metadata) -> Option<&PathBuf> {
        self.first_names.get(&(metadata.dev(), metadata.ino()))
    }
}

fn special(metadata: &Metadata) -> bool {
    let kind = metadata.file_type();
    kind.is_fifo() || kind.is_socket() || kind.is_block_device() || kind.is_char_device()
}

fn compare(
    path: &Path,
    (left_tree, left): (&Tree, &Metadata),
    (right_tree, right): (&Tree, &Metadata),
    rules: Rules,
    found: &mut Vec<String>,
) {
    let mut differs = |what: &str, left: &dyn std::fmt::Display, right: &dyn std::fmt::Display| {
        found.push(format!("{}: {what} {left} and {right}", path.display()));
    };
    // The mode of a link is no one's to choose.
    if left.mode() != right.mode() && !(left.is_symlink() && right.is_symlink()) {
        differs("mode", &format!("{:o}", left.mode()), &format!("{:o}", right.mode()));
    }
    let (ours, theirs) = (mtime_ns(left), mtime_ns(right));
    if ours.abs_diff(theirs) > u128::from(rules.mtime_ns_max) {
        differs("time", &ours, &theirs);
    }
    if rules.owners && (left.uid(), left.gid()) != (right.uid(), right.gid()) {
        differs(
            "owner",
            &format!("{}:{}", left.uid(), left.gid()),
            &format!("{}:{}", right.uid(), right.gid()),
        );
    }
    if rules.hard_links && left_tree.first_name(left) != right_tree.first_name(right) {
        differs(
            "first name of the same file",
            &format!("{:?}", left_tree.first_name(left)),
            &format!("{:?}", right_tree.first_name(right)),
        );
    }
    let left_path = left_tree.root.join(path);
    let right_path = right_tree.root.join(path);
    if left.is_symlink() && right.is_symlink() {
        let ours = fs::read_link(&left_path).expect("target");
        let theirs = fs::read_link(&right_path).expect("target");
        if ours != theirs {
            differs("target", &ours.display(), &theirs.display());
        }
    }
    if left.is_file() && right.is_file() {
        if left.len() != right.len() {
            differs("length", &left.len(), &right.len());
        } else if let Some(offset) = first_difference(&left_path, &right_path) {
            differs("content from byte", &offset, &offset);
        }
    }
    if left.rdev() != right.rdev() {
        differs("device", &left.rdev(), &right.rdev());
    }
    if rules.xattrs {
        let (ours, theirs) = (xattrs(&left_path), xattrs(&right_path));
        if ours != theirs {
            let names = |of: &BTreeMap<String, Vec<u8>>| format!("{:?}", of.keys());
            differs("extended attributes", &names(&ours), &names(&theirs));
        }
    }
}

fn mtime_ns(metadata: &Metadata) -> i128 {
    i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec())
}

/// Where two files of one length first differ.
fn first_difference(left: &Path, right: &Path) -> Option<u64> {
    const WINDOW_BYTES: usize = 64 << 10;
    let open = |path: &Path| {
        let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        BufReader::with_capacity(WINDOW_BYTES, file)
    };
    let (mut left, mut right) = (open(left), open(right));
    let (mut ours, mut theirs) = (vec![0; WINDOW_BYTES], vec![0; WINDOW_BYTES]);
    let mut offset = 0;
    loop {
        let length = left.read(&mut ours).expect("file to compare");
        if length == 0 {
            return None;
        }
        right.read_exact(&mut theirs[..length]).expect("a file of the same length");
        if let Some(at) = (0..length).find(|&at| ours[at] != theirs[at]) {
            return Some(offset + at as u64);
        }
        offset += length as u64;
    }
}

/// The attributes `user.*` of a file, of a link itself if it is one.
fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let Ok(length) = rustix::fs::llistxattr(path, &mut names[..]) else {
        // Neither links nor fifos take any.
        return BTreeMap::new();
    };
    names[..length]
        .split(|&byte| byte == 0)
        .filter(|name| name.starts_with(b"user."))
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).expect("attribute");
            value.truncate(length);
            (String::from_utf8_lossy(name).into_owned(), value)
        })
        .collect()
}
