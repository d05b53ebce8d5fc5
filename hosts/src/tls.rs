//! Whom a TLS connection trusts: authorities, a certificate that was named, or
//! anybody.
//!
//! Appliances have certificates that they made themselves, often marked as those
//! of an authority, which the rules of the web refuse for a server. So a
//! certificate that the user named, by its file or its fingerprint, is taken as it
//! is, whatever its name, its dates and its marks say: nobody else can have the
//! key to it. An unknown one is refused with its fingerprint in the error.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};
use sha2::{Digest as _, Sha256};
use tiroir_core::host::HostErrorKind;

use crate::error::{Context as _, HostsError, Result};
use crate::options::{Options, refused};

/// Options that are read here: for connectors to list with their own.
pub const OPTIONS: [&str; 3] = ["tls_ca", "tls_fingerprint", "tls_insecure_no_verify"];

/// Largest file of certificates, in bytes.
const CERTIFICATES_BYTES_MAX: u64 = 1 << 20;

/// Most certificates in such a file.
const CERTIFICATES_MAX: usize = 512;

/// Whom to trust.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Certificates of servers, and of authorities beside those built in.
    certificates: Vec<CertificateDer<'static>>,
    /// SHA-256 of the certificate of the server.
    fingerprint: Option<[u8; 32]>,
    /// Anybody.
    insecure: bool,
}

impl Trust {
    /// What the options say:
    ///
    /// - `tls_ca`: a file of certificates in PEM, of authorities or of the server
    ///   itself; else the one that `SSL_CERT_FILE` names;
    /// - `tls_fingerprint`: SHA-256 of the server's certificate, in hexadecimal
    ///   digits, with or without colons;
    /// - `tls_insecure_no_verify`: whoever answers is the server.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or holds no certificate, and values that are
    /// not understood.
    pub fn from_options(options: &Options) -> Result<Self> {
        let named = options.text("tls_ca").map(Into::into);
        let path = named.or_else(|| std::env::var_os("SSL_CERT_FILE").filter(|p| !p.is_empty()));
        Ok(Self {
            certificates: path.map_or_else(|| Ok(Vec::new()), |path| read(Path::new(&path)))?,
            fingerprint: options.text("tls_fingerprint").map(parse_fingerprint).transpose()?,
            insecure: options.flag("tls_insecure_no_verify")?,
        })
    }

    /// The configuration of a client, which keeps sessions to resume. Share one
    /// between the connections that belong together.
    ///
    /// # Errors
    ///
    /// None known.
    pub fn client(self) -> Result<Arc<ClientConfig>> {
        self.client_of(rustls::DEFAULT_VERSIONS)
    }

    /// The same for some versions of TLS only, where a protocol has its reasons.
    ///
    /// # Errors
    ///
    /// Versions that are none.
    pub fn client_of(
        self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<Arc<ClientConfig>> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        // One of a server is no authority: it is compared as a whole.
        roots.add_parsable_certificates(self.certificates.iter().cloned());
        let verifier = Verifier { trust: self, roots, provider: Arc::clone(&provider) };
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| HostsError::remote(HostErrorKind::Other, "set up TLS", b"", error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}

/// Reads certificates in PEM.
pub(crate) fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let rule = |rule| {
        use std::os::unix::ffi::OsStrExt as _;
        let path = path.as_os_str().as_bytes();
        HostsError::rule(HostErrorKind::Other, "read certificates", path, rule)
    };
    if std::fs::metadata(path).at("read certificates", path)?.len() > CERTIFICATES_BYTES_MAX {
        return Err(rule("the file is too large"));
    }
    let text = std::fs::read(path).at("read certificates", path)?;
    let found: std::result::Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(&text).take(CERTIFICATES_MAX).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(rule("there is none in PEM")),
        Err(_) => Err(rule("one is damaged")),
    }
}

fn parse_fingerprint(text: &str) -> Result<[u8; 32]> {
    let wrong = || refused("tls_fingerprint", "it is 64 hexadecimal digits");
    let text = text.strip_prefix("SHA256:").unwrap_or(text);
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let mut out = [0; 32];
    if digits.len() != 2 * out.len() {
        return Err(wrong());
    }
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| !pair.starts_with('+'));
        *byte = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or_else(wrong)?;
    }
    Ok(out)
}

fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

/// The form that OpenSSL shows, and that `tls_fingerprint` takes.
fn shown(fingerprint: &[u8; 32]) -> String {
    let mut text = String::new();
    for (index, byte) in fingerprint.iter().enumerate() {
        let colon = if index == 0 { "" } else { ":" };
        let _ = write!(text, "{colon}{byte:02X}");
    }
    text
}

/// Decides about the certificate of a server.
#[derive(Debug)]
struct Verifier {
    trust: Trust,
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    /// Whether the user named this very certificate, or trusts anybody.
    fn is_named(&self, certificate: &CertificateDer<'_>) -> bool {
        self.trust.insecure
            || self.trust.fingerprint == Some(fingerprint(certificate))
            || self.trust.certificates.iter().any(|known| known == certificate)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, Error> {
        if self.is_named(end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        let offered = shown(&fingerprint(end_entity));
        if self.trust.fingerprint.is_some() {
            return Err(Error::General(format!(
                "the server has another certificate than tls_fingerprint says: {offered}"
            )));
        }
        let algorithms = self.provider.signature_verification_algorithms.all;
        let verified = rustls::server::ParsedCertificate::try_from(end_entity).and_then(|parsed| {
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                &self.roots,
                intermediates,
                now,
                algorithms,
            )?;
            rustls::client::verify_server_name(&parsed, server_name)
        });
        match verified {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(error) => Err(Error::General(format!(
                "the certificate is not trusted ({error}). If it is the right one, give \
                 tls_fingerprint={offered}"
            ))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_both_ways() {
        let bytes: [u8; 32] = std::array::from_fn(|index| u8::try_from(index * 7).unwrap_or(0));
        assert_eq!(parse_fingerprint(&shown(&bytes)).unwrap(), bytes);
        assert_eq!(parse_fingerprint(&shown(&bytes).replace(':', "")).unwrap(), bytes);
        for text in ["", "ab", &"zz".repeat(32), &"+1".repeat(32)] {
            assert!(parse_fingerprint(text).is_err(), "{text}");
        }
    }

    #[test]
    fn options_are_understood() {
        let trust = |pairs: &[(&str, &str)]| {
            Trust::from_options(&pairs.iter().map(|&(name, value)| (name, value)).collect())
        };
        assert!(trust(&[]).unwrap().client().is_ok());
        assert!(trust(&[("tls_insecure_no_verify", "true")]).unwrap().insecure);
        assert!(trust(&[("tls_ca", "/nonexistent")]).is_err());
        assert!(trust(&[("tls_ca", "/dev/null")]).is_err());
        assert!(trust(&[("tls_fingerprint", "x")]).is_err());
    }
}
