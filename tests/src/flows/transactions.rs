//! The contract of a writer of transactions, on every log.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use pointsman_core::delivery::{Delivery, PartitionChoice, TopicId};
use pointsman_core::port::{Commit, Group, Log, Token, Transaction, TransactionError, Transactions, WriterPlan};
use pointsman_core::record::{Header, Headers, OwnedHeader, OwnedRecord, TopicPartition};

use crate::backend::Backend;
use crate::kafka::{Kafka, Sample};
use crate::wait;

/// How long a log may take to give what it has.
const DEADLINE: Duration = Duration::from_secs(60);

/// A log with three topics of two partitions each, and a tool that copies from the first to the second, keeps account in the
/// third, and commits in a group of its own.
pub struct Ledger {
    /// The log.
    pub log: Box<dyn Log>,
    /// Where the tool reads, to where it copies, and where it keeps account.
    pub topics: [String; 3],
    /// The tool's name: its group, and its id as a writer.
    pub tool: String,
}

impl Ledger {
    /// Makes the topics.
    ///
    /// # Errors
    /// When the log refuses it.
    pub fn new(backend: &Backend<'_>) -> anyhow::Result<Self> {
        let topics = ["read", "copied", "account"].map(Kafka::unique);
        for topic in &topics {
            backend.create_topic(topic, 2)?;
        }
        Ok(Self { log: backend.log()?, topics, tool: Kafka::unique("tool") })
    }

    /// How a writer of this tool is asked for.
    #[must_use]
    pub fn plan(&self) -> WriterPlan {
        WriterPlan::new(self.tool.as_str(), self.topics.iter().map(|topic| topic.as_str().into()).collect())
    }

    /// A writer of this tool.
    ///
    /// # Errors
    /// [`TransactionError`].
    pub fn writer(&self) -> Result<Box<dyn Transactions>, TransactionError> {
        self.log.transactional(self.plan())
    }

    /// Copies a record with this value, keeps account of it, and adds `offset` for both partitions that the tool reads.
    ///
    /// # Errors
    /// [`TransactionError`].
    pub fn write(&self, transaction: &mut dyn Transaction, value: &str, offset: i64) -> Result<(), TransactionError> {
        for topic in [1, 2] {
            transaction.produce(&delivery(topic, value.as_bytes()), Token(u64::from(topic)))?;
        }
        transaction.add_offsets(Group::Memberless(&self.tool), &self.commits(offset))
    }

    /// The same as a transaction of its own.
    ///
    /// # Errors
    /// [`TransactionError`].
    pub fn transact(&self, writer: &mut dyn Transactions, value: &str, offset: i64) -> Result<(), TransactionError> {
        let mut transaction = writer.begin()?;
        self.write(&mut *transaction, value, offset)?;
        transaction.commit()
    }

    fn partitions(&self, topic: usize) -> [TopicPartition; 2] {
        [0, 1].map(|partition| TopicPartition::new(self.topics[topic].as_str(), partition))
    }

    fn commits(&self, offset: i64) -> Vec<Commit> {
        let metadata = format!("up to {offset}");
        self.partitions(0)
            .into_iter()
            .map(|partition| Commit { partition, offset, metadata: metadata.clone() })
            .collect()
    }

    /// Fails unless these values, in this order, are what is there of copies and of account, and `offset` what is committed.
    ///
    /// # Errors
    /// When something else is there, or the log can't be read.
    pub fn expect(&self, values: &[&str], offset: Option<i64>) -> anyhow::Result<()> {
        self.expect_records(values)?;
        let found = self.log.committed(&self.tool, &self.partitions(0))?;
        let expected: Vec<_> = match offset {
            Some(offset) => self.commits(offset).into_iter().map(Some).collect(),
            None => vec![None, None],
        };
        ensure!(found == expected, "committed is {found:?}, not {expected:?}");
        Ok(())
    }

    /// How far the tool has come: `None` where it has committed nothing.
    ///
    /// # Errors
    /// When the log does not answer.
    pub fn committed(&self) -> anyhow::Result<Option<i64>> {
        let commits = self.log.committed(&self.tool, &self.partitions(0))?;
        Ok(commits.into_iter().flatten().map(|commit| commit.offset).min())
    }

