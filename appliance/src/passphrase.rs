//! Where a passphrase comes from, in stock's order: a descriptor, a file, the
//! entry of the store in the configuration, the environment, and then whoever
//! sits at the terminal.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use zeroize::Zeroizing;

use crate::cli::Globals;
use crate::error::{Failure, Result};
use crate::exit::Status;

/// A passphrase, as bytes. Erased when dropped.
pub(crate) type Passphrase = Zeroizing<Vec<u8>>;

/// Longest passphrase, in bytes.
pub(crate) const PASSPHRASE_BYTES_MAX: usize = 64 * 1024;

/// Times that the terminal is asked.
pub(crate) const ATTEMPTS: u32 = 3;

/// Variables of the environment that may hold the passphrase.
const VARIABLES: [&str; 2] = ["TIROIR_PASSPHRASE", "PLAKAR_PASSPHRASE"];

/// The passphrase, if one was given without a terminal: `known` is that of the
/// entry of the store. An empty variable counts as none, as in stock.
///
/// # Errors
///
/// When the descriptor or the file that was named cannot be read, or is empty.
pub(crate) fn given(globals: &Globals, known: Option<Passphrase>) -> Result<Option<Passphrase>> {
    if let Some(descriptor) = globals.passphrase_fd {
        let path = format!("/dev/fd/{descriptor}");
        return read_file(Path::new(&path), "the passphrase descriptor").map(Some);
    }
    if let Some(path) = &globals.keyfile {
        return read_file(path, "key file").map(Some);
    }
    if known.is_some() {
        return Ok(known);
    }
    let mut values = VARIABLES.iter().filter_map(std::env::var_os);
    let found = values.find(|value| !value.is_empty());
    Ok(found.map(|value| Zeroizing::new(std::os::unix::ffi::OsStringExt::into_vec(value))))
}

/// Reads a passphrase from a file: all of it, but for one line end.
fn read_file(path: &Path, what: &str) -> Result<Passphrase> {
    let failure = |error| Failure::io(format_args!("read {what} {}", path.display()), error);
    let file = File::open(path).map_err(failure)?;
    // Room for all from the start: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(PASSPHRASE_BYTES_MAX + 1));
    file.take(PASSPHRASE_BYTES_MAX as u64 + 1).read_to_end(&mut text).map_err(failure)?;
    if text.len() > PASSPHRASE_BYTES_MAX {
        return Err(Failure::new(Status::Failed, format!("{what} is too long for a passphrase")));
    }
    if text.last() == Some(&b'\n') {
        text.pop();
    }
    match text.last() {
        None => {
            let what = format!("{what} {} is empty", path.display());
            Err(Failure::new(Status::Authentication, what)
                .with_advice("It holds the passphrase, with one line end or none behind it."))
        }
        Some(b'\r' | b'\n') => {
            crate::report::warn(&format!(
                "{what} {} ends with more than one line end, or with that of another system: \
                 what is there beside the last line feed counts as part of the passphrase",
                path.display()
            ));
            Ok(text)
        }
        Some(_) => Ok(text),
    }
}

/// Asks for a passphrase on the terminal, without showing it.
///
/// # Errors
///
/// [`Status::Authentication`] where there is no terminal;
/// [`Status::Interrupted`] for a Control-C.
pub(crate) fn ask(prompt: &str) -> Result<Passphrase> {
    if let Ok(terminal) = File::options().read(true).write(true).open("/dev/tty") {
        return ask_on(&terminal, &terminal, prompt);
    }
    let stdin = io::stdin();
    if rustix::termios::isatty(&stdin) {
        return ask_on(stdin.lock(), io::stderr(), prompt);
    }
    Err(Failure::new(Status::Authentication, "no passphrase was given, and nobody can be asked")
        .with_advice(
            "Give it with -keyfile FILE, --passphrase-fd N, or in the environment variable \
             TIROIR_PASSPHRASE; or the derived key with --key-file FILE.",
        ))
}

/// The terminal as it was, put back at the end.
struct Quiet<F: AsFd> {
    terminal: F,
    before: Termios,
}

