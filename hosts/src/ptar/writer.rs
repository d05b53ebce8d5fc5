//! [`PtarWriter`]: an archive on its way.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, RenameFlags};
use rustix::io::Errno;
use tiroir_core::host::HostErrorKind;
use tiroir_core::limits::CONFIG_BYTES_MAX;
use tiroir_core::mac::Mac;
use tiroir_core::store::{Layout, Store, StoreResource, UploadId};

use super::{Region, START, not_found};
use crate::durable::{cannot_sync, parent_of, sync_directory};
use crate::env::random_suffix;
use crate::error::{Context as _, HostsError, Result};
use crate::spool::create_named;
use crate::warn::Warnings;

/// Bytes that the writer gathers before it writes.
const WRITE_BYTES: usize = 256 * 1024;

/// What the writer was given so far. Every part follows the one before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// Nothing: there is no file yet.
    New,
    /// CONFIG.
    Config,
    /// CONFIG and a part of the packfile.
    Packfile(UploadId),
    /// CONFIG and the packfile.
    PackfileDone,
    /// All but a part of the state.
    State(UploadId),
    /// Everything; the file has its name.
    Done,
    /// Something that cannot be taken back.
    Failed,
}

/// Where the bytes go.
#[derive(Debug)]
enum Output {
    /// A file that gets its name at the end.
    File { file: File, temporary: PathBuf },
    /// Standard output, without the buffer of lines that belongs to it.
    Stream(File),
}

impl Output {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File { file, .. } | Self::Stream(file) => file.write_all(bytes),
        }
    }
}

/// An archive being written: a store that takes one packfile, then one state.
///
/// It exists under its name, whole and durable, when the state is committed;
/// before that there is a file `<name>.tmp.<random>`, which is removed when the
/// writer is dropped. What was written of the packfile can be read at once. The
/// name `-` stands for standard output, from which nothing can be read. Locks
/// are taken and forgotten: nobody else has the file.
///
/// Takes 256 KiB.
#[derive(Debug)]
pub struct PtarWriter {
    target: PathBuf,
    overwrite: bool,
    output: Option<Output>,
    stage: Stage,
    /// Bytes that left the buffer.
    written_bytes: u64,
    buffer: Vec<u8>,
    config_bytes: Vec<u8>,
    packfile: Region,
    packfile_name: Mac,
    state: Region,
    state_name: Mac,
    next_upload: u32,
    warnings: Warnings,
}

impl PtarWriter {
    /// An archive to be written to `target`, or to standard output if that is
    /// `-`. Nothing is touched before [`create`](Store::create).
    #[must_use]
    pub fn new(target: impl Into<PathBuf>) -> Self {
        Self {
            target: target.into(),
            overwrite: false,
            output: None,
            stage: Stage::New,
            written_bytes: 0,
            buffer: Vec::new(),
            config_bytes: Vec::new(),
            packfile: Region::default(),
            packfile_name: Mac::ZERO,
            state: Region::default(),
            state_name: Mac::ZERO,
            next_upload: 0,
            warnings: Warnings::default(),
        }
    }

    /// With a receiver of warnings.
    #[must_use]
    pub fn with_warnings(mut self, receiver: impl FnMut(&str) + Send + 'static) -> Self {
        self.warnings = Warnings::new(receiver);
        self
    }

    /// Whether a file that is there already is replaced.
    #[must_use]
    pub fn with_overwrite(mut self, overwrite: bool) -> Self {
        self.overwrite = overwrite;
        self
    }

