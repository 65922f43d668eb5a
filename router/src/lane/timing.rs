//! Slow pills: records that take long enough to become poison pills one day.

use std::sync::Arc;
use std::time::Duration;

use pointsman_config::Plan;
use pointsman_core::event::Event;
use pointsman_core::port::{CallError, Cost, PluginHost, PluginId};
use pointsman_core::verdict::Verdicts;

use super::Lane;
use crate::counters::Counters;
use crate::shared::Now;

/// Plugins whose calls are counted, with what they cost; and which events were slow. Of a call for several that is not known.
pub(super) struct Timed<'a> {
    pub(super) plugins: &'a mut dyn PluginHost,
    pub(super) plan: &'a Plan,
    pub(super) counters: &'a Counters,
    /// Whose calls they are, by its index.
    pub(super) route: usize,
    pub(super) slow: Vec<Slow>,
}

/// An event that alone took more than half of its plugin's deadline.
pub(super) struct Slow {
    plugin: PluginId,
    topic: Arc<str>,
    partition: i32,
    offset: i64,
    took: Duration,
}

impl PluginHost for Timed<'_> {
    fn call(&mut self, plugin: PluginId, events: &[Event<'_>], now_ms: i64) -> Result<Verdicts, CallError> {
        let answer = self.plugins.call(plugin, events, now_ms);
        let Some(cost) = self.plugins.last_cost() else { return answer };
        let deadline = self.plan.plugins[plugin.0 as usize].limits.deadline;
        if let Some(calls) = self.counters.calls(self.route, plugin) {
            calls.count(events.len(), cost, deadline, answer.as_ref().err());
        }
        if let [Event { topic, partition, offset, .. }] = *events
            && let Cost { cpu: took, tries: 1, .. } = cost
            && answer.is_ok()
            && took > deadline / 2
        {
            self.slow.push(Slow { plugin, topic: topic.into(), partition, offset, took });
        }
        answer
    }

    fn last_cost(&self) -> Option<Cost> {
        self.plugins.last_cost()
    }

    fn take_counts(&mut self, see: &mut dyn FnMut(PluginId, &str, u64)) {
        self.plugins.take_counts(see);
    }
}

impl Lane {
    /// Counts slow events, and writes some of them to the log.
    pub(super) fn tell_slow(&mut self, slow: Vec<Slow>, now: Now) {
        for Slow { plugin, topic, partition, offset, took } in slow {
            self.shared.counters.slow(plugin);
            let Some(others) = self.slow_log.may_speak(now.instant) else { continue };
            let plugin = &self.shared.plan.plugins[plugin.0 as usize];
            tracing::warn!(
                plugin = %plugin.name,
                %topic,
                partition,
                offset,
                ?took,
                deadline = ?plugin.limits.deadline,
                others_since_the_last = others,
                "a slow record: alone it took more than half of the plugin's deadline"
            );
        }
    }
}
