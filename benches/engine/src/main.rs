//! Measures the engine: `benches/README.md` says what for.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tiroir_engine_bench::arithmetic::{self, Took, Work};
use tiroir_engine_bench::growth::{self, Load, Step, Taken};
use tiroir_engine_bench::{MIB, Result};

const HELP: &str = "\
engine-bench arithmetic [MIB [ROUNDS]]
    Reads, cuts, hashes, compresses and seals MIB (512) of noise, one by one and
    all in sequence, and then backs them up: best of ROUNDS (3), on one core.
engine-bench growth [LOAD]...
    Backs up LOADs that are made as they are read, into a store that keeps no
    packfiles, and makes an index anew from its states. A LOAD is files:NUMBER,
    of up to 8 KiB, or mib:NUMBER, in files of 1 GiB. Without any, 10 000 to
    1 000 000 files, and 1 to 256 GiB.

Files lie in $TMPDIR, or in /var/tmp.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match &words[..] {
        ["arithmetic", rest @ ..] if rest.len() <= 2 => arithmetic(rest),
        ["growth", rest @ ..] => growth(rest),
        // A process of `growth`.
        ["step", "refresh", folder] => step(Step::Refresh, folder),
        ["step", load, folder] => {
            load.parse().map_err(Into::into).and_then(|load| step(Step::Backup(load), folder))
        }
        _ => Err(HELP.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn folder() -> Result<tempfile::TempDir> {
    let place = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    Ok(tempfile::Builder::new().prefix("engine-bench-").tempdir_in(place)?)
}

fn step(step: Step, folder: &str) -> Result<()> {
    println!("{}", growth::run(step, Path::new(folder))?.line());
    Ok(())
}

fn arithmetic(words: &[&str]) -> Result<()> {
    let mib: u64 = words.first().map_or(Ok(512), |word| word.parse())?;
    let rounds: u32 = words.get(1).map_or(Ok(3), |word| word.parse())?;
    let folder = folder()?;
    let path = arithmetic::make_noise(folder.path(), mib)?;
    // In turns, so that a busy moment does not fall on one of them.
    let (mut best, mut best_backup) = ([None; Work::EACH.len()], None);
    for _ in 0..rounds.max(1) {
        for (work, best) in Work::EACH.into_iter().zip(&mut best) {
            keep(best, Took::of(|| arithmetic::work_through(&path, work))?);
        }
        let run = tempfile::tempdir_in(folder.path())?;
        keep(&mut best_backup, Took::of(|| arithmetic::back_up(&path, run.path()))?);
    }
    println!("| {mib} MiB of noise, best of {rounds} | MB/s of CPU time | MB/s |");
    println!("| --- | --- | --- |");
    let backup = best_backup.map_or([0.0; 2], |took| rates(took, mib));
    let mut ratios = Vec::new();
    for (work, took) in Work::EACH.into_iter().zip(best) {
        let [cpu, wall] = took.map_or([0.0; 2], |took| rates(took, mib));
        println!("| {} | {cpu:.0} | {wall:.0} |", work.name());
        if matches!(work, Work::All | Work::Format) {
            ratios.push((work.name(), backup[0] / cpu, backup[1] / wall));
        }
    }
    println!("| a first backup | {:.0} | {:.0} |", backup[0], backup[1]);
    for (name, cpu, wall) in ratios {
        println!("| beside {name} | {cpu:.2} | {wall:.2} |");
    }
    Ok(())
}

fn keep(best: &mut Option<Took>, took: Took) {
    *best = Some(best.map_or(took, |best| best.best(took)));
}

/// Bytes in a second, in millions.
#[expect(clippy::cast_precision_loss, reason = "shown in a few digits")]
fn rates(took: Took, mib: u64) -> [f64; 2] {
    [took.cpu, took.wall].map(|time| (mib * MIB) as f64 / 1e6 / time.as_secs_f64())
}

fn growth(words: &[&str]) -> Result<()> {
    let usual = [
        Load::Files(10_000),
        Load::Files(100_000),
        Load::Files(1_000_000),
        Load::Mib(1024),
        Load::Mib(32 * 1024),
        Load::Mib(256 * 1024),
    ];
    let mut loads: Vec<Load> =
        words.iter().map(|word| word.parse()).collect::<Result<_, String>>()?;
    if loads.is_empty() {
        loads.extend(usual);
    }
    let (program, folder) = (std::env::current_exe()?, folder()?);
    println!(
        "| | | peak MiB | CPU s | of each | bytes written, of each | calls, of each | \
         states MB | index MB |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    );
    for load in loads {
        let taken = growth::measure(&program, load, folder.path())?;
        for (what, taken) in ["first backup", "fresh index"].into_iter().zip(taken) {
            println!("{}", row(load, what, &taken));
        }
    }
    Ok(())
}

/// What a step has taken, and for each file or GiB.
#[expect(clippy::cast_precision_loss, reason = "shown in a few digits")]
fn row(load: Load, what: &str, taken: &Taken) -> String {
    let usage = taken.usage;
    let (name, count, unit) = match load {
        Load::Files(files) => (format!("{files} files"), files as f64, "µs"),
        Load::Mib(mib) => (format!("{:.2} GiB", mib as f64 / 1024.0), mib as f64 / 1024.0, "ms"),
    };
    let seconds = usage.cpu.as_secs_f64();
    let each = seconds / count * if unit == "µs" { 1e6 } else { 1e3 };
    format!(
        "| {name} | {what} | {:.2} | {seconds:.2} | {each:.1} {unit} | {:.0} | {:.2} | {:.1} | {:.1} |",
        usage.peak_bytes as f64 / MIB as f64,
        usage.written_bytes as f64 / count,
        usage.calls as f64 / count,
        taken.state_bytes as f64 / 1e6,
        taken.index_bytes as f64 / 1e6,
    )
}
