//! Routes: names to indices, sources to retry topics, policies.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::Arc;

use pointsman_core::failure::FailureClass;
use pointsman_core::policy::{FailurePolicy, Reaction, Reactions};
use pointsman_core::port::PluginId;

use super::topics::Topics;
use super::{bytes, cycles, outputs, plugin_index};
use crate::findings::Findings;
use crate::names::topic_fault;
use crate::plan::{OnDead, Ordering, RoutePlan, SourcePlan, StagePlan, TopicPlan, TopicRole};
use crate::raw::{At, DeadLetter, Plugin, Retry, Route, Router, Stage};

/// Resolves all routes. There is no answer where a name could not be resolved; that was noted.
pub(super) fn resolve(
    router: Option<&Router>,
    routes: Vec<Route>,
    plugins: &[Plugin],
    findings: &Findings,
) -> (Option<Vec<RoutePlan>>, Vec<TopicPlan>) {
    refuse_twins(&routes, router, findings);
    let sources: BTreeSet<String> =
        routes.iter().flat_map(|route| &route.from).map(|topic| topic.value.clone()).collect();
    let mut topics = Topics::new(sources, findings);
    // A name that is missing was noted; a stand-in lets the rest be checked.
    let router_name = router.map_or("router", |router| router.name.as_str());
    let group = router.map_or("router", |router| router.group.value.as_str());
    cycles::warn(&routes, router_name, findings);
    let resolved: Vec<Option<RoutePlan>> = routes
        .into_iter()
        .map(|route| resolve_one(route, router_name, group, plugins, &mut topics, findings))
        .collect();
    (resolved.into_iter().collect(), topics.finish())
}

/// Two routes of one name, or of one group that read the same topic.
fn refuse_twins(routes: &[Route], router: Option<&Router>, findings: &Findings) {
    let default_group = router.map_or("", |router| router.group.value.as_str());
    let group =
        |route: &Route| route.group.as_ref().map_or_else(|| default_group.to_owned(), |group| group.value.clone());
    let mut names = BTreeMap::<&str, &Route>::new();
    let mut readers = BTreeMap::<(String, &str), (&Route, &At<String>)>::new();
    for route in routes {
        match names.entry(&route.name.value) {
            Entry::Vacant(place) => drop(place.insert(route)),
            Entry::Occupied(earlier) => {
                let message = format!("two routes are called `{}`", route.name.value);
                let remedy = "metrics, retry topics and dead letters go by the name: rename one of them";
                findings.conflict(&route.name.span, (&earlier.get().name.span, "and here"), message, remedy);
            }
        }
        for topic in &route.from {
            let (earlier, first) = match readers.entry((group(route), &topic.value)) {
                Entry::Vacant(place) => {
                    place.insert((route, topic));
                    continue;
                }
                Entry::Occupied(earlier) => *earlier.get(),
            };
            let (message, remedy) = if std::ptr::eq(earlier, route) {
                (format!("route `{}` reads the topic `{}` twice", route.name.value, topic.value), "remove one of them")
            } else {
                let message = format!(
                    "routes `{}` and `{}` both read the topic `{}` in the group `{}`, so each record would reach one of them only",
                    earlier.name.value,
                    route.name.value,
                    topic.value,
                    group(route)
                );
                (message, "give one of the routes a `group` of its own")
            };
            findings.conflict(&topic.span, (&first.span, "and here"), message, remedy);
        }
    }
}

fn resolve_one(
    route: Route,
    router_name: &str,
    group: &str,
    plugins: &[Plugin],
    topics: &mut Topics<'_>,
    findings: &Findings,
) -> Option<RoutePlan> {
    let stages: Vec<Option<StagePlan>> = route
        .stages
        .iter()
        .map(|stage| match stage {
            Stage::Filter(condition) => Some(StagePlan::Filter(condition.clone())),
            Stage::Plugin(name) => {
                plugin_index(plugins, name, findings).map(|index| StagePlan::Plugin(plugin_id(index)))
            }
        })
        .collect();
    let outputs = outputs::resolve(&route, topics, findings);
    let sources = sources(&route, group, topics, findings);
    let dead_letter = route.dead_letter.as_ref().map(|dead_letter| {
        let role = TopicRole::DeadLetter { retention: dead_letter.retention };
        let name = dead_letter_topic(&route, dead_letter, router_name, findings);
        topics.add(&name.value, role, &name.span)
    });
    let failure = policy(&route, findings);
    let on_dead = on_dead(&route, findings);
    Some(RoutePlan {
        group: route.group.map_or_else(|| group.into(), |group| group.value.into()),
        name: route.name.value.into(),
        sources,
        start: route.start,
        ordering: route.ordering,
        on_dead,
        stages: stages.into_iter().collect::<Option<_>>()?,
        rate_limit: route.rate_limit,
        batch_records: count(&route.batch_records),
        batch_bytes: count(&route.batch_bytes),
        in_flight_records: count(&route.in_flight_records),
        in_flight_bytes: count(&route.in_flight_bytes),
        failure,
        breaker: route.breaker.filter(|_| dead_letter.is_some()).map(|breaker| breaker.terms),
        dead_letter,
        outputs: outputs?,
        matching: route.matching,
        origin_headers: route.origin_headers,
    })
}

