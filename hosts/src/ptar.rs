//! [`PtarReader`] and [`PtarWriter`]: a store in one file.
//!
//! Section 14.5 of the format: a magic number, CONFIG, exactly one packfile,
//! exactly one state, and a table that tells where these three lie. It is read from
//! a disk or a web server.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, RenameFlags};
use rustix::io::Errno;
use tiroir_core::host::HostErrorKind;
use tiroir_core::limits::CONFIG_BYTES_MAX;
use tiroir_core::mac::{MAC_BYTES, Mac};
use tiroir_core::store::{Layout, Store, StoreResource, UploadId};

use crate::durable::{cannot_sync, parent_of, sync_directory};
use crate::env::random_suffix;
use crate::error::{Context as _, HostsError, Result};
use crate::fs::store::open_regular;
#[cfg(feature = "http")]
use crate::http::HttpFile;
use crate::spool::create_named;
use crate::warn::Warnings;

/// Magic number and version at the start.
const START: [u8; 12] = *b"_PLATAR_\x00\x00\x01\x00";

/// Length of the table at the end: three positions, each with a length.
const TABLE_BYTES: u64 = 48;

/// Length of the smallest envelope: a header and a MAC.
const ENVELOPE_BYTES_MIN: u64 = 48;

/// Name under which the packfile is listed, as by stock: what it is really
/// called only the state knows.
const PACKFILE_NAME: Mac = Mac([
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0,
]);

/// Bytes that the writer gathers before it writes.
const WRITE_BYTES: usize = 256 * 1024;

/// Part of the file that holds a resource.
#[derive(Clone, Copy, Debug, Default)]
struct Region {
    offset_bytes: u64,
    length_bytes: u64,
}

impl Region {
    /// How many bytes of `into` a read from `offset_bytes` of the region fills.
    fn part<'a>(&self, offset_bytes: u64, into: &'a mut [u8]) -> &'a mut [u8] {
        let left = self.length_bytes.saturating_sub(offset_bytes);
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
        &mut into[..count]
    }

    fn read(&self, file: &File, offset_bytes: u64, into: &mut [u8]) -> io::Result<usize> {
        let part = self.part(offset_bytes, into);
        if part.is_empty() {
            return Ok(0);
        }
        // No overflow: the part is not empty, so the offset lies in the region.
        file.read_exact_at(part, self.offset_bytes + offset_bytes)?;
        Ok(part.len())
    }
}

/// Where a finished archive is.
#[derive(Debug)]
enum Source {
    /// On a disk.
    File(File),
    /// On a web server.
    #[cfg(feature = "http")]
    Http(Box<HttpFile>),
}

impl Source {
    fn length_bytes(&self, path: &Path) -> Result<u64> {
        match self {
            Self::File(file) => Ok(file.metadata().at("inspect", path)?.len()),
            #[cfg(feature = "http")]
            Self::Http(file) => Ok(file.length_bytes()),
        }
    }

    /// Fills `into`, of which everything lies in the archive.
    fn read_exact(&mut self, offset_bytes: u64, into: &mut [u8], path: &Path) -> Result<()> {
        match self {
            Self::File(file) => file.read_exact_at(into, offset_bytes).at("read", path),
            #[cfg(feature = "http")]
            Self::Http(file) => match file.read_at(offset_bytes, into)? {
                read if read == into.len() => Ok(()),
                _ => Err(damaged(path, "it is cut short")),
            },
        }
    }
}

/// A finished archive, as a store that is only read.
///
/// The packfile answers to every name. The state is listed under the MAC that
/// ends its envelope, and not under the constant that stock lists: whoever
/// keeps what was read of a state by its name, as the
/// [index](crate::index) does, would take the state of a rewritten archive for
/// one read before.
#[derive(Debug)]
pub struct PtarReader {
    path: PathBuf,
    source: Source,
    config: Region,
    packfile: Region,
    state: Region,
    state_name: Mac,
}

