//! What becomes of records that failed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman_config::plan::{Ordering, StagePlan};
use pointsman_core::delivery::{Delivery, Forward, PartitionChoice, TopicId};
use pointsman_core::event::Event;
use pointsman_core::failure::{Failure, FailureClass};
use pointsman_core::parked::Edition;
use pointsman_core::policy::{self, Decision, History};
use pointsman_core::provenance::{Blame, Marker, Origin, Provenance};
use pointsman_core::record::{Headers, TopicPartition};

use super::halting::HaltFor;
use super::sending::{Full, token};
use super::undoing::Refused;
use super::{Again, Intent, Lane, Resume, ToPark, Tools, Unit, Which, Why};
use crate::counters::Fate;
use crate::judge::Course;
use crate::parking::Parking;
use crate::shared::Now;

impl Lane {
    /// Carries out the policy for one failed record.
    pub(super) fn fail(
        &mut self,
        tools: &mut Tools<'_>,
        unit: Unit,
        failure: Arc<Failure>,
        course: Course,
    ) -> Result<(), Full> {
        self.note_failure(unit, &failure);
        let _named = self.name_record(unit);
        let history = self.history(unit, &failure, tools.now);
        let decision = match course {
            Course::Decide => {
                policy::decide(&self.plan().failure, &failure, history, tools.now.unix_ms, tools.random.f64())
            }
            Course::Park { due_ms } => Decision::Park { due_ms },
            Course::Unparkable | Course::DeadLetter | Course::Truncate if self.plan().dead_letter.is_some() => {
                Decision::DeadLetter
            }
            Course::Unparkable | Course::DeadLetter | Course::Truncate => Decision::Halt,
            Course::Halt => {
                self.halt_at(unit, Arc::unwrap_or_clone(failure), HaltFor::SecondConviction, tools.now);
                return Ok(());
            }
        };
        match (decision, self.retry_topic, self.plan().dead_letter) {
            (Decision::Drop, ..) => {
                self.shared.counters.failed(self.route, &failure, Some(Fate::Dropped));
                self.tell(unit, Fate::Dropped, || Why::Failure(Arc::unwrap_or_clone(failure)));
                self.settle(unit, Fate::Dropped);
                self.dropped_a_failure();
                Ok(())
            }
            (Decision::Park { due_ms }, None, _) if self.plan().ordering == Ordering::Partition => {
                self.retry_in_place(unit, &failure, history, due_ms, tools.now);
                Ok(())
            }
            (Decision::Park { due_ms }, Some(topic), _) => {
                let edition = Edition::new(self.outbox.replays(), history.attempt);
                self.hold(unit, edition);
                // It holds, however long the producer queue stays full.
                self.outbox.hold_to(Course::Park { due_ms });
                let partition = PartitionChoice::Exactly(self.source_partition().partition);
                let from = self.retry.as_ref().map_or(0, Parking::tail_at);
                let intent = Intent::Park(Box::new(ToPark { failure, due_ms, from }));
                if self.is_seen(unit) {
                    self.all_sent(unit, intent, tools.now);
                    return Ok(());
                }
                self.send_failed(tools, unit, topic, partition, (history, Some(due_ms)), intent)
            }
            (Decision::Park { .. } | Decision::DeadLetter, _, Some(topic)) => {
                if !self.pay(course, tools.now) {
                    self.keep_back(unit, failure, tools.now);
                    return Ok(());
                }
                let is_deferred = failure.deferred;
                let intent = Intent::DeadLetter { failure, truncated: course == Course::Truncate };
                if self.outbox.sent == 0 && !is_deferred && self.hold_key(unit) {
                    if self.is_refused_again(unit, Refused::Marker, &intent, tools.now) {
                        return Ok(());
                    }
                    self.send_marker(tools, unit, &intent, history)?;
                    self.outbox.sent = 1;
                }
                self.send_failed(tools, unit, topic, PartitionChoice::ByKey, (history, None), intent)
            }
            (Decision::Park { .. } | Decision::DeadLetter | Decision::Halt, ..) => {
                self.halt_at(unit, Arc::unwrap_or_clone(failure), HaltFor::Plan, tools.now);
                Ok(())
            }
        }
    }

