//! Which options are secrets, and where their values come from: the
//! configuration, a command, a file, standard input or the terminal.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use super::settings::{LOCATION, SETTING_VALUE_BYTES_MAX, Section, Value, check_value};
use crate::error::{Failure, Result};
use crate::exit::Status;
use crate::machine;
use crate::passphrase;
use crate::report;

/// What is shown in place of a secret, as in stock.
pub(crate) const HIDDEN: &str = "********";

/// Options that stock hides: under these names, and with something and `_` in
/// front.
const HIDDEN_BY_STOCK: [&str; 10] = [
    "access_key",
    "secret_access_key",
    "passphrase",
    "password",
    "pass",
    "private_key",
    "token",
    "client_id",
    "client_secret",
    "auth_token",
];

/// Secrets that stock shows: names of rclone's, mostly.
const HIDDEN_HERE: [&str; 13] = [
    "password2",
    "secret",
    "secret_key",
    "api_key",
    "api_secret",
    "key_pem",
    "access_grant",
    "sas_url",
    "service_account_credentials",
    "cookie",
    "headers",
    "user_key",
    "master_key",
];

/// Whether a name is one of `names`, or ends with `_` and one of them.
fn is_among(name: &str, names: &[&str]) -> bool {
    let name = name.to_ascii_lowercase();
    names.iter().any(|secret| {
        name.strip_suffix(secret).is_some_and(|front| front.is_empty() || front.ends_with('_'))
    })
}

/// Whether the value of an option is a secret, by its name.
pub(crate) fn is_secret(name: &str) -> bool {
    // `key` alone is the key of several of rclone's; `host_key` is public.
    is_among(name, &HIDDEN_BY_STOCK) || is_among(name, &HIDDEN_HERE) || is_key(name)
}

fn is_key(name: &str) -> bool {
    matches!(name.to_ascii_lowercase().as_str(), "key" | "rclone_key")
}

/// Whether the value of a secret has several lines, as keys do in files.
fn has_lines(name: &str) -> bool {
    is_among(name, &["private_key", "key_pem", "service_account_credentials"])
}

/// The value of option `name` without the password that is in it, if it is a
/// location with one: `sftp://me:secret@nas/` has it before its host.
pub(crate) fn without_password(value: &str, name: &str) -> Option<Value> {
    if name != LOCATION {
        return None;
    }
    let (start, end) = password_of(value)?;
    let mut text = Zeroizing::new(String::with_capacity(value.len()));
    text.push_str(&value[..start]);
    text.push_str(&value[end..]);
    Some(text)
}

/// Where the password of a location is, with the colon before it.
fn password_of(location: &str) -> Option<(usize, usize)> {
    let start = location.find("://")? + 3;
    let authority = location[start..].split('/').next()?;
    let (login, _) = authority.rsplit_once('@')?;
    let colon = login.find(':')?;
    Some((start + colon, start + login.len()))
}

/// The value of an option as it is shown to anybody.
pub(crate) fn hidden(name: &str, value: &Value) -> Value {
    if is_secret(name) {
        return Zeroizing::new(HIDDEN.to_owned());
    }
    match password_of(value).filter(|_| name == LOCATION) {
        None => value.clone(),
        Some((start, end)) => {
            Zeroizing::new(format!("{}:{HIDDEN}{}", &value[..start], &value[end..]))
        }
    }
}

/// Puts values in the place of the commands and files that they come from:
/// `NAME_cmd` and `NAME_file`, of options that are secrets. A value that is
/// there goes before a command, and that before a file. `title` names the entry
/// in errors.
///
/// # Errors
///
/// For commands and files that give no value; what they gave is not shown.
pub(crate) fn resolve(section: &mut Section, title: &str) -> Result<()> {
    for suffix in ["_cmd", "_file"] {
        let names: Vec<String> = section.0.keys().filter_map(|key| stem(key, suffix)).collect();
        for name in names {
            let key = format!("{name}{suffix}");
            let Some(from) = section.0.remove(&key).filter(|from| !from.is_empty()) else {
                continue;
            };
            if section.get(&name).is_some() {
                continue;
            }
            let whose = format!("{key} of {title}");
            let has_lines = has_lines(&name);
            let value = if suffix == "_cmd" {
                from_command(&from, has_lines, &whose)?
            } else {
                from_file(&from, has_lines, &whose)?
            };
            check_value(&key, &value)?;
            section.set(&name, value);
        }
    }
    Ok(())
}

