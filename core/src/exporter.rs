//! [`Exporter`]: where a restore writes to.

use crate::host::HostError;
use crate::wire::file_info::FileInfo;

/// Writes what is restored.
///
/// Paths are relative to the target, clean and separated by `/`: never empty,
/// absolute, or with a component `.` or `..`. The target itself is the empty
/// path. An exporter never follows a symbolic link that stands below the
/// target.
pub trait Exporter {
    /// The connector's own error, kept whole.
    type Error: HostError;

    /// Whether [`hard_link`](Self::hard_link) can be done here. If not, every name
    /// of a file becomes a file of its own. It may turn out only when the first one
    /// fails.
    fn has_hard_links(&self) -> bool {
        true
    }

    /// Whether this is a stream, which takes the attributes of an entry before the
    /// entry itself, and nothing twice: see [`announce`](Self::announce).
    fn is_stream(&self) -> bool {
        false
    }

    /// Whether nothing can be written any more. Asked after a failure, which then
    /// ends the work.
    fn is_over(&self) -> bool {
        false
    }

    /// Tells a stream of the entry that comes next: then its extended attributes
    /// are set, and then it is made. Called for nothing else.
    ///
    /// # Errors
    ///
    /// The connector's.
    fn announce(&mut self, path: &[u8], info: &FileInfo<'_>) -> Result<(), Self::Error> {
        let _ = (path, info);
        Ok(())
    }

    /// Makes a directory, with rights for us alone until
    /// [`set_attributes`](Self::set_attributes). One that is there is kept.
    ///
    /// # Errors
    ///
    /// The connector's.
    fn create_directory(&mut self, path: &[u8]) -> Result<(), Self::Error>;

    /// Starts a regular file; what is written appears under its name when
    /// [`finish_file`](Self::finish_file) returns. One at a time.
    ///
    /// # Errors
    ///
    /// The connector's.
    fn begin_file(&mut self, path: &[u8], size_bytes: u64) -> Result<(), Self::Error>;

    /// Appends to the file that was begun.
    ///
    /// # Errors
    ///
    /// The connector's.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Adds an extended attribute to the file that was begun, or to `path` if
    /// none is.
    ///
    /// # Errors
    ///
    /// The connector's.
    fn set_xattr(&mut self, path: &[u8], name: &[u8], value: &[u8]) -> Result<(), Self::Error>;

    /// Gives the file that was begun its attributes, if any, and its name.
    ///
    /// # Errors
    ///
    /// The connector's.
    fn finish_file(&mut self, info: Option<&FileInfo<'_>>) -> Result<(), Self::Error>;

    /// Tells of files whose [`finish_file`](Self::finish_file) returned before they
    /// were finished, and which could not be: by path, once each. With `wait`, all
    /// that was finished until now is there, or told of, when this returns. An
    /// exporter that finishes files at once has nothing to tell.
    ///
    /// # Errors
    ///
    /// The connector's, where nothing more can be done at all.
    fn failures(
        &mut self,
        wait: bool,
        each: &mut dyn FnMut(&[u8], Self::Error),
    ) -> Result<(), Self::Error> {
        let _ = (wait, each);
        Ok(())
    }

    /// Forgets the file that was begun.
    fn abandon_file(&mut self);

    /// Makes a symbolic link.
    ///
    /// # Errors
    ///
    /// The connector's.
    fn symbolic_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), Self::Error>;

    /// Makes `path` a further name of `original`, which this restore made.
    ///
    /// # Errors
    ///
    /// The connector's.
    fn hard_link(&mut self, path: &[u8], original: &[u8]) -> Result<(), Self::Error>;

    /// Makes a fifo, a socket or a device, as its mode says. Returns whether
    /// it was made: devices need rights that a user lacks.
    ///
    /// # Errors
    ///
    /// The connector's.
    fn special(&mut self, path: &[u8], info: &FileInfo<'_>) -> Result<bool, Self::Error>;

    /// Gives an entry that is no regular file its owner, mode and times, as far
    /// as it may.
    ///
    /// # Errors
    ///
    /// The connector's.
    fn set_attributes(&mut self, path: &[u8], info: &FileInfo<'_>) -> Result<(), Self::Error>;
}

/// What lends an exporter is one, as with
/// [`Importer`](crate::importer::Importer).
impl<X: Exporter + ?Sized> Exporter for &mut X {
    type Error = X::Error;

    fn is_stream(&self) -> bool {
        (**self).is_stream()
    }

    fn is_over(&self) -> bool {
        (**self).is_over()
    }

    fn announce(&mut self, path: &[u8], info: &FileInfo<'_>) -> Result<(), Self::Error> {
        (**self).announce(path, info)
    }

    fn failures(
        &mut self,
        wait: bool,
        each: &mut dyn FnMut(&[u8], Self::Error),
    ) -> Result<(), Self::Error> {
        (**self).failures(wait, each)
    }

    fn has_hard_links(&self) -> bool {
        (**self).has_hard_links()
    }

    fn create_directory(&mut self, path: &[u8]) -> Result<(), Self::Error> {
        (**self).create_directory(path)
    }

    fn begin_file(&mut self, path: &[u8], size_bytes: u64) -> Result<(), Self::Error> {
        (**self).begin_file(path, size_bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        (**self).write(bytes)
    }

    fn set_xattr(&mut self, path: &[u8], name: &[u8], value: &[u8]) -> Result<(), Self::Error> {
        (**self).set_xattr(path, name, value)
    }

    fn finish_file(&mut self, info: Option<&FileInfo<'_>>) -> Result<(), Self::Error> {
        (**self).finish_file(info)
    }

    fn abandon_file(&mut self) {
        (**self).abandon_file();
    }

    fn symbolic_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), Self::Error> {
        (**self).symbolic_link(path, target)
    }

    fn hard_link(&mut self, path: &[u8], original: &[u8]) -> Result<(), Self::Error> {
        (**self).hard_link(path, original)
    }

    fn special(&mut self, path: &[u8], info: &FileInfo<'_>) -> Result<bool, Self::Error> {
        (**self).special(path, info)
    }

    fn set_attributes(&mut self, path: &[u8], info: &FileInfo<'_>) -> Result<(), Self::Error> {
        (**self).set_attributes(path, info)
    }
}
