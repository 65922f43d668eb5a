//! Judges brokers, topics and groups against the plan.

use std::collections::BTreeSet;
use std::sync::Arc;

use pointsman_config::Plan;
use pointsman_config::plan::{DeliveryPlan, RoutePlan, TopicPlan, TopicRole, TransactionPlan};
use pointsman_core::port::survey::{BrokerSurvey, ClusterSurvey, GroupSurvey, TopicSurvey};

use super::{Finding, Severity, counted};
use crate::topology::topics::{add_partitions, alter, too_narrow, unfit};

/// How the members of our groups share partitions.
const ASSIGNOR: &str = "cooperative-sticky";

/// What the router asks of brokers: the API key, the version, what it is for, since which Kafka there is such, and what it
/// means that there is none.
struct Need {
    key: i16,
    version: i16,
    what: &'static str,
    since: &'static str,
    severity: Severity,
}

/// Everything but rights and progress.
pub(super) fn judge(plan: &Plan, survey: &ClusterSurvey) -> Vec<Finding> {
    let brokers = match &survey.brokers {
        Ok(brokers) => brokers,
        Err(error) => {
            let remedy = "see that the brokers run, and that `[broker]` names them as they are reached from here";
            return vec![Finding::unasked(Severity::Error, "cluster", error, remedy)];
        }
    };
    let mut findings = Vec::new();
    if brokers.len() == 1 {
        findings.push(Finding::warning(
            "cluster",
            "it has one broker, whose disk is all there is, and without which nothing is read or written",
            "fine for a test; else have three brokers, and topics with three replicas",
        ));
    }
    for broker in brokers {
        judge_broker(plan, broker, brokers.len(), &mut findings);
    }
    for name in sources(plan) {
        judge_topic(plan, name, None, survey, brokers.len(), &mut findings);
    }
    for topic in &plan.topics {
        judge_topic(plan, &topic.name, Some(topic), survey, brokers.len(), &mut findings);
    }
    for route in &plan.routes {
        judge_width(plan, route, survey, &mut findings);
    }
    for (name, group) in &survey.groups {
        match group {
            Ok(Some(group)) => judge_group(plan, name, group, &mut findings),
            Ok(None) => findings.push(Finding::ok(format!("group {name}"), "nobody has joined it yet")),
            Err(error) => {
                let remedy = "allow Describe or Read on the group: `pointsman check --acls` has the command";
                findings.push(Finding::unasked(Severity::Error, format!("group {name}"), error, remedy));
            }
        }
    }
    findings
}

/// The topics that are read and not written by the router, or not only.
fn sources(plan: &Plan) -> BTreeSet<&Arc<str>> {
    let all = plan.routes.iter().flat_map(|route| &route.sources).map(|source| &source.topic);
    all.filter(|name| !plan.topics.iter().any(|topic| topic.name == **name)).collect()
}

fn needs(plan: &Plan) -> Vec<Need> {
    let need = |key, version, what, since| Need { key, version, what, since, severity: Severity::Error };
    let mut needs = vec![need(22, 0, "idempotent writing (InitProducerId)", "0.11")];
    if matches!(plan.router.delivery, DeliveryPlan::ExactlyOnce(_)) {
        needs.push(need(24, 0, "transactions (AddPartitionsToTxn)", "0.11"));
        needs.push(need(25, 0, "transactions (AddOffsetsToTxn)", "0.11"));
        needs.push(need(26, 0, "transactions (EndTxn)", "0.11"));
        needs.push(need(28, 3, "transactions that are fenced with their group (KIP-447: TxnOffsetCommit 3)", "2.5"));
    }
    if plan.topics.iter().any(|topic| matches!(topic.role, TopicRole::Retry { .. })) {
        let trimming = need(21, 0, "removing what is settled from retry topics (DeleteRecords)", "0.11");
        needs.push(Need { severity: Severity::Warning, ..trimming });
    }
    needs
}

fn judge_broker(plan: &Plan, broker: &BrokerSurvey, brokers: usize, findings: &mut Vec<Finding>) {
    let thing = || format!("broker {} ({})", broker.id, broker.address);
    let before = findings.len();
    match &broker.settings {
        Ok(settings) => {
            let number = |name: &str| settings.get(name).and_then(|value| value.parse::<u64>().ok());
            if let DeliveryPlan::ExactlyOnce(transaction) = &plan.router.delivery {
                judge_transactions(thing(), transaction, number, brokers, findings);
            }
        }
        Err(error) if broker.is_silent => {
            let remedy = "see that it runs, and that its advertised listener can be reached from here";
            findings.push(Finding::unasked(Severity::Error, thing(), error, remedy));
            return;
        }
        Err(error) => {
            let remedy =
                "nothing has to be done; with DescribeConfigs on the cluster its limits of transactions are compared";
            findings.push(Finding::unasked(Severity::Warning, thing(), error, remedy));
        }
    }
    match &broker.requests {
        Some(requests) => {
            for Need { key, version, what, since, severity } in needs(plan) {
                if requests.get(&key).is_none_or(|most| *most < version) {
                    let remedy = format!("Apache Kafka has it since {since}: upgrade the broker");
                    findings
                        .push(Finding { severity, ..Finding::warning(thing(), format!("it lacks {what}"), remedy) });
                }
            }
        }
        None => findings.push(Finding::warning(
            thing(),
            "it has not said which requests it takes, so whether it has all that the router needs is not known",
            "look up its version: the router needs Apache Kafka 2.5 or later",
        )),
    }
    if findings.len() == before {
        findings.push(Finding::ok(thing(), "it answers, and takes the requests that the router makes"));
    }
}

