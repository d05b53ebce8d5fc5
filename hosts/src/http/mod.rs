//! HTTP/1.1, as far as connectors need it: requests with a body of known
//! length, answers that are read as they come, connections that are kept; and
//! the other side of it, in [`server`] and [`store_server`].
//!
//! No redirect is followed, nothing is decompressed, no cookie is kept. Every
//! part of an answer is bounded, and a server that makes no progress within the
//! time-out is given up. `Expect` is not sent: servers that refuse answer before
//! they have read everything, and are heard then.

pub(crate) mod client;
pub(crate) mod connection;
pub(crate) mod content;
pub(crate) mod date;
pub(crate) mod error;
#[cfg(feature = "http")]
pub mod file;
pub(crate) mod head;
pub(crate) mod response;
pub(crate) mod retry;
#[cfg(test)]
pub(crate) mod scripted;
#[cfg(feature = "http")]
pub mod server;
#[cfg(feature = "http")]
pub mod store;
#[cfg(feature = "http")]
pub mod store_server;

#[cfg(feature = "http")]
pub use file::HttpFile;
#[cfg(feature = "http")]
pub use store::HttpStore;

/// Where a server listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Endpoint {
    /// With TLS.
    pub(crate) is_tls: bool,
    /// Name or number, an IPv6 address without its brackets.
    pub(crate) host: String,
    /// Port, if it is not that of the protocol.
    pub(crate) port: Option<u16>,
}

impl Endpoint {
    /// The port that is connected to.
    pub(crate) fn port(&self) -> u16 {
        self.port.unwrap_or(if self.is_tls { 443 } else { 80 })
    }

    /// What the header `Host` says.
    pub(crate) fn authority(&self) -> String {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        let usual = if self.is_tls { 443 } else { 80 };
        match self.port.filter(|port| *port != usual) {
            Some(port) => format!("{open}{}{close}:{port}", self.host),
            None => format!("{open}{}{close}", self.host),
        }
    }
}
