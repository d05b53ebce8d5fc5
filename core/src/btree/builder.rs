//! [`TreeBuilder`]: nodes from keys that arrive in descending order.

use core::ops::Range;

use heapless::Vec;

use super::NodeSink;
use crate::error::{Error, FormatError, Subject};
use crate::limits::{TREE_LEVELS_MAX, bound};
use crate::mac::{MAC_BYTES, Mac};
use crate::resource::ResourceKind;
use crate::wire::btree::{ORDER, Root, emit_node};
use crate::wire::msgpack::Writer;

/// Kinds of the blobs of a tree.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TreeKinds {
    /// Of the root record.
    pub root: ResourceKind,
    /// Of the nodes.
    pub node: ResourceKind,
}

impl TreeKinds {
    /// The entries of a snapshot.
    pub const VFS: Self = Self { root: ResourceKind::VFS_BTREE, node: ResourceKind::VFS_NODE };
    /// What could not be read.
    pub const ERRORS: Self =
        Self { root: ResourceKind::ERROR_BTREE, node: ResourceKind::ERROR_NODE };
    /// The extended attributes.
    pub const XATTRS: Self =
        Self { root: ResourceKind::XATTR_BTREE, node: ResourceKind::XATTR_NODE };
    /// Any other index.
    pub const INDEX: Self = Self { root: ResourceKind::BTREE_ROOT, node: ResourceKind::BTREE_NODE };
}

/// Keys in a full node, as in stock's.
const KEYS_MAX: usize = ORDER - 1;

/// Items that stay in a node when it is cut off to the right, so that the next
/// node of that level never has a single child.
const KEPT: usize = 2;

/// Length of an encoded MAC in a list, in bytes.
const ITEM_BYTES: usize = 2 + MAC_BYTES;

/// Length of what a node has beside its lists, in bytes, rounded up.
const NODE_FRAME_BYTES: usize = 128;

/// Bytes of the MACs of one level.
const MACS_BYTES: usize = (KEYS_MAX + KEPT + 1) * ITEM_BYTES;

/// Least memory for a builder of `levels` levels whose keys have at most
/// `key_bytes` bytes.
///
/// Eight keys fit in a node even if all are as long as they may be, so that
/// eight levels hold 16 million of the longest keys, and 33 · 10¹² usual ones.
/// With the feature `small` five do: six levels hold seven million keys of 200
/// bytes, but only hundreds of the longest.
#[must_use]
pub const fn builder_bytes_min(levels: usize, key_bytes: usize) -> usize {
    let keys = bound(8, 5) * (key_bytes + 5);
    levels * (keys + MACS_BYTES) + keys + MACS_BYTES + NODE_FRAME_BYTES
}

/// Where a key that is placed comes from.
enum Key<'k> {
    Lent(&'k [u8]),
    /// A part of the builder's memory.
    Within(Range<usize>),
}

/// One node being built, filled from the end of its memory to its start.
#[derive(Clone, Copy, Debug)]
struct Level {
    /// Start of the encoded keys in the level's memory.
    keys_at: usize,
    /// Number of keys, which is also the number of values or children.
    items: usize,
    /// The node to the right, for leaves.
    next: Option<Mac>,
}

/// Builds one tree.
#[derive(Debug)]
pub struct TreeBuilder<'m> {
    kinds: TreeKinds,
    /// Memory of all levels, then of the node that is written.
    memory: &'m mut [u8],
    level_bytes: usize,
    key_bytes: usize,
    levels: Vec<Level, TREE_LEVELS_MAX>,
}

impl<'m> TreeBuilder<'m> {
    /// A builder over `memory`, for `levels` levels and keys of at most
    /// `key_bytes` bytes.
    ///
    /// # Errors
    ///
    /// [`FormatError::Scratch`] for less than [`builder_bytes_min`].
    pub fn new(
        kinds: TreeKinds,
        memory: &'m mut [u8],
        levels: usize,
        key_bytes: usize,
    ) -> Result<Self, FormatError> {
        let needed_bytes = builder_bytes_min(levels, key_bytes);
        if memory.len() < needed_bytes || levels > TREE_LEVELS_MAX || levels == 0 {
            return Err(FormatError::Scratch { needed_bytes, lent_bytes: memory.len() });
        }
        let level_bytes = (memory.len() - NODE_FRAME_BYTES) / (levels + 1);
        Ok(Self { kinds, memory, level_bytes, key_bytes, levels: Vec::new() })
    }

