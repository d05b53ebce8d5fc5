//! `store`, `source` and `destination`: entries of the configuration; and
//! `config`, which did that in plakar 1.0.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::PathBuf;

use clap::ValueEnum;
use zeroize::Zeroizing;

use crate::config::files::{self, Origin};
use crate::config::settings::{
    LOCATION, Section, Settings, Value, check_key, check_name, check_value,
};
use crate::config::{self, Entry, Kind, import, ini, json, ping, secrets, yaml_write};
use crate::error::{Failure, Result};
use crate::exit::Status;
use crate::location::{absolute, refuse_empty, split_scheme};
use crate::open::Context;
use crate::report;
use crate::text::json::Line;

/// What stands below the help of these commands.
const AFTER_HELP: &str = "\
Actions:
  add NAME LOCATION [KEY=VALUE]...   make an entry
  set NAME KEY=VALUE...              set options of it, or its location
  unset NAME KEY...                  remove options
  show [-secrets] [NAME]...          show entries: as YAML, -json or -ini
  rm NAME...                         remove entries
  check NAME                         see that an entry is understood
  ping NAME                          reach what it names
  import [-config FILE] [SECTION[:NAME]]...
                                     take entries from a file

An entry is used as @NAME, or as @NAME:PATH for a place below its own,
wherever a location goes. With `-` as VALUE it is read from the terminal,
which does not show it, or from standard input, a line for each: what is
typed on a command line, all users of the machine can see while it runs.
KEY_cmd=COMMAND and KEY_file=PATH give a secret each time it is needed, by
the first line that the command writes, or of the file.

Passwords, passphrases, keys and tokens are kept apart from the rest, in
secrets.yml, which only its owner may read. Options are those of connectors;
a store has passphrase as well. `-config DIR` of all commands stands before
this one.";

/// Arguments of `store`, `source` and `destination`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Show secrets too, in place of ********
    #[arg(long)]
    secrets: bool,

    /// Show YAML: it is the default
    #[arg(long, conflicts_with = "ini")]
    yaml: bool,

    /// Show INI
    #[arg(long)]
    ini: bool,

    /// Import from FILE in place of standard input; typed as -config after
    /// `import`
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,

    /// Import remotes of rclone, from its configuration file
    #[arg(long)]
    rclone: bool,

    /// Import also in the place of entries that are there
    #[arg(long)]
    overwrite: bool,

    /// What to do
    #[arg(value_name = "ACTION", value_enum, hide_possible_values = true)]
    action: Action,

    /// What to do it with
    #[arg(value_name = "ARGUMENT")]
    words: Vec<OsString>,
}

/// What to do with entries.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Action {
    Add,
    Check,
    Import,
    Ping,
    Rm,
    Set,
    Show,
    Unset,
}

/// Does it.
///
/// # Errors
///
/// For entries that are there or not there, what cannot be kept, and those of
/// the files.
pub(crate) fn run(
    kind: Kind,
    args: &Args,
    context: &Context<'_>,
    out: &mut dyn Write,
) -> Result<Status> {
    args.refuse_others()?;
    let words = texts(&args.words)?;
    match (args.action, words.as_slice()) {
        (Action::Add, [name, location, pairs @ ..]) => add(kind, name, location, pairs, context),
        (Action::Set, [name, pairs @ ..]) if !pairs.is_empty() => set(kind, name, pairs, context),
        (Action::Unset, [name, keys @ ..]) if !keys.is_empty() => unset(kind, name, keys, context),
        (Action::Rm, names) if !names.is_empty() => remove(kind, names, context),
        (Action::Show, names) => args.show(kind, names, context, out),
        (Action::Check, [name]) => {
            let entry = find(kind, name, context)?;
            ping::check(kind, &entry)?;
            Ok(Status::Done)
        }
        (Action::Ping, [name]) => {
            let entry = find(kind, name, context)?;
            let what = ping::ping(kind, &entry, context)?;
            if context.globals.json {
                let mut line = Line::new(out, "ping")?;
                line.show("name", bare(name))?;
                line.show("what", what)?;
                line.end()?;
            } else {
                writeln!(out, "configuration OK: {what}")?;
            }
            Ok(Status::Done)
        }
        (Action::Import, sections) => args.import(kind, sections, context),
        (action, _) => Err(usage(kind, action)),
    }
}

