//! The program: parse, run, exit status; nothing else.

use std::process::ExitCode;

use tiroir_appliance::heap::Heap;

// What musl's allocator is depends on who built it, and that of zig writes zeros into
// memory that is not used yet: see docs/decisions.md.
#[cfg(target_env = "musl")]
#[global_allocator]
static HEAP: Heap<dlmalloc::GlobalDlmalloc> = Heap(dlmalloc::GlobalDlmalloc);

#[cfg(not(target_env = "musl"))]
#[global_allocator]
static HEAP: Heap<std::alloc::System> = Heap(std::alloc::System);

fn main() -> ExitCode {
    tiroir_appliance::run(std::env::args_os())
}
