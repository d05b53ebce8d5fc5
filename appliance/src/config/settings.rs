//! [`Settings`]: the entries of a configuration, and what they may hold.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

use super::{Kind, secrets};
use crate::error::{Failure, Result};
use crate::exit::Status;
use crate::passphrase::PASSPHRASE_BYTES_MAX;

/// Largest file of a configuration, in bytes.
pub(crate) const SETTINGS_BYTES_MAX: usize = 1 << 20;

/// Longest name of an entry or of an option, in bytes.
pub(crate) const SETTING_NAME_BYTES_MAX: usize = 256;

/// Longest value of an option, in bytes: as long as a passphrase.
pub(crate) const SETTING_VALUE_BYTES_MAX: usize = PASSPHRASE_BYTES_MAX;

/// Most entries of a kind, and most options of an entry.
pub(crate) const SETTING_ENTRIES_MAX: usize = 1000;

/// Most names and values in a file. Each takes up to 150 bytes beside its text.
pub(crate) const SETTINGS_NODES_MAX: usize = 16 * 1024;

/// The option that says where an entry is.
pub(crate) const LOCATION: &str = "location";

/// Value of an option. It may be a secret: erased when dropped.
pub(crate) type Value = Zeroizing<String>;

/// The options of an entry, its location among them.
#[derive(Clone, Default, Eq, PartialEq)]
pub(crate) struct Section(pub(crate) BTreeMap<String, Value>);

/// Names only.
impl fmt::Debug for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Section {
    /// The value of an option, if it is set and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Sets an option, in place of an earlier value.
    pub(crate) fn set(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    /// Divides it into what may be seen and what is a secret.
    pub(crate) fn divided(&self) -> (Self, Self) {
        let (mut open, mut secret) = (Self::default(), Self::default());
        for (name, value) in &self.0 {
            if secrets::is_secret(name) {
                secret.set(name, value.clone());
            } else if let Some(without) = secrets::without_password(value, name) {
                open.set(name, without);
                secret.set(name, value.clone());
            } else {
                open.set(name, value.clone());
            }
        }
        (open, secret)
    }

    /// Puts secrets back. What stands among the others already was written there
    /// by hand, and is newer.
    pub(crate) fn add_secrets(&mut self, secret: Self) {
        for (name, value) in secret.0 {
            let is_newer = match self.0.get(&name) {
                None => false,
                // The password of a location is taken out of it.
                Some(open) => secrets::without_password(&value, &name).as_ref() != Some(open),
            };
            if !is_newer {
                self.0.insert(name, value);
            }
        }
    }
}

/// The entries of a kind, by name.
pub(crate) type Table = BTreeMap<String, Section>;

/// All entries.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Settings {
    tables: [Table; Kind::ALL.len()],
    /// Name of the store that is meant where none is named.
    pub(crate) default: Option<String>,
}

impl Settings {
    /// The entries of a kind.
    pub(crate) fn table(&self, kind: Kind) -> &Table {
        &self.tables[kind as usize]
    }

    /// The same, to be changed.
    pub(crate) fn table_mut(&mut self, kind: Kind) -> &mut Table {
        &mut self.tables[kind as usize]
    }

    /// Whether there is no entry at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.tables.iter().all(BTreeMap::is_empty)
    }

    /// Divides it into what may be seen and what is a secret. Entries without a
    /// secret are in the first part only.
    pub(crate) fn divided(&self) -> (Self, Self) {
        let (mut open, mut secret) = (Self::default(), Self::default());
        open.default.clone_from(&self.default);
        for kind in Kind::ALL {
            for (name, section) in self.table(kind) {
                let (seen, hidden) = section.divided();
                open.table_mut(kind).insert(name.clone(), seen);
                if !hidden.0.is_empty() {
                    secret.table_mut(kind).insert(name.clone(), hidden);
                }
            }
        }
        (open, secret)
    }

    /// Puts secrets back to the entries that they belong to; those of entries
    /// that are gone are dropped.
    pub(crate) fn add_secrets(&mut self, secret: Self) {
        for (table, hidden) in self.tables.iter_mut().zip(secret.tables) {
            for (name, section) in hidden {
                if let Some(entry) = table.get_mut(&name) {
                    entry.add_secrets(section);
                }
            }
        }
    }
}

