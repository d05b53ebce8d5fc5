//! SSH servers: OpenSSH's and dropbear.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::namespace::Namespace;
use super::{Server, program};
use crate::http::free_port;
use crate::tree::chmod;

/// Which server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// OpenSSH's `sshd`.
    OpenSsh,
    /// dropbear, with OpenSSH's `sftp-server`.
    Dropbear,
}

/// The password of the user of the tests, where it counts.
pub const PASSWORD: &str = "tiroir-ftp";

/// That, as `openssl passwd -6` has it.
const PASSWORD_HASH: &str = "$6$tiroir$b8lddmAoGiWqLfyvozp1Vq2QNnLTlQh1fU6GGyrLWmdauwfHFeER1QzG2cdsm6ME7Uqf1CuarB4FApJqG0U30/";

/// How somebody is let in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Login {
    Key,
    Password,
}

/// An SSH server that lets the user of the tests in by a key.
#[derive(Debug)]
pub struct Ssh {
    /// What runs.
    pub server: Server,
    host: IpAddr,
    folder: PathBuf,
}

impl Ssh {
    /// Starts a server whose files are in `folder`, which is made.
    ///
    /// # Panics
    ///
    /// When it is not installed, or does not start.
    #[must_use]
    pub fn start(kind: Kind, folder: &Path) -> Self {
        Self::start_with(kind, folder, |_| String::new())
    }

    /// Starts a server that lets the user of the tests in by [`PASSWORD`] alone, in
    /// file systems of its own: the passwords of the machine are left alone.
    ///
    /// # Panics
    ///
    /// When it is not installed, or does not start; when this is not run as root.
    #[must_use]
    pub fn start_with_password(kind: Kind, folder: &Path) -> Self {
        assert!(rustix::process::geteuid().is_root(), "passwords are tested as root");
        fs::create_dir_all(folder).expect("folder of a server");
        let shadow = fs::read_to_string("/etc/shadow").expect("passwords of the machine");
        let others: String = shadow
            .lines()
            .filter(|line| !line.starts_with("root:"))
            .map(|line| format!("{line}\n"))
            .collect();
        let path = folder.join("shadow");
        fs::write(&path, format!("root:{PASSWORD_HASH}:19000:0:99999:7:::\n{others}"))
            .expect("passwords of a server");
        chmod(&path, 0o600);
        Self::start_as(kind, Login::Password, None, folder, |_| String::new())
    }

    /// The same, with more lines of configuration, made when the keys are there.
    ///
    /// # Panics
    ///
    /// When it is not installed, or does not start.
    #[must_use]
    pub fn start_with(kind: Kind, folder: &Path, more: impl FnOnce(&Path) -> String) -> Self {
        Self::start_as(kind, Login::Key, None, folder, more)
    }

    /// Starts OpenSSH's in a network of its own.
    ///
    /// # Panics
    ///
    /// When it is not installed, or does not start.
    #[must_use]
    pub fn start_in(namespace: &Namespace, folder: &Path) -> Self {
        let more = |_: &Path| String::new();
        Self::start_as(Kind::OpenSsh, Login::Key, Some(namespace), folder, more)
    }

    fn start_as(
        kind: Kind,
        login: Login,
        namespace: Option<&Namespace>,
        folder: &Path,
        more: impl FnOnce(&Path) -> String,
    ) -> Self {
        fs::create_dir_all(folder).expect("folder of a server");
        // Both refuse keys in a place that others may write to.
        chmod(folder, 0o700);
        for (name, kind) in [("host_ed25519", "ed25519"), ("host_rsa", "rsa"), ("id", "ed25519")] {
            keygen(&["-q", "-t", kind, "-N", ""], &folder.join(name));
        }
        fs::copy(folder.join("id.pub"), folder.join("authorized_keys")).expect("authorized keys");
        let port = free_port();
        let host = namespace.map_or(Ipv4Addr::LOCALHOST.into(), Namespace::host);
        let mut command = match kind {
            Kind::OpenSsh => openssh(folder, login, (host, port), &more(folder)),
            Kind::Dropbear => dropbear(folder, login, port),
        };
        if let Some(namespace) = namespace {
            command = namespace.inside(&command);
        }
        let log = fs::File::create(folder.join("log")).expect("log of a server");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let server = Server::start_at(&mut command, host, port);
        Self { server, host, folder: folder.to_owned() }
    }

