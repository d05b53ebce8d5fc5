//! From a location to an open repository: connector, CONFIG, key, memory,
//! index.

use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tiroir_core::crypto::StoreKey;
use tiroir_core::crypto::kdf::{Kdf, KdfError};
use tiroir_core::error::{Error, FormatError, Subject};
use tiroir_core::host::{HostError as _, HostErrorKind};
use tiroir_core::limits::{CHUNK_BYTES_MAX, CONFIG_BYTES_MAX};
use tiroir_core::refresh::OnDamage;
use tiroir_core::repository::{Repository, key_opens, parse_config};
use tiroir_core::store::Store as _;
use tiroir_core::wire::config::{Config, Encryption};
use tiroir_hosts::arena::Arena;
use tiroir_hosts::env::SystemHost;
use tiroir_hosts::error::HostsError;
use tiroir_hosts::index::{Fallback, IndexOptions, Remake, SqliteIndex};
use tiroir_hosts::options::Options;
use tiroir_hosts::rate::Limits;
use tiroir_hosts::workers::Workers;
use zeroize::{Zeroize as _, Zeroizing};

use crate::budget::{self, Divided, Plan, Share};
use crate::cli::Globals;
use crate::config::{self, Kind};
use crate::connect::Surroundings;
use crate::error::{EngineError, Failure, Result, with_causes};
use crate::exit::Status;
use crate::heap;
use crate::location::{Location, parse_options};
use crate::machine;
use crate::passphrase::{self, Passphrase};
use crate::report;
use crate::store::{AnyStore, Appliance, Repo};
use crate::text::size::Size;

/// What all commands are given.
#[derive(Debug)]
pub(crate) struct Context<'g> {
    /// Global options.
    pub(crate) globals: &'g Globals,
    /// Set by a signal.
    cancelled: Arc<AtomicBool>,
    /// How fast bytes go to servers and come from them, over all connections.
    limits: Limits,
    /// Something of the store could not be read, and was passed over.
    damaged: Cell<bool>,
    /// Passphrases of stores that were named, with where they are.
    passphrases: RefCell<Vec<(String, Passphrase)>>,
}

/// A store whose key is known.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Where it is.
    pub(crate) location: Location,
    /// The connector.
    pub(crate) store: AnyStore,
    /// CONFIG, envelope included.
    pub(crate) config: Vec<u8>,
    /// Its key, if it has one.
    pub(crate) key: Option<StoreKey>,
}

/// When the terminal is asked for a passphrase.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Asking {
    /// When none was given.
    IfNothingGiven,
    /// Also when that one does not open the store.
    IfRefused,
}

impl Asking {
    /// Stock's words.
    fn prompt(self) -> &'static str {
        match self {
            Self::IfNothingGiven => "repository passphrase: ",
            Self::IfRefused => "source repository passphrase: ",
        }
    }
}

/// Room for the indexes of all stores together, unless `--cache-limit` says
/// otherwise: some seventeen million blobs.
const CACHE_BYTES_DEFAULT: u64 = 1 << 30;

/// Number of hexadecimal digits of a key.
const KEY_DIGITS: usize = 64;

impl<'g> Context<'g> {
    /// What commands are given, from the global options.
    pub(crate) fn new(globals: &'g Globals, cancelled: Arc<AtomicBool>) -> Self {
        let limits = Limits::new(Arc::clone(&cancelled))
            .with(globals.limit_up.unwrap_or(0), globals.limit_down.unwrap_or(0));
        let (damaged, passphrases) = Default::default();
        Self { globals, cancelled, limits, damaged, passphrases }
    }

    /// Where a store was said to be, by `at` or the environment.
    ///
    /// # Errors
    ///
    /// A location that is not understood.
    fn given_location(&self) -> Result<Option<Location>> {
        let variables = ["TIROIR_STORE", "PLAKAR_REPOSITORY"];
        let mut values = variables.iter().filter_map(std::env::var_os);
        let given = self.globals.at.clone();
        let given = given.or_else(|| values.find(|value| !value.is_empty()));
        given.map(|text| self.locate(&text, &self.store_options()?)).transpose()
    }

