//! Samples of records, as they come to their fates: a line of JSON for each, for as long as somebody reads.
//!
//! Lines rather than server-sent events: that is what all else of Pointsman writes for programs, `curl` and `jq` read them as they
//! come, and browsers are turned away here.

use std::convert::Infallible;
use std::num::{NonZeroU32, NonZeroU64};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use hyper::body::{Body as HttpBody, Frame};
use pointsman_config::plan::{Role, SamplesPlan};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::{Interval, MissedTickBehavior, Sleep};
use utoipa::IntoParams;

use super::Office;
use super::answer::{Complaint, Refused};
use super::api::Within;
use super::audit;
use super::entry::Actor;
use crate::counters::Fate;
use crate::lookup::find_route;
use crate::samples::{Pulse, Redaction, SampleLine, ShownSample, WATCHERS_MAX, Wanted, Watch};
use crate::shared::Now;

/// Between two lines that say how it goes.
const PULSE: Duration = Duration::from_secs(10);
/// Samples a second, unless told otherwise, and at most.
const PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
const PER_SECOND_MAX: u32 = 100;

/// What is to be watched.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SampleQuery {
    /// Records with this fate: `delivered`, `dropped`, `parked`, `dead-lettered` or `halted`. It may be there several times; without it,
    /// all of them.
    #[serde(default)]
    fate: Vec<String>,
    /// Records of this source topic.
    topic: Option<String>,
    /// Records of this partition.
    partition: Option<i32>,
    /// Most samples a second: 10, unless told otherwise, and 100 at most.
    #[param(value_type = Option<u32>)]
    per_second: Option<NonZeroU32>,
    /// End after so many samples.
    #[param(value_type = Option<u64>)]
    max: Option<NonZeroU64>,
    /// Headers and values, too, as far as the configuration has them shown. It takes an operator.
    #[serde(default)]
    values: bool,
}

/// Watch what becomes of records, as it happens
///
/// A line of JSON for each sample, and one every ten seconds that says how it goes. No more come than are asked for a second; who reads slowly
/// loses some, which is told. It ends after ten minutes: ask again. 4 may watch at a time. What is told of has happened in the lane; with
/// exactly-once delivery its transaction may still be undone, and the record is told of again then.
#[utoipa::path(get, path = "/v1/routes/{route}/samples", tag = "watch", params(("route" = String, Path, description = "The route"), SampleQuery), responses(
    (status = OK, description = "Lines of JSON", content_type = "application/x-ndjson", body = SampleLine),
    (status = "4XX", body = Complaint), (status = "5XX", body = Complaint),
))]
pub(super) async fn watch(
    State(office): State<Arc<Office>>,
    Extension(Actor(name, role)): Extension<Actor>,
    Extension(within): Extension<Within>,
    Path(route): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, Refused> {
    let plan = office.plan.admin.as_ref().and_then(|admin| admin.samples.as_ref());
    let plan = plan.ok_or_else(|| {
        let message = "samples of records are shown only where the configuration allows it: add [admin.samples], with `values` and `redact` as far as \
                       headers, values and keys are to be seen, and restart the router";
        Refused::new(StatusCode::CONFLICT, "no-samples", message)
    })?;
    let query = parse(query)?;
    find_route(&office.plan, &route).map_err(|error| Refused::new(StatusCode::NOT_FOUND, "no-route", error))?;
    if query.values {
        may_see_values(plan, &name, role)?;
    }
    let (wanted, what) = wanted(&office, &route, &query)?;
    let watch = office.samples.watch(wanted).ok_or_else(|| {
        let message = format!("{WATCHERS_MAX} watch samples already, which is as many as may; end one of them");
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
    })?;
    let mut pulse = tokio::time::interval(PULSE);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let lines = Lines {
        watch,
        redaction: Redaction::of(&plan.redact),
        left: query.max.map(NonZeroU64::get),
        pulse,
        until: Box::pin(tokio::time::sleep(within.samples)),
        told: 0,
        actor: name,
        what,
    };
    audit::note(&lines.actor, "watch samples", &lines.what, "begins");
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::new(lines)).into_response())
}

