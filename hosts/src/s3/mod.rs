//! Connector of S3 and the servers that speak it: store, importer, exporter.
//!
//! Requests are signed here (version 4), go to the host that was named and to no
//! other, and carry the SHA-256 of what they send. The bucket's region is found
//! out from what the server says.

mod client;
mod credentials;
mod encryption;
pub mod exporter;
pub mod importer;
#[doc(hidden)]
pub mod listing;
mod place;
mod refusal;
mod sign;
pub mod store;
mod upload;
mod xml;

pub use exporter::S3Exporter;
pub use importer::S3Importer;
pub use store::S3Store;

/// Options that are read here and in [`crate::tls`]. The first nine are stock's.
pub const OPTIONS: [&str; 21] = [
    "access_key",
    "secret_access_key",
    "use_tls",
    "virtual_host",
    "endpoint",
    "port",
    "root",
    "storage_class",
    "sse_customer_key",
    "session_token",
    "region",
    "credentials",
    "profile",
    "timeout",
    "checksum",
    "object_lock_mode",
    "retain_days",
    "metadata",
    "tls_ca",
    "tls_fingerprint",
    "tls_insecure_no_verify",
];
