//! Text to plan: reads everything, resolves names to indices, and checks what values say together.

mod cycles;
mod limits;
mod outputs;
mod routes;
mod topics;

use std::collections::BTreeSet;

use crate::findings::{CONFIGURATION, ConfigErrors, Findings, Source, Warning};
use crate::names::suggest;
use crate::plan::{BrokerPlan, FeedPlan, Plan, PluginLimits, PluginPlan, RouterPlan};
use crate::raw::{Broker, Feed, Plugin, Raw, Router, Stage};
use crate::read::{self, Reading};
use crate::secrets::{commented, mask, suspects};
use crate::variables::Variables;

/// Compiles the text of a configuration. `file_name` is what findings call it; `variables` fills in `${NAME}`.
///
/// # Errors
/// [`ConfigErrors`]: all mistakes of the text. Where it is not TOML, only what is wrong with its syntax. No error,
/// warning or `Debug` of the plan shows a value of `[broker.librdkafka]`, of a plugin's `config`, or a token of `[admin]`,
/// or a header of `[telemetry]`.
pub fn compile(text: &str, file_name: &str, variables: &dyn Variables) -> Result<(Plan, Vec<Warning>), ConfigErrors> {
    let findings = Findings::default();
    let document = read::parse(text, &findings);
    let plan = document.as_ref().and_then(|document| {
        let reading = Reading { what: CONFIGURATION, text, variables, findings: &findings };
        resolve(read::document(&reading, document), &findings)
    });
    let secrets = if document.is_some() { findings.secrets() } else { suspects(text) };
    let source = Source { name: file_name.to_owned(), text: mask(text, &[secrets, commented(text)].concat()) };
    let warnings = findings.conclude(source)?;
    plan.map(|plan| (plan, warnings)).ok_or_else(|| ConfigErrors::unexplained(file_name))
}

fn resolve(raw: Raw, findings: &Findings) -> Option<Plan> {
    let Raw { router, broker, plugins, routes, feeds, admin, telemetry } = raw;
    limits::check(router.as_ref(), broker.as_ref(), &plugins, &routes, findings);
    warn_of_unused(&plugins, &routes, findings);
    refuse_idle_feeds(&feeds, &routes, findings);
    let (routes, topics) = routes::resolve(router.as_ref(), routes, &plugins, findings);
    let plugins: Option<Vec<PluginPlan>> = plugins.into_iter().map(plugin_plan).collect();
    let plan = Plan {
        router: router_plan(router?),
        broker: broker_plan(broker?),
        plugins: plugins?,
        routes: routes?,
        topics,
        feeds: feeds.into_iter().map(feed_plan).collect(),
        admin,
        telemetry,
    };
    findings.is_sound().then_some(plan)
}

fn router_plan(router: Router) -> RouterPlan {
    RouterPlan {
        name: router.name.into(),
        instance_id: router.instance_id.map(|id| id.value),
        workers: router.workers,
        delivery: router.delivery.value,
        commit_interval: router.commit_interval,
        drain_deadline: router.drain_deadline.value,
        max_record_bytes: bytes(router.max_record.value),
    }
}

fn broker_plan(broker: Broker) -> BrokerPlan {
    match broker {
        Broker::Embedded { directory, retention, max_bytes } => {
            BrokerPlan::Embedded { directory, retention, max_bytes }
        }
        Broker::Kafka { bootstrap, fetch_ahead_bytes, librdkafka } => BrokerPlan::Kafka {
            bootstrap,
            fetch_ahead_bytes: bytes(fetch_ahead_bytes),
            librdkafka: librdkafka.into_iter().map(|(name, value)| (name, value.value)).collect(),
        },
    }
}

fn feed_plan(feed: Feed) -> FeedPlan {
    FeedPlan { topic: feed.topic.value.into(), records: feed.records, per_second: feed.per_second }
}

fn plugin_plan(plugin: Plugin) -> Option<PluginPlan> {
    Some(PluginPlan {
        name: plugin.name.value.into(),
        component: plugin.component?,
        sha256: plugin.sha256,
        config: plugin.config,
        limits: PluginLimits {
            memory_bytes: bytes(plugin.limits.memory.value),
            deadline: plugin.limits.deadline.value,
            output_bytes: bytes(plugin.limits.output.value),
            output_events: bytes(plugin.limits.output_events),
            table_elements: bytes(plugin.limits.table_elements),
        },
        grants: plugin.grants,
        rate_limit: plugin.rate_limit,
    })
}

fn warn_of_unused(plugins: &[Plugin], routes: &[crate::raw::Route], findings: &Findings) {
    let used: Vec<&str> = routes
        .iter()
        .flat_map(|route| &route.stages)
        .filter_map(|stage| match stage {
            Stage::Plugin(name) => Some(name.value.as_str()),
            Stage::Filter(_) => None,
        })
        .collect();
    for plugin in plugins.iter().filter(|plugin| !used.contains(&plugin.name.value.as_str())) {
        let message = format!("no route has the plugin `{}` as a stage", plugin.name.value);
        findings.warning(&plugin.name.span, message, "name it in the `stages` of a route, or remove it");
    }
}

/// A feed is there to be read.
fn refuse_idle_feeds(feeds: &[Feed], routes: &[crate::raw::Route], findings: &Findings) {
    let sources: BTreeSet<&str> =
        routes.iter().flat_map(|route| &route.from).map(|source| source.value.as_str()).collect();
    // Without any source there is no route, or none that could be read; that was noted.
    for Feed { topic, .. } in feeds.iter().filter(|feed| !sources.is_empty() && !sources.contains(&*feed.topic.value)) {
        let message = format!("no route reads `{}`, the topic of this feed", topic.value);
        findings.mistake(&topic.span, message, suggest(&topic.value, sources.iter().copied()));
    }
}

/// The plugin of this name.
fn plugin_index(plugins: &[Plugin], name: &crate::raw::At<String>, findings: &Findings) -> Option<usize> {
    let index = plugins.iter().position(|plugin| plugin.name.value == name.value);
    if index.is_none() {
        let remedy = if plugins.is_empty() {
            format!("add [plugins.{}] with its `component` or `source`", name.value)
        } else {
            suggest(&name.value, plugins.iter().map(|plugin| plugin.name.value.as_str()))
        };
        findings.mistake(&name.span, format!("there is no plugin `{}`", name.value), remedy);
    }
    index
}

/// A number that the readers bounded far below what any machine of ours can count.
fn bytes(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
