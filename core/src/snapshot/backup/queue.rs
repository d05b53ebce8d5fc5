//! [`Queue`]: the directories that are still to be entered.

use crate::error::Error;
use crate::host::HostError;
use crate::importer::{DIRECTORIES_AHEAD_MAX, Importer};
use crate::limits::PATH_BYTES_MAX;
use crate::spool::Spool;

use super::internal;

/// Bytes of a directory before its path: whether it failed, and the length of the path.
const HEAD_BYTES: usize = 3;

/// Paths of directories in a spool, in the order in which they are entered.
pub(super) struct Queue<P> {
    spool: P,
    /// Where the next one lies.
    at: u64,
    /// Where the next one lies of which the importer was not told, and how many it was
    /// told of that have not been entered.
    told_at: u64,
    told: usize,
}

impl<P: Spool> Queue<P> {
    pub(super) fn new(spool: P) -> Self {
        Self { spool, at: 0, told_at: 0, told: 0 }
    }

    /// Puts a directory at the end.
    pub(super) fn push(&mut self, path: &[u8], failed: bool) -> Result<(), Error<P::Error>>
    where
        P::Error: HostError,
    {
        let len = u16::try_from(path.len()).map_err(|_| internal("path"))?;
        self.spool.append(&[u8::from(failed)])?;
        self.spool.append(&len.to_le_bytes())?;
        Ok(self.spool.append(path)?)
    }

    /// Takes the next directory: its path in `into`, and whether it failed before.
    pub(super) fn pop<'p>(
        &mut self,
        into: &'p mut [u8; PATH_BYTES_MAX],
    ) -> Result<Option<(&'p [u8], bool)>, P::Error> {
        if self.at == self.spool.len() {
            return Ok(None);
        }
        let (len, failed) = self.read(self.at, into)?;
        self.at += (HEAD_BYTES + len) as u64;
        self.told = self.told.saturating_sub(1);
        self.told_at = self.told_at.max(self.at);
        Ok(Some((&into[..len], failed)))
    }

    /// Tells the importer of directories that come next, as many as it wants.
    /// `space` takes a path.
    pub(super) fn tell<I: Importer>(
        &mut self,
        importer: &mut I,
        space: &mut [u8],
    ) -> Result<(), P::Error> {
        let wanted = importer.directories_ahead().min(DIRECTORIES_AHEAD_MAX);
        while self.told < wanted && self.told_at < self.spool.len() {
            let (len, _) = self.read(self.told_at, space)?;
            importer.expect_directory(&space[..len]);
            self.told_at += (HEAD_BYTES + len) as u64;
            self.told += 1;
        }
        Ok(())
    }

    /// Reads the directory at `at`: length of its path, and whether it failed.
    fn read(&mut self, at: u64, into: &mut [u8]) -> Result<(usize, bool), P::Error> {
        let mut head = [0; HEAD_BYTES];
        self.spool.read_at(at, &mut head)?;
        let len = usize::from(u16::from_le_bytes([head[1], head[2]])).min(into.len());
        self.spool.read_at(at + HEAD_BYTES as u64, &mut into[..len])?;
        Ok((len, head[0] != 0))
    }
}
