//! What the door answers where it does not do what it was asked to.

use axum::Json;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Longest text of a library that is passed on, in bytes.
const PLAIN_MAX: usize = 4096;

/// Why nothing is done.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Complaint {
    /// A word for it.
    pub error: String,
    /// A sentence, with the remedy.
    pub message: String,
}

/// An answer that is no.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) complaint: Complaint,
    /// How to be let in, as `WWW-Authenticate` has it.
    pub(super) challenge: Option<&'static str>,
}

impl Refused {
    pub(super) fn new(status: StatusCode, error: &str, message: impl std::fmt::Display) -> Self {
        let complaint = Complaint { error: error.to_owned(), message: message.to_string() };
        Self { status, complaint, challenge: None }
    }

    /// Something that can't be: a thread has panicked, say.
    pub(super) fn bug(error: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "bug", error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.complaint)).into_response();
        if let Some(challenge) = self.challenge {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

/// What the libraries underneath refuse (a body that is no JSON, a method that is not there) is a [`Complaint`], too.
pub(super) async fn as_complaint(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let is_json = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if !(status.is_client_error() || status.is_server_error()) || is_json {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = to_bytes(body, PLAIN_MAX).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let (error, message) = match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            ("no-such-method", "the path does not take this method; GET /v1/openapi.json has those it takes".to_owned())
        }
        StatusCode::PAYLOAD_TOO_LARGE => ("too-large", format!("{text}; the door takes little at once")),
        _ => ("malformed", if text.is_empty() { status.to_string() } else { text }),
    };
    let mut complaint = Refused::new(status, error, message).into_response();
    for (name, value) in parts.headers.iter().filter(|(name, _)| *name == axum::http::header::ALLOW) {
        complaint.headers_mut().insert(name.clone(), value.clone());
    }
    complaint
}
