//! [`Transfers`]: open files, and what is under way of them.
//!
//! Reads ask ahead of the reader and writes do not wait for their answers, so
//! that a link is full whatever its round trip is. All of it lives in
//! [`SLOTS`] slots of one request each. A slot that was written keeps its bytes
//! until the server has them: when the link breaks, the file is opened again
//! over the next one and they are sent once more.

use std::collections::VecDeque;

use super::connection::{Connection, Fault, Token};
use super::wire::{Fields, HANDLE_BYTES_MAX, Malformed, kind, open_flags, status};
use crate::remote::RemoteEntry;

mod reading;
mod writing;

/// Reads and writes that are under way at once, of all files together: half a
/// mebibyte, which is a link of 25 MiB/s with a round trip of 20 ms.
pub(super) const SLOTS: usize = 16;

/// Files that may be open at once.
pub(super) const FILES_MAX: usize = 24;

/// A request under way, or what came of it.
#[derive(Debug, Default)]
struct Slot {
    state: SlotState,
    /// Where in the file it begins.
    offset: u64,
    /// Bytes that were asked for.
    asked: usize,
    bytes: Vec<u8>,
}

#[derive(Debug, Default)]
enum SlotState {
    #[default]
    Free,
    /// To be written: gathers bytes, or waits for an answer.
    Writing,
    /// To be read, and not answered yet.
    Reading,
    /// Read: all of `bytes`.
    Read,
    /// There is nothing there: the file ends before.
    Ended,
    /// The server refused.
    Failed(Fault),
    /// Nobody wants the answer that is to come.
    Abandoned,
}

/// A file that is open.
#[derive(Debug)]
pub(super) struct File {
    pub(super) id: u32,
    pub(super) path: Vec<u8>,
    handle: Vec<u8>,
    /// Slots in the order of the file.
    window: VecDeque<usize>,
    /// What the server said of it last.
    pub(super) stat: Option<RemoteEntry>,
    /// An answer that tells that is to come.
    stat_waits: bool,
    /// What went wrong, and is not told yet.
    fault: Option<Fault>,
    pub(super) role: Role,
}

#[derive(Debug)]
pub(super) enum Role {
    Read {
        /// Where the reader stands.
        position: u64,
        /// Where the next request begins.
        requested: u64,
        /// Slots that may be asked ahead: more with each read that goes on.
        ahead: usize,
        /// Its attributes were asked for after everything was.
        asked_after: bool,
    },
    Write {
        /// Bytes taken of the writer.
        length: u64,
        /// The slot that gathers bytes, not sent yet.
        filling: Option<usize>,
        /// Answers to come that have no slot.
        settling: u32,
    },
}

/// Open files.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    files: Vec<File>,
    next_id: u32,
    slots: [Slot; SLOTS],
}

/// The file is not open.
fn not_open() -> Fault {
    Fault::Refused { code: status::FAILURE, words: "the file is not open here".into() }
}

impl Transfers {
    pub(super) fn file(&mut self, id: u32) -> Result<&mut File, Fault> {
        self.files.iter_mut().find(|file| file.id == id).ok_or_else(not_open)
    }

