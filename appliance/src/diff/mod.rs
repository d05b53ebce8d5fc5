//! What `diff` compares: two sides that are walked in the same order, and the
//! content of files.

pub(crate) mod content;
pub(crate) mod side;
mod unified;
