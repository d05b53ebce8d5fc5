//! `bench`: tells how fast the machine is, and what to choose for a store on it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use tiroir_core::compression::Compression;
use tiroir_core::crypto::Suite;
use tiroir_core::crypto::kdf::Kdf;
use tiroir_core::mac::HashAlgorithm;
use tiroir_hosts::cpu::thread_time;
use tiroir_hosts::disk::{self, SMALL_FILE_BYTES, Transfer, Trial};
use tiroir_hosts::env::SystemHost;

use super::{backup, stock_chunk_bytes};
use crate::bench::advice::{Advice, Estimate, HASHING_GAIN_MIN, SUITE_GAIN_MIN, advise};
use crate::bench::processor::{Bench, Part, WAYS, WORK_BYTES};
use crate::bench::{Pace, Way, as_f64, suite_name};
use crate::budget::{self, MIB, Plan, Share};
use crate::error::{Failure, Result};
use crate::exit::Status;
use crate::machine::{self, Extension};
use crate::new_store::usual_kdf;
use crate::open::Context;
use crate::text::json::Line;
use crate::text::printable::Printable;
use crate::text::size::Size;

/// Tell how fast this machine is, and what to choose for a store on it
///
/// Measures one core, in some seconds: each part of a backup, and a backup without
/// its files with each cipher; the derivation of a key as `create` would choose it;
/// and the disk that DIR is on, with up to 64 MiB in files without names, that are
/// gone afterwards. Then tells what to choose, why, and how long a first backup
/// might take. Nothing is changed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A directory on the disk that a store would be on; by default the one for
    /// temporary files
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Longest that the derivation of a key is measured: of a longer one, one pass.
const KEY_SECONDS_MAX: f64 = 4.0;

/// Memory of the derivation that tells whether the real one is too long, in KiB.
const PROBE_KIB: u32 = 4 * 1024;

/// Measures and tells.
///
/// # Errors
///
/// For a directory that is not there or cannot be written to; a memory that is too
/// small; and those of `out`.
pub(crate) fn run(args: &Args, context: &Context<'_>, out: &mut dyn Write) -> Result<Status> {
    let directory = args.directory.clone().unwrap_or_else(|| context.spool_directory());
    if !directory.is_dir() {
        let what = format!("there is no directory {}", directory.display());
        return Err(Failure::new(Status::NoTarget, what)
            .with_advice("Name one on the disk that a store would be on."));
    }
    let plan = Plan::new(context.budget_bytes(), Share::All, WORK_BYTES)?;
    let mut teller = Teller { json: context.globals.json, out };
    let machine = Machine::of(context);
    teller.machine(&machine)?;
    let (paces, trial) = measure(context, &plan, &directory, &mut teller)?;
    let kdf = usual_kdf(machine.memory.map_or(0, |memory| memory.total_bytes));
    teller.key(&kdf, key_seconds(context, &kdf))?;
    let write_rate = trial.written.rate().filter(|_| !trial.is_memory);
    if let Some(advice) = advise(&paces, write_rate) {
        teller.advice(&advice, &kdf, &machine)?;
    }
    Ok(Status::Done)
}

/// Measures everything that takes its memory from the budget.
fn measure(
    context: &Context<'_>,
    plan: &Plan,
    directory: &Path,
    teller: &mut Teller<'_>,
) -> Result<(Vec<Pace>, Trial)> {
    let mut memory = plan.allocate()?;
    let divided = plan
        .divide(&mut memory)
        .map_err(|error| Failure::new(Status::Failed, format!("the memory {error}")))?;
    let (encode, decode) = (divided.memory.encode, divided.memory.decode);
    let host = SystemHost::new(directory);
    let at_once = AtOnce::new(context.cancelled());
    let mut bench = Bench::new(encode, decode, divided.work, host);
    teller.title("One core, in MB/s:")?;
    for part in Part::ALL {
        teller.part(part, bench.part(part)?)?;
    }
    teller.title(
        "A first backup on one core, without reading and writing, in MB/s of data,\n\
         half of which compresses:",
    )?;
    let mut paces = Vec::with_capacity(WAYS.len());
    for way in WAYS {
        paces.push(bench.backup(way)?);
    }
    teller.paces(&paces)?;
    drop(at_once);
    let (noise, buffer) = bench.disk_memory();
    let cancelled = || context.cancelled().load(Ordering::Relaxed);
    let trial = disk::measure(directory, noise, buffer, &cancelled)?;
    context.check_cancelled()?;
    teller.disk(directory, &trial)?;
    Ok((paces, trial))
}

