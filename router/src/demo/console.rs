//! What became of the records, per route and fate and per topic, drawn anew twice a second.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use pointsman_config::Plan;
use pointsman_config::plan::TopicRole;
use pointsman_core::failure::FailureClass;
use pointsman_core::port::Log;
use pointsman_core::record::TopicPartition;

use crate::cli::program;
use crate::cli::redraw::draw;
use crate::counters::{Counters, Fate};
use crate::topology::Topology;

/// On a terminal the picture is drawn in place; elsewhere it is printed now and then.
const REDRAW: Duration = Duration::from_millis(500);
const REPRINT: Duration = Duration::from_secs(5);

/// A console on standard output, until it is dropped.
pub(crate) struct Console {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Console {
    /// Starts drawing. `file` is the configuration file, as the user would type it.
    pub(crate) fn start(file: &str, topology: &Topology, counters: Arc<Counters>) -> Self {
        let picture = Picture {
            file: file.to_owned(),
            plan: Arc::clone(&topology.plan),
            log: Arc::clone(&topology.log),
            counters,
            partitions: Mutex::default(),
        };
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            let terminal = std::io::stdout().is_terminal();
            let pause = if terminal { REDRAW } else { REPRINT };
            let mut drawn = 0;
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                drawn = draw(&picture.text(), if terminal { drawn } else { 0 });
            }
            draw(&picture.text(), if terminal { drawn } else { 0 });
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It has nothing to say but what it has drawn.
            let _ = thread.join();
        }
    }
}

struct Picture {
    file: String,
    plan: Arc<Plan>,
    log: Arc<dyn Log>,
    counters: Arc<Counters>,
    /// Partitions of each topic, once known.
    partitions: Mutex<BTreeMap<Arc<str>, u32>>,
}

impl Picture {
    fn text(&self) -> String {
        let mut text = format!("\nThis run, by route and fate\n{}", self.fates());
        let failures = self.failures();
        if !failures.is_empty() {
            text.push_str(&format!("\n  failures: {failures}"));
        }
        text.push_str(&self.warnings());
        for (plugin, counter, count) in self.counters.plugin_counts() {
            text.push_str(&format!("\n  counted by {}: {counter} {count}", self.plan.plugins[plugin].name));
        }
        text.push_str(&format!("\n\nRecords in the topics\n{}", self.topics()));
        if self.plan.routes.iter().any(|route| route.dead_letter.is_some()) {
            text.push_str(&format!(
                "\n\nDead letters, from another terminal:\n  {} dead-letter stats {}\nCtrl-C stops.",
                program(),
                self.file
            ));
        }
        text
    }

    fn fates(&self) -> Table {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header(std::iter::once("route").chain(Fate::ALL.map(Fate::name)));
        for (index, route) in self.plan.routes.iter().enumerate() {
            let counts = Fate::ALL.map(|fate| self.counters.fate(index, fate).to_string());
            table.add_row(std::iter::once(route.name.to_string()).chain(counts));
        }
        align_numbers(&mut table);
        table
    }

    fn failures(&self) -> String {
        let routes = 0..self.plan.routes.len();
        let count = |class| routes.clone().map(|route| self.counters.failures(route, class)).sum::<u64>();
        let counts = FailureClass::ALL.map(|class| (class, count(class)));
        let told = counts.iter().filter(|(_, count)| *count > 0).map(|(class, count)| format!("{class} {count}"));
        told.collect::<Vec<_>>().join(", ")
    }

    fn warnings(&self) -> String {
        let routes = self.plan.routes.iter().enumerate();
        let paused = routes
            .map(|(index, route)| (format!("lanes of {} that are paused", route.name), self.counters.paused(index)));
        let plugins = self.plan.plugins.iter().enumerate();
        let slow = plugins
            .map(|(index, plugin)| (format!("slow records in {}", plugin.name), self.counters.slow_calls(index)));
        let told = paused.chain(slow).filter(|(_, count)| *count > 0);
        told.map(|(what, count)| format!("\n  {what}: {count}")).collect()
    }

    fn topics(&self) -> Table {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header(["topic", "", "records"]);
        let sources = self.plan.routes.iter().flat_map(|route| &route.sources).map(|source| (&source.topic, "source"));
        let others = self.plan.topics.iter().map(|topic| {
            let role = match topic.role {
                TopicRole::Output => "output",
                TopicRole::Retry { .. } => "retry",
                TopicRole::DeadLetter { .. } => "dead letters",
            };
            (&topic.name, role)
        });
        for (topic, role) in sources.chain(others) {
            // A topic that can't be counted now is counted the next time.
            let records = self.records(topic).map_or_else(|| "?".into(), |records| records.to_string());
            table.add_row([topic.to_string(), role.into(), records]);
        }
        align_numbers(&mut table);
        table
    }

    fn records(&self, topic: &Arc<str>) -> Option<i64> {
        let mut known = self.partitions.lock().ok()?;
        let partitions = match known.get(topic) {
            Some(partitions) => *partitions,
            None => {
                let info = self.log.topics(Some(std::slice::from_ref(topic))).ok()?;
                let partitions = info.first()?.partitions;
                known.insert(Arc::clone(topic), partitions);
                partitions
            }
        };
        let count = |partition: u32| {
            let partition = TopicPartition::new(Arc::clone(topic), i32::try_from(partition).ok()?);
            self.log.watermarks(&partition).ok().map(|(first, end)| end - first)
        };
        (0..partitions).map(count).sum()
    }
}

/// All columns but those of words to the right.
fn align_numbers(table: &mut Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}
