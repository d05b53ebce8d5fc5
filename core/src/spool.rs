//! [`Spool`]: temporary storage that grows where memory may not.

/// Temporary storage: written at the end, read anywhere.
///
/// An implementation buffers: the engine appends and reads a few dozen bytes
/// at a time.
pub trait Spool {
    /// The host's error.
    type Error;

    /// Bytes held.
    fn len(&self) -> u64;

    /// Whether nothing is held.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds all of `bytes` at the end.
    ///
    /// # Errors
    ///
    /// The host's; the spool is then good for dropping only.
    fn append(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Fills all of `into` with the bytes at `offset_bytes`. The engine never
    /// reads past [`len`](Self::len).
    ///
    /// # Errors
    ///
    /// The host's.
    fn read_at(&mut self, offset_bytes: u64, into: &mut [u8]) -> Result<(), Self::Error>;

    /// Forgets everything from `len` on.
    ///
    /// # Errors
    ///
    /// The host's.
    fn truncate(&mut self, len: u64) -> Result<(), Self::Error>;
}
