//! Several files at a time, over connections of their own: [`ahead`] reads them before
//! they are wanted, [`behind`] writes them after they were taken. What waits of a
//! distant server is mostly the way there and back, and what waits of a disk is mostly
//! others; neither should have the engine wait.

pub mod ahead;
pub mod behind;
mod listings;

/// Bytes of one block of what was read, or is to be written.
pub const BLOCK_BYTES: usize = 64 * 1024;

/// Stack of a thread, in bytes, of which a few dozen KiB are touched.
const STACK_BYTES: usize = 1024 * 1024;

/// How much is done at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Width {
    /// Threads, each with a connection of its own, beside the one that is there.
    pub threads: usize,
    /// Blocks that wait, of all files together; of one file at most half of them.
    pub blocks: usize,
}

impl Width {
    /// Memory for what waits of files, in bytes. Connections take theirs beside that,
    /// and [`listings_bytes`](Self::listings_bytes).
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.blocks * BLOCK_BYTES
    }

    /// Memory for listings of directories that wait, in bytes.
    #[must_use]
    pub const fn listings_bytes(self) -> usize {
        self.bytes() / 4
    }
}
