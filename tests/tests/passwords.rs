//! Logging in to SSH servers by a password: OpenSSH and dropbear, which find the
//! passwords of a file of ours. Mounts, in a namespace of its own, as root.

use std::fs;

use tiroir_tests::compare::{Rules, assert_same};
use tiroir_tests::sandbox::{Invocation, Sandbox};
use tiroir_tests::servers::ssh::{Kind, PASSWORD, Ssh};
use tiroir_tests::tree::{Shape, build};

fn run(sandbox: &Sandbox, ssh: &Ssh, location: &str, options: &[String]) -> Invocation {
    let known = ssh.known_hosts(ssh.server.port);
    let mut run = sandbox.tiroir();
    let fixed = ["ssh_config=none".into(), "ssh_auth_sock=none".into()];
    let known = [format!("known_hosts={}", known.display())];
    for option in fixed.iter().chain(&known).chain(options) {
        run.arg("-store-option").arg(option);
    }
    run.arg("at").arg(location);
    run
}

#[test]
fn by_password() {
    for kind in [Kind::OpenSsh, Kind::Dropbear] {
        let sandbox = Sandbox::new();
        let ssh = Ssh::start_with_password(kind, &sandbox.path("sshd"));
        let source = sandbox.path("src");
        build(&source, Shape::PLAIN, 61);
        let plain = ssh.location(ssh.server.port, &sandbox.path("store"));
        let in_location = plain.replace("root@", &format!("root:{PASSWORD}@"));
        let option = [format!("password={PASSWORD}")];

        run(&sandbox, &ssh, &plain, &option).args(["create", "-plaintext"]).run().status(0);
        run(&sandbox, &ssh, &in_location, &[]).arg("backup").arg(&source).run().status(0);
        let target = sandbox.path("target");
        let mut restore = run(&sandbox, &ssh, &plain, &option);
        restore.args(["restore", "-to"]).arg(&target).run().status(0);
        assert_same(&source, &target, Rules::EXACT);

        // From the configuration, which keeps it in a file for the owner alone.
        let mut add = sandbox.tiroir();
        add.args(["store", "add", "nas"]).arg(&plain).arg(&option[0]);
        let known = format!("known_hosts={}", ssh.known_hosts(ssh.server.port).display());
        add.args(["ssh_config=none", "ssh_auth_sock=none"]).arg(known).run().status(0);
        sandbox.tiroir().args(["at", "@nas", "check"]).run().status(0);

        // A wrong one, and none.
        let wrong = run(&sandbox, &ssh, &plain, &["password=hunter2".into()]).arg("ls").run();
        let wrong = wrong.refused();
        assert!(wrong.said("log in"), "{kind:?}: {}", wrong.report());
        let none = run(&sandbox, &ssh, &plain, &[]).arg("ls").run().refused();
        assert!(none.said("log in"), "{kind:?}: {}", none.report());
        for outcome in [&wrong, &none] {
            assert!(!outcome.said("hunter2") && !outcome.said(PASSWORD), "{}", outcome.report());
        }
        // It is in no snapshot, and in no file of ours but that of the secrets.
        let info = sandbox.tiroir().args(["at", "@nas", "info"]).run().status(0);
        assert!(!info.said(PASSWORD), "{}", info.report());
        let cache = walk(&sandbox.path("cache"));
        let needle = PASSWORD.as_bytes();
        for path in cache {
            let bytes = fs::read(&path).expect("a file of the cache");
            assert!(!bytes.windows(needle.len()).any(|part| part == needle), "{}", path.display());
        }
    }
}

/// All files below a folder.
fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            files.extend(walk(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}
