//! Metadata and administrative requests.

use std::ffi::c_int;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use pointsman_core::record::TopicPartition;
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_ResourceType_t as ResourceType;

use super::partitions::elements;
use super::{
    Client, Code, ErrorText, Event, EventKind, PartitionList, Queue, Topic, c_string, code, milliseconds, text,
};

/// What the cluster says of one topic.
#[derive(Clone, Debug)]
pub(crate) struct TopicMetadata {
    /// Its name.
    pub(crate) name: String,
    /// How many partitions it has.
    pub(crate) partitions: u32,
    /// The topic's own error.
    pub(crate) code: Code,
}

/// What became of one topic that was to be created.
#[derive(Clone, Debug)]
pub(crate) struct CreatedTopic {
    /// Its name.
    pub(crate) name: String,
    /// The topic's own error.
    pub(crate) code: Code,
    /// The error as a sentence.
    pub(crate) message: String,
}

/// The settings of one topic or broker, or why they can't be had.
#[derive(Clone, Debug)]
pub(crate) struct TopicConfig {
    /// The topic's name, or the broker's number.
    pub(crate) name: String,
    /// Its own error, as code and sentence.
    pub(crate) error: Option<(Code, String)>,
    /// Names and values, defaults included.
    pub(crate) entries: Vec<(String, String)>,
}

/// What became of the records of one partition that were to be removed: the first offset that is left, or why nothing was.
pub(crate) type Removed = (TopicPartition, Result<i64, (Code, String)>);

/// A topic to create: name, partitions, properties.
pub(crate) type TopicSpec<'a> = (&'a str, u32, &'a [(&'a str, String)]);

impl Client {
    /// Asks the cluster for one topic, or for all.
    pub(crate) fn metadata(&self, topic: Option<&Topic>, timeout: Duration) -> Result<Vec<TopicMetadata>, Code> {
        let (all, handle) = topic.map_or((1, std::ptr::null_mut()), |topic| (0, topic.ptr()));
        let mut answer = std::ptr::null();
        // SAFETY: live pointers.
        Code(unsafe { rd_kafka_metadata(self.ptr(), all, handle, &raw mut answer, milliseconds(timeout)) }).ok()?;
        // SAFETY: the answer is ours until it is destroyed, and its array as long as it says. Only pointers to the
        // elements are made, since they have error codes in them.
        unsafe {
            let count = usize::try_from((*answer).topic_cnt).unwrap_or(0);
            let topics = (0..count)
                .map(|index| {
                    let topic = (*answer).topics.add(index);
                    TopicMetadata {
                        name: text((*topic).topic),
                        partitions: u32::try_from((*topic).partition_cnt).unwrap_or(0),
                        code: code::read(&raw const (*topic).err),
                    }
                })
                .collect();
            sys::rd_kafka_metadata_destroy(answer);
            Ok(topics)
        }
    }

    /// Creates topics with the brokers' default replication; waits until they are known to the controller.
    pub(crate) fn create_topics(
        self: &Arc<Self>,
        topics: &[TopicSpec<'_>],
        timeout: Duration,
    ) -> Result<Vec<CreatedTopic>, (Code, String)> {
        let invalid = |reason: String| (Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__INVALID_ARG), reason);
        let requests = topics.iter().map(NewTopic::new).collect::<Result<Vec<_>, _>>().map_err(invalid)?;
        let queue = Queue::temporary(self).ok_or_else(|| invalid("no queue".to_owned()))?;
        let mut pointers: Vec<_> = requests.iter().map(|request| request.0.as_ptr()).collect();
        let options = self.admin_options(sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATETOPICS, timeout);
        // SAFETY: live pointers; options and topics are copied by the request.
        unsafe {
            sys::rd_kafka_CreateTopics(self.ptr(), pointers.as_mut_ptr(), pointers.len(), options.0, queue.ptr())
        };
        answer(&queue, timeout, EventKind::TopicsCreated).map(|event| created_topics(&event))
    }

