//! [`MemHost`]: clock, randomness and spools without surprises.

use alloc::vec::Vec;

use super::{TestError, read_from};
use crate::host::Host;
use crate::spool::Spool;
use crate::time::Timestamp;

/// A spool in memory.
#[derive(Clone, Debug, Default)]
pub struct MemSpool {
    bytes: Vec<u8>,
}

impl MemSpool {
    /// What it holds.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Spool for MemSpool {
    type Error = TestError;

    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), TestError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn read_at(&mut self, offset_bytes: u64, into: &mut [u8]) -> Result<(), TestError> {
        if read_from(&self.bytes, offset_bytes, into) < into.len() {
            return Err(TestError::Misuse("a read past the end of a spool"));
        }
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> Result<(), TestError> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len > self.bytes.len() {
            return Err(TestError::Misuse("a spool truncated to more than it holds"));
        }
        self.bytes.truncate(len);
        Ok(())
    }
}

/// A host whose clock and random numbers are the same in every run.
#[derive(Clone, Debug)]
pub struct MemHost {
    now: Timestamp,
    step_nanos: i64,
    random: u64,
    questions_left: Option<u32>,
}

impl MemHost {
    /// A host whose random numbers are those of splitmix64 from `seed` on, and
    /// whose clock stands at 2023-11-14 22:13:20 UTC.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let now = Timestamp { secs: 1_700_000_000, nanos: 0 };
        Self { now, step_nanos: 0, random: seed, questions_left: None }
    }

    /// Sets the clock, and by how much it advances when it is read.
    #[must_use]
    pub fn with_clock(self, now: Timestamp, step_nanos: i64) -> Self {
        Self { now, step_nanos, ..self }
    }

    /// Wants the work to stop when it has asked `questions` times whether it
    /// should go on.
    #[must_use]
    pub fn with_cancellation(self, questions: u32) -> Self {
        Self { questions_left: Some(questions), ..self }
    }

    /// Sets the clock.
    pub fn set_now(&mut self, now: Timestamp) {
        self.now = now;
    }

    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

impl Host for MemHost {
    type Error = TestError;
    type Spool = MemSpool;

    fn now(&mut self) -> Timestamp {
        let now = self.now;
        self.now = Timestamp::from_unix_nanos(now.unix_nanos().saturating_add(self.step_nanos));
        now
    }

    fn fill_random(&mut self, out: &mut [u8]) -> Result<(), TestError> {
        for bytes in out.chunks_mut(8) {
            bytes.copy_from_slice(&self.random().to_le_bytes()[..bytes.len()]);
        }
        Ok(())
    }

    fn spool(&mut self) -> Result<MemSpool, TestError> {
        Ok(MemSpool::default())
    }

    /// Text if the name or the bytes say so, and otherwise any bytes.
    fn content_type(&mut self, name: &[u8], first: &[u8]) -> &'static str {
        let printable = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
        if first.is_empty() {
            "text/plain"
        } else if name.ends_with(b".txt") || first.iter().all(printable) {
            "text/plain; charset=utf-8"
        } else {
            "application/octet-stream"
        }
    }

    fn cancelled(&mut self) -> bool {
        match &mut self.questions_left {
            None => false,
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
        }
    }
}