    /// Whether the archive is whole and durable.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.stage == Stage::Done
    }

    fn is_stream(&self) -> bool {
        self.target.as_os_str() == "-"
    }

    /// Position of the next byte.
    fn position(&self) -> u64 {
        self.written_bytes + self.buffer.len() as u64
    }

    fn rule(&self, kind: HostErrorKind, operation: &'static str, rule: &'static str) -> HostsError {
        HostsError::rule(kind, operation, self.target.as_os_str().as_bytes(), rule)
    }

    fn open_output(&mut self) -> Result<Output> {
        if self.is_stream() {
            let stream = io::stdout().as_fd().try_clone_to_owned().at("open", &self.target)?;
            return Ok(Output::Stream(stream.into()));
        }
        if !self.overwrite && fs::symlink_metadata(&self.target).is_ok() {
            return Err(self.exists());
        }
        let mut temporary = self.target.clone().into_os_string();
        temporary.push(format!(".tmp.{}", random_suffix()?));
        let temporary = PathBuf::from(temporary);
        Ok(Output::File { file: create_named(&temporary)?, temporary })
    }

    fn exists(&self) -> HostsError {
        self.rule(HostErrorKind::AlreadyExists, "create archive", "there is a file of that name")
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.buffer.len() + bytes.len() > WRITE_BYTES {
            self.flush()?;
        }
        if bytes.len() >= WRITE_BYTES {
            return self.write_out(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = self.write_out(&buffer);
        buffer.clear();
        self.buffer = buffer;
        result
    }

    fn write_out(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(output) = &mut self.output else {
            return Err(self.rule(HostErrorKind::NotFound, "write", "it was not created"));
        };
        let result = output.write_all(bytes);
        if result.is_err() {
            self.stage = Stage::Failed;
        }
        self.written_bytes += bytes.len() as u64;
        result.at("write", &self.target)
    }

    /// Takes back everything from `offset_bytes` on, if that can be done.
    fn rewind(&mut self, offset_bytes: u64, stage: Stage) {
        self.stage = Stage::Failed;
        if offset_bytes >= self.written_bytes {
            // It fits: the buffer holds what follows.
            let kept = usize::try_from(offset_bytes - self.written_bytes).unwrap_or(0);
            self.buffer.truncate(kept);
            self.stage = stage;
            return;
        }
        self.buffer.clear();
        if let Some(Output::File { file, .. }) = &mut self.output {
            let shortened = file
                .set_len(offset_bytes)
                .and_then(|()| io::Seek::seek(file, io::SeekFrom::Start(offset_bytes)));
            if shortened.is_ok() {
                self.written_bytes = offset_bytes;
                self.stage = stage;
            }
        }
    }

    /// Writes the table, and makes the archive durable under its name.
    fn finish(&mut self) -> Result<()> {
        let config_bytes = self.config_bytes.len() as u64;
        let numbers = [
            START.len() as u64,
            config_bytes,
            self.packfile.offset_bytes,
            self.packfile.length_bytes,
            self.state.offset_bytes,
            self.state.length_bytes,
        ];
        for number in numbers {
            self.append(&number.to_le_bytes())?;
        }
        self.flush()?;
        match &mut self.output {
            Some(Output::File { file, temporary }) => {
                file.sync_all().at("write", &self.target)?;
                let temporary = temporary.clone();
                self.publish(&temporary)
            }
            Some(Output::Stream(_)) | None => Ok(()),
        }
    }

    fn publish(&mut self, temporary: &Path) -> Result<()> {
        if self.overwrite {
            fs::rename(temporary, &self.target).at("give its name to", &self.target)?;
        } else {
            match rename_new(temporary, &self.target) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(self.exists());
                }
                other => other.at("give its name to", &self.target)?,
            }
        }
        let directory = parent_of(&self.target);
        match sync_directory(directory) {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.warnings.warn(&cannot_sync(&self.target));
                Ok(())
            }
            Err(error) => {
                // What was told to have failed must not be found later. In place
                // of another archive it is the only one left.
                if !self.overwrite {
                    let _ = fs::remove_file(&self.target);
                }
                Err(error).at("sync", directory)
            }
        }
    }

    fn region(&self, resource: StoreResource, name: &Mac) -> Option<Region> {
        match (resource, self.stage) {
            (StoreResource::Packfile, Stage::Packfile(_)) => Some(Region {
                offset_bytes: self.packfile.offset_bytes,
                length_bytes: self.position() - self.packfile.offset_bytes,
            }),
            (StoreResource::Packfile, Stage::PackfileDone | Stage::State(_) | Stage::Done) => {
                Some(self.packfile)
            }
            (StoreResource::State, Stage::Done) if *name == self.state_name => Some(self.state),
            _ => None,
        }
    }
}

/// Renames a file to a name that nothing has, in one step where that is known.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Kernels before 3.15, and file systems that do not know the flag.
        Err(Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP) => {}
        other => return other.map_err(Into::into),
    }
    match rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty()) {
        Ok(()) => fs::remove_file(from),
        // File systems without links (FAT): look, then rename.
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => match fs::symlink_metadata(to) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => fs::rename(from, to),
        },
        Err(error) => Err(error.into()),
    }
}

impl Store for PtarWriter {
    type Error = HostsError;

    fn layout(&self) -> Layout {
        Layout::SingleFile
    }

    fn read_config(&mut self, into: &mut [u8]) -> Result<usize> {
        if self.stage == Stage::New {
            return Err(self.rule(HostErrorKind::NotFound, "read", "it was not created"));
        }
        let count = self.config_bytes.len().min(into.len());
        into[..count].copy_from_slice(&self.config_bytes[..count]);
        Ok(self.config_bytes.len())
    }

    fn create(&mut self, bytes: &[u8]) -> Result<()> {
        if self.stage != Stage::New {
            return Err(self.exists());
        }
        if bytes.is_empty() || bytes.len() > CONFIG_BYTES_MAX {
            let rule = "its CONFIG is longer than archives allow";
            return Err(self.rule(HostErrorKind::Other, "create archive", rule));
        }
        self.output = Some(self.open_output()?);
        self.config_bytes = bytes.to_vec();
        self.append(&START)?;
        self.append(bytes)?;
        self.stage = Stage::Config;
        Ok(())
    }