    /// Understands the location of a store, which may be `@NAME`. The passphrase
    /// of that entry is kept for when the store is opened.
    ///
    /// # Errors
    ///
    /// A location that is not understood, and a name that there is not.
    pub(crate) fn locate(&self, text: &OsStr, options: &Options) -> Result<Location> {
        if !config::is_name(text) {
            return Location::parse(text, options);
        }
        let entry = config::find(self.globals, Kind::Store, text)?;
        let location = Location::parse(&entry.location, &entry.options.with(options))?;
        if let Some(passphrase) = entry.passphrase {
            self.passphrases.borrow_mut().push((location.to_string(), passphrase));
        }
        Ok(location)
    }

    /// The passphrase of a store that was named, if its entry has one.
    pub(crate) fn known_passphrase(&self, location: &Location) -> Option<Passphrase> {
        let location = location.to_string();
        let known = self.passphrases.borrow();
        known.iter().find(|(of, _)| *of == location).map(|(_, passphrase)| passphrase.clone())
    }

    /// The CONFIG of the store that was named, if one was. It is not opened: no
    /// key is needed, and nothing compares CONFIG with its MAC.
    ///
    /// # Errors
    ///
    /// That there is no store.
    pub(crate) fn given_config(&self) -> Result<Option<Vec<u8>>> {
        let location = self.given_location()?;
        location.map(|location| self.config_of(&location)).transpose()
    }

    /// The CONFIG of a store, which is not opened.
    ///
    /// # Errors
    ///
    /// That there is no store.
    pub(crate) fn config_of(&self, location: &Location) -> Result<Vec<u8>> {
        let mut store = AnyStore::at(location, &self.surroundings())
            .map_err(|error| no_store(location, error))?;
        read_config(&mut store, location)
    }

    /// Where the store is: `at`, the environment, the configuration, or stock's
    /// default.
    ///
    /// # Errors
    ///
    /// A location that is not understood.
    pub(crate) fn location(&self) -> Result<Location> {
        if let Some(location) = self.given_location()? {
            return Ok(location);
        }
        match config::default_store(self.globals)? {
            Some(name) => self.locate(&name, &self.store_options()?),
            None => {
                let home = machine::home().ok_or_else(|| {
                    Failure::new(Status::NoStore, "no store was named")
                        .with_advice("Say where it is: tiroir at STORE COMMAND")
                })?;
                Ok(Location::Directory(home.join(".plakar")))
            }
        }
    }

    /// Options of the store that was named.
    fn store_options(&self) -> Result<Options> {
        parse_options(&self.globals.store_options)
    }

    /// What connectors are told of this run.
    pub(crate) fn surroundings(&self) -> Surroundings {
        Surroundings {
            home: std::env::var_os("HOME")
                .filter(|home| !home.is_empty())
                .map(PathBuf::from)
                .or_else(machine::home)
                .unwrap_or_else(|| PathBuf::from("/")),
            spool: self.spool_directory(),
            cancelled: Arc::clone(&self.cancelled),
            width: budget::width(self.budget_bytes()),
            limits: self.limits.clone(),
        }
    }

    /// Memory that may be taken.
    pub(crate) fn budget_bytes(&self) -> u64 {
        self.globals.memory.unwrap_or_else(budget::default_bytes)
    }

    /// Where temporary files go: to a disk, where there is a choice.
    pub(crate) fn spool_directory(&self) -> PathBuf {
        if let Some(directory) = &self.globals.spool {
            return directory.clone();
        }
        if let Some(directory) = std::env::var_os("TMPDIR").filter(|value| !value.is_empty()) {
            return PathBuf::from(directory);
        }
        let disk = Path::new("/var/tmp");
        let is_fit = rustix::fs::access(disk, rustix::fs::Access::WRITE_OK).is_ok();
        PathBuf::from(if is_fit { disk } else { Path::new("/tmp") })
    }