    /// The records alone: Kafka does not tell commits while some are in an open transaction. What is committed may be seen a
    /// moment later there; what was aborted would stay.
    fn expect_records(&self, values: &[&str]) -> anyhow::Result<()> {
        for topic in [1, 2] {
            let mut last = Vec::new();
            let seen = wait::until_ok(&format!("{values:?} in {}", self.topics[topic]), DEADLINE, || {
                last = self.values(topic)?;
                Ok((last == values).then_some(()))
            });
            seen.with_context(|| format!("there is {last:?}"))?;
        }
        Ok(())
    }

    fn values(&self, topic: usize) -> anyhow::Result<Vec<String>> {
        let mut values = Vec::new();
        for partition in self.partitions(topic) {
            let found = read_to_end(&*self.log, &partition)?.into_iter().filter_map(|record| record.value);
            values.extend(found.map(|value| String::from_utf8_lossy(&value).into_owned()));
        }
        Ok(values)
    }
}

/// All to one partition, where their order can be seen.
fn delivery(topic: u32, value: &[u8]) -> Delivery<'_> {
    Delivery {
        topic: TopicId(topic),
        partition: PartitionChoice::Exactly(1),
        // An old one would have Kafka remove the record before it is looked at.
        timestamp_ms: -1,
        key: None,
        value: Some(value),
        headers: Headers::NONE,
        stamps: Headers::NONE,
    }
}

/// Reads a partition up to its end, wherever its records are.
///
/// # Errors
/// When the end is not reached in time.
pub fn read_to_end(log: &dyn Log, partition: &TopicPartition) -> anyhow::Result<Vec<OwnedRecord>> {
    let (first, end) = log.watermarks(partition)?;
    let mut feed = log.read(partition, first)?;
    let (mut next, mut records) = (first, Vec::new());
    wait::until_ok(&format!("the end of {partition}, which is {end}"), DEADLINE, || {
        while next < end
            && let Some(batch) = feed.fetch(100, 1 << 20)?
        {
            for record in (0..batch.len()).map(|index| batch.record(index)) {
                ensure!(record.offset >= next, "{partition} gives offset {} after {next}", record.offset);
                next = record.offset + 1;
                records.push(OwnedRecord::from(record));
            }
        }
        next = next.max(feed.position().unwrap_or(next));
        Ok((next >= end).then_some(()))
    })?;
    Ok(records)
}

/// What is in a transaction is seen at once when it is committed, as it was given.
///
/// # Errors
/// When that does not hold.
pub fn transactions_are_committed_whole(backend: &Backend<'_>) -> anyhow::Result<()> {
    let ledger = Ledger::new(backend)?;
    let mut writer = ledger.writer()?;
    ledger.expect(&[], None)?;
    let mut transaction = writer.begin()?;
    for (offset, value) in ["a", "b", "c"].into_iter().enumerate() {
        // The last offsets are those that count.
        ledger.write(&mut *transaction, value, i64::try_from(offset)?)?;
    }
    ledger.expect_records(&[])?;
    transaction.commit()?;
    ledger.expect(&["a", "b", "c"], Some(2))?;

    let headers = [Header { name: b"twice", value: None }, Header { name: b"twice", value: Some(b"\xff") }];
    let stamps = [OwnedHeader::text("stamp", "last")];
    let mut transaction = writer.begin()?;
    let timestamp_ms = i64::try_from(std::time::UNIX_EPOCH.elapsed()?.as_millis())? - 1000;
    let odd = Delivery {
        timestamp_ms,
        partition: PartitionChoice::ByKey,
        key: Some(b"key"),
        value: None,
        headers: Headers::Borrowed(&headers),
        stamps: Headers::Owned(&stamps),
        ..delivery(0, b"")
    };
    transaction.produce(&odd, Token(0))?;
    transaction.commit()?;
    let record = wait::until_ok("the odd record", DEADLINE, || {
        let [one, other] = ledger.partitions(0).map(|partition| read_to_end(&*ledger.log, &partition));
        Ok(one?.into_iter().chain(other?).next())
    })?;
    ensure!(record.key.as_deref() == Some(b"key") && record.value.is_none() && record.timestamp_ms == timestamp_ms);
    let names: Vec<_> = record.headers.iter().map(|header| (&*header.name, header.value.as_deref())).collect();
    ensure!(names == [(&b"twice"[..], None), (b"twice", Some(&b"\xff"[..])), (b"stamp", Some(b"last"))]);

    // A transaction in which nothing was done, and one of offsets alone.
    writer.begin()?.commit()?;
    let mut transaction = writer.begin()?;
    transaction.add_offsets(Group::Memberless(&ledger.tool), &ledger.commits(9))?;
    transaction.commit()?;
    drop(writer);
    ledger.expect(&["a", "b", "c"], Some(9))
}