fn judge_transactions(
    thing: String,
    transaction: &TransactionPlan,
    number: impl Fn(&str) -> Option<u64>,
    brokers: usize,
    findings: &mut Vec<Finding>,
) {
    let timeout = transaction.timeout.as_millis();
    if let Some(most) = number("transaction.max.timeout.ms")
        && u128::from(most) < timeout
    {
        findings.push(Finding::error(
            thing.clone(),
            format!("it allows transactions of {most} ms (transaction.max.timeout.ms), and `router.transaction.timeout` is {timeout} ms"),
            "lower `timeout` in `router.transaction`, or raise the broker's setting",
        ));
    }
    // With one broker that has been said.
    let names = ["transaction.state.log.replication.factor", "transaction.state.log.min.isr"];
    for name in names.into_iter().filter(|_| brokers > 1) {
        if number(name) == Some(1) {
            findings.push(Finding::warning(
                thing.clone(),
                format!("{name} is 1: with one broker's disk, the state of all transactions is lost"),
                format!("set it to {}", if name.ends_with("factor") { 3 } else { 2 }),
            ));
        }
    }
}

/// `written` is the topic as the plan has it; `None` for one that is only read.
fn judge_topic(
    plan: &Plan,
    name: &Arc<str>,
    written: Option<&TopicPlan>,
    survey: &ClusterSurvey,
    brokers: usize,
    findings: &mut Vec<Finding>,
) {
    let thing = format!("topic {name}");
    let is_ours = written.is_some_and(|topic| topic.role != TopicRole::Output);
    let topic = match survey.topics.get(name) {
        Some(Ok(Some(topic))) => topic,
        Some(Err(error)) => {
            let remedy = "`pointsman check --acls` has the commands that allow what the router needs";
            findings.push(Finding::unasked(Severity::Error, thing, error, remedy));
            return;
        }
        Some(Ok(None)) | None => {
            findings.push(if is_ours {
                Finding::ok(thing, "it is not there: the router makes it when it starts")
            } else {
                let remedy = "create it, or correct its name in the configuration: the router does not make it";
                Finding::error(thing, "it is not there", remedy)
            });
            return;
        }
    };
    let before = findings.len();
    judge_replicas(&thing, name, topic, written.is_some(), brokers, findings);
    if let Some(written) = written {
        judge_settings(plan, &thing, written, topic, survey, findings);
    }
    if findings.len() == before {
        let (partitions, replicas) = (counted(topic.partitions, "partition"), counted(topic.replicas, "replica"));
        findings.push(Finding::ok(thing, format!("{partitions}, {replicas}")));
    }
}

fn judge_replicas(
    thing: &str,
    name: &str,
    topic: &TopicSurvey,
    is_written: bool,
    brokers: usize,
    findings: &mut Vec<Finding>,
) {
    let TopicSurvey { replicas, in_sync, leaderless, min_in_sync, .. } = topic;
    if *leaderless > 0 {
        findings.push(Finding::error(
            thing,
            format!("{} can't be read or written: no broker leads", counted(*leaderless, "partition")),
            "bring the brokers back that have them",
        ));
    } else if in_sync < replicas {
        findings.push(Finding::warning(
            thing,
            format!("a partition is up to date on {in_sync} of {replicas} brokers only"),
            "see what keeps the others from following",
        ));
    }
    if brokers > 1 && *replicas == 1 {
        findings.push(Finding::warning(
            thing,
            "it has one replica: one broker's disk is all there is, and without that broker it can't be used",
            "give it three (kafka-reassign-partitions.sh)",
        ));
    }
    let Some(least) = min_in_sync.filter(|_| is_written) else { return };
    if least > *replicas {
        findings.push(Finding::error(
            thing,
            format!(
                "nothing can be written: min.insync.replicas is {least}, and it has {}",
                counted(*replicas, "replica")
            ),
            format!("lower it {}", alter(name, &format!("min.insync.replicas={replicas}"))),
        ));
    } else if least == 1 && *replicas > 1 {
        findings.push(Finding::warning(
            thing,
            "min.insync.replicas is 1: what one broker alone has counts as written, and is lost with its disk",
            format!("raise it {}", alter(name, "min.insync.replicas=2")),
        ));
    } else if least == *replicas && *replicas > 1 {
        findings.push(Finding::warning(
            thing,
            format!("min.insync.replicas is {least}, as many as there are replicas: with one broker down nothing can be written"),
            format!("have more replicas, or lower it {}", alter(name, &format!("min.insync.replicas={}", least - 1))),
        ));
    }
}

