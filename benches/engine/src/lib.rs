//! What the engine takes, with what the program lends it and without the
//! program: to be measured from no files at all up to many, and to be held
//! against what its arithmetic alone would take.

pub mod arithmetic;
pub mod growth;
pub mod plan;
pub mod repository;
pub mod sparse;
pub mod synthetic;
pub mod usage;

/// What goes wrong while something is measured.
pub type Error = Box<dyn std::error::Error>;

/// The result of measuring something.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Bytes in a mebibyte.
pub const MIB: u64 = 1 << 20;

/// Bytes in a gibibyte.
pub const GIB: u64 = 1 << 30;
