//! How long a record takes from the call that produces it to the poll that finds it in the sink, at half of the rate that
//! the limit sustains.
//!
//! That rate is found in the same arrangement (producer, bare pass-through, consumer, broker, all on this machine) with a
//! producer that does not hold back: on a machine of few processors the limit alone would copy more than all of them
//! together can bring on and take off. One process produces and consumes, so one clock tells both times; a record carries
//! its own.

mod load;

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::catalogue::{bare, header_filter, identity};
use crate::chart::{Chart, Marks, Panel};
use crate::figure::{Bar, Bound, Figure};
use crate::report::Report;
use crate::setting::Bench;
use crate::subject::{BARE, Subject};
use crate::table::{LEGEND, row};
use load::{Load, Timed};

/// What is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    /// Records a second; `None` finds it out.
    pub(crate) rate: Option<u64>,
    /// For each run.
    pub(crate) time: Duration,
    pub(crate) repetitions: u32,
}

/// How long the sustained rate is looked for.
const SEARCH: Duration = Duration::from_secs(3);

/// Share of all records that is faster, as a percentage.
const QUANTILES: [f64; 3] = [50.0, 99.0, 99.9];
/// Which of them the bar is about.
const OF_THE_BAR: usize = 1;

/// By how much a router may be slower than the limit, in milliseconds.
const BEYOND_BARE_MS: f64 = 5.0;

pub(crate) fn report(bench: &Bench, wanted: Wanted) -> anyhow::Result<Report> {
    let subjects = [bare(), identity(), header_filter()];
    // Not counted: the broker's compiler warms up, here and in a run of each at the rate.
    load::run(bench, &subjects[0], Load { rate: None, time: SEARCH }).context("the warm-up failed")?;
    let rate = match wanted.rate {
        Some(rate) => rate,
        None => half_of_sustained(bench, &subjects[0])?,
    };
    ensure!(rate > 0, "there is no rate to send at");
    let load = Load { rate: Some(rate), time: wanted.time };
    for subject in &subjects {
        load::run(bench, subject, load).context("the warm-up failed")?;
    }
    let mut runs: [Vec<Run>; 3] = Default::default();
    let mut order = [0, 1, 2];
    for _ in 0..wanted.repetitions {
        for index in order {
            let run = Run::of(&load::run(bench, &subjects[index], load)?);
            println!("  {}: {run}", subjects[index].name);
            runs[index].push(run);
        }
        order.reverse();
    }
    Ok(told(rate, wanted, &subjects, &runs))
}

fn half_of_sustained(bench: &Bench, bare: &Subject) -> anyhow::Result<u64> {
    let Timed { sent, time, .. } = load::run(bench, bare, Load { rate: None, time: SEARCH })?;
    let sustained = sent as f64 / time.as_secs_f64();
    println!("  {sustained:.0} records a second is what goes through {BARE}");
    // A round number is easier to give again.
    Ok((sustained / 2000.0).round() as u64 * 1000)
}

/// What is kept of a run.
struct Run {
    /// Of each of [`QUANTILES`], in milliseconds.
    quantiles: [f64; 3],
    /// Records a second that were really sent.
    rate: f64,
    cpu_micros: f64,
    peak_memory: u64,
    /// Of the machine, as a percentage.
    busy: f64,
}

impl Run {
    fn of(timed: &Timed) -> Self {
        let sent = timed.sent as f64;
        Self {
            quantiles: QUANTILES.map(|share| timed.latencies.value_at_quantile(share / 100.0) as f64 / 1e3),
            rate: sent / timed.time.as_secs_f64(),
            cpu_micros: timed.cpu.as_secs_f64() * 1e6 / sent,
            peak_memory: timed.peak_memory,
            busy: timed.busy * 100.0,
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, p999] = self.quantiles;
        let Self { rate, cpu_micros, busy, .. } = self;
        write!(f, "p50 {p50:.1} ms, p99 {p99:.1} ms, p99.9 {p999:.1} ms at {rate:.0}/s, ")?;
        write!(f, "{cpu_micros:.2} µs of CPU each; the machine {busy:.0} % busy")
    }
}

fn told(rate: u64, wanted: Wanted, subjects: &[Subject; 3], runs: &[Vec<Run>; 3]) -> Report {
    let quantile = |index: usize, of: usize| Figure::least_of(runs[index].iter().map(|run| run.quantiles[of]));
    let mut table = String::new();
    let headings = [
        "subject",
        "p50, ms",
        "p99, ms",
        "p99.9, ms",
        "records/s",
        "CPU, µs/event",
        "machine busy, %",
        "most memory, MiB",
    ];
    row(&mut table, headings.map(str::to_owned));
    row(&mut table, headings.map(|_| "---".to_owned()));
    for (index, subject) in subjects.iter().enumerate() {
        let runs = || runs[index].iter();
        let quantiles = (0..QUANTILES.len()).map(|of| quantile(index, of).show(1));
        let more = [
            Figure::most_of(runs().map(|run| run.rate)).show(0),
            Figure::least_of(runs().map(|run| run.cpu_micros)).show(2),
            Figure::least_of(runs().map(|run| run.busy)).show(0),
            format!("{}", runs().map(|run| run.peak_memory).max().unwrap_or(0) >> 20),
        ];
        row(&mut table, [subject.name.to_string()].into_iter().chain(quantiles).chain(more));
    }
    let bars = (1..subjects.len()).map(|index| Bar {
        what: format!("{}: p99 beyond that of bare, ms", subjects[index].name),
        best: quantile(index, OF_THE_BAR).best - quantile(0, OF_THE_BAR).best,
        median: quantile(index, OF_THE_BAR).median - quantile(0, OF_THE_BAR).median,
        bound: Bound::AtMost(BEYOND_BARE_MS),
    });
    let panels = QUANTILES.iter().enumerate().map(|(of, share)| Panel {
        title: format!("{share} % of the records take at most so many milliseconds"),
        marks: Marks::Strips((0..3).map(|index| (subjects[index].name.to_string(), quantile(index, of))).collect()),
    });
    let title = "How long a record takes";
    Report {
        name: "latency",
        title: title.into(),
        about: format!(
            "Repetitions of each: {}, each of {:?} with {rate} records a second, of 200 bytes, through 4 partitions. {LEGEND}",
            wanted.repetitions, wanted.time
        ),
        table,
        bars: bars.collect(),
        chart: Chart { title: title.into(), panels: panels.collect() },
    }
}
