//! [`FilesExporter`]: restores into a directory of a server.

use std::fmt;

use tiroir_core::exporter::Exporter;
use tiroir_core::host::{HostError as _, HostErrorKind};
use tiroir_core::wire::file_info::FileInfo;
use tiroir_core::wire::mode;

use super::store::make_directory;
use super::{Abilities, EntryKind, NewAttributes, RemoteFiles, WriteId};
use crate::env::random_suffix;
use crate::error::{HostsError, Result};
use crate::warn::Warnings;

/// A file being written.
#[derive(Debug)]
struct NewFile {
    id: WriteId,
    temporary: Vec<u8>,
    path: Vec<u8>,
}

/// [`Exporter`] into a directory of a server. Takes what its [`RemoteFiles`]
/// takes.
pub struct FilesExporter {
    files: Box<dyn RemoteFiles>,
    abilities: Abilities,
    target: Vec<u8>,
    file: Option<NewFile>,
    skip_permissions: bool,
    /// Start of the names of what is not finished, and their number.
    temporary: String,
    temporaries: u64,
    warnings: Warnings,
    warned_of_xattrs: bool,
}

impl fmt::Debug for FilesExporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.target.escape_ascii().to_string();
        f.debug_struct("FilesExporter").field("target", &target).finish_non_exhaustive()
    }
}

impl FilesExporter {
    /// Restores into the directory `target`, an absolute and clean path. It is
    /// made if it is not there, but not the one that it lies in.
    ///
    /// # Errors
    ///
    /// Of the server.
    pub fn open(mut files: Box<dyn RemoteFiles>, target: &[u8]) -> Result<Self> {
        if target != b"/" {
            match files.make_directory(target) {
                Ok(()) => {}
                // A link to a directory is followed here, and nowhere else.
                Err(error) if error.kind() == HostErrorKind::AlreadyExists => {
                    files.list(target, &mut |_, _| Ok(()))?;
                }
                Err(error) => return Err(error),
            }
        }
        Self::join(files, target)
    }

    /// One more that restores into a target that [`open`](Self::open) has made.
    ///
    /// # Errors
    ///
    /// Of the server.
    pub fn join(mut files: Box<dyn RemoteFiles>, target: &[u8]) -> Result<Self> {
        let abilities = files.abilities()?;
        Ok(Self {
            files,
            abilities,
            target: target.strip_suffix(b"/").unwrap_or(target).to_vec(),
            file: None,
            skip_permissions: false,
            temporary: format!(".tiroir-{}", random_suffix()?),
            temporaries: 0,
            warnings: Warnings::default(),
            warned_of_xattrs: false,
        })
    }

    /// Whether owners and modes are left as the server makes them.
    #[must_use]
    pub fn with_skip_permissions(mut self, skip: bool) -> Self {
        self.skip_permissions = skip;
        self
    }

    /// With a receiver of warnings.
    #[must_use]
    pub fn with_warnings(mut self, receiver: impl FnMut(&str) + Send + 'static) -> Self {
        self.warnings = Warnings::new(receiver);
        self
    }

    fn whole(&self, path: &[u8]) -> Vec<u8> {
        if path.is_empty() {
            return if self.target.is_empty() { b"/".to_vec() } else { self.target.clone() };
        }
        [self.target.as_slice(), b"/", path].concat()
    }

    /// A name beside `path` that nothing else has.
    fn temporary_beside(&mut self, path: &[u8]) -> Vec<u8> {
        self.temporaries += 1;
        let end = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let name = format!("{}-{:x}", self.temporary, self.temporaries);
        [&path[..end], name.as_bytes()].concat()
    }

    fn attributes(&self, info: &FileInfo<'_>) -> NewAttributes {
        let number = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        let keep = !self.skip_permissions;
        NewAttributes {
            permissions: keep.then(|| mode::unix_permissions(info.mode)),
            mod_time: Some(info.mod_time),
            owner: number(info.uid).zip(number(info.gid)).filter(|_| keep),
        }
    }

