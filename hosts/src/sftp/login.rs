//! Logging in: keys that were named, an agent's, the usual ones, a password.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::MethodKind;
use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, decode_secret_key};
use zeroize::Zeroizing;

use super::config::HostConfig;
use super::host_key::Verifier;
use crate::error::Result;
use crate::options::Options;

/// Largest file of a private key, in bytes.
const KEY_BYTES_MAX: u64 = 64 * 1024;

/// Most keys of an agent that are tried.
const AGENT_KEYS_MAX: usize = 16;

/// Most times that a server may ask for more.
const ROUNDS_MAX: usize = 8;

/// What there is to log in with.
#[derive(Clone, Default)]
pub(super) struct Credentials {
    pub(super) password: Option<Zeroizing<String>>,
    /// A private key as text.
    inline_key: Option<Zeroizing<String>>,
    passphrase: Option<Zeroizing<String>>,
    /// Files of private keys that were named.
    named: Vec<PathBuf>,
    /// Those that are tried without being named.
    usual: Vec<PathBuf>,
    /// Socket of an agent.
    agent: Option<PathBuf>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("named", &self.named).finish_non_exhaustive()
    }
}

impl Credentials {
    /// What options and OpenSSH's configuration say.
    ///
    /// # Errors
    ///
    /// None now.
    pub(super) fn new(config: &HostConfig, options: &Options, home: &Path) -> Result<Self> {
        let secret = |name: &str| options.text(name).map(|text| Zeroizing::new(text.to_owned()));
        let mut named: Vec<PathBuf> =
            options.text("identity").map(PathBuf::from).into_iter().collect();
        let has_option = !named.is_empty() || options.text("ssh_private_key").is_some();
        if !has_option {
            named.clone_from(&config.identity_files);
        }
        let usual = ["id_ed25519", "id_ecdsa", "id_rsa"].map(|name| home.join(".ssh").join(name));
        let usual = if named.is_empty() && !has_option { usual.to_vec() } else { Vec::new() };
        let given = options.text("ssh_auth_sock").map(str::to_owned);
        let socket = given.or_else(|| config.identity_agent.clone());
        let socket = socket.filter(|socket| socket != "SSH_AUTH_SOCK");
        let socket = socket.or_else(|| std::env::var("SSH_AUTH_SOCK").ok());
        let only_named = config.identities_only == Some(true);
        let agent = socket.filter(|path| !path.is_empty() && path != "none" && !only_named);
        Ok(Self {
            password: None,
            inline_key: secret("ssh_private_key"),
            passphrase: secret("identity_passphrase"),
            named,
            usual,
            agent: agent.map(PathBuf::from),
        })
    }
}

/// A session before it is logged in to.
type Session = Handle<Verifier>;

/// What was tried, and what the server still wants.
struct Attempt<'s> {
    session: &'s mut Session,
    user: &'s str,
    remaining: Vec<MethodKind>,
    notes: Vec<String>,
}

/// Logs in.
///
/// # Errors
///
/// In words: what the server takes, and what was tried.
pub(super) async fn log_in(
    session: &mut Session,
    user: &str,
    credentials: &Credentials,
) -> std::result::Result<(), String> {
    let mut attempt = Attempt { session, user, remaining: Vec::new(), notes: Vec::new() };
    let first = attempt.session.authenticate_none(user).await;
    if attempt.note(first, "no credentials").unwrap_or(false) {
        return Ok(());
    }
    attempt.notes.clear();
    for _ in 0..ROUNDS_MAX {
        let before = attempt.remaining.clone();
        if attempt.round(credentials).await? {
            return Ok(());
        }
        // Partial success changes what remains.
        if attempt.remaining == before {
            break;
        }
    }
    Err(attempt.failure(credentials))
}

