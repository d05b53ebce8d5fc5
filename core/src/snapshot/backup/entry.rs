//! One entry of a directory: its attributes, its content, and what of it the
//! previous snapshot has already.

use super::trees::note_key;
use super::{Backup, Display, Event, TREE_KEY_BYTES_MAX};
use crate::content::{ContentKind, ContentType, ReadError, Stored};
use crate::error::Error;
use crate::host::{HostError as _, HostErrorKind};
use crate::importer::{Attributes, Importer};
use crate::index::Index as _;
use crate::limits::CONTENT_TYPE_BYTES_MAX;
use crate::mac::Mac;
use crate::repository::Lend;
use crate::resource::ResourceKind;
use crate::snapshot::FLAG_HARD_LINK;
use crate::snapshot::previous::Newest;
use crate::spool::Spool as _;
use crate::wire::dirpack::frame_head;
use crate::wire::entry::{Entry, NOT_REGULAR};
use crate::wire::file_info::FileInfo;
use crate::wire::list::List;
use crate::wire::mode;
use crate::wire::msgpack::Writer;
use crate::wire::summary::{Counted, Summary};
use crate::wire::xattr::XattrEntry;

/// What became of an entry.
pub(super) enum Outcome {
    Stored,
    /// It could not be read, and that is recorded.
    Failed,
}

/// Why an entry cannot be stored.
pub(super) enum EntryError<E> {
    /// The importer failed, which is recorded.
    Source(E),
    /// The entry does not fit the bounds, which is recorded.
    Bound(&'static str),
    /// Anything else ends the backup.
    Engine(Error<E>),
}

impl<E> From<Error<E>> for EntryError<E> {
    fn from(error: Error<E>) -> Self {
        Self::Engine(error)
    }
}

impl<E> From<ReadError<E>> for EntryError<E> {
    fn from(error: ReadError<E>) -> Self {
        match error {
            ReadError::Source(error) => Self::Source(error),
            ReadError::Engine(error) => Self::Engine(error),
        }
    }
}

/// Where an entry lies.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    pub(super) directory: &'p [u8],
    pub(super) name: &'p [u8],
    pub(super) path: &'p [u8],
}
impl<L: Lend, I: Importer<Error = L::Error>> Backup<'_, '_, '_, '_, L, I> {
    /// Stores an entry, with its content and attributes. `attributes` is memory
    /// for those.
    pub(super) fn store_entry(
        &mut self,
        place: Place<'_>,
        hint: &[u8],
        attributes: &mut Attributes,
        summary: &mut Summary,
        is_directory: &mut bool,
    ) -> Result<Outcome, EntryError<L::Error>> {
        self.importer.stat(place.path, hint, attributes).map_err(EntryError::Source)?;
        let mut info = file_info(place.name, attributes);
        *is_directory = mode::is_directory(info.mode);
        let found = self.previous.find(place.name).map_err(Error::from)?;
        let is_known = found && !may_hide_a_change(attributes, self.previous.newest());
        let listed = self.list_xattrs(place);
        if is_known && matches!(listed, Ok(0)) && self.keep_entry(place, attributes, summary)? {
            return Ok(Outcome::Stored);
        }
        self.diverge()?;
        // A directory may change: what is in it is looked at by itself.
        let was_directory = found && self.previous.is_directory();
        self.files_same &= *is_directory && (was_directory || !found);
        let content = if mode::is_regular(info.mode) {
            match self.reusable(is_known, &info)? {
                Some(content) => Some(content),
                None => Some(self.read_file(place, attributes, &mut info)?),
            }
        } else {
            None
        };
        let stored = match listed {
            Ok(len) => self.store_xattrs(place, len)?,
            Err(error) => Err(error),
        };
        let (xattr_bytes, outcome) = match stored {
            Ok(bytes) => (bytes, Outcome::Stored),
            Err(error) => {
                self.record_error(place.path, &Display(&error))?;
                (0, Outcome::Failed)
            }
        };
        let content_type: &[u8] = match &content {
            Some(content) => &content.content_type,
            None => type_without_content(*is_directory),
        };
        let entry = Entry {
            parent_path: place.directory,
            info,
            summary: None,
            link_target: &attributes.link_target,
            object: content.as_ref().map_or(Mac::ZERO, |content| content.stored.object),
            content_type,
            entropy: content.as_ref().map_or(0.0, |content| content.stored.entropy),
            chunks: content.as_ref().map_or(0, |content| content.stored.chunks),
            xattr_names: List::terminated(&self.xattr_sorted[..xattr_bytes]),
        };
        let mut writer = Writer::new(self.entry);
        entry.emit(&mut writer);
        let bytes = writer.finish().map_err(|_| EntryError::Bound("attributes are too long"))?;
        let mac = self.session.put(ResourceKind::VFS_ENTRY, bytes)?;
        let entry_bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        for part in [&frame_head(*is_directory, entry_bytes)[..], bytes, &mac.0] {
            self.frames.append(part).map_err(Error::Host)?;
        }
        if !*is_directory {
            summary.add_file(&counted(&entry));
        }
        let kind = if *is_directory { b"" } else { content_type };
        note_key(&mut self.keys, place.path, kind, &mac)?;
        let changed = content.as_ref().is_some_and(|content| content.is_read);
        let size_bytes = content.map_or(0, |content| content.stored.length_bytes);
        (self.progress)(&Event::Entry { path: place.path, size_bytes, changed });
        Ok(outcome)
    }

