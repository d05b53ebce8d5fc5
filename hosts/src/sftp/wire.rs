//! Packets of the SSH file transfer protocol, version 3
//! (draft-ietf-secsh-filexfer-02), which is what servers speak.
//!
//! A packet is a length (`u32`), a kind (one byte), a number that the answer
//! repeats (`u32`), and fields: numbers in network order, strings with their
//! length before them.

use tiroir_core::time::Timestamp;

use crate::remote::{EntryKind, RemoteEntry};

/// Longest packet that is taken, without its length: what OpenSSH allows.
pub(super) const PACKET_BYTES_MAX: usize = 256 * 1024;

/// Longest handle, says the protocol.
pub(super) const HANDLE_BYTES_MAX: usize = 256;

/// Kinds of packets.
pub(super) mod kind {
    pub(in super::super) const INIT: u8 = 1;
    pub(in super::super) const VERSION: u8 = 2;
    pub(in super::super) const OPEN: u8 = 3;
    pub(in super::super) const CLOSE: u8 = 4;
    pub(in super::super) const READ: u8 = 5;
    pub(in super::super) const WRITE: u8 = 6;
    pub(in super::super) const LSTAT: u8 = 7;
    pub(in super::super) const FSTAT: u8 = 8;
    pub(in super::super) const SETSTAT: u8 = 9;
    pub(in super::super) const FSETSTAT: u8 = 10;
    pub(in super::super) const OPENDIR: u8 = 11;
    pub(in super::super) const READDIR: u8 = 12;
    pub(in super::super) const REMOVE: u8 = 13;
    pub(in super::super) const MKDIR: u8 = 14;
    pub(in super::super) const RMDIR: u8 = 15;
    pub(in super::super) const REALPATH: u8 = 16;
    pub(in super::super) const RENAME: u8 = 18;
    pub(in super::super) const READLINK: u8 = 19;
    pub(in super::super) const SYMLINK: u8 = 20;
    pub(in super::super) const STATUS: u8 = 101;
    pub(in super::super) const HANDLE: u8 = 102;
    pub(in super::super) const DATA: u8 = 103;
    pub(in super::super) const NAME: u8 = 104;
    pub(in super::super) const ATTRS: u8 = 105;
    pub(in super::super) const EXTENDED: u8 = 200;
    pub(in super::super) const EXTENDED_REPLY: u8 = 201;
}

/// Codes of a status.
pub(super) mod status {
    pub(in super::super) const OK: u32 = 0;
    pub(in super::super) const EOF: u32 = 1;
    pub(in super::super) const NO_SUCH_FILE: u32 = 2;
    pub(in super::super) const PERMISSION_DENIED: u32 = 3;
    pub(in super::super) const FAILURE: u32 = 4;
    pub(in super::super) const NO_CONNECTION: u32 = 6;
    pub(in super::super) const CONNECTION_LOST: u32 = 7;
    pub(in super::super) const OP_UNSUPPORTED: u32 = 8;
    // Of later versions, which some servers send all the same.
    pub(in super::super) const FILE_ALREADY_EXISTS: u32 = 11;
    pub(in super::super) const WRITE_PROTECT: u32 = 12;
    pub(in super::super) const NO_SPACE: u32 = 14;
    pub(in super::super) const QUOTA_EXCEEDED: u32 = 15;
}

/// How a file is opened.
pub(super) mod open_flags {
    pub(in super::super) const READ: u32 = 0x01;
    pub(in super::super) const WRITE: u32 = 0x02;
    pub(in super::super) const CREATE: u32 = 0x08;
    pub(in super::super) const EXCLUSIVE: u32 = 0x20;
}

const HAS_SIZE: u32 = 0x01;
const HAS_OWNER: u32 = 0x02;
const HAS_PERMISSIONS: u32 = 0x04;
const HAS_TIMES: u32 = 0x08;
const HAS_EXTENDED: u32 = 0x8000_0000;

/// What the peer sent is not a packet of the protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Malformed;

/// Writes a packet.
#[derive(Debug)]
pub(super) struct Packet<'b>(&'b mut Vec<u8>);

impl<'b> Packet<'b> {
    /// Starts a packet in a buffer that is reused.
    pub(super) fn new(buffer: &'b mut Vec<u8>, kind: u8, id: u32) -> Self {
        buffer.clear();
        buffer.extend_from_slice(&[0; 4]);
        buffer.push(kind);
        Self(buffer).u32(id)
    }

