//! Packfiles in parts, and states and locks as a whole.

use tiroir_core::mac::Mac;
use tiroir_core::store::StoreResource;

use super::requests::Purpose;
use super::{HttpStore, Open};
use crate::error::Result;
use crate::http::client::Payload;
use crate::http::error::HttpError;
use crate::http::head::start_of_range;
use crate::staging::Staged;

/// Bytes of a packfile asked for at once when one reads on and on, at most. The
/// server holds as many in its memory.
const WINDOW_BYTES_MAX: u64 = 1 << 20;

/// Longest state or lock that is fetched, in bytes.
const WHOLE_BYTES_MAX: u64 = 4 << 30;

/// Longest packfile, in bytes.
const PACKFILE_BYTES_MAX: u64 = 1 << 40;

impl HttpStore {
    /// Fetches a state or a lock.
    pub(super) fn fetch(&mut self, resource: StoreResource, name: &Mac) -> Result<()> {
        self.whole = None;
        let target = self.target(resource, Some(name));
        let purpose = Purpose { operation: "read", target: &target };
        let (mut staged, mut attempts) =
            (Staged::new(&self.spool_directory), self.client.attempts());
        let mut piece = vec![0; 16 * 1024];
        'again: loop {
            let mut response = self.call(purpose, "GET", None, &Payload::None)?;
            staged.clear();
            loop {
                match response.read(&mut piece) {
                    Ok(0) => break,
                    Ok(read) => staged.write(&piece[..read])?,
                    Err(error) if error.is_transient() && attempts.again(None) => continue 'again,
                    Err(error) => return Err(self.broken(error, purpose)),
                }
                if staged.len() > WHOLE_BYTES_MAX {
                    return Err(self.broken(HttpError::Malformed("it is too long"), purpose));
                }
            }
            self.client.finish(response);
            self.whole = Some((resource, *name, staged));
            return Ok(());
        }
    }

    /// Asks for a part of a packfile.
    fn ask(&mut self, name: &Mac, at: u64, count: u64) -> Result<Open> {
        self.wake()?;
        let target = self.target(StoreResource::Packfile, Some(name));
        let purpose = Purpose { operation: "read", target: &target };
        let end = at.saturating_add(count.clamp(1, WINDOW_BYTES_MAX));
        let last = if self.has_ranges { end - 1 } else { end };
        let range = format!("bytes={at}-{last}");
        let response = self.call(purpose, "GET", Some(range), &Payload::None)?;
        let is_it = match response.status() {
            206 => {
                let part = response.head().header("content-range").and_then(start_of_range);
                self.has_ranges && part == Some(at)
            }
            // Behind the end.
            416 => self.has_ranges,
            _ => !self.has_ranges,
        };
        if !is_it {
            let error = HttpError::Malformed("it is not the part that was asked for");
            return Err(self.broken(error, purpose));
        }
        Ok(Open { name: *name, at, end, response })
    }

    /// Reads a part of a packfile.
    pub(super) fn get_packfile(
        &mut self,
        name: &Mac,
        offset_bytes: u64,
        into: &mut [u8],
    ) -> Result<usize> {
        let reads_on = self.read_on == Some((*name, offset_bytes));
        self.window_bytes = match reads_on {
            true => (self.window_bytes * 4).max(4 * into.len() as u64).min(WINDOW_BYTES_MAX),
            false => 0,
        };
        let (mut filled, mut attempts) = (0, self.client.attempts());
        while filled < into.len() {
            let at = offset_bytes.saturating_add(filled as u64);
            if at >= PACKFILE_BYTES_MAX {
                break;
            }
            match self.read_packfile(name, at, &mut into[filled..])? {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) => {
                    self.open = None;
                    if !error.is_transient() || !attempts.again(None) {
                        let target = self.target(StoreResource::Packfile, Some(name));
                        return Err(
                            self.broken(error, Purpose { operation: "read", target: &target })
                        );
                    }
                }
            }
        }
        self.read_on = Some((*name, offset_bytes.saturating_add(filled as u64)));
        Ok(filled)
    }

    /// Reads what comes next at `at`; 0 at the end of the packfile. The inner
    /// error is of the connection.
    fn read_packfile(
        &mut self,
        name: &Mac,
        at: u64,
        into: &mut [u8],
    ) -> Result<std::result::Result<usize, HttpError>> {
        let is_there = |open: &Open| open.name == *name && open.at == at && open.at < open.end;
        if !self.open.as_ref().is_some_and(is_there) {
            self.close();
            let count = self.window_bytes.max(into.len() as u64);
            self.open = Some(self.ask(name, at, count)?);
        }
        let Some(open) = &mut self.open else { return Ok(Ok(0)) };
        if open.response.status() == 416 {
            return Ok(Ok(0));
        }
        let left = usize::try_from(open.end - open.at).unwrap_or(usize::MAX);
        let count = left.min(into.len());
        let read = open.response.read(&mut into[..count]);
        if let Ok(read) = read {
            open.at += read as u64;
        }
        Ok(read)
    }

    /// Length of a resource, by `HEAD`, which stock's server does not understand.
    pub(super) fn told_size(&mut self, resource: StoreResource, name: &Mac) -> Result<u64> {
        let target = self.target(resource, Some(name));
        let purpose = Purpose { operation: "inspect", target: &target };
        let response = self.call(purpose, "HEAD", None, &Payload::None)?;
        let length = response.head().declared_length();
        let length =
            length.and_then(|length| length.ok_or(HttpError::Malformed("it tells no length")));
        self.client.finish(response);
        length.map_err(|error| self.broken(error, purpose))
    }

    /// Length of a packfile of stock's server. It does not tell it: it is found by
    /// asking for bytes here and there, some forty times for one of 20 MiB.
    pub(super) fn packfile_size(&mut self, name: &Mac) -> Result<u64> {
        let mut one = [0];
        // A byte is at `low` - 1, and none at `high`.
        let (mut low, mut high) = (0, 1);
        while self.get_packfile(name, high, &mut one)? == 1 {
            low = high + 1;
            high = (high * 2).max(64 * 1024);
            if high >= PACKFILE_BYTES_MAX {
                let target = self.target(StoreResource::Packfile, Some(name));
                let purpose = Purpose { operation: "inspect", target: &target };
                return Err(self.broken(HttpError::Malformed("it never ends"), purpose));
            }
        }
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get_packfile(name, middle, &mut one)? {
                0 => high = middle,
                _ => low = middle + 1,
            }
        }
        Ok(low)
    }
}
