//! The connector of S3 against real servers.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU32, Ordering};

use tiroir_core::host::{HostError as _, HostErrorKind};
use tiroir_core::mac::Mac;
use tiroir_core::store::{Store as _, StoreResource};
use tiroir_hosts::address::Address;
use tiroir_hosts::contract::{shared_store_contract, store_contract};
use tiroir_hosts::options::Options;
use tiroir_hosts::s3::S3Store;
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

#[test]
fn listings_have_several_pages() {
    for maker in [Maker::Versity, Maker::Rclone] {
        let server = S3Server::start(maker);
        let mut store = store(&server, "bucket/p", &[]);
        store.create(b"config").expect("create");
        for number in 0..2100u16 {
            let mut name = [0; 32];
            name[..2].copy_from_slice(&number.wrapping_mul(40_503).to_be_bytes());
            let path = server.file(&format!("bucket/p/states/{:.1}/{}", Mac(name), Mac(name)));
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("folder");
            std::fs::write(path, b"x").expect("file");
        }
        let mut found = std::collections::BTreeSet::new();
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
