//! Delivering what was judged.

use std::sync::Arc;

use pointsman_config::plan::OutputPlan;
use pointsman_core::delivery::{Delivery, Forward, PartitionChoice, TopicId};
use pointsman_core::event::Event;
use pointsman_core::failure::Failure;
use pointsman_core::port::{DeliveryError, ProduceError, Token, Undelivered};
use pointsman_core::provenance::{Provenance, origin_stamps};
use pointsman_core::record::{Headers, OwnedHeader};

use super::traced::Onward;
use super::undoing::Refused;
use super::{Again, Intent, Lane, Outputs, Resume, Step, Tools, Unit, Which, Why};
use crate::counters::Fate;
use crate::credit::Credit;
use crate::judge::{Course, Routed, Ruling};
use crate::shared::Now;

/// The producer queue is full.
pub(super) struct Full;

/// Bits of a token: the lane's number, which of its partitions, and the low bits of the record's sequence number.
const SEQ_BITS: u32 = 40;
/// The bits of a lane's number that a token holds.
pub(crate) const ID_MASK: u32 = u32::MAX >> (SEQ_BITS + 1 - 32);
/// The bits of a sequence number that a token holds.
pub(super) const SEQ_MASK: u64 = (1 << SEQ_BITS) - 1;

/// The number of the lane that a token names.
pub(crate) fn lane_of(Token(bits): Token) -> u32 {
    (bits >> (SEQ_BITS + 1)) as u32
}

/// The record that a token names: of which partition, and the low bits of its sequence number.
pub(super) fn record_of(Token(bits): Token) -> (Which, u64) {
    let which = if bits >> SEQ_BITS & 1 == 0 { Which::Source } else { Which::Retry };
    (which, bits & SEQ_MASK)
}

pub(super) fn token(lane: u32, unit: Unit) -> Token {
    let which = match unit.which {
        Which::Source => 0,
        Which::Retry => 1,
    };
    Token(u64::from(lane) << (SEQ_BITS + 1) | which << SEQ_BITS | unit.seq & SEQ_MASK)
}

fn partition_choice(output: &OutputPlan, origin: i32) -> PartitionChoice {
    if output.same_partition { PartitionChoice::Exactly(origin) } else { PartitionChoice::ByKey }
}

impl Lane {
    /// Carries out the rulings in the outbox, as far as the producer queue takes them.
    pub(super) fn deliver(&mut self, tools: &mut Tools<'_>) -> Step {
        while !self.outbox.is_empty() && !self.is_halted() {
            self.hand_on(tools);
            if self.outbox.is_empty() {
                break;
            }
            if !tools.credit.allows(self.queued_bytes) {
                return Step::AwaitingCredit;
            }
            let at = self.outbox.next;
            let unit = self.outbox.units[at];
            if self.is_put_back(unit, tools.now) {
                self.outbox.next += 1;
                continue;
            }
            let ruling = &self.outbox.judgement.rulings[at];
            let is_output = matches!(ruling, Ruling::Unchanged { .. } | Ruling::Deliver(_));
            let passes = is_output || matches!(ruling, Ruling::Drop { .. });
            let intent = Intent::Deliver(Outputs::default());
            let is_refused = is_output && self.is_refused_again(unit, Refused::Output, &intent, tools.now);
            let carried_out = match &mut self.outbox.judgement.rulings[at] {
                _ if is_refused => Ok(()),
                Ruling::Unchanged { output } => {
                    let routed = Routed { version: None, output: *output };
                    self.send_alone(tools, unit, routed)
                }
                Ruling::Deliver(routed) => {
                    let routed = routed.clone();
                    self.send_outputs(tools, unit, routed)
                }
                Ruling::Drop { reason } => {
                    tracing::debug!(reason, "dropped");
                    let reason = std::mem::take(reason);
                    self.tell(unit, Fate::Dropped, || Why::Reason(reason));
                    self.settle(unit, Fate::Dropped);
                    Ok(())
                }
                Ruling::Move => self.move_copy(tools, unit),
                Ruling::Fail(failure, course) => {
                    let (failure, course) = (failure.clone(), *course);
                    self.fail(tools, unit, failure, course)
                }
            };
            if let Err(Full) = carried_out {
                return Step::AwaitingCredit;
            }
            if self.stays_at(unit) {
                break;
            }
            self.outbox.pass();
            self.passed(usize::from(passes));
            if !self.is_halted() && self.regroup(tools.now) {
                return Step::Idle;
            }
        }
        Step::Progress
    }

