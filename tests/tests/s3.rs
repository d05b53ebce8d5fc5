//! The connector of S3 against real servers.

use std::ops::ControlFlow;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use tiroir_core::exporter::Exporter as _;
use tiroir_core::host::{HostError as _, HostErrorKind};
use tiroir_core::importer::{Attributes, Importer as _};
use tiroir_core::mac::Mac;
use tiroir_core::store::{Store as _, StoreResource};
use tiroir_core::time::Timestamp;
use tiroir_core::wire::file_info::FileInfo;
use tiroir_core::wire::mode::is_directory;
use tiroir_hosts::address::Address;
use tiroir_hosts::contract::{shared_store_contract, store_contract};
use tiroir_hosts::options::Options;
use tiroir_hosts::s3::{S3Exporter, S3Importer, S3Store};
use tiroir_tests::servers::s3::{Maker, S3Server};

fn address(server: &S3Server, path: &str) -> Address {
    Address::parse(server.address(path).as_bytes()).expect("an address")
}

fn options(server: &S3Server, more: &[(&str, &str)]) -> Options {
    let mut options: Options = server.options().collect();
    for (name, value) in more {
        options.set(*name, *value);
    }
    options
}

fn store(server: &S3Server, path: &str, more: &[(&str, &str)]) -> S3Store {
    S3Store::open(&address(server, path), &options(server, more), std::env::temp_dir())
        .expect("options")
}

fn contract(maker: Maker, more: &[(&str, &str)]) {
    let server = S3Server::start(maker);
    let number = AtomicU32::new(0);
    store_contract(|| {
        // A bucket of its own for some, a part of one for others.
        let number = number.fetch_add(1, Ordering::Relaxed);
        let path =
            if number < 3 { format!("own-{number}") } else { format!("bucket/a b/{number}/") };
        store(&server, &path, more)
    });
    shared_store_contract(|number| store(&server, &format!("bucket/shared/{number}"), more));
}

#[test]
fn versity_keeps_the_contract() {
    contract(Maker::Versity, &[]);
}

#[test]
fn versity_with_tls_keeps_the_contract() {
    // In another region than is assumed, which it says.
    contract(Maker::VersityTls, &[("checksum", "md5")]);
}

#[test]
fn rclone_keeps_the_contract() {
    contract(Maker::Rclone, &[]);
}

#[test]
fn layout_is_stocks() {
    let server = S3Server::start(Maker::Rclone);
    let mut store = store(&server, "bucket/some/place", &[]);
    store.create(b"config").expect("create");
    let name = Mac([0xab; 32]);
    for resource in [StoreResource::Packfile, StoreResource::State, StoreResource::Lock] {
        let upload = store.begin(resource).expect("begin");
        store.write(upload, b"content").expect("write");
        store.commit(upload, &name).expect("commit");
    }
    let digits = "ab".repeat(32);
    for path in [
        "CONFIG".to_owned(),
        format!("packfiles/ab/{digits}"),
        format!("states/ab/{digits}"),
        format!("locks/{digits}"),
    ] {
        let path = server.file(&format!("bucket/some/place/{path}"));
        assert!(path.is_file(), "{} is missing", path.display());
    }
}

/// Above the length from which objects go in parts.
#[test]
fn long_objects_go_in_parts() {
    for maker in [Maker::Versity, Maker::Rclone] {
        let server = S3Server::start(maker);
        let mut store = store(&server, "bucket", &[]);
        store.create(b"config").expect("create");
        let piece: Vec<u8> = (0..=250).cycle().take(1 << 20).collect();
        let upload = store.begin(StoreResource::Packfile).expect("begin");
        for _ in 0..70 {
            store.write(upload, &piece).expect("write");
        }
        let name = Mac([1; 32]);
        store.commit(upload, &name).expect("commit");
        assert_eq!(store.size(StoreResource::Packfile, &name).expect("size"), Some(70 << 20));
        let mut into = vec![0; 1 << 20];
        for at in 0..70 {
            let read = store.get(StoreResource::Packfile, &name, at << 20, &mut into);
            assert_eq!(read.expect("get"), into.len());
            assert!(into == piece, "{maker:?}: MiB {at}");
        }
    }
}

/// As `2027-01-31`.
fn day_after_next() -> String {
    let date = Command::new("date").args(["-u", "-d", "+2 days", "+%Y-%m-%d"]).output();
    let date = date.expect("date is missing").stdout;
    String::from_utf8(date).expect("a date").trim().to_owned()
}

