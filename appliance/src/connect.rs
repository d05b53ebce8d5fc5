//! From a place on a server to the connector that reaches it.

#[cfg(feature = "sqlite-store")]
use std::ffi::OsStr;
use std::fmt;
#[cfg(feature = "sqlite-store")]
use std::os::unix::ffi::OsStrExt as _;
#[cfg(feature = "sqlite-store")]
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tiroir_core::exporter::Exporter;
use tiroir_core::host::HostErrorKind;
use tiroir_core::importer::Importer;
use tiroir_core::store::Store;
#[cfg(any(feature = "sftp", feature = "ftp", feature = "s3", feature = "http"))]
use tiroir_hosts::address::Address;
use tiroir_hosts::error::HostsError;
use tiroir_hosts::fs::ignore::Ignore;
#[cfg(feature = "ftp")]
use tiroir_hosts::ftp::{self, FtpFiles};
#[cfg(feature = "http")]
use tiroir_hosts::http::{self, HttpFile, HttpStore};
use tiroir_hosts::parallel::Width;
use tiroir_hosts::parallel::ahead::AheadImporter;
use tiroir_hosts::parallel::behind::BehindExporter;
#[cfg(feature = "http")]
use tiroir_hosts::ptar::PtarReader;
use tiroir_hosts::rate::{self, Limits};
use tiroir_hosts::remote::RemoteFiles;
use tiroir_hosts::remote::exporter::FilesExporter;
use tiroir_hosts::remote::importer::FilesImporter;
#[cfg(any(feature = "sftp", feature = "ftp", feature = "rclone"))]
use tiroir_hosts::remote::importer::clean;
#[cfg(any(feature = "sftp", feature = "rclone"))]
use tiroir_hosts::remote::patience::Patience;
use tiroir_hosts::remote::store::FilesStore;
#[cfg(feature = "s3")]
use tiroir_hosts::s3::{self, S3Exporter, S3Importer, S3Store};
#[cfg(any(feature = "sftp", feature = "rclone"))]
use tiroir_hosts::sftp::SftpFiles;
#[cfg(feature = "sftp")]
use tiroir_hosts::sftp::ssh::{self, Ssh};
#[cfg(feature = "sqlite-store")]
use tiroir_hosts::sqlite::{self, SqliteStore};

use crate::location::{Remote, Scheme};
use crate::report;
use crate::text::size;

/// The option that says how many connections a source or a destination may have.
const CONNECTIONS: &str = "connections";

/// Connections that can be asked for.
const CONNECTIONS_MAX: usize = 16;

/// What connectors are told of this machine and this run.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    /// Home of the user, where OpenSSH and others have their files.
    pub(crate) home: PathBuf,
    /// Where temporary files go.
    pub(crate) spool: PathBuf,
    /// Set when the work should stop.
    pub(crate) cancelled: Arc<AtomicBool>,
    /// How many files are read or written at once, where nothing else is said.
    pub(crate) width: Width,
    /// How fast bytes go to servers and come from them.
    pub(crate) limits: Limits,
}

impl Surroundings {
    /// What holds for a place: its own limits and those of the run.
    fn limits(&self, remote: &Remote) -> Result<Limits, HostsError> {
        let [up, down] = rate::OPTIONS.map(|name| match remote.options.text(name) {
            None => Ok(0),
            Some(text) => size::parse_rate(text).map_err(|words| {
                let kind = HostErrorKind::Other;
                HostsError::remote(kind, "understand the option", name.as_bytes(), words)
            }),
        });
        Ok(self.limits.for_place(&remote.to_string(), up?, down?))
    }
}

/// A server that keeps files in directories, and a place on it.
pub(crate) struct Server {
    /// The server.
    pub(crate) files: Box<dyn RemoteFiles>,
    /// Name of the connector, as snapshots record it.
    pub(crate) kind: &'static str,
    /// Name of the server, as snapshots record it.
    pub(crate) origin: String,
    /// An absolute and clean path.
    pub(crate) path: Vec<u8>,
    /// Stores have stock's layout with rclone.
    pub(crate) is_flat: bool,
}

