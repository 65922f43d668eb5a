//! `pointsman tail`: what becomes of the records of a route, as it happens.

use std::io::{self, BufRead as _};

use clap::builder::PossibleValuesParser;
use serde_json::value::RawValue;

use super::door::{DoorArguments, DoorFailed};
use super::{Exit, complain, printable};
use crate::admin::{Client, ClientError};
use crate::counters::Fate;
use crate::lookup::find_route;
use crate::samples::{Pulse, SampleLine, ShownSample};

/// Watch what becomes of the records of a route, as it happens: a few of them each second.
///
/// For each sample: when, where the record came from, its key, its fate and why, the number of the run, how long it took, and how many
/// records have come to that fate since the sample before. The router must have a door (`[admin] listen` in its configuration) that shows
/// samples ([admin.samples]). Each router of a group knows the records of its own partitions only. Ctrl-C ends it.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    door: DoorArguments,
    /// Records of this route.
    #[arg(long, value_name = "NAME")]
    route: String,
    /// Records that came to this fate; it may be there several times. Without it, to any.
    #[arg(long, value_name = "FATE", value_parser = PossibleValuesParser::new(Fate::ALL.map(Fate::name)))]
    fate: Vec<String>,
    /// Those of this source topic only.
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// Those of this partition only.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// End after so many samples.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    max: Option<u64>,
    /// Most samples a second.
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    per_second: u32,
    /// Headers and values, too, as far as the router's configuration has them shown; it takes the token of an operator.
    #[arg(long)]
    values: bool,
    /// Print one line of JSON for each sample, and one every ten seconds that says how it goes.
    #[arg(long)]
    json: bool,
}

pub(crate) fn execute(arguments: &Arguments) -> Exit {
    let client = match arguments.door.open() {
        Ok((client, plan)) => {
            if let Some(Err(error)) = plan.as_ref().map(|plan| find_route(plan, &arguments.route)) {
                complain(&format!("error: {error}"));
                return Exit::Configuration;
            }
            client
        }
        Err(failed) => return failed.told(),
    };
    let mut show = Show { out: &mut io::stdout(), json: arguments.json, left: arguments.max, missed: 0 };
    loop {
        match follow(&client, arguments, &mut show) {
            // The router ends it now and then.
            Ok(None) => {}
            Ok(Some(exit)) => return exit,
            Err(error) => return DoorFailed::from(error).told(),
        }
    }
}

/// One answer to its end: how the command ends, or that it is to ask again.
fn follow(client: &Client, arguments: &Arguments, show: &mut Show<'_>) -> Result<Option<Exit>, ClientError> {
    let lines = client.samples(&arguments.route, &query(arguments, show.left))?;
    show.missed = 0;
    for line in lines.lines() {
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                complain(&format!("error: the router has gone away ({error}); start this again when it runs again"));
                return Ok(Some(Exit::Fatal));
            }
        };
        match show.line(&line) {
            Ok(true) => {}
            Ok(false) => return Ok(Some(Exit::Fine)),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Some(Exit::Fine)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                complain(&format!("error: what the router answers is not of this version: {error}"));
                return Ok(Some(Exit::NotStarted));
            }
            Err(error) => {
                complain(&format!("error: can't write to standard output: {error}"));
                return Ok(Some(Exit::Fatal));
            }
        }
    }
    Ok(None)
}

fn query(arguments: &Arguments, left: Option<u64>) -> Vec<(&'static str, String)> {
    let Arguments { fate, topic, partition, per_second, values, .. } = arguments;
    let mut query = vec![("per_second", per_second.to_string()), ("values", values.to_string())];
    query.extend(fate.iter().map(|fate| ("fate", fate.clone())));
    query.extend(topic.iter().map(|topic| ("topic", topic.clone())));
    query.extend(partition.map(|partition| ("partition", partition.to_string())));
    query.extend(left.map(|left| ("max", left.to_string())));
    query
}

/// Prints samples.
struct Show<'a> {
    out: &'a mut dyn io::Write,
    json: bool,
    /// Samples that may still be printed.
    left: Option<u64>,
    /// Samples that were missed, as far as that was told.
    missed: u64,
}

impl Show<'_> {
    /// Whether to go on.
    fn line(&mut self, line: &str) -> io::Result<bool> {
        let read: SampleLine = serde_json::from_str(line)?;
        if self.json {
            writeln!(self.out, "{}", printable::json(line))?;
        }
        match read {
            SampleLine::Sample(sample) => {
                if !self.json {
                    self.out.write_all(text(&sample).as_bytes())?;
                }
                self.left = self.left.map(|left| left.saturating_sub(1));
            }
            SampleLine::Pulse(Pulse { missed, .. }) if !self.json && missed > self.missed => {
                complain(&format!(
                    "note: {} samples were missed: they come faster than they are read",
                    missed - self.missed
                ));
                self.missed = missed;
            }
            SampleLine::Pulse(_) => {}
        }
        self.out.flush()?;
        Ok(self.left != Some(0))
    }
}

