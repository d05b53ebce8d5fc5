//! [`Header`]: what a snapshot is. Section 11.1 of the format.

use super::list::List;
use super::msgpack::{Reader, Writer};
use super::summary::Summary;
use crate::error::FormatError;
use crate::mac::Mac;
use crate::resource::Version;
use crate::time::Timestamp;

/// Pairs of key and value, as they are encoded or as they are lent.
#[derive(Clone, Copy, Debug)]
pub enum Pairs<'b> {
    /// As they stand in a record.
    Encoded(List<'b>),
    /// As lent by whoever makes the record.
    Lent(&'b [(&'b [u8], &'b [u8])]),
}

impl<'b> Pairs<'b> {
    fn emit(&self, w: &mut Writer<'_>) {
        match self {
            Self::Encoded(list) => list.emit(w),
            Self::Lent(pairs) => {
                w.array(pairs.len());
                for (key, value) in *pairs {
                    w.map(2);
                    w.key("key");
                    w.str(key);
                    w.key("value");
                    w.str(value);
                }
            }
        }
    }

    /// The pairs; those that are damaged are left out.
    pub fn iter(&self) -> impl Iterator<Item = (&'b [u8], &'b [u8])> + use<'b> {
        let (lent, encoded) = match self {
            Self::Encoded(list) => (&[][..], *list),
            Self::Lent(pairs) => (*pairs, List::EMPTY),
        };
        let mut reader = encoded.reader();
        let decoded = (0..encoded.len()).filter_map(move |_| {
            let mut pair = (&[][..], &[][..]);
            reader
                .fields(|key, value| {
                    match key {
                        b"key" => pair.0 = value.bytes()?,
                        b"value" => pair.1 = value.bytes()?,
                        _ => return Ok(false),
                    }
                    Ok(true)
                })
                .ok()
                .map(|()| pair)
        });
        lent.iter().copied().chain(decoded)
    }
}

impl Default for Pairs<'_> {
    fn default() -> Self {
        Self::Lent(&[])
    }
}

impl PartialEq for Pairs<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

/// The trees of a source: keys of their root records.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Trees {
    /// The entries, by path.
    pub vfs: Mac,
    /// The extended attributes.
    pub xattrs: Mac,
    /// What could not be read.
    pub errors: Mac,
    /// Entries by content type, if there is such an index.
    pub content_type: Option<Mac>,
    /// Directories and their entries in one object, if there is such an index.
    pub dirpack: Option<Mac>,
    /// Directories and their summaries, if there is such an index.
    pub summary: Option<Mac>,
}

/// What a snapshot was taken of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Source<'b> {
    /// Name of the importer: `fs`, `sftp`…
    pub kind: &'b [u8],
    /// The machine.
    pub origin: &'b [u8],
    /// Absolute path of what was backed up.
    pub directory: &'b [u8],
    /// Anything else.
    pub context: Pairs<'b>,
    /// The trees.
    pub trees: Trees,
    /// Statistics of `/`.
    pub summary: Summary,
}

/// What a snapshot is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Header<'b> {
    /// Its identifier, random.
    pub identifier: Mac,
    /// When it was begun.
    pub timestamp: Timestamp,
    /// How long it took, in nanoseconds.
    pub duration_nanos: i64,
    /// Identifier of who signed it, or zeros.
    pub identity: [u8; 16],
    /// Public key of who signed it, or empty.
    pub public_key: &'b [u8],
    /// Name.
    pub name: &'b [u8],
    /// Category.
    pub category: &'b [u8],
    /// Environment.
    pub environment: &'b [u8],
    /// Perimeter.
    pub perimeter: &'b [u8],
    /// Job.
    pub job: &'b [u8],
    /// Copies wanted.
    pub replicas: u32,
    /// Dataset.
    pub dataset: &'b [u8],
    /// Classes of the data.
    pub data_classes: List<'b>,
    /// Findings of analyzers.
    pub classifications: List<'b>,
    /// Tags.
    pub tags: List<'b>,
    /// The machine and program that made it.
    pub context: Pairs<'b>,
    /// What it was taken of. Stock keeps a list and uses its first element.
    pub source: Source<'b>,
}

