//! [`Board`]: what the engine is lent on this device, and its clock, entropy and
//! spools.

use tiroir_core::host::Host;
use tiroir_core::repository::Lend;
use tiroir_core::time::Timestamp;

use crate::archive::Archive;
use crate::device::{self, DeviceError, HostFile};
use crate::fault::Fault;
use crate::index::CardIndex;
use crate::scratch::{CardSpool, Scratch};

/// The types of what is lent.
pub struct Board<'d>(core::marker::PhantomData<&'d ()>);

impl<'d> Lend for Board<'d> {
    type Error = Fault;
    type Host = BoardHost<'d>;
    type Store = Archive<'d>;
    type Index = CardIndex<'d>;
}

/// Where random numbers come from: fit for keys. Here it is the host's generator;
/// a device of your own has one in hardware, or a seed that is never used twice.
#[derive(Clone, Copy)]
pub struct Entropy(HostFile);

impl Entropy {
    /// Opens the generator.
    pub fn open() -> Result<Self, DeviceError> {
        HostFile::open(c"/dev/urandom", false).map(Self)
    }

    /// Fills `out`.
    pub fn fill(self, out: &mut [u8]) -> Result<(), DeviceError> {
        self.0.read(out)
    }
}

/// Clock, entropy and spools.
pub struct BoardHost<'d> {
    /// Where spools lie.
    pub scratch: &'d Scratch,
    /// Random numbers.
    pub entropy: Entropy,
}

impl<'d> Host for BoardHost<'d> {
    type Error = Fault;
    type Spool = CardSpool<'d>;

    fn now(&mut self) -> Timestamp {
        device::now()
    }

    fn fill_random(&mut self, out: &mut [u8]) -> Result<(), Fault> {
        Ok(self.entropy.fill(out)?)
    }

    fn spool(&mut self) -> Result<CardSpool<'d>, Fault> {
        self.scratch.spool()
    }

    fn content_type(&mut self, name: &[u8], _: &[u8]) -> &'static str {
        let extension = name.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
        let types: [(&[u8], &str); 5] = [
            (b"csv", "text/csv"),
            (b"jpg", "image/jpeg"),
            (b"log", "text/plain"),
            (b"txt", "text/plain"),
            (b"wav", "audio/wav"),
        ];
        let found = types.iter().find(|(known, _)| extension.eq_ignore_ascii_case(known));
        found.map_or("application/octet-stream", |(_, name)| name)
    }
}
