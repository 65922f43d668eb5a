//! Taking records in: what has failed to be delivered, what is due again, and what is new.

use std::cmp::Reverse;

use pointsman_config::plan::RoutePlan;
use pointsman_core::port::FeedError;
use pointsman_core::provenance::Provenance;

use super::{Again, Lane, Resume, Tools, Unit, Which};
use crate::intake::{FetchError, Intake};
use crate::judge::Ruling;
use crate::shared::Now;

impl Lane {
    /// Takes in what is next: records whose delivery failed, records whose retry is due, or new ones.
    pub(super) fn take_in(&mut self, tools: &Tools<'_>) {
        self.take_again(tools.now);
        self.retry_first = !self.retry_first;
        let turns = if self.retry_first { [Which::Retry, Which::Source] } else { [Which::Source, Which::Retry] };
        for which in turns {
            if self.halted || !self.ready.is_empty() || !self.outbox.is_empty() {
                return;
            }
            let fetched = match which {
                Which::Source => self.take_source(tools.look_anyway),
                Which::Retry => {
                    // What is here already may run, whether or not more can be read.
                    let fetched = self.take_retry(tools.look_anyway);
                    self.take_due(tools.now);
                    fetched
                }
            };
            if let Err(error) = fetched {
                self.fetch_failed(tools.now, &error);
            }
        }
    }

    fn take_again(&mut self, now: Now) {
        let most = self.plan().batch_records.get();
        while self.ready.len() < most
            && let Some(Again { unit, what, .. }) = self.again.pop_front_if(|again| {
                // Judging fills the outbox anew, so what is to be judged does not mix with what has failed already.
                let free = match again.what {
                    Resume::Judge => self.outbox.is_empty(),
                    Resume::Fail(..) => self.ready.is_empty(),
                };
                free && again.at <= now.instant
            })
        {
            match what {
                Resume::Judge => self.ready.push(unit),
                Resume::Fail(failure, course) => {
                    let origin = self.origin_of(unit).ok().flatten();
                    self.outbox.push(unit, origin, Ruling::Fail(failure, course));
                }
            }
        }
    }

    fn take_source(&mut self, look_anyway: bool) -> Result<(), FetchError> {
        let plan = &self.shared.plan.routes[self.route];
        if has_room(&self.source, plan)
            && self.source.may_have_records(look_anyway)
            && let Some(seqs) = self.source.fetch(plan.batch_records.get(), plan.batch_bytes.get())?
        {
            self.ready.reserve(plan.batch_records.get());
            for seq in seqs.filter(|seq| self.source.is_open(*seq)) {
                self.ready.push(Unit { which: Which::Source, seq });
            }
        }
        Ok(())
    }

    /// Reads ahead in the retry partition, within the limits of what may be in flight: a record there says itself when
    /// it is due, so later ones may be due before earlier ones.
    fn take_retry(&mut self, look_anyway: bool) -> Result<(), FetchError> {
        let plan = &self.shared.plan.routes[self.route];
        let Some(retry) = &mut self.retry else { return Ok(()) };
        while has_room(retry, plan) && retry.may_have_records(look_anyway) {
            let Some(seqs) = retry.fetch(plan.batch_records.get(), plan.batch_bytes.get())? else { break };
            for seq in seqs.filter(|seq| retry.is_open(*seq)) {
                let headers = retry.record(seq).map(|record| Provenance::split(record.headers));
                // What can't be read is due at once, and fails as undecodable.
                let due_ms = headers.and_then(Result::ok).and_then(|(_, provenance)| provenance.due_ms).unwrap_or(0);
                self.waiting.push(Reverse((due_ms, seq)));
            }
        }
        Ok(())
    }

    /// Takes in the waiting records that are due.
    fn take_due(&mut self, now: Now) {
        let most = self.plan().batch_records.get();
        while self.ready.len() < most {
            match self.waiting.peek() {
                Some(Reverse((due_ms, seq))) if *due_ms <= now.unix_ms => {
                    self.ready.push(Unit { which: Which::Retry, seq: *seq });
                    self.waiting.pop();
                }
                _ => return,
            }
        }
    }

    fn fetch_failed(&mut self, now: Now, error: &FetchError) {
        match error {
            FetchError::Feed(FeedError::Unavailable { .. }) => self.wait_out(now, error),
            FetchError::Feed(FeedError::OutOfRange { .. }) => self.halt(&format!(
                "{error}. What was lost stays lost; to go on, reset the group's offset for this partition and restart"
            )),
            FetchError::Feed(FeedError::Damaged { .. }) => self.halt(&format!(
                "{error}. A restart reads them again, in case that they were damaged on their way; where the log's own copy is \
                 damaged, reset the group's offset to behind them to go on without them"
            )),
            FetchError::OutOfOrder { .. } => self.halt(&error.to_string()),
        }
    }
}

/// Whether more may be fetched.
fn has_room(intake: &Intake, plan: &RoutePlan) -> bool {
    intake.span() < plan.in_flight_records.get() && intake.bytes() < plan.in_flight_bytes.get()
}
