//! [`TarExporter`]: writes what is restored as a tar archive, in one pass.
//!
//! The format is pax (POSIX.1-2001), with extended attributes as star, GNU tar and
//! libarchive have them. Directories come before what is in them, and hard links
//! after the file that they are further names of. Nothing of a file is held but the
//! chunk at hand: its length comes from the snapshot, and an archive that has begun
//! a file can only go on with the rest of it. So a file that turns out to be
//! damaged ends the archive, without the blocks that mark an end, and whoever reads
//! it sees that it was cut off; one whose first chunk is damaged is left out.

mod header;

use std::fmt;
use std::io::{self, Write};

use tiroir_core::exporter::Exporter;
use tiroir_core::host::HostErrorKind;
use tiroir_core::time::Timestamp;
use tiroir_core::wire::file_info::FileInfo;
use tiroir_core::wire::mode;

use self::header::{BLOCK_BYTES, Header, Kind, pad, xattr_record};
use crate::env::now;
use crate::error::{HostsError, Result};

/// Most bytes of extended attributes of one entry.
const XATTR_BYTES_MAX: usize = 1 << 20;

/// Archives end at a multiple of this, as those of others do.
const RECORD_BYTES: u64 = 20 * BLOCK_BYTES as u64;

/// What the next entry is said to be.
#[derive(Debug, Default)]
struct Announced {
    permissions: u32,
    mod_time: Timestamp,
    uid: u64,
    gid: u64,
    username: Vec<u8>,
    groupname: Vec<u8>,
    /// Records of pax.
    xattrs: Vec<u8>,
}

/// A file being written.
#[derive(Debug)]
struct Begun {
    path: Vec<u8>,
    size_bytes: u64,
    left_bytes: u64,
    /// Its header was written.
    is_started: bool,
}

/// Writes a tar archive to a stream. Takes up to a mebibyte for the extended
/// attributes of one entry, and else next to nothing.
pub struct TarExporter<W> {
    out: W,
    /// What stands before every path, with a slash at its end, or nothing.
    prefix: Vec<u8>,
    written_bytes: u64,
    announced: Announced,
    file: Option<Begun>,
    /// What goes out at once.
    head: Vec<u8>,
    is_over: bool,
    /// Why the stream takes nothing more.
    stream_error: Option<io::Error>,
    skip_permissions: bool,
    started: Timestamp,
}

impl<W> fmt::Debug for TarExporter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TarExporter")
            .field("written_bytes", &self.written_bytes)
            .finish_non_exhaustive()
    }
}

impl<W: Write> TarExporter<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self {
            out,
            prefix: Vec::new(),
            written_bytes: 0,
            announced: Announced::default(),
            file: None,
            head: Vec::new(),
            is_over: false,
            stream_error: None,
            skip_permissions: false,
            started: now(),
        }
    }

    /// With a path before all others, of which slashes at the ends count for nothing.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &[u8]) -> Self {
        let names = prefix.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        self.prefix = names.flat_map(|name| [name, b"/"].concat()).collect();
        self
    }

    /// Without owners, modes and times of the snapshot: 0750 for directories and
    /// 0640 for the rest, as in stock, of root and of now.
    #[must_use]
    pub fn with_skip_permissions(mut self, skip: bool) -> Self {
        self.skip_permissions = skip;
        self
    }

    /// Why the stream takes nothing more, once.
    pub fn take_stream_error(&mut self) -> Option<io::Error> {
        self.stream_error.take()
    }

    /// Path of the file that cannot be finished, if that is why nothing more can be
    /// written.
    #[must_use]
    pub fn broken_file(&self) -> Option<&[u8]> {
        self.file.as_ref().filter(|_| self.is_over).map(|file| &file.path[..])
    }

    /// The stream, which is not flushed.
    pub fn into_stream(self) -> W {
        self.out
    }

    /// Ends the archive.
    ///
    /// # Errors
    ///
    /// Of the stream.
    pub fn finish(&mut self) -> Result<()> {
        let end = self.written_bytes + 2 * BLOCK_BYTES as u64;
        let mut left = end.next_multiple_of(RECORD_BYTES) - self.written_bytes;
        while left > 0 {
            let step = left.min(BLOCK_BYTES as u64);
            self.send(&[0; BLOCK_BYTES][..usize::try_from(step).unwrap_or(BLOCK_BYTES)])?;
            left -= step;
        }
        Ok(())
    }

    /// Writes bytes. When that failed, nothing can be written any more.
    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.written_bytes += bytes.len() as u64;
        self.out.write_all(bytes).map_err(|error| {
            self.is_over = true;
            self.stream_error = Some(error);
            HostsError::rule(HostErrorKind::Other, "write the archive", b"", "its reader is gone")
        })
    }

    /// Writes the header of an entry.
    fn entry(&mut self, kind: Kind, path: &[u8], target: &[u8], size_bytes: u64) -> Result<()> {
        let path = &self.path_of(path)[..];
        let announced = &self.announced;
        // A link has those of its file.
        let xattrs = if kind == Kind::HardLink { &[][..] } else { &announced.xattrs[..] };
        let mut header = Header {
            kind,
            path,
            target,
            size_bytes,
            permissions: announced.permissions,
            mod_time: announced.mod_time,
            uid: announced.uid,
            gid: announced.gid,
            username: &announced.username,
            groupname: &announced.groupname,
        };
        if self.skip_permissions {
            header.permissions = if kind == Kind::Directory { 0o750 } else { 0o640 };
            header.mod_time = self.started;
            (header.uid, header.gid) = (0, 0);
            (header.username, header.groupname) = (&[], &[]);
        }
        let mut head = std::mem::take(&mut self.head);
        head.clear();
        header.emit(xattrs, &mut head);
        let sent = self.send(&head);
        self.head = head;
        sent
    }

    /// A path as the archive has it.
    fn path_of(&self, path: &[u8]) -> Vec<u8> {
        match (&self.prefix[..], path) {
            (b"", b"/") => b"./".to_vec(),
            (prefix, b"/") => prefix.to_vec(),
            (prefix, path) => [prefix, path].concat(),
        }
    }

    /// Writes the header of the file that was begun, if it was not written.
    fn start_file(&mut self) -> Result<()> {
        let Some(mut file) = self.file.take() else { return Err(no_file()) };
        let started = if file.is_started {
            Ok(())
        } else {
            self.entry(Kind::File, &file.path, &[], file.size_bytes)
        };
        file.is_started = true;
        self.file = Some(file);
        started
    }
}

