//! Names that a file system cannot keep as they are.
//!
//! FAT, exFAT, NTFS and shares of Windows find `a` when they are asked for `A`,
//! some drop dots at the end, and all refuse some letters. A restore must not
//! replace one file by another there that only happens to be found by its name.

use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Mode, OFlags, RawDir};
use rustix::io::Errno;

/// Bytes of a directory that are listed at once, on the stack.
const LIST_BYTES: usize = 4096;

/// Names of usual file systems are no longer.
const NAME_BYTES_MAX: usize = 255;

/// What a directory has for a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// An entry of this name.
    Same,
    /// An entry that is spelt in another way.
    Respelt,
}

/// What is found under `name` in the directory `parent`.
///
/// Where the directory tells names apart, as Linux's own file systems do, this
/// takes two or three calls. Where it does not, the directory is listed.
pub(super) fn find(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Found> {
    if !exists(parent, name)? {
        return Ok(Found::Nothing);
    }
    if !may_be_respelt(parent, name)? {
        return Ok(Found::Same);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listed = match rustix::fs::openat(parent, ".", flags, Mode::empty()) {
        // It may be written to and not listed: then nothing can be told.
        Err(Errno::ACCESS) => return Ok(Found::Same),
        other => other?,
    };
    let folded = fold(name);
    // A name of other letters than ASCII may be kept in another normal form,
    // which is no other spelling.
    let mut found = if name.is_ascii() { Found::Respelt } else { Found::Same };
    let mut buffer = [MaybeUninit::uninit(); LIST_BYTES];
    let mut entries = RawDir::new(&listed, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let there = entry.file_name().to_bytes();
        if there == name {
            return Ok(Found::Same);
        }
        if fold(there) == folded {
            found = Found::Respelt;
        }
    }
    Ok(found)
}

/// Whether a file system took a name and dropped its end, after something was
/// made under it. FAT and exFAT do so with dots.
pub(super) fn was_cut(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<bool> {
    if trimmed(name).len() == name.len() {
        return Ok(false);
    }
    Ok(find(parent, name)? == Found::Respelt)
}

/// What keeps a file system of Windows from having a name, if that is why it
/// said `EINVAL`, or that of exFAT in FUSE `ENOENT`.
pub(super) fn why_invalid(name: &[u8]) -> Option<&'static str> {
    let is_refused = |byte: &u8| {
        matches!(byte, b'"' | b'*' | b':' | b'<' | b'>' | b'?' | b'\\' | b'|')
            || byte.is_ascii_control()
    };
    if name.iter().any(is_refused) {
        return Some(
            "the file system there cannot have names with any of \" * : < > ? \\ | or control \
             characters",
        );
    }
    if trimmed(name).len() != name.len() {
        return Some("the file system there cannot have names that end with a dot or a space");
    }
    std::str::from_utf8(name)
        .is_err()
        .then_some("the file system there cannot have names that are not UTF-8")
}

/// Whether another spelling of a name that is there is there as well, or may be.
fn may_be_respelt(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<bool> {
    let short = trimmed(name);
    if short.len() != name.len() && !short.is_empty() && exists(parent, short)? {
        return Ok(true);
    }
    let Some(letter) = name.iter().position(u8::is_ascii_alphabetic) else {
        // Of letters that have no two cases there is one spelling.
        let Ok(text) = std::str::from_utf8(name) else { return Ok(false) };
        for respelt in [text.to_uppercase(), text.to_lowercase()] {
            if respelt != text && exists(parent, respelt.as_bytes())? {
                return Ok(true);
            }
        }
        return Ok(false);
    };
    let mut respelt = [0; NAME_BYTES_MAX];
    let Some(respelt) = respelt.get_mut(..name.len()) else { return Ok(true) };
    respelt.copy_from_slice(name);
    respelt[letter] ^= 0x20;
    exists(parent, respelt)
}

fn exists(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<bool> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        // Nor is there what the file system cannot have.
        Err(Errno::NOENT | Errno::INVAL | Errno::ILSEQ | Errno::NAMETOOLONG) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A name without dots and spaces at its end.
fn trimmed(name: &[u8]) -> &[u8] {
    let end = name.iter().rposition(|byte| !matches!(byte, b'.' | b' '));
    &name[..end.map_or(0, |end| end + 1)]
}

/// What two names have in common that such a file system takes for one.
fn fold(name: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(trimmed(name)) {
        Ok(text) => text.to_lowercase().into_bytes(),
        Err(_) => trimmed(name).to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsFd as _;

    #[test]
    fn directories_that_tell_names_apart() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["A", "a", "b", "c.", "é", "É", "2024", "x.", "x"] {
            fs::write(directory.path().join(name), b"").unwrap();
        }
        let opened = fs::File::open(directory.path()).unwrap();
        let find = |name: &str| find(opened.as_fd(), name.as_bytes()).unwrap();
        for name in ["A", "a", "b", "c.", "é", "É", "2024", "x.", "x"] {
            assert_eq!(find(name), Found::Same, "{name}");
            assert!(!was_cut(opened.as_fd(), name.as_bytes()).unwrap(), "{name}");
        }
        for name in ["B", "c", "è", "2025", "y."] {
            assert_eq!(find(name), Found::Nothing, "{name}");
        }
    }

    #[test]
    fn spellings() {
        assert_eq!(trimmed(b"a. ."), b"a");
        assert_eq!(trimmed(b"..."), b"");
        assert_eq!(fold("É.".as_bytes()), fold("é".as_bytes()));
        assert_ne!(fold(b"a"), fold(b"b"));
        assert_eq!(fold(b"\xffA"), b"\xffa");
        assert!(why_invalid(b"a:b").is_some() && why_invalid(b"a.").is_some());
        assert!(why_invalid(b"\xff").is_some() && why_invalid(b"a\n").is_some());
        assert_eq!(why_invalid("ä b".as_bytes()), None);
    }
}
