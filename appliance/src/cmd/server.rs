//! `server`: serves a store over HTTP.

use std::fs::File;
use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tiroir_core::limits::CONFIG_BYTES_MAX;
use tiroir_core::store::Store as _;
use tiroir_hosts::http::server::{Ended, Identity, Server};
use tiroir_hosts::http::store_server::{Rules, StoreService, Token};
use zeroize::Zeroizing;

use crate::connect::Surroundings;
use crate::error::{Failure, Result};
use crate::exit::Status;
use crate::location::Location;
use crate::open::{Context, no_store};
use crate::report;
use crate::store::AnyStore;
use crate::text::json::Line;

/// Variable of the environment that may hold the token.
const VARIABLE: &str = "TIROIR_SERVER_TOKEN";

/// Least and greatest length of a token, in bytes.
const TOKEN_BYTES_MIN: usize = 16;
const TOKEN_BYTES_MAX: usize = 4096;

/// Requests that are answered at once: of a store on a disk, and of others, for
/// each of which a connection to the server below is held.
pub(crate) const WORKERS_LOCAL: usize = 8;
pub(crate) const WORKERS_REMOTE: usize = 3;

/// Bytes that an upload gathers before it writes: what comes in comes in pieces of
/// so many.
const WRITE_BYTES: usize = tiroir_hosts::http::store_server::PIECE_BYTES;

/// Serve a store over HTTP
///
/// Others use it as http://HOST:PORT, with tiroir or with stock plakar. No key is
/// needed: the server hands out what the store holds, and takes in what clients
/// write. What was written can neither be changed nor removed through it, unless
/// that is allowed. It ends when it is told to by a signal.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Listen at HOST:PORT. Without HOST, at all addresses of this machine
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:9876",
          value_parser = place)]
    listen: String,

    /// Let clients remove and replace what is in the store
    #[arg(long)]
    allow_delete: bool,

    /// Serve over TLS, with the certificate in FILE and those that follow it, in
    /// PEM. With -key
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,

    /// The key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,

    /// Serve only clients that show the token in FILE, less one line end. They are
    /// given it as their option auth_token. By default that of the environment
    /// variable TIROIR_SERVER_TOKEN, if there is one
    #[arg(long, value_name = "FILE", conflicts_with = "token_fd")]
    token_file: Option<PathBuf>,

    /// The same, read from an open file descriptor
    #[arg(long, value_name = "N")]
    token_fd: Option<u32>,
}

/// Serves the store until a signal comes.
///
/// # Errors
///
/// When there is no store, the place to listen at is not to be had, or files of
/// certificate and token are not what they should be.
pub(crate) fn run(args: &Args, context: &Context<'_>, out: &mut dyn Write) -> Result<Status> {
    if context.globals.limit_up.is_some() || context.globals.limit_down.is_some() {
        return Err(Failure::usage("a server has no limit of rate"));
    }
    let location = context.location()?;
    let token = token(args)?;
    let identity = match (&args.cert, &args.key) {
        (Some(certificates), Some(key)) => Some(Identity::read(certificates, key)?),
        _ => None,
    };
    // Connectors go on for as long as requests under way do.
    let cut = Arc::new(AtomicBool::new(false));
    let around = Surroundings { cancelled: Arc::clone(&cut), ..context.surroundings() };
    see_store(&location, &around)?;

    let workers = match location {
        Location::Directory(_) | Location::Mounted(..) | Location::Archive(_) => WORKERS_LOCAL,
        Location::Remote(_) => WORKERS_REMOTE,
    };
    let mut server = Server::bind(&args.listen)?.with_workers(workers);
    let is_open = token.is_none();
    let is_tls = identity.is_some();
    if let Some(identity) = identity {
        server = server.with_identity(identity);
    }
    let mut rules = Rules::new().with_delete(args.allow_delete).with_notes(report::warn);
    if let Some(token) = token {
        rules = rules.with_token(token);
    }
    let address = server.address();
    if is_open && !address.ip().is_loopback() {
        report::warn(&format!(
            "whoever reaches {address} may read the store and add to it: give clients a token, \
             with -token-file FILE"
        ));
    }
    if !is_open && !is_tls && !address.ip().is_loopback() {
        report::warn(
            "the token goes over the network as it is: serve over TLS, with -cert and -key",
        );
    }
    let url = format!("{}://{address}", if is_tls { "https" } else { "http" });
    tell(context, out, &url)?;
    let service =
        || StoreService::new(&rules, || AnyStore::served(&location, &around, WRITE_BYTES));
    match server.run(service, context.cancelled(), &cut)? {
        Ended::Clean => Ok(Status::Done),
        Ended::Cut => {
            report::warn("requests that did not end in time were cut off");
            Ok(Status::Interrupted)
        }
    }
}

