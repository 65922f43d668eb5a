//! A broker's troubles.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use pointsman_core::delivery::{Delivery, Forward, TopicId};
use pointsman_core::port::{Batch, DeliveryError, ProduceError, Report, Returned, Sink, SinkFailed, Token};

use super::world::{QUEUE_BYTES, number};
use crate::route_test::simulated_log::{SimulatedSink, take_along};

/// The log refuses the outputs of some records for themselves.
pub(super) fn is_refused(offset: i64) -> bool {
    offset % 41 == 7
}

/// Where lanes write.
pub(super) const TOPICS: [&str; 4] = ["main", "side", "sim.r.dead-letter", "sim.r.source.retry"];

/// A sink with a broker's troubles: full at times, reports late and out of order, topics that take what is queued late or not before
/// the end of the sink, deliveries that fail, with and without having been written.
pub(super) struct TroubledSink {
    pub(super) inner: SimulatedSink,
    pub(super) random: fastrand::Rng,
    pub(super) waiting: Vec<Report>,
    /// Topics that take nothing for a while.
    pub(super) late: HashSet<Arc<str>>,
    /// Nothing goes to this topic any more.
    pub(super) cut_off: Option<&'static str>,
    pub(super) calm: bool,
    /// A topic that takes nothing for now.
    pub(super) outage: Option<TopicId>,
    /// A topic that refuses every record for itself.
    pub(super) refuses: Option<TopicId>,
    /// Where a delivery fails, what comes after it fails too, as in a producer that keeps an order.
    pub(super) in_order: bool,
    pub(super) broken: bool,
    /// What was taken whole and has no report.
    pub(super) taken: HashMap<Token, Returned>,
}

impl Sink for TroubledSink {
    fn capacity_bytes(&self) -> usize {
        QUEUE_BYTES
    }

    fn produce(&mut self, delivery: &Delivery<'_>, token: Token) -> Result<usize, ProduceError> {
        self.trouble(delivery, token).unwrap_or_else(|| self.inner.produce(delivery, token))
    }

    fn forward(
        &mut self,
        batch: &mut dyn Batch,
        index: usize,
        forward: &Forward<'_>,
        token: Token,
    ) -> Result<usize, ProduceError> {
        let mut content = Returned::from(batch.record(index));
        content.headers = content.headers.into_iter().chain(forward.stamps.to_owned()).collect();
        let accepted = match self.trouble(&forward.of(batch.record(index)), token) {
            Some(accepted) => accepted.inspect(|_| take_along(batch, index, forward.whole)),
            None => self.inner.forward(batch, index, forward, token),
        };
        if accepted.is_ok() && forward.whole {
            self.taken.insert(token, content);
        }
        accepted
    }

    fn serve(&mut self, reports: &mut Vec<Report>) -> Result<(), SinkFailed> {
        for topic in TOPICS.map(Arc::<str>::from) {
            let is_late = self.late.remove(&topic);
            if !self.calm && self.random.u8(..) < if is_late { 224 } else { 8 } {
                self.late.insert(topic);
            }
        }
        self.late.extend(self.cut_off.map(Arc::from));
        self.inner.serve_topics(|topic| !self.late.contains(topic), &mut self.waiting);
        self.broken &= !self.waiting.is_empty();
        self.random.shuffle(&mut self.waiting);
        let now = self.random.usize(0..=self.waiting.len());
        for mut report in self.waiting.drain(..now) {
            let taken = self.taken.remove(&report.token);
            if report.result.is_ok() && !self.calm && self.random.u8(..) < 4 {
                // Written, and the answer got lost.
                let error = DeliveryError::Unavailable { code: "sim".into(), message: "timed out".into() };
                report.result = Err(Box::new(error.into()));
            }
            if let Err(undelivered) = &mut report.result {
                undelivered.record = taken;
            }
            reports.push(report);
        }
        Ok(())
    }
}

impl TroubledSink {
    /// The answer to a delivery that fails at once or later.
    fn trouble(&mut self, delivery: &Delivery<'_>, token: Token) -> Option<Result<usize, ProduceError>> {
        let luck = if self.calm { u8::MAX } else { self.random.u8(..) };
        let unavailable = || DeliveryError::Unavailable { code: "sim".into(), message: "simulated outage".into() };
        let refusal = || DeliveryError::Refused { code: "sim".into(), message: "simulated refusal".into() };
        let later = match luck {
            _ if self.broken => unavailable(),
            _ if self.outage == Some(delivery.topic) => return Some(Err(unavailable().into())),
            _ if self.refuses == Some(delivery.topic) => refusal(),
            0..12 => return Some(Err(ProduceError::Full)),
            12..16 => return Some(Err(unavailable().into())),
            16..22 => {
                self.broken = self.in_order;
                unavailable()
            }
            // What is parked or dead-lettered has more.
            _ if delivery.stamps.len() <= 4 && delivery.value.is_some() && is_refused(number(delivery.value)) => {
                refusal()
            }
            _ => return None,
        };
        self.waiting.push(Report { token, result: Err(Box::new(later.into())) });
        Some(Ok(delivery.rough_bytes()))
    }
}
