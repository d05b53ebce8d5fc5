//! Files that are read: more is asked for than is wanted yet, for whoever reads on.

use super::{
    Connection, Fault, RemoteEntry, Role, SLOTS, Slot, SlotState, Token, Transfers, kind, not_open,
};

impl Transfers {
    /// What the server says of an open file: asked for now, or since all of it
    /// was asked for.
    pub(in crate::sftp) fn stat(
        &mut self,
        connection: &mut Connection,
        id: u32,
    ) -> Result<RemoteEntry, Fault> {
        let file = self.file(id)?;
        let is_fresh = match &mut file.role {
            Role::Read { asked_after, .. } => std::mem::take(asked_after),
            Role::Write { .. } => false,
        };
        if !is_fresh {
            self.ask_stat(connection, id)?;
        }
        while self.file(id)?.stat_waits {
            self.receive(connection)?;
        }
        Ok(self.file(id)?.stat.unwrap_or_default())
    }

    /// Fills `into` from `offset` on, past the first `filled` bytes of it, which
    /// are counted up.
    pub(in crate::sftp) fn read(
        &mut self,
        connection: &mut Connection,
        id: u32,
        offset: u64,
        into: &mut [u8],
        filled: &mut usize,
    ) -> Result<(), Fault> {
        self.stand_at(id, offset.saturating_add(*filled as u64))?;
        while *filled < into.len() {
            self.ask_ahead(connection, id, into.len() - *filled)?;
            let Some(&index) = self.file(id)?.window.front() else { break };
            while matches!(self.slots[index].state, SlotState::Reading) {
                self.receive(connection)?;
            }
            let taken = self.take_front(connection, id, index, &mut into[*filled..])?;
            if taken == 0 {
                break;
            }
            *filled += taken;
        }
        if let Role::Read { ahead, .. } = &mut self.file(id)?.role {
            // Whoever reads on will go on reading.
            *ahead = (*ahead * 2).clamp(2, SLOTS);
        }
        Ok(())
    }

    /// Moves the reader; what was asked ahead of it elsewhere is given up.
    fn stand_at(&mut self, id: u32, offset: u64) -> Result<(), Fault> {
        let file = self.file(id)?;
        let Role::Read { position, requested, ahead, .. } = &mut file.role else {
            return Err(not_open());
        };
        if *position == offset {
            return Ok(());
        }
        (*position, *requested, *ahead) = (offset, offset, 0);
        let dropped = std::mem::take(&mut file.window);
        for index in dropped {
            self.release(index);
        }
        Ok(())
    }

    /// Takes bytes of the slot in front of a file's window, and returns how many:
    /// none at the end of the file.
    fn take_front(
        &mut self,
        connection: &mut Connection,
        id: u32,
        index: usize,
        into: &mut [u8],
    ) -> Result<usize, Fault> {
        let slot = &mut self.slots[index];
        let file = self.files.iter_mut().find(|file| file.id == id).ok_or_else(not_open)?;
        let Role::Read { position, requested, .. } = &mut file.role else {
            return Err(not_open());
        };
        let is_short = match std::mem::take(&mut slot.state) {
            SlotState::Read => {
                let start = usize::try_from(position.saturating_sub(slot.offset));
                let rest = &slot.bytes[start.unwrap_or(usize::MAX).min(slot.bytes.len())..];
                let taken = rest.len().min(into.len());
                into[..taken].copy_from_slice(&rest[..taken]);
                *position += taken as u64;
                if taken < rest.len() {
                    slot.state = SlotState::Read;
                    return Ok(taken);
                }
                file.window.pop_front();
                if slot.bytes.len() == slot.asked {
                    return Ok(taken);
                }
                // The server gives less at once than was asked for; or this is the
                // end, which the next request tells.
                let size = file.stat.and_then(|stat| stat.size_bytes).unwrap_or(0);
                if *position < size {
                    connection.read_bytes = slot.bytes.len().max(512);
                }
                Ok(taken)
            }
            SlotState::Failed(fault) => {
                file.window.pop_front();
                Err(fault)
            }
            // The end.
            _ => {
                file.window.pop_front();
                Ok(0)
            }
        };
        // What was asked behind a hole is of no use.
        *requested = *position;
        let dropped = std::mem::take(&mut file.window);
        for index in dropped {
            self.release(index);
        }
        is_short
    }

