//! Every librdkafka property that we rely on, written out, with why: also where it is librdkafka's default today.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use pointsman_core::port::{ClientRole, GroupPlan, LogError, WriterPlan};

use crate::statistics::{INTERVAL_MS, Statistics};

/// How to reach the cluster, and the bounds of what is held in memory.
#[derive(Clone)]
pub struct KafkaSettings {
    /// `host:port` of some brokers, separated by commas.
    pub bootstrap: String,
    /// Further librdkafka properties, such as those of TLS and SASL. They go over our own, but for [`OWNED`], which are
    /// refused.
    pub properties: BTreeMap<String, String>,
    /// The name that brokers see in their logs and quotas; the clients' own roles are appended to it.
    pub client_id: String,
    /// Largest record (key, value, headers) that may be written, in bytes.
    pub max_record_bytes: usize,
    /// Bytes that one sink holds for the brokers, before it says that it is full.
    pub producer_queue_bytes: usize,
    /// Bytes that are fetched ahead for a partition that is read outside any group.
    pub read_ahead_bytes: usize,
    /// How long one question to the cluster may take.
    pub request_timeout: Duration,
    /// Takes what the clients tell of themselves.
    pub statistics: Statistics,
}

impl KafkaSettings {
    /// Settings for these brokers: records up to 1 MiB, 32 MiB of producer queue, 4 MiB read ahead, 15 s for a question.
    #[must_use]
    pub fn new(bootstrap: impl Into<String>) -> Self {
        Self {
            bootstrap: bootstrap.into(),
            properties: BTreeMap::new(),
            client_id: "pointsman".to_owned(),
            max_record_bytes: 1 << 20,
            producer_queue_bytes: 32 << 20,
            read_ahead_bytes: 4 << 20,
            request_timeout: Duration::from_secs(15),
            statistics: Statistics::default(),
        }
    }
}

/// Values of properties are never printed: some are secrets.
impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSettings")
            .field("bootstrap", &self.bootstrap)
            .field("properties", &self.properties.keys().collect::<Vec<_>>())
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// The properties that are ours, each with the reason for which a user's value is refused.
pub const OWNED: &[(&str, &str)] = &[
    ("bootstrap.servers", "it is `bootstrap`"),
    ("metadata.broker.list", "it is `bootstrap`"),
    ("client.id", "it derives from the router's name"),
    ("group.id", "each route says its group"),
    ("group.instance.id", "it is the router's `instance_id`"),
    ("group.protocol", "the protocol of KIP-848 stalls in this librdkafka, and knows no co-assigned partitions"),
    ("transactional.id", "transactions are the router's own business"),
    ("transaction.timeout.ms", "transactions are the router's own business"),
    ("enable.auto.commit", "only settled records are committed, by the router itself"),
    ("auto.commit.enable", "only settled records are committed, by the router itself"),
    ("enable.auto.offset.store", "a fetched record is not a settled one"),
    ("auto.offset.reset", "a lost offset halts the lane instead of silently jumping"),
    ("enable.partition.eof", "only readers outside a group make use of it"),
    ("partition.assignment.strategy", "lanes rely on cooperative-sticky assignment"),
    ("isolation.level", "records of aborted transactions are not records"),
    ("enable.idempotence", "without it a retry inside the client duplicates and reorders records"),
    ("message.max.bytes", "the largest record is a setting of its own"),
    ("retries", "an outage must wait, not fail deliveries"),
    ("message.send.max.retries", "an outage must wait, not fail deliveries"),
    ("delivery.report.only.error", "what is delivered is settled by its report"),
    ("allow.auto.create.topics", "topics are made on purpose"),
    ("check.crcs", "a record that was damaged on its way must not pass for one that its plugin rejects"),
    ("auto.commit.interval.ms", "only settled records are committed, by the router itself"),
    ("offset.store.method", "offsets are in the group"),
    ("acks", "a record that one broker alone has is not delivered"),
    ("request.required.acks", "a record that one broker alone has is not delivered"),
    ("partitioner", "keys must go where Java clients send them"),
    ("message.timeout.ms", "an outage must wait, not expire records"),
    ("delivery.timeout.ms", "an outage must wait, not expire records"),
    ("plugin.library.paths", "it loads code into the router"),
    ("log.queue", "the log goes to the router's own"),
];

/// Name and value pairs for one client, in the order in which they are set: the last value of a name counts.
#[derive(Clone)]
pub(crate) struct Properties {
    pairs: Vec<(String, String)>,
    /// Who takes what the client tells of itself.
    pub(crate) statistics: Option<(Statistics, ClientRole)>,
}

