//! The log as the router sees it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use pointsman_core::port::{
    Commit, Feed, GroupPlan, LaneHost, Log, LogError, Membership, NewTopic, Reader, Sink, TopicInfo, TopicSettings,
    TransactionError, TransactionalSink, Transactions, Waker, WriterPlan,
};
use pointsman_core::record::TopicPartition;
use tracing::warn;

use crate::catalog::{self, Partition};
use crate::database::Database;
use crate::feed::PageFeed;
use crate::lease;
use crate::member::Member;
use crate::offsets;
use crate::open::{self, OpenError};
use crate::options::Options;
use crate::owner::Owner;
use crate::retention;
use crate::sink::GroupSink;
use crate::together::TogetherSink;
use crate::transactions::Writer;
use crate::watch::Watches;

/// An open embedded log. Feeds, sinks and memberships that came from it may outlive it.
pub struct EmbeddedLog {
    shared: Arc<Shared>,
}

/// What all parts of one open log have in common.
pub(crate) struct Shared {
    pub(crate) database: Arc<Database>,
    pub(crate) watches: Arc<Watches>,
    watcher: Mutex<Option<JoinHandle<()>>>,
}

impl EmbeddedLog {
    /// Opens the log in `directory`, and makes directory and log where there are none. Several processes may have it
    /// open at a time, and so may one process have it open twice.
    ///
    /// # Errors
    /// [`OpenError`]: another program's file, another format, a damaged file, a directory that can't be used.
    pub fn open(directory: &Path, options: Options) -> Result<Self, OpenError> {
        let database = Arc::new(open::open(directory, options)?);
        // A full disk must not keep anybody from reading.
        if let Err(fault) = retention::step(&database, database.now_ms()) {
            warn!(file = %database.file().display(), %fault, "can't enforce retention; it is tried again later");
        }
        let watches = Arc::new(Watches::default());
        let watcher = watches
            .start(&database)
            .map_err(|cause| OpenError::Directory { path: database.file().to_owned(), cause })?;
        Ok(Self { shared: Arc::new(Shared { database, watches, watcher: Mutex::new(Some(watcher)) }) })
    }

    /// Gives a topic more partitions, up to `partitions` in all; one that has as many keeps them. Records that are there
    /// stay where they are, and the keys of new ones are spread over all partitions. A group that reads the topic
    /// takes the new partitions on by itself.
    ///
    /// # Errors
    /// [`LogError`]: no such topic, or it can't be written.
    pub fn grow_topic(&self, topic: &str, partitions: u32) -> Result<(), LogError> {
        let grown = self.shared.database.write(|transaction| catalog::grow(transaction, topic, partitions));
        grown.map_err(|fault| fault.to_log_error(format!("can't give topic {topic} {partitions} partitions")))
    }

    /// Removes every record that is older at `now_ms` (milliseconds since 1970-01-01 UTC) than its topic keeps, but for
    /// those in one segment of 1024 offsets with a younger one. It is done by itself, some at [`open`](Self::open) and
    /// the rest while a group is joined; this does all of it at once.
    ///
    /// # Errors
    /// [`LogError`]; some may have been removed.
    pub fn enforce_retention(&self, now_ms: i64) -> Result<(), LogError> {
        retention::enforce(&self.shared.database, now_ms)
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn partition(&self, name: &TopicPartition, what: &str) -> Result<Partition, LogError> {
        let what = || format!("can't {what} {name}");
        let found = self.shared.database.read(|snapshot| catalog::partition(snapshot, name));
        found.map_err(|fault| fault.to_log_error(what()))?.ok_or_else(|| LogError {
            what: what(),
            code: "unknown-partition".into(),
            message: "the log has no such topic and partition; `topics` lists those it has".into(),
        })
    }
}

impl Log for EmbeddedLog {
    fn topics(&self, names: Option<&[Arc<str>]>) -> Result<Vec<TopicInfo>, LogError> {
        let mut topics = self
            .shared
            .database
            .read(catalog::topics)
            .map_err(|fault| fault.to_log_error(format!("can't list topics of {}", self.shared.file())))?;
        if let Some(names) = names {
            topics.retain(|topic| names.contains(&topic.name));
        }
        Ok(topics)
    }

    fn create_topics(&self, topics: &[NewTopic]) -> Result<(), LogError> {
        for topic in topics {
            let created = self.shared.database.write(|transaction| catalog::create(transaction, topic));
            created.map_err(|fault| fault.to_log_error(format!("can't create topic {:?}", topic.name)))?;
        }
        Ok(())
    }

    fn settings(&self, topics: &[Arc<str>]) -> Result<Vec<TopicSettings>, LogError> {
        let settings = |topic: &Arc<str>| {
            let what = || format!("can't look up the settings of {topic}");
            let found = self.shared.database.read(|snapshot| catalog::retention(snapshot, topic));
            let retention = found.map_err(|fault| fault.to_log_error(what()))?.ok_or_else(|| LogError {
                what: what(),
                code: "unknown-topic".into(),
                message: "the log has no such topic; `topics` lists those it has".into(),
            })?;
            Ok(TopicSettings { retention, retention_bytes: None, compacted: false, max_batch_bytes: None })
        };
        topics.iter().map(settings).collect()
    }

    fn watermarks(&self, partition: &TopicPartition) -> Result<(i64, i64), LogError> {
        let found = self.partition(partition, "look up the offsets of")?;
        Ok((found.first, found.next))
    }

