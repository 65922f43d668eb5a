//! Messages: fetched records, errors of a partition, and delivery reports.

use std::ffi::{CStr, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;

use pointsman_core::record::Header;
use rdkafka_sys as sys;

use super::{Code, NativeHeaders, code, text};

/// The name of the only header of a record whose headers can't be read. It is not UTF-8, so that the record counts as
/// undecodable rather than as one without headers.
pub(crate) const UNREADABLE_HEADERS: &[u8] = b"\xffunreadable headers";

/// A fetched message, ours. Keep an `Arc` of its client for as long as this lives.
#[repr(transparent)]
pub(crate) struct Message(NonNull<sys::rd_kafka_message_t>);

// SAFETY: a message is plain memory; librdkafka frees it on any thread. Nothing changes it after its headers have been
// read, which takes `&mut`.
unsafe impl Send for Message {}

impl Message {
    /// Borrows the message.
    pub(crate) fn borrow(&self) -> Borrowed<'_> {
        Borrowed { message: self.0, _life: PhantomData }
    }

    /// Has the processor load what was fetched of the record: whoever is about to read many messages asks some ahead. Of long
    /// ones it is the end of the value, and what comes behind it: librdkafka reads the headers from there. On
    /// processors other than x86-64 this does nothing.
    pub(crate) fn prefetch(&self) {
        const LINE: usize = 64;
        const LINES: usize = 8;
        let value = self.borrow().value().unwrap_or_default().as_ptr_range();
        for line in 0..LINES {
            let address = value.end.wrapping_sub(line * LINE);
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a prefetch reads nothing that the program sees, and any address will do.
            unsafe {
                use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
                _mm_prefetch::<_MM_HINT_T0>(address.cast());
            }
            if address <= value.start {
                break;
            }
        }
    }

    /// Appends the record's headers to `headers`; the answer is whether all are [plain](Header::is_plain). They are valid for as
    /// long as the message has them, whatever is done to `self` as a value: the caller keeps them no longer.
    pub(crate) fn headers(&mut self, headers: &mut Vec<Header<'static>>) -> bool {
        let mut list = std::ptr::null_mut();
        // SAFETY: a live message, that nobody else has. The list is the message's own.
        let code = Code(unsafe { rd_kafka_message_headers(self.0.as_ptr(), &raw mut list) });
        if code == Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__NOENT) {
            return true;
        }
        if code.is_error() {
            headers.push(Header { name: UNREADABLE_HEADERS, value: None });
            return false;
        }
        let mut plain = true;
        // SAFETY: a live list, for as long as the caller keeps what it gives.
        for header in unsafe { headers_in(list) } {
            plain &= header.is_plain();
            headers.push(header);
        }
        plain
    }

    /// Takes the record's headers away: what [`headers`](Self::headers) gave is valid no more. The next call to either reads
    /// them anew, from the bytes that were fetched (`rd_kafka_msg_headers_parse`, in librdkafka's `rdkafka_msg.c`).
    pub(crate) fn detach_headers(&mut self) -> Option<NativeHeaders> {
        let mut headers = std::ptr::null_mut();
        // SAFETY: a live message, that nobody else has; the list, if there is one, is ours from now on.
        unsafe {
            if rd_kafka_message_detach_headers(self.0.as_ptr(), &raw mut headers) != 0 {
                return None;
            }
            NativeHeaders::from_raw(headers)
        }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: ours, and the last use.
        unsafe { sys::rd_kafka_message_destroy(self.0.as_ptr()) };
    }
}

/// A message that something else owns.
#[derive(Clone, Copy)]
pub(crate) struct Borrowed<'a> {
    message: NonNull<sys::rd_kafka_message_t>,
    _life: PhantomData<&'a ()>,
}

impl<'a> Borrowed<'a> {
    /// # Safety
    /// The message lives for as long as the answer.
    pub(super) unsafe fn new(message: NonNull<sys::rd_kafka_message_t>) -> Self {
        Self { message, _life: PhantomData }
    }

    pub(super) fn ptr(self) -> *mut sys::rd_kafka_message_t {
        self.message.as_ptr()
    }

    /// The message's error; a fetched message without one is a record.
    pub(crate) fn code(self) -> Code {
        // SAFETY: a live message.
        unsafe { code::read(&raw const (*self.ptr()).err) }
    }

    /// The error of a fetched message as a sentence.
    pub(crate) fn describe(self) -> String {
        // SAFETY: a live message with an error, whose payload is then a C string. (That of a delivery report is not.)
        let said = unsafe { text(sys::rd_kafka_message_errstr(self.ptr())) };
        if said.is_empty() { self.code().describe() } else { said }
    }

