//! The files of a configuration: where they are, how they are read, and how they
//! are written.
//!
//! `stores.yml`, `sources.yml` and `destinations.yml` have stock's form, and no
//! secrets; those are in `secrets.yml`. A change holds a lock on the folder, and
//! each file is written beside the old one, synced, and put in its place.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use tiroir_hosts::durable::{cannot_sync, sync_directory};
use zeroize::Zeroizing;

use super::settings::{SETTINGS_BYTES_MAX, Section, Settings, Table, Value, check_counts};
use super::yaml::{self, Node};
use super::{Kind, secrets, yaml_write};
use crate::cli::Globals;
use crate::error::{Failure, Result};
use crate::exit::Status;
use crate::machine;
use crate::report;

/// Version of the form of the files, which is stock's.
const VERSION: &str = "v1.0.0";

/// The file with the secrets of all entries.
const SECRETS: &str = "secrets.yml";

/// What stock marked the store with that is meant where none is named, before
/// its files had versions.
const OLD_DEFAULT: &str = ".isDefault";

/// Where the settings come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Origin {
    /// From tiroir's own folder, which may not be there yet.
    Own,
    /// From stock's, because there is nothing in tiroir's own. They are not
    /// written to.
    Stock(PathBuf),
}

/// Settings, and where they come from.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) settings: Settings,
    pub(crate) origin: Origin,
    /// Secrets stand among what may be seen, by hand or by stock.
    exposed: bool,
}

/// Names of the file of a kind: the one that is written, and an older one of
/// stock's.
fn file_names(kind: Kind) -> (&'static str, Option<&'static str>) {
    match kind {
        Kind::Store => ("stores.yml", Some("klosets.yml")),
        Kind::Source => ("sources.yml", None),
        Kind::Destination => ("destinations.yml", None),
    }
}

/// The folder of configurations of the user.
fn base() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let home = || variable("HOME").map(PathBuf::from).or_else(machine::home);
    let base = variable("XDG_CONFIG_HOME").map(PathBuf::from);
    base.or_else(|| Some(home()?.join(".config")))
}

/// The folder that is written to.
fn own_folder(globals: &Globals) -> Result<PathBuf> {
    if let Some(folder) = &globals.config {
        return Ok(folder.clone());
    }
    let base = base().ok_or_else(|| {
        Failure::new(Status::Failed, "there is no home directory for a configuration")
            .with_advice("Say where it is: tiroir --config DIR COMMAND")
    })?;
    Ok(base.join("tiroir"))
}

/// Stock's folder.
fn stock_folder() -> Option<PathBuf> {
    Some(base()?.join("plakar"))
}

/// Reads all settings. Where tiroir's own folder has none, and was not named,
/// stock's are read.
///
/// # Errors
///
/// For files that cannot be read or understood, with the line.
pub(crate) fn load(globals: &Globals) -> Result<Loaded> {
    // Nothing to read is no failure before something is looked for.
    let Ok(own) = own_folder(globals) else { return Ok(Loaded::empty()) };
    if globals.config.is_some()
        || Kind::ALL.iter().any(|kind| own.join(file_names(*kind).0).exists())
    {
        return Loaded::read(&own, Origin::Own);
    }
    match stock_folder() {
        Some(stock) if stock.is_dir() => {
            let loaded = Loaded::read(&stock, Origin::Stock(stock.clone()))?;
            Ok(if loaded.settings.is_empty() { Loaded::empty() } else { loaded })
        }
        _ => Ok(Loaded::empty()),
    }
}

