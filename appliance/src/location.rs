//! [`Location`]: where a store is, from what was typed.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Failure, Result};
use crate::exit::Status;

/// Where a store is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Location {
    /// A directory of a local file system.
    Directory(PathBuf),
    /// A ptar archive in a local file system.
    Archive(PathBuf),
}

/// Magic number of an archive.
const ARCHIVE_MAGIC: &[u8; 8] = b"_PLATAR_";

/// Schemes of stock for which there is no connector here.
const SCHEMES_ABSENT: [&str; 7] = ["http", "https", "s3", "sftp", "ftp", "sqlite", "rclone"];

impl Location {
    /// Understands a path, `fs:PATH`, `file://PATH` or `ptar:PATH`. A path of
    /// a file that is an archive, or is named like one, is one.
    ///
    /// # Errors
    ///
    /// For a connector that is not here, and names of a configuration.
    pub(crate) fn parse(text: &OsStr) -> Result<Self> {
        refuse_empty(text, "store")?;
        if text.as_bytes().starts_with(b"@") {
            let name = text.display();
            return Err(Failure::new(
                Status::Failed,
                format!("could not resolve repository: {name}"),
            )
            .with_advice("There is no configuration of stores here yet: give a path."));
        }
        let (scheme, rest) = split_scheme(text);
        let path = || absolute(rest);
        match scheme {
            None => {
                let path = path()?;
                Ok(if is_archive(&path) { Self::Archive(path) } else { Self::Directory(path) })
            }
            Some("fs" | "file") => Ok(Self::Directory(path()?)),
            Some("ptar") => Ok(Self::Archive(path()?)),
            Some(scheme) => {
                let what = format!("there is no store connector for {scheme}:");
                let advice = if SCHEMES_ABSENT.contains(&scheme) {
                    "This tiroir reaches directories and ptar archives only."
                } else {
                    "A path with a colon in it is given as ./PATH."
                };
                Err(Failure::new(Status::NoStore, what).with_advice(advice))
            }
        }
    }

    /// The path in the file system.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Directory(path) | Self::Archive(path) => path,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "fs://{}", path.display()),
            Self::Archive(path) => write!(f, "ptar://{}", path.display()),
        }
    }
}

/// Refuses a location without text: in a script, a variable that was not set.
/// It would else be the current directory.
///
/// # Errors
///
/// A usage error that calls it `what`.
pub(crate) fn refuse_empty(text: &OsStr, what: &str) -> Result<()> {
    if !text.is_empty() {
        return Ok(());
    }
    Err(Failure::usage(format!("the path of the {what} is empty")).with_advice(
        "If it is a variable of a script, it was not set. `.` is the current directory.",
    ))
}

/// The scheme of a location, and what follows it and its slashes.
pub(crate) fn split_scheme(text: &OsStr) -> (Option<&str>, &OsStr) {
    let bytes = text.as_bytes();
    let Some(colon) = bytes.iter().position(|byte| *byte == b':') else { return (None, text) };
    let is_scheme = bytes[..colon].iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'+');
    match std::str::from_utf8(&bytes[..colon]) {
        Ok(scheme) if is_scheme && colon > 0 => {
            let rest = &bytes[colon + 1..];
            let rest = rest.strip_prefix(b"//").unwrap_or(rest);
            (Some(scheme), OsStr::from_bytes(rest))
        }
        _ => (None, text),
    }
}

/// The absolute path of one that may be relative, cleaned of `.` and `..`
/// without looking at the disk.
pub(crate) fn absolute(path: impl AsRef<Path>) -> Result<PathBuf> {
    let path = path.as_ref();
    let mut whole = PathBuf::from("/");
    let base;
    let start = if path.is_absolute() {
        Path::new("/")
    } else {
        base = std::env::current_dir().map_err(|error| Failure::io("find where we are", error))?;
        &base
    };
    for component in start.components().chain(path.components()) {
        match component {
            std::path::Component::Normal(name) => whole.push(name),
            std::path::Component::ParentDir => {
                whole.pop();
            }
            _ => {}
        }
    }
    Ok(whole)
}

/// Whether the file at `path` is an archive, or is called one.
fn is_archive(path: &Path) -> bool {
    if path.extension() == Some(OsStr::new("ptar")) {
        return !path.is_dir();
    }
    let mut start = [0; ARCHIVE_MAGIC.len()];
    // Not a fifo, which would make us wait.
    path.is_file()
        && File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok()
        && start == *ARCHIVE_MAGIC
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Location> {
        Location::parse(OsStr::new(text))
    }

    #[test]
    fn paths_and_schemes() {
        let directory = |path: &str| Location::Directory(PathBuf::from(path));
        for (text, wanted) in [
            ("/srv/store", directory("/srv/store")),
            ("/srv//./x/../store/", directory("/srv/store")),
            ("fs:/srv/store", directory("/srv/store")),
            ("fs:///srv/store", directory("/srv/store")),
            ("file:///srv/store", directory("/srv/store")),
            ("/a:b/c", directory("/a:b/c")),
            ("/x/a.ptar", Location::Archive(PathBuf::from("/x/a.ptar"))),
            ("ptar:/x/a", Location::Archive(PathBuf::from("/x/a"))),
        ] {
            assert_eq!(parsed(text).unwrap(), wanted, "{text}");
        }
        assert_eq!(parsed("fs:///srv").unwrap().to_string(), "fs:///srv");
        let here = std::env::current_dir().unwrap();
        assert_eq!(parsed("./a:b").unwrap(), Location::Directory(here.join("a:b")));
    }

    #[test]
    fn what_is_not_here() {
        assert_eq!(parsed("").unwrap_err().status(), Status::Usage);
        assert_eq!(parsed("s3://bucket/x").unwrap_err().status(), Status::NoStore);
        assert_eq!(parsed("foo:/bar").unwrap_err().status(), Status::NoStore);
        assert_eq!(parsed("@nas").unwrap_err().status(), Status::Failed);
    }
}