    /// Produces the records that the outbox stands at, as long as they are of the source and leave as they came: most of most
    /// routes, of which there is nothing to be looked at but what holds for all of them. Where one can't be produced it
    /// is still to be.
    fn hand_on(&mut self, tools: &mut Tools<'_>) {
        let is_straight = self.traces.is_none()
            && self.refusals.is_empty()
            && self.outbox.origins.is_empty()
            && !self.plan().origin_headers
            && !self.may_follow(Which::Source);
        if !is_straight {
            return;
        }
        let (whole, from) = (self.lets_go(), self.outbox.next);
        while tools.credit.allows(self.queued_bytes)
            && let Some(Ruling::Unchanged { output }) = self.outbox.judgement.rulings.get(self.outbox.next)
            && let Some(unit) = self.outbox.units.get(self.outbox.next)
            && unit.which == Which::Source
        {
            let (unit, routed) = (*unit, Routed { version: None, output: *output });
            if self.hand_over(tools, unit, routed, None, whole).is_err() {
                break;
            }
            self.outbox.pass();
        }
        self.passed(self.outbox.next - from);
    }

    /// Whether nothing more is asked of a record that is sent on and arrives.
    pub(super) fn lets_go(&self) -> bool {
        // One that is being parked, and delivered after all, is asked for its key when it has its fate.
        let may_be_held = self.retry.as_ref().is_some_and(|retry| retry.index().expects_some());
        !may_be_held && !self.telling.is_watched()
    }

    /// Produces the outputs of one record.
    fn send_outputs(&mut self, tools: &mut Tools<'_>, unit: Unit, routed: std::ops::Range<usize>) -> Result<(), Full> {
        if routed.len() == 1 {
            return self.send_alone(tools, unit, self.outbox.judgement.routed[routed.start]);
        }
        for index in routed.clone().skip(self.outbox.sent) {
            self.send_output(tools, unit, self.outbox.judgement.routed[index])?;
            self.outbox.sent += 1;
        }
        let outputs = Outputs::of(self.outbox.judgement.routed[routed].iter().map(|routed| routed.output));
        self.all_sent(unit, Intent::Deliver(outputs), tools.now);
        Ok(())
    }

    /// Produces the only output of one record.
    fn send_alone(&mut self, tools: &mut Tools<'_>, unit: Unit, routed: Routed) -> Result<(), Full> {
        let keeps_headers = self.outbox.judgement.changes.headers(routed.version).is_none();
        let is_as_it_came = unit.which == Which::Source && self.outbox.origin().is_none();
        if is_as_it_came && keeps_headers && !self.plan().origin_headers && !self.has_another_trace(unit) {
            return self.forward(tools, unit, routed);
        }
        self.send_output(tools, unit, routed)?;
        self.all_sent(unit, Intent::Deliver(Outputs::one(routed.output)), tools.now);
        Ok(())
    }

    fn send_output(&mut self, tools: &mut Tools<'_>, unit: Unit, routed: Routed) -> Result<(), Full> {
        let onward = self.onward(unit);
        let plan = &self.shared.plan.routes[self.route];
        let output = &plan.outputs[routed.output];
        let Some(record) = self.outbox_record(unit) else { return Ok(()) };
        let event = self.outbox.judgement.changes.event(&record, routed.version);
        let mut stamps = if plan.origin_headers { origin_stamps(&event) } else { Vec::new() };
        let most = self.shared.plan.router.max_record_bytes;
        stamps.extend(onward.as_ref().and_then(|onward| onward.header(&event, most)));
        let kept = onward.as_ref().and_then(|_| Onward::keep(event.headers));
        let delivery = Delivery {
            topic: output.topic,
            partition: partition_choice(output, event.partition),
            timestamp_ms: event.timestamp_ms,
            key: event.key,
            value: event.value,
            headers: kept.as_deref().map_or(event.headers, Headers::Owned),
            stamps: Headers::Owned(&stamps),
        };
        let topic = output.topic;
        let produced = tools.sink.produce(&delivery, token(self.id, unit));
        if let Ok(bytes) = produced {
            self.tally.produced(routed.output, bytes);
            self.note_send(unit, topic, onward);
        }
        self.produced(unit, produced, tools.credit)
    }

