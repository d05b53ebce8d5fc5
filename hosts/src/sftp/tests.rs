//! A server of a few lines, which can be slow, broken and hostile; and what must
//! come of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tiroir_core::host::{HostError as _, HostErrorKind};

use super::wire::{Fields, Packet, kind, open_flags, status};
use super::{Dial, SftpFiles};
use crate::error::{HostsError, Result};
use crate::remote::patience::Patience;
use crate::remote::{EntryKind, NewAttributes, RemoteFiles};

/// Files of the server, which outlive its connections.
type Disk = Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>;

/// How the server behaves.
#[derive(Clone, Debug, Default)]
struct Manners {
    /// Packets that a connection answers before it is closed.
    cut_after: Option<usize>,
    /// Most bytes of an answer to a read.
    read_bytes: Option<usize>,
    /// In place of the answer to a packet of a kind.
    instead: BTreeMap<u8, Vec<u8>>,
    /// Kinds of packets that are never answered.
    silent: BTreeSet<u8>,
    /// Names listed again and again, as often.
    listings: usize,
    /// What a directory holds, beside its files.
    names: Vec<Vec<u8>>,
    /// So many of the names in an answer, and each only once, in another order over
    /// each connection.
    page: Option<usize>,
    /// Connections from this one on are not closed.
    whole_from: Option<usize>,
}

#[derive(Clone, Debug)]
struct Double {
    disk: Disk,
    manners: Arc<Mutex<Manners>>,
    dialled: Arc<Mutex<usize>>,
}

impl Double {
    fn new(manners: Manners) -> Self {
        let manners = Arc::new(Mutex::new(manners));
        Self { disk: Disk::default(), manners, dialled: Arc::default() }
    }

    fn files(&self) -> SftpFiles {
        let mut patience = Patience::default();
        patience.timeout = Duration::from_secs(1);
        SftpFiles::new(Box::new(self.clone()), patience)
    }
}

impl Dial for Double {
    fn dial(&mut self) -> Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut dialled = self.dialled.lock().unwrap();
        *dialled += 1;
        let (disk, mut manners) = (Arc::clone(&self.disk), self.manners.lock().unwrap().clone());
        if manners.whole_from.is_some_and(|first| *dialled >= first) {
            manners.cut_after = None;
        }
        if manners.page.is_some() {
            let by = *dialled * 377 % manners.names.len();
            manners.names.rotate_left(by);
        }
        thread::spawn(move || {
            Server { stream: theirs, disk, manners, handles: BTreeMap::new() }.serve();
        });
        Ok(ours)
    }

    fn shown(&self) -> &str {
        "sftp://double"
    }
}

struct Server {
    stream: UnixStream,
    disk: Disk,
    manners: Manners,
    handles: BTreeMap<Vec<u8>, (Vec<u8>, usize)>,
}

impl Server {
    fn serve(mut self) {
        for count in 0.. {
            let mut head = [0; 4];
            if self.stream.read_exact(&mut head).is_err() {
                return;
            }
            let mut packet = vec![0; u32::from_be_bytes(head) as usize];
            if self.stream.read_exact(&mut packet).is_err() {
                return;
            }
            if self.manners.cut_after.is_some_and(|most| count >= most) {
                return;
            }
            if self.manners.silent.contains(&packet[0]) {
                continue;
            }
            let answer = match self.manners.instead.get(&packet[0]) {
                Some(bytes) => bytes.clone(),
                None => self.answer(packet[0], &packet[1..]),
            };
            if self.stream.write_all(&answer).is_err() {
                return;
            }
        }
    }