    /// Number and times of the run that failed, of the record that the outbox stands at; of the one before, where there was none.
    fn history(&self, unit: Unit, failure: &Failure, now: Now) -> History {
        let in_place = self.in_place.get(&unit.seq).filter(|_| unit.which == Which::Source);
        let before = match self.outbox.origin() {
            Some((_, parked)) if parked.attempts > 0 => (parked.attempts, parked.first_failed_ms),
            // Replayed, it starts anew.
            _ => in_place.map_or((0, 0), |history| (history.attempt, history.first_failed_ms)),
        };
        match before {
            // Parked behind another record of its key, perhaps, and that is no failure.
            (0, _) => History { attempt: u32::from(!failure.deferred), first_failed_ms: now.unix_ms },
            (attempts, first_failed_ms) => {
                History { attempt: attempts.saturating_add(u32::from(!failure.deferred)), first_failed_ms }
            }
        }
    }

    /// Produces the record with its provenance: original key, value and headers, then our headers.
    fn send_failed(
        &mut self,
        tools: &mut Tools<'_>,
        unit: Unit,
        topic: TopicId,
        partition: PartitionChoice,
        (history, due_ms): (History, Option<i64>),
        intent: Intent,
    ) -> Result<(), Full> {
        let truncated = matches!(intent, Intent::DeadLetter { truncated: true, .. });
        let of = if matches!(intent, Intent::Park(_)) { Refused::Parked } else { Refused::Letter { truncated } };
        if self.is_refused_again(unit, of, &intent, tools.now) {
            return Ok(());
        }
        let (Some(record), Some(failure)) = (self.outbox_record(unit), intent.failure()) else { return Ok(()) };
        let provenance = self.provenance(&record, failure, history, tools.now);
        let block = Provenance { due_ms, truncated, ..provenance }.write();
        // Retention of these topics is to follow the time of the failure; the original timestamp is a header.
        let (timestamp_ms, stamps) = (tools.now.unix_ms, &block.headers());
        let stamps = Headers::Borrowed(stamps);
        // With a marker before it, what comes back may be that one.
        let goes_whole = of == (Refused::Letter { truncated: false })
            && self.outbox.sent == 0
            && unit.which == Which::Source
            && self.outbox.origin().is_none()
            && self.traces.is_none()
            && self.lets_go();
        let produced = if goes_whole {
            let forward = Forward {
                topic,
                partition,
                timestamp_ms: Some(timestamp_ms),
                key: None,
                value: None,
                stamps,
                whole: true,
            };
            let Some((batch, place, _)) = self.source.in_flight(unit.seq) else { return Ok(()) };
            tools.sink.forward(batch, place, &forward, token(self.id, unit))
        } else {
            let delivery = Delivery {
                topic,
                partition,
                timestamp_ms,
                key: if truncated { None } else { record.key },
                value: if truncated { None } else { record.value },
                headers: if truncated { Headers::NONE } else { record.headers },
                stamps,
            };
            tools.sink.produce(&delivery, token(self.id, unit))
        };
        if let Ok(bytes) = produced {
            self.shared.counters.produced(topic, bytes);
            let onward = self.onward(unit);
            self.note_send(unit, topic, onward);
        }
        self.produced(unit, produced, tools.credit)?;
        self.all_sent(unit, intent, tools.now);
        Ok(())
    }

    /// Produces the marker that holds the key of the record.
    fn send_marker(
        &mut self,
        tools: &mut Tools<'_>,
        unit: Unit,
        intent: &Intent,
        history: History,
    ) -> Result<(), Full> {
        let (Some(topic), Some(record), Some(failure)) = (self.retry_topic, self.outbox_record(unit), intent.failure())
        else {
            return Ok(());
        };
        let provenance = self.provenance(&record, failure, history, tools.now);
        let block = Provenance { due_ms: Some(i64::MAX), marker: Some(Marker::Hold), ..provenance }.write();
        let delivery = Delivery {
            topic,
            partition: PartitionChoice::Exactly(self.source_partition().partition),
            timestamp_ms: tools.now.unix_ms,
            key: record.key,
            value: None,
            headers: Headers::NONE,
            stamps: Headers::Borrowed(&block.headers()),
        };
        let produced = tools.sink.produce(&delivery, token(self.id, unit));
        self.produced(unit, produced, tools.credit)
    }

