//! The end of a retry partition, where mostly nothing comes.
//!
//! A partition that is read is in every fetch request, whether or not it has anything. With hundreds of them, that nothing has come
//! costs more than what does. So a feed at the end of its partition of which [nothing is expected](Feed::expect) *rests*: it is not
//! fetched. Who else writes there, as a replay does, is seen by the ends of all partitions at rest, which one thread asks for together,
//! every second.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use pointsman_core::port::{Batch, Feed, FeedError, Waker};
use pointsman_core::record::TopicPartition;

use crate::admin;
use crate::feed::KafkaFeed;
use crate::native::Client;

/// To come to rest and to go on is not for nothing: who has had something lately is fetched on for so long.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks at the ends of partitions at rest.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long one look may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The feed of a retry partition.
pub(crate) struct Tail {
    feed: KafkaFeed,
    watch: Arc<Watch>,
    is_expected: bool,
    /// Since when it is at its end and expects nothing.
    idle_since: Option<Instant>,
    waker: Option<Waker>,
    /// While nothing is fetched.
    resting: Option<Arc<Resting>>,
}

/// A partition at rest.
struct Resting {
    partition: TopicPartition,
    /// What is read next.
    at: i64,
    /// There is more than that, or something is wrong.
    is_stirred: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Tail {
    /// At rest if the feed is at its end.
    pub(crate) fn new(feed: KafkaFeed, watch: &Arc<Watch>) -> Self {
        let watch = Arc::clone(watch);
        let mut tail = Self { feed, watch, is_expected: false, idle_since: None, waker: None, resting: None };
        if tail.feed.reached_end() {
            tail.rest();
        }
        tail
    }

    fn rest(&mut self) {
        let Some(at) = self.feed.position() else { return };
        let resting = Arc::new(Resting {
            partition: self.feed.partition().clone(),
            at,
            is_stirred: AtomicBool::new(false),
            waker: Mutex::new(self.waker.clone()),
        });
        // What can't be watched is read on.
        resting.is_stirred.store(!self.watch.add(&resting), Ordering::Release);
        self.feed.rest();
        self.resting = Some(resting);
    }

    fn go_on(&mut self) -> Result<(), FeedError> {
        if self.resting.is_some() {
            self.feed.go_on()?;
            self.resting = None;
        }
        Ok(())
    }
}

impl Feed for Tail {
    fn fetch(&mut self, max_records: usize, max_bytes: usize) -> Result<Option<Box<dyn Batch>>, FeedError> {
        if let Some(resting) = &self.resting {
            if !self.is_expected && !resting.is_stirred.load(Ordering::Acquire) {
                return Ok(None);
            }
            self.go_on()?;
        }
        let fetched = self.feed.fetch(max_records, max_bytes)?;
        if fetched.is_some() || self.is_expected || !self.feed.reached_end() {
            self.idle_since = None;
        } else if self.idle_since.get_or_insert_with(Instant::now).elapsed() >= PATIENCE {
            self.rest();
        }
        Ok(fetched)
    }

    fn wake_with(&mut self, waker: Waker) {
        if let Some(resting) = &self.resting {
            *resting.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&waker));
        }
        self.waker = Some(Arc::clone(&waker));
        self.feed.wake_with(waker);
    }

    fn position(&self) -> Option<i64> {
        self.feed.position()
    }

    fn reached_end(&self) -> bool {
        self.feed.reached_end()
    }

    fn expect(&mut self, records: bool) {
        self.is_expected = records;
        if !records {
            return;
        }
        self.idle_since = None;
        if let Err(error) = self.go_on() {
            // The next fetch tries it again.
            tracing::debug!(%error, "a partition at rest can't be read on yet");
        }
    }
}

/// Looks at the ends of partitions at rest.
pub(crate) struct Watch {
    client: Arc<Client>,
    /// Of its thread, which is started with the first of them. `None` where the system gives no thread.
    orders: OnceLock<Option<Sender<Weak<Resting>>>>,
}

impl Watch {
    /// By a client that sees what a reader sees.
    pub(crate) fn new(client: &Arc<Client>) -> Self {
        Self { client: Arc::clone(client), orders: OnceLock::new() }
    }

    /// Whether it is watched.
    fn add(&self, resting: &Arc<Resting>) -> bool {
        let orders = self.orders.get_or_init(|| {
            let (orders, received) = channel();
            let client = Arc::clone(&self.client);
            let started = thread::Builder::new().name("kafka:tails".to_owned()).spawn(move || run(&client, &received));
            started.is_ok().then_some(orders)
        });
        orders.as_ref().is_some_and(|orders| orders.send(Arc::downgrade(resting)).is_ok())
    }
}

/// Until nobody can come to rest any more.
fn run(client: &Client, orders: &Receiver<Weak<Resting>>) {
    let mut all: Vec<Weak<Resting>> = Vec::new();
    let mut look_at = Instant::now();
    loop {
        let order = if all.is_empty() {
            orders.recv().map_err(RecvTimeoutError::from)
        } else {
            orders.recv_timeout(look_at.saturating_duration_since(Instant::now()))
        };
        match order {
            Ok(resting) => {
                if all.is_empty() {
                    look_at = Instant::now() + INTERVAL;
                }
                all.push(resting);
            }
            Err(RecvTimeoutError::Timeout) => {
                all.retain(|resting| resting.strong_count() > 0);
                look(client, all.iter().filter_map(Weak::upgrade).collect());
                look_at = Instant::now() + INTERVAL;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Stirs those that do not end any more where they are at, or that can't be asked for that.
fn look(client: &Client, mut all: Vec<Arc<Resting>>) {
    all.retain(|resting| !resting.is_stirred.load(Ordering::Acquire));
    let ends = all.iter().map(|resting| (&resting.partition, Client::OFFSET_END));
    let ends = admin::offsets(client, ends, TIMEOUT).unwrap_or_else(|code| vec![Err(code); all.len()]);
    for (resting, end) in all.iter().zip(ends) {
        if end != Ok(resting.at) {
            resting.is_stirred.store(true, Ordering::Release);
            if let Some(waker) = &*resting.waker.lock().unwrap_or_else(PoisonError::into_inner) {
                waker();
            }
        }
    }
}