impl<F: AsFd> Quiet<F> {
    /// Turns off what shows and what interprets keys.
    fn new(terminal: F) -> rustix::io::Result<Self> {
        let before = rustix::termios::tcgetattr(&terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        rustix::termios::tcsetattr(&terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl<F: AsFd> Drop for Quiet<F> {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

fn ask_on(mut input: impl Read + AsFd, mut output: impl Write, prompt: &str) -> Result<Passphrase> {
    let failure = |error| Failure::io("ask for the passphrase", error);
    output.write_all(prompt.as_bytes()).and_then(|()| output.flush()).map_err(failure)?;
    let owned = input.as_fd().try_clone_to_owned().map_err(failure)?;
    let quiet = Quiet::new(owned).map_err(|error| failure(error.into()))?;
    let line = read_line(&mut input);
    drop(quiet);
    output.write_all(b"\n").map_err(failure)?;
    line
}

/// Reads a line, key by key, with the keys that correct it.
fn read_line(input: &mut impl Read) -> Result<Passphrase> {
    let interrupted = || Failure::new(Status::Interrupted, "interrupted");
    let mut line = Zeroizing::new(Vec::with_capacity(PASSPHRASE_BYTES_MAX));
    loop {
        let mut key = [0];
        match input.read(&mut key) {
            Ok(0) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failure::io("read the passphrase", error)),
            Ok(_) => {}
        }
        match key[0] {
            b'\r' | b'\n' | 0x04 => break,
            0x03 | 0x1c => return Err(interrupted()),
            0x15 => line.clear(),
            0x08 | 0x7f => {
                // A character, which may be several bytes.
                while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            byte if line.len() < PASSPHRASE_BYTES_MAX => line.push(byte),
            _ => {}
        }
    }
    Ok(line)
}

/// A passphrase for a new store: given, or asked for twice.
///
/// # Errors
///
/// As [`given`] and [`ask`]; and for an empty one, or three that do not match.
pub(crate) fn choose(
    globals: &Globals,
    known: Option<Passphrase>,
    allow_weak: bool,
) -> Result<Passphrase> {
    let empty =
        || Failure::new(Status::Failed, "can't encrypt the repository with an empty passphrase");
    if let Some(passphrase) = given(globals, known)? {
        return if passphrase.is_empty() { Err(empty()) } else { Ok(passphrase) };
    }
    let mut weak: Option<Passphrase> = None;
    for _ in 0..ATTEMPTS {
        let first = ask("repository passphrase: ")?;
        if first.is_empty() {
            return Err(empty());
        }
        let insists = weak.as_ref().is_some_and(|weak| **weak == *first);
        if !allow_weak && !insists && entropy_bits(&first) < ENTROPY_BITS_MIN {
            crate::report::warn(
                "insecure passphrase: use a longer one, with letters, digits and signs; \
                 type it again to take it all the same",
            );
            weak = Some(first);
            continue;
        }
        if *ask("repository passphrase (confirm): ")? == *first {
            return Ok(first);
        }
        crate::report::warn("the passphrases are not the same");
    }
    Err(Failure::new(Status::Failed, "too many failed attempts"))
}

/// Bits below which a passphrase is called weak, as stock does.
const ENTROPY_BITS_MIN: f64 = 80.0;

/// A guess at the strength of a passphrase: length times the size of the
/// alphabets that it draws from, repeated characters counted twice at most.
fn entropy_bits(passphrase: &[u8]) -> f64 {
    let mut alphabet: u32 = 0;
    let has = |is: fn(&u8) -> bool| passphrase.iter().any(is);
    for (is_used, size) in [
        (has(u8::is_ascii_lowercase), 26),
        (has(u8::is_ascii_uppercase), 26),
        (has(u8::is_ascii_digit), 10),
        (has(|byte| byte.is_ascii_punctuation() || *byte == b' '), 33),
        (has(|byte| !byte.is_ascii()), 64),
    ] {
        if is_used {
            alphabet += size;
        }
    }
    let mut counted: u32 = 0;
    for (index, byte) in passphrase.iter().enumerate() {
        let before = passphrase[..index].iter().filter(|other| *other == byte).count();
        counted += u32::from(before < 2);
    }
    f64::from(counted) * f64::from(alphabet.max(1)).log2()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[u8]) -> Vec<u8> {
        read_line(&mut &keys[..]).unwrap().to_vec()
    }

    #[test]
    fn keys() {
        assert_eq!(typed(b"secret\nrest"), b"secret");
        assert_eq!(typed(b"secret"), b"secret");
        assert_eq!(typed(b"secrey\x7ft\r"), b"secret");
        assert_eq!(typed("é\x7fe\n".as_bytes()), b"e");
        assert_eq!(typed(b"wrong\x15right\n"), b"right");
        assert_eq!(typed(b"\x7f\n"), b"");
        assert_eq!(read_line(&mut &b"a\x03"[..]).unwrap_err().status(), Status::Interrupted);
    }

    #[test]
    fn one_line_end_is_no_part_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        for (content, wanted) in
            [(&b"secret\n"[..], &b"secret"[..]), (b"secret\n\n", b"secret\n"), (b"a\r\n", b"a\r")]
        {
            std::fs::write(&path, content).unwrap();
            assert_eq!(*read_file(&path, "key file").unwrap(), wanted);
        }
        std::fs::write(&path, vec![0; PASSPHRASE_BYTES_MAX + 1]).unwrap();
        assert!(read_file(&path, "key file").is_err());
        for nothing in ["", "\n"] {
            std::fs::write(&path, nothing).unwrap();
            let failure = read_file(&path, "key file").unwrap_err();
            assert_eq!(failure.status(), Status::Authentication);
        }
    }

    #[test]
    fn strength() {
        for weak in ["a", "password", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "12345678901234"] {
            assert!(entropy_bits(weak.as_bytes()) < ENTROPY_BITS_MIN, "{weak}");
        }
        for strong in ["correct horse battery staple", "x9!Lq_72#mPz.4Tk"] {
            assert!(entropy_bits(strong.as_bytes()) >= ENTROPY_BITS_MIN, "{strong}");
        }
    }
}
