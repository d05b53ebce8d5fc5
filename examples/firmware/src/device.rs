//! The device, as QEMU plays it: files of the host by semihosting stand for the
//! SD card, the memory that was written in the factory, and the generator of
//! random numbers. What a board of your own needs is to be written here anew.
//!
//! All that is unsafe in this example is in this file.

use core::ffi::CStr;
use core::{fmt, ptr};

use cortex_m_rt::{ExceptionFrame, STACK_PAINT_VALUE, exception};
use cortex_m_semihosting::{debug, hprintln, nr, syscall, syscall1};
use tiroir_core::time::Timestamp;

/// What semihosting gives where something failed.
const FAILED: usize = usize::MAX;

/// What the device could not do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DeviceError(pub &'static str);

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the device cannot {}", self.0)
    }
}

impl core::error::Error for DeviceError {}

/// An open file of the host. Stays open.
#[derive(Clone, Copy, Debug)]
pub struct HostFile(usize);

impl HostFile {
    /// Opens a file to be read, and to be written if `is_writable`.
    pub fn open(path: &CStr, is_writable: bool) -> Result<Self, DeviceError> {
        let mode = if is_writable { nr::open::RW_BINARY } else { nr::open::R_BINARY };
        let arguments = [path.as_ptr().addr(), mode, path.count_bytes()];
        // SAFETY: the path ends with a zero byte and lives through the call.
        match unsafe { syscall(nr::OPEN, &arguments) } {
            FAILED => Err(DeviceError("open a file of the host")),
            handle => Ok(Self(handle)),
        }
    }

    /// Its length, in bytes.
    pub fn len(self) -> Result<u32, DeviceError> {
        // SAFETY: the handle is open.
        match unsafe { syscall(nr::FLEN, &[self.0]) } {
            FAILED => Err(DeviceError("tell the length of a file")),
            len => u32::try_from(len).map_err(|_| DeviceError("take so long a file")),
        }
    }

    /// Goes to a position, in bytes from the start.
    pub fn seek(self, position: u32) -> Result<(), DeviceError> {
        // SAFETY: the handle is open.
        match unsafe { syscall(nr::SEEK, &[self.0, position as usize]) } {
            0 => Ok(()),
            _ => Err(DeviceError("find a place in a file")),
        }
    }

    /// Fills all of `into`.
    pub fn read(self, into: &mut [u8]) -> Result<(), DeviceError> {
        let arguments = [self.0, into.as_mut_ptr().expose_provenance(), into.len()];
        // SAFETY: the handle is open, and the host fills no more than `into`.
        match unsafe { syscall(nr::READ, &arguments) } {
            0 => Ok(()),
            _ => Err(DeviceError("read a file")),
        }
    }

    /// Writes all of `bytes`.
    pub fn write(self, bytes: &[u8]) -> Result<(), DeviceError> {
        let arguments = [self.0, bytes.as_ptr().expose_provenance(), bytes.len()];
        // SAFETY: the handle is open, and the host reads no more than `bytes`.
        match unsafe { syscall(nr::WRITE, &arguments) } {
            0 => Ok(()),
            _ => Err(DeviceError("write a file")),
        }
    }
}

/// The time.
pub fn now() -> Timestamp {
    // SAFETY: the call takes no argument.
    let secs = unsafe { syscall1(nr::TIME, 0) };
    Timestamp { secs: i64::try_from(secs).unwrap_or(0), nanos: 0 }
}

/// Ends the run, and QEMU with it, with status 0 or 1.
pub fn exit(is_success: bool) -> ! {
    debug::exit(if is_success { debug::EXIT_SUCCESS } else { debug::EXIT_FAILURE });
    loop {
        cortex_m::asm::wfi();
    }
}

// Where the linker has put things.
unsafe extern "C" {
    static _ram_start: u32;
    static __sheap: u32;
    static _stack_end: u32;
    static _stack_start: u32;
}

/// Bytes of all statics.
pub fn statics_bytes() -> usize {
    (&raw const __sheap).addr() - (&raw const _ram_start).addr()
}

/// Bytes that the stack has had at most, and may have: the startup code has
/// painted all of it.
pub fn stack_bytes() -> (usize, usize) {
    let (end, start) = (&raw const _stack_end, &raw const _stack_start);
    let size = start.addr() - end.addr();
    let is_paint = |word: &usize| {
        // SAFETY: a word of the stack, which is memory; what is in use by now is
        // never reached, as it is no paint.
        unsafe { ptr::read_volatile(end.add(*word)) == STACK_PAINT_VALUE }
    };
    let untouched = (0..size / size_of::<u32>()).take_while(is_paint).count();
    (size - untouched * size_of::<u32>(), size)
}

/// Makes a fault of it when the stack grows beyond its end. On most boards there
/// is nothing below the memory, and that is one anyway; the board that QEMU plays
/// ignores what is written there.
pub fn guard_stack(mpu: &cortex_m::peripheral::MPU) {
    const GUARD_BYTES_LOG2: u32 = 16;
    const NEVER_EXECUTED: u32 = 1 << 28;
    const ENABLED: u32 = 1;
    const ELSEWHERE_AS_WITHOUT: u32 = 1 << 2;
    let guard = (&raw const _stack_end).addr() - (1 << GUARD_BYTES_LOG2);
    // SAFETY: a region that nobody has access to, where there is no memory.
    unsafe {
        mpu.rnr.write(0);
        #[expect(clippy::cast_possible_truncation, reason = "addresses have 32 bits")]
        mpu.rbar.write(guard as u32);
        mpu.rasr.write(NEVER_EXECUTED | (GUARD_BYTES_LOG2 - 1) << 1 | ENABLED);
        mpu.ctrl.write(ELSEWHERE_AS_WITHOUT | ENABLED);
    }
    cortex_m::asm::dsb();
    cortex_m::asm::isb();
}

#[exception]
unsafe fn HardFault(_: &ExceptionFrame) -> ! {
    // There may be no stack left: what follows needs none.
    let text = c"firmware: the stack is too small, or the processor found another fault\n";
    // SAFETY: the text ends with a zero byte.
    unsafe { syscall1(nr::WRITE0, text.as_ptr().addr()) };
    exit(false)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    hprintln!("firmware: {}", info);
    exit(false)
}
