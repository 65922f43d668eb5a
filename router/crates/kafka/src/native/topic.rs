//! Topic handles: producing, and reading without a group.

use std::cell::OnceCell;
use std::ffi::{c_int, c_void};
use std::ptr::NonNull;
use std::sync::Arc;

use pointsman_core::record::Header;
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_vtype_t as Tag;

use super::{Borrowed, Client, Code, c_string};

/// A handle of one topic.
pub(crate) struct Topic {
    topic: NonNull<sys::rd_kafka_topic_t>,
    client: Arc<Client>,
}

// SAFETY: librdkafka's topic handles may be used from any thread.
unsafe impl Send for Topic {}
// SAFETY: as above.
unsafe impl Sync for Topic {}

/// One record to produce.
pub(crate) struct Outgoing<'a> {
    /// The partition; `None` chooses by the key.
    pub(crate) partition: Option<i32>,
    /// Milliseconds since 1970-01-01 UTC; 0 is the time of the call.
    pub(crate) timestamp_ms: i64,
    /// Key.
    pub(crate) key: Option<&'a [u8]>,
    /// Value.
    pub(crate) value: Option<&'a [u8]>,
    /// Headers.
    pub(crate) headers: Option<NativeHeaders>,
    /// Comes back with the delivery report.
    pub(crate) opaque: usize,
}

impl Topic {
    /// A handle of the topic, which need not exist.
    pub(crate) fn new(client: &Arc<Client>, name: &str) -> Option<Self> {
        let name = c_string(name);
        // SAFETY: live pointers; null stands for the client's own topic configuration.
        NonNull::new(unsafe { sys::rd_kafka_topic_new(client.ptr(), name.as_ptr(), std::ptr::null_mut()) })
            .map(|topic| Self { topic, client: Arc::clone(client) })
    }

    pub(super) fn ptr(&self) -> *mut sys::rd_kafka_topic_t {
        self.topic.as_ptr()
    }

    /// Whether the message is of this topic handle.
    fn is_of(&self, message: Borrowed<'_>) -> bool {
        // Handles of one name of one client are one object.
        self.ptr() == message.topic()
    }

    /// Queues a copy of the record.
    pub(crate) fn produce(&self, record: Outgoing<'_>) -> Result<(), Code> {
        // Kafka's null is a null pointer; an empty field needs any other, as an empty slice has.
        let (key, key_len) = field(record.key);
        let (value, value_len) = field(record.value);
        let headers = record.headers.map_or_else(std::ptr::null_mut, NativeHeaders::into_raw);
        // SAFETY: each tag is followed by arguments of the types that `rd_kafka_producev` documents for it. Key and value
        // are copied; the headers are librdkafka's if it succeeds, and only then.
        let code = unsafe {
            Code(rd_kafka_producev(
                self.client.ptr(),
                Tag::RD_KAFKA_VTYPE_RKT as c_int,
                self.ptr(),
                Tag::RD_KAFKA_VTYPE_PARTITION as c_int,
                record.partition.unwrap_or(ANY_PARTITION),
                Tag::RD_KAFKA_VTYPE_MSGFLAGS as c_int,
                sys::RD_KAFKA_MSG_F_COPY,
                Tag::RD_KAFKA_VTYPE_KEY as c_int,
                key,
                key_len,
                Tag::RD_KAFKA_VTYPE_VALUE as c_int,
                value,
                value_len,
                Tag::RD_KAFKA_VTYPE_TIMESTAMP as c_int,
                record.timestamp_ms,
                Tag::RD_KAFKA_VTYPE_HEADERS as c_int,
                headers,
                Tag::RD_KAFKA_VTYPE_OPAQUE as c_int,
                record.opaque as *mut c_void,
                Tag::RD_KAFKA_VTYPE_END as c_int,
            ))
        };
        if code.is_error() && !headers.is_null() {
            // SAFETY: still ours.
            drop(unsafe { NativeHeaders::from_raw(headers) });
        }
        code.ok()
    }

    /// Begins to fetch a partition, without a group. Its records come on the partition's own queue.
    pub(crate) fn start(&self, partition: i32, offset: i64) -> Result<(), Code> {
        // SAFETY: a live handle.
        if unsafe { sys::rd_kafka_consume_start(self.ptr(), partition, offset) } == 0 {
            Ok(())
        } else {
            Err(last_error())
        }
    }

    /// Ends to fetch a partition.
    pub(crate) fn stop(&self, partition: i32) -> Result<(), Code> {
        // SAFETY: a live handle.
        if unsafe { sys::rd_kafka_consume_stop(self.ptr(), partition) } == 0 { Ok(()) } else { Err(last_error()) }
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: ours, and the last use.
        unsafe { sys::rd_kafka_topic_destroy(self.ptr()) };
    }
}

/// The topics of a producer. Each is opened when it is first written to: at every turn of its thread librdkafka looks after all
/// partitions of all topics that are open, and most records never see a retry topic or a dead-letter topic. Of one that does not exist
/// it says so after `topic.metadata.propagation.max.ms`, since it may just have been made.
pub(crate) struct Topics {
    client: Arc<Client>,
    topics: Vec<(Arc<str>, OnceCell<Topic>)>,
}