/// Changes settings: reads them, has them changed, and writes what is different,
/// with everybody else kept from writing meanwhile.
///
/// # Errors
///
/// Those of `change`, after which nothing is written; and of the files.
pub(crate) fn edit<R>(
    globals: &Globals,
    change: impl FnOnce(&mut Settings) -> Result<R>,
) -> Result<R> {
    let folder = own_folder(globals)?;
    refuse_stock(&folder)?;
    let failure = |error| Failure::io(format_args!("make the folder {}", folder.display()), error);
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failure)?;
    // Given back when it is closed. Some network file systems have no locks.
    let lock = File::open(&folder).map_err(failure)?;
    let _ = rustix::fs::flock(&lock, FlockOperation::LockExclusive);
    let mut loaded = load(globals)?;
    let before = loaded.settings.clone();
    let result = change(&mut loaded.settings)?;
    check_counts(&loaded.settings)?;
    if let Origin::Stock(stock) = &loaded.origin {
        report::say(&format!(
            "tiroir: what is in {} was taken over to {}, which is used from now on",
            stock.display(),
            folder.display()
        ));
    }
    // What is there already stays as it is, with its comments.
    let is_kept = loaded.origin == Origin::Own && !loaded.exposed;
    write(&folder, is_kept.then_some(&before), &loaded.settings)?;
    Ok(result)
}

/// Sees that nothing is written where stock reads: it would miss the secrets.
fn refuse_stock(folder: &Path) -> Result<()> {
    let same = |one: &Path, other: &Path| match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    };
    match stock_folder() {
        Some(stock) if same(folder, &stock) => {
            let what = format!("{} is the configuration of stock plakar", folder.display());
            Err(Failure::new(Status::Failed, what).with_advice(
                "It is read only: its secrets would go to a file that stock does not know. \
                 Change it with `plakar store`, or leave out --config.",
            ))
        }
        _ => Ok(()),
    }
}

impl Loaded {
    fn empty() -> Self {
        Self { settings: Settings::default(), origin: Origin::Own, exposed: false }
    }

    /// Reads the files of a folder.
    fn read(folder: &Path, origin: Origin) -> Result<Self> {
        let is_stock = origin != Origin::Own;
        let mut settings = Settings::default();
        let mut is_there = true;
        for kind in Kind::ALL {
            let (name, older) = file_names(kind);
            let path = folder.join(name);
            let node = match read_node(&path, None)? {
                None => match older.map(|name| folder.join(name)).filter(|_| is_stock) {
                    Some(path) => read_node(&path, None)?.map(|node| (path, node)),
                    None => None,
                },
                Some(node) => Some((path, node)),
            };
            match node {
                Some((path, node)) => {
                    take_file(&mut settings, kind, node)
                        .map_err(|what| not_understood(&path, what))?;
                }
                None => is_there = false,
            }
        }
        let old = folder.join("plakar.yml");
        if is_stock
            && !is_there
            && let Some(node) = read_node(&old, None)?
        {
            // As in stock: all three, or the one from before.
            settings = old_settings(node).map_err(|what| not_understood(&old, what))?;
        }
        let exposed = !settings.divided().1.is_empty();
        if !is_stock {
            let path = folder.join(SECRETS);
            let warn = |file: &File| secrets::warn_of_readers(file, &path);
            if let Some(node) = read_node(&path, Some(&warn))? {
                let secret = all_tables(node).map_err(|what| not_understood(&path, what))?;
                settings.add_secrets(secret);
            }
        }
        Ok(Self { settings, origin, exposed })
    }
}

fn not_understood(path: &Path, what: &str) -> Failure {
    Failure::new(Status::Failed, format!("cannot understand {}: {what}", path.display()))
}

/// Reads a whole file of text, if it is there. `look` is given it first.
///
/// # Errors
///
/// For what is too large, or no UTF-8.
pub(crate) fn read_text(path: &Path, look: Option<&dyn Fn(&File)>) -> Result<Option<Value>> {
    let failure = |error| Failure::io(format_args!("read {}", path.display()), error);
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failure)?,
    };
    if let Some(look) = look {
        look(&file);
    }
    let known = file.metadata().map_or(0, |data| data.len());
    read_all(file, known).map_err(failure)?.map_err(|what| not_understood(path, what)).map(Some)
}

/// Reads a text to its end. `known_bytes` is how long it probably is.
///
/// # Errors
///
/// Of `input`; and, within, what is wrong with the text.
pub(crate) fn read_all(
    input: impl io::Read,
    known_bytes: u64,
) -> io::Result<std::result::Result<Value, &'static str>> {
    let room = usize::try_from(known_bytes).unwrap_or(usize::MAX).min(SETTINGS_BYTES_MAX) + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    input.take(SETTINGS_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > SETTINGS_BYTES_MAX {
        return Ok(Err("it is larger than a configuration"));
    }
    Ok(match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err("it is not UTF-8")
        }
    })
}

