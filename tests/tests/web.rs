//! Archives on web servers: `ptar+http://` and `ptar+https://`.

use std::fs;
use std::process::Command;

use tiroir_tests::compare::{Rules, assert_same};
use tiroir_tests::http::free_port;
use tiroir_tests::sandbox::{PASSPHRASE, Sandbox};
use tiroir_tests::scene::identifiers;
use tiroir_tests::servers::s3::certificate;
use tiroir_tests::servers::{Server, program};
use tiroir_tests::tree::{Shape, build};

/// rclone is a web server that hands out parts of files.
#[test]
fn an_archive_is_read_from_a_web_server() {
    let sandbox = Sandbox::new();
    let (source, folder) = (sandbox.path("src"), sandbox.path("www"));
    build(&source, Shape { large: true, wide_and_deep: true, ..Shape::PLAIN }, 23);
    fs::create_dir(&folder).expect("a folder");
    let archive = folder.join("an archive.ptar");
    let mut ptar = sandbox.tiroir();
    ptar.passphrase(PASSPHRASE).args(["ptar", "-kdf-memory", "8M", "-o"]).arg(&archive);
    ptar.arg(&source).run().status(0);
    for is_tls in [false, true] {
        let port = free_port();
        let mut command = Command::new(program(&["rclone"]));
        command.args(["serve", "http", "--addr", &format!("127.0.0.1:{port}")]);
        command.args(["--config", "/dev/null", "--log-level", "ERROR", "--read-only"]);
        let mut scheme = "ptar+http";
        let mut option = "timeout=20".to_owned();
        if is_tls {
            scheme = "ptar+https";
            let (certificate, key) = certificate(&sandbox.path(""));
            command.arg("--cert").arg(&certificate).arg("--key").arg(key);
            option = format!("tls_ca={}", certificate.display());
        }
        command.arg(&folder).env_clear().env("HOME", sandbox.path("home"));
        let server = Server::start(&mut command, port);
        let at = |file: &str| {
            let mut run = sandbox.tiroir();
            run.args(["-memory", "24M", "-store-option", &option, "at"]);
            run.arg(format!("{scheme}://127.0.0.1:{port}/{file}")).passphrase(PASSPHRASE);
            run
        };
        let file = "an%20archive.ptar";
        let ids = identifiers(at(file).args(["ls", "-uuid"]).run().status(0).text());
        assert_eq!(ids.len(), 1);
        at(file).arg("check").run().status(0);
        let back = sandbox.path(format!("back-{is_tls}"));
        at(file).args(["restore", "-to"]).arg(&back).arg(format!("{}:/", ids[0])).run().status(0);
        assert_same(&source, &back.join(source.strip_prefix("/").expect("absolute")), Rules::EXACT);
        let peak = at(file).arg("check").measure(&sandbox.path("stderr"));
        assert!(peak.status.success() && peak.resident_bytes <= 24 << 20, "{peak:?}");
        // It is for reading.
        let refused = at(file).arg("backup").arg(&source).run().refused();
        assert!(refused.said("an archive cannot be changed"), "{}", refused.report());
        let absent = at("other.ptar").arg("ls").run().status(66);
        assert!(absent.said("there is no such file"), "{}", absent.report());
        // As stock calls it.
        if !is_tls {
            let mut theirs = sandbox.stock().plakar();
            theirs.args(["-quiet", "at", &format!("ptar+http://127.0.0.1:{port}/{file}")]);
            theirs.passphrase(PASSPHRASE).args(["ls", "-uuid"]);
            assert_eq!(identifiers(theirs.run().status(0).text()), ids);
        }
        drop(server);
    }
}
