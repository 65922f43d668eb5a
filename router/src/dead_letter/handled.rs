//! Which letters were handled, by what their audit topics tell.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use pointsman_core::port::{Log, LogError};
use pointsman_core::record::TopicPartition;
use thiserror::Error;

use super::audit::{AuditRecord, Told, audit_partition};
use super::letter::{Letter, Place};
use super::topic::Topic;
use crate::progress::Progress;
use crate::reading::{Ended, Merge, ReadError, Seen, Span};

/// The letters of some topics that were handled: offsets in runs, so that memory grows with the gaps between them only.
#[derive(Clone, Debug, Default)]
pub struct Handled {
    partitions: HashMap<TopicPartition, Runs>,
    /// Records in the audit topics that say nothing we understand. No letter counts as handled for them.
    pub strangers: u64,
    /// The first of these, and why.
    pub first_stranger: Option<(Place, String)>,
    /// Where an audit topic tells of letters that are not there: why, as a sentence. It belongs to a topic that was deleted and
    /// made anew, and then nothing of that topic counts as handled.
    pub stale: Option<String>,
}

/// What the audit topics tell can't be had.
#[derive(Debug, Error)]
pub enum AuditError {
    /// The log can't be asked.
    #[error(transparent)]
    Log(#[from] LogError),
    /// It can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It was told to stop.
    #[error("stopped before it was known what was handled already")]
    Stopped,
}

/// Offsets of one partition.
#[derive(Clone, Debug, Default)]
struct Runs {
    /// Each from its first offset up to the one behind its last; no two touch.
    runs: BTreeMap<i64, i64>,
    /// The latest timestamp of a letter among them.
    latest: i64,
}

impl Runs {
    fn insert(&mut self, offset: i64) {
        if self.contains(offset) {
            return;
        }
        let before = self.runs.range(..offset).next_back().filter(|(_, end)| **end == offset).map(|(start, _)| *start);
        let end = self.runs.remove(&(offset + 1)).unwrap_or(offset + 1);
        self.runs.insert(before.unwrap_or(offset), end);
    }

    fn contains(&self, offset: i64) -> bool {
        self.runs.range(..=offset).next_back().is_some_and(|(_, end)| *end > offset)
    }

    fn count(&self, from: i64, end: i64) -> u64 {
        // The first may begin before.
        let start = self.runs.range(..=from).next_back().map_or(from, |(start, _)| *start);
        let inside = self.runs.range(start..end.max(start));
        inside.map(|(start, stop)| (*stop.min(&end)).saturating_sub(*start.max(&from)).max(0).unsigned_abs()).sum()
    }

    fn first_open(&self, from: i64) -> i64 {
        self.runs.range(..=from).next_back().map_or(from, |(_, end)| from.max(*end))
    }

