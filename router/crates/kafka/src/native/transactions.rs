//! The transactional part of a producer. Its calls block, up to their timeout.

use std::ffi::{c_char, c_int, c_void};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rdkafka_sys as sys;

use super::{Client, Code, PartitionList, c_string, milliseconds, text};

/// Why a call failed, as librdkafka says it.
#[derive(Clone, Debug)]
pub(crate) struct Complaint {
    /// The code.
    pub(crate) code: Code,
    /// A sentence.
    pub(crate) message: String,
    /// What can be done with the producer.
    pub(crate) remains: Remains,
}

/// What can be done with a producer after a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remains {
    /// The same call may be made again, and resumes what was begun; after a commit or an abort no other.
    Resume,
    /// The transaction must be aborted.
    Abort,
    /// Nothing.
    Nothing,
    /// librdkafka does not say: it was not a call for this moment, or an argument was wrong.
    Unsaid,
}

impl Client {
    /// Takes the transactional id over: ends the transaction that another producer has left open, and fences it.
    pub(crate) fn init_transactions(&self, timeout: Duration) -> Result<(), Complaint> {
        // SAFETY: a live producer; the error is ours.
        unsafe { consume(sys::rd_kafka_init_transactions(self.ptr(), milliseconds(timeout))) }
    }

    /// Begins a transaction, and to count its [`end_requests`](Self::end_requests).
    pub(crate) fn begin_transaction(&self) -> Result<(), Complaint> {
        self.ends().0.store(0, Ordering::Release);
        // SAFETY: as above.
        unsafe { consume(sys::rd_kafka_begin_transaction(self.ptr())) }
    }

    /// Adds offsets, with what is said of them, as this member of its group.
    pub(crate) fn send_offsets(
        &self,
        offsets: &PartitionList,
        group: &GroupMetadata,
        timeout: Duration,
    ) -> Result<(), Complaint> {
        // SAFETY: live pointers; what they point to is copied.
        unsafe {
            consume(sys::rd_kafka_send_offsets_to_transaction(
                self.ptr(),
                offsets.ptr(),
                group.0.as_ptr(),
                milliseconds(timeout),
            ))
        }
    }

    /// Commits. The reports of all deliveries must have been taken off the queue before.
    pub(crate) fn commit_transaction(&self, timeout: Duration) -> Result<(), Complaint> {
        // SAFETY: as in `init_transactions`.
        unsafe { consume(sys::rd_kafka_commit_transaction(self.ptr(), milliseconds(timeout))) }
    }

    /// Aborts, and has what was not sent yet reported as purged. It waits in vain while reports are on the queue.
    pub(crate) fn abort_transaction(&self, timeout: Duration) -> Result<(), Complaint> {
        // SAFETY: as in `init_transactions`.
        unsafe { consume(sys::rd_kafka_abort_transaction(self.ptr(), milliseconds(timeout))) }
    }

    /// How many requests to end the transaction have been sent since it was begun. librdkafka repeats them by itself, and
    /// says nothing of it: of two, one may still be on its way, and a broker takes it for the end of the next
    /// transaction if it comes in that late (KAFKA-17754). Only a new producer with the same id, whose epoch is
    /// higher, is safe from it.
    pub(crate) fn end_requests(&self) -> u32 {
        self.ends().0.load(Ordering::Acquire)
    }
}

/// Counts the requests that end transactions.
#[derive(Debug, Default)]
pub(super) struct Ends(AtomicU32);

impl Ends {
    /// Has a client that is made of `conf` count here.
    ///
    /// # Safety
    /// `conf` is a live configuration, and `self` outlives the client.
    pub(super) unsafe fn count_for(&self, conf: *mut sys::rd_kafka_conf_t) {
        let ends = std::ptr::from_ref(self).cast_mut().cast::<c_void>();
        // SAFETY: live pointers. It fails only where an interceptor of this name is there already.
        unsafe { sys::rd_kafka_conf_interceptor_add_on_new(conf, NAME.as_ptr(), Some(on_new), ends) };
    }
}

const NAME: &std::ffi::CStr = c"ends";

