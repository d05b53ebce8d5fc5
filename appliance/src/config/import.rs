//! Entries from files of others: rclone's, stock's of any version, and what
//! `show` writes in any of its forms.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::Kind;
use super::files::{has_version, old_settings, table_of};
use super::ini::{self, Dialect};
use super::json;
use super::settings::{LOCATION, Section, Table, check_key, check_value};
use super::yaml::{self, Node};
use crate::error::{Failure, Result};
use crate::exit::Status;

/// What rclone begins a file with that is encrypted.
const RCLONE_ENCRYPTED: &str = "RCLONE_ENCRYPT_";

/// Reads the entries of a text: YAML, JSON or INI, whichever it is. With
/// `from_rclone`, each is a remote of rclone, whose options get `rclone_` in front.
///
/// # Errors
///
/// For what is none of them, with the line; and when no entry has a location.
pub(crate) fn read(kind: Kind, text: &str, from_rclone: bool) -> Result<Table> {
    let mut table = if from_rclone { rclone(text)? } else { others(kind, text)? };
    for section in table.values_mut() {
        // As in stock.
        section.0.retain(|_, value| !value.is_empty());
        for (key, value) in &section.0 {
            check_key(key)?;
            check_value(key, value)?;
        }
    }
    if table.is_empty() {
        return Err(Failure::new(Status::Failed, format!("no valid {kind}s found in config")));
    }
    if table.values().all(|section| section.get(LOCATION).is_none()) {
        let what = "missing 'location' key in config data";
        return Err(Failure::new(Status::Failed, what)
            .with_advice("If it is a file of rclone's, say so: import -rclone"));
    }
    Ok(table)
}

fn failure(what: impl std::fmt::Display) -> Failure {
    Failure::new(Status::Failed, format!("failed to parse config data: {what}"))
}

fn rclone(text: &str) -> Result<Table> {
    let is_comment = |line: &&str| line.starts_with(['#', ';']) || line.is_empty();
    let first = text.lines().map(str::trim).find(|line| !is_comment(line));
    if first.is_some_and(|line| line.starts_with(RCLONE_ENCRYPTED)) {
        return Err(failure("it is encrypted by rclone").with_advice(
            "Let rclone decrypt it: rclone config show | tiroir store import -rclone",
        ));
    }
    let node = match form_of(text) {
        Form::Json => json::parse(text),
        _ => ini::parse(text, Dialect::Rclone),
    };
    let table = table_of(node.map_err(failure)?).map_err(failure)?;
    let prefixed = |(name, section): (String, Section)| {
        let mut with_prefix = Section::default();
        for (key, value) in section.0 {
            with_prefix.set(&format!("rclone_{key}"), value);
        }
        with_prefix.set(LOCATION, Zeroizing::new(String::from("rclone://")));
        (name, with_prefix)
    };
    Ok(table.into_iter().map(prefixed).collect())
}

/// Forms of a text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    Yaml,
    Json,
    Ini,
}

/// The form that a text seems to have, by its first line that says something.
fn form_of(text: &str) -> Form {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.find(|line| !line.starts_with('#')).unwrap_or_default();
    let at = |mark| first.find(mark).unwrap_or(usize::MAX);
    if first.starts_with('{') && first != "{}" {
        Form::Json
    } else if first.starts_with(['[', ';']) || at('=') < at(':') {
        Form::Ini
    } else {
        Form::Yaml
    }
}

fn others(kind: Kind, text: &str) -> Result<Table> {
    let node = match form_of(text) {
        Form::Json => json::parse(text),
        Form::Ini => ini::parse(text, Dialect::Stock),
        Form::Yaml => yaml::parse(text),
    };
    let Node::Map(mut map) = node.map_err(failure)? else { return Ok(Table::new()) };
    if has_version(&map).map_err(failure)? {
        // A file of stock's, or of ours.
        let node = map.remove(kind.plural()).unwrap_or(Node::Map(BTreeMap::new()));
        return table_of(node).map_err(failure);
    }
    let is_of_1_0 = ["repositories", "remotes"].iter().any(|name| match map.get(*name) {
        Some(Node::Map(entries)) if !entries.is_empty() => {
            entries.values().all(|node| matches!(node, Node::Map(_)))
        }
        _ => false,
    });
    if is_of_1_0 {
        let mut settings = old_settings(Node::Map(map)).map_err(failure)?;
        return Ok(std::mem::take(settings.table_mut(kind)));
    }
    // As in stock, what is no entry is left out.
    map.retain(|_, node| matches!(node, Node::Map(_)));
    table_of(Node::Map(map)).map_err(failure)
}

