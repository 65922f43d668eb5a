//! Dead letters: looked at, replayed and discarded, as `pointsman dead-letter` does it.
//!
//! What is asked is done on a thread for what blocks, for a few minutes at most, and is given up where its client goes away: what was
//! replayed or discarded up to there stays done, and the next run goes on behind it.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::Office;
use super::answer::{Complaint, Refused};
use super::audit::Deed;
use super::entry::Actor;
use crate::dead_letter::{
    Choice, Counted, Edit, FindError, HandleError, Handling, HandlingLine, List, LookError, Order, PartitionRule,
    Replay, Report, ReportLine, ShownLetter, Signature, Site, Target, Timestamp, Verb, count, handle, list, show,
};
use crate::progress::UNTOLD;

/// Most letters of one answer, and how many without a word about it.
const LETTERS_MAX: u64 = 1000;
const LETTERS: u64 = 50;
/// Most bytes of the letters that are told in full in one answer.
const BYTES_MAX: usize = 8 << 20;
/// What is asked is given up after this.
const WITHIN: Duration = Duration::from_mins(4);

/// A list of letters.
#[derive(Serialize, ToSchema)]
pub(super) struct LetterListing {
    #[serde(flatten)]
    list: List,
    /// What is to be known besides, in sentences.
    notes: Vec<String>,
}

/// Letters by cause.
#[derive(Serialize, ToSchema)]
pub(super) struct CauseListing {
    #[serde(flatten)]
    counted: Counted,
    /// What is to be known besides, in sentences.
    notes: Vec<String>,
}

/// What is to be listed.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Most letters, the newest: 50, unless told otherwise, and 1000 at most.
    limit: Option<u64>,
    /// Those that were handled, too.
    #[serde(default)]
    all: bool,
}

/// Which causes are to be counted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CountQuery {
    /// Those letters that were handled, too.
    #[serde(default)]
    all: bool,
}

/// Which letter is to be shown.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ShowQuery {
    /// `topic/partition/offset`; or `partition/offset`, with a route or a topic.
    letter: String,
    /// A letter of this route.
    route: Option<String>,
    /// A letter in this topic.
    topic: Option<String>,
}

/// Which letters are to be handled, and how. (The orders have these members each for itself: serde does not refuse unknown ones of what
/// is flattened.)
struct How {
    which: Choice,
    all: bool,
    dry_run: bool,
    rate: Option<NonZeroU32>,
    max: Option<NonZeroU64>,
    limit: Option<u64>,
}

/// What is to be replayed, and how.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayOrder {
    /// Which letters.
    #[serde(default)]
    which: Choice,
    /// All letters, where nothing narrows them down.
    #[serde(default)]
    all: bool,
    /// Nothing is to be done, only to be told what would be. That is so unless it is `false`.
    #[serde(default = "yes")]
    dry_run: bool,
    /// Most letters a second.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1)]
    rate: Option<NonZeroU32>,
    /// Most letters in all.
    #[serde(default)]
    #[schema(value_type = Option<u64>, minimum = 1)]
    max: Option<NonZeroU64>,
    /// Most letters that the answer tells of one by one: 50, unless told otherwise, and 1000 at most.
    #[serde(default)]
    limit: Option<u64>,
    /// Where to.
    #[serde(default)]
    to: To,
    /// Where to: this topic.
    #[serde(default)]
    to_topic: Option<String>,
    /// The partition. To the retry topic, it is always that of the origin.
    #[serde(default)]
    partition: Partition,
    /// The timestamp.
    #[serde(default)]
    timestamp: Time,
    /// What is mended before: `header NAME=VALUE`, `unset NAME`, or a JSON merge patch on the value.
    #[serde(default)]
    edits: Vec<String>,
    /// Letters that were replayed so often already go to the parking topic instead.
    #[serde(default = "three")]
    #[schema(value_type = u32, minimum = 1)]
    max_replays: NonZeroU32,
}

const fn yes() -> bool {
    true
}

const fn three() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(2)
}

/// What is to be discarded.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DiscardOrder {
    /// Which letters.
    #[serde(default)]
    which: Choice,
    /// All letters, where nothing narrows them down.
    #[serde(default)]
    all: bool,
    /// Nothing is to be done, only to be told what would be. That is so unless it is `false`.
    #[serde(default = "yes")]
    dry_run: bool,
    /// Most letters a second.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1)]
    rate: Option<NonZeroU32>,
    /// Most letters in all.
    #[serde(default)]
    #[schema(value_type = Option<u64>, minimum = 1)]
    max: Option<NonZeroU64>,
    /// Most letters that the answer tells of one by one: 50, unless told otherwise, and 1000 at most.
    #[serde(default)]
    limit: Option<u64>,
}

