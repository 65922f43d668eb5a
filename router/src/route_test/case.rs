//! A case, resolved: what a test file says, with indices where it has names.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pointsman_core::condition::Condition;
use pointsman_core::failure::FailureClass;
use pointsman_core::port::PluginId;
use pointsman_core::record::{OwnedHeader, OwnedRecord};
use pointsman_core::verdict::Verdict;

use crate::counters::Fate;

/// One of `[[cases]]`.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// Index in the plan.
    pub(crate) route: usize,
    /// What the clock says at the start, in milliseconds since 1970-01-01 UTC.
    pub(crate) now_ms: i64,
    pub(crate) advance: Advance,
    /// Of the jitter of retries.
    pub(crate) seed: u64,
    /// Of each topic.
    pub(crate) partitions: u32,
    pub(crate) given: Vec<Given>,
    pub(crate) verdicts: BTreeMap<PluginId, Vec<HandVerdict>>,
    /// The deliveries, in the order of each topic; `None` where they are not looked at.
    pub(crate) expect: Option<Vec<Expected>>,
}

/// How far the clock may jump ahead to what is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advance {
    By(Duration),
    UntilDone,
}

/// One of `[[cases.given]]`.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) topic: Arc<str>,
    /// `None` has it chosen by the key, as producers do.
    pub(crate) partition: Option<i32>,
    /// Its offset is found when it is written.
    pub(crate) record: OwnedRecord,
    /// Above 1: it is in the retry topic, and due.
    pub(crate) attempt: u32,
    /// `None` where its fate is not looked at.
    pub(crate) fate: Option<ExpectedFate>,
}

/// How a record is to end. What is `None` is not looked at.
#[derive(Debug, Default)]
pub(crate) struct ExpectedFate {
    /// The inner `None` is for a record that has no fate, since its lane halted before it.
    pub(crate) fate: Option<Fate>,
    pub(crate) reason: Option<String>,
    pub(crate) class: Option<FailureClass>,
    pub(crate) code: Option<String>,
}

/// A verdict by hand.
#[derive(Debug)]
pub(crate) struct HandVerdict {
    pub(crate) meant_for: MeantFor,
    pub(crate) says: Says,
}

/// Which events a verdict by hand is for.
#[derive(Debug)]
pub(crate) enum MeantFor {
    /// The next event for which none with a condition is meant.
    Once,
    /// Every event for which the condition holds.
    When(Condition),
    /// Every event.
    Always,
}

/// What a plugin does, by hand.
#[derive(Debug)]
pub(crate) enum Says {
    Verdict(Verdict),
    /// It does not return cleanly.
    Fails(FailureClass),
}

/// One of `[[cases.expect]]`. What is `Any` or `None` is not looked at.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: Option<i32>,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) key: Want,
    pub(crate) value: Want,
    /// These at least: the last header of each name has this value.
    pub(crate) headers: Vec<OwnedHeader>,
    /// These and no others, in this order.
    pub(crate) exact_headers: Option<Vec<OwnedHeader>>,
}

/// What a nullable field is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Any,
    Null,
    /// Compared as JSON, where both are JSON.
    Bytes(Vec<u8>),
}
