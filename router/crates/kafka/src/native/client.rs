//! One librdkafka instance.

use std::ffi::{c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use rdkafka_sys as sys;

use super::requests::Requests;
use super::transactions::Ends;
use super::{Code, ErrorText, PartitionList, c_string, milliseconds, text};
use crate::settings::Properties;
use crate::statistics::Told;

/// What a client is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Reads, and asks for metadata; no events.
    Reader,
    /// Is a member of a group; rebalances and results of commits come as events on its queue.
    Member,
    /// Writes; delivery reports come as events on its queue.
    Producer,
    /// Writes transactions; otherwise a producer.
    Writer,
}

/// The last thing a client complained of in its log: the cause that a timeout does not tell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Complaint(Option<String>);

impl Complaint {
    /// The complaint as the end of a sentence, or nothing.
    pub(crate) fn clause(&self) -> String {
        self.0.as_ref().map_or_else(String::new, |complaint| format!("; the client's last complaint: {complaint}"))
    }
}

/// What librdkafka's callbacks are given.
struct Context {
    complaint: Mutex<Complaint>,
    ends: Ends,
    requests: Requests,
    statistics: Option<Arc<Told>>,
}

/// One librdkafka instance, with its threads and connections. Thread-safe, as librdkafka is.
pub(crate) struct Client(ManuallyDrop<Instance>);

/// What a client is. Dropping it waits for librdkafka's threads.
struct Instance {
    rk: NonNull<sys::rd_kafka_t>,
    /// Behind the pointer that the callbacks have: dropped after the instance is destroyed.
    context: Box<Context>,
}

// SAFETY: librdkafka's instances may be used from any thread, by many at a time; the context is `Sync` by its lock.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

impl Client {
    /// Starts a client; connecting is left to librdkafka's threads, so that this does not fail for an unreachable broker.
    pub(crate) fn new(kind: Kind, properties: &Properties) -> Result<Self, String> {
        let statistics = properties.statistics.as_ref().map(|(statistics, role)| statistics.begin(*role));
        let (complaint, ends, requests) = Default::default();
        let context = Box::new(Context { complaint, ends, requests, statistics });
        let mut reason = ErrorText::new();
        // SAFETY: a new configuration object, ours until `rd_kafka_new` takes it, or destroyed below.
        let conf = unsafe { sys::rd_kafka_conf_new() };
        for (name, value) in properties.iter() {
            let (name_c, value_c) = (c_string(name), c_string(value));
            // SAFETY: live pointers, and the buffer's length.
            let result = unsafe {
                sys::rd_kafka_conf_set(conf, name_c.as_ptr(), value_c.as_ptr(), reason.as_mut_ptr(), ErrorText::LEN)
            };
            if result != sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK {
                // SAFETY: still ours.
                unsafe { sys::rd_kafka_conf_destroy(conf) };
                return Err(format!("librdkafka refuses the property {name}: {reason}"));
            }
        }
        let (native_kind, mut events) = match kind {
            Kind::Reader => (sys::rd_kafka_type_t::RD_KAFKA_CONSUMER, 0),
            Kind::Member => (
                sys::rd_kafka_type_t::RD_KAFKA_CONSUMER,
                sys::RD_KAFKA_EVENT_REBALANCE | sys::RD_KAFKA_EVENT_OFFSET_COMMIT,
            ),
            Kind::Producer | Kind::Writer => (sys::rd_kafka_type_t::RD_KAFKA_PRODUCER, sys::RD_KAFKA_EVENT_DR),
        };
        if context.statistics.is_some() {
            events |= sys::RD_KAFKA_EVENT_STATS;
        }
        // SAFETY: the configuration is ours. The context lives behind its box until after the instance is destroyed,
        // and the callback only ever borrows it shared.
        unsafe {
            sys::rd_kafka_conf_set_opaque(conf, std::ptr::from_ref(&*context).cast_mut().cast::<c_void>());
            sys::rd_kafka_conf_set_log_cb(conf, Some(log));
            sys::rd_kafka_conf_set_events(conf, events);
            if kind == Kind::Writer {
                context.ends.count_for(conf);
            }
        }
        // SAFETY: takes the configuration if it succeeds, and only then.
        let rk = unsafe { sys::rd_kafka_new(native_kind, conf, reason.as_mut_ptr(), ErrorText::LEN) };
        let Some(rk) = NonNull::new(rk) else {
            // SAFETY: still ours.
            unsafe { sys::rd_kafka_conf_destroy(conf) };
            return Err(format!("librdkafka refuses the properties: {reason}"));
        };
        let client = Self(ManuallyDrop::new(Instance { rk, context }));
        if kind == Kind::Member {
            // SAFETY: a live consumer. Everything for the application then comes on the consumer's queue.
            unsafe { sys::rd_kafka_poll_set_consumer(client.ptr()) };
        }
        Ok(client)
    }

