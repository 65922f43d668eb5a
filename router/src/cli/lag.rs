//! `pointsman lag`: how far groups are behind.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use thiserror::Error;

use super::configuration;
use super::interrupt::Interrupts;
use super::redraw::draw;
use super::table::width;
use super::{Exit, complain, complain_of, printable, say};
use crate::lag::{Choice, Kind, LagError, Report, Watcher};
use crate::lookup::{NoRoute, find_route};
use crate::topology;

mod show;

/// Say how far the groups of a configuration are behind: in records, in time, and until retention comes to what they have not read.
///
/// The routers need not run, and nothing is joined or committed. Each topic of a route comes first: its sources, what is parked in
/// its retry topics, and the dead letters that nobody has handled; below, the partitions that want a look. Whether a group is well,
/// and how fast it is, takes more than one look: see --for and --watch.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The configuration file.
    file: PathBuf,
    /// Another group of the same log, whatever program it belongs to: the partitions that it has committed.
    #[arg(long, value_name = "NAME", conflicts_with = "route")]
    group: Option<String>,
    /// This route only.
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// This topic only.
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// Show all partitions.
    #[arg(long)]
    partitions: bool,
    /// Look for so long, such as 10s, for rates and a status. Another group than the configuration's own is judged after a minute.
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration, conflicts_with = "watch")]
    sample: Option<Duration>,
    /// Look again and again, every 2 seconds or as often as is said, until Ctrl-C.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..=3600), conflicts_with = "fail_above")]
    watch: Option<u64>,
    /// End with exit code 1 if a source is further behind than so many records, or than a duration such as 5m, or if that is not
    /// known.
    #[arg(long, value_name = "RECORDS|DURATION")]
    fail_above: Option<Limit>,
    /// Print it as one JSON object; with --watch, one on each line.
    #[arg(long)]
    json: bool,
}

/// What may be left.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    Records(u64),
    Age(Duration),
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self::Records).or_else(|_| humantime::parse_duration(text).map(Self::Age)).map_err(|error| {
            format!("{error}; write a number of records such as 1000, or a duration with its unit such as 5m")
        })
    }
}