/// A server that locks objects is told until when, for those of one part and of several;
/// what is not to stay is not locked.
#[test]
fn objects_are_locked() {
    let server = S3Server::start(Maker::VersityVersions);
    let options = [("object_lock_mode", "governance"), ("retain_days", "2")];
    let mut store = store(&server, "bucket/store", &options);
    store.create(b"config").expect("create");
    let mut write = |resource, number, pieces| {
        let upload = store.begin(resource).expect("begin");
        for _ in 0..pieces {
            store.write(upload, &vec![number; 1 << 20]).expect("write");
        }
        store.commit(upload, &Mac([number; 32])).expect("commit");
        let digits = format!("{number:02x}").repeat(32);
        let path = match resource {
            StoreResource::Packfile => format!("packfiles/{number:02x}/{digits}"),
            StoreResource::State => format!("states/{number:02x}/{digits}"),
            StoreResource::Lock => format!("locks/{digits}"),
        };
        let path = format!("bucket/store/{path}");
        assert!(server.file(&path).is_file(), "{path}");
        server.kept_beside(&path, "object-retention")
    };
    for (resource, number, pieces) in [
        (StoreResource::Packfile, 1, 1),
        (StoreResource::Packfile, 2, 70),
        (StoreResource::State, 3, 1),
    ] {
        let before = day_after_next();
        let told = write(resource, number, pieces).expect("it is not locked");
        assert!(told.contains("GOVERNANCE"), "{told}");
        assert!([before, day_after_next()].iter().any(|day| told.contains(day)), "{told}");
    }
    assert_eq!(write(StoreResource::Lock, 4, 1), None);
}

#[test]
fn listings_have_several_pages() {
    for maker in [Maker::Versity, Maker::Rclone] {
        let server = S3Server::start(maker);
        // Before the server looks: it remembers what it saw.
        for number in 0..2100u16 {
            let mut name = [0; 32];
            name[..2].copy_from_slice(&number.wrapping_mul(40_503).to_be_bytes());
            let path = server.file(&format!("bucket/p/states/{:.1}/{}", Mac(name), Mac(name)));
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("folder");
            std::fs::write(path, b"x").expect("file");
        }
        let mut found = std::collections::BTreeSet::new();
        let mut store = store(&server, "bucket/p", &[]);
        store
            .list(StoreResource::State, &mut |name| {
                assert!(found.insert(name), "twice");
                ControlFlow::Continue(())
            })
            .expect("list");
        assert_eq!(found.len(), 2100, "{maker:?}");
    }
}

#[test]
fn what_is_wrong_is_told() {
    for maker in [Maker::Versity, Maker::Rclone] {
        let server = S3Server::start(maker);
        let mut absent = store(&server, "absent", &[]);
        let error = absent.read_config(&mut [0; 10]).expect_err("no bucket");
        assert_eq!(error.kind(), HostErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains("no bucket absent"), "{error}");
        let mut wrong = store(&server, "bucket", &[("secret_access_key", "hunter2")]);
        let error = wrong.read_config(&mut [0; 10]).expect_err("a wrong key");
        assert_eq!(error.kind(), HostErrorKind::PermissionDenied, "{error}");
        assert!(!error.to_string().contains("hunter2"));
        let mut unknown = store(&server, "bucket", &[("access_key", "somebody")]);
        let error = unknown.read_config(&mut [0; 10]).expect_err("an unknown key");
        assert_eq!(error.kind(), HostErrorKind::PermissionDenied, "{error}");
        let mut tls = store(&server, "bucket", &[("use_tls", "true")]);
        assert!(tls.read_config(&mut [0; 10]).is_err());
    }
    let server = S3Server::start(Maker::VersityTls);
    let mut distrusted = store(&server, "bucket", &[("tls_ca", "")]);
    let error = distrusted.read_config(&mut [0; 10]).expect_err("an unknown certificate");
    assert!(error.to_string().contains("tls_fingerprint="), "{error}");
}

/// What is at a path: its attributes, and the content of an object.
type Found = std::collections::BTreeMap<String, (Attributes, Option<Vec<u8>>)>;

/// Goes through everything that an importer shows, as a backup does.
fn walk(importer: &mut S3Importer) -> Found {
    let mut found = Found::new();
    let mut queue = vec!["/".to_owned()];
    let mut attributes = Attributes::default();
    importer.stat(b"/", &[], &mut attributes).expect("the root");
    while let Some(directory) = queue.pop() {
        let mut names = Vec::new();
        importer
            .list(directory.as_bytes(), &mut |name, hint| {
                names.push((String::from_utf8(name.to_vec()).expect("UTF-8"), hint.to_vec()));
                Ok(())
            })
            .expect("list");
        names.sort();
        for (name, hint) in names {
            let path = format!("{}/{name}", directory.trim_end_matches('/'));
            let mut attributes = Attributes::default();
            importer.stat(path.as_bytes(), &hint, &mut attributes).expect("stat");
            if is_directory(attributes.mode) {
                queue.push(path.clone());
                assert!(found.insert(path, (attributes, None)).is_none(), "twice");
                continue;
            }
            importer.open(path.as_bytes(), &attributes).expect("open");
            let (mut content, mut piece) = (Vec::new(), vec![0; 50_000]);
            loop {
                let read = importer.read(&mut piece).expect("read");
                if read == 0 {
                    break;
                }
                content.extend_from_slice(&piece[..read]);
            }
            assert!(!importer.changed().expect("changed"), "{path}");
            importer.close();
            assert_eq!(u64::try_from(attributes.size).expect("a size"), content.len() as u64);
            assert!(found.insert(path, (attributes, Some(content))).is_none(), "twice");
        }
    }
    found
}