/// What an action takes.
fn usage(kind: Kind, action: Action) -> Failure {
    let (name, takes) = match action {
        Action::Add => ("add", "NAME LOCATION [KEY=VALUE]..."),
        Action::Set => ("set", "NAME KEY=VALUE..."),
        Action::Unset => ("unset", "NAME KEY..."),
        Action::Rm => ("rm", "NAME..."),
        Action::Check => ("check", "NAME"),
        Action::Ping => ("ping", "NAME"),
        Action::Show => ("show", "[-secrets] [NAME]..."),
        Action::Import => ("import", "[-config FILE] [-rclone] [-overwrite] [SECTION[:NAME]]..."),
    };
    Failure::usage(format!("usage: tiroir {kind} {name} {takes}"))
        .with_advice(format!("`tiroir help {kind}` tells more."))
}

/// Arguments as text.
fn texts(words: &[OsString]) -> Result<Vec<&str>> {
    let text = |word| OsString::as_os_str(word).to_str();
    let texts: Option<_> = words.iter().map(text).collect();
    texts.ok_or_else(|| Failure::usage("names and values of a configuration are UTF-8"))
}

/// The name of an entry, which may be typed as `@NAME`.
fn bare(name: &str) -> &str {
    name.strip_prefix('@').unwrap_or(name)
}

/// The entry of that name, ready to be used.
fn find(kind: Kind, name: &str, context: &Context<'_>) -> Result<Entry> {
    let name = bare(name);
    match files::load(context.globals)?.settings.table(kind).contains_key(name) {
        true => config::find(context.globals, kind, OsStr::new(name)),
        false => Err(absent(kind, name)),
    }
}

fn absent(kind: Kind, name: &str) -> Failure {
    Failure::new(Status::Failed, format!("{kind} \"{name}\" does not exist"))
        .with_advice(format!("`tiroir {kind} show` lists those that there are."))
}

/// The entry of that name, to be changed.
fn entry_mut<'s>(settings: &'s mut Settings, kind: Kind, name: &str) -> Result<&'s mut Section> {
    settings.table_mut(kind).get_mut(name).ok_or_else(|| absent(kind, name))
}

/// Understands `KEY=VALUE`, and asks for values that are `-`.
fn parse_pairs(
    kind: Kind,
    name: &str,
    pairs: &[&str],
    action: Action,
) -> Result<Vec<(String, Value)>> {
    let mut parsed = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let (key, value) = pair.split_once('=').ok_or_else(|| usage(kind, action))?;
        check_key(key)?;
        let value = if value == "-" {
            secrets::ask(key, &format!("{kind} {name}"))?
        } else if key == LOCATION {
            settled(value)?
        } else {
            Zeroizing::new(value.to_owned())
        };
        check_value(key, &value)?;
        parsed.push((key.to_owned(), value));
    }
    Ok(parsed)
}

/// A location that means the same wherever it is used: a path is absolute.
fn settled(location: &str) -> Result<Value> {
    refuse_empty(OsStr::new(location), "entry")?;
    let (scheme, rest) = split_scheme(OsStr::new(location));
    let is_path = scheme.is_none_or(|scheme| matches!(scheme, "fs" | "file" | "ptar" | "sqlite"));
    if !is_path || rest.is_empty() || rest.to_str().is_some_and(|rest| rest.starts_with('/')) {
        return Ok(Zeroizing::new(location.to_owned()));
    }
    let path = absolute(rest)?;
    let path = path.to_str().ok_or_else(|| {
        Failure::new(Status::Failed, "the current directory has a name that is not UTF-8")
    })?;
    let scheme = scheme.map(|scheme| format!("{scheme}:")).unwrap_or_default();
    Ok(Zeroizing::new(format!("{scheme}{path}")))
}

