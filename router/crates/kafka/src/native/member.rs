//! What only a member of a group does.

use std::ffi::{CStr, c_int};

use rdkafka_sys as sys;

use super::client::consume_error;
use super::{Client, Code, PartitionList};

/// How partitions move between the members of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Everybody gives up everything at every rebalance.
    Eager,
    /// Only what moves is given up.
    Cooperative,
}

impl Client {
    /// Joins the client's group to read these topics.
    pub(crate) fn subscribe(&self, topics: &PartitionList) -> Result<(), Code> {
        // SAFETY: live pointers; the list is copied.
        Code(unsafe { rd_kafka_subscribe(self.ptr(), topics.ptr()) }).ok()
    }

    /// The protocol that the group agreed on; eager before it did.
    pub(crate) fn protocol(&self) -> Protocol {
        // SAFETY: a live client; the answer is a static string, or null for a client without a group.
        let name = unsafe { sys::rd_kafka_rebalance_protocol(self.ptr()) };
        // SAFETY: as above.
        if !name.is_null() && unsafe { CStr::from_ptr(name) } == c"COOPERATIVE" {
            Protocol::Cooperative
        } else {
            Protocol::Eager
        }
    }

    /// Whether what is assigned belongs to another member already.
    pub(crate) fn assignment_lost(&self) -> bool {
        // SAFETY: a live client.
        unsafe { sys::rd_kafka_assignment_lost(self.ptr()) == 1 }
    }

    /// Begins to fetch the partitions, each from its offset. Answers a rebalance in which partitions come.
    pub(crate) fn assign(&self, protocol: Protocol, partitions: &PartitionList) -> Result<(), Code> {
        match protocol {
            // SAFETY: live pointers; the list is copied.
            Protocol::Eager => Code(unsafe { rd_kafka_assign(self.ptr(), partitions.ptr()) }).ok(),
            // SAFETY: as above; the error, if any, is ours.
            Protocol::Cooperative => unsafe {
                consume_error(sys::rd_kafka_incremental_assign(self.ptr(), partitions.ptr()))
            },
        }
    }

    /// Ends to fetch the partitions; under the eager protocol, all there are. Answers a rebalance in which partitions go.
    pub(crate) fn unassign(&self, protocol: Protocol, partitions: &PartitionList) -> Result<(), Code> {
        match protocol {
            // SAFETY: a live client; null is an empty assignment.
            Protocol::Eager => Code(unsafe { rd_kafka_assign(self.ptr(), std::ptr::null()) }).ok(),
            // SAFETY: live pointers; the list is copied, and the error, if any, is ours.
            Protocol::Cooperative => unsafe {
                consume_error(sys::rd_kafka_incremental_unassign(self.ptr(), partitions.ptr()))
            },
        }
    }

    /// Whether the member has left its group, after [`Queue::close_consumer`](super::Queue::close_consumer).
    pub(crate) fn closed(&self) -> bool {
        // SAFETY: a live client.
        unsafe { sys::rd_kafka_consumer_closed(self.ptr()) == 1 }
    }
}

// The same functions as in the bindings, with the code as an integer.
unsafe extern "C" {
    fn rd_kafka_subscribe(rk: *mut sys::rd_kafka_t, topics: *const sys::rd_kafka_topic_partition_list_t) -> c_int;
    fn rd_kafka_assign(rk: *mut sys::rd_kafka_t, partitions: *const sys::rd_kafka_topic_partition_list_t) -> c_int;
}
