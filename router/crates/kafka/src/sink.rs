//! Deliveries, by one librdkafka producer for each sink, and another for [topics that few records go to](crate::sparse).
//!
//! librdkafka batches the records of a partition, and a broker refuses a batch as a whole: a topic whose
//! `max.message.bytes` is below the batch size would have innocent records pass for too large. So what comes back as too
//! large is sent again by a producer that makes batches of one; only what fails alone is refused. (The order of
//! records is not kept around such a refusal, which a topic with a sensible bound never sees.)

use std::any::Any;
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman_core::delivery::{Delivery, Forward, PartitionChoice, TopicId};
use pointsman_core::port::{
    Batch, DeliveryError, LogError, ProduceError, Report, Returned, Sink, SinkFailed, Token, Undelivered, Waker,
};
use pointsman_core::record::OwnedHeader;

use crate::batch::KafkaBatch;
use crate::classify::{DeliveryFault, delivery_fault, queue_full, remedy};
use crate::error::log_error;
use crate::native::{Borrowed, Client, Code, Event, EventKind, Kind, NativeHeaders, Outgoing, Queue, Topics};
use crate::settings::KafkaSettings;
use crate::sparse::Sparse;

// A token travels as a pointer.
const _: () = assert!(size_of::<usize>() == size_of::<u64>(), "64-bit platforms only");

/// How long librdkafka's thread has to notice that nothing is to linger.
pub(crate) const HURRY: Duration = Duration::from_millis(1);

/// A sink on a Kafka cluster.
///
/// Dropping it forgets what is still queued or in flight, without waiting for an outage to end: whoever wants reports
/// serves the sink until they are there.
pub(crate) struct KafkaSink {
    batched: Producer,
    /// For topics that few records go to, if there are any.
    sparse: Option<Sparse>,
    /// Made when it is first needed.
    alone: Option<Producer>,
    names: Vec<Arc<str>>,
    settings: KafkaSettings,
    waker: Waker,
}

impl KafkaSink {
    pub(crate) fn open(settings: &KafkaSettings, names: &[Arc<str>], waker: Waker) -> Result<Self, LogError> {
        let batched = Producer::open(settings, names, Arc::clone(&waker), &[])?;
        let (names, settings) = (names.to_vec(), settings.clone());
        Ok(Self { batched, sparse: None, alone: None, names, settings, waker })
    }

    /// The part that the topic belongs to, where that is not most of them.
    fn sparse(&mut self, topic: TopicId) -> Option<&mut Sparse> {
        self.sparse.as_mut().filter(|sparse| sparse.has(topic))
    }

    /// The producers that make batches.
    fn batching(&self) -> impl Iterator<Item = &Producer> {
        std::iter::once(&self.batched).chain(self.sparse.as_ref().map(|sparse| &sparse.producer))
    }

    fn next_reports(&self) -> Option<Event> {
        self.batching().find_map(Producer::next_reports)
    }

    /// Sends a record that came back as too large again, in a batch of its own.
    fn send_alone(&mut self, message: Borrowed<'_>) -> Result<(), DeliveryError> {
        let number = self.batching().find_map(|producer| producer.topics.number_of(message));
        let alone = match &self.alone {
            Some(alone) => alone,
            None => {
                let waker = Arc::clone(&self.waker);
                let alone = [("batch.num.messages", "1"), ("linger.ms", "0")];
                let alone = Producer::open(&self.settings, &self.names, waker, &alone).map_err(unavailable)?;
                self.alone.insert(alone)
            }
        };
        let topic = number.ok_or_else(|| "a report is about a topic that the sink does not write to".to_owned());
        let topic = topic.and_then(|number| alone.topics.get(number)).map_err(unknown_topic)?;
        topic
            .produce(Outgoing {
                partition: Some(message.partition()),
                timestamp_ms: message.timestamp_ms_of_report().max(0),
                key: message.key(),
                value: message.value(),
                headers: NativeHeaders::copy_of(message),
                opaque: message.opaque(),
            })
            .map_err(|code| delivery_error(code, code.describe(), Batching::Off))
    }
}

impl Sink for KafkaSink {
    fn capacity_bytes(&self) -> usize {
        self.settings.producer_queue_bytes
    }

