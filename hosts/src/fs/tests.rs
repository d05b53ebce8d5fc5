//! Importer and exporter together, on odd trees.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use tiroir_core::exporter::Exporter as _;
use tiroir_core::host::{HostError as _, HostErrorKind};
use tiroir_core::importer::{Attributes, Importer as _};
use tiroir_core::wire::file_info::FileInfo;
use tiroir_core::wire::mode;

use super::exporter::FsExporter;
use super::ignore::IgnorePatterns;
use super::importer::FsImporter;

fn names(importer: &mut FsImporter, directory: &[u8]) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    importer
        .list(directory, &mut |name, _| {
            names.push(name.to_vec());
            Ok(())
        })
        .unwrap();
    names.sort();
    names
}

fn stat(importer: &mut FsImporter, path: &[u8]) -> Attributes {
    let mut attributes = Attributes::default();
    importer.stat(path, &[], &mut attributes).unwrap();
    attributes
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory {
        b"" => name.to_vec(),
        b"/" => [b"/", name].concat(),
        _ => [directory, b"/", name].concat(),
    }
}

fn info(attributes: &Attributes) -> FileInfo<'_> {
    FileInfo {
        size: attributes.size,
        mode: attributes.mode,
        mod_time: attributes.mod_time,
        uid: attributes.uid,
        gid: attributes.gid,
        ..FileInfo::default()
    }
}

fn copy_xattrs(importer: &mut FsImporter, exporter: &mut FsExporter, from: &[u8], to: &[u8]) {
    let mut list = vec![0; 65_536];
    let count = importer.xattr_names(from, &mut list).unwrap();
    for name in list[..count].split(|&byte| byte == 0).filter(|name| name.starts_with(b"user.")) {
        let mut value = vec![0; 65_536];
        let count = importer.xattr(from, name, &mut value).unwrap();
        exporter.set_xattr(to, name, &value[..count]).unwrap();
    }
}

fn copy_file(importer: &mut FsImporter, exporter: &mut FsExporter, from: &[u8], to: &[u8]) {
    let attributes = stat(importer, from);
    importer.open(from, &attributes).unwrap();
    exporter.begin_file(to, attributes.size.unsigned_abs()).unwrap();
    let mut piece = vec![0; 10_000];
    loop {
        let count = importer.read(&mut piece).unwrap();
        if count == 0 {
            break;
        }
        exporter.write(&piece[..count]).unwrap();
    }
    assert!(!importer.changed().unwrap());
    importer.close();
    copy_xattrs(importer, exporter, from, to);
    exporter.finish_file(Some(&info(&attributes))).unwrap();
}

/// Restores all of a directory as it is.
fn copy(importer: &mut FsImporter, exporter: &mut FsExporter, from: &[u8], to: &[u8]) {
    exporter.create_directory(to).unwrap();
    for name in names(importer, from) {
        let (from, to) = (join(from, &name), join(to, &name));
        let attributes = stat(importer, &from);
        if mode::is_directory(attributes.mode) {
            copy(importer, exporter, &from, &to);
        } else if mode::is_regular(attributes.mode) {
            copy_file(importer, exporter, &from, &to);
        } else if attributes.mode & mode::SYMLINK != 0 {
            exporter.symbolic_link(&to, &attributes.link_target).unwrap();
            exporter.set_attributes(&to, &info(&attributes)).unwrap();
        } else if exporter.special(&to, &info(&attributes)).unwrap() {
            exporter.set_attributes(&to, &info(&attributes)).unwrap();
        }
    }
    copy_xattrs(importer, exporter, from, to);
    let attributes = stat(importer, from);
    exporter.set_attributes(to, &info(&attributes)).unwrap();
}