    /// Reads the settings of topics. Each may have an error of its own.
    pub(crate) fn topic_configs(
        self: &Arc<Self>,
        topics: &[&str],
        timeout: Duration,
    ) -> Result<Vec<TopicConfig>, (Code, String)> {
        let resources = topics.iter().filter_map(|topic| Resource::of(ResourceType::RD_KAFKA_RESOURCE_TOPIC, topic));
        self.configs(&resources.collect::<Vec<_>>(), timeout)
    }

    /// Reads the settings of a broker, from itself.
    pub(crate) fn broker_config(
        self: &Arc<Self>,
        id: i32,
        timeout: Duration,
    ) -> Result<Vec<TopicConfig>, (Code, String)> {
        let resource = Resource::of(ResourceType::RD_KAFKA_RESOURCE_BROKER, &id.to_string());
        self.configs(&resource.into_iter().collect::<Vec<_>>(), timeout)
    }

    fn configs(
        self: &Arc<Self>,
        resources: &[Resource],
        timeout: Duration,
    ) -> Result<Vec<TopicConfig>, (Code, String)> {
        let no_queue = Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__FAIL);
        let queue = Queue::temporary(self).ok_or_else(|| (no_queue, "no queue".to_owned()))?;
        let mut pointers: Vec<_> = resources.iter().map(|resource| resource.0.as_ptr()).collect();
        let options = self.admin_options(sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, timeout);
        // SAFETY: live pointers; options and resources are copied by the request.
        unsafe {
            sys::rd_kafka_DescribeConfigs(self.ptr(), pointers.as_mut_ptr(), pointers.len(), options.0, queue.ptr());
        }
        answer(&queue, timeout, EventKind::ConfigsDescribed).map(|event| topic_configs(&event))
    }

    /// Sets the committed offsets of a group that has no members. The first error of a partition is the error of all.
    pub(crate) fn alter_group_offsets(
        self: &Arc<Self>,
        group: &str,
        offsets: &PartitionList,
        timeout: Duration,
    ) -> Result<(), (Code, String)> {
        let no_queue = Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__FAIL);
        let queue = Queue::temporary(self).ok_or_else(|| (no_queue, "no queue".to_owned()))?;
        let options =
            self.admin_options(sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS, timeout);
        let group = c_string(group);
        // SAFETY: live pointers; group, list and options are copied by the request, which is ours to destroy.
        unsafe {
            let mut request = sys::rd_kafka_AlterConsumerGroupOffsets_new(group.as_ptr(), offsets.ptr());
            sys::rd_kafka_AlterConsumerGroupOffsets(self.ptr(), &raw mut request, 1, options.0, queue.ptr());
            sys::rd_kafka_AlterConsumerGroupOffsets_destroy(request);
        }
        let event = answer(&queue, timeout, EventKind::GroupOffsetsAltered)?;
        altered_offsets(&event)
    }

    /// Has the records of partitions removed that lie below the offsets; the answer comes as an event on `answers`.
    pub(crate) fn delete_records(&self, below: &PartitionList, timeout: Duration, answers: &Queue) {
        let options = self.admin_options(sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DELETERECORDS, timeout);
        // SAFETY: live pointers; list and options are copied by the request, which is ours to destroy.
        unsafe {
            let mut request = sys::rd_kafka_DeleteRecords_new(below.ptr());
            sys::rd_kafka_DeleteRecords(self.ptr(), &raw mut request, 1, options.0, answers.ptr());
            sys::rd_kafka_DeleteRecords_destroy(request);
        }
    }

    pub(super) fn admin_options(&self, operation: sys::rd_kafka_admin_op_t, timeout: Duration) -> Options {
        let mut reason = ErrorText::new();
        // SAFETY: live pointers and the buffer's length; the options are ours. A timeout in this range is never refused.
        unsafe {
            let options = sys::rd_kafka_AdminOptions_new(self.ptr(), operation);
            sys::rd_kafka_AdminOptions_set_request_timeout(
                options,
                milliseconds(timeout),
                reason.as_mut_ptr(),
                ErrorText::LEN,
            );
            sys::rd_kafka_AdminOptions_set_operation_timeout(
                options,
                milliseconds(timeout),
                reason.as_mut_ptr(),
                ErrorText::LEN,
            );
            Options(options)
        }
    }
}