/// As long as this is there, the first signal ends the program, as else only the
/// second one does: there is nothing to clean up, and the work does not look out for
/// signals.
struct AtOnce<'c>(&'c AtomicBool);

impl<'c> AtOnce<'c> {
    fn new(cancelled: &'c AtomicBool) -> Self {
        cancelled.store(true, Ordering::Relaxed);
        Self(cancelled)
    }
}

impl Drop for AtOnce<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Seconds of one core that the derivation takes. Where it would be long, of one pass,
/// times the passes.
///
/// # Errors
///
/// When there is not so much memory.
fn key_seconds(context: &Context<'_>, kdf: &Kdf) -> Result<f64> {
    let Kdf::Argon2id { time, memory_kib, threads } = *kdf else { return Ok(0.0) };
    // An arena is a file, which has a name for a moment.
    let in_memory = context.globals.kdf_arena.is_none();
    let _at_once = in_memory.then(|| AtOnce::new(context.cancelled()));
    let seconds = |kdf: Kdf| {
        let start = thread_time();
        context.derive(&kdf, b"nothing is kept under this", &[0; 16])?;
        Ok::<f64, Failure>(thread_time().saturating_sub(start).as_secs_f64())
    };
    let probe_kib = PROBE_KIB.min(memory_kib);
    let probe = seconds(Kdf::Argon2id { time: 1, memory_kib: probe_kib, threads })?;
    let expected = probe * f64::from(memory_kib) / f64::from(probe_kib) * f64::from(time);
    if expected <= KEY_SECONDS_MAX {
        return seconds(*kdf);
    }
    Ok(seconds(Kdf::Argon2id { time: 1, memory_kib, threads })? * f64::from(time))
}

/// What the machine is.
struct Machine {
    processors: usize,
    extensions: Vec<Extension>,
    memory: Option<machine::Memory>,
    budget_bytes: u64,
    /// Threads that a backup would encode with, beside the first.
    threads: usize,
    /// The budget that is recommended.
    recommended_bytes: u64,
}

impl Machine {
    fn of(context: &Context<'_>) -> Self {
        let (processors, budget_bytes) = (context.processors(), context.budget_bytes());
        let memory = machine::Memory::read();
        let (chunk_bytes, work_bytes) =
            (stock_chunk_bytes(), backup::work_bytes(stock_chunk_bytes()));
        let threads = Plan::new(budget_bytes, Share::All, work_bytes)
            .map_or(0, |plan| plan.with_threads(processors, chunk_bytes).threads());
        let threaded_bytes = budget::threaded_bytes_min(work_bytes, chunk_bytes);
        Self {
            processors,
            extensions: machine::extensions(),
            memory,
            budget_bytes,
            threads,
            recommended_bytes: recommended_bytes(
                budget::default_bytes(),
                (processors > 1).then_some(threaded_bytes),
                memory.map_or(0, |memory| memory.available_bytes),
            ),
        }
    }
}

/// The budget that is usual; or what a second core needs, if there is one and that is
/// no more than half of what is available.
fn recommended_bytes(usual: u64, threaded: Option<u64>, available: u64) -> u64 {
    let affordable = threaded.filter(|bytes| *bytes <= available / 2);
    let whole = usual / MIB * MIB;
    affordable.map_or(whole, |bytes| whole.max(bytes))
}

