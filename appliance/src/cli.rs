//! The command line: global options, and the list of subcommands.
//!
//! The definitions are clap's; [`crate::args`] translates what is typed in
//! stock's form. Help comes from them, and a test compares the manual page.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::cmd;
use crate::text::size;

/// Backs up into Plakar's stores and archives, on small machines
#[derive(Debug, Parser)]
#[command(
    name = "tiroir",
    override_usage = "tiroir [OPTIONS] [at STORE] COMMAND [COMMAND OPTIONS] [ARGUMENTS]",
    after_help = AFTER_HELP,
    disable_version_flag = true,
    disable_help_subcommand = true,
    args_override_self = true,
    subcommand_required = true,
    max_term_width = 80
)]
pub(crate) struct Cli {
    /// Options of all commands.
    #[command(flatten)]
    pub(crate) globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What stands below the list of options.
const AFTER_HELP: &str = "\
Options are taken as -name or --name, with their value after a blank or `=`.
STORE is a directory, a ptar archive or a place on a server; without it TIROIR_STORE, then
PLAKAR_REPOSITORY, then ~/.plakar. SNAPSHOT is the start of an identifier, and
SNAPSHOT:PATH a file or directory in it. `tiroir help COMMAND` tells more.";

/// Options of all commands.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Options of all commands")]
pub(crate) struct Globals {
    /// The store; written as `at STORE`.
    #[arg(long, global = true, hide = true)]
    pub(crate) at: Option<std::ffi::OsString>,

    /// Option of the connector to the store. May be repeated
    #[arg(long = "store-option", global = true, value_name = "NAME=VALUE",
          action = clap::ArgAction::Append)]
    pub(crate) store_options: Vec<String>,

    /// Read the passphrase from FILE, less one line end. As in stock; not to be
    /// taken for --key-file
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) keyfile: Option<PathBuf>,

    /// Read the derived key of the store from FILE, as `tiroir key` writes it:
    /// no passphrase is needed, and none of the memory that deriving takes
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,

    /// Read the passphrase from an open file descriptor
    #[arg(long, global = true, value_name = "N")]
    pub(crate) passphrase_fd: Option<u32>,

    /// Tell results and failures as JSON, one object to a line
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Show no progress
    #[arg(long, global = true)]
    pub(crate) quiet: bool,

    /// Tell neither progress nor results nor single failures
    #[arg(long, global = true)]
    pub(crate) silent: bool,

    /// Tell how long the command took
    #[arg(long, global = true)]
    pub(crate) time: bool,

    /// Take at most so much memory: a number, and K, M or G. A quarter of what
    /// is available by default, from 24M to 256M
    #[arg(long, global = true, value_name = "BYTES", value_parser = size::parse)]
    pub(crate) memory: Option<u64>,

    /// Send at most so many bytes in a second to servers: a number, and K, M or G.
    /// The option limit_up of a place holds beside it
    #[arg(long, global = true, value_name = "RATE", value_parser = size::parse_rate)]
    pub(crate) limit_up: Option<u64>,

    /// Receive at most so many bytes in a second from servers, as limit_down of a
    /// place
    #[arg(long, global = true, value_name = "RATE", value_parser = size::parse_rate)]
    pub(crate) limit_down: Option<u64>,

    /// Put temporary files in DIR, which should be on a disk and not in memory
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) spool: Option<PathBuf>,

    /// Keep the indexes of stores in DIR
    #[arg(long, global = true, value_name = "DIR", alias = "cachedir")]
    pub(crate) cache_dir: Option<PathBuf>,

    /// Take at most so much room for the indexes of all stores together: a
    /// number, and K, M or G. 1G by default; with 0, none is kept. Those that were
    /// not used for longest go first
    #[arg(long, global = true, value_name = "BYTES", value_parser = size::parse)]
    pub(crate) cache_limit: Option<u64>,

    /// Read and write the names of stores, sources and destinations in DIR, by
    /// default tiroir in XDG_CONFIG_HOME or ~/.config. Stands before the command
    #[arg(long, global = true, value_name = "DIR", alias = "configdir")]
    pub(crate) config: Option<PathBuf>,

    /// Derive the key in FILE, a temporary file, in place of memory: slow, and
    /// as large as the memory that the store asks for
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kdf_arena: Option<PathBuf>,

    /// Use N processors at most: by default all that there are, and one within a
    /// small memory
    #[arg(long, global = true, value_name = "N")]
    pub(crate) concurrency: Option<i32>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write what is in a snapshot as a tar archive
    Archive(cmd::archive::Args),
    /// Back up directories and files, or standard input
    Backup(cmd::backup::Args),
    /// Tell how fast this machine is, and what to choose for a store on it
    Bench(cmd::bench::Args),
    /// Write files of snapshots to standard output
    Cat(cmd::cat::Args),
    /// Read a store or snapshots, and compare everything with its MACs
    Check(cmd::check::Args),
    /// Change stores and remotes, in the words of plakar 1.0
    Config(cmd::config::OldArgs),
    /// Make a new store
    Create(cmd::create::Args),
    /// Give names to places to restore to, and show them
    Destination(cmd::config::Args),
    /// Tell how two snapshots differ, or a snapshot and the file system
    Diff(cmd::diff::Args),
    /// Print hashes of files of snapshots
    Digest(cmd::digest::Args),
    /// Explain a command
    Help(cmd::help::Args),
    /// Tell what a store or a snapshot is
    Info(cmd::info::Args),
    /// Print or save the derived key of a store
    Key(cmd::key::Args),
    /// Tell how much memory is taken, and which bounds there are
    Limits(cmd::limits::Args),
    /// Find files by name in all snapshots
    Locate(cmd::locate::Args),
    /// List snapshots, or what is in one
    Ls(cmd::ls::Args),
    /// Write an archive: a store in one file
    Ptar(cmd::ptar::Args),
    /// Restore a snapshot, or a part of it
    Restore(cmd::restore::Args),
    /// Serve a store over HTTP
    #[cfg(feature = "http")]
    Server(cmd::server::Args),
    /// Give names to what is backed up, and show them
    Source(cmd::config::Args),
    /// Take the key of an SSH server for the right one
    #[cfg(feature = "sftp")]
    SshTrust(cmd::ssh_trust::Args),
    /// Give names to stores, and show them
    Store(cmd::config::Args),
    /// Print the version
    Version(cmd::version::Args),
}

