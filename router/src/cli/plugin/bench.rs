//! `pointsman plugin bench`: what a plugin costs over its samples.

use std::sync::Arc;
use std::time::Duration;

use pointsman_config::plan::PluginLimits;
use pointsman_wasm::PluginSpec;
use serde::Serialize;

use super::samples::{SampleArguments, Samples, told};
use crate::cli::progress::{Says, Shown};
use crate::cli::table::{table, width};
use crate::cli::{Exit, complain_of, json, say};
use crate::plugin_bench::{self, Calls, Figures, Quartiles, Trouble};
use crate::topology;

/// Measure what a plugin costs: CPU of an event at several sizes of a batch, starts, and memory.
///
/// It runs over the same samples and within the same sandbox and limits as in `plugin test`, and takes turns with an empty
/// plugin of the same door, which passes everything: what that costs, every plugin does. Figures of different runs compare
/// only if the machine was as busy.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    samples: SampleArguments,
    /// For how long each size of a batch is measured.
    #[arg(long, default_value_t = 2.0, value_parser = seconds, value_name = "SECONDS")]
    seconds: f64,
    /// Print the figures as one JSON object.
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("it must be a number from 0 to 3600".into()),
    }
}

pub(crate) fn execute(arguments: &Arguments) -> Exit {
    bench(arguments).unwrap_or_else(|exit| exit)
}

fn bench(arguments: &Arguments) -> Result<Exit, Exit> {
    let Arguments { samples, seconds, json: is_json } = arguments;
    let Samples { events, config } = told(samples.read())?;
    let component = samples.component()?;
    let name = component.file_stem().map_or_else(|| "plugin".into(), |stem| stem.to_string_lossy());
    let spec = PluginSpec {
        name: Arc::from(&*name),
        component: component.clone(),
        sha256: None,
        config,
        limits: topology::limits(&PluginLimits::default()),
        grants: samples.grants.clone(),
    };
    let shown = Shown::new(if *is_json { Says::Json } else { Says::Nothing });
    let measured = plugin_bench::measure(&spec, &events, Duration::from_secs_f64(*seconds), &|stand| shown.tell(stand));
    drop(shown);
    let figures = measured.map_err(|error| {
        complain_of(&error);
        if matches!(error, Trouble::Samples(_)) { Exit::Configuration } else { Exit::NotStarted }
    })?;
    let exit = if figures.calls.iter().any(|calls| calls.failure.is_some()) { Exit::No } else { Exit::Fine };
    if *is_json {
        return Ok(json::answer(&Answer { samples: events.len(), figures: &figures }, exit));
    }
    say(&text(&figures, events.len(), width()));
    Ok(exit)
}

/// What was measured.
#[derive(Serialize)]
struct Answer<'a> {
    /// Events of the samples.
    samples: usize,
    #[serde(flatten)]
    figures: &'a Figures,
}

fn text(figures: &Figures, samples: usize, width: Option<u16>) -> String {
    let kib = |bytes: u64| format!("{} KiB", bytes.div_ceil(1024));
    let memory = figures.memory.map_or_else(
        || "not measured".into(),
        |memory| {
            let ended = if memory.ended { "; then a call reached its limit" } else { "" };
            format!("{}, {} after {} events{ended}", kib(memory.start_bytes), kib(memory.end_bytes), memory.events)
        },
    );
    let mut lines = vec![
        format!("samples       {samples} events"),
        format!("size          {}", kib(figures.bytes)),
        format!("first start   {:.1} ms, with compiling", figures.first_start_ms),
        format!("cached start  {:.1} ms", figures.cached_start_ms),
        format!(
            "instance      {} of CPU; an empty plugin {}",
            micros(figures.instance_ns.median),
            micros(figures.empty_instance_ns.median)
        ),
        format!("memory        {memory}"),
        String::new(),
    ];
    let header = ["events of a call", "CPU of an event", "middle half", "an empty plugin", "repetitions"];
    let mut rows = table(header, &[], width);
    for Calls { events, event_ns, empty_event_ns, .. } in &figures.calls {
        let shown = |of: &Option<Quartiles>, show: fn(&Quartiles) -> String| of.as_ref().map_or("-".into(), show);
        rows.add_row([
            events.to_string(),
            shown(event_ns, |of| micros(of.median)),
            shown(event_ns, |of| format!("{} to {}", micros(of.lower), micros(of.upper))),
            shown(empty_event_ns, |of| micros(of.median)),
            shown(event_ns, |of| of.repetitions.to_string()),
        ]);
    }
    lines.extend(rows.lines().map(|line| line.trim_end().to_owned()));
    for Calls { events, replaced, failure, .. } in &figures.calls {
        if *replaced > 0 {
            lines.push(format!(
                "\nWith {events} events of a call, {replaced} instances were replaced: their memory grows from call to call."
            ));
        }
        if let Some(failure) = failure {
            let who = failure.event.map_or_else(|| "they fail together".into(), |event| format!("event {event} fails"));
            lines.push(format!(
                "\nNot measured with {events} events of a call: {who}: {} ({}: {})",
                failure.message, failure.class, failure.code
            ));
        }
    }
    lines.join("\n")
}

