//! [`Mapped`]: memory that the kernel gives and takes back, whatever the allocator does.

use std::ffi::c_void;
use std::fmt;
use std::fs::File;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::{Errno, Result};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// See [`held_bytes`].
static HELD_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Bytes that this process holds as [`Mapped`] now, those of files not counted: no
/// allocator knows of them.
#[must_use]
pub fn held_bytes() -> usize {
    HELD_BYTES.load(Ordering::Relaxed)
}

/// Bytes, all zeros at first, of which a page costs nothing before it is touched. Aligned
/// to a page.
pub struct Mapped {
    start: NonNull<c_void>,
    bytes: usize,
    /// Whether they are memory, and counted as such.
    is_memory: bool,
}

// SAFETY: the memory is its own, as that of a box is.
unsafe impl Send for Mapped {}

impl Mapped {
    /// So many bytes; nothing if there is not so much memory, or none is asked for.
    #[must_use]
    pub fn new(bytes: usize) -> Option<Self> {
        Self::map(bytes, None).ok()
    }

    /// The bytes of a new file without a name, whose descriptor the caller closes: nobody
    /// else may reach it. It is as long as that, and every page has its place on the disk.
    pub(crate) fn of_new_file(bytes: usize, file: &File) -> Result<Self> {
        Self::map(bytes, Some(file))
    }

    fn map(bytes: usize, file: Option<&File>) -> Result<Self> {
        if bytes == 0 || isize::try_from(bytes).is_err() {
            return Err(Errno::INVAL);
        }
        let (anywhere, access) = (ptr::null_mut(), ProtFlags::READ | ProtFlags::WRITE);
        // SAFETY: new mappings at addresses that the kernel chooses; nothing that is mapped
        // already is replaced.
        let start = unsafe {
            match file {
                Some(file) => mmap(anywhere, bytes, access, MapFlags::SHARED, file, 0)?,
                None => mmap_anonymous(anywhere, bytes, access, MapFlags::PRIVATE)?,
            }
        };
        let start = NonNull::new(start).ok_or(Errno::NOMEM)?;
        let is_memory = file.is_none();
        if is_memory {
            HELD_BYTES.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(Self { start, bytes, is_memory })
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: as many bytes are mapped, readable, set by the kernel, and unmapped only
        // when `self` is dropped; nobody else reaches them, and they change through
        // `deref_mut` alone. The length fits `isize`.
        unsafe { slice::from_raw_parts(self.start.as_ptr().cast(), self.bytes) }
    }
}

impl DerefMut for Mapped {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and writable; nobody else has them while `self` is borrowed.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr().cast(), self.bytes) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, whole, and no borrow of it is left.
        let unmapped = unsafe { munmap(self.start.as_ptr(), self.bytes) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
        if self.is_memory {
            HELD_BYTES.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapped").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_or_nothing() {
        let mut zeros = Mapped::new(5000).unwrap();
        assert!(held_bytes() >= 5000);
        assert_eq!(zeros[..], [0; 5000]);
        zeros[4999] = 7;
        assert_eq!(zeros.iter().map(|byte| u32::from(*byte)).sum::<u32>(), 7);
        assert!(Mapped::new(0).is_none());
        assert!(Mapped::new(usize::MAX).is_none());
        assert!(Mapped::new(isize::MAX.unsigned_abs() / 2).is_none());
    }
}