    fn begin(&mut self, resource: StoreResource) -> Result<UploadId> {
        let id = UploadId(self.next_upload);
        let position = self.position();
        match (resource, self.stage) {
            (StoreResource::Lock, _) => {}
            (StoreResource::Packfile, Stage::Config) => {
                self.packfile = Region { offset_bytes: position, length_bytes: 0 };
                self.stage = Stage::Packfile(id);
            }
            (StoreResource::State, Stage::PackfileDone) => {
                self.state = Region { offset_bytes: position, length_bytes: 0 };
                self.stage = Stage::State(id);
            }
            _ => {
                let rule = "an archive takes one packfile, then one state";
                return Err(self.rule(HostErrorKind::Other, "write to archive", rule));
            }
        }
        self.next_upload = self.next_upload.wrapping_add(1);
        Ok(id)
    }

    fn write(&mut self, upload: UploadId, bytes: &[u8]) -> Result<()> {
        match self.stage {
            Stage::Packfile(id) | Stage::State(id) if id == upload => self.append(bytes),
            Stage::Failed => {
                Err(self.rule(HostErrorKind::Other, "write to archive", "writing failed before"))
            }
            // A lock.
            _ => Ok(()),
        }
    }

    fn commit(&mut self, upload: UploadId, name: &Mac) -> Result<()> {
        let position = self.position();
        match self.stage {
            Stage::Packfile(id) if id == upload => {
                self.packfile.length_bytes = position - self.packfile.offset_bytes;
                self.packfile_name = *name;
                self.stage = Stage::PackfileDone;
            }
            Stage::State(id) if id == upload => {
                self.state.length_bytes = position - self.state.offset_bytes;
                self.state_name = *name;
                self.stage = Stage::Failed;
                self.finish()?;
                self.stage = Stage::Done;
            }
            Stage::Failed => {
                let rule = "writing failed before";
                return Err(self.rule(HostErrorKind::Other, "finish archive", rule));
            }
            _ => {}
        }
        Ok(())
    }

    fn abort(&mut self, upload: UploadId) {
        match self.stage {
            Stage::Packfile(id) if id == upload => {
                self.rewind(self.packfile.offset_bytes, Stage::Config);
            }
            Stage::State(id) if id == upload => {
                self.rewind(self.state.offset_bytes, Stage::PackfileDone);
            }
            _ => {}
        }
    }

    fn size(&mut self, resource: StoreResource, name: &Mac) -> Result<Option<u64>> {
        match self.stage {
            // Not committed, whatever can be read of it.
            Stage::Packfile(_) => Ok(None),
            _ => Ok(self.region(resource, name).map(|region| region.length_bytes)),
        }
    }

    fn get(
        &mut self,
        resource: StoreResource,
        name: &Mac,
        offset_bytes: u64,
        into: &mut [u8],
    ) -> Result<usize> {
        let region =
            self.region(resource, name).ok_or_else(|| not_found(&self.target, resource))?;
        let count = region.part(offset_bytes, into).len() as u64;
        if count > 0 && region.offset_bytes + offset_bytes + count > self.written_bytes {
            self.flush()?;
        }
        match &self.output {
            Some(Output::File { file, .. }) => {
                region.read(file, offset_bytes, into).at("read", &self.target)
            }
            _ => {
                let rule = "what went to standard output is gone";
                Err(self.rule(HostErrorKind::Other, "read from archive", rule))
            }
        }
    }

    fn list(
        &mut self,
        resource: StoreResource,
        each: &mut dyn FnMut(Mac) -> ControlFlow<()>,
    ) -> Result<()> {
        match (resource, self.stage) {
            (StoreResource::Packfile, Stage::PackfileDone | Stage::State(_) | Stage::Done) => {
                _ = each(self.packfile_name);
            }
            (StoreResource::State, Stage::Done) => _ = each(self.state_name),
            _ => {}
        }
        Ok(())
    }

    fn delete(&mut self, resource: StoreResource, _name: &Mac) -> Result<()> {
        match resource {
            StoreResource::Lock => Ok(()),
            StoreResource::Packfile | StoreResource::State => {
                let rule = "an archive only grows";
                Err(self.rule(HostErrorKind::PermissionDenied, "delete from archive", rule))
            }
        }
    }
}

impl Drop for PtarWriter {
    fn drop(&mut self) {
        if let Some(Output::File { temporary, .. }) = &self.output
            && self.stage != Stage::Done
        {
            let _ = fs::remove_file(temporary);
        }
    }
}
