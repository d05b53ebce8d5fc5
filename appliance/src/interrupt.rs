//! Signals that end a run: the first one asks the engine to stop, so that it
//! cleans up; the second one ends the program where it is.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
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
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag unset.
        let code = Status::Interrupted.code().into();
        flag::register_conditional_shutdown(signal, code, Arc::clone(&flag))
            .and_then(|_| flag::register(signal, Arc::clone(&flag)))
            .map_err(|error| Failure::io("watch for signals", error))?;
    }
    Ok(flag)
}
