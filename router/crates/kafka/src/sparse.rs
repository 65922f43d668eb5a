//! Topics that few records go to, next to others of the same sink.
//!
//! Records linger in a producer, so that many go in one request. Where one in a hundred goes to another topic, what librdkafka has made of it,
//! and most of all of its headers, has left the processor's caches by the time that it is written. So records of such topics are [held](Held)
//! in a form that is read quickly, and given together to a producer of their own, which sends them at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman_core::delivery::{Delivery, TopicId};
use pointsman_core::port::{LogError, ProduceError, Report, Returned, Token, Undelivered, Waker};

use crate::held::Held;
use crate::settings::KafkaSettings;
use crate::sink::{Producer, native_headers};

/// The producer is given records no more often than this, so the first after a while at once, ...
const INTERVAL: Duration = Duration::from_millis(35);
/// ... unless they have as many bytes, which are worth a request; ...
const HELD_BYTES: usize = 1 << 20;
/// ... and there the first of them waits so many milliseconds for the others.
const GATHER_MS: &str = "2";

/// The part of a sink that such topics have.
pub(crate) struct Sparse {
    /// Open from the start: it may take some hundred milliseconds until a producer can send its first record.
    pub(crate) producer: Producer,
    /// Of each topic of the sink, whether it is one of them.
    topics: Vec<bool>,
    held: Held,
    /// Not before, whatever is held.
    release_at: Instant,
    /// Of records that were held, and that the producer does not take.
    refused: Vec<Report>,
}

impl Sparse {
    pub(crate) fn open(
        settings: &KafkaSettings,
        names: &[Arc<str>],
        waker: Waker,
        topics: &[TopicId],
    ) -> Result<Self, LogError> {
        Ok(Self {
            producer: Producer::open(settings, names, waker, &[("linger.ms", GATHER_MS)])?,
            topics: (0..).map(TopicId).take(names.len()).map(|topic| topics.contains(&topic)).collect(),
            held: Held::default(),
            release_at: Instant::now(),
            refused: Vec::new(),
        })
    }

    /// Whether the topic is one of them. All records of it are to come this way, or they would lose their order.
    pub(crate) fn has(&self, topic: TopicId) -> bool {
        self.topics.get(topic.0 as usize).is_some_and(|has| *has)
    }

    /// Keeps a copy of a delivery for a while. The answer is about how many bytes it takes.
    pub(crate) fn hold(&mut self, delivery: &Delivery<'_>, token: Token) -> usize {
        self.held.push(delivery, token);
        if self.held.bytes() >= HELD_BYTES {
            self.release();
        }
        delivery.rough_bytes()
    }

    /// Gives what is held to the producer, as far as that has room.
    fn release(&mut self) {
        self.release_at = Instant::now() + INTERVAL;
        let Self { producer, held, refused, .. } = self;
        held.release(|delivery, token| {
            let error = match producer.send(delivery, native_headers(delivery), token) {
                Ok(()) => return true,
                Err(ProduceError::Full) => return false,
                Err(ProduceError::Delivery(error)) => error,
            };
            let (key, value) = (delivery.key.map(Into::into), delivery.value.map(Into::into));
            let record = Some(Returned { key, value, headers: delivery.headers.to_owned().into() });
            refused.push(Report { token, result: Err(Box::new(Undelivered { error, record })) });
            true
        });
    }

    /// When what is held is to be released by [`serve`](Self::serve), if there is any.
    pub(crate) fn release_at(&self) -> Option<Instant> {
        (!self.held.is_empty()).then_some(self.release_at)
    }

    /// Releases what is held if it is time. Appends the reports of what the producer did not take; the others are its own.
    pub(crate) fn serve(&mut self, reports: &mut Vec<Report>) {
        if self.release_at().is_some_and(|at| at <= Instant::now()) {
            self.release();
        }
        reports.append(&mut self.refused);
    }
}