    /// A location on the server, over `port`.
    #[must_use]
    pub fn location(&self, port: u16, path: &Path) -> String {
        format!("sftp://root@{}:{port}{}", self.host, path.display())
    }

    /// The private key that opens the server.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.folder.join("id")
    }

    /// A file that says which keys the server has, if it is reached on `port`.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    #[must_use]
    pub fn known_hosts(&self, port: u16) -> PathBuf {
        let path = self.folder.join(format!("known_hosts-{port}"));
        let key = fs::read_to_string(self.folder.join("host_ed25519.pub")).expect("key of a host");
        fs::write(&path, format!("[{}]:{port} {key}", self.host)).expect("known hosts");
        path
    }

    /// Options for `-o` and `-store-option`, with which the server is reached.
    #[must_use]
    pub fn options(&self, port: u16) -> Vec<String> {
        vec![
            format!("identity={}", self.key().display()),
            format!("known_hosts={}", self.known_hosts(port).display()),
            "ssh_config=none".into(),
            "ssh_auth_sock=none".into(),
        ]
    }
}

/// Makes a pair of keys.
///
/// # Panics
///
/// When that fails.
pub fn keygen(args: &[&str], path: &Path) {
    let made = Command::new(program(&["ssh-keygen"])).args(args).arg("-f").arg(path).output();
    let made = made.expect("ssh-keygen");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

fn openssh(folder: &Path, login: Login, (host, port): (IpAddr, u16), more: &str) -> Command {
    fs::create_dir_all("/run/sshd").expect("what sshd wants to be there");
    let shown = folder.display();
    let (by_password, by_key) = match login {
        Login::Key => ("no", "yes"),
        Login::Password => ("yes", "no"),
    };
    let config = format!(
        "Port {port}\nListenAddress {host}\nHostKey {shown}/host_ed25519\n\
         HostKey {shown}/host_rsa\nAuthorizedKeysFile {shown}/authorized_keys\nPidFile none\n\
         UsePAM no\nPasswordAuthentication {by_password}\nPubkeyAuthentication {by_key}\n\
         PermitRootLogin yes\nStrictModes no\n\
         Subsystem sftp internal-sftp\nMaxStartups 100\n{more}"
    );
    let path = folder.join("sshd_config");
    fs::write(&path, config).expect("configuration of a server");
    let mut command = match login {
        Login::Key => Command::new(program(&["sshd"])),
        Login::Password => with_passwords(folder, &program(&["sshd"])),
    };
    command.args(["-D", "-e", "-f"]).arg(path);
    command
}

/// A program that finds other passwords than those of the machine.
fn with_passwords(folder: &Path, program: &Path) -> Command {
    let mut command = Command::new("unshare");
    let line = "mount --bind \"$0\" /etc/shadow && exec \"$@\"";
    command.args(["-m", "sh", "-c", line]).arg(folder.join("shadow")).arg(program);
    command
}

fn dropbear(folder: &Path, login: Login, port: u16) -> Command {
    let key = folder.join("dropbear_ed25519");
    let converted = Command::new(program(&["dropbearconvert"]))
        .args(["openssh", "dropbear"])
        .arg(folder.join("host_ed25519"))
        .arg(&key)
        .output()
        .expect("dropbearconvert");
    assert!(converted.status.success(), "{}", String::from_utf8_lossy(&converted.stderr));
    let place = format!("127.0.0.1:{port}");
    if login == Login::Password {
        let mut command = with_passwords(folder, &program(&["dropbear"]));
        command.args(["-F", "-E", "-p", &place, "-r"]).arg(key);
        return command;
    }
    // It takes keys from the home of a user only: here it is given another one.
    let line = "home=$(getent passwd \"$(id -u)\" | cut -d: -f6) && \
                mount -t tmpfs -o mode=700 none \"$home\" && mkdir -m 700 \"$home/.ssh\" && \
                cp \"$0/authorized_keys\" \"$home/.ssh/\" && \
                chmod 600 \"$home/.ssh/authorized_keys\" && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", line]).arg(folder).arg(program(&["dropbear"]));
    command.args(["-F", "-E", "-s", "-p", &place, "-r"]).arg(key);
    command
}
