//! [`Summary`]: statistics of a directory and of what lies below it.
//!
//! Section 11.7 of the format. The rules of the sums are stock's, including
//! the minimum that a zero resets, so that equal trees give equal summaries.

use super::mode;
use super::msgpack::{Reader, Writer};
use crate::error::FormatError;

/// Numbers over a set of entries.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Directories.
    pub directories: u64,
    /// Regular files.
    pub files: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Devices.
    pub devices: u64,
    /// Named pipes.
    pub pipes: u64,
    /// Sockets.
    pub sockets: u64,
    /// Entries of every kind.
    pub children: u64,
    /// Entries with the setuid bit.
    pub setuid: u64,
    /// Entries with the setgid bit.
    pub setgid: u64,
    /// Entries with the sticky bit.
    pub sticky: u64,
    /// Entries with an object.
    pub objects: u64,
    /// Chunks of those objects.
    pub chunks: u64,
    /// Smallest size in bytes.
    pub min_size: u64,
    /// Largest size in bytes.
    pub max_size: u64,
    /// Mean size in bytes, of the directory alone.
    pub avg_size: u64,
    /// Sum of sizes in bytes.
    pub size: u64,
    /// Oldest change, in seconds since 1970.
    pub min_mod_time: i64,
    /// Newest change, in seconds since 1970.
    pub max_mod_time: i64,
    /// Smallest entropy in bits per byte.
    pub min_entropy: f64,
    /// Largest entropy.
    pub max_entropy: f64,
    /// Sum of entropies, of the directory alone.
    pub sum_entropy: f64,
    /// Mean entropy, of the directory alone.
    pub avg_entropy: f64,
    /// Entries of entropy 7 or more.
    pub hi_entropy: u64,
    /// Entries of entropy 2 or less.
    pub lo_entropy: u64,
    /// Entries by content type: audio, video, image, text, application, other.
    pub mime: [u64; 6],
    /// Entries that could not be read.
    pub errors: u64,
}

/// Statistics of a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// Over its own entries.
    pub directory: Counts,
    /// Over everything below its directories.
    pub below: Counts,
}

