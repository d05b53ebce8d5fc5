//! [`Listings`]: directories that are listed before they are wanted.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tiroir_core::importer::{Each, Importer};

use super::ahead::lost;
use crate::error::{HostsError, Result};

/// Longest listing that is kept, in bytes of names and hints: some 400 files. Longer ones
/// are asked for again when their directory is entered.
pub(super) const LISTING_BYTES_MAX: usize = 32 * 1024;

/// Names and hints after which a listing is broken off, which may cost the connection:
/// up to there it is cheaper to hear it out.
const HEARD_BYTES_MAX: usize = 16 * LISTING_BYTES_MAX;

/// For how long a listing is good: what it tells of files may have changed meanwhile.
const AGE_MAX: Duration = Duration::from_secs(10);

/// Names and hints, each with two bytes for its length before it.
pub(super) struct Records(Vec<u8>);

impl Records {
    /// Lists a directory; nothing if that fails, or takes too much room, of which
    /// `give_up` is told as soon as it is known.
    pub(super) fn list(
        importer: &mut dyn Importer<Error = HostsError>,
        directory: &[u8],
        give_up: &mut dyn FnMut(),
    ) -> Option<Self> {
        let (mut records, mut heard_bytes) = (Vec::with_capacity(LISTING_BYTES_MAX), 0);
        let listed = importer.list(directory, &mut |name, hint| {
            let was_kept = heard_bytes <= LISTING_BYTES_MAX;
            heard_bytes += 4 + name.len() + hint.len();
            if heard_bytes > LISTING_BYTES_MAX {
                if was_kept {
                    records = Vec::new();
                    give_up();
                }
                return if heard_bytes > HEARD_BYTES_MAX { Err(lost()) } else { Ok(()) };
            }
            for part in [name, hint] {
                let length = u16::try_from(part.len()).map_err(|_| lost())?;
                records.extend_from_slice(&length.to_le_bytes());
                records.extend_from_slice(part);
            }
            Ok(())
        });
        records.shrink_to_fit();
        (listed.is_ok() && heard_bytes <= LISTING_BYTES_MAX).then_some(Self(records))
    }

    /// Gives them out as a listing does.
    pub(super) fn tell(&self, each: &mut Each<'_, HostsError>) -> Result<()> {
        let mut rest = &self.0[..];
        let mut next = || {
            let (head, after) = rest.split_first_chunk()?;
            let (part, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*head)))?;
            rest = after;
            Some(part)
        };
        while let (Some(name), Some(hint)) = (next(), next()) {
            each(name, hint)?;
        }
        Ok(())
    }
}

enum State {
    /// Nobody has begun.
    Waiting,
    /// A thread is at it.
    Taken,
    /// It is there, since then.
    Listed(Records, Instant),
    /// Whoever wants it has to ask.
    Unknown,
}

/// What becomes of a directory that is wanted now.
pub(super) enum Wanted {
    /// It has to be listed.
    No,
    /// A thread is at it.
    Soon,
    /// This is its listing.
    Now(Records),
}

/// Directories in the order in which they are wanted.
#[derive(Default)]
pub(super) struct Listings {
    line: VecDeque<(Vec<u8>, State)>,
    /// Number of the one in front, counting all that ever were.
    front: u64,
    /// Bytes of listings that are there, and those that may come.
    held_bytes: usize,
}

impl Listings {
    /// Puts a directory at the end.
    pub(super) fn expect(&mut self, path: &[u8]) {
        self.line.push_back((path.to_vec(), State::Waiting));
    }

    /// How many wait for a thread.
    pub(super) fn waiting(&self) -> usize {
        self.line.iter().filter(|(_, state)| matches!(state, State::Waiting)).count()
    }

    /// How many are in the line.
    pub(super) fn len(&self) -> usize {
        self.line.len()
    }

    /// Takes the foremost that nobody has taken, if its listing has room in so many
    /// bytes: its number and path.
    pub(super) fn take(&mut self, room_bytes: usize) -> Option<(u64, Vec<u8>)> {
        if self.held_bytes + LISTING_BYTES_MAX > room_bytes {
            return None;
        }
        let mut numbered = (self.front..).zip(&mut self.line);
        let (number, (path, state)) =
            numbered.find(|(_, (_, state))| matches!(state, State::Waiting))?;
        *state = State::Taken;
        self.held_bytes += LISTING_BYTES_MAX;
        Some((number, path.clone()))
    }

    /// Puts down what came of the one of that number.
    pub(super) fn put(&mut self, number: u64, records: Option<Records>) {
        self.held_bytes -= LISTING_BYTES_MAX;
        let place = number.checked_sub(self.front).and_then(|place| usize::try_from(place).ok());
        let Some((_, state)) = place.and_then(|place| self.line.get_mut(place)) else { return };
        *state = match records {
            Some(records) => {
                self.held_bytes += records.0.capacity();
                State::Listed(records, Instant::now())
            }
            None => State::Unknown,
        };
    }

    /// Takes the line forward to a directory, and that out of it, unless a thread is
    /// still at it.
    pub(super) fn want(&mut self, path: &[u8]) -> Wanted {
        if !self.line.iter().any(|(expected, _)| expected == path) {
            return Wanted::No;
        }
        while let Some((expected, state)) = self.line.front() {
            let is_it = expected == path;
            if is_it && matches!(state, State::Taken) {
                return Wanted::Soon;
            }
            let dropped = self.drop_front();
            if is_it {
                return dropped.map_or(Wanted::No, Wanted::Now);
            }
        }
        Wanted::No
    }

    /// Takes the one in front out of the line, and returns its listing if that is good.
    pub(super) fn drop_front(&mut self) -> Option<Records> {
        let (_, state) = self.line.pop_front()?;
        self.front += 1;
        let State::Listed(records, since) = state else { return None };
        self.held_bytes -= records.0.capacity();
        (since.elapsed() < AGE_MAX).then_some(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(bytes: usize) -> Option<Records> {
        Some(Records(vec![0; bytes]))
    }

    #[test]
    fn listings_come_in_order_and_within_their_room() {
        let mut listings = Listings::default();
        for name in [b"/a", b"/b", b"/c", b"/d"] {
            listings.expect(name);
        }
        let room = 2 * LISTING_BYTES_MAX;
        let (a, path) = listings.take(room).unwrap();
        assert_eq!(path, b"/a");
        let (b, _) = listings.take(room).unwrap();
        assert!(listings.take(room).is_none(), "no room");
        assert_eq!(listings.waiting(), 2);
        assert!(matches!(listings.want(b"/x"), Wanted::No));
        assert!(matches!(listings.want(b"/a"), Wanted::Soon));
        listings.put(a, records(100));
        assert!(listings.take(room).is_none(), "still no room");
        assert!(matches!(listings.want(b"/a"), Wanted::Now(records) if records.0.len() == 100));
        let (c, path) = listings.take(room).unwrap();
        assert_eq!(path, b"/c");
        // Passed over: what comes of it is not wanted any more.
        assert!(matches!(listings.want(b"/c"), Wanted::Soon));
        listings.put(b, records(7));
        listings.put(c, None);
        assert!(matches!(listings.want(b"/c"), Wanted::No));
        assert!(matches!(listings.want(b"/d"), Wanted::No), "nobody was at it");
        assert_eq!((listings.len(), listings.held_bytes), (0, 0));
    }
}
