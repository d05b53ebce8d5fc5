//! From a place on a server to the connector that reaches it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tiroir_core::host::HostErrorKind;
use tiroir_hosts::error::HostsError;
use tiroir_hosts::remote::RemoteFiles;
use tiroir_hosts::remote::importer::clean;
use tiroir_hosts::remote::patience::{self, Patience};
use tiroir_hosts::sftp::SftpFiles;
use tiroir_hosts::sftp::command::CommandDial;
use tiroir_hosts::sftp::ssh::{self, Ssh};

use crate::location::{Remote, Scheme};
use crate::report;

/// What connectors are told of this machine and this run.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    /// Home of the user, where OpenSSH and others have their files.
    pub(crate) home: PathBuf,
    /// Set when the work should stop.
    pub(crate) cancelled: Arc<AtomicBool>,
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

/// The server of a place. Nothing is asked of it yet, unless its path starts at
/// the home of whoever logs in.
///
/// # Errors
///
/// Addresses and options that are not understood.
pub(crate) fn files(remote: &Remote, around: &Surroundings) -> Result<Server, HostsError> {
    match remote.scheme {
        Scheme::Sftp => sftp(remote, around),
        Scheme::Rclone => rclone(remote, around),
    }
}

/// What the option `root` says, else the path of the location, else the root.
fn path_of(remote: &Remote, address_path: &[u8]) -> Vec<u8> {
    match remote.options.text("root") {
        Some(root) => root.as_bytes().to_vec(),
        None => address_path.to_vec(),
    }
}

fn refuse_unknown(remote: &Remote, known: &[&str]) -> Result<(), HostsError> {
    match remote.options.unknown(known) {
        None => Ok(()),
        Some(name) => Err(HostsError::rule(
            HostErrorKind::Other,
            "understand the option",
            name.as_bytes(),
            "the connector has none of that name",
        )),
    }
}

fn sftp(remote: &Remote, around: &Surroundings) -> Result<Server, HostsError> {
    refuse_unknown(remote, &ssh::options())?;
    let address = tiroir_hosts::address::Address::parse(&remote.rest)?;
    let patience = Patience::from_options(&remote.options)?;
    let patience = patience.with_cancellation(Arc::clone(&around.cancelled));
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

/// rclone serves SFTP on its input and output: what it reaches, we do.
///
/// The remote is one of rclone's own configuration; or it is configured by options
/// of rclone's names, with or without `rclone_` in front, as stock imports them.
/// They go to rclone in its environment, where nobody else sees them.
fn rclone(remote: &Remote, around: &Surroundings) -> Result<Server, HostsError> {
    let Some((name, path)) = remote.remote_and_path() else {
        let rule = "it names no remote of rclone";
        return Err(HostsError::rule(HostErrorKind::Other, "understand the location", b"", rule));
    };
    let patience = Patience::from_options(&remote.options)?;
    let patience = patience.with_cancellation(Arc::clone(&around.cancelled));
    let shown = format!("rclone://{name}:");
    let program = remote.options.text("rclone").unwrap_or("rclone");
    // Nothing is kept on the disk here, and listings for a moment only: others may
    // write to the same store.
    let arguments =
        ["serve", "sftp", "--stdio", "--vfs-cache-mode", "off", "--dir-cache-time", "10s"];
    let mut arguments: Vec<String> = arguments.map(Into::into).into();
    arguments.push(format!("{name}:/"));
    let mut dial = CommandDial::new(shown, program, arguments);
    let is_ours = |name: &str| patience::OPTIONS.contains(&name) || name == "rclone";
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