    fn bounds(&self, partitions: &[TopicPartition]) -> Vec<Result<(i64, i64), LogError>> {
        partitions.iter().map(|partition| self.watermarks(partition)).collect()
    }

    fn offset_at(&self, partition: &TopicPartition, timestamp_ms: i64) -> Result<i64, LogError> {
        const WHAT: &str = "look up a time in";
        let found = self.partition(partition, WHAT)?;
        self.shared
            .database
            .read(|snapshot| {
                // In the snapshot of the lookup: retention may have moved the first offset.
                let (first, next) = catalog::bounds(snapshot, found.id)?.unwrap_or((found.next, found.next));
                catalog::offset_at(snapshot, Partition { id: found.id, first, next }, timestamp_ms)
            })
            .map_err(|fault| fault.to_log_error(format!("can't {WHAT} {partition}")))
    }

    fn read(&self, partition: &TopicPartition, start: i64) -> Result<Box<dyn Feed>, LogError> {
        let found = self.partition(partition, "read")?;
        Ok(Box::new(PageFeed::new(Arc::clone(&self.shared), partition.clone(), found.id, start)))
    }

    fn committed(&self, group: &str, partitions: &[TopicPartition]) -> Result<Vec<Option<Commit>>, LogError> {
        self.shared
            .database
            .read(|snapshot| {
                partitions.iter().map(|partition| offsets::committed(snapshot, group, partition)).collect()
            })
            .map_err(|fault| fault.to_log_error(format!("can't read what group {group} has committed")))
    }

    fn progress(&self, group: &str, partitions: Option<&[TopicPartition]>) -> Result<Vec<Commit>, LogError> {
        let found = self.shared.database.read(|snapshot| match partitions {
            None => offsets::all(snapshot, group),
            Some(partitions) => {
                let each = partitions.iter().map(|partition| offsets::committed(snapshot, group, partition));
                each.filter_map(Result::transpose).collect()
            }
        });
        found.map_err(|fault| fault.to_log_error(format!("can't read what group {group} has committed")))
    }

    /// The process that holds the lease.
    fn readers(&self, group: &str) -> Result<Option<Vec<Reader>>, LogError> {
        let database = &self.shared.database;
        let found = database.read(|snapshot| lease::holder(snapshot, group, &Owner::current(), database.now_ms()));
        let holder = found.map_err(|fault| fault.to_log_error(format!("can't look up who holds the group {group}")))?;
        Ok(Some(holder.into_iter().map(|(name, _)| Reader { name, partitions: None }).collect()))
    }

    fn set_committed(&self, group: &str, commits: &[Commit]) -> Result<(), LogError> {
        let what = || format!("can't set what group {group} has committed");
        let refused = |code: &str, message: String| LogError { what: what(), code: code.into(), message };
        if let Some((commit, reason)) =
            commits.iter().find_map(|commit| offsets::objection(commit).map(|reason| (commit, reason)))
        {
            return Err(refused("invalid-commit", format!("{}: {reason}", commit.partition)));
        }
        let database = &self.shared.database;
        let written = database.write(|transaction| {
            // Given up before the transaction ends. A member whose lease has run out is fenced by it, and can't undo this.
            let (now_ms, length) = (database.now_ms(), database.options().lease);
            let lease = match lease::acquire(transaction, group, &Owner::current(), now_ms, length)? {
                Ok(lease) => lease,
                Err(held) => return Ok(Err(refused("lease-held", held.to_string()))),
            };
            lease.release(transaction)?;
            let mut found = Vec::with_capacity(commits.len());
            for commit in commits {
                let Some(partition) = catalog::partition(transaction, &commit.partition)? else {
                    return Ok(Err(refused("unknown-partition", format!("there is no {}", commit.partition))));
                };
                found.push((partition.id, commit));
            }
            for (partition, commit) in found {
                offsets::store(transaction, lease.group, partition, commit.offset, &commit.metadata)?;
            }
            Ok(Ok(()))
        });
        written.map_err(|fault| fault.to_log_error(what()))?
    }

    fn sink(&self, topics: &[Arc<str>], waker: Waker) -> Result<Box<dyn Sink>, LogError> {
        Ok(Box::new(GroupSink::new(Arc::clone(&self.shared), topics, waker)))
    }

    fn transactional_sink(&self, plan: WriterPlan, waker: Waker) -> Result<Box<dyn TransactionalSink>, LogError> {
        Ok(Box::new(TogetherSink::new(Arc::clone(&self.shared), plan, waker)))
    }

    fn transactional(&self, plan: WriterPlan) -> Result<Box<dyn Transactions>, TransactionError> {
        Ok(Box::new(Writer::open(Arc::clone(&self.shared), plan)?))
    }

    fn join(&self, group: GroupPlan, host: Arc<dyn LaneHost>) -> Result<Box<dyn Membership>, LogError> {
        Ok(Box::new(Member::join(Arc::clone(&self.shared), group, host)?))
    }
}

impl Shared {
    pub(crate) fn file(&self) -> impl std::fmt::Display {
        self.database.file().display()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.watches.stop();
        let watcher = self.watcher.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // A waker may own the last feed of the log, and be dropped on the watcher itself.
        if let Some(watcher) = watcher.filter(|watcher| watcher.thread().id() != thread::current().id())
            && watcher.join().is_err()
        {
            warn!("the thread that watches the log for other writers panicked");
        }
    }
}
