//! Trees: built, scanned, and searched, beside a sorted vector.

use std::collections::BTreeMap;
use std::convert::Infallible;

use proptest::prelude::*;
use tiroir_core::btree::{
    Cursor, NodeSink, NodeSource, TreeBuilder, TreeKinds, builder_bytes_min, lookup,
};
use tiroir_core::error::{Error, Subject};
use tiroir_core::limits::NODE_BYTES_MAX;
use tiroir_core::mac::{HashAlgorithm, Mac, MacKey};
use tiroir_core::order::{Order, byte_order, path_order};
use tiroir_core::resource::ResourceKind;
use tiroir_core::wire::btree::{Node, ORDER};

use crate::strategies::path;

const KEY_BYTES: usize = 300;
const KINDS: TreeKinds = TreeKinds::INDEX;

/// Blobs by their MACs.
#[derive(Default)]
struct Blobs(BTreeMap<Mac, (ResourceKind, Vec<u8>)>);

impl NodeSink for Blobs {
    type Error = Infallible;

    fn put(&mut self, kind: ResourceKind, bytes: &[u8]) -> Result<Mac, Error<Infallible>> {
        let mac = MacKey::public(HashAlgorithm::Blake3, &[1; 16]).mac(bytes);
        self.0.insert(mac, (kind, bytes.to_vec()));
        Ok(mac)
    }
}

impl NodeSource for Blobs {
    type Error = Infallible;

    fn read(
        &mut self,
        kind: ResourceKind,
        mac: &Mac,
        into: &mut [u8],
    ) -> Result<usize, Error<Infallible>> {
        let missing = Error::Missing(Subject::Blob(kind, *mac));
        let (_, bytes) = self.0.get(mac).filter(|blob| blob.0 == kind).ok_or(missing)?;
        into[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }
}

/// The value of a key.
fn value(key: &[u8]) -> Mac {
    MacKey::public(HashAlgorithm::Blake3, &[2; 16]).mac(key)
}

fn build(keys: &[Vec<u8>], levels: usize, more_bytes: usize) -> (Blobs, Mac) {
    let mut memory = vec![0xaa; builder_bytes_min(levels, KEY_BYTES) + more_bytes];
    let mut builder = TreeBuilder::new(KINDS, &mut memory, levels, KEY_BYTES).unwrap();
    let mut blobs = Blobs::default();
    for key in keys.iter().rev() {
        builder.push(&mut blobs, key, &value(key)).unwrap();
    }
    let root = builder.finish(&mut blobs).unwrap();
    (blobs, root)
}

/// Everything from a key on.
fn scan(blobs: &mut Blobs, root: &Mac, from: Option<(&[u8], Order)>) -> Vec<Vec<u8>> {
    let mut memory = vec![0; NODE_BYTES_MAX];
    let mut cursor = Cursor::seek(blobs, KINDS, root, from, &mut memory).unwrap();
    let mut keys = Vec::new();
    while let Some((key, found)) = cursor.next(blobs, &mut memory).unwrap() {
        assert_eq!(found, value(key));
        keys.push(key.to_vec());
    }
    keys
}

/// Many short keys, or some that are as long as they may be.
fn keys() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let number = any::<u16>().prop_map(|number| format!("/{number}").into_bytes());
    let long = (any::<u8>(), 0..KEY_BYTES).prop_map(|(byte, len)| {
        let mut key = vec![b'k'; len];
        key.push(byte);
        key
    });
    prop_oneof![
        prop::collection::vec(number, 0..1200),
        prop::collection::vec(long, 0..150),
        prop::collection::vec(path(), 0..300),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn as_a_sorted_vector(
        mut keys in keys(),
        order in prop::sample::select(vec![byte_order as Order, path_order]),
        levels in 5_usize..8,
        more_bytes in prop_oneof![Just(0_usize), 0..60_000_usize],
        wanted in prop::collection::vec(prop_oneof![path(), "/[0-9]{1,5}".prop_map(String::into_bytes)], 8),
        present in prop::collection::vec(any::<prop::sample::Index>(), 8),
    ) {
        keys.sort_by(|a, b| order(a, b));
        keys.dedup();
        let (mut blobs, root) = build(&keys, levels, more_bytes);
        for (kind, bytes) in blobs.0.values() {
            prop_assert!(bytes.len() <= NODE_BYTES_MAX);
            if *kind == KINDS.node {
                let node = Node::parse(bytes).unwrap();
                prop_assert!(node.keys.len() < ORDER);
                prop_assert!(node.is_leaf() || node.pointers.len() > 1);
                prop_assert!(node.is_leaf() || node.next.is_none());
            }
        }
        prop_assert_eq!(&scan(&mut blobs, &root, None), &keys);

        let present = present.iter().filter(|_| !keys.is_empty());
        let present = present.map(|index| keys[index.index(keys.len())].clone());
        let mut memory = vec![0; NODE_BYTES_MAX];
        for key in wanted.into_iter().chain(present) {
            let is_there = keys.binary_search_by(|other| order(other, &key));
            let found = lookup(&mut blobs, KINDS, &root, &key, order, &mut memory);
            prop_assert_eq!(found, Ok(is_there.is_ok().then(|| value(&key))));
            let from = is_there.unwrap_or_else(|place| place);
            let rest = scan(&mut blobs, &root, Some((&key, order)));
            prop_assert_eq!(&rest, &keys[from..]);
        }
    }
}

/// Whatever is left for the last node of a level, none has more keys than stock
/// puts into one.
#[test]
fn every_small_number_of_keys() {
    for count in 0..200 {
        let keys: Vec<_> = (0..count).map(|n| format!("/{n:05}").into_bytes()).collect();
        let (mut blobs, root) = build(&keys, 5, 100_000);
        for (_, bytes) in blobs.0.values().filter(|(kind, _)| *kind == KINDS.node) {
            assert!(Node::parse(bytes).unwrap().keys.len() < ORDER, "{count} keys");
        }
        assert_eq!(scan(&mut blobs, &root, None), keys);
    }
}

/// Every single key of a tree of three levels is found, and none beside it.
#[test]
fn every_key_is_found() {
    let keys: Vec<_> = (0..3000).map(|n| format!("/{:05}", 2 * n).into_bytes()).collect();
    let (mut blobs, root) = build(&keys, 5, 0);
    let mut memory = vec![0; NODE_BYTES_MAX];
    for n in 0..6000 {
        let key = format!("/{n:05}").into_bytes();
        let found = lookup(&mut blobs, KINDS, &root, &key, byte_order, &mut memory).unwrap();
        assert_eq!(found, (n % 2 == 0).then(|| value(&key)), "{n}");
    }
}
