//! What became of the records, counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use pointsman_config::plan::Plan;
use pointsman_core::delivery::TopicId;
use pointsman_core::failure::FailureClass;
use pointsman_core::port::{PluginHost, PluginId};

/// The final fate of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its outputs are in their topics.
    Delivered,
    /// It ended on purpose.
    Dropped,
    /// It is in the retry topic.
    Parked,
    /// It is in the dead-letter topic.
    DeadLettered,
    /// Its lane stands at it.
    Halted,
}

impl Fate {
    /// Every fate.
    pub const ALL: [Self; 5] = [Self::Delivered, Self::Dropped, Self::Parked, Self::DeadLettered, Self::Halted];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Dropped => "dropped",
            Self::Parked => "parked",
            Self::DeadLettered => "dead-lettered",
            Self::Halted => "halted",
        }
    }
}

/// Counts since the start of the process.
#[derive(Debug)]
pub struct Counters {
    fates: Vec<[AtomicU64; Fate::ALL.len()]>,
    classes: Vec<[AtomicU64; FailureClass::ALL.len()]>,
    topics: Vec<AtomicU64>,
    /// Lanes of each route that are paused now.
    paused: Vec<AtomicU64>,
    /// Slow calls of each plugin.
    slow: Vec<AtomicU64>,
    /// The plugins' own, for each plugin by name.
    plugins: Mutex<Vec<BTreeMap<String, u64>>>,
}

impl Counters {
    /// All zero.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        Self {
            fates: plan.routes.iter().map(|_| Default::default()).collect(),
            classes: plan.routes.iter().map(|_| Default::default()).collect(),
            topics: plan.topics.iter().map(|_| AtomicU64::new(0)).collect(),
            paused: plan.routes.iter().map(|_| AtomicU64::new(0)).collect(),
            slow: plan.plugins.iter().map(|_| AtomicU64::new(0)).collect(),
            plugins: Mutex::new(plan.plugins.iter().map(|_| BTreeMap::new()).collect()),
        }
    }

    /// Adds what a lane has counted.
    pub(crate) fn add(&self, plan: &Plan, tally: &mut Tally) {
        let Tally { route, fates, outputs } = tally;
        let topics = plan.routes[*route].outputs.iter().map(|output| &self.topics[output.topic.0 as usize]);
        let counters = self.fates[*route].iter().zip(fates).chain(topics.zip(outputs));
        for (counter, count) in counters.filter(|(_, count)| **count > 0) {
            counter.fetch_add(std::mem::take(count), Ordering::Relaxed);
        }
    }

    pub(crate) fn failed(&self, route: usize, class: FailureClass) {
        self.classes[route][class as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn produced(&self, topic: TopicId) {
        self.topics[topic.0 as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A lane of the route is paused by its breaker.
    pub(crate) fn pause(&self, route: usize) {
        self.paused[route].fetch_add(1, Ordering::Relaxed);
    }

    /// Such a lane goes on, or is given up.
    pub(crate) fn resume(&self, route: usize) {
        self.paused[route].fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn slow(&self, plugin: PluginId) {
        self.slow[plugin.0 as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Adds what the plugins of one worker have counted.
    pub(crate) fn add_plugin_counts(&self, plugins: &mut dyn PluginHost) {
        let mut known = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        plugins.take_counts(&mut |plugin, name, count| {
            let Some(counts) = known.get_mut(plugin.0 as usize) else { return };
            match counts.get_mut(name) {
                Some(sum) => *sum = sum.saturating_add(count),
                None => drop(counts.insert(name.to_owned(), count)),
            }
        });
    }

    /// What the plugins have counted, each by its own names: index of the plugin, name, sum.
    #[must_use]
    pub fn plugin_counts(&self) -> Vec<(usize, String, u64)> {
        let known = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = known.iter().enumerate();
        counts.flat_map(|(plugin, counts)| counts.iter().map(move |(name, sum)| (plugin, name.clone(), *sum))).collect()
    }

    /// Records of the route, by index, that came to this fate.
    #[must_use]
    pub fn fate(&self, route: usize, fate: Fate) -> u64 {
        self.fates[route][fate as usize].load(Ordering::Relaxed)
    }

    /// Failures of the route that ended as parked, dead-lettered or dropped records.
    #[must_use]
    pub fn failures(&self, route: usize, class: FailureClass) -> u64 {
        self.classes[route][class as usize].load(Ordering::Relaxed)
    }

    /// Lanes of the route, by index, that are paused by their breakers now.
    #[must_use]
    pub fn paused(&self, route: usize) -> u64 {
        self.paused[route].load(Ordering::Relaxed)
    }

    /// Calls of the plugin, by index, for a single event that took more than half of its deadline.
    #[must_use]
    pub fn slow_calls(&self, plugin: usize) -> u64 {
        self.slow[plugin].load(Ordering::Relaxed)
    }

    /// Records handed to the producer for this topic.
    #[must_use]
    pub fn topic(&self, topic: TopicId) -> u64 {
        self.topics[topic.0 as usize].load(Ordering::Relaxed)
    }
}

/// What a lane counts for itself before it [adds](Counters::add) it to what all count: workers that counted each record
/// in one place would wait for each other's caches.
pub(crate) struct Tally {
    route: usize,
    fates: [u64; Fate::ALL.len()],
    /// Records handed to the producer, for each output of the route.
    outputs: Vec<u64>,
}

impl Tally {
    /// Nothing yet.
    pub(crate) fn new(route: usize, outputs: usize) -> Self {
        Self { route, fates: [0; Fate::ALL.len()], outputs: vec![0; outputs] }
    }

    pub(crate) fn count(&mut self, fate: Fate) {
        self.fates[fate as usize] += 1;
    }

    /// Records that were delivered or dropped.
    pub(crate) fn successes(&self) -> u64 {
        self.fates[Fate::Delivered as usize] + self.fates[Fate::Dropped as usize]
    }

    pub(crate) fn produced(&mut self, output: usize) {
        self.outputs[output] += 1;
    }
}
