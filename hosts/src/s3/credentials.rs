//! [`Source`]: with which key requests are signed, and where it comes from.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use tiroir_core::host::HostErrorKind;
use zeroize::Zeroizing;

use crate::error::{Context as _, HostsError, Result};
use crate::http::Endpoint;
use crate::http::client::{Client, Payload, Request};
use crate::http::date::parse_rfc3339;
use crate::options::{Options, refused};

/// Longest file of profiles, in bytes.
const PROFILES_BYTES_MAX: u64 = 1 << 20;

/// Longest answer of an instance about itself, in bytes.
const INSTANCE_BYTES_MAX: usize = 16 * 1024;

/// A key is fetched anew when it is good for no longer than this.
const RENEW_SECS: i64 = 300;

/// A key.
#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) access_key: String,
    pub(super) secret_key: Zeroizing<String>,
    /// Of a key that is lent for some hours.
    pub(super) token: Option<Zeroizing<String>>,
    /// When it ends, if that is known.
    pub(super) expires_secs: Option<i64>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// Looks up a variable of the environment.
pub(super) type Environment<'e> = &'e dyn Fn(&str) -> Option<OsString>;

/// Where the key comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// It was given and stays.
    Fixed(Credentials),
    /// The instance of a cloud lends it.
    Instance(Box<Instance>),
}

impl Source {
    /// The key that the options name, or else the environment, or else the file
    /// of profiles.
    pub(super) fn from_options(options: &Options, environment: Environment<'_>) -> Result<Self> {
        let fixed = |found: Option<Credentials>| found.map(Self::Fixed).ok_or_else(none);
        match options.text("credentials") {
            Some("instance") => Ok(Self::Instance(Box::new(Instance::new(options, environment)?))),
            Some("environment") => fixed(from_environment(environment)),
            Some("profile") => from_profile(options, environment).and_then(fixed),
            Some(_) => Err(refused("credentials", "it is environment, profile or instance")),
            None => {
                if let Some(given) = given(options)? {
                    return Ok(Self::Fixed(given));
                }
                if options.text("profile").is_some() {
                    return from_profile(options, environment).and_then(fixed);
                }
                match from_environment(environment) {
                    Some(found) => Ok(Self::Fixed(found)),
                    None => from_profile(options, environment).and_then(fixed),
                }
            }
        }
    }

    /// The key, fetched anew if it is about to end.
    pub(super) fn get(&mut self, now_secs: i64) -> Result<&Credentials> {
        match self {
            Self::Fixed(credentials) => Ok(credentials),
            Self::Instance(instance) => instance.get(now_secs),
        }
    }

    /// Forgets a key that the server took for ended. Returns whether there may
    /// be another one.
    pub(super) fn forget(&mut self) -> bool {
        match self {
            Self::Fixed(_) => false,
            Self::Instance(instance) => instance.held.take().is_some(),
        }
    }
}

fn none() -> HostsError {
    let rule = "there is none: give access_key and secret_access_key, or AWS_ACCESS_KEY_ID and \
                AWS_SECRET_ACCESS_KEY in the environment, or a profile";
    HostsError::rule(HostErrorKind::Other, "find a key for S3", b"", rule)
}

/// What the options say outright.
fn given(options: &Options) -> Result<Option<Credentials>> {
    let secret = |name| options.text(name).map(|text| Zeroizing::new(text.to_owned()));
    match (options.text("access_key"), secret("secret_access_key")) {
        (Some(access_key), Some(secret_key)) => Ok(Some(Credentials {
            access_key: access_key.to_owned(),
            secret_key,
            token: secret("session_token"),
            expires_secs: None,
        })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(refused("access_key", "secret_access_key is missing")),
        (None, Some(_)) => Err(refused("secret_access_key", "access_key is missing")),
    }
}

fn from_environment(environment: Environment<'_>) -> Option<Credentials> {
    let text = |name: &str| {
        let text = environment(name)?.into_string().ok()?;
        Some(Zeroizing::new(text)).filter(|text| !text.is_empty())
    };
    Some(Credentials {
        access_key: text("AWS_ACCESS_KEY_ID")?.to_string(),
        secret_key: text("AWS_SECRET_ACCESS_KEY")?,
        token: text("AWS_SESSION_TOKEN"),
        expires_secs: None,
    })
}

/// Reads a profile of `~/.aws/credentials`, or of the file that the environment
/// names in its place.
fn from_profile(options: &Options, environment: Environment<'_>) -> Result<Option<Credentials>> {
    let in_environment = || environment("AWS_PROFILE").and_then(|name| name.into_string().ok());
    let named = options.text("profile").map(str::to_owned).or_else(in_environment);
    let path = match environment("AWS_SHARED_CREDENTIALS_FILE") {
        Some(path) => PathBuf::from(path),
        None => match environment("HOME") {
            Some(home) => Path::new(&home).join(".aws/credentials"),
            None => return Ok(None),
        },
    };
    let size = match fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
            return Ok(None);
        }
        other => other.at("read the profiles in", &path)?.len(),
    };
    let rule = |rule| {
        use std::os::unix::ffi::OsStrExt as _;
        let path = path.as_os_str().as_bytes();
        HostsError::rule(HostErrorKind::NotFound, "read the profiles in", path, rule)
    };
    if size > PROFILES_BYTES_MAX {
        return Err(rule("the file is too large"));
    }
    let text = Zeroizing::new(fs::read_to_string(&path).at("read the profiles in", &path)?);
    let found = profile(&text, named.as_deref().unwrap_or("default"));
    match (found, named) {
        (None, Some(_)) => Err(rule("it has no such profile, or one without a key")),
        (found, _) => Ok(found),
    }
}