fn read_node(path: &Path, look: Option<&dyn Fn(&File)>) -> Result<Option<Node>> {
    let Some(text) = read_text(path, look)? else { return Ok(None) };
    let node = yaml::parse(&text);
    node.map(Some).map_err(|error| not_understood(path, &error.to_string()))
}

type Map = BTreeMap<String, Node>;

/// The mapping that a node is; what is empty is one too.
fn map_of(node: Node) -> std::result::Result<Map, &'static str> {
    match node {
        Node::Map(map) => Ok(map),
        Node::Text(text) if text.is_empty() => Ok(Map::new()),
        Node::Text(_) => Err("there is a text where entries are expected"),
    }
}

/// Entries, from a mapping of mappings.
///
/// # Errors
///
/// For what is something else.
pub(crate) fn table_of(node: Node) -> std::result::Result<Table, &'static str> {
    let section = |(name, node)| {
        let mut section = Section::default();
        for (key, node) in map_of(node)? {
            match node {
                Node::Text(value) => section.set(&key, value),
                Node::Map(_) => return Err("an option has options"),
            }
        }
        Ok((name, section))
    };
    map_of(node)?.into_iter().map(section).collect()
}

/// Whether a file says which version it is of.
///
/// # Errors
///
/// For a version that is not known here.
pub(crate) fn has_version(map: &Map) -> std::result::Result<bool, &'static str> {
    match map.get("version") {
        Some(Node::Text(version)) if version.as_str() == VERSION => Ok(true),
        Some(Node::Text(_)) => Err("it is of a version that is not known here"),
        _ => Ok(false),
    }
}

/// Takes the entries of a kind out of its file, of any version.
fn take_file(
    settings: &mut Settings,
    kind: Kind,
    node: Node,
) -> std::result::Result<(), &'static str> {
    let mut map = map_of(node)?;
    if has_version(&map)? {
        if kind == Kind::Store
            && let Some(Node::Text(name)) = map.get("default")
        {
            settings.default = Some(name.to_string()).filter(|name| !name.is_empty());
        }
        if let Some(node) = map.remove(kind.plural()) {
            *settings.table_mut(kind) = table_of(node)?;
        }
        return Ok(());
    }
    let mut table = table_of(Node::Map(map))?;
    for (name, section) in &mut table {
        if section.0.remove(OLD_DEFAULT).is_some() && kind == Kind::Store {
            settings.default = Some(name.clone());
        }
    }
    *settings.table_mut(kind) = table;
    Ok(())
}

/// The settings of the one file that plakar 1.0 had.
///
/// # Errors
///
/// For what is no such file.
pub(crate) fn old_settings(node: Node) -> std::result::Result<Settings, &'static str> {
    let mut map = map_of(node)?;
    let mut settings = Settings::default();
    if let Some(Node::Text(name)) = map.get("default-repo") {
        settings.default = Some(name.to_string()).filter(|name| !name.is_empty());
    }
    if let Some(node) = map.remove("repositories") {
        *settings.table_mut(Kind::Store) = table_of(node)?;
    }
    if let Some(node) = map.remove("remotes") {
        let remotes = table_of(node)?;
        settings.table_mut(Kind::Destination).clone_from(&remotes);
        *settings.table_mut(Kind::Source) = remotes;
    }
    Ok(settings)
}

/// Entries of all kinds, from one file.
fn all_tables(node: Node) -> std::result::Result<Settings, &'static str> {
    let mut map = map_of(node)?;
    if !has_version(&map)? {
        return Err("it does not say which version it is of");
    }
    let mut settings = Settings::default();
    for kind in Kind::ALL {
        if let Some(node) = map.remove(kind.plural()) {
            *settings.table_mut(kind) = table_of(node)?;
        }
    }
    Ok(settings)
}

/// Bytes of room for a file, so that it does not grow while it is written.
fn room(settings: &Settings) -> usize {
    let pair = |(key, value): (&String, &Value)| 2 * key.len() + 4 * value.len() + 16;
    let section = |section: &Section| section.0.iter().map(pair).sum::<usize>() + 1024;
    Kind::ALL.iter().flat_map(|kind| settings.table(*kind).values()).map(section).sum::<usize>()
        + 1024
}

