//! [`remote_files_contract`]: what every protocol of servers with files must
//! do, as code.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use tiroir_core::host::{HostError as _, HostErrorKind};
use tiroir_core::time::Timestamp;

use super::skipped;
use crate::error::HostsError;
use crate::remote::{EntryKind, NewAttributes, ReadId, RemoteEntry, RemoteFiles};

/// Names that are hard on something between us and the server's disk.
const NAMES: [&str; 24] = [
    "plain",
    "two  blanks in  it",
    "-",
    "-rf",
    "--",
    ".hidden",
    "..more",
    "...",
    "a;b=c",
    "size=7; x",
    "*",
    "?",
    "[a-z]",
    "{a,b}",
    "~",
    "~root",
    "%41%00",
    "a\\b",
    "\"quoted\"",
    "it's",
    "#1 $HOME `id` | & > <",
    "x -> y",
    "Ærø 🦀",
    "Jan 01 12:00 2020",
];

/// How many of these a server may refuse to take.
const REFUSED_NAMES_MAX: usize = 2;

/// Length of the file that is read in parts, in bytes.
const LARGE_BYTES: usize = 3 << 20;

/// Checks that what `make` returns keeps the contract of [`RemoteFiles`], below
/// `root`: an empty directory of the server that may be written to. What the
/// server says that it can do chooses the checks; those left out are told on stderr.
///
/// # Panics
///
/// Where it does not.
pub fn remote_files_contract<F: RemoteFiles>(root: &[u8], mut make: impl FnMut() -> F) {
    type Check<F> = fn(&mut F, &[u8]);
    let checks: [(&str, Check<F>); 15] = [
        ("directories", directories),
        ("nested", nested_directories),
        ("files", files),
        ("nothing", what_is_not_there),
        ("names", names),
        ("large", ranges_of_a_large_file),
        ("small", small_files),
        ("at once", several_at_once),
        ("open", eight_are_read),
        ("discarded", discarded_files_are_gone),
        ("renamed", renamed_files),
        ("many", many_entries),
        ("attributes", attributes),
        ("links", links),
        ("used", closed_files_are_closed),
    ];
    for (name, check) in checks {
        let mut server = make();
        let place = join(root, name);
        server.make_directory(&place).unwrap();
        check(&mut server, &place);
    }
    // All of it can be removed again, as one found it.
    let mut server = make();
    remove_below(&mut server, root);
    assert!(listed(&mut server, root).is_empty());
}

/// A path below another.
fn join(directory: &[u8], name: &str) -> Vec<u8> {
    [directory, b"/", name.as_bytes()].concat()
}

/// Bytes that no part of is like another.
fn content(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()[7]
    };
    (0..length).map(|_| next()).collect()
}

fn put<F: RemoteFiles>(server: &mut F, path: &[u8], bytes: &[u8]) {
    let id = server.create(path).unwrap();
    for piece in bytes.chunks(70_001) {
        server.write(id, piece).unwrap();
    }
    server.finish(id, &NewAttributes::default(), true).unwrap();
}

fn read_at<F: RemoteFiles>(server: &mut F, id: ReadId, offset: u64, length: usize) -> Vec<u8> {
    // What is not filled shows.
    let mut into = vec![0xee; length];
    let count = server.read(id, offset, &mut into).unwrap();
    into.truncate(count);
    into
}

fn whole<F: RemoteFiles>(server: &mut F, path: &[u8]) -> Vec<u8> {
    let id = server.open(path).unwrap();
    let mut bytes = Vec::new();
    loop {
        let piece = read_at(server, id, bytes.len() as u64, 50_003);
        bytes.extend_from_slice(&piece);
        if piece.len() < 50_003 {
            server.close(id);
            return bytes;
        }
    }
}

