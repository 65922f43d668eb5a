//! Lists of partitions with offsets and commit metadata.

use std::ffi::{CStr, c_int, c_void};
use std::ptr::NonNull;

use rdkafka_sys as sys;

use super::{Code, c_string};

/// A list of partitions, ours.
pub(crate) struct PartitionList(NonNull<sys::rd_kafka_topic_partition_list_t>);

// SAFETY: plain memory, with no tie to a thread.
unsafe impl Send for PartitionList {}

/// One partition of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Partition<'a> {
    /// Name of the topic.
    pub(crate) topic: &'a str,
    /// Its number.
    pub(crate) partition: i32,
    /// An offset, or a negative number that stands for something.
    pub(crate) offset: i64,
    /// Commit metadata, whatever bytes they are.
    pub(crate) metadata: &'a [u8],
    /// The partition's own error.
    pub(crate) code: Code,
}

impl PartitionList {
    /// An empty list with room for `capacity` partitions.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        // SAFETY: a plain allocation, which librdkafka aborts on rather than fail.
        let list = unsafe { sys::rd_kafka_topic_partition_list_new(c_int::try_from(capacity).unwrap_or(c_int::MAX)) };
        Self(NonNull::new(list).unwrap_or_else(|| unreachable!("rd_kafka_topic_partition_list_new never gives null")))
    }

    /// Adds a partition with an offset and commit metadata.
    pub(crate) fn push(&mut self, topic: &str, partition: i32, offset: i64, metadata: &str) {
        let topic = c_string(topic);
        // SAFETY: live pointers. The element is valid until the list grows again, which it does not below.
        let element = unsafe { &mut *sys::rd_kafka_topic_partition_list_add(self.ptr(), topic.as_ptr(), partition) };
        element.offset = offset;
        if !metadata.is_empty() {
            // SAFETY: the list frees its metadata with the C allocator, which it comes from here. The copy is as long as
            // the allocation.
            unsafe {
                let copy = libc::malloc(metadata.len());
                if !copy.is_null() {
                    std::ptr::copy_nonoverlapping(metadata.as_ptr(), copy.cast::<u8>(), metadata.len());
                    element.metadata = copy.cast::<c_void>();
                    element.metadata_size = metadata.len();
                }
            }
        }
    }

    /// The list, for calls of this module.
    pub(super) fn ptr(&self) -> *mut sys::rd_kafka_topic_partition_list_t {
        self.0.as_ptr()
    }

    /// The partitions in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Partition<'_>> {
        // SAFETY: a live list.
        unsafe { elements(self.ptr()) }
    }
}

impl Drop for PartitionList {
    fn drop(&mut self) {
        // SAFETY: ours, and the last use.
        unsafe { sys::rd_kafka_topic_partition_list_destroy(self.ptr()) };
    }
}

/// The partitions of a list; none where it is null.
///
/// # Safety
/// `list` is null or points to a list that lives, unchanged, for as long as the answer.
pub(super) unsafe fn elements<'a>(
    list: *const sys::rd_kafka_topic_partition_list_t,
) -> impl Iterator<Item = Partition<'a>> {
    let elements = if list.is_null() {
        &[]
    } else {
        // SAFETY: a live list; its length is that of the array.
        unsafe {
            let (elements, count) = ((*list).elems, usize::try_from((*list).cnt).unwrap_or(0));
            if elements.is_null() { &[] } else { std::slice::from_raw_parts(elements.cast::<RawPartition>(), count) }
        }
    };
    elements.iter().map(|element| Partition {
        // SAFETY: an element's name is a C string. Kafka's names are ASCII; any other is unknown to us, and reads as empty.
        topic: unsafe { CStr::from_ptr(element.topic) }.to_str().unwrap_or_default(),
        partition: element.partition,
        offset: element.offset,
        metadata: if element.metadata.is_null() {
            &[]
        } else {
            // SAFETY: not null, and as long as the element says.
            unsafe { std::slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size) }
        },
        code: Code(element.code),
    })
}

/// `rd_kafka_topic_partition_t` with the error code as an integer, so that a slice of it is always valid.
#[repr(C)]
struct RawPartition {
    topic: *mut std::ffi::c_char,
    partition: i32,
    offset: i64,
    metadata: *mut c_void,
    metadata_size: usize,
    opaque: *mut c_void,
    code: c_int,
    private: *mut c_void,
}

const _: () = {
    assert!(size_of::<RawPartition>() == size_of::<sys::rd_kafka_topic_partition_t>());
    assert!(std::mem::offset_of!(RawPartition, code) == std::mem::offset_of!(sys::rd_kafka_topic_partition_t, err));
    // `code::read` relies on this too.
    assert!(size_of::<sys::rd_kafka_resp_err_t>() == size_of::<c_int>());
};
