//! What the reference implementation wrote, years of versions of it: tiroir
//! lists, checks, prints and restores it to the byte.
//!
//! The files are in `vectors/`, with what they hold. Where `TIROIR_FIXTURES`
//! names the folder of the larger fixtures, or that folder lies beside the
//! repository, they are read too.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tiroir_tests::oracle;
use tiroir_tests::sandbox::{Invocation, Sandbox};
use tiroir_tests::scene::identifiers;

const SAMPLES_PASSPHRASE: &str = "foobarbaz";
const FIXTURES_PASSPHRASE: &str = "Fixture-Passphrase-2468-Plakar!";

#[test]
fn vectors() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let mut texts: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("vectors")
        .map(|entry| entry.expect("vectors").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    texts.sort();
    assert!(texts.len() >= 13, "only {} vectors in {}", texts.len(), folder.display());
    for text in texts {
        println!("{}", text.display());
        vector(&text.with_extension(""), &fs::read_to_string(&text).expect("what it holds"));
    }
}

/// One vector, against the text beside it.
fn vector(file: &Path, text: &str) {
    let sandbox = Sandbox::new();
    let store = unpacked(&sandbox, file);
    let name = file.file_name().expect("a file").to_string_lossy();
    let passphrase =
        if name.starts_with("plakar-") { FIXTURES_PASSPHRASE } else { SAMPLES_PASSPHRASE };
    let at = || opened(&sandbox, &store, passphrase);

    at().arg("check").run().status(0);
    let mut listings = 0;
    // A part begins with a line of its own.
    let text = format!("\n{text}");
    for part in text.split("\n$ ").skip(1) {
        let (command, meant) = part.split_once('\n').expect("a command and its output");
        let meant = format!("{}\n", meant.trim_end_matches('\n'));
        if let Some(id) = command.strip_prefix("sha256 ") {
            contents(&sandbox, &at, id, &meant);
            continue;
        }
        let said = at().args(command.split(' ')).run().status(0);
        assert!(said.text() == meant, "{name}: {command}\n{}", said.report());
        listings += 1;
    }
    assert!(listings >= 2, "{name}: only {listings} listings");
}

/// Every file of a snapshot, by restoring it and by asking for it.
fn contents(sandbox: &Sandbox, at: &dyn Fn() -> Invocation, id: &str, meant: &str) {
    let out = sandbox.path(format!("out {id}"));
    at().args(["restore", "-to"]).arg(&out).arg(id).run().status(0);
    let meant: BTreeMap<&str, &str> = meant
        .lines()
        .map(|line| line.split_once("  ").expect("a sum and a path"))
        .map(|(sum, path)| (path, sum))
        .collect();
    let mut restored = Vec::new();
    files(&out, Path::new(""), &mut restored);
    assert_eq!(restored, meant.keys().map(PathBuf::from).collect::<Vec<_>>(), "{id}");
    for (path, sum) in &meant {
        assert_eq!(sha256(&fs::read(out.join(path)).expect("restored")), *sum, "{id}: {path}");
    }
    for (path, sum) in meant.iter().step_by(17) {
        let said = at().arg("cat").arg(format!("{id}:{path}")).run().status(0);
        assert_eq!(sha256(&said.stdout), *sum, "{}", said.report());
    }
}

/// A ptar as it is, a store from its archive.
fn unpacked(sandbox: &Sandbox, file: &Path) -> PathBuf {
    if file.extension().is_some_and(|extension| extension == "ptar") {
        return file.to_owned();
    }
    let folder = sandbox.path("unpacked");
    fs::create_dir(&folder).expect("folder");
    sandbox.program("tar").arg("-xf").arg(file).arg("-C").arg(&folder).run().status(0);
    let mut stores = fs::read_dir(&folder).expect("unpacked");
    let store = stores.next().expect("a folder in the archive").expect("unpacked").path();
    assert!(stores.next().is_none(), "{} holds more than one folder", file.display());
    store
}

/// Opens a store. Where `TIROIR_NATIVE` names another program, that one derives the
/// key, once: an emulated one would take minutes for each.
fn opened(sandbox: &Sandbox, store: &Path, passphrase: &str) -> Invocation {
    let key = sandbox.path("key");
    if let Some(native) = std::env::var_os("TIROIR_NATIVE")
        && !key.exists()
    {
        let mut derive = sandbox.program(native);
        derive.arg("at").arg(store).args(["key", "-o"]).arg(&key).passphrase(passphrase);
        // A store without a key has none to write.
        if derive.run().code() != Some(0) {
            let _ = fs::remove_file(&key);
        }
    }
    if key.exists() {
        let mut invocation = sandbox.tiroir();
        invocation.arg("-key-file").arg(&key).arg("at").arg(store);
        return invocation;
    }
    let mut invocation = sandbox.at(store);
    // One for all: a store that is not encrypted asks for none.
    invocation.passphrase(passphrase);
    invocation
}

