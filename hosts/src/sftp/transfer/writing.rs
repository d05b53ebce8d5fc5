//! Files that are written: bytes go out as slots fill, and are kept until the server
//! has them.

use super::{Connection, Fault, Role, SlotState, Token, Transfers, kind, not_open};
use crate::remote::{NewAttributes, RemoteEntry};
use crate::sftp::wire::Packet;

impl Transfers {
    /// Takes bytes to be written at the end of a file, and moves `rest` past
    /// those that are taken.
    pub(in crate::sftp) fn write(
        &mut self,
        connection: &mut Connection,
        id: u32,
        rest: &mut &[u8],
    ) -> Result<(), Fault> {
        while !rest.is_empty() {
            let file = self.file(id)?;
            if let Some(fault) = file.fault.take() {
                return Err(fault);
            }
            let Role::Write { length, filling, .. } = &mut file.role else {
                return Err(not_open());
            };
            let Some(index) = *filling else {
                let offset = *length;
                let index = self.free_slot(connection)?;
                let slot = &mut self.slots[index];
                (slot.state, slot.offset) = (SlotState::Writing, offset);
                slot.bytes.clear();
                if let Role::Write { filling, .. } = &mut self.file(id)?.role {
                    *filling = Some(index);
                }
                continue;
            };
            let room = connection.write_bytes.saturating_sub(self.slots[index].bytes.len());
            let (now, later) = rest.split_at(rest.len().min(room));
            if let Role::Write { length, .. } = &mut self.file(id)?.role {
                *length += now.len() as u64;
            }
            self.slots[index].bytes.extend_from_slice(now);
            *rest = later;
            if self.slots[index].bytes.len() >= connection.write_bytes {
                self.send_filling(connection, id)?;
            }
        }
        Ok(())
    }

    /// Sends what a file has gathered.
    pub(in crate::sftp) fn send_filling(
        &mut self,
        connection: &mut Connection,
        id: u32,
    ) -> Result<(), Fault> {
        let file = self.file(id)?;
        let Role::Write { filling, .. } = &mut file.role else { return Ok(()) };
        let Some(index) = filling.take() else { return Ok(()) };
        // From here on it is sent again if the link breaks.
        file.window.push_back(index);
        self.send_slot(connection, id, index)
    }

    pub(super) fn send_slot(
        &mut self,
        connection: &mut Connection,
        id: u32,
        index: usize,
    ) -> Result<(), Fault> {
        self.make_room(connection)?;
        let file = self.files.iter().find(|file| file.id == id).ok_or_else(not_open)?;
        let slot = &self.slots[index];
        let token = Token::Slot { file: id, slot: index };
        connection.send(token, kind::WRITE, |packet| {
            packet.string(&file.handle).u64(slot.offset).string(&slot.bytes)
        })?;
        Ok(())
    }

    /// Sends something else that finishes a file, and does not wait for it.
    fn send_settling(
        &mut self,
        connection: &mut Connection,
        id: u32,
        is_optional: bool,
        fill: impl for<'b> FnOnce(Packet<'b>, &[u8]) -> Packet<'b>,
        kind: u8,
    ) -> Result<(), Fault> {
        self.make_room(connection)?;
        let file = self.file(id)?;
        if let Role::Write { settling, .. } = &mut file.role {
            *settling += 1;
        }
        let handle = &file.handle;
        let token = Token::Settle { file: id, is_optional };
        connection.send(token, kind, |packet| fill(packet, handle))?;
        Ok(())
    }

    /// Waits until the server has everything of a file and has done all it was
    /// asked to do with it.
    fn wait_written(&mut self, connection: &mut Connection, id: u32) -> Result<(), Fault> {
        loop {
            let file = self.file(id)?;
            let settling = match file.role {
                Role::Write { settling, .. } => settling,
                Role::Read { .. } => 0,
            };
            if file.window.is_empty() && settling == 0 && !file.stat_waits {
                return file.fault.take().map_or(Ok(()), Err);
            }
            self.receive(connection)?;
        }
    }

    /// Bytes that were written to a file.
    pub(in crate::sftp) fn written(&mut self, id: u32) -> Result<u64, Fault> {
        match self.file(id)?.role {
            Role::Write { length, .. } => Ok(length),
            Role::Read { .. } => Err(not_open()),
        }
    }

    /// Sets attributes of a file that was written, has it synced if it is to be durable,
    /// and asks how long it is: all in one breath.
    pub(in crate::sftp) fn finish(
        &mut self,
        connection: &mut Connection,
        id: u32,
        new: &NewAttributes,
        (owners, durably): (bool, bool),
    ) -> Result<RemoteEntry, Fault> {
        for (owner, permissions, mod_time) in
            [(new.owner.filter(|_| owners), None, None), (None, new.permissions, new.mod_time)]
        {
            if owner.is_some() || permissions.is_some() || mod_time.is_some() {
                self.send_settling(
                    connection,
                    id,
                    true,
                    |packet, handle| packet.string(handle).attributes(owner, permissions, mod_time),
                    kind::FSETSTAT,
                )?;
            }
        }
        if durably && connection.extensions.fsync {
            self.send_settling(
                connection,
                id,
                false,
                |packet, handle| packet.string(b"fsync@openssh.com").string(handle),
                kind::EXTENDED,
            )?;
        }
        self.ask_stat(connection, id)?;
        self.wait_written(connection, id)?;
        Ok(self.file(id)?.stat.unwrap_or_default())
    }
}
