//! How fast the machine does what a backup does, and what follows from that.
//!
//! - [`sample`]: what it is tried on;
//! - [`processor`]: the engine's own code, part by part and all together;
//! - [`advice`]: what to choose, by what was found.
//!
//! The disk is tried in [`tiroir_hosts::disk`].

pub(crate) mod advice;
pub(crate) mod processor;
pub(crate) mod sample;

use tiroir_core::compression::Compression;
use tiroir_core::crypto::Suite;
use tiroir_core::mac::HashAlgorithm;
use tiroir_hosts::disk::Transfer;

/// What may be chosen for a store and changes how fast a backup is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Way {
    /// The cipher; none in a plaintext store.
    pub(crate) suite: Option<Suite>,
    /// The compression.
    pub(crate) compression: Compression,
    /// The hash of its MACs.
    pub(crate) hashing: HashAlgorithm,
}

impl Way {
    /// A way with BLAKE3.
    pub(crate) const fn new(suite: Option<Suite>, compression: Compression) -> Self {
        Self { suite, compression, hashing: HashAlgorithm::Blake3 }
    }

    /// Name of the cipher, as `create -cipher` takes it, or of its lack.
    pub(crate) fn cipher_name(&self) -> String {
        self.suite.map_or_else(|| String::from("plaintext"), suite_name)
    }

    /// Name of the compression.
    pub(crate) fn compression_name(&self) -> &'static str {
        self.compression.name().unwrap_or("none")
    }
}

/// Name of a cipher, as `create -cipher` takes it.
pub(crate) fn suite_name(suite: Suite) -> String {
    suite.name().to_ascii_lowercase()
}

/// How fast a backup goes one way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Pace {
    /// What is chosen.
    pub(crate) way: Way,
    /// Bytes that were backed up, and what that took of one core.
    pub(crate) done: Transfer,
    /// What they came to, in bytes.
    pub(crate) stored_bytes: u64,
}

impl Pace {
    /// Seconds of one core that a byte takes.
    pub(crate) fn seconds(&self) -> f64 {
        self.done.time.as_secs_f64() / as_f64(self.done.bytes.max(1))
    }

    /// Bytes that a byte comes to.
    pub(crate) fn ratio(&self) -> f64 {
        as_f64(self.stored_bytes) / as_f64(self.done.bytes.max(1))
    }
}

/// For what is shown in a few digits.
#[expect(clippy::cast_precision_loss, reason = "shown in a few digits")]
pub(crate) fn as_f64(number: u64) -> f64 {
    number as f64
}
