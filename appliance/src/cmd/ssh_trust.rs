//! `ssh-trust`: takes the key of an SSH server for the right one.

use std::ffi::OsString;
use std::io::{BufRead as _, Write};

use tiroir_hosts::remote::patience::Patience;
use tiroir_hosts::sftp::known_hosts::{self, Marker};
use tiroir_hosts::sftp::ssh::{Ssh, fingerprint};

use crate::error::{Failure, Result};
use crate::exit::Status;
use crate::location::{Place, parse_options};
use crate::open::Context;
use crate::text::json::Line;

/// Take the key of an SSH server for the right one
///
/// Connects, shows the fingerprint of the key that the server has, and writes the
/// key to ~/.ssh/known_hosts, where OpenSSH looks too. A server whose key is not
/// known is not spoken to by any other command. Compare the fingerprint with what
/// `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` prints on the server.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Take the key if it has this fingerprint, and ask nobody
    #[arg(long, value_name = "SHA256:TEXT")]
    fingerprint: Option<String>,

    /// Take whatever key the server has, and ask nobody
    #[arg(long)]
    yes: bool,

    /// Option of the connector. May be repeated
    #[arg(long = "option", alias = "o", visible_alias = "o", value_name = "NAME=VALUE",
          action = clap::ArgAction::Append)]
    options: Vec<String>,

    /// The server: HOST, or sftp://HOST:PORT
    #[arg(value_name = "HOST")]
    host: OsString,
}

/// Asks the server for its key, and whoever is there whether it is the right one.
///
/// # Errors
///
/// When the server is not reached, has another key than was known, or nobody says
/// that it is the right one.
pub(crate) fn run(args: &Args, context: &Context<'_>, out: &mut dyn Write) -> Result<Status> {
    let options = parse_options(&args.options)?;
    let mut text = args.host.clone();
    if !matches!(Place::parse(&text, &options), Place::Remote(_)) {
        text = OsString::from("sftp://");
        text.push(&args.host);
    }
    let Place::Remote(remote) = Place::parse(&text, &options) else {
        return Err(Failure::usage("that is no SSH server"));
    };
    let around = context.surroundings();
    let patience = Patience::from_options(&options)?.with_cancellation(around.cancelled);
    let mut ssh = Ssh::new(&remote.address()?, &options, &around.home, patience)?;
    let (name, key) = ssh.offered_key()?;
    let files = ssh.known_hosts().to_vec();
    let Some(file) = files.first() else {
        return Err(Failure::usage("no file of known hosts is configured"));
    };
    let offered = fingerprint(&key);
    let known = known_hosts::known(&files, &name)?;
    let of_host = || known.iter().filter(|known| known.marker == Marker::Host);
    if of_host().any(|known| known.key.key_data() == key.key_data()) {
        return tell(context, out, (&name, &offered), "known already");
    }
    if let Some(other) = of_host().find(|known| known.key.algorithm() == key.algorithm()) {
        let (path, line) = &other.place;
        let what = format!("{name} has another key than is known of it: {offered}");
        return Err(Failure::new(Status::Failed, what).with_advice(format!(
            "If the server was set up anew, remove line {line} of {} first.",
            path.display()
        )));
    }
    match &args.fingerprint {
        Some(wanted) if *wanted == offered => {}
        Some(_) => {
            let what = format!("the key of {name} has another fingerprint: {offered}");
            return Err(Failure::new(Status::Failed, what).with_advice("It was not taken."));
        }
        None if args.yes => {}
        None => ask(&name, &offered)?,
    }
    known_hosts::learn(file, &name, &key)?;
    tell(context, out, (&name, &offered), "trusted from now on")
}

/// Asks on the terminal whether a key is the right one.
fn ask(name: &str, offered: &str) -> Result<()> {
    let refused = || Failure::new(Status::Failed, format!("the key of {name} was not taken"));
    let terminal = std::fs::File::options().read(true).write(true).open("/dev/tty");
    let Ok(mut terminal) = terminal else {
        return Err(refused().with_advice(format!(
            "Its fingerprint is {offered}. If that is the right one: \
             tiroir ssh-trust -fingerprint {offered} …"
        )));
    };
    let failure = |error| Failure::io("ask on the terminal", error);
    let question = format!("{name} has the key {offered}\nIs that the right one (yes/no)? ");
    terminal.write_all(question.as_bytes()).map_err(failure)?;
    let mut line = String::new();
    let mut reader = std::io::BufReader::new(std::io::Read::take(terminal, 100));
    reader.read_line(&mut line).map_err(failure)?;
    if line.trim().eq_ignore_ascii_case("yes") { Ok(()) } else { Err(refused()) }
}

fn tell(
    context: &Context<'_>,
    out: &mut dyn Write,
    (name, offered): (&str, &str),
    outcome: &str,
) -> Result<Status> {
    if context.globals.json {
        let mut line = Line::new(out, "ssh-trust")?;
        line.text("host", name.as_bytes())?;
        line.text("fingerprint", offered.as_bytes())?;
        line.text("outcome", outcome.as_bytes())?;
        line.end()?;
    } else {
        writeln!(out, "{name}: {offered}: {outcome}")?;
    }
    Ok(Status::Done)
}
