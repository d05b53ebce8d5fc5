//! What is written when all directories are done: statistics and trees.

use super::{Backup, EngineSorter, TREE_KEY_BYTES_MAX, TREE_LEVELS, internal};
use crate::btree::{TreeBuilder, TreeKinds, lookup};
use crate::error::Error;
use crate::importer::Importer;
use crate::index::Index as _;
use crate::limits::PATH_BYTES_MAX;
use crate::mac::{MAC_BYTES, Mac};
use crate::order::path_order;
use crate::repository::Lend;
use crate::resource::ResourceKind;
use crate::session::Session;
use crate::spool::Spool;
use crate::wire::header::Trees;
use crate::wire::msgpack::Writer;
use crate::wire::summary::Summary;

/// Length of a record of a directory after its path, in bytes, without the
/// summary: number of directories in it, whether it failed, length of the
/// path, length of the summary.
const DIRECTORY_TAIL_BYTES: usize = 8 + 1 + 2 + 2;

/// Longest summary that is written, in bytes.
const SUMMARY_BYTES_MAX: usize = 2048;

/// Length of what follows path and content type in a record of a key, in bytes:
/// MAC, length of the content type, length of the path.
const KEY_TAIL_BYTES: usize = MAC_BYTES + 1 + 2;

/// Keeps the key and value of an entry for the trees: its path, and its content
/// type if it is to be found by that.
pub(super) fn note_key<P: Spool>(
    keys: &mut P,
    path: &[u8],
    content_type: &[u8],
    mac: &Mac,
) -> Result<(), Error<P::Error>> {
    let kind = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    let mut tail = [0; KEY_TAIL_BYTES];
    tail[..MAC_BYTES].copy_from_slice(&mac.0);
    tail[MAC_BYTES] = u8::try_from(kind.len()).map_err(|_| internal("content type"))?;
    let path_bytes = u16::try_from(path.len()).map_err(|_| internal("path"))?;
    tail[MAC_BYTES + 1..].copy_from_slice(&path_bytes.to_le_bytes());
    for part in [path, kind, &tail] {
        keys.append(part)?;
    }
    Ok(())
}

impl<L: Lend, I: Importer<Error = L::Error>> Backup<'_, '_, '_, '_, L, I> {
    /// Keeps the statistics of a directory until those below it are known.
    pub(super) fn note_directory(
        &mut self,
        directory: &[u8],
        summary: &Summary,
        directories: u64,
        failed: bool,
    ) -> Result<(), Error<L::Error>> {
        let mut space = [0; SUMMARY_BYTES_MAX];
        let bytes = summary_bytes(summary, &mut space)?;
        let mut tail = [0; DIRECTORY_TAIL_BYTES];
        tail[..8].copy_from_slice(&directories.to_le_bytes());
        tail[8] = u8::from(failed);
        let len = |len: usize| u16::try_from(len).unwrap_or(u16::MAX).to_le_bytes();
        tail[9..11].copy_from_slice(&len(directory.len()));
        tail[11..].copy_from_slice(&len(bytes.len()));
        for part in [directory, bytes, &tail] {
            self.directories.append(part)?;
        }
        Ok(())
    }

    /// Adds up the statistics from the last directory to the first, and
    /// returns those of the root.
    ///
    /// In the order in which directories were entered, those of one directory
    /// follow each other; so from the end, what a directory waits for is always
    /// the oldest of what is there.
    pub(super) fn summarize(&mut self) -> Result<Summary, Error<L::Error>> {
        let mut end = self.directories.len();
        let mut summary = Summary::default();
        while end > 0 {
            self.session.keep_alive()?;
            let mut tail = [0; DIRECTORY_TAIL_BYTES];
            let tail_at = end - DIRECTORY_TAIL_BYTES as u64;
            self.directories.read_at(tail_at, &mut tail)?;
            let directories = u64::from_le_bytes(crate::wire::field(&tail, 0..8));
            let len = |at| usize::from(u16::from_le_bytes(crate::wire::field(&tail, at..at + 2)));
            let (path_bytes, bytes) = (len(9), len(11));
            let mut space = [0; SUMMARY_BYTES_MAX];
            self.directories.read_at(tail_at - bytes as u64, &mut space[..bytes])?;
            summary = Summary::parse(&space[..bytes]).map_err(|_| internal("summary"))?;
            for _ in 0..directories {
                let (child, failed) = self.next_total()?;
                summary.add_directory(&child);
                summary.add_errors(u64::from(failed));
            }
            summary.finish();
            let start = tail_at - bytes as u64 - path_bytes as u64;
            let mut path = [0; PATH_BYTES_MAX];
            self.directories.read_at(start, &mut path[..path_bytes])?;
            self.keep_summary(&path[..path_bytes], &summary, tail[8])?;
            end = start;
        }
        Ok(summary)
    }

