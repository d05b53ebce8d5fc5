//! [`NewFile`]: a file that a restore writes, with holes where there are zeros.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use rustix::fs::AtFlags;

/// Zeros in a row that become a hole. Smaller holes save little and scatter the
/// file over the disk.
const HOLE_BYTES: u64 = 64 * 1024;

/// Bytes that are looked at together for zeros.
const BLOCK_BYTES: usize = 4096;

/// Zeros, to be written where there are too few for a hole.
static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// A file being written.
#[derive(Debug)]
pub(super) struct NewFile {
    pub(super) file: File,
    pub(super) parent: Arc<OwnedFd>,
    pub(super) temporary: String,
    pub(super) path: Vec<u8>,
    /// Where the next bytes go.
    pub(super) offset_bytes: u64,
    /// Zeros that follow, and are not written yet.
    pub(super) zeros: u64,
    /// Set again after the owner.
    pub(super) capability: Option<Vec<u8>>,
}

impl NewFile {
    /// Writes bytes, leaving holes for long runs of zeros.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        // What is to be written at `offset_bytes`, as far as it is known.
        let mut data = 0..0;
        for (number, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
            if is_zero(block) {
                self.zeros += block.len() as u64;
                continue;
            }
            let start = number * BLOCK_BYTES;
            let here = (start - data.end) as u64;
            if self.zeros >= HOLE_BYTES {
                self.write_data(bytes, data)?;
                self.offset_bytes += self.zeros;
                data = start..start;
            } else if self.zeros > here {
                // Those of earlier calls: then there is no data yet.
                self.write_zeros(self.zeros - here)?;
            }
            self.zeros = 0;
            data.end = start + block.len();
        }
        self.write_data(bytes, data)
    }

    fn write_data(&mut self, bytes: &[u8], range: Range<usize>) -> io::Result<()> {
        let bytes = &bytes[range];
        self.file.write_all_at(bytes, self.offset_bytes)?;
        self.offset_bytes += bytes.len() as u64;
        Ok(())
    }

    fn write_zeros(&mut self, mut count: u64) -> io::Result<()> {
        while count > 0 {
            let now = usize::try_from(count).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
            self.write_data(&ZEROS, 0..now)?;
            count -= now as u64;
        }
        Ok(())
    }

    pub(super) fn remove(&self) {
        let _ = rustix::fs::unlinkat(&self.parent, self.temporary.as_bytes(), AtFlags::empty());
    }
}

fn is_zero(block: &[u8]) -> bool {
    // Most blocks show at their start that they are none. The rest without an
    // early end, so that it is done many bytes at a time.
    let (first, rest) = block.split_at(block.len().min(16));
    first.iter().all(|byte| *byte == 0) && rest.iter().fold(0, |sum, byte| sum | byte) == 0
}
