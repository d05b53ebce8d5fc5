//! [`Synthetic`]: any number of files that are nowhere.

use tiroir_core::host::HostErrorKind;
use tiroir_core::importer::{Attributes, Each, Importer};
use tiroir_core::time::Timestamp;
use tiroir_core::wire::mode;
use tiroir_hosts::error::{HostsError, Result};

/// Files in a directory, and directories in the one above.
const FAN: u64 = 100;

/// Zeros that the first of many equal files begins with: they make the largest
/// chunk of stock's stores. Without them, how much memory for a chunk is
/// touched would be a matter of luck, and of how much is backed up.
const ZEROS_BYTES: u64 = 8 << 20;

/// Where all of it is.
const ROOT: &[u8] = b"/made";

/// How long the files are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lengths {
    /// From 1 byte to 8 KiB.
    Small,
    /// All the same, in bytes.
    Equal(u64),
}

/// Files of noise, no two alike, in directories of a hundred: made as they are
/// read.
#[derive(Debug)]
pub struct Synthetic {
    files: u64,
    lengths: Lengths,
    open: Option<Open>,
}

/// The open file.
#[derive(Clone, Copy, Debug)]
struct Open {
    noise: Noise,
    zeros_left: u64,
    /// Zeros included.
    left: u64,
}

/// Numbers that look random, and are cheap.
#[derive(Clone, Copy, Debug)]
struct Noise(u64);

impl Noise {
    /// Another stream for each seed.
    fn new(seed: u64) -> Self {
        // Neighbours must not begin alike, and none may begin with 0.
        let mixed = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn fill(&mut self, into: &mut [u8]) {
        let (words, rest) = into.as_chunks_mut::<8>();
        for word in words {
            *word = self.next().to_le_bytes();
        }
        let last = self.next().to_le_bytes();
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

impl Synthetic {
    /// So many files.
    #[must_use]
    pub fn new(files: u64, lengths: Lengths) -> Self {
        Self { files, lengths, open: None }
    }

    /// Length of all files, in bytes.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        (0..self.files).map(|file| self.length(file)).sum()
    }

    fn length(&self, file: u64) -> u64 {
        match self.lengths {
            Lengths::Small => 1 + Noise::new(file).next() % 8192,
            Lengths::Equal(bytes) => bytes,
        }
    }
}

/// The numbers in a path below the root: none for the root and what lies above
/// it, then group, directory and file.
fn numbers(path: &[u8]) -> Vec<u64> {
    let below = path.strip_prefix(ROOT).unwrap_or_default();
    let names = below.split(|&byte| byte == b'/').filter(|name| !name.is_empty());
    names.filter_map(|name| std::str::from_utf8(name).ok()?.parse().ok()).collect()
}

fn not_found(path: &[u8]) -> HostsError {
    HostsError::rule(HostErrorKind::NotFound, "open", path, "there is no such file")
}

impl Importer for Synthetic {
    type Error = HostsError;

    fn kind(&self) -> &str {
        "synthetic"
    }

    fn origin(&self) -> &str {
        "nowhere"
    }

    fn root(&self) -> &[u8] {
        ROOT
    }

    fn list(&mut self, directory: &[u8], each: &mut Each<'_, HostsError>) -> Result<()> {
        if directory == b"/" {
            return each(&ROOT[1..], b"");
        }
        let directories = self.files.div_ceil(FAN);
        let (from, to) = match numbers(directory)[..] {
            [] => (0, directories.div_ceil(FAN)),
            [group] => (group * FAN, ((group + 1) * FAN).min(directories)),
            [_, directory] => (directory * FAN, ((directory + 1) * FAN).min(self.files)),
            _ => return Err(not_found(directory)),
        };
        // From the end: the order is the engine's to make.
        (from..to).rev().try_for_each(|number| each(number.to_string().as_bytes(), b""))
    }

    fn stat(&mut self, path: &[u8], _hint: &[u8], into: &mut Attributes) -> Result<()> {
        let numbers = numbers(path);
        let (mode, size) = match numbers[..] {
            [_, _, file] => (0o644, self.length(file)),
            _ => (mode::DIRECTORY | 0o755, 4096),
        };
        let number = numbers.last().copied().unwrap_or_default();
        *into = Attributes {
            size: i64::try_from(size).unwrap_or(i64::MAX),
            mode,
            mod_time: Timestamp {
                secs: 1_600_000_000 + i64::try_from(number).unwrap_or_default(),
                nanos: 0,
            },
            dev: 1,
            ino: number * 4 + numbers.len() as u64,
            uid: 1000,
            gid: 1000,
            nlink: 1,
            ..Attributes::default()
        };
        Ok(())
    }

    fn open(&mut self, path: &[u8], _expected: &Attributes) -> Result<()> {
        let [_, _, file] = numbers(path)[..] else { return Err(not_found(path)) };
        let has_zeros = file == 0 && self.lengths != Lengths::Small;
        self.open = Some(Open {
            noise: Noise::new(file),
            zeros_left: if has_zeros { ZEROS_BYTES } else { 0 },
            left: self.length(file),
        });
        Ok(())
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let Some(Open { noise, zeros_left, left }) = &mut self.open else { return Ok(0) };
        let most = if *zeros_left > 0 { (*left).min(*zeros_left) } else { *left };
        let length = usize::try_from(most).unwrap_or(usize::MAX).min(into.len());
        if *zeros_left > 0 {
            into[..length].fill(0);
            *zeros_left -= length as u64;
        } else {
            noise.fill(&mut into[..length]);
        }
        *left -= length as u64;
        Ok(length)
    }

    fn close(&mut self) {
        self.open = None;
    }

    fn xattr_names(&mut self, _path: &[u8], _into: &mut [u8]) -> Result<usize> {
        Ok(0)
    }

    fn xattr(&mut self, _path: &[u8], _name: &[u8], _into: &mut [u8]) -> Result<usize> {
        Ok(0)
    }
}
