//! [`Host`]: clock, entropy and temporary storage, lent to the engine.

use core::error::Error;

use crate::spool::Spool;
use crate::time::Timestamp;

/// What went wrong with something lent, as far as the engine cares.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HostErrorKind {
    /// The thing asked for is not there.
    NotFound,
    /// The thing to create is there already.
    AlreadyExists,
    /// Not allowed.
    PermissionDenied,
    /// No space left.
    NoSpace,
    /// All that was said in this refresh is lost, and has to be said again.
    Lost,
    /// The medium fails to read or write what is there (`EIO`): what lies beside it may
    /// be whole.
    Medium,
    /// Anything else.
    Other,
}

/// An error of something lent.
pub trait HostError: Error + 'static {
    /// Its kind.
    fn kind(&self) -> HostErrorKind;
}

/// Clock, entropy and temporary storage.
pub trait Host {
    /// The error of everything lent to one engine.
    type Error: HostError;
    /// Temporary storage.
    type Spool: Spool<Error = Self::Error>;

    /// The time.
    fn now(&mut self) -> Timestamp;

    /// Fills `out` with bytes fit for keys.
    ///
    /// # Errors
    ///
    /// The host's; `out` must not be used then.
    fn fill_random(&mut self, out: &mut [u8]) -> Result<(), Self::Error>;

    /// A new and empty spool, gone when it is dropped.
    ///
    /// # Errors
    ///
    /// The host's.
    fn spool(&mut self) -> Result<Self::Spool, Self::Error>;

    /// Content type of a file, guessed from its first bytes and its name.
    /// Never empty, and at most
    /// [`CONTENT_TYPE_BYTES_MAX`](crate::limits::CONTENT_TYPE_BYTES_MAX) long.
    fn content_type(&mut self, name: &[u8], first: &[u8]) -> &'static str;

    /// Whether the work should stop: asked often, so it must be cheap.
    fn cancelled(&mut self) -> bool {
        false
    }
}
