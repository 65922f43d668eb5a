//! `retry`, `dead_letter`, `breaker` and `on` of a route.

use std::num::NonZeroU32;
use std::time::Duration;

use pointsman_core::breaker::Terms;
use pointsman_core::failure::FailureClass;
use pointsman_core::policy::{Reaction, RetrySchedule};
use toml::de::DeValue;

use super::topic;
use crate::findings::Span;
use crate::names::suggest;
use crate::raw::{At, Breaker, DeadLetter, Retry};
use crate::read::{Field, Table};

const MAX_ATTEMPTS: u32 = 6;
const MAX_ELAPSED: Duration = Duration::from_hours(24);
const INITIAL: Duration = Duration::from_secs(1);
const MULTIPLIER: f64 = 2.0;
const MAX: Duration = Duration::from_mins(10);
const JITTER: f64 = 0.2;
const RETENTION: Duration = Duration::from_hours(14 * 24);
const TOKENS: u32 = 10;
const MAX_TOKENS: NonZeroU32 = NonZeroU32::new(100).unwrap();
const SUCCESSES_PER_TOKEN: NonZeroU32 = NonZeroU32::MIN;
const TOKEN_EVERY: Duration = Duration::from_mins(1);
const PROBE_INITIAL: Duration = Duration::from_secs(1);
const PROBE_MAX: Duration = Duration::from_mins(1);

const MILLISECOND: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_hours(24);

const REACTIONS: [(&str, Reaction); 4] = [
    ("park", Reaction::Park),
    ("dead-letter", Reaction::DeadLetter),
    ("drop", Reaction::Drop),
    ("halt", Reaction::Halt),
];