/// Everything about a tree that should come back.
fn describe(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut waiting = vec![root.to_path_buf()];
    while let Some(path) = waiting.pop() {
        let data = fs::symlink_metadata(&path).unwrap();
        let content = match data.file_type() {
            kind if kind.is_dir() => {
                waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                Vec::new()
            }
            kind if kind.is_file() => fs::read(&path).unwrap(),
            kind if kind.is_symlink() => {
                fs::read_link(&path).unwrap().into_os_string().as_bytes().to_vec()
            }
            _ => Vec::new(),
        };
        let mut value = [0; 100];
        let xattr = rustix::fs::lgetxattr(&path, "user.note", &mut value[..]);
        lines.push(format!(
            "{} {:o} {}:{} {}.{} {:?} {}",
            path.strip_prefix(root).unwrap().as_os_str().as_bytes().escape_ascii(),
            data.mode(),
            data.uid(),
            data.gid(),
            data.mtime(),
            data.mtime_nsec(),
            xattr.map(|count| value[..count].to_vec()),
            content.escape_ascii(),
        ));
    }
    lines.sort();
    lines
}

fn set_time(path: &Path, seconds: i64, nanos: u32) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::utimensat(CWD, path, &times, flags).unwrap();
}

fn odd_tree(root: &Path) {
    fs::create_dir_all(root.join("deep/er/still")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    fs::write(root.join("file"), b"content\n").unwrap();
    fs::write(root.join("nothing"), b"").unwrap();
    fs::write(root.join("deep/er/zeros"), vec![0; 200_000]).unwrap();
    fs::write(root.join(OsStr::from_bytes(b"n\xf6t text\n")), b"name").unwrap();
    fs::write(root.join("n".repeat(255)), b"long name").unwrap();
    symlink("nowhere/at all", root.join("dangling")).unwrap();
    symlink("deep/er", root.join("link")).unwrap();
    rustix::fs::mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .unwrap();
    fs::set_permissions(root.join("file"), fs::Permissions::from_mode(0o6751)).unwrap();
    fs::set_permissions(root.join("nothing"), fs::Permissions::from_mode(0o444)).unwrap();
    fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o3777)).unwrap();
    fs::set_permissions(root.join("fifo"), fs::Permissions::from_mode(0o640)).unwrap();
    for (path, value) in
        [("file", &b"on a file"[..]), ("deep", b"on a directory"), ("nothing", b"")]
    {
        // Not every file system has them.
        let _ = rustix::fs::setxattr(root.join(path), "user.note", value, XattrFlags::empty());
    }
    set_time(&root.join("file"), 1_000_000_000, 123_456_789);
    set_time(&root.join("nothing"), -86_400, 999_999_999);
    set_time(&root.join("link"), 1_111_111_111, 1);
    set_time(&root.join("fifo"), 1_222_222_222, 2);
    set_time(&root.join("empty"), 1_333_333_333, 3);
    set_time(&root.join("deep/er"), 1_444_444_444, 4);
}

struct Trees {
    // Removes them at the end.
    _directory: tempfile::TempDir,
    source: PathBuf,
    target: PathBuf,
}

fn trees() -> Trees {
    let directory = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(directory.path()).unwrap();
    let (source, target) = (root.join("source"), root.join("target"));
    fs::create_dir(&source).unwrap();
    odd_tree(&source);
    Trees { _directory: directory, source, target }
}

#[test]
fn odd_trees_come_back() {
    let trees = trees();
    let wanted = describe(&trees.source);
    // Twice: the second time everything is there already.
    for _ in 0..2 {
        let mut importer = FsImporter::open(&trees.source).unwrap();
        let mut exporter = FsExporter::open(&trees.target).unwrap();
        let root = importer.root().to_vec();
        copy(&mut importer, &mut exporter, &root, b"");
        exporter.finish().unwrap();
        let found = describe(&trees.target);
        for (wanted, found) in wanted.iter().zip(&found) {
            assert_eq!(wanted, found);
        }
        assert_eq!(wanted.len(), found.len());
    }
}

