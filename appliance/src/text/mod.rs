//! Values as text, to the letter as stock plakar prints them, because scripts
//! read its columns.

pub(crate) mod coloured;
pub(crate) mod duration;
pub(crate) mod json;
pub(crate) mod mode;
pub(crate) mod pattern;
pub(crate) mod printable;
pub(crate) mod redacted;
pub(crate) mod size;
pub(crate) mod time;
