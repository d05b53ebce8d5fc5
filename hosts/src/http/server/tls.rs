//! [`Identity`]: the certificate of a server, and its key.

use std::fmt;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use tiroir_core::host::HostErrorKind;
use zeroize::Zeroizing;

use crate::error::{Context as _, HostsError, Result};
use crate::tls;

/// Largest file of a key, in bytes.
const KEY_BYTES_MAX: u64 = 64 * 1024;

/// The certificate of a server with those that lead to its authority, and its
/// key.
#[derive(Clone)]
pub struct Identity(pub(super) Arc<ServerConfig>);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It holds the key.
        f.write_str("Identity")
    }
}

impl Identity {
    /// Reads both from files in PEM.
    ///
    /// # Errors
    ///
    /// Files that cannot be read, hold neither, or do not belong together.
    pub fn read(certificates: &Path, key: &Path) -> Result<Self> {
        const READ_KEY: &str = "read the key of the certificate";
        let chain = tls::read(certificates)?;
        let mut text = Zeroizing::new(Vec::new());
        let file = std::fs::File::open(key).at(READ_KEY, key)?;
        file.take(KEY_BYTES_MAX).read_to_end(&mut text).at(READ_KEY, key)?;
        let secret = PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
            let path = key.as_os_str().as_bytes();
            let rule = "there is none in PEM, without a passphrase";
            HostsError::rule(HostErrorKind::Other, READ_KEY, path, rule)
        })?;
        let wrong = |error: rustls::Error| {
            let path = certificates.as_os_str().as_bytes();
            HostsError::remote(HostErrorKind::Other, "serve with the certificate", path, error)
        };
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(rustls::DEFAULT_VERSIONS)
            .map_err(wrong)?;
        let mut config =
            builder.with_no_client_auth().with_single_cert(chain, secret).map_err(wrong)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }
}