fn listed<F: RemoteFiles>(server: &mut F, directory: &[u8]) -> BTreeMap<Vec<u8>, RemoteEntry> {
    let mut entries = BTreeMap::new();
    server
        .list(directory, &mut |name, entry| {
            assert!(!name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/'));
            let before = entries.insert(name.to_vec(), *entry);
            assert!(before.is_none(), "listed twice: {}", name.escape_ascii());
            Ok(())
        })
        .unwrap();
    entries
}

fn remove_below<F: RemoteFiles>(server: &mut F, directory: &[u8]) {
    for (name, entry) in listed(server, directory) {
        let path = [directory, b"/", &name].concat();
        if entry.kind == EntryKind::Directory {
            remove_below(server, &path);
            server.remove_directory(&path).unwrap();
        } else {
            server.remove_file(&path).unwrap();
        }
    }
}

#[track_caller]
fn is<T: std::fmt::Debug>(result: Result<T, HostsError>, kind: HostErrorKind) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
}

fn directories<F: RemoteFiles>(server: &mut F, place: &[u8]) {
    let path = join(place, "one");
    is(server.inspect(&path), HostErrorKind::NotFound);
    server.make_directory(&path).unwrap();
    assert_eq!(server.inspect(&path).unwrap().kind, EntryKind::Directory);
    assert!(listed(server, &path).is_empty());
    is(server.make_directory(&path), HostErrorKind::AlreadyExists);
    put(server, &join(place, "file"), b"x");
    is(server.make_directory(&join(place, "file")), HostErrorKind::AlreadyExists);
    let kinds: Vec<_> = listed(server, place).into_values().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [EntryKind::File, EntryKind::Directory]);
    // Neither is taken for the other.
    assert!(server.remove_directory(&join(place, "file")).is_err());
    assert!(server.remove_file(&path).is_err());
    assert!(server.list(&join(place, "file"), &mut |_, _| Ok(())).is_err());
    server.remove_directory(&path).unwrap();
    is(server.remove_directory(&path), HostErrorKind::NotFound);
    is(server.inspect(&path), HostErrorKind::NotFound);
    assert_eq!(listed(server, place).len(), 1);
}

fn nested_directories<F: RemoteFiles>(server: &mut F, place: &[u8]) {
    assert!(server.make_directory(&join(place, "a/b")).is_err());
    assert!(server.create(&join(place, "a/file")).is_err());
    for name in ["a", "a/b", "a/b/c", "a/b/c/d e"] {
        server.make_directory(&join(place, name)).unwrap();
        put(server, &join(place, &format!("{name}/file")), name.as_bytes());
    }
    for name in ["a", "a/b", "a/b/c"] {
        assert_eq!(listed(server, &join(place, name)).len(), 2);
        assert!(server.remove_directory(&join(place, name)).is_err(), "it is not empty");
    }
    let deepest = whole(server, &join(place, "a/b/c/d e/file"));
    assert_eq!(deepest, b"a/b/c/d e");
}

fn files<F: RemoteFiles>(server: &mut F, place: &[u8]) {
    let path = join(place, "file");
    put(server, &path, b"content");
    let entry = server.inspect(&path).unwrap();
    assert_eq!((entry.kind, entry.size_bytes), (EntryKind::File, Some(7)));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    if let Some(time) = entry.mod_time {
        // The zone of the server may be another.
        assert!(time.secs.abs_diff(i64::try_from(now).unwrap()) < 26 * 3600, "{time:?}");
    } else {
        skipped("the time of a new file, which the server does not tell");
    }
    let entry = listed(server, place)[&b"file"[..]];
    assert_eq!(entry.kind, EntryKind::File);
    assert!(entry.size_bytes.is_none_or(|size| size == 7));
    // What is there is not overwritten.
    is(server.create(&path), HostErrorKind::AlreadyExists);
    assert_eq!(whole(server, &path), b"content");
    let id = server.open(&path).unwrap();
    let entry = server.inspect_open(id).unwrap();
    assert_eq!((entry.kind, entry.size_bytes), (EntryKind::File, Some(7)));
    server.close(id);
    server.remove_file(&path).unwrap();
    is(server.remove_file(&path), HostErrorKind::NotFound);
    is(server.inspect(&path), HostErrorKind::NotFound);
    put(server, &path, b"");
    assert_eq!(server.inspect(&path).unwrap().size_bytes, Some(0));
    assert_eq!(whole(server, &path), b"");
}