#[test]
fn owners_are_root_s_business() {
    let trees = trees();
    let mut exporter = FsExporter::open(&trees.target).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    let info = FileInfo { mode: mode::SETUID | 0o755, uid: 4321, gid: 1234, ..FileInfo::default() };
    exporter.begin_file(b"file", 0).unwrap();
    exporter.finish_file(Some(&info)).unwrap();
    let data = fs::metadata(trees.target.join("file")).unwrap();
    let wanted = if is_root { (0o104_755, 4321) } else { (0o100_755, data.uid()) };
    assert_eq!((data.mode(), data.uid()), wanted);
    drop(exporter);

    let mut exporter = FsExporter::open(&trees.target).unwrap().with_skip_permissions(true);
    exporter.begin_file(b"file", 0).unwrap();
    exporter.finish_file(Some(&info)).unwrap();
    let data = fs::metadata(trees.target.join("file")).unwrap();
    assert_eq!(data.mode() & 0o7111, 0);
    assert_eq!(data.uid(), rustix::process::geteuid().as_raw());
}

#[test]
fn nothing_is_written_outside_of_the_target() {
    let trees = trees();
    let outside = trees.source.parent().unwrap().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), b"precious").unwrap();
    let before = describe(&outside);
    let mut exporter = FsExporter::open(&trees.target).unwrap();
    exporter.create_directory(b"sub").unwrap();
    symlink(&outside, trees.target.join("link")).unwrap();
    symlink("../outside/file", trees.target.join("file")).unwrap();

    let any = FileInfo { mode: 0o777, ..FileInfo::default() };
    let directory = FileInfo { mode: mode::DIRECTORY | 0o777, ..any };
    let paths: [&[u8]; 10] = [
        b"link/file",
        b"link/new",
        b"../outside/file",
        b"sub/../../outside/file",
        b"/tmp/file",
        b"sub//file",
        b"sub/./file",
        b"sub/",
        b"..",
        b"fi\0le",
    ];
    for path in paths {
        assert!(exporter.begin_file(path, 0).is_err(), "{}", path.escape_ascii());
        assert!(exporter.create_directory(path).is_err());
        assert!(exporter.symbolic_link(path, b"x").is_err());
        assert!(exporter.hard_link(path, b"file").is_err());
        assert!(exporter.hard_link(b"sub/taken", path).is_err());
        assert!(exporter.special(path, &FileInfo { mode: mode::PIPE, ..any }).is_err());
        assert!(exporter.set_attributes(path, &any).is_err());
        assert!(exporter.set_attributes(path, &directory).is_err());
        assert!(exporter.set_xattr(path, b"user.x", b"x").is_err());
    }
    assert!(exporter.begin_file(b"", 0).is_err());
    // The links themselves: no attribute goes through them, and no directory.
    assert!(exporter.create_directory(b"link").is_err());
    assert!(exporter.set_attributes(b"link", &directory).is_err());
    assert!(exporter.set_attributes(b"file", &any).is_err());
    // A file takes the place of a link, it does not go through it.
    exporter.begin_file(b"file", 3).unwrap();
    exporter.write(b"new").unwrap();
    exporter.finish_file(Some(&any)).unwrap();
    assert!(fs::symlink_metadata(trees.target.join("file")).unwrap().is_file());

    // A directory that becomes a link while something is restored into it.
    exporter.begin_file(b"sub/inner", 3).unwrap();
    fs::rename(trees.target.join("sub"), trees.target.join("moved")).unwrap();
    symlink(&outside, trees.target.join("sub")).unwrap();
    exporter.write(b"new").unwrap();
    exporter.finish_file(Some(&any)).unwrap();
    assert!(trees.target.join("moved/inner").exists());
    assert_eq!(describe(&outside), before);
}