    pub(super) fn u32(self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn u64(self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// A string, of which the callers know that it is short.
    pub(super) fn string(self, bytes: &[u8]) -> Self {
        let packet = self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        packet.0.extend_from_slice(bytes);
        packet
    }

    /// Attributes: what is there of them.
    pub(super) fn attributes(
        self,
        owner: Option<(u32, u32)>,
        permissions: Option<u32>,
        mod_time: Option<Timestamp>,
    ) -> Self {
        let flag = |is_there: bool, flag: u32| if is_there { flag } else { 0 };
        let mut packet = self.u32(
            flag(owner.is_some(), HAS_OWNER)
                | flag(permissions.is_some(), HAS_PERMISSIONS)
                | flag(mod_time.is_some(), HAS_TIMES),
        );
        if let Some((uid, gid)) = owner {
            packet = packet.u32(uid).u32(gid);
        }
        if let Some(permissions) = permissions {
            packet = packet.u32(permissions & 0o7777);
        }
        if let Some(time) = mod_time {
            // Last access, and last change: seconds that end in 2106.
            let seconds = u32::try_from(time.secs.max(0)).unwrap_or(u32::MAX);
            packet = packet.u32(seconds).u32(seconds);
        }
        packet
    }

    /// The whole packet, with its length.
    pub(super) fn finish(self) -> &'b [u8] {
        let length = u32::try_from(self.0.len() - 4).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0
    }
}

/// Reads the fields of a packet.
#[derive(Clone, Debug)]
pub(super) struct Fields<'p>(pub(super) &'p [u8]);

impl<'p> Fields<'p> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_be_bytes)
    }

    pub(super) fn string(&mut self) -> Result<&'p [u8], Malformed> {
        let length = usize::try_from(self.u32()?).map_err(|_| Malformed)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Attributes, in the words of all connectors.
    pub(super) fn attributes(&mut self) -> Result<RemoteEntry, Malformed> {
        let flags = self.u32()?;
        let mut entry = RemoteEntry::default();
        if flags & HAS_SIZE != 0 {
            entry.size_bytes = Some(self.u64()?);
        }
        if flags & HAS_OWNER != 0 {
            (entry.uid, entry.gid) = (self.u32()?.into(), self.u32()?.into());
        }
        if flags & HAS_PERMISSIONS != 0 {
            let mode = self.u32()?;
            entry.kind = match mode & 0o170_000 {
                // Some servers give the rights alone.
                0o100_000 | 0 => EntryKind::File,
                0o040_000 => EntryKind::Directory,
                0o120_000 => EntryKind::SymbolicLink,
                _ => EntryKind::Other,
            };
            entry.permissions = Some(mode & 0o7777);
        }
        if flags & HAS_TIMES != 0 {
            let _accessed = self.u32()?;
            let secs = self.u32()?.into();
            entry.mod_time = Some(Timestamp { secs, nanos: 0 });
        }
        if flags & HAS_EXTENDED != 0 {
            // Each takes at least eight bytes, so a count that lies ends soon.
            for _ in 0..self.u32()? {
                self.string()?;
                self.string()?;
            }
        }
        Ok(entry)
    }

    /// Code and words of a status. Old servers send no words.
    pub(super) fn status(&mut self) -> Result<(u32, &'p [u8]), Malformed> {
        let code = self.u32()?;
        Ok((code, self.string().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_both_ways() {
        let mut buffer = vec![9; 100];
        let time = Timestamp { secs: 1_700_000_000, nanos: 5 };
        let packet = Packet::new(&mut buffer, kind::MKDIR, 7)
            .string(b"/a")
            .attributes(Some((1, 2)), Some(0o40_755), Some(time))
            .finish();
        assert_eq!(packet[..5], [0, 0, 0, 35, kind::MKDIR]);
        let mut fields = Fields(&packet[5..]);
        assert_eq!(fields.u32(), Ok(7));
        assert_eq!(fields.string(), Ok(&b"/a"[..]));
        let entry = fields.attributes().unwrap();
        assert_eq!((entry.uid, entry.gid, entry.permissions), (1, 2, Some(0o755)));
        assert_eq!(entry.mod_time.map(|time| time.secs), Some(1_700_000_000));
        assert!(fields.0.is_empty());
    }

    #[test]
    fn what_is_cut_or_lies_is_malformed() {
        assert_eq!(Fields(&[0, 0, 0]).u32(), Err(Malformed));
        assert_eq!(Fields(&[0xff; 8]).string(), Err(Malformed));
        assert_eq!(Fields(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]).attributes(), Err(Malformed));
        assert_eq!(Fields(&[0, 0, 0, 4]).status(), Ok((4, &b""[..])));
    }

    #[test]
    fn times_outside_of_the_protocol_end_at_its_bounds() {
        for (secs, wanted) in [(-5, 0), (1 << 40, i64::from(u32::MAX))] {
            let mut buffer = Vec::new();
            let time = Timestamp { secs, nanos: 0 };
            let packet = Packet::new(&mut buffer, 0, 0).attributes(None, None, Some(time)).finish();
            let entry = Fields(&packet[9..]).attributes().unwrap();
            assert_eq!(entry.mod_time.map(|time| time.secs), Some(wanted));
        }
    }
}