/// Finds a profile in a file of them.
fn profile(text: &str, wanted: &str) -> Option<Credentials> {
    let mut is_wanted = false;
    let (mut access_key, mut secret_key, mut token) = (None, None, None);
    for line in text.lines().map(str::trim) {
        if line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            is_wanted = name.trim() == wanted;
        } else if let Some((name, value)) = line.split_once('=').filter(|_| is_wanted) {
            let value = Some(value.trim()).filter(|value| !value.is_empty());
            match name.trim() {
                "aws_access_key_id" => access_key = value,
                "aws_secret_access_key" => secret_key = value,
                "aws_session_token" => token = value,
                _ => {}
            }
        }
    }
    Some(Credentials {
        access_key: access_key?.to_owned(),
        secret_key: Zeroizing::new(secret_key?.to_owned()),
        token: token.map(|token| Zeroizing::new(token.to_owned())),
        expires_secs: None,
    })
}

/// The service of an instance that tells it about itself, version 2.
#[derive(Debug)]
pub(super) struct Instance {
    client: Client,
    held: Option<Credentials>,
}

impl Instance {
    fn new(options: &Options, environment: Environment<'_>) -> Result<Self> {
        let mut endpoint =
            Endpoint { is_tls: false, host: "169.254.169.254".to_owned(), port: None };
        // The variable that all programs for AWS know.
        let other = environment("AWS_EC2_METADATA_SERVICE_ENDPOINT");
        if let Some(other) = other.and_then(|text| text.into_string().ok()) {
            let rest = other.trim_end_matches('/').strip_prefix("http://");
            let rest = rest.ok_or_else(|| refused("credentials", "the service speaks http://"))?;
            let address = crate::address::Address::parse(rest.as_bytes())?;
            (endpoint.host, endpoint.port) = (address.host, address.port);
        }
        Ok(Self { client: Client::new(endpoint, options)?, held: None })
    }

    fn get(&mut self, now_secs: i64) -> Result<&Credentials> {
        let is_good = self.held.as_ref().is_some_and(|held| {
            held.expires_secs.is_none_or(|expires| expires - now_secs > RENEW_SECS)
        });
        if !is_good {
            self.held = None;
        }
        match &mut self.held {
            // As the borrow checker wants it.
            held @ None => Ok(held.insert(fetch(&mut self.client)?)),
            Some(held) => Ok(held),
        }
    }
}

/// Asks for a session, for the role of the instance, and for its key.
fn fetch(client: &mut Client) -> Result<Credentials> {
    const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
    let lifetime = [pair("X-aws-ec2-metadata-token-ttl-seconds", "300")];
    let session = ask(client, "PUT", "/latest/api/token", &lifetime)?;
    let session = [pair("X-aws-ec2-metadata-token", session.trim())];
    let roles = ask(client, "GET", ROLES, &session)?;
    let role = roles.lines().next().unwrap_or_default().trim();
    let is_role = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
    if role.is_empty() || !role.bytes().all(is_role) {
        return Err(instance_error("the instance has no role"));
    }
    let answer = ask(client, "GET", &format!("{ROLES}{role}"), &session)?;
    let text = |name| json_text(&answer, name);
    match (text("AccessKeyId"), text("SecretAccessKey")) {
        (Some(access_key), Some(secret_key)) => Ok(Credentials {
            access_key: access_key.to_string(),
            secret_key,
            token: text("Token"),
            expires_secs: text("Expiration").and_then(|at| parse_rfc3339(&at)).map(|at| at.secs),
        }),
        _ => Err(instance_error("its answer has no key in it")),
    }
}

