//! FTP: vsftpd, ProFTPD and Pure-FTPd, as Debian has them.
//!
//! They become another user for each session, so tests run as root.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::namespace::Namespace;
use super::{Server, unpacked};
use crate::http::free_port;

/// Who logs in, where the server has users.
pub const USER: &str = "tiroir";

/// With what.
pub const PASSWORD: &str = "tiroir-ftp";

/// That, as `openssl passwd -6` has it.
const PASSWORD_HASH: &str = "$6$tiroir$b8lddmAoGiWqLfyvozp1Vq2QNnLTlQh1fU6GGyrLWmdauwfHFeER1QzG2cdsm6ME7Uqf1CuarB4FApJqG0U30/";

/// Number of user and group that own the files.
const OWNER: u32 = 65_534;

/// Which server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Without `MLSD`, and without users.
    Vsftpd,
    /// With everything.
    Proftpd,
    /// With `MLSD`.
    Pureftpd,
}

/// How TLS is asked for. Data connections must then have it too, and resume the
/// session of the other where the server knows of that.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tls {
    /// Not at all.
    None,
    /// After `AUTH TLS`.
    Explicit,
    /// From the start.
    Implicit,
    /// After `AUTH TLS`, and version 1.3 at least.
    Newest,
}

/// A server with an empty folder that can be written to.
#[derive(Debug)]
pub struct FtpServer {
    _server: Server,
    folder: tempfile::TempDir,
    /// Which one it is.
    pub kind: Kind,
    /// How TLS is asked for.
    pub tls: Tls,
    host: IpAddr,
    /// Port of the loopback that it answers at.
    pub port: u16,
}

