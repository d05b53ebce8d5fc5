//! Signals that end a run: the first one asks the engine to stop, so that it
//! cleans up; the second one ends the program where it is.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::flag;

use crate::error::{Failure, Result};
use crate::exit::Status;

/// Watches for signals, and returns the flag that they set.
///
/// # Errors
///
/// Of the system.
pub(crate) fn watch() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let ignored = ignored();
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
        // As under `nohup`, or in the background of a script.
        if ignored >> (signal - 1) & 1 == 1 {
            continue;
        }
        // In this order: the first signal finds the flag unset.
        let code = Status::Interrupted.code().into();
        flag::register_conditional_shutdown(signal, code, Arc::clone(&flag))
            .and_then(|_| flag::register(signal, Arc::clone(&flag)))
            .map_err(|error| Failure::io("watch for signals", error))?;
    }
    Ok(flag)
}

/// Signals that whoever started us has them ignored, as bits from the lowest
/// on; none where the kernel does not tell.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
