//! Times and sizes that only make sense together.

use std::time::Duration;

use crate::findings::Findings;
use crate::raw::{Broker, Plugin, Route, Router, Stage};
use crate::units::{show_duration, show_size};

/// librdkafka's defaults, where `[broker.librdkafka]` does not set the property.
const SESSION_TIMEOUT: (&str, Duration) = ("session.timeout.ms", Duration::from_secs(45));
const MAX_POLL_INTERVAL: (&str, Duration) = ("max.poll.interval.ms", Duration::from_secs(300));

/// Checks all relations of times and sizes.
pub(super) fn check(
    router: Option<&Router>,
    broker: Option<&Broker>,
    plugins: &[Plugin],
    routes: &[Route],
    findings: &Findings,
) {
    if let (Some(router), Some(broker)) = (router, broker) {
        check_drain(router, broker, findings);
    }
    for route in routes {
        check_windows(route, findings);
        check_retry(route, findings);
        let stages = stages(route, plugins);
        check_time(route, &stages, router, broker, findings);
        for plugin in stages {
            check_memory(route, plugin, findings);
        }
    }
    for plugin in plugins {
        check_output(plugin, router, findings);
    }
}

fn stages<'p>(route: &Route, plugins: &'p [Plugin]) -> Vec<&'p Plugin> {
    let names = route.stages.iter().filter_map(|stage| match stage {
        Stage::Plugin(name) => Some(&name.value),
        Stage::Filter(_) => None,
    });
    names.filter_map(|name| plugins.iter().find(|plugin| plugin.name.value == *name)).collect()
}

/// A member that drains for longer than its session is expelled before it has committed.
fn check_drain(router: &Router, broker: &Broker, findings: &Findings) {
    let Broker::Kafka { .. } = broker else {
        if let Some(id) = &router.instance_id {
            let message = "`router.instance_id` has no meaning for the embedded log: a group has one member there";
            findings.warning(&id.span, message, "remove it");
        }
        return;
    };
    let session = property(broker, SESSION_TIMEOUT);
    if router.drain_deadline.value >= session {
        findings.mistake(
            &router.drain_deadline.span,
            format!(
                "`router.drain_deadline` of {} is not below the session timeout of {}: the group would expel the process before it has committed",
                show_duration(router.drain_deadline.value),
                show_duration(session)
            ),
            format!("shorten it, or raise \"{}\" in [broker.librdkafka]", SESSION_TIMEOUT.0),
        );
    }
}

/// Every batch must fit into what a lane may hold.
fn check_windows(route: &Route, findings: &Findings) {
    let name = &route.name.value;
    if route.batch_records.value > route.in_flight_records.value {
        findings.mistake(
            &route.batch_records.span,
            format!(
                "a batch of {} records does not fit into the {} that a lane of route `{name}` may have in flight",
                route.batch_records.value, route.in_flight_records.value
            ),
            "lower `batch.records`, or raise `in_flight.records`",
        );
    }
    if route.batch_bytes.value > route.in_flight_bytes.value {
        findings.mistake(
            &route.batch_bytes.span,
            format!(
                "a batch of {} does not fit into the {} that a lane of route `{name}` may have in flight",
                show_size(route.batch_bytes.value),
                show_size(route.in_flight_bytes.value)
            ),
            "lower `batch.bytes`, or raise `in_flight.bytes`",
        );
    }
}

fn check_retry(route: &Route, findings: &Findings) {
    let Some(retry) = &route.retry else { return };
    let (initial, schedule) = (retry.initial.value, &retry.schedule);
    if initial > schedule.max {
        let message = format!(
            "the first retry delay of route `{}`, {}, is longer than the longest, {}",
            route.name.value,
            show_duration(initial),
            show_duration(schedule.max)
        );
        findings.mistake(&retry.initial.span, message, "lower `retry.initial`, or raise `retry.max`");
    }
    if initial > schedule.max_elapsed {
        let message = format!(
            "route `{}` never retries: its first delay, {}, is longer than `retry.max_elapsed`, {}",
            route.name.value,
            show_duration(initial),
            show_duration(schedule.max_elapsed)
        );
        findings.mistake(&retry.initial.span, message, "raise `retry.max_elapsed`, or set `retry = false`");
    }
    if schedule.max_attempts == 1 {
        let message = format!("route `{}` never retries: `retry.max_attempts` counts the first run", route.name.value);
        findings.warning(&retry.span, message, "write 2 or more, or `retry = false`, which needs no retry topic");
    }
}

