//! `[[feeds]]`: sample records for `pointsman dev`.

use std::num::NonZeroU32;
use std::path::PathBuf;

use super::Table;
use super::routes::topic;
use crate::raw::Feed;

/// Records a second, where the file does not say.
const PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(19);
const MOST_PER_SECOND: u64 = 1_000_000;

pub(super) fn read(top: &Table<'_>) -> Vec<Feed> {
    let Some(field) = top.get("feeds") else { return Vec::new() };
    let feeds = field.array("write each feed as [[feeds]]").unwrap_or_default();
    feeds
        .into_iter()
        .enumerate()
        .filter_map(|(index, field)| feed(field.called(format!("feeds[{}]", index + 1)).table()?))
        .collect()
}

fn feed(table: Table<'_>) -> Option<Feed> {
    let topic = table.required("topic", "add `topic = \"…\"`").and_then(|field| topic(&field));
    let records = table
        .required("records", "add `records = \"…\"`, a file of records as JSON lines")
        .and_then(|field| field.text("\"orders.jsonl\""));
    let per_second = table
        .get("records_per_second")
        .and_then(|field| field.integer(1..=MOST_PER_SECOND))
        .and_then(|number| NonZeroU32::new(u32::try_from(number).ok()?));
    table.finish();
    Some(Feed { topic: topic?, records: PathBuf::from(records?.value), per_second: per_second.unwrap_or(PER_SECOND) })
}
