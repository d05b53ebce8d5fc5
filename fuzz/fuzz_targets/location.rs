//! Where a store is, from what was typed.
#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use libfuzzer_sys::fuzz_target;
use tiroir_appliance::fuzzing::{absolute, location, split_scheme};

fuzz_target!(|data: &[u8]| {
    // No path of the system has these.
    if data.contains(&0) {
        return;
    }
    let text = OsStr::from_bytes(data);
    let (scheme, rest) = split_scheme(text);
    let path = absolute(rest).expect("there is a current directory");
    is_plain(&path);
    assert_eq!(absolute(path.as_os_str()).as_ref(), Some(&path));
    // Without a scheme, what is on the disk decides: not here.
    let Some(scheme) = scheme else {
        assert_eq!(rest, text);
        return;
    };
    assert!(!scheme.is_empty() && text.as_bytes().ends_with(rest.as_bytes()));
    // Of servers no more is asked than that they are understood and shown.
    let Some((Some(found), shown)) = location(text) else { return };
    assert_eq!(found, path);
    if found.to_str().is_some() {
        let (again, shown_again) = location(OsStr::new(&shown)).expect("what is shown is one");
        assert_eq!((again, shown_again), (Some(found), shown));
    }
});

fn is_plain(path: &Path) {
    assert!(path.is_absolute());
    let is_name = |part| matches!(part, Component::Normal(_) | Component::RootDir);
    assert!(path.components().all(is_name));
}
