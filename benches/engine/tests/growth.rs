//! Memory stays flat and time linear as there is more to back up: a scaled-down
//! run of `engine-bench growth`, with slack for machines that do other things.

use std::path::Path;

use tiroir_engine_bench::MIB;
use tiroir_engine_bench::growth::{Load, Taken, measure};

/// How much more memory the largest may take than the smallest, in bytes: what
/// the smallest leaves untouched of the buffers of spools and sorters.
const PEAK_SLACK_BYTES: u64 = 2 * MIB;

/// The most that any of them may take: the whole budget.
const PEAK_BYTES_MAX: u64 = 24 * MIB;

/// Bytes written and system calls for each file or MiB, against those of the
/// load before, a third or a quarter of this one: what grew with the number
/// would be three times as much. Files of the index are merged as there are
/// more of them, now and then.
const COUNTS_SLACK: f64 = 1.6;

/// The same for time on a processor, which depends on what else it does.
const CPU_SLACK: f64 = 2.0;

fn grows(loads: [Load; 3]) {
    let folder = tempfile::tempdir().expect("a folder");
    let program = Path::new(env!("CARGO_BIN_EXE_engine-bench"));
    let taken = loads.map(|load| {
        let taken = measure(program, load, folder.path()).expect("a backup and an index");
        println!("{load}: {taken:?}");
        taken
    });
    for (step, name) in ["first backup", "fresh index"].into_iter().enumerate() {
        let steps = taken.map(|both| both[step]);
        let peaks = steps.map(|taken| taken.usage.peak_bytes);
        assert!(peaks[0] > 0, "no peak is told: {steps:?}");
        assert!(peaks[2] < peaks[0] + PEAK_SLACK_BYTES, "{name}: memory grows: {peaks:?}");
        assert!(peaks.iter().all(|peak| *peak < PEAK_BYTES_MAX), "{name}: {peaks:?}");
        for (what, slack, count) in [
            ("bytes written", COUNTS_SLACK, written as fn(&Taken) -> f64),
            ("system calls", COUNTS_SLACK, calls),
            ("CPU time", CPU_SLACK, cpu_seconds),
        ] {
            // The first has what every run takes, and only counts from above.
            let each = [0, 1, 2].map(|at| count(&steps[at]) / size(loads[at]));
            assert!(
                each[2] <= each[1] * slack,
                "{name}: {what} of each grow with their number: {each:?}"
            );
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "compared with slack")]
fn size(load: Load) -> f64 {
    load.size() as f64
}

#[expect(clippy::cast_precision_loss, reason = "compared with slack")]
fn written(taken: &Taken) -> f64 {
    taken.usage.written_bytes as f64
}

#[expect(clippy::cast_precision_loss, reason = "compared with slack")]
fn calls(taken: &Taken) -> f64 {
    taken.usage.calls as f64
}

fn cpu_seconds(taken: &Taken) -> f64 {
    taken.usage.cpu.as_secs_f64()
}

#[test]
fn with_files() {
    grows([Load::Files(2_000), Load::Files(20_000), Load::Files(60_000)]);
}

#[test]
fn with_bytes() {
    grows([Load::Mib(64), Load::Mib(256), Load::Mib(1024)]);
}
