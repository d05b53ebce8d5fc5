//! [`AnyImporter`] and [`AnyExporter`]: one of the connectors to servers.

use tiroir_core::exporter::Exporter;
use tiroir_core::importer::{Attributes, Each, Importer};
use tiroir_core::wire::file_info::FileInfo;
use tiroir_hosts::error::HostsError;
use tiroir_hosts::fs::ignore::Ignore;
use tiroir_hosts::remote::exporter::FilesExporter;
use tiroir_hosts::remote::importer::FilesImporter;
use tiroir_hosts::s3::{S3Exporter, S3Importer};

type Result<T> = std::result::Result<T, HostsError>;

/// Reads from a server.
#[derive(Debug)]
pub(crate) enum AnyImporter {
    /// Files in directories.
    Files(Box<FilesImporter>),
    /// Objects.
    S3(Box<S3Importer>),
}

impl AnyImporter {
    /// With patterns of what is left out.
    pub(crate) fn with_ignore(self, ignore: Ignore) -> Self {
        match self {
            Self::Files(importer) => Self::Files(Box::new(importer.with_ignore(ignore))),
            Self::S3(importer) => Self::S3(Box::new(importer.with_ignore(ignore))),
        }
    }

    /// Path of what is backed up, if the patterns leave it out.
    pub(crate) fn ignored_root(&self) -> Option<&[u8]> {
        match self {
            Self::Files(importer) => importer.is_root_ignored().then(|| importer.top()),
            Self::S3(importer) => importer.is_root_ignored().then(|| importer.top()),
        }
    }
}

/// Calls a method of whichever importer it is.
macro_rules! importer {
    ($self:expr, $importer:ident => $call:expr) => {
        match $self {
            AnyImporter::Files($importer) => $call,
            AnyImporter::S3($importer) => $call,
        }
    };
}

impl Importer for AnyImporter {
    type Error = HostsError;

    fn kind(&self) -> &str {
        importer!(self, importer => importer.kind())
    }

    fn origin(&self) -> &str {
        importer!(self, importer => importer.origin())
    }

    fn root(&self) -> &[u8] {
        importer!(self, importer => importer.root())
    }

    fn list(&mut self, directory: &[u8], each: &mut Each<'_, HostsError>) -> Result<()> {
        importer!(self, importer => importer.list(directory, each))
    }

    fn stat(&mut self, path: &[u8], hint: &[u8], into: &mut Attributes) -> Result<()> {
        importer!(self, importer => importer.stat(path, hint, into))
    }

    fn foresee(&mut self, path: &[u8], hint: &[u8], into: &mut Attributes) -> bool {
        importer!(self, importer => importer.foresee(path, hint, into))
    }

    fn open(&mut self, path: &[u8], expected: &Attributes) -> Result<()> {
        importer!(self, importer => importer.open(path, expected))
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        importer!(self, importer => importer.read(into))
    }

    fn changed(&mut self) -> Result<bool> {
        importer!(self, importer => importer.changed())
    }

    fn close(&mut self) {
        importer!(self, importer => importer.close());
    }

    fn xattr_names(&mut self, path: &[u8], into: &mut [u8]) -> Result<usize> {
        importer!(self, importer => importer.xattr_names(path, into))
    }

    fn xattr(&mut self, path: &[u8], name: &[u8], into: &mut [u8]) -> Result<usize> {
        importer!(self, importer => importer.xattr(path, name, into))
    }
}

/// Writes to a server.
#[derive(Debug)]
pub(crate) enum AnyExporter {
    /// Files in directories.
    Files(Box<FilesExporter>),
    /// Objects.
    S3(Box<S3Exporter>),
}

/// Calls a method of whichever exporter it is.
macro_rules! exporter {
    ($self:expr, $exporter:ident => $call:expr) => {
        match $self {
            AnyExporter::Files($exporter) => $call,
            AnyExporter::S3($exporter) => $call,
        }
    };
}

impl Exporter for AnyExporter {
    type Error = HostsError;

    fn has_hard_links(&self) -> bool {
        exporter!(self, exporter => exporter.has_hard_links())
    }

    fn create_directory(&mut self, path: &[u8]) -> Result<()> {
        exporter!(self, exporter => exporter.create_directory(path))
    }

    fn begin_file(&mut self, path: &[u8], size_bytes: u64) -> Result<()> {
        exporter!(self, exporter => exporter.begin_file(path, size_bytes))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        exporter!(self, exporter => exporter.write(bytes))
    }

    fn set_xattr(&mut self, path: &[u8], name: &[u8], value: &[u8]) -> Result<()> {
        exporter!(self, exporter => exporter.set_xattr(path, name, value))
    }

    fn finish_file(&mut self, info: Option<&FileInfo<'_>>) -> Result<()> {
        exporter!(self, exporter => exporter.finish_file(info))
    }

    fn abandon_file(&mut self) {
        exporter!(self, exporter => exporter.abandon_file());
    }

    fn symbolic_link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        exporter!(self, exporter => exporter.symbolic_link(path, target))
    }

    fn hard_link(&mut self, path: &[u8], original: &[u8]) -> Result<()> {
        exporter!(self, exporter => exporter.hard_link(path, original))
    }

    fn special(&mut self, path: &[u8], info: &FileInfo<'_>) -> Result<bool> {
        exporter!(self, exporter => exporter.special(path, info))
    }

    fn set_attributes(&mut self, path: &[u8], info: &FileInfo<'_>) -> Result<()> {
        exporter!(self, exporter => exporter.set_attributes(path, info))
    }
}