impl Topics {
    /// Topics of these names, which need not exist.
    pub(crate) fn new(client: &Arc<Client>, names: &[Arc<str>]) -> Self {
        let topics = names.iter().map(|name| (Arc::clone(name), OnceCell::new())).collect();
        Self { client: Arc::clone(client), topics }
    }

    /// The topic with this number, or why there is none, as a sentence.
    pub(crate) fn get(&self, number: usize) -> Result<&Topic, String> {
        let Some((name, topic)) = self.topics.get(number) else {
            return Err(format!(
                "the producer was opened for {} topics, not for number {number}, which is a bug of Pointsman",
                self.topics.len()
            ));
        };
        if let Some(topic) = topic.get() {
            return Ok(topic);
        }
        let opened = Topic::new(&self.client, name).ok_or_else(|| format!("{name} is no name for a topic"))?;
        Ok(topic.get_or_init(|| opened))
    }

    /// The number of the topic that the message was produced to.
    pub(crate) fn number_of(&self, message: Borrowed<'_>) -> Option<usize> {
        self.topics.iter().position(|(_, topic)| topic.get().is_some_and(|topic| topic.is_of(message)))
    }
}

/// librdkafka's "whichever partition the partitioner says".
const ANY_PARTITION: i32 = -1;

fn field(bytes: Option<&[u8]>) -> (*mut c_void, usize) {
    bytes.map_or((std::ptr::null_mut(), 0), |bytes| (bytes.as_ptr().cast_mut().cast::<c_void>(), bytes.len()))
}

fn last_error() -> Code {
    // SAFETY: reads a variable of this thread.
    Code(unsafe { rd_kafka_last_error() })
}

/// Headers of one record, not yet librdkafka's.
pub(crate) struct NativeHeaders(NonNull<sys::rd_kafka_headers_t>);

impl NativeHeaders {
    /// Room for `count` headers.
    pub(crate) fn with_capacity(count: usize) -> Self {
        // SAFETY: a plain allocation, which librdkafka aborts on rather than fail.
        let headers = unsafe { sys::rd_kafka_headers_new(count) };
        Self(NonNull::new(headers).unwrap_or_else(|| unreachable!("rd_kafka_headers_new never gives null")))
    }

    /// Appends a copy of a header.
    pub(crate) fn push(&mut self, header: Header<'_>) {
        let (value, len) = field(header.value);
        // SAFETY: live pointers, with their lengths (which a slice's always fits); it can't fail for headers that no
        // message has yet.
        unsafe {
            sys::rd_kafka_header_add(
                self.0.as_ptr(),
                header.name.as_ptr().cast(),
                header.name.len().cast_signed(),
                value,
                len.cast_signed(),
            );
        }
    }

    /// A copy of a message's headers.
    pub(crate) fn copy_of(message: Borrowed<'_>) -> Option<Self> {
        let mut headers = std::ptr::null_mut();
        // SAFETY: a live message, whose headers stay its own; they are copied.
        unsafe {
            if rd_kafka_message_headers(message.ptr(), &raw mut headers) != 0 {
                return None;
            }
            NonNull::new(sys::rd_kafka_headers_copy(headers)).map(Self)
        }
    }

    fn into_raw(self) -> *mut sys::rd_kafka_headers_t {
        std::mem::ManuallyDrop::new(self).0.as_ptr()
    }

    /// # Safety
    /// `headers` is null, or a list that is nobody's.
    pub(super) unsafe fn from_raw(headers: *mut sys::rd_kafka_headers_t) -> Option<Self> {
        NonNull::new(headers).map(Self)
    }
}

impl Drop for NativeHeaders {
    fn drop(&mut self) {
        // SAFETY: ours, and the last use.
        unsafe { sys::rd_kafka_headers_destroy(self.0.as_ptr()) };
    }
}

// The same functions as in the bindings, with the code as an integer.
unsafe extern "C" {
    fn rd_kafka_producev(rk: *mut sys::rd_kafka_t, ...) -> c_int;
    fn rd_kafka_last_error() -> c_int;
    fn rd_kafka_message_headers(
        message: *const sys::rd_kafka_message_t,
        headers: *mut *mut sys::rd_kafka_headers_t,
    ) -> c_int;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::Arc;

    use super::Topics;
    use crate::KafkaSettings;
    use crate::native::{Client, Kind};

    #[test]
    fn a_topic_is_opened_when_it_is_first_asked_for() {
        let client = Client::new(Kind::Producer, &KafkaSettings::new("127.0.0.1:1").producer()).unwrap();
        let topics = Topics::new(&Arc::new(client), &["orders".into(), "n".repeat(1000).into(), "dead".into()]);
        let open = || topics.topics.iter().map(|(_, topic)| topic.get().is_some()).collect::<Vec<_>>();
        assert_eq!(open(), [false, false, false]);
        let first = topics.get(2).unwrap().ptr();
        assert_eq!(topics.get(2).unwrap().ptr(), first);
        assert_eq!(open(), [false, false, true]);
        assert!(topics.get(1).err().unwrap().ends_with(" is no name for a topic"));
        assert!(topics.get(3).err().unwrap().starts_with("the producer was opened for 3 topics, not for number 3"));
    }
}
