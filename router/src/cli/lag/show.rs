//! A report as tables: the topics, and the partitions.

use comfy_table::{CellAlignment, Table};
use pointsman_core::lag::Status;

use crate::cli::printable;
use crate::cli::table::table;
use crate::lag::{Kind, Pace, PartitionLag, Report, TopicLag};

/// Partitions that are shown without being asked for.
const SHOWN: usize = 20;

/// The whole picture.
pub(super) fn text(report: &Report, all_partitions: bool, width: Option<u16>) -> String {
    let is_sampled = report.topics.iter().any(|topic| topic.pace.is_some());
    let mut text = if report.topics.is_empty() {
        "no topics".to_owned()
    } else {
        topics(&report.topics, is_sampled, width).trim_fmt()
    };
    let chosen: Vec<&PartitionLag> =
        report.partitions.iter().filter(|partition| all_partitions || partition.wants_a_look()).collect();
    let shown = if all_partitions { &chosen[..] } else { &chosen[..chosen.len().min(SHOWN)] };
    if !shown.is_empty() {
        text.push_str(&format!("\n\n{}", partitions(shown, is_sampled, width).trim_fmt()));
    }
    if shown.len() < chosen.len() {
        text.push_str(&format!("\n… {} more that want a look (--partitions)", chosen.len() - shown.len()));
    }
    for topic in &report.missing {
        text.push_str(&format!("\nnote: there is no topic {}", printable::line(topic)));
    }
    for note in &report.notes {
        text.push_str(&format!("\nnote: {}", printable::line(note)));
    }
    text
}

/// Two lines for each topic.
fn topics(topics: &[TopicLag], is_sampled: bool, width: Option<u16>) -> Table {
    const PLAIN: [&str; 4] = ["route\ntopic", "\nread by", "records\noldest", "behind\ngone in"];
    let mut table = if is_sampled {
        let [topic, kind, records, behind] = PLAIN;
        table([topic, kind, records, behind, "in/s\nout/s", "status\ndrained in"], &[1, 2, 3, 4, 5], width)
    } else {
        table(PLAIN, &[1, 2, 3], width)
    };
    for topic in topics {
        let what = &topic.what;
        let whose = what.route.as_deref().or(what.group.as_deref()).unwrap_or_default();
        let known = Some(topic.records).filter(|_| topic.unknown < topic.partitions);
        let mut cells = vec![
            format!("{}\n{}", printable::line(whose), printable::line(&what.topic)),
            format!("{}\n{}", what.kind.name(), read_by(topic)),
            format!("{}\n{}", records(known, topic.unknown > 0), age(topic.lag_seconds)),
            format!("{} of {}\n{}", topic.behind, topic.partitions, gone(topic.lost, topic.retention_seconds)),
        ];
        if is_sampled {
            let (rates, drained) = pace(topic.pace, topic.records > 0);
            let status = topic.status.map(|status| status.name()).unwrap_or_default();
            cells.extend([rates, format!("{status}\n{drained}")]);
        }
        table.add_row(cells);
    }
    right(&mut table, 2..=4);
    table
}

fn read_by(topic: &TopicLag) -> String {
    match (topic.what.kind, topic.readers, topic.unread) {
        (Kind::DeadLetter, _, _) => String::new(),
        (_, 0, 0) => "?".to_owned(),
        (_, 0, _) => "nobody".to_owned(),
        (_, readers, 0) => format!("{readers}"),
        (_, readers, unread) => format!("{readers}, {unread} unread"),
    }
}