impl Properties {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Sets a property, over what was set before.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.pairs.push((name.to_owned(), value.into()));
    }

    #[cfg(test)]
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

impl KafkaSettings {
    /// Refuses the properties that are ours.
    pub(crate) fn check(&self) -> Result<(), LogError> {
        // With the prefix, librdkafka takes the properties that topics have.
        let given = self.properties.keys().map(|name| (name, name.strip_prefix("topic.").unwrap_or(name)));
        for (given, bare) in given {
            if let Some((_, why)) = OWNED.iter().find(|(name, _)| *name == bare) {
                return Err(LogError {
                    what: format!("can't use the librdkafka property {given}"),
                    code: "owned-property".to_owned(),
                    message: format!("the router sets it itself, since {why}; remove it"),
                });
            }
        }
        Ok(())
    }

    /// A client that reads outside any group, and asks for metadata.
    pub(crate) fn reader(&self) -> Properties {
        let mut properties = self.client("reader", &[], &self.consumer_defaults(self.read_ahead_bytes));
        for (name, value) in CONSUMER_OWNED {
            properties.set(name, *value);
        }
        // Who reads up to an end has to learn of one that has no record at it: markers of transactions, compaction.
        properties.set("enable.partition.eof", "true");
        properties
    }

    /// A client that asks where partitions end, whatever transactions are open there. Nothing is read by it.
    pub(crate) fn uncommitted(&self) -> Properties {
        let mut properties = self.reader();
        properties.set("isolation.level", "read_uncommitted");
        properties
    }

    /// A client that asks for a group's commits, and is no member of it.
    pub(crate) fn onlooker(&self, group: &str) -> Properties {
        let mut properties = self.reader();
        properties.set("group.id", group);
        properties
    }

    /// The same, for one who only looks: it does not wait for transactions that hold commits of the group.
    pub(crate) fn passer_by(&self, group: &str) -> Properties {
        let mut properties = self.onlooker(group);
        properties.set("isolation.level", "read_uncommitted");
        properties
    }

    /// A client that asks the cluster how it is, and tells of each broker which requests it takes.
    pub(crate) fn examiner(&self) -> Properties {
        let mut properties = self.reader();
        // librdkafka has no call that tells; it writes them into its log.
        properties.set("debug", "feature");
        properties
    }

    /// A member of a group, with so much ahead of each partition.
    pub(crate) fn member(&self, plan: &GroupPlan, ahead: Ahead) -> Properties {
        // The control thread is away from its queue while a revocation drains: no reason to be thought dead.
        let max_poll = Duration::from_secs(300).max(plan.revoke_deadline * 2).as_millis().to_string();
        let defaults = [
            ("max.poll.interval.ms", max_poll.as_str()),
            ("session.timeout.ms", "45000"),
            ("statistics.interval.ms", INTERVAL_MS),
        ];
        let mut properties = self.client("member", &defaults, &self.consumer_defaults(ahead.bytes));
        properties.statistics = Some((self.statistics.clone(), ClientRole::Consumer));
        for (name, value) in CONSUMER_OWNED {
            properties.set(name, *value);
        }
        properties.set("group.id", &*plan.group);
        if let Some(instance_id) = &plan.instance_id {
            properties.set("group.instance.id", instance_id);
        }
        properties.set("group.protocol", "classic");
        // Only what moves is given up at a rebalance; everything else runs on.
        properties.set("partition.assignment.strategy", "cooperative-sticky");
        properties
    }

    /// A producer.
    pub(crate) fn producer(&self) -> Properties {
        // What librdkafka takes for a message, framing and headers included. Larger ones are refused one by one.
        let message_max = (self.max_record_bytes + CLIENT_OVERHEAD_BYTES).clamp(1000, 1_000_000_000);
        let queue_kbytes = (self.producer_queue_bytes.max(message_max) / 1024 + 1).to_string();
        let message_max = message_max.to_string();
        let mut properties = self.client(
            "producer",
            &[
                // The bound of memory, in bytes; the bound in messages only keeps an abundance of tiny ones in check.
                ("queue.buffering.max.kbytes", queue_kbytes.as_str()),
                ("queue.buffering.max.messages", "500000"),
                ("message.max.bytes", message_max.as_str()),
                // Batches worth their request. Who has nothing more to send says so (`Sink::hurry`), and then
                // nothing lingers. librdkafka's thread runs in circles while records have lingered for longer than this
                // behind a request under way for their partition: it is to be longer than most requests take. But a record for
                // an output that gets few lingers for all of it while its worker is busy, and its lane goes on for no longer
                // than four times `in_flight` lets it: so not much longer.
                ("linger.ms", "40"),
                // Of small records, a request for half of what a lane has in flight: while a broker takes the one, the next is
                // filled. librdkafka's own bound, 1 MB, is nearly all of it.
                ("batch.num.messages", "2500"),
                // A broker takes one request of a connection at a time; the next is to be there when it is done. While one waits to be
                // sent, librdkafka's thread does not run in those circles (`rd_kafka_broker_outbufs_space`): so not as many as may be.
                ("max.in.flight.requests.per.connection", "3"),
                // A topic that has got more partitions is known to have them soon; until then deliveries to them wait.
                ("topic.metadata.refresh.interval.ms", "30000"),
                ("statistics.interval.ms", INTERVAL_MS),
            ],
            &[],
        );
        properties.statistics = Some((self.statistics.clone(), ClientRole::Producer));
        for (name, value) in PRODUCER_OWNED {
            properties.set(name, *value);
        }
        properties
    }

