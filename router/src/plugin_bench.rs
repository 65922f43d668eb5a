//! Measures one plugin, without any route: what an event costs in the sandbox that production has, beside a plugin of the
//! same door that does nothing.
//!
//! CPU is user and system time of the calling thread, so that waiting for a processor does not count; starts are told in
//! wall-clock time, since compiling uses all processors. The plugin and the empty one take turns: what the machine does
//! besides meets both. What is told are a median and the quartiles around it.

use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pointsman_core::event::Event;
use pointsman_core::port::{CallError, PluginHost as _, PluginId};
use pointsman_wasm::{ComponentizeError, LoadedPlugin, PluginSpec, Plugins, Sandbox, SandboxSettings, WorkerPlugins};
use serde::Serialize;
use thiserror::Error;

use crate::plugin_test;
use crate::progress::{Progress, Stand, Total, Unit};
use crate::record_text::RecordLine;
use crate::topology::StartError;

mod batches;
mod timing;

pub use timing::Quartiles;

use batches::{Batch, batches};
use timing::{cpu_time, repeat};

/// Events of one call.
pub const BATCHES: [usize; 3] = [1, 16, 256];

/// The plugins of the worker that measures.
const PLUGIN: PluginId = PluginId(0);
const EMPTY: PluginId = PluginId(1);

/// The time of every call, in milliseconds since 1970-01-01 UTC.
const NOW_MS: i64 = 1_700_000_000_000;

/// Starts from the cache that are timed.
const CACHED_STARTS: usize = 5;

/// Events after which the memory of an instance is told, if there is time for so many.
const MEMORY_EVENTS: u64 = 100_000;

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Size of the component.
    pub bytes: u64,
    /// Until it is compiled, linked, and has accepted its configuration, in milliseconds.
    pub first_start_ms: f64,
    /// The same with compiled code in the cache, in milliseconds.
    pub cached_start_ms: f64,
    /// To make an instance in place of another, its `configure` included, in nanoseconds of CPU.
    pub instance_ns: Quartiles,
    /// The same of the empty plugin.
    pub empty_instance_ns: Quartiles,
    /// For each of [`BATCHES`].
    pub calls: Vec<Calls>,
    /// Memory of one instance; `None` where calls of every size fail.
    pub memory: Option<Memory>,
}

/// Calls with so many events.
#[derive(Clone, Debug, Serialize)]
pub struct Calls {
    /// Events of each call.
    pub events: usize,
    /// An event in nanoseconds of CPU; `None` where calls fail.
    pub event_ns: Option<Quartiles>,
    /// An event of the empty plugin in nanoseconds of CPU; `None` where nothing was compared.
    pub empty_event_ns: Option<Quartiles>,
    /// Instances that failed under a batch which a new one judged: memory that grows with each call does that. What that
    /// took is in the figures, as it is in production.
    pub replaced: u64,
    /// Why there is no figure.
    pub failure: Option<Failure>,
}

/// A call that does not return cleanly, on a new instance either.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Number of the event that fails alone, from 1; `None` where only all of a batch together do.
    pub event: Option<usize>,
    /// Such as `trap` or `deadline`.
    pub class: &'static str,
    /// A short word, such as a trap's name.
    pub code: String,
    /// A sentence.
    pub message: String,
}

/// Linear memory of one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Before its first event, in bytes.
    pub start_bytes: u64,
    /// After its last event, in bytes.
    pub end_bytes: u64,
    /// Events that it has judged.
    pub events: u64,
    /// Whether a call after these could not be done: it reached its limit.
    pub ended: bool,
}