/// The longest that one batch can take: every record fails, and isolation has called each plugin with each record alone,
/// and with every group on the way there, which are fewer.
fn check_time(
    route: &Route,
    stages: &[&Plugin],
    router: Option<&Router>,
    broker: Option<&Broker>,
    findings: &Findings,
) {
    let calls = u32::try_from(route.batch_records.value.saturating_mul(2)).unwrap_or(u32::MAX);
    let worst = stages
        .iter()
        .fold(Duration::ZERO, |sum, plugin| sum.saturating_add(plugin.limits.deadline.value.saturating_mul(calls)));
    let longest = broker.map_or(MAX_POLL_INTERVAL.1, |broker| property(broker, MAX_POLL_INTERVAL));
    if matches!(broker, Some(Broker::Kafka { .. })) && worst >= longest {
        findings.mistake(
            &route.batch_records.span,
            format!(
                "one batch of route `{}` can take {}, and the group expels a process after {}",
                route.name.value,
                show_duration(worst),
                show_duration(longest)
            ),
            format!("that is 2 × `batch.records` × the deadlines of its stages: lower one of them, or raise \"{}\" in [broker.librdkafka]", MAX_POLL_INTERVAL.0),
        );
    }
    let Some(router) = router else { return };
    for plugin in stages.iter().filter(|plugin| plugin.limits.deadline.value >= router.drain_deadline.value) {
        findings.mistake(
            &plugin.limits.deadline.span,
            format!(
                "the deadline of plugin `{}`, {}, is not below `router.drain_deadline`, {}: a shutdown could not wait for one call",
                plugin.name.value,
                show_duration(plugin.limits.deadline.value),
                show_duration(router.drain_deadline.value)
            ),
            "lower the deadline, or raise `router.drain_deadline`",
        );
    }
}

/// A batch is copied into the plugin's memory as a whole.
fn check_memory(route: &Route, plugin: &Plugin, findings: &Findings) {
    let (batch, memory) = (route.batch_bytes.value, plugin.limits.memory.value);
    if batch.saturating_mul(2) > memory {
        findings.mistake(
            &route.batch_bytes.span,
            format!(
                "a batch of {} and its answer do not fit into the {} of memory that plugin `{}` of route `{}` has",
                show_size(batch),
                show_size(memory),
                plugin.name.value,
                route.name.value
            ),
            "lower `batch.bytes` to half the memory at most, or raise `limits.memory`",
        );
    }
}

/// What a plugin may answer, against what it can hold and what a topic takes.
fn check_output(plugin: &Plugin, router: Option<&Router>, findings: &Findings) {
    let (output, memory) = (&plugin.limits.output, plugin.limits.memory.value);
    if output.value > memory {
        findings.mistake(
            &output.span,
            format!(
                "plugin `{}` may answer {}, more than its memory of {} holds",
                plugin.name.value,
                show_size(output.value),
                show_size(memory)
            ),
            "lower `limits.output`, or raise `limits.memory`",
        );
    }
    let Some(record) = router.map(|router| router.max_record.value) else { return };
    let most = record.saturating_mul(plugin.limits.output_events);
    if output.value > most {
        findings.mistake(
            &output.span,
            format!(
                "plugin `{}` may answer {}, more than {} records of {} hold",
                plugin.name.value,
                show_size(output.value),
                plugin.limits.output_events,
                show_size(record)
            ),
            "lower `limits.output`, or raise `limits.output_events` or `router.max_record_size`",
        );
    }
    if output.value < record {
        findings.warning(
            &output.span,
            format!(
                "plugin `{}` may answer {} only, so it can't emit a record of `router.max_record_size`, {}",
                plugin.name.value,
                show_size(output.value),
                show_size(record)
            ),
            "raise `limits.output`, or lower `router.max_record_size`",
        );
    }
}

/// A property of librdkafka in milliseconds. One that is no number is librdkafka's to refuse.
fn property(broker: &Broker, (name, default): (&str, Duration)) -> Duration {
    let Broker::Kafka { librdkafka, .. } = broker else { return default };
    let value = librdkafka.get(name).and_then(|value| value.value.reveal().parse().ok());
    value.map_or(default, Duration::from_millis)
}