fn what_is_not_there<F: RemoteFiles>(server: &mut F, place: &[u8]) {
    for name in ["absent", "absent/below"] {
        let path = join(place, name);
        is(server.inspect(&path), HostErrorKind::NotFound);
        is(server.open(&path), HostErrorKind::NotFound);
        is(server.list(&path, &mut |_, _| Ok(())), HostErrorKind::NotFound);
        is(server.remove_file(&path), HostErrorKind::NotFound);
        is(server.remove_directory(&path), HostErrorKind::NotFound);
        is(server.rename(&path, &join(place, "new")), HostErrorKind::NotFound);
    }
    assert!(listed(server, place).is_empty());
    // Asking for room fails nowhere.
    server.free_bytes(place).unwrap();
}

fn names<F: RemoteFiles>(server: &mut F, place: &[u8]) {
    let mut taken = Vec::new();
    for name in NAMES {
        let directory = join(place, name);
        // Some servers say no to some: then it is not there.
        if server.make_directory(&directory).is_err() {
            is(server.inspect(&directory), HostErrorKind::NotFound);
            skipped(&format!("the name {name:?}, which the server refuses"));
            continue;
        }
        taken.push(name);
        put(server, &join(&directory, name), name.as_bytes());
    }
    assert!(taken.len() + REFUSED_NAMES_MAX >= NAMES.len(), "only {taken:?}");
    let all = listed(server, place);
    assert_eq!(all.len(), taken.len());
    for name in taken {
        assert_eq!(all[name.as_bytes()].kind, EntryKind::Directory, "{name}");
        let directory = join(place, name);
        let inside: Vec<_> = listed(server, &directory).into_keys().collect();
        assert_eq!(inside, [name.as_bytes()], "in {name}");
        let path = join(&directory, name);
        let entry = server.inspect(&path).unwrap();
        assert_eq!((entry.kind, entry.size_bytes), (EntryKind::File, Some(name.len() as u64)));
        assert_eq!(whole(server, &path), name.as_bytes());
        let other = join(&directory, "other");
        server.rename(&path, &other).unwrap();
        server.rename(&other, &path).unwrap();
        server.remove_file(&path).unwrap();
        server.remove_directory(&directory).unwrap();
    }
}

fn ranges_of_a_large_file<F: RemoteFiles>(server: &mut F, place: &[u8]) {
    let (path, bytes) = (join(place, "large"), content(LARGE_BYTES, 1));
    put(server, &path, &bytes);
    assert_eq!(server.inspect(&path).unwrap().size_bytes, Some(LARGE_BYTES as u64));
    assert!(whole(server, &path) == bytes, "the content is another");
    let id = server.open(&path).unwrap();
    let middle = LARGE_BYTES / 2;
    for (at, length) in [
        (0, 100),
        (100, 1000),
        (middle, 65_536),
        (middle + 65_536, 10),
        (middle - 7, 7),
        (LARGE_BYTES - 1, 1),
        (LARGE_BYTES - 500_000, 500_000),
        (10, 0),
        (0, 1),
    ] {
        let expected = &bytes[at..at + length];
        assert!(read_at(server, id, at as u64, length) == expected, "{length} from {at} on");
    }
    assert!(read_at(server, id, LARGE_BYTES as u64 - 5, 10) == bytes[LARGE_BYTES - 5..]);
    for at in [LARGE_BYTES as u64, LARGE_BYTES as u64 + 1, 1 << 40] {
        assert!(read_at(server, id, at, 10).is_empty(), "from {at} on");
    }
    // A look at something else does not move it.
    assert!(read_at(server, id, 5000, 100) == bytes[5000..5100]);
    assert_eq!(listed(server, place).len(), 1);
    assert!(read_at(server, id, 5100, 400_000) == bytes[5100..405_100]);
    server.close(id);
    server.remove_file(&path).unwrap();
}

