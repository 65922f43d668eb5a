//! The router at work: its workers, and its memberships in consumer groups.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

use pointsman_config::Plan;
use pointsman_config::plan::{BrokerPlan, DeliveryPlan, RoutePlan};
use pointsman_core::port::{GroupPlan, Membership, PluginHost, PluginId, SinkFailed, SourceTopic, WriterPlan};

use crate::counters::Counters;
use crate::dispatch::{Dispatcher, Workers};
use crate::lanes::Lanes;
use crate::samples::Samples;
use crate::shared::{Limiters, Shared};
use crate::telemetry::Telemetry;
use crate::topology::{self, StartError, Topology};
use crate::traces::{self, Exporting};
use crate::worker::{self, Equipment, OutputSink, Sleeper};

/// A router that runs until it is stopped.
pub struct Running {
    memberships: Vec<Box<dyn Membership>>,
    workers: Option<Arc<Workers>>,
    plan: Arc<Plan>,
    groups: Vec<Arc<Dispatcher>>,
    threads: Vec<JoinHandle<()>>,
    counters: Arc<Counters>,
    samples: Arc<Samples>,
    /// Their names.
    plugins: Vec<Arc<str>>,
    drain_deadline: std::time::Duration,
    /// Sends traces, where records are traced.
    exporting: Option<Exporting>,
}

/// Starts the router. `failed` is told, on any thread and perhaps more than once, why it can't go on; it is to be
/// stopped then.
///
/// # Errors
/// [`StartError`]; nothing runs then.
pub fn start(
    topology: &Topology,
    failed: impl Fn(SinkFailed) + Clone + Send + Sync + 'static,
) -> Result<Running, StartError> {
    let plan = &topology.plan;
    let counters = Arc::new(Counters::new(plan));
    let digest = |index| topology.plugins.get(PluginId(index)).map(|plugin| plugin.digest().to_string().into());
    let (tracer, exporting) = traces::start(plan, &counters)?.unzip();
    let shared = Arc::new(Shared {
        plan: Arc::clone(plan),
        digests: (0..).map_while(digest).collect(),
        limiters: Limiters::new(plan),
        counters: Arc::clone(&counters),
        alone: Arc::default(),
        baggage: Default::default(),
        reader: {
            let log = Arc::clone(&topology.log);
            Box::new(move |partition, offset| log.read(partition, offset))
        },
        tracer,
        samples: Arc::default(),
    });
    let topics: Vec<Arc<str>> = plan.topics.iter().map(|topic| Arc::clone(&topic.name)).collect();

    let mut running = Running {
        memberships: Vec::new(),
        workers: None,
        plan: Arc::clone(plan),
        groups: Vec::new(),
        threads: Vec::new(),
        counters,
        samples: Arc::clone(&shared.samples),
        plugins: plan.plugins.iter().map(|plugin| Arc::clone(&plugin.name)).collect(),
        drain_deadline: plan.router.drain_deadline,
        exporting,
    };
    // Whose transactions they are: told apart from those of other processes, and of an earlier one with the same `instance_id`.
    let instance = plan.router.instance_id.clone().unwrap_or_else(|| format!("{:032x}", fastrand::u128(..)));
    let mut handles = Vec::new();
    for index in 0..topology::workers(plan).get() {
        let sleeper = Sleeper::default();
        let sink = match &plan.router.delivery {
            DeliveryPlan::AtLeastOnce => {
                let mut sink = topology.log.sink(&topics, worker::waker(&sleeper))?;
                sink.expect_few(&plan.topics_of_failures())?;
                OutputSink::Apart(sink)
            }
            DeliveryPlan::ExactlyOnce(transaction) => {
                let id = format!("{}.{instance}.{index}", plan.router.name);
                let writer = WriterPlan { timeout: transaction.timeout, ..WriterPlan::new(id, topics.clone()) };
                let sink = topology.log.transactional_sink(writer, worker::waker(&sleeper))?;
                OutputSink::Together(sink, transaction.clone())
            }
        };
        let plugins: Box<dyn PluginHost + Send> = Box::new(topology.plugins.worker());
        let equipment = Equipment { sink, plugins };
        let (handle, thread) = worker::start(index, Arc::clone(&shared), equipment, &sleeper, failed.clone())?;
        handles.push(handle);
        running.threads.push(thread);
    }
    let workers = Arc::new(Workers::new(handles));
    running.workers = Some(Arc::clone(&workers));

    let groups = groups(&plan.routes);
    let fetch_ahead_of_all_bytes = match &plan.broker {
        BrokerPlan::Kafka { fetch_ahead_bytes, .. } => fetch_ahead_bytes / groups.len().max(1),
        BrokerPlan::Embedded { .. } => usize::MAX,
    };
    for (number, (group, routes)) in groups.into_iter().enumerate() {
        let committer = Arc::new(OnceLock::new());
        let dispatcher = Arc::new(Dispatcher {
            workers: Arc::clone(&workers),
            routes: routes
                .iter()
                .flat_map(|(index, route)| route.sources.iter().map(|source| (Arc::clone(&source.topic), *index)))
                .collect(),
            committer: Arc::clone(&committer),
            placed: Mutex::new(HashMap::new()),
            unread: Mutex::new(HashMap::new()),
            counters: Arc::clone(&running.counters),
            group: number,
            failed: Box::new(failed.clone()),
        });
        running.groups.push(Arc::clone(&dispatcher));
        let sources = routes.iter().flat_map(|(_, route)| {
            route.sources.iter().map(|source| SourceTopic {
                topic: Arc::clone(&source.topic),
                retry_topic: source.retry.map(|topic| Arc::clone(&topics[topic.0 as usize])),
                start: route.start,
            })
        });
        let group_plan = GroupPlan {
            group,
            instance_id: plan.router.instance_id.clone(),
            sources: sources.collect(),
            // A batch: while less is there, the next answer is on its way.
            fetch_ahead_bytes: routes.iter().map(|(_, route)| route.batch_bytes.get()).max().unwrap_or(1 << 20),
            fetch_ahead_of_all_bytes,
            revoke_deadline: plan.router.drain_deadline,
        };
        match topology.log.join(group_plan, dispatcher) {
            Ok(membership) => {
                let _ = committer.set(membership.committer());
                running.memberships.push(membership);
            }
            Err(error) => {
                running.stop();
                return Err(error.into());
            }
        }
    }
    Ok(running)
}

