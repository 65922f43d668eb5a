//! A log whose writers of transactions die.

use std::sync::{Arc, Mutex, PoisonError};

use pointsman_core::delivery::Delivery;
use pointsman_core::port::{
    Commit, Feed, Group, GroupPlan, LaneHost, Log, LogError, Membership, NewTopic, Reader, Sink, Token, TopicInfo,
    TopicSettings, Transaction, TransactionError, TransactionalSink, Transactions, Waker, WriterPlan,
};
use pointsman_core::record::TopicPartition;
use pointsman_embedded::EmbeddedLog;

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub(super) enum Strike {
    /// The process dies: nothing more is done.
    Death,
    /// The process dies at the next commit, which succeeds all the same.
    DeathBehindCommit,
    /// The transaction is aborted.
    Abort,
    /// What became of the transaction is not known: nothing.
    Doubt,
    /// What became of the transaction is not known: it was committed.
    DoubtBehindCommit,
}

impl Strike {
    pub(super) const ALL: [Self; 5] =
        [Self::Death, Self::DeathBehindCommit, Self::Abort, Self::Doubt, Self::DoubtBehindCommit];

    fn error(self) -> TransactionError {
        let (code, message) = ("struck".to_owned(), format!("{self:?}"));
        match self {
            Self::Death | Self::DeathBehindCommit => TransactionError::Fatal { code, message },
            Self::Abort => TransactionError::Aborted { code, message },
            Self::Doubt | Self::DoubtBehindCommit => TransactionError::Indeterminate { code, message },
        }
    }
}

/// Strikes to come: each after so many steps, the next to come last.
type Strikes = Arc<Mutex<Vec<(u32, Strike)>>>;

pub(super) struct Mortal<'a> {
    log: &'a EmbeddedLog,
    strikes: Strikes,
}

impl<'a> Mortal<'a> {
    pub(super) fn new(log: &'a EmbeddedLog, strikes: Vec<(u32, Strike)>) -> Self {
        Self { log, strikes: Arc::new(Mutex::new(strikes)) }
    }
}

/// What strikes at this step. Some strikes wait for a commit.
fn step(strikes: &Strikes, is_commit: bool) -> Option<Strike> {
    let mut strikes = strikes.lock().unwrap_or_else(PoisonError::into_inner);
    let (left, strike) = strikes.last_mut()?;
    if *left > 0 {
        *left -= 1;
        return None;
    }
    let waits = matches!(strike, Strike::DeathBehindCommit | Strike::DoubtBehindCommit) && !is_commit;
    if waits { None } else { strikes.pop().map(|(_, strike)| strike) }
}

struct Writer {
    inner: Box<dyn Transactions>,
    strikes: Strikes,
}

struct Open<'w> {
    inner: Box<dyn Transaction + 'w>,
    strikes: Strikes,
}

impl Transactions for Writer {
    fn capacity_bytes(&self) -> usize {
        self.inner.capacity_bytes()
    }

    fn begin(&mut self) -> Result<Box<dyn Transaction + '_>, TransactionError> {
        if let Some(strike) = step(&self.strikes, false) {
            return Err(strike.error());
        }
        Ok(Box::new(Open { inner: self.inner.begin()?, strikes: Arc::clone(&self.strikes) }))
    }
}

impl Transaction for Open<'_> {
    fn produce(&mut self, delivery: &Delivery<'_>, token: Token) -> Result<(), TransactionError> {
        match step(&self.strikes, false) {
            Some(strike) => Err(strike.error()),
            None => self.inner.produce(delivery, token),
        }
    }

    fn add_offsets(&mut self, group: Group<'_>, commits: &[Commit]) -> Result<(), TransactionError> {
        self.inner.add_offsets(group, commits)
    }

    fn commit(self: Box<Self>) -> Result<(), TransactionError> {
        match step(&self.strikes, true) {
            None => self.inner.commit(),
            Some(strike @ (Strike::DeathBehindCommit | Strike::DoubtBehindCommit)) => {
                self.inner.commit()?;
                Err(strike.error())
            }
            Some(strike) => Err(strike.error()),
        }
    }

    fn abort(self: Box<Self>) -> Result<(), TransactionError> {
        self.inner.abort()
    }
}

impl Log for Mortal<'_> {
    fn transactional_sink(&self, plan: WriterPlan, waker: Waker) -> Result<Box<dyn TransactionalSink>, LogError> {
        self.log.transactional_sink(plan, waker)
    }

    fn topics(&self, names: Option<&[Arc<str>]>) -> Result<Vec<TopicInfo>, LogError> {
        self.log.topics(names)
    }

    fn create_topics(&self, topics: &[NewTopic]) -> Result<(), LogError> {
        self.log.create_topics(topics)
    }

    fn settings(&self, topics: &[Arc<str>]) -> Result<Vec<TopicSettings>, LogError> {
        self.log.settings(topics)
    }

    fn watermarks(&self, partition: &TopicPartition) -> Result<(i64, i64), LogError> {
        self.log.watermarks(partition)
    }

    fn bounds(&self, partitions: &[TopicPartition]) -> Vec<Result<(i64, i64), LogError>> {
        self.log.bounds(partitions)
    }

    fn progress(&self, group: &str, partitions: Option<&[TopicPartition]>) -> Result<Vec<Commit>, LogError> {
        self.log.progress(group, partitions)
    }

    fn readers(&self, group: &str) -> Result<Option<Vec<Reader>>, LogError> {
        self.log.readers(group)
    }

    fn offset_at(&self, partition: &TopicPartition, timestamp_ms: i64) -> Result<i64, LogError> {
        self.log.offset_at(partition, timestamp_ms)
    }

    fn read(&self, partition: &TopicPartition, start: i64) -> Result<Box<dyn Feed>, LogError> {
        self.log.read(partition, start)
    }

    fn committed(&self, group: &str, partitions: &[TopicPartition]) -> Result<Vec<Option<Commit>>, LogError> {
        self.log.committed(group, partitions)
    }

    fn set_committed(&self, group: &str, commits: &[Commit]) -> Result<(), LogError> {
        self.log.set_committed(group, commits)
    }

    fn sink(&self, topics: &[Arc<str>], waker: Waker) -> Result<Box<dyn Sink>, LogError> {
        self.log.sink(topics, waker)
    }

    fn transactional(&self, plan: WriterPlan) -> Result<Box<dyn Transactions>, TransactionError> {
        if let Some(strike) = step(&self.strikes, false) {
            // Nobody has begun anything that could be in doubt.
            let error = strike.error();
            return Err(if error.is_recoverable() { error } else { Strike::Death.error() });
        }
        Ok(Box::new(Writer { inner: self.log.transactional(plan)?, strikes: Arc::clone(&self.strikes) }))
    }

    fn join(&self, group: GroupPlan, host: Arc<dyn LaneHost>) -> Result<Box<dyn Membership>, LogError> {
        self.log.join(group, host)
    }
}