    /// Takes over the entry that was found in the previous snapshot, if it is
    /// the same, byte for byte, and the store has not lost it. Returns whether
    /// it did.
    fn keep_entry(
        &mut self,
        place: Place<'_>,
        attributes: &Attributes,
        summary: &mut Summary,
    ) -> Result<bool, Error<L::Error>> {
        let Some((before, mac)) = self.previous.entry() else { return Ok(false) };
        let info = file_info(place.name, attributes);
        let is_regular = mode::is_regular(info.mode);
        let is_directory = mode::is_directory(info.mode);
        let has_content = if is_regular {
            // Entries of 1.0 lack content type and chunks.
            before.chunks > 0
                && !before.content_type.is_empty()
                && before.content_type.len() <= CONTENT_TYPE_BYTES_MAX
        } else {
            before.object.is_zero() && before.content_type == type_without_content(is_directory)
        };
        let is_same = has_content
            && before.info == info
            && before.parent_path == place.directory
            && before.summary.is_none()
            && before.link_target == &attributes.link_target[..]
            && before.xattr_names.is_empty();
        if !is_same {
            return Ok(false);
        }
        let index = &mut self.session.repository.index;
        if is_regular && !index.may_contain(ResourceKind::OBJECT, &before.object)?
            || !index.may_contain(ResourceKind::VFS_ENTRY, &mac)?
        {
            return Ok(false);
        }
        if !is_directory {
            summary.add_file(&counted(&before));
        }
        let kind = if is_directory { b"" } else { before.content_type };
        note_key(&mut self.keys, place.path, kind, &mac)?;
        self.unchanged += u64::from(is_regular);
        let size_bytes = if is_regular { info.size.cast_unsigned() } else { 0 };
        (self.progress)(&Event::Entry { path: place.path, size_bytes, changed: false });
        if !self.is_same || !self.previous.take_in_order() {
            self.diverge()?;
            self.previous.copy_frame(&mut self.frames)?;
        }
        Ok(true)
    }

    /// From here on the current directory is another than in the previous
    /// snapshot: what was the same so far is copied.
    pub(super) fn diverge(&mut self) -> Result<(), Error<L::Error>> {
        if core::mem::replace(&mut self.is_same, false) {
            self.previous.copy_taken(self.content.slot(), &mut self.frames)?;
        }
        Ok(())
    }

