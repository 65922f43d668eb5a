//! The only module with `unsafe`: librdkafka's objects as owned Rust values.
//!
//! **Ownership.** Everything that points into a client (queues, topics, messages) holds an [`Arc`](std::sync::Arc) of the
//! [`Client`], so that librdkafka's `rd_kafka_destroy`, which waits for ever on what still refers to the client, can only
//! run after the last of them is gone.
//!
//! **Error codes** are read as plain integers. `rdkafka-sys` declares them as a Rust enum, for which a code that a newer
//! broker sends and this librdkafka passes on would be undefined behaviour.

mod admin;
mod client;
mod code;
mod describe;
mod member;
mod message;
mod partitions;
mod queue;
mod requests;
mod shares;
mod topic;
mod transactions;

pub(crate) use admin::{Removed, TopicConfig, TopicMetadata};
pub(crate) use client::{Client, Kind};
pub(crate) use code::Code;
pub(crate) use describe::{DescribedTopic, Node};
pub(crate) use message::{Borrowed, Message, UNREADABLE_HEADERS};
pub(crate) use partitions::PartitionList;
pub(crate) use queue::{Event, EventKind, Queue};
pub(crate) use topic::{NativeHeaders, Outgoing, Topic, Topics};
pub(crate) use transactions::{Complaint as TransactionComplaint, GroupMetadata, Remains};

use std::ffi::{CStr, CString, c_char, c_int};
use std::time::Duration;

/// A name for C; a NUL byte, which no Kafka name can have, ends it.
fn c_string(text: &str) -> CString {
    let end = text.bytes().position(|byte| byte == 0).unwrap_or(text.len());
    // The text has no NUL before `end`, so that this does not fail.
    CString::new(&text.as_bytes()[..end]).unwrap_or_default()
}

/// Copies a C string; null is empty.
///
/// # Safety
/// `text` is null or points to a NUL-terminated string.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, and a C string as the caller promises.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// A timeout as librdkafka takes it; at most 24 days, never the -1 that means for ever.
fn milliseconds(timeout: Duration) -> c_int {
    c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX)
}

/// A buffer for librdkafka's error texts.
struct ErrorText([c_char; Self::LEN]);

impl ErrorText {
    const LEN: usize = 512;

    fn new() -> Self {
        Self([0; Self::LEN])
    }

    fn as_mut_ptr(&mut self) -> *mut c_char {
        self.0.as_mut_ptr()
    }
}

impl std::fmt::Display for ErrorText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // SAFETY: librdkafka terminates what it writes within the length it was given, and the buffer begins as zeros.
        f.write_str(&unsafe { text(self.0.as_ptr()) })
    }
}