    /// The instance, for calls of this module.
    pub(super) fn ptr(&self) -> *mut sys::rd_kafka_t {
        self.0.rk.as_ptr()
    }

    /// The requests that have ended transactions.
    pub(super) fn ends(&self) -> &Ends {
        &self.0.context.ends
    }

    /// Keeps what the client tells of itself.
    pub(super) fn note_statistics(&self, text: &[u8]) {
        self.0.context.statistics.iter().for_each(|told| told.tell(text));
    }

    /// The requests that brokers have said they take, where the client was made to tell.
    pub(crate) fn requests(&self) -> &Requests {
        &self.0.context.requests
    }

    /// The last complaint in its log.
    pub(crate) fn complaint(&self) -> Complaint {
        self.0.context.complaint.lock().map(|complaint| complaint.clone()).unwrap_or_default()
    }

    /// The error, if any, after which this client can do nothing more.
    pub(crate) fn fatal(&self) -> Option<(Code, String)> {
        let mut reason = ErrorText::new();
        // SAFETY: a live client, and the buffer's length.
        let code = Code(unsafe { rd_kafka_fatal_error(self.ptr(), reason.as_mut_ptr(), ErrorText::LEN) });
        code.is_error().then(|| (code, reason.to_string()))
    }

    /// The first offset there is and one past the last stable one, asked of the broker.
    pub(crate) fn watermarks(&self, topic: &str, partition: i32, timeout: Duration) -> Result<(i64, i64), Code> {
        let (mut low, mut high) = (0, 0);
        let topic = c_string(topic);
        // SAFETY: live pointers.
        Code(unsafe {
            rd_kafka_query_watermark_offsets(
                self.ptr(),
                topic.as_ptr(),
                partition,
                &raw mut low,
                &raw mut high,
                milliseconds(timeout),
            )
        })
        .ok()?;
        Ok((low, high))
    }

    /// The watermarks that the last fetch brought along, without asking.
    pub(crate) fn known_watermarks(&self, topic: &str, partition: i32) -> Option<(i64, i64)> {
        let (mut low, mut high) = (-1, -1);
        let topic = c_string(topic);
        // SAFETY: live pointers.
        let code = Code(unsafe {
            rd_kafka_get_watermark_offsets(self.ptr(), topic.as_ptr(), partition, &raw mut low, &raw mut high)
        });
        (!code.is_error() && low >= 0 && high >= 0).then_some((low, high))
    }

    /// Puts the offset of the first record at or after the timestamp, which stands in each partition's offset, in its
    /// place: [`OFFSET_END`](Self::OFFSET_END) where there is none.
    pub(crate) fn offsets_for_times(&self, times: &mut PartitionList, timeout: Duration) -> Result<(), Code> {
        // SAFETY: live pointers.
        Code(unsafe { rd_kafka_offsets_for_times(self.ptr(), times.ptr(), milliseconds(timeout)) }).ok()
    }

    /// Reads what the client's group has committed for the partitions; transactions that are still open are waited for.
    pub(crate) fn committed(&self, partitions: &mut PartitionList, timeout: Duration) -> Result<(), Code> {
        // SAFETY: live pointers.
        Code(unsafe { rd_kafka_committed(self.ptr(), partitions.ptr(), milliseconds(timeout)) }).ok()
    }

    /// Has a producer send what it has queued without lingering, and waits as long as `most` for all of it to be delivered.
    pub(crate) fn flush(&self, most: Duration) {
        // SAFETY: a live client. Reports are taken as events, from their queue: this does not serve it.
        unsafe { rd_kafka_flush(self.ptr(), milliseconds(most)) };
    }

    /// Forgets what a producer has queued or in flight; each record is still reported.
    pub(crate) fn purge(&self) {
        let flags = sys::RD_KAFKA_PURGE_F_QUEUE | sys::RD_KAFKA_PURGE_F_INFLIGHT | sys::RD_KAFKA_PURGE_F_NON_BLOCKING;
        // SAFETY: a live client. It only fails for a consumer, or for other flags.
        unsafe { sys::rd_kafka_purge(self.ptr(), flags) };
    }

    /// librdkafka's "after the last record".
    pub(crate) const OFFSET_END: i64 = sys::RD_KAFKA_OFFSET_END as i64;
    /// librdkafka's "at the first record".
    pub(crate) const OFFSET_BEGINNING: i64 = sys::RD_KAFKA_OFFSET_BEGINNING as i64;
}