impl PtarReader {
    /// Opens the archive at `path`.
    ///
    /// # Errors
    ///
    /// Of the system; or that the file is not an archive, or one cut short.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let source = Source::File(open_regular(&path)?);
        Self::over(source, path)
    }

    /// The archive that is a file of a web server.
    ///
    /// # Errors
    ///
    /// As of [`open`](Self::open), and of the server.
    #[cfg(feature = "http")]
    pub fn over_http(file: HttpFile) -> Result<Self> {
        let path = PathBuf::from(format!("ptar+{}", file.location()));
        Self::over(Source::Http(Box::new(file)), path)
    }

    fn over(mut source: Source, path: PathBuf) -> Result<Self> {
        let length_bytes = source.length_bytes(&path)?;
        let mut start = [0; START.len()];
        let is_long = length_bytes >= start.len() as u64;
        if is_long {
            source.read_exact(0, &mut start, &path)?;
        }
        if !is_long || start[..8] != START[..8] {
            return Err(damaged(&path, "it is not a ptar archive"));
        }
        // Nothing else covers these bytes, so no other version is taken for a damaged one.
        if start[8..] != START[8..] {
            return Err(damaged(&path, "its version is not known here"));
        }
        let end = length_bytes.checked_sub(TABLE_BYTES).filter(|end| *end >= START.len() as u64);
        let end = end.ok_or_else(|| damaged(&path, "it is cut short"))?;
        let mut table = [0; 48];
        source.read_exact(end, &mut table, &path)?;
        let [config, packfile, state] = parse_table(&table, end)
            .ok_or_else(|| damaged(&path, "its table is damaged, or it is cut short"))?;
        let mut mac = [0; MAC_BYTES];
        let mac_offset = state.offset_bytes + state.length_bytes - MAC_BYTES as u64;
        source.read_exact(mac_offset, &mut mac, &path)?;
        Ok(Self { path, source, config, packfile, state, state_name: Mac(mac) })
    }

    fn region(&self, resource: StoreResource, name: &Mac) -> Option<Region> {
        match resource {
            StoreResource::Packfile => Some(self.packfile),
            StoreResource::State if *name == self.state_name => Some(self.state),
            StoreResource::State | StoreResource::Lock => None,
        }
    }

    fn refuse<T>(&self, operation: &'static str) -> Result<T> {
        let path = self.path.as_os_str().as_bytes();
        let rule = "an archive cannot be changed";
        Err(HostsError::rule(HostErrorKind::PermissionDenied, operation, path, rule))
    }
}

/// Where the three resources lie, if all of them lie between the start and
/// `end` and have a length that they may have.
fn parse_table(table: &[u8; 48], end: u64) -> Option<[Region; 3]> {
    let number = |index: usize| {
        let bytes = table[8 * index..8 * index + 8].try_into().unwrap_or_default();
        u64::try_from(i64::from_le_bytes(bytes)).ok()
    };
    let region = |index: usize| {
        let region = Region { offset_bytes: number(index)?, length_bytes: number(index + 1)? };
        let inside = region.offset_bytes >= START.len() as u64
            && region.offset_bytes.checked_add(region.length_bytes)? <= end;
        inside.then_some(region)
    };
    let [config, packfile, state] = [region(0)?, region(2)?, region(4)?];
    let lengths_are_possible = (1..=CONFIG_BYTES_MAX as u64).contains(&config.length_bytes)
        && packfile.length_bytes >= ENVELOPE_BYTES_MIN
        && state.length_bytes >= ENVELOPE_BYTES_MIN;
    lengths_are_possible.then_some([config, packfile, state])
}

fn damaged(path: &Path, rule: &'static str) -> HostsError {
    HostsError::rule(HostErrorKind::Other, "open archive", path.as_os_str().as_bytes(), rule)
}

fn not_found(path: &Path, resource: StoreResource) -> HostsError {
    let rule = match resource {
        StoreResource::Packfile => "it holds no such packfile",
        StoreResource::State => "it holds no such state",
        StoreResource::Lock => "archives have no locks",
    };
    HostsError::rule(HostErrorKind::NotFound, "read", path.as_os_str().as_bytes(), rule)
}

impl Store for PtarReader {
    type Error = HostsError;

    fn layout(&self) -> Layout {
        Layout::SingleFile
    }

    fn read_config(&mut self, into: &mut [u8]) -> Result<usize> {
        let part = self.config.part(0, into);
        self.source.read_exact(self.config.offset_bytes, part, &self.path)?;
        Ok(usize::try_from(self.config.length_bytes).unwrap_or(usize::MAX))
    }

    fn create(&mut self, _bytes: &[u8]) -> Result<()> {
        let path = self.path.as_os_str().as_bytes();
        let rule = "there is an archive";
        Err(HostsError::rule(HostErrorKind::AlreadyExists, "create a store in", path, rule))
    }

