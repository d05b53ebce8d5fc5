//! `backup`: takes a snapshot of directories and files, or of standard input.

use std::error::Error as _;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use tiroir_core::error::Error;
use tiroir_core::importer::Importer;
use tiroir_core::lock::holder;
use tiroir_core::snapshot::backup::{Event, Options, Report, backup, backup_bytes};
use tiroir_core::snapshot::check::{self, check_bytes, check_snapshot};
use tiroir_core::snapshot::scan::{self, SCAN_BYTES_MIN, scan};
use tiroir_core::time::Timestamp;
use tiroir_hosts::error::HostsError;
use tiroir_hosts::fs::ignore::{Ignore, IgnorePatterns};
use tiroir_hosts::fs::importer::FsImporter;
use tiroir_hosts::fs::mounted::{self, Home, MountRule};
use tiroir_hosts::fs::several::SeveralImporter;
use tiroir_hosts::options::Options as ConnectorOptions;
use tiroir_hosts::stdio::StdinImporter;

use super::read_chunk_bytes;
use super::version::CLIENT;
use crate::config::Kind;
use crate::connect::{self, RemoteImporter};
use crate::error::{EngineError, Failure, Result};
use crate::exit::Status;
use crate::filter::{now, parse_time};
use crate::location::{
    self, Remote, absolute, parse_options, refuse_empty, refuse_options, resolve,
};
use crate::machine;
use crate::open::Context;
use crate::report::{self, Form, Reporter, with_errors};
use crate::store::Repo;
use crate::text::duration::Duration;
use crate::text::json::Line;
use crate::text::printable::Printable;
use crate::text::redacted::redacted;
use crate::text::size::Size;
use crate::text::time::Rfc3339;

/// Back up directories and files, or standard input
///
/// Several paths come into one snapshot, whose root is the directory that leads
/// to all of them. What has not changed since the newest snapshot of the same place is not read
/// again. What cannot be read is told, recorded in the snapshot, and makes the
/// exit status 3.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the snapshot
    #[arg(long, value_name = "NAME", default_value = "default")]
    name: OsString,

    /// Category of the snapshot
    #[arg(long, value_name = "NAME", default_value = "")]
    category: OsString,

    /// Environment of the snapshot
    #[arg(long, value_name = "NAME", default_value = "")]
    environment: OsString,

    /// Perimeter of the snapshot
    #[arg(long, value_name = "NAME", default_value = "")]
    perimeter: OsString,

    /// Job of the snapshot
    #[arg(long, value_name = "NAME", default_value = "")]
    job: OsString,

    /// Tags, separated by commas. Without them, those of PLAKAR_TAGS
    #[arg(long, value_name = "TAGS")]
    tag: Option<OsString>,

    /// Leave out what matches PATTERN, as in .gitignore; patterns with a slash
    /// start at the root of the file system. May be repeated
    #[arg(long, value_name = "PATTERN", action = clap::ArgAction::Append)]
    ignore: Vec<String>,

    /// Leave out what matches the patterns in FILE
    #[arg(long, value_name = "FILE")]
    ignore_file: Option<PathBuf>,

    /// Check the snapshot when it is made
    #[arg(long)]
    check: bool,

    /// Say that the snapshot was taken at TIME
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    force_timestamp: Option<Timestamp>,

    /// Leave out extended attributes
    #[arg(long)]
    no_xattr: bool,

    /// Stay on the file system of the directory
    #[arg(long)]
    one_file_system: bool,

    /// List what would be backed up, and store nothing
    #[arg(long)]
    dry_run: bool,

    /// `no` reads every file, as if there were no earlier snapshot. Anything
    /// else is accepted for scripts of stock: caches lie in --cache-dir
    #[arg(long, value_name = "PLACE")]
    cache: Option<OsString>,

    /// Accepted for scripts of stock: nothing is read to show progress
    #[arg(long)]
    no_progress: bool,

    /// Accepted for scripts of stock: packfiles go straight into the store
    #[arg(long, value_name = "PLACE")]
    packfiles: Option<OsString>,

    /// Option of the connector to the source; for files here
    /// dont_traverse_fs=true is --one-file-system, and mount=required or mount=DIR
    /// says that something has to be mounted there. May be repeated
    #[arg(long = "option", alias = "o", visible_alias = "o", value_name = "NAME=VALUE",
          action = clap::ArgAction::Append)]
    options: Vec<String>,

    /// What to back up: paths, also as `fs:PATH`; or a place on a server,
    /// as `sftp://HOST/PATH`; or `stdin:NAME` for standard input as a file of that name. The current
    /// directory by default
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
}

