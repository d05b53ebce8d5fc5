//! Records: `parse` and `emit`, without IO and without policy.

pub mod file_info;
pub mod mode;
