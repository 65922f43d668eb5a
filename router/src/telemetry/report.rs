//! Routes and lag, for people and their programs.

use pointsman_config::plan::StagePlan;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ANSWER_WITHIN, Inner, Telemetry};
use crate::counters::Fate;
use crate::lanes::LaneName;
use crate::shared::Now;

/// How far one lane is behind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LaneLag {
    /// Which.
    #[serde(flatten)]
    pub lane: LaneName,
    /// Records of its source partition that have no fate yet.
    pub records: u64,
    /// Age of the oldest of them, in seconds; 0 where there is none, `null` where its timestamp could not be had.
    pub seconds: Option<f64>,
    /// ok, rewinding, stopped, stalled, falling-behind or unknown.
    pub status: String,
    /// Records written a second, over the last minutes; `null` before two looks.
    pub written_per_second: Option<f64>,
    /// Records settled a second, likewise.
    pub settled_per_second: Option<f64>,
    /// Seconds until nothing is left to do, if all goes on so; `null` where it never would, or can't be told.
    pub drain_seconds: Option<f64>,
    /// Seconds until retention by age may remove the oldest record that has no fate yet; `null` where that is never.
    pub retention_seconds: Option<f64>,
}

/// One route, as this router sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RouteReport {
    /// Its name.
    pub route: String,
    /// Its consumer group.
    pub group: String,
    /// Its source topics.
    pub from: Vec<String>,
    /// Its stages: names of plugins, and `filter`.
    pub stages: Vec<String>,
    /// The topics that it writes to.
    pub to: Vec<String>,
    /// Its dead-letter topic.
    pub dead_letter: Option<String>,
    /// Lanes that this router has of it.
    pub lanes: usize,
    /// Those that do not run: halted, paused, waiting, or silent.
    pub lanes_not_running: usize,
    /// Records that came to each fate since the start of the process.
    pub fates: Fates,
    /// Records that wait in its retry topics.
    pub parked: u64,
    /// Records of its lanes that have no fate yet.
    pub lag_records: u64,
    /// Age of the oldest of them, in seconds; `null` where it is not known of any that is behind.
    pub lag_seconds: Option<f64>,
    /// The worst status of its lanes' lag.
    pub status: String,
    /// Records settled a second, over the last minutes; `null` before two looks.
    pub settled_per_second: Option<f64>,
}

/// Records by fate, since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "they are the fates")]
pub struct Fates {
    pub delivered: u64,
    pub dropped: u64,
    pub parked: u64,
    pub dead_lettered: u64,
    pub halted: u64,
}

impl Telemetry {
    /// How far each lane is behind, in the order of their names.
    #[must_use]
    pub fn lag(&self) -> Vec<LaneLag> {
        self.0.lane_lags()
    }

    /// The routes, in the order of the configuration. Waits for the workers, a second at most.
    #[must_use]
    pub fn routes(&self) -> Vec<RouteReport> {
        self.0.routes()
    }
}

impl Inner {
    fn lane_lags(&self) -> Vec<LaneLag> {
        let now = Now::read();
        let findings = self.survey.findings();
        let lags = findings.lanes.iter().map(|(lane, found)| LaneLag {
            lane: lane.clone(),
            records: found.records(),
            seconds: found.age_ms(now).map(super::seconds),
            status: found.status.name().to_owned(),
            written_per_second: found.rates.map(|rates| rates.written),
            settled_per_second: found.rates.map(|rates| rates.read),
            drain_seconds: found.drain_ms.map(super::seconds),
            retention_seconds: found.left_ms(now).map(super::seconds),
        });
        lags.collect()
    }

    fn routes(&self) -> Vec<RouteReport> {
        let look = self.lanes.look(ANSWER_WITHIN);
        let lags = self.lane_lags();
        let routes = self.plan.routes.iter().enumerate().map(|(index, route)| {
            let topic = |id: pointsman_core::delivery::TopicId| self.plan.topics[id.0 as usize].name.to_string();
            let lanes = || look.lanes.iter().filter(|report| *report.lane.route == *route.name);
            let lags = || lags.iter().filter(|lag| *lag.lane.route == *route.name);
            let fate = |fate| self.counters.fate(index, fate);
            let mut rates = lags().filter_map(|lag| lag.settled_per_second).peekable();
            let any_rate = rates.peek().is_some();
            let worst = self.survey.findings().worst_of(&route.name);
            RouteReport {
                route: route.name.to_string(),
                group: route.group.to_string(),
                from: route.sources.iter().map(|source| source.topic.to_string()).collect(),
                stages: route.stages.iter().map(|stage| self.stage_name(stage)).collect(),
                to: route.outputs.iter().map(|output| topic(output.topic)).collect(),
                dead_letter: route.dead_letter.map(topic),
                lanes: lanes().count(),
                lanes_not_running: lanes().filter(|report| report.state != crate::lanes::State::Running).count(),
                fates: Fates {
                    delivered: fate(Fate::Delivered),
                    dropped: fate(Fate::Dropped),
                    parked: fate(Fate::Parked),
                    dead_lettered: fate(Fate::DeadLettered),
                    halted: fate(Fate::Halted),
                },
                parked: lanes()
                    .filter_map(|report| report.position.as_ref()?.retry.as_ref())
                    .map(|r| r.parked as u64)
                    .sum(),
                lag_records: lags().map(|lag| lag.records).sum(),
                lag_seconds: lags().filter_map(|lag| lag.seconds).reduce(f64::max),
                status: worst.map_or("unknown", |status| status.name()).to_owned(),
                settled_per_second: any_rate.then(|| rates.sum()),
            }
        });
        routes.collect()
    }

    fn stage_name(&self, stage: &StagePlan) -> String {
        stage
            .plugin()
            .map_or_else(|| "filter".to_owned(), |plugin| self.plan.plugins[plugin.0 as usize].name.to_string())
    }
}