/// What an interruption leaves.
const INTERRUPTED: &str = "No snapshot was made. What was stored by now stays, and the next \
                           backup does not store it again.";

/// What is backed up.
#[derive(Debug)]
pub(super) enum Place {
    /// A path of the local file system, whether to stay on its file system, and
    /// where something has to be mounted.
    Path { path: PathBuf, one_file_system: bool, mount: Option<MountRule> },
    /// Standard input, as a file of that name.
    Stdin(Vec<u8>),
    /// A place on a server.
    Remote(Remote),
}

/// Options of a path of the local file system.
pub(crate) const PATH_OPTIONS: [&str; 2] = ["dont_traverse_fs", mounted::OPTION];

impl Place {
    /// Understands an argument.
    ///
    /// # Errors
    ///
    /// For an importer that is not here.
    pub(super) fn parse(
        text: &OsStr,
        options: &ConnectorOptions,
        context: &Context<'_>,
    ) -> Result<Self> {
        refuse_empty(text, "source")?;
        let (text, options) = resolve(context.globals, Kind::Source, text, options)?;
        match location::Place::parse(&text, &options) {
            location::Place::Path(path) => {
                refuse_options(&options, &PATH_OPTIONS, "a source on a disk")?;
                let mount = MountRule::from_options(&options)?;
                let one_file_system = options.flag("dont_traverse_fs")?;
                Ok(Self::Path { path: absolute(path)?, one_file_system, mount })
            }
            location::Place::Remote(remote) => {
                remote.check()?;
                Ok(Self::Remote(remote))
            }
            location::Place::Other("stdin", name) => Ok(Self::Stdin(name.as_bytes().to_vec())),
            location::Place::Other(scheme, _) => {
                let what = format!("there is no importer for {scheme}:");
                Err(Failure::new(Status::Failed, what)
                    .with_advice("A path with a colon in it is given as ./PATH."))
            }
        }
    }
}

/// Memory for the work of a backup, of `-check` too, in bytes.
pub(super) fn work_bytes(chunk_bytes: usize) -> usize {
    backup_bytes(chunk_bytes).max(check_bytes(read_chunk_bytes(chunk_bytes)))
}

/// Memory for the work of a dry run, which reads nothing of the store.
pub(super) fn dry_work_bytes(_chunk_bytes: usize) -> usize {
    SCAN_BYTES_MIN
}

/// Backs up, and says how it went.
///
/// # Errors
///
/// What keeps the snapshot from being made.
pub(crate) fn run(args: &Args, context: &Context<'_>, out: &mut dyn Write) -> Result<Status> {
    let given = parse_options(&args.options)?;
    let source = Source::of(&args.paths, &given, context)?;
    if args.force_timestamp.is_some_and(|time| time > now()) {
        return Err(Failure::usage("forced timestamp cannot be in the future"));
    }
    let one_file_system = args.one_file_system || source.one_file_system();
    if one_file_system && matches!(source, Source::Remote(_)) {
        return Err(Failure::usage("servers do not tell which file system something is on"));
    }
    let mut opened = context.open()?;
    let (paths, mounts) = match source {
        Source::Stdin(name) => {
            return args.store(context, opened, &mut StdinImporter::new(&name), out);
        }
        Source::Remote(remote) => {
            let ignore = args.patterns(None)?.build()?;
            let found = open_remote(&remote, context, Some(ignore.clone()))?;
            if let Some(top) = &found.ignored_root {
                warn_of_ignored_root(top);
            }
            let around = context.surroundings();
            let mut importer = connect::ahead(found.importer, &remote, &around, Some(ignore))?;
            return args.store(context, opened, &mut importer, out);
        }
        Source::Paths { paths, mounts, .. } => (paths, mounts),
    };
    let ignore = args.patterns(opened.location.path())?.build()?;
    let set_up = |importer: FsImporter| {
        let importer = importer.with_one_file_system(one_file_system)?.with_ignore(ignore.clone());
        if importer.is_root_ignored() {
            warn_of_ignored_root(importer.top());
        }
        Ok(importer)
    };
    if let [path] = paths.as_slice() {
        let mut importer = set_up(open_importer(path)?)?;
        opened.store.guard(hold(&paths, mounts)?);
        return args.store(context, opened, &mut importer, out);
    }
    machine::allow_descriptors(paths.len());
    let mut importer = SeveralImporter::open(&paths, set_up).map_err(nothing_there)?;
    opened.store.guard(hold(&paths, mounts)?);
    args.store(context, opened, &mut importer, out)
}