/// The regular files below a folder, sorted by their paths as bytes.
fn files(root: &Path, below: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root.join(below)).expect("restored directory") {
        let entry = entry.expect("restored directory");
        let path = below.join(entry.file_name());
        let kind = entry.file_type().expect("restored directory");
        if kind.is_dir() {
            files(root, &path, found);
        } else if kind.is_file() {
            found.push(path);
        }
    }
    found.sort_by(|one, two| one.as_os_str().cmp(two.as_os_str()));
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The larger fixtures, which are not part of the repository.
#[test]
fn fixtures() {
    let folder = match std::env::var_os("TIROIR_FIXTURES") {
        // Named, and so it must be there.
        Some(folder) => PathBuf::from(folder),
        None => {
            let beside = oracle::workspace().join("../shared/fixtures/plakar");
            if !beside.is_dir() {
                println!("no larger fixtures here: the vectors are what is tested");
                return;
            }
            beside
        }
    };
    let both = ["stage2", "stage1"];
    for (file, stages) in [
        ("plain.ptar", &both[1..]),
        ("encrypted.ptar", &both[1..]),
        ("plain-from-store.ptar", &both),
        ("store-plain.tar", &both),
        ("store-encrypted.tar", &both),
    ] {
        let expected = |kind: &str, stage: &str, extension: &str| {
            folder.join(format!("expected/{kind}-{stage}.{extension}"))
        };
        let stages = stages.iter().map(|stage| Stage {
            listing: expected("ls-recursive", stage, "txt"),
            manifest: expected("manifest", stage, "jsonl"),
            // Stock lost this one when it took the second snapshot of that
            // store: its entry lists it, and it is nowhere.
            lost: if *stage == "stage2" && file.contains("plain") { "user.bin" } else { "" },
        });
        fixture(&folder.join(file), &stages.collect::<Vec<_>>());
    }
    for file in ["plain.ptar", "encrypted.ptar", "store-plain.tar", "store-encrypted.tar"] {
        let old = folder.join("v1.0.6");
        let stage = Stage {
            listing: old.join("ls-recursive-small.txt"),
            manifest: old.join("manifest-small.jsonl"),
            lost: "",
        };
        fixture(&old.join(file), &[stage]);
    }
}

/// What a snapshot of the fixtures holds.
struct Stage {
    listing: PathBuf,
    manifest: PathBuf,
    /// An extended attribute that the snapshot lacks.
    lost: &'static str,
}

/// One fixture; `stages` has its snapshots, newest first.
fn fixture(file: &Path, stages: &[Stage]) {
    println!("{}", file.display());
    let sandbox = Sandbox::new();
    let store = unpacked(&sandbox, file);
    let at = || opened(&sandbox, &store, FIXTURES_PASSPHRASE);
    at().arg("check").run().status(0);
    let ids = identifiers(at().args(["ls", "-uuid"]).run().status(0).text());
    assert_eq!(ids.len(), stages.len(), "{}", file.display());
    for (id, stage) in ids.iter().zip(stages) {
        let meant = fs::read_to_string(&stage.listing).expect("listing");
        let said = at().args(["ls", "-recursive", id]).run().status(0);
        assert!(said.text() == meant, "{}\n{}", stage.listing.display(), said.report());
        let out = sandbox.path(format!("out {id}"));
        let said = at().args(["restore", "-to"]).arg(&out).arg(id).run().status(0);
        let warned = String::from_utf8_lossy(&said.stderr).contains("lists its attribute user.bin");
        assert_eq!(warned, !stage.lost.is_empty(), "{}", said.report());
        for line in fs::read_to_string(&stage.manifest).expect("manifest").lines() {
            entry(&out, &serde_json::from_str(line).expect("a line of JSON"), stage.lost);
        }
    }
}

/// One entry of a manifest, against what was restored of it.
fn entry(out: &Path, meant: &Value, lost: &str) {
    let text = |key: &str| meant[key].as_str().unwrap_or_default();
    let path = out.join(text("path"));
    let metadata = fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{meant}: {error}"));
    let mtime_ns = metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec();
    assert_eq!(meant["mtime_ns"], mtime_ns, "{meant}");
    if text("type") == "symlink" {
        assert_eq!(fs::read_link(&path).expect("a link"), Path::new(text("target")), "{meant}");
        return;
    }
    let mode = metadata.permissions().mode() & 0o7777;
    assert_eq!(format!("{mode:04o}"), text("mode"), "{meant}");
    if text("type") == "dir" {
        assert!(metadata.is_dir(), "{meant}");
        return;
    }
    assert_eq!(meant["size"], metadata.len(), "{meant}");
    assert_eq!(sha256(&fs::read(&path).expect("a file")), text("sha256"), "{meant}");
    if let Some(first) = meant["hardlink_of"].as_str() {
        let first = fs::metadata(out.join(first)).expect("the first name");
        assert_eq!(first.ino(), metadata.ino(), "{meant}: not linked");
    }
    for (name, value) in meant["xattr_hex"].as_object().into_iter().flatten() {
        if name == lost {
            continue;
        }
        let mut bytes = vec![0; 64 << 10];
        let length = rustix::fs::lgetxattr(&path, name.as_str(), &mut bytes[..])
            .unwrap_or_else(|error| panic!("{meant}: {name}: {error}"));
        let hex: String = bytes[..length].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, value.as_str().expect("hexadecimal"), "{meant}: {name}");
    }
}
