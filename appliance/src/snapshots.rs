//! Which snapshot is meant, and what in it: `SNAPSHOT[:PATH]`, prefixes,
//! filters, newest first.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use tiroir_core::error::Error;
use tiroir_core::host::Host as _;
use tiroir_core::index::Index as _;
use tiroir_core::limits::PATH_BYTES_MAX;
use tiroir_core::mac::Mac;
use tiroir_core::order::{Order, byte_order};
use tiroir_core::snapshot::{ReadMemory, read_header, walk};
use tiroir_core::sort::Sorter;
use tiroir_core::time::Timestamp;
use tiroir_core::wire::header::{Header, Trees};
use tiroir_core::wire::mode;

use crate::error::{Failure, Result};
use crate::exit::Status;
use crate::filter::Filters;
use crate::open::Context;
use crate::store::Repo;
use crate::text::printable::Printable;

/// Memory to sort snapshots in, in bytes: for some thousands without a file.
pub(crate) const SORT_BYTES: usize = 256 * 1024;

/// Bytes of a timestamp as a key: newer ones are lower.
const TIME_BYTES: usize = 12;

/// What `SNAPSHOT[:PATH]` says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Target {
    /// Start of the identifier, in hexadecimal; may be empty.
    pub(crate) prefix: Vec<u8>,
    /// Path, absolute or from what was backed up; may be empty.
    pub(crate) path: Vec<u8>,
}

impl Target {
    /// Takes an argument apart. What starts with a slash is a path alone.
    pub(crate) fn parse(text: &OsStr) -> Self {
        let text = text.as_bytes();
        if text.starts_with(b"/") {
            return Self { prefix: Vec::new(), path: text.to_vec() };
        }
        match text.iter().position(|byte| *byte == b':') {
            Some(at) => Self { prefix: text[..at].to_vec(), path: text[at + 1..].to_vec() },
            None => Self { prefix: text.to_vec(), path: Vec::new() },
        }
    }
}

/// What commands need of a snapshot again and again.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// Its identifier.
    pub(crate) id: Mac,
    /// Its trees.
    pub(crate) trees: Trees,
    /// What was backed up: an absolute path.
    pub(crate) directory: Vec<u8>,
}

impl Snapshot {
    /// Reads the header. `buffer` is that for a chunk.
    ///
    /// # Errors
    ///
    /// The engine's.
    pub(crate) fn load(repo: &mut Repo<'_>, id: &Mac, buffer: &mut [u8]) -> Result<Self> {
        let header = read_header(repo, id, buffer)?;
        Ok(Self {
            id: *id,
            trees: header.source.trees,
            directory: header.source.directory.to_vec(),
        })
    }

    /// The absolute path that `path` means in the snapshot: one that is not
    /// absolute starts where the backup did. Cleaned without looking.
    pub(crate) fn absolute(&self, path: &[u8]) -> Vec<u8> {
        if path.starts_with(b"/") {
            return clean(path);
        }
        let mut whole = self.directory.clone();
        whole.push(b'/');
        whole.extend_from_slice(path);
        clean(&whole)
    }

    /// What `path` leads to, through symbolic links: an absolute path.
    ///
    /// # Errors
    ///
    /// That there is nothing; and the engine's.
    pub(crate) fn resolve(
        &self,
        repo: &mut Repo<'_>,
        path: &[u8],
        memory: &mut ReadMemory<'_>,
    ) -> Result<Vec<u8>> {
        let path = self.absolute(path);
        // Most paths are those of entries. Asking for them at once keeps damage
        // further up the tree from standing in the way of what is whole.
        if let Ok((entry, _)) = walk::entry_at(repo, &self.trees, &path, memory)
            && entry.info.mode & mode::SYMLINK == 0
        {
            return Ok(path);
        }
        let mut out = [0; PATH_BYTES_MAX];
        match walk::resolve(repo, &self.trees, &path, memory, &mut out) {
            Ok(length) => Ok(out[..length].to_vec()),
            Err(Error::NoSuchPath) => Err(Failure::new(
                Status::Failed,
                format!(
                    "{}: no such file or directory in snapshot {:.4}",
                    Printable(&path),
                    self.id
                ),
            )
            .with_advice(format!(
                "A path starts at {}, unless it starts with a slash.",
                String::from_utf8_lossy(&self.directory)
            ))),
            Err(error) => Err(error.into()),
        }
    }
}

/// An absolute path without `.`, `..`, and slashes too many.
pub(crate) fn clean(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut whole = Vec::with_capacity(path.len() + 1);
    for part in parts {
        whole.push(b'/');
        whole.extend_from_slice(part);
    }
    if whole.is_empty() {
        whole.push(b'/');
    }
    whole
}

/// Whether the identifier starts with the hexadecimal digits.
fn has_prefix(id: &Mac, prefix: &[u8]) -> bool {
    id.to_string().as_bytes().starts_with(prefix)
}

/// The one snapshot whose identifier starts with `prefix`.
///
/// # Errors
///
/// That there is none, or more than one; and the index's.
pub(crate) fn find(repo: &mut Repo<'_>, prefix: &[u8]) -> Result<Mac> {
    let (mut found, mut count, mut after) = (None, 0_u64, None);
    while let Some(id) = repo.index.next_snapshot(after.as_ref())? {
        after = Some(id);
        if has_prefix(&id, prefix) {
            found = Some(id);
            count += 1;
        }
    }
    let shown = Printable(prefix);
    match (found, count) {
        (Some(id), 1) => Ok(id),
        (None, _) => Err(Failure::new(Status::Failed, format!("no snapshot has prefix: {shown}"))
            .with_advice("`tiroir ls` lists them.")),
        (Some(_), count) => Err(Failure::new(
            Status::Failed,
            format!("snapshot ID is ambiguous: {shown} (matches {count} snapshots)"),
        )
        .with_advice("Give more of its digits: `tiroir ls -uuid` shows all of them.")),
    }
}

