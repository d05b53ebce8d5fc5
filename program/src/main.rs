//! The program: parse, run, exit status; nothing else.

use std::alloc::System;
use std::process::ExitCode;

use tiroir_appliance::heap::Heap;

#[global_allocator]
static HEAP: Heap<System> = Heap(System);

fn main() -> ExitCode {
    tiroir_appliance::run(std::env::args_os())
}
