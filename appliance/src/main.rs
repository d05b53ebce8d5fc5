//! The program: parse, run, exit status; nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    tiroir::run(std::env::args_os())
}