fn add(
    kind: Kind,
    name: &str,
    location: &str,
    pairs: &[&str],
    context: &Context<'_>,
) -> Result<Status> {
    let name = bare(name);
    check_name(name)?;
    let location = settled(location.strip_prefix("location=").unwrap_or(location))?;
    check_value(LOCATION, &location)?;
    // Before anybody is asked for a password in vain; asked again below.
    if files::load(context.globals)?.settings.table(kind).contains_key(name) {
        return Err(there_already(kind, name));
    }
    let pairs = parse_pairs(kind, name, pairs, Action::Add)?;
    files::edit(context.globals, |settings| {
        let table = settings.table_mut(kind);
        if table.contains_key(name) {
            return Err(there_already(kind, name));
        }
        let mut section = Section::default();
        section.set(LOCATION, location);
        for (key, value) in pairs {
            section.set(&key, value);
        }
        table.insert(name.to_owned(), section);
        Ok(Status::Done)
    })
}

fn there_already(kind: Kind, name: &str) -> Failure {
    Failure::new(Status::Failed, format!("{kind} \"{name}\" already exists"))
        .with_advice("Change it with `set`, or remove it first with `rm`.")
}

fn set(kind: Kind, name: &str, pairs: &[&str], context: &Context<'_>) -> Result<Status> {
    let name = bare(name);
    if !files::load(context.globals)?.settings.table(kind).contains_key(name) {
        return Err(absent(kind, name));
    }
    let pairs = parse_pairs(kind, name, pairs, Action::Set)?;
    files::edit(context.globals, |settings| {
        let section = entry_mut(settings, kind, name)?;
        for (key, value) in pairs {
            section.set(&key, value);
        }
        Ok(Status::Done)
    })
}

fn unset(kind: Kind, name: &str, keys: &[&str], context: &Context<'_>) -> Result<Status> {
    if keys.contains(&LOCATION) {
        return Err(Failure::new(Status::Failed, "cannot unset location")
            .with_advice(format!("Remove the entry with `tiroir {kind} rm`.")));
    }
    files::edit(context.globals, |settings| {
        let section = entry_mut(settings, kind, bare(name))?;
        for key in keys {
            section.0.remove(*key);
        }
        Ok(Status::Done)
    })
}

fn remove(kind: Kind, names: &[&str], context: &Context<'_>) -> Result<Status> {
    files::edit(context.globals, |settings| {
        for name in names.iter().map(|name| bare(name)) {
            if settings.table_mut(kind).remove(name).is_none() {
                return Err(absent(kind, name));
            }
            if kind == Kind::Store && settings.default.as_deref() == Some(name) {
                settings.default = None;
            }
        }
        Ok(Status::Done)
    })
}

/// Tells that what is shown or used is stock's.
fn tell_origin(origin: &Origin) {
    if let Origin::Stock(folder) = origin {
        report::say(&format!(
            "tiroir: there is no configuration of tiroir's own yet: this is stock's, in {}",
            folder.display()
        ));
    }
}

impl Args {
    /// Refuses options of another action.
    fn refuse_others(&self) -> Result<()> {
        for (is_given, name, action) in [
            (self.secrets, "-secrets", Action::Show),
            (self.yaml, "-yaml", Action::Show),
            (self.ini, "-ini", Action::Show),
            (self.from.is_some(), "-config after the command", Action::Import),
            (self.rclone, "-rclone", Action::Import),
            (self.overwrite, "-overwrite", Action::Import),
        ] {
            if is_given && self.action != action {
                let of = if action == Action::Show { "show" } else { "import" };
                return Err(Failure::usage(format!("{name} is an option of `{of}`")));
            }
        }
        Ok(())
    }

    /// Shows entries, in order of their names, or those that are named.
    fn show(
        &self,
        kind: Kind,
        names: &[&str],
        context: &Context<'_>,
        out: &mut dyn Write,
    ) -> Result<Status> {
        let loaded = files::load(context.globals)?;
        tell_origin(&loaded.origin);
        let table = loaded.settings.table(kind);
        let all: Vec<&str> = table.keys().map(String::as_str).collect();
        let mut status = Status::Done;
        for name in if names.is_empty() { all.as_slice() } else { names } {
            let name = bare(name);
            match table.get(name) {
                Some(section) => self.show_entry(name, section, context, out)?,
                None => {
                    report::say(&format!("tiroir: {kind} \"{name}\" does not exist"));
                    status = Status::Failed;
                }
            }
        }
        Ok(status)
    }

