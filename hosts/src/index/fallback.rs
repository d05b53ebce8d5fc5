//! What an index does when the cache fails it: the disk is full or cannot be
//! written, files are damaged or gone.
//!
//! While it is brought up to date, it starts over: with new files if the old ones
//! were damaged, else in a temporary database. The engine is told, and reads the
//! states again. Afterwards, when somebody asks, it is made anew in a temporary
//! database by whoever [lent](super::SqliteIndex::set_remake) it the means, and
//! the question is asked again.

use std::fmt;

use tiroir_core::host::{HostError as _, HostErrorKind};

use super::files::{self, Hold};
use super::{IndexOptions, SqliteIndex, open_file, temporary_main};
use crate::durable::parent_of;
use crate::error::{HostsError, Result};

/// Why no index is kept, and a temporary one is used.
#[derive(Debug)]
pub enum Fallback {
    /// The index would be that long, which is more than may be.
    Limit {
        /// Its length.
        wanted_bytes: u64,
    },
    /// The cache cannot be used.
    Failed(HostsError),
}

impl From<HostsError> for Fallback {
    fn from(error: HostsError) -> Self {
        Self::Failed(error)
    }
}

impl Fallback {
    /// Whether new files would do.
    fn is_of_files(&self) -> bool {
        match self {
            Self::Limit { .. } => false,
            Self::Failed(error) => {
                error.is_damaged_database() || error.kind() == HostErrorKind::NotFound
            }
        }
    }
}

/// Fills an empty temporary index with all that the states of the store say.
pub struct Remake(Box<Fill>);

type Fill = dyn FnOnce(SqliteIndex) -> Result<SqliteIndex>;

impl Remake {
    /// `fill` brings the index that it is given up to date.
    #[must_use]
    pub fn new(fill: impl FnOnce(SqliteIndex) -> Result<SqliteIndex> + 'static) -> Self {
        Self(Box::new(fill))
    }
}

impl fmt::Debug for Remake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remake")
    }
}

/// How often a run makes new files in the cache.
const NEW_FILES_MAX: u32 = 1;

impl IndexOptions {
    /// Tells that a temporary index is used.
    pub(super) fn tell(&self, why: &Fallback) {
        if let Some(told) = self.told {
            told(why);
        }
    }
}

impl SqliteIndex {
    /// Lends the means to make the index anew, should the files in the cache turn
    /// out to be damaged or to lack something.
    pub fn set_remake(&mut self, remake: Remake) {
        self.remake = Some(remake);
    }

    /// Changes something of a refresh. Where the cache fails, the index starts
    /// over, and the error is [`HostErrorKind::Lost`].
    pub(super) fn change<T>(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<T, Fallback>,
    ) -> Result<T> {
        self.in_refresh()?;
        match change(self) {
            Ok(done) => Ok(done),
            Err(Fallback::Failed(error)) if self.temporary => Err(error),
            Err(why) => {
                self.start_over(&why)?;
                let path = std::os::unix::ffi::OsStrExt::as_bytes(self.main.path().as_os_str());
                let rule = "the index was given up, and has to be read anew";
                Err(HostsError::rule(HostErrorKind::Lost, "refresh", path, rule))
            }
        }
    }

    /// Gives up all that there is, and goes on with nothing: in new files, or in
    /// a temporary database.
    pub(super) fn start_over(&mut self, why: &Fallback) -> Result<()> {
        // What SQLite has rolled back by itself is none of its business any more.
        let _ = self.main.connection.execute_batch("ROLLBACK");
        self.locations.remove_created();
        if let Fallback::Limit { wanted_bytes } = why {
            self.note_wanted(*wanted_bytes);
        }
        if why.is_of_files() && self.new_files < NEW_FILES_MAX {
            self.new_files += 1;
            if self.make_new_files().is_ok() {
                return Ok(());
            }
        }
        let main = temporary_main(&self.options)?;
        self.options.tell(why);
        self.exchange(Self::over(main, self.options.clone(), true));
        Ok(())
    }

    fn make_new_files(&mut self) -> Result<()> {
        let path = self.main.path().to_path_buf();
        let _ = files::remove_files(&path);
        let hold = Hold::take(parent_of(&path))?;
        let mut new = Self::over(open_file(&path, &self.options)?, self.options.clone(), false);
        new.hold = Some(hold);
        new.load()?;
        self.exchange(new);
        Ok(())
    }

    /// Takes over what another index knows of the store. What belongs to this
    /// process stays.
    fn exchange(&mut self, other: Self) {
        self.earlier_written_bytes = self.written_bytes();
        self.main = other.main;
        self.locations = other.locations;
        self.hold = other.hold;
        self.temporary = other.temporary;
        self.generation = other.generation;
        (self.in_refresh, self.changed, self.deleted) = (false, false, false);
        self.ordered = None;
        self.forget_rows();
    }

    /// Asks something. Where the cache fails, the index is made anew, and asked
    /// again.
    pub(super) fn ask<T>(&mut self, mut ask: impl FnMut(&mut Self) -> Result<T>) -> Result<T> {
        match ask(self) {
            Err(error) if self.can_be_remade() => {
                let is_damage = error.is_damaged_database();
                let why = Fallback::Failed(error);
                self.remake()?;
                if !is_damage {
                    self.options.tell(&why);
                }
                ask(self)
            }
            other => other,
        }
    }

    /// Asks where something is. That it is nowhere is not believed of files that
    /// may have lost it.
    pub(super) fn ask_where<T>(
        &mut self,
        mut ask: impl FnMut(&mut Self) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let found = self.ask(&mut ask)?;
        if found.is_some() || !self.can_be_remade() {
            return Ok(found);
        }
        let path = self.main.path().to_path_buf();
        if self.remake().is_err() {
            // It may be as missing as it seems: the store has the last word.
            return Ok(None);
        }
        let found = ask(self)?;
        if found.is_some() {
            let _ = files::remove_files(&path);
        }
        Ok(found)
    }

    fn can_be_remade(&self) -> bool {
        !self.temporary && !self.in_refresh && self.remake.is_some()
    }

    /// Makes the index anew, for this process alone.
    fn remake(&mut self) -> Result<()> {
        let Some(Remake(fill)) = self.remake.take() else { return Ok(()) };
        let filled = fill(Self::temporary(self.options.clone())?)?;
        self.exchange(filled);
        self.remakes += 1;
        Ok(())
    }
}
