//! What became of the records, and what it took, counted since the start of the process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pointsman_config::plan::{Plan, StagePlan};
use pointsman_core::delivery::TopicId;
use pointsman_core::failure::{Failure, FailureClass};
use pointsman_core::port::{DeliveryError, PluginHost, PluginId, Revocation};

pub(crate) mod calls;
pub(crate) mod histogram;
mod tally;

use calls::Calls;
use histogram::{Histogram, TIMES};
pub(crate) use tally::{Amount, Settled, Tally};

/// Different codes of failures that are counted apart, of all routes together. Plugins choose them; what comes beyond is counted as
/// [`OTHER_CODES`].
pub(crate) const MAX_CODES: usize = 1000;
/// See [`MAX_CODES`].
pub(crate) const OTHER_CODES: &str = "other";

/// The final fate of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// A failure, as far as it is counted apart from others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cause {
    pub(crate) route: usize,
    pub(crate) class: &'static str,
    pub(crate) code: String,
    /// What became of the record; `None` where it is retried in place.
    pub(crate) fate: Option<Fate>,
}

/// What is counted of one consumer group.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) name: Arc<str>,
    /// Partitions that have lanes now.
    pub(crate) partitions: AtomicU64,
    /// How often partitions came.
    pub(crate) assignments: AtomicU64,
    /// How often they went in good order, and how often they were lost.
    pub(crate) revocations: [AtomicU64; 2],
    /// How long it took to give them up.
    pub(crate) revoking: Histogram,
}

/// What is counted of the transactions of all workers.
#[derive(Debug)]
pub(crate) struct TransactionCounts {
    pub(crate) committed: AtomicU64,
    pub(crate) undone: AtomicU64,
    /// From the last record to the end, of those that were committed.
    pub(crate) committing: Histogram,
}

/// What is counted of traces.
#[derive(Debug, Default)]
pub(crate) struct TraceCounts {
    /// Records that were to be traced, of which there were too many.
    pub(crate) passed_over: AtomicU64,
    /// Spans that a collector has taken.
    pub(crate) sent: AtomicU64,
    /// Spans that nobody has taken, or not in time.
    pub(crate) lost: AtomicU64,
}

