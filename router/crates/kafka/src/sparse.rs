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

/// While other records are under way the producer is given what is held no more often than this, ...
const INTERVAL: Duration = Duration::from_millis(35);
/// ... unless that has as many bytes, which are worth a request; ...
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
    /// What is held then goes, whatever is under way.
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

    /// Whether anything is held.
    pub(crate) fn holds_any(&self) -> bool {
        !self.held.is_empty()
    }

    /// Releases what is held if it is time, or if the sink `is_idle`: no other records are under way, whose reports would have it called again.
    /// Appends the reports of what the producer did not take; the others are its own.
    pub(crate) fn serve(&mut self, is_idle: bool, reports: &mut Vec<Report>) {
        if self.holds_any() && (is_idle || self.release_at <= Instant::now()) {
            self.release();
        }
        reports.append(&mut self.refused);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

    use std::sync::Arc;
    use std::time::Instant;

    use pointsman_core::delivery::{Delivery, PartitionChoice, TopicId};
    use pointsman_core::port::{DeliveryError, Token};
    use pointsman_core::record::Headers;

    use super::{HELD_BYTES, INTERVAL, Sparse};
    use crate::KafkaSettings;

    fn delivery(value: &[u8]) -> Delivery<'_> {
        Delivery {
            topic: TopicId(1),
            partition: PartitionChoice::Exactly(0),
            timestamp_ms: 1,
            key: Some(b"k"),
            value: Some(value),
            headers: Headers::NONE,
            stamps: Headers::NONE,
        }
    }

    /// The producer has no broker, and takes them all the same.
    fn sparse(settings: &KafkaSettings) -> Sparse {
        Sparse::open(settings, &["many".into(), "few".into()], Arc::new(|| {}), &[TopicId(1)]).unwrap()
    }

    #[test]
    fn records_are_held_while_others_are_under_way_until_they_are_many_or_old() {
        let mut sparse = sparse(&KafkaSettings::new("127.0.0.1:1"));
        assert_eq!([0, 1, 2].map(|topic| sparse.has(TopicId(topic))), [false, true, false]);
        let mut reports = Vec::new();
        let mut holds_after = |sparse: &mut Sparse, is_idle| {
            sparse.serve(is_idle, &mut reports);
            assert!(reports.is_empty(), "{reports:?}");
            sparse.holds_any()
        };
        sparse.hold(&delivery(b"first"), Token(0));
        assert!(!holds_after(&mut sparse, false), "nothing has gone for a while");

        sparse.hold(&delivery(b"second"), Token(1));
        sparse.release_at = Instant::now() + INTERVAL * 1000;
        assert!(holds_after(&mut sparse, false));
        assert!(!holds_after(&mut sparse, true), "no other is under way");

        sparse.hold(&delivery(&vec![0; HELD_BYTES / 2]), Token(2));
        sparse.release_at = Instant::now() + INTERVAL * 1000;
        assert!(holds_after(&mut sparse, false));
        sparse.hold(&delivery(&vec![0; HELD_BYTES / 2]), Token(3));
        assert!(!holds_after(&mut sparse, false), "that is enough for a request");
        assert!(sparse.release_at > Instant::now(), "the next ones have time");
    }

    #[test]
    fn what_the_client_does_not_take_is_reported_and_comes_back() {
        let mut sparse = sparse(&KafkaSettings { max_record_bytes: 1000, ..KafkaSettings::new("127.0.0.1:1") });
        let large = vec![b'x'; HELD_BYTES / 2];
        sparse.hold(&delivery(&large), Token(7));
        sparse.hold(&delivery(b"small"), Token(8));
        let mut reports = Vec::new();
        sparse.serve(true, &mut reports);
        let [report] = &reports[..] else { panic!("{reports:?}") };
        let undelivered = report.result.as_ref().unwrap_err();
        assert_eq!(report.token, Token(7));
        assert!(matches!(undelivered.error, DeliveryError::Refused { .. }), "{}", undelivered.error);
        let returned = undelivered.record.as_ref().unwrap();
        assert_eq!((returned.key.as_deref(), returned.value.as_deref()), (Some(&b"k"[..]), Some(&large[..])));
    }
}
