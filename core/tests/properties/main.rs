//! What holds for any record, any key and any tree: the properties that need
//! no look inside. Those that do lie beside the code.
#![cfg(feature = "_test")]
#![expect(clippy::unwrap_used, reason = "tests")]

mod chunks;
mod crypto;
mod paths;
mod records;
mod strategies;
mod trees;