    /// A producer that writes transactions, by a [bounded] plan. No batch of several records gets larger than `batch_bytes`, if that is known.
    pub(crate) fn writer(&self, plan: &WriterPlan, batch_bytes: Option<usize>) -> Properties {
        let timeout = plan.timeout.as_millis();
        let mut properties = self.producer();
        properties.set("transactional.id", &*plan.id);
        // What the broker aborts a transaction after whose writer has gone: so long it holds up who reads committed records.
        properties.set("transaction.timeout.ms", timeout.to_string());
        // A record that comes later than that is of no use. librdkafka refuses more.
        properties.set("message.timeout.ms", timeout.to_string());
        // A commit lets nothing linger; and a user's own time for it could be longer than that.
        properties.set("linger.ms", "20");
        // Nor is an answer that comes after a call's deadline, and some calls wait for it all the same. librdkafka repeats the
        // request then.
        let patience = self.number("socket.timeout.ms").unwrap_or(60_000).min(plan.deadline.as_millis()).min(timeout);
        properties.set("socket.timeout.ms", patience.to_string());
        // So that a record that is refused for its size is refused for its own, and not for that of its neighbours.
        match batch_bytes {
            Some(bytes) => {
                let bytes = bytes.max(1) as u128;
                properties.set("batch.size", self.number("batch.size").unwrap_or(1_000_000).min(bytes).to_string());
            }
            None => properties.set("batch.num.messages", "1"),
        }
        properties
    }

    /// Of every consumer, with so much ahead of each partition; a user's own go over them.
    fn consumer_defaults(&self, ahead_bytes: usize) -> Vec<(&'static str, String)> {
        vec![
            // The bounds of what is fetched ahead, for each partition, since each has a queue of its own: these are the lane's
            // queue and its backpressure. Bytes are of values alone, and each record takes some 700 more: of tiny ones, and those without
            // a value, the number counts. A fetch is begun below the bounds, so that they are passed by one answer at most.
            ("queued.max.messages.kbytes", (ahead_bytes / 1024).clamp(1, 2_097_151).to_string()),
            ("queued.min.messages", (ahead_bytes / 100).clamp(100, 100_000).to_string()),
            ("fetch.message.max.bytes", ahead_bytes.clamp(64 << 10, 1 << 20).to_string()),
            ("fetch.max.bytes", self.answer_bytes(ahead_bytes).to_string()),
            // How long a partition that reached its bound is left alone. A fast lane has emptied a queue of 1 MiB in five: longer would
            // starve it, the more the fewer lanes there are.
            ("fetch.queue.backoff.ms", "2".to_owned()),
            // A record is fetched when it is there. With nothing there the broker holds the request back, and with it every
            // later one of the connection: partitions that had reached their bound when it was sent, and have been emptied
            // since, wait for partitions that have nothing, which a retry partition never has. So not for long.
            ("fetch.min.bytes", "1".to_owned()),
            ("fetch.wait.max.ms", "20".to_owned()),
        ]
    }

    /// Most bytes of an answer, of all its partitions together, where the user has not said otherwise.
    ///
    /// A request asks for all partitions that have room, and costs the broker something for each, whatever is in the answer. librdkafka
    /// wants no more in it than may be ahead of one of them, or 1 MB: with hundreds that would be records of a few. But
    /// no more than a user lets it receive, unless that is less than it ever takes: then it says so.
    fn answer_bytes(&self, ahead_bytes: usize) -> u128 {
        const LIBRDKAFKAS: std::ops::RangeInclusive<u128> = 1_000_000..=50 << 20;
        const FRAMING: u128 = 512;
        let ahead =
            self.number("queued.max.messages.kbytes").map_or(ahead_bytes as u128, |kbytes| kbytes.saturating_mul(1024));
        let received =
            self.number("receive.message.max.bytes").map_or(u128::MAX, |bytes| bytes.saturating_sub(FRAMING));
        ahead.min(*LIBRDKAFKAS.end()).max(ANSWER_BYTES).min(received).max(*LIBRDKAFKAS.start())
    }