    /// Makes something under its name, or beside it to take the place of what is
    /// there.
    fn make(
        &mut self,
        path: &[u8],
        mut make: impl FnMut(&mut dyn RemoteFiles, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let path = self.whole(path);
        match make(&mut *self.files, &path) {
            Err(error) if error.kind() == HostErrorKind::AlreadyExists => {}
            other => return other,
        }
        let temporary = self.temporary_beside(&path);
        make(&mut *self.files, &temporary)?;
        let renamed = self.files.rename(&temporary, &path);
        // After a success there is something left if both were names of one file.
        let _ = self.files.remove_file(&temporary);
        renamed
    }
}

impl Exporter for FilesExporter {
    type Error = HostsError;

    fn has_hard_links(&self) -> bool {
        self.abilities.hard_links
    }

    fn create_directory(&mut self, path: &[u8]) -> Result<()> {
        if path.is_empty() {
            return Ok(());
        }
        let path = self.whole(path);
        make_directory(&mut *self.files, &path)
    }

    fn begin_file(&mut self, path: &[u8], _size_bytes: u64) -> Result<()> {
        self.abandon_file();
        let path = self.whole(path);
        let temporary = self.temporary_beside(&path);
        let id = self.files.create(&temporary)?;
        self.file = Some(NewFile { id, temporary, path });
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match &self.file {
            Some(new) => self.files.write(new.id, bytes),
            None => Err(not_begun()),
        }
    }

    fn set_xattr(&mut self, _path: &[u8], _name: &[u8], _value: &[u8]) -> Result<()> {
        if !std::mem::replace(&mut self.warned_of_xattrs, true) {
            let server = self.files.shown();
            self.warnings.warn(&format!("extended attributes cannot be restored to {server}"));
        }
        Ok(())
    }

    fn finish_file(&mut self, info: Option<&FileInfo<'_>>) -> Result<()> {
        let Some(new) = self.file.take() else { return Err(not_begun()) };
        let attributes = info.map(|info| self.attributes(info)).unwrap_or_default();
        let finished = self.files.finish(new.id, &attributes, false);
        let renamed = finished.and_then(|()| {
            match self.files.rename(&new.temporary, &new.path) {
                // Something else has the name, which no file can replace.
                Err(error) if self.files.inspect(&new.path).is_ok_and(is_directory) => {
                    let _ = error;
                    let rule = "a directory has its name";
                    Err(HostsError::rule(HostErrorKind::AlreadyExists, "write", &new.path, rule))
                }
                other => other,
            }
        });
        if renamed.is_err() {
            let _ = self.files.remove_file(&new.temporary);
        }
        renamed
    }

    fn abandon_file(&mut self) {
        if let Some(new) = self.file.take() {
            self.files.discard(new.id);
        }
    }

    fn symbolic_link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        if !self.abilities.symbolic_links {
            let rule = "the server has no symbolic links";
            return Err(HostsError::rule(HostErrorKind::Other, "make link", path, rule));
        }
        self.make(path, |files, path| files.make_link(path, target))
    }

    fn hard_link(&mut self, path: &[u8], original: &[u8]) -> Result<()> {
        let original = self.whole(original);
        self.make(path, |files, path| files.make_hard_link(path, &original))
    }

    fn special(&mut self, _path: &[u8], _info: &FileInfo<'_>) -> Result<bool> {
        Ok(false)
    }

    fn set_attributes(&mut self, path: &[u8], info: &FileInfo<'_>) -> Result<()> {
        let mut attributes = self.attributes(info);
        if info.mode & mode::SYMLINK != 0 {
            attributes.permissions = None;
        }
        let path = self.whole(path);
        self.files.set_attributes(&path, &attributes)
    }
}

fn is_directory(entry: super::RemoteEntry) -> bool {
    entry.kind == EntryKind::Directory
}

impl Drop for FilesExporter {
    fn drop(&mut self) {
        self.abandon_file();
    }
}

fn not_begun() -> HostsError {
    HostsError::rule(HostErrorKind::Other, "write", b"", "no file was begun")
}
