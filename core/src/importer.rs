//! [`Importer`]: what is backed up, as a connector reads it.

use heapless::Vec;

use crate::host::HostError;
use crate::limits::{ACCOUNT_BYTES_MAX, CONTENT_TYPE_BYTES_MAX, LINK_BYTES_MAX};
use crate::time::Timestamp;

/// Attributes of one entry. About 5 KiB: lent, filled and reused.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes {
    /// Length of the content in bytes; 0 for what is not a regular file,
    /// except where the source says otherwise (directories of Unix).
    pub size: i64,
    /// Go's `FileMode`, see [`crate::wire::mode`].
    pub mode: u32,
    /// Last change of the content.
    pub mod_time: Timestamp,
    /// For how many seconds after `mod_time` a further change may not show in it; 0
    /// where every change does. A file that may so have changed since the previous
    /// snapshot was begun is read again.
    pub mod_time_blind_secs: u32,
    /// Device of the file system.
    pub dev: u64,
    /// Inode; with `dev`, which names are one file.
    pub ino: u64,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Names that the file has.
    pub nlink: u64,
    /// Name of the owner, or empty.
    pub username: Vec<u8, ACCOUNT_BYTES_MAX>,
    /// Name of the group, or empty.
    pub groupname: Vec<u8, ACCOUNT_BYTES_MAX>,
    /// Target, if this is a symbolic link.
    pub link_target: Vec<u8, LINK_BYTES_MAX>,
    /// Flags to record: 0, unless the source is a snapshot.
    pub flags: u32,
    /// Content type, where the source knows it; empty where it is to be
    /// guessed.
    pub content_type: Vec<u8, CONTENT_TYPE_BYTES_MAX>,
}

/// Files that are named ahead of the one that is open, at most.
pub const FILES_AHEAD_MAX: usize = 64;

/// Directories that are named ahead of the one that is entered, at most.
pub const DIRECTORIES_AHEAD_MAX: usize = 32;

/// Longest hint, in bytes.
pub const HINT_BYTES_MAX: usize = 1024;

/// Takes the name of a child, and a hint: see [`Importer::list`].
pub type Each<'e, E> = dyn FnMut(&[u8], &[u8]) -> Result<(), E> + 'e;

/// Reads what is backed up.
///
/// Paths are absolute, clean and separated by `/`. The engine sorts: an
/// importer lists in whatever order is cheapest.
pub trait Importer {
    /// The connector's own error, kept whole.
    type Error: HostError;

    /// The connector's name: `fs`, `sftp`, `stdin`…
    fn kind(&self) -> &str;

    /// The machine that the data comes from.
    fn origin(&self) -> &str;

    /// What is backed up: an absolute, clean path.
    fn root(&self) -> &[u8];

    /// Calls `each` with the name of every child of a directory, in any order,
    /// and with a hint: what the listing said of it, in the connector's own
    /// form, given back to [`stat`](Self::stat). At most [`HINT_BYTES_MAX`].
    ///
    /// # Errors
    ///
    /// The connector's, or what `each` returned.
    fn list(
        &mut self,
        directory: &[u8],
        each: &mut Each<'_, Self::Error>,
    ) -> Result<(), Self::Error>;

    /// Reads the attributes of an entry, without following a symbolic link.
    ///
    /// # Errors
    ///
    /// The connector's, of kind *not found* when the entry vanished.
    fn stat(&mut self, path: &[u8], hint: &[u8], into: &mut Attributes) -> Result<(), Self::Error>;

    /// How many files this reads ahead of the one that is open: so many
    /// [`expect`](Self::expect) may name, at most [`FILES_AHEAD_MAX`]. None, unless
    /// the importer says otherwise.
    fn files_ahead(&self) -> usize {
        0
    }

    /// How many directories this lists ahead: so many
    /// [`expect_directory`](Self::expect_directory) may name beside the one that is to be
    /// listed now, at most [`DIRECTORIES_AHEAD_MAX`]. None, unless the importer says otherwise.
    fn directories_ahead(&self) -> usize {
        0
    }

