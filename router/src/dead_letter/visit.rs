//! Going through dead letters.

use std::ops::ControlFlow;

use pointsman_core::port::{Log, LogError};
use pointsman_core::record::TopicPartition;
use serde::Serialize;
use utoipa::ToSchema;

use super::letter::{Letter, Place};
use super::selection::{Judgement, Selection};
use super::topic::Topic;
use crate::reading::{Ended, Merge, Seen, Span};

/// How many letters there were.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Tally {
    /// Letters that were read.
    pub read: u64,
    /// Those of them that are not asked for since they were handled.
    pub handled: u64,
    /// Those of them that were selected.
    pub selected: u64,
    /// Those for which the selection can't be decided. They count as not selected.
    pub unsure: u64,
    /// The first of these, and why.
    #[serde(skip)]
    pub first_unsure: Option<(Place, String)>,
}

/// How a visit went.
#[derive(Debug)]
pub struct Visited<B> {
    /// How it ended.
    pub ended: Ended<B>,
    /// What it counted up to there.
    pub tally: Tally,
}

/// Shows `see` every letter of `topics` that `selection` picks, up to where the topics end now. The order is that of the
/// records' timestamps, which for ours is that of the last failures, as far as the order within each partition lets it be.
/// Memory holds one batch of records, of about 1 MiB, for each partition.
///
/// `stop` is asked now and then; what goes wrong on the way, and may yet turn out well, is a sentence for `note`.
///
/// # Errors
/// [`LogError`]: it can't be begun.
pub fn visit<B>(
    log: &dyn Log,
    topics: &[Topic],
    selection: &Selection,
    see: &mut dyn FnMut(&Topic, &Letter<'_>) -> ControlFlow<B>,
    stop: &dyn Fn() -> bool,
    note: &mut dyn FnMut(&str),
) -> Result<Visited<B>, LogError> {
    visit_open(log, topics, &|_| false, selection, see, stop, note)
}

/// Like [`visit`], without the letters that `is_handled`.
///
/// # Errors
/// [`LogError`]: it can't be begun.
pub fn visit_open<B>(
    log: &dyn Log,
    topics: &[Topic],
    is_handled: &dyn Fn(&Letter<'_>) -> bool,
    selection: &Selection,
    see: &mut dyn FnMut(&Topic, &Letter<'_>) -> ControlFlow<B>,
    stop: &dyn Fn() -> bool,
    note: &mut dyn FnMut(&str),
) -> Result<Visited<B>, LogError> {
    let mut spans = Vec::new();
    for partition in topics.iter().flat_map(Topic::all_partitions) {
        spans.push(span(log, partition, selection.since_ms)?);
    }
    let mut tally = Tally::default();
    let mut look = |seen: Seen<'_>| {
        let Seen::Record(partition, record) = seen else { return ControlFlow::Continue(()) };
        let letter = Letter::new(partition, record);
        tally.read += 1;
        if is_handled(&letter) {
            tally.handled += 1;
            return ControlFlow::Continue(());
        }
        match selection.judge(&letter) {
            Judgement::Other => {}
            Judgement::Unsure(why) => {
                tally.unsure += 1;
                tally.first_unsure.get_or_insert_with(|| (letter.place(), why));
            }
            Judgement::Selected => {
                tally.selected += 1;
                if let Some(topic) = topics.iter().find(|topic| topic.name == partition.topic) {
                    return see(topic, &letter);
                }
            }
        }
        ControlFlow::Continue(())
    };
    let ended = Merge::begin(log, spans, false)?.run(&mut look, stop, note);
    Ok(Visited { ended, tally })
}

/// What may hold letters that failed since then: nobody writes one with a timestamp before its failure.
fn span(log: &dyn Log, partition: TopicPartition, since_ms: Option<i64>) -> Result<Span, LogError> {
    let (first, end) = log.watermarks(&partition)?;
    let start = match since_ms {
        Some(since_ms) => log.offset_at(&partition, since_ms)?.max(first),
        None => first,
    };
    Ok(Span { partition, start, end })
}
