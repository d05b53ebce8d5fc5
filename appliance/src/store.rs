//! [`AnyStore`]: one of the store connectors; [`Appliance`]: what this program
//! lends the engine.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use tiroir_core::mac::Mac;
use tiroir_core::repository::{Lend, Repository};
use tiroir_core::store::{Layout, Store, StoreResource, UploadId};
use tiroir_hosts::env::SystemHost;
use tiroir_hosts::error::HostsError;
use tiroir_hosts::fs::mounted::Home;
use tiroir_hosts::fs::store::FsStore;
use tiroir_hosts::index::SqliteIndex;
use tiroir_hosts::ptar::{PtarReader, PtarWriter};

use crate::connect::{self, RemoteStore, Surroundings};
use crate::error::{Failure, Result};
use crate::location::Location;

/// What this program lends the engine.
#[derive(Debug)]
pub(crate) enum Appliance {}

impl Lend for Appliance {
    type Error = HostsError;
    type Host = SystemHost;
    type Store = AnyStore;
    type Index = SqliteIndex;
}

/// A repository of this program.
pub(crate) type Repo<'m> = Repository<'m, Appliance>;

/// One of the store connectors, and how much went through it.
#[derive(Debug)]
pub(crate) struct AnyStore {
    connector: Connector,
    /// Bytes read of packfiles, states and locks.
    pub(crate) read_bytes: u64,
    /// Bytes written of them.
    pub(crate) written_bytes: u64,
    /// What else must be where it was when a state is written.
    homes: Vec<Home>,
}

/// One of the store connectors.
#[derive(Debug)]
enum Connector {
    /// A directory.
    Directory(FsStore),
    /// An archive that is read.
    Archive(PtarReader),
    /// An archive that is written.
    NewArchive(PtarWriter),
    /// What is neither here nor an archive.
    Remote(Box<dyn RemoteStore>),
}

impl AnyStore {
    /// The store at `location`.
    ///
    /// # Errors
    ///
    /// Of the system, and for what is no archive.
    pub(crate) fn at(location: &Location, around: &Surroundings) -> Result<Self, HostsError> {
        Ok(Self::over(match location {
            Location::Directory(path) => {
                Connector::Directory(FsStore::new(path).with_warnings(crate::report::warn))
            }
            Location::Mounted(path, rule) => {
                let store = FsStore::new(path).with_mount(rule.clone());
                Connector::Directory(store.with_warnings(crate::report::warn))
            }
            Location::Archive(path) => Connector::Archive(PtarReader::open(path)?),
            Location::Remote(remote) => Connector::Remote(connect::store(remote, around)?),
        }))
    }

    /// The same to be served: uploads gather `write_bytes` before they write.
    ///
    /// # Errors
    ///
    /// As of [`at`](Self::at).
    pub(crate) fn served(
        location: &Location,
        around: &Surroundings,
        write_bytes: usize,
    ) -> Result<Self, HostsError> {
        let mut store = Self::at(location, around)?;
        if let Connector::Directory(directory) = store.connector {
            store.connector = Connector::Directory(directory.with_write_buffer(write_bytes));
        }
        Ok(store)
    }

    /// An archive that is to be written.
    pub(crate) fn new_archive(writer: PtarWriter) -> Self {
        Self::over(Connector::NewArchive(writer))
    }

    fn over(connector: Connector) -> Self {
        Self { connector, read_bytes: 0, written_bytes: 0, homes: Vec::new() }
    }

    /// Writes no state when one of these is not where it was.
    pub(crate) fn guard(&mut self, homes: Vec<Home>) {
        self.homes = homes;
    }
}

/// Calls a method of whichever connector it is.
macro_rules! each {
    ($self:expr, $store:ident => $call:expr) => {
        match $self {
            Connector::Directory($store) => $call,
            Connector::Archive($store) => $call,
            Connector::NewArchive($store) => $call,
            Connector::Remote($store) => $call,
        }
    };
}

impl Store for AnyStore {
    type Error = HostsError;