    /// Produces the only output of one record, with the record's own headers and not a copy of them.
    fn forward(&mut self, tools: &mut Tools<'_>, unit: Unit, routed: Routed) -> Result<(), Full> {
        let onward = self.onward(unit);
        let stamp = onward.as_ref().and_then(|onward| {
            let event = self.outbox_record(unit)?;
            let event = self.outbox.judgement.changes.event(&event, routed.version);
            onward.header(&event, self.shared.plan.router.max_record_bytes)
        });
        match self.hand_over(tools, unit, routed, stamp, false) {
            Ok(topic) => self.note_send(unit, topic, onward),
            Err(failed) => {
                self.produced(unit, Err(failed), tools.credit)?;
                self.all_sent(unit, Intent::Deliver(Outputs::one(routed.output)), tools.now);
            }
        }
        Ok(())
    }

    /// Produces the only output of one record, with the record's own headers, of which nothing is left then, or of [all](Forward::whole) of
    /// it. If the delivery fails, that is [restored](pointsman_core::port::Batch::restore): so no other delivery may need it meanwhile.
    /// The answer is where it goes.
    ///
    /// Most records come by here, and nowhere else on their way out: so it is done with one look at the record's flight.
    #[inline]
    fn hand_over(
        &mut self,
        tools: &mut Tools<'_>,
        unit: Unit,
        Routed { version, output: number }: Routed,
        stamp: Option<OwnedHeader>,
        whole: bool,
    ) -> Result<TopicId, ProduceError> {
        let output = &self.shared.plan.routes[self.route].outputs[number];
        let mut forward = Forward {
            topic: output.topic,
            partition: partition_choice(output, self.source.partition.partition),
            timestamp_ms: None,
            key: None,
            value: None,
            stamps: Headers::Owned(stamp.as_slice()),
            whole,
        };
        let topic = output.topic;
        if version.is_some() {
            let changes = &self.outbox.judgement.changes;
            forward.timestamp_ms = changes.timestamp_ms(version);
            forward.key = changes.key(version);
            forward.value = changes.value(version);
        }
        let Some((batch, place, flight)) = self.source.in_flight(unit.seq) else { return Ok(topic) };
        let bytes = tools.sink.forward(batch, place, &forward, token(self.id, unit))?;
        flight.outstanding += 1;
        flight.queued_bytes += bytes;
        flight.sent = true;
        flight.intent = Intent::Deliver(Outputs::one(number));
        self.outstanding += 1;
        self.queued_bytes += bytes;
        tools.credit.take(bytes);
        self.tally.produced(number, bytes);
        Ok(topic)
    }

