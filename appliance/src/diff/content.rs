//! [`Contents`]: compares the content of two files.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::unix::ffi::OsStrExt as _;

use tiroir_core::content::ContentReader;
use tiroir_core::host::Host as _;

use super::side::{Item, Kind};
use super::unified::write_unified;
use crate::error::{Failure, Result};
use crate::open::Context;
use crate::store::Repo;
use crate::text::printable::Printable;

/// Longest file that is compared line by line, in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What comparing takes for each line beside its text, in bytes: measured, and
/// rounded up.
const LINE_BYTES: usize = 160;

/// Bytes at the start that tell text from what is none, as in stock.
const SNIFF_BYTES: usize = 512;

/// How much is compared line by line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Sizes {
    /// Length of a file, in bytes.
    file_bytes: usize,
    /// Lines of both.
    lines: usize,
}

impl Sizes {
    /// What may be compared in that much memory: half of it for the text, and
    /// half for what is known of the lines.
    pub(crate) fn within(memory_bytes: usize) -> Self {
        let half = memory_bytes / 2;
        Self { file_bytes: (half / 2).min(TEXT_BYTES_MAX), lines: half / LINE_BYTES }
    }
}

/// Compares the content of two files.
pub(crate) struct Contents<'m> {
    memory: &'m mut [u8],
    sizes: Sizes,
}

/// How two files compare.
enum Comparison<'c> {
    Equal,
    /// They differ, and are not shown.
    Differ,
    /// They differ, and are here.
    Texts([&'c [u8]; 2]),
    /// They differ, and at least one is no text.
    Binary,
}

impl<'m> Contents<'m> {
    /// Compares in `memory`.
    pub(crate) fn new(memory: &'m mut [u8], sizes: Sizes) -> Self {
        Self { memory, sizes }
    }

    /// Whether two regular files differ.
    ///
    /// # Errors
    ///
    /// The engine's, and the system's.
    pub(crate) fn differ(
        &mut self,
        context: &Context<'_>,
        repo: &mut Repo<'_>,
        items: [&Item; 2],
        chunk: &mut [u8],
    ) -> Result<bool> {
        Ok(!matches!(self.compare(context, repo, items, chunk)?, Comparison::Equal))
    }

    /// Tells how two regular files differ.
    ///
    /// # Errors
    ///
    /// The engine's, the system's, and those of `out`.
    pub(crate) fn tell(
        &mut self,
        context: &Context<'_>,
        repo: &mut Repo<'_>,
        items: [&Item; 2],
        labels: &[String; 2],
        chunk: &mut [u8],
        out: &mut dyn Write,
    ) -> Result<()> {
        let lines_max = self.sizes.lines;
        let [left, right] = labels;
        match self.compare(context, repo, items, chunk)? {
            Comparison::Equal => {}
            Comparison::Binary => writeln!(out, "Binary files {left} and {right} differ")?,
            Comparison::Texts(texts) if lines(texts) <= lines_max => {
                write_unified(texts, labels, out)?;
            }
            Comparison::Texts(_) | Comparison::Differ => {
                writeln!(out, "Files {left} and {right} differ")?;
            }
        }
        Ok(())
    }

    fn compare(
        &mut self,
        context: &Context<'_>,
        repo: &mut Repo<'_>,
        [a, b]: [&Item; 2],
        chunk: &mut [u8],
    ) -> Result<Comparison<'_>> {
        let (
            Kind::Regular { object: one, size_bytes: one_bytes },
            Kind::Regular { object: other, size_bytes: other_bytes },
        ) = (&a.kind, &b.kind)
        else {
            return Ok(Comparison::Differ);
        };
        // The same object in the same store has the same content. Other
        // objects may have it too, if they were cut or typed otherwise.
        if one.is_some() && one == other {
            return Ok(Comparison::Equal);
        }
        let fits = |bytes: &u64| usize::try_from(*bytes).is_ok_and(|b| b <= self.sizes.file_bytes);
        if !fits(one_bytes) || !fits(other_bytes) {
            let is_equal = one_bytes == other_bytes
                && hash(context, repo, a, chunk)? == hash(context, repo, b, chunk)?;
            return Ok(if is_equal { Comparison::Equal } else { Comparison::Differ });
        }
        let half = self.memory.len() / 2;
        let (left, right) = self.memory.split_at_mut(half);
        let left = load(context, repo, a, chunk, left)?;
        let right = load(context, repo, b, chunk, right)?;
        Ok(match (left, right) {
            (Some(left), Some(right)) if left == right => Comparison::Equal,
            (Some(left), Some(right)) if is_text(left) && is_text(right) => {
                Comparison::Texts([left, right])
            }
            (Some(_), Some(_)) => Comparison::Binary,
            // It has grown since it was looked at.
            _ => Comparison::Differ,
        })
    }
}