    fn show_entry(
        &self,
        name: &str,
        section: &Section,
        context: &Context<'_>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let mut shown = section.clone();
        if !self.secrets {
            for (key, value) in &mut shown.0 {
                *value = secrets::hidden(key, value);
            }
        }
        if context.globals.json && !self.yaml && !self.ini {
            return json::entry(out, name, &shown);
        }
        let mut text = Zeroizing::new(String::new());
        if self.ini {
            ini::entry(&mut text, name, &shown);
        } else {
            yaml_write::entry(&mut text, 0, name, &shown);
        }
        out.write_all(text.as_bytes())
    }

    /// Takes entries from a file: all, or those that are named, under another
    /// name if one follows.
    fn import(&self, kind: Kind, sections: &[&str], context: &Context<'_>) -> Result<Status> {
        let text = self.import_text()?;
        let mut found = import::read(kind, &text, self.rclone)?;
        drop(text);
        let mut status = Status::Done;
        let mut skip = |what: String| {
            report::say(&format!("tiroir: {what}, skipping"));
            status = Status::Failed;
        };
        let mut wanted = Vec::new();
        if sections.is_empty() {
            let all = std::mem::take(&mut found);
            wanted.extend(all.into_iter().map(|(name, section)| (name.clone(), name, section)));
        }
        for asked in sections {
            let (name, target) = asked.split_once(':').unwrap_or((asked, bare(asked)));
            match found.get(name).or_else(|| found.get(bare(name))) {
                Some(section) => wanted.push((name.into(), target.into(), section.clone())),
                None => skip(format!("{kind} \"{name}\" does not exist in config")),
            }
        }
        wanted.retain(|(name, target, section)| {
            let what = if check_name(target).is_err() {
                format!("{kind} \"{name}\" cannot be called \"{target}\"")
            } else if section.get(LOCATION).is_none() {
                format!("{kind} \"{name}\" has no location")
            } else {
                return true;
            };
            skip(what);
            false
        });
        if wanted.is_empty() {
            return Ok(status);
        }
        files::edit(context.globals, |settings| {
            let table = settings.table_mut(kind);
            for (_, target, section) in wanted {
                // As in stock, that one is there is no failure.
                if table.contains_key(&target) && !self.overwrite {
                    report::say(&format!("tiroir: {kind} \"{target}\" already exists, skipping"));
                } else {
                    table.insert(target, section);
                }
            }
            Ok(())
        })?;
        Ok(status)
    }

    /// What is imported.
    fn import_text(&self) -> Result<Value> {
        let Some(path) = self.from.as_ref().filter(|path| path.as_os_str() != "-") else {
            let failure = |error| Failure::io("read the configuration from standard input", error);
            let text = files::read_all(io::stdin().lock(), 64 * 1024).map_err(failure)?;
            return text
                .map_err(|what| Failure::new(Status::Failed, format!("standard input: {what}")));
        };
        if path
            .to_str()
            .is_some_and(|path| path.starts_with("http://") || path.starts_with("https://"))
        {
            return Err(Failure::usage("a configuration is imported from a file")
                .with_advice("Let another program fetch it: curl URL | tiroir store import"));
        }
        files::read_text(path, None)?.ok_or_else(|| {
            Failure::new(Status::Failed, format!("there is no file {}", path.display()))
        })
    }
}

/// Arguments of `config`.
///
/// As plakar 1.0 had it. A remote is a source and a destination of that name.
#[derive(Debug, clap::Args)]
#[command(after_help = OLD_AFTER_HELP)]
pub(crate) struct OldArgs {
    /// What to do; without anything, all is shown
    #[arg(value_name = "ACTION")]
    words: Vec<OsString>,
}

