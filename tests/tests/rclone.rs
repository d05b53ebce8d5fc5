//! What an installed rclone reaches, as a source, a destination and a store.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use tiroir_hosts::contract::store_contract;
use tiroir_hosts::remote::patience::Patience;
use tiroir_hosts::remote::store::FilesStore;
use tiroir_hosts::sftp::SftpFiles;
use tiroir_hosts::sftp::command::CommandDial;
use tiroir_tests::compare::{Rules, assert_same};
use tiroir_tests::sandbox::{Invocation, PASSPHRASE, Sandbox};
use tiroir_tests::scene::identifiers;
use tiroir_tests::servers::program;
use tiroir_tests::tree::{Shape, build, touch};

/// What rclone serves over SFTP: neither rights nor owners, nor links, nor times
/// of directories.
const RULES: Rules = Rules {
    mtime_ns_max: u64::MAX,
    xattrs: false,
    hard_links: false,
    special_files: false,
    owners: false,
};

fn at(sandbox: &Sandbox, remote: &str, store: &Path) -> Invocation {
    let mut run = sandbox.tiroir();
    run.args(["-memory", "24M", "at"]).arg(format!("rclone://{remote}:{}", store.display()));
    run.passphrase(PASSPHRASE);
    run
}

/// The suite of every store connector; each is a process of rclone's. What holds
/// between two users of one store is left out: rclone keeps listings for ten seconds,
/// and what another one has written is as it was until then.
#[test]
fn contract() {
    let (sandbox, rclone) = (Sandbox::new(), program(&["rclone"]));
    let store = |name: String| {
        // As the program starts it.
        let line = "serve sftp --stdio --vfs-cache-mode off --dir-cache-time 10s disk:/";
        let arguments = line.split(' ');
        let dial = CommandDial::new("rclone://disk:", rclone.to_str().expect("a path"), arguments)
            .with_variable("RCLONE_CONFIG_DISK_TYPE".into(), "local");
        let files = SftpFiles::new(Box::new(dial), Patience::default());
        let root = sandbox.path(format!("stores/{name}"));
        FilesStore::new(Box::new(files), root.as_os_str().as_encoded_bytes()).with_flat_layout()
    };
    let mut number = 0;
    store_contract(|| {
        number += 1;
        store(number.to_string())
    });
    let _ = writeln!(
        std::io::stderr(),
        "contract: skipped: two users of one store, which rclone's cache keeps apart"
    );
}

#[test]
fn main_job() {
    let _ = program(&["rclone"]);
    let sandbox = Sandbox::new();
    let folder = sandbox.path("home/.config/rclone");
    fs::create_dir_all(&folder).expect("folder of rclone");
    fs::write(folder.join("rclone.conf"), "[disk]\ntype = local\n").expect("its configuration");
    let (source, place) = (sandbox.path("src"), sandbox.path("a/store"));
    let shape = Shape { modes: false, links: false, odd_names: false, fifo: false, ..Shape::FULL };
    build(&source, Shape { xattrs: false, ..shape }, 21);
    touch(&source.join("wide/file 95"), 1_600_000_000, 0);
    at(&sandbox, "disk", &place).args(["create", "-kdf-memory", "8M"]).run().status(0);
    assert!(at(&sandbox, "disk", &place).arg("create").run().refused().said("there is a store"));
    // Flat, as stock has it.
    let mut names: Vec<_> = fs::read_dir(place.join("packfiles")).expect("a store").collect();
    assert!(names.is_empty(), "{names:?}");

    // Configured by options in place of rclone's own configuration.
    let mut backup = at(&sandbox, "disk", &place);
    backup.args(["backup", "-o", "type=local"]).arg(format!("rclone://other:{}", source.display()));
    backup.run().status(0);
    names.extend(fs::read_dir(place.join("packfiles")).expect("a store"));
    assert!(!names.is_empty() && names.into_iter().flatten().all(|name| name.path().is_file()));
    at(&sandbox, "disk", &place).arg("check").run().status(0);
    let listing = at(&sandbox, "disk", &place).args(["ls", "-uuid"]).run().status(0);
    let snapshot = format!("{}:{}", identifiers(listing.text())[0], source.display());
    let target = sandbox.path("target");
    let mut restore = at(&sandbox, "disk", &place);
    restore.args(["restore", "-to"]).arg(format!("rclone://disk:{}", target.display()));
    restore.arg(&snapshot).run().status(0);
    assert_same(&source, &target, RULES);
    let time = |path: &Path| {
        let data = fs::metadata(path.join("wide/file 95")).expect("a file");
        data.modified().expect("a time")
    };
    assert_eq!(time(&source), time(&target));
}

#[test]
fn what_is_not_there() {
    let sandbox = Sandbox::new();
    let place = sandbox.path("store");
    at(&sandbox, "nosuch", &place).arg("ls").run().refused();
    let absent = sandbox
        .tiroir()
        .args(["-store-option", "rclone=/nonexistent/rclone", "at", "rclone://disk:/x", "ls"])
        .run()
        .refused();
    assert!(absent.said("cannot run /nonexistent/rclone"), "{}", absent.report());
    let unnamed = sandbox.tiroir().args(["at", "rclone:///x", "ls"]).run();
    assert!(unnamed.status(64).said("rclone://REMOTE:PATH"));
}
