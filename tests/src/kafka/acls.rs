//! Access control lists of topics.

use std::ffi::{CStr, CString};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka_sys as sys;

use super::Kafka;

/// How long the broker may take.
const WITHIN: Duration = Duration::from_secs(30);

impl Kafka {
    /// Lets `principal` see the topic, and do nothing else with it. Where everybody may do everything with what has no list, nobody else
    /// may do anything with this topic from now on.
    ///
    /// # Errors
    /// What the client library says.
    pub fn let_see_only(&self, topic: &str, principal: &str) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        let client = admin.inner().native_ptr();
        let [topic, principal, host] = [topic, principal, "*"].map(CString::new);
        let (topic, principal, host) = (topic?, principal?, host?);
        let mut why = [0; 256];
        // SAFETY: live texts and a buffer of its size; the list is ours, and is copied by the request. The queue and the event are ours.
        let error = unsafe {
            let mut list = sys::rd_kafka_AclBinding_new(
                sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC,
                topic.as_ptr(),
                sys::rd_kafka_ResourcePatternType_t::RD_KAFKA_RESOURCE_PATTERN_LITERAL,
                principal.as_ptr(),
                host.as_ptr(),
                sys::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_DESCRIBE,
                sys::rd_kafka_AclPermissionType_t::RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW,
                why.as_mut_ptr(),
                why.len(),
            );
            ensure!(!list.is_null(), "{}", CStr::from_ptr(why.as_ptr()).to_string_lossy());
            let queue = sys::rd_kafka_queue_new(client);
            sys::rd_kafka_CreateAcls(client, &raw mut list, 1, std::ptr::null(), queue);
            let event = sys::rd_kafka_queue_poll(queue, i32::try_from(WITHIN.as_millis())?);
            let error = (!event.is_null()).then(|| sys::rd_kafka_event_error(event));
            if !event.is_null() {
                sys::rd_kafka_event_destroy(event);
            }
            sys::rd_kafka_queue_destroy(queue);
            sys::rd_kafka_AclBinding_destroy(list);
            error
        };
        let error = error.context("the broker does not answer")?;
        ensure!(error == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR, "{error:?}");
        Ok(())
    }
}
