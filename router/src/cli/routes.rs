//! `pointsman routes`: what becomes of the records of a running router, route by route.

use comfy_table::{CellAlignment, Table};

use super::door::{DoorArguments, DoorFailed};
use super::table::{table, width};
use super::{Exit, json, printable, say};
use crate::admin::RouteListing;
use crate::telemetry::RouteReport;

/// List the routes of a running router: how far each is behind, and what became of its records since the start.
///
/// The router must have a door (`[admin] listen` in its configuration). Each router of a group counts what it has done itself.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    door: DoorArguments,
    /// Print them as one JSON object.
    #[arg(long)]
    json: bool,
}

pub(crate) fn execute(Arguments { door, json: is_json }: &Arguments) -> Exit {
    let asked = door.open().and_then(|(client, _)| client.routes().map_err(DoorFailed::from));
    let routes = match asked {
        Ok(routes) => routes,
        Err(failed) => return failed.told(),
    };
    if *is_json {
        return json::answer(&RouteListing { routes }, Exit::Fine);
    }
    say(&rows(&routes, width()).trim_fmt());
    Exit::Fine
}

fn rows(routes: &[RouteReport], width: Option<u16>) -> Table {
    let header =
        ["route", "lanes", "lag", "oldest", "status", "a second", "delivered", "dropped", "waiting", "dead letters"];
    let mut table = table(header, &[1, 2, 3, 4, 5, 6, 7, 8, 9], width);
    for route in routes {
        let lanes = match route.lanes_not_running {
            0 => route.lanes.to_string(),
            others => format!("{} ({others} not running)", route.lanes),
        };
        table.add_row([
            printable::line(&route.route),
            lanes,
            route.lag_records.to_string(),
            route.lag_seconds.map_or_else(|| "?".to_owned(), span),
            route.status.clone(),
            route.settled_per_second.map_or_else(|| "?".to_owned(), |rate| format!("{rate:.0}")),
            route.fates.delivered.to_string(),
            route.fates.dropped.to_string(),
            route.parked.to_string(),
            route.fates.dead_lettered.to_string(),
        ]);
    }
    for index in [2, 3, 5, 6, 7, 8, 9] {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A length of time in the unit that tells most of it.
pub(super) fn span(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 0.05 => "0 s".to_owned(),
        seconds if seconds < 10.0 => format!("{seconds:.1} s"),
        seconds if seconds < 120.0 => format!("{seconds:.0} s"),
        seconds if seconds < 7_200.0 => format!("{:.0} min", seconds / 60.0),
        seconds if seconds < 172_800.0 => format!("{:.0} h", seconds / 3_600.0),
        seconds => format!("{:.0} d", seconds / 86_400.0),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::telemetry::Fates;

    pub(in crate::cli) fn route() -> RouteReport {
        RouteReport {
            route: "orders".into(),
            group: "shop".into(),
            from: vec!["orders.v1".into()],
            stages: vec!["validate".into(), "filter".into()],
            to: vec!["orders.eu.v1".into()],
            dead_letter: Some("shop.orders.dead-letter".into()),
            lanes: 12,
            lanes_not_running: 0,
            fates: Fates { delivered: 1_203_445, dropped: 12, parked: 40, dead_lettered: 3, halted: 0 },
            parked: 17,
            lag_records: 420,
            lag_seconds: Some(1.26),
            status: "ok".into(),
            settled_per_second: Some(20_511.4),
        }
    }

    #[test]
    fn routes_are_listed_a_line_each() {
        let unwell = RouteReport {
            route: "payments\u{1b}[2J".into(),
            lanes_not_running: 1,
            lag_seconds: None,
            settled_per_second: None,
            status: "stalled".into(),
            ..route()
        };
        insta::assert_snapshot!(rows(&[route(), unwell], None).trim_fmt());
    }

    #[test]
    fn a_span_is_told_in_one_unit() {
        let spans = [0.0, 1.26, 12.4, 119.0, 121.0, 7_300.0, 200_000.0].map(span);
        assert_eq!(spans, ["0 s", "1.3 s", "12 s", "119 s", "2 min", "2 h", "2 d"]);
    }
}