    /// What is to be told of the record that the outbox stands at, and of its failure.
    fn provenance(&self, record: &Event<'_>, failure: &Failure, history: History, now: Now) -> Provenance {
        Provenance {
            origin: Origin {
                partition: self.origin_partition(record),
                offset: record.offset,
                timestamp_ms: record.timestamp_ms,
            },
            blame: self.blame(failure),
            class: failure.class,
            code: failure.code.clone(),
            message: failure.message.clone(),
            attempts: history.attempt,
            first_failed_ms: history.first_failed_ms,
            last_failed_ms: now.unix_ms,
            due_ms: None,
            truncated: false,
            replay_count: self.outbox.replays(),
            deferred: failure.deferred,
            marker: None,
        }
    }

    /// Where the record was, at its origin. Nearly always that is the lane's own partition, whose name need not be copied.
    fn origin_partition(&self, record: &Event<'_>) -> TopicPartition {
        let own = &self.source.partition;
        if (record.topic, record.partition) == (&*own.topic, own.partition) {
            return own.clone();
        }
        TopicPartition::new(record.topic, record.partition)
    }

    pub(super) fn blame(&self, failure: &Failure) -> Blame {
        let plan = self.plan();
        let stage = failure.stage.and_then(|stage| plan.stages.get(stage as usize));
        let plugin = stage.and_then(StagePlan::plugin).map(|plugin| plugin.0 as usize);
        Blame {
            route: plan.name.clone(),
            stage: match plugin {
                Some(plugin) => Some(self.shared.plan.plugins[plugin].name.clone()),
                None => stage.map(|_| "filter".into()),
            },
            plugin_sha256: plugin.and_then(|plugin| self.shared.digests.get(plugin).cloned()),
        }
    }

    /// The log refuses a delivery for itself: the record takes the next worse course.
    pub(super) fn refused(&mut self, unit: Unit, intent: Intent, code: String, message: String, now: Now) {
        let (failure, course) = match intent {
            Intent::Move { .. } => return self.stay(unit, &code, &message),
            Intent::Deliver(_) | Intent::None => {
                self.passed_in_vain();
                (Arc::new(Failure::new(FailureClass::Refused, code, message)), Course::Decide)
            }
            Intent::Park(to_park) => (to_park.failure, Course::Unparkable),
            Intent::DeadLetter { failure, truncated: false } => (failure, Course::Truncate),
            Intent::DeadLetter { failure, truncated: true } => {
                return self.halt_at_refused(unit, failure, format!("{message} ({code})"), now);
            }
        };
        self.take_up_refused(Again { at: now.instant, unit, what: Resume::Fail(failure, course) });
    }

    /// Writes dead letters to the log, a few of many.
    pub(super) fn tell_dead_letter(&mut self, unit: Unit, failure: &Failure, now: Now) {
        let Some(others) = self.dead_letter_log.may_speak(now.instant) else { return };
        let _named = (self.span.clone().entered(), self.name_record(unit));
        let offset = self.offset_of(unit);
        tracing::warn!(from = unit.which.name(), offset, class = %failure.class, others_since_the_last = others, "dead-lettered: {}", failure.line());
    }

    /// The offset of a record in flight, in the partition that it was read from.
    pub(super) fn offset_of(&self, unit: Unit) -> Option<i64> {
        self.record(unit).map(|record| record.offset)
    }
}

/// Keeps a lane from flooding the log: it speaks at most once a second, and then says how often it did not.
#[derive(Default)]
pub(super) struct Chatter {
    last: Option<Instant>,
    unsaid: u64,
}

impl Chatter {
    /// Whether it may speak now; the answer is how often it was not allowed since the last time.
    pub(super) fn may_speak(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now < last + Duration::from_secs(1)) {
            self.unsaid += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}