    /// The content of the same file in the previous snapshot, if neither the
    /// file has changed nor the store lost it.
    fn reusable(
        &mut self,
        found: bool,
        info: &FileInfo<'_>,
    ) -> Result<Option<Content>, Error<L::Error>> {
        if !found {
            return Ok(None);
        }
        let Some((before, _)) = self.previous.entry() else { return Ok(None) };
        // Entries of 1.0 lack content type and chunks.
        let is_same = before.info == *info && before.chunks > 0 && !before.content_type.is_empty();
        if !is_same || !self.session.repository.has(ResourceKind::OBJECT, &before.object)? {
            return Ok(None);
        }
        let mut content_type = heapless::Vec::new();
        if content_type.extend_from_slice(before.content_type).is_err() {
            return Ok(None);
        }
        self.unchanged += 1;
        let stored = Stored {
            object: before.object,
            length_bytes: info.size.cast_unsigned(),
            chunks: before.chunks,
            entropy: before.entropy,
            new_bytes: 0,
        };
        Ok(Some(Content { stored, content_type, is_read: false }))
    }

    /// Reads a file and stores its content.
    fn read_file(
        &mut self,
        place: Place<'_>,
        attributes: &Attributes,
        info: &mut FileInfo<'_>,
    ) -> Result<Content, EntryError<L::Error>> {
        self.importer.open(place.path, attributes).map_err(EntryError::Source)?;
        let (importer, progress) = (&mut *self.importer, &mut *self.progress);
        let stored = self.content.store(self.session, ContentKind::File(place.name), &mut |into| {
            match importer.read(into) {
                Ok(read) => {
                    progress(&Event::Read { bytes: read as u64 });
                    Ok(read)
                }
                Err(error) => Err(ReadError::Source(error)),
            }
        });
        let changed = self.importer.changed();
        self.importer.close();
        let stored = stored?;
        if changed.map_err(EntryError::Source)? {
            self.changed_while_read += 1;
            (self.progress)(&Event::Changed { path: place.path });
        }
        // What was read is what there is, whatever the length was before.
        info.size = i64::try_from(stored.length_bytes).unwrap_or(i64::MAX);
        self.new_bytes += stored.new_bytes;
        let content_type = self.content.content_type().clone();
        Ok(Content { stored, content_type, is_read: true })
    }

    /// Reads the names of an entry's extended attributes, and returns their
    /// length.
    fn list_xattrs(&mut self, place: Place<'_>) -> Result<usize, L::Error> {
        if self.options.skip_xattrs {
            return Ok(0);
        }
        let len = self.importer.xattr_names(place.path, self.xattr_names)?;
        Ok(len.min(self.xattr_names.len()))
    }

    /// Stores the extended attributes whose names were read. Returns the length
    /// of their sorted names in `xattr_sorted`. The inner error is the
    /// importer's.
    fn store_xattrs(
        &mut self,
        place: Place<'_>,
        len: usize,
    ) -> Result<Result<usize, L::Error>, EntryError<L::Error>> {
        let mut sorted = 0;
        let mut last: Option<(usize, usize)> = None;
        loop {
            let after = last.map(|(start, end)| &self.xattr_sorted[start..end]);
            let Some(name) = next_name(&self.xattr_names[..len], after) else { break };
            let read = self.importer.xattr(place.path, name, self.xattr_value);
            let read = match read {
                Ok(read) => read.min(self.xattr_value.len()),
                // An attribute that is gone by now is none.
                Err(error) if error.kind() == HostErrorKind::NotFound => {
                    let end = sorted + name.len();
                    self.xattr_sorted[sorted..end].copy_from_slice(name);
                    last = Some((sorted, end));
                    continue;
                }
                Err(error) => return Ok(Err(error)),
            };
            let end = sorted + name.len();
            self.xattr_sorted[sorted..end].copy_from_slice(name);
            self.xattr_sorted[end] = 0;
            last = Some((sorted, end));
            self.store_xattr(place, (sorted, end), read)?;
            sorted = end + 1;
        }
        Ok(Ok(sorted))
    }

