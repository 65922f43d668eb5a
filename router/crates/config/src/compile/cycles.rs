//! Topics that feed each other: what one route writes, its dead letters too, another one reads, and so on round.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::iter::successors;

use super::routes::dead_letter_name;
use crate::findings::Findings;
use crate::raw::{At, Route};

/// A route reads one topic and writes the other.
struct Edge<'r> {
    source: &'r str,
    target: At<String>,
}

/// The topics that each topic feeds.
type Targets<'e> = BTreeMap<&'e str, Vec<&'e str>>;

/// Warns of every cycle that is the shortest one through some step of it: there may be exponentially many others. That
/// a route feeds itself is a mistake, and noted elsewhere.
pub(super) fn warn(routes: &[Route], router_name: &str, findings: &Findings) {
    let edges: Vec<Edge<'_>> = routes.iter().flat_map(|route| edges_of(route, router_name)).collect();
    let mut targets = Targets::new();
    for edge in &edges {
        targets.entry(edge.source).or_default().push(&edge.target.value);
    }
    let mut told = BTreeSet::new();
    for edge in &edges {
        let Some(way) = shortest_way(&targets, &edge.target.value, edge.source) else { continue };
        if told.insert(from_least(way.clone())) {
            let message = format!("records can go round for ever: `{}` → `{}`", edge.source, way.join("` → `"));
            let remedy = "write to another topic, or see to it that a filter or a plugin ends the round";
            findings.warning(&edge.target.span, message, remedy);
        }
    }
}

fn edges_of<'r>(route: &'r Route, router_name: &str) -> Vec<Edge<'r>> {
    let dead_letter = route.dead_letter.as_ref().map(|dead_letter| dead_letter_name(route, dead_letter, router_name));
    let written: Vec<At<String>> =
        route.outputs.iter().filter_map(|output| output.topic.clone()).chain(dead_letter).collect();
    let edges = route
        .from
        .iter()
        .flat_map(|source| written.iter().map(|target| Edge { source: source.value.as_str(), target: target.clone() }));
    edges.filter(|edge| edge.source != edge.target.value).collect()
}

/// The shortest way from one topic to the other, both of them included.
fn shortest_way<'e>(targets: &Targets<'e>, start: &'e str, end: &'e str) -> Option<Vec<&'e str>> {
    let mut before = BTreeMap::from([(start, None)]);
    let mut queue = VecDeque::from([start]);
    while let Some(topic) = queue.pop_front() {
        for target in targets.get(topic).into_iter().flatten() {
            if let Entry::Vacant(place) = before.entry(*target) {
                place.insert(Some(topic));
                queue.push_back(target);
            }
        }
    }
    before.contains_key(end).then(|| {
        let mut way: Vec<&str> = successors(Some(end), |topic| before.get(topic).copied().flatten()).collect();
        way.reverse();
        way
    })
}

/// The same cycle, wherever its list began.
fn from_least(mut cycle: Vec<&str>) -> Vec<&str> {
    let least = (0..cycle.len()).min_by_key(|index| cycle[*index]).unwrap_or(0);
    cycle.rotate_left(least);
    cycle
}