/// The sources, each with its retry topic.
fn sources(route: &Route, default_group: &str, topics: &mut Topics<'_>, findings: &Findings) -> Vec<SourcePlan> {
    if let Some(At { value, span }) = route.retry.as_ref().and_then(|retry| retry.topic.as_ref())
        && route.from.len() > 1
    {
        findings.mistake(
            span,
            format!("the retry topic `{value}` can't serve {} source topics", route.from.len()),
            "its partitions follow those of one source topic: remove `topic`, and each source gets its own",
        );
    }
    if let Some(At { value, span }) = route.retry.as_ref().and_then(|retry| retry.topic.as_ref())
        && route.ordering == Ordering::Partition
    {
        findings.mistake(
            span,
            format!("the retry topic `{value}` would stay empty: `ordering = \"partition\"` retries in place"),
            "remove `topic`, or choose `ordering = \"key\"`",
        );
    }
    let mut sources: Vec<SourcePlan> = Vec::with_capacity(route.from.len());
    for source in &route.from {
        // A source that is there twice was noted; one retry topic is enough for it.
        if sources.iter().any(|known| *known.topic == *source.value) {
            continue;
        }
        let topic: Arc<str> = source.value.as_str().into();
        // What is retried in place needs no topic.
        let retry = route.retry.as_ref().filter(|_| route.ordering != Ordering::Partition).map(|retry| {
            let name = retry_topic(route, retry, &source.value, default_group, findings);
            topics.add(&name.value, TopicRole::Retry { source: Arc::clone(&topic) }, &name.span)
        });
        sources.push(SourcePlan { topic, retry });
    }
    sources
}

/// A key is held by a marker in the retry partition, and what follows goes to the dead letters.
fn on_dead(route: &Route, findings: &Findings) -> OnDead {
    let Some(At { value: OnDead::ParkKey, span }) = &route.on_dead else { return OnDead::Release };
    let (lacks, remedy) = if route.ordering != Ordering::Key {
        ("order by key", "add `ordering = \"key\"`, or remove `on_dead`")
    } else if route.retry.is_none() {
        ("retries, in whose topic it notes which keys are parked", "remove `retry = false`, or remove `on_dead`")
    } else if route.dead_letter.is_none() {
        (
            "dead letters, which later records of the key would become",
            "remove `dead_letter = false`, or remove `on_dead`",
        )
    } else {
        return OnDead::ParkKey;
    };
    findings.mistake(span, format!("`on_dead = \"park-key\"` on a route without {lacks}"), remedy);
    OnDead::Release
}

/// By default it is named after the group and not after the router: routers of one name in different groups are two
/// deployments, and have nothing to do with each other's parked records.
fn retry_topic(route: &Route, retry: &Retry, source: &str, default_group: &str, findings: &Findings) -> At<String> {
    match &retry.topic {
        Some(topic) if route.from.len() == 1 => topic.clone(),
        _ => {
            let group = route.group.as_ref().map_or(default_group, |group| &group.value);
            let name = format!("{group}.{}.{source}.retry", route.name.value);
            checked(
                At::new(name, retry.span.clone()),
                "it is made of group, route and source: rename one of them, or set `retry.topic` on a route with one source",
                findings,
            )
        }
    }
}

fn dead_letter_topic(route: &Route, dead_letter: &DeadLetter, router_name: &str, findings: &Findings) -> At<String> {
    let name = dead_letter_name(route, dead_letter, router_name);
    let name = checked(name, "name it with `dead_letter.topic`", findings);
    if route.from.iter().any(|source| source.value == name.value) {
        let message =
            format!("the dead letters of route `{}` go to `{}`, which it reads", route.name.value, name.value);
        findings.mistake(&name.span, message, "name another topic, or each dead letter comes round again");
    }
    name
}

pub(super) fn dead_letter_name(route: &Route, dead_letter: &DeadLetter, router_name: &str) -> At<String> {
    dead_letter
        .topic
        .clone()
        .unwrap_or_else(|| At::new(format!("{router_name}.{}.dead-letter", route.name.value), dead_letter.span.clone()))
}

fn checked(name: At<String>, remedy: &str, findings: &Findings) -> At<String> {
    if let Some(fault) = topic_fault(&name.value) {
        findings.mistake(&name.span, format!("the topic `{}` can't be made: {fault}", name.value), remedy);
    }
    name
}

fn policy(route: &Route, findings: &Findings) -> FailurePolicy {
    let mut reactions = Reactions::standard();
    for (class, reaction) in &route.reactions {
        let refused = match reaction.value {
            Reaction::Park if route.retry.is_none() => Some(("park", "retry")),
            Reaction::DeadLetter if route.dead_letter.is_none() => Some(("dead-letter", "dead_letter")),
            Reaction::Park | Reaction::DeadLetter | Reaction::Drop | Reaction::Halt => None,
        };
        if let Some((name, key)) = refused {
            findings.mistake(
                &reaction.span,
                format!("`on.{class} = \"{name}\"` needs a topic that `{key} = false` takes away"),
                format!("remove `{key} = false`, or choose \"halt\" or \"drop\""),
            );
        }
        if (*class, reaction.value) == (FailureClass::Unmatched, Reaction::Park) {
            findings.warning(
                &reaction.span,
                "an event that no output takes is parked, though no retry can match it",
                "choose \"dead-letter\", \"drop\" or \"halt\", unless a plugin decides differently on a later attempt",
            );
        }
        if (*class, reaction.value) == (FailureClass::HostCrash, Reaction::Park) {
            findings.mistake(
                &reaction.span,
                "`on.host-crash = \"park\"` would run a record again that ends the process each time",
                "choose \"dead-letter\", \"drop\" or \"halt\"",
            );
        }
        reactions.set(*class, reaction.value);
    }
    FailurePolicy {
        reactions,
        retry: route.retry.as_ref().map(|retry| retry.schedule.clone()),
        dead_letter: route.dead_letter.is_some(),
    }
}

fn plugin_id(index: usize) -> PluginId {
    PluginId(u32::try_from(index).unwrap_or(u32::MAX))
}

/// The readers let no 0 through.
fn count(number: &At<u64>) -> NonZeroUsize {
    NonZeroUsize::new(bytes(number.value)).unwrap_or(NonZeroUsize::MIN)
}
