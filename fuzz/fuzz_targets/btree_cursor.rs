//! A cursor over a tree that nobody built: nodes point anywhere, also back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_core::btree::{Cursor, NodeSource, TreeKinds, lookup};
use tiroir_core::error::{Error, Subject};
use tiroir_core::limits::TREE_LEVELS_MAX;
use tiroir_core::mac::Mac;
use tiroir_core::order::{byte_order, path_order};
use tiroir_core::resource::ResourceKind;
use tiroir_core::wire::btree::{Root, emit_node};
use tiroir_fuzz::{Input, written};

/// Nodes by number; the number is repeated in the MAC.
struct Nodes {
    nodes: Vec<Vec<u8>>,
    reads_left: u32,
}

impl NodeSource for Nodes {
    type Error = ();

    fn read(&mut self, kind: ResourceKind, mac: &Mac, into: &mut [u8]) -> Result<usize, Error<()>> {
        self.reads_left = self.reads_left.checked_sub(1).ok_or(Error::Host(()))?;
        let node = match kind {
            ResourceKind::BTREE_ROOT => &written(|w| Root { node: name(0) }.emit(w)),
            _ => self
                .nodes
                .get(usize::from(mac.0[0]))
                .ok_or(Error::Missing(Subject::Blob(kind, *mac)))?,
        };
        into[..node.len()].copy_from_slice(node);
        Ok(node.len())
    }
}

fn name(number: u8) -> Mac {
    let mut name = Mac([0xee; 32]);
    name.0[0] = number;
    name
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let wanted = input.short();
    let mut nodes = Vec::new();
    while !input.is_empty() && nodes.len() < 200 {
        nodes.push(node(&mut input));
    }
    let keys_max = nodes.iter().map(Vec::len).max().unwrap_or(0);
    let mut source = Nodes { nodes, reads_left: 0 };
    let mut memory = vec![0; keys_max.max(256)];
    let (kinds, root) = (TreeKinds::INDEX, Mac([1; 32]));
    for order in [byte_order, path_order] {
        source.reads_left = 300;
        let _ = lookup(&mut source, kinds, &root, wanted, order, &mut memory);
        for key in [None, Some((wanted, order as _))] {
            source.reads_left = 300;
            let cursor = Cursor::seek(&mut source, kinds, &root, key, &mut memory);
            let Ok(mut cursor) = cursor else { continue };
            // The way down is bounded, whatever the leaves are like.
            if key.is_none() {
                assert!(source.reads_left >= 300 - TREE_LEVELS_MAX as u32 - 1);
            }
            let mut count = 0;
            while let Ok(Some((found, _))) = cursor.next(&mut source, &mut memory) {
                assert!(count > 0 || key.is_none_or(|(key, _)| order(found, key).is_ge()));
                count += 1;
                assert!(count <= 301 * keys_max);
            }
        }
    }
});

fn node(input: &mut Input<'_>) -> Vec<u8> {
    let shape = input.byte();
    if shape & 0xc0 == 0xc0 {
        return input.short().to_vec();
    }
    let count = usize::from(shape & 0x07);
    let keys: Vec<_> = (0..count).map(|_| input.short()).collect();
    let macs: Vec<_> = (0..=count).map(|_| name(input.byte())).collect();
    let next = name(input.byte());
    let keys_bytes = written(|w| keys.iter().for_each(|key| w.str(key)));
    let mac_list = |macs: &[Mac]| written(|w| macs.iter().for_each(|mac| w.mac(mac)));
    written(|w| match shape & 0x10 {
        0 => {
            let values = mac_list(&macs[..count]);
            let next = (shape & 0x20 == 0).then_some(&next);
            emit_node((count, &keys_bytes), (0, &[]), (count, &values), next, w);
        }
        _ => emit_node((count, &keys_bytes), (count + 1, &mac_list(&macs)), (0, &[]), None, w),
    })
}
