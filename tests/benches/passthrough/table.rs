//! The table of results.

use std::fmt::Write as _;
use std::fs;
use std::thread;

use crate::subject::{Measured, Subject};
use crate::workload::Workload;

/// What the numbers were measured on.
pub(crate) fn machine() -> String {
    let processors = thread::available_parallelism().map_or(0, usize::from);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown");
    format!("{processors} processors ({}), which others had a load of {load} on", model.unwrap_or("of unknown model"))
}

/// One row for each subject. `rounds` has the measurements of all subjects for each repetition; the first subject is
/// what the others are compared with, within their own repetition.
pub(crate) fn of(subjects: &[Subject], rounds: &[Vec<Measured>], workload: &Workload) -> String {
    let mut table = String::from(
        "| subject | CPU, µs/event | CPU, × bare | thousand records/s | throughput, × bare | CPU to start, ms |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    let records = workload.records as f64;
    for (index, subject) in subjects.iter().enumerate() {
        let each = |figure: &dyn Fn(&Measured, &Measured) -> f64| {
            Spread::of(rounds.iter().map(|round| figure(&round[index], &round[0])).collect())
        };
        let cpu = each(&|own, _| own.cpu.as_secs_f64() * 1e6 / records);
        let cpu_ratio = each(&|own, bare| own.cpu.as_secs_f64() / bare.cpu.as_secs_f64());
        let rate = each(&|own, _| records / own.time.as_secs_f64() / 1000.0);
        let rate_ratio = each(&|own, bare| bare.time.as_secs_f64() / own.time.as_secs_f64());
        let start = each(&|own, _| own.start_cpu.as_secs_f64() * 1000.0);
        // Writing to a string does not fail.
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {} | {} |",
            subject.name(),
            cpu.show(2),
            cpu_ratio.show(2),
            rate.show(0),
            rate_ratio.show(2),
            start.show(0)
        );
    }
    table
}

/// Median, least and most of some figures.
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let at = |index: usize| figures.get(index).copied().unwrap_or(f64::NAN);
        let (middle, last) = (figures.len() / 2, figures.len().saturating_sub(1));
        let median =
            if figures.len() % 2 == 1 { at(middle) } else { f64::midpoint(at(middle.saturating_sub(1)), at(middle)) };
        Self { least: at(0), median, most: at(last) }
    }

    fn show(&self, digits: usize) -> String {
        let Self { least, median, most } = self;
        format!("{median:.digits$} ({least:.digits$}–{most:.digits$})")
    }
}
