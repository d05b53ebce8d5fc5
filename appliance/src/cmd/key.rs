//! `key`: prints or saves the derived key of a store, so that a machine that
//! is too small to derive it opens the store with `--key-file`.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::error::{Failure, Result};
use crate::exit::Status;
use crate::open::Context;
use crate::text::json::Line;

/// Print or save the derived key of a store
///
/// Whoever has the key reads and writes the store: it is worth as much as the
/// passphrase. A machine that is given it with --key-file needs neither the
/// passphrase, nor the memory that deriving the key takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Save the key in FILE, which must not be there yet and which only its
    /// owner may read, in place of printing it
    #[arg(long = "output", alias = "o", visible_alias = "o", value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Prints or saves the key.
///
/// # Errors
///
/// For a store that is not encrypted or does not open, and those of the file.
pub(crate) fn run(args: &Args, context: &Context<'_>, out: &mut dyn Write) -> Result<Status> {
    let opened = context.open()?;
    let Some(key) = &opened.key else {
        return Err(Failure::new(Status::Failed, "the store is not encrypted: it has no key"));
    };
    let mut text = Zeroizing::new(String::with_capacity(2 * key.as_bytes().len() + 1));
    for byte in key.as_bytes() {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(nibble.into(), 16).unwrap_or('0'));
        }
    }
    text.push('\n');
    let Some(path) = &args.out else {
        if context.globals.json {
            let mut line = Line::new(out, "key")?;
            line.text("key", text.trim_end().as_bytes())?;
            line.end()?;
        } else {
            out.write_all(text.as_bytes())?;
        }
        return Ok(Status::Done);
    };
    let failure = |error| Failure::io(format_args!("save the key in {}", path.display()), error);
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(failure)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failure)?;
    Ok(Status::Done)
}