/// Whether what is read of a text is the same after it was written as YAML and
/// as JSON and read again. Nothing for a text that is not understood.
#[cfg(any(test, fuzzing))]
pub(crate) fn comes_back(text: &str, from_rclone: bool) -> Option<bool> {
    let table = read(Kind::Store, text, from_rclone).ok()?;
    let mut yaml = String::from("version: v1.0.0\n");
    super::yaml_write::table(&mut yaml, "stores", &table);
    let mut json = Vec::new();
    for (name, section) in &table {
        json::entry(&mut json, name, section).ok()?;
    }
    let json = String::from_utf8(json).ok()?;
    let same = |text: &str| read(Kind::Store, text, false).is_ok_and(|again| again == table);
    Some(same(&yaml) && same(&json))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(table: &Table) -> Vec<String> {
        let pairs = |(name, section): (&String, &Section)| -> Vec<String> {
            let pair = |(key, value): (&String, &Zeroizing<String>)| {
                format!("{name}.{key}={}", value.as_str())
            };
            section.0.iter().map(pair).collect()
        };
        table.iter().flat_map(pairs).collect()
    }

    #[test]
    fn all_forms() {
        let wanted = ["nas.location=/srv", "nas.port=22"];
        for text in [
            "nas:\n    location: /srv\n    port: \"22\"\n    empty: \"\"\nversion: 1\n",
            "{\"nas\":{\"location\":\"/srv\",\"port\":22}}\n",
            "[nas]\nlocation = /srv\nport     = 22\n",
            "# x\n; y\n[nas]\nlocation: /srv\nport: 22\n",
            "version: v1.0.0\nstores:\n    nas:\n        location: /srv\n        port: 22\n",
            "repositories:\n    nas:\n        location: /srv\n        port: 22\n",
        ] {
            // A version of another program is no version of stock's.
            let text = text.replace("version: 1\n", "other: 1\n");
            assert_eq!(keys(&read(Kind::Store, &text, false).unwrap()), wanted, "{text}");
        }
    }

    #[test]
    fn remotes_of_rclone() {
        let text = "[gd]\ntype = drive\ntoken = {\"access_token\":\"a#b; c\"}\nempty =\n\n[x]\n\
                    type = sftp\npass = p # q\n";
        let table = read(Kind::Source, text, true).unwrap();
        assert_eq!(
            keys(&table),
            [
                "gd.location=rclone://",
                "gd.rclone_token={\"access_token\":\"a#b; c\"}",
                "gd.rclone_type=drive",
                "x.location=rclone://",
                "x.rclone_pass=p # q",
                "x.rclone_type=sftp",
            ]
        );
        let encrypted = "# Encrypted rclone configuration File\n\nRCLONE_ENCRYPT_V0:\nabc=\n";
        let told = read(Kind::Source, encrypted, true).unwrap_err().to_string();
        assert!(told.contains("encrypted by rclone"), "{told}");
    }

    #[test]
    fn what_is_refused() {
        for (text, told) in [
            ("", "no valid stores"),
            ("version: v1.0.0\nsources:\n  a:\n    location: /x\n", "no valid stores"),
            ("[nas]\ntype = sftp\n", "-rclone"),
            ("nas: [1]\n", "line 1"),
            ("version: v2\nstores: {}\n", "version"),
            ("a:\n  location: \"\\e\"\n", "control characters"),
        ] {
            let failure = read(Kind::Store, text, false).unwrap_err().to_string();
            assert!(failure.contains(told), "{text}: {failure}");
        }
    }

    /// Texts that are nearly configurations: none makes it panic, and what is
    /// understood comes back.
    #[test]
    fn damaged_texts() {
        let seeds: [&[u8]; 4] = [
            b"version: v1.0.0\ndefault: a\nstores:\n    nas:\n        location: 's3://x'\n        k: |\n            \
              one\n            two\n        q: \"\\u00e9\\n\"\n    usb: {} # none\n",
            b"{\"nas\":{\"location\":\"/srv\",\"a\":\"\\ud83d\\ude00\",\"n\":12,\"t\":true},\"b\":{}}\n",
            b"; c\n[nas]\nlocation = /srv\na = `b#c`\nd = \"\"\"e\nf\"\"\"\n[usb]\nlocation: x\n",
            b"repositories:\n  nas:\n    location: >-\n      /a\n      b\nremotes: ~\n",
        ];
        let marks = b"\n\n  :'\"\\|>{}[]#-~=;`\t\r\xc3\xa9,&*!?%@0a";
        let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut below = |bound: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % bound as u64).unwrap()
        };
        let mut understood = 0;
        for round in 0..40_000 {
            let mut text = seeds[round % seeds.len()].to_vec();
            for _ in 0..=below(6) {
                let at = below(text.len() + 1);
                match below(4) {
                    0 => text.insert(at, marks[below(marks.len())]),
                    1 if at < text.len() => drop(text.remove(at)),
                    2 if at < text.len() => text[at] = marks[below(marks.len())],
                    _ => {
                        // A piece of it is there twice.
                        let end = (at + below(30)).min(text.len());
                        let piece = text[at..end].to_vec();
                        text.splice(at..at, piece);
                    }
                }
            }
            let text = String::from_utf8_lossy(&text);
            for from_rclone in [false, true] {
                let is_same = comes_back(&text, from_rclone);
                assert_ne!(is_same, Some(false), "{text:?} {from_rclone}");
                understood += usize::from(is_same.is_some());
            }
        }
        assert!(understood > 4_000, "{understood}");
    }
}