/// Tells, as text or as lines of JSON, at once.
struct Teller<'o> {
    json: bool,
    out: &'o mut dyn Write,
}

impl Teller<'_> {
    fn title(&mut self, title: &str) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        writeln!(self.out, "\n{title}")
    }

    fn machine(&mut self, machine: &Machine) -> io::Result<()> {
        let names = |is_there: bool| {
            let extensions = machine.extensions.iter();
            extensions.filter(move |extension| extension.is_there == is_there)
        };
        if self.json {
            let mut line = Line::new(self.out, "machine")?;
            line.show("architecture", machine::architecture())?;
            line.number("processors", machine.processors as u64)?;
            line.list("used", names(true).map(|extension| extension.name.as_bytes()))?;
            line.list("absent", names(false).map(|extension| extension.name.as_bytes()))?;
            if let Some(memory) = machine.memory {
                line.number("memory_bytes", memory.total_bytes)?;
                line.number("available_bytes", memory.available_bytes)?;
            }
            line.number("budget_bytes", machine.budget_bytes)?;
            line.number("threads", machine.threads as u64)?;
            line.end()?;
            return self.out.flush();
        }
        let listed = |is_there| {
            let names: Vec<_> = names(is_there).map(|extension| extension.name).collect();
            if names.is_empty() { String::from("none") } else { names.join(", ") }
        };
        let cores = if machine.processors == 1 {
            "1 core"
        } else {
            &format!("{} cores", machine.processors)
        };
        writeln!(self.out, "processor: {cores}, {}", machine::architecture())?;
        writeln!(self.out, "extensions used: {}", listed(true))?;
        if names(false).count() > 0 {
            writeln!(self.out, "extensions that it lacks: {}", listed(false))?;
        }
        if let Some(memory) = machine.memory {
            let (total, available) = (Size(memory.total_bytes), Size(memory.available_bytes));
            writeln!(self.out, "memory: {total}, of which {available} are available")?;
        }
        let threads = match machine.threads {
            0 => String::from("on one core"),
            threads => format!("on {} cores", threads + 1),
        };
        writeln!(self.out, "a backup would take {} here, {threads}", Size(machine.budget_bytes))?;
        self.out.flush()
    }

    fn part(&mut self, part: Part, done: Transfer) -> io::Result<()> {
        let rate = done.rate().unwrap_or(0);
        if self.json {
            let mut line = Line::new(self.out, "part")?;
            line.show("name", part.id())?;
            line.number("bytes_per_second", rate)?;
            line.end()?;
        } else {
            writeln!(self.out, "{:>10}  {}", millions(rate), part.name())?;
        }
        self.out.flush()
    }

    fn paces(&mut self, paces: &[Pace]) -> io::Result<()> {
        if self.json {
            for Pace { way, done, stored_bytes } in paces {
                let mut line = Line::new(self.out, "backup")?;
                tell_way(&mut line, *way)?;
                line.number("bytes_per_second", done.rate().unwrap_or(0))?;
                line.number("bytes", done.bytes)?;
                line.number("stored_bytes", *stored_bytes)?;
                line.end()?;
            }
            return self.out.flush();
        }
        writeln!(self.out, "{:>10}{:>10}", "none", "LZ4")?;
        for pace in paces.iter().filter(|pace| pace.way.compression == Compression::Lz4) {
            let none = Way { compression: Compression::None, ..pace.way };
            let none = paces.iter().find(|other| other.way == none);
            let none = none.and_then(|pace| pace.done.rate());
            let none = none.map_or_else(|| String::from("–"), millions);
            let lz4 = millions(pace.done.rate().unwrap_or(0));
            let hash = match pace.way.hashing {
                HashAlgorithm::Blake3 => String::new(),
                other => format!(", {}", other.name()),
            };
            writeln!(self.out, "{none:>10}{lz4:>10}  {}{hash}", pace.way.cipher_name())?;
        }
        self.out.flush()
    }

    fn disk(&mut self, directory: &Path, trial: &Trial) -> io::Result<()> {
        let path = std::os::unix::ffi::OsStrExt::as_bytes(directory.as_os_str());
        let small_seconds = (trial.small_files > 0)
            .then(|| trial.small_time.as_secs_f64() / f64::from(trial.small_files));
        if self.json {
            let mut line = Line::new(self.out, "disk")?;
            line.text("path", path)?;
            line.number("free_bytes", trial.free_bytes)?;
            line.show("kind", if trial.is_memory { "memory" } else { "disk" })?;
            line.number("tried_bytes", trial.written.bytes)?;
            for (key, done) in [("write", trial.written), ("read", trial.read)] {
                if let Some(rate) = done.rate() {
                    line.number(&format!("{key}_bytes_per_second"), rate)?;
                }
            }
            if let Some(seconds) = small_seconds {
                line.fraction("small_file_seconds", seconds)?;
            }
            line.end()?;
            return self.out.flush();
        }
        self.title(&format!("The disk of {}:", Printable(path)))?;
        if trial.is_memory {
            writeln!(self.out, "            none: that is memory")?;
        }
        let free = Size(trial.free_bytes);
        if trial.written.rate().is_none() {
            writeln!(self.out, "            not tried: {free} are free")?;
        }
        for (what, done) in [("write and sync", trial.written), ("read", trial.read)] {
            if let Some(rate) = done.rate() {
                let tried = Size(done.bytes);
                writeln!(self.out, "{:>10}  MB/s, {what} {tried}", millions(rate))?;
            }
        }
        if let Some(seconds) = small_seconds {
            let file = Size(SMALL_FILE_BYTES as u64);
            writeln!(self.out, "{:>10}  ms, sync a new file of {file}", digits(seconds * 1e3))?;
        }
        self.out.flush()
    }

    fn key(&mut self, kdf: &Kdf, seconds: Result<f64>) -> Result<()> {
        let Kdf::Argon2id { time, memory_kib, .. } = *kdf else { return Ok(()) };
        let memory_bytes = u64::from(memory_kib) * 1024;
        let why_not = seconds.as_ref().err().map(Failure::what);
        let seconds = seconds.ok();
        if self.json {
            let mut line = Line::new(self.out, "key")?;
            line.show("name", "argon2id")?;
            line.number("memory_bytes", memory_bytes)?;
            line.number("passes", time)?;
            if let Some(seconds) = seconds {
                line.fraction("seconds", seconds)?;
            }
            if let Some(why_not) = why_not {
                line.show("error", why_not)?;
            }
            line.end()?;
            return Ok(self.out.flush()?);
        }
        self.title("To open a store by its passphrase, as `create` would make it here:")?;
        match (seconds, why_not) {
            (Some(seconds), _) => writeln!(
                self.out,
                "{:>10}  s, Argon2id with {} in {time} passes",
                digits(seconds),
                Size(memory_bytes)
            )?,
            (None, why_not) => {
                let why_not = why_not.unwrap_or_default();
                writeln!(self.out, "            not tried: {}", Printable(why_not.as_bytes()))?;
            }
        }
        Ok(self.out.flush()?)
    }

    fn advice(&mut self, advice: &Advice, kdf: &Kdf, machine: &Machine) -> Result<()> {
        let create = create_command(advice.way, kdf);
        if self.json {
            let mut line = Line::new(self.out, "advice")?;
            tell_way(&mut line, advice.way)?;
            let stock_reads = u64::from(advice.way.suite != Some(Suite::ChaCha20Poly1305));
            line.number("stock_reads", stock_reads)?;
            line.fraction("chacha20_gain", advice.suite_gain)?;
            line.number("kdf_memory_bytes", kdf.memory_bytes())?;
            line.number("memory_bytes", machine.recommended_bytes)?;
            line.fraction("estimated_hours_per_100_gb", advice.estimate.hours())?;
            line.show("create", create)?;
            line.end()?;
            return Ok(());
        }
        self.title("To choose for a store on this disk:")?;
        writeln!(self.out, "  {create}")?;
        writeln!(
            self.out,
            "  tiroir --memory {}M at STORE backup PATH",
            machine.recommended_bytes / MIB
        )?;
        writeln!(self.out)?;
        for paragraph in [suite_reason(advice), other_reason(advice), estimate_text(advice)] {
            writeln!(self.out, "{paragraph}")?;
        }
        Ok(())
    }
}