/// Where records go.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum To {
    /// To the topic that they came from, which all see who read it.
    #[default]
    Source,
    /// To the retry topic of their route, which nobody else sees, and where their attempts start anew.
    Retry,
}

/// Which partition records go to.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum Partition {
    /// That of their origin.
    #[default]
    Origin,
    /// The one that Java clients choose for the key.
    Key,
}

/// Which timestamp records get.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum Time {
    /// Their own.
    #[default]
    Original,
    /// The time of writing.
    Now,
}

/// What was done, or would be.
#[derive(Serialize, ToSchema)]
pub(super) struct Handled {
    /// How many letters there were of each outcome.
    summary: ReportLine,
    /// The first of them.
    letters: Vec<HandlingLine>,
    /// Whether these are all.
    all_told: bool,
    /// What is to be known besides, in sentences.
    notes: Vec<String>,
}

/// Dead letters that were not handled, the newest last
#[utoipa::path(get, path = "/v1/dead-letters", tag = "dead letters", params(Choice, ListQuery), responses(
    (status = OK, body = LetterListing), (status = "4XX", body = Complaint), (status = "5XX", body = Complaint),
))]
pub(super) async fn ls(
    State(office): State<Arc<Office>>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<LetterListing>, Refused> {
    let (choice, ListQuery { limit, all }) = parse(query, &["limit", "all"])?;
    let limit = usize::try_from(limited(limit)?).unwrap_or(usize::MAX);
    let looked = look(&office, move |site, note| list(site, &choice, limit, all, note)).await?;
    let (list, notes) = looked;
    Ok(Json(LetterListing { list, notes }))
}

/// Dead letters by why they failed, the most frequent cause first
#[utoipa::path(get, path = "/v1/dead-letters/stats", tag = "dead letters", params(Choice, CountQuery), responses(
    (status = OK, body = CauseListing), (status = "4XX", body = Complaint), (status = "5XX", body = Complaint),
))]
pub(super) async fn stats(
    State(office): State<Arc<Office>>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<CauseListing>, Refused> {
    let (choice, CountQuery { all }) = parse(query, &["all"])?;
    let (counted, notes) = look(&office, move |site, note| count(site, &choice, all, note)).await?;
    Ok(Json(CauseListing { counted, notes }))
}

/// One dead letter in full
///
/// A payload that was too large for the letter is fetched from where the record came from.
#[utoipa::path(get, path = "/v1/dead-letters/show", tag = "dead letters", params(ShowQuery), responses(
    (status = OK, body = ShownLetter), (status = "4XX", body = Complaint), (status = "5XX", body = Complaint),
))]
pub(super) async fn one(
    State(office): State<Arc<Office>>,
    Query(ShowQuery { letter, route, topic }): Query<ShowQuery>,
) -> Result<Json<ShownLetter>, Refused> {
    let looked = look(&office, move |site, note| show(site, &letter, route.as_deref(), topic.as_deref(), note));
    let (shown, _) = looked.await?;
    let size = shown.found.whole().and_then(|record| record.value.as_ref()).map_or(0, Vec::len);
    if size > BYTES_MAX {
        let message =
            format!("its value has {size} bytes, too many for an answer; `pointsman dead-letter show` shows it");
        return Err(Refused::new(StatusCode::CONFLICT, "too-large", message));
    }
    shown.into_json().map(Json).map_err(Refused::bug)
}

/// Send the records that became dead letters on their way once more
///
/// It is a dry run, unless `dry_run` is `false`. One at a time is replayed or discarded.
#[utoipa::path(post, path = "/v1/dead-letters/replay", tag = "dead letters", request_body = ReplayOrder, responses(
    (status = OK, body = Handled), (status = "4XX", body = Complaint), (status = "5XX", body = Complaint),
))]
pub(super) async fn replay(
    State(office): State<Arc<Office>>,
    Extension(deed): Extension<Deed>,
    Extension(actor): Extension<Actor>,
    Json(order): Json<ReplayOrder>,
) -> Result<Json<Handled>, Refused> {
    let edits =
        order.edits.iter().map(|text| text.parse::<Edit>().map_err(|error| malformed(format!("{text:?}: {error}"))));
    let verb = Replay {
        to: match (&order.to_topic, order.to) {
            (Some(topic), _) => Target::Topic(topic.as_str().into()),
            (None, To::Source) => Target::Source,
            (None, To::Retry) => Target::Retry,
        },
        partition: match order.partition {
            Partition::Origin => PartitionRule::Origin,
            Partition::Key => PartitionRule::Key,
        },
        timestamp: match order.timestamp {
            Time::Original => Timestamp::Original,
            Time::Now => Timestamp::Now,
        },
        edits: edits.collect::<Result<_, _>>()?,
        max_replays: order.max_replays.get(),
    };
    let action = if order.dry_run { "replay (dry run)" } else { "replay" };
    let ReplayOrder { which, all, dry_run, rate, max, limit, .. } = order;
    run(&office, deed, actor, action, Verb::Replay(verb), How { which, all, dry_run, rate, max, limit }).await
}

