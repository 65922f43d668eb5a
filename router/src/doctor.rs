//! Whether a log is fit for a plan: what `pointsman doctor` finds.
//!
//! Questions are asked first ([`pointsman_core::port::survey`]), and nothing is changed by them; what the answers mean is
//! judged apart from that, by functions of the plan and the answers alone.

mod cluster;
mod file;
mod progress;
mod rights;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use pointsman_config::Plan;
use pointsman_config::plan::BrokerPlan;
use pointsman_core::port::LogError;
use pointsman_core::port::survey::Question;
use serde::Serialize;

use crate::topology::{self, StartError};

/// What was found of one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: "topic orders.v1".
    pub thing: String,
    /// What is so.
    pub cause: String,
    /// What can be done about it; `None` where nothing has to be.
    pub remedy: Option<String>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// The router runs, and something may go wrong that need not.
    Warning,
    /// The router does not run, or loses something.
    Error,
}

impl Severity {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl Finding {
    fn ok(thing: impl Into<String>, cause: impl Into<String>) -> Self {
        Self { severity: Severity::Ok, thing: thing.into(), cause: cause.into(), remedy: None }
    }

    fn warning(thing: impl Into<String>, cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, thing: thing.into(), cause: cause.into(), remedy: Some(remedy.into()) }
    }

    fn error(thing: impl Into<String>, cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Error, ..Self::warning(thing, cause, remedy) }
    }

    /// Something could not be asked.
    fn unasked(severity: Severity, thing: impl Into<String>, error: &LogError, remedy: &str) -> Self {
        let cause = format!("{}: {} ({})", error.what, error.message, error.code);
        Self { severity, thing: thing.into(), cause, remedy: Some(remedy.to_owned()) }
    }
}

/// Asks the plan's log, and judges what it says. `directory` is that of the configuration file, `principal` who the router is
/// to the cluster.
///
/// # Errors
/// [`StartError`]: what the plan says of the log is refused at once.
pub fn examine(plan: &Plan, directory: &Path, principal: &str) -> Result<Vec<Finding>, StartError> {
    match &plan.broker {
        BrokerPlan::Kafka { bootstrap, librdkafka, .. } => {
            let settings = topology::kafka_settings(plan, bootstrap, librdkafka);
            let survey = pointsman_kafka::survey(&settings, &question(plan))?;
            let mut findings = cluster::judge(plan, &survey);
            findings.extend(rights::judge(plan, &survey, bootstrap, principal));
            if survey.brokers.is_ok() {
                let log = topology::open_log(plan, directory)?;
                findings.extend(progress::judge(plan, &progress::ask(plan, &*log, &survey)));
            }
            Ok(findings)
        }
        BrokerPlan::Embedded { directory: log, max_bytes, .. } => {
            let log = directory.join(log);
            let survey = pointsman_embedded::survey(&log, &topology::embedded_options(plan, *max_bytes));
            Ok(file::judge(plan, &log, *max_bytes, survey, file::free_bytes(&log)))
        }
    }
}

/// What a cluster is asked for.
fn question(plan: &Plan) -> Question {
    let sources = plan.routes.iter().flat_map(|route| &route.sources).map(|source| &source.topic);
    let topics: BTreeSet<&Arc<str>> = sources.chain(plan.topics.iter().map(|topic| &topic.name)).collect();
    let groups: BTreeSet<&Arc<str>> = plan.routes.iter().map(|route| &route.group).collect();
    Question { topics: topics.into_iter().cloned().collect(), groups: groups.into_iter().cloned().collect() }
}

/// `1 broker`, `2 brokers`.
fn counted(count: impl Into<u64>, thing: &str) -> String {
    let count = count.into();
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}
