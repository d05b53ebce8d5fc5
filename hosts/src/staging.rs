//! [`Staged`]: what is to be sent to a server, complete before it is sent.
//!
//! A server wants to know how long an upload is, under which name and with which
//! SHA-256 before its first byte, and the same bytes again when the link broke.
//! All of these are known only when the last byte is there: until then it waits
//! here, the first 64 KiB in memory, the rest in a file without a name.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tiroir_core::host::HostErrorKind;
use tiroir_core::store::StoreResource;

use crate::error::{Context as _, HostsError, Result};
use crate::spool::create_hidden;

/// Bytes that wait in memory, at most: what is shorter never touches the disk.
pub const BUFFER_BYTES: usize = 64 * 1024;

/// Bytes on their way to a server.
///
/// Takes 64 KiB, a descriptor, and its length on the disk of the spools.
pub struct Staged {
    directory: PathBuf,
    file: Option<File>,
    /// Bytes in the file; those of the buffer follow.
    file_bytes: u64,
    buffer: Vec<u8>,
    hasher: Sha256,
}

impl Staged {
    /// Nothing yet. The file will be in `directory` if one is needed.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            file: None,
            file_bytes: 0,
            buffer: Vec::new(),
            hasher: Sha256::new(),
        }
    }

    /// Appends all of `bytes`.
    ///
    /// # Errors
    ///
    /// Of the file.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        while !bytes.is_empty() {
            let room = BUFFER_BYTES - self.buffer.len();
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == BUFFER_BYTES {
                self.write_out()?;
            }
        }
        Ok(())
    }

    fn write_out(&mut self) -> Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            empty => empty.insert(create_hidden(&self.directory)?),
        };
        file.write_all_at(&self.buffer, self.file_bytes)
            .at("write what is to be uploaded in", &self.directory)?;
        self.file_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// How long it is, in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.file_bytes + self.buffer.len() as u64
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// SHA-256 of everything.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        self.hasher.clone().finalize().into()
    }

    /// Reads from `offset_bytes` on and returns how many bytes of `into` were
    /// filled: fewer than asked at the end only.
    ///
    /// # Errors
    ///
    /// Of the file.
    pub fn read_at(&self, offset_bytes: u64, into: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        if let Some(file) = self.file.as_ref().filter(|_| offset_bytes < self.file_bytes) {
            let left = usize::try_from(self.file_bytes - offset_bytes).unwrap_or(usize::MAX);
            filled = left.min(into.len());
            file.read_exact_at(&mut into[..filled], offset_bytes)
                .at("read what is to be uploaded in", &self.directory)?;
        }
        let skip = (offset_bytes + filled as u64).saturating_sub(self.file_bytes);
        let rest = usize::try_from(skip).ok().and_then(|skip| self.buffer.get(skip..));
        let rest = rest.unwrap_or_default();
        let count = rest.len().min(into.len() - filled);
        into[filled..filled + count].copy_from_slice(&rest[..count]);
        Ok(filled + count)
    }

    /// Calls `each` with the bytes from `offset_bytes` on, in pieces.
    ///
    /// # Errors
    ///
    /// Of the file, and of kind *other* where it holds fewer.
    pub(crate) fn pieces(
        &self,
        mut offset_bytes: u64,
        mut len: u64,
        mut each: impl FnMut(&[u8]),
    ) -> Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        while len > 0 {
            let wanted = usize::try_from(len).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            let filled = self.read_at(offset_bytes, &mut piece[..wanted])?;
            if filled == 0 {
                return Err(too_short());
            }
            each(&piece[..filled]);
            offset_bytes += filled as u64;
            len -= filled as u64;
        }
        Ok(())
    }

    /// Forgets everything, and keeps the file for what comes next.
    pub fn clear(&mut self) {
        self.file_bytes = 0;
        self.buffer.clear();
        self.hasher = Sha256::new();
        if let Some(file) = &self.file {
            // If it cannot be made shorter it is written over.
            let _ = file.set_len(0);
        }
    }
}

/// A resource of a store that waits for its name.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) resource: StoreResource,
    pub(crate) staged: Staged,
}

impl Upload {
    /// Nothing of it yet; its file will be in `directory`.
    pub(crate) fn new(resource: StoreResource, directory: &Path) -> Self {
        Self { resource, staged: Staged::new(directory) }
    }
}

/// Bytes read at once to be hashed.
const PIECE_BYTES: usize = 32 * 1024;

pub(crate) fn too_short() -> HostsError {
    let rule = "the file of what is to be sent became shorter";
    HostsError::rule(HostErrorKind::Other, "upload", b"", rule)
}

impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staged").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn what_went_in_comes_out() {
        let directory = tempfile::tempdir().unwrap();
        let mut random = Random::new(3);
        for length in [0, 1, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1, 300_000] {
            let content = random.bytes(length);
            let mut staged = Staged::new(directory.path());
            staged.write(b"another").unwrap();
            staged.clear();
            for piece in content.chunks(7777) {
                staged.write(piece).unwrap();
            }
            assert_eq!(staged.len(), length as u64);
            assert_eq!(staged.sha256(), <[u8; 32]>::from(Sha256::digest(&content)));
            for _ in 0..20 {
                let offset = usize::try_from(random.below(length as u64 + 10)).unwrap();
                let mut into = vec![0; usize::try_from(random.below(100_000)).unwrap()];
                let filled = staged.read_at(offset as u64, &mut into).unwrap();
                let rest = content.get(offset..).unwrap_or_default();
                assert_eq!(into[..filled], rest[..rest.len().min(into.len())]);
            }
            let mut hasher = Sha256::new();
            staged.pieces(0, length as u64, |piece| hasher.update(piece)).unwrap();
            assert_eq!(<[u8; 32]>::from(hasher.finalize()), staged.sha256());
            assert!(staged.pieces(0, length as u64 + 1, |_| {}).is_err());
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_short_stays_in_memory() {
        let mut staged = Staged::new("/proc/none");
        staged.write(&[1; BUFFER_BYTES - 1]).unwrap();
        assert!(staged.write(&[1; 2]).is_err());
    }
}
