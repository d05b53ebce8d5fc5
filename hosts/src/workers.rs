//! [`Workers`]: threads that encode what a backup stores.

use std::collections::VecDeque;
use std::fmt;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, Scope};

use tiroir_core::codec::{Codec, EncodeScratch};
use tiroir_core::host::HostErrorKind;
use tiroir_core::mac::{Mac, MacKey};
use tiroir_core::pipeline::{Batch, Digest, Filling, Pipeline};

use crate::env::{Entropy, no_entropy};
use crate::error::{HostsError, Result};

/// Stack of a thread, in bytes: what encoding needs, several times over.
const STACK_BYTES: usize = 256 * 1024;

/// [`Pipeline`] of threads, in memory that is lent.
///
/// Beside that, each thread takes 4 KiB of entropy and what it touches of a stack
/// of 256 KiB. Threads are started when the first batch is submitted, so that
/// who writes nothing has none, and end when this is dropped. Where the system
/// gives no thread, batches are encoded by the one that submits them.
pub struct Workers<'scope, 'env, 'm> {
    scope: &'scope Scope<'scope, 'env>,
    /// One for each thread, until it takes it.
    scratches: Arc<Mutex<Vec<EncodeScratch<'m>>>>,
    threads: Option<Threads<'m>>,
    /// The chunk that is digested, or was.
    digesting: Option<Digesting<'m>>,
    /// The one that submits encodes itself, for want of threads.
    alone: Option<(EncodeScratch<'m>, Entropy)>,
    filling: Box<Batch<'m>>,
    idle: Vec<Box<Batch<'m>>>,
    /// Number of the oldest batch under way.
    oldest: u64,
    /// Batches under way, the oldest first, as far as they came back.
    under_way: VecDeque<Option<Encoded<'m>>>,
}

/// The ways to the threads and back.
struct Threads<'m> {
    jobs: Arc<Jobs<'m>>,
    done: Receiver<Done<'m>>,
}

impl Drop for Threads<'_> {
    fn drop(&mut self) {
        lock(&self.jobs.queue).1 = true;
        self.jobs.added.notify_all();
    }
}

/// What there is to do, and whether nothing more will come.
struct Jobs<'m> {
    queue: Mutex<(VecDeque<Job<'m>>, bool)>,
    added: Condvar,
}

