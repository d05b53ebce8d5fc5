//! [`thread_time`]: how long this thread had a processor.

use std::mem::MaybeUninit;
use std::time::Duration;

/// Time that this thread had a processor: what others take of it is not counted.
/// Zero where the system does not tell.
///
/// Not rustix's function: on MIPS with musl it takes a structure with times of 64 bits,
/// and calls the function of the C library that has 32.
#[must_use]
pub fn thread_time() -> Duration {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: the structure is that of the function, and ours alone; all its fields are
    // numbers, for which zeros are valid.
    let time = unsafe {
        if libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, time.as_mut_ptr()) != 0 {
            return Duration::ZERO;
        }
        time.assume_init()
    };
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(secs, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn work_counts_and_sleep_does_not() {
        let (start, cpu) = (Instant::now(), thread_time());
        std::thread::sleep(Duration::from_millis(200));
        let slept = thread_time() - cpu;
        assert!(slept < Duration::from_millis(100), "{slept:?}");
        while thread_time() - cpu < slept + Duration::from_millis(20) {
            std::hint::black_box(start);
        }
        assert!(start.elapsed() >= thread_time() - cpu);
    }
}