fn parse(query: Vec<(String, String)>) -> Result<SampleQuery, Refused> {
    let malformed = |message: String| Refused::new(StatusCode::UNPROCESSABLE_ENTITY, "malformed", message);
    let (mut members, mut fates) = (Map::new(), Vec::new());
    for (name, text) in query {
        let value = match &*name {
            "partition" | "per_second" | "max" | "values" => text.parse().unwrap_or(Value::String(text)),
            _ => Value::String(text),
        };
        if name == "fate" {
            fates.push(value);
        } else if members.insert(name.clone(), value).is_some() {
            return Err(malformed(format!("`{name}` is there twice")));
        }
    }
    members.insert("fate".to_owned(), fates.into());
    serde_json::from_value(members.into()).map_err(|error| malformed(error.to_string()))
}

/// Readers may look at dead letters, which are few. This is whatever passes.
fn may_see_values(plan: &SamplesPlan, name: &str, role: Role) -> Result<(), Refused> {
    if !plan.values {
        let message =
            "headers and values are not shown here: `[admin.samples] values` in the router's configuration is not true";
        return Err(Refused::new(StatusCode::CONFLICT, "no-values", message));
    }
    match role {
        Role::Operator => Ok(()),
        Role::Reader => {
            let message = format!(
                "{name} is a reader, and may watch without headers and values: those take a token with the role \"operator\""
            );
            let challenge = Some("Bearer realm=\"pointsman\", error=\"insufficient_scope\"");
            Err(Refused { challenge, ..Refused::new(StatusCode::FORBIDDEN, "reader", message) })
        }
    }
}

/// What is wanted, and the same for the log.
fn wanted(office: &Office, route: &str, query: &SampleQuery) -> Result<(Wanted, String), Refused> {
    let malformed = |message: String| Refused::new(StatusCode::UNPROCESSABLE_ENTITY, "malformed", message);
    let mut fates = [query.fate.is_empty(); Fate::ALL.len()];
    for name in &query.fate {
        let fate = Fate::ALL.into_iter().find(|fate| fate.name() == *name);
        let known = Fate::ALL.map(Fate::name).join(", ");
        let fate = fate.ok_or_else(|| malformed(format!("there is no fate {name:?}; there are {known}")))?;
        fates[fate as usize] = true;
    }
    let per_second = query.per_second.unwrap_or(PER_SECOND);
    if per_second.get() > PER_SECOND_MAX {
        return Err(malformed(format!("`per_second` is out of range: it takes a number from 1 to {PER_SECOND_MAX}")));
    }
    let index = office.plan.routes.iter().position(|plan| *plan.name == *route);
    let wanted = Wanted {
        // It was found before.
        route: index.unwrap_or(usize::MAX),
        fates,
        topic: query.topic.clone(),
        partition: query.partition,
        per_second,
        values: query.values,
    };
    let mut what = route.to_owned();
    what.extend(query.topic.iter().map(|topic| format!(", {topic}")));
    what.extend(query.partition.map(|partition| format!(", partition {partition}")));
    what.extend(query.fate.iter().map(|fate| format!(", {fate}")));
    what.push_str(if query.values { ", with values" } else { "" });
    Ok((wanted, what))
}

/// The answer, while it goes on.
struct Lines {
    watch: Watch,
    redaction: Redaction,
    /// Samples that may still be told.
    left: Option<u64>,
    pulse: Interval,
    until: Pin<Box<Sleep>>,
    told: u64,
    actor: Arc<str>,
    what: String,
}

impl Lines {
    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<SampleLine>> {
        if self.left == Some(0) || self.until.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        if self.pulse.poll_tick(context).is_ready() {
            return Poll::Ready(Some(SampleLine::Pulse(Pulse::new(&self.watch, Now::read().unix_ms))));
        }
        self.watch.poll(context).map(|sample| {
            let sample = sample?;
            self.told += 1;
            self.left = self.left.map(|left| left - 1);
            Some(SampleLine::Sample(Box::new(ShownSample::new(&sample, &self.redaction))))
        })
    }
}

impl HttpBody for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.next(context).map(|line| {
            let mut text = serde_json::to_string(&line?).ok()?;
            text.push('\n');
            Some(Ok(Frame::data(text.into())))
        })
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let result = format!("ends: {} told, {} missed", self.told, self.watch.missed());
        audit::note(&self.actor, "watch samples", &self.what, &result);
    }
}
