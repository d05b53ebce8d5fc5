//! [`StdinImporter`]: backs up what comes through a pipe, as one file.

use std::fmt;
use std::io::{self, Read};

use tiroir_core::host::HostErrorKind;
use tiroir_core::importer::{Attributes, Each, Importer};
use tiroir_core::time::Timestamp;
use tiroir_core::wire::mode;

use crate::env::now;
use crate::error::{Context as _, HostsError, Result};

/// [`Importer`] of standard input, or of any other stream: `stdin:NAME`.
///
/// As in stock, the root is `/`, the file has the mode 0644, its directories
/// 0755, nobody owns them, and they are as old as the importer.
pub struct StdinImporter<R = io::Stdin> {
    stream: R,
    /// Path of the file.
    path: Vec<u8>,
    origin: String,
    time: Timestamp,
    /// It was opened: there is no second time.
    taken: bool,
}

impl StdinImporter {
    /// Backs up standard input as a file of that name, which may have
    /// directories. An empty one becomes `stdin`.
    #[must_use]
    pub fn new(name: &[u8]) -> Self {
        Self::over(io::stdin(), name)
    }
}

impl<R: Read> StdinImporter<R> {
    /// Backs up any stream.
    pub fn over(stream: R, name: &[u8]) -> Self {
        Self {
            stream,
            path: clean(name),
            origin: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            time: now(),
            taken: false,
        }
    }

    /// The rest of the file's path below a directory, if it lies there.
    fn below(&self, directory: &[u8]) -> Option<&[u8]> {
        let directory = directory.strip_suffix(b"/").unwrap_or(directory);
        self.path.strip_prefix(directory)?.strip_prefix(b"/")
    }

    fn not_found(path: &[u8]) -> HostsError {
        let rule = "there is one file only";
        HostsError::rule(HostErrorKind::NotFound, "inspect", path, rule)
    }
}

/// An absolute path without `.` and `..`.
fn clean(name: &[u8]) -> Vec<u8> {
    let mut components: Vec<&[u8]> = Vec::new();
    for component in name.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => _ = components.pop(),
            other => components.push(other),
        }
    }
    if components.is_empty() {
        components.push(b"stdin");
    }
    components.iter().flat_map(|component| [b"/", *component].concat()).collect()
}

impl<R: Read> Importer for StdinImporter<R> {
    type Error = HostsError;

    fn kind(&self) -> &str {
        "stdin"
    }

    fn origin(&self) -> &str {
        &self.origin
    }

    fn root(&self) -> &[u8] {
        b"/"
    }

    fn list(&mut self, directory: &[u8], each: &mut Each<'_, HostsError>) -> Result<()> {
        let Some(rest) = self.below(directory) else { return Err(Self::not_found(directory)) };
        each(rest.split(|&byte| byte == b'/').next().unwrap_or_default(), &[])
    }

    fn stat(&mut self, path: &[u8], _hint: &[u8], into: &mut Attributes) -> Result<()> {
        *into = Attributes { mod_time: self.time, ..Attributes::default() };
        if path == self.path {
            // Stock records no names at all. One is the truth, and no restore
            // takes the file for a link of another.
            (into.mode, into.size, into.nlink) = (0o644, -1, 1);
        } else if self.below(path).is_some() {
            (into.mode, into.nlink) = (mode::DIRECTORY | 0o755, 1);
        } else {
            return Err(Self::not_found(path));
        }
        Ok(())
    }

    fn open(&mut self, path: &[u8], _expected: &Attributes) -> Result<()> {
        if path != self.path {
            return Err(Self::not_found(path));
        }
        if std::mem::replace(&mut self.taken, true) {
            let rule = "it was read before";
            return Err(HostsError::rule(HostErrorKind::Other, "open", path, rule));
        }
        Ok(())
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        loop {
            match self.stream.read(into) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.at_bytes("read", &self.path),
            }
        }
    }

    fn close(&mut self) {}

    fn xattr_names(&mut self, _path: &[u8], _into: &mut [u8]) -> Result<usize> {
        Ok(0)
    }

    fn xattr(&mut self, path: &[u8], _name: &[u8], _into: &mut [u8]) -> Result<usize> {
        Err(Self::not_found(path))
    }
}

impl<R> fmt::Debug for StdinImporter<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.escape_ascii();
        f.debug_struct("StdinImporter").field("path", &path.to_string()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_in_its_directories() {
        let mut importer = StdinImporter::over(&b"content"[..], b"dumps/./x/../db.sql");
        let mut attributes = Attributes::default();
        let mut path = Vec::new();
        for wanted in ["dumps", "db.sql"] {
            let directory = if path.is_empty() { b"/".to_vec() } else { path.clone() };
            importer.stat(&directory, &[], &mut attributes).unwrap();
            assert!(mode::is_directory(attributes.mode));
            let mut names = Vec::new();
            importer
                .list(&directory, &mut |name, _| {
                    names.push(name.to_vec());
                    Ok(())
                })
                .unwrap();
            assert_eq!(names, [wanted.as_bytes()]);
            path.push(b'/');
            path.extend_from_slice(wanted.as_bytes());
        }
        importer.stat(&path, &[], &mut attributes).unwrap();
        assert_eq!((attributes.mode, attributes.size), (0o644, -1));
        importer.open(&path, &attributes).unwrap();
        let mut into = [0; 20];
        assert_eq!(importer.read(&mut into).unwrap(), 7);
        assert_eq!(importer.read(&mut into).unwrap(), 0);
        assert!(!importer.changed().unwrap());
        importer.close();
        assert!(importer.open(&path, &attributes).is_err());
        assert!(importer.stat(b"/other", &[], &mut attributes).is_err());
        assert_eq!(StdinImporter::over(&b""[..], b"").path, b"/stdin");
    }
}
