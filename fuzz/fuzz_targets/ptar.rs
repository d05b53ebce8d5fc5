//! The frame of an archive, as the engine has it and as the connector reads it
//! from a file.
#![no_main]

use std::cell::RefCell;
use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use tiroir_core::limits::CONFIG_BYTES_MAX;
use tiroir_core::mac::Mac;
use tiroir_core::store::{Store as _, StoreResource};
use tiroir_core::wire::ptar::{HEAD_BYTES, TABLE_BYTES, Table, parse_head};
use tiroir_fuzz::Input;
use tiroir_hosts::ptar::PtarReader;

thread_local! {
    static FILE: RefCell<tempfile::NamedTempFile> = RefCell::new(tempfile::NamedTempFile::new().unwrap());
}

fuzz_target!(|data: &[u8]| {
    // Most inputs get a good start, which nothing more can be learned from.
    let archive = match data.split_first() {
        Some((0, rest)) => rest.to_vec(),
        Some((_, rest)) => [&tiroir_core::wire::ptar::head(), rest].concat(),
        None => return,
    };
    let file_bytes = archive.len() as u64;
    let table =
        archive.last_chunk::<TABLE_BYTES>().and_then(|table| Table::parse(table, file_bytes).ok());
    if let Some(table) = &table {
        for range in [&table.config, &table.packfile, &table.state] {
            assert!(range.start >= HEAD_BYTES as u64 && range.start <= range.end);
            assert!(range.end <= file_bytes - TABLE_BYTES as u64);
        }
        assert_eq!(Table::parse(&table.emit(), file_bytes).as_ref(), Ok(table));
    }
    let is_archive = archive.first_chunk().is_some_and(|head| parse_head(head).is_ok());

    let opened = FILE.with_borrow_mut(|file| {
        std::fs::write(file.path(), &archive).unwrap();
        PtarReader::open(file.path())
    });
    if table.is_some() && is_archive {
        assert!(opened.is_ok(), "the connector is stricter than the engine");
    }
    let Ok(mut reader) = opened else { return };
    assert!(is_archive);
    let mut config = vec![0; CONFIG_BYTES_MAX];
    let len = reader.read_config(&mut config).unwrap();
    assert!((1..=CONFIG_BYTES_MAX).contains(&len));
    let mut input = Input(&archive);
    for resource in [StoreResource::Packfile, StoreResource::State, StoreResource::Lock] {
        let mut name = None;
        let mut each = |found: Mac| {
            name = Some(found);
            ControlFlow::Continue(())
        };
        reader.list(resource, &mut each).unwrap();
        let Some(name) = name else { continue };
        let size = reader.size(resource, &name).unwrap().unwrap();
        assert!(size <= file_bytes);
        for offset in [0, 1, size - 1, size, size + 1, input.u64(), u64::MAX] {
            let mut into = [0; 64];
            let got = reader.get(resource, &name, offset, &mut into).unwrap();
            assert_eq!(got as u64, size.saturating_sub(offset).min(64));
        }
    }
});