/// A sample, on a line, with others for headers and value where they are there.
fn text(sample: &ShownSample) -> String {
    let ShownSample { time, topic, partition, offset, fate, attempt, took_ms, seen, .. } = sample;
    let mut text = format!("{time}  {topic}/{partition}/{offset}  {fate}");
    match (&sample.reason, &sample.class) {
        (Some(reason), _) => text.push_str(&format!(" ({})", printable::line(reason))),
        (None, Some(class)) => {
            let [code, message] =
                [&sample.code, &sample.message].map(|text| printable::line(text.as_deref().unwrap_or_default()));
            let stage = sample.stage.as_deref().map(|stage| format!("{stage}: ")).unwrap_or_default();
            text.push_str(&format!(" ({stage}{class}, {code}: {message})"));
        }
        (None, None) if !sample.outputs.is_empty() => text.push_str(&format!(" to {}", sample.outputs.join(", "))),
        (None, None) => {}
    }
    if let Some(key) = &sample.key {
        text.push_str(&format!("  key {}", shown(key)));
    }
    if *attempt > 1 {
        text.push_str(&format!("  attempt {attempt}"));
    }
    text.push_str(&format!("  {took_ms} ms"));
    if *seen > 1 {
        text.push_str(&format!("  1 of {seen}"));
    }
    text.push('\n');
    for [name, value] in sample.headers.iter().flatten() {
        text.push_str(&format!("    {}: {}\n", shown(name), shown(value)));
    }
    if let Some(value) = &sample.value {
        text.push_str(&format!("    {}\n", printable::json(value.get())));
    }
    if let Some(why) = &sample.withheld {
        text.push_str(&format!("    withheld: {why}\n"));
    }
    text
}

/// A string as its text, anything else as it is written.
fn shown(json: &RawValue) -> String {
    match serde_json::from_str::<String>(json.get()) {
        Ok(text) => printable::bytes(Some(text.as_bytes())),
        Err(_) => printable::json(json.get()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::Show;

    /// Three samples, a line each and more where there is more to be seen; and what steers no terminal.
    #[test]
    fn samples_are_printed_a_line_each() {
        let lines = [
            r#"{"pulse":{"time":"2026-01-31T12:00:00.000Z","seen":{"dropped":0},"missed":0}}"#,
            r#"{"sample":{"time":"2026-01-31T12:00:00.123Z","topic":"orders.v1","partition":3,"offset":42,"key":"k-1","fate":"dropped","reason":"too-old\u001b[2J","attempt":1,"took_ms":1.25,"seen":523}}"#,
            r#"{"sample":{"time":"2026-01-31T12:00:00.124Z","topic":"orders.v1","partition":3,"offset":43,"key":null,"fate":"delivered","outputs":["a","b"],"attempt":1,"took_ms":3.0,"seen":1,"headers":[["trace","[redacted]"],["raw",{"base64":"/w=="}]],"value":{"card":"[redacted]","eur":12}}}"#,
            r#"{"sample":{"time":"2026-01-31T12:00:00.125Z","topic":"orders.v1","partition":3,"offset":44,"fate":"parked","class":"retry","code":"later","message":"not yet","stage":"enrich","attempt":2,"took_ms":3.5,"seen":1,"value":null,"withheld":"the key has 9999 bytes, and 4096 are shown"}}"#,
        ];
        let mut out = Vec::new();
        let mut show = Show { out: &mut out, json: false, left: Some(3), missed: 0 };
        let more: Vec<bool> = lines.iter().map(|line| show.line(line).unwrap()).collect();
        assert_eq!(more, [true, true, true, false]);
        insta::assert_snapshot!("samples", String::from_utf8(out).unwrap());

        let mut out = Vec::new();
        let mut show = Show { out: &mut out, json: true, left: None, missed: 0 };
        assert!(lines.iter().all(|line| show.line(line).unwrap()));
        assert_eq!(String::from_utf8(out).unwrap().lines().collect::<Vec<_>>(), lines);
        let mut out = Vec::new();
        let mut show = Show { out: &mut out, json: false, left: None, missed: 0 };
        assert_eq!(show.line("{}").unwrap_err().kind(), std::io::ErrorKind::InvalidData);
    }
}