    /// Stores one extended attribute, whose name and value are in memory.
    fn store_xattr(
        &mut self,
        place: Place<'_>,
        (start, end): (usize, usize),
        value_bytes: usize,
    ) -> Result<(), EntryError<L::Error>> {
        let mut value = &self.xattr_value[..value_bytes];
        let stored =
            self.content.store(self.session, ContentKind::File(place.name), &mut |into| {
                let (now, later) = value.split_at(value.len().min(into.len()));
                into[..now.len()].copy_from_slice(now);
                value = later;
                Ok(now.len())
            })?;
        self.new_bytes += stored.new_bytes;
        let name = &self.xattr_sorted[start..end];
        let entry = XattrEntry {
            path: place.path,
            name,
            size: i64::try_from(value_bytes).unwrap_or(i64::MAX),
            kind: 0,
            object: stored.object,
        };
        let mut writer = Writer::new(self.entry);
        entry.emit(&mut writer);
        let bytes = writer.finish().map_err(|_| EntryError::Bound("attributes are too long"))?;
        let mac = self.session.put(ResourceKind::XATTR_ENTRY, bytes)?;
        let mut key = [0; TREE_KEY_BYTES_MAX];
        let len = XattrEntry::key(place.path, name, &mut key)
            .map_err(|_| EntryError::Bound("name of an attribute is too long"))?;
        Ok(self.indexes.xattrs.push(&key[..len], &mac.0)?)
    }
}

/// The content of a file, read or known.
struct Content {
    stored: Stored,
    content_type: ContentType,
    is_read: bool,
}

/// What is recorded of an entry. A file with several names is recorded with
/// one and a flag: see [`FLAG_HARD_LINK`].
pub(super) fn file_info<'a>(name: &'a [u8], attributes: &'a Attributes) -> FileInfo<'a> {
    let is_linked = attributes.nlink > 1 && !mode::is_directory(attributes.mode);
    FileInfo {
        name,
        size: attributes.size,
        mode: attributes.mode,
        mod_time: attributes.mod_time,
        dev: attributes.dev,
        ino: attributes.ino,
        uid: attributes.uid,
        gid: attributes.gid,
        nlink: if is_linked { 1 } else { u16::try_from(attributes.nlink).unwrap_or(u16::MAX) },
        username: &attributes.username,
        groupname: &attributes.groupname,
        flags: attributes.flags | if is_linked { FLAG_HARD_LINK } else { 0 },
    }
}

/// Whether a file may have changed after the previous backup read it without its
/// time telling.
pub(super) fn may_hide_a_change(attributes: &Attributes, newest: Option<&Newest>) -> bool {
    let blind_secs = i64::from(attributes.mod_time_blind_secs);
    newest.is_some_and(|newest| {
        blind_secs > 0
            && mode::is_regular(attributes.mode)
            && attributes.mod_time.secs.saturating_add(blind_secs) >= newest.timestamp.secs
    })
}

/// Content type of an entry that has no content.
fn type_without_content(is_directory: bool) -> &'static [u8] {
    if is_directory { b"" } else { NOT_REGULAR }
}

/// What of an entry goes into the statistics of its directory.
fn counted<'b>(entry: &Entry<'b>) -> Counted<'b> {
    let is_regular = entry.is_regular();
    Counted {
        mode: entry.info.mode,
        size: if is_regular { entry.info.size } else { 0 },
        mod_time_secs: entry.info.mod_time.secs,
        chunks: is_regular.then_some(entry.chunks),
        entropy: entry.entropy,
        content_type: entry.content_type,
    }
}

/// The name that follows `after` in byte order, among names that end with a
/// zero byte. Lists are short, and this needs no memory.
fn next_name<'n>(names: &'n [u8], after: Option<&[u8]>) -> Option<&'n [u8]> {
    names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty() && after.is_none_or(|after| *name > after))
        .min()
}