/// Something to do.
enum Job<'m> {
    Digest(Box<Batch<'m>>, MacKey),
    Encode(u64, Box<Batch<'m>>, Codec),
}

/// Something that was done.
enum Done<'m> {
    Digested(Box<Batch<'m>>, Box<Digest>),
    Encoded(u64, Encoded<'m>),
}

/// Where a chunk is with its digest.
enum Digesting<'m> {
    /// With a thread.
    Away,
    /// Back, in a box as the largest of these by far.
    Back(Box<Batch<'m>>, Box<Digest>),
}

impl<'m> Jobs<'m> {
    fn add(&self, job: Job<'m>) {
        let queue = &mut lock(&self.queue).0;
        match job {
            // Somebody will soon wait for it.
            Job::Digest(..) => queue.push_front(job),
            Job::Encode(..) => queue.push_back(job),
        }
        self.added.notify_one();
    }

    /// Waits for something to do. Nothing when there will be no more.
    fn next(&self) -> Option<Job<'m>> {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(job) = queue.0.pop_front() {
                return Some(job);
            }
            if queue.1 {
                return None;
            }
            queue = self.added.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A batch that was encoded, or not.
struct Encoded<'m> {
    batch: Box<Batch<'m>>,
    result: Result<()>,
}

impl<'scope, 'env, 'm: 'scope> Workers<'scope, 'env, 'm> {
    /// Threads for one repository, as many as there are `scratches`, over
    /// three batches or more: with three more than threads, nobody waits as long
    /// as there is work.
    ///
    /// # Panics
    ///
    /// With fewer than three batches, or no scratch.
    #[must_use]
    pub fn new(
        scope: &'scope Scope<'scope, 'env>,
        batches: Vec<Batch<'m>>,
        scratches: Vec<EncodeScratch<'m>>,
    ) -> Self {
        assert!(
            batches.len() > 2 && !scratches.is_empty(),
            "one is filled, one digested, one encoded"
        );
        let under_way = VecDeque::with_capacity(batches.len());
        let mut idle: Vec<Box<Batch<'m>>> = batches.into_iter().map(Box::new).collect();
        let filling = idle.swap_remove(0);
        let scratches = Arc::new(Mutex::new(scratches));
        Self {
            scope,
            scratches,
            threads: None,
            digesting: None,
            alone: None,
            filling,
            idle,
            oldest: 0,
            under_way,
        }
    }

    /// Starts as many threads as the system gives.
    fn start(&mut self) {
        if self.threads.is_some() || self.alone.is_some() {
            return;
        }
        let (finished, done) = channel();
        let jobs = Arc::new(Jobs { queue: Mutex::default(), added: Condvar::new() });
        let wanted = lock(&self.scratches).len();
        let mut started = 0;
        for _ in 0..wanted {
            let (jobs, finished) = (jobs.clone(), finished.clone());
            let scratches = self.scratches.clone();
            let work = move || {
                let Some(mut scratch) = lock(&scratches).pop() else { return };
                let mut entropy = Entropy::new();
                while let Some(job) = jobs.next() {
                    if finished.send(job.work(&mut scratch, &mut entropy)).is_err() {
                        return;
                    }
                }
            };
            let builder = Builder::new().stack_size(STACK_BYTES);
            started += u32::from(builder.spawn_scoped(self.scope, work).is_ok());
        }
        if started > 0 {
            self.threads = Some(Threads { jobs, done });
        } else {
            self.alone = lock(&self.scratches).pop().map(|scratch| (scratch, Entropy::new()));
        }
    }

    /// Gives something to do to a thread, or does it.
    fn give(&mut self, job: Job<'m>) {
        self.start();
        match (&self.threads, &mut self.alone) {
            (Some(threads), _) => threads.jobs.add(job),
            (None, Some((scratch, entropy))) => {
                let done = job.work(scratch, entropy);
                self.take_back(done);
            }
            (None, None) => {}
        }
    }

    /// Puts what was done where it is waited for.
    fn take_back(&mut self, done: Done<'m>) {
        match done {
            Done::Digested(batch, digest) => {
                self.digesting = Some(Digesting::Back(batch, digest));
            }
            Done::Encoded(number, encoded) => {
                let place = usize::try_from(number - self.oldest).unwrap_or(usize::MAX);
                if let Some(place) = self.under_way.get_mut(place) {
                    *place = Some(encoded);
                }
            }
        }
    }

    /// Waits for a thread to be done with something. Nothing if none works.
    fn receive(&mut self) -> Option<()> {
        // Threads end after this, and not before.
        let done = self.threads.as_ref()?.done.recv().ok()?;
        self.take_back(done);
        Some(())
    }

    /// Waits until the oldest batch came back. Nothing if none is under way.
    fn wait(&mut self) -> Option<&Encoded<'m>> {
        while let Some(None) = self.under_way.front() {
            self.receive()?;
        }
        self.under_way.front()?.as_ref()
    }

    /// Waits for the chunk that is digested, and takes it out.
    fn take_digested(&mut self) -> Option<(Box<Batch<'m>>, Box<Digest>)> {
        while let Some(Digesting::Away) = self.digesting {
            self.receive()?;
        }
        match self.digesting.take()? {
            Digesting::Back(batch, digest) => Some((batch, digest)),
            Digesting::Away => None,
        }
    }

    /// Has a batch encoded after those that are under way.
    fn encode_next(&mut self, batch: Box<Batch<'m>>, codec: &Codec) {
        let number = self.oldest + self.under_way.len() as u64;
        self.under_way.push_back(None);
        self.give(Job::Encode(number, batch, codec.clone()));
    }

    /// Takes the batch that was filled, and an empty one to fill.
    fn take_filled(&mut self) -> Result<Box<Batch<'m>>> {
        let rule = "every batch is under way";
        let full = || HostsError::rule(HostErrorKind::Other, "encode", b"", rule);
        let next = self.idle.pop().ok_or_else(full)?;
        Ok(std::mem::replace(&mut self.filling, next))
    }
}

impl<'m> Job<'m> {
    fn work(self, scratch: &mut EncodeScratch<'_>, entropy: &mut Entropy) -> Done<'m> {
        match self {
            Self::Digest(batch, key) => {
                let digest = batch.digest(&key);
                Done::Digested(batch, Box::new(digest))
            }
            Self::Encode(number, mut batch, codec) => {
                let result = encode(&mut batch, &codec, scratch, entropy);
                Done::Encoded(number, Encoded { batch, result })
            }
        }
    }
}

/// A lock whose holder may have panicked: what it holds is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lost() -> HostsError {
    HostsError::rule(HostErrorKind::Other, "encode", b"", "a thread was lost")
}