    /// A user's own value of a property, where it is a number.
    fn number(&self, name: &str) -> Option<u128> {
        self.properties.get(name)?.parse().ok()
    }

    /// Whether a sink may send before the time to linger is over: not where the user has set that time.
    pub(crate) fn hurries(&self) -> bool {
        ["linger.ms", "queue.buffering.max.ms"].iter().all(|name| !self.sets(name))
    }

    fn sets(&self, name: &str) -> bool {
        self.properties.keys().any(|own| own.strip_prefix("topic.").unwrap_or(own) == name)
    }

    fn client(&self, role: &str, defaults: &[(&str, &str)], more: &[(&'static str, String)]) -> Properties {
        let mut properties = Properties { pairs: Vec::new(), statistics: None };
        for (name, value) in CLIENT_DEFAULTS.iter().chain(defaults) {
            properties.set(name, *value);
        }
        for (name, value) in more {
            properties.set(name, value);
        }
        for (name, value) in &self.properties {
            properties.set(name, value);
        }
        properties.set("bootstrap.servers", &self.bootstrap);
        properties.set("client.id", format!("{}-{role}", self.client_id));
        properties
    }
}

/// A plan with times that can be had: from 1 s to what brokers allow by default (`transaction.max.timeout.ms`).
pub(crate) fn bounded(plan: WriterPlan) -> WriterPlan {
    let bound = |time: Duration| time.clamp(Duration::from_secs(1), Duration::from_secs(900));
    WriterPlan { timeout: bound(plan.timeout), deadline: bound(plan.deadline), ..plan }
}

/// What is held of each partition of a group before anything has become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ahead {
    /// Bytes that are fetched ahead.
    pub(crate) bytes: usize,
    /// Most records of a batch.
    pub(crate) batch_records: usize,
}

impl Ahead {
    /// Where the sources have so many partitions together.
    pub(crate) fn of_each(plan: &GroupPlan, partitions: u32) -> Self {
        // At least 64 KiB, however many there are: that is some hundreds of small records.
        let share = (plan.fetch_ahead_of_all_bytes / partitions.max(1) as usize).max(64 << 10);
        if share < plan.fetch_ahead_bytes {
            // Lanes that wait to go on hold a batch each. A small record, and what is noted of it, takes about 1 KiB.
            Self { bytes: share, batch_records: share >> 10 }
        } else {
            Self { bytes: plan.fetch_ahead_bytes, batch_records: usize::MAX }
        }
    }
}

/// See [`KafkaSettings::answer_bytes`].
const ANSWER_BYTES: u128 = 4 << 20;

/// What a producer takes beyond the largest record: framing, and the router's own headers.
pub(crate) const CLIENT_OVERHEAD_BYTES: usize = 64 << 10;

/// Of every client; a user's own go over them.
const CLIENT_DEFAULTS: &[(&str, &str)] = &[
    // Nothing leaves for the brokers' operator that the router's operator has not asked for.
    ("enable.metrics.push", "false"),
    // Idle connections that a broker closes are no news.
    ("log.connection.close", "false"),
    // Connections outlive the idle times of load balancers and firewalls.
    ("socket.keepalive.enable", "true"),
    // A broker that is back is noticed within seconds, not after the 10 s that the back-off grows to.
    ("reconnect.backoff.max.ms", "2000"),
];

/// Of every consumer, and ours.
const CONSUMER_OWNED: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    // With this on, closing a consumer would store the offsets of what it discards.
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "false"),
    ("isolation.level", "read_committed"),
    ("allow.auto.create.topics", "false"),
    // A record that the network or a disk has damaged must not pass for one that its plugin rejects.
    ("check.crcs", "true"),
];

/// Of every producer, and ours.
const PRODUCER_OWNED: &[(&str, &str)] = &[
    // No duplicates and no reordering by retries inside the client.
    ("enable.idempotence", "true"),
    ("acks", "all"),
    // An outage waits for as long as it takes; nothing expires.
    ("message.timeout.ms", "0"),
    // As Java's clients: murmur2 of the key, any partition where the key is null.
    ("partitioner", "murmur2_random"),
];

#[cfg(test)]
mod tests;