/// Writes what is different from `before`, or everything. Secrets go first: an
/// entry is not there without them.
fn write(folder: &Path, before: Option<&Settings>, after: &Settings) -> Result<()> {
    let before = before.map(Settings::divided);
    let (open, secret) = after.divided();
    let path = folder.join(SECRETS);
    if before.as_ref().is_none_or(|(_, before)| *before != secret) {
        let mut text = yaml_write::new_text(room(&secret));
        yaml_write::pair(&mut text, 0, "version", VERSION);
        for kind in Kind::ALL {
            if !secret.table(kind).is_empty() {
                yaml_write::table(&mut text, kind.plural(), secret.table(kind));
            }
        }
        if !secret.is_empty() || path.exists() {
            replace(&path, &text)?;
        }
    }
    for kind in Kind::ALL {
        let path = folder.join(file_names(kind).0);
        let is_same = before.as_ref().is_some_and(|(before, _)| {
            before.table(kind) == open.table(kind)
                && (kind != Kind::Store || before.default == open.default)
        });
        // Stock makes all three anew where one is missing.
        if is_same && path.exists() {
            continue;
        }
        let mut text = yaml_write::new_text(room(&open));
        yaml_write::pair(&mut text, 0, "version", VERSION);
        if let Some(name) = open.default.as_ref().filter(|_| kind == Kind::Store) {
            yaml_write::pair(&mut text, 0, "default", name);
        }
        yaml_write::table(&mut text, kind.plural(), open.table(kind));
        replace(&path, &text)?;
    }
    Ok(())
}

