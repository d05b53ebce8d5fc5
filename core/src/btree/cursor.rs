//! [`lookup`] and [`Cursor`]: reading a tree, one node at a time.

use core::cmp::Ordering;

use super::{NodeSource, TreeKinds};
use crate::error::{Error, FormatError, Subject};
use crate::limits::TREE_LEVELS_MAX;
use crate::mac::Mac;
use crate::resource::ResourceKind;
use crate::wire::btree::{Node, Root};
use crate::wire::msgpack::Reader;

/// The order of a tree's keys.
pub type KeyOrder = fn(&[u8], &[u8]) -> Ordering;

/// A key and its value.
pub type Pair<'b> = (&'b [u8], Mac);

/// A place in the leaves of a tree, that goes from left to right.
///
/// Takes one node of memory, lent for the time of each call; the caller gives
/// the same memory each time and leaves it alone in between.
#[derive(Debug)]
pub struct Cursor {
    kind: ResourceKind,
    /// The leaf in memory.
    leaf: Mac,
    /// Length of the leaf in memory, in bytes.
    leaf_bytes: usize,
    /// Where the next key and the next value start in it.
    key_at: usize,
    value_at: usize,
    /// Keys left in it.
    left: usize,
    /// The leaf after it.
    next: Option<Mac>,
}

impl Cursor {
    /// A cursor at the first key of the tree that is not before `key`; at the
    /// very first key for none.
    ///
    /// # Errors
    ///
    /// What `source` returns, and [`Error::Damaged`] for what is no tree.
    pub fn seek<S: NodeSource>(
        source: &mut S,
        kinds: TreeKinds,
        root: &Mac,
        key: Option<(&[u8], KeyOrder)>,
        memory: &mut [u8],
    ) -> Result<Self, Error<S::Error>> {
        let len = source.read(kinds.root, root, memory)?;
        let damaged = Error::damaged(Subject::Blob(kinds.root, *root));
        let mut node = Root::parse(&memory[..len]).map_err(damaged)?.node;
        for _ in 0..TREE_LEVELS_MAX {
            let len = source.read(kinds.node, &node, memory)?;
            let damaged = Error::damaged(Subject::Blob(kinds.node, node));
            let parsed = Node::parse(&memory[..len]).map_err(&damaged)?;
            if parsed.is_leaf() {
                let mut cursor = Self::at_leaf(kinds.node, node, &memory[..len], &parsed);
                cursor.skip_before(source, key, memory)?;
                return Ok(cursor);
            }
            let child = match key {
                None => 0,
                Some((key, order)) => {
                    parsed.keys.iter().take_while(|k| order(k, key).is_le()).count()
                }
            };
            node = match parsed.pointers.macs().nth(child) {
                Some(mac) => mac.map_err(damaged)?,
                None => return Err(damaged(FormatError::Field("number of children"))),
            };
        }
        Err(Error::damaged(Subject::Blob(kinds.root, *root))(FormatError::Bound("depth")))
    }

    fn at_leaf(kind: ResourceKind, leaf: Mac, bytes: &[u8], node: &Node<'_>) -> Self {
        // Where a list stands in the bytes that it was parsed from.
        let start = |reader: Reader<'_>| {
            (reader.rest().as_ptr().addr()).saturating_sub(bytes.as_ptr().addr()).min(bytes.len())
        };
        Self {
            kind,
            leaf,
            leaf_bytes: bytes.len(),
            key_at: start(node.keys.reader()),
            value_at: start(node.values.reader()),
            left: node.keys.len(),
            next: node.next,
        }
    }

    fn skip_before<S: NodeSource>(
        &mut self,
        source: &mut S,
        key: Option<(&[u8], KeyOrder)>,
        memory: &mut [u8],
    ) -> Result<(), Error<S::Error>> {
        let Some((key, order)) = key else { return Ok(()) };
        loop {
            let (key_at, value_at, left) = (self.key_at, self.value_at, self.left);
            if left == 0 {
                // Every key of this leaf is before the one that is wanted.
                if !self.advance(source, memory)? {
                    return Ok(());
                }
                continue;
            }
            match self.step(memory)? {
                Some((found, _)) if order(found, key).is_lt() => {}
                _ => {
                    (self.key_at, self.value_at, self.left) = (key_at, value_at, left);
                    return Ok(());
                }
            }
        }
    }

    /// Loads the next leaf, if there is one.
    fn advance<S: NodeSource>(
        &mut self,
        source: &mut S,
        memory: &mut [u8],
    ) -> Result<bool, Error<S::Error>> {
        let Some(next) = self.next else { return Ok(false) };
        let len = source.read(self.kind, &next, memory)?;
        let damaged = Error::damaged(Subject::Blob(self.kind, next));
        let node = Node::parse(&memory[..len]).map_err(&damaged)?;
        if !node.is_leaf() {
            return Err(damaged(FormatError::Field("next leaf")));
        }
        *self = Self::at_leaf(self.kind, next, &memory[..len], &node);
        Ok(true)
    }

    /// The next key and value of the leaf in memory.
    fn step<'b, E>(&mut self, memory: &'b [u8]) -> Result<Option<Pair<'b>>, Error<E>> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        let damaged = Error::damaged(Subject::Blob(self.kind, self.leaf));
        let bytes = memory.get(..self.leaf_bytes).unwrap_or_default();
        let read = |at: usize| Reader::new(bytes.get(at..).unwrap_or_default());
        let (mut keys, mut values) = (read(self.key_at), read(self.value_at));
        let key = keys.bytes().map_err(&damaged)?;
        let value = values.mac().map_err(&damaged)?;
        self.key_at = bytes.len() - keys.rest().len();
        self.value_at = bytes.len() - values.rest().len();
        self.left = left;
        Ok(Some((key, value)))
    }

    /// The next key and value, or nothing after the last.
    ///
    /// # Errors
    ///
    /// What `source` returns, and [`Error::Damaged`] for what is no tree.
    pub fn next<'b, S: NodeSource>(
        &mut self,
        source: &mut S,
        memory: &'b mut [u8],
    ) -> Result<Option<Pair<'b>>, Error<S::Error>> {
        while self.left == 0 {
            if !self.advance(source, memory)? {
                return Ok(None);
            }
        }
        self.step(memory)
    }
}

/// The value of a key, if the tree has it.
///
/// # Errors
///
/// What `source` returns, and [`Error::Damaged`] for what is no tree.
pub fn lookup<S: NodeSource>(
    source: &mut S,
    kinds: TreeKinds,
    root: &Mac,
    key: &[u8],
    order: KeyOrder,
    memory: &mut [u8],
) -> Result<Option<Mac>, Error<S::Error>> {
    let mut cursor = Cursor::seek(source, kinds, root, Some((key, order)), memory)?;
    Ok(cursor.next(source, memory)?.filter(|(found, _)| *found == key).map(|(_, mac)| mac))
}
