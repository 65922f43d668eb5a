//! Descriptions: brokers, topics and groups, with what whoever asks may do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pointsman_core::port::survey::{GroupSurvey, MemberSurvey, Right};
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_admin_op_t as Operation;

use super::admin::answer;
use super::client::consume_error;
use super::{Client, Code, Event, EventKind, Queue, c_string, text};

/// An error as code and sentence.
type Failed = (Code, String);

/// A broker.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Its number.
    pub(crate) id: i32,
    /// `host:port`.
    pub(crate) address: String,
}

/// What a topic is made of.
#[derive(Clone, Debug)]
pub(crate) struct DescribedTopic {
    /// Number of partitions.
    pub(crate) partitions: u32,
    /// Of the partition with the fewest, how many brokers are to have it.
    pub(crate) replicas: u32,
    /// Of the partition with the fewest, how many brokers do have it.
    pub(crate) in_sync: u32,
    /// Partitions without a leader.
    pub(crate) leaderless: u32,
    /// What may be done with it.
    pub(crate) rights: Option<BTreeSet<Right>>,
}

impl Client {
    /// Asks for the brokers.
    pub(crate) fn describe_cluster(self: &Arc<Self>, timeout: Duration) -> Result<Vec<Node>, Failed> {
        let queue = self.queue()?;
        let options = self.admin_options(Operation::RD_KAFKA_ADMIN_OP_DESCRIBECLUSTER, timeout);
        // SAFETY: live pointers; the options are copied by the request.
        unsafe { sys::rd_kafka_DescribeCluster(self.ptr(), options.0, queue.ptr()) };
        let event = answer(&queue, timeout, EventKind::ClusterDescribed)?;
        let mut count = 0;
        // SAFETY: a live event of this kind, which owns the result; its array is as long as it says.
        unsafe {
            let result = sys::rd_kafka_event_DescribeCluster_result(event.ptr());
            let nodes = sys::rd_kafka_DescribeCluster_result_nodes(result, &raw mut count);
            Ok((0..count)
                .map(|index| {
                    let node = *nodes.add(index);
                    let (host, port) = (text(sys::rd_kafka_Node_host(node)), sys::rd_kafka_Node_port(node));
                    Node { id: sys::rd_kafka_Node_id(node), address: format!("{host}:{port}") }
                })
                .collect())
        }
    }

    /// Asks for one topic.
    pub(crate) fn describe_topic(self: &Arc<Self>, name: &str, timeout: Duration) -> Result<DescribedTopic, Failed> {
        let queue = self.queue()?;
        let options = self.admin_options(Operation::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, timeout);
        options.include_rights();
        let name = c_string(name);
        let mut names = [name.as_ptr()];
        // SAFETY: live pointers; options and names are copied by the request, and the collection is ours to destroy.
        unsafe {
            let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
            sys::rd_kafka_DescribeTopics(self.ptr(), topics, options.0, queue.ptr());
            sys::rd_kafka_TopicCollection_destroy(topics);
        }
        let event = answer(&queue, timeout, EventKind::TopicsDescribed)?;
        described_topic(&event)
    }

    /// Asks for one group.
    pub(crate) fn describe_group(self: &Arc<Self>, name: &str, timeout: Duration) -> Result<GroupSurvey, Failed> {
        let queue = self.queue()?;
        let options = self.admin_options(Operation::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS, timeout);
        options.include_rights();
        let name = c_string(name);
        let mut names = [name.as_ptr()];
        // SAFETY: live pointers; options and names are copied by the request.
        unsafe {
            sys::rd_kafka_DescribeConsumerGroups(self.ptr(), names.as_mut_ptr(), names.len(), options.0, queue.ptr());
        }
        let event = answer(&queue, timeout, EventKind::GroupsDescribed)?;
        described_group(&event)
    }

    fn queue(self: &Arc<Self>) -> Result<Queue, Failed> {
        let no_queue = Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__FAIL);
        Queue::temporary(self).ok_or_else(|| (no_queue, "no queue".to_owned()))
    }
}

impl super::admin::Options {
    /// Asks for what may be done, too.
    fn include_rights(&self) {
        // SAFETY: live options. What they are for takes it, so that there is no error; one would be ours to destroy.
        let _ = unsafe { consume_error(sys::rd_kafka_AdminOptions_set_include_authorized_operations(self.0, 1)) };
    }
}

