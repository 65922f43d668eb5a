//! Where the groups are in their sources.

use std::sync::Arc;

use pointsman_config::Plan;
use pointsman_core::port::survey::{ClusterSurvey, Said};
use pointsman_core::port::{Log, StartAt};
use pointsman_core::record::TopicPartition;

use super::{Finding, Severity, counted};

/// One partition of a source.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) partition: TopicPartition,
    /// What the group has committed.
    pub(super) committed: Option<i64>,
    /// The first offset there is.
    pub(super) first: i64,
    /// One past the last.
    pub(super) end: i64,
}

/// The places of one route.
pub(super) struct Progress {
    pub(super) route: usize,
    pub(super) places: Said<Vec<Place>>,
}

/// Asks for the places of all routes, in the sources that are there.
pub(super) fn ask(plan: &Plan, log: &dyn Log, survey: &ClusterSurvey) -> Vec<Progress> {
    let routes = plan.routes.iter().enumerate();
    routes
        .map(|(index, route)| {
            let sources = route.sources.iter().filter_map(|source| {
                let topic = survey.topics.get(&source.topic)?.as_ref().ok()?.as_ref()?;
                Some((&source.topic, topic.partitions))
            });
            let partitions: Vec<TopicPartition> = sources
                .flat_map(|(name, count)| {
                    let count = i32::try_from(count).unwrap_or(i32::MAX);
                    (0..count).map(|number| TopicPartition::new(Arc::clone(name), number))
                })
                .collect();
            Progress { route: index, places: places(log, &route.group, partitions) }
        })
        .collect()
}

fn places(log: &dyn Log, group: &str, partitions: Vec<TopicPartition>) -> Said<Vec<Place>> {
    let committed = log.committed(group, &partitions)?;
    partitions
        .into_iter()
        .zip(committed)
        .map(|(partition, commit)| {
            let (first, end) = log.watermarks(&partition)?;
            Ok(Place { partition, committed: commit.map(|commit| commit.offset), first, end })
        })
        .collect()
}

/// Whether the places are there, and how much lies before them.
pub(super) fn judge(plan: &Plan, progress: &[Progress]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Progress { route, places } in progress {
        let Some(route) = plan.routes.get(*route) else { continue };
        let thing = format!("route {}", route.name);
        let places = match places {
            Ok(places) => places,
            Err(error) => {
                let remedy = "without it, how far the route is is not known";
                findings.push(Finding::unasked(Severity::Warning, thing, error, remedy));
                continue;
            }
        };
        let before = findings.len();
        let (mut lag, mut fresh) = (0_u64, 0_u64);
        for Place { partition, committed, first, end } in places {
            let Some(committed) = committed else {
                fresh += 1;
                continue;
            };
            let reset = || format!("look at what was lost, and then `pointsman offsets reset --route {}`", route.name);
            if committed < first {
                let cause = format!(
                    "group {} is at offset {committed} of {partition}, which begins at {first}: {} are gone, and the lane halts",
                    route.group,
                    counted(first.abs_diff(*committed), "record")
                );
                findings.push(Finding::error(thing.clone(), cause, reset()));
            } else if committed > end {
                let cause = format!(
                    "group {} is at offset {committed} of {partition}, which ends at {end}: the topic was made anew or cut off, and the lane halts",
                    route.group
                );
                findings.push(Finding::error(thing.clone(), cause, reset()));
            } else {
                lag += end.abs_diff(*committed);
            }
        }
        if findings.len() == before {
            let start = match route.start {
                StartAt::Earliest => "the first record".to_owned(),
                StartAt::Latest => "what comes from now on".to_owned(),
                StartAt::Time(_) => "the time that `start` says".to_owned(),
            };
            let new = counted(fresh, "partition");
            let text = match (fresh, places.len() as u64) {
                (_, 0) => "it has no source to read yet".to_owned(),
                (0, _) => format!("{} to be read", counted(lag, "record")),
                (all, count) if all == count => format!("nothing was committed yet: it begins with {start}"),
                _ => {
                    format!("{} to be read, and {new} without a commit, to begin with {start}", counted(lag, "record"))
                }
            };
            findings.push(Finding::ok(thing, text));
        }
    }
    findings
}
