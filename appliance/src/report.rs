//! What a run says of itself: warnings, a line of progress where somebody
//! looks at a terminal, and what could not be done.

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::cli::Globals;
use crate::error::Failure;
use crate::text::duration;
use crate::text::json::Line;
use crate::text::printable::Printable;
use crate::text::size::Size;

/// A line of progress stands on the terminal, and has to go before anything
/// else is written.
static LINE_SHOWN: AtomicBool = AtomicBool::new(false);

/// Least time between two drawings of the line.
const REDRAW: Duration = Duration::from_millis(200);

/// Width of the line where the terminal does not tell.
const WIDTH_DEFAULT: u16 = 80;

/// Writes a line to standard error, after a line of progress is gone.
pub(crate) fn say(line: &str) {
    clear();
    // Nobody can be told where this fails.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Warns the user of what is no failure.
pub(crate) fn warn(text: &str) {
    say(&format!("tiroir: warning: {}", Printable(text.as_bytes())));
}

/// Removes the line of progress, if there is one.
fn clear() {
    if LINE_SHOWN.swap(false, Ordering::Relaxed) {
        let _ = io::stderr().lock().write_all(b"\r\x1b[K");
    }
}

/// How results are told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    /// As text.
    Text,
    /// As JSON, one object to a line.
    Json,
}

/// Tells of a run as it goes.
#[derive(Debug)]
pub(crate) struct Reporter {
    form: Form,
    /// What could not be done is told.
    tells_failures: bool,
    /// The summary is told.
    tells_summary: bool,
    draws: bool,
    /// What is done, for the line.
    verb: &'static str,
    started: Instant,
    drawn: Option<Instant>,
    files: u64,
    bytes: u64,
    failures: u64,
}

impl Reporter {
    /// A reporter that calls the work `verb`.
    pub(crate) fn new(globals: &Globals, verb: &'static str) -> Self {
        let is_seen = rustix::termios::isatty(io::stderr())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let form = if globals.json { Form::Json } else { Form::Text };
        Self {
            form,
            tells_failures: !globals.silent,
            tells_summary: !globals.silent,
            draws: is_seen && form == Form::Text && !globals.quiet && !globals.silent,
            verb,
            started: Instant::now(),
            drawn: None,
            files: 0,
            bytes: 0,
            failures: 0,
        }
    }

    /// An entry is done.
    pub(crate) fn entry(&mut self) {
        self.files += 1;
        self.draw();
    }

    /// So many bytes were moved.
    pub(crate) fn moved(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.draw();
    }

    /// Something could not be done: an entry, unless `path` is empty.
    pub(crate) fn failed(&mut self, path: &[u8], message: &str) {
        self.failures += 1;
        if !self.tells_failures {
            return;
        }
        match self.form {
            Form::Json => {
                let _ = event_line("failure", path, message);
            }
            Form::Text if path.is_empty() => {
                say(&format!("KO ✘ {}", Printable(message.as_bytes())));
            }
            Form::Text => {
                say(&format!("KO ✘ {}: {}", Printable(path), Printable(message.as_bytes())));
            }
        }
    }

    /// Something about an entry is worth a line.
    pub(crate) fn noted(&mut self, path: &[u8], message: &str) {
        match self.form {
            _ if !self.tells_failures => {}
            Form::Json => {
                let _ = event_line("warning", path, message);
            }
            Form::Text => warn(&format!("{}: {message}", Printable(path))),
        }
    }

