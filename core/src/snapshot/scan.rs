//! What a backup would take, without reading a file or writing anything.

use crate::error::Error;
use crate::host::Host;
use crate::importer::{Attributes, Importer};
use crate::limits::PATH_BYTES_MAX;
use crate::order::byte_order;
use crate::repository::{Lend, Repository};
use crate::sort::Sorter;
use crate::spool::Spool;
use crate::wire::{mode, path};

/// Least memory for a scan, in bytes. More of it makes sorting cheaper.
pub const SCAN_BYTES_MIN: usize = 256 * 1024;

/// What a scan finds.
#[derive(Debug)]
pub enum Event<'e, E> {
    /// An entry that would be backed up.
    Entry {
        /// Its path.
        path: &'e [u8],
        /// Its attributes.
        attributes: &'e Attributes,
    },
    /// An entry that cannot be looked at, or a directory that cannot be listed.
    Failed {
        /// Its path.
        path: &'e [u8],
        /// Why.
        error: &'e E,
    },
    /// An entry whose path is too long; this much of it is not.
    TooLong {
        /// Path of its directory.
        directory: &'e [u8],
    },
}

/// What a scan has found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// Entries.
    pub entries: u64,
    /// Length of the regular files among them, in bytes.
    pub bytes: u64,
    /// Entries and directories that cannot be read.
    pub failed: u64,
}

/// Takes what a scan finds.
pub type Each<'e, E> = dyn FnMut(&Event<'_, E>) -> Result<(), E> + 'e;

/// Goes through what `importer` reads, in the order of a backup, and looks at
/// every entry. The store is not touched.
///
/// # Errors
///
/// [`Error::Memory`] below [`SCAN_BYTES_MIN`]; [`Error::Cancelled`]; the host's,
/// and the importer's for the root.
pub fn scan<L: Lend, I: Importer<Error = L::Error>>(
    repository: &mut Repository<'_, L>,
    importer: &mut I,
    memory: &mut [u8],
    each: &mut Each<'_, L::Error>,
) -> Result<Report, Error<L::Error>> {
    if memory.len() < SCAN_BYTES_MIN {
        let (needed_bytes, lent_bytes) = (SCAN_BYTES_MIN as u64, memory.len() as u64);
        return Err(Error::Memory { what: "a scan", needed_bytes, lent_bytes });
    }
    let host = &mut repository.host;
    let mut names = Sorter::new(memory, [host.spool()?, host.spool()?], byte_order);
    // Directories to list: the length of a path, and the path.
    let (mut queue, mut queue_at) = (host.spool()?, 0);
    let mut report = Report::default();
    let mut attributes = Attributes::default();
    importer.stat(b"/", &[], &mut attributes)?;
    note(&mut report, b"/", &attributes, each)?;
    enqueue::<L>(&mut queue, b"/")?;
    while queue_at < queue.len() {
        let mut directory = [0; PATH_BYTES_MAX];
        let directory = dequeue::<L>(&mut queue, &mut queue_at, &mut directory)?;
        names.reset()?;
        let mut full = None;
        let listed = importer.list(directory, &mut |name, hint| {
            if full.is_none() {
                full = names.push(name, hint).err();
            }
            Ok(())
        });
        full.map_or(Ok(()), Err)?;
        if let Err(error) = listed {
            report.failed += 1;
            each(&Event::Failed { path: directory, error: &error })?;
        }
        let mut sorted = names.finish()?;
        while let Some((name, hint)) = sorted.next()? {
            if host.cancelled() {
                return Err(Error::Cancelled);
            }
            let mut joined = [0; PATH_BYTES_MAX];
            let Ok(len) = path::join(directory, name, &mut joined) else {
                report.failed += 1;
                each(&Event::TooLong { directory })?;
                continue;
            };
            let path = &joined[..len];
            attributes = Attributes::default();
            match importer.stat(path, hint, &mut attributes) {
                Ok(()) => {
                    note(&mut report, path, &attributes, each)?;
                    if mode::is_directory(attributes.mode) {
                        enqueue::<L>(&mut queue, path)?;
                    }
                }
                Err(error) => {
                    report.failed += 1;
                    each(&Event::Failed { path, error: &error })?;
                }
            }
        }
    }
    Ok(report)
}

/// Counts an entry and tells of it.
fn note<E>(
    report: &mut Report,
    path: &[u8],
    attributes: &Attributes,
    each: &mut Each<'_, E>,
) -> Result<(), E> {
    report.entries += 1;
    if mode::is_regular(attributes.mode) {
        let bytes = u64::try_from(attributes.size).unwrap_or(0);
        report.bytes = report.bytes.saturating_add(bytes);
    }
    each(&Event::Entry { path, attributes })
}

type HostSpool<L> = <<L as Lend>::Host as Host>::Spool;

fn enqueue<L: Lend>(queue: &mut HostSpool<L>, path: &[u8]) -> Result<(), L::Error> {
    queue.append(&u16::try_from(path.len()).unwrap_or(u16::MAX).to_le_bytes())?;
    queue.append(path)
}

fn dequeue<'p, L: Lend>(
    queue: &mut HostSpool<L>,
    at: &mut u64,
    into: &'p mut [u8; PATH_BYTES_MAX],
) -> Result<&'p [u8], L::Error> {
    let mut head = [0; 2];
    queue.read_at(*at, &mut head)?;
    // What is enqueued is no longer than a path.
    let len = usize::from(u16::from_le_bytes(head)).min(PATH_BYTES_MAX);
    queue.read_at(*at + 2, &mut into[..len])?;
    *at += 2 + len as u64;
    Ok(&into[..len])
}