/// There is no answer.
#[derive(Debug, Error)]
enum Failed {
    #[error(transparent)]
    NoRoute(#[from] NoRoute),
    #[error(transparent)]
    Lag(#[from] LagError),
    #[error("can't write the answer as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Failed {
    fn exit(&self) -> Exit {
        match self {
            Self::NoRoute(_) => Exit::Configuration,
            Self::Lag(LagError::Log(_)) => Exit::NotStarted,
            Self::Lag(LagError::NoGroup(_) | LagError::NoTopic { .. }) => Exit::No,
            Self::Json(_) => Exit::Fatal,
        }
    }
}

pub(crate) fn execute(arguments: &Arguments) -> Exit {
    let configuration = match configuration::load(&arguments.file) {
        Ok(configuration) => configuration,
        Err(exit) => return exit,
    };
    let plan = configuration.plan;
    if let Some(Err(no_route)) = arguments.route.as_ref().map(|route| find_route(&plan, route)) {
        complain(&format!("error: {no_route}"));
        return Failed::from(no_route).exit();
    }
    let log = match topology::open_log_to_look(&plan, &configuration.directory) {
        Ok(log) => log,
        Err(error) => {
            complain_of(&error);
            return Exit::NotStarted;
        }
    };
    let interrupts = match Interrupts::listen_here() {
        Ok(interrupts) => interrupts,
        Err(exit) => return exit,
    };
    let Arguments { group, route, topic, .. } = arguments;
    let choice = Choice { group: group.clone(), route: route.clone(), topic: topic.clone() };
    let watcher = Watcher::new(&*log, &plan, choice);
    let stop = || interrupts.any();
    let answered = match (arguments.watch, arguments.sample) {
        (Some(seconds), _) => watch(arguments, watcher, Duration::from_secs(seconds), &stop),
        (None, sample) => once(arguments, watcher, sample, &stop),
    };
    answered.unwrap_or_else(|failed| {
        complain(&format!("error: {failed}"));
        failed.exit()
    })
}

/// Looks, for as long as is asked for, and answers once.
fn once(
    arguments: &Arguments,
    mut watcher: Watcher<'_>,
    sample: Option<Duration>,
    stop: &dyn Fn() -> bool,
) -> Result<Exit, Failed> {
    let begun = Instant::now();
    let mut report = watcher.look(now_ms(), stop)?;
    if let Some(sample) = sample {
        if io::stderr().is_terminal() {
            complain(&format!("looking for {}", humantime::format_duration(sample)));
        }
        let pause = (sample / 10).clamp(Duration::from_millis(100), Duration::from_secs(5));
        while begun.elapsed() < sample && !stop() {
            wait(pause.min(sample.saturating_sub(begun.elapsed())), stop);
            report = watcher.look(now_ms(), stop)?;
        }
    }
    if arguments.json {
        say(&printable::json(&serde_json::to_string_pretty(&report)?));
    } else {
        say(&show::text(&report, arguments.partitions, width()));
    }
    Ok(arguments.fail_above.map_or(Exit::Fine, |limit| judge(&report, limit)))
}

/// Looks until it is interrupted. What goes wrong after the first look may be over with the next.
fn watch(
    arguments: &Arguments,
    mut watcher: Watcher<'_>,
    pause: Duration,
    stop: &dyn Fn() -> bool,
) -> Result<Exit, Failed> {
    let is_terminal = io::stdout().is_terminal() && !arguments.json;
    let (mut drawn, mut is_first) = (0, true);
    loop {
        let begun = Instant::now();
        match watcher.look(now_ms(), stop) {
            // What was cut off is not all.
            Ok(_) if stop() => return Ok(Exit::Fine),
            Ok(report) if arguments.json => say(&printable::json(&serde_json::to_string(&report)?)),
            Ok(report) => {
                let text = format!("{}\n{}\n", report.at, show::text(&report, arguments.partitions, width()));
                if is_terminal {
                    drawn = draw(&fitting(&text), drawn);
                } else {
                    say(&text);
                }
            }
            Err(error) if is_first => return Err(error.into()),
            Err(error) => {
                complain(&format!("error: {error}; looking again"));
                // The picture is left above.
                drawn = 0;
            }
        }
        is_first = false;
        wait(pause.saturating_sub(begun.elapsed()), stop);
        if stop() {
            return Ok(Exit::Fine);
        }
    }
}

/// As many lines as the terminal has, which can't be drawn over once they have left it.
fn fitting(text: &str) -> String {
    let rows = crossterm::terminal::size().map_or(usize::MAX, |(_, rows)| usize::from(rows));
    let (lines, room) = (text.trim_end().lines().count(), rows.saturating_sub(2).max(1));
    if lines <= room {
        return text.trim_end().to_owned();
    }
    let shown: Vec<&str> = text.lines().take(room - 1).collect();
    format!("{}\n… {} more lines", shown.join("\n"), lines + 1 - room)
}

/// Lets time pass until it is over, or until an interrupt comes, which unparks this thread.
fn wait(time: Duration, stop: &dyn Fn() -> bool) {
    let until = Instant::now() + time;
    while !stop() && Instant::now() < until {
        thread::park_timeout(until.saturating_duration_since(Instant::now()));
    }
}

/// Whether all sources are within the limit. What is not known is not.
fn judge(report: &Report, limit: Limit) -> Exit {
    let mut exit = Exit::Fine;
    for topic in &report.missing {
        complain(&format!("there is no topic {}", printable::line(topic)));
        exit = Exit::No;
    }
    for topic in report.topics.iter().filter(|topic| topic.what.kind == Kind::Source) {
        let above = match limit {
            Limit::Records(limit) if topic.records > limit => Some(format!("{} records", topic.records)),
            Limit::Records(_) if topic.unknown > 0 => Some(format!("not known of {} partitions", topic.unknown)),
            Limit::Records(_) => None,
            Limit::Age(limit) => match topic.lag_seconds {
                Some(seconds) if seconds <= limit.as_secs_f64() => None,
                Some(seconds) => Some(show::brief(seconds)),
                None => Some("not known in time".to_owned()),
            },
        };
        if let Some(above) = above {
            let name = printable::line(&topic.what.topic);
            complain(&format!("{name} is above the limit: its lag is {above}"));
            exit = Exit::No;
        }
    }
    exit
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
