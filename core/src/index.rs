//! [`Index`]: which blob lies where, as all states of a store say.

use core::ops::ControlFlow;

use crate::mac::Mac;
use crate::resource::{ResourceKind, Version};
use crate::time::Timestamp;

/// Where a blob lies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Location {
    /// Name of the packfile.
    pub packfile: Mac,
    /// Start of the encoded blob, in bytes from the start of the packfile's
    /// payload.
    pub offset_bytes: u64,
    /// Length of the encoded blob, in bytes.
    pub length_bytes: u32,
}

/// The place of a packfile among those of a store, in the order in which they
/// were written.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct PackfilePlace {
    /// When it was written, as the state says that introduced it.
    pub declared: Timestamp,
    /// Its name, among those of the same moment.
    pub name: Mac,
}

/// Receives what a state says, entry by entry. Section 10.2 of the format.
pub trait StateSink {
    /// The host's error.
    type Error;

    /// A blob lies there.
    ///
    /// # Errors
    ///
    /// The host's.
    fn location(&mut self, kind: ResourceKind, mac: &Mac, at: &Location)
    -> Result<(), Self::Error>;

    /// A packfile exists, and this state introduced it.
    ///
    /// # Errors
    ///
    /// The host's.
    fn packfile(&mut self, packfile: &Mac, state: &Mac, when: Timestamp)
    -> Result<(), Self::Error>;

    /// A resource is to be deleted: a snapshot, or a packfile after its grace.
    ///
    /// # Errors
    ///
    /// The host's.
    fn coloured(
        &mut self,
        kind: ResourceKind,
        mac: &Mac,
        when: Timestamp,
    ) -> Result<(), Self::Error>;

    /// The location of a blob in that packfile is no longer valid.
    ///
    /// # Errors
    ///
    /// The host's.
    fn delete_location(
        &mut self,
        kind: ResourceKind,
        mac: &Mac,
        packfile: &Mac,
    ) -> Result<(), Self::Error>;

    /// A resource is not to be deleted after all.
    ///
    /// # Errors
    ///
    /// The host's.
    fn delete_colour(&mut self, kind: ResourceKind, mac: &Mac) -> Result<(), Self::Error>;

    /// A packfile is gone, with all that it held, whatever any other state
    /// says, in whatever order they are read: names are never used again.
    ///
    /// # Errors
    ///
    /// The host's.
    fn delete_packfile(&mut self, packfile: &Mac) -> Result<(), Self::Error>;
}

/// Which blob lies where: the sum of all states, and of what is being written.
///
/// A blob is *usable* if a location says where it is, its packfile is declared
/// and not deleted, and its packfile is not coloured.
pub trait Index: StateSink {
    /// A usable location of a blob that a state says of.
    ///
    /// # Errors
    ///
    /// The host's.
    fn find(&mut self, kind: ResourceKind, mac: &Mac) -> Result<Option<Location>, Self::Error>;

    /// Whether a blob has a usable location, or was added.
    ///
    /// # Errors
    ///
    /// The host's.
    fn contains(&mut self, kind: ResourceKind, mac: &Mac) -> Result<bool, Self::Error>;

    /// Whether a blob may have a location, without looking at any disk: `false`
    /// is sure, `true` says little. For what is known from elsewhere to be
    /// there, and is made anew if it is not.
    ///
    /// # Errors
    ///
    /// The host's.
    fn may_contain(&mut self, kind: ResourceKind, mac: &Mac) -> Result<bool, Self::Error>;

    /// Remembers a blob that is being written, until the index is dropped. It
    /// is not there yet.
    ///
    /// # Errors
    ///
    /// The host's.
    fn add(&mut self, kind: ResourceKind, mac: &Mac) -> Result<(), Self::Error>;

    /// The usable, uncoloured snapshot whose identifier is the lowest above
    /// `after`.
    ///
    /// # Errors
    ///
    /// The host's.
    fn next_snapshot(&mut self, after: Option<&Mac>) -> Result<Option<Mac>, Self::Error>;

    /// The state whose name is the lowest above `after`, of those that were
    /// listed by the last refresh and read.
    ///
    /// # Errors
    ///
    /// The host's.
    fn next_state(&mut self, after: Option<&Mac>) -> Result<Option<Mac>, Self::Error>;