fn encode(
    batch: &mut Batch<'_>,
    codec: &Codec,
    scratch: &mut EncodeScratch<'_>,
    entropy: &mut Entropy,
) -> Result<()> {
    let encoded = batch.encode(codec, scratch, &mut |out| entropy.fill(out).map_err(no_entropy));
    encoded.unwrap_or_else(|_| {
        let rule = "this compression is read only";
        Err(HostsError::rule(HostErrorKind::Other, "encode", b"", rule))
    })
}

impl<'scope, 'm: 'scope> Pipeline for Workers<'scope, '_, 'm> {
    type Error = HostsError;

    fn filling(&mut self) -> Filling<'_> {
        self.filling.fill()
    }

    fn is_full(&self) -> bool {
        self.idle.is_empty()
    }

    fn submit(&mut self, codec: &Codec) -> Result<()> {
        let batch = self.take_filled()?;
        self.encode_next(batch, codec);
        Ok(())
    }

    fn digest(&mut self, key: &MacKey) -> Result<()> {
        self.discard();
        let batch = self.take_filled()?;
        self.digesting = Some(Digesting::Away);
        self.give(Job::Digest(batch, key.clone()));
        Ok(())
    }

    fn digested(&mut self) -> Result<Option<Digest>> {
        if self.digesting.is_none() {
            return Ok(None);
        }
        let (batch, digest) = self.take_digested().ok_or_else(lost)?;
        let found = (*digest).clone();
        self.digesting = Some(Digesting::Back(batch, digest));
        Ok(Some(found))
    }

    fn keep(&mut self, mac: &Mac, codec: &Codec) -> Result<()> {
        let (mut batch, _) = self.take_digested().ok_or_else(lost)?;
        batch.name(mac);
        self.encode_next(batch, codec);
        Ok(())
    }

    fn discard(&mut self) {
        if let Some((mut batch, _)) = self.take_digested() {
            batch.clear();
            self.idle.push(batch);
        }
    }

    fn oldest(&mut self) -> Result<Option<&Batch<'_>>> {
        if self.under_way.is_empty() {
            return Ok(None);
        }
        let result = self.wait().ok_or_else(lost)?;
        if result.result.is_err()
            && let Some(Some(encoded)) = self.under_way.front_mut()
        {
            std::mem::replace(&mut encoded.result, Ok(()))?;
        }
        Ok(self.under_way.front().and_then(|front| front.as_ref()).map(|front| &*front.batch))
    }

    fn release(&mut self) {
        if self.wait().is_some()
            && let Some(Some(mut encoded)) = self.under_way.pop_front()
        {
            encoded.batch.clear();
            self.idle.push(encoded.batch);
            self.oldest += 1;
        }
    }

    fn reset(&mut self) {
        self.discard();
        while !self.under_way.is_empty() && self.wait().is_some() {
            self.release();
        }
        self.filling.clear();
    }
}

