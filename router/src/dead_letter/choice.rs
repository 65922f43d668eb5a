//! Which dead letters are meant, as users say it: the options of the command line, and the members of the admin API.

use std::str::FromStr;
use std::sync::Arc;

use pointsman_config::Plan;
use pointsman_core::condition::DeadLetterCondition;
use pointsman_core::port::Log;
use serde::{Deserialize, Deserializer};
use utoipa::{IntoParams, ToSchema};

use super::handle::Site;
use super::look::LookError;
use super::selection::{HeaderFilter, OriginFilter, Selection, Text};
use super::topic::{Topic, of_plan};
use crate::lookup::{find_route, find_topic};
use crate::record_text::{LineError, parse_time};

/// The letters that are meant: those that every part agrees with, in all dead-letter topics of the configuration, unless told
/// otherwise.
#[derive(Clone, Debug, Default, clap::Args, Deserialize, ToSchema, IntoParams)]
#[group(skip)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
#[non_exhaustive]
pub struct Choice {
    /// Letters of this route, in its dead-letter topic. With a topic: in that one.
    #[arg(long, value_name = "NAME")]
    #[serde(default)]
    pub route: Option<String>,
    /// Letters in this topic, whoever writes to it.
    #[arg(long, value_name = "NAME")]
    #[serde(default)]
    pub topic: Option<String>,
    /// Failed in this stage: its plugin's name, or the first digits of the plugin's SHA-256, at least 8.
    #[arg(long, visible_alias = "plugin", value_name = "NAME", help_heading = "Which letters")]
    #[serde(default)]
    pub stage: Option<String>,
    /// Failed with this class, such as reject or trap; with other tools, the exception.
    #[arg(long, value_name = "CLASS", help_heading = "Which letters")]
    #[serde(default)]
    pub class: Option<String>,
    /// Failed with this code.
    #[arg(long, value_name = "CODE", help_heading = "Which letters")]
    #[serde(default)]
    pub code: Option<String>,
    /// Came from here: topic, topic/partition or topic/partition/offset.
    #[arg(long, value_name = "TOPIC[/PARTITION[/OFFSET]]", help_heading = "Which letters")]
    #[serde(deserialize_with = "from_text")]
    #[schema(value_type = Option<String>)]
    #[param(value_type = Option<String>)]
    #[serde(default)]
    pub origin: Option<OriginFilter>,
    /// Failed at this time or later: RFC 3339, milliseconds, or a span before now such as 2h.
    #[arg(long, value_name = "TIME", help_heading = "Which letters")]
    #[serde(deserialize_with = "from_text")]
    #[schema(value_type = Option<String>)]
    #[param(value_type = Option<String>)]
    #[serde(default)]
    pub since: Option<Moment>,
    /// Failed before this time.
    #[arg(long, value_name = "TIME", help_heading = "Which letters")]
    #[serde(deserialize_with = "from_text")]
    #[schema(value_type = Option<String>)]
    #[param(value_type = Option<String>)]
    #[serde(default)]
    pub until: Option<Moment>,
    /// Has this key.
    #[arg(long, value_name = "TEXT", help_heading = "Which letters")]
    #[serde(default)]
    pub key: Option<String>,
    /// Has this header, with this value or with any: NAME or NAME=VALUE. It may be given again.
    #[arg(long = "header", value_name = "NAME[=VALUE]", help_heading = "Which letters")]
    #[serde(rename = "header", deserialize_with = "headers")]
    #[schema(value_type = Vec<String>)]
    #[param(value_type = Vec<String>)]
    #[serde(default)]
    pub headers: Vec<HeaderFilter>,
    /// Has this text in its payload.
    #[arg(long, value_name = "TEXT", help_heading = "Which letters")]
    #[serde(default)]
    pub text: Option<String>,
    /// A condition in CEL: what those of a route know (value, key, headers, topic …), and writer, route, stage,
    /// plugin_sha256, class, code, message, first_failed, last_failed, replays, deferred, truncated.
    #[arg(long = "where", value_name = "CEL", value_parser = condition, help_heading = "Which letters")]
    #[serde(rename = "where", deserialize_with = "condition_from_text")]
    #[schema(value_type = Option<String>)]
    #[param(value_type = Option<String>)]
    #[serde(default)]
    pub condition: Option<DeadLetterCondition>,
}

impl Choice {
    /// Whether it says of which letters it is, by more than the topic they are in.
    #[must_use]
    pub fn is_narrow(&self) -> bool {
        let Self { route, topic: _, stage, class, code, origin, since, until, key, headers, text, condition } = self;
        [route, stage, class, code, key, text].iter().any(|text| text.is_some())
            || [since, until].iter().any(|time| time.is_some())
            || origin.is_some()
            || !headers.is_empty()
            || condition.is_some()
    }