// SAFETY: as for `Client`.
unsafe impl Send for Instance {}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: the last use; whatever points into the instance owned a reference to the client, so that none is left. A
        // member has left its group before (its membership does that), or is to be forgotten without waiting.
        unsafe { sys::rd_kafka_destroy_flags(self.rk.as_ptr(), sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE) };
    }
}

/// How long the end of an instance is waited for. librdkafka has been seen to wait for ever where a topic was deleted that it had
/// read; its threads then end with the process.
const END: Duration = Duration::from_secs(5);

/// In a thread of its own; where there is none, at once.
impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: taken once, here, and not used any more.
        let instance = unsafe { ManuallyDrop::take(&mut self.0) };
        let (done, ended) = mpsc::channel();
        let destroy = move || {
            drop(instance);
            // Nobody may be waiting any more.
            done.send(()).ok();
        };
        // A thread that can't be had drops what it was to do, and the instance with it.
        let is_begun = thread::Builder::new().name("kafka:end".to_owned()).spawn(destroy).is_ok();
        if is_begun && ended.recv_timeout(END).is_err() {
            tracing::warn!("a Kafka client does not come to its end within {END:?}; it is left to that of the process");
        }
    }
}

/// librdkafka's log goes to tracing, from whatever thread it is on. Its levels are those of syslog.
unsafe extern "C" fn log(rk: *const sys::rd_kafka_t, level: c_int, facility: *const c_char, line: *const c_char) {
    const WARNING: c_int = 4;
    const DEBUG: c_int = 7;
    // SAFETY: librdkafka passes C strings.
    let (facility, line) = unsafe { (text(facility), text(line)) };
    // With each attempt to connect, of each broker; what keeps them from it is another line.
    let level = if line.ends_with("brokers are down") { DEBUG } else { level };
    match level {
        ..=3 => tracing::error!(target: "librdkafka", facility, "{line}"),
        WARNING => tracing::warn!(target: "librdkafka", facility, "{line}"),
        5..=6 => tracing::info!(target: "librdkafka", facility, "{line}"),
        _ => tracing::debug!(target: "librdkafka", facility, "{line}"),
    }
    let tells_requests = facility == Requests::FACILITY;
    if (level > WARNING && !tells_requests) || rk.is_null() {
        return;
    }
    // SAFETY: a live client's opaque pointer is the context that `Client::new` has set; it outlives the client.
    let context = unsafe { sys::rd_kafka_opaque(rk).cast::<Context>().as_ref() };
    if tells_requests {
        context.into_iter().for_each(|context| context.requests.note(&line));
        return;
    }
    if let Some(mut complaint) = context.and_then(|context| context.complaint.lock().ok()) {
        *complaint = Complaint(Some(line));
    }
}

/// Takes apart an error object; null is none.
///
/// # Safety
/// `error` is null or an error object that the caller gives away.
pub(super) unsafe fn consume_error(error: *mut sys::rd_kafka_error_t) -> Result<(), Code> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: a live error object, ours, and then its last use.
    unsafe {
        let code = Code(rd_kafka_error_code(error));
        sys::rd_kafka_error_destroy(error);
        Err(code)
    }
}

// The same functions as in the bindings, with the code as an integer.
unsafe extern "C" {
    fn rd_kafka_error_code(error: *const sys::rd_kafka_error_t) -> c_int;
    fn rd_kafka_fatal_error(rk: *mut sys::rd_kafka_t, reason: *mut c_char, len: usize) -> c_int;
    fn rd_kafka_query_watermark_offsets(
        rk: *mut sys::rd_kafka_t,
        topic: *const c_char,
        partition: i32,
        low: *mut i64,
        high: *mut i64,
        timeout_ms: c_int,
    ) -> c_int;
    fn rd_kafka_flush(rk: *mut sys::rd_kafka_t, timeout_ms: c_int) -> c_int;
    fn rd_kafka_get_watermark_offsets(
        rk: *mut sys::rd_kafka_t,
        topic: *const c_char,
        partition: i32,
        low: *mut i64,
        high: *mut i64,
    ) -> c_int;
    fn rd_kafka_offsets_for_times(
        rk: *mut sys::rd_kafka_t,
        times: *mut sys::rd_kafka_topic_partition_list_t,
        timeout_ms: c_int,
    ) -> c_int;
    fn rd_kafka_committed(
        rk: *mut sys::rd_kafka_t,
        partitions: *mut sys::rd_kafka_topic_partition_list_t,
        timeout_ms: c_int,
    ) -> c_int;
}
