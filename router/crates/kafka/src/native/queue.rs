//! Queues and the events on them.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use pointsman_core::port::Waker;
use rdkafka_sys as sys;

use super::client::consume_error;
use super::partitions::Partition;
use super::{Borrowed, Client, Code, Message, PartitionList, c_string, milliseconds, partitions, text};

/// A reference to one of a client's queues.
pub(crate) struct Queue {
    queue: NonNull<sys::rd_kafka_queue_t>,
    /// What the callback of the queue points to; boxed twice for a thin pointer.
    waker: Option<Box<Waker>>,
    client: Arc<Client>,
}

// SAFETY: librdkafka's queues may be used from any thread; the waker is `Send` and `Sync` by its type.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    fn own(client: &Arc<Client>, queue: *mut sys::rd_kafka_queue_t) -> Option<Self> {
        NonNull::new(queue).map(|queue| Self { queue, waker: None, client: Arc::clone(client) })
    }

    /// A producer's queue of delivery reports.
    pub(crate) fn main(client: &Arc<Client>) -> Option<Self> {
        // SAFETY: a live client; the answer is a reference of our own.
        Self::own(client, unsafe { sys::rd_kafka_queue_get_main(client.ptr()) })
    }

    /// A member's queue of rebalances and results.
    pub(crate) fn consumer(client: &Arc<Client>) -> Option<Self> {
        // SAFETY: a live client; the answer is a reference of our own.
        Self::own(client, unsafe { sys::rd_kafka_queue_get_consumer(client.ptr()) })
    }

    /// A new queue, for one answer.
    pub(crate) fn temporary(client: &Arc<Client>) -> Option<Self> {
        // SAFETY: a live client; the answer is ours.
        Self::own(client, unsafe { sys::rd_kafka_queue_new(client.ptr()) })
    }

    /// The queue that one partition's records are fetched into. From now on, and for as long as the client lives, they stay
    /// on it rather than be forwarded to the consumer's queue; so this comes *before* the partition is assigned.
    pub(crate) fn of_partition(client: &Arc<Client>, topic: &str, partition: i32) -> Option<Self> {
        let topic = c_string(topic);
        // SAFETY: live pointers; the answer is a reference of our own.
        let queue =
            Self::own(client, unsafe { sys::rd_kafka_queue_get_partition(client.ptr(), topic.as_ptr(), partition) })?;
        // SAFETY: a live queue. Null takes the forwarding away, and marks the queue as the application's, which keeps
        // `rd_kafka_toppar_op_fetch_start` from forwarding it.
        unsafe { sys::rd_kafka_queue_forward(queue.ptr(), std::ptr::null_mut()) };
        Some(queue)
    }

    pub(super) fn ptr(&self) -> *mut sys::rd_kafka_queue_t {
        self.queue.as_ptr()
    }

    /// Has `waker` called whenever the queue was empty and is not any more. It is called with the queue locked: it must not
    /// come back to librdkafka.
    pub(crate) fn wake_with(&mut self, waker: Waker) {
        let waker = Box::new(waker);
        // SAFETY: a live queue. The box stays where it is until the callback is replaced or taken away, both under the
        // queue's lock, which the callback runs under too.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(
                self.ptr(),
                Some(wake),
                std::ptr::from_ref(&*waker).cast_mut().cast::<c_void>(),
            );
        }
        self.waker = Some(waker);
    }

    /// Moves up to `max` messages that are on a partition's queue into `into`; never waits.
    pub(crate) fn take(&self, into: &mut Vec<Message>, max: usize) {
        into.reserve(max);
        let spare = into.spare_capacity_mut();
        let max = max.min(spare.len());
        // SAFETY: `Message` is a transparent non-null pointer, and librdkafka writes up to `max` of those into the room
        // there is. The answer is how many, or -1.
        let taken = unsafe {
            sys::rd_kafka_consume_batch_queue(
                self.ptr(),
                0,
                spare.as_mut_ptr().cast::<*mut sys::rd_kafka_message_t>(),
                max,
            )
        };
        let taken = usize::try_from(taken).unwrap_or(0);
        // SAFETY: so many messages, ours now, were written.
        unsafe { into.set_len(into.len() + taken) };
    }

    /// The next event, for which it waits as long as `timeout`. What the client tells of itself is kept with it, and is none.
    pub(crate) fn poll(&self, timeout: Duration) -> Option<Event> {
        let mut timeout = milliseconds(timeout);
        loop {
            // SAFETY: a live queue; the event is ours.
            let event = NonNull::new(unsafe { sys::rd_kafka_queue_poll(self.ptr(), timeout) })?;
            let event = Event { event, _client: Arc::clone(&self.client) };
            if !event.is_statistics() {
                return Some(event);
            }
            self.client.note_statistics(event.statistics());
            timeout = 0;
        }
    }

    /// Ends a [`poll`](Self::poll) that is waiting on another thread.
    pub(crate) fn interrupt(&self) {
        // SAFETY: a live queue.
        unsafe { sys::rd_kafka_queue_yield(self.ptr()) };
    }

    /// Has the offsets and metadata committed; the answer comes as an event on this queue.
    pub(crate) fn commit(&self, offsets: &PartitionList) -> Result<(), Code> {
        // SAFETY: live pointers; the list is copied.
        Code(unsafe { rd_kafka_commit_queue(self.client.ptr(), offsets.ptr(), self.ptr(), None, std::ptr::null_mut()) })
            .ok()
    }

    /// Begins to leave the group; what is left to do comes as events on this queue.
    pub(crate) fn close_consumer(&self) -> Result<(), Code> {
        // SAFETY: live pointers; the error, if any, is ours.
        unsafe { consume_error(sys::rd_kafka_consumer_close_queue(self.client.ptr(), self.ptr())) }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: a live queue, and the last use of our reference. The callback goes before what it points to.
        unsafe {
            if self.waker.is_some() {
                sys::rd_kafka_queue_cb_event_enable(self.ptr(), None, std::ptr::null_mut());
            }
            sys::rd_kafka_queue_destroy(self.ptr());
        }
    }
}

