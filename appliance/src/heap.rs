//! [`Heap`]: what happens when the system refuses memory.
//!
//! Rust ends a program by a signal then, with a message that helps nobody. This
//! one ends with a status and a line that says what to do. Nothing is unwound:
//! whatever was in the middle of being written is what a power cut would leave,
//! and is passed over or replaced by the next run.
//!
//! The few allocations that are as large as somebody asked for are tried first,
//! and a refusal of those is a failure like any other.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_int;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::exit::Status;

/// An allocator that ends the program when `A` refuses memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heap<A>(pub A);

/// From so many bytes on, somebody chose the size, and [`refusable`] counts.
const LARGE_BYTES: usize = 1024 * 1024;

/// A refusal of large memory is waited for.
static IS_REFUSABLE: AtomicBool = AtomicBool::new(false);

/// Written when memory is refused.
const MESSAGE: &[u8] = b"tiroir: out of memory: free some, or let it take less with --memory \
    BYTES; `tiroir limits` tells how little will do\n";

unsafe extern "C" {
    /// Ends the process: no destructors, no buffers, and so no memory.
    safe fn _exit(status: c_int) -> !;
}

// SAFETY: everything is passed on to `A` as it came, and so are its answers. A
// process that ends does not return.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Heap<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract, which is the same.
        granted(unsafe { self.0.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract, which is the same.
        granted(unsafe { self.0.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the contract, which is the same.
        granted(unsafe { self.0.realloc(memory, layout, new_size) }, new_size)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { self.0.dealloc(memory, layout) }
    }
}

/// The memory, if there is any or if the caller waits for a refusal.
fn granted(memory: *mut u8, bytes: usize) -> *mut u8 {
    // One thread asks for large memory, and it is the one that set this.
    if memory.is_null() && !(bytes >= LARGE_BYTES && IS_REFUSABLE.load(Ordering::Relaxed)) {
        end();
    }
    memory
}

/// Ends the process, without allocating.
#[cold]
fn end() -> ! {
    // The descriptor alone: the stream may be locked, and needs memory.
    let _ = rustix::io::write(io::stderr(), MESSAGE);
    _exit(c_int::from(Status::Failed.code()))
}

/// Does `work`, in which a refusal of large memory is dealt with.
pub(crate) fn refusable<T>(work: impl FnOnce() -> T) -> T {
    IS_REFUSABLE.store(true, Ordering::Relaxed);
    let done = work();
    IS_REFUSABLE.store(false, Ordering::Relaxed);
    done
}

#[cfg(test)]
mod tests {
    use std::{ptr, slice};

    use super::*;

    #[test]
    fn what_is_granted_is_passed_on() {
        let heap = Heap(std::alloc::System);
        let layout = Layout::array::<u8>(100).unwrap();
        // SAFETY: the size is not zero; the memory is used as long as it is
        // and freed with the layout that it has.
        unsafe {
            let memory = heap.alloc_zeroed(layout);
            assert_eq!(slice::from_raw_parts(memory, 100), [0; 100]);
            let memory = heap.realloc(memory, layout, 200);
            heap.dealloc(memory, Layout::array::<u8>(200).unwrap());
        }
    }

    #[test]
    fn what_is_large_and_waited_for_may_be_refused() {
        assert!(refusable(|| granted(ptr::null_mut(), LARGE_BYTES)).is_null());
        assert!(!IS_REFUSABLE.load(Ordering::Relaxed));
    }
}
