//! FTP, with the servers that Debian has: what every server with files does,
//! with and without TLS, and what is special about each.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

use tiroir_core::host::{HostError as _, HostErrorKind};
use tiroir_hosts::address::Address;
use tiroir_hosts::contract::{remote_files_contract, shared_store_contract, store_contract};
use tiroir_hosts::ftp::FtpFiles;
use tiroir_hosts::options::Options;
use tiroir_hosts::remote::store::FilesStore;
use tiroir_hosts::remote::{NewAttributes, RemoteFiles as _};
use tiroir_tests::sandbox::Sandbox;
use tiroir_tests::scene::identifiers;
use tiroir_tests::servers::ftp::{FtpServer, Kind, Tls};
use tiroir_tests::tree::touch;

/// What lies on a server, with more options than it needs.
fn files(server: &FtpServer, more: &[(&str, &str)]) -> FtpFiles {
    let mut options: Options = more.iter().copied().collect();
    if server.tls != Tls::None {
        options.set("tls_ca", server.certificate().to_str().expect("UTF-8"));
    }
    if matches!(server.tls, Tls::Explicit | Tls::Newest) {
        options.set("tls", "explicit");
    }
    let address = Address::parse(server.location().as_bytes()).expect("location");
    FtpFiles::new(&address, server.tls == Tls::Implicit, &options).expect("options")
}

fn contract(kind: Kind, tls: Tls, more: &[(&str, &str)]) {
    let server = FtpServer::start(kind, tls, 20);
    eprintln!("{:#?}", files(&server, more).description().expect("description"));
    remote_files_contract(server.root().as_bytes(), || files(&server, more));
}

#[test]
fn vsftpd_plain() {
    contract(Kind::Vsftpd, Tls::None, &[]);
}

#[test]
fn vsftpd_explicit() {
    contract(Kind::Vsftpd, Tls::Explicit, &[]);
}

#[test]
fn vsftpd_implicit() {
    contract(Kind::Vsftpd, Tls::Implicit, &[]);
}

#[test]
fn proftpd_plain() {
    contract(Kind::Proftpd, Tls::None, &[]);
}

#[test]
fn proftpd_explicit() {
    contract(Kind::Proftpd, Tls::Explicit, &[]);
}

#[test]
fn proftpd_implicit() {
    contract(Kind::Proftpd, Tls::Implicit, &[]);
}

#[test]
fn proftpd_newest() {
    contract(Kind::Proftpd, Tls::Newest, &[]);
}

#[test]
fn pureftpd_plain() {
    contract(Kind::Pureftpd, Tls::None, &[]);
}

#[test]
fn pureftpd_explicit() {
    contract(Kind::Pureftpd, Tls::Explicit, &[]);
}

/// The suite of every store connector.
fn stores(kind: Kind, tls: Tls) {
    let server = FtpServer::start(kind, tls, 40);
    let store = |name: String| {
        let root = format!("{}/{name}", server.root());
        FilesStore::new(Box::new(files(&server, &[])), root.as_bytes())
    };
    let mut number = 0;
    store_contract(|| {
        number += 1;
        store(number.to_string())
    });
    shared_store_contract(|number| store(format!("shared{number}")));
}

#[test]
fn vsftpd_keeps_stores() {
    stores(Kind::Vsftpd, Tls::None);
}

#[test]
fn vsftpd_with_tls_keeps_stores() {
    stores(Kind::Vsftpd, Tls::Explicit);
}

/// Reading here and there breaks transfers off. With TLS, ProFTPD ends the whole session
/// when it finds that the connection of the content was closed, so that each read would
/// begin with another login.
#[test]
fn reading_here_and_there_takes_one_session() {
    const FILE_BYTES: u64 = 64 << 20;
    for tls in [Tls::None, Tls::Explicit, Tls::Implicit] {
        let server = FtpServer::start(Kind::Proftpd, tls, 20);
        let file = fs::File::create(server.files().join("large")).expect("file");
        file.set_len(FILE_BYTES).expect("length");
        let mut files = files(&server, &[]);
        let path = format!("{}/large", server.root());
        let opened = files.open(path.as_bytes()).expect("open");
        let mut piece = vec![1; 64 * 1024];
        for number in 0..20 {
            let offset = number * 7_919_000 % (FILE_BYTES / 2);
            assert_eq!(files.read(opened, offset, &mut piece).expect("read"), piece.len());
            assert!(piece.iter().all(|byte| *byte == 0), "{tls:?} {number}");
            piece.fill(1);
        }
        drop(files);
        assert_eq!(server.logins(), 1, "{tls:?}");
    }
}

#[test]
fn proftpd_keeps_stores() {
    stores(Kind::Proftpd, Tls::None);
}

#[test]
fn pureftpd_keeps_stores() {
    stores(Kind::Pureftpd, Tls::None);
}

#[test]
fn active_mode() {
    for kind in ALL {
        contract(kind, Tls::None, &[("active", "true")]);
    }
}

const ALL: [Kind; 3] = [Kind::Vsftpd, Kind::Proftpd, Kind::Pureftpd];

/// A directory that may not be read is an error, and no empty one.
#[test]
fn unreadable_directories() {
    for kind in ALL {
        let server = FtpServer::start(kind, Tls::None, 20);
        let mut files = files(&server, &[]);
        // Entered, but not read; and neither.
        for mode in [0o711, 0o700] {
            let path = server.files().join(format!("d{mode:o}"));
            fs::create_dir(&path).expect("directory");
            fs::write(path.join("inside"), "x").expect("file");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("permissions");
            let path = format!("{}/d{mode:o}", server.root());
            let mut seen = 0;
            files.list(server.root().as_bytes(), &mut |_, _| Ok(())).expect("the one above");
            let listed = files.list(path.as_bytes(), &mut |_, _| {
                seen += 1;
                Ok(())
            });
            let error = listed.expect_err("it may not be read");
            eprintln!("{kind:?} {mode:o}: {error}");
            assert_ne!(error.kind(), HostErrorKind::NotFound, "{kind:?}: {error}");
            assert_eq!(seen, 0);
        }
    }
}