/// A plugin can't be measured.
#[derive(Debug, Error)]
pub enum Trouble {
    /// It can't be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The component, or a folder for compiled code, can't be used.
    #[error("{}: {cause}", .path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// The plugin for comparison can't be made.
    #[error("the plugin for comparison can't be made: {0}")]
    Empty(#[from] ComponentizeError),
    /// The samples are none.
    #[error(transparent)]
    Samples(#[from] plugin_test::Trouble),
    /// No instance can be had.
    #[error("{0}")]
    Unavailable(String),
}

/// Measures a plugin over these events, for about `time` with each size of a batch. `progress` is told between two measurements
/// how much of the whole time has passed.
///
/// # Errors
/// [`Trouble`]. An event that the plugin fails on is no error, but among the [`Figures`].
pub fn measure(
    spec: &PluginSpec,
    lines: &[RecordLine],
    time: Duration,
    progress: Progress<'_>,
) -> Result<Figures, Trouble> {
    let events = plugin_test::events(lines)?;
    let bytes =
        fs::metadata(&spec.component).map_err(|cause| Trouble::File { path: spec.component.clone(), cause })?.len();
    let folder = tempfile::tempdir().map_err(|cause| Trouble::File { path: std::env::temp_dir(), cause })?;
    let settings = SandboxSettings {
        workers: NonZeroUsize::MIN,
        plugins: 2,
        memory_bytes: spec.limits.memory_bytes,
        table_elements: spec.limits.table_elements,
        cache: Some(folder.path().join("cache")),
    };
    let start = || -> Result<(Sandbox, LoadedPlugin, f64), StartError> {
        let sandbox = Sandbox::new(&settings)?;
        let began = Instant::now();
        let plugin = sandbox.load(spec)?;
        Ok((sandbox, plugin, began.elapsed().as_secs_f64() * 1e3))
    };
    let (sandbox, plugin, first_start_ms) = start()?;
    let cached: Result<Vec<f64>, StartError> = (0..CACHED_STARTS).map(|_| Ok(start()?.2)).collect();

    let component = folder.path().join("empty.wasm");
    fs::write(&component, plugin.empty_of_its_door()?)
        .map_err(|cause| Trouble::File { path: component.clone(), cause })?;
    let empty = PluginSpec { name: "empty".into(), component, sha256: None, config: "{}".into(), ..spec.clone() };
    let empty = sandbox.load(&empty).map_err(StartError::from)?;
    let worker = Plugins::new(vec![plugin, empty]).worker();
    // That of instances, of each size of a batch, and of memory.
    let all = time / 4 + BATCHES.iter().map(|_| time).sum::<Duration>() + time;
    let passing = Passing { begun: Instant::now(), all, progress };
    let mut bench = Bench { worker, events: &events, time, passing };

    let (instance_ns, empty_instance_ns) = bench.instances()?;
    let calls: Vec<Calls> = BATCHES.iter().map(|size| bench.calls(*size)).collect::<Result<_, _>>()?;
    let largest = calls.iter().rev().find(|calls| calls.failure.is_none()).map(|calls| calls.events);
    let memory = largest.map(|size| bench.memory(size)).transpose()?;
    let cached_start_ms = Quartiles::of(cached?).median;
    Ok(Figures { bytes, first_start_ms, cached_start_ms, instance_ns, empty_instance_ns, calls, memory })
}

struct Bench<'a> {
    worker: WorkerPlugins,
    events: &'a [Event<'a>],
    time: Duration,
    passing: Passing<'a>,
}

/// The time that is to pass, and who is told of it.
#[derive(Clone, Copy)]
struct Passing<'a> {
    begun: Instant,
    all: Duration,
    progress: Progress<'a>,
}

impl Passing<'_> {
    fn tell(self) {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (done, total) = (ms(self.begun.elapsed()), Total::AtMost(ms(self.all)));
        (self.progress)(&Stand { what: "measuring", unit: Unit::Milliseconds, done, total, picked: None });
    }
}

/// Why there is no figure.
enum Ended {
    Failed(Failure),
    Unavailable(String),
}

