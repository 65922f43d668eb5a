//! Writing what is done about letters, together with its account.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota};
use pointsman_config::dead_letters::{audit_topic, parking_topic, writer_id};
use pointsman_config::document::topic_fault;
use pointsman_core::delivery::{Delivery, PartitionChoice, TopicId};
use pointsman_core::port::{NewTopic, Token, Transaction, TransactionError, Transactions, WriterPlan};
use pointsman_core::record::Headers;

use super::audit::AuditRecord;
use super::handle::{HandleError, Handling, Order, Outcome, Report, Site, Verb};
use super::handled::Handled;
use super::letter::Place;
use super::topic::Topic;
use crate::record_text::RecordLine;

/// Bytes of one transaction from which on it takes no more.
const MAX_BYTES: usize = 2 << 20;
/// So long letters are collected for one transaction.
const COLLECT: Duration = Duration::from_secs(1);
/// How often the same is tried in a row.
const TRIES: u32 = 5;
/// How long to wait before the first time; twice as long before each that follows.
const PAUSE: Duration = Duration::from_millis(50);
/// How soon an order to stop is noticed.
const LOOK: Duration = Duration::from_millis(100);

/// One letter, and what is done with it.
pub(super) struct Item {
    pub(super) handling: Handling,
    /// The account of it; `None` where nothing is to be written (any more).
    pub(super) audit: Option<AuditRecord>,
}

impl Item {
    fn record(&self) -> Option<&RecordLine> {
        match &self.handling.outcome {
            Outcome::Replayed(record) | Outcome::Parked(record) => Some(record),
            Outcome::Discarded | Outcome::LeftAlone(_) | Outcome::Failed(_) => None,
        }
    }

    fn bytes(&self) -> usize {
        self.record().map_or(0, |record| record.delivery(TopicId(0)).rough_bytes()) + 512
    }
}

/// Writes for the letters of one topic.
pub(super) struct Writing<'a> {
    site: &'a Site<'a>,
    order: &'a Order,
    letters: &'a Topic,
    /// What was handled before, and since.
    pub(super) handled: Handled,
    /// The topics that the writer can write to.
    names: Vec<Arc<str>>,
    /// `None` where one is to be opened first.
    writer: Option<Box<dyn Transactions>>,
    batch: Vec<Item>,
    bytes: usize,
    since: Instant,
    limit: Option<(DefaultDirectRateLimiter, usize)>,
}

impl<'a> Writing<'a> {
    /// Sees that the topics for it are there, and keep what they are given.
    pub(super) fn prepare(
        site: &'a Site<'a>,
        letters: &'a Topic,
        order: &'a Order,
        note: &dyn Fn(&str),
    ) -> Result<Self, HandleError> {
        let mut names = vec![audit_topic(&letters.name)];
        if matches!(order.verb, Verb::Replay(_)) {
            names.push(parking_topic(&letters.name));
        }
        for name in &names {
            prepare(site, letters, name, order.dry_run, note)?;
        }
        names.truncate(1);
        let limit = order.rate.map(|rate| {
            // Four transactions a second, rather than one for each letter.
            let chunk = NonZeroU32::new(rate.get() / 4).unwrap_or(NonZeroU32::MIN);
            let bucket = DefaultDirectRateLimiter::direct(Quota::per_second(rate).allow_burst(chunk));
            (bucket, chunk.get() as usize)
        });
        let (handled, since) = (Handled::default(), Instant::now());
        Ok(Self { site, order, letters, handled, names, writer: None, batch: Vec::new(), bytes: 0, since, limit })
    }

    /// Opens a writer for these topics, as far as they are there, and looks what was handled. A dry run looks only.
    pub(super) fn begin(&mut self, topics: Vec<Arc<str>>, note: &dyn Fn(&str)) -> Result<(), HandleError> {
        let found = Topic::look_up(self.site.log, &topics)?;
        self.names.extend(found.iter().map(|topic| Arc::clone(&topic.name)));
        self.names.dedup();
        for topic in found.iter().filter(|topic| topic.settings.as_ref().is_some_and(|settings| settings.compacted)) {
            note(&format!(
                "note: {} is compacted: what is replayed there takes the place of later records of its key",
                topic.name
            ));
        }
        self.open(note)?;
        if let Some((place, why)) = &self.handled.first_stranger {
            let count = self.handled.strangers;
            note(&format!(
                "note: records in the audit topic that tell of no letter: {count}; the first is {place}: {why}"
            ));
        }
        Ok(())
    }

    /// How many letters are to be done.
    pub(super) fn pending(&self) -> u64 {
        self.batch.iter().filter(|item| item.audit.is_some()).count() as u64
    }

    pub(super) fn push(&mut self, item: Item) {
        if self.batch.is_empty() {
            self.since = Instant::now();
        }
        self.bytes += item.bytes();
        self.batch.push(item);
    }

