//! [`FatSource`]: a directory of the card, as the engine reads it.

use core::ops::ControlFlow;

use embedded_sdmmc::{DirEntry, LfnBuffer, Mode, RawDirectory, RawFile, RawVolume, ShortFileName};
use tiroir_core::importer::{Attributes, Each, Importer};
use tiroir_core::time::Timestamp;
use tiroir_core::wire::mode;

use crate::card::{Fat, unix_secs};
use crate::fault::Fault;

/// Bytes of the longest name: 255 units of UTF-16.
const NAME_BYTES_MAX: usize = 765;

/// Length of what a listing tells of an entry: whether it is a directory, whether
/// it may only be read, length, and time.
const HINT_BYTES: usize = 1 + 1 + 4 + 8;

/// A directory in the root of the card, and everything below it.
pub struct FatSource<'d> {
    fat: &'d Fat,
    volume: RawVolume,
    /// Path of the directory.
    root: &'static [u8],
    open: Option<RawFile>,
    /// Memory for a name.
    name: [u8; NAME_BYTES_MAX],
}

impl<'d> FatSource<'d> {
    /// The directory `root`, which starts with `/`.
    pub fn new(fat: &'d Fat, volume: RawVolume, root: &'static [u8]) -> Self {
        Self { fat, volume, root, open: None, name: [0; NAME_BYTES_MAX] }
    }

    /// Opens the directory of that path, to be closed by the caller.
    fn directory(&mut self, path: &[u8]) -> Result<RawDirectory, Fault> {
        let mut directory = self.fat.open_root_dir(self.volume)?;
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let below = self
                .find(directory, name)
                .and_then(|found| Ok(self.fat.open_dir(directory, found.name)?));
            self.fat.close_dir(directory)?;
            directory = below?;
        }
        Ok(directory)
    }

    /// The entry of that name, long or short.
    fn find(&mut self, directory: RawDirectory, name: &[u8]) -> Result<DirEntry, Fault> {
        let mut buffer = LfnBuffer::new(&mut self.name);
        let mut found = None;
        self.fat.iterate_dir_lfn(directory, &mut buffer, |entry, long| {
            if is_child(entry) && ShortName::new(entry).or(long) == name {
                found = Some(entry.clone());
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        found.ok_or(Fault::Fat(embedded_sdmmc::Error::NotFound))
    }

    /// The entry of a path other than that of the root.
    fn entry(&mut self, path: &[u8]) -> Result<(RawDirectory, DirEntry), Fault> {
        let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        let directory = self.directory(&path[..slash])?;
        match self.find(directory, &path[slash + 1..]) {
            Ok(entry) => Ok((directory, entry)),
            Err(error) => {
                self.fat.close_dir(directory)?;
                Err(error)
            }
        }
    }
}

/// Whether an entry is something that lies in the directory.
fn is_child(entry: &DirEntry) -> bool {
    let is_self = [ShortFileName::this_dir(), ShortFileName::parent_dir()].contains(&entry.name);
    !is_self && !entry.attributes.is_volume()
}

/// A name of eight letters and three, in UTF-8.
struct ShortName {
    /// Each letter takes two bytes at most.
    bytes: [u8; 2 * (8 + 1 + 3)],
    len: usize,
}

impl ShortName {
    fn new(entry: &DirEntry) -> Self {
        let mut name = Self { bytes: [0; 24], len: 0 };
        let (base, extension) = (entry.name.base_name(), entry.name.extension());
        let dot: &[u8] = if extension.is_empty() { b"" } else { b"." };
        for byte in [base, dot, extension].into_iter().flatten() {
            name.len += char::from(*byte).encode_utf8(&mut name.bytes[name.len..]).len();
        }
        name
    }

    /// The long name if there is one, and else this.
    fn or<'n>(&'n self, long: Option<&'n str>) -> &'n [u8] {
        match long {
            Some(long) if !long.is_empty() => long.as_bytes(),
            _ => &self.bytes[..self.len],
        }
    }
}

/// What a listing tells of an entry.
fn hint(entry: &DirEntry) -> [u8; HINT_BYTES] {
    let mut hint = [0; HINT_BYTES];
    hint[0] = u8::from(entry.attributes.is_directory());
    hint[1] = u8::from(entry.attributes.is_read_only());
    hint[2..6].copy_from_slice(&entry.size.to_le_bytes());
    hint[6..].copy_from_slice(&unix_secs(&entry.mtime).to_le_bytes());
    hint
}

/// Fills in what FAT knows. It knows no owners.
fn fill(into: &mut Attributes, hint: &[u8; HINT_BYTES]) {
    let [is_directory, is_read_only, a, b, c, d, secs @ ..] = *hint;
    let rights = if is_read_only == 0 { 0o644 } else { 0o444 };
    *into = Attributes {
        size: i64::from(u32::from_le_bytes([a, b, c, d])),
        mode: if is_directory == 0 { rights } else { mode::DIRECTORY | 0o755 },
        mod_time: Timestamp { secs: i64::from_le_bytes(secs), nanos: 0 },
        nlink: 1,
        ..Attributes::default()
    };
}

impl Importer for FatSource<'_> {
    type Error = Fault;

    fn kind(&self) -> &str {
        "fat"
    }

    fn origin(&self) -> &str {
        "card"
    }

    fn root(&self) -> &[u8] {
        self.root
    }

    fn list(&mut self, path: &[u8], each: &mut Each<'_, Fault>) -> Result<(), Fault> {
        if path == b"/" {
            // Of what is above there is the way here alone.
            let (directory, entry) = self.entry(self.root)?;
            self.fat.close_dir(directory)?;
            return each(&self.root[1..], &hint(&entry));
        }
        let directory = self.directory(path)?;
        let mut buffer = LfnBuffer::new(&mut self.name);
        let mut taken = Ok(());
        let listed = self.fat.iterate_dir_lfn(directory, &mut buffer, |entry, long| {
            if is_child(entry) {
                taken = each(ShortName::new(entry).or(long), &hint(entry));
            }
            if taken.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        self.fat.close_dir(directory)?;
        listed?;
        taken
    }

    fn stat(&mut self, path: &[u8], given: &[u8], into: &mut Attributes) -> Result<(), Fault> {
        if path == b"/" {
            // The root of FAT has no attributes.
            fill(into, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            return Ok(());
        }
        if let Ok(given) = given.try_into() {
            fill(into, given);
            return Ok(());
        }
        let (directory, entry) = self.entry(path)?;
        self.fat.close_dir(directory)?;
        fill(into, &hint(&entry));
        Ok(())
    }

    fn open(&mut self, path: &[u8], _: &Attributes) -> Result<(), Fault> {
        self.close();
        let (directory, entry) = self.entry(path)?;
        let opened = self.fat.open_file_in_dir(directory, entry.name, Mode::ReadOnly);
        self.fat.close_dir(directory)?;
        self.open = Some(opened?);
        Ok(())
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize, Fault> {
        match self.open {
            Some(file) => Ok(self.fat.read(file, into)?),
            None => Ok(0),
        }
    }

    fn close(&mut self) {
        if let Some(file) = self.open.take() {
            // It was only read: there is nothing that could be lost.
            let _ = self.fat.close_file(file);
        }
    }

    fn xattr_names(&mut self, _: &[u8], _: &mut [u8]) -> Result<usize, Fault> {
        Ok(0)
    }

    fn xattr(&mut self, _: &[u8], _: &[u8], _: &mut [u8]) -> Result<usize, Fault> {
        Ok(0)
    }
}
