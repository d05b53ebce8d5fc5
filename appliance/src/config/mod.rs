//! Stores, sources and destinations by name: `@NAME[:SUB]` wherever a location
//! goes.
//!
//! - [`settings`](self::settings): the entries and their bounds; `files`: where they are kept;
//! - `yaml`, `yaml_write`, `json`, `ini`: the forms that they are read and shown
//!   in; `import`: files of others;
//! - `secrets`: what is hidden, and where it comes from;
//! - `place`: `@NAME:SUB`; [`ping`]: whether an entry can be reached.

use std::ffi::{OsStr, OsString};
use std::fmt;

use tiroir_hosts::options::Options;
use zeroize::Zeroizing;

use crate::cli::Globals;
use crate::error::{Failure, Result};
use crate::exit::Status;
use crate::passphrase::Passphrase;

pub(crate) mod files;
pub(crate) mod import;
pub(crate) mod ini;
pub(crate) mod json;
pub(crate) mod ping;
pub(crate) mod place;
pub(crate) mod secrets;
pub(crate) mod settings;
pub(crate) mod yaml;
pub(crate) mod yaml_write;

pub(crate) use place::is_name;
use settings::{LOCATION, Section, Value};

/// What an entry is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Where snapshots are kept.
    Store,
    /// What is backed up.
    Source,
    /// Where is restored to.
    Destination,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Store, Self::Source, Self::Destination];

    /// As the command is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }

    /// As files have it.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Store => "stores",
            Self::Source => "sources",
            Self::Destination => "destinations",
        }
    }

    /// What stock calls it in messages.
    fn role(self) -> &'static str {
        match self {
            Self::Store => "repository",
            Self::Source => "importer",
            Self::Destination => "exporter",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// An entry, ready to be used.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Where it is, with what followed the name. May hold a password: it is not
    /// shown.
    pub(crate) location: OsString,
    /// All else that its connector is told, with the secrets in place.
    pub(crate) options: Options,
    /// The passphrase of a store, if the entry has one. Sources and destinations
    /// have it among their options.
    pub(crate) passphrase: Option<Passphrase>,
}

/// Finds the entry that `name` names, which is written `[@]NAME[:SUB]`, and gets
/// its secrets from where they are.
///
/// With `--key-file` the passphrase of a store is left out: it is not needed, and
/// a command for it might ask somebody.
///
/// # Errors
///
/// For a name that there is not, with those that there are; for a configuration
/// that cannot be read, and secrets that cannot be had.
pub(crate) fn find(globals: &Globals, kind: Kind, name: &OsStr) -> Result<Entry> {
    let (name, sub) = place::split(name);
    let mut loaded = files::load(globals)?;
    let table = loaded.settings.table_mut(kind);
    let found = name.to_str().and_then(|name| table.remove(name));
    let Some(section) = found else {
        let what = format!("could not resolve {}: @{}", kind.role(), name.display());
        let mut names: Vec<_> = table.keys().map(|name| format!("@{name}")).collect();
        let more = names.len().saturating_sub(NAMES_SHOWN_MAX);
        names.truncate(NAMES_SHOWN_MAX);
        let advice = match (names.is_empty(), more) {
            (true, _) => {
                format!("No {kind} has a name yet. `tiroir {kind} add NAME LOCATION` gives it one.")
            }
            (false, 0) => format!("These have a name: {}.", names.join(", ")),
            (false, more) => format!("These have a name: {}, and {more} more.", names.join(", ")),
        };
        return Err(Failure::new(Status::Failed, what).with_advice(advice));
    };
    Entry::new(globals, kind, &name.to_string_lossy(), section, sub)
}

/// Most names that are told of what there is.
const NAMES_SHOWN_MAX: usize = 20;

/// The name of the store that is meant where none is named, as `@NAME`.
///
/// # Errors
///
/// For a configuration that cannot be read.
pub(crate) fn default_store(globals: &Globals) -> Result<Option<OsString>> {
    let default = files::load(globals)?.settings.default;
    Ok(default.map(|name| OsString::from(format!("@{name}"))))
}