    fn expect_few(&mut self, topics: &[TopicId]) -> Result<(), LogError> {
        // Where the user has set how long records linger, that holds for all.
        if self.settings.hurries() && !topics.is_empty() {
            self.sparse = Some(Sparse::open(&self.settings, &self.names, Arc::clone(&self.waker), topics)?);
        }
        Ok(())
    }

    fn produce(&mut self, delivery: &Delivery<'_>, token: Token) -> Result<usize, ProduceError> {
        if let Some(sparse) = self.sparse(delivery.topic) {
            return sparse.hold(delivery, token);
        }
        self.batched.send(delivery, native_headers(delivery), token)?;
        Ok(delivery.rough_bytes())
    }

    fn forward(
        &mut self,
        batch: &mut dyn Batch,
        index: usize,
        forward: &Forward<'_>,
        token: Token,
    ) -> Result<usize, ProduceError> {
        let bytes = match self.sparse(forward.topic) {
            Some(sparse) => sparse.hold(&forward.of(batch.record(index)), token)?,
            None => {
                forward_with(batch, index, forward, |delivery, headers| self.batched.send(delivery, headers, token))?
            }
        };
        let fetched = (&mut *batch as &mut dyn Any).downcast_mut::<KafkaBatch>();
        // The report has it, if it is needed once more.
        if let Some(fetched) = fetched.filter(|_| forward.whole) {
            fetched.release(index);
        }
        Ok(bytes)
    }

    fn hurry(&mut self) {
        if self.settings.hurries() {
            self.batched.client.flush(HURRY);
        }
    }

    fn send_due(&mut self, now: Instant) -> Option<Instant> {
        self.sparse.as_mut()?.send_due(now)
    }

    fn serve(&mut self, reports: &mut Vec<Report>) -> Result<(), SinkFailed> {
        // The clients' queues are taken from, one event for many records, until they are empty.
        while let Some(mut event) = self.next_reports() {
            let mut unknown = UnknownOffsets::default();
            while let Some(message) = event.next_message() {
                let token = Token(message.opaque() as u64);
                let result = if delivery_fault(message.code()) == DeliveryFault::Batch {
                    match self.send_alone(message) {
                        Ok(()) => continue,
                        Err(error) => Err(given_back(error, message)),
                    }
                } else {
                    let told = outcome(message, Batching::On).map(|offset| unknown.leave_out(offset));
                    told.map_err(|error| given_back(error, message))
                };
                reports.push(Report { token, result });
            }
        }
        if let Some(sparse) = &mut self.sparse {
            sparse.serve(self.batched.under_way() == 0, reports);
        }
        if let Some(alone) = &self.alone {
            take_reports(&alone.queue, Batching::Off, given_back, reports);
        }
        for producer in self.batching().chain(&self.alone) {
            if let Some((code, message)) = producer.client.fatal() {
                return Err(SinkFailed {
                    code: code.to_string(),
                    message: format!("the producer can't go on: {message}{}", remedy(code)),
                });
            }
        }
        Ok(())
    }
}

/// Whether a producer may put several records into one request, which a broker then refuses as a whole.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Batching {
    On,
    Off,
}

/// One librdkafka producer. Fields are dropped in order: what refers to the client first.
pub(crate) struct Producer {
    topics: Topics,
    queue: Queue,
    client: Arc<Client>,
    /// Records that it has taken, and not reported.
    under_way: Cell<usize>,
}

