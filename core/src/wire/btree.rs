//! [`Root`] and [`Node`]: the records of a B+tree. Section 11.3 of the format.

use super::list::List;
use super::msgpack::{Reader, Writer};
use crate::error::FormatError;
use crate::mac::Mac;

/// Children that an internal node may have, as stock writes it in every root.
pub const ORDER: usize = 50;

/// The record that points to the root node of a tree.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Root {
    /// Key of the root node.
    pub node: Mac,
}

impl Root {
    /// Writes the record. Version and count are 0 in every tree of stock.
    pub fn emit(&self, w: &mut Writer<'_>) {
        w.map(4);
        w.key("Version");
        w.u32(0);
        w.key("Order");
        w.int(i64::try_from(ORDER).unwrap_or_default());
        w.key("Count");
        w.int(0);
        w.key("Root");
        w.mac(&self.node);
    }

    /// Reads the record.
    ///
    /// # Errors
    ///
    /// [`FormatError`] for what is no such record.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut node = Mac::ZERO;
        Reader::new(bytes).fields(|key, value| {
            let is_root = key == b"Root";
            if is_root {
                node = value.mac()?;
            }
            Ok(is_root)
        })?;
        if node.is_zero() { Err(FormatError::Field("root node")) } else { Ok(Self { node }) }
    }
}

/// A node, as it was read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Node<'b> {
    /// Keys, in the order of the tree.
    pub keys: List<'b>,
    /// Keys of the children, one more than `keys`; none in a leaf.
    pub pointers: List<'b>,
    /// One value for each key; none in an internal node.
    pub values: List<'b>,
    /// The leaf to the right.
    pub next: Option<Mac>,
}

impl<'b> Node<'b> {
    /// Reads a node.
    ///
    /// # Errors
    ///
    /// [`FormatError`] for what is no node, or one whose lists do not fit
    /// together.
    pub fn parse(bytes: &'b [u8]) -> Result<Self, FormatError> {
        let mut node =
            Node { keys: List::EMPTY, pointers: List::EMPTY, values: List::EMPTY, next: None };
        Reader::new(bytes).fields(|key, value| {
            match key {
                b"keys" => node.keys = value.list()?,
                b"pointers" => node.pointers = value.list()?,
                b"values" => node.values = value.list()?,
                b"next" => node.next = Some(value.mac()?).filter(|mac| !mac.is_zero()),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let fits = if node.is_leaf() {
            node.values.len() == node.keys.len()
        } else {
            node.pointers.len() == node.keys.len() + 1 && node.values.is_empty()
        };
        if fits { Ok(node) } else { Err(FormatError::Field("number of keys")) }
    }

    /// Whether the node holds values.
    #[must_use]
    pub fn is_leaf(&self) -> bool {
        self.pointers.is_empty()
    }
}

/// Writes a node whose lists are encoded already: `keys`, `pointers` and
/// `values` are the elements in msgpack, with their number.
///
/// Takes them so because a node is built from its last key to its first.
pub fn emit_node(
    keys: (usize, &[u8]),
    pointers: (usize, &[u8]),
    values: (usize, &[u8]),
    next: Option<&Mac>,
    w: &mut Writer<'_>,
) {
    w.map(4 + usize::from(next.is_some()));
    w.key("version");
    w.u32(0);
    for (name, (len, elements)) in [("keys", keys), ("pointers", pointers), ("values", values)] {
        w.key(name);
        if len == 0 {
            w.nil();
        } else {
            w.array(len);
            w.raw(elements);
        }
    }
    if let Some(next) = next {
        w.key("next");
        w.mac(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mac::{HashAlgorithm, MacKey};

    const ID: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

    #[test]
    fn empty_tree() {
        let key = MacKey::public(HashAlgorithm::Blake3, &ID);
        let mut space = [0; 128];
        let mut writer = Writer::new(&mut space);
        emit_node((0, &[]), (0, &[]), (0, &[]), None, &mut writer);
        let bytes = writer.finish().unwrap();
        let node = key.mac(bytes);
        assert!(Node::parse(bytes).unwrap().is_leaf());
        let wanted = b"e78568bbb3e089a47e42183a8bb48675465c78d95d533367380e4de36085577a";
        assert_eq!(Some(node), Mac::from_hex(wanted));

        let mut space = [0; 128];
        let mut writer = Writer::new(&mut space);
        Root { node }.emit(&mut writer);
        let bytes = writer.finish().unwrap();
        assert_eq!(Root::parse(bytes), Ok(Root { node }));
        let wanted = b"847790a9e02400e556f86626839da3d4f5b531462250c45f4128d3265fba747a";
        assert_eq!(Some(key.mac(bytes)), Mac::from_hex(wanted));
    }
}