fn warn_of_ignored_root(top: &[u8]) {
    report::warn(&format!(
        "{} itself is left out by a pattern: the snapshot will hold nothing of it",
        Printable(top)
    ));
}

/// What goes into one snapshot.
#[derive(Debug)]
enum Source {
    /// Paths of the local file system, and whether to stay on theirs.
    Paths { paths: Vec<PathBuf>, mounts: Vec<Option<MountRule>>, one_file_system: bool },
    /// Standard input, as a file of that name.
    Stdin(Vec<u8>),
    /// A place on a server.
    Remote(Remote),
}

impl Source {
    /// Understands the arguments: the current directory, if there are none.
    fn of(
        arguments: &[OsString],
        options: &ConnectorOptions,
        context: &Context<'_>,
    ) -> Result<Self> {
        let here = [OsString::from(".")];
        let arguments = if arguments.is_empty() { &here[..] } else { arguments };
        let mut paths = Vec::with_capacity(arguments.len());
        let mut mounts = Vec::with_capacity(arguments.len());
        let mut one_file_system = false;
        for argument in arguments {
            match Place::parse(argument, options, context)? {
                Place::Path { path, one_file_system: only, mount } => {
                    paths.push(path);
                    mounts.push(mount);
                    one_file_system |= only;
                }
                Place::Stdin(name) if arguments.len() == 1 => return Ok(Self::Stdin(name)),
                Place::Remote(remote) if arguments.len() == 1 => return Ok(Self::Remote(remote)),
                Place::Stdin(_) | Place::Remote(_) => {
                    return Err(Failure::usage(
                        "standard input, a server and other sources cannot be put into one snapshot",
                    )
                    .with_advice("Back them up one after the other."));
                }
            }
        }
        Ok(Self::Paths { paths, mounts, one_file_system })
    }

    fn one_file_system(&self) -> bool {
        matches!(self, Self::Paths { one_file_system: true, .. })
    }
}

/// Holds the file systems of what is backed up: no snapshot is made of the empty
/// place of a disk that was unplugged meanwhile.
///
/// # Errors
///
/// Where nothing is mounted, and something has to be; of the system.
fn hold(paths: &[PathBuf], mounts: Vec<Option<MountRule>>) -> Result<Vec<Home>> {
    let mut homes: Vec<Home> = Vec::new();
    for (path, mount) in paths.iter().zip(mounts) {
        let has_rule = mount.is_some();
        let home = Home::hold(path, mount).map_err(nothing_there)?.with_any_directory();
        // One for each file system will do.
        if has_rule || !homes.iter().any(|other| other.is_beside(&home)) {
            homes.push(home);
        }
    }
    Ok(homes)
}

/// Opens what is backed up.
///
/// # Errors
///
/// Of the system, as when there is nothing.
pub(super) fn open_importer(path: &Path) -> Result<FsImporter> {
    FsImporter::open(path).map_err(nothing_there)
}

/// Opens what is backed up from a server.
///
/// # Errors
///
/// Of the server, as when there is nothing.
pub(super) fn open_remote(
    remote: &Remote,
    context: &Context<'_>,
    ignore: Option<Ignore>,
) -> Result<RemoteImporter> {
    connect::importer(remote, &context.surroundings(), ignore).map_err(nothing_there)
}

