//! What a file system cannot keep of what is restored, and that this is said once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What a file system may be unable to keep.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kept {
    Owner,
    Mode,
    Times,
    Attributes,
    Links,
}

/// What was said of a file system that cannot keep everything, so that it is said
/// once by all that write there. A bit for each [`Kept`].
#[derive(Clone, Debug, Default)]
pub struct Told(Arc<AtomicU32>);

impl Told {
    /// Takes note, and says whether it is new.
    pub(super) fn tell(&self, kept: Kept) -> bool {
        let bit = 1 << kept as u32;
        self.0.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    pub(super) fn was_told(&self, kept: Kept) -> bool {
        self.0.load(Ordering::Relaxed) & (1 << kept as u32) != 0
    }
}

impl Kept {
    /// What to say of it, before the name of a place.
    pub(super) fn lack(self) -> &'static str {
        match self {
            Self::Owner => "not all owners can be restored",
            Self::Mode => "not all modes can be restored",
            Self::Times => "not all times can be restored",
            Self::Attributes => "not all extended attributes can be restored",
            Self::Links => "there are no hard links, and each name gets a file of its own,",
        }
    }
}