impl<W: Write> Exporter for TarExporter<W> {
    type Error = HostsError;

    fn is_stream(&self) -> bool {
        true
    }

    fn is_over(&self) -> bool {
        self.is_over
    }

    fn announce(&mut self, _path: &[u8], info: &FileInfo<'_>) -> Result<()> {
        let announced = &mut self.announced;
        announced.permissions = mode::unix_permissions(info.mode);
        announced.mod_time = info.mod_time;
        (announced.uid, announced.gid) = (info.uid, info.gid);
        for (to, from) in
            [(&mut announced.username, info.username), (&mut announced.groupname, info.groupname)]
        {
            to.clear();
            to.extend_from_slice(from);
        }
        announced.xattrs.clear();
        Ok(())
    }

    fn create_directory(&mut self, path: &[u8]) -> Result<()> {
        self.entry(Kind::Directory, &[path, b"/"].concat(), &[], 0)
    }

    fn begin_file(&mut self, path: &[u8], size_bytes: u64) -> Result<()> {
        let (path, left_bytes) = (path.to_vec(), size_bytes);
        self.file = Some(Begun { path, size_bytes, left_bytes, is_started: false });
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(file) = &mut self.file else { return Err(no_file()) };
        let Some(left_bytes) = file.left_bytes.checked_sub(bytes.len() as u64) else {
            return Err(wrong_length(&file.path));
        };
        file.left_bytes = left_bytes;
        self.start_file()?;
        self.send(bytes)
    }

    fn set_xattr(&mut self, path: &[u8], name: &[u8], value: &[u8]) -> Result<()> {
        let xattrs = &mut self.announced.xattrs;
        if xattrs.len() + name.len() + value.len() > XATTR_BYTES_MAX {
            let rule = "its extended attributes take more than 1 MiB";
            return Err(HostsError::rule(HostErrorKind::Other, "archive", path, rule));
        }
        xattr_record(xattrs, name, value);
        Ok(())
    }

    fn finish_file(&mut self, _info: Option<&FileInfo<'_>>) -> Result<()> {
        let Some(file) = &self.file else { return Err(no_file()) };
        if file.left_bytes > 0 {
            return Err(wrong_length(&file.path));
        }
        let size_bytes = file.size_bytes;
        self.start_file()?;
        let mut padding = vec![0; usize::try_from(size_bytes % BLOCK_BYTES as u64).unwrap_or(0)];
        let content = padding.len();
        pad(&mut padding);
        self.send(&padding[content..])?;
        self.file = None;
        Ok(())
    }

    fn abandon_file(&mut self) {
        if self.file.as_ref().is_some_and(|file| file.is_started) {
            self.is_over = true;
        } else {
            self.file = None;
        }
    }

