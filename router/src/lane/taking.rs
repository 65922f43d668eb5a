//! Taking records in: what has failed to be delivered, what is due again, and what is new.

use pointsman_config::plan::{Ordering, RoutePlan};
use pointsman_core::metadata::Metadata;
use pointsman_core::port::{DeliveryError, FeedError};
use pointsman_core::record::TopicPartition;

use super::{Again, Lane, Resume, Tools, Unit, Which};
use crate::intake::{FetchError, Intake};
use crate::judge::Ruling;
use crate::shared::Now;

impl Lane {
    /// Takes in what is next: records whose delivery failed, records whose retry is due, or new ones. The answer is whether
    /// anything came in, even if there is nothing to be done about it.
    pub(super) fn take_in(&mut self, tools: &Tools<'_>) -> bool {
        self.take_again(tools.now);
        self.retry_first = !self.retry_first;
        // Before all is known that is parked, nothing else can be done.
        let is_behind = self.retry.as_ref().is_some_and(|retry| !retry.is_caught_up());
        let retry_first = self.retry_first || is_behind;
        let turns = if retry_first { [Which::Retry, Which::Source] } else { [Which::Source, Which::Retry] };
        let mut any = false;
        for which in turns {
            if self.is_halted() || !self.ready.is_empty() || !self.outbox.is_empty() {
                return true;
            }
            let fetched = match which {
                Which::Source => self.take_source(tools.now, tools.look_anyway),
                Which::Retry => self.take_retry(tools.now, tools.look_anyway),
            };
            match fetched {
                Ok(fetched) => any |= fetched,
                Err(error) => self.fetch_failed(tools.now, &error),
            }
        }
        any
    }

    fn take_again(&mut self, now: Now) {
        let most = self.plan().batch_records.get();
        while self.ready.len() < most
            && let Some(Again { unit, what, .. }) = self.again.pop_front_if(|again| {
                // Judging fills the outbox anew, so what is to be judged does not mix with what has failed already.
                let free = match again.what {
                    Resume::Judge => self.outbox.is_empty(),
                    Resume::Fail(..) | Resume::Move => self.ready.is_empty(),
                };
                free && again.at <= now.instant
            })
        {
            match what {
                Resume::Judge => {
                    if let Some(flight) = self.flight(unit) {
                        // Of a run that was broken off.
                        flight.error = None;
                    }
                    self.set_out(unit, now);
                    if self.in_place.contains_key(&unit.seq) {
                        // Alone: what is judged with it would be judged in vain if it fails again.
                        return;
                    }
                }
                Resume::Move => self.outbox.push(unit, None, Ruling::Move),
                Resume::Fail(failure, course) => {
                    let origin = self.origin_of(unit).ok().flatten();
                    self.outbox.push(unit, origin, Ruling::Fail(failure, course));
                }
            }
        }
    }

    fn take_source(&mut self, now: Now, look_anyway: bool) -> Result<bool, FetchError> {
        let plan = &self.shared.plan.routes[self.route];
        if self.is_source_held_up() || !has_room(&self.source, plan) || !self.source.may_have_records(look_anyway) {
            return Ok(false);
        }
        let mut indexed = false;
        if let Some(retry) =
            self.retry.as_mut().filter(|retry| plan.ordering == Ordering::Key && !retry.index().is_empty())
        {
            // What was replayed to there before these came is before them.
            indexed = retry.read_tail(plan, self.source.next_offset(), true)?;
        }
        let Some(seqs) = self.source.fetch(plan.batch_records.get(), plan.batch_bytes.get(), now.instant)? else {
            return Ok(indexed);
        };
        self.ready.reserve(plan.batch_records.get());
        self.set_out_new(seqs, now);
        Ok(true)
    }

    /// Indexes what has come into the retry partition, and takes in what is due of it.
    fn take_retry(&mut self, now: Now, look_anyway: bool) -> Result<bool, FetchError> {
        let plan = &self.shared.plan.routes[self.route];
        let Some(retry) = &mut self.retry else { return Ok(false) };
        let mut done = retry.read_tail(plan, self.source.next_offset(), look_anyway);
        if retry.is_caught_up() && !retry.has_more() {
            // What is known already may run, whether or not more can be read.
            let read_back = retry.read_back(plan, &self.shared.reader, now, look_anyway);
            done = done.and_then(|any| read_back.map(|()| any));
            while self.ready.len() < plan.batch_records.get()
                && let Some(seq) = retry.take()
            {
                let unit = Unit { which: Which::Retry, seq };
                if retry.is_moving(seq) {
                    self.outbox.push(unit, None, Ruling::Move);
                } else {
                    self.ready.push(unit);
                }
            }
        }
        done
    }

