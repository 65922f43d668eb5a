//! All paths of the door, and the document that describes them, which is made of the same code.
//!
//! Whoever puts more on the door gives a handler its `#[utoipa::path]`, and names it in [`paths`]: the rest (who may, the audit,
//! limits, the document, its tests) comes by itself.

use std::sync::Arc;
use std::time::Duration;

use axum::body::HttpBody as _;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Router};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Components, OpenApi};
use utoipa::{Modify, OpenApi as _};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{Complaint, Refused, as_complaint};
use super::entry::{Porter, enter};
use super::{Office, control, dead_letters, lanes, plugins, retries, samples, watch};

/// Bytes of the body of a request.
const BODY_MAX: usize = 64 << 10;

/// A request is answered within this, its body read included. What is begun then goes on.
#[derive(Clone, Copy)]
pub(super) struct Within {
    /// More than workers are waited for.
    pub(super) usual: Duration,
    /// Of dead letters there may be many: more than it takes until reading them is given up.
    pub(super) letters: Duration,
    /// Samples are answered with at once. Then they go on for so long.
    pub(super) samples: Duration,
}

impl Default for Within {
    fn default() -> Self {
        Self { usual: Duration::from_secs(30), letters: Duration::from_mins(5), samples: Duration::from_mins(10) }
    }
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Pointsman",
        version = "1",
        description = "The admin API of a running router. What is not done answers with a status from 400 on, and a `Complaint`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    modifiers(&Token),
    security(("token" = [])),
    tags(
        (name = "watch", description = "How it goes"),
        (name = "lanes", description = "Where each lane stands, and what it may be told"),
        (name = "plan", description = "What the router runs by"),
        (name = "dead letters", description = "Looked at, replayed and discarded, as `pointsman dead-letter` does it"),
        (name = "process", description = "The process as a whole"),
    ),
)]
struct Description;

/// How to be let in.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_with(Components::new);
        let token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme("token", token);
    }
}

/// The paths, each with what describes it.
fn paths() -> OpenApiRouter<Arc<Office>> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(openapi))
        .routes(routes!(watch::metrics))
        .routes(routes!(watch::healthz))
        .routes(routes!(watch::readyz))
        .routes(routes!(watch::routes))
        .routes(routes!(watch::lag))
        .routes(routes!(samples::watch))
        .routes(routes!(retries::retries))
        .routes(routes!(retries::records))
        .routes(routes!(lanes::list))
        .routes(routes!(lanes::pause))
        .routes(routes!(lanes::resume))
        .routes(routes!(lanes::skip))
        .routes(routes!(plugins::plugins))
        .routes(routes!(plugins::breakers))
        .routes(routes!(dead_letters::ls))
        .routes(routes!(dead_letters::stats))
        .routes(routes!(dead_letters::one))
        .routes(routes!(dead_letters::replay))
        .routes(routes!(dead_letters::discard))
        .routes(routes!(control::drain))
        .routes(routes!(control::log_level, control::set_log_level))
}

/// What describes all of it.
#[must_use]
pub fn document() -> OpenApi {
    paths().into_openapi()
}

pub(super) fn router(office: Arc<Office>, porter: Porter, within: Within) -> Router {
    let (router, document) = paths().split_for_parts();
    let document = document.to_pretty_json().unwrap_or_default();
    router
        .fallback(async || {
            Refused::new(
                StatusCode::NOT_FOUND,
                "no-such-path",
                "the admin door has nothing there; GET /v1/openapi.json has all paths",
            )
        })
        .layer(Extension(Document(document.into())))
        .layer(Extension(within))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn_with_state(within, in_time))
        .layer(middleware::from_fn(as_complaint))
        .layer(middleware::from_fn_with_state(Arc::new(porter), enter))
        .with_state(office)
}

async fn in_time(State(Within { usual, letters, .. }): State<Within>, request: Request, next: Next) -> Response {
    let within = if request.uri().path().starts_with("/v1/dead-letters") { letters } else { usual };
    // What says that it is too large is not read up to there.
    if request.body().size_hint().lower() > BODY_MAX as u64 {
        let message = format!("the body of a request has {BODY_MAX} bytes at most");
        return Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message).into_response();
    }
    match tokio::time::timeout(within, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let message = format!("it took more than {} s; what was begun goes on", within.as_secs());
            Refused::new(StatusCode::GATEWAY_TIMEOUT, "too-slow", message).into_response()
        }
    }
}

#[derive(Clone)]
struct Document(Arc<str>);

/// This document
#[utoipa::path(get, path = "/v1/openapi.json", tag = "process", responses(
    (status = OK, description = "OpenAPI 3.1", content_type = "application/json"), (status = "4XX", body = Complaint),
))]
async fn openapi(Extension(Document(document)): Extension<Document>) -> Response {
    ([(CONTENT_TYPE, "application/json")], document.to_string()).into_response()
}
