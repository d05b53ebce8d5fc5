//! The program: parse, run, exit status; nothing else.

use std::alloc::System;
use std::process::ExitCode;

use tiroir::heap::Heap;

#[global_allocator]
static HEAP: Heap<System> = Heap(System);

fn main() -> ExitCode {
    tiroir::run(std::env::args_os())
}
