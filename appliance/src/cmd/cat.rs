//! `cat`: writes files of snapshots to standard output.

use std::ffi::OsString;
use std::io::Write;

use tiroir_core::codec::{Codec, CodecError, DECODE_SCRATCH_BYTES_MIN, DecodeScratch, Decoder};
use tiroir_core::compression::Compression;
use tiroir_core::content::ContentReader;
use tiroir_core::error::FormatError;
use tiroir_core::host::Host as _;
use tiroir_core::mac::Mac;
use tiroir_core::snapshot::walk::entry_at;

use super::{Desk, desk_bytes};
use crate::error::{Failure, Result};
use crate::exit::Status;
use crate::open::Context;
use crate::report;
use crate::snapshots::{self, Target};
use crate::store::Repo;
use crate::text::printable::Printable;

/// Write files of snapshots to standard output
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Decompress what is compressed with gzip
    #[arg(long)]
    decompress: bool,

    /// Accepted for scripts of stock: files are written as they are
    #[arg(long)]
    highlight: bool,

    /// The files
    #[arg(value_name = "SNAPSHOT:PATH", required = true)]
    targets: Vec<OsString>,
}

/// Content type of what `-decompress` decompresses.
const GZIP: &[u8] = b"application/gzip";

/// Memory for the work of printing files, in bytes.
pub(super) fn work_bytes(chunk_bytes: usize) -> usize {
    desk_bytes(chunk_bytes, DECODE_SCRATCH_BYTES_MIN)
}

/// Writes files, one after another. As in stock, one that cannot be read does
/// not keep the others from being written.
///
/// # Errors
///
/// Of `out`, and what keeps all files from being read. The status is that of
/// the first file that failed.
pub(crate) fn run(args: &Args, context: &Context<'_>, out: &mut dyn Write) -> Result<Status> {
    report::output_is_data();
    context.read(work_bytes, |repo, memory| {
        let mut desk = Desk::new(repo, memory)?;
        let mut status = Status::Done;
        for text in &args.targets {
            let target = Target::parse(text);
            match write_file(args, context, repo, &target, &mut desk, out) {
                Ok(()) => {}
                Err(failure)
                    if failure.is_broken_pipe() || failure.status() == Status::Interrupted =>
                {
                    return Err(failure);
                }
                Err(failure) => {
                    status = status.and(failure.status());
                    report::say(&format!("tiroir: cat: {failure}"));
                }
            }
        }
        Ok(context.status(status))
    })
}

fn write_file(
    args: &Args,
    context: &Context<'_>,
    repo: &mut Repo<'_>,
    target: &Target,
    desk: &mut Desk<'_>,
    out: &mut dyn Write,
) -> Result<()> {
    let snapshot = snapshots::load(repo, target, &mut desk.read)?;
    let path = snapshot.resolve(repo, &target.path, &mut desk.read)?;
    let (entry, _) = entry_at(repo, &snapshot.trees, &path, &mut desk.read)?;
    if !entry.is_regular() {
        let what = format!("{}: not a regular file", Printable(&path));
        return Err(Failure::new(Status::Failed, what));
    }
    let (object, is_gzip) = (entry.object, entry.content_type == GZIP);
    let written = if args.decompress && is_gzip {
        decompress(context, repo, &object, desk, out)
    } else {
        each_chunk(context, repo, &object, desk.read.chunk, &mut |bytes| Ok(out.write_all(bytes)?))
    };
    written.map_err(|failure| {
        if failure.is_broken_pipe() { failure } else { failure.while_doing(Printable(&path)) }
    })
}

/// Gives the content of an object to `each`, chunk by chunk.
///
/// # Errors
///
/// The engine's, and what `each` returns.
pub(super) fn each_chunk(
    context: &Context<'_>,
    repo: &mut Repo<'_>,
    object: &Mac,
    chunk: &mut [u8],
    each: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    if object.is_zero() {
        return Ok(());
    }
    let mut reader = ContentReader::new(repo.host.spool()?);
    reader.open(repo, object, chunk)?;
    while let Some(length) = reader.next(repo, chunk)? {
        context.check_cancelled()?;
        each(&chunk[..length])?;
    }
    Ok(())
}

/// Decompresses the content of an object. A store may be compressed so too:
/// the decoder is the same.
fn decompress(
    context: &Context<'_>,
    repo: &mut Repo<'_>,
    object: &Mac,
    desk: &mut Desk<'_>,
    out: &mut dyn Write,
) -> Result<()> {
    let no_gzip = |error: FormatError| Failure::new(Status::Failed, format!("gzip: {error}"));
    let failure = |error: CodecError<Failure>| match error {
        CodecError::Format(error) => no_gzip(error),
        CodecError::Sink(failure) => failure,
    };
    let codec = Codec { compression: Compression::Gzip, cipher: None };
    let mut scratch = DecodeScratch::new(desk.rest).map_err(no_gzip)?;
    let mut decoder = Decoder::new(&codec, &mut scratch).map_err(no_gzip)?;
    let mut write = |bytes: &[u8]| out.write_all(bytes).map_err(Failure::from);
    each_chunk(context, repo, object, desk.read.chunk, &mut |bytes| {
        decoder.push(bytes, &mut write).map_err(failure)
    })?;
    decoder.finish(&mut write).map_err(failure)
}
