//! Stock's `plakar server`, over a store in a folder.

use std::path::PathBuf;

use crate::http::free_port;
use crate::sandbox::{Running, Sandbox};

/// A server of one store.
#[derive(Debug)]
pub struct PlakarServer {
    sandbox: Sandbox,
    running: Option<Running>,
    /// Where it listens.
    pub port: u16,
}

impl PlakarServer {
    /// A server that is not running yet, over a store that is not made yet.
    #[must_use]
    pub fn new() -> Self {
        Self { sandbox: Sandbox::new(), running: None, port: free_port() }
    }

    /// The folder of the store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.sandbox.path("store")
    }

    /// Makes the store, and serves it.
    ///
    /// # Panics
    ///
    /// When it does not work.
    pub fn create(&mut self, allow_delete: bool) {
        drop(self.sandbox.stock().quiet_at(self.store()).args(["create", "-plaintext"]).run().ok());
        let stock = self.sandbox.stock();
        let mut server = stock.quiet_at(self.store());
        server.arg("server").arg("-listen").arg(format!("127.0.0.1:{}", self.port));
        if allow_delete {
            server.arg("-allow-delete");
        }
        self.running = Some(server.start());
        let (status, _) = crate::http::get(self.port, "/");
        assert_eq!(status, 200, "stock's server does not serve");
    }
}

impl Default for PlakarServer {
    fn default() -> Self {
        Self::new()
    }
}