impl fmt::Debug for Workers<'_, '_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("under_way", &self.under_way.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiroir_core::codec::{
        COLLECT_SCRATCH_BYTES_MIN, CollectDecoder, DecodeScratch, ENCODE_SCRATCH_BYTES_MIN,
    };
    use tiroir_core::compression::Compression;
    use tiroir_core::crypto::{StoreKey, Suite};
    use tiroir_core::mac::Mac;
    use tiroir_core::resource::ResourceKind;

    const CHUNK: usize = 100_000;

    fn codec() -> Codec {
        let cipher = Some((StoreKey::new([5; 32]), Suite::Aes256GcmSiv));
        Codec { compression: Compression::Lz4, cipher }
    }

    /// Content of the blob of that number: small ones mostly.
    fn content(number: u32) -> Vec<u8> {
        let bytes = if number.is_multiple_of(9) { 90_000 } else { number % 700 };
        (0..bytes).map(|at| ((at * number) >> 5).to_le_bytes()[0]).collect()
    }

    fn name(number: u32) -> Mac {
        let mut mac = Mac::ZERO;
        mac.0[..4].copy_from_slice(&number.to_le_bytes());
        mac
    }

    fn with<T>(threads: usize, work: impl FnOnce(&mut dyn Pipeline<Error = HostsError>) -> T) -> T {
        let mut scratches = vec![vec![0; ENCODE_SCRATCH_BYTES_MIN]; threads];
        let mut batches = vec![vec![0; Batch::bytes(CHUNK)]; threads + 3];
        let scratches = scratches.iter_mut().map(|memory| EncodeScratch::new(memory).unwrap());
        let batches = batches.iter_mut().map(|memory| Batch::new(memory, CHUNK).unwrap());
        let (scratches, batches) = (scratches.collect(), batches.collect());
        std::thread::scope(|scope| work(&mut Workers::new(scope, batches, scratches)))
    }

    /// Writes the oldest batch to `out`, if there is one.
    fn take(workers: &mut dyn Pipeline<Error = HostsError>, out: &mut Vec<(Mac, Vec<u8>)>) -> bool {
        let Some(batch) = workers.oldest().unwrap() else { return false };
        out.extend(batch.packed().map(|blob| (blob.mac, blob.bytes.to_vec())));
        workers.release();
        true
    }

    fn push(workers: &mut dyn Pipeline<Error = HostsError>, number: u32) {
        let plain = content(number);
        let pushed =
            workers.filling().push(ResourceKind::CHUNK, &name(number), plain.len(), |into| {
                into.copy_from_slice(&plain);
                Ok::<(), ()>(())
            });
        pushed.unwrap();
    }

    #[test]
    fn blobs_come_back_in_order() {
        for threads in 1..4 {
            let mut out = Vec::new();
            with(threads, |workers| {
                for number in 0..500 {
                    if !workers.filling().has_room(content(number).len()) {
                        while workers.is_full() {
                            assert!(take(workers, &mut out));
                        }
                        workers.submit(&codec()).unwrap();
                    }
                    push(workers, number);
                }
                while workers.is_full() {
                    assert!(take(workers, &mut out));
                }
                workers.submit(&codec()).unwrap();
                while take(workers, &mut out) {}
            });
            assert_eq!(out.len(), 500);
            let (mut memory, mut plain) = (vec![0; COLLECT_SCRATCH_BYTES_MIN], vec![0; CHUNK]);
            let (mut scratch, codec) = (DecodeScratch::new(&mut memory).unwrap(), codec());
            for (number, (mac, bytes)) in (0..).zip(&out) {
                assert_eq!(*mac, name(number));
                let mut decoder = CollectDecoder::new(&codec, &mut scratch, &mut plain).unwrap();
                decoder.push(bytes).unwrap();
                let length = decoder.finish().unwrap();
                assert_eq!(plain[..length], content(number));
            }
        }
    }

    #[test]
    fn what_is_under_way_is_forgotten() {
        with(2, |workers| {
            for number in 0..4 {
                push(workers, number);
                workers.submit(&codec()).unwrap();
            }
            assert!(workers.is_full());
            assert!(workers.submit(&codec()).is_err());
            push(workers, 5);
            workers.reset();
            assert!(workers.filling().is_empty() && !workers.is_full());
            assert!(workers.oldest().unwrap().is_none());
            push(workers, 6);
            workers.submit(&codec()).unwrap();
            let mut out = Vec::new();
            while take(workers, &mut out) {}
            assert_eq!(out.iter().map(|(mac, _)| *mac).collect::<Vec<_>>(), [name(6)]);
        });
    }

    #[test]
    fn chunks_are_digested_and_kept_or_dropped() {
        let key = MacKey::new(tiroir_core::mac::HashAlgorithm::Blake3, [3; 32]);
        with(2, |workers| {
            let mut out = Vec::new();
            assert!(workers.digested().unwrap().is_none());
            for number in 1..40 {
                while workers.is_full() {
                    assert!(take(workers, &mut out));
                }
                push(workers, number);
                workers.digest(&key).unwrap();
                if number.is_multiple_of(5) {
                    // As when a file cannot be read to its end.
                    workers.discard();
                    assert!(workers.digested().unwrap().is_none());
                    continue;
                }
                let digest = workers.digested().unwrap().unwrap();
                assert_eq!(digest.hasher.finish(), key.mac(&content(number)));
                assert!((0.0..=8.0).contains(&digest.entropy));
                if number.is_multiple_of(3) {
                    workers.discard();
                } else {
                    workers.keep(&name(number), &codec()).unwrap();
                }
            }
            while take(workers, &mut out) {}
            let kept = (1..40_u32).filter(|n| !n.is_multiple_of(5) && !n.is_multiple_of(3));
            assert!(out.iter().map(|(mac, _)| *mac).eq(kept.map(name)));
        });
    }

    #[test]
    fn what_cannot_be_written_is_an_error() {
        with(1, |workers| {
            push(workers, 1);
            workers.submit(&Codec { compression: Compression::Zstd, cipher: None }).unwrap();
            let error = workers.oldest().unwrap_err();
            assert!(error.to_string().contains("encode"), "{error}");
            workers.reset();
        });
    }
}
