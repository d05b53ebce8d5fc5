//! Every bound of the engine, in one place.
//!
//! Bounds on what is *written* keep our own records small; bounds on what is
//! *read* say what a hostile or damaged store can make us hold.
//!
//! Those that are ours and not the format's are lower with the feature `small`:
//! what is written then is read by everybody, but not the other way round.

/// A bound: the second one with the feature `small`.
#[must_use]
pub(crate) const fn bound(usual: usize, small: usize) -> usize {
    if cfg!(feature = "small") { small } else { usual }
}

/// Longest path of an entry, in bytes: Linux's `PATH_MAX`, twice.
pub const PATH_BYTES_MAX: usize = bound(8192, 512);

/// Longest name of an entry, in bytes. Linux stops at 255; object stores and
/// other systems do not.
pub const NAME_BYTES_MAX: usize = bound(4096, 512);

/// Longest target of a symbolic link, in bytes.
pub const LINK_BYTES_MAX: usize = bound(4096, 512);

/// Longest user or group name, in bytes (`LOGIN_NAME_MAX` of Linux).
pub const ACCOUNT_BYTES_MAX: usize = bound(256, 32);

/// Longest list of the extended attribute names of one entry, in bytes, as
/// the kernel returns it (`XATTR_LIST_MAX` of Linux).
pub const XATTR_LIST_BYTES_MAX: usize = bound(65_536, 512);

/// Longest value of an extended attribute, in bytes (`XATTR_SIZE_MAX` of Linux).
pub const XATTR_VALUE_BYTES_MAX: usize = bound(65_536, 1024);

/// Longest serialized VFS entry, in bytes.
pub const ENTRY_BYTES_MAX: usize = bound(128 * 1024, 4096);

/// Longest serialized node of a B+tree that is read, in bytes: 49 keys of
/// [`PATH_BYTES_MAX`] and their MACs, rounded up.
pub const NODE_BYTES_MAX: usize = bound(512 * 1024, 16 * 1024);

/// Longest serialized snapshot header, in bytes.
pub const HEADER_BYTES_MAX: usize = bound(256 * 1024, 16 * 1024);

/// Longest CONFIG, in bytes: what stock accepts in a ptar.
pub const CONFIG_BYTES_MAX: usize = 32 * 1024;

/// Longest lock, in bytes, envelope included.
pub const LOCK_BYTES_MAX: usize = 4096;

/// Longest error message recorded for an entry, in bytes.
pub const MESSAGE_BYTES_MAX: usize = bound(1024, 256);

/// Longest content type, in bytes.
pub const CONTENT_TYPE_BYTES_MAX: usize = bound(255, 127);

/// Largest chunk that a store may ask for, in bytes. Stock's is 8 MiB.
pub const CHUNK_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// Levels of a B+tree that is read or written. With 25 keys to a node, as
/// stock leaves them, eleven levels hold more keys than 64 bits count bytes.
pub const TREE_LEVELS_MAX: usize = 16;

/// Nesting of msgpack values that is followed.
pub const MSGPACK_DEPTH_MAX: usize = 16;

/// Plaintext bytes of one sealed piece: `Encryption.ChunkSize` of stock.
pub const PIECE_BYTES: usize = 65_536;

/// Bytes that must follow the last blob of a packfile, because stock reads
/// past the end of what it wants (section 9.2 of the format).
pub const PADDING_BYTES: usize = 8192;
