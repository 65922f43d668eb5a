//! What the border between router and plugin costs: nanoseconds of CPU per event, by each of its two doors.
//!
//! ```text
//! cargo bench -p pointsman-tests --bench border
//! ```
//!
//! `mirror` (columns, by the SDK) and `mirror-records` (records, by the standard generator) do the same; each event tells
//! them to let it pass. `header-filter` looks at a header of each, and `identity` asks for no field at all, and shows what is
//! left then. The guests take turns; each figure is the least of many, since noise only adds. Only ratios within one run mean
//! something.
//!
//! `faulty` panics at each event: what an instance costs from its start to its end by a trap.
#![allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use pointsman_core::event::Event;
use pointsman_core::failure::FailureClass;
use pointsman_core::port::{CallError, PluginHost as _, PluginId};
use pointsman_core::record::{Header, Headers};
use pointsman_tests::plugins;
use pointsman_wasm::{Limits, PluginSpec, Plugins, Sandbox, SandboxSettings, WorkerPlugins};

/// The guests, what they are, by which door they are called, and their configuration.
const GUESTS: [(&str, &str, &str); 4] = [
    ("mirror-records", "records, all fields", "{}"),
    ("mirror", "columns, all fields", "{}"),
    ("header-filter", "columns, a header", r#"{"header":"answer","drop":["drop"]}"#),
    ("identity", "columns, no fields", "{}"),
];
/// The guest that traps, by its place behind the others.
const TRAPPING: PluginId = PluginId(GUESTS.len() as u32);
/// Instances of it that one measurement takes.
const INSTANCES: u32 = 500;
/// Events of one call.
const BATCHES: [usize; 4] = [1, 16, 256, 1024];
/// Bytes of each value.
const VALUES: [usize; 2] = [200, 1024];
/// Events of one measurement.
const EVENTS: usize = 50_000;
/// The time of every call.
const NOW_MS: i64 = 1_700_000_000_000;
/// Measurements of each guest.
const TIMES: usize = 15;

const LIMITS: Limits = Limits {
    memory_bytes: 64 << 20,
    deadline: Duration::from_secs(1),
    output_bytes: 8 << 20,
    output_events: 100_000,
    table_elements: 10_000,
};

fn main() -> anyhow::Result<()> {
    let mut worker = load()?;
    println!("| bytes of a value | events of a call | {} |", GUESTS.map(|(_, what, _)| what).join(" | "));
    println!("| --- | --- | {} |", GUESTS.map(|_| "---").join(" | "));
    for bytes in VALUES {
        for batch in BATCHES {
            let mut least = [f64::INFINITY; GUESTS.len()];
            for _ in 0..TIMES {
                for (guest, least) in (0..).map(PluginId).zip(&mut least) {
                    *least = least.min(nanoseconds_per_event(&mut worker, guest, bytes, batch)?);
                }
            }
            let [records, ..] = least;
            let cells = least.map(|least| format!("{least:.0} ns ({:.2}×)", least / records));
            println!("| {bytes} | {batch} | {} |", cells.join(" | "));
        }
    }
    let traps = (0..TIMES).map(|_| microseconds_per_trap(&mut worker));
    let least = traps.collect::<anyhow::Result<Vec<_>>>()?.into_iter().fold(f64::INFINITY, f64::min);
    println!("\nAn instance, from its start to its end by a trap: {least:.0} µs");
    Ok(())
}

fn load() -> anyhow::Result<WorkerPlugins> {
    let sandbox = Sandbox::new(&SandboxSettings {
        workers: NonZeroUsize::MIN,
        plugins: GUESTS.len() + 1,
        memory_bytes: LIMITS.memory_bytes,
        table_elements: LIMITS.table_elements,
        cache: None,
    })?;
    let load = |(name, config): (&str, &str)| {
        Ok(sandbox.load(&PluginSpec {
            name: Arc::from(name),
            component: plugins::component(name)?,
            sha256: None,
            config: config.into(),
            limits: LIMITS,
            grants: Vec::new(),
        })?)
    };
    let trapping = ("faulty", r#"{"fault":"trap","every":1}"#);
    let guests = GUESTS.into_iter().map(|(name, _, config)| (name, config)).chain([trapping]);
    Ok(Plugins::new(guests.map(load).collect::<anyhow::Result<_>>()?).worker())
}

/// Has [`INSTANCES`] instances end at their first event.
fn microseconds_per_trap(worker: &mut WorkerPlugins) -> anyhow::Result<f64> {
    let event = event(&[b'x'; 200], Headers::NONE);
    let before = cpu_time();
    for _ in 0..INSTANCES {
        let ended = worker.call(TRAPPING, std::slice::from_ref(&event), NOW_MS);
        ensure!(matches!(ended, Err(CallError::Guest { class: FailureClass::Trap, .. })), "{ended:?}");
    }
    Ok((cpu_time() - before).as_secs_f64() * 1e6 / f64::from(INSTANCES))
}

fn event<'a>(value: &'a [u8], headers: Headers<'a>) -> Event<'a> {
    Event {
        topic: "orders",
        partition: 0,
        offset: 0,
        timestamp_ms: NOW_MS,
        key: Some(b"customer-0000001"),
        value: Some(value),
        headers,
        attempt: 1,
    }
}

/// Has the guest judge [`EVENTS`] events, in calls of `batch`.
fn nanoseconds_per_event(
    worker: &mut WorkerPlugins,
    guest: PluginId,
    bytes: usize,
    batch: usize,
) -> anyhow::Result<f64> {
    let value = vec![b'x'; bytes];
    let headers = [("trace-id", "0123456789abcdef0123456789abcdef"), ("answer", "pass")]
        .map(|(name, value)| Header { name: name.as_bytes(), value: Some(value.as_bytes()) });
    let event = event(&value, Headers::Plain(&headers));
    let events: Vec<_> = (0..).map(|offset| Event { offset, ..event }).take(batch).collect();
    let calls = EVENTS / batch;
    let before = cpu_time();
    for _ in 0..calls {
        let verdicts = worker.call(guest, &events, NOW_MS)?;
        ensure!(verdicts.len() == batch && verdicts.others().is_empty(), "{verdicts:?}");
    }
    Ok((cpu_time() - before).as_nanos() as f64 / (calls * batch) as f64)
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}