/// A field of [`Counts`] by its name in the record.
enum Field<'c> {
    Count(&'c mut u64),
    Seconds(&'c mut i64),
    Entropy(&'c mut f64),
}

/// What of an entry is counted.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'b> {
    /// Go's `FileMode`.
    pub mode: u32,
    /// Size in bytes.
    pub size: i64,
    /// Last change, in seconds since 1970.
    pub mod_time_secs: i64,
    /// Number of chunks, if it has an object.
    pub chunks: Option<u64>,
    /// Entropy in bits per byte.
    pub entropy: f64,
    /// Content type.
    pub content_type: &'b [u8],
}

/// Adds as Go does. What is added may come from an older snapshot, where any
/// number may stand.
fn add(count: &mut u64, more: u64) {
    *count = count.wrapping_add(more);
}

/// Number of the fields of a [`Counts`].
const FIELDS: usize = 31;

impl Counts {
    /// The fields in the order of the record.
    fn fields(&mut self) -> [(&'static str, Field<'_>); FIELDS] {
        use Field::{Count, Entropy, Seconds};
        let [audio, video, image, text, application, other] = &mut self.mime;
        [
            ("directories", Count(&mut self.directories)),
            ("files", Count(&mut self.files)),
            ("symlinks", Count(&mut self.symlinks)),
            ("devices", Count(&mut self.devices)),
            ("pipes", Count(&mut self.pipes)),
            ("sockets", Count(&mut self.sockets)),
            ("children", Count(&mut self.children)),
            ("setuid", Count(&mut self.setuid)),
            ("setgid", Count(&mut self.setgid)),
            ("sticky", Count(&mut self.sticky)),
            ("objects", Count(&mut self.objects)),
            ("chunks", Count(&mut self.chunks)),
            ("min_size", Count(&mut self.min_size)),
            ("max_size", Count(&mut self.max_size)),
            ("avg_size", Count(&mut self.avg_size)),
            ("size", Count(&mut self.size)),
            ("min_mod_time", Seconds(&mut self.min_mod_time)),
            ("max_mod_time", Seconds(&mut self.max_mod_time)),
            ("min_entropy", Entropy(&mut self.min_entropy)),
            ("max_entropy", Entropy(&mut self.max_entropy)),
            ("sum_entropy", Entropy(&mut self.sum_entropy)),
            ("avg_entropy", Entropy(&mut self.avg_entropy)),
            ("hi_entropy", Count(&mut self.hi_entropy)),
            ("lo_entropy", Count(&mut self.lo_entropy)),
            ("MIME_audio", Count(audio)),
            ("MIME_video", Count(video)),
            ("MIME_image", Count(image)),
            ("MIME_text", Count(text)),
            ("MIME_application", Count(application)),
            ("MIME_other", Count(other)),
            ("errors", Count(&mut self.errors)),
        ]
    }

    /// Writes the map; `always` is the one field that is never left out.
    fn emit(mut self, always: Option<&str>, w: &mut Writer<'_>) {
        let fields = self.fields();
        let present = |name: &str, field: &Field<'_>| {
            Some(name) == always
                || match field {
                    Field::Count(value) => **value != 0,
                    Field::Seconds(value) => **value != 0,
                    Field::Entropy(value) => **value != 0.0,
                }
        };
        w.map(fields.iter().filter(|(name, field)| present(name, field)).count());
        for (name, field) in fields.iter().filter(|(name, field)| present(name, field)) {
            w.key(name);
            match field {
                Field::Count(value) => w.u64(**value),
                Field::Seconds(value) => w.i64(**value),
                Field::Entropy(value) => w.f64(**value),
            }
        }
    }

    fn parse(reader: &mut Reader<'_>) -> Result<Self, FormatError> {
        let mut counts = Self::default();
        reader.fields(|key, value| {
            for (name, field) in counts.fields() {
                if name.as_bytes() == key {
                    match field {
                        Field::Count(count) => *count = value.u64()?,
                        Field::Seconds(seconds) => *seconds = value.i64()?,
                        Field::Entropy(entropy) => *entropy = value.f64()?,
                    }
                    return Ok(true);
                }
            }
            Ok(false)
        })?;
        Ok(counts)
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes the smaller minimum and the larger maximum; zero means "none yet".
    fn merge_bounds(&mut self, other: &Self) {
        fn smaller<T: PartialOrd + Default + Copy>(mine: &mut T, theirs: T) {
            if *mine == T::default() || theirs < *mine {
                *mine = theirs;
            }
        }
        fn larger<T: PartialOrd + Default + Copy>(mine: &mut T, theirs: T) {
            if *mine == T::default() || theirs > *mine {
                *mine = theirs;
            }
        }
        smaller(&mut self.min_size, other.min_size);
        larger(&mut self.max_size, other.max_size);
        smaller(&mut self.min_mod_time, other.min_mod_time);
        larger(&mut self.max_mod_time, other.max_mod_time);
        smaller(&mut self.min_entropy, other.min_entropy);
        larger(&mut self.max_entropy, other.max_entropy);
    }

    /// Adds everything that adds up.
    fn merge_sums(&mut self, other: &Self) {
        let pairs: [(&mut u64, u64); 15] = [
            (&mut self.directories, other.directories),
            (&mut self.files, other.files),
            (&mut self.symlinks, other.symlinks),
            (&mut self.devices, other.devices),
            (&mut self.pipes, other.pipes),
            (&mut self.sockets, other.sockets),
            (&mut self.children, other.children),
            (&mut self.setuid, other.setuid),
            (&mut self.setgid, other.setgid),
            (&mut self.sticky, other.sticky),
            (&mut self.objects, other.objects),
            (&mut self.chunks, other.chunks),
            (&mut self.size, other.size),
            (&mut self.hi_entropy, other.hi_entropy),
            (&mut self.lo_entropy, other.lo_entropy),
        ];
        for (mine, theirs) in pairs {
            add(mine, theirs);
        }
        for (mine, theirs) in self.mime.iter_mut().zip(other.mime) {
            add(mine, theirs);
        }
        add(&mut self.errors, other.errors);
    }
}

impl Summary {
    /// Counts a child that is no directory.
    pub fn add_file(&mut self, entry: &Counted<'_>) {
        let counts = &mut self.directory;
        add(&mut counts.children, 1);
        let kind = match entry.mode {
            m if m & mode::SYMLINK != 0 => &mut counts.symlinks,
            m if m & mode::DEVICE != 0 => &mut counts.devices,
            m if m & mode::PIPE != 0 => &mut counts.pipes,
            m if m & mode::SOCKET != 0 => &mut counts.sockets,
            _ => &mut counts.files,
        };
        add(kind, 1);
        add(&mut counts.setuid, u64::from(entry.mode & mode::SETUID != 0));
        add(&mut counts.setgid, u64::from(entry.mode & mode::SETGID != 0));
        add(&mut counts.sticky, u64::from(entry.mode & mode::STICKY != 0));
        if let Some(chunks) = entry.chunks {
            add(&mut counts.objects, 1);
            add(&mut counts.chunks, chunks);
        }
        let size = entry.size.cast_unsigned();
        counts.merge_bounds(&Counts {
            min_size: size,
            max_size: size,
            min_mod_time: entry.mod_time_secs,
            max_mod_time: entry.mod_time_secs,
            min_entropy: entry.entropy,
            max_entropy: entry.entropy,
            ..Counts::default()
        });
        add(&mut counts.size, size);
        counts.sum_entropy += entry.entropy;
        add(&mut counts.lo_entropy, u64::from(entry.entropy <= 2.0));
        add(&mut counts.hi_entropy, u64::from(entry.entropy >= 7.0));
        let starts = |prefix: &[u8]| entry.content_type.starts_with(prefix);
        let group = match () {
            () if starts(b"audio/") => 0,
            () if starts(b"video/") => 1,
            () if starts(b"image/") => 2,
            () if starts(b"text/") => 3,
            () if starts(b"application/") => 4,
            () => 5,
        };
        add(&mut counts.mime[group], 1);
    }

    /// Counts a child that is a directory, whose own summary is complete.
    pub fn add_directory(&mut self, child: &Self) {
        add(&mut self.directory.children, 1);
        add(&mut self.directory.directories, 1);
        self.below.merge_sums(&child.below);
        self.below.merge_sums(&child.directory);
        self.below.merge_bounds(&child.below);
        self.below.merge_bounds(&child.directory);
    }

    /// Counts children that could not be read.
    pub fn add_errors(&mut self, errors: u64) {
        add(&mut self.below.errors, errors);
    }

    /// Computes the means, once everything is counted.
    #[expect(clippy::cast_precision_loss, reason = "as stock computes it")]
    pub fn finish(&mut self) {
        if let Some(mean) = self.directory.size.checked_div(self.directory.files) {
            self.directory.avg_size = mean;
            self.directory.avg_entropy = self.directory.sum_entropy / self.directory.files as f64;
        }
    }

    /// Sum of the sizes of all files, in bytes.
    #[must_use]
    pub fn total_size_bytes(&self) -> u64 {
        self.directory.size.wrapping_add(self.below.size)
    }

    /// Number of all entries that could not be read.
    #[must_use]
    pub fn total_errors(&self) -> u64 {
        self.directory.errors.wrapping_add(self.below.errors)
    }

    /// Writes the summary.
    pub fn emit(&self, w: &mut Writer<'_>) {
        let has_directory = !self.directory.is_empty();
        w.map(1 + usize::from(has_directory));
        if has_directory {
            w.key("directory");
            self.directory.emit(None, w);
        }
        w.key("below");
        self.below.emit(Some("errors"), w);
    }

    /// Reads a summary that is a value in a record.
    ///
    /// # Errors
    ///
    /// [`FormatError`] for what is no summary.
    pub fn parse_value(reader: &mut Reader<'_>) -> Result<Self, FormatError> {
        let mut summary = Self::default();
        reader.fields(|key, value| {
            match key {
                b"directory" => summary.directory = Counts::parse(value)?,
                b"below" => summary.below = Counts::parse(value)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(summary)
    }

    /// Reads a summary that is a blob.
    ///
    /// # Errors
    ///
    /// [`FormatError`] for what is no summary.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        Self::parse_value(&mut Reader::new(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smallest() {
        let mut space = [0; 64];
        let mut writer = Writer::new(&mut space);
        Summary::default().emit(&mut writer);
        let bytes = writer.finish().unwrap();
        let mut wanted = std::vec![0x81, 0xa5];
        wanted.extend_from_slice(b"below\x81\xa6errors\xcf\0\0\0\0\0\0\0\0");
        assert_eq!(bytes, wanted);
        assert_eq!(Summary::parse(bytes), Ok(Summary::default()));
    }

    /// The number of chunks is that of an older entry, if the file is the same.
    #[test]
    fn numbers_of_others_may_be_any() {
        let file = Counted {
            mode: 0o644,
            size: -1,
            mod_time_secs: i64::MIN,
            chunks: Some(u64::MAX),
            entropy: f64::NAN,
            content_type: b"",
        };
        let mut summary = Summary::default();
        summary.add_file(&file);
        summary.add_file(&file);
        assert_eq!((summary.directory.files, summary.directory.chunks), (2, u64::MAX - 1));
        let mut parent = Summary::default();
        for _ in 0..2 {
            parent.add_directory(&summary);
            parent.add_errors(u64::MAX);
        }
        parent.finish();
        assert_eq!(parent.total_errors(), u64::MAX - 1);
    }

    #[test]
    fn sums_and_bounds() {
        let file = |size, entropy| Counted {
            mode: 0o644,
            size,
            mod_time_secs: 5,
            chunks: Some(2),
            entropy,
            content_type: b"text/plain",
        };
        let mut child = Summary::default();
        child.add_file(&file(10, 7.5));
        child.add_file(&file(30, 1.0));
        child.finish();
        assert_eq!(child.directory.avg_size, 20);
        let mut parent = Summary::default();
        parent.add_directory(&child);
        parent.add_errors(3);
        parent.finish();
        assert_eq!((parent.below.files, parent.below.chunks, parent.below.mime[3]), (2, 4, 2));
        assert_eq!((parent.below.min_size, parent.below.max_size), (10, 30));
        assert_eq!((parent.below.hi_entropy, parent.below.lo_entropy), (1, 1));
        assert_eq!((parent.total_size_bytes(), parent.total_errors()), (40, 3));
        let mut space = [0; 1024];
        let mut writer = Writer::new(&mut space);
        parent.emit(&mut writer);
        assert_eq!(Summary::parse(writer.finish().unwrap()), Ok(parent));
    }
}
