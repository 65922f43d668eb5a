//! Going through dead letters.

use std::cell::Cell;
use std::ops::ControlFlow;

use pointsman_core::port::{Log, LogError};
use pointsman_core::record::TopicPartition;
use serde::Serialize;
use utoipa::ToSchema;

use super::handle::Site;
use super::letter::{Letter, Place};
use super::selection::{Judgement, Selection};
use super::topic::Topic;
use crate::progress::Stand;
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
/// What goes wrong on the way, and may yet turn out well, is a sentence for `note`.
///
/// # Errors
/// [`LogError`]: it can't be begun.
pub fn visit<B>(
    site: &Site<'_>,
    topics: &[Topic],
    selection: &Selection,
    see: &mut dyn FnMut(&Topic, &Letter<'_>) -> ControlFlow<B>,
    note: &mut dyn FnMut(&str),
) -> Result<Visited<B>, LogError> {
    visit_open(site, &reading(topics), topics, &|_| false, selection, see, note)
}

/// What it is to read these, as progress is told.
pub(super) fn reading(topics: &[Topic]) -> String {
    match topics {
        [topic] => format!("reading {}", topic.name),
        _ => "reading dead letters".to_owned(),
    }
}

/// Like [`visit`], without the letters that `is_handled`. `what` is what is being done, for who is told of the progress.
///
/// # Errors
/// [`LogError`]: it can't be begun.
pub fn visit_open<B>(
    site: &Site<'_>,
    what: &str,
    topics: &[Topic],
    is_handled: &dyn Fn(&Letter<'_>) -> bool,
    selection: &Selection,
    see: &mut dyn FnMut(&Topic, &Letter<'_>) -> ControlFlow<B>,
    note: &mut dyn FnMut(&str),
) -> Result<Visited<B>, LogError> {
    let mut spans = Vec::new();
    for partition in topics.iter().flat_map(Topic::all_partitions) {
        spans.push(span(site.log, partition, selection.since_ms)?);
    }
    let mut tally = Tally::default();
    let picked = Cell::new(0);
    let progress = |stand: &Stand<'_>| {
        // Where all are meant, they are not told apart.
        let some = Some(picked.get()).filter(|picked| *picked != stand.done);
        (site.progress)(&Stand { picked: some, ..*stand });
    };
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
                picked.set(tally.selected);
                if let Some(topic) = topics.iter().find(|topic| topic.name == partition.topic) {
                    return see(topic, &letter);
                }
            }
        }
        ControlFlow::Continue(())
    };
    let ended = Merge::begin(site.log, spans, false)?.telling(what, &progress).run(&mut look, site.stop, note);
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