    /// The usable packfile that follows `after`, or the first, in the order in
    /// which they were written.
    ///
    /// # Errors
    ///
    /// The host's.
    fn next_packfile(
        &mut self,
        after: Option<&PackfilePlace>,
    ) -> Result<Option<PackfilePlace>, Self::Error>;

    /// How often the index was made anew since it was opened: what it says then
    /// may be more than what it said before.
    fn remakes(&self) -> u32 {
        0
    }

    /// Calls `each` with the usable locations in a packfile, in the order in
    /// which they lie there, until told to stop.
    ///
    /// # Errors
    ///
    /// The host's.
    fn each_located(
        &mut self,
        packfile: &Mac,
        each: &mut dyn FnMut(ResourceKind, &Mac, &Location) -> ControlFlow<()>,
    ) -> Result<(), Self::Error>;

    /// Notes that a blob is needed, for [`has_needed`](Self::has_needed):
    /// cheaper for many than to look each up.
    ///
    /// # Errors
    ///
    /// The host's.
    fn need(&mut self, kind: ResourceKind, mac: &Mac) -> Result<(), Self::Error>;

    /// Whether all blobs that were needed since the last call have usable
    /// locations.
    ///
    /// # Errors
    ///
    /// The host's.
    fn has_needed(&mut self) -> Result<bool, Self::Error>;

    /// Marks a resource, for as long as this index lives and no longer.
    /// Returns whether it was marked before.
    ///
    /// # Errors
    ///
    /// The host's.
    fn mark(&mut self, kind: ResourceKind, mac: &Mac) -> Result<bool, Self::Error>;

    /// Whether a resource is marked.
    ///
    /// # Errors
    ///
    /// The host's.
    fn is_marked(&mut self, kind: ResourceKind, mac: &Mac) -> Result<bool, Self::Error>;

    /// Starts to bring the index up to date: everything until
    /// [`end_refresh`](Self::end_refresh) belongs to one transaction.
    ///
    /// # Errors
    ///
    /// The host's.
    fn begin_refresh(&mut self) -> Result<(), Self::Error>;

    /// A state exists in the store. Returns whether it is read already.
    ///
    /// # Errors
    ///
    /// The host's.
    fn state_listed(&mut self, state: &Mac) -> Result<bool, Self::Error>;

    /// All states of the store were listed. An index that has read one which is not
    /// among them knows what the store may not have, and must forget it all: the
    /// store was put back from a copy, or is another copy than the last time.
    ///
    /// # Errors
    ///
    /// The host's, of kind [*lost*](crate::host::HostErrorKind::Lost) when it was
    /// forgotten, and everything has to be told anew.
    fn all_states_listed(&mut self) -> Result<(), Self::Error>;

    /// A state that is listed, and neither read, noted, nor unreadable.
    ///
    /// # Errors
    ///
    /// The host's.
    fn next_unverified_state(&mut self) -> Result<Option<Mac>, Self::Error>;

    /// A state cannot be read: it is passed over until the next refresh.
    ///
    /// # Errors
    ///
    /// The host's.
    fn state_unreadable(&mut self, state: &Mac) -> Result<(), Self::Error>;

    /// Notes the version and parent of a state that is not read yet.
    ///
    /// # Errors
    ///
    /// The host's.
    fn state_header(
        &mut self,
        state: &Mac,
        version: Version,
        parent: &Mac,
    ) -> Result<(), Self::Error>;

    /// A state that is noted but not read, whose parent is read or not among
    /// those noted; any noted one if parents go in a circle.
    ///
    /// # Errors
    ///
    /// The host's.
    fn next_unread_state(&mut self) -> Result<Option<(Mac, Version)>, Self::Error>;

    /// All of the state was given to the [`StateSink`].
    ///
    /// # Errors
    ///
    /// The host's.
    fn state_read(&mut self, state: &Mac) -> Result<(), Self::Error>;

    /// Ends the refresh and keeps what was read.
    ///
    /// # Errors
    ///
    /// The host's.
    fn end_refresh(&mut self) -> Result<(), Self::Error>;

    /// The highest version among the states read, and the last one read, to be
    /// the parent of the next. Nothing in an empty store.
    ///
    /// # Errors
    ///
    /// The host's.
    fn newest_state(&mut self) -> Result<Option<(Version, Mac)>, Self::Error>;
}