    fn answer(&mut self, kind: u8, fields: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        if kind == kind::INIT {
            Packet::new(&mut out, kind::VERSION, 3).finish();
            return out;
        }
        let mut fields = Fields(fields);
        let id = fields.u32().unwrap();
        let name = fields.string().unwrap_or_default().to_vec();
        let disk = Arc::clone(&self.disk);
        let mut disk = disk.lock().unwrap();
        let mut say = |code: u32| {
            Packet::new(&mut out, kind::STATUS, id).u32(code).string(b"").string(b"").finish();
        };
        match kind {
            kind::OPEN => {
                let flags = fields.u32().unwrap();
                let is_there = disk.contains_key(&name);
                if flags & open_flags::EXCLUSIVE != 0 && is_there {
                    say(status::FAILURE);
                } else if flags & open_flags::CREATE == 0 && !is_there {
                    say(status::NO_SUCH_FILE);
                } else {
                    disk.entry(name.clone()).or_default();
                    let handle = format!("h{}", self.handles.len()).into_bytes();
                    self.handles.insert(handle.clone(), (name, 0));
                    Packet::new(&mut out, kind::HANDLE, id).string(&handle).finish();
                }
            }
            kind::OPENDIR => {
                let handle = format!("h{}", self.handles.len()).into_bytes();
                self.handles.insert(handle.clone(), (name, 0));
                Packet::new(&mut out, kind::HANDLE, id).string(&handle).finish();
            }
            kind::READDIR => {
                let (_, count) = self.handles.get_mut(&name).unwrap();
                *count += 1;
                let names = match self.manners.page {
                    Some(page) => self.manners.names.chunks(page).nth(*count - 1),
                    None if *count > self.manners.listings => None,
                    None => Some(&self.manners.names[..]),
                };
                let Some(names) = names else {
                    say(status::EOF);
                    return out;
                };
                let count = u32::try_from(names.len()).unwrap();
                let mut packet = Packet::new(&mut out, kind::NAME, id).u32(count);
                for name in names {
                    packet =
                        packet.string(name).string(b"long").attributes(None, Some(0o644), None);
                }
                packet.finish();
            }
            kind::READ => {
                let (offset, length) = (fields.u64().unwrap(), fields.u32().unwrap());
                let content = &disk[&self.handles[&name].0];
                let start = usize::try_from(offset).unwrap().min(content.len());
                let most = self.manners.read_bytes.unwrap_or(usize::MAX).min(length as usize);
                let end = start.saturating_add(most).min(content.len());
                if start == end {
                    say(status::EOF);
                } else {
                    Packet::new(&mut out, kind::DATA, id).string(&content[start..end]).finish();
                }
            }
            kind::WRITE => {
                let (offset, data) = (fields.u64().unwrap(), fields.string().unwrap());
                let content = disk.get_mut(&self.handles[&name].0).unwrap();
                let start = usize::try_from(offset).unwrap();
                content.resize(content.len().max(start + data.len()), 0);
                content[start..start + data.len()].copy_from_slice(data);
                say(status::OK);
            }
            kind::FSTAT | kind::LSTAT => {
                let path = if kind == kind::FSTAT { &self.handles[&name].0 } else { &name };
                match disk.get(path) {
                    Some(content) => {
                        let size = content.len() as u64;
                        Packet::new(&mut out, kind::ATTRS, id)
                            .u32(5)
                            .u64(size)
                            .u32(0o100_644)
                            .finish();
                    }
                    None => say(status::NO_SUCH_FILE),
                }
            }
            kind::REMOVE => match disk.remove(&name) {
                Some(_) => say(status::OK),
                None => say(status::NO_SUCH_FILE),
            },
            kind::RENAME => {
                let to = fields.string().unwrap().to_vec();
                if disk.contains_key(&to) {
                    say(status::FAILURE);
                } else {
                    let content = disk.remove(&name).unwrap();
                    disk.insert(to, content);
                    say(status::OK);
                }
            }
            kind::CLOSE | kind::FSETSTAT | kind::SETSTAT => say(status::OK),
            _ => say(status::OP_UNSUPPORTED),
        }
        out
    }
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from(index * 31 % 251).unwrap()).collect()
}

fn write(files: &mut SftpFiles, path: &[u8], content: &[u8], piece: usize) -> Result<()> {
    let id = files.create(path)?;
    for piece in content.chunks(piece) {
        files.write(id, piece)?;
    }
    files.finish(id, &NewAttributes { permissions: Some(0o600), ..NewAttributes::default() }, true)
}

fn read(files: &mut SftpFiles, path: &[u8], piece: usize) -> Vec<u8> {
    let id = files.open(path).unwrap();
    let mut whole = Vec::new();
    let mut into = vec![0; piece];
    loop {
        let count = files.read(id, whole.len() as u64, &mut into).unwrap();
        whole.extend_from_slice(&into[..count]);
        if count < piece {
            break;
        }
    }
    let now = files.inspect_open(id).unwrap();
    assert_eq!(now.size_bytes, Some(whole.len() as u64));
    files.close(id);
    whole
}

#[test]
fn what_is_written_is_read() {
    let double = Double::new(Manners::default());
    let mut files = double.files();
    for length in [0, 1, 32_703, 32_704, 32_705, 100_000, 3_000_000] {
        for piece in [77, 32_704, 1 << 20] {
            if length / piece > 5000 {
                continue;
            }
            let content = content(length);
            let path = format!("/{length}-{piece}").into_bytes();
            write(&mut files, &path, &content, piece).unwrap();
            for piece in [4096, 70_000, 4 << 20] {
                assert!(read(&mut files, &path, piece) == content, "{length} {piece}");
            }
        }
    }
    assert_eq!(*double.dialled.lock().unwrap(), 1);
}