    /// Takes note of a file that was opened.
    pub(super) fn add(&mut self, path: &[u8], handle: Vec<u8>, role: Role) -> Result<u32, Fault> {
        if self.files.len() == FILES_MAX {
            let words = "too many files are open here".into();
            return Err(Fault::Refused { code: status::FAILURE, words });
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.files.push(File {
            id,
            path: path.to_vec(),
            handle,
            window: VecDeque::new(),
            stat: None,
            stat_waits: false,
            fault: None,
            role,
        });
        Ok(id)
    }

    /// Forgets a file and all that is under way of it. Returns its handle.
    pub(super) fn remove(&mut self, id: u32) -> Option<(Vec<u8>, Vec<u8>)> {
        let at = self.files.iter().position(|file| file.id == id)?;
        let file = self.files.swap_remove(at);
        for index in file.window {
            self.release(index);
        }
        if let Role::Write { filling: Some(index), .. } = file.role {
            self.slots[index].state = SlotState::Free;
        }
        Some((file.handle, file.path))
    }

    /// A slot that is not wanted any more.
    fn release(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.state = match slot.state {
            SlotState::Reading | SlotState::Writing | SlotState::Abandoned => SlotState::Abandoned,
            _ => SlotState::Free,
        };
    }

    /// Takes in an answer.
    pub(super) fn settle(
        &mut self,
        connection: &Connection,
        (token, kind): (Token, u8),
    ) -> Result<(), Fault> {
        match token {
            Token::Call | Token::Forget => Ok(()),
            Token::Slot { file, slot } => self.settle_slot(connection, file, slot, kind),
            Token::Stat { file } => {
                let Ok(file) = self.file(file) else { return Ok(()) };
                file.stat_waits = false;
                file.stat = match kind {
                    kind::ATTRS => Some(connection.fields().attributes()?),
                    _ => Some(RemoteEntry::default()),
                };
                Ok(())
            }
            Token::Settle { file, is_optional } => {
                let outcome = refusal(kind, &mut connection.fields())?;
                let Ok(file) = self.file(file) else { return Ok(()) };
                if let Role::Write { settling, .. } = &mut file.role {
                    *settling = settling.saturating_sub(1);
                }
                if let (Some(fault), false) = (outcome, is_optional) {
                    file.fault.get_or_insert(fault);
                }
                Ok(())
            }
        }
    }

    fn settle_slot(
        &mut self,
        connection: &Connection,
        file: u32,
        index: usize,
        kind: u8,
    ) -> Result<(), Fault> {
        let slot = &mut self.slots[index];
        match slot.state {
            SlotState::Writing => {
                let outcome = refusal(kind, &mut connection.fields())?;
                slot.state = SlotState::Free;
                if let Ok(file) = self.file(file) {
                    file.window.retain(|other| *other != index);
                    if let Some(fault) = outcome {
                        file.fault.get_or_insert(fault);
                    }
                }
            }
            SlotState::Reading if kind == kind::DATA => {
                let data = connection.fields().string()?;
                // Nothing at all is no answer: it would be asked for ever.
                if data.len() > slot.asked || data.is_empty() {
                    return Err(Malformed.into());
                }
                slot.bytes.clear();
                slot.bytes.extend_from_slice(data);
                slot.state = SlotState::Read;
            }
            SlotState::Reading => {
                slot.state = match refusal(kind, &mut connection.fields())? {
                    Some(fault) if fault.is(status::EOF) => SlotState::Ended,
                    Some(fault) => SlotState::Failed(fault),
                    None => return Err(Malformed.into()),
                };
            }
            _ => slot.state = SlotState::Free,
        }
        Ok(())
    }

    /// Takes one answer in.
    fn receive(&mut self, connection: &mut Connection) -> Result<(), Fault> {
        let (_, token, kind) = connection.receive()?;
        self.settle(connection, (token, kind))
    }

    /// A free slot, waiting for one if need be.
    fn free_slot(&mut self, connection: &mut Connection) -> Result<usize, Fault> {
        loop {
            let free = |slot: &Slot| matches!(slot.state, SlotState::Free);
            if let Some(index) = self.slots.iter().position(free) {
                return Ok(index);
            }
            if connection.is_waiting() {
                self.receive(connection)?;
            } else if !self.drop_read_ahead() {
                // Slots that gather bytes of files that nobody goes on with.
                self.send_gathered(connection)?;
            }
        }
    }

    /// Gives up what was read ahead, and whether there was anything.
    fn drop_read_ahead(&mut self) -> bool {
        let mut dropped = Vec::with_capacity(SLOTS);
        for file in &mut self.files {
            if let Role::Read { position, requested, .. } = &mut file.role {
                *requested = *position;
                dropped.extend(file.window.drain(..));
            }
        }
        for index in &dropped {
            self.release(*index);
        }
        !dropped.is_empty()
    }

    /// Sends all slots that gather bytes.
    fn send_gathered(&mut self, connection: &mut Connection) -> Result<(), Fault> {
        let ids: Vec<u32> = self.files.iter().map(|file| file.id).collect();
        ids.into_iter().try_for_each(|id| self.send_filling(connection, id))
    }

    /// Takes answers in until another request may be sent.
    pub(super) fn make_room(&mut self, connection: &mut Connection) -> Result<(), Fault> {
        while !connection.has_room() {
            self.receive(connection)?;
        }
        Ok(())
    }

    /// Asks for the attributes of an open file.
    pub(super) fn ask_stat(&mut self, connection: &mut Connection, id: u32) -> Result<(), Fault> {
        self.make_room(connection)?;
        let file = self.file(id)?;
        if file.stat_waits {
            return Ok(());
        }
        file.stat_waits = true;
        let handle = &file.handle;
        connection.send(Token::Stat { file: id }, kind::FSTAT, |p| p.string(handle))?;
        Ok(())
    }

    // After the link broke.

    /// No answer will come any more.
    pub(super) fn lose_link(&mut self) {
        for file in &mut self.files {
            file.stat_waits = false;
            match &mut file.role {
                Role::Read { position, requested, asked_after, .. } => {
                    (*requested, *asked_after) = (*position, false);
                    file.window.clear();
                }
                Role::Write { settling, .. } => *settling = 0,
            }
        }
        for slot in &mut self.slots {
            if !matches!(slot.state, SlotState::Writing) {
                slot.state = SlotState::Free;
            }
        }
    }

    /// Opens all files again over a new link, and sends again what the last one
    /// may have lost.
    pub(super) fn reopen(&mut self, connection: &mut Connection) -> Result<(), Fault> {
        for at in 0..self.files.len() {
            let file = &self.files[at];
            let flags = match file.role {
                Role::Read { .. } => open_flags::READ,
                Role::Write { .. } => open_flags::WRITE,
            };
            let path = file.path.clone();
            match self.open(connection, &path, flags) {
                Ok(handle) => self.files[at].handle = handle,
                Err(Fault::Refused { code, words }) => {
                    self.files[at].fault = Some(Fault::Refused { code, words });
                    continue;
                }
                Err(fault) => return Err(fault),
            }
            let (id, window) = (self.files[at].id, self.files[at].window.clone());
            for index in window {
                self.send_slot(connection, id, index)?;
            }
        }
        Ok(())
    }

    /// Opens a file and returns its handle.
    pub(super) fn open(
        &mut self,
        connection: &mut Connection,
        path: &[u8],
        flags: u32,
    ) -> Result<Vec<u8>, Fault> {
        self.make_room(connection)?;
        let rights = (flags & open_flags::CREATE != 0).then_some(0o600);
        let id = connection.send(Token::Call, kind::OPEN, |packet| {
            packet.string(path).u32(flags).attributes(None, rights, None)
        })?;
        let kind = connection.answer(id, |connection, answer| self.settle(connection, answer))?;
        handle_of(kind, &mut connection.fields())
    }
}

/// What a status refuses, if it does.
fn refusal(kind: u8, fields: &mut Fields<'_>) -> Result<Option<Fault>, Fault> {
    if kind != kind::STATUS {
        return Err(Malformed.into());
    }
    match Fault::of_status(fields) {
        Ok(()) => Ok(None),
        Err(refused @ Fault::Refused { .. }) => Ok(Some(refused)),
        Err(lost) => Err(lost),
    }
}

/// The handle that an answer brings.
pub(super) fn handle_of(kind: u8, fields: &mut Fields<'_>) -> Result<Vec<u8>, Fault> {
    match kind {
        kind::HANDLE => match fields.string()? {
            handle if handle.len() <= HANDLE_BYTES_MAX => Ok(handle.to_vec()),
            _ => Err(Malformed.into()),
        },
        _ => Err(refusal(kind, fields)?.unwrap_or_else(|| Malformed.into())),
    }
}