/// Strike dead letters off
///
/// It is a dry run, unless `dry_run` is `false`. One at a time is replayed or discarded.
#[utoipa::path(post, path = "/v1/dead-letters/discard", tag = "dead letters", request_body = DiscardOrder, responses(
    (status = OK, body = Handled), (status = "4XX", body = Complaint), (status = "5XX", body = Complaint),
))]
pub(super) async fn discard(
    State(office): State<Arc<Office>>,
    Extension(deed): Extension<Deed>,
    Extension(actor): Extension<Actor>,
    Json(order): Json<DiscardOrder>,
) -> Result<Json<Handled>, Refused> {
    let DiscardOrder { which, all, dry_run, rate, max, limit } = order;
    let action = if dry_run { "discard (dry run)" } else { "discard" };
    run(&office, deed, actor, action, Verb::Discard, How { which, all, dry_run, rate, max, limit }).await
}

fn malformed(message: impl std::fmt::Display) -> Refused {
    Refused::new(StatusCode::UNPROCESSABLE_ENTITY, "malformed", message)
}

fn limited(limit: Option<u64>) -> Result<u64, Refused> {
    let limit = limit.unwrap_or(LETTERS);
    if (1..=LETTERS_MAX).contains(&limit) {
        Ok(limit)
    } else {
        Err(malformed(format!("`limit` is out of range: it takes a number from 1 to {LETTERS_MAX}")))
    }
}

/// A query: which letters, and the members with these names, which say how.
fn parse<T: DeserializeOwned>(query: Vec<(String, String)>, how: &[&str]) -> Result<(Choice, T), Refused> {
    let (mut which, mut rest) = (Map::new(), Map::new());
    for (name, text) in query {
        let is_how = how.contains(&&*name);
        let map = if is_how { &mut rest } else { &mut which };
        // How is said by numbers and words of JSON; which, by text.
        let value = if is_how { text.parse().unwrap_or(Value::String(text)) } else { Value::String(text) };
        if name == "header" {
            if let Value::Array(headers) = map.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
                headers.push(value);
            }
        } else if map.insert(name.clone(), value).is_some() {
            return Err(malformed(format!("`{name}` is there twice")));
        }
    }
    let which = serde_json::from_value(Value::Object(which)).map_err(malformed)?;
    Ok((which, serde_json::from_value(Value::Object(rest)).map_err(malformed)?))
}

/// Lets go where whoever waits for it is gone.
struct Leash(Arc<AtomicBool>);

