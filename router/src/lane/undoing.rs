//! Transactions, as a lane sees them: it may stand in the middle of a record when one is to end, and one that is undone
//! undoes what the lane has done. Then it is taken over anew from what is committed, and takes along what must not be lost
//! with it: what the log has refused, since it would refuse it in each transaction again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pointsman_core::port::{Commit, DeliveryError, Token};
use pointsman_core::record::TopicPartition;

use super::sending::{SEQ_MASK, record_of, token};
use super::{Intent, Lane, Unit, Which};
use crate::judge::Ruling;
use crate::lanes::Because;
use crate::shared::Now;

/// What lanes take along, by route and source partition, until they are taken over anew.
#[derive(Default)]
pub(crate) struct Baggage(Mutex<HashMap<(usize, TopicPartition), Carried>>);

impl Baggage {
    fn lock(&self) -> MutexGuard<'_, HashMap<(usize, TopicPartition), Carried>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one lane takes along.
struct Carried {
    refusals: Vec<Refusal>,
    by_hand: Option<Box<Because>>,
}

/// The log has refused a delivery of a record for itself.
pub(super) struct Refusal {
    which: Which,
    offset: i64,
    of: Refused,
    code: String,
    message: String,
}

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Output,
    Parked,
    Letter {
        truncated: bool,
    },
    /// What holds the key of a dead letter.
    Marker,
    /// A parked record that was to be moved.
    Copy,
}

impl Lane {
    /// The record of which some deliveries are produced and others still to be, if there is one: the token of its deliveries.
    pub(crate) fn midway(&self) -> Option<Token> {
        let unit = self.outbox.units.get(self.outbox.next).filter(|_| self.outbox.sent > 0)?;
        Some(token(self.id, *unit))
    }

    /// Whether something was delivered of a record that will not come to its end: what it belongs to can't be committed.
    pub(crate) fn is_torn(&self) -> bool {
        self.torn || self.is_halted() && self.midway().is_some()
    }

    /// What is to be committed, the lane's [vow](Self::vow) among it; everything, changed or not, if `again`. To be called when
    /// all that it has produced is reported.
    pub(crate) fn settle_up(&mut self, again: bool, now: Now) -> Vec<Commit> {
        let mut commits = self.vow(now).unwrap_or_default();
        let vowed = commits.len();
        let released = self.draining && self.is_drained();
        self.let_guilty_go();
        let retry = self.retry.as_mut().and_then(|retry| retry.commit(again || released, released));
        for commit in self.source.commit(again || released, released).into_iter().chain(retry) {
            if commits[..vowed].iter().all(|vow| vow.partition != commit.partition) {
                commits.push(commit);
            }
        }
        commits
    }

    /// The log refuses a delivery for itself. The lane is going to be taken over anew, and is to know then.
    pub(crate) fn note_refusal(&mut self, token: Token, error: &DeliveryError) {
        let DeliveryError::Refused { code, message } = error else { return };
        let (which, low_seq) = record_of(token);
        let seq = match (which, &self.retry) {
            (Which::Source, _) => self.source.full_seq(low_seq, SEQ_MASK),
            (Which::Retry, Some(retry)) => retry.full_seq(low_seq, SEQ_MASK),
            (Which::Retry, None) => return,
        };
        let unit = Unit { which, seq };
        let (Some(offset), Some(of)) = (self.offset_of(unit), self.in_delivery(unit)) else { return };
        tracing::debug!(from = which.name(), offset, ?of, "refused: {message} ({code})");
        self.refusals.push(Refusal { which, offset, of, code: code.clone(), message: message.clone() });
    }

    /// What is being delivered of a record.
    fn in_delivery(&mut self, unit: Unit) -> Option<Refused> {
        let flight = self.flight(unit)?;
        if flight.sent {
            return match &flight.intent {
                Intent::None => None,
                Intent::Deliver(_) => Some(Refused::Output),
                Intent::Park(_) => Some(Refused::Parked),
                Intent::DeadLetter { truncated, .. } => Some(Refused::Letter { truncated: *truncated }),
                Intent::Move { .. } => Some(Refused::Copy),
            };
        }
        let ruling = self.outbox.judgement.rulings.get(self.outbox.next)?;
        (self.outbox.units.get(self.outbox.next) == Some(&unit)).then_some(match ruling {
            Ruling::Fail(..) => Refused::Marker,
            Ruling::Unchanged { .. } | Ruling::Deliver(_) | Ruling::Drop { .. } | Ruling::Move => Refused::Output,
        })
    }

    /// Takes up the record that the outbox stands at as refused, where the log has refused the same before. The answer is
    /// whether it has; then nothing is to be produced.
    pub(super) fn is_refused_again(&mut self, unit: Unit, of: Refused, intent: &Intent, now: Now) -> bool {
        if self.refusals.is_empty() {
            return false;
        }
        let Some(offset) = self.offset_of(unit) else { return false };
        let is_it = |refusal: &&Refusal| (refusal.which, refusal.offset, refusal.of) == (unit.which, offset, of);
        let Some(Refusal { code, message, .. }) = self.refusals.iter().find(is_it) else { return false };
        let error = DeliveryError::Refused { code: code.clone(), message: message.clone() };
        self.delivery_failed(unit, &error);
        if let Some(flight) = self.flight(unit) {
            flight.error.get_or_insert(Box::new(error.into()));
        }
        self.all_sent(unit, intent.clone(), now);
        true
    }

    /// The lane is undone, and will be taken over anew in this process: [`take_along`](Self::take_along).
    pub(crate) fn leave_behind(&mut self) {
        self.outlive();
        let (source, retry) =
            (self.source.watermark_committed(), self.retry.as_ref().map(|retry| retry.committed_to()));
        let mut refusals = std::mem::take(&mut self.refusals);
        refusals.retain(|refusal| match refusal.which {
            Which::Source => refusal.offset >= source,
            Which::Retry => retry.is_some_and(|committed| refusal.offset >= committed),
        });
        let carried = Carried { refusals, by_hand: self.by_hand.take() };
        if !carried.refusals.is_empty() || carried.by_hand.is_some() {
            self.shared.baggage.lock().insert((self.route, self.source.partition.clone()), carried);
        }
    }

    /// Takes along what the lane before it has left behind.
    pub(crate) fn take_along(&mut self) {
        let carried = self.shared.baggage.lock().remove(&(self.route, self.source.partition.clone()));
        if let Some(Carried { refusals, by_hand }) = carried {
            (self.refusals, self.by_hand) = (refusals, by_hand);
        }
    }
}
