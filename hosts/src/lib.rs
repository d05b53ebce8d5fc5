//! What tiroir's engine is lent on an operating system.
//!
//! - [`env`](mod@env): [`SystemHost`](env::SystemHost), the clock, entropy and
//!   spools of a program; [`content_type`] guesses what a file is;
//! - [`durable`]: what outlasts a power cut;
//! - [`spool`]: temporary storage in a file without a name;
//! - [`index`]: which blob lies where, in a database on disk;
//! - [`link_table`]: which file of a restore has which further names;
//! - [`fs`]: importer, exporter and store of local file systems;
//! - [`options`] and [`address`]: what a connector to a server is told;
//! - [`tls`]: whom a TLS connection trusts;
//! - [`rate`]: how many bytes go over the network in a second;
//! - [`remote`]: what servers with files and directories have in common;
//! - [`sftp`]: files over SSH;
//! - [`http`]: what connectors that speak HTTP share, and the client of a server of stores;
//! - [`s3`]: importer, exporter and store of S3;
//! - [`sqlite`]: a store in a database file;
//! - [`staging`]: what waits to be uploaded;
//! - [`ftp`]: servers that speak FTP;
//! - [`stdio`]: importer of what comes through a pipe;
//! - [`tar`]: exporter that writes a tar archive;
//! - [`ptar`]: a store in one file;
//! - [`mapped`]: memory of the kernel's; [`arena`]: that for a key derivation;
//! - [`disk`]: how fast a disk is; [`cpu`]: time of a processor;
//! - [`workers`]: threads that encode what a backup stores;
//! - [`error`]: the one error of all of these;
//! - `contract`: the suite that every store connector passes, for tests.
//!
//! Memory is bounded everywhere, and the comment of each type says by what.
//! Nothing here knows of snapshots, keys or codecs: connectors move bytes, and
//! what they mean is the engine's business.

#![warn(missing_docs)]
#![cfg_attr(
    not(feature = "default"),
    allow(
        dead_code,
        unreachable_code,
        unused_variables,
        reason = "what connectors share is there, whichever of them are"
    )
)]

// `rustix` takes musl's times for 64 bits there, and `libc` only where it is told so:
// files would be restored with wrong times.
#[cfg(all(target_arch = "mips", target_env = "musl"))]
#[allow(deprecated, reason = "it is 64 bits, or this does not compile")]
const _: () = assert!(
    size_of::<libc::time_t>() == 8,
    "MIPS with musl needs RUSTFLAGS=--cfg=libc_unstable_musl_v1_2, as in scripts/build"
);

mod abandoned;
pub mod address;
#[expect(unsafe_code, reason = "takes bytes for blocks")]
pub mod arena;
pub mod content_type;
#[cfg(any(test, feature = "_test"))]
pub mod contract;
#[expect(unsafe_code, reason = "calls the C library")]
pub mod cpu;
pub mod disk;
pub mod durable;
pub mod env;
pub mod error;
pub mod fs;
#[cfg(feature = "ftp")]
pub mod ftp;
#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(feature = "_http")]
pub mod http;
pub mod index;
pub mod link_table;
#[expect(unsafe_code, reason = "maps memory")]
pub mod mapped;
pub mod options;
pub mod parallel;
pub mod ptar;
pub mod rate;
#[cfg(any(feature = "sftp", feature = "_tls"))]
mod reach;
pub mod remote;
mod resources;
#[cfg(feature = "s3")]
pub mod s3;
pub mod sftp;
pub mod snapshot;
pub mod spool;
#[cfg(feature = "sqlite-store")]
pub mod sqlite;
pub mod staging;
pub mod stdio;
pub mod tar;
#[cfg(test)]
mod testing;
mod times;
#[cfg(feature = "_tls")]
pub mod tls;
mod warn;
pub mod workers;

// Features add up over all that is built together; that one takes away.
const _: () = assert!(
    tiroir_core::limits::PATH_BYTES_MAX >= 4096,
    "the feature `small` of tiroir-core is for devices, not for operating systems"
);