fn micros(nanoseconds: f64) -> String {
    format!("{:.2} µs", nanoseconds / 1e3)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use super::*;
    use crate::plugin_bench::{Failure, Memory};

    fn figures() -> Figures {
        let around = |median: f64| Quartiles { lower: median - 50.0, median, upper: median + 100.0, repetitions: 190 };
        let calls = |events: usize, median: f64| Calls {
            events,
            event_ns: Some(around(median)),
            empty_event_ns: Some(around(median / 2.0)),
            replaced: 0,
            failure: None,
        };
        let failure = Failure { event: Some(3), class: "trap", code: "unreachable".into(), message: "plugin p".into() };
        Figures {
            bytes: 64_001,
            first_start_ms: 412.34,
            cached_start_ms: 3.21,
            instance_ns: around(21_000.0),
            empty_instance_ns: around(9_000.0),
            calls: vec![
                calls(1, 2700.0),
                Calls { replaced: 2, ..calls(16, 1200.0) },
                Calls { event_ns: None, empty_event_ns: None, failure: Some(failure), ..calls(256, 1.0) },
            ],
            memory: Some(Memory { start_bytes: 17 << 16, end_bytes: 18 << 16, events: 100_000, ended: false }),
        }
    }

    #[test]
    fn figures_are_told_with_their_spread_and_failures_with_their_event() {
        insta::assert_snapshot!(text(&figures(), 12, None), @"
        samples       12 events
        size          63 KiB
        first start   412.3 ms, with compiling
        cached start  3.2 ms
        instance      21.00 µs of CPU; an empty plugin 9.00 µs
        memory        1088 KiB, 1152 KiB after 100000 events

        events of a call  CPU of an event  middle half         an empty plugin  repetitions
        1                 2.70 µs          2.65 µs to 2.80 µs  1.35 µs          190
        16                1.20 µs          1.15 µs to 1.30 µs  0.60 µs          190
        256               -                -                   -                -

        With 16 events of a call, 2 instances were replaced: their memory grows from call to call.

        Not measured with 256 events of a call: event 3 fails: plugin p (trap: unreachable)
        ");
    }

    #[test]
    fn the_json_has_what_a_program_needs() {
        let json = serde_json::to_value(Answer { samples: 12, figures: &figures() }).unwrap();
        assert_eq!((&json["samples"], &json["bytes"]), (&12.into(), &64_001.into()));
        assert_eq!(json["calls"][0]["event_ns"]["median"], 2700.0);
        assert_eq!(json["calls"][2]["failure"]["event"], 3);
        assert_eq!(json["calls"][2]["event_ns"], serde_json::Value::Null);
        assert_eq!(json["memory"]["end_bytes"], 18 << 16);
    }

    #[test]
    fn a_time_is_a_number_of_seconds() {
        assert_eq!(seconds("0.1"), Ok(0.1));
        for wrong in ["-1", "NaN", "inf", "1e9", "two", ""] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
