//! Plugins and breakers, as far as the plan and the lanes tell.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use pointsman_config::Plan;
use pointsman_config::plan::StagePlan;
use pointsman_core::port::PluginId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Office;
use super::answer::{Complaint, Refused};
use crate::lanes::{LaneName, State as LaneState};

/// The answer to `GET /v1/plugins`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PluginListing {
    /// In the order of the configuration.
    pub plugins: Vec<PluginReport>,
}

/// One plugin.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PluginReport {
    /// Its name.
    pub name: String,
    /// SHA-256 of its component.
    pub sha256: Option<String>,
    /// The routes that it is a stage of.
    pub routes: Vec<String>,
    /// What it may use beyond computing.
    pub grants: Vec<String>,
    /// Most events a second, over all lanes of this process.
    pub events_per_second: Option<u32>,
    /// Limits of one instance, and of one call.
    pub limits: LimitsReport,
}

/// Limits of a plugin.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LimitsReport {
    /// Linear memory, in bytes.
    pub memory_bytes: usize,
    /// CPU time of one call, in milliseconds.
    pub deadline_ms: u64,
    /// Bytes of all answers of one call.
    pub output_bytes: usize,
    /// Events that all answers of one call emit.
    pub output_events: usize,
    /// Elements of one table.
    pub table_elements: usize,
}

/// The answer to `GET /v1/breakers`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct BreakerListing {
    /// The breakers of each route, in the order of the configuration.
    pub breakers: Vec<BreakerReport>,
}

/// The breakers of one route.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct BreakerReport {
    /// The route.
    pub route: String,
    /// What they go by; `null` where the route has none.
    pub terms: Option<TermsReport>,
    /// The lanes that they have paused.
    pub paused: Vec<PausedLane>,
}

/// What breakers go by.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TermsReport {
    /// Tokens to begin with.
    pub initial: u32,
    /// Most tokens that a lane keeps.
    pub max: u32,
    /// So many successes earn one.
    pub successes_for_one: u32,
    /// One comes by itself so often, in milliseconds.
    pub one_every_ms: u64,
    /// From the first probe to the second, in milliseconds.
    pub probe_initial_ms: u64,
    /// Longest time between two probes, in milliseconds.
    pub probe_max_ms: u64,
}

/// A lane that its breaker has paused.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PausedLane {
    /// Which.
    #[serde(flatten)]
    pub lane: LaneName,
    /// Why.
    pub reason: Option<String>,
    /// Since when, as RFC 3339.
    pub since: Option<String>,
}

/// The plugins, with their digests, limits and grants
#[utoipa::path(get, path = "/v1/plugins", tag = "plan", responses(
    (status = OK, body = PluginListing), (status = "4XX", body = Complaint),
))]
pub(super) async fn plugins(State(office): State<Arc<Office>>) -> Json<PluginListing> {
    let digests = office.digests.iter().map(Some).chain(std::iter::repeat(None));
    let plugins = office.plan.plugins.iter().zip(digests).enumerate().map(|(index, (plugin, digest))| PluginReport {
        name: plugin.name.to_string(),
        sha256: digest.cloned(),
        routes: routes_of(&office.plan, index),
        grants: plugin.grants.clone(),
        events_per_second: plugin.rate_limit.map(std::num::NonZero::get),
        limits: LimitsReport {
            memory_bytes: plugin.limits.memory_bytes,
            deadline_ms: ms(plugin.limits.deadline),
            output_bytes: plugin.limits.output_bytes,
            output_events: plugin.limits.output_events,
            table_elements: plugin.limits.table_elements,
        },
    });
    Json(PluginListing { plugins: plugins.collect() })
}

fn routes_of(plan: &Plan, plugin: usize) -> Vec<String> {
    let calls = |stage: &StagePlan| matches!(stage, StagePlan::Plugin(PluginId(index)) if *index as usize == plugin);
    let routes = plan.routes.iter().filter(|route| route.stages.iter().any(calls));
    routes.map(|route| route.name.to_string()).collect()
}

/// The breakers of each route, and the lanes that they have paused
///
/// It waits for the workers, 10 s at most.
#[utoipa::path(get, path = "/v1/breakers", tag = "plan", responses(
    (status = OK, body = BreakerListing), (status = "4XX", body = Complaint), (status = "5XX", body = Complaint),
))]
pub(super) async fn breakers(State(office): State<Arc<Office>>) -> Result<Json<BreakerListing>, Refused> {
    let lanes = office.lanes.clone();
    let lanes = office.hands.lanes.work(move || lanes.list()).await?;
    let paused = |route: &str| {
        let paused = lanes.iter().filter(|lane| lane.lane.route == *route && lane.state == LaneState::PausedByBreaker);
        let paused = paused.map(|lane| PausedLane {
            lane: lane.lane.clone(),
            reason: lane.reason.clone(),
            since: lane.since.clone(),
        });
        paused.collect()
    };
    let breakers = office.plan.routes.iter().map(|route| BreakerReport {
        route: route.name.to_string(),
        terms: route.breaker.as_ref().map(|terms| TermsReport {
            initial: terms.tokens,
            max: terms.max_tokens.get(),
            successes_for_one: terms.successes_per_token.get(),
            one_every_ms: ms(terms.token_every),
            probe_initial_ms: ms(terms.probe_initial),
            probe_max_ms: ms(terms.probe_max),
        }),
        paused: paused(&route.name),
    });
    Ok(Json(BreakerListing { breakers: breakers.collect() }))
}

fn ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