fn small_files<F: RemoteFiles>(server: &mut F, place: &[u8]) {
    for length in 0..20 {
        put(server, &join(place, &length.to_string()), &content(length * 97, 7));
    }
    for length in 0..20 {
        assert_eq!(whole(server, &join(place, &length.to_string())), content(length * 97, 7));
    }
}

fn several_at_once<F: RemoteFiles>(server: &mut F, place: &[u8]) {
    let bytes = content(300_000, 2);
    put(server, &join(place, "before"), &bytes);
    let reading = server.open(&join(place, "before")).unwrap();
    let paths = ["a", "b", "c"].map(|name| join(place, name));
    let ids = [0, 1, 2].map(|index| server.create(&paths[index]).unwrap());
    let mut at = 0;
    for (round, piece) in bytes.chunks(30_000).enumerate() {
        for id in ids {
            server.write(id, piece).unwrap();
        }
        let length = 1000 * round + 1;
        assert!(read_at(server, reading, at as u64, length) == bytes[at..at + length]);
        at += length;
        assert_eq!(server.inspect(&join(place, "before")).unwrap().kind, EntryKind::File);
    }
    server.close(reading);
    for id in ids {
        server.finish(id, &NewAttributes::default(), true).unwrap();
    }
    for path in paths {
        assert!(whole(server, &path) == bytes, "the content is another");
    }
}

fn eight_are_read<F: RemoteFiles>(server: &mut F, place: &[u8]) {
    let bytes = content(100_000, 3);
    for name in 0..8 {
        put(server, &join(place, &name.to_string()), &bytes[name * 10..]);
    }
    let ids = [0, 1, 2, 3, 4, 5, 6, 7].map(|name: usize| {
        (server.open(&join(place, &name.to_string())).unwrap(), &bytes[name * 10..])
    });
    for at in (0..40_000).step_by(20_000) {
        for (id, bytes) in ids {
            assert!(read_at(server, id, at as u64, 20_000) == bytes[at..at + 20_000]);
        }
    }
    for (id, _) in ids {
        server.close(id);
    }
}

fn discarded_files_are_gone<F: RemoteFiles>(server: &mut F, place: &[u8]) {
    for length in [0, 1, 200_000] {
        let (path, kept) = (join(place, "discarded"), join(place, "kept"));
        let id = server.create(&path).unwrap();
        let other = server.create(&kept).unwrap();
        server.write(id, &content(length, 4)).unwrap();
        server.write(other, b"kept").unwrap();
        server.discard(id);
        is(server.inspect(&path), HostErrorKind::NotFound);
        assert!(server.write(id, b"late").is_err());
        server.finish(other, &NewAttributes::default(), false).unwrap();
        assert_eq!(whole(server, &kept), b"kept");
        server.remove_file(&kept).unwrap();
    }
}

fn renamed_files<F: RemoteFiles>(server: &mut F, place: &[u8]) {
    let [old, new] = ["old", "new name"].map(|name| join(place, name));
    put(server, &old, b"first");
    server.rename(&old, &new).unwrap();
    is(server.inspect(&old), HostErrorKind::NotFound);
    assert_eq!(whole(server, &new), b"first");
    put(server, &old, b"second");
    server.rename(&old, &new).unwrap();
    is(server.inspect(&old), HostErrorKind::NotFound);
    assert_eq!(whole(server, &new), b"second");
    is(server.rename(&old, &new), HostErrorKind::NotFound);
    assert_eq!(whole(server, &new), b"second");
    server.make_directory(&join(place, "below")).unwrap();
    server.rename(&new, &join(place, "below/x")).unwrap();
    assert_eq!(whole(server, &join(place, "below/x")), b"second");
}

fn many_entries<F: RemoteFiles>(server: &mut F, place: &[u8]) {
    for number in 0..60 {
        put(server, &join(place, &format!("{number:0100}")), b"");
    }
    let all = listed(server, place);
    assert_eq!(all.len(), 60);
    assert!(all.values().all(|entry| entry.kind == EntryKind::File));
    // What is wrong with one entry ends the listing, and the next one works.
    let mut count = 0;
    let stopped = server.list(place, &mut |_, _| {
        count += 1;
        if count == 3 { Err(HostsError::recorded(b"enough".to_vec())) } else { Ok(()) }
    });
    assert_eq!((stopped.unwrap_err().to_string().as_str(), count), ("enough", 3));
    assert_eq!(listed(server, place).len(), 60);
}

