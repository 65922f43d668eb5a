//! Lanes: asked, paused, resumed, and told to skip a record.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Office;
use super::answer::{Complaint, Refused};
use super::audit::Deed;
use crate::lanes::{Done, LaneName, LaneReport, Refusal, Verb};

/// The answer to `GET /v1/lanes`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Listing {
    /// The lanes, in the order of their names.
    pub lanes: Vec<LaneReport>,
}

/// What may come with `skip`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// Where the record can't be dead-lettered, it is to be dropped: it is lost then.
    #[serde(default)]
    pub drop: bool,
}

/// What a lane does that was told to do something.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Outcome {
    /// Which.
    #[serde(flatten)]
    pub lane: LaneName,
    /// What it does.
    pub done: Done,
}

/// The lanes of this router
///
/// Those of its partitions; other routers of the group have others. It waits for the workers, 10 s at most.
#[utoipa::path(get, path = "/v1/lanes", tag = "lanes", responses(
    (status = OK, body = Listing), (status = "4XX", body = Complaint), (status = "5XX", body = Complaint),
))]
pub(super) async fn list(State(office): State<Arc<Office>>) -> Result<Json<Listing>, Refused> {
    let lanes = office.lanes.clone();
    office.hands.lanes.work(move || lanes.list()).await.map(|lanes| Json(Listing { lanes }))
}

/// Have a lane judge nothing more
///
/// What is judged already is delivered and committed. It is forgotten with a restart, and where the partition is assigned anew.
#[utoipa::path(post, path = "/v1/lanes/{route}/{topic}/{partition}/pause", tag = "lanes", params(LaneName), responses(
    (status = OK, body = Outcome), (status = "4XX", body = Complaint), (status = "5XX", body = Complaint),
))]
pub(super) async fn pause(
    State(office): State<Arc<Office>>,
    Extension(deed): Extension<Deed>,
    Path(lane): Path<LaneName>,
) -> Result<Json<Outcome>, Refused> {
    tell(&office, deed, lane, Verb::Pause, "pause").await
}

/// Have a lane go on
///
/// One that its breaker has paused tries one record at once; one that has halted at a record runs it again.
#[utoipa::path(post, path = "/v1/lanes/{route}/{topic}/{partition}/resume", tag = "lanes", params(LaneName), responses(
    (status = OK, body = Outcome), (status = "4XX", body = Complaint), (status = "5XX", body = Complaint),
))]
pub(super) async fn resume(
    State(office): State<Arc<Office>>,
    Extension(deed): Extension<Deed>,
    Path(lane): Path<LaneName>,
) -> Result<Json<Outcome>, Refused> {
    tell(&office, deed, lane, Verb::Resume, "resume").await
}

/// Dead-letter the record that a lane has halted at
///
/// The lane goes on behind it.
#[utoipa::path(post, path = "/v1/lanes/{route}/{topic}/{partition}/skip", tag = "lanes", params(LaneName),
    request_body = Option<Wish>, responses(
    (status = OK, body = Outcome), (status = "4XX", body = Complaint), (status = "5XX", body = Complaint),
))]
pub(super) async fn skip(
    State(office): State<Arc<Office>>,
    Extension(deed): Extension<Deed>,
    Path(lane): Path<LaneName>,
    wish: Option<Json<Wish>>,
) -> Result<Json<Outcome>, Refused> {
    let Wish { drop } = wish.unwrap_or_default().0;
    tell(&office, deed, lane, Verb::Skip { drop }, if drop { "skip or drop" } else { "skip" }).await
}

async fn tell(
    office: &Office,
    deed: Deed,
    lane: LaneName,
    verb: Verb,
    action: &'static str,
) -> Result<Json<Outcome>, Refused> {
    deed.begin(action, &lane.to_string());
    let lanes = office.lanes.clone();
    let told = {
        let deed = deed.clone();
        let told = office.hands.lanes.work(move || {
            let told = lanes.tell(&lane, verb);
            deed.end(match &told {
                Ok(done) => done.to_string(),
                Err(refusal) => format!("refused: {}", refusal.code()),
            });
            (told, lane)
        });
        told.await
    };
    match told {
        Ok((Ok(done), lane)) => Ok(Json(Outcome { lane, done })),
        Ok((Err(refusal), lane)) => {
            Err(Refused::new(status_of(&refusal), refusal.code(), format_args!("{lane}: {refusal}")))
        }
        Err(refused) => {
            deed.end(format!("refused: {}", refused.complaint.error));
            Err(refused)
        }
    }
}

fn status_of(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::NoLane => StatusCode::NOT_FOUND,
        Refusal::Silent => StatusCode::GATEWAY_TIMEOUT,
        Refusal::Unread { .. }
        | Refusal::Draining
        | Refusal::NotHalted
        | Refusal::NotAtRecord { .. }
        | Refusal::NoDeadLetters
        | Refusal::Refused { .. } => StatusCode::CONFLICT,
    }
}