#[test]
fn what_is_there_gives_way_unless_it_is_a_directory() {
    let trees = trees();
    let mut exporter = FsExporter::open(&trees.target).unwrap();
    exporter.begin_file(b"first", 5).unwrap();
    exporter.write(b"first").unwrap();
    exporter.finish_file(None).unwrap();
    exporter.create_directory(b"directory").unwrap();
    exporter.create_directory(b"directory").unwrap();
    for name in [&b"a"[..], b"b"] {
        for _ in 0..2 {
            exporter.hard_link(name, b"first").unwrap();
            exporter.symbolic_link(name, b"target").unwrap();
            assert!(
                exporter
                    .special(name, &FileInfo { mode: mode::PIPE, ..Default::default() })
                    .unwrap()
            );
        }
        exporter.hard_link(name, b"first").unwrap();
        exporter.hard_link(name, b"first").unwrap();
    }
    assert_eq!(fs::metadata(trees.target.join("first")).unwrap().nlink(), 3);
    assert!(exporter.symbolic_link(b"directory", b"target").is_err());
    assert!(exporter.hard_link(b"directory", b"first").is_err());
    exporter.begin_file(b"directory", 0).unwrap();
    assert!(exporter.finish_file(None).is_err());
    assert!(exporter.create_directory(b"first").is_err());
    for kind in [mode::SOCKET, mode::DEVICE, mode::DEVICE | mode::CHARACTER] {
        let info = FileInfo { mode: kind, ..Default::default() };
        assert!(!exporter.special(b"special", &info).unwrap());
    }
    assert_eq!(fs::read_dir(&trees.target).unwrap().count(), 4);
    fs::set_permissions(trees.target.join("directory"), fs::Permissions::from_mode(0o500)).unwrap();
    exporter.create_directory(b"directory").unwrap();
    exporter.begin_file(b"directory/inner", 0).unwrap();
    exporter.finish_file(None).unwrap();
}

#[test]
fn the_way_to_the_root_is_all_that_is_shown_above() {
    let trees = trees();
    let mut importer = FsImporter::open(&trees.source).unwrap();
    let root = trees.source.as_os_str().as_bytes();
    assert_eq!(importer.root(), root);
    assert_eq!((importer.kind(), importer.origin().is_empty()), ("fs", false));
    let mut path = b"/".to_vec();
    for component in root[1..].split(|&byte| byte == b'/') {
        assert_eq!(names(&mut importer, &path), [component]);
        let attributes = stat(&mut importer, &path);
        let data = fs::metadata(OsStr::from_bytes(&path)).unwrap();
        assert_eq!((attributes.mode, attributes.ino), (mode::from_unix(data.mode()), data.ino()));
        assert!(attributes.username.is_empty());
        assert_eq!(importer.xattr_names(&path, &mut [0; 100]).unwrap(), 0);
        path = join(&path, component);
    }
    assert_eq!(stat(&mut importer, &path).ino, fs::metadata(&trees.source).unwrap().ino());
    assert_eq!(names(&mut importer, &path).len(), 9);
    let error = importer.stat(b"/proc/self", &[], &mut Attributes::default()).unwrap_err();
    assert_eq!(error.kind(), HostErrorKind::NotFound);
    assert!(importer.list(&join(root, b"link"), &mut |_, _| Ok(())).is_err());
    assert!(importer.stat(&join(root, b"link/zeros"), &[], &mut Attributes::default()).is_err());
    assert!(importer.stat(&join(root, b"../target"), &[], &mut Attributes::default()).is_err());
}

#[test]
fn roots_of_every_sort() {
    let trees = trees();
    let source = trees.source.as_os_str().as_bytes().to_vec();
    let messy = format!("{}//deep/./er/..//../", trees.source.display());
    assert_eq!(FsImporter::open(messy).unwrap().root(), source);
    assert!(FsImporter::open("hosts-no-such-path").is_err());

    let mut file = FsImporter::open(trees.source.join("file")).unwrap();
    assert_eq!(file.root(), source);
    assert_eq!(names(&mut file, &source), [b"file"]);
    let path = join(&source, b"file");
    let attributes = stat(&mut file, &path);
    assert_eq!(attributes.size, 8);
    file.open(&path, &attributes).unwrap();
    assert!(file.stat(&join(&source, b"nothing"), &[], &mut Attributes::default()).is_err());

    let mut link = FsImporter::open(trees.source.join("link")).unwrap();
    let target = join(&source, b"deep/er");
    assert_eq!(link.root(), target);
    assert_eq!(names(&mut link, &source), [&b"deep"[..], b"link"]);
    assert_eq!(&stat(&mut link, &join(&source, b"link")).link_target[..], b"deep/er");
    assert_eq!(names(&mut link, &target), [&b"still"[..], b"zeros"]);
    assert!(FsImporter::open(trees.source.join("dangling")).is_err());

    let mut middle = FsImporter::open(trees.source.join("link/still")).unwrap();
    assert_eq!(middle.root(), join(&source, b"link/still"));
    assert!(mode::is_directory(stat(&mut middle, &join(&source, b"link")).mode));
    assert!(names(&mut middle, &join(&source, b"link/still")).is_empty());

    let mut everything = FsImporter::open("/").unwrap();
    assert!(names(&mut everything, b"/").contains(&b"proc".to_vec()));
    assert!(mode::is_directory(stat(&mut everything, b"/proc").mode));
    assert!(!names(&mut everything, b"/proc").is_empty());
    let mut everything = everything.with_one_file_system(true).unwrap();
    assert!(names(&mut everything, b"/proc").is_empty());
}