/// What stands below the help of `config`.
const OLD_AFTER_HELP: &str = "\
Actions:
  repository create NAME             make a store, yet without a location
  repository set NAME KEY VALUE      set an option; location is the first
  repository unset NAME KEY          remove an option
  repository validate NAME           as `store check`
  repository default NAME            take it where no store is named
  remote create|set|unset|validate   the same for a source and a destination

`tiroir help store` tells how values are given that are secrets.";

/// Does what plakar 1.0 did.
///
/// # Errors
///
/// As [`run`].
pub(crate) fn run_old(
    args: &OldArgs,
    context: &Context<'_>,
    out: &mut dyn Write,
) -> Result<Status> {
    let words = texts(&args.words)?;
    let kinds: &[Kind] = match words.first() {
        None => return show_all(context, out),
        Some(&("repository" | "repo")) => &[Kind::Store],
        Some(&"remote") => &[Kind::Source, Kind::Destination],
        Some(other) => {
            return Err(Failure::usage(format!("config has no `{other}`")).with_advice(
                "It has `repository` and `remote`; `tiroir help config` tells more.",
            ));
        }
    };
    match words[1..] {
        ["create", name] => create(kinds, bare(name), context),
        ["default", name] if kinds == [Kind::Store] => set_default(bare(name), context),
        ["set", name, key, value] if !key.contains('=') => {
            // One value for both: it is asked for once.
            let pair = format!("{key}={value}");
            let pairs = parse_pairs(kinds[0], bare(name), &[&pair], Action::Set)?;
            change(kinds, bare(name), context, |section| {
                pairs.iter().for_each(|(key, value)| section.set(key, value.clone()));
            })
        }
        ["set", name, ref pairs @ ..] if !pairs.is_empty() => {
            let pairs = parse_pairs(kinds[0], bare(name), pairs, Action::Set)?;
            change(kinds, bare(name), context, |section| {
                pairs.iter().for_each(|(key, value)| section.set(key, value.clone()));
            })
        }
        ["unset", name, key] => change(kinds, bare(name), context, |section| {
            section.0.remove(key);
        }),
        ["validate", name] => {
            for kind in kinds {
                ping::check(*kind, &find(*kind, name, context)?)?;
            }
            Ok(Status::Done)
        }
        _ => Err(Failure::usage("usage: tiroir config repository|remote ACTION NAME ...")
            .with_advice("`tiroir help config` tells more.")),
    }
}

/// Shows the entries of all kinds.
fn show_all(context: &Context<'_>, out: &mut dyn Write) -> Result<Status> {
    let mut loaded = files::load(context.globals)?;
    tell_origin(&loaded.origin);
    for kind in Kind::ALL {
        let table = loaded.settings.table_mut(kind);
        for section in table.values_mut() {
            for (key, value) in &mut section.0 {
                *value = secrets::hidden(key, value);
            }
        }
        let mut text = Zeroizing::new(String::new());
        yaml_write::table(&mut text, kind.plural(), table);
        out.write_all(text.as_bytes())?;
    }
    Ok(Status::Done)
}

fn create(kinds: &[Kind], name: &str, context: &Context<'_>) -> Result<Status> {
    check_name(name)?;
    files::edit(context.globals, |settings| {
        for kind in kinds {
            if settings.table(*kind).contains_key(name) {
                return Err(there_already(*kind, name));
            }
            settings.table_mut(*kind).insert(name.to_owned(), Section::default());
        }
        Ok(Status::Done)
    })
}

fn set_default(name: &str, context: &Context<'_>) -> Result<Status> {
    files::edit(context.globals, |settings| {
        if entry_mut(settings, Kind::Store, name)?.get(LOCATION).is_none() {
            let what = format!("store \"{name}\" has no location");
            return Err(Failure::new(Status::Failed, what));
        }
        settings.default = Some(name.to_owned());
        Ok(Status::Done)
    })
}

/// Changes the entries of a name.
fn change(
    kinds: &[Kind],
    name: &str,
    context: &Context<'_>,
    change: impl Fn(&mut Section),
) -> Result<Status> {
    files::edit(context.globals, |settings| {
        for kind in kinds {
            change(entry_mut(settings, *kind, name)?);
        }
        Ok(Status::Done)
    })
}
