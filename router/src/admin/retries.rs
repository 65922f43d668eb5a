//! What is parked: how much of it, since when it is due, and the first of it.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Office;
use super::answer::{Complaint, Refused};
use crate::lanes::Selection;
use crate::lookup::find_route;
use crate::retries::{ParkedRecord, RetryReport, first_records};
use crate::samples::Redaction;
use crate::shared::Now;

/// Most records of one answer, and how many without a word about it.
const RECORDS_MAX: usize = 200;
const RECORDS: usize = 20;
/// Records are read for so long: shorter than a request may take.
const WITHIN: Duration = Duration::from_secs(15);

/// The answer to `GET /v1/retries`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RetryListing {
    /// The lanes that have a retry topic, in the order of their names.
    pub lanes: Vec<RetryReport>,
    /// What is to be known besides, in sentences.
    pub notes: Vec<String>,
}

/// The answer to `GET /v1/routes/{route}/retries`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ParkedListing {
    /// The first to be due, in that order.
    pub records: Vec<ParkedRecord>,
    /// How many are parked in these lanes.
    pub parked: usize,
    /// What is to be known besides, in sentences.
    pub notes: Vec<String>,
}

/// Which records are to be listed.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ParkedQuery {
    /// Most records: 20, unless told otherwise, and 200 at most.
    #[param(value_type = Option<usize>)]
    limit: Option<NonZeroUsize>,
    /// Those of this source topic.
    topic: Option<String>,
    /// Those of this partition.
    partition: Option<i32>,
}

/// What is parked in each lane of this router
///
/// By what the lanes know, without reading it. It waits for the workers, 5 s at most.
#[utoipa::path(get, path = "/v1/retries", tag = "watch", responses(
    (status = OK, body = RetryListing), (status = "4XX", body = Complaint), (status = "5XX", body = Complaint),
))]
pub(super) async fn retries(State(office): State<Arc<Office>>) -> Result<Json<RetryListing>, Refused> {
    let lanes = office.lanes.clone();
    let (lanes, silent) = office.hands.lanes.work(move || lanes.retries(&Selection::default(), 0)).await?;
    let now_ms = Now::read().unix_ms;
    let lanes = lanes.into_iter().map(|lane| RetryReport::new(lane, now_ms)).collect();
    Ok(Json(RetryListing { lanes, notes: silence(silent).into_iter().collect() }))
}

/// The records that are parked for a route, the first to be due first
///
/// Those of this router's partitions. They are read from the retry topic, for 15 s at most.
#[utoipa::path(get, path = "/v1/routes/{route}/retries", tag = "watch", params(("route" = String, Path, description = "The route"), ParkedQuery), responses(
    (status = OK, body = ParkedListing), (status = "4XX", body = Complaint), (status = "5XX", body = Complaint),
))]
pub(super) async fn records(
    State(office): State<Arc<Office>>,
    Path(route): Path<String>,
    Query(ParkedQuery { limit, topic, partition }): Query<ParkedQuery>,
) -> Result<Json<ParkedListing>, Refused> {
    let limit = limit.map_or(RECORDS, NonZeroUsize::get);
    if limit > RECORDS_MAX {
        let message = format!("`limit` is out of range: it takes a number from 1 to {RECORDS_MAX}");
        return Err(Refused::new(StatusCode::UNPROCESSABLE_ENTITY, "malformed", message));
    }
    find_route(&office.plan, &route).map_err(|error| Refused::new(StatusCode::NOT_FOUND, "no-route", error))?;
    let selection = Selection { route: Some(route), topic, partition };
    let at = Arc::clone(&office);
    let listing = office.hands.reading.work(move || {
        let (lanes, silent) = at.lanes.retries(&selection, limit);
        let samples = at.plan.admin.as_ref().and_then(|admin| admin.samples.as_ref());
        let redaction = samples.map(|samples| Redaction::of(&samples.redact)).unwrap_or_default();
        let mut notes: Vec<String> = silence(silent).into_iter().collect();
        let until = Instant::now() + WITHIN;
        let mut note = |text: &str| notes.push(text.to_owned());
        let records = first_records(&*at.log, &lanes, limit, &redaction, &|| Instant::now() >= until, &mut note);
        ParkedListing { records, parked: lanes.iter().map(|lane| lane.backlog.records).sum(), notes }
    });
    listing.await.map(Json)
}

fn silence(workers: usize) -> Option<String> {
    (workers > 0).then(|| format!("{workers} workers have not answered in time, and their lanes are not among these"))
}
