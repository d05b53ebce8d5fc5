//! Patterns of names, beside a matcher that tries everything.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_appliance::fuzzing::pattern;
use tiroir_fuzz::Input;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let (glob, name) = (input.short(), input.0);
    let matched = pattern(glob, name);
    // Whether a pattern is one does not depend on the name.
    assert_eq!(pattern(glob, b"").is_some(), matched.is_some());
    assert_eq!(pattern(glob, &[name, b"x"].concat()).is_some(), matched.is_some());
    let Some(matched) = matched else { return };
    if !glob.iter().any(|byte| b"*?[\\".contains(byte)) {
        assert_eq!(matched, glob == name);
    }
    if !glob.contains(&b'[') && glob.len() <= 12 && name.len() <= 24 && name.is_ascii() {
        assert_eq!(matched, naive(glob, name), "{glob:?} {name:?}");
    }
    let quoted: Vec<u8> = name.iter().flat_map(|byte| [b'\\', *byte]).collect();
    assert_eq!(pattern(&quoted, name), Some(true));
    assert_eq!(pattern(b"*", name), Some(!name.contains(&b'/')));
});

fn naive(glob: &[u8], name: &[u8]) -> bool {
    let Some((first, rest)) = glob.split_first() else { return name.is_empty() };
    let skips = |len: usize| len <= name.len() && !name[..len].contains(&b'/');
    match first {
        b'*' => (0..=name.len()).any(|len| skips(len) && naive(rest, &name[len..])),
        b'?' => skips(1) && naive(rest, &name[1..]),
        b'\\' => name.first() == rest.first() && naive(&rest[1..], &name[1..]),
        _ => name.first() == Some(first) && naive(rest, &name[1..]),
    }
}
