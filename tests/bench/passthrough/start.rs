//! How soon a router is at work that is started again, and what it takes when there is nothing to do.
//!
//! It has ten plugins, whose compiled components are in its cache, and its topics are there, with records that wait: all
//! of that is left by a start that is not counted. The broker lets a group begin without the delay that Kafka has by
//! default (`group.initial.rebalance.delay.ms`, three seconds), which would be all that one saw.

use std::time::Duration;

use anyhow::Context as _;
use pointsman_tests::kafka::Watermarks;
use pointsman_tests::wait;

use crate::catalogue::stages;
use crate::chart::{Chart, Marks, Panel};
use crate::figure::{Bar, Bound, Figure};
use crate::process::Process;
use crate::report::Report;
use crate::setting::{Bench, Setting};
use crate::table::{LEGEND, row};
use crate::workload::{Source, Workload};

/// Plugins of the router, each a stage of its one route.
const PLUGINS: u32 = 10;
/// Records that wait.
const WAITING: u64 = 1000;

const START_DEADLINE: Duration = Duration::from_secs(120);

/// What is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    /// How long it has nothing to do.
    pub(crate) idle: Duration,
    pub(crate) repetitions: u32,
}

/// What one start has come to.
struct Started {
    /// From the start of the process to the first record in the sink.
    time: Duration,
    cpu: Duration,
    /// Share of a processor, in percent, that is used with nothing to do.
    idle_percent: f64,
    /// Bytes that are resident with nothing to do.
    memory: u64,
}

pub(crate) fn report(bench: &Bench, wanted: Wanted) -> anyhow::Result<Report> {
    let subject = stages(PLUGINS);
    let source = Source::empty(&bench.kafka, Workload::of(WAITING))?;
    let setting = Setting::new(bench, &subject, &source)?;
    let mut started = Vec::new();
    for number in 0..=wanted.repetitions {
        source.fill(&bench.kafka)?;
        let mut process = setting.start(false)?;
        let idle = if number == 0 { Duration::ZERO } else { wanted.idle };
        let delivered = i64::try_from(WAITING)? * i64::from(number);
        let one = process.telling(|process| measure(bench, &setting, process, delivered, idle));
        let one = one.with_context(|| format!("{} failed", subject.name))?;
        process.stop()?;
        // The first has compiled the plugins and made the topics.
        if number > 0 {
            let Started { time, idle_percent, memory, .. } = &one;
            println!(
                "  {time:.2?} to the first record, {idle_percent:.2} % of a processor and {} MiB idle",
                memory >> 20
            );
            started.push(one);
        }
    }
    setting.clean_up()?;
    source.delete(&bench.kafka)?;
    Ok(told(wanted, &started))
}

/// From a start, with so many records in the sink already.
fn measure(
    bench: &Bench,
    setting: &Setting<'_>,
    process: &mut Process,
    delivered: i64,
    idle: Duration,
) -> anyhow::Result<Started> {
    let watermarks = Watermarks::new(&bench.kafka, &setting.ends())?;
    let time = wait::closely("the first record", START_DEADLINE, || {
        process.check()?;
        Ok((watermarks.count()? > delivered).then(|| process.started.elapsed()))
    })?;
    let cpu = process.cpu()?;
    let all = delivered + i64::try_from(WAITING)?;
    wait::until_ok("the records in the sink", START_DEADLINE, || Ok((watermarks.count()? >= all).then_some(())))?;
    let topics = setting.source().topics();
    let lag = pointsman_tests::kafka::Lag::new(&bench.kafka, setting.group(), &topics)?;
    wait::until_ok("all to be committed", START_DEADLINE, || Ok((lag.records()? == 0).then_some(())))?;
    let before = process.cpu()?;
    wait::pass(idle);
    let used = process.cpu()?.saturating_sub(before);
    process.check()?;
    let count = watermarks.count()?;
    anyhow::ensure!(count == all, "{count} records are in the sink, where {all} were to come");
    Ok(Started {
        time,
        cpu,
        idle_percent: 100.0 * used.as_secs_f64() / idle.as_secs_f64(),
        memory: process.resident_memory()?,
    })
}

fn told(wanted: Wanted, started: &[Started]) -> Report {
    let figure = |of: fn(&Started) -> f64| Figure::least_of(started.iter().map(of));
    let time = figure(|one| one.time.as_secs_f64() * 1e3);
    let cpu = figure(|one| one.cpu.as_secs_f64() * 1e3);
    let idle = figure(|one| one.idle_percent);
    let memory = figure(|one| one.memory as f64 / f64::from(1 << 20));
    let rows = [
        ("to the first record, ms", time, 0),
        ("CPU until then, ms", cpu, 0),
        ("idle: CPU, % of a processor", idle, 2),
        ("idle: resident memory, MiB", memory, 1),
    ];
    let mut table = String::new();
    row(&mut table, ["figure".to_owned(), "value".to_owned()]);
    row(&mut table, ["---".to_owned(), "---".to_owned()]);
    for (name, figure, digits) in rows {
        row(&mut table, [name.to_owned(), figure.show(digits)]);
    }
    let bar = |what: &str, figure: Figure, most| Bar {
        what: what.into(),
        best: figure.best,
        median: figure.median,
        bound: Bound::AtMost(most),
    };
    let bars = vec![bar("time to the first record, ms", time, 1000.0), bar("idle: resident memory, MiB", memory, 64.0)];
    let panel = |(name, figure, _): (&str, Figure, usize)| Panel {
        title: name.into(),
        marks: Marks::Strips(vec![(format!("{PLUGINS} plugins"), figure)]),
    };
    let title = "How soon a router is at work, and what it takes with nothing to do";
    Report {
        name: "start",
        title: title.into(),
        about: format!(
            "Starts: {}, of a router with {PLUGINS} plugins, compiled before, where {WAITING} records wait in 4 partitions; then \
             {:?} of nothing to do. {LEGEND}",
            wanted.repetitions, wanted.idle
        ),
        table,
        bars,
        chart: Chart { title: title.into(), panels: rows.map(panel).into() },
    }
}
