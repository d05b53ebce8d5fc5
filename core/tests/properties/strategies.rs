//! Values of every kind that records hold.

use proptest::prelude::*;
use tiroir_core::mac::Mac;
use tiroir_core::time::Timestamp;
use tiroir_core::wire::msgpack::Writer;

/// Any bytes: short, and around the lengths where their encoding changes.
pub(crate) fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(any::<u8>(), 250..260),
        1 => Just(vec![b'x'; 65_535]),
        1 => Just(vec![b'y'; 65_536]),
    ]
}

pub(crate) fn mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 32]>().prop_map(Mac)
}

pub(crate) fn time() -> impl Strategy<Value = Timestamp> {
    let secs = prop_oneof![any::<i64>(), 0..1_i64 << 35, Just(Timestamp::GO_ZERO.secs)];
    let nanos = prop_oneof![0..1_000_000_000_u32, Just(0)];
    (secs, nanos).prop_map(|(secs, nanos)| Timestamp { secs, nanos })
}

/// A clean path. Few names, so that some lie in others.
pub(crate) fn path() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec("[a-c.!]{1,2}", 0..5).prop_map(|names| {
        let names = names.iter().filter(|name| !matches!(name.as_str(), "." | ".."));
        let path: String = names.map(|name| format!("/{name}")).collect();
        if path.is_empty() { b"/".to_vec() } else { path.into_bytes() }
    })
}

/// What `write` writes.
pub(crate) fn emitted(write: impl Fn(&mut Writer<'_>)) -> Vec<u8> {
    let mut space = vec![0; 1024];
    loop {
        let mut writer = Writer::new(&mut space);
        write(&mut writer);
        match writer.finish() {
            Ok(bytes) => return bytes.to_vec(),
            Err(tiroir_core::error::FormatError::Scratch { needed_bytes, .. }) => {
                space.resize(needed_bytes, 0);
            }
            Err(error) => panic!("{error}"),
        }
    }
}
