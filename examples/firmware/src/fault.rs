//! The one error of everything that the engine is lent here.

use core::fmt;

use tiroir_core::host::{HostError, HostErrorKind};

use crate::device::DeviceError;

/// What failed.
#[derive(Debug)]
pub enum Fault {
    /// The device.
    Device(DeviceError),
    /// The file system of the card.
    Fat(embedded_sdmmc::Error<DeviceError>),
    /// The second partition is too small for the work.
    ScratchFull,
    /// The card has no second partition, or one of a few sectors.
    NoScratch,
    /// An archive would be longer than a file of FAT may be.
    ArchiveTooLong,
    /// All hundred names of archives are in use.
    NoName,
    /// The engine asked for what a device that only writes archives has not.
    WritesOnly,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device(_) => "the device failed",
            Self::Fat(_) => "the card failed",
            Self::ScratchFull => "the second partition of the card is too small for this work",
            Self::NoScratch => "the card has no second partition for the work, of type da",
            Self::ArchiveTooLong => "the archive would be longer than FAT allows, 4 GiB",
            Self::NoName => "the card holds 100 archives: move some of them away",
            Self::WritesOnly => "archives are written here, and not read",
        })
    }
}

impl core::error::Error for Fault {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Device(error) => Some(error),
            Self::Fat(error) => Some(error),
            _ => None,
        }
    }
}

impl HostError for Fault {
    fn kind(&self) -> HostErrorKind {
        match self {
            Self::Fat(embedded_sdmmc::Error::NotFound) => HostErrorKind::NotFound,
            Self::Fat(embedded_sdmmc::Error::DiskFull | embedded_sdmmc::Error::NotEnoughSpace)
            | Self::ScratchFull
            | Self::ArchiveTooLong
            | Self::NoName => HostErrorKind::NoSpace,
            _ => HostErrorKind::Other,
        }
    }
}

impl From<DeviceError> for Fault {
    fn from(error: DeviceError) -> Self {
        Self::Device(error)
    }
}

impl From<embedded_sdmmc::Error<DeviceError>> for Fault {
    fn from(error: embedded_sdmmc::Error<DeviceError>) -> Self {
        Self::Fat(error)
    }
}
