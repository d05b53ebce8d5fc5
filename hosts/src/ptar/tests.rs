//! What is written is read, and nothing else is.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use tiroir_core::host::{HostError as _, HostErrorKind};
use tiroir_core::mac::Mac;
use tiroir_core::store::{Store, StoreResource};

use super::{PtarReader, PtarWriter};
use crate::error::{HostsError, Result};
use crate::testing::Random;

const NAME: Mac = Mac([0x77; 32]);

fn packfile() -> Vec<u8> {
    Random::new(3).bytes(700_000)
}

fn state() -> Vec<u8> {
    Random::new(4).bytes(1000)
}

fn write_resource(writer: &mut PtarWriter, resource: StoreResource, bytes: &[u8]) -> Result<()> {
    let upload = writer.begin(resource)?;
    for piece in bytes.chunks(10_007) {
        writer.write(upload, piece)?;
    }
    writer.commit(upload, &NAME)
}

fn write_archive(path: &Path, overwrite: bool) -> Result<()> {
    let mut writer = PtarWriter::new(path).with_overwrite(overwrite);
    writer.create(b"config")?;
    write_resource(&mut writer, StoreResource::Packfile, &packfile())?;
    write_resource(&mut writer, StoreResource::State, &state())?;
    assert!(writer.is_finished());
    Ok(())
}

fn listed(store: &mut impl Store<Error = HostsError>, resource: StoreResource) -> Vec<Mac> {
    let mut names = Vec::new();
    let mut each = |name| {
        names.push(name);
        ControlFlow::Continue(())
    };
    store.list(resource, &mut each).unwrap();
    names
}

#[test]
fn what_is_written_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.ptar");
    write_archive(&path, false).unwrap();
    let mut reader = PtarReader::open(&path).unwrap();
    let mut into = vec![0; 1_000_000];
    assert_eq!(reader.read_config(&mut into).unwrap(), 6);
    assert_eq!(&into[..6], b"config");
    let count = reader.get(StoreResource::Packfile, &Mac([9; 32]), 0, &mut into).unwrap();
    assert_eq!(into[..count], packfile());
    let count = reader.get(StoreResource::Packfile, &Mac([9; 32]), 699_990, &mut into).unwrap();
    assert_eq!(into[..count], packfile()[699_990..]);

    let names = listed(&mut reader, StoreResource::State);
    assert_eq!(names, [Mac::from_slice(&state()[968..]).unwrap()]);
    let count = reader.get(StoreResource::State, &names[0], 0, &mut into).unwrap();
    assert_eq!(into[..count], state());
    let error = reader.get(StoreResource::State, &NAME, 0, &mut into).unwrap_err();
    assert_eq!(error.kind(), HostErrorKind::NotFound);
    assert_eq!(listed(&mut reader, StoreResource::Packfile).len(), 1);
    assert!(listed(&mut reader, StoreResource::Lock).is_empty());
    assert!(reader.begin(StoreResource::Packfile).is_err());
    assert!(reader.delete(StoreResource::Packfile, &NAME).is_err());
}

#[test]
fn the_packfile_is_read_while_it_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = PtarWriter::new(directory.path().join("a.ptar"));
    writer.create(b"config").unwrap();
    let upload = writer.begin(StoreResource::Packfile).unwrap();
    let content = packfile();
    let mut written = 0;
    for piece in content.chunks(9000) {
        writer.write(upload, piece).unwrap();
        written += piece.len();
        let mut into = [0; 5000];
        let start = written - 4000;
        let count = writer.get(StoreResource::Packfile, &NAME, start as u64, &mut into).unwrap();
        assert_eq!(into[..count], content[start..written]);
    }
}

#[test]
fn what_is_aborted_can_be_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.ptar");
    let mut writer = PtarWriter::new(&path);
    writer.create(b"config").unwrap();
    for length in [10, 900_000] {
        let upload = writer.begin(StoreResource::Packfile).unwrap();
        writer.write(upload, &vec![1; length]).unwrap();
        writer.abort(upload);
    }
    write_resource(&mut writer, StoreResource::Packfile, &packfile()).unwrap();
    let upload = writer.begin(StoreResource::State).unwrap();
    writer.write(upload, &[2; 100]).unwrap();
    writer.abort(upload);
    write_resource(&mut writer, StoreResource::State, &state()).unwrap();
    drop(writer);
    let mut reader = PtarReader::open(&path).unwrap();
    let mut into = vec![0; 1_000_000];
    let count = reader.get(StoreResource::Packfile, &NAME, 0, &mut into).unwrap();
    assert_eq!(into[..count], packfile());
}

#[test]
fn an_unfinished_archive_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = PtarWriter::new(directory.path().join("a.ptar"));
    writer.create(b"config").unwrap();
    write_resource(&mut writer, StoreResource::Packfile, &packfile()).unwrap();
    assert!(write_resource(&mut writer, StoreResource::Packfile, b"second").is_err());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    drop(writer);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn an_existing_file_is_kept_unless_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.ptar");
    fs::write(&path, b"something").unwrap();
    assert_eq!(write_archive(&path, false).unwrap_err().kind(), HostErrorKind::AlreadyExists);
    assert_eq!(fs::read(&path).unwrap(), b"something");
    write_archive(&path, true).unwrap();
    PtarReader::open(&path).unwrap();

    // One that appears while the archive is written is kept as well.
    let late = directory.path().join("late.ptar");
    let mut writer = PtarWriter::new(&late);
    writer.create(b"config").unwrap();
    write_resource(&mut writer, StoreResource::Packfile, &packfile()).unwrap();
    fs::write(&late, b"something").unwrap();
    let error = write_resource(&mut writer, StoreResource::State, &state()).unwrap_err();
    assert_eq!(error.kind(), HostErrorKind::AlreadyExists);
    drop(writer);
    assert_eq!(fs::read(&late).unwrap(), b"something");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn damaged_tables_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.ptar");
    write_archive(&path, false).unwrap();
    let whole = fs::read(&path).unwrap();
    let mut random = Random::new(5);
    for _ in 0..300 {
        let mut bytes = whole.clone();
        let end = bytes.len() as u64;
        let start = if random.below(2) == 0 { end - 48 } else { 0 };
        let position = start + random.below(if start == 0 { 12 } else { 48 });
        bytes[usize::try_from(position).unwrap()] ^= 1 << random.below(8);
        let length = end - if random.below(3) == 0 { random.below(end) } else { 0 };
        fs::write(&path, &bytes[..usize::try_from(length).unwrap()]).unwrap();
        if let Ok(mut reader) = PtarReader::open(&path) {
            // Then every part can be read to its end.
            let names = listed(&mut reader, StoreResource::State);
            let mut into = vec![0; whole.len()];
            reader.get(StoreResource::State, &names[0], 0, &mut into).unwrap();
            reader.get(StoreResource::Packfile, &NAME, 0, &mut into).unwrap();
            reader.read_config(&mut into).unwrap();
        }
    }
    for bytes in [&b""[..], b"_PLATAR_", &[0xff; 200]] {
        fs::write(&path, bytes).unwrap();
        assert!(PtarReader::open(&path).is_err());
    }
}