#[test]
fn many_files_are_open_at_once() {
    let double = Double::new(Manners::default());
    let mut files = double.files();
    let contents: Vec<Vec<u8>> = (0..8).map(|n| content(200_000 + n * 1000)).collect();
    let ids: Vec<_> = (0..8).map(|n| files.create(format!("/{n}").as_bytes()).unwrap()).collect();
    for start in (0..250_000).step_by(10_000) {
        for (id, content) in ids.iter().zip(&contents) {
            let end = (start + 10_000).min(content.len());
            files.write(*id, content.get(start..end).unwrap_or_default()).unwrap();
        }
    }
    for id in ids {
        files.finish(id, &NewAttributes::default(), true).unwrap();
    }
    let ids: Vec<_> = (0..8).map(|n| files.open(format!("/{n}").as_bytes()).unwrap()).collect();
    let mut into = vec![0; 50_000];
    for start in (0..200_000).step_by(50_000) {
        for (id, content) in ids.iter().zip(&contents) {
            assert_eq!(files.read(*id, start as u64, &mut into).unwrap(), into.len());
            assert!(into == content[start..start + into.len()]);
        }
    }
    // Back and forth.
    for start in [150_000, 0, 199_000, 7] {
        let count = files.read(ids[0], start as u64, &mut into).unwrap();
        assert!(into[..count] == contents[0][start..start + count]);
        assert_eq!(count, (contents[0].len() - start).min(into.len()));
    }
}

#[test]
fn servers_that_give_less_than_asked() {
    let double = Double::new(Manners { read_bytes: Some(1000), ..Manners::default() });
    let mut files = double.files();
    let content = content(123_456);
    write(&mut files, b"/a", &content, 9999).unwrap();
    for piece in [500, 5000, 200_000] {
        assert!(read(&mut files, b"/a", piece) == content);
    }
}

/// Each connection is closed after some packets, in the middle of whatever it is.
#[test]
fn a_link_that_breaks_is_made_again() {
    for cut_after in [30, 41] {
        let double = Double::new(Manners { cut_after: Some(cut_after), ..Manners::default() });
        let mut files = double.files();
        let content = content(1_500_000);
        write(&mut files, b"/a", &content, 100_000).unwrap();
        assert!(double.disk.lock().unwrap()[&b"/a"[..]] == content);
        assert!(read(&mut files, b"/a", 100_000) == content);
        for round in 0..40 {
            let path = format!("/{round}").into_bytes();
            write(&mut files, &path, b"x", 1).unwrap();
            files.rename(&path, b"/one").unwrap();
            files.remove_file(b"/one").unwrap();
        }
        assert!(*double.dialled.lock().unwrap() > 3);
        assert_eq!(double.disk.lock().unwrap().len(), 1);
    }
}

/// Lists `count` names from a server whose first two connections break in the middle.
fn list_over_breaks(count: usize, page: usize) -> (Result<()>, Vec<Vec<u8>>) {
    let names: Vec<Vec<u8>> = (0..count).map(|n| format!("name-{n}").into_bytes()).collect();
    let double = Double::new(Manners {
        cut_after: Some(7),
        whole_from: Some(3),
        names,
        page: Some(page),
        ..Manners::default()
    });
    let mut listed = Vec::new();
    let done = double.files().list(b"/", &mut |name, _| {
        listed.push(name.to_vec());
        Ok(())
    });
    (done, listed)
}

/// Each child comes once, whatever the order over the next link is.
#[test]
fn a_listing_that_breaks_goes_on() {
    for count in [1000, 3000] {
        let (done, listed) = list_over_breaks(count, 100);
        done.unwrap();
        assert_eq!(listed.len(), count);
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>().len(), count);
    }
}

/// When too much was given to be known again, it fails rather than give it twice.
#[test]
fn a_long_listing_that_breaks_fails() {
    let (done, listed) = list_over_breaks(10_000, 1000);
    let error = done.unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
    assert!(listed.len() > super::listing::GIVEN_MAX);
    assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), listed.len());
    let (done, listed) = list_over_breaks(super::listing::GIVEN_MAX, 500);
    done.unwrap();
    assert_eq!(listed.len(), super::listing::GIVEN_MAX);
}