    /// The statistics of the directory that waits longest.
    fn next_total(&mut self) -> Result<(Summary, bool), Error<L::Error>> {
        let mut head = [0; 3];
        self.totals.read_at(self.totals_at, &mut head)?;
        let bytes = usize::from(u16::from_le_bytes([head[1], head[2]]));
        let mut space = [0; SUMMARY_BYTES_MAX];
        self.totals.read_at(self.totals_at + 3, &mut space[..bytes])?;
        self.totals_at += 3 + bytes as u64;
        let summary = Summary::parse(&space[..bytes]).map_err(|_| internal("summary"))?;
        Ok((summary, head[0] != 0))
    }

    /// Stores the statistics of a directory, and keeps them for the one above.
    fn keep_summary(
        &mut self,
        path: &[u8],
        summary: &Summary,
        failed: u8,
    ) -> Result<(), Error<L::Error>> {
        let mut space = [0; SUMMARY_BYTES_MAX];
        let bytes = summary_bytes(summary, &mut space)?;
        let mac = self.session.put(ResourceKind::VFS_SUMMARY, bytes)?;
        self.indexes.summaries.push(path, &mac.0)?;
        let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_le_bytes();
        self.totals.append(&[failed, len[0], len[1]])?;
        Ok(self.totals.append(bytes)?)
    }

