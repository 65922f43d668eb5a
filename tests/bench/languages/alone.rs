//! What a plugin of each language costs alone.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pointsman::plugin_bench::{self, BATCHES, Figures};
use pointsman::progress::UNTOLD;
use pointsman::record_text::{RecordLine, parse_line};
use pointsman_wasm::{Limits, PluginSpec};

use crate::{ANSWERS, CONFIG, MEMORY_MIB, Subject, building};

/// Measures each, and gives the table.
pub(crate) fn table(subjects: &[Subject], time: Duration) -> anyhow::Result<String> {
    let events: Vec<RecordLine> =
        (0..).zip(ANSWERS).map(|(number, answer)| event(number, answer)).collect::<Result<_, _>>()?;
    let sizes = BATCHES.map(|size| format!("event, by {size}")).join(" | ");
    let mut text = format!(
        "| language | size | build, new | again | first start | cached start | instance | {sizes} | memory | after so many events |\n\
         | --- |{}\n",
        " ---: |".repeat(8 + BATCHES.len())
    );
    for Subject { language, component } in subjects {
        let spec = PluginSpec {
            name: Arc::from(&**language),
            component: component.clone(),
            sha256: None,
            config: CONFIG.into(),
            limits: Limits {
                memory_bytes: MEMORY_MIB << 20,
                deadline: Duration::from_secs(1),
                output_bytes: 8 << 20,
                output_events: 10_000,
                table_elements: 10_000,
            },
            grants: Vec::new(),
        };
        let figures = plugin_bench::measure(&spec, &events, time, UNTOLD).with_context(|| language.clone())?;
        let failure = figures.calls.iter().find_map(|calls| calls.failure.as_ref());
        ensure!(failure.is_none(), "{language}: {failure:?}");
        text += &row(language, &figures, building::new_plugin(language)?);
    }
    Ok(text)
}

fn row(language: &str, figures: &Figures, [cold, again]: [Duration; 2]) -> String {
    let events =
        figures.calls.iter().map(|calls| calls.event_ns.map_or("-".into(), |of| format!("{:.2} µs", of.median / 1e3)));
    let (memory, after) = figures.memory.map_or(("-".into(), "-".into()), |memory| {
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        (mib(memory.start_bytes), format!("{} after {}", mib(memory.end_bytes), memory.events))
    });
    format!(
        "| {language} | {} KiB | {:.1} s | {:.1} s | {:.0} ms | {:.1} ms | {:.0} µs | {} | {memory} | {after} |\n",
        figures.bytes.div_ceil(1024),
        cold.as_secs_f64(),
        again.as_secs_f64(),
        figures.first_start_ms,
        figures.cached_start_ms,
        figures.instance_ns.median / 1e3,
        events.collect::<Vec<_>>().join(" | ")
    )
}

/// An event of 200 bytes.
fn event(number: usize, answer: &str) -> anyhow::Result<RecordLine> {
    let value = "x".repeat(200);
    let line = format!(
        r#"{{"key":"customer-{number}","value":"{value}","headers":[["trace","0123456789abcdef"],["answer","{answer}"]]}}"#
    );
    Ok(parse_line(&line)?)
}
