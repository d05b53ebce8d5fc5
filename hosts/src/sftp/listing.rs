//! Listings of directories, and how one goes on after the link broke.

use std::hash::{BuildHasher as _, RandomState};

use super::connection::{Connection, Fault, Token};
use super::requests::call;
use super::transfer::{Transfers, handle_of};
use super::wire::{Malformed, kind, status};
use crate::remote::EachChild;

/// Children of a directory that are known again, at most: 32 KiB. A listing that gave
/// more and breaks cannot be begun anew.
pub(super) const GIVEN_MAX: usize = 4096;

/// The children that a listing has given.
///
/// Servers list in no order, and no listing goes on over another link: it is begun
/// anew, and what was given is passed over. Names are known by hashes with a key that
/// no server knows: that one is taken for another, and left out, happens once in
/// 2⁵² children at most.
#[derive(Debug, Default)]
pub(super) struct Given {
    key: RandomState,
    hashes: Vec<u64>,
    /// So many of the hashes were given before the link broke, and are in order.
    before: usize,
    is_full: bool,
}

impl Given {
    /// Whether a child was not given by a listing that broke. It counts as given by
    /// this one.
    pub(super) fn is_new(&mut self, name: &[u8]) -> bool {
        let hash = self.key.hash_one(name);
        if self.hashes[..self.before].binary_search(&hash).is_ok() {
            return false;
        }
        self.is_full |= self.hashes.len() == GIVEN_MAX;
        if !self.is_full {
            self.hashes.push(hash);
        }
        true
    }

    /// Whether the listing may be begun anew, without giving a child twice.
    pub(super) fn may_begin_anew(&mut self) -> bool {
        self.hashes.sort_unstable();
        self.before = self.hashes.len();
        !self.is_full
    }
}

/// Lists a directory; the next part of it is asked for before one is looked at.
pub(super) fn list(
    transfers: &mut Transfers,
    connection: &mut Connection,
    directory: &[u8],
    each: &mut EachChild<'_>,
) -> Result<(), Fault> {
    let answer = call(transfers, connection, kind::OPENDIR, |p| p.string(directory))?;
    let handle = handle_of(answer.kind, &mut answer.fields.clone())?;
    let listed = list_open(transfers, connection, &handle, each);
    if !matches!(listed, Err(Fault::Lost(_) | Fault::Stopped)) {
        transfers.make_room(connection)?;
        connection.send(Token::Forget, kind::CLOSE, |p| p.string(&handle))?;
    }
    listed
}

fn list_open(
    transfers: &mut Transfers,
    connection: &mut Connection,
    handle: &[u8],
    each: &mut EachChild<'_>,
) -> Result<(), Fault> {
    let mut next = None;
    loop {
        let id = match next.take() {
            Some(id) => id,
            None => {
                transfers.make_room(connection)?;
                connection.send(Token::Call, kind::READDIR, |p| p.string(handle))?
            }
        };
        let kind = connection.answer(id, |c, answer| transfers.settle(c, answer))?;
        let mut fields = connection.fields();
        if kind == kind::STATUS {
            return match Fault::of_status(&mut fields) {
                Err(fault) if fault.is(status::EOF) => Ok(()),
                other => other,
            };
        }
        if kind != kind::NAME {
            return Err(Malformed.into());
        }
        let names = fields.u32()?;
        if names == 0 {
            // Without this, a server could keep us asking.
            return Err(Malformed.into());
        }
        // The answer stays where it is until the next one is taken.
        let is_ahead = connection.has_room();
        if is_ahead {
            next = Some(connection.send(Token::Call, kind::READDIR, |p| p.string(handle))?);
        }
        let mut fields = connection.fields();
        fields.u32()?;
        for _ in 0..names {
            let (name, _long, entry) = (fields.string()?, fields.string()?, fields.attributes()?);
            if matches!(name, b"." | b"..") {
                continue;
            }
            if let Err(error) = each(name, &entry) {
                if let Some(id) = next {
                    connection.forget(id);
                }
                return Err(Fault::Caller(Box::new(error)));
            }
        }
    }
}