    /// Nanoseconds since the reporter was made.
    pub(crate) fn elapsed_nanos(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_nanos()).unwrap_or(i64::MAX)
    }

    /// Ends the line of progress. Whether a summary is to be told, and how.
    pub(crate) fn finish(&mut self) -> Option<Form> {
        clear();
        self.draws = false;
        self.tells_summary.then_some(self.form)
    }

    fn draw(&mut self) {
        let now = Instant::now();
        if !self.draws || self.drawn.is_some_and(|drawn| now.duration_since(drawn) < REDRAW) {
            return;
        }
        self.drawn = Some(now);
        let width = rustix::termios::tcgetwinsize(io::stderr()).map_or(0, |size| size.ws_col);
        let width = if width == 0 { WIDTH_DEFAULT } else { width };
        let line = self.line(now.duration_since(self.started));
        let line: String = line.chars().take(usize::from(width.saturating_sub(1))).collect();
        LINE_SHOWN.store(true, Ordering::Relaxed);
        let _ = write!(io::stderr().lock(), "\r\x1b[K{line}");
    }

    /// The line of progress, `elapsed` after the start.
    fn line(&self, elapsed: Duration) -> String {
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        let speed = self.bytes.saturating_mul(1000) / millis;
        let nanos = i64::try_from(elapsed.as_nanos()).unwrap_or(i64::MAX);
        let mut line = format!(
            "{}: {} {}, {}, {}/s, {}",
            self.verb,
            self.files,
            if self.files == 1 { "entry" } else { "entries" },
            Size(self.bytes),
            Size(speed),
            duration::Duration(nanos).rounded(),
        );
        if self.failures > 0 {
            line.push_str(&format!(", {} failed", self.failures));
        }
        line
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        clear();
    }
}

/// Standard output is what was asked for, an archive for instance: lines of
/// JSON go to standard error.
static OUTPUT_IS_DATA: AtomicBool = AtomicBool::new(false);

/// Keeps everything that is told away from standard output.
pub(crate) fn output_is_data() {
    OUTPUT_IS_DATA.store(true, Ordering::Relaxed);
}

/// Writes a line of JSON where it belongs.
fn write_json(line: &[u8]) -> io::Result<()> {
    if OUTPUT_IS_DATA.load(Ordering::Relaxed) {
        io::stderr().lock().write_all(line)
    } else {
        io::stdout().lock().write_all(line)
    }
}

/// Tells as a line of JSON why the command was not done.
pub(crate) fn failure_line(failure: &Failure) -> io::Result<()> {
    let mut text = Vec::new();
    let mut line = Line::new(&mut text, "error")?;
    line.number("status", failure.status().code())?;
    line.text("error", failure.what().as_bytes())?;
    if !failure.advice().is_empty() {
        line.text("advice", failure.advice().as_bytes())?;
    }
    line.end()?;
    write_json(&text)
}

/// Writes what is told of an entry as a line of JSON. A reader that went away
/// must not end a backup.
fn event_line(kind: &str, path: &[u8], message: &str) -> io::Result<()> {
    let mut text = Vec::new();
    let mut line = Line::new(&mut text, kind)?;
    if !path.is_empty() {
        line.text("path", path)?;
    }
    line.text("error", message.as_bytes())?;
    line.end()?;
    write_json(&text)
}

/// `without errors`, `with 1 error`, `with 7 errors`.
pub(crate) fn with_errors(count: u64) -> String {
    match count {
        0 => String::from("without errors"),
        1 => String::from("with 1 error"),
        _ => format!("with {count} errors"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_of_progress() {
        let mut reporter = Reporter::new(&Globals::default(), "backup");
        reporter.draws = false;
        reporter.entry();
        reporter.moved(3 << 20);
        let line = reporter.line(Duration::from_secs(2));
        assert_eq!(line, "backup: 1 entry, 3.0 MiB, 1.5 MiB/s, 2s");
        reporter.tells_failures = false;
        reporter.failed(b"/x", "no");
        let line = reporter.line(Duration::ZERO);
        assert!(line.ends_with(", 0s, 1 failed"), "{line}");
    }

    #[test]
    fn errors_are_counted_as_stock_says_it() {
        assert_eq!(with_errors(0), "without errors");
        assert_eq!(with_errors(1), "with 1 error");
        assert_eq!(with_errors(7), "with 7 errors");
    }
}