impl Drop for Leash {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Holds work on a leash: to be kept by whoever waits, and to be asked by whoever works.
fn leash() -> (Leash, impl Fn() -> bool + Send + 'static) {
    let gone = Arc::new(AtomicBool::new(false));
    let (kept, until) = (Arc::clone(&gone), Instant::now() + WITHIN);
    (Leash(kept), move || gone.load(Ordering::Relaxed) || Instant::now() >= until)
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// Notes, without what a command line puts before them.
fn noted(notes: &mut Vec<String>, text: &str) {
    const NOTES_MAX: usize = 20;
    if notes.len() < NOTES_MAX {
        notes.push(text.strip_prefix("note: ").unwrap_or(text).to_owned());
    }
}

async fn look<T: Send + 'static>(
    office: &Arc<Office>,
    ask: impl FnOnce(&Site<'_>, &mut dyn FnMut(&str)) -> Result<T, LookError> + Send + 'static,
) -> Result<(T, Vec<String>), Refused> {
    let (_leash, stop) = leash();
    let at = Arc::clone(office);
    let looked = office.hands.reading.work(move || {
        let site = Site { log: &*at.log, plan: &at.plan, now_ms: &now_ms, stop: &stop, progress: UNTOLD };
        let mut notes = Vec::new();
        ask(&site, &mut |text| noted(&mut notes, text)).map(|found| (found, notes))
    });
    looked.await?.map_err(|error| unseen(&error))
}

fn unseen(error: &LookError) -> Refused {
    let (status, word) = match error {
        LookError::Topic(_) | LookError::NoRoute(_) | LookError::NoTopic(_) | LookError::NoPartition { .. } => {
            (StatusCode::NOT_FOUND, "no-such-name")
        }
        LookError::Find(FindError::OutOfRange { .. } | FindError::Gap(_)) => (StatusCode::NOT_FOUND, "no-letter"),
        LookError::Place(_) => (StatusCode::UNPROCESSABLE_ENTITY, "malformed"),
        LookError::Log(_) | LookError::Read(_) | LookError::Find(FindError::Log(_) | FindError::Read(_)) => {
            (StatusCode::BAD_GATEWAY, "log")
        }
        LookError::Stopped | LookError::Find(FindError::Stopped(_)) => {
            let message = format!("it was not done within {} s; narrow it down, by `since` say", WITHIN.as_secs());
            return Refused::new(StatusCode::GATEWAY_TIMEOUT, "stopped", message);
        }
    };
    Refused::new(status, word, error)
}

async fn run(
    office: &Arc<Office>,
    deed: Deed,
    actor: Actor,
    action: &'static str,
    verb: Verb,
    how: How,
) -> Result<Json<Handled>, Refused> {
    let limit = limited(how.limit)?;
    if !how.all && !how.which.is_narrow() {
        return Err(malformed("nothing says which letters are meant: narrow them down in `which`, or say `all`"));
    }
    let signature = Signature::of(&actor.0);
    deed.begin(action, &format!("dead letters, run {}", signature.run));
    let (_leash, stop) = leash();
    let (at, told) = (Arc::clone(office), deed.clone());
    let order = Order { rate: how.rate, max: how.max, dry_run: how.dry_run, ..Order::new(verb, signature) };
    let done = office.hands.handling.work(move || {
        let site = Site { log: &*at.log, plan: &at.plan, now_ms: &now_ms, stop: &stop, progress: UNTOLD };
        let done = handled(&site, &how.which, &order, limit);
        told.end(match &done {
            Ok(Handled { summary: ReportLine { replayed, parked, discarded, left_alone, failed, .. }, .. }) => format!(
                "replayed {replayed}, parked {parked}, discarded {discarded}, left alone {left_alone}, failed {failed}"
            ),
            Err(refused) => format!("refused: {}: {}", refused.complaint.error, refused.complaint.message),
        });
        done
    });
    match done.await {
        Ok(done) => done.map(Json),
        Err(refused) => {
            deed.end(format!("refused: {}", refused.complaint.error));
            Err(refused)
        }
    }
}

fn handled(site: &Site<'_>, which: &Choice, order: &Order, limit: u64) -> Result<Handled, Refused> {
    let (mut notes, mut letters, mut bytes, mut seen) = (Vec::new(), Vec::new(), 0, 0_usize);
    let mut note = |text: &str| noted(&mut notes, text);
    let (topics, selection) = which.find(site, &mut note).map_err(|error| unseen(&error))?;
    let mut see = |handling: &Handling| {
        seen += 1;
        if (letters.len() as u64) < limit
            && bytes < BYTES_MAX
            && let Ok(line) = HandlingLine::new(handling)
        {
            bytes += line.size();
            letters.push(line);
        }
    };
    let mut report = Report::default();
    let ended = handle(site, &topics, &selection, order, &mut report, &mut see, &mut note);
    let done = report.done();
    let summary = ReportLine::new(&report, order.dry_run);
    match ended {
        Ok(()) => Ok(Handled { summary, all_told: letters.len() == seen, letters, notes }),
        Err(error) => Err(undone(&error, if order.dry_run { 0 } else { done })),
    }
}

fn undone(error: &HandleError, done: u64) -> Refused {
    let (status, word) = match error {
        HandleError::Target { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "malformed"),
        HandleError::Unfit(_) => (StatusCode::CONFLICT, "unfit"),
        HandleError::Stopped => (StatusCode::GATEWAY_TIMEOUT, "stopped"),
        HandleError::Log(_) | HandleError::Read(_) | HandleError::Audit(_) | HandleError::Write(_) => {
            (StatusCode::BAD_GATEWAY, "log")
        }
    };
    Refused::new(status, word, format_args!("{error} ({done} were done before that, and stay so)"))
}