/// Sees that the connector understands its options. Nothing is reached.
///
/// # Errors
///
/// For the first that it does not know.
pub(crate) fn check(remote: &Remote) -> Result<(), HostsError> {
    let known: &[&str] = match remote.scheme {
        #[cfg(feature = "sftp")]
        Scheme::Sftp => &ssh::options(),
        #[cfg(feature = "ftp")]
        Scheme::Ftp | Scheme::Ftps => &ftp_options(),
        #[cfg(feature = "s3")]
        Scheme::S3 => &s3::OPTIONS,
        #[cfg(feature = "http")]
        Scheme::Http | Scheme::Https => &http::store::OPTIONS,
        #[cfg(feature = "http")]
        Scheme::PtarHttp | Scheme::PtarHttps => &http::file::OPTIONS,
        #[cfg(feature = "sqlite-store")]
        Scheme::Sqlite => &sqlite::OPTIONS,
        // All of them are rclone's, or there is no such connector.
        _ => return Ok(()),
    };
    let known_everywhere: &[&str] = match remote.scheme {
        Scheme::Sqlite => &[],
        _ => &[rate::OPTIONS[0], rate::OPTIONS[1], CONNECTIONS],
    };
    match remote.options.unknown(&[known, known_everywhere].concat()) {
        None => Ok(()),
        Some(name) => Err(HostsError::rule(
            HostErrorKind::Other,
            "understand the option",
            name.as_bytes(),
            "the connector has none of that name",
        )),
    }
}

/// What the server of a store was found to be, where it tells.
///
/// # Errors
///
/// Of the server.
pub(crate) fn describe(
    remote: &Remote,
    around: &Surroundings,
) -> Result<Option<String>, HostsError> {
    match remote.scheme {
        Scheme::Sftp | Scheme::Rclone | Scheme::Ftp | Scheme::Ftps => {
            files(remote, around)?.files.describe().map(Some)
        }
        Scheme::S3
        | Scheme::Http
        | Scheme::Https
        | Scheme::PtarHttp
        | Scheme::PtarHttps
        | Scheme::Sqlite => Ok(None),
    }
}

/// A store that is neither here nor an archive.
pub(crate) trait RemoteStore: Store<Error = HostsError> + fmt::Debug {
    /// Bytes of all its files. Nothing where only a request for each would tell.
    ///
    /// # Errors
    ///
    /// Of the system or the server.
    fn stored_bytes(&mut self) -> crate::error::Result<Option<u64>> {
        Ok(None)
    }
}

impl RemoteStore for FilesStore {
    fn stored_bytes(&mut self) -> crate::error::Result<Option<u64>> {
        Ok(Some(Self::stored_bytes(self)?))
    }
}

#[cfg(feature = "s3")]
impl RemoteStore for S3Store {}

#[cfg(feature = "http")]
impl RemoteStore for HttpStore {}

/// An archive on a web server.
#[cfg(feature = "http")]
impl RemoteStore for PtarReader {}

#[cfg(feature = "sqlite-store")]
impl RemoteStore for SqliteStore {
    fn stored_bytes(&mut self) -> crate::error::Result<Option<u64>> {
        Ok(Some(crate::store::file_bytes(self.path())?))
    }
}

/// A store that is neither here nor an archive.
///
/// # Errors
///
/// Addresses and options that are not understood.
pub(crate) fn store(
    remote: &Remote,
    around: &Surroundings,
) -> Result<Box<dyn RemoteStore>, HostsError> {
    check(remote)?;
    match remote.scheme {
        #[cfg(feature = "s3")]
        Scheme::S3 => {
            let store = S3Store::open(&address(remote)?, &remote.options, &around.spool)?;
            Ok(Box::new(store.with_limits(around.limits(remote)?)))
        }
        #[cfg(feature = "http")]
        Scheme::Http | Scheme::Https => {
            let (is_tls, spool) = (remote.scheme == Scheme::Https, &around.spool);
            let store = HttpStore::open(&address(remote)?, is_tls, &remote.options, spool)?;
            Ok(Box::new(store.with_limits(around.limits(remote)?)))
        }
        #[cfg(feature = "http")]
        Scheme::PtarHttp | Scheme::PtarHttps => {
            let (is_tls, limits) = (remote.scheme == Scheme::PtarHttps, around.limits(remote)?);
            let file = HttpFile::open(&address(remote)?, is_tls, &remote.options, limits)?;
            Ok(Box::new(PtarReader::over_http(file)?))
        }
        #[cfg(feature = "sqlite-store")]
        Scheme::Sqlite => {
            let path = Path::new(OsStr::from_bytes(&remote.rest));
            let store = SqliteStore::open(path, &remote.options, &around.spool)?;
            Ok(Box::new(store.with_warnings(report::warn)))
        }
        _ => {
            let server = files(remote, around)?;
            let store = FilesStore::new(server.files, &server.path);
            let store = if server.is_flat { store.with_flat_layout() } else { store };
            Ok(Box::new(store.with_warnings(report::warn)))
        }
    }
}

/// Reads from a server.
pub(crate) struct RemoteImporter {
    /// What does.
    pub(crate) importer: Box<dyn Importer<Error = HostsError>>,
    /// Path of what is backed up, if the patterns leave it out.
    pub(crate) ignored_root: Option<Vec<u8>>,
}