/// Why there is nothing to back up.
fn nothing_there(error: HostsError) -> Failure {
    Failure::from(error)
        .while_doing("there is nothing to back up")
        .with_advice("Nothing was stored.")
}

/// Prints what a dry run has found.
fn print_found(event: &scan::Event<'_, HostsError>, json: bool, out: &mut dyn Write) -> Result<()> {
    match event {
        scan::Event::Entry { path, .. } if json => {
            let mut line = Line::new(out, "entry")?;
            line.text("path", path)?;
            Ok(line.end()?)
        }
        scan::Event::Entry { path, .. } => Ok(writeln!(out, "{}", Printable(path))?),
        scan::Event::Failed { path, error } => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(error) = source {
                text.push_str(&format!(": {error}"));
                source = error.source();
            }
            report::warn(&format!("{}: {text}", Printable(path)));
            Ok(())
        }
        scan::Event::TooLong { directory } => {
            report::warn(&format!("{}: a path in it is too long", Printable(directory)));
            Ok(())
        }
    }
}

impl Args {
    /// The patterns of what is left out, and the store itself.
    fn patterns(&self, store: Option<&Path>) -> Result<IgnorePatterns> {
        let mut patterns = IgnorePatterns::new();
        let warn = |added: Result<(), HostsError>| {
            if let Err(error) = added {
                report::warn(&error.to_string());
            }
        };
        if let Some(path) = &self.ignore_file {
            // That it can be read is asked first: then what is left are lines.
            std::fs::File::open(path)
                .map_err(|error| Failure::io(format_args!("open {}", path.display()), error))?;
            warn(patterns.add_file(path));
        }
        for pattern in &self.ignore {
            warn(patterns.add(pattern));
        }
        if let Some(pattern) = store.and_then(pattern_of) {
            warn(patterns.add(&pattern));
        }
        Ok(patterns)
    }

    /// Lists what `importer` would read.
    fn scan(
        context: &Context<'_>,
        opened: crate::open::Opened,
        mut importer: &mut dyn Importer<Error = HostsError>,
        out: &mut dyn Write,
    ) -> Result<Status> {
        context.with_repository(opened, dry_work_bytes, |repo, memory| {
            let json = context.globals.json;
            let mut printed = Ok(());
            let report = scan(repo, &mut importer, memory, &mut |event| {
                if printed.is_ok() {
                    printed = print_found(event, json, out);
                }
                Ok(())
            })?;
            printed?;
            let entries = report.entries;
            let size = Size(report.bytes);
            if !json {
                report::say(&format!(
                    "tiroir: dry run: {entries} entries and {size} would be backed up; nothing was stored"
                ));
            }
            Ok(if report.failed == 0 { Status::Done } else { Status::Incomplete })
        })
    }

    /// Backs up what `importer` reads.
    fn store(
        &self,
        context: &Context<'_>,
        opened: crate::open::Opened,
        mut importer: &mut dyn Importer<Error = HostsError>,
        out: &mut dyn Write,
    ) -> Result<Status> {
        if self.dry_run {
            return Self::scan(context, opened, importer, out);
        }
        let tags = self.tags();
        let tags: Vec<&[u8]> = tags.iter().map(Vec::as_slice).collect();
        let provenance = Provenance::new();
        let pairs = provenance.pairs();
        let options = Options {
            name: self.name.as_bytes(),
            category: self.category.as_bytes(),
            environment: self.environment.as_bytes(),
            perimeter: self.perimeter.as_bytes(),
            job: self.job.as_bytes(),
            tags: &tags,
            context: &pairs,
            timestamp: self.force_timestamp,
            skip_xattrs: self.no_xattr,
            read_all: self.cache.as_ref().is_some_and(|cache| cache == "no"),
            hostname: provenance.hostname(),
            copy_of: None,
        };
        context.with_written(opened, work_bytes, |repo, memory| {
            let mut reporter = Reporter::new(context.globals, "backup");
            let made = backup(repo, &mut importer, &options, memory, &mut |event| {
                tell(event, &mut reporter);
            });
            let mut report = made.map_err(|error| why_not(error, repo))?;
            // With the uploads at the end, of which the snapshot cannot know.
            report.duration_nanos = reporter.elapsed_nanos();
            let form = reporter.finish();
            if let Some(warning) = clock_warning(report.previous_at, now()) {
                report::warn(&warning);
            }
            if report.lock_left_behind {
                report::warn(
                    "the lock of the store could not be given back: it is void in 10 minutes",
                );
            }
            summary("backup", &report, repo, form, out)?;
            let errors = report.summary.total_errors();
            let status = if errors == 0 { Status::Done } else { Status::Incomplete };
            if self.check {
                return Ok(status.and(self.check(context, repo, &report, memory, out)?));
            }
            Ok(status)
        })
    }