/// The option that `key` gets the value of, if it does. Only stock's secrets:
/// rclone has options of its own that end so.
fn stem(key: &str, suffix: &str) -> Option<String> {
    let name = key.strip_suffix(suffix)?;
    is_among(name, &HIDDEN_BY_STOCK).then(|| name.to_owned())
}

/// What a command of the shell writes. What it says on standard error is not
/// shown: it may be as secret.
fn from_command(command: &str, has_lines: bool, whose: &str) -> Result<Value> {
    let failure = |error| Failure::io(format_args!("run {whose}"), error);
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failure)?;
    let read = child.stdout.take().map(|mut output| {
        let text = read_bounded(&mut output);
        // It may write more than is taken; that must not keep it from its end.
        let _ = io::copy(&mut output, &mut io::sink());
        text
    });
    let status = child.wait().map_err(failure)?;
    if !status.success() {
        return Err(Failure::new(Status::Failed, format!("{whose} failed: {status}"))
            .with_advice("Run the command by itself to see what it says."));
    }
    let text = read.unwrap_or_else(|| Ok(Zeroizing::new(Vec::new()))).map_err(failure)?;
    value_of(&text, has_lines, whose)
}

/// What is in a file.
fn from_file(path: &str, has_lines: bool, whose: &str) -> Result<Value> {
    let path = match path.strip_prefix("~/") {
        Some(rest) => machine::home().unwrap_or_default().join(rest),
        None => PathBuf::from(path),
    };
    if !path.is_absolute() {
        return Err(Failure::new(Status::Failed, format!("{whose} is no absolute path"))
            .with_advice("Nobody knows where a run will start: give the whole path, or ~/PATH."));
    }
    let failure = |error| Failure::io(format_args!("read {whose}, {}", path.display()), error);
    let mut file = File::open(&path).map_err(failure)?;
    warn_of_readers(&file, &path);
    let text = read_bounded(&mut file).map_err(failure)?;
    value_of(&text, has_lines, whose)
}

/// Warns of a file with secrets that others may read.
pub(crate) fn warn_of_readers(file: &File, path: &Path) {
    if file.metadata().is_ok_and(|data| data.is_file() && data.mode() & 0o077 != 0) {
        report::warn(&format!(
            "{} holds secrets, and others may open it: chmod 600 keeps them out",
            path.display()
        ));
    }
}

/// Reads one byte more than a value may have.
fn read_bounded(input: &mut impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for all from the start: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(SETTING_VALUE_BYTES_MAX + 2));
    input.take(SETTING_VALUE_BYTES_MAX as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// The first line of a text, or all of it.
fn value_of(text: &[u8], has_lines: bool, whose: &str) -> Result<Value> {
    let text = if has_lines {
        text
    } else {
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        line.strip_suffix(b"\r").unwrap_or(line)
    };
    let failure = |what: &str| Failure::new(Status::Failed, format!("{whose} gives {what}"));
    if text.len() > SETTING_VALUE_BYTES_MAX {
        return Err(failure("more than a value may have"));
    }
    if text.is_empty() {
        return Err(failure("nothing"));
    }
    match std::str::from_utf8(text) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(failure("what is not UTF-8")),
    }
}