/// What is backed up from a server, but for what matches the patterns.
///
/// # Errors
///
/// Of the server, as when there is nothing; addresses and options that are not
/// understood.
pub(crate) fn importer(
    remote: &Remote,
    around: &Surroundings,
    ignore: Option<Ignore>,
) -> Result<RemoteImporter, HostsError> {
    check(remote)?;
    #[cfg(feature = "s3")]
    if remote.scheme == Scheme::S3 {
        let mut importer = S3Importer::open(&address(remote)?, &remote.options)?
            .with_limits(around.limits(remote)?);
        if let Some(ignore) = ignore {
            importer = importer.with_ignore(ignore);
        }
        let ignored_root = importer.is_root_ignored().then(|| importer.top().to_vec());
        return Ok(RemoteImporter { importer: Box::new(importer), ignored_root });
    }
    let server = files(remote, around)?;
    let mut importer = FilesImporter::open(server.files, server.kind, server.origin, &server.path)?;
    if let Some(ignore) = ignore {
        importer = importer.with_ignore(ignore);
    }
    let ignored_root = importer.is_root_ignored().then(|| importer.top().to_vec());
    Ok(RemoteImporter { importer: Box::new(importer), ignored_root })
}

/// Has files read and directories listed ahead, over as many connections as the option
/// `connections` says; `ignore` is what `first` leaves out.
///
/// # Errors
///
/// A number that is none.
pub(crate) fn ahead(
    first: Box<dyn Importer<Error = HostsError>>,
    remote: &Remote,
    around: &Surroundings,
    ignore: Option<Ignore>,
) -> Result<AheadImporter, HostsError> {
    let width = width(remote, around)?;
    let (remote, around) = (remote.clone(), around.clone());
    let connect = move || Ok(importer(&remote, &around, ignore.clone())?.importer);
    Ok(AheadImporter::new(first, width, Arc::new(connect)))
}

/// What the option `connections` says, which counts the first one too.
fn width(remote: &Remote, around: &Surroundings) -> Result<Width, HostsError> {
    let threads = match remote.options.number::<usize>(CONNECTIONS)? {
        Some(connections) => connections.clamp(1, CONNECTIONS_MAX) - 1,
        // Each would be a process of rclone's, of dozens of mebibytes.
        None if remote.scheme == Scheme::Rclone => 0,
        None => around.width.threads,
    };
    Ok(Width { threads, ..around.width })
}

/// Where a restore to a server goes, with several files written at once.
///
/// # Errors
///
/// As of [`importer`].
pub(crate) fn behind(
    remote: &Remote,
    around: &Surroundings,
    skip_permissions: bool,
) -> Result<BehindExporter, HostsError> {
    let width = width(remote, around)?;
    let first = exporter(remote, around, skip_permissions, true)?;
    let (remote, around) = (remote.clone(), around.clone());
    let connect = move || exporter(&remote, &around, skip_permissions, false);
    Ok(BehindExporter::new(first, width, Arc::new(connect)))
}

/// Where a restore to a server goes. The first makes the target.
///
/// # Errors
///
/// As of [`importer`].
fn exporter(
    remote: &Remote,
    around: &Surroundings,
    skip_permissions: bool,
    is_first: bool,
) -> Result<Box<dyn Exporter<Error = HostsError>>, HostsError> {
    check(remote)?;
    #[cfg(feature = "s3")]
    if remote.scheme == Scheme::S3 {
        let exporter = S3Exporter::open(&address(remote)?, &remote.options, &around.spool)?
            .with_limits(around.limits(remote)?);
        return Ok(Box::new(exporter.with_warnings(report::warn)));
    }
    let server = files(remote, around)?;
    let exporter = match is_first {
        true => FilesExporter::open(server.files, &server.path)?,
        false => FilesExporter::join(server.files, &server.path)?,
    };
    let exporter = exporter.with_skip_permissions(skip_permissions).with_warnings(report::warn);
    Ok(Box::new(exporter))
}

#[cfg(any(feature = "sftp", feature = "ftp", feature = "s3", feature = "http"))]
fn address(remote: &Remote) -> Result<Address, HostsError> {
    Address::parse(&remote.rest)
}

/// The server of a place. Nothing is asked of it yet, unless its path starts at
/// the home of whoever logs in.
///
/// # Errors
///
/// Addresses and options that are not understood, and what keeps no files.
pub(crate) fn files(remote: &Remote, around: &Surroundings) -> Result<Server, HostsError> {
    match remote.scheme {
        #[cfg(feature = "sftp")]
        Scheme::Sftp => sftp(remote, around),
        #[cfg(feature = "rclone")]
        Scheme::Rclone => rclone(remote, around),
        #[cfg(feature = "ftp")]
        Scheme::Ftp | Scheme::Ftps => ftp(remote, around),
        _ => {
            let kind = HostErrorKind::Other;
            let rule = "it keeps stores and nothing else";
            Err(HostsError::rule(kind, "use", remote.to_string().as_bytes(), rule))
        }
    }
}

