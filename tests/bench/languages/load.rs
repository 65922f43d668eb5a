//! One router with a route for each language, under load.

use std::fmt::Write as _;
use std::fs;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use pointsman::counters::Fate;
use pointsman::lanes::State;
use pointsman::running;
use pointsman::topology::{self, Topology};
use pointsman_core::delivery::{Delivery, PartitionChoice, TopicId};
use pointsman_core::failure::FailureClass;
use pointsman_core::port::{Log, NewTopic, PluginId, Sink, Token};
use pointsman_core::record::{Header, Headers};
use pointsman_tests::places::Scratch;
use pointsman_wasm::Usage;
use rustix::time::{ClockId, clock_gettime};

use crate::{ANSWERS, CONFIG, MEMORY_MIB, Subject};

/// The source topic.
const EVENTS: &str = "events";
const PARTITIONS: u32 = 4;
/// Records that are written ahead of the slowest route, and at once.
const AHEAD: u64 = 20_000;
const BATCH: u64 = 500;
/// How often lanes are looked at, while the slowest has enough to do.
const LOOK: Duration = Duration::from_secs(5);
/// Until the last record is where it ends.
const DRAIN: Duration = Duration::from_secs(120);

/// What came of it.
pub(crate) struct Outcome {
    languages: Vec<Language>,
    records: u64,
    time: Duration,
    /// Of the process, but for the thread that writes.
    cpu: Duration,
    /// Of the process, in bytes: when all instances were there, and at the end.
    memory: [u64; 2],
}

struct Language {
    name: String,
    /// Records that were delivered or dropped.
    done: u64,
    /// Of the one instance: the first that was seen, the most, and the last.
    memory: [u64; 3],
    usage: Usage,
}

pub(crate) fn run(subjects: &[Subject], time: Duration) -> anyhow::Result<Outcome> {
    let folder = Scratch::new("languages-")?;
    let text = configuration(subjects);
    let (plan, _) = pointsman_config::compile(&text, "languages.toml", &|_: &str| None::<String>)
        .map_err(|errors| anyhow::anyhow!("{}", errors.render(false)))?;
    let components: Vec<_> = subjects.iter().map(|subject| subject.component.clone()).collect();
    let plugins = topology::load_plugins(&plan, &components)?;
    let log = topology::open_log(&plan, folder.path())?;
    log.create_topics(&[NewTopic { name: EVENTS.into(), partitions: PARTITIONS, retention: Some(RETENTION) }])?;
    topology::prepare_topics(&plan, &*log)?;
    let topology = Topology { plan: Arc::new(plan), log, plugins };
    let failed = Arc::new(Mutex::new(None));
    let tell = Arc::clone(&failed);
    let running = running::start(&topology, move |error| {
        tell.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(error);
    })?;
    let counters = running.counters();
    let done = |route: usize| counters.fate(route, Fate::Delivered) + counters.fate(route, Fate::Dropped);
    let check = || match &*failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some(error) => bail!("the router has failed: {error}"),
        None => Ok(()),
    };
    let usage = |plugin: usize| {
        let plugin = u32::try_from(plugin).ok().and_then(|plugin| topology.plugins.get(PluginId(plugin)));
        plugin.map(|plugin| plugin.usage()).context("each language has a plugin")
    };

    let mut feeder = Feeder::new(&*topology.log)?;
    let mut memory = vec![[0; 3]; subjects.len()];
    let mut process_memory = None;
    let (began, cpu_began) = (Instant::now(), cpu_without_this_thread());
    let mut drained = None;
    let mut waited = Instant::now();
    loop {
        check()?;
        let slowest = (0..subjects.len()).map(done).min().unwrap_or(0);
        for (plugin, memory) in memory.iter_mut().enumerate() {
            look(memory, &usage(plugin)?);
        }
        if process_memory.is_none() && slowest >= AHEAD.min(feeder.written.max(1)) {
            process_memory = Some(resident_bytes()?);
        }
        if began.elapsed() < time {
            if feeder.written - slowest < AHEAD {
                feeder.write()?;
                continue;
            }
        } else if slowest == feeder.written {
            break;
        } else {
            // What is not done then is told with all that is known of it.
            let since = *drained.get_or_insert_with(Instant::now);
            if since.elapsed() > DRAIN {
                break;
            }
        }
        // It would be waited for in vain.
        if waited.elapsed() > LOOK {
            waited = Instant::now();
            let halted = running.lanes().list().into_iter().find(|lane| lane.state == State::Halted);
            ensure!(halted.is_none(), "a lane has halted: {halted:?}");
        }
        thread::park_timeout(Duration::from_millis(1));
    }
    let (time, cpu) = (began.elapsed(), cpu_without_this_thread().saturating_sub(cpu_began));
    let languages = subjects.iter().enumerate().zip(memory).map(|((index, subject), memory)| {
        Ok(Language { name: subject.language.clone(), done: done(index), memory, usage: usage(index)? })
    });
    let languages = languages.collect::<anyhow::Result<Vec<_>>>()?;
    let end = resident_bytes()?;
    let records = feeder.written;
    drop(feeder);
    ensure!(running.stop(), "the router has not stopped in good order");
    Ok(Outcome { languages, records, time, cpu, memory: [process_memory.unwrap_or(end), end] })
}

