//! The names that go with a topic of dead letters.

use std::sync::Arc;

/// Ends the names of topics that letters go to which were replayed too often.
pub const PARKING: &str = ".parking";

/// The topic that tells what was done about the letters of this one.
#[must_use]
pub fn audit_topic(topic: &str) -> Arc<str> {
    format!("{topic}.audit").into()
}

/// The topic for those letters of this one that were replayed too often.
#[must_use]
pub fn parking_topic(topic: &str) -> Arc<str> {
    format!("{topic}{PARKING}").into()
}

/// Who handles the letters of this topic, as a writer of transactions (Kafka's `transactional.id`): there is one at a time.
#[must_use]
pub fn writer_id(topic: &str) -> Arc<str> {
    format!("pointsman.handling.{topic}").into()
}