fn attributes<F: RemoteFiles>(server: &mut F, place: &[u8]) {
    let abilities = server.abilities().unwrap();
    let [file, directory] = ["file", "directory"].map(|name| join(place, name));
    if !abilities.permissions {
        skipped("setting modes, which the server cannot do");
    }
    if !abilities.times {
        skipped("setting times, which the server cannot do");
    }
    let time = |secs| Some(Timestamp { secs, nanos: 0 });
    let set = |permissions, secs| NewAttributes { permissions, mod_time: time(secs), owner: None };
    let id = server.create(&file).unwrap();
    server.write(id, b"content").unwrap();
    server.finish(id, &set(Some(0o640), 1_000_000_001), true).unwrap();
    server.make_directory(&directory).unwrap();
    let check = |server: &mut F, path: &[u8], set: &NewAttributes| {
        let entry = server.inspect(path).unwrap();
        if abilities.permissions {
            assert!(entry.permissions.is_none() || entry.permissions == set.permissions);
        }
        if abilities.times {
            assert_eq!(entry.mod_time, set.mod_time);
        }
    };
    check(server, &file, &set(Some(0o640), 1_000_000_001));
    for (path, new) in [
        (&file, set(Some(0o400), 1_234_567_890)),
        (&directory, set(Some(0o711), 1_500_000_000)),
        (&directory, set(Some(0o755), 86_400)),
        (&file, set(Some(0o604), 1_700_000_000)),
    ] {
        server.set_attributes(path, &new).unwrap();
        check(server, path, &new);
    }
    server.set_attributes(&file, &NewAttributes::default()).unwrap();
    check(server, &file, &set(Some(0o604), 1_700_000_000));
    assert_eq!(whole(server, &file), b"content");
}

fn links<F: RemoteFiles>(server: &mut F, place: &[u8]) {
    let abilities = server.abilities().unwrap();
    let [file, link, hard] = ["file", "link", "hard"].map(|name| join(place, name));
    put(server, &file, b"content");
    let made = server.make_link(&link, b"file");
    assert_eq!(made.is_ok(), abilities.symbolic_links);
    if made.is_ok() {
        assert_eq!(server.inspect(&link).unwrap().kind, EntryKind::SymbolicLink);
        assert_eq!(listed(server, place)[&b"link"[..]].kind, EntryKind::SymbolicLink);
        let mut target = b"before ".to_vec();
        server.read_link(&link, &mut target).unwrap();
        assert_eq!(target, b"before file");
        server.make_link(&join(place, "dangling"), b"../no where").unwrap();
        assert!(server.make_link(&link, b"other").is_err());
        server.remove_file(&link).unwrap();
        assert_eq!(whole(server, &file), b"content");
    } else {
        skipped("symbolic links, which the server cannot make");
    }
    let made = server.make_hard_link(&hard, &file);
    assert_eq!(made.is_ok(), abilities.hard_links);
    if made.is_ok() {
        server.remove_file(&file).unwrap();
        assert_eq!(whole(server, &hard), b"content");
    } else {
        skipped("hard links, which the server cannot make");
    }
}

fn closed_files_are_closed<F: RemoteFiles>(server: &mut F, place: &[u8]) {
    let path = join(place, "file");
    let id = server.create(&path).unwrap();
    server.finish(id, &NewAttributes::default(), true).unwrap();
    assert!(server.write(id, b"late").is_err());
    assert!(server.finish(id, &NewAttributes::default(), true).is_err());
    server.discard(id);
    assert_eq!(server.inspect(&path).unwrap().size_bytes, Some(0));
    let id = server.open(&path).unwrap();
    server.close(id);
    assert!(server.read(id, 0, &mut [0; 4]).is_err());
    assert!(server.inspect_open(id).is_err());
    server.close(id);
}
