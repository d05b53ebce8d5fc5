//! [`S3Exporter`]: restores into a bucket.
//!
//! As in stock, files become objects, and directories are nothing by themselves.
//! Mode, times and owner are kept beside an object, as `mode` (octal), `mtime`
//! (seconds), `uid` and `gid`: the names and forms of rclone, which
//! [`S3Importer`](super::S3Importer) reads with the option `metadata`. A further
//! name of a file is a copy that the server makes. Links, devices and extended
//! attributes have no place there, and are told as not made.
//!
//! An object above 64 MiB goes in parts, of which one at a time waits on the
//! disk of the spools. Its attributes are known at its end only, and are set by
//! having the server copy it onto itself; above 5 GiB no server does that, and
//! it has none.

use std::path::PathBuf;

use tiroir_core::exporter::Exporter;
use tiroir_core::host::{HostError as _, HostErrorKind};
use tiroir_core::time::Timestamp;
use tiroir_core::wire::file_info::FileInfo;
use tiroir_core::wire::mode;
use zeroize::Zeroizing;

use super::client::S3;
use super::place::KEY_BYTES_MAX;
use super::upload::{Headers, PARTS_FROM_BYTES, Parts, part_bytes};
use crate::address::Address;
use crate::error::{HostsError, Result};
use crate::options::Options;
use crate::rate::Limits;
use crate::staging::Staged;
use crate::warn::Warnings;

/// Longest object that a server copies at once, in bytes.
const COPY_BYTES_MAX: u64 = 5 << 30;

/// A file being written.
#[derive(Debug)]
struct NewFile {
    key: Vec<u8>,
    /// Length of a part, or of an object that goes at once.
    step: u64,
    parts: Option<Parts>,
    written_bytes: u64,
}

/// [`Exporter`] into a bucket.
///
/// Takes what [`Staged`] takes twice, and 64 KiB while it sends.
#[derive(Debug)]
pub struct S3Exporter {
    s3: S3,
    spool_directory: PathBuf,
    file: Option<NewFile>,
    staged: Staged,
    warnings: Warnings,
    warned_of_xattrs: bool,
}

impl S3Exporter {
    /// Restores into what an address and [`super::OPTIONS`] name. The bucket is
    /// made if there is none, as in stock. Files wait in `spool_directory`.
    ///
    /// # Errors
    ///
    /// Options that are not understood, and those of the server.
    pub fn open(
        address: &Address,
        options: &Options,
        spool_directory: impl Into<PathBuf>,
    ) -> Result<Self> {
        let spool_directory = spool_directory.into();
        let mut s3 = S3::new(address, options)?;
        let prefix = s3.place.prefix.clone();
        match s3.probe(&prefix) {
            Ok(_) => {}
            Err(error) if error.kind() == HostErrorKind::NotFound => {
                s3.make_bucket(&spool_directory, false)?;
            }
            // A key that may write and not list is enough.
            Err(error) if error.kind() == HostErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
        let staged = Staged::new(&spool_directory);
        let warnings = Warnings::default();
        Ok(Self { s3, spool_directory, file: None, staged, warnings, warned_of_xattrs: false })
    }

    /// With limits of how fast bytes move.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.s3.set_limits(limits);
        self
    }

    /// With a receiver of warnings.
    #[must_use]
    pub fn with_warnings(mut self, receiver: impl FnMut(&str) + Send + 'static) -> Self {
        self.warnings = Warnings::new(receiver);
        self
    }

    fn key(&self, operation: &'static str, path: &[u8]) -> Result<Vec<u8>> {
        let mut key = self.s3.place.key("");
        key.extend_from_slice(path);
        if path.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(self.rule(operation, path, "no key is empty, or longer than 1024 bytes"));
        }
        Ok(key)
    }

    fn rule(&self, operation: &'static str, path: &[u8], rule: &'static str) -> HostsError {
        let mut key = self.s3.place.key("");
        key.extend_from_slice(path);
        let shown = self.s3.place.shown(Some(&key));
        HostsError::rule(HostErrorKind::Other, operation, &shown, rule)
    }

    /// Sends what is staged as a part.
    fn send_part(&mut self) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let parts = match &mut file.parts {
            Some(parts) => parts,
            none => {
                let headers = headers(None);
                none.insert(self.s3.begin_parts(&file.key, &headers, &self.spool_directory)?)
            }
        };
        let whole = 0..self.staged.len();
        self.s3.add_part(parts, &self.staged, whole)?;
        self.staged.clear();
        Ok(())
    }

    fn finish(&mut self, info: Option<&FileInfo<'_>>) -> Result<()> {
        if self.file.as_ref().is_some_and(|file| file.parts.is_some()) && !self.staged.is_empty() {
            self.send_part()?;
        }
        let Some(mut file) = self.file.take() else {
            return Err(self.rule("finish", b"", NOT_BEGUN));
        };
        let headers = headers(info);
        match file.parts.take() {
            None => self.s3.put(&file.key, &headers, &self.staged)?,
            Some(parts) => {
                self.s3.complete_parts(parts)?;
                if info.is_some() && file.written_bytes <= COPY_BYTES_MAX {
                    self.s3.copy(&file.key, &file.key, Some(&headers))?;
                }
            }
        }
        Ok(())
    }
}

