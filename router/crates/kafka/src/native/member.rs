//! What only a member of a group does. Its protocol is the cooperative one: only what moves is given up at a rebalance.

use std::ffi::c_int;

use rdkafka_sys as sys;

use super::client::consume_error;
use super::{Client, Code, PartitionList};

impl Client {
    /// Joins the client's group to read these topics.
    pub(crate) fn subscribe(&self, topics: &PartitionList) -> Result<(), Code> {
        // SAFETY: live pointers; the list is copied.
        Code(unsafe { rd_kafka_subscribe(self.ptr(), topics.ptr()) }).ok()
    }

    /// Whether what is assigned belongs to another member already.
    pub(crate) fn assignment_lost(&self) -> bool {
        // SAFETY: a live client.
        unsafe { sys::rd_kafka_assignment_lost(self.ptr()) == 1 }
    }

    /// Begins to fetch further partitions, each from its offset. Answers a rebalance in which partitions come.
    pub(crate) fn assign(&self, partitions: &PartitionList) -> Result<(), Code> {
        // SAFETY: live pointers; the list is copied, and the error, if any, is ours.
        unsafe { consume_error(sys::rd_kafka_incremental_assign(self.ptr(), partitions.ptr())) }
    }

    /// Ends to fetch the partitions. Answers a rebalance in which partitions go.
    pub(crate) fn unassign(&self, partitions: &PartitionList) -> Result<(), Code> {
        // SAFETY: as above.
        unsafe { consume_error(sys::rd_kafka_incremental_unassign(self.ptr(), partitions.ptr())) }
    }

    /// Fetches no more of the partitions, and gives out nothing more of what was fetched, until they are
    /// [resumed](Self::resume). They stay assigned.
    pub(crate) fn pause(&self, partitions: &PartitionList) {
        // SAFETY: live pointers. What fails is told in the list, for partitions that the client does not know.
        unsafe { rd_kafka_pause_partitions(self.ptr(), partitions.ptr()) };
    }

    /// Undoes [`pause`](Self::pause).
    pub(crate) fn resume(&self, partitions: &PartitionList) {
        // SAFETY: as above.
        unsafe { rd_kafka_resume_partitions(self.ptr(), partitions.ptr()) };
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
    fn rd_kafka_pause_partitions(
        rk: *mut sys::rd_kafka_t,
        partitions: *mut sys::rd_kafka_topic_partition_list_t,
    ) -> c_int;
    fn rd_kafka_resume_partitions(
        rk: *mut sys::rd_kafka_t,
        partitions: *mut sys::rd_kafka_topic_partition_list_t,
    ) -> c_int;
}