unsafe extern "C" fn wake(_: *mut sys::rd_kafka_t, waker: *mut c_void) {
    // SAFETY: `Queue::wake_with` has set the pointer, and keeps what is behind it.
    let waker = unsafe { &*waker.cast::<Waker>() };
    waker();
}

/// One event.
pub(crate) struct Event {
    event: NonNull<sys::rd_kafka_event_t>,
    _client: Arc<Client>,
}

// SAFETY: an event is an operation taken off its queue, and ours alone; librdkafka's may be read and destroyed on any thread.
unsafe impl Send for Event {}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// Delivery reports.
    Reports,
    /// Partitions come or go.
    Rebalance,
    /// The result of a commit.
    Committed,
    /// An error of the client or of a topic.
    Error,
    /// A record, on a queue where none belongs.
    StrayRecord,
    /// The result of a request to create topics.
    TopicsCreated,
    /// The settings of topics or brokers.
    ConfigsDescribed,
    /// The brokers of the cluster.
    ClusterDescribed,
    /// What topics are made of.
    TopicsDescribed,
    /// Who is in consumer groups.
    GroupsDescribed,
    /// The result of a request to set the offsets of a group.
    GroupOffsetsAltered,
    /// The result of a request to remove records.
    RecordsRemoved,
    /// Anything else.
    Other,
}

impl Event {
    pub(super) fn ptr(&self) -> *mut sys::rd_kafka_event_t {
        self.event.as_ptr()
    }

