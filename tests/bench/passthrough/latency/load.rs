//! Records sent through a subject at a fixed rate, and timed on both sides by one clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use hdrhistogram::Histogram;
use pointsman_tests::kafka::{Kafka, Watermarks};
use pointsman_tests::wait;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::kernel::Processors;
use crate::process::Process;
use crate::setting::{Bench, Setting};
use crate::subject::Subject;
use crate::workload::{Source, Workload};

/// How long the last record may take.
const SILENCE: Duration = Duration::from_secs(60);
/// Records that are sent before the load begins; the time that they carry is 0.
const AHEAD: u64 = 1;
/// Most records sent before errors are looked for.
const BURST: u64 = 500;
/// How often the sender looks at what is due.
const TICK: Duration = Duration::from_millis(1);
/// Digits of the time that a record carries, in microseconds: enough for hours.
const DIGITS: usize = 10;

/// How fast to send, and for how long.
#[derive(Clone, Copy)]
pub(super) struct Load {
    /// Records a second; `None` for as many as go.
    pub(super) rate: Option<u64>,
    pub(super) time: Duration,
}

/// What became of them.
pub(super) struct Timed {
    pub(super) sent: u64,
    /// From the first record that was sent to the last that arrived.
    pub(super) time: Duration,
    /// In microseconds; of the first tenth of the time nothing is kept.
    pub(super) latencies: Histogram<u64>,
    /// Of the subject, meanwhile.
    pub(super) cpu: Duration,
    pub(super) peak_memory: u64,
    /// Share of the time that the processors of the machine were not idle, from 0 to 1.
    pub(super) busy: f64,
}

/// Starts a subject on a source of its own and puts it under load.
pub(super) fn run(bench: &Bench, subject: &Subject, load: Load) -> anyhow::Result<Timed> {
    let source = Source::empty(&bench.kafka, Workload::of(0))?;
    let setting = Setting::new(bench, subject, &source)?;
    let mut process = setting.start(true)?;
    let timed = process.telling(|process| {
        process.wait_until_assigned(subject.announcements(&source.workload))?;
        measure(&bench.kafka, &source, &setting.ends(), process, load)
    });
    let timed = timed.with_context(|| format!("{} failed", subject.name))?;
    process.kill()?;
    setting.clean_up()?;
    source.delete(&bench.kafka)?;
    Ok(timed)
}

fn measure(
    kafka: &Kafka,
    source: &Source,
    ends: &[String],
    process: &mut Process,
    load: Load,
) -> anyhow::Result<Timed> {
    let [topic] = &*source.topics() else { bail!("a load is for one topic") };
    let [end] = ends else { bail!("a load is for a subject with one end") };
    let consumer = reader(kafka, end, source.workload.partitions)?;
    let form = Form::new(&source.workload)?;
    let watermarks = Watermarks::new(kafka, &[end])?;
    // One ahead: until an idempotent producer has its id, half a second passes.
    kafka.fill(topic, [source.workload.sample(0)])?;
    wait::until_ok("the first record", SILENCE, || {
        process.check()?;
        Ok((watermarks.count()? > 0).then_some(()))
    })?;
    let begun = Instant::now();
    let (cpu, processors) = (process.cpu()?, Processors::now()?);
    // How many are to arrive: not known until all are sent.
    let all = AtomicU64::new(u64::MAX);
    let (sent, arrived) = thread::scope(|scope| {
        let arriving = scope.spawn(|| receive(&consumer, form.at, begun, load, &all));
        let sent = send(kafka, topic, form.clone(), begun, load);
        // Without a number there is nothing to wait for.
        all.store(sent.as_ref().map_or(0, |sent| sent + AHEAD), Ordering::Relaxed);
        let arrived = arriving.join().map_err(|_| anyhow!("the thread that receives has panicked"));
        (sent, arrived)
    });
    let (sent, (latencies, time)) = (sent?, arrived??);
    process.check()?;
    let cpu = process.cpu()?.saturating_sub(cpu);
    let busy = Processors::now()?.busy_since(processors);
    let count = watermarks.count()?;
    ensure!(
        u64::try_from(count) == Ok(sent + AHEAD),
        "{count} records are in {end}, where {sent} were to come and {AHEAD}"
    );
    Ok(Timed { sent, time, latencies, cpu, peak_memory: process.peak_memory()?, busy })
}

