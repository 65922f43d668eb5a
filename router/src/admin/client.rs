//! The other side of the door.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use pointsman_config::plan::Secret;
use serde::de::DeserializeOwned;
use thiserror::Error;
use ureq::http::Response;
use ureq::{Agent, Body, RequestBuilder};

use super::{Complaint, LagListing, Listing, Outcome, ParkedListing, RetryListing, RouteListing, Wish};
use crate::lanes::{Done, LaneName, LaneReport, Verb};
use crate::telemetry::{LaneLag, RouteReport};

/// More than the router waits for its workers.
const PATIENCE: Duration = Duration::from_secs(30);
/// Some hundred bytes for each lane.
const MAX_ANSWER: u64 = 64 << 20;

/// Asks at a door. Its calls block.
pub struct Client {
    address: SocketAddr,
    token: Option<Secret>,
    agent: Agent,
}

/// There is no answer, or it is no.
#[derive(Debug, Error)]
pub enum ClientError {
    /// There is nobody.
    #[error("nobody answers at {address}: {error}. Does the router run, with `[admin] listen` at this address?")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// What went wrong.
        error: ureq::Error,
    },
    /// There is somebody else.
    #[error("what listens at {address} is not the admin door of a router of this version: {why}")]
    NoDoor {
        /// Where.
        address: SocketAddr,
        /// What is wrong with the answer.
        why: String,
    },
    /// The router does not do it.
    #[error("{}", .0.message)]
    Refused(Complaint),
}

impl Client {
    /// For the door at this address, with the token that it asks for, if it does.
    #[must_use]
    pub fn new(address: SocketAddr, token: Option<Secret>) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            // What the environment says of proxies is not about this machine.
            .proxy(None)
            .build();
        Self { address, token, agent: config.into() }
    }

    /// The lanes, in the order of their names.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn lanes(&self) -> Result<Vec<LaneReport>, ClientError> {
        self.get("lanes").map(|Listing { lanes }| lanes)
    }

    /// The routes, in the order of the configuration.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn routes(&self) -> Result<Vec<RouteReport>, ClientError> {
        self.get("routes").map(|RouteListing { routes }| routes)
    }

    /// How far each lane is behind, in the order of their names.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn lag(&self) -> Result<Vec<LaneLag>, ClientError> {
        self.get("lag").map(|LagListing { lanes }| lanes)
    }

    /// What is parked in each lane.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn retries(&self) -> Result<RetryListing, ClientError> {
        self.get("retries")
    }

    /// The records that are parked for a route, the first to be due first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn parked(&self, route: &str, limit: u32) -> Result<ParkedListing, ClientError> {
        self.get(&format!("routes/{}/retries?limit={limit}", utf8_percent_encode(route, NON_ALPHANUMERIC)))
    }

    /// Samples of records of a route, a line of JSON each, as they come. `query` is as the path has it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn samples(&self, route: &str, query: &[(&str, String)]) -> Result<impl BufRead + use<>, ClientError> {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let url = format!("http://{}/v1/routes/{}/samples?{}", self.address, encoded(route), query.join("&"));
        let get = self.agent.get(url).config().timeout_global(None).timeout_recv_response(Some(PATIENCE)).build();
        match self.shown(get).call() {
            Ok(answer) if answer.status().is_success() => Ok(BufReader::new(answer.into_body().into_reader())),
            answer => Err(self.read::<Complaint>(answer).map_or_else(|error| error, ClientError::Refused)),
        }
    }

    fn get<T: DeserializeOwned>(&self, what: &str) -> Result<T, ClientError> {
        let answer = self.shown(self.agent.get(format!("http://{}/v1/{what}", self.address))).call();
        self.read(answer)
    }

    /// Tells a lane what to do; the answer is what it does.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn tell(&self, lane: &LaneName, verb: Verb) -> Result<Done, ClientError> {
        let LaneName { route, topic, partition } = lane;
        let [route, topic] = [route, topic].map(|name| utf8_percent_encode(name, NON_ALPHANUMERIC));
        let word = match verb {
            Verb::Pause => "pause",
            Verb::Resume => "resume",
            Verb::Skip { .. } => "skip",
        };
        let post = self.agent.post(format!("http://{}/v1/lanes/{route}/{topic}/{partition}/{word}", self.address));
        let post = self.shown(post);
        let answer = match verb {
            Verb::Pause | Verb::Resume => post.send_empty(),
            Verb::Skip { drop } => match serde_json::to_string(&Wish { drop }) {
                Ok(wish) => post.content_type("application/json").send(wish),
                Err(error) => Err(ureq::Error::Other(error.into())),
            },
        };
        self.read(answer).map(|Outcome { done, .. }| done)
    }

    /// A request, with the token.
    fn shown<Any>(&self, request: RequestBuilder<Any>) -> RequestBuilder<Any> {
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {}", token.reveal())),
            None => request,
        }
    }

    fn read<T: DeserializeOwned>(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<T, ClientError> {
        let address = self.address;
        let no_door = |why: String| ClientError::NoDoor { address, why };
        let mut answer = answer.map_err(|error| match error {
            ureq::Error::Protocol(error) => no_door(error.to_string()),
            error => ClientError::Unreachable { address, error },
        })?;
        let text = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_string();
        let text = text.map_err(|error| no_door(error.to_string()))?;
        if answer.status().is_success() {
            return serde_json::from_str(&text).map_err(|error| no_door(error.to_string()));
        }
        let complaint = serde_json::from_str(&text).map_err(|_| no_door(format!("it answers {}", answer.status())))?;
        Err(ClientError::Refused(complaint))
    }
}
