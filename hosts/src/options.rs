//! [`Options`]: what a connector is told beside its location.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tiroir_core::host::HostErrorKind;
use zeroize::Zeroizing;

use crate::error::{HostsError, Result};

/// Names and values, as `-o name=value` or a configuration gives them. Names are
/// stock's where stock has the option.
///
/// Values may be secrets: they are not shown by `Debug`, and wiped when dropped.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Options {
    values: BTreeMap<String, Zeroizing<String>>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Options {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut options = Self::default();
        for (name, value) in pairs {
            options.set(name, value);
        }
        options
    }
}

impl Options {
    /// Sets an option, in place of an earlier value.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.values.insert(name.into(), Zeroizing::new(value.into()));
    }

    /// These options, with `others` added or in their place.
    #[must_use]
    pub fn with(mut self, others: Self) -> Self {
        self.values.extend(others.values);
        self
    }

    /// The value of an option, if it is set and not empty.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|value| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Whether an option is on: the words for it are those of Go. Off by default.
    ///
    /// # Errors
    ///
    /// A value that is neither.
    pub fn flag(&self, name: &'static str) -> Result<bool> {
        match self.text(name) {
            None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some(_) => Err(refused(name, "it is true or false")),
        }
    }

    /// A number, if the option is set.
    ///
    /// # Errors
    ///
    /// A value that is none, or too large.
    pub fn number<T: std::str::FromStr>(&self, name: &'static str) -> Result<Option<T>> {
        let parsed = self.text(name).map(str::parse).transpose();
        parsed.map_err(|_| refused(name, "it is a number"))
    }

    /// A time in seconds, if the option is set: `30`, or `30s`.
    ///
    /// # Errors
    ///
    /// A value that is none, or 0.
    pub fn seconds(&self, name: &'static str) -> Result<Option<Duration>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let seconds = text.strip_suffix('s').unwrap_or(text).parse().ok();
        match seconds {
            Some(seconds) if seconds > 0 => Ok(Some(Duration::from_secs(seconds))),
            _ => Err(refused(name, "it is a number of seconds")),
        }
    }

    /// The first option that is none of `known`.
    #[must_use]
    pub fn unknown(&self, known: &[&str]) -> Option<&str> {
        self.values.keys().map(String::as_str).find(|name| !known.contains(name))
    }

    /// Names that are set, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }
}

/// The error for the value of an option, which is not shown.
pub(crate) fn refused(name: &'static str, rule: &'static str) -> HostsError {
    HostsError::rule(HostErrorKind::Other, "understand the option", name.as_bytes(), rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_typed() {
        let pairs = [("use_tls", "false"), ("port", "2222"), ("timeout", "9s"), ("x", "")];
        let mut options: Options = pairs.into_iter().collect();
        assert!(!options.flag("use_tls").unwrap() && !options.flag("absent").unwrap());
        assert_eq!(options.number::<u16>("port").unwrap(), Some(2222));
        assert_eq!(options.seconds("timeout").unwrap(), Some(Duration::from_secs(9)));
        assert_eq!(options.text("x"), None);
        assert_eq!(options.unknown(&["use_tls", "port", "x"]), Some("timeout"));
        options.set("port", "66666");
        assert!(options.number::<u16>("port").is_err());
        options.set("use_tls", "no");
        let error = options.flag("use_tls").unwrap_err().to_string();
        assert_eq!(error, "cannot understand the option use_tls: it is true or false");
    }

    #[test]
    fn later_ones_win() {
        let options: Options = [("a", "1"), ("b", "2")].into_iter().collect();
        let options = options.with([("b", "3"), ("c", "4")].into_iter().collect());
        assert_eq!(
            ["a", "b", "c"].map(|name| options.text(name)),
            [Some("1"), Some("3"), Some("4")]
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let options: Options = [("password", "hunter2")].into_iter().collect();
        assert_eq!(format!("{options:?}"), "{\"password\"}");
    }
}