/// Far more than the slowest route is behind on a machine that is busy with other things: a lane whose records are gone halts.
const RETENTION: Duration = Duration::from_secs(600);

fn configuration(subjects: &[Subject]) -> String {
    let mut text = format!(
        "version = 1\n[router]\nname = \"languages\"\n[broker]\nembedded = \"log\"\nretention = \"{}s\"\n",
        RETENTION.as_secs()
    );
    for Subject { language, .. } in subjects {
        // Component and configuration are told apart from it: JSON is no TOML.
        let _ = write!(
            text,
            "[plugins.{language}]\ncomponent = \"{language}.wasm\"\nconfig = {}\n\
             limits = {{ memory = \"{MEMORY_MIB}MiB\", deadline = \"1s\" }}\n\
             [[routes]]\nname = \"{language}\"\ngroup = \"{language}\"\nfrom = [\"{EVENTS}\"]\nstages = [\"{language}\"]\n\
             retry = false\nbreaker = false\n[[routes.outputs]]\ntopic = \"{language}-out\"\n",
            CONFIG.replace("\":", "\" = ")
        );
    }
    text
}

fn look(memory: &mut [u64; 3], usage: &Usage) {
    let now = usage.memory_bytes / usage.instances.max(1);
    let [first, most, last] = memory;
    if now > 0 {
        *last = now;
        *most = now.max(*most);
        if *first == 0 {
            *first = now;
        }
    }
}

/// Writes the records.
struct Feeder {
    sink: Box<dyn Sink>,
    value: Vec<u8>,
    written: u64,
}

impl Feeder {
    fn new(log: &dyn Log) -> anyhow::Result<Self> {
        let sink = log.sink(&[EVENTS.into()], Arc::new(|| {}))?;
        Ok(Self { sink, value: vec![b'x'; 200], written: 0 })
    }

    /// Writes a batch, until it is on disk.
    fn write(&mut self) -> anyhow::Result<()> {
        let mut reports = Vec::new();
        for number in self.written..self.written + BATCH {
            let answer = ANSWERS[(number % ANSWERS.len() as u64) as usize];
            let key = (number % 10_000).to_string();
            let headers = [("trace", "0123456789abcdef"), ("answer", answer)]
                .map(|(name, value)| Header { name: name.as_bytes(), value: Some(value.as_bytes()) });
            let delivery = Delivery {
                topic: TopicId(0),
                partition: PartitionChoice::ByKey,
                timestamp_ms: -1,
                key: Some(key.as_bytes()),
                value: Some(&self.value),
                headers: Headers::Borrowed(&headers),
                stamps: Headers::NONE,
            };
            self.sink.produce(&delivery, Token(number))?;
        }
        let mut left = BATCH as usize;
        while left > 0 {
            self.sink.serve(&mut reports)?;
            left -= reports.len();
            reports.drain(..).try_for_each(|report| report.result.map(drop))?;
        }
        self.written += BATCH;
        Ok(())
    }
}

/// CPU time of this process, but for that of this thread.
fn cpu_without_this_thread() -> Duration {
    let [process, thread] = [ClockId::ProcessCPUTime, ClockId::ThreadCPUTime].map(|clock| {
        let time = clock_gettime(clock);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
    });
    process.saturating_sub(thread)
}

/// Memory of this process that is there in fact.
fn resident_bytes() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("can't read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("there is no VmRSS")?;
    Ok(kib.parse::<u64>()? << 10)
}

impl Outcome {
    pub(crate) fn text(&self) -> String {
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        let mut text = "| language | records | traps | replaced at their memory limit | other failures | memory of an instance, first | most | last |\n\
             | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
            .to_owned();
        for Language { name, done, memory: [first, most, last], usage } in &self.languages {
            let (trap, memory) = (usage.failed(FailureClass::Trap), usage.failed(FailureClass::Memory));
            let other: u64 = FailureClass::ALL.iter().map(|class| usage.failed(*class)).sum::<u64>() - trap - memory;
            let _ = writeln!(
                text,
                "| {name} | {done} | {trap} | {memory} | {other} | {} | {} | {} |",
                mib(*first),
                mib(*most),
                mib(*last)
            );
        }
        let events = self.records * self.languages.len() as u64;
        let [start, end] = self.memory.map(mib);
        let _ = writeln!(
            text,
            "\n{} records in {:.0} s, each by all of the routes: {:.0} events a second, {:.2} µs of CPU for an event. The process had {start} \
             of memory with all instances made, and {end} at the end.",
            self.records,
            self.time.as_secs_f64(),
            events as f64 / self.time.as_secs_f64(),
            self.cpu.as_secs_f64() * 1e6 / events.max(1) as f64
        );
        text
    }

    /// Whether all went as it is to go.
    pub(crate) fn verdict(&self) -> anyhow::Result<()> {
        for Language { name, done, usage, .. } in &self.languages {
            ensure!(*done == self.records, "{name}: {done} of {} records were delivered or dropped", self.records);
            for class in FailureClass::ALL.into_iter().filter(|class| *class != FailureClass::Memory) {
                let failed = usage.failed(class);
                ensure!(failed == 0, "{name}: {failed} calls failed by {}", class.name());
            }
        }
        Ok(())
    }
}
