//! Requests whose answers are waited for, and what is to be in these.

use super::connection::{Connection, Fault, Token};
use super::transfer::Transfers;
use super::wire::{Fields, Malformed, Packet, kind};

/// An answer: its kind and fields.
pub(super) struct Answer<'c> {
    pub(super) kind: u8,
    pub(super) fields: Fields<'c>,
}

/// Sends a request and waits for its answer.
pub(super) fn call<'c>(
    transfers: &mut Transfers,
    connection: &'c mut Connection,
    kind: u8,
    fill: impl for<'b> FnOnce(Packet<'b>) -> Packet<'b>,
) -> Result<Answer<'c>, Fault> {
    transfers.make_room(connection)?;
    let id = connection.send(Token::Call, kind, fill)?;
    let kind = connection.answer(id, |connection, answer| transfers.settle(connection, answer))?;
    Ok(Answer { kind, fields: connection.fields() })
}

/// The error that a status is, unless it is *OK*.
pub(super) fn done(answer: &Answer<'_>) -> Result<(), Fault> {
    match answer.kind {
        kind::STATUS => Fault::of_status(&mut answer.fields.clone()),
        _ => Err(Malformed.into()),
    }
}

/// Fields of an answer of that kind; else the status that came in its place.
pub(super) fn wanted<'c>(answer: &Answer<'c>, kind: u8) -> Result<Fields<'c>, Fault> {
    if answer.kind == kind {
        return Ok(answer.fields.clone());
    }
    done(answer)?;
    Err(Malformed.into())
}

/// The name in an answer with one.
pub(super) fn one_name(answer: &Answer<'_>) -> Result<Vec<u8>, Fault> {
    let mut fields = wanted(answer, kind::NAME)?;
    match fields.u32()? {
        0 => Err(Malformed.into()),
        _ => Ok(fields.string()?.to_vec()),
    }
}
