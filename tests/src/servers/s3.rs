//! Servers of S3: VersityGW and rclone, each over a folder of its own.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::Server;
use super::namespace::Namespace;
use crate::http::free_port;
use crate::oracle;

/// Whose server it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Maker {
    /// VersityGW, which keeps objects as files and their metadata beside them.
    Versity,
    /// VersityGW behind TLS, in another region.
    VersityTls,
    /// VersityGW that keeps versions, and so locks objects.
    VersityVersions,
    /// `rclone serve s3`.
    Rclone,
}

/// A server of S3.
#[derive(Debug)]
pub struct S3Server {
    _server: Server,
    folder: TempDir,
    options: Vec<(&'static str, String)>,
    /// Address and port.
    pub authority: String,
}

/// The one key of every server.
const KEY: (&str, &str) = ("tiroir-key", "tiroir-secret/+=");

/// File of VersityGW with a line for each request.
const LOG: &str = "access.log";

impl S3Server {
    /// Starts a server without any bucket.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn start(maker: Maker) -> Self {
        Self::start_at(maker, None)
    }

    /// Starts VersityGW in a network of its own.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn start_in(namespace: &Namespace) -> Self {
        Self::start_at(Maker::Versity, Some(namespace))
    }

    fn start_at(maker: Maker, namespace: Option<&Namespace>) -> Self {
        let folder = tempfile::Builder::new().prefix("tr-s3-").tempdir().expect("temporary folder");
        let port = free_port();
        let host: IpAddr = namespace.map_or(Ipv4Addr::LOCALHOST.into(), Namespace::host);
        let authority = SocketAddr::new(host, port).to_string();
        let mut options = vec![
            ("access_key", KEY.0.to_owned()),
            ("secret_access_key", KEY.1.to_owned()),
            ("timeout", "20".to_owned()),
        ];
        let buckets = folder.path().join("buckets");
        std::fs::create_dir(&buckets).expect("folder of a server");
        let mut command = match maker {
            Maker::Versity | Maker::VersityTls | Maker::VersityVersions => {
                let mut command = Command::new(oracle::server("versitygw"));
                command.args(["--access", KEY.0, "--secret", KEY.1, "--keep-alive", "--quiet"]);
                command.args(["--port", &authority]);
                command.arg("--access-log").arg(folder.path().join(LOG));
                if maker == Maker::VersityTls {
                    let (certificate, key) = certificate(folder.path());
                    command.arg("--cert").arg(&certificate).arg("--key").arg(key);
                    command.args(["--region", "eu-test-9"]);
                    options.push(("tls_ca", certificate.display().to_string()));
                }
                let sidecar = folder.path().join("metadata");
                std::fs::create_dir(&sidecar).expect("folder of a server");
                command.args(["posix", "--sidecar"]).arg(&sidecar);
                if maker == Maker::VersityVersions {
                    let versions = folder.path().join("versions");
                    std::fs::create_dir(&versions).expect("folder of a server");
                    command.arg("--versioning-dir").arg(&versions);
                }
                command.arg(&buckets);
                command
            }
            Maker::Rclone => {
                let mut command = Command::new(oracle::server("rclone-s3"));
                command.args(["serve", "s3", "--addr", &authority, "--log-level", "ERROR"]);
                command.args(["--config", "/dev/null"]);
                command.arg("--auth-key").arg(format!("{},{}", KEY.0, KEY.1)).arg(&buckets);
                command
            }
        };
        if maker != Maker::VersityTls {
            options.push(("use_tls", "false".to_owned()));
        }
        if let Some(namespace) = namespace {
            command = namespace.inside(&command);
        }
        command.env_clear().env("HOME", folder.path()).stderr(Stdio::null());
        let server = Server::start_at(&mut command, host, port);
        Self { _server: server, folder, options, authority }
    }

    /// What follows `s3://` for a path of bucket and prefix.
    #[must_use]
    pub fn address(&self, path: &str) -> String {
        format!("{}/{path}", self.authority)
    }

    /// What a connector is told to reach it.
    pub fn options(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        self.options.iter().map(|(name, value)| (*name, value.clone()))
    }

    /// How many requests of each kind VersityGW has answered: `PutObject`,
    /// `ListObjectsV2`…
    ///
    /// # Panics
    ///
    /// When there is no log, or a line of it that is not understood.
    #[must_use]
    pub fn requests(&self) -> BTreeMap<String, u64> {
        let log = std::fs::read_to_string(self.folder.path().join(LOG)).expect("log of a server");
        let mut counts = BTreeMap::new();
        for line in log.lines().filter(|line| !line.starts_with("log starts")) {
            let kind = line.split(' ').find_map(|word| word.strip_prefix("s3_"));
            let kind = kind.unwrap_or_else(|| panic!("no kind of request in: {line}"));
            *counts.entry(kind.to_owned()).or_default() += 1;
        }
        counts
    }

    /// What VersityGW keeps beside the object of a bucket under a name, or nothing.
    #[must_use]
    pub fn kept_beside(&self, path: &str, name: &str) -> Option<String> {
        let beside = self.folder.path().join("metadata").join(path).join("meta").join(name);
        std::fs::read_to_string(beside).ok()
    }

    /// Where the object of a bucket lies as a file.
    #[must_use]
    pub fn file(&self, path: &str) -> PathBuf {
        self.folder.path().join("buckets").join(path)
    }
}

/// A certificate for 127.0.0.1 that signed itself, and its key, as files in a
/// folder.
///
/// # Panics
///
/// When they cannot be made.
#[must_use]
pub fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-subj", "/CN=nas", "-days", "2", "-addext", "subjectAltName=IP:127.0.0.1"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .stderr(Stdio::null())
        .status();
    assert!(made.expect("openssl is missing").success(), "no certificate was made");
    (certificate, key)
}