impl Bench<'_> {
    fn instances(&mut self) -> Result<(Quartiles, Quartiles), Trouble> {
        let (time, passing, worker) = (self.time / 4, self.passing, &mut self.worker);
        let mut renew = |plugin, times: u64| {
            passing.tell();
            let began = cpu_time();
            (0..times).try_for_each(|_| worker.renew(plugin, NOW_MS))?;
            Ok::<_, CallError>(cpu_time().saturating_sub(began))
        };
        let [plugin, empty] = repeat(time, 1, |index, times| renew([PLUGIN, EMPTY][index], times))
            .map_err(|error| Trouble::Unavailable(error.to_string()))?;
        Ok((plugin, empty))
    }

    /// Calls with so many events each.
    fn calls(&mut self, size: usize) -> Result<Calls, Trouble> {
        let mut calls = Calls { events: size, event_ns: None, empty_event_ns: None, replaced: 0, failure: None };
        let batches = batches(self.events, size);
        // Once each beforehand: what fails always is told before anything is timed.
        for batch in &batches {
            let Err(error) = self.worker.call(PLUGIN, &batch.events, NOW_MS) else { continue };
            match self.judge_anew(batch, error) {
                Ok(()) => calls.replaced += 1,
                Err(Ended::Unavailable(message)) => return Err(Trouble::Unavailable(message)),
                Err(Ended::Failed(failure)) => return Ok(Calls { failure: Some(failure), ..calls }),
            }
        }
        let each = (batches.len() * size) as u64;
        let timed = repeat(self.time, each, |index, times| {
            let (took, replaced) = self.time_batches([PLUGIN, EMPTY][index], &batches, times)?;
            calls.replaced += replaced;
            Ok(took)
        });
        match timed {
            Ok([plugin, empty]) => (calls.event_ns, calls.empty_event_ns) = (Some(plugin), Some(empty)),
            Err(Ended::Failed(failure)) => calls.failure = Some(failure),
            Err(Ended::Unavailable(message)) => return Err(Trouble::Unavailable(message)),
        }
        Ok(calls)
    }

    /// How long it takes to judge these, so many times; and how many instances were replaced.
    fn time_batches(&mut self, plugin: PluginId, batches: &[Batch<'_>], times: u64) -> Result<(Duration, u64), Ended> {
        self.passing.tell();
        let (began, mut replaced) = (cpu_time(), 0);
        for _ in 0..times {
            for batch in batches {
                if let Err(error) = self.worker.call(plugin, &batch.events, NOW_MS) {
                    self.judge_anew(batch, error)?;
                    replaced += 1;
                }
            }
        }
        Ok((cpu_time().saturating_sub(began), replaced))
    }

    /// After a call that has ended its instance: hands the batch to a new one, and finds out who is to blame if that fails too.
    fn judge_anew(&mut self, batch: &Batch<'_>, error: CallError) -> Result<(), Ended> {
        if let CallError::Unavailable { message } = error {
            return Err(Ended::Unavailable(message));
        }
        let Err(again) = self.worker.call(PLUGIN, &batch.events, NOW_MS) else { return Ok(()) };
        let alone = batch.events.iter().zip(&batch.numbers).find_map(|(event, number)| {
            let ended = self.worker.call(PLUGIN, std::slice::from_ref(event), NOW_MS);
            ended.err().map(|error| (Some(*number), error))
        });
        let (event, error) = alone.unwrap_or((None, again));
        Err(match error {
            CallError::Guest { class, code, message, .. } => {
                Ended::Failed(Failure { event, class: class.name(), code, message })
            }
            CallError::Unavailable { message } => Ended::Unavailable(message),
        })
    }

    /// What a new instance has of memory, before and after many events in calls of this size.
    fn memory(&mut self, size: usize) -> Result<Memory, Trouble> {
        let began = Instant::now();
        self.worker.renew(PLUGIN, NOW_MS).map_err(|error| Trouble::Unavailable(error.to_string()))?;
        let start_bytes = self.worker.memory_bytes(PLUGIN);
        let mut memory = Memory { start_bytes, end_bytes: start_bytes, events: 0, ended: false };
        for batch in batches(self.events, size).iter().cycle() {
            if memory.events >= MEMORY_EVENTS || began.elapsed() > self.time {
                break;
            }
            if self.worker.call(PLUGIN, &batch.events, NOW_MS).is_err() {
                memory.ended = true;
                break;
            }
            self.passing.tell();
            memory.events += batch.events.len() as u64;
            memory.end_bytes = self.worker.memory_bytes(PLUGIN);
        }
        Ok(memory)
    }
}