/// Sees that a place to listen at is of its form.
fn place(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(_)) => Ok(text.to_owned()),
        _ => Err("it is written as HOST:PORT or :PORT".to_owned()),
    }
}

/// Sees that there is a store before anybody is served.
fn see_store(location: &Location, around: &Surroundings) -> Result<()> {
    let failed = |error| no_store(location, error);
    let mut store = AnyStore::at(location, around).map_err(failed)?;
    store.read_config(&mut vec![0; CONFIG_BYTES_MAX]).map_err(failed).map(drop)
}

/// Says where the server is.
fn tell(context: &Context<'_>, out: &mut dyn Write, url: &str) -> Result<()> {
    if context.globals.json {
        let mut line = Line::new(out, "listening")?;
        line.text("url", url.as_bytes())?;
        line.end()?;
        out.flush()?;
    } else if !context.globals.quiet && !context.globals.silent {
        report::say(&format!("tiroir: listening on {url}"));
    }
    Ok(())
}

/// The token that clients have to show, if one was given.
fn token(args: &Args) -> Result<Option<Token>> {
    let text = if let Some(descriptor) = args.token_fd {
        read_token(Path::new(&format!("/dev/fd/{descriptor}")))?
    } else if let Some(path) = &args.token_file {
        read_token(path)?
    } else {
        match std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
            Some(text) => Zeroizing::new(std::os::unix::ffi::OsStringExt::into_vec(text)),
            None => return Ok(None),
        }
    };
    if text.len() < TOKEN_BYTES_MIN || text.len() > TOKEN_BYTES_MAX {
        let what = format!("the token has {} bytes", text.len());
        return Err(Failure::new(Status::Authentication, what).with_advice(format!(
            "It has {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX}: make one with \
             `head -c 24 /dev/urandom | base64`."
        )));
    }
    if !text.iter().all(u8::is_ascii_graphic) {
        return Err(Failure::new(Status::Authentication, "the token cannot be sent in a header")
            .with_advice("It is one line of letters, digits and signs, without blanks."));
    }
    Ok(Some(Token::new(&text)))
}

fn read_token(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let failure = |error| Failure::io(format_args!("read the token in {}", path.display()), error);
    let file = File::open(path).map_err(failure)?;
    let mut text = Zeroizing::new(Vec::with_capacity(TOKEN_BYTES_MAX + 2));
    file.take(TOKEN_BYTES_MAX as u64 + 2).read_to_end(&mut text).map_err(failure)?;
    if text.last() == Some(&b'\n') {
        text.pop();
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(content: &[u8]) -> Result<Option<Token>> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, content).unwrap();
        token(&Args {
            listen: String::new(),
            allow_delete: false,
            cert: None,
            key: None,
            token_file: Some(path),
            token_fd: None,
        })
    }

    #[test]
    fn tokens() {
        assert!(given(b"0123456789abcdef").unwrap().is_some());
        assert!(given(b"0123456789abcdef\n").unwrap().is_some());
        for text in ["", "\n", "short", "0123456789 abcdef", "0123456789abcdef\r\n"] {
            assert!(given(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(given(&[b'x'; TOKEN_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn places() {
        for text in ["localhost:9876", ":80", "[::1]:80", "127.0.0.1:0"] {
            assert!(place(text).is_ok(), "{text}");
        }
        for text in ["", "localhost", "localhost:http", ":65536", "[::1]"] {
            assert!(place(text).is_err(), "{text}");
        }
    }
}