/// The server lets in fewer connections than there may be.
#[test]
fn fewer_connections() {
    for kind in ALL {
        let server = FtpServer::start(kind, Tls::None, 2);
        let mut files = files(&server, &[]);
        let path = |name: &str| format!("{}/{name}", server.root()).into_bytes();
        for name in ["a", "b", "c"] {
            fs::write(server.files().join(name), name.repeat(2_000_000)).expect("file");
        }
        let ids = ["a", "b", "c"].map(|name| files.open(&path(name)).expect(name));
        for round in 0..3 {
            for (id, byte) in ids.into_iter().zip(b'a'..) {
                let mut into = [0; 1000];
                let read = files.read(id, round * 1000, &mut into).expect("read");
                assert!(read == 1000 && into == [byte; 1000], "{kind:?}");
            }
        }
        let id = files.create(&path("new")).expect("create");
        files.write(id, b"content").expect("write");
        files.finish(id, &NewAttributes::default(), true).expect("finish");
        assert_eq!(fs::read(server.files().join("new")).expect("new"), b"content");
    }
}

/// A certificate must be known, and the error says how to make it known.
#[test]
fn unknown_certificates() {
    for kind in ALL {
        let server = FtpServer::start(kind, Tls::Explicit, 20);
        let address = Address::parse(server.location().as_bytes()).expect("location");
        let options: Options = [("tls", "explicit")].into_iter().collect();
        let mut files = FtpFiles::new(&address, false, &options).expect("options");
        let error = files.description().expect_err("nobody knows the certificate");
        let source = std::error::Error::source(&error).expect("a reason").to_string();
        assert!(source.contains("tls_fingerprint="), "{source}");
    }
}

/// Over IPv6, where only the extended commands name the place of a transfer.
#[test]
fn ipv6() {
    for kind in ALL {
        for more in [&[][..], &[("active", "true")]] {
            let server = FtpServer::start_ipv6(kind);
            assert!(server.location().contains("[::1]:"));
            remote_files_contract(server.root().as_bytes(), || files(&server, more));
        }
    }
}

/// Names of a server that keeps bytes, where they are Latin-1.
#[test]
fn latin1() {
    let latin1 = OsStr::from_bytes(b"caf\xe9 \xfcber");
    for kind in [Kind::Vsftpd, Kind::Proftpd] {
        let server = FtpServer::start(kind, Tls::None, 20);
        fs::write(server.files().join(latin1), b"content").expect("file");
        let mut files = files(&server, &[("encoding", "latin1")]);
        let mut names = Vec::new();
        let mut each = |name: &[u8], _: &_| {
            names.push(name.to_vec());
            Ok(())
        };
        files.list(server.root().as_bytes(), &mut each).expect("listing");
        assert_eq!(names, ["café über".as_bytes()], "{kind:?}");
        let path = |name: &str| format!("{}/{name}", server.root()).into_bytes();
        let id = files.open(&path("café über")).expect("open");
        let mut into = [0; 20];
        assert_eq!(files.read(id, 0, &mut into).expect("read"), 7);
        files.close(id);
        let id = files.create(&path("naïve")).expect("create");
        files.write(id, b"new").expect("write");
        files.finish(id, &NewAttributes::default(), true).expect("finish");
        let there = server.files().join(OsStr::from_bytes(b"na\xefve"));
        assert_eq!(fs::read(there).expect("file"), b"new", "{kind:?}");
        files.rename(&path("naïve"), &path("été")).expect("rename");
        assert!(server.files().join(OsStr::from_bytes(b"\xe9t\xe9")).exists());
        files.remove_file(&path("été")).expect("remove");
        // What Latin-1 has no letter for.
        let error = files.create(&path("日本")).expect_err("no such letters");
        assert!(error.to_string().contains("日本"), "{error}");
    }
}

/// A server that lists times to the minute: a file that changed in the minute in
/// which it was backed up is read again; one that is older is not.
#[test]
fn changes_within_a_minute() {
    let sandbox = Sandbox::new();
    let server = FtpServer::start(Kind::Vsftpd, Tls::None, 20);
    let store = sandbox.path("store");
    sandbox.at(&store).args(["create", "-plaintext"]).run().status(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    let put = |name: &str, content: &str, age_secs: i64| {
        let path = server.files().join(name);
        fs::write(&path, content).expect("file");
        let secs = now.cast_signed() - age_secs;
        touch(&path, secs - secs.rem_euclid(60), 0);
    };
    let backup = |unchanged: u32| {
        let location = format!("ftp://{}", server.location());
        let mut run = sandbox.at(&store);
        let run = run.args(["-json", "backup"]).arg(location).run().status(0);
        assert!(run.said(&format!("\"unchanged\":{unchanged},")), "{}", run.report());
    };
    put("new", "before", 30);
    put("old", "before", 2 * 86_400);
    backup(0);
    put("new", "behind", 30);
    backup(1);
    let listing = sandbox.at(&store).args(["ls", "-uuid"]).run().status(0);
    let ids = identifiers(listing.text());
    let content = |id: &str| {
        let file = format!("{id}:{}/new", server.root());
        sandbox.at(&store).arg("cat").arg(file).run().status(0).stdout
    };
    let mut found = [content(&ids[0]), content(&ids[1])];
    found.sort();
    assert_eq!(found, [b"before", b"behind"]);
}