    fn fetch_failed(&mut self, now: Now, error: &FetchError) {
        match error {
            FetchError::Feed(FeedError::Unavailable { .. }) | FetchError::Closed(_) => self.wait_out(now, error),
            FetchError::Feed(FeedError::OutOfRange { partition, .. }) if *partition != self.source.partition => {
                self.halt_at_loss(error, now);
            }
            FetchError::Replaced { .. } => self.halt_at_loss(error, now),
            FetchError::Feed(FeedError::OutOfRange { .. }) => self.halt(
                format!(
                    "{error}. What was lost stays lost; to go on, reset the group's offset for this partition and restart"
                ),
                now,
            ),
            FetchError::Feed(FeedError::Damaged { .. }) => self.halt(
                format!(
                    "{error}. A restart reads them again, in case that they were damaged on their way; where the log's own copy \
                     is damaged, reset the group's offset to behind them to go on without them"
                ),
                now,
            ),
            FetchError::OutOfOrder { .. } => self.halt(error.to_string(), now),
            FetchError::Lost { .. } => self.halt(
                format!(
                    "{error}: something else than the router has removed it. Retry topics need `cleanup.policy=delete` and \
                     `retention.ms=-1`; a restart goes on without the record"
                ),
                now,
            ),
        }
    }

    /// A record was parked at this offset, where others have been before: nobody will look for it there.
    pub(super) fn parked_in_vain(&mut self, offset: i64, now: Now) {
        let Some(retry) = self.retry.as_ref().filter(|_| !self.is_halted()) else { return };
        let error = FetchError::Replaced { partition: retry.partition.clone(), offset };
        let _named = self.span.clone().entered();
        self.halt_at_loss(&error, now);
    }

    /// The retry partition is another one than before: says what is lost with the old one, and what can be done about it.
    fn halt_at_loss(&mut self, error: &FetchError, now: Now) {
        let first = self.retry.as_ref().and_then(|retry| retry.index().first_origin());
        let TopicPartition { topic, partition } = &self.source.partition;
        let again = first.map(|offset| {
            format!(
                ", with the records that are parked: the first of them is offset {offset} of {topic}/{partition}. To have all from \
                 there run again, stop the route, and `pointsman offsets reset --route {} --topic {topic} --partition {partition} \
                 --to {offset}`",
                self.plan().name
            )
        });
        let with = again.unwrap_or_default();
        self.halt(
            format!("{error}: the topic was deleted or emptied{with}. A restart goes on without what is gone"),
            now,
        );
    }
}

/// What that comes to for the record: it is to be parked again.
pub(super) fn in_vain(offset: i64) -> DeliveryError {
    let message = format!("it was written at offset {offset}, where others have been before");
    DeliveryError::Unavailable { code: "replaced".to_owned(), message }
}

/// A lane may have unsettled what its plan says, and reads on to so many times as many records from the lowest of those on. A dead
/// letter takes longer than what is delivered, since it waits for others of its topic: else its lane would stand until it is
/// acknowledged.
const SPAN: usize = 4;

/// Whether more may be fetched.
fn has_room(intake: &Intake, plan: &RoutePlan) -> bool {
    let records = plan.in_flight_records.get();
    let reads_on = || {
        intake.in_flight_count() < records
            && intake.span() < records.saturating_mul(SPAN)
            && can_be_told(intake.next_offset() - intake.watermark(), plan.batch_records.get())
    };
    intake.bytes() < plan.in_flight_bytes.get() && (intake.span() < records || reads_on())
}

/// Whether a commit can tell what is settled of so many offsets, and of a batch more.
fn can_be_told(offsets: i64, batch_records: usize) -> bool {
    let batch = i64::try_from(batch_records).unwrap_or(i64::MAX);
    offsets.saturating_add(batch) <= Metadata::FITTING_OFFSETS
}

#[cfg(test)]
mod tests {
    use super::can_be_told;

    #[test]
    fn a_lane_reads_on_as_far_as_a_commit_can_tell_what_is_settled() {
        assert!(can_be_told(18_976, 1024));
        assert!(!can_be_told(18_977, 1024));
        assert!(!can_be_told(i64::MAX, 1));
    }
}
