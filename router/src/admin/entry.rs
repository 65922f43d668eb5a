//! Who gets in, and what they may do.
//!
//! Without tokens, the door listens at an address of this machine only, and whoever gets there may do everything; what a browser
//! sends on behalf of somebody else's page is turned away. With tokens, every request needs one, of whomever and from wherever.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use pointsman_config::plan::{AdminPlan, Open, Role, TokenSecret};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::answer::Refused;
use super::audit::{Deed, Strangers};

/// Who asks: the name of a token, or what stands for one; and what they may do.
#[derive(Clone)]
pub(super) struct Actor(pub(super) Arc<str>, pub(super) Role);

/// Decides who gets in.
pub(super) struct Porter {
    known: Vec<Known>,
    open: Vec<Open>,
    strangers: Arc<Strangers>,
}

struct Known {
    name: Arc<str>,
    role: Role,
    /// Of the token: what is compared says nothing of what it came from, and has one length.
    digest: [u8; 32],
}

impl Porter {
    pub(super) fn new(admin: &AdminPlan) -> Self {
        let known = admin.tokens.iter().map(|token| Known {
            name: Arc::clone(&token.name),
            role: token.role,
            digest: match &token.secret {
                TokenSecret::Token(secret) => Sha256::digest(secret.reveal()).into(),
                TokenSecret::Sha256(digest) => *digest,
            },
        });
        Self { known: known.collect(), open: admin.open.clone(), strangers: Arc::default() }
    }

    /// Who it is, as far as that is known, and whether they may.
    fn admit(&self, method: &Method, path: &str, headers: &HeaderMap) -> (Option<Actor>, Result<(), Refused>) {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let actor = |name: &str, role| Some(Actor(name.into(), role));
        if self.known.is_empty() {
            return if is_stranger(headers) {
                let message = "without tokens the admin door answers programs of this machine only, and no browsers";
                (None, Err(Refused::new(StatusCode::FORBIDDEN, "stranger", message)))
            } else {
                (actor("loopback", Role::Operator), Ok(()))
            };
        }
        if reads && open_to(path).is_some_and(|open| self.open.contains(&open)) {
            return (actor("anybody", Role::Reader), Ok(()));
        }
        let Some(token) = bearer(headers) else {
            let message =
                "the admin door asks for a token: send `Authorization: Bearer TOKEN` with one of [[admin.tokens]]";
            return (None, Err(challenge(StatusCode::UNAUTHORIZED, "no-token", message, "Bearer realm=\"pointsman\"")));
        };
        let Some(known) = self.known(token) else {
            let message = "the admin door does not know this token: it takes those of [[admin.tokens]] in the configuration that the router was started with";
            let how = "Bearer realm=\"pointsman\", error=\"invalid_token\"";
            return (None, Err(challenge(StatusCode::UNAUTHORIZED, "wrong-token", message, how)));
        };
        let may = match known.role {
            Role::Operator => Ok(()),
            Role::Reader if reads => Ok(()),
            Role::Reader => {
                let message = format!(
                    "{} is a reader, and may only look (GET): this takes a token with the role \"operator\"",
                    known.name
                );
                let how = "Bearer realm=\"pointsman\", error=\"insufficient_scope\"";
                Err(challenge(StatusCode::FORBIDDEN, "reader", &message, how))
            }
        };
        (Some(Actor(Arc::clone(&known.name), known.role)), may)
    }

    /// Whose token it is. It takes as long whoever it is, and whether it is anyone.
    fn known(&self, token: &[u8]) -> Option<&Known> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let mut found = None;
        for known in &self.known {
            if bool::from(known.digest.ct_eq(&digest)) {
                found = Some(known);
            }
        }
        found
    }
}

fn challenge(status: StatusCode, error: &str, message: &str, how: &'static str) -> Refused {
    Refused { challenge: Some(how), ..Refused::new(status, error, message) }
}

/// What of `open` lets this path answer anybody.
fn open_to(path: &str) -> Option<Open> {
    match path {
        "/metrics" => Some(Open::Metrics),
        "/healthz" | "/readyz" => Some(Open::Health),
        _ => None,
    }
}

/// The token that a request shows, where it shows one.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut shown = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (shown.next(), shown.next()) else { return None };
    let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
    (scheme.eq_ignore_ascii_case(b"Bearer ")).then(|| token.trim_ascii()).filter(|token| !token.is_empty())
}

/// A page in a browser of this machine can have it send requests here: to another site they have an `Origin`, and where the
/// page has bent its own name to this address, they name another `Host`.
fn is_stranger(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    headers.contains_key(ORIGIN) || !host.is_some_and(is_this_machine)
}

pub(super) fn is_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Lets in whoever may, and has what they do there told in the log.
pub(super) async fn enter(State(porter): State<Arc<Porter>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let (actor, may) = porter.admit(request.method(), path, request.headers());
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    let deed = changes.then(|| Deed::new(&format!("{} {path}", request.method()), &porter.strangers));
    if let (Some(deed), Some(Actor(name, _))) = (&deed, &actor) {
        deed.by(name);
    }
    if let Err(refused) = may {
        if let Some(deed) = deed {
            deed.answered(|| format!("refused: {}", refused.complaint.error));
        }
        return refused.into_response();
    }
    request.extensions_mut().insert(actor.unwrap_or_else(|| Actor("nobody".into(), Role::Reader)));
    if let Some(deed) = &deed {
        request.extensions_mut().insert(deed.clone());
    }
    let response = next.run(request).await;
    if let Some(deed) = deed {
        deed.answered(|| format!("refused: {}", response.status()));
    }
    response
}
