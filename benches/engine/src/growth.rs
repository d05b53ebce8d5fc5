//! What a first backup takes as there is more and more to back up, and what a
//! fresh index of the store then takes. Each is a process of its own: the most
//! memory that one has had never gets less.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use tiroir_core::store::Store as _;

use crate::sparse::SparseStore;
use crate::synthetic::{Lengths, Synthetic};
use crate::usage::Usage;
use crate::{MIB, Result, repository};

/// Length of a large file, in mebibytes.
const FILE_MIB: u64 = 1024;

/// What is backed up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Load {
    /// So many small files.
    Files(u64),
    /// So many mebibytes, in files of a gibibyte.
    Mib(u64),
}

impl Load {
    /// In files, or in mebibytes.
    #[must_use]
    pub fn size(self) -> u64 {
        match self {
            Self::Files(size) | Self::Mib(size) => size,
        }
    }

    fn importer(self) -> Synthetic {
        match self {
            Self::Files(files) => Synthetic::new(files, Lengths::Small),
            Self::Mib(mib) => {
                let each = mib.clamp(1, FILE_MIB);
                Synthetic::new(mib / each, Lengths::Equal(each * MIB))
            }
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(files) => write!(f, "files:{files}"),
            Self::Mib(mib) => write!(f, "mib:{mib}"),
        }
    }
}

impl FromStr for Load {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text}: neither files:NUMBER nor mib:NUMBER");
        let (kind, size) = text.split_once(':').ok_or_else(wrong)?;
        let size = size.parse().map_err(|_| wrong())?;
        match kind {
            "files" => Ok(Self::Files(size)),
            "mib" => Ok(Self::Mib(size)),
            _ => Err(wrong()),
        }
    }
}

/// What a process does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Makes a store, and a first backup into it.
    Backup(Load),
    /// Makes the index of that store anew.
    Refresh,
}

/// What a step has taken, and what lies there after it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Taken {
    /// What the process has taken.
    pub usage: Usage,
    /// Bytes of states in the store.
    pub state_bytes: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
}

/// Does a step in this process, in `folder`.
///
/// # Errors
///
/// The engine's.
pub fn run(step: Step, folder: &Path) -> Result<Taken> {
    let root = folder.join("store");
    match step {
        Step::Backup(load) => {
            let mut store = SparseStore::new(&root);
            store.create(&repository::config()?)?;
            repository::back_up(folder, store, &mut load.importer())?;
        }
        Step::Refresh => repository::refresh(folder, SparseStore::new(&root))?,
    }
    Ok(Taken {
        usage: Usage::now(),
        state_bytes: bytes_below(&root.join("states"))?,
        index_bytes: bytes_below(&folder.join("index"))?,
    })
}

fn bytes_below(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() {
            bytes_below(&entry.path())?
        } else {
            entry.metadata()?.len()
        };
    }
    Ok(bytes)
}

impl Taken {
    /// As numbers on one line.
    #[must_use]
    pub fn line(&self) -> String {
        let Usage { cpu, peak_bytes, written_bytes, calls } = self.usage;
        let micros = cpu.as_micros();
        let Self { state_bytes, index_bytes, .. } = self;
        format!("{micros} {peak_bytes} {written_bytes} {calls} {state_bytes} {index_bytes}")
    }

    /// From such a line.
    fn parse(line: &str) -> Option<Self> {
        let mut numbers = line.split_whitespace().map(|word| word.parse().ok());
        let mut next = || numbers.next().flatten();
        Some(Self {
            usage: Usage {
                cpu: Duration::from_micros(next()?),
                peak_bytes: next()?,
                written_bytes: next()?,
                calls: next()?,
            },
            state_bytes: next()?,
            index_bytes: next()?,
        })
    }
}

/// Has `program`, which is this one, back up `load` in `folder` and make the
/// index anew, each in a process of its own. What was there in the folder, and
/// what is left, is removed.
///
/// # Errors
///
/// What the processes say, and those of starting them.
pub fn measure(program: &Path, load: Load, folder: &Path) -> Result<[Taken; 2]> {
    let folder = folder.join("growing");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let child = |step: String| -> Result<Taken> {
        let done = Command::new(program).args(["step", &step]).arg(&folder).output()?;
        if !done.status.success() {
            return Err(format!("{step}: {}", String::from_utf8_lossy(&done.stderr)).into());
        }
        let line = String::from_utf8(done.stdout)?;
        Taken::parse(&line).ok_or_else(|| format!("{step}: {line}").into())
    };
    let taken = [child(load.to_string())?, child(String::from("refresh"))?];
    fs::remove_dir_all(&folder)?;
    Ok(taken)
}