impl Attempt<'_> {
    /// Takes note of an answer. Whether we are in, or nothing if the server has
    /// just taken one part of several.
    fn note(
        &mut self,
        result: std::result::Result<AuthResult, russh::Error>,
        what: &str,
    ) -> std::result::Result<bool, String> {
        match result {
            Ok(AuthResult::Success) => Ok(true),
            Ok(AuthResult::Failure { remaining_methods, partial_success }) => {
                self.remaining = remaining_methods.to_vec();
                let outcome =
                    if partial_success { "taken, and more is asked for" } else { "refused" };
                self.notes.push(format!("{what}: {outcome}"));
                Ok(false)
            }
            Err(error) => {
                self.notes.push(format!("{what}: {error}"));
                Err(format!("{what}: {error}"))
            }
        }
    }

    fn takes(&self, method: MethodKind) -> bool {
        self.remaining.contains(&method)
    }

    /// Tries everything that the server takes once.
    async fn round(&mut self, credentials: &Credentials) -> std::result::Result<bool, String> {
        if self.takes(MethodKind::PublicKey) && self.try_keys(credentials).await? {
            return Ok(true);
        }
        let Some(password) = &credentials.password else { return Ok(false) };
        if self.takes(MethodKind::Password) {
            let result = self.session.authenticate_password(self.user, password.as_str()).await;
            if self.note(result, "the password")? {
                return Ok(true);
            }
        }
        if self.takes(MethodKind::KeyboardInteractive) {
            return self.answer_prompts(password).await;
        }
        Ok(false)
    }

    async fn try_keys(&mut self, credentials: &Credentials) -> std::result::Result<bool, String> {
        let before = self.remaining.clone();
        if let Some(text) = &credentials.inline_key {
            let key = decode_secret_key(text, credentials.passphrase.as_ref().map(|p| p.as_str()));
            if self.try_key(key.map_err(|error| error.to_string()), "ssh_private_key").await? {
                return Ok(true);
            }
        }
        for path in &credentials.named {
            if self.try_file(path, credentials).await? {
                return Ok(true);
            }
        }
        if let Some(socket) = &credentials.agent
            && self.remaining == before
            && self.try_agent(socket).await?
        {
            return Ok(true);
        }
        for path in credentials.usual.iter().filter(|path| path.exists()) {
            if self.remaining == before && self.try_file(path, credentials).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn try_file(
        &mut self,
        path: &Path,
        credentials: &Credentials,
    ) -> std::result::Result<bool, String> {
        let passphrase = credentials.passphrase.as_ref().map(|text| text.as_str());
        let key = read_key(path, passphrase);
        self.try_key(key, &format!("key {}", path.display())).await
    }

    async fn try_key(
        &mut self,
        key: std::result::Result<PrivateKey, String>,
        what: &str,
    ) -> std::result::Result<bool, String> {
        let key = match key {
            Ok(key) => key,
            Err(error) => {
                self.notes.push(format!("{what}: {error}"));
                return Ok(false);
            }
        };
        let hash = if key.algorithm().is_rsa() { self.rsa_hash().await } else { None };
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
        let result = self.session.authenticate_publickey(self.user, key).await;
        self.note(result, what)
    }

    /// The best hash for RSA that the server says it takes.
    async fn rsa_hash(&mut self) -> Option<HashAlg> {
        match self.session.best_supported_rsa_hash().await {
            Ok(Some(hash)) => hash,
            // It does not say: all of this century take it.
            Ok(None) | Err(_) => Some(HashAlg::Sha256),
        }
    }

    async fn try_agent(&mut self, socket: &Path) -> std::result::Result<bool, String> {
        let mut agent = match AgentClient::connect_uds(socket).await {
            Ok(agent) => agent,
            Err(error) => {
                self.notes.push(format!("the agent: {error}"));
                return Ok(false);
            }
        };
        let identities = match agent.request_identities().await {
            Ok(identities) => identities,
            Err(error) => {
                self.notes.push(format!("the agent: {error}"));
                return Ok(false);
            }
        };
        for identity in identities.into_iter().take(AGENT_KEYS_MAX) {
            let AgentIdentity::PublicKey { key, comment } = identity else { continue };
            let hash = if key.algorithm().is_rsa() { self.rsa_hash().await } else { None };
            let result =
                self.session.authenticate_publickey_with(self.user, key, hash, &mut agent).await;
            let what = format!("key {comment} of the agent");
            match result {
                Ok(result) => {
                    if self.note(Ok(result), &what)? {
                        return Ok(true);
                    }
                }
                Err(error) => self.notes.push(format!("{what}: {error}")),
            }
            if !self.takes(MethodKind::PublicKey) {
                break;
            }
        }
        Ok(false)
    }

    /// Answers whatever is asked without an echo with the password.
    async fn answer_prompts(&mut self, password: &str) -> std::result::Result<bool, String> {
        let what = "the password, as an answer";
        let started = self.session.authenticate_keyboard_interactive_start(self.user, None).await;
        let mut answer = started.map_err(|error| format!("{what}: {error}"))?;
        for _ in 0..ROUNDS_MAX {
            let prompts = match answer {
                KeyboardInteractiveAuthResponse::Success => return Ok(true),
                KeyboardInteractiveAuthResponse::Failure { remaining_methods, partial_success } => {
                    let result = AuthResult::Failure { remaining_methods, partial_success };
                    return self.note(Ok(result), what);
                }
                KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => prompts,
            };
            let answers = prompts.iter().map(|prompt| match prompt.echo {
                true => String::new(),
                false => password.to_owned(),
            });
            let answers = answers.collect();
            let next = self.session.authenticate_keyboard_interactive_respond(answers).await;
            answer = next.map_err(|error| format!("{what}: {error}"))?;
        }
        Ok(false)
    }

    fn failure(&self, credentials: &Credentials) -> String {
        let methods: Vec<String> =
            self.remaining.iter().map(|method| format!("{method:?}").to_lowercase()).collect();
        let mut text = format!("{} may log in by {}", self.user, methods.join(", "));
        if self.notes.is_empty() {
            text.push_str("; there was nothing to try");
            if credentials.password.is_none() {
                text.push_str(": give identity=FILE or password=TEXT, or run an agent");
            }
        } else {
            text.push_str(&format!("; tried {}", self.notes.join("; ")));
        }
        text
    }
}

/// Reads a private key.
fn read_key(path: &Path, passphrase: Option<&str>) -> std::result::Result<PrivateKey, String> {
    use std::io::Read as _;
    let mut text = Zeroizing::new(String::new());
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let read = file.take(KEY_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|_| "it is no private key".to_owned())?;
    decode_secret_key(&text, passphrase).map_err(|error| match error {
        russh::keys::Error::KeyIsEncrypted => {
            "it is encrypted: give identity_passphrase, or load it into an agent".to_owned()
        }
        _ if passphrase.is_some() => format!("{error} (is the passphrase right?)"),
        other => other.to_string(),
    })
}
