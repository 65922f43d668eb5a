//! `[router]`.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::{Field, Table, Text};
use crate::names::name_fault;
use crate::plan::{DeliveryPlan, RouterPlan, TransactionPlan};
use crate::raw::{At, Router};

const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// Outputs are seen when they are committed.
const TRANSACTION_INTERVAL: Duration = Duration::from_millis(100);
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);
/// 1 MiB: Kafka's default for a topic is a little more.
const MAX_RECORD: u64 = 1 << 20;

pub(super) fn read(top: &Table<'_>) -> Option<Router> {
    let table = top.required("router", "add a [router] table with a `name`")?.table()?;
    let name =
        table.required("name", "add `name = \"…\"`: the consumer group derives from it").and_then(|field| name(&field));
    let group = table.get("group").and_then(|field| group(&field));
    let instance_id = table.get("instance_id").and_then(|field| instance_id(&field));
    let workers = table.get("workers").and_then(|field| field.integer(1..=RouterPlan::WORKERS_MAX as u64));
    let commit_interval = table
        .get("commit_interval")
        .and_then(|field| field.duration(Duration::from_millis(10)..=Duration::from_mins(5)))
        .map(|at| at.value);
    let drain_deadline = table
        .get("drain_deadline")
        .and_then(|field| field.duration(Duration::from_millis(100)..=Duration::from_hours(1)))
        .unwrap_or_else(|| At::new(DRAIN_DEADLINE, table.span.clone()));
    let exactly_once = table.get("delivery").and_then(|field| Some(At::new(delivery(&field)?, field.span)));
    let exactly_once = exactly_once.unwrap_or_else(|| At::new(false, table.span.clone()));
    let transaction = table.get("transaction").and_then(|field| transaction(&field, exactly_once.value));
    let transaction = transaction.unwrap_or_default();
    let interval = if exactly_once.value { TRANSACTION_INTERVAL } else { COMMIT_INTERVAL };
    let max_record = table
        .get("max_record_size")
        .and_then(|field| field.size(1 << 10..=1 << 28))
        .unwrap_or_else(|| At::new(MAX_RECORD, table.span.clone()));
    let span = table.span.clone();
    table.finish();
    let name = name?;
    Some(Router {
        group: group.unwrap_or_else(|| At::new(name.clone(), span)),
        name,
        instance_id,
        workers: workers.and_then(|workers| NonZeroUsize::new(usize::try_from(workers).ok()?)),
        delivery: At {
            value: if exactly_once.value { DeliveryPlan::ExactlyOnce(transaction) } else { DeliveryPlan::AtLeastOnce },
            span: exactly_once.span,
        },
        commit_interval: commit_interval.unwrap_or(interval),
        drain_deadline,
        max_record,
    })
}

/// A name of ours: a router's or a route's.
pub(super) fn name(field: &Field<'_>) -> Option<String> {
    let Text { value, shown, .. } = field.text("\"orders\"")?;
    if let Some(fault) = name_fault(&value) {
        field.wrong(
            &format!("can't be {shown:?}: {fault}"),
            "use letters, digits, `.`, `_` and `-`: topics are named after it",
        );
        return None;
    }
    Some(value)
}

/// A consumer group.
pub(super) fn group(field: &Field<'_>) -> Option<At<String>> {
    let text = field.text("\"orders\"")?;
    if text.value.is_empty() || text.value.len() > 255 || text.value.contains(char::is_control) {
        field.wrong(
            "is not the name of a consumer group",
            "write 1 to 255 characters without line breaks and their like, or leave it out for the router's name",
        );
        return None;
    }
    Some(At::new(text.value, text.span))
}

fn instance_id(field: &Field<'_>) -> Option<At<String>> {
    let text = field.text("\"${HOSTNAME}\"")?;
    if !text.from_variable {
        field.wrong(
            "is the same for every process that reads this file, so two of them would fence each other",
            "take it from what differs between processes, such as \"${HOSTNAME}\"",
        );
        return None;
    }
    if let Some(fault) = name_fault(&text.value) {
        // The value comes from the environment: the fault may be told, the value may not.
        let fault = if text.value.is_empty() {
            fault
        } else {
            "it has characters that Kafka does not take, or too many".to_owned()
        };
        field.wrong(&format!("is not an instance id: {fault}"), "use letters, digits, `.`, `_` and `-`");
        return None;
    }
    Some(At::new(text.value, text.span))
}

/// Whether it is exactly-once.
fn delivery(field: &Field<'_>) -> Option<bool> {
    field.choice(&[("at-least-once", false), ("exactly-once", true)])
}

fn transaction(field: &Field<'_>, exactly_once: bool) -> Option<TransactionPlan> {
    if !exactly_once {
        field.wrong("has no effect without `delivery = \"exactly-once\"`", "remove it");
    }
    let table = field.table()?;
    let usual = TransactionPlan::default();
    let timeout = table.get("timeout").map_or(Some(usual.timeout), |field| {
        field.duration(Duration::from_secs(1)..=Duration::from_mins(15)).map(|at| at.value)
    });
    let records =
        table.get("records").map_or(Some(usual.records), |field| usize::try_from(field.integer(1..=10_000_000)?).ok());
    let bytes =
        table.get("size").map_or(Some(usual.bytes), |field| usize::try_from(field.size(1 << 10..=1 << 30)?.value).ok());
    table.finish();
    Some(TransactionPlan { timeout: timeout?, records: records?, bytes: bytes? })
}
