//! The attributes of an entry, alone.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_core::error::FormatError;
use tiroir_core::wire::file_info::FileInfo;
use tiroir_core::wire::mode::{TYPE, from_unix, is_regular, unix_permissions};
use tiroir_core::wire::msgpack::Reader;

fn parse(bytes: &[u8]) -> Result<FileInfo<'_>, FormatError> {
    FileInfo::parse(&mut Reader::new(bytes))
}

fuzz_target!(|data: &[u8]| {
    let Ok(info) = tiroir_fuzz::both_ways!(data, parse, FileInfo::emit) else { return };
    let permissions = unix_permissions(info.mode);
    assert!(permissions <= 0o7777);
    let again = from_unix(permissions | 0o100_000);
    assert!(is_regular(again));
    assert_eq!(unix_permissions(again), permissions);
    assert_eq!(from_unix(info.mode) & TYPE == 0, info.mode & 0o170_000 == 0o100_000);
});
