//! Content-defined chunking: where the content of a file is cut.
//!
//! Section 8 of the format. Chunks are named by their content, so a store
//! takes any cuts; but only equal cuts find what stock has written before.

mod fastcdc;
mod gear;
#[cfg(test)]
mod golden;
#[cfg(any(test, feature = "_test"))]
mod naive;

use self::fastcdc::{Gear, Masks};
#[cfg(any(test, feature = "_test"))]
pub use self::naive::naive_cuts;
use crate::error::FormatError;
use crate::limits::CHUNK_BYTES_MAX;

/// What a size of 0 in CONFIG stands for, in bytes: least, normal, largest.
const SIZES_DEFAULT: [u32; 3] = [2 * 1024, 8 * 1024, 64 * 1024];

/// Least size that stock's own rules allow, in bytes.
const SIZE_BYTES_MIN: u32 = 64;

/// How a store cuts: `Chunking` of CONFIG, checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Parameters {
    min: usize,
    /// Where the masks change: the normal size, unless no scan ever gets there.
    change: usize,
    max: usize,
    masks: Masks,
}

impl Parameters {
    /// Parameters from the fields of CONFIG: the name of the algorithm, in
    /// upper or lower case, and the least, normal and largest length of a
    /// chunk in bytes. A length of 0 stands for the algorithm's own: 2 KiB,
    /// 8 KiB, 64 KiB.
    ///
    /// Stock never checks the lengths of a store, so anything goes that it can
    /// cut by, even where the normal length lies outside of the two others.
    ///
    /// # Errors
    ///
    /// [`FormatError::Unsupported`] for another algorithm,
    /// [`FormatError::Field`] for a length below 64 or a least length above the
    /// largest, and [`FormatError::Bound`] for a largest length above
    /// [`CHUNK_BYTES_MAX`].
    pub fn new(
        algorithm_name: &[u8],
        min: u32,
        normal: u32,
        max: u32,
    ) -> Result<Self, FormatError> {
        let legacy = is_legacy(algorithm_name)?;
        let mut sizes = [min, normal, max];
        for (size, default) in sizes.iter_mut().zip(SIZES_DEFAULT) {
            if *size == 0 {
                *size = default;
            }
        }
        let [min, normal, max] = sizes;
        if min > max || sizes.iter().any(|&size| size < SIZE_BYTES_MIN) {
            return Err(FormatError::Field("chunk size"));
        }
        if max > CHUNK_BYTES_MAX {
            return Err(FormatError::Bound("chunk size"));
        }
        let masks =
            if legacy || sizes == SIZES_DEFAULT { Masks::LEGACY } else { Masks::spread(normal) };
        // Stock changes masks when it passes the normal size, and so never
        // does if it starts behind it.
        let change = if normal < min { max } else { normal.min(max) };
        Ok(Self { min: min as usize, change: change as usize, max: max as usize, masks })
    }

    /// Least length of a chunk in bytes; the last one of a stream may be
    /// shorter.
    #[must_use]
    pub fn min(&self) -> usize {
        self.min
    }

    /// Largest length of a chunk in bytes: what a buffer for
    /// [`Chunker::find_cut`] must take. At most [`CHUNK_BYTES_MAX`].
    #[must_use]
    pub fn max(&self) -> usize {
        self.max
    }
}

/// Whether the algorithm of that name has fixed masks.
fn is_legacy(algorithm_name: &[u8]) -> Result<bool, FormatError> {
    let is = |name: &str| algorithm_name.eq_ignore_ascii_case(name.as_bytes());
    // The keyed variant is given no key by stock, and is the plain one then.
    if is("fastcdc") || is("kfastcdc") {
        Ok(true)
    } else if is("fastcdc-v1.0.0") {
        Ok(false)
    } else {
        Err(FormatError::Unsupported("chunking algorithm"))
    }
}

/// Finds the cuts of one stream after the other. Below 100 bytes.
///
/// The bytes stay with the caller, who collects them until a cut is known:
///
/// ```
/// # use tiroir_core::chunker::{Chunker, Parameters};
/// # let content = [7; 300];
/// # let mut input = content.chunks(50);
/// # let mut lengths = Vec::new();
/// let parameters = Parameters::new(b"fastcdc-v1.0.0", 64, 128, 256)?;
/// let mut chunker = Chunker::new(&parameters);
/// let (mut data, mut at_end) = (Vec::new(), false);
/// loop {
///     match chunker.find_cut(&data, at_end) {
///         Some(length) => lengths.push(data.drain(..length).count()),
///         None if at_end => break,
///         None => match input.next() {
///             Some(bytes) => data.extend_from_slice(bytes),
///             None => at_end = true,
///         },
///     }
/// }
/// # assert_eq!(lengths.iter().sum::<usize>(), 300);
/// # Ok::<(), tiroir_core::error::FormatError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Chunker {
    parameters: Parameters,
    gear: Gear,
    /// How far the current chunk is scanned, in bytes from its start.
    scanned: usize,
    /// No chunk of the stream is cut yet.
    first: bool,
}

impl Chunker {
    /// A chunker at the start of a stream.
    #[must_use]
    pub fn new(parameters: &Parameters) -> Self {
        Self { parameters: *parameters, gear: Gear::default(), scanned: 0, first: true }
    }

    /// Goes to the start of another stream. Needed before every stream but the
    /// first, and wrong between the chunks of one.
    pub fn reset(&mut self) {
        *self = Self::new(&self.parameters);
    }

    /// Finds the end of the current chunk.
    ///
    /// `data` is what is there of the stream from the start of the chunk on,
    /// and `at_end` says that nothing follows it. Call again with more of it
    /// as long as the answer is `None`: no byte is looked at twice. Bytes
    /// beyond [`Parameters::max`] are not needed, and not looked at.
    ///
    /// Returns the length of the chunk, at most [`Parameters::max`] and at
    /// most `data.len()`; the next call is about the chunk that starts there.
    /// `None` asks for more data, or says `at_end` that there is no further
    /// chunk. As in stock, an empty stream is one chunk of length 0, and no
    /// other chunk is empty.
    pub fn find_cut(&mut self, data: &[u8], at_end: bool) -> Option<usize> {
        let data = data.get(..self.parameters.max).unwrap_or(data);
        let whole = at_end || data.len() == self.parameters.max;
        if data.is_empty() && !self.first {
            return None;
        }
        let cut = self.scan(data).or(whole.then_some(data.len()))?;
        *self = Self { first: false, ..Self::new(&self.parameters) };
        Some(cut)
    }

    /// Scans what was not scanned yet of `data`, a chunk from its start on and
    /// at most the largest one.
    fn scan(&mut self, data: &[u8]) -> Option<usize> {
        let Parameters { min, change, masks, .. } = self.parameters;
        for (end, mask) in [(change, masks.small), (data.len(), masks.large)] {
            // The bytes before the least length never count.
            let start = self.scanned.max(min);
            let end = end.min(data.len());
            let Some(bytes) = data.get(start..end) else { continue };
            if let Some(at) = self.gear.scan(bytes, mask) {
                return Some(start + at);
            }
            self.scanned = end;
        }
        None
    }
}