/// What is sent, over and over: a record of the workload, whose value carries the time in place of its number.
#[derive(Clone)]
struct Form {
    key: Vec<u8>,
    value: Vec<u8>,
    headers: OwnedHeaders,
    /// Where the digits of the time are in the value.
    at: usize,
}

impl Form {
    fn new(workload: &Workload) -> anyhow::Result<Self> {
        let sample = workload.sample(0);
        let (key, value) = (sample.key.unwrap_or_default(), sample.value.unwrap_or_default());
        let at = value.windows(DIGITS).position(|window| window.iter().all(u8::is_ascii_digit));
        let mut headers = OwnedHeaders::new();
        for header in &sample.headers {
            headers = headers.insert(Header { key: str::from_utf8(&header.name)?, value: header.value.as_deref() });
        }
        Ok(Self { key, value, headers, at: at.context("the value has no place for a time")? })
    }

    fn stamp(&mut self, number: u64, micros: u64) {
        // Keys of different numbers go to different partitions.
        let keys = self.key.len().saturating_sub(7);
        write_digits(&mut self.key[keys..], number);
        write_digits(&mut self.value[self.at..][..DIGITS], micros);
    }
}

fn write_digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Sends for as long as is said; the answer is how many.
fn send(kafka: &Kafka, topic: &str, mut form: Form, begun: Instant, load: Load) -> anyhow::Result<u64> {
    // As librdkafka is by default. It lets records linger for 5 ms; with a single one the sender made, and had all others
    // make, a thousand requests a second for each partition, and the machine was nearly as busy whatever the rate.
    let producer: BaseProducer = kafka
        .client()
        .set("partitioner", "murmur2_random")
        // What is acknowledged has nobody waiting to hear so.
        .set("delivery.report.only.error", "true")
        .create()?;
    let mut sent = 0;
    loop {
        let elapsed = begun.elapsed();
        if elapsed >= load.time {
            break;
        }
        let due = load.rate.map_or(u64::MAX, |rate| (elapsed.as_secs_f64() * rate as f64) as u64);
        let burst = due.saturating_sub(sent).min(BURST);
        for _ in 0..burst {
            form.stamp(sent, micros(begun));
            let mut record: BaseRecord<'_, [u8], [u8]> =
                BaseRecord::to(topic).key(&form.key[..]).payload(&form.value[..]).headers(form.headers.clone());
            while let Err((error, back)) = producer.send(record) {
                if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                    return Err(error).with_context(|| format!("can't write to {topic}"));
                }
                record = back;
                producer.poll(Duration::from_millis(1));
            }
            sent += 1;
        }
        // What is due is sent a thousand times a second: a sender that looks all the time takes a processor for itself.
        producer.poll(Duration::ZERO);
        if due <= sent {
            // (`poll` rounds what it is to wait to whole milliseconds, downwards: it would not wait at all.)
            wait::pass(TICK.saturating_sub(begun.elapsed().saturating_sub(elapsed)));
        }
    }
    producer.flush(SILENCE).context("the cluster did not take all records in time")?;
    Ok(sent)
}

fn reader(kafka: &Kafka, topic: &str, partitions: i32) -> anyhow::Result<BaseConsumer> {
    let consumer: BaseConsumer = kafka
        .client()
        .set("group.id", "passthrough-latency")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "20")
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    Ok(consumer)
}

/// Receives until all are here; the answer has their latencies, and the time of the last.
fn receive(
    consumer: &BaseConsumer,
    at: usize,
    begun: Instant,
    load: Load,
    all: &AtomicU64,
) -> anyhow::Result<(Histogram<u64>, Duration)> {
    let mut latencies = Histogram::new_with_bounds(1, 600_000_000, 3)?;
    let warm = u64::try_from(load.time.as_micros() / 10)?;
    let (mut count, mut last) = (0, begun);
    while count < all.load(Ordering::Relaxed) {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            ensure!(last.elapsed() < SILENCE, "{count} records have arrived, and no more in {SILENCE:?}");
            continue;
        };
        let (arrived, message) = (micros(begun), message?);
        let digits = message.payload().and_then(|value| value.get(at..at + DIGITS)).context("a value is too short")?;
        let sent: u64 = str::from_utf8(digits)?.parse().context("a value carries no time")?;
        if sent >= warm {
            latencies.saturating_record(arrived.saturating_sub(sent));
        }
        count += 1;
        last = Instant::now();
    }
    Ok((latencies, last - begun))
}
