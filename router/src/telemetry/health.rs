//! Whether a router is well enough to be left alone.

use pointsman_core::lag::Status;
use serde::Serialize;
use utoipa::ToSchema;

use super::survey::Findings;
use crate::lanes::{LaneName, LaneReport, Look, State};

/// What a router says of itself.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Health {
    /// Whether it does its work. One that is behind is ready; one that stands still is not.
    pub ready: bool,
    /// What keeps it from that.
    pub unready: Vec<Unready>,
    /// Its lanes.
    pub lanes: usize,
    /// How old it is what is known of their partitions' ends, in seconds; `None` before that was asked for.
    pub survey_age_seconds: Option<f64>,
}

/// A reason why a router is not ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Unready {
    /// The lane; `None` where it is a worker.
    pub lane: Option<LaneName>,
    /// What is wrong, with what is known of the cause.
    pub reason: String,
}

/// A lane that is paused by hand is as somebody wants it; one that its breaker has paused goes on by itself, and a restart would not
/// help it. Those that are halted need somebody, and the lanes beside them go on: that is what alerts are for, and not an end of the
/// router. What a restart may mend is a worker that says nothing, and a lane that should go on and does not.
pub(super) fn judge(look: &Look, findings: &Findings) -> Health {
    let mut unready: Vec<Unready> = Vec::new();
    if look.silent > 0 {
        let reason = format!("{} workers have not answered within a second", look.silent);
        unready.push(Unready { lane: None, reason });
    }
    for LaneReport { lane, state, .. } in &look.lanes {
        let is_to_go_on = matches!(state, State::Running | State::Silent);
        let status = findings.lanes.get(lane).map(|found| found.status);
        if let Some(status @ (Status::Stalled | Status::Stopped)) = status.filter(|_| is_to_go_on) {
            let reason = format!("it has records to handle, and has come no further for a minute: {}", status.name());
            unready.push(Unready { lane: Some(lane.clone()), reason });
        }
    }
    let survey_age_seconds = findings.at.map(|at| at.elapsed().as_secs_f64());
    Health { ready: unready.is_empty(), unready, lanes: look.lanes.len(), survey_age_seconds }
}
