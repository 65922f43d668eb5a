//! `pointsman retries`: what is parked in a running router, and when it is due.

use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::door::{DoorArguments, DoorFailed};
use super::routes::span;
use super::table::{table, width};
use super::{Exit, complain, printable, say};
use crate::admin::{Client, ParkedListing, RetryListing};
use crate::lookup::find_route;
use crate::retries::{ParkedRecord, RetryReport};

/// List what waits for a retry in a running router: how much in each lane, and since when it is due.
///
/// The router must have a door (`[admin] listen` in its configuration). Each router of a group knows the lanes of its own partitions only.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    door: DoorArguments,
    /// What waits in this route only.
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// In place of the lanes, so many records of the route, the first to be due first, and why they wait.
    #[arg(long, value_name = "NUMBER", requires = "route", value_parser = clap::value_parser!(u32).range(1..=200))]
    records: Option<u32>,
    /// Print them as one JSON object.
    #[arg(long)]
    json: bool,
}

pub(crate) fn execute(Arguments { door, route, records, json }: &Arguments) -> Exit {
    let (client, plan) = match door.open() {
        Ok(opened) => opened,
        Err(failed) => return failed.told(),
    };
    if let (Some(plan), Some(route)) = (&plan, route)
        && let Err(error) = find_route(plan, route)
    {
        complain(&format!("error: {error}"));
        return Exit::Configuration;
    }
    let told = match (route, records) {
        (Some(route), Some(limit)) => first(&client, route, *limit, *json),
        _ => lanes(&client, route.as_deref(), *json),
    };
    told.unwrap_or_else(|failed| failed.told())
}

fn lanes(client: &Client, route: Option<&str>, json: bool) -> Result<Exit, DoorFailed> {
    let RetryListing { mut lanes, notes } = client.retries()?;
    lanes.retain(|lane| route.is_none_or(|route| lane.lane.route == route));
    if json {
        return Ok(say_json(&RetryListing { lanes, notes }));
    }
    if lanes.is_empty() {
        say("no lanes with a retry topic");
    } else {
        say(&rows(&lanes, width()).trim_fmt());
    }
    Ok(noted(&notes))
}

fn first(client: &Client, route: &str, limit: u32, json: bool) -> Result<Exit, DoorFailed> {
    let listing = client.parked(route, limit)?;
    if json {
        return Ok(say_json(&listing));
    }
    let ParkedListing { records, parked, notes } = listing;
    if records.is_empty() {
        say("nothing is parked");
    } else {
        say(&record_rows(&records, width()).trim_fmt());
        say(&format!("{} of {parked} that are parked", records.len()));
    }
    Ok(noted(&notes))
}

fn noted(notes: &[String]) -> Exit {
    notes.iter().for_each(|note| complain(&format!("note: {}", printable::line(note))));
    Exit::Fine
}

fn say_json(answer: &impl Serialize) -> Exit {
    match serde_json::to_string_pretty(answer) {
        Ok(text) => {
            say(&printable::json(&text));
            Exit::Fine
        }
        Err(error) => {
            complain(&format!("error: can't write the answer as JSON: {error}"));
            Exit::Fatal
        }
    }
}

fn rows(lanes: &[RetryReport], width: Option<u16>) -> Table {
    let header = ["route", "lane", "parked", "behind", "running", "next due", "overdue", "runs: records"];
    let mut table = table(header, &[1, 2, 3, 4, 5, 6], width);
    for report in lanes {
        let runs: Vec<String> = report.attempts.iter().map(|(runs, count)| format!("{runs}: {count}")).collect();
        table.add_row([
            printable::line(&report.lane.route),
            printable::line(&format!("{}/{}", report.lane.topic, report.lane.partition)),
            if report.complete { report.parked.to_string() } else { format!("{} so far", report.parked) },
            report.behind.to_string(),
            report.running.to_string(),
            report.next_due.clone().unwrap_or_default(),
            if report.overdue_seconds > 0.0 { span(report.overdue_seconds) } else { String::new() },
            runs.join(", "),
        ]);
    }
    for index in [2, 3, 4, 6] {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn record_rows(records: &[ParkedRecord], width: Option<u16>) -> Table {
    let mut table = table(["due", "origin", "runs", "key", "why"], &[0, 2], width);
    for record in records {
        let due = if record.behind { format!("{} behind another", record.due) } else { record.due.clone() };
        let [origin, key, why] = match &record.told {
            None => [format!("(at {})", record.place), String::new(), "not read".to_owned()],
            Some(told) => {
                let stage = told.stage.as_deref().map(|stage| format!("{stage}: ")).unwrap_or_default();
                let key = serde_json::from_str::<String>(told.key.get());
                [
                    format!("{}/{}/{}", told.topic, told.partition, told.offset),
                    key.map_or_else(|_| told.key.get().to_owned(), |key| printable::bytes(Some(key.as_bytes()))),
                    format!("{stage}{}, {}: {}", told.class, told.code, told.message),
                ]
            }
        };
        table.add_row([
            due,
            printable::line(&origin),
            record.attempts.to_string(),
            printable::line(&key),
            printable::line(&why),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::LaneName;
    use crate::retries::ParkedAccount;

    #[test]
    fn lanes_are_listed_with_what_waits_in_them() {
        let report = RetryReport {
            lane: LaneName { route: "orders".into(), topic: "orders.v1".into(), partition: 3 },
            retry_topic: "shop.orders.orders.v1.retry".into(),
            parked: 1240,
            behind: 200,
            running: 64,
            oldest_due: Some("2026-01-31T11:00:00.000Z".into()),
            next_due: Some("2026-01-31T11:59:00.000Z".into()),
            overdue_seconds: 60.0,
            attempts: [(0, 200), (1, 1000), (2, 40)].into(),
            complete: true,
        };
        let none = RetryReport {
            lane: LaneName { route: "orders\u{1b}".into(), topic: "orders.v1".into(), partition: 4 },
            parked: 0,
            behind: 0,
            running: 0,
            oldest_due: None,
            next_due: None,
            overdue_seconds: 0.0,
            attempts: Default::default(),
            complete: false,
            ..report.clone()
        };
        insta::assert_snapshot!("lanes", rows(&[report, none], None).trim_fmt());
    }

    #[test]
    fn records_are_listed_with_why_they_wait() {
        let record = |behind, told| ParkedRecord {
            due: "2026-01-31T11:59:00.000Z".into(),
            place: "retry/3/17".into(),
            attempts: 2,
            behind,
            told,
        };
        let told = ParkedAccount {
            topic: "orders.v1".into(),
            partition: 3,
            offset: 42,
            key: serde_json::value::RawValue::from_string("\"k\\u001b\"".into()).unwrap_or_default(),
            stage: Some("enrich".into()),
            class: "retry".into(),
            code: "later".into(),
            message: "not\nyet".into(),
            first_failed: String::new(),
            last_failed: String::new(),
        };
        insta::assert_snapshot!(
            "records",
            record_rows(&[record(true, Some(told)), record(false, None)], None).trim_fmt()
        );
    }
}