fn pair(name: &str, value: &str) -> (String, Zeroizing<String>) {
    (name.to_owned(), Zeroizing::new(value.to_owned()))
}

fn ask(
    client: &mut Client,
    method: &'static str,
    target: &str,
    headers: &[(String, Zeroizing<String>)],
) -> Result<Zeroizing<String>> {
    let payload = if method == "PUT" { Payload::Bytes(b"") } else { Payload::None };
    let request = Request { method, target, headers, payload };
    let failed = |error: crate::http::error::HttpError| error.at(FETCH, b"");
    let mut response = client.send(&request).map_err(failed)?;
    let status = response.status();
    let text = Zeroizing::new(response.read_start(INSTANCE_BYTES_MAX).map_err(failed)?);
    client.finish(response);
    if status != 200 {
        let words = format!("the service of the instance answers {status}");
        return Err(HostsError::remote(HostErrorKind::Other, FETCH, b"", words));
    }
    let text = std::str::from_utf8(&text).map_err(|_| instance_error("its answer is no text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

const FETCH: &str = "fetch the key of the instance";

fn instance_error(rule: &'static str) -> HostsError {
    HostsError::rule(HostErrorKind::Other, FETCH, b"", rule)
}

/// The text under a name in a flat JSON object whose texts have no escapes but
/// of slashes, as that service writes it.
fn json_text(json: &str, name: &str) -> Option<Zeroizing<String>> {
    let at = json.find(&format!("\"{name}\""))?;
    let rest = json.get(at + name.len() + 2..)?.trim_start().strip_prefix(':')?;
    let rest = rest.trim_start().strip_prefix('"')?;
    let text = rest.split_once('"')?.0;
    Some(Zeroizing::new(text.replace("\\/", "/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(options: &[(&str, &str)], environment: &[(&str, &str)]) -> Result<String> {
        let options: Options = options.iter().copied().collect();
        let look = |name: &str| {
            environment.iter().find(|pair| pair.0 == name).map(|pair| OsString::from(pair.1))
        };
        match Source::from_options(&options, &look)? {
            Source::Fixed(found) => {
                Ok(format!("{} {}", found.access_key, found.secret_key.as_str()))
            }
            Source::Instance(_) => Ok("instance".into()),
        }
    }

    #[test]
    fn the_first_source_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("credentials");
        let text = "# x\n[other]\naws_access_key_id=O\naws_secret_access_key = o=o\n\n[default]\n\
                    aws_access_key_id = D\naws_secret_access_key = d\n[empty]\n";
        fs::write(&path, text).unwrap();
        let file = ("AWS_SHARED_CREDENTIALS_FILE", path.to_str().unwrap());
        let environment = [("AWS_ACCESS_KEY_ID", "E"), ("AWS_SECRET_ACCESS_KEY", "e"), file];
        let given = [("access_key", "G"), ("secret_access_key", "g")];
        assert_eq!(key(&given, &environment).unwrap(), "G g");
        assert_eq!(key(&[], &environment).unwrap(), "E e");
        assert_eq!(key(&[], &[file]).unwrap(), "D d");
        assert_eq!(key(&[("profile", "other")], &environment).unwrap(), "O o=o");
        assert_eq!(key(&[("credentials", "profile")], &environment).unwrap(), "D d");
        assert_eq!(key(&[("credentials", "environment")], &environment).unwrap(), "E e");
        assert_eq!(key(&[("credentials", "instance")], &[]).unwrap(), "instance");
        for options in [
            &[("profile", "empty")][..],
            &[("profile", "absent")],
            &[("credentials", "x")],
            &[("access_key", "only")],
            &[("secret_access_key", "only")],
        ] {
            assert!(key(options, &environment).is_err(), "{options:?}");
        }
        assert!(key(&[], &[("HOME", "/nonexistent")]).is_err());
        assert!(key(&[], &[]).unwrap_err().to_string().contains("access_key"));
    }

    #[test]
    fn texts_of_json() {
        let json = "{ \"Code\" : \"Success\", \"Token\" : \"a\\/b==\",\"Expiration\":\"x\" }";
        assert_eq!(json_text(json, "Token").unwrap().as_str(), "a/b==");
        assert_eq!(json_text(json, "Expiration").unwrap().as_str(), "x");
        assert!(json_text(json, "Absent").is_none() && json_text("{\"a\":1}", "a").is_none());
    }
}