/// Interceptors of requests can be set on a client only, not on its configuration.
unsafe extern "C" fn on_new(
    rk: *mut sys::rd_kafka_t,
    _: *const sys::rd_kafka_conf_t,
    ends: *mut c_void,
    _: *mut c_char,
    _: usize,
) -> sys::rd_kafka_resp_err_t {
    // SAFETY: the client that is being made, and the pointer that `Ends::count_for` has set.
    unsafe { sys::rd_kafka_interceptor_add_on_request_sent(rk, NAME.as_ptr(), Some(on_request_sent), ends) }
}

/// On the thread of a broker, before the answer can come.
unsafe extern "C" fn on_request_sent(
    _: *mut sys::rd_kafka_t,
    _: c_int,
    _: *const c_char,
    _: i32,
    api: i16,
    _: i16,
    _: i32,
    _: usize,
    ends: *mut c_void,
) -> sys::rd_kafka_resp_err_t {
    const END_TXN: i16 = 26;
    if api == END_TXN {
        // SAFETY: `Ends::count_for` has set the pointer, to what outlives the client.
        unsafe { &*ends.cast::<Ends>() }.0.fetch_add(1, Ordering::AcqRel);
    }
    sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
}

/// As who offsets are sent. (KIP-447.)
pub(crate) struct GroupMetadata(NonNull<sys::rd_kafka_consumer_group_metadata_t>);

// SAFETY: it is written when it is made, and only read afterwards.
unsafe impl Send for GroupMetadata {}
// SAFETY: as above.
unsafe impl Sync for GroupMetadata {}

impl GroupMetadata {
    /// Neither member nor generation: the broker checks neither.
    pub(crate) fn memberless(group: &str) -> Self {
        let group = c_string(group);
        // SAFETY: a live pointer, copied; librdkafka aborts on a failed allocation.
        let metadata = unsafe { sys::rd_kafka_consumer_group_metadata_new(group.as_ptr()) };
        Self(NonNull::new(metadata).unwrap_or_else(|| unreachable!("a group's metadata is never null")))
    }

    /// What a consumer is in its group at this moment: the broker refuses offsets with it from the next generation on. `None`
    /// where it is no member.
    pub(crate) fn of_member(client: &Client) -> Option<Self> {
        // SAFETY: a live consumer; the answer is ours.
        let metadata = Self(NonNull::new(unsafe { sys::rd_kafka_consumer_group_metadata(client.ptr()) })?);
        // SAFETY: live metadata.
        let generation = unsafe { sys::rd_kafka_consumer_group_metadata_generation_id(metadata.0.as_ptr()) };
        (generation >= 0).then_some(metadata)
    }

    /// The name of the group.
    pub(crate) fn group(&self) -> String {
        // SAFETY: live metadata, whose name is a C string.
        unsafe { text(sys::rd_kafka_consumer_group_metadata_group_id(self.0.as_ptr())) }
    }
}

impl Drop for GroupMetadata {
    fn drop(&mut self) {
        // SAFETY: ours, and the last use.
        unsafe { sys::rd_kafka_consumer_group_metadata_destroy(self.0.as_ptr()) };
    }
}

/// Takes apart an error object; null is none.
///
/// # Safety
/// `error` is null or an error object that the caller gives away.
unsafe fn consume(error: *mut sys::rd_kafka_error_t) -> Result<(), Complaint> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: a live error object, ours, and then its last use.
    unsafe {
        let remains = if sys::rd_kafka_error_is_fatal(error) != 0 {
            Remains::Nothing
        } else if sys::rd_kafka_error_txn_requires_abort(error) != 0 {
            Remains::Abort
        } else if sys::rd_kafka_error_is_retriable(error) != 0 {
            Remains::Resume
        } else {
            Remains::Unsaid
        };
        let complaint = Complaint {
            code: Code(rd_kafka_error_code(error)),
            message: text(sys::rd_kafka_error_string(error)),
            remains,
        };
        sys::rd_kafka_error_destroy(error);
        Err(complaint)
    }
}

// The same function as in the bindings, with the code as an integer.
unsafe extern "C" {
    fn rd_kafka_error_code(error: *const sys::rd_kafka_error_t) -> c_int;
}
