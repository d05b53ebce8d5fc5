//! [`Arena`]: memory for a key derivation: the kernel's, or in a file.
//!
//! That of the kernel goes back to it when the key is there; an allocator may keep it.
//! Stock's stores ask for 256 MiB to derive their key, which a small machine
//! does not have. A file that is mapped does in its place, slowly: the kernel
//! writes pages to the disk as it needs their memory.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use tiroir_core::crypto::kdf::Argon2Block;
use tiroir_core::host::HostErrorKind;

use crate::error::{Context as _, HostsError, Result};
use crate::mapped::Mapped;
use crate::spool::create_named;

/// Length of a block, in bytes.
const BLOCK_BYTES: usize = 1024;

// What a mapping is taken for: 1 KiB without padding, aligned below a page.
const _: () = assert!(size_of::<Argon2Block>() == BLOCK_BYTES);
const _: () = assert!(align_of::<Argon2Block>() <= 4096);

/// Bytes of zeros written at once where a file cannot be allocated.
const ZERO_BYTES: usize = 64 * 1024;

/// Memory for a key derivation, by itself or in a file that has no name any more.
///
/// The derivation erases the blocks when it is done, and the kernel may or may
/// not have written some of those in a file to the disk meanwhile, as it does with swap.
#[derive(Debug)]
pub struct Arena {
    bytes: Mapped,
}

impl Arena {
    /// An arena of so many blocks of 1 KiB, in a new file at `path`. The name
    /// is free again when this returns.
    ///
    /// # Errors
    ///
    /// Of the system: that there is something of that name, or no room.
    pub fn in_file(path: &Path, blocks: usize) -> Result<Self> {
        let bytes = blocks
            .checked_mul(BLOCK_BYTES)
            .filter(|bytes| *bytes > 0 && isize::try_from(*bytes).is_ok())
            .ok_or_else(|| too_large(path))?;
        let file = create_named(path)?;
        fs::remove_file(path).at("remove", path)?;
        reserve(&file, bytes).at("reserve", path)?;
        Ok(Self { bytes: Mapped::of_new_file(bytes, &file).at("map", path)? })
    }

    /// An arena of so many blocks of 1 KiB, in memory; nothing if there is not so much.
    #[must_use]
    pub fn in_memory(blocks: usize) -> Option<Self> {
        Some(Self { bytes: Mapped::new(blocks.checked_mul(BLOCK_BYTES)?)? })
    }

    /// The blocks, all zeros at first.
    pub fn blocks(&mut self) -> &mut [Argon2Block] {
        let blocks = self.bytes.len() / BLOCK_BYTES;
        // SAFETY: the bytes are aligned to a page and as long as so many blocks, and are
        // borrowed for as long as the blocks are. A block is an array of `u64` and nothing
        // else (its size is compared above), for which all bytes are valid.
        unsafe { std::slice::from_raw_parts_mut(self.bytes.as_mut_ptr().cast(), blocks) }
    }
}

/// Makes sure that every page has its place on the disk: a page that finds
/// none when it is written would end the program.
fn reserve(file: &File, bytes: usize) -> rustix::io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes as u64) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            let zeros = vec![0; ZERO_BYTES];
            let mut done = 0;
            while done < bytes {
                let piece = &zeros[..(bytes - done).min(ZERO_BYTES)];
                done += rustix::io::pwrite(file, piece, done as u64)?;
            }
            Ok(())
        }
        other => other,
    }
}

fn too_large(path: &Path) -> HostsError {
    let path = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
    HostsError::rule(HostErrorKind::Other, "map", path, "it would not fit in the address space")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiroir_core::crypto::kdf::Kdf;

    #[test]
    fn derives_as_memory_does() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("arena");
        let kdf = Kdf::Argon2id { time: 2, memory_kib: 1024, threads: 1 };
        let mut arena = Arena::in_file(&path, kdf.arena_blocks()).unwrap();
        assert!(!path.exists());
        let mapped = kdf.derive_with_arena(b"secret", &[7; 16], arena.blocks()).unwrap();
        let mut memory = vec![Argon2Block::new(); kdf.arena_blocks()];
        let wanted = kdf.derive_with_arena(b"secret", &[7; 16], &mut memory).unwrap();
        assert_eq!(mapped.as_bytes(), wanted.as_bytes());
        assert!(arena.blocks().iter().all(|block| block.as_ref().iter().all(|word| *word == 0)));
    }

    #[test]
    fn memory_is_zeros_or_nothing() {
        let mut arena = Arena::in_memory(100).unwrap();
        assert_eq!(arena.blocks().len(), 100);
        assert!(arena.blocks().iter().all(|block| block.as_ref().iter().all(|word| *word == 0)));
        assert!(Arena::in_memory(0).is_none());
        assert!(Arena::in_memory(usize::MAX / 2048).is_none());
    }

    #[test]
    fn nothing_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("arena");
        fs::write(&path, b"mine").unwrap();
        assert!(Arena::in_file(&path, 8).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        assert!(Arena::in_file(&directory.path().join("b"), 0).is_err());
        assert!(Arena::in_file(&directory.path().join("c"), usize::MAX).is_err());
    }
}