    /// Adds a key in front of all keys so far.
    ///
    /// # Errors
    ///
    /// [`FormatError::Bound`] for a key that is too long, and for more levels
    /// than there is memory for; else what `sink` returns.
    pub fn push<S: NodeSink>(
        &mut self,
        sink: &mut S,
        key: &[u8],
        value: &Mac,
    ) -> Result<(), Error<S::Error>> {
        if key.len() > self.key_bytes {
            return Err(self.bound("key of a tree"));
        }
        self.make_room(sink, 0)?;
        self.place(0, Key::Lent(key), value);
        Ok(())
    }

    fn bound<E>(&self, what: &'static str) -> Error<E> {
        Error::damaged(self.subject())(FormatError::Bound(what))
    }

    /// Makes sure that the level takes one more key, of whatever length.
    fn make_room<S: NodeSink>(
        &mut self,
        sink: &mut S,
        depth: usize,
    ) -> Result<(), Error<S::Error>> {
        let deepest = (self.memory.len() - NODE_FRAME_BYTES) / self.level_bytes - 1;
        if depth == self.levels.len() {
            let level = Level { keys_at: self.level_bytes - MACS_BYTES, items: 0, next: None };
            if depth == deepest || self.levels.push(level).is_err() {
                return Err(self.bound("depth of a tree"));
            }
        }
        if self.is_full(depth) { self.cut(sink, depth) } else { Ok(()) }
    }

    fn subject(&self) -> Subject {
        Subject::Blob(self.kinds.node, Mac::ZERO)
    }

    fn is_full(&self, depth: usize) -> bool {
        let level = &self.levels[depth];
        level.items == KEYS_MAX + KEPT || level.keys_at < self.key_bytes + 5
    }

    fn level_memory(&mut self, depth: usize) -> &mut [u8] {
        &mut self.memory[depth * self.level_bytes..(depth + 1) * self.level_bytes]
    }

    /// Writes key and value in front of the level's first.
    fn place(&mut self, depth: usize, key: Key<'_>, value: &Mac) {
        let Level { keys_at, items, .. } = self.levels[depth];
        let base = depth * self.level_bytes;
        let key_bytes = match &key {
            Key::Lent(key) => key.len(),
            Key::Within(range) => range.len(),
        };
        let mut head = [0; 5];
        let head_bytes = str_head(key_bytes, &mut head);
        let text_at = keys_at - key_bytes;
        match key {
            Key::Lent(key) => {
                self.memory[base + text_at..base + keys_at].copy_from_slice(key);
            }
            Key::Within(range) => self.memory.copy_within(range, base + text_at),
        }
        let start = text_at - head_bytes;
        let memory = self.level_memory(depth);
        memory[start..text_at].copy_from_slice(&head[..head_bytes]);
        let at = memory.len() - (items + 1) * ITEM_BYTES;
        memory[at..at + 2].copy_from_slice(&[0xc4, 32]);
        memory[at + 2..at + ITEM_BYTES].copy_from_slice(&value.0);
        let level = &mut self.levels[depth];
        (level.keys_at, level.items) = (start, items + 1);
    }

    /// Writes all but the first [`KEPT`] items as a node.
    fn cut<S: NodeSink>(&mut self, sink: &mut S, depth: usize) -> Result<(), Error<S::Error>> {
        let kept_bytes = self.keys_bytes(depth, KEPT);
        self.flush(sink, depth, KEPT, kept_bytes)?;
        let keys_end = self.level_bytes - MACS_BYTES;
        let Level { keys_at, items, .. } = self.levels[depth];
        let memory = self.level_memory(depth);
        memory.copy_within(keys_at..keys_at + kept_bytes, keys_end - kept_bytes);
        let macs_at = memory.len() - items * ITEM_BYTES;
        let end = memory.len();
        memory.copy_within(macs_at..macs_at + KEPT * ITEM_BYTES, end - KEPT * ITEM_BYTES);
        let level = &mut self.levels[depth];
        (level.keys_at, level.items) = (keys_end - kept_bytes, KEPT);
        Ok(())
    }

    /// Bytes that the first `count` keys of a level take.
    fn keys_bytes(&mut self, depth: usize, count: usize) -> usize {
        let start = self.levels[depth].keys_at;
        let memory = self.level_memory(depth);
        (0..count).fold(0, |bytes, _| bytes + str_bytes(&memory[start + bytes..]))
    }

