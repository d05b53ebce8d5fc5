//! Servers that keep files in directories, and what all of them share.
//!
//! [`RemoteFiles`] is what a protocol does; [`store`], [`importer`] and
//! [`exporter`] do the rest for all of them; [`patience`] is how long they wait.

use tiroir_core::time::Timestamp;

use crate::error::Result;

pub mod exporter;
pub mod importer;
pub mod patience;
pub mod store;

/// What an entry is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum EntryKind {
    /// A regular file.
    #[default]
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    SymbolicLink,
    /// A fifo, a socket, a device, or what the server has no word for.
    Other,
}

/// How exactly a time is known.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Precision {
    /// To the second or better.
    #[default]
    Second,
    /// To the minute, in a zone that nobody tells: a file that changed twice within
    /// one looks unchanged.
    Minute,
    /// To the day, likewise.
    Day,
}

/// How far the clock on the wall of a server may be behind UTC, in seconds.
const ZONE_SECS: u32 = 14 * 3600;

impl Precision {
    /// For how many seconds after a time a further change may not show in it.
    #[must_use]
    pub fn blind_secs(self) -> u32 {
        match self {
            Self::Second => 0,
            Self::Minute => ZONE_SECS + 60,
            Self::Day => ZONE_SECS + 86_400,
        }
    }
}

/// What a server says of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RemoteEntry {
    /// What it is.
    pub kind: EntryKind,
    /// Length of its content in bytes, if the server says.
    pub size_bytes: Option<u64>,
    /// The twelve lower bits of a Unix mode, if the server says.
    pub permissions: Option<u32>,
    /// Last change of the content, if the server says.
    pub mod_time: Option<Timestamp>,
    /// How exactly that is known.
    pub precision: Precision,
    /// Number of the owner; 0 if the server does not say.
    pub uid: u64,
    /// Number of the group; 0 if the server does not say.
    pub gid: u64,
}

/// What is to be set of an entry; nothing where it is to stay as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NewAttributes {
    /// The twelve lower bits of a Unix mode.
    pub permissions: Option<u32>,
    /// Last change of the content.
    pub mod_time: Option<Timestamp>,
    /// Numbers of owner and group.
    pub owner: Option<(u32, u32)>,
}

/// What a server can do beside storing and reading files.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Abilities {
    /// A file can be on the server's disk when [`RemoteFiles::finish`] returns,
    /// and not only in its memory.
    pub sync: bool,
    /// [`RemoteFiles::rename`] replaces what has that name at once: nobody ever
    /// finds nothing there.
    pub atomic_replace: bool,
    /// Symbolic links can be read and made.
    pub symbolic_links: bool,
    /// A file can be given a further name.
    pub hard_links: bool,
    /// Permissions can be set.
    pub permissions: bool,
    /// Times can be set.
    pub times: bool,
    /// Owners can be set, given the right to.
    pub owners: bool,
}

/// A file being written; a number given by [`RemoteFiles::create`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WriteId(pub u32);

/// A file being read; a number given by [`RemoteFiles::open`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReadId(pub u32);

/// Receives the name and what the listing says of a child.
pub type EachChild<'e> = dyn FnMut(&[u8], &RemoteEntry) -> Result<()> + 'e;

/// A server with files in directories.
///
/// Paths are absolute, clean and separated by `/`; names are bytes. Errors say
/// what was done to which path on which server, and have kind *not found*,
/// *already exists*, *permission denied* or *no space* where the server says so.
/// After a link that broke, the next call connects anew; what was being written
/// or read is then lost, and says so.
pub trait RemoteFiles {
    /// Name of the server in messages: `sftp://user@host:port`, without secrets.
    fn shown(&self) -> &str;

    /// What the server was found to be and to be able to, in words, for people.
    /// Connects if it has to.
    ///
    /// # Errors
    ///
    /// Of the connection.
    fn describe(&mut self) -> Result<String>;

    /// What the server can do. Connects if it has to.
    ///
    /// # Errors
    ///
    /// Of the connection.
    fn abilities(&mut self) -> Result<Abilities>;

    /// What the server says of an entry, without following a symbolic link.
    ///
    /// # Errors
    ///
    /// Of the server.
    fn inspect(&mut self, path: &[u8]) -> Result<RemoteEntry>;