/// Reads the value of option `name` of `title`, for which `-` was given: from
/// the terminal, without showing it, or from standard input. There each value is
/// a line, but keys are all the rest.
///
/// # Errors
///
/// Where there is none.
pub(crate) fn ask(name: &str, title: &str) -> Result<Value> {
    let whose = format!("{name} of {title}");
    let stdin = io::stdin();
    if rustix::termios::isatty(&stdin) {
        if has_lines(name) {
            return Err(Failure::usage(format!("{whose} has several lines"))
                .with_advice(format!("Give it as {name}_file=PATH, or on standard input.")));
        }
        let typed = passphrase::ask(&format!("{whose}: "))?;
        return value_of(&typed, true, "the terminal");
    }
    let failure = |error| Failure::io(format_args!("read {whose} from standard input"), error);
    let mut stdin = stdin.lock();
    if has_lines(name) {
        let text = read_bounded(&mut stdin).map_err(failure)?;
        return value_of(&text, true, "standard input");
    }
    let mut line = Zeroizing::new(Vec::with_capacity(SETTING_VALUE_BYTES_MAX + 2));
    let mut bounded = Read::take(&mut stdin, SETTING_VALUE_BYTES_MAX as u64 + 1);
    io::BufRead::read_until(&mut bounded, b'\n', &mut line).map_err(failure)?;
    value_of(&line, false, "standard input")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets() {
        for name in [
            "password",
            "PASSWORD",
            "ssh_private_key",
            "rclone_pass",
            "session_token",
            "secret_access_key",
            "access_key",
            "rclone_key",
            "rclone_password2",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "location",
            "passphrase_cmd",
            "password_file",
            "bypass",
            "host_key",
            "insecure_ignore_host_key",
            "rclone_key_file",
            "username",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn passwords_in_locations() {
        for (location, open, shown) in [
            (
                "sftp://me:p@ss@nas:22/a:b@c",
                "sftp://me@nas:22/a:b@c",
                "sftp://me:********@nas:22/a:b@c",
            ),
            ("s3://:x@host", "s3://@host", "s3://:********@host"),
        ] {
            let value = Zeroizing::new(location.to_owned());
            assert_eq!(without_password(location, LOCATION).unwrap().as_str(), open);
            assert_eq!(hidden(LOCATION, &value).as_str(), shown);
            assert_eq!(without_password(location, "other"), None);
        }
        for location in ["/a:b@c", "sftp://me@nas:22/", "sftp://nas/a:b@c", "x", ""] {
            assert_eq!(without_password(location, LOCATION), None, "{location}");
        }
    }

    fn resolved(key: &str, value: &str) -> Result<Section> {
        let mut section = Section::default();
        section.set(key, Zeroizing::new(value.to_owned()));
        resolve(&mut section, "store nas")?;
        Ok(section)
    }

    #[test]
    fn commands() {
        let section = resolved("passphrase_cmd", "printf 'one\\r\\ntwo\\n'").unwrap();
        assert_eq!(section.get("passphrase"), Some("one"));
        assert_eq!(section.0.len(), 1);
        let key = resolved("ssh_private_key_cmd", "printf 'one\\ntwo\\n'").unwrap();
        assert_eq!(key.get("ssh_private_key"), Some("one\ntwo\n"));
        // More than is taken does not hang.
        let long = resolved("password_cmd", "echo short; yes | head -c 3000000").unwrap();
        assert_eq!(long.get("password"), Some("short"));
        for (command, told) in [
            ("echo hunter2; echo hunter2 >&2; exit 3", "exit status: 3"),
            ("true", "gives nothing"),
            ("printf '\\n'", "gives nothing"),
            ("printf 'hunter2\\377\\n'", "not UTF-8"),
            ("printf 'hunter2\\033\\n'", "control characters"),
            ("yes hunter2 | tr -d '\\n' | head -c 70000", "more than a value"),
        ] {
            let failure = resolved("passphrase_cmd", command).unwrap_err().to_string();
            assert!(failure.contains("passphrase_cmd") && failure.contains(told), "{failure}");
            assert!(!failure.contains("hunter2"), "{failure}");
        }
    }

    #[test]
    fn files_and_what_goes_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        std::fs::write(&path, "from a file\nmore\n").unwrap();
        let path = path.to_str().unwrap();
        assert_eq!(resolved("password_file", path).unwrap().get("password"), Some("from a file"));
        assert!(resolved("password_file", "relative").is_err());
        assert!(resolved("password_file", "/no/such/file").is_err());
        // No secrets of ours.
        for key in ["rclone_key_file", "known_hosts_file", "exclude_cmd"] {
            assert_eq!(resolved(key, "/x").unwrap().get(key), Some("/x"));
        }
        let mut section = Section::default();
        for (key, value) in [
            ("password", "set"),
            ("password_cmd", "exit 1"),
            ("token_cmd", "echo t"),
            ("token_file", path),
        ] {
            section.set(key, Zeroizing::new(value.to_owned()));
        }
        resolve(&mut section, "store nas").unwrap();
        assert_eq!(section.get("password"), Some("set"));
        assert_eq!(section.get("token"), Some("t"));
        assert_eq!(section.0.len(), 2);
    }
}