#[test]
fn kinds_of_refusals() {
    let double = Double::new(Manners::default());
    let mut files = double.files();
    write(&mut files, b"/a", b"a", 1).unwrap();
    let kind = |error: HostsError| error.kind();
    assert_eq!(kind(files.open(b"/none").unwrap_err()), HostErrorKind::NotFound);
    assert_eq!(kind(files.inspect(b"/none").unwrap_err()), HostErrorKind::NotFound);
    assert_eq!(kind(files.create(b"/a").unwrap_err()), HostErrorKind::AlreadyExists);
    assert_eq!(kind(files.remove_file(b"/none").unwrap_err()), HostErrorKind::NotFound);
    assert_eq!(files.inspect(b"/a").unwrap().kind, EntryKind::File);
    write(&mut files, b"/b", b"b", 1).unwrap();
    files.rename(b"/b", b"/a").unwrap();
    assert_eq!(read(&mut files, b"/a", 10), b"b");
    assert!(files.write(crate::remote::WriteId(99), b"x").is_err());
}

/// Without a retry: what a broken peer says is an error, soon.
fn broken(manners: Manners) -> (String, Duration) {
    let double = Double::new(manners);
    let mut files = double.files();
    files.patience.retry = Duration::ZERO;
    double.disk.lock().unwrap().insert(b"/a".to_vec(), content(100_000));
    let started = Instant::now();
    let mut listed = 0;
    let error = files
        .open(b"/a")
        .and_then(|id| files.read(id, 0, &mut [0; 50_000]))
        .and_then(|_| {
            files.list(b"/", &mut |_, _| {
                listed += 1;
                if listed > 1000 {
                    let rule = "too many";
                    return Err(HostsError::rule(HostErrorKind::Other, "list", b"", rule));
                }
                Ok(())
            })
        })
        .unwrap_err();
    (error.to_string(), started.elapsed())
}

#[test]
fn hostile_peers() {
    let instead = |kind: u8, bytes: &[u8]| Manners {
        instead: [(kind, bytes.to_vec())].into(),
        ..Manners::default()
    };
    let packet = |kind: u8, id: u32, rest: &[u8]| {
        let mut out = Vec::new();
        Packet::new(&mut out, kind, id).finish();
        out.extend_from_slice(rest);
        let length = u32::try_from(out.len() - 4).unwrap();
        out[..4].copy_from_slice(&length.to_be_bytes());
        out
    };
    for (what, manners) in [
        ("a shell's greeting", instead(kind::INIT, b"Welcome to the machine\n")),
        ("a length without end", instead(kind::OPEN, &[0xff; 9])),
        ("another version", instead(kind::INIT, &packet(kind::VERSION, 6, &[]))),
        ("a number that was not asked", instead(kind::OPEN, &packet(kind::STATUS, 999, &[0; 8]))),
        ("a handle that is cut", instead(kind::OPEN, &packet(kind::HANDLE, 0, &[0, 0, 9, 9]))),
        (
            "a handle that is too long",
            instead(kind::OPEN, &packet(kind::HANDLE, 0, &[&[0, 0, 1, 1][..], &[7; 257]].concat())),
        ),
        ("no handle", instead(kind::OPEN, &packet(kind::STATUS, 0, &[0; 8]))),
        (
            "more than asked",
            instead(
                kind::READ,
                &packet(kind::DATA, 1, &[&[0, 1, 0, 0][..], &[7; 65_536]].concat()),
            ),
        ),
        ("nothing at all", instead(kind::READ, &packet(kind::DATA, 1, &[0; 4]))),
        ("no names", instead(kind::READDIR, &packet(kind::NAME, 4, &[0; 4]))),
        ("names that are cut", instead(kind::READDIR, &packet(kind::NAME, 4, &[0, 0, 0, 9]))),
        ("silence", Manners { silent: [kind::READ].into(), ..Manners::default() }),
        ("silence from the start", Manners { silent: [kind::INIT].into(), ..Manners::default() }),
        (
            "a listing without end",
            Manners {
                listings: usize::MAX,
                names: vec![vec![b'x'; 200]; 50],
                ..Manners::default()
            },
        ),
    ] {
        let (error, time) = broken(manners);
        assert!(error.starts_with("cannot "), "{what}: {error}");
        assert!(time < Duration::from_secs(5), "{what}: {time:?}");
    }
}

#[test]
fn stopping_is_quick() {
    let flag = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let double = Double::new(Manners { silent: [kind::OPEN].into(), ..Manners::default() });
    let mut files = double.files();
    files.patience.timeout = Duration::from_secs(60);
    files.patience = files.patience.clone().with_cancellation(flag.clone());
    let started = Instant::now();
    let later = thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        flag.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(files.open(b"/a").is_err());
    later.join().unwrap();
    assert!(started.elapsed() < Duration::from_secs(3));
}