#[test]
fn ignored_entries_are_not_there() {
    let trees = trees();
    let source = trees.source.as_os_str().as_bytes().to_vec();
    let with = |lines: &[&str]| {
        let mut patterns = IgnorePatterns::new();
        lines.iter().for_each(|line| patterns.add(line).unwrap());
        FsImporter::open(&trees.source).unwrap().with_ignore(patterns.build().unwrap())
    };
    let mut importer = with(&["**/source/n*", "!nothing", "empty/", "file/", "fifo"]);
    let left = [&b"dangling"[..], b"deep", b"file", b"link", b"nothing"];
    assert_eq!(names(&mut importer, &source), left);
    assert!(!importer.is_root_ignored());
    let mut importer = with(&["source"]);
    assert!(importer.is_root_ignored());
    assert!(names(&mut importer, &source).is_empty());
    assert!(names(&mut importer, trees.source.parent().unwrap().as_os_str().as_bytes()).is_empty());
}

#[test]
fn files_that_change_are_noticed() {
    let trees = trees();
    let path = join(trees.source.as_os_str().as_bytes(), b"file");
    let mut importer = FsImporter::open(&trees.source).unwrap();
    let attributes = stat(&mut importer, &path);

    importer.open(&path, &attributes).unwrap();
    assert!(!importer.changed().unwrap());
    fs::write(trees.source.join("file"), b"longer content\n").unwrap();
    assert!(importer.changed().unwrap());
    importer.close();
    assert!(importer.read(&mut [0; 10]).is_err() && importer.changed().is_err());

    importer.open(&path, &attributes).unwrap();
    assert!(importer.changed().unwrap());

    fs::remove_file(trees.source.join("file")).unwrap();
    let error = importer.open(&path, &attributes).unwrap_err();
    assert_eq!(error.kind(), HostErrorKind::NotFound);
    symlink("nothing", trees.source.join("file")).unwrap();
    assert!(importer.open(&path, &attributes).is_err());
    fs::remove_file(trees.source.join("file")).unwrap();
    fs::rename(trees.source.join("fifo"), trees.source.join("file")).unwrap();
    // Must not wait for a writer.
    assert!(importer.open(&path, &attributes).is_err());
}

#[test]
fn names_of_owners_and_large_directories() {
    let trees = trees();
    let many = trees.source.join("many");
    fs::create_dir(&many).unwrap();
    for number in 0..3000 {
        fs::write(many.join(format!("file with a name of some length {number}")), b"").unwrap();
    }
    let mut importer = FsImporter::open(&trees.source).unwrap();
    let path = many.as_os_str().as_bytes();
    assert_eq!(names(&mut importer, path).len(), 3000);
    let data = fs::metadata(&many).unwrap();
    if data.uid() == 0 {
        let attributes = stat(&mut importer, path);
        assert_eq!(&attributes.username[..], b"root");
    }
    let mut count = 0;
    let stopped = importer.list(path, &mut |_, _| {
        count += 1;
        let rule = "enough";
        Err(crate::error::HostsError::rule(HostErrorKind::Other, "list", b"", rule))
    });
    assert!(stopped.is_err());
    assert_eq!(count, 1);
    assert_eq!(names(&mut importer, path).len(), 3000);
}