/// What is kept with an object.
fn headers(info: Option<&FileInfo<'_>>) -> Headers {
    let mut headers = Headers::new();
    let mut push = |name: &str, value: String| {
        headers.push((name.to_owned(), Zeroizing::new(value)));
    };
    push("Content-Type", "application/octet-stream".to_owned());
    if let Some(info) = info {
        let mode = mode::unix_permissions(info.mode) | 0o100_000;
        push("x-amz-meta-mode", format!("{mode:o}"));
        push("x-amz-meta-mtime", seconds(info.mod_time));
        push("x-amz-meta-uid", info.uid.to_string());
        push("x-amz-meta-gid", info.gid.to_string());
    }
    headers
}

/// Seconds since 1970, with a fraction.
fn seconds(time: Timestamp) -> String {
    let nanos = i128::from(time.secs) * 1_000_000_000 + i128::from(time.nanos);
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    format!("{sign}{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

/// Rule that an engine breaks when it does not begin a file.
const NOT_BEGUN: &str = "no file was begun";

impl Exporter for S3Exporter {
    type Error = HostsError;

    fn create_directory(&mut self, _path: &[u8]) -> Result<()> {
        Ok(())
    }

    fn begin_file(&mut self, path: &[u8], size_bytes: u64) -> Result<()> {
        self.abandon_file();
        let key = self.key("write", path)?;
        let step =
            if size_bytes > PARTS_FROM_BYTES { part_bytes(size_bytes) } else { PARTS_FROM_BYTES };
        self.file = Some(NewFile { key, step, parts: None, written_bytes: 0 });
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let Some(file) = &mut self.file else {
                return Err(self.rule("write", b"", NOT_BEGUN));
            };
            let room = usize::try_from(file.step - self.staged.len()).unwrap_or(usize::MAX);
            if room == 0 {
                self.send_part()?;
                continue;
            }
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.staged.write(now)?;
            file.written_bytes += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    fn set_xattr(&mut self, _path: &[u8], _name: &[u8], _value: &[u8]) -> Result<()> {
        if !std::mem::replace(&mut self.warned_of_xattrs, true) {
            self.warnings.warn("objects of S3 have no extended attributes: none are restored");
        }
        Ok(())
    }

    fn finish_file(&mut self, info: Option<&FileInfo<'_>>) -> Result<()> {
        let finished = self.finish(info);
        // Whatever is left of it.
        self.abandon_file();
        finished
    }

    fn abandon_file(&mut self) {
        if let Some(NewFile { parts: Some(parts), .. }) = self.file.take() {
            self.s3.abort_parts(&parts);
        }
        self.staged.clear();
    }

    fn symbolic_link(&mut self, path: &[u8], _target: &[u8]) -> Result<()> {
        Err(self.rule("make symbolic link", path, "no object is a link: it was not made"))
    }

    fn hard_link(&mut self, path: &[u8], original: &[u8]) -> Result<()> {
        let (from, to) = (self.key("copy", original)?, self.key("copy to", path)?);
        self.s3.copy(&from, &to, None)
    }

    fn special(&mut self, _path: &[u8], _info: &FileInfo<'_>) -> Result<bool> {
        Ok(false)
    }

    fn set_attributes(&mut self, _path: &[u8], _info: &FileInfo<'_>) -> Result<()> {
        // Of directories, which are nothing.
        Ok(())
    }
}

impl Drop for S3Exporter {
    fn drop(&mut self) {
        self.abandon_file();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_in_text() {
        let time = |secs, nanos| seconds(Timestamp { secs, nanos });
        assert_eq!(time(1_700_000_000, 120), "1700000000.000000120");
        assert_eq!(time(-2, 750_000_000), "-1.250000000");
        let info = FileInfo { mode: mode::SETUID | 0o754, uid: 1000, ..FileInfo::default() };
        let headers = headers(Some(&info));
        assert!(
            headers
                .iter()
                .any(|(name, value)| name == "x-amz-meta-mode" && value.as_str() == "104754")
        );
    }
}
