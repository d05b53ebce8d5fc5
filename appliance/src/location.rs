//! [`Location`]: where a store is, from what was typed.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use tiroir_hosts::address::Address;
use tiroir_hosts::fs::mounted::{self, MountRule};
use tiroir_hosts::options::Options;

use crate::cli::Globals;
use crate::config::{self, Kind};
use crate::error::{Failure, Result};
use crate::exit::Status;

/// Where a store is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Location {
    /// A directory of a local file system.
    Directory(PathBuf),
    /// The same, where something has to be mounted.
    Mounted(PathBuf, MountRule),
    /// A ptar archive in a local file system.
    Archive(PathBuf),
    /// On a server.
    Remote(Remote),
}

/// Connectors to servers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Scheme {
    /// Files over SSH.
    Sftp,
    /// Files by FTP, with or without explicit TLS.
    Ftp,
    /// Files by FTP inside of TLS.
    Ftps,
    /// Whatever an installed rclone reaches.
    Rclone,
    /// Objects in a bucket.
    S3,
    /// A server of stores.
    Http,
    /// The same inside of TLS.
    Https,
    /// An archive on a web server.
    PtarHttp,
    /// The same inside of TLS.
    PtarHttps,
    /// A database file: no server, but nothing else either.
    Sqlite,
}

impl Scheme {
    fn parse(scheme: &str) -> Option<Self> {
        match scheme {
            "sftp" => Some(Self::Sftp),
            "ftp" => Some(Self::Ftp),
            "ftps" => Some(Self::Ftps),
            "rclone" => Some(Self::Rclone),
            "s3" => Some(Self::S3),
            "http" => Some(Self::Http),
            "https" => Some(Self::Https),
            "ptar+http" => Some(Self::PtarHttp),
            "ptar+https" => Some(Self::PtarHttps),
            "sqlite" => Some(Self::Sqlite),
            _ => None,
        }
    }

    /// Whether this program was built with the connector.
    const fn is_built(self) -> bool {
        match self {
            Self::Sftp => cfg!(feature = "sftp"),
            Self::Ftp | Self::Ftps => cfg!(feature = "ftp"),
            Self::Rclone => cfg!(feature = "rclone"),
            Self::S3 => cfg!(feature = "s3"),
            Self::Http | Self::Https | Self::PtarHttp | Self::PtarHttps => cfg!(feature = "http"),
            Self::Sqlite => cfg!(feature = "sqlite-store"),
        }
    }

    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sftp => "sftp",
            Self::Ftp => "ftp",
            Self::Ftps => "ftps",
            Self::Rclone => "rclone",
            Self::S3 => "s3",
            Self::Http => "http",
            Self::Https => "https",
            Self::PtarHttp => "ptar+http",
            Self::PtarHttps => "ptar+https",
            Self::Sqlite => "sqlite",
        }
    }
}

/// A place on a server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Remote {
    /// Which connector reaches it.
    pub(crate) scheme: Scheme,
    /// What follows the scheme. May hold a password: it is not shown.
    pub(crate) rest: Vec<u8>,
    /// What the connector is told beside that.
    pub(crate) options: Options,
}

impl Remote {
    /// Sees that there is such a connector here, and that what follows the scheme
    /// is of its form.
    ///
    /// # Errors
    ///
    /// A usage error.
    pub(crate) fn check(&self) -> Result<()> {
        if !self.scheme.is_built() {
            let what = format!("this program was built without {}:", self.scheme.name());
            return Err(Failure::usage(what)
                .with_advice("The full program has all connectors; this one is a small one."));
        }
        match self.scheme {
            Scheme::Sqlite if self.rest.is_empty() => {
                Err(Failure::usage("the location names no database"))
            }
            Scheme::Sqlite => Ok(()),
            Scheme::Rclone => match self.remote_and_path() {
                Some(_) => Ok(()),
                None => Err(Failure::usage("the location names no remote of rclone")
                    .with_advice("It is written as rclone://REMOTE:PATH")),
            },
            _ => self.address().map(|_| ()),
        }
    }

    /// Name of a remote of rclone, and a path on it.
    pub(crate) fn remote_and_path(&self) -> Option<(&str, &[u8])> {
        let colon = self.rest.iter().position(|byte| *byte == b':')?;
        let name = std::str::from_utf8(&self.rest[..colon]).ok()?;
        let is_letter = |c: char| c.is_ascii_alphanumeric() || "_-. ".contains(c);
        let is_name = !name.is_empty() && !name.starts_with('-') && name.chars().all(is_letter);
        is_name.then(|| (name, &self.rest[colon + 1..]))
    }

    /// Host, port, user and path.
    ///
    /// # Errors
    ///
    /// For what is no address.
    pub(crate) fn address(&self) -> Result<Address> {
        let address = Address::parse(&self.rest);
        address.map_err(|error| {
            Failure::usage(error.to_string()).with_advice(format!(
                "A location is written as {}://[USER@]HOST[:PORT]/PATH",
                self.scheme.name()
            ))
        })
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme.name();
        if let (Scheme::Rclone, Some((name, path))) = (self.scheme, self.remote_and_path()) {
            return write!(f, "{scheme}://{name}:{}", path.escape_ascii());
        }
        if self.scheme == Scheme::Sqlite {
            return write!(f, "{scheme}://{}", OsStr::from_bytes(&self.rest).display());
        }
        match Address::parse(&self.rest) {
            Ok(address) => write!(f, "{scheme}://{address}"),
            // It might have a password in it.
            Err(_) => write!(f, "{scheme}://…"),
        }
    }
}