/// An aborted transaction leaves nothing but gaps, and its writer goes on; also where one record was refused.
///
/// # Errors
/// When that does not hold.
pub fn transactions_are_aborted_whole(backend: &Backend<'_>) -> anyhow::Result<()> {
    let ledger = Ledger::new(backend)?;
    let mut writer = ledger.writer()?;
    let mut transaction = writer.begin()?;
    backend.sent(&ledger.topics[1..], || Ok(ledger.write(&mut *transaction, "aborted", 1)?))?;
    transaction.abort()?;
    ledger.expect(&[], None)?;

    ledger.transact(&mut *writer, "a", 2)?;
    let mut transaction = writer.begin()?;
    backend.sent(&ledger.topics[1..], || Ok(ledger.write(&mut *transaction, "dropped", 3)?))?;
    drop(transaction);
    ledger.expect(&["a"], Some(2))?;

    ledger.transact(&mut *writer, "b", 4)?;
    // Larger than any log takes a record, and larger than its client lets pass.
    let large = vec![b'x'; 2 << 20];
    let mut transaction = writer.begin()?;
    backend.sent(&ledger.topics[1..], || Ok(ledger.write(&mut *transaction, "beside a large one", 5)?))?;
    let error = transaction.produce(&delivery(1, &large), Token(77)).err().context("a refusal")?;
    ensure!(matches!(error, TransactionError::Refused { token: Token(77), .. }), "{error}");
    // It is over, whatever is tried.
    ensure!(transaction.produce(&delivery(1, b"late"), Token(78)).err().as_ref() == Some(&error));
    ensure!(transaction.commit().err() == Some(error));
    ledger.expect(&["a", "b"], Some(4))?;

    ledger.transact(&mut *writer, "c", 6)?;
    ledger.expect(&["a", "b", "c"], Some(6))?;
    // With an aborted one behind everything.
    let mut transaction = writer.begin()?;
    backend.sent(&ledger.topics[1..], || Ok(ledger.write(&mut *transaction, "last", 7)?))?;
    transaction.abort()?;
    ledger.expect(&["a", "b", "c"], Some(6))
}

/// The writer that was opened last is the only one: what another with its id has begun is gone, and it is told.
///
/// # Errors
/// When that does not hold.
pub fn a_second_writer_fences_the_first(backend: &Backend<'_>) -> anyhow::Result<()> {
    let ledger = Ledger::new(backend)?;
    let mut first = ledger.writer()?;
    ledger.transact(&mut *first, "a", 1)?;
    let mut transaction = first.begin()?;
    backend.sent(&ledger.topics[1..], || Ok(ledger.write(&mut *transaction, "overtaken", 2)?))?;

    let mut second = ledger.writer()?;
    ledger.transact(&mut *second, "b", 3)?;
    ledger.expect(&["a", "b"], Some(3))?;
    let error = transaction.commit().err().context("the first writer is not fenced")?;
    ensure!(matches!(error, TransactionError::Fenced { .. }), "{error}");
    let error = first.begin().err().context("a fenced writer begins another transaction")?;
    ensure!(matches!(error, TransactionError::Fenced { .. }), "{error}");
    drop(first);
    // The one that was fenced does not get in the way any more.
    ledger.transact(&mut *second, "c", 4)?;
    ledger.expect(&["a", "b", "c"], Some(4))
}