    /// Whether it is time to write.
    pub(super) fn is_full(&self) -> bool {
        let most = self.limit.as_ref().map_or(usize::MAX, |(_, chunk)| *chunk).min(self.order.batch.get());
        self.batch.len() >= most || self.bytes >= MAX_BYTES || self.since.elapsed() >= COLLECT
    }

    /// Does what was collected.
    pub(super) fn flush(
        &mut self,
        report: &mut Report,
        see: &mut dyn FnMut(&Handling),
        note: &dyn Fn(&str),
    ) -> Result<(), HandleError> {
        self.bytes = 0;
        if !self.order.dry_run {
            self.pace()?;
            self.write(report, note)?;
        }
        for Item { handling, .. } in self.batch.drain(..) {
            report.count(&handling);
            see(&handling);
        }
        Ok(())
    }

    /// Waits for the rate limit.
    fn pace(&self) -> Result<(), HandleError> {
        let Some((bucket, _)) = &self.limit else { return Ok(()) };
        let Some(cells) = u32::try_from(self.pending()).ok().and_then(NonZeroU32::new) else { return Ok(()) };
        // The outer error says that the bucket is smaller than the batch, which `is_full` rules out.
        while let Ok(Err(until)) = bucket.check_n(cells) {
            wait(self.site, until.wait_time_from(DefaultClock::default().now()).min(LOOK))?;
        }
        Ok(())
    }

    /// Writes the batch, in one transaction, or in several where the log refuses some of it.
    fn write(&mut self, report: &mut Report, note: &dyn Fn(&str)) -> Result<(), HandleError> {
        let mut tries = 0;
        while self.pending() > 0 {
            self.need_topics();
            if self.writer.is_none() {
                self.open(note)?;
                self.leave_out(report);
                continue;
            }
            let Err(error) = self.transact() else { break };
            tries += 1;
            match error {
                TransactionError::Refused { token: Token(index), code, message } => {
                    tries = 0;
                    if let Some(item) = usize::try_from(index).ok().and_then(|index| self.batch.get_mut(index)) {
                        item.audit = None;
                        item.handling.outcome = Outcome::Failed(format!("{message} ({code})"));
                    }
                }
                error @ (TransactionError::Aborted { .. } | TransactionError::Indeterminate { .. })
                    if tries < TRIES =>
                {
                    note(&format!("{error}; trying again"));
                    if !error.is_recoverable() {
                        self.writer = None;
                    }
                    wait(self.site, PAUSE * 2_u32.pow(tries))?;
                }
                error => return Err(error.into()),
            }
        }
        for audit in self.batch.iter().filter_map(|item| item.audit.as_ref()) {
            self.handled.insert(&audit.letter, audit.written);
        }
        Ok(())
    }

    /// Topics that the writer was not opened for take another writer.
    fn need_topics(&mut self) {
        let wanted =
            self.batch.iter().filter(|item| item.audit.is_some()).filter_map(|item| item.record()?.topic.as_deref());
        let missing: HashSet<Arc<str>> =
            wanted.filter(|topic| !self.names.iter().any(|name| &**name == *topic)).map(Arc::from).collect();
        if !missing.is_empty() {
            self.names.extend(missing);
            self.writer = None;
        }
    }

    /// Opens a writer, which decides what became of the transactions of the one before it, and then looks what was handled.
    fn open(&mut self, note: &dyn Fn(&str)) -> Result<(), HandleError> {
        self.writer = None;
        if !self.order.dry_run {
            self.writer = Some(open_writer(self.site, &self.letters.name, &self.names, note)?);
        }
        let mine: HashSet<Place> =
            self.batch.iter().filter_map(|item| Some(item.audit.as_ref()?.letter.clone())).collect();
        let mut done = HashSet::new();
        let mut see = |record: AuditRecord| {
            if record.run == self.order.signature.run && mine.contains(&record.letter) {
                done.insert(record.letter);
            }
        };
        let topics = std::slice::from_ref(self.letters);
        self.handled =
            Handled::read(self.site.log, topics, &mut see, self.site.stop, self.site.progress, &mut |text| note(text))?;
        self.handled.sound()?;
        for item in &mut self.batch {
            if item.audit.as_ref().is_some_and(|audit| done.contains(&audit.letter)) {
                item.audit = None;
            }
        }
        Ok(())
    }

    /// Lets go of what another run has handled meanwhile.
    fn leave_out(&mut self, report: &mut Report) {
        let before = self.batch.len();
        let handled = &self.handled;
        self.batch.retain(|item| item.audit.as_ref().is_none_or(|audit| !handled.contains(&audit.letter)));
        report.handled_meanwhile += (before - self.batch.len()) as u64;
    }