impl FtpServer {
    /// Starts one that lets `sessions` in at once.
    ///
    /// # Panics
    ///
    /// When it does not start, and when this is not run as root.
    #[must_use]
    pub fn start(kind: Kind, tls: Tls, sessions: u32) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), None, kind, tls, sessions)
    }

    /// The same over IPv6.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    #[must_use]
    pub fn start_ipv6(kind: Kind) -> Self {
        Self::start_at(Ipv6Addr::LOCALHOST.into(), None, kind, Tls::None, 20)
    }

    /// The same in a network of its own.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    #[must_use]
    pub fn start_in(namespace: &Namespace, kind: Kind) -> Self {
        Self::start_at(namespace.host(), Some(namespace), kind, Tls::None, 20)
    }

    fn start_at(
        host: IpAddr,
        namespace: Option<&Namespace>,
        kind: Kind,
        tls: Tls,
        sessions: u32,
    ) -> Self {
        assert!(rustix::process::geteuid().is_root(), "servers of FTP are tested as root");
        let mut folder = tempfile::Builder::new().prefix("tr-ftp-").tempdir().expect("folder");
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), open).expect("permissions");
        for name in ["files", "empty"] {
            fs::create_dir(folder.path().join(name)).expect("folder");
        }
        // vsftpd wants that its root itself cannot be written to.
        let writable = folder.path().join("files/w");
        fs::create_dir(&writable).expect("folder");
        chown(writable, Some(OWNER), Some(OWNER)).expect("owner");
        if tls != Tls::None {
            make_certificate(folder.path());
        }
        let port = free_port();
        let mut command = match kind {
            Kind::Vsftpd => vsftpd(folder.path(), SocketAddr::new(host, port), tls, sessions),
            Kind::Proftpd => proftpd(folder.path(), SocketAddr::new(host, port), tls, sessions),
            Kind::Pureftpd => pureftpd(folder.path(), SocketAddr::new(host, port), tls, sessions),
        };
        if let Some(namespace) = namespace {
            command = namespace.inside(&command);
        }
        let log = fs::File::create(folder.path().join("log")).expect("log");
        command.stdin(Stdio::null()).stderr(log.try_clone().expect("log")).stdout(log);
        if std::env::var_os("TIROIR_KEEP").is_some() {
            folder.disable_cleanup(true);
            eprintln!("kept: {}", folder.path().display());
        }
        let server = Server::start_at(&mut command, host, port);
        Self { _server: server, folder, kind, tls, host, port }
    }

    /// The folder that can be written to.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.folder.path().join("files/w")
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// How often somebody has logged in to ProFTPD. Waits until all of them have gone,
    /// because only then all of it is in the log.
    ///
    /// # Panics
    ///
    /// When they have not gone after ten seconds, and with other servers.
    #[must_use]
    pub fn logins(&self) -> usize {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let log = fs::read_to_string(self.folder.path().join("log")).expect("log");
            let count = |words: &str| log.matches(words).count();
            if count("session opened") > 0 && count("session opened") == count("session closed") {
                return count("Login successful");
            }
            assert!(Instant::now() < until, "somebody is still there: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Path of the folder, as the server has it.
    #[must_use]
    pub fn root(&self) -> String {
        match self.kind {
            Kind::Proftpd => self.files().to_str().expect("UTF-8").to_owned(),
            _ => "/w".to_owned(),
        }
    }

    /// The location of that folder, without the scheme.
    #[must_use]
    pub fn location(&self) -> String {
        let login = match self.kind {
            Kind::Vsftpd => "",
            _ => "tiroir:tiroir-ftp@",
        };
        format!("{login}{}{}/", SocketAddr::new(self.host, self.port), self.root())
    }
}

fn make_certificate(folder: &Path) {
    let (key, certificate) = (folder.join("key.pem"), folder.join("cert.pem"));
    let status = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"])
        .args(["-subj", "/CN=localhost", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .stderr(Stdio::null())
        .status()
        .expect("openssl");
    assert!(status.success(), "openssl: {status}");
    let both = [fs::read(&key).expect("key"), fs::read(&certificate).expect("certificate")];
    fs::write(folder.join("both.pem"), both.concat()).expect("both");
}

fn vsftpd(folder: &Path, place: SocketAddr, tls: Tls, sessions: u32) -> Command {
    let (at, host, port) = (folder.display(), place.ip(), place.port());
    let listen = if place.is_ipv4() {
        format!("listen=YES\nlisten_address={host}\n")
    } else {
        format!("listen=NO\nlisten_ipv6=YES\nlisten_address6={host}\n")
    };
    let mut text = format!(
        "{listen}listen_port={port}\nbackground=NO\n\
         anonymous_enable=YES\nlocal_enable=NO\nwrite_enable=YES\nanon_root={at}/files\n\
         anon_upload_enable=YES\nanon_mkdir_write_enable=YES\nanon_other_write_enable=YES\n\
         anon_world_readable_only=NO\nanon_umask=022\n\
         no_anon_password=YES\nftp_username=nobody\nsecure_chroot_dir={at}/empty\n\
         seccomp_sandbox=NO\nisolate=NO\nisolate_network=NO\nxferlog_enable=NO\n\
         max_clients={sessions}\nmax_per_ip=0\n"
    );
    if tls != Tls::None {
        text += &format!(
            "ssl_enable=YES\nallow_anon_ssl=YES\nforce_anon_logins_ssl=YES\n\
             force_anon_data_ssl=YES\nrequire_ssl_reuse=YES\nssl_ciphers=HIGH\n\
             rsa_cert_file={at}/cert.pem\nrsa_private_key_file={at}/key.pem\n"
        );
    }
    if tls == Tls::Implicit {
        text += "implicit_ssl=YES\n";
    }
    let config = folder.join("vsftpd.conf");
    fs::write(&config, text).expect("configuration");
    let mut command = Command::new(unpacked("usr/sbin/vsftpd"));
    command.arg(config);
    command
}

fn proftpd(folder: &Path, place: SocketAddr, tls: Tls, sessions: u32) -> Command {
    let (at, modules) = (folder.display(), unpacked("usr/lib/proftpd"));
    let mut text = format!(
        "ModulePath {}\n{}ServerType standalone\nDefaultAddress {}\nPort {}\n\
         UseIPv6 {}\nUseReverseDNS off\nWtmpLog off\nUser nobody\nGroup nogroup\nUmask 022\n\
         AuthPAM off\nRequireValidShell off\nAuthOrder mod_auth_file.c\nAuthUserFile {at}/users\n\
         ScoreboardFile {at}/scoreboard\nPidFile {at}/pid\nDelayTable none\nTransferLog none\n\
         SystemLog {at}/system.log\nAllowOverwrite on\nAllowStoreRestart on\n\
         MaxInstances {sessions}\nMaxClients {sessions}\n",
        modules.display(),
        if tls == Tls::None { "" } else { "LoadModule mod_tls.c\n" },
        place.ip(),
        place.port(),
        if place.is_ipv4() { "off" } else { "on" },
    );
    if tls != Tls::None {
        let options = if tls == Tls::Implicit { "TLSOptions UseImplicitSSL\n" } else { "" };
        let versions = if tls == Tls::Newest { "TLSv1.3" } else { "TLSv1.2 TLSv1.3" };
        text += &format!(
            "TLSEngine on\nTLSRequired on\nTLSProtocol {versions}\n{options}TLSLog {at}/tls.log\n\
             TLSRSACertificateFile {at}/cert.pem\nTLSRSACertificateKeyFile {at}/key.pem\n"
        );
    }
    let (config, users) = (folder.join("proftpd.conf"), folder.join("users"));
    fs::write(&config, text).expect("configuration");
    let user = format!("{USER}:{PASSWORD_HASH}:{OWNER}:{OWNER}::{at}/files:/bin/false\n");
    fs::write(&users, user).expect("users");
    fs::set_permissions(&users, fs::Permissions::from_mode(0o600)).expect("permissions");
    let mut command = Command::new(unpacked("usr/sbin/proftpd"));
    command.arg("--nodaemon").arg("--config").arg(config);
    command
}

fn pureftpd(folder: &Path, place: SocketAddr, tls: Tls, sessions: u32) -> Command {
    let (users, database) = (folder.join("users"), folder.join("users.pdb"));
    let files = folder.join("files");
    let line =
        format!("{USER}:{PASSWORD_HASH}:{OWNER}:{OWNER}::{}/./::::::::::::\n", files.display());
    fs::write(&users, line).expect("users");
    let made = Command::new(unpacked("usr/bin/pure-pw"))
        .arg("mkdb")
        .arg(&database)
        .arg("-f")
        .arg(&users)
        .status()
        .expect("pure-pw");
    assert!(made.success(), "pure-pw: {made}");
    let mut command = Command::new(unpacked("usr/sbin/pure-ftpd"));
    command.arg("-S").arg(format!("{},{}", place.ip(), place.port())).arg("-l");
    command.arg(format!("puredb:{}", database.display()));
    command.args([
        "-E",
        "-H",
        if place.is_ipv4() { "-4" } else { "-6" },
        "-u",
        "1",
        "-D",
        "-c",
        &sessions.to_string(),
    ]);
    command.arg("-C").arg(sessions.to_string());
    command.arg("-g").arg(folder.join("pid"));
    command.args(["-U", "022:022"]);
    match tls {
        Tls::None => {}
        Tls::Explicit => {
            command.args(["-Y", "3", "-2"]).arg(folder.join("both.pem"));
        }
        Tls::Implicit | Tls::Newest => panic!("Pure-FTPd has no such setting"),
    }
    command
}
