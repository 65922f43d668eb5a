//! What is watched: metrics, health, routes and lag.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Office;
use super::answer::{Complaint, Refused};
use crate::telemetry::{Health, LaneLag, METRICS_CONTENT_TYPE, RouteReport};

/// The answer to `GET /v1/routes`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RouteListing {
    /// In the order of the configuration.
    pub routes: Vec<RouteReport>,
}

/// The answer to `GET /v1/lag`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LagListing {
    /// In the order of their names.
    pub lanes: Vec<LaneLag>,
}

/// Metrics, as OpenMetrics text
///
/// It waits for the workers, a second at most.
#[utoipa::path(get, path = "/metrics", tag = "watch", responses(
    (status = OK, description = "OpenMetrics 1.0", content_type = "application/openmetrics-text", body = String),
    (status = "4XX", body = Complaint), (status = "5XX", body = Complaint),
))]
pub(super) async fn metrics(State(office): State<Arc<Office>>) -> Result<Response, Refused> {
    let telemetry = office.telemetry.clone();
    let text = office.hands.watching.work(move || telemetry.metrics()).await?;
    Ok(([(CONTENT_TYPE, METRICS_CONTENT_TYPE)], text).into_response())
}

/// Whether the process answers
#[utoipa::path(get, path = "/healthz", tag = "watch", responses(
    (status = OK, description = "It does"), (status = "4XX", body = Complaint),
))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether the router does its work
///
/// One that is behind is ready; one with a lane that has something to do and comes no further for a minute is not, nor is one whose
/// workers don't answer within a second. Lanes that are halted or paused are told by `/v1/lanes` and the metrics: those beside them go on.
#[utoipa::path(get, path = "/readyz", tag = "watch", responses(
    (status = OK, body = Health), (status = SERVICE_UNAVAILABLE, body = Health), (status = "4XX", body = Complaint),
))]
pub(super) async fn readyz(State(office): State<Arc<Office>>) -> Result<Response, Refused> {
    let telemetry = office.telemetry.clone();
    let health = office.hands.watching.work(move || telemetry.health()).await?;
    let status = if health.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(health)).into_response())
}

/// The routes: what they are made of, what became of their records, and how far they are behind
///
/// It waits for the workers, a second at most.
#[utoipa::path(get, path = "/v1/routes", tag = "watch", responses(
    (status = OK, body = RouteListing), (status = "4XX", body = Complaint), (status = "5XX", body = Complaint),
))]
pub(super) async fn routes(State(office): State<Arc<Office>>) -> Result<Json<RouteListing>, Refused> {
    let telemetry = office.telemetry.clone();
    Ok(Json(RouteListing { routes: office.hands.watching.work(move || telemetry.routes()).await? }))
}

/// How far each lane is behind, as of the last look at the ends of the partitions
#[utoipa::path(get, path = "/v1/lag", tag = "watch", responses(
    (status = OK, body = LagListing), (status = "4XX", body = Complaint), (status = "5XX", body = Complaint),
))]
pub(super) async fn lag(State(office): State<Arc<Office>>) -> Json<LagListing> {
    Json(LagListing { lanes: office.telemetry.lag() })
}