/// Finds and reads the snapshot of an argument.
///
/// # Errors
///
/// As [`find`], and the engine's.
pub(crate) fn load(
    repo: &mut Repo<'_>,
    target: &Target,
    memory: &mut ReadMemory<'_>,
) -> Result<Snapshot> {
    let id = find(repo, &target.prefix)?;
    Snapshot::load(repo, &id, memory.chunk)
}

/// Calls `each` with the header of every snapshot that can be read and passes
/// the filters, by identifier.
fn each_matching(
    context: &Context<'_>,
    repo: &mut Repo<'_>,
    filters: &Filters,
    buffer: &mut [u8],
    each: &mut dyn FnMut(&Header<'_>) -> Result<()>,
) -> Result<()> {
    let mut after = None;
    while let Some(id) = repo.index.next_snapshot(after.as_ref())? {
        context.check_cancelled()?;
        after = Some(id);
        match read_header(repo, &id, buffer) {
            Ok(header) if filters.matches(&header) => each(&header)?,
            Ok(_) => {}
            Err(error @ (Error::Damaged { .. } | Error::Missing(_))) => context.pass_over(&error),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The newest snapshot that passes the filters.
///
/// # Errors
///
/// The engine's.
pub(crate) fn newest(
    context: &Context<'_>,
    repo: &mut Repo<'_>,
    filters: &Filters,
    buffer: &mut [u8],
) -> Result<Option<Mac>> {
    let mut newest: Option<(Timestamp, Mac)> = None;
    each_matching(context, repo, filters, buffer, &mut |header| {
        if newest.is_none_or(|(when, _)| header.timestamp >= when) {
            newest = Some((header.timestamp, header.identifier));
        }
        Ok(())
    })?;
    Ok(newest.map(|(_, id)| id))
}

/// Calls `each` with the snapshots that pass the filters, newest first,
/// however many there are. `buffer` is that for a chunk, and free again for
/// `each`; `arena` has [`SORT_BYTES`].
///
/// # Errors
///
/// The engine's, and what `each` returns.
pub(crate) fn newest_first<B: AsMut<[u8]>>(
    context: &Context<'_>,
    repo: &mut Repo<'_>,
    filters: &Filters,
    (mut buffer, arena): (B, &mut [u8]),
    each: &mut dyn FnMut(&mut Repo<'_>, &mut B, &Mac) -> Result<()>,
) -> Result<()> {
    if filters.latest {
        return match newest(context, repo, filters, buffer.as_mut())? {
            Some(id) => each(repo, &mut buffer, &id),
            None => Ok(()),
        };
    }
    let spools = [repo.host.spool()?, repo.host.spool()?];
    let mut sorter = Sorter::new(arena, spools, byte_order as Order);
    each_matching(context, repo, filters, buffer.as_mut(), &mut |header| {
        let key = newest_first_key(header.timestamp);
        Ok(sorter.push(&key, &header.identifier.0)?)
    })?;
    let mut sorted = sorter.finish()?;
    while let Some((_, id)) = sorted.next()? {
        context.check_cancelled()?;
        let id = Mac::from_slice(id).unwrap_or_default();
        each(repo, &mut buffer, &id)?;
    }
    Ok(())
}

/// A key whose order is that of time, the newest first.
fn newest_first_key(time: Timestamp) -> [u8; TIME_BYTES] {
    let mut key = [0; TIME_BYTES];
    // The sign bit is turned so that times before 1970 come before.
    let secs = time.secs.cast_unsigned() ^ 1 << 63;
    key[..8].copy_from_slice(&(!secs).to_be_bytes());
    key[8..].copy_from_slice(&(!time.nanos).to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        for (text, prefix, path) in [
            ("12ab", "12ab", ""),
            ("12ab:", "12ab", ""),
            ("12ab:sub/x", "12ab", "sub/x"),
            ("12ab:/a:b", "12ab", "/a:b"),
            ("", "", ""),
            (":", "", ""),
            (":sub", "", "sub"),
            ("/abs:x", "", "/abs:x"),
        ] {
            let wanted = Target { prefix: prefix.into(), path: path.into() };
            assert_eq!(Target::parse(OsStr::new(text)), wanted, "{text}");
        }
    }

    #[test]
    fn paths_start_where_the_backup_did() {
        let snapshot =
            Snapshot { id: Mac::ZERO, trees: Trees::default(), directory: b"/a/b/tree".to_vec() };
        for (path, wanted) in [
            ("", "/a/b/tree"),
            ("sub", "/a/b/tree/sub"),
            ("sub/", "/a/b/tree/sub"),
            ("../x", "/a/b/x"),
            ("/", "/"),
            ("/a//b/./c/..", "/a/b"),
            ("../../../..", "/"),
        ] {
            assert_eq!(snapshot.absolute(path.as_bytes()), wanted.as_bytes());
        }
    }

    #[test]
    fn prefixes() {
        let id = Mac([0x2f; 32]);
        for (prefix, wanted) in
            [("", true), ("2", true), ("2f2", true), ("2F", false), ("zz", false)]
        {
            assert_eq!(has_prefix(&id, prefix.as_bytes()), wanted);
        }
    }

    #[test]
    fn newer_is_lower() {
        let key = |secs, nanos| newest_first_key(Timestamp { secs, nanos });
        let keys = [key(5, 1), key(5, 0), key(0, 999), key(0, 0), key(-1, 9), key(i64::MIN, 0)];
        assert!(keys.is_sorted());
    }
}
