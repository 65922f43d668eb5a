//! Judges the file of an embedded log.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use pointsman_config::Plan;
use pointsman_core::port::survey::FileSurvey;
use pointsman_embedded::OpenError;

use super::{Finding, counted};

/// With less than this left, writing soon fails.
const LITTLE: u64 = 256 << 20;

/// Bytes that the file system of this folder has left for us, asked of the folder that is there above it; `None` where it does
/// not tell.
pub(super) fn free_bytes(directory: &Path) -> Option<u64> {
    let there = directory.ancestors().map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path });
    let found = there.filter(|path| path.exists()).find_map(|path| rustix::fs::statvfs(path).ok())?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Everything about it.
pub(super) fn judge(
    plan: &Plan,
    directory: &Path,
    max_bytes: u64,
    survey: Result<Option<FileSurvey>, OpenError>,
    free: Option<u64>,
) -> Vec<Finding> {
    let thing = format!("log {}", directory.display());
    let mut findings = Vec::new();
    let survey = match survey {
        Ok(survey) => survey,
        Err(error) => {
            let remedy = "the router can't start as long as that is so";
            return vec![Finding::error(thing, error.to_string(), remedy)];
        }
    };
    let bytes = survey.as_ref().map_or(0, |survey| survey.bytes);
    findings.extend(judge_space(&thing, bytes, max_bytes, free));
    let Some(FileSurvey { file, damage, topics, holders, .. }) = survey else {
        findings.push(Finding::ok(thing, "it is not there: the router makes it when it starts"));
        return findings;
    };
    if !damage.is_empty() {
        let remedy = format!("stop the router, and put a copy of {} and its -wal back that is sound", file.display());
        findings.push(Finding::error(thing, format!("it is damaged: {}", damage.join("; ")), remedy));
        return findings;
    }
    findings.push(Finding::ok(thing, format!("it is sound, and has {}", counted(topics.len() as u64, "topic"))));
    let groups: BTreeSet<&Arc<str>> = plan.routes.iter().map(|route| &route.group).collect();
    for group in groups {
        let holder = holders.iter().find(|(held, _)| **held == **group);
        let text = holder.map_or_else(|| "nobody holds it".to_owned(), |(_, holder)| format!("{holder} holds it"));
        findings.push(Finding::ok(format!("group {group}"), text));
    }
    let sources = plan.routes.iter().flat_map(|route| &route.sources).map(|source| &source.topic);
    let names: BTreeSet<&Arc<str>> = sources.chain(plan.topics.iter().map(|topic| &topic.name)).collect();
    for name in names {
        let found = topics.iter().find(|topic| topic.name == *name);
        let text = found.map_or_else(
            || "it is not there: the router makes it when it starts".to_owned(),
            |topic| counted(topic.partitions, "partition"),
        );
        findings.push(Finding::ok(format!("topic {name}"), text));
    }
    findings
}

fn judge_space(thing: &str, bytes: u64, max_bytes: u64, free: Option<u64>) -> Option<Finding> {
    let mebibytes = |bytes: u64| format!("{} MiB", bytes >> 20);
    let free = free?;
    let may_grow = max_bytes.saturating_sub(bytes);
    if free < LITTLE.min(may_grow) {
        let cause = format!("the disk has {} left: soon nothing can be written", mebibytes(free));
        return Some(Finding::error(thing, cause, "make room on the disk, or choose another in `broker.embedded`"));
    }
    (free < may_grow).then(|| {
        let cause = format!(
            "the disk has {} left, and it may grow by {} more (`broker.max_size`)",
            mebibytes(free),
            mebibytes(may_grow)
        );
        Finding::warning(thing, cause, "lower `broker.max_size` or `broker.retention`, or make room on the disk")
    })
}