/// `retry = false`, or a table; without it the defaults hold.
pub(super) fn retry(route: &Table<'_>) -> Option<Retry> {
    let Some(field) = route.get("retry") else { return Some(default_retry(&route.span)) };
    let Some(table) = switch(&field)? else { return Some(default_retry(&field.span)) };
    let or = default_retry(&table.span);
    let attempts = table.get("max_attempts").and_then(|field| field.integer(1..=1_000_000));
    let duration = |key, longest| table.get(key).and_then(|field: Field<'_>| field.duration(MILLISECOND..=longest));
    let max_elapsed = duration("max_elapsed", DAY * 365).map_or(MAX_ELAPSED, |at| at.value);
    let initial = duration("initial", DAY * 30).unwrap_or(or.initial);
    let max = duration("max", DAY * 30).map_or(MAX, |at| at.value);
    let multiplier = table.get("multiplier").and_then(|field| field.number(1.0..=1000.0)).unwrap_or(MULTIPLIER);
    let jitter = table.get("jitter").and_then(|field| field.number(0.0..=1.0)).unwrap_or(JITTER);
    let topic = table.get("topic").and_then(|field| topic(&field));
    let span = table.span.clone();
    table.finish();
    let max_attempts = attempts.and_then(|attempts| u32::try_from(attempts).ok()).unwrap_or(MAX_ATTEMPTS);
    let schedule = RetrySchedule { max_attempts, max_elapsed, initial: initial.value, multiplier, max, jitter };
    Some(Retry { schedule, initial, topic, span })
}

fn default_retry(span: &std::ops::Range<usize>) -> Retry {
    Retry {
        schedule: RetrySchedule {
            max_attempts: MAX_ATTEMPTS,
            max_elapsed: MAX_ELAPSED,
            initial: INITIAL,
            multiplier: MULTIPLIER,
            max: MAX,
            jitter: JITTER,
        },
        initial: At::new(INITIAL, span.clone()),
        topic: None,
        span: span.clone(),
    }
}

/// `dead_letter = false`, or a table; without it the defaults hold.
pub(super) fn dead_letter(route: &Table<'_>) -> Option<DeadLetter> {
    let default = |span| DeadLetter { topic: None, retention: Some(RETENTION), span };
    let Some(field) = route.get("dead_letter") else { return Some(default(route.span.clone())) };
    let Some(table) = switch(&field)? else { return Some(default(field.span.clone())) };
    let topic = table.get("topic").and_then(|field| topic(&field));
    let retention = table.get("retention").map_or(Some(RETENTION), |field| retention(&field, RETENTION));
    let span = table.span.clone();
    table.finish();
    Some(DeadLetter { topic, retention, span })
}

/// How long a topic keeps its records; `None` is for ever, and `or` stands in for what was noted as a mistake.
pub(in crate::read) fn retention(field: &Field<'_>, or: Duration) -> Option<Duration> {
    if field.value.as_str() == Some("forever") {
        return None;
    }
    Some(field.duration(Duration::from_mins(1)..=DAY * 36_525).map_or(or, |at| at.value))
}

/// `breaker = false`, or a table; without it the defaults hold. No key says "token": its value would be taken for a secret.
pub(super) fn breaker(route: &Table<'_>) -> Option<Breaker> {
    let Some(field) = route.get("breaker") else { return Some(default_breaker(None, &route.span)) };
    let Some(table) = switch(&field)? else { return Some(default_breaker(None, &field.span)) };
    let or = default_breaker(Some(table.span.clone()), &table.span);
    let tokens = table.get("initial").and_then(|field| count(&field, 0).map(|count| At::new(count, field.span)));
    let max_tokens = table.get("max").and_then(|field| at_least_one(&field)).unwrap_or(MAX_TOKENS);
    let successes = table.get("successes_for_one").and_then(|field| at_least_one(&field));
    let duration = |key, range| table.get(key).and_then(|field: Field<'_>| field.duration(range));
    let token_every = duration("one_every", Duration::from_secs(1)..=DAY * 30).map_or(TOKEN_EVERY, |at| at.value);
    let probe_initial = duration("probe_initial", MILLISECOND..=DAY);
    let probe_max = duration("probe_max", MILLISECOND..=DAY).map_or(PROBE_MAX, |at| at.value);
    table.finish();
    let (tokens, tokens_span) = tokens.map_or((TOKENS, or.tokens), |at| (at.value, at.span));
    let (probe_initial, probe_span) = probe_initial.map_or((PROBE_INITIAL, or.probe_initial), |at| (at.value, at.span));
    let successes_per_token = successes.unwrap_or(SUCCESSES_PER_TOKEN);
    let terms = Terms { tokens, max_tokens, successes_per_token, token_every, probe_initial, probe_max };
    Some(Breaker { terms, tokens: tokens_span, probe_initial: probe_span, written: or.written })
}

fn default_breaker(written: Option<Span>, span: &Span) -> Breaker {
    let terms = Terms {
        tokens: TOKENS,
        max_tokens: MAX_TOKENS,
        successes_per_token: SUCCESSES_PER_TOKEN,
        token_every: TOKEN_EVERY,
        probe_initial: PROBE_INITIAL,
        probe_max: PROBE_MAX,
    };
    Breaker { terms, tokens: span.clone(), probe_initial: span.clone(), written }
}

/// At most a million.
fn count(field: &Field<'_>, least: u64) -> Option<u32> {
    field.integer(least..=1_000_000).and_then(|number| u32::try_from(number).ok())
}

fn at_least_one(field: &Field<'_>) -> Option<NonZeroU32> {
    count(field, 1).and_then(NonZeroU32::new)
}

/// What is either `false` or a table: `None` for `false`, `Some(None)` for what is neither, which is noted.
fn switch<'t>(field: &Field<'t>) -> Option<Option<Table<'t>>> {
    match field.value {
        DeValue::Boolean(false) => None,
        DeValue::Boolean(true) => {
            field.wrong("can't be `true`", "leave it out for the defaults, write a table, or `false` to go without");
            Some(None)
        }
        _ => Some(field.table()),
    }
}

/// `on = { CLASS = "REACTION" }`.
pub(super) fn reactions(field: &Field<'_>) -> Vec<(FailureClass, At<Reaction>)> {
    let Some(table) = field.table() else { return Vec::new() };
    let mut reactions = Vec::new();
    // The names of classes are keys that the reference lists one by one.
    for class in FailureClass::ALL {
        if let Some(field) = table.get(class.name())
            && let Some(reaction) = field.choice(&REACTIONS)
        {
            reactions.push((class, At::new(reaction, field.span.clone())));
        }
    }
    for (name, field) in table.entries("CLASS") {
        if name.parse::<FailureClass>().is_err() {
            let remedy = suggest(name, FailureClass::ALL.map(FailureClass::name));
            table.findings().mistake(&field.key_span, format!("no class of failures is called `{name}`"), remedy);
        }
    }
    reactions
}
