//! Times and sizes that only make sense together.

use std::time::Duration;

use crate::findings::Findings;
use crate::plan::DeliveryPlan;
use crate::raw::{Breaker, Broker, Plugin, Route, Router, Stage};
use crate::units::{show_duration, show_size};

/// librdkafka's default, where `[broker.librdkafka]` does not set the property.
const SESSION_TIMEOUT: (&str, Duration) = ("session.timeout.ms", Duration::from_secs(45));
/// Set by the router to the larger of this and twice the drain deadline, where `[broker.librdkafka]` does not set it.
const MAX_POLL_INTERVAL: (&str, Duration) = ("max.poll.interval.ms", Duration::from_mins(5));
/// The router ends a step of a lane at most this much, and so many deadlines of each plugin of its route, after it began.
const STEP: Duration = Duration::from_secs(5);
const STEP_DEADLINES: u32 = 10;
/// A call may cost so many deadlines: those of an instance that is started and tries it, and of another that tries it once more.
const CALL_DEADLINES: u32 = 4;
/// What librdkafka receives at most, 100 MB unless this says otherwise, must hold a record and what comes with it.
const RECEIVE_MAX: &str = "receive.message.max.bytes";
const LARGE_RECORD: u64 = 64 << 20;

/// Checks all relations of times and sizes.
pub(super) fn check(
    router: Option<&Router>,
    broker: Option<&Broker>,
    plugins: &[Plugin],
    routes: &[Route],
    findings: &Findings,
) {
    for route in routes {
        check_windows(route, findings);
        check_retry(route, findings);
        check_breaker(route, findings);
        for plugin in plugins.iter().filter(|plugin| is_stage(route, plugin)) {
            check_memory(route, plugin, findings);
        }
    }
    for plugin in plugins {
        check_output(plugin, router, findings);
    }
    let (Some(router), Some(broker)) = (router, broker) else { return };
    check_drain(router, broker, findings);
    check_interval(router, broker, findings);
    for route in routes {
        check_step(route, plugins, router, broker, findings);
        check_transaction(route, plugins, router, broker, findings);
    }
    let stages: Vec<&Plugin> =
        plugins.iter().filter(|plugin| routes.iter().any(|route| is_stage(route, plugin))).collect();
    for plugin in &stages {
        check_deadline(plugin, router, findings);
    }
    check_record(router, broker, &stages, findings);
}

