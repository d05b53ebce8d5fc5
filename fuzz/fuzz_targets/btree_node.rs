//! The records of a tree: a node and a root.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_core::wire::btree::{Node, Root, emit_node};
use tiroir_core::wire::msgpack::Writer;

fuzz_target!(|data: &[u8]| {
    let _ = tiroir_fuzz::both_ways!(data, Root::parse, Root::emit);
    let Ok(node) = tiroir_fuzz::both_ways!(data, Node::parse, emit) else { return };
    if node.is_leaf() {
        assert_eq!(node.values.len(), node.keys.len());
    } else {
        assert_eq!(node.pointers.len(), node.keys.len() + 1);
    }
    assert_eq!(node.keys.iter().count(), node.keys.len());
    assert_eq!(node.pointers.macs().count(), node.pointers.len());
});

fn emit(node: &Node<'_>, w: &mut Writer<'_>) {
    let [keys, pointers, values] =
        [node.keys, node.pointers, node.values].map(|list| (list.len(), list.reader().rest()));
    emit_node(keys, pointers, values, node.next.as_ref(), w);
}
