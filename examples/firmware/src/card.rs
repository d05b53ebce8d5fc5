//! The card: its sectors, its file system, and the calendar of that.

use embedded_sdmmc::{
    Block, BlockCount, BlockDevice, BlockIdx, TimeSource, Timestamp as FatTime, VolumeManager,
};

use crate::device::{DeviceError, HostFile, now};
use crate::fault::Fault;

/// Length of a sector, in bytes.
pub const SECTOR_BYTES: usize = Block::LEN;

/// Seconds in a day.
const DAY_SECS: i64 = 86_400;

/// The file system of the card, which has a cache of one sector: two directories
/// are open at a time at most, and two files, the one that is read and the archive.
pub type Fat = VolumeManager<Card, Clock, 4, 2, 1>;

/// The sectors of the card.
#[derive(Clone, Copy, Debug)]
pub struct Card(HostFile);

impl Card {
    /// Opens the card.
    pub fn open() -> Result<Self, DeviceError> {
        HostFile::open(c"card.img", true).map(Self)
    }

    /// Reads a sector.
    pub fn read_sector(
        self,
        sector: u32,
        into: &mut [u8; SECTOR_BYTES],
    ) -> Result<(), DeviceError> {
        self.0.seek(position(sector)?)?;
        self.0.read(into)
    }

    /// Writes a sector.
    pub fn write_sector(self, sector: u32, bytes: &[u8; SECTOR_BYTES]) -> Result<(), DeviceError> {
        self.0.seek(position(sector)?)?;
        self.0.write(bytes)
    }

    /// First sector and number of sectors of the second partition, which is for
    /// the work: of a type that nobody takes for a file system.
    pub fn scratch(self) -> Result<(u32, u32), Fault> {
        let mut table = [0; SECTOR_BYTES];
        self.read_sector(0, &mut table)?;
        let entry = &table[462..478];
        let word = |at: usize| {
            entry[at..at + 4].iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
        };
        if entry[4] == 0xda { Ok((word(8), word(12))) } else { Err(Fault::NoScratch) }
    }
}

/// Where a sector starts, in bytes.
fn position(sector: u32) -> Result<u32, DeviceError> {
    sector.checked_mul(512).ok_or(DeviceError("reach beyond 4 GiB of the card"))
}

impl BlockDevice for Card {
    type Error = DeviceError;

    fn read(&self, blocks: &mut [Block], start: BlockIdx) -> Result<(), DeviceError> {
        for (block, sector) in blocks.iter_mut().zip(start.0..) {
            self.read_sector(sector, &mut block.contents)?;
        }
        Ok(())
    }

    fn write(&self, blocks: &[Block], start: BlockIdx) -> Result<(), DeviceError> {
        for (block, sector) in blocks.iter().zip(start.0..) {
            self.write_sector(sector, &block.contents)?;
        }
        Ok(())
    }

    fn num_blocks(&self) -> Result<BlockCount, DeviceError> {
        Ok(BlockCount(self.0.len()? / 512))
    }
}

/// Tells the file system the time.
#[derive(Clone, Copy, Debug)]
pub struct Clock;

impl TimeSource for Clock {
    fn get_timestamp(&self) -> FatTime {
        let secs = now().secs;
        let (year, month, day) = date(secs.div_euclid(DAY_SECS));
        let narrow = |number: i64| u8::try_from(number).unwrap_or(0);
        let second = secs.rem_euclid(DAY_SECS);
        FatTime {
            year_since_1970: narrow(year - 1970),
            zero_indexed_month: narrow(month - 1),
            zero_indexed_day: narrow(day - 1),
            hours: narrow(second / 3600),
            minutes: narrow(second / 60 % 60),
            seconds: narrow(second % 60),
        }
    }
}

/// Seconds since 1970 of a time of FAT, which knows no zones: taken for UTC.
pub fn unix_secs(time: &FatTime) -> i64 {
    let year = 1970 + i64::from(time.year_since_1970);
    let day = days(year, i64::from(time.zero_indexed_month) + 1) + i64::from(time.zero_indexed_day);
    let minutes = i64::from(time.hours) * 60 + i64::from(time.minutes);
    day * DAY_SECS + minutes * 60 + i64::from(time.seconds)
}

/// Days from 1970 to the first of a month. Years count from March here, so that
/// the day that is sometimes missing is the last.
fn days(year: i64, month: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5;
    year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468
}

/// Year, month and day, of a number of days since 1970 that is not negative.
fn date(day: i64) -> (i64, i64, i64) {
    // No year is longer; at most one step back, and never one forth.
    let mut year = 1970 + day / 365;
    while days(year, 1) > day {
        year -= 1;
    }
    let month = (2..=12).take_while(|month| days(year, *month) <= day).last().unwrap_or(1);
    (year, month, day - days(year, month) + 1)
}