    fn transact(&mut self) -> Result<(), TransactionError> {
        let Self { writer: Some(writer), batch, names, .. } = self else { return Ok(()) };
        let mut transaction = writer.begin()?;
        for (item, token) in batch.iter().zip(0..).filter(|(item, _)| item.audit.is_some()) {
            produce(&mut *transaction, item, Token(token), names)?;
        }
        transaction.commit()
    }
}

/// Opens the writer of all that is done about the letters of one topic, which ends the one before it.
pub(super) fn open_writer(
    site: &Site<'_>,
    letters: &str,
    names: &[Arc<str>],
    note: &dyn Fn(&str),
) -> Result<Box<dyn Transactions>, HandleError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match site.log.transactional(WriterPlan::new(writer_id(letters), names.to_vec())) {
            Err(error @ TransactionError::Aborted { .. }) if tries < TRIES => {
                note(&format!("{error}; trying again"));
                wait(site, PAUSE * 2_u32.pow(tries))?;
            }
            ended => return Ok(ended?),
        }
    }
}

fn wait(site: &Site<'_>, time: Duration) -> Result<(), HandleError> {
    let end = Instant::now() + time;
    loop {
        if (site.stop)() {
            return Err(HandleError::Stopped);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::park_timeout(left.min(LOOK));
    }
}

/// Adds what is written for one letter.
fn produce(
    transaction: &mut dyn Transaction,
    item: &Item,
    token: Token,
    names: &[Arc<str>],
) -> Result<(), TransactionError> {
    let impossible = |message: String| TransactionError::Fatal { code: "account".into(), message };
    if let Some(record) = item.record() {
        let index = names.iter().position(|name| Some(&**name) == record.topic.as_deref());
        let index = index.and_then(|index| u32::try_from(index).ok());
        let index = index.ok_or_else(|| impossible(format!("the writer was not opened for {:?}", record.topic)))?;
        transaction.produce(&record.delivery(TopicId(index)), token)?;
    }
    let Some(audit) = &item.audit else { return Ok(()) };
    let (key, value) = audit.encode().map_err(|error| impossible(error.to_string()))?;
    let account = Delivery {
        topic: TopicId(0),
        partition: PartitionChoice::Exactly(audit.letter.partition.partition),
        timestamp_ms: -1,
        key: Some(&key),
        value: Some(&value),
        headers: Headers::NONE,
        stamps: Headers::NONE,
    };
    transaction.produce(&account, token)
}

/// Makes the audit or parking topic of `letters`, or checks the one there is.
pub(super) fn prepare(
    site: &Site<'_>,
    letters: &Topic,
    name: &Arc<str>,
    dry_run: bool,
    note: &dyn Fn(&str),
) -> Result<(), HandleError> {
    if let Some(fault) = topic_fault(name) {
        return Err(HandleError::Unfit(format!(
            "{} needs a topic {name}, which there can't be: {fault}. Give the dead letters a topic with a shorter name",
            letters.name
        )));
    }
    let found = Topic::look_up(site.log, std::slice::from_ref(name))?.into_iter().next();
    let Some(found) = found else {
        if !dry_run {
            let retention = letters.settings.as_ref().and_then(|settings| settings.retention);
            let new = NewTopic { name: Arc::clone(name), partitions: letters.partitions, retention };
            site.log.create_topics(&[new])?;
            note(&format!("note: topic {name} was made"));
        }
        return Ok(());
    };
    if let Some(fault) = fault(letters, &found) {
        return Err(HandleError::Unfit(fault));
    }
    if found.settings.is_none() {
        note(&format!(
            "note: whether {name} keeps its records is not known: that takes the right DescribeConfigs on the topic"
        ));
    }
    Ok(())
}

/// What is wrong with an audit or parking topic.
fn fault(letters: &Topic, found: &Topic) -> Option<String> {
    let (name, wanted) = (&found.name, letters.partitions);
    if found.partitions < wanted {
        return Some(format!(
            "{name} has {} partitions, and {} has {wanted}: add some (kafka-topics.sh --alter --topic {name} --partitions {wanted})",
            found.partitions, letters.name
        ));
    }
    let settings = found.settings.as_ref()?;
    let kept = letters.settings.as_ref().map(|settings| settings.retention);
    let is_shorter = match (settings.retention, kept) {
        (None, _) | (_, None) => false,
        (Some(_), Some(None)) => true,
        (Some(own), Some(Some(kept))) => own < kept,
    };
    let (fault, setting) = if settings.compacted {
        ("is compacted, so that its records don't stay", "cleanup.policy=delete".to_owned())
    } else if settings.retention_bytes.is_some() {
        ("keeps so many bytes only, so that its records may go before their time", "retention.bytes=-1".to_owned())
    } else if is_shorter {
        let kept = kept.flatten().map_or("-1".to_owned(), |kept| kept.as_millis().to_string());
        ("does not keep its records as long as the letters are kept", format!("retention.ms={kept}"))
    } else {
        return None;
    };
    Some(format!(
        "{name} {fault}: change that (kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config {setting})"
    ))
}
