//! `digest`: prints hashes of files of snapshots.

use std::ffi::OsString;
use std::io::Write;

use sha2::Digest as _;
use tiroir_core::limits::PATH_BYTES_MAX;
use tiroir_core::mac::{HashAlgorithm, Mac};
use tiroir_core::snapshot::walk::{Event, entry_at};

use super::cat::each_chunk;
use super::{Desk, desk_bytes, new_walk, path_of};
use crate::error::{EngineError, Result};
use crate::exit::Status;
use crate::open::Context;
use crate::report;
use crate::snapshots::{self, Target};
use crate::store::Repo;
use crate::text::json::Line;
use crate::text::printable::Printable;

/// Print hashes of files of snapshots
///
/// One line for each regular file, in the order of the directories. A symbolic
/// link that is named is followed; those in directories are not, as nothing
/// says where they would lead elsewhere.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Hash with NAME: SHA256 (the default) or BLAKE3
    #[arg(long, value_name = "NAME", value_parser = parse_hashing)]
    hashing: Option<HashAlgorithm>,

    /// Files, or directories with all that is in them
    #[arg(value_name = "SNAPSHOT[:PATH]", required = true)]
    targets: Vec<OsString>,
}

fn parse_hashing(text: &str) -> Result<HashAlgorithm, String> {
    HashAlgorithm::from_name(text.to_ascii_uppercase().as_bytes())
        .ok_or_else(|| format!("unsupported hashing algorithm: {text}"))
}

/// A hash being made, without a key.
enum Hasher {
    Sha256(sha2::Sha256),
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    fn new(algorithm: HashAlgorithm) -> Self {
        match algorithm {
            HashAlgorithm::Sha256 => Self::Sha256(sha2::Sha256::new()),
            HashAlgorithm::Blake3 => Self::Blake3(Box::new(blake3::Hasher::new())),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Blake3(hasher) => {
                hasher.update(bytes);
            }
        }
    }

    fn finish(self) -> Mac {
        match self {
            Self::Sha256(hasher) => Mac(hasher.finalize().into()),
            Self::Blake3(hasher) => Mac(*hasher.finalize().as_bytes()),
        }
    }
}

/// Memory for the work of hashing files, in bytes.
pub(super) fn work_bytes(chunk_bytes: usize) -> usize {
    desk_bytes(chunk_bytes, 0)
}

/// Prints hashes.
///
/// # Errors
///
/// Of `out`. What cannot be read is told and passed over; the status is then
/// that of the first such thing.
pub(crate) fn run(args: &Args, context: &Context<'_>, out: &mut dyn Write) -> Result<Status> {
    context.read(work_bytes, |repo, memory| {
        let mut desk = Desk::new(repo, memory)?;
        let algorithm = args.hashing.unwrap_or(HashAlgorithm::Sha256);
        let mut digester = Digester { context, algorithm, status: Status::Done, out };
        for text in &args.targets {
            let done = digester.target(repo, &Target::parse(text), &mut desk);
            digester.settle(done)?;
        }
        Ok(context.status(digester.status))
    })
}

/// Prints hashes.
struct Digester<'a> {
    context: &'a Context<'a>,
    algorithm: HashAlgorithm,
    status: Status,
    out: &'a mut dyn Write,
}

impl Digester<'_> {
    /// Tells of a failure, and goes on unless nobody listens any more.
    fn settle(&mut self, done: Result<()>) -> Result<()> {
        match done {
            Err(failure) if failure.is_broken_pipe() => Err(failure),
            Err(failure) if failure.status() == Status::Interrupted => Err(failure),
            Err(failure) => {
                self.status = self.status.and(failure.status());
                report::say(&format!("tiroir: digest: {failure}"));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn target(&mut self, repo: &mut Repo<'_>, target: &Target, desk: &mut Desk<'_>) -> Result<()> {
        let snapshot = snapshots::load(repo, target, &mut desk.read)?;
        let root = snapshot.resolve(repo, &target.path, &mut desk.read)?;
        let (entry, _) = entry_at(repo, &snapshot.trees, &root, &mut desk.read)?;
        if !entry.is_directory() {
            let (is_regular, object) = (entry.is_regular(), entry.object);
            return if is_regular { self.file(repo, &object, &root, desk) } else { Ok(()) };
        }
        let mut path = [0; PATH_BYTES_MAX];
        let mut walk = new_walk(repo, snapshot.trees)?;
        walk.enter(repo, &root, &mut desk.read)?;
        while let Some(step) = walk.next(desk.entry)? {
            let path = path_of(&step.entry, step.mac, &mut path)?;
            if step.event == Event::Leave {
                continue;
            }
            if step.entry.is_directory() {
                let entered = walk.enter(repo, path, &mut desk.read);
                self.settle(entered.map_err(EngineError::into))?;
            } else if step.entry.is_regular() {
                let object = step.entry.object;
                let done = self.file(repo, &object, path, desk);
                self.settle(done)?;
            }
        }
        Ok(())
    }

    fn file(
        &mut self,
        repo: &mut Repo<'_>,
        object: &Mac,
        path: &[u8],
        desk: &mut Desk<'_>,
    ) -> Result<()> {
        let mut hasher = Hasher::new(self.algorithm);
        each_chunk(self.context, repo, object, desk.read.chunk, &mut |bytes| {
            hasher.update(bytes);
            Ok(())
        })
        .map_err(|failure| failure.while_doing(Printable(path)))?;
        let (name, hash) = (self.algorithm.name(), hasher.finish());
        if self.context.globals.json {
            let mut line = Line::new(self.out, "digest")?;
            line.show("algorithm", name)?;
            line.text("path", path)?;
            line.show("digest", hash)?;
            line.end()?;
        } else {
            write!(self.out, "{name} (")?;
            Printable(path).write_to(self.out)?;
            writeln!(self.out, ") = {hash}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_have_no_key() {
        let hash = |algorithm| {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(b"a");
            hasher.update(b"bc");
            hasher.finish().to_string()
        };
        assert_eq!(
            hash(HashAlgorithm::Sha256),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            hash(HashAlgorithm::Blake3),
            "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"
        );
    }
}
