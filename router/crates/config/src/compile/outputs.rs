//! Outputs: each must be able to take some event, and none may feed its own route.

use super::topics::Topics;
use crate::findings::Findings;
use crate::plan::{Matching, OutputPlan, Select, TopicRole};
use crate::raw::{Chosen, Output, Route, Stage};

/// The outputs of a route. There is no answer where one could not be read; that was noted.
pub(super) fn resolve(route: &Route, topics: &mut Topics<'_>, findings: &Findings) -> Option<Vec<OutputPlan>> {
    for (index, output) in route.outputs.iter().enumerate() {
        refuse_loop(route, output, findings);
        refuse_port_without_plugin(route, output, findings);
        refuse_twin(route, &route.outputs[..index], output, findings);
    }
    warn_of_dead(route, findings);
    let outputs: Vec<Option<OutputPlan>> = route.outputs.iter().map(|output| plan(output, topics)).collect();
    outputs.into_iter().collect()
}

fn plan(output: &Output, topics: &mut Topics<'_>) -> Option<OutputPlan> {
    let topic = output.topic.as_ref()?;
    let topic = topics.add(&topic.value, TopicRole::Output, &topic.span);
    let select = match &output.select {
        Chosen::Port(port) => Select::Port(port.value.clone()),
        Chosen::When(condition) => Select::When(condition.value.clone()),
        Chosen::Default => Select::Default,
        Chosen::Unknown => return None,
    };
    Some(OutputPlan { select, topic, same_partition: output.same_partition })
}

fn refuse_loop(route: &Route, output: &Output, findings: &Findings) {
    let Some(topic) = &output.topic else { return };
    if let Some(source) = route.from.iter().find(|source| source.value == topic.value) {
        findings.conflict(
            &topic.span,
            (&source.span, "read here"),
            format!(
                "route `{}` writes to the topic `{}` that it reads, so its records go round for ever",
                route.name.value, topic.value
            ),
            "write to another topic",
        );
    }
}

fn refuse_port_without_plugin(route: &Route, output: &Output, findings: &Findings) {
    let has_plugin = route.stages.iter().any(|stage| matches!(stage, Stage::Plugin(_)));
    if let (Chosen::Port(port), false) = (&output.select, has_plugin) {
        findings.mistake(
            &port.span,
            format!(
                "nothing leaves route `{}` by the port `{}`: only plugins name ports, and it has none",
                route.name.value, port.value
            ),
            "choose with `when`, or add a plugin to `stages`",
        );
    }
}

/// An output that takes the same events as an earlier one: with `match = "first"` it gets none of them; with `"all"`
/// it is only worth having for another topic.
fn refuse_twin(route: &Route, earlier: &[Output], output: &Output, findings: &Findings) {
    let Some(twin) = earlier.iter().find(|earlier| takes_the_same(&earlier.select, &output.select)) else { return };
    let what = match &output.select {
        Chosen::Port(port) => format!("takes the port `{}`", port.value),
        Chosen::When(_) => "has this condition".to_owned(),
        Chosen::Default => "is the default".to_owned(),
        Chosen::Unknown => return,
    };
    let name = &route.name.value;
    let same_topic = twin.topic.as_ref().map(|topic| &topic.value) == output.topic.as_ref().map(|topic| &topic.value);
    match route.matching {
        Matching::First => findings.conflict(
            &output.span,
            (&twin.span, "this one takes its events"),
            format!("a second output of route `{name}` {what}, and the first one takes all its events"),
            "give it a `port` or a `when` of its own, or set `match = \"all\"` to write to both",
        ),
        Matching::All if same_topic => findings.conflict(
            &output.span,
            (&twin.span, "and here"),
            format!(
                "a second output of route `{name}` {what} and writes to the same topic, so it doubles every record"
            ),
            "remove one of them",
        ),
        Matching::All => {}
    }
}

fn takes_the_same(one: &Chosen, other: &Chosen) -> bool {
    match (one, other) {
        (Chosen::Port(one), Chosen::Port(other)) => one.value == other.value,
        (Chosen::When(one), Chosen::When(other)) => one.value == other.value,
        (Chosen::Default, Chosen::Default) => true,
        (Chosen::Port(_) | Chosen::When(_) | Chosen::Default | Chosen::Unknown, _) => false,
    }
}

/// Outputs behind a condition that always holds.
fn warn_of_dead(route: &Route, findings: &Findings) {
    let always = route.outputs.iter().position(|output| match &output.select {
        Chosen::When(condition) => condition.value.text().trim() == "true",
        Chosen::Port(_) | Chosen::Default | Chosen::Unknown => false,
    });
    let Some(always) = always else { return };
    for (index, output) in route.outputs.iter().enumerate() {
        let is_dead = match &output.select {
            // The default takes what no condition took, wherever it stands.
            Chosen::Default => true,
            Chosen::When(_) => index > always && route.matching == Matching::First,
            Chosen::Port(_) | Chosen::Unknown => false,
        };
        if is_dead {
            findings.warning(
                &output.span,
                format!("this output of route `{}` gets nothing: `when = 'true'` takes every event", route.name.value),
                "leave `when` out of the output that takes the rest, and remove the other one",
            );
        }
    }
}
