//! The kinds of resources, and their versions. Sections 1.1 and 1.2 of the format.

use core::fmt;

/// Kind of a resource: 32 bits in envelopes and packfile indexes, 8 in states.
///
/// A number, not an enumeration: unknown kinds are kept and passed on.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ResourceKind(pub u8);

impl ResourceKind {
    /// Parameters of the store.
    pub const CONFIG: Self = Self(1);
    /// Who is using the store.
    pub const LOCK: Self = Self(2);
    /// Which blob lies where.
    pub const STATE: Self = Self(3);
    /// A container of blobs.
    pub const PACKFILE: Self = Self(4);
    /// Header of a snapshot; its key is random.
    pub const SNAPSHOT: Self = Self(5);
    /// Signature of a header.
    pub const SIGNATURE: Self = Self(6);
    /// The content of one file: a list of chunks.
    pub const OBJECT: Self = Self(7);
    /// A piece of a file.
    pub const CHUNK: Self = Self(9);
    /// Root record of the VFS tree.
    pub const VFS_BTREE: Self = Self(10);
    /// Node of the VFS tree.
    pub const VFS_NODE: Self = Self(11);
    /// Entry of the VFS tree.
    pub const VFS_ENTRY: Self = Self(12);
    /// Root record of the error tree.
    pub const ERROR_BTREE: Self = Self(13);
    /// Node of the error tree.
    pub const ERROR_NODE: Self = Self(14);
    /// Entry of the error tree.
    pub const ERROR_ENTRY: Self = Self(15);
    /// Root record of the tree of extended attributes.
    pub const XATTR_BTREE: Self = Self(16);
    /// Node of that tree.
    pub const XATTR_NODE: Self = Self(17);
    /// Entry of that tree.
    pub const XATTR_ENTRY: Self = Self(18);
    /// Root record of any other index.
    pub const BTREE_ROOT: Self = Self(19);
    /// Node of any other index.
    pub const BTREE_NODE: Self = Self(20);
    /// Statistics of a directory.
    pub const VFS_SUMMARY: Self = Self(21);
    /// Padding.
    pub const RANDOM: Self = Self(255);

    /// Name for messages, stock's where it has one.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CONFIG => "config",
            Self::LOCK => "lock",
            Self::STATE => "state",
            Self::PACKFILE => "packfile",
            Self::SNAPSHOT => "snapshot",
            Self::SIGNATURE => "signature",
            Self::OBJECT => "object",
            Self::CHUNK => "chunk",
            Self::VFS_BTREE => "vfs-btree",
            Self::VFS_NODE => "vfs-node",
            Self::VFS_ENTRY => "vfs-entry",
            Self::ERROR_BTREE => "error-btree",
            Self::ERROR_NODE => "error-node",
            Self::ERROR_ENTRY => "error-entry",
            Self::XATTR_BTREE => "xattr-btree",
            Self::XATTR_NODE => "xattr-node",
            Self::XATTR_ENTRY => "xattr-entry",
            Self::BTREE_ROOT => "btree",
            Self::BTREE_NODE => "btree-node",
            Self::VFS_SUMMARY => "vfs-summary",
            Self::RANDOM => "random",
            _ => "unknown",
        }
    }
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Version of a resource: `major << 16 | minor << 8 | patch`.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Version(pub u32);

impl Version {
    /// 1.0.0, the version of everything but states.
    pub const V1_0_0: Self = Self(0x0001_0000);
    /// 1.1.0, the version of the states that stock 1.1 writes.
    pub const V1_1_0: Self = Self(0x0001_0100);
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}.{}", self.0 >> 16, self.0 >> 8 & 0xff, self.0 & 0xff)
    }
}