    /// Calls `each` with every child of a directory but `.` and `..`, in any
    /// order. No listing is held in memory. `each` calls nothing of this.
    ///
    /// # Errors
    ///
    /// Of the server, or what `each` returned.
    fn list(&mut self, directory: &[u8], each: &mut EachChild<'_>) -> Result<()>;

    /// Appends the target of a symbolic link to `into`.
    ///
    /// # Errors
    ///
    /// Of the server.
    fn read_link(&mut self, path: &[u8], into: &mut Vec<u8>) -> Result<()>;

    /// Makes a directory, for the owner alone where that can be said.
    ///
    /// # Errors
    ///
    /// Of the server, of kind *already exists* where something is.
    fn make_directory(&mut self, path: &[u8]) -> Result<()>;

    /// Removes what is no directory.
    ///
    /// # Errors
    ///
    /// Of the server, of kind *not found* where nothing is.
    fn remove_file(&mut self, path: &[u8]) -> Result<()>;

    /// Removes an empty directory.
    ///
    /// # Errors
    ///
    /// Of the server, of kind *not found* where nothing is.
    fn remove_directory(&mut self, path: &[u8]) -> Result<()>;

    /// Gives a file another name, in place of what may have it; see
    /// [`Abilities::atomic_replace`].
    ///
    /// # Errors
    ///
    /// Of the server.
    fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<()>;

    /// Starts a new file at `path`, for the owner alone where that can be said.
    /// Several may be written at once, while others are read.
    ///
    /// # Errors
    ///
    /// Of the server, of kind *already exists* where something is.
    fn create(&mut self, path: &[u8]) -> Result<WriteId>;

    /// Appends all of `bytes`. Does not wait for the server to have them.
    ///
    /// # Errors
    ///
    /// Of the server, also for what was written before.
    fn write(&mut self, id: WriteId, bytes: &[u8]) -> Result<()>;

    /// Waits until the server has everything, sets attributes, and closes the
    /// file. Its length is compared with what was written. With `durably` it is on
    /// the server's disk then, if [`Abilities::sync`] says that it can.
    ///
    /// # Errors
    ///
    /// Of the server. The file is closed, and may be there in part.
    fn finish(&mut self, id: WriteId, attributes: &NewAttributes, durably: bool) -> Result<()>;

    /// Closes the file, whatever became of it, and removes it.
    fn discard(&mut self, id: WriteId);

    /// Opens a file to be read. At least eight may be open at once.
    ///
    /// # Errors
    ///
    /// Of the server, of kind *not found* where nothing is.
    fn open(&mut self, path: &[u8]) -> Result<ReadId>;

    /// Reads from `offset_bytes` on, and returns how many bytes of `into` were
    /// filled: fewer than asked at the end only. Reading on where the last read
    /// ended is fastest.
    ///
    /// # Errors
    ///
    /// Of the server.
    fn read(&mut self, id: ReadId, offset_bytes: u64, into: &mut [u8]) -> Result<usize>;

    /// What the server says of the file that is read.
    ///
    /// # Errors
    ///
    /// Of the server.
    fn inspect_open(&mut self, id: ReadId) -> Result<RemoteEntry>;

    /// Closes a file that was read.
    fn close(&mut self, id: ReadId);

    /// Sets attributes of an entry that is there, without following a symbolic
    /// link. What the server cannot set stays as it is.
    ///
    /// # Errors
    ///
    /// Of the server.
    fn set_attributes(&mut self, path: &[u8], attributes: &NewAttributes) -> Result<()>;

    /// Makes a symbolic link.
    ///
    /// # Errors
    ///
    /// Of the server, and where it has none.
    fn make_link(&mut self, path: &[u8], target: &[u8]) -> Result<()>;

    /// Makes `path` a further name of `original`.
    ///
    /// # Errors
    ///
    /// Of the server, and where it has none.
    fn make_hard_link(&mut self, path: &[u8], original: &[u8]) -> Result<()>;

    /// Bytes that may still be written below `path`, if the server says.
    ///
    /// # Errors
    ///
    /// Of the server.
    fn free_bytes(&mut self, path: &[u8]) -> Result<Option<u64>>;
}