fn restore(exporter: &mut S3Exporter, path: &str, content: &[u8], info: Option<&FileInfo<'_>>) {
    exporter.begin_file(path.as_bytes(), content.len() as u64).expect("begin");
    for piece in content.chunks(100_000) {
        exporter.write(piece).expect("write");
    }
    exporter.finish_file(info).expect("finish");
}

#[test]
fn what_is_restored_is_backed_up() {
    for maker in [Maker::Versity, Maker::Rclone] {
        let server = S3Server::start(maker);
        let to = address(&server, "bucket/to/here");
        let spools = std::env::temp_dir();
        let mut exporter =
            S3Exporter::open(&to, &options(&server, &[]), &spools).expect("an exporter");
        let mod_time = Timestamp { secs: 1_234_567_890, nanos: 120_000_000 };
        let info = FileInfo { mode: 0o640, mod_time, uid: 1000, gid: 100, ..FileInfo::default() };
        let long: Vec<u8> = (0..u32::MAX).flat_map(u32::to_be_bytes).take(70 << 20).collect();
        let names =
            ["plain", "dir/a b+c&d=é%41.txt", "dir/deep/er/~x'(1)!*", "empty", "dir-ectory"];
        for name in names {
            let content = if name == "empty" { &[][..] } else { name.as_bytes() };
            restore(&mut exporter, name, content, Some(&info));
        }
        restore(&mut exporter, "long", &long, Some(&info));
        exporter.hard_link(b"dir/again", b"plain").expect("a copy");
        restore(&mut exporter, "plain2", b"first", None);
        restore(&mut exporter, "plain2", b"second", None);
        exporter.begin_file(b"abandoned", 100 << 20).expect("begin");
        exporter.write(&long).expect("write");
        exporter.abandon_file();
        assert!(exporter.symbolic_link(b"link", b"plain").is_err());
        drop(exporter);

        for metadata in ["false", "true"] {
            let options = options(&server, &[("metadata", metadata)]);
            let mut importer = S3Importer::open(&to, &options).expect("an importer");
            assert_eq!(importer.root(), b"/to/here");
            assert_eq!(importer.origin(), format!("{}/bucket", server.authority));
            let found = walk(&mut importer);
            let objects = found.values().filter(|entry| entry.1.is_some()).count();
            assert_eq!(objects, names.len() + 3, "{maker:?}: {:?}", found.keys());
            assert!(found["/to/here/long"].1.as_deref() == Some(&long[..]), "another content");
            assert_eq!(found["/to/here/plain2"].1.as_deref(), Some(&b"second"[..]));
            assert_eq!(found["/to/here/dir/again"].1.as_deref(), Some(&b"plain"[..]));
            for name in names {
                let (attributes, content) = &found[&format!("/to/here/{name}")];
                let wanted = if name == "empty" { &[][..] } else { name.as_bytes() };
                assert_eq!(content.as_deref(), Some(wanted), "{maker:?}");
                if metadata == "true" {
                    assert_eq!((attributes.mode, attributes.mod_time), (0o640, mod_time), "{name}");
                    assert_eq!((attributes.uid, attributes.gid), (1000, 100));
                } else {
                    assert_eq!(attributes.mode, 0o700);
                }
            }
            if metadata == "true" {
                assert_eq!(found["/to/here/long"].0.mod_time, mod_time, "{maker:?}");
            }
        }

        // One object alone, and a place where nothing is.
        let alone = address(&server, "bucket/to/here/dir/again");
        let mut importer = S3Importer::open(&alone, &options(&server, &[])).expect("an importer");
        assert_eq!(importer.root(), b"/to/here/dir");
        assert_eq!(walk(&mut importer).len(), 4);
        let absent = address(&server, "bucket/to/her");
        let error = S3Importer::open(&absent, &options(&server, &[])).expect_err("nothing there");
        assert_eq!(error.kind(), HostErrorKind::NotFound, "{error}");
    }
}

#[test]
fn changes_are_seen() {
    let server = S3Server::start(Maker::Versity);
    let place = address(&server, "bucket");
    let mut exporter =
        S3Exporter::open(&place, &options(&server, &[]), std::env::temp_dir()).expect("exporter");
    restore(&mut exporter, "file", b"first", None);
    let mut importer = S3Importer::open(&place, &options(&server, &[])).expect("an importer");
    let mut hint = Vec::new();
    importer
        .list(b"/", &mut |_, given| {
            hint = given.to_vec();
            Ok(())
        })
        .expect("list");
    let mut attributes = Attributes::default();
    importer.stat(b"/file", &hint, &mut attributes).expect("stat");
    restore(&mut exporter, "file", b"other", None);
    importer.open(b"/file", &attributes).expect("open");
    assert!(importer.changed().expect("changed"));
}