/// Puts a file with `text` in the place of the one at `path`, whole or not at
/// all. Only its owner may read it.
fn replace(path: &Path, text: &str) -> Result<()> {
    if text.len() > SETTINGS_BYTES_MAX {
        let what = format!("{} would be larger than a configuration", path.display());
        return Err(Failure::new(Status::Failed, what).with_advice("Remove some entries."));
    }
    // A link stays one: some people keep their settings elsewhere.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let failure = |error| Failure::io(format_args!("write {}", path.display()), error);
    let mut new = path.clone().into_os_string();
    new.push(".new");
    let new = PathBuf::from(new);
    // What a run left behind that was cut short.
    let _ = fs::remove_file(&new);
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&new).map_err(failure)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&new, &path));
    if let Err(error) = written {
        let _ = fs::remove_file(&new);
        return Err(failure(error));
    }
    if let Some(folder) = path.parent()
        && !sync_directory(folder).map_err(failure)?
    {
        report::warn(&cannot_sync(&path));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn globals(folder: &Path) -> Globals {
        Globals { config: Some(folder.to_owned()), ..Globals::default() }
    }

    fn value(text: &str) -> Value {
        Zeroizing::new(text.to_owned())
    }

    fn add(globals: &Globals, name: &str, pairs: &[(&str, &str)]) {
        edit(globals, |settings| {
            let section = settings.table_mut(Kind::Store).entry(name.to_owned()).or_default();
            for (key, text) in pairs {
                section.set(key, value(text));
            }
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn secrets_have_a_file_of_their_own() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("deep/tiroir");
        let globals = globals(&folder);
        let nas =
            [("location", "sftp://me:hunter2@nas/"), ("password", "hunter2"), ("port", "2222")];
        add(&globals, "nas", &nas);
        add(&globals, "usb", &[("location", "/mnt/usb")]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&folder), 0o700);
        for name in ["stores.yml", "sources.yml", "destinations.yml", "secrets.yml"] {
            let path = folder.join(name);
            assert_eq!(mode(&path), 0o600, "{name}");
            let text = fs::read_to_string(&path).unwrap();
            assert_eq!(text.contains("hunter2"), name == "secrets.yml", "{text}");
        }
        let stores = fs::read_to_string(folder.join("stores.yml")).unwrap();
        assert_eq!(
            stores,
            "version: v1.0.0\nstores:\n    nas:\n        location: sftp://me@nas/\n        port: \
             \"2222\"\n    usb:\n        location: /mnt/usb\n"
        );
        let loaded = load(&globals).unwrap();
        let section = &loaded.settings.table(Kind::Store)["nas"];
        for (key, text) in nas {
            assert_eq!(section.get(key), Some(text));
        }
        // The secrets of an entry go with it.
        edit(&globals, |settings| {
            settings.table_mut(Kind::Store).remove("nas");
            Ok(())
        })
        .unwrap();
        assert!(!fs::read_to_string(folder.join("secrets.yml")).unwrap().contains("hunter2"));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 4, "nothing is left behind");
    }

    #[test]
    fn what_was_written_by_hand_stays() {
        let directory = tempfile::tempdir().unwrap();
        let globals = globals(directory.path());
        let by_hand = "# mine\nversion: v1.0.0\nsources:\n  a:\n    location: /a\n";
        fs::write(directory.path().join("sources.yml"), by_hand).unwrap();
        add(&globals, "usb", &[("location", "/mnt/usb")]);
        assert_eq!(fs::read_to_string(directory.path().join("sources.yml")).unwrap(), by_hand);
        // But not a secret in a file that may be seen.
        let exposed = format!("{by_hand}    password: hunter2\n");
        fs::write(directory.path().join("sources.yml"), exposed).unwrap();
        add(&globals, "usb", &[("location", "/mnt/other")]);
        assert!(
            !fs::read_to_string(directory.path().join("sources.yml")).unwrap().contains("hunter2")
        );
        let loaded = load(&globals).unwrap();
        assert_eq!(loaded.settings.table(Kind::Source)["a"].get("password"), Some("hunter2"));
        // A failure writes nothing.
        let failed = edit(&globals, |settings| {
            settings.table_mut(Kind::Store).clear();
            Err::<(), _>(Failure::usage("no"))
        });
        assert!(failed.is_err());
        assert_eq!(load(&globals).unwrap().settings.table(Kind::Store).len(), 1);
    }

    #[test]
    fn older_forms() {
        let read = |files: &[(&str, &str)]| {
            let directory = tempfile::tempdir().unwrap();
            for (name, text) in files {
                fs::write(directory.path().join(name), text).unwrap();
            }
            Loaded::read(directory.path(), Origin::Stock(directory.path().to_owned()))
        };
        let without_version = read(&[
            ("klosets.yml", "nas:\n  location: /n\n  .isDefault: yes\nusb:\n  location: /u\n"),
            ("sources.yml", "version: v1.0.0\nsources: {}\n"),
            ("destinations.yml", ""),
        ]);
        let settings = without_version.unwrap().settings;
        assert_eq!(settings.default.as_deref(), Some("nas"));
        assert_eq!(settings.table(Kind::Store).len(), 2);
        let one_file = read(&[(
            "plakar.yml",
            "default-repo: nas\nrepositories:\n  nas:\n    location: /n\nremotes:\n  s:\n    \
             location: s3://x\n    access_key: k\n",
        )]);
        let one_file = one_file.unwrap();
        assert!(one_file.exposed);
        for (kind, count) in [(Kind::Store, 1), (Kind::Source, 1), (Kind::Destination, 1)] {
            assert_eq!(one_file.settings.table(kind).len(), count);
        }
        for (name, text, told) in [
            ("stores.yml", "version: v2\nstores: {}\n", "version"),
            ("stores.yml", "version: v1.0.0\nstores: x\n", "text where"),
            ("stores.yml", "stores:\n  a:\n    b:\n      c: d\n", "options"),
            ("sources.yml", "a: [1]\n", "line 1"),
        ] {
            let told_here = read(&[(name, text)]).unwrap_err().to_string();
            assert!(told_here.contains(told) && told_here.contains(name), "{told_here}");
        }
    }

    #[test]
    fn a_large_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stores.yml");
        fs::write(&path, vec![b'#'; SETTINGS_BYTES_MAX + 1]).unwrap();
        assert!(load(&globals(directory.path())).is_err());
        fs::write(&path, b"a: \xff").unwrap();
        assert!(load(&globals(directory.path())).is_err());
    }
}
