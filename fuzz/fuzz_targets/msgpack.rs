//! The reader of msgpack, and the writer beside it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_core::time::Timestamp;
use tiroir_core::wire::msgpack::{Reader, Writer};
use tiroir_fuzz::{Input, written};

fuzz_target!(|data: &[u8]| {
    reading(data);
    writing(Input(data));
});

fn reading(data: &[u8]) {
    let mut skipped = Reader::new(data);
    if skipped.skip().is_ok() {
        let len = data.len() - skipped.rest().len();
        assert!(len > 0);
        // A value ends where it says, and nowhere before.
        let mut alone = Reader::new(&data[..len]);
        assert!(alone.skip().is_ok() && alone.rest().is_empty());
        assert!(Reader::new(&data[..len - 1]).skip().is_err());
    }
    let mut reader = Reader::new(data);
    if let Ok(list) = reader.list() {
        assert!(list.len() <= data.len());
        assert_eq!(list.iter().count(), list.len());
        let again = written(|w| list.emit(w));
        assert_eq!(Reader::new(&again).list().map(|again| again == list), Ok(true));
    }
    // Every typed read goes forward, or fails.
    let mut count = 0;
    let mut reader = Reader::new(data);
    let fields = reader.fields(|key, value| {
        count += 1;
        assert!(count <= data.len());
        match key.first() {
            Some(0..0x10) => value.i64().map(drop)?,
            Some(0x10..0x20) => value.time().map(drop)?,
            Some(0x20..0x30) => value.mac().map(drop)?,
            Some(0x30..0x40) => value.f64().map(drop)?,
            Some(0x40..0x50) => value.bool().map(drop)?,
            Some(0x50..0x60) => value.u8().map(drop)?,
            _ => return Ok(false),
        }
        Ok(true)
    });
    let mut skipped = Reader::new(data);
    if fields.is_ok() && skipped.skip().is_ok() {
        assert_eq!(reader.rest(), skipped.rest());
    }
    let mut reader = Reader::new(data);
    while !reader.rest().is_empty() && reader.skip().is_ok() {}
}

/// Writes values that the input chooses, and reads them.
fn writing(mut input: Input<'_>) {
    let start = input;
    let bytes = written(|w| {
        let mut input = start;
        while !input.is_empty() {
            one(&mut input, w);
        }
    });
    let mut reader = Reader::new(&bytes);
    while !input.is_empty() {
        let choice = input.byte();
        match choice % 8 {
            0 => assert_eq!(reader.i64(), Ok(input.u64().cast_signed())),
            1 => assert_eq!(reader.u64(), Ok(input.u64())),
            2 => assert_eq!(reader.bytes(), Ok(input.short())),
            3 => assert_eq!(reader.bytes(), Ok(input.short())),
            4 => assert_eq!(reader.time(), Ok(time(&mut input))),
            5 => assert_eq!(reader.f64().map(f64::to_bits), Ok(input.u64())),
            6 => assert_eq!(reader.i64(), Ok(i64::from(input.u32().cast_signed()))),
            _ => assert_eq!(reader.map().map(|len| len as usize), Ok(input.u16().into())),
        }
    }
    assert!(reader.rest().is_empty());
}

fn one(input: &mut Input<'_>, w: &mut Writer<'_>) {
    match input.byte() % 8 {
        0 => w.i64(input.u64().cast_signed()),
        1 => w.u64(input.u64()),
        2 => w.str(input.short()),
        3 => w.bin(input.short()),
        4 => w.time(time(input)),
        5 => w.f64(f64::from_bits(input.u64())),
        6 => w.int(input.u32().cast_signed().into()),
        _ => w.map(input.u16().into()),
    }
}

fn time(input: &mut Input<'_>) -> Timestamp {
    Timestamp { secs: input.u64().cast_signed(), nanos: input.u32() % 1_000_000_000 }
}