    fn symbolic_link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        self.entry(Kind::SymbolicLink, path, target, 0)
    }

    fn hard_link(&mut self, path: &[u8], original: &[u8]) -> Result<()> {
        let original = self.path_of(original);
        self.entry(Kind::HardLink, path, &original, 0)
    }

    fn special(&mut self, path: &[u8], info: &FileInfo<'_>) -> Result<bool> {
        // Archives have no sockets, and snapshots no numbers of devices.
        if info.mode & mode::PIPE == 0 {
            return Ok(false);
        }
        self.entry(Kind::Fifo, path, &[], 0)?;
        Ok(true)
    }

    fn set_attributes(&mut self, _path: &[u8], _info: &FileInfo<'_>) -> Result<()> {
        // The header had them.
        Ok(())
    }
}

fn no_file() -> HostsError {
    HostsError::rule(HostErrorKind::Other, "write the archive", b"", "no file was begun")
}

fn wrong_length(path: &[u8]) -> HostsError {
    let rule = "its content is not as long as the snapshot says";
    HostsError::rule(HostErrorKind::Other, "archive", path, rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, and then nothing more.
    struct Pipe(usize);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.0.min(bytes.len()) {
                0 => Err(io::ErrorKind::BrokenPipe.into()),
                taken => {
                    self.0 -= taken;
                    Ok(taken)
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn info() -> FileInfo<'static> {
        FileInfo { mode: 0o640, uid: 1000, gid: 1 << 22, username: b"me", ..FileInfo::default() }
    }

    fn contains(bytes: &[u8], text: &[u8]) -> bool {
        bytes.windows(text.len()).any(|part| part == text)
    }

    #[test]
    fn lengths_and_numbers_of_any_size() {
        let mut exporter = TarExporter::new(Vec::new());
        exporter.announce(b"large", &info()).unwrap();
        exporter.begin_file(b"large", 9 << 30).unwrap();
        exporter.write(b"start").unwrap();
        let archive = exporter.into_stream();
        assert!(contains(&archive, b"19 size=9663676416\n"), "{}", archive.escape_ascii());
        assert!(contains(&archive, b"15 gid=4194304\n"));
        // The block of ustar has zeros there, and its own owner.
        let block = &archive[1024..1536];
        assert_eq!(&block[124..136], b"00000000000\0");
        assert_eq!(&block[108..116], b"0001750\0");
        assert_eq!(&block[265..268], b"me\0");
    }

    #[test]
    fn a_file_is_as_long_as_it_was_said() {
        let mut exporter = TarExporter::new(Vec::new());
        for content in [&b"longer"[..], b"x"] {
            exporter.announce(b"f", &info()).unwrap();
            exporter.begin_file(b"f", 5).unwrap();
            let written = exporter.write(content).and_then(|()| exporter.finish_file(None));
            assert!(written.unwrap_err().to_string().contains("not as long"));
            exporter.abandon_file();
            // Nothing of the first was written yet: others may follow.
            assert_eq!(exporter.is_over(), content == b"x");
        }
        assert_eq!(exporter.broken_file(), Some(&b"f"[..]));
        assert!(exporter.take_stream_error().is_none());
    }

    #[test]
    fn what_was_not_begun_is_left_out() {
        let mut exporter = TarExporter::new(Vec::new());
        exporter.announce(b"bad", &info()).unwrap();
        exporter.begin_file(b"bad", 5).unwrap();
        exporter.abandon_file();
        exporter.announce(b"empty", &info()).unwrap();
        exporter.begin_file(b"empty", 0).unwrap();
        exporter.finish_file(None).unwrap();
        exporter.finish().unwrap();
        assert!(!exporter.is_over());
        let archive = exporter.into_stream();
        assert_eq!(archive.len(), 10_240);
        assert!(contains(&archive, b"empty") && !contains(&archive, b"bad"));
    }

    #[test]
    fn a_reader_that_goes_away() {
        let mut exporter = TarExporter::new(Pipe(600));
        exporter.announce(b"d", &info()).unwrap();
        assert!(exporter.create_directory(b"d").is_err());
        assert!(exporter.is_over() && exporter.broken_file().is_none());
        let error = exporter.take_stream_error().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn attributes_are_bounded() {
        let mut exporter = TarExporter::new(io::sink());
        exporter.announce(b"f", &info()).unwrap();
        let value = vec![0; 64 << 10];
        let set = (0..100).filter(|_| exporter.set_xattr(b"f", b"user.x", &value).is_ok()).count();
        assert_eq!(set, 15);
        exporter.announce(b"g", &info()).unwrap();
        exporter.set_xattr(b"g", b"user.x", &value).unwrap();
    }
}
