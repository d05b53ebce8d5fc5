//! The engine of tiroir: Kloset stores and `.ptar` archives, byte for byte as
//! stock plakar writes and reads them, without an operating system.
//!
//! From the layer that a program uses to the one that it does not see:
//!
//! - [`snapshot`]: backup, restore, check and the walk of a snapshot;
//! - [`repository`]: a store opened with its key: blobs in, blobs out;
//! - [`ptar`], [`packfile`], [`state`], [`btree`]: the containers;
//! - [`chunker`], [`compression`], [`crypto`], [`codec`]: the algorithms;
//! - [`wire`]: the records, `parse` and `emit`, without IO;
//! - [`store`], [`index`], [`spool`], [`importer`], [`exporter`], [`host`]:
//!   what the engine is lent. It owns no file, socket, clock or thread.
//!
//! Nothing here allocates unless the feature `alloc` is on: memory is lent by
//! the caller, and [`limits`] names every bound.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![warn(clippy::alloc_instead_of_core, clippy::std_instead_of_alloc, clippy::std_instead_of_core)]
#![cfg_attr(
    test,
    allow(clippy::std_instead_of_alloc, reason = "tests have std whatever the features")
)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

pub mod btree;
pub mod chunker;
pub mod codec;
pub mod compression;
pub mod content;
pub mod crypto;
pub mod entropy;
pub mod error;
pub mod exporter;
mod held;
pub mod host;
pub mod importer;
pub mod index;
pub mod limits;
pub mod lock;
pub mod mac;
pub mod order;
pub mod pipeline;
pub mod refresh;
pub mod repository;
pub mod resource;
pub mod session;
pub mod snapshot;
pub mod sort;
pub mod spool;
pub mod store;
#[cfg(feature = "_test")]
pub mod testing;
pub mod time;
pub mod wire;