/// A line for each partition; two where there is more to be said.
fn partitions(partitions: &[&PartitionLag], is_sampled: bool, width: Option<u16>) -> Table {
    let mut table = if is_sampled {
        let header = [
            "partition\nread by",
            "committed\nend",
            "records\noldest",
            "gone in",
            "in/s\nout/s",
            "status\ndrained in",
            "",
        ];
        table(header, &[1, 2, 3, 4, 5], width)
    } else {
        table(["partition", "committed", "end", "records", "oldest", "gone in", "read by", ""], &[1, 2, 3, 4, 5], width)
    };
    for partition in partitions {
        let name = format!("{}/{}", printable::line(&partition.what.topic), partition.partition);
        let (committed, end) = (committed(partition), offset(partition.end));
        let (records, age) = (records(partition.records, false), age(partition.lag_seconds));
        let (gone, reader) = (gone(partition.lost, partition.retention_seconds), reader(partition));
        let cells = if is_sampled {
            let (rates, drained) = pace(partition.pace, partition.records != Some(0));
            let status = partition.status.map(|status| status.name()).unwrap_or_default();
            vec![
                format!("{name}\n{reader}"),
                format!("{committed}\n{end}"),
                format!("{records}\n{age}"),
                gone,
                rates,
                format!("{status}\n{drained}"),
                note(partition),
            ]
        } else {
            vec![name, committed, end, records, age, gone, reader, note(partition)]
        };
        table.add_row(cells);
    }
    right(&mut table, if is_sampled { 1..=4 } else { 1..=5 });
    table
}

fn offset(offset: Option<i64>) -> String {
    offset.map_or_else(|| "?".to_owned(), |offset| offset.to_string())
}

fn committed(partition: &PartitionLag) -> String {
    match partition.committed {
        Some(committed) => committed.to_string(),
        None if partition.what.group.is_some() => "none".to_owned(),
        None => String::new(),
    }
}

fn reader(partition: &PartitionLag) -> String {
    match (&partition.reader, partition.is_read) {
        (Some(reader), _) => printable::line(reader),
        (None, Some(false)) => "nobody".to_owned(),
        (None, _) if partition.what.group.is_some() => "?".to_owned(),
        (None, _) => String::new(),
    }
}

/// What is wrong, or why a status can't be told.
fn note(partition: &PartitionLag) -> String {
    let lost = (partition.lost > 0).then(|| format!("{} lost to retention", partition.lost));
    let missing = match partition.status {
        Some(Status::Unknown(missing)) => Some(missing.to_string()),
        _ => None,
    };
    let problem = partition.problem.as_deref().map(printable::line);
    lost.into_iter().chain(problem).chain(missing).collect::<Vec<_>>().join("; ")
}

fn right(table: &mut Table, columns: std::ops::RangeInclusive<usize>) {
    for index in columns {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn records(records: Option<u64>, are_more: bool) -> String {
    let more = if are_more { "+?" } else { "" };
    records.map_or_else(|| "?".to_owned(), |records| format!("{records}{more}"))
}

fn age(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "?".to_owned(), brief)
}

fn gone(lost: u64, seconds: Option<f64>) -> String {
    match (lost, seconds) {
        (0, None) => String::new(),
        (0, Some(seconds)) => brief(seconds),
        (_, _) => "lost".to_owned(),
    }
}

/// Written and read a second, on two lines; and the time to drain.
fn pace(pace: Option<Pace>, is_left: bool) -> (String, String) {
    let Some(Pace { written_per_second, read_per_second, drain_seconds }) = pace else { return Default::default() };
    let drain = match drain_seconds {
        _ if !is_left => String::new(),
        Some(seconds) => brief(seconds),
        None => "never".to_owned(),
    };
    (format!("{}\n{}", rate(written_per_second), rate(read_per_second)), drain)
}

fn rate(a_second: f64) -> String {
    if a_second == 0.0 || a_second >= 10.0 { format!("{a_second:.0}") } else { format!("{a_second:.1}") }
}

/// A time in its two largest units.
pub(super) fn brief(seconds: f64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let seconds = seconds as u64;
    match seconds {
        0..MINUTE => format!("{seconds}s"),
        MINUTE..HOUR => format!("{}m {}s", seconds / MINUTE, seconds % MINUTE),
        HOUR..DAY => format!("{}h {}m", seconds / HOUR, seconds % HOUR / MINUTE),
        _ => format!("{}d {}h", seconds / DAY, seconds % DAY / HOUR),
    }
}
