//! Which letters a command is about.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use pointsman_core::condition::DeadLetterCondition;

use super::{Desk, Failed};
use crate::cli::configuration::find_route;
use crate::cli::log;
use crate::dead_letter::{self, HeaderFilter, OriginFilter, Selection, Text, Topic};
use crate::record_text::{LineError, parse_time};

/// The letters that are meant: those that every option agrees with.
#[derive(Debug, clap::Args)]
pub(super) struct Choice {
    /// The configuration file.
    file: PathBuf,
    #[command(flatten)]
    whereabouts: Whereabouts,
    #[command(flatten)]
    filter: Filter,
}

/// Which topics are read: all dead-letter topics of the configuration, unless told otherwise.
#[derive(Debug, clap::Args)]
pub(super) struct Whereabouts {
    /// Letters of this route, in its dead-letter topic. With --topic: in that one.
    #[arg(long, value_name = "NAME")]
    pub(super) route: Option<String>,
    /// Letters in this topic, whoever writes to it.
    #[arg(long, value_name = "NAME")]
    pub(super) topic: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Filter {
    /// Failed in this stage: its plugin's name, or the first digits of the plugin's SHA-256, at least 8.
    #[arg(long, visible_alias = "plugin", value_name = "NAME", help_heading = "Which letters")]
    stage: Option<String>,
    /// Failed with this class, such as reject or trap; with other tools, the exception.
    #[arg(long, value_name = "CLASS", help_heading = "Which letters")]
    class: Option<String>,
    /// Failed with this code.
    #[arg(long, value_name = "CODE", help_heading = "Which letters")]
    code: Option<String>,
    /// Came from here.
    #[arg(long, value_name = "TOPIC[/PARTITION[/OFFSET]]", help_heading = "Which letters")]
    origin: Option<OriginFilter>,
    /// Failed at this time or later: RFC 3339, milliseconds, or a span before now such as 2h.
    #[arg(long, value_name = "TIME", help_heading = "Which letters")]
    since: Option<Moment>,
    /// Failed before this time.
    #[arg(long, value_name = "TIME", help_heading = "Which letters")]
    until: Option<Moment>,
    /// Has this key.
    #[arg(long, value_name = "TEXT", help_heading = "Which letters")]
    key: Option<String>,
    /// Has this header, with this value or with any; it may be given again.
    #[arg(long = "header", value_name = "NAME[=VALUE]", value_parser = header, help_heading = "Which letters")]
    headers: Vec<HeaderFilter>,
    /// Has this text in its payload.
    #[arg(long, value_name = "TEXT", help_heading = "Which letters")]
    text: Option<String>,
    /// A condition in CEL: what those of a route know (value, key, headers, topic …), and writer, route, stage,
    /// plugin_sha256, class, code, message, first_failed, last_failed, replays, deferred, truncated.
    #[arg(long = "where", value_name = "CEL", value_parser = condition, help_heading = "Which letters")]
    condition: Option<DeadLetterCondition>,
}

impl Choice {
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// The topics to read, and what to pick of them.
    pub(super) fn find(&self, desk: &Desk<'_>, note: &mut dyn FnMut(&str)) -> Result<(Vec<Topic>, Selection), Failed> {
        let filter = &self.filter;
        let selection = Selection {
            route: self.whereabouts.route.clone(),
            stage: filter.stage.clone(),
            class: filter.class.clone(),
            code: filter.code.clone(),
            origin: filter.origin.clone(),
            since_ms: filter.since.map(|since| since.before(desk.now_ms)),
            until_ms: filter.until.map(|until| until.before(desk.now_ms)),
            key: filter.key.as_ref().map(|key| key.clone().into_bytes()),
            headers: filter.headers.clone(),
            text: filter.text.as_deref().map(Text::new),
            condition: filter.condition.clone(),
        };
        Ok((self.whereabouts.topics(desk, note)?, selection))
    }
}

impl Whereabouts {
    /// Looks the topics up; says which are not there, and what they may lose.
    pub(super) fn topics(&self, desk: &Desk<'_>, note: &mut dyn FnMut(&str)) -> Result<Vec<Topic>, Failed> {
        let topics = self.look_up(desk, note)?;
        topics.iter().flat_map(Topic::cautions).for_each(|caution| note(&format!("note: {caution}")));
        Ok(topics)
    }

    fn look_up(&self, desk: &Desk<'_>, note: &mut dyn FnMut(&str)) -> Result<Vec<Topic>, Failed> {
        let route = self.route.as_deref().map(|name| find_route(desk.plan, name)).transpose()?;
        if let Some(topic) = &self.topic {
            return Ok(vec![Topic::of(desk.log, &log::find_topic(desk.log, topic, "")?)]);
        }
        let names = match route {
            None => dead_letter::of_plan(desk.plan),
            Some(route) => {
                let topic = route.dead_letter.and_then(|topic| desk.plan.topics.get(topic.0 as usize));
                let none = || Failed::NoTopic(format!("route {:?} has no dead-letter topic", route.name));
                vec![Arc::clone(&topic.ok_or_else(none)?.name)]
            }
        };
        if names.is_empty() {
            return Err(Failed::NoTopic("no route of the configuration has a dead-letter topic".into()));
        }
        let topics = Topic::look_up(desk.log, &names)?;
        for name in names.iter().filter(|name| !topics.iter().any(|topic| topic.name == **name)) {
            note(&format!("note: topic {name} is not there; the router makes it when it starts"));
        }
        Ok(topics)
    }
}

/// A point in time, or a span before now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    At(i64),
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
fn header(text: &str) -> Result<HeaderFilter, LineError> {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    Ok(HeaderFilter { name: name.to_owned(), value: value.map(|value| value.as_bytes().to_vec()) })
}

fn condition(text: &str) -> Result<DeadLetterCondition, String> {
    DeadLetterCondition::compile(text).map_err(|error| {
        let at = error.span.and_then(|span| text.get(span)).filter(|at| !at.is_empty() && *at != text);
        let at = at.map(|at| format!(", at `{at}`")).unwrap_or_default();
        let help = error.help.map(|help| format!("; {help}")).unwrap_or_default();
        format!("{}{at}{help}", error.message)
    })
}