fn is_stage(route: &Route, plugin: &Plugin) -> bool {
    route.stages.iter().any(|stage| match stage {
        Stage::Plugin(name) => name.value == plugin.name.value,
        Stage::Filter(_) => false,
    })
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

fn check_breaker(route: &Route, findings: &Findings) {
    let Some(Breaker { terms, tokens, probe_initial, written }) = &route.breaker else { return };
    let name = &route.name.value;
    if let Some(written) = written
        && route.dead_letter.is_none()
    {
        let message = format!("the breaker of route `{name}` has nothing to guard: there are no dead letters");
        findings.warning(written, message, "remove it, or `dead_letter = false`");
    }
    if terms.tokens > terms.max_tokens.get() {
        let message = format!(
            "a lane of route `{name}` can't begin with {} tokens: it keeps {} at most",
            terms.tokens, terms.max_tokens
        );
        findings.mistake(tokens, message, "lower `breaker.initial`, or raise `breaker.max`");
    }
    if terms.probe_initial > terms.probe_max {
        let message = format!(
            "the first probe of route `{name}` comes after {}, later than the longest interval, {}",
            show_duration(terms.probe_initial),
            show_duration(terms.probe_max)
        );
        findings.mistake(probe_initial, message, "lower `breaker.probe_initial`, or raise `breaker.probe_max`");
    }
}

/// How long a step of a lane of this route may take, at most.
fn longest_step(route: &Route, plugins: &[Plugin]) -> Duration {
    let stages = plugins.iter().filter(|plugin| is_stage(route, plugin));
    let deadlines = stages.fold(Duration::ZERO, |sum, plugin| sum.saturating_add(plugin.limits.deadline.value));
    STEP.saturating_add(deadlines.saturating_mul(STEP_DEADLINES))
}

/// How long brokers leave a transaction open; the embedded log holds none open.
fn patience_of_brokers(router: &Router, broker: &Broker) -> Option<Duration> {
    match (&router.delivery.value, broker) {
        (DeliveryPlan::ExactlyOnce(transaction), Broker::Kafka { .. }) => Some(transaction.timeout),
        _ => None,
    }
}

/// A transaction is open while the records of all lanes of a worker are judged: one step alone must not outlast it. Without
/// plugins a step is short.
fn check_transaction(route: &Route, plugins: &[Plugin], router: &Router, broker: &Broker, findings: &Findings) {
    let Some(timeout) = patience_of_brokers(router, broker) else { return };
    let step = longest_step(route, plugins);
    if plugins.iter().any(|plugin| is_stage(route, plugin)) && step > timeout {
        findings.conflict(
            &route.name.span,
            (&router.delivery.span, "in a transaction"),
            format!(
                "a step of a lane of route `{}` can take {}, longer than the {} of `router.transaction.timeout`: brokers would abort its transaction, again and again",
                route.name.value,
                show_duration(step),
                show_duration(timeout)
            ),
            "that is 5s and ten deadlines of its plugins: lower a `limits.deadline`, or raise `timeout` in `router.transaction`",
        );
    }
}

/// Half of the time is for the records, the other half for having them acknowledged.
fn check_interval(router: &Router, broker: &Broker, findings: &Findings) {
    let Some(timeout) = patience_of_brokers(router, broker) else { return };
    if router.commit_interval > timeout / 2 {
        findings.mistake(
            &router.delivery.span,
            format!(
                "a transaction is open for the `router.commit_interval` of {}, which is more than half of the {} of `router.transaction.timeout`, after which brokers abort it",
                show_duration(router.commit_interval),
                show_duration(timeout)
            ),
            "shorten `commit_interval`, or raise `timeout` in `router.transaction`",
        );
    }
}

/// A lane waits for the steps of its worker's other lanes, and then has a step of its own to end before its partition can
/// be given up. So a step must be over in less than half of the time after which the group expels a process.
fn check_step(route: &Route, plugins: &[Plugin], router: &Router, broker: &Broker, findings: &Findings) {
    let step = longest_step(route, plugins);
    let (name, default) = MAX_POLL_INTERVAL;
    let patience = property(broker, (name, default.max(router.drain_deadline.value.saturating_mul(2))));
    if matches!(broker, Broker::Kafka { .. }) && step.saturating_mul(2) >= patience {
        findings.mistake(
            &route.name.span,
            format!(
                "a step of a lane of route `{}` can take {}, which is not below half of the {} after which the group expels a process",
                route.name.value,
                show_duration(step),
                show_duration(patience)
            ),
            format!("that is 5s and ten deadlines of its plugins: lower a `limits.deadline`, or raise \"{name}\" in [broker.librdkafka]"),
        );
    }
}

/// That a shutdown is over before a call is, is allowed: what it gives up is not settled, and runs again.
fn check_deadline(plugin: &Plugin, router: &Router, findings: &Findings) {
    let (name, deadline, drain) = (&plugin.name.value, &plugin.limits.deadline, router.drain_deadline.value);
    let call = deadline.value.saturating_mul(CALL_DEADLINES);
    if call >= drain {
        findings.warning(
            &deadline.span,
            format!(
                "four deadlines of plugin `{name}`, {}, are not below `router.drain_deadline`, {}: a shutdown may have to give up the call in progress",
                show_duration(call),
                show_duration(drain)
            ),
            "lower `limits.deadline`, or raise `router.drain_deadline`",
        );
    }
}

/// The largest record, against what has to take it.
fn check_record(router: &Router, broker: &Broker, stages: &[&Plugin], findings: &Findings) {
    let record = &router.max_record;
    if let Some(plugin) = stages.iter().min_by_key(|plugin| plugin.limits.memory.value)
        && record.value > plugin.limits.memory.value / 2
    {
        findings.warning(
            &record.span,
            format!(
                "a record of `router.max_record_size`, {}, and its answer do not fit into the {} of memory that plugin `{}` has: it can only fail as `memory`",
                show_size(record.value),
                show_size(plugin.limits.memory.value),
                plugin.name.value
            ),
            "lower `router.max_record_size` to half the memory at most, or raise `limits.memory`",
        );
    }
    let is_kafka = matches!(broker, Broker::Kafka { .. });
    if is_kafka && record.value > LARGE_RECORD && number(broker, RECEIVE_MAX).is_none_or(|most| most <= record.value) {
        findings.warning(
            &record.span,
            format!(
                "records of `router.max_record_size`, {}, may be too large for librdkafka, which receives 100 MB at once, and for the brokers",
                show_size(record.value)
            ),
            format!("raise \"{RECEIVE_MAX}\" in [broker.librdkafka] and the brokers' `message.max.bytes`, or lower `router.max_record_size`"),
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

/// A property of librdkafka in milliseconds.
fn property(broker: &Broker, (name, default): (&str, Duration)) -> Duration {
    number(broker, name).map_or(default, Duration::from_millis)
}

/// A property of librdkafka. One that is no number is librdkafka's to refuse.
fn number(broker: &Broker, name: &str) -> Option<u64> {
    let Broker::Kafka { librdkafka, .. } = broker else { return None };
    librdkafka.get(name)?.value.reveal().parse().ok()
}