    /// Writes the items from `skip` on as a node, and its first key and MAC to
    /// the level above.
    fn flush<S: NodeSink>(
        &mut self,
        sink: &mut S,
        depth: usize,
        skip: usize,
        skip_bytes: usize,
    ) -> Result<(), Error<S::Error>> {
        // Room first: what writes a node uses the memory of the node above.
        self.make_room(sink, depth + 1)?;
        let (mac, first) = self.write_node(sink, depth, skip, skip_bytes)?;
        if depth == 0 {
            self.levels[0].next = Some(mac);
        }
        let base = depth * self.level_bytes;
        self.place(depth + 1, Key::Within(base + first.start..base + first.end), &mac);
        Ok(())
    }

    /// Writes the items from `skip` on as a node. Returns its MAC, and where
    /// its first key lies in the level's memory, without the head.
    fn write_node<S: NodeSink>(
        &mut self,
        sink: &mut S,
        depth: usize,
        skip: usize,
        skip_bytes: usize,
    ) -> Result<(Mac, Range<usize>), Error<S::Error>> {
        let Level { keys_at, items, next } = self.levels[depth];
        let (levels, node) =
            self.memory.split_at_mut(self.memory.len() - self.level_bytes - NODE_FRAME_BYTES);
        let memory = &levels[depth * self.level_bytes..(depth + 1) * self.level_bytes];
        let keys = &memory[keys_at + skip_bytes..self.level_bytes - MACS_BYTES];
        let macs_at = memory.len() - items * ITEM_BYTES;
        let macs = &memory[macs_at + skip * ITEM_BYTES..];
        let count = items - skip;
        let first_bytes = if count == 0 { 0 } else { str_bytes(keys) };
        let mut writer = Writer::new(node);
        if depth == 0 {
            emit_node((count, keys), (0, &[]), (count, macs), next.as_ref(), &mut writer);
        } else {
            // A node keeps the keys between its children: not the first one.
            let between = (count - 1, &keys[first_bytes..]);
            emit_node(between, (count, macs), (0, &[]), None, &mut writer);
        }
        let node =
            writer.finish().map_err(Error::damaged(Subject::Blob(self.kinds.node, Mac::ZERO)))?;
        let mac = sink.put(self.kinds.node, node)?;
        let start = keys_at + skip_bytes;
        let head = if count == 0 { 0 } else { first_bytes - str_text_bytes(keys) };
        Ok((mac, start + head..start + first_bytes))
    }

    /// Writes what is left, and the root record. Returns its key.
    ///
    /// # Errors
    ///
    /// What `sink` returns.
    pub fn finish<S: NodeSink>(mut self, sink: &mut S) -> Result<Mac, Error<S::Error>> {
        if self.levels.is_empty() {
            let level = Level { keys_at: self.level_bytes - MACS_BYTES, items: 0, next: None };
            let _ = self.levels.push(level);
        }
        let mut depth = 0;
        let node = loop {
            // With what is kept back, there may be more than stock has in one.
            if self.levels[depth].items > KEYS_MAX {
                self.cut(sink, depth)?;
            }
            if depth + 1 == self.levels.len() {
                break self.write_node(sink, depth, 0, 0)?.0;
            }
            self.flush(sink, depth, 0, 0)?;
            depth += 1;
        };
        let mut record = [0; 128];
        let mut writer = Writer::new(&mut record);
        Root { node }.emit(&mut writer);
        let kind = self.kinds.root;
        let record = writer.finish().map_err(Error::damaged(Subject::Blob(kind, Mac::ZERO)))?;
        sink.put(kind, record)
    }
}

/// Writes the head of an encoded string and returns its length.
fn str_head(text_bytes: usize, head: &mut [u8; 5]) -> usize {
    let [_, _, b1, b0] = u32::try_from(text_bytes).unwrap_or(u32::MAX).to_be_bytes();
    match text_bytes {
        0..32 => {
            head[0] = 0xa0 | b0;
            1
        }
        32..256 => {
            head[..2].copy_from_slice(&[0xd9, b0]);
            2
        }
        _ => {
            head[..3].copy_from_slice(&[0xda, b1, b0]);
            3
        }
    }
}

/// Length of the text of the encoded string that starts `bytes`: one that
/// [`str_head`] began.
fn str_text_bytes(bytes: &[u8]) -> usize {
    match bytes {
        [0xd9, len, ..] => usize::from(*len),
        [0xda, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
        [fix, ..] => usize::from(fix & 0x1f),
        [] => 0,
    }
}

/// Length of the encoded string that starts `bytes`.
fn str_bytes(bytes: &[u8]) -> usize {
    let head = match bytes.first() {
        Some(0xd9) => 2,
        Some(0xda) => 3,
        _ => 1,
    };
    head + str_text_bytes(bytes)
}
