//! [`Filters`]: which snapshots are meant, by what their headers say.

use clap::Args;
use tiroir_core::time::Timestamp;
use tiroir_core::wire::header::Header;

use crate::text::time;

/// Which snapshots are meant: those for which all of this holds.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Filters {
    /// Only snapshots taken at TIME or before: a date, or how long ago (`2d`;
    /// note that `1m` is a month)
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    before: Option<Timestamp>,

    /// Only snapshots taken at TIME or later
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Timestamp>,

    /// Only snapshots of that name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Only snapshots of that category
    #[arg(long, value_name = "NAME")]
    category: Option<String>,

    /// Only snapshots of that environment
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,

    /// Only snapshots of that perimeter
    #[arg(long, value_name = "NAME")]
    perimeter: Option<String>,

    /// Only snapshots of that job
    #[arg(long, value_name = "NAME")]
    job: Option<String>,

    /// Only snapshots of that dataset
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,

    /// Only snapshots with all of these tags, and none of those that are
    /// written with a `!` before them. May be repeated
    #[arg(long, value_name = "TAGS", action = clap::ArgAction::Append)]
    tag: Vec<String>,

    /// Only snapshots of that directory
    #[arg(long, value_name = "PATH", action = clap::ArgAction::Append)]
    root: Vec<String>,

    /// Only snapshots of one of these machines. May be repeated
    #[arg(long, value_name = "NAMES", action = clap::ArgAction::Append)]
    origin: Vec<String>,

    /// Only snapshots from one of these connectors: fs, s3… May be repeated
    #[arg(long = "type", value_name = "NAMES", action = clap::ArgAction::Append)]
    kind: Vec<String>,

    /// Only snapshots with one of these classes of data. May be repeated
    #[arg(long, value_name = "NAMES", action = clap::ArgAction::Append)]
    data_class: Vec<String>,

    /// Only the newest of those
    #[arg(long)]
    pub(crate) latest: bool,
}

/// Reads a time on the command line.
///
/// # Errors
///
/// A text for people.
pub(crate) fn parse_time(text: &str) -> Result<Timestamp, String> {
    time::parse(text, now())
}

/// The time.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let since = since.unwrap_or_default();
    Timestamp {
        secs: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: since.subsec_nanos(),
    }
}

/// Elements of lists that may be repeated and separated by commas.
fn elements(lists: &[String]) -> impl Iterator<Item = &str> {
    lists.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|text| !text.is_empty())
}

/// Whether one of the elements is `value`, or there are none.
fn any_of(lists: &[String], mut is: impl FnMut(&str) -> bool) -> bool {
    elements(lists).next().is_none() || elements(lists).any(&mut is)
}

impl Filters {
    /// Filters by names alone, as `restore` has them.
    pub(crate) fn by_names(
        [name, category, environment, perimeter, job]: [&Option<String>; 5],
        tag: Option<&String>,
    ) -> Self {
        Self {
            name: name.clone(),
            category: category.clone(),
            environment: environment.clone(),
            perimeter: perimeter.clone(),
            job: job.clone(),
            tag: tag.cloned().into_iter().collect(),
            ..Self::default()
        }
    }

    /// Whether every snapshot passes.
    pub(crate) fn is_empty(&self) -> bool {
        let names = [
            &self.name,
            &self.category,
            &self.environment,
            &self.perimeter,
            &self.job,
            &self.dataset,
        ];
        let lists = [&self.tag, &self.root, &self.origin, &self.kind, &self.data_class];
        self.before.is_none()
            && self.since.is_none()
            && !self.latest
            && names.iter().all(|name| name.as_ref().is_none_or(String::is_empty))
            && lists.iter().all(|list| elements(list).next().is_none())
    }

    /// Whether a snapshot passes, [`latest`](Self::latest) apart.
    pub(crate) fn matches(&self, header: &Header<'_>) -> bool {
        let time = header.timestamp;
        let has_name = |wanted: &Option<String>, found: &[u8]| {
            wanted.as_ref().is_none_or(|name| name.is_empty() || name.as_bytes() == found)
        };
        let source = &header.source;
        self.before.is_none_or(|before| time <= before)
            && self.since.is_none_or(|since| time >= since)
            && has_name(&self.name, header.name)
            && has_name(&self.category, header.category)
            && has_name(&self.environment, header.environment)
            && has_name(&self.perimeter, header.perimeter)
            && has_name(&self.job, header.job)
            && has_name(&self.dataset, header.dataset)
            && elements(&self.tag).all(|tag| matches_tag(tag, header))
            && elements(&self.root).all(|root| root.as_bytes() == source.directory)
            && any_of(&self.origin, |origin| origin.as_bytes() == source.origin)
            && any_of(&self.kind, |kind| kind.as_bytes() == source.kind)
            && any_of(&self.data_class, |class| {
                header.data_classes.iter().any(|found| found == class.as_bytes())
            })
    }
}

fn matches_tag(tag: &str, header: &Header<'_>) -> bool {
    let (name, wanted) = tag.strip_prefix('!').map_or((tag, true), |name| (name, false));
    header.tags.iter().any(|found| found == name.as_bytes()) == wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiroir_core::wire::header::Source;
    use tiroir_core::wire::list::List;

    #[test]
    fn all_must_hold() {
        let tags: [&[u8]; 2] = [b"daily", b"nas"];
        let header = Header {
            timestamp: Timestamp { secs: 1000, nanos: 0 },
            name: b"default",
            tags: List::strings(&tags),
            source: Source { kind: b"fs", origin: b"box", directory: b"/srv", ..Source::default() },
            ..Header::default()
        };
        let at = |secs| Some(Timestamp { secs, nanos: 0 });
        let list = |text: &str| vec![text.to_owned()];
        let none = Filters::default;
        for (filters, wanted) in [
            (none(), true),
            (Filters { before: at(1000), since: at(1000), ..none() }, true),
            (Filters { before: at(999), ..none() }, false),
            (Filters { since: at(1001), ..none() }, false),
            (Filters { name: Some("default".into()), ..none() }, true),
            (Filters { name: Some(String::new()), ..none() }, true),
            (Filters { name: Some("other".into()), ..none() }, false),
            (Filters { tag: list("daily, nas"), ..none() }, true),
            (Filters { tag: list("daily,other"), ..none() }, false),
            (Filters { tag: list("!other"), ..none() }, true),
            (Filters { tag: list("!nas"), ..none() }, false),
            (Filters { origin: list("other,box"), ..none() }, true),
            (Filters { origin: list("other"), ..none() }, false),
            (Filters { kind: list("s3"), ..none() }, false),
            (Filters { root: list("/srv"), ..none() }, true),
            (Filters { root: list("/srv,/home"), ..none() }, false),
            (Filters { data_class: list("x"), ..none() }, false),
        ] {
            assert_eq!(filters.matches(&header), wanted, "{filters:?}");
        }
        assert!(none().is_empty());
        assert!(!Filters { tag: list("a"), ..none() }.is_empty());
    }
}