/// Counts since the start of the process.
#[derive(Debug)]
pub struct Counters {
    fates: Vec<[AtomicU64; Fate::ALL.len()]>,
    classes: Vec<[AtomicU64; FailureClass::ALL.len()]>,
    causes: Mutex<BTreeMap<Cause, u64>>,
    /// Fetched of each source topic of each route.
    fetched: Vec<Vec<[AtomicU64; 2]>>,
    /// Handed to the producer for each topic.
    topics: Vec<[AtomicU64; 2]>,
    /// Deliveries that the log has refused for themselves, and those that it did not take for another reason.
    failed_deliveries: Vec<[AtomicU64; 2]>,
    /// For each route: from the fetch of a batch until the last of its records has its fate.
    pub(crate) handling: Vec<Histogram>,
    /// The same, from when the first of them was written.
    pub(crate) ages: Vec<Histogram>,
    /// For each route, its plugins.
    calls: Vec<Vec<(PluginId, Calls)>>,
    pub(crate) groups: Vec<Membership>,
    pub(crate) transactions: TransactionCounts,
    pub(crate) traces: TraceCounts,
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
        let calls = |stages: &[StagePlan]| {
            let mut plugins: Vec<PluginId> = stages.iter().filter_map(StagePlan::plugin).collect();
            plugins.sort();
            plugins.dedup();
            plugins.into_iter().map(|plugin| (plugin, Calls::new())).collect()
        };
        let mut groups: Vec<&Arc<str>> = plan.routes.iter().map(|route| &route.group).collect();
        groups.sort();
        groups.dedup();
        let routes = || plan.routes.iter();
        Self {
            fates: routes().map(|_| Default::default()).collect(),
            classes: routes().map(|_| Default::default()).collect(),
            causes: Mutex::default(),
            fetched: routes().map(|route| route.sources.iter().map(|_| Default::default()).collect()).collect(),
            topics: plan.topics.iter().map(|_| Default::default()).collect(),
            failed_deliveries: routes().map(|_| Default::default()).collect(),
            handling: routes().map(|_| Histogram::new(TIMES)).collect(),
            ages: routes().map(|_| Histogram::new(TIMES)).collect(),
            calls: routes().map(|route| calls(&route.stages)).collect(),
            groups: groups.into_iter().map(|name| Membership::new(Arc::clone(name))).collect(),
            transactions: TransactionCounts {
                committed: AtomicU64::new(0),
                undone: AtomicU64::new(0),
                committing: Histogram::new(TIMES),
            },
            traces: TraceCounts::default(),
            paused: routes().map(|_| AtomicU64::new(0)).collect(),
            slow: plan.plugins.iter().map(|_| AtomicU64::new(0)).collect(),
            plugins: Mutex::new(plan.plugins.iter().map(|_| BTreeMap::new()).collect()),
        }
    }

    /// Adds what a lane has counted.
    pub(crate) fn add(&self, plan: &Plan, tally: &mut Tally) {
        let Tally { route, fates, outputs, .. } = tally;
        for (counter, count) in self.fates[*route].iter().zip(fates).filter(|(_, count)| **count > 0) {
            counter.fetch_add(std::mem::take(count), Ordering::Relaxed);
        }
        for (output, amount) in plan.routes[*route].outputs.iter().zip(outputs).filter(|(_, amount)| amount.records > 0)
        {
            add(&self.topics[output.topic.0 as usize], std::mem::take(amount));
        }
    }

    /// Adds what a lane has fetched, and what it is done with.
    pub(crate) fn add_intake(
        &self,
        tally: &Tally,
        fetched: Amount,
        settled: impl Iterator<Item = Settled>,
        now: crate::shared::Now,
    ) {
        let (route, source) = (tally.route, tally.source);
        if fetched.records > 0 {
            self.fetched[route].get(source).into_iter().for_each(|counters| add(counters, fetched));
        }
        for settled in settled {
            let (since_fetched, since_written) = settled.ages(now);
            self.handling[route].observe(since_fetched, settled.records);
            self.ages[route].observe(since_written, settled.records);
        }
    }

    /// A record of the route has failed, and this becomes of it; `None` where it is retried in place.
    pub(crate) fn failed(&self, route: usize, failure: &Failure, fate: Option<Fate>) {
        self.classes[route][failure.class as usize].fetch_add(1, Ordering::Relaxed);
        let mut cause = Cause { route, class: failure.class.name(), code: failure.code.clone(), fate };
        let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
        if causes.len() >= MAX_CODES && !causes.contains_key(&cause) {
            OTHER_CODES.clone_into(&mut cause.code);
        }
        *causes.entry(cause).or_default() += 1;
    }

    /// A record was handed to the producer, for another topic than an output's.
    pub(crate) fn produced(&self, topic: TopicId, bytes: usize) {
        add(&self.topics[topic.0 as usize], Amount { records: 1, bytes: bytes as u64 });
    }

    /// A delivery of the route has failed.
    pub(crate) fn delivery_failed(&self, route: usize, error: &DeliveryError) {
        let is_refused = matches!(error, DeliveryError::Refused { .. });
        self.failed_deliveries[route][usize::from(!is_refused)].fetch_add(1, Ordering::Relaxed);
    }

    /// The counts of a plugin's calls in a route, both by index.
    pub(crate) fn calls(&self, route: usize, plugin: PluginId) -> Option<&Calls> {
        self.calls[route].iter().find(|(other, _)| *other == plugin).map(|(_, calls)| calls)
    }

    /// The plugins of a route, by index, and the counts of their calls.
    pub(crate) fn calls_of(&self, route: usize) -> &[(PluginId, Calls)] {
        &self.calls[route]
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

    /// Failures by their causes.
    pub(crate) fn causes(&self) -> MutexGuard<'_, BTreeMap<Cause, u64>> {
        self.causes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was fetched of a source topic of a route, both by index.
    pub(crate) fn fetched(&self, route: usize, source: usize) -> Amount {
        self.fetched[route].get(source).map_or_else(Amount::default, read)
    }

    /// Deliveries of the route that were refused for themselves, and those that failed for another reason.
    pub(crate) fn failed_deliveries(&self, route: usize) -> [u64; 2] {
        let [refused, unavailable] = &self.failed_deliveries[route];
        [refused, unavailable].map(|count| count.load(Ordering::Relaxed))
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

    /// What was handed to the producer for this topic.
    pub(crate) fn topic(&self, topic: TopicId) -> Amount {
        read(&self.topics[topic.0 as usize])
    }
}

impl Membership {
    fn new(name: Arc<str>) -> Self {
        Self {
            name,
            partitions: AtomicU64::new(0),
            assignments: AtomicU64::new(0),
            revocations: Default::default(),
            revoking: Histogram::new(TIMES),
        }
    }

    /// Partitions have come.
    pub(crate) fn assigned(&self, partitions: usize) {
        self.assignments.fetch_add(1, Ordering::Relaxed);
        self.partitions.fetch_add(partitions as u64, Ordering::Relaxed);
    }

    /// Partitions that had lanes are given up, after so long.
    pub(crate) fn revoked(&self, partitions: usize, why: Revocation, took: Duration) {
        self.revocations[usize::from(why == Revocation::Lost)].fetch_add(1, Ordering::Relaxed);
        self.partitions.fetch_sub(partitions as u64, Ordering::Relaxed);
        self.revoking.observe(took.as_secs_f64(), 1);
    }
}

impl TransactionCounts {
    /// One was committed, so long after its last record.
    pub(crate) fn committed(&self, took: Duration) {
        self.committed.fetch_add(1, Ordering::Relaxed);
        self.committing.observe(took.as_secs_f64(), 1);
    }

    /// One was undone.
    pub(crate) fn undone(&self) {
        self.undone.fetch_add(1, Ordering::Relaxed);
    }
}

fn add([records, bytes]: &[AtomicU64; 2], amount: Amount) {
    records.fetch_add(amount.records, Ordering::Relaxed);
    bytes.fetch_add(amount.bytes, Ordering::Relaxed);
}

fn read([records, bytes]: &[AtomicU64; 2]) -> Amount {
    Amount { records: records.load(Ordering::Relaxed), bytes: bytes.load(Ordering::Relaxed) }
}
