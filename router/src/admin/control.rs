//! The process as a whole: stopped, and its log made more or less talkative.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Office;
use super::answer::{Complaint, Refused};
use super::audit::Deed;
use crate::log_filter::{FilterError, LogFilter};

/// The answer to `POST /v1/drain`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Draining {
    /// The router stops.
    pub draining: bool,
}

/// What is logged.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogLevel {
    /// A level, or directives: `info,pointsman=debug`. 1000 bytes at most. What is done at the door is logged whatever it says.
    pub filter: String,
}

/// Stop the router, as SIGTERM does
///
/// What is judged is delivered and committed, partitions are given up, and the process ends. The answer comes before that.
#[utoipa::path(post, path = "/v1/drain", tag = "process", responses(
    (status = ACCEPTED, body = Draining), (status = "4XX", body = Complaint), (status = "5XX", body = Complaint),
))]
pub(super) async fn drain(
    State(office): State<Arc<Office>>,
    Extension(deed): Extension<Deed>,
) -> (StatusCode, Json<Draining>) {
    deed.begin("drain", "router");
    // A full channel has told it already, and a closed one has heard it.
    let is_first = office.drain.try_send(()).is_ok();
    deed.end(if is_first { "stops" } else { "stops already" });
    (StatusCode::ACCEPTED, Json(Draining { draining: true }))
}

/// What is logged
#[utoipa::path(get, path = "/v1/log-level", tag = "process", responses(
    (status = OK, body = LogLevel), (status = "4XX", body = Complaint),
))]
pub(super) async fn log_level(State(office): State<Arc<Office>>) -> Result<Json<LogLevel>, Refused> {
    Ok(Json(LogLevel { filter: filter(&office)?.text() }))
}

/// Have more or less logged, until the process ends
#[utoipa::path(put, path = "/v1/log-level", tag = "process", request_body = LogLevel, responses(
    (status = OK, body = LogLevel), (status = "4XX", body = Complaint), (status = "5XX", body = Complaint),
))]
pub(super) async fn set_log_level(
    State(office): State<Arc<Office>>,
    Extension(deed): Extension<Deed>,
    Json(LogLevel { filter: text }): Json<LogLevel>,
) -> Result<Json<LogLevel>, Refused> {
    deed.begin("log-level", &text);
    let set = filter(&office).and_then(|filter| filter.set(&text).map_err(refused));
    deed.end(match &set {
        Ok(()) => "changed".to_owned(),
        Err(refused) => format!("refused: {}", refused.complaint.error),
    });
    set.map(|()| Json(LogLevel { filter: text }))
}

fn filter(office: &Office) -> Result<&LogFilter, Refused> {
    let message = "the log of this process was not started by Pointsman, and can't be changed here";
    office.log_filter.ok_or_else(|| Refused::new(StatusCode::CONFLICT, "no-log", message))
}

fn refused(error: FilterError) -> Refused {
    let (status, word) = match error {
        FilterError::Unreadable { .. } | FilterError::TooLong(_) => (StatusCode::UNPROCESSABLE_ENTITY, "malformed"),
        FilterError::Stuck(_) => (StatusCode::INTERNAL_SERVER_ERROR, "stuck"),
    };
    Refused::new(status, word, error)
}