impl Source<'_> {
    fn emit(&self, w: &mut Writer<'_>) {
        w.map(5);
        w.key("importer");
        w.map(3);
        for (name, value) in
            [("type", self.kind), ("origin", self.origin), ("directory", self.directory)]
        {
            w.key(name);
            w.str(value);
        }
        w.key("context");
        self.context.emit(w);
        w.key("root");
        w.map(3);
        for (name, mac) in [
            ("root", &self.trees.vfs),
            ("xattrs", &self.trees.xattrs),
            ("errors", &self.trees.errors),
        ] {
            w.key(name);
            w.mac(mac);
        }
        w.key("indexes");
        let indexes = [
            ("content-type", &self.trees.content_type),
            ("dirpack", &self.trees.dirpack),
            ("summary", &self.trees.summary),
        ];
        w.array(indexes.iter().filter(|(_, mac)| mac.is_some()).count());
        for (name, mac) in indexes {
            let Some(mac) = mac else { continue };
            w.map(3);
            w.key("name");
            w.key(name);
            w.key("type");
            w.key("btree");
            w.key("value");
            w.mac(mac);
        }
        w.key("summary");
        self.summary.emit(w);
    }
}

impl<'b> Source<'b> {
    fn parse(reader: &mut Reader<'b>) -> Result<Self, FormatError> {
        let mut source = Self::default();
        reader.fields(|key, value| {
            match key {
                b"importer" => source.parse_importer(value)?,
                b"context" => source.context = Pairs::Encoded(value.list()?),
                b"root" => source.trees.parse_roots(value)?,
                b"indexes" => source.trees.parse_indexes(value)?,
                b"summary" => source.summary = Summary::parse_value(value)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(source)
    }

    fn parse_importer(&mut self, reader: &mut Reader<'b>) -> Result<(), FormatError> {
        reader.fields(|key, value| {
            match key {
                b"type" => self.kind = value.bytes()?,
                b"origin" => self.origin = value.bytes()?,
                b"directory" => self.directory = value.bytes()?,
                _ => return Ok(false),
            }
            Ok(true)
        })
    }
}

impl Trees {
    fn parse_roots(&mut self, reader: &mut Reader<'_>) -> Result<(), FormatError> {
        reader.fields(|key, value| {
            match key {
                b"root" => self.vfs = value.mac()?,
                b"xattrs" => self.xattrs = value.mac()?,
                b"errors" => self.errors = value.mac()?,
                _ => return Ok(false),
            }
            Ok(true)
        })
    }

    fn parse_indexes(&mut self, reader: &mut Reader<'_>) -> Result<(), FormatError> {
        for _ in 0..reader.array()? {
            let (mut name, mut kind, mut mac) = (&[][..], &[][..], Mac::ZERO);
            reader.fields(|key, value| {
                match key {
                    b"name" => name = value.bytes()?,
                    b"type" => kind = value.bytes()?,
                    b"value" => mac = value.mac()?,
                    _ => return Ok(false),
                }
                Ok(true)
            })?;
            match (name, kind) {
                (b"content-type", b"btree") => self.content_type = Some(mac),
                (b"dirpack", b"btree") => self.dirpack = Some(mac),
                (b"summary", b"btree") => self.summary = Some(mac),
                _ => {}
            }
        }
        Ok(())
    }
}

impl<'b> Header<'b> {
    /// Writes the header, with the 17 keys of 1.1, which 1.0 reads too.
    pub fn emit(&self, w: &mut Writer<'_>) {
        w.map(17);
        w.key("version");
        w.u32(Version::V1_0_0.0);
        w.key("identifier");
        w.mac(&self.identifier);
        w.key("timestamp");
        w.time(self.timestamp);
        w.key("duration");
        w.i64(self.duration_nanos);
        w.key("identity");
        w.map(2);
        w.key("identifier");
        w.bin(&self.identity);
        w.key("public_key");
        if self.public_key.is_empty() {
            w.nil();
        } else {
            w.bin(self.public_key);
        }
        for (name, value) in [
            ("name", self.name),
            ("category", self.category),
            ("environment", self.environment),
            ("perimeter", self.perimeter),
            ("job", self.job),
        ] {
            w.key(name);
            w.str(value);
        }
        w.key("replicas");
        w.u32(self.replicas);
        w.key("dataset");
        w.str(self.dataset);
        for (name, list) in [
            ("data_classes", &self.data_classes),
            ("classifications", &self.classifications),
            ("tags", &self.tags),
        ] {
            w.key(name);
            list.emit(w);
        }
        w.key("context");
        self.context.emit(w);
        w.key("sources");
        w.array(1);
        self.source.emit(w);
    }

    /// Reads a header.
    ///
    /// # Errors
    ///
    /// [`FormatError`] for what is no header, or one without a source.
    pub fn parse(bytes: &'b [u8]) -> Result<Self, FormatError> {
        let mut header = Self::default();
        let mut has_source = false;
        Reader::new(bytes).fields(|key, value| {
            match key {
                b"identifier" => header.identifier = value.mac()?,
                b"timestamp" => header.timestamp = value.time()?,
                b"duration" => header.duration_nanos = value.i64()?,
                b"identity" => header.parse_identity(value)?,
                b"name" => header.name = value.bytes()?,
                b"category" => header.category = value.bytes()?,
                b"environment" => header.environment = value.bytes()?,
                b"perimeter" => header.perimeter = value.bytes()?,
                b"job" => header.job = value.bytes()?,
                b"replicas" => header.replicas = value.u32()?,
                b"dataset" => header.dataset = value.bytes()?,
                b"data_classes" => header.data_classes = value.list()?,
                b"classifications" => header.classifications = value.list()?,
                b"tags" => header.tags = value.list()?,
                b"context" => header.context = Pairs::Encoded(value.list()?),
                b"sources" => {
                    for index in 0..value.array()? {
                        if index == 0 {
                            header.source = Source::parse(value)?;
                            has_source = true;
                        } else {
                            value.skip()?;
                        }
                    }
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if has_source { Ok(header) } else { Err(FormatError::Field("list of sources")) }
    }

    fn parse_identity(&mut self, reader: &mut Reader<'b>) -> Result<(), FormatError> {
        reader.fields(|key, value| {
            match key {
                b"identifier" => {
                    self.identity = value.bytes()?.try_into().unwrap_or_default();
                }
                b"public_key" => self.public_key = value.bytes()?,
                _ => return Ok(false),
            }
            Ok(true)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        let tags: [&[u8]; 2] = [b"daily", b"nas"];
        let context: [(&[u8], &[u8]); 1] = [(b"Hostname", b"box")];
        let header = Header {
            identifier: Mac([9; 32]),
            timestamp: Timestamp { secs: 1_700_000_000, nanos: 5 },
            duration_nanos: 17,
            name: b"default",
            replicas: 1,
            tags: List::strings(&tags),
            context: Pairs::Lent(&context),
            source: Source {
                kind: b"fs",
                origin: b"box",
                directory: b"/srv",
                trees: Trees {
                    vfs: Mac([1; 32]),
                    xattrs: Mac([2; 32]),
                    errors: Mac([3; 32]),
                    dirpack: Some(Mac([4; 32])),
                    ..Trees::default()
                },
                ..Source::default()
            },
            ..Header::default()
        };
        let mut space = [0; 2048];
        let mut writer = Writer::new(&mut space);
        header.emit(&mut writer);
        let bytes = writer.finish().unwrap();
        let parsed = Header::parse(bytes).unwrap();
        assert_eq!(parsed, header);
        let mut again = [0; 2048];
        let mut writer = Writer::new(&mut again);
        parsed.emit(&mut writer);
        assert_eq!(writer.finish().unwrap(), bytes);
    }
}
