//! Backs up the directory `DATA` of an SD card into an encrypted `.ptar` on the same
//! card, with 256 KiB of memory, no operating system and no allocator.
//!
//! The engine is that of the program `tiroir`, with the bounds of its feature
//! `small`. What it is lent here: [`source`] reads, [`archive`] takes what is
//! written, [`scratch`] and [`index`] hold what does not fit in memory, [`board`]
//! has the time and random numbers, [`provision`] the key, and [`device`] is where
//! the hardware would be. `core/README.md` explains it.

#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod archive;
mod board;
mod card;
#[expect(unsafe_code, reason = "semihosting, and what the linker knows")]
mod device;
mod fault;
mod index;
mod provision;
mod scratch;
mod source;

use core::error::Error as StdError;
use core::fmt;

use cortex_m_rt::entry;
use cortex_m_semihosting::hprintln;
use embedded_sdmmc::VolumeIdx;
use static_cell::ConstStaticCell;
use tiroir_core::codec::{DecodeScratch, ENCODE_SCRATCH_BYTES_MIN, EncodeScratch};
use tiroir_core::error::{Error, FormatError};
use tiroir_core::repository::{Memory, Repository};
use tiroir_core::snapshot::backup::{Event, Options, Report, backup, backup_bytes};
use tiroir_core::store::Store as _;

use crate::archive::Archive;
use crate::board::{Board, BoardHost, Entropy};
use crate::card::{Card, Clock, Fat};
use crate::fault::Fault;
use crate::index::{CardIndex, RUN_BYTES};
use crate::provision::{CHUNK_BYTES_MAX, NewConfig, Provisioned};
use crate::scratch::{CacheMemory, Scratch};
use crate::source::FatSource;

/// What is backed up.
const SOURCE: &[u8] = b"/DATA";

/// Bytes of the archive that are hashed and written at once.
const OUT_BYTES: usize = 4096;

/// Memory for the work of a backup.
const WORK_BYTES: usize = backup_bytes(CHUNK_BYTES_MAX);

// All memory that is lent, but for what is on the stack.
static ENCODE: ConstStaticCell<[u8; ENCODE_SCRATCH_BYTES_MIN]> =
    ConstStaticCell::new([0; ENCODE_SCRATCH_BYTES_MIN]);
static OUT: ConstStaticCell<[u8; OUT_BYTES]> = ConstStaticCell::new([0; OUT_BYTES]);
static WORK: ConstStaticCell<[u8; WORK_BYTES]> = ConstStaticCell::new([0; WORK_BYTES]);
static SECTORS: ConstStaticCell<CacheMemory> = ConstStaticCell::new([[0; 512]; 16]);

#[entry]
fn main() -> ! {
    if let Some(peripherals) = cortex_m::Peripherals::take() {
        device::guard_stack(&peripherals.MPU);
    }
    let status = match run() {
        Ok((report, failed)) => {
            let counts = &report.summary.below;
            hprintln!("files: {} with {} bytes", counts.files, counts.size);
            failed == 0
        }
        Err(failure) => {
            hprintln!("firmware: {}", failure);
            false
        }
    };
    let (used, size) = device::stack_bytes();
    let statics = device::statics_bytes();
    hprintln!(
        "lent: encoding {} output {} work {} sectors {}",
        ENCODE_SCRATCH_BYTES_MIN,
        OUT_BYTES,
        WORK_BYTES,
        size_of::<CacheMemory>()
    );
    hprintln!("memory: statics {} stack {} of {} total {}", statics, used, size, statics + used);
    device::exit(status)
}

/// Takes the backup. Tells also how many entries could not be read.
fn run() -> Result<(Report, u64), Failure> {
    let card = Card::open()?;
    let entropy = Entropy::open()?;
    let provisioned = Provisioned::read()?;
    let scratch = Scratch::new(card, SECTORS.take())?;
    let fat = Fat::new_with_limits(card, Clock, 0);
    let volume = fat.open_raw_volume(VolumeIdx(0))?;
    let root = fat.open_root_dir(volume)?;
    let mut id = [0; 16];
    entropy.fill(&mut id)?;
    let config = NewConfig::new(&provisioned, id, device::now())?;
    let mut run = [0; RUN_BYTES];
    entropy.fill(&mut run)?;

    let mut archive = Archive::new(&fat, root)?;
    hprintln!("archive: {}", archive.name());
    archive.create(config.bytes())?;
    let memory = Memory {
        io: &mut [],
        out: OUT.take(),
        encode: EncodeScratch::new(ENCODE.take())?,
        decode: DecodeScratch::none(),
    };
    let host = BoardHost { scratch: &scratch, entropy };
    let index = CardIndex::new(&scratch, run);
    let key = Some(provisioned.key);
    let mut repository =
        Repository::<Board<'_>>::open(host, archive, index, config.bytes(), key, memory)?;
    let mut source = FatSource::new(&fat, volume, SOURCE);
    let mut failed = 0;
    let mut progress = |event: &Event<'_>| failed += u64::from(tell(event));
    let report = backup(&mut repository, &mut source, &options(), WORK.take(), &mut progress)?;
    Ok((report, failed))
}

fn options() -> Options<'static> {
    const CONTEXT: &[(&[u8], &[u8])] = &[
        (b"Hostname", b"device"),
        (b"OperatingSystem", b"none"),
        (b"Architecture", b"thumbv7em"),
        (b"Client", b"tiroir firmware example"),
    ];
    Options { name: b"default", skip_xattrs: true, context: CONTEXT, ..Options::default() }
}

/// Says what could not be read. Returns whether that is it.
fn tell(event: &Event<'_>) -> bool {
    let is_failure = matches!(event, Event::Failed { .. });
    if let Event::Failed { path, message } = event {
        let text = |bytes| core::str::from_utf8(bytes).unwrap_or("?");
        hprintln!("firmware: {}: {}", text(*path), text(*message));
    }
    is_failure
}

/// Why there is no archive.
enum Failure {
    Engine(Error<Fault>),
    Format(FormatError),
}

impl From<Error<Fault>> for Failure {
    fn from(error: Error<Fault>) -> Self {
        Self::Engine(error)
    }
}

impl From<FormatError> for Failure {
    fn from(error: FormatError) -> Self {
        Self::Format(error)
    }
}

impl<E: Into<Fault>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Engine(Error::Host(error.into()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(error) => write!(f, "what the device was given {error}"),
            Self::Engine(error) => {
                write!(f, "{error}")?;
                let mut source = error.source();
                while let Some(error) = source {
                    write!(f, ": {error}")?;
                    source = error.source();
                }
                Ok(())
            }
        }
    }
}
