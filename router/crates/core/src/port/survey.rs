//! What a log says of itself, for `pointsman doctor`: nothing is changed by asking, and nothing is judged here.
//!
//! Each part that can't be had says why, and keeps no other from being there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::{LogError, TopicInfo, TopicSettings};

/// A part of the answer, or why it is not there.
pub type Said<T> = Result<T, LogError>;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Topics.
    pub topics: Vec<Arc<str>>,
    /// Consumer groups.
    pub groups: Vec<Arc<str>>,
}

/// A Kafka cluster.
#[derive(Clone, Debug)]
pub struct ClusterSurvey {
    /// The brokers that the cluster says it has; an error where no broker answers at all.
    pub brokers: Said<Vec<BrokerSurvey>>,
    /// The topics that were asked for; `None` for one that is not there.
    pub topics: BTreeMap<Arc<str>, Said<Option<TopicSurvey>>>,
    /// The groups that were asked for; `None` for one that the cluster does not know.
    pub groups: BTreeMap<Arc<str>, Said<Option<GroupSurvey>>>,
}

/// One broker.
#[derive(Clone, Debug)]
pub struct BrokerSurvey {
    /// Its number.
    pub id: i32,
    /// `host:port`, as it advertises itself.
    pub address: String,
    /// Its settings, asked of itself: so an error tells, too, whether it can be reached.
    pub settings: Said<BTreeMap<String, String>>,
    /// Whether that error says that it did not answer.
    pub is_silent: bool,
    /// The requests that it takes (Kafka's API keys), and the latest version of each; `None` where that is not known.
    pub requests: Option<BTreeMap<i16, i16>>,
}

/// One topic.
#[derive(Clone, Debug)]
pub struct TopicSurvey {
    /// How many partitions it has.
    pub partitions: u32,
    /// Of the partition that has the fewest, how many brokers are to have it.
    pub replicas: u32,
    /// Of the partition that has the fewest, how many brokers do have it.
    pub in_sync: u32,
    /// Partitions that can't be read or written now.
    pub leaderless: u32,
    /// What may be done with it by whoever asks; `None` where the cluster does not tell.
    pub rights: Option<BTreeSet<Right>>,
    /// What it does with its records.
    pub settings: Said<TopicSettings>,
    /// How many brokers must have a record before it counts as written (`min.insync.replicas`), where that is known.
    pub min_in_sync: Option<u32>,
}

/// One consumer group.
#[derive(Clone, Debug)]
pub struct GroupSurvey {
    /// Its members.
    pub members: Vec<MemberSurvey>,
    /// How they share partitions (`cooperative-sticky`); empty while there are none.
    pub assignor: String,
    /// What may be done with it by whoever asks; `None` where the cluster does not tell.
    pub rights: Option<BTreeSet<Right>>,
}

/// One member of a group.
#[derive(Clone, Debug)]
pub struct MemberSurvey {
    /// Its `client.id`.
    pub client_id: String,
    /// Where it is.
    pub host: String,
}

/// What Kafka may allow to be done with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "they are Kafka's own names")]
pub enum Right {
    Read,
    Write,
    Create,
    Delete,
    Alter,
    Describe,
    ClusterAction,
    DescribeConfigs,
    AlterConfigs,
    IdempotentWrite,
}

/// The file of an embedded log.
#[derive(Clone, Debug)]
pub struct FileSurvey {
    /// The file.
    pub file: PathBuf,
    /// Its size and that of its write-ahead log, in bytes.
    pub bytes: u64,
    /// What SQLite finds wrong with it; empty where it is sound.
    pub damage: Vec<String>,
    /// Its topics.
    pub topics: Vec<TopicInfo>,
    /// Who holds which group, for people.
    pub holders: Vec<(String, String)>,
}