    fn layout(&self) -> Layout {
        each!(&self.connector, store => store.layout())
    }

    fn read_config(&mut self, into: &mut [u8]) -> Result<usize, HostsError> {
        each!(&mut self.connector, store => store.read_config(into))
    }

    fn create(&mut self, bytes: &[u8]) -> Result<(), HostsError> {
        each!(&mut self.connector, store => store.create(bytes))
    }

    fn begin(&mut self, resource: StoreResource) -> Result<UploadId, HostsError> {
        if resource == StoreResource::State {
            self.homes.iter().try_for_each(Home::check)?;
        }
        each!(&mut self.connector, store => store.begin(resource))
    }

    fn write(&mut self, upload: UploadId, bytes: &[u8]) -> Result<(), HostsError> {
        self.written_bytes = self.written_bytes.saturating_add(bytes.len() as u64);
        each!(&mut self.connector, store => store.write(upload, bytes))
    }

    fn commit(&mut self, upload: UploadId, name: &Mac) -> Result<(), HostsError> {
        each!(&mut self.connector, store => store.commit(upload, name))
    }

    fn abort(&mut self, upload: UploadId) {
        each!(&mut self.connector, store => store.abort(upload));
    }

    fn size(&mut self, resource: StoreResource, name: &Mac) -> Result<Option<u64>, HostsError> {
        each!(&mut self.connector, store => store.size(resource, name))
    }

    fn get(
        &mut self,
        resource: StoreResource,
        name: &Mac,
        offset_bytes: u64,
        into: &mut [u8],
    ) -> Result<usize, HostsError> {
        let read =
            each!(&mut self.connector, store => store.get(resource, name, offset_bytes, into))?;
        self.read_bytes = self.read_bytes.saturating_add(read as u64);
        Ok(read)
    }

    fn list(
        &mut self,
        resource: StoreResource,
        each: &mut dyn FnMut(Mac) -> ControlFlow<()>,
    ) -> Result<(), HostsError> {
        each!(&mut self.connector, store => store.list(resource, each))
    }

    fn tidy(&mut self) {
        each!(&mut self.connector, store => store.tidy());
    }

    fn delete(&mut self, resource: StoreResource, name: &Mac) -> Result<(), HostsError> {
        each!(&mut self.connector, store => store.delete(resource, name))
    }
}

/// Directories below the one of a store that hold its files.
const STORE_DEPTH: usize = 2;

impl AnyStore {
    /// Bytes of all files at `location`, where this store is: what stock calls
    /// its size. Nothing where only a request for each file would tell.
    ///
    /// # Errors
    ///
    /// Of the system or the server.
    pub(crate) fn stored_bytes(&mut self, location: &Location) -> Result<Option<u64>> {
        if let Connector::Remote(store) = &mut self.connector {
            return store.stored_bytes();
        }
        Ok(match location {
            Location::Directory(path) | Location::Mounted(path, _) => {
                let sum = files_bytes(path, STORE_DEPTH);
                Some(sum.map_err(|error| not_measured(path, error))?)
            }
            Location::Archive(path) => Some(file_bytes(path)?),
            Location::Remote(_) => None,
        })
    }
}

fn not_measured(path: &Path, error: std::io::Error) -> Failure {
    Failure::io(format_args!("measure {}", path.display()), error)
}

/// Length of a file, in bytes.
///
/// # Errors
///
/// Of the system.
pub(crate) fn file_bytes(path: &Path) -> Result<u64> {
    let data = fs::metadata(path).map_err(|error| not_measured(path, error))?;
    Ok(data.len())
}

fn files_bytes(directory: &Path, depth: usize) -> std::io::Result<u64> {
    let mut sum: u64 = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let data = entry.metadata()?;
        if data.is_file() {
            sum = sum.saturating_add(data.len());
        } else if data.is_dir() && depth > 0 {
            sum = sum.saturating_add(files_bytes(&entry.path(), depth - 1)?);
        }
    }
    Ok(sum)
}