fn tell_way(line: &mut Line<'_>, way: Way) -> io::Result<()> {
    line.show("cipher", way.cipher_name())?;
    line.show("compression", way.compression_name())?;
    line.show("hashing", way.hashing.name())
}

/// How to make a store that way.
fn create_command(way: Way, kdf: &Kdf) -> String {
    let mut command = String::from("tiroir at STORE create");
    if let Some(suite @ Suite::ChaCha20Poly1305) = way.suite {
        command.push_str(&format!(" -cipher {}", suite_name(suite)));
    }
    if way.compression == Compression::None {
        command.push_str(" -no-compression");
    }
    if way.hashing != HashAlgorithm::Blake3 {
        command.push_str(&format!(" -hashing {}", way.hashing.name()));
    }
    command.push_str(&format!(" -kdf-memory {}M", kdf.memory_bytes() / MIB));
    command
}

/// Why that cipher, in lines of 80 columns.
fn suite_reason(advice: &Advice) -> String {
    let gain = advice.suite_gain;
    if advice.way.suite == Some(Suite::ChaCha20Poly1305) {
        let usual = hours(advice.usual.hours());
        return format!(
            "ChaCha20-Poly1305, because a backup is {gain:.1} times as fast with it here.\n\
             STOCK PLAKAR CANNOT READ SUCH A STORE. Without -cipher it can: AES-GCM-SIV,\n\
             and {usual} in the estimate below."
        );
    }
    format!(
        "AES-GCM-SIV, the default, which stock plakar reads. With ChaCha20-Poly1305,\n\
         which it cannot read, a backup would be {gain:.1} times as fast; from {SUITE_GAIN_MIN} on\n\
         that would be worth a thought."
    )
}