    /// Checks the snapshot that was made.
    fn check(
        &self,
        context: &Context<'_>,
        repo: &mut Repo<'_>,
        made: &Report,
        memory: &mut [u8],
        out: &mut dyn Write,
    ) -> Result<Status> {
        let mut reporter = Reporter::new(context.globals, "check");
        context.refresh(repo, memory)?;
        let options = check::Options::default();
        let report = check_snapshot(repo, &made.snapshot, None, &options, memory, &mut |event| {
            super::check::tell(event, &mut reporter);
        })?;
        let name = format!("{:.4}", made.snapshot);
        super::check::summary(&name, &report, &mut reporter, repo, out)?;
        Ok(if report.bad == 0 { Status::Done } else { Status::Integrity })
    }

    /// Tags of the snapshot: of the option as they are, or of the environment
    /// without blanks.
    fn tags(&self) -> Vec<Vec<u8>> {
        if let Some(list) = self.tag.as_ref().filter(|list| !list.is_empty()) {
            return list.as_bytes().split(|byte| *byte == b',').map(<[u8]>::to_vec).collect();
        }
        let list = std::env::var_os("PLAKAR_TAGS").unwrap_or_default();
        let tags = list.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        tags.filter(|tag| !tag.is_empty()).map(<[u8]>::to_vec).collect()
    }
}

/// Why no snapshot was made.
fn why_not(error: EngineError, repo: &mut Repo<'_>) -> Failure {
    let holder = match &error {
        Error::Locked(name) => holder(repo, name).ok().flatten(),
        _ => None,
    };
    let failure = Failure::from(error).if_interrupted(INTERRUPTED);
    match holder {
        None => failure,
        Some(holder) => failure.while_doing(format_args!(
            "{}, since {}",
            Printable(&holder.hostname),
            Rfc3339(holder.since)
        )),
    }
}

/// What to say where the snapshot before this one lies in the future: it stays
/// the newest, and this one would be missed.
fn clock_warning(previous: Option<Timestamp>, now: Timestamp) -> Option<String> {
    let previous = Rfc3339(previous.filter(|previous| *previous > now)?);
    Some(format!(
        "another snapshot of this place was taken in the future, {previous}, or the clock of this \
         machine is wrong: `restore` without a snapshot takes that one for the newest"
    ))
}

/// A pattern that matches one path and nothing else; nothing for a path that
/// is not UTF-8.
fn pattern_of(path: &Path) -> Option<String> {
    let mut pattern = String::new();
    for c in path.to_str()?.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '!' | '#' | ' ' | '{' | '}') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    Some(pattern)
}

/// Passes an event on.
pub(super) fn tell(event: &Event<'_>, reporter: &mut Reporter) {
    match event {
        Event::Entry { .. } => reporter.entry(),
        Event::Read { bytes } => reporter.moved(*bytes),
        Event::Failed { path, message } => {
            reporter.failed(path, &String::from_utf8_lossy(message));
        }
        Event::Changed { path } => reporter.noted(path, "changed while it was read"),
    }
}

