//! One run of one subject: from the first record of its source to the last; and what it costs to start one.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use pointsman_tests::kafka::{Kafka, Lag, Unseen, Watermarks};
use pointsman_tests::wait;

use crate::kernel;
use crate::process::Process;
use crate::setting::{Bench, Setting};
use crate::subject::{Delivery, Subject};
use crate::workload::Source;

/// How long a process may take for the records.
const RUN_DEADLINE: Duration = Duration::from_secs(900);
/// How long it may take to commit, once all is delivered.
const COMMIT_DEADLINE: Duration = Duration::from_secs(60);

/// How long a process that has its partitions is given to be ready: until its producer has an id, and its client has taken
/// in many partitions.
const SETTLING: Duration = Duration::from_secs(1);

/// Memory that is touched before a run, so that no subject pays for its machine's host: more than any takes.
const TOUCHED_BYTES: usize = 1 << 30;

/// A virtual machine's host is told of memory that is free two seconds after (`PAGE_REPORTING_DELAY` in Linux's
/// mm/page_reporting.c), and takes it back: what was touched before a million records were indexed, too. A broker that writes to
/// pages which are to be provided anew then takes twice the time. So once that is over, memory is touched again.
const TAKING_BACK: Duration = Duration::from_millis(2500);
/// What a process that has been started, and its broker, may still take.
const TOUCHED_LATE_BYTES: usize = 1 << 29;

/// What one run has come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// From the start of the process until the last record was seen where it ends. (What comes then is waiting for the next
    /// commit.)
    pub(crate) cpu: Duration,
    /// What of that was over when the first record could be seen, where they came after the process.
    pub(crate) start: Option<Duration>,
    /// Records of the source a second, from the first fifth of those that are seen where they end to the last: it takes
    /// half a second until an idempotent producer has its id, and what was fetched until then comes in one go. NaN where
    /// there were too few to see them come.
    pub(crate) rate: f64,
    /// Most bytes of memory that were resident at once.
    pub(crate) peak_memory: u64,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, start, rate, peak_memory } = self;
        let mebibytes = peak_memory >> 20;
        write!(f, "{cpu:.2?} of CPU, ")?;
        match start {
            None => f.write_str("the start included, ")?,
            Some(start) => write!(f, "{start:.2?} of that to start, ")?,
        }
        write!(f, "{mebibytes} MiB, ")?;
        if rate.is_nan() { f.write_str("too few records for a rate") } else { write!(f, "{rate:.0} records/s") }
    }
}

/// Runs a subject once, into topics of its own that are deleted afterwards. `empty` is like the source, without records.
pub(crate) fn once(bench: &Bench, subject: &Subject, source: &Source, empty: &Source) -> anyhow::Result<Measured> {
    // What was read while its backlog came about is not to be there.
    let own = subject.backlog.as_ref().map(|_| Source::empty(&bench.kafka, source.workload)).transpose()?;
    let source = own.as_ref().unwrap_or(source);
    let setting = Setting::new(bench, subject, source)?;
    setting.make_topics(empty)?;
    setting.break_topics_in()?;
    let mut unseen = None;
    if let Some(backlog) = &subject.backlog {
        setting.park(backlog)?;
        unseen = Some(source.fill_unseen(&bench.kafka)?);
    }
    kernel::come_to_rest()?;
    kernel::touch_memory(TOUCHED_BYTES)?;
    let mut process = setting.start(false)?;
    let measured = process.telling(|process| measure(bench, subject, source, &setting, process, unseen));
    let measured = measured.with_context(|| format!("{} failed", subject.name))?;
    process.kill()?;
    setting.clean_up()?;
    own.map_or(Ok(()), |own| own.delete(&bench.kafka))?;
    Ok(measured)
}

/// Starts a subject on topics without records, and tells the CPU that it takes to be ready.
pub(crate) fn start(bench: &Bench, subject: &Subject, empty: &Source) -> anyhow::Result<Duration> {
    let setting = Setting::new(bench, subject, empty)?;
    setting.make_topics(empty)?;
    kernel::come_to_rest()?;
    // What is taken off a run is to have been measured as that is.
    kernel::touch_memory(TOUCHED_BYTES)?;
    let mut process = setting.start(false)?;
    let cpu = process.telling(|process| {
        process.wait_until_assigned(subject.announcements(&empty.workload))?;
        wait::pass(SETTLING);
        process.check()?;
        process.cpu()
    });
    let cpu = cpu.with_context(|| format!("{} did not start", subject.name))?;
    process.kill()?;
    setting.clean_up()?;
    Ok(cpu)
}

/// The records of a topic.
fn count(kafka: &Kafka, subject: &Subject, topic: &str) -> anyhow::Result<i64> {
    if subject.delivery != Some(Delivery::ExactlyOnce) {
        return Watermarks::new(kafka, &[topic])?.count();
    }
    let mut count = 0;
    kafka.read_each(topic, |_| count += 1)?;
    Ok(count)
}

fn measure(
    bench: &Bench,
    subject: &Subject,
    source: &Source,
    setting: &Setting<'_>,
    process: &mut Process,
    unseen: Option<Unseen>,
) -> anyhow::Result<Measured> {
    let kafka = &bench.kafka;
    let ends = setting.ends();
    // Not before it has made the topics that it makes itself.
    process.wait_until_assigned(1)?;
    let watermarks = Watermarks::new(kafka, &ends)?;
    let deliveries = i64::try_from(subject.deliveries(&source.workload))?;
    let (mut start, mut markers) = (None, 0);
    if let Some(unseen) = unseen {
        // What is parked is indexed by then, and each lane stands at the end of what it can see.
        process.wait_until_assigned(subject.announcements(&source.workload))?;
        kernel::come_to_rest()?;
        wait::pass(TAKING_BACK);
        kernel::touch_memory(TOUCHED_LATE_BYTES)?;
        start = Some(process.cpu()?);
        unseen.commit()?;
        markers = i64::from(source.workload.partitions);
    }
    let (begun, first) = wait::closely("the first records at their ends", RUN_DEADLINE, || {
        process.check()?;
        let count = watermarks.count()?;
        Ok((count > deliveries / 5).then(|| (Instant::now(), count)))
    })?;
    // To look costs the broker time that it needs for the records: often only where the end is near.
    wait::until_ok("most records at their ends", RUN_DEADLINE, || {
        process.check()?;
        Ok((watermarks.count()? >= deliveries - deliveries / 10).then_some(()))
    })?;
    let ended = wait::closely("the records at their ends", RUN_DEADLINE, || {
        process.check()?;
        Ok((watermarks.count()? >= deliveries).then(Instant::now))
    })?;
    let cpu = process.cpu()?;
    let lag = Lag::new(kafka, setting.group(), &source.topics())?;
    wait::until_ok("all to be committed", COMMIT_DEADLINE, || Ok((lag.records()? <= markers).then_some(())))?;
    for (end, topic) in subject.ends.iter().zip(&ends) {
        let expected = i64::try_from(end.count.of(&source.workload))?;
        let count = count(kafka, subject, topic)?;
        ensure!(count == expected, "{count} records are in {topic}, where {expected} were to come");
    }
    let share = (deliveries - first) as f64 / deliveries as f64;
    let seen = if share > 0.5 { share * source.workload.records() as f64 } else { f64::NAN };
    let rate = seen / (ended - begun).as_secs_f64();
    Ok(Measured { cpu, start, rate, peak_memory: process.peak_memory()? })
}