/// The routes of each group, with their indices in the plan.
fn groups(routes: &[RoutePlan]) -> BTreeMap<Arc<str>, Vec<(usize, &RoutePlan)>> {
    let mut groups: BTreeMap<Arc<str>, Vec<_>> = BTreeMap::new();
    for (index, route) in routes.iter().enumerate() {
        groups.entry(Arc::clone(&route.group)).or_default().push((index, route));
    }
    groups
}

impl Running {
    /// What became of the records so far.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Its lanes, to be asked and told, until it has stopped. Afterwards there are none.
    #[must_use]
    pub fn lanes(&self) -> Lanes {
        let workers = self.workers.as_ref().map_or_else(|| Arc::new(Workers::new(Vec::new())), Arc::clone);
        Lanes { plan: Arc::clone(&self.plan), workers, groups: self.groups.clone() }
    }

    /// Who watches its records come to their fates.
    pub(crate) fn samples(&self) -> Arc<Samples> {
        Arc::clone(&self.samples)
    }

    /// Begins to look at it, for metrics and health.
    ///
    /// # Errors
    /// The system's, if it gives no thread.
    pub fn telemetry(&self, topology: &Topology) -> std::io::Result<Telemetry> {
        Telemetry::start(self.counters(), self.lanes(), topology.plugins.clone(), Arc::clone(&topology.log))
    }

    /// Stops: no more records are taken in, what is judged is delivered, what is settled is committed. The answer is
    /// whether all of that was done within the plan's drain deadline.
    pub fn stop(mut self) -> bool {
        let deadline = self.drain_deadline;
        // All groups at once: the deadline is one for all, and none takes in more while it waits for its turn.
        let mut clean = std::thread::scope(|scope| {
            let leaving: Vec<_> = std::mem::take(&mut self.memberships)
                .into_iter()
                .map(|membership| scope.spawn(move || membership.leave(deadline)))
                .collect();
            let left = leaving.into_iter().map(|leaving| leaving.join().unwrap_or(false));
            left.collect::<Vec<_>>().into_iter().all(|clean| clean)
        });
        if let Some(workers) = self.workers.take() {
            workers.end();
        }
        if !clean {
            // A thread that hangs in a client library is left to the end of the process.
            return false;
        }
        for thread in self.threads.drain(..) {
            clean &= thread.join().is_ok();
        }
        if let Some(exporting) = self.exporting.take() {
            exporting.finish();
        }
        for (plugin, counter, count) in self.counters.plugin_counts() {
            tracing::info!(plugin = %self.plugins[plugin], counter, count, "the plugin has counted");
        }
        clean
    }
}
