//! The admin door of a running router: HTTP with JSON, for the command line and for scripts of this machine.
//!
//! | | |
//! | --- | --- |
//! | `GET /v1/lanes` | [`Listing`] |
//! | `POST /v1/lanes/ROUTE/TOPIC/PARTITION/pause`, `…/resume` | [`Outcome`] |
//! | `POST /v1/lanes/ROUTE/TOPIC/PARTITION/skip`, with [`Wish`] or without | [`Outcome`] |
//!
//! What is not done answers with a status from 400 on, and a [`Complaint`]. Nothing is decided here: [`lanes`](crate::lanes)
//! does that, and others that are put on the door are to have modules of their own.
//!
//! The door has no authentication. So it listens on this machine only, and turns away what a browser sends on behalf of
//! somebody else's page.

use std::net::{IpAddr, SocketAddr};

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::net::TcpListener;

use crate::lanes::{Done, LaneName, LaneReport, Lanes, Refusal, Verb};

mod client;

pub use client::{Client, ClientError};

/// The answer to `GET /v1/lanes`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Listing {
    /// The lanes, in the order of their names.
    pub lanes: Vec<LaneReport>,
}

/// What may come with `skip`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// Where the record can't be dead-lettered, it is to be dropped: it is lost then.
    #[serde(default)]
    pub drop: bool,
}

/// What a lane does that was told to do something.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Which.
    #[serde(flatten)]
    pub lane: LaneName,
    /// What it does.
    pub done: Done,
}

/// Why nothing is done.
#[derive(Debug, Serialize, Deserialize)]
pub struct Complaint {
    /// A word for it.
    pub error: String,
    /// A sentence, with the remedy.
    pub message: String,
}

/// The door can't be opened.
#[derive(Debug, Error)]
#[error("can't open the admin door at {address}: {error}; {}", remedy(.error))]
pub struct DoorError {
    /// Where.
    pub address: SocketAddr,
    /// What the system says.
    pub error: std::io::Error,
}

fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "another program listens there, or another router: stop it, or choose another port in `[admin] listen`"
        }
        _ => "choose another address or port in `[admin] listen`, or go without the door",
    }
}

/// A door that listens, and does not answer yet.
pub struct Door {
    listener: TcpListener,
    address: SocketAddr,
}

impl Door {
    /// Listens at an address.
    ///
    /// # Errors
    /// [`DoorError`].
    pub async fn open(address: SocketAddr) -> Result<Self, DoorError> {
        let opened = TcpListener::bind(address).await;
        let found = opened.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = found.map_err(|error| DoorError { address, error })?;
        Ok(Self { listener, address })
    }

    /// Where it listens: with the port that the system chose, where it was to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers for these lanes, until the runtime ends.
    pub async fn serve(self, lanes: Lanes) {
        if let Err(error) = axum::serve(self.listener, router(lanes)).await {
            tracing::error!(address = %self.address, %error, "the admin door has shut");
        }
    }
}

fn router(lanes: Lanes) -> Router {
    Router::new()
        .route("/v1/lanes", get(list))
        .route("/v1/lanes/{route}/{topic}/{partition}/pause", post(pause))
        .route("/v1/lanes/{route}/{topic}/{partition}/resume", post(resume))
        .route("/v1/lanes/{route}/{topic}/{partition}/skip", post(skip))
        .fallback(async || complain(StatusCode::NOT_FOUND, "no-such-path", "the admin door has nothing there"))
        .layer(middleware::from_fn(turn_away_strangers))
        .with_state(lanes)
}

async fn list(State(lanes): State<Lanes>) -> Response {
    match tokio::task::spawn_blocking(move || lanes.list()).await {
        Ok(lanes) => Json(Listing { lanes }).into_response(),
        Err(error) => complain(StatusCode::INTERNAL_SERVER_ERROR, "bug", error),
    }
}

async fn pause(State(lanes): State<Lanes>, Path(lane): Path<LaneName>) -> Response {
    tell(lanes, lane, Verb::Pause).await
}

async fn resume(State(lanes): State<Lanes>, Path(lane): Path<LaneName>) -> Response {
    tell(lanes, lane, Verb::Resume).await
}

async fn skip(
    State(lanes): State<Lanes>,
    Path(lane): Path<LaneName>,
    wish: Result<Option<Json<Wish>>, JsonRejection>,
) -> Response {
    match wish {
        Ok(wish) => tell(lanes, lane, Verb::Skip { drop: wish.unwrap_or_default().drop }).await,
        Err(rejection) => complain(rejection.status(), "malformed", rejection.body_text()),
    }
}

async fn tell(lanes: Lanes, lane: LaneName, verb: Verb) -> Response {
    let told = tokio::task::spawn_blocking(move || (lanes.tell(&lane, verb), lane)).await;
    match told {
        Ok((Ok(done), lane)) => Json(Outcome { lane, done }).into_response(),
        Ok((Err(refusal), lane)) => complain(status_of(&refusal), refusal.code(), format_args!("{lane}: {refusal}")),
        Err(error) => complain(StatusCode::INTERNAL_SERVER_ERROR, "bug", error),
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

fn complain(status: StatusCode, error: &str, message: impl std::fmt::Display) -> Response {
    (status, Json(Complaint { error: error.to_owned(), message: message.to_string() })).into_response()
}

/// A page in a browser of this machine can have it send requests here: to another site they have an `Origin`, and where the
/// page has bent its own name to this address, they name another `Host`.
async fn turn_away_strangers(request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    if request.headers().contains_key(ORIGIN) || !host.is_some_and(is_this_machine) {
        let message = "the admin door answers programs of this machine only, and no browsers";
        return complain(StatusCode::FORBIDDEN, "stranger", message);
    }
    next.run(request).await
}

fn is_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests;