fn described_topic(event: &Event) -> Result<DescribedTopic, Failed> {
    let mut count = 0;
    // SAFETY: a live event of this kind, which owns the result and all that is in it; arrays are as long as they say.
    unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(event.ptr());
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        let topic = (count > 0).then(|| *topics).ok_or_else(no_answer)?;
        failure(sys::rd_kafka_TopicDescription_error(topic))?;
        let mut length = 0;
        let partitions = sys::rd_kafka_TopicDescription_partitions(topic, &raw mut length);
        let (mut replicas, mut in_sync, mut leaderless) = (usize::MAX, usize::MAX, 0);
        for index in 0..length {
            let partition = *partitions.add(index);
            let mut brokers = 0;
            sys::rd_kafka_TopicPartitionInfo_replicas(partition, &raw mut brokers);
            replicas = replicas.min(brokers);
            sys::rd_kafka_TopicPartitionInfo_isr(partition, &raw mut brokers);
            in_sync = in_sync.min(brokers);
            leaderless += u32::from(sys::rd_kafka_TopicPartitionInfo_leader(partition).is_null());
        }
        let number = |count: usize| u32::try_from(count).unwrap_or(0);
        let rights = sys::rd_kafka_TopicDescription_authorized_operations(topic, &raw mut count);
        Ok(DescribedTopic {
            partitions: number(length),
            replicas: number(replicas),
            in_sync: number(in_sync),
            leaderless,
            rights: rights_of(rights, count),
        })
    }
}

fn described_group(event: &Event) -> Result<GroupSurvey, Failed> {
    let mut count = 0;
    // SAFETY: a live event of this kind, which owns the result and all that is in it; arrays are as long as they say.
    unsafe {
        let result = sys::rd_kafka_event_DescribeConsumerGroups_result(event.ptr());
        let groups = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
        let group = (count > 0).then(|| *groups).ok_or_else(no_answer)?;
        failure(sys::rd_kafka_ConsumerGroupDescription_error(group))?;
        let members = (0..sys::rd_kafka_ConsumerGroupDescription_member_count(group))
            .map(|index| {
                let member = sys::rd_kafka_ConsumerGroupDescription_member(group, index);
                MemberSurvey {
                    client_id: text(sys::rd_kafka_MemberDescription_client_id(member)),
                    host: text(sys::rd_kafka_MemberDescription_host(member)),
                }
            })
            .collect();
        let rights = sys::rd_kafka_ConsumerGroupDescription_authorized_operations(group, &raw mut count);
        Ok(GroupSurvey {
            members,
            assignor: text(sys::rd_kafka_ConsumerGroupDescription_partition_assignor(group)),
            rights: rights_of(rights, count),
        })
    }
}

fn no_answer() -> Failed {
    (Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__FAIL), "the answer is empty".to_owned())
}

/// The error of a part of an answer, if it has one.
///
/// # Safety
/// `error` is null or a live error object.
unsafe fn failure(error: *const sys::rd_kafka_error_t) -> Result<(), Failed> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: live, as the caller promises.
    let (code, message) = unsafe { (Code(rd_kafka_error_code(error)), text(sys::rd_kafka_error_string(error))) };
    if code.is_error() { Err((code, message)) } else { Ok(()) }
}

/// `None` where the cluster has not told. Read as integers: a newer broker knows operations that these bindings do not.
///
/// # Safety
/// `rights` is null or points to so many operations.
unsafe fn rights_of(rights: *const sys::rd_kafka_AclOperation_t, count: usize) -> Option<BTreeSet<Right>> {
    if rights.is_null() {
        return None;
    }
    // SAFETY: as the caller promises; the enum is `repr(u32)`.
    let numbers = (0..count).map(|index| unsafe { rights.add(index).cast::<u32>().read() });
    Some(numbers.filter_map(right).collect())
}

/// Kafka's numbers of operations.
const fn right(number: u32) -> Option<Right> {
    Some(match number {
        3 => Right::Read,
        4 => Right::Write,
        5 => Right::Create,
        6 => Right::Delete,
        7 => Right::Alter,
        8 => Right::Describe,
        9 => Right::ClusterAction,
        10 => Right::DescribeConfigs,
        11 => Right::AlterConfigs,
        12 => Right::IdempotentWrite,
        _ => return None,
    })
}

// The same function as in the bindings, with the code as an integer.
unsafe extern "C" {
    fn rd_kafka_error_code(error: *const sys::rd_kafka_error_t) -> std::ffi::c_int;
}