    /// The error of a delivery report as a sentence.
    pub(crate) fn describe_report(self) -> String {
        // SAFETY: a live delivery report; the text is a C string or null.
        let said = unsafe { text(sys::rd_kafka_message_produce_errstr(self.ptr())) };
        if said.is_empty() { self.code().describe() } else { said }
    }

    /// Position in its partition.
    pub(crate) fn offset(self) -> i64 {
        // SAFETY: a live message.
        unsafe { (*self.ptr()).offset }
    }

    /// Its partition.
    pub(crate) fn partition(self) -> i32 {
        // SAFETY: a live message.
        unsafe { (*self.ptr()).partition }
    }

    /// Milliseconds since 1970-01-01 UTC; -1 where the log has none, and for messages that have an error.
    pub(crate) fn timestamp_ms(self) -> i64 {
        // SAFETY: a live message; nobody asks for the kind of timestamp.
        unsafe { sys::rd_kafka_message_timestamp(self.ptr(), std::ptr::null_mut()) }
    }

    /// The timestamp of a delivery that failed.
    pub(crate) fn timestamp_ms_of_report(self) -> i64 {
        // librdkafka gives out -1 for whatever has an error.
        // SAFETY: a live delivery report, which nobody else looks at meanwhile. 0 is "no error".
        unsafe {
            let code = (&raw mut (*self.ptr()).err).cast::<std::ffi::c_int>();
            let error = code.replace(0);
            let timestamp = self.timestamp_ms();
            code.write(error);
            timestamp
        }
    }

    /// Key.
    pub(crate) fn key(self) -> Option<&'a [u8]> {
        // SAFETY: a live message's key is as long as it says.
        unsafe { bytes((*self.ptr()).key, (*self.ptr()).key_len) }
    }

    /// Value.
    pub(crate) fn value(self) -> Option<&'a [u8]> {
        // SAFETY: a live message's payload is as long as it says.
        unsafe { bytes((*self.ptr()).payload, (*self.ptr()).len) }
    }

    /// The headers of a delivery report.
    pub(crate) fn headers_of_report(self) -> Vec<Header<'a>> {
        let mut list = std::ptr::null_mut();
        // SAFETY: a live message, of which nobody takes the list away: that is done to fetched ones alone.
        unsafe {
            let has_any = rd_kafka_message_headers(self.ptr(), &raw mut list) == 0;
            if has_any { headers_in(list).collect() } else { Vec::new() }
        }
    }

    /// What `produce` was given.
    pub(crate) fn opaque(self) -> usize {
        // SAFETY: a live message. The pointer is a number.
        unsafe { (*self.ptr())._private as usize }
    }

    /// The topic handle, as an identity.
    pub(super) fn topic(self) -> *mut sys::rd_kafka_topic_t {
        // SAFETY: a live message.
        unsafe { (*self.ptr()).rkt }
    }
}

/// What a list of headers holds.
///
/// # Safety
/// The list lives, unchanged, for as long as the answer and what it gives.
unsafe fn headers_in<'a>(list: *const sys::rd_kafka_headers_t) -> impl Iterator<Item = Header<'a>> {
    // SAFETY: as the caller promises.
    let count = unsafe { sys::rd_kafka_header_cnt(list) };
    (0..count).map(move |index| {
        let (mut name, mut value, mut len) = (std::ptr::null(), std::ptr::null(), 0);
        // SAFETY: as the caller promises; an index within the list, and places for the answer.
        unsafe {
            sys::rd_kafka_header_get_all(list, index, &raw mut name, &raw mut value, &raw mut len);
            Header { name: CStr::from_ptr(name).to_bytes(), value: bytes(value, len) }
        }
    })
}

/// Bytes, or null.
///
/// # Safety
/// `data` is null or points to `len` bytes that live as long as the answer.
unsafe fn bytes<'a>(data: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller promises.
    (!data.is_null()).then(|| unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) })
}

// The same functions as in the bindings, with the code as an integer.
unsafe extern "C" {
    fn rd_kafka_message_headers(
        message: *const sys::rd_kafka_message_t,
        headers: *mut *mut sys::rd_kafka_headers_t,
    ) -> std::ffi::c_int;
    fn rd_kafka_message_detach_headers(
        message: *mut sys::rd_kafka_message_t,
        headers: *mut *mut sys::rd_kafka_headers_t,
    ) -> std::ffi::c_int;
}