    /// Sends requests for what a reader wants, and ahead of it. Nothing is under
    /// way afterwards at the end of the file only.
    ///
    /// The first goes together with the question how long the file is, and the
    /// last with the question whether it still is: that takes no time of its own.
    fn ask_ahead(
        &mut self,
        connection: &mut Connection,
        id: u32,
        want: usize,
    ) -> Result<(), Fault> {
        loop {
            let read_bytes = connection.read_bytes;
            let file = self.file(id)?;
            if let Some(fault) = file.fault.take() {
                return Err(fault);
            }
            let (is_idle, stat_waits) = (file.window.is_empty(), file.stat_waits);
            let is_first = file.stat.is_none() && !stat_waits;
            if is_idle && stat_waits && file.stat.is_none() {
                // It comes with the first answer, and may save asking for the end.
                self.receive(connection)?;
                continue;
            }
            let size = file.stat.and_then(|stat| stat.size_bytes).filter(|size| *size > 0);
            let Role::Read { position, requested, ahead, asked_after } = &mut file.role else {
                return Err(not_open());
            };
            let target = position.saturating_add(want as u64 + (*ahead * read_bytes) as u64);
            let is_asked = match size {
                Some(size) if is_idle && *position >= size && *asked_after => {
                    if !stat_waits {
                        return Ok(());
                    }
                    self.receive(connection)?;
                    continue;
                }
                Some(size) => *requested >= size.min(target),
                // How long it is is not known yet, or the server does not say:
                // then one after the other.
                None => true,
            };
            let is_whole = size.is_some_and(|size| *requested >= size);
            if !is_idle && is_asked {
                if is_whole && !std::mem::replace(asked_after, true) {
                    self.ask_stat(connection, id)?;
                }
                return Ok(());
            }
            *asked_after = false;
            let Some(index) = self.slot_to_read(connection, is_idle)? else { return Ok(()) };
            self.ask_slot(connection, id, index)?;
            if is_first {
                self.ask_stat(connection, id)?;
                if let Role::Read { asked_after, .. } = &mut self.file(id)?.role {
                    *asked_after = true;
                }
            }
        }
    }

    /// A free slot to read into; if the reader would have none at all, it is
    /// waited for.
    fn slot_to_read(
        &mut self,
        connection: &mut Connection,
        is_first: bool,
    ) -> Result<Option<usize>, Fault> {
        if is_first {
            return self.free_slot(connection).map(Some);
        }
        let free = |slot: &Slot| matches!(slot.state, SlotState::Free);
        Ok(self.slots.iter().position(free).filter(|_| connection.has_room()))
    }

    fn ask_slot(
        &mut self,
        connection: &mut Connection,
        id: u32,
        index: usize,
    ) -> Result<(), Fault> {
        self.make_room(connection)?;
        let asked = connection.read_bytes;
        let file = self.files.iter_mut().find(|file| file.id == id).ok_or_else(not_open)?;
        let Role::Read { requested, .. } = &mut file.role else { return Err(not_open()) };
        let slot = &mut self.slots[index];
        (slot.state, slot.offset, slot.asked) = (SlotState::Reading, *requested, asked);
        *requested += asked as u64;
        file.window.push_back(index);
        let length = u32::try_from(asked).unwrap_or(u32::MAX);
        connection.send(Token::Slot { file: id, slot: index }, kind::READ, |packet| {
            packet.string(&file.handle).u64(slot.offset).u32(length)
        })?;
        Ok(())
    }
}