/// What can't be done so is said, and nothing is there of it.
///
/// # Errors
/// When that does not hold.
pub fn senseless_transactions_are_refused(backend: &Backend<'_>) -> anyhow::Result<()> {
    let ledger = Ledger::new(backend)?;
    let missing = WriterPlan::new("w", vec![Kafka::unique("missing").into()]);
    let error = ledger.log.transactional(missing).err().context("a topic that is not there is taken")?;
    ensure!(matches!(&error, TransactionError::Fatal { message, .. } if message.contains("missing")), "{error}");

    let mut writer = ledger.writer()?;
    let mut transaction = writer.begin()?;
    ledger.write(&mut *transaction, "a", 1)?;
    let error =
        transaction.add_offsets(Group::Memberless(&ledger.tool), &ledger.commits(-5)).err().context("refusal")?;
    ensure!(matches!(error, TransactionError::Fatal { .. }), "{error}");
    drop(transaction);
    ensure!(writer.begin().err() == Some(error), "the writer forgets what was wrong");

    let mut writer = ledger.writer()?;
    let (value, mut bytes) = (vec![b'x'; 1 << 19], 0);
    let capacity = writer.capacity_bytes();
    let mut transaction = writer.begin()?;
    let error = loop {
        match transaction.produce(&delivery(1, &value), Token(0)) {
            Ok(()) => bytes += value.len(),
            Err(error) => break error,
        }
        ensure!(bytes <= capacity, "a transaction has no bound");
    };
    ensure!(matches!(&error, TransactionError::Fatal { code, .. } if code == "transaction-too-large"), "{error}");
    drop(transaction);
    drop(writer);
    ledger.expect(&[], None)
}

/// Reading goes on past what was aborted, by readers and by a group's member alike.
///
/// # Errors
/// When that does not hold.
pub fn a_route_reads_past_what_was_aborted(backend: &Backend<'_>) -> anyhow::Result<()> {
    const COUNT: usize = 20;
    let ledger = Ledger::new(backend)?;
    let mut writer = ledger.writer()?;
    for number in 0..COUNT {
        let (mut transaction, value) = (writer.begin()?, number.to_string());
        backend.sent(&ledger.topics[..1], || Ok(transaction.produce(&delivery(0, value.as_bytes()), Token(0))?))?;
        if number % 3 == 0 { transaction.abort()? } else { transaction.commit()? }
    }
    drop(writer);
    let [from, to, _] = &ledger.topics;
    let folder = crate::places::Scratch::new("gaps-")?;
    let config = format!(
        r#"version = 1
[router]
name = "{from}"
{broker}
[[routes]]
name = "copy"
from = ["{from}"]
stages = []
[[routes.outputs]]
topic = "{to}"
partition = "same"
"#,
        broker = backend.broker(),
    );
    let kept: Vec<String> = (0..COUNT).filter(|number| number % 3 != 0).map(|number| number.to_string()).collect();
    for round in 1..=2 {
        let mut router = crate::router::Router::start(folder.path(), "copying", &config)?;
        router.wait_until_assigned()?;
        let seen = wait::until_ok("the copies", DEADLINE, || {
            router.check()?;
            Ok((ledger.values(1)?.len() >= kept.len() + round - 1).then_some(()))
        });
        let state = || format!("in run {round}; the end of its log:\n{}", router.log_tail());
        seen.with_context(state)?;
        router.stop_well()?;
        // The second run has nothing to repeat, and what comes now.
        backend.fill(from, [Sample { partition: Some(1), value: Some(b"more".into()), ..Sample::default() }])?;
    }
    let expected: Vec<_> = kept.into_iter().chain(["more".to_owned()]).collect();
    let copied = ledger.values(1)?;
    ensure!(copied == expected, "{copied:?} instead of {expected:?}");
    Ok(())
}