    fn begin(&mut self, _resource: StoreResource) -> Result<UploadId> {
        self.refuse("write to")
    }

    fn write(&mut self, _upload: UploadId, _bytes: &[u8]) -> Result<()> {
        self.refuse("write to")
    }

    fn commit(&mut self, _upload: UploadId, _name: &Mac) -> Result<()> {
        self.refuse("write to")
    }

    fn abort(&mut self, _upload: UploadId) {}

    fn size(&mut self, resource: StoreResource, name: &Mac) -> Result<Option<u64>> {
        Ok(self.region(resource, name).map(|region| region.length_bytes))
    }

    fn get(
        &mut self,
        resource: StoreResource,
        name: &Mac,
        offset_bytes: u64,
        into: &mut [u8],
    ) -> Result<usize> {
        let region = self.region(resource, name).ok_or_else(|| not_found(&self.path, resource))?;
        let part = region.part(offset_bytes, into);
        if !part.is_empty() {
            // No overflow: the part is not empty, so the offset lies in the region.
            self.source.read_exact(region.offset_bytes + offset_bytes, part, &self.path)?;
        }
        Ok(part.len())
    }

    fn list(
        &mut self,
        resource: StoreResource,
        each: &mut dyn FnMut(Mac) -> ControlFlow<()>,
    ) -> Result<()> {
        match resource {
            StoreResource::Packfile => _ = each(PACKFILE_NAME),
            StoreResource::State => _ = each(self.state_name),
            StoreResource::Lock => {}
        }
        Ok(())
    }

    fn delete(&mut self, resource: StoreResource, _name: &Mac) -> Result<()> {
        match resource {
            StoreResource::Lock => Ok(()),
            StoreResource::Packfile | StoreResource::State => self.refuse("delete from"),
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;
    use tiroir_core::host::HostError as _;

    const NAME: Mac = Mac([0x77; 32]);

    fn packfile() -> Vec<u8> {
        Random::new(3).bytes(700_000)
    }

    fn state() -> Vec<u8> {
        Random::new(4).bytes(1000)
    }

    fn write_resource(
        writer: &mut PtarWriter,
        resource: StoreResource,
        bytes: &[u8],
    ) -> Result<()> {
        let upload = writer.begin(resource)?;
        for piece in bytes.chunks(10_007) {
            writer.write(upload, piece)?;
        }
        writer.commit(upload, &NAME)
    }

    fn write_archive(path: &Path, overwrite: bool) -> Result<()> {
        let mut writer = PtarWriter::new(path).with_overwrite(overwrite);
        writer.create(b"config")?;
        write_resource(&mut writer, StoreResource::Packfile, &packfile())?;
        write_resource(&mut writer, StoreResource::State, &state())?;
        assert!(writer.is_finished());
        Ok(())
    }

    fn listed(store: &mut impl Store<Error = HostsError>, resource: StoreResource) -> Vec<Mac> {
        let mut names = Vec::new();
        let mut each = |name| {
            names.push(name);
            ControlFlow::Continue(())
        };
        store.list(resource, &mut each).unwrap();
        names
    }

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.ptar");
        write_archive(&path, false).unwrap();
        let mut reader = PtarReader::open(&path).unwrap();
        let mut into = vec![0; 1_000_000];
        assert_eq!(reader.read_config(&mut into).unwrap(), 6);
        assert_eq!(&into[..6], b"config");
        let count = reader.get(StoreResource::Packfile, &Mac([9; 32]), 0, &mut into).unwrap();
        assert_eq!(into[..count], packfile());
        let count = reader.get(StoreResource::Packfile, &Mac([9; 32]), 699_990, &mut into).unwrap();
        assert_eq!(into[..count], packfile()[699_990..]);

        let names = listed(&mut reader, StoreResource::State);
        assert_eq!(names, [Mac::from_slice(&state()[968..]).unwrap()]);
        let count = reader.get(StoreResource::State, &names[0], 0, &mut into).unwrap();
        assert_eq!(into[..count], state());
        let error = reader.get(StoreResource::State, &NAME, 0, &mut into).unwrap_err();
        assert_eq!(error.kind(), HostErrorKind::NotFound);
        assert_eq!(listed(&mut reader, StoreResource::Packfile).len(), 1);
        assert!(listed(&mut reader, StoreResource::Lock).is_empty());
        assert!(reader.begin(StoreResource::Packfile).is_err());
        assert!(reader.delete(StoreResource::Packfile, &NAME).is_err());
    }

    #[test]
    fn the_packfile_is_read_while_it_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = PtarWriter::new(directory.path().join("a.ptar"));
        writer.create(b"config").unwrap();
        let upload = writer.begin(StoreResource::Packfile).unwrap();
        let content = packfile();
        let mut written = 0;
        for piece in content.chunks(9000) {
            writer.write(upload, piece).unwrap();
            written += piece.len();
            let mut into = [0; 5000];
            let start = written - 4000;
            let count =
                writer.get(StoreResource::Packfile, &NAME, start as u64, &mut into).unwrap();
            assert_eq!(into[..count], content[start..written]);
        }
    }