/// What was typed in place of a path, as far as all kinds of places share it.
#[derive(Debug)]
pub(crate) enum Place<'t> {
    /// A path of the local file system.
    Path(&'t OsStr),
    /// A place on a server.
    Remote(Remote),
    /// Something else: a scheme, and what follows it.
    Other(&'t str, &'t OsStr),
}

impl<'t> Place<'t> {
    /// Understands a location; `options` go to whatever reaches it.
    pub(crate) fn parse(text: &'t OsStr, options: &Options) -> Self {
        match split_scheme(text) {
            (None, path) | (Some("fs" | "file"), path) => Self::Path(path),
            (Some(scheme), rest) => match Scheme::parse(scheme) {
                Some(scheme) => {
                    let (rest, options) = (rest.as_bytes().to_vec(), options.clone());
                    Self::Remote(Remote { scheme, rest, options })
                }
                None => Self::Other(scheme, rest),
            },
        }
    }
}

/// Magic number of an archive.
const ARCHIVE_MAGIC: &[u8; 8] = b"_PLATAR_";

impl Location {
    /// Understands a path, `fs:PATH`, `file://PATH` or `ptar:PATH`. A path of
    /// a file that is an archive, or is named like one, is one.
    ///
    /// # Errors
    ///
    /// For a connector that is not here, and names of a configuration.
    pub(crate) fn parse(text: &OsStr, options: &Options) -> Result<Self> {
        refuse_empty(text, "store")?;
        match Place::parse(text, options) {
            Place::Path(path) => {
                refuse_options(options, &[mounted::OPTION], "a store on a disk")?;
                let rule = MountRule::from_options(options)?;
                let has_scheme = split_scheme(text).0.is_some();
                let path = absolute(path)?;
                let is_archive = !has_scheme && is_archive(&path);
                Ok(match rule {
                    None if is_archive => Self::Archive(path),
                    None => Self::Directory(path),
                    Some(rule) => Self::Mounted(path, rule),
                })
            }
            Place::Remote(remote) => {
                remote.check()?;
                Ok(Self::Remote(remote))
            }
            Place::Other("ptar", path) => {
                refuse_options(options, &[], "an archive on a disk")?;
                Ok(Self::Archive(absolute(path)?))
            }
            Place::Other(scheme, _) => {
                let what = format!("there is no store connector for {scheme}:");
                Err(Failure::new(Status::NoStore, what)
                    .with_advice("A path with a colon in it is given as ./PATH."))
            }
        }
    }

    /// The path in the file system, if it is there.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) | Self::Mounted(path, _) | Self::Archive(path) => Some(path),
            Self::Remote(_) => None,
        }
    }
}

/// What `@NAME` stands for, if the text is one: its location and options, with
/// those that were given in their place or beside them.
///
/// # Errors
///
/// For a name that there is not.
pub(crate) fn resolve(
    globals: &Globals,
    kind: Kind,
    text: &OsStr,
    options: &Options,
) -> Result<(OsString, Options)> {
    if !config::is_name(text) {
        return Ok((text.to_owned(), options.clone()));
    }
    let entry = config::find(globals, kind, text)?;
    Ok((entry.location, entry.options.with(options)))
}

/// Refuses options that nothing would look at.
///
/// # Errors
///
/// For the first that is none of `known`.
pub(crate) fn refuse_options(options: &Options, known: &[&str], what: &str) -> Result<()> {
    match options.unknown(known) {
        None => Ok(()),
        Some(name) => Err(Failure::usage(format!("{what} has no option {name}"))),
    }
}

/// Understands `NAME=VALUE` in a list of options. A name alone is a flag that is
/// set.
///
/// # Errors
///
/// For an empty name.
pub(crate) fn parse_options(texts: &[String]) -> Result<Options> {
    let mut options = Options::default();
    for text in texts {
        let (name, value) = text.split_once('=').unwrap_or((text, "true"));
        if name.is_empty() {
            // The value may be a secret.
            return Err(Failure::usage("an option has no name")
                .with_advice("Options are given as -o NAME=VALUE."));
        }
        options.set(name, value);
    }
    Ok(options)
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) | Self::Mounted(path, _) => write!(f, "fs://{}", path.display()),
            Self::Archive(path) => write!(f, "ptar://{}", path.display()),
            Self::Remote(remote) => remote.fmt(f),
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
        Location::parse(OsStr::new(text), &Options::default())
    }

    #[test]
    fn servers() {
        let location = parsed("sftp://me:secret@nas:2222/srv/store").unwrap();
        assert_eq!(location.to_string(), "sftp://me@nas:2222/srv/store");
        assert_eq!(location.path(), None);
        let failure = parsed("sftp://me:secret@nas:x/srv").unwrap_err();
        assert_eq!(failure.status(), Status::Usage);
        assert!(!failure.to_string().contains("secret"));
        let options: Options = [("a", "b")].into_iter().collect();
        assert!(Location::parse(OsStr::new("/srv"), &options).is_err());
        let options: Options = [("mount", "/mnt")].into_iter().collect();
        let rule = MountRule::At("/mnt".into());
        let location = Location::parse(OsStr::new("/mnt/x"), &options).unwrap();
        assert_eq!(location, Location::Mounted("/mnt/x".into(), rule));
    }

    #[test]
    fn options_have_names() {
        let options = parse_options(&["a=b=c".into(), "flag".into(), "empty=".into()]).unwrap();
        assert_eq!(options.text("a"), Some("b=c"));
        assert!(options.flag("flag").unwrap());
        assert_eq!(options.text("empty"), None);
        assert!(parse_options(&["=x".into()]).is_err());
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
        assert_eq!(parsed("smb://nas/x").unwrap_err().status(), Status::NoStore);
        assert_eq!(parsed("foo:/bar").unwrap_err().status(), Status::NoStore);
    }
}
