//! `help`: explains a command.

use std::io::Write;

use crate::error::Result;
use crate::exit::Status;

/// Explain a command
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The command; without one, all are listed
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

/// Explains a command, or lists all.
///
/// # Errors
///
/// For a command that there is not, and those of `out`.
pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<Status> {
    let mut root = crate::cli::command();
    root.build();
    let text = match &args.command {
        None => root.render_help(),
        Some(name) => root
            .find_subcommand_mut(name)
            .ok_or_else(|| crate::usage::unknown_command(&crate::cli::command(), name))?
            .render_long_help(),
    };
    write!(out, "{text}")?;
    if args.command.is_none() {
        writeln!(out, "\nExit statuses:")?;
        for (status, text) in Status::ALL {
            writeln!(out, "  {:>3}  {text}", status.code())?;
        }
    }
    Ok(Status::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(command: Option<&str>) -> Result<String> {
        let mut out = Vec::new();
        run(&Args { command: command.map(String::from) }, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn all_and_one() {
        let all = help(None).unwrap();
        assert!(all.contains("  backup") && all.contains("   77  "));
        assert!(help(Some("restore")).unwrap().contains("--skip-permissions"));
        assert_eq!(help(Some("nosuch")).unwrap_err().status(), Status::Usage);
    }
}
