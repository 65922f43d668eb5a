//! Groups, as somebody sees them who only looks.

use crate::record::TopicPartition;

/// Somebody who reads for a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reader {
    /// Who it is, for people: `client id @ host` on Kafka, the process that holds the lease on the embedded log.
    pub name: String,
    /// The partitions that it was given by its group; `None` where it has all that the group reads. (A retry partition follows its
    /// source partition, and is not among them.)
    pub partitions: Option<Vec<TopicPartition>>,
}