    /// Trees and statistics of the previous snapshot, if they are those of this
    /// one: if every directory is the same, and nothing failed then or now.
    pub(super) fn reusable_trees(&mut self) -> Result<Option<(Trees, Summary)>, Error<L::Error>> {
        let Some(newest) = self.previous.newest() else { return Ok(None) };
        let has_errors = !self.indexes.errors.is_empty() || newest.summary.total_errors() > 0;
        let Trees { vfs, content_type: Some(_), dirpack: Some(dirpack), summary, .. } =
            newest.trees
        else {
            return Ok(None);
        };
        let Some(summary) = summary else { return Ok(None) };
        let index = &mut self.session.repository.index;
        if !self.all_same
            || has_errors
            || !index.may_contain(ResourceKind::BTREE_ROOT, &dirpack)?
            || !index.may_contain(ResourceKind::BTREE_ROOT, &summary)?
        {
            return Ok(None);
        }
        // The root lies in no directory.
        let mut root = [0; 1 + MAC_BYTES];
        self.keys.read_at(0, &mut root)?;
        let (kinds, order) = (TreeKinds::VFS, path_order);
        let found = lookup(self.session.repository, kinds, &vfs, b"/", order, self.tree);
        match found {
            Ok(found) if found.is_some_and(|mac| mac.0 == root[1..]) => {
                Ok(Some((newest.trees, newest.summary)))
            }
            Ok(_) | Err(Error::Missing(_) | Error::Damaged { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The tree of content types of the previous snapshot, if it is that of this
    /// one: directories are not in it.
    fn reusable_types(&mut self) -> Result<Option<Mac>, Error<L::Error>> {
        let Some(newest) = self.previous.newest() else { return Ok(None) };
        let Some(root) = newest.trees.content_type.filter(|_| self.files_same) else {
            return Ok(None);
        };
        let index = &mut self.session.repository.index;
        Ok(index.may_contain(ResourceKind::BTREE_ROOT, &root)?.then_some(root))
    }

    /// Writes the trees, except those that are there already.
    pub(super) fn plant(&mut self, known: Option<Trees>) -> Result<Trees, Error<L::Error>> {
        let typed = self.reusable_types()?;
        let known_but_types = known.filter(|_| typed.is_some());
        let vfs = match known_but_types {
            Some(known) => known.vfs,
            None => self.plant_vfs(typed.is_none())?,
        };
        let Self { session, tree, indexes, .. } = self;
        let mut plant = |sorter: &mut EngineSorter<'_, L>, kinds| {
            plant_sorted::<L>(session, tree, sorter, kinds)
        };
        let xattrs = plant(&mut indexes.xattrs, TreeKinds::XATTRS)?;
        let errors = plant(&mut indexes.errors, TreeKinds::ERRORS)?;
        let content_type = match typed {
            Some(root) => root,
            None => plant(&mut indexes.content_types, TreeKinds::INDEX)?,
        };
        let (dirpack, summary) = match known {
            Some(Trees { dirpack, summary, .. }) => (dirpack, summary),
            None => (
                Some(plant(&mut indexes.dirpacks, TreeKinds::INDEX)?),
                Some(plant(&mut indexes.summaries, TreeKinds::INDEX)?),
            ),
        };
        Ok(Trees { vfs, xattrs, errors, content_type: Some(content_type), dirpack, summary })
    }

    /// Writes the tree of entries, and collects `with_types` what is to be found
    /// by its content type.
    fn plant_vfs(&mut self, with_types: bool) -> Result<Mac, Error<L::Error>> {
        let mut builder = builder(TreeKinds::VFS, self.tree)?;
        let mut end = self.keys.len();
        let mut text = [0; PATH_BYTES_MAX + 255];
        let mut key = heapless::Vec::<u8, TREE_KEY_BYTES_MAX>::new();
        while end > 0 {
            let mut tail = [0; KEY_TAIL_BYTES];
            self.keys.read_at(end - KEY_TAIL_BYTES as u64, &mut tail)?;
            let [mac @ .., kind_bytes, low, high] = tail;
            let path_bytes = usize::from(u16::from_le_bytes([low, high]));
            let text = text.get_mut(..path_bytes + usize::from(kind_bytes));
            let text = text.ok_or_else(|| internal("path"))?;
            end -= (KEY_TAIL_BYTES + text.len()) as u64;
            self.keys.read_at(end, text)?;
            let (path, kind) = text.split_at(path_bytes);
            builder.push(self.session, path, &Mac(mac))?;
            if with_types && !kind.is_empty() {
                key.clear();
                let parts = [&b"/"[..], kind, path];
                if parts.into_iter().any(|part| key.extend_from_slice(part).is_err()) {
                    return Err(internal("path"));
                }
                self.indexes.content_types.push(&key, &mac)?;
            }
        }
        builder.finish(self.session)
    }
}

fn summary_bytes<'s, E>(
    summary: &Summary,
    space: &'s mut [u8; SUMMARY_BYTES_MAX],
) -> Result<&'s [u8], Error<E>> {
    let mut writer = Writer::new(space);
    summary.emit(&mut writer);
    writer.finish().map_err(|_| internal("summary"))
}

fn builder<E>(kinds: TreeKinds, memory: &mut [u8]) -> Result<TreeBuilder<'_>, Error<E>> {
    TreeBuilder::new(kinds, memory, TREE_LEVELS, TREE_KEY_BYTES_MAX)
        .map_err(|_| internal("memory of a tree"))
}

/// Writes the tree of what was sorted in descending order.
fn plant_sorted<L: Lend>(
    session: &mut Session<'_, '_, L>,
    memory: &mut [u8],
    sorter: &mut EngineSorter<'_, L>,
    kinds: TreeKinds,
) -> Result<Mac, Error<L::Error>> {
    let mut builder = builder(kinds, memory)?;
    let mut sorted = sorter.finish()?;
    while let Some((key, value)) = sorted.next()? {
        session.keep_alive()?;
        let mac = Mac::from_slice(value).unwrap_or_default();
        builder.push(session, key, &mac)?;
    }
    builder.finish(session)
}