/// Checks the name of an entry that is to be made.
///
/// # Errors
///
/// For what could not be written as `@NAME:PATH`, or not be shown.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let rule = if name.is_empty() {
        "it is empty"
    } else if name.len() > SETTING_NAME_BYTES_MAX {
        "it is too long"
    } else if name.contains(':') {
        "a colon ends a name in @NAME:PATH"
    } else if name.contains(|c: char| c.is_control()) || name.trim() != name {
        "it has characters that cannot be typed"
    } else {
        return Ok(());
    };
    Err(Failure::usage(format!("`{name}` cannot be a name: {rule}")))
}

/// Checks the name of an option.
///
/// # Errors
///
/// For an empty or long one, and what cannot be shown.
pub(crate) fn check_key(key: &str) -> Result<()> {
    let rule = if key.is_empty() {
        "it is empty"
    } else if key.len() > SETTING_NAME_BYTES_MAX {
        "it is too long"
    } else if key.contains(|c: char| c.is_control() || c == '=') || key.trim() != key {
        "it has characters that cannot be typed"
    } else {
        return Ok(());
    };
    Err(Failure::usage(format!("`{key}` cannot be the name of an option: {rule}")))
}

/// Checks the value of option `key`, which is not shown. Line ends and tabs are
/// let through, because keys have them.
///
/// # Errors
///
/// For a long one, and other control characters.
pub(crate) fn check_value(key: &str, value: &str) -> Result<()> {
    let rule = if value.len() > SETTING_VALUE_BYTES_MAX {
        "it is too long"
    } else if value.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        "it has control characters"
    } else {
        return Ok(());
    };
    Err(Failure::usage(format!("the value of {key} cannot be kept: {rule}")))
}

/// Checks that there are not too many entries, nor options in one.
///
/// # Errors
///
/// That there are.
pub(crate) fn check_counts(settings: &Settings) -> Result<()> {
    for kind in Kind::ALL {
        let table = settings.table(kind);
        let many = || table.values().any(|section| section.0.len() > SETTING_ENTRIES_MAX);
        if table.len() > SETTING_ENTRIES_MAX || many() {
            let what = format!("more than {SETTING_ENTRIES_MAX} {kind}s, or options of one");
            return Err(Failure::new(Status::Failed, what));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(pairs: &[(&str, &str)]) -> Section {
        let mut section = Section::default();
        for (name, value) in pairs {
            section.set(name, Zeroizing::new((*value).to_owned()));
        }
        section
    }

    #[test]
    fn secrets_are_taken_out_and_put_back() {
        let whole = section(&[
            ("location", "sftp://me:hunter2@nas/srv"),
            ("port", "22"),
            ("password", "hunter2"),
            ("password_cmd", "pass show nas"),
        ]);
        let (open, secret) = whole.divided();
        assert_eq!(
            open,
            section(&[
                ("location", "sftp://me@nas/srv"),
                ("port", "22"),
                ("password_cmd", "pass show nas")
            ])
        );
        assert_eq!(
            secret,
            section(&[("location", "sftp://me:hunter2@nas/srv"), ("password", "hunter2")])
        );
        let mut again = open.clone();
        again.add_secrets(secret.clone());
        assert_eq!(again, whole);
        // By hand, in the file that may be seen.
        let mut by_hand = open;
        by_hand.set("location", Zeroizing::new("sftp://me@other/srv".into()));
        by_hand.set("password", Zeroizing::new("newer".into()));
        let wanted = by_hand.clone();
        by_hand.add_secrets(secret);
        assert_eq!(by_hand, wanted);
        assert!(!format!("{whole:?}").contains("hunter2"));
    }

    #[test]
    fn names_and_values() {
        for name in ["", "a:b", "a\nb", " a", &"x".repeat(257)] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name("my nas-2").is_ok() && check_key("use_tls").is_ok());
        assert!(check_key("a=b").is_err() && check_key("").is_err());
        assert!(check_value("password", "two\nlines").is_ok());
        let failure = check_value("password", "hunter2\u{1b}").unwrap_err();
        assert!(!failure.to_string().contains("hunter2"));
        assert!(check_value("password", &"x".repeat(SETTING_VALUE_BYTES_MAX + 1)).is_err());
    }
}
