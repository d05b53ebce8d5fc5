//! The ways a store can be: in a directory or a ptar, encrypted or not, and
//! with which algorithms. Made by tiroir, or as far as it can by stock.

use std::path::{Path, PathBuf};

use crate::sandbox::{Invocation, PASSPHRASE, Sandbox, Stock};

/// What holds the resources.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Container {
    /// A directory.
    Store,
    /// One file, written once.
    Ptar,
}

/// A way a store can be.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// What holds it.
    pub container: Container,
    /// Whether it has a passphrase, [`PASSPHRASE`].
    pub encrypted: bool,
    /// `LZ4`, `GZIP`, or nothing.
    pub compression: Option<&'static str>,
    /// `BLAKE3` or `SHA256`.
    pub hashing: &'static str,
}

impl Variant {
    /// What `create -plaintext` makes.
    pub const PLAIN: Self = Self {
        container: Container::Store,
        encrypted: false,
        compression: Some("LZ4"),
        hashing: "BLAKE3",
    };

    /// What `create` makes.
    pub const ENCRYPTED: Self = Self { encrypted: true, ..Self::PLAIN };

    /// What `ptar -plaintext` makes.
    pub const PTAR: Self = Self { container: Container::Ptar, ..Self::PLAIN };

    /// What `ptar` makes.
    pub const PTAR_ENCRYPTED: Self = Self { container: Container::Ptar, ..Self::ENCRYPTED };

    /// The passphrase, if it has one.
    #[must_use]
    pub fn passphrase(&self) -> Option<&'static str> {
        self.encrypted.then_some(PASSPHRASE)
    }

    /// Where it lies in a sandbox. The suffix of a ptar is what makes it one.
    #[must_use]
    pub fn path(&self, sandbox: &Sandbox) -> PathBuf {
        sandbox.path(match self.container {
            Container::Store => "store",
            Container::Ptar => "store.ptar",
        })
    }

    /// A short name for messages.
    #[must_use]
    pub fn name(&self) -> String {
        format!(
            "{:?}, {}, {}, {}",
            self.container,
            if self.encrypted { "encrypted" } else { "plain" },
            self.compression.unwrap_or("not compressed"),
            self.hashing
        )
    }

    fn options(&self, invocation: &mut Invocation) {
        if !self.encrypted {
            invocation.arg("-plaintext");
        }
        match self.compression {
            None => {
                invocation.arg("-no-compression");
            }
            // The default, which stock knows no name for.
            Some("LZ4") => {}
            Some(other) => {
                invocation.args(["-compression", other]);
            }
        }
        if self.hashing != "BLAKE3" {
            invocation.args(["-hashing", self.hashing]);
        }
    }

    /// Makes it with tiroir, with one snapshot of `source`.
    ///
    /// # Panics
    ///
    /// When that fails.
    pub fn make_with_tiroir(&self, sandbox: &Sandbox, source: &Path) {
        let store = self.path(sandbox);
        if self.container == Container::Ptar {
            let mut ptar = sandbox.tiroir();
            ptar.passphrase(self.passphrase()).args(["ptar", "-o"]).arg(&store);
            self.options(&mut ptar);
            ptar.arg(source).run().status(0);
            return;
        }
        let mut create = sandbox.at(&store);
        create.passphrase(self.passphrase()).arg("create");
        self.options(&mut create);
        create.run().status(0);
        sandbox.at(&store).passphrase(self.passphrase()).arg("backup").arg(source).run().status(0);
    }

    /// Makes it with stock, with one snapshot of `source`.
    ///
    /// # Panics
    ///
    /// When that fails, and for compression that stock cannot be asked for.
    pub fn make_with_stock(&self, sandbox: &Sandbox, stock: &Stock<'_>, source: &Path) {
        assert_ne!(self.compression, Some("GZIP"), "stock has no option for it");
        let store = self.path(sandbox);
        if self.container == Container::Ptar {
            let mut ptar = stock.plakar();
            ptar.passphrase(self.passphrase()).args(["-quiet", "ptar", "-o"]).arg(&store);
            self.options(&mut ptar);
            ptar.arg(source).run().status(0);
            return;
        }
        let mut create = stock.at(&store);
        create.passphrase(self.passphrase()).arg("create");
        self.options(&mut create);
        create.run().status(0);
        let mut backup = stock.quiet_at(&store);
        backup.passphrase(self.passphrase()).arg("backup").arg(source).run().status(0);
        crate::store::remove_locks(&store);
    }
}

/// The identifiers in the output of `ls -uuid`, newest first.
#[must_use]
pub fn identifiers(listing: &str) -> Vec<String> {
    listing
        .lines()
        .map(|line| line.split_whitespace().nth(1).unwrap_or_default().to_owned())
        .inspect(|id| assert_eq!(id.len(), 64, "no identifier in a line of {listing:?}"))
        .collect()
}
