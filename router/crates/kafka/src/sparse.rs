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
use crate::settings::{CLIENT_OVERHEAD_BYTES, KafkaSettings};
use crate::sink::{Producer, native_headers};

/// While records are under way the producer is given what is held no more often than this, ...
const INTERVAL: Duration = Duration::from_millis(35);
/// ... or when its own have arrived, if there are as many bytes, which are worth a request. ...
const HELD_BYTES: usize = 1 << 20;
/// ... More than this is not held.
const HELD_BYTES_MAX: usize = 4 << 20;
/// As much in one record is not held at all. What the client refuses for its key and value is larger, so that this is told at once.
const LARGE: usize = CLIENT_OVERHEAD_BYTES;
/// How long the first that the producer is given waits there for the others, in milliseconds.
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
    pub(crate) fn hold(&mut self, delivery: &Delivery<'_>, token: Token) -> Result<usize, ProduceError> {
        let bytes = delivery.rough_bytes();
        if bytes >= LARGE || self.held.bytes() >= HELD_BYTES_MAX {
            self.release();
            if self.holds_any() {
                return Err(ProduceError::Full);
            }
        }
        if bytes >= LARGE {
            self.producer.send(delivery, native_headers(delivery), token)?;
            return Ok(bytes);
        }
        self.held.push(delivery, token);
        if self.held.bytes() >= HELD_BYTES && self.producer.under_way() == 0 {
            self.release();
        }
        Ok(bytes)
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

    fn holds_any(&self) -> bool {
        !self.held.is_empty()
    }

    /// Releases what is held if it is time. The answer is when it will be, if anything is held.
    pub(crate) fn send_due(&mut self, now: Instant) -> Option<Instant> {
        if self.holds_any() && self.release_at <= now {
            self.release();
        }
        self.holds_any().then_some(self.release_at)
    }

    /// Releases what is held where nothing is under way, neither here nor else in the sink, which then `is_idle`. Appends the reports of what the
    /// producer did not take; the others are the producer's own.
    pub(crate) fn serve(&mut self, is_idle: bool, reports: &mut Vec<Report>) {
        if self.holds_any() && is_idle && self.producer.under_way() == 0 {
            self.release();
        }
        reports.append(&mut self.refused);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Instant;

    use pointsman_core::delivery::{Delivery, PartitionChoice, TopicId};
    use pointsman_core::port::{DeliveryError, ProduceError, Token};
    use pointsman_core::record::{Headers, OwnedHeader};

    use super::{HELD_BYTES, HELD_BYTES_MAX, INTERVAL, LARGE, Sparse};
    use crate::KafkaSettings;

    const FEW: TopicId = TopicId(1);
    /// Too long a name: librdkafka opens no such topic.
    const NAMELESS: TopicId = TopicId(2);

    fn delivery(topic: TopicId, value: &[u8]) -> Delivery<'_> {
        Delivery {
            topic,
            partition: PartitionChoice::Exactly(0),
            timestamp_ms: 1,
            key: Some(b"k"),
            value: Some(value),
            headers: Headers::NONE,
            stamps: Headers::NONE,
        }
    }

    /// Settings without a broker. A producer takes records all the same.
    fn settings(properties: &[(&str, &str)]) -> KafkaSettings {
        let properties: BTreeMap<_, _> =
            properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        KafkaSettings { max_record_bytes: 1000, properties, ..KafkaSettings::new("127.0.0.1:1") }
    }

    fn sparse(properties: &[(&str, &str)]) -> Sparse {
        let names = ["many".into(), "few".into(), "n".repeat(1000).into()];
        Sparse::open(&settings(properties), &names, Arc::new(|| {}), &[FEW, NAMELESS]).unwrap()
    }

    #[test]
    fn records_are_held_for_a_while() {
        let mut sparse = sparse(&[]);
        assert_eq!([0, 1, 2, 3].map(|topic| sparse.has(TopicId(topic))), [false, true, true, false]);
        let mut reports = Vec::new();
        let start = Instant::now();
        assert_eq!(sparse.send_due(start), None, "nothing is held");
        sparse.hold(&delivery(FEW, b"first"), Token(0)).unwrap();
        assert_eq!(sparse.send_due(start), None, "nothing has gone for a while");
        sparse.hold(&delivery(FEW, b"second"), Token(1)).unwrap();
        let at = sparse.send_due(start).unwrap();
        assert!(at >= start + INTERVAL);
        sparse.serve(true, &mut reports);
        assert_eq!(sparse.send_due(start), Some(at), "the first is under way");
        assert_eq!(sparse.send_due(at), None);
        assert!(reports.is_empty(), "{reports:?}");
    }

    #[test]
    fn nothing_is_held_while_nothing_is_under_way() {
        let (mut sparse, mut reports) = (sparse(&[]), Vec::new());
        sparse.release_at = Instant::now() + INTERVAL * 1000;
        sparse.hold(&delivery(FEW, b"first"), Token(0)).unwrap();
        sparse.serve(false, &mut reports);
        assert!(sparse.holds_any(), "outputs are under way");
        sparse.serve(true, &mut reports);
        assert!(!sparse.holds_any());
        assert_eq!(sparse.producer.under_way(), 1);
    }

    #[test]
    fn many_bytes_go_when_those_before_them_have_arrived_and_no_more_are_held_than_may_be() {
        let mut sparse = sparse(&[("queue.buffering.max.messages", "40")]);
        let hour = Instant::now() + INTERVAL * 100_000;
        sparse.release_at = hour;
        let value = vec![0; LARGE / 2];
        let mut tokens = (0..).map(Token);
        let mut hold = |sparse: &mut Sparse| sparse.hold(&delivery(FEW, &value), tokens.next().unwrap());
        while sparse.producer.under_way() == 0 {
            hold(&mut sparse).unwrap();
        }
        let count = sparse.producer.under_way();
        assert_eq!(count, HELD_BYTES.div_ceil(value.len() + 1), "as many as make a request");
        assert!(!sparse.holds_any());
        // There is no broker, so nothing arrives. The producer takes eight more, when there are so many that it is asked.
        sparse.release_at = hour;
        let error = loop {
            if let Err(error) = hold(&mut sparse) {
                break error;
            }
            assert!(sparse.held.bytes() < HELD_BYTES_MAX + value.len() + 1);
        };
        assert!(matches!(error, ProduceError::Full), "{error}");
        assert!(sparse.holds_any());
        assert_eq!(sparse.producer.under_way(), 40);
    }

    #[test]
    fn a_large_record_is_not_held_and_keeps_its_place() {
        let mut sparse = sparse(&[("queue.buffering.max.messages", "2")]);
        sparse.release_at = Instant::now() + INTERVAL * 1000;
        let (large, too_large) = (vec![b'x'; LARGE], vec![b'x'; LARGE + 2000]);
        sparse.hold(&delivery(FEW, b"small"), Token(0)).unwrap();
        sparse.hold(&delivery(FEW, &large), Token(1)).unwrap();
        assert_eq!((sparse.holds_any(), sparse.producer.under_way()), (false, 2));
        let error = sparse.hold(&delivery(FEW, &too_large), Token(2)).unwrap_err();
        assert!(matches!(error, ProduceError::Delivery(DeliveryError::Refused { .. })), "{error}");
        sparse.hold(&delivery(FEW, b"waits"), Token(3)).unwrap();
        let error = sparse.hold(&delivery(FEW, &large), Token(4)).unwrap_err();
        assert!(matches!(error, ProduceError::Full), "it would pass another: {error}");
    }

    #[test]
    fn what_the_client_does_not_take_is_reported_and_comes_back() {
        let (mut sparse, mut reports) = (sparse(&[]), Vec::new());
        let headers = [OwnedHeader::text("a", "b"), OwnedHeader { name: (*b"c").into(), value: None }];
        let (own, stamps) = headers.split_at(1);
        let (headers_of, stamps) = (Headers::Owned(own), Headers::Owned(stamps));
        let failing = Delivery { headers: headers_of, stamps, ..delivery(NAMELESS, b"v") };
        sparse.hold(&failing, Token(7)).unwrap();
        sparse.hold(&delivery(FEW, b"other"), Token(8)).unwrap();
        sparse.serve(true, &mut reports);
        assert_eq!(sparse.producer.under_way(), 1, "the other is on its way");
        let [report] = &reports[..] else { panic!("{reports:?}") };
        let undelivered = report.result.as_ref().unwrap_err();
        assert_eq!(report.token, Token(7));
        assert!(matches!(undelivered.error, DeliveryError::Unavailable { .. }), "{}", undelivered.error);
        let returned = undelivered.record.as_ref().unwrap();
        assert_eq!((returned.key.as_deref(), returned.value.as_deref()), (Some(&b"k"[..]), Some(&b"v"[..])));
        assert_eq!(*returned.headers, headers);
    }
}