    /// The topics to read, and what to pick of them. `note` is told which are not there, and what they may lose.
    ///
    /// # Errors
    /// [`LookError`]: it names what is not there, or the log can't be asked.
    pub fn find(&self, site: &Site<'_>, note: &mut dyn FnMut(&str)) -> Result<(Vec<Topic>, Selection), LookError> {
        let now_ms = (site.now_ms)();
        let selection = Selection {
            route: self.route.clone(),
            stage: self.stage.clone(),
            class: self.class.clone(),
            code: self.code.clone(),
            origin: self.origin.clone(),
            since_ms: self.since.map(|since| since.before(now_ms)),
            until_ms: self.until.map(|until| until.before(now_ms)),
            key: self.key.as_ref().map(|key| key.clone().into_bytes()),
            headers: self.headers.clone(),
            text: self.text.as_deref().map(Text::new),
            condition: self.condition.clone(),
        };
        Ok((topics(site.log, site.plan, self.route.as_deref(), self.topic.as_deref(), note)?, selection))
    }
}

/// The topics with the letters of this route, or in this topic: all of the plan without either. `note` is told which are not there,
/// and what they may lose.
///
/// # Errors
/// [`LookError`]: it names what is not there, or the log can't be asked.
pub(super) fn topics(
    log: &dyn Log,
    plan: &Plan,
    route: Option<&str>,
    topic: Option<&str>,
    note: &mut dyn FnMut(&str),
) -> Result<Vec<Topic>, LookError> {
    let topics = look_up(log, plan, route, topic, note)?;
    topics.iter().flat_map(Topic::cautions).for_each(|caution| note(&format!("note: {caution}")));
    Ok(topics)
}

fn look_up(
    log: &dyn Log,
    plan: &Plan,
    route: Option<&str>,
    topic: Option<&str>,
    note: &mut dyn FnMut(&str),
) -> Result<Vec<Topic>, LookError> {
    let route = route.map(|name| find_route(plan, name)).transpose()?;
    if let Some(topic) = topic {
        return Ok(vec![Topic::of(log, &find_topic(log, topic, "")?)]);
    }
    let names = match route {
        None => of_plan(plan),
        Some(route) => {
            let topic = route.dead_letter.and_then(|topic| plan.topics.get(topic.0 as usize));
            let none = || LookError::NoTopic(format!("route {:?} has no dead-letter topic", route.name));
            vec![Arc::clone(&topic.ok_or_else(none)?.name)]
        }
    };
    if names.is_empty() {
        return Err(LookError::NoTopic("no route of the configuration has a dead-letter topic".into()));
    }
    let topics = Topic::look_up(log, &names)?;
    for name in names.iter().filter(|name| !topics.iter().any(|topic| topic.name == **name)) {
        note(&format!("note: topic {name} is not there; the router makes it when it starts"));
    }
    Ok(topics)
}

/// A point in time, or a span before now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Milliseconds since 1970-01-01 UTC.
    At(i64),
    /// Milliseconds before now.
    Ago(i64),
}

impl Moment {
    /// Milliseconds since 1970-01-01 UTC.
    fn before(self, now_ms: i64) -> i64 {
        match self {
            Self::At(ms) => ms,
            Self::Ago(ms) => now_ms.saturating_sub(ms).max(0),
        }
    }
}

impl FromStr for Moment {
    type Err = LineError;

    fn from_str(text: &str) -> Result<Self, LineError> {
        match humantime::parse_duration(text) {
            Ok(span) => Ok(Self::Ago(i64::try_from(span.as_millis()).unwrap_or(i64::MAX))),
            Err(_) => parse_time(text).map(Self::At).map_err(|error| LineError {
                remedy:
                    "write a time with its offset such as 2026-01-31T12:00:00Z, milliseconds since 1970-01-01 UTC, or \
                         a span before now such as 2h or 3days"
                        .into(),
                ..error
            }),
        }
    }
}

/// `name` or `name=value`.
impl From<&str> for HeaderFilter {
    fn from(text: &str) -> Self {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        Self { name: name.to_owned(), value: value.map(|value| value.as_bytes().to_vec()) }
    }
}

fn condition(text: &str) -> Result<DeadLetterCondition, String> {
    DeadLetterCondition::compile(text).map_err(|error| {
        let at = error.span.and_then(|span| text.get(span)).filter(|at| !at.is_empty() && *at != text);
        let at = at.map(|at| format!(", at `{at}`")).unwrap_or_default();
        let help = error.help.map(|help| format!("; {help}")).unwrap_or_default();
        format!("{}{at}{help}", error.message)
    })
}

/// A value that is written as text.
fn from_text<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: std::fmt::Display>,
{
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(|error| said(&text, &error))).transpose()
}

fn condition_from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DeadLetterCondition>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| condition(&text).map_err(|error| said(&text, &error))).transpose()
}

fn said<E: serde::de::Error>(text: &str, error: &dyn std::fmt::Display) -> E {
    E::custom(format_args!("{text:?}: {error}"))
}

fn headers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<HeaderFilter>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    Ok(texts.iter().map(|text| HeaderFilter::from(text.as_str())).collect())
}
