//! Whether a server has the key that is known of it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use russh::client::Handler;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{Preferred, cipher, kex, mac};

use super::known_hosts::{Known, Marker, known};
use crate::error::Result;

/// What is known of the keys of a host.
#[derive(Clone, Debug)]
pub(super) struct HostKeys {
    /// Name that the host is known under.
    pub(super) name: String,
    /// Name that a certificate must be for.
    host: String,
    /// Where that is written.
    pub(super) files: Vec<PathBuf>,
    known: Vec<Known>,
    /// Anybody is the host.
    insecure: bool,
    /// Take note of the key, and go no further.
    pub(super) only_ask: bool,
    /// The key that the server has shown.
    pub(super) offered: Arc<Mutex<Option<PublicKey>>>,
}

impl HostKeys {
    /// # Errors
    ///
    /// A file that is there and cannot be read.
    pub(super) fn new(
        name: String,
        host: &str,
        files: Vec<PathBuf>,
        insecure: bool,
    ) -> Result<Self> {
        let known = known(&files, &name)?;
        let host = host.to_ascii_lowercase();
        Ok(Self { name, host, files, known, insecure, only_ask: false, offered: Arc::default() })
    }

    fn of(&self, marker: Marker) -> impl Iterator<Item = &Known> {
        self.known.iter().filter(move |known| known.marker == marker)
    }

    /// Why a key is not to be trusted, if it is not.
    fn judge(&self, key: &PublicKey) -> Option<String> {
        let is_same = |known: &&Known| known.key.key_data() == key.key_data();
        let fingerprint = key.fingerprint(HashAlg::Sha256);
        if let Some(revoked) = self.of(Marker::Revoked).find(is_same) {
            let (path, line) = &revoked.place;
            return Some(format!("its key is revoked: {}, line {line}", path.display()));
        }
        if self.of(Marker::Host).any(|known| is_same(&known)) {
            return None;
        }
        let algorithm = key.algorithm();
        match self.of(Marker::Host).next() {
            Some(other) => {
                let (path, line) = &other.place;
                Some(format!(
                    "ITS KEY HAS CHANGED: {fingerprint} ({algorithm}) is not that of {}, line \
                     {line}. Either somebody is in between, or the server was set up anew; \
                     then remove that line",
                    path.display()
                ))
            }
            None => Some(format!(
                "its key is not known: {fingerprint} ({algorithm}). If that is the right one, \
                 say so with `tiroir ssh-trust`"
            )),
        }
    }

    /// Why a certificate is not to be trusted, if it is not.
    fn judge_certificate(&self, certificate: &Certificate) -> Option<String> {
        let authorities = self.of(Marker::Authority);
        let authorities: Vec<_> =
            authorities.map(|known| known.key.fingerprint(HashAlg::Sha256)).collect();
        let is_for_host = certificate.cert_type() == CertType::Host
            && certificate.valid_principals().iter().any(|name| {
                name.eq_ignore_ascii_case(&self.host) || name.eq_ignore_ascii_case(&self.name)
            })
            && certificate.critical_options().is_empty();
        let is_revoked = self.of(Marker::Revoked).any(|known| {
            known.key.key_data() == certificate.public_key()
                || known.key.key_data() == certificate.signature_key()
        });
        if is_revoked {
            return Some("its certificate is revoked".into());
        }
        match certificate.validate(&authorities) {
            Ok(()) if is_for_host => None,
            Ok(()) => Some(format!("its certificate is not for {}", self.host)),
            Err(_) => Some("its certificate is of no known authority, or not of this time".into()),
        }
    }
}

/// Decides about the key of a server in a key exchange.
#[derive(Debug)]
pub(super) struct Verifier {
    keys: HostKeys,
    verdict: Arc<Mutex<Option<String>>>,
}

impl Verifier {
    pub(super) fn new(keys: &HostKeys) -> Self {
        Self { keys: keys.clone(), verdict: Arc::default() }
    }

    /// Where it says why it refused.
    pub(super) fn verdict(&self) -> Arc<Mutex<Option<String>>> {
        Arc::clone(&self.verdict)
    }
}

impl Handler for Verifier {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        offered: &PublicKeyOrCertificate,
    ) -> std::result::Result<bool, russh::Error> {
        let refusal = match offered {
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                if let Ok(mut slot) = self.keys.offered.lock() {
                    *slot = Some(key.clone());
                }
                if self.keys.only_ask { Some(String::new()) } else { self.keys.judge(key) }
            }
            PublicKeyOrCertificate::Certificate(certificate) => {
                self.keys.judge_certificate(certificate)
            }
        };
        let Some(words) = refusal.filter(|_| !self.keys.insecure || self.keys.only_ask) else {
            return Ok(true);
        };
        if let Ok(mut verdict) = self.verdict.lock() {
            *verdict = Some(words);
        }
        Ok(false)
    }
}

/// Whether this processor has instructions for AES. Where it does, GCM costs a
/// fraction of what ChaCha20 does, on most servers too; in software it is slower.
fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes")
        && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    false
}

/// Algorithms in the order in which they are wanted: of keys first those that are
/// known of the host, so that it shows one of these.
pub(super) fn preferences(keys: &HostKeys, legacy: bool) -> Preferred {
    let mut wanted = Preferred::DEFAULT;
    let is_old = |algorithm: &Algorithm| *algorithm == Algorithm::Rsa { hash: None };
    let mut key: Vec<Algorithm> =
        wanted.key.iter().filter(|algorithm| legacy || !is_old(algorithm)).cloned().collect();
    let known: Vec<Algorithm> = keys.of(Marker::Host).map(|known| known.key.algorithm()).collect();
    let is_known = |algorithm: &Algorithm| {
        known.iter().any(|known| match (known, algorithm) {
            (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
            (known, other) => known == other,
        })
    };
    key.sort_by_key(|algorithm| !is_known(algorithm));
    if keys.of(Marker::Authority).next().is_some() && !keys.only_ask {
        wanted.host_key_certificates = key.clone().into();
    }
    wanted.key = key.into();
    if has_aes() {
        let mut ciphers = wanted.cipher.to_vec();
        ciphers.sort_by_key(|name| *name != cipher::AES_256_GCM);
        wanted.cipher = ciphers.into();
    }
    if legacy {
        let old = [kex::DH_GEX_SHA1, kex::DH_G14_SHA1, kex::DH_G1_SHA1];
        wanted.kex = [&wanted.kex[..], &old].concat().into();
        let old = [cipher::AES_256_CBC, cipher::AES_192_CBC, cipher::AES_128_CBC];
        wanted.cipher = [&wanted.cipher[..], &old].concat().into();
        let old = [mac::HMAC_SHA1_ETM, mac::HMAC_SHA1];
        wanted.mac = [&wanted.mac[..], &old].concat().into();
    }
    wanted
}