impl Entry {
    /// The entry of a section.
    ///
    /// # Errors
    ///
    /// That it has no location, and those of its secrets.
    fn new(
        globals: &Globals,
        kind: Kind,
        name: &str,
        mut section: Section,
        sub: &OsStr,
    ) -> Result<Self> {
        if kind == Kind::Store && globals.key_file.is_some() {
            for key in ["passphrase", "passphrase_cmd", "passphrase_file"] {
                section.0.remove(key);
            }
        }
        secrets::resolve(&mut section, &format!("{kind} {name}"))?;
        let location = section.0.remove(LOCATION).filter(|location| !location.is_empty());
        let Some(location) = location else {
            return Err(Failure::new(Status::Failed, format!("{kind} \"{name}\" has no location"))
                .with_advice(format!("tiroir {kind} set {name} location=LOCATION")));
        };
        let passphrase = match kind {
            Kind::Store => section.0.remove("passphrase").filter(|text| !text.is_empty()),
            _ => None,
        };
        let mut options = Options::default();
        for (key, value) in &section.0 {
            options.set(key.as_str(), value.as_str());
        }
        let location = with_remote(name, &location);
        Ok(Self {
            location: place::below(OsStr::new(location.as_str()), sub),
            options,
            passphrase: passphrase.map(|text| Zeroizing::new(text.as_bytes().to_vec())),
        })
    }
}

/// The location, with a name for the remote of rclone where it has none: stock's
/// entries, which have the options of the remote beside it, name none.
fn with_remote(name: &str, location: &str) -> Value {
    let rest = location.strip_prefix("rclone://").filter(|rest| !rest.contains(':'));
    let Some(rest) = rest else { return Value::new(location.to_owned()) };
    // It becomes a part of names of variables.
    let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name = if name.chars().all(is_letter) { name } else { "remote" };
    Value::new(format!("rclone://{name}:{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globals(folder: &std::path::Path) -> Globals {
        Globals { config: Some(folder.to_owned()), ..Globals::default() }
    }

    #[test]
    fn remotes_of_rclone_have_names() {
        for (name, location, wanted) in [
            ("drive", "rclone://", "rclone://drive:"),
            ("my drive", "rclone://a/b", "rclone://remote:a/b"),
            ("drive", "rclone://other:a", "rclone://other:a"),
            ("drive", "/srv", "/srv"),
        ] {
            assert_eq!(with_remote(name, location).as_str(), wanted);
        }
    }

    #[test]
    fn entries_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let globals = globals(directory.path());
        let unknown = find(&globals, Kind::Store, OsStr::new("@nas")).unwrap_err().to_string();
        assert!(unknown.contains("could not resolve repository: @nas"), "{unknown}");
        assert!(unknown.contains("tiroir store add"), "{unknown}");
        let stores = "version: v1.0.0\ndefault: nas\nstores:\n  nas:\n    location: sftp://nas/srv\n    \
                      passphrase_cmd: echo secret\n    port: 22\n  odd: {}\n";
        std::fs::write(directory.path().join("stores.yml"), stores).unwrap();
        let entry = find(&globals, Kind::Store, OsStr::new("@nas:a/b")).unwrap();
        assert_eq!(entry.location, "sftp://nas/srv/a/b");
        assert_eq!(entry.options.names().collect::<Vec<_>>(), ["port"]);
        assert_eq!(entry.passphrase.as_ref().unwrap().as_slice(), b"secret");
        assert_eq!(default_store(&globals).unwrap().unwrap(), "@nas");
        let unknown = find(&globals, Kind::Store, OsStr::new("@nsa")).unwrap_err().to_string();
        assert!(unknown.contains("@nas, @odd"), "{unknown}");
        let source = find(&globals, Kind::Source, OsStr::new("@x")).unwrap_err().to_string();
        assert!(source.contains("importer"), "{source}");
        let nowhere = find(&globals, Kind::Store, OsStr::new("odd")).unwrap_err().to_string();
        assert!(nowhere.contains("has no location"), "{nowhere}");
        let mut with_key = globals.clone();
        with_key.key_file = Some("/key".into());
        let entry = find(&with_key, Kind::Store, OsStr::new("@nas")).unwrap();
        assert!(entry.passphrase.is_none());
    }
}