    #[test]
    fn what_is_aborted_can_be_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.ptar");
        let mut writer = PtarWriter::new(&path);
        writer.create(b"config").unwrap();
        for length in [10, 900_000] {
            let upload = writer.begin(StoreResource::Packfile).unwrap();
            writer.write(upload, &vec![1; length]).unwrap();
            writer.abort(upload);
        }
        write_resource(&mut writer, StoreResource::Packfile, &packfile()).unwrap();
        let upload = writer.begin(StoreResource::State).unwrap();
        writer.write(upload, &[2; 100]).unwrap();
        writer.abort(upload);
        write_resource(&mut writer, StoreResource::State, &state()).unwrap();
        drop(writer);
        let mut reader = PtarReader::open(&path).unwrap();
        let mut into = vec![0; 1_000_000];
        let count = reader.get(StoreResource::Packfile, &NAME, 0, &mut into).unwrap();
        assert_eq!(into[..count], packfile());
    }

    #[test]
    fn an_unfinished_archive_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = PtarWriter::new(directory.path().join("a.ptar"));
        writer.create(b"config").unwrap();
        write_resource(&mut writer, StoreResource::Packfile, &packfile()).unwrap();
        assert!(write_resource(&mut writer, StoreResource::Packfile, b"second").is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        drop(writer);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_existing_file_is_kept_unless_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.ptar");
        fs::write(&path, b"something").unwrap();
        assert_eq!(write_archive(&path, false).unwrap_err().kind(), HostErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"something");
        write_archive(&path, true).unwrap();
        PtarReader::open(&path).unwrap();

        // One that appears while the archive is written is kept as well.
        let late = directory.path().join("late.ptar");
        let mut writer = PtarWriter::new(&late);
        writer.create(b"config").unwrap();
        write_resource(&mut writer, StoreResource::Packfile, &packfile()).unwrap();
        fs::write(&late, b"something").unwrap();
        let error = write_resource(&mut writer, StoreResource::State, &state()).unwrap_err();
        assert_eq!(error.kind(), HostErrorKind::AlreadyExists);
        drop(writer);
        assert_eq!(fs::read(&late).unwrap(), b"something");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn damaged_tables_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.ptar");
        write_archive(&path, false).unwrap();
        let whole = fs::read(&path).unwrap();
        let mut random = Random::new(5);
        for _ in 0..300 {
            let mut bytes = whole.clone();
            let end = bytes.len() as u64;
            let start = if random.below(2) == 0 { end - 48 } else { 0 };
            let position = start + random.below(if start == 0 { 12 } else { 48 });
            bytes[usize::try_from(position).unwrap()] ^= 1 << random.below(8);
            let length = end - if random.below(3) == 0 { random.below(end) } else { 0 };
            fs::write(&path, &bytes[..usize::try_from(length).unwrap()]).unwrap();
            if let Ok(mut reader) = PtarReader::open(&path) {
                // Then every part can be read to its end.
                let names = listed(&mut reader, StoreResource::State);
                let mut into = vec![0; whole.len()];
                reader.get(StoreResource::State, &names[0], 0, &mut into).unwrap();
                reader.get(StoreResource::Packfile, &NAME, 0, &mut into).unwrap();
                reader.read_config(&mut into).unwrap();
            }
        }
        for bytes in [&b""[..], b"_PLATAR_", &[0xff; 200]] {
            fs::write(&path, bytes).unwrap();
            assert!(PtarReader::open(&path).is_err());
        }
    }
}