/// What the option `root` says, else the path of the location, else the root.
#[cfg(any(feature = "sftp", feature = "ftp"))]
fn path_of(remote: &Remote, address_path: &[u8]) -> Vec<u8> {
    match remote.options.text("root") {
        Some(root) => root.as_bytes().to_vec(),
        None => address_path.to_vec(),
    }
}

#[cfg(feature = "sftp")]
fn sftp(remote: &Remote, around: &Surroundings) -> Result<Server, HostsError> {
    check(remote)?;
    let address = address(remote)?;
    let patience = Patience::from_options(&remote.options)?;
    let patience = patience
        .with_cancellation(Arc::clone(&around.cancelled))
        .with_limits(around.limits(remote)?);
    let dial = Ssh::new(&address, &remote.options, &around.home, patience.clone())?;
    let mut files = SftpFiles::new(Box::new(dial), patience).with_warnings(report::warn);
    let path = path_of(remote, &address.path);
    // `/~/x` is x in the home of whoever logs in: paths of locations are absolute.
    let path = match path.strip_prefix(b"/~") {
        Some(rest) if rest.is_empty() || rest.starts_with(b"/") => {
            let home = files.real_path(b".")?;
            [home.as_slice(), rest].concat()
        }
        _ => path,
    };
    Ok(Server {
        files: Box::new(files),
        kind: "sftp",
        origin: address.origin(),
        path: clean(&path),
        is_flat: false,
    })
}

/// Options of FTP.
#[cfg(feature = "ftp")]
fn ftp_options() -> Vec<&'static str> {
    [&ftp::OPTIONS[..], &tiroir_hosts::tls::OPTIONS].concat()
}

#[cfg(feature = "ftp")]
fn ftp(remote: &Remote, around: &Surroundings) -> Result<Server, HostsError> {
    check(remote)?;
    let address = address(remote)?;
    let files = FtpFiles::new(&address, remote.scheme == Scheme::Ftps, &remote.options)?
        .with_limits(around.limits(remote)?);
    Ok(Server {
        files: Box::new(files),
        kind: "ftp",
        origin: address.origin(),
        path: clean(&path_of(remote, &address.path)),
        is_flat: false,
    })
}

/// rclone serves SFTP on its input and output: what it reaches, we do.
///
/// The remote is one of rclone's own configuration; or it is configured by options
/// of rclone's names, with or without `rclone_` in front, as stock imports them.
/// They go to rclone in its environment, where nobody else sees them.
#[cfg(feature = "rclone")]
fn rclone(remote: &Remote, around: &Surroundings) -> Result<Server, HostsError> {
    let Some((name, path)) = remote.remote_and_path() else {
        let rule = "it names no remote of rclone";
        return Err(HostsError::rule(HostErrorKind::Other, "understand the location", b"", rule));
    };
    let patience = Patience::from_options(&remote.options)?;
    let patience = patience
        .with_cancellation(Arc::clone(&around.cancelled))
        .with_limits(around.limits(remote)?);
    let shown = format!("rclone://{name}:");
    let program = remote.options.text("rclone").unwrap_or("rclone");
    // Nothing is kept on the disk here, and listings for a moment only: others may
    // write to the same store.
    let arguments =
        ["serve", "sftp", "--stdio", "--vfs-cache-mode", "off", "--dir-cache-time", "10s"];
    let mut arguments: Vec<String> = arguments.map(Into::into).into();
    arguments.push(format!("{name}:/"));
    let mut dial = tiroir_hosts::sftp::command::CommandDial::new(shown, program, arguments);
    let is_ours = |name: &str| {
        tiroir_hosts::remote::patience::OPTIONS.contains(&name)
            || rate::OPTIONS.contains(&name)
            || ["rclone", CONNECTIONS].contains(&name)
    };
    for option in remote.options.names().filter(|name| !is_ours(name)) {
        let variable = option.strip_prefix("rclone_").unwrap_or(option);
        let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !variable.chars().all(is_letter) {
            let rule = "rclone has none of that name";
            let kind = HostErrorKind::Other;
            return Err(HostsError::rule(kind, "understand the option", option.as_bytes(), rule));
        }
        let variable = format!("RCLONE_CONFIG_{name}_{variable}").to_ascii_uppercase();
        dial = dial.with_variable(variable, remote.options.text(option).unwrap_or_default());
    }
    let files = SftpFiles::new(Box::new(dial), patience).with_warnings(report::warn);
    let (kind, origin) = ("rclone", name.to_owned());
    Ok(Server { files: Box::new(files), kind, origin, path: clean(path), is_flat: true })
}
