//! The table of what a part has come to, in Markdown.

use std::fmt::Write as _;

use crate::part::{Kind, Place, Results};
use crate::subject::BARE;

/// What the cells of all tables say.
pub(crate) const LEGEND: &str = "Each cell: **the best repetition**, and in brackets the median, and least–most. A ratio is \
                                 that of the best; its brackets have the ratios within one repetition.";

/// A column: its heading, and what it has of a subject.
type Column<'a> = (String, Box<dyn Fn(Place) -> String + 'a>);

/// One row for each subject of each group.
pub(crate) fn of(results: &Results<'_>) -> String {
    let subjects = || results.places().map(|place| results.subject(place));
    let mut columns: Vec<Column<'_>> = vec![
        ("records".into(), Box::new(|place| results.group(place).label.clone())),
        ("subject".into(), Box::new(|place| results.subject(place).name.to_string())),
        ("CPU, µs/event".into(), Box::new(|place| results.figure(Kind::Cpu, place).show(2))),
        ("CPU, × bare".into(), Box::new(|place| ratio(results, Kind::Cpu, place, BARE))),
    ];
    if subjects().any(|subject| subject.baseline.is_some()) {
        let own = |kind, place| match results.subject(place).baseline {
            None => NOTHING.to_owned(),
            Some(name) => format!("{} × {name}", ratio(results, kind, place, name)),
        };
        columns.push(("CPU, × its own baseline".into(), Box::new(move |place| own(Kind::Cpu, place))));
        columns.push(("throughput, × that".into(), Box::new(move |place| own(Kind::Rate, place))));
    }
    columns.push(("thousand records/s".into(), Box::new(|place| results.figure(Kind::Rate, place).show(0))));
    columns.push(("throughput, × bare".into(), Box::new(|place| ratio(results, Kind::Rate, place, BARE))));
    columns.push(("most memory, MiB".into(), Box::new(|place| mebibytes(results, place))));
    columns.push(("CPU to start, ms".into(), Box::new(|place| results.start_cpu(place).as_millis().to_string())));

    let mut table = String::new();
    row(&mut table, columns.iter().map(|(heading, _)| heading.clone()));
    row(&mut table, columns.iter().map(|_| "---".to_owned()));
    for place in results.places() {
        row(&mut table, columns.iter().map(|(_, cell)| cell(place)));
    }
    table
}

const NOTHING: &str = "–";

/// Adds a row to a table.
pub(crate) fn row(table: &mut String, cells: impl IntoIterator<Item = String>) {
    for cell in cells {
        // Writing to a string does not fail.
        let _ = write!(table, "| {cell} ");
    }
    table.push_str("|\n");
}

fn ratio(results: &Results<'_>, kind: Kind, place: Place, name: &str) -> String {
    match results.beside(place, name) {
        Some(other) if other.subject != place.subject => results.ratio(kind, place, other).show(2),
        _ => NOTHING.to_owned(),
    }
}

fn mebibytes(results: &Results<'_>, place: Place) -> String {
    let most = results.runs(place).iter().map(|run| run.peak_memory).max().unwrap_or(0);
    format!("{}", most >> 20)
}