    /// The record that the outbox stands at, as it was at its origin.
    pub(super) fn outbox_record(&self, unit: Unit) -> Option<Event<'_>> {
        self.event(unit, self.outbox.origin())
    }

    /// Notes what became of a call of `produce`.
    pub(super) fn produced(
        &mut self,
        unit: Unit,
        produced: Result<usize, ProduceError>,
        credit: &mut Credit,
    ) -> Result<(), Full> {
        let taken = match produced {
            Ok(bytes) => Ok(bytes),
            Err(ProduceError::Full) => return Err(Full),
            Err(ProduceError::Delivery(error)) => Err(error),
        };
        if let Ok(bytes) = taken {
            self.outstanding += 1;
            self.queued_bytes += bytes;
            credit.take(bytes);
        }
        if let Err(error) = &taken {
            self.delivery_failed(unit, error);
        }
        if let Some(flight) = self.flight(unit) {
            match taken {
                Ok(bytes) => {
                    flight.outstanding += 1;
                    flight.queued_bytes += bytes;
                }
                Err(error) => drop(flight.error.get_or_insert(Box::new(error.into()))),
            }
        }
        Ok(())
    }

    /// Notes that nothing more is produced for this record.
    pub(super) fn all_sent(&mut self, unit: Unit, intent: Intent, now: Now) {
        let Some(flight) = self.flight(unit) else { return };
        flight.sent = true;
        flight.intent = intent;
        let is_done = flight.outstanding == 0;
        self.note_sent(unit, true);
        if is_done {
            self.finish(unit, now);
        }
    }

    /// Every delivery of this record is acknowledged, or one of them failed: settles the record, or takes it up again.
    pub(super) fn finish(&mut self, unit: Unit, now: Now) {
        let _named = self.name_record(unit);
        let Some(flight) = self.flight(unit) else { return };
        flight.sent = false;
        let intent = std::mem::take(&mut flight.intent);
        let Some(undelivered) = flight.error.take() else { return self.arrived(unit, intent, now) };
        let Undelivered { error, mut record } = *undelivered;
        if let (Some(record), Intent::DeadLetter { .. }) = (&mut record, &intent) {
            Provenance::strip(record);
        }
        let lost = self.in_flight(unit).and_then(|(batch, index, _)| {
            let is_whole = batch.restore(index, record);
            (!is_whole).then(|| batch.offset(index))
        });
        self.note_sent(unit, false);
        if let Some(offset) = lost {
            // Against what sinks promise: rather than to go on without it.
            return self.halt(
                format!("{error}, and the sink did not give offset {offset} back: a restart reads it again"),
                now,
            );
        }
        match error {
            DeliveryError::Refused { code, message } => self.refused(unit, intent, code, message, now),
            error @ DeliveryError::Unavailable { .. } => {
                let what = match intent {
                    Intent::Park(to_park) => Resume::Fail(to_park.failure, Course::Park { due_ms: to_park.due_ms }),
                    Intent::DeadLetter { failure, truncated: false } => Resume::Fail(failure, Course::DeadLetter),
                    Intent::DeadLetter { failure, truncated: true } => Resume::Fail(failure, Course::Truncate),
                    Intent::Move { .. } => Resume::Move,
                    Intent::Deliver(_) | Intent::None => Resume::Judge,
                };
                if self.pause.is_none_or(|until| until <= now.instant) {
                    self.wait_out(now, &error);
                }
                self.postpone(Again { at: self.pause.unwrap_or(now.instant), unit, what });
            }
        }
    }

    pub(super) fn delivered(&mut self, unit: Unit, outputs: Outputs) {
        self.tell(unit, Fate::Delivered, || Why::Routed { outputs });
        self.settle(unit, Fate::Delivered);
    }

    /// What waits for another did not fail.
    fn count_failure(&self, failure: &Failure, fate: Fate) {
        if !failure.deferred {
            self.shared.counters.failed(self.route, failure, Some(fate));
        }
    }

    fn arrived(&mut self, unit: Unit, intent: Intent, now: Now) {
        match intent {
            Intent::Deliver(outputs) => self.delivered(unit, outputs),
            Intent::Move { .. } => self.moved(unit),
            Intent::Park(to_park) => {
                self.count_failure(&to_park.failure, Fate::Parked);
                self.tell(unit, Fate::Parked, || Why::Failure(Arc::unwrap_or_clone(to_park.failure)));
                self.settle(unit, Fate::Parked);
            }
            Intent::DeadLetter { failure, .. } => {
                self.count_failure(&failure, Fate::DeadLettered);
                self.tell_dead_letter(unit, &failure, now);
                self.tell(unit, Fate::DeadLettered, || Why::Failure(Arc::unwrap_or_clone(failure)));
                self.settle(unit, Fate::DeadLettered);
            }
            // Nothing was produced, so nothing arrived: the record stays unsettled rather than being taken for done.
            Intent::None => {}
        }
    }
}
