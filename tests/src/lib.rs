//! What the tests share: a place of their own to run programs in, trees to back
//! up, and the comparison of two trees.
//!
//! - [`sandbox`]: a folder per test, and the programs run in it: tiroir, stock
//!   plakar, and the engine of plakar 1.0;
//! - [`scene`]: the ways a store can be;
//! - [`oracle`]: where those programs are;
//! - [`tree`]: source trees from a seed, and their next generation;
//! - [`compare`]: what differs between two trees;
//! - [`store`]: the files of a store and of a ptar, as a test damages them;
//! - [`servers`]: servers of all protocols, started for a test, and links that can be cut;
//! - [`http`]: the one request a test makes;
//! - [`peak`]: how much memory a program took at most;
//! - [`kernel`]: older kernels;
//! - [`disks`]: file systems of other sorts;
//! - [`rng`]: seeded numbers.
//!
//! Everything here panics when something does not work: a test that cannot be
//! run has failed. Nothing is skipped, but [`disks`] that a machine cannot have and what
//! `TIROIR_NO_NETNS` leaves out.

pub mod compare;
pub mod disks;
pub mod http;
pub mod kernel;
pub mod oracle;
pub mod peak;
pub mod rng;
pub mod sandbox;
pub mod scene;
pub mod servers;
pub mod store;
pub mod tree;