impl Producer {
    /// With these properties instead of those that the settings give.
    pub(crate) fn open(
        settings: &KafkaSettings,
        names: &[Arc<str>],
        waker: Waker,
        instead: &[(&'static str, &str)],
    ) -> Result<Self, LogError> {
        let failed = |message: String| log_error("can't open a producer", "client", message);
        let mut properties = settings.producer();
        for (name, value) in instead {
            properties.set(name, *value);
        }
        let client = Arc::new(Client::new(Kind::Producer, &properties).map_err(failed)?);
        let mut queue = Queue::main(&client).ok_or_else(|| failed("it has no queue".to_owned()))?;
        queue.wake_with(waker);
        Ok(Self { topics: Topics::new(&client, names), queue, client, under_way: Cell::new(0) })
    }

    /// Queues a delivery, whose headers are in librdkafka's own form already.
    pub(crate) fn send(
        &self,
        delivery: &Delivery<'_>,
        headers: Option<NativeHeaders>,
        token: Token,
    ) -> Result<(), ProduceError> {
        produce(&self.topics, delivery, headers, token)?;
        self.under_way.update(|under_way| under_way + 1);
        Ok(())
    }

    /// How many records it has been [sent](Self::send) that are in no [reports](Self::next_reports) yet.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.get()
    }

    /// What became of records, many at a time.
    fn next_reports(&self) -> Option<Event> {
        let event =
            std::iter::from_fn(|| self.queue.poll(Duration::ZERO)).find(|event| event.kind() == EventKind::Reports)?;
        self.under_way.update(|under_way| under_way.saturating_sub(event.messages()));
        Some(event)
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // Else destroying the client would hold on to the records of an outage.
        self.client.purge();
    }
}

/// Queues a delivery, whose headers are in librdkafka's own form already.
pub(crate) fn produce(
    topics: &Topics,
    delivery: &Delivery<'_>,
    headers: Option<NativeHeaders>,
    token: Token,
) -> Result<(), ProduceError> {
    let topic = topics.get(delivery.topic.0 as usize).map_err(unknown_topic)?;
    topic.produce(outgoing(delivery, headers, token)).map_err(|code| {
        if queue_full(code) {
            ProduceError::Full
        } else {
            // What the client itself calls too large, is: no batch is involved yet.
            delivery_error(code, code.describe(), Batching::Off).into()
        }
    })
}

/// Sends a record with its headers in librdkafka's own form, taken along where the batch is of Kafka. The answer is about how
/// many bytes it takes.
pub(crate) fn forward_with(
    batch: &mut dyn Batch,
    index: usize,
    forward: &Forward<'_>,
    send: impl FnOnce(&Delivery<'_>, Option<NativeHeaders>) -> Result<(), ProduceError>,
) -> Result<usize, ProduceError> {
    let fetched = (&mut *batch as &mut dyn Any).downcast_mut::<KafkaBatch>();
    let Some((record, mut headers, count)) = fetched.and_then(|fetched| fetched.take_headers(index)) else {
        let delivery = forward.of(batch.record(index));
        send(&delivery, native_headers(&delivery))?;
        return Ok(delivery.rough_bytes());
    };
    if !forward.stamps.is_empty() {
        let headers = headers.get_or_insert_with(|| NativeHeaders::with_capacity(forward.stamps.len()));
        forward.stamps.iter().for_each(|stamp| headers.push(stamp));
    }
    let delivery = forward.of(record);
    let bytes = delivery.rough_bytes() + Delivery::HEADER_BYTES * count;
    let sent = send(&delivery, headers);
    if sent.is_err() {
        let is_whole = batch.restore(index, None);
        debug_assert!(is_whole, "it was not released");
    }
    sent.map(|()| bytes)
}

/// Appends the reports that have come in, of failures what is made of them.
pub(crate) fn take_reports(
    queue: &Queue,
    batching: Batching,
    undelivered: fn(DeliveryError, Borrowed<'_>) -> Box<Undelivered>,
    reports: &mut Vec<Report>,
) {
    while let Some(mut event) = queue.poll(Duration::ZERO) {
        if event.kind() != EventKind::Reports {
            continue;
        }
        let mut unknown = UnknownOffsets::default();
        while let Some(message) = event.next_message() {
            let result = outcome(message, batching).map(|offset| unknown.leave_out(offset));
            let result = result.map_err(|error| undelivered(error, message));
            reports.push(Report { token: Token(message.opaque() as u64), result });
        }
    }
}

/// Where a batch was written when it was first sent, and sent again, a broker may not know its offset any more. librdkafka
/// counts up from -1 then.
#[derive(Default)]
struct UnknownOffsets {
    next: Option<i64>,
}

impl UnknownOffsets {
    fn leave_out(&mut self, offset: i64) -> Option<i64> {
        let is_unknown = offset < 0 || self.next == Some(offset);
        self.next = is_unknown.then(|| offset.max(-1) + 1);
        (!is_unknown).then_some(offset)
    }
}

fn outcome(message: Borrowed<'_>, batching: Batching) -> Result<i64, DeliveryError> {
    let code = message.code();
    if code.is_error() {
        return Err(delivery_error(code, message.describe_report(), batching));
    }
    Ok(message.offset())
}

/// With the record, whether or not it was taken whole.
fn given_back(error: DeliveryError, message: Borrowed<'_>) -> Box<Undelivered> {
    let headers = message.headers_of_report().into_iter().map(OwnedHeader::from).collect();
    let record = Returned { key: message.key().map(Into::into), value: message.value().map(Into::into), headers };
    Box::new(Undelivered { error, record: Some(record) })
}

/// What became of a delivery that the code is about.
pub(crate) fn delivery_error(code: Code, message: String, batching: Batching) -> DeliveryError {
    let message = format!("{message}{}", remedy(code));
    let code_name = code.to_string();
    match (delivery_fault(code), batching) {
        (DeliveryFault::Record, _) | (DeliveryFault::Batch, Batching::Off) => {
            DeliveryError::Refused { code: code_name, message }
        }
        (DeliveryFault::Batch, Batching::On) | (DeliveryFault::Other, _) => {
            DeliveryError::Unavailable { code: code_name, message }
        }
    }
}

/// A producer could not be made.
fn unavailable(error: LogError) -> DeliveryError {
    DeliveryError::Unavailable { code: error.code, message: error.message }
}

fn unknown_topic(message: String) -> DeliveryError {
    DeliveryError::Unavailable { code: "unknown-topic".to_owned(), message }
}

/// A delivery as librdkafka takes it.
pub(crate) fn outgoing<'a>(delivery: &Delivery<'a>, headers: Option<NativeHeaders>, token: Token) -> Outgoing<'a> {
    Outgoing {
        partition: match delivery.partition {
            PartitionChoice::ByKey => None,
            PartitionChoice::Exactly(partition) => Some(partition),
        },
        // librdkafka's 0 is the time of the call: it has no way to write the first millisecond of 1970.
        timestamp_ms: delivery.timestamp_ms.max(0),
        key: delivery.key,
        value: delivery.value,
        headers,
        opaque: token.0 as usize,
    }
}

/// All headers of a delivery, in librdkafka's own form.
pub(crate) fn native_headers(delivery: &Delivery<'_>) -> Option<NativeHeaders> {
    let count = delivery.headers.len() + delivery.stamps.len();
    if count == 0 {
        return None;
    }
    let mut headers = NativeHeaders::with_capacity(count);
    for header in delivery.headers.iter().chain(delivery.stamps.iter()) {
        headers.push(header);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::collections::BTreeMap;
    use std::sync::Arc;

    use pointsman_core::delivery::TopicId;
    use pointsman_core::port::Sink as _;

    use super::{KafkaSink, UnknownOffsets};
    use crate::KafkaSettings;

    #[test]
    fn a_time_to_linger_that_the_user_has_set_is_that_of_all_topics() {
        let has_another = |properties: &[(&str, &str)], topics: &[TopicId]| {
            let properties: BTreeMap<_, _> =
                properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let settings = KafkaSettings { properties, ..KafkaSettings::new("127.0.0.1:1") };
            let mut sink = KafkaSink::open(&settings, &["a".into(), "b".into()], Arc::new(|| {})).unwrap();
            sink.expect_few(topics).unwrap();
            sink.sparse.is_some()
        };
        assert!(has_another(&[], &[TopicId(1)]));
        assert!(!has_another(&[], &[]));
        assert!(!has_another(&[("linger.ms", "77")], &[TopicId(1)]));
    }

    /// A batch whose offset is unknown comes between two that are known.
    #[test]
    fn offsets_that_were_counted_up_from_nothing_are_left_out() {
        let told = [0, 1, -1, 0, 1, 2, 7, 8, -1001, 0, 0];
        let mut unknown = UnknownOffsets::default();
        let known: Vec<_> = told.into_iter().map(|offset| unknown.leave_out(offset)).collect();
        assert_eq!(
            known,
            [Some(0), Some(1), None, None, None, None, Some(7), Some(8), None, None, Some(0)],
            "what does not count up is an offset again"
        );
    }
}
