//! From stock's command line to clap's.
//!
//! Stock takes options as Go's `flag` package does, and clap as GNU does:
//!
//! | typed | becomes |
//! | --- | --- |
//! | `-name`, `--name` | `--name` |
//! | `-to DIR`, `-to=DIR` | `--to=DIR`; what follows is its value, even if it starts with `-` |
//! | `-quiet=true`, `-quiet=1` | `--quiet` |
//! | `-quiet=false` | nothing, and an earlier `--quiet` is taken back |
//! | `at STORE` | `--at=STORE` |
//!
//! Nothing else is changed, so that clap says what is wrong with the rest. Go
//! stops looking for options at the first argument that is none; here they are
//! taken wherever they stand, up to `--`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use clap::{Arg, Command};

use crate::error::{Failure, Result};

/// Translates the arguments, of which the first is the program's name.
///
/// # Errors
///
/// A usage error for what clap could not tell any more: `at` without a store,
/// and `-flag=value` that is neither true nor false.
pub(crate) fn normalise(
    root: &Command,
    args: impl IntoIterator<Item = OsString>,
) -> Result<Vec<OsString>> {
    let mut args = args.into_iter();
    let mut out: Vec<OsString> = args.next().into_iter().collect();
    let mut command: Option<&Command> = None;
    while let Some(arg) = args.next() {
        if arg == "--" {
            out.push(arg);
            out.extend(args);
            break;
        }
        if let Some((name, value)) = split_flag(&arg) {
            let name = own_name(command, name);
            match find(root, command, name) {
                Some(flag) if flag.get_action().takes_values() => {
                    let value = value.map(OsStr::to_owned).or_else(|| args.next());
                    out.push(join(name, value.as_deref()));
                }
                Some(_) => set_switch(name, value, &mut out)?,
                // Help, and what is not known: clap's to answer.
                None => out.push(join(if name == b"h" { b"help" } else { name }, value)),
            }
        } else if command.is_some() {
            out.push(arg);
        } else if arg == "at" {
            let store = args.next().filter(|store| !store.is_empty()).ok_or_else(|| {
                Failure::usage("no store after `at`")
                    .with_advice("Say where it is: tiroir at STORE COMMAND")
            })?;
            out.push(join(b"at", Some(&store)));
        } else {
            command = arg.to_str().and_then(|name| root.find_subcommand(name));
            out.push(arg);
            if command.is_none() {
                out.extend(args);
                break;
            }
        }
    }
    Ok(out)
}

/// The command among translated arguments.
pub(crate) fn command_of<'c>(root: &'c Command, args: &[OsString]) -> Option<&'c str> {
    let mut rest = args.iter().skip(1).filter(|arg| !arg.as_bytes().starts_with(b"-"));
    root.find_subcommand(rest.next()?).map(Command::get_name)
}

/// Name and value of what looks like an option.
fn split_flag(arg: &OsStr) -> Option<(&[u8], Option<&OsStr>)> {
    let text = arg.as_bytes().strip_prefix(b"-")?;
    let text = text.strip_prefix(b"-").unwrap_or(text);
    if text.is_empty() {
        return None;
    }
    Some(match text.iter().position(|byte| *byte == b'=') {
        Some(at) => (&text[..at], Some(OsStr::from_bytes(&text[at + 1..]))),
        None => (text, None),
    })
}

/// The name of an option here: `-config` is the folder of the configuration, but
/// a file after `store import`, as in stock.
fn own_name<'n>(command: Option<&Command>, name: &'n [u8]) -> &'n [u8] {
    let imports =
        |command: &Command| matches!(command.get_name(), "store" | "source" | "destination");
    if name == b"config" && command.is_some_and(imports) { b"from" } else { name }
}

/// The option of that name: one of the subcommand's, or a global one.
fn find<'c>(root: &'c Command, command: Option<&'c Command>, name: &[u8]) -> Option<&'c Arg> {
    let has_name = |arg: &&Arg| {
        let is = |long: &str| long.as_bytes() == name;
        arg.get_long().is_some_and(is)
            || arg.get_all_aliases().is_some_and(|aliases| aliases.into_iter().any(is))
    };
    let own = command.and_then(|command| command.get_arguments().find(has_name));
    own.or_else(|| root.get_arguments().find(has_name))
}

fn join(name: &[u8], value: Option<&OsStr>) -> OsString {
    let mut text = b"--".to_vec();
    text.extend_from_slice(name);
    if let Some(value) = value {
        text.push(b'=');
        text.extend_from_slice(value.as_bytes());
    }
    OsString::from_vec(text)
}

/// Sets an option that has no value, or takes it back.
fn set_switch(name: &[u8], value: Option<&OsStr>, out: &mut Vec<OsString>) -> Result<()> {
    let flag = join(name, None);
    match value.map(OsStr::as_bytes) {
        None | Some(b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True") => out.push(flag),
        Some(b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False") => {
            out.retain(|other| *other != flag);
        }
        Some(_) => {
            let name = String::from_utf8_lossy(name);
            return Err(Failure::usage(format!("option -{name} is either true or false")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(line: &str) -> Result<String> {
        let args = std::iter::once("tiroir").chain(line.split(' ').filter(|word| !word.is_empty()));
        let out = normalise(&crate::cli::command(), args.map(OsString::from))?;
        Ok(out[1..].join(OsStr::new(" ")).into_string().unwrap())
    }

    #[test]
    fn stock_and_gnu_forms() {
        for (typed, wanted) in [
            ("ls", "ls"),
            ("at /s ls -recursive 1234:/x", "--at=/s ls --recursive 1234:/x"),
            ("-quiet at /s ls", "--quiet --at=/s ls"),
            ("restore -to /d 12", "restore --to=/d 12"),
            ("restore --to=/d 12", "restore --to=/d 12"),
            ("restore --to -d 12", "restore --to=-d 12"),
            ("restore 12 -to /d", "restore 12 --to=/d"),
            ("ls -recursive=false -tags=1", "ls --tags"),
            ("ls -recursive -recursive=false", "ls"),
            ("backup -ignore=a=b /x", "backup --ignore=a=b /x"),
            ("backup -- -to", "backup -- -to"),
            ("backup -", "backup -"),
            ("ptar -o f -k s", "ptar --o=f --k=s"),
            ("-concurrency -1 ls", "--concurrency=-1 ls"),
            ("ls -json", "ls --json"),
            ("ls -h", "ls --help"),
            ("ls -bogus x", "ls --bogus x"),
            ("nosuch -x at", "nosuch -x at"),
            ("-config d store import -config f", "--config=d store import --from=f"),
            ("-configdir d ls -config e", "--configdir=d ls --config=e"),
            ("store set nas password=- -x", "store set nas password=- --x"),
            // A store may be called `at`, and a path too.
            ("at at ls at", "--at=at ls at"),
        ] {
            assert_eq!(normalised(typed).unwrap(), wanted, "{typed}");
        }
    }

    #[test]
    fn what_clap_could_not_tell() {
        for typed in ["at", "-quiet at", "ls -tags=maybe"] {
            let failure = normalised(typed).unwrap_err();
            assert_eq!(failure.status(), crate::exit::Status::Usage);
        }
    }

    #[test]
    fn bytes_pass_unchanged() {
        let name = OsString::from_vec(b"-to=\xff\xfe".to_vec());
        let args = ["tiroir".into(), "restore".into(), name];
        let out = normalise(&crate::cli::command(), args).unwrap();
        assert_eq!(out[2].as_bytes(), b"--to=\xff\xfe");
    }
}