/// Why that compression and that hash.
fn other_reason(advice: &Advice) -> String {
    let compression = match advice.way.compression {
        Compression::None => {
            "No compression, because a backup to this disk takes half as long then, though\n\
             more room."
        }
        _ => "LZ4, the default.",
    };
    let hash = match advice.way.hashing {
        HashAlgorithm::Sha256 => {
            format!("SHA-256, with which a backup is {HASHING_GAIN_MIN} times as fast, or more.")
        }
        HashAlgorithm::Blake3 => String::from("BLAKE3, the default."),
    };
    format!("{compression}\n{hash} Stock reads both.")
}

/// How long a first backup might take.
fn estimate_text(advice: &Advice) -> String {
    let Estimate { processor_hours, disk_hours } = advice.estimate;
    let disk = match disk_hours {
        0.0 => String::from("the disk not counted"),
        disk_hours => format!("disk {}", hours(disk_hours)),
    };
    format!(
        "Estimate, no more, of a first backup of 100 GB on one core: {}\n\
         (processor {}, {disk}). Reading them comes on top, and a network.",
        hours(advice.estimate.hours()),
        hours(processor_hours)
    )
}

/// Millions, in three digits.
fn millions(number: u64) -> String {
    digits(as_f64(number) / 1e6)
}

/// A number in three digits, or in as many as it has before the point.
fn digits(number: f64) -> String {
    match number {
        100.0.. => format!("{number:.0}"),
        10.0.. => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// Hours, or minutes.
fn hours(hours: f64) -> String {
    match hours {
        100.0.. => format!("{hours:.0} h"),
        1.0.. => format!("{hours:.1} h"),
        _ => format!("{:.0} min", (hours * 60.0).ceil()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn told(json: bool, tell: impl FnOnce(&mut Teller<'_>)) -> String {
        let mut out = Vec::new();
        tell(&mut Teller { json, out: &mut out });
        String::from_utf8(out).unwrap()
    }

    fn advice(suite: Suite, compression: Compression, hashing: HashAlgorithm) -> Advice {
        let estimate = |hours| Estimate { processor_hours: hours, disk_hours: 0.25 };
        let way = Way { suite: Some(suite), compression, hashing };
        Advice { way, suite_gain: 2.5, estimate: estimate(1.5), usual: estimate(123.0) }
    }

    const MACHINE: Machine = Machine {
        processors: 1,
        extensions: Vec::new(),
        memory: None,
        budget_bytes: 24 << 20,
        threads: 0,
        recommended_bytes: 24 << 20,
    };

    #[test]
    fn advice_says_what_stock_cannot_read() {
        let kdf = usual_kdf(64 << 20);
        let odd = advice(Suite::ChaCha20Poly1305, Compression::None, HashAlgorithm::Sha256);
        let text = told(false, |teller| teller.advice(&odd, &kdf, &MACHINE).unwrap());
        for part in [
            "tiroir at STORE create -cipher chacha20-poly1305 -no-compression -hashing SHA256 \
             -kdf-memory 19M\n",
            "  tiroir --memory 24M at STORE",
            "2.5 times",
            "STOCK PLAKAR CANNOT READ",
            "123 h in",
            "1.8 h\n(processor 1.5 h, disk 15 min)",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let usual = advice(Suite::Aes256GcmSiv, Compression::Lz4, HashAlgorithm::Blake3);
        let usual = told(false, |teller| teller.advice(&usual, &kdf, &MACHINE).unwrap());
        assert!(usual.contains("STORE create -kdf-memory 19M\n"), "{usual}");
        assert!(usual.contains("which stock plakar reads"), "{usual}");
        for line in text.lines().skip(3).chain(usual.lines()) {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn a_disk_that_is_none() {
        let trial = Trial { is_memory: true, ..Trial::default() };
        let text = told(false, |teller| teller.disk(Path::new("/x"), &trial).unwrap());
        assert!(text.contains("that is memory") && text.contains("not tried"), "{text}");
        let done = Transfer { bytes: 64 << 20, time: Duration::from_secs(2) };
        let trial = Trial { written: done, small_files: 4, small_time: done.time, ..trial };
        let line = told(true, |teller| teller.disk(Path::new("/x"), &trial).unwrap());
        for part in [r#""write_bytes_per_second":33554432"#, r#""small_file_seconds":0.5"#] {
            assert!(line.contains(part), "{line}");
        }
        assert!(!line.contains("read_"), "{line}");
    }

    #[test]
    fn a_key_that_is_not_derived() {
        let kdf = usual_kdf(0);
        let failure = || Err(Failure::new(Status::Failed, "there is no memory"));
        let text = told(false, |teller| teller.key(&kdf, failure()).unwrap());
        assert!(text.contains("not tried: there is no memory"), "{text}");
        let line = told(true, |teller| teller.key(&kdf, failure()).unwrap());
        assert!(line.contains(r#""error":"there is no memory""#), "{line}");
    }

    #[test]
    fn memory_for_a_second_core() {
        let mib = |usual, threaded: Option<u64>, available| {
            let threaded = threaded.map(|mib| mib * MIB);
            recommended_bytes(usual * MIB, threaded, available * MIB) / MIB
        };
        assert_eq!(mib(64, Some(120), 256), 120);
        assert_eq!(mib(50, Some(120), 200), 50);
        assert_eq!(mib(64, None, 256), 64);
        assert_eq!(mib(256, Some(120), 8192), 256);
    }

    #[test]
    fn numbers() {
        assert_eq!(millions(1_234_000_000), "1234");
        assert_eq!(millions(64_250_000), "64.2");
        assert_eq!(millions(8_200_000), "8.20");
        assert_eq!(hours(0.25), "15 min");
        assert_eq!(hours(2.0), "2.0 h");
        assert_eq!(hours(100.0), "100 h");
    }
}