/// Writes the summary, as stock words it, of what was done: `verb`.
///
/// # Errors
///
/// Of `out`.
pub(super) fn summary(
    verb: &'static str,
    report: &Report,
    repo: &Repo<'_>,
    form: Option<Form>,
    out: &mut dyn Write,
) -> Result<()> {
    let errors = report.summary.total_errors();
    let (read, written) = (repo.store.read_bytes, repo.store.written_bytes);
    match form {
        None => {}
        Some(Form::Text) => writeln!(
            out,
            "{:.4}: {verb} completed {} in {} (in: {}, out: {})",
            report.snapshot,
            with_errors(errors),
            Duration(report.duration_nanos),
            Size(read),
            Size(written)
        )?,
        Some(Form::Json) => {
            let mut line = Line::new(out, verb)?;
            line.show("snapshot", report.snapshot)?;
            line.number("errors", errors)?;
            line.number("duration_ns", report.duration_nanos)?;
            line.number("size", report.summary.total_size_bytes())?;
            line.number("files", report.summary.below.files + report.summary.directory.files)?;
            line.number("unchanged", report.unchanged)?;
            line.number("changed_while_read", report.changed_while_read)?;
            line.number("new_bytes", report.new_bytes)?;
            line.number("read_from_store", read)?;
            line.number("written_to_store", written)?;
            line.number("written_to_cache", repo.index.written_bytes())?;
            line.end()?;
        }
    }
    Ok(())
}

/// What a snapshot says of the machine and program that made it.
#[derive(Debug)]
pub(super) struct Provenance {
    pairs: [(&'static str, Vec<u8>); 10],
}

impl Provenance {
    /// That of this process.
    pub(super) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut line = Vec::new();
        for (index, argument) in std::env::args_os().enumerate() {
            if index > 0 {
                line.push(b' ');
            }
            line.extend_from_slice(&redacted(argument.as_bytes()));
        }
        let pairs = [
            ("Hostname", machine::hostname().into_bytes()),
            ("Username", machine::username().into_bytes()),
            ("OperatingSystem", b"linux".to_vec()),
            ("MachineID", machine::machine_id().into_bytes()),
            ("CommandLine", line),
            ("ProcessID", std::process::id().to_string().into_bytes()),
            ("Architecture", machine::architecture().into_bytes()),
            ("NumCPU", processors.to_string().into_bytes()),
            ("MaxProcs", b"1".to_vec()),
            ("Client", CLIENT.as_bytes().to_vec()),
        ];
        Self { pairs }
    }

    /// Pairs of key and value, in stock's order.
    pub(super) fn pairs(&self) -> [(&[u8], &[u8]); 10] {
        self.pairs.each_ref().map(|(key, value)| (key.as_bytes(), value.as_slice()))
    }

    /// Name of the machine.
    pub(super) fn hostname(&self) -> &[u8] {
        &self.pairs[0].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Globals;

    #[test]
    fn clocks_that_were_set_back() {
        let at = |secs| Timestamp { secs, nanos: 0 };
        assert_eq!(clock_warning(None, at(5)), None);
        assert_eq!(clock_warning(Some(at(5)), at(5)), None);
        let warning = clock_warning(Some(at(1_893_456_000)), at(5)).unwrap();
        assert!(warning.contains("2030-01-01T00:00:00Z"), "{warning}");
    }

    #[test]
    fn places() {
        let globals = Globals::default();
        let context = Context::new(&globals, std::sync::Arc::default());
        let parse =
            |text: &str| Place::parse(OsStr::new(text), &ConnectorOptions::default(), &context);
        assert!(matches!(parse("sftp://nas/x"), Ok(Place::Remote(_))));
        for text in ["/x", "fs:/x"] {
            let place = parse(text);
            assert!(matches!(place, Ok(Place::Path { path, .. }) if path == Path::new("/x")));
        }
        let stdin = parse("stdin:dump.sql");
        assert!(matches!(stdin, Ok(Place::Stdin(name)) if name == b"dump.sql"));
        assert!(parse("smb://x").is_err());
    }

    #[test]
    fn the_store_is_one_path() {
        assert_eq!(pattern_of(Path::new("/a b/[x]*")).unwrap(), "/a\\ b/\\[x\\]\\*");
        let mut patterns = IgnorePatterns::new();
        patterns.add(&pattern_of(Path::new("/a b/[x]*")).unwrap()).unwrap();
        let ignore = patterns.build().unwrap();
        assert!(ignore.matches(b"/a b/[x]*", true));
        assert!(!ignore.matches(b"/a b/x", true));
        assert!(!ignore.matches(b"/y/a b/[x]*", true));
    }
}
