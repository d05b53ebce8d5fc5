//! [`Archive`]: a new `.ptar` in the root of the card, as a store that is only
//! written. Section 14.5 of the format says how it lies in the file.

use core::ops::{ControlFlow, Range};

use cortex_m_semihosting::hprintln;
use embedded_sdmmc::{MAX_FILE_SIZE, Mode, RawDirectory, RawFile, ShortFileName};
use tiroir_core::mac::Mac;
use tiroir_core::store::{Layout, Store, StoreResource, UploadId};
use tiroir_core::wire::ptar::{Table, head};

use crate::card::Fat;
use crate::fault::Fault;

/// A new archive. It is one when the state is committed: before, the table at its
/// end is missing, and nobody takes it for one.
pub struct Archive<'d> {
    fat: &'d Fat,
    root: RawDirectory,
    name: ShortFileName,
    /// Open until the end.
    file: Option<RawFile>,
    /// Bytes written.
    position: u64,
    config: Range<u64>,
    packfile: Range<u64>,
    /// Start of what is being written.
    start: u64,
    is_state: bool,
}

impl<'d> Archive<'d> {
    /// An archive in `root` with a name that nothing has there: `BACKUP00.PTA`, or
    /// the next. FAT allows for no fourth letter, and our library for no long name.
    pub fn new(fat: &'d Fat, root: RawDirectory) -> Result<Self, Fault> {
        for number in 0..100_u8 {
            let text = [b'0' + number / 10, b'0' + number % 10];
            let mut name = *b"BACKUP00.PTA";
            name[6..8].copy_from_slice(&text);
            let text = core::str::from_utf8(&name).unwrap_or("BACKUP.PTA");
            let name = ShortFileName::create_from_str(text)
                .map_err(embedded_sdmmc::Error::FilenameError)?;
            match fat.open_file_in_dir(root, name, Mode::ReadWriteCreate) {
                Ok(file) => {
                    return Ok(Self {
                        fat,
                        root,
                        name,
                        file: Some(file),
                        position: 0,
                        config: 0..0,
                        packfile: 0..0,
                        start: 0,
                        is_state: false,
                    });
                }
                Err(embedded_sdmmc::Error::FileAlreadyExists) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Fault::NoName)
    }

    /// Its name.
    pub fn name(&self) -> &ShortFileName {
        &self.name
    }

    /// Removes what was written of it, unless it is whole.
    fn discard(&mut self) -> Result<(), Fault> {
        if let Some(file) = self.file.take() {
            self.fat.close_file(file)?;
            self.fat.delete_entry_in_dir(self.root, self.name)?;
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let file = self.file.ok_or(Fault::WritesOnly)?;
        // The library would stop there without a word.
        let end = self.position + bytes.len() as u64;
        if end > u64::from(MAX_FILE_SIZE) {
            return Err(Fault::ArchiveTooLong);
        }
        self.fat.write(file, bytes)?;
        self.position = end;
        Ok(())
    }
}

impl Drop for Archive<'_> {
    fn drop(&mut self) {
        if self.discard().is_err() {
            hprintln!("firmware: half an archive is left on the card: {}", self.name);
        }
    }
}

impl Store for Archive<'_> {
    type Error = Fault;

    fn layout(&self) -> Layout {
        Layout::SingleFile
    }

    fn read_config(&mut self, _: &mut [u8]) -> Result<usize, Fault> {
        Err(Fault::WritesOnly)
    }

    fn create(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.append(&head())?;
        let start = self.position;
        self.append(bytes)?;
        self.config = start..self.position;
        Ok(())
    }

    fn begin(&mut self, resource: StoreResource) -> Result<UploadId, Fault> {
        self.start = self.position;
        self.is_state = resource == StoreResource::State;
        // One after the other.
        Ok(UploadId(0))
    }

    fn write(&mut self, _: UploadId, bytes: &[u8]) -> Result<(), Fault> {
        self.append(bytes)
    }

    fn commit(&mut self, _: UploadId, _: &Mac) -> Result<(), Fault> {
        let written = self.start..self.position;
        if !self.is_state {
            self.packfile = written;
            return Ok(());
        }
        let (config, packfile) = (self.config.clone(), self.packfile.clone());
        self.append(&Table { config, packfile, state: written }.emit())?;
        if let Some(file) = self.file {
            self.fat.flush_file(file)?;
            self.file = None;
            self.fat.close_file(file)?;
        }
        Ok(())
    }

    fn abort(&mut self, _: UploadId) {
        // All of it is removed when it is dropped.
    }

    fn size(&mut self, _: StoreResource, _: &Mac) -> Result<Option<u64>, Fault> {
        Err(Fault::WritesOnly)
    }

    fn get(&mut self, _: StoreResource, _: &Mac, _: u64, _: &mut [u8]) -> Result<usize, Fault> {
        Err(Fault::WritesOnly)
    }

    fn list(
        &mut self,
        _: StoreResource,
        _: &mut dyn FnMut(Mac) -> ControlFlow<()>,
    ) -> Result<(), Fault> {
        // As long as it is written, nothing is committed.
        Ok(())
    }

    fn delete(&mut self, _: StoreResource, _: &Mac) -> Result<(), Fault> {
        Err(Fault::WritesOnly)
    }
}
