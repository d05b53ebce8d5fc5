//! The sorter, beside a vector.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_core::order::{Order, byte_order, byte_order_reversed, path_order, path_order_reversed};
use tiroir_core::sort::Sorter;
use tiroir_core::testing::MemSpool;
use tiroir_fuzz::Input;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let orders: [Order; 4] = [byte_order, byte_order_reversed, path_order, path_order_reversed];
    let order = orders[input.below(4)];
    let mut arena = vec![0xaa; 64 + usize::from(input.byte()) * 4];
    let mut sorter = Sorter::new(&mut arena, [MemSpool::default(), MemSpool::default()], order);
    let repeat = usize::from(input.byte() & 0x1f) + 1;
    let mut wanted = Vec::new();
    let start = input;
    for round in 0..repeat {
        let mut input = start;
        while !input.is_empty() {
            let key_bytes = usize::from(input.byte() & 0x0f);
            let mut key = input.take(key_bytes).to_vec();
            if let Some(last) = key.last_mut() {
                *last = last.wrapping_add(u8::try_from(round).unwrap());
            }
            // The value tells equal keys apart: they stay in order.
            let value = u32::to_le_bytes(wanted.len().try_into().unwrap());
            if sorter.push(&key, &value).is_ok() {
                wanted.push((key, value.to_vec()));
            }
        }
    }
    assert_eq!(sorter.len(), wanted.len() as u64);
    wanted.sort_by(|a, b| order(&a.0, &b.0));
    let mut sorted = sorter.finish().unwrap();
    for (key, value) in &wanted {
        assert_eq!(sorted.next(), Ok(Some((&key[..], &value[..]))));
    }
    assert_eq!(sorted.next(), Ok(None));
});
