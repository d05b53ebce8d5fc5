//! FTP, with the servers that Debian has: what every server with files does,
//! with and without TLS, and what is special about each.

use tiroir_hosts::address::Address;
use tiroir_hosts::contract::remote_files_contract;
use tiroir_hosts::ftp::FtpFiles;
use tiroir_hosts::options::Options;
use tiroir_tests::servers::ftp::{FtpServer, Kind, Tls};

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
    eprintln!("{:#?}", files(&server, more).describe().expect("description"));
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

#[test]
fn active_mode() {
    for kind in [Kind::Vsftpd, Kind::Proftpd, Kind::Pureftpd] {
        contract(kind, Tls::None, &[("active", "true")]);
    }
}
