//! [`PtarReader`]: an archive that is there.

use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use tiroir_core::host::HostErrorKind;
use tiroir_core::limits::CONFIG_BYTES_MAX;
use tiroir_core::mac::{MAC_BYTES, Mac};
use tiroir_core::store::{Layout, Store, StoreResource, UploadId};

use super::{Region, START, not_found};
use crate::error::{Context as _, HostsError, Result};
use crate::fs::store::open_regular;
#[cfg(feature = "http")]
use crate::http::HttpFile;

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