    /// Says that a directory will be listed soon, after those that were named before
    /// it, unless the work ends before.
    fn expect_directory(&mut self, path: &[u8]) {
        let _ = path;
    }

    /// Fills in the attributes of an entry that a hint of the listing tells
    /// completely, as [`stat`](Self::stat) would, without asking anybody. Returns
    /// whether it did; only regular files matter.
    fn foresee(&mut self, path: &[u8], hint: &[u8], into: &mut Attributes) -> bool {
        let _ = (path, hint, into);
        false
    }

    /// Says that a regular file will probably be opened soon, after those that were
    /// named before it. What is not opened in that order is not wanted any more.
    fn expect(&mut self, path: &[u8], hint: &[u8]) {
        let _ = (path, hint);
    }

    /// Opens a regular file to be read from its start. One at a time.
    ///
    /// # Errors
    ///
    /// The connector's.
    fn open(&mut self, path: &[u8], expected: &Attributes) -> Result<(), Self::Error>;

    /// Reads the open file; 0 at its end only.
    ///
    /// # Errors
    ///
    /// The connector's.
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Self::Error>;

    /// Whether the open file has changed since [`open`](Self::open): its length
    /// or its time. A source that cannot tell says no.
    ///
    /// # Errors
    ///
    /// The connector's.
    fn changed(&mut self) -> Result<bool, Self::Error> {
        Ok(false)
    }

    /// Closes the open file, if there is one.
    fn close(&mut self);

    /// Writes the names of an entry's extended attributes to `into`, each
    /// followed by a zero byte, in any order, and returns their length.
    ///
    /// # Errors
    ///
    /// The connector's. None, and 0, where there are no such attributes.
    fn xattr_names(&mut self, path: &[u8], into: &mut [u8]) -> Result<usize, Self::Error>;

    /// Reads the value of an extended attribute and returns its length.
    ///
    /// # Errors
    ///
    /// The connector's.
    fn xattr(&mut self, path: &[u8], name: &[u8], into: &mut [u8]) -> Result<usize, Self::Error>;
}

/// What lends an importer is one: so one `&mut dyn Importer` stands for all of a
/// program's, and the engine is compiled once.
impl<I: Importer + ?Sized> Importer for &mut I {
    type Error = I::Error;

    fn kind(&self) -> &str {
        (**self).kind()
    }

    fn origin(&self) -> &str {
        (**self).origin()
    }

    fn root(&self) -> &[u8] {
        (**self).root()
    }

    fn list(
        &mut self,
        directory: &[u8],
        each: &mut Each<'_, Self::Error>,
    ) -> Result<(), Self::Error> {
        (**self).list(directory, each)
    }

    fn stat(&mut self, path: &[u8], hint: &[u8], into: &mut Attributes) -> Result<(), Self::Error> {
        (**self).stat(path, hint, into)
    }

    fn files_ahead(&self) -> usize {
        (**self).files_ahead()
    }

    fn directories_ahead(&self) -> usize {
        (**self).directories_ahead()
    }

    fn expect_directory(&mut self, path: &[u8]) {
        (**self).expect_directory(path);
    }

    fn foresee(&mut self, path: &[u8], hint: &[u8], into: &mut Attributes) -> bool {
        (**self).foresee(path, hint, into)
    }

    fn expect(&mut self, path: &[u8], hint: &[u8]) {
        (**self).expect(path, hint);
    }

    fn open(&mut self, path: &[u8], expected: &Attributes) -> Result<(), Self::Error> {
        (**self).open(path, expected)
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize, Self::Error> {
        (**self).read(into)
    }

    fn changed(&mut self) -> Result<bool, Self::Error> {
        (**self).changed()
    }

    fn close(&mut self) {
        (**self).close();
    }

    fn xattr_names(&mut self, path: &[u8], into: &mut [u8]) -> Result<usize, Self::Error> {
        (**self).xattr_names(path, into)
    }

    fn xattr(&mut self, path: &[u8], name: &[u8], into: &mut [u8]) -> Result<usize, Self::Error> {
        (**self).xattr(path, name, into)
    }
}
