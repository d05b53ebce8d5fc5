//! What is wrong with a command line, in the words of this program: clap knows
//! what it is, and this says it in the form that options are typed in, with
//! what was probably meant.

use std::error::Error as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};

use crate::error::Failure;

/// Commands of stock that are not here.
const STOCK_ONLY: [&str; 19] = [
    "agent",
    "archive",
    "cached",
    "clone",
    "diag",
    "dup",
    "login",
    "logout",
    "maintenance",
    "mount",
    "pkg",
    "policy",
    "prune",
    "repair",
    "rm",
    "scheduler",
    "service",
    "sync",
    "ui",
];

/// The failure for what clap has found in the arguments of `command`.
pub(crate) fn failure(error: &Error, root: &Command, command: Option<&str>) -> Failure {
    let named = |kind| error.get(kind).map(text_of).unwrap_or_default();
    let argument = named(ContextKind::InvalidArg);
    let help = match command {
        Some(name) => format!("`tiroir help {name}` says what it takes."),
        None => String::from("`tiroir help` says what there is."),
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            unknown_command(root, &named(ContextKind::InvalidSubcommand))
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Failure::usage("no command was given").with_advice("`tiroir help` lists them.")
        }
        ErrorKind::UnknownArgument if argument.starts_with("--") => {
            let typed = single_dash(&argument);
            let meant = nearest(options(root, command), argument.trim_start_matches('-'));
            let meant = meant.map(|name| format!("Did you mean -{name}? ")).unwrap_or_default();
            Failure::usage(format!("unknown option: {typed}")).with_advice(format!("{meant}{help}"))
        }
        ErrorKind::UnknownArgument => {
            Failure::usage(format!("one argument too many: {argument}")).with_advice(help)
        }
        ErrorKind::MissingRequiredArgument => {
            Failure::usage(format!("not given: {}", single_dash(&argument))).with_advice(help)
        }
        ErrorKind::ArgumentConflict => {
            let other = single_dash(&named(ContextKind::PriorArg));
            let what = format!("{} and {other} cannot be given together", single_dash(&argument));
            Failure::usage(what).with_advice(help)
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let value = named(ContextKind::InvalidValue);
            let option = single_dash(&argument);
            if value.is_empty() {
                return Failure::usage(format!("a value is missing: {option}")).with_advice(help);
            }
            let why = error.source().map(|why| format!(": {why}")).unwrap_or_default();
            Failure::usage(format!("{option} cannot be `{value}`{why}")).with_advice(help)
        }
        _ => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            Failure::usage(line.strip_prefix("error: ").unwrap_or(line)).with_advice(help)
        }
    }
}

/// The failure for a command that there is not.
pub(crate) fn unknown_command(root: &Command, typed: &str) -> Failure {
    let failure = Failure::usage(format!("unknown command: {typed}"));
    if STOCK_ONLY.contains(&typed) {
        return failure.with_advice(
            "Stock plakar has it, and works on the same stores. `tiroir help` lists what is here.",
        );
    }
    let meant = nearest(root.get_subcommands().map(Command::get_name), typed);
    let meant = meant.map(|name| format!("Did you mean `{name}`? ")).unwrap_or_default();
    failure.with_advice(format!("{meant}`tiroir help` lists them."))
}

/// Names of the options of a command and of all commands.
fn options<'c>(root: &'c Command, command: Option<&str>) -> impl Iterator<Item = &'c str> {
    let own = command.and_then(|name| root.find_subcommand(name));
    own.into_iter()
        .chain([root])
        .flat_map(Command::get_arguments)
        .filter(|argument| !argument.is_hide_set())
        .filter_map(clap::Arg::get_long)
}

fn text_of(value: &ContextValue) -> String {
    match value {
        ContextValue::String(text) => text.clone(),
        ContextValue::Strings(all) => all.join(", "),
        other => other.to_string(),
    }
}

/// An option as this program's texts have it: `-to <DIR>` for `--to <DIR>`.
fn single_dash(option: &str) -> String {
    match option.strip_prefix("--") {
        Some(name) => format!("-{name}"),
        None => option.to_owned(),
    }
}

/// The name that was probably meant: one with few keys between them.
fn nearest<'n>(names: impl Iterator<Item = &'n str>, typed: &str) -> Option<&'n str> {
    let typed = typed.split('=').next().unwrap_or_default();
    let most = typed.chars().count() / 3;
    let ranked = names.map(|name| (distance(name, typed), name)).filter(|(far, _)| *far <= most);
    ranked.min().map(|(_, name)| name)
}

/// Least number of characters to insert, delete, replace, or swap with the one
/// beside it, that makes one name of the other.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    // Longer ones are no names of ours.
    if other.len() > 64 {
        return usize::MAX;
    }
    // Only the first row and the first column keep these values.
    let mut rows: Vec<Vec<usize>> =
        (0..=one.len()).map(|i| (0..=other.len()).map(|j| i.max(j)).collect()).collect();
    for i in 1..=one.len() {
        for j in 1..=other.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(one[i - 1] != other[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> String {
        let root = crate::cli::command();
        let args = std::iter::once("tiroir").chain(line.split(' ')).map(Into::into);
        let args = crate::args::normalise(&root, args).unwrap();
        let command = crate::args::command_of(&root, &args);
        failure(&crate::cli::parse(args).unwrap_err(), &root, command).to_string()
    }

    #[test]
    fn what_is_wrong_and_what_was_meant() {
        for (line, what) in [
            ("bakup", "unknown command: bakup\nDid you mean `backup`?"),
            ("frobnicate", "unknown command: frobnicate\n`tiroir help` lists"),
            ("sync to x", "unknown command: sync\nStock plakar has it"),
            (
                "ls -recurisve",
                "unknown option: -recurisve\nDid you mean -recursive? `tiroir help ls`",
            ),
            ("ls --quite", "unknown option: -quite\nDid you mean -quiet?"),
            ("ls -zzz=1", "unknown option: -zzz\n`tiroir help ls`"),
            ("ls a b", "one argument too many: b"),
            ("restore -to", "a value is missing: -to <DIR>"),
            ("cat", "not given: <SNAPSHOT:PATH>"),
            ("-quiet", "no command was given"),
            ("-memory lots ls", "-memory <BYTES> cannot be `lots`: not a size"),
            ("create -plaintext -kdf-time 2", "cannot be given together"),
        ] {
            let told = told(line);
            assert!(told.contains(what), "{line}: {told}");
        }
    }

    #[test]
    fn keys_between_names() {
        assert_eq!(distance("backup", "backup"), 0);
        assert_eq!(distance("backup", "bakup"), 1);
        assert_eq!(distance("backup", "bacukp"), 1);
        assert_eq!(distance("ls", "list"), 2);
        assert_eq!(nearest(["ls", "cat"].into_iter(), "x"), None);
    }
}
