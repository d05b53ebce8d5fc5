//! Where the programs under test and the reference programs are.
//!
//! All are looked for from the place of the running test, so that any target
//! folder will do. One that is missing is a failure: a test without its oracle
//! shows nothing.

use std::env;
use std::path::{Path, PathBuf};

/// The program under test: `TIROIR_BIN`, or the one built by the same profile
/// as the tests.
///
/// # Panics
///
/// When there is none.
#[must_use]
pub fn tiroir() -> PathBuf {
    if let Some(path) = env::var_os("TIROIR_BIN") {
        return existing(PathBuf::from(path), "TIROIR_BIN names no file");
    }
    existing(profile_folder().join("tiroir"), "run `cargo build -p tiroir` first")
}

/// Stock plakar 1.1.4.
///
/// # Panics
///
/// When it was not built.
#[must_use]
pub fn plakar() -> PathBuf {
    oracle("plakar-1.1.4")
}

/// The engine of plakar 1.0, in a program of ours (`oracle/kloset10`).
///
/// # Panics
///
/// When it was not built.
#[must_use]
pub fn kloset10() -> PathBuf {
    oracle("kloset-1.0")
}

/// A server for tests: `versitygw` or `rclone-s3`.
///
/// # Panics
///
/// When it was not built.
#[must_use]
pub fn server(name: &str) -> PathBuf {
    oracle(name)
}

/// The example of a device without an operating system, which QEMU runs.
///
/// # Panics
///
/// When it was not built.
#[must_use]
pub fn firmware() -> PathBuf {
    let path = "firmware/thumbv7em-none-eabihf/release/tiroir-firmware-example";
    let target = profile_folder();
    let found = target.ancestors().map(|folder| folder.join(path)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no {path} in the target folder: run scripts/firmware build"))
}

/// The folder of the workspace.
///
/// # Panics
///
/// Never in a checkout: the tests are a package of it.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace")
}

fn oracle(name: &str) -> PathBuf {
    let folder = match env::var_os("TIROIR_ORACLE") {
        Some(folder) => PathBuf::from(folder),
        // `<target>/<profile>`, or `<target>/<triple>/<profile>`.
        None => profile_folder()
            .ancestors()
            .map(|folder| folder.join("oracle"))
            .find(|folder| folder.is_dir())
            .unwrap_or_else(|| {
                panic!("no folder oracle/ in the target folder: run scripts/oracle")
            }),
    };
    existing(folder.join(name), "run scripts/oracle first")
}

/// `<target>/<profile>`, from the running test in `<target>/<profile>/deps`.
fn profile_folder() -> PathBuf {
    let test = env::current_exe().expect("the path of the running test");
    test.ancestors().nth(2).expect("a test runs in <target>/<profile>/deps").to_owned()
}

fn existing(path: PathBuf, hint: &str) -> PathBuf {
    assert!(path.is_file(), "{} is missing: {hint}", path.display());
    path
}
