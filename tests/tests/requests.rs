//! How many requests a backup into S3 takes, which is what such stores are paid by.
//! The figures for a gibibyte are in `docs/connectors.md`, by
//! `benches/connectors --count-requests`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use tiroir_tests::sandbox::Sandbox;
use tiroir_tests::servers::s3::{Maker, S3Server};

/// What is backed up, in MiB of the tree `nas` of the benchmarks.
const MIB: u64 = 64;

/// Reads of a backup that finds everything as it was: of the snapshot before, whose
/// size goes by the number of files, some 700 here.
const READS_MAX: u64 = 100;

#[test]
fn of_a_backup_into_s3() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("src");
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/corpus");
    let made = Command::new(corpus).arg("nas").arg(&source).arg(MIB.to_string()).status();
    assert!(made.expect("benches/corpus").success());
    let server = S3Server::start(Maker::Versity);
    let location = format!("s3://{}", server.address("bucket/store"));
    let at = || {
        let mut run = sandbox.tiroir();
        for (name, value) in server.options() {
            run.arg("-store-option").arg(format!("{name}={value}"));
        }
        run.arg("at").arg(&location);
        run
    };
    at().args(["create", "-plaintext"]).run().status(0);
    let count = |before: &BTreeMap<String, u64>| -> BTreeMap<String, u64> {
        let after = server.requests().into_iter();
        let since = after.map(|(kind, all)| {
            let earlier = before.get(&kind).copied().unwrap_or(0);
            (kind, all - earlier)
        });
        since.filter(|(_, count)| *count > 0).collect()
    };

    let before = server.requests();
    at().arg("backup").arg(&source).run().status(0);
    let first = count(&before);
    println!("{MIB} MiB: {first:?}");
    let before = server.requests();
    at().arg("backup").arg(&source).run().status(0);
    let second = count(&before);
    println!("again: {second:?}");

    let of = |counts: &BTreeMap<String, u64>, kinds: &[&str]| -> u64 {
        kinds.iter().map(|kind| counts.get(*kind).copied().unwrap_or(0)).sum()
    };
    // Two packfiles at most, of which one may go in five parts; state and lock.
    let writes = ["PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"];
    assert!(of(&first, &writes) <= 11, "{first:?}");
    assert!(first.values().sum::<u64>() <= 20, "{first:?}");
    // A packfile for the snapshot, state and lock; the snapshot before is read.
    assert!(of(&second, &writes) <= 4, "{second:?}");
    assert!(of(&second, &["GetObject", "HeadObject"]) <= READS_MAX, "{second:?}");
    assert!(second.values().sum::<u64>() <= READS_MAX + 10, "{second:?}");
}