/// Options of an administrative request.
pub(super) struct Options(pub(super) *mut sys::rd_kafka_AdminOptions_t);

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: ours, and the last use.
        unsafe { sys::rd_kafka_AdminOptions_destroy(self.0) };
    }
}

/// Waits for the answer to an administrative request.
pub(super) fn answer(queue: &Queue, timeout: Duration, kind: EventKind) -> Result<Event, (Code, String)> {
    let timed_out = Code::of(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__TIMED_OUT);
    // librdkafka answers in its own time; the second that is added lets it say more than that time is up.
    let event = queue
        .poll(timeout + Duration::from_secs(1))
        .filter(|event| event.kind() == kind)
        .ok_or_else(|| (timed_out, timed_out.describe()))?;
    event.code().ok().map_err(|code| (code, event.describe()))?;
    Ok(event)
}

/// A topic or a broker whose settings are asked for.
struct Resource(NonNull<sys::rd_kafka_ConfigResource_t>);

impl Resource {
    fn of(kind: ResourceType, name: &str) -> Option<Self> {
        let name = c_string(name);
        // SAFETY: a live pointer, copied.
        NonNull::new(unsafe { sys::rd_kafka_ConfigResource_new(kind, name.as_ptr()) }).map(Self)
    }
}

impl Drop for Resource {
    fn drop(&mut self) {
        // SAFETY: ours, and the last use.
        unsafe { sys::rd_kafka_ConfigResource_destroy(self.0.as_ptr()) };
    }
}

fn topic_configs(event: &Event) -> Vec<TopicConfig> {
    let mut count = 0;
    // SAFETY: a live event of this kind, which owns the result and all that is in it; arrays are as long as they say.
    unsafe {
        let result = sys::rd_kafka_event_DescribeConfigs_result(event.ptr());
        let resources = sys::rd_kafka_DescribeConfigs_result_resources(result, &raw mut count);
        (0..count)
            .map(|index| {
                let resource = *resources.add(index);
                let code = Code(rd_kafka_ConfigResource_error(resource));
                let mut length = 0;
                let entries = sys::rd_kafka_ConfigResource_configs(resource, &raw mut length);
                TopicConfig {
                    name: text(sys::rd_kafka_ConfigResource_name(resource)),
                    error: code.is_error().then(|| (code, text(sys::rd_kafka_ConfigResource_error_string(resource)))),
                    entries: (0..length)
                        .map(|index| {
                            let entry = *entries.add(index);
                            (text(sys::rd_kafka_ConfigEntry_name(entry)), text(sys::rd_kafka_ConfigEntry_value(entry)))
                        })
                        .collect(),
                }
            })
            .collect()
    }
}

fn altered_offsets(event: &Event) -> Result<(), (Code, String)> {
    let mut count = 0;
    // SAFETY: a live event of this kind, which owns the result and all that is in it; arrays are as long as they say.
    unsafe {
        let result = sys::rd_kafka_event_AlterConsumerGroupOffsets_result(event.ptr());
        let groups = sys::rd_kafka_AlterConsumerGroupOffsets_result_groups(result, &raw mut count);
        for index in 0..count {
            let group = *groups.add(index);
            let error = sys::rd_kafka_group_result_error(group);
            if !error.is_null() {
                return Err((Code(rd_kafka_error_code(error)), text(sys::rd_kafka_error_string(error))));
            }
            let failed = elements(sys::rd_kafka_group_result_partitions(group)).find(|found| found.code.is_error());
            if let Some(found) = failed {
                let message = format!("{}/{}: {}", found.topic, found.partition, found.code.describe());
                return Err((found.code, message));
            }
        }
    }
    Ok(())
}