    fn end(&self) -> i64 {
        self.runs.last_key_value().map_or(0, |(_, end)| *end)
    }
}

impl Handled {
    /// Reads the audit topics that belong to `topics`, up to where they end now; one that is not there tells of nothing. Every
    /// record that can be read is shown to `see`. `stop` is asked now and then, `progress` told how far it has come, and `note` what
    /// goes wrong on the way and may yet turn out well.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn read(
        log: &dyn Log,
        topics: &[Topic],
        see: &mut dyn FnMut(AuditRecord),
        stop: &dyn Fn() -> bool,
        progress: Progress<'_>,
        note: &mut dyn FnMut(&str),
    ) -> Result<Self, AuditError> {
        let mut handled = Self::default();
        let spans = spans(log, topics)?;
        let letters: HashMap<TopicPartition, TopicPartition> =
            topics.iter().flat_map(Topic::all_partitions).map(|letters| (audit_partition(&letters), letters)).collect();
        let mut look = |seen: Seen<'_>| {
            let Seen::Record(partition, record) = seen else { return ControlFlow::<()>::Continue(()) };
            let Some(of) = letters.get(partition) else { return ControlFlow::Continue(()) };
            match AuditRecord::read(&of.topic, of.partition, record) {
                Ok(Told::Release) => {}
                Ok(Told::Letter(record)) => {
                    handled.insert(&record.letter, record.written);
                    see(record);
                }
                Err(why) => {
                    handled.strangers += 1;
                    let place = || Place { partition: partition.clone(), offset: record.offset };
                    handled.first_stranger.get_or_insert_with(|| (place(), why));
                }
            }
            ControlFlow::Continue(())
        };
        let what = "reading what was handled";
        match Merge::begin(log, spans, false)?.telling(what, progress).run(&mut look, stop, note) {
            Ended::Done | Ended::Enough(()) => {}
            Ended::Stopped => return Err(AuditError::Stopped),
            Ended::Failed(error) => return Err(error.into()),
        }
        handled.drop_stale(log)?;
        Ok(handled)
    }

    /// Whether the letter was handled. One that is younger than every letter that was can't be one of them, whatever its place.
    #[must_use]
    pub fn has(&self, letter: &Letter<'_>) -> bool {
        let runs = self.partitions.get(letter.partition);
        runs.is_some_and(|runs| runs.contains(letter.record.offset) && letter.record.timestamp_ms <= runs.latest)
    }

    /// Whether something tells that the letter was handled that can't be about this letter.
    #[must_use]
    pub fn contradicts(&self, letter: &Letter<'_>) -> bool {
        let runs = self.partitions.get(letter.partition);
        runs.is_some_and(|runs| runs.contains(letter.record.offset) && letter.record.timestamp_ms > runs.latest)
    }

    /// How many letters of a partition were handled, of those from one offset up to another.
    #[must_use]
    pub fn count(&self, partition: &TopicPartition, from: i64, end: i64) -> u64 {
        self.partitions.get(partition).map_or(0, |runs| runs.count(from, end))
    }

    /// Whether the letter at an offset was handled, as far as its place tells.
    #[must_use]
    pub fn has_offset(&self, partition: &TopicPartition, offset: i64) -> bool {
        self.partitions.get(partition).is_some_and(|runs| runs.contains(offset))
    }

    /// The first offset, from this one on, of a letter that was not handled.
    #[must_use]
    pub fn first_open(&self, partition: &TopicPartition, from: i64) -> i64 {
        self.partitions.get(partition).map_or(from, |runs| runs.first_open(from))
    }

    /// Notes that a letter is handled.
    pub(super) fn insert(&mut self, letter: &Place, written: i64) {
        let runs = self.partitions.entry(letter.partition.clone()).or_default();
        runs.insert(letter.offset);
        runs.latest = runs.latest.max(written);
    }

    /// Whether this place is among those that were handled.
    pub(super) fn contains(&self, place: &Place) -> bool {
        self.has_offset(&place.partition, place.offset)
    }

    fn drop_stale(&mut self, log: &dyn Log) -> Result<(), LogError> {
        let mut stale = Vec::new();
        for (partition, runs) in &self.partitions {
            if runs.end() > log.watermarks(partition)?.1 {
                stale.push(partition.topic.clone());
            }
        }
        if let Some(topic) = stale.first() {
            self.stale = Some(super::handle::stale(topic));
        }
        self.partitions.retain(|partition, _| !stale.contains(&partition.topic));
        Ok(())
    }
}

/// What was done about one letter, the oldest first. Arguments are as in [`Handled::read`].
///
/// # Errors
/// [`AuditError`].
pub fn history(
    log: &dyn Log,
    topic: &Topic,
    letter: &Letter<'_>,
    stop: &dyn Fn() -> bool,
    progress: Progress<'_>,
    note: &mut dyn FnMut(&str),
) -> Result<Vec<AuditRecord>, AuditError> {
    let (place, mut found) = (letter.place(), Vec::new());
    let mut see = |record: AuditRecord| {
        if record.letter == place && record.written == letter.record.timestamp_ms {
            found.push(record);
        }
    };
    Handled::read(log, std::slice::from_ref(topic), &mut see, stop, progress, note)?;
    Ok(found)
}

/// What there is of the audit topics.
fn spans(log: &dyn Log, topics: &[Topic]) -> Result<Vec<Span>, LogError> {
    let names: Vec<_> = topics.iter().map(|topic| pointsman_config::dead_letters::audit_topic(&topic.name)).collect();
    let mut spans = Vec::new();
    for found in log.topics(Some(&names))? {
        for partition in
            (0..found.partitions.cast_signed()).map(|number| TopicPartition::new(found.name.clone(), number))
        {
            let (start, end) = log.watermarks(&partition)?;
            spans.push(Span { partition, start, end });
        }
    }
    Ok(spans)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::Runs;

    proptest! {
        #[test]
        fn runs_hold_what_was_put_in_and_no_two_touch(offsets in prop::collection::vec(0..40_i64, 0..60)) {
            let (mut runs, set): (Runs, BTreeSet<i64>) = (Runs::default(), offsets.iter().copied().collect());
            offsets.iter().for_each(|offset| runs.insert(*offset));
            for offset in -1..45 {
                prop_assert_eq!(runs.contains(offset), set.contains(&offset));
            }
            for from in -1..45 {
                let open = (from..).find(|offset| !set.contains(offset));
                prop_assert_eq!(Some(runs.first_open(from)), open);
                for end in -1..45 {
                    let count = set.iter().filter(|offset| (from..end).contains(*offset)).count();
                    prop_assert_eq!(runs.count(from, end), count as u64, "{} {}", from, end);
                }
            }
            let ends: Vec<_> = runs.runs.iter().collect();
            prop_assert!(ends.windows(2).all(|pair| pair[0].1 < pair[1].0), "{:?}", ends);
            prop_assert_eq!(runs.end(), set.last().map_or(0, |last| last + 1));
        }
    }
}