fn judge_settings(
    plan: &Plan,
    thing: &str,
    written: &TopicPlan,
    topic: &TopicSurvey,
    survey: &ClusterSurvey,
    findings: &mut Vec<Finding>,
) {
    if let TopicRole::Retry { source } = &written.role
        && let Some(Ok(Some(source_topic))) = survey.topics.get(source)
        && topic.partitions < source_topic.partitions
    {
        let (has, wants) = (counted(topic.partitions, "partition"), source_topic.partitions);
        findings.push(Finding::error(
            thing,
            format!("it has {has}, and its source {source} has {wants}: lanes without a retry partition halt"),
            add_partitions(&written.name, wants),
        ));
    }
    let settings = match &topic.settings {
        Ok(settings) => settings,
        Err(error) => {
            let remedy = "allow DescribeConfigs on the topic: `pointsman check --acls` has the commands";
            findings.push(Finding::unasked(Severity::Warning, thing, error, remedy));
            return;
        }
    };
    for fault in unfit(written, settings) {
        findings.push(Finding::error(thing, format!("it {}", fault.cause), fault.remedy));
    }
    if let TopicRole::DeadLetter { retention } = &written.role
        && settings.retention != *retention
    {
        let shown = |kept: Option<std::time::Duration>| {
            kept.map_or_else(|| "for ever".to_owned(), |kept| humantime::format_duration(kept).to_string())
        };
        let milliseconds = retention.map_or_else(|| "-1".to_owned(), |kept| kept.as_millis().to_string());
        findings.push(Finding::warning(
            thing,
            format!("it keeps dead letters {}, and the plan has {}", shown(settings.retention), shown(*retention)),
            format!(
                "set it {}, or `dead_letter.retention`",
                alter(&written.name, &format!("retention.ms={milliseconds}"))
            ),
        ));
    }
    let record = plan.router.max_record_bytes;
    if let Some(most) = settings.max_batch_bytes.filter(|most| *most < record) {
        findings.push(Finding::warning(
            thing,
            format!("it takes {most} bytes (max.message.bytes), and `router.max_record_size` is {record}: larger records are refused"),
            format!(
                "raise it {}, or lower `router.max_record_size`",
                alter(&written.name, &format!("max.message.bytes={}", record + 4096))
            ),
        ));
    }
}

/// Outputs that keep the partition of the origin.
fn judge_width(plan: &Plan, route: &RoutePlan, survey: &ClusterSurvey, findings: &mut Vec<Finding>) {
    let partitions = |name: &Arc<str>| match survey.topics.get(name) {
        Some(Ok(Some(topic))) => Some(topic.partitions),
        _ => None,
    };
    for output in route.outputs.iter().filter(|output| output.same_partition) {
        let Some(topic) = plan.topics.get(output.topic.0 as usize) else { continue };
        for source in &route.sources {
            let (Some(narrow), Some(wide)) = (partitions(&topic.name), partitions(&source.topic)) else { continue };
            if let Some(fault) = too_narrow(&topic.name, narrow, &source.topic, wide, &route.name) {
                findings.push(Finding::error(
                    format!("topic {}", topic.name),
                    format!("it {}", fault.cause),
                    fault.remedy,
                ));
            }
        }
    }
}

fn judge_group(plan: &Plan, name: &str, group: &GroupSurvey, findings: &mut Vec<Finding>) {
    let thing = format!("group {name}");
    let GroupSurvey { members, assignor, .. } = group;
    if members.is_empty() {
        findings.push(Finding::ok(thing, "it has no member now"));
        return;
    }
    let ours = format!("{}-member", plan.router.name);
    let strangers: Vec<_> = members.iter().filter(|member| member.client_id != ours).collect();
    if !assignor.is_empty() && assignor != ASSIGNOR {
        findings.push(Finding::error(
            thing,
            format!(
                "its members share partitions by {assignor:?}, and the router knows {ASSIGNOR:?} only: it can't join"
            ),
            "stop them, or give the route a `group` of its own",
        ));
    } else if let Some(stranger) = strangers.first() {
        findings.push(Finding::warning(
            thing,
            format!(
                "{} of its {} are none of this router's, such as {:?} at {}: they take partitions away from it",
                strangers.len(),
                counted(members.len() as u64, "member"),
                stranger.client_id,
                stranger.host
            ),
            "stop them, or give the route a `group` of its own",
        ));
    } else {
        findings.push(Finding::ok(thing, counted(members.len() as u64, "member")));
    }
}
