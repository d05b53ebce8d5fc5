//! [`LatePipeline`]: encodes when it is asked for the result.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::TestError;
use crate::codec::{Codec, EncodeScratch};
use crate::mac::{Mac, MacKey};
use crate::pipeline::{Batch, Digest, Filling, Pipeline};

/// A pipeline of one thread: batches wait as long as they may.
#[derive(Debug)]
pub struct LatePipeline<'m> {
    scratch: EncodeScratch<'m>,
    codec: Codec,
    idle: Vec<Batch<'m>>,
    filling: Batch<'m>,
    waiting: VecDeque<Batch<'m>>,
    digesting: Option<(Batch<'m>, MacKey)>,
    /// Counts up, in place of bytes at random.
    drawn: u64,
}

impl<'m> LatePipeline<'m> {
    /// A pipeline over `batches`, of which there must be two at least.
    ///
    /// # Panics
    ///
    /// Without two batches.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a double for tests")]
    pub fn new(scratch: EncodeScratch<'m>, mut batches: Vec<Batch<'m>>) -> Self {
        let filling = batches.pop().expect("there are batches");
        assert!(!batches.is_empty(), "there are two batches");
        let waiting = VecDeque::new();
        let (codec, digesting, drawn) = (Codec::default(), None, 0);
        Self { scratch, codec, idle: batches, filling, waiting, digesting, drawn }
    }
}

impl Pipeline for LatePipeline<'_> {
    type Error = TestError;

    fn filling(&mut self) -> Filling<'_> {
        self.filling.fill()
    }

    fn is_full(&self) -> bool {
        self.idle.is_empty()
    }

    fn submit(&mut self, codec: &Codec) -> Result<(), TestError> {
        let Some(next) = self.idle.pop() else {
            return Err(TestError::Misuse("submitted to a full pipeline"));
        };
        self.codec = codec.clone();
        self.waiting.push_back(core::mem::replace(&mut self.filling, next));
        Ok(())
    }

    fn oldest(&mut self) -> Result<Option<&Batch<'_>>, TestError> {
        let Some(batch) = self.waiting.front_mut() else { return Ok(None) };
        let drawn = &mut self.drawn;
        let mut random = |out: &mut [u8]| {
            for byte in out {
                *drawn += 1;
                *byte = drawn.to_le_bytes()[0];
            }
            Ok(())
        };
        batch
            .encode(&self.codec, &mut self.scratch, &mut random)
            .map_err(|_| TestError::Misuse("a codec that does not write"))??;
        Ok(Some(batch))
    }

    fn release(&mut self) {
        if let Some(mut batch) = self.waiting.pop_front() {
            batch.clear();
            self.idle.push(batch);
        }
    }

    fn digest(&mut self, key: &MacKey) -> Result<(), TestError> {
        if self.digesting.is_some() {
            return Err(TestError::Misuse("two chunks digested at a time"));
        }
        let next = self.idle.pop().ok_or(TestError::Misuse("digested in a full pipeline"))?;
        self.digesting = Some((core::mem::replace(&mut self.filling, next), key.clone()));
        Ok(())
    }

    fn digested(&mut self) -> Result<Option<Digest>, TestError> {
        Ok(self.digesting.as_ref().map(|(batch, key)| batch.digest(key)))
    }

    fn keep(&mut self, mac: &Mac, codec: &Codec) -> Result<(), TestError> {
        let kept = self.digesting.take().ok_or(TestError::Misuse("kept without a digest"))?;
        let (mut batch, _) = kept;
        batch.name(mac);
        self.codec = codec.clone();
        self.waiting.push_back(batch);
        Ok(())
    }

    fn discard(&mut self) {
        if let Some((mut batch, _)) = self.digesting.take() {
            batch.clear();
            self.idle.push(batch);
        }
    }

    fn reset(&mut self) {
        self.discard();
        while !self.waiting.is_empty() {
            self.release();
        }
        self.filling.clear();
    }
}