    /// What it is about.
    pub(crate) fn kind(&self) -> EventKind {
        // SAFETY: a live event.
        match unsafe { sys::rd_kafka_event_type(self.ptr()) } {
            sys::RD_KAFKA_EVENT_DR => EventKind::Reports,
            sys::RD_KAFKA_EVENT_REBALANCE => EventKind::Rebalance,
            sys::RD_KAFKA_EVENT_OFFSET_COMMIT => EventKind::Committed,
            sys::RD_KAFKA_EVENT_ERROR => EventKind::Error,
            sys::RD_KAFKA_EVENT_FETCH => EventKind::StrayRecord,
            sys::RD_KAFKA_EVENT_CREATETOPICS_RESULT => EventKind::TopicsCreated,
            sys::RD_KAFKA_EVENT_DESCRIBECONFIGS_RESULT => EventKind::ConfigsDescribed,
            sys::RD_KAFKA_EVENT_DESCRIBECLUSTER_RESULT => EventKind::ClusterDescribed,
            sys::RD_KAFKA_EVENT_DESCRIBETOPICS_RESULT => EventKind::TopicsDescribed,
            sys::RD_KAFKA_EVENT_DESCRIBECONSUMERGROUPS_RESULT => EventKind::GroupsDescribed,
            sys::RD_KAFKA_EVENT_ALTERCONSUMERGROUPOFFSETS_RESULT => EventKind::GroupOffsetsAltered,
            sys::RD_KAFKA_EVENT_DELETERECORDS_RESULT => EventKind::RecordsRemoved,
            _ => EventKind::Other,
        }
    }

    fn is_statistics(&self) -> bool {
        // SAFETY: a live event.
        unsafe { sys::rd_kafka_event_type(self.ptr()) == sys::RD_KAFKA_EVENT_STATS }
    }

    /// What a client tells of itself, as JSON; empty for other events.
    fn statistics(&self) -> &[u8] {
        // SAFETY: a live event, which owns the text; it is a C string or null.
        unsafe {
            let text = sys::rd_kafka_event_stats(self.ptr());
            if text.is_null() { &[] } else { CStr::from_ptr(text).to_bytes() }
        }
    }

    /// The event's error; for a rebalance, which of the two it is.
    pub(crate) fn code(&self) -> Code {
        // SAFETY: a live event.
        Code(unsafe { rd_kafka_event_error(self.ptr()) })
    }

    /// The error as a sentence.
    pub(crate) fn describe(&self) -> String {
        // SAFETY: a live event; the text is a C string or null.
        unsafe { text(sys::rd_kafka_event_error_string(self.ptr())) }
    }

    /// The partitions that the event is about; only for rebalances and commits.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = Partition<'_>> {
        // SAFETY: a live event, which owns the list.
        unsafe { partitions::elements(sys::rd_kafka_event_topic_partition_list(self.ptr())) }
    }

    /// How many messages it is about that have not been given yet.
    pub(crate) fn messages(&self) -> usize {
        // SAFETY: a live event.
        unsafe { sys::rd_kafka_event_message_count(self.ptr()) }
    }

    /// The next message that a delivery report or a stray record is about; valid until the event is dropped.
    pub(crate) fn next_message(&mut self) -> Option<Borrowed<'_>> {
        // SAFETY: a live event, which owns the message for as long as it is borrowed here.
        unsafe {
            NonNull::new(sys::rd_kafka_event_message_next(self.ptr()).cast_mut()).map(|message| Borrowed::new(message))
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: ours, and the last use.
        unsafe { sys::rd_kafka_event_destroy(self.ptr()) };
    }
}

// The same functions as in the bindings, with the code as an integer.
unsafe extern "C" {
    fn rd_kafka_event_error(event: *mut sys::rd_kafka_event_t) -> c_int;
    fn rd_kafka_commit_queue(
        rk: *mut sys::rd_kafka_t,
        offsets: *const sys::rd_kafka_topic_partition_list_t,
        queue: *mut sys::rd_kafka_queue_t,
        callback: Option<unsafe extern "C" fn(*mut c_char)>,
        opaque: *mut c_void,
    ) -> c_int;
}