/// Number of lines of both.
fn lines(texts: [&[u8]; 2]) -> usize {
    texts.iter().map(|text| text.iter().filter(|byte| **byte == b'\n').count() + 1).sum()
}

/// Whether the start of a file looks like text, as stock decides it.
fn is_text(content: &[u8]) -> bool {
    let start = &content[..content.len().min(SNIFF_BYTES)];
    start.iter().all(|byte| {
        matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c) || (*byte >= 0x20 && *byte != 0x7f)
    })
}

/// Gives the content of a file to `each`, piece by piece.
fn each_piece(
    context: &Context<'_>,
    repo: &mut Repo<'_>,
    item: &Item,
    chunk: &mut [u8],
    each: &mut dyn FnMut(&[u8]),
) -> Result<()> {
    let Kind::Regular { object, .. } = &item.kind else { return Ok(()) };
    if let Some(object) = object {
        if object.is_zero() {
            return Ok(());
        }
        let mut reader = ContentReader::new(repo.host.spool()?);
        reader.open(repo, object, chunk)?;
        while let Some(length) = reader.next(repo, chunk)? {
            context.check_cancelled()?;
            each(&chunk[..length]);
        }
        return Ok(());
    }
    let failure = |error| Failure::io(format_args!("read {}", Printable(&item.path)), error);
    let mut file = File::open(OsStr::from_bytes(&item.path)).map_err(failure)?;
    loop {
        context.check_cancelled()?;
        match file.read(chunk) {
            Ok(0) => return Ok(()),
            Ok(length) => each(&chunk[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failure(error)),
        }
    }
}

/// A hash of the content of a file.
fn hash(
    context: &Context<'_>,
    repo: &mut Repo<'_>,
    item: &Item,
    chunk: &mut [u8],
) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    each_piece(context, repo, item, chunk, &mut |bytes| {
        hasher.update(bytes);
    })?;
    Ok(hasher.finalize())
}

/// Reads a file into memory; nothing if it does not fit.
fn load<'c>(
    context: &Context<'_>,
    repo: &mut Repo<'_>,
    item: &Item,
    chunk: &mut [u8],
    memory: &'c mut [u8],
) -> Result<Option<&'c [u8]>> {
    let (mut length, mut fits) = (0, true);
    each_piece(context, repo, item, chunk, &mut |bytes| {
        match memory.get_mut(length..length + bytes.len()) {
            Some(place) => place.copy_from_slice(bytes),
            None => fits = false,
        }
        length += bytes.len();
    })?;
    Ok(if fits { memory.get(..length) } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_other() {
        for text in [&b""[..], b"plain\n", b"\ttabs\r\n\x0c", "É".as_bytes(), b"\xff"] {
            assert!(is_text(text));
        }
        for other in [&b"\0"[..], b"\x1b[m", b"\x7f"] {
            assert!(!is_text(other));
        }
        let mut late = vec![b'a'; SNIFF_BYTES];
        late.push(0);
        assert!(is_text(&late));
    }

    #[test]
    fn sizes_follow_the_memory() {
        let small = Sizes::within(2 << 20);
        assert_eq!(small.file_bytes, 512 << 10);
        assert_eq!(Sizes::within(1 << 30).file_bytes, TEXT_BYTES_MAX);
        assert!(small.file_bytes * 2 + small.lines * LINE_BYTES <= 2 << 20);
        assert_eq!(lines([b"a\nb\n", b""]), 4);
    }
}