    /// Sees that there is a place for temporary files, before anything needs it.
    fn check_spool_directory(&self) -> Result<()> {
        let directory = self.spool_directory();
        if directory.is_dir() {
            return Ok(());
        }
        let what = format!("there is no directory {} for temporary files", directory.display());
        Err(Failure::new(Status::NoTarget, what)
            .with_advice("Make it, or say another one with --spool DIR or in TMPDIR."))
    }

    /// Where indexes are kept; nothing if there is no such place.
    fn cache_directory(&self) -> Option<PathBuf> {
        if let Some(directory) = &self.globals.cache_dir {
            return Some(directory.clone());
        }
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || variable("HOME").map(PathBuf::from).or_else(machine::home);
        let cache = cache.or_else(|| Some(home()?.join(".cache")))?;
        Some(cache.join("tiroir"))
    }

    /// Clock, entropy and spools, for one repository.
    fn host(&self) -> SystemHost {
        SystemHost::new(self.spool_directory()).with_cancellation(Arc::clone(&self.cancelled))
    }

    /// What a signal sets.
    pub(crate) fn cancelled(&self) -> &AtomicBool {
        &self.cancelled
    }

    /// Fails when a signal has asked to stop.
    ///
    /// # Errors
    ///
    /// [`Status::Interrupted`].
    pub(crate) fn check_cancelled(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(EngineError::Cancelled.into());
        }
        Ok(())
    }

    /// Tells of something in the store that cannot be read and is passed over.
    /// The run goes on, and ends with [`Status::Integrity`].
    pub(crate) fn pass_over(&self, what: &EngineError) {
        self.damaged.set(true);
        report::warn(&format!("{what}; what depends on it is not shown"));
    }

    /// The status of a run that ended with `status`, if nothing of the store
    /// had to be passed over.
    pub(crate) fn status(&self, status: Status) -> Status {
        if self.damaged.get() { status.and(Status::Integrity) } else { status }
    }

    /// Opens the store that the command line names.
    ///
    /// # Errors
    ///
    /// [`Status::NoStore`], [`Status::Authentication`], [`Status::Integrity`],
    /// [`Status::Incompatible`], and others of the system.
    pub(crate) fn open(&self) -> Result<Opened> {
        self.open_at(self.location()?, Asking::IfNothingGiven)
    }

    /// Opens a store that is read beside the one that is written. The
    /// passphrase that was given may be that of the other: if it does not open
    /// this one, the terminal is asked.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub(crate) fn open_source(&self, location: Location) -> Result<Opened> {
        self.open_at(location, Asking::IfRefused)
    }

    fn open_at(&self, location: Location, asking: Asking) -> Result<Opened> {
        let mut store = AnyStore::at(&location, &self.surroundings())
            .map_err(|error| no_store(&location, error))?;
        let config = read_config(&mut store, &location)?;
        let parsed = parse_config(&config).map_err(Error::damaged(Subject::Config));
        let parsed = parsed.map_err(|error: EngineError| {
            Failure::from(error).while_doing(format_args!("store {location}"))
        })?;
        let key = match parsed.encryption {
            None => None,
            Some(encryption) => {
                let known = self.known_passphrase(&location);
                Some(self.unlock(&parsed, &encryption, asking, known)?)
            }
        };
        Ok(Opened { location, store, config, key })
    }

    /// Finds the key of a store. Its entry may have a passphrase, which goes before
    /// that of the environment; and before all others if it is not the store that
    /// the command is about.
    fn unlock(
        &self,
        config: &Config<'_>,
        encryption: &Encryption<'_>,
        asking: Asking,
        known: Option<Passphrase>,
    ) -> Result<StoreKey> {
        if let Some(path) = &self.globals.key_file {
            let key = read_key(path)?;
            return if key_opens(config, &key) {
                Ok(key)
            } else {
                let what = format!("the key in {} is not that of the store", path.display());
                Err(Failure::new(Status::Authentication, what).with_advice(
                    "A passphrase file is given with -keyfile, not with --key-file. If this is its \
                                  key, CONFIG of the store is damaged.",
                ))
            };
        }
        let given = match (asking, known) {
            (Asking::IfRefused, Some(known)) => Some(known),
            (_, known) => passphrase::given(self.globals, known)?,
        };
        if let Some(passphrase) = given {
            match (self.derive_and_compare(config, encryption, &passphrase)?, asking) {
                (Some(key), _) => return Ok(key),
                (None, Asking::IfNothingGiven) => return Err(refused()),
                (None, Asking::IfRefused) => {}
            }
        }
        for attempt in 1..=passphrase::ATTEMPTS {
            let passphrase = passphrase::ask(asking.prompt())?;
            if let Some(key) = self.derive_and_compare(config, encryption, &passphrase)? {
                return Ok(key);
            }
            if attempt < passphrase::ATTEMPTS {
                report::warn("the passphrase does not open the store: try again");
            }
        }
        Err(refused())
    }

    fn derive_and_compare(
        &self,
        config: &Config<'_>,
        encryption: &Encryption<'_>,
        passphrase: &Passphrase,
    ) -> Result<Option<StoreKey>> {
        let key = self.derive(&encryption.kdf, passphrase, encryption.salt)?;
        Ok(Some(key).filter(|key| key_opens(config, key)))
    }

    /// Derives a key, in memory or in the file that was named for it.
    ///
    /// # Errors
    ///
    /// When there is not so much memory, with the ways around it.
    pub(crate) fn derive(&self, kdf: &Kdf, passphrase: &[u8], salt: &[u8]) -> Result<StoreKey> {
        kdf.check().map_err(|error| kdf_failure(kdf, error))?;
        let blocks = kdf.arena_blocks();
        let derived = match &self.globals.kdf_arena {
            Some(path) if blocks > 0 => {
                let mut arena = Arena::in_file(path, blocks)?;
                kdf.derive_with_arena(passphrase, salt, arena.blocks())
            }
            _ => {
                let available = machine::Memory::read().map(|memory| memory.available_bytes);
                let needed_bytes = kdf.memory_bytes();
                if available.is_some_and(|available| needed_bytes > available) {
                    return Err(kdf_failure(kdf, KdfError::Memory { needed_bytes }));
                }
                let mut arena = Arena::in_memory(blocks);
                if arena.is_none() && blocks > 0 {
                    return Err(kdf_failure(kdf, KdfError::Memory { needed_bytes }));
                }
                let arena = arena.as_mut().map(Arena::blocks).unwrap_or_default();
                // Scrypt asks for its own.
                heap::refusable(|| kdf.derive_with_arena(passphrase, salt, arena))
            }
        };
        derived.map_err(|error| kdf_failure(kdf, error))
    }

    /// Gives `work` the repository of an opened store, brought up to date or
    /// not, and the rest of the memory, of which it needs what `work_bytes`
    /// says for the largest chunk of the store.
    ///
    /// # Errors
    ///
    /// What `work` returns; that the memory is not enough; and those of
    /// opening the index.
    pub(crate) fn with_repository<R>(
        &self,
        opened: Opened,
        work_bytes: impl FnOnce(usize) -> usize,
        work: impl FnOnce(&mut Repo<'_>, &mut [u8]) -> Result<R>,
    ) -> Result<R> {
        self.with_index(opened, Use::Read(Share::All), work_bytes, work)
    }

    /// The same for a store that is written, by several threads if there are
    /// processors and memory for them.
    ///
    /// # Errors
    ///
    /// As [`with_repository`](Self::with_repository).
    pub(crate) fn with_written<R>(
        &self,
        opened: Opened,
        work_bytes: impl FnOnce(usize) -> usize,
        work: impl FnOnce(&mut Repo<'_>, &mut [u8]) -> Result<R>,
    ) -> Result<R> {
        self.with_index(opened, Use::Write, work_bytes, work)
    }

    /// The same for a store that is read beside another that is written.
    ///
    /// # Errors
    ///
    /// As [`with_repository`](Self::with_repository).
    pub(crate) fn with_source<R>(
        &self,
        opened: Opened,
        work_bytes: impl FnOnce(usize) -> usize,
        work: impl FnOnce(&mut Repo<'_>, &mut [u8]) -> Result<R>,
    ) -> Result<R> {
        self.with_index(opened, Use::Read(Share::Half), work_bytes, work)
    }

    /// The same for a store that was just made, and of which no index is kept:
    /// an archive is written once.
    ///
    /// # Errors
    ///
    /// As [`with_repository`](Self::with_repository).
    pub(crate) fn with_new_repository<R>(
        &self,
        opened: Opened,
        share: Share,
        work_bytes: impl FnOnce(usize) -> usize,
        work: impl FnOnce(&mut Repo<'_>, &mut [u8]) -> Result<R>,
    ) -> Result<R> {
        self.with_index(opened, Use::Make(share), work_bytes, work)
    }

    fn with_index<R>(
        &self,
        opened: Opened,
        what_for: Use,
        work_bytes: impl FnOnce(usize) -> usize,
        work: impl FnOnce(&mut Repo<'_>, &mut [u8]) -> Result<R>,
    ) -> Result<R> {
        let Opened { location, store, config, key } = opened;
        let damaged = |error| Failure::from(EngineError::damaged(Subject::Config)(error));
        let parsed = parse_config(&config).map_err(damaged)?;
        let chunk_bytes = chunk_bytes(&parsed);
        let mut plan = Plan::new(self.budget_bytes(), what_for.share(), work_bytes(chunk_bytes))?;
        if what_for.writes() {
            plan = plan.with_threads(self.processors(), chunk_bytes);
        }
        self.check_spool_directory()?;
        let mut memory = plan.allocate()?;
        let divided = plan.divide(&mut memory).map_err(damaged)?;
        let id = parsed.repository_id;
        let index = match what_for {
            Use::Make(_) => SqliteIndex::temporary(self.index_options(&plan))?,
            Use::Read(_) | Use::Write => {
                let mut index = self.index(&id, &plan)?;
                index.set_remake(self.remake(location, &config, key.as_ref()));
                index
            }
        };
        let is_kept = !index.is_temporary();
        let done = thread::scope(|scope| {
            let Divided { memory, batches, scratches, work: rest } = divided;
            let mut workers =
                (!scratches.is_empty()).then(|| Workers::new(scope, batches, scratches));
            let mut repository = Repository::open(self.host(), store, index, &config, key, memory)?;
            if let Some(workers) = &mut workers {
                repository.lend_pipeline(workers);
            }
            work(&mut repository, rest)
        });
        match done {
            Err(failure) if is_kept && failure.doubts_index() => {
                // Some location may have been lost in the index. It is made
                // anew from the states next time, at the cost of reading them.
                if let Some(cache) = self.cache_directory() {
                    let _ = SqliteIndex::discard(&cache, &id);
                }
                Err(failure)
            }
            done => done,
        }
    }

    /// Processors that may be used.
    pub(crate) fn processors(&self) -> usize {
        let asked = self.globals.concurrency.and_then(|count| usize::try_from(count).ok());
        match asked {
            Some(count) if count > 0 => count,
            _ => thread::available_parallelism().map_or(1, NonZero::get),
        }
    }

    fn index_options(&self, plan: &Plan) -> IndexOptions {
        IndexOptions::new(self.spool_directory())
            .with_page_cache(plan.index_cache_bytes)
            .with_filter(plan.index_filter_bytes)
            .with_limit(self.globals.cache_limit.unwrap_or(CACHE_BYTES_DEFAULT))
            .with_fallback(tell_fallback)
    }

    fn index(&self, id: &[u8; 16], plan: &Plan) -> Result<SqliteIndex, HostsError> {
        let options = self.index_options(plan);
        match self.cache_directory() {
            Some(cache) => SqliteIndex::open(&cache, id, options),
            None => SqliteIndex::temporary(options),
        }
    }

    /// Means to make an index anew in the middle of a run: the store is opened
    /// once more beside the one that is in use, with memory of its own.
    fn remake(&self, location: Location, config: &[u8], key: Option<&StoreKey>) -> Remake {
        let (host, config, key) = (self.host(), config.to_vec(), key.cloned());
        let around = self.surroundings();
        Remake::new(move |index| {
            let refused = |error: EngineError| match error {
                Error::Host(error) => error,
                error => HostsError::recorded(error.to_string().into_bytes()),
            };
            let store = AnyStore::at(&location, &around)?;
            let mut memory = vec![0; budget::REFRESH_BYTES];
            let memory = budget::for_refresh(&mut memory)
                .map_err(|error| refused(Error::damaged(Subject::Config)(error)))?;
            let opened = Repository::<Appliance>::open(host, store, index, &config, key, memory);
            let mut repository = opened.map_err(refused)?;
            // What cannot be read was told when the first index was made.
            repository.refresh(&mut [], &mut |_| OnDamage::Skip).map_err(refused)?;
            Ok(repository.index)
        })
    }

    /// Opens the store that the command line names, brings its index up to
    /// date, and gives it to `work`. States that cannot be read are passed
    /// over, because what can be had should be.
    ///
    /// # Errors
    ///
    /// As [`with_repository`](Self::with_repository).
    pub(crate) fn read<R>(
        &self,
        work_bytes: impl FnOnce(usize) -> usize,
        work: impl FnOnce(&mut Repo<'_>, &mut [u8]) -> Result<R>,
    ) -> Result<R> {
        let opened = self.open()?;
        self.with_repository(opened, work_bytes, |repository, memory| {
            self.refresh(repository, memory)?;
            work(repository, memory)
        })
    }

    /// Brings an index up to date, and fails for a state that cannot be read:
    /// for what must be whole.
    ///
    /// # Errors
    ///
    /// Those of the store and the index.
    pub(crate) fn refresh_whole(&self, repository: &mut Repo<'_>, memory: &mut [u8]) -> Result<()> {
        Ok(repository.refresh(memory, &mut |_| OnDamage::Fail)?)
    }

    /// Brings an index up to date, and passes over states that cannot be read.
    /// `memory` is lent to read large ones.
    ///
    /// # Errors
    ///
    /// Of the store and the index; [`Status::Incompatible`] for a state of a
    /// newer version, since nothing is known then.
    pub(crate) fn refresh(&self, repository: &mut Repo<'_>, memory: &mut [u8]) -> Result<()> {
        Ok(repository.refresh(memory, &mut |error| match error {
            Error::Damaged { cause: FormatError::Version(_), .. } => OnDamage::Fail,
            _ => {
                self.pass_over(error);
                OnDamage::Skip
            }
        })?)
    }
}

/// What a repository is opened for.
#[derive(Clone, Copy, Debug)]
enum Use {
    /// To be read, with that much of the memory.
    Read(Share),
    /// To be written, and read.
    Write,
    /// To be made and written once: no index is kept.
    Make(Share),
}

impl Use {
    fn share(self) -> Share {
        match self {
            Self::Read(share) | Self::Make(share) => share,
            Self::Write => Share::All,
        }
    }

    fn writes(self) -> bool {
        match self {
            Self::Read(_) => false,
            Self::Write | Self::Make(_) => true,
        }
    }
}

/// Reads CONFIG, envelope included.
fn read_config(store: &mut AnyStore, location: &Location) -> Result<Vec<u8>> {
    let mut config = vec![0; CONFIG_BYTES_MAX];
    let length = store.read_config(&mut config).map_err(|error| no_store(location, error))?;
    if length > config.len() {
        let error = Error::damaged(Subject::Config)(FormatError::Bound("length"));
        return Err(EngineError::into(error));
    }
    config.truncate(length);
    Ok(config)
}

/// Largest chunk of the store of that CONFIG, in bytes.
pub(crate) fn chunk_bytes(config: &Config<'_>) -> usize {
    usize::try_from(config.chunking.max_bytes.min(CHUNK_BYTES_MAX)).unwrap_or(usize::MAX)
}

/// Says that a run does without an index that is kept, and what to do about it.
fn tell_fallback(why: &Fallback) {
    let (why, advice) = match why {
        Fallback::Limit { wanted_bytes } => (
            format!("it needs {} and more, which is beyond the limit", Size(*wanted_bytes)),
            "allow it more with --cache-limit BYTES",
        ),
        Fallback::Failed(error) => {
            (with_causes(error), "another place is given with --cache-dir DIR")
        }
    };
    report::warn(&format!(
        "no index of the store can be kept ({why}): this run reads all states; {advice}"
    ));
}

fn refused() -> Failure {
    EngineError::WrongKey.into()
}

/// Why there is no store at `location`.
pub(crate) fn no_store(location: &Location, error: HostsError) -> Failure {
    let kind = error.kind();
    // What a server says, or that it says nothing, is no damage.
    let is_rule = error.io_error().is_none() && !error.is_of_server();
    let is_file =
        error.io_error().is_some_and(|error| error.kind() == io::ErrorKind::NotADirectory);
    let failure = Failure::from(error)
        .while_doing(format_args!("failed to open the repository at {location}"));
    match kind {
        HostErrorKind::NotFound => failure.with_status(Status::NoStore).with_advice(
            "Make a store with `tiroir at STORE create`, or say where it is: \
             tiroir at STORE COMMAND. Is its disk mounted?",
        ),
        HostErrorKind::PermissionDenied => failure.with_status(Status::NoStore),
        _ if is_file => failure.with_status(Status::NoStore).with_advice(
            "A store is a directory, or a ptar archive: that file is neither, or a part of the path \
             is a file.",
        ),
        _ if is_rule => failure.with_status(Status::Integrity),
        _ => failure,
    }
}

/// Why a key was not derived.
fn kdf_failure(kdf: &Kdf, error: KdfError) -> Failure {
    let what = error.to_string();
    match error {
        KdfError::Memory { needed_bytes } => {
            let needed = Size(needed_bytes);
            Failure::new(
                Status::Failed,
                format!("the key of this store is derived in {needed} of memory ({}), which are not there", kdf.name()),
            )
            .with_advice(
                "Derive it once on a larger machine, with `tiroir at STORE key -o FILE`, and \
                 open the store here with --key-file FILE; or derive it on a disk, slowly, with \
                 --kdf-arena FILE.",
            )
        }
        KdfError::Unsupported(_) => Failure::new(Status::Incompatible, what),
        _ => Failure::new(Status::Integrity, format!("CONFIG: {what}")),
    }
}

/// Reads the derived key of a store: 64 hexadecimal digits.
fn read_key(path: &Path) -> Result<StoreKey> {
    let failure = |error| Failure::io(format_args!("read key {}", path.display()), error);
    let file = std::fs::File::open(path).map_err(failure)?;
    let mut text = Zeroizing::new(Vec::with_capacity(4 * KEY_DIGITS));
    io::Read::read_to_end(&mut io::Read::take(file, 2 * KEY_DIGITS as u64), &mut text)
        .map_err(failure)?;
    parse_key(text.trim_ascii()).ok_or_else(|| {
        let what = format!("{} holds no derived key", path.display());
        Failure::new(Status::Authentication, what).with_advice(
            "A derived key is 64 hexadecimal digits, as `tiroir key` writes them. \
             A passphrase file is given with -keyfile.",
        )
    })
}

fn parse_key(text: &[u8]) -> Option<StoreKey> {
    if text.len() != KEY_DIGITS {
        return None;
    }
    let mut bytes = [0; KEY_DIGITS / 2];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    let key = StoreKey::new(bytes);
    bytes.zeroize();
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_both_ways() {
        let text = "00ff10a1".repeat(8);
        let key = parse_key(text.as_bytes()).unwrap();
        assert_eq!(key.as_bytes()[..4], [0, 0xff, 0x10, 0xa1]);
        assert!(parse_key(text.to_uppercase().as_bytes()).is_some());
        assert!(parse_key(&text.as_bytes()[1..]).is_none());
        assert!(parse_key("gg".repeat(32).as_bytes()).is_none());
    }

    #[test]
    fn a_key_file_holds_a_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, "my passphrase\n").unwrap();
        assert_eq!(read_key(&path).unwrap_err().status(), Status::Authentication);
        std::fs::write(&path, format!("{}\n", "ab".repeat(32))).unwrap();
        assert_eq!(read_key(&path).unwrap().as_bytes(), &[0xab; 32]);
    }
}