/// The definitions.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

/// Reads arguments that [`crate::args`] has translated.
///
/// # Errors
///
/// clap's, which are also help that was asked for.
pub(crate) fn parse(args: Vec<std::ffi::OsString>) -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&command().try_get_matches_from(args)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Cli {
        let args = std::iter::once("tiroir").chain(line.split(' ')).map(Into::into);
        parse(crate::args::normalise(&command(), args).unwrap()).unwrap()
    }

    #[test]
    fn definitions_are_sound() {
        command().debug_assert();
    }

    #[test]
    fn options_stand_before_and_after() {
        for line in ["-quiet at /s ls -tags", "at /s ls -tags -quiet", "at /s ls --quiet --tags"] {
            let cli = parsed(line);
            assert!(cli.globals.quiet, "{line}");
            assert_eq!(cli.globals.at.as_deref(), Some("/s".as_ref()));
            assert!(matches!(cli.command, Command::Ls(_)));
        }
        assert_eq!(parsed("-memory 64M ls").globals.memory, Some(64 << 20));
        let both = parsed("-keyfile a --key-file b -cachedir c version").globals;
        assert_eq!(both.keyfile, Some(PathBuf::from("a")));
        assert_eq!(both.key_file, Some(PathBuf::from("b")));
        assert_eq!(both.cache_dir, Some(PathBuf::from("c")));
    }

    /// The manual page says what there is.
    #[test]
    fn manual_is_complete() {
        let page = include_str!("../man/tiroir.1").replace("\\-", "-");
        let root = command();
        for arg in root.get_arguments().filter(|arg| !arg.is_hide_set()) {
            let Some(long) = arg.get_long().filter(|long| *long != "help") else { continue };
            assert!(page.contains(&format!("-{long}")), "no -{long} in the manual");
        }
        for command in root.get_subcommands() {
            let name = command.get_name();
            let start = page.find(&format!(".SS {name}\n")).unwrap_or_else(|| panic!("no {name}"));
            let section = &page[start + 4..];
            let section = &section[..section.find("\n.S").unwrap_or(section.len())];
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                let Some(long) = arg.get_long().filter(|long| *long != "help") else { continue };
                let names = arg.get_visible_aliases().unwrap_or_default();
                let mut names = names.into_iter().chain([long]);
                let is_there = names.any(|name| section.contains(&format!("-{name}")))
                    || (section.contains("FILTERS") && page.contains(&format!("-{long}")));
                assert!(is_there, "no -{long} in the manual of {name}");
            }
        }
        for (status, _) in crate::exit::Status::ALL {
            assert!(page.contains(&format!(".TP\n.B {}\n", status.code())), "{status:?}");
        }
    }
}