impl Event {
    /// The partitions of which records were to be removed.
    pub(crate) fn removed_records(&self) -> Vec<Removed> {
        if self.kind() != EventKind::RecordsRemoved {
            return Vec::new();
        }
        // SAFETY: a live event of this kind, which owns the result and the list in it.
        let removed = unsafe {
            let result = sys::rd_kafka_event_DeleteRecords_result(self.ptr());
            elements(sys::rd_kafka_DeleteRecords_result_offsets(result))
        };
        removed
            .map(|found| {
                let result = found.code.ok().map_err(|code| (code, code.describe()));
                (TopicPartition::new(found.topic, found.partition), result.map(|()| found.offset))
            })
            .collect()
    }
}

fn created_topics(event: &Event) -> Vec<CreatedTopic> {
    let mut count = 0;
    // SAFETY: a live event of this kind, which owns the result; its array is as long as it says.
    unsafe {
        let result = sys::rd_kafka_event_CreateTopics_result(event.ptr());
        let topics = sys::rd_kafka_CreateTopics_result_topics(result, &raw mut count);
        (0..count)
            .map(|index| {
                let topic = *topics.add(index);
                CreatedTopic {
                    name: text(sys::rd_kafka_topic_result_name(topic)),
                    code: Code(rd_kafka_topic_result_error(topic)),
                    message: text(sys::rd_kafka_topic_result_error_string(topic)),
                }
            })
            .collect()
    }
}

/// A topic to create, as librdkafka has it.
struct NewTopic(NonNull<sys::rd_kafka_NewTopic_t>);

impl NewTopic {
    fn new((name, partitions, properties): &TopicSpec<'_>) -> Result<Self, String> {
        const DEFAULT_REPLICATION: c_int = -1;
        let mut reason = ErrorText::new();
        let name = c_string(name);
        let partitions = c_int::try_from(*partitions).unwrap_or(c_int::MAX);
        // SAFETY: live pointers and the buffer's length.
        let topic = NonNull::new(unsafe {
            sys::rd_kafka_NewTopic_new(
                name.as_ptr(),
                partitions,
                DEFAULT_REPLICATION,
                reason.as_mut_ptr(),
                ErrorText::LEN,
            )
        })
        .map(Self)
        .ok_or_else(|| reason.to_string())?;
        for (property, value) in *properties {
            let (property, value) = (c_string(property), c_string(value));
            // SAFETY: live pointers, copied.
            unsafe { sys::rd_kafka_NewTopic_set_config(topic.0.as_ptr(), property.as_ptr(), value.as_ptr()) };
        }
        Ok(topic)
    }
}

impl Drop for NewTopic {
    fn drop(&mut self) {
        // SAFETY: ours, and the last use.
        unsafe { sys::rd_kafka_NewTopic_destroy(self.0.as_ptr()) };
    }
}

// The same functions as in the bindings, with the code as an integer.
unsafe extern "C" {
    fn rd_kafka_metadata(
        rk: *mut sys::rd_kafka_t,
        all_topics: c_int,
        only_topic: *mut sys::rd_kafka_topic_t,
        metadata: *mut *const sys::rd_kafka_metadata,
        timeout_ms: c_int,
    ) -> c_int;
    fn rd_kafka_topic_result_error(topic: *const sys::rd_kafka_topic_result_t) -> c_int;
    fn rd_kafka_error_code(error: *const sys::rd_kafka_error_t) -> c_int;
    fn rd_kafka_ConfigResource_error(resource: *const sys::rd_kafka_ConfigResource_t) -> c_int;
}
